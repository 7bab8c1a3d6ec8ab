/* engine/flash/sparse.c - see sparse.h. One call, one layer:
 *
 *   before attention: mask of the input as it would be without attention -> reads of misses start
 *   mask -> needed neurons, ascending -> cache: hits and misses, slots for the misses -> reads
 * start wave by wave (whole chunks of 256 neurons, as they arrive): first row products (where they
 * are estimated) -> activations -> up row products -> h -> sum of down vectors
 *
 * A prompt is the same with nearly all neurons needed: neighbours are then read together in large
 * pieces, and what the prompt used most stays in the cache for the tokens after it. */
#include "engine/flash/sparse.h"

#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "engine/flash/fetch.h"
#include "engine/flash/internal.h"
#include "engine/flash/mask.h"
#include "engine/flash/mask_layer.h"
#include "engine/flash/neurons.h"
#include "engine/flash/rates.h"
#include "engine/flash/shadow.h"
#include "engine/flash/wants.h"
#include "engine/kernel/sparse.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

_Static_assert((int)MASK_TOKENS <= (int)SHADOW_TOKENS,
               "a pass that the mask decides is looked at whole");

struct sparse {
    struct sparse_opts o;
    const struct hparams *hp;
    const struct bundle *b;
    struct cache *cache;
    struct fetch *fetch, *guess;    /* guess: NULL where the mask needs the exact input */
    struct shadow *shadow;          /* NULL: nobody looks at the mask */
    const struct shadow_look *look; /* of the pass in progress; NULL: it is not looked at */
    struct arena slot_arena, tables;
    uint8_t *slots;
    /* of one layer, [n_ff] each */
    uint32_t *count, *order, *neuron;
    int32_t *slot;
    struct fetch_want *want, *guess_want;
    uint32_t guess_layer; /* that guess_want is of; UINT32_MAX: none */
    bool *missing;        /* [n_layer]: the last pass read some of its neurons */
    enum weights_reads reads;
    const uint8_t **bundle, **row; /* of the wave */
    void *mask_scratch;
    uint8_t *pick_scratch;
    size_t pick_stride;
    struct sparse_stats stats;
    struct fetch_stats at_open; /* what loading read */
};

/* ---- sizes ---- */

static size_t slot_stride(const struct bundle *b)
{
    return b->stride;
}

uint64_t sparse_slot_bytes(const struct bundle *b)
{
    return slot_stride(b) + 2 * sizeof(uint32_t);
}

static size_t table_bytes(const struct bundle *b)
{
    return num_align((size_t)b->n_neuron * (4 * sizeof(uint32_t) + 2 * sizeof(struct fetch_want) +
                                            2 * sizeof(uint8_t *)),
                     64) +
           num_align(b->n_layer * sizeof(bool), 64) + 9 * 64;
}

uint64_t sparse_fixed_bytes(const struct model *m, unsigned n_thread)
{
    const struct bundle *b = model_bundle(m);
    const struct hparams *hp = model_hparams(m);
    return table_bytes(b) + mask_scratch_bytes(hp->n_embd, hp->n_ff) +
           (uint64_t)num_align(picked_scratch(b->row_type, hp->n_embd), 64) * n_thread +
           cache_bytes(b->n_layer, b->n_neuron, 0) + shadow_bytes(b->n_layer, b->n_neuron);
}

/* ---- opening ---- */

static void *part(struct arena *a, size_t bytes)
{
    void *p = arena_alloc(a, bytes, 64);
    assert(p); /* table_bytes() counted it */
    return p;
}

static void lay_out(struct sparse *s)
{
    size_t n = s->b->n_neuron;
    s->count = part(&s->tables, n * sizeof *s->count);
    s->order = part(&s->tables, n * sizeof *s->order);
    s->neuron = part(&s->tables, n * sizeof *s->neuron);
    s->slot = part(&s->tables, n * sizeof *s->slot);
    s->want = part(&s->tables, n * sizeof *s->want);
    s->guess_want = part(&s->tables, n * sizeof *s->guess_want);
    s->missing = part(&s->tables, s->b->n_layer * sizeof *s->missing);
    memset(s->missing, 0, s->b->n_layer * sizeof *s->missing);
    s->guess_layer = UINT32_MAX;
    s->row = part(&s->tables, n * sizeof *s->row);
    s->bundle = part(&s->tables, n * sizeof *s->bundle);
    s->mask_scratch = part(&s->tables, mask_scratch_bytes(s->hp->n_embd, s->hp->n_ff));
    s->pick_scratch = part(&s->tables, s->pick_stride * pool_threads(s->o.pool));
}

static enum status open_cache(struct sparse *s, struct err *err)
{
    uint32_t n_layer = s->b->n_layer, *quota = calloc(n_layer, sizeof *quota);
    if (!quota)
        return err_set(err, ST_NOMEM, "neuron cache");
    for (uint32_t l = 0; l < n_layer; l++)
        quota[l] = s->o.plan->slots_per_layer;
    struct cache_opts co = { .n_layer = n_layer,
                             .n_neuron = s->b->n_neuron,
                             .slots = quota,
                             .policy = s->o.policy,
                             .window = s->o.window };
    cache_create(&co, &s->cache, err);
    free(quota);
    return err->code;
}

static enum status open_fetch(struct sparse *s, struct err *err)
{
    const struct plan *p = s->o.plan;
    struct fetch_opts fo = { .b = s->b,
                             .src = s->o.src,
                             .ring = s->o.staging,
                             .ring_bytes = (size_t)p->ring_bytes,
                             .read_bytes = (size_t)p->read_bytes,
                             .slots = s->slots,
                             .slot_bytes = slot_stride(s->b),
                             .cache = s->cache,
                             .gap = (uint32_t)(p->gap_bytes / s->b->stride) };
    if (p->guess_bytes) {
        struct fetch_opts go = fo;
        go.ring += p->ring_bytes;
        go.ring_bytes = (size_t)p->guess_bytes;
        if (fetch_create(&go, &s->guess, err) != ST_OK)
            return err->code;
    }
    fo.other = s->guess;
    return fetch_create(&fo, &s->fetch, err);
}

/* With the whole first matrix and all of its neurons there is nothing that a mask could miss. */
static enum status open_shadow(struct sparse *s, struct err *err)
{
    if (!s->o.mask_check || (!bundle_has_first(s->b) && s->o.keep >= 1))
        return ST_OK;
    return shadow_create(s->b->n_layer, s->b->n_neuron, s->o.mask_check, &s->shadow, err);
}

/* One pass over a layer, for wants.h; order and slot are its scratch. */
static struct wants_in wants_of(struct sparse *s, uint32_t layer, size_t n_tok, bool learn)
{
    return (struct wants_in){ .layer = layer,
                              .n_tok = (uint32_t)n_tok,
                              .n_neuron = s->b->n_neuron,
                              .learn = learn,
                              .count = s->count,
                              .slots = s->slots,
                              .slot_bytes = slot_stride(s->b),
                              .neuron = s->order,
                              .slot = s->slot };
}

/* A pass that failed leaves no record: what came of it says nothing. */
static enum status record(struct sparse *s, const struct wants_in *in, uint64_t n_miss,
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

/* Reads the neurons with a count into slots, before the first pass; count - 1 is the weight. */
static enum status load_layer(struct sparse *s, uint32_t layer, struct err *err)
{
    const struct wants_in in = wants_of(s, layer, 0, false);
    size_t n = wants_load(s->cache, &in, s->want);
    fetch_begin(s->fetch, layer, s->want, n);
    fetch_ready(s->fetch, n, err);
    fetch_end(s->fetch);
    return record(s, &in, 0, err);
}

/* Everything fits: all bundles are read now. */
static enum status load_all(struct sparse *s, struct err *err)
{
    for (uint32_t i = 0; i < s->b->n_neuron; i++)
        s->count[i] = 1;
    for (uint32_t l = 0; l < s->b->n_layer && err->code == ST_OK; l++)
        load_layer(s, l, err);
    return err->code;
}

/* The file says how often neurons fire: those that fire most fill the cache. Slots are there in any
 * case, so this takes no memory beyond the plan. */
static enum status load_hottest(struct sparse *s, struct err *err)
{
    for (uint32_t l = 0; l < s->b->n_layer && err->code == ST_OK; l++) {
        const float *rate = VIEW_VEC(&s->o.layer[l], TR_FFN_RATE);
        if (rate &&
            rates_pick(rate, s->b->n_neuron, s->o.plan->slots_per_layer, s->count, err) == ST_OK)
            load_layer(s, l, err);
    }
    return err->code;
}

enum status sparse_open(const struct sparse_opts *o, struct sparse **ret, struct err *err)
{
    struct sparse *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "sparse layers");
    *s = (struct sparse){ .o = *o, .hp = model_hparams(o->m), .b = model_bundle(o->m) };
    s->pick_stride = num_align(picked_scratch(s->b->row_type, s->hp->n_embd), 64);
    size_t slots = (size_t)o->plan->slots_per_layer * s->b->n_layer * slot_stride(s->b);
    size_t tables = table_bytes(s->b) + mask_scratch_bytes(s->hp->n_embd, s->hp->n_ff) +
                    s->pick_stride * pool_threads(o->pool) + 4096;
    if (arena_init(&s->slot_arena, slots ? slots : 1, "neuron cache", err) != ST_OK ||
        arena_init(&s->tables, tables, "neuron tables", err) != ST_OK ||
        open_cache(s, err) != ST_OK)
        goto fail;
    s->slots = arena_alloc(&s->slot_arena, slots ? slots : 1, PAGE);
    assert(s->slots);
    arena_touch(&s->slot_arena);
    lay_out(s);
    if (open_fetch(s, err) != ST_OK || open_shadow(s, err) != ST_OK)
        goto fail;
    if ((o->plan->mode == FLASH_OFF ? load_all(s, err) : load_hottest(s, err)) != ST_OK)
        goto fail;
    s->at_open = fetch_stats(s->fetch);
    *ret = s;
    return ST_OK;
fail:
    sparse_close(s);
    return err->code;
}

void sparse_close(struct sparse *s)
{
    if (!s)
        return;
    shadow_free(s->shadow);
    fetch_free(s->guess);
    fetch_free(s->fetch);
    cache_free(s->cache);
    arena_clear(&s->slot_arena);
    arena_clear(&s->tables);
    free(s);
}

/* ---- what is needed ---- */

static void need_all(struct sparse *s, const struct ffn_call *c)
{
    for (uint32_t i = 0; i < s->b->n_neuron; i++)
        s->count[i] = (uint32_t)c->n_tok;
}

/* sets: NULL, or bit t of sets[i] is token t; else s->count gets how many. */
static void ask_estimate(struct sparse *s, const struct weights_view *v, const struct ffn_guess *g,
                         uint32_t *sets)
{
    struct mask_layer_ask a = { .k = s->o.k,
                                .pool = s->o.pool,
                                .x = g->x,
                                .n_tok = g->n_tok,
                                .stride = g->stride,
                                .sigma = s->o.mask_sigma,
                                .sets = sets != NULL,
                                .scratch = s->mask_scratch,
                                .count = sets ? sets : s->count };
    mask_layer_ask(s->o.m, v, &a);
}

/* The mask is not asked. */
static bool lets_all(const struct sparse *s, const struct ffn_call *c)
{
    bool dense = s->reads == WEIGHTS_READ && s->o.plan->mode == FLASH_DENSE;
    return dense || (!c->first && c->n_tok > MASK_TOKENS);
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
            NULL);
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

/* The wants that the guess brings get its reads; the rest of the guess was in vain. */
static void link_guess(struct sparse *s, uint32_t layer, size_t n)
{
    if (s->reads != WEIGHTS_READ)
        return;
    s->missing[layer] = false;
    size_t begun = s->guess_layer == layer ? fetch_begun(s->guess) : 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        struct fetch_want *w = &s->want[i];
        s->missing[layer] |= !w->at;
        while (k < begun && s->guess_want[k].neuron < w->neuron)
            k++;
        if (!w->at && k < begun && s->guess_want[k].neuron == w->neuron) {
            w->ahead = &s->guess_want[k];
            s->stats.guessed_right++;
        }
    }
}

static void drop_guess(struct sparse *s)
{
    if (s->guess_layer != UINT32_MAX)
        fetch_end(s->guess);
    s->guess_layer = UINT32_MAX;
}

/* More than half of what is read ahead is used, or too little is known. */
static bool guessing_pays(const struct sparse *s)
{
    return s->stats.guessed < 4096 || s->stats.guessed_right * 2 > s->stats.guessed;
}

bool sparse_guesses(const struct sparse *s, uint32_t layer, size_t n_tok)
{
    return s->guess && !s->o.no_overlap && s->reads == WEIGHTS_READ &&
           s->o.plan->mode == FLASH_SPARSE && n_tok <= MASK_TOKENS && s->missing[layer] &&
           guessing_pays(s);
}

void sparse_guess(struct sparse *s, const struct weights_view *v, const struct ffn_guess *g)
{
    uint64_t start = clock_ns();
    size_t n = 0;
    drop_guess(s);
    ask_estimate(s, v, g, NULL);
    for (uint32_t i = 0; i < s->b->n_neuron; i++)
        if (s->count[i] && cache_find(s->cache, g->layer, i) == CACHE_NONE)
            s->guess_want[n++] = (struct fetch_want){ .neuron = i, .slot = CACHE_NONE };
    s->guess_layer = g->layer;
    fetch_begin(s->guess, g->layer, s->guess_want, n);
    s->stats.guessed += fetch_begun(s->guess);
    s->stats.mask_ns += clock_ns() - start;
}

/* ---- a wave ---- */

struct wave {
    struct sparse *s;
    const struct weights_view *v;
    const struct ffn_call *c;
    const struct wants_in *in;
    size_t from, to; /* wants */
    size_t n;        /* of them that are still worked on */
};

/* Tokens that neuron i of the wave works for. */
static uint32_t users(const struct wave *w, size_t i)
{
    uint32_t n = 0;
    for (size_t t = 0; t < w->c->n_tok; t++)
        n += w->c->h[t * w->s->hp->n_ff + i] != 0;
    return n;
}

static void score(const struct wave *w)
{
    const struct sparse *s = w->s;
    if (s->reads == WEIGHTS_DRAFT)
        return;
    if (s->look)
        shadow_seen(s->shadow, s->neuron, w->n, w->c->h, s->hp->n_ff);
    for (size_t i = 0; i < w->n; i++) {
        uint32_t n = users(w, i);
        if (w->in->learn && n)
            cache_use(s->cache, w->c->layer, s->neuron[i], n);
        if (n && s->o.neuron_trace)
            neuron_trace_active(s->o.neuron_trace, s->neuron[i], n);
        w->s->stats.active += n > 0;
    }
}

/* All neurons pass by: those that are worth a slot are copied into one. This goes chunk by chunk,
 * however many the wave has, so that what is kept does not depend on when reads came. */
static void keep_best(const struct wave *w)
{
    struct sparse *s = w->s;
    for (size_t from = w->from, to; from < w->to; from = to) {
        to = wants_chunk_end(s->want, from, w->to);
        wants_keep(s->cache, w->in, s->want, from, to);
        for (size_t i = from; i < to; i++) {
            const struct fetch_want *want = &s->want[i];
            if (want->slot == CACHE_NONE)
                continue;
            uint8_t *home = s->slots + (size_t)want->slot * slot_stride(s->b);
            if (want->at != home)
                memcpy(home, want->at, s->b->stride);
        }
    }
}

/* What the wave's neurons give; those that no token fires may drop out. */
static void compute_h(struct wave *w)
{
    struct sparse *s = w->s;
    for (size_t i = 0; i < w->n; i++) {
        s->neuron[i] = s->want[w->from + i].neuron;
        s->bundle[i] = s->want[w->from + i].at;
    }
    struct neurons a = { .k = s->o.k,
                         .pool = s->o.pool,
                         .hp = s->hp,
                         .b = s->b,
                         .v = w->v,
                         .c = w->c,
                         .n = w->n,
                         .neuron = s->neuron,
                         .bundle = s->bundle,
                         .row = s->row,
                         .scratch = s->pick_scratch,
                         .scratch_stride = s->pick_stride };
    neurons_activate(&a);
    w->n = a.n;
}

static void run_wave(struct wave *w)
{
    struct sparse *s = w->s;
    compute_h(w);
    score(w);
    for (size_t i = 0; i < w->n; i++)
        s->row[i] = s->bundle[i] + s->b->down_at;
    struct down_picked d = { .type = s->b->down_type,
                             .n_embd = s->hp->n_embd,
                             .n = (uint32_t)w->n,
                             .neuron = s->neuron,
                             .vec = s->row,
                             .h = w->c->h,
                             .h_stride = s->hp->n_ff,
                             .n_tok = w->c->n_tok,
                             .y = w->c->y,
                             .y_stride = s->hp->n_embd };
    sum_down(s->o.k, s->o.pool, &d);
    if (w->in->learn)
        keep_best(w);
}

/* Whole chunks of what has come. */
static size_t wave_end(const struct sparse *s, size_t from, size_t ready, size_t n)
{
    size_t to = from, end = from;
    while (to < ready && (end = wants_chunk_end(s->want, to, n)) <= ready)
        to = end;
    return to;
}

/* Waits for the chunk at w->from; false: a read failed. */
static bool next_wave(struct wave *w, size_t n, struct err *err)
{
    struct sparse *s = w->s;
    if (s->o.no_overlap)
        fetch_settle(s->fetch);
    size_t ready = fetch_ready(s->fetch, wants_chunk_end(s->want, w->from, n), err);
    if (err->code != ST_OK)
        return false;
    w->to = wave_end(s, w->from, ready, n);
    w->n = w->to - w->from;
    return true;
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
        ask_estimate(s, v, &g, shadow_sets(s->shadow));
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
    fetch_begin(s->fetch, c->layer, s->want, n);
    struct wave w = { .s = s, .v = v, .c = c };
    while (w.from < n && next_wave(&w, n, &err)) {
        compute_h(&w);
        shadow_missed(s->shadow, s->neuron, w.n, c->h, s->hp->n_ff);
        fetch_release(s->fetch, w.to);
        w.from = w.to;
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

enum status sparse_run(struct sparse *s, const struct weights_view *v, const struct ffn_call *c,
                       struct err *err)
{
    uint64_t start = clock_ns(), misses = s->stats.misses, active = s->stats.active;
    memset(c->y, 0, c->n_tok * s->hp->n_embd * sizeof *c->y);
    if (s->shadow && s->reads == WEIGHTS_READ)
        look_begin(s, v, c);
    uint64_t asked = clock_ns();
    if (c->first && s->o.keep < 1)
        mask_keep_largest(s->o.pool, c->first, c->n_tok, s->b->n_neuron, s->o.keep);
    bool all = lets_all(s, c), reads = s->reads == WEIGHTS_READ, learn = all && reads;
    ask_mask(s, v, c, all);
    if (s->look)
        shadow_decided(s->shadow, s->count, c->first);
    s->stats.mask_ns += clock_ns() - asked;
    const struct wants_in in = wants_of(s, c->layer, c->n_tok, learn);
    size_t n = list_wants(s, c, &in);
    link_guess(s, c->layer, n);
    fetch_begin(s->fetch, c->layer, s->want, n);
    struct wave w = { .s = s, .v = v, .c = c, .in = &in };
    while (w.from < n && next_wave(&w, n, err)) {
        run_wave(&w);
        fetch_release(s->fetch, w.to);
        w.from = w.to;
    }
    fetch_end(s->fetch);
    drop_guess(s);
    if (s->look)
        look_end(s, v, c, err->code == ST_OK);
    if (!all && reads) {
        s->stats.masked_needed += n;
        s->stats.masked_active += s->stats.active - active;
    }
    if (reads)
        record(s, &in, s->stats.misses - misses, err);
    s->stats.run_ns += clock_ns() - start;
    return err->code;
}

void sparse_set_reads(struct sparse *s, enum weights_reads r)
{
    s->reads = r;
}

struct sparse_stats sparse_stats(const struct sparse *s)
{
    struct sparse_stats r = s->stats;
    struct fetch_stats f = fetch_stats(s->fetch), none = { 0 };
    struct fetch_stats g = s->guess ? fetch_stats(s->guess) : none;
    r.bytes = f.bytes + g.bytes - s->at_open.bytes;
    r.reads = f.extents + g.extents - s->at_open.extents;
    r.bundles_read = f.bundles + g.bundles - s->at_open.bundles;
    r.wait_ns = f.wait_ns + g.wait_ns - s->at_open.wait_ns;
    if (s->shadow)
        r.check = shadow_figures(shadow_sums(s->shadow));
    return r;
}

uint32_t sparse_cached(const struct sparse *s, uint32_t layer)
{
    return cache_used(s->cache, layer);
}
