/* engine/kernel/gemm_f32_avx2.c - f32 packing and tiles with AVX2 and FMA. See
 * gemm_panel_internal.h for what they compute; the bits are gemm_f32_ref.c's. */
#include "engine/kernel/gemm_panel_internal.h"

#include <immintrin.h>
#include <string.h>

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

enum { LANES = 8, VECS = AVX2_COLS / LANES };

static __m256i mask_of(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), lane);
}

static __m256 load(const float *p, size_t n)
{
    return n >= LANES ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, mask_of(n));
}

/* Eight neighbours' words w of one k: side by side in a panel of columns, or in two of rows. */
static void put(const struct panel_pack *p, size_t x, size_t k, __m256 w)
{
    uint32_t *d = p->dst + x / p->width * p->stride + k * p->width + x % p->width;
    if (p->width != AVX2_ROWS) {
        _mm256_storeu_si256((__m256i *)(void *)d, _mm256_castps_si256(w));
        return;
    }
    __m256i i = _mm256_castps_si256(w);
    _mm_storeu_si128((__m128i *)(void *)d, _mm256_castsi256_si128(i));
    _mm_storeu_si128((__m128i *)(void *)(d + p->stride), _mm256_extracti128_si256(i, 1));
}

/* w[i] = words i of all eight. */
static inline void transpose(__m256 w[LANES])
{
    __m256 t[LANES], u[LANES];
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(w[2 * i], w[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(w[2 * i], w[2 * i + 1]);
    }
    UNROLL
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        w[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
        w[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
    }
}

static void pack_across(const struct panel_pack *p)
{
    for (size_t k = 0; k < p->n_k; k++)
        for (size_t x = 0; x < p->n_x; x += LANES)
            put(p, x, k, load(p->src + k * p->ld + x, p->n_x - x));
}

static void pack_along(const struct panel_pack *p)
{
    for (size_t x = 0; x < p->n_x; x += LANES)
        for (size_t k = 0; k < p->n_k; k += LANES) {
            size_t n_k = p->n_k - k < LANES ? p->n_k - k : LANES;
            __m256 w[LANES];
            for (size_t r = 0; r < LANES; r++)
                w[r] =
                    x + r < p->n_x ? load(p->src + (x + r) * p->ld + k, n_k) : _mm256_setzero_ps();
            transpose(w);
            for (size_t i = 0; i < n_k; i++)
                put(p, x, k + i, w[i]);
        }
}

static void pack_avx2(const struct panel_pack *p)
{
    if (p->along_k)
        pack_along(p);
    else
        pack_across(p);
}

static inline __attribute__((always_inline)) void store_row(const struct panel_tile *t, unsigned r,
                                                            int n_vec, const __m256 *acc)
{
    __m256 alpha = _mm256_set1_ps(t->alpha), beta = _mm256_set1_ps(t->beta);
    UNROLL
    for (int v = 0; v < n_vec; v++) {
        float *c = t->c + r * t->ldc + v * LANES;
        size_t left = t->cols - (size_t)v * LANES;
        __m256 y = _mm256_mul_ps(acc[v], alpha);
        if (t->beta != 0) {
            __m256 was = load(t->from ? t->from + r * t->ldfrom + v * LANES : c, left);
            if (t->from && t->bias)
                was = _mm256_add_ps(was, load(t->bias + v * LANES, left));
            y = _mm256_fmadd_ps(beta, was, y);
        }
        if (left >= LANES)
            _mm256_storeu_ps(c, y);
        else
            _mm256_maskstore_ps(c, mask_of(left), y);
    }
}

/* n_vec is a constant where this is inlined. */
static inline __attribute__((always_inline)) void tile_of(const struct panel_tile *t, int n_vec)
{
    __m256 acc[AVX2_ROWS][VECS];
    UNROLL
    for (int r = 0; r < AVX2_ROWS; r++) {
        UNROLL
        for (int v = 0; v < n_vec; v++)
            acc[r][v] = _mm256_setzero_ps();
    }
    const uint32_t *a = t->a, *b = t->b;
    const char *ahead = t->ahead;
    for (size_t p = 0; p < t->n_word;) {
        size_t end = t->n_word - p < F32_AHEAD ? t->n_word : p + F32_AHEAD;
        if (ahead) {
            _mm_prefetch(ahead, _MM_HINT_T1);
            ahead += t->step;
        }
        for (; p < end; p++, a += AVX2_ROWS, b += AVX2_COLS) {
            __m256 w[VECS];
            UNROLL
            for (int v = 0; v < n_vec; v++)
                w[v] = _mm256_castsi256_ps(
                    _mm256_loadu_si256((const __m256i *)(const void *)(b + v * LANES)));
            UNROLL
            for (int r = 0; r < AVX2_ROWS; r++) {
                __m256 x = _mm256_castsi256_ps(_mm256_set1_epi32((int)a[r]));
                UNROLL
                for (int v = 0; v < n_vec; v++)
                    acc[r][v] = _mm256_fmadd_ps(x, w[v], acc[r][v]);
            }
        }
    }
    UNROLL
    for (unsigned r = 0; r < AVX2_ROWS; r++)
        if (r < t->rows)
            store_row(t, r, n_vec, acc[r]);
}

static void tile_avx2(const struct panel_tile *t)
{
    if (t->cols > 2 * LANES)
        tile_of(t, 3);
    else if (t->cols > LANES)
        tile_of(t, 2);
    else
        tile_of(t, 1);
}

const struct panel_ops f32_avx2 = {
    pack_avx2, tile_avx2, AVX2_ROWS, AVX2_COLS, LANES, 1, F32_DEPTH
};
