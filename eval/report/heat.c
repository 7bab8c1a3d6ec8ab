/* eval/report/heat.c - the map of templates by conditions, and the report on distractors. */
#include "eval/report/internal.h"
#include "eval/stat/exact.h"
#include "eval/stat/multi.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One template in one condition: its questions, and all answers to them. */
struct cell {
    struct tally tally;
    uint32_t right, scored;
};

struct heat {
    struct table *t;   /* per condition */
    struct cell *cell; /* [n_tmpl * n_cond] */
    double *p, *q;     /* the same */
};

static void heat_close(struct heat *h, size_t n_cond)
{
    for (size_t c = 0; h->t && c < n_cond; c++)
        table_free(&h->t[c]);
    free(h->t);
    free(h->cell);
    free(h->p);
}

/* All answers: of questions that were asked more than once, each. */
static enum status heat_open(const struct report *r, struct heat *h, struct err *err)
{
    size_t cells = r->n_tmpl * r->n_cond;
    *h = (struct heat){ calloc(r->n_cond + 1, sizeof *h->t), calloc(cells + 1, sizeof *h->cell),
                        malloc((2 * cells + 1) * sizeof *h->p), NULL };
    if (!h->t || !h->cell || !h->p)
        return err_set(err, ST_NOMEM, "heat map");
    h->q = h->p + cells;
    for (size_t c = 0; c < r->n_cond; c++) {
        if (table_make(r, c, r->profile, &h->t[c], err) != ST_OK)
            return err->code;
        for (size_t i = 0; i < r->n_tmpl; i++)
            h->cell[i * r->n_cond + c].tally = h->t[c].tally[i];
    }
    struct question q;
    for (size_t i = 0; i < r->n; i += q.n) {
        const struct answer *a = &r->answer[i];
        q = report_question(r, i, r->profile);
        if (!report_belongs(r, a, a->cond))
            continue;
        struct cell *x = &h->cell[a->tmpl * r->n_cond + a->cond];
        x->right += q.right;
        x->scored += q.scored;
    }
    return ST_OK;
}

/* ---- which cells stand out ---- */

/* A cell against the same template's other conditions: Fisher's exact p. */
static void cells_once(const struct report *r, struct heat *h, size_t tmpl)
{
    const struct cell *row = &h->cell[tmpl * r->n_cond];
    struct tally all = { 0 };
    for (size_t c = 0; c < r->n_cond; c++) {
        all.n += row[c].tally.n;
        all.k += row[c].tally.k;
    }
    for (size_t c = 0; c < r->n_cond; c++) {
        struct tally x = row[c].tally;
        h->p[tmpl * r->n_cond + c] =
            x.n && all.n > x.n ? fisher_two_sided(x.k, x.n, all.k - x.k, all.n - x.n) : (double)NAN;
    }
}

/* The same of questions that were asked more than once. right: room for all sets. */
static void cells_again(const struct report *r, struct heat *h, size_t tmpl, int32_t *right,
                        struct err *err)
{
    size_t n = 0;
    for (size_t c = 0; c < r->n_cond; c++) {
        const struct table *t = &h->t[c];
        if (t->n_set)
            memcpy(right + n, t->right + tmpl * t->n_set, t->n_set * sizeof *right);
        n += t->n_set;
    }
    for (size_t c = 0, from = 0; c < r->n_cond && err->code == ST_OK; c++) {
        size_t to = from + h->t[c].n_set;
        exact_part(right, n, from, to, (uint32_t)r->most, &h->p[tmpl * r->n_cond + c], err);
        from = to;
    }
}

static enum status heat_p(const struct report *r, struct heat *h, struct err *err)
{
    size_t sets = 0;
    for (size_t c = 0; c < r->n_cond; c++)
        sets += h->t[c].n_set;
    int32_t *right = malloc((sets + 1) * sizeof *right);
    if (!right)
        return err_set(err, ST_NOMEM, "heat map");
    for (size_t i = 0; i < r->n_tmpl && err->code == ST_OK; i++)
        if (r->repeats)
            cells_again(r, h, i, right, err);
        else
            cells_once(r, h, i);
    free(right);
    return err->code == ST_OK ? adjust_bh(h->p, r->n_tmpl * r->n_cond, h->q, err) : err->code;
}

/* ---- the map ---- */

/* The template's original: right or wrong; the share of its answers that is right; null. */
static json_t *original_json(const struct table *o, size_t tmpl)
{
    if (o->x[tmpl] < 0)
        return json_null();
    return o->share ? json_real(o->share[tmpl]) : json_boolean(o->x[tmpl] == CELL_RIGHT);
}

static json_t *heat_row(const struct report *r, const struct heat *h,
                        const struct beta_prior *prior, const struct table *original, size_t i,
                        struct err *err)
{
    json_t *k = json_array(), *n = json_array(), *shrunk = json_array(), *q = json_array();
    json_int_t wrong = 0;
    assert(h->cell && h->q);
    for (size_t c = 0; c < r->n_cond; c++) {
        struct cell x = h->cell[i * r->n_cond + c];
        wrong += x.scored - x.right;
        add(k, json_integer(x.right), err);
        add(n, json_integer(x.scored), err);
        add(shrunk, x.tally.n ? json_num(beta_shrunk(prior[c], x.tally)) : json_null(), err);
        add(q, json_num(h->q[i * r->n_cond + c]), err);
    }
    return json_pack("{s:s, s:o, s:I, s:o, s:o, s:o, s:o}", "id", r->tmpl[i], "original",
                     original_json(original, i), "wrong", wrong, "correct", k, "scored", n,
                     "shrunk", shrunk, "q", q);
}

json_t *report_heat(struct report *r, struct err *err)
{
    struct heat h = { 0 };
    struct beta_prior prior[CONDITIONS_MAX] = { 0 };
    struct table o = { 0 };
    json_t *rows = json_array(), *head = json_array();
    if (report_originals(r, r->profile, &o, err) == ST_OK && heat_open(r, &h, err) == ST_OK)
        heat_p(r, &h, err);
    for (size_t c = 0; c < r->n_cond && err->code == ST_OK; c++) {
        struct decomposition d;
        assert(h.t);
        decompose(table_cells(&h.t[c]), h.t[c].tally, &d);
        prior[c] = beta_prior_of(&d);
        add(head, condition_json(&r->cond[c]), err);
    }
    for (size_t i = 0; i < r->n_tmpl && err->code == ST_OK; i++)
        add(rows, heat_row(r, &h, prior, &o, i, err), err);
    heat_close(&h, r->n_cond);
    table_free(&o);
    return json_pack("{s:o, s:o}", "conditions", head, "templates", rows);
}

/* ---- distractors ---- */

struct traps {
    json_int_t scored, right, trap;
    /* Over questions with a wrong answer: how many, their wrong answers squared, traps squared, and
     * both multiplied. */
    double questions, ww, tt, tw;
};

/* One question's answers that are asked about. */
static void count_traps(const struct report *r, const struct answer *a, struct question q,
                        bool accepted_only, struct traps *t)
{
    json_int_t wrong = 0, trap = 0;
    for (size_t i = 0; i < q.n; i++) {
        if (!a[i].scored || (accepted_only && !a[i].accepted))
            continue;
        bool right = report_is_right(r, &a[i]);
        t->scored++;
        t->right += right;
        wrong += !right;
        trap += !right && a[i].trap >= 0;
    }
    t->trap += trap;
    t->questions += wrong > 0;
    t->ww += (double)(wrong * wrong);
    t->tt += (double)(trap * trap);
    t->tw += (double)(trap * wrong);
}

/* Of the wrong answers' share that are traps: Wilson's, for as many answers as would vary like that
 * if each had a question of its own (Kish's effective number). The variance of the ratio is that of
 * its linear part over questions, each a cluster of answers. Where there are only traps, or none,
 * nothing is seen to vary: a question counts once. */
static struct interval trap_interval(const struct traps *t)
{
    double wrong = (double)(t->scored - t->right), p = (double)t->trap / wrong, m = t->questions;
    double square = t->tt - 2 * p * t->tw + p * p * t->ww,
           var = m > 1 ? square * m / (m - 1) / (wrong * wrong) : 0;
    double n = var > 0 ? p * (1 - p) / var : m;
    return interval_wilson_mean(p, fmin(n, wrong), REPORT_LEVEL);
}

static json_t *trap_counts(const struct report *r, size_t cond, bool accepted_only)
{
    struct traps t = { 0 };
    struct question q;
    for (size_t i = 0; i < r->n; i += q.n) {
        q = report_question(r, i, r->profile);
        if (r->answer[i].cond == cond && !r->answer[i].original)
            count_traps(r, &r->answer[i], q, accepted_only, &t);
    }
    json_int_t n = t.scored, wrong = n - t.right;
    struct interval v = { 0, 1 };
    if (wrong)
        v = r->repeats ? trap_interval(&t)
                       : interval_wilson((uint64_t)t.trap, (uint64_t)wrong, REPORT_LEVEL);
    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "scored", n, "correct", t.right,
                     "wrong", wrong, "trap", t.trap, "accuracy",
                     n ? json_real((double)t.right / (double)n) : json_null(), "trap_share",
                     wrong ? json_real((double)t.trap / (double)wrong) : json_null(),
                     "trap_interval", wrong ? json_interval(v) : json_null());
}

json_t *report_noop(struct report *r, struct err *err)
{
    json_t *list = json_array();
    for (size_t c = 0; c < r->n_cond; c++) {
        if (strncmp(r->cond[c].variant, "noop", 4) != 0)
            continue;
        json_t *v = condition_json(&r->cond[c]);
        put(v, "all", trap_counts(r, c, false), err);
        put(v, "accepted", trap_counts(r, c, true), err);
        add(list, v, err);
    }
    return list;
}
