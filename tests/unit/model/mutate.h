/* tests/unit/model/mutate.h - drives a fuzz target over a seed: every truncation, bit flips and
 * overwritten numbers. A crash or a sanitizer report fails the test. */
#ifndef STROBE_TESTS_UNIT_MODEL_MUTATE_H
#define STROBE_TESTS_UNIT_MODEL_MUTATE_H

#include "engine/base/rng.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The bytes are copied to a block of exactly n, so that a read behind the end is seen. */
static inline void try_bytes(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    memcpy(copy, p, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static inline void mutate(const uint8_t *seed, size_t n, size_t head, unsigned rounds)
{
    static const uint64_t evil[] = { 0,
                                     1,
                                     0x7F,
                                     0x80,
                                     0xFF,
                                     0x7FFFFFFF,
                                     0x80000000,
                                     0xFFFFFFFF,
                                     UINT64_C(1) << 61,
                                     UINT64_C(1) << 63,
                                     UINT64_MAX };
    struct rng r = { 11 };
    uint8_t *p = malloc(n);
    if (!p)
        abort();
    for (size_t cut = 0; cut < head; cut++)
        try_bytes(seed, cut);
    for (unsigned i = 0; i < rounds; i++) {
        memcpy(p, seed, n);
        for (uint64_t k = 1 + rng_below(&r, 3); k; k--) {
            size_t at = (size_t)rng_below(&r, head);
            uint64_t v = evil[rng_below(&r, sizeof evil / sizeof evil[0])];
            size_t len = (size_t)1 << rng_below(&r, 4);
            if (rng_below(&r, 2) || at + len > n)
                p[at] ^= (uint8_t)(1u << rng_below(&r, 8));
            else
                memcpy(p + at, &v, len);
        }
        try_bytes(p, n);
    }
    free(p);
}

#endif
