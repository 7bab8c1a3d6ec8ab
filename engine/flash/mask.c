/* engine/flash/mask.c - see mask.h. The bound of a sketch, per token x and row w with sketch s, n
 * columns:
 *
 *   exact product z' = w.x (1 + gamma_c)      f32 sums: c = 256 + n/256 roundings at most
 *   sketch        y' = s.(p + q) (1 + ...)    p, q: the planes, each d * int8 per block of 32
 *   |z' - y'| <= |w - s| |x| + |s| |x - p - q| + c' eps (|w| + |w - s|) |x|
 *
 * with |s| <= |w| + |w - s|, x - p - q at most half a step of q's grid in each element, and c' the
 * roundings of both sums together, doubled. Where the exact product itself rounds x to p (block
 * types), |w| |x - p| is added. Everything is computed in double and rounded up. */
#include "engine/flash/mask.h"

#include "engine/base/num.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { QK = 32, COUNT_TASK = 512 };

struct count_job {
    const float *v;
    size_t n_tok, n;
    uint32_t *count;
};

static void count_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    const struct count_job *j = arg;
    size_t from = i * COUNT_TASK, to = from + COUNT_TASK < j->n ? from + COUNT_TASK : j->n;
    memset(j->count + from, 0, (to - from) * sizeof *j->count);
    for (size_t t = 0; t < j->n_tok; t++)
        for (size_t k = from; k < to; k++)
            j->count[k] += j->v[t * j->n + k] != 0;
}

/* NOLINTBEGIN(readability-non-const-parameter): the tasks write count */
void mask_from_activations(struct pool *pool, const float *first, size_t n_tok, uint32_t n,
                           uint32_t *count)
/* NOLINTEND(readability-non-const-parameter) */
{
    struct count_job j = { first, n_tok, n, count };
    pool_run(n_tok * n < 1 << 16 ? NULL : pool, (n + COUNT_TASK - 1) / COUNT_TASK, count_task, &j);
}

/* ---- the largest ---- */

struct keep_job {
    float *v;
    size_t n, keep;
};

static uint32_t size_bits(float v)
{
    uint32_t u;
    v = fabsf(v);
    memcpy(&u, &v, sizeof u);
    return u; /* of numbers without a sign, the order is that of their bits */
}

/* The bits of the keep-th largest of v, eleven at a time from the top. */
static uint32_t threshold_bits(const float *v, size_t n, size_t keep)
{
    enum { DIGIT = 11, BINS = 1 << DIGIT };
    uint32_t found = 0, seen = 0; /* bits, and which of them are known */
    for (int shift = 32 - DIGIT; shift > -DIGIT; shift -= DIGIT) {
        int low = shift > 0 ? shift : 0;
        uint32_t count[BINS] = { 0 }, bin = BINS - 1;
        for (size_t i = 0; i < n; i++)
            if ((size_bits(v[i]) & seen) == found)
                count[size_bits(v[i]) >> low & (BINS - 1)]++;
        for (; count[bin] < keep; bin--)
            keep -= count[bin];
        uint32_t digit = (uint32_t)(BINS - 1) << low;
        found = (found & ~digit) | bin << low;
        seen |= digit;
    }
    return found;
}

static void keep_task(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    const struct keep_job *j = arg;
    float *v = j->v + t * j->n;
    uint32_t least = threshold_bits(v, j->n, j->keep);
    for (size_t i = 0; i < j->n; i++)
        if (size_bits(v[i]) < least)
            v[i] = 0;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the tasks write first */
void mask_keep_largest(struct pool *pool, float *first, size_t n_tok, uint32_t n, double share)
{
    double want = ceil(share * n);
    struct keep_job j = { first, n, want < 1 ? 1 : (size_t)want };
    if (j.keep < n)
        pool_run(pool, n_tok, keep_task, &j);
}

/* Tokens of a set. One alone is the usual case, and the portable build counts bits in software. */
static uint32_t set_count(uint32_t set, size_t n_tok)
{
    return n_tok == 1 ? set : (uint32_t)__builtin_popcount(set);
}

/* ---- sketch ---- */

/* Norms of one token that the bound is made of. */
struct token_norms {
    double x, rest, rounded; /* |x|, bound of |x - p - q|, |x - p| */
};

/* p: the nearest multiples of max|x| / 127 of each block; q: what they leave. */
static void split(const float *x, size_t n, float *p, float *q, struct token_norms *norm)
{
    double xx = 0, rest = 0, rounded = 0;
    for (size_t b = 0; b < n; b += QK) {
        float top = 0, left = 0;
        for (size_t i = b; i < b + QK; i++)
            top = fmaxf(top, fabsf(x[i]));
        float d = top / 127;
        for (size_t i = b; i < b + QK; i++) {
            p[i] = d > 0 ? d * rintf(x[i] / d) : 0;
            q[i] = x[i] - p[i];
            left = fmaxf(left, fabsf(q[i]));
            xx += (double)x[i] * (double)x[i];
            rounded += (double)q[i] * (double)q[i];
        }
        double step = (double)left / 254 + (double)top * 0x1p-20;
        rest += QK * step * step;
    }
    *norm = (struct token_norms){ sqrt(xx), sqrt(rest), sqrt(rounded) };
}

size_t mask_scratch_bytes(uint32_t n_embd, uint32_t n_ff)
{
    size_t two = 2 * MASK_TOKENS;
    return num_align(two * n_embd * sizeof(float), 64) + num_align(two * n_ff * sizeof(float), 64) +
           acts_bytes(two, n_embd);
}

struct judge {
    const struct mask_sketch *m;
    const float *y; /* [2 n_tok, n_ff]; rough: [n_tok, n_ff] */
    const struct token_norms *norm;
    size_t n_tok;
    double roundings, share; /* share: of the worst case |w - s| |x| that is granted */
    uint32_t *count;
};

static void judge_task(void *arg, size_t task, unsigned worker)
{
    (void)worker;
    const struct judge *j = arg;
    size_t n = j->m->s.n_row, from = task * COUNT_TASK;
    size_t to = from + COUNT_TASK < n ? from + COUNT_TASK : n;
    for (size_t i = from; i < to; i++) {
        double w = (double)j->m->norm[i], e = (double)j->m->err[i];
        uint32_t set = 0;
        for (size_t t = 0; t < j->n_tok; t++) {
            const struct token_norms *x = &j->norm[t];
            double z = (double)j->y[t * n + i], slack = e * x->x * j->share;
            if (!j->m->rough) {
                z += (double)j->y[(j->n_tok + t) * n + i];
                slack += (w + e) * x->rest + j->roundings * (w + e) * x->x;
                slack += j->m->int8_rows ? w * x->rounded : 0;
            }
            z += j->m->bias ? (double)j->m->bias[i] : 0;
            /* Also what is not a number, which no comparison holds for. */
            set |= (uint32_t) !(z + slack * (1 + 1e-9) <= (double)j->m->threshold) << t;
        }
        j->count[i] = j->m->sets ? set : set_count(set, j->n_tok);
    }
}

/* The sketch without the neurons that are not asked about. */
static struct mask_sketch asked(const struct mask_sketch *m)
{
    struct mask_sketch r = *m;
    r.s = matrix_rows(&m->s, m->from, m->s.n_row);
    r.norm += m->from;
    r.err += m->from;
    r.bias = m->bias ? m->bias + m->from : NULL;
    return r;
}

/* NOLINTBEGIN(readability-non-const-parameter): the tasks write count */
void mask_from_sketch(const struct kernels *k, struct pool *pool, const struct mask_sketch *all,
                      const float *x, size_t n_tok, size_t stride, void *scratch, uint32_t *count)
/* NOLINTEND(readability-non-const-parameter) */
{
    const struct mask_sketch m = asked(all);
    size_t n = m.s.n_col, n_ff = m.s.n_row, two = 2 * MASK_TOKENS;
    struct token_norms norm[MASK_TOKENS];
    assert(n_tok <= MASK_TOKENS && n % QK == 0);
    memset(count, 0, all->from * sizeof *count);
    char *at = scratch;
    float *planes = (float *)(void *)at;
    at += num_align(two * n * sizeof(float), 64);
    float *y = (float *)(void *)at;
    at += num_align(two * n_ff * sizeof(float), 64);
    struct acts a = { .store = at, .store_bytes = acts_bytes(two, n) };
    for (size_t t = 0; t < n_tok; t++)
        split(x + t * stride, n, planes + t * n, planes + (n_tok + t) * n, &norm[t]);
    acts_set(&a, planes, m.rough ? n_tok : 2 * n_tok, n, n);
    matmul(k, pool, &m.s, &a, y, n_ff);
    struct judge j = { &m, y, norm, n_tok, 0, 1, count + all->from };
    j.roundings = 2 * (256 + (double)n / 256 + (double)n / QK + 16) * 0x1p-24;
    if (m.sigma > 0)
        j.share = (double)m.sigma / sqrt((double)n);
    pool_run(pool, (n_ff + COUNT_TASK - 1) / COUNT_TASK, judge_task, &j);
}

/* ---- low rank ---- */

struct vote {
    const struct mask_lowrank *m;
    const float *y; /* [n_tok, n_ff] */
    size_t n_tok;
    uint32_t *count;
};

static void vote_task(void *arg, size_t task, unsigned worker)
{
    (void)worker;
    const struct vote *v = arg;
    size_t n = v->m->b.n_row, from = task * COUNT_TASK;
    size_t to = from + COUNT_TASK < n ? from + COUNT_TASK : n;
    for (size_t i = from; i < to; i++) {
        uint32_t set = 0;
        for (size_t t = 0; t < v->n_tok; t++) /* also what is not a number */
            set |= (uint32_t) !(v->y[t * n + i] + v->m->bias[i] <= 0) << t;
        v->count[i] = v->m->sets ? set : set_count(set, v->n_tok);
    }
}

/* The rank is at most n_embd: what A gives has room where a sketch keeps its planes. */
/* NOLINTBEGIN(readability-non-const-parameter): the products write y, the tasks count */
void mask_lowrank_scores(const struct kernels *k, struct pool *pool, const struct mask_lowrank *m,
                         const float *x, size_t n_tok, size_t stride, void *scratch, float *y)
{
    size_t n = m->a.n_col, rank = m->a.n_row, n_ff = m->b.n_row, two = 2 * MASK_TOKENS;
    assert(n_tok <= MASK_TOKENS && rank <= n && m->b.n_col == rank);
    char *at = scratch;
    float *low = (float *)(void *)at;
    at += num_align(two * n * sizeof(float), 64) + num_align(two * n_ff * sizeof(float), 64);
    struct acts a = { .store = at, .store_bytes = acts_bytes(two, n) };
    acts_set(&a, x, n_tok, n, stride);
    matmul(k, pool, &m->a, &a, low, rank);
    acts_set(&a, low, n_tok, rank, rank);
    matmul(k, pool, &m->b, &a, y, n_ff);
}

void mask_from_lowrank(const struct kernels *k, struct pool *pool, const struct mask_lowrank *m,
                       const float *x, size_t n_tok, size_t stride, void *scratch, uint32_t *count)
/* NOLINTEND(readability-non-const-parameter) */
{
    size_t n = m->a.n_col, n_ff = m->b.n_row - m->from, two = 2 * MASK_TOKENS;
    float *y = (float *)(void *)((char *)scratch + num_align(two * n * sizeof(float), 64));
    struct mask_lowrank part = *m;
    part.b = matrix_rows(&m->b, m->from, m->b.n_row);
    part.bias += m->from;
    memset(count, 0, m->from * sizeof *count);
    mask_lowrank_scores(k, pool, &part, x, n_tok, stride, scratch, y);
    struct vote v = { &part, y, n_tok, count + m->from };
    pool_run(pool, (n_ff + COUNT_TASK - 1) / COUNT_TASK, vote_task, &v);
}
