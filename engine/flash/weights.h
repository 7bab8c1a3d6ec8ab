/* engine/flash/weights.h - the engine's view of a model's weights: packed matrices and f32 vectors
 * that are resident, and matrices that are streamed from the file each time a pass comes to them.
 * Owner: one thread, from the first weights_product() on the engine thread; the pool computes. */
#ifndef STROBE_FLASH_WEIGHTS_H
#define STROBE_FLASH_WEIGHTS_H

#include "engine/base/pool.h"
#include "engine/flash/cache.h"
#include "engine/flash/guess.h"
#include "engine/flash/plan.h"
#include "engine/flash/shadow.h"
#include "engine/io/source.h"
#include "engine/kernel/matrix.h"
#include "engine/model/model.h"

struct weights; /* opaque */

struct weights_opts {
    enum source_kind source;
    enum cache_policy policy; /* packed models: of the neuron cache */
    bool no_overlap;          /* packed models: read what a layer misses, then compute */
    float mask_sigma;         /* of a 4-bit sketch (mask.h) */
    double keep;              /* share of neurons that a token may use; 0 or 1: all (mask.h) */
    uint32_t mask_check; /* packed models: one token in so many is looked at (shadow.h); 0: none */
    /* Packed models: NULL, or records which neurons are needed (neuron_trace.h); borrowed. */
    struct neuron_trace_writer *neuron_trace;
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* loading; may be NULL */
    void *ctx;
};

/* Reads what the plan pins, sizes the ring, starts nothing else. Keeps m, k and pool borrowed.
 * Errors: ST_IO, ST_FORMAT (truncated), ST_NOMEM. */
enum status weights_open(const struct model *m, const struct plan *plan, const struct kernels *k,
                         struct pool *pool, const struct weights_opts *opts, struct weights **ret,
                         struct err *err);
void weights_close(struct weights *w);

struct weights_view {
    struct matrix m[TR_MATRICES];           /* n_row 0: absent; data NULL: streamed */
    const float *v[TR_ROLES - TR_MATRICES]; /* index role - TR_MATRICES; NULL: absent */
};
#define VIEW_VEC(view, role) ((view)->v[(role)-TR_MATRICES])

/* Embedding (see weights_embed()), positions, output, output norm. Valid until close. */
const struct weights_view *weights_global(const struct weights *w);
const struct weights_view *weights_layer(struct weights *w, uint32_t layer);

/* y = matmul() with a streamed matrix, the same bits as with a resident one. A pass asks for the
 * streamed ones in the order of enum tensor_role, layer by layer: reads run ahead in that order,
 * and the next pass's begin while this one ends. Any other order works and reads again. Errors:
 * ST_IO, ST_FORMAT (file truncated while in use). */
struct product {
    uint32_t layer;
    enum tensor_role role;
    struct acts *acts;
    float *y;
    size_t y_stride;
};
enum status weights_product(struct weights *w, const struct product *p, struct err *err);

/* Before a layer's products, of a pass that takes its tokens chunk by chunk through each layer:
 * again: the same products come once more after these, for the next chunk. What they stream then
 * stays in memory as far as the plan made room (plan.h, stream_slots), and is read once for all
 * chunks. */
void weights_round(struct weights *w, bool again);

/* Duo models: a pass goes through the layer with its big part, or without. Before its products:
 * what is used most stays in memory (parts.h). */
void weights_big_part_note(struct weights *w, uint32_t layer, bool used);
/* Whether the next pass that comes to a layer's big part uses it. What is not used is
 * not read; what is not likely used is read when it turns out to be. Nothing said: all is used. */
enum weights_part { WEIGHTS_USED, WEIGHTS_UNUSED, WEIGHTS_UNLIKELY };
void weights_big_part(struct weights *w, uint32_t layer, enum weights_part p);
/* A pass went through the layer without its big part. */
void weights_big_part_past(struct weights *w, uint32_t layer);
/* Lets the disk begin with what was said. Changes no result. */
void weights_read_ahead(struct weights *w);

/* After a pass, before anyone believes it: ST_FORMAT when the file that it read from was
 * overwritten, from then on always (source_check()). One fstat() a file; nothing where nothing was
 * read. */
enum status weights_check(struct weights *w, struct err *err);

/* Rows of the token embedding, dequantised: f32 [n, n_embd], rows `stride` floats apart. Where the
 * plan left the table in the file (weights_global()->m[TR_TOKEN_EMBD].data is NULL) they are read
 * now. Errors: ST_IO, ST_FORMAT. */
enum status weights_embed(struct weights *w, const int32_t *token, size_t n, float *x,
                          size_t stride, struct err *err);

struct ffn_guess {
    uint32_t layer;
    size_t n_tok, stride;
    const float *x; /* the guessed normed input: f32 rows `stride` floats apart */
};

/* The feed-forward part of a packed model's layer; weights_packed() tells. y[t] = sum over neurons
 * of h_i(t) down_i, without down's bias. Errors: ST_IO, ST_FORMAT (file truncated while in use). */
struct ffn_call {
    uint32_t layer;
    size_t n_tok;
    struct acts *acts; /* the layer's normed input */
    float *first;      /* activated first matrix [n_tok, n_ff] (model/bundle.h), may be thinned
                          out (mask_keep_largest()); NULL: it is estimated */
    float *gate;       /* work area [n_tok, n_ff] without `first` */
    float *h;          /* work area [n_tok, n_ff] */
    float *y;          /* [n_tok, n_embd] */
    const struct ffn_guess *next; /* of the layer after it, where weights_guesses(); or NULL */
    /* Spans: 0, or a wave of neurons is used for the pass's tokens in chunks of so many, which is
     * all that first (work area then), gate, h and acts's store have room for; every neuron is
     * used, and nobody looks at the mask. acts: the whole pass's input. */
    size_t chunk;
    /* Spans: told which of the layer's neurons come next; false: ST_CANCELLED. */
    bool (*go_on)(void *ctx, size_t done, size_t n);
    void *ctx;
};
enum status weights_ffn(struct weights *w, const struct ffn_call *c, struct err *err);
bool weights_packed(const struct weights *w);

/* What passes do, from the next on, about neurons of a packed model that are not in memory. Other
 * models: no effect. */
enum weights_reads {
    WEIGHTS_READ,  /* read them: exact */
    WEIGHTS_REUSE, /* take them for idle, and count what that drops; the cache keeps what it has but
                      learns what was needed */
    WEIGHTS_DRAFT  /* take them for idle; leaves no mark but the time it took */
};
void weights_set_reads(struct weights *w, enum weights_reads r);

/* Before a layer's attention: reading of what its feed-forward part will likely need begins, from
 * its input as it would be if attention added nothing (guess.h). Changes no result. */
bool weights_guesses(const struct weights *w, enum guess_point at, uint32_t layer,
                     size_t n_tok); /* worth asking */
void weights_guess(struct weights *w, const struct ffn_guess *g);

/* A pass ended before its last layer: what was begun for the rest of it is dropped. */
void weights_give_up(struct weights *w);

/* Counted in neurons, over all layers and passes. */
struct sparse_stats {
    uint64_t needed; /* the mask let them pass; hits are needed - misses */
    uint64_t misses, active;
    uint64_t guessed, guessed_right; /* read before it was known; of them needed */
    uint64_t bundles_read, bytes, reads;
    uint64_t mask_ns, run_ns, wait_ns; /* run: all of it */
    /* Of them, what the cache costs: saying what is in memory, what comes and what goes, and who
     * was used; and moving neurons from where reads put them into their slots. */
    uint64_t book_ns, copy_ns;
    /* Where the mask decides: what it let pass, and of that what fired. */
    uint64_t masked_needed, masked_active;
    struct shadow_figures check; /* tokens 0: nothing was looked at, the rest is void */
    uint64_t check_ns;           /* of run_ns, what looking took */
    /* WEIGHTS_REUSE: neurons needed (among `needed`, not among `misses`) and left out; the sizes of
     * activations of the first matrix left out and in all, where it is in memory. */
    uint64_t dropped;
    double mass_dropped, mass;
};

struct weights_stats {
    uint64_t bytes_read, reads, stall_ns; /* streaming only, since open */
    uint64_t bytes_unused; /* of those read, whole pieces that no product asked for; not packed */
    uint64_t bytes_wanted; /* of those read, what was asked for: no gaps, no rounding */
    uint64_t load_bytes, load_ns; /* opening */
    const char *source;           /* source_name() */
    struct sparse_stats sparse;   /* packed models */
};
struct weights_stats weights_stats(const struct weights *w);
/* Whether a part of the layer comes from the file in a pass now (Duo models: with its big part; it
 * changes from pass to pass). Packed models: false. */
bool weights_streams(const struct weights *w, uint32_t layer);
/* Whether it ever may; does not change, any thread. */
bool weights_may_stream(const struct weights *w, uint32_t layer);
/* Packed models: neurons of the layer that are in memory; 0 otherwise. */
uint32_t weights_cached(const struct weights *w, uint32_t layer);
/* Tells fn of every read from now on, on the owner's thread (io/source.h). */
void weights_watch_reads(struct weights *w, source_watch_fn *fn, void *ctx);

#endif
