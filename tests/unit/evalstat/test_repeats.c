/* tests/unit/evalstat/test_repeats.c - questions that were asked more than once: all answers count,
 * and none as if it were of another question. */
#include "engine/base/rng.h"
#include "eval/stat/dist.h"
#include "eval/stat/exact.h"
#include "eval/stat/model.h"
#include "eval/stat/multi.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(evalstat_repeats, .timeout = 600);

/* The outcome of one way to choose which of a template's three numbers is the original's. */
static int sum_of(const int32_t v[3][3], int way)
{
    int sum = 0;
    for (int t = 0; t < 3; t++, way /= 3)
        sum += v[t][way % 3];
    return sum;
}

Test(evalstat_repeats, the_exact_test_counts_all_choices_of_the_original)
{
    static const int32_t v[3][3] = { { 2, 0, 1 }, { 1, 1, 0 }, { 2, 2, 2 } };
    int32_t o[3], g[6];
    struct err err = ERR_INIT;
    struct exact_test e;
    double chance[8] = { 0 }, two = 0, up = 0, mean = 0;
    for (int t = 0; t < 3; t++) {
        o[t] = v[t][0];
        g[2 * t] = v[t][1];
        g[2 * t + 1] = v[t][2];
    }
    for (int way = 0; way < 27; way++)
        chance[sum_of(v, way)] += 1.0 / 27;
    for (int k = 0; k < 8; k++) {
        mean += k * chance[k];
        up += k >= 5 ? chance[k] : 0;
        two += chance[k] <= chance[5] * (1 + 1e-9) ? chance[k] : 0;
    }
    struct repeated r = { o, g, 3, 2, 2 };
    cr_assert_eq(exact_repeated(&r, &e, &err), ST_OK);
    cr_expect(e.right == 5 && e.n_template == 3 && e.n_informative == 2);
    cr_expect(fabs(e.expected - mean) < 1e-12 && fabs(e.p_greater - up) < 1e-12 &&
                  fabs(e.p_two - two) < 1e-12,
              "%g %g, %g %g", e.p_greater, up, e.p_two, two);
}

Test(evalstat_repeats, one_answer_each_is_the_test_of_single_answers)
{
    enum { T = 40, M = 7 };
    struct rng rng = { 3 };
    struct err err = ERR_INIT;
    for (int round = 0; round < 20; round++) {
        int8_t x[T * M], first[T];
        int32_t g[T * M], o[T];
        struct tally t[T];
        struct exact_test a, b;
        for (int i = 0; i < T * M; i++)
            g[i] = x[i] = (int8_t)((int)rng_below(&rng, 3) - 1);
        for (int i = 0; i < T; i++)
            o[i] = first[i] = (int8_t)((int)rng_below(&rng, 3) - 1);
        cells_tallies((struct cells){ x, T, M }, t);
        struct repeated r = { o, g, T, M, 1 };
        cr_assert(exact_original(first, t, T, &a, &err) == ST_OK &&
                  exact_repeated(&r, &b, &err) == ST_OK);
        cr_expect(a.n_template == b.n_template && a.right == b.right &&
                  a.n_informative == b.n_informative);
        cr_expect(fabs(a.p_two - b.p_two) < 1e-9 && fabs(a.p_mid - b.p_mid) < 1e-9 &&
                      fabs(a.sd - b.sd) < 1e-9,
                  "%.12g %.12g", a.p_two, b.p_two);
    }
}

/* Half of each template's questions are answered right with chance 0.2, half with 0.8, each R
 * times: the variance of a question's share is 0.09 + 0.16 / R. */
Test(evalstat_repeats, the_variance_of_shares_is_that_of_questions_and_of_answers)
{
    enum { T = 300, M = 40 };
    static int8_t x[T * M];
    static double share[T * M];
    static struct tally t[T], once[T];
    for (int repeats = 1; repeats <= 8; repeats *= 2) {
        struct rng rng = { 17 };
        struct decomposition d;
        double se, se_once;
        for (int i = 0; i < T * M; i++) {
            int right = 0;
            double chance = rng_f64(&rng) < 0.5 ? 0.2 : 0.8;
            for (int k = 0; k < repeats; k++) {
                bool r = rng_f64(&rng) < chance;
                x[i] = k ? x[i] : r;
                right += r;
            }
            share[i] = right / (double)repeats;
        }
        struct cells c = { x, T, M, share };
        cells_tallies(c, t);
        decompose(c, t, &d);
        double want = 0.09 + 0.16 / repeats;
        cr_expect(fabs(d.within - want) < 0.006, "%d repeats: %g, not %g", repeats, d.within, want);
        cr_expect(fabs(d.between) < 0.002 && d.p_spread > 0.001, "%g %g", d.between, d.p_spread);
        interval_fixed(t, T, 0.95, &se);
        cr_expect(fabs(se - sqrt(want / (T * M))) < 0.03 * se, "%g", se);
        cells_tallies((struct cells){ x, T, M }, once);
        interval_fixed(once, T, 0.95, &se_once);
        cr_expect(fabs(se / se_once - sqrt(want / 0.25)) < 0.03, "%g of %g", se, se_once);
    }
}

Test(evalstat_repeats, answers_that_repeat_themselves_tell_nothing_more)
{
    enum { T = 20, M = 6 };
    int8_t x[T * M];
    double share[T * M], a_se, b_se;
    struct tally a[T], b[T];
    struct decomposition d, e;
    struct rng rng = { 5 };
    for (int i = 0; i < T * M; i++) {
        x[i] = (int8_t)((int)rng_below(&rng, 3) - 1);
        share[i] = x[i] > 0;
    }
    struct cells once = { x, T, M }, many = { x, T, M, share };
    cells_tallies(once, a);
    cells_tallies(many, b);
    decompose(once, a, &d);
    decompose(many, b, &e);
    struct interval v = interval_random(a, T, 0.95, &a_se), w = interval_random(b, T, 0.95, &b_se);
    cr_expect(fabs(d.within - e.within) < 1e-12 && fabs(d.icc - e.icc) < 1e-12);
    cr_expect(fabs(a_se - b_se) < 1e-12 && fabs(v.low - w.low) < 1e-12);
    cr_expect_eq(cells_total(many).k, cells_total(once).k);
}

Test(evalstat_repeats, shares_that_vary_less_draw_a_template_less_to_the_mean)
{
    struct decomposition d = { .mean = 0.6, .between = 0.04, .within = 0.05, .many = true };
    struct beta_prior p = beta_prior_of(&d);
    /* The best guess weighs the template's mean by b / (b + w / n). */
    struct tally t = { .n = 10, .many = true, .sum = 9 };
    double weight = 0.04 / (0.04 + 0.05 / 10);
    cr_expect(fabs(beta_shrunk(p, t) - (weight * 0.9 + (1 - weight) * 0.6)) < 1e-12);
}

/* ---- a part of some questions ---- */

/* By all ways to choose: which of n are in, as bits. */
static double chosen(const int32_t *v, int n, int from, int to, int repeats)
{
    int m = to - from, seen = 0;
    double p[64] = { 0 }, whole = 0, two = 0;
    for (int i = from; i < to; i++)
        seen += v[i];
    for (unsigned way = 0; way < 1u << n; way++) {
        int sum = 0;
        if (__builtin_popcount(way) != m)
            continue;
        for (int i = 0; i < n; i++)
            sum += way >> i & 1 ? v[i] : 0;
        p[sum]++;
        whole++;
    }
    for (int s = 0; s <= n * repeats; s++)
        two += p[s] <= p[seen] * (1 + 1e-9) ? p[s] : 0;
    return two / whole;
}

Test(evalstat_repeats, a_part_is_judged_by_all_ways_to_choose_it)
{
    enum { N = 12 };
    struct rng rng = { 8 };
    struct err err = ERR_INIT;
    for (int round = 0; round < 40; round++) {
        int32_t v[N + 2] = { 0 };
        int repeats = 1 + round % 4, from = round % 5, to = from + 1 + round % 7;
        double p, with_gaps;
        for (int i = 0; i < N; i++)
            v[i] = (int32_t)rng_below(&rng, (uint64_t)repeats + 1);
        cr_assert_eq(exact_part(v, N, (size_t)from, (size_t)to, (uint32_t)repeats, &p, &err),
                     ST_OK);
        double want = chosen(v, N, from, to, repeats);
        cr_expect(fabs(p - want) < 1e-9, "round %d: %.12g, not %.12g", round, p, want);
        v[N] = v[N + 1] = -1; /* not scored: as if they were not there */
        exact_part(v, N + 2, (size_t)from, (size_t)to, (uint32_t)repeats, &with_gaps, &err);
        cr_expect_eq(with_gaps, p);
    }
}

Test(evalstat_repeats, a_part_of_single_answers_is_fishers)
{
    enum { N = 400 };
    struct err err = ERR_INIT;
    struct rng rng = { 9 };
    int32_t v[N];
    for (int m = 1; m < 120; m += 17) {
        uint32_t in = 0, out = 0;
        double p;
        for (int i = 0; i < N; i++) {
            v[i] = rng_f64(&rng) < 0.7;
            in += i < m ? (uint32_t)v[i] : 0;
            out += i < m ? 0 : (uint32_t)v[i];
        }
        cr_assert_eq(exact_part(v, N, 0, (size_t)m, 1, &p, &err), ST_OK);
        double want = fisher_two_sided(in, (uint32_t)m, out, (uint32_t)(N - m));
        /* The large ones are not counted out, and are close. */
        double tol = (double)N * m * m > PART_COST_MAX ? 0.12 : 1e-9;
        cr_expect(fabs(p - want) < tol, "%d: %.12g, not %.12g", m, p, want);
    }
    double p;
    cr_assert_eq(exact_part(v, N, 0, N, 1, &p, &err), ST_OK);
    cr_expect(isnan(p), "there is one way to choose all");
    cr_assert_eq(exact_part(v, N, 5, 5, 1, &p, &err), ST_OK);
    cr_expect(isnan(p));
}

/* ---- the odds ratio ---- */

enum { T = 60, M = 8, R = 3 };

/* Templates, in them questions, of them R answers: each varies. The original is one more question,
 * its log-odds shifted. */
struct world {
    double shift;
    int8_t original[T][R], generated[T][M][R];
};

static double normal(struct rng *r)
{
    return dist_norm_quantile(rng_f64(r) * (1 - 1e-12) + 5e-13);
}

static void ask(struct rng *r, double logit, int8_t *answer)
{
    for (int k = 0; k < R; k++)
        answer[k] = rng_f64(r) < 1 / (1 + exp(-logit));
}

static void make(struct rng *r, double shift, struct world *w)
{
    w->shift = shift;
    for (int t = 0; t < T; t++) {
        double level = 0.5 + 1.5 * normal(r);
        ask(r, level + 1.5 * normal(r) + shift, w->original[t]);
        for (int i = 0; i < M; i++)
            ask(r, level + 1.5 * normal(r), w->generated[t][i]);
    }
}

static void tally_up(const int8_t *answer, int n, struct tally *t)
{
    int right = 0;
    for (int k = 0; k < n; k++)
        right += answer[k];
    double share = right / (double)n;
    *t = (struct tally){ t->n + 1, t->k + (answer[0] > 0), true, t->sum + share,
                         t->square + share * share };
}

static struct odds_ratio odds_of(const struct world *w, int repeats, int leave_out)
{
    struct tally o[T] = { 0 }, g[T] = { 0 };
    for (int t = 0; t < T; t++) {
        if (t == leave_out)
            continue;
        tally_up(w->original[t], repeats, &o[t]);
        for (int i = 0; i < M; i++)
            tally_up(w->generated[t][i], repeats, &g[t]);
    }
    return mantel_haenszel(o, g, T, 0.95);
}

/* The templates' error against leaving them out one by one (the jackknife's). */
Test(evalstat_repeats, the_error_of_the_odds_ratio_is_that_of_templates)
{
    struct rng rng = { 21 };
    struct world w;
    make(&rng, 0, &w);
    for (int repeats = 1; repeats <= R; repeats++) {
        struct odds_ratio all = odds_of(&w, repeats, -1);
        double sum = 0, square = 0;
        for (int t = 0; t < T; t++) {
            double v = log(odds_of(&w, repeats, t).value);
            sum += v;
            square += v * v;
        }
        double se = sqrt((square - sum * sum / T) * (T - 1.0) / T);
        cr_expect(fabs(all.log_se / se - 1) < 0.05, "%d: %g, jackknife %g", repeats, all.log_se,
                  se);
        cr_expect(all.ci.low < all.value && all.value < all.ci.high);
    }
}

Test(evalstat_repeats, one_answer_each_has_the_odds_ratio_of_single_answers)
{
    struct rng rng = { 22 };
    struct world w;
    struct tally o[T], g[T];
    make(&rng, 0.5, &w);
    for (int t = 0; t < T; t++) {
        o[t] = (struct tally){ 1, (uint32_t)w.original[t][0], false, 0, 0 };
        g[t] = (struct tally){ M, 0, false, 0, 0 };
        for (int i = 0; i < M; i++)
            g[t].k += (uint32_t)w.generated[t][i][0];
    }
    struct odds_ratio a = mantel_haenszel(o, g, T, 0.95), b = odds_of(&w, 1, -1);
    cr_expect(fabs(a.value - b.value) < 1e-12 && fabs(a.log_se / b.log_se - 1) < 0.25, "%g %g",
              a.log_se, b.log_se);
}

/* ---- regressions ---- */

struct rows {
    uint32_t group[T * R * (M + 1)], cluster[T * R * (M + 1)];
    double k[T * R * (M + 1)], n[T * R * (M + 1)], x[T * R * (M + 1)];
    size_t n_row;
};

static void put_row(struct rows *v, int t, int round, double x, double k, double n)
{
    v->group[v->n_row] = (uint32_t)(t * R + round);
    v->cluster[v->n_row] = (uint32_t)t;
    v->x[v->n_row] = x;
    v->k[v->n_row] = k;
    v->n[v->n_row++] = n;
}

static struct model_rows view(const struct rows *v, bool clusters)
{
    return (struct model_rows){ .n_row = v->n_row,
                                .n_col = 1,
                                .group = v->group,
                                .k = v->k,
                                .n = v->n,
                                .x = v->x,
                                .cluster = clusters ? v->cluster : NULL };
}

/* Rounds of answers: answer by answer, or added up. copies: the first round that often. */
static void lay_out(const struct world *w, bool single, int rounds, bool copies, struct rows *v)
{
    v->n_row = 0;
    for (int t = 0; t < T; t++)
        for (int k = 0; k < rounds; k++) {
            int at = copies ? 0 : k;
            double sum = 0;
            put_row(v, t, k, 1, w->original[t][at], 1);
            for (int i = 0; i < M; i++) {
                sum += w->generated[t][i][at];
                if (single)
                    put_row(v, t, k, 0, w->generated[t][i][at], 1);
            }
            if (!single)
                put_row(v, t, k, 0, sum, M);
        }
}

typedef enum status fit_fn(const struct model_rows *rows, size_t tested, struct fit *ret,
                           struct err *err);

/* Answers that repeat themselves tell nothing more: neither coefficient nor error changes. */
Test(evalstat_repeats, copied_answers_change_neither_coefficients_nor_errors)
{
    static struct rows once, copied;
    struct rng rng = { 31 };
    struct world w;
    make(&rng, 0.5, &w);
    for (int single = 0; single < 2; single++) {
        fit_fn *fit = single ? clogit_fit : glmm_fit;
        struct err err = ERR_INIT;
        struct fit a, b, plain;
        int col = !single;
        lay_out(&w, single, 1, false, &once);
        lay_out(&w, single, R, true, &copied);
        struct model_rows x = view(&once, true), y = view(&copied, true), z = view(&once, false);
        cr_assert(fit(&x, 0, &a, &err) == ST_OK && fit(&y, 0, &b, &err) == ST_OK &&
                      fit(&z, 0, &plain, &err) == ST_OK,
                  "%s", err.msg);
        cr_expect(a.flags == FIT_OK && b.flags == FIT_OK && plain.flags == FIT_OK);
        cr_expect(fabs(a.beta[col] - b.beta[col]) < 1e-7 && fabs(a.se[col] - b.se[col]) < 1e-6,
                  "%g (%g), %g (%g)", a.beta[col], a.se[col], b.beta[col], b.se[col]);
        cr_expect(fabs(a.beta[col] - plain.beta[col]) < 1e-9);
        /* Nothing is wrong with the model of single answers: both errors are about the same. */
        cr_expect(fabs(a.se[col] / plain.se[col] - 1) < 0.25, "%g, %g", a.se[col], plain.se[col]);
        cr_expect(isnan(a.lrt_p) && a.p == a.wald_p[col] && plain.p == plain.lrt_p);
        cr_expect(a.n_cluster > 1 && a.n_cluster == b.n_cluster && plain.n_cluster == 0);
        double p = dist_t_two_sided(a.beta[col] / a.se[col], (double)a.n_cluster - 1);
        cr_expect(fabs(a.p - p) < 1e-12);
    }
}

/* log of the chance of the original's answer and of how many are right, by all choices: of a round
 * with s right among M + 1, s - 1 or s of the M others are. */
static double round_log_lik(const struct world *w, int t, int k, double beta)
{
    int others = 0, s;
    for (int i = 0; i < M; i++)
        others += w->generated[t][i][k];
    s = others + w->original[t][k];
    double with = s > 0 ? exp(dist_log_choose(M, s - 1) + beta) : 0,
           without = s <= M ? exp(dist_log_choose(M, s)) : 0;
    return w->original[t][k] * beta - log(with + without);
}

/* The sandwich from the definition: slopes of each template's log-likelihood by differences. */
Test(evalstat_repeats, errors_come_from_the_scores_of_templates)
{
    static struct rows v;
    struct rng rng = { 32 };
    struct world w;
    struct err err = ERR_INIT;
    struct fit f;
    const double h = 1e-4;
    double score = 0, meat = 0, info = 0, n = 0;
    make(&rng, 0.5, &w);
    lay_out(&w, true, R, false, &v);
    struct model_rows rows = view(&v, true);
    cr_assert_eq(clogit_fit(&rows, 0, &f, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(f.flags, FIT_OK);
    for (int t = 0; t < T; t++) {
        double up = 0, down = 0, mid = 0;
        bool tells = false;
        for (int k = 0; k < R; k++) {
            up += round_log_lik(&w, t, k, f.beta[0] + h);
            mid += round_log_lik(&w, t, k, f.beta[0]);
            down += round_log_lik(&w, t, k, f.beta[0] - h);
            int s = w.original[t][k];
            for (int i = 0; i < M; i++)
                s += w.generated[t][i][k];
            tells |= s > 0 && s <= M;
        }
        double slope = (up - down) / (2 * h);
        score += slope;
        meat += slope * slope;
        info -= (up - 2 * mid + down) / (h * h);
        n += tells;
    }
    cr_expect(fabs(score) < 1e-5, "the coefficient is where the slopes cancel: %g", score);
    cr_expect_eq((double)f.n_cluster, n);
    double se = sqrt(meat * n / (n - 1)) / info;
    cr_expect(fabs(f.se[0] / se - 1) < 1e-4, "%g, not %g", f.se[0], se);
}

/* How often a test at 5 % rejects where originals are questions like all others. */
static double rejects(bool clusters, int n, uint64_t seed)
{
    static struct rows v;
    struct rng rng = { seed };
    int hits = 0;
    for (int i = 0; i < n; i++) {
        struct err err = ERR_INIT;
        struct world w;
        struct fit f;
        make(&rng, 0, &w);
        lay_out(&w, true, R, false, &v);
        struct model_rows rows = view(&v, clusters);
        cr_assert_eq(clogit_fit(&rows, 0, &f, &err), ST_OK, "%s", err.msg);
        hits += f.p <= 0.05;
    }
    return hits / (double)n;
}

Test(evalstat_repeats, regressions_of_repeats_hold_their_level)
{
    double held = rejects(true, 1000, 41), naive = rejects(false, 200, 41);
    printf("conditional: %.4f; as if all answers were independent %.4f\n", held, naive);
    cr_expect(held >= 0.035 && held <= 0.065, "%.4f", held);
    cr_expect_gt(naive, 0.1);
}

Test(evalstat_repeats, intervals_of_the_odds_ratio_cover_it)
{
    enum { N = 1000 };
    struct rng rng = { 51 };
    int covered = 0;
    for (int i = 0; i < N; i++) {
        struct world w;
        make(&rng, 0, &w);
        struct odds_ratio o = odds_of(&w, R, -1);
        covered += o.ci.low <= 1 && 1 <= o.ci.high;
    }
    printf("odds ratio: %.4f\n", covered / (double)N);
    cr_expect(covered >= 935 && covered <= 965, "%d of %d", covered, N);
}
