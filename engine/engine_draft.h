/* engine/engine_draft.h - who guesses tokens ahead: a second, small model that is in memory whole
 * (engine_opts.draft_model), or the model itself with the neurons that are (draft_self). Internal
 * to the facade. A draft model's memory is a row of the model's plan: everything that stays is
 * counted before anything is loaded. */
#ifndef STROBE_ENGINE_DRAFT_H
#define STROBE_ENGINE_DRAFT_H

#include "engine/base/pool.h"
#include "engine/engine_setup.h"
#include "engine/flash/weights.h"
#include "engine/infer/drafter.h"
#include "engine/infer/kv.h"

struct engine_draft {
    struct model *model;
    struct plan plan; /* all of it resident */
    enum dtype kv_type;
    uint32_t n_slot, n_ctx, n_batch, n_vocab; /* n_vocab: of the model that it guesses for */
    uint64_t vocab_bytes, bytes;              /* bytes: all that stays */
    char *id, *path;
    struct weights *weights;
    struct kv *kv;
    struct forward *forward;
};

/* Which of the options go together, and with the opened model. Errors: ST_ARG, ST_UNSUPPORTED. */
enum status engine_draft_check(const struct engine_opts *o, const struct engine_setup *s,
                               struct err *err);
/* Opens o->draft_model into s->draft, without weights. Errors: as model_open; ST_ARG: its
 * vocabulary is another, naming the first token that differs. */
enum status engine_draft_open(const struct engine_opts *o, struct engine_setup *s, struct err *err);
/* Sizes for the slots and the context of s, into the model's plan. Errors: ST_NOMEM, ST_RANGE. */
enum status engine_draft_plan(struct engine_draft *d, const struct engine_setup *s,
                              uint32_t n_batch, struct plan_in *in, struct err *err);
uint64_t engine_draft_self_bytes(const struct engine_setup *s);
/* Loads what was planned. Errors: ST_IO, ST_FORMAT, ST_NOMEM. */
enum status engine_draft_load(struct engine_draft *d, const struct engine_setup *s,
                              struct pool *pool, const struct weights_opts *wo, struct err *err);
/* The drafter for the scheduler, over d, or over the model itself when d is NULL. */
enum status engine_draft_start(const struct engine_draft *d, const struct engine_setup *s,
                               struct forward *own, struct weights *own_weights,
                               struct drafter **ret, struct err *err);
void engine_draft_free(struct engine_draft *d); /* NULL is fine */

#endif
