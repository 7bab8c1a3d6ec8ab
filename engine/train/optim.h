/* engine/train/optim.h - AdamW with decoupled weight decay (Loshchilov, Hutter 2019, algorithm 2),
 * and the gradient's global norm.
 *
 * Step t (from 1) of a parameter p with gradient g, learning rate r, decay w (0 where
 * net_tensor.decay is false):
 *     m = b1 m + (1 - b1) g
 *     v = b2 v + (1 - b2) g^2
 *     p = p - r w p - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
 * so eps stands outside the root and after the bias correction, as in PyTorch's AdamW.
 *
 * Works on a range [from, to) of the flat arrays, so that several machines can share the moments.
 * The arrays are cut into blocks at fixed places: same bits for any number of threads. Owner: one
 * thread; the pool computes. */
#ifndef STROBE_TRAIN_OPTIM_H
#define STROBE_TRAIN_OPTIM_H

#include "engine/base/err.h"
#include "engine/base/pool.h"
#include "engine/train/net.h"

#include <stdint.h>

struct optim_opts {
    const struct net_tensor *tensor; /* [n_tensor], borrowed for the call only */
    uint32_t n_tensor;
    uint64_t from, to; /* of the flat arrays */
    double beta1, beta2, eps, decay;
    struct pool *pool; /* borrowed; NULL: one thread */
};
struct optim; /* opaque */

uint64_t optim_bytes(uint64_t n_param); /* moments of so many parameters */
/* Moments are zero. Errors: ST_RANGE (a range outside the tensors), ST_NOMEM. */
enum status optim_create(const struct optim_opts *o, struct optim **ret, struct err *err);
void optim_free(struct optim *o); /* NULL is fine */
real *optim_m(struct optim *o);   /* [to - from] each: for checkpoints */
real *optim_v(struct optim *o);

/* The norm is added up from blocks, which begin at fixed places of the whole array, so that ranks
 * which keep shares of it (reduce.h) come to the same bits as one that keeps all. */
/* Blocks of [o->from, o->to); only the tensors and the range of `o` count. */
size_t optim_blocks(const struct optim_opts *o);
/* First beginning of a block of [o->from, o->to) at or behind `want`; o->to: none. */
uint64_t optim_block_at(const struct optim_opts *o, uint64_t want);
/* Sum of squares of each block, in double in a fixed order: [optim_blocks()]. grad: the whole flat
 * array. */
void optim_squares(struct optim *o, const real *grad, double *block);
/* All of them, in order: sum of squares of gradients [from, to). Not finite when a gradient is not.
 */
double optim_sum_squares(struct optim *o, const real *grad);

struct optim_step {
    uint64_t t; /* number of this step, from 1 */
    double lr;
    double scale; /* gradients are multiplied by this first (mean over tokens, clipping) */
};
/* One fused pass over [from, to) of the whole flat arrays; gradients are zero afterwards. */
void optim_apply(struct optim *o, real *param, real *grad, const struct optim_step *s);

#endif
