/* server/api_generate.c - chat and text completions. One reply object per request; its choices are
 * generations of the engine, whose events arrive on the engine thread and become bytes of the
 * stream: server-sent events as they come, or one JSON body at the end. */
#include "engine/base/clock.h"
#include "server/logprobs.h"
#include "server/openai.h"

#include <math.h>
#include <stdlib.h>

struct choice {
    struct answer *answer;
    uint32_t index, prompt; /* prompt: index of its prompt */
    uint64_t id;            /* engine request; 0: not submitted */
    struct buf text;
    struct logprobs logprobs;
    size_t n_char; /* characters of text so far: text_offset */
    enum gen_finish finish;
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
    double queue_ms, prefill_ms, decode_ms;
    struct duo_tally duo;
    uint64_t submit_ns, last_ns;
    bool done;
};

struct answer {
    struct server *srv;
    struct stream *stream; /* borrowed: it owns the answer */
    struct call *call;     /* only for stream_status; valid while the stream is not gone */
    bool chat, streaming, include_usage, echo, want_logprobs;
    char id[40];
    char trace_id[24]; /* "": not traced */
    uint64_t trace;    /* engine's handle */
    int64_t created;
    char model[128];
    uint32_t n_choice;
    atomic_uint running;
    struct duo_policy duo;
    double duo_budget;
    struct err failed; /* the first failure */
    struct buf line;   /* engine thread: the event under construction */
    struct choice choice[];
};

static void answer_free(void *ctx)
{
    struct answer *a = ctx;
    for (uint32_t i = 0; i < a->n_choice; i++) {
        struct choice *ch = &a->choice[i];
        buf_clear(&ch->text);
        logprobs_clear(&ch->logprobs);
    }
    buf_clear(&a->line);
    free(a);
}

static void answer_cancel(void *ctx)
{
    struct answer *a = ctx;
    for (uint32_t i = 0; i < a->n_choice; i++)
        if (a->choice[i].id)
            engine_cancel(a->srv->engine, a->choice[i].id);
}

/* ---- pieces of JSON ---- */

static size_t characters(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

/* The logprobs value; what was taken is told once. */
static void take_logprobs(struct choice *ch, struct buf *b)
{
    if (ch->answer->want_logprobs)
        logprobs_take(&ch->logprobs, ch->answer->chat, b);
    else
        buf_z(b, "null");
}

static const char *finish_name(enum gen_finish f)
{
    return f == FINISH_LENGTH ? "\"length\"" : f == FINISH_STOP ? "\"stop\"" : "null";
}

static void head(const struct answer *a, struct buf *b, bool chunk)
{
    buf_printf(b, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", a->id,
               a->chat ? (chunk ? "chat.completion.chunk" : "chat.completion") : "text_completion",
               (long long)a->created);
    json_quote(b, str_c(a->model));
    buf_z(b, ",\"system_fingerprint\":\"strobe-" STROBE_VERSION "\"");
    if (a->trace_id[0])
        buf_printf(b, ",\"flash\":{\"trace\":\"%s\"}", a->trace_id);
}

static void usage(const struct answer *a, struct buf *b)
{
    uint64_t prompt = 0, cached = 0, completion = 0;
    uint32_t last = UINT32_MAX;
    double prefill = 0, decode = 0;
    for (uint32_t i = 0; i < a->n_choice; i++) {
        const struct choice *ch = &a->choice[i];
        if (ch->prompt != last) { /* a prompt counts once, whatever n */
            prompt += ch->prompt_tokens;
            cached += ch->cached_tokens;
        }
        last = ch->prompt;
        completion += ch->completion_tokens;
        prefill += ch->prefill_ms;
        decode += ch->decode_ms;
    }
    buf_printf(
        b,
        ",\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu,"
        "\"prompt_tokens_details\":{\"cached_tokens\":%llu}}",
        (unsigned long long)prompt, (unsigned long long)completion,
        (unsigned long long)(prompt + completion), (unsigned long long)cached);
    buf_printf(b,
               ",\"timings\":{\"prompt_n\":%llu,\"prompt_ms\":%.3f,\"prompt_per_second\":%.3f,"
               "\"predicted_n\":%llu,\"predicted_ms\":%.3f,\"predicted_per_second\":%.3f}",
               (unsigned long long)(prompt - cached), prefill,
               prefill > 0 ? (double)(prompt - cached) * 1e3 / prefill : 0,
               (unsigned long long)completion, decode,
               decode > 0 && completion > 1 ? (double)(completion - 1) * 1e3 / decode : 0);
}

/* What a Duo model was asked for and what it did: shares of layers, over all tokens computed. */
static void duo(const struct answer *a, struct buf *b)
{
    double n[DUO_CHOICES] = { 0 }, all = 0;
    if (a->duo.mode == DUO_ALL_BIG)
        return;
    for (uint32_t i = 0; i < a->n_choice; i++)
        for (int c = 0; c < DUO_CHOICES; c++) {
            n[c] += (double)a->choice[i].duo.n[c];
            all += (double)a->choice[i].duo.n[c];
        }
    all = all > 0 ? all : 1;
    buf_printf(b, ",\"duo\":{\"mode\":\"%s\",\"budget\":", duo_mode_name(a->duo.mode));
    if (isfinite(a->duo_budget))
        buf_printf(b, "%.6g", a->duo_budget);
    else
        buf_z(b, "null");
    buf_printf(b, ",\"big\":%.6f,\"small\":%.6f,\"skip\":%.6f}", n[DUO_BIG] / all,
               n[DUO_SMALL] / all, n[DUO_SKIP] / all);
}

/* ---- streaming ---- */

static bool send_line(struct answer *a)
{
    buf_z(&a->line, "\n\n");
    bool ok = !a->line.failed && stream_put(a->stream, buf_view(&a->line));
    buf_reset(&a->line);
    return ok;
}

static void chunk_open(struct answer *a, const struct choice *ch)
{
    buf_z(&a->line, "data: ");
    head(a, &a->line, true);
    buf_printf(&a->line, ",\"choices\":[{\"index\":%u,", ch->index);
}

static bool chunk_close(struct answer *a)
{
    buf_z(&a->line, a->include_usage ? "}],\"usage\":null}" : "}]}");
    return send_line(a);
}

static bool send_role(struct answer *a, const struct choice *ch)
{
    chunk_open(a, ch);
    buf_z(&a->line, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                    "\"finish_reason\":null");
    return chunk_close(a);
}

static bool send_text(struct choice *ch, struct str text)
{
    struct answer *a = ch->answer;
    chunk_open(a, ch);
    buf_z(&a->line, a->chat ? "\"delta\":{\"content\":" : "\"text\":");
    json_quote(&a->line, text);
    buf_z(&a->line, a->chat ? "},\"logprobs\":" : ",\"logprobs\":");
    take_logprobs(ch, &a->line);
    buf_z(&a->line, ",\"finish_reason\":null");
    return chunk_close(a);
}

static void send_finish(struct choice *ch)
{
    struct answer *a = ch->answer;
    chunk_open(a, ch);
    buf_printf(&a->line, "%s,\"logprobs\":null,\"finish_reason\":%s",
               a->chat ? "\"delta\":{}" : "\"text\":\"\"", finish_name(ch->finish));
    chunk_close(a);
}

/* The request was good when it was accepted: what is malformed is the model (its file was cut while
 * in use, its logits are no numbers). */
static int failure_status(const struct answer *a, const char **code)
{
    if (a->failed.code != ST_FORMAT)
        return err_http_status(&a->failed, code);
    *code = "model_error";
    return 500;
}

static void send_error(struct answer *a)
{
    const char *code;
    int status = failure_status(a, &code);
    buf_z(&a->line, "data: ");
    error_envelope(&a->line, status, code, NULL, a->failed.msg);
    send_line(a);
}

static void stream_finish(struct answer *a)
{
    if (a->failed.code != ST_OK) { /* no [DONE]: a client must not take this for success */
        send_error(a);
        stream_end(a->stream, false);
        return;
    }
    if (a->include_usage) {
        buf_z(&a->line, "data: ");
        head(a, &a->line, true);
        buf_z(&a->line, ",\"choices\":[]");
        usage(a, &a->line);
        duo(a, &a->line);
        buf_z(&a->line, "}");
        send_line(a);
    }
    stream_put(a->stream, STR("data: [DONE]\n\n"));
    stream_end(a->stream, false);
}

/* ---- one body ---- */

static void whole_choice(struct choice *ch, struct buf *b)
{
    const struct answer *a = ch->answer;
    buf_printf(b, "%s{\"index\":%u,", ch->index ? "," : "", ch->index);
    buf_z(b, a->chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    json_quote(b, buf_view(&ch->text));
    buf_z(b, a->chat ? ",\"refusal\":null},\"logprobs\":" : ",\"logprobs\":");
    take_logprobs(ch, b);
    buf_printf(b, ",\"finish_reason\":%s}", finish_name(ch->finish));
    b->failed |= ch->text.failed;
}

static void whole_finish(struct answer *a)
{
    struct buf b = BUF_INIT;
    int status = 200;
    if (a->failed.code != ST_OK) {
        const char *code;
        status = failure_status(a, &code);
        error_envelope(&b, status, code, NULL, a->failed.msg);
    } else {
        head(a, &b, false);
        buf_z(&b, ",\"choices\":[");
        for (uint32_t i = 0; i < a->n_choice; i++)
            whole_choice(&a->choice[i], &b);
        buf_z(&b, "]");
        usage(a, &b);
        duo(a, &b);
        buf_z(&b, "}");
    }
    pthread_mutex_lock(&a->stream->lock);
    if (!a->stream->gone)
        atomic_store(&a->call->stream_status, b.failed ? 500 : status);
    pthread_mutex_unlock(&a->stream->lock);
    stream_put(a->stream, buf_view(&b));
    stream_end(a->stream, b.failed);
    buf_clear(&b);
}

/* ---- engine events ---- */

static void count_times(struct choice *ch, const struct gen_event *ev)
{
    struct metrics *m = ch->answer->srv->metrics;
    uint64_t now = clock_ns();
    if (ev->kind != GEN_TOKEN)
        return;
    if (ch->last_ns == 0)
        metrics_first_token(m, (double)(now - ch->submit_ns) / 1e9);
    else
        metrics_time(&m->per_token, (double)(now - ch->last_ns) / 1e9);
    ch->last_ns = now;
}

static void finish_choice(struct choice *ch, const struct gen_event *ev)
{
    struct answer *a = ch->answer;
    ch->finish = ev->finish;
    ch->prompt_tokens = ev->prompt_tokens;
    ch->cached_tokens = ev->cached_tokens;
    ch->completion_tokens = ev->completion_tokens;
    ch->queue_ms = ev->queue_ms;
    ch->prefill_ms = ev->prefill_ms;
    ch->decode_ms = ev->decode_ms;
    ch->duo = ev->duo;
    ch->done = true;
    metrics_queue_wait(a->srv->metrics, ev->queue_ms / 1e3);
    if (ev->finish == FINISH_ERROR && ev->err && a->failed.code == ST_OK)
        a->failed = *ev->err;
    if (ev->finish == FINISH_CANCELLED && a->failed.code == ST_OK)
        err_set(&a->failed, ST_CANCELLED, "the request was cancelled");
}

static void on_text(struct choice *ch, const struct gen_event *ev)
{
    struct answer *a = ch->answer;
    bool token = ev->kind == GEN_TOKEN || ev->kind == GEN_PROMPT;
    if (token && a->want_logprobs)
        logprobs_add(&ch->logprobs, a->srv->engine, a->chat, ch->n_char, ev);
    ch->n_char += characters(ev->text);
    if (ev->kind == GEN_PROMPT) /* the echoed prompt was put as a whole */
        return;
    if (!a->streaming)
        buf_str(&ch->text, ev->text);
    else if (ev->text.n || (a->want_logprobs && ch->logprobs.n))
        send_text(ch, ev->text);
}

static void on_event(void *ctx, const struct gen_event *ev)
{
    struct choice *ch = ctx;
    struct answer *a = ch->answer;
    count_times(ch, ev);
    if (ev->kind == GEN_STARTED)
        return;
    on_text(ch, ev);
    if (ev->kind != GEN_DONE)
        return;
    finish_choice(ch, ev);
    if (a->streaming && ev->finish != FINISH_ERROR && ev->finish != FINISH_CANCELLED)
        send_finish(ch);
    struct stream *s = a->stream;
    if (atomic_fetch_sub(&a->running, 1) == 1) {
        engine_trace_close(a->srv->engine, a->trace);
        if (a->streaming)
            stream_finish(a);
        else
            whole_finish(a);
    }
    stream_drop(s);
}

/* ---- starting ---- */

static struct answer *answer_new(struct call *c, const struct gen_ask *ask)
{
    uint32_t n = ask->n * ask->n_prompt;
    struct answer *a = calloc(1, sizeof *a + n * sizeof a->choice[0]);
    struct stream *s = a ? stream_create() : NULL;
    if (!s) {
        free(a);
        return NULL;
    }
    *a = (struct answer){ .srv = c->srv,
                          .stream = s,
                          .call = c,
                          .chat = ask->chat,
                          .streaming = ask->stream,
                          .include_usage = ask->include_usage,
                          .echo = ask->echo,
                          .want_logprobs = ask->want_logprobs,
                          .created = clock_unix_s(),
                          .duo = ask->p.duo,
                          .duo_budget = ask->duo_budget,
                          .n_choice = n };
    snprintf(a->id, sizeof a->id, "%s-%s", ask->chat ? "chatcmpl" : "cmpl", c->id + 4);
    snprintf(a->model, sizeof a->model, "%s", engine_info(c->srv->engine)->model_id);
    atomic_store(&a->running, n);
    for (uint32_t i = 0; i < n; i++)
        a->choice[i] = (struct choice){ .answer = a, .index = i, .prompt = i / ask->n };
    s->ctx = a;
    s->free_ctx = answer_free;
    s->on_gone = answer_cancel;
    return a;
}

/* The echoed prompt stands before the continuation. */
static void put_echo(struct answer *a, struct choice *ch, const struct token_list *prompt)
{
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    if (engine_detokenize(a->srv->engine, prompt->id, prompt->n, &text, &err) == ST_OK) {
        if (a->streaming)
            send_text(ch, buf_view(&text));
        else
            buf_str(&ch->text, buf_view(&text));
        if (!a->want_logprobs)
            ch->n_char += characters(buf_view(&text));
    }
    buf_clear(&text);
}

/* Submits every choice; on a refusal the ones already running are cancelled and *err tells. */
static bool submit_all(struct call *c, struct answer *a, const struct gen_ask *ask, struct err *err)
{
    struct gen_params p = ask->p;
    if (ask->want_trace) {
        snprintf(a->trace_id, sizeof a->trace_id, "%s", c->id);
        p.trace = a->trace = engine_trace_open(c->srv->engine, c->id);
    }
    for (uint32_t i = 0; i < a->n_choice; i++) {
        struct choice *ch = &a->choice[i];
        const struct token_list *prompt = &ask->prompt[ch->prompt];
        if (a->chat && a->streaming)
            send_role(a, ch);
        if (a->echo)
            put_echo(a, ch, prompt);
        p.seed = ask->p.seed + (ask->n > 1 ? i % ask->n : 0); /* choices differ, runs repeat */
        ch->submit_ns = clock_ns();
        stream_hold(a->stream);
        if (engine_submit(c->srv->engine, prompt->id, prompt->n, &p, on_event, ch, &ch->id, err) ==
            ST_OK)
            continue;
        ch->id = 0;
        /* This one and the rest never run; the reply is made here, so nobody else may make it. */
        for (uint32_t k = 0; k < i; k++)
            engine_cancel(c->srv->engine, a->choice[k].id);
        engine_trace_close(c->srv->engine, a->trace);
        stream_drop(a->stream);
        return false;
    }
    return true;
}

static void generate(struct call *c, bool chat)
{
    struct gen_ask ask = { 0 };
    struct err err = ERR_INIT;
    if (!c->srv->engine) {
        reply_error(c, 503, "no_model", NULL, "no model is loaded: start the server with -m MODEL");
        c->reply.no_retry = true;
        return;
    }
    json_t *doc = call_json(c);
    if (!doc)
        return;
    if (ask_parse(c, doc, chat, &ask)) {
        struct answer *a = answer_new(c, &ask);
        if (!a) {
            reply_error(c, 500, "internal", NULL, "out of memory");
        } else if (submit_all(c, a, &ask, &err)) {
            c->stream = a->stream;
            c->stream_whole = !ask.stream;
            a->stream->sse = ask.stream;
            if (ask.stream)
                server_keep(c->srv, a->stream, KEEP_PINGED);
        } else {
            if (err.code == ST_BUSY)
                atomic_fetch_add(&c->srv->metrics->rejected_busy, 1);
            reply_err(c, &err, chat ? "messages" : "prompt");
            stream_abort(a->stream);
            stream_drop(a->stream);
        }
    }
    ask_clear(&ask);
    json_free(doc);
}

void api_chat(struct call *c)
{
    generate(c, true);
}

void api_completions(struct call *c)
{
    generate(c, false);
}

/* The id in the chunks, or that of the header x-request-id: a stream that waits has sent no chunk.
 */
static bool is_name_of(const struct answer *a, const char *id)
{
    return strcmp(a->id, id) == 0 ||
           (strncmp(id, "req-", 4) == 0 && strcmp(strchr(a->id, '-') + 1, id + 4) == 0);
}

void api_cancel(struct call *c)
{
    struct stream *hit = NULL;
    pthread_mutex_lock(&c->srv->list_lock);
    for (struct stream *s = c->srv->pinged; s && !hit; s = s->next) {
        const struct answer *a = s->ctx;
        if (is_name_of(a, c->arg)) {
            hit = s;
            stream_hold(s);
        }
    }
    pthread_mutex_unlock(&c->srv->list_lock);
    if (!hit) {
        reply_error(c, 404, "not_found", NULL, "there is no streaming request '%.64s'", c->arg);
        return;
    }
    answer_cancel(hit->ctx);
    stream_drop(hit);
    reply_text(c, 200, "application/json", "{\"cancelled\":true}");
}
