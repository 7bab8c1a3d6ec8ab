/* engine/flash/sparse.c - see sparse.h. One call, one layer:
 *
 *   mask -> needed neurons, ascending -> cache: hits and misses, slots for the misses
 *   reads of the misses start, those of a guess of the next layer (guess.h) behind them
 *   what has come is computed, wave by wave (sparse_wave.c)
 *
 * A prompt is the same with nearly all neurons needed: neighbours are then read together in large
 * pieces, and what the prompt used most stays in the cache for the tokens after it. */
#include "engine/flash/sparse.h"

#include "engine/base/clock.h"
#include "engine/flash/internal.h"
#include "engine/flash/mask.h"
#include "engine/flash/mask_layer.h"
#include "engine/flash/sparse_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { GUESS_SKIPS = 32 }; /* one in so many neurons that are not cached may be overlooked */

_Static_assert((int)MASK_TOKENS <= (int)SHADOW_TOKENS,
               "a pass that the mask decides is looked at whole");

struct wants_in sparse_wants(struct sparse *s, uint32_t layer, size_t n_tok, bool learn)
{
    return (struct wants_in){ .layer = layer,
                              .n_tok = (uint32_t)n_tok,
                              .n_neuron = s->b->n_neuron,
                              .learn = learn,
                              .count = s->count,
                              .slots = s->slots,
                              .slot_bytes = s->b->stride,
                              .neuron = s->order,
                              .slot = s->slot };
}

enum status sparse_record(struct sparse *s, const struct wants_in *in, uint64_t n_miss,
                          struct err *err)
{
    const struct neuron_trace_pass_in p = { .layer = in->layer,
                                            .n_tok = in->n_tok,
                                            .n_miss = (uint32_t)n_miss,
                                            .learn = in->learn,
                                            .count = s->count };
    if (!s->o.neuron_trace)
        return err->code;
    if (err->code == ST_OK)
        return neuron_trace_record(s->o.neuron_trace, &p, err);
    neuron_trace_drop(s->o.neuron_trace);
    return err->code;
}

/* ---- what is needed ---- */

static void need_all(struct sparse *s, const struct ffn_call *c)
{
    for (uint32_t i = 0; i < s->b->n_neuron; i++)
        s->count[i] = (uint32_t)c->n_tok;
}

/* What asks the layer's mask about the input: count[i] becomes how many tokens need neuron i. */
static struct mask_layer_ask ask_of(const struct sparse *s, const struct ffn_guess *g,
                                    uint32_t *count)
{
    return (struct mask_layer_ask){ .k = s->o.k,
                                    .pool = s->o.pool,
                                    .x = g->x,
                                    .n_tok = g->n_tok,
                                    .stride = g->stride,
                                    .sigma = s->o.mask_sigma,
                                    .scratch = s->mask_scratch,
                                    .count = count };
}

/* sets: bit t of count[i] is token t. */
static void ask_estimate(struct sparse *s, const struct weights_view *v, const struct ffn_guess *g,
                         uint32_t *count, bool sets)
{
    struct mask_layer_ask a = ask_of(s, g, count);
    a.sets = sets;
    mask_layer_ask(s->o.m, v, &a);
}

/* The mask is not asked. */
static bool lets_all(const struct sparse *s, const struct ffn_call *c)
{
    bool dense = s->reads == WEIGHTS_READ && s->o.plan->mode == FLASH_DENSE;
    return dense || c->chunk || (!c->first && c->n_tok > MASK_TOKENS);
}

static void ask_mask(struct sparse *s, const struct weights_view *v, const struct ffn_call *c,
                     bool all)
{
    if (all)
        need_all(s, c);
    else if (c->first)
        mask_from_activations(s->o.pool, c->first, c->n_tok, s->hp->n_ff, s->count);
    else
        ask_estimate(
            s, v,
            &(struct ffn_guess){ .x = c->acts->x, .n_tok = c->n_tok, .stride = c->acts->stride },
            s->count, false);
}

/* What a pass without reads leaves out, as far as the mask knows it. */
static void count_dropped(struct sparse *s, const struct ffn_call *c, size_t n, size_t n_miss)
{
    s->stats.needed += n + n_miss;
    s->stats.dropped += n_miss;
    for (size_t t = 0; c->first && t < c->n_tok; t++)
        for (uint32_t i = 0; i < s->b->n_neuron; i++) {
            double size = fabs((double)c->first[t * s->b->n_neuron + i]);
            s->stats.mass += size;
            if (size > 0 && cache_find(s->cache, c->layer, i) == CACHE_NONE)
                s->stats.mass_dropped += size;
        }
}

/* Fills want[]; returns how many. */
static size_t list_wants(struct sparse *s, const struct ffn_call *c, const struct wants_in *in)
{
    size_t n_miss, n;
    if (s->reads != WEIGHTS_READ) {
        n = wants_present(s->cache, in, s->reads == WEIGHTS_REUSE, s->want, &n_miss);
        if (s->reads == WEIGHTS_REUSE)
            count_dropped(s, c, n, n_miss);
        return n;
    }
    n = wants_list(s->cache, in, s->want, &n_miss);
    s->stats.needed += n;
    s->stats.misses += n_miss;
    return n;
}

/* ---- guesses ---- */

bool sparse_guesses(const struct sparse *s, enum guess_point at, uint32_t layer, size_t n_tok)
{
    return s->guess && !s->o.no_overlap && s->reads == WEIGHTS_READ &&
           s->o.plan->mode == FLASH_SPARSE && n_tok <= MASK_TOKENS &&
           guesses_worth(s->guess, at, layer);
}

/* Where a guess begins to look: before that nearly everything is cached, which needs no guess. In a
 * file that was placed by rate those are the most frequent neurons, in others this is about 0. */
static uint32_t guess_from(const struct sparse *s, uint32_t layer)
{
    uint32_t out = s->b->n_neuron - cache_used(s->cache, layer), i = 0;
    for (uint32_t left = out / GUESS_SKIPS; i < s->b->n_neuron; i++)
        if (cache_find(s->cache, layer, i) == CACHE_NONE && left-- == 0)
            break;
    i = i < s->b->n_neuron ? i : s->b->n_neuron - 1;
    return i / PANEL_ROWS * PANEL_ROWS;
}

void sparse_guess(struct sparse *s, enum guess_point at, const struct ffn_guess *g)
{
    uint64_t start = clock_ns();
    struct mask_layer_ask a = ask_of(s, g, s->guess_count);
    a.rough = true;
    a.from = guess_from(s, g->layer);
    mask_layer_ask(s->o.m, &s->o.layer[g->layer], &a);
    uint64_t took = clock_ns() - start;
    guesses_begin(s->guess, at, g->layer, s->guess_count, took);
    s->stats.mask_ns += took;
}

/* ---- looking at the mask (shadow.h) ---- */

/* Before the first matrix is thinned out and the mask asked. */
static void look_begin(struct sparse *s, const struct weights_view *v, const struct ffn_call *c)
{
    uint64_t start = clock_ns();
    enum shadow_kind kind = c->first ? SHADOW_KEPT : lets_all(s, c) ? SHADOW_ALL : SHADOW_SAMPLE;
    s->look = shadow_begin(s->shadow, kind, c->layer, c->n_tok);
    if (s->look && kind == SHADOW_KEPT)
        shadow_before(s->shadow, c->first);
    if (s->look && kind == SHADOW_ALL) {
        const struct shadow_look *l = s->look;
        struct ffn_guess g = { .x = c->acts->x + l->token0 * c->acts->stride,
                               .n_tok = l->n_tok,
                               .stride = l->step * c->acts->stride };
        ask_estimate(s, v, &g, shadow_sets(s->shadow), true);
    }
    s->stats.check_ns += clock_ns() - start;
}

/* Computes the drawn neurons that the mask left out, in the work areas of the pass. A failed read
 * costs the look only. */
static bool look_sample(struct sparse *s, const struct weights_view *v, const struct ffn_call *c)
{
    struct err err = ERR_INIT;
    size_t n = 0;
    for (uint32_t i = 0; i < s->look->n; i++) {
        uint32_t neuron = s->look->neuron[i];
        int32_t slot = cache_find(s->cache, c->layer, neuron);
        const uint8_t *at = slot == CACHE_NONE ? NULL : s->slots + (size_t)slot * s->b->stride;
        if (shadow_asks(s->shadow, i))
            s->want[n++] = (struct fetch_want){ .neuron = neuron, .slot = CACHE_NONE, .at = at };
    }
    if (c->first)
        shadow_restore(s->shadow, c->first);
    fetch_begin(s->fetch, c->layer, s->want, n, NULL);
    struct wave w = { .s = s, .v = v, .c = c };
    waves_begin(&w, n);
    while (wave_next(&w, &err)) {
        size_t n_act = wave_activate(&w, c, 0);
        shadow_missed(s->shadow, s->neuron, n_act, c->h, s->hp->n_ff);
        wave_done(&w);
    }
    fetch_end(s->fetch);
    return err.code == ST_OK;
}

static void look_end(struct sparse *s, const struct weights_view *v, const struct ffn_call *c,
                     bool whole)
{
    uint64_t start = clock_ns();
    shadow_end(s->shadow, whole && (s->look->n == 0 || look_sample(s, v, c)));
    s->look = NULL;
    s->stats.check_ns += clock_ns() - start;
}

static uint64_t wait_ns(const struct sparse *s)
{
    return fetch_stats(s->fetch).wait_ns + (s->guess ? guesses_stats(s->guess).read.wait_ns : 0);
}

/* waited: wait_ns() before the pass. */
static void end_guess(struct sparse *s, const struct ffn_call *c, bool all, uint64_t waited)
{
    if (!s->guess)
        return;
    bool guessed = guesses_end(s->guess, c->layer);
    if (s->reads == WEIGHTS_READ && !all && !s->look)
        guesses_waited(s->guess, c->layer, guessed, wait_ns(s) - waited, clock_ns());
}

/* Nobody looks at the neurons in their order. */
static bool any_order(const struct sparse *s, const struct ffn_call *c, bool learn)
{
    return s->reads == WEIGHTS_READ && !s->o.no_overlap && !c->chunk && !learn && !s->look &&
           !s->o.neuron_trace;
}

enum status sparse_run(struct sparse *s, const struct weights_view *v, const struct ffn_call *c,
                       struct err *err)
{
    uint64_t start = clock_ns(), misses = s->stats.misses, active = s->stats.active;
    uint64_t waited = wait_ns(s);
    memset(c->y, 0, c->n_tok * s->hp->n_embd * sizeof *c->y);
    if (s->shadow && s->reads == WEIGHTS_READ && !c->chunk)
        look_begin(s, v, c);
    uint64_t asked = clock_ns();
    assert(!c->chunk || s->o.keep >= 1); /* the largest of a token are not known chunk by chunk */
    if (c->first && s->o.keep < 1)
        mask_keep_largest(s->o.pool, c->first, c->n_tok, s->b->n_neuron, s->o.keep);
    bool all = lets_all(s, c), reads = s->reads == WEIGHTS_READ, learn = all && reads;
    ask_mask(s, v, c, all);
    if (s->look)
        shadow_decided(s->shadow, s->count, c->first);
    uint64_t knows = clock_ns();
    s->stats.mask_ns += knows - asked;
    const struct wants_in in = sparse_wants(s, c->layer, c->n_tok, learn);
    size_t n = list_wants(s, c, &in);
    const struct fetch *ahead =
        s->guess && reads ? guesses_link(s->guess, c->layer, s->want, n) : NULL;
    s->stats.book_ns += clock_ns() - knows;
    fetch_begin(s->fetch, c->layer, s->want, n, ahead);
    if (c->next)
        sparse_guess(s, GUESS_BEFORE, c->next);
    struct wave w = { .s = s, .v = v, .c = c, .in = &in, .any_order = any_order(s, c, learn) };
    waves_begin(&w, n);
    while (wave_next(&w, err))
        wave_run(&w);
    fetch_end(s->fetch);
    end_guess(s, c, all, waited);
    if (s->look)
        look_end(s, v, c, err->code == ST_OK);
    if (!all && reads) {
        s->stats.masked_needed += n;
        s->stats.masked_active += s->stats.active - active;
    }
    if (reads)
        sparse_record(s, &in, s->stats.misses - misses, err);
    s->stats.run_ns += clock_ns() - start;
    return err->code;
}

void sparse_give_up(struct sparse *s)
{
    if (s->guess)
        guesses_drop(s->guess);
}

void sparse_set_reads(struct sparse *s, enum weights_reads r)
{
    s->reads = r;
}

struct sparse_stats sparse_stats(const struct sparse *s)
{
    struct sparse_stats r = s->stats;
    struct fetch_stats f = fetch_stats(s->fetch);
    struct guess_stats g = { 0 };
    if (s->guess)
        g = guesses_stats(s->guess);
    r.guessed = g.guessed;
    r.guessed_right = g.right;
    r.bytes = f.bytes + g.read.bytes - s->at_open.bytes;
    r.reads = f.extents + g.read.extents - s->at_open.extents;
    r.bundles_read = f.bundles + g.read.bundles - s->at_open.bundles;
    r.wait_ns = f.wait_ns + g.read.wait_ns - s->at_open.wait_ns;
    r.copy_ns += f.copy_ns + g.read.copy_ns - s->at_open.copy_ns;
    r.book_ns += g.book_ns;
    if (s->shadow)
        r.check = shadow_figures(shadow_sums(s->shadow));
    return r;
}

uint32_t sparse_cached(const struct sparse *s, uint32_t layer)
{
    return cache_used(s->cache, layer);
}
