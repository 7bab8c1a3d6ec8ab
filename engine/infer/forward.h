/* engine/infer/forward.h - the transformer forward pass for every supported architecture: one
 * function per block part, steered by hparams. Owner: the engine thread. Allocates at creation
 * only. */
#ifndef STROBE_INFER_FORWARD_H
#define STROBE_INFER_FORWARD_H

#include "engine/flash/weights.h"
#include "engine/infer/kv.h"
#include "engine/infer/route.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Consecutive tokens of one sequence. Positions below pos0 are in the cache already. */
struct batch_seq {
    uint32_t slot, pos0, n_tok;
    const int32_t *token;      /* [n_tok] borrowed, each < n_vocab */
    uint32_t n_logits;         /* logits are computed for the last n_logits tokens (0: none) */
    const atomic_bool *cancel; /* may be NULL; all cancelled: the pass stops at a layer's chunk */
    const struct duo_policy *duo; /* Duo models; NULL: all big */
    struct duo_tally *tally;      /* added to, except with all big; may be NULL */
};

struct forward; /* opaque */

/* Scratch for batches of max_tok tokens with max_logits rows of logits; 0: does not fit. */
size_t forward_bytes(const struct hparams *hp, uint32_t max_tok, uint32_t max_logits,
                     unsigned n_thread);
/* Keeps everything borrowed. Errors: ST_NOMEM, ST_RANGE (max_tok, max_logits), ST_UNSUPPORTED (the
 * cache is longer than a learned table of positions). */
enum status forward_create(const struct model *m, struct weights *w, struct kv *kv,
                           const struct kernels *k, struct pool *pool, uint32_t max_tok,
                           uint32_t max_logits, struct forward **ret, struct err *err);
void forward_free(struct forward *f);

/* Spans: passes of up to `span` tokens, where the other buffers stay those of max_tok. The span's
 * tokens go through a layer in chunks of max_tok, one chunk after the other, and then through the
 * next layer: a layer's streamed weights are read once for all of them. A chunk's keys and values
 * are in the cache when the next comes to them, so the results have the bits of chunks that go
 * through all layers, one pass each. */
struct forward_span {
    uint32_t n_tok;
    bool packed; /* weights_packed(): the feed-forward part takes all chunks at once, and each wave
                    of neurons serves all of them */
};
size_t forward_span_bytes(const struct hparams *hp, struct forward_span s); /* 0: does not fit */
/* Makes room for them. Not for Duo models, nor where neurons are kept by size. Errors: ST_NOMEM,
 * ST_RANGE (span), ST_UNSUPPORTED. */
enum status forward_span(struct forward *f, uint32_t span, struct err *err);
/* Tells fn after each chunk of a layer what part of a pass of several chunks is done (0..1), on the
 * thread that runs the pass. NULL: nobody. */
typedef void forward_chunk_fn(void *ctx, double done);
void forward_watch_chunks(struct forward *f, forward_chunk_fn *fn, void *ctx);
/* Tells fn when a layer begins, when it comes to its feed-forward part, when it begins again with
 * the next chunk of a span and when it has ended well, on the thread that runs the pass. NULL:
 * nobody. */
enum forward_point { FORWARD_LAYER, FORWARD_FFN, FORWARD_AGAIN, FORWARD_LAYER_END };
typedef void forward_watch_fn(void *ctx, enum forward_point at, uint32_t layer);
void forward_watch(struct forward *f, forward_watch_fn *fn, void *ctx);
/* Tells fn of each layer's feed-forward part, of models that are not packed: what goes in, and the
 * activations that the down matrix is multiplied with. Borrowed for the call. NULL: nobody. */
struct forward_ffn {
    uint32_t layer;
    size_t n_tok;
    const float *x, *h; /* f32 [n_tok, n_embd], normed; [n_tok, n_ff] */
};
typedef void forward_ffn_fn(void *ctx, const struct forward_ffn *p);
void forward_watch_ffn(struct forward *f, forward_ffn_fn *fn, void *ctx);
/* Runs all layers once over all sequences together; each has its own slot and at least one token.
 * sum n_tok <= max_tok (or span), sum n_logits <= max_logits, n_logits <= n_tok. *logits: f32 [sum
 * n_logits, n_vocab], in the order of the sequences, valid until the next run. A token's logits do
 * not depend on the other sequences or on the cutting into batches. Errors: ST_IO, ST_FORMAT
 * (streaming), ST_CANCELLED. The cache positions written are then void. */
enum status forward_run(struct forward *f, const struct batch_seq *seq, size_t n_seq,
                        const float **logits, struct err *err);

#endif
