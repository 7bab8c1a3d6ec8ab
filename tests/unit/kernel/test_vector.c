#include "engine/base/rng.h"
#include "engine/kernel/vector.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static float bits_f32(uint32_t w)
{
    float f;
    memcpy(&f, &w, 4);
    return f;
}

Test(vector, half_floats_round_trip_and_round_to_even)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7C00) == 0x7C00 && (h & 0x3FF);
        cr_assert_eq(nan, f != f, "%04x", h);
        uint16_t back = f32_to_f16(f);
        cr_assert(nan ? (back & 0x7C00) == 0x7C00 && (back & 0x3FF) : back == h, "%04x -> %04x", h,
                  back);
        if (nan || (h & 0x7FFF) >= 0x7C00)
            continue;
        uint32_t up = h + 1; /* the next one away from zero */
        double mid = ((double)f + (double)f16_to_f32((uint16_t)up)) / 2;
        if ((up & 0x7FFF) < 0x7C00)
            cr_assert_eq(f32_to_f16((float)mid), h & 1 ? up : h, "between %04x and %04x", h, up);
    }
    cr_expect_eq(f32_to_f16(65519.0f), 0x7BFF);
    cr_expect_eq(f32_to_f16(65520.0f), 0x7C00);
    cr_expect_eq(f32_to_f16(bits_f32(0x33000001)), 1); /* just over half of the smallest */
    cr_expect_eq(f32_to_f16(bits_f32(0x33000000)), 0);
}

static double act_double(enum act_kind kind, double t, double x)
{
    switch (kind) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF:
        return 0.5 * x * erfc(-x / sqrt(2));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_FATRELU:
        return x > t ? x : 0;
    case ACT_RELU2:
        return x > 0 ? x * x : 0;
    case ACT_SHIFTED_RELU:
        return x > t ? x - t : 0;
    case ACT_SHIFTED_RELU2:
        return x > t ? (x - t) * (x - t) : 0;
    default:
        return x;
    }
}

/* Relative error where the result is of the input's size, absolute (in units of |x|) where the
 * exact value decays to nothing: 1 + tanh(z) and 1 + erf(z) near -1 lose their leading digits in
 * f32. */
Test(vector, activations_follow_their_formulas)
{
    for (enum act_kind kind = ACT_SILU; kind <= ACT_IDENTITY; kind++) {
        float x[4001], y[4001];
        for (int i = 0; i < 4001; i++)
            x[i] = (float)(i - 2000) / 100;
        vec_act(kernels_get(CPU_AVX512), kind, 0.25f, y, x, 4001);
        for (int i = 0; i < 4001; i++) {
            double want = act_double(kind, 0.25, (double)x[i]);
            cr_assert_leq(fabs((double)y[i] - want), 4e-7 * fabs(want) + 2e-7 * fabs((double)x[i]),
                          "kind %d at %g: %g, not %g", kind, (double)x[i], (double)y[i], want);
        }
    }
}

Test(vector, softcap_is_tanh_to_a_few_ulp)
{
    for (int i = -3000; i <= 3000; i++) {
        float x = (float)i / 100, y = x;
        vec_softcap(kernels_get(CPU_AVX512), &y, 1, 1);
        cr_assert_leq(fabs((double)y - tanh((double)x)), 3e-7 * fabs(tanh((double)x)), "%g",
                      (double)x);
    }
}

Test(vector, levels_agree_bit_for_bit_at_every_tail)
{
    struct rng rng = { 23 };
    for (enum cpu_level lv = CPU_AVX2; lv <= cpu_level_max(); lv++) {
        const struct kernels *a = kernels_get(CPU_REF), *b = kernels_get(lv);
        for (size_t n = 1; n <= 70; n++) {
            float x[70], w[70], ya[70], yb[70];
            for (size_t i = 0; i < n; i++) {
                x[i] = (float)((rng_f64(&rng) - 0.5) * 60);
                w[i] = (float)rng_f64(&rng);
            }
            x[0] = n % 5 == 0 ? -INFINITY : x[0];
            for (enum act_kind kind = ACT_SILU; kind <= ACT_IDENTITY; kind++) {
                vec_act(a, kind, 1, ya, x, n);
                vec_act(b, kind, 1, yb, x, n);
                for (size_t i = 0; i < n; i++)
                    cr_assert(memcmp(ya + i, yb + i, 4) == 0 || (ya[i] != ya[i] && yb[i] != yb[i]),
                              "act %d n %zu", kind, n);
            }
            x[0] = 1;
            vec_rmsnorm(a, ya, x, w, n, 1e-5f);
            vec_rmsnorm(b, yb, x, w, n, 1e-5f);
            cr_assert_eq(memcmp(ya, yb, 4 * n), 0, "rmsnorm %zu", n);
            vec_layernorm(a, ya, x, w, n % 2 ? w : NULL, n, 1e-5f);
            vec_layernorm(b, yb, x, w, n % 2 ? w : NULL, n, 1e-5f);
            cr_assert_eq(memcmp(ya, yb, 4 * n), 0, "layernorm %zu", n);
            memcpy(ya, x, sizeof ya);
            memcpy(yb, x, sizeof yb);
            vec_softcap(a, ya, 30, n);
            vec_softcap(b, yb, 30, n);
            cr_assert_eq(memcmp(ya, yb, 4 * n), 0, "softcap %zu", n);
            cr_assert_eq(vec_logsumexp(a, x, n), vec_logsumexp(b, x, n), "logsumexp %zu", n);
            cr_assert_eq(vec_argmax(a, x, n), vec_argmax(b, x, n));
        }
    }
}

Test(vector, norms_and_logsumexp_equal_double_arithmetic)
{
    struct rng rng = { 29 };
    float x[777], w[777], y[777];
    double ss = 0, mean = 0, var = 0, lse = 0;
    for (int i = 0; i < 777; i++) {
        x[i] = (float)(rng_f64(&rng) * 4 - 1);
        w[i] = (float)rng_f64(&rng);
        ss += (double)x[i] * (double)x[i];
        mean += (double)x[i] / 777;
        lse += exp((double)x[i]);
    }
    for (int i = 0; i < 777; i++)
        var += ((double)x[i] - mean) * ((double)x[i] - mean) / 777;
    const struct kernels *k = kernels_get(CPU_AVX512);
    vec_rmsnorm(k, y, x, w, 777, 1e-5f);
    for (int i = 0; i < 777; i++)
        cr_assert_float_eq((double)y[i], (double)x[i] * (double)w[i] / sqrt(ss / 777 + 1e-5), 2e-6);
    vec_layernorm(k, y, x, w, w, 777, 1e-5f);
    for (int i = 0; i < 777; i++)
        cr_assert_float_eq((double)y[i],
                           ((double)x[i] - mean) / sqrt(var + 1e-5) * (double)w[i] + (double)w[i],
                           4e-6);
    cr_expect_float_eq(vec_logsumexp(k, x, 777), log(lse), 1e-7);
}

Test(vector, argmax_takes_the_first_and_never_a_nan)
{
    float x[] = { NAN, 1, 3, 3, NAN, 2 };
    cr_expect_eq(vec_argmax(kernels_get(CPU_AVX512), x, 6), 2u);
}

Test(vector, rope_rotates_the_right_pairs)
{
    float cs[4] = { 0, 1, 0.6f, 0.8f }, x[6] = { 1, 2, 3, 4, 5, 6 }, z[6] = { 1, 2, 3, 4, 5, 6 };
    vec_rope(kernels_get(CPU_REF), x, 1, 6, 4, cs, false);
    vec_rope(kernels_get(CPU_REF), z, 1, 6, 4, cs, true);
    const double want[6] = { -2, 1, 3 * 0.6 - 4 * 0.8, 3 * 0.8 + 4 * 0.6, 5, 6 };
    const double neox[6] = { -3, 2 * 0.6 - 4 * 0.8, 1, 2 * 0.8 + 4 * 0.6, 5, 6 };
    for (int i = 0; i < 6; i++) {
        cr_expect_float_eq((double)x[i], want[i], 1e-6);
        cr_expect_float_eq((double)z[i], neox[i], 1e-6);
    }
}

Test(vector, rope_gives_the_same_bits_at_every_level)
{
    enum { HEADS = 3, D = 64, ROT = 62 };
    struct rng rng = { 31 };
    float x[HEADS * D], cs[ROT], want[HEADS * D], got[HEADS * D];
    for (int i = 0; i < HEADS * D; i++)
        x[i] = (float)(rng_f64(&rng) * 4 - 2);
    for (int i = 0; i < ROT; i++)
        cs[i] = (float)(rng_f64(&rng) * 2 - 1);
    for (int neox = 0; neox <= 1; neox++) {
        memcpy(want, x, sizeof x);
        vec_rope(kernels_get(CPU_REF), want, HEADS, D, ROT, cs, neox);
        for (enum cpu_level lv = CPU_AVX2; lv <= cpu_level_max(); lv++) {
            memcpy(got, x, sizeof x);
            vec_rope(kernels_get(lv), got, HEADS, D, ROT, cs, neox);
            cr_expect_arr_eq(got, want, sizeof want, "%s", cpu_level_name(lv));
        }
    }
}
