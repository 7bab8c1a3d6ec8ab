/* engine/kernel/lanes_avx512.h - sixteen lanes as one 512-bit register. Same results as
 * lanes_ref.h. */
#ifndef STROBE_KERNEL_LANES_H
#define STROBE_KERNEL_LANES_H

#include "engine/kernel/internal.h"

#include <immintrin.h>
#include <math.h>

typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
static inline vf vf_add(vf x, vf y)
{
    return _mm512_add_ps(x, y);
}
static inline vf vf_sub(vf x, vf y)
{
    return _mm512_sub_ps(x, y);
}
static inline vf vf_mul(vf x, vf y)
{
    return _mm512_mul_ps(x, y);
}
static inline vf vf_div(vf x, vf y)
{
    return _mm512_div_ps(x, y);
}
static inline vf vf_fma(vf x, vf y, vf z)
{
    return _mm512_fmadd_ps(x, y, z);
}
static inline vf vf_min(vf x, vf y)
{
    return _mm512_min_ps(x, y);
}
static inline vf vf_max(vf x, vf y)
{
    return _mm512_max_ps(x, y);
}
static inline vf vf_pick_lt(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
static inline vf vf_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline void vf_to_half(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_bf16(const uint16_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
static inline vi vi_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}
static inline vi vi_add(vi x, vi y)
{
    return _mm512_add_epi32(x, y);
}
static inline vi vi_sub(vi x, vi y)
{
    return _mm512_sub_epi32(x, y);
}
static inline vi vi_shl(vi x, unsigned n)
{
    return _mm512_slli_epi32(x, n);
}
static inline vi vi_half(vi x)
{
    return _mm512_srai_epi32(x, 1);
}
static inline vf vf_from_int(vi x)
{
    return _mm512_cvtepi32_ps(x);
}
static inline vi vf_bits(vf x)
{
    return _mm512_castps_si512(x);
}
static inline vf vf_from_bits(vi x)
{
    return _mm512_castsi512_ps(x);
}
static inline float vf_sum(vf x)
{
    __m256 s = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
static inline vi vi_dot4(vi acc, const uint8_t *u, const int8_t *x, bool wide)
{
    (void)wide;
    int32_t four;
    memcpy(&four, x, 4);
    return _mm512_dpbusd_epi32(acc, _mm512_loadu_si512(u), _mm512_set1_epi32(four));
}

enum { TILE = 16 };

#endif
