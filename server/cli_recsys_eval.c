/* server/cli_recsys_eval.c - `strobe recsys evaluate`: models against the baselines that they must
 * beat, on one temporal split. */
#include "recsys/evaluate.h"
#include "recsys/heldout.h"
#include "server/cli_recsys.h"

#include <math.h>
#include <stdlib.h>

enum { METHODS_MAX = 32, MODELS_MAX = 16, DAY_S = 86400 };

struct evaluate_cli {
    struct recsys_fit fit;
    struct opt_strs models, extra; /* --also NAME, --fitted */
    const char *split;
    double share;
    uint64_t bootstrap;
    bool frozen, quick;
};

struct table {
    struct cli *c;
    const struct evaluate_cli *g;
    const struct split *s;
    struct eval_opts o;
    json_t *list, *returns;
    struct err *err;
};

/* ---- one row ---- */

static json_t *ranking_json(const struct ranking *r)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "events", (json_int_t)r->n, "recall@1",
                     r->recall1, "recall@5", r->recall5, "recall@20", r->recall20, "ndcg", r->ndcg,
                     "mrr", r->mrr);
}

static json_t *calibration_json(const struct calibration *c)
{
    json_t *bins = json_array();
    for (int b = 0; bins && b < CALIBRATION_BINS; b++)
        if (c->n[b])
            json_array_append_new(bins, json_pack("{s:I, s:f, s:f}", "events", (json_int_t)c->n[b],
                                                  "predicted", c->share[b], "taken", c->taken[b]));
    return json_pack("{s:f, s:o}", "error", c->error, "bins", bins);
}

static void put_row(struct table *t, const char *name, const struct verdict *v, double fit_s,
                    double loglik)
{
    if (!t->c->json) {
        printf("%-34s %.3f / %.3f / %.3f  %.3f  | repeat %.3f / %.3f  new %.3f / %.3f | users %.3f",
               name, v->all.recall1, v->all.recall20, v->all.ndcg, v->all.mrr, v->repeat.recall20,
               v->repeat.ndcg, v->fresh.recall20, v->fresh.ndcg, v->user.recall20);
        if (v->recall20_hi > 0)
            printf(" | R@20 %.3f-%.3f", v->recall20_lo, v->recall20_hi);
        if (isfinite(loglik))
            printf(" | ln L %.3f an event, calibration error %.3f", loglik, v->calibration.error);
        if (fit_s > 0)
            printf(" | fit %.1f s", fit_s);
        printf("\n");
        fflush(stdout);
    }
    json_t *row = json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:o, s:[f,f], s:[f,f], s:f, s:f, s:o}", "name", name, "all",
        ranking_json(&v->all), "repeat", ranking_json(&v->repeat), "new", ranking_json(&v->fresh),
        "per_user", ranking_json(&v->user), "calibration", calibration_json(&v->calibration),
        "recall@20_95", v->recall20_lo, v->recall20_hi, "ndcg_95", v->ndcg_lo, v->ndcg_hi,
        "fit_seconds", fit_s, "rank_seconds", v->seconds, "loglik_per_event",
        isfinite(loglik) ? json_real(loglik) : json_null());
    if (!row || json_array_append_new(t->list, row) != 0)
        err_set(t->err, ST_NOMEM, "results");
}

static bool one(struct table *t, struct scorer *m, double fit_s, double loglik)
{
    struct verdict v;
    if (evaluate(m, t->s, &t->o, &v, t->err) == ST_OK)
        put_row(t, m->name, &v, fit_s, loglik);
    scorer_close(m);
    return t->err->code == ST_OK;
}

/* ---- models ---- */

static bool fit_one(struct table *t, const char *variant, const char *scales, struct rmodel **ret,
                    double *seconds)
{
    struct recsys_fit f = t->g->fit;
    struct follows w = { 0 };
    struct fit_opts o;
    struct fit_result res;
    f.model = variant;
    f.scales = scales ? scales : f.scales;
    if (recsys_fit_resolve(t->c, &f, &t->s->train, &w, &o, t->err) == ST_OK) {
        o.eval_every = 0;
        fit_run(&t->s->train, &o, NULL, ret, &res, t->err);
        *seconds = res.seconds;
    }
    follows_clear(&w);
    return t->err->code == ST_OK;
}

static double loglik_of(struct table *t, const struct rmodel *m)
{
    struct heldout *h;
    bool own = t->g->fit.clock && strcmp(t->g->fit.clock, "user") == 0;
    if (heldout_open(&t->s->train, &t->s->test, own, &h, t->err) != ST_OK)
        return (double)NAN;
    double v = m->activity ? heldout_choice(h, m) : heldout_score(h, m);
    heldout_close(h);
    return v;
}

static json_t *return_json(const struct return_score *r)
{
    return json_pack("{s:I, s:f, s:f, s:[f,f,f], s:f}", "users", (json_int_t)r->n, "median_error_s",
                     r->median_error_s, "true_median_s", r->true_median_s, "pinball_s",
                     r->pinball_s[0], r->pinball_s[1], r->pinball_s[2], "coverage_80", r->coverage);
}

static void return_line(const char *name, const struct return_score *r)
{
    printf("  %-28s median error %9.2f h, quantile loss at 0.1/0.5/0.9 %.2f / %.2f / %.2f h, "
           "coverage of 80%% %.2f\n",
           name, r->median_error_s / 3600, r->pinball_s[0] / 3600, r->pinball_s[1] / 3600,
           r->pinball_s[2] / 3600, r->coverage);
}

/* When the users of the last model come back. */
static bool return_rows(struct table *t, const char *title, const struct rmodel *m)
{
    struct return_eval r;
    bool own = t->g->split && strcmp(t->g->split, "user") == 0;
    if (evaluate_return(m, t->s, own ? SPLIT_USER : SPLIT_GLOBAL, &r, t->err) != ST_OK)
        return false;
    if (!t->c->json) {
        printf("return time, %s: %llu users, true median %.2f h; the model trusts the %s\n", title,
               (unsigned long long)r.clock.n, r.clock.true_median_s / 3600,
               m->clock_wins ? "user's clock" : "items' rates");
        return_line("user's clock", &r.clock);
        return_line("items' rates", &r.items);
        return_line("own median gap", &r.median_gap);
        return_line("own median gap, or silence", &r.median_gap_silent);
    }
    json_array_append_new(t->returns,
                          json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "model", title, "chosen",
                                    m->clock_wins ? "clock" : "items", "clock",
                                    return_json(&r.clock), "items", return_json(&r.items),
                                    "median_gap", return_json(&r.median_gap), "median_gap_silent",
                                    return_json(&r.median_gap_silent)));
    return true;
}

/* "NAME" or "NAME:SCALES". */
static bool model_row(struct table *t, const char *word, struct rmodel **keep)
{
    char variant[32], title[48];
    const char *colon = strchr(word, ':');
    size_t n = colon ? (size_t)(colon - word) : strlen(word);
    struct rmodel *m = NULL;
    struct scorer s;
    double seconds = 0;
    if (n >= sizeof variant) {
        err_set(t->err, ST_ARG, "there is no model '%s'", word);
        return false;
    }
    memcpy(variant, word, n);
    variant[n] = 0;
    snprintf(title, sizeof title, "%s", word);
    if (!fit_one(t, variant, colon ? colon + 1 : NULL, &m, &seconds) || !m)
        return false;
    bool ok = scorer_model(m, title, &t->s->train, &s, t->err) == ST_OK &&
              one(t, &s, seconds, loglik_of(t, m)) && return_rows(t, title, m);
    if (keep && ok)
        *keep = m;
    else
        rmodel_free(m);
    return ok;
}

/* ---- baselines ---- */

static bool baseline_row(struct table *t, struct baseline_opts o, const char *name)
{
    struct scorer s;
    return scorer_baseline(&o, name, &t->s->train, &s, t->err) == ST_OK &&
           one(t, &s, 0, (double)NAN);
}

/* The decay that does best on the last fifth of the training events. */
static bool tuned_decay(struct table *t, const struct rmodel *hpf, double *span, double *weight)
{
    static const double days[] = { 0.25, 1, 3, 7, 14, 30, 60, 120, 365 };
    static const double weights[] = { 0.03, 0.3, 3, 30 }; /* of the counter beside the factors */
    struct split inner;
    double best = -1;
    enum split_kind kind =
        t->g->split && strcmp(t->g->split, "user") == 0 ? SPLIT_USER : SPLIT_GLOBAL;
    if (split_events(&t->s->train, kind, 0.2, &inner, t->err) != ST_OK)
        return false;
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++)
        for (size_t k = 0; k < (hpf ? sizeof weights / sizeof weights[0] : 1); k++) {
            double w = hpf ? weights[k] : 1;
            struct baseline_opts o = { .kind = hpf ? BASE_HPF_DECAYED : BASE_DECAYED,
                                       .span_s = days[i] * DAY_S,
                                       .weight = w,
                                       .hpf = hpf };
            struct eval_opts eo = { .frozen = t->o.frozen };
            struct scorer s;
            struct verdict v;
            if (scorer_baseline(&o, "", &inner.train, &s, t->err) != ST_OK)
                break;
            if (evaluate(&s, &inner, &eo, &v, t->err) == ST_OK &&
                v.all.recall20 + v.all.ndcg > best) {
                best = v.all.recall20 + v.all.ndcg;
                *span = o.span_s;
                *weight = w;
            }
            scorer_close(&s);
        }
    split_clear(&inner);
    return t->err->code == ST_OK;
}

static bool baselines(struct table *t)
{
    char name[128];
    double span = 7.0 * DAY_S, weight = 1;
    struct rmodel *hpf = NULL;
    bool ok = baseline_row(t, (struct baseline_opts){ .kind = BASE_POPULARITY }, "popularity") &&
              baseline_row(t, (struct baseline_opts){ .kind = BASE_WINDOW, .span_s = 7.0 * DAY_S },
                           "popularity, last week") &&
              baseline_row(t, (struct baseline_opts){ .kind = BASE_COUNTER }, "own counter") &&
              baseline_row(t, (struct baseline_opts){ .kind = BASE_RECENCY }, "own recency") &&
              baseline_row(t, (struct baseline_opts){ .kind = BASE_DECAYED, .span_s = 7.0 * DAY_S },
                           "own counter, decay 1 week") &&
              tuned_decay(t, NULL, &span, &weight);
    if (!ok)
        return false;
    snprintf(name, sizeof name, "own counter, decay tuned (%g d)", span / DAY_S);
    ok = baseline_row(t, (struct baseline_opts){ .kind = BASE_DECAYED, .span_s = span }, name) &&
         model_row(t, "hpf", &hpf);
    if (ok && tuned_decay(t, hpf, &span, &weight)) {
        struct baseline_opts o = {
            .kind = BASE_HPF_DECAYED, .span_s = span, .weight = weight, .hpf = hpf
        };
        snprintf(name, sizeof name, "hpf + decayed counter (%g d, %g)", span / DAY_S, weight);
        ok = baseline_row(t, o, name);
    }
    rmodel_free(hpf);
    return ok && t->err->code == ST_OK;
}

/* ---- all ---- */

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    cli_progress(ctx, what, done, total);
}

static json_t *health_json(const struct events_health *h)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "events",
                     (json_int_t)h->n, "users", (json_int_t)h->users, "items", (json_int_t)h->items,
                     "pairs", (json_int_t)h->pairs, "first_s", h->first_s, "last_s", h->last_s,
                     "repeat_share", h->repeat_share, "tie_share", h->tie_share, "twin_share",
                     h->twin_share, "gap_median_s", h->gap_median_s, "single_share",
                     h->single_share, "tick_s", h->tick_s);
}

static enum status run(struct cli *c, const struct evaluate_cli *g, const struct rs_events *ev,
                       struct err *err)
{
    struct split s;
    struct events_health h;
    bool own = g->split && strcmp(g->split, "user") == 0;
    if (events_health(ev, &h, err) != ST_OK ||
        split_events(ev, own ? SPLIT_USER : SPLIT_GLOBAL, g->share, &s, err) != ST_OK)
        return err->code;
    struct table t = { .c = c,
                       .g = g,
                       .s = &s,
                       .list = json_array(),
                       .returns = json_array(),
                       .err = err,
                       .o = { .frozen = g->frozen,
                              .bootstrap = g->bootstrap,
                              .seed = 1,
                              .progress = on_progress,
                              .progress_ctx = c } };
    if (!c->json)
        printf("%llu events to fit, %llu to test (%llu have new names); repeats %.0f%%, ties "
               "%.0f%%\nmethod%29srecall@1 / @20 / NDCG  MRR\n",
               (unsigned long long)s.train.n, (unsigned long long)s.test.n,
               (unsigned long long)s.dropped, 100 * h.repeat_share, 100 * h.tie_share, "");
    bool ok = t.list && (g->quick || baselines(&t));
    for (size_t i = 0; ok && i < g->models.n; i++)
        ok = model_row(&t, g->models.v[i], NULL);
    if (ok && !g->models.n)
        ok = model_row(&t, "hrpf", NULL);
    if (ok && err->code == ST_OK && c->json) {
        cli_print_json(json_pack("{s:{s:s, s:f, s:I, s:I, s:I, s:s}, s:o, s:o, s:o}", "split",
                                 "kind", own ? "user" : "global", "share", g->share, "train",
                                 (json_int_t)s.train.n, "test", (json_int_t)s.test.n, "dropped",
                                 (json_int_t)s.dropped, "mode",
                                 g->frozen ? "frozen" : "prequential", "health", health_json(&h),
                                 "methods", t.list, "return_time", t.returns),
                       err);
        t.list = t.returns = NULL;
    }
    json_free(t.list);
    json_free(t.returns);
    split_clear(&s);
    return err->code;
}

enum status cli_recsys_evaluate(struct cli *c, struct err *err)
{
    struct evaluate_cli g = { .fit = recsys_fit_defaults(), .share = 0.2 };
    struct rs_events ev = EVENTS_INIT;
    struct cli_opts o;
    const char *word[1];
    size_t n;
    bool done;
    cli_opts_init(&o, c, "strobe recsys evaluate EVENTS [--with NAME[:SCALES]]... [options]",
                  "Fits models and baselines to the earlier events and ranks all items at each "
                  "later one; ties count half.");
    recsys_data_opts(&o, &g.fit.data);
    recsys_fit_opts(&o, &g.fit);
    cli_opt(&o, (struct opt){ "with", 0, OPT_STRS, &g.models, 0, 0, "NAME",
                              "a model to compare, e.g. hrpf or hrpf:1d,7d (default hrpf)" });
    cli_opt(&o, (struct opt){ "split", 0, OPT_STR, &g.split, 0, 0, "KIND",
                              "global: the last events of all; user: of each (default global)" });
    cli_opt(&o, (struct opt){ "test", 0, OPT_REAL, &g.share, 0.001, 0.9, "SHARE", "(0.2)" });
    cli_opt(&o, (struct opt){ "frozen", 0, OPT_FLAG, &g.frozen,
                              .help = "test events do not update anything" });
    cli_opt(&o, (struct opt){ "bootstrap", 0, OPT_COUNT, &g.bootstrap, 0, 100000, "N",
                              "resamples of users for 95% intervals (default 0)" });
    cli_opt(&o, (struct opt){ "quick", 0, OPT_FLAG, &g.quick, .help = "no baselines" });
    if (cli_parse(&o, c, word, 1, &n, &done, err) != ST_OK || done)
        return err->code;
    if (g.split && strcmp(g.split, "global") != 0 && strcmp(g.split, "user") != 0)
        return err_set(err, ST_ARG, "--split: '%s' is not global or user", g.split);
    g.fit.data.events = n ? word[0] : NULL;
    if (recsys_read_events(&g.fit.data, &ev, err) == ST_OK)
        run(c, &g, &ev, err);
    events_clear(&ev);
    return err->code;
}
