/* tests/unit/evalstat/test_stat.c - published figures, planted truths and ends of ranges. */
#include "engine/base/rng.h"
#include "eval/stat/dist.h"
#include "eval/stat/exact.h"
#include "eval/stat/model.h"
#include "eval/stat/multi.h"
#include "eval/stat/paired.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* Table A of the dossier: GSM8K on the 100 originals, Symbolic mean and sd of 50 sets, and z. */
static const struct {
    const char *model;
    double original, mean, sd, z;
} published[] = {
    { "Gemma-2b", 11, 8.2, 2.21, 1.25 },         { "Gemma-2b-it", 11, 8.2, 2.21, 1.25 },
    { "Gemma-7b", 50, 25.6, 3.25, 7.43 },        { "Gemma-7b-it", 33, 25.6, 3.25, 2.25 },
    { "Gemma2-2b", 46, 40.1, 3.04, 1.92 },       { "Gemma2-2b-it", 46, 40.1, 3.04, 1.92 },
    { "Gemma2-9b", 87, 79.1, 2.99, 2.62 },       { "Gemma2-9b-it", 87, 79.1, 2.99, 2.62 },
    { "Gemma2-27b-it", 92, 88.3, 2.56, 1.43 },   { "Phi-2", 53, 41.4, 3.56, 3.23 },
    { "Phi-3-mini", 85, 80.7, 2.94, 1.45 },      { "Phi-3-small", 89, 83.7, 2.65, 1.98 },
    { "Phi-3-medium", 89, 82.5, 2.86, 2.25 },    { "Phi-3.5-mini", 88, 82.1, 3.38, 1.73 },
    { "Mistral-7b-v0.1", 48, 41.1, 3.36, 2.03 }, { "Mistral-7b-it-v0.1", 42, 30.5, 3.47, 3.28 },
    { "Mistral-7b-v0.3", 44, 40.0, 4.43, 0.89 }, { "Mistral-7b-it-v0.3", 56, 50.0, 3.49, 1.70 },
    { "Mathstral-7b", 80, 74.0, 3.49, 1.70 },    { "Llama3-8b", 61, 74.6, 2.94, -4.58 },
    { "Llama3-8b-it", 74, 74.6, 2.94, -0.20 },   { "GPT-4o-mini", 95, 91.7, 2.02, 1.62 },
    { "GPT-4o", 95, 94.9, 1.87, 0.05 },          { "o1-mini", 93, 94.5, 1.58, -0.94 },
    { "o1-preview", 96, 92.7, 1.82, 1.80 },
};
enum { MODELS = sizeof published / sizeof published[0] };

/* set_rank() gets 50 accuracies with exactly this mean and sd: half above, half below. */
static double z_of(double original, double mean, double sd)
{
    double a[50], half = sd * sqrt(49.0 / 50);
    for (int i = 0; i < 50; i++)
        a[i] = mean + (i % 2 ? half : -half);
    return set_rank(original, a, 50).z;
}

Test(evalstat_published, table_a_has_its_z_and_its_four_significant_models)
{
    struct err err = ERR_INIT;
    double p[MODELS], adjusted[MODELS];
    int raw = 0, holm = 0;
    for (int i = 0; i < MODELS; i++) {
        double z = z_of(published[i].original, published[i].mean, published[i].sd);
        cr_expect(fabs(z - published[i].z) < 0.0051, "%s: %.4f, published %.2f", published[i].model,
                  z, published[i].z);
        p[i] = dist_norm_two_sided(z);
        raw += fabs(z) > 1.96;
    }
    cr_assert_eq(adjust_holm(p, MODELS, adjusted, &err), ST_OK);
    for (int i = 0; i < MODELS; i++) {
        bool named = !strcmp(published[i].model, "Gemma-7b") ||
                     !strcmp(published[i].model, "Llama3-8b") ||
                     !strcmp(published[i].model, "Mistral-7b-it-v0.1") ||
                     !strcmp(published[i].model, "Phi-2");
        cr_expect_eq(adjusted[i] < 0.05, named, "%s: %.4f", published[i].model, adjusted[i]);
        holm += adjusted[i] < 0.05;
    }
    cr_expect_eq(raw, 10);
    cr_expect_eq(holm, 4);
}

/* SD of sets 2.99 points: w = T sd^2. */
Test(evalstat_published, the_planner_gives_the_published_example)
{
    struct plan_in in = { 100, 50, 100 * 0.0299 * 0.0299, 0.05, 0.8 };
    struct plan_out p = plan_design(in);
    cr_expect(fabs(p.set_sd - 0.0299) < 1e-12);
    cr_expect(fabs(p.mde_original - 0.085) < 0.0005, "%.4f", p.mde_original);
    cr_expect(fabs(p.mde_variant - 0.017) < 0.0005, "%.4f", p.mde_variant);
    uint32_t m = plan_instances(in, 0.01);
    in.n_instance = m;
    cr_expect_leq(plan_design(in).mde_variant, 0.01);
    in.n_instance = m - 1;
    cr_expect_gt(plan_design(in).mde_variant, 0.01);
}

/* Spread of sets under fixed templates is smaller than binomial noise: the dossier's finding 3. */
Test(evalstat_planted, a_planted_icc_is_recovered)
{
    enum { T = 400, M = 50 };
    static int8_t x[T * M];
    static struct tally t[T];
    struct rng r = { 11 };
    /* Rates 0.2 and 0.8, half each: w = 0.16, b = 0.09, ICC = 0.36. */
    for (int i = 0; i < T * M; i++)
        x[i] = rng_f64(&r) < (i / M % 2 ? 0.8 : 0.2);
    struct cells c = { x, T, M };
    struct decomposition d;
    cells_tallies(c, t);
    decompose(c, t, &d);
    cr_expect(fabs(d.within - 0.16) < 0.005 && fabs(d.between - 0.09) < 0.005, "%g %g", d.within,
              d.between);
    cr_expect(fabs(d.icc - 0.36) < 0.02, "%g", d.icc);
    cr_expect_lt(d.set_sd, sqrt(0.25 / T), "below binomial noise");
    cr_expect(d.p_spread > 0.01, "the sets spread as they should: %g", d.p_spread);
    /* A server whose mood differs from set to set shows. */
    for (int i = 0; i < T * M; i++)
        if (i % M < 10)
            x[i] = rng_f64(&r) < 0.4;
    cells_tallies(c, t);
    decompose(c, t, &d);
    cr_expect(d.p_spread < 1e-4, "%g", d.p_spread);
}

Test(evalstat_ends, nothing_and_everything)
{
    struct err err = ERR_INIT;
    int8_t x[12], none[4] = { -1, -1, -1, -1 }, orig[4] = { 1, 1, 1, 1 };
    struct tally t[4];
    double acc[3], se;
    struct set_summary s;
    struct decomposition d;
    struct exact_test e;
    memset(x, CELL_UNSCORED, sizeof x);
    struct cells c = { x, 4, 3 };
    cells_tallies(c, t);
    cr_assert_eq(cells_sets(c, acc, &s, &err), ST_OK);
    cr_expect(s.n_set == 0 && isnan(s.mean) && isnan(acc[0]));
    decompose(c, t, &d);
    cr_expect(d.n_template == 0 && isnan(d.p_spread));
    cr_assert_eq(exact_original(none, t, 4, &e, &err), ST_OK);
    cr_expect(e.n_template == 0 && e.p_two == 1);
    cr_expect(isnan(interval_random(t, 4, 0.95, &se).low));
    memset(x, CELL_RIGHT, sizeof x);
    cells_tallies(c, t);
    decompose(c, t, &d);
    cr_expect(d.mean == 1 && d.within == 0 && d.icc == 0 && isnan(d.p_spread));
    cr_assert_eq(exact_original(orig, t, 4, &e, &err), ST_OK);
    cr_expect(e.n_informative == 0 && e.right == 4 && fabs(e.p_two - 1) < 1e-12);
    cr_expect(isnan(mantel_haenszel(t, t, 4, 0.95).value));
    struct paired p;
    cr_assert_eq(paired_compare(t, t, 4, (struct paired_opts){ 0.95, 1 }, &p, &err), ST_OK);
    cr_expect(p.mean == 0 && isnan(p.t) && p.p_wilcoxon == 1 && p.p_flip == 1);
    cr_assert_eq(paired_compare(t, t, 1, (struct paired_opts){ 0.95, 1 }, &p, &err), ST_OK);
    cr_expect(p.n == 1 && isnan(p.mean));
    cr_expect(!equivalence_test(&p, 0.1, 0.05).shown);
}

Test(evalstat_ends, unscored_cells_shrink_denominators_only)
{
    int8_t x[8] = { 1, -1, 0, 1, 1, 1, -1, -1 };
    struct tally t[2], all = cells_total((struct cells){ x, 2, 4 });
    cells_tallies((struct cells){ x, 2, 4 }, t);
    cr_expect(t[0].n == 3 && t[0].k == 2 && t[1].n == 2 && t[1].k == 2 && all.n == 5 && all.k == 4);
}

/* ---- models ---- */

/* 1,200 answers a group have more choices than a double has digits before the point. One covariate
 * that marks half of them: the odds ratio is near that of the two halves. */
Test(evalstat_models, a_thousand_answers_a_template_are_not_too_many)
{
    enum { N = 1200, T = 3 };
    struct err err = ERR_INIT;
    static uint32_t group[N * T];
    static double k[N * T], n[N * T], x[N * T];
    struct rng rng = { 11 };
    struct fit f;
    double right[2] = { 0 };
    for (uint32_t i = 0; i < N * T; i++) {
        group[i] = i / N;
        x[i] = i % 2;
        n[i] = 1;
        k[i] = rng_f64(&rng) < 0.4 + 0.2 * x[i];
        right[i % 2] += k[i];
    }
    struct model_rows r = {
        .n_row = (size_t)N * T, .n_col = 1, .group = group, .k = k, .n = n, .x = x
    };
    cr_assert_eq(clogit_fit(&r, 0, &f, &err), ST_OK, "%s", err.msg);
    double half = N * T / 2.0;
    double odds = log(right[1] / (half - right[1])) - log(right[0] / (half - right[0]));
    cr_expect_eq(f.flags, FIT_OK, "%s", fit_flag_name(f.flags));
    cr_expect(fabs(f.beta[0] - odds) < 0.02, "%g, not %g", f.beta[0], odds);
    double se = sqrt(1 / right[0] + 1 / (half - right[0]) + 1 / right[1] + 1 / (half - right[1]));
    cr_expect(fabs(f.se[0] - se) < 0.01 * se, "%g, not %g", f.se[0], se);
    cr_expect_lt(f.log_lik, 0);
}

enum { G = 60 };
static struct model_rows two_rows(double (*right)(int g, int x), uint32_t *group, double *k,
                                  double *n, double *x)
{
    for (int i = 0; i < 2 * G; i++) {
        group[i] = (uint32_t)i / 2;
        x[i] = i % 2;
        n[i] = 10;
        k[i] = right(i / 2, i % 2);
    }
    return (struct model_rows){
        .n_row = 2 * (size_t)G, .n_col = 1, .group = group, .k = k, .n = n, .x = x
    };
}
static double separated(int g, int x)
{
    return x ? 10 : 0;
}
static double no_spread(int g, int x)
{
    return 5 + g % 2;
}
static double all_right(int g, int x)
{
    return 10;
}
static double plain(int g, int x)
{
    return g % 10 + (x && g % 3);
}

Test(evalstat_models, what_cannot_be_estimated_is_flagged_and_has_no_p)
{
    static const struct {
        double (*right)(int, int);
        unsigned flag;
    } cases[] = { { separated, FIT_SEPARATED },
                  { no_spread, FIT_SINGULAR },
                  { all_right, FIT_EMPTY },
                  { plain, FIT_OK } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        uint32_t group[2 * G];
        double k[2 * G], n[2 * G], x[2 * G];
        struct fit f;
        struct model_rows r = two_rows(cases[i].right, group, k, n, x);
        cr_assert_eq(glmm_fit(&r, 0, &f, &err), ST_OK, "%s", err.msg);
        if (cases[i].flag)
            cr_expect(f.flags & cases[i].flag, "case %zu: flags %u", i, f.flags);
        else
            cr_expect_eq(f.flags, 0u, "case %zu: flags %u", i, f.flags);
        cr_expect_eq(isnan(f.lrt_p), f.flags != 0, "case %zu: %g", i, f.lrt_p);
        cr_expect_eq(isnan(f.wald_p[1]), f.flags != 0);
    }
}

Test(evalstat_models, a_separated_conditional_fit_is_flagged)
{
    struct err err = ERR_INIT;
    uint32_t group[40];
    double k[40], n[40], x[40];
    struct fit f;
    for (uint32_t i = 0; i < 40; i++) {
        group[i] = i / 4;
        x[i] = i % 4 == 0;
        n[i] = 1;
        k[i] = i % 4 == 0;
    }
    struct model_rows r = { .n_row = 40, .n_col = 1, .group = group, .k = k, .n = n, .x = x };
    cr_assert_eq(clogit_fit(&r, 0, &f, &err), ST_OK, "%s", err.msg);
    cr_expect(f.flags & FIT_SEPARATED, "%s", fit_flag_name(f.flags));
    cr_expect(isnan(f.wald_p[0]) && isnan(f.lrt_p));
    for (uint32_t i = 0; i < 40; i++)
        x[i] = i / 4; /* constant inside each group */
    cr_assert_eq(clogit_fit(&r, 0, &f, &err), ST_OK);
    cr_expect(f.flags & FIT_COLLINEAR, "%s", fit_flag_name(f.flags));
    n[3] = 2;
    cr_expect_eq(clogit_fit(&r, 0, &f, &err), ST_ARG);
    err_clear(&err);
    cr_expect_eq(clogit_fit(&r, 1, &f, &err), ST_ARG);
    err_clear(&err);
    cr_expect_eq(glmm_fit(&r, 5, &f, &err), ST_ARG);
}

/* With one covariate that marks one of n, the score equation is that of the exact test: at the
 * conditional maximum-likelihood odds ratio the expected number of right originals is the observed.
 */
Test(evalstat_models, conditional_odds_reproduce_the_observed_originals)
{
    enum { N = 21, T = 40 };
    struct err err = ERR_INIT;
    static uint32_t group[N * T];
    static double k[N * T], n[N * T], x[N * T];
    struct rng rng = { 4 };
    struct fit f;
    double observed = 0, expected = 0;
    for (uint32_t i = 0; i < N * T; i++) {
        group[i] = i / N;
        x[i] = i % N == 0;
        n[i] = 1;
        k[i] = rng_f64(&rng) < 0.2 + 0.6 * (group[i] % 5) / 5 + 0.15 * x[i];
        observed += x[i] * k[i];
    }
    struct model_rows r = {
        .n_row = (size_t)N * T, .n_col = 1, .group = group, .k = k, .n = n, .x = x
    };
    cr_assert_eq(clogit_fit(&r, 0, &f, &err), ST_OK, "%s", err.msg);
    for (int t = 0; t < T; t++) {
        double s = 0;
        for (int i = 0; i < N; i++)
            s += k[t * N + i];
        /* Choices with the original right: C(N-1, s-1); without: C(N-1, s). */
        double odds = exp(f.beta[0]) * s / (N - s);
        expected += s == N ? 1 : odds / (1 + odds);
    }
    cr_expect(fabs(expected - observed) < 1e-8, "%.12g %.12g", expected, observed);
}

Test(evalstat_shrink, posterior_rates_lie_between_their_own_and_the_mean)
{
    struct decomposition d = { .mean = 0.6, .between = 0.04 };
    struct beta_prior p = beta_prior_of(&d);
    cr_expect(fabs(p.weight - (0.24 / 0.04 - 1)) < 1e-12);
    cr_expect(fabs(beta_shrunk(p, (struct tally){ 10, 10 }) - (3 + 10) / 15.0) < 1e-12);
    cr_expect(fabs(beta_shrunk(p, (struct tally){ 0, 0 }) - 0.6) < 1e-12);
    d.between = -0.001; /* no spread: all templates are the mean */
    cr_expect(fabs(beta_shrunk(beta_prior_of(&d), (struct tally){ 10, 10 }) - 0.6) < 1e-4);
}
