/* engine/model/model.h - one opened model: hyper-parameters, where each tensor lies, and where the
 * tokenizer is. From a GGUF file (or any part of a split one) or a Hugging Face folder
 * (config.json + *.safetensors + tokenizer.json). Weights are not read here.
 * Immutable after open; any thread may read. Facts: model-formats.md sections 4-8. */
#ifndef STROBE_MODEL_MODEL_H
#define STROBE_MODEL_MODEL_H

#include "engine/base/err.h"
#include "engine/kernel/dtype.h"
#include "engine/kernel/vector.h"
#include "engine/model/bundle.h"
#include "engine/model/duo.h"
#include "engine/model/gguf.h"

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_LAYERS_MAX = 512 };

enum norm_kind { NORM_RMS, NORM_LAYER };
enum rope_kind { ROPE_NONE, ROPE_NORM, ROPE_NEOX };
enum block_kind {
    BLOCK_SEQUENTIAL, /* a = x + Attn(n1 x); y = a + FFN(n2 a) */
    BLOCK_PARALLEL    /* y = x + Attn(nA x) + FFN(nF x); nA = attn_norm_2 if present (Falcon-40B) */
};
enum rope_scaling {
    ROPE_SCALE_NONE,
    ROPE_SCALE_LINEAR,
    ROPE_SCALE_LLAMA3,
    ROPE_SCALE_LONGROPE,
    ROPE_SCALE_YARN
};

/* How the activation was decided, for `inspect` (never guessed silently; model-formats.md 3). */
enum act_origin {
    ACT_FROM_OVERRIDE,
    ACT_FROM_METADATA,
    ACT_FROM_CONFIG,
    ACT_FROM_NAME,
    ACT_FROM_ARCH
};

struct hparams {
    const char *arch;                  /* "llama", static storage */
    uint32_t n_layer, n_embd, n_vocab; /* n_vocab: rows of the embedding */
    uint32_t n_ctx_train;
    uint32_t n_head, n_kv, d_k, d_v, n_ff; /* the same in every layer: else ST_UNSUPPORTED */
    enum norm_kind norm;
    bool norm_relu; /* max(x, 0) behind the norms in front of attention and feed-forward part */
    float norm_eps;
    enum block_kind block;
    bool gated;           /* act(gate) * up, else act(up) */
    enum act_kind act;    /* of the gate branch (gated) or of up (plain) */
    enum act_kind act_up; /* gated: ACT_IDENTITY, or ACT_RELU for dReLU */
    float act_threshold;  /* FATReLU, or the shift of a shifted ReLU */
    enum act_origin act_origin;
    enum rope_kind rope;
    uint32_t n_rot;
    float rope_base, rope_freq_scale; /* theta = pos * base^(-2i/n_rot) * freq_scale / factor[i] */
    enum rope_scaling rope_scaling;
    float rope_attn_factor;           /* multiplies cos and sin */
    float rope_yarn_lo, rope_yarn_hi; /* YaRN ramp ends in pair indices */
    uint32_t rope_ctx_orig;
    float embd_scale;                              /* gemma: sqrt(n_embd); else 1 */
    float attn_scale;                              /* multiplies q.k */
    float attn_softcap, final_softcap;             /* 0: none */
    uint32_t window;                               /* 0: none */
    uint64_t window_layers[MODEL_LAYERS_MAX / 64]; /* bit il: layer il is local */
    uint32_t pos_offset;                           /* OPT: 2 */
    bool tied;                                     /* output = token_embd */
    struct duo_hparams duo;
};

/* One weight's job. 2-D weights first: matrices; then vectors (kept as f32). */
enum tensor_role {
    TR_TOKEN_EMBD,
    TR_POS_EMBD,
    TR_OUTPUT,
    TR_Q,
    TR_K,
    TR_V,
    TR_QKV,
    TR_O,
    TR_GATE,
    TR_UP,
    TR_DOWN,
    TR_SKETCH, /* packed models: what stands for the first matrix (bundle.h) */
    TR_PRED_A, /* or the two factors of a predictor: [rank, n_embd], [n_ff, rank] */
    TR_PRED_B,
    TR_GATE_SMALL, /* Duo models */
    TR_UP_SMALL,
    TR_DOWN_SMALL,
    TR_ROUTER_IN, /* [n_hidden, n_embd], of a router with a hidden layer */
    TR_ROUTER,    /* [n_choice, n_embd or n_hidden] */
    TR_MATRICES,  /* count of matrix roles */
    TR_OUTPUT_NORM = TR_MATRICES,
    TR_OUTPUT_NORM_B,
    TR_OUTPUT_B,
    TR_ROPE_FREQS,
    TR_ROPE_LONG,
    TR_ROPE_SHORT,
    TR_ATTN_NORM,
    TR_ATTN_NORM_B,
    TR_ATTN_NORM2,
    TR_ATTN_NORM2_B,
    TR_Q_B,
    TR_K_B,
    TR_V_B,
    TR_QKV_B,
    TR_O_B,
    TR_Q_NORM,
    TR_K_NORM,
    TR_POST_ATTN_NORM,
    TR_FFN_NORM,
    TR_FFN_NORM_B,
    TR_GATE_B,
    TR_UP_B,
    TR_DOWN_B,
    TR_POST_FFN_NORM,
    TR_SKETCH_NORM, /* [n_ff] of each first row w: |w|, and |w - sketch| */
    TR_SKETCH_ERR,
    TR_PRED_BIAS,   /* [n_ff] of the predictor's scores */
    TR_FFN_RATE,    /* [n_ff] how often each neuron fired when the model was packed */
    TR_ROUTER_IN_B, /* [n_hidden], [n_choice] */
    TR_ROUTER_B,
    TR_ROLES
};
/* Duo models: what is in memory whatever the budget, being small and needed by every token. */
static inline bool role_of_duo(enum tensor_role r)
{
    return (r >= TR_GATE_SMALL && r <= TR_ROUTER) || r == TR_ROUTER_IN_B || r == TR_ROUTER_B;
}
/* What a packed file has in place of the first matrix, to know which neurons fire. */
static inline bool role_of_mask(enum tensor_role r)
{
    return r == TR_SKETCH || r == TR_SKETCH_NORM || r == TR_SKETCH_ERR || r == TR_PRED_A ||
           r == TR_PRED_B || r == TR_PRED_BIAS;
}
/* phi3's fused ffn_up {n_embd, 2 n_ff} appears as TR_GATE and TR_UP: two views of one tensor (rows
 * 0..n_ff and n_ff..2 n_ff). TR_QKV stays fused: rows Q, then K, then V. */

/* What must be done to a safetensors weight while it is read, so that it means the same as GGUF's.
 */
enum tensor_fix {
    FIX_NONE,
    FIX_TRANSPOSE,  /* gpt2 Conv1D: file is [in, out] */
    FIX_QKV_GROUPS, /* falcon: per kv head (queries, key, value) rows -> all Q, all K, all V */
    FIX_ADD_ONE     /* gemma norms: file holds w - 1 */
};

struct tensor {
    struct str name; /* as in the file */
    enum tensor_role role;
    uint32_t layer; /* UINT32_MAX: global */
    enum dtype type;
    uint32_t n_row, n_col; /* logical, after `fix`; vectors: n_row 1 */
    uint32_t file;
    uint64_t offset, bytes; /* of these rows in the file */
    enum tensor_fix fix;
};

struct model; /* opaque */

struct model_opts {
    const char *activation; /* override: "silu", "relu", "drelu", "fatrelu:0.01", NULL: decide */
};

/* Errors: ST_NOTFOUND, ST_IO, ST_FORMAT, ST_UNSUPPORTED (arch, MoE, type, by name), ST_NOMEM. */
enum status model_open(const char *path, const struct model_opts *opts, struct model **ret,
                       struct err *err);
void model_close(struct model *m);

const struct hparams *model_hparams(const struct model *m);
/* Idle neurons of the feed-forward layers are exactly zero: the activation is a ReLU's. */
bool hparams_exact_zeros(const struct hparams *hp);
/* The activation as strobe.activation spells it: "silu", "drelu", "shifted_relu:0.5,relu"; what
 * stands behind a comma is the up branch's. Numbers are exact. Returns out. */
enum { ACT_TEXT_MAX = 64 };
const char *hparams_act_text(const struct hparams *hp, char out[ACT_TEXT_MAX]);
uint32_t model_n_tensor(const struct model *m);
const struct tensor *model_tensor(const struct model *m, uint32_t i);
/* NULL: the model has no such weight. layer: UINT32_MAX for global roles. */
const struct tensor *model_find(const struct model *m, enum tensor_role role, uint32_t layer);
/* Rotation divisors that no tensor holds but the configuration gives (folders: llama3, longrope).
 * role: TR_ROPE_FREQS, TR_ROPE_LONG or TR_ROPE_SHORT. f32 [*n = n_rot / 2], owned by m; NULL: none.
 */
const float *model_rope_factors(const struct model *m, enum tensor_role role, uint32_t *n);
uint32_t model_n_file(const struct model *m);
const char *model_file(const struct model *m, uint32_t file);
uint64_t model_bytes(const struct model *m); /* of all tensors used */
uint64_t model_n_param(const struct model *m);
const struct gguf *model_gguf(const struct model *m); /* NULL: a folder */
const char *model_dir(const struct model *m);         /* the folder; NULL: a GGUF file */
/* NULL: not packed, the feed-forward matrices are ordinary tensors. */
const struct bundle *model_bundle(const struct model *m);
const char *model_name(const struct model *m);       /* general.name, or the file's stem */
const char *model_quant(const struct model *m);      /* "F16", "Q4_K" - type of most bytes */
const char *tensor_role_name(enum tensor_role role); /* "attn_q" */
const char *act_origin_text(enum act_origin o);
/* The first thing that looked wrong but could be served (unused tensors, a guessed activation), or
 * "". */
const char *model_warning(const struct model *m);
/* SHA-256 over metadata and tensor table (not the data): identity for caches, hex. */
const char *model_hash(const struct model *m);

#endif
