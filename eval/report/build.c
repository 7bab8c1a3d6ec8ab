/* eval/report/build.c - puts the document together: what the run was, whether its answers can be
 * trusted, and the sections. */
#include "eval/report/internal.h"
#include "eval/stat/multi.h"

#include <math.h>
#include <stdlib.h>

#define SUSPECT_SHARE 0.01 /* of answers cut, empty or without a number */

static void note(json_t *list, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void note(json_t *list, struct err *err, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    add(list, json_string(text), err);
}

struct totals {
    json_int_t asked, scored, correct, truncated, empty, unparsed;
};

static struct totals totals_of(const struct report *r)
{
    struct totals t = { 0 };
    for (size_t i = 0; i < r->n; i++) {
        const struct answer *a = &r->answer[i];
        t.asked++;
        t.scored += a->scored;
        t.correct += report_is_right(r, a);
        t.truncated += a->scored && a->truncated;
        t.empty += a->scored && a->empty;
        t.unparsed += a->scored && a->unparsed;
    }
    return t;
}

static json_t *counts_json(const struct report *r, struct totals t)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "asked", t.asked, "scored",
        t.scored, "failed", (json_int_t)r->failed, "pending", (json_int_t)r->pending, "correct",
        t.correct, "truncated", t.truncated, "empty", t.empty, "unparsed", t.unparsed, "repeats",
        (json_int_t)r->repeats, "prompt_tokens", (json_int_t)r->prompt_tokens, "cached_tokens",
        (json_int_t)r->cached_tokens, "completion_tokens", (json_int_t)r->completion_tokens);
}

static void suspect(json_t *list, json_int_t n, json_int_t of, const char *what, struct err *err)
{
    if (of && (double)n > SUSPECT_SHARE * (double)of)
        note(list, err, "%lld of %lld answers (%.1f %%) %s", (long long)n, (long long)of,
             1e2 * (double)n / (double)of, what);
}

/* Reasons not to believe the figures. */
static json_t *suspects(const struct report *r, struct totals t, struct err *err)
{
    json_t *list = json_array();
    suspect(list, t.truncated, t.scored, "were cut by the token limit", err);
    suspect(list, t.empty, t.scored, "are empty", err);
    suspect(list, t.unparsed, t.scored, "hold no number that the profile finds", err);
    suspect(list, r->failed, t.asked, "do not exist: the model or endpoint failed", err);
    return list;
}

static void note_spread(json_t *list, const json_t *c, struct err *err)
{
    const json_t *d = json_object_get(c, "decomposition");
    const json_t *p = json_object_get(d, "p_spread");
    if (json_is_number(p) && json_number_value(p) < 0.01)
        note(list, err,
             "The sets of '%s' (level %lld) spread %s than fixed templates let expect (p = "
             "%.2g): "
             "%s.",
             json_string_value(json_object_get(c, "variant")),
             (long long)json_integer_value(json_object_get(c, "level")),
             json_number_value(json_object_get(d, "chi2")) >
                     json_number_value(json_object_get(d, "df"))
                 ? "more"
                 : "less",
             json_number_value(p), "the model may not answer the same way twice");
}

static void note_repeats(json_t *list, const json_t *c, struct err *err)
{
    const json_t *rep = json_object_get(c, "repeats"), *v = json_object_get(rep, "within_question"),
                 *part = json_object_get(rep, "se_share");
    char share[80] = "";
    if (!json_is_number(v))
        return;
    if (json_is_number(part))
        snprintf(share, sizeof share, "; %.0f %% of the variance inside templates is that",
                 1e2 * json_number_value(part));
    note(list, err,
         "'%s' (level %lld): %lld answers to %lld questions; one answer varies about its "
         "question's mean with variance %.3g%s.",
         json_string_value(json_object_get(c, "variant")),
         (long long)json_integer_value(json_object_get(c, "level")),
         (long long)json_integer_value(json_object_get(rep, "answers")),
         (long long)json_integer_value(json_object_get(rep, "questions")), json_number_value(v),
         share);
}

static json_t *notes(const struct report *r, const json_t *conditions, const json_t *contrasts,
                     struct err *err)
{
    json_t *list = json_array();
    const json_t *c;
    size_t i;
    bool declared = false;
    if (r->pending)
        note(list, err, "The run is not finished: %lld questions are not answered yet.",
             (long long)r->pending);
    if (r->repeats)
        note(list, err,
             "Questions were asked up to %lld times, and all answers count: a question once, with "
             "the share of its answers that is right; regressions fit each round of answers with "
             "the same coefficients, and take their errors from the templates.",
             (long long)r->most);
    const json_t *reused = json_object_get(r->manifest, "reused"),
                 *steady = json_object_get(r->manifest, "self_test");
    if (steady)
        note(list, err,
             "Self-test: %lld of %lld questions were answered differently when 1, 8 and 32 were "
             "asked at a time.",
             (long long)json_integer_value(json_object_get(steady, "different")),
             (long long)json_integer_value(json_object_get(steady, "questions")));
    const char *from;
    json_t *of;
    json_object_foreach((json_t *)(uintptr_t)reused, from, of)
        note(list, err, "%lld answers were taken from run %s, which was asked in the same way.",
             (long long)json_integer_value(of), from);
    json_array_foreach(contrasts, i, c) declared |= json_is_true(json_object_get(c, "primary"));
    if (json_array_size(contrasts))
        note(list, err, "%s",
             declared
                 ? "Holm's adjustment is over the contrasts declared before the run; all others "
                   "are exploratory."
                 : "No contrast was declared before the run: Holm's adjustment is over all of "
                   "them.");
    json_array_foreach(conditions, i, c)
    {
        note_spread(list, c, err);
        note_repeats(list, c, err);
    }
    return list;
}

/* What this design could have seen, by the hardest-working condition's variance. */
static json_t *plan_json(const json_t *conditions)
{
    const json_t *c, *best = NULL;
    size_t i;
    json_int_t most = 1;
    json_array_foreach(conditions, i, c)
    {
        json_int_t n = json_integer_value(json_object_get(json_object_get(c, "sets"), "n"));
        if (json_is_object(json_object_get(c, "decomposition")) && n > most) {
            most = n;
            best = c;
        }
    }
    const json_t *d = json_object_get(best, "decomposition");
    double within = json_number_value(json_object_get(d, "within"));
    json_int_t n = json_integer_value(json_object_get(d, "templates"));
    if (!best || n < 2 || !(within > 0))
        return json_null();
    struct plan_in in = { (uint32_t)n, (uint32_t)most, within, REPORT_ALPHA, 0.8 };
    struct plan_out p = plan_design(in);
    return json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:I}", "templates", n, "instances", most,
                     "alpha", in.alpha, "power", in.power, "se", p.se_mean,
                     "smallest_drop_original", p.mde_original, "smallest_difference_variants",
                     p.mde_variant, "instances_for_one_point",
                     (json_int_t)plan_instances(in, 0.01));
}

static json_t *run_json(const struct report *r, struct err *err)
{
    json_t *v = json_pack("{s:s, s:s, s:s}", "id", r->id, "name", r->name, "state", r->state);
    static const char *const copied[] = { "model",    "prompt",  "decoding",
                                          "datasets", "primary", "items_hash" };
    for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++) {
        json_t *x = json_object_get(r->manifest, copied[i]);
        json_object_set(v, copied[i], x ? x : json_null());
    }
    return v;
}

enum status report_build(struct report *r, json_t **ret, struct err *err)
{
    if (report_sort(r, err) != ST_OK)
        return err->code;
    struct totals t = totals_of(r);
    json_t *conditions = report_conditions(r, err);
    json_t *contrasts = err->code == ST_OK ? report_contrasts(r, err) : json_array();
    json_t *levels = err->code == ST_OK ? report_levels(r, err) : json_array();
    json_t *heat = err->code == ST_OK ? report_heat(r, err) : json_object();
    json_t *doc = json_pack("{s:s, s:s, s:o, s:s, s:f, s:o, s:o}", "format", "strobe-report/1",
                            "strobe", STROBE_VERSION, "run", run_json(r, err), "profile",
                            extract_profile_name(r->profile), "level", REPORT_LEVEL, "counts",
                            counts_json(r, t), "suspect", suspects(r, t, err));
    json_t *more = notes(r, conditions, contrasts, err), *plan = plan_json(conditions);
    put(doc, "conditions", conditions, err);
    put(doc, "contrasts", contrasts, err);
    put(doc, "levels", levels, err);
    put(doc, "noop", report_noop(r, err), err);
    put(doc, "heat", heat, err);
    put(doc, "failures", json_incref(r->failures), err);
    put(doc, "plan", plan, err);
    put(doc, "notes", more, err);
    if (err->code != ST_OK) {
        json_free(doc);
        return err->code;
    }
    *ret = doc;
    return ST_OK;
}

/* ---- from a store ---- */

struct filling {
    struct report *r;
    struct err *err;
};

static bool take_sample(void *ctx, const struct run_sample *row)
{
    struct filling *f = ctx;
    return report_add(f->r, row, f->err) == ST_OK;
}

static enum status fill(struct run_store *s, const char *run, struct report **ret, struct err *err)
{
    struct run_row row = { 0 };
    struct report *r = NULL;
    struct sample_query q = SAMPLE_QUERY_ALL;
    q.by_ord = true; /* report_sort() puts them in order: the database need not */
    if (run_store_get(s, run, &row, err) == ST_OK && report_open(&row, &r, err) == ST_OK) {
        struct err own = ERR_INIT;
        struct filling f = { r, &own };
        run_store_each(s, row.id, &q, take_sample, &f, err);
        if (own.code != ST_OK)
            *err = own;
    }
    run_row_clear(&row);
    if (err->code == ST_OK)
        *ret = r;
    else
        report_free(r);
    return err->code;
}

enum status report_of_run(struct run_store *s, const char *run, json_t **ret, struct err *err)
{
    struct report *r = NULL;
    if (fill(s, run, &r, err) != ST_OK || !r)
        return err->code;
    report_build(r, ret, err);
    report_free(r);
    return err->code;
}

enum status report_of_runs(struct run_store *s, const char *a, const char *b, json_t **ret,
                           struct err *err)
{
    struct report *x = NULL, *y = NULL;
    if (fill(s, a, &x, err) == ST_OK && fill(s, b, &y, err) == ST_OK && x && y)
        report_compare(x, y, ret, err);
    report_free(x);
    report_free(y);
    return err->code;
}
