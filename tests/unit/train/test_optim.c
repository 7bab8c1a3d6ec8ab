/* tests/unit/train/test_optim.c - AdamW against its formula in double, the norm, the blocks. */
#include "engine/base/rng.h"
#include "engine/train/optim.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 100,003 parameters: blocks of 32 Ki are cut inside a tensor, at the change of decay and with
 * tails. */
static const struct net_tensor tensors[] = {
    { "token_embd.weight", 70, 1000, 0, false, -1 },
    { "blk.0.attn_norm.weight", 1, 3, 70000, false, 0 },
    { "blk.0.attn_q.weight", 290, 100, 70003, true, 0 },
    { "blk.0.ffn_up.weight", 10, 99, 99003, true, 0 },
    { "output_norm.weight", 1, 10, 99993, false, -1 },
};
enum { N = 100003, N_TENSOR = 5 };

static bool decays(uint64_t i)
{
    return i >= 70003 && i < 99993;
}

static struct optim_opts opts(struct pool *pool)
{
    return (struct optim_opts){ .tensor = tensors,
                                .n_tensor = N_TENSOR,
                                .to = N,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .eps = 1e-8,
                                .decay = 0.1,
                                .pool = pool };
}

static struct optim *make(const struct optim_opts *o)
{
    struct err err = ERR_INIT;
    struct optim *p = NULL;
    cr_assert_eq(optim_create(o, &p, &err), ST_OK, "%s", err.msg);
    return p;
}

static real *draw(uint64_t seed, double size)
{
    real *p = malloc(N * sizeof *p);
    struct rng r = { seed };
    for (int i = 0; i < N; i++)
        p[i] = (real)(size * (2 * rng_f64(&r) - 1));
    return p;
}

/* Relative to the step and the parameter: each f32 operation rounds once, by at most 2^-24; the
 * update has at most eleven of them in a row (scaling, two moments with three each, correction,
 * root, sum, quotient), so 16 roundings bound it with room for the doubles rounded to float. */
static const double unit = 0x1.0p-24;

Test(optim, ten_steps_follow_the_formula_within_f32_rounding)
{
    struct optim_opts oo = opts(NULL);
    struct optim *o = make(&oo);
    real *p = draw(1, 0.1), *g;
    double *want = malloc(N * sizeof *want), *m = calloc(N, sizeof *m), *v = calloc(N, sizeof *v);
    for (int i = 0; i < N; i++)
        want[i] = (double)p[i];
    for (uint64_t t = 1; t <= 10; t++) {
        double lr = 1e-3 * (double)t, scale = 0.37;
        g = draw(100 + t, t == 5 ? 0 : 3);
        for (int i = 0; i < N; i++) {
            double x = (double)g[i] * scale;
            m[i] = 0.9 * m[i] + 0.1 * x;
            v[i] = 0.95 * v[i] + 0.05 * x * x;
            double hat_m = m[i] / (1 - pow(0.9, (double)t)),
                   hat_v = v[i] / (1 - pow(0.95, (double)t));
            want[i] -=
                lr * ((decays((uint64_t)i) ? 0.1 : 0) * want[i] + hat_m / (sqrt(hat_v) + 1e-8));
        }
        optim_apply(o, p, g, &(struct optim_step){ .t = t, .lr = lr, .scale = scale });
        for (int i = 0; i < N; i++) {
            /* A step is at most about 3 lr long here; moments of cancelling terms lose more
             * relative to themselves than to the step. */
            double tol = 16 * unit * (double)t * (fabs(want[i]) + 4 * lr);
            cr_assert(fabs((double)p[i] - want[i]) <= tol, "step %lu, parameter %d: %g, not %g", t,
                      i, (double)p[i], want[i]);
            cr_assert_eq(g[i], 0, "the gradient is zero afterwards");
        }
        free(g);
    }
    free(p);
    free(want);
    free(m);
    free(v);
    optim_free(o);
}

Test(optim, without_a_gradient_only_matrices_shrink)
{
    struct optim_opts oo = opts(NULL);
    struct optim *o = make(&oo);
    real *p = draw(2, 1), *was = draw(2, 1), *g = calloc(N, sizeof *g);
    optim_apply(o, p, g, &(struct optim_step){ .t = 1, .lr = 0.5, .scale = 1 });
    for (uint64_t i = 0; i < N; i++)
        cr_assert_eq(p[i], decays(i) ? (real)(1 - 0.5 * 0.1) * was[i] : was[i], "parameter %lu", i);
    free(p);
    free(was);
    free(g);
    optim_free(o);
}

Test(optim, any_number_of_threads_gives_the_same_bits)
{
    struct err err = ERR_INIT;
    real *one = NULL, *g1 = NULL;
    double norm1 = 0;
    for (unsigned n = 1; n <= 5; n++) {
        struct pool *pool = NULL;
        cr_assert_eq(pool_create(n, &pool, &err), ST_OK);
        struct optim_opts oo = opts(pool);
        struct optim *o = make(&oo);
        real *p = draw(3, 1), *g = draw(4, 1);
        double norm = optim_sum_squares(o, g);
        for (uint64_t t = 1; t <= 3; t++) {
            optim_apply(o, p, g, &(struct optim_step){ .t = t, .lr = 0.01, .scale = 0.5 });
            free(g);
            g = draw(4 + t, 1);
        }
        if (n == 1) {
            one = p;
            g1 = g;
            norm1 = norm;
        } else {
            cr_expect_eq(norm, norm1, "%u threads: %.17g, one: %.17g", n, norm, norm1);
            cr_expect(memcmp(p, one, N * sizeof *p) == 0, "%u threads", n);
            free(p);
            free(g);
        }
        optim_free(o);
        pool_free(pool);
    }
    free(one);
    free(g1);
}

Test(optim, ranges_together_do_what_one_does)
{
    const uint64_t cut[] = { 0, 0, 1, 69999, 70001, 80000, 99998, N };
    struct optim_opts oo = opts(NULL);
    struct optim *all = make(&oo);
    real *p = draw(5, 1), *q = draw(5, 1), *g = draw(6, 1), *h = draw(6, 1);
    double sum = 0, whole = optim_sum_squares(all, g);
    optim_apply(all, p, g, &(struct optim_step){ .t = 1, .lr = 0.01, .scale = 0.5 });
    for (unsigned i = 0; i + 1 < sizeof cut / sizeof cut[0]; i++) {
        oo.from = cut[i];
        oo.to = cut[i + 1];
        struct optim *o = make(&oo);
        sum += optim_sum_squares(o, h);
        optim_apply(o, q, h, &(struct optim_step){ .t = 1, .lr = 0.01, .scale = 0.5 });
        cr_expect_eq(
            memcmp(optim_m(o), optim_m(all) + cut[i], (size_t)(oo.to - oo.from) * sizeof *p), 0,
            "moments from %lu", cut[i]);
        optim_free(o);
    }
    cr_expect(memcmp(p, q, N * sizeof *p) == 0);
    cr_expect(memcmp(g, h, N * sizeof *p) == 0);
    /* All terms are positive: the order of N additions in double changes N 2^-53 of the sum. */
    cr_expect(fabs(sum - whole) <= N * DBL_EPSILON / 2 * whole, "%.17g, %.17g", sum, whole);
    free(p);
    free(q);
    free(g);
    free(h);
    optim_free(all);
}

Test(optim, the_norm_is_a_sum_in_double_and_shows_what_is_not_finite)
{
    struct optim_opts oo = opts(NULL);
    struct optim *o = make(&oo);
    real *g = draw(7, 1e3);
    long double sum = 0;
    for (int i = 0; i < N; i++)
        sum += (long double)g[i] * (long double)g[i];
    double got = optim_sum_squares(o, g);
    cr_expect(fabs(got - (double)sum) <= N * DBL_EPSILON / 2 * got, "%.17g, not %.17Lg", got, sum);
    const uint64_t at[] = { 0, 70002, 70003, N - 1 };
    for (unsigned i = 0; i < 4; i++) {
        real keep = g[at[i]];
        g[at[i]] = (real)NAN;
        cr_expect(isnan(optim_sum_squares(o, g)), "NaN at %lu", at[i]);
        g[at[i]] = (real)-INFINITY;
        cr_expect(isinf(optim_sum_squares(o, g)), "infinity at %lu", at[i]);
        g[at[i]] = keep;
    }
    free(g);
    optim_free(o);
}

Test(optim, ranges_outside_the_tensors_are_refused)
{
    struct err err = ERR_INIT;
    struct optim *o = NULL;
    struct optim_opts oo = opts(NULL);
    oo.to = N + 1;
    cr_expect_eq(optim_create(&oo, &o, &err), ST_RANGE);
    err_clear(&err);
    oo.from = 2;
    oo.to = 1;
    cr_expect_eq(optim_create(&oo, &o, &err), ST_RANGE);
    cr_expect_null(o);
    optim_free(NULL);
}
