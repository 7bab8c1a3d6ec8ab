/* engine/flash/cache.h - which neurons' bundles are in memory: a slot arena with indirection
 * (neuron -> slot, slot -> neuron), a quota of slots per layer. Nothing is copied on eviction, and
 * slot numbers decide no order of summation (flash.md 1.6, 5.5). Pure bookkeeping over the caller's
 * memory; also what the replayer runs. Owner: one thread. */
#ifndef STROBE_FLASH_CACHE_H
#define STROBE_FLASH_CACHE_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cache_policy {
    CACHE_ADAPTIVE, /* least likely to be needed by the next pass: see cache.c */
    CACHE_LFU,      /* least decayed frequency first; what the last two passes used stays (5.5) */
    CACHE_LRU,      /* longest unused first */
    CACHE_WINDOW,   /* the paper's: what the last k passes did not use is dropped at once (1.4) */
    CACHE_STATIC,   /* what came first stays: no eviction */
    CACHE_POLICIES
};
const char *cache_policy_name(enum cache_policy p); /* "adaptive", "lfu", "lru"... */

struct cache; /* opaque */

struct cache_opts {
    uint32_t n_layer, n_neuron;
    const uint32_t *slots; /* [n_layer] quota of each layer, at most n_neuron; copied */
    enum cache_policy policy;
    uint32_t window; /* passes, CACHE_WINDOW; 0: 5 */
};

enum { CACHE_NONE = -1 };

/* Bytes of the tables for that many slots in all. */
size_t cache_bytes(uint32_t n_layer, uint32_t n_neuron, uint64_t n_slot);
enum status cache_create(const struct cache_opts *o, struct cache **ret, struct err *err);
void cache_free(struct cache *c);

/* One pass over a layer begins: n_tok tokens move the clock of decay. */
void cache_begin(struct cache *c, uint32_t layer, uint32_t n_tok);
/* Slot (numbered over all layers) that holds the neuron, or CACHE_NONE. */
int32_t cache_find(const struct cache *c, uint32_t layer, uint32_t neuron);
/* The neuron begins with that rate, 0..1, as if it had been needed so often for long. */
void cache_seed(struct cache *c, uint32_t layer, uint32_t neuron, float rate);
/* The pass needs it, cached or not: `weight` of its tokens do (more than one call adds up). While
 * the pass lasts it is not evicted. */
void cache_use(struct cache *c, uint32_t layer, uint32_t neuron, uint32_t weight);
/* The pass has done with it: it may be evicted, and counts as no more recent than others. */
void cache_spare(struct cache *c, uint32_t layer, uint32_t neuron);
/* Of n neurons that this pass uses and that are not cached, those that are worth a slot more than
 * what is there get one: slot[i], or CACHE_NONE. The caller fills them, or gives one up with
 * cache_drop() when its read failed. */
void cache_admit(struct cache *c, uint32_t layer, const uint32_t *neuron, uint32_t n,
                 int32_t *slot);
void cache_drop(struct cache *c, uint32_t layer, uint32_t neuron);
/* Slots in use. */
uint32_t cache_used(const struct cache *c, uint32_t layer);

#endif
