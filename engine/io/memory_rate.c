/* engine/io/memory_rate.c - see calibrate.h: every thread sums a buffer of its own, larger than the
 * caches, again and again. */
#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/base/pool.h"
#include "engine/io/calibrate.h"

#include <unistd.h>

enum { BUFFER_BYTES = 64 << 20, LANES = 8 };
#define MEASURE_S 0.2

struct reader {
    const uint64_t *buf; /* BUFFER_BYTES for each thread */
    uint64_t bytes, sum, end_ns;
    char pad[64]; /* a line of its own */
};

static void read_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    struct reader *r = (struct reader *)arg + i;
    do {
        uint64_t s[LANES] = { 0 };
        for (size_t k = 0; k < BUFFER_BYTES / sizeof *s; k += LANES)
            for (size_t l = 0; l < LANES; l++)
                s[l] += r->buf[k + l];
        for (size_t l = 0; l < LANES; l++)
            r->sum += s[l]; /* keeps the reads */
        r->bytes += BUFFER_BYTES;
    } while (clock_ns() < r->end_ns);
}

double calibrate_memory(void)
{
    struct err err = ERR_INIT;
    struct pool *pool = NULL;
    struct arena mem = { 0 };
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = online < 1 ? 1 : online > CALIBRATE_THREADS ? CALIBRATE_THREADS : (unsigned)online;
    struct reader r[CALIBRATE_THREADS] = { 0 };
    double rate = 0;
    if (pool_create(n, &pool, &err) == ST_OK &&
        arena_init(&mem, (size_t)n * BUFFER_BYTES + 4096, "memory rate", &err) == ST_OK) {
        arena_touch(&mem);
        uint64_t start = clock_ns();
        for (unsigned i = 0; i < n; i++) {
            r[i].buf = arena_alloc(&mem, BUFFER_BYTES, 64);
            r[i].end_ns = start + (uint64_t)(MEASURE_S * 1e9);
        }
        pool_run(pool, n, read_task, r);
        for (unsigned i = 0; i < n; i++)
            rate += (double)r[i].bytes / ((double)(clock_ns() - start) / 1e9);
    }
    arena_clear(&mem);
    pool_free(pool);
    return rate;
}
