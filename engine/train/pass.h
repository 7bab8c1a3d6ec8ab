/* engine/train/pass.h - the row-wise and element-wise passes of training: everything that is not a
 * matrix product. One table of functions per instruction-set level (pass_get()), compiled from the
 * same sources; forward and backward of one operation are side by side. All arrays are row-major
 * and borrowed; functions are pure and run on the caller, ops_*.c divides rows over the pool. Rows
 * are independent unless a function says that it adds them up. */
#ifndef STROBE_TRAIN_PASS_H
#define STROBE_TRAIN_PASS_H

#include "engine/kernel/dispatch.h"
#include "engine/train/net.h"
#include "engine/train/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y = gain * (x - mean) / sqrt(var + eps) + bias, or x / sqrt(mean(x^2) + eps) * gain; then
 * max(0, .) where `relu`. x, y, dx, dy: [rows, d]; stat [rows, 2]: mean (0 for RMS), 1 / sqrt. */
struct pass_norm {
    size_t rows, d;
    enum net_norm kind;
    bool relu;
    real eps;
    const real *gain, *bias; /* [d]; bias: NET_LAYER only */
};

/* act = f(pre) * u, u = up or max(0, up); without `up` act = f(pre). All [n]. */
struct pass_act {
    enum net_act kind;
    bool up_relu;
    real shift;
    size_t rows, d;
    const real *bias, *up_bias; /* [d], forward: added to pre and up in place; NULL: none */
    real *pre, *up, *act;       /* [rows, d] */
    real *dact, *dup;           /* backward: dact becomes d/dpre, act is computed again */
};

/* Queries, keys and values as the product left them: bias added, heads rotated. */
struct pass_rope {
    size_t rows, width;   /* width of a row */
    size_t n_head;        /* heads that turn: the first ones of a row */
    size_t d_head;        /* even */
    const real *bias;     /* [width], forward only; NULL: none */
    const real *table;    /* [n_ctx, 2, d_head]: cos, cos of a pair; -sin, sin. NULL: no rotation */
    const int32_t *place; /* [rows]: which row of the table */
    bool back;            /* turns the other way: the derivative */
};

/* A tile of attention scores: query rows q0.. against keys k0..k0 + n_key of the same sequence. Row
 * r sees the keys from start[r] to q0 + r. */
struct pass_tile {
    size_t rows, q0, k0, n_key;
    const int32_t *start; /* [rows]: first key of the query's document */
    size_t ld;            /* from row to row of a tile */
    size_t d_head, ld_out;
    real scale;
};

struct passes {
    enum cpu_level level;

    void (*norm)(const struct pass_norm *a, const real *x, real *y, real *stat);
    /* dx += derivative; part [2, d]: d/dgain and d/dbias of these rows, overwritten. */
    void (*norm_back)(const struct pass_norm *a, const real *x, const real *stat, const real *dy,
                      real *dx, real *part);
    void (*act)(const struct pass_act *a);
    void (*act_back)(const struct pass_act *a);
    void (*rope)(const struct pass_rope *a, real *x);

    /* y [rows, d] = x [rows, d] + bias [d] (NULL: a copy) */
    void (*copy_bias)(real *y, const real *x, const real *bias, size_t rows, size_t d);
    void (*add)(real *y, const real *x, size_t n); /* y += x */
    void (*scale)(real *y, real by, size_t n);     /* y *= by */
    /* To bf16, nearest even (NaN stays one), and back, which is exact. */
    void (*narrow)(uint16_t *y, const real *x, size_t n);
    void (*widen)(real *y, const uint16_t *x, size_t n);
    real (*dot)(const real *a, const real *b, size_t n);
    /* sum[c] += x[0][c] + x[1][c] + ..., c < cols. Sixty-four rows at a time, then their sums. */
    void (*columns)(real *sum, const real *x, size_t rows, size_t cols, size_t ld);

    real (*max)(const real *x, size_t n); /* -infinity for none */
    /* Sum of e^(x - shift); `keep`: and x becomes that. */
    double (*exp_sum)(real *x, size_t n, real shift, bool keep);
    /* dp = p * (dp - sub) * by: the derivative of a softmax, `sub` the sum of p * dp */
    void (*softmax_back)(real *dp, const real *p, real sub, real by, size_t n);

    /* Online softmax, one tile: s [rows, ld] scores become e^(s - max), 0 where not seen; max and
     * sum [rows] go on from the tiles before; out [rows, d_head] is scaled down where max grew. */
    void (*tile)(const struct pass_tile *a, real *s, real *max, real *sum, real *out);
    /* s becomes probabilities e^(s - lse), dp [rows, ld] d/dscore: p (dp - sub) scale. lse, sub:
     * [rows]. */
    void (*tile_back)(const struct pass_tile *a, real *s, real *dp, const real *lse,
                      const real *sub);
};

/* The table for min(level, cpu_level_max(), what this build has); static storage, thread-safe. */
const struct passes *pass_get(enum cpu_level level);

#endif
