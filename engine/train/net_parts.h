/* engine/train/net_parts.h - a network's forward pass taken apart, for searches that go through it
 * in other orders (the Duo oracle): a part's input and output are the caller's arrays. Run one
 * after the other, the parts give the bits of net_eval(). Owner: the network's thread. */
#ifndef STROBE_TRAIN_NET_PARTS_H
#define STROBE_TRAIN_NET_PARTS_H

#include "engine/train/net.h"

/* The batch whose tokens the parts work on: borrowed until the next begin. N = rows * cols below.
 */
void net_parts_begin(struct net *n, const struct net_batch *b);
void net_part_embed(struct net *n, real *x);                                      /* [N, d] */
void net_part_attention(struct net *n, uint32_t layer, const real *x, real *mid); /* [N, d] each */
/* NET_BIG or NET_SMALL for all tokens. out may not be mid. */
void net_part_ffn(struct net *n, uint32_t layer, enum net_route r, const real *mid, real *out);
/* Logits [N, n_vocab]. */
void net_part_head(struct net *n, const real *x, real *logits);

/* One new token for each row, against keys and values of earlier tokens: row i continues sequence
 * seq[i], whose `at` tokens lie in the cache. RoPE networks only. */
struct net_step {
    uint32_t layer, at;
    size_t n_row, n_ctx;
    const uint32_t *seq; /* [n_row] */
    const real *cache;   /* [n_seq, n_ctx, 2, n_kv_head * d_head], keys turned */
    const real *x;       /* [n_row, d] */
    real *mid;           /* [n_row, d] */
    real *kv;            /* [n_row, 2, n_kv_head * d_head] of the new token */
    real *scratch;       /* [n_ctx] */
};
/* n_row is at most the network's batch x n_tok. */
void net_step_attention(struct net *n, const struct net_step *s);
/* For the parts that follow a step: N is n_row. */
void net_step_rows(struct net *n, size_t n_row);
void net_step_embed(struct net *n, const int32_t *token, size_t n_row, real *x);

#endif
