/* server/watch.c - see watch.h. */
#include "server/watch.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAKE_KEY UINT64_MAX

/* Events name (slot, generation): one may outlive its connection, whose number is used again. */
struct slot {
    struct stream *stream;
    uint32_t generation;
    bool open, left;
};

struct watch {
    int epoll_fd, wake_fd;
    uint32_t fd_max;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    atomic_ullong *n_left;
    void (*tick)(void *ctx);
    void *ctx;
    pthread_mutex_t lock;   /* guards what follows */
    uint32_t n_half, *half; /* sockets that left without a stream: shut at each tick... */
    uint32_t *half_gen;     /* ...as long as they are the same connection */
    struct slot slot[];
};

static void client_left(struct watch *w, uint64_t key)
{
    uint32_t fd = (uint32_t)key, generation = (uint32_t)(key >> 32);
    struct stream *s = NULL;
    pthread_mutex_lock(&w->lock);
    struct slot *at = &w->slot[fd];
    if (at->open && at->generation == generation) {
        at->left = true;
        s = at->stream;
        if (s) {
            stream_hold(s);
        } else if (w->n_half < w->fd_max) {
            w->half[w->n_half] = fd;
            w->half_gen[w->n_half++] = generation;
        }
    }
    pthread_mutex_unlock(&w->lock);
    if (!s)
        return;
    atomic_fetch_add(w->n_left, 1);
    stream_abort(s);
    stream_drop(s);
}

/* Nothing more can arrive on these; what has arrived stays readable. The library looks for the end
 * only when something happens behind its last read, and shutting makes that happen: again at each
 * tick, for a net thread that was kept waiting reads the last bytes after it. */
static void shut_halves(struct watch *w)
{
    uint32_t n = 0;
    pthread_mutex_lock(&w->lock);
    for (uint32_t i = 0; i < w->n_half; i++) {
        const struct slot *at = &w->slot[w->half[i]];
        if (!at->open || at->generation != w->half_gen[i])
            continue;
        shutdown((int)w->half[i], SHUT_RD);
        w->half[n] = w->half[i];
        w->half_gen[n++] = w->half_gen[i];
    }
    w->n_half = n;
    pthread_mutex_unlock(&w->lock);
}

static void *watch_main(void *arg)
{
    struct watch *w = arg;
    struct epoll_event ev[64];
    uint64_t next = clock_ns();
    pthread_setname_np(pthread_self(), "strobe-watch");
    while (!atomic_load(&w->stop)) {
        int n = epoll_wait(w->epoll_fd, ev, 64, 1000);
        for (int i = 0; i < n; i++)
            if (ev[i].data.u64 != WAKE_KEY)
                client_left(w, ev[i].data.u64);
        if (clock_ns() < next)
            continue;
        next = clock_ns() + 1000000000u;
        shut_halves(w);
        w->tick(w->ctx);
    }
    return NULL;
}

enum status watch_create(uint32_t fd_max, void (*tick)(void *ctx), void *ctx, atomic_ullong *n_left,
                         struct watch **ret, struct err *err)
{
    struct watch *w = calloc(1, sizeof *w + fd_max * sizeof w->slot[0]);
    if (!w)
        return err_set(err, ST_NOMEM, "connection watcher");
    w->fd_max = fd_max;
    w->tick = tick;
    w->ctx = ctx;
    w->n_left = n_left;
    pthread_mutex_init(&w->lock, NULL);
    w->half = calloc(fd_max, sizeof *w->half);
    w->half_gen = calloc(fd_max, sizeof *w->half_gen);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = WAKE_KEY };
    if (!w->half || !w->half_gen) {
        err_set(err, ST_NOMEM, "connection watcher");
        goto fail;
    }
    if (w->epoll_fd < 0 || w->wake_fd < 0 ||
        epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &ev) != 0) {
        err_sys(err, errno, "epoll");
        goto fail;
    }
    int e = pthread_create(&w->thread, NULL, watch_main, w);
    if (e) {
        err_sys(err, e, "pthread_create");
        goto fail;
    }
    w->running = true;
    *ret = w;
    return ST_OK;
fail:
    watch_free(w);
    return err->code;
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    atomic_store(&w->stop, true);
    if (w->running) {
        uint64_t one = 1;
        if (write(w->wake_fd, &one, sizeof one) < 0)
            log_line(LOG_WARN, "http", NULL, "wake failed", "errno=%d", errno);
        pthread_join(w->thread, NULL);
    }
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    pthread_mutex_destroy(&w->lock);
    free(w->half);
    free(w->half_gen);
    free(w);
}

void watch_open(struct watch *w, int fd)
{
    if (fd < 0 || (uint32_t)fd >= w->fd_max)
        return;
    pthread_mutex_lock(&w->lock);
    struct slot *at = &w->slot[fd];
    *at = (struct slot){ .generation = at->generation + 1, .open = true };
    struct epoll_event ev = { .events = EPOLLRDHUP | EPOLLONESHOT,
                              .data.u64 = (uint64_t)at->generation << 32 | (uint32_t)fd };
    if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        log_line(LOG_WARN, "http", NULL, "not watched", "fd=%d errno=%d", fd, errno);
    pthread_mutex_unlock(&w->lock);
}

void watch_close(struct watch *w, int fd)
{
    if (fd < 0 || (uint32_t)fd >= w->fd_max)
        return;
    pthread_mutex_lock(&w->lock);
    w->slot[fd].open = false;
    epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    pthread_mutex_unlock(&w->lock);
}

void watch_attach(struct watch *w, int fd, struct stream *s)
{
    if (fd < 0 || (uint32_t)fd >= w->fd_max)
        return;
    pthread_mutex_lock(&w->lock);
    stream_hold(s);
    w->slot[fd].stream = s;
    bool left = w->slot[fd].left;
    pthread_mutex_unlock(&w->lock);
    if (left) {
        atomic_fetch_add(w->n_left, 1);
        stream_abort(s);
    }
}

void watch_detach(struct watch *w, int fd)
{
    if (fd < 0 || (uint32_t)fd >= w->fd_max)
        return;
    pthread_mutex_lock(&w->lock);
    struct stream *s = w->slot[fd].stream;
    w->slot[fd].stream = NULL;
    pthread_mutex_unlock(&w->lock);
    stream_drop(s);
}

void watch_abort_all(struct watch *w)
{
    for (uint32_t fd = 0; fd < w->fd_max; fd++) {
        pthread_mutex_lock(&w->lock);
        struct stream *s = w->slot[fd].stream;
        if (s)
            stream_hold(s);
        pthread_mutex_unlock(&w->lock);
        if (!s)
            continue;
        stream_abort(s);
        stream_drop(s);
    }
}
