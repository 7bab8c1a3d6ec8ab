/* Folding in: the fixed point is that of the full update for one user with the items held. */
#include "recsys/fit.h"
#include "recsys/fold.h"
#include "tests/support/rs_toy.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { USERS = 4, ITEMS = 12, K = 3, EVENTS = 30 };

static double psi(double x)
{
    double r = 0;
    for (; x < 12; x++)
        r -= 1 / x;
    double y = 1 / (x * x);
    return r + log(x) - 0.5 / x - y * (1.0 / 12 - y * (1.0 / 120 - y * (1.0 / 252 - y / 240)));
}

static double kernel(struct rkernel k, double age)
{
    return k.order == 2 ? k.w * k.w * age * exp(-k.w * age) : k.w * exp(-k.w * age);
}
static double integral(struct rkernel k, double x)
{
    return k.order == 2 ? 1 - (1 + k.w * x) * exp(-k.w * x) : 1 - exp(-k.w * x);
}

/* What event j does at the time of event i, on an item. */
static double excites(const struct rmodel *m, const struct fold_event *e, size_t n, size_t i,
                      size_t j, uint32_t item, int s)
{
    double age = (e[i].t - e[j].t) / m->unit_s;
    if (e[j].item != item || !(age > 0))
        return 0;
    if (!m->scale[s].last_only)
        return (double)e[j].weight * kernel(m->scale[s], age);
    for (size_t k = 0; k < n; k++) /* the last one before, of equal ones the one that comes last */
        if (e[k].item == item && e[k].t < e[i].t &&
            (e[k].t > e[j].t || (e[k].t == e[j].t && k > j)))
            return 0;
    return kernel(m->scale[s], age);
}

/* Its part of the compensator: over time, or at all of the user's events (activity). */
static double compensated(const struct rmodel *m, const struct fold_event *e, size_t n, size_t j,
                          int s, const struct fold_opts *o)
{
    double sum = 0, until = o->end_s;
    if (m->activity) {
        for (size_t i = 0; i < n; i++)
            sum += excites(m, e, n, i, j, e[j].item, s);
        return sum * (o->end_s - o->start_s) / m->unit_s / (double)n;
    }
    for (size_t k = 0; m->scale[s].last_only && k < n; k++)
        if (e[k].item == e[j].item && (e[k].t > e[j].t || (e[k].t == e[j].t && k > j)) &&
            e[k].t < until)
            until = e[k].t;
    double w = m->scale[s].last_only ? 1 : (double)e[j].weight;
    return w * integral(m->scale[s], (until - e[j].t) / m->unit_s);
}

/* Straight from the update equations: every event looks at every other. */
static void by_definition(const struct rmodel *m, const struct fold_event *e, size_t n,
                          const struct fold_opts *o, double theta[K], double tau[2])
{
    double shape[K], rate[K], log_[K], tl[2] = { 0.3, 0.3 }, eta = 1,
                                       d = (o->end_s - o->start_s) / m->unit_s;
    for (int k = 0; k < K; k++)
        log_[k] = 0.1;
    for (int round = 0; round < 4000; round++) {
        double c[2] = { 0 }, b[2] = { 0 }, sum = 0;
        for (int k = 0; k < K; k++)
            shape[k] = m->a_theta;
        for (size_t i = 0; i < n; i++) {
            double z = 0, g[2] = { 0 };
            const float *beta = m->beta_log + (size_t)e[i].item * m->stride;
            for (size_t j = 0; j < n; j++)
                for (int s = 0; s < 2; s++)
                    g[s] += excites(m, e, n, i, j, e[i].item, s);
            for (int k = 0; k < K; k++)
                z += log_[k] * (double)beta[k];
            for (int s = 0; s < 2; s++) {
                z += tl[s] * g[s];
                b[s] += compensated(m, e, n, i, s, o);
            }
            for (int k = 0; k < K; k++)
                shape[k] += log_[k] * (double)beta[k] / z;
            for (int s = 0; s < 2; s++)
                c[s] += tl[s] * g[s] / z;
        }
        for (int k = 0; k < K; k++) {
            rate[k] = eta + d * m->beta_sum[k];
            theta[k] = shape[k] / rate[k];
            log_[k] = exp(psi(shape[k])) / rate[k];
            sum += theta[k];
        }
        eta = (m->a_hyper + K * m->a_theta) / (m->b_hyper + sum);
        for (int s = 0; s < 2; s++) {
            tau[s] = (m->a_tau + c[s]) / (m->tau_rate[s] + b[s]);
            tl[s] = exp(psi(m->a_tau + c[s])) / (m->tau_rate[s] + b[s]);
        }
    }
}

static void check_fixed_point(bool last_only, bool activity)
{
    unsigned terms = RT_GAMMA_RATES | RT_SELF;
    struct rmodel *m = toy_rmodel(terms, USERS, ITEMS, K, 3);
    if (last_only)
        toy_last_only(m);
    m->activity = activity;
    struct fold_event e[EVENTS];
    struct rng r = { 17 };
    struct err err = ERR_INIT;
    for (int i = 0; i < EVENTS; i++)
        e[i] = (struct fold_event){ m->end_s - 3600 * (double)rng_below(&r, 200),
                                    (uint32_t)rng_below(&r, i % 2 ? 3 : ITEMS), i % 4 ? 1 : 3 };
    struct fold_opts o = {
        .start_s = m->end_s - 3600 * 250.0, .end_s = m->end_s, .rounds = 4000, .tolerance = 1e-14
    };
    struct folded f;
    double theta[K], tau[2];
    by_definition(m, e, EVENTS, &o, theta, tau);
    cr_assert_eq(fold_user(m, e, EVENTS, &o, &f, &err), ST_OK);
    for (int k = 0; k < K; k++)
        cr_expect(fabs((double)f.theta[k] - theta[k]) < 2e-5 * theta[k] + 1e-9, "theta %d: %g, %g",
                  k, (double)f.theta[k], theta[k]);
    for (int s = 0; s < 2; s++)
        cr_expect(fabs((double)f.tau[s] - tau[s]) < 2e-5 * tau[s],
                  "last %d activity %d tau %d: %g, %g", last_only, activity, s, (double)f.tau[s],
                  tau[s]);
    folded_clear(&f);
    rmodel_free(m);
}

Test(fold, the_fixed_point_is_that_of_the_update_equations)
{
    for (int i = 0; i < 4; i++)
        check_fixed_point(i & 1, i & 2);
}

/* The other way round (dossier 5.10, 10): where a whole fit has come to rest, folding a user in
 * with its items gives the factors and the excitation that the fit has for that user. */
static void expect_user(const struct rmodel *m, const struct rs_events *ev, uint32_t u,
                        const char *what)
{
    struct err err = ERR_INIT;
    struct fold_event e[400];
    struct folded f;
    size_t n = 0;
    for (uint64_t i = 0; i < ev->n; i++)
        if (ev->user[i] == u)
            e[n++] = (struct fold_event){ ev->time[i], ev->item[i], 1 };
    struct fold_opts o = {
        .start_s = m->user_start[u], .end_s = m->end_s, .rounds = 4000, .tolerance = 1e-13
    };
    cr_assert_eq(fold_user(m, e, n, &o, &f, &err), ST_OK, "%s", err.msg);
    for (uint32_t k = 0; k < m->n_feat * m->stride; k++)
        cr_expect(fabs((double)(f.theta[k] - m->theta[u * m->n_feat * m->stride + k])) <
                      2e-3 * (double)f.theta[k] + 1e-5,
                  "%s, user %u, factor %u: %g folded in, %g fitted", what, u, k, (double)f.theta[k],
                  (double)m->theta[u * m->n_feat * m->stride + k]);
    for (uint32_t s = 0; s < m->n_scale; s++)
        cr_expect(fabs((double)(f.tau[s] - m->tau[u * m->n_scale + s])) <
                      2e-3 * (double)f.tau[s] + 1e-6,
                  "%s, user %u, scale %u: %g folded in, %g fitted", what, u, s, (double)f.tau[s],
                  (double)m->tau[u * m->n_scale + s]);
    folded_clear(&f);
}

Test(fold, where_a_fit_has_come_to_rest_each_user_folds_in_to_what_it_has)
{
    static const struct {
        const char *name;
        unsigned terms;
        enum fit_measure measure;
    } of[] = { { "hrpf", RT_GAMMA_RATES | RT_SELF, MEASURE_WALL },
               { "hrpf by activity", RT_GAMMA_RATES | RT_SELF, MEASURE_ACTIVITY },
               { "drpf", RT_GAMMA_RATES | RT_SELF | RT_CALENDAR, MEASURE_WALL } };
    struct err err = ERR_INIT;
    struct rs_events ev = EVENTS_INIT;
    struct rng r = { 5 };
    for (int i = 0; i < 360; i++) {
        char user[8], item[8];
        uint32_t u = (uint32_t)rng_below(&r, 9);
        snprintf(user, sizeof user, "u%u", u);
        snprintf(item, sizeof item, "i%u", (u % 3 * 3 + (uint32_t)rng_below(&r, 4)) % 8);
        events_add(&ev, str_c(user), str_c(item), i * 4000.0 + (double)rng_below(&r, 3000), &err);
    }
    cr_assert(events_sort(&ev, &err) == ST_OK, "%s", err.msg);
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        struct fit_opts o = fit_defaults(of[i].terms);
        struct fit_result res;
        struct rmodel *m = NULL;
        o.k = 2;
        o.a_theta = o.a_beta = 1;
        o.measure = of[i].measure;
        o.start = START_FIRST;
        o.n_scale = 2;
        o.iters = 4000;
        o.eval_every = 0;
        o.threads = 1;
        cr_assert(fit_run(&ev, &o, NULL, &m, &res, &err) == ST_OK, "%s", err.msg);
        for (uint32_t u = 0; u < m->n_user; u++)
            expect_user(m, &ev, u, of[i].name);
        rmodel_free(m);
    }
    events_clear(&ev);
}

Test(fold, nobody_is_refused)
{
    static const char *const variants[] = { "pf", "hpf", "hrpf", "drpf", "iirpf", "xiirpf" };
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        unsigned terms = 0;
        struct err err = ERR_INIT;
        struct folded f;
        cr_assert_eq(rmodel_terms(variants[v], &terms, &err), ST_OK);
        struct rmodel *m = toy_rmodel(terms, USERS, ITEMS, 1, 3);
        struct fold_event e[3] = { { m->end_s - 10, 0, 1 },
                                   { m->end_s - 10, 0, 1 },
                                   { m->end_s - 1e7, 3, 1 } };
        struct fold_opts o = { .start_s = m->end_s - 3600, .end_s = m->end_s };
        for (size_t n = 0; n <= 3; n++) {
            cr_assert_eq(fold_user(m, e, n, &o, &f, &err), ST_OK);
            for (uint32_t i = 0; i < m->n_feat * m->stride; i++)
                cr_expect(isfinite(f.theta[i]) && f.theta[i] >= 0, "%s %u: %g", variants[v], i,
                          (double)f.theta[i]);
            folded_clear(&f);
        }
        rmodel_free(m);
    }
}
