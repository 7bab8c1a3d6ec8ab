/* Fits of the product's build: planted truths, invariances, hostile inputs. */
#include "make.h"
#include "recsys/heldout.h"
#include "recsys/live.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct plant_opts small(void)
{
    struct plant_opts p = plant_defaults();
    p.users = 60;
    p.items = 50;
    p.k = 3;
    p.days = 60;
    p.events_per_user = 40;
    return p;
}

static struct fit_opts fit_of(unsigned terms, const struct plant_opts *p)
{
    struct fit_opts o = fit_defaults(terms);
    memcpy(o.scale, p->scale, sizeof o.scale);
    o.n_scale = p->n_scale;
    o.k = 8;
    o.iters = 40;
    o.threads = 1;
    return o;
}

static bool same_arrays(const struct rmodel *a, const struct rmodel *b)
{
    uint64_t row = (uint64_t)a->n_feat * a->stride;
    return memcmp(a->theta, b->theta, a->n_user * row * sizeof(float)) == 0 &&
           memcmp(a->beta, b->beta, a->n_item * row * sizeof(float)) == 0 &&
           (!a->tau || memcmp(a->tau, b->tau, (size_t)a->n_user * a->n_scale * sizeof(float)) == 0);
}

Test(recsys_fit, one_two_and_four_threads_agree_bit_for_bit)
{
    static const char *const variants[] = { "hpf", "hrpf", "drpf", "srpf", "iirpf" };
    struct plant_opts p = small();
    struct rmodel *truth;
    struct simulated s;
    p.terms |= RT_SOCIAL;
    make_planted(&p, SIM_CLUSTERS, &truth, &s);
    struct follows w = { 0 };
    for (uint32_t u = 0; u + 1 < truth->n_user; u++) {
        struct err err = ERR_INIT;
        char line[64];
        snprintf(line, sizeof line, "u%04u\tu%04u\n", u + 1, u + 2);
        follows_parse(&w, str_c(line), "edges", &s.ev, false, &err);
    }
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        struct err err = ERR_INIT;
        unsigned terms;
        rmodel_terms(variants[i], &terms, &err);
        struct fit_opts o = fit_of(terms, &p);
        o.follows = &w;
        o.iters = 8;
        struct rmodel *one = make_fit(&s.ev, &o);
        for (uint32_t t = 2; t <= 4; t += 2) {
            o.threads = t;
            struct rmodel *more = make_fit(&s.ev, &o);
            cr_expect(same_arrays(one, more), "%s with %u threads", variants[i], t);
            rmodel_free(more);
        }
        rmodel_free(one);
    }
    follows_clear(&w);
    simulated_clear(&s);
    rmodel_free(truth);
}

/* Relative errors: of the branching ratio (mean tau), of each user's tau (root mean square), and of
 * the rates theta . beta of all pairs, weighted by the rate. */
struct errors {
    double branching, tau, base;
};

static struct errors errors_of(const struct rmodel *m, const struct rmodel *truth)
{
    double got = 0, want = 0, square = 0, diff = 0, sum = 0;
    for (uint32_t u = 0; u < truth->n_user; u++) {
        double a = 0, b = 0; /* all scales of a user: how many events one event causes */
        for (uint32_t k = 0; k < truth->n_scale; k++) {
            a += (double)m->tau[u * truth->n_scale + k];
            b += (double)truth->tau[u * truth->n_scale + k];
        }
        got += a;
        want += b;
        square += (a - b) * (a - b);
        for (uint32_t q = 0; q < truth->n_item; q++) {
            double x = rmodel_base(m, u, q, 0) * truth->unit_s / m->unit_s;
            double y = rmodel_base(truth, u, q, 0);
            diff += fabs(x - y);
            sum += y;
        }
    }
    return (struct errors){ fabs(got - want) / want, sqrt(square * truth->n_user) / want,
                            diff / sum };
}

/* Maximum-likelihood-like estimates err like 1 / sqrt(T): sixteen times the time, a quarter of the
 * error. tau per user: a user with n events has a standard error near sqrt(tau / n), so 0.4 +- 0.02
 * at 640 immigrants; the prior helps where there is little time, so the ratio is above 1/4, and at
 * most 1/2 is asked for. The mean over users is six times as sure. */
Test(recsys_fit, planted_parameters_come_back_and_better_with_more_time)
{
    enum { SEEDS = 3 };
    struct errors mean[2] = { { 0 } };
    for (int seed = 0; seed < SEEDS; seed++)
        for (int i = 0; i < 2; i++) {
            struct plant_opts p = small();
            struct rmodel *truth;
            struct simulated s;
            p.seed = 31 + (uint64_t)seed;
            p.days = i ? 960 : 60;
            p.events_per_user = i ? 640 : 40;
            make_planted(&p, SIM_CLUSTERS, &truth, &s);
            struct fit_opts o = fit_of(RT_GAMMA_RATES | RT_SELF, &p);
            o.k = 3;
            o.iters = 100;
            o.seed = 1 + (uint64_t)seed;
            struct rmodel *m = make_fit(&s.ev, &o);
            struct errors e = errors_of(m, truth);
            mean[i].branching += e.branching / SEEDS;
            mean[i].tau += e.tau / SEEDS;
            mean[i].base += e.base / SEEDS;
            rmodel_free(m);
            simulated_clear(&s);
            rmodel_free(truth);
        }
    cr_expect(mean[1].branching < 0.06, "branching ratio is off by %.3f, with less time by %.3f",
              mean[1].branching, mean[0].branching);
    cr_expect(mean[1].tau < 0.5 * mean[0].tau && mean[1].tau < 0.15,
              "tau of a user is off by %.3f, with less time by %.3f", mean[1].tau, mean[0].tau);
    cr_expect(mean[1].base < 0.5 * mean[0].base, "base is off by %.3f, with less time by %.3f",
              mean[1].base, mean[0].base);
}

Test(recsys_fit, the_unit_of_time_and_the_names_do_not_matter)
{
    struct plant_opts p = small();
    struct rmodel *truth;
    struct simulated s;
    struct rs_events slow = EVENTS_INIT, backwards = EVENTS_INIT;
    struct err err = ERR_INIT;
    make_planted(&p, SIM_CLUSTERS, &truth, &s);
    for (uint64_t i = 0; i < s.ev.n; i++)
        events_add(&slow, ids_name(&s.ev.users, s.ev.user[i]), ids_name(&s.ev.items, s.ev.item[i]),
                   1e5 + 64 * (s.ev.time[i] - s.ev.time[0]), &err);
    for (uint64_t i = s.ev.n; i-- > 0;) /* rows in reverse: other numbers */
        events_add(&backwards, ids_name(&s.ev.users, s.ev.user[i]),
                   ids_name(&s.ev.items, s.ev.item[i]), s.ev.time[i], &err);
    events_sort(&backwards, &err);
    struct fit_opts o = fit_of(RT_GAMMA_RATES | RT_SELF, &p);
    o.k = 1; /* one factor: the optimum does not depend on the noise at the start */
    o.iters = 300;
    struct rmodel *a = make_fit(&s.ev, &o), *c = make_fit(&backwards, &o);
    for (uint32_t m = 0; m < o.n_scale; m++)
        o.scale[m].w /= 64;
    struct rmodel *b = make_fit(&slow, &o);
    for (uint32_t u = 0; u < a->n_user; u += 7)
        for (uint32_t q = 0; q < a->n_item; q += 5) {
            struct str un = ids_name(&a->users, u), qn = ids_name(&a->items, q);
            double x = rmodel_base(a, u, q, 0) / a->unit_s;
            double y = 64 * rmodel_base(b, ids_find(&b->users, un), ids_find(&b->items, qn), 0) /
                       b->unit_s;
            double z =
                rmodel_base(c, ids_find(&c->users, un), ids_find(&c->items, qn), 0) / c->unit_s;
            cr_expect(fabs(x - y) < 2e-3 * x && fabs(x - z) < 2e-3 * x, "%u %u: %g %g %g", u, q, x,
                      y, z);
        }
    rmodel_free(a);
    rmodel_free(b);
    rmodel_free(c);
    events_clear(&slow);
    events_clear(&backwards);
    simulated_clear(&s);
    rmodel_free(truth);
}

/* Whatever comes in, numbers stay finite. */
static void survives(struct rs_events *ev, const struct fit_opts *o, const char *what)
{
    struct err err = ERR_INIT;
    struct fit_result res;
    struct rmodel *m = NULL;
    events_sort(ev, &err);
    enum status st = fit_run(ev, o, NULL, &m, &res, &err);
    cr_expect(st == ST_OK, "%s: %s", what, err.msg);
    for (uint64_t i = 0; m && i < (uint64_t)m->n_user * m->stride; i++)
        cr_assert(isfinite((double)m->theta[i]) && m->theta[i] >= 0, "%s", what);
    for (uint64_t i = 0; m && m->tau && i < (uint64_t)m->n_user * m->n_scale; i++)
        cr_assert(isfinite((double)m->tau[i]) && m->tau[i] >= 0, "%s", what);
    rmodel_free(m);
    events_clear(ev);
}

Test(recsys_fit, hostile_events_are_fitted_or_refused_but_never_break_it)
{
    for (int measure = 0; measure < 2; measure++) {
        struct err err = ERR_INIT;
        struct rs_events ev = EVENTS_INIT;
        struct fit_opts o = fit_defaults(RT_GAMMA_RATES | RT_SELF);
        if (measure)
            fit_best(&o);
        o.k = 1;
        o.iters = 10;
        o.threads = 1;
        for (int i = 0; i < 50; i++)
            events_add(&ev, STR("a"), STR("x"), 7, &err);
        survives(&ev, &o, "all at one time");
        events_add(&ev, STR("a"), STR("x"), -5, &err);
        survives(&ev, &o, "one event");
        for (int i = 0; i < 20; i++) {
            char name[8];
            snprintf(name, sizeof name, "u%d", i);
            events_add(&ev, str_c(name), STR("x"), i, &err);
        }
        survives(&ev, &o, "one event of each user");
        events_add(&ev, STR("a"), STR("x"), 0, &err);
        events_add(&ev, STR("a"), STR("x"), 1e13, &err); /* w dt is far above 700 */
        events_add(&ev, STR("b"), STR("y"), -1e13, &err);
        survives(&ev, &o, "gaps beyond all kernels");
        o.a_theta = o.a_beta = o.a_tau = 0.05;
        for (int i = 0; i < 30; i++)
            events_add(&ev, STR("a"), i % 2 ? STR("x") : STR("y"), i * 1e-3, &err);
        survives(&ev, &o, "shapes near zero");
        uint32_t at;
        ids_add(&ev.users, STR("nobody"), &at, &err);
        ids_add(&ev.items, STR("nothing"), &at, &err);
        events_add(&ev, STR("a"), STR("x"), 1, &err);
        events_add(&ev, STR("a"), STR("x"), 2, &err);
        survives(&ev, &o, "a user and an item without events");
        o.k = FIT_K_MAX + 1;
        cr_expect(fit_check(&o, &err) == ST_RANGE);
        err_clear(&err);
        o.k = 1;
        o.a_tau = (double)NAN;
        cr_expect(fit_check(&o, &err) == ST_RANGE);
    }
}

/* Batches of users reach nearly what whole sweeps do, by the likelihood of later events. */
Test(recsys_fit, batches_come_close_to_whole_sweeps)
{
    struct plant_opts p = small();
    struct rmodel *truth;
    struct simulated s;
    struct err err = ERR_INIT;
    p.users = 200;
    make_planted(&p, SIM_CLUSTERS, &truth, &s);
    struct rs_events early = EVENTS_INIT, late = EVENTS_INIT;
    events_like(&s.ev, &early, &err);
    events_like(&s.ev, &late, &err);
    for (uint64_t i = 0; i < s.ev.n; i++)
        events_take(i < s.ev.n * 9 / 10 ? &early : &late, &s.ev, i, &err);
    struct fit_opts o = fit_of(RT_GAMMA_RATES | RT_SELF, &p);
    o.k = 3;
    o.iters = 60;
    struct rmodel *whole = make_fit(&early, &o);
    o.batch = 50;
    o.iters = 25;
    struct rmodel *batch = make_fit(&early, &o);
    struct heldout *h;
    cr_assert(heldout_open(&early, &late, false, &h, &err) == ST_OK);
    double a = heldout_score(h, whole), b = heldout_score(h, batch), t = heldout_score(h, truth);
    cr_expect(b > a - 0.1, "batches %.4f, whole sweeps %.4f, truth %.4f", b, a, t);
    cr_expect(a < t + 0.02 && a > t - 0.6, "whole sweeps %.4f, truth %.4f", a, t);
    heldout_close(h);
    rmodel_free(whole);
    rmodel_free(batch);
    events_clear(&early);
    events_clear(&late);
    simulated_clear(&s);
    rmodel_free(truth);
}

Test(recsys_fit, scales_that_are_wrong_move_to_the_true_ones)
{
    struct plant_opts p = small();
    struct rmodel *truth;
    struct simulated s;
    p.n_scale = 1;
    p.scale[0] = (struct rkernel){ .w = 1.0 / 7200, .order = 1 };
    p.events_per_user = 100;
    make_planted(&p, SIM_CLUSTERS, &truth, &s);
    struct fit_opts o = fit_of(RT_GAMMA_RATES | RT_SELF, &p);
    o.scale[0].w = 1.0 / 60000;
    o.learn_every = 2;
    o.iters = 80;
    struct rmodel *m = make_fit(&s.ev, &o);
    double mean_s = m->unit_s / m->scale[0].w;
    cr_expect(fabs(mean_s - 7200) < 500, "mean delay %.0f s, planted 7200 s", mean_s);
    rmodel_free(m);
    simulated_clear(&s);
    rmodel_free(truth);
}
