/* engine/kernel/impl_dot.h - panel products over the lanes of one level (included after a
 * lanes_*.h). Canonical order: see matrix.h. */
#include "engine/kernel/group.h"

#define ALWAYS static inline __attribute__((always_inline))

/* One group of one token: y += scale * d * (sum u q - offset sum q) + min * d * sum q. */
ALWAYS vf group_token(const struct group *g, const struct quant_traits t, const struct acts_q *a,
                      size_t at, bool wide, vf y)
{
    const int8_t *x = a->q + at * QK;
    const int32_t *neg = a->neg + 2 * at;
    vf d = vf_set1(a->d[at]);
    if (!t.halves) {
        vi acc = t.shift ? vi_shl(vi_set1(neg[0] + neg[1]), t.shift) : vi_set1(0);
        for (int s = 0; s < GROUP_STEPS; s++)
            acc = vi_dot4(acc, g->u[s], x + 4 * s, wide);
        y = vf_fma(vf_from_int(acc), vf_mul(vf_load(g->scale[0]), d), y);
        return t.has_min ? vf_fma(vf_load(g->min[0]), vf_set1(a->sx[at]), y) : y;
    }
    for (int h = 0; h < 2; h++) {
        vi acc = t.shift ? vi_shl(vi_set1(neg[h]), t.shift) : vi_set1(0);
        for (int s = 4 * h; s < 4 * h + 4; s++)
            acc = vi_dot4(acc, g->u[s], x + 4 * s, wide);
        y = vf_fma(vf_from_int(acc), vf_mul(vf_load(g->scale[h]), d), y);
        if (t.has_min)
            y = vf_fma(vf_load(g->min[h]), vf_set1(a->sxh[2 * at + (size_t)h]), y);
    }
    return y;
}

/* `type` and `t` are constants here, so that every branch on them is gone. */
ALWAYS void block_panel_of(const struct block_job *j, enum dtype type, const struct quant_traits t)
{
    const struct acts_q *a = j->x;
    struct group g;
    if (j->n == 1) { /* decode: the sum stays in registers */
        vf y = vf_load(j->y);
        for (size_t b = 0; b < a->n_block; b++) {
            group_unpack(type, j->panel + b / t.groups * j->block_stride, (unsigned)(b % t.groups),
                         &g);
            y = group_token(&g, t, a, b * a->n_tok + j->t0, type == DT_Q8_0, y);
        }
        vf_store(j->y, y);
        return;
    }
    for (size_t b = 0; b < a->n_block; b++) {
        group_unpack(type, j->panel + b / t.groups * j->block_stride, (unsigned)(b % t.groups), &g);
        for (size_t i = 0; i < j->n; i++) {
            float *y = j->y + i * j->y_stride;
            vf_store(y,
                     group_token(&g, t, a, b * a->n_tok + j->t0 + i, type == DT_Q8_0, vf_load(y)));
        }
    }
}

static void block_panel(const struct block_job *j)
{
    switch (j->type) {
    case DT_Q8_0:
        block_panel_of(j, DT_Q8_0, (struct quant_traits){ 1, 7, false, false });
        return;
    case DT_Q4_0:
        block_panel_of(j, DT_Q4_0, (struct quant_traits){ 1, 3, false, false });
        return;
    case DT_Q5_0:
        block_panel_of(j, DT_Q5_0, (struct quant_traits){ 1, 4, false, false });
        return;
    case DT_Q4_1:
        block_panel_of(j, DT_Q4_1, (struct quant_traits){ 1, 0, false, true });
        return;
    case DT_Q5_1:
        block_panel_of(j, DT_Q5_1, (struct quant_traits){ 1, 0, false, true });
        return;
    case DT_Q2_K:
        block_panel_of(j, DT_Q2_K, (struct quant_traits){ 8, 0, true, true });
        return;
    case DT_Q3_K:
        block_panel_of(j, DT_Q3_K, (struct quant_traits){ 8, 2, true, false });
        return;
    case DT_Q4_K:
        block_panel_of(j, DT_Q4_K, (struct quant_traits){ 8, 0, false, true });
        return;
    case DT_Q5_K:
        block_panel_of(j, DT_Q5_K, (struct quant_traits){ 8, 0, false, true });
        return;
    default:
        block_panel_of(j, DT_Q6_K, (struct quant_traits){ 8, 5, true, false });
    }
}

ALWAYS vf plain_load(enum dtype type, const uint8_t *p)
{
    if (type == DT_F32)
        return vf_load((const float *)(const void *)p);
    return type == DT_F16 ? vf_half((const uint16_t *)(const void *)p)
                          : vf_bf16((const uint16_t *)(const void *)p);
}

/* n tokens, a constant <= TILE: their sums stay in registers. */
ALWAYS void plain_tile(const struct plain_job *j, enum dtype type, size_t t0, const size_t n)
{
    const size_t step = (type == DT_F32 ? 4 : 2) * PANEL_ROWS;
    const float *x = j->x + t0 * j->x_stride;
    const uint8_t *w = j->panel;
    vf acc[TILE];
    for (size_t t = 0; t < n; t++)
        acc[t] = vf_set1(0);
    for (size_t k = 0; k < j->n_k; k++, w += step) {
        vf wk = plain_load(type, w);
#pragma GCC unroll 16
        for (size_t t = 0; t < n; t++)
            acc[t] = vf_fma(wk, vf_set1(x[t * j->x_stride + k]), acc[t]);
    }
#pragma GCC unroll 16
    for (size_t t = 0; t < n; t++) {
        float *y = j->y + (t0 + t) * j->y_stride;
        vf_store(y, j->first ? acc[t] : vf_add(vf_load(y), acc[t]));
    }
}

ALWAYS void plain_panel_of(const struct plain_job *j, enum dtype type)
{
    size_t t = 0;
    for (; t + TILE <= j->n_tok; t += TILE)
        plain_tile(j, type, t, TILE);
    for (; t + 4 <= j->n_tok; t += 4)
        plain_tile(j, type, t, 4);
    for (; t < j->n_tok; t++)
        plain_tile(j, type, t, 1);
}

static void plain_panel(const struct plain_job *j)
{
    if (j->type == DT_F32)
        plain_panel_of(j, DT_F32);
    else if (j->type == DT_F16)
        plain_panel_of(j, DT_F16);
    else
        plain_panel_of(j, DT_BF16);
}

/* Token t's n_block blocks. Rounds to nearest even by adding 1.5 * 2^23. */
static void quantise(const float *x, size_t n_block, struct acts_q *a, size_t t)
{
    for (size_t b = 0; b < n_block; b++, x += QK) {
        size_t at = b * a->n_tok + t;
        int8_t *q = a->q + at * QK;
        float top = 0;
        for (int i = 0; i < QK; i++)
            top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
        float d = top / 127, inv = top > 0 ? 127 / top : 0;
        int32_t sum[2] = { 0, 0 };
        for (int i = 0; i < QK; i++) {
            float r = x[i] * inv + 12582912.0f;
            int32_t bits;
            memcpy(&bits, &r, 4);
            q[i] = (int8_t)(bits - 0x4B400000);
        }
        for (int i = 0; i < 16; i++) {
            sum[0] += q[i];
            sum[1] += q[i + 16];
        }
        a->d[at] = d;
        a->sx[at] = d * (float)(sum[0] + sum[1]);
        for (int h = 0; h < 2; h++) {
            a->neg[2 * at + (size_t)h] = -sum[h];
            a->sxh[2 * at + (size_t)h] = d * (float)sum[h];
        }
    }
}
