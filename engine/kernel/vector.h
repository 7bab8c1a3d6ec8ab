/* engine/kernel/vector.h - element-wise and row-wise mathematics on f32 arrays. Same bits at every
 * level (see dispatch.h); exp and tanh are our own polynomials for that reason. In-place use (y ==
 * x) is allowed everywhere. Definitions: model-formats.md 5.1 and 6. Pure, any thread. */
#ifndef STROBE_KERNEL_VECTOR_H
#define STROBE_KERNEL_VECTOR_H

#include "engine/kernel/dispatch.h"

#include <stddef.h>
#include <stdint.h>

/* y = x / sqrt(mean(x^2) + eps) * w */
void vec_rmsnorm(const struct kernels *k, float *y, const float *x, const float *w, size_t n,
                 float eps);
/* y = (x - mean) / sqrt(var + eps) * w + b; b may be NULL */
void vec_layernorm(const struct kernels *k, float *y, const float *x, const float *w,
                   const float *b, size_t n, float eps);
void vec_add(const struct kernels *k, float *y, const float *x, size_t n); /* y += x */
void vec_scale(const struct kernels *k, float *y, float s, size_t n);      /* y *= s */
void vec_mul(const struct kernels *k, float *y, const float *x, size_t n); /* y *= x */
void vec_softcap(const struct kernels *k, float *y, float cap, size_t n);  /* cap * tanh(y/cap) */

enum act_kind {
    ACT_SILU,
    ACT_GELU_TANH,
    ACT_GELU_ERF, /* exact GELU, 0.5 x (1 + erf(x / sqrt 2)) */
    ACT_RELU,
    ACT_FATRELU,       /* x > threshold ? x : 0 */
    ACT_RELU2,         /* max(x, 0)^2 */
    ACT_SHIFTED_RELU,  /* max(x - threshold, 0) */
    ACT_SHIFTED_RELU2, /* max(x - threshold, 0)^2 */
    ACT_IDENTITY
};
/* y = act(x); threshold: FATReLU and the shifted ones */
void vec_act(const struct kernels *k, enum act_kind kind, float threshold, float *y, const float *x,
             size_t n);

/* Rotates n_head heads of d_head floats in place; the first n_rot elements of each take part.
 * cs: f32 [n_rot/2][2] = {cos, sin} of this position. neox: pairs (i, i + n_rot/2), else (2i,
 * 2i+1). */
void vec_rope(const struct kernels *k, float *x, size_t n_head, size_t d_head, size_t n_rot,
              const float *cs, bool neox);

/* log(sum(exp(x))) in double, order fixed. */
double vec_logsumexp(const struct kernels *k, const float *x, size_t n);
/* Index of the largest, the first one on ties; NaN never wins. */
size_t vec_argmax(const struct kernels *k, const float *x, size_t n);

uint16_t f32_to_f16(float x); /* nearest even */
float f16_to_f32(uint16_t h);

#endif
