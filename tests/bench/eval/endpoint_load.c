/* tests/bench/eval/endpoint_load.c - the least that a client of tests/support/mock_llm can do: W
 * kept connections in one epoll, each sends the same request again as soon as its answer is there.
 * What it reaches is what mock, kernel and machine allow; the runner is compared with it.
 *
 *   endpoint_load PORT WINDOW COUNT [BYTES]      prints "rate=R"
 *   endpoint_load watch COMMAND...               runs it; prints "rss_peak_kb=N" on stderr */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW_MAX = 1024, BODY_BYTES = 5000 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "endpoint_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char *make_request(size_t bytes, size_t *n)
{
    static const char head[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"",
                      tail[] = "\"}]}";
    char *r = malloc(bytes + 600);
    if (!r)
        die("memory");
    size_t body = sizeof head - 1 + bytes + sizeof tail - 1;
    int k = snprintf(r, 600,
                     "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                     "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     body, head);
    memset(r + k, 'x', bytes);
    memcpy(r + k + bytes, tail, sizeof tail - 1);
    *n = (size_t)k + bytes + sizeof tail - 1;
    return r;
}

static int join(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        die("connecting");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void load(int port, int window, long count, size_t bytes)
{
    size_t n;
    char *request = make_request(bytes, &n), answer[65536];
    int ep = epoll_create1(EPOLL_CLOEXEC);
    long sent = 0, got = 0;
    double start = now_s();
    for (int i = 0; i < window && sent < count; i++, sent++) {
        struct epoll_event ev = { .events = EPOLLIN, .data.fd = join(port) };
        if (epoll_ctl(ep, EPOLL_CTL_ADD, ev.data.fd, &ev) != 0 ||
            write(ev.data.fd, request, n) != (ssize_t)n)
            die("sending");
    }
    while (got < count) {
        struct epoll_event ev[WINDOW_MAX];
        int k = epoll_wait(ep, ev, WINDOW_MAX, 5000);
        if (k <= 0)
            die("the mock does not answer");
        for (int i = 0; i < k; i++) { /* an answer is one small segment */
            if (read(ev[i].data.fd, answer, sizeof answer) <= 0)
                die("reading");
            got++;
            if (sent < count && write(ev[i].data.fd, request, n) != (ssize_t)n)
                die("sending");
            sent += sent < count;
        }
    }
    printf("rate=%.1f\n", (double)count / (now_s() - start));
    free(request);
}

static int watch(char **argv)
{
    struct rusage u;
    int st = 0;
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        die(argv[0]);
    }
    if (pid < 0 || wait4(pid, &st, 0, &u) != pid)
        die("waiting");
    fprintf(stderr, "rss_peak_kb=%ld cpu_s=%.2f\n", u.ru_maxrss,
            (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 1;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "watch") == 0)
        return watch(argv + 2);
    long port = argc > 3 ? strtol(argv[1], NULL, 10) : 0,
         window = argc > 3 ? strtol(argv[2], NULL, 10) : 0,
         count = argc > 3 ? strtol(argv[3], NULL, 10) : 0,
         bytes = argc > 4 ? strtol(argv[4], NULL, 10) : BODY_BYTES;
    if (port < 1 || port > 65535 || window < 1 || window > WINDOW_MAX || count < 1 || bytes < 0 ||
        bytes > 1 << 20) {
        fprintf(stderr, "usage: endpoint_load PORT WINDOW COUNT [BYTES]\n");
        return 2;
    }
    load((int)port, (int)window, count, (size_t)bytes);
    return 0;
}
