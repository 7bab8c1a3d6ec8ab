/* server/http.c - the only file that knows libmicrohttpd.
 *
 * One net thread parses, admits and writes. It is ours: it sleeps on the library's epoll descriptor
 * and calls MHD_run() when that is readable. (The library's own epoll thread takes events 128 at a
 * time, and after exactly 128 it waits for more, with the full time-out, before it looks at those
 * it has: version 0.9.75 stalls for seconds at 128, 256... busy connections. MHD_run() asks with
 * time-out zero. Its poll mode does not stall, but each wake-up costs time for every open
 * connection.) Suspended connections are not in the set, so idle streams cost nothing. A watcher
 * thread sees clients leave at once (EPOLLRDHUP) and sends pings to quiet event streams.
 *
 *   on_request (first call): Host, key, route, queue room, length -> refuse before the body
 *   on_request (body pieces): collected up to max_body
 *   on_request (end): handler -> reply, or stream attached -> suspended until there is something
 *   on_completed: everything of the exchange is released
 */
#include "server/http.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "server/auth.h"
#include "server/serve.h"
#include "server/watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 4096,
    CONNECTION_MEMORY = 32 << 10, /* the library clears all of it after each request */
    IDLE_TIMEOUT_S = 90,
    LINGER_S = 2 /* replies under way when the server stops */
};
#define MAX_BODY_DEFAULT ((uint64_t)8 << 20)

enum net_phase { NET_SERVE, NET_QUIET /* accepts nobody new */, NET_END };

struct http {
    struct server srv;
    struct auth auth;
    const char *cors_origin;
    uint64_t max_body;
    struct MHD_Daemon *daemon;
    int net_fd; /* wakes the net thread */
    struct watch *watch;
    pthread_t net;
    bool serving;
    atomic_int net_phase;  /* enum net_phase; the net thread follows */
    atomic_bool net_woken; /* a wake-up lies in net_fd: streams of one step share it */
    atomic_ullong next_id;
    uint64_t id_salt;
};

/* One exchange. */
struct exchange {
    struct http *http;
    struct call call;
    const struct route *route;
    struct buf body;
    char *path;
    bool refused, too_large, handled, queued, bad_uri;
    int fd;
    uint64_t start_ns;
};

/* ---- requests ---- */

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

static struct exchange *exchange_new(struct http *h, struct MHD_Connection *conn, const char *url,
                                     const char *method)
{
    struct exchange *x = calloc(1, sizeof *x);
    char *path = x ? strdup(url) : NULL;
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

/* What two parsers could read differently: the way to smuggle a second request past a proxy. */
struct framing {
    unsigned host, length, coding;
    bool chunked, odd;
};

static bool is_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] <= ' ' || p[i] >= 127 || strchr("()<>@,;:\\\"/[]?={}", p[i]))
            return false;
    return n > 0;
}

static enum MHD_Result look_at_header(void *ctx, enum MHD_ValueKind kind, const char *name,
                                      size_t n_name, const char *value, size_t n_value)
{
    struct framing *f = ctx;
    (void)kind;
    (void)n_value; /* the library ends values at a NUL and tells the rest to nobody */
    f->odd |= !is_token(name, n_name);
    if (f->odd)
        return MHD_NO;
    f->host += strcasecmp(name, "Host") == 0;
    f->length += strcasecmp(name, "Content-Length") == 0;
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->coding++;
        f->chunked = value && strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

/* true: replied; the library closes the connection after it. */
static bool refuse_framing(struct exchange *x, const char *version)
{
    struct call *c = &x->call;
    struct framing f = { 0 };
    bool old = strcmp(version, "HTTP/1.0") == 0;
    if (!old && strcmp(version, "HTTP/1.1") != 0) {
        reply_error(c, 505, "version_not_supported", NULL, "HTTP/1.1 and HTTP/1.0 are spoken here");
        return true;
    }
    MHD_get_connection_values_n(c->conn, MHD_HEADER_KIND, look_at_header, &f);
    if (f.coding && (!f.chunked || f.coding > 1))
        reply_error(c, 501, "coding_not_supported", NULL, "Transfer-Encoding must be 'chunked'");
    else if (x->bad_uri || f.odd || f.host > 1 || (!f.host && !old) || f.length > 1 ||
             (f.length && f.coding))
        reply_error(c, 400, "bad_request", NULL,
                    "malformed request: one Host, at most one Content-Length or chunked, plain "
                    "header names, no NUL");
    else
        return false;
    return true;
}

/* Everything that can be refused before the body; true: a reply is ready. */
static bool refuse_early(struct exchange *x)
{
    struct call *c = &x->call;
    struct http *h = x->http;
    if (!auth_host_ok(&h->auth, call_header(c, "Host"))) {
        reply_error(c, 403, "host_not_allowed", NULL,
                    "the Host header names another machine; use 127.0.0.1 or localhost");
        return true;
    }
    if (c->method == METHOD_OPTIONS) {
        c->reply.status = 204;
        return true;
    }
    if (!auth_origin_ok(&h->auth, call_header(c, "Origin"), call_header(c, "Host"),
                        h->cors_origin)) {
        reply_error(c, 403, "origin_not_allowed", NULL,
                    "pages of this origin may not call the server (--cors-origin lets one in)");
        return true;
    }
    x->route = route_find(c);
    if (!x->route)
        return true;
    if (!(x->route->flags & ROUTE_OPEN) &&
        !auth_allows(&h->auth, call_header(c, "Authorization"))) {
        reply_error(c, 401, "invalid_api_key", NULL,
                    "a valid API key is needed (Authorization: Bearer KEY)");
        return true;
    }
    if (x->route->flags & ROUTE_GENERATES) {
        if (atomic_load(&h->srv.draining)) {
            reply_error(c, 503, "shutting_down", NULL, "the server is shutting down");
            return true;
        }
        if (h->srv.engine && !engine_has_room(h->srv.engine)) {
            atomic_fetch_add(&h->srv.metrics->rejected_busy, 1);
            reply_error(c, 429, "queue_full", NULL,
                        "the queue of %u requests is full, try again later",
                        engine_info(h->srv.engine)->queue_max);
            return true;
        }
    }
    const char *length = call_header(c, "Content-Length");
    if (length && strtoull(length, NULL, 10) > h->max_body) {
        reply_error(c, 413, "body_too_large", NULL, "the body is larger than %llu bytes",
                    (unsigned long long)h->max_body);
        return true;
    }
    return false;
}

static void collect(struct exchange *x, const char *data, size_t n)
{
    if (x->body.n + n > x->http->max_body)
        x->too_large = true;
    else
        buf_put(&x->body, data, n);
}

static void handle(struct exchange *x)
{
    struct call *c = &x->call;
    if (x->too_large) {
        reply_error(c, 413, "body_too_large", NULL, "the body is larger than %llu bytes",
                    (unsigned long long)x->http->max_body);
        return;
    }
    c->body = buf_view(&x->body);
    if (x->body.failed)
        reply_error(c, 500, "internal", NULL, "out of memory");
    else
        x->route->handler(c);
}

/* ---- replies ---- */

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

static enum MHD_Result send_plain(struct exchange *x)
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

static void net_wake(struct http *h)
{
    uint64_t one = 1;
    if (!atomic_exchange(&h->net_woken, true) && write(h->net_fd, &one, sizeof one) < 0)
        log_line(LOG_WARN, "http", NULL, "wake failed", "errno=%d", errno);
}

/* The library does not wake a loop that is not its own. */
static void resume_connection(void *ctx)
{
    struct exchange *x = ctx;
    MHD_resume_connection(x->call.conn);
    net_wake(x->http);
}

static ssize_t read_stream(void *ctx, uint64_t pos, char *out, size_t max)
{
    (void)pos;
    struct exchange *x = ctx;
    long n = stream_take(x->call.stream, out, max);
    if (n > 0) {
        metrics_time(&x->http->srv.metrics->to_socket, (double)x->call.stream->waited_ns / 1e9);
        return n;
    }
    if (n == 0) {
        MHD_suspend_connection(x->call.conn);
        return 0;
    }
    return n == -1 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result send_stream(struct exchange *x)
{
    struct MHD_Response *m =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, x, NULL);
    if (!m)
        return MHD_NO;
    common_headers(x, m);
    MHD_add_response_header(m, "Content-Type", "text/event-stream; charset=utf-8");
    MHD_add_response_header(m, "Cache-Control", "no-cache, no-transform");
    MHD_add_response_header(m, "X-Accel-Buffering", "no");
    enum MHD_Result ok = MHD_queue_response(x->call.conn, 200, m);
    MHD_destroy_response(m);
    x->queued = true;
    metrics_reply(x->http->srv.metrics, 200, (struct str){ "", 0 });
    return ok;
}

/* A stream that is one body: all of it is there now. */
static enum MHD_Result send_whole(struct exchange *x)
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
        metrics_reply(c->srv->metrics, status, STR("generation failed"));
        if (status == 429 || status == 503)
            snprintf(c->reply.retry_after, sizeof c->reply.retry_after, "1");
    }
    reply_buf(c, status ? status : 200, &all);
    return send_plain(x);
}

/* ---- libmicrohttpd's callbacks ---- */

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

static void *on_uri(void *ctx, const char *uri, struct MHD_Connection *conn)
{
    (void)ctx, (void)conn;
    return strstr(uri, "%00") ? &bad_uri : NULL;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *conn, const char *url,
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

static void on_completed(void *ctx, struct MHD_Connection *conn, void **slot,
                         enum MHD_RequestTerminationCode how)
{
    (void)ctx, (void)conn;
    struct exchange *x = *slot;
    if (!x || x == &bad_uri)
        return;
    log_exchange(x, how);
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

static void on_connection(void *ctx, struct MHD_Connection *conn, void **slot,
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

static void on_mhd_log(void *ctx, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
static void on_mhd_log(void *ctx, const char *fmt, va_list ap)
{
    char text[300];
    (void)ctx;
    vsnprintf(text, sizeof text, fmt, ap);
    log_line(LOG_DEBUG, "http", NULL, "libmicrohttpd", "text=\"%s\"", text);
}

/* ---- life ---- */

static volatile sig_atomic_t asked_to_stop; /* set by the signal handler, read by serve_run() */

static void on_signal(int sig)
{
    asked_to_stop = sig;
}

static int bind_socket(const char *host, uint16_t port, char *name, size_t n_name, struct err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE };
    struct addrinfo *list = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    int e = getaddrinfo(host, service, &hints, &list);
    if (e) {
        err_set(err, e == EAI_MEMORY ? ST_NOMEM : ST_ARG, "--host %s: %s", host, gai_strerror(e));
        return -1;
    }
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_storage at = { 0 };
    socklen_t n = sizeof at;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &n) != 0) {
        err_sys(err, errno, "bind");
        err_ctx(err, "address %s port %u", host, port);
        if (fd >= 0)
            close(fd);
        freeaddrinfo(list);
        return -1;
    }
    char address[80] = "", bound[8] = "";
    getnameinfo((struct sockaddr *)&at, n, address, sizeof address, bound, sizeof bound,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(name, n_name, at.ss_family == AF_INET6 ? "http://[%s]:%s" : "http://%s:%s", address,
             bound);
    freeaddrinfo(list);
    return fd;
}

/* How long the net thread may sleep, milliseconds; -1: until something happens. */
static int net_wait_ms(struct http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(h->daemon, &ms) != MHD_YES)
        return -1;
    return ms < 60000 ? (int)ms : 60000;
}

static void *net_main(void *arg)
{
    struct http *h = arg;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd p[2] = { { .fd = info->epoll_fd, .events = POLLIN },
                           { .fd = h->net_fd, .events = POLLIN } };
    bool quiet = false;
    for (;;) {
        int phase = atomic_load(&h->net_phase);
        if (phase == NET_END)
            return NULL;
        if (phase == NET_QUIET && !quiet) {
            MHD_quiesce_daemon(h->daemon);
            quiet = true;
        }
        if (poll(p, 2, net_wait_ms(h)) > 0 && p[1].revents) {
            uint64_t n; /* the flag falls before MHD_run() looks for resumed connections */
            if (read(h->net_fd, &n, sizeof n) < 0 && errno != EAGAIN)
                log_line(LOG_WARN, "http", NULL, "wake-up not read", "errno=%d", errno);
            atomic_store(&h->net_woken, false);
        }
        MHD_run(h->daemon);
    }
}

static void net_enter(struct http *h, enum net_phase phase)
{
    atomic_store(&h->net_phase, (int)phase);
    net_wake(h);
}

static void on_tick(void *ctx)
{
    struct http *h = ctx;
    events_tick(&h->srv);
}

static enum status start(struct http *h, int fd, struct err *err)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max < CONNECTIONS_MAX * 2 ? lim.rlim_max : CONNECTIONS_MAX * 2;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    h->net_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->net_fd < 0)
        return err_sys(err, errno, "eventfd");
    if (watch_create(CONNECTIONS_MAX * 2, on_tick, h, &h->srv.metrics->cancelled_by_client,
                     &h->watch, err) != ST_OK)
        return err->code;
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, h,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
    if (!h->daemon)
        return err_set(err, ST_IO, "the HTTP server does not start");
    int e = pthread_create(&h->net, NULL, net_main, h);
    if (e)
        return err_sys(err, e, "pthread_create");
    h->serving = true;
    return ST_OK;
}

/* No new work; running requests get up to `seconds`. A second signal ends the wait. */
static void drain(struct http *h, uint32_t seconds)
{
    atomic_store(&h->srv.draining, true);
    asked_to_stop = 0;
    if (!h->srv.engine)
        return;
    engine_drain(h->srv.engine);
    uint64_t end = clock_ns() + (uint64_t)seconds * 1000000000u;
    while (!engine_idle(h->srv.engine) && clock_ns() < end && !asked_to_stop)
        poll(NULL, 0, 20);
    poll(NULL, 0, 100); /* the last bytes on their way out */
}

/* All connections must be awake before libmicrohttpd stops. */
static void stop(struct http *h, int listen_fd)
{
    if (h->serving) {
        net_enter(h, NET_QUIET);
        watch_abort_all(h->watch);
        poll(NULL, 0, 50);
        watch_abort_all(h->watch); /* those that were just being attached */
        net_enter(h, NET_END);
        pthread_join(h->net, NULL);
    }
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    watch_free(h->watch);
    if (listen_fd >= 0)
        close(listen_fd);
    if (h->net_fd >= 0)
        close(h->net_fd);
}

static enum status check_exposure(const struct serve_opts *o, struct http *h, const char *host,
                                  struct err *err)
{
    if (o->api_key_file && auth_load(&h->auth, o->api_key_file, err) != ST_OK)
        return err->code;
    h->auth.loopback = auth_is_loopback(host);
    if (!h->auth.loopback && h->auth.n == 0)
        return err_set(err, ST_ARG,
                       "--host %s is reachable from other machines: give --api-key-file FILE",
                       host);
    return ST_OK;
}

enum status serve_run(const struct serve_opts *o, struct engine *engine, struct err *err)
{
    const char *host = o->host ? o->host : "127.0.0.1";
    char name[120];
    int fd = -1;
    struct http *h = calloc(1, sizeof *h);
    struct metrics *m = calloc(1, sizeof *m);
    if (!h || !m) {
        free(h);
        free(m);
        return err_set(err, ST_NOMEM, "server");
    }
    metrics_init(m);
    h->srv = (struct server){
        .engine = engine, .metrics = m, .static_dir = o->static_dir, .started = clock_unix_s()
    };
    pthread_mutex_init(&h->srv.list_lock, NULL);
    h->max_body = o->max_body ? o->max_body : MAX_BODY_DEFAULT;
    h->cors_origin = o->cors_origin;
    h->net_fd = -1;
    h->id_salt = clock_ns() ^ (uint64_t)getpid() << 40;
    struct sigaction sa = { .sa_handler = on_signal };
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    if (check_exposure(o, h, host, err) == ST_OK &&
        (fd = bind_socket(host, o->port, name, sizeof name, err)) >= 0 &&
        start(h, fd, err) == ST_OK) {
        printf("listening on %s\n", name);
        fflush(stdout);
        while (!asked_to_stop)
            poll(NULL, 0, 200); /* a signal ends the wait at once */
        log_line(LOG_INFO, "http", NULL, "draining", "grace_s=%u", o->drain_s ? o->drain_s : 30);
        drain(h, o->drain_s ? o->drain_s : 30);
    }
    stop(h, fd);
    auth_clear(&h->auth);
    pthread_mutex_destroy(&h->srv.list_lock);
    pthread_mutex_destroy(&m->lock);
    free(h);
    free(m);
    return err->code;
}
