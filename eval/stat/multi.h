/* eval/stat/multi.h - many tests at once, planning, shrinkage, and how far two sets of numbers are
 * apart (reference 5.9.8 to 5.9.10). Pure, any thread. */
#ifndef STROBE_EVAL_STAT_MULTI_H
#define STROBE_EVAL_STAT_MULTI_H

#include "eval/stat/cells.h"

/* Adjusted p-values in the order of p; NaN stays NaN and does not count. ST_NOMEM.
 * Holm 1979: family-wise, for declared contrasts. Benjamini and Hochberg 1995: false discoveries,
 * for maps that are looked over. */
enum status adjust_holm(const double *p, size_t n, double *ret, struct err *err);
enum status adjust_bh(const double *p, size_t n, double *ret, struct err *err);

/* What a design can see. within: variance of one answer given its template (w of 5.9.2). */
struct plan_in {
    uint32_t n_template, n_instance;
    double within;
    double alpha, power; /* e.g. 0.05, 0.8 */
};
struct plan_out {
    double se_mean;      /* of one variant's accuracy, templates fixed */
    double set_sd;       /* expected spread of set accuracies */
    double mde_original; /* smallest true difference that original against generated finds */
    double mde_variant;  /* and variant against variant, or model against model */
};
struct plan_out plan_design(struct plan_in in);
/* Instances per template so that variants may be told apart by `difference`; 0: no number below
 * 1,000,000 does. */
uint32_t plan_instances(struct plan_in in, double difference);

/* Beta prior of a variant's templates by moments from a decomposition; mean and a + b ("how many
 * questions the prior is worth"), kept in [0.5, 1e6]. */
struct beta_prior {
    double mean, weight;
};
struct beta_prior beta_prior_of(const struct decomposition *d);
/* Posterior mean of a template's rate. */
double beta_shrunk(struct beta_prior prior, struct tally t);

/* Two-sample Kolmogorov-Smirnov; sorts both. p: asymptotic. ratio: of the medians, b over a; NaN
 * where a's is 0. */
struct ks {
    double d, p, ratio;
};
struct ks ks_two(double *a, size_t n, double *b, size_t m);

#endif
