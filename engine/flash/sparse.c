/* engine/flash/sparse.c - see sparse.h. One call, one layer:
 *
 *   mask -> needed neurons, ascending -> cache: hits and misses, slots for the misses -> reads
 * start wave by wave (whole chunks of 256 neurons, as they arrive): first row products (sketch) ->
 * activations -> up row products -> h -> sum of down vectors
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
#include "engine/flash/rates.h"
#include "engine/flash/wants.h"
#include "engine/kernel/sparse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256, PAGE = 4096 };

struct sparse {
    struct sparse_opts o;
    const struct hparams *hp;
    const struct bundle *b;
    struct cache *cache;
    struct fetch *fetch;
    struct arena slot_arena, tables;
    uint8_t *slots;
    /* of one layer, [n_ff] each */
    uint32_t *count, *order, *neuron;
    struct fetch_want *want;
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
    return slot_stride(b) + 5 * sizeof(uint32_t);
}

static size_t table_bytes(const struct bundle *b)
{
    return num_align((size_t)b->n_neuron *
                         (3 * sizeof(uint32_t) + sizeof(struct fetch_want) + 2 * sizeof(uint8_t *)),
                     64) +
           6 * 64;
}

uint64_t sparse_fixed_bytes(const struct model *m, unsigned n_thread)
{
    const struct bundle *b = model_bundle(m);
    const struct hparams *hp = model_hparams(m);
    return table_bytes(b) + mask_scratch_bytes(hp->n_embd, hp->n_ff) +
           (uint64_t)num_align(picked_scratch(b->row_type, hp->n_embd), 64) * n_thread +
           cache_bytes(b->n_layer, b->n_neuron, 0);
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
    s->want = part(&s->tables, n * sizeof *s->want);
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
                             .buf = s->o.staging,
                             .buf_bytes = (size_t)p->buffer_bytes,
                             .slots = s->slots,
                             .slot_bytes = slot_stride(s->b),
                             .cache = s->cache,
                             .gap = (uint32_t)(p->gap_bytes / s->b->stride) };
    return fetch_create(&fo, &s->fetch, err);
}

/* Reads the neurons with a count into slots, before the first pass; count - 1 is the weight. */
static enum status load_layer(struct sparse *s, uint32_t layer, struct err *err)
{
    size_t n = 0;
    cache_begin(s->cache, layer, 1);
    for (uint32_t i = 0; i < s->b->n_neuron; i++)
        if (s->count[i])
            s->want[n++] =
                (struct fetch_want){ .neuron = i,
                                     .slot = cache_take(s->cache, layer, i, s->count[i] - 1) };
    fetch_begin(s->fetch, layer, s->want, n);
    fetch_ready(s->fetch, n, err);
    fetch_end(s->fetch);
    const struct neuron_trace_pass_in in = { .layer = layer, .count = s->count };
    return err->code || !s->o.neuron_trace ? err->code
                                           : neuron_trace_record(s->o.neuron_trace, &in, err);
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
    if (open_fetch(s, err) != ST_OK)
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
    fetch_free(s->fetch);
    cache_free(s->cache);
    arena_clear(&s->slot_arena);
    arena_clear(&s->tables);
    free(s);
}

/* ---- what is needed ---- */

static float threshold(const struct hparams *hp)
{
    return hp->act == ACT_FATRELU ? hp->act_threshold : 0;
}

static void need_all(struct sparse *s, const struct ffn_call *c)
{
    for (uint32_t i = 0; i < s->b->n_neuron; i++)
        s->count[i] = (uint32_t)c->n_tok;
}

static void ask_sketch(struct sparse *s, const struct weights_view *v, const struct ffn_call *c)
{
    const struct hparams *hp = s->hp;
    struct mask_sketch m = { .s = v->m[TR_SKETCH],
                             .norm = VIEW_VEC(v, TR_SKETCH_NORM),
                             .err = VIEW_VEC(v, TR_SKETCH_ERR),
                             .bias = VIEW_VEC(v, hp->gated ? TR_GATE_B : TR_UP_B),
                             .threshold = threshold(hp),
                             .int8_rows = !dtype_is_plain(s->b->row_type),
                             .sigma = s->b->sketch_type == DT_Q4_0 ? s->o.mask_sigma : 0 };
    mask_from_sketch(s->o.k, s->o.pool, &m, c->acts->x, c->n_tok, c->acts->stride, s->mask_scratch,
                     s->count);
}

static void ask_mask(struct sparse *s, const struct weights_view *v, const struct ffn_call *c)
{
    if (s->o.plan->mode == FLASH_DENSE) {
        need_all(s, c);
    } else if (c->first) {
        mask_from_activations(s->o.pool, c->first, c->n_tok, s->hp->n_ff, s->count);
    } else if (c->n_tok > MASK_TOKENS) {
        need_all(s, c);
    } else {
        ask_sketch(s, v, c);
    }
}

/* Fills want[]; returns how many. */
static size_t list_wants(struct sparse *s, const struct ffn_call *c)
{
    size_t n_miss;
    const struct wants_in in = { .layer = c->layer,
                                 .n_tok = (uint32_t)c->n_tok,
                                 .n_neuron = s->b->n_neuron,
                                 .count = s->count,
                                 .slots = s->slots,
                                 .slot_bytes = slot_stride(s->b),
                                 .scratch = s->order };
    size_t n = wants_list(s->cache, &in, s->want, &n_miss);
    s->stats.needed += n;
    s->stats.misses += n_miss;
    return n;
}

/* ---- a wave ---- */

struct wave {
    struct sparse *s;
    const struct weights_view *v;
    const struct ffn_call *c;
    size_t from, n; /* wants */
};

/* NOLINTNEXTLINE(readability-non-const-parameter): the product writes y */
static void pick_rows(const struct wave *w, uint32_t at, float *y)
{
    struct sparse *s = w->s;
    for (size_t i = 0; i < w->n; i++)
        s->row[i] = s->bundle[i] + at;
    struct picked_rows p = { .type = s->b->row_type,
                             .n_col = s->hp->n_embd,
                             .n_row = (uint32_t)w->n,
                             .row = s->row,
                             .acts = w->c->acts,
                             .y = y,
                             .y_stride = s->hp->n_ff,
                             .scratch = s->pick_scratch,
                             .scratch_stride = s->pick_stride };
    matmul_picked(s->o.k, s->o.pool, &p);
}

/* Gate's products are in c->gate: activated, and neurons that no token fires drop out of the wave,
 * so that neither their up row nor their down vector is looked at. */
static void keep_firing(struct wave *w)
{
    struct sparse *s = w->s;
    const struct hparams *hp = s->hp;
    const float *bias = VIEW_VEC(w->v, TR_GATE_B);
    for (size_t t = 0; t < w->c->n_tok; t++) {
        float *gate = w->c->gate + t * hp->n_ff;
        for (size_t i = 0; bias && i < w->n; i++)
            gate[i] += bias[s->neuron[i]];
        vec_act(s->o.k, hp->act, hp->act_threshold, gate, gate, w->n);
    }
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        bool fires = false;
        for (size_t t = 0; t < w->c->n_tok; t++)
            fires |= w->c->gate[t * hp->n_ff + i] != 0;
        if (!fires)
            continue;
        for (size_t t = 0; t < w->c->n_tok; t++)
            w->c->gate[t * hp->n_ff + n] = w->c->gate[t * hp->n_ff + i];
        s->neuron[n] = s->neuron[i];
        s->bundle[n++] = s->bundle[i];
    }
    w->n = n;
}

static void add_bias(const struct wave *w, float *row, const float *bias)
{
    for (size_t i = 0; bias && i < w->n; i++)
        row[i] += bias[w->s->neuron[i]];
}

/* h of one token, from the first matrix's and up's products. */
static void activate(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    const struct wave *w = arg;
    const struct sparse *s = w->s;
    const struct hparams *hp = s->hp;
    const float *all = w->c->first ? w->c->first + t * hp->n_ff : NULL;
    float *h = w->c->h + t * hp->n_ff, *gate = w->c->gate + t * hp->n_ff;
    if (!hp->gated && all) {
        for (size_t i = 0; i < w->n; i++)
            h[i] = all[s->neuron[i]];
        return;
    }
    add_bias(w, h, VIEW_VEC(w->v, TR_UP_B));
    if (!hp->gated) {
        vec_act(s->o.k, hp->act, hp->act_threshold, h, h, w->n);
        return;
    }
    if (hp->act_up != ACT_IDENTITY)
        vec_act(s->o.k, hp->act_up, hp->act_threshold, h, h, w->n);
    if (!all)
        vec_mul(s->o.k, h, gate, w->n);
    for (size_t i = 0; all && i < w->n; i++)
        h[i] *= all[s->neuron[i]];
}

static void score(const struct wave *w)
{
    const struct sparse *s = w->s;
    for (size_t i = 0; i < w->n; i++) {
        uint32_t used = 0;
        for (size_t t = 0; t < w->c->n_tok; t++)
            used += w->c->h[t * s->hp->n_ff + i] != 0;
        cache_touch(s->cache, w->c->layer, s->neuron[i], used);
        w->s->stats.active += used > 0;
        if (used && s->o.neuron_trace)
            neuron_trace_active(s->o.neuron_trace, s->neuron[i], used);
    }
}

static void run_wave(struct wave *w)
{
    struct sparse *s = w->s;
    for (size_t i = 0; i < w->n; i++) {
        s->neuron[i] = s->want[w->from + i].neuron;
        s->bundle[i] = s->want[w->from + i].at;
    }
    if (s->b->gated && !w->c->first) {
        pick_rows(w, s->b->first_at, w->c->gate);
        keep_firing(w);
    }
    if (s->b->gated)
        pick_rows(w, s->b->up_at, w->c->h);
    else if (!w->c->first)
        pick_rows(w, s->b->first_at, w->c->h);
    pool_run(w->c->n_tok > 1 ? s->o.pool : NULL, w->c->n_tok, activate, w);
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
}

/* The end of the chunk that want `from` lies in. */
static size_t chunk_end(const struct sparse *s, size_t from, size_t n)
{
    size_t to = from;
    uint32_t chunk = s->want[from].neuron / CHUNK;
    while (to < n && s->want[to].neuron / CHUNK == chunk)
        to++;
    return to;
}

/* Whole chunks of what has come. */
static size_t wave_end(const struct sparse *s, size_t from, size_t ready, size_t n)
{
    size_t to = from, end = from;
    while (to < ready && (end = chunk_end(s, to, n)) <= ready)
        to = end;
    return to;
}

/* A pass that failed leaves no record: what came of it says nothing. */
static enum status record(struct sparse *s, const struct ffn_call *c, uint64_t n_miss,
                          struct err *err)
{
    const struct neuron_trace_pass_in in = { .layer = c->layer,
                                             .n_tok = (uint32_t)c->n_tok,
                                             .n_miss = (uint32_t)n_miss,
                                             .count = s->count };
    if (err->code == ST_OK)
        return neuron_trace_record(s->o.neuron_trace, &in, err);
    neuron_trace_drop(s->o.neuron_trace);
    return err->code;
}

enum status sparse_run(struct sparse *s, const struct weights_view *v, const struct ffn_call *c,
                       struct err *err)
{
    uint64_t start = clock_ns(), misses = s->stats.misses;
    memset(c->y, 0, c->n_tok * s->hp->n_embd * sizeof *c->y);
    ask_mask(s, v, c);
    s->stats.mask_ns += clock_ns() - start;
    size_t n = list_wants(s, c), done = 0;
    fetch_begin(s->fetch, c->layer, s->want, n);
    while (done < n) {
        size_t ready = fetch_ready(s->fetch, chunk_end(s, done, n), err);
        if (err->code != ST_OK)
            break;
        struct wave w = { .s = s, .v = v, .c = c, .from = done };
        w.n = wave_end(s, done, ready, n) - done;
        done += w.n;
        run_wave(&w);
        fetch_release(s->fetch, done);
    }
    fetch_end(s->fetch);
    if (s->o.neuron_trace)
        record(s, c, s->stats.misses - misses, err);
    s->stats.run_ns += clock_ns() - start;
    return err->code;
}

struct sparse_stats sparse_stats(const struct sparse *s)
{
    struct sparse_stats r = s->stats;
    struct fetch_stats f = fetch_stats(s->fetch);
    r.bytes = f.bytes - s->at_open.bytes;
    r.reads = f.extents - s->at_open.extents;
    r.bundles_read = f.bundles - s->at_open.bundles;
    r.wait_ns = f.wait_ns - s->at_open.wait_ns;
    return r;
}
