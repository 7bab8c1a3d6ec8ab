/* Products with rows as a file has them have the bits of products with packed matrices. */
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/kernel/matrix.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { N_COL = 512, N_TOK = 9 };

static float *values(struct rng *rng, size_t n)
{
    float *x = malloc(n * sizeof *x);
    cr_assert(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)(rng_u64(rng) >> 11) / (double)(UINT64_C(1) << 52) - 1);
    return x;
}

struct bench {
    const struct kernels *k;
    struct pool *pool;
    struct matrix raw;
    uint8_t *panels;
    struct acts acts;
};

static void open_bench(struct bench *b, enum dtype type, uint32_t n_row, const float *w)
{
    size_t row = dtype_row_bytes(type, N_COL), store = acts_bytes(N_TOK, N_COL);
    uint8_t *raw = malloc(row * n_row + 1), *scratch = aligned_alloc(64, num_align(store, 64));
    b->panels = aligned_alloc(64, num_align(matrix_bytes(type, n_row, N_COL), 64));
    cr_assert(raw && scratch && b->panels);
    dtype_from_f32(type, w, raw + 1, (size_t)n_row * N_COL); /* files align nothing */
    b->raw = (struct matrix){ type, n_row, N_COL, raw + 1 };
    b->acts = (struct acts){ .store = scratch, .store_bytes = store };
    for (uint32_t r = 0; r < n_row; r += PANEL_ROWS)
        matrix_pack_panel(b->k, type, N_COL, n_row - r < PANEL_ROWS ? n_row - r : PANEL_ROWS,
                          raw + 1 + r * row, b->panels + r * row);
}

static void close_bench(struct bench *b)
{
    free((uint8_t *)(uintptr_t)b->raw.data - 1);
    free(b->acts.store);
    free(b->panels);
}

/* Both products of n_tok tokens; the scratch holds one panel, or more than there are. */
static void compare(struct bench *b, const float *x, size_t n_tok, size_t scratch_stride)
{
    enum { Y = 4 }; /* untouched floats after each row */
    size_t stride = b->raw.n_row + Y, n = n_tok * stride;
    float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    uint8_t *scratch = aligned_alloc(64, scratch_stride * pool_threads(b->pool));
    cr_assert(want && got && scratch);
    memset(want, 0x5a, n * sizeof *want);
    memset(got, 0x5a, n * sizeof *got);
    struct matrix packed = { b->raw.type, b->raw.n_row, N_COL, b->panels };
    acts_set(&b->acts, x, n_tok, N_COL, N_COL);
    matmul(b->k, b->pool, &packed, &b->acts, want, stride);
    acts_set(&b->acts, x, n_tok, N_COL, N_COL);
    struct rows_product r = { b->raw, &b->acts, got, stride, scratch, scratch_stride };
    matmul_rows(b->k, b->pool, &r);
    cr_expect_eq(memcmp(want, got, n * sizeof *got), 0, "type %d, %u rows, %zu tokens, scratch %zu",
                 (int)b->raw.type, b->raw.n_row, n_tok, scratch_stride);
    free(want);
    free(got);
    free(scratch);
}

Test(rows, products_equal_those_of_packed_matrices_bit_for_bit)
{
    static const enum dtype types[] = { DT_F32,  DT_F16,  DT_BF16, DT_Q8_0, DT_Q4_0,
                                        DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q2_K, DT_Q3_K,
                                        DT_Q4_K, DT_Q5_K, DT_Q6_K };
    static const uint32_t n_row[] = { 1, 15, 16, 17, 131 };
    static const size_t n_tok[] = { 1, 2, N_TOK };
    struct rng rng = { 5 };
    struct err err = ERR_INIT;
    float *w = values(&rng, (size_t)131 * N_COL), *x = values(&rng, (size_t)N_TOK * N_COL);
    struct bench b = { .k = kernels_get(cpu_level_max()) };
    cr_assert_eq(pool_create(3, &b.pool, &err), ST_OK);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (size_t r = 0; r < sizeof n_row / sizeof n_row[0]; r++) {
            open_bench(&b, types[t], n_row[r], w);
            size_t panel = num_align(dtype_row_bytes(types[t], N_COL) * PANEL_ROWS, 64);
            for (size_t i = 0; i < sizeof n_tok / sizeof n_tok[0]; i++) {
                compare(&b, x, n_tok[i], panel);
                compare(&b, x, n_tok[i], matmul_rows_scratch(types[t], N_COL));
            }
            close_bench(&b);
        }
    pool_free(b.pool);
    free(w);
    free(x);
}
