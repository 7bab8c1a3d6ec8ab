/* engine/infer/scheduler.h - one thread that runs all requests together.
 *
 *   submit -> queue (bounded, first in first out) -> slot -> GEN_DONE
 *                 scheduler_submit     admit     digest, reap
 *
 * Each step is one forward pass over every active slot: the next token of each sequence that
 * decodes, and chunks of the prompts that do not decode yet. Decoding is never left out of a pass;
 * what a pass may spend on prompts shrinks while someone decodes (unless the weights are streamed:
 * then a pass costs the disk whatever it holds). While nobody decodes and weights are streamed, a
 * pass takes n_span tokens of prompts, which the disk then serves once for all of them. What comes
 * out of a request does not depend on what runs beside it: forward_run() promises that for logits,
 * the sampler for draws.
 *
 * Requests end with GEN_DONE exactly once, also when a pass fails (FINISH_ERROR; the scheduler
 * lives on) and at scheduler_free() (FINISH_CANCELLED). Functions are safe from any thread; events
 * come on the scheduler's thread, with no lock held. */
#ifndef STROBE_INFER_SCHEDULER_H
#define STROBE_INFER_SCHEDULER_H

#include "engine/flash/trace.h"
#include "engine/flash/weights.h"
#include "engine/infer/drafter.h"
#include "engine/infer/forward.h"
#include "engine/infer/gen.h"
#include "engine/infer/kv.h"
#include "engine/model/tokenizer.h"

struct scheduler; /* opaque */

struct scheduler_in { /* everything borrowed until scheduler_free() */
    const struct tokenizer *tok;
    struct weights *weights;
    struct kv *kv;
    struct forward *forward; /* made for scheduler_max_tok() and scheduler_max_logits() */
    const struct kernels *kernels;
    struct trace *trace; /* this thread records */
    uint32_t n_vocab;    /* width of a row of logits */
    uint32_t n_slot, n_ctx, n_batch, queue_max;
    uint32_t n_span; /* tokens of a pass that only works on prompts (forward_span()); 0: n_batch */
    bool streaming;  /* weights come from the disk in every pass */
    struct drafter *drafter; /* guesses tokens; NULL: only the text itself is asked */
    uint32_t dear_tok;       /* from so many tokens on a pass costs far more; 0: none */
    /* Not exact: after a pass that reads neurons, this many passes of one token per sequence read
     * none and do without those that are not in memory (flash.md 2.3). Nothing is guessed then. */
    uint32_t reuse;
};

uint32_t scheduler_max_tok(uint32_t n_slot, uint32_t n_batch);
uint32_t scheduler_max_logits(uint32_t n_slot, uint32_t n_vocab);
/* Memory of its own, for the plan; 0: does not fit size_t. */
size_t scheduler_bytes(uint32_t n_vocab, uint32_t n_slot, uint32_t n_ctx);

/* Starts the thread. Errors: ST_RANGE, ST_NOMEM, ST_IO. */
enum status scheduler_create(const struct scheduler_in *in, struct scheduler **ret,
                             struct err *err);
/* Cancels what is left, waits for its last events, joins. */
void scheduler_free(struct scheduler *s);

/* As engine_submit() and friends in engine.h. */
enum status scheduler_submit(struct scheduler *s, const int32_t *prompt, size_t n_prompt,
                             const struct gen_params *p, gen_event_fn *fn, void *ctx, uint64_t *id,
                             struct err *err);
void scheduler_cancel(struct scheduler *s, uint64_t id);
bool scheduler_has_room(struct scheduler *s);
void scheduler_drain(struct scheduler *s);
bool scheduler_idle(struct scheduler *s);
void scheduler_stats(struct scheduler *s, struct engine_stats *ret);

#endif
