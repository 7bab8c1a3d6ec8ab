/* engine/train/sparsity.h - how sparse a network is on a text, measured while it evaluates: zeros
 * that matrices meet, neurons that nothing ever fires, and how many neurons a run of tokens leaves
 * unused (ReLU Strikes Back, sec. 3 to 5; flash.md 2.2, 2.3). Owner: the thread that evaluates. */
#ifndef STROBE_TRAIN_SPARSITY_H
#define STROBE_TRAIN_SPARSITY_H

#include "engine/base/json.h"
#include "engine/train/net.h"

enum { SPARSITY_SPANS = 8 }; /* runs of 1, 2, 4 ... 128 tokens */

/* Shares, 0 to 1. */
struct sparsity_layer {
    double down_in;                /* zeros among what `down` multiplies */
    double qkv_in;                 /* zeros behind attention's norm */
    double ffn_in;                 /* zeros behind the FFN's norm */
    double dead;                   /* neurons that never fired */
    double unused[SPARSITY_SPANS]; /* neurons that no token of a run of 2^i fires (aggregated
                                      sparsity); runs lie side by side within sequences */
};

struct sparsity; /* opaque */

/* n_tok: longest sequence. Errors: ST_NOMEM. */
enum status sparsity_create(const struct net_shape *shape, uint32_t n_tok, struct sparsity **ret,
                            struct err *err);
void sparsity_free(struct sparsity *s); /* NULL is fine */
/* Looks at all forward passes of n, whose batches have `cols` columns, until sparsity_leave(). */
void sparsity_watch(struct sparsity *s, struct net *n, uint32_t cols);
void sparsity_leave(struct net *n);
/* layer: [n_layer]; NaN where nothing was seen. */
void sparsity_get(const struct sparsity *s, struct sparsity_layer *layer);
/* Multiplications and additions of one token in all matrices, those with zeros left out (column by
 * column in Q, K, V, gate and up, row by row in down); attention's scores are not counted. layer
 * NULL: no zeros. */
double sparsity_flops(const struct net_shape *shape, const struct sparsity_layer *layer);
/* The mean over layers, and each layer: {"down_in", ..., "unused": {"1": ...}}; NULL: no memory. */
json_t *sparsity_json(const struct net_shape *shape, const struct sparsity_layer *layer);
struct sparsity_layer sparsity_mean(const struct sparsity_layer *layer, uint32_t n_layer);

#endif
