/* tests/bench/recsys/http_bench.c - the recommender over HTTP, as a client on the same machine sees
 * it; http.sh starts the server.
 *   http_bench make DIR [--items N] [--users N] [--k N]     fills DIR/recsys: a model, its events
 *   http_bench PORT [--users N] [--items N] [--rate R] [--seconds S] [--ingest E] [--batch B]
 * Requests are offered at a fixed rate whether or not answers come (open loop), on kept
 * connections; a latency runs from the moment at which a request was due, so one that waits for
 * a free connection or a late client waits on the clock. Events go in batches with an
 * Idempotency-Key over two connections, E a second (0: as fast as they are acknowledged). One line
 * for each load; with --pid, the share of a core that the server used, and below the loads with
 * events beside: for each thread the share of a core that it had, that it waited for one, and how
 * often it was put aside or slept, a second (a wait for a core is the machine's, not the server's).
 * --brief 1: only what readers see beside events. */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/base/turns.h"
#include "tests/bench/recsys/bench_model.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNS = 64,
    REPLY_MAX = 1 << 18,
    EVENTS_AT_ONCE = 64,
    INGEST_CONNS = 2,
    CLIENT_SLICE_NS = 100000
};

static uint16_t port;
static uint64_t server_pid;

static void die(const char *what)
{
    fprintf(stderr, "http_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void send_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            die("write");
        p += k;
        n -= (size_t)k;
    }
}

/* Length of the whole reply at p, 0: not all of it is there. Ends the program unless it is 200. */
static size_t reply_length(const char *p, size_t n)
{
    const char *end = memmem(p, n, "\r\n\r\n", 4), *len;
    if (!end)
        return 0;
    if (strncmp(p, "HTTP/1.1 200", 12) != 0) {
        fprintf(stderr, "http_bench: refused: %.*s\n", (int)n, p);
        exit(1);
    }
    len = memmem(p, (size_t)(end - p), "ontent-Length: ", 15);
    if (!len) {
        fprintf(stderr, "http_bench: a reply without Content-Length\n");
        exit(1);
    }
    size_t whole = (size_t)(end + 4 - p) + strtoul(len + 15, NULL, 10);
    return whole <= n ? whole : 0;
}

/* ---- requests at a rate ---- */

struct conn {
    int fd;
    size_t n;
    uint64_t due; /* of the request that runs; 0: idle */
    char buf[REPLY_MAX];
};

struct load {
    const char *path; /* with %llu for the user, or plain */
    double rate, seconds;
    uint64_t users;
    double *ms;
    uint64_t sent, done, total;
    uint64_t start, step;
    struct conn *conn;
    struct rng rng;
};

static void begin(struct load *l, struct conn *c)
{
    char path[160], text[320];
    snprintf(path, sizeof path, "%s", l->path);
    if (l->users)
        snprintf(path, sizeof path, "/api/recsys/users/u%llu/recommend?n=20",
                 (unsigned long long)rng_below(&l->rng, l->users));
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    c->due = l->start + l->sent++ * l->step;
    c->n = 0;
    send_all(c->fd, text, (size_t)n);
}

static void take(struct load *l, struct conn *c)
{
    ssize_t n = read(c->fd, c->buf + c->n, sizeof c->buf - c->n);
    if (n <= 0)
        die("read");
    c->n += (size_t)n;
    if (!reply_length(c->buf, c->n))
        return;
    l->ms[l->done++] = (double)(clock_ns() - c->due) / 1e6;
    c->due = 0;
}

/* All that are due go out, as far as connections are idle. */
static void send_due(struct load *l)
{
    uint64_t now = clock_ns();
    for (unsigned i = 0; i < CONNS && l->sent < l->total && l->start + l->sent * l->step <= now;
         i++)
        if (!l->conn[i].due)
            begin(l, &l->conn[i]);
}

static void offer(struct load *l)
{
    int ep = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct epoll_event in = { .events = EPOLLIN }, got[EVENTS_AT_ONCE];
    turns_short(CLIENT_SLICE_NS); /* a client elsewhere has a core of its own */
    l->conn = calloc(CONNS, sizeof *l->conn);
    l->total = (uint64_t)(l->rate * l->seconds);
    l->ms = calloc(l->total + 1, sizeof *l->ms);
    l->step = (uint64_t)(1e9 / l->rate);
    l->rng = (struct rng){ 5 };
    if (ep < 0 || timer < 0 || !l->conn || !l->ms)
        die("start");
    for (unsigned i = 0; i < CONNS; i++) {
        l->conn[i].fd = dial();
        in.data.u32 = i;
        epoll_ctl(ep, EPOLL_CTL_ADD, l->conn[i].fd, &in);
    }
    in.data.u32 = CONNS;
    epoll_ctl(ep, EPOLL_CTL_ADD, timer, &in);
    l->start = clock_ns() + 50000000;
    while (l->done < l->total) {
        uint64_t due = l->start + l->sent * l->step, now = clock_ns();
        uint64_t wait = l->sent >= l->total ? 1000000000 : due > now ? due - now : 1;
        struct itimerspec at = { .it_value = { (time_t)(wait / 1000000000),
                                               (long)(wait % 1000000000) } };
        timerfd_settime(timer, 0, &at, NULL);
        int k = epoll_wait(ep, got, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < k; i++)
            if (got[i].data.u32 < CONNS)
                take(l, &l->conn[got[i].data.u32]);
        send_due(l);
    }
    for (unsigned i = 0; i < CONNS; i++)
        close(l->conn[i].fd);
    close(timer);
    close(ep);
    free(l->conn);
}

/* Seconds of processor time of the server so far; 0: not asked. */
static double server_cpu(void)
{
    char path[40], text[1024];
    unsigned long user = 0, sys = 0;
    snprintf(path, sizeof path, "/proc/%llu/stat", (unsigned long long)server_pid);
    FILE *f = server_pid ? fopen(path, "r") : NULL;
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    const char *at = strrchr(text, ')');
    for (int i = 0; at && i < 12; i++)
        at = strchr(at + 1, ' ');
    if (at) {
        char *end;
        user = strtoul(at, &end, 10);
        sys = strtoul(end, NULL, 10);
    }
    if (f)
        fclose(f);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

/* ---- threads of the server ---- */

enum { THREADS_MAX = 64 };
struct thread {
    char id[16], name[20];
    double ran_s, waited_s;
    uint64_t turns;
};
struct threads {
    struct thread at[THREADS_MAX];
    unsigned n;
};

static bool slurp(char *out, size_t max, const char *id, const char *what)
{
    char path[80];
    snprintf(path, sizeof path, "/proc/%llu/task/%.15s/%s", (unsigned long long)server_pid, id,
             what);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(out, 1, max - 1, f) : 0;
    out[n] = '\0';
    if (f)
        fclose(f);
    return n > 0;
}

static void look(struct threads *ret)
{
    char path[40], text[120];
    ret->n = 0;
    snprintf(path, sizeof path, "/proc/%llu/task", (unsigned long long)server_pid);
    DIR *d = server_pid ? opendir(path) : NULL;
    for (const struct dirent *e; d && (e = readdir(d)) && ret->n < THREADS_MAX;) {
        struct thread *t = &ret->at[ret->n];
        snprintf(t->id, sizeof t->id, "%.15s", e->d_name);
        if (e->d_name[0] == '.' || !slurp(t->name, sizeof t->name, t->id, "comm") ||
            !slurp(text, sizeof text, t->id, "schedstat"))
            continue;
        char *end;
        t->name[strcspn(t->name, "\n")] = '\0';
        t->ran_s = (double)strtoull(text, &end, 10) / 1e9;
        t->waited_s = (double)strtoull(end, &end, 10) / 1e9;
        t->turns = strtoull(end, NULL, 10);
        ret->n++;
    }
    if (d)
        closedir(d);
}

static void print_threads(const struct threads *before, double seconds)
{
    struct threads now;
    look(&now);
    for (unsigned i = 0; i < now.n; i++)
        for (unsigned j = 0; j < before->n; j++) {
            const struct thread *a = &before->at[j], *b = &now.at[i];
            if (strcmp(a->id, b->id) == 0 && b->ran_s - a->ran_s > 0.01 * seconds)
                printf("  %-16s had %.2f of a core, waited for one %.2f, %.0f turns/s\n", b->name,
                       (b->ran_s - a->ran_s) / seconds, (b->waited_s - a->waited_s) / seconds,
                       (double)(b->turns - a->turns) / seconds);
        }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *v, uint64_t n, double q)
{
    uint64_t at = (uint64_t)(q * (double)n + 0.999999);
    return n ? v[at ? at - 1 : 0] : 0;
}

static void print_load(struct load *l, const char *name, double cores, double events)
{
    qsort(l->ms, l->done, sizeof *l->ms, by_value);
    printf("%-34s %9.0f %9.3f %9.3f %9.3f %9.3f %9.2f", name, l->rate,
           quantile(l->ms, l->done, 0.5), quantile(l->ms, l->done, 0.99),
           quantile(l->ms, l->done, 0.999), quantile(l->ms, l->done, 1), cores);
    printf(events > 0 ? " %11.0f\n" : "\n", events);
    fflush(stdout);
    free(l->ms);
}

/* ---- events ---- */

struct ingest {
    const struct bench_setting *s;
    double rate, seconds; /* events a second, 0: as many as go in; */
    struct buf *body;     /* [n_body] requests, made before the clock starts */
    uint64_t n_body;
    double per_second;
    uint64_t done;
    double worst_ms;
};

static void make_bodies(struct ingest *g, uint64_t round)
{
    struct rng r = { 11 + round };
    double most = g->rate > 0 ? g->rate * g->seconds : 150000 * g->seconds;
    g->n_body = (uint64_t)(most / (double)g->s->batch) + 1;
    g->body = calloc(g->n_body, sizeof *g->body);
    for (uint64_t i = 0; g->body && i < g->n_body; i++) {
        struct buf b = BUF_INIT;
        bench_batch(&b, &r, g->s, g->s->batch,
                    1.7e9 + (double)(round * 1000000) + (double)(i * g->s->batch) * 0.01);
        buf_printf(&g->body[i],
                   "POST /api/recsys/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
                   "text/tab-separated-values\r\nIdempotency-Key: r%llu-%llu\r\nContent-Length: "
                   "%zu\r\n\r\n",
                   (unsigned long long)round, (unsigned long long)i, b.n);
        buf_str(&g->body[i], buf_view(&b));
        buf_clear(&b);
    }
}

/* Two connections, a batch on each: one is parsed while the other is made durable. */
static void *ingest_all(void *arg)
{
    struct ingest *g = arg;
    int fd[INGEST_CONNS];
    char *reply = malloc(REPLY_MAX);
    uint64_t began[INGEST_CONNS] = { 0 }, start = clock_ns();
    for (int i = 0; i < INGEST_CONNS; i++)
        fd[i] = dial();
    uint64_t sent = 0, stop = start + (uint64_t)(g->seconds * 1e9);
    for (; reply; g->done++) {
        uint64_t now = clock_ns();
        while (sent < g->n_body && sent < g->done + INGEST_CONNS && now < stop) {
            uint64_t due = g->rate > 0
                               ? start + (uint64_t)((double)(sent * g->s->batch) * 1e9 / g->rate)
                               : now;
            if (due > now) {
                if (sent > g->done)
                    break;
                nanosleep(&(struct timespec){ .tv_nsec = (long)(due - now) }, NULL);
            }
            now = clock_ns();
            began[sent % INGEST_CONNS] = due > now ? now : due;
            send_all(fd[sent % INGEST_CONNS], g->body[sent].p, g->body[sent].n);
            sent++;
        }
        if (g->done == sent)
            break;
        for (size_t n = 0; !reply_length(reply, n);) {
            ssize_t k = read(fd[g->done % INGEST_CONNS], reply + n, REPLY_MAX - n);
            if (k <= 0)
                die("read");
            n += (size_t)k;
        }
        double ms = (double)(clock_ns() - began[g->done % INGEST_CONNS]) / 1e6;
        g->worst_ms = ms > g->worst_ms ? ms : g->worst_ms;
    }
    g->per_second = (double)(g->done * g->s->batch) / ((double)(clock_ns() - start) / 1e9);
    for (int i = 0; i < INGEST_CONNS; i++)
        close(fd[i]);
    free(reply);
    return NULL;
}

static void drop_bodies(struct ingest *g)
{
    for (uint64_t i = 0; i < g->n_body; i++)
        buf_clear(&g->body[i]);
    free(g->body);
}

/* ---- the table ---- */

static void run_load(const char *name, struct load l, struct ingest *beside, uint64_t round)
{
    pthread_t t;
    if (beside) {
        make_bodies(beside, round);
        if (pthread_create(&t, NULL, ingest_all, beside) != 0)
            die("thread");
    }
    struct threads before;
    double cpu = server_cpu();
    uint64_t start = clock_ns();
    look(&before);
    offer(&l);
    double seconds = clock_ms_since(start) / 1e3, cores = (server_cpu() - cpu) / seconds;
    if (beside) {
        pthread_join(t, NULL);
        drop_bodies(beside);
    }
    print_load(&l, name, cores, beside ? beside->per_second : 0);
    if (beside)
        print_threads(&before, seconds);
}

static void run_brief(const struct bench_setting *s, double rate, double seconds, double events)
{
    struct load ask = { .path = "", .rate = rate, .seconds = seconds, .users = s->users };
    struct load warm = ask, live = { .path = "/health/live", .rate = rate, .seconds = seconds };
    struct ingest other = { .s = s, .rate = events, .seconds = seconds }, again = other;
    warm.seconds = (double)s->users * 1.5 / rate;
    run_load("recommend, lists are being made", warm, NULL, 0);
    run_load("/health/live, events beside", live, &other, 2);
    run_load("recommend, events beside", ask, &again, 3);
}

static void run_all(const struct bench_setting *s, double rate, double seconds, double events)
{
    struct load live = { .path = "/health/live", .rate = rate, .seconds = seconds };
    struct load ask = { .path = "", .rate = rate, .seconds = seconds, .users = s->users };
    struct ingest alone = { .s = s, .seconds = seconds };
    struct ingest paced = { .s = s, .rate = events, .seconds = seconds };
    struct ingest flood = { .s = s, .seconds = seconds };
    run_load("/health/live (the stated limit)", live, NULL, 0);
    struct load warm = ask;
    warm.seconds = (double)s->users * 1.5 / rate;
    run_load("recommend, lists are being made", warm, NULL, 0);
    run_load("recommend", ask, NULL, 0);
    make_bodies(&alone, 1);
    double cpu = server_cpu();
    ingest_all(&alone);
    drop_bodies(&alone);
    printf("%-34s %9s %9s %9s %9s %9.3f %9.2f %11.0f\n", "events alone, durable", "", "", "", "",
           alone.worst_ms,
           (server_cpu() - cpu) * alone.per_second / (double)(alone.done * s->batch),
           alone.per_second);
    run_load("/health/live, events beside", live, &paced, 2);
    struct ingest again = { .s = s, .rate = events, .seconds = seconds };
    run_load("recommend, events beside", ask, &again, 3);
    run_load("recommend, as many events as go in", ask, &flood, 4);
}

static uint64_t option(int argc, char **argv, const char *name, uint64_t other)
{
    struct err err = ERR_INIT;
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0 &&
            num_u64(str_c(argv[i + 1]), name, 0, UINT32_MAX, &other, &err) != ST_OK) {
            fprintf(stderr, "%s\n", err.msg);
            exit(2);
        }
    return other;
}

static void must(struct err *err)
{
    if (err->code == ST_OK)
        return;
    fprintf(stderr, "http_bench: %s\n", err->msg);
    exit(1);
}

static void make(const char *dir, const struct bench_setting *s)
{
    char path[FILE_PATH_MAX], id[RECSYS_ID_MAX];
    struct err err = ERR_INIT;
    struct recsys *r;
    struct recsys_opts o = { .dir = path, .no_fold = true };
    struct recsys_ask use = { .verb = RECSYS_ACTIVATE };
    struct rng rng = { 3 };
    snprintf(path, sizeof path, "%s/recsys", dir);
    recsys_open(&o, &r, &err);
    must(&err);
    struct rmodel *m = bench_model(s);
    recsys_save(r, m, NULL, id, &err);
    must(&err);
    rmodel_free(m);
    snprintf(use.model, sizeof use.model, "%s", id);
    recsys_do(r, &use);
    must(&use.err);
    for (uint64_t i = 0; i < s->users * 20; i += 10000) {
        struct recsys_ask a = { .verb = RECSYS_EVENTS, .format = BATCH_TSV };
        bench_batch(&a.body, &rng, s, 10000, 1.699e9 + (double)i * 0.01);
        recsys_do(r, &a);
        must(&a.err);
        buf_clear(&a.body);
    }
    recsys_close(r);
}

int main(int argc, char **argv)
{
    struct bench_setting s = { .items = option(argc, argv, "--items", 100000),
                               .users = option(argc, argv, "--users", 20000),
                               .k = option(argc, argv, "--k", 64),
                               .batch = option(argc, argv, "--batch", 1000) };
    if (argc > 2 && strcmp(argv[1], "make") == 0) {
        make(argv[2], &s);
        return 0;
    }
    struct err err = ERR_INIT;
    uint64_t p;
    if (argc < 2 || num_u64(str_c(argv[1]), "PORT", 1, 65535, &p, &err) != ST_OK) {
        fprintf(stderr, "usage: http_bench make DIR | http_bench PORT [options]\n");
        return 2;
    }
    port = (uint16_t)p;
    server_pid = option(argc, argv, "--pid", 0);
    printf("%-34s %9s %9s %9s %9s %9s %9s %11s\n", "load", "req/s", "p50 ms", "p99 ms", "p99.9 ms",
           "max ms", "cores", "events/s");
    (option(argc, argv, "--brief", 0) ? run_brief : run_all)(
        &s, (double)option(argc, argv, "--rate", 2000), (double)option(argc, argv, "--seconds", 20),
        (double)option(argc, argv, "--ingest", 60000));
    return 0;
}
