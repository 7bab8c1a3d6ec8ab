/* engine/flash/place.h - in which order `strobe pack` puts a layer's neurons, from a recorded run
 * (neuron_trace.h): neurons that one token needs lie side by side, so that what it misses is fewer
 * and longer reads (flash.md 3.1 "Ripple / Neuralink", 5.2). Each neuron once; pure arithmetic over
 * the trace, the same order on every machine.
 *
 *   rate      by descending firing rate
 *   coactive  bands of falling rate: the first holds what a cache keeps anyway and is in order of
 *             rate; inside each later one a chain in which neighbours were needed by the same
 *             passes as often as a greedy choice finds (place_chain.c)
 *
 * Bands, because where the cache ends is known at run time only: whatever the budget, what is
 * missed is a tail of the order. */
#ifndef STROBE_FLASH_PLACE_H
#define STROBE_FLASH_PLACE_H

#include "engine/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum place_kind { PLACE_NONE, PLACE_RATE, PLACE_COACTIVE };
const char *place_name(enum place_kind k); /* "none", "rate", "coactive" */

struct place_in {
    enum place_kind kind;
    const char *trace; /* of the model's own numbering; rates_read() accepted it */
    const float *rate; /* [n_layer, n_neuron], of that trace */
    uint32_t n_layer, n_neuron;
};

/* *ret: [n_layer, n_neuron], free() it: (*ret)[l * n_neuron + i] is the neuron that comes i-th.
 * NULL for PLACE_NONE. Memory: 256 MiB of which pass needed what, or one layer's where that is
 * more, and 64 MiB for a band. Time: PASSES_MAX of a layer's passes, each its needed neurons
 * squared. Errors: those of neuron_trace_open() and neuron_trace_next(), ST_ARG (no pass of a layer
 * asked a mask), ST_NOMEM. */
enum status place_find(const struct place_in *in, uint32_t **ret, struct err *err);

/* Row i of data, n rows of row_bytes, becomes what row order[i] was. Errors: ST_NOMEM. */
enum status place_rows(const uint32_t *order, uint32_t n, void *data, size_t row_bytes,
                       struct err *err);

#endif
