/* engine/train/net_layer.c - one layer, forward and backward:
 *
 *   x -> norm -> q, k, v -> turn -> attention -> output -> + x = mid
 *   mid -> norm -> gate, up -> activation -> down -> + mid = next x
 *
 * Kept for the backward pass are the inputs of what is costly to compute again: x, q k v, attention
 * and mid, gate and up. Norms and activations are computed again there, in the passes that need
 * their derivatives anyway. */
#include "engine/train/net_internal.h"

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
    return n->acts.x + (n->n_x > 1 ? layer * each : 0);
}

struct net_acts net_acts_of(const struct net *n, uint32_t layer)
{
    const struct net_shape *s = &n->o.shape;
    size_t tok = (size_t)n->o.batch * n->o.n_tok, i = n->n_kept > 1 ? layer : 0;
    struct net_acts a = n->acts;
    struct ops_attn most = {
        .rows = n->o.batch, .cols = n->o.n_tok, .n_head = s->n_head, .kind = n->o.attn
    };
    a.x = net_x(n, layer);
    a.qkv += i * tok * qkv_width(s);
    a.attn += i * tok * s->n_head * s->d_head;
    a.kept += i * ops_attn_kept(&most);
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

static const real *param(const struct net *n, uint32_t layer, enum net_slot slot)
{
    return tensor_in(n, n->params, layer, slot);
}

static real *grad(const struct net *n, uint32_t layer, enum net_slot slot)
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

static struct pass_norm layer_norm(const struct net *n, uint32_t layer, enum net_slot gain,
                                   enum net_slot bias)
{
    return norm_of(n, param(n, layer, gain), param(n, layer, bias), n->o.shape.norm_relu);
}

static struct pass_rope rope_of(const struct net *n, uint32_t layer, bool back)
{
    const struct net_shape *s = &n->o.shape;
    return (struct pass_rope){ .rows = n_tok(n),
                               .width = qkv_width(s),
                               .n_head = (size_t)s->n_head + s->n_kv_head,
                               .d_head = s->d_head,
                               .bias = param(n, layer, SLOT_Q_BIAS),
                               .table = n->table,
                               .place = n->place,
                               .back = back };
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

static struct pass_act act_of(const struct net *n, uint32_t layer, const struct net_acts *a)
{
    const struct net_shape *s = &n->o.shape;
    return (struct pass_act){ .kind = s->act,
                              .up_relu = s->up_relu,
                              .shift = (real)s->act_shift,
                              .rows = n_tok(n),
                              .d = s->d_ff,
                              .bias = param(n, layer, s->gated ? SLOT_GATE_BIAS : SLOT_UP_BIAS),
                              .up_bias = param(n, layer, SLOT_UP_BIAS),
                              .pre = a->pre,
                              .up = a->up,
                              .act = n->act,
                              .dact = n->dact,
                              .dup = n->dup };
}

static void attention(struct net *n, uint32_t layer, const struct net_acts *a, bool again)
{
    const struct net_shape *s = &n->o.shape;
    size_t d = s->d_model, q = (size_t)s->n_head * s->d_head;
    struct pass_norm norm = layer_norm(n, layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    struct ops_linear in = linear(n, d, qkv_width(s), param(n, layer, SLOT_Q));
    struct ops_linear out = linear(n, q, d, param(n, layer, SLOT_ATTN_OUT));
    struct pass_rope rope = rope_of(n, layer, false);
    struct ops_attn attn = attn_of(n);
    ops_norm(&n->ops, &norm, a->x, n->norm, n->stat);
    if (n->on_norm && !again)
        n->on_norm(n->norm_user, layer, false, n_tok(n), n->norm);
    ops_linear(&n->ops, &in, n->norm, a->qkv, false);
    ops_rope(&n->ops, &rope, a->qkv);
    ops_attn(&n->ops, &attn, a->qkv, a->attn, a->kept);
    ops_linear_onto(&n->ops, &out, a->attn, a->mid, a->x, param(n, layer, SLOT_ATTN_OUT_BIAS));
}

/* Arguments of the activation, without their biases. */
static void ffn_in(struct net *n, uint32_t layer, const struct net_acts *a, bool again)
{
    const struct net_shape *s = &n->o.shape;
    struct pass_norm norm = layer_norm(n, layer, SLOT_FFN_NORM, SLOT_FFN_NORM_BIAS);
    struct ops_linear l = linear(n, s->d_model, s->d_ff, param(n, layer, SLOT_UP));
    ops_norm(&n->ops, &norm, a->mid, n->norm, n->stat);
    if (n->on_norm && !again)
        n->on_norm(n->norm_user, layer, true, n_tok(n), n->norm);
    ops_linear(&n->ops, &l, n->norm, s->gated ? a->up : a->pre, false);
    if (!s->gated)
        return;
    l.w = param(n, layer, SLOT_GATE);
    ops_linear(&n->ops, &l, n->norm, a->pre, false);
}

void net_layer(struct net *n, uint32_t layer, bool again)
{
    const struct net_shape *s = &n->o.shape;
    struct net_acts a = net_acts_of(n, layer);
    struct pass_act act = act_of(n, layer, &a);
    struct ops_linear down = linear(n, s->d_ff, s->d_model, param(n, layer, SLOT_DOWN));
    real *next = net_x(n, layer + 1);
    attention(n, layer, &a, again);
    ffn_in(n, layer, &a, again);
    ops_act(&n->ops, &act); /* adds biases to pre and up, which backward reads */
    if (again)
        return;
    if (n->on_ffn)
        n->on_ffn(n->ffn_user, layer, n_tok(n), a.pre, n->act);
    ops_linear_onto(&n->ops, &down, n->act, next, a.mid, param(n, layer, SLOT_DOWN_BIAS));
}

/* Through a norm: n->dnorm is the derivative by its output, n->dx gets that by its input. */
static void norm_back(struct net *n, const struct pass_norm *a, const real *x, real *dgain,
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

static void ffn_back(struct net *n, uint32_t layer, const struct net_acts *a)
{
    const struct net_shape *s = &n->o.shape;
    size_t tok = n_tok(n), d = s->d_model;
    struct ops_linear down = linear(n, s->d_ff, d, param(n, layer, SLOT_DOWN));
    struct ops_linear up = linear(n, d, s->d_ff, param(n, layer, SLOT_UP));
    struct ops_linear gate = linear(n, d, s->d_ff, param(n, layer, SLOT_GATE));
    struct pass_act act = act_of(n, layer, a);
    struct pass_norm norm = layer_norm(n, layer, SLOT_FFN_NORM, SLOT_FFN_NORM_BIAS);
    const real *dup = s->gated ? n->dup : n->dact;
    ops_linear_dx(&n->ops, &down, n->dx, n->dact, false);
    ops_act_back(&n->ops, &act);
    ops_linear_dw(&n->ops, &down, n->dx, n->act, grad(n, layer, SLOT_DOWN));
    ops_columns(&n->ops, n->dx, tok, d, grad(n, layer, SLOT_DOWN_BIAS));
    ops_norm(&n->ops, &norm, a->mid, n->norm, n->stat);
    ops_linear_dw(&n->ops, &up, dup, n->norm, grad(n, layer, SLOT_UP));
    ops_columns(&n->ops, dup, tok, s->d_ff, grad(n, layer, SLOT_UP_BIAS));
    ops_linear_dx(&n->ops, &up, dup, n->dnorm, false);
    if (s->gated) {
        ops_linear_dw(&n->ops, &gate, n->dact, n->norm, grad(n, layer, SLOT_GATE));
        ops_columns(&n->ops, n->dact, tok, s->d_ff, grad(n, layer, SLOT_GATE_BIAS));
        ops_linear_dx(&n->ops, &gate, n->dact, n->dnorm, true);
    }
    norm_back(n, &norm, a->mid, grad(n, layer, SLOT_FFN_NORM), grad(n, layer, SLOT_FFN_NORM_BIAS));
}

static void attention_back(struct net *n, uint32_t layer, const struct net_acts *a)
{
    const struct net_shape *s = &n->o.shape;
    size_t tok = n_tok(n), d = s->d_model, q = (size_t)s->n_head * s->d_head, w = qkv_width(s);
    struct ops_linear in = linear(n, d, w, param(n, layer, SLOT_Q));
    struct ops_linear out = linear(n, q, d, param(n, layer, SLOT_ATTN_OUT));
    struct pass_norm norm = layer_norm(n, layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    struct pass_rope rope = rope_of(n, layer, true);
    struct ops_attn attn = attn_of(n);
    struct ops_attn_back b = {
        .qkv = a->qkv, .out = a->attn, .kept = a->kept, .dout = n->dattn, .dqkv = n->dqkv
    };
    ops_linear_dx(&n->ops, &out, n->dx, n->dattn, false);
    ops_linear_dw(&n->ops, &out, n->dx, a->attn, grad(n, layer, SLOT_ATTN_OUT));
    ops_columns(&n->ops, n->dx, tok, d, grad(n, layer, SLOT_ATTN_OUT_BIAS));
    ops_attn_back(&n->ops, &attn, &b);
    ops_rope(&n->ops, &rope, n->dqkv);
    ops_norm(&n->ops, &norm, a->x, n->norm, n->stat);
    ops_linear_dw(&n->ops, &in, n->dqkv, n->norm, grad(n, layer, SLOT_Q));
    ops_columns(&n->ops, n->dqkv, tok, w, grad(n, layer, SLOT_Q_BIAS));
    ops_linear_dx(&n->ops, &in, n->dqkv, n->dnorm, false);
    norm_back(n, &norm, a->x, grad(n, layer, SLOT_ATTN_NORM), grad(n, layer, SLOT_ATTN_NORM_BIAS));
}

void net_layer_back(struct net *n, uint32_t layer)
{
    struct net_acts a = net_acts_of(n, layer);
    if (n->o.recompute)
        net_layer(n, layer, true);
    ffn_back(n, layer, &a);
    attention_back(n, layer, &a);
}

static struct pass_norm last_norm(const struct net *n)
{
    bool bias = n->o.shape.norm == NET_LAYER;
    return norm_of(n, n->params + n->lay.norm, bias ? n->params + n->lay.norm_bias : NULL, false);
}

void net_last_norm(struct net *n)
{
    struct pass_norm norm = last_norm(n);
    ops_norm(&n->ops, &norm, net_x(n, n->o.shape.n_layer), n->norm, n->stat);
}

void net_last_norm_back(struct net *n)
{
    struct pass_norm norm = last_norm(n);
    bool bias = n->o.shape.norm == NET_LAYER;
    norm_back(n, &norm, net_x(n, n->o.shape.n_layer), n->grads + n->lay.norm,
              bias ? n->grads + n->lay.norm_bias : NULL);
}
