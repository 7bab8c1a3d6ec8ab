/* engine/kernel/lanes_avx2.h - sixteen lanes as two 256-bit registers. Same results as lanes_ref.h.
 */
#ifndef STROBE_KERNEL_LANES_H
#define STROBE_KERNEL_LANES_H

#include "engine/kernel/internal.h"

#include <immintrin.h>
#include <math.h>

typedef struct {
    __m256 a, b;
} vf;
typedef struct {
    __m256i a, b;
} vi;

static inline vf vf_set1(float x)
{
    return (vf){ _mm256_set1_ps(x), _mm256_set1_ps(x) };
}
static inline vf vf_load(const float *p)
{
    return (vf){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}
static inline void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline vf vf_add(vf x, vf y)
{
    return (vf){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) };
}
static inline vf vf_sub(vf x, vf y)
{
    return (vf){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) };
}
static inline vf vf_mul(vf x, vf y)
{
    return (vf){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) };
}
static inline vf vf_div(vf x, vf y)
{
    return (vf){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) };
}
static inline vf vf_fma(vf x, vf y, vf z)
{
    return (vf){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
static inline vf vf_min(vf x, vf y)
{
    return (vf){ _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b) };
}
static inline vf vf_max(vf x, vf y)
{
    return (vf){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) };
}
static inline vf vf_pick_lt(vf a, vf b, vf x, vf y)
{
    return (vf){ _mm256_blendv_ps(y.a, x.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(y.b, x.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ)) };
}
static inline vf vf_half(const uint16_t *p)
{
    return (vf){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))) };
}
static inline void vf_to_half(uint16_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
static inline __m256 bf16_8(const uint16_t *p)
{
    __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}
static inline vf vf_bf16(const uint16_t *p)
{
    return (vf){ bf16_8(p), bf16_8(p + 8) };
}
static inline vi vi_set1(int32_t x)
{
    return (vi){ _mm256_set1_epi32(x), _mm256_set1_epi32(x) };
}
static inline vi vi_add(vi x, vi y)
{
    return (vi){ _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b) };
}
static inline vi vi_sub(vi x, vi y)
{
    return (vi){ _mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b) };
}
static inline vi vi_shl(vi x, unsigned n)
{
    return (vi){ _mm256_slli_epi32(x.a, (int)n), _mm256_slli_epi32(x.b, (int)n) };
}
static inline vi vi_half(vi x)
{
    return (vi){ _mm256_srai_epi32(x.a, 1), _mm256_srai_epi32(x.b, 1) };
}
static inline vf vf_from_int(vi x)
{
    return (vf){ _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b) };
}
static inline vi vf_bits(vf x)
{
    return (vi){ _mm256_castps_si256(x.a), _mm256_castps_si256(x.b) };
}
static inline vf vf_from_bits(vi x)
{
    return (vf){ _mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b) };
}
static inline float sum_8(__m256 s)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
static inline float vf_sum(vf x)
{
    return sum_8(_mm256_add_ps(x.a, x.b));
}
/* u * x pairwise to 16 bits would saturate for u > 127, so a wide u goes in two parts. */
static inline __m256i dot4_8(__m256i acc, __m256i u, __m256i x, bool wide)
{
    __m256i ones = _mm256_set1_epi16(1);
    if (!wide)
        return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, x), ones));
    __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(u, _mm256_set1_epi8(127)), x);
    __m256i top = _mm256_and_si256(_mm256_srli_epi16(u, 7), _mm256_set1_epi8(1));
    top = _mm256_madd_epi16(_mm256_maddubs_epi16(top, x), _mm256_set1_epi16(128));
    return _mm256_add_epi32(acc, _mm256_add_epi32(_mm256_madd_epi16(low, ones), top));
}
static inline vi vi_dot4(vi acc, const uint8_t *u, const int8_t *x, bool wide)
{
    int32_t four;
    memcpy(&four, x, 4);
    __m256i xs = _mm256_set1_epi32(four);
    return (vi){ dot4_8(acc.a, _mm256_loadu_si256((const __m256i *)u), xs, wide),
                 dot4_8(acc.b, _mm256_loadu_si256((const __m256i *)(u + 32)), xs, wide) };
}

enum { TILE = 6 };

#endif
