/* eval/stat/glmm.c - logistic regression with a random intercept per template, by adaptive
 * Gauss-Hermite quadrature: per group the mode and curvature of the integrand over u place 49 nodes
 * (Liu and Pierce 1994; with 25 a template that is always right costs 1e-5 of log-likelihood, and
 * the gradient below is then not that of the sum). Parameters: b0, b..., sigma (its sign does not
 * matter). The gradient is the posterior mean of the complete-data score (Fisher's identity), with
 * the same nodes. */
#include "eval/stat/dist.h"
#include "eval/stat/model.h"
#include "eval/stat/robust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 49, STEPS_MAX = 200, DIM_MAX = MODEL_COLS_MAX + 2 };
#define SINGULAR_SIGMA 1e-3
#define SEPARATED_BETA 12.0

struct rule {
    double z[NODES], log_w[NODES]; /* for exp(-z^2 / 2), weights with exp(z^2 / 2) multiplied in */
};
/* Groups whose rows say the same: rows [from, to) of the first of them. Templates with as many
 * right answers are alike, and so are rounds of answers: hundreds of groups are some dozens of
 * kinds. */
struct kind {
    size_t from, to;
    double groups;
};
struct work {
    const struct model_rows *rows;
    struct rule rule;
    double *eta; /* fixed part of each row */
    struct kind *kind;
    size_t n_kind;
    size_t dim;
};

/* Roots of the Hermite polynomials of exp(-z^2/2) by Newton from outside in, with deflation. */
static void make_rule(struct rule *r)
{
    for (int i = 0; i < NODES; i++) {
        double z = i == 0 ? 2 * sqrt(NODES) : r->z[i - 1] - 0.3, p1 = 0, dp = 1;
        for (int it = 0; it < 200; it++) {
            double p0 = 1, shift = 0;
            p1 = z;
            for (int k = 2; k <= NODES; k++) {
                double p2 = (z * p1 - sqrt(k - 1.0) * p0) / sqrt((double)k);
                p0 = p1;
                p1 = p2;
            }
            dp = sqrt((double)NODES) * p0;
            for (int j = 0; j < i; j++)
                shift += 1 / (z - r->z[j]);
            double move = p1 / (dp - p1 * shift);
            z -= move;
            if (fabs(move) < 1e-15 * (1 + fabs(z)))
                break;
        }
        r->z[i] = z;
        /* w = sqrt(2 pi) / (He'_n)^2 for normalised polynomials, n!-free. */
        r->log_w[i] = 0.5 * log(2 * M_PI) - 2 * log(fabs(dp)) + z * z / 2;
    }
}

static double log1pexp(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double logistic(double x)
{
    return x > 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* log of the integrand of a group at u, and two derivatives. */
static double integrand(const struct work *w, size_t from, size_t to, double sigma, double u,
                        double d[2])
{
    const struct model_rows *r = w->rows;
    double sum = -u * u / 2 - 0.5 * log(2 * M_PI);
    d[0] = -u;
    d[1] = -1;
    for (size_t i = from; i < to; i++) {
        double eta = w->eta[i] + sigma * u, p = logistic(eta);
        sum += r->k[i] * eta - r->n[i] * log1pexp(eta);
        d[0] += sigma * (r->k[i] - r->n[i] * p);
        d[1] -= sigma * sigma * r->n[i] * p * (1 - p);
    }
    return sum;
}

/* The integrand is log-concave: Newton with halving always ends. */
static double mode_of(const struct work *w, size_t from, size_t to, double sigma, double *curve)
{
    double u = 0, d[2], at = integrand(w, from, to, sigma, u, d);
    for (int it = 0; it < 100; it++) {
        double move = -d[0] / d[1], next[2], v = 0;
        if (fabs(move) < 1e-12 * (1 + fabs(u)))
            break;
        for (int half = 0; half < 40; half++) {
            v = integrand(w, from, to, sigma, u + move, next);
            if (v >= at - 1e-13 * fabs(at))
                break;
            move /= 2;
        }
        u += move;
        at = v;
        memcpy(d, next, sizeof d);
    }
    *curve = -d[1];
    return u;
}

/* Adds the group's log-likelihood and gradient. */
static double group_part(const struct work *w, size_t from, size_t to, double sigma, double *grad)
{
    const struct model_rows *r = w->rows;
    double curve, mode = mode_of(w, from, to, sigma, &curve), scale = 1 / sqrt(curve);
    double term[NODES], top = -(double)INFINITY, sum = 0, d[2];
    for (int q = 0; q < NODES; q++) {
        term[q] = w->rule.log_w[q] + integrand(w, from, to, sigma, mode + scale * w->rule.z[q], d);
        top = fmax(top, term[q]);
    }
    for (int q = 0; q < NODES; q++)
        sum += exp(term[q] - top);
    for (int q = 0; q < NODES; q++) {
        double share = exp(term[q] - top) / sum, u = mode + scale * w->rule.z[q];
        if (share < 1e-18)
            continue;
        for (size_t i = from; i < to; i++) {
            double part = share * (r->k[i] - r->n[i] * logistic(w->eta[i] + sigma * u));
            grad[0] += part;
            for (size_t j = 0; j < r->n_col; j++)
                grad[1 + j] += part * r->x[i * r->n_col + j];
            grad[w->dim - 1] += part * u;
        }
    }
    return top + log(sum) + log(scale);
}

static void fixed_part(struct work *w, const double *theta)
{
    const struct model_rows *r = w->rows;
    for (size_t i = 0; i < r->n_row; i++) {
        w->eta[i] = theta[0];
        for (size_t j = 0; j < r->n_col; j++)
            w->eta[i] += theta[1 + j] * r->x[i * r->n_col + j];
    }
}

/* Minus the log-likelihood and its gradient. */
static double loss_at(struct work *w, const double *theta, double *grad)
{
    double sum = 0;
    memset(grad, 0, w->dim * sizeof *grad);
    fixed_part(w, theta);
    for (size_t i = 0; i < w->n_kind; i++) {
        const struct kind *k = &w->kind[i];
        double one[DIM_MAX] = { 0 };
        sum += k->groups * group_part(w, k->from, k->to, theta[w->dim - 1], one);
        for (size_t j = 0; j < w->dim; j++)
            grad[j] -= k->groups * one[j];
    }
    return -sum;
}

static double dot(const double *a, const double *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

static double largest(const double *a, size_t n)
{
    double v = 0;
    for (size_t i = 0; i < n; i++)
        v = fmax(v, fabs(a[i]));
    return v;
}

/* h: inverse Hessian, updated by the step s and the gradient's change y. */
static void bfgs_update(double *h, const double *s, const double *y, size_t n)
{
    double sy = dot(s, y, n), hy[DIM_MAX];
    if (sy <= 1e-14)
        return;
    for (size_t i = 0; i < n; i++)
        hy[i] = dot(h + i * n, y, n);
    double factor = (1 + dot(y, hy, n) / sy) / sy;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            h[i * n + j] += factor * s[i] * s[j] - (hy[i] * s[j] + s[i] * hy[j]) / sy;
}

static double bfgs(struct work *w, double *theta, double *grad, int *steps)
{
    size_t n = w->dim;
    double h[DIM_MAX * DIM_MAX] = { 0 }, at = loss_at(w, theta, grad);
    double start = 1 / fmax(1, largest(grad, n));
    for (size_t i = 0; i < n; i++)
        h[i * n + i] = start;
    for (*steps = 0; *steps < STEPS_MAX && largest(grad, n) > 1e-6; ++*steps) {
        double move[DIM_MAX], next[DIM_MAX] = { 0 }, g[DIM_MAX] = { 0 }, y[DIM_MAX], v = at;
        for (size_t i = 0; i < n; i++)
            move[i] = -dot(h + i * n, grad, n);
        double down = dot(move, grad, n), step = fmin(1, 4 / fmax(4, largest(move, n)));
        int tries = 0;
        for (; tries < 40; tries++) {
            for (size_t i = 0; i < n; i++)
                next[i] = theta[i] + step * move[i];
            v = loss_at(w, next, g);
            if (v <= at + 1e-4 * step * down)
                break;
            step /= 2;
        }
        if (tries == 40)
            break;
        for (size_t i = 0; i < n; i++) {
            move[i] = next[i] - theta[i];
            y[i] = g[i] - grad[i];
        }
        bfgs_update(h, move, y, n);
        memcpy(theta, next, n * sizeof *theta);
        memcpy(grad, g, n * sizeof *grad);
        at = v;
    }
    return at;
}

/* Second derivatives by central differences of the gradient, symmetric. */
static void hessian(struct work *w, const double *theta, double *ret)
{
    size_t n = w->dim;
    double t[DIM_MAX] = { 0 }, up[DIM_MAX] = { 0 }, down[DIM_MAX] = { 0 }, raw[DIM_MAX * DIM_MAX];
    for (size_t i = 0; i < n; i++) {
        double step = 1e-4 * fmax(1, fabs(theta[i]));
        memcpy(t, theta, sizeof *t * n);
        t[i] = theta[i] + step;
        loss_at(w, t, up);
        t[i] = theta[i] - step;
        loss_at(w, t, down);
        for (size_t j = 0; j < n; j++)
            raw[i * n + j] = (up[j] - down[j]) / (2 * step);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            ret[i * n + j] = (raw[i * n + j] + raw[j * n + i]) / 2;
}

/* To the optimum, by BFGS and then Newton. cov: of theta; *loss: minus the log-likelihood. */
static unsigned optimum(struct work *w, double *theta, double *cov, double *loss, int *steps)
{
    size_t n = w->dim;
    double grad[DIM_MAX], h[DIM_MAX * DIM_MAX];
    *loss = bfgs(w, theta, grad, steps);
    for (int it = 0; it < 6; it++) {
        hessian(w, theta, h);
        if (!small_cholesky(h, n))
            break;
        small_inverse(h, n, cov);
        small_solve(h, n, grad);
        if (largest(grad, n) < 1e-9)
            break;
        double next[DIM_MAX] = { 0 }, g[DIM_MAX] = { 0 }, v;
        for (size_t i = 0; i < n; i++)
            next[i] = theta[i] - grad[i];
        v = loss_at(w, next, g);
        if (!(v <= *loss + 1e-9 * fabs(*loss)))
            break;
        *loss = v;
        memcpy(theta, next, n * sizeof *theta);
        memcpy(grad, g, n * sizeof *grad);
    }
    unsigned flags = 0;
    for (size_t i = 0; i + 1 < n; i++)
        flags |= fabs(theta[i]) > SEPARATED_BETA && i > 0 ? FIT_SEPARATED : 0;
    if (fabs(theta[n - 1]) < SINGULAR_SIGMA)
        flags |= FIT_SINGULAR;
    loss_at(w, theta, grad);
    hessian(w, theta, h);
    if (!small_cholesky(h, n) || largest(grad, n) > 1e-4)
        flags |= flags & FIT_SINGULAR ? 0 : FIT_NOT_CONVERGED;
    return flags;
}

/* cov: inverse information in, what the clusters' scores say out. How many clusters. */
static size_t by_clusters(struct work *w, const double *theta, double *cov)
{
    const struct model_rows *r = w->rows;
    struct robust v;
    robust_init(&v, w->dim);
    fixed_part(w, theta);
    for (size_t from = 0, to; from < r->n_row; from = to) {
        double grad[DIM_MAX] = { 0 };
        to = model_group_end(r, from);
        group_part(w, from, to, theta[w->dim - 1], grad);
        robust_add(&v, r->cluster[from], grad);
    }
    robust_finish(&v, cov);
    return v.n_cluster;
}

/* ---- kinds of groups ---- */

struct group {
    const struct model_rows *rows;
    size_t from, to;
};

static int by_numbers(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static int by_rows(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    const struct model_rows *r = x->rows;
    size_t n = x->to - x->from, m = y->to - y->from, p = r->n_col;
    if (n != m)
        return n < m ? -1 : 1;
    int order = by_numbers(r->k + x->from, r->k + y->from, n);
    order = order ? order : by_numbers(r->n + x->from, r->n + y->from, n);
    return order ? order : by_numbers(r->x + x->from * p, r->x + y->from * p, n * p);
}

static int by_first(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* In the order of the first of each kind: sums do not depend on how qsort() leaves equal ones. */
static enum status sort_out(struct work *w, size_t n_group, struct err *err)
{
    const struct model_rows *r = w->rows;
    struct group *g = malloc((n_group + 1) * sizeof *g);
    size_t n = 0;
    w->kind = malloc((n_group + 1) * sizeof *w->kind);
    if (!g || !w->kind) {
        free(g);
        return err_set(err, ST_NOMEM, "mixed model of %zu groups", n_group);
    }
    for (size_t from = 0, to; from < r->n_row; from = to) {
        to = model_group_end(r, from);
        g[n++] = (struct group){ r, from, to };
    }
    qsort(g, n, sizeof *g, by_rows);
    for (size_t i = 0; i < n; i++) {
        struct kind *k = &w->kind[w->n_kind];
        if (i > 0 && by_rows(&g[i - 1], &g[i]) == 0) {
            k[-1].groups++;
            if (g[i].from < k[-1].from)
                k[-1] = (struct kind){ g[i].from, g[i].to, k[-1].groups };
            continue;
        }
        *k = (struct kind){ g[i].from, g[i].to, 1 };
        w->n_kind++;
    }
    qsort(w->kind, w->n_kind, sizeof *w->kind, by_first);
    free(g);
    return ST_OK;
}

static enum status check(const struct model_rows *r, size_t tested, struct fit *f, struct err *err)
{
    double k = 0, n = 0;
    if (r->n_col == 0 || r->n_col > MODEL_COLS_MAX || tested >= r->n_col)
        return err_set(err, ST_ARG, "mixed model: %zu columns, column %zu", r->n_col, tested);
    for (size_t i = 0; i < r->n_row; i++) {
        if (!(r->k[i] >= 0) || !(r->k[i] <= r->n[i]))
            return err_set(err, ST_ARG, "mixed model: row %zu has %g of %g right", i, r->k[i],
                           r->n[i]);
        k += r->k[i];
        n += r->n[i];
        f->n_group += i == 0 || r->group[i] != r->group[i - 1];
    }
    f->flags = k > 0 && k < n && f->n_group > 1 ? FIT_OK : FIT_EMPTY;
    return ST_OK;
}

static void start_at(const struct model_rows *r, double *theta, size_t dim)
{
    double k = 0.5, n = 1;
    for (size_t i = 0; i < r->n_row; i++) {
        k += r->k[i];
        n += r->n[i];
    }
    memset(theta, 0, dim * sizeof *theta);
    theta[0] = log(k / (n - k));
    theta[dim - 1] = 1;
}

/* The likelihood without the tested column. x: room for the other columns. */
static double null_loss(struct work *w, size_t tested, double *x, unsigned *flags)
{
    const struct model_rows *full = w->rows;
    struct model_rows null = *full;
    double theta[DIM_MAX] = { 0 }, cov[DIM_MAX * DIM_MAX], loss, *to = x;
    int steps;
    for (size_t i = 0; i < full->n_row; i++)
        for (size_t j = 0; j < full->n_col; j++)
            if (j != tested)
                *to++ = full->x[i * full->n_col + j];
    null.n_col--;
    null.x = x;
    w->rows = &null;
    w->dim--;
    start_at(&null, theta, w->dim);
    *flags |= optimum(w, theta, cov, &loss, &steps);
    w->rows = full;
    w->dim++;
    return loss;
}

enum status glmm_fit(const struct model_rows *rows, size_t tested, struct fit *ret, struct err *err)
{
    struct fit f = { .lrt = (double)NAN, .lrt_p = (double)NAN, .sigma = (double)NAN };
    struct work w = { .rows = rows, .dim = rows->n_col + 2 };
    double theta[DIM_MAX] = { 0 }, cov[DIM_MAX * DIM_MAX] = { 0 }, loss;
    if (check(rows, tested, &f, err) != ST_OK)
        return err->code;
    for (size_t j = 0; j <= rows->n_col; j++)
        f.se[j] = f.wald_p[j] = (double)NAN;
    f.p = (double)NAN;
    if (f.flags) {
        *ret = f;
        return ST_OK;
    }
    w.eta = malloc((rows->n_row * (rows->n_col + 1) + 1) * sizeof *w.eta);
    if (!w.eta || sort_out(&w, f.n_group, err) != ST_OK) {
        free(w.eta);
        free(w.kind);
        return err->code ? err->code
                         : err_set(err, ST_NOMEM, "mixed model of %zu rows", rows->n_row);
    }
    make_rule(&w.rule);
    start_at(rows, theta, w.dim);
    f.flags = optimum(&w, theta, cov, &loss, &f.iterations);
    f.log_lik = -loss;
    f.sigma = fabs(theta[w.dim - 1]);
    memcpy(f.beta, theta, (rows->n_col + 1) * sizeof *theta);
    if (f.flags == FIT_OK && rows->cluster) {
        f.n_cluster = by_clusters(&w, theta, cov);
        f.flags = f.n_cluster < 2 ? FIT_EMPTY : FIT_OK;
    } else if (!rows->cluster) {
        double less = null_loss(&w, tested, w.eta + rows->n_row, &f.flags);
        f.lrt = f.flags == FIT_OK ? fmax(0, 2 * (less - loss)) : (double)NAN;
        f.lrt_p = f.flags == FIT_OK ? dist_chi2_sf(f.lrt, 1) : (double)NAN;
    }
    if (f.flags == FIT_OK)
        fit_errors(&f, cov, w.dim, rows->n_col + 1);
    f.p = rows->cluster ? f.wald_p[1 + tested] : f.lrt_p;
    free(w.eta);
    free(w.kind);
    *ret = f;
    return ST_OK;
}
