/* tests/support/tiny_model.h - tiny random-weight models of every supported architecture, as GGUF
 * or as a Hugging Face folder with the same mathematical weights. Deterministic by seed. */
#ifndef STROBE_TESTS_SUPPORT_TINY_MODEL_H
#define STROBE_TESTS_SUPPORT_TINY_MODEL_H

#include "engine/model/model.h"

struct tiny_model {
    const char *arch; /* general.architecture */
    uint32_t n_layer, n_embd, n_ff, n_head, n_kv, n_ctx;
    uint32_t d_head;           /* 0: n_embd / n_head */
    uint32_t n_vocab;          /* at least 260 */
    enum dtype type;           /* of matrices; rows that it cannot hold fall back to F16 */
    bool output;               /* an own output matrix (else tied) */
    bool norm2;                /* falcon: the 40B form */
    const char *activation;    /* strobe.activation or hidden_act; NULL: the architecture's */
    bool norm_relu;            /* strobe.norm_relu; GGUF only */
    uint32_t window;           /* 0: none written */
    const char *chat_template; /* NULL: none; GGUF only */
    uint64_t seed;
};

/* Sensible small numbers for one architecture; change what the test is about. */
struct tiny_model tiny_model_default(const char *arch);
bool tiny_model_gguf(const struct tiny_model *t, const char *path);
/* llama, qwen2, qwen3, gpt2, falcon, gemma2, opt, phi3; `dir` exists. Matrices are F32. */
bool tiny_model_folder(const struct tiny_model *t, const char *dir);
/* The exact numbers behind one weight, in GGUF's orientation (row-major [n_row][n_col]), before
 * quantisation. malloc()ed; NULL: this model has no such weight. Falcon's and phi3's as GGUF. */
float *tiny_model_weight(const struct tiny_model *t, enum tensor_role role, uint32_t layer,
                         uint32_t *n_row, uint32_t *n_col);

#endif
