/* engine/kernel/lanes_ref.h - sixteen lanes in portable C: the definition of every operation that
 * the SIMD levels must reproduce bit for bit. Comparisons follow "a < b ? a : b" also for NaN. */
#ifndef STROBE_KERNEL_LANES_H
#define STROBE_KERNEL_LANES_H

#include "engine/kernel/internal.h"

#include <math.h>

typedef struct {
    float f[16];
} vf;
typedef struct {
    int32_t i[16];
} vi;

#define LANES(expr)                                                                                \
    for (int l = 0; l < 16; l++)                                                                   \
    expr

static inline vf vf_set1(float x)
{
    vf r;
    LANES(r.f[l] = x);
    return r;
}
static inline vf vf_load(const float *p)
{
    vf r;
    memcpy(r.f, p, sizeof r.f);
    return r;
}
static inline void vf_store(float *p, vf a)
{
    memcpy(p, a.f, sizeof a.f);
}
static inline vf vf_add(vf a, vf b)
{
    LANES(a.f[l] = a.f[l] + b.f[l]);
    return a;
}
static inline vf vf_sub(vf a, vf b)
{
    LANES(a.f[l] = a.f[l] - b.f[l]);
    return a;
}
static inline vf vf_mul(vf a, vf b)
{
    LANES(a.f[l] = a.f[l] * b.f[l]);
    return a;
}
static inline vf vf_div(vf a, vf b)
{
    LANES(a.f[l] = a.f[l] / b.f[l]);
    return a;
}
/* a * b + c, rounded once. */
static inline vf vf_fma(vf a, vf b, vf c)
{
    LANES(c.f[l] = fmaf(a.f[l], b.f[l], c.f[l]));
    return c;
}
static inline vf vf_min(vf a, vf b)
{
    LANES(b.f[l] = a.f[l] < b.f[l] ? a.f[l] : b.f[l]);
    return b;
}
static inline vf vf_max(vf a, vf b)
{
    LANES(b.f[l] = a.f[l] > b.f[l] ? a.f[l] : b.f[l]);
    return b;
}
/* a < b ? x : y */
static inline vf vf_pick_lt(vf a, vf b, vf x, vf y)
{
    LANES(y.f[l] = a.f[l] < b.f[l] ? x.f[l] : y.f[l]);
    return y;
}
static inline vf vf_half(const uint16_t *p)
{
    vf r;
    LANES(r.f[l] = f16_to_f32(p[l]));
    return r;
}
static inline void vf_to_half(uint16_t *p, vf a)
{
    LANES(p[l] = f32_to_f16(a.f[l]));
}
static inline vf vf_bf16(const uint16_t *p)
{
    vf r;
    LANES({
        uint32_t w = (uint32_t)p[l] << 16;
        memcpy(&r.f[l], &w, 4);
    });
    return r;
}
static inline vi vi_set1(int32_t x)
{
    vi r;
    LANES(r.i[l] = x);
    return r;
}
static inline vi vi_add(vi a, vi b)
{
    LANES(a.i[l] = (int32_t)((uint32_t)a.i[l] + (uint32_t)b.i[l]));
    return a;
}
static inline vi vi_sub(vi a, vi b)
{
    LANES(a.i[l] = (int32_t)((uint32_t)a.i[l] - (uint32_t)b.i[l]));
    return a;
}
static inline vi vi_shl(vi a, unsigned n)
{
    LANES(a.i[l] = (int32_t)((uint32_t)a.i[l] << n));
    return a;
}
static inline vi vi_half(vi a) /* arithmetic shift right by one */
{
    LANES(a.i[l] = a.i[l] >> 1);
    return a;
}
static inline vf vf_from_int(vi a)
{
    vf r;
    LANES(r.f[l] = (float)a.i[l]);
    return r;
}
static inline vi vf_bits(vf a)
{
    vi r;
    memcpy(&r, &a, sizeof r);
    return r;
}
static inline vf vf_from_bits(vi a)
{
    vf r;
    memcpy(&r, &a, sizeof r);
    return r;
}
/* Lane i with i + 8, then 4, 2, 1. */
static inline float vf_sum(vf a)
{
    for (int n = 8; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            a.f[l] = a.f[l] + a.f[l + n];
    return a.f[0];
}
/* acc[r] += sum over j < 4 of u[4r + j] * x[j]. wide: u may exceed 127. */
static inline vi vi_dot4(vi acc, const uint8_t *u, const int8_t *x, bool wide)
{
    (void)wide;
    LANES(acc.i[l] +=
          u[4 * l] * x[0] + u[4 * l + 1] * x[1] + u[4 * l + 2] * x[2] + u[4 * l + 3] * x[3]);
    return acc;
}

#undef LANES
enum { TILE = 4 }; /* tokens whose accumulators fit the registers */

#endif
