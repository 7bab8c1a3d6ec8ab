/* server/stream.c - see stream.h. */
#include "server/stream.h"

#include "engine/base/clock.h"

#include <stdlib.h>

struct stream *stream_create(void)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    atomic_store(&s->refs, 1);
    s->last_ns = clock_ns();
    return s;
}

void stream_hold(struct stream *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void stream_drop(struct stream *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    if (s->free_ctx)
        s->free_ctx(s->ctx);
    pthread_mutex_destroy(&s->lock);
    buf_clear(&s->pending);
    free(s);
}

/* Whom to wake, decided under the lock and done after it: the net thread runs at once and would
 * wait for the lock that the sleeper's waker holds, for milliseconds when the waker then loses its
 * processor. The connection cannot end before: it sleeps until the one who cleared the flag has
 * resumed it. (A resume that comes before the net thread has put it to sleep keeps it awake.) */
struct sleeper {
    void (*resume)(void *conn);
    void *conn;
};

static struct sleeper find_sleeper(struct stream *s)
{
    if (!s->suspended || !s->resume)
        return (struct sleeper){ NULL, NULL };
    s->suspended = false;
    return (struct sleeper){ s->resume, s->conn };
}

static void wake(struct sleeper z)
{
    if (z.resume)
        z.resume(z.conn);
}

bool stream_put(struct stream *s, struct str bytes)
{
    struct sleeper z = { NULL, NULL };
    pthread_mutex_lock(&s->lock);
    if (!s->gone && !s->ended) {
        s->last_ns = clock_ns();
        if (s->taken == s->pending.n)
            s->waiting_ns = s->last_ns;
        buf_str(&s->pending, bytes);
        if (s->pending.failed || s->pending.n - s->taken > STREAM_PENDING_MAX)
            s->ended = s->broken = true;
        z = find_sleeper(s);
    }
    bool ok = !s->gone && !s->ended;
    pthread_mutex_unlock(&s->lock);
    wake(z);
    return ok;
}

void stream_end(struct stream *s, bool broken)
{
    pthread_mutex_lock(&s->lock);
    if (!s->ended)
        s->broken = broken;
    s->ended = true;
    struct sleeper z = find_sleeper(s);
    pthread_mutex_unlock(&s->lock);
    wake(z);
}

void stream_abort(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool first = !s->gone && !s->ended;
    s->gone = true;
    struct sleeper z = find_sleeper(s);
    pthread_mutex_unlock(&s->lock);
    wake(z);
    if (first && s->on_gone)
        s->on_gone(s->ctx);
}

bool stream_is_gone(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool gone = s->gone;
    pthread_mutex_unlock(&s->lock);
    return gone;
}

size_t stream_unsent(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->pending.n - s->taken;
    pthread_mutex_unlock(&s->lock);
    return n;
}

long stream_take(struct stream *s, char *out, size_t max, uint64_t *waited_ns)
{
    long r;
    pthread_mutex_lock(&s->lock);
    size_t left = s->pending.n - s->taken, n = left < max ? left : max;
    *waited_ns = n && !s->gone ? clock_ns() - s->waiting_ns : 0;
    if (s->gone) {
        r = -2;
    } else if (n) {
        memcpy(out, s->pending.p + s->taken, n);
        s->taken += n;
        if (s->taken == s->pending.n) {
            buf_reset(&s->pending);
            s->taken = 0;
        }
        r = (long)n;
    } else if (s->ended) {
        r = s->broken ? -2 : -1;
    } else {
        s->suspended = true;
        r = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

bool stream_sleep_until_end(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool sleep = !s->ended && !s->gone;
    if (sleep)
        s->suspended = true;
    pthread_mutex_unlock(&s->lock);
    return sleep;
}

bool stream_sleep_while_held(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool sleep = atomic_load(&s->held) && !s->ended && !s->gone;
    if (sleep)
        s->suspended = true;
    pthread_mutex_unlock(&s->lock);
    return sleep;
}

void stream_release(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->held, false);
    struct sleeper z = find_sleeper(s);
    pthread_mutex_unlock(&s->lock);
    wake(z);
}
