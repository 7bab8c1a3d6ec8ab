/* eval/stat/model.h - right or wrong explained by covariates, with the template accounted for:
 * conditional logistic regression (the template's level drops out; reference 5.9.4) and a logistic
 * model with a random intercept per template (5.9.6). Pure; any thread.
 *
 * Rows are grouped: all rows of a template stand together. x: n_row * n_col, row-major. */
#ifndef STROBE_EVAL_STAT_MODEL_H
#define STROBE_EVAL_STAT_MODEL_H

#include "engine/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { MODEL_COLS_MAX = 8 };

struct model_rows {
    size_t n_row, n_col;
    const uint32_t *group; /* of each row, does not fall */
    const double *k, *n;   /* right answers of how many asked; clogit: n is 1 */
    const double *x;
    /* NULL, or of each row, does not fall: groups of one cluster have to do with each other (the
     * first and the second answers to a template's questions). The coefficients are those of all
     * groups, standard errors come from the clusters (robust.h), p from Wald's test with Student's
     * t, one degree of freedom less than clusters. */
    const uint32_t *cluster;
};
/* Behind the last row of the group that begins at `from`. */
static inline size_t model_group_end(const struct model_rows *r, size_t from)
{
    size_t to = from + 1;
    while (to < r->n_row && r->group[to] == r->group[from])
        to++;
    return to;
}

/* Why a fit's p-values must not be used. */
enum fit_flag {
    FIT_OK = 0,
    FIT_NOT_CONVERGED = 1, /* the gradient did not vanish */
    FIT_SINGULAR = 2,      /* the random intercept's variance is 0 */
    FIT_SEPARATED = 4,     /* a covariate tells right from wrong: its coefficient has no end */
    FIT_EMPTY = 8,         /* nothing to fit: all right or all wrong */
    FIT_COLLINEAR = 16     /* a covariate does not vary inside templates, or repeats another */
};
/* "ok", "not converged", ... the first that holds; static storage. */
const char *fit_flag_name(unsigned flags);

struct fit {
    unsigned flags;   /* enum fit_flag */
    size_t n_group;   /* that carry information */
    size_t n_cluster; /* the same of clusters; 0: there are none */
    double beta[MODEL_COLS_MAX + 1], se[MODEL_COLS_MAX + 1];
    double wald_p[MODEL_COLS_MAX + 1]; /* NaN when flagged */
    double lrt, lrt_p; /* of leaving column `tested` out; NaN when flagged, or with clusters */
    double p;          /* of column `tested`: lrt_p; with clusters its wald_p */
    double log_lik;
    double sigma; /* random intercept's standard deviation, on the logit scale */
    int iterations;
};
/* Fills in standard errors and Wald's p of the first n coefficients; cov: of dim parameters. */
void fit_errors(struct fit *f, const double *cov, size_t dim, size_t n);

/* beta[j]: of column j. Newton with the recursion of elementary symmetric functions (Gail, Lubin,
 * Rubinstein 1981). tested: the column of the likelihood-ratio test. ST_ARG (columns, n is not 1),
 * ST_NOMEM. */
enum status clogit_fit(const struct model_rows *rows, size_t tested, struct fit *ret,
                       struct err *err);

/* beta[0]: intercept, beta[1 + j]: of column j. logit P = b0 + x b + sigma u, u standard normal per
 * group; adaptive Gauss-Hermite with 49 nodes, BFGS, Newton at the end. ST_ARG, ST_NOMEM. */
enum status glmm_fit(const struct model_rows *rows, size_t tested, struct fit *ret,
                     struct err *err);

#endif
