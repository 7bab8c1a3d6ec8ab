/* engine/base/queue.c - see queue.h. */
#include "engine/base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled; /* CLOCK_MONOTONIC */
    size_t cap, head, len;
    bool closed;
    void *slot[];
};

enum status queue_create(size_t cap, struct queue **ret, struct err *err)
{
    if (cap == 0 || cap > (size_t)1 << 24)
        return err_set(err, ST_RANGE, "queue: capacity %zu", cap);
    struct queue *q = calloc(1, sizeof *q + cap * sizeof q->slot[0]);
    if (!q)
        return err_set(err, ST_NOMEM, "queue of %zu", cap);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->filled, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&q->lock, NULL);
    q->cap = cap;
    *ret = q;
    return ST_OK;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

bool queue_try_push(struct queue *q, void *msg)
{
    pthread_mutex_lock(&q->lock);
    bool ok = !q->closed && q->len < q->cap;
    if (ok) {
        q->slot[(q->head + q->len) % q->cap] = msg;
        q->len++;
    }
    pthread_mutex_unlock(&q->lock);
    if (ok)
        pthread_cond_signal(&q->filled);
    return ok;
}

/* Caller holds the lock. */
static void *pop_locked(struct queue *q)
{
    if (q->len == 0)
        return NULL;
    void *msg = q->slot[q->head];
    q->head = (q->head + 1) % q->cap;
    q->len--;
    return msg;
}

void *queue_try_pop(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    void *msg = pop_locked(q);
    pthread_mutex_unlock(&q->lock);
    return msg;
}

void *queue_pop(struct queue *q, int wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (wait_ms > 0) {
        until.tv_sec += wait_ms / 1000;
        until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    pthread_mutex_lock(&q->lock);
    while (q->len == 0 && !q->closed && wait_ms != 0) {
        if (wait_ms < 0)
            pthread_cond_wait(&q->filled, &q->lock);
        else if (pthread_cond_timedwait(&q->filled, &q->lock, &until) == ETIMEDOUT)
            break;
    }
    void *msg = pop_locked(q);
    pthread_mutex_unlock(&q->lock);
    return msg;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_mutex_unlock(&q->lock);
    pthread_cond_broadcast(&q->filled);
}

size_t queue_len(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->len;
    pthread_mutex_unlock(&q->lock);
    return n;
}
