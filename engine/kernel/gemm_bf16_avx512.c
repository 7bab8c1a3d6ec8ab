/* engine/kernel/gemm_bf16_avx512.c - bf16 packing and tiles with AVX-512 BF16. See
 * gemm_panel_internal.h for what they compute; the bits are gemm_bf16_ref.c's. */
#include "engine/kernel/gemm_avx512.inc"

enum {
    AHEAD = 64,            /* floats that packing prefetches ahead in each row of the source, or in
                              the rows that follow; past the end nothing happens */
    PAIRS = PANEL_STEP / 2 /* of a packing step */
};

/* The source's rows run along x: pairs of rows become words by one permutation. */
static void pack_across(const struct panel_pack *p)
{
    const __m512i zip = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (size_t k0 = 0; k0 < p->n_k; k0 += PANEL_STEP)
        for (size_t x = 0; x < p->n_x; x += BF16_LANES) {
            struct group g = group_at(p, x);
            size_t ahead = x + AHEAD < p->n_x ? AHEAD : PANEL_STEP * p->ld + AHEAD - p->n_x;
            __mmask16 valid = mask_of(p->n_x - x);
            for (size_t k = k0; k < p->n_k && k < k0 + PANEL_STEP; k += 2) {
                const float *row = p->src + k * p->ld + x;
                bool both = k + 1 < p->n_k;
                const float *next = both ? row + p->ld : row;
                _mm_prefetch((const char *)(row + ahead), _MM_HINT_T0);
                _mm_prefetch((const char *)(next + ahead), _MM_HINT_T0);
                __m512 even = _mm512_maskz_loadu_ps(valid, row);
                __m512 odd = _mm512_maskz_loadu_ps(both ? valid : 0, next);
                __m512i w = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
                group_store(&g, k / 2, _mm512_permutexvar_epi16(zip, w));
            }
        }
}

/* Sixteen rows that run along k (zeros from n_x on), a step of up to 32 k: word p of row r. */
static inline void load_step(const float *src, size_t ld, size_t n_x, size_t n_k, size_t ahead,
                             __m512i w[16])
{
    __mmask16 lo = mask_of(n_k), hi = mask_of(n_k > 16 ? n_k - 16 : 0);
    UNROLL(16)
    for (size_t r = 0; r < 16; r++) {
        const float *row = src + (r < n_x ? r : 0) * ld;
        _mm_prefetch((const char *)(row + ahead), _MM_HINT_T0);
        _mm_prefetch((const char *)(row + ahead + 16), _MM_HINT_T0);
        __m512 a = _mm512_maskz_loadu_ps(r < n_x ? lo : 0, row);
        __m512 b = _mm512_maskz_loadu_ps(r < n_x ? hi : 0, row + 16);
        w[r] = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    }
}

static void pack_along(const struct panel_pack *p)
{
    for (size_t x = 0; x < p->n_x; x += BF16_LANES) {
        struct group g = group_at(p, x);
        for (size_t k = 0; k < p->n_k; k += PANEL_STEP) {
            size_t n_k = p->n_k - k, n_word = n_k < PANEL_STEP ? (n_k + 1) / 2 : PAIRS;
            __m512i w[16];
            load_step(p->src + x * p->ld + k, p->ld, p->n_x - x, n_k,
                      k + AHEAD < p->n_k ? AHEAD : 16 * p->ld + AHEAD - p->n_k, w);
            transpose(w);
            UNROLL(16)
            for (size_t i = 0; i < PAIRS; i++)
                if (i < n_word)
                    group_store(&g, k / 2 + i, w[i]);
        }
    }
}

static void pack_avx512(const struct panel_pack *p)
{
    if (p->along_k)
        pack_along(p);
    else
        pack_across(p);
}

/* One tile of up to n_vec vectors' columns; n_vec is a constant where this is inlined. */
static inline __attribute__((always_inline)) void tile_of(const struct panel_tile *t, int n_vec)
{
    __m512 acc[BF16_ROWS][VECS];
    UNROLL(8)
    for (int r = 0; r < BF16_ROWS; r++) {
        UNROLL(3)
        for (int v = 0; v < n_vec; v++)
            acc[r][v] = _mm512_setzero_ps();
    }
    for (unsigned r = 0; r < t->rows; r++)
        for (int v = 0; v < n_vec; v++)
            __builtin_prefetch(t->c + r * t->ldc + v * BF16_LANES, 1, 3);
    const uint32_t *a = t->a, *b = t->b;
    const char *ahead = t->ahead;
    for (size_t p = 0; p < t->n_word;) {
        size_t end = t->n_word - p < BF16_AHEAD ? t->n_word : p + BF16_AHEAD;
        if (ahead) {
            _mm_prefetch(ahead, _MM_HINT_T1);
            ahead += t->step;
        }
        for (; p < end; p++, a += BF16_ROWS, b += BF16_COLS) {
            __m512bh w[VECS];
            UNROLL(3)
            for (int v = 0; v < n_vec; v++)
                w[v] = (__m512bh)_mm512_load_si512(b + v * BF16_LANES);
            UNROLL(8)
            for (int r = 0; r < BF16_ROWS; r++) {
                __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[r]);
                UNROLL(3)
                for (int v = 0; v < n_vec; v++)
                    acc[r][v] = _mm512_dpbf16_ps(acc[r][v], x, w[v]);
            }
        }
    }
    UNROLL(8)
    for (unsigned r = 0; r < BF16_ROWS; r++)
        if (r < t->rows)
            store_row(t, r, n_vec, acc[r]);
}

static void tile_avx512(const struct panel_tile *t)
{
    if (t->cols > 2 * BF16_LANES)
        tile_of(t, 3);
    else if (t->cols > BF16_LANES)
        tile_of(t, 2);
    else
        tile_of(t, 1);
}

const struct panel_ops bf16_avx512 = { pack_avx512, tile_avx512, BF16_ROWS, BF16_COLS,
                                       BF16_LANES,  2,           BF16_DEPTH };
