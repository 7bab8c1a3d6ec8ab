/* tests/bench/stream_client.c - the client side of streams.sh: holds, reads or drops event streams
 * of a server on 127.0.0.1 and prints one JSON line. A client in a script would take the core that
 * the server is measured on.
 *
 *   stream_client PORT idle N            opens N streams, prints "open", holds them until stdin
 * ends stream_client PORT tokens N MAX      reads N streams of MAX tokens at once: gaps between
 * events stream_client PORT abort COUNT       closes a stream after its third event, COUNT times,
 * and asks /slots until no slot is busy */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 4000, GAPS_MAX = 1 << 20, ABORT_EVENTS = 3 };

struct stream {
    int fd;
    unsigned n_event; /* "data: " lines */
    size_t n_byte;
    int match; /* characters of "data: " seen */
    uint64_t last_ns;
};

static uint16_t port;
static double gap_ms[GAPS_MAX];
static size_t n_gap;

static void die(const char *what)
{
    fprintf(stderr, "stream_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
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

static void send_all(int fd, const char *text)
{
    for (size_t n = strlen(text); n;) {
        ssize_t k = write(fd, text, n);
        if (k <= 0)
            die("write");
        text += k;
        n -= (size_t)k;
    }
}

static struct stream ask(unsigned seed, unsigned max_tokens)
{
    char body[256], text[512];
    snprintf(body, sizeof body,
             "{\"prompt\":\"Once upon a time\",\"max_tokens\":%u,\"seed\":%u,\"stream\":true,"
             "\"ignore_eos\":true}",
             max_tokens, seed);
    snprintf(text, sizeof text,
             "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    struct stream s = { .fd = dial() };
    send_all(s.fd, text);
    return s;
}

/* Counts what came; false: the peer has ended the stream. */
static bool take(struct stream *s)
{
    static const char mark[] = "data: ";
    char buf[65536];
    ssize_t n = read(s->fd, buf, sizeof buf);
    uint64_t now = now_ns();
    if (n < 0)
        die("read");
    if (s->n_byte == 0 && n && strncmp(buf, "HTTP/1.1 200", 12) != 0) {
        fprintf(stderr, "stream_client: refused: %.*s\n", (int)n, buf);
        exit(1);
    }
    s->n_byte += (size_t)n;
    for (ssize_t i = 0; i < n; i++) {
        s->match = buf[i] == mark[s->match] ? s->match + 1 : buf[i] == mark[0];
        if (mark[s->match])
            continue;
        s->match = 0;
        s->n_event++;
        if (s->last_ns && n_gap < GAPS_MAX)
            gap_ms[n_gap++] = (double)(now - s->last_ns) / 1e6;
        s->last_ns = now;
    }
    return n > 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts; the smallest value that is at least as large as the share q. */
static double quantile(double *v, size_t n, double q)
{
    qsort(v, n, sizeof *v, by_value);
    size_t at = (size_t)(q * (double)n + 0.999999);
    return n ? v[at ? at - 1 : 0] : 0;
}

/* Reads whatever comes until every stream has ended, or stdin has when `hold`. */
static void read_all(struct stream *s, unsigned n, bool hold)
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev[64], in = { .events = EPOLLIN };
    unsigned left = n;
    for (unsigned i = 0; i < n; i++) {
        in.data.u32 = i;
        if (epoll_ctl(ep, EPOLL_CTL_ADD, s[i].fd, &in) != 0)
            die("epoll");
    }
    in.data.u32 = n;
    if (hold && epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &in) != 0)
        die("epoll stdin");
    while (left) {
        int k = epoll_wait(ep, ev, 64, -1);
        for (int i = 0; i < k; i++) {
            if (ev[i].data.u32 == n) {
                close(ep);
                return;
            }
            struct stream *at = &s[ev[i].data.u32];
            if (!take(at)) {
                close(at->fd);
                left--;
            }
        }
    }
    close(ep);
}

static int idle(unsigned n)
{
    static struct stream s[STREAMS_MAX];
    for (unsigned i = 0; i < n; i++)
        s[i] = ask(i, 100000);
    for (unsigned i = 0; i < n; i++) /* the reply's head */
        take(&s[i]);
    printf("open\n");
    fflush(stdout);
    read_all(s, n, true);
    size_t bytes = 0;
    unsigned events = 0;
    for (unsigned i = 0; i < n; i++) {
        bytes += s[i].n_byte;
        events += s[i].n_event;
    }
    printf("{\"streams\":%u,\"bytes\":%zu,\"token_events\":%u}\n", n, bytes, events);
    return 0;
}

static int tokens(unsigned n, unsigned max)
{
    static struct stream s[STREAMS_MAX];
    uint64_t start = now_ns();
    unsigned events = 0;
    for (unsigned i = 0; i < n; i++)
        s[i] = ask(i, max);
    read_all(s, n, false);
    double seconds = (double)(now_ns() - start) / 1e9;
    for (unsigned i = 0; i < n; i++)
        events += s[i].n_event;
    printf("{\"streams\":%u,\"events\":%u,\"seconds\":%.3f,\"gap_p50_ms\":%.3f,\"gap_p99_ms\":%.3f,"
           "\"gap_max_ms\":%.3f}\n",
           n, events, seconds, quantile(gap_ms, n_gap, 0.5), quantile(gap_ms, n_gap, 0.99),
           quantile(gap_ms, n_gap, 1));
    return 0;
}

/* One GET /slots on a connection that is kept: is any slot busy? */
static bool busy(int fd)
{
    char buf[65536];
    size_t n = 0;
    send_all(fd, "GET /slots HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    for (;;) {
        ssize_t k = read(fd, buf + n, sizeof buf - 1 - n);
        if (k <= 0)
            die("read /slots");
        n += (size_t)k;
        buf[n] = '\0';
        const char *cut = strstr(buf, "\r\n\r\n"), *length = strstr(buf, "Content-Length: ");
        if (cut && length && strlen(cut + 4) >= strtoul(length + 16, NULL, 10))
            return strstr(cut, "\"is_processing\":true") != NULL;
    }
}

static int aborts(unsigned count)
{
    int side = dial();
    double *ms = calloc(count, sizeof *ms);
    if (!ms)
        die("memory");
    for (unsigned i = 0; i < count; i++) {
        struct stream s = ask(i, 100000);
        while (s.n_event < ABORT_EVENTS)
            if (!take(&s))
                die("the stream ended early");
        poll(NULL, 0, (int)(i * 7 % 50)); /* anywhere in a pass */
        if (!busy(side))
            die("the slot is not busy before the abort");
        uint64_t at = now_ns();
        close(s.fd);
        while (busy(side))
            poll(NULL, 0, 1);
        ms[i] = (double)(now_ns() - at) / 1e6;
    }
    printf("{\"aborts\":%u,\"free_p50_ms\":%.3f,\"free_p99_ms\":%.3f,\"free_max_ms\":%.3f,"
           "\"token_ms\":%.3f}\n",
           count, quantile(ms, count, 0.5), quantile(ms, count, 0.99), quantile(ms, count, 1),
           quantile(gap_ms, n_gap, 0.5));
    free(ms);
    close(side);
    return 0;
}

int main(int argc, char **argv)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    unsigned n = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    if (argc > 3)
        port = (uint16_t)strtoul(argv[1], NULL, 10);
    if (argc == 4 && strcmp(argv[2], "idle") == 0 && n > 0 && n <= STREAMS_MAX)
        return idle(n);
    if (argc == 5 && strcmp(argv[2], "tokens") == 0 && n > 0 && n <= STREAMS_MAX)
        return tokens(n, (unsigned)strtoul(argv[4], NULL, 10));
    if (argc == 4 && strcmp(argv[2], "abort") == 0 && n > 0)
        return aborts(n);
    fprintf(stderr, "usage: stream_client PORT idle N | tokens N MAX | abort COUNT\n");
    return 2;
}
