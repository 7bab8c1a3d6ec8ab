/* engine/flash/mask_layer.c - see mask_layer.h. */
#include "engine/flash/mask_layer.h"

#include "engine/flash/internal.h"
#include "engine/flash/mask.h"

uint64_t mask_layer_bytes(const struct model *m)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        bytes += role_of_mask(t->role) ? plan_tensor_bytes(t) : 0;
    }
    return bytes;
}

/* Neurons whose pre-activation is not above it are exactly zero: x - shift rounds to zero or below
 * only where x <= shift. */
static float threshold(const struct hparams *hp)
{
    bool own =
        hp->act == ACT_FATRELU || hp->act == ACT_SHIFTED_RELU || hp->act == ACT_SHIFTED_RELU2;
    return own ? hp->act_threshold : 0;
}

static void ask_sketch(const struct model *m, const struct weights_view *v,
                       const struct mask_layer_ask *a)
{
    const struct hparams *hp = model_hparams(m);
    const struct bundle *b = model_bundle(m);
    struct mask_sketch s = { .s = v->m[TR_SKETCH],
                             .norm = VIEW_VEC(v, TR_SKETCH_NORM),
                             .err = VIEW_VEC(v, TR_SKETCH_ERR),
                             .bias = VIEW_VEC(v, hp->gated ? TR_GATE_B : TR_UP_B),
                             .threshold = threshold(hp),
                             .int8_rows = !dtype_is_plain(b->row_type),
                             .sigma = b->mask == BUNDLE_SKETCH4 ? a->sigma : 0,
                             .sets = a->sets,
                             .from = a->from,
                             .rough = a->rough };
    mask_from_sketch(a->k, a->pool, &s, a->x, a->n_tok, a->stride, a->scratch, a->count);
}

void mask_layer_ask(const struct model *m, const struct weights_view *v,
                    const struct mask_layer_ask *a)
{
    if (model_bundle(m)->mask != BUNDLE_LOWRANK) {
        ask_sketch(m, v, a);
        return;
    }
    struct mask_lowrank p = { .a = v->m[TR_PRED_A],
                              .b = v->m[TR_PRED_B],
                              .bias = VIEW_VEC(v, TR_PRED_BIAS),
                              .sets = a->sets,
                              .from = a->from };
    mask_from_lowrank(a->k, a->pool, &p, a->x, a->n_tok, a->stride, a->scratch, a->count);
}
