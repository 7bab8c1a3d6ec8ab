/* eval/report/condition.c - one condition's figures. */
#include "eval/report/internal.h"
#include "eval/stat/multi.h"

#include <math.h>
#include <stdlib.h>

enum { BINS_MAX = 50, RESAMPLES = 10000, SEED = 20241007 };

json_t *json_num(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *json_interval(struct interval v)
{
    return json_pack("{s:o, s:o}", "low", json_num(v.low), "high", json_num(v.high));
}

json_t *condition_json(const struct condition *c)
{
    return json_pack("{s:s, s:I}", "variant", c->variant, "level", (json_int_t)c->level);
}

/* ---- repeats ---- */

struct repeats {
    json_int_t answers, right, questions, any, all; /* of what is scored */
    double n_pair, within; /* questions with two answers or more, sum of their variances */
};

static void add_question(struct question q, struct repeats *t)
{
    double n = q.scored, k = q.right;
    t->answers += q.scored;
    t->right += q.right;
    t->questions += q.scored > 0;
    t->any += q.right > 0;
    t->all += q.scored > 0 && q.right == q.scored;
    if (q.scored > 1) {
        t->n_pair++;
        t->within += k / n * (1 - k / n) * n / (n - 1);
    }
}

/* JSON null: each question was asked once. within_question: the variance of one answer about its
 * question's mean, n/(n-1) p (1-p) over the questions; se_share: what part of the variance of a
 * question's mean it is, which more repeats would lessen. */
static json_t *repeats_json(const struct report *r, size_t cond, const struct decomposition *d)
{
    struct repeats t = { 0 };
    struct question q;
    for (size_t i = 0; i < r->n; i += q.n) {
        q = report_question(r, i, r->profile);
        if (r->answer[i].cond == cond)
            add_question(q, &t);
    }
    if (t.answers == t.questions || t.answers == 0)
        return json_null();
    double n = (double)t.questions, each = (double)t.answers / n,
           within = t.n_pair > 0 ? t.within / t.n_pair : (double)NAN;
    double share = d->within > 0 ? fmin(1, within / each / d->within) : (double)NAN;
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:o, s:o}", "most", (json_int_t)r->most,
                     "answers", t.answers, "questions", t.questions, "accuracy",
                     (double)t.right / (double)t.answers, "any_right", (double)t.any / n,
                     "all_right", (double)t.all / n, "within_question", json_num(within),
                     "se_share", json_num(share));
}

/* ---- counts ---- */

static void count_answers(const struct report *r, size_t cond, const struct decomposition *d,
                          json_t *v, struct err *err)
{
    json_int_t asked = 0, scored = 0, right = 0, cut = 0, empty = 0, unparsed = 0,
               class[16] = { 0 };
    for (size_t i = 0; i < r->n; i++) {
        const struct answer *a = &r->answer[i];
        if (a->cond != cond)
            continue;
        asked++;
        scored += a->scored;
        right += report_is_right(r, a);
        cut += a->scored && a->truncated;
        empty += a->scored && a->empty;
        unparsed += a->scored && a->unparsed;
        class[a->klass < 16 ? a->klass : 0]++;
    }
    json_t *classes = json_object();
    for (int k = 0; k < SAMPLE_CLASSES; k++)
        if (class[k])
            put(classes, sample_class_name((enum sample_class)k), json_integer(class[k]), err);
    put(v, "asked", json_integer(asked), err);
    put(v, "scored", json_integer(scored), err);
    put(v, "unscored", json_integer(asked - scored), err);
    put(v, "correct", json_integer(right), err);
    put(v, "accuracy", scored ? json_real((double)right / (double)scored) : json_null(), err);
    put(v, "accuracy_of_asked", asked ? json_real((double)right / (double)asked) : json_null(),
        err);
    put(v, "truncated", json_integer(cut), err);
    put(v, "empty", json_integer(empty), err);
    put(v, "unparsed", json_integer(unparsed), err);
    put(v, "classes", classes, err);
    if (r->repeats)
        put(v, "repeats", repeats_json(r, cond, d), err);
}

/* ---- the histogram of set accuracies, with what noise alone lets expect ---- */

/* Normal with the sets' expected spread, per bin: P(bin) times the number of sets. */
static json_t *expected_counts(const struct decomposition *d, double n_set, double start,
                               double width, size_t bins, struct err *err)
{
    if (!(d->set_sd > 0))
        return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < bins; i++) {
        double a = (start + width * (double)i - d->mean) / d->set_sd, b = a + width / d->set_sd;
        add(list, json_real(n_set * 0.5 * (erfc(-b * M_SQRT1_2) - erfc(-a * M_SQRT1_2))), err);
    }
    return list;
}

/* Bins of whole right answers, at most BINS_MAX: an edge lies halfway between two counts. */
static json_t *histogram_json(const double *acc, size_t n, size_t n_tmpl,
                              const struct set_summary *s, const struct decomposition *d,
                              struct err *err)
{
    double unit = 1.0 / (double)(n_tmpl ? n_tmpl : 1);
    double span = (s->max - s->min) / unit + 1;
    double step = ceil(span / BINS_MAX), width = unit * (step < 1 ? 1 : step);
    double start = s->min - unit / 2;
    size_t bins = (size_t)floor((s->max + unit / 4 - start) / width) + 1,
           count[BINS_MAX + 2] = { 0 };
    if (bins > BINS_MAX + 1)
        bins = BINS_MAX + 1;
    for (size_t i = 0; i < n; i++)
        if (!isnan(acc[i])) {
            size_t b = (size_t)((acc[i] - start) / width);
            count[b < bins ? b : bins - 1]++;
        }
    json_t *list = json_array();
    for (size_t i = 0; i < bins; i++)
        add(list, json_integer((json_int_t)count[i]), err);
    return json_pack("{s:f, s:f, s:o, s:o}", "start", start, "width", width, "counts", list,
                     "expected", expected_counts(d, (double)s->n_set, start, width, bins, err));
}

static json_t *decomposition_json(const struct decomposition *d)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "templates",
                     (json_int_t)d->n_template, "mean", json_num(d->mean), "rate_variance",
                     json_num(d->var_rate), "within", json_num(d->within), "between",
                     json_num(d->between), "icc", json_num(d->icc), "expected_set_sd",
                     json_num(d->set_sd), "chi2", json_num(d->chi2), "df", json_num(d->df),
                     "p_spread", json_num(d->p_spread));
}

static json_t *sets_json(const struct set_summary *s, const double *acc, size_t n, struct err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        add(list, json_num(acc[i]), err);
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "n",
                     (json_int_t)s->n_set, "mean", json_num(s->mean), "sd", json_num(s->sd), "min",
                     json_num(s->min), "max", json_num(s->max), "q05", json_num(s->q05), "q25",
                     json_num(s->q25), "q50", json_num(s->q50), "q75", json_num(s->q75), "q95",
                     json_num(s->q95), "accuracy", list);
}

static enum status set_part(struct report *r, const struct table *t, const struct decomposition *d,
                            json_t *v, struct err *err)
{
    double *acc = malloc((t->n_set + 1) * sizeof *acc);
    struct set_summary s;
    size_t whole = 0;
    struct table o = { 0 };
    if (!acc)
        err_set(err, ST_NOMEM, "sets of a condition");
    else if (report_originals(r, r->profile, &o, err) == ST_OK &&
             cells_sets(table_cells(t), acc, &s, err) == ST_OK) {
        /* Of the templates that the sets are of: not every one has names, or each level. */
        double originals = 0, right = 0;
        for (size_t i = 0; i < t->n_tmpl; i++) {
            if (t->tally[i].n == 0)
                continue;
            whole++;
            originals += o.tally[i].n;
            right += tally_sum(o.tally[i]);
        }
        put(v, "sets", sets_json(&s, acc, t->n_set, err), err);
        put(v, "histogram",
            s.n_set ? histogram_json(acc, t->n_set, whole, &s, d, err) : json_null(), err);
        json_t *rank = json_null();
        if (originals > 0 && s.n_set > 1) {
            struct set_rank k = set_rank(right / originals, acc, t->n_set);
            rank = json_pack("{s:f, s:o, s:o, s:o}", "original", right / originals, "p_upper",
                             json_num(k.p_upper), "p_mid", json_num(k.p_mid), "z", json_num(k.z));
        }
        put(v, "original_rank", rank, err);
    }
    free(acc);
    table_free(&o);
    return err->code;
}

/* Accuracies lie between 0 and 1, whatever their intervals' formula thinks. */
static struct interval inside(struct interval v)
{
    return (struct interval){ isnan(v.low) ? v.low : fmax(0, v.low),
                              isnan(v.high) ? v.high : fmin(1, v.high) };
}

static json_t *with_se(struct interval i, double se, struct err *err)
{
    json_t *v = json_interval(i);
    put(v, "se", json_num(se), err);
    return v;
}

/* Of exactly these templates, and of such templates. Where every answer is right, or wrong, there
 * is no spread to go by: exact one-sided bounds then ("bound"), over answers and over templates. */
static void two_intervals(const struct table *t, struct tally all, size_t n, json_t *v,
                          struct err *err)
{
    double se = (double)NAN;
    bool none = tally_sum(all) <= 0, bound = all.n && (none || tally_sum(all) >= all.n);
    json_t *fixed = json_null(), *random = json_null();
    if (bound) {
        fixed = with_se(interval_extreme(none ? 0 : all.n, all.n, REPORT_LEVEL), se, err);
        random = with_se(interval_extreme(none ? 0 : n, n, REPORT_LEVEL), se, err);
    } else if (all.n) {
        struct interval i = interval_fixed(t->tally, t->n_tmpl, REPORT_LEVEL, &se);
        /* One answer a template: no variance within it to see. */
        if (all.n > n)
            fixed = with_se(inside(i), se, err);
        i = interval_random(t->tally, t->n_tmpl, REPORT_LEVEL, &se);
        random = with_se(inside(i), se, err);
    }
    put(v, "bound", json_boolean(bound), err);
    put(v, "fixed", fixed, err);
    put(v, "random", random, err);
}

static void interval_part(const struct table *t, json_t *v, struct err *err)
{
    struct tally all = cells_total(table_cells(t));
    double *rate = malloc((t->n_tmpl + 1) * sizeof *rate), sum = 0;
    size_t n = 0;
    if (!rate) {
        err_set(err, ST_NOMEM, "intervals");
        return;
    }
    for (size_t i = 0; i < t->n_tmpl; i++)
        if (t->tally[i].n)
            sum += rate[n++] = tally_rate(t->tally[i]);
    put(v, "templates", json_integer((json_int_t)n), err);
    put(v, "mean_of_templates", n ? json_num(sum / (double)n) : json_null(), err);
    put(v, "wilson", json_interval(interval_wilson_mean(tally_rate(all), all.n, REPORT_LEVEL)),
        err);
    two_intervals(t, all, n, v, err);
    struct interval f;
    json_t *boot = json_null();
    if (n >= 2 && interval_bootstrap(rate, n, REPORT_LEVEL, RESAMPLES, SEED, &f, err) == ST_OK)
        boot = json_interval(f);
    put(v, "bootstrap", boot, err);
    free(rate);
}

/* How much of a score is extraction: each profile on the same answers. */
static json_t *profiles_json(const struct report *r, size_t cond, struct err *err)
{
    json_t *list = json_array();
    for (int p = 0; p < EXTRACT_PROFILES; p++) {
        json_int_t n = 0, k = 0, differ = 0;
        for (size_t i = 0; i < r->n; i++) {
            const struct answer *a = &r->answer[i];
            if (a->cond != cond || !a->scored)
                continue;
            n++;
            k += a->right >> p & 1;
            differ += (a->right >> p & 1) != (a->right >> r->profile & 1);
        }
        add(list,
            json_pack("{s:s, s:I, s:o, s:I}", "profile",
                      extract_profile_name((enum extract_profile)p), "correct", k, "accuracy",
                      n ? json_real((double)k / (double)n) : json_null(), "differs", differ),
            err);
    }
    return list;
}

/* Numbers of the questions against those of the originals (2.5, point 5). */
static json_t *shift_json(const struct report *r, size_t cond, struct err *err)
{
    double *a = malloc((2 * r->n + 2) * sizeof *a), *b = a ? a + r->n + 1 : NULL;
    size_t n = 0, m = 0;
    if (!a)
        err_set(err, ST_NOMEM, "report");
    for (size_t i = 0; a && i < r->n; i++) {
        const struct answer *x = &r->answer[i];
        if (isnan(x->log_number) || x->repeat)
            continue;
        if (x->original && r->cond[x->cond].level == 0)
            a[n++] = pow(10, x->log_number);
        else if (x->cond == cond && !x->original)
            b[m++] = pow(10, x->log_number);
    }
    json_t *v = json_null();
    if (n && m) {
        struct ks k = ks_two(a, n, b, m);
        v = json_pack("{s:o, s:o, s:o}", "ks", json_num(k.d), "p", json_num(k.p), "median_ratio",
                      json_num(k.ratio));
    }
    free(a);
    return v;
}

static json_t *one_condition(struct report *r, size_t cond, struct err *err)
{
    struct table t;
    if (table_make(r, cond, r->profile, &t, err) != ST_OK)
        return NULL;
    struct decomposition d;
    json_t *v = condition_json(&r->cond[cond]);
    decompose(table_cells(&t), t.tally, &d);
    count_answers(r, cond, &d, v, err);
    interval_part(&t, v, err);
    if (err->code == ST_OK)
        set_part(r, &t, &d, v, err);
    put(v, "decomposition", t.n_set > 1 ? decomposition_json(&d) : json_null(), err);
    put(v, "profiles", profiles_json(r, cond, err), err);
    put(v, "number_shift", shift_json(r, cond, err), err);
    table_free(&t);
    return v;
}

json_t *report_conditions(struct report *r, struct err *err)
{
    json_t *list = json_array();
    for (size_t c = 0; c < r->n_cond && err->code == ST_OK; c++)
        add(list, one_condition(r, c, err), err);
    return list;
}
