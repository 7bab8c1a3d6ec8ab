/* engine/flash/sparse_open.c - sizes, opening and closing of sparse layers; see sparse.h. Before
 * the first token the cache holds everything, or what the file says fires most often. */
#include "engine/base/num.h"
#include "engine/flash/mask.h"
#include "engine/flash/rates.h"
#include "engine/flash/sparse_internal.h"
#include "engine/kernel/sparse.h"

#include <assert.h>
#include <stdlib.h>

enum { PAGE = 4096 };

/* ---- sizes ---- */

uint64_t sparse_slot_bytes(const struct bundle *b)
{
    return b->stride + cache_bytes(1, 1, 1) - cache_bytes(1, 1, 0);
}

static size_t table_bytes(const struct bundle *b)
{
    return (size_t)b->n_neuron *
               (6 * sizeof(uint32_t) + sizeof(struct fetch_want) + 2 * sizeof(uint8_t *)) +
           wave_chunks(b->n_neuron) * (sizeof(struct chunk) + sizeof(uint32_t)) + 12 * 64;
}

uint64_t sparse_fixed_bytes(const struct model *m, unsigned n_thread)
{
    const struct bundle *b = model_bundle(m);
    const struct hparams *hp = model_hparams(m);
    return table_bytes(b) + mask_scratch_bytes(hp->n_embd, hp->n_ff) +
           (uint64_t)num_align(picked_scratch(b->row_type, hp->n_embd), 64) * n_thread +
           cache_bytes(b->n_layer, b->n_neuron, 0) + shadow_bytes(b->n_layer, b->n_neuron) +
           guesses_bytes(b);
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
    s->users = part(&s->tables, n * sizeof *s->users);
    s->slot = part(&s->tables, n * sizeof *s->slot);
    s->want = part(&s->tables, n * sizeof *s->want);
    s->chunk = part(&s->tables, wave_chunks(s->b->n_neuron) * sizeof *s->chunk);
    s->wave = part(&s->tables, wave_chunks(s->b->n_neuron) * sizeof *s->wave);
    s->guess_count = part(&s->tables, n * sizeof *s->guess_count);
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
                             .slot_bytes = s->b->stride,
                             .cache = s->cache,
                             .gap = (uint32_t)(p->gap_bytes / s->b->stride) };
    if (p->guess_bytes) {
        struct fetch_opts go = fo;
        go.ring += p->ring_bytes;
        go.ring_bytes = (size_t)p->guess_bytes / GUESS_LAYERS;
        if (guesses_create(&go, &s->guess, err) != ST_OK)
            return err->code;
    }
    return fetch_create(&fo, &s->fetch, err);
}

/* With the whole first matrix and all of its neurons there is nothing that a mask could miss. */
static enum status open_shadow(struct sparse *s, struct err *err)
{
    if (!s->o.mask_check || (!bundle_has_first(s->b) && s->o.keep >= 1))
        return ST_OK;
    return shadow_create(s->b->n_layer, s->b->n_neuron, s->o.mask_check, &s->shadow, err);
}

/* Reads the neurons with a count into slots, before the first pass; count - 1 is the weight. */
static enum status load_layer(struct sparse *s, uint32_t layer, struct err *err)
{
    const struct wants_in in = sparse_wants(s, layer, 0, false);
    size_t n = wants_load(s->cache, &in, s->want);
    fetch_begin(s->fetch, layer, s->want, n, NULL);
    fetch_settle(s->fetch);
    fetch_poll(s->fetch, false, err);
    fetch_end(s->fetch);
    return sparse_record(s, &in, 0, err);
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
    size_t slots = (size_t)o->plan->slots_per_layer * s->b->n_layer * s->b->stride;
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
    guesses_free(s->guess);
    fetch_free(s->fetch);
    cache_free(s->cache);
    arena_clear(&s->slot_arena);
    arena_clear(&s->tables);
    free(s);
}
