/* engine/kernel/matmul.c - splits a product into panel jobs: over threads by panels, inside a
 * thread by chunks of columns and tiles of tokens, so that activations stay in the second-level
 * cache and weights are read once. The order of sums per output is the same whatever the split. */
#include "engine/base/num.h"
#include "engine/kernel/internal.h"

#include <assert.h>

enum {
    TASKS_PER_THREAD = 4,
    INLINE_MACS = 20000 /* smaller products are not worth waking a thread */
};

static size_t acts_layout(size_t n_tok, size_t n_col, void *store, struct acts_q *a)
{
    size_t cells = n_tok * (n_col / QK);
    uint8_t *p = store;
    size_t q = num_align(cells * QK, 64), f = num_align(cells * 4, 64);
    if (a)
        *a = (struct acts_q){ .q = (int8_t *)p,
                              .d = (float *)(void *)(p + q),
                              .sx = (float *)(void *)(p + q + f),
                              .sxh = (float *)(void *)(p + q + 2 * f),
                              .neg = (int32_t *)(void *)(p + q + 4 * f),
                              .n_tok = n_tok,
                              .n_block = n_col / QK };
    return q + 6 * f;
}

size_t acts_bytes(size_t max_tok, size_t max_col)
{
    size_t cells;
    if (!num_mul(max_tok, max_col, &cells) || cells > SIZE_MAX / 16)
        return 0;
    return acts_layout(max_tok, max_col + QK, NULL, NULL) + 2 * 64;
}

void acts_set(struct acts *a, const float *x, size_t n_tok, size_t n_col, size_t stride)
{
    a->x = x;
    a->n_tok = n_tok;
    a->n_col = n_col;
    a->stride = stride;
    a->quantised = false;
}

struct job {
    const struct kernels *k;
    const struct matrix *w;
    struct acts *a;
    struct acts_q q;
    float *y;
    size_t y_stride, panel_bytes, n_panel, per_task;
};

static void quantise_task(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct job *j = arg;
    j->k->quantise(j->a->x + t * j->a->stride, j->q.n_block, &j->q, t);
}

/* The last panel may be wider than the matrix: it is computed aside and cut. */
static void cut_rows(float *y, size_t y_stride, const float *tile, size_t n_tok, size_t n_row)
{
    for (size_t t = 0; t < n_tok; t++)
        memcpy(y + t * y_stride, tile + t * PANEL_ROWS, n_row * sizeof *y);
}

static void block_task(struct job *j, size_t p, size_t t0, size_t n)
{
    const struct dtype_info *info = dtype_info((uint32_t)j->w->type);
    _Alignas(64) float tile[TOKEN_TILE * PANEL_ROWS];
    size_t left = j->w->n_row - p * PANEL_ROWS;
    float *y = j->y + t0 * j->y_stride + p * PANEL_ROWS;
    bool whole = left >= PANEL_ROWS;
    struct block_job b = { .type = j->w->type,
                           .panel = (const uint8_t *)j->w->data + p * j->panel_bytes,
                           .block_stride = (size_t)info->block_bytes * PANEL_ROWS,
                           .x = &j->q,
                           .t0 = t0,
                           .n = n,
                           .y = whole ? y : tile,
                           .y_stride = whole ? j->y_stride : PANEL_ROWS };
    for (size_t t = 0; t < n; t++)
        memset(b.y + t * b.y_stride, 0, PANEL_ROWS * sizeof *y);
    j->k->block_panel(&b);
    if (!whole)
        cut_rows(y, j->y_stride, tile, n, left);
}

/* x: token t0's row at column k0, rows x_stride apart. */
struct plain_x {
    const float *x;
    size_t stride;
};

static void plain_task(struct job *j, size_t p, size_t k0, size_t t0, size_t n, struct plain_x in)
{
    _Alignas(64) float tile[TOKEN_TILE * PANEL_ROWS];
    size_t elem = dtype_info((uint32_t)j->w->type)->block_bytes;
    size_t left = j->w->n_row - p * PANEL_ROWS, n_col = j->w->n_col;
    float *y = j->y + t0 * j->y_stride + p * PANEL_ROWS;
    bool whole = left >= PANEL_ROWS;
    for (size_t t = 0; !whole && k0 && t < n; t++)
        memcpy(tile + t * PANEL_ROWS, y + t * j->y_stride, left * sizeof *y);
    struct plain_job b = { .type = j->w->type,
                           .panel = (const uint8_t *)j->w->data + p * j->panel_bytes +
                                    k0 * PANEL_ROWS * elem,
                           .x = in.x,
                           .x_stride = in.stride,
                           .n_tok = n,
                           .n_k = n_col - k0 < PLAIN_CHUNK ? n_col - k0 : PLAIN_CHUNK,
                           .y = whole ? y : tile,
                           .y_stride = whole ? j->y_stride : PANEL_ROWS,
                           .first = k0 == 0 };
    j->k->plain_panel(&b);
    if (!whole)
        cut_rows(y, j->y_stride, tile, n, left);
}

/* Rows of activations often lie a multiple of 4 KiB apart, where they share cache sets: a chunk is
 * copied to rows of an odd number of lines first (27 % -> 80 % of the peak at 2048 columns). */
enum { CHUNK_STRIDE = PLAIN_CHUNK + 16 };

static void plain_tokens(struct job *j, size_t from, size_t to, size_t t0, size_t n)
{
    _Alignas(64) float chunk[TOKEN_TILE * CHUNK_STRIDE];
    const float *x = j->a->x + t0 * j->a->stride;
    size_t n_col = j->w->n_col;
    for (size_t k0 = 0; k0 < n_col; k0 += PLAIN_CHUNK) {
        size_t n_k = n_col - k0 < PLAIN_CHUNK ? n_col - k0 : PLAIN_CHUNK;
        for (size_t t = 0; t < n; t++)
            memcpy(chunk + t * CHUNK_STRIDE, x + t * j->a->stride + k0, n_k * sizeof *x);
        for (size_t p = from; p < to; p++)
            plain_task(j, p, k0, t0, n, (struct plain_x){ chunk, CHUNK_STRIDE });
    }
}

/* One token: a panel is finished before the next, which reads the weights as one stream. */
static void plain_token(struct job *j, size_t from, size_t to, size_t t0)
{
    const float *x = j->a->x + t0 * j->a->stride;
    for (size_t p = from; p < to; p++)
        for (size_t k0 = 0; k0 < j->w->n_col; k0 += PLAIN_CHUNK)
            plain_task(j, p, k0, t0, 1, (struct plain_x){ x + k0, j->a->stride });
}

static void panels(struct job *j, size_t from, size_t to)
{
    for (size_t t0 = 0; t0 < j->a->n_tok; t0 += TOKEN_TILE) {
        size_t n = j->a->n_tok - t0 < TOKEN_TILE ? j->a->n_tok - t0 : TOKEN_TILE;
        if (!dtype_is_plain(j->w->type)) {
            for (size_t p = from; p < to; p++)
                block_task(j, p, t0, n);
        } else if (n == 1) {
            plain_token(j, from, to, t0);
        } else {
            plain_tokens(j, from, to, t0, n);
        }
    }
}

static void panels_task(void *arg, size_t task, unsigned worker)
{
    (void)worker;
    struct job *j = arg;
    size_t from = task * j->per_task, to = from + j->per_task;
    panels(j, from, to < j->n_panel ? to : j->n_panel);
}

/* The int8 view, where the type wants one. */
static void prepare(struct job *j, struct pool *pool)
{
    struct acts *a = j->a;
    if (dtype_is_plain(j->w->type))
        return;
    assert(acts_layout(a->n_tok, a->n_col, NULL, NULL) <= a->store_bytes);
    acts_layout(a->n_tok, a->n_col, a->store, &j->q);
    if (!a->quantised)
        pool_run(a->n_tok * a->n_col < INLINE_MACS ? NULL : pool, a->n_tok, quantise_task, j);
    a->quantised = true;
}

void matmul(const struct kernels *k, struct pool *pool, const struct matrix *w, struct acts *a,
            float *y, /* NOLINT(readability-non-const-parameter): the tasks write it */
            size_t y_stride)
{
    assert(a->n_col == w->n_col && w->data);
    struct job j = { .k = k, .w = w, .a = a, .y = y, .y_stride = y_stride };
    prepare(&j, pool);
    j.panel_bytes = dtype_row_bytes(w->type, w->n_col) * PANEL_ROWS;
    j.n_panel = matrix_panels(w->n_row);
    bool small = (double)w->n_row * w->n_col * (double)a->n_tok < INLINE_MACS;
    size_t tasks = small ? 1 : (size_t)pool_threads(pool) * TASKS_PER_THREAD;
    j.per_task = (j.n_panel + tasks - 1) / tasks;
    pool_run(small ? NULL : pool, (j.n_panel + j.per_task - 1) / j.per_task, panels_task, &j);
}

/* ---- rows as they come from a file ---- */

struct rows_job {
    const struct kernels *k;
    const struct rows_product *r;
    struct job shape; /* of the whole: the activations, and how panels are grouped */
};

static void rows_task(void *arg, size_t task, unsigned worker)
{
    const struct rows_job *rj = arg;
    const struct rows_product *r = rj->r;
    size_t from = task * rj->shape.per_task, row = dtype_row_bytes(r->w.type, r->w.n_col);
    size_t n = rj->shape.n_panel - from < rj->shape.per_task ? rj->shape.n_panel - from
                                                             : rj->shape.per_task;
    uint8_t *packed = r->scratch + worker * r->scratch_stride;
    uint32_t row0 = (uint32_t)(from * PANEL_ROWS), left = r->w.n_row - row0;
    for (size_t p = 0; p < n; p++) {
        uint32_t rows = left - (uint32_t)p * PANEL_ROWS;
        matrix_pack_panel(rj->k, r->w.type, r->w.n_col, rows < PANEL_ROWS ? rows : PANEL_ROWS,
                          (const uint8_t *)r->w.data + (row0 + p * PANEL_ROWS) * row,
                          packed + p * rj->shape.panel_bytes);
    }
    struct matrix w = { r->w.type, left < n * PANEL_ROWS ? left : (uint32_t)n * PANEL_ROWS,
                        r->w.n_col, packed };
    struct job j = rj->shape;
    j.w = &w;
    j.y += row0;
    panels(&j, 0, n);
}

/* A panel at least; more, where they are small, save visits to the activations. */
enum { ROWS_SCRATCH = 256 << 10 };

size_t matmul_rows_scratch(enum dtype type, uint32_t n_col)
{
    size_t panel = dtype_row_bytes(type, n_col) * PANEL_ROWS;
    return num_align(panel > ROWS_SCRATCH ? panel : ROWS_SCRATCH, 64);
}

void matmul_rows(const struct kernels *k, struct pool *pool, const struct rows_product *r)
{
    assert(r->acts->n_col == r->w.n_col && r->w.data);
    struct rows_job j = {
        .k = k,
        .r = r,
        .shape = { .k = k, .w = &r->w, .a = r->acts, .y = r->y, .y_stride = r->y_stride }
    };
    prepare(&j.shape, pool);
    j.shape.panel_bytes = dtype_row_bytes(r->w.type, r->w.n_col) * PANEL_ROWS;
    j.shape.n_panel = matrix_panels(r->w.n_row);
    size_t fit = r->scratch_stride / j.shape.panel_bytes;
    size_t fair = j.shape.n_panel / (pool_threads(pool) * 2) + 1;
    assert(fit);
    /* One token: small tasks, so that no thread waits for another's last panels. */
    j.shape.per_task = r->acts->n_tok == 1 ? 1 : fit < fair ? fit : fair;
    pool_run(pool, (j.shape.n_panel + j.shape.per_task - 1) / j.shape.per_task, rows_task, &j);
}
