/* engine/duo/figures.c - see figures.h: means and their intervals, and the figures about losses;
 * those about routes are in figures_routes.c. */
#include "engine/duo/figures.h"

#include "engine/base/rng.h"
#include "engine/duo/figures_internal.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

enum { RESAMPLES = 400, LIST = 600 };

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

json_t *figure_real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

void figure_put(json_t *o, const char *key, json_t *v, bool *lost)
{
    *lost |= !v || json_object_set_new(o, key, v) != 0; /* takes v also without o */
}

void figure_push(json_t *a, json_t *v, bool *lost)
{
    *lost |= !v || json_array_append_new(a, v) != 0;
}

uint64_t figure_route_at(const struct duo_trace *t, enum duo_col c, size_t tok, uint32_t b)
{
    return ((const uint64_t *)t->col[c])[tok * t->h.n_budget + b];
}

bool figure_searched(const struct duo_trace *t, enum duo_col c, uint32_t b)
{
    return t->n_tok && isfinite(duo_f32(t, c)[b]);
}

/* ---- budget curve ---- */

static json_t *point(const struct duo_trace *t, uint32_t b, double n_big, struct duo_mean m,
                     uint64_t routes)
{
    double all = duo_flops(&t->h, t->h.n_layer), flops = duo_flops(&t->h, n_big);
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "budget", (int)b, "share",
                     figure_real(n_big / t->h.n_layer), "flops", figure_real(flops),
                     "relative_flops", figure_real(all > 0 ? flops / all : (double)NAN), "nats",
                     figure_real(m.mean), "low", figure_real(m.low), "high", figure_real(m.high),
                     "routes", (json_int_t)routes);
}

static json_t *by_budget(const struct duo_trace *t, enum duo_col c, bool *lost)
{
    json_t *a = json_array();
    for (uint32_t b = 0; b < t->h.n_budget; b++) {
        if (!figure_searched(t, c, b))
            continue;
        double n_big = b;
        if (c == DUO_C_ROUTER && isfinite(t->h.router_hard[b]))
            n_big = t->h.router_hard[b] * t->h.n_layer;
        uint64_t k = c == DUO_C_PLACEBO  ? t->h.n_placebo[b]
                     : c == DUO_C_ROUTER ? 1
                                         : t->h.n_route[b];
        struct duo_mean m = mean_of(t, duo_f32(t, c) + b, NULL, t->h.n_budget, lost);
        figure_push(a, point(t, b, n_big, m, k), lost);
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
        if (figure_searched(t, DUO_C_ORACLE, b) && figure_searched(t, DUO_C_LOGZ, b))
            figure_push(
                a,
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
    figure_push(a, point(t, b, b, mean_of(t, duo_f32(t, c), NULL, 1, lost), 1), lost);
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
        figure_put(c, many[i].name, by_budget(t, many[i].col, lost), lost);
    figure_put(c, "oracle_nml", corrected(t, lost), lost);
    figure_put(c, "all_big", alone(t, DUO_C_BIG, t->h.n_layer, lost), lost);
    figure_put(c, "all_small", alone(t, DUO_C_SMALL, 0, lost), lost);
    figure_put(o, "curves", c, lost);
    figure_put(o, "unconstrained",
               figure_real(mean_of(t, duo_f32(t, DUO_C_ANY), NULL, 1, lost).mean), lost);
    figure_put(o, "note",
               json_string(
                   "oracle and placebo choose with the answer in sight; only a curve below all_big "
                   "that does not is a gain"),
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
    duo_pattern_text(figure_route_at(t, DUO_C_ROUTE, i, b), t->h.n_layer, oracle);
    duo_pattern_text(figure_route_at(t, DUO_C_ROUTED, i, b), t->h.n_layer, router);
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:i}", "text", json_text(s), "class",
        c < t->h.n_class ? json_string(t->h.classes[c]) : json_null(), "small", figure_real(small),
        "big", figure_real((double)duo_f32(t, DUO_C_BIG)[i]), "oracle",
        figure_real((double)duo_f32(t, DUO_C_ORACLE)[at]), "router",
        figure_real((double)duo_f32(t, DUO_C_ROUTER)[at]), "gap", figure_real(small - any),
        "oracle_route", oracle, "router_route", t->h.has_router ? json_string(router) : json_null(),
        "near_ties", (int)((const uint8_t *)t->col[DUO_C_NEAR])[at]);
}

static json_t *tokens(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost)
{
    json_t *o = json_object(), *a = json_array();
    for (size_t i = t->seq_from[f->sequence]; i < t->seq_from[f->sequence + 1]; i++)
        figure_push(a, one_token(t, i, f->budget), lost);
    figure_put(o, "budget", json_integer(f->budget), lost);
    figure_put(o, "sequence", json_integer(f->sequence), lost);
    figure_put(o, "sequences", json_integer((json_int_t)t->n_seq), lost);
    figure_put(o, "tokens", a, lost);
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
        figure_put(o, quadrant_name[q], json_real((double)n[q] * per), lost);
    figure_put(o, "tokens", json_integer((json_int_t)all), lost);
    figure_put(o, "small", figure_real(small * per), lost);
    figure_put(o, "gap", figure_real(gain * per), lost);
    size_t high = n[SOLVABLE] + n[IRREDUCIBLE];
    figure_put(o, "solvable_of_high_loss",
               figure_real(high ? (double)n[SOLVABLE] / (double)high : (double)NAN), lost);
    return o;
}

static json_t *scatter(const struct duo_trace *t, bool *lost)
{
    json_t *a = json_array();
    size_t step = t->n_tok / LIST + 1;
    for (size_t i = 0; i < t->n_tok; i += step) {
        double s = (double)duo_f32(t, DUO_C_SMALL)[i];
        uint8_t c = ((const uint8_t *)t->col[DUO_C_CLASS])[i];
        figure_push(a,
                    json_pack("[o, o, o, i]", figure_real(s),
                              figure_real(s - (double)duo_f32(t, DUO_C_ANY)[i]),
                              figure_real(s - (double)duo_f32(t, DUO_C_BIG)[i]), c == 255 ? -1 : c),
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
        figure_push(names_of, json_string(t->h.classes[c]), lost);
    for (size_t k = 0; k < 2; k++) {
        json_t *one = json_object(), *classes = json_object();
        figure_put(one, "all", shares(t, -1, by[k].col, lost), lost);
        for (uint32_t c = 0; c < t->h.n_class; c++)
            figure_put(classes, t->h.classes[c], shares(t, (int)c, by[k].col, lost), lost);
        figure_put(one, "classes", classes, lost);
        figure_put(o, by[k].name, one, lost);
    }
    figure_put(o, "classes", names_of, lost);
    figure_put(o, "points", scatter(t, lost), lost);
    figure_put(o, "point", json_string("small loss, gap to the oracle, gap to all big, class"),
               lost);
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
        line.from, "to", line.to, "big_layers", big / (double)t->n_tok, "nats", figure_real(m.mean),
        "low", figure_real(m.low), "high", figure_real(m.high), "from_budget_curve",
        figure_real(expected / (double)t->n_tok), "minus_constant", figure_real(d.mean),
        "minus_low", figure_real(d.low), "minus_high", figure_real(d.high));
}

static json_t *schedule(const struct duo_trace *t, bool *lost)
{
    double l = t->h.n_layer, mid = floor(l / 3 + 0.5), off = floor(l / 6 + 0.5);
    json_t *o = json_object(), *a = json_array();
    float *flat = calloc(t->n_tok + 1, sizeof *flat), *other = calloc(t->n_tok + 1, sizeof *other);
    *lost |= !flat || !other;
    if (flat && other && t->n_tok) {
        figure_push(a, one_schedule(t, (struct slope){ "constant", mid, mid }, NULL, flat, lost),
                    lost);
        figure_push(
            a,
            one_schedule(t, (struct slope){ "shrinking", mid + off, mid - off }, flat, other, lost),
            lost);
        figure_push(
            a,
            one_schedule(t, (struct slope){ "growing", mid - off, mid + off }, flat, other, lost),
            lost);
    }
    figure_put(o, "schedules", a, lost);
    free(flat);
    free(other);
    return o;
}

/* ---- controls ---- */

static json_t *controls(const struct duo_trace *t, bool *lost)
{
    json_t *o = t->h.extra ? json_copy(t->h.extra) : json_object();
    figure_put(o, "all_big", figure_real(mean_of(t, duo_f32(t, DUO_C_BIG), NULL, 1, lost).mean),
               lost);
    figure_put(o, "placebo_sigma", json_real(t->h.placebo_sigma), lost);
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
        doc = figure_usage(t, &lost);
        break;
    case DUO_F_POSITION:
        doc = figure_position(t, o, &lost);
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
        doc = figure_agreement(t, o, &lost);
        break;
    case DUO_F_CONTROLS:
    default:
        doc = controls(t, &lost);
    }
    figure_put(doc, "figure", json_string(names[f]), &lost);
    if (lost) {
        json_free(doc);
        return err_set(err, ST_NOMEM, "figure '%s'", names[f]);
    }
    *ret = doc;
    return ST_OK;
}
