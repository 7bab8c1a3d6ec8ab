/* engine/duo/figures_routes.c - the figures about routes: for how many tokens a layer is big, where
 * in the sequence, and whether the router is big where the oracle is. */
#include "engine/duo/figures_internal.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

enum { BUCKETS = 8 }; /* of places in a sequence */

/* ---- layers ---- */

static json_t *usage_row(const struct duo_trace *t, enum duo_col c, uint32_t b, enum duo_choice ch,
                         bool *lost)
{
    json_t *row = json_array();
    for (uint32_t l = 0; l < t->h.n_layer; l++) {
        size_t n = 0;
        for (size_t i = 0; i < t->n_tok; i++)
            n += duo_pattern_at(figure_route_at(t, c, i, b), l) == ch;
        figure_push(row, json_real(t->n_tok ? (double)n / (double)t->n_tok : 0), lost);
    }
    return row;
}

static json_t *usage_of(const struct duo_trace *t, enum duo_col c, enum duo_col loss,
                        enum duo_choice ch, bool *lost)
{
    json_t *a = json_array();
    for (uint32_t b = 0; b < t->h.n_budget; b++)
        figure_push(a, figure_searched(t, loss, b) ? usage_row(t, c, b, ch, lost) : json_null(),
                    lost);
    return a;
}

json_t *figure_usage(const struct duo_trace *t, bool *lost)
{
    json_t *o = json_object();
    figure_put(o, "layers", json_integer(t->h.n_layer), lost);
    figure_put(o, "oracle", usage_of(t, DUO_C_ROUTE, DUO_C_ORACLE, DUO_BIG, lost), lost);
    figure_put(o, "router", usage_of(t, DUO_C_ROUTED, DUO_C_ROUTER, DUO_BIG, lost), lost);
    if (t->h.n_choice > 2)
        figure_put(o, "oracle_skip", usage_of(t, DUO_C_ROUTE, DUO_C_ORACLE, DUO_SKIP, lost), lost);
    return o;
}

static json_t *position_of(const struct duo_trace *t, enum duo_col c, uint32_t b, bool *lost)
{
    json_t *a = json_array();
    size_t longest = 1;
    for (size_t s = 0; s < t->n_seq; s++)
        longest = t->seq_from[s + 1] - t->seq_from[s] > longest
                      ? t->seq_from[s + 1] - t->seq_from[s]
                      : longest;
    for (uint32_t k = 0; k < BUCKETS; k++) {
        json_t *row = json_array();
        for (uint32_t l = 0; l < t->h.n_layer; l++) {
            size_t n = 0, big = 0;
            for (size_t i = 0; i < t->n_tok; i++) {
                size_t pos = (size_t)((const int32_t *)t->col[DUO_C_POS])[i];
                if (pos * BUCKETS / longest != k)
                    continue;
                n++;
                big += duo_pattern_at(figure_route_at(t, c, i, b), l) == DUO_BIG;
            }
            figure_push(row, n ? json_real((double)big / (double)n) : json_null(), lost);
        }
        figure_push(a, row, lost);
    }
    return a;
}

json_t *figure_position(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost)
{
    json_t *o = json_object();
    figure_put(o, "budget", json_integer(f->budget), lost);
    figure_put(o, "buckets", json_integer(BUCKETS), lost);
    figure_put(o, "oracle", position_of(t, DUO_C_ROUTE, f->budget, lost), lost);
    figure_put(o, "router",
               t->h.has_router ? position_of(t, DUO_C_ROUTED, f->budget, lost) : json_null(), lost);
    return o;
}

/* ---- agreement ---- */

static json_t *agree_layer(const struct duo_trace *t, uint32_t b, uint32_t l)
{
    double both[2][2] = { { 0 } }, n = (double)t->n_tok;
    for (size_t i = 0; i < t->n_tok; i++) {
        bool x = duo_pattern_at(figure_route_at(t, DUO_C_ROUTE, i, b), l) == DUO_BIG;
        bool y = duo_pattern_at(figure_route_at(t, DUO_C_ROUTED, i, b), l) == DUO_BIG;
        both[x][y]++;
    }
    double same = (both[0][0] + both[1][1]) / n;
    double x = (both[1][0] + both[1][1]) / n, y = (both[0][1] + both[1][1]) / n;
    double chance = x * y + (1 - x) * (1 - y);
    return json_pack("{s:i, s:f, s:o, s:f, s:f}", "layer", (int)l, "accuracy", same, "kappa",
                     figure_real(chance < 1 ? (same - chance) / (1 - chance) : (double)NAN),
                     "oracle_share", x, "router_share", y);
}

struct ranked {
    double v;
    size_t i;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->v < y->v || x->v > y->v)
        return x->v < y->v ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

/* Values to their ranks, ties share the mean. */
static void ranks(struct ranked *r, size_t n, double *out)
{
    qsort(r, n, sizeof *r, by_value);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && !(r[to].v > r[from].v);)
            to++;
        for (size_t k = from; k < to; k++)
            out[r[k].i] = (double)(from + to - 1) / 2;
    }
}

static double correlation(const double *x, const double *y, size_t n)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : (double)NAN;
}

/* Spearman: does the router spend where the oracle gains (small loss minus best)? */
static double spend_rank(const struct duo_trace *t, uint32_t b, bool *lost)
{
    size_t n = t->n_tok;
    struct ranked *r = calloc(n + 1, sizeof *r);
    double *x = calloc(n + 1, sizeof *x), *y = calloc(n + 1, sizeof *y), rho = (double)NAN;
    *lost |= !r || !x || !y;
    if (r && x && y && n > 1) {
        for (size_t i = 0; i < n; i++) {
            uint32_t big = 0;
            for (uint32_t l = 0; l < t->h.n_layer; l++)
                big += duo_pattern_at(figure_route_at(t, DUO_C_ROUTED, i, b), l) == DUO_BIG;
            r[i] = (struct ranked){ big, i };
        }
        ranks(r, n, x);
        for (size_t i = 0; i < n; i++)
            r[i] = (struct ranked){
                (double)duo_f32(t, DUO_C_SMALL)[i] - (double)duo_f32(t, DUO_C_ANY)[i], i
            };
        ranks(r, n, y);
        rho = correlation(x, y, n);
    }
    free(r);
    free(x);
    free(y);
    return rho;
}

json_t *figure_agreement(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost)
{
    json_t *o = json_object(), *a = json_array();
    for (uint32_t l = 0; t->h.has_router && t->n_tok && l < t->h.n_layer; l++)
        figure_push(a, agree_layer(t, f->budget, l), lost);
    figure_put(o, "budget", json_integer(f->budget), lost);
    figure_put(o, "router", json_boolean(t->h.has_router), lost);
    figure_put(o, "layers", a, lost);
    if (t->h.has_router)
        figure_put(o, "spend_rank_correlation", figure_real(spend_rank(t, f->budget, lost)), lost);
    return o;
}
