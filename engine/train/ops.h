/* engine/train/ops.h - the operations of a decoder, forward and backward, over a pool. All arrays
 * are row-major `real`, borrowed. Gradients of parameters are added to, gradients of activations
 * are overwritten unless a function says otherwise. Work is divided at places that depend on sizes
 * only and no sum is divided over threads: same bits for any number of them. Owner: one thread. */
#ifndef STROBE_TRAIN_OPS_H
#define STROBE_TRAIN_OPS_H

#include "engine/base/pool.h"
#include "engine/kernel/gemm.h"
#include "engine/train/pass.h"

struct ops {
    struct pool *pool; /* NULL: the caller alone */
    const struct passes *pass;
    struct gemm_panel *panel; /* products of ours; NULL: CBLAS in `real` */
    bool small;               /* so are those inside tasks: f32 */
};

/* C = op(A) op(B) + beta C in `real` (or bf16 operands, if o->panel is of that kind); alpha is 1.
 */
void ops_gemm(const struct ops *o, const struct gemm_call *g);

/* Linear layers: w [n_out, n_in], x [n_tok, n_in], y [n_tok, n_out]. */
struct ops_linear {
    size_t n_tok, n_in, n_out;
    const real *w;
};
/* y = x w^T (+ y with `add`) */
void ops_linear(const struct ops *o, const struct ops_linear *l, const real *x, real *y, bool add);
/* y = from + bias + x w^T, from [n_tok, n_out], bias [n_out] or NULL: in one pass where products
 * are ours, the same bits as a copy and then a product where they are not. */
void ops_linear_onto(const struct ops *o, const struct ops_linear *l, const real *x, real *y,
                     const real *from, const real *bias);
/* dx = dy w (+ dx with `add`) */
void ops_linear_dx(const struct ops *o, const struct ops_linear *l, const real *dy, real *dx,
                   bool add);
/* dw += dy^T x */
void ops_linear_dw(const struct ops *o, const struct ops_linear *l, const real *dy, const real *x,
                   real *dw);
/* db [cols] += sum of rows of dy [rows, cols]; NULL: nothing */
void ops_columns(const struct ops *o, const real *dy, size_t rows, size_t cols, real *db);
/* y = x + bias (NULL: a copy) */
void ops_copy_bias(const struct ops *o, real *y, const real *x, const real *bias, size_t rows,
                   size_t d);

/* n numbers to bf16 and back: struct passes. */
void ops_narrow(const struct ops *o, uint16_t *y, const real *x, size_t n);
void ops_widen(const struct ops *o, real *y, const uint16_t *x, size_t n);

/* x [n_tok, d] = embed[token] + place_embed[place] (NULL: without). */
struct ops_embed {
    size_t n_tok, d;
    const int32_t *token, *place;
};
void ops_embed(const struct ops *o, const struct ops_embed *e, const real *embed,
               const real *place_embed, real *x);
void ops_embed_back(const struct ops *o, const struct ops_embed *e, const real *dx, real *d_embed,
                    real *d_place_embed);

/* a->rows is the number of tokens; dx is added to; dgain, dbias (RMS: NULL) are parameters'. part:
 * scratch of ops_norm_part() numbers. */
void ops_norm(const struct ops *o, const struct pass_norm *a, const real *x, real *y, real *stat);
struct ops_norm_back {
    const real *x, *stat, *dy;
    real *dx, *dgain, *dbias, *part;
};
size_t ops_norm_part(size_t rows, size_t d);
void ops_norm_back(const struct ops *o, const struct pass_norm *a, const struct ops_norm_back *b);

void ops_act(const struct ops *o, const struct pass_act *a);
void ops_act_back(const struct ops *o, const struct pass_act *a);
void ops_rope(const struct ops *o, const struct pass_rope *a, real *x);
/* The table of struct pass_rope: [n_ctx, 2, d_head]. */
void ops_rope_table(real *table, size_t n_ctx, size_t d_head, double theta);

/* Causal attention within documents. qkv [rows * cols, (n_head + 2 n_kv) d_head]: queries, keys,
 * values; head h reads keys and values of head h / (n_head / n_kv). out [rows * cols, n_head
 * d_head]. start [rows * cols]: first position of the token's document within its sequence. */
struct ops_attn {
    size_t rows, cols, n_head, n_kv, d_head;
    const int32_t *start;
    enum net_attn kind;
    real *scratch; /* ops_attn_scratch() numbers for each thread of the pool */
};
size_t ops_attn_scratch(const struct ops_attn *a);
/* What forward leaves for backward. Tiled: the logarithm of each softmax's sum [rows, n_head,
 * cols]; naive: the probabilities [rows, n_head, cols, cols]. */
size_t ops_attn_kept(const struct ops_attn *a);
void ops_attn(const struct ops *o, const struct ops_attn *a, const real *qkv, real *out,
              real *kept);
struct ops_attn_back {
    const real *qkv, *out, *kept, *dout;
    real *dqkv;
};
void ops_attn_back(const struct ops *o, const struct ops_attn *a, const struct ops_attn_back *b);

/* Cross-entropy of logits x w^T, w [n_vocab, d], without ever holding them all: `rows` tokens by
 * `cols` vocabulary entries at a time. With cols < n_vocab the backward pass computes them again.*/
struct ops_loss {
    size_t n_tok, d, n_vocab, rows, cols;
    const real *x, *w;
    const int32_t *target;     /* [n_tok], -1: none */
    const float *weight;       /* [n_tok]; NULL: 1 */
    double scale;              /* of the gradient */
    real *dx, *dw;             /* [n_tok, d], [n_vocab, d]; both NULL: no gradient */
    float *each;               /* [n_tok] -log p; NULL: none */
    real *logits;              /* scratch [rows, cols] */
    struct ops_loss_row *stat; /* scratch [rows] */
};
struct ops_loss_row {
    double sum, nll;
    real max, at_target;
};
/* How many tokens and vocabulary entries to hold at a time; chunk 0: chosen. */
void ops_loss_cut(size_t n_tok, size_t n_vocab, size_t chunk, size_t *rows, size_t *cols);
void ops_loss(const struct ops *o, const struct ops_loss *l, struct net_loss *ret);

#endif
