/* Looks at masks: what is looked at, and that the estimates are right on average and their bounds
 * hold, against full knowledge of a toy layer. */
#include "engine/base/rng.h"
#include "engine/flash/shadow.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 200, T = 3 };

static struct shadow *open_shadow(uint32_t n_layer, uint32_t every)
{
    struct err err = ERR_INIT;
    struct shadow *s;
    cr_assert_eq(shadow_create(n_layer, N, every, &s, &err), ST_OK, "%s", err.msg);
    return s;
}

/* One pass of a layer: how many tokens the mask lets have each neuron, and what all would give. */
struct toy {
    uint32_t count[N];
    float h[T][N];
    double found, missed, mass, missed_mass;
};

static struct toy make_toy(struct rng *r, double miss)
{
    struct toy y = { 0 };
    for (uint32_t i = 0; i < N; i++) {
        bool out = rng_f64(r) < 0.7;
        y.count[i] = out ? 0 : 1 + (uint32_t)rng_below(r, T);
        for (size_t t = 0; t < T; t++) {
            bool fires = rng_f64(r) < (out ? miss : 0.5);
            y.h[t][i] = fires ? (float)(0.1 + rng_f64(r)) : 0;
            *(out ? &y.missed : &y.found) += fires;
            *(out ? &y.missed_mass : &y.mass) += (double)y.h[t][i];
        }
    }
    return y;
}

/* Columns of the toy, as a wave has them. */
struct wave {
    uint32_t neuron[N];
    float h[T][N];
    size_t n;
};

static void take(struct wave *w, const struct toy *y, uint32_t i)
{
    for (size_t t = 0; t < T; t++)
        w->h[t][w->n] = y->h[t][i];
    w->neuron[w->n++] = i;
}

static void look_once(struct shadow *s, const struct toy *y)
{
    struct wave seen = { .n = 0 }, drawn = { .n = 0 };
    const struct shadow_look *l = shadow_begin(s, SHADOW_SAMPLE, 0, T);
    cr_assert(l && l->n == SHADOW_NEURONS && l->n_tok == T);
    shadow_decided(s, y->count, NULL);
    for (uint32_t i = 0; i < N; i++)
        if (y->count[i])
            take(&seen, y, i);
    shadow_seen(s, seen.neuron, seen.n, seen.h[0], N);
    for (uint32_t i = 0; i < l->n; i++) {
        cr_assert(i == 0 || l->neuron[i] > l->neuron[i - 1]);
        cr_assert_eq(shadow_asks(s, i), y->count[l->neuron[i]] == 0);
        if (shadow_asks(s, i))
            take(&drawn, y, l->neuron[i]);
    }
    shadow_missed(s, drawn.neuron, drawn.n, drawn.h[0], N);
    shadow_end(s, true);
}

static struct shadow_sums less(struct shadow_sums a, struct shadow_sums b)
{
    a.tokens -= b.tokens;
    a.sampled -= b.sampled;
    a.loaded -= b.loaded;
    a.found -= b.found;
    a.missed -= b.missed;
    a.mass -= b.mass;
    a.missed_mass -= b.missed_mass;
    a.est_missed -= b.est_missed;
    a.est_mass -= b.est_mass;
    a.est_missed_sq -= b.est_missed_sq;
    a.est_mass_sq -= b.est_mass_sq;
    return a;
}

/* Mean and its standard error of n values, as sums. */
static void expect_mean(double sum, double squares, double n, double want, const char *what)
{
    double mean = sum / n, error = sqrt((squares / n - mean * mean) / n);
    cr_expect_lt(fabs(mean - want), 5 * error, "%s: %g +- %g, expected %g", what, mean, error,
                 want);
    cr_expect_lt(error, 0.05 * want, "%s: %g says nothing of %g", what, error, want);
}

/* Five standard errors: a right estimate fails once in two million. */
Test(shadow, drawn_neurons_stand_for_those_left_out_on_average)
{
    enum { LOOKS = 20000 };
    struct rng r = { 3 };
    struct shadow *s = open_shadow(1, 1);
    struct toy y = make_toy(&r, 0.1);
    struct shadow_sums before = *shadow_sums(s);
    double missed = 0, missed_sq = 0, mass = 0, mass_sq = 0;
    for (int i = 0; i < LOOKS; i++) {
        look_once(s, &y);
        struct shadow_sums d = less(*shadow_sums(s), before);
        before = *shadow_sums(s);
        cr_assert_eq(d.found, y.found);
        cr_assert_lt(fabs(d.mass - y.mass), 1e-9 * before.mass);
        missed += d.est_missed;
        missed_sq += d.est_missed * d.est_missed;
        mass += d.est_mass;
        mass_sq += d.est_mass * d.est_mass;
    }
    expect_mean(missed, missed_sq, LOOKS, y.missed, "pairs");
    expect_mean(mass, mass_sq, LOOKS, y.missed_mass, "mass");
    shadow_free(s);
}

/* 500 runs of 30 looks: 95 % of the bounds hold the truth, less four standard errors of that. */
static void check_bounds(double miss)
{
    enum { RUNS = 500, LOOKS = 30 };
    struct rng r = { 17 };
    struct shadow *s = open_shadow(1, 1);
    int recall = 0, mass = 0;
    for (int k = 0; k < RUNS; k++) {
        struct shadow_sums before = *shadow_sums(s);
        struct toy all = { 0 };
        for (int i = 0; i < LOOKS; i++) {
            struct toy y = make_toy(&r, miss);
            look_once(s, &y);
            all.found += y.found;
            all.missed += y.missed;
            all.mass += y.mass;
            all.missed_mass += y.missed_mass;
        }
        struct shadow_sums d = less(*shadow_sums(s), before);
        struct shadow_figures f = shadow_figures(&d);
        double true_recall = all.found / (all.found + all.missed);
        double true_mass = all.missed_mass / (all.mass + all.missed_mass);
        recall += f.recall_low <= true_recall && true_recall <= f.recall_high;
        mass += f.missed_mass_low <= true_mass && true_mass <= f.missed_mass_high;
        cr_assert(f.recall_low <= f.recall && f.recall <= f.recall_high);
        cr_assert(f.missed_mass_low <= f.missed_mass && f.missed_mass <= f.missed_mass_high);
    }
    double least = 0.95 - 4 * sqrt(0.95 * 0.05 / RUNS);
    cr_expect_geq(recall, least * RUNS, "miss %g: recall within its bounds %d times", miss, recall);
    cr_expect_geq(mass, least * RUNS, "miss %g: mass within its bounds %d times", miss, mass);
    shadow_free(s);
}

Test(shadow, the_bounds_hold_nineteen_times_in_twenty_also_where_misses_are_rare)
{
    check_bounds(0.1);
    check_bounds(0.02);
    check_bounds(0.001);
}

Test(shadow, a_mask_that_misses_nothing_is_not_called_perfect_after_a_few_looks)
{
    struct rng r = { 5 };
    struct shadow *s = open_shadow(1, 1);
    struct shadow_figures f = shadow_figures(shadow_sums(s));
    cr_expect(isnan(f.recall) && isnan(f.over_load) && isnan(f.missed_mass) && f.tokens == 0);
    double before = 1;
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 20; i++) {
            struct toy y = make_toy(&r, 0);
            look_once(s, &y);
        }
        f = shadow_figures(shadow_sums(s));
        cr_expect_eq(f.recall, 1);
        cr_expect_eq(f.recall_high, 1);
        cr_expect_lt(f.recall_low, 1);
        cr_expect_lt(1 - f.recall_low, before, "more looks, closer bounds");
        cr_expect_eq(f.missed_mass, 0);
        cr_expect_gt(f.missed_mass_high, 0);
        before = 1 - f.recall_low;
    }
    cr_expect_eq(f.tokens, 60u * T);
    cr_expect_eq(f.sampled, 60u * T * SHADOW_NEURONS);
    shadow_free(s);
}

Test(shadow, a_pass_that_failed_does_not_count)
{
    struct rng r = { 6 };
    struct shadow *s = open_shadow(1, 1);
    struct toy y = make_toy(&r, 0.1);
    look_once(s, &y);
    struct shadow_sums before = *shadow_sums(s);
    cr_assert(shadow_begin(s, SHADOW_SAMPLE, 0, T));
    shadow_decided(s, y.count, NULL);
    uint32_t neuron[] = { 0, 1, 2 };
    shadow_seen(s, neuron, 3, y.h[0], N);
    shadow_end(s, false);
    cr_expect(memcmp(&before, shadow_sums(s), sizeof before) == 0);
    shadow_free(s);
}

/* A prompt computes everything: the figures are counts, in waves of any cut. */
Test(shadow, a_pass_with_all_neurons_is_compared_in_full)
{
    enum { TOK = 300, EVERY = 32 };
    struct rng r = { 8 };
    struct shadow *s = open_shadow(1, EVERY);
    float *h = calloc((size_t)TOK * N, sizeof *h), *cut = calloc((size_t)TOK * N, sizeof *cut);
    cr_assert(h && cut);
    for (size_t i = 0; i < (size_t)TOK * N; i++)
        h[i] = rng_below(&r, 4) ? 0 : (float)rng_f64(&r) - 0.5f;
    const struct shadow_look *l = shadow_begin(s, SHADOW_ALL, 0, TOK);
    cr_assert(l && l->n == 0 && l->step == EVERY && l->n_tok >= TOK / EVERY);
    cr_assert_lt(l->token0 + (l->n_tok - 1) * l->step, (size_t)TOK);
    double found = 0, missed = 0, mass = 0, lost = 0, loaded = 0;
    for (uint32_t i = 0; i < N; i++) {
        shadow_sets(s)[i] = (uint32_t)rng_below(&r, 1u << l->n_tok);
        for (size_t k = 0; k < l->n_tok; k++) {
            double size = fabs((double)h[(l->token0 + k * l->step) * N + i]);
            bool in = shadow_sets(s)[i] >> k & 1;
            loaded += in;
            *(in ? &found : &missed) += size > 0;
            *(in ? &mass : &lost) += size;
        }
    }
    shadow_decided(s, NULL, NULL);
    for (uint32_t from = 0, n; from < N; from += n) {
        uint32_t neuron[N];
        n = N - from < 64 ? N - from : 64;
        for (uint32_t i = 0; i < n; i++) {
            neuron[i] = from + i;
            for (size_t t = 0; t < TOK; t++)
                cut[t * N + i] = h[t * N + from + i];
        }
        shadow_seen(s, neuron, n, cut, N);
    }
    shadow_end(s, true);
    const struct shadow_sums *g = shadow_sums(s);
    cr_expect_eq(g->loaded, loaded);
    cr_expect_eq(g->found, found);
    cr_expect_eq(g->missed, missed);
    cr_expect_lt(fabs(g->mass - mass), 1e-9 * mass);
    cr_expect_lt(fabs(g->missed_mass - lost), 1e-9 * lost);
    struct shadow_figures f = shadow_figures(g);
    cr_expect_eq(f.recall, found / (found + missed));
    cr_expect_eq(f.recall_low, f.recall, "what was counted has no bounds");
    cr_expect_eq(f.over_load, loaded / (found + missed));
    free(h);
    free(cut);
    shadow_free(s);
}

/* mask_keep_largest(): pairs are set to zero one by one, and what they were is put back. */
Test(shadow, what_thinning_out_dropped_is_estimated_pair_by_pair)
{
    enum { TOK = 40, LOOKS = 5000 };
    struct rng r = { 9 };
    struct shadow *s = open_shadow(1, 1);
    float *full = calloc((size_t)TOK * N, sizeof *full),
          *thin = calloc((size_t)TOK * N, sizeof *thin);
    cr_assert(full && thin);
    for (size_t i = 0; i < (size_t)TOK * N; i++)
        full[i] = rng_below(&r, 9) ? (float)rng_f64(&r) - 0.5f : 0;
    double sum = 0, squares = 0, want = 0, before = 0;
    for (int look = 0; look < LOOKS; look++) {
        const struct shadow_look *l = shadow_begin(s, SHADOW_KEPT, 0, TOK);
        cr_assert(l && l->n_tok <= SHADOW_TOKENS && l->n_tok > SHADOW_TOKENS / 2);
        want = 0;
        shadow_before(s, full);
        for (size_t i = 0; i < (size_t)TOK * N; i++)
            thin[i] = fabsf(full[i]) > 0.2f ? full[i] : 0;
        for (size_t k = 0; k < l->n_tok; k++)
            for (uint32_t i = 0; i < N; i++) {
                size_t at = (l->token0 + k * l->step) * N + i;
                want += thin[at] == full[at] ? 0 : fabs((double)full[at]);
            }
        shadow_decided(s, NULL, thin);
        shadow_restore(s, thin);
        float *h = calloc((size_t)TOK * N, sizeof *h);
        uint32_t neuron[SHADOW_NEURONS], n = 0;
        cr_assert(h);
        for (uint32_t i = 0; i < l->n; i++) {
            if (!shadow_asks(s, i))
                continue;
            for (size_t t = 0; t < TOK; t++)
                h[t * N + n] = thin[t * N + l->neuron[i]];
            neuron[n++] = l->neuron[i];
        }
        shadow_missed(s, neuron, n, h, N);
        free(h);
        shadow_end(s, true);
        double one = shadow_sums(s)->est_mass - before;
        before = shadow_sums(s)->est_mass;
        sum += one;
        squares += one * one;
    }
    expect_mean(sum, squares, LOOKS, want, "dropped");
    free(full);
    free(thin);
    shadow_free(s);
}

/* However tokens are cut into passes, one in `every` is looked at, and layers take turns. */
Test(shadow, one_token_in_so_many_is_looked_at_in_every_layer)
{
    enum { LAYERS = 22, EVERY = 64 };
    static const size_t cut[] = { 1, 40, 1, 1, 7, 512, 3, 16, 100, 1, 1, 1, 300, 15 };
    struct shadow *s = open_shadow(LAYERS, EVERY);
    uint64_t all = 0, looked[LAYERS] = { 0 };
    bool at_once = true;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
            unsigned layers = 0;
            for (uint32_t l = 0; l < LAYERS; l++) {
                const struct shadow_look *k = shadow_begin(s, SHADOW_ALL, l, cut[i]);
                looked[l] += k ? k->n_tok : 0;
                layers += k != NULL;
            }
            all += cut[i];
            at_once &= layers == 0 || layers == LAYERS;
        }
    for (uint32_t l = 0; l < LAYERS; l++)
        cr_expect(looked[l] == all / EVERY || looked[l] == all / EVERY + 1, "layer %u: %zu of %zu",
                  l, (size_t)looked[l], (size_t)all);
    cr_expect(!at_once, "all layers look at the same tokens");
    shadow_free(s);
}

Test(shadow, a_layer_of_few_neurons_is_drawn_whole)
{
    enum { FEW = 5 };
    struct err err = ERR_INIT;
    struct shadow *s;
    cr_assert_eq(shadow_create(1, FEW, 1, &s, &err), ST_OK);
    const struct shadow_look *l = shadow_begin(s, SHADOW_SAMPLE, 0, 1);
    cr_assert(l && l->n == FEW);
    for (uint32_t i = 0; i < FEW; i++)
        cr_expect_eq(l->neuron[i], i);
    shadow_free(s);
    shadow_free(NULL);
}
