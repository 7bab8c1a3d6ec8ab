/* tests/support/toy.h - a small random model that lives in memory: hyper-parameters and f32 weights
 * of one preset per architecture and special case. It takes the place of engine/model and
 * engine/flash: a test program that compiles toy.c in (and does not link those two) runs the real
 * forward pass on it. Same preset and seed: same weights. */
#ifndef STROBE_TESTS_SUPPORT_TOY_H
#define STROBE_TESTS_SUPPORT_TOY_H

#include "engine/flash/weights.h"
#include "engine/model/model.h"

#include <stdatomic.h>

struct toy_tensor {
    uint32_t n_row, n_col;
    float *w; /* [n_row, n_col]; NULL: absent */
};

struct toy {
    struct hparams hp;
    struct toy_tensor *t; /* [(n_layer + 1) * TR_ROLES], layer by layer, then the global ones */
    void *packed;
    struct weights_view *view; /* [n_layer + 1], the last is the global one */
    bool factors_in_config;    /* rotation factors come from the model, not from the weights */
    /* What the pass did with the weights, and what shall happen to it. */
    uint32_t next_layer, n_get;
    uint32_t fail_layer; /* a product of this layer fails; UINT32_MAX: none */
    struct weights_view failing;
    atomic_bool *cancel; /* set when the pass comes to layer cancel_layer */
    uint32_t cancel_layer;
};

/* Presets by index; NULL past the last. */
const char *toy_preset(unsigned i);
/* Weights that a product reads are packed as `type`. Aborts the test program when memory is out. */
struct toy *toy_create(const char *preset, uint64_t seed, const struct kernels *k, enum dtype type);
/* Takes the rotation factors out of the weights and lets model_rope_factors() give them. */
void toy_factors_to_config(struct toy *t);
void toy_free(struct toy *t);
/* layer UINT32_MAX: global. */
struct toy_tensor *toy_at(const struct toy *t, enum tensor_role role, uint32_t layer);
static inline const struct model *toy_model(const struct toy *t)
{
    return (const struct model *)t;
}
static inline struct weights *toy_weights(struct toy *t)
{
    return (struct weights *)t;
}

#endif
