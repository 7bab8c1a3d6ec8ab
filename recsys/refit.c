/* recsys/refit.c - see refit.h. */
#include "recsys/refit.h"

#include "engine/base/file.h"
#include "engine/base/num.h"
#include "recsys/tune.h"

#include <math.h>
#include <stdlib.h>

enum { TRACE_MAX = 2000, CHECKPOINT_EVERY = 20, RANK_MIN = 500, TUNED_MAX = 1 << 20 };
#define TUNE_SCORES    2e8 /* of items for events, in one trial at most */
#define CLUSTER_COLUMN "cluster"

/* ---- settings ---- */

struct reading {
    const json_t *o;
    char *param;
    struct err *err;
};

static bool bad(struct reading *r, const char *key)
{
    if (r->err->code != ST_OK && !r->param[0])
        snprintf(r->param, REFIT_PARAM_MAX, "%s", key);
    return r->err->code != ST_OK;
}

static void number(struct reading *r, const char *key, double min, double max, double *ret)
{
    if (r->err->code == ST_OK && json_get_f64(r->o, key, false, min, max, ret, r->err) != ST_OK) {
        r->err->code = r->err->code == ST_FORMAT ? ST_ARG : r->err->code;
        bad(r, key);
    }
}

static void whole(struct reading *r, const char *key, int64_t min, int64_t max, uint32_t *ret)
{
    int64_t v = *ret;
    if (r->err->code != ST_OK)
        return;
    if (json_get_i64(r->o, key, false, min, max, &v, r->err) != ST_OK)
        r->err->code = r->err->code == ST_FORMAT ? ST_ARG : r->err->code;
    *ret = (uint32_t)v;
    bad(r, key);
}

/* "1h", "7 days", or seconds. */
static enum status span(struct str s, double *ret, struct err *err)
{
    size_t n = 0;
    double v, unit = 1;
    s = str_trim(s);
    while (n < s.n && (s.p[n] == '.' || (s.p[n] >= '0' && s.p[n] <= '9')))
        n++;
    struct str rest = str_trim((struct str){ s.p + n, s.n - n });
    if (num_f64((struct str){ s.p, n }, "scale", 1e-3, 1e10, &v, err) != ST_OK ||
        (rest.n && events_unit(rest, &unit, err) != ST_OK))
        return err->code;
    *ret = v * unit;
    return ST_OK;
}

static void scales(struct reading *r, struct fit_opts *f)
{
    const json_t *list = json_object_get(r->o, "scales"), *v;
    size_t i;
    if (r->err->code != ST_OK || !list || json_is_null(list))
        return;
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > RSCALES_MAX) {
        err_set(r->err, ST_ARG, "'scales' must be a list of 1 to %d times like \"1h\", \"7d\"",
                RSCALES_MAX);
        bad(r, "scales");
        return;
    }
    f->n_scale = 0;
    json_array_foreach(list, i, v)
    {
        double s = json_is_number(v) ? json_number_value(v) : 0;
        if (json_is_string(v) && span(str_c(json_string_value(v)), &s, r->err) != ST_OK)
            break;
        if (!(s >= 1e-3 && s <= 1e10))
            err_set(r->err, ST_RANGE, "a scale must be between a millisecond and 300 years");
        f->scale[f->n_scale++] = (struct rkernel){ .w = 1 / s, .order = 1 };
    }
    bad(r, "scales");
}

static void variant(struct reading *r, struct fit_opts *f)
{
    struct str name = STR("hrpf");
    char text[16];
    unsigned terms;
    if (json_get_str(r->o, "variant", false, &name, r->err) != ST_OK)
        r->err->code = ST_ARG;
    snprintf(text, sizeof text, "%.*s", (int)name.n, name.p);
    if (r->err->code == ST_OK && rmodel_terms(text, &terms, r->err) == ST_OK) {
        *f = fit_defaults(terms);
        f->cluster = terms & RT_CLUSTERS ? CLUSTER_COLUMN : NULL;
    }
    bad(r, "variant");
}

/* Events tell no clusters, so the settings do: {"clusters":{"item":"its cluster", ...}}. */
static void clusters(struct reading *r, struct refit_opts *o)
{
    const json_t *map = json_object_get(r->o, "clusters"), *v;
    const char *item;
    bool wants = (o->fit.terms & RT_CLUSTERS) != 0;
    if (r->err->code != ST_OK)
        return;
    if (wants && (!json_is_object(map) || json_object_size(map) == 0))
        err_set(r->err, ST_ARG,
                "xiirpf needs 'clusters': an object that names each item's cluster, like "
                "{\"espresso\":\"cafe\",\"museum\":\"sights\"}");
    else if (map && !json_is_null(map) && !wants)
        err_set(r->err, ST_ARG, "'clusters' belong to the variant xiirpf");
    if (wants && r->err->code == ST_OK)
        json_object_foreach((json_t *)(uintptr_t)map, item,
                            v) if (!json_is_string(v) || json_string_length(v) == 0 ||
                                   json_string_length(v) > BATCH_NAME_MAX)
        {
            err_set(r->err, ST_ARG, "the cluster of '%.60s' must be a name of 1 to 256 bytes",
                    item);
            break;
        }
    bad(r, "clusters");
    o->clusters = wants ? map : NULL;
}

/* Now and not in the job: whoever named it reads the answer. */
static void check_zone(struct str zone, struct err *err)
{
    struct calendar *c = malloc(sizeof *c);
    if (err->code == ST_OK && !c)
        err_set(err, ST_NOMEM, "time zone");
    else if (err->code == ST_OK)
        calendar_open(c, zone, 0, 1, err);
    free(c);
}

enum status refit_settings(const json_t *config, struct refit_opts *ret,
                           char param[REFIT_PARAM_MAX], struct err *err)
{
    struct reading r = { .o = config, .param = param, .err = err };
    struct str zone = STR("");
    uint32_t seed = 1;
    param[0] = '\0';
    *ret = (struct refit_opts){
        .holdout = 0.1, .tune = TUNE_TRIALS, .activate = true, .evaluate = true
    };
    variant(&r, &ret->fit);
    whole(&r, "k", 1, FIT_K_MAX, &ret->fit.k);
    whole(&r, "iters", 1, 100000, &ret->fit.iters);
    whole(&r, "seed", 0, INT32_MAX, &seed);
    whole(&r, "threads", 0, 256, &ret->fit.threads);
    number(&r, "holdout", 0, 0.5, &ret->holdout);
    whole(&r, "tune", 0, TUNE_TRIALS_MAX, &ret->tune);
    scales(&r, &ret->fit);
    if (json_is_array(json_object_get(config, "scales")) || !(ret->fit.terms & RT_SELF))
        ret->tune = 0;
    clusters(&r, ret);
    ret->fit.seed = seed;
    if (err->code == ST_OK &&
        json_get_bool(config, "activate", false, &ret->activate, err) != ST_OK)
        err->code = ST_ARG;
    bad(&r, "activate");
    if (err->code == ST_OK &&
        json_get_bool(config, "evaluate", false, &ret->evaluate, err) != ST_OK)
        err->code = ST_ARG;
    bad(&r, "evaluate");
    if (err->code == ST_OK && json_get_str(config, "zone", false, &zone, err) != ST_OK)
        err->code = ST_ARG;
    snprintf(ret->zone, sizeof ret->zone, "%.*s", (int)zone.n, zone.p);
    check_zone(zone, err);
    bad(&r, "zone");
    struct follows any = { .n = 1 }; /* who follows whom is known when the fit begins */
    struct fit_opts probe = ret->fit;
    probe.follows = probe.terms & RT_SOCIAL ? &any : NULL;
    if (err->code == ST_OK)
        fit_check(&probe, err);
    return err->code;
}

/* ---- fitting ---- */

struct run {
    struct recsys *r;
    const struct refit_opts *o;
    const struct refit_watch *w;
    const char *phase;
    json_t *trace;
    volatile sig_atomic_t stop;
    struct rs_events all;
    struct split split;
    json_t *evaluation; /* NULL: none */
    struct follows follows;
    struct rmodel *m;
    struct fit_result first, last;
    struct fit_opts fit; /* o's, as chosen */
    json_t *tuned;       /* what was tried; NULL: nothing */
};

static void put(json_t *o, const char *key, double v)
{
    if (isfinite(v))
        json_object_set_new(o, key, json_real(v));
}

static void on_progress(void *ctx, const struct fit_progress *p)
{
    struct run *x = ctx;
    if (x->w->stop && x->w->stop(x->w->ctx))
        x->stop = 1;
    if (x->w->progress)
        x->w->progress(x->w->ctx, x->phase, p);
    if (!isfinite(p->elbo) || json_array_size(x->trace) >= TRACE_MAX)
        return;
    json_t *o = json_object();
    json_object_set_new(o, "phase", json_string(x->phase));
    json_object_set_new(o, "sweep", json_integer(p->sweep));
    put(o, "elbo", p->elbo);
    put(o, "heldout", p->heldout);
    put(o, "self_share", p->self_share);
    put(o, "radius", p->radius);
    json_array_append_new(x->trace, o);
}

static enum status on_checkpoint(void *ctx, const struct rmodel *m, uint32_t sweep, struct err *err)
{
    const struct run *x = ctx;
    char path[FILE_PATH_MAX];
    (void)sweep;
    if (file_path(path, err, "%s/checkpoint.rpf", x->w->dir) == ST_OK)
        rmodel_save(m, path, err);
    return err->code;
}

/* heldout: NULL for all events. Of two fits only the first is saved: the second goes through again
 * from its last checkpoint. resume: x->m is a checkpoint of this very fit. */
static enum status fit_once(struct run *x, const struct rs_events *ev,
                            const struct rs_events *heldout, bool resume, struct fit_result *res,
                            struct err *err)
{
    struct fit_opts o = x->fit;
    struct rmodel *m = NULL;
    struct fit_watch w = { .ctx = x, .progress = on_progress, .stop = &x->stop };
    if (x->w->dir && (heldout || !x->first.sweeps)) {
        w.checkpoint = on_checkpoint;
        w.checkpoint_every = CHECKPOINT_EVERY;
    }
    x->phase = heldout ? "held out" : "all";
    o.heldout = heldout;
    o.follows = o.terms & RT_SOCIAL ? &x->follows : NULL;
    o.zone = x->o->zone[0] ? x->o->zone : o.zone;
    o.warm = x->m;
    o.resume = resume;
    if (!heldout)
        o.patience = 0;
    if (fit_run(ev, &o, &w, &m, res, err) != ST_OK)
        return err->code;
    rmodel_free(x->m);
    x->m = m;
    return x->stop ? err_set(err, ST_CANCELLED, "the fit was stopped") : ST_OK;
}

/* A checkpoint of an interrupted run, and what it had tried: with the same events the fit goes on
 * from there, else its factors are where this one starts. */
static void load_checkpoint(struct run *x)
{
    char path[FILE_PATH_MAX];
    struct err none = ERR_INIT;
    struct buf text = BUF_INIT;
    if (x->w->dir && file_path(path, &none, "%s/checkpoint.rpf", x->w->dir) == ST_OK &&
        file_is_regular(path))
        rmodel_load(path, &x->m, &none);
    if (x->m && file_path(path, &none, "%s/tuned.json", x->w->dir) == ST_OK &&
        file_is_regular(path) && file_slurp(path, TUNED_MAX, &text, &none) == ST_OK)
        json_parse(buf_view(&text), path, &x->tuned, &none);
    buf_clear(&text);
}

/* ---- choosing settings ---- */

static void on_trial(void *ctx, uint32_t n, uint32_t of, const struct tune_trial *t)
{
    struct run *x = ctx;
    struct fit_progress p = {
        .sweep = n, .sweeps = of, .elbo = (double)NAN, .heldout = (double)NAN
    };
    (void)t;
    on_progress(x, &p);
}

/* Beside the checkpoint: a run that goes on from there does not try again. */
static enum status save_tuned(const struct run *x, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    if (x->tuned && x->w->dir && file_path(path, err, "%s/tuned.json", x->w->dir) == ST_OK &&
        json_write(x->tuned, &text, err) == ST_OK)
        file_replace(path, buf_view(&text), err);
    buf_clear(&text);
    return err->code;
}

static enum status choose(struct run *x, const struct rs_events *train, struct err *err)
{
    struct tune_opts t = tune_defaults();
    double most = TUNE_SCORES / ((double)train->items.n + 1);
    x->fit = x->o->fit;
    json_free(x->tuned);
    x->tuned = NULL;
    if (!x->o->tune)
        return ST_OK;
    struct tune_result *tried = malloc(sizeof *tried);
    if (!tried)
        return err_set(err, ST_NOMEM, "choosing settings");
    x->phase = "choosing settings";
    t.kind = SPLIT_GLOBAL;
    t.trials = x->o->tune;
    t.rank_max = most < RANK_MIN             ? RANK_MIN
                 : most < (double)t.rank_max ? (uint64_t)most
                                             : t.rank_max;
    t.progress = on_trial;
    t.ctx = x;
    t.stop = &x->stop;
    if (fit_tune(train, &t, &x->fit, tried, err) == ST_OK && x->stop)
        err_set(err, ST_CANCELLED, "the fit was stopped");
    if (err->code == ST_OK) {
        x->tuned = tune_json(&x->fit, tried);
        save_tuned(x, err);
    }
    free(tried);
    return err->code;
}

/* Goes on with an interrupted fit of these very events; false: there is none, or it cannot. */
static bool go_on(struct run *x, const struct rs_events *train, const struct rs_events *heldout,
                  struct fit_result *res, struct err *err)
{
    struct err none = ERR_INIT;
    if (!x->m || !x->m->n_state || x->m->data_hash != rs_data_hash(train) ||
        fit_chosen(x->m, &x->fit, &none) != ST_OK)
        return false;
    fit_once(x, train, heldout, true, res, err);
    if (err->code != ST_ARG && err->code != ST_FORMAT)
        return true; /* done, stopped, or failed otherwise */
    err_clear(err);
    return false;
}

static enum status fit_chosen_by(struct run *x, const struct rs_events *train,
                                 const struct rs_events *heldout, struct fit_result *res,
                                 struct err *err)
{
    if (!go_on(x, train, heldout, res, err) && choose(x, train, err) == ST_OK)
        fit_once(x, train, heldout, false, res, err);
    return err->code;
}

/* ---- against baselines (dossier 5.9) ---- */

static void put_ranking(json_t *o, const struct ranking *r)
{
    json_object_set_new(o, "n", json_integer((json_int_t)r->n));
    put(o, "recall@1", r->recall1);
    put(o, "recall@5", r->recall5);
    put(o, "recall@20", r->recall20);
    put(o, "ndcg", r->ndcg);
    put(o, "mrr", r->mrr);
}

static enum status judge_one(struct run *x, struct scorer *s, json_t *list, struct err *err)
{
    struct eval_opts o = { .bootstrap = 200, .seed = 1 };
    struct verdict v;
    if (evaluate(s, &x->split, &o, &v, err) == ST_OK) {
        json_t *m = json_object(), *repeat = json_object(), *fresh = json_object();
        json_object_set_new(m, "name", json_string(s->name));
        put_ranking(m, &v.all);
        put(m, "recall@20_lo", v.recall20_lo);
        put(m, "recall@20_hi", v.recall20_hi);
        put_ranking(repeat, &v.repeat);
        put_ranking(fresh, &v.fresh);
        json_object_set_new(m, "repeat", repeat);
        json_object_set_new(m, "fresh", fresh);
        json_array_append_new(list, m);
    }
    scorer_close(s);
    if (x->w->stop && x->w->stop(x->w->ctx))
        err_set(err, ST_CANCELLED, "the fit was stopped");
    return err->code;
}

/* The static factors that recurrent ones must beat. */
static enum status fit_static(struct run *x, struct rmodel **ret, struct err *err)
{
    struct fit_opts o = fit_defaults(RT_GAMMA_RATES);
    struct fit_result res;
    struct fit_watch w = { .stop = &x->stop };
    o.k = x->fit.k;
    o.iters = x->fit.iters;
    o.threads = x->fit.threads;
    o.seed = x->fit.seed;
    return fit_run(&x->split.train, &o, &w, ret, &res, err);
}

static enum status judge_all(struct run *x, const struct rmodel *hpf, json_t *list, struct err *err)
{
    const struct rs_events *train = &x->split.train;
    const double day = 86400;
    const struct {
        const char *name;
        struct baseline_opts o;
    } base[] = {
        { "popularity", { .kind = BASE_POPULARITY } },
        { "popularity, last week", { .kind = BASE_WINDOW, .span_s = 7 * day } },
        { "own counter", { .kind = BASE_COUNTER } },
        { "own recency", { .kind = BASE_RECENCY } },
        { "own counter, decay 7 d", { .kind = BASE_DECAYED, .span_s = 7 * day } },
        { "own counter, decay 30 d", { .kind = BASE_DECAYED, .span_s = 30 * day } },
        { "HPF + own counter, decay 30 d",
          { .kind = BASE_HPF_DECAYED, .span_s = 30 * day, .weight = 1, .hpf = hpf } },
    };
    struct scorer s;
    if (scorer_model(x->m, "model", train, &s, err) != ST_OK ||
        judge_one(x, &s, list, err) != ST_OK || scorer_model(hpf, "HPF", train, &s, err) != ST_OK ||
        judge_one(x, &s, list, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < sizeof base / sizeof base[0] && err->code == ST_OK; i++)
        if (scorer_baseline(&base[i].o, base[i].name, train, &s, err) == ST_OK)
            judge_one(x, &s, list, err);
    return err->code;
}

/* Every held-out event ranks all items, by ten methods: not where that takes very long. */
static enum status judge(struct run *x, struct err *err)
{
    const double most = 4e9;
    struct rmodel *hpf = NULL;
    json_t *list = json_array();
    double work = (double)x->split.test.n * (double)x->all.items.n;
    if (x->split.test.n && work <= most && fit_static(x, &hpf, err) == ST_OK &&
        judge_all(x, hpf, list, err) == ST_OK) {
        x->evaluation = json_object();
        json_object_set_new(x->evaluation, "test_events",
                            json_integer((json_int_t)x->split.test.n));
        json_object_set_new(x->evaluation, "unknown_names",
                            json_integer((json_int_t)x->split.dropped));
        json_object_set(x->evaluation, "methods", list);
    }
    json_free(list);
    rmodel_free(hpf);
    return err->code;
}

/* The settings' clusters as a column of the events; items that they leave out share one more. */
static enum status name_clusters(struct run *x, struct err *err)
{
    struct rs_events *ev = &x->all;
    struct event_attr *a = &ev->attr[0];
    uint32_t *of = malloc(((size_t)ev->items.n + 1) * sizeof *of);
    if (!of)
        return err_set(err, ST_NOMEM, "clusters");
    ev->n_attr = 1;
    a->name = str_dup(STR(CLUSTER_COLUMN));
    a->of = malloc((ev->cap + 1) * sizeof *a->of);
    if (!a->name || !a->of) {
        free(of);
        return err_set(err, ST_NOMEM, "clusters");
    }
    for (uint32_t p = 0; p < ev->items.n && err->code == ST_OK; p++) {
        struct str s = ids_name(&ev->items, p);
        char name[BATCH_NAME_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)(s.n < sizeof name ? s.n : 0), s.p);
        const json_t *v = json_object_get(x->o->clusters, name);
        ids_add(&a->value, str_c(v ? json_string_value(v) : ""), &of[p], err);
    }
    for (uint64_t i = 0; i < ev->n && err->code == ST_OK; i++)
        a->of[i] = of[ev->item[i]];
    free(of);
    return err->code;
}

static enum status fit_both(struct run *x, struct err *err)
{
    uint64_t n = x->all.n, tail = (uint64_t)(x->o->holdout * (double)n);
    if (x->o->clusters && name_clusters(x, err) != ST_OK)
        return err->code;
    load_checkpoint(x);
    if (tail && n - tail > 0) {
        if (split_events(&x->all, SPLIT_GLOBAL, x->o->holdout, &x->split, err) != ST_OK ||
            fit_chosen_by(x, &x->split.train, &x->split.test, &x->first, err) != ST_OK ||
            (x->o->evaluate && judge(x, err) != ST_OK))
            return err->code;
        return fit_once(x, &x->all, NULL, false, &x->last, err);
    }
    return fit_chosen_by(x, &x->all, NULL, &x->last, err);
}

static void describe(const struct run *x, json_t *notes)
{
    const struct fit_result *f = &x->last;
    json_t *o = json_object();
    json_object_set_new(o, "sweeps", json_integer(f->sweeps));
    put(o, "elbo", f->elbo);
    put(o, "seconds", x->first.seconds + f->seconds);
    put(o, "self_share", f->self_share);
    put(o, "social_share", f->social_share);
    put(o, "items_share", f->items_share);
    put(o, "radius", f->radius);
    put(o, "mean_branching", f->mean_branching);
    if (x->first.sweeps)
        put(o, "heldout", x->first.heldout);
    json_object_set_new(notes, "fit", o);
    json_object_set_new(notes, "tuned", x->tuned ? json_incref(x->tuned) : json_null());
    json_object_set(notes, "trace", x->trace);
    if (x->evaluation)
        json_object_set(notes, "evaluation", x->evaluation);
}

static enum status keep(struct run *x, json_t *notes, char id[RECSYS_ID_MAX], struct err *err)
{
    char path[FILE_PATH_MAX];
    describe(x, notes);
    if (recsys_save(x->r, x->m, notes, id, err) != ST_OK)
        return err->code;
    if (x->w->dir && file_path(path, err, "%s/checkpoint.rpf", x->w->dir) == ST_OK)
        file_remove_tree(path, err);
    if (x->w->dir && file_path(path, err, "%s/tuned.json", x->w->dir) == ST_OK)
        file_remove_tree(path, err);
    if (x->o->activate && err->code == ST_OK) {
        struct recsys_ask a = { .verb = RECSYS_ACTIVATE };
        snprintf(a.model, sizeof a.model, "%s", id);
        recsys_do(x->r, &a);
        *err = a.err;
    }
    return err->code;
}

enum status recsys_refit(struct recsys *r, const struct refit_opts *o, const struct refit_watch *w,
                         json_t *notes, char id[RECSYS_ID_MAX], struct err *err)
{
    struct run x = { .r = r, .o = o, .w = w, .trace = json_array(), .fit = o->fit };
    notes = notes ? notes : json_object();
    if (recsys_export(r, &x.all, &x.follows, err) == ST_OK) {
        if (x.all.n == 0)
            err_set(err, ST_ARG, "there are no events yet: POST /api/recsys/events first");
        else if ((o->fit.terms & RT_SOCIAL) && x.follows.n == 0)
            err_set(err, ST_ARG,
                    "nobody follows anybody yet: POST /api/recsys/follows first, or fit hrpf");
        else if (fit_both(&x, err) == ST_OK)
            keep(&x, notes, id, err);
    }
    events_clear(&x.all);
    split_clear(&x.split);
    json_free(x.evaluation);
    follows_clear(&x.follows);
    rmodel_free(x.m);
    json_free(x.trace);
    json_free(notes);
    json_free(x.tuned);
    return err->code;
}
