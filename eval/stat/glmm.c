/* eval/stat/glmm.c - logistic regression with a random intercept per template, by adaptive
 * Gauss-Hermite quadrature: per group the mode and curvature of the integrand over u place 49 nodes
 * (Liu and Pierce 1994; with 25 a template that is always right costs 1e-5 of log-likelihood, and
 * the gradient below is then not that of the sum). Parameters: b0, b..., sigma (its sign does not
 * matter). The gradient is the posterior mean of the complete-data score (Fisher's identity), with
 * the same nodes. */
#include "eval/stat/dist.h"
#include "eval/stat/model.h"
#include "eval/stat/small.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 49, STEPS_MAX = 200, DIM_MAX = MODEL_COLS_MAX + 2 };
#define SINGULAR_SIGMA 1e-3
#define SEPARATED_BETA 12.0

struct rule {
    double z[NODES], log_w[NODES]; /* for exp(-z^2 / 2), weights with exp(z^2 / 2) multiplied in */
};
struct work {
    const struct model_rows *rows;
    struct rule rule;
    double *eta; /* fixed part of each row */
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

/* Minus the log-likelihood and its gradient. */
static double loss_at(struct work *w, const double *theta, double *grad)
{
    const struct model_rows *r = w->rows;
    double sum = 0;
    memset(grad, 0, w->dim * sizeof *grad);
    for (size_t i = 0; i < r->n_row; i++) {
        w->eta[i] = theta[0];
        for (size_t j = 0; j < r->n_col; j++)
            w->eta[i] += theta[1 + j] * r->x[i * r->n_col + j];
    }
    for (size_t from = 0, to; from < r->n_row; from = to) {
        for (to = from + 1; to < r->n_row && r->group[to] == r->group[from];)
            to++;
        sum += group_part(w, from, to, theta[w->dim - 1], grad);
    }
    for (size_t i = 0; i < w->dim; i++)
        grad[i] = -grad[i];
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
        double move[DIM_MAX], next[DIM_MAX], g[DIM_MAX], y[DIM_MAX], v = at;
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
    double t[DIM_MAX], up[DIM_MAX], down[DIM_MAX], raw[DIM_MAX * DIM_MAX];
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
        double next[DIM_MAX], g[DIM_MAX], v;
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
    double theta[DIM_MAX], cov[DIM_MAX * DIM_MAX], loss, *to = x;
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
    double theta[DIM_MAX], cov[DIM_MAX * DIM_MAX] = { 0 }, loss;
    if (check(rows, tested, &f, err) != ST_OK)
        return err->code;
    for (size_t j = 0; j <= rows->n_col; j++)
        f.se[j] = f.wald_p[j] = (double)NAN;
    if (f.flags) {
        *ret = f;
        return ST_OK;
    }
    w.eta = malloc((rows->n_row * (rows->n_col + 1) + 1) * sizeof *w.eta);
    if (!w.eta)
        return err_set(err, ST_NOMEM, "mixed model of %zu rows", rows->n_row);
    make_rule(&w.rule);
    start_at(rows, theta, w.dim);
    f.flags = optimum(&w, theta, cov, &loss, &f.iterations);
    f.log_lik = -loss;
    f.sigma = fabs(theta[w.dim - 1]);
    memcpy(f.beta, theta, (rows->n_col + 1) * sizeof *theta);
    double less = null_loss(&w, tested, w.eta + rows->n_row, &f.flags);
    for (size_t j = 0; f.flags == FIT_OK && j <= rows->n_col; j++) {
        f.se[j] = sqrt(cov[j * w.dim + j]);
        f.wald_p[j] = dist_norm_two_sided(f.beta[j] / f.se[j]);
    }
    if (f.flags == FIT_OK) {
        f.lrt = fmax(0, 2 * (less - loss));
        f.lrt_p = dist_chi2_sf(f.lrt, 1);
    }
    free(w.eta);
    *ret = f;
    return ST_OK;
}
