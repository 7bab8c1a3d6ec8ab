/* recsys/sample.h - random variates from struct rng. Pure but for the generator. */
#ifndef STROBE_RECSYS_SAMPLE_H
#define STROBE_RECSYS_SAMPLE_H

#include "engine/base/rng.h"

#include <math.h>

static inline double sample_exp(struct rng *r)
{
    return -log1p(-rng_f64(r));
}
static inline double sample_normal(struct rng *r)
{
    double u = 1 - rng_f64(r), v = rng_f64(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
/* Marsaglia and Tsang 2000; shapes below 1 by their boost. Rate 1. */
static inline double sample_gamma(struct rng *r, double shape)
{
    if (shape < 1)
        return sample_gamma(r, shape + 1) * pow(1 - rng_f64(r), 1 / shape);
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = sample_normal(r), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(1 - rng_f64(r)) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}
/* Knuth for small means; larger ones are split. */
static inline uint64_t sample_poisson(struct rng *r, double mean)
{
    uint64_t n = 0;
    while (mean > 16) { /* a Gamma(m) waiting time says whether m events fit */
        double m = floor(mean * 0.875), x = sample_gamma(r, m);
        if (x > mean) { /* fewer than m: binomial thinning of the m - 1 earlier ones */
            for (uint64_t i = 1; i < (uint64_t)m; i++)
                n += rng_f64(r) < mean / x;
            return n;
        }
        n += (uint64_t)m;
        mean -= x;
    }
    double p = exp(-mean), u = rng_f64(r), sum = p;
    for (uint64_t i = 1; u > sum && i < 200; i++) {
        p *= mean / (double)i;
        sum += p;
        n++;
    }
    return n;
}

#endif
