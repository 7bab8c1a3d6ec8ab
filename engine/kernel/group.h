/* engine/kernel/group.h - unpacking 32 columns of a panel block (see internal.h, struct group).
 * Panel layout of a block type: every per-row field of the file block becomes a field of 16 rows.
 * Half floats: 16 in a row. Bytes: in units of four consecutive bytes, sixteen rows side by side
 * (64 bytes), so that a 64-byte load holds the same four columns of every row. Q8_0's bytes are
 * stored with the top bit flipped (unsigned); the high bits of Q5_0 and Q5_1 are stored so that bit
 * s of byte j belongs to column 4s + j. Formulas: model-formats.md 2.2. Included once per level,
 * after its lanes, and by pack.c without any. */
#ifndef STROBE_KERNEL_GROUP_H
#define STROBE_KERNEL_GROUP_H

#include "engine/kernel/internal.h"

#define CHUNK (4 * PANEL_ROWS)

static inline void half_row(const uint8_t *src, float *dst)
{
#ifdef STROBE_KERNEL_LANES_H
    /* Sixteen out-of-line conversions per 32 columns cost more than the products of one token. */
    vf_store(dst, vf_half((const uint16_t *)(const void *)src));
#else
    uint16_t h[PANEL_ROWS];
    memcpy(h, src, sizeof h);
    for (int r = 0; r < PANEL_ROWS; r++)
        dst[r] = f16_to_f32(h[r]);
#endif
}

static inline void low_nibbles(const uint8_t *q, uint8_t *u)
{
    for (int i = 0; i < CHUNK; i++)
        u[i] = q[i] & 15;
}

static inline void high_nibbles(const uint8_t *q, uint8_t *u)
{
    for (int i = 0; i < CHUNK; i++)
        u[i] = q[i] >> 4;
}

/* u |= ((bits >> from) & mask) << to, per byte. */
static inline void add_bits(const uint8_t *bits, unsigned from, unsigned mask, unsigned to,
                            uint8_t *u)
{
    for (int i = 0; i < CHUNK; i++)
        u[i] = (uint8_t)(u[i] | (((bits[i] >> from) & mask) << to));
}

static inline void take_bits(const uint8_t *bits, unsigned from, uint8_t *u)
{
    for (int i = 0; i < CHUNK; i++)
        u[i] = (bits[i] >> from) & 3;
}

/* Word `w` of the per-row scale bytes, as 16 integers. */
static inline void scale_words(const uint8_t *sc, unsigned w, uint32_t out[PANEL_ROWS])
{
    memcpy(out, sc + CHUNK * w, CHUNK);
}

static inline void unpack_32(enum dtype type, const uint8_t *b, struct group *g)
{
    half_row(b, g->scale[0]);
    bool five = type == DT_Q5_0 || type == DT_Q5_1;
    bool affine = type == DT_Q4_1 || type == DT_Q5_1;
    if (type == DT_Q8_0) {
        memcpy(g->u, b + 32, sizeof g->u);
        return;
    }
    if (affine)
        half_row(b + 32, g->min[0]);
    const uint8_t *high = b + 32 + (affine ? 32 : 0), *q = high + (five ? CHUNK : 0);
    for (int c = 0; c < 4; c++) {
        low_nibbles(q + CHUNK * c, g->u[c]);
        high_nibbles(q + CHUNK * c, g->u[c + 4]);
    }
    for (unsigned s = 0; five && s < GROUP_STEPS; s++)
        add_bits(high, s, 1, 4, g->u[s]);
}

/* Six-bit scale and minimum of sub-block j (Q4_K, Q5_K): table K4. */
static inline void scales_k4(const uint8_t *b, unsigned j, struct group *g)
{
    float d[PANEL_ROWS], dmin[PANEL_ROWS];
    uint32_t w0[PANEL_ROWS], w1[PANEL_ROWS], w2[PANEL_ROWS];
    half_row(b, d);
    half_row(b + 32, dmin);
    scale_words(b + 64, 0, w0);
    scale_words(b + 64, 1, w1);
    scale_words(b + 64, 2, w2);
    unsigned t = 8 * (j & 3);
    for (int r = 0; r < PANEL_ROWS; r++) {
        uint32_t s, m;
        if (j < 4) {
            s = w0[r] >> t & 63;
            m = w1[r] >> t & 63;
        } else {
            s = (w2[r] >> t & 15) | (w0[r] >> (t + 6) & 3) << 4;
            m = (w2[r] >> (t + 4) & 15) | (w1[r] >> (t + 6) & 3) << 4;
        }
        g->scale[0][r] = d[r] * (float)(int32_t)s;
        g->min[0][r] = -(dmin[r] * (float)(int32_t)m);
    }
}

static inline void unpack_q45_k(enum dtype type, const uint8_t *b, unsigned j, struct group *g)
{
    const uint8_t *high = b + 256, *q = b + 256 + (type == DT_Q5_K ? 8 * CHUNK : 0);
    q += (size_t)(j / 2) * GROUP_STEPS * CHUNK;
    scales_k4(b, j, g);
    for (int c = 0; c < GROUP_STEPS; c++) {
        if (j & 1)
            high_nibbles(q + CHUNK * c, g->u[c]);
        else
            low_nibbles(q + CHUNK * c, g->u[c]);
        if (type == DT_Q5_K)
            add_bits(high + CHUNK * c, j, 1, 4, g->u[c]);
    }
}

static inline void unpack_q6_k(const uint8_t *b, unsigned j, struct group *g)
{
    const uint8_t *sc = b + 32, *qh = b + 288 + (size_t)(j / 4) * 8 * CHUNK;
    const uint8_t *ql = b + 1312 + (size_t)(j / 4 * 2 + j % 2) * 8 * CHUNK;
    float d[PANEL_ROWS];
    half_row(b, d);
    for (int c = 0; c < GROUP_STEPS; c++) {
        if (j % 4 >= 2)
            high_nibbles(ql + CHUNK * c, g->u[c]);
        else
            low_nibbles(ql + CHUNK * c, g->u[c]);
        add_bits(qh + CHUNK * c, 2 * (j % 4), 3, 4, g->u[c]);
    }
    for (unsigned h = 0; h < 2; h++)
        for (int r = 0; r < PANEL_ROWS; r++) {
            unsigned k = 2 * j + h;
            g->scale[h][r] = d[r] * (float)(int8_t)sc[CHUNK * (k / 4) + 4 * r + k % 4];
        }
}

static inline void unpack_q3_k(const uint8_t *b, unsigned j, struct group *g)
{
    const uint8_t *sc = b + 32, *hm = b + 224, *q = b + 736 + (size_t)(j / 4) * 8 * CHUNK;
    float d[PANEL_ROWS];
    half_row(b, d);
    for (int c = 0; c < GROUP_STEPS; c++) {
        take_bits(q + CHUNK * c, 2 * (j % 4), g->u[c]);
        add_bits(hm + CHUNK * c, j, 1, 2, g->u[c]);
    }
    for (unsigned h = 0; h < 2; h++)
        for (int r = 0; r < PANEL_ROWS; r++) {
            unsigned k = 2 * j + h, lo_at = k % 8, hi_at = 8 + k % 4;
            unsigned lo = sc[CHUNK * (lo_at / 4) + 4 * r + lo_at % 4];
            unsigned hi = sc[CHUNK * (hi_at / 4) + 4 * r + hi_at % 4];
            int s = (int)((k < 8 ? lo & 15 : lo >> 4) | (hi >> (2 * (k / 4)) & 3) << 4) - 32;
            g->scale[h][r] = d[r] * (float)s;
        }
}

static inline void unpack_q2_k(const uint8_t *b, unsigned j, struct group *g)
{
    const uint8_t *sc = b + 64, *q = b + 320 + (size_t)(j / 4) * 8 * CHUNK;
    float d[PANEL_ROWS], dmin[PANEL_ROWS];
    half_row(b, d);
    half_row(b + 32, dmin);
    for (int c = 0; c < GROUP_STEPS; c++)
        take_bits(q + CHUNK * c, 2 * (j % 4), g->u[c]);
    for (unsigned h = 0; h < 2; h++)
        for (int r = 0; r < PANEL_ROWS; r++) {
            unsigned k = 2 * j + h, s = sc[CHUNK * (k / 4) + 4 * r + k % 4];
            g->scale[h][r] = d[r] * (float)(s & 15);
            g->min[h][r] = -(dmin[r] * (float)(s >> 4));
        }
}

/* Columns 32j..32j+31 of the block at b. `type` is a constant where speed matters. */
static inline void group_unpack(enum dtype type, const uint8_t *b, unsigned j, struct group *g)
{
    switch (type) {
    case DT_Q2_K:
        unpack_q2_k(b, j, g);
        return;
    case DT_Q3_K:
        unpack_q3_k(b, j, g);
        return;
    case DT_Q4_K:
    case DT_Q5_K:
        unpack_q45_k(type, b, j, g);
        return;
    case DT_Q6_K:
        unpack_q6_k(b, j, g);
        return;
    default:
        unpack_32(type, b, g);
    }
}

#endif
