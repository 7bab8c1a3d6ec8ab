/* engine/infer/forward_internal.h - what forward.c and forward_duo.c share. Not for others. */
#ifndef STROBE_INFER_FORWARD_INTERNAL_H
#define STROBE_INFER_FORWARD_INTERNAL_H

#include "engine/base/arena.h"
#include "engine/infer/forward.h"
#include "engine/infer/rope.h"

struct forward {
    const struct model *m;
    const struct hparams *hp;
    struct weights *w;
    struct kv *kv;
    const struct kernels *k;
    struct pool *pool;
    struct rope rope;
    struct arena mem;
    uint32_t max_tok, max_logits;
    struct acts acts;
    float *x, *h, *h2, *qkv, *att, *g, *u, *cs, *logits;
    char *scratch;
    size_t scratch_stride;
    /* the pass in progress */
    const struct batch_seq *seq;
    size_t n_seq;
    uint32_t n_tok;
    uint32_t *row_pos, *row_slot; /* [max_tok] */
    int32_t *row_token;
    struct attn_seg *seg; /* [max_tok]: each sequence has a token */
    /* Duo models: NULL elsewhere */
    float *gather, *logit, *hidden; /* [max_tok, n_embd], [max_tok, 3], [max_tok, n_hidden] */
    uint8_t *route;                 /* [max_tok] of the layer, enum duo_choice */
    uint32_t *order;                /* [max_tok] tokens by route */
    uint32_t n_way, *way;           /* tokens of the way in work; way NULL: all, in order */
    enum duo_choice choice;         /* which way that is */
    bool routed;                    /* some token of the pass is not all big */
    /* the token-wise step in progress */
    const struct weights_view *v;
    uint32_t layer;
    struct err err; /* the first failed read; the rest of the layer computes on rubbish */
    forward_watch_fn *watch;
    void *watch_ctx;
    forward_ffn_fn *watch_ffn;
    void *ffn_ctx;
};

/* forward.c */
void forward_product(struct forward *f, enum tensor_role role, float *y, size_t stride);
void forward_each_token(struct forward *f, void (*step)(void *f, size_t t, unsigned worker));
/* x of token t += branch, with its bias and its norm. */
void forward_add_branch(struct forward *f, size_t t, float *branch, const float *bias,
                        const float *post);

/* forward_duo.c: numbers of floats for each token; whether a pass has anything to route. */
size_t forward_duo_floats(const struct hparams *hp);
void forward_duo_begin(struct forward *f);
/* Chooses each token's way through this layer from f->h. */
void forward_duo_route(struct forward *f);
/* The feed-forward part of routed tokens: f->h to f->x. */
void forward_duo_ffn(struct forward *f);

#endif
