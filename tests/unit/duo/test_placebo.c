/* tests/unit/duo/test_placebo.c - the placebo: the least of K draws has the published means, what
 * is drawn agrees with what is measured, spreads are the routes', and nothing of the network stays
 * changed. */
#include "engine/duo/measure.h"
#include "engine/duo/placebo.h"
#include "tests/unit/duo/duo_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

/* Expected extremes of normal samples (Harter 1961; training.md 1.7 uses the same to two digits).
 */
Test(duo_placebo, the_least_of_k_normal_numbers_has_the_published_mean)
{
    static const struct {
        uint64_t k;
        double mean, near;
    } rows[] = { { 1, 0, 1e-3 },       { 2, -0.56419, 1e-3 }, { 12, -1.62923, 1e-3 },
                 { 66, -2.36, 6e-3 },  { 220, -2.78, 6e-3 },  { 495, -3.03, 6e-3 },
                 { 792, -3.17, 6e-3 }, { 924, -3.22, 6e-3 } };
    enum { STEPS = 20000 };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        double sum = 0;
        for (int i = 0; i < STEPS; i++)
            sum += duo_least_normal(rows[r].k, (i + 0.5) / STEPS);
        cr_expect_lt(fabs(sum / STEPS - rows[r].mean), rows[r].near, "K %llu: %g",
                     (unsigned long long)rows[r].k, sum / STEPS);
    }
    cr_expect_lt(fabs(duo_least_normal(1, 0.975) - 1.959964), 1e-5, "the 97.5 %% point");
    cr_expect_lt(duo_least_normal(924, 1e-15), -8);
}

struct made {
    float *big, *loss;
    struct duo_placebo_say say;
};

static void make(struct duo_rig *r, const uint64_t *k, const double *spread, uint32_t n,
                 uint32_t copies, double sigma, struct made *m)
{
    struct err err = ERR_INIT;
    size_t tok = r->t.n_tok;
    m->big = malloc(tok * sizeof *m->big);
    m->loss = malloc(tok * n * sizeof *m->loss);
    cr_assert(m->big && m->loss);
    cr_assert_eq(duo_losses(&r->p, NULL, 0, m->big, &err), ST_OK);
    const struct duo_placebo o = { .copies = copies,
                                   .sigma = sigma,
                                   .seed = 5,
                                   .n_budget = n,
                                   .k = k,
                                   .spread = spread,
                                   .all_big = m->big,
                                   .loss = m->loss };
    cr_assert_eq(duo_placebo_run(&r->p, &r->m, &o, &m->say, &err), ST_OK, "%s", err.msg);
}

static double mean(const float *v, size_t n, size_t stride)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i * stride] / (double)n;
    return sum;
}

Test(duo_placebo, one_choice_is_all_big_and_more_choices_are_lower_by_the_distribution)
{
    struct duo_rig r;
    struct err err = ERR_INIT;
    const uint64_t k[] = { 1, 8, 64, 4096 };
    const double spread[] = { 0, 0.05, 0.05, 0.05 };
    struct made m, again;
    duo_rig_open(&r, 3, false);
    make(&r, k, spread, 4, 64, 0, &m);
    for (size_t i = 0; i < r.t.n_tok; i++) {
        cr_expect_eq(m.loss[i * 4], m.big[i], "token %zu of one choice", i);
        cr_expect_lt(m.loss[i * 4 + 2], m.loss[i * 4 + 1] + 1e-6f);
    }
    /* Drawn and measured: the same number of choices, so about the same. */
    cr_expect_eq(m.say.copies, 64u);
    double best = m.say.mean_copy - m.say.made, by = m.say.mean_copy - m.say.drawn;
    cr_expect(best > 0 && fabs(by / best - 1) < 0.25, "best of 64: %g, by distribution %g", best,
              by);
    cr_expect_lt(mean(m.loss + 3, r.t.n_tok, 4), mean(m.loss + 2, r.t.n_tok, 4));
    /* Twice the spread is twice the gain, and so the noise of the weights does not matter. */
    const double twice[] = { 0, 0.1, 0.1, 0.1 };
    make(&r, k, twice, 4, 64, 0, &again);
    double one = mean(m.big, r.t.n_tok, 1) - mean(m.loss + 1, r.t.n_tok, 4);
    double two = mean(m.big, r.t.n_tok, 1) - mean(again.loss + 1, r.t.n_tok, 4);
    cr_expect(one > 0 && fabs(two / one - 2) < 0.3, "gain %g, with twice the spread %g", one, two);
    /* And the network is as it was. */
    float *after = malloc(r.t.n_tok * sizeof *after);
    cr_assert(after);
    cr_assert_eq(duo_losses(&r.p, NULL, 0, after, &err), ST_OK);
    cr_expect_eq(memcmp(after, m.big, r.t.n_tok * sizeof *after), 0);
    free(after);
    free(m.big);
    free(m.loss);
    free(again.big);
    free(again.loss);
    duo_rig_close(&r);
}

static bool stop_soon(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    int *left = ctx;
    (void)done;
    (void)total;
    *left -= what != NULL;
    return *left > 0;
}

Test(duo_placebo, every_budget_has_as_many_choices_as_the_oracle_and_it_can_be_stopped)
{
    struct duo_rig r;
    struct duo_measure o;
    struct duo_trace *t = NULL;
    struct err err = ERR_INIT;
    duo_rig_open(&r, 4, false);
    duo_measure_init(&o);
    o.placebo = 3; /* fewer copies than the 6 routes of budget 2 */
    o.committed = 0;
    cr_assert_eq(duo_measure_run(&r.m, &r.t, &o, NULL, &t, &err), ST_OK, "%s", err.msg);
    for (uint32_t b = 0; b < t->h.n_budget; b++)
        cr_expect_eq(t->h.n_placebo[b], duo_choose(4, b));
    for (size_t i = 0; i < t->n_tok * t->h.n_budget; i++)
        cr_expect(isfinite(duo_f32(t, DUO_C_PLACEBO)[i]));
    const json_t *said = json_object_get(t->h.extra, "placebo");
    cr_expect_eq(json_integer_value(json_object_get(said, "copies")), 3);
    cr_expect_gt(json_number_value(json_array_get(json_object_get(said, "route_spread"), 2)), 0);
    cr_expect_eq(json_number_value(json_array_get(json_object_get(said, "route_spread"), 4)), 0);
    duo_trace_free(t);
    int left = 30 + 2; /* the trie's evaluations, then copies */
    o.watch = (struct duo_watch){ stop_soon, &left };
    o.no_nml = true;
    cr_expect_eq(duo_measure_run(&r.m, &r.t, &o, NULL, &t, &err), ST_CANCELLED);
    cr_expect(strstr(err.msg, "stopped"), "%s", err.msg);
    duo_rig_close(&r);
}
