/* The key/value cache on its own. */
#include "engine/infer/kv.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const struct hparams shape = { .n_layer = 3, .n_kv = 2, .d_k = 8, .d_v = 24 };
enum { CAP = 5, SLOTS = 2 };

/* A number that names its place; exact in f16. */
static float mark(uint32_t slot, uint32_t layer, uint32_t pos, uint32_t head, bool value)
{
    return (float)((((slot * 3 + layer) * CAP + pos) * 2 + head) * 2 + value + 1);
}

static void store(struct kv *kv, uint32_t slot, uint32_t layer, uint32_t pos)
{
    float k[2 * 8], v[2 * 24];
    for (uint32_t h = 0; h < 2; h++) {
        for (uint32_t i = 0; i < 8; i++)
            k[h * 8 + i] = mark(slot, layer, pos, h, false) + (float)i / 8;
        for (uint32_t i = 0; i < 24; i++)
            v[h * 24 + i] = mark(slot, layer, pos, h, true) + (float)i / 16;
    }
    kv_store(kv, kernels_get(cpu_level_max()), slot, layer, pos, k, v);
}

static float read_at(const struct attn_cache *c, const void *base, size_t i)
{
    return c->type == DT_F16 ? f16_to_f32(((const uint16_t *)base)[i]) : ((const float *)base)[i];
}

/* Does place (slot, layer, pos) hold what was stored for slot `as`? */
static bool holds(const struct kv *kv, uint32_t slot, uint32_t layer, uint32_t pos, uint32_t as)
{
    struct attn_cache c = kv_view(kv, slot, layer);
    for (uint32_t h = 0; h < 2; h++) {
        for (uint32_t i = 0; i < 8; i++)
            if (read_at(&c, c.k, h * c.k_head_stride + pos * 8 + i) !=
                mark(as, layer, pos, h, false) + (float)i / 8)
                return false;
        for (uint32_t i = 0; i < 24; i++)
            if (read_at(&c, c.v, h * c.v_head_stride + pos * 24 + i) !=
                mark(as, layer, pos, h, true) + (float)i / 16)
                return false;
    }
    return true;
}

static const enum dtype types[] = { DT_F16, DT_F32 };

static struct kv *filled(enum dtype type)
{
    struct kv *kv = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(kv_create(&shape, type, SLOTS, CAP, &kv, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(kv_cap(kv), CAP);
    for (uint32_t s = 0; s < SLOTS; s++)
        for (uint32_t l = 0; l < 3; l++)
            for (uint32_t p = 0; p < CAP; p++)
                store(kv, s, l, p);
    return kv;
}

Test(kv, every_place_keeps_its_own_rows)
{
    for (int t = 0; t < 2; t++) {
        struct kv *kv = filled(types[t]);
        for (uint32_t s = 0; s < SLOTS; s++)
            for (uint32_t l = 0; l < 3; l++)
                for (uint32_t p = 0; p < CAP; p++)
                    cr_expect(holds(kv, s, l, p, s), "slot %u layer %u position %u", s, l, p);
        kv_free(kv);
    }
}

static void copy(enum dtype type)
{
    struct kv *kv = filled(type);
    kv_copy(kv, 0, 1, 3);
    for (uint32_t l = 0; l < 3; l++)
        for (uint32_t p = 0; p < CAP; p++) {
            cr_expect(holds(kv, 1, l, p, p < 3 ? 0 : 1), "layer %u position %u", l, p);
            cr_expect(holds(kv, 0, l, p, 0), "layer %u position %u", l, p);
        }
    kv_copy(kv, 1, 0, 0);
    cr_expect(holds(kv, 0, 0, 0, 0));
    kv_free(kv);
}

Test(kv, a_copy_takes_the_first_positions_and_no_more)
{
    copy(DT_F16);
    copy(DT_F32);
}

Test(kv, only_an_f32_cache_keeps_every_bit)
{
    float k[2 * 8], v[2 * 24];
    for (size_t i = 0; i < 2 * 8; i++)
        k[i] = 1 + (float)(i + 1) * 0x1p-20f; /* f16 has ten bits behind the point */
    for (size_t i = 0; i < 2 * 24; i++)
        v[i] = 2 - (float)(i + 1) * 0x1p-20f;
    for (int t = 0; t < 2; t++) {
        struct kv *kv = filled(types[t]);
        kv_store(kv, kernels_get(cpu_level_max()), 1, 2, 4, k, v);
        struct attn_cache c = kv_view(kv, 1, 2);
        cr_assert_eq(c.type, types[t]);
        for (size_t h = 0; h < 2; h++)
            for (size_t i = 0; i < 8; i++) {
                float got = read_at(&c, c.k, h * c.k_head_stride + 4 * 8 + i);
                cr_expect_eq(got, types[t] == DT_F32 ? k[h * 8 + i] : 1);
                got = read_at(&c, c.v, h * c.v_head_stride + 4 * 24 + i);
                cr_expect_eq(got, types[t] == DT_F32 ? v[h * 24 + i] : 2);
            }
        kv_free(kv);
    }
}

Test(kv, sizes_are_known_before_and_impossible_ones_refused)
{
    struct kv *kv = NULL;
    struct err err = ERR_INIT;
    size_t elems = (size_t)SLOTS * CAP * 3 * 2 * (8 + 24);
    cr_expect_eq(kv_bytes(&shape, DT_F16, SLOTS, CAP), elems * 2);
    cr_expect_eq(kv_bytes(&shape, DT_F32, SLOTS, CAP), elems * 4);
    struct hparams huge = shape;
    huge.n_layer = huge.n_kv = UINT32_MAX;
    cr_expect_eq(kv_bytes(&huge, DT_F32, UINT32_MAX, UINT32_MAX), 0);
    cr_expect_eq(kv_create(&huge, DT_F32, UINT32_MAX, UINT32_MAX, &kv, &err), ST_RANGE);
    cr_expect_eq(kv_bytes(&shape, DT_F16, 0, CAP), 0);
    err_clear(&err);
    cr_expect_eq(kv_create(&shape, DT_F16, 0, CAP, &kv, &err), ST_RANGE);
    huge.n_kv = 1; /* fits a number, not an address space */
    err_clear(&err);
    cr_expect_eq(kv_create(&huge, DT_F16, 1, 1 << 16, &kv, &err), ST_NOMEM, "%s", err.msg);
    cr_expect_null(kv);
    kv_free(NULL);
}
