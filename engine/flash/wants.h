/* engine/flash/wants.h - one pass over a layer as the cache sees it: which of the needed neurons
 * are in memory, and which of the others get a slot. Apart from sparse.c so that the replayer of
 * neuron traces (tests/bench/flash) decides exactly as the engine does. Owner: one thread. */
#ifndef STROBE_FLASH_WANTS_H
#define STROBE_FLASH_WANTS_H

#include "engine/flash/fetch.h"

struct wants_in {
    uint32_t layer, n_tok, n_neuron;
    const uint32_t *count; /* [n_neuron] tokens that need each */
    uint8_t *slots;        /* the cache's memory */
    size_t slot_bytes;
    uint32_t *scratch; /* [n_neuron] */
};

/* Fills want[0..n) for fetch_begin(), ascending, and returns n; *n_miss of them are not in memory.
 */
size_t wants_list(struct cache *c, const struct wants_in *in, struct fetch_want *want,
                  size_t *n_miss);

#endif
