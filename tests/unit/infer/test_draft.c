/* Guesses from the sequence itself, and how long they pay. */
#include "engine/infer/draft.h"

#include <criterion/criterion.h>
#include <math.h>

Test(draft, the_latest_longest_match_is_continued)
{
    int32_t out[DRAFT_MAX];
    const int32_t a[] = { 5, 6, 7, 8, 1, 6, 7, 9, 2, 5, 6, 7 }; /* 5 6 7 beats the later 6 7 */
    cr_assert_eq(draft_lookup(a, 12, 3, out), 3u);
    cr_expect_eq(out[0], 8);
    cr_expect_eq(out[1], 1);
    cr_expect_eq(out[2], 6);
    const int32_t b[] = { 1, 2, 3, 1, 2, 4, 1, 2 }; /* equal lengths: the latest */
    cr_assert_eq(draft_lookup(b, 8, 1, out), 1u);
    cr_expect_eq(out[0], 4);
    const int32_t c[] = { 1, 2, 3, 4, 5 };
    cr_expect_eq(draft_lookup(c, 5, 4, out), 0u, "nothing repeats");
    cr_expect_eq(draft_lookup(c, 0, 4, out), 0u);
    cr_expect_eq(draft_lookup(c, 1, 4, out), 0u);
}

Test(draft, a_loop_goes_on_beyond_its_last_token)
{
    int32_t out[DRAFT_MAX];
    const int32_t a[] = { 9, 1, 2, 3, 1, 2, 3, 1, 2, 3 };
    cr_assert_eq(draft_lookup(a, 10, DRAFT_MAX, out), (uint32_t)DRAFT_MAX);
    for (int i = 0; i < DRAFT_MAX; i++)
        cr_expect_eq(out[i], 1 + i % 3, "%d", i);
}

/* Exhaustive: expected tokens per second from the definition. */
Test(draft, the_length_maximises_tokens_per_second)
{
    for (double share = 0.005; share < 1; share *= 2)
        for (double alpha = 0; alpha < 0.98; alpha += 0.09) {
            struct draft_costs c;
            struct draft_luck l = { alpha };
            draft_costs_init(&c, 0.5);
            for (int i = 0; i < 200; i++) /* T = 2 + 2 share n */
                draft_costs_add(&c, 1 + (uint32_t)(i % 7), 2 + 2 * share * (1 + i % 7));
            double best = 0;
            uint32_t want = 0;
            for (uint32_t g = 0; g <= 12; g++) {
                double e = 0, t = 2 + 2 * share * (1 + g);
                for (uint32_t k = 0; k <= g; k++)
                    e += pow(alpha, k);
                if (e / t > best * 1.0001) {
                    best = e / t;
                    want = g;
                }
            }
            cr_expect_eq(draft_length(&c, &l, 0, 12), want, "share %g alpha %g", share, alpha);
        }
}

Test(draft, luck_follows_what_happens_and_recovers)
{
    struct draft_luck l;
    draft_luck_init(&l);
    for (int i = 0; i < 60; i++)
        draft_luck_add(&l, 8, 0);
    cr_expect_lt(l.alpha, 0.01);
    for (int i = 0; i < 200; i++)
        draft_luck_add(&l, 0, 0);
    cr_expect_gt(l.alpha, 0.3, "it never tries again");
    for (int i = 0; i < 60; i++)
        draft_luck_add(&l, 8, 8);
    cr_expect_gt(l.alpha, 0.95);
}
