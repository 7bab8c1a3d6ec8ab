/* eval/http_body.c - the body of a request, and which parameters an endpoint does not take. See
 * backend_http.c. */
#include "eval/backend_http_internal.h"

const struct http_parameter http_parameters[HTTP_PARAMETERS] = { { NO_MAX_TOKENS, "max_tokens" },
                                                                 { NO_STOP, "stop" },
                                                                 { NO_TEMPERATURE, "temperature" },
                                                                 { NO_SEED, "seed" } };

static void put_stops(const struct prompt *p, struct buf *out)
{
    const char *const *stop;
    size_t n = prompt_stops(p, &stop);
    buf_z(out, ",\"stop\":[");
    for (size_t i = 0; i < n; i++) {
        buf_z(out, i ? "," : "");
        json_quote(out, str_c(stop[i]));
    }
    buf_char(out, ']');
}

/* Everything but the question, once. */
enum status http_body_make(struct http *h, struct err *err)
{
    const struct ask_opts *a = &h->ask;
    struct buf prefix = BUF_INIT;
    buf_reset(&h->head);
    buf_reset(&h->tail);
    buf_z(&h->head, "{\"model\":");
    json_quote(&h->head, str_c(h->o.model));
    if (a->chat) {
        buf_z(&h->head, ",\"messages\":");
        prompt_chat_prefix(a->prompt, a->n_shot, &h->head);
        buf_z(&h->tail, "}]");
    } else {
        buf_z(&h->head, ",\"prompt\":\"");
        prompt_prefix(a->prompt, a->n_shot, &prefix);
        struct buf quoted = BUF_INIT;
        json_quote(&quoted, buf_view(&prefix));
        if (quoted.n >= 2) /* without its closing quote: the question follows */
            buf_put(&h->head, quoted.p + 1, quoted.n - 2);
        h->head.failed |= quoted.failed || prefix.failed;
        buf_clear(&quoted);
    }
    buf_printf(&h->tail, ",\"%s\":%u",
               h->learned & NO_MAX_TOKENS ? "max_completion_tokens" : "max_tokens", a->max_tokens);
    if (!(h->learned & NO_TEMPERATURE))
        buf_printf(&h->tail, ",\"temperature\":%.6g", a->temperature);
    if (!(h->learned & NO_STOP) && !a->chat)
        put_stops(a->prompt, &h->tail);
    if (json_object_size(h->o.extra)) {
        buf_reset(&prefix);
        json_write(h->o.extra, &prefix, err);
        buf_char(&h->tail, ',');
        if (prefix.n > 2) /* without its braces */
            buf_put(&h->tail, prefix.p + 1, prefix.n - 2);
        h->tail.failed |= prefix.failed;
    }
    buf_clear(&prefix);
    sha256_init(&h->head_hash);
    sha256_add(&h->head_hash, buf_view(&h->head).p, h->head.n);
    if (buf_ok(&h->head, "request", err) == ST_OK)
        buf_ok(&h->tail, "request", err);
    return err->code;
}

void http_body_put(struct http *h, struct str question, uint64_t repeat, struct buf *out)
{
    struct buf ask = BUF_INIT, quoted = BUF_INIT;
    buf_str(out, buf_view(&h->head));
    if (h->ask.chat) {
        prompt_chat_ask(h->ask.prompt, question, out);
    } else {
        prompt_ask(h->ask.prompt, question, &ask);
        json_quote(&quoted, buf_view(&ask));
        if (quoted.n >= 1)
            buf_put(out, quoted.p + 1, quoted.n - 1);
    }
    buf_str(out, buf_view(&h->tail));
    if (!(h->learned & NO_SEED))
        buf_printf(out, ",\"seed\":%llu", (unsigned long long)(h->ask.seed + repeat));
    buf_char(out, '}');
    out->failed |= ask.failed || quoted.failed;
    buf_clear(&ask);
    buf_clear(&quoted);
}

void http_learned_write(struct http *h)
{
    bool any = false;
    buf_reset(&h->base.learned);
    buf_char(&h->base.learned, '{');
    for (int i = 0; i < HTTP_PARAMETERS; i++)
        if (h->learned & http_parameters[i].bit) {
            buf_printf(&h->base.learned, "%s\"%s\":%s", any ? "," : "", http_parameters[i].name,
                       http_parameters[i].bit == NO_MAX_TOKENS ? "\"max_completion_tokens\""
                                                               : "false");
            any = true;
        }
    buf_char(&h->base.learned, '}');
}

void http_learned_read(struct http *h, const char *text)
{
    struct err ignored = ERR_INIT;
    json_t *doc = NULL;
    if (text && json_parse(str_c(text), "learned", &doc, &ignored) == ST_OK)
        for (int i = 0; i < HTTP_PARAMETERS; i++)
            if (json_object_get(doc, http_parameters[i].name))
                h->learned |= http_parameters[i].bit;
    json_free(doc);
}
