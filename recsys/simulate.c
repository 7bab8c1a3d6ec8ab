/* recsys/simulate.c - see simulate.h. An event of v on q has children of these kinds: v again on q
 * (tau of v, each scale), a follower of v on q (tau of the edge, each scale), v on another item
 * (phi). */
#include "recsys/simulate.h"

#include "recsys/sample.h"

#include <assert.h>
#include <stdlib.h>

struct event {
    double t; /* units since from_s */
    uint32_t user, item, parent, scale;
};

struct sim {
    const struct rmodel *m;
    const struct sim_opts *o;
    struct rng rng;
    double span; /* units */
    struct event *e;
    uint64_t n, cap;
    uint64_t *out_ptr; /* [n_user + 1] edges by source */
    uint32_t *out_user;
    uint64_t *out_edge;
    double *alpha; /* [n_item]: what phi multiplies */
    float *score;  /* [n_item] scratch */
};

/* ---- followers ---- */

static bool by_source(struct sim *s)
{
    const struct rmodel *m = s->m;
    s->out_ptr = calloc(m->n_user + (size_t)2, sizeof *s->out_ptr);
    s->out_user = calloc(m->n_edge + 1, sizeof *s->out_user);
    s->out_edge = calloc(m->n_edge + 1, sizeof *s->out_edge);
    if (!s->out_ptr || !s->out_user || !s->out_edge)
        return false;
    if (!m->edge_ptr)
        return true;
    for (uint64_t e = 0; e < m->n_edge; e++)
        s->out_ptr[m->edge_from[e] + 2]++;
    for (uint32_t v = 0; v < m->n_user; v++)
        s->out_ptr[v + 2] += s->out_ptr[v + 1];
    for (uint32_t u = 0; u < m->n_user; u++)
        for (uint64_t e = m->edge_ptr[u]; e < m->edge_ptr[u + 1]; e++) {
            uint64_t at = s->out_ptr[m->edge_from[e] + 1]++;
            s->out_user[at] = u;
            s->out_edge[at] = e;
        }
    return true;
}

static double item_pull(const struct rmodel *m, uint32_t q, uint32_t p)
{
    double sum = 0;
    if (p == q)
        return 0;
    if (m->cluster)
        return (double)m->pi[(uint64_t)m->cluster[q] * m->n_cluster + m->cluster[p]];
    for (uint32_t k = 0; k < m->k; k++)
        sum += (double)rmodel_beta(m, q, 0)[k] * (double)rmodel_beta(m, p, 0)[k];
    return sum;
}

static bool pulls(struct sim *s)
{
    if (!s->m->phi)
        return true;
    s->alpha = calloc(s->m->n_item + (size_t)1, sizeof *s->alpha);
    for (uint32_t q = 0; s->alpha && q < s->m->n_item; q++)
        for (uint32_t p = 0; p < s->m->n_item; p++)
            s->alpha[q] += item_pull(s->m, q, p);
    return s->alpha != NULL;
}

/* Power iteration on the expected children of a user's event, without item-to-item ones. */
double sim_radius(const struct rmodel *m)
{
    double top = 0, norm = 0;
    double *x = malloc((m->n_user + (size_t)1) * sizeof *x);
    double *y = malloc((m->n_user + (size_t)1) * sizeof *y);
    for (uint32_t u = 0; u < m->n_user && m->tau; u++) {
        double own = 0;
        for (uint32_t k = 0; k < m->n_scale; k++)
            own += (double)m->tau[(uint64_t)u * m->n_scale + k];
        top = own > top ? own : top;
    }
    for (uint32_t u = 0; x && u < m->n_user; u++)
        x[u] = 1;
    for (int i = 0; i < 100 && m->edge_ptr && x && y; i++) {
        norm = 0;
        for (uint32_t u = 0; u < m->n_user; u++) {
            y[u] = 0;
            for (uint32_t k = 0; k < m->n_scale; k++)
                y[u] += m->tau ? (double)m->tau[(uint64_t)u * m->n_scale + k] * x[u] : 0;
            for (uint64_t e = m->edge_ptr[u]; e < m->edge_ptr[u + 1]; e++)
                for (uint32_t k = 0; k < m->n_scale; k++)
                    y[u] += (double)m->edge_tau[e * m->n_scale + k] * x[m->edge_from[e]];
            norm = y[u] > norm ? y[u] : norm;
        }
        for (uint32_t u = 0; u < m->n_user; u++)
            x[u] = norm > 0 ? y[u] / norm : 0;
    }
    free(x);
    free(y);
    return norm > top ? norm : top;
}

/* ---- events ---- */

static bool push(struct sim *s, struct event e, struct err *err)
{
    if (s->n >= s->o->max_events || s->n >= SIM_IMMIGRANT) {
        err_set(err, ST_FULL,
                "more than %llu events: the process is supercritical (largest branching ratio "
                "%.2f) or the window too long",
                (unsigned long long)s->o->max_events, sim_radius(s->m));
        return false;
    }
    if (s->n == s->cap) {
        uint64_t cap = s->cap ? s->cap * 2 : 4096;
        struct event *p = realloc(s->e, cap * sizeof *p);
        if (!p) {
            err_set(err, ST_NOMEM, "%llu simulated events", (unsigned long long)cap);
            return false;
        }
        s->e = p;
        s->cap = cap;
    }
    s->e[s->n++] = e;
    return true;
}

/* An index by weight; total is their sum. */
static uint32_t pick(struct rng *r, const float *w, uint32_t n)
{
    double sum = 0, at;
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)w[i];
    at = rng_f64(r) * sum;
    for (uint32_t i = 0; i < n; i++) {
        if (w[i] > 0)
            last = i;
        at -= (double)w[i];
        if (at < 0)
            return i;
    }
    return last;
}

static uint32_t pick_base_item(struct sim *s, uint32_t u, double t)
{
    rmodel_base_all(s->m, u, s->o->from_s + t * s->m->unit_s, s->score);
    return pick(&s->rng, s->score, s->m->n_item);
}

static uint32_t pick_other_item(struct sim *s, uint32_t q)
{
    for (uint32_t p = 0; p < s->m->n_item; p++)
        s->score[p] = (float)item_pull(s->m, q, p);
    return pick(&s->rng, s->score, s->m->n_item);
}

/* Total base rate of u at t (units). */
static double base_total(const struct sim *s, uint32_t u, double t)
{
    const struct rmodel *m = s->m;
    uint32_t f[2];
    unsigned n = rmodel_features(m, s->o->from_s + t * m->unit_s, f);
    double sum = 0;
    for (uint32_t k = 0; k < m->k; k++)
        sum += n == 1
                   ? (double)rmodel_theta(m, u, 0)[k] * m->beta_sum[k]
                   : ((double)rmodel_theta(m, u, f[0])[k] + (double)rmodel_theta(m, u, f[1])[k]) *
                         (m->beta_sum[f[0] * m->stride + k] + m->beta_sum[f[1] * m->stride + k]);
    return sum;
}

/* Of any hour. */
static double base_bound(const struct rmodel *m, uint32_t u)
{
    double top = 0;
    for (uint32_t slot = 0; slot < (m->n_feat > 1 ? CALENDAR_SLOTS : 1); slot++) {
        uint32_t d = slot / 24, h = 7 + slot % 24;
        double sum = 0;
        for (uint32_t k = 0; k < m->k; k++)
            sum += m->n_feat == 1
                       ? (double)rmodel_theta(m, u, 0)[k] * m->beta_sum[k]
                       : ((double)rmodel_theta(m, u, d)[k] + (double)rmodel_theta(m, u, h)[k]) *
                             (m->beta_sum[d * m->stride + k] + m->beta_sum[h * m->stride + k]);
        top = sum > top ? sum : top;
    }
    return top;
}

/* ---- clusters ---- */

static bool immigrants(struct sim *s, struct err *err)
{
    for (uint32_t u = 0; u < s->m->n_user; u++) {
        double bound = base_bound(s->m, u);
        double t = 0;
        while (bound > 0 && (t += sample_exp(&s->rng) / bound) < s->span) {
            if (s->m->n_feat > 1 && rng_f64(&s->rng) * bound > base_total(s, u, t))
                continue;
            struct event e = { t, u, pick_base_item(s, u, t), SIM_IMMIGRANT, SIM_IMMIGRANT };
            if (!push(s, e, err))
                return false;
        }
    }
    return true;
}

static double delay(struct sim *s, struct rkernel k)
{
    double x = sample_exp(&s->rng);
    return (k.order == 2 ? x + sample_exp(&s->rng) : x) / k.w;
}

static bool children(struct sim *s, uint32_t parent, uint32_t user, uint32_t scale, double mean,
                     struct err *err)
{
    const struct event from = s->e[parent];
    bool other = scale == s->m->n_scale;
    for (uint64_t n = sample_poisson(&s->rng, mean); n > 0; n--) {
        double t = from.t + delay(s, other ? s->m->item_kernel : s->m->scale[scale]);
        if (t >= s->span)
            continue;
        uint32_t item = other ? pick_other_item(s, from.item) : from.item;
        if (!push(s, (struct event){ t, user, item, parent, scale }, err))
            return false;
    }
    return true;
}

static bool offspring(struct sim *s, uint32_t i, struct err *err)
{
    const struct rmodel *m = s->m;
    uint32_t v = s->e[i].user;
    for (uint32_t k = 0; m->tau && k < m->n_scale; k++)
        if (!children(s, i, v, k, (double)m->tau[(uint64_t)v * m->n_scale + k], err))
            return false;
    for (uint64_t o = s->out_ptr[v]; o < s->out_ptr[v + 1]; o++)
        for (uint32_t k = 0; k < m->n_scale; k++)
            if (!children(s, i, s->out_user[o], k,
                          (double)m->edge_tau[s->out_edge[o] * m->n_scale + k], err))
                return false;
    return !m->phi ||
           children(s, i, v, m->n_scale, (double)m->phi[v] * s->alpha[s->e[i].item], err);
}

static bool by_clusters(struct sim *s, struct err *err)
{
    if (!immigrants(s, err))
        return false;
    for (uint64_t i = 0; i < s->n; i++)
        if (!offspring(s, (uint32_t)i, err))
            return false;
    return true;
}

/* ---- thinning ---- */

/* Expected children of an event through one kernel, of all users. */
static double reach(const struct sim *s, const struct event *e, uint32_t scale)
{
    const struct rmodel *m = s->m;
    if (scale == m->n_scale)
        return m->phi ? (double)m->phi[e->user] * s->alpha[e->item] : 0;
    double sum = m->tau ? (double)m->tau[(uint64_t)e->user * m->n_scale + scale] : 0;
    for (uint64_t o = s->out_ptr[e->user]; o < s->out_ptr[e->user + 1]; o++)
        sum += (double)m->edge_tau[s->out_edge[o] * m->n_scale + scale];
    return sum;
}

static double kernel_at(struct rkernel k, double dt)
{
    return k.order == 2 ? k.w * k.w * dt * exp(-k.w * dt) : k.w * exp(-k.w * dt);
}

static struct rkernel kernel_of(const struct rmodel *m, uint32_t scale)
{
    return scale == m->n_scale ? m->item_kernel : m->scale[scale];
}

/* The state of all kernels: sums of reach, and of reach times dt, both decayed. */
struct state {
    double s0[RSCALES_MAX + 1], s1[RSCALES_MAX + 1], t;
};

static void move(const struct sim *s, struct state *st, double t)
{
    double dt = t - st->t;
    for (uint32_t k = 0; k <= s->m->n_scale; k++) {
        double d = exp(-kernel_of(s->m, k).w * dt);
        st->s1[k] = d * (st->s1[k] + dt * st->s0[k]);
        st->s0[k] *= d;
    }
    st->t = t;
}

/* Now, or (bound) the most it can be from now on without new events. */
static double rate_of(const struct sim *s, const struct state *st, uint32_t k, bool bound)
{
    struct rkernel g = kernel_of(s->m, k);
    if (g.order != 2)
        return g.w * st->s0[k];
    return g.w * g.w * st->s1[k] + (bound ? g.w * st->s0[k] / 2.718281828459045 : 0);
}

/* The parent of a child at t through kernel k; the youngest are looked at first. */
static uint32_t pick_parent(struct sim *s, double t, uint32_t k, double total)
{
    double at = rng_f64(&s->rng) * total;
    for (uint64_t i = s->n; i-- > 0;) {
        at -= reach(s, &s->e[i], k) * kernel_at(kernel_of(s->m, k), t - s->e[i].t);
        if (at < 0)
            return (uint32_t)i;
    }
    return 0; /* rounding: the oldest */
}

/* Who among the users that the parent reaches. */
static uint32_t pick_user(struct sim *s, const struct event *from, uint32_t k)
{
    const struct rmodel *m = s->m;
    double at = rng_f64(&s->rng) * reach(s, from, k);
    if (k == m->n_scale)
        return from->user;
    at -= m->tau ? (double)m->tau[(uint64_t)from->user * m->n_scale + k] : 0;
    for (uint64_t o = s->out_ptr[from->user]; at >= 0 && o < s->out_ptr[from->user + 1]; o++) {
        at -= (double)m->edge_tau[s->out_edge[o] * m->n_scale + k];
        if (at < 0)
            return s->out_user[o];
    }
    return from->user;
}

static bool accept_child(struct sim *s, struct state *st, uint32_t k, double rate, struct err *err)
{
    uint32_t parent = pick_parent(s, st->t, k, rate);
    assert(s->e && parent < s->n);
    struct event from = s->e[parent];
    struct event e = { st->t, pick_user(s, &from, k), from.item, parent, k };
    if (k == s->m->n_scale)
        e.item = pick_other_item(s, from.item);
    return push(s, e, err);
}

static bool accept_base(struct sim *s, double t, const float *bound, struct err *err)
{
    uint32_t u = pick(&s->rng, bound, s->m->n_user);
    if (s->m->n_feat > 1 && rng_f64(&s->rng) * (double)bound[u] > base_total(s, u, t))
        return true;
    return push(s, (struct event){ t, u, pick_base_item(s, u, t), SIM_IMMIGRANT, SIM_IMMIGRANT },
                err);
}

static bool by_thinning(struct sim *s, struct err *err)
{
    const struct rmodel *m = s->m;
    struct state st = { .t = 0 };
    float *bound = calloc(m->n_user + (size_t)1, sizeof *bound);
    double base = 0;
    if (!bound)
        return err_set(err, ST_NOMEM, "base rates"), false;
    for (uint32_t u = 0; u < m->n_user; u++)
        base += (double)(bound[u] = (float)base_bound(m, u));
    while (err->code == ST_OK) {
        double top = base;
        for (uint32_t k = 0; k <= m->n_scale; k++)
            top += rate_of(s, &st, k, true);
        double t = st.t + sample_exp(&s->rng) / top;
        if (!(top > 0) || t >= s->span)
            break;
        move(s, &st, t);
        double at = rng_f64(&s->rng) * top;
        uint64_t before = s->n;
        if (at < base)
            accept_base(s, t, bound, err);
        at -= base;
        for (uint32_t k = 0; at >= 0 && k <= m->n_scale; k++) {
            double rate = rate_of(s, &st, k, false);
            if (at < rate)
                accept_child(s, &st, k, rate, err);
            at -= rate;
        }
        for (uint32_t k = 0; s->n > before && k <= m->n_scale; k++)
            st.s0[k] += reach(s, &s->e[before], k);
    }
    free(bound);
    return err->code == ST_OK;
}

/* ---- out ---- */

struct order {
    double t;
    uint32_t i;
};

static int by_time(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    return x->t != y->t ? (x->t < y->t ? -1 : 1) : (x->i > y->i) - (x->i < y->i);
}

static enum status write_out(struct sim *s, struct simulated *r, struct err *err)
{
    struct order *o = malloc((s->n + 1) * sizeof *o);
    uint32_t *place = malloc((s->n + 1) * sizeof *place);
    r->parent = malloc((s->n + 1) * sizeof *r->parent);
    r->scale = malloc((s->n + 1) * sizeof *r->scale);
    if (!o || !place || !r->parent || !r->scale) {
        err_set(err, ST_NOMEM, "%llu simulated events", (unsigned long long)s->n);
        goto done;
    }
    for (uint64_t i = 0; i < s->n; i++)
        o[i] = (struct order){ s->e[i].t, (uint32_t)i };
    qsort(o, s->n, sizeof *o, by_time);
    for (uint64_t i = 0; i < s->n; i++)
        place[o[i].i] = (uint32_t)i;
    if (ids_copy(&s->m->users, &r->ev.users, err) != ST_OK ||
        ids_copy(&s->m->items, &r->ev.items, err) != ST_OK)
        goto done;
    for (uint64_t i = 0; i < s->n && err->code == ST_OK; i++) {
        const struct event *e = &s->e[o[i].i];
        r->parent[i] = e->parent == SIM_IMMIGRANT ? SIM_IMMIGRANT : place[e->parent];
        r->scale[i] = e->scale;
        events_add(&r->ev, ids_name(&s->m->users, e->user), ids_name(&s->m->items, e->item),
                   s->o->from_s + e->t * s->m->unit_s, err);
    }
    r->ev.sorted = true;
done:
    free(o);
    free(place);
    return err->code;
}

enum status simulate(const struct rmodel *m, const struct sim_opts *o, struct simulated *ret,
                     struct err *err)
{
    struct sim s = { .m = m, .o = o, .rng = { o->seed } };
    struct simulated r = { .ev = EVENTS_INIT };
    if (!(o->to_s > o->from_s))
        return err_set(err, ST_ARG, "a simulation needs a window: its end lies before its start");
    s.span = (o->to_s - o->from_s) / m->unit_s;
    s.score = malloc((m->n_item + (size_t)1) * sizeof *s.score);
    if (!s.score || !by_source(&s) || !pulls(&s))
        err_set(err, ST_NOMEM, "simulation");
    else if ((o->method == SIM_CLUSTERS ? by_clusters : by_thinning)(&s, err))
        write_out(&s, &r, err);
    free(s.score);
    free(s.alpha);
    free(s.out_ptr);
    free(s.out_user);
    free(s.out_edge);
    free(s.e);
    if (err->code != ST_OK) {
        simulated_clear(&r);
        return err->code;
    }
    *ret = r;
    return ST_OK;
}

void simulated_clear(struct simulated *s)
{
    events_clear(&s->ev);
    free(s->parent);
    free(s->scale);
    *s = (struct simulated){ .ev = EVENTS_INIT };
}
