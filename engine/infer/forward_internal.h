/* engine/infer/forward_internal.h - what forward.c, forward_span.c, forward_duo.c and
 * forward_duo_ahead.c share. Not for others. */
#ifndef STROBE_INFER_FORWARD_INTERNAL_H
#define STROBE_INFER_FORWARD_INTERNAL_H

#include "engine/base/arena.h"
#include "engine/infer/forward.h"
#include "engine/infer/rope.h"

/* What a pass knows of each of its tokens. */
struct forward_rows {
    float *x, *cs;        /* residual stream [n, n_embd], rotations [n, n_rot] */
    uint32_t *pos, *slot; /* [n] */
    int32_t *token;       /* [n] */
    float *h, *y;         /* spans of packed models: [n, n_embd] each; NULL elsewhere */
};

struct forward {
    const struct model *m;
    const struct hparams *hp;
    struct weights *w;
    struct kv *kv;
    const struct kernels *k;
    struct pool *pool;
    struct rope rope;
    struct arena mem, span_mem;
    uint32_t max_tok, max_logits, span;
    struct acts acts;
    float *chunk_h, *chunk_h2; /* [max_tok, n_embd]: where h and h2 are, but for such spans */
    float *x, *h, *h2, *qkv, *att, *g, *u, *cs, *next, *logits;
    char *scratch;
    size_t scratch_stride;
    /* the pass in progress */
    const struct batch_seq *seq;
    size_t n_seq;
    uint32_t n_all;                  /* its tokens */
    struct forward_rows usual, wide; /* [max_tok], [span] */
    const struct forward_rows *rows; /* the pass's: one of both */
    /* the chunk in progress: x, cs and what follows begin with its first token */
    uint32_t n_tok;
    uint32_t *row_pos, *row_slot; /* [max_tok] */
    int32_t *row_token;
    struct attn_seg *seg; /* [max_tok]: each part of a sequence has a token */
    size_t n_seg;
    /* Duo models: NULL elsewhere */
    float *gather, *logit, *hidden; /* [max_tok, n_embd], [max_tok, 3], [max_tok, n_hidden] */
    uint8_t *route;                 /* [max_tok] of the layer, enum duo_choice */
    uint32_t *order;                /* [max_tok] tokens by route */
    uint32_t n_way, *way;           /* tokens of the way in work; way NULL: all, in order */
    enum duo_choice choice;         /* which way that is */
    bool routed;                    /* some token of the pass is not all big */
    struct duo_ahead *ahead;        /* NULL: no router */
    /* the token-wise step in progress */
    const struct weights_view *v;
    uint32_t layer;
    struct err err; /* the first failed read; the rest of the layer computes on rubbish */
    forward_watch_fn *watch;
    void *watch_ctx;
    forward_chunk_fn *watch_chunk;
    void *chunk_ctx;
    forward_ffn_fn *watch_ffn;
    void *ffn_ctx;
};

/* forward.c */
/* The chunk in progress through its layer: all of it; up to the feed-forward part; what comes out
 * of that, for one token, in h2. */
void forward_layer(struct forward *f);
void forward_attention(struct forward *f);
void forward_ffn_out(void *f, size_t t, unsigned worker);
void forward_tell(const struct forward *f, enum forward_point at);
void forward_product(struct forward *f, enum tensor_role role, float *y, size_t stride);
void forward_norm(const struct forward *f, float *y, const float *x, const float *w,
                  const float *b);
void forward_each_token(struct forward *f, void (*step)(void *f, size_t t, unsigned worker));
/* x of token t += branch, with its bias and its norm. */
void forward_add_branch(struct forward *f, size_t t, float *branch, const float *bias,
                        const float *post);

/* forward_span.c: the pass's tokens; turning to those from `from`, as many as a chunk has. */
void forward_set_rows(struct forward *f, const struct batch_seq *seq, size_t n_seq);
void forward_aim(struct forward *f, uint32_t from);
/* All chunks of the pass through layer f->layer; f->err tells. */
void forward_chunks(struct forward *f);
bool forward_cancelled(const struct forward *f); /* by all sequences */

/* forward_duo.c: numbers of floats for each token; whether a pass has anything to route. */
size_t forward_duo_floats(const struct hparams *hp);
void forward_duo_begin(struct forward *f);
/* Chooses each token's way through this layer from f->h. */
void forward_duo_route(struct forward *f);
/* The feed-forward part of routed tokens: f->h to f->x. */
void forward_duo_ffn(struct forward *f);
const struct duo_policy *forward_duo_policy(const struct forward *f, size_t seq);
/* Whether some token of the pass needs its router. */
bool forward_duo_asks(const struct forward *f);
/* Logits of the chunk's tokens by the router of f->v, whose input is x, f32 [n_tok, n_embd]: at
 * f->logit. The margin is that of big over the best other choice. */
void forward_duo_router(struct forward *f, const float *x);
float forward_duo_margin(const struct forward *f, size_t t);
/* DUO_COIN's coin of a token at a place in its sequence: the same in every pass and company. */
bool forward_duo_coin(uint32_t pos, uint32_t layer, float budget);

/* forward_duo_ahead.c: what reading ahead is told of layers whose router has not spoken. Once in a
 * pass, before its first layer; when a layer's tokens have their ways; when they have gone them. */
size_t forward_duo_ahead_bytes(const struct hparams *hp);
void forward_duo_ahead_begin(struct forward *f);
void forward_duo_ahead_routed(struct forward *f);
void forward_duo_ahead_done(struct forward *f);

#endif
