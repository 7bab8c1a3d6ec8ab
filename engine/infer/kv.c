/* engine/infer/kv.c - see kv.h. Layout: [slot][layer][k: n_kv][cap][d_k], then v likewise. */
#include "engine/infer/kv.h"

#include "engine/base/arena.h"
#include "engine/base/num.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct kv {
    struct arena mem;
    char *data;
    enum dtype type;
    uint32_t n_layer, n_slot, cap, n_kv, d_k, d_v;
    size_t elem_bytes, layer_elems; /* elements: keys and values of one layer of one slot */
};

size_t kv_bytes(const struct hparams *hp, enum dtype type, uint32_t n_slot, uint32_t cap_tok)
{
    assert(type == DT_F16 || type == DT_F32);
    size_t n = dtype_row_bytes(type, 1);
    if (!num_mul(n, (size_t)hp->d_k + hp->d_v, &n) || !num_mul(n, hp->n_kv, &n) ||
        !num_mul(n, cap_tok, &n) || !num_mul(n, hp->n_layer, &n) || !num_mul(n, n_slot, &n))
        return 0;
    return n;
}

enum status kv_create(const struct hparams *hp, enum dtype type, uint32_t n_slot, uint32_t cap_tok,
                      struct kv **ret, struct err *err)
{
    size_t bytes = kv_bytes(hp, type, n_slot, cap_tok);
    if (bytes == 0)
        return err_set(err, ST_RANGE, "key/value cache of %u slots x %u positions", n_slot,
                       cap_tok);
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv)
        return err_set(err, ST_NOMEM, "key/value cache");
    *kv = (struct kv){ .type = type,
                       .elem_bytes = dtype_row_bytes(type, 1),
                       .n_layer = hp->n_layer,
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

static char *keys(const struct kv *kv, uint32_t slot, uint32_t layer)
{
    assert(slot < kv->n_slot && layer < kv->n_layer);
    return kv->data + ((size_t)slot * kv->n_layer + layer) * kv->layer_elems * kv->elem_bytes;
}

static char *values(const struct kv *kv, uint32_t slot, uint32_t layer)
{
    return keys(kv, slot, layer) + (size_t)kv->n_kv * kv->cap * kv->d_k * kv->elem_bytes;
}

struct attn_cache kv_view(const struct kv *kv, uint32_t slot, uint32_t layer)
{
    return (struct attn_cache){ .type = kv->type,
                                .k = keys(kv, slot, layer),
                                .v = values(kv, slot, layer),
                                .k_head_stride = (size_t)kv->cap * kv->d_k,
                                .v_head_stride = (size_t)kv->cap * kv->d_v };
}

static void store_row(const struct kv *kv, const struct kernels *k, char *base, size_t row,
                      const float *x, uint32_t d)
{
    void *dst = base + row * d * kv->elem_bytes;
    if (kv->type == DT_F16)
        vec_to_f16(k, dst, x, d);
    else
        memcpy(dst, x, d * sizeof *x);
}

void kv_store(struct kv *kv, const struct kernels *k, uint32_t slot, uint32_t layer, uint32_t pos,
              const float *key, const float *value)
{
    assert(pos < kv->cap);
    char *kd = keys(kv, slot, layer), *vd = values(kv, slot, layer);
    for (size_t h = 0; h < kv->n_kv; h++) {
        store_row(kv, k, kd, h * kv->cap + pos, key + h * kv->d_k, kv->d_k);
        store_row(kv, k, vd, h * kv->cap + pos, value + h * kv->d_v, kv->d_v);
    }
}

void kv_copy(struct kv *kv, uint32_t from, uint32_t to, uint32_t n)
{
    for (uint32_t l = 0; l < kv->n_layer; l++)
        for (size_t h = 0; h < kv->n_kv; h++) {
            size_t k_row = kv->d_k * kv->elem_bytes, v_row = kv->d_v * kv->elem_bytes;
            size_t at_k = h * kv->cap * k_row, at_v = h * kv->cap * v_row;
            memcpy(keys(kv, to, l) + at_k, keys(kv, from, l) + at_k, n * k_row);
            memcpy(values(kv, to, l) + at_v, values(kv, from, l) + at_v, n * v_row);
        }
}
