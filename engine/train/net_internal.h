/* engine/train/net_internal.h - what the files of net*.c share: where parameters lie, the buffers
 * of a network, and one layer's passes. */
#ifndef STROBE_TRAIN_NET_INTERNAL_H
#define STROBE_TRAIN_NET_INTERNAL_H

#include "engine/base/arena.h"
#include "engine/train/net.h"
#include "engine/train/ops.h"

/* Tensors of a layer in the order of the flat array. Queries, keys and values lie side by side: one
 * product computes all three. */
enum net_slot {
    SLOT_ATTN_NORM,
    SLOT_ATTN_NORM_BIAS,
    SLOT_Q,
    SLOT_K,
    SLOT_V,
    SLOT_Q_BIAS,
    SLOT_K_BIAS,
    SLOT_V_BIAS,
    SLOT_ATTN_OUT,
    SLOT_ATTN_OUT_BIAS,
    SLOT_FFN_NORM,
    SLOT_FFN_NORM_BIAS,
    SLOT_GATE,
    SLOT_UP,
    SLOT_GATE_BIAS,
    SLOT_UP_BIAS,
    SLOT_DOWN,
    SLOT_DOWN_BIAS,
    SLOT_SMALL_GATE,
    SLOT_SMALL_UP,
    SLOT_SMALL_DOWN,
    N_SLOT
};

/* First elements in the flat array; the token embedding is at 0. */
struct net_layout {
    uint64_t place_embed, layers, norm, norm_bias, head, total; /* head: 0 when tied */
    uint64_t slot[N_SLOT], layer_size;                          /* from a layer's first element */
};
void net_lay_out(const struct net_shape *s, struct net_layout *l);
/* Rows and columns of a layer's tensor; rows 0: this shape has none. */
struct net_dims {
    uint64_t rows, cols;
};
struct net_dims net_slot_dims(const struct net_shape *s, enum net_slot slot);

/* The list of net_tensors() in three parts; each returns how many there are. */
size_t net_first_tensors(const struct net_shape *s, const struct net_layout *l,
                         struct net_tensor t[2]);
size_t net_layer_tensors(const struct net_shape *s, const struct net_layout *l, uint32_t layer,
                         struct net_tensor t[N_SLOT]);
size_t net_last_tensors(const struct net_shape *s, const struct net_layout *l,
                        struct net_tensor t[3]);

/* Activations of one layer, kept for its backward pass. N = rows * cols tokens. */
struct net_acts {
    real *x;        /* [N, d_model], the layer's input */
    real *qkv;      /* [N, (n_head + 2 n_kv_head) d_head], rotated */
    real *attn;     /* [N, n_head d_head] */
    real *kept;     /* ops_attn_kept() */
    real *mid;      /* [N, d_model], between attention and FFN */
    real *pre, *up; /* [N, d_ff], arguments of the activation; up: gated only. Duo: the rows of big
                       tokens, then those of small ones, narrower */
};

/* Activations as bf16 (NET_KEEP_BF16): of every layer, while struct net_acts holds those of the
 * layer at work. The softmax sums in `kept` stay as they are. */
enum net_kept { KEPT_X, KEPT_QKV, KEPT_ATTN, KEPT_MID, KEPT_PRE, KEPT_UP, N_KEPT };
struct net_store {
    uint16_t *at; /* [n_layer, N, width]; NULL: not kept */
    size_t width;
};

struct net {
    struct net_opts o;
    struct net_layout lay;
    struct ops ops;
    struct net_bytes bytes;
    struct arena arena;
    real *params, *grads;
    struct net_acts acts; /* of layer 0; strides below */
    size_t n_kept, n_x;   /* layers whose activations lie there, and inputs */
    size_t n_lse;         /* and `kept` */
    struct net_store store[N_KEPT];
    bool keeping; /* this pass is one of a gradient's */
    /* scratch */
    real *norm, *act;  /* [N, d_model], [N, d_ff] */
    real *stat, *part; /* norms: [N, 2], ops_norm_part() */
    real *dx, *dnorm;  /* [N, d_model] */
    real *dact, *dup, *dqkv, *dattn;
    real *logits, *table, *attn_scratch;
    struct ops_loss_row *loss_stat;
    size_t loss_rows, loss_cols;
    int32_t *start, *place; /* [N]: struct ops_attn, struct pass_rope */
    /* the batch at work */
    size_t rows, cols;
    struct net_batch part_batch; /* net_parts.c */
    /* Duo: routes of the batch, tokens of a layer in the order of their routes, gathered rows */
    const uint8_t *route;
    uint32_t *index; /* [N] */
    uint8_t *chosen; /* [N] of the layer, by on_route */
    void (*on_route)(void *user, uint32_t layer, size_t n_tok, const real *x, uint8_t *route);
    void *route_user;
    real *gx, *gy, *gz; /* [N, d_model]; gz: not for `infer` */
    void (*on_grad)(void *user, uint64_t from, uint64_t to);
    void (*on_ffn)(void *user, uint32_t layer, size_t n_tok, const real *pre, const real *act);
    void (*on_norm)(void *user, uint32_t layer, bool ffn, size_t n_tok, const real *y);
    bool (*go_on)(void *user);
    void *grad_user, *ffn_user, *norm_user, *go_on_user;
};

static inline bool net_goes_on(const struct net *n)
{
    return !n->go_on || n->go_on(n->go_on_user);
}

/* The layer's activations (all layers share one set where only inputs are kept). */
struct net_acts net_acts_of(const struct net *n, uint32_t layer);
/* Input of layer l, or the last layer's output for l == n_layer. */
real *net_x(const struct net *n, uint32_t layer);

/* net_keep.c. Which of a layer's activations are stored as bf16, with their widths. */
void net_store_widths(struct net *n);
/* Stores all of the layer's but q k v; brings them back into `a`. */
void net_store_layer(struct net *n, uint32_t layer, const struct net_acts *a);
void net_fetch_layer(struct net *n, uint32_t layer, const struct net_acts *a);
/* Stores q k v, and rounds them where they are. */
void net_store_qkv(struct net *n, uint32_t layer, const struct net_acts *a);

/* Helpers of net_layer.c that net_ffn.c and net_parts.c use too. */
const real *net_param(const struct net *n, uint32_t layer, enum net_slot slot);
real *net_grad_of(const struct net *n, uint32_t layer, enum net_slot slot);
struct pass_norm net_layer_norm(const struct net *n, uint32_t layer, enum net_slot gain,
                                enum net_slot bias);
void net_norm_back(struct net *n, const struct pass_norm *a, const real *x, real *dgain,
                   real *dbias);

/* Where a layer's tokens go. Identity: all take the same way, rows need no gathering. */
struct net_group {
    size_t n[NET_ROUTES], from[NET_ROUTES]; /* in n->index */
};
void net_group(struct net *n, uint32_t layer, struct net_group *g);
/* Routes of the layer's tokens [N]; NULL: all big. */
static inline const uint8_t *net_layer_route(const struct net *n, uint32_t layer)
{
    return n->on_route ? n->chosen : n->route ? n->route + layer * n->rows * n->cols : NULL;
}
/* Lets on_route choose from n->norm; `ffn`: which of the two norms that is. */
void net_choose(struct net *n, uint32_t layer, bool ffn);
/* One way through a feed-forward part: its tensors and neurons, and its tokens. */
struct net_way {
    const uint32_t *index; /* NULL: all tokens, in order */
    size_t n, d_ff;
    enum net_slot gate, up, down;
    real *pre, *up_pre; /* [n, d_ff] */
};
struct pass_act net_way_act(const struct net *n, uint32_t layer, const struct net_way *w);
/* n->norm to arguments of the activation and n->act; those and `mid` to `next`. */
void net_way_in(struct net *n, uint32_t layer, const struct net_way *w);
void net_way_out(struct net *n, uint32_t layer, const struct net_way *w, const real *mid,
                 real *next);
void net_attention_back(struct net *n, uint32_t layer, const struct net_acts *a);
/* The feed-forward part: a->mid to `next`; `again`: what backward needs only. */
void net_ffn(struct net *n, uint32_t layer, const struct net_acts *a, real *next, bool again);
void net_ffn_back(struct net *n, uint32_t layer, const struct net_acts *a);
/* Attention, a->x to a->mid. */
void net_attention(struct net *n, uint32_t layer, const struct net_acts *a, bool again);

/* net.c: the batch's tokens and documents; its embeddings into net_x(n, 0); the loss of n->norm,
 * its derivative into n->dnorm, n->dx zero. */
void net_take_batch(struct net *n, const struct net_batch *b);
void net_embed_batch(struct net *n, const struct net_batch *b);
void net_loss_grad(struct net *n, const struct net_batch *b, double scale, struct net_loss *ret);
/* The head's norm of any x into n->norm; queries and keys turned by n->place, biases added. */
void net_norm_of(struct net *n, const real *x);
void net_rope(struct net *n, uint32_t layer, real *qkv);

/* From its input to the next layer's; `again`: only what backward needs, silently. */
void net_layer(struct net *n, uint32_t layer, bool again);
/* n->dx: from the derivative by the layer's output to that by its input; adds to n->grads. */
void net_layer_back(struct net *n, uint32_t layer);
/* The norm in front of the head: n->norm from the last output, and back into n->dx from n->dnorm.
 */
void net_last_norm(struct net *n);
void net_last_norm_back(struct net *n);

#endif
