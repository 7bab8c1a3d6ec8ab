/* server/http_send.c - replies as the library's responses: a body, or a stream that suspends its
 * connection while there is nothing to send and is resumed by whoever puts bytes. */
#include "server/http_parts.h"

static void common_headers(const struct exchange *x, struct MHD_Response *r)
{
    const struct call *c = &x->call;
    MHD_add_response_header(r, "x-request-id", c->id);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(r, "Content-Security-Policy",
                            "default-src 'self'; img-src 'self' data:; style-src 'self'; "
                            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'");
    const char *origin = x->http->cors_origin;
    if (!origin)
        return;
    MHD_add_response_header(r, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(r, "Access-Control-Expose-Headers", "x-request-id, retry-after");
    if (c->method != METHOD_OPTIONS)
        return;
    const char *want = call_header(c, "Access-Control-Request-Headers");
    MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    MHD_add_response_header(r, "Access-Control-Allow-Headers",
                            want ? want : "authorization, content-type");
    MHD_add_response_header(r, "Access-Control-Max-Age", "600");
}

static void reply_headers(const struct reply *r, struct MHD_Response *m)
{
    const struct {
        const char *name, *value;
    } h[] = {
        { "Content-Type", r->content_type },
        { "Retry-After", r->retry_after[0] ? r->retry_after : NULL },
        { "Allow", r->allow },
        { "Location", r->location[0] ? r->location : NULL },
        { "ETag", r->etag },
        { "Content-Encoding", r->encoding },
        { "Cache-Control", r->cache },
        { "Vary", r->etag ? "Accept-Encoding" : NULL },
        { "WWW-Authenticate", r->status == 401 ? "Bearer" : NULL },
        { "x-should-retry", r->no_retry ? "false" : NULL },
    };
    for (size_t i = 0; i < sizeof h / sizeof h[0]; i++)
        if (h[i].value)
            MHD_add_response_header(m, h[i].name, h[i].value);
}

enum MHD_Result send_plain(struct exchange *x)
{
    struct reply *r = &x->call.reply;
    struct str body = r->borrowed.p ? r->borrowed : buf_view(&r->body);
    struct MHD_Response *m = MHD_create_response_from_buffer(body.n, (void *)(uintptr_t)body.p,
                                                             r->borrowed.p ? MHD_RESPMEM_PERSISTENT
                                                                           : MHD_RESPMEM_MUST_COPY);
    if (!m)
        return MHD_NO;
    common_headers(x, m);
    reply_headers(r, m);
    enum MHD_Result ok = MHD_queue_response(x->call.conn, (unsigned)r->status, m);
    MHD_destroy_response(m);
    x->queued = true;
    if (r->status < 400)
        metrics_reply(x->http->srv.metrics, r->status, (struct str){ "", 0 });
    return ok;
}

static ssize_t read_stream(void *ctx, uint64_t pos, char *out, size_t max)
{
    (void)pos;
    struct exchange *x = ctx;
    uint64_t waited_ns;
    long n = stream_take(x->call.stream, out, max, &waited_ns);
    /* The library sends what it is given in this same call, some 50 us later. When it asks for more
     * says nothing of that: it may lose its processor in between to those whom the send woke. */
    if (n > 0)
        metrics_time(&x->http->srv.metrics->to_socket, (double)waited_ns / 1e9);
    if (n > 0)
        return n;
    if (n == 0) {
        MHD_suspend_connection(x->call.conn);
        return 0;
    }
    return n == -1 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

enum MHD_Result send_stream(struct exchange *x)
{
    struct MHD_Response *m =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, x, NULL);
    if (!m)
        return MHD_NO;
    common_headers(x, m);
    const struct call *c = &x->call;
    MHD_add_response_header(m, "Content-Type",
                            c->stream_type ? c->stream_type : "text/event-stream; charset=utf-8");
    MHD_add_response_header(m, "Cache-Control", "no-cache, no-transform");
    if (c->stream_file[0]) {
        char as[sizeof c->stream_file + 32];
        snprintf(as, sizeof as, "attachment; filename=\"%s\"", c->stream_file);
        MHD_add_response_header(m, "Content-Disposition", as);
    }
    MHD_add_response_header(m, "X-Accel-Buffering", "no");
    enum MHD_Result ok = MHD_queue_response(x->call.conn, 200, m);
    MHD_destroy_response(m);
    x->queued = true;
    metrics_reply(x->http->srv.metrics, 200, (struct str){ "", 0 });
    return ok;
}

enum MHD_Result send_whole(struct exchange *x)
{
    struct stream *s = x->call.stream;
    struct call *c = &x->call;
    pthread_mutex_lock(&s->lock);
    struct buf all = s->pending;
    s->pending = (struct buf)BUF_INIT;
    bool gone = s->gone;
    pthread_mutex_unlock(&s->lock);
    int status = atomic_load(&c->stream_status);
    if (gone) {
        buf_clear(&all);
        return MHD_NO;
    }
    if (status >= 400) {
        metrics_reply(c->srv->metrics, status,
                      c->stream_fault[0] ? str_c(c->stream_fault) : STR("generation failed"));
        reply_retry_after(c, status);
    }
    reply_buf(c, status ? status : 200, &all);
    return send_plain(x);
}
