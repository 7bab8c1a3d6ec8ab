/* recsys/sweep_more.c - a user's attributions with friends' events (dossier 1.8) and with own
 * events on other items (IIRPF, XIIRPF). All of the user's rates are put together before any is
 * divided by:
 *
 *   base of each record -> own events -> friends, forward -> other items, forward: Z, count / Z
 *   -> friends, backward -> other items, backward -> base
 */
#include "recsys/fit_internal.h"

/* A user's part of the view. */
struct part {
    struct fit *f;
    const struct view *v;
    uint32_t u;
    uint64_t rec, n_rec, event, n_event; /* first and number of them */
    struct scratch *s;
    unsigned item_block;
};

/* ---- base and own events ---- */

static void base_and_own(struct part *p)
{
    struct fit *f = p->f;
    const struct view *v = p->v;
    const real *row = row_of(f, f->theta_tab, p->u);
    const real *w = f->tau_tab ? f->tau_tab + (uint64_t)p->u * f->x_stride : NULL;
    if (v->rec_slot)
        f->level->slot_dots(row, f->beta_tab, f->stride, v->rec_item + p->rec, v->rec_slot + p->rec,
                            p->n_rec, p->s->base);
    else
        f->level->dots(row, f->beta_tab, f->stride, v->rec_item + p->rec, p->n_rec, p->s->base);
    for (uint64_t r = 0; r < p->n_rec; r++)
        for (uint64_t e = v->rec_event[p->rec + r]; e < v->rec_event[p->rec + r + 1]; e++) {
            real z = p->s->base[r];
            for (uint32_t m = 0; w && v->x && m < f->n_scale; m++)
                z += w[m] * v->x[e * f->x_stride + m];
            p->s->z[e - p->event] = z;
            p->s->event_rec[e - p->event] = (uint32_t)r;
        }
}

/* ---- friends ---- */

/* One scale's excitation of a pair's events, added to z. g0, g1: sums of f and f dt at each event,
 * in the pair's order. */
static void friends_forward(struct part *p, uint64_t pair, uint32_t m)
{
    const struct view *v = p->v;
    struct fit *f = p->f;
    const struct rkernel k = f->scale[m];
    const uint64_t from = v->rec_event[v->pair_rec[pair]],
                   end = v->rec_event[v->pair_rec[pair + 1]];
    const struct trigger *t = v->trigger + v->pair_trigger[pair];
    const struct trigger *t_end = v->trigger + v->pair_trigger[pair + 1];
    double *g0 = p->s->g0, *g1 = p->s->g1; /* by event */
    for (uint64_t i = from; i < end; i++)
        g0[i - p->event] = g1[i - p->event] = 0;
    for (; t < t_end; t++) {
        double c = (double)(f->edge_tab[(uint64_t)t->edge * f->n_scale + m] * t->count) *
                   exp(-k.w * (double)t->dt);
        g0[t->event - p->event] += c;
        g1[t->event - p->event] += c * (double)t->dt;
    }
    for (uint64_t i = from; i < end; i++) {
        uint64_t e = v->pair_order[i] - p->event;
        if (i > from) {
            uint64_t b = v->pair_order[i - 1] - p->event;
            double dt = v->t[e + p->event] - v->t[b + p->event], d = exp(-k.w * dt);
            g0[e] += d * g0[b];
            g1[e] += d * (g1[b] + dt * g0[b]);
        }
        p->s->z[e] += (real)(k.order == 2 ? k.w * k.w * g1[e] : k.w * g0[e]);
    }
}

/* What each trigger caused: f_m times the sum of count / Z that it still reaches. */
static void friends_backward(struct part *p, uint64_t pair, uint32_t m)
{
    const struct view *v = p->v;
    struct fit *f = p->f;
    const struct rkernel k = f->scale[m];
    const uint64_t from = v->rec_event[v->pair_rec[pair]],
                   end = v->rec_event[v->pair_rec[pair + 1]];
    double *h0 = p->s->h0, *h1 = p->s->h1;
    for (uint64_t i = end; i-- > from;) {
        uint64_t e = v->pair_order[i] - p->event;
        h0[e] = (double)p->s->q[e];
        h1[e] = 0;
        if (i + 1 < end) {
            uint64_t a = v->pair_order[i + 1] - p->event;
            double dt = v->t[a + p->event] - v->t[e + p->event], d = exp(-k.w * dt);
            h0[e] += d * h0[a];
            h1[e] += d * (h1[a] + dt * h0[a]);
        }
    }
    for (uint64_t i = v->pair_trigger[pair]; i < v->pair_trigger[pair + 1]; i++) {
        const struct trigger *t = &v->trigger[i];
        uint64_t e = t->event - p->event, at = (uint64_t)t->edge * f->n_scale + m;
        double c = (double)(f->edge_tab[at] * t->count) * exp(-k.w * (double)t->dt);
        double reach = k.order == 2 ? k.w * k.w * ((double)t->dt * h0[e] + h1[e]) : k.w * h0[e];
        f->edge_count[at] += c * reach;
    }
}

/* Other scales reuse g and h: a pair is done scale by scale. */
static void friends(struct part *p, bool forward)
{
    const struct view *v = p->v;
    struct fit *f = p->f;
    if (!forward)
        for (uint64_t i = v->edge_ptr[p->u] * f->n_scale; i < v->edge_ptr[p->u + 1] * f->n_scale;
             i++)
            f->edge_count[i] = 0;
    for (uint64_t pair = v->user_pair[p->u]; pair < v->user_pair[p->u + 1]; pair++) {
        if (v->pair_trigger[pair] == v->pair_trigger[pair + 1])
            continue;
        for (uint32_t m = 0; m < f->n_scale; m++)
            if (forward)
                friends_forward(p, pair, m);
            else
                friends_backward(p, pair, m);
    }
}

/* ---- other items ---- */

/* A pair is known by the first of its records; trails are kept there. */
static uint64_t first_rec(const struct part *p, uint64_t r)
{
    while (r && p->v->rec_item[p->rec + r - 1] == p->v->rec_item[p->rec + r])
        r--;
    return r;
}

/* The next events that happened at one time: [i, return). */
static uint64_t tied(const struct part *p, uint64_t i)
{
    const uint32_t *o = p->v->user_order + p->event;
    uint64_t j = i + 1;
    while (j < p->n_event && p->v->t[o[j]] == p->v->t[o[i]])
        j++;
    return j;
}

static double decayed(double *v, double *at, double t, double w)
{
    if (t != *at)
        *v *= exp(-w * fabs(t - *at));
    *at = t;
    return *v;
}

static void decay_all(double *v, uint32_t n, double d)
{
    for (uint32_t k = 0; k < n; k++)
        v[k] *= d;
}

/* Rate of an event through the item factors; counts of its item when the rate is final. */
static void items_target(struct part *p, uint64_t e, double phi_w, double *caused)
{
    struct fit *f = p->f;
    struct scratch *s = p->s;
    uint64_t r = s->event_rec[e], first = first_rec(p, r);
    uint32_t item = p->v->rec_item[p->rec + r];
    const real *b = f->beta_tab + (uint64_t)item * f->stride;
    real *acc = f->item_acc + ((uint64_t)p->item_block * f->np + item) * f->stride;
    double a =
        decayed(&s->trail[first], &s->trail_t[first], p->v->t[p->event + e], p->v->item_kernel.w);
    double dot = 0;
    for (uint32_t k = 0; k < f->k; k++)
        dot += (double)b[k] * (s->ctx[k] - a * (double)b[k]);
    double rate = dot > 0 ? phi_w * dot : 0;
    s->z[e] += (real)rate;
    double z = (double)s->z[e];
    double q = (double)p->v->count[p->event + e] / (z > (double)REAL_TINY ? z : (double)REAL_TINY);
    s->q[e] = (real)q;
    *caused += q * rate;
    for (uint32_t k = 0; rate > 0 && k < f->k; k++)
        acc[k] += (real)(phi_w * q * (s->ctx[k] - a * (double)b[k]));
}

static void clusters_target(struct part *p, uint64_t e, double phi_w, double *caused)
{
    struct fit *f = p->f;
    struct scratch *s = p->s;
    uint64_t r = s->event_rec[e], first = first_rec(p, r);
    uint32_t c = f->cluster[p->v->rec_item[p->rec + r]], n = f->n_cluster;
    double *count = f->pi_block + (uint64_t)p->item_block * n * n;
    double a =
        decayed(&s->trail[first], &s->trail_t[first], p->v->t[p->event + e], p->v->item_kernel.w);
    double rate = 0;
    for (uint32_t b = 0; b < n; b++) {
        double left = s->ctx[b] - (b == c ? a : 0);
        rate += left > 0 ? (double)f->pi_tab[(uint64_t)b * n + c] * left : 0;
    }
    rate *= phi_w;
    s->z[e] += (real)rate;
    double z = (double)s->z[e];
    double q = (double)p->v->count[p->event + e] / (z > (double)REAL_TINY ? z : (double)REAL_TINY);
    s->q[e] = (real)q;
    *caused += q * rate;
    for (uint32_t b = 0; b < n; b++) {
        double left = s->ctx[b] - (b == c ? a : 0);
        if (left > 0)
            count[(uint64_t)b * n + c] += phi_w * q * (double)f->pi_tab[(uint64_t)b * n + c] * left;
    }
}

static void items_forward(struct part *p)
{
    struct fit *f = p->f;
    struct scratch *s = p->s;
    const struct view *v = p->v;
    const uint32_t *o = v->user_order + p->event;
    bool factors = f->terms & RT_ITEMS;
    uint32_t n_ctx = factors ? f->k : f->n_cluster;
    double w = v->item_kernel.w, phi_w = (double)f->phi_tab[p->u] * w, caused = 0, last = 0;
    memset(s->ctx, 0, n_ctx * sizeof *s->ctx);
    memset(s->trail, 0, p->n_rec * sizeof *s->trail);
    for (uint64_t i = 0, j; i < p->n_event; i = j) {
        double t = v->t[o[i]];
        j = tied(p, i);
        if (i)
            decay_all(s->ctx, n_ctx, exp(-w * (t - last)));
        last = t;
        for (uint64_t h = i; h < j; h++)
            (factors ? items_target : clusters_target)(p, o[h] - p->event, phi_w, &caused);
        for (uint64_t h = i; h < j; h++) {
            uint64_t e = o[h] - p->event, r = s->event_rec[e], first = first_rec(p, r);
            uint32_t item = v->rec_item[p->rec + r];
            double c = (double)v->raw[o[h]];
            const real *b = f->beta_tab + (uint64_t)item * f->stride;
            decayed(&s->trail[first], &s->trail_t[first], t, w);
            s->trail[first] += c;
            for (uint32_t k = 0; factors && k < f->k; k++)
                s->ctx[k] += c * (double)b[k];
            if (!factors)
                s->ctx[f->cluster[item]] += c;
        }
    }
    f->phi_count[p->u] = caused;
}

/* What each event caused as a source, through the item factors. */
static void items_backward(struct part *p)
{
    struct fit *f = p->f;
    struct scratch *s = p->s;
    const struct view *v = p->v;
    const uint32_t *o = v->user_order + p->event;
    double w = v->item_kernel.w, phi_w = (double)f->phi_tab[p->u] * w, last = 0;
    memset(s->ctx_back, 0, f->k * sizeof *s->ctx_back);
    memset(s->back, 0, p->n_rec * sizeof *s->back);
    for (uint64_t end = p->n_event, i; end > 0; end = i) {
        double t = v->t[o[end - 1]];
        for (i = end - 1; i > 0 && v->t[o[i - 1]] == t;)
            i--;
        if (end < p->n_event)
            decay_all(s->ctx_back, f->k, exp(-w * (last - t)));
        last = t;
        for (uint64_t h = i; h < end; h++) {
            uint64_t r = s->event_rec[o[h] - p->event], first = first_rec(p, r);
            uint32_t item = v->rec_item[p->rec + r];
            const real *b = f->beta_tab + (uint64_t)item * f->stride;
            real *acc = f->item_acc + ((uint64_t)p->item_block * f->np + item) * f->stride;
            double own = decayed(&s->back[first], &s->back_t[first], t, w);
            double c = phi_w * (double)v->raw[o[h]];
            for (uint32_t k = 0; k < f->k; k++)
                acc[k] += (real)(c * (s->ctx_back[k] - own * (double)b[k]));
        }
        for (uint64_t h = i; h < end; h++) {
            uint64_t e = o[h] - p->event, r = s->event_rec[e], first = first_rec(p, r);
            const real *b = f->beta_tab + (uint64_t)v->rec_item[p->rec + r] * f->stride;
            decayed(&s->back[first], &s->back_t[first], t, w);
            s->back[first] += (double)s->q[e];
            for (uint32_t k = 0; k < f->k; k++)
                s->ctx_back[k] += (double)s->q[e] * (double)b[k];
        }
    }
}

/* ---- counts ---- */

static void divide(struct part *p)
{
    for (uint64_t e = 0; e < p->n_event; e++) {
        real z = p->s->z[e] > REAL_TINY ? p->s->z[e] : REAL_TINY;
        p->s->q[e] = p->v->count[p->event + e] / z;
    }
}

static void sum_up(struct part *p, double *ln)
{
    struct fit *f = p->f;
    const struct view *v = p->v;
    double own[RSCALES_MAX] = { 0 };
    for (uint64_t r = 0; r < p->n_rec; r++)
        f->rec_r[p->rec + r] = 0;
    for (uint64_t e = 0; e < p->n_event; e++) {
        f->rec_r[p->rec + p->s->event_rec[e]] += p->s->q[e];
        for (uint32_t m = 0; v->x && m < f->n_scale; m++)
            own[m] += (double)(p->s->q[e] * v->x[(p->event + e) * f->x_stride + m]);
        double c = (double)v->count[p->event + e], z = (double)p->s->z[e];
        if (f->want_ln && c > 0)
            *ln += c * log(z > (double)REAL_TINY ? z : (double)REAL_TINY);
    }
    for (uint32_t m = 0; v->x && m < f->n_scale; m++)
        f->tau_count[(uint64_t)p->u * f->n_scale + m] =
            own[m] * (double)f->tau_tab[(uint64_t)p->u * f->x_stride + m];
    if (v->rec_slot)
        f->level->slot_axpys(p->s->acc, f->beta_tab, f->stride, v->rec_item + p->rec,
                             v->rec_slot + p->rec, f->rec_r + p->rec, p->n_rec);
    else
        f->level->axpys(p->s->acc, f->beta_tab, f->stride, v->rec_item + p->rec, f->rec_r + p->rec,
                        p->n_rec);
}

void sweep_user_more(struct fit *f, uint32_t u, struct scratch *s, unsigned item_block, double *ln)
{
    const struct view *v = f->v;
    struct part p = { .f = f, .v = v, .u = u, .s = s, .item_block = item_block };
    p.rec = v->user_rec[u];
    p.n_rec = v->user_rec[u + 1] - p.rec;
    p.event = v->rec_event[p.rec];
    p.n_event = v->rec_event[v->user_rec[u + 1]] - p.event;
    memset(s->acc, 0, (size_t)f->n_feat * f->stride * sizeof *s->acc);
    base_and_own(&p);
    if (f->terms & RT_SOCIAL)
        friends(&p, true);
    if (f->terms & (RT_ITEMS | RT_CLUSTERS))
        items_forward(&p);
    else
        divide(&p);
    if (f->terms & RT_SOCIAL)
        friends(&p, false);
    if (f->terms & RT_ITEMS)
        items_backward(&p);
    sum_up(&p, ln);
}
