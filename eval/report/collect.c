/* eval/report/collect.c - takes samples in, and lays them out by template, condition and set. */
#include "engine/base/rng.h"
#include "eval/rational.h"
#include "eval/report/internal.h"

#include <math.h>
#include <stdlib.h>

enum { QUOTED_PER_CLASS = 12, QUOTE_BYTES = 4000, CELLS_MAX = 1 << 28 };

/* Canonical order; unknown ones come after, by name. */
static const char *const variants[] = { "original", "names", "numbers",      "surface",
                                        "both",     "noop",  "noop-control", "frozen" };
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static size_t variant_place(const char *name)
{
    for (size_t i = 0; i < VARIANTS; i++)
        if (strcmp(variants[i], name) == 0)
            return i;
    return VARIANTS;
}

bool condition_is_original(const struct condition *c)
{
    return strcmp(c->variant, "original") == 0;
}

size_t condition_find(const struct report *r, const char *variant, int64_t level)
{
    for (size_t c = 0; c < r->n_cond; c++)
        if (r->cond[c].level == level && strcmp(r->cond[c].variant, variant) == 0)
            return c;
    return SIZE_MAX;
}

bool report_is_right(const struct report *r, const struct answer *a)
{
    return a->scored && (a->right >> r->profile & 1);
}

/* ---- opening ---- */

static enum status read_manifest(struct report *r, const char *text, struct err *err)
{
    if (json_parse(str_c(text && *text ? text : "{}"), "the run's manifest", &r->manifest, err) !=
        ST_OK)
        return err->code;
    struct str profile = STR("flexible");
    const json_t *e = json_object_get(r->manifest, "extraction");
    if (json_is_object(e) && json_get_str(e, "profile", false, &profile, err) != ST_OK)
        return err_ctx(err, "the run's manifest");
    if (!extract_profile_find(profile, &r->profile))
        return err_set(err, ST_FORMAT,
                       "the run's manifest names the profile '%.*s', which this "
                       "version does not have",
                       (int)profile.n, profile.p);
    return ST_OK;
}

enum status report_open(const struct run_row *row, struct report **ret, struct err *err)
{
    struct report *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "report");
    snprintf(r->id, sizeof r->id, "%s", row->id);
    r->name = strdup(row->name ? row->name : "");
    r->state = strdup(run_state_name(row->state));
    r->failures = json_array();
    if (!r->name || !r->state || !r->failures)
        err_set(err, ST_NOMEM, "report");
    else
        read_manifest(r, row->manifest, err);
    if (err->code != ST_OK) {
        report_free(r);
        return err->code;
    }
    *ret = r;
    return ST_OK;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_tmpl; i++)
        free(r->tmpl[i]);
    free(r->tmpl);
    free(r->answer);
    free(r->name);
    free(r->state);
    json_free(r->failures);
    json_free(r->manifest);
    free(r);
}

/* ---- adding ---- */

/* Grows an array of n items by doubling. */
static bool room(void **p, size_t n, size_t *cap, size_t item)
{
    if (n < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 256;
    void *q = realloc(*p, more * item);
    if (!q)
        return false;
    *p = q;
    *cap = more;
    return true;
}

static enum status template_of(struct report *r, struct str id, uint32_t *ret, struct err *err)
{
    /* Samples come by template in most orders. */
    if (r->n_tmpl && str_is(id, r->tmpl[r->last_tmpl])) {
        *ret = (uint32_t)r->last_tmpl;
        return ST_OK;
    }
    size_t i = 0;
    while (i < r->n_tmpl && !str_is(id, r->tmpl[i]))
        i++;
    if (i == r->n_tmpl) {
        char *copy = i < TEMPLATES_MAX ? str_dup(id) : NULL;
        if (i == TEMPLATES_MAX)
            return err_set(err, ST_FULL, "a report has at most %d templates", TEMPLATES_MAX);
        if (!copy || !room((void **)&r->tmpl, i, &r->cap_tmpl, sizeof *r->tmpl)) {
            free(copy);
            return err_set(err, ST_NOMEM, "report");
        }
        r->tmpl[r->n_tmpl++] = copy;
    }
    *ret = (uint32_t)(r->last_tmpl = i);
    return ST_OK;
}

static enum status condition_of(struct report *r, const struct run_sample *s, uint32_t *ret,
                                struct err *err)
{
    char name[sizeof r->cond[0].variant];
    snprintf(name, sizeof name, "%.*s", (int)s->variant.n, s->variant.p);
    size_t c = condition_find(r, name, s->level);
    if (c == SIZE_MAX) {
        if (r->n_cond == CONDITIONS_MAX)
            return err_set(err, ST_FULL, "a report has at most %d variants and levels",
                           CONDITIONS_MAX);
        c = r->n_cond++;
        snprintf(r->cond[c].variant, sizeof r->cond[c].variant, "%s", name);
        r->cond[c].level = s->level;
    }
    *ret = (uint32_t)c;
    return ST_OK;
}

static double number_of(const json_t *v)
{
    struct rational q;
    if (json_is_number(v))
        return json_number_value(v);
    if (json_is_string(v) && rat_parse(str_c(json_string_value(v)), &q))
        return rat_f64(q);
    return (double)NAN;
}

json_t *report_info(struct str text, struct err *err)
{
    json_t *doc = NULL;
    /* Twice: jansson takes some losses of memory for bad syntax. */
    for (int i = 0; i < 2 && text.n && !doc; i++) {
        struct err bad = ERR_INIT;
        if (json_parse(text, "info", &doc, &bad) == ST_NOMEM)
            err_set(err, ST_NOMEM, "report");
    }
    return doc;
}

/* Covariates and the audit's word, from the item's JSON and text; NaN where nothing is told. */
static void covariates(struct answer *a, struct str info, struct str question, struct err *err)
{
    json_t *doc;
    const json_t *v;
    double sum = 0, words = 0;
    size_t i, n = 0;
    a->log_number = a->words = (double)NAN;
    if (!(doc = report_info(info, err)))
        return;
    json_array_foreach(json_object_get(doc, "spans"), i, v)
    {
        double x = fabs(number_of(json_object_get(v, "number")));
        if (x > 0) {
            sum += log10(x);
            n++;
        }
    }
    for (size_t k = 0; k < question.n; k++)
        words += question.p[k] > ' ' && (k == 0 || question.p[k - 1] <= ' ');
    if (n)
        a->log_number = sum / (double)n;
    if (words > 0)
        a->words = words;
    const char *audit = json_string_value(json_object_get(doc, "audit"));
    a->accepted = audit && strcmp(audit, "accepted") == 0;
    json_free(doc);
}

static struct str clipped(struct str s, size_t max)
{
    if (s.n <= max)
        return s;
    while (max > 0 && ((unsigned char)s.p[max] & 0xC0) == 0x80)
        max--;
    return (struct str){ s.p, max };
}

static void quote_failure(struct report *r, const struct run_sample *s, struct err *err)
{
    if (s->state != SAMPLE_DONE || s->klass == CLASS_CORRECT || s->question.n == 0 ||
        r->n_failure[s->klass] >= QUOTED_PER_CLASS ||
        json_array_size(r->failures) >= REPORT_FAILURES)
        return;
    r->n_failure[s->klass]++;
    json_t *v = json_object();
    put(v, "key", json_text(s->key), err);
    put(v, "class", json_string(sample_class_name(s->klass)), err);
    put(v, "gold", json_text(s->gold_text), err);
    put(v, "extracted", json_text(str_c(s->hit[r->profile].text)), err);
    put(v, "rule", json_string(extract_rule_name(s->hit[r->profile].rule)), err);
    put(v, "question", json_text(clipped(s->question, QUOTE_BYTES)), err);
    put(v, "response", json_text(clipped(s->response, QUOTE_BYTES)), err);
    add(r->failures, v, err);
}

/* The same for all answers to a question: the key of a repeat ends with its number, "...#2". */
static uint64_t key_of(const struct run_sample *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    size_t n = s->key.n;
    char number[24];
    snprintf(number, sizeof number, "#%lld", (long long)s->repeat);
    if (s->repeat > 0 && str_ends(s->key, str_c(number)))
        n -= strlen(number);
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s->key.p[i]) * 0x100000001b3u;
    /* The text too: the same key of another seed is another question. */
    for (size_t i = 0; i < s->question.n; i++)
        h = (h ^ (unsigned char)s->question.p[i]) * 0x100000001b3u;
    return rng_mix(rng_mix(h ^ (uint64_t)s->gold_num) + (uint64_t)s->gold_den);
}

enum status report_add(struct report *r, const struct run_sample *s, struct err *err)
{
    struct answer a = { .set = (int32_t)s->instance, .repeat = (int32_t)s->repeat };
    if (r->n >= REPORT_SAMPLES_MAX)
        return err_set(err, ST_FULL, "a report has at most %d samples", REPORT_SAMPLES_MAX);
    if (s->instance < 0 || s->instance > 1000000 || s->repeat < 0 || s->repeat > 1000000)
        return err_set(err, ST_FORMAT, "sample %lld: instance %lld, repeat %lld", (long long)s->ord,
                       (long long)s->instance, (long long)s->repeat);
    if (template_of(r, s->tmpl, &a.tmpl, err) != ST_OK || condition_of(r, s, &a.cond, err) != ST_OK)
        return err->code;
    if (!room((void **)&r->answer, r->n, &r->cap, sizeof *r->answer))
        return err_set(err, ST_NOMEM, "report of %zu samples", r->n);
    a.scored = s->state == SAMPLE_DONE && s->version > 0;
    a.original = s->original;
    a.klass = (uint8_t)s->klass;
    a.trap = (int32_t)s->trap;
    a.truncated = str_is(s->finish, "length");
    a.unparsed = s->hit[r->profile].rule == RULE_NONE;
    a.empty = s->klass == CLASS_EMPTY;
    for (int p = 0; p < EXTRACT_PROFILES; p++)
        a.right |= (uint16_t)(s->correct[p] << p);
    a.key = key_of(s);
    covariates(&a, s->info, s->question, err);
    r->failed += s->state == SAMPLE_FAILED;
    r->pending += s->state == SAMPLE_PENDING || s->state == SAMPLE_LEASED;
    r->repeats += s->repeat > 0;
    r->most = s->repeat + 1 > r->most ? s->repeat + 1 : r->most;
    r->attempts += s->n_attempt;
    r->prompt_tokens += s->prompt_tokens;
    r->cached_tokens += s->cached_tokens;
    r->completion_tokens += s->completion_tokens;
    quote_failure(r, s, err);
    if (err->code != ST_OK)
        return err->code;
    r->answer[r->n++] = a;
    r->sorted = false;
    return ST_OK;
}

/* ---- order ---- */

struct named {
    const char *name;
    struct condition cond;
    uint32_t from;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static int by_condition(const void *a, const void *b)
{
    const struct condition *x = &((const struct named *)a)->cond,
                           *y = &((const struct named *)b)->cond;
    size_t i = variant_place(x->variant), j = variant_place(y->variant);
    if (x->level != y->level)
        return x->level < y->level ? -1 : 1;
    if (i != j)
        return i < j ? -1 : 1;
    return strcmp(x->variant, y->variant);
}

/* Sums over answers must not depend on the order in which they came. */
static int by_place(const void *a, const void *b)
{
    const struct answer *x = a, *y = b;
    if (x->tmpl != y->tmpl)
        return x->tmpl < y->tmpl ? -1 : 1;
    if (x->cond != y->cond)
        return x->cond < y->cond ? -1 : 1;
    if (x->set != y->set)
        return x->set < y->set ? -1 : 1;
    if (x->repeat != y->repeat)
        return x->repeat < y->repeat ? -1 : 1;
    return (x->key > y->key) - (x->key < y->key);
}

/* The same, but one question's answers stand one behind another. */
static int by_question(const void *a, const void *b)
{
    const struct answer *x = a, *y = b;
    if (x->tmpl == y->tmpl && x->cond == y->cond && x->set == y->set && x->original != y->original)
        return x->original ? -1 : 1;
    return by_place(a, b);
}

enum status report_sort(struct report *r, struct err *err)
{
    size_t most = r->n_tmpl > r->n_cond ? r->n_tmpl : r->n_cond;
    if (r->sorted)
        return ST_OK;
    struct named *v = calloc(most + 1, sizeof *v);
    uint32_t *to = calloc(r->n_tmpl + r->n_cond + 1, sizeof *to), *to_cond = to + r->n_tmpl;
    if (!v || !to) {
        free(v);
        free(to);
        return err_set(err, ST_NOMEM, "report of %zu templates", r->n_tmpl);
    }
    for (size_t i = 0; i < r->n_tmpl; i++)
        v[i] = (struct named){ .name = r->tmpl[i], .from = (uint32_t)i };
    qsort(v, r->n_tmpl, sizeof *v, by_name);
    for (size_t i = 0; i < r->n_tmpl; i++) {
        to[v[i].from] = (uint32_t)i;
        r->tmpl[i] = (char *)v[i].name;
    }
    for (size_t c = 0; c < r->n_cond; c++)
        v[c] = (struct named){ .cond = r->cond[c], .from = (uint32_t)c };
    qsort(v, r->n_cond, sizeof *v, by_condition);
    for (size_t c = 0; c < r->n_cond; c++) {
        to_cond[v[c].from] = (uint32_t)c;
        r->cond[c] = v[c].cond;
    }
    for (size_t i = 0; i < r->n; i++) {
        r->answer[i].tmpl = to[r->answer[i].tmpl];
        r->answer[i].cond = to_cond[r->answer[i].cond];
    }
    if (r->n)
        qsort(r->answer, r->n, sizeof *r->answer, r->repeats ? by_question : by_place);
    free(v);
    free(to);
    r->last_tmpl = 0;
    r->sorted = true;
    return ST_OK;
}

/* ---- tables ---- */

static bool same_question(const struct answer *a, const struct answer *b)
{
    return a->tmpl == b->tmpl && a->cond == b->cond && a->set == b->set &&
           a->original == b->original;
}

struct question report_question(const struct report *r, size_t at, enum extract_profile p)
{
    struct question q = { 0 };
    const struct answer *a = &r->answer[at];
    for (; at + q.n < r->n && same_question(a, &a[q.n]); q.n++) {
        bool right = a[q.n].right >> p & 1;
        /* Without a number of its own it is another question of that place: the last one counts. */
        if (q.n && a[q.n].repeat == a[q.n - 1].repeat)
            break;
        if (!a[q.n].scored)
            continue;
        q.first = q.scored ? q.first : right;
        q.scored++;
        q.right += right;
    }
    return q;
}

bool report_belongs(const struct report *r, const struct answer *a, size_t cond)
{
    return a->cond == cond && (!a->original || condition_is_original(&r->cond[cond]));
}

static bool table_open(const struct report *r, size_t n_set, struct table *ret, struct err *err)
{
    size_t n = r->n_tmpl * n_set + 1;
    struct table t = { .n_tmpl = r->n_tmpl, .n_set = n_set };
    t.x = malloc(n);
    t.tally = calloc(t.n_tmpl + 1, sizeof *t.tally);
    if (r->repeats) {
        t.share = calloc(n, sizeof *t.share);
        t.right = malloc(n * sizeof *t.right);
    }
    if (!t.x || !t.tally || (r->repeats && (!t.share || !t.right))) {
        table_free(&t);
        err_set(err, ST_NOMEM, "table of %zu templates", r->n_tmpl);
        return false;
    }
    memset(t.x, CELL_UNSCORED, n);
    for (size_t i = 0; t.right && i < n; i++)
        t.right[i] = -1;
    *ret = t;
    return true;
}

static void table_put(const struct report *r, struct table *t, size_t at, struct question q)
{
    t->x[at] = q.first ? CELL_RIGHT : CELL_WRONG;
    if (!t->share || !t->right)
        return;
    t->share[at] = question_share(q);
    t->right[at] = q.scored == (uint32_t)r->most ? (int32_t)q.right : -1;
}

enum status table_make(const struct report *r, size_t cond, enum extract_profile p,
                       struct table *ret, struct err *err)
{
    size_t n_set = 0;
    struct table t;
    for (size_t i = 0; i < r->n; i++)
        if (report_belongs(r, &r->answer[i], cond) && (size_t)r->answer[i].set >= n_set)
            n_set = (size_t)r->answer[i].set + 1;
    if (n_set && r->n_tmpl > CELLS_MAX / n_set)
        return err_set(err, ST_RANGE, "%zu templates with instance numbers up to %zu", r->n_tmpl,
                       n_set - 1);
    if (!table_open(r, n_set, &t, err))
        return err->code;
    struct question q;
    for (size_t i = 0; i < r->n; i += q.n) {
        const struct answer *a = &r->answer[i];
        q = report_question(r, i, p);
        if (report_belongs(r, a, cond) && q.scored)
            table_put(r, &t, a->tmpl * n_set + (size_t)a->set, q);
    }
    cells_tallies(table_cells(&t), t.tally);
    *ret = t;
    return ST_OK;
}

void table_free(struct table *t)
{
    free(t->x);
    free(t->share);
    free(t->right);
    free(t->tally);
    *t = (struct table){ 0 };
}

enum status report_originals(const struct report *r, enum extract_profile p, struct table *ret,
                             struct err *err)
{
    struct table t;
    struct question q;
    if (!table_open(r, 1, &t, err))
        return err->code;
    for (size_t i = 0; i < r->n; i += q.n) {
        const struct answer *a = &r->answer[i];
        q = report_question(r, i, p);
        if (a->original && q.scored && r->cond[a->cond].level == 0 && t.x[a->tmpl] == CELL_UNSCORED)
            table_put(r, &t, a->tmpl, q);
    }
    cells_tallies(table_cells(&t), t.tally);
    *ret = t;
    return ST_OK;
}
