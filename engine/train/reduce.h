/* engine/train/reduce.h - how several processes train one network: each computes the gradient of
 * its share of a batch, the sums meet here. reduce_single() is one process alone; other kinds fill
 * the same table. All ranks make the same calls in the same order, from one thread each. */
#ifndef STROBE_TRAIN_REDUCE_H
#define STROBE_TRAIN_REDUCE_H

#include "engine/base/err.h"
#include "engine/train/real.h"

#include <stddef.h>
#include <stdint.h>

struct reduce {
    uint32_t rank, n_rank;
    void *ctx;
    /* Elements [from, to) of the flat gradient array are final on this rank: their sum over all
     * ranks may begin, beside the rest of the backward pass (net_on_grad()). Ranges come in the
     * same order on every rank. Every rank sums in rank order, so that the result is the same bits
     * everywhere and in every run. */
    void (*begin)(void *ctx, real *grad, uint64_t from, uint64_t to);
    /* All that began is summed, in place. */
    enum status (*wait)(void *ctx, struct err *err);
    /* Sums n doubles over the ranks, in place and in rank order. */
    enum status (*sum)(void *ctx, double *v, size_t n, struct err *err);
    /* Returns when every rank has come here. */
    enum status (*barrier)(void *ctx, struct err *err);

    /* Shares: rank r keeps [share[r], share[r + 1]) of every flat array, the ranks in order from 0
     * to the end. From now on begin() sums a gradient on its keeper only; elsewhere it stays what
     * this rank made of it. share: [n_rank + 1], copied. Not called with one rank, nor is what
     * follows. Errors: ST_NOMEM. */
    enum status (*share)(void *ctx, const uint64_t *share, struct err *err);
    /* Every rank's share of `flat` to all. */
    enum status (*spread)(void *ctx, real *flat, struct err *err);
    /* Every rank's share, at `mine`, to its place in rank 0's `flat` (NULL elsewhere). */
    enum status (*collect)(void *ctx, const real *mine, real *flat, struct err *err);
};
const struct reduce *reduce_single(void);

#endif
