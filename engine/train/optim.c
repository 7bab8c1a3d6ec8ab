/* engine/train/optim.c - see optim.h. The pass reads and writes 28 bytes a parameter and computes
 * little: it runs at memory speed once the compiler vectorises it, which the loops below are
 * written for (no aliasing, no branches, sums in LANES partial sums). */
#include "engine/train/optim.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum {
    BLOCK = 32 << 10, /* parameters: 0.5 MiB of four arrays, a core's share of the L2 cache */
    LANES = 8         /* partial sums of squares */
};

/* A run of parameters with one decay. */
struct block {
    uint64_t at; /* in the flat arrays */
    uint32_t n;
    bool decay;
};

struct optim {
    uint64_t from, to;
    double beta1, beta2, eps, decay;
    struct pool *pool;
    struct block *block;
    size_t n_block;
    double *sum; /* [n_block] */
    real *m, *v;
};

uint64_t optim_bytes(uint64_t n_param)
{
    return 2 * n_param * sizeof(real);
}

/* ---- creation ---- */

/* Tensors of one kind that follow each other share blocks: a run from tensor i on, as far as it
 * lies in [from, to). Returns the first tensor behind it. */
static uint32_t take_run(const struct optim_opts *o, uint32_t i, uint64_t *at, uint64_t *end)
{
    bool decay = o->tensor[i].decay;
    *at = *end = o->tensor[i].at;
    for (; i < o->n_tensor && o->tensor[i].decay == decay && o->tensor[i].at == *end; i++)
        *end += (uint64_t)o->tensor[i].rows * o->tensor[i].cols;
    *at = *at > o->from ? *at : o->from;
    *end = *end < o->to ? *end : o->to;
    return i;
}

/* Counts only when `out` is NULL. */
static size_t cut_blocks(const struct optim_opts *o, struct block *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < o->n_tensor;) {
        bool decay = o->tensor[i].decay;
        uint64_t at, end;
        i = take_run(o, i, &at, &end);
        for (; at < end; at += BLOCK, n++)
            if (out)
                out[n] =
                    (struct block){ at, (uint32_t)(end - at < BLOCK ? end - at : BLOCK), decay };
    }
    return n;
}

uint64_t optim_block_at(const struct optim_opts *o, uint64_t want)
{
    for (uint32_t i = 0; i < o->n_tensor;) {
        uint64_t at, end;
        i = take_run(o, i, &at, &end);
        if (at < want)
            at += (want - at + BLOCK - 1) / BLOCK * BLOCK;
        if (at < end)
            return at;
    }
    return o->to;
}

size_t optim_blocks(const struct optim_opts *o)
{
    return cut_blocks(o, NULL);
}

static enum status check(const struct optim_opts *o, struct err *err)
{
    const struct net_tensor *last = &o->tensor[o->n_tensor ? o->n_tensor - 1 : 0];
    uint64_t end = o->n_tensor ? last->at + (uint64_t)last->rows * last->cols : 0;
    if (o->from > o->to || o->to > end)
        return err_set(err, ST_RANGE, "optimiser: parameters %llu to %llu of %llu",
                       (unsigned long long)o->from, (unsigned long long)o->to,
                       (unsigned long long)end);
    return ST_OK;
}

enum status optim_create(const struct optim_opts *opts, struct optim **ret, struct err *err)
{
    if (check(opts, err) != ST_OK)
        return err->code;
    struct optim *o = calloc(1, sizeof *o);
    if (!o)
        return err_set(err, ST_NOMEM, "optimiser");
    size_t n = (size_t)(opts->to - opts->from);
    *o = (struct optim){ .from = opts->from,
                         .to = opts->to,
                         .beta1 = opts->beta1,
                         .beta2 = opts->beta2,
                         .eps = opts->eps,
                         .decay = opts->decay,
                         .pool = opts->pool,
                         .n_block = cut_blocks(opts, NULL) };
    o->block = calloc(o->n_block + 1, sizeof *o->block);
    o->sum = calloc(o->n_block + 1, sizeof *o->sum);
    o->m = calloc(n + 1, sizeof *o->m);
    o->v = calloc(n + 1, sizeof *o->v);
    if (!o->block || !o->sum || !o->m || !o->v) {
        optim_free(o);
        return err_set(err, ST_NOMEM, "optimiser: moments of %zu parameters", n);
    }
    cut_blocks(opts, o->block);
    *ret = o;
    return ST_OK;
}

void optim_free(struct optim *o)
{
    if (!o)
        return;
    free(o->block);
    free(o->sum);
    free(o->m);
    free(o->v);
    free(o);
}

real *optim_m(struct optim *o)
{
    return o->m;
}

real *optim_v(struct optim *o)
{
    return o->v;
}

/* ---- the norm ---- */

static double sum_squares(const real *g, size_t n)
{
    double lane[LANES] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += (double)g[i + k] * (double)g[i + k];
    for (; i < n; i++)
        lane[i % LANES] += (double)g[i] * (double)g[i];
    for (size_t k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

struct norm_job {
    const struct optim *o;
    const real *grad;
    double *sum; /* of each block */
};

static void norm_block(void *arg, size_t i, unsigned worker)
{
    struct norm_job *j = arg;
    (void)worker;
    j->sum[i] = sum_squares(j->grad + j->o->block[i].at, j->o->block[i].n);
}

void optim_squares(struct optim *o, const real *grad, double *block)
{
    struct norm_job j = { .o = o, .grad = grad };
    j.sum = block;
    pool_run(o->pool, o->n_block, norm_block, &j);
}

double optim_sum_squares(struct optim *o, const real *grad)
{
    double sum = 0;
    optim_squares(o, grad, o->sum);
    for (size_t i = 0; i < o->n_block; i++)
        sum += o->sum[i];
    return sum;
}

/* ---- the step ---- */

/* What a block's loop needs, already in the arrays' type. */
struct rates {
    real scale, b1, c1, b2, c2; /* c = 1 - b */
    real keep;                  /* 1 - lr * decay */
    real step;                  /* lr / (1 - beta1^t) */
    real root;                  /* 1 / sqrt(1 - beta2^t) */
    real eps;
};

#ifdef TRAIN_F64
#define real_sqrt sqrt
#else
#define real_sqrt sqrtf
#endif

static void update(size_t n, const struct rates *rates, real *restrict p, real *restrict g,
                   real *restrict m, real *restrict v)
{
    const struct rates r = *rates;
    for (size_t i = 0; i < n; i++) {
        real gi = g[i] * r.scale;
        real mi = r.b1 * m[i] + r.c1 * gi;
        real vi = r.b2 * v[i] + r.c2 * (gi * gi);
        m[i] = mi;
        v[i] = vi;
        p[i] = r.keep * p[i] - r.step * mi / (real_sqrt(vi) * r.root + r.eps);
        g[i] = 0;
    }
}

struct step_job {
    struct optim *o;
    real *param, *grad;
    struct rates rates[2]; /* without and with decay */
};

static void step_block(void *arg, size_t i, unsigned worker)
{
    struct step_job *j = arg;
    const struct block *b = &j->o->block[i];
    uint64_t own = b->at - j->o->from;
    (void)worker;
    update(b->n, &j->rates[b->decay], j->param + b->at, j->grad + b->at, j->o->m + own,
           j->o->v + own);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the blocks write param and grad */
void optim_apply(struct optim *o, real *param, real *grad, const struct optim_step *s)
{
    assert(s->t > 0);
    double t = (double)s->t;
    struct step_job j = { .o = o, .param = param, .grad = grad };
    for (int decay = 0; decay < 2; decay++)
        j.rates[decay] = (struct rates){
            .scale = (real)s->scale,
            .b1 = (real)o->beta1,
            .c1 = (real)(1 - o->beta1),
            .b2 = (real)o->beta2,
            .c2 = (real)(1 - o->beta2),
            .keep = (real)(decay ? 1 - s->lr * o->decay : 1),
            .step = (real)(s->lr / (1 - pow(o->beta1, t))),
            .root = (real)(1 / sqrt(1 - pow(o->beta2, t))),
            .eps = (real)o->eps,
        };
    pool_run(o->pool, o->n_block, step_block, &j);
}
