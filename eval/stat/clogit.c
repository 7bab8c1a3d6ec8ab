/* eval/stat/clogit.c - conditional logistic regression. A group of n answers with s right ones
 * contributes exp(sum of x b over the right ones) over B(s), the sum of that over all choices of s
 * of n. B and its derivatives grow answer by answer: B(r) += w B(r - 1), w = exp(x b). */
#include "eval/stat/dist.h"
#include "eval/stat/model.h"
#include "eval/stat/robust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 60 };
#define NODE_BIG 1e100 /* 1,000 answers have 1e299 choices: smaller numbers in time */
#define BETA_END 30.0  /* a covariate in steps of 1 that changes odds by e^30: separated */

struct score {
    double log_lik;
    double grad[MODEL_COLS_MAX];
    double info[MODEL_COLS_MAX * MODEL_COLS_MAX]; /* minus the second derivatives */
};

/* One count r of the recursion: B, dB, ddB. */
struct node {
    double b, d[MODEL_COLS_MAX], dd[MODEL_COLS_MAX * MODEL_COLS_MAX];
};

const char *fit_flag_name(unsigned flags)
{
    return flags & FIT_EMPTY           ? "nothing to fit"
           : flags & FIT_COLLINEAR     ? "collinear"
           : flags & FIT_SEPARATED     ? "separated"
           : flags & FIT_NOT_CONVERGED ? "not converged"
           : flags & FIT_SINGULAR      ? "singular"
                                       : "ok";
}

void fit_errors(struct fit *f, const double *cov, size_t dim, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        f->se[j] = sqrt(cov[j * dim + j]);
        double z = f->beta[j] / f->se[j];
        f->wald_p[j] =
            f->n_cluster ? dist_t_two_sided(z, (double)f->n_cluster - 1) : dist_norm_two_sided(z);
    }
}

static void add_answer(struct node *at, const struct node *before, const double *x, double w,
                       size_t p)
{
    for (size_t j = 0; j < p; j++)
        for (size_t k = 0; k < p; k++)
            at->dd[j * p + k] += w * (before->dd[j * p + k] + x[j] * before->d[k] +
                                      x[k] * before->d[j] + x[j] * x[k] * before->b);
    for (size_t j = 0; j < p; j++)
        at->d[j] += w * (before->d[j] + x[j] * before->b);
    at->b += w * before->b;
}

/* The recursion is linear: all nodes are divided by the largest. Its log. */
static double smaller(struct node *node, size_t n, size_t p)
{
    double top = 0;
    for (size_t c = 0; c < n; c++)
        top = fmax(top, node[c].b);
    if (top < NODE_BIG)
        return 0;
    for (size_t c = 0; c < n; c++) {
        node[c].b /= top;
        for (size_t j = 0; j < p; j++)
            node[c].d[j] /= top;
        for (size_t j = 0; j < p * p; j++)
            node[c].dd[j] /= top;
    }
    return log(top);
}

/* Rows [from, to) of one group, s of them right. false: all of them, or none: they tell nothing. */
static bool add_group(const struct model_rows *r, size_t from, size_t to, const double *beta,
                      struct node *node, struct score *out)
{
    size_t p = r->n_col, s = 0;
    double mid[MODEL_COLS_MAX] = { 0 }, scale = 0;
    for (size_t i = from; i < to; i++) {
        s += r->k[i] > 0;
        for (size_t j = 0; j < p; j++)
            mid[j] += r->x[i * p + j] / (double)(to - from);
    }
    if (s == 0 || s == to - from)
        return false;
    memset(node, 0, (s + 1) * sizeof *node);
    node[0].b = 1;
    for (size_t i = from; i < to; i++) {
        double x[MODEL_COLS_MAX], eta = 0;
        for (size_t j = 0; j < p; j++) {
            x[j] = r->x[i * p + j] - mid[j]; /* a constant per group drops out */
            eta += x[j] * beta[j];
        }
        double w = exp(eta);
        for (size_t c = s; c > 0; c--)
            add_answer(&node[c], &node[c - 1], x, w, p);
        scale += smaller(node, s + 1, p);
        if (r->k[i] > 0) {
            out->log_lik += eta;
            for (size_t j = 0; j < p; j++)
                out->grad[j] += x[j];
        }
    }
    const struct node *b = &node[s];
    out->log_lik -= log(b->b) + scale;
    for (size_t j = 0; j < p; j++) {
        out->grad[j] -= b->d[j] / b->b;
        for (size_t k = 0; k < p; k++)
            out->info[j * p + k] += b->dd[j * p + k] / b->b - b->d[j] * b->d[k] / (b->b * b->b);
    }
    return true;
}

static void score_at(const struct model_rows *r, const double *beta, struct node *node,
                     struct score *out)
{
    *out = (struct score){ 0 };
    for (size_t from = 0, to; from < r->n_row; from = to) {
        to = model_group_end(r, from);
        add_group(r, from, to, beta, node, out);
    }
}

/* cov: inverse information in, what the clusters' scores say out. How many clusters. */
static size_t by_clusters(const struct model_rows *r, const double *beta, struct node *node,
                          double *cov)
{
    struct robust v;
    robust_init(&v, r->n_col);
    for (size_t from = 0, to; from < r->n_row; from = to) {
        struct score one = { 0 };
        to = model_group_end(r, from);
        if (add_group(r, from, to, beta, node, &one))
            robust_add(&v, r->cluster[from], one.grad);
    }
    robust_finish(&v, cov);
    return v.n_cluster;
}

/* Newton from 0, halved while the likelihood falls. cov: inverse information at the end. */
static unsigned climb(const struct model_rows *r, struct node *node, double *beta, struct score *s,
                      double *cov, int *steps)
{
    size_t p = r->n_col;
    score_at(r, beta, node, s);
    for (int it = 0; it < STEPS_MAX; it++) {
        double l[MODEL_COLS_MAX * MODEL_COLS_MAX], move[MODEL_COLS_MAX], big = 0;
        *steps = it;
        memcpy(l, s->info, sizeof l);
        memcpy(move, s->grad, sizeof move);
        if (!small_cholesky(l, p)) /* at 0 nothing is separated yet */
            return it == 0 ? FIT_COLLINEAR : FIT_SEPARATED;
        small_solve(l, p, move);
        small_inverse(l, p, cov);
        for (size_t j = 0; j < p; j++) {
            double se = sqrt(cov[j * p + j]);
            big = fmax(big, fabs(move[j]) / (se > 0 ? se : 1));
            if (fabs(beta[j]) > BETA_END && se > BETA_END)
                return FIT_SEPARATED;
        }
        if (big < 1e-10)
            return FIT_OK;
        double old = s->log_lik, next[MODEL_COLS_MAX];
        for (int half = 0; half < 30; half++) {
            for (size_t j = 0; j < p; j++)
                next[j] = beta[j] + ldexp(move[j], -half);
            score_at(r, next, node, s);
            if (s->log_lik >= old - 1e-12 * fabs(old))
                break;
        }
        memcpy(beta, next, p * sizeof *beta);
    }
    /* Separation shows as a likelihood that creeps up for ever. */
    for (size_t j = 0; j < p; j++)
        if (fabs(beta[j]) > BETA_END / 2)
            return FIT_SEPARATED;
    return FIT_NOT_CONVERGED;
}

/* Rows without one column. x: room for n_row * (n_col - 1). */
static struct model_rows without(const struct model_rows *r, size_t col, double *x)
{
    struct model_rows v = *r;
    v.n_col--;
    v.x = x;
    for (size_t i = 0; i < r->n_row; i++)
        for (size_t j = 0; j < r->n_col; j++)
            if (j != col)
                *x++ = r->x[i * r->n_col + j];
    return v;
}

static enum status check(const struct model_rows *r, size_t tested, size_t *longest,
                         struct fit *ret, struct err *err)
{
    if (r->n_col == 0 || r->n_col > MODEL_COLS_MAX || tested >= r->n_col)
        return err_set(err, ST_ARG, "conditional logistic regression: %zu columns, column %zu",
                       r->n_col, tested);
    *longest = 0;
    for (size_t from = 0, to; from < r->n_row; from = to) {
        size_t s = 0;
        for (to = from; to < r->n_row && r->group[to] == r->group[from]; to++) {
            if (r->n[to] != 1 || (r->k[to] != 0 && r->k[to] != 1))
                return err_set(err, ST_ARG,
                               "conditional logistic regression: row %zu has %g of %g "
                               "right, wanted 0 or 1 of 1",
                               to, r->k[to], r->n[to]);
            s += r->k[to] > 0;
        }
        ret->n_group += s > 0 && s < to - from;
        *longest = to - from > *longest ? to - from : *longest;
    }
    return ST_OK;
}

/* Twice the log-likelihood that the tested column brings. x: room for the rows without it. */
static void without_tested(const struct model_rows *rows, size_t tested, struct node *node,
                           double *x, struct fit *f)
{
    double beta[MODEL_COLS_MAX] = { 0 }, cov[MODEL_COLS_MAX * MODEL_COLS_MAX];
    struct model_rows null = without(rows, tested, x);
    struct score s = { 0 };
    int steps;
    if (null.n_col == 0)
        score_at(&null, beta, node, &s);
    else
        f->flags = climb(&null, node, beta, &s, cov, &steps);
    if (f->flags != FIT_OK)
        return;
    f->lrt = fmax(0, 2 * (f->log_lik - s.log_lik));
    f->lrt_p = dist_chi2_sf(f->lrt, 1);
}

enum status clogit_fit(const struct model_rows *rows, size_t tested, struct fit *ret,
                       struct err *err)
{
    struct fit f = { .lrt = (double)NAN, .lrt_p = (double)NAN, .sigma = (double)NAN };
    size_t longest = 0, p = rows->n_col;
    if (check(rows, tested, &longest, &f, err) != ST_OK)
        return err->code;
    struct node *node = calloc(longest + 1, sizeof *node);
    double *x = malloc((rows->n_row * p + 1) * sizeof *x), cov[MODEL_COLS_MAX * MODEL_COLS_MAX];
    if (!node || !x) {
        free(node);
        free(x);
        return err_set(err, ST_NOMEM, "conditional logistic regression of %zu rows", rows->n_row);
    }
    struct score s;
    for (size_t j = 0; j < p; j++)
        f.se[j] = f.wald_p[j] = (double)NAN;
    f.flags = f.n_group ? climb(rows, node, f.beta, &s, cov, &f.iterations) : FIT_EMPTY;
    if (f.flags == FIT_OK && rows->cluster) {
        f.n_cluster = by_clusters(rows, f.beta, node, cov);
        f.flags = f.n_cluster < 2 ? FIT_EMPTY : FIT_OK;
    }
    if (f.flags == FIT_OK) {
        f.log_lik = s.log_lik;
        fit_errors(&f, cov, p, p);
        if (!rows->cluster)
            without_tested(rows, tested, node, x, &f);
    }
    f.p = rows->cluster ? f.wald_p[tested] : f.lrt_p;
    free(node);
    free(x);
    *ret = f;
    return ST_OK;
}
