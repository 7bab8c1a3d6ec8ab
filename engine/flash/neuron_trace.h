/* engine/flash/neuron_trace.h - which neurons each pass needed and used, layer by layer, in a file:
 * what cache policies are compared on (flash.md P5) and what firing rates are counted from. The
 * writer sits behind sparse.c, the reader takes any bytes. Numbers are little endian, "v" is
 * LEB128:
 *
 *   head    "strobeN2" hash[64] u32 n_layer, n_neuron, slots, policy, window
 *   record  v layer, n_tok, learn (0 or 1), n_miss, n_needed; n_needed gaps of ids, then (n_tok not
 *           1) tokens - 1 of each; v n_active; n_active gaps of positions among the needed, then
 *           (n_tok not 1) tokens - 1 of each
 *
 * A gap is the distance to the one before, minus 1. A neuron is needed when the mask lets it pass
 * for any token, active when its h is not zero. A pass that learns let all pass, and the cache
 * followed what was active (wants.h). A record of no tokens, before all others, says what
 * was put into the cache before the first pass; "tokens - 1" is then the rate it was given, in
 * parts of NEURON_TRACE_WEIGHT_MAX.
 * Owner: one thread. */
#ifndef STROBE_FLASH_NEURON_TRACE_H
#define STROBE_FLASH_NEURON_TRACE_H

#include "engine/base/buf.h"
#include "engine/flash/cache.h"
#include "engine/model/model.h"

enum {
    NEURON_TRACE_NEURONS_MAX = 1 << 20,
    NEURON_TRACE_TOKENS_MAX = 1 << 24,
    NEURON_TRACE_WEIGHT_MAX = 255
};

struct neuron_trace_head {
    char model[65]; /* whose neurons: neuron_trace_whose() */
    uint32_t n_layer, n_neuron;
    uint32_t slots; /* per layer, of the cache at recording */
    enum cache_policy policy;
    uint32_t window; /* 0: cache.h's default */
};

/* Whose numbers the neurons of a packed model bear, hex: model_hash() of what was packed. A placed
 * file (model/bundle.h) has an order of its own, and its own hash: no other file takes its trace.
 */
void neuron_trace_whose(const struct model *m, char hash[65]);

/* ---- writing: one buffer of 256 KiB and two lists of n_neuron, no allocation afterwards ---- */

struct neuron_trace_writer; /* opaque */

/* Creates the file, or empties it. Errors: ST_IO, ST_NOTFOUND, ST_NOMEM. */
enum status neuron_trace_create(const char *path, const struct neuron_trace_head *h,
                                struct neuron_trace_writer **ret, struct err *err);
/* A token of the pass used the neuron: `used` of them; ascending neurons within a record. */
void neuron_trace_active(struct neuron_trace_writer *w, uint32_t neuron, uint32_t used);
struct neuron_trace_pass_in {
    uint32_t layer, n_tok, n_miss;
    bool learn;
    const uint32_t *count; /* [n_neuron] tokens that need each; n_tok 0: weight + 1 */
};
/* Ends the record of one layer's pass. Errors: ST_IO (the first one comes back each time). */
enum status neuron_trace_record(struct neuron_trace_writer *w,
                                const struct neuron_trace_pass_in *in, struct err *err);
/* Forgets what neuron_trace_active() collected: the pass failed. */
void neuron_trace_drop(struct neuron_trace_writer *w);
/* What is buffered goes to the file. */
enum status neuron_trace_flush(struct neuron_trace_writer *w, struct err *err);
void neuron_trace_close(struct neuron_trace_writer *w); /* NULL is fine; does not flush */

/* ---- reading ---- */

struct neuron_trace_reader; /* opaque */

/* Errors: ST_NOTFOUND, ST_IO, ST_NOMEM, ST_FORMAT. */
enum status neuron_trace_open(const char *path, struct neuron_trace_reader **ret, struct err *err);
/* The same from memory, borrowed. */
enum status neuron_trace_parse(struct str bytes, struct neuron_trace_reader **ret, struct err *err);
void neuron_trace_free(struct neuron_trace_reader *r); /* NULL is fine */
const struct neuron_trace_head *neuron_trace_head(const struct neuron_trace_reader *r);

struct neuron_trace_pass {
    uint32_t layer, n_tok, n_miss, n_needed, n_active;
    bool learn;
    const uint32_t *needed, *needed_tok; /* ids, ascending; tokens of each. Until the next call */
    const uint32_t *active, *active_tok;
};
/* *more: false at the end of the file; else *ret is filled. Errors: ST_FORMAT (naming the byte: a
 * number out of its bounds, or an end inside a record), ST_IO. */
enum status neuron_trace_next(struct neuron_trace_reader *r, struct neuron_trace_pass *ret,
                              bool *more, struct err *err);

#endif
