/* engine/train/net.c - the passes over a whole network; see net.h. */
#include "engine/train/net_internal.h"

#include <assert.h>
#include <string.h>

real *net_params(struct net *n)
{
    return n->params;
}

real *net_grads(struct net *n)
{
    return n->grads;
}

void net_set_route(struct net *n, const uint8_t *route)
{
    n->route = n->o.shape.d_small ? route : NULL;
}

void net_on_route(struct net *n,
                  void (*fn)(void *user, uint32_t layer, size_t n_tok, const real *x,
                             uint8_t *route),
                  void *user)
{
    n->on_route = n->o.shape.d_small ? fn : NULL;
    n->route_user = user;
}

void net_choose(struct net *n, uint32_t layer, bool ffn)
{
    if (n->on_route && ffn == !n->o.shape.skip_layer)
        n->on_route(n->route_user, layer, n->rows * n->cols, n->norm, n->chosen);
}

const struct net_shape *net_shape_of(const struct net *n)
{
    return &n->o.shape;
}

void net_on_grad(struct net *n, void (*fn)(void *user, uint64_t from, uint64_t to), void *user)
{
    n->on_grad = fn;
    n->grad_user = user;
}

void net_on_ffn(struct net *n,
                void (*fn)(void *user, uint32_t layer, size_t n_tok, const real *pre,
                           const real *act),
                void *user)
{
    n->on_ffn = fn;
    n->ffn_user = user;
}

void net_on_norm(struct net *n,
                 void (*fn)(void *user, uint32_t layer, bool ffn, size_t n_tok, const real *y),
                 void *user)
{
    n->on_norm = fn;
    n->norm_user = user;
}

void net_on_layer(struct net *n, bool (*go_on)(void *user), void *user)
{
    n->go_on = go_on;
    n->go_on_user = user;
}

/* Where each token's document begins, and the token's place in it. */
static void take_documents(struct net *n, const struct net_batch *b)
{
    for (size_t r = 0; r < n->rows; r++) {
        int32_t start = 0;
        for (size_t t = 0, i = r * n->cols; t < n->cols; t++, i++) {
            if (b->doc && t > 0 && b->doc[i] != b->doc[i - 1]) {
                assert(b->doc[i] > b->doc[i - 1]);
                start = (int32_t)t;
            }
            n->start[i] = start;
            n->place[i] = (int32_t)t - start;
        }
    }
}

void net_take_batch(struct net *n, const struct net_batch *b)
{
    int64_t n_vocab = n->o.shape.n_vocab;
    assert(b->rows <= n->o.batch && b->cols <= n->o.n_tok);
    n->rows = b->rows;
    n->cols = b->cols;
    for (size_t i = 0; i < n->rows * n->cols; i++) {
        assert(b->token[i] >= 0 && b->token[i] < n_vocab);
        assert(!b->target || (b->target[i] >= -1 && b->target[i] < n_vocab));
    }
    take_documents(n, b);
}

static struct ops_embed embed_of(const struct net *n, const struct net_batch *b)
{
    return (struct ops_embed){ n->rows * n->cols, n->o.shape.d_model, b->token, n->place };
}

void net_embed_batch(struct net *n, const struct net_batch *b)
{
    struct ops_embed e = embed_of(n, b);
    bool learned = n->o.shape.pos == NET_LEARNED;
    ops_embed(&n->ops, &e, n->params, learned ? n->params + n->lay.place_embed : NULL, net_x(n, 0));
}

/* All layers: n->norm is what the head multiplies. false: somebody wants it to end. */
static bool forward(struct net *n, const struct net_batch *b)
{
    bool on = true;
    net_embed_batch(n, b);
    for (uint32_t l = 0; l < n->o.shape.n_layer && (on = net_goes_on(n)); l++)
        net_layer(n, l, false);
    net_last_norm(n);
    return on && net_goes_on(n);
}

static struct ops_loss loss_of(const struct net *n, const struct net_batch *b)
{
    return (struct ops_loss){ .n_tok = n->rows * n->cols,
                              .d = n->o.shape.d_model,
                              .n_vocab = n->o.shape.n_vocab,
                              .rows = n->loss_rows,
                              .cols = n->loss_cols,
                              .x = n->norm,
                              .w = n->params + n->lay.head,
                              .target = b->target,
                              .weight = b->weight,
                              .logits = n->logits,
                              .stat = n->loss_stat };
}

void net_eval(struct net *n, const struct net_batch *b, float *each, struct net_loss *ret)
{
    net_take_batch(n, b);
    struct ops_loss l = loss_of(n, b);
    *ret = (struct net_loss){ 0 };
    if (l.n_tok == 0)
        return;
    if (!forward(n, b))
        return;
    l.each = each;
    ops_loss(&n->ops, &l, ret);
}

void net_logits(struct net *n, const struct net_batch *b, real *logits)
{
    net_take_batch(n, b);
    size_t tok = n->rows * n->cols;
    struct ops_linear head = { tok, n->o.shape.d_model, n->o.shape.n_vocab,
                               n->params + n->lay.head };
    if (tok == 0)
        return;
    forward(n, b);
    ops_linear(&n->ops, &head, n->norm, logits, false);
}

static void done(const struct net *n, uint64_t from, uint64_t to)
{
    if (n->on_grad && from < to)
        n->on_grad(n->grad_user, from, to);
}

static void backward(struct net *n, const struct net_batch *b)
{
    const struct net_layout *lay = &n->lay;
    struct ops_embed e = embed_of(n, b);
    bool learned = n->o.shape.pos == NET_LEARNED;
    done(n, lay->head ? lay->head : lay->total, lay->total);
    net_last_norm_back(n);
    done(n, lay->norm, lay->head ? lay->head : lay->total);
    for (uint32_t l = n->o.shape.n_layer; l-- > 0 && net_goes_on(n);) {
        net_layer_back(n, l);
        done(n, lay->layers + l * lay->layer_size, lay->layers + (l + 1) * lay->layer_size);
    }
    if (!net_goes_on(n))
        return;
    ops_embed_back(&n->ops, &e, n->dx, n->grads, learned ? n->grads + lay->place_embed : NULL);
    done(n, 0, lay->layers);
}

void net_loss_grad(struct net *n, const struct net_batch *b, double scale, struct net_loss *ret)
{
    struct ops_loss l = loss_of(n, b);
    l.scale = scale;
    l.dx = n->dnorm;
    l.dw = n->grads + n->lay.head;
    ops_loss(&n->ops, &l, ret);
    memset(n->dx, 0, l.n_tok * l.d * sizeof *n->dx);
}

void net_grad(struct net *n, const struct net_batch *b, double scale, struct net_loss *ret)
{
    assert(n->grads);
    net_take_batch(n, b);
    *ret = (struct net_loss){ 0 };
    if (n->rows * n->cols == 0)
        return;
    n->keeping = true;
    if (forward(n, b)) {
        net_loss_grad(n, b, scale, ret);
        if (net_goes_on(n))
            backward(n, b);
    }
    n->keeping = false;
}
