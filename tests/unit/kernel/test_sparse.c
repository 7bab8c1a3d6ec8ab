/* Products with picked neurons have the bits of products with whole matrices. */
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/kernel/sparse.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { N_EMBD = 320, N_FF = 700, N_TOK = 6 };

static float *values(struct rng *rng, size_t n)
{
    float *x = aligned_alloc(64, num_align(n * sizeof *x, 64));
    cr_assert(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)(rng_u64(rng) >> 11) / (double)(UINT64_C(1) << 52) - 1);
    return x;
}

/* y = whole matrix [n_row, n_col] (raw rows) times x. */
static void whole(const struct kernels *k, enum dtype type, uint32_t n_row, uint32_t n_col,
                  const uint8_t *raw, const float *x, size_t n_tok, float *y)
{
    size_t row = dtype_row_bytes(type, n_col), store = acts_bytes(n_tok, n_col);
    uint8_t *panels = aligned_alloc(64, num_align(matrix_bytes(type, n_row, n_col), 64));
    struct acts a = { .store = aligned_alloc(64, num_align(store, 64)), .store_bytes = store };
    cr_assert(panels && a.store);
    for (uint32_t r = 0; r < n_row; r += PANEL_ROWS)
        matrix_pack_panel(k, type, n_col, n_row - r < PANEL_ROWS ? n_row - r : PANEL_ROWS,
                          raw + r * row, panels + r * row);
    acts_set(&a, x, n_tok, n_col, n_col);
    struct matrix w = { type, n_row, n_col, panels };
    matmul(k, NULL, &w, &a, y, n_row);
    free(panels);
    free(a.store);
}

/* n_tok tokens' products with some rows of a matrix of `type`, and with all of them. */
static void compare_picked(const struct kernels *k, struct pool *pool, enum dtype type,
                           size_t n_tok)
{
    struct rng rng = { 11 };
    size_t row = dtype_row_bytes(type, N_EMBD), store = acts_bytes(n_tok, N_EMBD);
    size_t stride = num_align(picked_scratch(type, N_EMBD), 64);
    float *w = values(&rng, (size_t)N_FF * N_EMBD), *x = values(&rng, n_tok * N_EMBD);
    float *want = values(&rng, n_tok * N_FF), *got = values(&rng, n_tok * N_FF);
    uint8_t *raw = malloc(row * N_FF);
    struct acts a = { .store = aligned_alloc(64, num_align(store, 64)), .store_bytes = store };
    uint8_t *scratch = aligned_alloc(64, stride * pool_threads(pool));
    const uint8_t *pick[N_FF];
    uint32_t id[N_FF], n = 0;
    cr_assert(raw && a.store && scratch);
    dtype_from_f32(type, w, raw, (size_t)N_FF * N_EMBD);
    for (uint32_t i = 0; i < N_FF; i += 1 + rng_below(&rng, 5)) {
        id[n] = i;
        pick[n++] = raw + i * row;
    }
    whole(k, type, N_FF, N_EMBD, raw, x, n_tok, want);
    acts_set(&a, x, n_tok, N_EMBD, N_EMBD);
    struct picked_rows p = { .type = type,
                             .n_col = N_EMBD,
                             .n_row = n,
                             .row = pick,
                             .acts = &a,
                             .y = got,
                             .y_stride = N_FF,
                             .scratch = scratch,
                             .scratch_stride = stride };
    matmul_picked(k, pool, &p);
    for (size_t q = 0; q < n_tok; q++)
        for (uint32_t i = 0; i < n; i++)
            cr_assert_eq(got[q * N_FF + i], want[q * N_FF + id[i]],
                         "level %d type %d tokens %zu token %zu row %u", (int)kernels_level(k),
                         (int)type, n_tok, q, id[i]);
    free(raw);
    free(a.store);
    free(scratch);
    free(w);
    free(x);
    free(want);
    free(got);
}

Test(sparse, picked_rows_equal_those_of_the_whole_matrix_bit_for_bit)
{
    static const enum dtype types[] = { DT_F32, DT_F16, DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q5_1 };
    struct err err = ERR_INIT;
    struct pool *pool;
    cr_assert_eq(pool_create(3, &pool, &err), ST_OK);
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++)
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            compare_picked(kernels_get((enum cpu_level)lv), pool, types[t], 1);
            compare_picked(kernels_get((enum cpu_level)lv), pool, types[t], N_TOK);
        }
    pool_free(pool);
}

/* Activations with zeros, the picked ones a superset of the rest. */
static uint32_t activations(struct rng *rng, size_t n_tok, float *all, uint32_t *id)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_FF; i++) {
        bool chunk_idle = i / 256 == 1 && i % 7, any = false;
        for (size_t t = 0; t < n_tok; t++) {
            bool on = !chunk_idle && rng_below(rng, 10) < 2;
            all[t * N_FF + i] = on ? (float)rng_below(rng, 1000) / 500 - 0.7f : 0;
            any |= all[t * N_FF + i] != 0;
        }
        if (any || rng_below(rng, 10) == 0)
            id[n++] = i;
    }
    return n;
}

/* vec: [N_FF][N_EMBD] of `type`; the matrix of matmul() is its transpose, as f32 when type is a
 * block type (a down vector's blocks lie across the matrix's rows). */
static void compare_down(const struct kernels *k, struct pool *pool, enum dtype type, size_t n_tok)
{
    struct rng rng = { 3 + (uint64_t)type };
    enum dtype flat = dtype_is_plain(type) ? type : DT_F32;
    size_t vec_bytes = dtype_row_bytes(type, N_EMBD), row = dtype_row_bytes(flat, N_FF);
    float *w = values(&rng, (size_t)N_FF * N_EMBD), *turned = values(&rng, (size_t)N_FF * N_EMBD);
    float *all = values(&rng, n_tok * N_FF), *h = values(&rng, n_tok * N_FF);
    float *want = values(&rng, n_tok * N_EMBD), *got = values(&rng, n_tok * N_EMBD);
    uint8_t *vecs = malloc(vec_bytes * N_FF), *raw = malloc(row * N_EMBD);
    const uint8_t *vec[N_FF];
    uint32_t id[N_FF];
    cr_assert(vecs && raw);
    for (uint32_t i = 0; i < N_FF; i++) {
        dtype_from_f32(type, w + (size_t)i * N_EMBD, vecs + i * vec_bytes, N_EMBD);
        dtype_to_f32(type, vecs + i * vec_bytes, w + (size_t)i * N_EMBD, N_EMBD);
        for (uint32_t r = 0; r < N_EMBD; r++)
            turned[(size_t)r * N_FF + i] = w[(size_t)i * N_EMBD + r];
    }
    dtype_from_f32(flat, turned, raw, (size_t)N_FF * N_EMBD);
    uint32_t n = activations(&rng, n_tok, all, id);
    for (uint32_t i = 0; i < n; i++) {
        vec[i] = vecs + id[i] * vec_bytes;
        for (size_t t = 0; t < n_tok; t++)
            h[t * N_FF + i] = all[t * N_FF + id[i]];
    }
    whole(k, flat, N_EMBD, N_FF, raw, all, n_tok, want);
    memset(got, 0, n_tok * N_EMBD * sizeof *got);
    uint32_t cut = 0; /* two calls, cut between chunks */
    while (cut < n && id[cut] < 512)
        cut++;
    struct down_picked d = { .type = type,
                             .n_embd = N_EMBD,
                             .n = cut,
                             .neuron = id,
                             .vec = vec,
                             .h = h,
                             .h_stride = N_FF,
                             .n_tok = n_tok,
                             .y = got,
                             .y_stride = N_EMBD };
    sum_down(k, pool, &d);
    d.n = n - cut, d.neuron = id + cut, d.vec = vec + cut, d.h = h + cut;
    sum_down(k, pool, &d);
    for (size_t i = 0; i < n_tok * N_EMBD; i++)
        cr_assert_eq(got[i], want[i], "level %d type %d, %zu tokens, element %zu: %a is not %a",
                     (int)kernels_level(k), (int)type, n_tok, i, (double)got[i], (double)want[i]);
    free(w), free(turned), free(all), free(h), free(want), free(got), free(vecs), free(raw);
}

Test(sparse, sums_of_down_vectors_equal_the_whole_product_bit_for_bit)
{
    static const enum dtype types[] = { DT_F32, DT_F16, DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q5_0 };
    static const size_t n_tok[] = { 1, 3, N_TOK };
    struct err err = ERR_INIT;
    struct pool *pool;
    cr_assert_eq(pool_create(3, &pool, &err), ST_OK);
    for (int lv = 0; lv <= (int)cpu_level_max(); lv++)
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
            for (size_t i = 0; i < sizeof n_tok / sizeof n_tok[0]; i++)
                compare_down(kernels_get((enum cpu_level)lv), pool, types[t], n_tok[i]);
    pool_free(pool);
}
