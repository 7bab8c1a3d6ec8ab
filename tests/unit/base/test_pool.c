#include "engine/base/pool.h"

#include <criterion/criterion.h>
#include <stdatomic.h>

struct work {
    _Atomic unsigned hits[1000];
    _Atomic unsigned bad_worker;
    unsigned n_thread;
};

static void hit(void *arg, size_t i, unsigned worker)
{
    struct work *w = arg;
    if (worker >= w->n_thread)
        w->bad_worker++;
    w->hits[i]++;
}

Test(pool, every_index_runs_exactly_once)
{
    for (unsigned n_thread = 1; n_thread <= 5; n_thread++) {
        struct err e = ERR_INIT;
        struct pool *p;
        cr_assert_eq(pool_create(n_thread, &p, &e), ST_OK);
        for (size_t round = 0; round < 300; round++) {
            static struct work w;
            memset(&w, 0, sizeof w);
            w.n_thread = n_thread;
            size_t n = round * 7 % 1000;
            pool_run(p, n, hit, &w);
            for (size_t i = 0; i < 1000; i++)
                cr_assert_eq(w.hits[i], i < n ? 1u : 0u, "threads %u index %zu", n_thread, i);
            cr_assert_eq(w.bad_worker, 0u);
        }
        pool_free(p);
    }
}

Test(pool, absurd_sizes_are_refused_and_null_runs_inline)
{
    struct err e = ERR_INIT;
    struct pool *p = NULL;
    cr_expect_eq(pool_create(0, &p, &e), ST_RANGE);
    err_clear(&e);
    cr_expect_eq(pool_create(POOL_THREADS_MAX + 1, &p, &e), ST_RANGE);
    static struct work w = { .n_thread = 1 };
    pool_run(NULL, 3, hit, &w);
    cr_expect_eq(w.hits[2], 1u);
    pool_free(NULL);
}
