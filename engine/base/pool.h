/* engine/base/pool.h - a fixed set of threads that run one parallel loop at a time.
 * The caller takes part: a pool of n threads starts n - 1. Waiting workers spin briefly, then sleep
 * on a futex (baselines.md, trap 2: unconditional spinning collapses when a neighbour takes a
 * core). Which thread runs which index is not fixed; results must not depend on it. Owner: one
 * thread calls pool_run(); the function sees only its argument. */
#ifndef STROBE_BASE_POOL_H
#define STROBE_BASE_POOL_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct pool; /* opaque */

enum { POOL_THREADS_MAX = 256 };

/* n_thread 1..POOL_THREADS_MAX. Errors: ST_NOMEM, ST_IO (no thread), ST_RANGE. */
enum status pool_create(unsigned n_thread, struct pool **ret, struct err *err);
void pool_free(struct pool *p);
unsigned pool_threads(const struct pool *p); /* 1 for NULL */
unsigned pool_cores(void); /* that this process may use, at most POOL_THREADS_MAX */
/* Loops follow one another at once for a while: idle workers spin for up to a millisecond before
 * they sleep. One that slept in between is woken on the caller's core where no other is idle (a
 * neighbour of low priority is enough), waits there until the caller has done all by itself, and
 * two threads are as slow as one. Binding threads to cores was tried: on a busy machine twice as
 * slow. NULL is fine. */
void pool_hot(struct pool *p, bool hot);
/* Calls fn(arg, i, worker) for every i in [0, n_task), worker in [0, threads), and returns when all
 * are done. A NULL pool or one task runs on the caller. Not re-entrant. */
void pool_run(struct pool *p, size_t n_task, void (*fn)(void *arg, size_t i, unsigned worker),
              void *arg);

#endif
