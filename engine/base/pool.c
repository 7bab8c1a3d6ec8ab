/* engine/base/pool.c - see pool.h.
 * One word holds the state of the job: its number, whether it is open, and how many workers joined.
 * pool_run() opens a job, works on it, closes it when no index is left and waits for those who
 * joined; a worker that wakes up late finds it closed and goes back to sleep, so nobody ever waits
 * for a thread to wake (50 to 100 us on a virtual machine; streaming weights lost a fifth to it).
 *
 *   worker:  asleep --(open job, not seen yet)--> joined, takes indices --> left, asleep
 */
#include "engine/base/pool.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SPIN_LIMIT = 4000, /* about 10 us: longer than the gap between two layers' operations */
    SPIN_HOT = 100000, /* about a millisecond */
    /* fields of `state` */
    JOINED = 1,
    JOINED_MASK = (1 << 10) - 1,
    OPEN = 1 << 10,
    JOB = 1 << 11
};

struct pool {
    _Alignas(64) _Atomic uint32_t state; /* futex of the workers: a new job, or stop */
    _Alignas(64) _Atomic size_t next;
    _Alignas(64) _Atomic uint32_t left; /* futex of the caller: grows when the last one leaves */
    _Atomic uint32_t sleepers;
    _Alignas(64) size_t n_task;
    void (*fn)(void *, size_t, unsigned);
    void *arg;
    _Atomic bool stop;
    _Atomic int spin;
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

static bool fresh(uint32_t state, uint32_t seen)
{
    return (state & OPEN) && state / JOB != seen;
}

/* Waits for a job other than `seen`, or for the end. */
static uint32_t await_job(struct pool *p, uint32_t seen)
{
    uint32_t now;
    for (int spin = 0; spin < atomic_load_explicit(&p->spin, memory_order_relaxed); spin++) {
        now = atomic_load_explicit(&p->state, memory_order_acquire);
        if (fresh(now, seen))
            return now;
        cpu_relax();
    }
    atomic_fetch_add(&p->sleepers, 1);
    while (now = atomic_load(&p->state), !fresh(now, seen) && !atomic_load(&p->stop))
        futex_wait(&p->state, now);
    atomic_fetch_sub(&p->sleepers, 1);
    return now;
}

static void leave(struct pool *p)
{
    uint32_t old = atomic_fetch_sub_explicit(&p->state, JOINED, memory_order_acq_rel);
    if ((old & JOINED_MASK) > JOINED || (old & OPEN))
        return;
    atomic_fetch_add_explicit(&p->left, 1, memory_order_release);
    futex_wake_all(&p->left);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint32_t seen = 0; /* the first job is number 1 */
    for (;;) {
        uint32_t now = await_job(p, seen);
        if (atomic_load(&p->stop))
            return NULL;
        if (!atomic_compare_exchange_weak(&p->state, &now, now + JOINED))
            continue; /* somebody joined or left, or the job is closed: look again */
        seen = now / JOB;
        drain(p, w->id);
        leave(p);
    }
}

static void wake_workers(struct pool *p)
{
    if (atomic_load(&p->sleepers))
        futex_wake_all(&p->state);
}

enum status pool_create(unsigned n_thread, struct pool **ret, struct err *err)
{
    if (n_thread < 1 || n_thread > POOL_THREADS_MAX)
        return err_set(err, ST_RANGE, "threads: %u is outside 1..%d", n_thread, POOL_THREADS_MAX);
    struct pool *p = NULL;
    if (posix_memalign((void **)&p, 64, sizeof *p) != 0)
        return err_set(err, ST_NOMEM, "thread pool");
    *p = (struct pool){ .n_thread = n_thread, .spin = SPIN_LIMIT };
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
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->state, JOB); /* a worker about to sleep on the old value looks again */
    futex_wake_all(&p->state);
    for (unsigned i = 1; i <= p->n_started; i++)
        pthread_join(p->worker[i].thread, NULL);
    free(p->worker);
    free(p);
}

unsigned pool_cores(void)
{
    cpu_set_t set;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > POOL_THREADS_MAX ? POOL_THREADS_MAX : (unsigned)n;
}

void pool_hot(struct pool *p, bool hot)
{
    if (p)
        atomic_store(&p->spin, hot ? SPIN_HOT : SPIN_LIMIT);
}

unsigned pool_threads(const struct pool *p)
{
    return p ? p->n_thread : 1;
}

/* No one joins any more; returns when those who did are out. */
static void close_job(struct pool *p)
{
    uint32_t left = atomic_load_explicit(&p->left, memory_order_acquire);
    uint32_t now = atomic_fetch_and_explicit(&p->state, ~(uint32_t)OPEN, memory_order_acq_rel);
    for (int spin = 0; now & JOINED_MASK; spin++) {
        if (spin < SPIN_LIMIT)
            cpu_relax();
        else
            futex_wait(&p->left, left); /* it has grown already: the last one is out */
        now = atomic_load_explicit(&p->state, memory_order_acquire);
    }
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
    /* Nobody is joined now: the last job was closed and left. Job numbers skip 0 when they wrap. */
    uint32_t job = atomic_load_explicit(&p->state, memory_order_relaxed) / JOB + 1;
    atomic_store(&p->state, (job * JOB != 0 ? job * JOB : JOB) | OPEN);
    wake_workers(p);
    drain(p, 0);
    close_job(p);
}
