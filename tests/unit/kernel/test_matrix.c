#include "engine/base/json.h"
#include "engine/base/rng.h"
#include "engine/kernel/matrix.h"
#include "engine/kernel/vector.h"
#include "tests/support/data.h"
#include "tests/support/guard.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static const enum dtype all_types[] = { DT_F32,  DT_F16,  DT_BF16, DT_Q8_0, DT_Q4_0,
                                        DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q2_K, DT_Q3_K,
                                        DT_Q4_K, DT_Q5_K, DT_Q6_K };
enum { N_TYPE = sizeof all_types / sizeof all_types[0] };

static float *random_floats(struct rng *rng, size_t n, double scale)
{
    float *p = malloc((n ? n : 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)((rng_f64(rng) + rng_f64(rng) - 1) * scale);
    return p;
}

/* Row-major file bytes of a random matrix and its packed form (freed with guard_free). */
struct pair {
    uint8_t *rows;
    struct matrix m;
    size_t row_bytes;
};
static struct pair random_matrix(struct rng *rng, enum dtype type, uint32_t n_row, uint32_t n_col)
{
    struct pair p = { .row_bytes = dtype_row_bytes(type, n_col) };
    p.rows = malloc(p.row_bytes * n_row);
    float *f = random_floats(rng, (size_t)n_row * n_col, 0.1);
    dtype_from_f32(type, f, p.rows, (size_t)n_row * n_col);
    free(f);
    uint8_t *data = guard_alloc(matrix_bytes(type, n_row, n_col));
    for (uint32_t r = 0; r < n_row; r += PANEL_ROWS)
        matrix_pack_panel(kernels_get(CPU_REF), type, n_col,
                          n_row - r < PANEL_ROWS ? n_row - r : PANEL_ROWS, p.rows + r * p.row_bytes,
                          data + r * p.row_bytes);
    p.m = (struct matrix){ type, n_row, n_col, data };
    return p;
}
static void pair_free(struct pair *p)
{
    free(p->rows);
    guard_free((void *)(uintptr_t)p->m.data);
}

static float *product(enum cpu_level lv, struct pool *pool, const struct matrix *m, const float *x,
                      size_t n_tok)
{
    struct acts a = { .store_bytes = acts_bytes(n_tok, m->n_col) };
    a.store = aligned_alloc(64, (a.store_bytes + 63) / 64 * 64);
    float *y = malloc(n_tok * m->n_row * sizeof *y);
    acts_set(&a, x, n_tok, m->n_col, m->n_col);
    matmul(kernels_get(lv), pool, m, &a, y, m->n_row);
    free(a.store);
    return y;
}

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;
        for (int k = 0; k < 2; k++) {
            char c = hex[2 * i + (size_t)k];
            v = v * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        out[i] = (uint8_t)v;
    }
    return n;
}

/* Block bytes byte[k] = (73 k + 41) mod 256 with d = 0.5 and m = 0.25: model-formats.md 2.3. */
Test(matrix, the_dossiers_blocks_dequantise_as_published)
{
    static const struct {
        enum dtype type;
        int d_at, m_at; /* -1: none */
        int i[5];
        double x[5], sum, squares;
    } cases[] = {
        { DT_Q4_0, 0, -1, { 0, 1, 16, 17, 31 }, { 1.5, -2, 1.5, -4, -4 }, -16.5, 180.25 },
        { DT_Q4_1, 0, 2, { 0, 1, 16, 17, 31 }, { 6.75, 3.25, 2.25, 4.75, 4.75 }, 120.5, 612.5 },
        { DT_Q5_0, 0, -1, { 0, 1, 16, 17, 31 }, { 7.5, 4, 6.5, -7, 1 }, -22.5, 925.25 },
        { DT_Q5_1, 0, 2, { 0, 1, 16, 17, 31 }, { 8.75, 5.25, 11.75, 13.75, 5.75 }, 258.5, 2648.5 },
        { DT_Q8_0, 0, -1, { 0, 1, 16, 17, 31 }, { -34.5, 2, 37.5, -54, -55 }, -24, 43036 },
        { DT_Q2_K,
          80,
          82,
          { 0, 33, 100, 170, 255 },
          { 4, -2.75, 19.25, 0, -1.75 },
          1021.5,
          12473.5 },
        { DT_Q3_K, 108, -1, { 0, 33, 100, 170, 255 }, { -3.5, 0, -8.5, -2, -12 }, 117, 102658.5 },
        { DT_Q4_K,
          0,
          2,
          { 0, 33, 100, 170, 255 },
          { 46.25, -14.5, 297, 287.75, -5.75 },
          26676,
          5510913 },
        { DT_Q5_K,
          0,
          2,
          { 0, 33, 100, 170, 255 },
          { 150.25, 183.5, 337, 333.75, -5.75 },
          55036,
          23305097 },
        { DT_Q6_K,
          208,
          -1,
          { 0, 33, 100, 170, 255 },
          { 80.5, -1845, -1067, 884.5, 144 },
          -7422,
          124143365 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const struct dtype_info *t = dtype_info((uint32_t)cases[c].type);
        uint8_t b[256];
        float x[256];
        double sum = 0, squares = 0;
        for (int k = 0; k < 256; k++)
            b[k] = (uint8_t)(73 * k + 41);
        memcpy(b + cases[c].d_at, (uint8_t[]){ 0x00, 0x38 }, 2);
        if (cases[c].m_at >= 0)
            memcpy(b + cases[c].m_at, (uint8_t[]){ 0x00, 0x34 }, 2);
        dtype_to_f32(cases[c].type, b, x, t->block_elems);
        for (uint32_t i = 0; i < t->block_elems; i++) {
            sum += (double)x[i];
            squares += (double)x[i] * (double)x[i];
        }
        for (int k = 0; k < 5; k++)
            cr_expect_eq((double)x[cases[c].i[k]], cases[c].x[k], "%s[%d] = %g, not %g", t->name,
                         cases[c].i[k], (double)x[cases[c].i[k]], cases[c].x[k]);
        cr_expect_eq(sum, cases[c].sum, "%s sum %g", t->name, sum);
        cr_expect_eq(squares, cases[c].squares, "%s squares %g", t->name, squares);
    }
}

Test(matrix, shared_block_vectors_dequantise_bit_for_bit)
{
    char path[4096];
    if (!data_path("vectors/quant-blocks.json", path)) {
        data_skip("quant blocks", "vectors/quant-blocks.json");
        return;
    }
    size_t n, seen = 0;
    char *text = data_read(path, &n);
    struct err e = ERR_INIT;
    json_t *doc, *v;
    size_t at;
    cr_assert_eq(json_parse((struct str){ text, n }, path, &doc, &e), ST_OK, "%s", e.msg);
    json_array_foreach(json_object_get(doc, "types"), at, v)
    {
        const char *name = json_string_value(json_object_get(v, "name"));
        const char *hex = json_string_value(json_object_get(v, "quant_hex"));
        const char *want_hex = json_string_value(json_object_get(v, "dequant_f32_le_hex"));
        for (int i = 0; i < N_TYPE; i++) {
            const struct dtype_info *t = dtype_info((uint32_t)all_types[i]);
            static uint8_t block[16384], want[16384];
            static float got[4096];
            if (strcasecmp(t->name, name) != 0)
                continue;
            cr_assert_leq(strlen(hex), 2 * sizeof block);
            size_t n_elem = from_hex(hex, block) / t->block_bytes * t->block_elems;
            size_t n_want = from_hex(want_hex, want);
            dtype_to_f32(all_types[i], block, got, n_elem);
            cr_expect_eq(n_want, n_elem * 4, "%s", name);
            cr_expect_eq(memcmp(got, want, n_want), 0, "%s differs", name);
            seen++;
        }
    }
    cr_expect_geq(seen, 10u, "only %zu types recognised", seen);
    json_free(doc);
    free(text);
}

Test(matrix, packing_keeps_every_row)
{
    struct rng rng = { 3 };
    for (int i = 0; i < N_TYPE; i++)
        for (uint32_t n_row = 1; n_row <= 35; n_row += 17) {
            struct pair p = random_matrix(&rng, all_types[i], n_row, 512);
            float a[512], b[512];
            for (uint32_t r = 0; r < n_row; r++) {
                matrix_row(kernels_get(CPU_REF), &p.m, r, a);
                dtype_to_f32(all_types[i], p.rows + r * p.row_bytes, b, 512);
                cr_expect_eq(memcmp(a, b, sizeof a), 0, "%s row %u of %u",
                             dtype_info((uint32_t)all_types[i])->name, r, n_row);
            }
            pair_free(&p);
        }
}

/* Quantisation error of a random row stays below the step that the format can represent. */
Test(matrix, quantising_is_close)
{
    static const double bound[N_TYPE] = { 0,    5e-5, 4e-4, 8e-4, 2e-2, 2e-2, 8e-3,
                                          8e-3, 7e-2, 4e-2, 2e-2, 1e-2, 6e-3 };
    struct rng rng = { 5 };
    for (int i = 0; i < N_TYPE; i++) {
        float *x = random_floats(&rng, 512, 0.1), y[512];
        uint8_t b[4096];
        dtype_from_f32(all_types[i], x, b, 512);
        dtype_to_f32(all_types[i], b, y, 512);
        for (int k = 0; k < 512; k++)
            cr_expect_leq(fabs((double)x[k] - (double)y[k]), bound[i], "%s[%d]: %g became %g",
                          dtype_info((uint32_t)all_types[i])->name, k, (double)x[k], (double)y[k]);
        free(x);
    }
}

/* Plain types: |error| <= gamma_(n+n/256) sum |w x| for any order of n fused multiply-adds (Higham
 * 2002, 3.1). Block types: the same with the int8 activations that matrix.h defines, n terms being
 * blocks. */
static double oracle(const struct matrix *m, const float *x, uint32_t r, double *mag)
{
    float w[8192];
    double sum = 0;
    *mag = 0;
    matrix_row(kernels_get(CPU_REF), m, r, w);
    for (uint32_t b = 0; b < m->n_col; b += 32) {
        double top = 0;
        for (uint32_t k = 0; k < 32; k++)
            top = fmax(top, fabs((double)x[b + k]));
        float d = (float)top / 127, inv = top > 0 ? 127 / (float)top : 0;
        for (uint32_t k = 0; k < 32; k++) {
            double v = (double)x[b + k];
            if (!dtype_is_plain(m->type))
                v = (double)d * (double)rintf(x[b + k] * inv);
            sum += (double)w[b + k] * v;
            *mag += fabs((double)w[b + k] * v);
        }
    }
    return sum;
}

Test(matrix, every_type_stays_within_the_rounding_bound)
{
    struct rng rng = { 11 };
    for (int i = 0; i < N_TYPE; i++) {
        struct pair p = random_matrix(&rng, all_types[i], 37, 1024);
        float *x = random_floats(&rng, 3 * 1024, 2);
        float *y = product(CPU_REF, NULL, &p.m, x, 3);
        for (uint32_t t = 0; t < 3; t++)
            for (uint32_t r = 0; r < 37; r++) {
                double mag, want = oracle(&p.m, x + 1024 * t, r, &mag), got = (double)y[37 * t + r];
                double n = dtype_is_plain(all_types[i]) ? 1024 + 4 : 4 * 1024 / 16, u = 0x1p-24;
                /* K-quants subtract d s u and d m terms larger than their difference: the magnitude
                 * of the parts is at most 4 times that of the weights here. */
                double slack = dtype_is_plain(all_types[i]) ? 1 : 8;
                cr_expect_leq(fabs(got - want), slack * n * u / (1 - n * u) * mag,
                              "%s (%u, %u): %.9g, not %.9g (sum of magnitudes %g)",
                              dtype_info((uint32_t)all_types[i])->name, t, r, got, want, mag);
            }
        free(x);
        free(y);
        pair_free(&p);
    }
}

Test(matrix, levels_threads_and_batch_sizes_agree_bit_for_bit)
{
    struct rng rng = { 17 };
    struct err e = ERR_INIT;
    struct pool *pool;
    cr_assert_eq(pool_create(3, &pool, &e), ST_OK);
    static const uint32_t rows[] = { 1, 16, 61, 128 }, toks[] = { 1, 2, 5, 17, 40, 131 };
    for (int i = 0; i < N_TYPE; i++)
        for (int s = 0; s < 4; s++) {
            uint32_t n_col = s % 2 ? 768 : 256, n_tok = toks[rng_below(&rng, 6)];
            struct pair p = random_matrix(&rng, all_types[i], rows[s], n_col);
            float *x = random_floats(&rng, (size_t)n_tok * n_col, 3);
            x[rng_below(&rng, n_col)] = 3e4f; /* one outlier */
            float *want = product(CPU_REF, NULL, &p.m, x, n_tok);
            for (enum cpu_level lv = CPU_REF; lv <= cpu_level_max(); lv++) {
                float *y = product(lv, pool, &p.m, x, n_tok);
                cr_expect_eq(memcmp(y, want, sizeof *y * n_tok * rows[s]), 0,
                             "%s %s %ux%u, %u tokens", cpu_level_name(lv),
                             dtype_info((uint32_t)all_types[i])->name, rows[s], n_col, n_tok);
                free(y);
                y = product(lv, NULL, &p.m, x + (size_t)(n_tok - 1) * n_col, 1);
                cr_expect_eq(memcmp(y, want + (size_t)(n_tok - 1) * rows[s], sizeof *y * rows[s]),
                             0, "%s %s: one token differs from the batch", cpu_level_name(lv),
                             dtype_info((uint32_t)all_types[i])->name);
                free(y);
            }
            free(x);
            free(want);
            pair_free(&p);
        }
    pool_free(pool);
}

/* The largest weights against the largest activations of one sign: where sums of fewer than 32 bits
 * would overflow. Every bit of a file block set (Q8_0: -128) but for its half floats, which are 1.
 */
Test(matrix, levels_agree_where_every_weight_and_activation_is_largest)
{
    static const struct {
        enum dtype type;
        uint8_t fill, n_half, at[2];
    } cases[] = { { DT_Q8_0, 0x80, 1, { 0 } },    { DT_Q4_0, 0xFF, 1, { 0 } },
                  { DT_Q5_0, 0xFF, 1, { 0 } },    { DT_Q4_1, 0xFF, 2, { 0, 2 } },
                  { DT_Q5_1, 0xFF, 2, { 0, 2 } }, { DT_Q2_K, 0xFF, 2, { 80, 82 } },
                  { DT_Q3_K, 0xFF, 1, { 108 } },  { DT_Q4_K, 0xFF, 2, { 0, 2 } },
                  { DT_Q5_K, 0xFF, 2, { 0, 2 } }, { DT_Q6_K, 0xFF, 1, { 208 } } };
    enum { COLS = 256, TOKENS = 13 };
    const uint16_t one = 0x3C00;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            uint8_t rows[PANEL_ROWS * COLS * 2];
            const struct dtype_info *t = dtype_info((uint32_t)cases[i].type);
            size_t bytes = matrix_bytes(cases[i].type, PANEL_ROWS, COLS);
            cr_assert_leq(bytes, sizeof rows);
            memset(rows, cases[i].fill, bytes);
            for (size_t b = 0; b < bytes; b += t->block_bytes)
                for (int h = 0; h < cases[i].n_half; h++)
                    memcpy(rows + b + cases[i].at[h], &one, sizeof one);
            uint8_t *data = guard_alloc(bytes);
            matrix_pack_panel(kernels_get(CPU_REF), cases[i].type, COLS, PANEL_ROWS, rows, data);
            struct matrix m = { cases[i].type, PANEL_ROWS, COLS, data };
            float x[TOKENS * COLS];
            for (size_t k = 0; k < TOKENS * COLS; k++)
                x[k] = (float)sign;
            for (size_t n = 1; n <= TOKENS; n += 6) {
                float *want = product(CPU_REF, NULL, &m, x, n);
                cr_expect(isfinite(want[0]) && want[0] != 0, "%s: a case that says nothing",
                          t->name);
                for (enum cpu_level lv = CPU_REF; lv <= cpu_level_max(); lv++) {
                    float *y = product(lv, NULL, &m, x, n);
                    cr_expect_eq(memcmp(y, want, sizeof *y * n * PANEL_ROWS), 0,
                                 "%s %s, %zu tokens", cpu_level_name(lv), t->name, n);
                    free(y);
                }
                free(want);
            }
            guard_free(data);
        }
}

Test(matrix, absurd_shapes_have_no_size)
{
    cr_expect_eq(matrix_bytes(DT_Q4_0, 1, 33), 0u);
    cr_expect_eq(matrix_bytes(DT_F32, UINT32_MAX, UINT32_MAX), 0u);
    cr_expect_eq(matrix_bytes(DT_F32, 0, 32), 0u);
    cr_expect_eq(matrix_bytes(DT_Q4_K, 17, 512), 32u * 2 * 144);
    cr_expect_eq(acts_bytes(SIZE_MAX / 2, 64), 0u);
}
