/* engine/kernel/gemm_bf16_ref.c - bf16 packing and tiles in plain C: the definition that the
 * vector code repeats. See gemm_panel_internal.h. */
#include "engine/kernel/gemm_panel_internal.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float x)
{
    uint32_t w;
    memcpy(&w, &x, 4);
    return w;
}

static float float_of(uint32_t w)
{
    float x;
    memcpy(&x, &w, 4);
    return x;
}

/* Nearest even, as VCVTNE2PS2BF16: denormals are zero, NaN becomes quiet. */
static uint32_t round_bf16(float x)
{
    uint32_t w = bits_of(x), mag = w & 0x7FFFFFFF;
    if (mag > 0x7F800000)
        return w >> 16 | 0x40;
    if (mag < 0x00800000)
        return w >> 16 & 0x8000;
    return (w + 0x7FFF + (w >> 16 & 1)) >> 16;
}

static uint32_t element(const struct panel_pack *p, size_t x, size_t k)
{
    if (x >= p->n_x || k >= p->n_k)
        return 0;
    return round_bf16(p->along_k ? p->src[x * p->ld + k] : p->src[k * p->ld + x]);
}

static void pack_ref(const struct panel_pack *p)
{
    size_t n_x = (p->n_x + BF16_LANES - 1) / BF16_LANES * BF16_LANES;
    for (size_t x = 0; x < n_x; x++) {
        uint32_t *d = p->dst + x / p->width * p->stride + x % p->width;
        for (size_t k = 0; k < p->n_k; k += 2)
            d[k / 2 * p->width] = element(p, x, k) | element(p, x, k + 1) << 16;
    }
}

static float flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0F, x) : x;
}

static float add_pair(float acc, uint32_t a, uint32_t b)
{
    acc = flush(fmaf(float_of(a & 0xFFFF0000), float_of(b & 0xFFFF0000), acc));
    return flush(fmaf(float_of(a << 16), float_of(b << 16), acc));
}

static void tile_ref(const struct panel_tile *t)
{
    for (unsigned r = 0; r < t->rows; r++)
        for (unsigned j = 0; j < t->cols; j++) {
            float acc = 0, *c = t->c + r * t->ldc + j;
            for (size_t p = 0; p < t->n_word; p++)
                acc = add_pair(acc, t->a[p * BF16_ROWS + r], t->b[p * BF16_COLS + j]);
            float v = t->alpha * acc, was = t->beta == 0 || t->from ? 0 : *c;
            if (t->from)
                was = t->from[r * t->ldfrom + j] + (t->bias ? t->bias[j] : 0);
            *c = t->beta == 0 ? v : fmaf(t->beta, was, v);
        }
}

const struct panel_ops bf16_ref = { pack_ref,   tile_ref, BF16_ROWS, BF16_COLS,
                                    BF16_LANES, 2,        BF16_DEPTH };
