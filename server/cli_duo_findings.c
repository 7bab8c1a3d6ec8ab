/* server/cli_duo_findings.c - see cli_duo_findings.h. */
#include "server/cli_duo_findings.h"

#include "engine/base/rng.h"
#include "engine/infer/route.h"

#include <assert.h>
#include <math.h>
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

/* Where the layers of a choice lie: -0.5 all first, 0.5 all last. */
static double centre(const struct duo_trace *t, enum duo_col c, uint32_t b, enum duo_choice ch)
{
    double sum = 0, all = 0, last = t->h.n_layer - 1;
    for (uint32_t l = 0; l < t->h.n_layer; l++) {
        double s = share(t, c, b, l, ch);
        sum += s * (l / last - 0.5);
        all += s;
    }
    return all > 0 ? sum / all : (double)NAN;
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
    uint32_t mid = t->h.n_layer / 2;
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
    s->fixed_gain = s->all_big - at(t, DUO_C_FIXED, least(t, DUO_C_FIXED));
}

static void see_schedules(struct seen *s, const struct duo_trace *t, struct err *err)
{
    json_t *doc = figure(t, DUO_F_SCHEDULE, 0, err);
    const json_t *a = json_object_get(doc, "schedules"), *flat = json_array_get(a, 0);
    const json_t *down = json_array_get(a, 1), *up = json_array_get(a, 2);
    s->shrink = number(down, "minus_constant");
    s->grow = number(up, "minus_constant");
    s->shrink_expected = number(down, "from_budget_curve") - number(flat, "from_budget_curve");
    s->grow_expected = number(up, "from_budget_curve") - number(flat, "from_budget_curve");
    json_free(doc);
}

static void see_layers(struct seen *s, const struct duo_trace *t, const struct findings_in *in)
{
    uint32_t l = t->h.n_layer, mid = l / 2, at_third[3] = { (l + 1) / 3, mid, (2 * l + 1) / 3 };
    for (int i = 0; i < 3; i++) {
        s->centre[i] = centre(t, DUO_C_ROUTE, at_third[i], DUO_BIG);
        s->router_centre[i] = centre(t, DUO_C_ROUTED, at_third[i], DUO_BIG);
    }
    s->skip_most = 0;
    s->skip_least = 1;
    for (uint32_t k = 0; k < l; k++) {
        double skip = share(in->skip, DUO_C_ROUTE, mid, k, DUO_SKIP);
        s->skip_most = fmax(s->skip_most, skip);
        s->skip_least = fmin(s->skip_least, skip);
    }
    s->skip_centre = in->three ? centre(in->three, DUO_C_ROUTED, mid, DUO_SKIP) : (double)NAN;
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
    const json_t *by = json_object_get(doc, "by_oracle"), *big = json_object_get(doc, "by_all_big");
    double solvable = number(json_object_get(by, "all"), "solvable_of_high_loss");
    s->irreducible = 1 - solvable;
    for (uint32_t c = 0; c < t->h.n_class && c < CLASSES_MAX; c++) {
        const json_t *one = json_object_get(json_object_get(by, "classes"), t->h.classes[c]);
        const json_t *two = json_object_get(json_object_get(big, "classes"), t->h.classes[c]);
        snprintf(f->classes[c], sizeof f->classes[c], "%s", t->h.classes[c]);
        s->class[c] = (struct class_seen){ .tokens = number(one, "tokens") / (double)t->n_tok,
                                           .small = number(one, "small"),
                                           .by_oracle = number(one, "compute_solvable"),
                                           .by_big = number(two, "compute_solvable"),
                                           .irreducible = number(one, "irreducible"),
                                           .high_loss = number(one, "compute_solvable") +
                                                        number(one, "irreducible") };
    }
    f->n_class = t->h.n_class > f->n_class ? t->h.n_class : f->n_class;
    json_free(doc);
}

static void see_controls(struct seen *s, const struct duo_trace *t)
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
            s->sub_argmin = (double)i;
        }
    }
    v = json_array_get(g, json_array_size(g) - 1);
    s->seq_gain = number(v, "oracle") + number(v, "side_information") - s->all_big;
    s->committed = number(c, "nats") - number(c, "all_big");
    s->regret_surrogate = number(json_array_get(a, 0), "regret");
    s->regret_greedy = number(json_array_get(a, 1), "regret");
}

static void see_rank(struct seen *s, const struct duo_trace *t, struct err *err)
{
    json_t *doc = figure(t, DUO_F_AGREEMENT, t->h.n_layer / 2, err);
    s->rank = number(doc, "spend_rank_correlation");
    json_free(doc);
}

static void see(struct findings *f, struct seen *s, const struct findings_in *in, struct err *err)
{
    assert(in->two && in->skip);
    see_curve(s, in->two);
    see_schedules(s, in->two, err);
    see_layers(s, in->two, in);
    see_positions(s, in->two);
    see_difficulty(f, s, in->two, err);
    see_rank(s, in->two, err);
}

/* ---- tokens drawn again ---- */

static void copy_sequence(const struct duo_trace *t, size_t from, size_t n, struct duo_trace *to,
                          size_t at)
{
    for (int c = 0; c < DUO_COLS; c++) {
        size_t each = duo_col_width(&t->h, (enum duo_col)c) * duo_col_bytes((enum duo_col)c);
        memcpy((char *)to->col[c] + at * each, (const char *)t->col[c] + from * each, n * each);
    }
}

/* A trace of as many sequences, drawn with replacement: tokens of one are not independent. */
static enum status resample(const struct duo_trace *t, struct rng *rng, struct duo_trace **ret,
                            struct err *err)
{
    struct duo_trace *to = NULL;
    struct duo_header h = t->h;
    size_t *pick = malloc((t->n_seq + 1) * sizeof *pick), n = 0;
    if (!pick)
        return err_set(err, ST_NOMEM, "resampling");
    for (size_t s = 0; s < t->n_seq; s++) {
        pick[s] = (size_t)rng_below(rng, t->n_seq);
        n += t->seq_from[pick[s] + 1] - t->seq_from[pick[s]];
    }
    h.extra = NULL;
    if (duo_trace_create(&h, n, t->n_seq, &to, err) == ST_OK) {
        for (size_t s = 0, at = 0; s < t->n_seq; s++) {
            size_t from = t->seq_from[pick[s]], len = t->seq_from[pick[s] + 1] - from;
            copy_sequence(t, from, len, to, at);
            at += len;
            to->seq_from[s + 1] = (uint32_t)at;
        }
        *ret = to;
    }
    free(pick);
    return err->code;
}

static void draw(struct findings *f, struct seen *to, const struct findings_in *in, struct rng *rng,
                 struct err *err)
{
    struct duo_trace *t[3] = { NULL };
    const struct duo_trace *from[3] = { in->two, in->skip, in->three };
    for (int i = 0; i < 3; i++)
        if (from[i] && resample(from[i], rng, &t[i], err) != ST_OK)
            break;
    struct findings_in again = { .two = t[0], .skip = t[1], .three = t[2] };
    if (err->code == ST_OK)
        see(f, to, &again, err);
    for (int i = 0; i < 3; i++)
        duo_trace_free(t[i]);
}

void findings_add(struct findings *f, uint64_t seed, int text, const struct findings_in *in,
                  struct err *err)
{
    struct seen *s = &f->seen[text][seed], *drawn = calloc(RESAMPLED, sizeof *drawn);
    struct rng rng = { rng_at(4711,
                              (uint64_t)text) }; /* the same draws for every seed: the text is */
    if (!drawn) {
        err_set(err, ST_NOMEM, "resampling");
        return;
    }
    f->drawn[text][seed] = drawn;
    f->n_layer = in->two->h.n_layer;
    see(f, s, in, err);
    see_controls(s, in->two);
    s->joint = in->joint, s->dense = in->dense, s->frozen = in->frozen;
    for (int i = 0; i < RESAMPLED && err->code == ST_OK; i++) {
        drawn[i] = *s; /* what is not by token stays */
        draw(f, &drawn[i], in, &rng, err);
    }
}

void findings_clear(struct findings *f)
{
    for (int t = 0; t < TEXTS; t++)
        for (int i = 0; i < SEEDS_MAX; i++) {
            free(f->drawn[t][i]);
            f->drawn[t][i] = NULL;
        }
}

/* ---- intervals ---- */

/* 97.5 % point of Student's t with n - 1 degrees of freedom (any statistics table). */
static double student(uint64_t n)
{
    static const double t[] = { 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131 };
    return n < 2 ? (double)NAN : t[n - 2 < 15 ? n - 2 : 14];
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void over_tokens(const struct findings *f, int text, value_fn *v, struct spread *r)
{
    double x[RESAMPLED];
    for (int k = 0; k < RESAMPLED; k++) {
        x[k] = 0;
        for (uint64_t i = 0; i < f->n_seed; i++)
            x[k] += v(&f->drawn[text][i][k]) / (double)f->n_seed;
        if (!isfinite(x[k]))
            return;
    }
    qsort(x, RESAMPLED, sizeof *x, by_size);
    if (x[0] < x[RESAMPLED - 1]) {
        r->tokens_low = x[RESAMPLED / 40];
        r->tokens_high = x[RESAMPLED - 1 - RESAMPLED / 40];
    }
}

struct spread findings_spread(const struct findings *f, int text, value_fn *v)
{
    double nan = (double)NAN, squares = 0, n = (double)f->n_seed;
    struct spread r = { 0, nan, nan, nan, nan, (double)INFINITY, -(double)INFINITY };
    for (uint64_t i = 0; i < f->n_seed; i++) {
        double x = v(&f->seen[text][i]);
        r.mean += x / n;
        r.least = fmin(r.least, x);
        r.most = fmax(r.most, x);
    }
    for (uint64_t i = 0; i < f->n_seed; i++)
        squares += pow(v(&f->seen[text][i]) - r.mean, 2);
    if (f->n_seed > 1) {
        double half = student(f->n_seed) * sqrt(squares / (n - 1) / n);
        r.seeds_low = r.mean - half;
        r.seeds_high = r.mean + half;
    }
    over_tokens(f, text, v, &r);
    return r;
}
