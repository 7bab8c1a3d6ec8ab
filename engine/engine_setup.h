/* engine/engine_setup.h - everything that is decided before weights are loaded: the model, its
 * tokenizer and chat templates, the sizes, the plan. Shared by engine_open(), engine_estimate() and
 * engine_inspect(). Internal to the facade. */
#ifndef STROBE_ENGINE_SETUP_H
#define STROBE_ENGINE_SETUP_H

#include "engine/engine.h"
#include "engine/flash/plan.h"
#include "engine/model/chat.h"
#include "engine/model/model.h"
#include "engine/model/tokenizer.h"

struct engine_setup {
    struct engine_draft *draft; /* engine_draft.h; NULL: no second model */
    struct model *model;
    struct tokenizer *tok; /* NULL: inspect only, see tok_err */
    struct err tok_err;
    struct chat_template *chat, *chat_tools; /* tools: NULL unless the model has an own one */
    bool has_template;                       /* the model's own; else chat is the fallback */
    struct err chat_err;                     /* why the model's own cannot be used */
    uint32_t n_thread, n_slot, n_ctx, n_batch, queue_max; /* of a span: plan.span_tok */
    enum dtype kv_type; /* of cached keys and values: DT_F16 or DT_F32 */
    const struct kernels *kernels;
    struct disk_model disk;
    struct plan plan;
};

/* Opens model and tokenizer and compiles the templates. need_tok false: an unusable tokenizer is
 * only noted. Errors: as model_open, tokenizer_from_*. setup_clear() afterwards, also on failure.
 */
enum status setup_open(const struct engine_opts *o, bool need_tok, struct engine_setup *s,
                       struct err *err);
/* Resolves sizes and makes the plan; the plan may not fit. Errors: ST_ARG, ST_RANGE, ST_NOMEM,
 * ST_UNSUPPORTED. */
enum status setup_plan(const struct engine_opts *o, struct engine_setup *s, struct err *err);
/* Positions that a model's learned table has; UINT32_MAX: it has none. */
uint32_t setup_positions(const struct model *m);
/* The type of keys and values that AUTO means for a model. */
enum dtype setup_kv_auto(const struct model *m);
/* What opts->kv means for the opened model. ST_ARG: no such type. */
enum status setup_kv_type(const struct engine_opts *o, struct engine_setup *s, struct err *err);
void setup_clear(struct engine_setup *s); /* a zeroed struct is fine */

#endif
