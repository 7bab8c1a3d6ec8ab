/* engine/flash/neurons.h - activations of some of a packed layer's neurons, from their bundles
 * wherever these lie. Owner: one thread; the pool computes. */
#ifndef STROBE_FLASH_NEURONS_H
#define STROBE_FLASH_NEURONS_H

#include "engine/flash/weights.h"

struct neurons {
    const struct kernels *k;
    struct pool *pool;
    const struct hparams *hp;
    const struct bundle *b;
    const struct weights_view *v; /* of the layer: biases */
    const struct ffn_call *c;     /* h [n_tok] rows of n, n_ff apart: the result; gate is used up */
    size_t n;
    uint32_t *neuron;       /* [n] ascending */
    const uint8_t **bundle; /* [n] */
    const uint8_t **row;    /* [n] scratch */
    uint8_t *scratch;       /* as for matmul_picked() of the bundles' row type */
    size_t scratch_stride;
};

/* Fills c->h. Where the first matrix is not known, neurons that no token fires drop out: n, neuron
 * and bundle are then of the others. */
void neurons_activate(struct neurons *a);

#endif
