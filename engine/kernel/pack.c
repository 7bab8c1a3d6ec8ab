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

/* ---- block types: a file block's fields, in panel order ---- */

enum how {
    COPY,
    SIGN, /* signed bytes: offset by 128, which makes them unsigned */
    HIGH  /* fifth bits: column k = 4s + j becomes bit s of byte j */
};
struct field {
    uint8_t at, unit, bytes, how; /* at: bytes from the file block's start */
};
struct layout {
    uint8_t n;
    struct field f[5];
};

static const struct layout *layout_of(enum dtype type)
{
    static const struct layout layouts[DT_ID_MAX] = {
        [DT_Q8_0] = { 2, { { 0, 2, 2, COPY }, { 2, 4, 32, SIGN } } },
        [DT_Q4_0] = { 2, { { 0, 2, 2, COPY }, { 2, 4, 16, COPY } } },
        [DT_Q4_1] = { 3, { { 0, 2, 2, COPY }, { 2, 2, 2, COPY }, { 4, 4, 16, COPY } } },
        [DT_Q5_0] = { 3, { { 0, 2, 2, COPY }, { 2, 4, 4, HIGH }, { 6, 4, 16, COPY } } },
        [DT_Q5_1] = { 4,
                      { { 0, 2, 2, COPY },
                        { 2, 2, 2, COPY },
                        { 4, 4, 4, HIGH },
                        { 8, 4, 16, COPY } } },
        [DT_Q2_K] = { 4,
                      { { 80, 2, 2, COPY },
                        { 82, 2, 2, COPY },
                        { 0, 4, 16, COPY },
                        { 16, 4, 64, COPY } } },
        [DT_Q3_K] = { 4,
                      { { 108, 2, 2, COPY },
                        { 96, 4, 12, COPY },
                        { 0, 4, 32, COPY },
                        { 32, 4, 64, COPY } } },
        [DT_Q4_K] = { 4,
                      { { 0, 2, 2, COPY },
                        { 2, 2, 2, COPY },
                        { 4, 4, 12, COPY },
                        { 16, 4, 128, COPY } } },
        [DT_Q5_K] = { 5,
                      { { 0, 2, 2, COPY },
                        { 2, 2, 2, COPY },
                        { 4, 4, 12, COPY },
                        { 16, 4, 32, COPY },
                        { 48, 4, 128, COPY } } },
        [DT_Q6_K] = { 4,
                      { { 208, 2, 2, COPY },
                        { 192, 4, 16, COPY },
                        { 128, 4, 64, COPY },
                        { 0, 4, 128, COPY } } },
    };
    assert(layouts[type].n); /* not a plain type */
    return &layouts[type];
}

static void convert(enum how how, uint8_t *p, unsigned bytes)
{
    uint32_t h, out = 0;
    for (unsigned i = 0; how == SIGN && i < bytes; i++)
        p[i] ^= 0x80;
    if (how != HIGH)
        return;
    memcpy(&h, p, 4);
    for (unsigned k = 0; k < QK; k++)
        out |= (h >> k & 1) << (8 * (k % 4) + k / 4);
    memcpy(p, &out, 4);
}

/* One field of row r: its units lie sixteen rows apart in the panel. */
static void put_field(const struct field *f, const uint8_t *src, uint8_t *dst, unsigned r)
{
    uint8_t v[128];
    memcpy(v, src + f->at, f->bytes);
    convert((enum how)f->how, v, f->bytes);
    for (unsigned i = 0; i < f->bytes; i += f->unit)
        memcpy(dst + (size_t)i * PANEL_ROWS + (size_t)f->unit * r, v + i, f->unit);
}

static void pack_block(enum dtype type, const uint8_t *src, uint8_t *dst, unsigned r)
{
    const struct layout *l = layout_of(type);
    for (unsigned i = 0; i < l->n; dst += (size_t)l->f[i].bytes * PANEL_ROWS, i++)
        put_field(&l->f[i], src, dst, r);
}

#ifdef __SSE2__
/* The field of sixteen rows, four rows by four words turned in registers at a time: packing must
 * keep up with a disk. */
static void put_words(const struct field *f, const uint8_t *const *row, size_t at, uint8_t *dst)
{
    __m128i flip = _mm_set1_epi8(f->how == SIGN ? (char)0x80 : 0);
    for (unsigned i = 0; i < f->bytes; i += 16)
        for (unsigned r = 0; r < PANEL_ROWS; r += 4) {
            __m128i a[4];
            for (unsigned k = 0; k < 4; k++)
                a[k] =
                    _mm_loadu_si128((const __m128i *)(const void *)(row[r + k] + at + f->at + i));
            __m128i lo0 = _mm_unpacklo_epi32(a[0], a[1]), hi0 = _mm_unpackhi_epi32(a[0], a[1]);
            __m128i lo1 = _mm_unpacklo_epi32(a[2], a[3]), hi1 = _mm_unpackhi_epi32(a[2], a[3]);
            a[0] = _mm_unpacklo_epi64(lo0, lo1);
            a[1] = _mm_unpackhi_epi64(lo0, lo1);
            a[2] = _mm_unpacklo_epi64(hi0, hi1);
            a[3] = _mm_unpackhi_epi64(hi0, hi1);
            uint8_t *to = dst + (size_t)i * PANEL_ROWS + (size_t)4 * r;
            for (unsigned k = 0; k < 4; k++)
                _mm_storeu_si128((__m128i *)(void *)(to + (size_t)k * 4 * PANEL_ROWS),
                                 _mm_xor_si128(a[k], flip));
        }
}
#endif

/* The block at byte `at` of n_valid rows. */
static void pack_blocks(enum dtype type, const uint8_t *const *row, size_t at, uint32_t n_valid,
                        uint8_t *dst)
{
    const struct layout *l = layout_of(type);
    for (unsigned i = 0; i < l->n; dst += (size_t)l->f[i].bytes * PANEL_ROWS, i++) {
        const struct field *f = &l->f[i];
#ifdef __SSE2__
        if (n_valid == PANEL_ROWS && f->unit == 4 && f->bytes % 16 == 0 && f->how != HIGH) {
            put_words(f, row, at, dst);
            continue;
        }
#endif
        for (uint32_t r = 0; r < n_valid; r++) {
            if (f->bytes == 2) /* scales: every 34 bytes of Q8_0 */
                memcpy(dst + 2 * (size_t)r, row[r] + at + f->at, 2);
            else
                put_field(f, row[r] + at, dst, r);
        }
    }
}

/* ---- plain types ---- */

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
        pack_blocks(type, row, b * t->block_bytes, n_valid, (uint8_t *)dst + b * stride);
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

struct matrix matrix_rows(const struct matrix *m, uint32_t from, uint32_t to)
{
    assert(from % PANEL_ROWS == 0 && from < to && to <= m->n_row);
    size_t skip = from * dtype_row_bytes(m->type, m->n_col);
    return (struct matrix){ m->type, to - from, m->n_col, (const uint8_t *)m->data + skip };
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
    const uint8_t *panel = matrix_rows(m, r - r % PANEL_ROWS, m->n_row).data;
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
