/* engine/train/ops_attn_naive.c - attention as it is defined: all scores of a sequence and head at
 * once, their softmax kept for the backward pass. Takes cols^2 numbers a head and computes both
 * triangles; for comparison (cost study) and as the tiled form's oracle.
 *     p = softmax(scale q k^T), out = p v
 *     dv = p^T dout, dp = dout v^T, ds = p (dp - sum(p dp)), dq = scale ds k, dk = scale ds^T q */
#include "engine/train/ops_internal.h"

#include <math.h>
#include <string.h>

struct naive_job {
    const struct ops *o;
    const struct ops_attn *a;
    const struct ops_attn_back *b;
    const real *qkv;
    real *out, *kept;
};

/* Where the parts of a head begin in an array of queries, keys and values, or of outputs. */
struct naive_at {
    size_t ld, q, k, v, ld_out, out;
};

static struct naive_at place(const struct ops_attn *a, size_t seq, size_t h)
{
    size_t ld = (a->n_head + 2 * a->n_kv) * a->d_head, ld_out = a->n_head * a->d_head;
    size_t kv = h / (a->n_head / a->n_kv), first = seq * a->cols;
    struct naive_at p = { .ld = ld, .ld_out = ld_out };
    p.q = first * ld + h * a->d_head;
    p.k = first * ld + (a->n_head + kv) * a->d_head;
    p.v = p.k + a->n_kv * a->d_head;
    p.out = first * ld_out + h * a->d_head;
    return p;
}

/* Softmax of row t over the keys that it sees; the rest 0. */
static void softmax_row(const struct ops *o, real *p, size_t n, size_t from, size_t t)
{
    size_t seen = t + 1 - from;
    real max = o->pass->max(p + from, seen);
    double sum = o->pass->exp_sum(p + from, seen, max, true);
    o->pass->scale(p + from, (real)(1 / sum), seen);
    memset(p, 0, from * sizeof *p);
    memset(p + t + 1, 0, (n - t - 1) * sizeof *p);
}

static void naive_task(void *arg, size_t i, unsigned worker)
{
    const struct naive_job *j = arg;
    const struct ops_attn *a = j->a;
    size_t seq = i / a->n_head, n = a->cols;
    struct naive_at at = place(a, seq, i % a->n_head);
    real *p = j->kept + i * n * n;
    (void)worker;
    ops_product(j->o, (struct ops_result){ p, n, n, n, 1 / sqrt((double)a->d_head), false },
                (struct ops_factor){ j->qkv + at.q, at.ld, false },
                (struct ops_factor){ j->qkv + at.k, at.ld, true }, a->d_head);
    for (size_t t = 0; t < n; t++)
        softmax_row(j->o, p + t * n, n, (size_t)a->start[seq * n + t], t);
    ops_product(j->o, (struct ops_result){ j->out + at.out, at.ld_out, n, a->d_head, 1, false },
                (struct ops_factor){ p, n, false },
                (struct ops_factor){ j->qkv + at.v, at.ld, false }, n);
}

void ops_attn_naive(const struct ops *o, const struct ops_attn *a, const real *qkv, real *out,
                    real *kept)
{
    struct naive_job j = { .o = o, .a = a, .qkv = qkv, .out = out, .kept = kept };
    pool_run(o->pool, a->rows * a->n_head, naive_task, &j);
}

static void back_head(const struct naive_job *j, size_t seq, size_t h, real *ds)
{
    const struct ops_attn *a = j->a;
    const struct ops_attn_back *b = j->b;
    struct naive_at at = place(a, seq, h);
    size_t n = a->cols, d = a->d_head;
    const real *p = b->kept + (seq * a->n_head + h) * n * n;
    bool more = h % (a->n_head / a->n_kv) != 0; /* of the heads that share these keys */
    struct ops_factor dout = { b->dout + at.out, at.ld_out, false };
    ops_product(j->o, (struct ops_result){ b->dqkv + at.v, at.ld, n, d, 1, more },
                (struct ops_factor){ p, n, true }, dout, n);
    ops_product(j->o, (struct ops_result){ ds, n, n, n, 1, false }, dout,
                (struct ops_factor){ b->qkv + at.v, at.ld, true }, d);
    for (size_t t = 0; t < n; t++)
        j->o->pass->softmax_back(ds + t * n, p + t * n, j->o->pass->dot(ds + t * n, p + t * n, n),
                                 (real)(1 / sqrt((double)d)), n);
    ops_product(j->o, (struct ops_result){ b->dqkv + at.q, at.ld, n, d, 1, false },
                (struct ops_factor){ ds, n, false },
                (struct ops_factor){ b->qkv + at.k, at.ld, false }, n);
    ops_product(j->o, (struct ops_result){ b->dqkv + at.k, at.ld, n, d, 1, more },
                (struct ops_factor){ ds, n, true },
                (struct ops_factor){ b->qkv + at.q, at.ld, false }, n);
}

/* A sequence and a head of keys, with all heads that read it. */
static void naive_back_task(void *arg, size_t i, unsigned worker)
{
    const struct naive_job *j = arg;
    const struct ops_attn *a = j->a;
    size_t group = a->n_head / a->n_kv, h = i % a->n_kv * group;
    for (size_t g = 0; g < group; g++)
        back_head(j, i / a->n_kv, h + g, a->scratch + worker * ops_attn_scratch(a));
}

void ops_attn_naive_back(const struct ops *o, const struct ops_attn *a,
                         const struct ops_attn_back *b)
{
    struct naive_job j = { .o = o, .a = a, .b = b };
    pool_run(o->pool, a->rows * a->n_kv, naive_back_task, &j);
}
