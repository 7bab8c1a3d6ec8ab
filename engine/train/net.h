/* engine/train/net.h - a decoder that can be trained: parameters, gradients, activations, forward
 * and backward pass, each operation's derivative written out (training.md 5.1).
 *
 * Parameters and gradients are one flat array each; net_tensors() says what lies where, so that the
 * optimiser, checkpoints and the reduction over machines need no knowledge of layers. Everything is
 * allocated by net_create(), whose total net_bytes() tells beforehand; a step allocates nothing.
 * Same inputs, same bits, for any number of threads. Owner: one thread; the pool computes. */
#ifndef STROBE_TRAIN_NET_H
#define STROBE_TRAIN_NET_H

#include "engine/base/err.h"
#include "engine/base/pool.h"
#include "engine/train/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum net_norm { NET_RMS, NET_LAYER };   /* NET_LAYER: LayerNorm, gain and bias */
enum net_pos { NET_ROPE, NET_LEARNED }; /* RoPE rotates neighbours (2i, 2i+1), GGUF "llama" order */
enum net_act {
    NET_SILU,
    NET_GELU,   /* tanh form */
    NET_RELU,   /* max(0, x - shift) */
    NET_RELU2,  /* max(0, x - shift)^2 */
    NET_FATRELU /* x where x > threshold (= shift), else 0 */
};

/* All that fixes the mathematics. */
struct net_shape {
    uint32_t n_vocab, n_ctx; /* n_ctx: longest sequence; rows of learned positions */
    uint32_t n_layer, d_model, n_head, n_kv_head, d_head, d_ff;
    enum net_norm norm;
    enum net_pos pos;
    enum net_act act;
    bool gated;     /* down(act(gate x) * up x); else down(act(up x)) */
    bool up_relu;   /* gated: up x goes through max(0, .) too (dReLU) */
    bool norm_relu; /* max(0, .) behind attention and FFN norms (ReLU Strikes Back, stage 2) */
    bool tied;      /* the head is the token embedding */
    bool bias;      /* of all linear layers but the head */
    double act_shift, norm_eps, rope_theta;
    uint32_t d_small; /* Duo: neurons of the small feed-forward part beside the big one (d_ff) of
                         every layer; 0: there is none. Without biases */
    bool skip_layer;  /* Duo: a token that skips leaves out the whole layer, else the feed-forward
                         part only. It always leaves keys and values for later tokens */
};
/* Which of a layer's feed-forward parts a token goes through (Duo-LLM, training.md 1.1). */
enum net_route { NET_BIG, NET_SMALL, NET_SKIP, NET_ROUTES };
/* Errors: ST_RANGE, the message names the field (d_head even for RoPE, n_head % n_kv_head == 0,
 * every product below 2^31). */
enum status net_shape_check(const struct net_shape *s, struct err *err);
uint64_t net_n_param(const struct net_shape *s); /* tied head counted once */

/* A parameter tensor: row-major [rows, cols], cols is the input dimension (1 row: a vector).
 * Names are GGUF's: token_embd.weight, position_embd.weight, blk.N.{attn_norm, attn_q, attn_k,
 * attn_v, attn_output, ffn_norm, ffn_gate, ffn_up, ffn_down}.{weight,bias}, of Duo networks
 * blk.N.ffn_{gate,up,down}_small.weight, output_norm.{weight, bias}, output.weight. Order of the
 * list and of the array: embedding(s), layers ascending, output norm, head. */
struct net_tensor {
    char name[48];
    uint32_t rows, cols;
    uint64_t at;   /* first element in the flat arrays */
    bool decay;    /* weight decay applies: matrices, not norms, biases or embeddings */
    int32_t layer; /* -1: none */
};
uint32_t net_n_tensor(const struct net_shape *s);
/* t: [net_n_tensor()] */
void net_tensors(const struct net_shape *s, struct net_tensor *t);

/* F32: by kernels of ours where the processor has AVX2, else by BLAS. BF16: operands rounded to
 * bf16, f32 sums, AVX-512 BF16 only. BLAS: f32 by OpenBLAS, or plain C where there is none. */
enum net_gemm { NET_GEMM_F32, NET_GEMM_BF16, NET_GEMM_BLAS };
enum net_attn { NET_ATTN_TILED, NET_ATTN_NAIVE };

/* What a gradient's forward pass keeps for its backward pass. BF16: each number rounded, half the
 * bytes; a layer works in f32 and leaves its results rounded behind. The residual stream and the
 * loss stay as they are in f32 (attention reads the rounded queries, keys and values, else its
 * probabilities would not be those of the backward pass); derivatives are taken at the rounded
 * activations. Passes without gradients round nothing. */
enum net_keep { NET_KEEP_REAL, NET_KEEP_BF16 };

struct net_opts {
    struct net_shape shape;
    uint32_t batch, n_tok; /* the largest batch: sequences x tokens, n_tok <= n_ctx */
    bool recompute;        /* keep each layer's input only, run its forward part again */
    enum net_keep keep;
    bool infer; /* no gradients, no activations kept: for evaluation only */
    enum net_attn attn;
    enum net_gemm gemm;
    uint32_t vocab_chunk; /* columns of logits held at a time; 0: chosen */
    struct pool *pool;    /* borrowed; NULL: one thread */
};
struct net; /* opaque */

struct net_bytes {
    uint64_t params, grads, activations, scratch, total;
};
/* What net_create() will take. Errors: as net_shape_check(), ST_RANGE. */
enum status net_plan(const struct net_opts *o, struct net_bytes *ret, struct err *err);
/* Parameters are zero until net_init() or a copy into net_params(). Errors: ST_RANGE, ST_NOMEM,
 * ST_UNSUPPORTED (bf16 without the instructions). */
enum status net_create(const struct net_opts *o, struct net **ret, struct err *err);
void net_free(struct net *n); /* NULL is fine */

/* Normal(0, 0.02) for matrices and embeddings, output projections of residual branches scaled by
 * 1 / sqrt(2 n_layer), gains 1, biases 0. Depends on the seed and a tensor's name only. */
void net_init(struct net *n, uint64_t seed);
real *net_params(struct net *n); /* [net_n_param] */
real *net_grads(struct net *n);  /* [net_n_param]; NULL for `infer` */
const struct net_shape *net_shape_of(const struct net *n);
/* Who computes the matrix products: "strobe avx512", "strobe bf16", "openblas Haswell", "plain C";
 * static storage. */
const char *net_gemm_name(const struct net *n);

/* rows <= batch, cols <= n_tok; all arrays [rows, cols], row-major, borrowed for the call. */
struct net_batch {
    uint32_t rows, cols;
    const int32_t *token;  /* below n_vocab: the caller's duty, asserted */
    const int32_t *target; /* token to predict; -1: none */
    const float *weight;   /* of each target's loss; NULL: 1 */
    const int32_t *doc;    /* document number, non-decreasing in a row: attention stays within one
                              and positions count from its start; NULL: one document a row */
};

struct net_loss {
    double nll;    /* sum of weight * -log p(target), nats */
    double weight; /* sum of weights */
};
/* Forward only. `each`: NULL or [rows, cols] unweighted -log p of each target (0 without one). */
void net_eval(struct net *n, const struct net_batch *b, float *each, struct net_loss *ret);
/* Forward and backward: adds scale * d(sum of weight * nll)/d(parameter) to the gradients. */
void net_grad(struct net *n, const struct net_batch *b, double scale, struct net_loss *ret);
/* Forward only, logits of every position: [rows, cols, n_vocab]. For tests and small vocabularies.
 */
void net_logits(struct net *n, const struct net_batch *b, real *logits);

/* Duo: route [n_layer, rows * cols], enum net_route, of the passes from now on; borrowed until the
 * next call. NULL: all big, which is bit for bit the network without small parts. */
void net_set_route(struct net *n, const uint8_t *route);

/* Duo, forward passes only: fn chooses each token's route from what the layer's router reads, the
 * normed input of the feed-forward part (skip_layer: of attention), x [n_tok, d_model]; it fills
 * route [n_tok]. In place of net_set_route(); NULL: that again. */
void net_on_route(struct net *n,
                  void (*fn)(void *user, uint32_t layer, size_t n_tok, const real *x,
                             uint8_t *route),
                  void *user);

/* Asked on the network's thread before every layer and behind the last, in net_eval(), net_grad()
 * and net_soft_grad(), both ways; false, and then until the call returns: the pass ends there, and
 * what it was to compute is void. NULL: passes always go through. */
void net_on_layer(struct net *n, bool (*go_on)(void *user), void *user);

/* Called by net_grad() from its thread as soon as gradients [from, to) are final (backwards: head
 * first), so that their reduction can run beside the rest. NULL: none. */
void net_on_grad(struct net *n, void (*fn)(void *user, uint64_t from, uint64_t to), void *user);

/* Observes what attention (ffn false) and FFN of every layer read in forward passes, behind their
 * norms: y [n_tok, d_model]. NULL: none. */
void net_on_norm(struct net *n,
                 void (*fn)(void *user, uint32_t layer, bool ffn, size_t n_tok, const real *y),
                 void *user);
/* Observes the FFN of every layer in forward passes: act [n_tok, d_ff] is the vector that `down`
 * multiplies (after gating), pre [n_tok, d_ff] the argument of the activation. NULL: none. */
void net_on_ffn(struct net *n,
                void (*fn)(void *user, uint32_t layer, size_t n_tok, const real *pre,
                           const real *act),
                void *user);

#endif
