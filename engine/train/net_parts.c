/* engine/train/net_parts.c - see net_parts.h. */
#include "engine/train/net_parts.h"

#include "engine/train/net_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void net_parts_begin(struct net *n, const struct net_batch *b)
{
    n->part_batch = *b;
    net_take_batch(n, b);
}

void net_part_embed(struct net *n, real *x)
{
    struct ops_embed e = { n->rows * n->cols, n->o.shape.d_model, n->part_batch.token, n->place };
    bool learned = n->o.shape.pos == NET_LEARNED;
    ops_embed(&n->ops, &e, n->params, learned ? n->params + n->lay.place_embed : NULL, x);
}

void net_part_attention(struct net *n, uint32_t layer, const real *x, real *mid)
{
    struct net_acts a = net_acts_of(n, layer);
    a.x = (real *)(uintptr_t)x; /* read only there */
    a.mid = mid;
    net_attention(n, layer, &a, true);
}

void net_part_ffn(struct net *n, uint32_t layer, enum net_route r, const real *mid, real *out)
{
    struct pass_norm norm = net_layer_norm(n, layer, SLOT_FFN_NORM, SLOT_FFN_NORM_BIAS);
    struct net_acts a = net_acts_of(n, layer);
    bool big = r == NET_BIG;
    struct net_way w = { .n = n->rows * n->cols,
                         .d_ff = big ? n->o.shape.d_ff : n->o.shape.d_small,
                         .gate = big ? SLOT_GATE : SLOT_SMALL_GATE,
                         .up = big ? SLOT_UP : SLOT_SMALL_UP,
                         .down = big ? SLOT_DOWN : SLOT_SMALL_DOWN,
                         .pre = a.pre,
                         .up_pre = a.up };
    assert(r != NET_SKIP && mid != out);
    ops_norm(&n->ops, &norm, mid, n->norm, n->stat);
    net_way_in(n, layer, &w);
    net_way_out(n, layer, &w, mid, out);
}

void net_part_head(struct net *n, const real *x, real *logits)
{
    struct ops_linear head = { n->rows * n->cols, n->o.shape.d_model, n->o.shape.n_vocab,
                               n->params + n->lay.head };
    net_norm_of(n, x);
    ops_linear(&n->ops, &head, n->norm, logits, false);
}

/* ---- one token at a time ---- */

void net_step_rows(struct net *n, size_t n_row)
{
    assert(n_row <= (size_t)n->o.batch * n->o.n_tok);
    n->rows = n_row;
    n->cols = 1;
}

void net_step_embed(struct net *n, const int32_t *token, size_t n_row, real *x)
{
    struct ops_embed e = { n_row, n->o.shape.d_model, token, NULL };
    ops_embed(&n->ops, &e, n->params, NULL, x);
}

struct step_job {
    struct net *n;
    const struct net_step *s;
    const real *qkv;
    real *out;
};

static real head_dot(const struct net *n, const real *q, const real *k, size_t d)
{
    return n->ops.pass->dot(q, k, d);
}

/* One head of one row: softmax over the cache's keys and the row's own. */
static void step_head(const struct step_job *j, size_t row, size_t h)
{
    const struct net_shape *sh = &j->n->o.shape;
    const struct net_step *s = j->s;
    size_t d = sh->d_head, kvw = (size_t)sh->n_kv_head * d, g = h / (sh->n_head / sh->n_kv_head);
    const real *q = j->qkv + row * ((sh->n_head + 2 * (size_t)sh->n_kv_head) * d) + h * d;
    const real *cache = s->cache + s->seq[row] * s->n_ctx * 2 * kvw;
    const real *own = s->kv + row * 2 * kvw;
    real *p = s->scratch, *out = j->out + (row * sh->n_head + h) * d, max = 0;
    real scale = (real)(1 / sqrt((double)d));
    double sum = 0;
    for (uint32_t t = 0; t <= s->at; t++) {
        const real *k = (t < s->at ? cache + t * 2 * kvw : own) + g * d;
        p[t] = scale * head_dot(j->n, q, k, d);
        max = t == 0 || p[t] > max ? p[t] : max;
    }
    sum = j->n->ops.pass->exp_sum(p, s->at + 1, max, true);
    memset(out, 0, d * sizeof *out);
    for (uint32_t t = 0; t <= s->at; t++) {
        const real *v = (t < s->at ? cache + t * 2 * kvw : own) + kvw + g * d;
        real w = (real)((double)p[t] / sum);
        for (size_t i = 0; i < d; i++)
            out[i] += w * v[i];
    }
}

void net_step_attention(struct net *n, const struct net_step *s)
{
    const struct net_shape *sh = &n->o.shape;
    struct net_acts a = net_acts_of(n, s->layer);
    size_t d = sh->d_head, kvw = (size_t)sh->n_kv_head * d, q = (size_t)sh->n_head * d;
    size_t width = q + 2 * kvw;
    struct pass_norm norm = net_layer_norm(n, s->layer, SLOT_ATTN_NORM, SLOT_ATTN_NORM_BIAS);
    struct ops_linear in = { s->n_row, sh->d_model, width, net_param(n, s->layer, SLOT_Q) };
    struct ops_linear out = { s->n_row, q, sh->d_model, net_param(n, s->layer, SLOT_ATTN_OUT) };
    struct step_job j = { n, s, a.qkv, a.attn };
    assert(sh->pos == NET_ROPE);
    for (size_t i = 0; i < s->n_row; i++)
        n->place[i] = (int32_t)s->at;
    ops_norm(&n->ops, &norm, s->x, n->norm, n->stat);
    ops_linear(&n->ops, &in, n->norm, a.qkv, false);
    net_rope(n, s->layer, a.qkv);
    for (size_t i = 0; i < s->n_row; i++)
        memcpy(s->kv + i * 2 * kvw, a.qkv + i * width + q, 2 * kvw * sizeof *s->kv);
    for (size_t i = 0; i < s->n_row; i++)
        for (size_t h = 0; h < sh->n_head; h++)
            step_head(&j, i, h);
    ops_linear_onto(&n->ops, &out, a.attn, s->mid, s->x,
                    net_param(n, s->layer, SLOT_ATTN_OUT_BIAS));
}
