/* recsys/lanes.h - sixteen numbers at a time, in the compilers' portable vector types: they become
 * AVX-512, AVX2 or SSE registers, as the file that includes this is compiled. Pure. */
#ifndef STROBE_RECSYS_LANES_H
#define STROBE_RECSYS_LANES_H

#include "recsys/real.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

#ifdef RECSYS_F64
typedef int64_t lane_bits;
#else
typedef int32_t lane_bits;
#endif
typedef real lanes __attribute__((vector_size(LANES * sizeof(real))));
typedef lane_bits lane_mask __attribute__((vector_size(LANES * sizeof(real))));

#define LANES_INLINE static inline __attribute__((always_inline))

LANES_INLINE lanes lanes_load(const real *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}
LANES_INLINE void lanes_store(real *p, lanes v)
{
    memcpy(p, &v, sizeof v);
}
LANES_INLINE lanes lanes_pick(lane_mask m, lanes a, lanes b)
{
    return (lanes)(((lane_mask)a & m) | ((lane_mask)b & ~m));
}
LANES_INLINE real lanes_sum(lanes v)
{
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return v[0] + v[1];
}

/* e^x. Double: libm. Float: x = n ln 2 + r, ln 2 in two parts of which the first has 9 bits, then
 * the Taylor polynomial of degree 7 on |r| <= 0.3466; below 2^-23 relative for -87.3 <= x <= 88.3,
 * outside the value at the nearer end. */
#ifdef RECSYS_F64
LANES_INLINE lanes lanes_exp(lanes x)
{
    for (int i = 0; i < LANES; i++)
        x[i] = exp(x[i]);
    return x;
}
#else
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

/* exp(psi(x)) for x > 0, without a logarithm: psi(x) = psi(x + n) - sum 1 / (x + i), and
 * exp(psi(z)) = z exp(-1/(2z) - 1/(12z^2) + 1/(120z^4) - 1/(252z^6) ...) (Abramowitz and Stegun
 * 6.3.18). Float: n = 6, the sum folded into three fractions; 8e-7 relative for x >= 0.25. Double:
 * n = 10 and two more terms of the series; 1e-13. */
#ifdef RECSYS_F64
LANES_INLINE lanes lanes_exp_psi(lanes x)
{
    lanes r = { 0 }, z = x + 10.0, y;
    for (int i = 0; i < 10; i++)
        r += 1.0 / (x + (double)i);
    y = 1.0 / (z * z);
    lanes s = y * (1.0 / 12 -
                   y * (1.0 / 120 -
                        y * (1.0 / 252 - y * (1.0 / 240 - y * (1.0 / 132 - y * (691.0 / 32760))))));
    return z * lanes_exp(-(0.5 / z + s + r));
}
#else
LANES_INLINE lanes lanes_exp_psi(lanes x)
{
    lanes a = x * (x + 5.0f), s = x + x + 5.0f; /* pairs 0 5, 1 4, 2 3: one numerator */
    lanes r = s / a + s / (a + 4.0f) + s / (a + 6.0f);
    lanes z = x + 6.0f, iz = 1.0f / z, y = iz * iz;
    lanes series = iz * 0.5f + y * (1.0f / 12 - y * (1.0f / 120 - y * (1.0f / 252)));
    return z * lanes_exp(-(series + r));
}
#endif

#endif
