/* recsys/clocks.c - the user's rate over time and when the next event comes.
 *
 * Everything that past events add to the total rate has the form sum of (a0 + dt a1) e^(-w dt),
 * with one (a0, a1) per kernel and kind, however many events and items there are: curves and
 * quantiles cost a few exponentials a point (reference/rpf.md 1.10). */
#include "recsys/query_parts.h"
#include "recsys/return_time.h"

#include <stdlib.h>

const double query_quantiles[QUERY_QUANTILES] = {
    0.05, 0.1, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99
};

enum kind { KIND_SELF, KIND_SOCIAL, KIND_CROSS, KINDS };

/* What one event adds to the total rate: kernels times weights. */
struct pulse {
    double t; /* seconds */
    enum kind kind;
    double c[SERVED_KERNELS];
    double c1[SERVED_KERNELS]; /* to the sums of dt e^(-w dt): where an event replaces an earlier */
};

struct pulses {
    struct pulse *at;
    size_t n, cap;
};

/* Sums of pulses before a time. */
struct sums {
    double t;
    double a0[KINDS][SERVED_KERNELS], a1[KINDS][SERVED_KERNELS];
};

struct clocks {
    struct served *l;
    struct gen *g;
    struct face f;
    struct pulses p;
    const double *beta_sum; /* the item alone, or all */
    uint32_t item;          /* live number; IDS_NONE: all */
};

static bool put_pulse(struct pulses *p, const struct pulse *x)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        struct pulse *at = realloc(p->at, cap * sizeof *at);
        if (!at)
            return false;
        p->at = at;
        p->cap = cap;
    }
    p->at[p->n++] = *x;
    return true;
}

/* Own events up to `end`, copied. */
static enum status events_of(struct served *l, uint32_t user, int64_t end,
                             struct served_event **ret, uint32_t *n, struct err *err)
{
    *ret = NULL;
    *n = 0;
    pthread_mutex_t *lock = served_lock(l, user);
    const struct served_user *u = served_user(l, user);
    uint32_t k = u ? u->n : 0;
    while (k && u->event[k - 1].t > end)
        k--;
    *ret = k ? malloc(k * sizeof **ret) : NULL;
    if (*ret) {
        memcpy(*ret, u->event, k * sizeof **ret);
        *n = k;
    }
    pthread_mutex_unlock(lock);
    return k && !*ret ? err_set(err, ST_NOMEM, "events") : ST_OK;
}

/* What an event on model item q adds, over the other items, per unit of phi. */
static double cross_pull(const struct clocks *c, uint32_t q)
{
    const struct rmodel *m = c->g->m;
    uint32_t p = c->item == IDS_NONE ? IDS_NONE : gen_item_of(c->g, c->item);
    double sum = 0;
    if (q == IDS_NONE || (c->item != IDS_NONE && (p == IDS_NONE || p == q)))
        return 0;
    const float *b = rmodel_beta(m, q, 0);
    if (m->terms & RT_ITEMS)
        for (uint32_t k = 0; k < m->k; k++)
            sum += (double)b[k] * (p != IDS_NONE ? (double)rmodel_beta(m, p, 0)[k]
                                                 : m->beta_sum[k] - (double)b[k]);
    if (m->terms & RT_CLUSTERS) {
        const float *pi = m->pi + (size_t)m->cluster[q] * m->n_cluster;
        if (p != IDS_NONE)
            sum += (double)pi[m->cluster[p]];
        for (uint32_t i = 0; p == IDS_NONE && i < m->n_item; i++)
            sum += i == q ? 0 : (double)pi[m->cluster[i]];
    }
    return sum;
}

/* Units since the user's event before on the same item, -1: none. */
static double gap_before(const struct clocks *c, const struct served_event *e, uint32_t i)
{
    for (uint32_t j = i; j-- > 0;)
        if (e[j].item == e[i].item)
            return (double)(e[i].t - e[j].t) / 1e3 / c->g->m->unit_s;
    return -1;
}

static struct pulse own_pulse(const struct clocks *c, const struct served_event *e, uint32_t i)
{
    const struct rmodel *m = c->g->m;
    struct pulse x = { .t = (double)e[i].t / 1e3, .kind = KIND_SELF };
    double gap = -2;
    for (uint32_t s = 0; s < m->n_scale; s++) {
        double tau = (double)c->f.tau[s];
        if (!m->scale[s].last_only) {
            x.c[s] = tau * (double)e[i].weight;
            continue;
        }
        gap = gap < -1 ? gap_before(c, e, i) : gap;
        double left = gap >= 0 ? exp(-m->scale[s].w * gap) : 0;
        x.c[s] = tau * (1 - left);
        x.c1[s] = gap >= 0 ? -tau * gap * left : 0;
    }
    return x;
}

static enum status add_own(struct clocks *c, int64_t end, struct err *err)
{
    struct served_event *e;
    uint32_t n;
    if (events_of(c->l, c->f.user, end, &e, &n, err) != ST_OK)
        return err->code;
    for (uint32_t i = 0; i < n && err->code == ST_OK; i++) {
        struct pulse x = own_pulse(c, e, i);
        bool ok = (c->item != IDS_NONE && e[i].item != c->item) || put_pulse(&c->p, &x);
        double pull = c->f.phi > 0 ? cross_pull(c, gen_item_of(c->g, e[i].item)) : 0;
        if (pull > 0) {
            x = (struct pulse){ .t = x.t, .kind = KIND_CROSS };
            x.c[c->g->item_kernel] = c->f.phi * pull * (double)e[i].weight;
            ok = ok && put_pulse(&c->p, &x);
        }
        if (!ok)
            err_set(err, ST_NOMEM, "events");
    }
    free(e);
    return err->code;
}

static enum status add_friend(struct clocks *c, uint64_t edge, int64_t end, struct err *err)
{
    const struct rmodel *m = c->g->m;
    struct served_event *e;
    uint32_t n;
    if (events_of(c->l, c->g->user_back[m->edge_from[edge]], end, &e, &n, err) != ST_OK)
        return err->code;
    for (uint32_t i = 0; i < n && err->code == ST_OK; i++) {
        struct pulse x = { .t = (double)e[i].t / 1e3, .kind = KIND_SOCIAL };
        for (uint32_t s = 0; s < m->n_scale; s++)
            x.c[s] = (double)m->edge_tau[edge * m->n_scale + s] * (double)e[i].weight;
        if ((c->item == IDS_NONE || e[i].item == c->item) && !put_pulse(&c->p, &x))
            err_set(err, ST_NOMEM, "events");
    }
    free(e);
    return err->code;
}

static int by_time(const void *a, const void *b)
{
    const struct pulse *x = a, *y = b;
    return (x->t > y->t) - (x->t < y->t);
}

/* All that happened to the user until `end`. */
static enum status gather(struct clocks *c, int64_t end, struct err *err)
{
    const struct rmodel *m = c->g->m;
    uint32_t mu = c->f.model_user;
    if (c->f.user != IDS_NONE)
        add_own(c, end, err);
    for (uint64_t e = mu != IDS_NONE && (m->terms & RT_SOCIAL) ? m->edge_ptr[mu] : 0;
         mu != IDS_NONE && (m->terms & RT_SOCIAL) && e < m->edge_ptr[mu + 1] && err->code == ST_OK;
         e++)
        if (m->edge_from[e] != mu || !(m->terms & RT_SELF))
            add_friend(c, e, end, err);
    if (err->code == ST_OK && c->p.n)
        qsort(c->p.at, c->p.n, sizeof *c->p.at, by_time);
    return err->code;
}

/* ---- sums over time ---- */

static void sums_decay(const struct gen *g, struct sums *s, double t)
{
    double dt = (t - s->t) / g->m->unit_s;
    if (!(dt > 0))
        return;
    for (uint32_t i = 0; i < g->n_kernel; i++) {
        double d = exp(-gen_kernel(g, i).w * dt);
        for (int k = 0; k < KINDS; k++) {
            s->a1[k][i] = d * (s->a1[k][i] + dt * s->a0[k][i]);
            s->a0[k][i] *= d;
        }
    }
    s->t = t;
}

static double sums_rate(const struct gen *g, const struct sums *s, enum kind k)
{
    double r = 0;
    for (uint32_t i = 0; i < g->n_kernel; i++) {
        struct rkernel q = gen_kernel(g, i);
        r += q.order == 2 ? q.w * q.w * s->a1[k][i] : q.w * s->a0[k][i];
    }
    return r;
}

/* Adds pulses from *at up to time t, and decays to it. */
static void sums_to(const struct clocks *c, struct sums *s, size_t *at, double t)
{
    for (; *at < c->p.n && c->p.at[*at].t <= t; (*at)++) {
        const struct pulse *x = &c->p.at[*at];
        sums_decay(c->g, s, x->t);
        for (uint32_t i = 0; i < c->g->n_kernel; i++) {
            s->a0[x->kind][i] += x->c[i];
            s->a1[x->kind][i] += x->c1[i];
        }
    }
    sums_decay(c->g, s, t);
}

/* Integral of what the sums add, over x units from now. */
static double sums_integral(const struct gen *g, const struct sums *s, double x)
{
    double sum = 0;
    for (uint32_t i = 0; i < g->n_kernel; i++) {
        struct rkernel q = gen_kernel(g, i);
        double e = exp(-q.w * x), a0 = 0, a1 = 0;
        for (int k = 0; k < KINDS; k++) {
            a0 += s->a0[k][i];
            a1 += s->a1[k][i];
        }
        sum += q.order == 2 ? (a0 + q.w * a1) * (1 - e) - q.w * x * e * a0 : a0 * (1 - e);
    }
    return sum;
}

/* Base rate per unit at t, over all items or one. */
static double base_at(const struct clocks *c, const float *theta_rows, double t)
{
    const struct rmodel *m = c->g->m;
    uint32_t at[2];
    unsigned n = rmodel_features(m, t, at);
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++)
            for (uint32_t k = 0; k < m->k; k++)
                sum += (double)theta_rows[(size_t)at[i] * m->stride + k] *
                       c->beta_sum[(size_t)at[j] * m->stride + k];
    return sum;
}

/* ---- the user's rows of theta, and sums of items ---- */

static float *theta_rows(struct clocks *c, struct err *err)
{
    const struct rmodel *m = c->g->m;
    size_t n = (size_t)m->n_feat * m->stride;
    float *out = malloc(n * sizeof *out);
    if (!out) {
        err_set(err, ST_NOMEM, "query");
        return NULL;
    }
    const float *from =
        c->f.model_user != IDS_NONE ? rmodel_theta(m, c->f.model_user, 0) : c->g->mean_theta;
    if (c->f.user == IDS_NONE) {
        memcpy(out, from, n * sizeof *out);
        return out;
    }
    pthread_mutex_t *lock = served_lock(c->l, c->f.user);
    const struct gen_user *u = gen_user(c->g, c->f.user, false);
    memcpy(out, u && u->theta ? u->theta : from, n * sizeof *out);
    pthread_mutex_unlock(lock);
    return out;
}

static double *item_rows(const struct clocks *c, struct err *err)
{
    const struct rmodel *m = c->g->m;
    size_t n = (size_t)m->n_feat * m->stride;
    double *out = calloc(n, sizeof *out);
    uint32_t p = gen_item_of(c->g, c->item);
    if (!out)
        err_set(err, ST_NOMEM, "query");
    for (size_t i = 0; out && p != IDS_NONE && i < n; i++)
        out[i] = (double)rmodel_beta(m, p, 0)[i];
    return out;
}

/* ---- return time ---- */

struct walk {
    const struct clocks *c;
    const float *theta;
    struct sums s;
};

/* Base integral from s.t over x units: by local hours with a calendar. */
static double base_integral(const struct walk *w, double x)
{
    const struct rmodel *m = w->c->g->m;
    double sum = 0, end = w->s.t + x * m->unit_s;
    if (!(m->terms & RT_CALENDAR))
        return x * base_at(w->c, w->theta, w->s.t);
    for (double t = w->s.t; t < end;) {
        double step = calendar_to_next(&m->zone, t);
        step = step < end - t ? step : end - t;
        sum += step / m->unit_s * base_at(w->c, w->theta, t);
        t += step;
    }
    return sum;
}

static double hazard(const struct walk *w, double x)
{
    return base_integral(w, x) + sums_integral(w->c->g, &w->s, x);
}

/* Units until the integrated rate is y; the rate is not negative, so halving finds it. */
static double solve(const struct walk *w, double y)
{
    double lo = 0, hi = 1;
    const double most = 3.2e9 / w->c->g->m->unit_s; /* a century */
    while (hi < most && hazard(w, hi) < y)
        hi *= 2;
    if (hazard(w, hi < most ? hi : most) < y)
        return (double)INFINITY;
    for (int i = 0; i < 60 && hi - lo > 1e-9 * hi; i++) {
        double mid = (lo + hi) / 2;
        *(hazard(w, mid) < y ? &lo : &hi) = mid;
    }
    return (lo + hi) / 2;
}

static double rate_at(const struct walk *w, double x)
{
    struct sums s = w->s;
    double t = w->s.t + x * w->c->g->m->unit_s, r = base_at(w->c, w->theta, t);
    sums_decay(w->c->g, &s, t);
    for (int k = 0; k < KINDS; k++)
        r += sums_rate(w->c->g, &s, (enum kind)k);
    return r;
}

static void fill_return(const struct walk *w, uint32_t points, struct query_return *ret)
{
    double hours = w->c->g->m->unit_s / 3600, end = 0;
    *ret = (struct query_return){ 0 };
    for (int i = 0; i < QUERY_QUANTILES; i++) {
        ret->hours[i] = solve(w, -log1p(-query_quantiles[i])) * hours;
        if (isfinite(ret->hours[i]) && query_quantiles[i] <= 0.951)
            end = fmax(end, ret->hours[i]);
    }
    ret->base_rate = base_at(w->c, w->theta, w->s.t) / hours;
    ret->rate = rate_at(w, 0) / hours;
    ret->n_point = end > 0 ? points : 0;
    for (uint32_t i = 0; i < ret->n_point; i++) {
        double h = end * i / (points > 1 ? points - 1 : 1);
        ret->point[i] = h;
        ret->density[i] = rate_at(w, h / hours) / hours * exp(-hazard(w, h / hours));
    }
}

/* ---- the user's clock ---- */

struct row {
    float *count; /* [n_clock] */
    uint32_t last;
    double silent_s;
};

/* What the fit counted, and the gaps since. false: there is no clock, or no event yet. */
static bool clock_row(const struct clocks *c, int64_t at, struct row *ret, struct err *err)
{
    const struct rmodel *m = c->g->m;
    uint32_t mu = c->f.model_user, n;
    struct served_event *e;
    if (!m->n_clock || c->f.user == IDS_NONE ||
        events_of(c->l, c->f.user, at, &e, &n, err) != ST_OK)
        return false;
    ret->count = n ? calloc(m->n_clock, sizeof *ret->count) : NULL;
    ret->last = mu != IDS_NONE ? m->clock_last[mu] : m->n_clock;
    if (ret->count && mu != IDS_NONE)
        memcpy(ret->count, m->clock_count + (size_t)mu * m->n_clock,
               m->n_clock * sizeof *ret->count);
    double before = mu != IDS_NONE ? m->last_s[mu] : n ? (double)e[0].t / 1e3 : 0;
    for (uint32_t i = 0; ret->count && i < n; i++) {
        double t = (double)e[i].t / 1e3;
        if (t <= before)
            continue;
        rclock_gap(m, ret->count, &ret->last, t - before);
        before = t;
    }
    ret->silent_s = (double)at / 1e3 - before;
    bool ok = ret->count && ret->silent_s >= 0; /* the past of a fitted user: items alone tell */
    free(e);
    if (!ok)
        free(ret->count);
    return ok;
}

/* The density is the slope of the quantiles. */
static void clock_density(const struct rmodel *m, const struct row *r, uint32_t points,
                          struct query_return *ret)
{
    double before = 0, q0 = 0;
    ret->n_point = 0;
    for (uint32_t i = 1; i <= points; i++) {
        double q = 0.95 * i / points;
        double h = return_by_row(m, r->count, r->last, r->silent_s, q) / 3600;
        if (!isfinite(h))
            return;
        if (!(h > before + 1e-9))
            continue;
        ret->point[ret->n_point] = (before + h) / 2;
        ret->density[ret->n_point++] = (q - q0) / (h - before);
        before = h;
        q0 = q;
    }
}

/* The honest choice between the two ways was made by the fit; both are told. */
static void ask_clock(const struct clocks *c, int64_t at, uint32_t points, struct query_return *ret,
                      struct err *err)
{
    const struct rmodel *m = c->g->m;
    struct row r;
    if (!clock_row(c, at, &r, err))
        return;
    ret->has_other = true;
    ret->by_clock = m->clock_wins || m->activity;
    for (int i = 0; i < QUERY_QUANTILES; i++) {
        double h = return_by_row(m, r.count, r.last, r.silent_s, query_quantiles[i]) / 3600;
        ret->other[i] = ret->by_clock ? ret->hours[i] : h;
        ret->hours[i] = ret->by_clock ? h : ret->hours[i];
    }
    if (ret->by_clock)
        clock_density(m, &r, points < 60 ? points : 60, ret);
    free(r.count);
}

static void clocks_clear(struct clocks *c)
{
    face_clear(&c->f);
    free(c->p.at);
}

enum status query_return_time(struct served *l, struct gen *g, uint32_t user, int64_t at,
                              uint32_t points, struct query_return *ret, struct err *err)
{
    struct clocks c = { .l = l, .g = g, .item = IDS_NONE, .beta_sum = g->m->beta_sum };
    struct walk w = { .c = &c };
    size_t next = 0;
    points = points < QUERY_POINTS_MAX ? points : QUERY_POINTS_MAX;
    float *theta = NULL;
    if (face_get(l, g, user, at, &c.f, err) == ST_OK && gather(&c, at, err) == ST_OK &&
        (theta = theta_rows(&c, err))) {
        w.theta = theta;
        w.s.t = c.p.n ? c.p.at[0].t : (double)at / 1e3;
        sums_to(&c, &w.s, &next, (double)at / 1e3);
        fill_return(&w, points, ret);
        ask_clock(&c, at, points, ret, err);
    }
    free(theta);
    clocks_clear(&c);
    return err->code;
}

/* ---- curves ---- */

void query_curve_clear(struct query_curve *c)
{
    free(c->base);
    free(c->event);
    *c = (struct query_curve){ 0 };
}

static void fill_curve(const struct clocks *c, const float *theta, struct query_curve *r)
{
    struct sums s = { .t = c->p.n ? c->p.at[0].t : (double)r->from / 1e3 };
    double per_hour = rmodel_per_hour(c->g->m);
    size_t next = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        double t = (double)(r->from + (int64_t)i * r->step) / 1e3;
        sums_to(c, &s, &next, t);
        r->base[i] = base_at(c, theta, t) * per_hour;
        r->self[i] = s.t <= t ? sums_rate(c->g, &s, KIND_SELF) * per_hour : 0;
        r->social[i] = s.t <= t ? sums_rate(c->g, &s, KIND_SOCIAL) * per_hour : 0;
        r->cross[i] = s.t <= t ? sums_rate(c->g, &s, KIND_CROSS) * per_hour : 0;
    }
}

static enum status mark_events(const struct clocks *c, struct query_curve *r, struct err *err)
{
    struct served_event *e;
    uint32_t n, from = 0;
    int64_t end = r->from + (int64_t)(r->n - 1) * r->step;
    if (c->f.user == IDS_NONE || events_of(c->l, c->f.user, end, &e, &n, err) != ST_OK)
        return err->code;
    while (from < n && (e[from].t < r->from || n - from > QUERY_POINTS_MAX))
        from++;
    for (uint32_t i = from; i < n; i++)
        if (c->item == IDS_NONE || e[i].item == c->item)
            e[r->n_event++] = e[i];
    r->event = e;
    return ST_OK;
}

enum status query_intensity(struct served *l, struct gen *g, uint32_t user, uint32_t item,
                            struct query_curve *ret, struct err *err)
{
    uint32_t n = ret->n;
    struct clocks c = { .l = l, .g = g, .item = item, .beta_sum = g->m->beta_sum };
    int64_t end = ret->from + (int64_t)(n - 1) * ret->step;
    double *rows = NULL;
    float *theta = NULL;
    *ret = (struct query_curve){ .n = n, .from = ret->from, .step = ret->step };
    ret->base = calloc((size_t)n * 4, sizeof *ret->base);
    if (!ret->base)
        return err_set(err, ST_NOMEM, "query");
    ret->self = ret->base + n;
    ret->social = ret->self + n;
    ret->cross = ret->social + n;
    if (item != IDS_NONE)
        c.beta_sum = rows = item_rows(&c, err);
    if (err->code == ST_OK && face_get(l, g, user, end, &c.f, err) == ST_OK &&
        gather(&c, end, err) == ST_OK && (theta = theta_rows(&c, err))) {
        fill_curve(&c, theta, ret);
        mark_events(&c, ret, err);
    }
    free(theta);
    free(rows);
    clocks_clear(&c);
    if (err->code != ST_OK)
        query_curve_clear(ret);
    return err->code;
}
