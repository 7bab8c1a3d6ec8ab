/* engine/duo/figures.c - see figures.h. */
#include "engine/duo/figures.h"

#include "engine/base/rng.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

enum { RESAMPLES = 400, BUCKETS = 8, LIST = 600 };

static const char *const names[DUO_FIGURES] = { "budget_curve", "layer_usage", "layer_position",
                                                "tokens",       "difficulty",  "schedule",
                                                "agreement",    "controls" };

const char *duo_figure_name(enum duo_figure f)
{
    return names[f];
}

enum status duo_figure_find(struct str name, enum duo_figure *ret, struct err *err)
{
    char list[160] = "";
    size_t n = 0;
    for (int f = 0; f < DUO_FIGURES; f++) {
        if (str_is(name, names[f])) {
            *ret = (enum duo_figure)f;
            return ST_OK;
        }
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", f ? ", " : "", names[f]);
    }
    return err_set(err, ST_ARG, "figure '%.*s' is none of %s", (int)(name.n < 40 ? name.n : 40),
                   name.p, list);
}

struct duo_figure_opts duo_figure_defaults(const struct duo_trace *t)
{
    return (struct duo_figure_opts){ .budget = t->h.n_layer / 2 };
}

/* ---- numbers ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct duo_mean duo_mean_of(const struct duo_trace *t, const float *v, const float *minus,
                            size_t stride)
{
    struct duo_mean r = { (double)NAN, (double)NAN, (double)NAN, 0 };
    double *sum = calloc(t->n_seq + 1, sizeof *sum), draw[RESAMPLES], all = 0;
    size_t *n = calloc(t->n_seq + 1, sizeof *n);
    struct rng rng = { 4242 };
    for (size_t s = 0; sum && n && s < t->n_seq; s++) {
        for (size_t i = t->seq_from[s]; i < t->seq_from[s + 1]; i++) {
            double x = (double)v[i * stride] - (minus ? (double)minus[i * stride] : 0);
            if (!isfinite(x))
                continue;
            sum[s] += x;
            n[s]++;
        }
        all += sum[s];
        r.n += n[s];
    }
    if (sum && n && r.n) {
        r.mean = all / (double)r.n;
        for (int k = 0; k < RESAMPLES; k++) {
            double x = 0;
            size_t count = 0;
            for (size_t s = 0; s < t->n_seq; s++) {
                size_t pick = rng_below(&rng, t->n_seq);
                x += sum[pick];
                count += n[pick];
            }
            draw[k] = count ? x / (double)count : r.mean;
        }
        qsort(draw, RESAMPLES, sizeof *draw, by_size);
        r.low = draw[RESAMPLES / 40];
        r.high = draw[RESAMPLES - 1 - RESAMPLES / 40];
    }
    r.lost = !sum || !n;
    free(sum);
    free(n);
    return r;
}

static struct duo_mean mean_of(const struct duo_trace *t, const float *v, const float *minus,
                               size_t stride, bool *lost)
{
    struct duo_mean m = duo_mean_of(t, v, minus, stride);
    *lost |= m.lost;
    return m;
}

static json_t *real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

/* Adds to an object or array; the value is taken. A lost value shows in *lost. */
static void put(json_t *o, const char *key, json_t *v, bool *lost)
{
    *lost |= !v || json_object_set_new(o, key, v) != 0; /* takes v also without o */
}

static void push(json_t *a, json_t *v, bool *lost)
{
    *lost |= !v || json_array_append_new(a, v) != 0;
}

static uint64_t route_at(const struct duo_trace *t, enum duo_col c, size_t tok, uint32_t b)
{
    return ((const uint64_t *)t->col[c])[tok * t->h.n_budget + b];
}

static bool searched(const struct duo_trace *t, enum duo_col c, uint32_t b)
{
    return t->n_tok && isfinite(duo_f32(t, c)[b]);
}

/* ---- budget curve ---- */

static json_t *point(const struct duo_trace *t, uint32_t b, double n_big, struct duo_mean m,
                     uint64_t routes)
{
    double all = duo_flops(&t->h, t->h.n_layer), flops = duo_flops(&t->h, n_big);
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "budget", (int)b, "share",
                     real(n_big / t->h.n_layer), "flops", real(flops), "relative_flops",
                     real(all > 0 ? flops / all : (double)NAN), "nats", real(m.mean), "low",
                     real(m.low), "high", real(m.high), "routes", (json_int_t)routes);
}

static json_t *by_budget(const struct duo_trace *t, enum duo_col c, bool *lost)
{
    json_t *a = json_array();
    for (uint32_t b = 0; b < t->h.n_budget; b++) {
        if (!searched(t, c, b))
            continue;
        double n_big = b;
        if (c == DUO_C_ROUTER && isfinite(t->h.router_hard[b]))
            n_big = t->h.router_hard[b] * t->h.n_layer;
        uint64_t k = c == DUO_C_PLACEBO  ? t->h.n_placebo[b]
                     : c == DUO_C_ROUTER ? 1
                                         : t->h.n_route[b];
        struct duo_mean m = mean_of(t, duo_f32(t, c) + b, NULL, t->h.n_budget, lost);
        push(a, point(t, b, n_big, m, k), lost);
    }
    return a;
}

/* Oracle + log Z: a code length that everybody could use. */
static json_t *corrected(const struct duo_trace *t, bool *lost)
{
    json_t *a = json_array();
    size_t n = t->n_tok * t->h.n_budget;
    float *neg = malloc((n + 1) * sizeof *neg);
    *lost |= !neg;
    for (size_t i = 0; neg && i < n; i++)
        neg[i] = -duo_f32(t, DUO_C_LOGZ)[i];
    for (uint32_t b = 0; neg && t->h.has_nml && b < t->h.n_budget; b++)
        if (searched(t, DUO_C_ORACLE, b) && searched(t, DUO_C_LOGZ, b))
            push(a,
                 point(t, b, b,
                       mean_of(t, duo_f32(t, DUO_C_ORACLE) + b, neg + b, t->h.n_budget, lost),
                       t->h.n_route[b]),
                 lost);
    free(neg);
    return a;
}

static json_t *alone(const struct duo_trace *t, enum duo_col c, uint32_t b, bool *lost)
{
    json_t *a = json_array();
    push(a, point(t, b, b, mean_of(t, duo_f32(t, c), NULL, 1, lost), 1), lost);
    return a;
}

static json_t *curve(const struct duo_trace *t, bool *lost)
{
    static const struct {
        const char *name;
        enum duo_col col;
    } many[] = { { "oracle", DUO_C_ORACLE },
                 { "mixture", DUO_C_MIXTURE },
                 { "placebo", DUO_C_PLACEBO },
                 { "fixed_best", DUO_C_FIXED },
                 { "router", DUO_C_ROUTER } };
    json_t *c = json_object(), *o = json_object();
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        put(c, many[i].name, by_budget(t, many[i].col, lost), lost);
    put(c, "oracle_nml", corrected(t, lost), lost);
    put(c, "all_big", alone(t, DUO_C_BIG, t->h.n_layer, lost), lost);
    put(c, "all_small", alone(t, DUO_C_SMALL, 0, lost), lost);
    put(o, "curves", c, lost);
    put(o, "unconstrained", real(mean_of(t, duo_f32(t, DUO_C_ANY), NULL, 1, lost).mean), lost);
    put(o, "note",
        json_string(
            "oracle and placebo choose with the answer in sight; only a curve below all_big "
            "that does not is a gain"),
        lost);
    return o;
}

/* ---- layers ---- */

static json_t *usage_row(const struct duo_trace *t, enum duo_col c, uint32_t b, enum duo_choice ch,
                         bool *lost)
{
    json_t *row = json_array();
    for (uint32_t l = 0; l < t->h.n_layer; l++) {
        size_t n = 0;
        for (size_t i = 0; i < t->n_tok; i++)
            n += duo_pattern_at(route_at(t, c, i, b), l) == ch;
        push(row, json_real(t->n_tok ? (double)n / (double)t->n_tok : 0), lost);
    }
    return row;
}

static json_t *usage_of(const struct duo_trace *t, enum duo_col c, enum duo_col loss,
                        enum duo_choice ch, bool *lost)
{
    json_t *a = json_array();
    for (uint32_t b = 0; b < t->h.n_budget; b++)
        push(a, searched(t, loss, b) ? usage_row(t, c, b, ch, lost) : json_null(), lost);
    return a;
}

static json_t *usage(const struct duo_trace *t, bool *lost)
{
    json_t *o = json_object();
    put(o, "layers", json_integer(t->h.n_layer), lost);
    put(o, "oracle", usage_of(t, DUO_C_ROUTE, DUO_C_ORACLE, DUO_BIG, lost), lost);
    put(o, "router", usage_of(t, DUO_C_ROUTED, DUO_C_ROUTER, DUO_BIG, lost), lost);
    if (t->h.n_choice > 2)
        put(o, "oracle_skip", usage_of(t, DUO_C_ROUTE, DUO_C_ORACLE, DUO_SKIP, lost), lost);
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
                big += duo_pattern_at(route_at(t, c, i, b), l) == DUO_BIG;
            }
            push(row, n ? json_real((double)big / (double)n) : json_null(), lost);
        }
        push(a, row, lost);
    }
    return a;
}

static json_t *position(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost)
{
    json_t *o = json_object();
    put(o, "budget", json_integer(f->budget), lost);
    put(o, "buckets", json_integer(BUCKETS), lost);
    put(o, "oracle", position_of(t, DUO_C_ROUTE, f->budget, lost), lost);
    put(o, "router", t->h.has_router ? position_of(t, DUO_C_ROUTED, f->budget, lost) : json_null(),
        lost);
    return o;
}

/* ---- tokens ---- */

static json_t *one_token(const struct duo_trace *t, size_t i, uint32_t b)
{
    char oracle[DUO_LAYERS_MAX + 1], router[DUO_LAYERS_MAX + 1];
    struct str s = { t->text.p + t->text_from[i], t->text_from[i + 1] - t->text_from[i] };
    uint8_t c = ((const uint8_t *)t->col[DUO_C_CLASS])[i];
    size_t at = i * t->h.n_budget + b;
    double small = (double)duo_f32(t, DUO_C_SMALL)[i], any = (double)duo_f32(t, DUO_C_ANY)[i];
    duo_pattern_text(route_at(t, DUO_C_ROUTE, i, b), t->h.n_layer, oracle);
    duo_pattern_text(route_at(t, DUO_C_ROUTED, i, b), t->h.n_layer, router);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:i}", "text", json_text(s),
                     "class", c < t->h.n_class ? json_string(t->h.classes[c]) : json_null(),
                     "small", real(small), "big", real((double)duo_f32(t, DUO_C_BIG)[i]), "oracle",
                     real((double)duo_f32(t, DUO_C_ORACLE)[at]), "router",
                     real((double)duo_f32(t, DUO_C_ROUTER)[at]), "gap", real(small - any),
                     "oracle_route", oracle, "router_route",
                     t->h.has_router ? json_string(router) : json_null(), "near_ties",
                     (int)((const uint8_t *)t->col[DUO_C_NEAR])[at]);
}

static json_t *tokens(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost)
{
    json_t *o = json_object(), *a = json_array();
    for (size_t i = t->seq_from[f->sequence]; i < t->seq_from[f->sequence + 1]; i++)
        push(a, one_token(t, i, f->budget), lost);
    put(o, "budget", json_integer(f->budget), lost);
    put(o, "sequence", json_integer(f->sequence), lost);
    put(o, "sequences", json_integer((json_int_t)t->n_seq), lost);
    put(o, "tokens", a, lost);
    return o;
}

/* ---- difficulty ---- */

enum quadrant { EASY, SOLVABLE, IRREDUCIBLE, RARE, QUADRANTS };
static const char *const quadrant_name[] = { "easy", "compute_solvable", "irreducible",
                                             "low_loss_high_gap" };

/* High loss: above a nat. High gap: the better route takes at least half of the loss away. */
static enum quadrant quadrant_of(double small, double best)
{
    bool high = small > 1, gap = small - best >= small / 2;
    return high ? gap ? SOLVABLE : IRREDUCIBLE : gap && small > 0.1 ? RARE : EASY;
}

static json_t *shares(const struct duo_trace *t, int class, enum duo_col best, bool *lost)
{
    size_t n[QUADRANTS] = { 0 }, all = 0;
    double small = 0, gain = 0;
    json_t *o = json_object();
    for (size_t i = 0; i < t->n_tok; i++) {
        double s = (double)duo_f32(t, DUO_C_SMALL)[i], b = (double)duo_f32(t, best)[i];
        if (class >= 0 && ((const uint8_t *)t->col[DUO_C_CLASS])[i] != class)
            continue;
        n[quadrant_of(s, b)]++;
        small += s;
        gain += s - b;
        all++;
    }
    double per = all ? 1 / (double)all : 0;
    for (int q = 0; q < QUADRANTS; q++)
        put(o, quadrant_name[q], json_real((double)n[q] * per), lost);
    put(o, "tokens", json_integer((json_int_t)all), lost);
    put(o, "small", real(small * per), lost);
    put(o, "gap", real(gain * per), lost);
    size_t high = n[SOLVABLE] + n[IRREDUCIBLE];
    put(o, "solvable_of_high_loss", real(high ? (double)n[SOLVABLE] / (double)high : (double)NAN),
        lost);
    return o;
}

static json_t *scatter(const struct duo_trace *t, bool *lost)
{
    json_t *a = json_array();
    size_t step = t->n_tok / LIST + 1;
    for (size_t i = 0; i < t->n_tok; i += step) {
        double s = (double)duo_f32(t, DUO_C_SMALL)[i];
        uint8_t c = ((const uint8_t *)t->col[DUO_C_CLASS])[i];
        push(a,
             json_pack("[o, o, o, i]", real(s), real(s - (double)duo_f32(t, DUO_C_ANY)[i]),
                       real(s - (double)duo_f32(t, DUO_C_BIG)[i]), c == 255 ? -1 : c),
             lost);
    }
    return a;
}

static json_t *difficulty(const struct duo_trace *t, bool *lost)
{
    static const struct {
        const char *name;
        enum duo_col col;
    } by[] = { { "by_oracle", DUO_C_ANY }, { "by_all_big", DUO_C_BIG } };
    json_t *o = json_object(), *names_of = json_array();
    for (uint32_t c = 0; c < t->h.n_class; c++)
        push(names_of, json_string(t->h.classes[c]), lost);
    for (size_t k = 0; k < 2; k++) {
        json_t *one = json_object(), *classes = json_object();
        put(one, "all", shares(t, -1, by[k].col, lost), lost);
        for (uint32_t c = 0; c < t->h.n_class; c++)
            put(classes, t->h.classes[c], shares(t, (int)c, by[k].col, lost), lost);
        put(one, "classes", classes, lost);
        put(o, by[k].name, one, lost);
    }
    put(o, "classes", names_of, lost);
    put(o, "points", scatter(t, lost), lost);
    put(o, "point", json_string("small loss, gap to the oracle, gap to all big, class"), lost);
    return o;
}

/* ---- schedules ---- */

/* Budget of token i of n: a straight line. */
static uint32_t planned(double from, double to, size_t i, size_t n)
{
    double x = n > 1 ? (double)i / (double)(n - 1) : 0;
    return (uint32_t)(from + (to - from) * x + 0.5);
}

struct slope {
    const char *name;
    double from, to; /* big layers of a sequence's first and last token */
};

/* out: the oracle's loss of each token at its budget; base: of the constant budget. */
static json_t *one_schedule(const struct duo_trace *t, struct slope line, const float *base,
                            float *out, bool *lost)
{
    double want[DUO_BUDGET_MAX] = { 0 }, expected = 0, big = 0;
    for (uint32_t b = 0; b < t->h.n_budget; b++)
        want[b] = mean_of(t, duo_f32(t, DUO_C_ORACLE) + b, NULL, t->h.n_budget, lost).mean;
    for (size_t s = 0; s < t->n_seq; s++) {
        size_t first = t->seq_from[s], n = t->seq_from[s + 1] - first;
        for (size_t i = 0; i < n; i++) {
            uint32_t b = planned(line.from, line.to, i, n);
            out[first + i] = duo_f32(t, DUO_C_ORACLE)[(first + i) * t->h.n_budget + b];
            expected += want[b];
            big += b;
        }
    }
    struct duo_mean m = mean_of(t, out, NULL, 1, lost),
                    d = mean_of(t, out, base ? base : out, 1, lost);
    return json_pack(
        "{s:s, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schedule", line.name, "from",
        line.from, "to", line.to, "big_layers", big / (double)t->n_tok, "nats", real(m.mean), "low",
        real(m.low), "high", real(m.high), "from_budget_curve", real(expected / (double)t->n_tok),
        "minus_constant", real(d.mean), "minus_low", real(d.low), "minus_high", real(d.high));
}

static json_t *schedule(const struct duo_trace *t, bool *lost)
{
    double l = t->h.n_layer, mid = floor(l / 3 + 0.5), off = floor(l / 6 + 0.5);
    json_t *o = json_object(), *a = json_array();
    float *flat = calloc(t->n_tok + 1, sizeof *flat), *other = calloc(t->n_tok + 1, sizeof *other);
    *lost |= !flat || !other;
    if (flat && other && t->n_tok) {
        push(a, one_schedule(t, (struct slope){ "constant", mid, mid }, NULL, flat, lost), lost);
        push(
            a,
            one_schedule(t, (struct slope){ "shrinking", mid + off, mid - off }, flat, other, lost),
            lost);
        push(a,
             one_schedule(t, (struct slope){ "growing", mid - off, mid + off }, flat, other, lost),
             lost);
    }
    put(o, "schedules", a, lost);
    free(flat);
    free(other);
    return o;
}

/* ---- agreement ---- */

static json_t *agree_layer(const struct duo_trace *t, uint32_t b, uint32_t l)
{
    double both[2][2] = { { 0 } }, n = (double)t->n_tok;
    for (size_t i = 0; i < t->n_tok; i++) {
        bool x = duo_pattern_at(route_at(t, DUO_C_ROUTE, i, b), l) == DUO_BIG;
        bool y = duo_pattern_at(route_at(t, DUO_C_ROUTED, i, b), l) == DUO_BIG;
        both[x][y]++;
    }
    double same = (both[0][0] + both[1][1]) / n;
    double x = (both[1][0] + both[1][1]) / n, y = (both[0][1] + both[1][1]) / n;
    double chance = x * y + (1 - x) * (1 - y);
    return json_pack("{s:i, s:f, s:o, s:f, s:f}", "layer", (int)l, "accuracy", same, "kappa",
                     real(chance < 1 ? (same - chance) / (1 - chance) : (double)NAN),
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
                big += duo_pattern_at(route_at(t, DUO_C_ROUTED, i, b), l) == DUO_BIG;
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

static json_t *agreement(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost)
{
    json_t *o = json_object(), *a = json_array();
    for (uint32_t l = 0; t->h.has_router && t->n_tok && l < t->h.n_layer; l++)
        push(a, agree_layer(t, f->budget, l), lost);
    put(o, "budget", json_integer(f->budget), lost);
    put(o, "router", json_boolean(t->h.has_router), lost);
    put(o, "layers", a, lost);
    if (t->h.has_router)
        put(o, "spend_rank_correlation", real(spend_rank(t, f->budget, lost)), lost);
    return o;
}

/* ---- controls ---- */

static json_t *controls(const struct duo_trace *t, bool *lost)
{
    json_t *o = t->h.extra ? json_copy(t->h.extra) : json_object();
    put(o, "all_big", real(mean_of(t, duo_f32(t, DUO_C_BIG), NULL, 1, lost).mean), lost);
    put(o, "placebo_sigma", json_real(t->h.placebo_sigma), lost);
    return o;
}

enum status duo_figure_make(const struct duo_trace *t, enum duo_figure f,
                            const struct duo_figure_opts *o, json_t **ret, struct err *err)
{
    json_t *doc = NULL;
    bool lost = false;
    if (o->budget > t->h.n_layer)
        return err_set(err, ST_RANGE, "budget: %u big layers, the model has %u layers", o->budget,
                       t->h.n_layer);
    if (f == DUO_F_TOKENS && o->sequence >= t->n_seq)
        return err_set(err, ST_RANGE, "sequence: %u, the trace has %zu", o->sequence, t->n_seq);
    switch (f) {
    case DUO_F_CURVE:
        doc = curve(t, &lost);
        break;
    case DUO_F_USAGE:
        doc = usage(t, &lost);
        break;
    case DUO_F_POSITION:
        doc = position(t, o, &lost);
        break;
    case DUO_F_TOKENS:
        doc = tokens(t, o, &lost);
        break;
    case DUO_F_DIFFICULTY:
        doc = difficulty(t, &lost);
        break;
    case DUO_F_SCHEDULE:
        doc = schedule(t, &lost);
        break;
    case DUO_F_AGREEMENT:
        doc = agreement(t, o, &lost);
        break;
    case DUO_F_CONTROLS:
    default:
        doc = controls(t, &lost);
    }
    put(doc, "figure", json_string(names[f]), &lost);
    if (lost) {
        json_free(doc);
        return err_set(err, ST_NOMEM, "figure '%s'", names[f]);
    }
    *ret = doc;
    return ST_OK;
}
