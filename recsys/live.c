/* recsys/live.c - see live.h. A trace for each (user, item) that has events, found by a hash table
 * and, user by user, along a list. */
#include "recsys/live.h"

#include "engine/base/rng.h"

#include <math.h>
#include <stdlib.h>

#define NO_TRACE UINT32_MAX

struct live {
    const struct rmodel *m;
    uint32_t n, cap;
    uint32_t *item, *next; /* [cap] of each trace */
    double *at;            /* [cap] when its sums hold */
    double *sum;           /* [cap, 2 n_scale + 1]: s0, s1, sum of the item kernel */
    uint32_t *head;        /* [n_user] */
    uint64_t *key;         /* hash table: user, item */
    uint32_t *slot;
    uint64_t n_slot;
    double *ctx_t, *ctx; /* [n_user], [n_user, n_ctx]: own events on all items */
    uint32_t n_ctx;
};

static uint32_t width(const struct live *l)
{
    return 2 * l->m->n_scale + 1;
}

static uint64_t place(const struct live *l, uint64_t key)
{
    uint64_t mask = l->n_slot - 1, at = rng_mix(key) & mask;
    while (l->slot[at] != NO_TRACE && l->key[at] != key)
        at = (at + 1) & mask;
    return at;
}

static uint32_t find(const struct live *l, uint32_t u, uint32_t p)
{
    return l->n_slot ? l->slot[place(l, (uint64_t)u << 32 | p)] : NO_TRACE;
}

static bool grow_table(struct live *l)
{
    uint64_t n = l->n_slot ? l->n_slot * 2 : 4096, *old = l->key, n_old = l->n_slot;
    uint32_t *old_slot = l->slot;
    uint64_t *key = malloc(n * sizeof *key);
    uint32_t *slot = malloc(n * sizeof *slot);
    if (!key || !slot) {
        free(key);
        free(slot);
        return false;
    }
    memset(slot, 0xFF, n * sizeof *slot);
    l->key = key;
    l->slot = slot;
    l->n_slot = n;
    for (uint64_t i = 0; i < n_old; i++)
        if (old_slot[i] != NO_TRACE) {
            uint64_t at = place(l, old[i]);
            l->key[at] = old[i];
            l->slot[at] = old_slot[i];
        }
    free(old);
    free(old_slot);
    return true;
}

static bool grow_traces(struct live *l)
{
    uint32_t cap = l->cap ? l->cap * 2 : 2048;
    void *p;
    if (!(p = realloc(l->item, cap * sizeof *l->item)))
        return false;
    l->item = p;
    if (!(p = realloc(l->next, cap * sizeof *l->next)))
        return false;
    l->next = p;
    if (!(p = realloc(l->at, cap * sizeof *l->at)))
        return false;
    l->at = p;
    if (!(p = realloc(l->sum, (size_t)cap * width(l) * sizeof *l->sum)))
        return false;
    l->sum = p;
    l->cap = cap;
    return true;
}

static uint32_t add_trace(struct live *l, uint32_t u, uint32_t p, double t)
{
    if ((l->n == l->cap && !grow_traces(l)) ||
        (2 * ((uint64_t)l->n + 1) > l->n_slot && !grow_table(l)))
        return NO_TRACE;
    uint32_t i = l->n++;
    uint64_t at = place(l, (uint64_t)u << 32 | p);
    l->key[at] = (uint64_t)u << 32 | p;
    l->slot[at] = i;
    l->item[i] = p;
    l->next[i] = l->head[u];
    l->head[u] = i;
    l->at[i] = t;
    memset(l->sum + (size_t)i * width(l), 0, width(l) * sizeof *l->sum);
    return i;
}

enum status live_open(const struct rmodel *m, struct live **ret, struct err *err)
{
    struct live *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(err, ST_NOMEM, "live rates");
    l->m = m;
    l->n_ctx = m->terms & RT_ITEMS ? m->k : m->terms & RT_CLUSTERS ? m->n_cluster : 0;
    l->head = malloc((m->n_user + (size_t)1) * sizeof *l->head);
    l->ctx_t = calloc(m->n_user + (size_t)1, sizeof *l->ctx_t);
    l->ctx = calloc((size_t)m->n_user * l->n_ctx + 1, sizeof *l->ctx);
    if (!l->head || !l->ctx_t || !l->ctx) {
        live_close(l);
        return err_set(err, ST_NOMEM, "live rates of %u users", m->n_user);
    }
    memset(l->head, 0xFF, m->n_user * sizeof *l->head);
    *ret = l;
    return ST_OK;
}

void live_close(struct live *l)
{
    if (!l)
        return;
    free(l->item);
    free(l->next);
    free(l->at);
    free(l->sum);
    free(l->head);
    free(l->key);
    free(l->slot);
    free(l->ctx_t);
    free(l->ctx);
    free(l);
}

/* ---- decay ---- */

static void decay(struct live *l, uint32_t i, double t)
{
    const struct rmodel *m = l->m;
    double dt = (t - l->at[i]) / m->unit_s, *s = l->sum + (size_t)i * width(l);
    if (!(dt > 0))
        return;
    for (uint32_t k = 0; k < m->n_scale; k++) {
        double d = exp(-m->scale[k].w * dt);
        s[2 * k + 1] = d * (s[2 * k + 1] + dt * s[2 * k]);
        s[2 * k] *= d;
    }
    if (l->n_ctx)
        s[2 * m->n_scale] *= exp(-m->item_kernel.w * dt);
    l->at[i] = t;
}

static void decay_ctx(struct live *l, uint32_t u, double t)
{
    double dt = (t - l->ctx_t[u]) / l->m->unit_s;
    if (!(dt > 0) || !l->n_ctx)
        return;
    double d = exp(-l->m->item_kernel.w * dt);
    for (uint32_t k = 0; k < l->n_ctx; k++)
        l->ctx[(size_t)u * l->n_ctx + k] *= d;
    l->ctx_t[u] = t;
}

static double kernel(const struct live *l, uint32_t i, uint32_t k)
{
    const struct rkernel *s = &l->m->scale[k];
    const double *v = l->sum + (size_t)i * width(l) + 2 * (size_t)k;
    return s->order == 2 ? s->w * s->w * v[1] : s->w * v[0];
}

enum status live_add(struct live *l, uint32_t u, uint32_t p, double t, double c, struct err *err)
{
    const struct rmodel *m = l->m;
    uint32_t i = find(l, u, p);
    if (i == NO_TRACE && (i = add_trace(l, u, p, t)) == NO_TRACE)
        return err_set(err, ST_NOMEM, "live rates of %u pairs", l->n);
    decay(l, i, t);
    double *s = l->sum + (size_t)i * width(l);
    for (uint32_t k = 0; k < m->n_scale; k++) {
        s[2 * k] = m->scale[k].last_only ? 1 : s[2 * k] + c;
        s[2 * k + 1] = m->scale[k].last_only ? 0 : s[2 * k + 1];
    }
    s[2 * m->n_scale] += c;
    if (!l->n_ctx)
        return ST_OK;
    if (l->ctx_t[u] == 0)
        l->ctx_t[u] = t;
    decay_ctx(l, u, t);
    double *ctx = l->ctx + (size_t)u * l->n_ctx;
    if (m->cluster)
        ctx[m->cluster[p]] += c;
    else
        for (uint32_t k = 0; k < m->k; k++)
            ctx[k] += c * (double)rmodel_beta(m, p, 0)[k];
    return ST_OK;
}

enum status live_replay(struct live *l, const struct rs_events *ev, struct err *err)
{
    for (uint64_t i = 0; i < ev->n; i++)
        if (live_add(l, ev->user[i], ev->item[i], ev->time[i], 1, err) != ST_OK)
            return err->code;
    return ST_OK;
}

/* ---- rates ---- */

static double own(const struct live *l, uint32_t u, uint32_t i)
{
    double sum = 0;
    for (uint32_t k = 0; k < l->m->n_scale && l->m->tau; k++)
        sum += (double)l->m->tau[(uint64_t)u * l->m->n_scale + k] * kernel(l, i, k);
    return sum;
}

static double friends(const struct live *l, uint64_t e, uint32_t i)
{
    double sum = 0;
    for (uint32_t k = 0; k < l->m->n_scale; k++)
        sum += (double)l->m->edge_tau[e * l->m->n_scale + k] * kernel(l, i, k);
    return sum;
}

/* Through other items; a: the item kernel's sum over own events on p itself. */
static double others(const struct live *l, uint32_t u, uint32_t p, double a)
{
    const struct rmodel *m = l->m;
    const double *ctx = l->ctx + (size_t)u * l->n_ctx;
    double sum = 0;
    if (m->cluster)
        for (uint32_t b = 0; b < m->n_cluster; b++)
            sum += (double)m->pi[(uint64_t)b * m->n_cluster + m->cluster[p]] *
                   (ctx[b] - (b == m->cluster[p] ? a : 0));
    else
        for (uint32_t k = 0; k < m->k; k++) {
            double v = (double)rmodel_beta(m, p, 0)[k];
            sum += v * (ctx[k] - a * v);
        }
    return sum > 0 ? (double)m->phi[u] * m->item_kernel.w * sum : 0;
}

struct live_parts live_rate(struct live *l, uint32_t u, uint32_t p, double t)
{
    const struct rmodel *m = l->m;
    struct live_parts r = { .base = rmodel_base(m, u, p, t) };
    uint32_t i = find(l, u, p);
    if (i != NO_TRACE) {
        decay(l, i, t);
        r.self = own(l, u, i);
    }
    for (uint64_t e = m->edge_ptr ? m->edge_ptr[u] : 0; m->edge_ptr && e < m->edge_ptr[u + 1];
         e++) {
        uint32_t j = find(l, m->edge_from[e], p);
        if (j == NO_TRACE)
            continue;
        decay(l, j, t);
        r.social += friends(l, e, j);
    }
    if (l->n_ctx) {
        decay_ctx(l, u, t);
        r.items =
            others(l, u, p, i == NO_TRACE ? 0 : l->sum[(size_t)i * width(l) + 2 * m->n_scale]);
    }
    return r;
}

void live_scores(struct live *l, uint32_t u, double t, float *out)
{
    const struct rmodel *m = l->m;
    rmodel_base_all(m, u, t, out);
    if (l->n_ctx) {
        decay_ctx(l, u, t);
        for (uint32_t p = 0; p < m->n_item; p++) {
            uint32_t i = find(l, u, p);
            if (i != NO_TRACE)
                decay(l, i, t);
            out[p] += (float)others(
                l, u, p, i == NO_TRACE ? 0 : l->sum[(size_t)i * width(l) + 2 * m->n_scale]);
        }
    }
    for (uint32_t i = l->head[u]; i != NO_TRACE; i = l->next[i]) {
        decay(l, i, t);
        out[l->item[i]] += (float)own(l, u, i);
    }
    for (uint64_t e = m->edge_ptr ? m->edge_ptr[u] : 0; m->edge_ptr && e < m->edge_ptr[u + 1]; e++)
        for (uint32_t i = l->head[m->edge_from[e]]; i != NO_TRACE; i = l->next[i]) {
            decay(l, i, t);
            out[l->item[i]] += (float)friends(l, e, i);
        }
}

void live_user_kernels(struct live *l, uint32_t u, double t, double *s0, double *s1)
{
    const struct rmodel *m = l->m;
    for (uint32_t k = 0; k < m->n_scale; k++)
        s0[k] = s1[k] = 0;
    for (uint32_t i = l->head[u]; i != NO_TRACE; i = l->next[i]) {
        decay(l, i, t);
        for (uint32_t k = 0; k < m->n_scale; k++) {
            s0[k] += l->sum[(size_t)i * width(l) + 2 * (size_t)k];
            s1[k] += l->sum[(size_t)i * width(l) + 2 * (size_t)k + 1];
        }
    }
}

void live_pair_kernels(struct live *l, uint32_t u, uint32_t p, double t, double *s0, double *s1)
{
    uint32_t i = find(l, u, p);
    if (i != NO_TRACE)
        decay(l, i, t);
    for (uint32_t k = 0; k < l->m->n_scale; k++) {
        s0[k] = i == NO_TRACE ? 0 : l->sum[(size_t)i * width(l) + 2 * (size_t)k];
        s1[k] = i == NO_TRACE ? 0 : l->sum[(size_t)i * width(l) + 2 * (size_t)k + 1];
    }
}

void live_each(struct live *l, uint32_t u, void (*fn)(void *ctx, uint32_t item, double last_s),
               void *ctx)
{
    for (uint32_t i = l->head[u]; i != NO_TRACE; i = l->next[i])
        fn(ctx, l->item[i], l->at[i]);
}
