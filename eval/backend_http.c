/* eval/backend_http.c - OpenAI-compatible endpoints through libcurl's multi interface, which only
 * this file and http_sockets.c see. One thread, any number of requests in flight, connections are
 * kept.
 *
 * An endpoint that refuses a parameter (reasoning models take no max_tokens, stop, temperature) is
 * asked without it from then on; what was left out is recorded with the run. Stop strings are
 * applied here too, so that an endpoint that ignores them gives the same text. The key is in the
 * header list and nowhere else.
 *
 * Sockets are watched by http_sockets.h, and http_poll() returns after a few answers: the next
 * question leaves before the rest is read. */
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "eval/backend_http_internal.h"

#include <stdlib.h>
#include <strings.h>
#include <time.h>

enum {
    BODY_MAX = 4 << 20, /* bytes of an answer; more is an error */
    CONNECT_MS = 10000,
    FIRST_BYTE_MS = 120000,
    TOTAL_MS = 600000,
    ANSWERS_AT_A_TIME = 4
};

static struct http *of(struct backend *b)
{
    return (struct http *)b;
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
    ok &= sockets_of(h->sockets, e);
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

static enum status http_ask(struct backend *b, void *tag, struct str question, uint64_t repeat,
                            struct err *err)
{
    struct http *h = of(b);
    struct request *r = h->free;
    if (r)
        h->free = r->next;
    else if (!(r = request_new(h, err)))
        return err->code;
    buf_reset(&r->out);
    buf_reset(&r->in);
    http_body_put(h, question, repeat, &r->out);
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

/* What curl itself reports. */
static void transport(struct http *h, const struct request *r, CURLcode rc, struct verdict *v)
{
    const char *what = curl_easy_strerror(rc);
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        http_say(v, REPLY_DOWN, "%s", what);
        return;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        http_say(v, REPLY_FATAL, "%s", what);
        return;
    case CURLE_OPERATION_TIMEDOUT: {
        curl_off_t connected = 0;
        curl_easy_getinfo(r->easy, CURLINFO_CONNECT_TIME_T, &connected);
        if (connected == 0)
            http_say(v, REPLY_DOWN, "no connection within %u ms", h->o.connect_ms);
        else
            http_say(v, REPLY_RETRY, r->in.n ? "the answer stopped coming" : "no answer in time");
        return;
    }
    default:
        if (r->too_long)
            http_say(v, REPLY_BAD, "the answer is longer than %d MiB", BODY_MAX >> 20);
        else
            http_say(v, REPLY_RETRY, "%s", what);
    }
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
        http_answer_failed(h, r, &v);
    else if (json_parse(buf_view(&r->in), "answer", &doc, &bad) != ST_OK)
        http_say(&v, REPLY_RETRY, "the answer (%s, %zu bytes) is no JSON: %.60s",
                 r->content_type[0] ? r->content_type : "no content type", r->in.n,
                 r->in.p ? r->in.p : "");
    else
        http_answer_read(h, r, doc, &v);
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

/* Those that have ended; how many. */
static int take_answers(struct http *h, reply_fn *fn, void *ctx)
{
    int left, n = 0;
    CURLMsg *m;
    while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
        char *who = NULL;
        CURLcode rc = m->data.result;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &who);
        struct request *r = (struct request *)(void *)who;
        judge(h, r, rc, fn, ctx);
        retire(h, r);
        n++;
    }
    return n;
}

static enum status http_poll(struct backend *b, int wait_ms, reply_fn *fn, void *ctx,
                             struct err *err)
{
    struct http *h = of(b);
    bool ok = sockets_tick(h->sockets); /* begins what was asked since */
    int n = take_answers(h, fn, ctx);
    if (ok && !sockets_have_news(h->sockets)) {
        sockets_wait(h->sockets, n ? 0 : wait_ms);
        ok = sockets_tick(h->sockets);
        n += take_answers(h, fn, ctx);
    }
    while (ok && n < ANSWERS_AT_A_TIME && sockets_have_news(h->sockets)) {
        ok = sockets_step(h->sockets);
        n += take_answers(h, fn, ctx);
    }
    return ok ? ST_OK : err_set(err, ST_IO, "requests could not be driven");
}

static void http_wake(struct backend *b)
{
    sockets_wake(of(b)->sockets);
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
    sockets_close(h->sockets);
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
    http_learned_read(h, o->learned);
    http_learned_write(h);
    if (sockets_open(&h->sockets, err) == ST_OK) {
        h->multi = sockets_multi(h->sockets);
        if (make_url(h, err) == ST_OK && make_headers(h, err) == ST_OK)
            http_body_make(h, err);
    }
    if (err->code != ST_OK) {
        http_close(&h->base);
        return err->code;
    }
    *ret = &h->base;
    return ST_OK;
}
