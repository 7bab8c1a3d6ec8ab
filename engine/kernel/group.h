/* engine/kernel/group.h - unpacking 32 columns of a panel block (see internal.h, struct group).
 * Panel layout of a block type: every per-row field of the file block becomes a field of 16 rows.
 * Half floats: 16 in a row. Bytes: in units of four consecutive bytes, sixteen rows side by side
 * (64 bytes), so that a 64-byte load holds the same four columns of every row. Q8_0's bytes are
 * stored with the top bit flipped (unsigned); the high bits of Q5_0 and Q5_1 are stored so that bit
 * s of byte j belongs to column 4s + j. Formulas: model-formats.md 2.2. Included once per level and
 * by pack.c, after the lanes: all work is on words of four bytes, sixteen rows at a time. */
#ifndef STROBE_KERNEL_GROUP_H
#define STROBE_KERNEL_GROUP_H

#include "engine/kernel/internal.h"

#define CHUNK  (4 * PANEL_ROWS)
#define ALWAYS static inline __attribute__((always_inline))

/* Bits from..from + width of every byte at p, moved to bit `to`; width and to are constants. */
ALWAYS vi byte_bits(const uint8_t *p, unsigned from, unsigned width, unsigned to)
{
    int32_t mask = (int32_t)(0x01010101u * ((1u << width) - 1));
    vi v = vi_and(vi_shr(vi_load(p), from), vi_set1(mask));
    return to ? vi_shl(v, to) : v;
}

/* Bits from..from + width of every word at p. */
ALWAYS vi word_bits(const uint8_t *p, unsigned from, unsigned width)
{
    return vi_and(vi_shr(vi_load(p), from), vi_set1((int32_t)((1u << width) - 1)));
}

ALWAYS vf half_row(const uint8_t *p)
{
    return vf_half((const uint16_t *)(const void *)p);
}

/* The four unsigned weights 4s..4s+3 of every row. `type` is a constant where speed matters. */
ALWAYS vi step_32(enum dtype type, const uint8_t *b, unsigned s)
{
    if (type == DT_Q8_0)
        return vi_load(b + 32 + CHUNK * s);
    bool five = type == DT_Q5_0 || type == DT_Q5_1;
    bool affine = type == DT_Q4_1 || type == DT_Q5_1;
    const uint8_t *high = b + 32 + (affine ? 32 : 0), *q = high + (five ? CHUNK : 0);
    vi u = byte_bits(q + CHUNK * (s & 3), s < 4 ? 0 : 4, 4, 0);
    return five ? vi_or(u, byte_bits(high, s, 1, 4)) : u;
}

ALWAYS vi group_step(enum dtype type, const uint8_t *b, unsigned j, unsigned s)
{
    const size_t c = CHUNK * s, half = (size_t)(j / 4) * GROUP_STEPS * CHUNK;
    switch (type) {
    case DT_Q2_K:
        return byte_bits(b + 320 + half + c, 2 * (j % 4), 2, 0);
    case DT_Q3_K:
        return vi_or(byte_bits(b + 736 + half + c, 2 * (j % 4), 2, 0),
                     byte_bits(b + 224 + c, j, 1, 2));
    case DT_Q4_K:
        return byte_bits(b + 256 + j / 2 * GROUP_STEPS * CHUNK + c, 4 * (j & 1), 4, 0);
    case DT_Q5_K:
        return vi_or(byte_bits(b + 768 + j / 2 * GROUP_STEPS * CHUNK + c, 4 * (j & 1), 4, 0),
                     byte_bits(b + 256 + c, j, 1, 4));
    case DT_Q6_K:
        return vi_or(byte_bits(b + 1312 + (size_t)(j / 4 * 2 + j % 2) * GROUP_STEPS * CHUNK + c,
                               j % 4 >= 2 ? 4 : 0, 4, 0),
                     byte_bits(b + 288 + half + c, 2 * (j % 4), 2, 4));
    default:
        return step_32(type, b, s);
    }
}

/* Scale and minimum of columns 32j + 16h of every row. */
struct scales {
    vf scale, min;
};

/* Six bits each, in sub-blocks of 32 (Q4_K, Q5_K): table K4 of model-formats.md. */
ALWAYS struct scales scales_k4(const uint8_t *b, unsigned j)
{
    const uint8_t *w = b + 64;
    unsigned t = 8 * (j & 3);
    vi s, m;
    if (j < 4) {
        s = word_bits(w, t, 6);
        m = word_bits(w + CHUNK, t, 6);
    } else {
        s = vi_or(word_bits(w + 2 * CHUNK, t, 4), vi_shl(word_bits(w, t + 6, 2), 4));
        m = vi_or(word_bits(w + 2 * CHUNK, t + 4, 4), vi_shl(word_bits(w + CHUNK, t + 6, 2), 4));
    }
    vf neg_dmin = vf_mul(half_row(b + 32), vf_set1(-1));
    return (struct scales){ vf_mul(half_row(b), vf_from_int(s)), vf_mul(neg_dmin, vf_from_int(m)) };
}

ALWAYS struct scales scales_q3_k(const uint8_t *b, unsigned k)
{
    const uint8_t *w = b + 32;
    unsigned at = 8 * (k % 4);
    vi lo = word_bits(w + CHUNK * (k % 8 / 4), at + (k < 8 ? 0 : 4), 4);
    vi hi = word_bits(w + 2 * CHUNK, at + 2 * (k / 4), 2);
    vi s = vi_sub(vi_or(lo, vi_shl(hi, 4)), vi_set1(32));
    return (struct scales){ vf_mul(half_row(b), vf_from_int(s)), vf_set1(0) };
}

ALWAYS struct scales group_scales(enum dtype type, const uint8_t *b, unsigned j, unsigned h)
{
    unsigned k = 2 * j + h, at = 8 * (k % 4);
    const size_t word = CHUNK * (k / 4);
    switch (type) {
    case DT_Q2_K: {
        vf s = vf_from_int(word_bits(b + 64 + word, at, 4));
        vf m = vf_from_int(word_bits(b + 64 + word, at + 4, 4));
        return (struct scales){ vf_mul(half_row(b), s),
                                vf_mul(vf_mul(half_row(b + 32), vf_set1(-1)), m) };
    }
    case DT_Q3_K:
        return scales_q3_k(b, k);
    case DT_Q4_K:
    case DT_Q5_K:
        return scales_k4(b, j);
    case DT_Q6_K: {
        vi s = vi_sra(vi_shl(vi_load(b + 32 + word), 24 - at), 24);
        return (struct scales){ vf_mul(half_row(b), vf_from_int(s)), vf_set1(0) };
    }
    default:
        return (struct scales){ half_row(b), type == DT_Q4_1 || type == DT_Q5_1 ? half_row(b + 32)
                                                                                : vf_set1(0) };
    }
}

/* Columns 32j..32j+31 of the block at b. */
ALWAYS void group_unpack(enum dtype type, const struct quant_traits t, const uint8_t *b, unsigned j,
                         struct group *g)
{
    g->u = type == DT_Q8_0 ? b + 32 : g->store;
    for (unsigned s = 0; type != DT_Q8_0 && s < GROUP_STEPS; s++)
        vi_store(g->store + CHUNK * s, group_step(type, b, j, s));
    for (unsigned h = 0; h < (t.halves ? 2 : 1); h++) {
        struct scales v = group_scales(type, b, j, h);
        vf_store(g->scale[h], v.scale);
        if (t.has_min)
            vf_store(g->min[h], v.min);
    }
}

#endif
