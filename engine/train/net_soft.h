/* engine/train/net_soft.h - training of a Duo network's router (training.md 1.4): a layer's output
 * is the mixture of its parts by the router's probabilities, P = softmax(tau h) with a growing
 * inverse temperature tau, and the loss is cross-entropy + alpha (mean P_big - budget)^2, the mean
 * over layers and tokens of a sequence. Only the router's derivatives are wanted; the network is
 * frozen. Owner: the network's thread. */
#ifndef STROBE_TRAIN_NET_SOFT_H
#define STROBE_TRAIN_NET_SOFT_H

#include "engine/train/net.h"

/* Arrays as in struct export_router (export.h); layers one after the other. Linear: `in` NULL. */
struct net_router {
    uint32_t n_choice, n_hidden;
    real *in, *in_bias, *w, *bias;
};
uint64_t net_router_n(const struct net_shape *s, uint32_t n_choice, uint32_t n_hidden);
/* Points into p [net_router_n()]. */
void net_router_lay_out(const struct net_shape *s, real *p, struct net_router *r);
/* h [n_tok, n_choice] of a layer; hidden [n_tok, n_hidden], NULL for linear ones. */
void net_router_logits(const struct net_shape *s, const struct net_router *r, uint32_t layer,
                       size_t n_tok, const real *x, real *hidden, real *h);
/* Adds the derivatives of a layer's router for dh [n_tok, n_choice] to d; dx [n_tok, d_model] gets
 * the derivative by x added, where not NULL. */
struct net_router_back {
    const real *x, *hidden, *dh;
    real *dx;
    size_t n_tok;
};
void net_router_back(const struct net_shape *s, const struct net_router *r, uint32_t layer,
                     const struct net_router_back *b, struct net_router *d);

struct net_soft; /* opaque: activations that a soft pass keeps */
/* For a network with gradients (not `infer`, not `recompute`, kept as they are). Errors:
 * ST_UNSUPPORTED (no Duo network), ST_NOMEM. */
enum status net_soft_create(struct net *n, uint32_t n_choice, uint32_t n_hidden,
                            struct net_soft **ret, struct err *err);
void net_soft_free(struct net_soft *s);

struct net_soft_opts {
    const struct net_router *router;
    struct net_router *grad; /* added to */
    double tau, alpha, budget;
    bool straight; /* forward as with hard choices, backward as if soft (straight-through) */
};
struct net_soft_loss {
    double nll, weight, budget; /* budget: alpha times the squared difference, mean */
    double soft, hard;          /* mean P_big; share of tokens and layers whose largest P is big */
    double entropy;             /* of P, nats, mean */
};
void net_soft_grad(struct net *n, struct net_soft *s, const struct net_batch *b,
                   const struct net_soft_opts *o, struct net_soft_loss *ret);

#endif
