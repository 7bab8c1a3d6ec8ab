/* engine/train/dist_queue.c - the trainer's side of several processes. See dist.h.
 *
 * All that is sent and received happens on one thread of ours (dist_mpi.c). The trainer's thread
 * hands it work through a queue, so the sum of a range runs beside the rest of the backward pass,
 * which the library by itself would not do: it moves data only while somebody is inside a call.
 *
 *   trainer:  begin --(range)--> queue ...   wait: until the queue is empty and the thread idle
 *   thread:   asleep --(work)--> exchanges, adds, exchanges --> asleep ... --(end)--> gone */
#include "engine/train/dist_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- the thread ---- */

static void *serve(void *arg)
{
    struct dist *d = arg;
    wire_join(d);
    for (bool end = false; !end;) {
        pthread_mutex_lock(&d->lock);
        while (d->n_job == 0)
            pthread_cond_wait(&d->work, &d->lock);
        struct dist_job j = d->queue[d->head];
        d->head = (d->head + 1) % DIST_QUEUE;
        d->n_job--;
        d->busy = true;
        bool failed = d->err.code != ST_OK;
        pthread_mutex_unlock(&d->lock);
        end = j.kind == JOB_END;
        if (!failed || end)
            wire_run(d, &j);
        pthread_mutex_lock(&d->lock);
        d->busy = false;
        pthread_cond_broadcast(&d->idle);
        pthread_mutex_unlock(&d->lock);
    }
    return NULL;
}

static void push(struct dist *d, struct dist_job j)
{
    pthread_mutex_lock(&d->lock);
    while (d->n_job == DIST_QUEUE)
        pthread_cond_wait(&d->idle, &d->lock);
    d->queue[(d->head + d->n_job) % DIST_QUEUE] = j;
    d->n_job++;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
}

static enum status settle(struct dist *d, struct err *err)
{
    pthread_mutex_lock(&d->lock);
    while (d->n_job || d->busy)
        pthread_cond_wait(&d->idle, &d->lock);
    enum status st = d->err.code == ST_OK ? ST_OK : err_set(err, d->err.code, "%s", d->err.msg);
    pthread_mutex_unlock(&d->lock);
    return st;
}

/* ---- the table ---- */

static uint64_t bucket_size(const struct dist *d)
{
    /* Where shares are kept, all of a bucket may belong to one rank. */
    return d->share ? DIST_BUCKET / d->reduce.n_rank + 1 : DIST_BUCKET;
}

/* Hands on what is final, from the top, in whole buckets; `all`: the rest too. */
static void push_buckets(struct dist *d, bool all)
{
    uint64_t size = bucket_size(d);
    while (d->to - d->from >= size || (all && d->to > d->from)) {
        uint64_t from = d->to - d->from > size ? d->to - size : d->from;
        push(d,
             (struct dist_job){ .kind = JOB_REDUCE, .flat = d->grad, .from = from, .to = d->to });
        d->to = from;
    }
}

static void on_begin(void *ctx, real *grad, uint64_t from, uint64_t to)
{
    struct dist *d = ctx;
    if (d->grad != grad || to != d->from || d->from == d->to) { /* not the continuation below */
        push_buckets(d, true);
        d->grad = grad;
        d->to = to;
    }
    d->from = from;
    push_buckets(d, false);
}

static enum status on_wait(void *ctx, struct err *err)
{
    struct dist *d = ctx;
    push_buckets(d, true);
    return settle(d, err);
}

static enum status on_sum(void *ctx, double *v, size_t n, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct dist_job){ .kind = JOB_SUM, .v = v, .n = n });
    return settle(d, err);
}

static enum status on_barrier(void *ctx, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct dist_job){ .kind = JOB_BARRIER });
    return settle(d, err);
}

static enum status on_share(void *ctx, const uint64_t *share, struct err *err)
{
    struct dist *d = ctx;
    size_t n = (size_t)d->reduce.n_rank + 1;
    free(d->share);
    d->share = calloc(n, sizeof *d->share);
    if (!d->share)
        return err_set(err, ST_NOMEM, "shares of %u ranks", d->reduce.n_rank);
    memcpy(d->share, share, n * sizeof *share);
    return ST_OK;
}

static enum status on_spread(void *ctx, real *flat, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct dist_job){ .kind = JOB_SPREAD, .flat = flat });
    return settle(d, err);
}

static enum status on_collect(void *ctx, const real *mine, real *flat, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct dist_job){ .kind = JOB_COLLECT, .mine = mine, .flat = flat });
    return settle(d, err);
}

/* ---- opening and closing ---- */

bool dist_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL;
}

static void dist_free(struct dist *d)
{
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->idle);
    pthread_mutex_destroy(&d->lock);
    free(d->share);
    wire_free(d->wire);
    free(d);
}

static enum status start(struct dist *d, struct err *err)
{
    int e = pthread_create(&d->thread, NULL, serve, d);
    if (e)
        return err_sys(err, e, "pthread_create");
    d->started = true;
    pthread_mutex_lock(&d->lock);
    while (!d->joined)
        pthread_cond_wait(&d->idle, &d->lock);
    pthread_mutex_unlock(&d->lock);
    return settle(d, err);
}

enum status dist_open(struct dist **ret, struct err *err)
{
    struct wire *w;
    if (wire_open(&w, err) != ST_OK)
        return err->code;
    struct dist *d = calloc(1, sizeof *d);
    if (!d) {
        wire_free(w);
        return err_set(err, ST_NOMEM, "several processes");
    }
    d->wire = w;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_cond_init(&d->idle, NULL);
    d->reduce = (struct reduce){ .ctx = d,
                                 .n_rank = 1,
                                 .begin = on_begin,
                                 .wait = on_wait,
                                 .sum = on_sum,
                                 .barrier = on_barrier,
                                 .share = on_share,
                                 .spread = on_spread,
                                 .collect = on_collect };
    if (start(d, err) != ST_OK || wire_make_room(d, err) != ST_OK)
        goto fail;
    *ret = d;
    return ST_OK;
fail:
    if (!d->started)
        dist_free(d);
    else
        dist_close(d, true);
    return err->code;
}

const struct reduce *dist_reduce(const struct dist *d)
{
    return &d->reduce;
}

void dist_close(struct dist *d, bool failed)
{
    if (!d)
        return;
    push(d, (struct dist_job){ .kind = JOB_END, .failed = failed });
    pthread_join(d->thread, NULL);
    dist_free(d);
}
