/* eval/backend_http.c - OpenAI-compatible endpoints through libcurl's multi interface; the only
 * file that sees <curl/curl.h>. One thread, any number of requests in flight, connections are kept.
 *
 * An endpoint that refuses a parameter (reasoning models take no max_tokens, stop, temperature) is
 * asked without it from then on; what was left out is recorded with the run. Stop strings are
 * applied here too, so that an endpoint that ignores them gives the same text. The key is in the
 * header list and nowhere else. */
#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "eval/backend.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

enum {
    BODY_MAX = 4 << 20, /* bytes of an answer; more is an error */
    CONNECT_MS = 10000,
    FIRST_BYTE_MS = 120000,
    TOTAL_MS = 600000,
    ERROR_MAX = 300
};

/* What an endpoint does not take, as bits. */
enum learned { NO_MAX_TOKENS = 1, NO_STOP = 2, NO_TEMPERATURE = 4, NO_SEED = 8, LEARNED_ALL = 15 };

struct request {
    CURL *easy;
    void *tag;
    struct buf out, in;
    bool too_long;
    unsigned learned; /* what was left out of it */
    uint64_t sent_ns;
    int64_t sent_ms;
    uint64_t retry_after_ns;
    char content_type[64];
    char hash[65];
    struct request *next; /* free list */
    bool busy;
};

struct http {
    struct backend base;
    struct ask_opts ask;
    struct http_opts o;
    CURLM *multi;
    struct curl_slist *headers;
    char *url;
    struct buf head, tail;   /* of the body, around the question; made for `learned` */
    struct sha256 head_hash; /* of head: the same for every request */
    unsigned learned;
    struct request **all;
    size_t n_all, cap_all;
    struct request *free;
    struct buf text; /* of the answer in hand, stop strings applied */
};

static struct http *of(struct backend *b)
{
    return (struct http *)b;
}

/* ---- the request's body ---- */

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
static enum status make_body(struct http *h, struct err *err)
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
    if (!(h->learned & NO_SEED))
        buf_printf(&h->tail, ",\"seed\":%llu", (unsigned long long)a->seed);
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
    buf_char(&h->tail, '}');
    sha256_init(&h->head_hash);
    sha256_add(&h->head_hash, buf_view(&h->head).p, h->head.n);
    if (buf_ok(&h->head, "request", err) == ST_OK)
        buf_ok(&h->tail, "request", err);
    return err->code;
}

static void put_question(struct http *h, struct str question, struct buf *out)
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
    out->failed |= ask.failed || quoted.failed;
    buf_clear(&ask);
    buf_clear(&quoted);
}

static const struct {
    unsigned bit;
    const char *name;
} parameters[] = { { NO_MAX_TOKENS, "max_tokens" },
                   { NO_STOP, "stop" },
                   { NO_TEMPERATURE, "temperature" },
                   { NO_SEED, "seed" } };
enum { N_PARAMETER = sizeof parameters / sizeof parameters[0] };

static void write_learned(struct http *h)
{
    bool any = false;
    buf_reset(&h->base.learned);
    buf_char(&h->base.learned, '{');
    for (int i = 0; i < N_PARAMETER; i++)
        if (h->learned & parameters[i].bit) {
            buf_printf(&h->base.learned, "%s\"%s\":%s", any ? "," : "", parameters[i].name,
                       parameters[i].bit == NO_MAX_TOKENS ? "\"max_completion_tokens\"" : "false");
            any = true;
        }
    buf_char(&h->base.learned, '}');
}

static void read_learned(struct http *h, const char *text)
{
    struct err ignored = ERR_INIT;
    json_t *doc = NULL;
    if (text && json_parse(str_c(text), "learned", &doc, &ignored) == ST_OK)
        for (int i = 0; i < N_PARAMETER; i++)
            if (json_object_get(doc, parameters[i].name))
                h->learned |= parameters[i].bit;
    json_free(doc);
}

/* ---- one request ---- */

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct request *r = ctx;
    size_t bytes = size * n;
    if (r->in.n + bytes > BODY_MAX) {
        r->too_long = true;
        return 0;
    }
    buf_put(&r->in, p, bytes);
    return r->in.failed ? 0 : bytes;
}

/* Seconds or a date; seconds may have a fraction. */
static uint64_t retry_after(struct str v)
{
    struct err ignored = ERR_INIT;
    double s;
    char date[64];
    v = str_trim(v);
    if (num_f64(v, "Retry-After", 0, 86400, &s, &ignored) == ST_OK)
        return (uint64_t)(s * 1e9);
    snprintf(date, sizeof date, "%.*s", (int)(v.n < 63 ? v.n : 63), v.p);
    time_t at = curl_getdate(date, NULL), now = time(NULL);
    if (at == (time_t)-1 || at <= now)
        return 0;
    return (uint64_t)(at - now < 3600 ? at - now : 3600) * 1000000000u;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct request *r = ctx;
    struct str line = { p, size * n };
    if (line.n > 12 && strncasecmp(p, "retry-after:", 12) == 0) {
        r->retry_after_ns = retry_after((struct str){ p + 12, line.n - 12 });
    } else if (line.n > 13 && strncasecmp(p, "content-type:", 13) == 0) {
        struct str v = str_trim((struct str){ p + 13, line.n - 13 });
        snprintf(r->content_type, sizeof r->content_type, "%.*s", (int)(v.n < 60 ? v.n : 60), v.p);
    }
    return size * n;
}

static void request_free(struct request *r)
{
    if (r->easy)
        curl_easy_cleanup(r->easy);
    buf_clear(&r->out);
    buf_clear(&r->in);
    free(r);
}

static bool settings(struct http *h, struct request *r)
{
    CURL *e = r->easy;
    bool ok = curl_easy_setopt(e, CURLOPT_URL, h->url) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_HTTPHEADER, h->headers) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_WRITEDATA, r) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_HEADERDATA, r) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_PRIVATE, r) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)h->o.connect_ms) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)h->o.total_ms) == CURLE_OK;
    /* An answer that drips less than a byte a second for as long as the first byte may take. */
    ok &= curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)((h->o.first_byte_ms + 999) / 1000)) ==
          CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS) == CURLE_OK;
    ok &= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    if (h->o.insecure) {
        ok &= curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L) == CURLE_OK;
        ok &= curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L) == CURLE_OK;
    }
    return ok;
}

static struct request *request_new(struct http *h, struct err *err)
{
    if (h->n_all == h->cap_all) {
        size_t cap = h->cap_all ? 2 * h->cap_all : 64;
        struct request **all = realloc(h->all, cap * sizeof(struct request *));
        if (!all) {
            err_set(err, ST_NOMEM, "requests");
            return NULL;
        }
        h->all = all;
        h->cap_all = cap;
    }
    struct request *r = calloc(1, sizeof *r);
    if (!r || !(r->easy = curl_easy_init()) || !settings(h, r)) {
        if (r)
            request_free(r);
        err_set(err, ST_NOMEM, "a request");
        return NULL;
    }
    h->all[h->n_all++] = r;
    return r;
}

static int64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* SHA-256 of the body, of which the first part is known. */
static void hash_of(const struct http *h, struct str s, char out[65])
{
    struct sha256 state = h->head_hash;
    sha256_add(&state, s.p + h->head.n, s.n - h->head.n);
    sha256_hex(&state, out);
}

static enum status http_ask(struct backend *b, void *tag, struct str question, struct err *err)
{
    struct http *h = of(b);
    struct request *r = h->free;
    if (r)
        h->free = r->next;
    else if (!(r = request_new(h, err)))
        return err->code;
    buf_reset(&r->out);
    buf_reset(&r->in);
    put_question(h, question, &r->out);
    r->too_long = false;
    r->retry_after_ns = 0;
    r->content_type[0] = '\0';
    r->tag = tag;
    r->learned = h->learned;
    r->sent_ns = clock_ns();
    r->sent_ms = unix_ms();
    if (!r->out.failed)
        hash_of(h, buf_view(&r->out), r->hash);
    bool ok = !r->out.failed &&
              curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE, (long)r->out.n) == CURLE_OK &&
              curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, r->out.p) == CURLE_OK &&
              curl_multi_add_handle(h->multi, r->easy) == CURLM_OK;
    if (!ok) {
        r->next = h->free;
        h->free = r;
        return err_set(err, ST_NOMEM, "a request");
    }
    r->busy = true;
    b->in_flight++;
    return ST_OK;
}

/* ---- answers ---- */

struct verdict {
    struct backend_reply reply;
    char error[ERROR_MAX];
    char finish[32];
};

static void say(struct verdict *v, enum reply_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct verdict *v, enum reply_kind kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->error, sizeof v->error, fmt, ap);
    va_end(ap);
    v->reply.kind = kind;
    v->reply.error = str_c(v->error);
}

/* What curl itself reports. */
static void transport(struct http *h, const struct request *r, CURLcode rc, struct verdict *v)
{
    const char *what = curl_easy_strerror(rc);
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        say(v, REPLY_DOWN, "%s", what);
        return;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        say(v, REPLY_FATAL, "%s", what);
        return;
    case CURLE_OPERATION_TIMEDOUT: {
        curl_off_t connected = 0;
        curl_easy_getinfo(r->easy, CURLINFO_CONNECT_TIME_T, &connected);
        if (connected == 0)
            say(v, REPLY_DOWN, "no connection within %u ms", h->o.connect_ms);
        else
            say(v, REPLY_RETRY, r->in.n ? "the answer stopped coming" : "no answer in time");
        return;
    }
    default:
        if (r->too_long)
            say(v, REPLY_BAD, "the answer is longer than %d MiB", BODY_MAX >> 20);
        else
            say(v, REPLY_RETRY, "%s", what);
    }
}

/* The endpoint's own words for an error: {"error":{"message","param","code"}} or {"error":"..."}.
 */
static void own_words(const json_t *doc, const char **message, const char **param,
                      const char **code)
{
    const json_t *e = json_object_get(doc, "error");
    if (json_is_string(e)) {
        *message = json_string_value(e);
        return;
    }
    e = json_is_object(e) ? e : doc;
    const char *m = json_string_value(json_object_get(e, "message"));
    const char *p = json_string_value(json_object_get(e, "param"));
    const char *c = json_string_value(json_object_get(e, "code"));
    *message = m ? m : *message;
    *param = p ? p : *param;
    *code = c ? c : *code;
}

static bool mentions(const char *text, const char *word)
{
    return strcasestr(text, word) != NULL;
}

/* Which of our parameters the message complains about; 0: none. */
static unsigned complaint(const char *message, const char *param)
{
    bool unsupported = mentions(message, "unsupported") || mentions(message, "not supported") ||
                       mentions(message, "unrecognized") || mentions(message, "unknown") ||
                       mentions(message, "not permitted") || mentions(message, "unexpected") ||
                       mentions(message, "does not support") || mentions(message, "not allowed") ||
                       mentions(message, "instead") || mentions(message, "deprecated");
    for (int i = 0; i < N_PARAMETER; i++)
        if (param[0] ? strcmp(param, parameters[i].name) == 0
                     : unsupported && mentions(message, parameters[i].name))
            return parameters[i].bit;
    return 0;
}

static void refused(struct http *h, const struct request *r, const char *message, const char *param,
                    struct verdict *v)
{
    unsigned bit = complaint(message, param);
    if (bit && !(r->learned & bit)) {
        if (!(h->learned & bit)) {
            struct err ignored = ERR_INIT;
            h->learned |= bit;
            write_learned(h);
            h->base.learned_anew = true;
            make_body(h, &ignored);
        }
        say(v, REPLY_ADAPTED, "HTTP %ld: %.200s", v->reply.status, message);
        return;
    }
    say(v, REPLY_BAD, "HTTP %ld: %.200s", v->reply.status, message);
}

static void failed_status(struct http *h, const struct request *r, struct verdict *v)
{
    struct err ignored = ERR_INIT;
    json_t *doc = NULL;
    const char *message = "", *param = "", *code = "";
    long st = v->reply.status;
    char start[120];
    snprintf(start, sizeof start, "%.*s", (int)(r->in.n < 100 ? r->in.n : 100),
             r->in.p ? r->in.p : "");
    if (json_parse(buf_view(&r->in), "answer", &doc, &ignored) == ST_OK)
        own_words(doc, &message, &param, &code);
    message = message[0] ? message : start;
    v->reply.retry_after_ns = r->retry_after_ns;
    if (st == 429 && (strcmp(code, "insufficient_quota") == 0 || mentions(message, "quota")))
        say(v, REPLY_FATAL, "HTTP 429: %.200s", message);
    else if (st == 429 || (st == 503 && r->retry_after_ns))
        say(v, REPLY_BUSY, "HTTP %ld: %.200s", st, message);
    else if (st == 401 || st == 403)
        say(v, REPLY_FATAL, "HTTP %ld, the key is refused%s: %.150s", st,
            h->o.key ? "" : " (none was given: --key-env)", message);
    else if (st == 404 || st == 405)
        say(v, REPLY_FATAL, "HTTP %ld at %s, or no model '%.60s' there: %.100s", st, h->url,
            h->o.model, message);
    else if (st >= 300 && st < 400)
        say(v, REPLY_FATAL, "HTTP %ld: the address redirects; give its new place", st);
    else if (st == 408 || st == 409 || st == 425 || st >= 500)
        say(v, REPLY_RETRY, "HTTP %ld: %.200s", st, message);
    else
        refused(h, r, message, param, v);
    json_free(doc);
}

/* A string, or the texts of a list of parts. */
static struct str content(const json_t *v, struct buf *store)
{
    if (json_is_string(v))
        return (struct str){ json_string_value(v), json_string_length(v) };
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *part = json_object_get(json_array_get(v, i), "text");
        if (json_is_string(part))
            buf_put(store, json_string_value(part), json_string_length(part));
    }
    return buf_view(store);
}

/* Cuts at the first stop string. A chat endpoint was not asked to: nothing is cut. */
static struct str until_stop(const struct http *h, struct str s)
{
    const char *const *stop;
    size_t n = h->ask.chat ? 0 : prompt_stops(h->ask.prompt, &stop);
    for (size_t i = 0; i < n; i++) {
        size_t at = str_find(s, str_c(stop[i]), 0);
        if (at != SIZE_MAX)
            s.n = at;
    }
    return s;
}

static int64_t count_of(const json_t *usage, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(usage, key));
    return n > 0 && n < (json_int_t)1 << 40 ? (int64_t)n : 0;
}

static void usage_of(const json_t *doc, struct backend_reply *r)
{
    const json_t *u = json_object_get(doc, "usage");
    r->prompt_tokens = count_of(u, "prompt_tokens");
    r->completion_tokens = count_of(u, "completion_tokens");
    r->cached_tokens = count_of(json_object_get(u, "prompt_tokens_details"), "cached_tokens");
}

/* A 200 answer. doc is kept by the caller while the reply is used. */
static void read_answer(struct http *h, const struct request *r, const json_t *doc,
                        struct verdict *v)
{
    const json_t *choice = json_array_get(json_object_get(doc, "choices"), 0);
    const json_t *m = json_object_get(choice, "message");
    const json_t *text =
        h->ask.chat ? json_object_get(m, "content") : json_object_get(choice, "text");
    const json_t *reason = json_object_get(m, "reasoning_content");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    const char *message = NULL, *param = "", *code = "";
    reason = reason ? reason : json_object_get(m, "reasoning");
    if (!choice && json_object_get(doc, "error")) {
        message = "";
        own_words(doc, &message, &param, &code);
        say(v, REPLY_RETRY, "an error with status 200: %.200s", message);
        return;
    }
    if (!choice || !(h->ask.chat ? m : text)) {
        say(v, REPLY_RETRY, "the answer has no choices[0].%s", h->ask.chat ? "message" : "text");
        return;
    }
    buf_reset(&h->text);
    v->reply.text = until_stop(h, content(text, &h->text));
    if (json_is_string(reason))
        v->reply.reasoning = (struct str){ json_string_value(reason), json_string_length(reason) };
    snprintf(v->finish, sizeof v->finish, "%s", finish ? finish : "stop");
    v->reply.finish = str_c(v->finish);
    usage_of(doc, &v->reply);
    v->reply.kind = REPLY_OK;
    (void)r;
}

static void judge(struct http *h, struct request *r, CURLcode rc, reply_fn *fn, void *ctx)
{
    struct verdict v = { .reply = { .tag = r->tag, .request_hash = r->hash, .at_ms = r->sent_ms } };
    struct err bad = ERR_INIT;
    json_t *doc = NULL;
    v.reply.latency_us = (int64_t)((clock_ns() - r->sent_ns) / 1000);
    v.reply.body = buf_view(&r->in);
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &v.reply.status);
    if (rc != CURLE_OK)
        transport(h, r, rc, &v);
    else if (v.reply.status != 200)
        failed_status(h, r, &v);
    else if (json_parse(buf_view(&r->in), "answer", &doc, &bad) != ST_OK)
        say(&v, REPLY_RETRY, "the answer (%s, %zu bytes) is no JSON: %.60s",
            r->content_type[0] ? r->content_type : "no content type", r->in.n,
            r->in.p ? r->in.p : "");
    else
        read_answer(h, r, doc, &v);
    fn(ctx, &v.reply);
    json_free(doc);
}

static void retire(struct http *h, struct request *r)
{
    curl_multi_remove_handle(h->multi, r->easy);
    r->busy = false;
    r->next = h->free;
    h->free = r;
    h->base.in_flight--;
    if (r->in.cap > (64u << 10)) /* one long answer is not kept for ever */
        buf_clear(&r->in);
}

static enum status http_poll(struct backend *b, int wait_ms, reply_fn *fn, void *ctx,
                             struct err *err)
{
    struct http *h = of(b);
    int running, left;
    CURLMsg *m;
    if (curl_multi_perform(h->multi, &running) != CURLM_OK)
        return err_set(err, ST_IO, "requests could not be driven");
    if (running == (int)b->in_flight && wait_ms > 0) {
        curl_multi_poll(h->multi, NULL, 0, wait_ms, NULL);
        if (curl_multi_perform(h->multi, &running) != CURLM_OK)
            return err_set(err, ST_IO, "requests could not be driven");
    }
    while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
        char *who = NULL;
        CURLcode rc = m->data.result;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &who);
        struct request *r = (struct request *)(void *)who;
        judge(h, r, rc, fn, ctx);
        retire(h, r);
    }
    return ST_OK;
}

static void http_wake(struct backend *b)
{
    curl_multi_wakeup(of(b)->multi);
}

static void http_drop(struct backend *b)
{
    struct http *h = of(b);
    for (size_t i = 0; i < h->n_all; i++)
        if (h->all[i]->busy)
            retire(h, h->all[i]);
}

static void http_close(struct backend *b)
{
    struct http *h = of(b);
    if (h->multi)
        http_drop(b);
    for (size_t i = 0; i < h->n_all; i++)
        request_free(h->all[i]);
    free(h->all);
    if (h->multi)
        curl_multi_cleanup(h->multi);
    curl_slist_free_all(h->headers);
    free(h->url);
    buf_clear(&h->head);
    buf_clear(&h->tail);
    buf_clear(&h->text);
    buf_clear(&h->base.learned);
    free(h);
}

/* ---- opening ---- */

static bool add_header(struct http *h, const char *line)
{
    struct curl_slist *l = curl_slist_append(h->headers, line);
    if (l)
        h->headers = l;
    return l != NULL;
}

static enum status make_headers(struct http *h, struct err *err)
{
    bool ok = add_header(h, "Content-Type: application/json") && add_header(h, "Expect:") &&
              add_header(h, "Accept: application/json");
    if (h->o.key) {
        struct buf line = BUF_INIT;
        buf_printf(&line, "Authorization: Bearer %s", h->o.key);
        ok &= !line.failed && add_header(h, line.p);
        if (line.p)
            explicit_bzero(line.p, line.n);
        buf_clear(&line);
    }
    return ok ? ST_OK : err_set(err, ST_NOMEM, "request headers");
}

/* BASE, BASE/v1 or the whole route. */
static enum status make_url(struct http *h, struct err *err)
{
    struct str base = str_c(h->o.url);
    const char *route = h->ask.chat ? "/chat/completions" : "/completions";
    struct buf url = BUF_INIT;
    if (!str_starts(base, STR("http://")) && !str_starts(base, STR("https://")))
        return err_set(err, ST_ARG, "--endpoint '%.100s' must begin with http:// or https://",
                       h->o.url);
    while (base.n && base.p[base.n - 1] == '/')
        base.n--;
    buf_str(&url, base);
    if (!str_ends(base, str_c(route))) {
        /* A bare host gets /v1; any path is taken as it is. */
        size_t slash = str_find(base, STR("/"), strlen("https://"));
        buf_z(&url, slash == SIZE_MAX ? "/v1" : "");
        buf_z(&url, route);
    }
    h->url = buf_take(&url);
    return h->url ? ST_OK : err_set(err, ST_NOMEM, "endpoint");
}

enum status backend_http_open(const struct http_opts *o, const struct ask_opts *a,
                              struct backend **ret, struct err *err)
{
    static const struct backend_ops ops = { http_ask, http_poll, http_wake, http_drop, http_close };
    static bool ready; /* by the first opener; openers share no thread with others yet */
    if (!ready && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(err, ST_NOMEM, "libcurl");
    ready = true;
    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return err_set(err, ST_NOMEM, "endpoint");
    h->base.ops = &ops;
    h->ask = *a;
    h->o = *o;
    h->o.connect_ms = o->connect_ms ? o->connect_ms : CONNECT_MS;
    h->o.first_byte_ms = o->first_byte_ms ? o->first_byte_ms : FIRST_BYTE_MS;
    h->o.total_ms = o->total_ms ? o->total_ms : TOTAL_MS;
    read_learned(h, o->learned);
    write_learned(h);
    h->multi = curl_multi_init();
    if (!h->multi)
        err_set(err, ST_NOMEM, "endpoint");
    else if (make_url(h, err) == ST_OK && make_headers(h, err) == ST_OK)
        make_body(h, err);
    if (err->code != ST_OK) {
        http_close(&h->base);
        return err->code;
    }
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, 1024L);
    *ret = &h->base;
    return ST_OK;
}
