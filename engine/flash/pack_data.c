/* engine/flash/pack_data.c - the contents of a packed model's tensors, produced front to back.
 * Rows of the source come in the order that is asked for (pack_gather.c); a down matrix is read
 * once per layer and its columns are turned into vectors a chunk of neurons at a time. */
#include "engine/flash/pack_internal.h"
#include "engine/kernel/matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_NEURONS = 256, COPY_BYTES = 4 << 20 };

/* ---- tensors of the model, and what is derived from single rows ---- */

struct rows {
    float *f, *again; /* f32; decoded from the new type */
    uint8_t *out;
};

static void rows_clear(struct rows *w)
{
    free(w->f);
    free(w->again);
    free(w->out);
}

static enum status rows_init(struct rows *w, const struct tensor *t, enum dtype to, struct err *err)
{
    size_t n = t->n_col;
    *w = (struct rows){ malloc(n * sizeof(float)), malloc(n * sizeof(float)),
                        malloc(dtype_row_bytes(to, n)) };
    if (w->f && w->again && w->out)
        return ST_OK;
    return err_set(err, ST_NOMEM, "a row of '%.*s'", (int)t->name.n, t->name.p);
}

static enum status copy_raw(const struct pack_reader *r, const struct pack_tensor *t,
                            const struct pack_sink *sink, struct err *err)
{
    uint8_t *p = malloc(COPY_BYTES);
    if (!p)
        return err_set(err, ST_NOMEM, "copy buffer");
    for (uint64_t at = 0; at < t->src->bytes && err->code == ST_OK; at += COPY_BYTES) {
        size_t n = t->src->bytes - at < COPY_BYTES ? (size_t)(t->src->bytes - at) : COPY_BYTES;
        if (pack_read_at(r, t->src, at, p, n, err) == ST_OK)
            sink->put(sink->ctx, p, n, err);
    }
    free(p);
    return err->code;
}

/* The next float at or above x: norms are bounds. */
static float round_up(double x)
{
    float f = (float)x;
    return (double)f < x ? nextafterf(f, INFINITY) : f;
}

static float norm_of(const float *a, const float *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (b ? (double)b[i] : 0);
        s += d * d;
    }
    return round_up(sqrt(s) * (1 + 1e-12));
}

/* What becomes of one row of the source. */
static enum status put_made(const struct pack_tensor *t, const uint8_t *raw, struct rows *w,
                            const struct pack_sink *sink, struct err *err)
{
    const struct tensor *s = t->src;
    enum dtype to = t->kind == PACK_COPY ? (enum dtype)t->type : t->sketch_type;
    if (t->kind == PACK_COPY && to == s->type)
        return sink->put(sink->ctx, raw, dtype_row_bytes(to, s->n_col), err);
    dtype_to_f32(s->type, raw, w->f, s->n_col);
    float v = 0;
    if (t->kind == PACK_NORM) {
        v = norm_of(w->f, NULL, s->n_col);
    } else {
        dtype_from_f32(to, w->f, w->out, s->n_col);
        dtype_to_f32(to, w->out, w->again, s->n_col);
        v = t->kind == PACK_ERR ? norm_of(w->f, w->again, s->n_col) : 0;
    }
    if (t->kind == PACK_NORM || t->kind == PACK_ERR)
        return sink->put(sink->ctx, &v, sizeof v, err);
    return sink->put(sink->ctx, w->out, dtype_row_bytes(to, s->n_col), err);
}

static enum status each_row(const struct pack_reader *r, const struct pack_tensor *t,
                            const struct pack_sink *sink, struct err *err)
{
    enum dtype to = t->kind == PACK_COPY ? (enum dtype)t->type : t->sketch_type;
    struct pack_gather g = { 0 };
    struct rows w;
    const uint8_t *raw;
    if (rows_init(&w, t->src, to, err) == ST_OK)
        pack_gather_init(&g, r, t->src, t->order, err);
    for (uint32_t i = 0; i < t->src->n_row && err->code == ST_OK; i++)
        if (pack_gather_row(&g, i, &raw, err) == ST_OK)
            put_made(t, raw, &w, sink, err);
    pack_gather_clear(&g);
    rows_clear(&w);
    return err->code;
}

/* A vector with one element for each neuron. */
static enum status put_vector(const struct pack_reader *r, const struct pack_tensor *t,
                              const struct pack_sink *sink, struct err *err)
{
    size_t n = (size_t)t->src->bytes;
    uint8_t *p = malloc(n);
    if (!p)
        return err_set(err, ST_NOMEM, "'%s'", t->name);
    if (pack_read_at(r, t->src, 0, p, n, err) == ST_OK &&
        place_rows(t->order, t->src->n_col, p, n / t->src->n_col, err) == ST_OK)
        sink->put(sink->ctx, p, n, err);
    free(p);
    return err->code;
}

/* ---- bundles ---- */

struct packer {
    const struct bundle *b;
    const struct tensor *down;
    const uint32_t *order;        /* NULL: as in the model */
    struct pack_gather first, up; /* those that are in bundles */
    uint8_t *matrix;              /* the whole down matrix */
    float *row;                   /* a row of any of the matrices */
    float *vec;                   /* [CHUNK_NEURONS][n_embd] */
    uint8_t *out;
};

/* to[i] = column col[i] of a row of the down matrix. A block is decoded for each that lies in
 * another one than that before, or all of the row where that is less. */
static void pick(const struct packer *p, const uint8_t *row, const uint32_t *col, uint32_t n,
                 float *to)
{
    const struct tensor *d = p->down;
    const struct dtype_info *info = dtype_info((uint32_t)d->type);
    uint32_t size = info->block_elems, at = UINT32_MAX;
    bool all = (uint64_t)n * size >= d->n_col;
    if (all)
        dtype_to_f32(d->type, row, p->row, d->n_col);
    for (uint32_t i = 0; i < n; i++) {
        if (!all && col[i] / size != at) {
            at = col[i] / size;
            dtype_to_f32(d->type, row + (size_t)at * info->block_bytes, p->row, size);
        }
        to[i] = p->row[all ? col[i] : col[i] % size];
    }
}

/* Columns c0.. of the down matrix, in the order wanted, become rows of `vec`. */
static void turn(const struct packer *p, uint32_t c0, uint32_t n)
{
    const struct tensor *d = p->down;
    const struct dtype_info *info = dtype_info((uint32_t)d->type);
    size_t row = dtype_row_bytes(d->type, d->n_col);
    size_t at = c0 / info->block_elems * info->block_bytes;
    float one[CHUNK_NEURONS];
    for (uint32_t r = 0; r < d->n_row; r++) {
        if (p->order)
            pick(p, p->matrix + r * row, p->order + c0, n, one);
        else
            dtype_to_f32(d->type, p->matrix + r * row + at, one, n);
        for (uint32_t i = 0; i < n; i++)
            p->vec[(size_t)i * d->n_row + r] = one[i];
    }
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the row goes there */
static enum status put_row(const struct packer *p, struct pack_gather *g, uint32_t i, uint8_t *dst,
                           struct err *err)
{
    const struct tensor *t = g->t;
    const uint8_t *raw;
    if (pack_gather_row(g, i, &raw, err) != ST_OK)
        return err->code;
    if (t->type == p->b->row_type) {
        memcpy(dst, raw, g->row);
        return ST_OK;
    }
    dtype_to_f32(t->type, raw, p->row, t->n_col);
    dtype_from_f32(p->b->row_type, p->row, dst, t->n_col);
    return ST_OK;
}

static enum status put_chunk(struct packer *p, uint32_t c0, uint32_t n,
                             const struct pack_sink *sink, struct err *err)
{
    const struct bundle *b = p->b;
    turn(p, c0, n);
    memset(p->out, 0, (size_t)n * b->stride);
    for (uint32_t i = 0; i < n && err->code == ST_OK; i++) {
        uint8_t *bundle = p->out + (size_t)i * b->stride;
        if (p->first.t && put_row(p, &p->first, c0 + i, bundle + b->first_at, err) != ST_OK)
            break;
        if (p->up.t && put_row(p, &p->up, c0 + i, bundle + b->up_at, err) != ST_OK)
            break;
        dtype_from_f32(b->down_type, p->vec + (size_t)i * p->down->n_row, bundle + b->down_at,
                       p->down->n_row);
    }
    return err->code ? err->code : sink->put(sink->ctx, p->out, (size_t)n * b->stride, err);
}

static enum status packer_init(struct packer *p, const struct pack_reader *r, uint32_t layer,
                               struct err *err)
{
    const struct tensor *gate = model_find(r->m, TR_GATE, layer),
                        *up = model_find(r->m, TR_UP, layer), *down = p->down;
    uint32_t widest = down->n_row > down->n_col ? down->n_row : down->n_col;
    p->matrix = malloc((size_t)down->bytes);
    p->row = malloc(widest * sizeof(float));
    p->vec = malloc((size_t)CHUNK_NEURONS * down->n_row * sizeof(float));
    p->out = malloc((size_t)CHUNK_NEURONS * p->b->stride);
    if (!p->matrix || !p->row || !p->vec || !p->out)
        return err_set(err, ST_NOMEM, "layer %u", layer);
    if (bundle_has_first(p->b) &&
        pack_gather_init(&p->first, r, p->b->gated ? gate : up, p->order, err) != ST_OK)
        return err->code;
    return p->b->gated ? pack_gather_init(&p->up, r, up, p->order, err) : ST_OK;
}

static enum status put_bundles(const struct pack_reader *r, const struct bundle *b,
                               const struct pack_tensor *t, const struct pack_sink *sink,
                               struct err *err)
{
    const struct tensor *down = model_find(r->m, TR_DOWN, t->layer);
    struct packer p = { .b = b, .down = down, .order = t->order };
    if (packer_init(&p, r, t->layer, err) == ST_OK)
        pack_read_at(r, down, 0, p.matrix, (size_t)down->bytes, err);
    for (uint32_t c = 0; c < b->n_neuron && err->code == ST_OK; c += CHUNK_NEURONS)
        put_chunk(&p, c, b->n_neuron - c < CHUNK_NEURONS ? b->n_neuron - c : CHUNK_NEURONS, sink,
                  err);
    pack_gather_clear(&p.first);
    pack_gather_clear(&p.up);
    free(p.matrix);
    free(p.row);
    free(p.vec);
    free(p.out);
    return err->code;
}

enum status pack_data(const struct pack_reader *r, const struct bundle *b,
                      const struct pack_tensor *t, const struct pack_sink *sink, struct err *err)
{
    if (t->kind == PACK_BUNDLE)
        return put_bundles(r, b, t, sink, err);
    if (t->kind == PACK_DATA)
        return sink->put(sink->ctx, t->data, (size_t)t->bytes, err);
    if (t->order && t->src->role >= TR_MATRICES)
        return put_vector(r, t, sink, err);
    if (t->kind == PACK_COPY && !t->order && t->type == (uint32_t)t->src->type)
        return copy_raw(r, t, sink, err);
    return each_row(r, t, sink, err);
}
