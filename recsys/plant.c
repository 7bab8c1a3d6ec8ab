/* recsys/plant.c - models with known parameters (simulate.h). Each user likes a few factors, each
 * item has a few; popularity falls like a power of the rank. */
#include "recsys/sample.h"
#include "recsys/simulate.h"

#include <stdlib.h>

enum { HOUR_S = 3600, DAY_S = 86400 };

struct plant_opts plant_defaults(void)
{
    struct plant_opts o = { .terms = RT_GAMMA_RATES | RT_SELF,
                            .users = 200,
                            .items = 300,
                            .k = 8,
                            .days = 90,
                            .events_per_user = 40,
                            .branching = 0.4,
                            .n_scale = 2,
                            .friends = 5,
                            .social = 0.02,
                            .zone = "UTC",
                            .start_s = 1704067200, /* 2024-01-01 */
                            .seed = 1 };
    o.scale[0] = (struct rkernel){ .w = 1.0 / HOUR_S, .order = 1 };
    o.scale[1] = (struct rkernel){ .w = 1.0 / (3 * DAY_S), .order = 1 };
    return o;
}

static enum status check(const struct plant_opts *o, struct err *err)
{
    if (o->users < 1 || o->items < 1 || o->k < 1 || o->k > 256 || o->users > 10000000 ||
        o->items > 10000000)
        return err_set(err, ST_RANGE, "a planted model needs users, items and 1 to 256 factors");
    if (o->terms & (RT_ITEMS | RT_CLUSTERS))
        return err_set(err, ST_ARG, "models with item-to-item effects are simulated from a fit");
    if (!(o->days > 0) || !(o->events_per_user > 0) || !(o->branching >= 0) || !(o->friends >= 0) ||
        !(o->social >= 0))
        return err_set(err, ST_RANGE, "days and events are positive, the rest not negative");
    if (o->n_scale < 1 || o->n_scale > RSCALES_MAX)
        return err_set(err, ST_RANGE, "1 to %d scales", RSCALES_MAX);
    return ST_OK;
}

/* How much an hour of the week is liked, by a group of users. */
static double taste(uint32_t feature, uint64_t group)
{
    if (feature < 7)
        return (feature >= 5) == (group & 1) ? 0.6 : 0.2;
    double peak = group & 2 ? 20 : 9, d = fabs((double)(feature - 7) - peak);
    d = d > 12 ? 24 - d : d;
    return 0.05 + exp(-d * d / 18);
}

static void plant_rows(struct rmodel *m, const struct plant_opts *o, struct rng *r)
{
    float *theta = (float *)m->theta, *beta = (float *)m->beta;
    for (uint32_t u = 0; u < m->n_user; u++)
        for (uint32_t k = 0; k < m->k; k++) {
            double v = sample_gamma(r, 0.4);
            for (uint32_t i = 0; i < m->n_feat; i++)
                theta[((uint64_t)u * m->n_feat + i) * m->stride + k] =
                    (float)(v * (m->n_feat > 1 ? taste(i, u) : 1));
        }
    for (uint32_t p = 0; p < m->n_item; p++) {
        double popular = pow(1 + p, -0.7);
        for (uint32_t k = 0; k < m->k; k++) {
            double v = popular * sample_gamma(r, 0.3);
            for (uint32_t i = 0; i < m->n_feat; i++)
                beta[((uint64_t)p * m->n_feat + i) * m->stride + k] =
                    (float)(v * (m->n_feat > 1 ? taste(i, rng_mix(k) >> 8) : 1));
        }
    }
    (void)o;
}

static void sums(struct rmodel *m)
{
    double *s = (double *)m->beta_sum;
    memset(s, 0, (size_t)m->n_feat * m->stride * sizeof *s);
    for (uint32_t p = 0; p < m->n_item; p++)
        for (uint32_t i = 0; i < m->n_feat; i++)
            for (uint32_t k = 0; k < m->k; k++)
                s[i * m->stride + k] += (double)rmodel_beta(m, p, i)[k];
}

/* Expected immigrants of u: the mean over an average week. */
static double total(const struct rmodel *m, uint32_t u)
{
    double sum = 0;
    for (uint32_t slot = 0; slot < (m->n_feat > 1 ? CALENDAR_SLOTS : 1); slot++)
        for (uint32_t k = 0; k < m->k; k++) {
            uint32_t d = slot / 24, h = 7 + slot % 24;
            sum += m->n_feat == 1
                       ? (double)rmodel_theta(m, u, 0)[k] * m->beta_sum[k]
                       : ((double)rmodel_theta(m, u, d)[k] + (double)rmodel_theta(m, u, h)[k]) *
                             (m->beta_sum[d * m->stride + k] + m->beta_sum[h * m->stride + k]) /
                             CALENDAR_SLOTS;
        }
    return sum;
}

/* Every user gets a number of events of its own around the mean. */
static void rescale(struct rmodel *m, const struct plant_opts *o, struct rng *r)
{
    float *theta = (float *)m->theta;
    for (uint32_t u = 0; u < m->n_user; u++) {
        double want = o->events_per_user * sample_gamma(r, 2) / 2, have = total(m, u);
        for (uint64_t i = 0; i < (uint64_t)m->n_feat * m->stride; i++)
            theta[u * (uint64_t)m->n_feat * m->stride + i] *= (float)(have > 0 ? want / have : 0);
    }
}

static void plant_tau(struct rmodel *m, const struct plant_opts *o, struct rng *r)
{
    for (uint64_t i = 0; m->tau && i < (uint64_t)m->n_user * m->n_scale; i++)
        ((float *)m->tau)[i] = (float)(o->branching / m->n_scale * sample_gamma(r, 4) / 4);
    /* A subcritical plan has no user who explodes. */
    for (uint32_t u = 0; m->tau && o->branching < 0.9 && u < m->n_user; u++) {
        float *tau = (float *)m->tau + (uint64_t)u * m->n_scale, sum = 0;
        for (uint32_t k = 0; k < m->n_scale; k++)
            sum += tau[k];
        for (uint32_t k = 0; k < m->n_scale && sum > 0.9F; k++)
            tau[k] *= 0.9F / sum;
    }
    for (uint64_t i = 0; m->edge_tau && i < m->n_edge * m->n_scale; i++)
        ((float *)m->edge_tau)[i] = (float)(o->social / m->n_scale * sample_gamma(r, 1));
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Users follow a fixed number of different others. */
static void plant_edges(struct rmodel *m, uint32_t each, struct rng *r)
{
    uint32_t *from = (uint32_t *)m->edge_from;
    uint64_t n = 0;
    for (uint32_t u = 0; u < m->n_user; u++) {
        for (uint32_t i = 0; i < each; i++) {
            uint32_t step = m->n_user / each;
            uint32_t v = (uint32_t)(i * (uint64_t)step + rng_below(r, step));
            from[n++] = v == u ? (v + 1) % m->n_user : v;
        }
        qsort(from + n - each, each, sizeof *from, by_number);
        ((uint64_t *)m->edge_ptr)[u + 1] = n;
    }
}

static enum status names(struct rmodel *m, struct err *err)
{
    char name[16];
    uint32_t at;
    for (uint32_t u = 0; u < m->n_user && err->code == ST_OK; u++) {
        snprintf(name, sizeof name, "u%04u", u + 1);
        ids_add(&m->users, str_c(name), &at, err);
    }
    for (uint32_t p = 0; p < m->n_item && err->code == ST_OK; p++) {
        snprintf(name, sizeof name, "i%04u", p + 1);
        ids_add(&m->items, str_c(name), &at, err);
    }
    return err->code;
}

static void fill_ones(struct rmodel *m)
{
    for (uint32_t u = 0; u < m->n_user; u++) {
        ((double *)m->eta)[u] = ((double *)m->exposure)[u] = 1;
        ((double *)m->user_start)[u] = m->start_s;
        ((double *)m->last_s)[u] = m->start_s;
    }
    for (uint32_t p = 0; p < m->n_item; p++)
        ((double *)m->xi)[p] = 1;
    for (uint32_t i = 0; i < m->n_mu; i++)
        ((double *)m->mu)[i] = 1;
    for (uint32_t s = 0; m->tau_rate && s < m->n_scale; s++)
        ((double *)m->tau_rate)[s] = 1;
    for (uint64_t i = 0; m->tau_shape && i < (uint64_t)m->n_user * m->n_scale; i++)
        ((double *)m->tau_shape)[i] = 1;
    for (uint64_t i = 0; m->edge_shape && i < m->n_edge * m->n_scale; i++)
        ((double *)m->edge_shape)[i] = 1;
}

enum status plant_model(const struct plant_opts *o, struct rmodel **ret, struct err *err)
{
    struct rng r = { o->seed };
    struct rmodel *m = NULL;
    if (check(o, err) != ST_OK)
        return err->code;
    uint32_t each = o->terms & RT_SOCIAL ? (uint32_t)o->friends : 0;
    each = each < o->users ? each : o->users - 1;
    struct rmodel sizes = { .terms = o->terms,
                            .n_user = o->users,
                            .n_item = o->items,
                            .k = o->k,
                            .n_scale = o->terms & (RT_SELF | RT_SOCIAL) ? o->n_scale : 0,
                            .n_edge = (uint64_t)each * o->users,
                            .unit_s = o->days * DAY_S,
                            .start_s = o->start_s,
                            .end_s = o->start_s + o->days * DAY_S,
                            .a_theta = 0.3,
                            .a_beta = 0.3,
                            .a_tau = 1,
                            .a_phi = 1,
                            .a_hyper = 0.3,
                            .b_hyper = 0.3,
                            .a_mu = 1,
                            .b_mu = 0.1,
                            .pooled = true };
    sizes.n_mu = 2 * sizes.n_scale;
    for (uint32_t s = 0; s < sizes.n_scale; s++)
        sizes.scale[s] =
            (struct rkernel){ .w = o->scale[s].w * sizes.unit_s, .order = o->scale[s].order };
    sizes.item_kernel = (struct rkernel){ .w = sizes.unit_s / DAY_S, .order = 1 };
    if (rmodel_create(&sizes, &m, err) != ST_OK)
        return err->code;
    if ((o->terms & RT_CALENDAR &&
         calendar_open(&m->zone, str_c(o->zone), m->start_s, m->end_s, err) != ST_OK) ||
        names(m, err) != ST_OK) {
        rmodel_free(m);
        return err->code;
    }
    fill_ones(m);
    plant_rows(m, o, &r);
    sums(m);
    rescale(m, o, &r);
    plant_tau(m, o, &r);
    if (each)
        plant_edges(m, each, &r);
    *ret = m;
    return ST_OK;
}
