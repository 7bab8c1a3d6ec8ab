/* tests/unit/train/test_pass.c - the exponential's error, and every instruction-set level against
 * plain double loops, at every tail. */
#include "engine/base/rng.h"
#include "engine/train/pass.h"
#include "tests/support/guard.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <string.h>

enum { N_MAX = 70 };

static const struct passes *level(int i)
{
    return pass_get((enum cpu_level)i);
}

static float draw(struct rng *r, double scale)
{
    return (float)(scale * (2 * rng_f64(r) - 1));
}

/* An array that ends at a dead page. */
static float *draw_array(struct rng *r, size_t n, double scale)
{
    float *p = guard_alloc((n ? n : 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = draw(r, scale);
    return p;
}

static float exp_one(int lv, float x)
{
    float y = x;
    level(lv)->exp_sum(&y, 1, 0, true);
    return y;
}

/* 1.5 million arguments, denser towards 0. */
Test(pass, exponential_is_within_its_stated_error, .timeout = 600)
{
    const double stated = 0x1p-23;
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++) {
        double worst = 0;
        for (int sign = -1; sign <= 1; sign += 2)
            for (float a = 1e-8f; a < 88.3f; a *= 1.00003f) {
                float x = (float)sign * a;
                if (x < -87.3f)
                    continue;
                double want = exp((double)x), got = (double)exp_one(lv, x);
                worst = fmax(worst, fabs(got - want) / want);
            }
        cr_expect_lt(worst, stated, "level %d: %g of a unit in the last place", lv,
                     worst / 0x1p-23);
        cr_log_info("level %d: worst relative error %.3g = %.2f * 2^-23", lv, worst,
                    worst / 0x1p-23);
    }
}

Test(pass, exponential_of_the_extremes_is_an_end_of_the_range_and_nan_stays)
{
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++) {
        cr_expect_float_eq(exp_one(lv, 0), 1.0f, 0);
        cr_expect_lt(exp_one(lv, -INFINITY), 1.3e-38f);
        cr_expect_gt(exp_one(lv, -INFINITY), 0.0f);
        cr_expect_gt(exp_one(lv, 1000), 2e38f);
        cr_expect(isnan(exp_one(lv, NAN)));
    }
}

/* f32 sums of n terms: gamma(n) times the sum of magnitudes, any order. */
static double bound(size_t n, double mag)
{
    double nu = (double)n * 0x1p-24;
    return nu / (1 - nu) * mag;
}

Test(pass, sums_and_extremes_hold_at_every_length_and_level)
{
    struct rng r = { 1 };
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++)
        for (size_t n = 0; n <= N_MAX; n++) {
            float *a = draw_array(&r, n, 2), *b = draw_array(&r, n, 2);
            double dot = 0, mag = 0, sum = 0, max = -(double)INFINITY;
            for (size_t i = 0; i < n; i++) {
                dot += (double)a[i] * (double)b[i];
                mag += fabs((double)a[i] * (double)b[i]);
                sum += exp((double)a[i] - 2);
                max = fmax(max, (double)a[i]);
            }
            cr_expect_leq(fabs((double)level(lv)->dot(a, b, n) - dot), bound(n + 1, mag), "n %zu",
                          n);
            cr_expect_eq((double)level(lv)->max(a, n), max, "n %zu", n);
            /* subtraction, exponential (5 u), sum */
            cr_expect_leq(fabs(level(lv)->exp_sum(a, n, 2, false) - sum),
                          (bound(n, 1) + 10 * 0x1p-24) * sum, "level %d n %zu", lv, n);
            guard_free(a);
            guard_free(b);
        }
}

/* Nearest even of the upper sixteen bits, from the two neighbours' distances. */
static uint16_t nearest_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t down = bits >> 16, rest = bits & 0xFFFF;
    return (uint16_t)(down + (rest > 0x8000 || (rest == 0x8000 && (down & 1))));
}

Test(pass, narrow_numbers_are_the_nearest_even_ones_and_widen_to_themselves)
{
    static const uint32_t ends[] = { 0,          0x80000000, 1,          0x00018000, 0x00008000,
                                     0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F7FFFFF,
                                     0x7F800000, 0xFF800000, 0xBF818000, 0x007FFFFF };
    struct rng r = { 3 };
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++)
        for (size_t n = 0; n <= N_MAX; n++) {
            float *x = draw_array(&r, n, 4), *back = draw_array(&r, n, 1);
            uint16_t *y = guard_alloc((n ? n : 1) * sizeof *y);
            for (size_t i = 0; i < n; i += 3)
                memcpy(&x[i], &ends[rng_below(&r, sizeof ends / sizeof *ends)], sizeof *x);
            level(lv)->narrow(y, x, n);
            level(lv)->widen(back, y, n);
            for (size_t i = 0; i < n; i++) {
                uint32_t wide = (uint32_t)nearest_bf16(x[i]) << 16;
                cr_expect_eq(y[i], wide >> 16, "level %d, %zu of %zu: %a", lv, i, n, (double)x[i]);
                cr_expect_eq(memcmp(&back[i], &wide, sizeof wide), 0, "level %d", lv);
            }
            guard_free(x);
            guard_free(back);
            guard_free(y);
        }
}

Test(pass, a_narrow_nan_is_still_none)
{
    static const uint32_t nan[] = { 0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0xFF80FFFF };
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++)
        for (size_t i = 0; i < sizeof nan / sizeof *nan; i++) {
            float x;
            uint16_t y;
            memcpy(&x, &nan[i], sizeof x);
            level(lv)->narrow(&y, &x, 1);
            level(lv)->widen(&x, &y, 1);
            cr_expect(isnan(x), "level %d: %08x becomes %04x", lv, nan[i], y);
        }
}

Test(pass, columns_add_every_row_at_every_width_and_level)
{
    struct rng r = { 2 };
    enum { ROWS = 150 };
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++)
        for (size_t n = 1; n <= N_MAX; n++) {
            float *x = draw_array(&r, ROWS * n, 1), *sum = draw_array(&r, n, 1);
            float before[N_MAX];
            memcpy(before, sum, n * sizeof *sum);
            level(lv)->columns(sum, x, ROWS, n, n);
            for (size_t c = 0; c < n; c++) {
                double want = (double)before[c], mag = fabs(want);
                for (size_t i = 0; i < ROWS; i++) {
                    want += (double)x[i * n + c];
                    mag += fabs((double)x[i * n + c]);
                }
                cr_expect_leq(fabs((double)sum[c] - want), bound(ROWS + 1, mag));
            }
            guard_free(x);
            guard_free(sum);
        }
}

static double act_value(enum net_act kind, double x, double shift, double *slope)
{
    double s = 1 / (1 + exp(-x)), u = 1.5957691216057308 * (x + 0.044715 * x * x * x);
    switch (kind) {
    case NET_SILU:
        *slope = s + x * s * (1 - s);
        return x * s;
    case NET_GELU:
        s = 1 / (1 + exp(-u));
        *slope = s + x * s * (1 - s) * 1.5957691216057308 * (1 + 3 * 0.044715 * x * x);
        return 0.5 * x * (1 + tanh(u / 2));
    case NET_RELU:
        *slope = x > shift;
        return x > shift ? x - shift : 0;
    case NET_RELU2:
        *slope = x > shift ? 2 * (x - shift) : 0;
        return x > shift ? (x - shift) * (x - shift) : 0;
    default:
        *slope = x > shift;
        return x > shift ? x : 0;
    }
}

struct act_arrays {
    float *pre, *up, *act, *dact, *dup, *bias;
};

/* With |x| <= 5 here: the argument w of the logistic function (GELU: |w| < 17) is off by 6 u |w|,
 * its exponential by 5 u more, so s by (6 |w| + 8) u s at most, and f by two roundings more. The
 * slope adds x s (1 - s) w', whose parts carry the same errors, |x w'| < 27 here. */
static void expect_act(const struct act_arrays *v, const struct pass_act *a, const float *dact,
                       size_t i)
{
    const double u = 0x1p-24, f_tol = 120 * u, slope_tol = 120 * 28 * u;
    double slope, f = act_value(a->kind, (double)v->pre[i], (double)a->shift, &slope);
    double up = a->up ? (double)v->up[i] : 1, got;
    double gate = a->up_relu && up < 0 ? 0 : up;
    double mag = fmax(fabs((double)v->pre[i]), 1) * fmax(fabs((double)v->pre[i]), 1);
    got = (double)v->act[i];
    cr_expect_leq(fabs(got - f * gate), f_tol * mag * fabs(gate), "kind %d: %g, not %g", a->kind,
                  got, f * gate);
    got = (double)v->dact[i];
    double want = (double)dact[i] * gate * slope;
    cr_expect_leq(fabs(got - want), slope_tol * mag * fabs((double)dact[i] * gate),
                  "kind %d at %g: slope %g, not %g", a->kind, (double)v->pre[i], got, want);
    if (!a->up)
        return;
    want = a->up_relu && up <= 0 ? 0 : (double)dact[i] * f;
    cr_expect_leq(fabs((double)v->dup[i] - want), f_tol * mag * fabs((double)dact[i]));
}

static void check_act(const struct passes *p, struct pass_act a, struct rng *r)
{
    size_t n = a.rows * a.d;
    bool gated = a.up != NULL;
    struct act_arrays v = { draw_array(r, n, 4), draw_array(r, n, 2), draw_array(r, n, 1),
                            draw_array(r, n, 2), draw_array(r, n, 1), draw_array(r, a.d, 1) };
    float *dact = draw_array(r, n, 1), *pre = draw_array(r, n, 1), *forward = draw_array(r, n, 1);
    memcpy(dact, v.dact, n * sizeof *dact);
    memcpy(pre, v.pre, n * sizeof *pre);
    a.pre = v.pre;
    a.up = gated ? v.up : NULL;
    a.act = v.act;
    a.dact = v.dact;
    a.dup = gated ? v.dup : NULL;
    a.bias = v.bias;
    p->act(&a);
    for (size_t i = 0; i < n; i++)
        cr_expect_float_eq(v.pre[i], pre[i] + v.bias[i % a.d], 0, "bias is added in place");
    memcpy(forward, v.act, n * sizeof *forward);
    p->act_back(&a);
    cr_expect(memcmp(forward, v.act, n * sizeof *forward) == 0, "backward: the same activations");
    for (size_t i = 0; i < n; i++)
        expect_act(&v, &a, dact, i);
    float *all[] = { v.pre, v.up, v.act, v.dact, v.dup, v.bias, dact, pre, forward };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guard_free(all[i]);
}

Test(pass, activations_and_their_slopes_hold_at_every_level)
{
    struct rng r = { 3 };
    static float any;
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++)
        for (int kind = NET_SILU; kind <= NET_FATRELU; kind++)
            for (int gate = 0; gate < 3; gate++)
                for (size_t d = 1; d < 40; d += 5) {
                    struct pass_act a = { .kind = (enum net_act)kind,
                                          .shift = kind >= NET_RELU ? 0.25f : 0,
                                          .rows = 2,
                                          .d = d,
                                          .up = gate ? &any : NULL,
                                          .up_relu = gate == 2 };
                    check_act(level(lv), a, &r);
                }
}
