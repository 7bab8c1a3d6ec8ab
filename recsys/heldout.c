/* recsys/heldout.c - see heldout.h. */
#include "recsys/heldout.h"

#include <math.h>
#include <stdlib.h>

struct heldout {
    const struct rs_events *train, *later;
    double *from, *to; /* [users] seconds: the scored window */
    uint32_t n_user;
};

enum status heldout_open(const struct rs_events *train, const struct rs_events *later,
                         bool own_clocks, struct heldout **ret, struct err *err)
{
    struct heldout *h = calloc(1, sizeof *h);
    if (!h)
        return err_set(err, ST_NOMEM, "held-out events");
    h->train = train;
    h->later = later;
    h->n_user = train->users.n;
    h->from = malloc((h->n_user + (size_t)1) * sizeof *h->from);
    h->to = malloc((h->n_user + (size_t)1) * sizeof *h->to);
    if (!h->from || !h->to) {
        heldout_close(h);
        return err_set(err, ST_NOMEM, "held-out events");
    }
    for (uint32_t u = 0; u < h->n_user; u++) {
        h->from[u] = train->time[train->n - 1];
        h->to[u] = later->time[later->n - 1];
    }
    for (uint64_t i = 0; own_clocks && i < train->n; i++)
        h->from[train->user[i]] = h->to[train->user[i]] = train->time[i];
    for (uint64_t i = 0; own_clocks && i < later->n; i++)
        h->to[later->user[i]] = later->time[i];
    *ret = h;
    return ST_OK;
}

void heldout_close(struct heldout *h)
{
    if (!h)
        return;
    free(h->from);
    free(h->to);
    free(h);
}

static double integral(struct rkernel k, double x)
{
    double e = exp(-k.w * x);
    return x <= 0 ? 0 : k.order == 2 ? 1 - (1 + k.w * x) * e : 1 - e;
}

/* Kernel mass that events give to each user's window: mass [users, n_scale]; items [users]: the
 * same of the item kernel times what an event on that item excites. */
static void add_mass(const struct heldout *h, const struct rmodel *m, const struct rs_events *ev,
                     const double *alpha, double *mass, double *items)
{
    for (uint64_t i = 0; i < ev->n; i++) {
        uint32_t u = ev->user[i];
        double a = (h->from[u] - ev->time[i]) / m->unit_s, b = (h->to[u] - ev->time[i]) / m->unit_s;
        for (uint32_t k = 0; k < m->n_scale; k++)
            mass[(size_t)u * m->n_scale + k] += integral(m->scale[k], b) - integral(m->scale[k], a);
        if (alpha)
            items[u] +=
                alpha[ev->item[i]] * (integral(m->item_kernel, b) - integral(m->item_kernel, a));
    }
}

/* What one event on p excites on all other items together, before phi. */
static void fill_alpha(const struct rmodel *m, double *alpha)
{
    for (uint32_t p = 0; p < m->n_item; p++) {
        alpha[p] = 0;
        for (uint32_t k = 0; k < m->k && m->terms & RT_ITEMS; k++) {
            double v = (double)rmodel_beta(m, p, 0)[k];
            alpha[p] += v * (m->beta_sum[k] - v);
        }
    }
    if (!m->cluster)
        return;
    double *row = calloc(m->n_cluster + (size_t)1, sizeof *row);
    for (uint32_t q = 0; row && q < m->n_item; q++)
        row[m->cluster[q]] += 1;
    for (uint32_t p = 0; row && p < m->n_item; p++)
        for (uint32_t c = 0; c < m->n_cluster; c++)
            alpha[p] += (double)m->pi[(uint64_t)m->cluster[p] * m->n_cluster + c] *
                        (row[c] - (c == m->cluster[p]));
    free(row);
}

/* Integral of the base rate of all items over [from, to]. */
static double base_mass(const struct rmodel *m, uint32_t u, double from, double to)
{
    double sum = 0;
    for (double t = from; t < to;) {
        uint32_t f[2];
        unsigned n = rmodel_features(m, t, f);
        double left = n == 2 ? calendar_to_next(&m->zone, t) : to - t;
        double len = left < to - t ? left : to - t, rate = 0;
        const float *a = rmodel_theta(m, u, f[0]), *b = rmodel_theta(m, u, f[1]);
        const double *s = m->beta_sum + (size_t)f[0] * m->stride;
        const double *s2 = m->beta_sum + (size_t)f[1] * m->stride;
        for (uint32_t k = 0; k < m->k; k++)
            rate += n == 2 ? ((double)a[k] + (double)b[k]) * (s[k] + s2[k]) : (double)a[k] * s[k];
        sum += rate * len / m->unit_s;
        t = len > 0 ? t + len : to;
    }
    return sum;
}

static double compensator(const struct heldout *h, const struct rmodel *m, const double *mass,
                          const double *items)
{
    double sum = 0;
    uint32_t s = m->n_scale;
    for (uint32_t u = 0; u < h->n_user; u++) {
        if (!(h->to[u] > h->from[u]))
            continue;
        sum += base_mass(m, u, h->from[u], h->to[u]);
        for (uint32_t k = 0; m->tau && k < s; k++)
            sum += (double)m->tau[(size_t)u * s + k] * mass[(size_t)u * s + k];
        for (uint64_t e = m->edge_ptr ? m->edge_ptr[u] : 0; m->edge_ptr && e < m->edge_ptr[u + 1];
             e++)
            for (uint32_t k = 0; k < s; k++)
                sum += (double)m->edge_tau[e * s + k] * mass[(size_t)m->edge_from[e] * s + k];
        if (m->phi)
            sum += (double)m->phi[u] * items[u];
    }
    return sum;
}

/* Equal times of one user do not excite each other: they are scored before they are added. */
static double sum_ln(struct live *l, const struct rs_events *ev, struct err *err)
{
    double sum = 0;
    for (uint64_t i = 0, j; i < ev->n && err->code == ST_OK; i = j) {
        for (j = i; j < ev->n && ev->time[j] == ev->time[i]; j++) {
            double rate = live_total(live_rate(l, ev->user[j], ev->item[j], ev->time[j]));
            sum += log(rate > 1e-300 ? rate : 1e-300);
        }
        for (uint64_t k = i; k < j; k++)
            live_add(l, ev->user[k], ev->item[k], ev->time[k], 1, err);
    }
    return sum;
}

double heldout_score(struct heldout *h, const struct rmodel *m)
{
    struct live *l = NULL;
    struct err err = ERR_INIT;
    double score = -(double)INFINITY;
    double *mass = calloc((size_t)h->n_user * m->n_scale + 1, sizeof *mass);
    double *items = calloc(h->n_user + (size_t)1, sizeof *items);
    double *alpha = m->phi ? malloc((m->n_item + (size_t)1) * sizeof *alpha) : NULL;
    if (mass && items && (alpha || !m->phi) && live_open(m, &l, &err) == ST_OK &&
        live_replay(l, h->train, &err) == ST_OK) {
        if (alpha)
            fill_alpha(m, alpha);
        add_mass(h, m, h->train, alpha, mass, items);
        add_mass(h, m, h->later, alpha, mass, items);
        double ln = sum_ln(l, h->later, &err) - (double)h->later->n * log(m->unit_s);
        if (err.code == ST_OK)
            score = (ln - compensator(h, m, mass, items)) / (double)h->later->n;
    }
    free(mass);
    free(items);
    free(alpha);
    live_close(l);
    return score;
}

static double sum_kernels(struct live *l, const struct rmodel *m, uint32_t u, double t,
                          const float *tau)
{
    double s0[RSCALES_MAX], s1[RSCALES_MAX], sum = 0;
    live_user_kernels(l, u, t, s0, s1);
    for (uint32_t k = 0; k < m->n_scale; k++) {
        double w = m->scale[k].w;
        sum += (double)tau[k] * (m->scale[k].order == 2 ? w * w * s1[k] : w * s0[k]);
    }
    return sum;
}

/* Of all items at t, without item-to-item effects. */
static double total_rate(struct live *l, const struct rmodel *m, uint32_t u, double t)
{
    uint32_t f[2];
    unsigned n = rmodel_features(m, t, f);
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++)
            for (uint32_t k = 0; k < m->k; k++)
                sum += (double)rmodel_theta(m, u, f[i])[k] * m->beta_sum[f[j] * m->stride + k];
    if (m->tau)
        sum += sum_kernels(l, m, u, t, m->tau + (size_t)u * m->n_scale);
    for (uint64_t e = m->edge_ptr ? m->edge_ptr[u] : 0; m->edge_ptr && e < m->edge_ptr[u + 1]; e++)
        sum += sum_kernels(l, m, m->edge_from[e], t, m->edge_tau + e * m->n_scale);
    return sum;
}

static double choices(struct heldout *h, const struct rmodel *m, struct live *l, struct err *err)
{
    const struct rs_events *ev = h->later;
    double sum = 0;
    for (uint64_t i = 0, j; i < ev->n && err->code == ST_OK; i = j) {
        for (j = i; j < ev->n && ev->time[j] == ev->time[i]; j++) {
            struct live_parts r = live_rate(l, ev->user[j], ev->item[j], ev->time[j]);
            double rate = r.base + r.self + r.social; /* item-to-item rates have no cheap total */
            sum +=
                log((rate > 1e-300 ? rate : 1e-300) / total_rate(l, m, ev->user[j], ev->time[j]));
        }
        for (uint64_t k = i; k < j; k++)
            live_add(l, ev->user[k], ev->item[k], ev->time[k], 1, err);
    }
    return sum / (double)ev->n;
}

double heldout_choice(struct heldout *h, const struct rmodel *m)
{
    struct live *l = NULL;
    struct err err = ERR_INIT;
    double score = -(double)INFINITY;
    if (live_open(m, &l, &err) == ST_OK && live_replay(l, h->train, &err) == ST_OK) {
        double v = choices(h, m, l, &err);
        score = err.code == ST_OK ? v : score;
    }
    live_close(l);
    return score;
}
