/* engine/kernel/sparse.c - see sparse.h. One token's products take rows where they lie; more tokens
 * share a panel that the thread gathers first. Sums of down vectors split the vector's elements
 * over threads, never a sum. */
#include "engine/kernel/sparse.h"

#include "engine/base/num.h"
#include "engine/kernel/internal.h"

enum {
    DOWN_WIDE = 256,   /* elements per task: 256 sums stay in the first-level cache */
    DOWN_SLAB = 64,    /* of block types and many tokens: elements converted to f32 at a time */
    CONVERT_TOKENS = 4 /* from so many tokens on, half floats are converted once, not per token */
};

size_t picked_scratch(enum dtype type, uint32_t n_col)
{
    return num_align(dtype_row_bytes(type, n_col) * PANEL_ROWS, 64);
}

struct picked_job {
    const struct kernels *k;
    const struct picked_rows *p;
    struct product_view *view;
    bool in_place; /* one token, a plain type: no panel is made */
};

static void picked_task(void *arg, size_t i, unsigned worker)
{
    const struct picked_job *j = arg;
    const struct picked_rows *p = j->p;
    uint32_t from = (uint32_t)i * PANEL_ROWS;
    uint32_t n = p->n_row - from < PANEL_ROWS ? p->n_row - from : PANEL_ROWS;
    const uint8_t *row[PANEL_ROWS];
    for (uint32_t r = 0; r < PANEL_ROWS; r++) /* a last panel repeats a row: whole ones are fast */
        row[r] = p->row[r < n ? from + r : from];
    if (j->in_place) {
        _Alignas(64) float y[PANEL_ROWS];
        j->k->plain_rows(&(struct rows_job){ p->type, row, p->acts->x, p->n_col, y });
        memcpy(p->y + from, y, n * sizeof *y);
        return;
    }
    uint8_t *packed = p->scratch + worker * p->scratch_stride;
    matrix_pack_rows(p->type, p->n_col, PANEL_ROWS, row, packed);
    struct matrix w = { p->type, n, p->n_col, packed };
    product_panels(j->view, &w, p->y + from, p->y_stride);
}

void matmul_picked(const struct kernels *k, struct pool *pool, const struct picked_rows *p)
{
    assert(p->scratch_stride >= picked_scratch(p->type, p->n_col));
    if (p->n_row == 0 || p->acts->n_tok == 0)
        return;
    struct product_view view;
    product_view_make(k, pool, p->type, p->acts, &view);
    bool in_place = dtype_is_plain(p->type) && p->acts->n_tok == 1 && p->n_col % PANEL_ROWS == 0;
    struct picked_job j = { k, p, &view, in_place };
    pool_run(pool, (p->n_row + PANEL_ROWS - 1) / PANEL_ROWS, picked_task, &j);
}

/* ---- down ---- */

struct down_job {
    const struct kernels *k;
    const struct down_picked *d;
    size_t wide;
    bool convert;
};

/* Picks from..to, all of one chunk. */
struct range {
    uint32_t from, to;
};

static struct range next_chunk(const struct down_picked *d, uint32_t from)
{
    uint32_t chunk = d->neuron[from] / PLAIN_CHUNK, to = from + 1;
    while (to < d->n && d->neuron[to] / PLAIN_CHUNK == chunk)
        to++;
    return (struct range){ from, to };
}

/* The picks of a chunk that token t uses; returns how many. */
static size_t used(const struct down_picked *d, struct range c, size_t t, float *h, uint32_t *pick)
{
    size_t n = 0;
    const float *row = d->h + t * d->h_stride;
    for (uint32_t i = c.from; i < c.to; i++)
        if (row[i] != 0) {
            h[n] = row[i];
            pick[n++] = i;
        }
    return n;
}

static void add_chunk(const struct down_job *j, struct range c, size_t at, size_t n, float *slab)
{
    const struct down_picked *d = j->d;
    _Alignas(64) float acc[DOWN_WIDE];
    float h[PLAIN_CHUNK];
    uint32_t pick[PLAIN_CHUNK];
    const uint8_t *vec[PLAIN_CHUNK];
    size_t block = dtype_info((uint32_t)d->type)->block_elems;
    size_t byte = at / block * dtype_info((uint32_t)d->type)->block_bytes;
    for (uint32_t i = c.from; j->convert && i < c.to; i++)
        dtype_to_f32(d->type, d->vec[i] + byte, slab + (size_t)(i - c.from) * n, n);
    for (size_t t = 0; t < d->n_tok; t++) {
        size_t n_used = used(d, c, t, h, pick);
        if (n_used == 0)
            continue;
        for (size_t i = 0; i < n_used; i++)
            vec[i] = j->convert ? (const uint8_t *)(slab + (size_t)(pick[i] - c.from) * n)
                                : d->vec[pick[i]];
        memset(acc, 0, n * sizeof *acc);
        j->k->scaled_sum(&(struct scaled_sum){ .acc = acc,
                                               .vec = vec,
                                               .h = h,
                                               .n_vec = n_used,
                                               .at = j->convert ? 0 : at,
                                               .n = n,
                                               .type = j->convert ? DT_F32 : d->type });
        j->k->add(d->y + t * d->y_stride + at, acc, n);
    }
}

static void down_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    const struct down_job *j = arg;
    const struct down_picked *d = j->d;
    _Alignas(64) float slab[PLAIN_CHUNK * DOWN_SLAB];
    size_t at = i * j->wide, n = d->n_embd - at < j->wide ? d->n_embd - at : j->wide;
    for (uint32_t from = 0; from < d->n;) {
        struct range c = next_chunk(d, from);
        add_chunk(j, c, at, n, slab);
        from = c.to;
    }
}

void sum_down(const struct kernels *k, struct pool *pool, const struct down_picked *d)
{
    assert(d->n_embd % PANEL_ROWS == 0);
    if (d->n == 0 || d->n_tok == 0)
        return;
    struct down_job j = { .k = k, .d = d };
    j.convert = !dtype_is_plain(d->type) || (d->type != DT_F32 && d->n_tok >= CONVERT_TOKENS);
    size_t block = dtype_info((uint32_t)d->type)->block_elems;
    j.wide = j.convert ? DOWN_SLAB : DOWN_WIDE;
    j.wide = j.wide < block ? block : j.wide;
    pool_run(pool, (d->n_embd + j.wide - 1) / j.wide, down_task, &j);
}
