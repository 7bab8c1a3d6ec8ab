/* engine/train/net_keep.c - activations kept as bf16 between a layer's two passes: see enum
 * net_keep in net.h. A layer's forward pass leaves them behind in n->store; its backward pass finds
 * them in the f32 buffers again, which all layers share. */
#include "engine/train/net_internal.h"

static size_t width_of(const struct net *n, enum net_kept k)
{
    const struct net_shape *s = &n->o.shape;
    size_t q = (size_t)s->n_head * s->d_head;
    switch (k) {
    case KEPT_QKV:
        return q + 2 * (size_t)s->n_kv_head * s->d_head;
    case KEPT_ATTN:
        return q;
    case KEPT_PRE:
        return s->d_ff;
    case KEPT_UP:
        return s->gated ? s->d_ff : 0;
    case KEPT_X:
    case KEPT_MID:
    case N_KEPT:
        break;
    }
    return s->d_model;
}

void net_store_widths(struct net *n)
{
    for (int k = 0; k < N_KEPT; k++)
        n->store[k] = (struct net_store){ 0 };
    if (n->o.keep != NET_KEEP_BF16 || n->o.infer)
        return;
    for (int k = 0; k < N_KEPT; k++) /* with recompute, what follows from x is computed again */
        if (k == KEPT_X || !n->o.recompute)
            n->store[k].width = width_of(n, (enum net_kept)k);
}

static real *wide_of(const struct net_acts *a, enum net_kept k)
{
    real *const wide[N_KEPT] = { [KEPT_X] = a->x,     [KEPT_QKV] = a->qkv, [KEPT_ATTN] = a->attn,
                                 [KEPT_MID] = a->mid, [KEPT_PRE] = a->pre, [KEPT_UP] = a->up };
    return wide[k];
}

static uint16_t *store_of(const struct net *n, uint32_t layer, enum net_kept k)
{
    size_t most = (size_t)n->o.batch * n->o.n_tok;
    return n->store[k].at + layer * most * n->store[k].width;
}

static void store(struct net *n, uint32_t layer, const struct net_acts *a, enum net_kept k)
{
    size_t len = n->rows * n->cols * n->store[k].width;
    if (len)
        ops_narrow(&n->ops, store_of(n, layer, k), wide_of(a, k), len);
}

static void fetch(struct net *n, uint32_t layer, const struct net_acts *a, enum net_kept k)
{
    size_t len = n->rows * n->cols * n->store[k].width;
    if (len)
        ops_widen(&n->ops, wide_of(a, k), store_of(n, layer, k), len);
}

void net_store_qkv(struct net *n, uint32_t layer, const struct net_acts *a)
{
    store(n, layer, a, KEPT_QKV);
    fetch(n, layer, a, KEPT_QKV);
}

void net_store_layer(struct net *n, uint32_t layer, const struct net_acts *a)
{
    for (int k = 0; k < N_KEPT; k++)
        if (k != KEPT_QKV)
            store(n, layer, a, (enum net_kept)k);
}

void net_fetch_layer(struct net *n, uint32_t layer, const struct net_acts *a)
{
    for (int k = 0; k < N_KEPT; k++)
        fetch(n, layer, a, (enum net_kept)k);
}
