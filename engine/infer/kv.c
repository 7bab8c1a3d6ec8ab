/* engine/infer/kv.c - see kv.h. Layout: [slot][layer][k: n_kv][cap][d_k], then v likewise. */
#include "engine/infer/kv.h"

#include "engine/base/arena.h"
#include "engine/base/num.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct kv {
    struct arena mem;
    uint16_t *data;
    uint32_t n_layer, n_slot, cap, n_kv, d_k, d_v;
    size_t layer_elems; /* keys and values of one layer of one slot */
};

size_t kv_bytes(const struct hparams *hp, uint32_t n_slot, uint32_t cap_tok)
{
    size_t n = sizeof(uint16_t);
    if (!num_mul(n, (size_t)hp->d_k + hp->d_v, &n) || !num_mul(n, hp->n_kv, &n) ||
        !num_mul(n, cap_tok, &n) || !num_mul(n, hp->n_layer, &n) || !num_mul(n, n_slot, &n))
        return 0;
    return n;
}

enum status kv_create(const struct hparams *hp, uint32_t n_slot, uint32_t cap_tok, struct kv **ret,
                      struct err *err)
{
    size_t bytes = kv_bytes(hp, n_slot, cap_tok);
    if (bytes == 0)
        return err_set(err, ST_RANGE, "key/value cache of %u slots x %u positions", n_slot,
                       cap_tok);
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv)
        return err_set(err, ST_NOMEM, "key/value cache");
    *kv = (struct kv){ .n_layer = hp->n_layer,
                       .n_slot = n_slot,
                       .cap = cap_tok,
                       .n_kv = hp->n_kv,
                       .d_k = hp->d_k,
                       .d_v = hp->d_v };
    kv->layer_elems = (size_t)hp->n_kv * cap_tok * (hp->d_k + hp->d_v);
    if (arena_init(&kv->mem, bytes, "key/value cache", err) != ST_OK) {
        free(kv);
        return err->code;
    }
    kv->data = arena_alloc(&kv->mem, bytes, 64);
    *ret = kv;
    return ST_OK;
}

void kv_free(struct kv *kv)
{
    if (!kv)
        return;
    arena_clear(&kv->mem);
    free(kv);
}

uint32_t kv_cap(const struct kv *kv)
{
    return kv->cap;
}

static uint16_t *keys(const struct kv *kv, uint32_t slot, uint32_t layer)
{
    assert(slot < kv->n_slot && layer < kv->n_layer);
    return kv->data + ((size_t)slot * kv->n_layer + layer) * kv->layer_elems;
}

static uint16_t *values(const struct kv *kv, uint32_t slot, uint32_t layer)
{
    return keys(kv, slot, layer) + (size_t)kv->n_kv * kv->cap * kv->d_k;
}

struct attn_cache kv_view(const struct kv *kv, uint32_t slot, uint32_t layer)
{
    return (struct attn_cache){ .k = keys(kv, slot, layer),
                                .v = values(kv, slot, layer),
                                .k_head_stride = (size_t)kv->cap * kv->d_k,
                                .v_head_stride = (size_t)kv->cap * kv->d_v };
}

void kv_store(struct kv *kv, const struct kernels *k, uint32_t slot, uint32_t layer, uint32_t pos,
              const float *key, const float *value)
{
    assert(pos < kv->cap);
    uint16_t *kd = keys(kv, slot, layer), *vd = values(kv, slot, layer);
    for (size_t h = 0; h < kv->n_kv; h++) {
        vec_to_f16(k, kd + (h * kv->cap + pos) * kv->d_k, key + h * kv->d_k, kv->d_k);
        vec_to_f16(k, vd + (h * kv->cap + pos) * kv->d_v, value + h * kv->d_v, kv->d_v);
    }
}

void kv_copy(struct kv *kv, uint32_t from, uint32_t to, uint32_t n)
{
    for (uint32_t l = 0; l < kv->n_layer; l++)
        for (size_t h = 0; h < kv->n_kv; h++) {
            size_t at_k = h * kv->cap * kv->d_k, at_v = h * kv->cap * kv->d_v;
            memcpy(keys(kv, to, l) + at_k, keys(kv, from, l) + at_k, (size_t)n * kv->d_k * 2);
            memcpy(values(kv, to, l) + at_v, values(kv, from, l) + at_v, (size_t)n * kv->d_v * 2);
        }
}
