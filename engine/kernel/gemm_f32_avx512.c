/* engine/kernel/gemm_f32_avx512.c - f32 packing and tiles with AVX-512. See gemm_panel_internal.h
 * for what they compute; the bits are gemm_f32_ref.c's. */
#include "engine/kernel/gemm_avx512.inc"

enum { AHEAD = 64 /* floats that packing fetches ahead, see gemm_bf16_avx512.c */ };

/* The source's rows run along x: they are copied. */
static void pack_across(const struct panel_pack *p)
{
    for (size_t k0 = 0; k0 < p->n_k; k0 += PANEL_STEP)
        for (size_t x = 0; x < p->n_x; x += BF16_LANES) {
            struct group g = group_at(p, x);
            size_t ahead = x + AHEAD < p->n_x ? AHEAD : PANEL_STEP * p->ld + AHEAD - p->n_x;
            __mmask16 valid = mask_of(p->n_x - x);
            for (size_t k = k0; k < p->n_k && k < k0 + PANEL_STEP; k++) {
                const float *row = p->src + k * p->ld + x;
                _mm_prefetch((const char *)(row + ahead), _MM_HINT_T0);
                group_store(&g, k, _mm512_castps_si512(_mm512_maskz_loadu_ps(valid, row)));
            }
        }
}

static void pack_along(const struct panel_pack *p)
{
    for (size_t x = 0; x < p->n_x; x += BF16_LANES) {
        struct group g = group_at(p, x);
        for (size_t k = 0; k < p->n_k; k += BF16_LANES) {
            size_t n_k = p->n_k - k < BF16_LANES ? p->n_k - k : BF16_LANES;
            size_t ahead = k + AHEAD < p->n_k ? AHEAD : BF16_LANES * p->ld + AHEAD - p->n_k;
            const float *row = p->src + x * p->ld + k;
            __mmask16 valid = mask_of(n_k);
            __m512i w[BF16_LANES];
            UNROLL(16)
            for (size_t r = 0; r < BF16_LANES; r++, row += p->ld) {
                __mmask16 some = x + r < p->n_x ? valid : 0;
                _mm_prefetch((const char *)(row + ahead), _MM_HINT_T0);
                w[r] = _mm512_castps_si512(_mm512_maskz_loadu_ps(some, row));
            }
            transpose(w);
            UNROLL(16)
            for (size_t i = 0; i < BF16_LANES; i++)
                if (i < n_k)
                    group_store(&g, k + i, w[i]);
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
        size_t end = t->n_word - p < F32_AHEAD ? t->n_word : p + F32_AHEAD;
        if (ahead) {
            _mm_prefetch(ahead, _MM_HINT_T1);
            ahead += t->step;
        }
        for (; p < end; p++, a += BF16_ROWS, b += BF16_COLS) {
            __m512 w[VECS];
            UNROLL(3)
            for (int v = 0; v < n_vec; v++)
                w[v] = _mm512_castsi512_ps(_mm512_load_si512(b + v * BF16_LANES));
            UNROLL(8)
            for (int r = 0; r < BF16_ROWS; r++) {
                __m512 x = _mm512_castsi512_ps(_mm512_set1_epi32((int)a[r]));
                UNROLL(3)
                for (int v = 0; v < n_vec; v++)
                    acc[r][v] = _mm512_fmadd_ps(x, w[v], acc[r][v]);
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

const struct panel_ops f32_avx512 = { pack_avx512, tile_avx512, BF16_ROWS, BF16_COLS,
                                      BF16_LANES,  1,           F32_DEPTH };
