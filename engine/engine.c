/* engine/engine.c - see engine.h. Puts the layers together and passes requests on. */
#include "engine/engine.h"

#include "engine/base/clock.h"
#include "engine/base/rss.h"
#include "engine/engine_draft.h"
#include "engine/engine_internal.h"
#include "engine/flash/mask.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

_Static_assert((int)ENGINE_SOURCE_AUTO == SOURCE_AUTO && (int)ENGINE_SOURCE_URING == SOURCE_URING &&
                   (int)ENGINE_SOURCE_PREAD == SOURCE_PREAD &&
                   (int)ENGINE_SOURCE_BUFFERED == SOURCE_BUFFERED &&
                   (int)ENGINE_SOURCE_MMAP == SOURCE_MMAP,
               "the facade's kinds are io's");

const char *engine_flash_name(const struct plan *p)
{
    return p->mode == FLASH_DENSE ? "dense" : p->mode == FLASH_SPARSE ? "sparse" : "off";
}

const char *engine_kv_name(enum dtype t)
{
    return t == DT_F32 ? "f32" : "f16";
}

char *engine_model_id(const struct model *m, const char *path)
{
    char full[PATH_MAX];
    if (!realpath(path, full)) /* it was opened a moment ago; keep the name as given */
        snprintf(full, sizeof full, "%s", path);
    struct str name = str_c(full);
    const char *slash = strrchr(full, '/');
    if (slash && slash[1])
        name = str_c(slash + 1);
    if (!model_dir(m) && str_ends(name, STR(".gguf")))
        name.n -= strlen(".gguf");
    return str_dup(name);
}

struct progress {
    const struct engine_opts *o;
};

static void on_weights(void *ctx, uint64_t done, uint64_t total)
{
    const struct engine_opts *o = ((struct progress *)ctx)->o;
    o->progress(o->progress_ctx, "weights", done, total);
}

/* Threads of the pool take no signals: they are for whoever runs the process. */
static enum status start_pool(struct engine *e, struct err *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    enum status st = pool_create(e->setup.n_thread, &e->pool, err);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return st;
}

static enum status open_neuron_trace(struct engine *e, const struct engine_opts *o, struct err *err)
{
    const struct model *m = e->setup.model;
    const struct bundle *b = model_bundle(m);
    if (!b)
        return err_set(err, ST_UNSUPPORTED,
                       "a neuron trace is of packed models only: strobe pack -m MODEL -o "
                       "PACKED.gguf");
    struct neuron_trace_head h = { .n_layer = b->n_layer,
                                   .n_neuron = b->n_neuron,
                                   .slots = e->setup.plan.slots_per_layer,
                                   .policy = (enum cache_policy)o->cache };
    if (b->n_neuron > NEURON_TRACE_NEURONS_MAX)
        return err_set(err, ST_UNSUPPORTED, "a neuron trace of %u neurons per layer", b->n_neuron);
    neuron_trace_whose(m, h.model);
    return neuron_trace_create(o->neuron_trace, &h, &e->neuron_trace, err);
}

static bool mask_exact(const struct engine_setup *s, const struct engine_opts *o)
{
    const struct bundle *b = model_bundle(s->model);
    return (o->keep <= 0 || o->keep >= 1) && (s->plan.mode == FLASH_DENSE || !b || bundle_exact(b));
}

/* An exact mask is looked at only when that is asked for. */
static uint32_t mask_check(const struct engine *e, const struct engine_opts *o)
{
    if (o->mask_check)
        return o->mask_check == ENGINE_MASK_CHECK_OFF ? 0 : o->mask_check;
    return mask_exact(&e->setup, o) ? 0 : SHADOW_EVERY;
}

enum status engine_load(struct engine *e, const struct engine_opts *o, struct err *err)
{
    const struct engine_setup *s = &e->setup;
    struct progress progress = { o };
    struct weights_opts wo = {
        .source = (enum source_kind)o->source,
        .policy = (enum cache_policy)o->cache,
        .keep = o->keep,
        .no_overlap = o->no_overlap,
        .mask_sigma = o->mask_sigma > 0 ? (float)o->mask_sigma : MASK_SIGMA,
        .mask_check = mask_check(e, o),
        .progress = o->progress ? on_weights : NULL,
        .ctx = &progress,
    };
    if ((unsigned)o->source > ENGINE_SOURCE_MMAP)
        return err_set(err, ST_ARG, "source: no such kind");
    if ((unsigned)o->cache > ENGINE_CACHE_STATIC)
        return err_set(err, ST_ARG, "cache: no such policy");
    if (o->neuron_trace && open_neuron_trace(e, o, err))
        return err->code;
    wo.neuron_trace = e->neuron_trace;
    if (start_pool(e, err) || (s->draft && engine_draft_load(s->draft, s, e->pool, &wo, err)) ||
        weights_open(s->model, &s->plan, s->kernels, e->pool, &wo, &e->weights, err))
        return err->code;
    const struct hparams *hp = model_hparams(s->model);
    if (kv_create(hp, s->kv_type, s->n_slot, s->n_ctx, &e->kv, err))
        return err->code;
    if (forward_create(s->model, e->weights, e->kv, s->kernels, e->pool,
                       scheduler_max_tok(s->n_slot, s->n_batch),
                       scheduler_max_logits(s->n_slot, hp->n_vocab), &e->forward, err))
        return err->code;
    return s->plan.span_tok ? forward_span(e->forward, s->plan.span_tok, err) : ST_OK;
}

/* A sketch is not asked for longer passes (flash/mask.h): they read nearly everything. */
static uint32_t dear_tok(const struct engine_setup *s)
{
    const struct bundle *b = model_bundle(s->model);
    return b && bundle_has_first(b) && s->plan.mode != FLASH_OFF ? MASK_TOKENS + 1 : 0;
}

static enum status start(struct engine *e, const struct engine_opts *o, struct err *err)
{
    const struct engine_setup *s = &e->setup;
    bool streaming = s->plan.streamed_bytes > 0;
    if ((s->draft || (o->draft_self && streaming)) &&
        engine_draft_start(s->draft, s, e->forward, e->weights, &e->drafter, err) != ST_OK)
        return err->code;
    const struct scheduler_in in = {
        .tok = s->tok,
        .weights = e->weights,
        .kv = e->kv,
        .forward = e->forward,
        .kernels = s->kernels,
        .trace = e->trace,
        .n_vocab = model_hparams(s->model)->n_vocab,
        .n_slot = s->n_slot,
        .n_ctx = s->n_ctx,
        .n_batch = s->n_batch,
        .n_span = s->plan.span_tok,
        .queue_max = s->queue_max,
        .streaming = streaming,
        .drafter = e->drafter,
        .dear_tok = dear_tok(s),
        .reuse = streaming ? o->reuse : 0,
    };
    return scheduler_create(&in, &e->sched, err);
}

static void fill_info(struct engine *e, const struct engine_opts *opts, double load_ms)
{
    const struct engine_setup *s = &e->setup;
    const struct bundle *b = model_bundle(s->model);
    const struct hparams *hp = model_hparams(s->model);
    struct stat st;
    e->info = (struct engine_info){
        .model_id = e->model_id,
        .path = e->path,
        .cache_dir = e->cache_dir,
        .arch = hp->arch,
        .quant = model_quant(s->model),
        .hash = model_hash(s->model),
        .n_param = model_n_param(s->model),
        .model_bytes = model_bytes(s->model),
        .ram_budget = s->plan.ram_bytes,
        .resident_bytes = s->plan.resident_bytes + s->plan.cache_bytes,
        .streamed_bytes = s->plan.streamed_bytes,
        .n_ctx = s->n_ctx,
        .n_ctx_train = hp->n_ctx_train,
        .n_vocab = hp->n_vocab,
        .n_layer = hp->n_layer,
        .n_embd = hp->n_embd,
        .n_slot = s->n_slot,
        .n_thread = s->n_thread,
        .queue_max = s->queue_max,
        .flash_mode = engine_flash_name(&s->plan),
        .flash_why = s->plan.why,
        .source = s->plan.mode == FLASH_OFF ? "ram" : weights_stats(e->weights).source,
        .kv_type = engine_kv_name(s->kv_type),
        .cpu_level = cpu_level_name(kernels_level(s->kernels)),
        .mask = b ? bundle_mask_name(b->mask) : "",
        .cache = b ? cache_policy_name((enum cache_policy)opts->cache) : "",
        .draft_model = s->draft           ? s->draft->id
                       : opts->draft_self ? "self"
                                          : "",
        .draft_path = s->draft ? s->draft->path : NULL,
        .draft_bytes = s->plan.draft_bytes,
        .reuse = opts->reuse,
        .exact = mask_exact(s, opts) && (!opts->reuse || s->plan.streamed_bytes == 0),
        .mask_exact = mask_exact(s, opts),
        .mask_check = b ? mask_check(e, opts) : 0,
        .mask_bytes = s->plan.mask_bytes,
        .has_chat_template = s->has_template,
        .chat_template_error = s->chat_err.msg,
        .tokenizer_warning = tokenizer_warning(s->tok),
        .bos = tokenizer_bos(s->tok),
        .eos = tokenizer_eos(s->tok),
        .duo = hp->duo.n_ff > 0,
        .duo_router = hp->duo.n_choice > 0,
        .n_ff_small = hp->duo.n_ff,
        .load_ms = load_ms,
        .created = stat(model_file(s->model, 0), &st) == 0 ? (int64_t)st.st_mtime : 0,
    };
}

enum status engine_open(const struct engine_opts *opts, struct engine **ret, struct err *err)
{
    uint64_t began = clock_ns();
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, ST_NOMEM, "engine");
    if (setup_open(opts, true, &e->setup, err) || setup_plan(opts, &e->setup, err) ||
        plan_check(&e->setup.plan, err))
        goto fail;
    e->model_id = engine_model_id(e->setup.model, opts->model);
    e->path = str_dup(str_c(opts->model));
    if (opts->cache_dir)
        e->cache_dir = str_dup(str_c(opts->cache_dir));
    if (!e->model_id || !e->path || (opts->cache_dir && !e->cache_dir)) {
        err_set(err, ST_NOMEM, "engine");
        goto fail;
    }
    if (engine_load(e, opts, err) || engine_trace_start(e, err))
        goto fail;
    fill_info(e, opts, clock_ms_since(began)); /* before the thread owns the weights */
    if (start(e, opts, err))
        goto fail;
    *ret = e;
    return ST_OK;
fail:
    engine_close(e);
    return opts->model ? err_ctx(err, "model '%s'", opts->model) : err->code;
}

enum status engine_neuron_trace_flush(struct engine *e, struct err *err)
{
    return e->neuron_trace ? neuron_trace_flush(e->neuron_trace, err) : ST_OK;
}

void engine_close(struct engine *e)
{
    struct err lost = ERR_INIT; /* whoever wants to know calls engine_neuron_trace_flush() */
    if (!e)
        return;
    scheduler_free(e->sched);
    drafter_free(e->drafter);
    engine_neuron_trace_flush(e, &lost);
    neuron_trace_close(e->neuron_trace);
    forward_free(e->forward);
    kv_free(e->kv);
    weights_close(e->weights);
    engine_draft_free(e->setup.draft); /* before the pool that it computes with */
    e->setup.draft = NULL;
    pool_free(e->pool);
    trace_free(e->trace);
    setup_clear(&e->setup);
    free(e->model_id);
    free(e->path);
    free(e->cache_dir);
    free(e);
}

const struct engine_info *engine_info(const struct engine *e)
{
    return &e->info;
}

/* ---- requests ---- */

enum status engine_submit(struct engine *e, const int32_t *prompt, size_t n_prompt,
                          const struct gen_params *p, gen_event_fn *fn, void *ctx, uint64_t *id,
                          struct err *err)
{
    return scheduler_submit(e->sched, prompt, n_prompt, p, fn, ctx, id, err);
}

enum status engine_duo_policy(const struct engine *e, const struct duo_words *w,
                              struct duo_policy *ret, struct err *err)
{
    return duo_policy_make(model_hparams(e->setup.model), w, ret, err);
}

void engine_cancel(struct engine *e, uint64_t id)
{
    scheduler_cancel(e->sched, id);
}

bool engine_has_room(const struct engine *e)
{
    return scheduler_has_room(e->sched);
}

void engine_drain(struct engine *e)
{
    scheduler_drain(e->sched);
}

bool engine_idle(const struct engine *e)
{
    return scheduler_idle(e->sched);
}

void engine_stats(const struct engine *e, struct engine_stats *ret)
{
    scheduler_stats(e->sched, ret);
    engine_trace_stats(e, ret);
    uint64_t peak = rss_now().anon_peak;
    if (peak > ret->ram_peak)
        ret->ram_peak = peak;
}

double engine_mass_dropped(const struct engine_stats *st)
{
    return st->mass > 0 ? st->mass_dropped / st->mass : (double)NAN;
}

double engine_hit_rate(const struct engine_info *in, const struct engine_stats *st)
{
    if (st->neurons_needed)
        return 1 - (double)(st->neurons_missed + st->neurons_dropped) / (double)st->neurons_needed;
    double all = (double)in->resident_bytes + (double)in->streamed_bytes;
    return all > 0 ? (double)in->resident_bytes / all : 1;
}
