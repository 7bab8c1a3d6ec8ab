/* engine/train/net_soft.c - see net_soft.h. y_c is what part c adds to the residual stream; skip
 * adds nothing. Forward: next = mid + sum of P_c y_c. Backward, with g the derivative by next:
 * dP_c = g . y_c, dy_c = P_c g, and through the softmax dh_c = tau P_c (dP_c - sum of P dP). Where
 * skipping leaves out the whole layer, x its input and a = mid - x what attention adds: big and
 * small add a too, so next = x + (1 - P_skip) a + sum of P_c y_c, and the router reads x. */
#include "engine/train/net_soft.h"

#include "engine/base/num.h"
#include "engine/train/net_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the router alone ---- */

static size_t router_in(const struct net_shape *s, uint32_t n_hidden)
{
    return n_hidden ? n_hidden : s->d_model;
}

uint64_t net_router_n(const struct net_shape *s, uint32_t n_choice, uint32_t n_hidden)
{
    uint64_t in = router_in(s, n_hidden);
    return s->n_layer * ((uint64_t)n_hidden * (s->d_model + 1) + n_choice * (in + 1));
}

void net_router_lay_out(const struct net_shape *s, real *p, struct net_router *r)
{
    size_t n = s->n_layer, hidden = r->n_hidden;
    r->in = hidden ? p : NULL;
    r->in_bias = hidden ? p + n * hidden * s->d_model : NULL;
    r->w = p + n * hidden * (s->d_model + (size_t)1);
    r->bias = r->w + n * r->n_choice * router_in(s, r->n_hidden);
}

static void rows_times(const real *x, size_t n, size_t n_in, const real *w, const real *bias,
                       size_t n_out, real *y)
{
    for (size_t t = 0; t < n; t++)
        for (size_t o = 0; o < n_out; o++) {
            real sum = bias[o];
            for (size_t i = 0; i < n_in; i++)
                sum += w[o * n_in + i] * x[t * n_in + i];
            y[t * n_out + o] = sum;
        }
}

void net_router_logits(const struct net_shape *s, const struct net_router *r, uint32_t layer,
                       size_t n_tok, const real *x, real *hidden, real *h)
{
    size_t d = s->d_model, in = router_in(s, r->n_hidden);
    if (r->n_hidden) {
        rows_times(x, n_tok, d, r->in + (size_t)layer * r->n_hidden * d,
                   r->in_bias + (size_t)layer * r->n_hidden, r->n_hidden, hidden);
        for (size_t i = 0; i < n_tok * r->n_hidden; i++)
            hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
        x = hidden;
    }
    rows_times(x, n_tok, in, r->w + (size_t)layer * r->n_choice * in,
               r->bias + (size_t)layer * r->n_choice, r->n_choice, h);
}

/* dw += dy^T x, db += dy, dx += dy w */
static void linear_back(const real *x, const real *dy, size_t n_in, size_t n_out, const real *w,
                        real *dw, real *db, real *dx)
{
    for (size_t o = 0; o < n_out; o++) {
        real g = dy[o];
        db[o] += g;
        for (size_t i = 0; i < n_in; i++)
            dw[o * n_in + i] += g * x[i];
        for (size_t i = 0; dx && i < n_in; i++)
            dx[i] += g * w[o * n_in + i];
    }
}

void net_router_back(const struct net_shape *s, const struct net_router *r, uint32_t layer,
                     const struct net_router_back *b, struct net_router *d)
{
    enum { HIDDEN_MAX = 1024 };
    size_t dm = s->d_model, hid = r->n_hidden, in = router_in(s, r->n_hidden), c = r->n_choice;
    size_t w = layer * c * in, wb = layer * c, wi = layer * hid * dm, wib = layer * hid;
    real dhid[HIDDEN_MAX];
    assert(hid <= HIDDEN_MAX);
    for (size_t t = 0; t < b->n_tok; t++) {
        const real *dh = b->dh + t * c, *x = b->x + t * dm;
        real *dx = b->dx ? b->dx + t * dm : NULL;
        if (!hid) {
            linear_back(x, dh, dm, c, r->w + w, d->w + w, d->bias + wb, dx);
            continue;
        }
        const real *h = b->hidden + t * hid;
        memset(dhid, 0, hid * sizeof *dhid);
        linear_back(h, dh, hid, c, r->w + w, d->w + w, d->bias + wb, dhid);
        for (size_t i = 0; i < hid; i++)
            dhid[i] = h[i] > 0 ? dhid[i] : 0;
        linear_back(x, dhid, dm, hid, r->in + wi, d->in + wi, d->in_bias + wib, dx);
    }
}

/* ---- the mixture ---- */

struct net_soft {
    size_t tok, n_layer, n_choice, n_hidden, d, d_small;
    real *y[2];        /* [n_layer, tok, d]: big, small */
    real *pre, *up;    /* [n_layer, tok, d_small] of the small part */
    real *p, *q;       /* [n_layer, tok, n_choice]: probabilities, and what weighs */
    real *hidden;      /* [n_layer, tok, n_hidden] */
    real *dh;          /* [tok, n_choice] */
    double *share;     /* [rows] mean P_big of a sequence */
    real *g, *drouter; /* [tok, d] skip_layer: what reaches a layer's end; a router's share of it */
    void *block;
};

enum status net_soft_create(struct net *n, uint32_t n_choice, uint32_t n_hidden,
                            struct net_soft **ret, struct err *err)
{
    const struct net_shape *sh = &n->o.shape;
    size_t tok = (size_t)n->o.batch * n->o.n_tok, l = sh->n_layer;
    assert(!n->o.infer && !n->o.recompute && n->o.keep == NET_KEEP_REAL);
    if (!sh->d_small)
        return err_set(err, ST_UNSUPPORTED, "a router needs a Duo network");
    struct net_soft *s = calloc(1, sizeof *s);
    size_t each =
        2 * (size_t)sh->d_model + 2 * (size_t)sh->d_small + 2 * (size_t)n_choice + n_hidden;
    size_t wide = sh->skip_layer ? 2 * (size_t)sh->d_model : 0;
    size_t count = tok * (l * each + n_choice + wide), bytes;
    if (s && num_mul(count, sizeof(real), &bytes))
        s->block = calloc(1, bytes);
    if (s)
        s->share = calloc(n->o.batch, sizeof *s->share);
    if (!s || !s->block || !s->share) {
        net_soft_free(s);
        return err_set(err, ST_NOMEM, "activations of the soft mixture");
    }
    s->tok = tok, s->n_layer = l, s->n_choice = n_choice, s->n_hidden = n_hidden;
    s->d = sh->d_model, s->d_small = sh->d_small;
    s->y[0] = s->block;
    s->y[1] = s->y[0] + l * tok * s->d;
    s->pre = s->y[1] + l * tok * s->d;
    s->up = s->pre + l * tok * s->d_small;
    s->p = s->up + l * tok * s->d_small;
    s->q = s->p + l * tok * n_choice;
    s->hidden = s->q + l * tok * n_choice;
    s->dh = s->hidden + l * tok * n_hidden;
    s->g = s->dh + tok * n_choice;
    s->drouter = s->g + (sh->skip_layer ? tok * s->d : 0);
    *ret = s;
    return ST_OK;
}

void net_soft_free(struct net_soft *s)
{
    if (!s)
        return;
    free(s->block);
    free(s->share);
    free(s);
}

static struct net_way way_of(const struct net *n, const struct net_soft *s, uint32_t layer,
                             enum net_route r)
{
    struct net_acts a = net_acts_of(n, layer);
    size_t at = layer * s->tok * s->d_small;
    if (r == NET_BIG)
        return (struct net_way){ NULL,    n->rows * n->cols, n->o.shape.d_ff, SLOT_GATE,
                                 SLOT_UP, SLOT_DOWN,         a.pre,           a.up };
    return (struct net_way){ NULL,          n->rows * n->cols, s->d_small,  SLOT_SMALL_GATE,
                             SLOT_SMALL_UP, SLOT_SMALL_DOWN,   s->pre + at, s->up + at };
}

static void probabilities(const real *h, size_t c, double tau, bool straight, real *p, real *q)
{
    double max = (double)h[0], sum = 0;
    size_t best = 0;
    for (size_t i = 1; i < c; i++)
        if ((double)h[i] > max) {
            max = (double)h[i];
            best = i;
        }
    for (size_t i = 0; i < c; i++)
        sum += exp(tau * ((double)h[i] - max));
    for (size_t i = 0; i < c; i++) {
        p[i] = (real)(exp(tau * ((double)h[i] - max)) / sum);
        q[i] = straight ? (real)(i == best) : p[i];
    }
}

/* Probabilities of a layer, from what the router reads at n->norm. */
static void ask(const struct net *n, struct net_soft *s, uint32_t layer,
                const struct net_soft_opts *o)
{
    size_t tok = n->rows * n->cols, c = s->n_choice, at = layer * s->tok * c;
    net_router_logits(&n->o.shape, o->router, layer, tok, n->norm,
                      s->hidden + layer * s->tok * s->n_hidden, s->dh);
    for (size_t t = 0; t < tok; t++)
        probabilities(s->dh + t * c, c, o->tau, o->straight, s->p + at + t * c, s->q + at + t * c);
}

/* Share of what attention adds: 1, but for those who skip a whole layer. */
static real stays(const struct net *n, const real *q, size_t c)
{
    return n->o.shape.skip_layer && c > 2 ? 1 - q[NET_SKIP] : 1;
}

static void soft_layer(struct net *n, struct net_soft *s, uint32_t layer,
                       const struct net_soft_opts *o)
{
    struct net_acts a = net_acts_of(n, layer);
    size_t tok = n->rows * n->cols, d = s->d, c = s->n_choice;
    struct pass_norm norm = net_layer_norm(n, layer, SLOT_FFN_NORM, SLOT_FFN_NORM_BIAS);
    struct pass_norm first = net_layer_norm(n, layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    const real *q = s->q + layer * s->tok * c;
    if (n->o.shape.skip_layer) {
        ops_norm(&n->ops, &first, a.x, n->norm, n->stat);
        ask(n, s, layer, o);
    }
    net_attention(n, layer, &a, false);
    ops_norm(&n->ops, &norm, a.mid, n->norm, n->stat);
    if (!n->o.shape.skip_layer)
        ask(n, s, layer, o);
    for (int r = 0; r < 2; r++) {
        struct net_way w = way_of(n, s, layer, (enum net_route)r);
        struct ops_linear down = { tok, w.d_ff, d, net_param(n, layer, w.down) };
        net_way_in(n, layer, &w);
        ops_linear(&n->ops, &down, n->act, s->y[r] + layer * s->tok * d, false);
    }
    const real *yb = s->y[0] + layer * s->tok * d, *ys = s->y[1] + layer * s->tok * d;
    real *next = net_x(n, layer + 1);
    for (size_t t = 0; t < tok; t++, q += c) {
        real out = 1 - stays(n, q, c);
        for (size_t i = t * d; i < (t + 1) * d; i++)
            next[i] = a.mid[i] - out * (a.mid[i] - a.x[i]) + q[0] * yb[i] + q[1] * ys[i];
    }
}

/* dy of one part through its products: n->dnorm += */
static void part_back(struct net *n, struct net_soft *s, uint32_t layer, enum net_route r)
{
    size_t tok = n->rows * n->cols, d = s->d, c = s->n_choice;
    const real *q = s->q + layer * s->tok * c;
    struct net_way w = way_of(n, s, layer, r);
    struct ops_linear down = { tok, w.d_ff, d, net_param(n, layer, w.down) };
    struct ops_linear up = { tok, d, w.d_ff, net_param(n, layer, w.up) };
    struct ops_linear gate = { tok, d, w.d_ff, net_param(n, layer, w.gate) };
    struct pass_act act = net_way_act(n, layer, &w);
    bool gated = n->o.shape.gated;
    for (size_t t = 0; t < tok; t++)
        for (size_t i = t * d; i < (t + 1) * d; i++)
            n->gy[i] = q[t * c + r] * (n->dx[i] + (n->o.shape.skip_layer ? s->g[i] : 0));
    ops_linear_dx(&n->ops, &down, n->gy, n->dact, false);
    ops_act_back(&n->ops, &act);
    ops_linear_dx(&n->ops, &up, gated ? n->dup : n->dact, n->dnorm, true);
    if (gated)
        ops_linear_dx(&n->ops, &gate, n->dact, n->dnorm, true);
}

static void choice_back(const struct net *n, struct net_soft *s, uint32_t layer,
                        const struct net_soft_opts *o)
{
    size_t tok = n->rows * n->cols, d = s->d, c = s->n_choice, rows = n->rows;
    const real *p = s->p + layer * s->tok * c;
    struct net_acts a = net_acts_of(n, layer);
    bool whole = n->o.shape.skip_layer && c > 2;
    for (size_t t = 0; t < tok; t++) {
        const real *g = n->dx + t * d, *pt = p + t * c;
        double dp[NET_ROUTES] = { 0 }, mean = 0, attended = 0;
        if (whole)
            attended = (double)n->ops.pass->dot(g, a.mid + t * d, d) -
                       (double)n->ops.pass->dot(g, a.x + t * d, d);
        for (size_t r = 0; r < 2; r++)
            dp[r] = attended + (double)n->ops.pass->dot(g, s->y[r] + (layer * s->tok + t) * d, d);
        dp[0] += 2 * o->alpha * (s->share[t / n->cols] - o->budget) /
                 ((double)s->n_layer * (double)n->cols * (double)rows);
        for (size_t r = 0; r < c; r++)
            mean += (double)pt[r] * dp[r];
        for (size_t r = 0; r < c; r++)
            s->dh[t * c + r] = (real)(o->tau * (double)pt[r] * (dp[r] - mean));
    }
}

/* What reaches a layer's middle: nothing of it by the share that skipped; that lies in g. */
static void cut_skipped(struct net *n, struct net_soft *s, uint32_t layer)
{
    size_t tok = n->rows * n->cols, d = s->d, c = s->n_choice;
    const real *q = s->q + layer * s->tok * c;
    memcpy(s->g, n->dx, tok * d * sizeof *s->g);
    for (size_t t = 0; t < tok; t++, q += c) {
        real keep = stays(n, q, c);
        for (size_t i = t * d; i < (t + 1) * d; i++) {
            n->dx[i] *= keep;
            s->g[i] -= n->dx[i];
        }
    }
}

/* The rest of a layer that may be skipped whole: the router reads attention's input. */
static void whole_back(struct net *n, struct net_soft *s, uint32_t layer)
{
    struct net_acts a = net_acts_of(n, layer);
    size_t tok = n->rows * n->cols, d = s->d;
    struct pass_norm first = net_layer_norm(n, layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    net_attention_back(n, layer, &a); /* leaves the norm's statistics of a.x */
    memcpy(n->dnorm, s->drouter, tok * d * sizeof *n->dnorm);
    net_norm_back(n, &first, a.x, net_grad_of(n, layer, SLOT_ATTN_NORM),
                  net_grad_of(n, layer, SLOT_ATTN_NORM_BIAS));
    for (size_t i = 0; i < tok * d; i++)
        n->dx[i] += s->g[i];
}

static void router_back(struct net *n, struct net_soft *s, uint32_t layer,
                        const struct net_soft_opts *o, real *dx)
{
    struct net_router_back b = { .x = n->norm,
                                 .hidden = s->hidden + layer * s->tok * s->n_hidden,
                                 .dh = s->dh,
                                 .dx = dx,
                                 .n_tok = n->rows * n->cols };
    choice_back(n, s, layer, o);
    net_router_back(&n->o.shape, o->router, layer, &b, o->grad);
}

static void soft_layer_back(struct net *n, struct net_soft *s, uint32_t layer,
                            const struct net_soft_opts *o)
{
    struct net_acts a = net_acts_of(n, layer);
    size_t bytes = n->rows * n->cols * s->d * sizeof *n->dnorm;
    struct pass_norm norm = net_layer_norm(n, layer, SLOT_FFN_NORM, SLOT_FFN_NORM_BIAS);
    struct pass_norm first = net_layer_norm(n, layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    bool whole = n->o.shape.skip_layer;
    memset(n->dnorm, 0, bytes);
    if (whole) {
        memset(s->drouter, 0, bytes);
        ops_norm(&n->ops, &first, a.x, n->norm, n->stat);
        router_back(n, s, layer, o, s->drouter);
        cut_skipped(n, s, layer);
    }
    ops_norm(&n->ops, &norm, a.mid, n->norm, n->stat);
    if (!whole)
        router_back(n, s, layer, o, n->dnorm);
    part_back(n, s, layer, NET_BIG);
    part_back(n, s, layer, NET_SMALL);
    net_norm_back(n, &norm, a.mid, net_grad_of(n, layer, SLOT_FFN_NORM),
                  net_grad_of(n, layer, SLOT_FFN_NORM_BIAS));
    if (whole)
        whole_back(n, s, layer);
    else
        net_attention_back(n, layer, &a);
}

/* Sums over layers and tokens; the shares of sequences. */
static void count(const struct net *n, struct net_soft *s, const struct net_soft_opts *o,
                  struct net_soft_loss *ret)
{
    size_t tok = n->rows * n->cols, c = s->n_choice;
    double all = (double)tok * (double)s->n_layer;
    memset(s->share, 0, n->rows * sizeof *s->share);
    for (size_t l = 0; l < s->n_layer; l++)
        for (size_t t = 0; t < tok; t++) {
            const real *p = s->p + (l * s->tok + t) * c;
            bool hard = p[0] >= p[1] && (c < 3 || p[0] >= p[2]);
            s->share[t / n->cols] += (double)p[0] / ((double)s->n_layer * (double)n->cols);
            ret->soft += (double)p[0] / all;
            ret->hard += hard / all;
            for (size_t r = 0; r < c; r++)
                ret->entropy -= p[r] > 0 ? (double)p[r] * log((double)p[r]) / all : 0;
        }
    for (size_t r = 0; r < n->rows; r++) {
        double off = s->share[r] - o->budget;
        ret->budget += o->alpha * off * off / (double)n->rows;
    }
}

void net_soft_grad(struct net *n, struct net_soft *s, const struct net_batch *b,
                   const struct net_soft_opts *o, struct net_soft_loss *ret)
{
    struct net_loss loss = { 0 };
    double weight = 0;
    *ret = (struct net_soft_loss){ 0 };
    net_set_route(n, NULL);
    net_take_batch(n, b);
    for (size_t i = 0; i < n->rows * n->cols; i++)
        weight += b->target[i] < 0 ? 0 : b->weight ? (double)b->weight[i] : 1;
    net_embed_batch(n, b);
    for (uint32_t l = 0; l < s->n_layer; l++) {
        if (!net_goes_on(n))
            return;
        soft_layer(n, s, l, o);
    }
    net_last_norm(n);
    count(n, s, o, ret);
    net_loss_grad(n, b, weight > 0 ? 1 / weight : 0, &loss);
    net_last_norm_back(n);
    for (uint32_t l = (uint32_t)s->n_layer; l-- > 0;) {
        if (!net_goes_on(n))
            return;
        soft_layer_back(n, s, l, o);
    }
    ret->nll = loss.nll;
    ret->weight = loss.weight;
}
