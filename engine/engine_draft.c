/* engine/engine_draft.c - see engine_draft.h. */
#include "engine/engine_draft.h"

#include "engine/engine_internal.h"

#include <stdlib.h>

enum {
    BATCH = 128, /* a prompt reaches the draft model in parts of so many tokens */
    /* Makers pad a vocabulary to a round number of rows, and not always the same one for the small
     * and the large model of a family. What only one of them has is never guessed. */
    PADDING_MAX = 256
};

enum status engine_draft_check(const struct engine_opts *o, const struct engine_setup *s,
                               struct err *err)
{
    bool packed = model_bundle(s->model) != NULL;
    if (o->draft_model && o->draft_self)
        return err_set(err, ST_ARG, "--draft-model and --draft-self: one of them guesses");
    if (o->reuse && (o->draft_model || o->draft_self))
        return err_set(err, ST_ARG,
                       "--reuse with %s: guesses are verified by passes that read, and those are "
                       "what --reuse leaves out",
                       o->draft_model ? "--draft-model" : "--draft-self");
    if (o->reuse && o->neuron_trace)
        return err_set(err, ST_ARG,
                       "--reuse with --neuron-trace: the trace is of passes that read");
    if ((o->reuse || o->draft_self) && !packed)
        return err_set(err, ST_UNSUPPORTED,
                       "%s needs a packed model: strobe pack -m MODEL -o PACKED.gguf",
                       o->reuse ? "--reuse" : "--draft-self");
    return ST_OK;
}

/* ---- vocabulary ---- */

static enum status open_tokenizer(const struct model *m, struct tokenizer **ret, struct err *err)
{
    const struct gguf *g = model_gguf(m);
    return g ? tokenizer_from_gguf(g, NULL, ret, err) : tokenizer_from_dir(model_dir(m), ret, err);
}

/* A guess is an id: it must mean the same text to both. */
static enum status same_vocabulary(const struct tokenizer *own, const struct tokenizer *draft,
                                   struct err *err)
{
    enum { SHOWN = 40 };
    uint32_t a = tokenizer_n_vocab(own), b = tokenizer_n_vocab(draft), n = a < b ? a : b;
    for (uint32_t i = 0; i < n; i++) {
        struct str x = tokenizer_text(own, (int32_t)i), y = tokenizer_text(draft, (int32_t)i);
        if (str_eq(x, y))
            continue;
        return err_set(err, ST_ARG, "another vocabulary: token %u is '%.*s', in the model '%.*s'",
                       i, (int)(y.n < SHOWN ? y.n : SHOWN), y.p, (int)(x.n < SHOWN ? x.n : SHOWN),
                       x.p);
    }
    if (a + PADDING_MAX < b || b + PADDING_MAX < a)
        return err_set(err, ST_ARG,
                       "another vocabulary: %u tokens, the model has %u; the first that only one "
                       "of them has is %u",
                       b, a, n);
    return ST_OK;
}

static enum status check_vocabulary(struct engine_draft *d, const struct engine_setup *s,
                                    struct err *err)
{
    struct tokenizer *t = NULL;
    if (open_tokenizer(d->model, &t, err) != ST_OK)
        return err->code;
    d->vocab_bytes = tokenizer_bytes(t); /* about what the file's header keeps of it, too */
    same_vocabulary(s->tok, t, err);
    tokenizer_free(t);
    return err->code;
}

enum status engine_draft_open(const struct engine_opts *o, struct engine_setup *s, struct err *err)
{
    struct engine_draft *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ST_NOMEM, "draft model");
    const struct model_opts mo = { 0 };
    if (model_open(o->draft_model, &mo, &d->model, err) != ST_OK ||
        check_vocabulary(d, s, err) != ST_OK)
        goto fail;
    d->path = str_dup(str_c(o->draft_model));
    d->id = engine_model_id(d->model, o->draft_model);
    if (!d->path || !d->id) {
        err_set(err, ST_NOMEM, "draft model");
        goto fail;
    }
    d->kv_type = setup_kv_auto(d->model);
    d->n_vocab = model_hparams(s->model)->n_vocab;
    s->draft = d;
    return ST_OK;
fail:
    engine_draft_free(d);
    return err_ctx(err, "draft model '%s'", o->draft_model);
}

void engine_draft_free(struct engine_draft *d)
{
    if (!d)
        return;
    forward_free(d->forward);
    kv_free(d->kv);
    weights_close(d->weights);
    plan_clear(&d->plan);
    model_close(d->model);
    free(d->id);
    free(d->path);
    free(d);
}

/* ---- sizes ---- */

static struct drafter_in drafter_of(const struct engine_draft *d)
{
    return (struct drafter_in){ .source = DRAFT_MODEL,
                                .forward = d->forward,
                                .weights = d->weights,
                                .n_slot = d->n_slot,
                                .n_batch = d->n_batch,
                                .n_ctx = d->n_ctx,
                                .n_vocab = d->n_vocab,
                                .width = model_hparams(d->model)->n_vocab };
}

static struct drafter_in self_of(const struct engine_setup *s, struct forward *f, struct weights *w)
{
    uint32_t n_vocab = model_hparams(s->model)->n_vocab;
    return (struct drafter_in){ .source = DRAFT_SELF,
                                .forward = f,
                                .weights = w,
                                .n_slot = s->n_slot,
                                .n_batch = 1, /* no prompts: their rows are the model's own */
                                .n_ctx = s->n_ctx,
                                .n_vocab = n_vocab,
                                .width = n_vocab };
}

uint64_t engine_draft_self_bytes(const struct engine_setup *s)
{
    const struct drafter_in in = self_of(s, NULL, NULL);
    return drafter_bytes(&in);
}

enum status engine_draft_plan(struct engine_draft *d, const struct engine_setup *s,
                              uint32_t n_batch, struct plan_in *in, struct err *err)
{
    const struct hparams *hp = model_hparams(d->model);
    uint32_t most = setup_positions(d->model);
    d->n_slot = s->n_slot;
    d->n_ctx = s->n_ctx < most ? s->n_ctx : most;
    d->n_batch = n_batch < BATCH ? n_batch : BATCH;
    const struct drafter_in own = drafter_of(d);
    size_t forward = forward_bytes(hp, d->n_slot + d->n_batch, d->n_slot, s->n_thread);
    size_t table = drafter_bytes(&own);
    const struct plan_in whole = { .mode = FLASH_OFF,
                                   .kv_bytes = kv_bytes(hp, d->kv_type, d->n_slot, d->n_ctx),
                                   .scratch_bytes = forward + table,
                                   .tokenizer_bytes = d->vocab_bytes,
                                   .n_thread = s->n_thread,
                                   .disk = s->disk };
    if (!forward || !table || !whole.kv_bytes)
        return err_set(err, ST_RANGE, "draft model: %u slots of %u positions do not fit", d->n_slot,
                       d->n_ctx);
    plan_clear(&d->plan);
    if (plan_make(d->model, &whole, &d->plan, err) != ST_OK)
        return err->code;
    const struct plan *p = &d->plan;
    bool packed = model_bundle(d->model) != NULL; /* keeps its read buffers */
    d->bytes = p->resident_bytes + p->cache_bytes + p->kv_bytes + p->scratch_bytes +
               p->tokenizer_bytes + (packed ? p->staging_bytes : 0);
    in->draft_bytes = d->bytes;
    in->draft_load_bytes = p->pack_bytes + (packed ? 0 : p->staging_bytes);
    return ST_OK;
}

/* ---- life ---- */

enum status engine_draft_load(struct engine_draft *d, const struct engine_setup *s,
                              struct pool *pool, const struct weights_opts *wo, struct err *err)
{
    const struct hparams *hp = model_hparams(d->model);
    const struct weights_opts own = {
        .source = wo->source, .mask_sigma = wo->mask_sigma, .progress = wo->progress, .ctx = wo->ctx
    };
    if (weights_open(d->model, &d->plan, s->kernels, pool, &own, &d->weights, err) ||
        kv_create(hp, d->kv_type, d->n_slot, d->n_ctx, &d->kv, err) ||
        forward_create(d->model, d->weights, d->kv, s->kernels, pool, d->n_slot + d->n_batch,
                       d->n_slot, &d->forward, err))
        return err_ctx(err, "draft model '%s'", d->path);
    return ST_OK;
}

enum status engine_draft_start(const struct engine_draft *d, const struct engine_setup *s,
                               struct forward *own, struct weights *own_weights,
                               struct drafter **ret, struct err *err)
{
    const struct drafter_in in = d ? drafter_of(d) : self_of(s, own, own_weights);
    return drafter_create(&in, ret, err);
}
