/* engine/train/export.c - see export.h. The header is made first, then each tensor is converted
 * some rows at a time and written behind it. */
#include "engine/train/export.h"

#include "engine/kernel/matrix.h"
#include "engine/model/model.h"
#include "engine/model/tokenizer.h"
#include "engine/train/out_file.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum {
    BLOCK = 1 << 16, /* elements converted at a time, or one row */
    OPT_OFFSET = 2,  /* rows before the first position (model-formats.md 4.2) */
    ALIGN = 32,      /* of tensors */
    PARTS = 3        /* Q, K, V */
};

/* A tensor of the file: rows of zeros, then the rows of some of the network's. */
struct piece {
    const real *w;
    uint32_t rows;
};
struct out_tensor {
    char name[64];
    enum dtype type;
    uint32_t n_dim, cols, zero_rows, n_part;
    struct piece part[PARTS];
    uint64_t rows, bytes;
};
struct export
{
    const struct export_opts *o;
    const struct net_shape *s;
    const char *arch;
    struct hparams hp; /* of the activation only */
    struct out_tensor *t;
    uint32_t n_tensor;
    struct gguf *vocab;
    struct buf vocab_bytes; /* what vocab points into, for a struct bpe */
    struct gguf_writer *w;
};

/* ---- what the shape is called ---- */

static enum status act_of(const struct net_shape *s, struct hparams *hp, struct err *err)
{
    bool shift = (float)s->act_shift > 0 || (float)s->act_shift < 0;
    static const enum act_kind kind[][2] = { [NET_SILU] = { ACT_SILU, ACT_SILU },
                                             [NET_GELU] = { ACT_GELU_TANH, ACT_GELU_TANH },
                                             [NET_RELU] = { ACT_RELU, ACT_SHIFTED_RELU },
                                             [NET_RELU2] = { ACT_RELU2, ACT_SHIFTED_RELU2 },
                                             [NET_FATRELU] = { ACT_FATRELU, ACT_FATRELU } };
    if (s->act == NET_FATRELU && s->act_shift < 0)
        return err_set(err, ST_UNSUPPORTED, "FATReLU with a threshold of %g, below zero",
                       s->act_shift);
    if (fabs(s->act_shift) > 1e6)
        return err_set(err, ST_RANGE, "act_shift: %g is outside -1e6..1e6", s->act_shift);
    hp->act = kind[s->act][shift];
    hp->act_threshold = (float)s->act_shift;
    hp->gated = s->gated;
    hp->act_up = s->gated && s->up_relu ? ACT_RELU : ACT_IDENTITY;
    return ST_OK;
}

enum status export_arch(const struct net_shape *s, const char **ret, struct err *err)
{
    if (net_shape_check(s, err) != ST_OK)
        return err->code;
    if (s->norm == NET_RMS && s->pos == NET_ROPE) {
        *ret = s->gated ? "llama" : "arcee";
        return ST_OK;
    }
    const char *why = s->norm != NET_LAYER    ? "RMSNorm with learned positions"
                      : s->pos != NET_LEARNED ? "LayerNorm with RoPE"
                      : s->gated              ? "LayerNorm with a gate"
                      : !s->bias              ? "LayerNorm without biases"
                                              : NULL;
    if (why)
        return err_set(err, ST_UNSUPPORTED,
                       "no GGUF architecture has %s; RMSNorm with RoPE has one, and LayerNorm with "
                       "learned positions, biases and no gate",
                       why);
    *ret = s->act == NET_GELU && !s->norm_relu ? "gpt2" : "opt";
    return ST_OK;
}

/* What a program that ignores our keys computes is not this network. */
static bool needs_us(const struct export *e)
{
    enum act_kind plain = strcmp(e->arch, "llama") == 0   ? ACT_SILU
                          : strcmp(e->arch, "arcee") == 0 ? ACT_RELU2
                          : strcmp(e->arch, "gpt2") == 0  ? ACT_GELU_TANH
                                                          : ACT_RELU;
    return e->hp.act != plain || e->hp.act_up != ACT_IDENTITY || e->s->norm_relu;
}

/* ---- the vocabulary ---- */

static enum status open_vocab(struct export *e, struct err *err)
{
    struct tokenizer *t;
    if (!e->o->vocab_path == !e->o->bpe)
        return err_set(err, ST_ARG, "export: one vocabulary is needed, a file or a learned one");
    if (e->o->vocab_path && gguf_open(e->o->vocab_path, &e->vocab, err) != ST_OK)
        return err->code;
    if (e->o->bpe) {
        struct gguf_writer w;
        gw_init(&w);
        bpe_write_gguf(e->o->bpe, &w);
        gw_bytes(&w, &e->vocab_bytes);
        e->vocab_bytes.failed |= w.kv.failed;
        gw_clear(&w);
        if (buf_ok(&e->vocab_bytes, "vocabulary", err) != ST_OK ||
            gguf_parse(buf_view(&e->vocab_bytes), &e->vocab, err) != ST_OK)
            return err->code;
    }
    if (tokenizer_from_gguf(e->vocab, NULL, &t, err) != ST_OK)
        return err_ctx(err, "vocabulary '%s'", e->o->vocab_path ? e->o->vocab_path : "learned");
    uint32_t n = tokenizer_n_vocab(t);
    tokenizer_free(t);
    if (n > e->s->n_vocab)
        return err_set(err, ST_ARG, "the vocabulary has %u tokens, the network only %u", n,
                       e->s->n_vocab);
    return ST_OK;
}

/* Tokens and "[PADn]" up to the network's rows. */
static bool put_tokens(struct export *e, const struct gguf_kv *kv)
{
    uint32_t n = e->s->n_vocab, have = (uint32_t)kv->n;
    enum { NAME = 24 };
    struct str *s = calloc(n, sizeof *s);
    char *pad = malloc((size_t)(n - have) * NAME + 1);
    for (uint32_t i = 0; s && pad && i < n; i++) {
        char *name = pad + (size_t)(i < have ? 0 : i - have) * NAME;
        if (i >= have)
            snprintf(name, NAME, "[PAD%u]", i);
        s[i] = i < have ? kv->text[i] : str_c(name);
    }
    bool ok = s && pad;
    if (ok)
        gw_strs(e->w, "tokenizer.ggml.tokens", s, n);
    free(s);
    free(pad);
    return ok;
}

/* Numbers beside the tokens: types (the rest unused) or scores (the rest below all others). kv NULL
 * where the file has none. */
static bool put_numbers(struct export *e, const struct gguf_kv *kv, bool types)
{
    enum { NORMAL = 1, UNUSED = 5 }; /* model-formats.md 9.1 */
    uint32_t n = e->s->n_vocab, have = (uint32_t)gguf_find(e->vocab, "tokenizer.ggml.tokens")->n;
    size_t bytes = (size_t)n * 4;
    int32_t *type = types ? malloc(bytes) : NULL;
    float *score = types ? NULL : malloc(bytes);
    for (uint32_t i = 0; (type || score) && i < n; i++) {
        if (types)
            type[i] = i >= have ? UNUSED : kv ? (int32_t)gguf_arr_i64(kv, i) : NORMAL;
        else
            score[i] = i >= have ? -1e6f : (float)gguf_arr_f64(kv, i);
    }
    bool ok = type || score;
    if (type)
        gw_array(e->w, "tokenizer.ggml.token_type", GGUF_I32, type, n, bytes);
    if (score)
        gw_array(e->w, "tokenizer.ggml.scores", GGUF_F32, score, n, bytes);
    free(type);
    free(score);
    return ok;
}

/* The tokenizer was opened, so that these arrays have their types and lengths. */
static void put_vocab(struct export *e)
{
    bool ok = true;
    for (uint64_t i = 0; i < gguf_n_kv(e->vocab); i++) {
        const struct gguf_kv *kv = gguf_kv_at(e->vocab, i);
        if (!str_starts(kv->key, STR("tokenizer.")) || str_is(kv->key, "tokenizer.ggml.token_type"))
            continue;
        if (str_is(kv->key, "tokenizer.ggml.tokens"))
            ok &= put_tokens(e, kv);
        else if (str_is(kv->key, "tokenizer.ggml.scores"))
            ok &= put_numbers(e, kv, false);
        else
            gw_kv(e->w, kv);
    }
    ok &= put_numbers(e, gguf_find(e->vocab, "tokenizer.ggml.token_type"), true);
    e->w->kv.failed |= !ok;
}

/* ---- metadata ---- */

static const char *key(const struct export *e, const char *name, char out[96])
{
    snprintf(out, 96, "%s.%s", e->arch, name);
    return out;
}

static void put_description(struct export *e, const char *act)
{
    struct buf b = BUF_INIT;
    buf_str(&b, e->o->description);
    if (needs_us(e) && strcmp(e->arch, "opt") != 0)
        buf_printf(&b,
                   "%sThe feed-forward activation is %s%s (strobe.activation%s). Programs that do "
                   "not read these keys compute %s in its place and give nonsense.",
                   b.n ? " " : "", act,
                   e->s->norm_relu ? ", the norms before it are rectified" : "",
                   e->s->norm_relu ? ", strobe.norm_relu" : "",
                   strcmp(e->arch, "llama") == 0 ? "SiLU" : "relu squared");
    if (b.n || b.failed)
        gw_text(e->w, "general.description", buf_view(&b));
    e->w->kv.failed |= b.failed;
    buf_clear(&b);
}

static void put_duo(struct export *e)
{
    const struct export_router *r = e->o->router;
    if (!e->s->d_small)
        return;
    gw_u32(e->w, "strobe.duo.version", 1);
    gw_u32(e->w, "strobe.duo.small_feed_forward_length", e->s->d_small);
    gw_str(e->w, "strobe.duo.skip_scope", e->s->skip_layer ? "layer" : "ffn");
    if (!r)
        return;
    size_t bytes = r->hp.n_budget * sizeof(float);
    gw_u32(e->w, "strobe.duo.router.choices", r->hp.n_choice);
    gw_u32(e->w, "strobe.duo.router.hidden", r->hp.n_hidden);
    gw_array(e->w, "strobe.duo.router.budgets", GGUF_F32, r->hp.budget, r->hp.n_budget, bytes);
    gw_array(e->w, "strobe.duo.router.thresholds", GGUF_F32, r->hp.threshold, r->hp.n_budget,
             bytes);
}

static void put_general(struct export *e)
{
    const struct export_opts *o = e->o;
    char act[ACT_TEXT_MAX];
    static const struct {
        enum dtype type;
        uint32_t id; /* model-formats.md 1.4 */
    } file_type[] = { { DT_F32, 0 }, { DT_F16, 1 }, { DT_Q8_0, 7 }, { DT_BF16, 32 } };
    gw_str(e->w, "general.architecture", e->arch);
    gw_str(e->w, "general.type", "model");
    gw_str(e->w, "general.name", o->name ? o->name : "model");
    if (o->license.n)
        gw_text(e->w, "general.license", o->license);
    hparams_act_text(&e->hp, act);
    put_description(e, act);
    for (size_t i = 0; i < sizeof file_type / sizeof file_type[0]; i++)
        if (file_type[i].type == o->type)
            gw_u32(e->w, "general.file_type", file_type[i].id);
    if (o->type == DT_Q8_0)
        gw_u32(e->w, "general.quantization_version", 2);
    if (o->recipe.n)
        gw_text(e->w, "strobe.recipe", o->recipe);
    gw_str(e->w, "strobe.activation", act);
    if (e->s->norm_relu)
        gw_bool(e->w, "strobe.norm_relu", true);
    put_duo(e);
}

static void put_shape(struct export *e)
{
    const struct net_shape *s = e->s;
    char k[96];
    const struct {
        const char *name;
        uint32_t v;
    } rows[] = { { "context_length", s->n_ctx },        { "embedding_length", s->d_model },
                 { "block_count", s->n_layer },         { "feed_forward_length", s->d_ff },
                 { "attention.head_count", s->n_head }, { "attention.head_count_kv", s->n_kv_head },
                 { "attention.key_length", s->d_head }, { "attention.value_length", s->d_head },
                 { "vocab_size", s->n_vocab } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        gw_u32(e->w, key(e, rows[i].name, k), rows[i].v);
    gw_f32(e->w,
           key(e,
               s->norm == NET_RMS ? "attention.layer_norm_rms_epsilon"
                                  : "attention.layer_norm_epsilon",
               k),
           (float)s->norm_eps);
    if (s->pos == NET_ROPE) {
        gw_u32(e->w, key(e, "rope.dimension_count", k), s->d_head);
        gw_f32(e->w, key(e, "rope.freq_base", k), (float)s->rope_theta);
    }
}

/* ---- the tensor table ---- */

static enum dtype type_of(const struct export *e, const struct net_tensor *t)
{
    bool position = strcmp(t->name, "position_embd.weight") == 0;
    if (t->rows == 1 || position)
        return DT_F32;
    return dtype_row_bytes(e->o->type, t->cols) ? e->o->type : DT_F16;
}

/* gpt2 joins attn_q, attn_k, attn_v in this order: the tensor of the file that t belongs to. */
static void name_of(const struct export *e, const struct net_tensor *t, char out[64])
{
    const char *stem = strstr(t->name, "attn_"), *dot = stem ? strchr(stem, '.') : NULL;
    bool qkv = dot && dot - stem == 6 && strchr("qkv", stem[5]);
    if (qkv && strcmp(e->arch, "gpt2") == 0)
        snprintf(out, 64, "blk.%d.attn_qkv%s", (int)t->layer, dot);
    else
        snprintf(out, 64, "%s", t->name);
}

/* t is a vector of the file: a row of one, or biases side by side. */
static void add_tensor(struct export *e, const struct net_tensor *t)
{
    char name[64];
    name_of(e, t, name);
    bool vector = t->rows == 1;
    struct out_tensor *x = NULL;
    for (uint32_t i = e->n_tensor; i > 0 && !x && i + 2 * PARTS > e->n_tensor; i--)
        if (strcmp(e->t[i - 1].name, name) == 0)
            x = &e->t[i - 1];
    if (!x) {
        x = &e->t[e->n_tensor++];
        *x = (struct out_tensor){ .type = type_of(e, t), .n_dim = vector ? 1 : 2 };
        memcpy(x->name, name, sizeof name);
        x->cols = vector ? 1 : t->cols; /* vectors: "rows" of one element, so that biases join */
        if (strcmp(e->arch, "opt") == 0 && strcmp(name, "position_embd.weight") == 0)
            x->zero_rows = OPT_OFFSET;
        x->rows = x->zero_rows;
    }
    uint32_t rows = vector ? t->cols : t->rows;
    x->part[x->n_part++] = (struct piece){ e->o->params + t->at, rows };
    x->rows += rows;
}

/* Routers stay f32: they are small, and a choice hangs on their last digits. */
static void add_router(struct export *e, const char *name, const real *w, uint32_t rows,
                       uint32_t cols)
{
    for (uint32_t l = 0; w && l < e->s->n_layer; l++) {
        struct out_tensor *x = &e->t[e->n_tensor++];
        bool vector = cols == 1;
        *x = (struct out_tensor){ .type = DT_F32, .n_dim = vector ? 1 : 2, .cols = cols };
        snprintf(x->name, sizeof x->name, "blk.%u.%s", l, name);
        x->part[x->n_part++] = (struct piece){ w + (size_t)l * rows * cols, rows };
        x->rows = rows;
    }
}

static void add_routers(struct export *e)
{
    const struct export_router *r = e->o->router;
    if (!r)
        return;
    uint32_t in = r->hp.n_hidden ? r->hp.n_hidden : e->s->d_model;
    add_router(e, "duo_router_in.weight", r->in, r->hp.n_hidden, e->s->d_model);
    add_router(e, "duo_router_in.bias", r->in_bias, r->hp.n_hidden, 1);
    add_router(e, "duo_router.weight", r->w, r->hp.n_choice, in);
    add_router(e, "duo_router.bias", r->bias, r->hp.n_choice, 1);
}

void export_router_clear(struct export_router *r)
{
    free(r->in);
    free(r->in_bias);
    free(r->w);
    free(r->bias);
    *r = (struct export_router){ .in = NULL };
}

static enum status make_table(struct export *e, struct err *err)
{
    uint32_t n = net_n_tensor(e->s);
    struct net_tensor *t = calloc(n, sizeof *t);
    e->t = calloc(n + 4 * (size_t)e->s->n_layer, sizeof *e->t);
    if (!t || !e->t) {
        free(t);
        return err_set(err, ST_NOMEM, "tensor table");
    }
    net_tensors(e->s, t);
    for (uint32_t i = 0; i < n; i++)
        add_tensor(e, &t[i]);
    add_routers(e);
    free(t);
    return ST_OK;
}

static void put_table(struct export *e)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < e->n_tensor; i++) {
        struct out_tensor *x = &e->t[i];
        uint64_t ne[2] = { x->n_dim == 1 ? x->rows : x->cols, x->rows };
        x->bytes = dtype_row_bytes(x->type, x->cols) * x->rows;
        gw_tensor_at(e->w, x->name, (uint32_t)x->type, x->n_dim, ne, offset);
        offset += (x->bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
}

/* ---- data ---- */

static enum status check_number(const struct out_tensor *t, float v, struct err *err)
{
    if (!isfinite(v))
        return err_set(err, ST_RANGE, "tensor '%s' holds a number that is not finite", t->name);
    if (t->type == DT_F16 && fabsf(v) > 65504)
        return err_set(err, ST_RANGE, "tensor '%s' holds %g, F16 ends at 65504", t->name,
                       (double)v);
    return ST_OK;
}

struct block {
    float *x;
    void *bytes;
    uint32_t rows; /* that fit */
};

static enum status put_rows(const struct out_tensor *t, const struct block *b, const real *w,
                            uint32_t n_row, struct out_file *f, struct err *err)
{
    for (uint32_t from = 0, n; from < n_row && err->code == ST_OK; from += n) {
        n = n_row - from < b->rows ? n_row - from : b->rows;
        size_t elems = (size_t)n * t->cols;
        for (size_t i = 0; i < elems; i++) {
            b->x[i] = w ? (float)w[(size_t)from * t->cols + i] : 0;
            if (check_number(t, b->x[i], err) != ST_OK)
                return err->code;
        }
        dtype_from_f32(t->type, b->x, b->bytes, elems);
        out_file_put(f, b->bytes, dtype_row_bytes(t->type, t->cols) * n, err);
    }
    return err->code;
}

static enum status put_tensor(const struct out_tensor *t, struct out_file *f, struct err *err)
{
    static const char zeros[ALIGN];
    assert(t->cols > 0);
    struct block b = { .rows = t->cols < BLOCK ? BLOCK / t->cols : 1 };
    b.x = malloc((size_t)b.rows * t->cols * sizeof *b.x);
    b.bytes = malloc((size_t)b.rows * dtype_row_bytes(t->type, t->cols));
    if (!b.x || !b.bytes)
        err_set(err, ST_NOMEM, "tensor '%s'", t->name);
    else
        put_rows(t, &b, NULL, t->zero_rows, f, err);
    for (uint32_t i = 0; i < t->n_part && err->code == ST_OK; i++)
        put_rows(t, &b, t->part[i].w, t->part[i].rows, f, err);
    free(b.x);
    free(b.bytes);
    return err->code ? err->code : out_file_put(f, zeros, -t->bytes % ALIGN, err);
}

static enum status put_all(struct export *e, struct out_file *f, struct err *err)
{
    struct buf head = BUF_INIT;
    gw_bytes(e->w, &head);
    head.failed |= e->w->kv.failed || e->w->info.failed;
    if (buf_ok(&head, "header", err) == ST_OK)
        out_file_put(f, head.p, head.n, err);
    buf_clear(&head);
    for (uint32_t i = 0; i < e->n_tensor && err->code == ST_OK; i++)
        put_tensor(&e->t[i], f, err);
    return err->code;
}

/* What our own loader refuses (an odd head size, more layers than it takes) is not kept. */
static enum status check_file(const char *path, struct err *err)
{
    struct model *m = NULL;
    if (model_open(path, NULL, &m, err) == ST_OK && model_warning(m)[0])
        err_set(err, ST_FORMAT, "%s", model_warning(m));
    model_close(m);
    return err->code;
}

static enum status write_file(struct export *e, struct err *err)
{
    struct out_file *f = NULL;
    if (out_file_create(e->o->path, &f, err) != ST_OK)
        return err->code;
    if (put_all(e, f, err) != ST_OK || check_file(out_file_partial(f), err) != ST_OK) {
        out_file_abandon(f);
        return err->code;
    }
    return out_file_commit(f, err);
}

enum status export_gguf(const struct export_opts *o, struct err *err)
{
    struct gguf_writer w;
    struct export e = { .o = o, .s = o->shape, .w = &w };
    if (o->type != DT_F32 && o->type != DT_F16 && o->type != DT_BF16 && o->type != DT_Q8_0)
        return err_set(err, ST_UNSUPPORTED, "export as F32, F16, BF16 or Q8_0");
    if (o->router && !o->shape->d_small)
        return err_set(err, ST_ARG, "export: a router, but no Duo network");
    gw_init(&w);
    if (export_arch(o->shape, &e.arch, err) == ST_OK && act_of(o->shape, &e.hp, err) == ST_OK &&
        open_vocab(&e, err) == ST_OK) {
        put_general(&e);
        put_shape(&e);
        put_vocab(&e);
        if (make_table(&e, err) == ST_OK) {
            put_table(&e);
            write_file(&e, err);
        }
    }
    free(e.t);
    gguf_close(e.vocab);
    buf_clear(&e.vocab_bytes);
    gw_clear(&w);
    return err->code ? err_ctx(err, "export to '%s'", o->path) : ST_OK;
}
