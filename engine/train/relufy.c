/* engine/train/relufy.c - see relufy.h. */
#include "engine/train/relufy.h"

#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/train/checkpoint.h"
#include "engine/train/export.h"
#include "engine/train/run_dir.h"
#include "engine/train/train_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 8 }; /* sequences measured at a time */

/* ---- words ---- */

static enum status number_behind(struct str text, size_t at, double *ret, struct err *err)
{
    struct str rest = { text.p + at, text.n - at };
    return num_f64(rest, "the activation's number", 0, 100, ret, err);
}

enum status relufy_parse(struct str text, uint32_t stage, bool gated, struct relufy_to *ret,
                         struct err *err)
{
    static const struct {
        const char *name;
        enum net_act act;
        bool up_relu, number;
    } word[] = { { "relu", NET_RELU, false, false },
                 { "relu2", NET_RELU2, false, false },
                 { "drelu", NET_RELU, true, false },
                 { "shifted_relu:", NET_RELU, false, true },
                 { "fatrelu:", NET_FATRELU, false, true } };
    if (stage < 1 || stage > 2)
        return err_set(err, ST_ARG, "stage %u: 1 (feed-forward) or 2 (behind the norms too)",
                       stage);
    for (size_t i = 0; i < sizeof word / sizeof word[0]; i++) {
        struct relufy_to to = { word[i].act, word[i].up_relu, 0, stage };
        if (word[i].number ? !str_starts(text, str_c(word[i].name)) : !str_is(text, word[i].name))
            continue;
        if (to.up_relu && !gated)
            return err_set(err, ST_ARG, "drelu needs a gated model, this one is not");
        if (word[i].number && number_behind(text, strlen(word[i].name), &to.shift, err) != ST_OK)
            return err->code;
        *ret = to;
        return ST_OK;
    }
    return err_set(err, ST_ARG, "'%.*s' is not relu, relu2, drelu, shifted_relu:B or fatrelu:T",
                   (int)(text.n < 40 ? text.n : 40), text.p);
}

/* ---- settings ---- */

static enum status set_text(char **to, const char *text, struct err *err)
{
    char *copy = strdup(text);
    if (!copy)
        return err_set(err, ST_NOMEM, "settings");
    free(*to);
    *to = copy;
    return ST_OK;
}

enum status relufy_config(const char *from, struct train_config *c, struct net_shape *shape,
                          struct err *err)
{
    real *params = NULL;
    if (import_gguf(from, shape, &params, err) != ST_OK)
        return err->code;
    free(params);
    c->n_layer = shape->n_layer;
    c->d_model = shape->d_model;
    c->n_head = shape->n_head;
    c->n_kv_head = shape->n_kv_head;
    c->d_head = shape->d_head;
    c->d_ff = shape->d_ff;
    c->norm = shape->norm;
    c->pos = shape->pos;
    c->act = shape->act;
    c->gated = shape->gated;
    c->up_relu = shape->up_relu;
    c->norm_relu = shape->norm_relu;
    c->tied = shape->tied;
    c->bias = shape->bias;
    c->act_shift = shape->act_shift;
    c->norm_eps = shape->norm_eps;
    c->rope_theta = shape->rope_theta;
    c->d_small = shape->d_small;
    c->skip_scope = shape->skip_layer;
    c->lr = 1e-4; /* the paper's is lower still, for larger models (flash.md 2.1) */
    if (set_text(&c->init, from, err) == ST_OK)
        set_text(&c->tokenizer, from, err);
    return err->code;
}

void relufy_apply(const struct relufy_to *to, struct train_config *c)
{
    c->act = to->act;
    c->up_relu = to->up_relu;
    c->act_shift = to->shift;
    c->norm_relu = to->stage == 2;
}

/* ---- measuring ---- */

struct scale { /* of a measurement */
    const struct train_config *config;
    const volatile sig_atomic_t *stop;
    const struct train_set *set;
    struct net *net;
    int32_t *token, *target, *doc;
    float *weight;
};

static enum status eval_rows(const struct scale *m, struct net_loss *sum, struct err *err)
{
    uint32_t cols = m->config->ctx;
    struct data_order o = { .n_tok = cols, .from = m->set->from, .n = m->set->n };
    uint64_t want = (m->config->eval_tokens + cols - 1) / cols;
    uint64_t n = want && want < m->set->n ? want : m->set->n;
    bool masked = data_info(m->set->data).masked;
    for (uint64_t i = 0; i < n;) {
        uint32_t rows = 0;
        struct net_loss loss;
        if (m->stop && *m->stop)
            return err_set(err, ST_CANCELLED, "stopped while the model was measured");
        for (; rows < ROWS && i < n; rows++, i++) {
            size_t at = (size_t)rows * cols;
            uint64_t seq = (uint64_t)((unsigned __int128)i * m->set->n / n);
            if (data_seq(m->set->data, &o, seq, m->token + at, m->target + at, m->weight + at,
                         m->doc + at, err) != ST_OK)
                return err->code;
        }
        struct net_batch b = { .rows = rows,
                               .cols = cols,
                               .token = m->token,
                               .target = m->target,
                               .weight = masked ? m->weight : NULL,
                               .doc = m->config->documents ? m->doc : NULL };
        net_eval(m->net, &b, NULL, &loss);
        sum->nll += loss.nll;
        sum->weight += loss.weight;
    }
    return ST_OK;
}

static enum status eval_all(const struct scale *base, struct relufy_point *p, struct err *err)
{
    struct scale m = *base;
    struct net_loss sum = { 0 };
    struct sparsity *sp = NULL;
    size_t n = (size_t)ROWS * m.config->ctx;
    m.token = calloc(n, sizeof *m.token);
    m.target = calloc(n, sizeof *m.target);
    m.doc = calloc(n, sizeof *m.doc);
    m.weight = calloc(n, sizeof *m.weight);
    p->layer = calloc(p->shape.n_layer, sizeof *p->layer);
    if (!m.token || !m.target || !m.doc || !m.weight || !p->layer) {
        err_set(err, ST_NOMEM, "measuring a model");
    } else if (sparsity_create(&p->shape, m.config->ctx, &sp, err) == ST_OK) {
        sparsity_watch(sp, m.net, m.config->ctx);
        if (eval_rows(&m, &sum, err) == ST_OK) {
            sparsity_get(sp, p->layer);
            p->nats = sum.weight > 0 ? sum.nll / sum.weight : (double)NAN;
            p->known = true;
        }
        sparsity_leave(m.net);
    }
    sparsity_free(sp);
    free(m.token);
    free(m.target);
    free(m.doc);
    free(m.weight);
    return err->code;
}

/* params: [net_n_param], borrowed. */
static enum status measure(const struct train_opts *to, const struct train_set *set,
                           const struct net_shape *shape, const real *params,
                           struct relufy_point *p, struct err *err)
{
    const struct train_config *c = to->config;
    struct pool *pool = NULL;
    struct scale m = { .config = c, .stop = to->stop, .set = set };
    struct net_opts o = { .shape = *shape,
                          .batch = ROWS,
                          .n_tok = c->ctx,
                          .infer = true,
                          .attn = (enum net_attn)c->attn };
    p->shape = *shape;
    if (pool_create(c->threads ? c->threads : pool_cores(), &pool, err) != ST_OK)
        return err->code;
    o.pool = pool;
    if (net_create(&o, &m.net, err) == ST_OK) {
        memcpy(net_params(m.net), params, net_n_param(shape) * sizeof *params);
        eval_all(&m, p, err);
    }
    net_free(m.net);
    pool_free(pool);
    return err->code;
}

/* ---- the report ---- */

void relufy_report_clear(struct relufy_report *r)
{
    free(r->before.layer);
    free(r->swapped.layer);
    free(r->after.layer);
    *r = (struct relufy_report){ 0 };
}

static json_t *point_json(const struct relufy_point *p)
{
    if (!p->known)
        return json_null();
    bool finite = isfinite(p->nats);
    return json_pack("{s:o, s:o, s:o}", "nats_per_token", finite ? json_real(p->nats) : json_null(),
                     "perplexity", finite ? json_real(exp(p->nats)) : json_null(), "sparsity",
                     sparsity_json(&p->shape, p->layer));
}

json_t *relufy_report_json(const struct relufy_report *r)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "strobe", STROBE_VERSION, "before",
                     point_json(&r->before), "swapped", point_json(&r->swapped), "after",
                     point_json(&r->after));
}

static enum status put_report(const char *dir, const struct relufy_report *r, struct err *err)
{
    struct run_dir *run = NULL;
    if (run_dir_open(dir, &run, err) == ST_OK)
        run_dir_put_json(run, "relufy.json", relufy_report_json(r), err);
    run_dir_close(run);
    return err->code;
}

/* ---- the run ---- */

/* The model as it came, and as it is right after the swap. */
static enum status measure_first(const struct train_opts *o, const struct train_data *d,
                                 struct relufy_report *r, struct err *err)
{
    struct net_shape was, is;
    real *params = NULL;
    if (import_gguf(o->config->init, &was, &params, err) != ST_OK)
        return err->code;
    was.n_ctx = o->config->ctx > was.n_ctx && was.pos == NET_ROPE ? o->config->ctx : was.n_ctx;
    if (train_config_shape(o->config, was.n_vocab, &is, err) == ST_OK) {
        is.n_ctx = was.n_ctx;
        if (measure(o, &d->held, &was, params, &r->before, err) == ST_OK)
            measure(o, &d->held, &is, params, &r->swapped, err);
    }
    free(params);
    return err->code;
}

static enum status measure_last(const struct train_opts *o, const struct train_data *d,
                                struct relufy_report *r, struct err *err)
{
    char dir[FILE_PATH_MAX];
    struct checkpoint c;
    if (file_path(dir, err, "%s/checkpoints/last", o->dir) != ST_OK ||
        checkpoint_peek(dir, &c, err) != ST_OK)
        return err->code;
    uint64_t n = net_n_param(&c.shape);
    struct checkpoint_arrays a = { .param = calloc(n, sizeof(real)) };
    if (!a.param)
        return err_set(err, ST_NOMEM, "parameters");
    struct net_shape shape = c.shape;
    if (checkpoint_load(dir, &shape, &c, &a, err) == ST_OK)
        measure(o, &d->held, &shape, a.param, &r->after, err);
    free(a.param);
    return err->code;
}

static enum status run_all(const struct train_opts *o, const struct train_data *d,
                           struct relufy_report *r, struct err *err)
{
    if (d->held.n == 0)
        return err_set(err, ST_ARG,
                       "there is no held-out text to measure on: give held_out, or a "
                       "held_out_fraction of data");
    if (measure_first(o, d, r, err) != ST_OK || put_report(o->dir, r, err) != ST_OK ||
        train_run(o, &r->train, err) != ST_OK || r->train.stopped)
        return err->code;
    if (measure_last(o, d, r, err) != ST_OK)
        return err->code;
    return put_report(o->dir, r, err);
}

enum status relufy_run(const struct train_opts *o, struct relufy_report *ret, struct err *err)
{
    struct train_data d = { 0 };
    struct run_dir *run = NULL;
    const struct train_data_opts data = { .config = o->config,
                                          .dir = o->dir,
                                          .make = true,
                                          .progress = train_on_text,
                                          .ctx = (void *)(uintptr_t)o }; /* read only there */
    *ret = (struct relufy_report){ 0 };
    /* The folder and its shards come first: the measurements are on the same held-out text. */
    if (run_dir_open(o->dir, &run, err) == ST_OK) {
        bool used = run_dir_has(run, "run.json") && !o->resume;
        if (used)
            err_set(err, ST_ARG, "'%s' holds a run already; --resume %s continues it", o->dir,
                    o->dir);
        else
            train_data_make(&data, err);
    }
    run_dir_close(run);
    if (err->code == ST_OK && train_data_open(&data, &d, err) == ST_OK)
        run_all(o, &d, ret, err);
    train_data_close(&d);
    if (err->code != ST_OK)
        relufy_report_clear(ret);
    return err->code;
}
