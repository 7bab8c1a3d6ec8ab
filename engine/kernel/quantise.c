/* engine/kernel/quantise.c - floats to file blocks. Rules: model-formats.md 2.4; the K-quants take
 * the plain minimum and maximum of each sub-block, which is good enough for tests and synthetic
 * models. */
#include "engine/kernel/internal.h"

#include <assert.h>
#include <math.h>

static void put_half(uint8_t *dst, float v)
{
    uint16_t h = f32_to_f16(v);
    memcpy(dst, &h, 2);
}

static uint8_t clamp_u8(float v, int max)
{
    int i = (int)v;
    return (uint8_t)(i < 0 ? 0 : i > max ? max : i);
}

static void span(const float *x, int n, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (int i = 1; i < n; i++) {
        *lo = x[i] < *lo ? x[i] : *lo;
        *hi = x[i] > *hi ? x[i] : *hi;
    }
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float lo, hi;
    span(x, n, &lo, &hi);
    return -lo > hi ? lo : hi;
}

static void quant_q8_0(const float *x, uint8_t *b)
{
    float d = fabsf(extreme(x, QK)) / 127, inv = d > 0 ? 1 / d : 0;
    put_half(b, d);
    for (int i = 0; i < QK; i++)
        b[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inv);
}

static void put_nibbles(uint8_t *qs, uint8_t *qh, const uint8_t *q)
{
    uint32_t high = 0;
    for (int i = 0; i < 16; i++)
        qs[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
    for (int i = 0; qh && i < QK; i++)
        high |= (uint32_t)(q[i] >> 4 & 1) << i;
    if (qh)
        memcpy(qh, &high, 4);
}

static void quant_symmetric(const float *x, uint8_t *b, bool five)
{
    int half = five ? 16 : 8;
    float d = extreme(x, QK) / (float)-half, inv = d != 0 ? 1 / d : 0;
    uint8_t q[QK];
    put_half(b, d);
    for (int i = 0; i < QK; i++)
        q[i] = clamp_u8(x[i] * inv + (float)half + 0.5f, 2 * half - 1);
    put_nibbles(b + (five ? 6 : 2), five ? b + 2 : NULL, q);
}

static void quant_affine(const float *x, uint8_t *b, bool five)
{
    int top = five ? 31 : 15;
    float lo, hi;
    uint8_t q[QK];
    span(x, QK, &lo, &hi);
    float d = (hi - lo) / (float)top, inv = d > 0 ? 1 / d : 0;
    put_half(b, d);
    put_half(b + 2, lo);
    for (int i = 0; i < QK; i++)
        q[i] = clamp_u8((x[i] - lo) * inv + 0.5f, top);
    put_nibbles(b + (five ? 8 : 4), five ? b + 4 : NULL, q);
}

/* Sub-blocks of `n` with a scale (and a minimum when `min`) each: fills s[], m[] in units of d,
 * dmin. */
struct subs {
    float d, dmin;
    int s[16], m[16];
};
static struct subs sub_scales(const float *x, int n, int count, int levels, int top, bool min)
{
    float scale[16], low[16], smax = 0, mmax = 0;
    struct subs r;
    for (int j = 0; j < count; j++) {
        float lo, hi;
        span(x + j * n, n, &lo, &hi);
        if (min) {
            low[j] = lo < 0 ? -lo : 0;
            scale[j] = (hi + low[j]) / (float)levels;
        } else {
            low[j] = 0;
            scale[j] = (-lo > hi ? -lo : hi) / (float)levels;
        }
        smax = scale[j] > smax ? scale[j] : smax;
        mmax = low[j] > mmax ? low[j] : mmax;
    }
    r.d = f16_to_f32(f32_to_f16(smax / (float)top));
    r.dmin = f16_to_f32(f32_to_f16(mmax / (float)top));
    for (int j = 0; j < count; j++) {
        r.s[j] = r.d > 0 ? clamp_u8(scale[j] / r.d + 0.5f, top) : 0;
        r.m[j] = r.dmin > 0 ? clamp_u8(low[j] / r.dmin + 0.5f, top) : 0;
    }
    return r;
}

static void put_k4(uint8_t *sc, const struct subs *r)
{
    memset(sc, 0, 12);
    for (int j = 0; j < 4; j++) {
        sc[j] = (uint8_t)(r->s[j] | (r->s[j + 4] >> 4) << 6);
        sc[j + 4] = (uint8_t)(r->m[j] | (r->m[j + 4] >> 4) << 6);
        sc[j + 8] = (uint8_t)((r->s[j + 4] & 15) | (r->m[j + 4] & 15) << 4);
    }
}

static void quant_q45_k(const float *x, uint8_t *b, bool five)
{
    int top = five ? 31 : 15;
    struct subs r = sub_scales(x, 32, 8, top, 63, true);
    uint8_t *qh = b + 16, *qs = b + (five ? 48 : 16);
    put_half(b, r.d);
    put_half(b + 2, r.dmin);
    put_k4(b + 4, &r);
    memset(qs, 0, 128);
    if (five)
        memset(qh, 0, 32);
    for (int i = 0; i < 256; i++) {
        int j = i / 32;
        float s = r.d * (float)r.s[j], m = r.dmin * (float)r.m[j];
        uint8_t q = s > 0 ? clamp_u8((x[i] + m) / s + 0.5f, top) : 0;
        qs[32 * (j / 2) + i % 32] |= (uint8_t)((q & 15) << (4 * (j & 1)));
        if (five)
            qh[i % 32] |= (uint8_t)((q >> 4) << j);
    }
}

static void quant_q6_k(const float *x, uint8_t *b)
{
    struct subs r = sub_scales(x, 16, 16, 31, 127, false);
    memset(b, 0, 192);
    put_half(b + 208, r.d);
    for (int j = 0; j < 16; j++)
        b[192 + j] = (uint8_t)r.s[j];
    for (int i = 0; i < 256; i++) {
        int h = i / 128, g = i % 128 / 32, l = i % 32;
        int j = i / 16;
        float s = r.d * (float)r.s[j];
        uint8_t q = s > 0 ? clamp_u8(x[i] / s + 32.5f, 63) : 32;
        b[64 * h + 32 * (g % 2) + l] |= (uint8_t)((q & 15) << (g >= 2 ? 4 : 0));
        b[128 + 32 * h + l] |= (uint8_t)((q >> 4) << (2 * g));
    }
}

static void quant_q3_k(const float *x, uint8_t *b)
{
    struct subs r = sub_scales(x, 16, 16, 3, 31, false);
    memset(b, 0, 110);
    put_half(b + 108, r.d);
    for (int k = 0; k < 16; k++) {
        unsigned s = (unsigned)r.s[k] + 32;
        b[96 + k % 8] |= (uint8_t)((s & 15) << (k < 8 ? 0 : 4));
        b[104 + k % 4] |= (uint8_t)((s >> 4) << (2 * (k / 4)));
    }
    for (int i = 0; i < 256; i++) {
        int h = i / 128, g = i % 128 / 32, l = i % 32;
        int j = i / 16;
        float s = r.d * (float)r.s[j];
        uint8_t q = s > 0 ? clamp_u8(x[i] / s + 4.5f, 7) : 4;
        b[32 + 32 * h + l] |= (uint8_t)((q & 3) << (2 * g));
        b[l] |= (uint8_t)((q >> 2) << (4 * h + g));
    }
}

static void quant_q2_k(const float *x, uint8_t *b)
{
    struct subs r = sub_scales(x, 16, 16, 3, 15, true);
    memset(b, 0, 80);
    put_half(b + 80, r.d);
    put_half(b + 82, r.dmin);
    for (int k = 0; k < 16; k++)
        b[k] = (uint8_t)(r.s[k] | r.m[k] << 4);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, g = i % 128 / 32, l = i % 32;
        int j = i / 16;
        float s = r.d * (float)r.s[j], m = r.dmin * (float)r.m[j];
        uint8_t q = s > 0 ? clamp_u8((x[i] + m) / s + 0.5f, 3) : 0;
        b[16 + 32 * h + l] |= (uint8_t)(q << (2 * g));
    }
}

static void quant_block(enum dtype type, const float *x, uint8_t *b)
{
    switch (type) {
    case DT_Q8_0:
        quant_q8_0(x, b);
        return;
    case DT_Q4_0:
    case DT_Q5_0:
        quant_symmetric(x, b, type == DT_Q5_0);
        return;
    case DT_Q4_1:
    case DT_Q5_1:
        quant_affine(x, b, type == DT_Q5_1);
        return;
    case DT_Q4_K:
    case DT_Q5_K:
        quant_q45_k(x, b, type == DT_Q5_K);
        return;
    case DT_Q6_K:
        quant_q6_k(x, b);
        return;
    case DT_Q3_K:
        quant_q3_k(x, b);
        return;
    case DT_Q2_K:
        quant_q2_k(x, b);
        return;
    default:
        assert(!"quant_block: a plain type");
    }
}

static uint16_t f32_to_bf16(float x)
{
    uint32_t w;
    memcpy(&w, &x, 4);
    if ((w & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(w >> 16 | 0x40); /* keep a NaN a NaN */
    return (uint16_t)((w + 0x7FFF + (w >> 16 & 1)) >> 16);
}

void dtype_from_f32(enum dtype type, const float *src, void *dst, size_t n)
{
    const struct dtype_info *t = dtype_info((uint32_t)type);
    uint8_t *d = dst;
    assert(n % t->block_elems == 0);
    if (type == DT_F32) {
        memcpy(dst, src, 4 * n);
        return;
    }
    for (size_t i = 0; i < n / t->block_elems; i++) {
        if (type == DT_F16 || type == DT_BF16) {
            uint16_t h = type == DT_F16 ? f32_to_f16(src[i]) : f32_to_bf16(src[i]);
            memcpy(d + 2 * i, &h, 2);
        } else {
            quant_block(type, src + i * t->block_elems, d + i * t->block_bytes);
        }
    }
}
