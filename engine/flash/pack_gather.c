/* engine/flash/pack_gather.c - the rows of a model's matrix, front to back, in the file's order or
 * in another. In the file's order a few megabytes are read at a time; in another, the rows of a
 * larger window are read by ascending place, those near each other together, so that a matrix is
 * swept a few times at most and each read is long where it can be. */
#include "engine/base/file.h"
#include "engine/flash/pack_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ_BYTES = 4 << 20,
    WINDOW_BYTES = 64 << 20, /* of a matrix in another order */
    GAP_BYTES = 64 << 10     /* read over: what a disk reads while it would seek */
};

enum status pack_read_at(const struct pack_reader *r, const struct tensor *t, uint64_t at,
                         void *dst, size_t n, struct err *err)
{
    const char *path = model_file(r->m, t->file);
    if (file_read_at(r->fd[t->file], dst, n, t->offset + at, NULL, err) == ST_OK)
        return ST_OK;
    return err_ctx(err, "'%s', tensor '%.*s'", path, (int)t->name.n, t->name.p);
}

enum status pack_gather_init(struct pack_gather *g, const struct pack_reader *r,
                             const struct tensor *t, const uint32_t *order, struct err *err)
{
    size_t row = dtype_row_bytes(t->type, t->n_col),
           cap = (order ? WINDOW_BYTES : READ_BYTES) / row;
    cap = cap < 1 ? 1 : cap > t->n_row ? t->n_row : cap;
    *g = (struct pack_gather){ .r = r, .t = t, .order = order, .row = row, .cap = (uint32_t)cap };
    g->read_cap = row > READ_BYTES ? row : READ_BYTES;
    g->rows = malloc(cap * row);
    if (order) {
        g->want = malloc(cap * sizeof *g->want);
        g->read = malloc(g->read_cap);
    }
    if (g->rows && (!order || (g->want && g->read)))
        return ST_OK;
    return err_set(err, ST_NOMEM, "rows of '%.*s'", (int)t->name.n, t->name.p);
}

void pack_gather_clear(struct pack_gather *g)
{
    free(g->rows);
    free(g->want);
    free(g->read);
}

static int earlier(const void *a, const void *b)
{
    const struct pack_want *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* How many wants, from the k-th, one read serves. */
static uint32_t group(const struct pack_gather *g, uint32_t k)
{
    const struct pack_want *w = g->want;
    uint32_t to = k + 1;
    while (to < g->n && (uint64_t)(w[to].row - w[to - 1].row - 1) * g->row <= GAP_BYTES &&
           (uint64_t)(w[to].row - w[k].row + 1) * g->row <= g->read_cap)
        to++;
    return to;
}

static enum status read_scattered(struct pack_gather *g, struct err *err)
{
    for (uint32_t i = 0; i < g->n; i++)
        g->want[i] = (struct pack_want){ g->order[g->from + i], i };
    qsort(g->want, g->n, sizeof *g->want, earlier);
    for (uint32_t k = 0, to; k < g->n; k = to) {
        uint64_t first = g->want[k].row;
        to = group(g, k);
        size_t n = (size_t)(g->want[to - 1].row - first + 1) * g->row;
        if (pack_read_at(g->r, g->t, first * g->row, g->read, n, err) != ST_OK)
            return err->code;
        for (uint32_t i = k; i < to; i++)
            memcpy(g->rows + g->want[i].to * g->row,
                   g->read + (size_t)(g->want[i].row - first) * g->row, g->row);
    }
    return ST_OK;
}

enum status pack_gather_row(struct pack_gather *g, uint32_t i, const uint8_t **ret, struct err *err)
{
    if (i < g->from || i - g->from >= g->n) {
        g->from = i;
        g->n = g->t->n_row - i < g->cap ? g->t->n_row - i : g->cap;
        enum status st = g->order ? read_scattered(g, err)
                                  : pack_read_at(g->r, g->t, (uint64_t)i * g->row, g->rows,
                                                 (size_t)g->n * g->row, err);
        if (st != ST_OK)
            return st;
    }
    *ret = g->rows + (size_t)(i - g->from) * g->row;
    return ST_OK;
}
