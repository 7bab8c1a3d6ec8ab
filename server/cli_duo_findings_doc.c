/* server/cli_duo_findings_doc.c - the replication document: verdicts and tables from what
 * cli_duo_findings.c saw. */
#include "server/cli_duo_findings.h"

#include <math.h>

#define VALUE(name, expression)                                                                    \
    static double name(const struct seen *s)                                                       \
    {                                                                                              \
        return expression;                                                                         \
    }
VALUE(v_gap, s->fixed_mid - s->oracle_mid)
VALUE(v_router, s->router_mid - s->fixed_mid)
VALUE(v_near, s->fixed_mid - s->oracle_mid - 2 * fabs(s->router_mid - s->fixed_mid))
VALUE(v_nml_mid, s->nml_mid - s->all_big)
VALUE(v_nml_best, s->nml_best - s->all_big)
VALUE(v_placebo, s->all_big - s->placebo_mid)
VALUE(v_oracle_gain, s->all_big - s->oracle_mid)
VALUE(v_argmin, s->oracle_argmin)
VALUE(v_sub, s->sub_argmin)
VALUE(v_fixed, s->fixed_argmin)
VALUE(v_fixed_gain, s->fixed_gain)
VALUE(v_one, s->all_big - s->oracle1)
VALUE(v_nml1, s->nml1 - s->all_big)
VALUE(v_shrink, s->shrink)
VALUE(v_grow, s->grow)
VALUE(v_shrink_x, s->shrink - s->shrink_expected)
VALUE(v_grow_x, s->grow - s->grow_expected)
VALUE(v_c0, s->centre[0])
VALUE(v_c1, s->centre[1])
VALUE(v_c2, s->centre[2])
VALUE(v_skip_most, s->skip_most)
VALUE(v_skip_least, s->skip_least)
VALUE(v_r0, s->router_centre[0])
VALUE(v_r1, s->router_centre[1])
VALUE(v_r2, s->router_centre[2])
VALUE(v_skip_c, s->skip_centre)
VALUE(v_early, s->early - s->late)
VALUE(v_irreducible, s->irreducible)
VALUE(v_mixture, s->mixture_best - s->all_big)
VALUE(v_committed, s->committed)
VALUE(v_seq, s->seq_gain)
VALUE(v_surrogate, s->regret_surrogate)
VALUE(v_greedy, s->regret_greedy)
VALUE(v_rank, s->rank)
VALUE(v_dense, s->dense.big)
VALUE(v_joint_big, s->joint.big)
VALUE(v_joint_small, s->joint.small)
VALUE(v_joint_mixed, s->joint.mixed)
VALUE(v_frozen_big, s->frozen.big)
VALUE(v_frozen_small, s->frozen.small)
VALUE(v_frozen_mixed, s->frozen.mixed)
VALUE(v_f_small, s->frozen.small - s->joint.small)
VALUE(v_f_mixed, s->frozen.mixed - s->joint.mixed)
VALUE(v_f_big, s->frozen.big - s->joint.big)

static const char *text_name(int text)
{
    return text ? "natural" : "symbolic";
}

/* ---- judging ---- */

/* In every seed, and both intervals leave the limit out. Those that are not there do not object. */
static bool above(const struct findings *f, int t, value_fn *v, double limit)
{
    struct spread r = findings_spread(f, t, v);
    return r.least > limit && !(r.seeds_low <= limit) && !(r.tokens_low <= limit);
}

static bool below(const struct findings *f, int t, value_fn *v, double limit)
{
    struct spread r = findings_spread(f, t, v);
    return r.most < limit && !(r.seeds_high >= limit) && !(r.tokens_high >= limit);
}

enum verdict { NOT_REPRODUCED, SELECTION, BEND, REPRODUCED, UNTESTED };
static const char *const verdict_name[] = {
    "not reproduced", "selection effect",
    "reproduced, but the bend of the budget curve alone gives it", "reproduced", "not tested"
};

static enum verdict of(bool seen, bool selection)
{
    return !seen ? NOT_REPRODUCED : selection ? SELECTION : REPRODUCED;
}

static enum verdict f1(const struct findings *f, int t)
{
    return of(above(f, t, v_gap, 0) && above(f, t, v_near, 0), !below(f, t, v_nml_best, 0));
}

static enum verdict f2(const struct findings *f, int t)
{
    struct spread r = findings_spread(f, t, v_argmin), sub = findings_spread(f, t, v_sub);
    double half = f->n_layer / 2.0;
    bool middle = r.least >= half - 1 && r.most <= half + 1;
    bool moves = sub.least < r.least || sub.most > r.most;
    return of(middle, moves || !below(f, t, v_nml_mid, 0));
}

static enum verdict f3(const struct findings *f, int t)
{
    return of(above(f, t, v_one, 0), !below(f, t, v_nml1, 0));
}

static enum verdict f4(const struct findings *f, int t)
{
    if (!above(f, t, v_shrink, 0) || !above(f, t, v_grow, 0))
        return NOT_REPRODUCED;
    return above(f, t, v_shrink_x, 0) && above(f, t, v_grow_x, 0) ? REPRODUCED : BEND;
}

static enum verdict f5(const struct findings *f, int t)
{
    return of(above(f, t, v_c0, 0) && below(f, t, v_c2, 0), false);
}

static enum verdict f6(const struct findings *f, int t)
{
    return of(above(f, t, v_skip_most, 0.9) && below(f, t, v_skip_least, 0.1), false);
}

static enum verdict f7(const struct findings *f, int t)
{
    return of(above(f, t, v_r0, 0) && above(f, t, v_r1, 0) && above(f, t, v_r2, 0) &&
                  above(f, t, v_early, 0),
              false);
}

static enum verdict f8(const struct findings *f, int t)
{
    (void)f;
    (void)t;
    return UNTESTED;
}

static enum verdict f9(const struct findings *f, int t)
{
    return of(above(f, t, v_irreducible, 0.05), false);
}

static enum verdict f10(const struct findings *f, int t)
{
    return of(above(f, t, v_f_small, 0) && above(f, t, v_f_mixed, 0), false);
}

static const struct {
    const char *title;
    enum verdict (*judge)(const struct findings *f, int t);
} finding[] = {
    { "F1. The oracle is far below the best fixed route; the router is near that", f1 },
    { "F2. The oracle is best with half of the layers big", f2 },
    { "F3. An oracle with one big layer beats all big", f3 },
    { "F4. A constant budget beats shrinking and growing ones", f4 },
    { "F5. The oracle prefers late layers at a small budget, early ones at a large one", f5 },
    { "F6. Of big or skip, some layers are nearly always kept, others nearly always skipped", f6 },
    { "F7. The router prefers late layers and early tokens", f7 },
    { "F8. The same of a router in OPT-1.3B", f8 },
    { "F9. Some tokens of high loss do not improve with any amount of compute", f9 },
    { "F10. Small parts added to a frozen model are worse than joint training", f10 },
};

/* ---- writing ---- */

static void cell(const struct findings *f, int text, value_fn *v, struct buf *out)
{
    struct spread r = findings_spread(f, text, v);
    if (!isfinite(r.mean)) {
        buf_z(out, " - |");
        return;
    }
    buf_printf(out, " %.3f", r.mean);
    if (isfinite(r.seeds_low))
        buf_printf(out, " ± %.3f", r.seeds_high - r.mean);
    if (isfinite(r.tokens_low))
        buf_printf(out, " (%.3f to %.3f)", r.tokens_low, r.tokens_high);
    buf_z(out, " |");
}

static void row(const struct findings *f, const char *what, value_fn *v, struct buf *out)
{
    buf_printf(out, "| %s |", what);
    for (int t = 0; t < f->n_text; t++)
        cell(f, t, v, out);
    buf_char(out, '\n');
}

static void head(const struct findings *f, const char *what, struct buf *out)
{
    buf_printf(out, "\n| %s |", what);
    for (int t = 0; t < f->n_text; t++)
        buf_printf(out, " %s |", text_name(t));
    buf_z(out, f->n_text > 1 ? "\n|---|---|---|\n" : "\n|---|---|\n");
}

static void begin(const struct findings *f, int k, struct buf *out)
{
    buf_printf(out, "\n## %s\n\n", finding[k].title);
    for (int t = 0; t < f->n_text; t++)
        buf_printf(out, "%s**%c%s text: %s.**", t ? " " : "", text_name(t)[0] - 'a' + 'A',
                   text_name(t) + 1, verdict_name[finding[k].judge(f, t)]);
    buf_char(out, '\n');
}

static void write_summary(const struct findings *f, struct buf *out)
{
    head(f, "finding", out);
    for (size_t k = 0; k < sizeof finding / sizeof finding[0]; k++) {
        buf_printf(out, "| %s |", finding[k].title);
        for (int t = 0; t < f->n_text; t++)
            buf_printf(out, " %s |", verdict_name[finding[k].judge(f, t)]);
        buf_char(out, '\n');
    }
}

static void write_oracle(const struct findings *f, struct buf *out)
{
    begin(f, 0, out);
    head(f, "nats a token, half of the layers big", out);
    row(f, "best fixed minus oracle", v_gap, out);
    row(f, "router minus best fixed", v_router, out);
    row(f, "all big minus oracle", v_oracle_gain, out);
    row(f, "all big minus placebo (as many choices, as much spread, nothing to route)", v_placebo,
        out);
    row(f, "NML-corrected oracle minus all big", v_nml_mid, out);
    row(f, "the same at its best budget", v_nml_best, out);
    begin(f, 1, out);
    head(f, "big layers", out);
    row(f, "where the oracle is best", v_argmin, out);
    row(f, "the same when 12 routes are drawn at every budget", v_sub, out);
    row(f, "where the best fixed route is best", v_fixed, out);
    row(f, "nats by which that is below all big", v_fixed_gain, out);
    begin(f, 2, out);
    head(f, "nats a token", out);
    row(f, "all big minus oracle with one", v_one, out);
    row(f, "NML-corrected oracle with one, minus all big", v_nml1, out);
    begin(f, 3, out);
    head(f, "nats a token", out);
    row(f, "shrinking minus constant", v_shrink, out);
    row(f, "what is left of it beyond the bend of the budget curve", v_shrink_x, out);
    row(f, "growing minus constant", v_grow, out);
    row(f, "what is left of it beyond the bend of the budget curve", v_grow_x, out);
}

static void write_layers(const struct findings *f, struct buf *out)
{
    begin(f, 4, out);
    head(f, "centre of the oracle's big layers (-0.5 first, 0.5 last)", out);
    row(f, "a third big", v_c0, out);
    row(f, "half big", v_c1, out);
    row(f, "two thirds big", v_c2, out);
    begin(f, 5, out);
    head(f, "share skipped, half of the layers big and half skipped", out);
    row(f, "the layer most often skipped", v_skip_most, out);
    row(f, "the layer least often skipped", v_skip_least, out);
    buf_z(out, "\nSkipping was not trained, as in the paper.\n");
    begin(f, 6, out);
    head(f, "linear router", out);
    row(f, "centre of its big layers, a third big", v_r0, out);
    row(f, "half big", v_r1, out);
    row(f, "two thirds big", v_r2, out);
    row(f, "share of big layers, first eighth of a sequence minus last", v_early, out);
    row(f, "centre of the layers that a router of three choices skips", v_skip_c, out);
    begin(f, 7, out);
    buf_z(out, "\nNo such model is here, and small ones say nothing about it.\n");
}

/* Means over seeds: the classes come from the generator of the symbolic text. */
static void write_classes(const struct findings *f, struct buf *out)
{
    buf_z(
        out,
        "\nSymbolic text, where the generator knows what a token is. High loss: all small above a "
        "nat. Compute-solvable: of high loss, and half of it goes away; on some route (which the "
        "oracle finds with the answer in sight), or with all layers big (which needs no answer). "
        "Means over seeds.\n\n| class | share of tokens | all small, nats | high loss | solvable, "
        "some route | solvable, all big | irreducible | solvable share of high loss |\n"
        "|---|---|---|---|---|---|---|---|\n");
    for (uint32_t c = 0; c < f->n_class; c++) {
        struct class_seen m = { 0 };
        double n = (double)f->n_seed;
        for (uint64_t i = 0; i < f->n_seed; i++) {
            const struct class_seen *s = &f->seen[0][i].class[c];
            m.tokens += s->tokens / n, m.small += s->small / n, m.by_oracle += s->by_oracle / n;
            m.by_big += s->by_big / n, m.irreducible += s->irreducible / n;
            m.high_loss += s->high_loss / n;
        }
        if (m.tokens > 0)
            buf_printf(
                out, "| %s | %.1f %% | %.3f | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.0f %% |\n",
                f->classes[c], 100 * m.tokens, m.small, 100 * m.high_loss, 100 * m.by_oracle,
                100 * m.by_big, 100 * m.irreducible,
                m.high_loss > 0 ? 100 * m.by_oracle / m.high_loss : 0.0);
    }
}

static void write_frozen(const struct findings *f, struct buf *out)
{
    begin(f, 9, out);
    head(f, "nats a token of held-out text", out);
    row(f, "dense network of the big parts alone", v_dense, out);
    row(f, "joint, all big", v_joint_big, out);
    row(f, "joint, all small", v_joint_small, out);
    row(f, "joint, a coin for each token and layer", v_joint_mixed, out);
    row(f, "frozen, all big (two thirds of the training)", v_frozen_big, out);
    row(f, "frozen, all small", v_frozen_small, out);
    row(f, "frozen, a coin", v_frozen_mixed, out);
    row(f, "frozen minus joint, all small", v_f_small, out);
    row(f, "frozen minus joint, a coin", v_f_mixed, out);
    row(f, "frozen minus joint, all big", v_f_big, out);
    buf_z(out, "\nAll arms see as many tokens (frozen: two thirds for the big parts, then a third "
               "for the small ones).\n");
}

static void write_rest(const struct findings *f, struct buf *out)
{
    buf_z(out, "\n## What survives without the answer\n\nNegative numbers in the first two rows "
               "would be gains that could be used or sent.\n");
    head(f, "nats a token", out);
    row(f, "mixture of the routes of the best budget, minus all big", v_mixture, out);
    row(f, "one route a sequence with its side information, minus all big", v_seq, out);
    row(f, "committed oracle minus all big (sees the answer)", v_committed, out);
    row(f, "additive search: regret at half of the layers", v_surrogate, out);
    row(f, "greedy search: regret", v_greedy, out);
    row(f, "rank correlation of the router's spending with what compute takes away", v_rank, out);
}

void findings_write(const struct findings *f, struct buf *out)
{
    buf_z(out,
          "Numbers are means over seeds. Behind ±: half of the 95 % interval over seeds "
          "(Student's t). In brackets: the 95 % interval over tokens, by resampling whole "
          "sequences 200 times, the networks held fixed; where there is none, the number is not "
          "a sum over tokens. A finding counts as reproduced when it holds in every seed and "
          "both intervals leave the other side out. \"Selection effect\": its shape is there, "
          "but it comes of taking the best of many with the answer in sight: with the NML "
          "correction nothing of it is proved to be left (or, in F2, the place of the best budget "
          "moves when every budget has 12 routes). What fails here may hold at another size, and "
          "the other way round.\n");
    write_summary(f, out);
    write_oracle(f, out);
    write_layers(f, out);
    begin(f, 8, out);
    head(f, "of tokens above 1 nat with all small", out);
    row(f, "share that loses less than half of it on any route", v_irreducible, out);
    write_classes(f, out);
    write_frozen(f, out);
    write_rest(f, out);
}
