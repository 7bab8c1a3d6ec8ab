/* engine/infer/kv.h - key/value cache of all slots. Owner: the engine thread. One slot holds one
 * sequence: f16 or f32, per layer and kv head contiguous rows [cap_tok, d]. Keys are stored after
 * RoPE (Su et al. 2021, sec. 3.4.2), so a row is tied to its position: reuse it as a prefix, never
 * move it. f16 costs half the memory and the rounding of 2^-11 per element; f32 costs none: logits
 * of F32 weights then agree with other programs' to 1e-5 instead of 1e-2. */
#ifndef STROBE_INFER_KV_H
#define STROBE_INFER_KV_H

#include "engine/base/err.h"
#include "engine/kernel/attn.h"
#include "engine/model/model.h"

#include <stddef.h>
#include <stdint.h>

struct kv; /* opaque */

/* type: DT_F16 or DT_F32. Bytes for n_slot sequences of cap_tok positions; 0: the product does not
 * fit size_t. */
size_t kv_bytes(const struct hparams *hp, enum dtype type, uint32_t n_slot, uint32_t cap_tok);
enum status kv_create(const struct hparams *hp, enum dtype type, uint32_t n_slot, uint32_t cap_tok,
                      struct kv **ret, struct err *err);
void kv_free(struct kv *kv);
uint32_t kv_cap(const struct kv *kv);
/* The view that attention() wants for one slot and layer. */
struct attn_cache kv_view(const struct kv *kv, uint32_t slot, uint32_t layer);
/* Stores one position. k: f32 [n_kv, d_k] after RoPE, v: f32 [n_kv, d_v]; pos < kv_cap(). */
void kv_store(struct kv *kv, const struct kernels *k, uint32_t slot, uint32_t layer, uint32_t pos,
              const float *key, const float *value);
/* Copies positions 0..n-1 of one slot to another (shared prefix). */
void kv_copy(struct kv *kv, uint32_t from, uint32_t to, uint32_t n);

#endif
