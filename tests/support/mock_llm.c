/* tests/support/mock_llm.c - an OpenAI-compatible endpoint that misbehaves on demand: one epoll
 * thread, HTTP/1.1 with kept connections. Prints "listening on PORT"; ends when standard input
 * does.
 *
 *   mock_llm [--latency-ms N] [--log FILE] [--learn] [--batchy] [--die-after N] [FAULT...]
 *
 * The answer depends on the question alone: "The final answer is K." with K = FNV of the last user
 * text modulo 100. A FAULT is NAME[:EVERY]: the question whose hash is divisible by EVERY (default
 * 7) gets it on its first FIRST (2) attempts:
 *   500 503 429 hang drip cut html type reset twice empty quota   and always: poison (500), refuse
 *   (400)
 * --refuse-after N: every question by 400 from then on. --away-after N: once, nobody is there for
 * AWAY_MS.
 * --learn refuses max_tokens, temperature, stop and seed by 400, each by name. --batchy: another
 * answer while more than four questions are open. --log: a line per
 * question that was answered well: its hash. /stats tells {"requests", "answered", "peak"}. */
#include "engine/base/buf.h"
#include "engine/base/hash.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNS_MAX = 4096, SEEN_MAX = 1 << 16, FAULTS_MAX = 16, FIRST = 2, AWAY_MS = 200 };

struct conn {
    int fd;
    struct buf in;
    struct buf out;
    uint64_t due_ns; /* when the answer may be sent; 0: nothing is due */
    size_t sent;
    bool drip, close_after, reset_after, hang;
    struct conn *next_due, *prev_due;
};

static struct conn *conns[CONNS_MAX];
static struct conn *due_head, *due_tail;
static struct {
    char name[16];
    uint64_t every;
} faults[FAULTS_MAX];
static int n_fault;
static uint64_t seen_hash[SEEN_MAX];
static unsigned char seen_n[SEEN_MAX];
static uint64_t latency_ns, n_request, n_answered, n_open, peak, die_after, refuse_after,
    away_after, back_ns; /* away until then; 0: here */
static bool learn, batchy;
static FILE *answers;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* How often this question came before. */
static unsigned seen(uint64_t h)
{
    size_t i = h % SEEN_MAX;
    while (seen_hash[i] && seen_hash[i] != h)
        i = (i + 1) % SEEN_MAX;
    seen_hash[i] = h;
    return seen_n[i] < 255 ? seen_n[i]++ : 255;
}

/* Text behind the last "content":" or behind the last Q: of a prompt, still quoted. */
static struct str question_of(struct str body)
{
    const char *marks[] = { "\"role\":\"user\",\"content\":\"", "Q: " };
    for (size_t m = 0; m < 2; m++) {
        size_t last = SIZE_MAX;
        for (size_t at = 0; (at = str_find(body, str_c(marks[m]), at)) != SIZE_MAX; at++)
            last = at + strlen(marks[m]);
        if (last == SIZE_MAX)
            continue;
        size_t end = last;
        while (end < body.n && body.p[end] != '"' && strncmp(body.p + end, "\\nA:", 4) != 0)
            end += body.p[end] == '\\' && end + 1 < body.n && body.p[end + 1] == '"' ? 2 : 1;
        return (struct str){ body.p + last, end - last };
    }
    return body;
}

static void respond(struct conn *c, int status, const char *type, const char *extra,
                    struct str body)
{
    buf_printf(&c->out, "HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n",
               status, type, body.n, extra);
    buf_str(&c->out, body);
}

static void say(struct conn *c, int status, const char *extra, const char *json)
{
    respond(c, status, "application/json", extra, str_c(json));
}

static bool has(struct str body, const char *key)
{
    return str_find(body, str_c(key), 0) != SIZE_MAX;
}

static bool refuses(struct conn *c, struct str body)
{
    static const char *const keys[] = { "max_tokens", "temperature", "stop", "seed" };
    char quoted[40], json[256];
    for (size_t i = 0; learn && i < 4; i++) {
        snprintf(quoted, sizeof quoted, "\"%s\":", keys[i]);
        if (!has(body, quoted))
            continue;
        snprintf(json, sizeof json,
                 "{\"error\":{\"message\":\"Unsupported parameter: '%s' is not supported with this "
                 "model.\",\"type\":\"invalid_request_error\",\"param\":\"%s\",\"code\":"
                 "\"unsupported_parameter\"}}",
                 keys[i], keys[i]);
        say(c, 400, "", json);
        return true;
    }
    return false;
}

static void answer(struct conn *c, struct str body, uint64_t h, bool chat)
{
    char json[600];
    const char *text = batchy && n_open > 4 ? "Let me look. The final answer is"
                                            : "Let me see. 2 + 2 = 4. The final answer is";
    if (chat)
        snprintf(json, sizeof json,
                 "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s "
                 "%d.\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":%zu,"
                 "\"completion_tokens\":20}}",
                 text, (int)(h % 100), body.n / 4);
    else
        snprintf(json, sizeof json,
                 "{\"choices\":[{\"index\":0,\"text\":\" %s %d.\\nQ: and 7?\",\"finish_reason\":"
                 "\"stop\"}],\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":20}}",
                 text, (int)(h % 100), body.n / 4);
    say(c, 200, "", json);
    n_answered++;
    if (answers) {
        fprintf(answers, "%016llx\n", (unsigned long long)h);
        fflush(answers);
    }
}

static bool has_fault(const char *name, uint64_t h, unsigned times)
{
    for (int i = 0; i < n_fault; i++)
        if (strcmp(faults[i].name, name) == 0 &&
            h % faults[i].every == (uint64_t)i % faults[i].every)
            return strcmp(name, "poison") == 0 || strcmp(name, "refuse") == 0 || times < FIRST;
    return false;
}

/* true: it was dealt with. */
static bool misbehave(struct conn *c, struct str body, uint64_t h, bool chat)
{
    unsigned times = seen(h);
    if (has_fault("refuse", h, times) || (refuse_after && n_answered >= refuse_after))
        say(c, 400, "", "{\"error\":{\"message\":\"Content policy\"}}");
    else if (has_fault("poison", h, times) || has_fault("500", h, times))
        say(c, 500, "", "{\"error\":{\"message\":\"overloaded\"}}");
    else if (has_fault("503", h, times))
        say(c, 503, "Retry-After: 0.02\r\n", "busy");
    else if (has_fault("429", h, times))
        say(c, 429, "Retry-After: 0.05\r\n", "{\"error\":{\"message\":\"slow down\"}}");
    else if (has_fault("quota", h, times))
        say(c, 429, "", "{\"error\":{\"message\":\"no more\",\"code\":\"insufficient_quota\"}}");
    else if (has_fault("hang", h, times))
        c->hang = true;
    else if (has_fault("html", h, times))
        respond(c, 200, "application/json", "", STR("<html><body>Sign in</body></html>"));
    else if (has_fault("empty", h, times))
        say(c, 200, "", "");
    else if (has_fault("reset", h, times))
        c->reset_after = true;
    else
        return false;
    (void)body;
    (void)chat;
    return true;
}

static void distort(struct conn *c, uint64_t h, unsigned times)
{
    if (has_fault("cut", h, times)) { /* half of it, with a length that says so */
        size_t n = c->out.n;
        char *head = strstr(c->out.p, "\r\n\r\n");
        size_t body = n - (size_t)(head + 4 - c->out.p);
        struct str half = { head + 4, body / 2 };
        struct buf out = BUF_INIT;
        struct buf was = c->out;
        c->out = out;
        respond(c, 200, "application/json", "", half);
        buf_clear(&was);
    } else if (has_fault("twice", h, times)) {
        struct buf copy = BUF_INIT;
        buf_str(&copy, buf_view(&c->out));
        buf_str(&c->out, buf_view(&copy));
        buf_clear(&copy);
    } else if (has_fault("type", h, times)) {
        char *t = strstr(c->out.p, "application/json");
        memcpy(t, "image/jpeg      ", 16);
    } else if (has_fault("drip", h, times)) {
        c->drip = true;
    }
}

static void put_due(struct conn *c, uint64_t at)
{
    c->due_ns = at;
    c->next_due = NULL;
    c->prev_due = due_tail;
    if (due_tail)
        due_tail->next_due = c;
    else
        due_head = c;
    due_tail = c;
}

static void take_due(struct conn *c)
{
    if (!c->due_ns)
        return;
    if (c->prev_due)
        c->prev_due->next_due = c->next_due;
    else
        due_head = c->next_due;
    if (c->next_due)
        c->next_due->prev_due = c->prev_due;
    else
        due_tail = c->prev_due;
    c->due_ns = 0;
}

static void shut(struct conn *c, bool reset)
{
    struct linger l = { 1, 0 };
    take_due(c);
    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    conns[c->fd] = NULL;
    close(c->fd);
    buf_clear(&c->in);
    buf_clear(&c->out);
    free(c);
}

static void on_request(struct conn *c, struct str path, struct str body)
{
    if (str_is(path, "/stats")) {
        char json[128];
        snprintf(json, sizeof json, "{\"requests\":%llu,\"answered\":%llu,\"peak\":%llu}",
                 (unsigned long long)n_request, (unsigned long long)n_answered,
                 (unsigned long long)peak);
        say(c, 200, "", json);
        put_due(c, now_ns());
        return;
    }
    bool chat = str_ends(path, STR("/chat/completions"));
    struct str q = question_of(body);
    uint64_t h = hash_bytes(q.p, q.n);
    n_request++;
    if (++n_open > peak)
        peak = n_open;
    if (!chat && !str_ends(path, STR("/completions")))
        say(c, 404, "", "{\"error\":{\"message\":\"no such route\"}}");
    else if (has(body, "\"model\":\"nobody\""))
        say(c, 404, "", "{\"error\":{\"message\":\"The model 'nobody' does not exist\"}}");
    else if (!refuses(c, body) && !misbehave(c, body, h, chat)) {
        unsigned times = seen_n[0]; /* of this question, the one being made */
        size_t i = h % SEEN_MAX;
        while (seen_hash[i] != h)
            i = (i + 1) % SEEN_MAX;
        times = seen_n[i] - 1u;
        answer(c, body, h, chat);
        distort(c, h, times);
    }
    if (c->hang)
        n_open--;
    else
        put_due(c, now_ns() + latency_ns);
}

/* One request when it is all there. */
static void parse(struct conn *c)
{
    char *head = c->in.p ? strstr(c->in.p, "\r\n\r\n") : NULL;
    if (!head || c->due_ns || c->hang)
        return;
    size_t n_head = (size_t)(head + 4 - c->in.p), length = 0;
    char *cl = strcasestr(c->in.p, "\r\ncontent-length:");
    if (cl && cl < head)
        length = strtoul(cl + 17, NULL, 10);
    if (c->in.n < n_head + length)
        return;
    char *a = strchr(c->in.p, ' '), *b = a ? strchr(a + 1, ' ') : NULL;
    if (!b || b > head)
        return;
    struct buf copy = BUF_INIT;
    buf_put(&copy, c->in.p, n_head + length);
    struct str path = { copy.p + (a + 1 - c->in.p), (size_t)(b - a - 1) };
    memmove(c->in.p, c->in.p + n_head + length, c->in.n - n_head - length + 1);
    c->in.n -= n_head + length;
    on_request(c, path, (struct str){ copy.p + n_head, length });
    buf_clear(&copy);
}

static void on_readable(struct conn *c)
{
    char chunk[65536];
    ssize_t n;
    do {
        n = read(c->fd, chunk, sizeof chunk);
        if (n > 0)
            buf_put(&c->in, chunk, (size_t)n);
    } while (n == (ssize_t)sizeof chunk);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        if (c->due_ns && n_open)
            n_open--;
        shut(c, false);
        return;
    }
    parse(c);
}

static void send_due(void)
{
    uint64_t now = now_ns();
    struct conn *c = due_head, *next;
    for (; c; c = next) {
        next = c->next_due;
        if (c->due_ns > now) {
            if (!c->drip)
                break; /* in the order of their times, but for drips */
            continue;
        }
        size_t n = c->drip && c->out.n > 1 ? 1 : c->out.n;
        if (c->reset_after) {
            n_open -= n_open > 0;
            shut(c, true);
            continue;
        }
        if (write(c->fd, c->out.p, n) != (ssize_t)n) {
            n_open -= n_open > 0;
            shut(c, false);
            continue;
        }
        memmove(c->out.p, c->out.p + n, c->out.n - n + 1);
        c->out.n -= n;
        take_due(c);
        if (c->out.n) {
            put_due(c, now + 400000000u); /* a byte every 0.4 s */
            continue;
        }
        c->drip = false;
        n_open -= n_open > 0;
        if (die_after && n_answered >= die_after)
            _exit(0);
        parse(c); /* the next may be here already */
    }
}

/* Until the next answer is due: to the microsecond, a millisecond would be a tenth of a latency. */
static int wait_for(int ep, struct epoll_event *got, int max)
{
    uint64_t now = now_ns(), ns = 1000000000u;
    for (const struct conn *c = due_head; c; c = c->next_due) {
        uint64_t more = c->due_ns > now ? c->due_ns - now : 0;
        ns = more < ns ? more : ns;
        if (!c->drip)
            break;
    }
    if (back_ns && ns > 10000000u)
        ns = 10000000u;
    struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    int k = epoll_pwait2(ep, got, max, &t, NULL);
    if (k < 0 && errno == ENOSYS)
        k = epoll_wait(ep, got, max, (int)(ns / 1000000u) + 1);
    return k;
}

static void on_new(int listener, int ep)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = fd < CONNS_MAX ? calloc(1, sizeof *c) : NULL;
        if (!c) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->fd = fd;
        conns[fd] = c;
        struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    }
}

static void arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--latency-ms") == 0) {
            latency_ns = strtoull(v, NULL, 10) * 1000000u;
            i++;
        } else if (strcmp(argv[i], "--log") == 0) {
            answers = fopen(v, "ae");
            i++;
        } else if (strcmp(argv[i], "--refuse-after") == 0) {
            refuse_after = strtoull(v, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--away-after") == 0) {
            away_after = strtoull(v, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--die-after") == 0) {
            die_after = strtoull(v, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--batchy") == 0) {
            batchy = true;
        } else if (strcmp(argv[i], "--learn") == 0) {
            learn = true;
        } else if (n_fault < FAULTS_MAX) {
            char *colon = strchr(argv[i], ':');
            int n = colon ? (int)(colon - argv[i]) : (int)strlen(argv[i]);
            snprintf(faults[n_fault].name, sizeof faults[0].name, "%.*s", n, argv[i]);
            faults[n_fault++].every = colon ? strtoull(colon + 1, NULL, 10) : 7;
        }
    }
}

/* A socket at this address; -1: cannot be. */
static int bound(const struct sockaddr_in *a)
{
    int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    return bind(s, (const struct sockaddr *)a, sizeof *a) == 0 ? s : -1;
}

static int listen_at(const struct sockaddr_in *a, int ep)
{
    int s = bound(a);
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = s };
    if (s < 0 || listen(s, 1024) != 0 || epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev) != 0)
        exit(1);
    return s;
}

/* Goes away and comes back. Returns the listening socket, -1: none. */
static int come_and_go(int s, const struct sockaddr_in *a, int ep)
{
    if (away_after && n_answered >= away_after) {
        away_after = n_open = 0;
        back_ns = now_ns() + AWAY_MS * 1000000ull;
        close(s);
        for (int i = 0; i < CONNS_MAX; i++)
            if (conns[i])
                shut(conns[i], true);
        return -1;
    }
    if (!back_ns || now_ns() < back_ns)
        return s;
    back_ns = 0;
    return listen_at(a, ep);
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    arguments(argc, argv);
    /* Holds the port while nobody listens there, so that nobody else gets it. */
    int hold = bound(&a), ep = epoll_create1(EPOLL_CLOEXEC);
    if (hold < 0 || getsockname(hold, (struct sockaddr *)&a, &n) != 0)
        return 1;
    int s = listen_at(&a, ep);
    struct epoll_event in = { .events = EPOLLIN }, got[256];
    in.data.fd = 0;
    bool watched = epoll_ctl(ep, EPOLL_CTL_ADD, 0, &in) == 0;
    printf("listening on %u\n", ntohs(a.sin_port));
    fflush(stdout);
    for (;;) {
        int k = wait_for(ep, got, 256);
        for (int i = 0; i < k; i++) {
            int fd = got[i].data.fd;
            char c[256];
            if (fd == s)
                on_new(s, ep);
            else if (fd == 0 && watched) {
                if (read(0, c, sizeof c) <= 0)
                    return 0;
            } else if (conns[fd])
                on_readable(conns[fd]);
        }
        send_due();
        s = come_and_go(s, &a, ep);
    }
}
