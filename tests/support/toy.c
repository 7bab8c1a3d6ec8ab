/* tests/support/toy.c - see toy.h. */
#include "tests/support/toy.h"

#include "engine/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define R(x)     (UINT64_C(1) << (TR_##x))
#define ENDS     (R(TOKEN_EMBD) | R(OUTPUT_NORM))
#define QKVO     (R(Q) | R(K) | R(V) | R(O))
#define QKVO_B   (R(Q_B) | R(K_B) | R(V_B) | R(O_B))
#define NORMS    (R(ATTN_NORM) | R(FFN_NORM))
#define NORMS_LN (NORMS | R(ATTN_NORM_B) | R(FFN_NORM_B) | R(OUTPUT_NORM_B))
#define GLU      (R(GATE) | R(UP) | R(DOWN))
#define MLP_B    (R(UP) | R(DOWN) | R(UP_B) | R(DOWN_B))
#define LLAMA    (ENDS | QKVO | NORMS | GLU)

/* Fields that are zero here get the defaults of fill_defaults(). */
struct preset {
    const char *name;
    uint64_t roles;
    struct hparams hp;
};

static const struct preset presets[] = {
    { "llama", LLAMA, { .gated = true, .act = ACT_SILU, .rope = ROPE_NORM, .tied = true } },
    { "llama, output matrix, frequency factors",
      LLAMA | R(OUTPUT) | R(ROPE_FREQS),
      { .gated = true, .act = ACT_SILU, .rope = ROPE_NORM, .rope_scaling = ROPE_SCALE_LLAMA3 } },
    { "llama, every bias, linear scaling",
      LLAMA | QKVO_B | R(GATE_B) | R(UP_B) | R(DOWN_B),
      { .gated = true,
        .act = ACT_SILU,
        .rope = ROPE_NORM,
        .rope_scaling = ROPE_SCALE_LINEAR,
        .rope_freq_scale = 0.25f,
        .tied = true } },
    { "llama, yarn",
      LLAMA,
      { .gated = true,
        .act = ACT_SILU,
        .rope = ROPE_NEOX,
        .rope_scaling = ROPE_SCALE_YARN,
        .rope_freq_scale = 0.25f,
        .rope_attn_factor = 1.1386294f,
        .rope_yarn_lo = 1,
        .rope_yarn_hi = 5,
        .tied = true } },
    { "llama, relu", LLAMA, { .gated = true, .act = ACT_RELU, .rope = ROPE_NORM, .tied = true } },
    { "llama, fatrelu",
      LLAMA,
      { .gated = true,
        .act = ACT_FATRELU,
        .act_threshold = 0.1f,
        .rope = ROPE_NORM,
        .tied = true } },
    { "bamboo",
      LLAMA | R(OUTPUT),
      { .gated = true, .act = ACT_RELU, .act_up = ACT_RELU, .rope = ROPE_NORM } },
    { "mistral, window",
      LLAMA | R(OUTPUT),
      { .gated = true,
        .act = ACT_SILU,
        .rope = ROPE_NEOX,
        .window = 9,
        .window_layers = { UINT64_MAX } } },
    { "qwen2",
      LLAMA | R(Q_B) | R(K_B) | R(V_B),
      { .gated = true, .act = ACT_SILU, .rope = ROPE_NEOX, .rope_base = 1e6f, .tied = true } },
    { "qwen3",
      LLAMA | R(Q_NORM) | R(K_NORM),
      { .gated = true, .act = ACT_SILU, .rope = ROPE_NEOX, .d_k = 24, .d_v = 24, .tied = true } },
    { "gemma2",
      LLAMA | R(POST_ATTN_NORM) | R(POST_FFN_NORM),
      { .gated = true,
        .act = ACT_GELU_TANH,
        .rope = ROPE_NEOX,
        .d_k = 32,
        .d_v = 32,
        .embd_scale = 8,
        .attn_softcap = 3,
        .final_softcap = 4,
        .window = 7,
        .window_layers = { 0x5555555555555555 },
        .tied = true } },
    { "phi3, longrope, partial rotation",
      ENDS | R(OUTPUT) | R(QKV) | R(O) | NORMS | GLU | R(ROPE_LONG) | R(ROPE_SHORT),
      { .gated = true,
        .act = ACT_SILU,
        .rope = ROPE_NEOX,
        .n_rot = 12,
        .rope_scaling = ROPE_SCALE_LONGROPE,
        .rope_attn_factor = 1.19f,
        .rope_ctx_orig = 32 } },
    { "gpt2",
      ENDS | R(POS_EMBD) | R(QKV) | R(QKV_B) | R(O) | R(O_B) | NORMS_LN | MLP_B,
      { .norm = NORM_LAYER, .act = ACT_GELU_TANH, .n_kv = 4, .tied = true } },
    { "opt",
      ENDS | R(POS_EMBD) | QKVO | QKVO_B | NORMS_LN | MLP_B,
      { .norm = NORM_LAYER, .act = ACT_RELU, .n_kv = 4, .pos_offset = 2, .tied = true } },
    { "falcon 7b",
      ENDS | R(OUTPUT_NORM_B) | R(ATTN_NORM) | R(ATTN_NORM_B) | R(QKV) | R(O) | R(UP) | R(DOWN),
      { .norm = NORM_LAYER,
        .block = BLOCK_PARALLEL,
        .act = ACT_GELU_TANH,
        .rope = ROPE_NEOX,
        .n_kv = 1,
        .tied = true } },
    { "falcon 40b",
      ENDS | R(OUTPUT) | R(OUTPUT_NORM_B) | R(ATTN_NORM) | R(ATTN_NORM_B) | R(ATTN_NORM2) |
          R(ATTN_NORM2_B) | R(QKV) | R(O) | R(UP) | R(DOWN),
      { .norm = NORM_LAYER, .block = BLOCK_PARALLEL, .act = ACT_GELU_ERF, .rope = ROPE_NEOX } },
    { "parallel, two norms, partial rotation, output bias",
      ENDS | R(OUTPUT) | R(OUTPUT_B) | R(QKV) | R(QKV_B) | R(O) | R(O_B) | NORMS_LN | MLP_B,
      { .norm = NORM_LAYER,
        .block = BLOCK_PARALLEL,
        .act = ACT_RELU2,
        .rope = ROPE_NEOX,
        .n_rot = 4 } },
    { "arcee",
      ENDS | QKVO | NORMS | R(UP) | R(DOWN),
      { .act = ACT_RELU2, .rope = ROPE_NORM, .tied = true } },
    { "llama, shifted relu, relu on the up branch, relu behind the norms",
      LLAMA,
      { .gated = true,
        .act = ACT_SHIFTED_RELU,
        .act_threshold = 0.3f,
        .act_up = ACT_RELU,
        .norm_relu = true,
        .rope = ROPE_NORM,
        .tied = true } },
    { "opt, shifted relu2, relu behind the norms",
      ENDS | R(POS_EMBD) | QKVO | QKVO_B | NORMS_LN | MLP_B,
      { .norm = NORM_LAYER,
        .act = ACT_SHIFTED_RELU2,
        .act_threshold = -0.2f,
        .norm_relu = true,
        .n_kv = 4,
        .pos_offset = 2,
        .tied = true } },
    { "parallel, two norms, relu behind both",
      ENDS | R(OUTPUT) | R(OUTPUT_NORM_B) | R(ATTN_NORM) | R(ATTN_NORM_B) | R(ATTN_NORM2) |
          R(ATTN_NORM2_B) | R(QKV) | R(O) | R(UP) | R(DOWN),
      { .norm = NORM_LAYER,
        .block = BLOCK_PARALLEL,
        .act = ACT_RELU,
        .norm_relu = true,
        .rope = ROPE_NEOX } },
    { "wide values",
      LLAMA,
      { .gated = true,
        .act = ACT_SILU,
        .rope = ROPE_NORM,
        .n_kv = 1,
        .d_k = 8,
        .d_v = 32,
        .tied = true } },
    { "wide",
      LLAMA,
      { .gated = true,
        .act = ACT_SILU,
        .rope = ROPE_NORM,
        .n_embd = 256,
        .d_k = 64,
        .d_v = 64,
        .n_ff = 512,
        .n_vocab = 67,
        .tied = true } },
};

const char *toy_preset(unsigned i)
{
    return i < sizeof presets / sizeof presets[0] ? presets[i].name : NULL;
}

static void fill_u32(uint32_t *field, uint32_t value)
{
    if (*field == 0)
        *field = value;
}

static void fill_f32(float *field, float value)
{
    if (fpclassify(*field) == FP_ZERO)
        *field = value;
}

static void fill_defaults(struct hparams *hp)
{
    hp->arch = "toy";
    fill_u32(&hp->n_layer, 2);
    fill_u32(&hp->n_embd, 64);
    fill_u32(&hp->n_vocab, 101); /* no multiple of a panel */
    fill_u32(&hp->n_ctx_train, 200);
    fill_u32(&hp->n_head, 4);
    fill_u32(&hp->n_kv, 2);
    fill_u32(&hp->d_k, 16);
    fill_u32(&hp->d_v, 16);
    fill_u32(&hp->n_ff, 96);
    fill_u32(&hp->n_rot, hp->d_k);
    fill_f32(&hp->norm_eps, 1e-5f);
    fill_f32(&hp->rope_base, 10000);
    fill_f32(&hp->rope_freq_scale, 1);
    fill_f32(&hp->rope_attn_factor, 1);
    fill_f32(&hp->embd_scale, 1);
    fill_f32(&hp->attn_scale, 1 / sqrtf((float)hp->d_k));
    if (!(hp->gated && hp->act_up == ACT_RELU))
        hp->act_up = ACT_IDENTITY;
}

static bool is_global(enum tensor_role r)
{
    return r <= TR_OUTPUT || (r >= TR_OUTPUT_NORM && r <= TR_ROPE_SHORT);
}

static void shape_of(const struct hparams *hp, enum tensor_role r, uint32_t *row, uint32_t *col)
{
    uint32_t e = hp->n_embd, q = hp->n_head * hp->d_k, k = hp->n_kv * hp->d_k,
             v = hp->n_kv * hp->d_v;
    const uint32_t shape[TR_ROLES][2] = {
        [TR_TOKEN_EMBD] = { hp->n_vocab, e },
        [TR_POS_EMBD] = { hp->n_ctx_train, e },
        [TR_OUTPUT] = { hp->n_vocab, e },
        [TR_Q] = { q, e },
        [TR_K] = { k, e },
        [TR_V] = { v, e },
        [TR_QKV] = { q + k + v, e },
        [TR_O] = { e, hp->n_head * hp->d_v },
        [TR_GATE] = { hp->n_ff, e },
        [TR_UP] = { hp->n_ff, e },
        [TR_DOWN] = { e, hp->n_ff },
        [TR_OUTPUT_B] = { 1, hp->n_vocab },
        [TR_ROPE_FREQS] = { 1, hp->n_rot / 2 },
        [TR_ROPE_LONG] = { 1, hp->n_rot / 2 },
        [TR_ROPE_SHORT] = { 1, hp->n_rot / 2 },
        [TR_Q_B] = { 1, q },
        [TR_K_B] = { 1, k },
        [TR_V_B] = { 1, v },
        [TR_QKV_B] = { 1, q + k + v },
        [TR_Q_NORM] = { 1, hp->d_k },
        [TR_K_NORM] = { 1, hp->d_k },
        [TR_GATE_B] = { 1, hp->n_ff },
        [TR_UP_B] = { 1, hp->n_ff },
    };
    *row = shape[r][0] ? shape[r][0] : 1; /* the others are vectors of n_embd */
    *col = shape[r][0] ? shape[r][1] : e;
}

/* Matrices keep the size of what they multiply, norms lie around one, factors of the rotation are
 * above one, biases and embeddings are large enough to be missed. */
static float sample(struct rng *rng, enum tensor_role r, uint32_t n_col)
{
    float u = (float)(2 * rng_f64(rng) - 1);
    switch (r) {
    case TR_TOKEN_EMBD:
    case TR_POS_EMBD:
        return u;
    case TR_OUTPUT_NORM:
    case TR_ATTN_NORM:
    case TR_ATTN_NORM2:
    case TR_Q_NORM:
    case TR_K_NORM:
    case TR_POST_ATTN_NORM:
    case TR_FFN_NORM:
    case TR_POST_FFN_NORM:
        return 1 + 0.5f * u;
    case TR_ROPE_FREQS:
    case TR_ROPE_LONG:
    case TR_ROPE_SHORT:
        return 2 + u;
    default:
        return r < TR_MATRICES ? 2.5f * u / sqrtf((float)n_col) : 0.4f * u;
    }
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct toy_tensor *toy_at(const struct toy *t, enum tensor_role role, uint32_t layer)
{
    size_t at = layer == UINT32_MAX ? t->hp.n_layer : layer;
    return &t->t[at * TR_ROLES + role];
}

static void pack(struct weights_view *v, enum tensor_role r, const struct toy_tensor *x,
                 const struct kernels *k, enum dtype type, char **at)
{
    size_t row = dtype_row_bytes(type, x->n_col);
    char *src = must(malloc(row * x->n_row));
    for (uint32_t i = 0; i < x->n_row; i++)
        dtype_from_f32(type, x->w + (size_t)i * x->n_col, src + i * row, x->n_col);
    v->m[r] = (struct matrix){ type, x->n_row, x->n_col, *at };
    for (uint32_t p = 0; p < x->n_row; p += PANEL_ROWS) {
        uint32_t n = x->n_row - p < PANEL_ROWS ? x->n_row - p : PANEL_ROWS;
        matrix_pack_panel(k, type, x->n_col, n, src + p * row, *at + p * row);
    }
    *at += (matrix_bytes(type, x->n_row, x->n_col) + 63) / 64 * 64;
    free(src);
}

static void build_views(struct toy *t, const struct kernels *k, enum dtype type)
{
    size_t n_all = (size_t)(t->hp.n_layer + 1) * TR_ROLES, bytes = 64;
    for (size_t i = 0; i < n_all; i++)
        if (t->t[i].w && i % TR_ROLES < TR_MATRICES)
            bytes += matrix_bytes(type, t->t[i].n_row, t->t[i].n_col) + 64;
    t->packed = must(aligned_alloc(64, (bytes + 63) / 64 * 64));
    t->view = must(calloc(t->hp.n_layer + 1, sizeof *t->view));
    char *at = t->packed;
    for (size_t i = 0; i < n_all; i++) {
        struct weights_view *v = &t->view[i / TR_ROLES];
        enum tensor_role r = (enum tensor_role)(i % TR_ROLES);
        if (t->t[i].w && r < TR_MATRICES)
            pack(v, r, &t->t[i], k, type, &at);
        else if (t->t[i].w)
            VIEW_VEC(v, r) = t->t[i].w;
    }
}

struct toy *toy_create(const char *preset, uint64_t seed, const struct kernels *k, enum dtype type)
{
    const struct preset *p = presets;
    while (strcmp(p->name, preset) != 0)
        p++;
    struct toy *t = must(calloc(1, sizeof *t));
    t->hp = p->hp;
    fill_defaults(&t->hp);
    t->fail_layer = t->cancel_layer = UINT32_MAX;
    t->t = must(calloc((size_t)(t->hp.n_layer + 1) * TR_ROLES, sizeof *t->t));
    struct rng rng = { seed };
    for (uint32_t l = 0; l <= t->hp.n_layer; l++)
        for (unsigned r = 0; r < TR_ROLES; r++) {
            bool global = is_global((enum tensor_role)r);
            if (!(p->roles >> r & 1) || global != (l == t->hp.n_layer))
                continue;
            struct toy_tensor *x = &t->t[(size_t)l * TR_ROLES + r];
            shape_of(&t->hp, (enum tensor_role)r, &x->n_row, &x->n_col);
            size_t n = (size_t)x->n_row * x->n_col;
            x->w = must(malloc(n * sizeof *x->w));
            for (size_t i = 0; i < n; i++)
                x->w[i] = sample(&rng, (enum tensor_role)r, x->n_col);
        }
    build_views(t, k, type);
    return t;
}

void toy_factors_to_config(struct toy *t)
{
    struct weights_view *global = &t->view[t->hp.n_layer];
    t->factors_in_config = true;
    for (unsigned r = TR_ROPE_FREQS; r <= TR_ROPE_SHORT; r++)
        VIEW_VEC(global, r) = NULL;
}

void toy_free(struct toy *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < (size_t)(t->hp.n_layer + 1) * TR_ROLES; i++)
        free(t->t[i].w);
    free(t->t);
    free(t->view);
    free(t->packed);
    free(t);
}

/* ---- in place of engine/model and engine/flash ---- */

const struct hparams *model_hparams(const struct model *m)
{
    return &((const struct toy *)m)->hp;
}

const float *model_rope_factors(const struct model *m, enum tensor_role role, uint32_t *n)
{
    const struct toy *t = (const struct toy *)m;
    *n = t->hp.n_rot / 2;
    return t->factors_in_config ? toy_at(t, role, UINT32_MAX)->w : NULL;
}

const struct weights_view *weights_global(const struct weights *w)
{
    const struct toy *t = (const struct toy *)w;
    return &t->view[t->hp.n_layer];
}

const struct weights_view *weights_layer(struct weights *w, uint32_t layer)
{
    struct toy *t = (struct toy *)w;
    /* In order from 0, or again from 0 after a pass that stopped. */
    assert(layer == 0 || layer == t->next_layer);
    if (layer == t->cancel_layer && t->cancel)
        atomic_store(t->cancel, true);
    t->next_layer = layer + 1;
    t->n_get++;
    if (layer != t->fail_layer)
        return &t->view[layer];
    t->failing = t->view[layer];
    t->failing.m[TR_DOWN].data = NULL; /* as if streamed */
    return &t->failing;
}

void weights_round(struct weights *w, bool again)
{
    (void)w;
    (void)again;
}

enum status weights_product(struct weights *w, const struct product *p, struct err *err)
{
    const struct toy *t = (const struct toy *)w;
    assert(p->layer == t->fail_layer && p->role == TR_DOWN);
    return err_set(err, ST_IO, "toy: layer %u does not come", p->layer);
}

bool weights_guesses(const struct weights *w, enum guess_point at, uint32_t layer, size_t n_tok)
{
    (void)w, (void)at, (void)layer, (void)n_tok;
    return false;
}

enum status weights_check(struct weights *w, struct err *err)
{
    (void)w;
    return err->code;
}

void weights_give_up(struct weights *w)
{
    (void)w;
}

void weights_guess(struct weights *w, const struct ffn_guess *g)
{
    (void)w, (void)g;
    assert(!"the toy asks for no guesses");
}

/* Everything is in memory: nothing is read ahead. */
bool weights_streams(const struct weights *w, uint32_t layer)
{
    (void)w, (void)layer;
    return false;
}

bool weights_may_stream(const struct weights *w, uint32_t layer)
{
    (void)w, (void)layer;
    return false;
}

void weights_big_part(struct weights *w, uint32_t layer, enum weights_part p)
{
    (void)w, (void)layer, (void)p;
}

void weights_big_part_note(struct weights *w, uint32_t layer, bool used)
{
    (void)w, (void)layer, (void)used;
}

void weights_big_part_past(struct weights *w, uint32_t layer)
{
    (void)w, (void)layer;
}

void weights_read_ahead(struct weights *w)
{
    (void)w;
}

bool weights_packed(const struct weights *w)
{
    (void)w;
    return false;
}

enum status weights_ffn(struct weights *w, const struct ffn_call *c, struct err *err)
{
    (void)w;
    (void)c;
    return err_set(err, ST_UNSUPPORTED, "toy models are not packed");
}

enum status weights_embed(struct weights *w, const int32_t *token, size_t n, float *x,
                          size_t stride, struct err *err)
{
    (void)w;
    (void)token;
    (void)n;
    (void)x;
    (void)stride;
    return err_set(err, ST_UNSUPPORTED, "toy embeddings are in memory");
}
