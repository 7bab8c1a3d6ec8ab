/* recsys/fit_setup.c - a fit's memory, windows and start values. */
#include "engine/base/rng.h"
#include "recsys/fit_internal.h"

#include <stdlib.h>

/* Rows of factors: 64-byte aligned, zeroed. */
static real *rows(uint64_t n)
{
    size_t bytes = (n * sizeof(real) + 63) / 64 * 64;
    real *p = aligned_alloc(64, bytes ? bytes : 64);
    if (p)
        memset(p, 0, bytes ? bytes : 64);
    return p;
}

static void *zeros(uint64_t n, size_t size)
{
    return calloc(n ? n : 1, size);
}

/* ---- windows and units ---- */

static void user_ends(const struct rs_events *ev, double *first, double *last)
{
    for (uint32_t u = 0; u < ev->users.n; u++) {
        first[u] = (double)INFINITY;
        last[u] = -(double)INFINITY;
    }
    for (uint64_t i = 0; i < ev->n; i++) {
        uint32_t u = ev->user[i];
        first[u] = ev->time[i] < first[u] ? ev->time[i] : first[u];
        last[u] = ev->time[i] > last[u] ? ev->time[i] : last[u];
    }
}

/* Users without events see the whole window. */
static void set_windows(const struct rs_events *ev, const struct fit_opts *o, double *start,
                        double *end)
{
    double from = ev->time[0], to = ev->time[ev->n - 1];
    user_ends(ev, start, end);
    for (uint32_t u = 0; u < ev->users.n; u++) {
        bool none = !isfinite(start[u]);
        if (none || o->start == START_WINDOW)
            start[u] = from;
        else
            start[u] -= o->lead_s;
        if (none || o->clock == CLOCK_GLOBAL)
            end[u] = to;
        if (!(end[u] > start[u])) /* one event in no time: its tick is a second */
            start[u] = end[u] - (o->lead_s > 1 ? o->lead_s : 1);
    }
}

/* The mean exposure is one unit: results then do not depend on the unit of the times, and HPF
 * (counts, exposure one) is the case without excitation. */
static double mean_exposure(const double *start, const double *end, uint32_t n)
{
    double sum = 0;
    for (uint32_t u = 0; u < n; u++)
        sum += end[u] - start[u];
    return n && sum > 0 ? sum / n : 1;
}

/* Counts only: every user is seen for one unit. */
static void unit_windows(double *start, double *end, const struct rs_events *ev)
{
    for (uint32_t u = 0; u < ev->users.n; u++) {
        end[u] = ev->time[ev->n - 1];
        start[u] = ev->time[0];
    }
}

/* Contiguous users with about the same number of events. */
static void own_users(const struct rs_events *ev, const struct fit_comm *c, uint32_t *from,
                      uint32_t *to)
{
    uint64_t *n = c ? calloc((uint64_t)ev->users.n + 1, sizeof *n) : NULL;
    *from = 0;
    *to = ev->users.n;
    if (!n)
        return;
    for (uint64_t i = 0; i < ev->n; i++)
        n[ev->user[i] + 1]++;
    uint32_t r = 0, cut[2] = { 0, ev->users.n };
    for (uint32_t u = 0; u < ev->users.n; u++) {
        n[u + 1] += n[u];
        while (r < c->n_rank && n[u + 1] * c->n_rank >= ev->n * (r + (uint64_t)1)) {
            r++;
            if (r == c->rank)
                cut[0] = u + 1;
            if (r == c->rank + 1 && r < c->n_rank)
                cut[1] = u + 1;
        }
    }
    *from = cut[0];
    *to = cut[1];
    free(n);
}

/* ---- memory ---- */

static bool more_arrays(struct fit *f)
{
    uint64_t nu = f->nu, np = f->np, n2 = (uint64_t)f->n_cluster * f->n_cluster;
    bool ok = true;
    if (f->terms & RT_SOCIAL)
        ok = (f->edge_shape = zeros(f->v->n_edge * f->n_scale, 8)) &&
             (f->edge_rate = zeros(f->v->n_edge * f->n_scale, 8)) &&
             (f->edge_count = zeros(f->v->n_edge * f->n_scale, 8)) &&
             (f->edge_tab = rows(f->v->n_edge * f->n_scale));
    if (ok && f->terms & (RT_ITEMS | RT_CLUSTERS))
        ok = (f->phi_shape = zeros(nu, 8)) && (f->phi_rate = zeros(nu, 8)) &&
             (f->phi_count = zeros(nu, 8)) && (f->psi_rate = zeros(nu, 8)) &&
             (f->phi_tab = rows(nu)) && (f->sigma = zeros(np, 8));
    if (ok && f->terms & RT_ITEMS)
        ok = (f->beta_mean = zeros(np * f->stride, 8)) &&
             (f->item_acc = rows((uint64_t)ITEM_BLOCKS * np * f->stride));
    if (ok && f->terms & RT_CLUSTERS)
        ok = (f->cluster_size = zeros(f->n_cluster, 8)) && (f->pi_shape = zeros(n2, 8)) &&
             (f->pi_rate = zeros(n2, 8)) && (f->pi_count = zeros(n2, 8)) &&
             (f->rho_rate = zeros(f->n_cluster, 8)) && (f->pi_tab = rows(n2)) &&
             (f->pi_block = zeros(ITEM_BLOCKS * n2, 8));
    return ok;
}

static enum status make_arrays(struct fit *f, struct err *err)
{
    uint64_t row = (uint64_t)f->n_feat * f->stride, nt = (uint64_t)f->nu * f->n_scale;
    f->n_mu = f->o->pooled ? 2 * f->n_scale : f->n_user_all * f->n_scale;
    bool ok = (f->theta_tab = rows(f->nu * row)) && (f->theta_shape = rows(f->nu * row)) &&
              (f->beta_tab = rows(f->np * row)) && (f->beta_shape = rows(f->np * row)) &&
              (f->s_theta = zeros(row, 8)) && (f->s_beta = zeros(row, 8)) &&
              (f->eta_rate = zeros(f->nu, 8)) && (f->xi_rate = zeros(f->np, 8)) &&
              (f->rec_r = rows(f->v->n_rec)) && (f->mu_shape = zeros(f->n_mu, 8)) &&
              (f->mu_rate = zeros(f->n_mu, 8)) &&
              (f->beta_sums = zeros(((uint64_t)f->np / BLOCK_ROWS + 1) * row, 8));
    if (ok && f->terms & RT_SELF)
        ok = (f->tau_shape = zeros(nt, 8)) && (f->tau_rate = zeros(nt, 8)) &&
             (f->tau_count = zeros(nt, 8)) && (f->tau_tab = rows((uint64_t)f->nu * f->x_stride));
    return ok && more_arrays(f)
               ? ST_OK
               : err_set(err, ST_NOMEM, "parameters of %u users and %u items", f->nu, f->np);
}

static enum status make_scratch(struct fit *f, struct err *err)
{
    unsigned n = pool_threads(f->pool);
    bool more = f->terms & (RT_SOCIAL | RT_ITEMS | RT_CLUSTERS), ok = true;
    uint64_t row = (uint64_t)f->n_feat * f->stride, ne = more ? f->v->max_user_event : 0;
    uint64_t nr = more ? f->v->max_user_rec : 0, ctx = f->stride + (uint64_t)f->n_cluster;
    nr = nr > VIEW_CHUNK ? nr : VIEW_CHUNK;
    f->scratch = zeros(n, sizeof *f->scratch);
    for (unsigned i = 0; f->scratch && ok && i < n; i++) {
        struct scratch *s = &f->scratch[i];
        ok = (s->acc = rows(row)) && (s->base = rows(nr)) && (s->r = rows(nr)) &&
             (s->z = rows(ne)) && (s->q = rows(ne)) && (s->event_rec = zeros(ne, 4)) &&
             (s->g0 = zeros(ne, 8)) && (s->g1 = zeros(ne, 8)) && (s->h0 = zeros(ne, 8)) &&
             (s->h1 = zeros(ne, 8)) && (s->trail = zeros(nr, 8)) && (s->trail_t = zeros(nr, 8)) &&
             (s->back = zeros(nr, 8)) && (s->back_t = zeros(nr, 8)) && (s->ctx = zeros(ctx, 8)) &&
             (s->ctx_back = zeros(ctx, 8)) && (s->slot = zeros(VIEW_CHUNK, 1)) &&
             (s->sum = zeros(row, 8)) && (s->rows = zeros(row, 8)) &&
             (s->count = rows(VIEW_CHUNK)) && (s->each = zeros(VIEW_CHUNK + 1, 4)) &&
             (s->user = zeros(VIEW_CHUNK, 4));
        for (uint32_t j = 0; ok && j <= VIEW_CHUNK; j++)
            s->each[j] = j;
    }
    return f->scratch && ok ? ST_OK : err_set(err, ST_NOMEM, "scratch of %u threads", n);
}

/* ---- opening ---- */

static enum status find_clusters(struct fit *f, const struct rs_events *ev, struct err *err)
{
    const struct event_attr *a = events_attr(ev, f->o->cluster);
    if (!a)
        return err_set(err, ST_ARG, "no column '%s' in the events: it tells the items' clusters",
                       f->o->cluster);
    uint32_t *c = zeros(ev->items.n, sizeof *c), *n = zeros(a->value.n, sizeof *n);
    if (!c || !n) {
        free(c);
        free(n);
        return err_set(err, ST_NOMEM, "clusters");
    }
    for (uint64_t i = 0; i < ev->n; i++)
        c[ev->item[i]] = a->of[i]; /* the last one named */
    for (uint32_t p = 0; p < ev->items.n; p++)
        n[c[p]]++;
    uint32_t used = 0; /* numbers without gaps */
    for (uint32_t i = 0; i < a->value.n; i++)
        n[i] = n[i] ? used++ : 0;
    for (uint32_t p = 0; p < ev->items.n; p++)
        c[p] = n[c[p]];
    free(n);
    f->cluster = c;
    f->n_cluster = used;
    return used <= 4096 ? ST_OK
                        : err_set(err, ST_RANGE,
                                  "column '%s' has %u different values: at most 4096 clusters",
                                  f->o->cluster, used);
}

static void to_units(struct fit *f, struct view_opts *vo)
{
    const struct fit_opts *o = f->o;
    f->n_scale = f->terms & (RT_SELF | RT_SOCIAL) ? o->n_scale : 0;
    f->x_stride = (f->n_scale + 3) / 4 * 4;
    for (uint32_t m = 0; m < f->n_scale; m++) {
        f->scale[m] = o->scale[m];
        f->scale[m].w = o->scale[m].w * f->unit_s;
    }
    memcpy(vo->scale, f->scale, sizeof vo->scale);
    vo->n_scale = f->n_scale;
    vo->unit_s = f->unit_s;
    vo->item_kernel = (struct rkernel){ .w = f->unit_s / o->item_scale_s, .order = 1 };
    vo->horizon = o->horizon_s / f->unit_s;
}

static enum status open_view(struct fit *f, const struct rs_events *ev, const struct calendar *zone,
                             struct err *err)
{
    const struct fit_opts *o = f->o;
    double *start = zeros(ev->users.n, 8), *end = zeros(ev->users.n, 8);
    struct view_opts vo = { .terms = o->terms,
                            .zone = zone,
                            .follows = o->follows,
                            .activity = o->measure == MEASURE_ACTIVITY };
    if (!start || !end) {
        err_set(err, ST_NOMEM, "windows");
        goto done;
    }
    if (o->terms & ~(unsigned)RT_GAMMA_RATES)
        set_windows(ev, o, start, end);
    else
        unit_windows(start, end, ev);
    f->unit_s = mean_exposure(start, end, ev->users.n);
    own_users(ev, o->comm, &vo.user0, &vo.user1);
    to_units(f, &vo);
    struct view_window w = { start, end };
    if (view_build(ev, &w, &vo, &f->v, err) != ST_OK)
        goto done;
    f->user0 = vo.user0;
    f->nu = f->v->n_user;
    if (!(o->terms & ~(unsigned)RT_GAMMA_RATES)) {
        if (view_merge_counts(f->v, err) != ST_OK)
            goto done;
        for (uint32_t u = 0; u < f->nu; u++)
            f->v->exposure[u] = 1;
    }
    if (!(o->terms & (RT_SOCIAL | RT_ITEMS | RT_CLUSTERS)) && !o->learn_every)
        view_drop_times(f->v);
done:
    free(start);
    free(end);
    return err->code;
}

enum status fit_open(const struct rs_events *ev, const struct fit_opts *o,
                     const struct calendar *zone, struct fit **ret, struct err *err)
{
    struct fit *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ST_NOMEM, "fit");
    f->o = o;
    f->terms = o->terms;
    f->zone = zone;
    f->np = ev->items.n;
    f->n_user_all = ev->users.n;
    f->k = o->k;
    f->stride = (o->k + RSTRIDE - 1) / RSTRIDE * RSTRIDE;
    f->n_feat = o->terms & RT_CALENDAR ? RFEATURES : 1;
    f->t0_s = ev->time[0];
    f->level = level_get(o->level < 0 ? cpu_level_max() : (enum cpu_level)o->level);
    if (o->terms & RT_CLUSTERS && find_clusters(f, ev, err) != ST_OK)
        goto fail;
    if (pool_create(o->threads ? o->threads : pool_cores(), &f->pool, err) != ST_OK ||
        open_view(f, ev, zone, err) != ST_OK || make_arrays(f, err) != ST_OK ||
        make_scratch(f, err) != ST_OK || sweep_make_blocks(f, err) != ST_OK)
        goto fail;
    *ret = f;
    return ST_OK;
fail:
    fit_close(f);
    return err->code;
}

static void free_scratch(struct fit *f)
{
    for (unsigned i = 0; f->scratch && i < pool_threads(f->pool); i++) {
        struct scratch *s = &f->scratch[i];
        void *all[] = { s->acc,  s->base,   s->r,    s->z,        s->q,     s->event_rec,
                        s->g0,   s->g1,     s->h0,   s->h1,       s->trail, s->trail_t,
                        s->back, s->back_t, s->ctx,  s->ctx_back, s->slot,  s->sum,
                        s->rows, s->count,  s->each, s->user };
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            free(all[j]);
    }
    free(f->scratch);
}

void fit_close(struct fit *f)
{
    if (!f)
        return;
    free_scratch(f);
    void *all[] = { f->theta_tab,  f->theta_shape, f->beta_tab,     f->beta_shape, f->s_theta,
                    f->s_beta,     f->eta_rate,    f->xi_rate,      f->tau_shape,  f->tau_rate,
                    f->tau_count,  f->tau_tab,     f->edge_shape,   f->edge_rate,  f->edge_count,
                    f->edge_tab,   f->mu_shape,    f->mu_rate,      f->phi_shape,  f->phi_rate,
                    f->phi_count,  f->psi_rate,    f->phi_tab,      f->sigma,      f->beta_mean,
                    f->beta_sums,  f->item_acc,    f->cluster_size, f->pi_shape,   f->pi_rate,
                    f->pi_count,   f->rho_rate,    f->pi_tab,       f->pi_block,   f->rec_r,
                    f->user_block, f->item_block,  f->block_ln };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free((void *)f->cluster);
    view_free(f->v);
    pool_free(f->pool);
    free(f);
}

/* ---- start values ---- */

static double noise(uint64_t seed, uint64_t table, uint64_t at)
{
    return 0.01 * ((double)(rng_at(seed ^ rng_mix(table + 1), at) >> 11) * 0x1.0p-53);
}

/* Shapes and rates near the hyper-prior's shape, as HPF programs start. row0: the number of the
 * first row among those of all processes. */
static void start_rows(struct fit *f, real *tab, real *shape, uint32_t n, uint64_t row0, int which,
                       const double *expose, double *sum)
{
    memset(sum, 0, (size_t)f->n_feat * f->stride * sizeof *sum);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < f->n_feat; d++)
            for (uint32_t k = 0; k < f->k; k++) {
                uint64_t at = ((uint64_t)i * f->n_feat + d) * f->stride + k;
                uint64_t name = ((row0 + i) * f->n_feat + d) * f->k + k;
                double s = f->o->a_hyper + noise(f->o->seed, 2 * (uint64_t)which, name);
                double r = f->o->a_hyper + noise(f->o->seed, 2 * (uint64_t)which + 1, name);
                shape[at] = (real)s;
                tab[at] = (real)(exp_digamma(s) / r);
                sum[d * f->stride + k] += (expose ? expose[i] : 1) * s / r;
                if (f->beta_mean && !expose)
                    f->beta_mean[at] = s / r;
            }
}

static void start_tau(struct fit *f)
{
    /* Little self-excitation at first: the base finds its factors before own events explain all. */
    const double mean = 0.1;
    for (uint32_t i = 0; i < f->n_mu; i++) {
        f->mu_shape[i] = f->o->a_mu + f->o->a_tau;
        f->mu_rate[i] = f->mu_shape[i] * mean / f->o->a_tau;
    }
    for (uint64_t i = 0; f->tau_tab && i < (uint64_t)f->nu * f->n_scale; i++) {
        f->tau_shape[i] = f->o->a_tau;
        f->tau_rate[i] = f->o->a_tau / mean;
        f->tau_tab[i / f->n_scale * f->x_stride + i % f->n_scale] =
            (real)(exp_digamma(f->tau_shape[i]) / f->tau_rate[i]);
    }
    for (uint64_t i = 0; f->edge_tab && i < f->v->n_edge * f->n_scale; i++) {
        f->edge_shape[i] = f->o->a_tau;
        f->edge_rate[i] = f->o->a_tau / mean;
        f->edge_tab[i] = edge_off(f, (uint32_t)(i % f->n_scale))
                             ? 0
                             : (real)(exp_digamma(f->edge_shape[i]) / f->edge_rate[i]);
    }
}

static void start_items(struct fit *f)
{
    for (uint32_t u = 0; f->phi_tab && u < f->nu; u++) {
        f->phi_shape[u] = f->o->a_phi;
        f->phi_rate[u] = 10 * f->o->a_phi * (1 + f->np);
        f->psi_rate[u] = (f->o->a_mu + f->o->a_phi) / f->phi_rate[u];
        f->phi_tab[u] = (real)(exp_digamma(f->phi_shape[u]) / f->phi_rate[u]);
    }
    for (uint32_t p = 0; f->cluster && p < f->np; p++)
        f->cluster_size[f->cluster[p]] += 1;
    for (uint64_t i = 0; f->cluster && i < (uint64_t)f->n_cluster * f->n_cluster; i++) {
        f->pi_shape[i] = f->o->a_phi;
        f->pi_rate[i] = f->o->a_phi;
        f->pi_tab[i] = (real)(exp_digamma(f->pi_shape[i]) / f->pi_rate[i]);
        f->rho_rate[i % f->n_cluster] = f->o->a_mu + f->n_cluster * f->o->a_phi;
    }
}

enum status fit_start_values(struct fit *f, struct err *err)
{
    const struct fit_opts *o = f->o;
    uint64_t fk = (uint64_t)f->n_feat * f->k;
    bool gamma = o->terms & RT_GAMMA_RATES;
    f->eta_shape = gamma ? o->a_hyper + (double)fk * o->a_theta : o->a_hyper;
    f->xi_shape = gamma ? o->a_hyper + (double)fk * o->a_beta : o->a_hyper;
    for (uint32_t u = 0; u < f->nu; u++)
        f->eta_rate[u] = o->b_hyper / (gamma ? o->a_hyper : 1);
    for (uint32_t p = 0; p < f->np; p++)
        f->xi_rate[p] = o->b_hyper / (gamma ? o->a_hyper : 1);
    start_rows(f, f->theta_tab, f->theta_shape, f->nu, f->user0, 0, f->v->exposure, f->s_theta);
    start_rows(f, f->beta_tab, f->beta_shape, f->np, 0, 1, NULL, f->s_beta);
    start_tau(f);
    start_items(f);
    if (o->comm)
        o->comm->sum_f64(o->comm->ctx, f->s_theta, (size_t)f->n_feat * f->stride, err);
    return err->code;
}
