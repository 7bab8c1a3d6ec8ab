/* eval/report/compare.c - two runs, paired by template over the questions that both answered. */
#include "eval/report/internal.h"
#include "eval/stat/exact.h"
#include "eval/stat/multi.h"

#include <math.h>
#include <stdlib.h>

enum { SEED = 711 };

/* A question of either run, for matching. */
struct pair {
    uint64_t key;
    struct question q;
};

static int by_key(const void *a, const void *b)
{
    uint64_t x = ((const struct pair *)a)->key, y = ((const struct pair *)b)->key;
    return (x > y) - (x < y);
}

static size_t pairs_of(const struct report *r, struct pair *p)
{
    size_t n = 0;
    struct question q;
    for (size_t i = 0; i < r->n; i += q.n) {
        q = report_question(r, i, r->profile);
        if (q.scored)
            p[n++] = (struct pair){ r->answer[i].key, q };
    }
    qsort(p, n, sizeof *p, by_key);
    return n;
}

struct match {
    struct report *a;
    struct pair *other;
    size_t n_other;
    struct tally *x, *y;       /* [n_cond * n_tmpl] of a's numbering */
    uint32_t *only_a, *only_b; /* by condition: questions with more right, of as many answers */
    size_t n;
    bool many; /* one of the runs asked questions more than once */
};

static void count(struct tally *t, struct question q, bool many)
{
    double share = question_share(q);
    t->n++;
    t->k += q.first;
    t->many = many;
    t->sum += share;
    t->square += share * share;
}

static void match_up(struct match *m)
{
    struct question q;
    for (size_t i = 0; i < m->a->n; i += q.n) {
        const struct answer *s = &m->a->answer[i];
        struct pair want = { .key = s->key }, *hit;
        q = report_question(m->a, i, m->a->profile);
        hit = q.scored ? bsearch(&want, m->other, m->n_other, sizeof want, by_key) : NULL;
        if (!hit)
            continue;
        size_t at = s->cond * m->a->n_tmpl + s->tmpl;
        count(&m->x[at], q, m->many);
        count(&m->y[at], hit->q, m->many);
        uint64_t x = (uint64_t)q.right * hit->q.scored, y = (uint64_t)hit->q.right * q.scored;
        m->only_a[s->cond] += x > y;
        m->only_b[s->cond] += y > x;
        m->n++;
    }
}

/* Questions right; of those asked more than once, the sum of their shares. */
static json_t *right_json(struct tally t)
{
    return t.many ? json_real(t.sum) : json_integer(t.k);
}

static json_t *templates_json(const struct match *m, size_t cond, struct err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->a->n_tmpl; i++) {
        struct tally x = m->x[cond * m->a->n_tmpl + i], y = m->y[cond * m->a->n_tmpl + i];
        if (x.n)
            add(list,
                json_pack("{s:s, s:I, s:o, s:o}", "id", m->a->tmpl[i], "n", (json_int_t)x.n, "a",
                          right_json(x), "b", right_json(y)),
                err);
    }
    return list;
}

static json_t *condition_pair(const struct match *m, size_t cond, struct err *err)
{
    size_t nt = m->a->n_tmpl;
    const struct tally *x = m->x + cond * nt, *y = m->y + cond * nt;
    struct tally a = { 0 }, b = { 0 };
    uint32_t most = 0;
    struct paired d;
    for (size_t i = 0; i < nt; i++) {
        a.n += x[i].n;
        a.sum += tally_sum(x[i]);
        b.sum += tally_sum(y[i]);
        most = x[i].n > most ? x[i].n : most;
    }
    if (a.n == 0 ||
        paired_compare(x, y, nt, (struct paired_opts){ REPORT_LEVEL, SEED }, &d, err) != ST_OK)
        return NULL;
    json_t *v = condition_json(&m->a->cond[cond]);
    put(v, "items", json_integer(a.n), err);
    put(v, "accuracy_a", json_real(a.sum / a.n), err);
    put(v, "accuracy_b", json_real(b.sum / a.n), err);
    put(v, "only_a", json_integer(m->only_a[cond]), err);
    put(v, "only_b", json_integer(m->only_b[cond]), err);
    /* Items of a template are not independent: McNemar only where there is one of each. */
    put(v, "mcnemar_p",
        most == 1 ? json_num(mcnemar_exact(m->only_a[cond], m->only_b[cond])) : json_null(), err);
    put(v, "p", json_num(d.p_flip), err);
    put(v, "paired", paired_json(&d), err);
    put(v, "equivalence", equivalence_json(equivalence_test(&d, 0.05, REPORT_ALPHA)), err);
    put(v, "templates", templates_json(m, cond, err), err);
    return v;
}

static enum status holm(json_t *list, struct err *err)
{
    double p[CONDITIONS_MAX], q[CONDITIONS_MAX];
    size_t i, n = json_array_size(list);
    json_t *v;
    json_array_foreach(list, i, v)
    {
        const json_t *x = json_object_get(v, "p");
        p[i] = json_is_number(x) ? json_number_value(x) : (double)NAN;
    }
    if (adjust_holm(p, n, q, err) != ST_OK)
        return err->code;
    json_array_foreach(list, i, v) put(v, "p_holm", json_num(q[i]), err);
    return ST_OK;
}

static json_t *side(const struct report *r)
{
    json_t *model = json_object_get(r->manifest, "model");
    return json_pack("{s:s, s:s, s:s, s:O}", "id", r->id, "name", r->name, "profile",
                     extract_profile_name(r->profile), "model", model ? model : json_null());
}

enum status report_compare(struct report *a, struct report *b, json_t **ret, struct err *err)
{
    if (report_sort(a, err) != ST_OK || report_sort(b, err) != ST_OK)
        return err->code;
    size_t cells = a->n_cond * a->n_tmpl;
    struct match m = { .a = a, .many = a->repeats || b->repeats };
    json_t *list = json_array();
    m.other = malloc((b->n + 1) * sizeof *m.other);
    m.x = calloc(2 * cells + 1, sizeof *m.x);
    m.only_a = calloc(2 * CONDITIONS_MAX, sizeof *m.only_a);
    json_t *doc = NULL;
    if (!m.other || !m.x || !m.only_a || !list) {
        err_set(err, ST_NOMEM, "comparison");
        goto done;
    }
    m.y = m.x + cells;
    m.only_b = m.only_a + CONDITIONS_MAX;
    m.n_other = pairs_of(b, m.other);
    match_up(&m);
    if (m.n == 0)
        err_set(err, ST_ARG,
                "the runs %s and %s have no answered question in common: compare runs over the "
                "same templates and seed",
                a->id, b->id);
    for (size_t c = 0; err->code == ST_OK && c < a->n_cond; c++) {
        json_t *v = condition_pair(&m, c, err);
        if (v)
            add(list, v, err);
    }
    if (err->code == ST_OK && holm(list, err) == ST_OK)
        doc = json_pack("{s:s, s:s, s:f, s:o, s:o, s:I, s:O}", "format", "strobe-compare/1",
                        "strobe", STROBE_VERSION, "level", REPORT_LEVEL, "a", side(a), "b", side(b),
                        "items", (json_int_t)m.n, "conditions", list);
    if (err->code == ST_OK && !doc)
        err_set(err, ST_NOMEM, "comparison");
    if (err->code == ST_OK)
        *ret = doc;
done:
    json_free(list);
    free(m.other);
    free(m.x);
    free(m.only_a);
    return err->code;
}
