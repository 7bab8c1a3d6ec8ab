/* engine/model/arch.c - see arch.h. Ten architectures as facts over shared blocks. */
#include "engine/model/arch.h"

#include "engine/model/gguf_header.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#define R(x)        ROLE(TR_##x)
#define ENDS_RMS    (R(TOKEN_EMBD) | R(OUTPUT_NORM))
#define ENDS_LN     (ENDS_RMS | R(OUTPUT_NORM_B))
#define QKVO        (R(Q) | R(K) | R(V) | R(O))
#define QKV_BIAS    (R(Q_B) | R(K_B) | R(V_B))
#define NORMS_RMS   (R(ATTN_NORM) | R(FFN_NORM))
#define NORMS_LN    (NORMS_RMS | R(ATTN_NORM_B) | R(FFN_NORM_B))
#define GLU         (R(GATE) | R(UP) | R(DOWN))
#define MLP_BIASED  (R(UP) | R(DOWN) | R(UP_B) | R(DOWN_B))
#define LLAMA_LAYER (ENDS_RMS | QKVO | NORMS_RMS | GLU)

static const struct arch archs[] = {
    { .name = "llama",
      .hf = { "llama", "mistral" },
      .must = LLAMA_LAYER,
      .may = R(OUTPUT) | R(ROPE_FREQS) | QKV_BIAS | R(O_B) | R(GATE_B) | R(UP_B) | R(DOWN_B),
      .norm = NORM_RMS,
      .rope = ROPE_NORM,
      .rope_hf = ROPE_NEOX,
      .gated = true,
      .act = ACT_SILU,
      .act_up = ACT_IDENTITY,
      .flags = ARCH_FULL_ROT },
    { .name = "bamboo", /* Mistral shapes, ReLU on both branches */
      .must = LLAMA_LAYER,
      .may = R(OUTPUT),
      .norm = NORM_RMS,
      .rope = ROPE_NORM,
      .gated = true,
      .act = ACT_RELU,
      .act_up = ACT_RELU,
      .flags = ARCH_FULL_ROT },
    { .name = "qwen2",
      .hf = { "qwen2" },
      .must = LLAMA_LAYER | QKV_BIAS,
      .may = R(OUTPUT),
      .norm = NORM_RMS,
      .rope = ROPE_NEOX,
      .rope_hf = ROPE_NEOX,
      .gated = true,
      .act = ACT_SILU,
      .act_up = ACT_IDENTITY },
    { .name = "qwen3",
      .hf = { "qwen3" },
      .must = LLAMA_LAYER | R(Q_NORM) | R(K_NORM),
      .may = R(OUTPUT),
      .norm = NORM_RMS,
      .rope = ROPE_NEOX,
      .rope_hf = ROPE_NEOX,
      .gated = true,
      .act = ACT_SILU,
      .act_up = ACT_IDENTITY },
    { .name = "gpt2",
      .hf = { "gpt2" },
      .must = ENDS_LN | R(POS_EMBD) | NORMS_LN | R(QKV) | R(QKV_B) | R(O) | R(O_B) | MLP_BIASED,
      .may = R(OUTPUT),
      .norm = NORM_LAYER,
      .act = ACT_GELU_TANH,
      .act_up = ACT_IDENTITY,
      .flags = ARCH_TIED },
    { .name = "opt",
      .hf = { "opt" },
      .must = ENDS_LN | R(POS_EMBD) | NORMS_LN | QKVO | QKV_BIAS | R(O_B) | MLP_BIASED,
      .may = R(OUTPUT),
      .norm = NORM_LAYER,
      .act = ACT_RELU,
      .act_up = ACT_IDENTITY,
      .flags = ARCH_TIED,
      .pos_offset = 2,
      .norm_eps = 1e-5f },
    { .name = "falcon",
      .hf = { "falcon", "RefinedWeb", "RefinedWebModel" },
      .must = ENDS_LN | R(ATTN_NORM) | R(ATTN_NORM_B) | R(QKV) | R(O) | R(UP) | R(DOWN),
      .may = R(OUTPUT) | R(ATTN_NORM2) | R(ATTN_NORM2_B),
      .norm = NORM_LAYER,
      .block = BLOCK_PARALLEL,
      .rope = ROPE_NEOX,
      .rope_hf = ROPE_NEOX,
      .act = ACT_GELU_TANH,
      .act_up = ACT_IDENTITY,
      .flags = ARCH_FULL_ROT },
    { .name = "phi3",
      .hf = { "phi3" },
      .must = ENDS_RMS | NORMS_RMS | R(QKV) | R(O) | GLU,
      .may = R(OUTPUT) | R(ROPE_LONG) | R(ROPE_SHORT),
      .norm = NORM_RMS,
      .rope = ROPE_NEOX,
      .rope_hf = ROPE_NEOX,
      .gated = true,
      .act = ACT_SILU,
      .act_up = ACT_IDENTITY,
      .flags = ARCH_FUSED_GATE_UP },
    { .name = "gemma2",
      .hf = { "gemma2" },
      .must = LLAMA_LAYER | R(POST_ATTN_NORM) | R(POST_FFN_NORM),
      .may = R(OUTPUT),
      .norm = NORM_RMS,
      .rope = ROPE_NEOX,
      .rope_hf = ROPE_NEOX,
      .gated = true,
      .act = ACT_GELU_TANH,
      .act_up = ACT_IDENTITY,
      .flags = ARCH_EMBD_SCALE | ARCH_ALTERNATE | ARCH_NORM_ADD_ONE | ARCH_TIED },
    { .name = "arcee", /* llama without a gate; llama.cpp knows it without feed-forward biases */
      .hf = { "arcee" },
      .must = ENDS_RMS | QKVO | NORMS_RMS | R(UP) | R(DOWN),
      .may = R(OUTPUT) | R(ROPE_FREQS) | QKV_BIAS | R(O_B) | R(UP_B) | R(DOWN_B),
      .norm = NORM_RMS,
      .rope = ROPE_NORM,
      .rope_hf = ROPE_NEOX,
      .act = ACT_RELU2,
      .act_up = ACT_IDENTITY,
      .flags = ARCH_FULL_ROT },
};

enum { N_ARCH = sizeof archs / sizeof archs[0] };

/* Recognised, not served: the reason is worth more than "unknown". */
static const struct {
    const char *name, *why;
} refused[] = {
    { "qwen3next", "hybrid linear attention is not implemented" },
    { "qwen3_next", "hybrid linear attention is not implemented" },
    { "qwen35", "hybrid linear attention is not implemented" },
    { "qwen35moe", "hybrid linear attention is not implemented" },
    { "qwen3_5", "hybrid linear attention is not implemented" },
    { "mamba", "state-space layers are not implemented" },
    { "mamba2", "state-space layers are not implemented" },
    { "jamba", "hybrid state-space layers are not implemented" },
    { "falcon-h1", "hybrid state-space layers are not implemented" },
    { "granitehybrid", "hybrid state-space layers are not implemented" },
    { "lfm2", "hybrid convolution layers are not implemented" },
    { "rwkv6", "recurrent layers are not implemented" },
    { "rwkv7", "recurrent layers are not implemented" },
    { "qwen2moe", "mixture of experts is not implemented" },
    { "qwen2_moe", "mixture of experts is not implemented" },
    { "qwen3moe", "mixture of experts is not implemented" },
    { "qwen3_moe", "mixture of experts is not implemented" },
    { "mixtral", "mixture of experts is not implemented" },
    { "gpt-oss", "mixture of experts is not implemented" },
    { "gpt_oss", "mixture of experts is not implemented" },
    { "smallthinker", "mixture of experts is not implemented" },
    { "deepseek2", "low-rank attention and mixture of experts are not implemented" },
    { "clip", "this is a vision projector, not a language model" },
    { "bert", "encoders are not implemented" },
    { "nomic-bert", "encoders are not implemented" },
    { "t5", "encoder-decoder models are not implemented" },
};

const struct arch *arch_find(struct str name)
{
    for (size_t i = 0; i < N_ARCH; i++)
        if (str_is(name, archs[i].name))
            return &archs[i];
    return NULL;
}

const struct arch *arch_find_hf(struct str model_type)
{
    for (size_t i = 0; i < N_ARCH; i++)
        for (size_t k = 0; k < 3 && archs[i].hf[k]; k++)
            if (str_is(model_type, archs[i].hf[k]))
                return &archs[i];
    return NULL;
}

enum status arch_refuse(struct str name, struct err *err)
{
    char show[GGUF_SHOW_MAX], list[128];
    const char *why = "unknown to this build";
    size_t n = 0;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (str_is(name, refused[i].name))
            why = refused[i].why;
    for (size_t i = 0; i < N_ARCH; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", archs[i].name);
    gguf_show(name, show);
    if (strlen(show) > 40)
        memcpy(show + 37, "...", 4);
    return err_set(err, ST_UNSUPPORTED, "architecture '%s': %s; supported: %s", show, why, list);
}

#define VEC(n, s, l, col)                                                                          \
    {                                                                                              \
        n, s, l, col, DIM_ONE                                                                      \
    }
const struct role_info role_table[TR_ROLES] = {
    [TR_TOKEN_EMBD] = { "token_embd", ".weight", false, DIM_EMBD, DIM_VOCAB },
    [TR_POS_EMBD] = { "position_embd", ".weight", false, DIM_EMBD, DIM_CTX },
    [TR_OUTPUT] = { "output", ".weight", false, DIM_EMBD, DIM_VOCAB },
    [TR_Q] = { "attn_q", ".weight", true, DIM_EMBD, DIM_Q },
    [TR_K] = { "attn_k", ".weight", true, DIM_EMBD, DIM_K },
    [TR_V] = { "attn_v", ".weight", true, DIM_EMBD, DIM_V },
    [TR_QKV] = { "attn_qkv", ".weight", true, DIM_EMBD, DIM_QKV },
    [TR_O] = { "attn_output", ".weight", true, DIM_O, DIM_EMBD },
    [TR_GATE] = { "ffn_gate", ".weight", true, DIM_EMBD, DIM_FF },
    [TR_UP] = { "ffn_up", ".weight", true, DIM_EMBD, DIM_FF },
    [TR_DOWN] = { "ffn_down", ".weight", true, DIM_FF, DIM_EMBD },
    [TR_SKETCH] = { "ffn_sketch", ".weight", true, DIM_EMBD, DIM_FF },
    [TR_PRED_A] = { "ffn_pred_a", ".weight", true, DIM_EMBD, DIM_RANK },
    [TR_PRED_B] = { "ffn_pred_b", ".weight", true, DIM_RANK, DIM_FF },
    [TR_GATE_SMALL] = { "ffn_gate_small", ".weight", true, DIM_EMBD, DIM_SMALL },
    [TR_UP_SMALL] = { "ffn_up_small", ".weight", true, DIM_EMBD, DIM_SMALL },
    [TR_DOWN_SMALL] = { "ffn_down_small", ".weight", true, DIM_SMALL, DIM_EMBD },
    [TR_ROUTER_IN] = { "duo_router_in", ".weight", true, DIM_EMBD, DIM_HIDDEN },
    [TR_ROUTER] = { "duo_router", ".weight", true, DIM_HIDDEN, DIM_CHOICE },
    [TR_OUTPUT_NORM] = VEC("output_norm", ".weight", false, DIM_EMBD),
    [TR_OUTPUT_NORM_B] = VEC("output_norm", ".bias", false, DIM_EMBD),
    [TR_OUTPUT_B] = VEC("output", ".bias", false, DIM_VOCAB),
    [TR_ROPE_FREQS] = VEC("rope_freqs", ".weight", false, DIM_ROT),
    [TR_ROPE_LONG] = VEC("rope_factors_long", ".weight", false, DIM_ROT),
    [TR_ROPE_SHORT] = VEC("rope_factors_short", ".weight", false, DIM_ROT),
    [TR_ATTN_NORM] = VEC("attn_norm", ".weight", true, DIM_EMBD),
    [TR_ATTN_NORM_B] = VEC("attn_norm", ".bias", true, DIM_EMBD),
    [TR_ATTN_NORM2] = VEC("attn_norm_2", ".weight", true, DIM_EMBD),
    [TR_ATTN_NORM2_B] = VEC("attn_norm_2", ".bias", true, DIM_EMBD),
    [TR_Q_B] = VEC("attn_q", ".bias", true, DIM_Q),
    [TR_K_B] = VEC("attn_k", ".bias", true, DIM_K),
    [TR_V_B] = VEC("attn_v", ".bias", true, DIM_V),
    [TR_QKV_B] = VEC("attn_qkv", ".bias", true, DIM_QKV),
    [TR_O_B] = VEC("attn_output", ".bias", true, DIM_EMBD),
    [TR_Q_NORM] = VEC("attn_q_norm", ".weight", true, DIM_HEAD),
    [TR_K_NORM] = VEC("attn_k_norm", ".weight", true, DIM_HEAD),
    [TR_POST_ATTN_NORM] = VEC("post_attention_norm", ".weight", true, DIM_EMBD),
    [TR_FFN_NORM] = VEC("ffn_norm", ".weight", true, DIM_EMBD),
    [TR_FFN_NORM_B] = VEC("ffn_norm", ".bias", true, DIM_EMBD),
    [TR_GATE_B] = VEC("ffn_gate", ".bias", true, DIM_FF),
    [TR_UP_B] = VEC("ffn_up", ".bias", true, DIM_FF),
    [TR_DOWN_B] = VEC("ffn_down", ".bias", true, DIM_EMBD),
    [TR_POST_FFN_NORM] = VEC("post_ffw_norm", ".weight", true, DIM_EMBD),
    [TR_SKETCH_NORM] = VEC("ffn_sketch_norm", ".weight", true, DIM_FF),
    [TR_SKETCH_ERR] = VEC("ffn_sketch_err", ".weight", true, DIM_FF),
    [TR_PRED_BIAS] = VEC("ffn_pred", ".bias", true, DIM_FF),
    [TR_FFN_RATE] = VEC("ffn_rate", ".weight", true, DIM_FF),
    [TR_ROUTER_IN_B] = VEC("duo_router_in", ".bias", true, DIM_HIDDEN),
    [TR_ROUTER_B] = VEC("duo_router", ".bias", true, DIM_CHOICE),
};

uint64_t role_dim(const struct hparams *hp, enum dim d)
{
    uint64_t q = (uint64_t)hp->n_head * hp->d_k, k = (uint64_t)hp->n_kv * hp->d_k;
    uint64_t v = (uint64_t)hp->n_kv * hp->d_v;
    switch (d) {
    case DIM_ONE:
        return 1;
    case DIM_EMBD:
        return hp->n_embd;
    case DIM_VOCAB:
        return hp->n_vocab;
    case DIM_CTX:
        return (uint64_t)hp->n_ctx_train + hp->pos_offset;
    case DIM_Q:
        return q;
    case DIM_K:
        return k;
    case DIM_V:
        return v;
    case DIM_QKV:
        return q + k + v;
    case DIM_SMALL:
        return hp->duo.n_ff;
    case DIM_HIDDEN:
        return hp->duo.n_hidden ? hp->duo.n_hidden : hp->n_embd;
    case DIM_CHOICE:
        return hp->duo.n_choice;
    case DIM_O:
        return (uint64_t)hp->n_head * hp->d_v;
    case DIM_FF:
        return hp->n_ff;
    case DIM_HEAD:
        return hp->d_k;
    case DIM_ROT:
        return hp->n_rot / 2;
    case DIM_RANK: /* the file's own */
        break;
    }
    return 0;
}

enum { LLAMAS = 1, GEMMA2 = 2, OPT = 4, GPT2 = 8, FALCON = 16, PHI3 = 32 };
#define MODERN (LLAMAS | GEMMA2 | PHI3)

/* Rows of one role are in order of preference. "/" in front: a name outside the prefix. */
static const struct {
    uint8_t family, role;
    const char *name;
    enum tensor_fix fix;
} hf_table[] = {
    { MODERN | OPT, TR_TOKEN_EMBD, "embed_tokens", FIX_NONE },
    { GPT2, TR_TOKEN_EMBD, "wte", FIX_NONE },
    { FALCON, TR_TOKEN_EMBD, "word_embeddings", FIX_NONE },
    { OPT, TR_POS_EMBD, "embed_positions", FIX_NONE },
    { GPT2, TR_POS_EMBD, "wpe", FIX_NONE },
    { MODERN | OPT | GPT2 | FALCON, TR_OUTPUT, "/lm_head", FIX_NONE },
    { MODERN, TR_OUTPUT_NORM, "norm", FIX_NONE },
    { OPT, TR_OUTPUT_NORM, "final_layer_norm", FIX_NONE },
    { GPT2 | FALCON, TR_OUTPUT_NORM, "ln_f", FIX_NONE },
    { MODERN, TR_ATTN_NORM, "input_layernorm", FIX_NONE },
    { OPT, TR_ATTN_NORM, "self_attn_layer_norm", FIX_NONE },
    { GPT2, TR_ATTN_NORM, "ln_1", FIX_NONE },
    { FALCON, TR_ATTN_NORM, "input_layernorm", FIX_NONE },
    { FALCON, TR_ATTN_NORM, "ln_mlp", FIX_NONE },
    { FALCON, TR_ATTN_NORM2, "ln_attn", FIX_NONE },
    { LLAMAS | GEMMA2 | OPT, TR_Q, "self_attn.q_proj", FIX_NONE },
    { LLAMAS | GEMMA2 | OPT, TR_K, "self_attn.k_proj", FIX_NONE },
    { LLAMAS | GEMMA2 | OPT, TR_V, "self_attn.v_proj", FIX_NONE },
    { PHI3, TR_QKV, "self_attn.qkv_proj", FIX_NONE },
    { GPT2, TR_QKV, "attn.c_attn", FIX_TRANSPOSE },
    { FALCON, TR_QKV, "self_attention.query_key_value", FIX_QKV_GROUPS },
    { MODERN, TR_O, "self_attn.o_proj", FIX_NONE },
    { OPT, TR_O, "self_attn.out_proj", FIX_NONE },
    { GPT2, TR_O, "attn.c_proj", FIX_TRANSPOSE },
    { FALCON, TR_O, "self_attention.dense", FIX_NONE },
    { LLAMAS, TR_Q_NORM, "self_attn.q_norm", FIX_NONE },
    { LLAMAS, TR_K_NORM, "self_attn.k_norm", FIX_NONE },
    { LLAMAS | PHI3, TR_FFN_NORM, "post_attention_layernorm", FIX_NONE },
    { GEMMA2, TR_FFN_NORM, "pre_feedforward_layernorm", FIX_NONE },
    { OPT, TR_FFN_NORM, "final_layer_norm", FIX_NONE },
    { GPT2, TR_FFN_NORM, "ln_2", FIX_NONE },
    { GEMMA2, TR_POST_ATTN_NORM, "post_attention_layernorm", FIX_NONE },
    { GEMMA2, TR_POST_FFN_NORM, "post_feedforward_layernorm", FIX_NONE },
    { LLAMAS | GEMMA2, TR_GATE, "mlp.gate_proj", FIX_NONE },
    { LLAMAS | GEMMA2, TR_UP, "mlp.up_proj", FIX_NONE },
    { PHI3, TR_GATE, "mlp.gate_up_proj", FIX_NONE },
    { PHI3, TR_UP, "mlp.gate_up_proj", FIX_NONE },
    { MODERN, TR_DOWN, "mlp.down_proj", FIX_NONE },
    { OPT, TR_UP, "fc1", FIX_NONE },
    { OPT, TR_DOWN, "fc2", FIX_NONE },
    { GPT2, TR_UP, "mlp.c_fc", FIX_TRANSPOSE },
    { GPT2, TR_DOWN, "mlp.c_proj", FIX_TRANSPOSE },
    { FALCON, TR_UP, "mlp.dense_h_to_4h", FIX_NONE },
    { FALCON, TR_DOWN, "mlp.dense_4h_to_h", FIX_NONE },
};

/* A bias has the name of its weight. */
static enum tensor_role weight_of(enum tensor_role role)
{
    for (int r = 0; r < TR_ROLES; r++)
        if (r != (int)role && strcmp(role_table[r].name, role_table[role].name) == 0 &&
            strcmp(role_table[r].suffix, ".weight") == 0)
            return (enum tensor_role)r;
    return role;
}

static unsigned family(const struct arch *a)
{
    static const struct {
        const char *name;
        unsigned bit;
    } table[] = { { "gemma2", GEMMA2 },
                  { "opt", OPT },
                  { "gpt2", GPT2 },
                  { "falcon", FALCON },
                  { "phi3", PHI3 } };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(a->name, table[i].name) == 0)
            return table[i].bit;
    return LLAMAS;
}

bool arch_hf_name(const struct arch *a, enum tensor_role role, unsigned alt, struct hf_name *ret)
{
    unsigned bit = family(a);
    bool bias = strcmp(role_table[role].suffix, ".bias") == 0;
    enum tensor_role weight = bias ? weight_of(role) : role;
    for (size_t i = 0; i < sizeof hf_table / sizeof hf_table[0]; i++) {
        if (!(hf_table[i].family & bit) || hf_table[i].role != weight || alt-- > 0)
            continue;
        ret->name = hf_table[i].name;
        ret->fix = bias ? FIX_NONE : hf_table[i].fix;
        if ((a->flags & ARCH_NORM_ADD_ONE) && weight >= TR_MATRICES)
            ret->fix = FIX_ADD_ONE; /* in the weight-only RMS models every vector is a norm */
        return true;
    }
    return false;
}

const char *const *arch_hf_prefixes(const struct arch *a, const char **layer)
{
    static const char *const modern[] = { "model.", NULL };
    static const char *const opt[] = { "model.decoder.", "decoder.", NULL };
    static const char *const gpt2[] = { "transformer.", "", NULL };
    unsigned bit = family(a);
    *layer = bit == GPT2 || bit == FALCON ? "h." : "layers.";
    return bit == OPT ? opt : bit == GPT2 || bit == FALCON ? gpt2 : modern;
}

void spec_init(struct spec *s)
{
    *s = (struct spec){ .n_layer = -1,
                        .n_embd = -1,
                        .n_ctx = -1,
                        .n_ff = -1,
                        .n_head = -1,
                        .n_kv = -1,
                        .d_k = -1,
                        .d_v = -1,
                        .n_rot = -1,
                        .rope_ctx_orig = -1,
                        .window = -1,
                        .window_pattern = -1,
                        .tied = -1 };
    s->eps = s->attn_scale = s->attn_softcap = s->final_softcap = (double)NAN;
    s->rope_base = s->rope_factor = s->rope_attn_factor = (double)NAN;
    s->yarn_fast = s->yarn_slow = s->llama3_low = s->llama3_high = s->act_param = (double)NAN;
}

void spec_clear(struct spec *s)
{
    free(s->rope_long);
    free(s->rope_short);
    s->rope_long = s->rope_short = NULL;
}

void spec_warn(struct spec *s, const char *fmt, ...)
{
    if (s->warning[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->warning, sizeof s->warning, fmt, ap);
    va_end(ap);
}
