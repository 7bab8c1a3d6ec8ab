/* eval/http_sockets.c - see http_sockets.h. */
#include "eval/http_sockets.h"

#include "engine/base/clock.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS_MAX = 64 };

/* What the epoll knows of a file descriptor, and what curl wants of it: EPOLLIN, EPOLLOUT. */
struct watch {
    uint32_t set, wanted;
    bool known; /* it is in the epoll */
};

struct sockets {
    CURLM *multi;
    int epoll, bell; /* bell: an eventfd, for sockets_wake() */
    struct watch *watch;
    size_t n_watch;
    bool failed;       /* no memory, or epoll refused: from then on nothing goes on */
    uint64_t timer_ns; /* when curl wants to be called; UINT64_MAX: never */
    struct epoll_event event[EVENTS_MAX];
    int n_event, at_event; /* of the last wait, those not handled yet */
};

static struct watch *watch_of(struct sockets *s, curl_socket_t fd)
{
    if (fd < 0)
        return NULL;
    if ((size_t)fd >= s->n_watch) {
        size_t n = ((size_t)fd | 63) + 1;
        struct watch *more = realloc(s->watch, n * sizeof *more);
        if (!more)
            return NULL;
        memset(more + s->n_watch, 0, (n - s->n_watch) * sizeof *more);
        s->watch = more;
        s->n_watch = n;
    }
    return &s->watch[fd];
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *ignored)
{
    struct sockets *s = ctx;
    struct watch *w = watch_of(s, fd);
    (void)easy;
    (void)ignored;
    if (!w) {
        s->failed = true;
        return 0;
    }
    w->wanted = what == CURL_POLL_REMOVE ? 0
                                         : (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
                                               (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
    if (w->known && w->wanted == 0) { /* the next request will want it again */
        if (w->set == EPOLLIN)
            return 0;
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
        *w = (struct watch){ 0 };
    } else if (!w->known || w->set != w->wanted) {
        struct epoll_event ev = { .events = w->wanted, .data.fd = fd };
        if (w->wanted &&
            epoll_ctl(s->epoll, w->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) != 0)
            s->failed = true;
        w->known = w->wanted != 0;
        w->set = w->wanted;
    }
    return 0;
}

/* A closed descriptor leaves the epoll by itself, and its number comes again. */
static int on_close(void *ctx, curl_socket_t fd)
{
    struct sockets *s = ctx;
    if (fd >= 0 && (size_t)fd < s->n_watch) {
        if (s->watch[fd].known)
            epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
        s->watch[fd] = (struct watch){ 0 };
    }
    return close(fd);
}

static int on_timer(CURLM *multi, long ms, void *ctx)
{
    struct sockets *s = ctx;
    (void)multi;
    s->timer_ns = ms < 0 ? UINT64_MAX : ms == 0 ? 0 : clock_ns() + (uint64_t)ms * 1000000u;
    return 0;
}

bool sockets_of(struct sockets *s, CURL *easy)
{
    return curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, s) == CURLE_OK;
}

static bool action(struct sockets *s, curl_socket_t fd, int bits)
{
    int running;
    return curl_multi_socket_action(s->multi, fd, bits, &running) == CURLM_OK;
}

void sockets_wait(struct sockets *s, int wait_ms)
{
    uint64_t now = clock_ns();
    if (s->timer_ns != UINT64_MAX && wait_ms > 0) {
        uint64_t until = s->timer_ns > now ? (s->timer_ns - now + 999999) / 1000000 : 0;
        wait_ms = until < (uint64_t)wait_ms ? (int)until : wait_ms;
    }
    int n = epoll_wait(s->epoll, s->event, EVENTS_MAX, wait_ms);
    s->n_event = n > 0 ? n : 0;
    s->at_event = 0;
}

/* One socket that has news. false: curl could not go on. */
static bool one_event(struct sockets *s, const struct epoll_event *ev)
{
    int fd = ev->data.fd;
    if (fd == s->bell) {
        uint64_t n;
        if (read(fd, &n, sizeof n) < 0)
            return errno == EAGAIN;
        return true;
    }
    struct watch *w = watch_of(s, fd);
    if (!w || !w->known)
        return true;      /* closed by what came before it */
    if (w->wanted == 0) { /* kept, and its other end has closed: curl sees that at its next use */
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
        *w = (struct watch){ 0 };
        return true;
    }
    int bits = (ev->events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (ev->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (ev->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    return action(s, fd, bits);
}

static bool due(const struct sockets *s)
{
    return s->timer_ns != UINT64_MAX && (s->timer_ns == 0 || clock_ns() >= s->timer_ns);
}

bool sockets_tick(struct sockets *s)
{
    if (!due(s))
        return !s->failed;
    s->timer_ns = UINT64_MAX;
    return action(s, CURL_SOCKET_TIMEOUT, 0) && !s->failed;
}

bool sockets_step(struct sockets *s)
{
    return one_event(s, &s->event[s->at_event++]) && !s->failed;
}

bool sockets_have_news(const struct sockets *s)
{
    return s->at_event < s->n_event;
}

void sockets_wake(struct sockets *s)
{
    uint64_t one = 1;
    while (write(s->bell, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

CURLM *sockets_multi(struct sockets *s)
{
    return s->multi;
}

/* ---- opening ---- */

static enum status open_all(struct sockets *s, struct err *err)
{
    struct epoll_event ev = { .events = EPOLLIN };
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ev.data.fd = s->bell;
    if (s->epoll < 0 || s->bell < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->bell, &ev) != 0)
        return err_sys(err, errno, "endpoint: epoll");
    s->timer_ns = UINT64_MAX;
    s->multi = curl_multi_init();
    if (!s->multi || curl_multi_setopt(s->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
        curl_multi_setopt(s->multi, CURLMOPT_SOCKETDATA, s) != CURLM_OK ||
        curl_multi_setopt(s->multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
        curl_multi_setopt(s->multi, CURLMOPT_TIMERDATA, s) != CURLM_OK)
        return err_set(err, ST_NOMEM, "endpoint");
    curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, 1024L);
    return ST_OK;
}

enum status sockets_open(struct sockets **ret, struct err *err)
{
    struct sockets *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "endpoint");
    s->epoll = s->bell = -1;
    if (open_all(s, err) == ST_OK)
        *ret = s;
    else
        sockets_close(s);
    return err->code;
}

void sockets_close(struct sockets *s)
{
    if (!s)
        return;
    if (s->multi)
        curl_multi_cleanup(s->multi); /* closes connections: on_close() needs the table */
    free(s->watch);
    if (s->epoll >= 0)
        close(s->epoll);
    if (s->bell >= 0)
        close(s->bell);
    free(s);
}
