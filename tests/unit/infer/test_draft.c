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

/* ---- how many pay: planted times and luck, so that the best is known in closed form ---- */

/* Every guess is right with the same chance, known well: 1e6 judged at each position. */
static struct draft_luck luck_of(double alpha)
{
    struct draft_luck l;
    draft_luck_init(&l, alpha);
    for (int i = 0; i < DRAFT_MAX; i++) {
        l.tried[i] = 1e6;
        l.right[i] = 1e6 * alpha;
    }
    return l;
}

typedef double pass_time(double n, double param);

static double linear(double n, double share)
{
    return 2 + 2 * share * n;
}

/* One read of all weights, however many tokens. */
static double flat(double n, double param)
{
    (void)n;
    return param;
}

/* Feed-forward 2/3 of the pass, and of it the union of what n tokens need, each a share u. */
static double of_union(double n, double u)
{
    return 1.0 / 3 + 2.0 / 3 * (1 - pow(1 - u, n)) / u;
}

/* Passes of 1..17 tokens, and steps of `step` seconds, as they would be measured over and over. */
static struct draft_costs costs_of(pass_time *t, double param, double step)
{
    struct draft_costs c;
    draft_costs_init(&c, 0.5);
    for (int i = 0; i < 50 * (DRAFT_MAX + 1); i++) {
        uint32_t n = 1 + (uint32_t)i % (DRAFT_MAX + 1);
        draft_costs_add(&c, n, t(n, param));
        draft_costs_add_steps(&c, DRAFT_MODEL, 3, 3 * step);
    }
    return c;
}

/* (1 - a^(k+1)) / ((1 - a) (T(k+1) + k step)): flash.md 2.4, with measured times in place of the
 * sparsity that it models. */
static double closed_form(double alpha, uint32_t k, double pass, double step)
{
    return (1 - pow(alpha, k + 1.0)) / ((1 - alpha) * (pass + k * step));
}

static uint32_t best_of(double alpha, pass_time *t, double param, double step, double *rate)
{
    uint32_t best = 0;
    *rate = 0;
    for (uint32_t k = 0; k <= DRAFT_MAX; k++) {
        double r = closed_form(alpha, k, t(1.0 + k, param), step);
        if (r > *rate * 1.0001) {
            *rate = r;
            best = k;
        }
    }
    return best;
}

static struct draft_choice choose(const struct draft_costs *c, double alpha,
                                  enum draft_source source)
{
    struct draft_luck l = luck_of(alpha);
    return draft_choose(
        &(struct draft_ask){ .costs = c, .luck = &l, .source = source, .max = DRAFT_MAX });
}

/* On a line the estimate is exact, but for what the assumed step is worth beside 60 measured ones
 * (20 passes with 3 each): a quarter of a measurement. A choice whose rate the closed form puts
 * within that of the best is right. */
Test(draft, the_length_is_that_of_the_closed_form_where_time_is_a_line)
{
    for (double share = 0.005; share < 1; share *= 2)
        for (double alpha = 0; alpha < 0.98; alpha += 0.09)
            for (double step = 0; step < 1; step += 0.1) {
                double best;
                struct draft_costs c = costs_of(linear, share, step);
                uint32_t want = best_of(alpha, linear, share, step, &best);
                struct draft_choice got = choose(&c, alpha, DRAFT_MODEL);
                double rate = closed_form(alpha, got.n, linear(1.0 + got.n, share), step);
                cr_expect_geq(rate, best * (1 - 0.25 / 60), "share %g alpha %g step %g: %u, %u",
                              share, alpha, step, got.n, want);
                cr_expect_float_eq(got.tokens, (1 - pow(alpha, got.n + 1.0)) / (1 - alpha), 1e-5);
                if (step == 0) /* a lookup: nothing assumed is left */
                    cr_expect_eq(choose(&c, alpha, DRAFT_LOOKUP).n, want);
            }
}

/* Largest relative error of the times of 1..17 tokens. */
static double miss(const struct draft_costs *c, pass_time *t, double param)
{
    double worst = 0;
    for (uint32_t n = 1; n <= DRAFT_MAX + 1; n++)
        worst = fmax(worst, fabs(draft_costs_pass(c, n) / t(n, param) - 1));
    return worst;
}

/* Each number of tokens was measured every 17th pass: within memory that is 0.97^16 / (1 - 0.97^17)
 * = 1.5 measurements at least, beside which the line has the weight 0.25 / (0.25 + 1.5) = 0.143.
 * The line through such a curve is furthest off at one token, by less than the time itself (0.9 of
 * it at most over this grid). Of two lengths whose times are known within d, the wrong one is at
 * most (1 + d) / (1 - d) worse. */
Test(draft, the_length_follows_the_union_of_neurons)
{
    for (double u = 0.02; u < 0.9; u *= 1.5)
        for (double alpha = 0.1; alpha < 0.98; alpha += 0.08) {
            double best, step = 0.05;
            struct draft_costs c = costs_of(of_union, u, step);
            uint32_t want = best_of(alpha, of_union, u, step, &best);
            uint32_t got = choose(&c, alpha, DRAFT_MODEL).n;
            double rate = closed_form(alpha, got, of_union(1.0 + got, u), step);
            double d = miss(&c, of_union, u);
            cr_expect_leq(d, 0.143, "u %g", u);
            cr_expect_geq(rate, best * (1 - d) / (1 + d), "u %g alpha %g: %u, %u", u, alpha, got,
                          want);
        }
}

Test(draft, streamed_whole_the_longest_guess_pays_until_guessing_itself_costs)
{
    struct draft_costs c = costs_of(flat, 1, 0);
    cr_expect_eq(choose(&c, 0.9, DRAFT_LOOKUP).n, (uint32_t)DRAFT_MAX);
    cr_expect_eq(choose(&c, 0, DRAFT_LOOKUP).n, 0u, "never right");
    c = costs_of(flat, 1, 2); /* a guess takes two passes */
    cr_expect_eq(choose(&c, 0.9, DRAFT_MODEL).n, 0u);
    double best;
    c = costs_of(flat, 1, 0.1);
    uint32_t want = best_of(0.9, flat, 1, 0.1, &best);
    cr_expect_eq(choose(&c, 0.9, DRAFT_MODEL).n, want);
    cr_expect(want > 3 && want < DRAFT_MAX, "%u: the case tells nothing", want);
}

/* Linear(0.5) costs 3, 4, 5.. for 1, 2, 3.. tokens. Alone, one guess right half of the time gives
 * 1.5 / 4 > 1 / 3. Beside four others, 5.5 / 8 < 5 / 7: the pass is dear for all of them. */
Test(draft, others_in_the_pass_count)
{
    struct draft_costs c = costs_of(linear, 0.5, 0);
    struct draft_luck l = luck_of(0.5);
    struct draft_ask q = { .costs = &c, .luck = &l, .source = DRAFT_LOOKUP, .max = 1 };
    cr_expect_eq(draft_choose(&q).n, 1u);
    q.others = 4;
    q.yield = 4;
    cr_expect_eq(draft_choose(&q).n, 0u);
    l = luck_of(0.9); /* 5.9 / 8 > 5 / 7 */
    cr_expect_eq(draft_choose(&q).n, 1u);
}

Test(draft, before_anything_is_measured_a_guess_is_tried)
{
    struct draft_costs c;
    struct draft_luck half, most;
    draft_luck_init(&half, 0.5);
    draft_luck_init(&most, 0.8);
    draft_costs_init(&c, 0.02);
    struct draft_ask q = { &c, &half, DRAFT_LOOKUP, 0, 0, DRAFT_MAX };
    cr_expect_gt(draft_choose(&q).n, 0u);
    draft_costs_init(&c, 0.3);
    c.step_share[DRAFT_MODEL] = 0.3;
    q = (struct draft_ask){ &c, &most, DRAFT_MODEL, 0, 0, DRAFT_MAX };
    cr_expect_gt(draft_choose(&q).n, 0u);
    cr_expect_not(draft_luck_known(&most));
}

Test(draft, one_slow_pass_is_forgotten)
{
    struct draft_costs c = costs_of(flat, 1, 0);
    draft_costs_add(&c, 9, 100); /* the disk hung */
    cr_expect_gt(draft_costs_pass(&c, 9), 5);
    for (int i = 0; i < 500; i++) /* 0.97^500 * 100 = 2e-5 */
        draft_costs_add(&c, 1 + (uint32_t)i % 2, 1);
    cr_expect_float_eq(draft_costs_pass(&c, 9), 1, 1e-3);
}

/* A hiccup of a hundred passes' time counts as one pass; and it fades, 0.95^n, until the assumed
 * 0.3 of a pass speaks: (w + 0.25 * 0.3) / (w + 0.25) < 0.6 where w < 0.19, after 33 passes. */
Test(draft, a_source_that_was_slow_once_gets_another_try)
{
    struct draft_costs c = costs_of(flat, 1, 0);
    c.step[DRAFT_SELF] = (struct draft_mean){ 0 };
    c.step_share[DRAFT_SELF] = 0.3;
    draft_costs_add_steps(&c, DRAFT_SELF, 1, 100);
    cr_expect_eq(choose(&c, 0.8, DRAFT_SELF).n, 0u);
    for (int i = 0; i < 40; i++)
        draft_costs_add(&c, 1, 1);
    cr_expect_gt(choose(&c, 0.8, DRAFT_SELF).n, 0u);
}

/* ---- luck ---- */

Test(draft, luck_follows_what_happens_and_recovers)
{
    struct draft_luck l;
    draft_luck_init(&l, 0.5);
    for (int i = 0; i < 60; i++)
        draft_luck_add(&l, 8, 0);
    /* Ten judged in memory, the prior worth one: 0.5 / 11 * 2 / 12. */
    cr_expect_lt(draft_luck_at(&l, 0), 0.01);
    cr_expect(draft_luck_known(&l));
    for (int i = 0; i < 200; i++)
        draft_luck_add(&l, 0, 0);
    cr_expect_gt(draft_luck_at(&l, 0), 0.3, "it never tries again");
    cr_expect_not(draft_luck_known(&l));
    for (int i = 0; i < 60; i++)
        draft_luck_add(&l, 8, 8);
    cr_expect_gt(draft_luck_at(&l, 7), 0.95);
}

/* Right at the first two positions, then wrong: what lies behind was never judged, and takes the
 * mean of those that were, 20 right of 30 and the prior. */
Test(draft, luck_is_known_by_position)
{
    struct draft_luck l;
    draft_luck_init(&l, 0.5);
    for (int i = 0; i < 300; i++)
        draft_luck_add(&l, 6, 2);
    cr_expect_gt(draft_luck_at(&l, 0), 0.9);
    cr_expect_gt(draft_luck_at(&l, 1), 0.9);
    cr_expect_lt(draft_luck_at(&l, 2), 0.15);
    cr_expect_float_eq(draft_luck_mean(&l), 20.5 / 31, 1e-6);
    cr_expect_float_eq(draft_luck_at(&l, 5), 20.5 / 31, 1e-6);
    struct draft_costs c = costs_of(flat, 1, 0.2);
    cr_expect_eq(draft_choose(&(struct draft_ask){ &c, &l, DRAFT_MODEL, 0, 0, DRAFT_MAX }).n, 2u);
}
