/* engine/base/rng.h - deterministic random numbers, the same on every platform.
 * struct rng: splitmix64 stream (Steele, Lea, Flood 2014) for one owner. rng_at(): the n-th number
 * of a keyed stream without state, for work that may be resumed or split. Not for secrets. */
#ifndef STROBE_BASE_RNG_H
#define STROBE_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline uint64_t rng_u64(struct rng *r)
{
    return rng_mix(r->state += 0x9E3779B97F4A7C15u);
}
/* Uniform in [0, 1), 53 bits. */
static inline double rng_f64(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1.0p-53;
}
/* Uniform in [0, n), n > 0; the bias of the multiply-shift is below 2^-32 for n < 2^32. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_u64(r) * n) >> 64);
}
static inline uint64_t rng_at(uint64_t key, uint64_t counter)
{
    return rng_mix(rng_mix(key + 0x9E3779B97F4A7C15u) ^
                   (counter * 0xD1342543DE82EF95u + 0x9E3779B97F4A7C15u));
}

#endif
