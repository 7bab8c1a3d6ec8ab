/* recsys/topk.c - see topk.h. */
#include "recsys/topk.h"

#include "recsys/model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct topk {
    uint32_t n, n_feat, stride, n_block;
    const float *rows; /* the caller's */
    float *copy;       /* [n, stride] in the order of blocks, where there is one feature; or NULL */
    float *top;        /* [n_block, n_feat, stride]: largest value of each column */
    uint32_t *order;   /* [n]: the items, block after block */
};

/* Rounding of a sum of `stride` products, relative: the bound must hold for computed scores. */
#define SLACK 1e-4f

typedef float lanes __attribute__((vector_size(64), aligned(64)));

/* Sixteen sums, added in pairs: the same on every machine that this is compiled for. */
float topk_dot(const float *a, const float *b, uint32_t stride)
{
    lanes s = { 0 };
    float v[RSTRIDE];
    for (uint32_t k = 0; k < stride; k += RSTRIDE)
        s += *(const lanes *)(const void *)(a + k) * *(const lanes *)(const void *)(b + k);
    memcpy(v, &s, sizeof v);
    for (uint32_t half = RSTRIDE / 2; half; half /= 2)
        for (uint32_t i = 0; i < half; i++)
            v[i] += v[i + half];
    return v[0];
}

/* ---- making ---- */

struct sort_key {
    uint32_t item, factor;
    float size;
};

static int by_factor_and_size(const void *a, const void *b)
{
    const struct sort_key *x = a, *y = b;
    if (x->factor != y->factor)
        return x->factor < y->factor ? -1 : 1;
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static struct sort_key key_of(const struct topk *t, uint32_t item, float *sum)
{
    struct sort_key k = { .item = item };
    const float *row = t->rows + (size_t)item * t->n_feat * t->stride;
    memset(sum, 0, t->stride * sizeof *sum);
    for (uint32_t i = 0; i < t->n_feat * t->stride; i++)
        sum[i % t->stride] += row[i];
    for (uint32_t i = 0; i < t->stride; i++)
        if (sum[i] > sum[k.factor])
            k.factor = i;
    k.size = sum[k.factor];
    return k;
}

static void *aligned(size_t n_float)
{
    size_t bytes = (n_float ? n_float : RSTRIDE) * sizeof(float);
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p)
        memset(p, 0, (bytes + 63) / 64 * 64);
    return p;
}

static void fill(struct topk *t, const struct sort_key *key)
{
    size_t width = (size_t)t->n_feat * t->stride;
    for (uint32_t i = 0; i < t->n; i++) {
        const float *from = t->rows + key[i].item * width;
        float *top = t->top + (i / TOPK_BLOCK) * width;
        t->order[i] = key[i].item;
        for (size_t k = 0; k < width; k++)
            top[k] = from[k] > top[k] ? from[k] : top[k];
        if (t->copy)
            memcpy(t->copy + i * width, from, width * sizeof *from);
    }
}

enum status topk_create(const float *rows, uint32_t n, uint32_t n_feat, uint32_t stride,
                        struct topk **ret, struct err *err)
{
    assert(stride % RSTRIDE == 0);
    struct topk *t = calloc(1, sizeof *t);
    struct sort_key *key = calloc((size_t)n + 1, sizeof *key);
    float *sum = calloc(stride, sizeof *sum);
    if (!t || !key || !sum)
        goto fail;
    *t = (struct topk){ .n = n, .n_feat = n_feat, .stride = stride, .rows = rows };
    t->n_block = (n + TOPK_BLOCK - 1) / TOPK_BLOCK;
    t->copy = n_feat == 1 ? aligned((size_t)n * stride) : NULL;
    t->top = aligned((size_t)t->n_block * n_feat * stride);
    t->order = calloc((size_t)n + 1, sizeof *t->order);
    if ((n_feat == 1 && !t->copy) || !t->top || !t->order)
        goto fail;
    for (uint32_t i = 0; i < n; i++)
        key[i] = key_of(t, i, sum);
    qsort(key, n, sizeof *key, by_factor_and_size);
    fill(t, key);
    free(key);
    free(sum);
    *ret = t;
    return ST_OK;
fail:
    free(key);
    free(sum);
    topk_free(t);
    return err_set(err, ST_NOMEM, "index of items");
}

void topk_free(struct topk *t)
{
    if (!t)
        return;
    free(t->copy);
    free(t->top);
    free(t->order);
    free(t);
}

/* ---- finding ---- */

struct bound {
    float most;
    uint32_t block;
};

/* a is worse than b. */
static bool worse(struct topk_hit a, struct topk_hit b)
{
    return a.score != b.score ? a.score < b.score : a.item > b.item;
}

/* A heap with the worst hit on top. */
static void sink(struct topk_hit *h, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= n)
            return;
        if (c + 1 < n && worse(h[c + 1], h[c]))
            c++;
        if (!worse(h[c], h[i]))
            return;
        struct topk_hit x = h[i];
        h[i] = h[c];
        h[c] = x;
        i = c;
    }
}

static void offer(struct topk_hit *h, uint32_t *n, uint32_t k, struct topk_hit x)
{
    if (*n < k) {
        uint32_t i = (*n)++;
        h[i] = x;
        while (i && worse(h[i], h[(i - 1) / 2])) {
            struct topk_hit y = h[i];
            h[i] = h[(i - 1) / 2];
            h[(i - 1) / 2] = y;
            i = (i - 1) / 2;
        }
    } else if (worse(h[0], x)) {
        h[0] = x;
        sink(h, *n, 0);
    }
}

/* Heap of bounds, the highest on top. */
static void sink_bound(struct bound *b, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= n)
            return;
        if (c + 1 < n && b[c + 1].most > b[c].most)
            c++;
        if (b[c].most <= b[i].most)
            return;
        struct bound x = b[i];
        b[i] = b[c];
        b[c] = x;
        i = c;
    }
}

static float row_score(const struct topk *t, const struct topk_query *q, uint32_t i, uint32_t item)
{
    if (t->copy)
        return topk_dot(q->q, t->copy + (size_t)i * t->stride, t->stride);
    return topk_score(t->rows, t->n_feat, t->stride, q, item);
}

float topk_score(const float *rows, uint32_t n_feat, uint32_t stride, const struct topk_query *q,
                 uint32_t item)
{
    float s = 0;
    for (unsigned f = 0; f < q->n_feature; f++)
        s += topk_dot(q->q, rows + ((size_t)item * n_feat + q->feature[f]) * stride, stride);
    return s;
}

static void look_at(const struct topk *t, const struct topk_query *q, uint32_t block,
                    struct topk_hit *out, uint32_t *n)
{
    uint32_t from = block * TOPK_BLOCK, to = from + TOPK_BLOCK < t->n ? from + TOPK_BLOCK : t->n;
    for (uint32_t i = from; i < to; i++) {
        struct topk_hit x = { .item = t->order[i] };
        x.score = row_score(t, q, i, x.item);
        if (q->bonus)
            x.score += q->bonus[q->group[x.item]];
        if (*n == q->k && !worse(out[0], x))
            continue;
        if (!q->skip || !q->skip(q->ctx, x.item))
            offer(out, n, q->k, x);
    }
}

static int best_first(const void *a, const void *b)
{
    const struct topk_hit *x = a, *y = b;
    return worse(*x, *y) ? 1 : worse(*y, *x) ? -1 : 0;
}

enum status topk_find(const struct topk *t, const struct topk_query *q, struct topk_hit *out,
                      uint32_t *n_ret, uint64_t *seen, struct err *err)
{
    uint32_t n = 0, left = t->n_block;
    uint64_t looked = 0;
    *n_ret = 0;
    if (q->k == 0 || t->n == 0)
        return ST_OK;
    struct bound *b = calloc(left, sizeof *b);
    if (!b)
        return err_set(err, ST_NOMEM, "ranking");
    for (uint32_t i = 0; i < left; i++)
        b[i] = (struct bound){
            topk_score(t->top, t->n_feat, t->stride, q, i) * (1 + SLACK) + q->bonus_max, i
        };
    for (uint32_t i = left / 2; i-- > 0;)
        sink_bound(b, left, i);
    while (left && (n < q->k || b[0].most >= out[0].score)) {
        look_at(t, q, b[0].block, out, &n);
        looked += TOPK_BLOCK;
        b[0] = b[--left];
        sink_bound(b, left, 0);
    }
    free(b);
    qsort(out, n, sizeof *out, best_first);
    *n_ret = n;
    if (seen)
        *seen = looked;
    return ST_OK;
}
