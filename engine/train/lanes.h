/* engine/train/lanes.h - sixteen numbers at a time, in the compilers' portable vector types: they
 * become AVX-512, AVX2 or SSE registers, as the file that includes this is compiled. Sums keep
 * sixteen partial ones (lane l takes elements l, l + 16, ...), so their order does not depend on
 * the instruction set. Pure. */
#ifndef STROBE_TRAIN_LANES_H
#define STROBE_TRAIN_LANES_H

#include "engine/train/real.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

#ifdef TRAIN_F64
typedef int64_t lane_bits;
#else
typedef int32_t lane_bits;
#endif
typedef real lanes __attribute__((vector_size(LANES * sizeof(real))));
typedef lane_bits lane_mask __attribute__((vector_size(LANES * sizeof(real))));

#define LANES_INLINE static inline __attribute__((always_inline))

/* The first min(left, 16) numbers at p, the rest `fill`. */
LANES_INLINE lanes lanes_load_or(const real *p, size_t left, real fill)
{
    lanes v;
    if (left >= LANES) {
        memcpy(&v, p, sizeof v);
        return v;
    }
    v = (lanes){ 0 } + fill;
    memcpy(&v, p, left * sizeof(real));
    return v;
}
LANES_INLINE lanes lanes_load(const real *p, size_t left)
{
    return lanes_load_or(p, left, 0);
}
LANES_INLINE void lanes_store(real *p, lanes v, size_t left)
{
    if (left >= LANES)
        memcpy(p, &v, sizeof v);
    else
        memcpy(p, &v, left * sizeof(real));
}

/* Lane by lane: m ? a : b */
LANES_INLINE lanes lanes_pick(lane_mask m, lanes a, lanes b)
{
    return (lanes)(((lane_mask)a & m) | ((lane_mask)b & ~m));
}
/* m ? a : 0 */
LANES_INLINE lanes lanes_keep(lane_mask m, lanes a)
{
    return (lanes)((lane_mask)a & m);
}

LANES_INLINE real lanes_sum(lanes v)
{
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            v[i] += v[i + w];
    return v[0];
}
LANES_INLINE real lanes_max(lanes v)
{
    real m = v[0];
    for (int i = 1; i < LANES; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* e^x. Double: libm. Float: below. NaN stays NaN. */
#ifdef TRAIN_F64
LANES_INLINE lanes lanes_exp(lanes x)
{
    for (int i = 0; i < LANES; i++)
        x[i] = exp(x[i]);
    return x;
}
#else
/* Relative error below 2^-23 (measured: 0.72 of it) for -87.3 <= x <= 88.3; outside, the value at
 * the nearer end. x = n ln 2 + r with |r| <= 0.3466; ln 2 in two parts, the first with 9 bits, so
 * that n times it is exact. Then the Taylor polynomial of degree 7, whose remainder is below
 * r^8/8! e^|r| < 8e-9, 0.07 of 2^-23. The rest is rounding: half a unit of 1 + ..., a quarter each
 * of r and of r + p r^2. */
LANES_INLINE lanes lanes_exp(lanes x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = lanes_pick(x < -87.3f, (lanes){ 0 } - 87.3f, x);
    x = lanes_pick(x > 88.3f, (lanes){ 0 } + 88.3f, x);
    lanes t = x * 1.44269504f + magic, n = t - magic;
    lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    lanes p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    lane_mask power = ((lane_mask)t - 0x4B400000 + 127) << 23; /* the bits of magic: n stays */
    return p * (lanes)power;
}
#endif

#endif
