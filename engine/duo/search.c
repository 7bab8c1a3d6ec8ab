/* engine/duo/search.c - see search.h: routes by the table. The trie is walked depth first with one
 * buffer of the residual stream for each layer; a node's attention serves all of its choices. */
#include "engine/duo/search.h"

#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/infer/route.h"
#include "engine/train/net_parts.h"
#include "engine/train/pass.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const char *const names[DUO_SEARCHES] = { "exhaustive", "naive", "restricted",
                                                 "random",     "beam",  "fixed" };

const char *duo_search_name(enum duo_search_kind k)
{
    return names[k];
}

bool duo_search_find(struct str name, enum duo_search_kind *ret)
{
    for (int i = 0; i < DUO_SEARCHES; i++)
        if (str_is(name, names[i])) {
            *ret = (enum duo_search_kind)i;
            return true;
        }
    return false;
}

/* ---- counting ---- */

uint64_t duo_choose(uint32_t n, uint32_t k)
{
    unsigned __int128 r = 1;
    if (k > n)
        return 0;
    k = k < n - k ? k : n - k;
    for (uint32_t i = 1; i <= k; i++) {
        r = r * (n - k + i) / i;
        if (r > UINT64_MAX)
            return UINT64_MAX;
    }
    return (uint64_t)r;
}

static uint64_t power(uint64_t a, uint32_t n)
{
    uint64_t r = 1;
    for (uint32_t i = 0; i < n; i++)
        if (__builtin_mul_overflow(r, a, &r))
            return UINT64_MAX;
    return r;
}

uint32_t duo_n_big(uint64_t route, uint32_t n_layer)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < n_layer; l++)
        n += duo_pattern_at(route, l) == DUO_BIG;
    return n;
}

/* Nodes of the trie at depth l that can still have exactly b big layers. */
static uint64_t restricted_at(uint32_t n_layer, uint32_t a, uint32_t b, uint32_t l)
{
    uint64_t sum = 0;
    uint32_t from = b + l > n_layer ? b + l - n_layer : 0;
    for (uint32_t j = from; j <= l && j <= b; j++)
        sum += duo_choose(l, j) * power(a - 1, l - j);
    return sum;
}

static uint64_t beam_cost(const struct duo_search *s, uint32_t n_layer)
{
    uint64_t n = 1, sum = 0;
    for (uint32_t l = 0; l < n_layer; l++) {
        sum += n * s->n_choice;
        n = n * s->n_choice < s->width ? n * s->n_choice : s->width;
    }
    return sum;
}

uint64_t duo_search_cost(const struct duo_search *s, uint32_t n_layer)
{
    uint64_t all = power(s->n_choice, n_layer), sum = 0;
    switch (s->kind) {
    case DUO_EXHAUSTIVE:
        if (all > UINT64_MAX / 4)
            return UINT64_MAX;
        return (all * s->n_choice - s->n_choice) / (s->n_choice - 1);
    case DUO_NAIVE:
        return all > UINT64_MAX / n_layer ? UINT64_MAX : all * n_layer;
    case DUO_RESTRICTED:
        for (uint32_t l = 1; l <= n_layer; l++)
            sum += restricted_at(n_layer, s->n_choice, s->budget, l);
        return sum;
    case DUO_RANDOM:
        return (uint64_t)s->n_random * n_layer;
    case DUO_GIVEN:
        return n_layer;
    case DUO_BEAM:
    default:
        return beam_cost(s, n_layer);
    }
}

static uint64_t n_routes(const struct duo_search *s, uint32_t n_layer)
{
    switch (s->kind) {
    case DUO_RESTRICTED:
        return restricted_at(n_layer, s->n_choice, s->budget, n_layer);
    case DUO_RANDOM:
        return s->n_random;
    case DUO_GIVEN:
        return 1;
    case DUO_BEAM: {
        uint64_t n = 1;
        for (uint32_t l = 0; l + 1 < n_layer; l++)
            n = n * s->n_choice < s->width ? n * s->n_choice : s->width;
        return n * s->n_choice;
    }
    default:
        return power(s->n_choice, n_layer);
    }
}

/* ---- the walk ---- */

struct walk {
    const struct duo_pass *p;
    const struct duo_search *s;
    struct duo_matrix *m;
    const struct passes *pass;
    struct pool *pool;
    struct err *err;
    uint32_t n_layer, n_budget;
    size_t n_vocab, d;
    size_t cells, tok0, n_tok; /* of the batch: grid cells, first token, tokens */
    size_t row;
    real *x, *mid; /* [n_layer + 1, cells, d], [n_layer, cells, d] */
    real *logits;  /* [cells, n_vocab] */
    float *zmax;   /* [n_budget + 1, n_tok of a batch, n_vocab]; the last: any */
    size_t at;     /* next route of the table */
    uint64_t done, total;
    bool first; /* batch: counts evaluations and names routes */
};

static real *x_at(const struct walk *w, uint32_t layer)
{
    return w->x + layer * w->cells * w->d;
}

static bool go_on(struct walk *w)
{
    w->done++;
    if (w->first)
        w->m->evaluations++;
    return duo_tell(w->p->watch, "searching", w->done, w->total, w->err);
}

/* From x of a layer through one choice to x of the next. */
static bool eval_layer(struct walk *w, uint32_t layer, enum duo_choice c, const real *x,
                       const real *mid, real *out)
{
    struct net *n = w->p->net;
    bool layer_out = net_shape_of(n)->skip_layer;
    size_t bytes = w->cells * w->d * sizeof *out;
    if (c == DUO_SKIP)
        memcpy(out, layer_out ? x : mid, bytes);
    else
        net_part_ffn(n, layer, (enum net_route)c, mid, out);
    return go_on(w);
}

/* ---- a route's losses ---- */

struct leaf {
    struct walk *w;
    uint64_t route;
    float *loss;
};
enum { LEAF_TOKENS = 64 };

static void raise(float *max, const real *e, float by, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float p = (float)e[i] * by;
        max[i] = p > max[i] ? p : max[i];
    }
}

static void leaf_task(void *arg, size_t i, unsigned worker)
{
    const struct leaf *lf = arg;
    struct walk *w = lf->w;
    const struct duo_text *t = w->p->text;
    size_t from = i * LEAF_TOKENS, v = w->n_vocab;
    uint32_t b = duo_n_big(lf->route, w->n_layer);
    (void)worker;
    for (size_t k = from; k < from + LEAF_TOKENS && k < w->n_tok; k++) {
        size_t cell = t->cell[w->tok0 + k] - w->row * t->cols;
        real *row = w->logits + cell * v, target = row[t->target[t->cell[w->tok0 + k]]];
        real max = w->pass->max(row, v);
        double sum = w->pass->exp_sum(row, v, max, w->zmax != NULL);
        lf->loss[k] = (float)(log(sum) + (double)(max - target));
        if (!w->zmax)
            continue;
        raise(w->zmax + (b * w->n_tok + k) * v, row, (float)(1 / sum), v);
        raise(w->zmax + (w->n_budget * w->n_tok + k) * v, row, (float)(1 / sum), v);
    }
}

static void run_leaf(struct walk *w, uint64_t route, const real *x)
{
    assert(w->at < w->m->n_route);
    struct leaf lf = { w, route, w->m->loss + w->at * w->m->n_tok + w->tok0 };
    w->m->route[w->at++] = route;
    net_part_head(w->p->net, x, w->logits);
    pool_run(w->pool, (w->n_tok + LEAF_TOKENS - 1) / LEAF_TOKENS, leaf_task, &lf);
}

/* ---- orders of going ---- */

/* The i-th choice of n_choice. */
static enum duo_choice choice_of(const struct duo_search *s, uint64_t i)
{
    return s->big_or_skip && i == 1 ? DUO_SKIP : (enum duo_choice)i;
}

static void walk_trie(struct walk *w, uint32_t layer, uint64_t route, uint32_t n_big)
{
    if (layer == w->n_layer) {
        run_leaf(w, route, x_at(w, layer));
        return;
    }
    bool exact = w->s->kind == DUO_RESTRICTED;
    real *mid = w->mid + layer * w->cells * w->d;
    net_part_attention(w->p->net, layer, x_at(w, layer), mid);
    for (uint32_t i = 0; i < w->s->n_choice && w->err->code == ST_OK; i++) {
        enum duo_choice c = choice_of(w->s, i);
        uint32_t big = n_big + (c == DUO_BIG);
        if (exact && (big > w->s->budget || big + (w->n_layer - layer - 1) < w->s->budget))
            continue;
        if (eval_layer(w, layer, c, x_at(w, layer), mid, x_at(w, layer + 1)))
            walk_trie(w, layer + 1, route | (uint64_t)c << (2 * layer), big);
    }
}

static void walk_one(struct walk *w, uint64_t route)
{
    for (uint32_t l = 0; l < w->n_layer && w->err->code == ST_OK; l++) {
        net_part_attention(w->p->net, l, x_at(w, l), w->mid);
        eval_layer(w, l, duo_pattern_at(route, l), x_at(w, l), w->mid, x_at(w, l + 1));
    }
    if (w->err->code == ST_OK)
        run_leaf(w, route, x_at(w, w->n_layer));
}

static uint64_t nth_route(const struct duo_search *s, uint32_t n_layer, uint64_t i)
{
    uint64_t route = 0, n = i;
    for (uint32_t l = n_layer; l-- > 0; n /= s->n_choice) /* in the trie's order */
        route |= (uint64_t)choice_of(s, n % s->n_choice) << (2 * l);
    return route;
}

static void walk_naive(struct walk *w)
{
    for (uint64_t i = 0; i < w->m->n_route && w->err->code == ST_OK; i++)
        walk_one(w, nth_route(w->s, w->n_layer, i));
}

static void walk_random(struct walk *w)
{
    struct rng rng = { w->s->seed };
    for (uint32_t i = 0; i < w->s->n_random && w->err->code == ST_OK; i++) {
        uint64_t route = 0;
        for (uint32_t l = 0; l < w->n_layer; l++)
            route |= (uint64_t)choice_of(w->s, rng_below(&rng, w->s->n_choice)) << (2 * l);
        walk_one(w, route);
    }
}

/* ---- beam ---- */

struct beam {
    uint64_t route;
    double score;
    real *x; /* [cells, d] */
};

static double early_loss(struct walk *w, const real *x)
{
    const struct duo_text *t = w->p->text;
    double sum = 0;
    net_part_head(w->p->net, x, w->logits);
    for (size_t k = 0; k < w->n_tok; k++) {
        size_t cell = t->cell[w->tok0 + k] - w->row * t->cols;
        real *row = w->logits + cell * w->n_vocab, max = w->pass->max(row, w->n_vocab);
        double target = (double)row[t->target[t->cell[w->tok0 + k]]];
        sum += log(w->pass->exp_sum(row, w->n_vocab, max, false)) + (double)max - target;
    }
    return sum;
}

static int by_score(const void *a, const void *b)
{
    const struct beam *x = a, *y = b;
    if (x->score < y->score || x->score > y->score)
        return x->score < y->score ? -1 : 1;
    return x->route < y->route ? -1 : x->route > y->route;
}

/* One layer for all beginnings: n of them in `from`, n * n_choice into `to`. */
static size_t widen(struct walk *w, uint32_t layer, const struct beam *from, size_t n,
                    struct beam *to)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        net_part_attention(w->p->net, layer, from[i].x, w->mid);
        for (uint32_t k = 0; k < w->s->n_choice; k++, out++) {
            enum duo_choice c = choice_of(w->s, k);
            to[out].route = from[i].route | (uint64_t)c << (2 * layer);
            if (!eval_layer(w, layer, c, from[i].x, w->mid, to[out].x))
                return 0;
            if (layer + 1 < w->n_layer)
                to[out].score = early_loss(w, to[out].x);
        }
    }
    return out;
}

/* The first batch's tokens choose the routes; the others go the same ones. */
static void walk_chosen(struct walk *w)
{
    for (size_t i = 0; i < w->m->n_route && w->err->code == ST_OK; i++)
        walk_one(w, w->m->route[i]);
}

static void walk_beam(struct walk *w)
{
    if (!w->first) {
        walk_chosen(w);
        return;
    }
    size_t wide = (size_t)w->s->width * w->s->n_choice, each = w->cells * w->d, n = 1;
    struct beam *a = calloc(wide, sizeof *a), *b = calloc(wide, sizeof *b);
    real *block = malloc(2 * wide * each * sizeof *block);
    if (!a || !b || !block)
        err_set(w->err, ST_NOMEM, "a beam of %u beginnings", w->s->width);
    for (size_t i = 0; a && b && block && i < wide; i++) {
        a[i].x = block + i * each;
        b[i].x = block + (wide + i) * each;
    }
    if (a && b && block)
        memcpy(a[0].x, w->x, each * sizeof *block);
    for (uint32_t l = 0; a && b && l < w->n_layer && w->err->code == ST_OK; l++) {
        n = widen(w, l, a, n, b);
        if (l + 1 < w->n_layer && n > w->s->width) {
            qsort(b, n, sizeof *b, by_score);
            n = w->s->width;
        }
        struct beam *swap = a;
        a = b;
        b = swap;
    }
    for (size_t i = 0; a && i < n && w->err->code == ST_OK; i++)
        run_leaf(w, a[i].route, a[i].x);
    free(a);
    free(b);
    free(block);
}

/* ---- a batch, and all ---- */

static void sum_z(struct walk *w)
{
    for (size_t b = 0; w->zmax && b <= w->n_budget; b++)
        for (size_t k = 0; k < w->n_tok; k++) {
            const float *p = w->zmax + (b * w->n_tok + k) * w->n_vocab;
            double sum = 0;
            for (size_t i = 0; i < w->n_vocab; i++)
                sum += (double)p[i];
            float *to = b < w->n_budget ? w->m->logz + b * w->m->n_tok : w->m->logz_any;
            to[w->tok0 + k] = sum > 0 ? (float)log(sum) : NAN;
        }
}

static void run_batch(struct walk *w, size_t rows)
{
    const struct duo_text *t = w->p->text;
    struct net_batch b = duo_batch(t, w->row, rows);
    size_t end = (w->row + rows) * t->cols;
    w->n_tok = 0;
    while (w->tok0 + w->n_tok < t->n_tok && t->cell[w->tok0 + w->n_tok] < end)
        w->n_tok++;
    if (w->zmax)
        memset(w->zmax, 0, (w->n_budget + 1) * w->n_tok * w->n_vocab * sizeof *w->zmax);
    w->cells = rows * t->cols;
    w->at = 0;
    net_parts_begin(w->p->net, &b);
    net_part_embed(w->p->net, w->x);
    switch (w->s->kind) {
    case DUO_NAIVE:
        walk_naive(w);
        break;
    case DUO_RANDOM:
        walk_random(w);
        break;
    case DUO_BEAM:
        walk_beam(w);
        break;
    case DUO_GIVEN:
        walk_one(w, w->s->given);
        break;
    default:
        walk_trie(w, 0, 0, 0);
    }
    sum_z(w);
    w->tok0 += w->n_tok;
    w->first = false;
}

enum status duo_search_check(const struct duo_search *s, uint32_t n_layer, size_t n_tok,
                             struct err *err)
{
    uint64_t n = n_routes(s, n_layer);
    if (n > DUO_ROUTES_MAX)
        return err_set(
            err, ST_RANGE,
            "%u^%u = %.6g routes are too many to try (at most %d): take search beam or random, or "
            "restricted to a budget",
            s->n_choice, n_layer, pow(s->n_choice, n_layer), DUO_ROUTES_MAX);
    if (n * n_tok * sizeof(float) > DUO_MEMORY_MAX)
        return err_set(err, ST_RANGE,
                       "%" PRIu64 " routes for %zu tokens need a table of %" PRIu64
                       " MiB (at most %d): take fewer tokens, or search beam or random",
                       n, n_tok, n * n_tok * 4 >> 20, (int)(DUO_MEMORY_MAX >> 20));
    return ST_OK;
}

static enum status make_matrix(const struct duo_pass *p, const struct duo_search *s,
                               struct duo_matrix **ret, struct err *err)
{
    uint32_t n_layer = net_shape_of(p->net)->n_layer;
    uint64_t n = n_routes(s, n_layer);
    size_t tok = p->text->n_tok;
    if (duo_search_check(s, n_layer, tok, err) != ST_OK)
        return err->code;
    assert(n <= DUO_ROUTES_MAX);
    struct duo_matrix *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ST_NOMEM, "search");
    m->n_tok = tok;
    m->n_route = (size_t)n;
    m->route = calloc(m->n_route + 1, sizeof *m->route);
    m->loss = malloc((m->n_route * tok + 1) * sizeof *m->loss);
    if (s->nml) {
        m->logz = calloc((n_layer + 1) * tok + 1, sizeof *m->logz);
        m->logz_any = calloc(tok + 1, sizeof *m->logz_any);
    }
    if (!m->route || !m->loss || (s->nml && (!m->logz || !m->logz_any))) {
        duo_matrix_free(m);
        return err_set(err, ST_NOMEM, "a table of %zu routes and %zu tokens", (size_t)n, tok);
    }
    *ret = m;
    return ST_OK;
}

void duo_matrix_free(struct duo_matrix *m)
{
    if (!m)
        return;
    free(m->route);
    free(m->loss);
    free(m->logz);
    free(m->logz_any);
    free(m);
}

static enum status make_room(struct walk *w, struct err *err)
{
    size_t each = w->cells * w->d, l = w->n_layer;
    w->x = malloc(((l + 1) * each + 1) * sizeof *w->x);
    w->mid = malloc((l * each + 1) * sizeof *w->mid);
    w->logits = malloc((w->cells * w->n_vocab + 1) * sizeof *w->logits);
    if (w->s->nml)
        w->zmax = malloc(((w->n_budget + 1) * w->cells * w->n_vocab + 1) * sizeof *w->zmax);
    if (!w->x || !w->mid || !w->logits || (w->s->nml && !w->zmax))
        return err_set(err, ST_NOMEM, "work areas of a search");
    return ST_OK;
}

enum status duo_search_run(const struct duo_pass *p, const struct duo_search *s,
                           struct duo_matrix **ret, struct err *err)
{
    const struct net_shape *sh = net_shape_of(p->net);
    struct duo_matrix *m = NULL;
    size_t batches = (p->text->n_row + p->rows - 1) / p->rows;
    struct walk w = { .p = p,
                      .s = s,
                      .pass = pass_get(cpu_level_max()),
                      .pool = p->pool,
                      .err = err,
                      .n_layer = sh->n_layer,
                      .n_budget = sh->n_layer + 1,
                      .n_vocab = sh->n_vocab,
                      .d = sh->d_model,
                      .cells = p->rows * p->text->cols,
                      .total = duo_search_cost(s, sh->n_layer) * batches,
                      .first = true };
    if (make_matrix(p, s, &m, err) == ST_OK && make_room(&w, err) == ST_OK) {
        w.m = m;
        for (; w.row < p->text->n_row && err->code == ST_OK; w.row += p->rows)
            run_batch(&w, p->text->n_row - w.row < p->rows ? p->text->n_row - w.row : p->rows);
    }
    free(w.x);
    free(w.mid);
    free(w.logits);
    free(w.zmax);
    if (err->code == ST_OK)
        *ret = m;
    else
        duo_matrix_free(m);
    return err->code;
}
