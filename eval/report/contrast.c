/* eval/report/contrast.c - differences between conditions: original against generated, variant
 * against variant, level against level. One headline p-value each, adjusted together (Holm). */
#include "eval/report/internal.h"
#include "eval/stat/exact.h"
#include "eval/stat/multi.h"

#include <math.h>
#include <stdlib.h>

enum { SEED = 5229, CONTRASTS_MAX = 4 * CONDITIONS_MAX };
#define MARGIN 0.05 /* of equivalence, where the run declared none */

json_t *paired_json(const struct paired *p)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:b, s:o}",
                     "templates", (json_int_t)p->n, "difference", json_num(p->mean), "sd",
                     json_num(p->sd), "se", json_num(p->se), "interval", json_interval(p->t_ci),
                     "t", json_num(p->t), "p_t", json_num(p->p_t), "wilcoxon", json_num(p->w),
                     "p_wilcoxon", json_num(p->p_wilcoxon), "wilcoxon_exact", p->wilcoxon_exact,
                     "p_flip", json_num(p->p_flip), "flip_exact", p->flip_exact, "bootstrap",
                     json_interval(p->bootstrap));
}

json_t *equivalence_json(struct equivalence e)
{
    return json_pack("{s:f, s:o, s:o, s:b}", "margin", e.margin, "p", json_num(e.p), "interval",
                     json_interval(e.ci), "shown", e.shown);
}

/* ---- contrasts ---- */

static double margin_of(const struct report *r)
{
    const json_t *p = json_object_get(r->manifest, "primary");
    double m = json_number_value(json_object_get(p, "margin"));
    return m > 0 && m < 1 ? m : MARGIN;
}

/* "original:both" is how a run declares its primary contrast; levels other than 0: "both@1". */
static bool is_primary(const struct report *r, const char *id)
{
    const json_t *p = json_object_get(r->manifest, "primary");
    const char *want = json_string_value(json_is_string(p) ? p : json_object_get(p, "contrast"));
    return want && strcmp(want, id) == 0;
}

static void condition_word(const struct condition *c, char *out, size_t n)
{
    if (c->level)
        snprintf(out, n, "%s@%lld", c->variant, (long long)c->level);
    else
        snprintf(out, n, "%s", c->variant);
}

static json_t *contrast_head(const struct report *r, const char *kind, const struct condition *a,
                             const struct condition *b)
{
    char x[64], y[64], id[132];
    condition_word(a, x, sizeof x);
    condition_word(b, y, sizeof y);
    snprintf(id, sizeof id, "%s:%s", x, y);
    return json_pack("{s:s, s:s, s:b, s:o, s:o}", "id", id, "kind", kind, "primary",
                     is_primary(r, id), "a", condition_json(a), "b", condition_json(b));
}

static json_t *exact_json(const struct exact_test *x)
{
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "templates",
                     (json_int_t)x->n_template, "informative", (json_int_t)x->n_informative,
                     "right", (json_int_t)x->right, "expected", json_num(x->expected), "sd",
                     json_num(x->sd), "p", json_num(x->p_two), "p_mid", json_num(x->p_mid),
                     "p_greater", json_num(x->p_greater), "p_less", json_num(x->p_less));
}

/* Of all answers; of those to one question the share that is right is one draw. */
static enum status exact_of(const struct report *r, const struct table *o, const struct table *t,
                            struct exact_test *ret, struct err *err)
{
    if (!r->repeats)
        return exact_original(o->x, t->tally, t->n_tmpl, ret, err);
    struct repeated v = { o->right, t->right, t->n_tmpl, t->n_set, (uint32_t)r->most };
    return exact_repeated(&v, ret, err);
}

/* All originals against all generated questions, the templates forgotten: what readers of the paper
 * would do. Fisher's exact test, or with more than one answer to each that of all choices. */
static double unpaired_p(const struct report *r, const struct table *o, const struct table *t,
                         struct err *err)
{
    double p = (double)NAN;
    if (!r->repeats) {
        struct tally a = cells_total(table_cells(o)), b = cells_total(table_cells(t));
        return fisher_two_sided(a.k, a.n, b.k, b.n);
    }
    size_t n = o->n_tmpl, m = t->n_tmpl * t->n_set;
    int32_t *right = malloc((n + m + 1) * sizeof *right);
    if (!right) {
        err_set(err, ST_NOMEM, "unpaired test");
        return p;
    }
    memcpy(right, o->right, n * sizeof *right);
    memcpy(right + n, t->right, m * sizeof *right);
    exact_part(right, n + m, 0, n, (uint32_t)r->most, &p, err);
    free(right);
    return p;
}

static void original_tests(struct report *r, size_t cond, const struct table *o,
                           const struct table *t, json_t *v, struct err *err)
{
    struct exact_test x;
    if (exact_of(r, o, t, &x, err) != ST_OK)
        return;
    struct odds_ratio odds = mantel_haenszel(o->tally, t->tally, t->n_tmpl, REPORT_LEVEL);
    put(v, "exact", exact_json(&x), err);
    put(v, "odds_ratio",
        json_pack("{s:o, s:o}", "value", json_num(odds.value), "interval", json_interval(odds.ci)),
        err);
    put(v, "unpaired_p", json_num(unpaired_p(r, o, t, err)), err);
    put(v, "p", json_num(x.n_template ? x.p_two : (double)NAN), err);
    put(v, "test", json_string("exact, stratified by template"), err);
    if (err->code == ST_OK)
        put(v, "mixed_model", report_mixed(r, cond, err), err);
    if (err->code == ST_OK)
        put(v, "adjusted", report_adjusted(r, cond, err), err);
}

static json_t *original_contrast(struct report *r, size_t cond, struct err *err)
{
    const struct condition first = { "original", 0 };
    struct table t;
    struct paired d;
    struct table o = { 0 };
    json_t *v = NULL;
    if (report_originals(r, r->profile, &o, err) == ST_OK &&
        table_make(r, cond, r->profile, &t, err) == ST_OK) {
        v = contrast_head(r, "original", &first, &r->cond[cond]);
        original_tests(r, cond, &o, &t, v, err);
        if (err->code == ST_OK &&
            paired_compare(o.tally, t.tally, r->n_tmpl, (struct paired_opts){ REPORT_LEVEL, SEED },
                           &d, err) == ST_OK) {
            put(v, "paired", paired_json(&d), err);
            put(v, "equivalence",
                equivalence_json(equivalence_test(&d, margin_of(r), REPORT_ALPHA)), err);
        }
        table_free(&t);
    }
    table_free(&o);
    return v;
}

static json_t *variant_contrast(struct report *r, const char *kind, size_t a, size_t b,
                                struct err *err)
{
    struct table x = { 0 }, y = { 0 };
    struct paired d;
    json_t *v = NULL;
    if (table_make(r, a, r->profile, &x, err) == ST_OK &&
        table_make(r, b, r->profile, &y, err) == ST_OK &&
        paired_compare(x.tally, y.tally, r->n_tmpl, (struct paired_opts){ REPORT_LEVEL, SEED }, &d,
                       err) == ST_OK) {
        v = contrast_head(r, kind, &r->cond[a], &r->cond[b]);
        put(v, "p", json_num(d.p_flip), err);
        put(v, "test", json_string("sign flips of template differences"), err);
        put(v, "paired", paired_json(&d), err);
        put(v, "equivalence", equivalence_json(equivalence_test(&d, margin_of(r), REPORT_ALPHA)),
            err);
    }
    table_free(&x);
    table_free(&y);
    return v;
}

/* Holm over the declared ones if there are any, else over all. */
static void adjust(json_t *list, struct err *err)
{
    double p[CONTRASTS_MAX], q[CONTRASTS_MAX];
    size_t i, n = json_array_size(list);
    json_t *v;
    bool declared = false;
    json_array_foreach(list, i, v) declared |= json_is_true(json_object_get(v, "primary"));
    json_array_foreach(list, i, v)
    {
        const json_t *own = json_object_get(v, "p");
        bool in = !declared || json_is_true(json_object_get(v, "primary"));
        p[i] = in && json_is_number(own) ? json_number_value(own) : (double)NAN;
    }
    if (adjust_holm(p, n, q, err) != ST_OK)
        return;
    json_array_foreach(list, i, v) put(v, "p_holm", json_num(q[i]), err);
}

json_t *report_contrasts(struct report *r, struct err *err)
{
    json_t *list = json_array();
    size_t both = condition_find(r, "both", 0);
    for (size_t c = 0; c < r->n_cond && err->code == ST_OK; c++)
        if (r->cond[c].level == 0 && !condition_is_original(&r->cond[c]))
            add(list, original_contrast(r, c, err), err);
    for (size_t c = 0; c < r->n_cond && err->code == ST_OK; c++)
        if (both != SIZE_MAX && c != both && r->cond[c].level == 0 &&
            !condition_is_original(&r->cond[c]))
            add(list, variant_contrast(r, "variant", c, both, err), err);
    size_t control = condition_find(r, "noop-control", 0), noop = condition_find(r, "noop", 0);
    if (control != SIZE_MAX && noop != SIZE_MAX && err->code == ST_OK)
        add(list, variant_contrast(r, "variant", noop, control, err), err);
    for (size_t c = 0; c < r->n_cond && err->code == ST_OK; c++) {
        size_t base = condition_find(r, r->cond[c].variant, 0);
        if (r->cond[c].level != 0 && base != SIZE_MAX && !condition_is_original(&r->cond[c]))
            add(list, variant_contrast(r, "level", c, base, err), err);
    }
    if (err->code == ST_OK)
        adjust(list, err);
    return list;
}

/* ---- levels ---- */

/* Conditions of a variant in order of level. */
struct rungs {
    size_t at[CONDITIONS_MAX], n;
    double level[CONDITIONS_MAX];
};

static struct rungs rungs_of(const struct report *r, const char *variant)
{
    struct rungs v = { .n = 0 };
    for (size_t c = 0; c < r->n_cond; c++) /* sorted by level */
        if (strcmp(r->cond[c].variant, variant) == 0) {
            v.level[v.n] = (double)r->cond[c].level;
            v.at[v.n++] = c;
        }
    return v;
}

/* rate[t * v->n + l]: of each template at each level, NaN where it has none. */
static enum status rung_rates(const struct report *r, const struct rungs *v, double *rate,
                              struct err *err)
{
    for (size_t l = 0; l < v->n; l++) {
        struct table x;
        if (table_make(r, v->at[l], r->profile, &x, err) != ST_OK)
            return err->code;
        for (size_t i = 0; i < r->n_tmpl; i++)
            rate[i * v->n + l] = x.tally[i].n ? tally_rate(x.tally[i]) : (double)NAN;
        table_free(&x);
    }
    return ST_OK;
}

/* Mean and standard error at one level, over templates that have all. */
static json_t *rung_json(const struct rungs *v, const double *rate, size_t n_tmpl, size_t l)
{
    double sum = 0, square = 0, m = 0;
    for (size_t i = 0; i < n_tmpl; i++) {
        bool whole = true;
        for (size_t j = 0; j < v->n; j++)
            whole &= !isnan(rate[i * v->n + j]);
        if (whole) {
            sum += rate[i * v->n + l];
            square += rate[i * v->n + l] * rate[i * v->n + l];
            m++;
        }
    }
    double mean = m > 0 ? sum / m : (double)NAN;
    double se = m > 1 ? sqrt(fmax(0, square / m - mean * mean) / (m - 1)) : (double)NAN;
    return json_pack("{s:I, s:o, s:o}", "level", (json_int_t)v->level[l], "accuracy",
                     json_num(mean), "se", json_num(se));
}

static json_t *ladder(struct report *r, const char *variant, struct err *err)
{
    struct rungs v = rungs_of(r, variant);
    double *rate = calloc(r->n_tmpl * v.n + 1, sizeof *rate);
    struct trend t = { 0 };
    json_t *doc = NULL, *steps = NULL;
    if (!rate) {
        err_set(err, ST_NOMEM, "level ladder");
        return NULL;
    }
    if (rung_rates(r, &v, rate, err) == ST_OK &&
        trend_fit(rate, r->n_tmpl, v.level, v.n, (struct paired_opts){ REPORT_LEVEL, SEED }, &t,
                  err) == ST_OK) {
        steps = json_array();
        for (size_t l = 0; l < v.n; l++)
            add(steps, rung_json(&v, rate, r->n_tmpl, l), err);
        doc = json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "variant", variant, "templates",
                        (json_int_t)t.n, "steps", steps, "slope", json_num(t.slope), "se",
                        json_num(t.se), "interval", json_interval(t.ci), "p_t", json_num(t.p_t),
                        "p_permutation", json_num(t.p_permutation));
    }
    free(rate);
    return doc;
}

json_t *report_levels(struct report *r, struct err *err)
{
    json_t *list = json_array();
    for (size_t c = 0; c < r->n_cond && err->code == ST_OK; c++) {
        size_t first = c, levels = 0;
        for (size_t d = 0; d < r->n_cond; d++)
            if (strcmp(r->cond[d].variant, r->cond[c].variant) == 0) {
                levels++;
                first = d < first ? d : first;
            }
        if (first == c && levels > 1 && !condition_is_original(&r->cond[c]))
            add(list, ladder(r, r->cond[c].variant, err), err);
    }
    return list;
}
