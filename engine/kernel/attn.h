/* engine/kernel/attn.h - causal grouped-query attention over f16 or f32 keys and values, online
 * softmax.
 * Key blocks of ATTN_BLOCK positions are visited in ascending order from position 0 (or from the
 * block that holds the window's first visible key), so a token's result does not depend on how its
 * prompt was cut into batches, on its neighbours or on threads. */
#ifndef STROBE_KERNEL_ATTN_H
#define STROBE_KERNEL_ATTN_H

#include "engine/base/pool.h"
#include "engine/kernel/dispatch.h"

#include <stddef.h>
#include <stdint.h>

enum { ATTN_BLOCK = 64 };

/* One head group's cache of one session and layer: [cap_tok, d] of `type`, rows contiguous; head h
 * at base + h * head_stride elements. Positions 0..pos are already written for every query row. The
 * arithmetic is f32 either way: values that f16 holds exactly give the same bits from both. */
struct attn_cache {
    enum dtype type; /* DT_F16 or DT_F32 */
    const void *k, *v;
    size_t k_head_stride, v_head_stride; /* elements between kv heads */
};

/* n_tok consecutive positions of one session: rows row0.. of q and out; first position pos0. */
struct attn_seg {
    struct attn_cache cache;
    uint32_t row0, n_tok, pos0;
};

struct attn_shape {
    uint32_t n_head, n_kv, d_k, d_v; /* n_head % n_kv == 0 */
    float scale;                     /* multiplies q.k */
    float softcap;                   /* 0: none; else cap * tanh(s / cap) before the mask */
    uint32_t window;                 /* 0: none; else key p is visible from q when q - window < p */
};

/* Scratch bytes for one worker. */
size_t attn_scratch_bytes(struct attn_shape sh);
/* q: f32 [rows, n_head, d_k] after RoPE; out: f32 [rows, n_head, d_v]. scratch: one block of
 * attn_scratch_bytes() per pool worker, 64-byte aligned, `scratch_stride` bytes apart. */
void attention(const struct kernels *k, struct pool *pool, struct attn_shape sh,
               const struct attn_seg *seg, size_t n_seg, const float *q, float *out, void *scratch,
               size_t scratch_stride);

/* Stores f32 [n] as f16. */
void vec_to_f16(const struct kernels *k, uint16_t *dst, const float *src, size_t n);

#endif
