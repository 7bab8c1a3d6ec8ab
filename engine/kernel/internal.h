/* engine/kernel/internal.h - what the files of kernel/ share: the function table of a level, the
 * panel group and the quantised activations. Not for other layers. */
#ifndef STROBE_KERNEL_INTERNAL_H
#define STROBE_KERNEL_INTERNAL_H

#include "engine/kernel/attn.h"
#include "engine/kernel/dispatch.h"
#include "engine/kernel/matrix.h"
#include "engine/kernel/vector.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

enum {
    QK = 32,           /* elements of an activation block */
    GROUP_STEPS = 8,   /* QK / 4: vpdpbusd takes four elements */
    PLAIN_CHUNK = 256, /* k per partial sum of plain types */
    TOKEN_TILE = 128,  /* tokens whose activations stay in L2 */
    TOKEN_WIDE = 16    /* tokens side by side in the tiled view of activations */
};

/* Int8 view of n_tok tokens: block-major, so that a panel block meets all tokens in one stream.
 * q [n_block][n_tok][32]; all else [n_block][n_tok]: the scale d, and for all 32 columns (0), the
 * first (1) and second (2) sixteen: neg, minus the sum of q, and sx, d times the sum of q. */
struct acts_q {
    int8_t *q;
    float *d, *sx[3];
    int32_t *neg[3];
    size_t n_tok, n_block;
};

/* Thirty-two columns of a panel, unpacked: u[64s + 4r + j] is the unsigned weight of row r, column
 * 4s + j; w = scale[h][r] * (u - offset) + min[h][r], h: which sixteen (0 when the type has one
 * scale). u is store, or the panel itself where its bytes are already like this. */
struct group {
    _Alignas(64) uint8_t store[GROUP_STEPS * 4 * PANEL_ROWS];
    float scale[2][PANEL_ROWS], min[2][PANEL_ROWS];
    const uint8_t *u;
};

struct quant_traits {
    uint32_t groups; /* of 32 columns in one file block: 1 or 8 */
    uint32_t bits;   /* of an unsigned weight */
    uint32_t shift;  /* offset = 1 << shift; 0: none */
    bool halves;     /* own scale per 16 columns */
    bool has_min;
};
#define QUANT_Q8_0                                                                                 \
    {                                                                                              \
        .groups = 1, .bits = 8, .shift = 7                                                         \
    }
#define QUANT_Q4_0                                                                                 \
    {                                                                                              \
        .groups = 1, .bits = 4, .shift = 3                                                         \
    }
#define QUANT_Q5_0                                                                                 \
    {                                                                                              \
        .groups = 1, .bits = 5, .shift = 4                                                         \
    }
#define QUANT_Q4_1                                                                                 \
    {                                                                                              \
        .groups = 1, .bits = 4, .has_min = true                                                    \
    }
#define QUANT_Q5_1                                                                                 \
    {                                                                                              \
        .groups = 1, .bits = 5, .has_min = true                                                    \
    }
#define QUANT_Q2_K                                                                                 \
    {                                                                                              \
        .groups = 8, .bits = 2, .halves = true, .has_min = true                                    \
    }
#define QUANT_Q3_K                                                                                 \
    {                                                                                              \
        .groups = 8, .bits = 3, .shift = 2, .halves = true                                         \
    }
#define QUANT_Q4_K                                                                                 \
    {                                                                                              \
        .groups = 8, .bits = 4, .has_min = true                                                    \
    }
#define QUANT_Q5_K                                                                                 \
    {                                                                                              \
        .groups = 8, .bits = 5, .has_min = true                                                    \
    }
#define QUANT_Q6_K                                                                                 \
    {                                                                                              \
        .groups = 8, .bits = 6, .shift = 5, .halves = true                                         \
    }

/* One panel's products with tokens t0..t0+n. y is overwritten: f32 rows y_stride apart, first row
 * is token t0, PANEL_ROWS floats each (the caller gives a padded buffer for the last panel).
 * y_stride is PANEL_ROWS unless n is 1. */
struct block_job {
    enum dtype type;
    const uint8_t *panel;
    size_t block_stride; /* bytes of one file block of 16 rows */
    const struct acts_q *x;
    size_t t0, n;
    float *y;
    size_t y_stride;
};
/* One or two panels' products with n_tok <= TOKEN_WIDE tokens. */
struct plain_job {
    enum dtype type;
    const uint8_t *panel; /* at column k0, a multiple of PLAIN_CHUNK; the second panel_bytes on */
    size_t panel_bytes, n_panel;
    const float *x; /* tiled view at column k0: token t's column k at x[k * x_step + t] */
    size_t x_step, n_tok, n_k;
    float *y; /* the second panel's PANEL_ROWS rows follow the first's */
    size_t y_stride;
    bool first; /* overwrite y, else add */
};

/* See impl_sparse.inc: acc[i] += sum_v h[v] * vec[v][at + i], i < n (a multiple of 16), plain
 * types.
 */
struct scaled_sum {
    float *acc;
    const uint8_t *const *vec;
    const float *h;
    size_t n_vec, at, n;
    enum dtype type;
};

/* See impl_sparse.inc: y[r] = row[r] . x, sixteen rows of a plain type, with the bits of a panel's
 * product. n_k: a multiple of PANEL_ROWS. */
struct rows_job {
    enum dtype type;
    const uint8_t *const *row;
    const float *x;
    size_t n_k;
    float *y;
};

struct attn_job {
    struct attn_shape sh;
    const struct attn_seg *seg;
    const float *q;
    float *out;
    uint32_t kv_head, row, n_row; /* rows of the segment, relative to row0 */
    float *scratch;
};

struct kernels {
    enum cpu_level level;
    void (*block_panel)(const struct block_job *j);
    void (*plain_panel)(const struct plain_job *j);
    void (*plain_rows)(const struct rows_job *j);
    void (*scaled_sum)(const struct scaled_sum *j);
    uint32_t pair_tok; /* up to so many tokens plain_panel takes two panels */
    void (*quantise)(const float *x, size_t stride, struct acts_q *a, size_t t, size_t n);
    void (*tile_rows)(const float *x, size_t stride, size_t n, size_t n_col, float *dst);
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, size_t n,
                      float eps);
    void (*add)(float *y, const float *x, size_t n);
    void (*scale)(float *y, float s, size_t n);
    void (*mul)(float *y, const float *x, size_t n);
    void (*softcap)(float *y, float cap, size_t n);
    void (*act)(enum act_kind kind, float threshold, float *y, const float *x, size_t n);
    double (*logsumexp)(const float *x, size_t n);
    size_t (*argmax)(const float *x, size_t n);
    void (*rope)(float *x, size_t n_head, size_t d_head, size_t n_rot, const float *cs, bool neox);
    void (*to_f16)(uint16_t *dst, const float *src, size_t n);
    void (*attend)(const struct attn_job *j);
};

extern const struct kernels kernels_ref;
#ifdef STROBE_SIMD_AVX2
extern const struct kernels kernels_avx2;
#endif
#ifdef STROBE_SIMD_AVX512
extern const struct kernels kernels_avx512;
#endif

/* The activations in the view that a type needs, for products one panel at a time (matmul.c). */
struct product_view {
    const struct kernels *k;
    struct acts *a;
    struct acts_q q;
};
void product_view_make(const struct kernels *k, struct pool *pool, enum dtype type, struct acts *a,
                       struct product_view *ret);
/* y[t][r] of packed rows; w->type as for the view. On the calling thread. */
void product_panels(const struct product_view *v, const struct matrix *w, float *y,
                    size_t y_stride);

/* Traits of a block type; asserts that it is one. */
const struct quant_traits *quant_traits(enum dtype type);

#endif
