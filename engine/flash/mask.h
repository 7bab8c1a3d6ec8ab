/* engine/flash/mask.h - which neurons of a layer a pass needs (flash.md 5.4). The first two sources
 * are exact: a neuron that is left out has an activation of zero, whatever the rounding. shadow.h
 * measures what the others miss.
 *
 *   resident  the first matrix (gate, or up) is in memory: its activations are known
 *   sketch    an 8-bit copy s of the first matrix w: |w.x - s.x| <= |w - s| |x| and rounding, so a
 *             neuron whose sketch stays below the threshold by more than that is idle. The
 *             activations enter in two int8 planes, so that their own rounding is small beside the
 *             sketch's.
 *   sketch4   a 4-bit copy, whose errors are too large for a bound: with errors of either sign in
 *             every column, w.x - s.x has a deviation of about |w - s| |x| / sqrt(n), and a neuron
 *             that stays `sigma` of them below the threshold is taken for idle. At 3 about one
 *             active neuron in a thousand would be missed, one whose activation is near zero.
 *   lowrank   a classifier B (A x) + c trained on the model's own activations, A [r, n_embd] and
 *             B [n_ff, r] (flash.md 1.3; predictor.h): a neuron whose score is not above zero is
 *             taken for idle. What it misses is what its training measured, there is no bound.
 *
 * Owner: one thread; the pool computes. */
#ifndef STROBE_FLASH_MASK_H
#define STROBE_FLASH_MASK_H

#include "engine/kernel/matrix.h"
#include "engine/model/model.h"

#define MASK_SIGMA 3.0f    /* unless told */
enum { MASK_TOKENS = 16 }; /* a longer pass needs nearly all neurons: nothing is estimated */

/* count[i] = tokens whose activation of neuron i is not zero. first: f32 [n_tok, n], activated. */
void mask_from_activations(struct pool *pool, const float *first, size_t n_tok, uint32_t n,
                           uint32_t *count);

/* Sets all but the largest `share` of each token's activations to zero (at least one stays, and
 * what equals the least that stays): how models without exact zeros leave neurons out (CATS,
 * flash.md 5.9). Not exact. */
void mask_keep_largest(struct pool *pool, float *first, size_t n_tok, uint32_t n, double share);

struct mask_sketch {
    struct matrix s;         /* Q8_0 or Q4_0 [n_ff, n_embd], packed */
    const float *norm, *err; /* [n_ff] |w| and |w - s|, bounds from above */
    const float *bias;       /* [n_ff] or NULL */
    float threshold;         /* active: w.x + bias > threshold */
    bool int8_rows;          /* the exact product rounds its activations to int8 too */
    float sigma;             /* standard deviations of margin in place of the bound; 0: the bound */
    bool sets;               /* who, not how many: bit t of count[i] is token t */
    /* Of a guess, which may be wrong: neurons before `from` (a multiple of 16) are not asked about,
     * their count is 0; rough: activations enter in one int8 plane, and their rounding is not made
     * good for. */
    uint32_t from;
    bool rough;
};
/* Scratch for mask_from_sketch() and mask_from_lowrank(), 64-byte aligned. */
size_t mask_scratch_bytes(uint32_t n_embd, uint32_t n_ff);
/* count[i] = tokens that may need neuron i; n_tok <= MASK_TOKENS. x: f32 rows `stride` apart. */
void mask_from_sketch(const struct kernels *k, struct pool *pool, const struct mask_sketch *m,
                      const float *x, size_t n_tok, size_t stride, void *scratch, uint32_t *count);

struct mask_lowrank {
    struct matrix a, b; /* [r, n_embd] and [n_ff, r] of any type, packed; 1 <= r <= n_embd */
    const float *bias;  /* [n_ff]; the threshold is in it */
    bool sets;          /* as above */
    uint32_t from;
};
/* B (A x), without the bias: y f32 [n_tok, n_ff]. */
void mask_lowrank_scores(const struct kernels *k, struct pool *pool, const struct mask_lowrank *m,
                         const float *x, size_t n_tok, size_t stride, void *scratch, float *y);
/* As mask_from_sketch(). */
void mask_from_lowrank(const struct kernels *k, struct pool *pool, const struct mask_lowrank *m,
                       const float *x, size_t n_tok, size_t stride, void *scratch, uint32_t *count);

#endif
