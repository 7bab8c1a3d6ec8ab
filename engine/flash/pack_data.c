/* engine/flash/pack_data.c - the contents of a packed model's tensors, produced front to back.
 * Rows of the source are read whole; a down matrix is read once per layer and its columns are
 * turned into vectors a chunk of neurons at a time. */
#include "engine/base/num.h"
#include "engine/flash/pack_internal.h"
#include "engine/kernel/matrix.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_NEURONS = 256, COPY_BYTES = 4 << 20 };

static enum status read_at(const struct pack_reader *r, const struct tensor *t, uint64_t at,
                           void *dst, size_t n, struct err *err)
{
    char *p = dst;
    while (n > 0) {
        ssize_t got = pread(r->fd[t->file], p, n, (off_t)(t->offset + at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_sys(err, errno, "read");
            return err_ctx(err, "'%s'", model_file(r->m, t->file));
        }
        if (got == 0)
            return err_set(err, ST_FORMAT, "'%s' ends inside tensor '%.*s'",
                           model_file(r->m, t->file), (int)t->name.n, t->name.p);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return ST_OK;
}

/* ---- tensors of the model, and what is derived from single rows ---- */

struct rows {
    uint8_t *raw;     /* as in the file */
    float *f, *again; /* f32; decoded from the new type */
    uint8_t *out;
};

static void rows_clear(struct rows *w)
{
    free(w->raw);
    free(w->f);
    free(w->again);
    free(w->out);
}

static enum status rows_init(struct rows *w, const struct tensor *t, enum dtype to, struct err *err)
{
    size_t n = t->n_col;
    *w = (struct rows){ malloc(dtype_row_bytes(t->type, n)), malloc(n * sizeof(float)),
                        malloc(n * sizeof(float)), malloc(dtype_row_bytes(to, n)) };
    if (w->raw && w->f && w->again && w->out)
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
        if (read_at(r, t->src, at, p, n, err) == ST_OK)
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

static enum status each_row(const struct pack_reader *r, const struct pack_tensor *t,
                            const struct pack_sink *sink, struct err *err)
{
    const struct tensor *s = t->src;
    enum dtype to = t->kind == PACK_COPY ? (enum dtype)t->type : t->sketch_type;
    size_t row = dtype_row_bytes(s->type, s->n_col), out = dtype_row_bytes(to, s->n_col);
    struct rows w;
    enum status st = rows_init(&w, s, to, err);
    for (uint32_t i = 0; st == ST_OK && i < s->n_row && err->code == ST_OK; i++) {
        if (read_at(r, s, (uint64_t)i * row, w.raw, row, err) != ST_OK)
            break;
        dtype_to_f32(s->type, w.raw, w.f, s->n_col);
        float v = 0;
        if (t->kind == PACK_NORM) {
            v = norm_of(w.f, NULL, s->n_col);
        } else {
            dtype_from_f32(to, w.f, w.out, s->n_col);
            dtype_to_f32(to, w.out, w.again, s->n_col);
            v = t->kind == PACK_ERR ? norm_of(w.f, w.again, s->n_col) : 0;
        }
        if (t->kind == PACK_NORM || t->kind == PACK_ERR)
            sink->put(sink->ctx, &v, sizeof v, err);
        else
            sink->put(sink->ctx, w.out, out, err);
    }
    rows_clear(&w);
    return err->code;
}

/* ---- bundles ---- */

struct packer {
    const struct pack_reader *r;
    const struct bundle *b;
    const struct tensor *first, *up, *down; /* first: NULL when it stays outside */
    uint8_t *matrix;                        /* the whole down matrix */
    float *row;                             /* [CHUNK_NEURONS] of it, or a row of the others */
    float *vec;                             /* [CHUNK_NEURONS][n_embd] */
    uint8_t *raw, *out;
};

/* Columns c0.. of the down matrix become rows of `vec`. */
static void turn(const struct packer *p, uint32_t c0, uint32_t n)
{
    const struct tensor *d = p->down;
    const struct dtype_info *info = dtype_info((uint32_t)d->type);
    size_t row = dtype_row_bytes(d->type, d->n_col);
    size_t at = c0 / info->block_elems * info->block_bytes;
    for (uint32_t r = 0; r < d->n_row; r++) {
        dtype_to_f32(d->type, p->matrix + r * row + at, p->row, n);
        for (uint32_t i = 0; i < n; i++)
            p->vec[(size_t)i * d->n_row + r] = p->row[i];
    }
}

static enum status put_row(const struct packer *p, const struct tensor *t, uint32_t i, uint8_t *dst,
                           struct err *err)
{
    size_t row = dtype_row_bytes(t->type, t->n_col);
    bool same = t->type == p->b->row_type;
    if (read_at(p->r, t, (uint64_t)i * row, same ? dst : p->raw, row, err) != ST_OK || same)
        return err->code;
    dtype_to_f32(t->type, p->raw, p->row, t->n_col);
    dtype_from_f32(p->b->row_type, p->row, dst, t->n_col);
    return ST_OK;
}

static enum status put_chunk(const struct packer *p, uint32_t c0, uint32_t n,
                             const struct pack_sink *sink, struct err *err)
{
    const struct bundle *b = p->b;
    turn(p, c0, n);
    memset(p->out, 0, (size_t)n * b->stride);
    for (uint32_t i = 0; i < n && err->code == ST_OK; i++) {
        uint8_t *bundle = p->out + (size_t)i * b->stride;
        if (p->first && put_row(p, p->first, c0 + i, bundle + b->first_at, err) != ST_OK)
            break;
        if (p->up && put_row(p, p->up, c0 + i, bundle + b->up_at, err) != ST_OK)
            break;
        dtype_from_f32(b->down_type, p->vec + (size_t)i * p->down->n_row, bundle + b->down_at,
                       p->down->n_row);
    }
    return err->code ? err->code : sink->put(sink->ctx, p->out, (size_t)n * b->stride, err);
}

static enum status put_bundles(const struct pack_reader *r, const struct bundle *b, uint32_t layer,
                               const struct pack_sink *sink, struct err *err)
{
    const struct tensor *gate = model_find(r->m, TR_GATE, layer),
                        *up = model_find(r->m, TR_UP, layer),
                        *down = model_find(r->m, TR_DOWN, layer);
    struct packer p = { .r = r,
                        .b = b,
                        .first = !bundle_has_first(b) ? NULL
                                 : b->gated           ? gate
                                                      : up,
                        .up = b->gated ? up : NULL,
                        .down = down };
    size_t widest = down->n_row > CHUNK_NEURONS ? down->n_row : CHUNK_NEURONS;
    p.matrix = malloc((size_t)down->bytes);
    p.row = malloc(widest * sizeof(float));
    p.vec = malloc((size_t)CHUNK_NEURONS * down->n_row * sizeof(float));
    size_t raw_bytes = widest * sizeof(float); /* the widest type */
    p.raw = malloc(raw_bytes);
    p.out = malloc((size_t)CHUNK_NEURONS * b->stride);
    bool room = p.matrix && p.row && p.vec && p.raw && p.out;
    if (!room)
        err_set(err, ST_NOMEM, "layer %u", layer);
    else
        read_at(r, down, 0, p.matrix, (size_t)down->bytes, err);
    for (uint32_t c = 0; room && c < b->n_neuron && err->code == ST_OK; c += CHUNK_NEURONS)
        put_chunk(&p, c, b->n_neuron - c < CHUNK_NEURONS ? b->n_neuron - c : CHUNK_NEURONS, sink,
                  err);
    free(p.matrix);
    free(p.row);
    free(p.vec);
    free(p.raw);
    free(p.out);
    return err->code;
}

enum status pack_data(const struct pack_reader *r, const struct bundle *b,
                      const struct pack_tensor *t, const struct pack_sink *sink, struct err *err)
{
    if (t->kind == PACK_BUNDLE)
        return put_bundles(r, b, t->layer, sink, err);
    if (t->kind == PACK_DATA)
        return sink->put(sink->ctx, t->data, (size_t)t->bytes, err);
    if (t->kind == PACK_COPY && t->type == (uint32_t)t->src->type)
        return copy_raw(r, t, sink, err);
    return each_row(r, t, sink, err);
}
