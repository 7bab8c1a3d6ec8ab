/* engine/train/net_ffn.c - the feed-forward part of a layer, forward and backward. In a Duo network
 * (training.md 1.1) each token takes one of two parts, or none: tokens of one way are gathered, go
 * through its products together, and are scattered back. Where all go one way nothing is gathered,
 * and either way the numbers are those of a network that has that part alone. */
#include "engine/train/net_internal.h"

#include <string.h>

static size_t n_tok(const struct net *n)
{
    return n->rows * n->cols;
}

void net_group(struct net *n, uint32_t layer, struct net_group *g)
{
    size_t tok = n_tok(n), at = 0;
    *g = (struct net_group){ .n = { [NET_BIG] = tok } };
    const uint8_t *route = net_layer_route(n, layer);
    if (!route)
        return;
    for (int r = 0; r < NET_ROUTES; r++) {
        g->from[r] = at;
        for (size_t t = 0; t < tok; t++)
            if (route[t] == r)
                n->index[at++] = (uint32_t)t;
        g->n[r] = at - g->from[r];
    }
}

static struct net_way way_of(const struct net *n, const struct net_group *g, enum net_route r,
                             const struct net_acts *a)
{
    const struct net_shape *s = &n->o.shape;
    bool big = r == NET_BIG;
    size_t before = big ? 0 : g->n[NET_BIG] * s->d_ff;
    return (struct net_way){ .index = g->n[r] == n_tok(n) ? NULL : n->index + g->from[r],
                             .n = g->n[r],
                             .d_ff = big ? s->d_ff : s->d_small,
                             .gate = big ? SLOT_GATE : SLOT_SMALL_GATE,
                             .up = big ? SLOT_UP : SLOT_SMALL_UP,
                             .down = big ? SLOT_DOWN : SLOT_SMALL_DOWN,
                             .pre = a->pre + before,
                             .up_pre = a->up ? a->up + before : NULL };
}

struct pass_act net_way_act(const struct net *n, uint32_t layer, const struct net_way *w)
{
    const struct net_shape *s = &n->o.shape;
    return (struct pass_act){ .kind = s->act,
                              .up_relu = s->up_relu,
                              .shift = (real)s->act_shift,
                              .rows = w->n,
                              .d = w->d_ff,
                              .bias = net_param(n, layer, s->gated ? SLOT_GATE_BIAS : SLOT_UP_BIAS),
                              .up_bias = net_param(n, layer, SLOT_UP_BIAS),
                              .pre = w->pre,
                              .up = w->up_pre,
                              .act = n->act,
                              .dact = n->dact,
                              .dup = n->dup };
}

static struct ops_linear linear(const struct net_way *w, size_t in, size_t out, const real *m)
{
    return (struct ops_linear){ w->n, in, out, m };
}

struct gather {
    const struct net *n;
    const uint32_t *index;
    const real *x, *bias;
    real *y;
    size_t rows, d;
    bool back; /* y[index] = x, else y = x[index] + bias */
};
enum { GATHER_ROWS = 64 };

static void gather_task(void *arg, size_t i, unsigned worker)
{
    const struct gather *g = arg;
    size_t from = i * GATHER_ROWS, end = from + GATHER_ROWS;
    (void)worker;
    for (size_t r = from; r < end && r < g->rows; r++) {
        size_t in = g->back ? r : g->index[r], out = g->back ? g->index[r] : r;
        g->n->ops.pass->copy_bias(g->y + out * g->d, g->x + in * g->d, g->bias, 1, g->d);
    }
}

static void move_rows(struct gather g)
{
    g.d = g.n->o.shape.d_model;
    pool_run(g.n->ops.pool, (g.rows + GATHER_ROWS - 1) / GATHER_ROWS, gather_task, &g);
}

/* The way's rows of x: x itself where all tokens take it. */
static const real *rows_of(const struct net *n, const struct net_way *w, const real *x, real *room)
{
    if (!w->index)
        return x;
    move_rows((struct gather){ .n = n, .index = w->index, .x = x, .y = room, .rows = w->n });
    return room;
}

static void put_rows(const struct net *n, const struct net_way *w, const real *x, real *y)
{
    if (w->index)
        move_rows((struct gather){
            .n = n, .index = w->index, .x = x, .y = y, .rows = w->n, .back = true });
}

/* Arguments of the activation, with their biases. */
void net_way_in(struct net *n, uint32_t layer, const struct net_way *w)
{
    const struct net_shape *s = &n->o.shape;
    const real *x = rows_of(n, w, n->norm, n->gx);
    struct ops_linear l = linear(w, s->d_model, w->d_ff, net_param(n, layer, w->up));
    struct pass_act act = net_way_act(n, layer, w);
    ops_linear(&n->ops, &l, x, s->gated ? w->up_pre : w->pre, false);
    if (s->gated) {
        l.w = net_param(n, layer, w->gate);
        ops_linear(&n->ops, &l, x, w->pre, false);
    }
    ops_act(&n->ops, &act); /* adds biases to pre and up, which backward reads */
}

void net_way_out(struct net *n, uint32_t layer, const struct net_way *w, const real *mid,
                 real *next)
{
    const struct net_shape *s = &n->o.shape;
    const real *bias = net_param(n, layer, SLOT_DOWN_BIAS);
    struct ops_linear down = linear(w, w->d_ff, s->d_model, net_param(n, layer, w->down));
    if (!w->index) {
        ops_linear_onto(&n->ops, &down, n->act, next, mid, bias);
        return;
    }
    move_rows((struct gather){
        .n = n, .index = w->index, .x = mid, .bias = bias, .y = n->gy, .rows = w->n });
    ops_linear(&n->ops, &down, n->act, n->gy, true);
    put_rows(n, w, n->gy, next);
}

static void skipped(const struct net *n, const struct net_group *g, const real *mid, real *next)
{
    size_t d = n->o.shape.d_model;
    for (size_t i = 0; i < g->n[NET_SKIP]; i++) {
        size_t at = n->index[g->from[NET_SKIP] + i] * d;
        memcpy(next + at, mid + at, d * sizeof *next);
    }
}

void net_ffn(struct net *n, uint32_t layer, const struct net_acts *a, real *next, bool again)
{
    struct pass_norm norm = net_layer_norm(n, layer, SLOT_FFN_NORM, SLOT_FFN_NORM_BIAS);
    struct net_group g;
    ops_norm(&n->ops, &norm, a->mid, n->norm, n->stat);
    net_choose(n, layer, true);
    net_group(n, layer, &g);
    if (n->on_norm && !again)
        n->on_norm(n->norm_user, layer, true, n_tok(n), n->norm);
    for (int r = NET_BIG; r <= NET_SMALL; r++) {
        struct net_way w = way_of(n, &g, (enum net_route)r, a);
        if (w.n == 0)
            continue;
        net_way_in(n, layer, &w);
        if (again)
            continue;
        if (n->on_ffn && r == NET_BIG)
            n->on_ffn(n->ffn_user, layer, w.n, w.pre, n->act);
        net_way_out(n, layer, &w, a->mid, next);
    }
    if (!again)
        skipped(n, &g, a->mid, next);
}

/* From n->dx to n->dnorm, rows of one way. */
static void way_back(struct net *n, uint32_t layer, const struct net_way *w)
{
    const struct net_shape *s = &n->o.shape;
    size_t d = s->d_model;
    const real *dy = rows_of(n, w, n->dx, n->gy), *x = rows_of(n, w, n->norm, n->gx);
    real *dx = w->index ? n->gz : n->dnorm;
    struct ops_linear down = linear(w, w->d_ff, d, net_param(n, layer, w->down));
    struct ops_linear up = linear(w, d, w->d_ff, net_param(n, layer, w->up));
    struct ops_linear gate = linear(w, d, w->d_ff, net_param(n, layer, w->gate));
    struct pass_act act = net_way_act(n, layer, w);
    const real *dup = s->gated ? n->dup : n->dact;
    ops_linear_dx(&n->ops, &down, dy, n->dact, false);
    ops_act_back(&n->ops, &act);
    ops_linear_dw(&n->ops, &down, dy, n->act, net_grad_of(n, layer, w->down));
    ops_columns(&n->ops, dy, w->n, d, net_grad_of(n, layer, SLOT_DOWN_BIAS));
    ops_linear_dw(&n->ops, &up, dup, x, net_grad_of(n, layer, w->up));
    ops_columns(&n->ops, dup, w->n, w->d_ff, net_grad_of(n, layer, SLOT_UP_BIAS));
    ops_linear_dx(&n->ops, &up, dup, dx, false);
    if (s->gated) {
        ops_linear_dw(&n->ops, &gate, n->dact, x, net_grad_of(n, layer, w->gate));
        ops_columns(&n->ops, n->dact, w->n, w->d_ff, net_grad_of(n, layer, SLOT_GATE_BIAS));
        ops_linear_dx(&n->ops, &gate, n->dact, dx, true);
    }
    put_rows(n, w, dx, n->dnorm);
}

void net_ffn_back(struct net *n, uint32_t layer, const struct net_acts *a)
{
    struct pass_norm norm = net_layer_norm(n, layer, SLOT_FFN_NORM, SLOT_FFN_NORM_BIAS);
    struct net_group g;
    size_t d = n->o.shape.d_model;
    net_group(n, layer, &g);
    ops_norm(&n->ops, &norm, a->mid, n->norm, n->stat);
    for (int r = NET_BIG; r <= NET_SMALL; r++) {
        struct net_way w = way_of(n, &g, (enum net_route)r, a);
        if (w.n > 0)
            way_back(n, layer, &w);
    }
    for (size_t i = 0; i < g.n[NET_SKIP]; i++)
        memset(n->dnorm + n->index[g.from[NET_SKIP] + i] * d, 0, d * sizeof *n->dnorm);
    net_norm_back(n, &norm, a->mid, net_grad_of(n, layer, SLOT_FFN_NORM),
                  net_grad_of(n, layer, SLOT_FFN_NORM_BIAS));
}
