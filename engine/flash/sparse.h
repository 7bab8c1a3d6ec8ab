/* engine/flash/sparse.h - the feed-forward part of a packed model: asks the mask which neurons a
 * pass needs, the cache which of them are in memory, brings the rest from flash and computes with
 * what has come while the others are under way. The result has the bits of the same computation
 * with everything in memory, whatever was cached and in whatever order reads came
 * (kernel/sparse.h). Owner: one thread; the pool computes. */
#ifndef STROBE_FLASH_SPARSE_H
#define STROBE_FLASH_SPARSE_H

#include "engine/flash/cache.h"
#include "engine/flash/guess.h"
#include "engine/flash/neuron_trace.h"
#include "engine/flash/weights.h"

struct sparse; /* opaque */

struct sparse_opts {
    const struct model *m; /* packed */
    const struct plan *plan;
    const struct weights_view *layer; /* [n_layer], loaded; borrowed */
    const struct kernels *k;
    struct pool *pool;
    struct source *src; /* nobody else may submit from now on */
    uint8_t *staging;   /* plan's read buffers, aligned to 4096, borrowed */
    enum cache_policy policy;
    uint32_t window;
    bool no_overlap;                          /* no guesses; waits for all reads of a layer */
    float mask_sigma;                         /* of a 4-bit sketch */
    double keep;                              /* share of neurons that a token may use, 1: all */
    uint32_t mask_check;                      /* one token in so many is looked at; 0: none */
    struct neuron_trace_writer *neuron_trace; /* NULL: nothing is recorded; borrowed */
};

enum status sparse_open(const struct sparse_opts *o, struct sparse **ret, struct err *err);
void sparse_close(struct sparse *s); /* NULL is fine */

/* Bytes of everything but slots and read buffers. */
uint64_t sparse_fixed_bytes(const struct model *m, unsigned n_thread);
/* Bytes per slot, bookkeeping included. */
uint64_t sparse_slot_bytes(const struct bundle *b);

/* Starts reading what layer g->layer will likely need; false from sparse_guesses(): not worth it,
 * or it is under way. */
bool sparse_guesses(const struct sparse *s, enum guess_point at, uint32_t layer, size_t n_tok);
void sparse_guess(struct sparse *s, enum guess_point at, const struct ffn_guess *g);
/* Errors: ST_IO, ST_FORMAT (file truncated while in use); the next call tries again. */
enum status sparse_run(struct sparse *s, const struct weights_view *v, const struct ffn_call *c,
                       struct err *err);

/* As weights_give_up(). */
void sparse_give_up(struct sparse *s);

/* As weights_set_reads(). */
void sparse_set_reads(struct sparse *s, enum weights_reads r);

struct sparse_stats sparse_stats(const struct sparse *s);
uint32_t sparse_cached(const struct sparse *s, uint32_t layer); /* neurons in memory */

#endif
