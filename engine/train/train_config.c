/* engine/train/train_config.c - see train_config.h.   lint: table */
#include "engine/train/train_config.h"

#include "engine/base/file.h"
#include "engine/base/nearest.h"
#include "engine/base/num.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>

enum kind { U32, U64, F64, BOOL, STR };
enum {
    FREE = 1,       /* may change when a run is resumed */
    LOCAL = 2,      /* names a file of this machine */
    KEY_BYTES = 32, /* bytes of a name */
    FILE_MAX = 1 << 20
};

struct row {
    const char *name;
    enum kind kind;
    size_t at;
    double def, min, max;
    const char *const *words; /* of an enum, in its order, NULL-ended; NULL: a number */
    unsigned flags;
    const char *help;
};

static const char *const norm_words[] = { "rms", "layer", NULL };
static const char *const pos_words[] = { "rope", "learned", NULL };
static const char *const act_words[] = { "silu", "gelu", "relu", "relu2", "fatrelu", NULL };
static const char *const keep_words[] = { "f32", "bf16", NULL };
static const char *const gemm_words[] = { "f32", "bf16", "blas", NULL };
static const char *const attn_words[] = { "tiled", "naive", NULL };
static const char *const schedule_words[] = { "constant", "cosine", "linear", "wsd", NULL };

static const char *const scope_words[] = { "ffn", "layer", NULL };
static const char *const model_words[] = { "f32", "f16", "bf16", "q8_0", "none", NULL };

/* Whole numbers stand as doubles in the table: exact to 2^53, above any bound here. */
#define N_MAX     2147483647.0
#define STEPS_MAX 1e15
#define SEED_MAX  9007199254740992.0

/* The field's type decides how it is read. */
#define KIND(field)                                                                                \
    _Generic(((struct train_config *)NULL)->field, uint32_t: U32, uint64_t: U64, double: F64,      \
             bool: BOOL, char *: STR)
#define R(field, def_, min_, max_, words_, flags_, help_)                                          \
    {                                                                                              \
#field, KIND(field), offsetof(struct train_config, field), def_, min_, max_, words_,       \
            flags_, help_                                                                          \
    }

/* clang-format off */
static const struct row rows[] = {
    R(data, 0, 0, 0, NULL, FREE | LOCAL, "what to learn: token shards (a folder or .tok file) or text (.txt; .jsonl with \"text\" or \"prompt\" and \"response\", of which the prompt is not trained)"),
    R(held_out, 0, 0, 0, NULL, FREE | LOCAL, "what the model is measured on, same kinds (default: the end of data)"),
    R(held_out_fraction, 0.05, 0, 0.9, NULL, 0, "share of data kept for measuring when held_out is not given; 0: none"),
    R(tokenizer, 0, 0, 0, NULL, FREE | LOCAL, "GGUF file with the vocabulary, for text; also goes into the model"),
    R(n_vocab, 0, 0, 1000000, NULL, 0, "size of the vocabulary to learn from data when there is no tokenizer"),
    R(special, 0, 0, 0, NULL, 0, "special tokens of a vocabulary to learn, with commas between; the first ends a document [<|endoftext|>]"),
    R(init, 0, 0, 0, NULL, LOCAL, "checkpoint folder or GGUF file to take the parameters from; act, act_shift, up_relu and norm_relu may be others (default: random)"),
    R(n_layer, 4, 1, 1000, NULL, 0, "layers"),
    R(d_model, 128, 2, 65536, NULL, 0, "width of the residual stream"),
    R(n_head, 4, 1, 1024, NULL, 0, "attention heads"),
    R(n_kv_head, 0, 0, 1024, NULL, 0, "heads of keys and values; 0: n_head"),
    R(d_head, 0, 0, 4096, NULL, 0, "width of a head; 0: d_model / n_head"),
    R(d_ff, 0, 0, 1000000, NULL, 0, "neurons of a layer; 0: 4 d_model, gated 8/3 d_model"),
    R(norm, NET_RMS, 0, 0, norm_words, 0, "normalisation"),
    R(pos, NET_ROPE, 0, 0, pos_words, 0, "positions"),
    R(act, NET_SILU, 0, 0, act_words, 0, "activation of the neurons"),
    R(gated, 1, 0, 0, NULL, 0, "down(act(gate x) * up x) instead of down(act(up x))"),
    R(up_relu, 0, 0, 0, NULL, 0, "gated: ReLU on the up branch too (dReLU)"),
    R(norm_relu, 0, 0, 0, NULL, 0, "ReLU behind the layers' norms"),
    R(tied, 1, 0, 0, NULL, 0, "the head is the token embedding"),
    R(bias, 0, 0, 0, NULL, 0, "biases in linear layers"),
    R(act_shift, 0, -100, 100, NULL, 0, "relu, relu2: max(0, x - shift); fatrelu: its threshold"),
    R(norm_eps, 1e-5, 1e-12, 0.1, NULL, 0, "added to the variance"),
    R(rope_theta, 10000, 1, 1e9, NULL, 0, "base of the rotations"),
    R(d_small, 0, 0, 1000000, NULL, 0, "Duo: neurons of the small feed-forward part beside the big one of every layer; 0: no Duo"),
    R(skip_scope, 0, 0, 0, scope_words, 0, "Duo: what a token that skips leaves out"),
    R(p_big, 0.5, 0, 1, NULL, 0, "Duo: share of tokens sent through the big part of a layer, at random, each layer by itself"),
    R(p_skip, 0, 0, 1, NULL, 0, "Duo: share of tokens sent past it; the rest goes through the small part"),
    R(freeze_big, 0, 0, 0, NULL, 0, "Duo: only the small parts learn (a control)"),
    R(steps, 0, 0, STEPS_MAX, NULL, FREE, "optimiser steps (or give tokens)"),
    R(tokens, 0, 0, STEPS_MAX, NULL, FREE, "tokens to train on, rounded up to whole steps (or give steps)"),
    R(batch, 8, 1, 65536, NULL, 0, "sequences per pass, all machines together"),
    R(ctx, 256, 2, 1 << 20, NULL, 0, "tokens per sequence"),
    R(accumulate, 1, 1, 65536, NULL, 0, "passes per optimiser step"),
    R(shuffle, 1, 0, 0, NULL, 0, "another order of the sequences in each epoch"),
    R(documents, 1, 0, 0, NULL, 0, "attention stays within a document"),
    R(lr, 1e-3, 0, 10, NULL, 0, "highest learning rate"),
    R(lr_end, 0.1, 0, 1, NULL, 0, "last learning rate, as a share of lr"),
    R(schedule, SCHEDULE_COSINE, 0, 0, schedule_words, 0, "learning rate over the run"),
    R(warmup, 0.02, 0, 1, NULL, 0, "share of the steps in which the rate rises from 0"),
    R(decay, 0.2, 0, 1, NULL, 0, "wsd: share of the steps in which it falls at the end"),
    R(beta1, 0.9, 0, 0.9999, NULL, 0, "AdamW: decay of the first moment"),
    R(beta2, 0.95, 0, 0.99999, NULL, 0, "AdamW: decay of the second moment"),
    R(eps, 1e-8, 1e-15, 1, NULL, 0, "AdamW: added to the root of the second moment"),
    R(weight_decay, 0.1, 0, 10, NULL, 0, "of matrices; not norms, biases, embeddings"),
    R(clip, 1, 0, 1e6, NULL, 0, "largest global norm of the gradient; 0: any"),
    R(seed, 1, 0, SEED_MAX, NULL, 0, "of parameters and order"),
    R(gemm, NET_GEMM_F32, 0, 0, gemm_words, 0, "matrix products: f32, bf16 (operands rounded; AVX-512 BF16), blas (f32 by OpenBLAS, for comparison)"),
    R(activations, NET_KEEP_REAL, 0, 0, keep_words, 0, "as what they are kept for the backward pass; bf16: rounded, half the memory"),
    R(attn, NET_ATTN_TILED, 0, 0, attn_words, 0, "attention kernel"),
    R(recompute, 0, 0, 0, NULL, FREE, "keep each layer's input only: less memory, a third more time"),
    R(zero1, 0, 0, 0, NULL, FREE, "several processes: each keeps the moments of its share of the parameters only"),
    R(vocab_chunk, 0, 0, N_MAX, NULL, 0, "logits held at a time; 0: chosen"),
    R(threads, 0, 0, POOL_THREADS_MAX, NULL, FREE, "compute threads; 0: all cores"),
    R(log_every, 1, 1, STEPS_MAX, NULL, FREE, "steps from one line of metrics.jsonl to the next"),
    R(eval_every, 100, 0, STEPS_MAX, NULL, FREE, "steps from one held-out measurement to the next; 0: at the end"),
    R(eval_tokens, 65536, 0, STEPS_MAX, NULL, FREE, "held-out tokens measured; 0: all"),
    R(checkpoint_every, 500, 0, STEPS_MAX, NULL, FREE, "steps from one checkpoint to the next; 0: at the end"),
    R(keep_every, 0, 0, STEPS_MAX, NULL, FREE, "checkpoints of these steps stay beside last and best; 0: none"),
    R(stop_at, 0, 0, STEPS_MAX, NULL, FREE, "stop after this step, as if interrupted; 0: run to the end"),
    R(price_per_hour, 0, 0, 1e6, NULL, FREE, "dollars, for the cost so far"),
    R(model_type, MODEL_F16, 0, 0, model_words, FREE, "matrices of model.gguf"),
    R(name, 0, 0, 0, NULL, FREE, "model.gguf: its name (default: the run's folder)"),
    R(license, 0, 0, 0, NULL, FREE, "model.gguf: its licence"),
    R(description, 0, 0, 0, NULL, FREE, "model.gguf: a sentence about it"),
};
/* clang-format on */
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static void *field_of(struct train_config *c, const struct row *r)
{
    return (char *)c + r->at;
}

static const void *value_of(const struct train_config *c, const struct row *r)
{
    return (const char *)c + r->at;
}

/* ---- names ---- */

/* Lower-case spelling with underscores; false: too long to be one of ours. */
static bool plain_name(struct str key, char out[KEY_BYTES])
{
    if (key.n == 0 || key.n >= KEY_BYTES)
        return false;
    for (size_t i = 0; i < key.n; i++)
        out[i] = key.p[i] == '-' ? '_' : key.p[i];
    out[key.n] = '\0';
    return true;
}

static const struct row *find(struct str key)
{
    char name[KEY_BYTES];
    if (!plain_name(key, name))
        return NULL;
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

bool train_config_has(struct str key)
{
    return find(key) != NULL;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum status unknown(struct str key, struct err *err)
{
    char name[KEY_BYTES];
    int shown = (int)least(key.n, 60);
    struct nearest near = NEAREST_INIT(plain_name(key, name) ? str_c(name) : STR(""));
    for (int i = 0; i < N_ROWS; i++)
        nearest_offer(&near, rows[i].name);
    if (nearest_word(&near))
        return err_set(err, ST_ARG, "there is no setting '%.*s'; did you mean '%s'?", shown, key.p,
                       nearest_word(&near));
    return err_set(err, ST_ARG, "there is no setting '%.*s' (strobe train --help lists them)",
                   shown, key.p);
}

/* ---- values ---- */

static enum status set_number(struct train_config *c, const struct row *r, double v,
                              struct err *err)
{
    if (!(v >= r->min && v <= r->max))
        return err_set(err, ST_RANGE, "%s: %.10g is outside %.10g..%.10g", r->name, v, r->min,
                       r->max);
    if (r->kind != F64 && v != (double)(uint64_t)v)
        return err_set(err, ST_ARG, "%s: %.10g is not a whole number", r->name, v);
    if (r->kind == U32)
        *(uint32_t *)field_of(c, r) = (uint32_t)v;
    else if (r->kind == U64)
        *(uint64_t *)field_of(c, r) = (uint64_t)v;
    else
        *(double *)field_of(c, r) = v;
    return ST_OK;
}

static enum status set_word(struct train_config *c, const struct row *r, struct str v,
                            struct err *err)
{
    char list[120] = "";
    size_t n = 0;
    for (uint32_t i = 0; r->words[i]; i++) {
        if (str_is(v, r->words[i])) {
            *(uint32_t *)field_of(c, r) = i;
            return ST_OK;
        }
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", r->words[i]);
    }
    return err_set(err, ST_ARG, "%s: '%.*s' is none of %s", r->name, (int)least(v.n, 60), v.p,
                   list);
}

static enum status set_text(struct train_config *c, const struct row *r, struct str v,
                            struct err *err)
{
    if (memchr(v.p, '\0', v.n))
        return err_set(err, ST_ARG, "%s: a NUL byte in a path", r->name);
    char *copy = str_dup(v);
    if (!copy)
        return err_set(err, ST_NOMEM, "setting '%s'", r->name);
    free(*(char **)field_of(c, r));
    *(char **)field_of(c, r) = copy;
    return ST_OK;
}

static enum status set_json(struct train_config *c, const struct row *r, const json_t *v,
                            struct err *err)
{
    if (r->words && json_is_string(v))
        return set_word(c, r, str_c(json_string_value(v)), err);
    if (r->kind == STR && json_is_string(v))
        return set_text(c, r, (struct str){ json_string_value(v), json_string_length(v) }, err);
    if (r->kind == BOOL && json_is_boolean(v)) {
        *(bool *)field_of(c, r) = json_is_true(v);
        return ST_OK;
    }
    if (!r->words && r->kind != STR && r->kind != BOOL && json_is_number(v))
        return set_number(c, r, json_number_value(v), err);
    return err_set(err, ST_ARG, "%s must be %s", r->name,
                   r->words || r->kind == STR ? "a string"
                   : r->kind == BOOL          ? "true or false"
                                              : "a number");
}

enum status train_config_set(struct train_config *c, struct str key, struct str value,
                             struct err *err)
{
    const struct row *r = find(key);
    double v;
    if (!r)
        return unknown(key, err);
    if (r->words)
        return set_word(c, r, value, err);
    if (r->kind == STR)
        return set_text(c, r, value, err);
    if (r->kind == BOOL) {
        if (!str_is(value, "true") && !str_is(value, "false"))
            return err_set(err, ST_ARG, "%s: '%.*s' is not true or false", r->name,
                           (int)least(value.n, 60), value.p);
        *(bool *)field_of(c, r) = str_is(value, "true");
        return ST_OK;
    }
    if (num_f64(value, r->name, -DBL_MAX, DBL_MAX, &v, err) != ST_OK)
        return err->code;
    return set_number(c, r, v, err);
}

enum status train_config_json(struct train_config *c, const json_t *obj, struct err *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(obj))
        return err_set(err, ST_ARG, "settings must be a JSON object");
    json_object_foreach((json_t *)obj, key, v)
    {
        const struct row *r = find(str_c(key));
        if (!r)
            return unknown(str_c(key), err);
        if (!json_is_null(v) && set_json(c, r, v, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

enum status train_config_file(struct train_config *c, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    json_t *doc = NULL;
    if (file_slurp(path, FILE_MAX, &text, err) == ST_OK &&
        json_parse_unique(buf_view(&text), path, &doc, err) == ST_OK &&
        train_config_json(c, doc, err) != ST_OK)
        err_ctx(err, "'%s'", path);
    json_free(doc);
    buf_clear(&text);
    return err->code;
}

enum status train_config_init(struct train_config *c, struct err *err)
{
    *c = (struct train_config){ 0 };
    for (int i = 0; i < N_ROWS; i++) {
        const struct row *r = &rows[i];
        enum status st = ST_OK;
        if (r->kind == STR)
            st = set_text(c, r, STR(""), err);
        else if (r->kind == BOOL)
            *(bool *)field_of(c, r) = r->def != 0;
        else if (r->words)
            *(uint32_t *)field_of(c, r) = (uint32_t)r->def;
        else
            st = set_number(c, r, r->def, err);
        if (st != ST_OK) {
            train_config_clear(c);
            return st;
        }
    }
    return ST_OK;
}

void train_config_clear(struct train_config *c)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].kind == STR)
            free(*(char **)field_of(c, &rows[i]));
    *c = (struct train_config){ 0 };
}

/* ---- printing ---- */

static json_t *dump_value(const struct train_config *c, const struct row *r)
{
    const void *v = value_of(c, r);
    if (r->words)
        return json_string(r->words[*(const uint32_t *)v]);
    switch (r->kind) {
    case U32:
        return json_integer(*(const uint32_t *)v);
    case U64:
        return json_integer((json_int_t)(*(const uint64_t *)v));
    case F64:
        return json_real(*(const double *)v);
    case BOOL:
        return json_boolean(*(const bool *)v);
    case STR:
        break;
    }
    return json_text(str_c(*(char *const *)v));
}

json_t *train_config_dump(const struct train_config *c, bool public)
{
    json_t *obj = json_object();
    for (int i = 0; obj && i < N_ROWS; i++)
        if (!(public && (rows[i].flags & LOCAL)) &&
            json_object_set_new(obj, rows[i].name, dump_value(c, &rows[i])) != 0) {
            json_free(obj);
            return NULL;
        }
    return obj;
}

static void value_text(const struct row *r, double def, char out[64])
{
    if (r->words)
        snprintf(out, 64, "%s", r->words[(uint32_t)def]);
    else if (r->kind == BOOL)
        snprintf(out, 64, "%s", def != 0 ? "true" : "false");
    else
        snprintf(out, 64, "%.10g", def);
}

void train_config_help(FILE *out)
{
    fprintf(out, "settings (in the JSON file as \"name\", here as --name VALUE):\n");
    for (int i = 0; i < N_ROWS; i++) {
        const struct row *r = &rows[i];
        char def[64];
        fprintf(out, "  %-18s %s", r->name, r->help);
        for (uint32_t w = 0; r->words && r->words[w]; w++)
            fprintf(out, "%s%s", w ? ", " : ": ", r->words[w]);
        value_text(r, r->def, def);
        fprintf(out, r->kind == STR ? "\n" : " [%s]\n", def);
    }
}

/* ---- comparing ---- */

static bool same_value(const struct train_config *a, const struct train_config *b,
                       const struct row *r)
{
    const void *x = value_of(a, r), *y = value_of(b, r);
    switch (r->kind) {
    case U32:
        return *(const uint32_t *)x == *(const uint32_t *)y;
    case U64:
        return *(const uint64_t *)x == *(const uint64_t *)y;
    case F64:
        return *(const double *)x == *(const double *)y;
    case BOOL:
        return *(const bool *)x == *(const bool *)y;
    case STR:
        break;
    }
    return strcmp(*(char *const *)x, *(char *const *)y) == 0;
}

static enum status differs(const struct row *r, const struct train_config *old,
                           const struct train_config *now, struct err *err)
{
    struct buf a = BUF_INIT, b = BUF_INIT;
    json_t *x = dump_value(old, r), *y = dump_value(now, r);
    if (!x || !y)
        err_set(err, ST_NOMEM, "setting '%s'", r->name);
    else if (json_write(x, &a, err) == ST_OK && json_write(y, &b, err) == ST_OK)
        err_set(err, ST_ARG, "%s is %.60s now, but the run has %.60s; it can only go on as it was",
                r->name, buf_view(&b).p, buf_view(&a).p);
    json_free(x);
    json_free(y);
    buf_clear(&a);
    buf_clear(&b);
    return err->code;
}

enum status train_config_same_run(const struct train_config *old, const struct train_config *now,
                                  struct err *err)
{
    for (int i = 0; i < N_ROWS; i++)
        if (!(rows[i].flags & FREE) && !same_value(old, now, &rows[i]))
            return differs(&rows[i], old, now, err);
    /* What is computed again from rounded inputs is not what was rounded. */
    const struct row *recompute = find(STR("recompute"));
    if (now->activations == NET_KEEP_BF16 && !same_value(old, now, recompute))
        return differs(recompute, old, now, err);
    return ST_OK;
}

/* ---- what follows from the settings ---- */

enum status train_config_check(const struct train_config *c, struct err *err)
{
    if (!c->data[0])
        return err_set(err, ST_ARG, "nothing to learn from: give data");
    if (!c->steps == !c->tokens)
        return err_set(err, ST_ARG, "give either steps or tokens, not %s",
                       c->steps ? "both" : "neither");
    if (c->tokenizer[0] && c->n_vocab)
        return err_set(err, ST_ARG, "give either tokenizer or n_vocab (a vocabulary to learn)");
    if (c->p_big + c->p_skip > 1 + 1e-12)
        return err_set(err, ST_ARG, "p_big and p_skip are %g together, more than all tokens",
                       c->p_big + c->p_skip);
    if (!c->d_small && (c->skip_scope || c->freeze_big))
        return err_set(err, ST_ARG, "%s: only a Duo network (d_small) has that",
                       c->skip_scope ? "skip_scope" : "freeze_big");
    if (c->warmup + (c->schedule == SCHEDULE_WSD ? c->decay : 0) > 1)
        return err_set(err, ST_ARG, "warmup and decay are more than all steps together");
    return ST_OK;
}

enum status train_config_shape(const struct train_config *c, uint32_t n_vocab,
                               struct net_shape *ret, struct err *err)
{
    struct net_shape s = {
        .n_vocab = n_vocab,
        .n_ctx = c->ctx,
        .n_layer = c->n_layer,
        .d_model = c->d_model,
        .n_head = c->n_head,
        .n_kv_head = c->n_kv_head ? c->n_kv_head : c->n_head,
        .d_head = c->d_head ? c->d_head : c->d_model / c->n_head,
        .d_ff = c->d_ff    ? c->d_ff
                : c->gated ? (c->d_model * 8 / 3 + 31) / 32 * 32
                           : 4 * c->d_model,
        .norm = (enum net_norm)c->norm,
        .pos = (enum net_pos)c->pos,
        .act = (enum net_act)c->act,
        .gated = c->gated,
        .up_relu = c->up_relu,
        .norm_relu = c->norm_relu,
        .tied = c->tied,
        .bias = c->bias,
        .act_shift = c->act_shift,
        .norm_eps = c->norm_eps,
        .rope_theta = c->rope_theta,
        .d_small = c->d_small,
        .skip_layer = c->skip_scope == 1,
    };
    if (net_shape_check(&s, err) != ST_OK)
        return err->code;
    *ret = s;
    return ST_OK;
}

uint64_t train_config_step_tokens(const struct train_config *c)
{
    return (uint64_t)c->batch * c->accumulate * c->ctx; /* below 2^52 by the table */
}

uint64_t train_config_steps(const struct train_config *c)
{
    uint64_t per = train_config_step_tokens(c);
    return c->steps ? c->steps : (c->tokens + per - 1) / per;
}

struct schedule train_config_schedule(const struct train_config *c)
{
    uint64_t steps = train_config_steps(c);
    return (struct schedule){ .kind = (enum schedule_kind)c->schedule,
                              .steps = steps,
                              .warmup = (uint64_t)(c->warmup * (double)steps + 0.5),
                              .decay = (uint64_t)(c->decay * (double)steps + 0.5),
                              .lr = c->lr,
                              .end = c->lr_end * c->lr };
}
