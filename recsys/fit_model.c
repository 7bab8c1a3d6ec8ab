/* recsys/fit_model.c - a fit's state as a model, and back for warm starts; checkpoints:
 * fit_state.c. */
#include "recsys/fit_internal.h"
#include "recsys/return_time.h"

#include <stdlib.h>

static float mean_of(double shape, double tab)
{
    return tab > 0 ? (float)(shape * tab / exp_digamma(shape)) : 0;
}

static void put_rows(const struct fit *f, const real *shape, const real *tab, uint32_t n,
                     uint64_t row0, const float *mean, const float *log_, const float *shapes)
{
    uint64_t row = (uint64_t)f->n_feat * f->stride, off = row0 * row;
    for (uint64_t i = 0; i < n * row; i++) {
        if (i % f->stride >= f->k)
            continue;
        ((float *)mean)[off + i] = mean_of((double)shape[i], (double)tab[i]);
        ((float *)log_)[off + i] = (float)tab[i];
        ((float *)shapes)[off + i] = (float)shape[i];
    }
}

static struct rmodel sizes_of(const struct fit *f, uint64_t n_edge)
{
    const struct fit_opts *o = f->o;
    struct rmodel m = { .terms = f->terms,
                        .n_user = f->n_user_all,
                        .n_item = f->np,
                        .k = f->k,
                        .n_scale = f->n_scale,
                        .n_mu = f->n_scale ? f->n_mu : 0,
                        .n_edge = n_edge,
                        .n_cluster = f->n_cluster,
                        .n_clock = RCLOCK_LENGTHS,
                        .pooled = o->pooled,
                        .activity = o->measure == MEASURE_ACTIVITY,
                        .unit_s = f->unit_s,
                        .start_s = f->t0_s,
                        .item_kernel = f->v->item_kernel,
                        .a_theta = o->a_theta,
                        .a_beta = o->a_beta,
                        .a_tau = o->a_tau,
                        .a_phi = o->a_phi,
                        .a_hyper = o->a_hyper,
                        .b_hyper = o->b_hyper,
                        .a_mu = o->a_mu,
                        .b_mu = o->b_mu };
    memcpy(m.scale, f->scale, sizeof m.scale);
    return m;
}

static void put_own(const struct fit *f, const struct rmodel *m)
{
    for (uint64_t i = 0; f->tau_tab && i < (uint64_t)f->nu * f->n_scale; i++) {
        uint64_t at = (uint64_t)f->user0 * f->n_scale + i;
        bool off = f->scale_off[i % f->n_scale];
        ((float *)m->tau)[at] = off ? 0 : (float)(f->tau_shape[i] / f->tau_rate[i]);
        ((float *)m->tau_log)[at] =
            (float)f->tau_tab[i / f->n_scale * f->x_stride + i % f->n_scale];
        ((double *)m->tau_shape)[at] = f->tau_shape[i];
    }
    for (uint32_t u = 0; f->phi_tab && u < f->nu; u++) {
        ((float *)m->phi)[f->user0 + u] = (float)(f->phi_shape[u] / f->phi_rate[u]);
        ((float *)m->phi_log)[f->user0 + u] = (float)f->phi_tab[u];
        ((double *)m->phi_shape)[f->user0 + u] = f->phi_shape[u];
        ((double *)m->psi)[f->user0 + u] = (f->o->a_mu + f->o->a_phi) / f->psi_rate[u];
    }
}

static void put_small(const struct fit *f, const struct rmodel *m)
{
    for (uint32_t u = 0; u < f->nu; u++) {
        ((double *)m->eta)[f->user0 + u] = f->eta_shape / f->eta_rate[u];
        ((double *)m->exposure)[f->user0 + u] = f->v->exposure[u];
    }
    for (uint32_t p = 0; p < f->np; p++)
        ((double *)m->xi)[p] = f->xi_shape / f->xi_rate[p];
    memcpy((double *)m->beta_sum, f->s_beta, (size_t)f->n_feat * f->stride * sizeof(double));
    memcpy((double *)m->theta_sum, f->s_theta, (size_t)f->n_feat * f->stride * sizeof(double));
    for (uint32_t i = 0; i < m->n_mu; i++)
        ((double *)m->mu)[i] = mu_mean(f, i);
    for (uint32_t s = 0; m->tau_rate && s < f->n_scale; s++) {
        double sum = 0;
        for (uint32_t u = 0; u < (f->o->pooled ? 1 : f->n_user_all); u++)
            sum += mu_mean(f, mu_of(f, u, s, 0));
        ((double *)m->tau_rate)[s] = sum / (f->o->pooled ? 1 : f->n_user_all);
    }
    for (uint32_t p = 0; f->cluster && p < f->np; p++)
        ((uint32_t *)m->cluster)[p] = f->cluster[p];
    for (uint64_t i = 0; f->cluster && i < (uint64_t)f->n_cluster * f->n_cluster; i++)
        ((float *)m->pi)[i] = (float)(f->pi_shape[i] / f->pi_rate[i]);
}

uint64_t fit_edge_start(const struct fit *f)
{
    uint64_t n = 0;
    while (n < f->o->follows->n && f->o->follows->user[n] < f->user0)
        n++;
    return n;
}

/* Edges of all users; those of this process have numbers. */
static void put_edges(const struct fit *f, const struct rmodel *m)
{
    const struct follows *w = f->o->follows;
    uint64_t first = fit_edge_start(f);
    for (uint64_t e = 0; e < w->n; e++) {
        ((uint32_t *)m->edge_from)[e] = w->source[e];
        ((uint64_t *)m->edge_ptr)[w->user[e] + 1] = e + 1;
    }
    for (uint32_t u = 0; u < m->n_user; u++)
        if (m->edge_ptr[u + 1] < m->edge_ptr[u])
            ((uint64_t *)m->edge_ptr)[u + 1] = m->edge_ptr[u];
    for (uint64_t i = 0; i < f->v->n_edge * f->n_scale; i++) {
        uint64_t at = first * f->n_scale + i;
        bool off = edge_off(f, (uint32_t)(i % f->n_scale));
        ((float *)m->edge_tau)[at] = off ? 0 : (float)(f->edge_shape[i] / f->edge_rate[i]);
        ((float *)m->edge_tau_log)[at] = (float)f->edge_tab[i];
        ((double *)m->edge_shape)[at] = f->edge_shape[i];
    }
}

/* Every rank has filled its own users' places; the others' are zero. */
static enum status gather(const struct fit *f, struct rmodel *m, struct err *err)
{
    const struct fit_comm *c = f->o->comm;
    uint64_t row = (uint64_t)f->n_feat * f->stride, nu = m->n_user, s = f->n_scale;
    const struct {
        const void *p;
        uint64_t n;
        bool f64;
    } part[] = { { m->theta, nu * row, false },
                 { m->theta_log, nu * row, false },
                 { m->theta_shape, nu * row, false },
                 { m->eta, nu, true },
                 { m->exposure, nu, true },
                 { m->tau, nu * s, false },
                 { m->tau_log, nu * s, false },
                 { m->tau_shape, nu * s, true },
                 { m->phi, nu, false },
                 { m->phi_log, nu, false },
                 { m->phi_shape, nu, true },
                 { m->psi, nu, true },
                 { m->edge_tau, m->n_edge * s, false },
                 { m->edge_tau_log, m->n_edge * s, false },
                 { m->edge_shape, m->n_edge * s, true } };
    for (size_t i = 0; i < sizeof part / sizeof part[0] && err->code == ST_OK; i++) {
        if (!part[i].p || !part[i].n)
            continue;
        if (part[i].f64)
            c->sum_f64(c->ctx, (double *)part[i].p, part[i].n, err);
        else
            c->sum_f32(c->ctx, (float *)part[i].p, part[i].n, err);
    }
    return err->code;
}

static void put_times(const struct fit *f, const struct rs_events *ev, struct rmodel *m)
{
    double *first = (double *)m->user_start, *last = (double *)m->last_s;
    m->end_s = ev->time[ev->n - 1];
    m->n_event = ev->n;
    m->data_hash = rs_data_hash(ev);
    for (uint32_t u = 0; u < m->n_user; u++)
        first[u] = last[u] = m->start_s;
    for (uint64_t i = 0; i < ev->n; i++)
        last[ev->user[i]] = ev->time[i];
    for (uint64_t i = ev->n; i-- > 0 && f->o->start == START_FIRST;)
        first[ev->user[i]] = ev->time[i] - f->o->lead_s;
}

enum status fit_model(struct fit *f, const struct rs_events *ev, uint64_t n_state,
                      struct rmodel **ret, struct err *err)
{
    struct rmodel *m, sizes = sizes_of(f, f->terms & RT_SOCIAL ? f->o->follows->n : 0);
    sizes.n_state = n_state;
    if (rmodel_create(&sizes, &m, err) != ST_OK)
        return err->code;
    m->zone = *f->zone;
    m->sweeps = f->sweeps;
    put_rows(f, f->theta_shape, f->theta_tab, f->nu, f->user0, m->theta, m->theta_log,
             m->theta_shape);
    put_rows(f, f->beta_shape, f->beta_tab, f->np, 0, m->beta, m->beta_log, m->beta_shape);
    put_own(f, m);
    put_small(f, m);
    if (f->terms & RT_SOCIAL)
        put_edges(f, m);
    put_times(f, ev, m);
    if ((f->o->comm && gather(f, m, err) != ST_OK) ||
        ids_copy(&ev->users, &m->users, err) != ST_OK ||
        ids_copy(&ev->items, &m->items, err) != ST_OK) {
        rmodel_free(m);
        return err->code;
    }
    *ret = m;
    return ST_OK;
}

/* ---- back ---- */

/* Row i of ours is row `at` of theirs, or unknown to them (IDS_NONE): then it keeps its start. */
static void take_row(struct fit *f, real *tab, real *shape, uint64_t i, const float *log_,
                     const float *shapes, uint32_t at)
{
    uint64_t row = (uint64_t)f->n_feat * f->stride;
    for (uint64_t k = 0; at != IDS_NONE && k < row; k++) {
        tab[i * row + k] = (real)log_[at * row + k];
        shape[i * row + k] = (real)shapes[at * row + k];
    }
}

static void sums_of(struct fit *f, const real *tab, const real *shape, uint32_t n,
                    const double *expose, double *sum)
{
    memset(sum, 0, (size_t)f->n_feat * f->stride * sizeof *sum);
    for (uint64_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < f->n_feat; d++)
            for (uint32_t k = 0; k < f->k; k++) {
                uint64_t at = (i * f->n_feat + d) * f->stride + k;
                double mean = (double)mean_of((double)shape[at], (double)tab[at]);
                sum[d * f->stride + k] += (expose ? expose[i] : 1) * mean;
                if (f->beta_mean && !expose)
                    f->beta_mean[at] = mean;
            }
}

static void take_own(struct fit *f, const struct rmodel *w, uint32_t u, uint32_t at)
{
    for (uint32_t s = 0; f->tau_tab && w->tau && s < f->n_scale && s < w->n_scale; s++) {
        uint64_t i = (uint64_t)u * f->n_scale + s, j = (uint64_t)at * w->n_scale + s;
        if (!(w->tau[j] > 0))
            continue;
        f->tau_shape[i] = w->tau_shape[j];
        f->tau_rate[i] = w->tau_shape[j] / (double)w->tau[j];
        f->tau_tab[(uint64_t)u * f->x_stride + s] = (real)w->tau_log[j];
    }
    f->eta_rate[u] = f->eta_shape / w->eta[at];
}

enum status fit_warm(struct fit *f, const struct rs_events *ev, const struct rmodel *w,
                     struct err *err)
{
    if (w->k != f->k || w->n_feat != f->n_feat)
        return err_set(err, ST_ARG, "a model of %u factors (%s) cannot start one of %u (%s)", w->k,
                       rmodel_variant(w->terms), f->k, rmodel_variant(f->terms));
    for (uint32_t u = 0; u < f->nu; u++) {
        uint32_t at = ids_find(&w->users, ids_name(&ev->users, f->user0 + u));
        take_row(f, f->theta_tab, f->theta_shape, u, w->theta_log, w->theta_shape, at);
        if (at != IDS_NONE)
            take_own(f, w, u, at);
    }
    for (uint32_t p = 0; p < f->np; p++) {
        uint32_t at = ids_find(&w->items, ids_name(&ev->items, p));
        take_row(f, f->beta_tab, f->beta_shape, p, w->beta_log, w->beta_shape, at);
        if (at != IDS_NONE)
            f->xi_rate[p] = f->xi_shape / w->xi[at];
    }
    for (uint32_t i = 0; i < f->n_mu && f->n_mu == w->n_mu; i++)
        f->mu_rate[i] = f->mu_shape[i] / w->mu[i];
    sums_of(f, f->theta_tab, f->theta_shape, f->nu, f->v->exposure, f->s_theta);
    sums_of(f, f->beta_tab, f->beta_shape, f->np, NULL, f->s_beta);
    if (f->o->comm)
        f->o->comm->sum_f64(f->o->comm->ctx, f->s_theta, (size_t)f->n_feat * f->stride, err);
    return err->code;
}
