/* engine/flash/wants.h - one pass over a layer as the cache sees it: which of the needed neurons
 * are in memory, and which of the others get a slot. Apart from sparse.c so that the replayer of
 * neuron traces (tests/bench/flash) decides exactly as the engine does; nothing here depends on
 * when reads come. Owner: one thread. */
#ifndef STROBE_FLASH_WANTS_H
#define STROBE_FLASH_WANTS_H

#include "engine/flash/fetch.h"
#include "engine/flash/neuron_trace.h"

struct wants_in {
    uint32_t layer, n_tok, n_neuron;
    bool learn;            /* the mask let all pass: who is needed shows when they are computed */
    const uint32_t *count; /* [n_neuron] tokens that need each */
    uint8_t *slots;        /* the cache's memory */
    size_t slot_bytes;
    uint32_t *neuron; /* [n_neuron] scratch */
    int32_t *slot;    /* [n_neuron] scratch */
};

/* Before the first pass: neurons with a count get a slot each (the caller sees to it that there are
 * enough) and begin with the rate (count - 1) / NEURON_TRACE_WEIGHT_MAX. Fills want[0..n) as
 * wants_list() does. */
size_t wants_load(struct cache *c, const struct wants_in *in, struct fetch_want *want);

/* Fills want[0..n) for fetch_begin(), ascending, and returns n; *n_miss of them are not in memory.
 * These get slots now, from how often they were needed so far, unless the pass learns. */
size_t wants_list(struct cache *c, const struct wants_in *in, struct fetch_want *want,
                  size_t *n_miss);

/* For a pass that reads nothing: fills want[0..n) with the needed neurons that are in memory and
 * returns n; *n_miss others were needed. tell: the cache hears what was needed, so that the next
 * pass that reads admits the right ones; else it is left as it is. */
size_t wants_present(struct cache *c, const struct wants_in *in, bool tell, struct fetch_want *want,
                     size_t *n_miss);

/* Neurons are done with in chunks: of 256 numbers, those that are wanted. This is the end of the
 * chunk that want[from] lies in. */
size_t wants_chunk_end(const struct fetch_want *want, size_t from, size_t n);
/* A pass that learns has computed the chunk want[from..to), and cache_use() was told who worked:
 * those that are worth it get a slot, which the caller fills. */
void wants_keep(struct cache *c, const struct wants_in *in, struct fetch_want *want, size_t from,
                size_t to);

#endif
