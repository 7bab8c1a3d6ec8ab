/* eval/stat/dist.h - distribution functions that the evaluation's tests need: normal, Student's t,
 * chi-square, binomial, the two-sided Kolmogorov limit. Pure, no state, any thread. Relative error
 * below 1e-11 over the ranges that tests reach; checked against R (tests/unit/evalstat). */
#ifndef STROBE_EVAL_STAT_DIST_H
#define STROBE_EVAL_STAT_DIST_H

#include <stddef.h>

double dist_norm_cdf(double z);
/* p in (0, 1); infinite outside of it. Wichura 1988, algorithm AS 241. */
double dist_norm_quantile(double p);
double dist_norm_two_sided(double z); /* P(|Z| >= |z|) */

/* Regularised incomplete beta I_x(a, b), a and b > 0, x in [0, 1]. Continued fraction,
 * DLMF 8.17.22. */
double dist_beta_inc(double a, double b, double x);
double dist_t_cdf(double t, double df);
double dist_t_two_sided(double t, double df);
double dist_t_quantile(double p, double df); /* p in (0, 1) */

double dist_chi2_sf(double x, double df); /* upper tail */

double dist_log_choose(double n, double k);
/* P(X = k) of n draws with chance p. */
double dist_binom_pmf(size_t k, size_t n, double p);
/* Two-sided exact p-value of k of n at chance p: all outcomes that are no likelier. */
double dist_binom_two_sided(size_t k, size_t n, double p);

/* P(K > z) of the limit of sqrt(n) D. */
double dist_kolmogorov_sf(double z);

#endif
