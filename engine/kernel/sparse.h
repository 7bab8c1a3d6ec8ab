/* engine/kernel/sparse.h - products with a picked subset of a feed-forward layer's neurons, whose
 * weights lie apart (cache slots, read buffers).
 *
 * Canonical order: the sums of down_picked() are those of matmul() with the whole down matrix of a
 * plain type (matrix.h): neurons ascending inside chunks of 256 of the *whole* layer, chunk sums
 * added in order. A neuron whose activation is zero adds nothing, so the result depends neither on
 * which idle neurons were picked nor on where their weights lay (flash.md 5.4, exactness rule;
 * weights must be finite). Pure, any thread. */
#ifndef STROBE_KERNEL_SPARSE_H
#define STROBE_KERNEL_SPARSE_H

#include "engine/kernel/matrix.h"

/* y[t][i] = row[i] . x[t] with the bits of matmul() with a matrix that holds these rows. */
struct picked_rows {
    enum dtype type;
    uint32_t n_col, n_row;
    const uint8_t *const *row; /* [n_row] each as in a file, any alignment */
    struct acts *acts;
    float *y; /* f32 [n_tok] rows of n_row floats, y_stride apart */
    size_t y_stride;
    uint8_t *scratch;      /* pool_threads() areas of scratch_stride bytes, 64-byte aligned */
    size_t scratch_stride; /* a multiple of 64, at least picked_scratch() */
};
size_t picked_scratch(enum dtype type, uint32_t n_col);
void matmul_picked(const struct kernels *k, struct pool *pool, const struct picked_rows *p);

/* y[t] += sum_i h[t][i] * vec[i], chunk by chunk. A layer may be summed in several calls, as long
 * as each covers whole chunks and they come in ascending order; y starts as zeros. */
struct down_picked {
    enum dtype type;           /* of the vectors; any supported one */
    uint32_t n_embd;           /* elements of a vector; a multiple of 16 and of the type's block */
    uint32_t n;                /* neurons picked */
    const uint32_t *neuron;    /* [n] ascending: their places in the whole layer */
    const uint8_t *const *vec; /* [n] */
    const float *h;            /* f32 [n_tok] rows of n, h_stride apart */
    size_t h_stride, n_tok;
    float *y; /* f32 [n_tok, n_embd], y_stride apart */
    size_t y_stride;
};
void sum_down(const struct kernels *k, struct pool *pool, const struct down_picked *d);

#endif
