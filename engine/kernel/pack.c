/* engine/kernel/pack.c - rows to panels and back (layout: group.inc). */
#include "engine/kernel/internal.h"
// clang-format off
#include "engine/kernel/lanes_ref.inc"
#include "engine/kernel/group.inc"
// clang-format on

#include <assert.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

size_t matrix_bytes(enum dtype type, uint64_t n_row, uint64_t n_col)
{
    size_t row = dtype_row_bytes(type, n_col), bytes;
    uint64_t padded;
    if (row == 0 || n_row == 0 || n_row > UINT32_MAX - PANEL_ROWS || n_col > UINT32_MAX)
        return 0;
    padded = (n_row + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    return __builtin_mul_overflow(row, padded, &bytes) ? 0 : bytes;
}

/* One field of the file block: `bytes` bytes of every row, in units of `unit`. */
static const uint8_t *put_field(const uint8_t *src, uint8_t *dst, unsigned r, unsigned unit,
                                unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += unit)
        memcpy(dst + (size_t)i * PANEL_ROWS + (size_t)unit * r, src + i, unit);
    return src + bytes;
}

static void pack_q8_0(const uint8_t *src, uint8_t *dst, unsigned r)
{
    uint8_t q[QK];
    src = put_field(src, dst, r, 2, 2);
    for (int i = 0; i < QK; i++)
        q[i] = src[i] ^ 0x80;
    put_field(q, dst + 32, r, 4, QK);
}

/* Q4_0, Q4_1, Q5_0, Q5_1: n_half half floats, maybe 32 high bits, 16 bytes of nibbles. */
static void pack_nibbles(const uint8_t *src, uint8_t *dst, unsigned r, unsigned n_half, bool five)
{
    for (unsigned i = 0; i < n_half; i++, dst += 2 * PANEL_ROWS)
        src = put_field(src, dst, r, 2, 2);
    if (five) {
        uint32_t h, out = 0;
        memcpy(&h, src, 4);
        for (unsigned k = 0; k < QK; k++) /* column k = 4s + j: bit s of byte j */
            out |= (h >> k & 1) << (8 * (k % 4) + k / 4);
        put_field((const uint8_t *)&out, dst, r, 4, 4);
        src += 4;
        dst += CHUNK;
    }
    put_field(src, dst, r, 4, 16);
}

/* K-quants: fields in panel order, each from its offset in the file block. */
struct field {
    uint8_t at, unit, bytes;
};
static void pack_fields(const uint8_t *src, uint8_t *dst, unsigned r, const struct field *f,
                        unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        put_field(src + f[i].at, dst, r, f[i].unit, f[i].bytes);
        dst += (size_t)f[i].bytes * PANEL_ROWS;
    }
}

static void pack_block(enum dtype type, const uint8_t *src, uint8_t *dst, unsigned r)
{
    static const struct field q2k[] = { { 80, 2, 2 }, { 82, 2, 2 }, { 0, 4, 16 }, { 16, 4, 64 } };
    static const struct field q3k[] = { { 108, 2, 2 }, { 96, 4, 12 }, { 0, 4, 32 }, { 32, 4, 64 } };
    static const struct field q4k[] = { { 0, 2, 2 }, { 2, 2, 2 }, { 4, 4, 12 }, { 16, 4, 128 } };
    static const struct field q5k[] = {
        { 0, 2, 2 }, { 2, 2, 2 }, { 4, 4, 12 }, { 16, 4, 32 }, { 48, 4, 128 }
    };
    static const struct field q6k[] = {
        { 208, 2, 2 }, { 192, 4, 16 }, { 128, 4, 64 }, { 0, 4, 128 }
    };
    switch (type) {
    case DT_Q8_0:
        pack_q8_0(src, dst, r);
        return;
    case DT_Q4_0:
    case DT_Q5_0:
        pack_nibbles(src, dst, r, 1, type == DT_Q5_0);
        return;
    case DT_Q4_1:
    case DT_Q5_1:
        pack_nibbles(src, dst, r, 2, type == DT_Q5_1);
        return;
    case DT_Q2_K:
        pack_fields(src, dst, r, q2k, 4);
        return;
    case DT_Q3_K:
        pack_fields(src, dst, r, q3k, 4);
        return;
    case DT_Q4_K:
        pack_fields(src, dst, r, q4k, 4);
        return;
    case DT_Q5_K:
        pack_fields(src, dst, r, q5k, 5);
        return;
    case DT_Q6_K:
        pack_fields(src, dst, r, q6k, 4);
        return;
    default:
        assert(!"pack_block: a plain type");
    }
}

/* Columns k0.. of 16 rows of 2- or 4-byte elements, column-interleaved, one element at a time. */
static void pack_columns(size_t elem, uint32_t n_col, uint32_t n_valid, uint32_t k0,
                         const uint8_t *const *row, uint8_t *dst)
{
    for (uint32_t k = k0; k < n_col; k++)
        for (uint32_t r = 0; r < n_valid; r++) {
            const uint8_t *s = row[r] + k * elem;
            uint8_t *d = dst + ((size_t)k * PANEL_ROWS + r) * elem;
            if (elem == 2)
                memcpy(d, s, 2);
            else
                memcpy(d, s, 4);
        }
}

#ifdef __SSE2__
/* Eight rows of eight 2-byte elements, transposed in registers: packing must keep up with a disk.
 */
static void transpose_8x8(const uint8_t *const *row, size_t at, uint8_t *dst, size_t step)
{
    __m128i a[8], b[8];
    for (int i = 0; i < 8; i++)
        a[i] = _mm_loadu_si128((const __m128i *)(const void *)(row[i] + at));
    for (int i = 0; i < 4; i++) {
        b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int h = 0; h < 2; h++) {
            a[4 * i + 2 * h] = _mm_unpacklo_epi32(b[4 * i + h], b[4 * i + 2 + h]);
            a[4 * i + 2 * h + 1] = _mm_unpackhi_epi32(b[4 * i + h], b[4 * i + 2 + h]);
        }
    for (int c = 0; c < 4; c++) {
        __m128i lo = _mm_unpacklo_epi64(a[c], a[4 + c]), hi = _mm_unpackhi_epi64(a[c], a[4 + c]);
        _mm_storeu_si128((__m128i *)(void *)(dst + (size_t)(2 * c) * step), lo);
        _mm_storeu_si128((__m128i *)(void *)(dst + (size_t)(2 * c + 1) * step), hi);
    }
}
#endif

static void pack_plain(size_t elem, uint32_t n_col, uint32_t n_valid, const uint8_t *const *row,
                       uint8_t *dst)
{
    uint32_t k = 0;
#ifdef __SSE2__
    for (; elem == 2 && n_valid == PANEL_ROWS && k + 8 <= n_col; k += 8)
        for (size_t half = 0; half < 2; half++)
            transpose_8x8(row + 8 * half, 2 * (size_t)k,
                          dst + (size_t)k * PANEL_ROWS * 2 + half * 16, PANEL_ROWS * 2);
#endif
    pack_columns(elem, n_col, n_valid, k, row, dst);
}

void matrix_pack_rows(enum dtype type, uint32_t n_col, uint32_t n_valid, const uint8_t *const *row,
                      void *dst)
{
    const struct dtype_info *t = dtype_info((uint32_t)type);
    size_t row_bytes = dtype_row_bytes(type, n_col);
    assert(row_bytes && n_valid >= 1 && n_valid <= PANEL_ROWS);
    if (n_valid < PANEL_ROWS)
        memset(dst, 0, row_bytes * PANEL_ROWS);
    if (dtype_is_plain(type)) {
        pack_plain(t->block_bytes, n_col, n_valid, row, dst);
        return;
    }
    size_t n_block = n_col / t->block_elems, stride = (size_t)t->block_bytes * PANEL_ROWS;
    for (size_t b = 0; b < n_block; b++)
        for (uint32_t r = 0; r < n_valid; r++)
            pack_block(type, row[r] + b * t->block_bytes, (uint8_t *)dst + b * stride, r);
}

void matrix_pack_panel(const struct kernels *k, enum dtype type, uint32_t n_col, uint32_t n_valid,
                       const void *src, void *dst)
{
    (void)k;
    const uint8_t *row[PANEL_ROWS];
    for (uint32_t r = 0; r < n_valid; r++)
        row[r] = (const uint8_t *)src + r * dtype_row_bytes(type, n_col);
    matrix_pack_rows(type, n_col, n_valid, row, dst);
}

static float plain_f32(enum dtype type, const uint8_t *p)
{
    uint32_t w = 0;
    float f;
    if (type == DT_F32) {
        memcpy(&f, p, 4);
        return f;
    }
    uint16_t h;
    memcpy(&h, p, 2);
    if (type == DT_F16)
        return f16_to_f32(h);
    w = (uint32_t)h << 16;
    memcpy(&f, &w, 4);
    return f;
}

const struct quant_traits *quant_traits(enum dtype type)
{
    static const struct quant_traits traits[DT_ID_MAX] = {
        [DT_Q8_0] = QUANT_Q8_0, [DT_Q4_0] = QUANT_Q4_0, [DT_Q5_0] = QUANT_Q5_0,
        [DT_Q4_1] = QUANT_Q4_1, [DT_Q5_1] = QUANT_Q5_1, [DT_Q2_K] = QUANT_Q2_K,
        [DT_Q3_K] = QUANT_Q3_K, [DT_Q4_K] = QUANT_Q4_K, [DT_Q5_K] = QUANT_Q5_K,
        [DT_Q6_K] = QUANT_Q6_K,
    };
    assert(traits[type].groups);
    return &traits[type];
}

/* Row r of one group. Products are rounded before the sum, as the file format's formula has it. */
static void group_row(const struct quant_traits *t, const struct group *g, uint32_t r, float *out)
{
    int offset = t->shift ? 1 << t->shift : 0;
    for (uint32_t i = 0; i < QK; i++) {
        uint32_t h = t->halves ? i / 16 : 0;
        float v = g->scale[h][r] * (float)((int)g->u[CHUNK * (i / 4) + 4 * r + i % 4] - offset);
        out[i] = t->has_min ? v + g->min[h][r] : v;
    }
}

void matrix_row(const struct kernels *k, const struct matrix *m, uint32_t r, float *out)
{
    (void)k;
    assert(r < m->n_row);
    const struct dtype_info *t = dtype_info((uint32_t)m->type);
    const uint8_t *panel =
        (const uint8_t *)m->data + r / PANEL_ROWS * PANEL_ROWS * dtype_row_bytes(m->type, m->n_col);
    r %= PANEL_ROWS;
    if (dtype_is_plain(m->type)) {
        for (size_t i = 0; i < m->n_col; i++)
            out[i] = plain_f32(m->type, panel + (i * PANEL_ROWS + r) * t->block_bytes);
        return;
    }
    const struct quant_traits *q = quant_traits(m->type);
    struct group g;
    for (size_t i = 0; i < m->n_col / QK; i++) {
        const uint8_t *block = panel + i / q->groups * t->block_bytes * PANEL_ROWS;
        group_unpack(m->type, *q, block, (unsigned)(i % q->groups), &g);
        group_row(q, &g, r, out + i * QK);
    }
}

void dtype_to_f32(enum dtype type, const void *src, float *dst, size_t n)
{
    const struct dtype_info *t = dtype_info((uint32_t)type);
    const uint8_t *s = src;
    assert(n % t->block_elems == 0);
    if (dtype_is_plain(type)) {
        for (size_t i = 0; i < n; i++)
            dst[i] = plain_f32(type, s + i * t->block_bytes);
        return;
    }
    _Alignas(64) uint8_t panel[PANEL_ROWS * 256] = { 0 };
    for (size_t b = 0; b < n / t->block_elems; b++) {
        struct matrix one = { type, 1, t->block_elems, panel };
        pack_block(type, s + b * t->block_bytes, panel, 0);
        matrix_row(0, &one, 0, dst + b * t->block_elems);
    }
}
