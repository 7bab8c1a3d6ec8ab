/* engine/flash/rates.h - how often each neuron fires, counted from a recorded run (neuron_trace.h).
 */
#ifndef STROBE_FLASH_RATES_H
#define STROBE_FLASH_RATES_H

#include "engine/flash/neuron_trace.h"

/* *ret: f32 [n_layer, n_neuron], share of the tokens for which each neuron was active; free() it.
 * `model`: whose neurons they must be, as neuron_trace_head.model. Errors: those of
 * neuron_trace_open() and neuron_trace_next(), ST_ARG (another model's trace, or one without a
 * pass), ST_NOMEM. */
enum status rates_read(const char *path, const char *model, uint32_t n_layer, uint32_t n_neuron,
                       float **ret, struct err *err);

/* The `most` neurons of a layer that fire most often, none of which never does, get
 * count[i] = weight + 1, all others 0. The weight is the rate in parts of NEURON_TRACE_WEIGHT_MAX,
 * which a record can hold. rate: f32 [n_neuron], anything outside 0..1 is put there.
 * Errors: ST_NOMEM. */
enum status rates_pick(const float *rate, uint32_t n_neuron, uint32_t most, uint32_t *count,
                       struct err *err);

#endif
