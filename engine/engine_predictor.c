/* engine/engine_predictor.c - trains a low-rank mask: runs the model over windows of a text, keeps
 * what each layer's feed-forward part gets and which neurons it fires, then trains layer by layer.
 * It stands in the facade because it needs a forward pass (infer) for the samples and the mask's
 * own arithmetic (flash) for the rest; the trainer of whole models has no part in it. See engine.h.
 *
 * Of ten windows one is for choosing thresholds and one for the report: neighbouring tokens are too
 * alike for the two to be drawn token by token. The model is closed before training begins. */
#include "engine/base/num.h"
#include "engine/engine_internal.h"
#include "engine/flash/predictor.h"
#include "engine/flash/predictor_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOKENS = 16384, /* the paper's 10,000 samples were texts */
    EPOCHS = 4,
    WINDOW_MAX = 512,
    WINDOW_MIN = 32,
    WINDOWS = 40, /* rather short ones than few */
    WINDOWS_LEAST = 10,
    RANK_STEP = 32,   /* whole blocks of Q8_0 */
    LATE_LAYERS = 8,  /* one in so many */
    EARLY_SHARE = 16, /* n_embd / rank; the paper has 4096 / 128, and 4096 / 1024 at the end */
    LATE_SHARE = 4
};

struct maker {
    const struct engine_opts *eo;
    const struct engine_predictor_opts *o;
    struct hparams hp;
    uint32_t n_thread;
    const struct kernels *k;
    char hash[65];
    int32_t *id; /* the text */
    size_t n_id, window, n_window;
    uint32_t bos; /* UINT32_MAX: none */
    struct samples_shape shape;
    struct samples *samples;
    /* the window that is read */
    enum samples_part part;
    size_t at;
    struct err err; /* of the watcher */
    /* the layer that is trained */
    uint64_t step, steps;
    struct predictor pred;
    json_t *layers;
    struct fit_report sum;
};

static void progress(const struct maker *m, const char *what, uint64_t done, uint64_t total)
{
    if (m->eo->progress)
        m->eo->progress(m->eo->progress_ctx, what, done, total);
}

/* ---- windows ---- */

static enum samples_part part_of(size_t window)
{
    return window % 10 == 9 ? SAMPLES_CALIB : window % 10 == 4 ? SAMPLES_TEST : SAMPLES_TRAIN;
}

/* Tokens of the same part in the windows before this one. */
static size_t offset_of(const struct maker *m, size_t window)
{
    size_t n = 0;
    for (size_t i = 0; i < window; i++)
        n += part_of(i) == part_of(window);
    return n * m->window;
}

static size_t start_of(const struct maker *m, size_t window)
{
    size_t spare = m->n_id - m->n_window * m->window;
    return window * m->window + (m->n_window > 1 ? spare * window / (m->n_window - 1) : 0);
}

static enum status cut_windows(struct maker *m, struct err *err)
{
    size_t want = m->o->n_tok ? (size_t)m->o->n_tok : TOKENS;
    want = want < m->n_id ? want : m->n_id;
    m->window = want / WINDOWS;
    m->window = m->window > WINDOW_MAX ? WINDOW_MAX : m->window;
    m->window = m->window < WINDOW_MIN ? WINDOW_MIN : m->window;
    if (m->hp.n_ctx_train && m->window > m->hp.n_ctx_train)
        m->window = m->hp.n_ctx_train;
    m->n_window = want / m->window;
    if (m->n_window < WINDOWS_LEAST)
        return err_set(err, ST_ARG,
                       "%zu tokens are too few to train on: %zu at least (--text, --tokens)", want,
                       WINDOWS_LEAST * m->window);
    m->shape = (struct samples_shape){ m->hp.n_layer, m->hp.n_embd, m->hp.n_ff, { 0 } };
    for (size_t i = 0; i < m->n_window; i++)
        m->shape.n[part_of(i)] += m->window;
    return ST_OK;
}

/* ---- samples ---- */

static void on_ffn(void *ctx, const struct forward_ffn *p)
{
    struct maker *m = ctx;
    const struct samples_put put = {
        .layer = p->layer, .part = m->part, .at = m->at, .n = p->n_tok, .x = p->x, .h = p->h
    };
    if (m->err.code == ST_OK)
        samples_put(m->samples, &put, &m->err);
}

static enum status read_window(struct maker *m, struct engine *e, size_t window, int32_t *token,
                               struct err *err)
{
    const float *logits;
    size_t from = offset_of(m, window), batch = e->setup.n_batch;
    m->part = part_of(window);
    memcpy(token, m->id + start_of(m, window), m->window * sizeof *token);
    if (m->bos != UINT32_MAX)
        token[0] = (int32_t)m->bos;
    for (size_t pos = 0; pos < m->window; pos += batch) {
        size_t n = m->window - pos < batch ? m->window - pos : batch;
        const struct batch_seq seq = { .pos0 = (uint32_t)pos,
                                       .n_tok = (uint32_t)n,
                                       .token = token + pos };
        m->at = from + pos;
        if (forward_run(e->forward, &seq, 1, &logits, err) != ST_OK)
            return err->code;
        if (m->err.code != ST_OK) {
            *err = m->err;
            return err->code;
        }
    }
    return ST_OK;
}

static enum status collect(struct maker *m, struct engine *e, struct err *err)
{
    int32_t *token = malloc(m->window * sizeof *token);
    if (!token)
        return err_set(err, ST_NOMEM, "a window of tokens");
    forward_watch_ffn(e->forward, on_ffn, m);
    for (size_t i = 0; i < m->n_window && err->code == ST_OK; i++) {
        progress(m, "reading windows", i, m->n_window);
        read_window(m, e, i, token, err);
    }
    free(token);
    return err->code;
}

/* ---- a layer's training ---- */

static uint32_t rank_of(const struct maker *m, uint32_t layer)
{
    uint32_t n = m->hp.n_layer, late = n / LATE_LAYERS ? n / LATE_LAYERS : 1;
    bool is_late = layer >= n - late;
    uint32_t given = is_late && m->o->late_rank ? m->o->late_rank : m->o->rank;
    uint32_t share = m->hp.n_embd / (is_late ? LATE_SHARE : EARLY_SHARE);
    share = (share + RANK_STEP - 1) / RANK_STEP * RANK_STEP;
    uint32_t r = given ? given : share;
    return r < m->hp.n_embd ? r : m->hp.n_embd;
}

static void on_step(void *ctx)
{
    struct maker *m = ctx;
    progress(m, "training steps", ++m->step, m->steps);
}

static struct fit_opts fit_of(struct maker *m, struct pool *pool, uint32_t layer)
{
    struct fit_opts f = { .k = m->k,
                          .pool = pool,
                          .n_embd = m->hp.n_embd,
                          .n_ff = m->hp.n_ff,
                          .rank = rank_of(m, layer),
                          .epochs = m->o->epochs ? m->o->epochs : EPOCHS,
                          .seed = m->o->seed + layer,
                          .type = m->o->type >= 0 ? (enum dtype)m->o->type : DT_Q8_0,
                          .recall = m->o->recall > 0 ? m->o->recall : 0.99,
                          .tick = on_step,
                          .ctx = m };
    memcpy(f.n, m->shape.n, sizeof f.n);
    return f;
}

/* ---- the model ---- */

static enum status check(const struct model *m, struct err *err)
{
    if (model_bundle(m))
        return err_set(err, ST_UNSUPPORTED,
                       "the model is packed: a predictor is trained on the file before packing");
    if (!hparams_exact_zeros(model_hparams(m)))
        return err_set(err, ST_UNSUPPORTED,
                       "only ReLU models have neurons that do not fire; this one has another "
                       "activation");
    return ST_OK;
}

static enum status tokenise(struct maker *m, const struct engine *e, struct err *err)
{
    struct token_list ids = { 0 };
    int32_t bos = tokenizer_bos(e->setup.tok);
    if (engine_tokenize(e, m->o->text, false, false, &ids, err) != ST_OK)
        return err->code;
    m->id = ids.id;
    m->n_id = ids.n;
    m->bos = bos < 0 ? UINT32_MAX : (uint32_t)bos;
    return ST_OK;
}

/* The model's memory is free again when training takes its own. */
static enum status check_memory(struct maker *m, struct err *err)
{
    char need[32];
    uint64_t most = 0, base = samples_layer_bytes(m->samples) + m->n_id * sizeof *m->id;
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        struct fit_opts f = fit_of(m, NULL, l);
        size_t bytes = fit_bytes(&f, m->n_thread);
        most = bytes > most ? bytes : most;
    }
    if (!m->eo->ram_bytes || base + most <= m->eo->ram_bytes)
        return ST_OK;
    return err_set(err, ST_BUDGET, "training takes %s: give it more --ram, or fewer --tokens",
                   num_size_text(base + most, need));
}

static enum status gather(struct maker *m, struct err *err)
{
    struct engine_opts eo = *m->eo;
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, ST_NOMEM, "engine");
    if (setup_open(&eo, true, &e->setup, err) != ST_OK || check(e->setup.model, err) != ST_OK ||
        tokenise(m, e, err) != ST_OK)
        goto done;
    m->hp = *model_hparams(e->setup.model);
    snprintf(m->hash, sizeof m->hash, "%s", model_hash(e->setup.model));
    if (cut_windows(m, err) != ST_OK)
        goto done;
    eo.draft_model = NULL; /* nothing is guessed, and nothing reused */
    eo.draft_self = false;
    eo.reuse = 0;
    eo.n_slot = 1;
    eo.n_ctx = (uint32_t)m->window;
    if (setup_plan(&eo, &e->setup, err) != ST_OK || plan_check(&e->setup.plan, err) != ST_OK ||
        samples_create(m->o->out, &m->shape, &m->samples, err) != ST_OK)
        goto done;
    m->n_thread = e->setup.n_thread;
    m->k = e->setup.kernels;
    if (check_memory(m, err) == ST_OK && engine_load(e, &eo, err) == ST_OK)
        collect(m, e, err);
done:
    engine_close(e);
    return err->code;
}

/* ---- training ---- */

static json_t *share(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static enum status note_layer(struct maker *m, uint32_t layer, const struct fit_report *r,
                              struct err *err)
{
    const struct predictor_layer *l = &m->pred.layer[layer];
    json_int_t bytes = (json_int_t)(l->a_bytes + l->b_bytes + 4 * (uint64_t)m->hp.n_ff);
    json_t *d = json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:I}", "layer", (int)layer, "rank",
                          (int)l->rank, "active", share(r->active), "recall", share(r->recall),
                          "precision", share(r->precision), "over_load", share(r->over_load),
                          "missed_mass", share(r->missed_mass), "bytes", bytes);
    m->sum.pairs += r->pairs;
    m->sum.fired += r->fired;
    m->sum.found += r->found;
    m->sum.passed += r->passed;
    m->sum.mass += r->mass;
    m->sum.lost += r->lost;
    return d && json_array_append_new(m->layers, d) == 0 ? ST_OK : err_set(err, ST_NOMEM, "report");
}

static enum status train(struct maker *m, struct err *err)
{
    struct pool *pool = NULL;
    m->layers = json_array();
    if (!m->layers)
        return err_set(err, ST_NOMEM, "report");
    if (predictor_init(&m->pred, m->hp.n_layer, m->hp.n_embd, m->hp.n_ff, err) != ST_OK ||
        pool_create(m->n_thread, &pool, err) != ST_OK)
        return err->code;
    memcpy(m->pred.model, m->hash, sizeof m->hash);
    hparams_act_text(&m->hp, m->pred.activation);
    struct fit_opts f = fit_of(m, pool, 0);
    m->steps = (uint64_t)fit_steps(&f) * m->hp.n_layer;
    for (uint32_t l = 0; l < m->hp.n_layer && err->code == ST_OK; l++) {
        struct samples_layer s;
        struct fit_report r;
        f = fit_of(m, pool, l);
        if (samples_load(m->samples, l, &s, err) == ST_OK &&
            predictor_fit(&f, &s, &m->pred.layer[l], &r, err) == ST_OK)
            note_layer(m, l, &r, err);
        if (err->code != ST_OK)
            err_ctx(err, "layer %u", l);
    }
    pool_free(pool);
    return err->code;
}

/* ---- the report ---- */

static enum status report(struct maker *m, json_t **ret, struct err *err)
{
    const struct fit_report *s = &m->sum;
    json_t *d = json_pack(
        "{s:s, s:I, s:{s:I, s:I, s:I}, s:f, s:o, s:o, s:o, s:o, s:o, s:O}", "file", m->o->out,
        "bytes", (json_int_t)predictor_bytes(&m->pred), "tokens", "trained",
        (json_int_t)m->shape.n[SAMPLES_TRAIN], "calibrated", (json_int_t)m->shape.n[SAMPLES_CALIB],
        "tested", (json_int_t)m->shape.n[SAMPLES_TEST], "recall_wanted",
        m->o->recall > 0 ? m->o->recall : 0.99, "recall", share(s->found / s->fired), "precision",
        share(s->found / s->passed), "over_load", share(s->passed / s->fired), "missed_mass",
        share(s->lost / s->mass), "active", share(s->fired / s->pairs), "layers", m->layers);
    if (!d)
        return err_set(err, ST_NOMEM, "report");
    *ret = d;
    return ST_OK;
}

static enum status write_file(struct maker *m, struct err *err)
{
    const struct fit_report *s = &m->sum;
    m->pred.recall = s->fired > 0 ? s->found / s->fired : 0;
    m->pred.over_load = s->fired > 0 ? s->passed / s->fired : 0;
    return predictor_write(&m->pred, m->o->out, err);
}

static enum status check_opts(const struct engine_predictor_opts *o, struct err *err)
{
    if (!o->out || !o->out[0])
        return err_set(err, ST_ARG, "no output file (-o PRED.gguf)");
    if (o->type >= 0 && !dtype_is_plain((enum dtype)o->type) && o->type != DT_Q8_0)
        return err_set(err, ST_ARG, "the factors of a predictor are F32, F16, BF16 or Q8_0");
    return ST_OK;
}

enum status engine_predictor(const struct engine_opts *opts, const struct engine_predictor_opts *p,
                             json_t **ret, struct err *err)
{
    struct maker m = { .eo = opts, .o = p };
    if (check_opts(p, err) == ST_OK && gather(&m, err) == ST_OK && train(&m, err) == ST_OK &&
        write_file(&m, err) == ST_OK)
        report(&m, ret, err);
    samples_free(m.samples);
    predictor_clear(&m.pred);
    json_free(m.layers);
    free(m.id);
    return err->code == ST_OK || !opts->model ? err->code : err_ctx(err, "model '%s'", opts->model);
}
