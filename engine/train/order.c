/* engine/train/order.c - see order.h. */
#include "engine/train/order.h"

#include "engine/base/rng.h"

#include <assert.h>

/* Four rounds make a permutation that looks random to any test; eight, because halves of few bits
 * (small data sets) mix slowly. */
enum { ROUNDS = 8 };

struct halves {
    unsigned low, high; /* bits */
};

static uint64_t mask(unsigned bits)
{
    return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

/* Unequal halves trade places each round, so each round is a bijection of low + high bits. */
static uint64_t feistel(uint64_t key, struct halves h, uint64_t x)
{
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t low = x & mask(h.low), high = x >> h.low;
        uint64_t f = rng_at(key + r, low) & mask(h.high);
        /* The next low half is the changed high one. */
        x = low << h.high | (high ^ f);
        h = (struct halves){ h.high, h.low };
    }
    return x;
}

uint64_t order_permute(uint64_t key, uint64_t n, uint64_t i)
{
    assert(i < n && n <= UINT64_C(1) << 62);
    if (n == 1)
        return 0;
    unsigned bits = 64 - (unsigned)__builtin_clzll(n - 1);
    struct halves h = { bits / 2, bits - bits / 2 };
    do
        i = feistel(key, h, i);
    while (i >= n);
    return i;
}
