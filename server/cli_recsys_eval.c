/* server/cli_recsys_eval.c - `strobe recsys evaluate`: models against the baselines that they must
 * beat, on one temporal split. */
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "recsys/evaluate.h"
#include "recsys/heldout.h"
#include "server/cli_recsys.h"
#include "server/cli_recsys_rows.h"

#include <math.h>
#include <stdlib.h>

enum { METHODS_MAX = 32, MODELS_MAX = 16, DAY_S = 86400 };

struct evaluate_cli {
    struct recsys_fit fit;
    struct opt_strs models, extra; /* --also NAME, --fitted */
    const char *split, *rows;
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
    struct rows rows;
    struct user_sum *user; /* of the row being made */
    struct fit_opts tuned; /* kernels, measure, priors: searched once for all variants */
    struct tune_result trials;
    bool is_tuned, baseline;
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

static void row_text(struct buf *b, const char *name, const struct verdict *v, double fit_s,
                     double loglik)
{
    buf_printf(b,
               "%-34s %.3f / %.3f / %.3f  %.3f  | repeat %.3f / %.3f  new %.3f / %.3f | users %.3f",
               name, v->all.recall1, v->all.recall20, v->all.ndcg, v->all.mrr, v->repeat.recall20,
               v->repeat.ndcg, v->fresh.recall20, v->fresh.ndcg, v->user.recall20);
    if (v->recall20_hi > 0)
        buf_printf(b, " | R@20 %.3f-%.3f", v->recall20_lo, v->recall20_hi);
    if (isfinite(loglik))
        buf_printf(b, " | ln L %.3f an event, calibration error %.3f", loglik,
                   v->calibration.error);
    if (fit_s > 0)
        buf_printf(b, " | fit %.1f s", fit_s);
    buf_printf(b, "\n");
}

static json_t *row_json(const char *name, const struct verdict *v, double fit_s, double loglik)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:[f,f], s:[f,f], s:f, s:f, s:o}", "name",
                     name, "all", ranking_json(&v->all), "repeat", ranking_json(&v->repeat), "new",
                     ranking_json(&v->fresh), "per_user", ranking_json(&v->user), "calibration",
                     calibration_json(&v->calibration), "recall@20_95", v->recall20_lo,
                     v->recall20_hi, "ndcg_95", v->ndcg_lo, v->ndcg_hi, "fit_seconds", fit_s,
                     "rank_seconds", v->seconds, "loglik_per_event",
                     isfinite(loglik) ? json_real(loglik) : json_null());
}

/* A record is shown, listed and ready to be compared with, be it new or kept. */
static bool show(struct table *t, const json_t *record)
{
    struct str text = STR(""), name = STR("");
    json_t *row = json_object_get(record, "row"), *back = json_object_get(record, "return");
    struct row r = { .baseline = t->baseline, .user = t->user };
    json_get_str(record, "text", true, &text, t->err);
    json_get_str(row, "name", true, &name, t->err);
    const json_t *all = json_object_get(row, "all");
    json_get_f64(all, "recall@20", true, 0, 1, &r.recall20, t->err);
    json_get_f64(all, "ndcg", true, 0, 1, &r.ndcg, t->err);
    if (t->err->code != ST_OK ||
        rows_users(json_object_get(record, "users"), t->user, t->rows.n_user, t->err) != ST_OK)
        return false;
    snprintf(r.name, sizeof r.name, "%.*s", (int)name.n, name.p);
    if (!t->c->json) {
        printf("%.*s", (int)text.n, text.p);
        fflush(stdout);
    }
    if (json_array_append(t->list, row) != 0 ||
        (json_is_object(back) && json_array_append(t->returns, back) != 0))
        err_set(t->err, ST_NOMEM, "results");
    return t->err->code == ST_OK && rows_add(&t->rows, &r, t->err) == ST_OK;
}

/* True: the file has this row already, and it was shown. */
static bool known(struct table *t, const char *key)
{
    const json_t *record = rows_find(&t->rows, key);
    return record && show(t, record);
}

/* What a row is made of, beside its ranking. */
struct made {
    const char *key;
    double fit_s, loglik;
    json_t *back;    /* return times; taken */
    struct buf text; /* of them */
};

static bool one(struct table *t, struct scorer *m, struct made *x)
{
    struct verdict v;
    struct buf text = BUF_INIT;
    t->o.user = t->user;
    if (evaluate(m, t->s, &t->o, &v, t->err) == ST_OK) {
        row_text(&text, m->name, &v, x->fit_s, x->loglik);
        if (x->text.n)
            buf_put(&text, x->text.p, x->text.n);
        json_t *record =
            json_pack("{s:o, s:o, s:o, s:o}", "row", row_json(m->name, &v, x->fit_s, x->loglik),
                      "text", json_text(buf_view(&text)), "return", x->back ? x->back : json_null(),
                      "users", rows_users_json(t->user, t->rows.n_user));
        x->back = NULL;
        if (record && show(t, record))
            rows_keep(&t->rows, x->key, record, t->err);
        else if (!record)
            err_set(t->err, ST_NOMEM, "results");
        else
            json_free(record);
    }
    buf_clear(&text);
    buf_clear(&x->text);
    json_free(x->back);
    scorer_close(m);
    return t->err->code == ST_OK;
}

/* ---- models ---- */

/* The search is a record of the file as well. */
static void keep_tuned(struct table *t)
{
    const struct fit_opts *o = &t->tuned;
    json_t *scales = json_array();
    for (uint32_t i = 0; scales && i < o->n_scale; i++)
        json_array_append_new(scales, json_pack("[f, i, i]", o->scale[i].w, (int)o->scale[i].order,
                                                (int)o->scale[i].last_only));
    rows_keep(&t->rows, "settings",
              json_pack("{s:o, s:b, s:f, s:f, s:f, s:o}", "kernels", scales, "activity",
                        o->measure == MEASURE_ACTIVITY, "a_theta", o->a_theta, "a_beta", o->a_beta,
                        "a_tau", o->a_tau, "tuned", tune_json(o, &t->trials)),
              t->err);
}

static void take_tuned(struct table *t)
{
    const json_t *r = rows_find(&t->rows, "settings"), *list = json_object_get(r, "kernels"), *k;
    struct fit_opts *o = &t->tuned;
    bool activity = true;
    size_t i;
    if (!r || json_array_size(list) < 1 || json_array_size(list) > RSCALES_MAX)
        return;
    json_get_bool(r, "activity", true, &activity, t->err);
    json_get_f64(r, "a_theta", true, 0.01, 1e3, &o->a_theta, t->err);
    json_get_f64(r, "a_beta", true, 0.01, 1e3, &o->a_beta, t->err);
    json_get_f64(r, "a_tau", true, 0.01, 1e3, &o->a_tau, t->err);
    o->measure = activity ? MEASURE_ACTIVITY : MEASURE_WALL;
    json_array_foreach(list, i, k)
    {
        o->scale[o->n_scale++] =
            (struct rkernel){ json_number_value(json_array_get(k, 0)),
                              (uint32_t)json_integer_value(json_array_get(k, 1)),
                              (uint32_t)json_integer_value(json_array_get(k, 2)) };
    }
    t->is_tuned = t->err->code == ST_OK;
}

static bool fit_one(struct table *t, const char *variant, const char *scales, struct rmodel **ret,
                    double *seconds)
{
    struct recsys_fit f = t->g->fit;
    struct follows w = { 0 };
    struct fit_opts o;
    struct fit_result res;
    f.model = variant;
    f.scales = scales ? scales : f.scales;
    f.trials = &t->trials;
    f.tuned = t->is_tuned ? &t->tuned : NULL;
    if (recsys_fit_resolve(t->c, &f, &t->s->train, &w, &o, t->err) == ST_OK) {
        if (!t->is_tuned && t->trials.n) {
            t->is_tuned = true;
            t->tuned = o;
            keep_tuned(t);
        }
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
    return json_pack("{s:I, s:f, s:f, s:f, s:[f,f,f], s:f}", "users", (json_int_t)r->n,
                     "median_error_s", r->median_error_s, "median_log_error", r->median_log_error,
                     "true_median_s", r->true_median_s, "pinball_s", r->pinball_s[0],
                     r->pinball_s[1], r->pinball_s[2], "coverage_80", r->coverage);
}

static void return_line(struct buf *b, const char *name, const struct return_score *r)
{
    buf_printf(b,
               "  %-28s median error %9.2f h, of the logarithm %.2f; quantile loss at 0.1/0.5/0.9 "
               "%.2f / %.2f / %.2f h; coverage of 80%% %.2f\n",
               name, r->median_error_s / 3600, r->median_log_error, r->pinball_s[0] / 3600,
               r->pinball_s[1] / 3600, r->pinball_s[2] / 3600, r->coverage);
}

/* When the users come back, as this model and as their own gaps say. */
static bool return_rows(struct table *t, const char *title, const struct rmodel *m, struct made *x)
{
    struct return_eval r;
    bool own = t->g->split && strcmp(t->g->split, "user") == 0;
    if (evaluate_return(m, t->s, own ? SPLIT_USER : SPLIT_GLOBAL, &r, t->err) != ST_OK)
        return false;
    buf_printf(&x->text,
               "return time, %s: %llu users, true median %.2f h; the model trusts the %s\n", title,
               (unsigned long long)r.clock.n, r.clock.true_median_s / 3600,
               m->clock_wins ? "user's clock" : "items' rates");
    return_line(&x->text, "user's clock", &r.clock);
    return_line(&x->text, "items' rates", &r.items);
    return_line(&x->text, "own median gap", &r.median_gap);
    return_line(&x->text, "own median gap, or silence", &r.median_gap_silent);
    x->back = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "model", title, "chosen",
                        m->clock_wins ? "clock" : "items", "clock", return_json(&r.clock), "items",
                        return_json(&r.items), "median_gap", return_json(&r.median_gap),
                        "median_gap_silent", return_json(&r.median_gap_silent));
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
    if (!keep && known(t, word))
        return true;
    if (t->err->code != ST_OK || !fit_one(t, variant, colon ? colon + 1 : NULL, &m, &seconds) || !m)
        return false;
    struct made x = { .key = word, .fit_s = seconds, .loglik = loglik_of(t, m) };
    bool ok = known(t, word);
    if (!ok && t->err->code == ST_OK)
        ok = return_rows(t, title, m, &x) &&
             scorer_model(m, title, &t->s->train, &s, t->err) == ST_OK && one(t, &s, &x);
    if (keep && ok)
        *keep = m;
    else
        rmodel_free(m);
    return ok;
}

/* ---- baselines ---- */

static bool baseline_row(struct table *t, struct baseline_opts o, const char *key, const char *name)
{
    struct scorer s;
    struct made x = { .key = key, .loglik = (double)NAN };
    return known(t, key) ||
           (t->err->code == ST_OK && scorer_baseline(&o, name, &t->s->train, &s, t->err) == ST_OK &&
            one(t, &s, &x));
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

static bool plain_baselines(struct table *t)
{
    static const struct {
        const char *name;
        struct baseline_opts o;
    } b[] = {
        { "popularity", { .kind = BASE_POPULARITY } },
        { "popularity, last week", { .kind = BASE_WINDOW, .span_s = 7.0 * DAY_S } },
        { "own counter", { .kind = BASE_COUNTER } },
        { "own recency", { .kind = BASE_RECENCY } },
        { "own counter, decay 1 week", { .kind = BASE_DECAYED, .span_s = 7.0 * DAY_S } },
    };
    for (size_t i = 0; i < sizeof b / sizeof b[0]; i++)
        if (!baseline_row(t, b[i].o, b[i].name, b[i].name))
            return false;
    return true;
}

/* Their settings are searched on the last fifth of the training events too. */
static bool tuned_baselines(struct table *t)
{
    char name[128];
    double span = 7.0 * DAY_S, weight = 1;
    struct rmodel *hpf = NULL;
    const char *alone = "own counter, decay tuned", *both = "hpf + decayed counter";
    bool ok = rows_find(&t->rows, alone) || tuned_decay(t, NULL, &span, &weight);
    snprintf(name, sizeof name, "%s (%g d)", alone, span / DAY_S);
    ok = ok && baseline_row(t, (struct baseline_opts){ .kind = BASE_DECAYED, .span_s = span },
                            alone, name);
    if (!ok)
        return false;
    if (rows_find(&t->rows, "hpf") && rows_find(&t->rows, both))
        return known(t, "hpf") && known(t, both);
    ok = model_row(t, "hpf", &hpf);
    if (ok && tuned_decay(t, hpf, &span, &weight)) {
        struct baseline_opts o = {
            .kind = BASE_HPF_DECAYED, .span_s = span, .weight = weight, .hpf = hpf
        };
        snprintf(name, sizeof name, "%s (%g d, %g)", both, span / DAY_S, weight);
        ok = baseline_row(t, o, both, name);
    }
    rmodel_free(hpf);
    return ok && t->err->code == ST_OK;
}

static bool baselines(struct table *t)
{
    t->baseline = true;
    bool ok = plain_baselines(t) && tuned_baselines(t);
    t->baseline = false;
    return ok;
}

/* ---- the first model against everything else ---- */

static const char *word_of(double lo, double hi)
{
    return lo > 0 ? "better" : hi < 0 ? "WORSE" : "level";
}

static json_t *against(struct table *t, const struct row *mine, const struct row *other)
{
    struct paired p;
    if (paired_difference(mine->user, other->user, t->rows.n_user, &t->o, &p, t->err) != ST_OK)
        return NULL;
    if (!t->c->json)
        printf("  %-34s R@20 %+.4f (%+.4f to %+.4f) %-6s  NDCG %+.4f (%+.4f to %+.4f) %s\n",
               other->name, p.recall20, p.recall20_lo, p.recall20_hi,
               word_of(p.recall20_lo, p.recall20_hi), p.ndcg, p.ndcg_lo, p.ndcg_hi,
               word_of(p.ndcg_lo, p.ndcg_hi));
    return json_pack("{s:s, s:b, s:f, s:[f,f], s:f, s:[f,f]}", "to", other->name, "baseline",
                     other->baseline, "recall@20", p.recall20, "recall@20_95", p.recall20_lo,
                     p.recall20_hi, "ndcg", p.ndcg, "ndcg_95", p.ndcg_lo, p.ndcg_hi);
}

static json_t *differences(struct table *t)
{
    const struct row *mine = NULL;
    json_t *list = json_array();
    for (uint32_t i = t->rows.n; i-- > 0;)
        mine = t->rows.row[i].baseline ? mine : &t->rows.row[i];
    if (!list || !mine || !t->o.bootstrap || t->rows.n < 2)
        return list;
    if (!t->c->json)
        printf("%s minus each other method, paired over users (95%% of %llu resamples):\n",
               mine->name, (unsigned long long)t->o.bootstrap);
    for (uint32_t i = 0; i < t->rows.n && t->err->code == ST_OK; i++)
        if (&t->rows.row[i] != mine)
            json_array_append_new(list, against(t, mine, &t->rows.row[i]));
    return list;
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

/* Of everything that a row's numbers depend on. */
static uint64_t signature(const struct table *t)
{
    const struct recsys_fit *f = &t->g->fit;
    const char *words[] = { t->g->split, f->scales,       f->measure, f->clock,
                            f->start,    f->lead,         f->prior,   f->zone,
                            f->cluster,  f->data.follows, f->horizon, f->item_scale };
    char text[256];
    uint64_t sum = rng_mix(rs_data_hash(&t->s->train)) * 3 + rng_mix(rs_data_hash(&t->s->test));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        sum = rng_mix(sum + (words[i] ? hash_bytes(words[i], strlen(words[i])) : 1));
    int n = snprintf(text, sizeof text, "%llu %llu %llu %llu %llu %llu %g %g %g %g %g %d %g",
                     (unsigned long long)f->k, (unsigned long long)f->iters,
                     (unsigned long long)f->batch, (unsigned long long)f->seed,
                     (unsigned long long)f->tune, (unsigned long long)t->g->bootstrap, f->a_theta,
                     f->a_beta, f->a_tau, f->prune, t->g->share, t->g->frozen, f->kappa);
    return rng_mix(sum + hash_bytes(text, (size_t)n) + f->learn);
}

/* Comparisons, and with --json everything. */
static void finish(struct table *t, const struct events_health *h)
{
    bool own = t->g->split && strcmp(t->g->split, "user") == 0;
    json_t *diff = differences(t);
    const json_t *kept = rows_find(&t->rows, "settings");
    json_t *tuned = t->trials.n ? tune_json(&t->tuned, &t->trials)
                    : kept      ? json_incref(json_object_get(kept, "tuned"))
                                : json_null();
    if (!t->c->json || t->err->code != ST_OK) {
        json_free(diff);
        json_free(tuned);
        return;
    }
    cli_print_json(
        json_pack("{s:{s:s, s:f, s:I, s:I, s:I, s:s}, s:o, s:O, s:O, s:o, s:o}", "split", "kind",
                  own ? "user" : "global", "share", t->g->share, "train", (json_int_t)t->s->train.n,
                  "test", (json_int_t)t->s->test.n, "dropped", (json_int_t)t->s->dropped, "mode",
                  t->g->frozen ? "frozen" : "prequential", "health", health_json(h), "methods",
                  t->list, "return_time", t->returns, "differences", diff, "tuned", tuned),
        t->err);
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
    t.user = calloc(s.train.users.n + (size_t)1, sizeof *t.user);
    if (!t.user)
        err_set(err, ST_NOMEM, "users");
    if (err->code == ST_OK &&
        rows_open(&t.rows, g->rows, signature(&t), s.train.users.n, err) == ST_OK)
        take_tuned(&t);
    if (!c->json && err->code == ST_OK)
        printf("%llu events to fit, %llu to test (%llu have new names); repeats %.0f%%, ties "
               "%.0f%%; %llu factors\nmethod%29srecall@1 / @20 / NDCG  MRR\n",
               (unsigned long long)s.train.n, (unsigned long long)s.test.n,
               (unsigned long long)s.dropped, 100 * h.repeat_share, 100 * h.tie_share,
               (unsigned long long)g->fit.k, "");
    bool ok = err->code == ST_OK && t.list && (g->quick || baselines(&t));
    for (size_t i = 0; ok && i < g->models.n; i++)
        ok = model_row(&t, g->models.v[i], NULL);
    if (ok && !g->models.n)
        ok = model_row(&t, "hrpf", NULL);
    if (ok && err->code == ST_OK)
        finish(&t, &h);
    json_free(t.list);
    json_free(t.returns);
    free(t.user);
    rows_close(&t.rows);
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
                              "resamples of users for 95% intervals, and for the first model's "
                              "difference to each other method (default 0)" });
    cli_opt(&o, (struct opt){ "rows", 0, OPT_STR, &g.rows, 0, 0, "FILE",
                              "keeps every row there: a run that was cut off goes on after it" });
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
