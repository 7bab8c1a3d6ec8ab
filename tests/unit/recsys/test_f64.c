/* The sweeps in double: against an independent HPF, against brute force over all pairs of events,
 * and the bound that never falls, for every variant and both measures. */
#include "engine/base/rng.h"
#include "recsys/fit_internal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static void ok(struct err *err, const char *what)
{
    cr_assert(err->code == ST_OK, "%s: %s", what, err->msg);
}

/* ---- HPF against tests/golden/recsys/hpf.py ---- */

static void read_table(FILE *f, double *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cr_assert(fscanf(f, "%lf", &v[i]) == 1, "fixture is short");
}

static void set_rows(struct fit *f, real *tab, real *shape, uint32_t n, const double *s,
                     const double *r, double *sum)
{
    memset(sum, 0, f->stride * sizeof *sum);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < f->k; k++) {
            shape[i * f->stride + k] = s[i * f->k + k];
            tab[i * f->stride + k] = exp_digamma(s[i * f->k + k]) / r[i * f->k + k];
            sum[k] += s[i * f->k + k] / r[i * f->k + k];
        }
}

/* Means from the fit itself: the model's are floats. */
static double worst(const struct fit *f, const real *shape, const real *tab, uint32_t n,
                    const double *want)
{
    double w = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < f->k; k++) {
            double s = shape[i * f->stride + k];
            double mean = s * tab[i * f->stride + k] / exp_digamma(s);
            double d = fabs(mean - want[i * f->k + k]) / want[i * f->k + k];
            w = d > w ? d : w;
        }
    return w;
}

Test(recsys_f64, hpf_takes_the_published_update_step_by_step)
{
    struct err err = ERR_INIT;
    FILE *f = fopen(GOLDEN "/hpf.txt", "re");
    unsigned nu, np, k, nnz;
    cr_assert(f && fscanf(f, "%u %u %u %u", &nu, &np, &k, &nnz) == 4);
    struct rs_events ev = EVENTS_INIT;
    char user[32], item[32];
    uint32_t at;
    for (unsigned u = 0; u < nu; u++) { /* numbers as in the fixture */
        snprintf(user, sizeof user, "%u", u);
        ids_add(&ev.users, str_c(user), &at, &err);
    }
    for (unsigned p = 0; p < np; p++) {
        snprintf(item, sizeof item, "%u", p);
        ids_add(&ev.items, str_c(item), &at, &err);
    }
    for (unsigned i = 0; i < nnz; i++) {
        unsigned u, p, y;
        cr_assert(fscanf(f, "%u %u %u", &u, &p, &y) == 3);
        snprintf(user, sizeof user, "%u", u);
        snprintf(item, sizeof item, "%u", p);
        for (unsigned n = 0; n < y; n++)
            events_add(&ev, str_c(user), str_c(item), n, &err);
    }
    events_sort(&ev, &err);
    size_t a = (size_t)nu * k, b = (size_t)np * k;
    double *v = calloc(4 * (a + b), sizeof *v);
    read_table(f, v, 4 * (a + b));
    fclose(f);
    struct fit_opts o = fit_defaults(RT_GAMMA_RATES);
    o.k = k;
    o.threads = 2;
    struct fit *fit = NULL;
    struct calendar utc = { .n = 0 };
    fit_open(&ev, &o, &utc, &fit, &err);
    fit_start_values(fit, &err);
    ok(&err, "open");
    set_rows(fit, fit->theta_tab, fit->theta_shape, nu, v, v + a, fit->s_theta);
    set_rows(fit, fit->beta_tab, fit->beta_shape, np, v + 2 * a, v + 2 * a + b, fit->s_beta);
    const double *want = v + 2 * (a + b);
    for (int it = 1; it <= 20; it++) {
        fit_sweep(fit, &err);
        ok(&err, "sweep");
        if (it != 1 && it != 20)
            continue;
        double t = worst(fit, fit->theta_shape, fit->theta_tab, nu, want);
        double p = worst(fit, fit->beta_shape, fit->beta_tab, np, want + a);
        cr_expect(t < 1e-10 && p < 1e-10, "iteration %d: theta %.2e beta %.2e", it, t, p);
        want += a + b;
    }
    free(v);
    fit_close(fit);
    events_clear(&ev);
}

/* ---- small random data ---- */

/* Many repeats per source: what breaks the published quadratic routine. */
static void small_events(struct rs_events *ev, uint64_t seed, int n_user, int n_item, int n,
                         bool ties)
{
    struct rng r = { seed };
    struct err err = ERR_INIT;
    char user[16], item[16];
    double t = 1.7e9;
    uint32_t at;
    ev->n_attr = 0;
    for (int u = 0; u < n_user; u++) {
        snprintf(user, sizeof user, "u%d", u);
        ids_add(&ev->users, str_c(user), &at, &err);
    }
    for (int i = 0; i < n; i++) {
        t += ties ? (double)rng_below(&r, 2) * 3600 : rng_f64(&r) * 7200;
        snprintf(user, sizeof user, "u%d", (int)rng_below(&r, (uint64_t)n_user - 1));
        snprintf(item, sizeof item, "i%d", (int)(rng_f64(&r) * rng_f64(&r) * n_item));
        events_add(ev, str_c(user), str_c(item), t, &err);
    }
    events_sort(ev, &err);
    ok(&err, "events");
}

/* Everybody follows the next two. */
static void ring(struct follows *w, const struct rs_events *ev)
{
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    uint32_t n = ev->users.n;
    for (uint32_t u = 0; u < n; u++)
        buf_printf(&text, "u%u\tu%u\nu%u\tu%u\n", u, (u + 1) % n, u, (u + 2) % n);
    follows_parse(w, buf_view(&text), "ring", ev, false, &err);
    buf_clear(&text);
    ok(&err, "ring");
}

static void add_clusters(struct rs_events *ev)
{
    struct err err = ERR_INIT;
    struct event_attr *a = &ev->attr[ev->n_attr++];
    char name[16];
    a->name = str_dup(STR("kind"));
    a->of = calloc(ev->cap, sizeof *a->of);
    for (uint64_t i = 0; i < ev->n; i++) {
        snprintf(name, sizeof name, "c%u", ev->item[i] % 3);
        ids_add(&a->value, str_c(name), &a->of[i], &err);
    }
}

static struct fit_opts opts_of(const char *variant, const struct follows *w,
                               enum fit_measure measure)
{
    unsigned terms;
    struct err err = ERR_INIT;
    rmodel_terms(variant, &terms, &err);
    struct fit_opts o = fit_defaults(terms);
    o.k = 3;
    o.follows = w;
    o.cluster = "kind";
    o.threads = 1;
    o.measure = measure;
    o.scale[0] = (struct rkernel){ 1.0 / 3600, 1, 0 };
    o.scale[1] = (struct rkernel){ 1.0 / 20000, 2, 0 };
    o.scale[2] = (struct rkernel){ 1.0 / 50000, 1, 1 };
    o.n_scale = 3;
    return o;
}

static const char *const variants[] = { "pf",   "hpf",   "hrpf",  "drpf",
                                        "srpf", "dsrpf", "iirpf", "xiirpf" };
enum { N_VARIANT = sizeof variants / sizeof variants[0] };

Test(recsys_f64, the_bound_never_falls_and_no_event_is_lost_in_any_variant)
{
    for (int measure = 0; measure < 2; measure++)
        for (int i = 0; i < N_VARIANT; i++) {
            struct err err = ERR_INIT;
            struct rs_events ev = EVENTS_INIT;
            struct follows w = { 0 };
            struct fit *f = NULL;
            struct calendar utc = { .n = 0 };
            small_events(&ev, 7, 9, 8, 260, i % 2);
            add_clusters(&ev);
            ring(&w, &ev);
            struct fit_opts o = opts_of(variants[i], &w, (enum fit_measure)measure);
            fit_open(&ev, &o, &utc, &f, &err);
            fit_start_values(f, &err);
            ok(&err, variants[i]);
            double last = -(double)INFINITY;
            for (int it = 0; it < 200; it++) {
                double elbo;
                fit_sweep_bound(f, &elbo, &err);
                ok(&err, variants[i]);
                if (it > 1) /* the start's rates are no sweep's */
                    cr_assert(elbo >= last - 1e-9 * fabs(last),
                              "%s, measure %d, sweep %d: %.12g after %.12g", variants[i], measure,
                              it, elbo, last);
                last = elbo;
            }
            /* shapes minus priors are the attributed mass */
            double mass = 0;
            for (uint64_t u = 0; u < f->nu; u++)
                for (uint64_t k = 0; k < (uint64_t)f->n_feat * f->stride; k++)
                    if (k % f->stride < f->k)
                        mass += f->theta_shape[u * f->n_feat * f->stride + k] - o.a_theta;
            for (uint64_t k = 0; f->tau_tab && k < (uint64_t)f->nu * f->n_scale; k++)
                mass += f->tau_count[k];
            for (uint64_t k = 0; f->edge_tab && k < f->v->n_edge * f->n_scale; k++)
                mass += f->edge_count[k];
            for (uint64_t k = 0; f->phi_tab && k < f->nu; k++)
                mass += f->phi_count[k];
            cr_expect(fabs(mass - 260) < 1e-8 * 260, "%s: %.10f of 260 events", variants[i], mass);
            fit_close(f);
            follows_clear(&w);
            events_clear(&ev);
        }
}

/* ---- brute force ---- */

static double kernel(struct rkernel k, double dt)
{
    return k.order == 2 ? k.w * k.w * dt * exp(-k.w * dt) : k.w * exp(-k.w * dt);
}

/* Rate of event n and the counts it gives, by a walk over all earlier events: own[u, m], edge[e,
 * m], phi[u] and what the item factors get, base aside. */
struct brute {
    const struct fit *f;
    const struct rs_events *ev;
    double t0;
    double *own, *edge, *phi, *beta; /* beta: [np, k], base and item-to-item */
    double ln;
};

static bool is_last(const struct brute *b, uint64_t e, uint64_t n)
{
    for (uint64_t i = e + 1; i < b->ev->n; i++)
        if (b->ev->user[i] == b->ev->user[e] && b->ev->item[i] == b->ev->item[e] &&
            b->ev->time[i] < b->ev->time[n] && b->ev->time[i] > b->ev->time[e])
            return false;
    for (uint64_t i = 0; i < e; i++) /* of equal ones the first stands for all */
        if (b->ev->user[i] == b->ev->user[e] && b->ev->item[i] == b->ev->item[e] &&
            b->ev->time[i] == b->ev->time[e])
            return false;
    return true;
}

static void one(struct brute *b, uint64_t n, double z, bool count)
{
    const struct fit *f = b->f;
    const struct rs_events *ev = b->ev;
    uint32_t u = ev->user[n], p = ev->item[n];
    const real *theta = f->theta_tab + (uint64_t)u * f->stride;
    const real *beta = f->beta_tab + (uint64_t)p * f->stride;
    double sum = 0;
    for (uint32_t k = 0; k < f->k; k++) {
        sum += theta[k] * beta[k];
        if (count)
            b->beta[p * f->k + k] += theta[k] * beta[k] / z;
    }
    for (uint64_t e = 0; e < ev->n; e++) {
        double dt = (ev->time[n] - ev->time[e]) / f->unit_s;
        uint32_t v = ev->user[e], q = ev->item[e];
        if (!(dt > 0))
            continue;
        for (uint32_t m = 0; m < f->n_scale && v == u && q == p && f->tau_tab; m++) {
            if (f->scale[m].last_only && !is_last(b, e, n))
                continue;
            double s = f->tau_tab[u * f->x_stride + m] * kernel(f->scale[m], dt);
            sum += s;
            if (count)
                b->own[u * f->n_scale + m] += s / z;
        }
        for (uint64_t g = f->terms & RT_SOCIAL ? f->v->edge_ptr[u] : 0;
             f->terms & RT_SOCIAL && g < f->v->edge_ptr[u + 1]; g++)
            for (uint32_t m = 0; m < f->n_scale && f->v->edge_from[g] == v && q == p; m++) {
                double s = f->edge_tab[g * f->n_scale + m] * kernel(f->scale[m], dt);
                sum += s;
                if (count)
                    b->edge[g * f->n_scale + m] += s / z;
            }
        if (v != u || q == p || !f->phi_tab)
            continue;
        double g = f->phi_tab[u] * kernel(f->v->item_kernel, dt);
        for (uint32_t k = 0; k < f->k && f->terms & RT_ITEMS; k++) {
            double s = g * beta[k] * f->beta_tab[(uint64_t)q * f->stride + k];
            sum += s;
            if (count) {
                b->phi[u] += s / z;
                b->beta[p * f->k + k] += s / z;
                b->beta[q * f->k + k] += s / z;
            }
        }
        if (f->terms & RT_CLUSTERS) {
            double s = g * f->pi_tab[f->cluster[q] * f->n_cluster + f->cluster[p]];
            sum += s;
            b->phi[u] += count ? s / z : 0;
        }
    }
    if (!count) {
        b->ln += log(sum);
        one(b, n, sum, true);
    }
}

static void close_to(double got, double want, const char *what, const char *variant, uint64_t i)
{
    cr_expect(fabs(got - want) <= 1e-12 * (1 + fabs(want)), "%s: %s %llu: %.15g, brute force %.15g",
              variant, what, (unsigned long long)i, got, want);
}

Test(recsys_f64, linear_recursions_equal_brute_force)
{
    static const char *const some[] = { "hrpf", "srpf", "iirpf", "xiirpf" };
    for (int i = 0; i < 8; i++) {
        const char *variant = some[i / 2];
        struct err err = ERR_INIT;
        struct rs_events ev = EVENTS_INIT;
        struct follows w = { 0 };
        struct fit *f = NULL;
        struct calendar utc = { .n = 0 };
        small_events(&ev, 100 + (uint64_t)i, 6, 5, 120, i % 2);
        add_clusters(&ev);
        ring(&w, &ev);
        struct fit_opts o = opts_of(variant, &w, MEASURE_WALL);
        fit_open(&ev, &o, &utc, &f, &err);
        fit_start_values(f, &err);
        for (int it = 0; it < 5; it++)
            fit_sweep(f, &err);
        ok(&err, variant);
        struct brute b = { .f = f,
                           .ev = &ev,
                           .own = calloc(f->nu * f->n_scale, 8),
                           .edge = calloc(2 * f->nu * f->n_scale, 8),
                           .phi = calloc(f->nu, 8),
                           .beta = calloc(f->np * f->k, 8) };
        for (uint64_t n = 0; n < ev.n; n++)
            one(&b, n, 1, false);
        f->want_ln = true;
        sweep_users(f);
        sweep_items(f);
        close_to(f->ln_z, b.ln, "sum of ln Z", variant, 0);
        for (uint32_t k = 0; k < f->nu * f->n_scale; k++)
            close_to(f->tau_count[k], b.own[k], "own", variant, k);
        for (uint32_t k = 0; f->edge_tab && k < f->v->n_edge * f->n_scale; k++)
            close_to(f->edge_count[k], b.edge[k], "edge", variant, k);
        for (uint32_t u = 0; f->phi_tab && u < f->nu; u++)
            close_to(f->phi_count[u], b.phi[u], "phi", variant, u);
        for (uint32_t p = 0; p < f->np; p++)
            for (uint32_t k = 0; k < f->k; k++)
                close_to(f->beta_shape[p * f->stride + k] * f->beta_tab[p * f->stride + k],
                         b.beta[p * f->k + k], "beta", variant, p);
        free(b.own);
        free(b.edge);
        free(b.phi);
        free(b.beta);
        fit_close(f);
        follows_clear(&w);
        events_clear(&ev);
    }
}

/* DRPF: a pair's events grouped by hour against each event by itself; integrals of features against
 * counting seconds. */
Test(recsys_f64, calendar_factorisation_equals_brute_force)
{
    struct err err = ERR_INIT;
    struct rs_events ev = EVENTS_INIT;
    struct fit *f = NULL;
    struct calendar zone;
    small_events(&ev, 5, 6, 5, 150, false);
    struct fit_opts o = opts_of("drpf", NULL, MEASURE_WALL);
    calendar_open(&zone, STR("+05:30"), ev.time[0], ev.time[ev.n - 1], &err);
    fit_open(&ev, &o, &zone, &f, &err);
    fit_start_values(f, &err);
    for (int it = 0; it < 4; it++)
        fit_sweep(f, &err);
    ok(&err, "drpf");
    double ln = 0, *acc = calloc((size_t)f->nu * 31 * f->k, 8);
    for (uint64_t n = 0; n < ev.n; n++) {
        uint32_t u = ev.user[n], p = ev.item[n], slot = calendar_slot(&zone, ev.time[n]);
        uint32_t on[2] = { slot / 24, 7 + slot % 24 };
        double z = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 2; j++)
                    for (uint32_t k = 0; k < f->k; k++) {
                        double w = f->theta_tab[((uint64_t)u * 31 + on[i]) * f->stride + k] *
                                   f->beta_tab[((uint64_t)p * 31 + on[j]) * f->stride + k];
                        if (pass == 0)
                            z += w;
                        else
                            acc[(u * 31 + on[i]) * f->k + k] += w / z;
                        if (pass || i + j < 2 || k + 1 < f->k)
                            continue;
                        for (uint64_t e = 0; e < ev.n; e++)
                            for (uint32_t m = 0; m < f->n_scale; m++) {
                                double dt = (ev.time[n] - ev.time[e]) / f->unit_s;
                                struct brute b = { .f = f, .ev = &ev };
                                if (ev.user[e] == u && ev.item[e] == p && dt > 0 &&
                                    (!f->scale[m].last_only || is_last(&b, e, n)))
                                    z += f->tau_tab[u * f->x_stride + m] * kernel(f->scale[m], dt);
                            }
                    }
        ln += log(z);
    }
    double occupied[CALENDAR_SLOTS] = { 0 };
    double from = f->v->start[0] * f->unit_s + ev.time[0],
           to = f->v->end[0] * f->unit_s + ev.time[0];
    for (double t = from; t < to; t += 10) {
        double len = to - t < 10 ? to - t : 10;
        occupied[calendar_slot(&zone, t)] += len / f->unit_s;
    }
    for (int s = 0; s < CALENDAR_SLOTS; s++)
        cr_expect(fabs(occupied[s] - f->v->occupied[s]) < 11 / f->unit_s, "slot %d: %g, counted %g",
                  s, f->v->occupied[s], occupied[s]);
    f->want_ln = true;
    sweep_users(f);
    close_to(f->ln_z, ln, "sum of ln Z", "drpf", 0);
    for (uint32_t u = 0; u < f->nu; u++)
        for (uint32_t i = 0; i < 31; i++)
            for (uint32_t k = 0; k < f->k; k++)
                close_to(f->theta_shape[((uint64_t)u * 31 + i) * f->stride + k] - o.a_theta,
                         acc[(u * 31 + i) * f->k + k], "theta", "drpf", u);
    free(acc);
    fit_close(f);
    events_clear(&ev);
}

/* The bound of the parameters as they are; the sweep's shapes are put back. */
static double bound_now(struct fit *f, const real *theta_shape)
{
    struct err err = ERR_INIT;
    double kl, comp;
    bound_parts(f, &kl, &comp, &err);
    ok(&err, "bound");
    f->want_ln = true;
    sweep_users(f); /* also puts new shapes where these were */
    memcpy(f->theta_shape, theta_shape, (size_t)f->nu * f->stride * sizeof *theta_shape);
    return f->ln_z - comp - kl;
}

/* Central difference of the bound in the logarithm of a factor's shape, or of its rate with the
 * shape as it is. sum: of the table's exposed means. */
static double factor_slope(struct fit *f, real *shape, real *tab, double *sum, double exposure,
                           bool rate)
{
    const double h = 1e-4;
    size_t n = (size_t)f->nu * f->stride;
    real *theta = malloc(n * sizeof *theta), shape_was = *shape, tab_was = *tab;
    double r = exp_digamma(shape_was) / tab_was, sum_was = *sum, bound[2];
    memcpy(theta, f->theta_shape, n * sizeof *theta);
    for (int side = 0; side < 2; side++) {
        double s = rate ? shape_was : shape_was * exp(side ? h : -h);
        double q = rate ? r * exp(side ? h : -h) : r;
        *shape = s;
        *tab = exp_digamma(s) / q;
        *sum = sum_was + exposure * (s / q - shape_was / r);
        bound[side] = bound_now(f, theta);
        *shape = shape_was;
        *tab = tab_was;
        *sum = sum_was;
    }
    free(theta);
    return (bound[1] - bound[0]) / (2 * h);
}

static double rate_slope(struct fit *f, double *rate)
{
    const double h = 1e-4;
    size_t n = (size_t)f->nu * f->stride;
    real *theta = malloc(n * sizeof *theta);
    double was = *rate, bound[2];
    memcpy(theta, f->theta_shape, n * sizeof *theta);
    for (int side = 0; side < 2; side++) {
        *rate = was * exp(side ? h : -h);
        bound[side] = bound_now(f, theta);
    }
    *rate = was;
    free(theta);
    return (bound[1] - bound[0]) / (2 * h);
}

/* At the fixed point the derivative of the bound with respect to every node's ln shape and ln rate
 * is zero: factors here, their hyper-rates, the prior rates of tau; tau itself below. */
Test(recsys_f64, at_convergence_no_factor_or_hyper_rate_wants_to_move)
{
    struct err err = ERR_INIT;
    struct rs_events ev = EVENTS_INIT;
    struct fit *f = NULL;
    struct calendar utc = { .n = 0 };
    small_events(&ev, 12, 5, 4, 150, false);
    struct fit_opts o = opts_of("hrpf", NULL, MEASURE_WALL);
    o.k = 2;
    fit_open(&ev, &o, &utc, &f, &err);
    fit_start_values(f, &err);
    for (int it = 0; it < 6000; it++)
        fit_sweep(f, &err);
    ok(&err, "hrpf");
    real *beta_shape = malloc((size_t)f->np * f->stride * sizeof *beta_shape);
    memcpy(beta_shape, f->beta_shape, (size_t)f->np * f->stride * sizeof *beta_shape);
    for (int rate = 0; rate < 2; rate++) {
        for (uint32_t u = 0; u < f->nu; u++)
            for (uint32_t k = 0; k < f->k; k++) {
                uint64_t at = (uint64_t)u * f->stride + k;
                double slope = factor_slope(f, &f->theta_shape[at], &f->theta_tab[at],
                                            &f->s_theta[k], f->v->exposure[u], rate);
                cr_expect(fabs(slope) < 1e-4, "theta %u %u, %s: slope %.3e", u, k,
                          rate ? "rate" : "shape", slope);
            }
        for (uint32_t p = 0; p < f->np; p++)
            for (uint32_t k = 0; k < f->k; k++) {
                uint64_t at = (uint64_t)p * f->stride + k;
                double slope =
                    factor_slope(f, &f->beta_shape[at], &f->beta_tab[at], &f->s_beta[k], 1, rate);
                cr_expect(fabs(slope) < 1e-4, "beta %u %u, %s: slope %.3e", p, k,
                          rate ? "rate" : "shape", slope);
            }
    }
    for (uint32_t u = 0; u < f->nu; u++)
        cr_expect(fabs(rate_slope(f, &f->eta_rate[u])) < 1e-4, "eta %u", u);
    for (uint32_t p = 0; p < f->np; p++)
        cr_expect(fabs(rate_slope(f, &f->xi_rate[p])) < 1e-4, "xi %u", p);
    for (uint32_t m = 0; m < f->n_scale; m++)
        cr_expect(fabs(rate_slope(f, &f->mu_rate[m])) < 1e-4, "mu %u", m);
    free(beta_shape);
    fit_close(f);
    events_clear(&ev);
}

/* Factors have no order: started with two of them exchanged, a fit stays exchanged. */
Test(recsys_f64, the_order_of_factors_does_not_matter)
{
    struct err err = ERR_INIT;
    struct rs_events ev = EVENTS_INIT;
    struct fit *f[2] = { NULL, NULL };
    struct calendar utc = { .n = 0 };
    small_events(&ev, 21, 7, 6, 200, false);
    struct fit_opts o = opts_of("hrpf", NULL, MEASURE_ACTIVITY);
    for (int i = 0; i < 2; i++) {
        fit_open(&ev, &o, &utc, &f[i], &err);
        fit_start_values(f[i], &err);
        ok(&err, "open");
        real *table[] = { f[i]->theta_tab, f[i]->theta_shape, f[i]->beta_tab, f[i]->beta_shape };
        for (int t = 0; i && t < 4; t++)
            for (uint32_t r = 0; r < (t < 2 ? f[i]->nu : f[i]->np); r++) {
                real *row = table[t] + (uint64_t)r * f[i]->stride, was = row[0];
                row[0] = row[2];
                row[2] = was;
            }
        double *sum[] = { f[i]->s_theta, f[i]->s_beta };
        for (int t = 0; i && t < 2; t++) {
            double was = sum[t][0];
            sum[t][0] = sum[t][2];
            sum[t][2] = was;
        }
        for (int it = 0; it < 30; it++)
            fit_sweep(f[i], &err);
        ok(&err, "sweeps");
    }
    for (uint32_t u = 0; u < f[0]->nu; u++)
        for (uint32_t k = 0; k < 3; k++) {
            double a = f[0]->theta_shape[u * f[0]->stride + k];
            double b = f[1]->theta_shape[u * f[1]->stride + 2 - k];
            cr_expect(fabs(a - b) <= 1e-9 * a, "user %u factor %u: %.15g, exchanged %.15g", u, k, a,
                      b);
        }
    fit_close(f[0]);
    fit_close(f[1]);
    events_clear(&ev);
}

/* Counts of merged records are bytes; pairs with more events keep theirs beside. */
Test(recsys_f64, a_pair_may_have_any_number_of_events)
{
    static const int times[] = { 1, 254, 255, 256, 1000 };
    enum { N = sizeof times / sizeof times[0] };
    struct err err = ERR_INIT;
    struct rs_events ev = EVENTS_INIT;
    struct fit *f = NULL;
    struct calendar utc = { .n = 0 };
    char user[8], item[8];
    double total = 0, mass = 0;
    for (int i = 0; i < N; i++)
        for (int n = 0; n < times[i]; n++, total++) {
            snprintf(user, sizeof user, "u%d", i / 2);
            snprintf(item, sizeof item, "i%d", i);
            events_add(&ev, str_c(user), str_c(item), n, &err);
        }
    events_sort(&ev, &err);
    struct fit_opts o = fit_defaults(RT_GAMMA_RATES);
    o.k = 2;
    o.threads = 1;
    fit_open(&ev, &o, &utc, &f, &err);
    fit_start_values(f, &err);
    ok(&err, "open");
    for (int i = 0; i < N; i++) {
        real got;
        view_counts(f->v, (uint64_t)i, 1, &got);
        cr_expect(got == times[i], "pair %d: %g events of %d", i, got, times[i]);
    }
    cr_expect(view_record_bytes(f->v) == 12 && view_event_bytes(f->v) == 0);
    sweep_users(f);
    for (uint32_t u = 0; u < f->nu; u++)
        for (uint32_t k = 0; k < f->k; k++)
            mass += f->theta_shape[u * f->stride + k] - o.a_theta;
    cr_expect(fabs(mass - total) < 1e-9 * total, "%.10f of %g events", mass, total);
    fit_close(f);
    events_clear(&ev);
}

/* At the fixed point no shape and no tau moves, so the bound's derivative with respect to each node
 * is zero: tested by the bound itself, which a change of any tau's rate or shape lowers. */
Test(recsys_f64, at_convergence_the_bound_is_at_its_top)
{
    struct err err = ERR_INIT;
    struct rs_events ev = EVENTS_INIT;
    struct fit *f = NULL;
    struct calendar utc = { .n = 0 };
    small_events(&ev, 11, 5, 4, 150, false);
    struct fit_opts o = opts_of("hrpf", NULL, MEASURE_WALL);
    fit_open(&ev, &o, &utc, &f, &err);
    fit_start_values(f, &err);
    for (int it = 0; it < 4000; it++)
        fit_sweep(f, &err);
    ok(&err, "hrpf");
    const double h = 1e-4;
    size_t n_shape = (size_t)f->nu * f->stride;
    real *shape = malloc(n_shape * sizeof *shape);
    memcpy(shape, f->theta_shape, n_shape * sizeof *shape);
    for (uint32_t i = 0; i < f->nu * f->n_scale; i++)
        for (int what = 0; what < 2; what++) {
            double *v = what ? &f->tau_rate[i] : &f->tau_shape[i], was = *v, bound[2];
            real *tab = &f->tau_tab[i / f->n_scale * f->x_stride + i % f->n_scale], tab_was = *tab;
            for (int side = 0; side < 2; side++) {
                double kl, comp;
                *v = was * exp(side ? h : -h);
                *tab = exp_digamma(f->tau_shape[i]) / f->tau_rate[i];
                bound_parts(f, &kl, &comp, &err);
                f->want_ln = true;
                sweep_users(f); /* also puts new shapes where these were */
                memcpy(f->theta_shape, shape, n_shape * sizeof *shape);
                bound[side] = f->ln_z - comp - kl;
                *v = was;
                *tab = tab_was;
            }
            double slope = (bound[1] - bound[0]) / (2 * h);
            cr_expect(fabs(slope) < 1e-5, "tau %u %s: slope %.3e", i, what ? "rate" : "shape",
                      slope);
        }
    free(shape);
    fit_close(f);
    events_clear(&ev);
}
