/* server/http_serve.c - socket, net thread, drain.
 *
 * One net thread parses, admits and writes. It is ours: it sleeps on the library's epoll descriptor
 * and calls MHD_run() when that is readable. (The library's own epoll thread takes events 128 at a
 * time, and after exactly 128 it waits for more, with the full time-out, before it looks at those
 * it has: version 0.9.75 stalls for seconds at 128, 256... busy connections. MHD_run() asks with
 * time-out zero. Its poll mode does not stall, but each wake-up costs time for every open
 * connection.) Suspended connections are not in the set, so idle streams cost nothing. A watcher
 * thread sees clients leave at once (EPOLLRDHUP) and sends pings to quiet event streams.
 */
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/num.h"
#include "engine/base/turns.h"
#include "server/duo_store.h"
#include "server/eval_feed.h"
#include "server/eval_job.h"
#include "server/eval_reader.h"
#include "server/http_parts.h"
#include "server/jobs.h"
#include "server/recsys_home.h"
#include "server/serve.h"

#include <errno.h>
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
    NET_SLICE_NS = 300000
};
#define MAX_BODY_DEFAULT ((uint64_t)8 << 20)

enum net_phase { NET_SERVE, NET_QUIET /* accepts nobody new */, NET_END };

void net_wake(struct http *h)
{
    uint64_t one = 1;
    if (!atomic_exchange(&h->net_woken, true) && write(h->net_fd, &one, sizeof one) < 0)
        log_line(LOG_WARN, "http", NULL, "wake failed", "errno=%d", errno);
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
    int e = turns_short(NET_SLICE_NS); /* without it a token waits a little longer */
    if (e)
        log_line(LOG_DEBUG, "http", NULL, "no short time slice", "errno=%d", e);
    pthread_setname_np(pthread_self(), "strobe-net"); /* top -H and the benchmarks tell it apart */
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

static bool at_rest(const struct server *s)
{
    return (!s->engine || engine_idle(s->engine)) && (!s->jobs || jobs_idle(s->jobs)) &&
           (!s->evals || eval_reader_idle(s->evals)) && atomic_load(&s->errands) == 0 &&
           atomic_load(&s->replies) == 0;
}

/* No new work; running requests get up to `seconds` until their last byte is sent, and so do jobs
 * to save where they are. A second signal ends the wait. */
static void drain(struct http *h, uint32_t seconds)
{
    atomic_store(&h->srv.draining, true);
    asked_to_stop = 0;
    if (h->srv.jobs)
        jobs_stop(h->srv.jobs);
    if (h->srv.engine)
        engine_drain(h->srv.engine);
    else if (at_rest(&h->srv))
        return;
    uint64_t end = clock_ns() + (uint64_t)seconds * 1000000000u;
    while (!at_rest(&h->srv) && clock_ns() < end && !asked_to_stop)
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

static void job_made(void *ctx, const struct job_kind *kind, const char *dir)
{
    const struct server *srv = ctx;
    struct err ignore = ERR_INIT;
    char path[FILE_PATH_MAX];
    if (strcmp(kind->name, "duo-trace") != 0)
        return;
    if (file_path(path, &ignore, "%s/trace.bin", dir) == ST_OK)
        duo_store_date(path);
    duo_store_trim(srv->data_dir, DUO_OF_JOBS, srv->duo_keep[DUO_OF_JOBS]);
}

/* The variable is for tests: another program than this one runs the jobs. */
static enum status start_jobs(const struct serve_opts *o, struct http *h, struct err *err)
{
    const char *program = getenv("STROBE_JOB_PROGRAM");
    struct jobs_opts jo = { .dir = o->data_dir,
                            .store = o->store,
                            .program = program,
                            .recsys = h->srv.recsys,
                            .made = job_made,
                            .made_ctx = &h->srv,
                            .n_worker = o->n_job,
                            .allow_paths = o->allow_paths,
                            .has_verb = program ? NULL : o->has_verb };
    eval_job_setup(h->srv.engine, o->data_dir, o->eval_store);
    if (!o->data_dir || jobs_create(&jo, &h->srv.jobs, err) != ST_OK ||
        eval_reader_create(o->data_dir, o->eval_store, &h->srv.evals, err) != ST_OK)
        return err->code;
    return eval_feed_create(o->data_dir, o->eval_store, &h->srv.eval_feed, err);
}

/* A recommender that cannot be opened (a damaged log, say) is told to those who ask for it; the
 * rest of the server works. The variable is for tests. */
static enum status start_recsys(const struct serve_opts *o, struct http *h, struct err *err)
{
    const char *bytes = getenv("STROBE_RECSYS_SEGMENT_BYTES");
    struct recsys_home_opts ro = { .data_dir = o->data_dir, .store = o->recsys_store };
    if (!o->data_dir || (bytes && num_u64(str_c(bytes), "STROBE_RECSYS_SEGMENT_BYTES", 0,
                                          UINT32_MAX, &ro.segment_bytes, err) != ST_OK))
        return err->code;
    return recsys_home_create(&ro, &h->srv.recsys, err);
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
    h->srv = (struct server){ .engine = engine,
                              .metrics = m,
                              .static_dir = o->static_dir,
                              .started = clock_unix_s(),
                              .data_dir = o->data_dir,
                              .duo_model = o->duo_model,
                              .allow_paths = o->allow_paths };
    for (int i = 0; i < DUO_HOMES; i++)
        h->srv.duo_keep[i] = duo_limit_of((enum duo_home)i, o->duo_keep[i]);
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
        start_recsys(o, h, err) == ST_OK && start_jobs(o, h, err) == ST_OK &&
        start(h, fd, err) == ST_OK) {
        printf("listening on %s\n", name);
        fflush(stdout);
        while (!asked_to_stop)
            poll(NULL, 0, 200); /* a signal ends the wait at once */
        log_line(LOG_INFO, "http", NULL, "draining", "grace_s=%u", o->drain_s ? o->drain_s : 30);
        drain(h, o->drain_s ? o->drain_s : 30);
    }
    stop(h, fd);
    while (atomic_load(&h->srv.errands) > 0) /* they look at `draining` often */
        poll(NULL, 0, 10);
    eval_feed_free(h->srv.eval_feed);
    eval_reader_free(h->srv.evals);
    jobs_free(h->srv.jobs);
    recsys_home_free(h->srv.recsys);
    auth_clear(&h->auth);
    pthread_mutex_destroy(&h->srv.list_lock);
    pthread_mutex_destroy(&m->lock);
    free(h);
    free(m);
    return err->code;
}
