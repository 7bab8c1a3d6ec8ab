/* server/logprobs.c - see logprobs.h. */
#include "server/logprobs.h"

#include "engine/base/json.h"

#include <math.h>

static void put_number(struct buf *b, float v)
{
    if (isfinite(v))
        buf_printf(b, "%.9g", (double)v); /* nine digits give the same float back */
    else
        buf_z(b, v < 0 ? "-9999.0" : "null");
}

static void put_token_text(const struct engine *e, struct buf *b, int32_t id)
{
    struct buf t = BUF_INIT;
    engine_piece(e, id, &t);
    json_quote(b, buf_view(&t));
    b->failed |= t.failed;
    buf_clear(&t);
}

static void put_bytes(const struct engine *e, struct buf *b, int32_t id)
{
    struct buf t = BUF_INIT;
    engine_piece(e, id, &t);
    buf_char(b, '[');
    for (size_t i = 0; i < t.n; i++)
        buf_printf(b, i ? ",%u" : "%u", (unsigned)(unsigned char)t.p[i]);
    buf_char(b, ']');
    buf_clear(&t);
}

static void chat_entry(const struct engine *e, struct buf *b, int32_t id, float lp)
{
    buf_z(b, "{\"token\":");
    put_token_text(e, b, id);
    buf_z(b, ",\"logprob\":");
    put_number(b, lp);
    buf_z(b, ",\"bytes\":");
    put_bytes(e, b, id);
}

static void chat_logprob(const struct engine *e, struct buf *b, const struct gen_event *ev)
{
    chat_entry(e, b, ev->token, ev->logprob);
    buf_z(b, ",\"top_logprobs\":[");
    for (size_t i = 0; i < ev->n_top; i++) {
        if (i)
            buf_char(b, ',');
        chat_entry(e, b, ev->top[i].token, ev->top[i].logprob);
        buf_char(b, '}');
    }
    buf_z(b, "]}");
}

/* Map of alternative -> log-probability; equal texts keep the first, which is the larger. */
static void top_map(const struct engine *e, struct buf *b, const struct gen_event *ev)
{
    struct buf seen = BUF_INIT;
    if (ev->n_top == 0) {
        buf_z(b, "null");
        return;
    }
    buf_char(b, '{');
    for (size_t i = 0; i < ev->n_top; i++) {
        struct buf name = BUF_INIT;
        put_token_text(e, &name, ev->top[i].token);
        if (str_find(buf_view(&seen), buf_view(&name), 0) == SIZE_MAX) {
            if (seen.n)
                buf_char(b, ',');
            buf_str(b, buf_view(&name));
            buf_char(b, ':');
            put_number(b, ev->top[i].logprob);
            buf_str(&seen, buf_view(&name));
        }
        buf_clear(&name);
    }
    buf_char(b, '}');
    buf_clear(&seen);
}

void logprobs_add(struct logprobs *l, const struct engine *e, bool chat, size_t n_char,
                  const struct gen_event *ev)
{
    const char *comma = l->n++ ? "," : "";
    buf_z(&l->tokens, comma);
    if (chat) {
        chat_logprob(e, &l->tokens, ev);
        return;
    }
    put_token_text(e, &l->tokens, ev->token);
    buf_z(&l->values, comma);
    if (isnan(ev->logprob))
        buf_z(&l->values, "null");
    else
        put_number(&l->values, ev->logprob);
    buf_z(&l->top, comma);
    top_map(e, &l->top, ev);
    buf_printf(&l->offset, "%s%zu", comma, n_char);
}

void logprobs_take(struct logprobs *l, bool chat, struct buf *b)
{
    if (chat)
        buf_printf(b, "{\"content\":[%s],\"refusal\":null}", buf_view(&l->tokens).p);
    else
        buf_printf(
            b,
            "{\"tokens\":[%s],\"token_logprobs\":[%s],\"top_logprobs\":[%s],\"text_offset\":[%s]}",
            buf_view(&l->tokens).p, buf_view(&l->values).p, buf_view(&l->top).p,
            buf_view(&l->offset).p);
    b->failed |= l->tokens.failed || l->values.failed || l->top.failed;
    buf_reset(&l->tokens);
    buf_reset(&l->values);
    buf_reset(&l->top);
    buf_reset(&l->offset);
    l->n = 0;
}

void logprobs_clear(struct logprobs *l)
{
    buf_clear(&l->tokens);
    buf_clear(&l->values);
    buf_clear(&l->top);
    buf_clear(&l->offset);
}
