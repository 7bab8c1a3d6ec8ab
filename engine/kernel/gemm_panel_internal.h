/* engine/kernel/gemm_panel_internal.h - what gemm_panel.c asks of an implementation: packing and
 * the product of one tile. gemm_bf16_ref.c and gemm_f32_ref.c define both in plain C, the vector
 * files repeat them bit for bit. Not for other files than these and their tests.
 *
 * Rows of op(A) lie in panels of ops->rows, columns of op(B) in panels of ops->cols: word (x, w) of
 * a panel `width` wide is at [w][x % width].
 *
 * F32. A word is one number. The sum of one block of k, from acc = 0, k ascending:
 *   acc = fma(a[k], b[k], acc)
 *
 * BF16. A word is two neighbours along k, the even one in its low half, each a bf16: the f32
 * rounded to nearest even, denormals taken as zero of their sign, NaN made quiet. (Behind an odd k
 * follows a zero.) The sum of one block, from acc = 0, pairs ascending, the odd product first:
 *   acc = fz(fma(a[2p+1], b[2p+1], acc));  acc = fz(fma(a[2p], b[2p], acc))
 * with fz(x) = x is denormal ? zero of its sign : x. This is the definition of VDPBF16PS, whatever
 * the rounding mode (Intel 64 and IA-32 Software Developer's Manual, volume 2; the order was also
 * confirmed on an AMD processor of family 26, which a test repeats).
 *
 * Then, for both, in f32 with denormals kept,
 *   v = alpha * acc;  c = beta == 0 ? v : fma(beta, c, v)
 * where, in a first block with `from`, from + bias (rounded) stands for c.
 * A longer k is cut into blocks of panel_depth(k), with beta 1 from the second on. Nothing here
 * depends on the width of panels: all levels of a kind give the same bits. */
#ifndef STROBE_KERNEL_GEMM_PANEL_INTERNAL_H
#define STROBE_KERNEL_GEMM_PANEL_INTERNAL_H

#include "engine/kernel/dispatch.h"
#include "engine/kernel/gemm.h"

#include <stdint.h>

enum {
    PANEL_STEP = 32, /* k of a packing step and what blocks of k are multiples of */

    BF16_ROWS = 8,    /* 8 x 48 sums fill 24 of 32 registers; 11 loads feed 24 instructions */
    BF16_COLS = 48,   /* three vectors */
    BF16_LANES = 16,  /* words of a vector; packing works on so many x at a time */
    BF16_AHEAD = 8,   /* a tile fetches one line every so many pairs: a row of 2 x 8 floats */
    BF16_DEPTH = 384, /* most k in a block: 36 KiB in a panel of B, a first-level cache */

    F32_AHEAD = 16,  /* as many words to a line */
    F32_DEPTH = 192, /* 36 KiB; 256 and 384 measured the same within 5 % */
    AVX2_ROWS = 4,   /* 4 x 24 sums fill 12 of 16 registers */
    AVX2_COLS = 24
};

/* n_x rows of op(A) or columns of op(B), n_k deep. Writes whole groups of ops->unit x, zeros behind
 * n_x. */
struct panel_pack {
    const float *src; /* element (x = 0, k = 0) */
    size_t ld;        /* elements from row to row of the source */
    bool along_k;     /* a row of the source runs along k; else along x */
    size_t n_x, n_k;
    uint32_t *dst; /* the panel of x = 0, from the word of k = 0 on; 64-byte aligned if width is
                      ops->cols of an AVX-512 level */
    size_t width;  /* of a panel: ops->rows or ops->cols */
    size_t stride; /* words from panel to panel */
};

/* C's part of rows x cols (up to ops->rows x ops->cols) and one block of k. */
struct panel_tile {
    const uint32_t *a, *b; /* a panel each */
    size_t n_word;
    float *c;
    size_t ldc;
    unsigned rows, cols; /* at least 1 */
    float alpha, beta;
    const float *from,
        *bias; /* of the first block: stands for what lies in C; bias: NULL or [cols] */
    size_t ldfrom;
    /* Lines that will be wanted soon, fetched into the second-level cache while this tile computes:
     * one every BF16_AHEAD or F32_AHEAD words, `step` bytes apart. NULL: none. */
    const char *ahead;
    size_t step;
};

struct panel_ops {
    void (*pack)(const struct panel_pack *p);
    void (*tile)(const struct panel_tile *t);
    size_t rows, cols, unit; /* of a tile; see struct panel_pack */
    size_t per_word, depth;  /* k in a word; most k in a block */
};
extern const struct panel_ops bf16_ref, f32_ref;
#ifdef STROBE_SIMD_AVX2
extern const struct panel_ops f32_avx2;
#endif
#ifdef STROBE_SIMD_BF16
extern const struct panel_ops bf16_avx512, f32_avx512;
#endif
/* What computes F32 at min(level, the processor's); NULL: nothing that beats plain C. */
const struct panel_ops *f32_ops(enum cpu_level level);

/* k of every block but the last, a multiple of PANEL_STEP; depends on k alone. */
size_t panel_depth(const struct panel_ops *ops, size_t k);
/* Room for a product of m x n x k by so many threads, in words (0 threads: any number); false: more
 * than the address space. */
bool panel_words(const struct panel_ops *ops, const size_t mnk[3], size_t n_thread, size_t *ret);
size_t panel_bytes(size_t words);
enum status panel_create(const struct panel_ops *ops, size_t words, struct gemm_panel **ret,
                         struct err *err);

#endif
