/* engine/infer/drafter.h - whoever guesses tokens with passes of its own, one token per sequence
 * and step:
 *
 *   DRAFT_MODEL  a second, small model with its own weights and its own cache of keys and values,
 *                one slot for each of the scheduler's
 *   DRAFT_SELF   the model itself, told to do with the neurons that are in memory. Its rows of keys
 *                and values lie behind the sequence's kept ones: the pass that verifies the guesses
 *                computes them again before anything reads them.
 *
 * Rejected guesses need no word: a slot's rows are compared with the tokens that a sequence has by
 * now, and what differs is computed again. A drafter that fails makes no guesses; nothing else
 * depends on it. Owner: the engine thread. Internal to infer and the facade. */
#ifndef STROBE_INFER_DRAFTER_H
#define STROBE_INFER_DRAFTER_H

#include "engine/flash/weights.h"
#include "engine/infer/forward.h"
#include "engine/infer/gen.h"

struct drafter; /* opaque */

struct drafter_in { /* borrowed until drafter_free() */
    enum draft_source source;
    struct forward *forward; /* made for n_slot + n_batch tokens and n_slot rows of logits */
    struct weights *weights; /* of `forward` */
    uint32_t n_slot, n_batch;
    uint32_t n_ctx;          /* positions that its cache has per slot */
    uint32_t n_vocab, width; /* of a row that the sampler wants, and of its own rows */
};
/* Memory of its own, for the plan, from the numbers alone; 0: does not fit size_t. */
size_t drafter_bytes(const struct drafter_in *in);
/* Errors: ST_RANGE, ST_NOMEM. */
enum status drafter_create(const struct drafter_in *in, struct drafter **ret, struct err *err);
void drafter_free(struct drafter *d); /* NULL is fine */
enum draft_source drafter_source(const struct drafter *d);
uint32_t drafter_ctx(const struct drafter *d);

/* A sequence that wants guesses. */
struct drafter_seq {
    uint32_t slot;
    const int32_t *token; /* borrowed; grows behind n_token as guesses are appended */
    uint32_t n_token;     /* at most drafter_ctx() */
    uint32_t n_kept;      /* tokens whose keys and values the scheduler's own cache has */
    const atomic_bool *cancel;
    const float *row; /* out: f32 [n_vocab] after the last token, valid until the next step; NULL:
                         its prompt is still being read in, or the step failed */
};
/* Once per sequence before its first step for the next pass. */
void drafter_begin(struct drafter *d, const struct drafter_seq *q);
/* One pass over the tokens that are new: usually one per sequence, and of a prompt never seen as
 * many as a batch holds. Returns the number of tokens, 0: the pass failed, no rows. */
uint32_t drafter_step(struct drafter *d, struct drafter_seq *q, size_t n);

#endif
