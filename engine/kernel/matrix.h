/* engine/kernel/matrix.h - weight matrices and their products with activations.
 *
 * A file stores a weight row-major: n_row rows of n_col elements, each row dtype_row_bytes() long.
 * The engine stores it in panels of PANEL_ROWS rows: panel p holds rows 16p..16p+15 with the bytes
 * of the rows interleaved so that one vector lane is one row (layout per type: matrix_pack.c). A
 * panel takes exactly 16 * row_bytes, in the file's order of panels, so packing never needs more
 * room than the padded file bytes; rows past n_row in the last panel are zero.
 *
 * y[t][r] = sum_k w[r][k] * x[t][k]. Plain types (F32, F16, BF16): f32 fused multiply-adds, k
 * ascending inside chunks of 256, chunk sums added in order. Block types: activations are quantised
 * to int8 per 32 elements (d = max|x|/127), block sums are exact integers, blocks are combined in
 * ascending order by one fused multiply-add each (K-quants: one for the scale, one for the
 * minimum). The result of (t, r) does not depend on n_tok, threads or level. */
#ifndef STROBE_KERNEL_MATRIX_H
#define STROBE_KERNEL_MATRIX_H

#include "engine/base/pool.h"
#include "engine/kernel/dispatch.h"
#include "engine/kernel/dtype.h"

#include <stddef.h>
#include <stdint.h>

struct matrix {
    enum dtype type;
    uint32_t n_row, n_col;
    const void *data; /* panels, 64-byte aligned, borrowed; NULL: no such weight */
};

/* Bytes of the packed matrix (rows padded to a multiple of 16); 0: bad shape or overflow. */
size_t matrix_bytes(enum dtype type, uint64_t n_row, uint64_t n_col);
static inline uint32_t matrix_panels(uint64_t n_row)
{
    return (uint32_t)((n_row + PANEL_ROWS - 1) / PANEL_ROWS);
}
/* Rows from..to of m, the first of which begins a panel: a matrix that borrows m's data. */
struct matrix matrix_rows(const struct matrix *m, uint32_t from, uint32_t to);
/* Packs one panel: n_valid (1..16) rows at src (row-major, any alignment) to dst (16 * row_bytes,
 * 64-byte aligned). src and dst do not overlap. */
void matrix_pack_panel(const struct kernels *k, enum dtype type, uint32_t n_col, uint32_t n_valid,
                       const void *src, void *dst);
/* The same from rows that lie apart: row [n_valid]. */
void matrix_pack_rows(enum dtype type, uint32_t n_col, uint32_t n_valid, const uint8_t *const *row,
                      void *dst);
/* Dequantises row r (embedding look-up). out: f32 [n_col]. */
void matrix_row(const struct kernels *k, const struct matrix *m, uint32_t r, float *out);
/* Dequantises n elements of a row-major row (n a multiple of the block), for conversion of vectors.
 */
void dtype_to_f32(enum dtype type, const void *src, float *dst, size_t n);
/* Quantises for tests, benches and repacking; n a multiple of the block. Rules:
 * model-formats.md 2.4; K-quants by a plain min/max search. Plain types round to nearest even. */
void dtype_from_f32(enum dtype type, const float *src, void *dst, size_t n);

/* Activations of n_tok tokens as matmul wants them. The floats are borrowed; the view that a type
 * needs (int8 for block types; plain types: column-interleaved tiles of up to 16 tokens) is made by
 * the first product and reused until the next acts_set() or a product that needs the other. */
enum acts_view { ACTS_FLOAT, ACTS_INT8, ACTS_TILED };
struct acts {
    const float *x; /* f32 [n_tok, n_col] rows `stride` floats apart, borrowed */
    size_t n_tok, n_col, stride;
    enum acts_view view; /* what `store` holds */
    void *store;         /* acts_bytes() of caller's memory, 64-byte aligned */
    size_t store_bytes;
};
size_t acts_bytes(size_t max_tok, size_t max_col); /* 0: overflow */
void acts_set(struct acts *a, const float *x, size_t n_tok, size_t n_col, size_t stride);

/* y: f32 rows `y_stride` floats apart; y[t][r] is overwritten. a->n_col == w->n_col. The pool
 * splits panels. Shapes are the caller's to get right (asserted). */
void matmul(const struct kernels *k, struct pool *pool, const struct matrix *w, struct acts *a,
            float *y, size_t y_stride);

/* matmul() of rows as the file has them, with the same bits: each thread packs a few panels into
 * its scratch, which stays in its second-level cache, and multiplies there. */
struct rows_product {
    struct matrix w; /* data: row-major, any alignment */
    struct acts *acts;
    float *y;
    size_t y_stride;
    uint8_t *scratch;      /* pool_threads() areas of scratch_stride bytes, 64-byte aligned */
    size_t scratch_stride; /* a multiple of 64, at least matmul_rows_scratch() */
    uint8_t *keep;         /* the packed panels stay here, matrix_bytes() of them; NULL: nowhere */
};
size_t matmul_rows_scratch(enum dtype type, uint32_t n_col);
void matmul_rows(const struct kernels *k, struct pool *pool, const struct rows_product *r);

#endif
