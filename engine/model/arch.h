/* engine/model/arch.h - what this build knows about architectures, as tables: facts per
 * architecture, per tensor role and per Hugging Face name. And struct spec: what a file says about
 * its model, whatever container it is in. Inside of model.c and its helpers; constants, any thread.
 * Facts: model-formats.md 4, 5 and 7. */
#ifndef STROBE_MODEL_ARCH_H
#define STROBE_MODEL_ARCH_H

#include "engine/model/model.h"

#define ROLE(r) (UINT64_C(1) << (r)) /* TR_ROLES < 64: sets of roles are masks */

enum arch_flag {
    ARCH_FUSED_GATE_UP = 1, /* ffn_up holds gate rows, then up rows */
    ARCH_EMBD_SCALE = 2,    /* embeddings times sqrt(n_embd) */
    ARCH_FULL_ROT = 4,      /* n_rot must be the head size */
    ARCH_ALTERNATE = 8,     /* even layers have the window, odd ones do not */
    ARCH_NORM_ADD_ONE = 16, /* a folder stores norm weights minus one */
    ARCH_TIED = 32          /* a folder that does not say otherwise is tied */
};

struct arch {
    const char *name;   /* general.architecture */
    const char *hf[3];  /* model_type values of config.json */
    uint64_t must, may; /* roles */
    enum norm_kind norm;
    enum block_kind block;
    enum rope_kind rope, rope_hf; /* in GGUF and in a folder */
    bool gated;
    enum act_kind act, act_up;
    unsigned flags;
    uint32_t pos_offset;
    float norm_eps; /* 0: the file must say */
};

/* NULL: unknown. */
const struct arch *arch_find(struct str name);
const struct arch *arch_find_hf(struct str model_type);
/* ST_UNSUPPORTED naming the architecture, why if it is known, and the supported ones. */
enum status arch_refuse(struct str name, struct err *err);

/* Lengths that shapes are made of. */
enum dim {
    DIM_ONE,
    DIM_EMBD,
    DIM_VOCAB,
    DIM_CTX,  /* rows of a position table: any number */
    DIM_RANK, /* of a predictor: any number, the same of its two matrices */
    DIM_Q,
    DIM_K,
    DIM_V,
    DIM_QKV,
    DIM_O,
    DIM_FF,
    DIM_HEAD,
    DIM_ROT,    /* n_rot / 2 */
    DIM_SMALL,  /* neurons of a Duo model's small part */
    DIM_HIDDEN, /* of its router; n_embd where that has no hidden layer */
    DIM_CHOICE
};

struct role_info {
    const char *name; /* "attn_q"; GGUF's stem */
    const char *suffix;
    bool layered;
    uint8_t n_col, n_row; /* enum dim */
};
extern const struct role_info role_table[TR_ROLES];
uint64_t role_dim(const struct hparams *hp, enum dim d);

/* Name of a role's tensor in a Hugging Face folder, appended to out without its prefix ("model.").
 * False: the architecture has no such tensor. `alt` 0 is the usual name, 1 an alternative. */
struct hf_name {
    const char *name; /* after the layer prefix, without suffix */
    enum tensor_fix fix;
};
bool arch_hf_name(const struct arch *a, enum tensor_role role, unsigned alt, struct hf_name *ret);
/* Prefixes to try, NULL-ended, and the layer part ("layers." or "h."). */
const char *const *arch_hf_prefixes(const struct arch *a, const char **layer);

/* What a file says, before defaults and checks. Integers: -1 unsaid; doubles: NAN unsaid. */
struct spec {
    const struct arch *arch;
    bool folder;
    int64_t n_layer, n_embd, n_ctx, n_ff, n_head, n_kv, d_k, d_v, n_rot;
    double eps, attn_scale, attn_softcap, final_softcap;
    double rope_base, rope_factor, rope_attn_factor, yarn_fast, yarn_slow;
    double llama3_low, llama3_high;
    enum rope_scaling scaling;
    int64_t rope_ctx_orig;
    int64_t window, window_pattern; /* pattern p: layer il is global when (il + 1) % p == 0 */
    bool window_listed;             /* window_layers was read from the file */
    uint64_t window_layers[MODEL_LAYERS_MAX / 64];
    const char *override;          /* activation from the caller */
    struct str act_meta;           /* strobe.activation */
    struct str act_config;         /* hidden_act */
    double act_param;              /* hidden_act_param */
    bool norm_relu;                /* strobe.norm_relu */
    struct duo_hparams duo;        /* strobe.duo.* */
    struct str name;               /* for heuristics and display */
    int tied;                      /* tie_word_embeddings: 0, 1, -1 unsaid */
    float *rope_long, *rope_short; /* longrope factors of a folder, owned */
    uint32_t n_rope_long, n_rope_short;
    char warning[ERR_MSG_MAX]; /* the first one */
};
void spec_init(struct spec *s);
void spec_clear(struct spec *s);
void spec_warn(struct spec *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* GGUF metadata to spec. Strings point into g. */
enum status spec_from_gguf(const struct gguf *g, struct spec *s, struct err *err);
/* Defaults, derived values and range checks. n_vocab and the output's tie are the binder's. */
enum status spec_hparams(struct spec *s, struct hparams *hp, struct err *err);
/* Decides the activation: override, metadata, config, name, architecture. */
enum status spec_activation(struct spec *s, struct hparams *hp, struct err *err);

#endif
