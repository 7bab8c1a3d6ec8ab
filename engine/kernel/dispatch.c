/* engine/kernel/dispatch.c - levels, and the small functions that need none. */
#include "engine/kernel/internal.h"

enum cpu_level cpu_level_max(void)
{
#ifdef STROBE_SIMD_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni"))
        return CPU_AVX512;
#endif
#ifdef STROBE_SIMD_AVX2
    /* Every processor with AVX2 and FMA has F16C, which gcc 12 cannot ask for by name. */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return CPU_AVX2;
#endif
    return CPU_REF;
}

const char *cpu_level_name(enum cpu_level lv)
{
    static const char *const names[CPU_LEVELS] = { "ref", "avx2", "avx512" };
    return lv < CPU_LEVELS ? names[lv] : "unknown";
}

const struct kernels *kernels_get(enum cpu_level level)
{
    enum cpu_level max = cpu_level_max();
    if (level > max)
        level = max;
#ifdef STROBE_SIMD_AVX512
    if (level == CPU_AVX512)
        return &kernels_avx512;
#endif
#ifdef STROBE_SIMD_AVX2
    if (level == CPU_AVX2)
        return &kernels_avx2;
#endif
    return &kernels_ref;
}

enum cpu_level kernels_level(const struct kernels *k)
{
    return k->level;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7FFF, w;
    float f;
    if (mag < 0x400) { /* zero and subnormals: mag * 2^-24 is exact */
        f = (float)mag * 0x1p-24f;
        memcpy(&w, &f, 4);
        w |= sign;
    } else {
        w = sign | (mag >= 0x7C00 ? (mag << 13) | 0x7F800000 : (mag << 13) + (112u << 23));
        if (mag > 0x7C00)
            w |= 0x400000; /* quiet, as the processor's conversion does */
    }
    memcpy(&f, &w, 4);
    return f;
}

uint16_t f32_to_f16(float x)
{
    uint32_t w, sign;
    memcpy(&w, &x, 4);
    sign = w >> 16 & 0x8000;
    w &= 0x7FFFFFFF;
    if (w > 0x7F800000)
        return (uint16_t)(sign | 0x7E00 | (w >> 13 & 0x3FF));
    if (w >= 0x477FF000) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7C00);
    if (w < 0x38800000) { /* subnormal: adding 0.5 leaves the rounded multiple of 2^-24 below */
        float f;
        memcpy(&f, &w, 4);
        f += 0.5f;
        memcpy(&w, &f, 4);
        return (uint16_t)(sign | (w - 0x3F000000));
    }
    w += 0xFFF + (w >> 13 & 1);
    return (uint16_t)(sign | ((w - (112u << 23)) >> 13));
}

void vec_rmsnorm(const struct kernels *k, float *y, const float *x, const float *w, size_t n,
                 float eps)
{
    k->rmsnorm(y, x, w, n, eps);
}
void vec_layernorm(const struct kernels *k, float *y, const float *x, const float *w,
                   const float *b, size_t n, float eps)
{
    k->layernorm(y, x, w, b, n, eps);
}
void vec_add(const struct kernels *k, float *y, const float *x, size_t n)
{
    k->add(y, x, n);
}
void vec_scale(const struct kernels *k, float *y, float s, size_t n)
{
    k->scale(y, s, n);
}
void vec_mul(const struct kernels *k, float *y, const float *x, size_t n)
{
    k->mul(y, x, n);
}
void vec_softcap(const struct kernels *k, float *y, float cap, size_t n)
{
    k->softcap(y, cap, n);
}
void vec_act(const struct kernels *k, enum act_kind kind, float threshold, float *y, const float *x,
             size_t n)
{
    k->act(kind, threshold, y, x, n);
}
void vec_rope(const struct kernels *k, float *x, size_t n_head, size_t d_head, size_t n_rot,
              const float *cs, bool neox)
{
    k->rope(x, n_head, d_head, n_rot, cs, neox);
}
double vec_logsumexp(const struct kernels *k, const float *x, size_t n)
{
    return k->logsumexp(x, n);
}
size_t vec_argmax(const struct kernels *k, const float *x, size_t n)
{
    return k->argmax(x, n);
}
void vec_to_f16(const struct kernels *k, uint16_t *dst, const float *src, size_t n)
{
    k->to_f16(dst, src, n);
}
