/* engine/train/ops_attn.c - attention tile by tile with an online softmax: scores exist only for
 * one tile and thread. A task is a sequence and a head of keys (with all queries that read it): it
 * owns its slices of every array, so the order of each sum is fixed.
 *
 * Forward: 64 queries against 256 keys at a time, up to the diagonal. Backward: 64 keys against 256
 * queries at a time, from the diagonal on; probabilities come from scores and the kept logarithm of
 * their sum. Half of the one 64 x 64 square on the diagonal is all that is computed for nothing. */
#include "engine/train/ops_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { TILE_NARROW = 64, TILE_WIDE = 256 };

size_t ops_attn_scratch(const struct ops_attn *a)
{
    return a->kind == NET_ATTN_NAIVE ? a->cols * a->cols : ops_attn_tiled_scratch(a);
}

size_t ops_attn_kept(const struct ops_attn *a)
{
    size_t n = a->rows * a->n_head * a->cols;
    return a->kind == NET_ATTN_NAIVE ? n * a->cols : n;
}

void ops_attn(const struct ops *o, const struct ops_attn *a, const real *qkv, real *out, real *kept)
{
    if (a->kind == NET_ATTN_NAIVE)
        ops_attn_naive(o, a, qkv, out, kept);
    else
        ops_attn_tiled(o, a, qkv, out, kept);
}

void ops_attn_back(const struct ops *o, const struct ops_attn *a, const struct ops_attn_back *b)
{
    if (a->kind == NET_ATTN_NAIVE)
        ops_attn_naive_back(o, a, b);
    else
        ops_attn_tiled_back(o, a, b);
}

/* Two tiles (scores, their derivatives) and one number a query. */
size_t ops_attn_tiled_scratch(const struct ops_attn *a)
{
    return 2 * TILE_NARROW * TILE_WIDE + a->cols;
}

struct attn_job {
    const struct ops *o;
    const struct ops_attn *a;
    const struct ops_attn_back *b;
    const real *qkv;
    real *out, *kept;
};

/* One head of one sequence: where its parts begin. */
struct head {
    const struct ops *o;
    const struct ops_attn *a;
    const real *q, *k, *v, *out, *dout;
    real *dq, *dk, *dv, *kept, *s, *dp, *sub;
    const int32_t *start;
    size_t ld, ld_out; /* from token to token */
    real scale;
};

static struct head head_at(const struct attn_job *j, size_t seq, size_t h, unsigned worker)
{
    const struct ops_attn *a = j->a;
    size_t ld = (a->n_head + 2 * a->n_kv) * a->d_head, ld_out = a->n_head * a->d_head;
    size_t kv = h / (a->n_head / a->n_kv), first = seq * a->cols;
    size_t q = first * ld + h * a->d_head, k = first * ld + (a->n_head + kv) * a->d_head;
    size_t v = k + a->n_kv * a->d_head, out = first * ld_out + h * a->d_head;
    const real *qkv = j->b ? j->b->qkv : j->qkv;
    struct head x = { .o = j->o, .a = a, .ld = ld, .ld_out = ld_out, .start = a->start + first };
    x.q = qkv + q;
    x.k = qkv + k;
    x.v = qkv + v;
    x.scale = (real)(1 / sqrt((double)a->d_head));
    x.s = a->scratch + worker * ops_attn_scratch(a);
    x.dp = x.s + TILE_NARROW * TILE_WIDE;
    x.sub = x.dp + TILE_NARROW * TILE_WIDE;
    if (j->b) {
        x.out = j->b->out + out;
        x.dout = j->b->dout + out;
        x.dq = j->b->dqkv + q;
        x.dk = j->b->dqkv + k;
        x.dv = j->b->dqkv + v;
    }
    return x;
}

/* s [nq, nk] = scale * q k^T */
static void scores(const struct head *x, const struct pass_tile *t)
{
    ops_product(x->o,
                (struct ops_result){ x->s, t->ld, t->rows, t->n_key, (double)x->scale, false },
                (struct ops_factor){ x->q + t->q0 * x->ld, x->ld, false },
                (struct ops_factor){ x->k + t->k0 * x->ld, x->ld, true }, x->a->d_head);
}

static struct pass_tile tile_of(const struct head *x, size_t q0, size_t nq, size_t k0, size_t nk)
{
    return (struct pass_tile){ .rows = nq,
                               .q0 = q0,
                               .k0 = k0,
                               .n_key = nk,
                               .start = x->start + q0,
                               .ld = nk,
                               .d_head = x->a->d_head,
                               .ld_out = x->ld_out,
                               .scale = x->scale };
}

static void forward_rows(const struct head *x, size_t q0, size_t nq, real *out, real *lse)
{
    real max[TILE_NARROW], sum[TILE_NARROW];
    size_t d = x->a->d_head, end = q0 + nq;
    for (size_t r = 0; r < nq; r++) {
        max[r] = -(real)INFINITY;
        sum[r] = 0;
        memset(out + r * x->ld_out, 0, d * sizeof *out);
    }
    /* Rows are in order, so are their documents: the first row's begins first. */
    for (size_t k0 = (size_t)x->start[q0]; k0 < end; k0 += TILE_WIDE) {
        size_t nk = ops_left(end, k0, TILE_WIDE);
        struct pass_tile t = tile_of(x, q0, nq, k0, nk);
        scores(x, &t);
        x->o->pass->tile(&t, x->s, max, sum, out);
        ops_product(x->o, (struct ops_result){ out, x->ld_out, nq, d, 1, true },
                    (struct ops_factor){ x->s, nk, false },
                    (struct ops_factor){ x->v + k0 * x->ld, x->ld, false }, nk);
    }
    for (size_t r = 0; r < nq; r++) {
        x->o->pass->scale(out + r * x->ld_out, 1 / sum[r], d);
        lse[r] = (real)((double)max[r] + log((double)sum[r]));
    }
}

static void forward_task(void *arg, size_t i, unsigned worker)
{
    const struct attn_job *j = arg;
    const struct ops_attn *a = j->a;
    size_t seq = i / a->n_head, h = i % a->n_head;
    struct head x = head_at(j, seq, h, worker);
    real *out = j->out + seq * a->cols * x.ld_out + h * a->d_head;
    real *lse = j->kept + i * a->cols;
    for (size_t q0 = 0; q0 < a->cols; q0 += TILE_NARROW)
        forward_rows(&x, q0, ops_left(a->cols, q0, TILE_NARROW), out + q0 * x.ld_out, lse + q0);
}

void ops_attn_tiled(const struct ops *o, const struct ops_attn *a, const real *qkv, real *out,
                    real *kept)
{
    struct attn_job j = { .o = o, .a = a, .qkv = qkv, .out = out, .kept = kept };
    pool_run(o->pool, a->rows * a->n_head, forward_task, &j);
}

static void backward_tile(const struct head *x, const real *lse, const struct pass_tile *t)
{
    size_t d = x->a->d_head, q = t->q0 * x->ld, k = t->k0 * x->ld;
    struct ops_factor dout = { x->dout + t->q0 * x->ld_out, x->ld_out, false };
    struct ops_factor p = { x->s, t->ld, true }, ds = { x->dp, t->ld, true };
    scores(x, t);
    /* d/dp = dout v^T */
    ops_product(x->o, (struct ops_result){ x->dp, t->ld, t->rows, t->n_key, 1, false }, dout,
                (struct ops_factor){ x->v + k, x->ld, true }, d);
    x->o->pass->tile_back(t, x->s, x->dp, lse + t->q0, x->sub + t->q0);
    /* dv += p^T dout, dk += ds^T q, dq += ds k */
    ops_product(x->o, (struct ops_result){ x->dv + k, x->ld, t->n_key, d, 1, true }, p, dout,
                t->rows);
    ops_product(x->o, (struct ops_result){ x->dk + k, x->ld, t->n_key, d, 1, true }, ds,
                (struct ops_factor){ x->q + q, x->ld, false }, t->rows);
    ds.t = false;
    ops_product(x->o, (struct ops_result){ x->dq + q, x->ld, t->rows, d, 1, true }, ds,
                (struct ops_factor){ x->k + k, x->ld, false }, t->n_key);
}

/* One head of queries: adds to dk and dv, which all heads of a group share. */
static void backward_head(const struct head *x, const real *lse)
{
    const struct ops_attn *a = x->a;
    for (size_t t = 0; t < a->cols; t++) {
        x->sub[t] = x->o->pass->dot(x->out + t * x->ld_out, x->dout + t * x->ld_out, a->d_head);
        memset(x->dq + t * x->ld, 0, a->d_head * sizeof *x->dq);
    }
    for (size_t k0 = 0; k0 < a->cols; k0 += TILE_NARROW) {
        size_t nk = ops_left(a->cols, k0, TILE_NARROW);
        for (size_t q0 = k0; q0 < a->cols; q0 += TILE_WIDE) {
            if ((size_t)x->start[q0] >= k0 + nk)
                break; /* this and all later queries belong to later documents */
            struct pass_tile tile = tile_of(x, q0, ops_left(a->cols, q0, TILE_WIDE), k0, nk);
            backward_tile(x, lse, &tile);
        }
    }
}

static void backward_task(void *arg, size_t i, unsigned worker)
{
    const struct attn_job *j = arg;
    const struct ops_attn *a = j->a;
    assert(j->b); /* dq, dk and dv are there */
    size_t seq = i / a->n_kv, kv = i % a->n_kv, group = a->n_head / a->n_kv;
    for (size_t h = kv * group; h < (kv + 1) * group; h++) {
        struct head x = head_at(j, seq, h, worker);
        for (size_t t = 0; h == kv * group && t < a->cols; t++) {
            memset(x.dk + t * x.ld, 0, a->d_head * sizeof *x.dk);
            memset(x.dv + t * x.ld, 0, a->d_head * sizeof *x.dv);
        }
        backward_head(&x, j->b->kept + (seq * a->n_head + h) * a->cols);
    }
}

void ops_attn_tiled_back(const struct ops *o, const struct ops_attn *a,
                         const struct ops_attn_back *b)
{
    struct attn_job j = { .o = o, .a = a, .b = b };
    pool_run(o->pool, a->rows * a->n_kv, backward_task, &j);
}
