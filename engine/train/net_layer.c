/* engine/train/net_layer.c - one layer, forward and backward:
 *
 *   x -> norm -> q, k, v -> turn -> attention -> output -> + x = mid
 *   mid -> norm -> gate, up -> activation -> down -> + mid = next x
 *
 * Kept for the backward pass are the inputs of what is costly to compute again: x, q k v, attention
 * and mid, gate and up. Norms and activations are computed again there, in the passes that need
 * their derivatives anyway. */
#include "engine/train/net_internal.h"

#include <string.h>

static size_t n_tok(const struct net *n)
{
    return n->rows * n->cols;
}

static size_t qkv_width(const struct net_shape *s)
{
    return ((size_t)s->n_head + 2 * (size_t)s->n_kv_head) * s->d_head;
}

real *net_x(const struct net *n, uint32_t layer)
{
    size_t each = (size_t)n->o.batch * n->o.n_tok * n->o.shape.d_model;
    return n->acts.x + layer % n->n_x * each; /* two: those of the layer at work and the next */
}

struct net_acts net_acts_of(const struct net *n, uint32_t layer)
{
    const struct net_shape *s = &n->o.shape;
    size_t tok = (size_t)n->o.batch * n->o.n_tok, i = layer % n->n_kept;
    struct net_acts a = n->acts;
    struct ops_attn most = {
        .rows = n->o.batch, .cols = n->o.n_tok, .n_head = s->n_head, .kind = n->o.attn
    };
    a.x = net_x(n, layer);
    a.qkv += i * tok * qkv_width(s);
    a.attn += i * tok * s->n_head * s->d_head;
    a.kept += layer % n->n_lse * ops_attn_kept(&most);
    a.mid += i * tok * s->d_model;
    a.pre += i * tok * s->d_ff;
    if (a.up)
        a.up += i * tok * s->d_ff;
    return a;
}

/* A layer's tensor among parameters or gradients; NULL: this shape has none, or no gradients. */
static real *tensor_in(const struct net *n, real *all, uint32_t layer, enum net_slot slot)
{
    if (!net_slot_dims(&n->o.shape, slot).rows)
        return NULL;
    return all + n->lay.layers + layer * n->lay.layer_size + n->lay.slot[slot];
}

const real *net_param(const struct net *n, uint32_t layer, enum net_slot slot)
{
    return tensor_in(n, n->params, layer, slot);
}

real *net_grad_of(const struct net *n, uint32_t layer, enum net_slot slot)
{
    return tensor_in(n, n->grads, layer, slot);
}

static struct ops_linear linear(const struct net *n, size_t in, size_t out, const real *w)
{
    return (struct ops_linear){ n_tok(n), in, out, w };
}

static struct pass_norm norm_of(const struct net *n, const real *gain, const real *bias, bool relu)
{
    return (struct pass_norm){ .rows = n_tok(n),
                               .d = n->o.shape.d_model,
                               .kind = n->o.shape.norm,
                               .relu = relu,
                               .eps = (real)n->o.shape.norm_eps,
                               .gain = gain,
                               .bias = bias };
}

struct pass_norm net_layer_norm(const struct net *n, uint32_t layer, enum net_slot gain,
                                enum net_slot bias)
{
    return norm_of(n, net_param(n, layer, gain), net_param(n, layer, bias), n->o.shape.norm_relu);
}

static struct pass_rope rope_of(const struct net *n, uint32_t layer, bool back)
{
    const struct net_shape *s = &n->o.shape;
    return (struct pass_rope){ .rows = n_tok(n),
                               .width = qkv_width(s),
                               .n_head = (size_t)s->n_head + s->n_kv_head,
                               .d_head = s->d_head,
                               .bias = net_param(n, layer, SLOT_Q_BIAS),
                               .table = n->table,
                               .place = n->place,
                               .back = back };
}

void net_rope(struct net *n, uint32_t layer, real *qkv)
{
    struct pass_rope rope = rope_of(n, layer, false);
    ops_rope(&n->ops, &rope, qkv);
}

static struct ops_attn attn_of(const struct net *n)
{
    const struct net_shape *s = &n->o.shape;
    return (struct ops_attn){ .rows = n->rows,
                              .cols = n->cols,
                              .n_head = s->n_head,
                              .n_kv = s->n_kv_head,
                              .d_head = s->d_head,
                              .start = n->start,
                              .kind = n->o.attn,
                              .scratch = n->attn_scratch };
}

void net_attention(struct net *n, uint32_t layer, const struct net_acts *a, bool again)
{
    const struct net_shape *s = &n->o.shape;
    size_t d = s->d_model, q = (size_t)s->n_head * s->d_head;
    struct pass_norm norm = net_layer_norm(n, layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    struct ops_linear in = linear(n, d, qkv_width(s), net_param(n, layer, SLOT_Q));
    struct ops_linear out = linear(n, q, d, net_param(n, layer, SLOT_ATTN_OUT));
    struct pass_rope rope = rope_of(n, layer, false);
    struct ops_attn attn = attn_of(n);
    ops_norm(&n->ops, &norm, a->x, n->norm, n->stat);
    if (!again)
        net_choose(n, layer, false);
    if (n->on_norm && !again)
        n->on_norm(n->norm_user, layer, false, n_tok(n), n->norm);
    ops_linear(&n->ops, &in, n->norm, a->qkv, false);
    ops_rope(&n->ops, &rope, a->qkv);
    if (n->keeping)
        net_store_qkv(n, layer, a);
    ops_attn(&n->ops, &attn, a->qkv, a->attn, a->kept);
    ops_linear_onto(&n->ops, &out, a->attn, a->mid, a->x, net_param(n, layer, SLOT_ATTN_OUT_BIAS));
}

/* A token that skips the layer goes on as it came. */
static void skip_layer(struct net *n, uint32_t layer, const struct net_acts *a)
{
    size_t d = n->o.shape.d_model, tok = n_tok(n);
    const uint8_t *route = net_layer_route(n, layer);
    if (!route || !n->o.shape.skip_layer)
        return;
    for (size_t t = 0; t < tok; t++)
        if (route[t] == NET_SKIP)
            memcpy(a->mid + t * d, a->x + t * d, d * sizeof *a->mid);
}

void net_layer(struct net *n, uint32_t layer, bool again)
{
    struct net_acts a = net_acts_of(n, layer);
    net_attention(n, layer, &a, again);
    skip_layer(n, layer, &a);
    net_ffn(n, layer, &a, net_x(n, layer + 1), again);
    if (n->keeping && !again)
        net_store_layer(n, layer, &a);
}

/* Through a norm: n->dnorm is the derivative by its output, n->dx gets that by its input. */
void net_norm_back(struct net *n, const struct pass_norm *a, const real *x, real *dgain,
                   real *dbias)
{
    struct ops_norm_back b = { .x = x,
                               .stat = n->stat,
                               .dy = n->dnorm,
                               .dx = n->dx,
                               .dgain = dgain,
                               .dbias = dbias,
                               .part = n->part };
    ops_norm_back(&n->ops, a, &b);
}

/* What reaches attention's output of n->dx: nothing of tokens that skipped the layer. */
static const real *attended(struct net *n, uint32_t layer)
{
    size_t d = n->o.shape.d_model, tok = n_tok(n);
    if (!n->route || !n->o.shape.skip_layer)
        return n->dx;
    memcpy(n->gy, n->dx, tok * d * sizeof *n->gy);
    for (size_t t = 0; t < tok; t++)
        if (n->route[layer * tok + t] == NET_SKIP)
            memset(n->gy + t * d, 0, d * sizeof *n->gy);
    return n->gy;
}

void net_attention_back(struct net *n, uint32_t layer, const struct net_acts *a)
{
    const struct net_shape *s = &n->o.shape;
    size_t tok = n_tok(n), d = s->d_model, q = (size_t)s->n_head * s->d_head, w = qkv_width(s);
    struct ops_linear in = linear(n, d, w, net_param(n, layer, SLOT_Q));
    struct ops_linear out = linear(n, q, d, net_param(n, layer, SLOT_ATTN_OUT));
    struct pass_norm norm = net_layer_norm(n, layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    struct pass_rope rope = rope_of(n, layer, true);
    struct ops_attn attn = attn_of(n);
    struct ops_attn_back b = {
        .qkv = a->qkv, .out = a->attn, .kept = a->kept, .dout = n->dattn, .dqkv = n->dqkv
    };
    const real *dmid = attended(n, layer);
    ops_linear_dx(&n->ops, &out, dmid, n->dattn, false);
    ops_linear_dw(&n->ops, &out, dmid, a->attn, net_grad_of(n, layer, SLOT_ATTN_OUT));
    ops_columns(&n->ops, dmid, tok, d, net_grad_of(n, layer, SLOT_ATTN_OUT_BIAS));
    ops_attn_back(&n->ops, &attn, &b);
    ops_rope(&n->ops, &rope, n->dqkv);
    ops_norm(&n->ops, &norm, a->x, n->norm, n->stat);
    ops_linear_dw(&n->ops, &in, n->dqkv, n->norm, net_grad_of(n, layer, SLOT_Q));
    ops_columns(&n->ops, n->dqkv, tok, w, net_grad_of(n, layer, SLOT_Q_BIAS));
    ops_linear_dx(&n->ops, &in, n->dqkv, n->dnorm, false);
    net_norm_back(n, &norm, a->x, net_grad_of(n, layer, SLOT_ATTN_NORM),
                  net_grad_of(n, layer, SLOT_ATTN_NORM_BIAS));
}

void net_layer_back(struct net *n, uint32_t layer)
{
    struct net_acts a = net_acts_of(n, layer);
    net_fetch_layer(n, layer, &a);
    if (n->o.recompute)
        net_layer(n, layer, true);
    net_ffn_back(n, layer, &a);
    net_attention_back(n, layer, &a);
}

static struct pass_norm last_norm(const struct net *n)
{
    bool bias = n->o.shape.norm == NET_LAYER;
    return norm_of(n, n->params + n->lay.norm, bias ? n->params + n->lay.norm_bias : NULL, false);
}

void net_norm_of(struct net *n, const real *x)
{
    struct pass_norm norm = last_norm(n);
    ops_norm(&n->ops, &norm, x, n->norm, n->stat);
}

void net_last_norm(struct net *n)
{
    net_norm_of(n, net_x(n, n->o.shape.n_layer));
}

void net_last_norm_back(struct net *n)
{
    struct pass_norm norm = last_norm(n);
    bool bias = n->o.shape.norm == NET_LAYER;
    net_norm_back(n, &norm, net_x(n, n->o.shape.n_layer), n->grads + n->lay.norm,
                  bias ? n->grads + n->lay.norm_bias : NULL);
}
