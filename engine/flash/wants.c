/* engine/flash/wants.c - see wants.h. */
#include "engine/flash/wants.h"

enum { CHUNK = 256 };

/* Slots for those of want[from..to) that have none, as far as they are worth it. */
static void give_slots(struct cache *c, const struct wants_in *in, struct fetch_want *want,
                       size_t from, size_t to)
{
    uint32_t n = 0;
    for (size_t i = from; i < to; i++)
        if (want[i].slot == CACHE_NONE)
            in->neuron[n++] = want[i].neuron;
    cache_admit(c, in->layer, in->neuron, n, in->slot);
    n = 0;
    for (size_t i = from; i < to; i++)
        if (want[i].slot == CACHE_NONE)
            want[i].slot = in->slot[n++];
}

size_t wants_load(struct cache *c, const struct wants_in *in, struct fetch_want *want)
{
    size_t n = 0;
    cache_begin(c, in->layer, 1);
    for (uint32_t i = 0; i < in->n_neuron; i++) {
        if (!in->count[i])
            continue;
        cache_seed(c, in->layer, i, (float)(in->count[i] - 1) / NEURON_TRACE_WEIGHT_MAX);
        want[n++] = (struct fetch_want){ .neuron = i, .slot = CACHE_NONE };
    }
    give_slots(c, in, want, 0, n);
    return n;
}

/* Those that are needed, ascending. Who is among so many cannot be foretold, so nothing branches on
 * it. */
static size_t list_needed(const struct wants_in *in)
{
    size_t n = 0;
    for (uint32_t i = 0; i < in->n_neuron; i++) {
        in->neuron[n] = i;
        n += in->count[i] != 0;
    }
    return n;
}

size_t wants_list(struct cache *c, const struct wants_in *in, struct fetch_want *want,
                  size_t *n_miss)
{
    size_t n = list_needed(in), miss = 0;
    cache_begin(c, in->layer, in->n_tok);
    for (size_t k = 0; k < n; k++) {
        uint32_t i = in->neuron[k];
        int32_t slot = cache_find(c, in->layer, i);
        const uint8_t *at = slot == CACHE_NONE ? NULL : in->slots + (size_t)slot * in->slot_bytes;
        if (!in->learn)
            cache_use(c, in->layer, i, in->count[i]);
        else if (at)
            cache_use(c, in->layer, i, 0); /* it stays until it is computed */
        miss += !at;
        want[k] = (struct fetch_want){ .neuron = i, .slot = slot, .at = at };
    }
    if (miss && !in->learn)
        give_slots(c, in, want, 0, n);
    *n_miss = miss;
    return n;
}

size_t wants_present(struct cache *c, const struct wants_in *in, bool tell, struct fetch_want *want,
                     size_t *n_miss)
{
    size_t n = 0, miss = 0;
    if (tell)
        cache_begin(c, in->layer, in->n_tok);
    for (uint32_t i = 0; i < in->n_neuron; i++) {
        if (!in->count[i])
            continue;
        int32_t slot = cache_find(c, in->layer, i);
        if (tell)
            cache_use(c, in->layer, i, in->count[i]);
        if (slot == CACHE_NONE) {
            miss++;
            continue;
        }
        want[n++] = (struct fetch_want){ .neuron = i,
                                         .slot = slot,
                                         .at = in->slots + (size_t)slot * in->slot_bytes };
    }
    *n_miss = miss;
    return n;
}

size_t wants_chunk_end(const struct fetch_want *want, size_t from, size_t n)
{
    size_t to = from;
    uint32_t chunk = want[from].neuron / CHUNK;
    while (to < n && want[to].neuron / CHUNK == chunk)
        to++;
    return to;
}

void wants_keep(struct cache *c, const struct wants_in *in, struct fetch_want *want, size_t from,
                size_t to)
{
    for (size_t i = from; i < to; i++)
        cache_spare(c, in->layer, want[i].neuron);
    give_slots(c, in, want, from, to);
}
