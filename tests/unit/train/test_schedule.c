/* tests/unit/train/test_schedule.c - the learning rate of each step. */
#include "engine/train/schedule.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>

static const double pi = 3.14159265358979323846;

/* The numbers are of the order of lr and come from a handful of operations: a few ulps. */
#define SAME(got, want) cr_expect(epsilon_eq(dbl, got, want, 1e-15), "%.17g, not %.17g", got, want)

Test(schedule, the_rate_rises_in_equal_parts_and_reaches_the_top_at_the_end_of_warm_up)
{
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_WSD; kind++) {
        struct schedule s = { (enum schedule_kind)kind, 100, 10, 20, 1e-2, 1e-3 };
        for (uint64_t i = 0; i < 10; i++)
            SAME(schedule_lr(&s, i), 1e-2 * (double)(i + 1) / 10);
        SAME(schedule_lr(&s, 10), 1e-2);
    }
}

Test(schedule, each_kind_follows_its_formula)
{
    struct schedule s = { SCHEDULE_COSINE, 100, 20, 25, 1e-2, 1e-3 };
    for (uint64_t i = 20; i < 100; i++) {
        double x = (double)(i - 20) / 80;
        s.kind = SCHEDULE_COSINE;
        SAME(schedule_lr(&s, i), 1e-3 + 9e-3 * 0.5 * (1 + cos(pi * x)));
        s.kind = SCHEDULE_LINEAR;
        SAME(schedule_lr(&s, i), 1e-2 - 9e-3 * x);
        s.kind = SCHEDULE_WSD;
        SAME(schedule_lr(&s, i), i < 75 ? 1e-2 : 1e-2 - 9e-3 * (double)(i - 75) / 25);
        s.kind = SCHEDULE_CONSTANT;
        SAME(schedule_lr(&s, i), 1e-2);
    }
}

Test(schedule, behind_the_end_the_last_rate_stays)
{
    struct schedule s = { SCHEDULE_COSINE, 50, 5, 10, 1e-2, 1e-3 };
    for (int kind = SCHEDULE_COSINE; kind <= SCHEDULE_WSD; kind++) {
        s.kind = (enum schedule_kind)kind;
        SAME(schedule_lr(&s, 50), 1e-3);
        SAME(schedule_lr(&s, UINT64_MAX), 1e-3);
    }
}

Test(schedule, parts_that_fill_the_whole_run_or_nothing_are_fine)
{
    struct schedule s = { SCHEDULE_WSD, 10, 10, 10, 1, 0 };
    SAME(schedule_lr(&s, 0), 0.1);
    SAME(schedule_lr(&s, 9), 1.0);
    s = (struct schedule){ SCHEDULE_WSD, 10, 0, 0, 1, 0 };
    SAME(schedule_lr(&s, 0), 1.0);
    SAME(schedule_lr(&s, 9), 1.0);
    s = (struct schedule){ SCHEDULE_COSINE, 1, 0, 0, 1, 0 };
    SAME(schedule_lr(&s, 0), 1.0);
    s = (struct schedule){ SCHEDULE_LINEAR, 0, 0, 0, 1, 0 };
    cr_expect(isfinite(schedule_lr(&s, 0)));
}
