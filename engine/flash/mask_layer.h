/* engine/flash/mask_layer.h - the estimate that stands for a packed layer's first matrix, by the
 * file's mask: a sketch or a predictor (mask.h). Owner: one thread; the pool computes. */
#ifndef STROBE_FLASH_MASK_LAYER_H
#define STROBE_FLASH_MASK_LAYER_H

#include "engine/flash/weights.h"

/* Bytes in memory that are there for the estimate alone; 0: the first matrix itself is the mask. */
uint64_t mask_layer_bytes(const struct model *m);

struct mask_layer_ask {
    const struct kernels *k;
    struct pool *pool;
    const float *x; /* f32 rows `stride` apart: the layer's normed input */
    size_t n_tok, stride;
    float sigma; /* of a 4-bit sketch */
    bool sets;   /* bit t of count[i] is token t */
    bool rough;  /* of a guess, as struct mask_sketch says; so is from */
    uint32_t from;
    void *scratch;   /* mask_scratch_bytes() */
    uint32_t *count; /* out: [n_ff] */
};
/* bundle_has_first() must hold; n_tok <= MASK_TOKENS. */
void mask_layer_ask(const struct model *m, const struct weights_view *v,
                    const struct mask_layer_ask *a);

#endif
