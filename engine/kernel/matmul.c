/* engine/kernel/matmul.c - splits a product into panel jobs: over threads by panels, inside a
 * thread by chunks of columns and tiles of tokens, so that activations stay in the second-level
 * cache and weights are read once. The order of sums per output is the same whatever the split. */
#include "engine/base/num.h"
#include "engine/kernel/internal.h"

enum {
    TASKS_PER_THREAD = 4,
    INLINE_MACS = 20000,         /* smaller products are not worth waking a thread */
    BLOCK_ACTS_BYTES = 384 << 10 /* of activations beside the weights in the second-level cache */
};

/* Bytes of the int8 view; lays it out in `store` when a is given. */
static size_t int8_layout(size_t n_tok, size_t n_col, void *store, struct acts_q *a)
{
    size_t cells = n_tok * (n_col / QK);
    uint8_t *p = store;
    size_t q = num_align(cells * QK, 64), f = num_align(cells * 4, 64);
    if (a) {
        *a = (struct acts_q){
            .q = (int8_t *)p, .d = (float *)(void *)(p + q), .n_tok = n_tok, .n_block = n_col / QK
        };
        for (size_t h = 0; h < 3; h++) {
            a->sx[h] = (float *)(void *)(p + q + (1 + h) * f);
            a->neg[h] = (int32_t *)(void *)(p + q + (4 + h) * f);
        }
    }
    return q + 7 * f;
}

size_t acts_bytes(size_t max_tok, size_t max_col)
{
    size_t cells;
    if (!num_mul(max_tok, max_col, &cells) || cells > SIZE_MAX / 16)
        return 0;
    size_t int8 = int8_layout(max_tok, max_col, NULL, NULL), tiled = cells * sizeof(float);
    return (int8 > tiled ? int8 : tiled) + 8 * 64;
}

void acts_set(struct acts *a, const float *x, size_t n_tok, size_t n_col, size_t stride)
{
    a->x = x;
    a->n_tok = n_tok;
    a->n_col = n_col;
    a->stride = stride;
    a->view = ACTS_FLOAT;
}

struct job {
    const struct kernels *k;
    const struct matrix *w;
    struct acts *a;
    struct acts_q q;
    float *y;
    size_t y_stride, panel_bytes, n_panel, per_task;
};

/* The tiles of tokens from..to: as few as fit TOKEN_WIDE, as equal as can be, since the time of a
 * narrow tile is hardly less than that of a wide one. Their layout in memory is that of tiles of
 * all tokens together. */
static size_t n_tiles(size_t n_tok)
{
    return (n_tok + TOKEN_WIDE - 1) / TOKEN_WIDE;
}
static size_t tile_start(size_t n_tok, size_t i)
{
    size_t n = n_tiles(n_tok), base = n_tok / n, rest = n_tok % n;
    return i * base + (i < rest ? i : rest);
}

static void tile_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    struct job *j = arg;
    const struct acts *a = j->a;
    size_t t = tile_start(a->n_tok, i), n = tile_start(a->n_tok, i + 1) - t;
    j->k->tile_rows(a->x + t * a->stride, a->stride, n, a->n_col, (float *)a->store + t * a->n_col);
}

enum { QUANT_TOKENS = 8 }; /* tokens per task: their cells of a block fill whole lines */

static void quantise_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    struct job *j = arg;
    size_t t = i * QUANT_TOKENS, left = j->a->n_tok - t;
    j->k->quantise(j->a->x + t * j->a->stride, j->a->stride, &j->q, t,
                   left < QUANT_TOKENS ? left : QUANT_TOKENS);
}

/* Makes the view of the activations that the matrix needs, unless the last product made it. */
static void make_view(struct job *j, struct pool *pool)
{
    struct acts *a = j->a;
    bool plain = dtype_is_plain(j->w->type);
    enum acts_view want = plain ? ACTS_TILED : ACTS_INT8;
    if (a->n_tok * a->n_col < INLINE_MACS)
        pool = NULL;
    if (plain && a->n_tok == 1)
        return;
    if (!plain) {
        assert(int8_layout(a->n_tok, a->n_col, NULL, NULL) <= a->store_bytes);
        int8_layout(a->n_tok, a->n_col, a->store, &j->q);
    }
    if (a->view == want)
        return;
    if (plain) {
        assert(a->n_tok * a->n_col * sizeof(float) <= a->store_bytes);
        pool_run(pool, n_tiles(a->n_tok), tile_task, j);
    } else {
        pool_run(pool, (a->n_tok + QUANT_TOKENS - 1) / QUANT_TOKENS, quantise_task, j);
    }
    a->view = want;
}

/* The last panel may be wider than the matrix, and rows of y often lie a multiple of 4 KiB apart,
 * where they share cache sets: a panel is computed aside and copied. */
static void copy_rows(float *y, size_t y_stride, const float *tile, size_t n_tok, size_t n_row)
{
    for (size_t t = 0; t < n_tok; t++)
        memcpy(y + t * y_stride, tile + t * PANEL_ROWS, n_row * sizeof *y);
}

static size_t rows_left(const struct job *j, size_t p)
{
    size_t left = j->w->n_row - p * PANEL_ROWS;
    return left < PANEL_ROWS ? left : PANEL_ROWS;
}

static const uint8_t *panel_at(const struct job *j, size_t p)
{
    return (const uint8_t *)j->w->data + p * j->panel_bytes;
}

static void block_task(struct job *j, size_t p, size_t t0, size_t n)
{
    const struct dtype_info *info = dtype_info((uint32_t)j->w->type);
    _Alignas(64) float tile[TOKEN_TILE * PANEL_ROWS];
    float *y = j->y + t0 * j->y_stride + p * PANEL_ROWS;
    bool direct = rows_left(j, p) == PANEL_ROWS && n == 1;
    struct block_job b = { .type = j->w->type,
                           .panel = panel_at(j, p),
                           .block_stride = (size_t)info->block_bytes * PANEL_ROWS,
                           .x = &j->q,
                           .t0 = t0,
                           .n = n,
                           .y = direct ? y : tile,
                           .y_stride = direct ? j->y_stride : PANEL_ROWS };
    j->k->block_panel(&b);
    if (!direct)
        copy_rows(y, j->y_stride, tile, n, rows_left(j, p));
}

/* All tokens with panels from..to; as many tokens at a time as leave their activations in the
 * second-level cache. */
static void block_panels(struct job *j, size_t from, size_t to)
{
    size_t n_tok = j->a->n_tok, wide = BLOCK_ACTS_BYTES / j->a->n_col / 8 * 8;
    wide = wide < 32 ? 32 : wide > TOKEN_TILE ? TOKEN_TILE : wide;
    for (size_t t0 = 0; t0 < n_tok; t0 += wide)
        for (size_t p = from; p < to; p++)
            block_task(j, p, t0, n_tok - t0 < wide ? n_tok - t0 : wide);
}

struct span {
    size_t k0, n_k, t0, n_tok;
};

/* Columns k0.. of panels p, p + 1, .. with one tile of tokens. */
static void plain_task(struct job *j, size_t p, size_t n_panel, struct span s)
{
    _Alignas(64) float tile[TOKEN_WIDE * PANEL_ROWS];
    size_t elem = dtype_info((uint32_t)j->w->type)->block_bytes;
    float *y = j->y + s.t0 * j->y_stride + p * PANEL_ROWS;
    bool whole = rows_left(j, p + n_panel - 1) == PANEL_ROWS;
    const float *x = s.n_tok == j->a->n_tok && s.n_tok == 1
                         ? j->a->x
                         : (const float *)j->a->store + s.t0 * j->a->n_col;
    struct plain_job b = { .type = j->w->type,
                           .panel = panel_at(j, p) + s.k0 * PANEL_ROWS * elem,
                           .panel_bytes = j->panel_bytes,
                           .n_panel = n_panel,
                           .x = x + s.k0 * s.n_tok,
                           .x_step = s.n_tok,
                           .n_tok = s.n_tok,
                           .n_k = s.n_k,
                           .y = whole ? y : tile,
                           .y_stride = whole ? j->y_stride : PANEL_ROWS,
                           .first = s.k0 == 0 };
    for (size_t t = 0; !whole && s.k0 && t < s.n_tok; t++)
        memcpy(tile + t * PANEL_ROWS, y + t * j->y_stride, rows_left(j, p) * sizeof *y);
    j->k->plain_panel(&b);
    if (!whole)
        copy_rows(y, j->y_stride, tile, s.n_tok, rows_left(j, p));
}

/* One tile of tokens (decode): panels are read whole, one after the other or two side by side. */
static void plain_few(struct job *j, size_t from, size_t to)
{
    struct span s = { 0, j->w->n_col, 0, j->a->n_tok };
    size_t p = from;
    for (; s.n_tok <= j->k->pair_tok && p + 2 <= to && rows_left(j, p + 1) == PANEL_ROWS; p += 2)
        plain_task(j, p, 2, s);
    for (; p < to; p++)
        plain_task(j, p, 1, s);
}

/* Many: a chunk of a panel stays in the first-level cache while the tiles of up to TOKEN_TILE
 * tokens pass. */
static void plain_many(struct job *j, size_t from, size_t to)
{
    enum { TILES = TOKEN_TILE / TOKEN_WIDE };
    size_t n_tok = j->a->n_tok, n_col = j->w->n_col, all = n_tiles(n_tok);
    for (size_t i0 = 0; i0 < all; i0 += TILES)
        for (size_t k0 = 0; k0 < n_col; k0 += PLAIN_CHUNK)
            for (size_t p = from; p < to; p++)
                for (size_t i = i0; i < all && i < i0 + TILES; i++) {
                    size_t t = tile_start(n_tok, i), n = tile_start(n_tok, i + 1) - t;
                    size_t n_k = n_col - k0 < PLAIN_CHUNK ? n_col - k0 : PLAIN_CHUNK;
                    plain_task(j, p, 1, (struct span){ k0, n_k, t, n });
                }
}

static void panels(struct job *j, size_t from, size_t to)
{
    if (!dtype_is_plain(j->w->type))
        block_panels(j, from, to);
    else if (j->a->n_tok <= TOKEN_WIDE)
        plain_few(j, from, to);
    else
        plain_many(j, from, to);
}

static void panels_task(void *arg, size_t task, unsigned worker)
{
    (void)worker;
    struct job *j = arg;
    size_t from = task * j->per_task, to = from + j->per_task;
    panels(j, from, to < j->n_panel ? to : j->n_panel);
}

void matmul(const struct kernels *k, struct pool *pool, const struct matrix *w, struct acts *a,
            float *y, /* NOLINT(readability-non-const-parameter): the tasks write it */
            size_t y_stride)
{
    assert(a->n_col == w->n_col && w->data);
    if (a->n_tok == 0)
        return;
    struct job j = { .k = k, .w = w, .a = a, .y = y, .y_stride = y_stride };
    make_view(&j, pool);
    j.panel_bytes = dtype_row_bytes(w->type, w->n_col) * PANEL_ROWS;
    j.n_panel = matrix_panels(w->n_row);
    bool small = (double)w->n_row * w->n_col * (double)a->n_tok < INLINE_MACS;
    size_t tasks = small ? 1 : (size_t)pool_threads(pool) * TASKS_PER_THREAD;
    j.per_task = (j.n_panel + tasks - 1) / tasks;
    if (j.per_task > 1)
        j.per_task += j.per_task % 2; /* plain types take panels by twos */
    pool_run(small ? NULL : pool, (j.n_panel + j.per_task - 1) / j.per_task, panels_task, &j);
}

/* ---- one panel at a time ---- */

void product_view_make(const struct kernels *k, struct pool *pool, enum dtype type, struct acts *a,
                       struct product_view *ret)
{
    const struct matrix w = { type, 0, (uint32_t)a->n_col, NULL };
    struct job j = { .k = k, .w = &w, .a = a };
    make_view(&j, pool);
    *ret = (struct product_view){ k, a, j.q };
}

void product_panels(const struct product_view *v, const struct matrix *w,
                    float *y, /* NOLINT(readability-non-const-parameter): the panels write it */
                    size_t y_stride)
{
    struct job j = { .k = v->k, .w = w, .a = v->a, .q = v->q, .y = y, .y_stride = y_stride };
    j.panel_bytes = dtype_row_bytes(w->type, w->n_col) * PANEL_ROWS;
    panels(&j, 0, matrix_panels(w->n_row));
}

/* ---- rows as they come from a file ---- */

struct file_rows {
    const struct kernels *k;
    const struct rows_product *r;
    struct job shape; /* of the whole: the activations, and how panels are grouped */
};

static void rows_task(void *arg, size_t task, unsigned worker)
{
    const struct file_rows *rj = arg;
    const struct rows_product *r = rj->r;
    size_t from = task * rj->shape.per_task, row = dtype_row_bytes(r->w.type, r->w.n_col);
    size_t n = rj->shape.n_panel - from < rj->shape.per_task ? rj->shape.n_panel - from
                                                             : rj->shape.per_task;
    uint8_t *packed =
        r->keep ? r->keep + from * rj->shape.panel_bytes : r->scratch + worker * r->scratch_stride;
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
    if (r->acts->n_tok == 0)
        return;
    struct file_rows j = {
        .k = k,
        .r = r,
        .shape = { .k = k, .w = &r->w, .a = r->acts, .y = r->y, .y_stride = r->y_stride }
    };
    make_view(&j.shape, pool);
    j.shape.panel_bytes = dtype_row_bytes(r->w.type, r->w.n_col) * PANEL_ROWS;
    j.shape.n_panel = matrix_panels(r->w.n_row);
    size_t fit = r->scratch_stride / j.shape.panel_bytes;
    size_t fair = j.shape.n_panel / (pool_threads(pool) * 2) + 1;
    assert(fit);
    /* One token: small tasks, so that no thread waits for another's last panels. */
    j.shape.per_task = r->acts->n_tok == 1 ? 1 : fit < fair ? fit : fair;
    pool_run(pool, (j.shape.n_panel + j.shape.per_task - 1) / j.shape.per_task, rows_task, &j);
}
