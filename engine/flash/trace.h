/* engine/flash/trace.h - which neurons each pass needed and used, layer by layer, in a file: what
 * cache policies are compared on (flash.md P5) and what firing rates are counted from. The writer
 * sits behind sparse.c, the reader takes any bytes. Numbers are little endian, "v" is LEB128:
 *
 *   head    "strobeN1" hash[64] u32 n_layer, n_neuron, slots, policy, window
 *   record  v layer, n_tok, n_miss, n_needed; n_needed gaps of ids, then (n_tok not 1) tokens - 1
 *           of each; v n_active; n_active gaps of positions among the needed, then tokens - 1 of
 * each
 *
 * A gap is the distance to the one before, minus 1. A neuron is needed when the mask lets it pass
 * for any token, active when its h is not zero. A record of no tokens, before all others, says what
 * was put into the cache before the first pass; "tokens - 1" is then the weight it was given.
 * Owner: one thread. */
#ifndef STROBE_FLASH_TRACE_H
#define STROBE_FLASH_TRACE_H

#include "engine/base/buf.h"
#include "engine/flash/cache.h"

enum { TRACE_NEURONS_MAX = 1 << 20, TRACE_TOKENS_MAX = 1 << 24, TRACE_WEIGHT_MAX = 255 };

struct trace_head {
    char model[65]; /* whose neurons: model_hash() of what was packed, hex */
    uint32_t n_layer, n_neuron;
    uint32_t slots; /* per layer, of the cache at recording */
    enum cache_policy policy;
    uint32_t window; /* 0: cache.h's default */
};

/* ---- writing: one buffer of 256 KiB and two lists of n_neuron, no allocation afterwards ---- */

struct trace_writer; /* opaque */

/* Creates the file, or empties it. Errors: ST_IO, ST_NOTFOUND, ST_NOMEM. */
enum status trace_create(const char *path, const struct trace_head *h, struct trace_writer **ret,
                         struct err *err);
/* A token of the pass used the neuron: `used` of them; ascending neurons within a record. */
void trace_active(struct trace_writer *w, uint32_t neuron, uint32_t used);
struct trace_pass_in {
    uint32_t layer, n_tok, n_miss;
    const uint32_t *count; /* [n_neuron] tokens that need each; n_tok 0: weight + 1 */
};
/* Ends the record of one layer's pass. Errors: ST_IO (the first one comes back each time). */
enum status trace_record(struct trace_writer *w, const struct trace_pass_in *in, struct err *err);
/* Forgets what trace_active() collected: the pass failed. */
void trace_drop(struct trace_writer *w);
/* What is buffered goes to the file. */
enum status trace_flush(struct trace_writer *w, struct err *err);
void trace_close(struct trace_writer *w); /* NULL is fine; does not flush */

/* ---- reading ---- */

struct trace_reader; /* opaque */

/* Errors: ST_NOTFOUND, ST_IO, ST_NOMEM, ST_FORMAT. */
enum status trace_open(const char *path, struct trace_reader **ret, struct err *err);
/* The same from memory, borrowed. */
enum status trace_parse(struct str bytes, struct trace_reader **ret, struct err *err);
void trace_free(struct trace_reader *r); /* NULL is fine */
const struct trace_head *trace_head(const struct trace_reader *r);

struct trace_pass {
    uint32_t layer, n_tok, n_miss, n_needed, n_active;
    const uint32_t *needed, *needed_tok; /* ids, ascending; tokens of each. Until the next call */
    const uint32_t *active, *active_tok;
};
/* *more: false at the end of the file; else *ret is filled. Errors: ST_FORMAT (naming the byte: a
 * number out of its bounds, or an end inside a record), ST_IO. */
enum status trace_next(struct trace_reader *r, struct trace_pass *ret, bool *more, struct err *err);

#endif
