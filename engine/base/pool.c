/* engine/base/pool.c - see pool.h.
 * A job is published by bumping `epoch`; workers take task indices from `next` and count themselves
 * out in `busy`. The caller returns when all tasks are done and no worker still looks at the job.
 */
#include "engine/base/pool.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_LIMIT = 4000 }; /* about 10 us: longer than the gap between two layers' operations */

struct pool {
    _Alignas(64) _Atomic uint32_t epoch; /* futex: a new job, or stop */
    _Alignas(64) _Atomic size_t next;
    _Alignas(64) _Atomic uint32_t busy; /* futex: workers that still look at the job */
    _Atomic uint32_t sleepers;
    _Alignas(64) size_t n_task;
    void (*fn)(void *, size_t, unsigned);
    void *arg;
    bool stop;
    unsigned n_thread, n_started;
    struct worker {
        struct pool *pool;
        unsigned id;
        pthread_t thread;
    } * worker;
};

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void drain(struct pool *p, unsigned worker)
{
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->n_task)
            return;
        p->fn(p->arg, i, worker);
    }
}

static uint32_t await_epoch(struct pool *p, uint32_t seen)
{
    for (int spin = 0; spin < SPIN_LIMIT; spin++) {
        uint32_t now = atomic_load_explicit(&p->epoch, memory_order_acquire);
        if (now != seen)
            return now;
        cpu_relax();
    }
    atomic_fetch_add(&p->sleepers, 1);
    uint32_t now;
    while ((now = atomic_load(&p->epoch)) == seen)
        futex_wait(&p->epoch, seen);
    atomic_fetch_sub(&p->sleepers, 1);
    return now;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        seen = await_epoch(p, seen);
        if (p->stop)
            return NULL;
        drain(p, w->id);
        if (atomic_fetch_sub_explicit(&p->busy, 1, memory_order_acq_rel) == 1)
            futex_wake_all(&p->busy);
    }
}

static void publish(struct pool *p)
{
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->sleepers))
        futex_wake_all(&p->epoch);
}

enum status pool_create(unsigned n_thread, struct pool **ret, struct err *err)
{
    if (n_thread < 1 || n_thread > POOL_THREADS_MAX)
        return err_set(err, ST_RANGE, "threads: %u is outside 1..%d", n_thread, POOL_THREADS_MAX);
    struct pool *p = NULL;
    if (posix_memalign((void **)&p, 64, sizeof *p) != 0)
        return err_set(err, ST_NOMEM, "thread pool");
    *p = (struct pool){ .n_thread = n_thread };
    p->worker = calloc(n_thread, sizeof *p->worker);
    if (!p->worker) {
        err_set(err, ST_NOMEM, "thread pool");
        goto fail;
    }
    for (unsigned i = 1; i < n_thread; i++) {
        p->worker[i] = (struct worker){ .pool = p, .id = i };
        int e = pthread_create(&p->worker[i].thread, NULL, worker_main, &p->worker[i]);
        if (e) {
            err_sys(err, e, "pthread_create");
            goto fail;
        }
        p->n_started++;
    }
    *ret = p;
    return ST_OK;
fail:
    pool_free(p);
    return err->code;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    p->stop = true;
    publish(p);
    for (unsigned i = 1; i <= p->n_started; i++)
        pthread_join(p->worker[i].thread, NULL);
    free(p->worker);
    free(p);
}

unsigned pool_threads(const struct pool *p)
{
    return p ? p->n_thread : 1;
}

void pool_run(struct pool *p, size_t n_task, void (*fn)(void *, size_t, unsigned), void *arg)
{
    if (!p || p->n_thread == 1 || n_task <= 1) {
        for (size_t i = 0; i < n_task; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n_task = n_task;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->busy, p->n_thread - 1, memory_order_relaxed);
    publish(p);
    drain(p, 0);
    for (int spin = 0; atomic_load_explicit(&p->busy, memory_order_acquire); spin++) {
        if (spin < SPIN_LIMIT) {
            cpu_relax();
            continue;
        }
        uint32_t left = atomic_load_explicit(&p->busy, memory_order_acquire);
        if (left)
            futex_wait(&p->busy, left);
    }
}
