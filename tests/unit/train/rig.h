/* tests/unit/train/rig.h - a small network with random parameters and a random batch, for the tests
 * of engine/train. Compiled in float and, with -DTRAIN_F64, in double: the numbers drawn are the
 * same. */
#ifndef STROBE_TESTS_UNIT_TRAIN_RIG_H
#define STROBE_TESTS_UNIT_TRAIN_RIG_H

#include "engine/base/rng.h"
#include "engine/train/net.h"

struct net_rig {
    struct net *n;
    struct net_batch b;
    uint64_t n_param;
    int32_t *token, *target, *doc;
    float *weight;
};

/* 13 words, sequences of at most 9, 2 layers, d_model 10, 4 heads of 4, 2 of keys, d_ff 14: every
 * width has a tail, no two are equal. RMSNorm, RoPE, SiLU, gated, tied. */
struct net_shape rig_shape(void);
struct net_opts rig_opts(const struct net_shape *s); /* batch 2, n_tok 7 */

double rig_normal(struct rng *r);
/* Aborts when the network cannot be made. Parameters are drawn so that every
 * activation is of the order of 1; one target is -1, one weight 0. docs: two or three documents a
 * row. */
void rig_open(struct net_rig *r, const struct net_opts *o, uint64_t seed, bool docs);
void rig_close(struct net_rig *r);
/* Mean loss: net_eval() over the sum of weights. */
double rig_loss(struct net_rig *r);
/* Zeroes the gradients, then net_grad() of the mean loss, which it returns. */
double rig_grad(struct net_rig *r);

#endif
