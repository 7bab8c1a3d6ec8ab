/* engine/engine_setup.c - see engine_setup.h. */
#include "engine/engine_setup.h"

#include "engine/engine_draft.h"
#include "engine/infer/forward.h"
#include "engine/infer/kv.h"
#include "engine/infer/scheduler.h"
#include "engine/kernel/dispatch.h"

#include <string.h>

enum {
    CTX_DEFAULT = 4096,
    CTX_LEAST = 512, /* defaults are not shrunk below it */
    CTX_MAX = 1 << 20,
    SLOT_DEFAULT = 4,
    BATCH_DEFAULT = 512,
    BATCH_LEAST = 128,
    BATCH_MAX = 1 << 16,
    SPAN_DEFAULT = 2048, /* a pass of so many tokens computes for far longer than the disk reads */
    QUEUE_DEFAULT = 64,
    QUEUE_MAX = 1 << 16,
    MACHINE_RESERVE = 8, /* without a cap, 1/8 of the machine is left to others */
    STATE_SHARE = 8      /* of a streamed model's memory, for default slots and batches */
};

/* A template that cannot be used is noted in chat_err; no memory is an error. */
static enum status open_chat(struct engine_setup *s, struct err *err)
{
    struct str own = tokenizer_chat_template(s->tok, NULL);
    struct str tools = tokenizer_chat_template(s->tok, "tool_use");
    s->has_template = own.n > 0;
    struct str source = s->has_template ? own : chat_fallback_template();
    if (chat_compile(source, &s->chat, &s->chat_err) == ST_OK && tools.n > 0)
        chat_compile(tools, &s->chat_tools, &s->chat_err);
    if (s->chat_err.code == ST_NOMEM)
        *err = s->chat_err;
    return err->code;
}

static enum status open_tokenizer(struct engine_setup *s, struct err *err)
{
    const struct gguf *g = model_gguf(s->model);
    return g ? tokenizer_from_gguf(g, NULL, &s->tok, err)
             : tokenizer_from_dir(model_dir(s->model), &s->tok, err);
}

enum status setup_open(const struct engine_opts *o, bool need_tok, struct engine_setup *s,
                       struct err *err)
{
    *s = (struct engine_setup){ 0 };
    if (!o->model || !o->model[0])
        return err_set(err, ST_ARG, "no model given");
    const struct model_opts mo = { .activation = o->activation };
    if (model_open(o->model, &mo, &s->model, err) != ST_OK)
        return err->code;
    if (open_tokenizer(s, &s->tok_err) == ST_OK)
        return open_chat(s, err);
    if (need_tok || s->tok_err.code == ST_NOMEM)
        *err = s->tok_err;
    return err->code;
}

/* ---- sizes ---- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static enum status bounded(uint32_t v, const char *what, uint32_t max, struct err *err)
{
    if (v <= max)
        return ST_OK;
    return err_set(err, ST_ARG, "%s: %u is more than %u", what, v, max);
}

uint32_t setup_positions(const struct model *m)
{
    const struct tensor *pos = model_find(m, TR_POS_EMBD, UINT32_MAX);
    return pos ? pos->n_row - min_u32(model_hparams(m)->pos_offset, pos->n_row) : UINT32_MAX;
}

/* A learned table of positions ends where it ends; rotary models may be stretched on request. */
static enum status check_positions(const struct engine_setup *s, struct err *err)
{
    uint32_t most = setup_positions(s->model);
    if (s->n_ctx > most)
        return err_set(err, ST_ARG, "context: %u is more than the model's %u positions", s->n_ctx,
                       most);
    return ST_OK;
}

/* Everything that keys, values and what attention makes of them pass through. */
static bool attention_is_f32(const struct model *m)
{
    static const enum tensor_role role[] = { TR_Q, TR_K, TR_V, TR_QKV, TR_O };
    for (uint32_t l = 0; l < model_hparams(m)->n_layer; l++)
        for (size_t i = 0; i < sizeof role / sizeof role[0]; i++) {
            const struct tensor *t = model_find(m, role[i], l);
            if (t && t->type != DT_F32)
                return false;
        }
    return true;
}

enum dtype setup_kv_auto(const struct model *m)
{
    return attention_is_f32(m) ? DT_F32 : DT_F16;
}

enum status setup_kv_type(const struct engine_opts *o, struct engine_setup *s, struct err *err)
{
    if ((unsigned)o->kv > ENGINE_KV_F32)
        return err_set(err, ST_ARG, "kv: no such type");
    s->kv_type = o->kv == ENGINE_KV_AUTO  ? setup_kv_auto(s->model)
                 : o->kv == ENGINE_KV_F32 ? DT_F32
                                          : DT_F16;
    return ST_OK;
}

static enum status resolve_sizes(const struct engine_opts *o, struct engine_setup *s,
                                 struct err *err)
{
    uint32_t train = model_hparams(s->model)->n_ctx_train;
    s->n_thread = o->n_thread ? o->n_thread : pool_cores();
    s->n_slot = o->n_slot ? o->n_slot : SLOT_DEFAULT;
    s->n_ctx = o->n_ctx ? o->n_ctx : train ? min_u32(train, CTX_DEFAULT) : CTX_DEFAULT;
    s->n_batch = o->n_batch ? o->n_batch : BATCH_DEFAULT;
    s->queue_max = o->queue_max ? o->queue_max : QUEUE_DEFAULT;
    s->kernels =
        kernels_get(o->cpu_level >= 0 && o->cpu_level < CPU_LEVELS ? (enum cpu_level)o->cpu_level
                                                                   : cpu_level_max());
    if (bounded(s->n_thread, "threads", POOL_THREADS_MAX, err) ||
        bounded(s->n_slot, "slots", ENGINE_SLOTS_MAX, err) ||
        bounded(s->n_ctx, "context", CTX_MAX, err) ||
        bounded(s->n_batch, "batch", BATCH_MAX, err) ||
        bounded(o->n_span, "span", BATCH_MAX, err) ||
        bounded(s->queue_max, "queue", QUEUE_MAX, err))
        return err->code;
    return check_positions(s, err);
}

/* ---- the plan ---- */

/* A pass never has more prompt tokens than all slots hold. */
static uint32_t batch_of(const struct engine_setup *s)
{
    uint64_t most = (uint64_t)s->n_slot * s->n_ctx;
    return most < s->n_batch ? (uint32_t)most : s->n_batch;
}

/* Where prompts may be taken a span at a time, what that would take; shorter than a batch: no span.
 */
static void ask_span(const struct engine_opts *o, const struct engine_setup *s, struct plan_in *in)
{
    const struct hparams *hp = model_hparams(s->model);
    uint64_t most = (uint64_t)s->n_slot * s->n_ctx, want = o->n_span ? o->n_span : SPAN_DEFAULT;
    enum { UNIT = 1024 };
    struct forward_span unit = { .n_tok = UNIT, .packed = model_bundle(s->model) != NULL };
    if (hp->duo.n_ff || (o->keep > 0 && o->keep < 1))
        return;
    in->span_tok = (uint32_t)(want < most ? want : most);
    in->span_least = scheduler_max_tok(s->n_slot, batch_of(s));
    /* per token of so many, so that what is rounded up in a span's parts is counted */
    in->span_tok_bytes = (forward_span_bytes(hp, unit) + UNIT - 1) / UNIT;
}

static enum status plan_once(const struct engine_opts *o, struct engine_setup *s, struct err *err)
{
    static const enum flash_mode mode[] = { [ENGINE_FLASH_AUTO] = FLASH_AUTO,
                                            [ENGINE_FLASH_OFF] = FLASH_OFF,
                                            [ENGINE_FLASH_DENSE] = FLASH_DENSE,
                                            [ENGINE_FLASH_SPARSE] = FLASH_SPARSE };
    const struct hparams *hp = model_hparams(s->model);
    size_t forward = forward_bytes(hp, scheduler_max_tok(s->n_slot, batch_of(s)),
                                   scheduler_max_logits(s->n_slot, hp->n_vocab), s->n_thread);
    size_t own = scheduler_bytes(hp->n_vocab, s->n_slot, s->n_ctx);
    uint64_t machine = plan_memory_limit();
    struct plan_in in = {
        .ram_bytes = o->ram_bytes ? o->ram_bytes : machine - machine / MACHINE_RESERVE,
        .mode = mode[o->flash],
        .kv_bytes = kv_bytes(hp, s->kv_type, s->n_slot, s->n_ctx),
        .scratch_bytes = forward + own + trace_bytes(hp->n_layer),
        .tokenizer_bytes = s->tok ? tokenizer_bytes(s->tok) : 0,
        .n_thread = s->n_thread,
        .keep = o->keep,
        .disk = s->disk,
    };
    ask_span(o, s, &in);
    if (o->draft_self)
        in.scratch_bytes += engine_draft_self_bytes(s);
    if (s->draft && engine_draft_plan(s->draft, s, batch_of(s), &in, err) != ST_OK)
        return err->code;
    if (!forward || !own || !in.kv_bytes)
        return err_set(err, ST_RANGE, "%u slots of %u positions: the sizes do not fit", s->n_slot,
                       s->n_ctx);
    plan_clear(&s->plan);
    return plan_make(s->model, &in, &s->plan, err);
}

/* Makes one default smaller; numbers that the caller chose stay. false: nothing is left. */
static bool shrink(const struct engine_opts *o, struct engine_setup *s)
{
    if (!o->n_batch && s->n_batch > BATCH_LEAST)
        s->n_batch = BATCH_LEAST;
    else if (!o->n_slot && s->n_slot > 1)
        s->n_slot /= 2;
    else if (!o->n_ctx && s->n_ctx > CTX_LEAST)
        s->n_ctx = s->n_ctx / 2 > CTX_LEAST ? s->n_ctx / 2 : CTX_LEAST;
    else
        return false;
    return true;
}

/* Weights are streamed although defaults take much of the memory that they could have: a share of
 * all of it, or, of long prompts' activations, as much as an eighth of the neurons' cache. */
static bool crowded(const struct engine_opts *o, const struct engine_setup *s)
{
    const struct plan *p = &s->plan;
    bool batch = !o->n_batch && s->n_batch > BATCH_LEAST, slots = !o->n_slot && s->n_slot > 1;
    if (!p->streamed_bytes)
        return false;
    if (batch && p->mode == FLASH_SPARSE && p->scratch_bytes > p->cache_bytes / 8)
        return true;
    return (batch || slots) && p->kv_bytes + p->scratch_bytes > p->ram_bytes / STATE_SHARE;
}

enum status setup_plan(const struct engine_opts *o, struct engine_setup *s, struct err *err)
{
    if ((unsigned)o->flash > ENGINE_FLASH_SPARSE)
        return err_set(err, ST_ARG, "flash: no such mode");
    if (setup_kv_type(o, s, err) != ST_OK || resolve_sizes(o, s, err) != ST_OK ||
        engine_draft_check(o, s, err) != ST_OK)
        return err->code;
    if (o->draft_model && !s->draft && engine_draft_open(o, s, err) != ST_OK)
        return err->code;
    if (calibrate_load(o->cache_dir, model_file(s->model, 0), &s->disk, err) != ST_OK)
        return err->code;
    do {
        if (plan_once(o, s, err) != ST_OK)
            return err->code;
    } while ((!s->plan.fits || crowded(o, s)) && shrink(o, s));
    s->n_batch = batch_of(s);
    return ST_OK;
}

void setup_clear(struct engine_setup *s)
{
    engine_draft_free(s->draft);
    plan_clear(&s->plan);
    chat_free(s->chat);
    chat_free(s->chat_tools);
    tokenizer_free(s->tok);
    model_close(s->model);
    *s = (struct engine_setup){ 0 };
}
