/* eval/report/regress.c - regressions of original against generated answers.
 *
 * Where questions were asked more than once, the first answers are fitted as a run of its own, and
 * so are the second ones, and so on, all with the same coefficients: each of these rounds is a
 * group of the fit. What one template's rounds have in common goes into the errors, which are the
 * templates'. So every answer counts, and none twice. */
#include "eval/report/internal.h"
#include "eval/stat/model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* p: of the likelihood ratio where each question was asked once, else Wald's with the templates'
 * errors. */
static json_t *fit_json(const struct fit *f, size_t col)
{
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:I, s:s}", "state",
                     fit_flag_name(f->flags), "usable", f->flags == FIT_OK, "log_odds",
                     json_num(f->beta[col]), "se", json_num(f->se[col]), "p", json_num(f->p),
                     "wald_p", json_num(f->wald_p[col]), "sigma", json_num(f->sigma), "templates",
                     (json_int_t)(f->n_cluster ? f->n_cluster : f->n_group), "errors",
                     f->n_cluster ? "templates" : "model");
}

/* ---- the answers ---- */

struct answers {
    const struct answer **v;
    size_t n;
};

static int by_round(const void *a, const void *b)
{
    const struct answer *x = *(const struct answer *const *)a,
                        *y = *(const struct answer *const *)b;
    if (x->tmpl != y->tmpl)
        return x->tmpl < y->tmpl ? -1 : 1;
    if (x->repeat != y->repeat)
        return x->repeat < y->repeat ? -1 : 1;
    return (x > y) - (x < y);
}

static bool same_round(const struct answer *a, const struct answer *b)
{
    return a->tmpl == b->tmpl && a->repeat == b->repeat;
}

/* The scored answers of originals and of the condition, round by round. */
static enum status collect(const struct report *r, size_t cond, struct answers *ret,
                           struct err *err)
{
    struct answers a = { malloc((r->n + 1) * sizeof(const struct answer *)), 0 };
    if (!a.v)
        return err_set(err, ST_NOMEM, "regression of %zu answers", r->n);
    for (size_t i = 0; i < r->n; i++) {
        const struct answer *x = &r->answer[i];
        bool original = x->original && r->cond[x->cond].level == 0;
        if (x->scored && (original || (x->cond == cond && !x->original)))
            a.v[a.n++] = x;
    }
    qsort(a.v, a.n, sizeof(const struct answer *), by_round);
    *ret = a;
    return ST_OK;
}

/* ---- rows ---- */

struct design {
    uint32_t *group, *cluster;
    double *k, *n, *x;
    size_t rows;
};

static enum status design_make(struct design *d, size_t rows, size_t cols, struct err *err)
{
    *d = (struct design){ .group = malloc(2 * (rows + 1) * sizeof *d->group),
                          .k = malloc((rows + 1) * (2 + cols) * sizeof *d->k) };
    if (!d->group || !d->k)
        return err_set(err, ST_NOMEM, "regression of %zu answers", rows);
    d->cluster = d->group + rows + 1;
    d->n = d->k + rows + 1;
    d->x = d->n + rows + 1;
    return ST_OK;
}

static void design_free(struct design *d)
{
    free(d->group);
    free(d->k);
}

static struct model_rows rows_of(const struct report *r, const struct design *d, size_t cols)
{
    return (struct model_rows){ .n_row = d->rows,
                                .n_col = cols,
                                .group = d->group,
                                .k = d->k,
                                .n = d->n,
                                .x = d->x,
                                .cluster = r->repeats ? d->cluster : NULL };
}

static void put_row(struct design *d, uint32_t group, uint32_t tmpl, double k, double n)
{
    d->group[d->rows] = group;
    d->cluster[d->rows] = tmpl;
    d->k[d->rows] = k;
    d->n[d->rows++] = n;
}

/* ---- the mixed model ---- */

/* Two rows a round that has both, the original and the generated answers. */
static void mixed_rows(const struct report *r, const struct answers *a, struct design *d)
{
    uint32_t group = 0;
    assert(d->x);
    for (size_t i = 0, end; i < a->n; i = end) {
        double k[2] = { 0 }, n[2] = { 0 };
        for (end = i; end < a->n && same_round(a->v[i], a->v[end]); end++) {
            bool original = a->v[end]->original;
            if (original && n[1] > 0)
                continue; /* a template has one */
            k[original] += report_is_right(r, a->v[end]);
            n[original]++;
        }
        for (int original = 0; original < 2 && n[0] > 0 && n[1] > 0; original++) {
            d->x[d->rows] = original;
            put_row(d, group, a->v[i]->tmpl, k[original], n[original]);
        }
        group++;
    }
}

json_t *report_mixed(const struct report *r, size_t cond, struct err *err)
{
    struct answers a = { 0 };
    struct design d = { 0 };
    struct fit f = { 0 };
    json_t *v = NULL;
    if (collect(r, cond, &a, err) == ST_OK && design_make(&d, a.n, 1, err) == ST_OK) {
        mixed_rows(r, &a, &d);
        struct model_rows rows = rows_of(r, &d, 1);
        if (glmm_fit(&rows, 0, &f, err) == ST_OK)
            v = fit_json(&f, 1);
    }
    design_free(&d);
    free(a.v);
    return v;
}

/* ---- covariates held fixed ---- */

/* The first `cols` of: original, mean log10 of the numbers, words. */
static void adjusted_rows(const struct report *r, const struct answers *a, size_t cols,
                          struct design *d)
{
    uint32_t group = 0;
    assert(d->x);
    d->rows = 0;
    for (size_t i = 0; i < a->n; i++) {
        const struct answer *v = a->v[i];
        const double x[3] = { v->original, v->log_number, v->words / 10 };
        group += i > 0 && !same_round(a->v[i - 1], v);
        memcpy(d->x + cols * i, x, cols * sizeof *x);
        put_row(d, group, v->tmpl, report_is_right(r, v), 1);
    }
}

/* Answers of which both covariates are told. */
static void keep_told(struct answers *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        if (!isnan(a->v[i]->log_number) && !isnan(a->v[i]->words))
            a->v[n++] = a->v[i];
    a->n = n;
}

json_t *report_adjusted(const struct report *r, size_t cond, struct err *err)
{
    struct answers a = { 0 };
    struct design d = { 0 };
    struct fit f = { .flags = FIT_COLLINEAR };
    size_t cols = 3; /* the question's length goes first when it cannot be told from the template */
    json_t *ret = NULL;
    if (collect(r, cond, &a, err) != ST_OK || design_make(&d, a.n, 3, err) != ST_OK)
        goto done;
    keep_told(&a);
    for (; err->code == ST_OK && a.n && cols > 1 && f.flags & FIT_COLLINEAR; cols--) {
        adjusted_rows(r, &a, cols, &d);
        struct model_rows rows = rows_of(r, &d, cols);
        clogit_fit(&rows, 0, &f, err);
    }
    cols++;
    if (err->code == ST_OK && a.n == 0) {
        ret = json_null();
    } else if (err->code == ST_OK) {
        bool words = cols > 2;
        ret = fit_json(&f, 0);
        put(ret, "log10_number", json_num(f.flags ? (double)NAN : f.beta[1]), err);
        put(ret, "p_number", json_num(f.wald_p[1]), err);
        put(ret, "ten_words", json_num(f.flags || !words ? (double)NAN : f.beta[2]), err);
        put(ret, "p_words", json_num(words ? f.wald_p[2] : (double)NAN), err);
    }
done:
    design_free(&d);
    free(a.v);
    return ret;
}
