/* eval/stat/cells.h - one variant's results as a table: templates by sets. A "set" is the slice of
 * all items with one instance number, what the paper calls a dataset. Pure, any thread.
 * Notation of reference gsm-symbolic 5.9: T templates, m sets, x[t][i], p_t, A_i. */
#ifndef STROBE_EVAL_STAT_CELLS_H
#define STROBE_EVAL_STAT_CELLS_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CELL_UNSCORED = -1, CELL_WRONG = 0, CELL_RIGHT = 1 };

/* Borrowed: x[t * n_set + i] is one of the three above. share: NULL, or where questions were asked
 * more than once the part of each one's answers that is right; x is its first answer then. A
 * question counts once, with its share: its answers are a cluster in the cluster of its template.
 */
struct cells {
    const int8_t *x;
    size_t n_template, n_set;
    const double *share;
};

/* Of one template: questions n that have an answer, of which k are right by their first one. many:
 * sum and sum of squares of their shares count instead of k. */
struct tally {
    uint32_t n, k;
    bool many;
    double sum, square;
};
static inline double tally_sum(struct tally t)
{
    return t.many ? t.sum : (double)t.k;
}
static inline double tally_rate(struct tally t)
{
    return t.n ? tally_sum(t) / t.n : 0;
}
/* One per template. */
void cells_tallies(struct cells c, struct tally *ret);
struct tally cells_total(struct cells c);

/* Accuracies of the sets that have a scored item. */
struct set_summary {
    size_t n_set;
    double mean, sd, min, max;      /* sd: n - 1 below */
    double q05, q25, q50, q75, q95; /* quantiles of type 7 (R's default) */
};
/* accuracy: n_set numbers, NaN where nothing was scored. ST_NOMEM. */
enum status cells_sets(struct cells c, double *accuracy, struct set_summary *ret, struct err *err);
/* Quantile of type 7 of sorted numbers, n > 0. */
double stat_quantile(const double *sorted, size_t n, double p);
double stat_mean(const double *x, size_t n);
double stat_variance(const double *x, size_t n); /* n - 1 below; 0 when n < 2 */

/* Where the originals' accuracy stands among the sets' (5.9.1). */
struct set_rank {
    double p_upper; /* (1 + #{A_i >= O}) / (m + 1) */
    double p_mid;   /* equal ones count half */
    double z;       /* (O - mean) / (sd sqrt(1 + 1/m)); NaN when sd is 0 */
};
struct set_rank set_rank(double original, const double *accuracy, size_t n_set);

/* Variance of one answer, split (5.9.2). Templates with fewer than two scored answers are left
 * out. */
struct decomposition {
    size_t n_template;
    double mean;     /* of p_t */
    double var_rate; /* var(p_t) */
    double within;  /* w = mean of n/(n-1) p_t (1 - p_t); of shares, their variance (n - 1 below) */
    double between; /* b = var(p_t) - mean of w_t/n_t, below 0 by chance: reported so */
    double icc;     /* b / (b + w), b cut at 0; 0 when both are */
    double set_sd;  /* sqrt(w / T): what the sets' sd should be when templates are fixed */
    double chi2, df; /* sum (A_i - mean)^2 / (w / T) against chi-square */
    double p_spread; /* two-sided; NaN when w is 0 or a cell is not scored */
    bool many;       /* of shares */
};
void decompose(struct cells c, const struct tally *t, struct decomposition *ret);

struct interval {
    double low, high;
};
/* Of the mean of p_t for exactly these templates: SE = sqrt(sum w_t/n_t) / T, normal. */
struct interval interval_fixed(const struct tally *t, size_t n, double level, double *se);
/* For the population that templates stand for: SE = sqrt(var(p_t)/T), Student's t with T - 1. */
struct interval interval_random(const struct tally *t, size_t n, double level, double *se);
/* Wilson's interval for k of n; n = 0: [0, 1]. */
struct interval interval_wilson(uint64_t k, uint64_t n, double level);
/* Of a mean of n shares: as if each were one answer, which is wider than need be. */
struct interval interval_wilson_mean(double mean, double n, double level);
/* Exact one-sided bounds where every answer is wrong or right (the rule of three, 1 - a^(1/n)). */
struct interval interval_extreme(uint64_t k, uint64_t n, double level);
/* Bias-corrected and accelerated bootstrap of the mean of x over templates (Efron 1987), seeded:
 * the same numbers everywhere. ST_NOMEM, ST_ARG (n < 2). */
enum status interval_bootstrap(const double *x, size_t n, double level, uint32_t resamples,
                               uint64_t seed, struct interval *ret, struct err *err);

#endif
