/* engine/kernel/gemm_bf16_internal.h - what gemm_bf16.c asks of an implementation: packing and the
 * product of one tile. gemm_bf16_ref.c defines both in plain C, gemm_bf16_avx512.c repeats it bit
 * for bit. Not for other files than these and their tests.
 *
 * A word is two neighbours along k, the even one in its low half, each a bf16: the f32 rounded to
 * nearest even, denormals taken as zero of their sign, NaN made quiet. (Behind an odd k follows a
 * zero.) Rows of op(A) lie in panels of BF16_ROWS, columns of op(B) in panels of BF16_COLS: word
 * (x, pair) of a panel `width` wide is at [pair][x % width].
 *
 * The sum of one block of k, from acc = 0, pairs ascending, the odd product of a pair first:
 *   acc = fz(fma(a[2p+1], b[2p+1], acc));  acc = fz(fma(a[2p], b[2p], acc))
 * with fz(x) = x is denormal ? zero of its sign : x. This is the definition of VDPBF16PS, whatever
 * the rounding mode (Intel 64 and IA-32 Software Developer's Manual, volume 2; the order was also
 * confirmed on an AMD processor of family 26, which a test repeats). Then
 *   v = alpha * acc;  c = beta == 0 ? v : fma(beta, c, v)
 * in f32, denormals kept. A longer k is cut into blocks of bf16_depth(k), with beta 1 from the
 * second on. */
#ifndef STROBE_KERNEL_GEMM_BF16_INTERNAL_H
#define STROBE_KERNEL_GEMM_BF16_INTERNAL_H

#include "engine/kernel/gemm.h"

#include <stdint.h>

enum {
    BF16_ROWS = 8,   /* 8 x 48 sums fill 24 of 32 registers; 11 loads feed 24 instructions */
    BF16_COLS = 48,  /* three vectors */
    BF16_LANES = 16, /* words of a vector; packing works on so many x at a time */
    BF16_AHEAD = 8,  /* a tile fetches one line every so many pairs: a row of 2 x 8 floats */
    BF16_STEP = 32,  /* k of a packing step and what blocks of k are multiples of */
    BF16_DEPTH = 384 /* most k in a block: 36 KiB in a panel of B, a first-level cache */
};

/* n_x rows of op(A) or columns of op(B), n_k deep. Writes whole groups of BF16_LANES x, zeros
 * behind n_x. */
struct bf16_pack {
    const float *src; /* element (x = 0, k = 0) */
    size_t ld;        /* elements from row to row of the source */
    bool along_k;     /* a row of the source runs along k; else along x */
    size_t n_x, n_k;
    uint32_t *dst; /* the panel of x = 0, from the pair of k = 0 on; 64-byte aligned if width is
                      BF16_COLS */
    size_t width;  /* of a panel: BF16_ROWS or BF16_COLS */
    size_t stride; /* words from panel to panel */
};

/* C's part of rows x cols (up to BF16_ROWS x BF16_COLS) and one block of k. */
struct bf16_tile {
    const uint32_t *a, *b; /* a panel each */
    size_t n_pair;
    float *c;
    size_t ldc;
    unsigned rows, cols; /* at least 1 */
    float alpha, beta;
    /* Lines that will be wanted soon, fetched into the second-level cache while this tile computes:
     * one every BF16_AHEAD pairs, `step` bytes apart. NULL: none. */
    const char *ahead;
    size_t step;
};

struct bf16_ops {
    void (*pack)(const struct bf16_pack *p);
    void (*tile)(const struct bf16_tile *t);
};
extern const struct bf16_ops bf16_ref;
#ifdef STROBE_SIMD_BF16
extern const struct bf16_ops bf16_avx512;
#endif

/* k of every block but the last, a multiple of BF16_STEP; depends on k alone. */
size_t bf16_depth(size_t k);
/* gemm_bf16_create() with an implementation of the caller's choice. */
enum status bf16_create(const struct bf16_ops *ops, size_t m, size_t n, size_t k,
                        struct gemm_bf16 **ret, struct err *err);

#endif
