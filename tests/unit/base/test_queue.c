#include "engine/base/clock.h"
#include "engine/base/queue.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>

Test(queue, is_first_in_first_out_and_bounded)
{
    struct err e = ERR_INIT;
    struct queue *q;
    int v[3];
    cr_assert_eq(queue_create(2, &q, &e), ST_OK);
    cr_expect(queue_try_push(q, &v[0]));
    cr_expect(queue_try_push(q, &v[1]));
    cr_expect_not(queue_try_push(q, &v[2]));
    cr_expect_eq(queue_len(q), 2u);
    cr_expect_eq(queue_try_pop(q), &v[0]);
    cr_expect(queue_try_push(q, &v[2]));
    cr_expect_eq(queue_pop(q, -1), &v[1]);
    cr_expect_eq(queue_pop(q, 5), &v[2]);
    cr_expect_null(queue_try_pop(q));
    queue_close(q);
    cr_expect_not(queue_try_push(q, &v[0]));
    cr_expect_null(queue_pop(q, -1));
    queue_free(q);
}

Test(queue, a_timed_wait_ends)
{
    struct err e = ERR_INIT;
    struct queue *q;
    cr_assert_eq(queue_create(1, &q, &e), ST_OK);
    uint64_t start = clock_ns();
    cr_expect_null(queue_pop(q, 20));
    cr_expect_geq(clock_ms_since(start), 19.0);
    queue_free(q);
}

enum { PER_THREAD = 5000, THREADS = 3 };

static void *producer(void *arg)
{
    for (uintptr_t i = 1; i <= PER_THREAD; i++)
        while (!queue_try_push(arg, (void *)i))
            sched_yield();
    return NULL;
}

Test(queue, nothing_is_lost_or_doubled_between_threads)
{
    struct err e = ERR_INIT;
    struct queue *q;
    pthread_t t[THREADS];
    cr_assert_eq(queue_create(64, &q, &e), ST_OK);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, producer, q);
    uint64_t sum = 0;
    for (int i = 0; i < THREADS * PER_THREAD; i++)
        sum += (uintptr_t)queue_pop(q, -1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    cr_expect_eq(sum, (uint64_t)THREADS * PER_THREAD * (PER_THREAD + 1) / 2);
    cr_expect_eq(queue_len(q), 0u);
    queue_free(q);
}
