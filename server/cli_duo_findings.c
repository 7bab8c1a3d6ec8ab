/* server/cli_duo_findings.c - see cli_duo_findings.h. */
#include "server/cli_duo_findings.h"

#include "engine/base/rng.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

/* ---- the arms ---- */

static double mean(const float *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i];
    return n ? sum / (double)n : 0;
}

void findings_score(const struct duo_pass *p, struct arm_score *to, struct err *err)
{
    size_t n = p->text->n_tok;
    float *loss = malloc((n + 1) * sizeof *loss);
    uint64_t *route = malloc((n + 1) * sizeof *route);
    struct rng rng = { 17 };
    if (!loss || !route) {
        err_set(err, ST_NOMEM, "scores");
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        route[i] = 0;
        for (uint32_t l = 0; l < p->text->n_layer; l++)
            route[i] |= rng_below(&rng, 2) << (2 * l);
    }
    if (err->code == ST_OK && duo_losses(p, NULL, 0, loss, err) == ST_OK)
        to->big = mean(loss, n);
    if (err->code == ST_OK &&
        duo_losses(p, NULL, duo_all_small(p->text->n_layer), loss, err) == ST_OK)
        to->small = mean(loss, n);
    if (err->code == ST_OK && duo_losses(p, route, 0, loss, err) == ST_OK)
        to->mixed = mean(loss, n);
out:
    free(loss);
    free(route);
}

/* ---- a trace ---- */

static double at(const struct duo_trace *t, enum duo_col c, uint32_t b)
{
    return duo_mean_of(t, duo_f32(t, c) + b, NULL, t->h.n_budget).mean;
}

static double nml_at(const struct duo_trace *t, uint32_t b)
{
    return at(t, DUO_C_ORACLE, b) + at(t, DUO_C_LOGZ, b);
}

static uint32_t least(const struct duo_trace *t, enum duo_col c)
{
    uint32_t best = 0;
    for (uint32_t b = 1; b < t->h.n_budget; b++)
        if (at(t, c, b) < at(t, c, best))
            best = b;
    return best;
}

static double share(const struct duo_trace *t, enum duo_col c, uint32_t b, uint32_t l,
                    enum duo_choice ch)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_tok; i++)
        n += duo_pattern_at(((const uint64_t *)t->col[c])[i * t->h.n_budget + b], l) == ch;
    return t->n_tok ? (double)n / (double)t->n_tok : 0;
}

/* Where the big layers lie: -0.5 all first, 0.5 all last. */
static double centre(const struct duo_trace *t, enum duo_col c, uint32_t b)
{
    double sum = 0, all = 0, last = t->h.n_layer - 1;
    for (uint32_t l = 0; l < t->h.n_layer; l++) {
        double s = share(t, c, b, l, DUO_BIG);
        sum += s * (l / last - 0.5);
        all += s;
    }
    return all > 0 ? sum / all : 0;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static json_t *figure(const struct duo_trace *t, enum duo_figure f, uint32_t budget,
                      struct err *err)
{
    struct duo_figure_opts o = duo_figure_defaults(t);
    json_t *doc = NULL;
    o.budget = budget;
    duo_figure_make(t, f, &o, &doc, err);
    return doc;
}

static void see_curve(struct seen *s, const struct duo_trace *t)
{
    uint32_t mid = t->h.n_layer / 2, w = t->h.n_budget;
    struct duo_mean gap =
        duo_mean_of(t, duo_f32(t, DUO_C_FIXED) + mid, duo_f32(t, DUO_C_ORACLE) + mid, w);
    s->all_big = duo_mean_of(t, duo_f32(t, DUO_C_BIG), NULL, 1).mean;
    s->all_small = duo_mean_of(t, duo_f32(t, DUO_C_SMALL), NULL, 1).mean;
    s->oracle1 = at(t, DUO_C_ORACLE, 1);
    s->oracle_mid = at(t, DUO_C_ORACLE, mid);
    s->oracle_argmin = least(t, DUO_C_ORACLE);
    s->oracle_best = at(t, DUO_C_ORACLE, s->oracle_argmin);
    s->fixed_mid = at(t, DUO_C_FIXED, mid);
    s->fixed_argmin = least(t, DUO_C_FIXED);
    s->router_mid = at(t, DUO_C_ROUTER, mid);
    s->placebo_mid = at(t, DUO_C_PLACEBO, mid);
    s->mixture_best = at(t, DUO_C_MIXTURE, least(t, DUO_C_MIXTURE));
    s->nml1 = nml_at(t, 1);
    s->nml_mid = nml_at(t, mid);
    s->nml_best = s->nml1;
    for (uint32_t b = 1; b < t->h.n_layer; b++)
        s->nml_best = fmin(s->nml_best, nml_at(t, b));
    s->gap_low = gap.low;
    s->gap_high = gap.high;
}

/* All big minus the oracle with one big layer, paired by token. */
static enum status see_one(struct seen *s, const struct duo_trace *t, struct err *err)
{
    float *one = malloc((t->n_tok + 1) * sizeof *one);
    if (!one)
        return err_set(err, ST_NOMEM, "differences");
    for (size_t i = 0; i < t->n_tok; i++)
        one[i] = duo_f32(t, DUO_C_ORACLE)[i * t->h.n_budget + 1];
    struct duo_mean d = duo_mean_of(t, duo_f32(t, DUO_C_BIG), one, 1);
    s->one_low = d.low;
    s->one_high = d.high;
    free(one);
    return ST_OK;
}

static void see_schedules(struct seen *s, const struct duo_trace *t, struct err *err)
{
    json_t *doc = figure(t, DUO_F_SCHEDULE, 0, err);
    const json_t *a = json_object_get(doc, "schedules"), *flat = json_array_get(a, 0);
    const json_t *down = json_array_get(a, 1), *up = json_array_get(a, 2);
    s->shrink = number(down, "minus_constant");
    s->shrink_low = number(down, "minus_low");
    s->grow = number(up, "minus_constant");
    s->grow_low = number(up, "minus_low");
    s->shrink_expected = number(down, "from_budget_curve") - number(flat, "from_budget_curve");
    s->grow_expected = number(up, "from_budget_curve") - number(flat, "from_budget_curve");
    json_free(doc);
}

static void see_layers(struct seen *s, const struct duo_trace *t, const struct duo_trace *three)
{
    uint32_t l = t->h.n_layer, mid = l / 2;
    s->centre[0] = centre(t, DUO_C_ROUTE, (l + 1) / 3);
    s->centre[1] = centre(t, DUO_C_ROUTE, mid);
    s->centre[2] = centre(t, DUO_C_ROUTE, (2 * l + 1) / 3);
    s->router_centre = centre(t, DUO_C_ROUTED, mid);
    s->skip_least = 1;
    for (uint32_t k = 0; k < l; k++) {
        double skip = share(three, DUO_C_ROUTE, mid, k, DUO_SKIP);
        s->skip_most = fmax(s->skip_most, skip);
        s->skip_least = fmin(s->skip_least, skip);
    }
}

/* The router's big layers in the first and in the last eighth of the longest sequence. */
static void see_positions(struct seen *s, const struct duo_trace *t)
{
    double n[2] = { 0 }, big[2] = { 0 };
    for (size_t q = 0; q < t->n_seq; q++) {
        uint32_t from = t->seq_from[q], len = t->seq_from[q + 1] - from;
        for (uint32_t i = 0; i < len; i++) {
            int k = i < len / 8 ? 0 : i >= len - len / 8 ? 1 : -1;
            uint64_t r = ((const uint64_t *)
                              t->col[DUO_C_ROUTED])[(from + i) * t->h.n_budget + t->h.n_layer / 2];
            if (k < 0)
                continue;
            n[k]++;
            big[k] += (double)duo_n_big(r, t->h.n_layer) / t->h.n_layer;
        }
    }
    s->early = n[0] > 0 ? big[0] / n[0] : 0;
    s->late = n[1] > 0 ? big[1] / n[1] : 0;
}

static void see_difficulty(struct findings *f, struct seen *s, const struct duo_trace *t,
                           struct err *err)
{
    json_t *doc = figure(t, DUO_F_DIFFICULTY, 0, err);
    const json_t *by = json_object_get(doc, "by_oracle"), *all = json_object_get(by, "all");
    s->solvable = number(all, "solvable_of_high_loss");
    s->irreducible = 1 - s->solvable;
    for (uint32_t c = 0; c < t->h.n_class; c++) {
        snprintf(f->classes[c], sizeof f->classes[c], "%s", t->h.classes[c]);
        const json_t *one = json_object_get(json_object_get(by, "classes"), t->h.classes[c]);
        const json_t *v = json_object_get(one, "solvable_of_high_loss");
        s->class_solvable[c] = json_is_number(v) ? json_number_value(v) : (double)NAN;
    }
    f->n_class = t->h.n_class > f->n_class ? t->h.n_class : f->n_class;
    json_free(doc);
}

static void see_controls(struct seen *s, const struct duo_trace *t, struct err *err)
{
    const json_t *sub = json_object_get(t->h.extra, "subsampled"), *v;
    const json_t *g = json_object_get(t->h.extra, "granularity");
    const json_t *c = json_array_get(json_object_get(t->h.extra, "committed"), 0);
    const json_t *a = json_object_get(t->h.extra, "searches");
    double best = (double)INFINITY;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)sub, i, v)
    {
        if (json_is_number(v) && json_number_value(v) < best) {
            best = json_number_value(v);
            s->sub_argmin = (uint32_t)i;
        }
    }
    v = json_array_get(g, json_array_size(g) - 1);
    s->seq_sum = number(v, "oracle") + number(v, "side_information");
    s->committed = number(c, "nats");
    s->committed_big = number(c, "all_big");
    s->regret_surrogate = number(json_array_get(a, 0), "regret");
    s->regret_greedy = number(json_array_get(a, 1), "regret");
    json_t *doc = figure(t, DUO_F_AGREEMENT, t->h.n_layer / 2, err);
    s->rank = number(doc, "spend_rank_correlation");
    json_free(doc);
}

void findings_add(struct findings *f, uint64_t seed, int text, const struct duo_trace *two,
                  const struct duo_trace *three, struct err *err)
{
    struct seen *s = &f->seen[text][seed];
    f->n_layer = two->h.n_layer;
    see_curve(s, two);
    if (see_one(s, two, err) != ST_OK)
        return;
    see_schedules(s, two, err);
    see_layers(s, two, three);
    see_positions(s, two);
    see_difficulty(f, s, two, err);
    see_controls(s, two, err);
}

/* ---- the document ---- */

typedef double value_fn(const struct seen *s);
#define VALUE(name, expression)                                                                    \
    static double name(const struct seen *s)                                                       \
    {                                                                                              \
        return expression;                                                                         \
    }
VALUE(v_gap, s->fixed_mid - s->oracle_mid)
VALUE(v_router, s->router_mid - s->fixed_mid)
VALUE(v_nml_mid, s->nml_mid - s->all_big)
VALUE(v_nml_best, s->nml_best - s->all_big)
VALUE(v_placebo, s->all_big - s->placebo_mid)
VALUE(v_oracle_gain, s->all_big - s->oracle_mid)
VALUE(v_argmin, s->oracle_argmin)
VALUE(v_sub, s->sub_argmin)
VALUE(v_fixed, s->fixed_argmin)
VALUE(v_one, s->all_big - s->oracle1)
VALUE(v_nml1, s->nml1 - s->all_big)
VALUE(v_shrink, s->shrink)
VALUE(v_grow, s->grow)
VALUE(v_shrink_x, s->shrink_expected)
VALUE(v_grow_x, s->grow_expected)
VALUE(v_c0, s->centre[0])
VALUE(v_c1, s->centre[1])
VALUE(v_c2, s->centre[2])
VALUE(v_skip_most, s->skip_most)
VALUE(v_skip_least, s->skip_least)
VALUE(v_router_c, s->router_centre)
VALUE(v_early, s->early - s->late)
VALUE(v_irreducible, s->irreducible)
VALUE(v_mixture, s->mixture_best - s->all_big)
VALUE(v_committed, s->committed - s->committed_big)
VALUE(v_seq, s->seq_sum - s->all_big)
VALUE(v_surrogate, s->regret_surrogate)
VALUE(v_greedy, s->regret_greedy)
VALUE(v_rank, s->rank)

/* Mean and range over seeds. */
static void range(const struct findings *f, int text, value_fn *v, struct buf *out)
{
    double sum = 0, low = (double)INFINITY, high = -(double)INFINITY;
    for (uint64_t i = 0; i < f->n_seed; i++) {
        double x = v(&f->seen[text][i]);
        sum += x;
        low = fmin(low, x);
        high = fmax(high, x);
    }
    buf_printf(out, "%.3f (%.3f to %.3f)", sum / (double)f->n_seed, low, high);
}

/* In every seed and text? */
static bool always(const struct findings *f,
                   bool (*is)(const struct findings *f, const struct seen *s))
{
    for (int t = 0; t < f->n_text; t++)
        for (uint64_t i = 0; i < f->n_seed; i++)
            if (!is(f, &f->seen[t][i]))
                return false;
    return true;
}

static void row(const struct findings *f, const char *what, value_fn *v, struct buf *out)
{
    buf_printf(out, "| %s |", what);
    for (int t = 0; t < f->n_text; t++) {
        buf_char(out, ' ');
        range(f, t, v, out);
        buf_z(out, " |");
    }
    buf_char(out, '\n');
}

static void begin(const struct findings *f, const char *title, const char *verdict, struct buf *out)
{
    buf_printf(
        out,
        "\n## %s\n\n**%s**\n\n| mean over seeds (lowest to highest) | symbolic |%s\n|---|---|%s\n",
        title, verdict, f->n_text > 1 ? " natural |" : "", f->n_text > 1 ? "---|" : "");
}

#define TEST(name, expression)                                                                     \
    static bool name(const struct findings *f, const struct seen *s)                               \
    {                                                                                              \
        (void)f;                                                                                   \
        return expression;                                                                         \
    }
TEST(f1, s->gap_low > 0 && fabs(v_router(s)) < 0.5 * v_gap(s))
TEST(no_information, s->nml_best >= s->all_big)
TEST(f2, s->oracle_argmin > 0 && s->oracle_argmin < f->n_layer &&
             2 * s->oracle_argmin + 2 >= f->n_layer && 2 * s->oracle_argmin <= f->n_layer + 2)
TEST(sub_moves, s->sub_argmin != s->oracle_argmin || s->nml_mid >= s->all_big)
TEST(f3, s->one_low > 0)
TEST(nml1_above, s->nml1 >= s->all_big)
TEST(f4, s->shrink_low > 0 && s->grow_low > 0)
TEST(f5, s->centre[0] > 0 && s->centre[2] < 0)
TEST(f6, s->skip_most > 0.9 && s->skip_least < 0.1)
TEST(f7, s->router_centre > 0 && s->early > s->late)
TEST(f7_layers, s->router_centre > 0)
TEST(f9, s->irreducible > 0.05)

static const char *verdict(bool seen, bool selection)
{
    return !seen       ? "Not reproduced in every seed and text."
           : selection ? "Reproduced, and a selection effect: what remains without the answer in "
                         "sight is nothing (the NML-corrected oracle is not below all big)."
                       : "Reproduced.";
}

static void write_oracle(const struct findings *f, struct buf *out)
{
    bool none = always(f, no_information);
    begin(f, "F1. The oracle is far below the best fixed route; the router is near that",
          verdict(always(f, f1), none), out);
    row(f, "best fixed minus oracle, half of the layers big", v_gap, out);
    row(f, "router minus best fixed", v_router, out);
    row(f, "all big minus oracle", v_oracle_gain, out);
    row(f, "all big minus placebo (noisy copies of all big, at most 32)", v_placebo, out);
    row(f, "NML-corrected oracle minus all big", v_nml_mid, out);
    row(f, "the same at its best budget", v_nml_best, out);
    begin(f, "F2. The oracle is best with half of the layers big; fixed routes improve with more",
          verdict(always(f, f2), always(f, sub_moves)), out);
    row(f, "big layers where the oracle is best", v_argmin, out);
    row(f, "the same when 12 routes are drawn at every budget", v_sub, out);
    row(f, "big layers where the best fixed route is best", v_fixed, out);
    begin(f, "F3. An oracle with one big layer beats all big",
          verdict(always(f, f3), always(f, nml1_above)), out);
    row(f, "all big minus oracle with one", v_one, out);
    row(f, "NML-corrected oracle with one, minus all big", v_nml1, out);
    begin(f, "F4. A constant budget beats shrinking and growing ones",
          verdict(always(f, f4), false), out);
    row(f, "shrinking minus constant", v_shrink, out);
    row(f, "what the budget curve alone would give", v_shrink_x, out);
    row(f, "growing minus constant", v_grow, out);
    row(f, "what the budget curve alone would give", v_grow_x, out);
}

static void write_layers(const struct findings *f, struct buf *out)
{
    begin(f, "F5. The oracle prefers late layers at a small budget, early ones at a large one",
          verdict(always(f, f5), false), out);
    row(f, "centre of big layers (-0.5 first, 0.5 last), a third big", v_c0, out);
    row(f, "half big", v_c1, out);
    row(f, "two thirds big", v_c2, out);
    begin(f, "F6. Of big or skip, some layers are nearly always kept, others nearly always skipped",
          verdict(always(f, f6), false), out);
    row(f, "share skipped, the layer most often skipped", v_skip_most, out);
    row(f, "the layer least often skipped", v_skip_least, out);
    buf_z(out,
          "\nHere all three choices are open with half of the layers big, and skipping was not "
          "trained.\n");
    begin(f, "F7. The router prefers late layers and early tokens",
          always(f, f7) ? "Reproduced."
          : always(f, f7_layers)
              ? "Late layers: reproduced. Early tokens: not in every seed and text."
              : "Not reproduced in every seed and text.",
          out);
    row(f, "centre of the router's big layers", v_router_c, out);
    row(f, "share of big layers, first eighth of a sequence minus last", v_early, out);
    buf_z(out,
          "\n## F8. The same of a router in OPT-1.3B\n\n**Not tested**: no such model is here, "
          "and small ones say nothing about it.\n\n");
}

static void write_tokens(const struct findings *f, struct buf *out)
{
    begin(f, "F9. Some tokens of high loss do not improve with any amount of compute",
          verdict(always(f, f9), false), out);
    row(f, "share of tokens above 1 nat that lose less than half of it on any route", v_irreducible,
        out);
    buf_z(out, "\nSymbolic text, share of high-loss tokens that some route solves, by class (mean "
               "over seeds; the generator knows the classes; it sees the answer):\n\n| class | "
               "share |\n|---|---|\n");
    for (uint32_t c = 0; c < f->n_class; c++) {
        double sum = 0, n = 0;
        for (uint64_t i = 0; i < f->n_seed; i++)
            if (isfinite(f->seen[0][i].class_solvable[c])) {
                sum += f->seen[0][i].class_solvable[c];
                n++;
            }
        if (n > 0)
            buf_printf(out, "| %s | %.1f %% |\n", f->classes[c], 100 * sum / n);
    }
}

static void write_frozen(const struct findings *f, struct buf *out)
{
    bool all = true;
    for (uint64_t i = 0; i < f->n_seed; i++)
        all &= f->joint[i].small < f->frozen[i].small && f->joint[i].mixed < f->frozen[i].mixed;
    buf_printf(out,
               "\n## F10. Small parts added to a frozen model are worse than joint training\n\n"
               "**%s**\n\n| seed | dense: big | joint: big | small | mixed | frozen: big | small | "
               "mixed |\n"
               "|---|---|---|---|---|---|---|---|\n",
               all ? "Reproduced in every seed, for all small and for mixed routes."
                   : "Not reproduced in every seed.");
    for (uint64_t i = 0; i < f->n_seed; i++)
        buf_printf(out, "| %d | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f |\n", (int)i + 1,
                   f->dense[i].big, f->joint[i].big, f->joint[i].small, f->joint[i].mixed,
                   f->frozen[i].big, f->frozen[i].small, f->frozen[i].mixed);
    buf_z(out, "\nNats on held-out problems; the same number of tokens in both (frozen: two thirds "
               "for the big parts, a third for the small ones).\n");
}

void findings_write(const struct findings *f, struct buf *out)
{
    buf_z(out,
          "A finding counts as reproduced when it holds in every seed and text; differences "
          "whose sign is judged have a 95 % interval, by resampling sequences, that leaves out "
          "0. \"Selection\" means that the best of many is taken with the answer in sight: a "
          "shape that noise alone would make. What fails here may hold at another size, and "
          "the other way round.\n\n");
    write_oracle(f, out);
    write_layers(f, out);
    write_tokens(f, out);
    write_frozen(f, out);
    begin(f, "What survives without the answer", "Gains that could be sent or used are negative.",
          out);
    row(f, "mixture of the routes of the best budget, minus all big", v_mixture, out);
    row(f, "one route a sequence with its side information, minus all big", v_seq, out);
    row(f, "committed oracle minus all big (sees the answer)", v_committed, out);
    row(f, "additive search: regret at half of the layers", v_surrogate, out);
    row(f, "greedy search: regret", v_greedy, out);
    row(f, "rank correlation of the router's spending with what compute takes away", v_rank, out);
}
