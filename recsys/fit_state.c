/* recsys/fit_state.c - a checkpoint: a model and beside it one list of doubles with all that a fit
 * needs to go on with the same bits. One walk counts the list, fills it or takes it back, so the
 * three cannot disagree. In its order:
 *
 *   version, the settings that a search may have chosen, a hash of all that change results
 *   rates of the Gamma nodes: a model has means, and a rate made of a mean is off by a rounding
 *   where the loop is, and the float arrays of the model that was best on held-out events
 *
 * Shapes, tables exp(E ln .) and column sums are in the model as they are. Arrays by user are
 * gathered from all processes, so any number of them may go on. */
#include "engine/base/hash.h"
#include "recsys/fit_internal.h"
#include "recsys/model_fields.h"

enum { STATE_VERSION = 1 };
enum way { WAY_COUNT, WAY_PUT, WAY_TAKE };

struct walk {
    enum way way;
    double *list;
    uint64_t n, size; /* doubles so far, of the list */
    const struct fit_comm *comm;
    struct err *err;
};

/* ---- one entry of the list ---- */

/* Room for n doubles; NULL where there is nothing to copy, or after an error. */
static double *entry(struct walk *w, uint64_t n)
{
    uint64_t at = w->n;
    w->n += n;
    if (w->way == WAY_COUNT || w->err->code != ST_OK)
        return NULL;
    if (n > w->size || at > w->size - n) {
        err_set(w->err, ST_FORMAT, "damaged: the state of the fit is shorter than its sizes say");
        return NULL;
    }
    return w->list + at;
}

static void check(struct walk *w, const double *v, uint64_t n, enum rcheck how)
{
    for (uint64_t i = 0; i < n && how != CHECK_NONE; i++)
        if (!isfinite(v[i]) || (how == CHECK_POSITIVE && !(v[i] > 0))) {
            err_set(w->err, ST_FORMAT, "damaged: the state of the fit holds %g", v[i]);
            return;
        }
}

/* The same in every process. */
static void shared(struct walk *w, double *v, uint64_t n, enum rcheck how)
{
    double *at = v ? entry(w, n) : NULL;
    if (!at)
        return;
    memcpy(w->way == WAY_PUT ? at : v, w->way == WAY_PUT ? v : at, n * sizeof *v);
    if (w->way == WAY_TAKE)
        check(w, v, n, how);
}

/* `own` values of this process, from place `first` of `all`; NULL: the variant has none. */
static void by_rank(struct walk *w, double *v, uint64_t own, uint64_t first, uint64_t all)
{
    double *at = v ? entry(w, all) : NULL;
    if (!at)
        return;
    if (w->way == WAY_PUT)
        memcpy(at + first, v, own * sizeof *v);
    else
        memcpy(v, at + first, own * sizeof *v);
    if (w->way == WAY_TAKE)
        check(w, v, own, CHECK_POSITIVE);
    else if (w->comm)
        w->comm->sum_f64(w->comm->ctx, at, all, w->err);
}

static void count(struct walk *w, uint32_t *v, uint32_t max)
{
    double d = *v;
    shared(w, &d, 1, CHECK_FINITE);
    if (w->way != WAY_TAKE || w->err->code != ST_OK)
        return;
    if (!(d >= 0 && d <= max)) {
        err_set(w->err, ST_FORMAT, "damaged: the state of the fit counts %g", d);
        return;
    }
    *v = (uint32_t)d;
}

static void flag(struct walk *w, bool *v)
{
    uint32_t n = *v;
    count(w, &n, 1);
    *v = n != 0;
}

/* ---- settings ---- */

static void chosen(struct walk *w, struct fit_opts *o)
{
    uint32_t version = STATE_VERSION, measure = (uint32_t)o->measure;
    count(w, &version, UINT32_MAX);
    if (version != STATE_VERSION)
        err_set(w->err, ST_FORMAT, "a checkpoint of another version: fit without --resume");
    count(w, &measure, MEASURE_ACTIVITY);
    o->measure = (enum fit_measure)measure;
    count(w, &o->n_scale, RSCALES_MAX);
    for (uint32_t m = 0; m < RSCALES_MAX; m++) {
        shared(w, &o->scale[m].w, 1, CHECK_FINITE);
        count(w, &o->scale[m].order, 2);
        count(w, &o->scale[m].last_only, 1);
    }
    shared(w, &o->a_theta, 1, CHECK_POSITIVE);
    shared(w, &o->a_beta, 1, CHECK_POSITIVE);
    shared(w, &o->a_tau, 1, CHECK_POSITIVE);
}

/* Of what changes results: not how many sweeps, how many threads, when to look and when to stop. 52
 * bits, so that a double holds it. */
static double settings_hash(const struct fit *f, const struct fit_opts *o)
{
    const double v[] = { o->terms,       o->k,          o->a_theta,      o->a_beta,
                         o->a_tau,       o->a_phi,      o->a_hyper,      o->b_hyper,
                         o->a_mu,        o->b_mu,       o->pooled,       o->n_scale,
                         o->learn_every, o->prune,      o->item_scale_s, o->horizon_s,
                         o->start,       o->clock,      o->measure,      o->lead_s,
                         o->batch,       o->kappa,      o->delay,        (double)(o->seed >> 32),
                         f->np,          f->n_user_all, f->n_cluster,    (uint32_t)o->seed,
                         f->unit_s,      f->eta_shape,  f->xi_shape };
    uint64_t h = hash_chain(0, v, sizeof v);
    for (uint32_t m = 0; m < o->n_scale; m++) {
        const double k[] = { o->scale[m].w, o->scale[m].order, o->scale[m].last_only };
        h = hash_chain(h, k, sizeof k);
    }
    if (o->terms & RT_CALENDAR)
        h ^= hash_bytes(o->zone, strlen(o->zone));
    if (o->terms & RT_SOCIAL) {
        h = h * 3 + hash_bytes(o->follows->user, o->follows->n * sizeof *o->follows->user);
        h = h * 3 + hash_bytes(o->follows->source, o->follows->n * sizeof *o->follows->source);
    }
    if (f->cluster)
        h = h * 3 + hash_bytes(f->cluster, f->np * sizeof *f->cluster);
    return (double)(h >> 12);
}

static void settings(struct walk *w, const struct fit *f)
{
    struct fit_opts o = *f->o;
    chosen(w, &o);
    double now = settings_hash(f, f->o), then = now;
    shared(w, &then, 1, CHECK_FINITE);
    if (now != then && w->err->code == ST_OK)
        err_set(w->err, ST_ARG,
                "the fit was begun with other settings: give the same, or fit without --resume");
}

/* ---- nodes ---- */

static void nodes(struct walk *w, struct fit *f)
{
    uint64_t s = f->n_scale, nu = f->n_user_all, n2 = (uint64_t)f->n_cluster * f->n_cluster;
    by_rank(w, f->eta_rate, f->nu, f->user0, nu);
    by_rank(w, f->tau_rate, f->nu * s, f->user0 * s, nu * s);
    if (f->terms & RT_SOCIAL)
        by_rank(w, f->edge_rate, f->v->n_edge * s, fit_edge_start(f) * s, f->o->follows->n * s);
    by_rank(w, f->phi_rate, f->nu, f->user0, nu);
    by_rank(w, f->psi_rate, f->nu, f->user0, nu);
    shared(w, f->xi_rate, f->np, CHECK_POSITIVE);
    shared(w, f->mu_shape, f->n_mu, CHECK_POSITIVE);
    shared(w, f->mu_rate, f->n_mu, CHECK_POSITIVE);
    shared(w, f->sigma, f->np, CHECK_FINITE);
    shared(w, f->beta_mean, (uint64_t)f->np * f->stride, CHECK_FINITE);
    shared(w, f->pi_shape, n2, CHECK_POSITIVE);
    shared(w, f->pi_rate, n2, CHECK_POSITIVE);
    shared(w, f->rho_rate, f->n_cluster, CHECK_POSITIVE);
    for (uint32_t m = 0; m < f->n_scale; m++)
        flag(w, &f->scale_off[m]);
    for (uint64_t i = 0; w->way == WAY_TAKE && f->pi_tab && i < n2; i++)
        f->pi_tab[i] = (real)(exp_digamma(f->pi_shape[i]) / f->pi_rate[i]);
}

/* ---- the loop ---- */

static void check_floats(struct walk *w, const struct rfield *field, const void *p)
{
    for (uint64_t i = 0; i < field->n; i++) {
        double v = field->size == 4 ? (double)((const float *)p)[i] : ((const double *)p)[i];
        check(w, &v, 1, field->check);
    }
}

/* The arrays that a fit computes; the others follow from the data and are there. */
static void arrays(struct walk *w, struct rmodel *m)
{
    struct rfield field[RFIELDS_MAX];
    unsigned n = rmodel_fields(m, field);
    for (unsigned i = 0; i < n; i++) {
        uint64_t bytes = field[i].n * field[i].size;
        void *p;
        memcpy(&p, field[i].at, sizeof p);
        if (field[i].type != 'f' || field[i].check == CHECK_NONE || !bytes)
            continue;
        double *at = entry(w, (bytes + sizeof *at - 1) / sizeof *at);
        if (!at)
            continue;
        memcpy(w->way == WAY_PUT ? (void *)at : p, w->way == WAY_PUT ? p : (void *)at, bytes);
        if (w->way == WAY_TAKE)
            check_floats(w, &field[i], p);
    }
}

static void best_model(struct walk *w, struct fit *f, const struct rs_events *ev,
                       struct rmodel **best)
{
    bool any = *best;
    flag(w, &any);
    if (!any || w->err->code != ST_OK || (!*best && fit_model(f, ev, 0, best, w->err) != ST_OK))
        return;
    uint32_t sweeps = (uint32_t)(*best)->sweeps;
    count(w, &sweeps, UINT32_MAX);
    (*best)->sweeps = sweeps;
    for (uint32_t m = 0; m < f->n_scale; m++)
        shared(w, &(*best)->scale[m].w, 1, CHECK_POSITIVE);
    arrays(w, *best);
}

static void marks(struct walk *w, struct fit_marks *k)
{
    shared(w, &k->best, 1, CHECK_NONE); /* -inf and NaN where nothing was measured */
    shared(w, &k->elbo, 1, CHECK_NONE);
    count(w, &k->worse, UINT32_MAX);
    flag(w, &k->end);
    shared(w, k->share, sizeof k->share / sizeof k->share[0], CHECK_FINITE);
    shared(w, &k->radius, 1, CHECK_FINITE);
    shared(w, &k->branching, 1, CHECK_FINITE);
}

static void walk_all(struct walk *w, struct fit *f, const struct rs_events *ev, struct fit_marks *k)
{
    settings(w, f);
    nodes(w, f);
    marks(w, k);
    best_model(w, f, ev, &k->best_model);
}

/* ---- both directions ---- */

enum status fit_checkpoint(struct fit *f, const struct rs_events *ev, struct fit_marks *k,
                           struct rmodel **ret, struct err *err)
{
    struct walk size = { .way = WAY_COUNT, .err = err };
    struct rmodel *m;
    walk_all(&size, f, ev, k);
    if (fit_model(f, ev, size.n, &m, err) != ST_OK)
        return err->code;
    struct walk put = { WAY_PUT, (double *)m->state, 0, size.n, f->o->comm, err };
    walk_all(&put, f, ev, k);
    if (err->code == ST_OK)
        *ret = m;
    else
        rmodel_free(m);
    return err->code;
}

static bool same_names(const struct ids *a, const struct ids *b)
{
    bool same = a->n == b->n;
    for (uint32_t i = 0; same && i < a->n; i++)
        same = str_eq(ids_name(a, i), ids_name(b, i));
    return same;
}

/* What the model has exactly. */
static void take_model(struct fit *f, const struct rmodel *m)
{
    uint64_t row = (uint64_t)f->n_feat * f->stride, s = f->n_scale;
    uint64_t u0 = f->user0, e0 = f->terms & RT_SOCIAL ? fit_edge_start(f) * s : 0;
    for (uint64_t i = 0; i < f->nu * row; i++) {
        f->theta_tab[i] = (real)m->theta_log[u0 * row + i];
        f->theta_shape[i] = (real)m->theta_shape[u0 * row + i];
    }
    for (uint64_t i = 0; i < f->np * row; i++) {
        f->beta_tab[i] = (real)m->beta_log[i];
        f->beta_shape[i] = (real)m->beta_shape[i];
    }
    memcpy(f->s_theta, m->theta_sum, row * sizeof *f->s_theta);
    memcpy(f->s_beta, m->beta_sum, row * sizeof *f->s_beta);
    for (uint64_t i = 0; f->tau_tab && i < f->nu * s; i++) {
        f->tau_shape[i] = m->tau_shape[u0 * s + i];
        f->tau_tab[i / s * f->x_stride + i % s] = (real)m->tau_log[u0 * s + i];
    }
    for (uint64_t i = 0; f->edge_tab && i < f->v->n_edge * s; i++) {
        f->edge_shape[i] = m->edge_shape[e0 + i];
        f->edge_tab[i] = (real)m->edge_tau_log[e0 + i];
    }
    for (uint32_t u = 0; f->phi_tab && u < f->nu; u++) {
        f->phi_shape[u] = m->phi_shape[u0 + u];
        f->phi_tab[u] = (real)m->phi_log[u0 + u];
    }
    f->sweeps = m->sweeps;
}

/* Learned scales: the view has those that the settings name. */
static void take_scales(struct fit *f, const struct rmodel *m)
{
    bool moved = false;
    for (uint32_t i = 0; i < f->n_scale; i++) {
        moved = moved || f->scale[i].w != m->scale[i].w;
        f->scale[i].w = m->scale[i].w;
    }
    if (moved && f->o->learn_every)
        view_rescale(f->v, f->scale);
}

enum status fit_resume(struct fit *f, const struct rs_events *ev, const struct rmodel *m,
                       struct fit_marks *k, struct err *err)
{
    if (!m->n_state)
        return err_set(err, ST_ARG, "it is a model and no checkpoint: --warm starts from it");
    if (!same_names(&m->users, &ev->users) || !same_names(&m->items, &ev->items))
        return err_set(err, ST_ARG,
                       "the events are in another order than when the fit was begun: give them as "
                       "they were, or fit without --resume");
    struct walk take = { WAY_TAKE, (double *)m->state, 0, m->n_state, NULL, err };
    settings(&take, f);
    if (err->code != ST_OK)
        return err->code;
    if (m->terms != f->terms || m->k != f->k || m->n_scale != f->n_scale ||
        (f->terms & RT_SOCIAL && m->n_edge != f->o->follows->n))
        return err_set(err, ST_FORMAT, "damaged: its sizes are not those of its fit");
    take_model(f, m);
    take_scales(f, m);
    nodes(&take, f);
    marks(&take, k);
    best_model(&take, f, ev, &k->best_model);
    if (err->code == ST_OK && take.n != take.size)
        err_set(err, ST_FORMAT, "damaged: the state of the fit is longer than its sizes say");
    return err->code;
}

enum status fit_chosen(const struct rmodel *checkpoint, struct fit_opts *o, struct err *err)
{
    struct walk take = { WAY_TAKE, (double *)checkpoint->state, 0, checkpoint->n_state, NULL, err };
    struct fit_opts mine = *o;
    chosen(&take, &mine);
    if (err->code == ST_OK)
        *o = mine;
    return err->code;
}
