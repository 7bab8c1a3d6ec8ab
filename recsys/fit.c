/* recsys/fit.c - the loop of a fit: sweeps, measurements, when to stop. */
#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "recsys/fit_internal.h"
#include "recsys/heldout.h"
#include "recsys/return_time.h"

#include <stdlib.h>

enum { HOUR_S = 3600, DAY_S = 86400 };

struct fit_opts fit_defaults(unsigned terms)
{
    static const double scales[] = { HOUR_S, DAY_S, 7.0 * DAY_S, 60.0 * DAY_S };
    struct fit_opts o = { .terms = terms,
                          .k = 32,
                          .a_theta = 0.3,
                          .a_beta = 0.3,
                          .a_tau = 1,
                          .a_phi = 1,
                          .a_hyper = 0.3,
                          .b_hyper = 0.3,
                          .a_mu = 1,
                          .b_mu = 0.1,
                          .pooled = true,
                          .n_scale = 4,
                          .item_scale_s = DAY_S,
                          .zone = "UTC",
                          .lead_s = HOUR_S,
                          .iters = 150,
                          .kappa = 0.7,
                          .delay = 1,
                          .eval_every = 10,
                          .patience = 3,
                          .seed = 1,
                          .level = -1 };
    for (uint32_t m = 0; m < o.n_scale; m++)
        o.scale[m] = (struct rkernel){ .w = 1 / scales[m], .order = 1 };
    return o;
}

void fit_best(struct fit_opts *o)
{
    static const struct {
        double hours;
        uint32_t order, last_only;
    } k[] = { { 1 / 3.0, 2, 1 }, { 1, 2, 1 },   { 6, 2, 1 },   { 24, 2, 1 },
              { 72, 2, 1 },      { 168, 2, 1 }, { 720, 1, 1 }, { 24, 1, 0 },
              { 168, 1, 0 },     { 720, 1, 0 }, { 8760, 1, 0 } };
    o->measure = MEASURE_ACTIVITY;
    o->n_scale = sizeof k / sizeof k[0];
    for (uint32_t m = 0; m < o->n_scale; m++)
        o->scale[m] = (struct rkernel){ 1 / (k[m].hours * HOUR_S), k[m].order, k[m].last_only };
}

static bool within(double v, double min, double max)
{
    return v >= min && v <= max; /* false for NaN */
}

enum status fit_check(const struct fit_opts *o, struct err *err)
{
    const struct {
        const char *name;
        double v, min, max;
    } real_opts[] = {
        { "a-theta", o->a_theta, 0.05, 1e3 },
        { "a-beta", o->a_beta, 0.05, 1e3 },
        { "a-tau", o->a_tau, 0.05, 1e3 },
        { "a-phi", o->a_phi, 0.05, 1e3 },
        { "a-hyper", o->a_hyper, 0.05, 1e3 },
        { "b-hyper", o->b_hyper, 1e-6, 1e6 },
        { "a-mu", o->a_mu, 0.05, 1e3 },
        { "b-mu", o->b_mu, 1e-6, 1e6 },
        { "kappa", o->kappa, 0.5, 1 },
        { "delay", o->delay, 0, 1e6 },
        { "item-scale", o->item_scale_s, 1e-6, 1e12 },
    };
    if (o->k < 1 || o->k > FIT_K_MAX)
        return err_set(err, ST_RANGE, "k: 1 to %d factors", FIT_K_MAX);
    for (size_t i = 0; i < sizeof real_opts / sizeof real_opts[0]; i++)
        if (!within(real_opts[i].v, real_opts[i].min, real_opts[i].max))
            return err_set(err, ST_RANGE, "%s: %g to %g", real_opts[i].name, real_opts[i].min,
                           real_opts[i].max);
    if (o->n_scale > RSCALES_MAX || (o->terms & (RT_SELF | RT_SOCIAL) && !o->n_scale))
        return err_set(err, ST_RANGE, "scales: 1 to %d of them", RSCALES_MAX);
    for (uint32_t m = 0; m < o->n_scale; m++)
        if (!within(o->scale[m].w, 1e-12, 1e6) || o->scale[m].order < 1 || o->scale[m].order > 2)
            return err_set(err, ST_RANGE, "scales: a microsecond to 1e12 seconds");
    if (o->terms & RT_SOCIAL && !o->follows)
        return err_set(err, ST_ARG, "this model needs to know who follows whom: --follows FILE");
    if (o->terms & RT_CLUSTERS && !o->cluster)
        return err_set(err, ST_ARG, "this model needs the items' clusters: --cluster COLUMN");
    if (o->terms & RT_CALENDAR && o->terms & (RT_ITEMS | RT_CLUSTERS))
        return err_set(err, ST_ARG, "a calendar and item-to-item effects do not go together");
    if (o->terms & RT_ITEMS && o->terms & RT_CLUSTERS)
        return err_set(err, ST_ARG, "item factors or item clusters, not both");
    if (o->batch && (o->comm || o->terms & (RT_ITEMS | RT_CLUSTERS)))
        return err_set(err, ST_ARG, "batches of users: one process, no item-to-item effects");
    return ST_OK;
}

uint64_t rs_data_hash(const struct rs_events *ev)
{
    uint64_t sum = ev->n;
    for (uint64_t i = 0; i < ev->n; i++) {
        struct str u = ids_name(&ev->users, ev->user[i]), p = ids_name(&ev->items, ev->item[i]);
        uint64_t t;
        memcpy(&t, &ev->time[i], sizeof t);
        sum += rng_mix(rng_mix(hash_bytes(u.p, u.n)) * 3 + rng_mix(hash_bytes(p.p, p.n)) * 5 + t);
    }
    return sum;
}

/* ---- one sweep ---- */

static enum status reduce_items(struct fit *f, struct err *err)
{
#ifndef RECSYS_F64
    const struct fit_comm *c = f->o->comm;
    if (c)
        c->sum_f32(c->ctx, f->beta_shape, (uint64_t)f->np * f->n_feat * f->stride, err);
#else
    (void)f;
#endif
    return err->code;
}

static void tau_task(void *arg, size_t i, unsigned worker)
{
    struct fit *f = arg;
    uint32_t from = (uint32_t)i * BLOCK_ROWS, to = from + BLOCK_ROWS;
    (void)worker;
    mstep_tau(f, from, to < f->nu ? to : f->nu);
}

enum status fit_sweep(struct fit *f, struct err *err)
{
    sweep_users(f);
    sweep_items(f);
    if (reduce_items(f, err) != ST_OK)
        return err->code;
    if (f->n_scale) {
        pool_run(f->pool, (f->nu + BLOCK_ROWS - 1) / BLOCK_ROWS, tau_task, f);
        if (mstep_mu(f, err) != ST_OK)
            return err->code;
    }
    if (mstep_theta(f, err) != ST_OK)
        return err->code;
    mstep_beta(f);
    f->sweeps++;
    return mstep_items(f, err);
}

/* The bound of the parameters as they are, by the way of a sweep. */
enum status fit_sweep_bound(struct fit *f, double *elbo, struct err *err)
{
    double kl, comp;
    if (bound_parts(f, &kl, &comp, err) != ST_OK)
        return err->code;
    f->want_ln = true;
    fit_sweep(f, err);
    f->want_ln = false;
    double ln_z = f->ln_z;
    if (f->o->comm)
        f->o->comm->sum_f64(f->o->comm->ctx, &ln_z, 1, err);
    *elbo = ln_z - comp - kl;
    if (err->code == ST_OK && !isfinite(*elbo))
        return err_set(err, ST_DIVERGED, "sweep %llu: the bound is not finite",
                       (unsigned long long)f->sweeps);
    return err->code;
}

/* ---- what to tell ---- */

/* Expected causes, as shares of the events; the largest and the mean self-excitation. */
static enum status shares(struct fit *f, struct fit_progress *p, double *branching, struct err *err)
{
    double v[5] = { 0 }, top = 0;
    for (uint32_t u = 0; u < f->nu; u++) {
        double all = 0;
        for (uint32_t m = 0; f->tau_tab && m < f->n_scale; m++) {
            uint64_t i = (uint64_t)u * f->n_scale + m;
            v[0] += f->tau_count[i];
            all += f->scale_off[m] ? 0 : f->tau_shape[i] / f->tau_rate[i];
        }
        top = all > top ? all : top;
        v[3] += all;
        v[2] += f->phi_count ? f->phi_count[u] : 0;
    }
    for (uint64_t i = 0; f->edge_tab && i < f->v->n_edge * f->n_scale; i++)
        v[1] += f->edge_count[i];
    v[4] = f->v->weight;
    if (f->o->comm && f->o->comm->sum_f64(f->o->comm->ctx, v, 5, err) != ST_OK)
        return err->code;
    double n = v[4] > 0 ? v[4] : 1;
    p->self_share = v[0] / n;
    p->social_share = v[1] / n;
    p->items_share = v[2] / n;
    p->radius = top;
    *branching = v[3] / f->n_user_all;
    return ST_OK;
}

/* ---- the loop ---- */

struct loop {
    struct fit *f;
    const struct rs_events *ev;
    const struct fit_opts *o;
    const struct fit_watch *w;
    struct fit_result *res;
    struct heldout *held;
    struct fit_marks at;
    bool stopping;
};

/* All processes stop together: a signal may have reached some of them only. */
static bool stopped(struct loop *l)
{
    double n = l->w && l->w->stop && *l->w->stop;
    struct err err = ERR_INIT;
    if (l->o->comm)
        l->o->comm->sum_f64(l->o->comm->ctx, &n, 1, &err);
    l->stopping = l->stopping || n > 0;
    return l->stopping;
}

/* The model that did best on held-out events is the one that is kept. */
static enum status judge(struct loop *l, struct fit_progress *p, struct err *err)
{
    struct rmodel *m = NULL;
    if (!l->held)
        return ST_OK;
    if (fit_model(l->f, l->ev, 0, &m, err) != ST_OK)
        return err->code;
    p->heldout = l->o->measure == MEASURE_ACTIVITY && !(m->terms & (RT_ITEMS | RT_CLUSTERS))
                     ? heldout_choice(l->held, m)
                     : heldout_score(l->held, m);
    if (p->heldout > l->at.best) {
        l->at.best = p->heldout;
        l->at.worse = 0;
        rmodel_free(l->at.best_model);
        l->at.best_model = m;
        return ST_OK;
    }
    l->at.worse++;
    rmodel_free(m);
    return ST_OK;
}

static enum status measure(struct loop *l, struct fit_progress *p, struct err *err)
{
    struct fit_marks *at = &l->at;
    if (judge(l, p, err) != ST_OK || shares(l->f, p, &at->branching, err) != ST_OK)
        return err->code;
    bool flat =
        l->o->tol > 0 && isfinite(at->elbo) && p->elbo - at->elbo < l->o->tol * fabs(p->elbo);
    at->end = flat || (l->held && l->o->patience && at->worse >= l->o->patience);
    at->elbo = p->elbo;
    at->share[0] = p->self_share;
    at->share[1] = p->social_share;
    at->share[2] = p->items_share;
    at->radius = p->radius;
    return ST_OK;
}

static enum status checkpoint(struct loop *l, uint32_t done, bool last, struct err *err)
{
    struct rmodel *m = NULL;
    const struct fit_watch *w = l->w;
    if (!w || !w->checkpoint || !w->checkpoint_every || (done % w->checkpoint_every && !last))
        return ST_OK;
    if (fit_checkpoint(l->f, l->ev, &l->at, &m, err) == ST_OK)
        w->checkpoint(w->ctx, m, done, err);
    rmodel_free(m);
    return err->code;
}

static enum status run_loop(struct loop *l, struct err *err)
{
    uint32_t done = (uint32_t)l->f->sweeps;
    for (stopped(l); !l->stopping && !l->at.end && done < l->o->iters;) {
        struct fit_progress p = { .sweeps = l->o->iters,
                                  .elbo = (double)NAN,
                                  .heldout = (double)NAN,
                                  .n_scale = l->f->n_scale };
        uint64_t from = clock_ns();
        bool look =
            l->o->eval_every && ((done + 1) % l->o->eval_every == 0 || done + 1 == l->o->iters);
        if (l->o->batch ? fit_svi_pass(l->f, done, err) != ST_OK
            : look      ? fit_sweep_bound(l->f, &p.elbo, err) != ST_OK
                        : fit_sweep(l->f, err) != ST_OK)
            return err->code;
        p.sweep = ++done;
        p.sweep_s = clock_ms_since(from) / 1000;
        if (look && measure(l, &p, err) != ST_OK)
            return err->code;
        if (l->w && l->w->progress)
            l->w->progress(l->w->ctx, &p);
        if (l->o->learn_every && done % l->o->learn_every == 0 &&
            fit_scales_step(l->f, err) != ST_OK)
            return err->code;
        bool last = stopped(l) || l->at.end || done == l->o->iters;
        if (checkpoint(l, done, last, err) != ST_OK)
            return err->code;
        l->res->sweep_s = p.sweep_s;
    }
    l->res->sweeps = done;
    l->res->stopped = l->stopping;
    return ST_OK;
}

static struct fit_memory memory(const struct fit *f)
{
    const struct view *v = f->v;
    struct fit_memory m = { .record = view_record_bytes(v) + sizeof(real),
                            .event = view_event_bytes(v),
                            .row = 2 * sizeof(real) * f->n_feat * f->stride,
                            .trigger = v->n_trigger ? sizeof *v->trigger : 0 };
    /* view: records, start, end, exposure, window; fit: hyper-rate; tau: shape, rate, count, comp
     */
    m.user = 8 + 8 + 8 + 8 + 4 + 8;
    m.user += f->tau_tab ? f->n_scale * 32 + f->x_stride * sizeof(real) : f->n_scale * 8;
    m.all = m.record * v->n_rec + m.event * v->n_event + m.row * ((uint64_t)f->nu + f->np) +
            m.user * f->nu + 16 * (uint64_t)f->np + m.trigger * v->n_trigger;
    m.all += f->edge_tab ? v->n_edge * f->n_scale * (4 * 8 + sizeof(real)) : 0;
    m.all += f->item_acc ? (uint64_t)f->np * f->stride * (8 + ITEM_BLOCKS * sizeof(real)) : 0;
    return m;
}

static void sizes(const struct fit *f, struct fit_result *res)
{
    res->memory = memory(f);
    res->view_bytes = view_bytes(f->v);
    res->n_rec = f->v->n_rec;
    res->n_event = f->v->n_event;
    res->n_trigger = f->v->n_trigger;
    res->dropped = f->v->dropped;
}

/* What was measured, by this run or before it was resumed. */
static void told(struct loop *l)
{
    const struct fit_marks *at = &l->at;
    struct fit_result *r = l->res;
    r->early = at->end;
    r->elbo = at->elbo;
    r->heldout = l->held ? at->best : (double)NAN;
    r->self_share = at->share[0];
    r->social_share = at->share[1];
    r->items_share = at->share[2];
    r->radius = at->radius;
    r->mean_branching = at->branching;
}

static enum status run(struct loop *l, const struct calendar *zone, struct rmodel **ret,
                       struct err *err)
{
    if (fit_open(l->ev, l->o, zone, &l->f, err) != ST_OK || fit_start_values(l->f, err) != ST_OK)
        return err->code;
    if (l->o->warm && (l->o->resume ? fit_resume(l->f, l->ev, l->o->warm, &l->at, err)
                                    : fit_warm(l->f, l->ev, l->o->warm, err)) != ST_OK)
        return err->code;
    if (l->o->heldout && l->o->heldout->n &&
        heldout_open(l->ev, l->o->heldout, l->o->clock == CLOCK_USER, &l->held, err) != ST_OK)
        return err->code;
    struct fit_memory plan = memory(l->f);
    if (l->w && l->w->plan)
        l->w->plan(l->w->ctx, &plan, l->f->v->n_rec, l->f->v->n_event);
    pool_hot(l->f->pool, true);
    run_loop(l, err);
    pool_hot(l->f->pool, false);
    if (err->code != ST_OK)
        return err->code;
    sizes(l->f, l->res);
    told(l);
    struct rmodel *m = l->res->stopped ? NULL : l->at.best_model;
    if (m)
        l->at.best_model = NULL;
    else if (fit_model(l->f, l->ev, 0, &m, err) != ST_OK)
        return err->code;
    if (rclock_fit(m, l->ev, err) != ST_OK) {
        rmodel_free(m);
        return err->code;
    }
    *ret = m;
    return ST_OK;
}

enum status fit_run(const struct rs_events *ev, const struct fit_opts *o,
                    const struct fit_watch *watch, struct rmodel **ret, struct fit_result *res,
                    struct err *err)
{
    struct loop l = { .ev = ev,
                      .o = o,
                      .w = watch,
                      .res = res,
                      .at = { .best = -(double)INFINITY, .elbo = (double)NAN } };
    struct calendar zone = { .n = 0 };
    uint64_t from = clock_ns();
    *res = (struct fit_result){ .elbo = (double)NAN, .heldout = (double)NAN };
    if (fit_check(o, err) != ST_OK)
        return err->code;
    if (ev->n == 0 || !ev->sorted)
        return err_set(err, ST_ARG, "no events to fit");
    if (o->terms & RT_CALENDAR &&
        calendar_open(&zone, str_c(o->zone), ev->time[0], ev->time[ev->n - 1], err) != ST_OK)
        return err->code;
    run(&l, &zone, ret, err);
    rmodel_free(l.at.best_model);
    heldout_close(l.held);
    fit_close(l.f);
    res->seconds = clock_ms_since(from) / 1000;
    return err->code;
}
