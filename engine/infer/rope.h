/* engine/infer/rope.h - rotation angles of a model (model-formats.md section 6). Immutable after
 * creation. */
#ifndef STROBE_INFER_ROPE_H
#define STROBE_INFER_ROPE_H

#include "engine/model/model.h"

#include <stddef.h>

struct rope {
    double *freq;     /* [n_rot / 2]: angle per position; owned */
    double magnitude; /* multiplies cos and sin */
    uint32_t n_pair;
};

/* factor: [n_pair] divides the frequencies; NULL: none. */
enum status rope_init(const struct hparams *hp, const float *factor, struct rope *ret,
                      struct err *err);
void rope_clear(struct rope *r);
/* cs: f32 [n_pair][2] = {cos, sin} at a position; angles in double, so that late positions stay
 * exact. */
void rope_angles(const struct rope *r, uint32_t pos, float *cs);

#endif
