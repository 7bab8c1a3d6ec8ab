/* recsys/return_time.c - quantiles of the next event; see return_time.h. */
#include "recsys/return_time.h"

#include <math.h>
#include <stdlib.h>

enum { BISECTIONS = 200 };

/* ---- the clock ---- */

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752);
}

/* Weights of the lengths of the next gap. */
static void weights(const struct rmodel *m, const float *count, uint32_t last, double *w)
{
    double sum = 0;
    for (uint32_t c = 0; c < m->n_clock; c++) {
        w[c] = (double)count[c] +
               m->clock_prior * (double)m->clock_next[(uint64_t)last * m->n_clock + c];
        sum += w[c];
    }
    for (uint32_t c = 0; c < m->n_clock; c++)
        w[c] /= sum > 0 ? sum : 1;
}

/* P(gap > x). */
static double survival(const struct rmodel *m, const double *w, double x)
{
    double s = 0, ln = x > 0 ? log(x) : -(double)INFINITY;
    for (uint32_t c = 0; c < m->n_clock; c++)
        s += w[c] * normal_cdf((m->clock_ln[c] - ln) / m->clock_width);
    return s;
}

double return_by_row(const struct rmodel *m, const float *count, uint32_t last, double silent_s,
                     double q)
{
    double w[RCLOCK_LENGTHS * 8];
    if (!m->n_clock || m->n_clock > sizeof w / sizeof w[0])
        return (double)INFINITY;
    weights(m, count, last, w);
    silent_s = silent_s > 0 ? silent_s : 0;
    double want = (1 - q) * survival(m, w, silent_s), lo = silent_s, hi = silent_s + 1;
    if (!(want > 1e-300)) /* silent for longer than any gap: it may take as long again */
        return silent_s;
    while (survival(m, w, hi) > want && hi < 1e15)
        hi *= 2;
    for (int i = 0; i < BISECTIONS && hi - lo > 1e-9 * hi; i++) {
        double mid = 0.5 * (lo + hi);
        *(survival(m, w, mid) > want ? &lo : &hi) = mid;
    }
    return hi - silent_s;
}

double return_by_clock(const struct rmodel *m, uint32_t u, double last_s, double now_s, double q)
{
    if (!m->n_clock)
        return (double)INFINITY;
    return return_by_row(m, m->clock_count + (uint64_t)u * m->n_clock, m->clock_last[u],
                         now_s - last_s, q);
}

/* ---- by items ---- */

/* Integral of the total rate over the next x units: base, then kernels whose sums are s0, s1. */
struct total {
    const struct rmodel *m;
    uint32_t u;
    double now_s, base;                      /* rate without a calendar */
    uint32_t item;                           /* IDS_NONE: all */
    double a0[RSCALES_MAX], a1[RSCALES_MAX]; /* times tau */
};

static double base_at(const struct total *t, double at)
{
    const struct rmodel *m = t->m;
    uint32_t f[2];
    unsigned n = rmodel_features(m, at, f);
    double sum = 0;
    if (t->item != IDS_NONE)
        return rmodel_base(m, t->u, t->item, at);
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++)
            for (uint32_t k = 0; k < m->k; k++)
                sum += (double)rmodel_theta(m, t->u, f[i])[k] * m->beta_sum[f[j] * m->stride + k];
    return sum;
}

static double kernels(const struct total *t, double x)
{
    double sum = 0;
    for (uint32_t k = 0; k < t->m->n_scale; k++) {
        double w = t->m->scale[k].w, e = exp(-w * x);
        sum += t->m->scale[k].order == 2
                   ? (t->a0[k] + w * t->a1[k]) * (1 - e) - w * x * e * t->a0[k]
                   : t->a0[k] * (1 - e);
    }
    return sum;
}

/* The x in [lo, hi] (units) where base + rate (x - from) + kernels(x) reaches want. */
static double root(const struct total *t, double lo, double hi, double base, double rate,
                   double want)
{
    double from = lo;
    for (int i = 0; i < BISECTIONS && hi - lo > 1e-12 * (1 + hi); i++) {
        double mid = 0.5 * (lo + hi);
        *(base + rate * (mid - from) + kernels(t, mid) < want ? &lo : &hi) = mid;
    }
    return hi;
}

static double plain_quantile(const struct total *t, double want)
{
    double hi = 1e-9, top = 1e12;
    while (t->base * hi + kernels(t, hi) < want && hi < top)
        hi *= 2;
    return hi >= top ? (double)INFINITY : root(t, 0, hi, 0, t->base, want);
}

/* Hour by hour: the base rate is constant in each. Ten years at most. */
static double calendar_quantile(const struct total *t, double want)
{
    const struct rmodel *m = t->m;
    double x = 0, sum = 0, end = 10 * 365.25 * 86400 / m->unit_s;
    while (x < end) {
        double at = t->now_s + x * m->unit_s, rate = base_at(t, at);
        double next = x + calendar_to_next(&m->zone, at) / m->unit_s;
        if (sum + rate * (next - x) + kernels(t, next) >= want)
            return root(t, x, next, sum, rate, want);
        sum += rate * (next - x);
        x = next;
    }
    return (double)INFINITY;
}

static double quantile(struct total *t, double q)
{
    double want = -log1p(-q);
    t->base = base_at(t, t->now_s);
    double x = t->m->terms & RT_CALENDAR ? calendar_quantile(t, want) : plain_quantile(t, want);
    return x * t->m->unit_s;
}

static void add_friends(struct live *l, struct total *t, double *s0, double *s1)
{
    const struct rmodel *m = t->m;
    for (uint64_t e = m->edge_ptr ? m->edge_ptr[t->u] : 0; m->edge_ptr && e < m->edge_ptr[t->u + 1];
         e++) {
        if (t->item == IDS_NONE)
            live_user_kernels(l, m->edge_from[e], t->now_s, s0, s1);
        else
            live_pair_kernels(l, m->edge_from[e], t->item, t->now_s, s0, s1);
        for (uint32_t k = 0; k < m->n_scale; k++) {
            t->a0[k] += (double)m->edge_tau[e * m->n_scale + k] * s0[k];
            t->a1[k] += (double)m->edge_tau[e * m->n_scale + k] * s1[k];
        }
    }
}

static double by_rates(struct live *l, const struct rmodel *m, uint32_t u, uint32_t item,
                       double now_s, double q)
{
    struct total t = { .m = m, .u = u, .now_s = now_s, .item = item };
    double s0[RSCALES_MAX] = { 0 }, s1[RSCALES_MAX] = { 0 };
    if (item == IDS_NONE)
        live_user_kernels(l, u, now_s, s0, s1);
    else
        live_pair_kernels(l, u, item, now_s, s0, s1);
    for (uint32_t k = 0; m->tau && k < m->n_scale; k++) {
        t.a0[k] = (double)m->tau[(uint64_t)u * m->n_scale + k] * s0[k];
        t.a1[k] = (double)m->tau[(uint64_t)u * m->n_scale + k] * s1[k];
    }
    add_friends(l, &t, s0, s1);
    return quantile(&t, q);
}

double return_by_items(struct live *l, const struct rmodel *m, uint32_t u, double now_s, double q)
{
    return by_rates(l, m, u, IDS_NONE, now_s, q);
}

double return_of_item(struct live *l, const struct rmodel *m, uint32_t u, uint32_t p, double now_s,
                      double q)
{
    return by_rates(l, m, u, p, now_s, q);
}
