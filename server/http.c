/* server/http.c - one exchange, as the library's callbacks drive it (on the net thread).
 *
 *   on_request (first call): Host, key, route, queue room, length -> refuse before the body
 *   on_request (body pieces): collected up to max_body
 *   on_request (end): handler -> reply, or stream attached -> suspended until there is something
 *   on_completed: everything of the exchange is released
 */
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "server/http_parts.h"

#include <stdlib.h>
#include <sys/socket.h>

/* Of a request target. No route takes ten arguments. */
enum { ARGUMENTS_MAX = 64, TARGET_BYTES_MAX = 16 << 10 };

const char *call_header(const struct call *c, const char *name)
{
    return MHD_lookup_connection_value(c->conn, MHD_HEADER_KIND, name);
}

const char *call_query(const struct call *c, const char *name)
{
    return MHD_lookup_connection_value(c->conn, MHD_GET_ARGUMENT_KIND, name);
}

static enum method method_of(const char *name)
{
    static const char *const names[] = { "GET", "POST", "DELETE", "HEAD", "OPTIONS" };
    for (int i = 0; i < 5; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum method)i;
    return METHOD_OTHER;
}

/* The path of a target in absolute form ("GET http://host/path"), which RFC 9112, 3.2.2 wants every
 * server to take; others as they are. The Host header is the one that is checked. */
static const char *path_of(const char *url)
{
    const char *rest = strncasecmp(url, "http://", 7) == 0    ? url + 7
                       : strncasecmp(url, "https://", 8) == 0 ? url + 8
                                                              : NULL;
    if (!rest)
        return url;
    const char *slash = strchr(rest, '/');
    return slash ? slash : "/";
}

static struct exchange *exchange_new(struct http *h, struct MHD_Connection *conn, const char *url,
                                     const char *method)
{
    struct exchange *x = calloc(1, sizeof *x);
    char *path = x ? strdup(path_of(url)) : NULL;
    if (!path) {
        free(x);
        return NULL;
    }
    x->http = h;
    x->path = path;
    x->fd = -1;
    x->start_ns = clock_ns();
    x->call =
        (struct call){ .srv = &h->srv, .method = method_of(method), .path = path, .conn = conn };
    uint64_t n = atomic_fetch_add(&h->next_id, 1);
    snprintf(x->call.id, sizeof x->call.id, "req-%016llx",
             (unsigned long long)rng_at(h->id_salt, n));
    return x;
}

static void collect(struct exchange *x, const char *data, size_t n)
{
    if (x->body.n + n > x->http->max_body)
        x->too_large = true;
    else
        buf_put(&x->body, data, n);
}

static void count_reply(struct exchange *x, bool on)
{
    if (on && !x->counted)
        atomic_fetch_add(&x->http->srv.replies, 1);
    else if (!on && x->counted)
        atomic_fetch_sub(&x->http->srv.replies, 1);
    x->counted = on;
}

static void handle(struct exchange *x)
{
    struct call *c = &x->call;
    count_reply(x, true);
    if (x->too_large) {
        refuse_body(x);
        return;
    }
    c->body = buf_view(&x->body);
    if (x->body.failed)
        reply_error(c, 500, "internal", NULL, "out of memory");
    else
        x->route->handler(c);
    if (c->stream && c->stream->endless)
        count_reply(x, false);
}

static void resume_connection(void *ctx)
{
    struct exchange *x = ctx;
    MHD_resume_connection(x->call.conn);
    net_wake(x->http);
}

static int socket_of(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static enum MHD_Result answer(struct exchange *x)
{
    struct call *c = &x->call;
    if (!c->stream)
        return send_plain(x);
    struct stream *s = c->stream;
    if (!s->resume) {
        pthread_mutex_lock(&s->lock);
        s->conn = x;
        s->resume = resume_connection;
        pthread_mutex_unlock(&s->lock);
        x->fd = socket_of(c->conn);
        watch_attach(x->http->watch, x->fd, s);
    }
    if (stream_sleep_while_held(s)) {
        MHD_suspend_connection(c->conn);
        return MHD_YES;
    }
    if (!c->stream_whole)
        return send_stream(x);
    if (stream_sleep_until_end(s)) {
        MHD_suspend_connection(c->conn);
        return MHD_YES;
    }
    return send_whole(x);
}

/* The library decodes paths as C strings and so cuts them at %00: marked here, refused later. */
static struct exchange bad_uri; /* an address only */

/* The target and each argument in it take some of the connection's memory. Where that ends, the
 * library (0.9.75) neither answers nor closes until the idle time is over: this answers in its
 * place, before it looks. */
static void refuse_target(int fd)
{
#define BODY                                                                                       \
    "{\"error\":{\"message\":\"the request target is too long or has too many arguments\","        \
    "\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"uri_too_long\"}}"
    char text[400];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 414 URI Too Long\r\nConnection: close\r\nContent-Type: "
                     "application/json\r\nContent-Length: %zu\r\n\r\n" BODY,
                     sizeof BODY - 1);
#undef BODY
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
        shutdown(fd, SHUT_RDWR);
}

void *on_uri(void *ctx, const char *uri, struct MHD_Connection *conn)
{
    size_t n = 0;
    (void)ctx;
    for (const char *p = strchr(uri, '?'); p && n <= ARGUMENTS_MAX; n++)
        p = strchr(p + 1, '&');
    bool large = n > ARGUMENTS_MAX || strlen(uri) > TARGET_BYTES_MAX;
    if (large)
        refuse_target(socket_of(conn));
    return large || strstr(uri, "%00") ? &bad_uri : NULL; /* no handler sees it */
}

enum MHD_Result on_request(void *ctx, struct MHD_Connection *conn, const char *url,
                           const char *method, const char *version, const char *data,
                           size_t *n_data, void **slot)
{
    struct exchange *x = *slot;
    if (!x || x == &bad_uri) {
        bool bad = x == &bad_uri;
        *slot = NULL;
        x = exchange_new(ctx, conn, url, method);
        if (!x)
            return MHD_NO;
        x->bad_uri = bad;
        *slot = x;
        x->refused = refuse_framing(x, version) || refuse_early(x);
        return x->refused ? send_plain(x) : MHD_YES;
    }
    if (*n_data) {
        collect(x, data, *n_data);
        *n_data = 0;
        return MHD_YES;
    }
    if (x->queued)
        return MHD_YES;
    if (!x->handled) {
        x->handled = true;
        handle(x);
    }
    return answer(x);
}

static void log_exchange(const struct exchange *x, enum MHD_RequestTerminationCode how)
{
    static const char *const names[] = { "GET", "POST", "DELETE", "HEAD", "OPTIONS", "OTHER" };
    if (!log_on(LOG_INFO) || (x->route && x->route->handler == api_health_live))
        return;
    int status = x->call.stream && !x->call.stream_whole ? 200 : x->call.reply.status;
    log_line(LOG_INFO, "http", x->call.id, "request",
             "method=%s path=%.120s status=%d ms=%.1f end=%d", names[x->call.method], x->path,
             status, clock_ms_since(x->start_ns), (int)how);
}

void on_completed(void *ctx, struct MHD_Connection *conn, void **slot,
                  enum MHD_RequestTerminationCode how)
{
    (void)ctx, (void)conn;
    struct exchange *x = *slot;
    if (!x || x == &bad_uri)
        return;
    log_exchange(x, how);
    count_reply(x, false);
    metrics_time(&x->http->srv.metrics->duration, clock_ms_since(x->start_ns) / 1e3);
    if (x->call.stream) {
        watch_detach(x->http->watch, x->fd);
        if (x->call.stream->sse)
            server_forget(&x->http->srv, x->call.stream);
        pthread_mutex_lock(&x->call.stream->lock);
        x->call.stream->resume = NULL;
        pthread_mutex_unlock(&x->call.stream->lock);
        stream_abort(x->call.stream);
        stream_drop(x->call.stream);
    }
    buf_clear(&x->call.reply.body);
    buf_clear(&x->body);
    free(x->path);
    free(x);
    *slot = NULL;
}

void on_connection(void *ctx, struct MHD_Connection *conn, void **slot,
                   enum MHD_ConnectionNotificationCode what)
{
    (void)slot;
    struct http *h = ctx;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        watch_open(h->watch, socket_of(conn));
        atomic_fetch_add(&h->srv.metrics->connections, 1);
        atomic_fetch_add(&h->srv.metrics->connections_now, 1);
    } else {
        watch_close(h->watch, socket_of(conn));
        atomic_fetch_sub(&h->srv.metrics->connections_now, 1);
    }
}
