/* engine/train/trainer_setup.c - what happens before a run's first step: the folder, the data, the
 * network, the memory plan, the state to go on from. See trainer.h. */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/base/rss.h"
#include "engine/flash/plan.h"
#include "engine/train/export.h"
#include "engine/train/shape_json.h"
#include "engine/train/trainer_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Keeps the uses of one seed apart. */
enum { PURPOSE_INIT = 101, PURPOSE_ORDER };

void trainer_note(const struct trainer *t, const char *fmt, ...)
{
    char text[240];
    va_list ap;
    if (!t->o->watch.note)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    t->o->watch.note(t->o->watch.ctx, text);
}

double trainer_seconds(const struct trainer *t)
{
    return t->before_s + clock_ms_since(t->start_ns) / 1000;
}

/* ---- the folder ---- */

/* Settings that the folder's run began with must be those of now. */
static enum status check_same_run(const struct trainer *t, struct err *err)
{
    struct train_config old = { 0 };
    json_t *doc = NULL;
    if (run_dir_get_json(t->run, "run.json", &doc, err) == ST_OK &&
        train_config_init(&old, err) == ST_OK) {
        if (train_config_json(&old, json_object_get(doc, "config"), err) != ST_OK)
            err_ctx(err, "'%s/run.json'", t->o->dir);
        else
            train_config_same_run(&old, t->config, err);
    }
    train_config_clear(&old);
    json_free(doc);
    return err->code;
}

static enum status open_folder(struct trainer *t, struct err *err)
{
    if (t->reduce->rank != 0)
        return ST_OK;
    if (run_dir_open(t->o->dir, &t->run, err) != ST_OK)
        return err->code;
    if (!run_dir_has(t->run, "run.json"))
        return ST_OK;
    if (!t->o->resume)
        return err_set(err, ST_ARG,
                       "'%s' holds a run already; --resume %s continues it, or choose "
                       "another folder",
                       t->o->dir, t->o->dir);
    return check_same_run(t, err);
}

/* ---- data ---- */

bool train_on_text(void *ctx, uint64_t done, uint64_t total)
{
    const struct train_opts *o = ctx;
    if (o->watch.work)
        o->watch.work(o->watch.ctx, "tokenizing", done, total);
    return !(o->stop && *o->stop);
}

static enum status open_data(struct trainer *t, struct err *err)
{
    const struct train_config *c = t->config;
    const struct train_data_opts o = {
        .config = c,
        .dir = t->o->dir,
        .make = t->run != NULL,
        .progress = train_on_text,
        .ctx = (void *)(uintptr_t)t->o /* read only there */
    };
    if ((o.make && train_data_make(&o, err) != ST_OK) ||
        t->reduce->barrier(t->reduce->ctx, err) != ST_OK ||
        train_data_open(&o, &t->data, err) != ST_OK)
        return err->code;
    t->order = (struct data_order){ .seed = rng_at(c->seed, PURPOSE_ORDER),
                                    .n_tok = c->ctx,
                                    .shuffle = c->shuffle,
                                    .from = t->data.train.from,
                                    .n = t->data.train.n };
    return ST_OK;
}

/* ---- memory ---- */

static size_t batch_bytes(const struct trainer *t)
{
    return (size_t)t->n_row * t->config->ctx * (3 * sizeof(int32_t) + sizeof(float)) +
           trainer_duo_bytes(t, t->n_param);
}

static enum status make_batch(struct trainer *t, struct err *err)
{
    size_t n = (size_t)t->n_row * t->config->ctx;
    t->token = calloc(n, sizeof *t->token);
    t->target = calloc(n, sizeof *t->target);
    t->doc = calloc(n, sizeof *t->doc);
    t->weight = calloc(n, sizeof *t->weight);
    if (!t->token || !t->target || !t->doc || !t->weight)
        return err_set(err, ST_NOMEM, "a batch of %u sequences of %u tokens", t->n_row,
                       t->config->ctx);
    return ST_OK;
}

/* Refused before a page is touched: else the kernel ends this process, or another, hours later. */
static enum status check_memory(const struct train_plan *p, struct err *err)
{
    char need[32], have[32], acts[32];
    uint64_t limit = plan_memory_limit();
    if (p->total <= limit)
        return ST_OK;
    return err_set(err, ST_BUDGET,
                   "the run needs %s of memory, this machine gives %s; a smaller batch (with "
                   "accumulate, the same step), a shorter ctx, recompute and activations bf16 save "
                   "of the %s that activations take",
                   num_size_text(p->total, need), num_size_text(limit, have),
                   num_size_text(p->activations, acts));
}

static enum status make_plan(struct trainer *t, const struct net_opts *o, struct err *err)
{
    struct net_bytes b;
    if (net_plan(o, &b, err) != ST_OK)
        return err->code;
    struct train_plan *p = &t->plan;
    *p = (struct train_plan){ .params = b.params,
                              .grads = b.grads,
                              .activations = b.activations,
                              .scratch = b.scratch,
                              .moments = trainer_share_bytes(t),
                              .batch = batch_bytes(t),
                              .program = rss_now().anon };
    p->total = b.total + p->moments + p->batch + p->program;
    if (t->o->watch.plan)
        t->o->watch.plan(t->o->watch.ctx, p, t->n_param);
    return check_memory(p, err);
}

static enum status make_optim(struct trainer *t, const struct net_shape *s, struct err *err)
{
    const struct train_config *c = t->config;
    uint32_t n = net_n_tensor(s);
    struct net_tensor *tensor = calloc(n, sizeof *tensor);
    if (!tensor)
        return err_set(err, ST_NOMEM, "list of tensors");
    net_tensors(s, tensor);
    struct optim_opts o = { .tensor = tensor,
                            .n_tensor = n,
                            .from = 0,
                            .to = t->n_param,
                            .beta1 = c->beta1,
                            .beta2 = c->beta2,
                            .eps = c->eps,
                            .decay = c->weight_decay,
                            .pool = t->pool };
    if (trainer_share_open(t, &o, err) == ST_OK)
        optim_create(&o, &t->optim, err);
    free(tensor);
    return err->code;
}

static enum status make_net(struct trainer *t, struct err *err)
{
    const struct train_config *c = t->config;
    struct net_opts o = { .batch = t->n_row,
                          .n_tok = c->ctx,
                          .recompute = c->recompute,
                          .attn = (enum net_attn)c->attn,
                          .gemm = (enum net_gemm)c->gemm,
                          .keep = (enum net_keep)c->activations,
                          .vocab_chunk = c->vocab_chunk,
                          .pool = t->pool };
    if (train_config_shape(c, t->data.info.n_vocab, &o.shape, err) != ST_OK)
        return err->code;
    t->n_param = net_n_param(&o.shape);
    rss_reset_peak(); /* tokenizing is over; what counts from here is planned */
    if (make_plan(t, &o, err) != ST_OK || net_create(&o, &t->net, err) != ST_OK ||
        make_optim(t, &o.shape, err) != ST_OK)
        return err->code;
    if (strcmp(net_gemm_name(t->net), "plain C") == 0)
        trainer_note(t,
                     "matrix products by plain C, many times slower: this needs a processor with "
                     "AVX2, or OpenBLAS (libopenblas.so.0; Debian: libopenblas0)");
    return make_batch(t, err) ? err->code : trainer_duo_open(t, err);
}

/* Rows of a pass: shares that differ by one at most, in rank order. */
static enum status share_rows(struct trainer *t, struct err *err)
{
    uint64_t batch = t->config->batch, n = t->reduce->n_rank, rank = t->reduce->rank;
    if (batch < n)
        return err_set(err, ST_ARG, "batch is %u, but %u processes train together",
                       t->config->batch, t->reduce->n_rank);
    t->row = (uint32_t)(batch * rank / n);
    t->n_row = (uint32_t)(batch * (rank + 1) / n) - t->row;
    return ST_OK;
}

/* ---- the state to start from ---- */

/* The parameters mean the same: all but what an experiment may change between two trainings. */
static enum status check_init_shape(const struct trainer *t, const struct net_shape *from,
                                    struct err *err)
{
    struct net_shape here = *net_shape_of(t->net);
    here.act = from->act;
    here.act_shift = from->act_shift;
    here.up_relu = from->up_relu;
    here.norm_relu = from->norm_relu;
    if (here.pos == NET_ROPE) /* no parameter depends on it */
        here.n_ctx = from->n_ctx;
    return shape_same(from, &here, err);
}

static enum status init_from_checkpoint(struct trainer *t, struct err *err)
{
    struct checkpoint from;
    struct checkpoint_arrays a = { .param = net_params(t->net) };
    if (checkpoint_peek(t->config->init, &from, err) != ST_OK ||
        check_init_shape(t, &from.shape, err) != ST_OK)
        return err->code;
    return checkpoint_load(t->config->init, &from.shape, &from, &a, err);
}

static enum status init_from_gguf(struct trainer *t, struct err *err)
{
    struct net_shape shape;
    real *param = NULL;
    if (import_gguf(t->config->init, &shape, &param, err) == ST_OK &&
        check_init_shape(t, &shape, err) == ST_OK)
        memcpy(net_params(t->net), param, t->n_param * sizeof *param);
    free(param);
    return err->code;
}

static enum status fresh_state(struct trainer *t, struct err *err)
{
    const struct train_config *c = t->config;
    const struct net_shape *shape = net_shape_of(t->net);
    if (!c->init[0])
        net_init(t->net, rng_at(c->seed, PURPOSE_INIT));
    else if ((file_is_dir(c->init) ? init_from_checkpoint : init_from_gguf)(t, err) != ST_OK)
        return err_ctx(err, "init '%s'", c->init);
    t->state = (struct checkpoint){ .shape = *shape,
                                    .seed = c->seed,
                                    .data = train_data_identity(&t->data),
                                    .val_loss = (double)NAN,
                                    .best_loss = (double)NAN };
    memcpy(t->state.tokenizer, t->data.info.digest, sizeof t->state.tokenizer);
    return ST_OK;
}

/* What the checkpoint was trained on must be what is there now. */
static enum status check_state(const struct trainer *t, const struct checkpoint *c, struct err *err)
{
    static const unsigned char unknown[32];
    if (memcmp(c->tokenizer, t->data.info.digest, sizeof unknown) != 0)
        return err_set(err, ST_ARG, "the checkpoint was trained with another tokenizer than '%s'",
                       t->config->data);
    if (c->seed != t->config->seed)
        return err_set(err, ST_ARG, "the checkpoint has seed %" PRIu64 ", the settings %" PRIu64,
                       c->seed, t->config->seed);
    if (c->data != train_data_identity(&t->data))
        return err_set(err, ST_ARG, "'%s' is not what the checkpoint was trained on",
                       t->config->data);
    return ST_OK;
}

static enum status load_state(struct trainer *t, struct err *err)
{
    char dir[FILE_PATH_MAX];
    if (file_path(dir, err, "%s/checkpoints/last", t->o->dir) != ST_OK)
        return err->code;
    if (!t->o->resume || !file_is_dir(dir))
        return fresh_state(t, err);
    if (trainer_load(t, dir, err) != ST_OK || check_state(t, &t->state, err) != ST_OK)
        return err_ctx(err, "resume '%s'", t->o->dir);
    trainer_note(t, "resumed at step %" PRIu64, t->state.step);
    return ST_OK;
}

/* ---- what is written before the first step ---- */

static json_t *describe(const struct trainer *t)
{
    const struct train_plan *p = &t->plan;
    return json_pack("{s:s, s:o, s:o, s:I, s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:{s:I, s:I, s:I, "
                     "s:I, s:I, s:I, s:I, "
                     "s:I}, s:s, s:i}",
                     "strobe", STROBE_VERSION, "config", train_config_dump(t->config, false),
                     "shape", shape_dump(net_shape_of(t->net)), "n_param", (json_int_t)t->n_param,
                     "steps", (json_int_t)t->n_step, "data", "tokens",
                     (json_int_t)t->data.info.n_token, "documents", (json_int_t)t->data.info.n_doc,
                     "bytes", (json_int_t)t->data.info.n_byte, "sequences",
                     (json_int_t)t->data.train.n, "held_out_sequences", (json_int_t)t->data.held.n,
                     "memory", "params", (json_int_t)p->params, "grads", (json_int_t)p->grads,
                     "moments", (json_int_t)p->moments, "activations", (json_int_t)p->activations,
                     "scratch", (json_int_t)p->scratch, "batch", (json_int_t)p->batch, "program",
                     (json_int_t)p->program, "total", (json_int_t)p->total, "products",
                     net_gemm_name(t->net), "threads", (int)pool_threads(t->pool));
}

/* Seconds that were lost with a crash were paid for too: the log knows them. */
static enum status open_log(struct trainer *t, struct err *err)
{
    struct run_tail tail = { 0 };
    if (run_dir_log_open(t->run, &tail, err) != ST_OK)
        return err->code;
    t->logged = tail.step;
    t->before_s = fmax(t->state.seconds, tail.seconds);
    return ST_OK;
}

static enum status start_files(struct trainer *t, struct err *err)
{
    t->before_s = t->state.seconds;
    if (!t->run)
        return ST_OK;
    trainer_check_export(t);
    if (run_dir_put_json(t->run, "run.json", describe(t), err) != ST_OK ||
        checkpoint_sweep(t->o->dir, t->config->keep_every, err) != ST_OK)
        return err->code;
    return open_log(t, err);
}

/* ---- all of it ---- */

enum status trainer_open(struct trainer *t, const struct train_opts *o, struct err *err)
{
    const struct train_config *c = o->config;
    *t = (struct trainer){ .o = o,
                           .config = c,
                           .reduce = o->reduce ? o->reduce : reduce_single(),
                           .n_step = train_config_steps(c),
                           .schedule = train_config_schedule(c),
                           .start_ns = clock_ns(),
                           .loss = (double)NAN };
    if (train_config_check(c, err) != ST_OK || share_rows(t, err) != ST_OK ||
        open_folder(t, err) != ST_OK || open_data(t, err) != ST_OK ||
        pool_create(c->threads ? c->threads : pool_cores(), &t->pool, err) != ST_OK ||
        make_net(t, err) != ST_OK || load_state(t, err) != ST_OK)
        return err->code;
    return start_files(t, err);
}

void trainer_close(struct trainer *t)
{
    free(t->token);
    free(t->target);
    free(t->doc);
    free(t->weight);
    trainer_duo_close(t);
    optim_free(t->optim);
    trainer_share_close(t);
    net_free(t->net);
    pool_free(t->pool);
    train_data_close(&t->data);
    run_dir_close(t->run);
}
