/* tests/unit/evalstat/test_golden.c - every routine of eval/stat against R. The numbers were made
 * by tests/golden/evalstat/make_golden.R; where R is installed they are made again first. */
#include "eval/stat/dist.h"
#include "eval/stat/exact.h"
#include "eval/stat/model.h"
#include "eval/stat/multi.h"
#include "eval/stat/paired.h"
#include "golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { T = 100, M = 50 };
#define TOL 1e-9

static struct golden g;

static void load(void)
{
    golden_load(&g, GOLDEN_DIR "/golden.txt");
}
static void unload(void)
{
    golden_free(&g);
}
TestSuite(evalstat, .init = load, .fini = unload);

static void all_near(const double *got, const char *name, size_t n, double tol)
{
    const double *want = golden_get(&g, name, n);
    for (size_t i = 0; i < n; i++)
        golden_near(got[i], want[i], tol, name, i);
}

static struct cells table(const char *name)
{
    return (struct cells){ golden_cells(&g, name, T * M), T, M };
}

static struct tally tally_a[T], tally_b[T];
static struct cells tallies(void)
{
    struct cells a = table("a");
    cells_tallies(a, tally_a);
    cells_tallies(table("b"), tally_b);
    return a;
}

Test(evalstat, the_normal_distribution_is_rs)
{
    const double *x = golden_get(&g, "norm_x", 9), *p = golden_get(&g, "quant_p", 8);
    double cdf[9], two[9], quant[8];
    for (int i = 0; i < 9; i++) {
        cdf[i] = dist_norm_cdf(x[i]);
        two[i] = dist_norm_two_sided(x[i]);
    }
    for (int i = 0; i < 8; i++)
        quant[i] = dist_norm_quantile(p[i]);
    all_near(cdf, "norm_cdf", 9, 1e-14);
    all_near(two, "norm_two", 9, 1e-14);
    all_near(quant, "norm_quant", 8, 1e-12);
    cr_expect(isinf(dist_norm_quantile(0)) && isinf(dist_norm_quantile(1)));
    /* Far tails to their own size, not to 1. */
    NEAR(dist_norm_cdf(-8) / golden_get(&g, "norm_cdf", 9)[0], 1, 1e-12, "relative");
}

Test(evalstat, student_and_chi_square_are_rs)
{
    const double t[6] = { -5, -1.3, 0, 0.7, 2, 12 },
                 q[6] = { 0.001, 0.025, 0.4, 0.9, 0.975, 0.9999 },
                 x[7] = { 0.01, 0.5, 1, 4, 30, 60, 120 };
    const int dfs[] = { 1, 4, 49, 99, 1000 };
    for (size_t d = 0; d < sizeof dfs / sizeof dfs[0]; d++) {
        char name[3][24];
        double cdf[6], quant[6], chi[7];
        snprintf(name[0], 24, "t_cdf_%d", dfs[d]);
        snprintf(name[1], 24, "t_quant_%d", dfs[d]);
        snprintf(name[2], 24, "chi2_%d", dfs[d]);
        for (int i = 0; i < 6; i++) {
            cdf[i] = dist_t_cdf(t[i], dfs[d]);
            quant[i] = dist_t_quantile(q[i], dfs[d]);
        }
        for (int i = 0; i < 7; i++)
            chi[i] = dist_chi2_sf(x[i], dfs[d]);
        all_near(cdf, name[0], 6, 1e-11);
        all_near(quant, name[1], 6, 1e-10);
        all_near(chi, name[2], 7, 1e-11);
    }
    double beta[4] = { dist_beta_inc(0.5, 3, 0.2), dist_beta_inc(12, 4.5, 0.7),
                       dist_beta_inc(50, 0.5, 0.999), dist_beta_inc(2, 2, 1e-6) };
    all_near(beta, "beta_inc", 4, 1e-12);
}

Test(evalstat, exact_tests_of_counts_are_rs)
{
    double binom[3] = { dist_binom_two_sided(3, 20, 0.3), dist_binom_two_sided(9, 10, 0.5),
                        dist_binom_two_sided(0, 7, 0.5) };
    double mcnemar[2] = { mcnemar_exact(4, 13), mcnemar_exact(12, 12) };
    double fisher[2] = { fisher_two_sided(95, 100, 4100, 5000), fisher_two_sided(3, 12, 7, 8) };
    all_near(binom, "binom_two", 3, TOL);
    all_near(mcnemar, "mcnemar", 2, TOL);
    all_near(fisher, "fisher", 2, TOL);
    cr_expect_eq(mcnemar_exact(0, 0), 1);
}

Test(evalstat, sets_and_the_rank_of_the_original)
{
    struct err err = ERR_INIT;
    double acc[M];
    struct set_summary s;
    struct cells a = tallies();
    cr_assert_eq(cells_sets(a, acc, &s, &err), ST_OK);
    double got[9] = { s.mean, s.sd, s.min, s.max, s.q05, s.q25, s.q50, s.q75, s.q95 };
    all_near(got, "sets", 9, TOL);
    const double *orig = golden_get(&g, "orig", T);
    double right = 0;
    for (int i = 0; i < T; i++)
        right += orig[i];
    struct set_rank r = set_rank(right / T, acc, M);
    double rank[3] = { r.p_upper, r.p_mid, r.z };
    all_near(rank, "rank", 3, TOL);
}

Test(evalstat, variance_splits_as_in_an_analysis_of_variance)
{
    struct decomposition d;
    struct cells a = tallies();
    decompose(a, tally_a, &d);
    double got[9] = { d.mean,   d.var_rate, d.within, d.between, d.icc,
                      d.set_sd, d.chi2,     d.df,     d.p_spread };
    double anova[2] = { d.within, d.between };
    all_near(got, "decompose", 9, TOL);
    all_near(anova, "anova_w_b", 2, TOL);
}

Test(evalstat, intervals_are_rs)
{
    double se;
    tallies();
    struct interval v = interval_fixed(tally_a, T, 0.95, &se);
    double fixed[3] = { v.low, v.high, se };
    v = interval_random(tally_a, T, 0.95, &se);
    double random[3] = { v.low, v.high, se };
    struct interval w1 = interval_wilson(81, 263, 0.95), w2 = interval_wilson(4, 5, 0.9);
    double wilson[4] = { w1.low, w1.high, w2.low, w2.high };
    double extreme[2] = { interval_extreme(0, 50, 0.95).high,
                          interval_extreme(100, 100, 0.95).low };
    all_near(fixed, "fixed", 3, TOL);
    all_near(random, "random", 3, TOL);
    all_near(wilson, "wilson", 4, TOL);
    all_near(extreme, "extreme", 2, TOL);
    v = interval_wilson(0, 40, 0.95);
    cr_expect(v.low == 0 && v.high > 0.08 && v.high < 0.1);
}

/* The ends of 20,000 plain resamples in R have a Monte Carlo error of about 0.0005; the correction
 * for bias and skewness moves them by about 0.002. */
Test(evalstat, the_bootstrap_is_near_rs_and_the_same_each_time)
{
    struct err err = ERR_INIT;
    double p[T];
    struct interval a, b, c;
    const double *want = golden_get(&g, "boot_percentile", 2);
    tallies();
    for (int t = 0; t < T; t++)
        p[t] = tally_rate(tally_a[t]);
    cr_assert_eq(interval_bootstrap(p, T, 0.95, 10000, 7, &a, &err), ST_OK);
    cr_assert_eq(interval_bootstrap(p, T, 0.95, 10000, 7, &b, &err), ST_OK);
    cr_assert_eq(interval_bootstrap(p, T, 0.95, 10000, 8, &c, &err), ST_OK);
    cr_expect(a.low == b.low && a.high == b.high);
    cr_expect(fabs(a.low - c.low) < 0.005 && fabs(a.high - c.high) < 0.005);
    cr_expect(fabs(a.low - want[0]) < 0.005, "%g %g", a.low, want[0]);
    cr_expect(fabs(a.high - want[1]) < 0.005, "%g %g", a.high, want[1]);
    cr_expect_eq(interval_bootstrap(p, 1, 0.95, 10, 7, &a, &err), ST_ARG);
}

Test(evalstat, original_against_generated_by_another_algorithm)
{
    struct err err = ERR_INIT;
    struct exact_test x;
    const int8_t *orig = golden_cells(&g, "orig", T);
    cells_tallies(table("a"), tally_a);
    cr_assert_eq(exact_original(orig, tally_a, T, &x, &err), ST_OK);
    double got[7] = { x.right, x.expected, x.sd, x.p_two, x.p_mid, x.p_greater, x.p_less };
    all_near(got, "exact", 7, TOL);
    struct tally single[T];
    cells_tallies((struct cells){ .x = orig, .n_template = T, .n_set = 1 }, single);
    struct odds_ratio o = mantel_haenszel(single, tally_a, T, 0.95);
    double mh[4] = { o.value, o.ci.low, o.ci.high, o.log_se };
    all_near(mh, "mh", 4, TOL);
}

Test(evalstat, paired_contrasts_are_rs)
{
    struct err err = ERR_INIT;
    struct paired p;
    tallies();
    cr_assert_eq(paired_compare(tally_a, tally_b, T, (struct paired_opts){ 0.95, 3 }, &p, &err),
                 ST_OK);
    double got[7] = { p.mean, p.sd, p.se, p.t_ci.low, p.t_ci.high, p.t, p.p_t };
    double w[2] = { p.w, p.p_wilcoxon };
    all_near(got, "paired", 7, TOL);
    all_near(w, "wilcoxon", 2, TOL);
    cr_expect(!p.wilcoxon_exact && !p.flip_exact);
    /* 5 standard errors of the t test away: no draw of 100,000 reaches it. */
    cr_expect_lt(p.p_flip, 1e-4);
    cr_expect(fabs(p.bootstrap.low - p.t_ci.low) < 0.003 &&
              fabs(p.bootstrap.high - p.t_ci.high) < 0.003);
    struct equivalence e = equivalence_test(&p, 0.06, 0.05);
    double tost[3] = { e.p, e.ci.low, e.ci.high };
    all_near(tost, "tost", 3, TOL);
    cr_expect(e.shown);
}

Test(evalstat, small_samples_are_counted_out)
{
    struct err err = ERR_INIT;
    const double *d = golden_get(&g, "small", 15);
    bool exact;
    double got[2], flip;
    got[1] = wilcoxon_signed(d, 15, &got[0], &exact, &err);
    cr_expect(exact);
    all_near(got, "wilcoxon_exact", 2, TOL);
    flip = sign_flip(d, 15, 1, &exact);
    cr_expect(exact);
    all_near(&flip, "flip_exact", 1, TOL);
}

Test(evalstat, the_trend_over_levels_is_that_of_regressions)
{
    struct err err = ERR_INIT;
    struct trend r;
    const double level[4] = { -1, 0, 1, 2 };
    cr_assert_eq(trend_fit(golden_get(&g, "levels", T * 4), T, level, 4,
                           (struct paired_opts){ 0.95, 5 }, &r, &err),
                 ST_OK);
    double got[6] = { r.slope, r.se, r.t, r.p_t, r.ci.low, r.ci.high };
    all_near(got, "trend", 6, TOL);
    cr_expect(r.n == T && r.p_permutation < 1e-3);
}

Test(evalstat, adjusted_p_values_are_rs)
{
    struct err err = ERR_INIT;
    double got[9];
    const double *p = golden_get(&g, "ps", 9);
    cr_assert_eq(adjust_holm(p, 9, got, &err), ST_OK);
    all_near(got, "holm", 9, 1e-15);
    cr_assert_eq(adjust_bh(p, 9, got, &err), ST_OK);
    all_near(got, "bh", 9, 1e-15);
}

Test(evalstat, kolmogorov_smirnov_is_rs)
{
    double x[60], y[90];
    memcpy(x, golden_get(&g, "ks_x", 60), sizeof x);
    memcpy(y, golden_get(&g, "ks_y", 90), sizeof y);
    struct ks k = ks_two(x, 60, y, 90);
    double got[3] = { k.d, k.p, k.ratio };
    all_near(got, "ks", 3, TOL);
}

Test(evalstat, conditional_regression_is_that_of_all_choices_enumerated)
{
    enum { N = 210 };
    struct err err = ERR_INIT;
    uint32_t group[N];
    double one[N];
    struct fit f;
    for (uint32_t i = 0; i < N; i++) {
        group[i] = i / 7;
        one[i] = 1;
    }
    struct model_rows r = { .n_row = N,
                            .n_col = 2,
                            .group = group,
                            .k = golden_get(&g, "clogit_y", N),
                            .n = one,
                            .x = golden_get(&g, "clogit_x", (size_t)N * 2) };
    cr_assert_eq(clogit_fit(&r, 0, &f, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(f.flags, FIT_OK);
    double l[3] = { f.lrt, f.lrt_p, f.log_lik };
    all_near(f.beta, "clogit_beta", 2, TOL);
    all_near(f.se, "clogit_se", 2, 1e-7); /* R's are numerical derivatives */
    all_near(l, "clogit_lrt", 3, TOL);
}

static struct model_rows one_column(const int8_t *orig, const struct tally *t, uint32_t *group,
                                    double *k, double *n, double *x)
{
    for (uint32_t i = 0; i < T; i++) {
        group[2 * i] = group[2 * i + 1] = i;
        k[2 * i] = orig[i];
        n[2 * i] = 1;
        x[2 * i] = 1;
        k[2 * i + 1] = t[i].k;
        n[2 * i + 1] = t[i].n;
        x[2 * i + 1] = 0;
    }
    return (struct model_rows){
        .n_row = 2 * (size_t)T, .n_col = 1, .group = group, .k = k, .n = n, .x = x
    };
}

Test(evalstat, the_mixed_model_is_lme4s)
{
    struct err err = ERR_INIT;
    uint32_t group[2 * T];
    double k[2 * T], n[2 * T], x[2 * T];
    struct fit f;
    cells_tallies(table("a"), tally_a);
    struct model_rows r = one_column(golden_cells(&g, "orig", T), tally_a, group, k, n, x);
    cr_assert_eq(glmm_fit(&r, 0, &f, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(f.flags, FIT_OK, "%s", fit_flag_name(f.flags));
    all_near(f.beta, "glmm_beta", 2, 1e-4);
    all_near(f.se, "glmm_se", 2, 1e-4);
    all_near(&f.sigma, "glmm_sigma", 1, 1e-4);
    double l[2] = { f.lrt, f.lrt_p };
    all_near(l, "glmm_lrt", 2, 1e-5);
    /* The likelihood itself, by R's adaptive integration at lme4's optimum. */
    double full = f.log_lik;
    all_near(&full, "glmm_marginal", 1, 1e-9);
}

/* Where R is there, the committed numbers are still what it says. */
Test(evalstat, the_committed_numbers_are_reproduced, .timeout = 600)
{
    char out[64], command[1024];
    if (system("Rscript --version >/dev/null 2>&1") != 0) {
        fprintf(stderr,
                "SKIPPED: the numbers of tests/golden/evalstat are not made again without R\n");
        return;
    }
    snprintf(out, sizeof out, "/tmp/strobe-golden-%d.txt", getpid());
    snprintf(command, sizeof command, "Rscript %s/make_golden.R %s >/dev/null 2>&1", GOLDEN_DIR,
             out);
    cr_assert_eq(system(command), 0);
    struct golden made;
    golden_load(&made, out);
    unlink(out);
    size_t mixed = 0;
    for (size_t i = 0; i < g.n_line; i++) {
        bool lme4 = strncmp(g.line[i].name, "glmm", 4) == 0;
        mixed += lme4;
        if (lme4 && made.n_line + 5 == g.n_line)
            continue; /* no lme4 here */
        const double *v = golden_get(&made, g.line[i].name, g.line[i].n);
        for (size_t j = 0; j < g.line[i].n; j++)
            golden_near(v[j], g.line[i].v[j], lme4 ? 1e-5 : 1e-9, g.line[i].name, j);
    }
    cr_expect_eq(mixed, 5);
    golden_free(&made);
}
