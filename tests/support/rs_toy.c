/* tests/support/rs_toy.c - see rs_toy.h. */
#include "tests/support/rs_toy.h"

#include "recsys/model_fields.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static float number(struct rng *r, double scale)
{
    double u = rng_f64(r);
    return (float)(scale * u * u);
}

static void rows(struct rng *r, const struct rmodel *m, const float *at, const float *log_,
                 const float *shape, uint32_t n)
{
    for (uint32_t i = 0; i < n * m->n_feat; i++)
        for (uint32_t k = 0; k < m->k; k++) {
            size_t x = (size_t)i * m->stride + k;
            ((float *)(uintptr_t)at)[x] = number(r, 0.3);
            ((float *)(uintptr_t)log_)[x] = 0.7f * at[x] + 1e-4f;
            ((float *)(uintptr_t)shape)[x] = 1;
        }
}

static void names(struct ids *t, char letter, uint32_t n)
{
    struct err err = ERR_INIT;
    char text[16];
    uint32_t at;
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%c%u", letter, i);
        ids_add(t, str_c(text), &at, &err);
    }
    assert(err.code == ST_OK);
}

static void edges(struct rng *r, struct rmodel *m)
{
    uint64_t *ptr = (uint64_t *)(uintptr_t)m->edge_ptr;
    uint32_t *from = (uint32_t *)(uintptr_t)m->edge_from;
    float *tau = (float *)(uintptr_t)m->edge_tau;
    for (uint32_t u = 0; u < m->n_user; u++) { /* the next one and the one three further */
        uint32_t a = (u + 1) % m->n_user, b = (u + 3) % m->n_user;
        ptr[u] = 2 * (uint64_t)u;
        from[2 * u] = a < b ? a : b;
        from[2 * u + 1] = a < b ? b : a;
    }
    ptr[m->n_user] = m->n_edge;
    for (uint64_t i = 0; i < m->n_edge * m->n_scale; i++)
        tau[i] = number(r, 0.2);
}

static void items(struct rng *r, struct rmodel *m)
{
    for (uint32_t u = 0; m->phi && u < m->n_user; u++)
        ((float *)(uintptr_t)m->phi)[u] = number(r, 0.4);
    for (uint32_t p = 0; m->cluster && p < m->n_item; p++)
        ((uint32_t *)(uintptr_t)m->cluster)[p] = p % m->n_cluster;
    for (uint32_t i = 0; m->pi && i < m->n_cluster * m->n_cluster; i++)
        ((float *)(uintptr_t)m->pi)[i] = number(r, 0.05) + 0.001f;
}

struct rmodel *toy_rmodel(unsigned terms, uint32_t users, uint32_t n_item, uint32_t k,
                          uint64_t seed)
{
    struct rng r = { seed };
    struct err err = ERR_INIT;
    struct rmodel *m = NULL;
    struct rmodel sizes = { .terms = terms,
                            .n_user = users,
                            .n_item = n_item,
                            .k = k,
                            .n_scale = 2,
                            .unit_s = 3600,
                            .end_s = 1.7e9,
                            .start_s = 1.69e9,
                            .a_theta = 0.3,
                            .a_beta = 0.3,
                            .a_tau = 1,
                            .a_phi = 1,
                            .a_hyper = 1,
                            .b_hyper = 0.1 };
    sizes.scale[0] = (struct rkernel){ .w = 1.0 / 5, .order = 1 };
    sizes.scale[1] = (struct rkernel){ .w = 1.0 / 24, .order = 2 };
    sizes.item_kernel = (struct rkernel){ .w = 1.0 / 12, .order = 1 };
    if (terms & RT_SOCIAL)
        sizes.n_edge = 2 * (uint64_t)users;
    if (terms & RT_CLUSTERS)
        sizes.n_cluster = 2;
    if (rmodel_create(&sizes, &m, &err) != ST_OK)
        abort();
    m->a_mu = m->b_mu = 1;
    struct rfield field[RFIELDS_MAX];
    for (unsigned i = rmodel_fields(m, field); i-- > 0;) {
        double *p = NULL;
        memcpy(&p, field[i].at, sizeof p);
        for (uint64_t x = 0; field[i].check == CHECK_POSITIVE && x < field[i].n; x++)
            p[x] = 1;
    }
    rows(&r, m, m->theta, m->theta_log, m->theta_shape, users);
    rows(&r, m, m->beta, m->beta_log, m->beta_shape, n_item);
    double *sum = (double *)(uintptr_t)m->beta_sum;
    for (uint32_t p = 0; p < n_item; p++)
        for (uint32_t i = 0; i < m->n_feat * m->stride; i++)
            sum[i] += (double)m->beta[(size_t)p * m->n_feat * m->stride + i];
    for (uint32_t u = 0; u < users; u++) {
        ((double *)(uintptr_t)m->eta)[u] = 1;
        ((double *)(uintptr_t)m->user_start)[u] = m->start_s;
    }
    for (uint32_t i = 0; m->tau && i < users * m->n_scale; i++)
        ((float *)(uintptr_t)m->tau)[i] = number(&r, 0.8);
    for (uint32_t s = 0; m->tau_rate && s < m->n_scale; s++)
        ((double *)(uintptr_t)m->tau_rate)[s] = 2 + s;
    if (terms & RT_SOCIAL)
        edges(&r, m);
    items(&r, m);
    names(&m->users, 'u', users);
    names(&m->items, 'i', n_item);
    return m;
}

static double kernel(struct rkernel k, double age)
{
    return k.order == 2 ? k.w * k.w * age * exp(-k.w * age) : k.w * exp(-k.w * age);
}

static double pull(const struct rmodel *m, uint32_t from, uint32_t to)
{
    double sum = 0;
    if (from == IDS_NONE || to == IDS_NONE || from == to)
        return 0;
    if (m->terms & RT_ITEMS)
        for (uint32_t k = 0; k < m->k; k++)
            sum += (double)rmodel_beta(m, from, 0)[k] * (double)rmodel_beta(m, to, 0)[k];
    if (m->terms & RT_CLUSTERS)
        sum += (double)m->pi[m->cluster[from] * m->n_cluster + m->cluster[to]];
    return sum;
}

void toy_last_only(struct rmodel *m)
{
    m->scale[0].last_only = 1;
}

/* Is there a later own event on the item, up to t? */
static bool replaced(const struct toy_event *e, size_t n, size_t x, double t)
{
    for (size_t i = 0; i < n; i++)
        if (i != x && e[i].user == e[x].user && e[i].item == e[x].item && e[i].t > e[x].t &&
            e[i].t <= t)
            return true;
    return false;
}

struct toy_rates toy_rate(const struct rmodel *m, const struct toy_event *e, size_t n,
                          uint32_t user, uint32_t item, double t)
{
    struct toy_rates r = { 0 };
    uint32_t f[2];
    unsigned n_f = rmodel_features(m, t, f);
    for (unsigned i = 0; i < n_f; i++)
        for (unsigned j = 0; j < n_f; j++)
            for (uint32_t k = 0; k < m->k; k++)
                r.base +=
                    (double)rmodel_theta(m, user, f[i])[k] * (double)rmodel_beta(m, item, f[j])[k];
    for (size_t x = 0; x < n; x++) {
        double age = (t - e[x].t) / m->unit_s;
        if (age < 0)
            continue;
        for (uint32_t s = 0; s < m->n_scale && e[x].item == item; s++) {
            double g = e[x].weight * kernel(m->scale[s], age), own = g;
            if (m->scale[s].last_only)
                own = replaced(e, n, x, t) ? 0 : g / e[x].weight;
            if (e[x].user == user && m->tau)
                r.self += (double)m->tau[user * m->n_scale + s] * own;
            for (uint64_t d = m->edge_ptr ? m->edge_ptr[user] : 0;
                 m->edge_ptr && d < m->edge_ptr[user + 1]; d++)
                if (m->edge_from[d] == e[x].user && e[x].user != user)
                    r.social += (double)m->edge_tau[d * m->n_scale + s] * g;
        }
        if (m->phi && e[x].user == user)
            r.cross += (double)m->phi[user] * pull(m, e[x].item, item) * e[x].weight *
                       kernel(m->item_kernel, age);
    }
    return r;
}
