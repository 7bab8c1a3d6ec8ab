/* tests/bench/flash/replay_lib.h - replays a neuron trace through the engine's cache, or through
 * the best decisions that hindsight allows (Belady), and measures how neurons are reused
 * (flash.md P5). The trace is held in memory. One thread. */
#ifndef STROBE_TESTS_BENCH_REPLAY_LIB_H
#define STROBE_TESTS_BENCH_REPLAY_LIB_H

#include "engine/flash/neuron_trace.h"

/* One layer in one pass. */
struct replay_pass {
    uint32_t n_tok, n_miss, n_needed, n_active;
    bool learn;
    uint32_t *needed, *needed_tok, *active, *active_tok; /* one block, owned by needed */
};

struct replay_layer {
    struct replay_pass *pass;
    size_t n, cap;
};

struct replay_trace {
    struct neuron_trace_head head;
    struct replay_layer *layer; /* [head.n_layer] */
};

/* Errors: those of neuron_trace_open() and neuron_trace_next(), ST_NOMEM. Free with replay_clear().
 */
enum status replay_load(const char *path, struct replay_trace *ret, struct err *err);
/* Adds a record, copied. */
enum status replay_add(struct replay_trace *t, const struct neuron_trace_pass *p, struct err *err);
void replay_clear(struct replay_trace *t);
/* The trace as it would be of a placed file (model/bundle.h): what was neuron order[i] becomes i.
 * order: [n_layer, n_neuron], each number once per layer. Errors: ST_NOMEM. */
enum status replay_reorder(struct replay_trace *t, const uint32_t *order, struct err *err);

/* Distances between neurons that one pass has to read, next to next. */
enum { REPLAY_GAPS = 16 };
struct replay_gaps {
    uint64_t passes, misses;       /* passes with a miss; of counted ones */
    uint64_t gap[REPLAY_GAPS + 1]; /* [d]: d others lie between; the last: REPLAY_GAPS or more */
};
/* Reads, and neurons in them, when a read goes on over gaps of up to `most` neurons; no read ends
 * for its length. */
uint64_t replay_extents(const struct replay_gaps *g, uint32_t most, uint64_t *bundles);

struct replay_opts {
    enum cache_policy policy;
    uint32_t window;
    bool belady;     /* instead of a policy; begins empty */
    bool warm;       /* what was in the cache before the first pass counts; else it begins empty */
    uint32_t slots;  /* per layer */
    uint32_t prompt; /* passes of more tokens fill the cache, but are not counted as decoding */
    uint32_t skip;   /* decoding passes of each layer that are not counted either */
    struct replay_gaps *gaps; /* added to, of counted passes; NULL: not wanted. Not with belady */
};

/* Over all layers. */
struct replay_result {
    uint64_t misses;                /* of every pass: what the live engine reports */
    uint64_t tokens, needed, loads; /* counted passes, a token per layer */
    double loads_share;             /* loads / (tokens * n_neuron) */
};
enum status replay_run(const struct replay_trace *t, const struct replay_opts *o,
                       struct replay_result *ret, struct err *err);

/* Mean share of a layer's neurons that k successive tokens need (or use) together, k = 1..k_max.
 * Passes of one token only. share[k - 1]; 0 where the trace is shorter than k. */
enum status replay_s_agg(const struct replay_trace *t, bool active, uint32_t k_max, double *share,
                         struct err *err);

#endif
