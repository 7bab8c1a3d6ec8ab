/* server/api_events.c - the dashboard's live figures: one JSON snapshot a second, to every stream
 * that asked, and the list of event streams, which are pinged when quiet. The watcher's thread
 * calls events_tick(). */
#include "engine/base/clock.h"
#include "server/http.h"

#include <math.h>
#include <stdlib.h>

enum { PING_AFTER_S = 10 };

static void put_ms(struct buf *out, const char *key, double v)
{
    if (isnan(v))
        buf_printf(out, ",\"%s\":null", key);
    else
        buf_printf(out, ",\"%s\":%.3f", key, v);
}

static void put_key_text(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    json_quote(out, str_c(text));
}

static void put_model(const struct engine_info *in, struct buf *out)
{
    buf_z(out, ",\"model\":{\"id\":");
    json_quote(out, str_c(in->model_id));
    put_key_text(out, "arch", in->arch);
    put_key_text(out, "quant", in->quant);
    put_key_text(out, "flash_mode", in->flash_mode);
    put_key_text(out, "source", in->source);
    put_key_text(out, "cpu", in->cpu_level);
    put_key_text(out, "template_error", in->chat_template_error);
    put_key_text(out, "tokenizer_warning", in->tokenizer_warning);
    buf_printf(out,
               ",\"n_param\":%llu,\"bytes\":%llu,\"n_ctx\":%u,\"n_ctx_train\":%u,\"n_thread\":%u,"
               "\"has_template\":%s,\"resident\":%llu,\"streamed\":%llu,\"ram_budget\":%llu,"
               "\"queue_max\":%u,\"duo\":%s,\"duo_router\":%s}",
               (unsigned long long)in->n_param, (unsigned long long)in->model_bytes, in->n_ctx,
               in->n_ctx_train, in->n_thread, in->has_chat_template ? "true" : "false",
               (unsigned long long)in->resident_bytes, (unsigned long long)in->streamed_bytes,
               (unsigned long long)in->ram_budget, in->queue_max, in->duo ? "true" : "false",
               in->duo_router ? "true" : "false");
}

static void put_engine(const struct engine_stats *st, struct buf *out)
{
    buf_printf(out,
               ",\"generated\":%llu,\"prompt\":%llu,\"prompt_cached\":%llu,\"active\":%u,"
               "\"queued\":%u,\"ram_peak\":%llu,\"bytes_read\":%llu,\"bytes_wanted\":%llu,"
               "\"stall_ns\":%llu,\"needed\":%llu,\"missed\":%llu,\"slots\":[",
               (unsigned long long)st->generated_tokens, (unsigned long long)st->prompt_tokens,
               (unsigned long long)st->prompt_tokens_cached, st->active, st->queued,
               (unsigned long long)st->ram_peak, (unsigned long long)st->bytes_read,
               (unsigned long long)st->bytes_wanted, (unsigned long long)st->stall_ns,
               (unsigned long long)st->neurons_needed, (unsigned long long)st->neurons_missed);
    for (uint32_t i = 0; i < st->n_slot; i++) {
        const struct slot_info *s = &st->slot[i];
        buf_printf(out, "%s{\"busy\":%s,\"prompt\":%u,\"done\":%u,\"generated\":%u,\"cached\":%u}",
                   i ? "," : "", s->busy ? "true" : "false", s->n_prompt, s->n_done, s->n_generated,
                   s->n_cached_tokens);
    }
    buf_char(out, ']');
}

static void put_errors(struct metrics *m, struct buf *out)
{
    buf_z(out, ",\"errors\":[");
    pthread_mutex_lock(&m->lock);
    uint64_t n = m->n_errors < ERRORS_KEPT ? m->n_errors : ERRORS_KEPT;
    for (uint64_t i = 0; i < n; i++) { /* newest first */
        const struct kept_error *e = &m->errors[(m->n_errors - 1 - i) % ERRORS_KEPT];
        buf_printf(out, "%s{\"time\":%lld,\"status\":%d,\"message\":", i ? "," : "",
                   (long long)e->unix_s, e->status);
        json_quote(out, str_c(e->text));
        buf_char(out, '}');
    }
    pthread_mutex_unlock(&m->lock);
    buf_char(out, ']');
}

void events_snapshot(struct server *s, uint64_t sequence, struct buf *out)
{
    struct engine_stats *st = s->engine ? calloc(1, sizeof *st) : NULL;
    buf_printf(out, "{\"sequence\":%llu,\"time_ms\":%llu,\"started\":%lld,\"version\":\"%s\"",
               (unsigned long long)sequence, (unsigned long long)(clock_ns() / 1000000),
               (long long)s->started, STROBE_VERSION);
    if (st) {
        engine_stats(s->engine, st);
        put_model(engine_info(s->engine), out);
        put_engine(st, out);
    } else {
        buf_z(out, ",\"model\":null");
    }
    put_ms(out, "first_p50", metrics_first_ms(s->metrics, 0.5));
    put_ms(out, "first_p95", metrics_first_ms(s->metrics, 0.95));
    buf_printf(out, ",\"rejected\":%llu", atomic_load(&s->metrics->rejected_busy));
    put_errors(s->metrics, out);
    buf_char(out, '}');
    free(st);
}

void server_keep(struct server *s, struct stream *st, enum keep list)
{
    st->endless = list != KEEP_PINGED;
    pthread_mutex_lock(&s->list_lock);
    struct stream **head = list == KEEP_LIVE     ? &s->live
                           : list == KEEP_PINGED ? &s->pinged
                                                 : &s->watching;
    st->prev = NULL;
    st->next = *head;
    if (*head)
        (*head)->prev = st;
    *head = st;
    pthread_mutex_unlock(&s->list_lock);
}

void server_forget(struct server *s, struct stream *st)
{
    pthread_mutex_lock(&s->list_lock);
    if (st->prev)
        st->prev->next = st->next;
    else if (s->live == st)
        s->live = st->next;
    else if (s->pinged == st)
        s->pinged = st->next;
    else if (s->watching == st)
        s->watching = st->next;
    if (st->next)
        st->next->prev = st->prev;
    st->next = st->prev = NULL;
    pthread_mutex_unlock(&s->list_lock);
}

static void ping_list(struct stream *list, uint64_t now)
{
    for (struct stream *st = list; st; st = st->next)
        if (!atomic_load(&st->held) && now - st->last_ns > (uint64_t)PING_AFTER_S * 1000000000u)
            stream_put(st, STR(": ping\n\n"));
}

static void ping_quiet(struct server *s)
{
    uint64_t now = clock_ns();
    pthread_mutex_lock(&s->list_lock);
    ping_list(s->pinged, now);
    ping_list(s->watching, now);
    pthread_mutex_unlock(&s->list_lock);
}

static void push_figures(struct server *s, uint64_t sequence)
{
    struct buf b = BUF_INIT;
    pthread_mutex_lock(&s->list_lock);
    bool any = s->live != NULL;
    pthread_mutex_unlock(&s->list_lock);
    if (!any)
        return;
    buf_printf(&b, "id: %llu\nevent: stats\ndata: ", (unsigned long long)sequence);
    events_snapshot(s, sequence, &b);
    buf_z(&b, "\n\n");
    pthread_mutex_lock(&s->list_lock);
    for (struct stream *st = s->live; st && !b.failed; st = st->next)
        stream_put(st, buf_view(&b));
    pthread_mutex_unlock(&s->list_lock);
    buf_clear(&b);
}

void events_tick(struct server *s)
{
    push_figures(s, ++s->sequence);
    ping_quiet(s);
}

void api_events(struct call *c)
{
    struct buf first = BUF_INIT;
    struct stream *st = stream_create();
    if (!st) {
        reply_error(c, 500, "internal", NULL, "out of memory");
        return;
    }
    buf_z(&first, "id: 0\nevent: stats\ndata: ");
    events_snapshot(c->srv, 0, &first);
    buf_z(&first, "\n\n");
    stream_put(st, buf_view(&first));
    buf_clear(&first);
    st->sse = true;
    server_keep(c->srv, st, KEEP_LIVE);
    c->stream = st;
}
