/* engine/flash/rates.h - how often each neuron fires, counted from a recorded run (neuron_trace.h).
 */
#ifndef STROBE_FLASH_RATES_H
#define STROBE_FLASH_RATES_H

#include "engine/flash/neuron_trace.h"

/* *ret: f32 [n_layer, n_neuron], share of the tokens for which each neuron was active; free() it.
 * half: NULL, or gets the same of every other pass and of the rest, f32 [2][n_layer, n_neuron], to
 * be freed too.
 * `model`: whose neurons they must be, as neuron_trace_head.model. Errors: those of
 * neuron_trace_open() and neuron_trace_next(), ST_ARG (another model's trace, or one without a
 * pass), ST_NOMEM. */
enum status rates_read(const char *path, const char *model, uint32_t n_layer, uint32_t n_neuron,
                       float **ret, float **half, struct err *err);

/* curve[0..n_point), never rising: how often neurons fire that were chosen because they fired most
 * often, the first part of them, the next, and so on. Chosen by one half of the run and counted in
 * the other, since of those that seem to fire most some were merely lucky: with 192 tokens a cache
 * of a third would seem to miss half of what it does. half: as above, of n neurons, n >= n_point.
 * Errors: ST_NOMEM. */
enum status rates_curve(const float *half, size_t n, uint32_t n_point, float *curve,
                        struct err *err);

/* order[0] fires most often, and so on; of equal ones the lower number comes first. No rate is
 * "not a number". Errors: ST_NOMEM. */
enum status rates_order(const float *rate, uint32_t n, uint32_t *order, struct err *err);

/* The `most` neurons of a layer that fire most often, none of which never does, get
 * count[i] = weight + 1, all others 0. The weight is the rate in parts of NEURON_TRACE_WEIGHT_MAX,
 * which a record can hold. rate: f32 [n_neuron], anything outside 0..1 is put there.
 * Errors: ST_NOMEM. */
enum status rates_pick(const float *rate, uint32_t n_neuron, uint32_t most, uint32_t *count,
                       struct err *err);

#endif
