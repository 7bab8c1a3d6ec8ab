/* eval/stat/robust.h - standard errors that hold whatever the answers of one cluster have to do
 * with each other (Liang and Zeger 1986): A^-1 M A^-1 n/(n - 1), A the information that a fit
 * believes in, M the sum over n clusters of the outer product of their scores. Pure, any thread. */
#ifndef STROBE_EVAL_STAT_ROBUST_H
#define STROBE_EVAL_STAT_ROBUST_H

#include "eval/stat/small.h"

#include <stdint.h>

struct robust {
    size_t dim, n_cluster; /* dim <= SMALL_MAX */
    uint32_t at;           /* the cluster in hand */
    double one[SMALL_MAX]; /* its score so far */
    double meat[SMALL_MAX * SMALL_MAX];
};
void robust_init(struct robust *r, size_t dim);
/* Adds a score. All of one cluster's come one behind another. */
void robust_add(struct robust *r, uint32_t cluster, const double *score);
/* cov: A^-1 in, the clusters' covariance out; NaN from fewer than two clusters. */
void robust_finish(struct robust *r, double *cov);

#endif
