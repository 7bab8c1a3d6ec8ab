/* A fit that was killed goes on from its checkpoint file to the same bytes as one that ran through,
 * wherever it was killed; what is no checkpoint of this fit is refused. */
#include "make.h"
#include "recsys/evaluate.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SWEEPS = 14 };
static const uint32_t kills[] = { 1, 4, 5, 10, 13, SWEEPS };
enum { N_KILL = sizeof kills / sizeof kills[0] };

struct saver {
    const char *dir;
};

static const char *checkpoint_of(const char *dir, uint32_t sweep)
{
    char name[32];
    snprintf(name, sizeof name, "at%u.rpf", sweep);
    return tmp_path(dir, name);
}

static enum status save(void *ctx, const struct rmodel *m, uint32_t sweep, struct err *err)
{
    const struct saver *s = ctx;
    for (size_t i = 0; i < N_KILL && err->code == ST_OK; i++)
        if (kills[i] == sweep)
            rmodel_save(m, checkpoint_of(s->dir, sweep), err);
    return err->code;
}

/* Fits and saves what came out as NAME. */
static struct fit_result fit_to(const struct rs_events *ev, const struct fit_opts *o,
                                const char *dir, const char *name)
{
    struct err err = ERR_INIT;
    struct saver s = { dir };
    struct fit_watch w = { .ctx = &s, .checkpoint = save, .checkpoint_every = 1 };
    struct fit_result res;
    struct rmodel *m = NULL;
    cr_assert(fit_run(ev, o, &w, &m, &res, &err) == ST_OK, "%s: %s", name, err.msg);
    cr_assert(rmodel_save(m, tmp_path(dir, name), &err) == ST_OK, "%s", err.msg);
    rmodel_free(m);
    return res;
}

static struct rmodel *loaded(const char *path)
{
    struct err err = ERR_INIT;
    struct rmodel *m = NULL;
    cr_assert(rmodel_load(path, &m, &err) == ST_OK, "%s", err.msg);
    return m;
}

static bool same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* One fit that runs through; one from each of its checkpoints, as if it had been killed there. */
static struct fit_result check(const char *what, const struct rs_events *ev,
                               const struct fit_opts *o)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct fit_result whole = fit_to(ev, o, dir, "whole.rpf");
    for (size_t i = 0; i < N_KILL && kills[i] <= whole.sweeps; i++) {
        struct rmodel *m = loaded(checkpoint_of(dir, kills[i]));
        struct fit_opts again = *o;
        again.warm = m;
        again.resume = true;
        struct fit_result rest = fit_to(ev, &again, dir, "rest.rpf");
        cr_expect(tmp_same(tmp_path(dir, "whole.rpf"), tmp_path(dir, "rest.rpf")),
                  "%s killed after sweep %u ends elsewhere", what, kills[i]);
        cr_expect(rest.sweeps == whole.sweeps && rest.early == whole.early &&
                      same_number(rest.elbo, whole.elbo) &&
                      same_number(rest.heldout, whole.heldout) &&
                      rest.self_share == whole.self_share && rest.radius == whole.radius,
                  "%s killed after sweep %u: %u sweeps, ELBO %g, held-out %g; unbroken %u, %g, %g",
                  what, kills[i], rest.sweeps, rest.elbo, rest.heldout, whole.sweeps, whole.elbo,
                  whole.heldout);
        rmodel_free(m);
    }
    tmp_remove(dir);
    return whole;
}

/* ---- events, friends, clusters ---- */

static struct plant_opts small(void)
{
    struct plant_opts p = plant_defaults();
    p.users = 40;
    p.items = 30;
    p.k = 3;
    p.days = 60;
    p.events_per_user = 30;
    p.terms |= RT_SOCIAL;
    return p;
}

static void make(struct simulated *s, struct follows *w)
{
    struct err err = ERR_INIT;
    struct plant_opts p = small();
    struct rmodel *truth;
    make_planted(&p, SIM_CLUSTERS, &truth, s);
    struct event_attr *a = &s->ev.attr[s->ev.n_attr++];
    a->name = str_dup(STR("kind"));
    a->of = calloc(s->ev.cap, sizeof *a->of);
    for (uint64_t i = 0; i < s->ev.n; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%u", s->ev.item[i] % 3);
        ids_add(&a->value, str_c(name), &a->of[i], &err);
    }
    for (uint32_t u = 0; u + 1 < truth->n_user; u++) {
        char line[64];
        snprintf(line, sizeof line, "u%04u\tu%04u\n", u + 1, u + 2);
        follows_parse(w, str_c(line), "edges", &s->ev, false, &err);
    }
    cr_assert(err.code == ST_OK, "%s", err.msg);
    rmodel_free(truth);
}

static struct fit_opts opts_of(const char *variant, const struct follows *w)
{
    struct err err = ERR_INIT;
    unsigned terms;
    cr_assert(rmodel_terms(variant, &terms, &err) == ST_OK);
    struct fit_opts o = fit_defaults(terms);
    o.k = 5; /* rows with padding */
    o.iters = SWEEPS;
    o.eval_every = 5;
    o.threads = 2;
    o.follows = w;
    o.cluster = "kind";
    o.scale[0] = (struct rkernel){ 1.0 / 7200, 1, 0 };
    o.scale[1] = (struct rkernel){ 1.0 / 70000, 2, 0 };
    o.scale[2] = (struct rkernel){ 1.0 / 500000, 1, 1 };
    o.n_scale = 3;
    return o;
}

Test(recsys_resume, every_variant_ends_with_the_same_bytes_wherever_it_was_killed)
{
    static const char *const variants[] = { "pf",   "hpf",   "hrpf",  "drpf",
                                            "srpf", "dsrpf", "iirpf", "xiirpf" };
    struct simulated s;
    struct follows w = { 0 };
    make(&s, &w);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        struct fit_opts o = opts_of(variants[i], &w);
        o.pooled = i % 2;
        check(variants[i], &s.ev, &o);
    }
    follows_clear(&w);
    simulated_clear(&s);
}

Test(recsys_resume, so_do_fits_in_batches_with_learned_scales_and_by_activity)
{
    struct simulated s;
    struct follows w = { 0 };
    make(&s, &w);
    struct fit_opts o = opts_of("hrpf", &w);
    o.batch = 16;
    check("in batches", &s.ev, &o);
    o = opts_of("hrpf", &w);
    o.n_scale = 2;
    o.learn_every = 3;
    o.prune = 0.01;
    check("learned scales", &s.ev, &o);
    o = opts_of("srpf", &w);
    o.measure = MEASURE_ACTIVITY;
    check("by activity", &s.ev, &o);
    follows_clear(&w);
    simulated_clear(&s);
}

/* The model that is kept may be one of before the kill. */
Test(recsys_resume, a_fit_that_held_out_events_stop_keeps_the_same_model)
{
    struct err err = ERR_INIT;
    struct simulated s;
    struct follows w = { 0 };
    struct split cut;
    make(&s, &w);
    cr_assert(split_events(&s.ev, SPLIT_GLOBAL, 0.2, &cut, &err) == ST_OK, "%s", err.msg);
    struct fit_opts o = opts_of("hrpf", NULL);
    o.heldout = &cut.test;
    o.eval_every = 1;
    o.patience = 0;
    check("never stopped", &cut.train, &o);
    o.patience = 6;
    o.k = 24; /* overfits soon */
    o.iters = 60;
    struct fit_result whole = check("stopped", &cut.train, &o);
    cr_expect(whole.early && whole.sweeps > kills[2], "%u sweeps show nothing", whole.sweeps);
    split_clear(&cut);
    follows_clear(&w);
    simulated_clear(&s);
}

/* ---- what is no checkpoint of this fit ---- */

static void expect_refused(const struct rs_events *ev, const struct fit_opts *o,
                           const struct rmodel *from, enum status code, const char *says)
{
    struct err err = ERR_INIT;
    struct fit_opts again = *o;
    struct fit_result res;
    struct rmodel *m = NULL;
    again.warm = from;
    again.resume = true;
    cr_expect(fit_run(ev, &again, NULL, &m, &res, &err) == code, "%d", (int)err.code);
    cr_expect(strstr(err.msg, says), "%s", err.msg);
    cr_expect(m == NULL);
}

Test(recsys_resume, other_settings_other_events_and_models_are_refused)
{
    struct err err = ERR_INIT;
    char dir[FILE_PATH_MAX];
    struct simulated s;
    struct follows w = { 0 };
    make(&s, &w);
    cr_assert(tmp_make(dir));
    struct fit_opts o = opts_of("iirpf", &w), other;
    fit_to(&s.ev, &o, dir, "whole.rpf");
    struct rmodel *whole = loaded(tmp_path(dir, "whole.rpf")), *at = loaded(checkpoint_of(dir, 4));
    expect_refused(&s.ev, &o, whole, ST_ARG, "no checkpoint");
    other = o;
    other.a_phi = 2;
    expect_refused(&s.ev, &other, at, ST_ARG, "other settings");
    other = o;
    other.scale[1].w *= 1.5;
    expect_refused(&s.ev, &other, at, ST_ARG, "other settings");
    other = o;
    other.seed = 2;
    expect_refused(&s.ev, &other, at, ST_ARG, "other settings");
    w.source[0] += 1;
    expect_refused(&s.ev, &o, at, ST_ARG, "other settings");
    w.source[0] -= 1;
    struct rs_events back = EVENTS_INIT; /* the same events, names counted from the end */
    for (uint64_t i = s.ev.n; i-- > 0;)
        events_add(&back, ids_name(&s.ev.users, s.ev.user[i]), ids_name(&s.ev.items, s.ev.item[i]),
                   s.ev.time[i], &err);
    cr_assert(events_sort(&back, &err) == ST_OK);
    o = opts_of("hrpf", NULL);
    fit_to(&s.ev, &o, dir, "hrpf.rpf");
    struct rmodel *hrpf = loaded(checkpoint_of(dir, 4));
    cr_expect(rs_data_hash(&back) == rs_data_hash(&s.ev));
    expect_refused(&back, &o, hrpf, ST_ARG, "another order");
    rmodel_free(hrpf);
    events_clear(&back);
    o = opts_of("iirpf", &w);
    struct fit_opts taken = opts_of("iirpf", &w);
    taken.scale[1].w = 1;
    taken.n_scale = 1;
    taken.a_tau = 7;
    cr_expect(fit_chosen(at, &taken, &err) == ST_OK, "%s", err.msg);
    cr_expect(taken.n_scale == 3 && taken.scale[1].w == o.scale[1].w && taken.a_tau == o.a_tau);
    cr_expect(fit_chosen(whole, &taken, &err) == ST_FORMAT);
    rmodel_free(whole);
    rmodel_free(at);
    tmp_remove(dir);
    follows_clear(&w);
    simulated_clear(&s);
}

/* Cut anywhere, or with a rate that is none: refused, never read past its end. */
Test(recsys_resume, a_damaged_state_is_refused)
{
    char dir[FILE_PATH_MAX];
    struct simulated s;
    struct follows w = { 0 };
    make(&s, &w);
    cr_assert(tmp_make(dir));
    struct fit_opts o = opts_of("xiirpf", &w);
    fit_to(&s.ev, &o, dir, "whole.rpf");
    struct rmodel *at = loaded(checkpoint_of(dir, 4)), cut = *at;
    for (cut.n_state = 1; cut.n_state < at->n_state; cut.n_state += 1 + at->n_state / 64)
        expect_refused(&s.ev, &o, &cut, ST_FORMAT, "shorter");
    double *state = (double *)at->state, was = state[at->n_state / 2];
    state[at->n_state / 2] = (double)NAN;
    expect_refused(&s.ev, &o, at, ST_FORMAT, "holds nan");
    state[at->n_state / 2] = was;
    cut = *at;
    cut.n_state--;
    expect_refused(&s.ev, &o, &cut, ST_FORMAT, "shorter");
    rmodel_free(at);
    tmp_remove(dir);
    follows_clear(&w);
    simulated_clear(&s);
}
