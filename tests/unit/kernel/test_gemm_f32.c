/* tests/unit/kernel/test_gemm_f32.c - f32 products of ours: every level against sums in double, and
 * bit for bit against the definition in plain C. How products are cut is test_gemm_bf16.c's. */
#include "engine/base/rng.h"
#include "engine/kernel/gemm_panel_internal.h"
#include "tests/support/guard.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMPLS = 3 };

/* The definition, and the levels that this processor has. */
static unsigned impls(const struct panel_ops *out[IMPLS])
{
    unsigned n = 1;
    out[0] = &f32_ref;
    for (enum cpu_level lv = CPU_AVX2; lv <= CPU_AVX512; lv++)
        if (f32_ops(lv) && f32_ops(lv) != out[n - 1])
            out[n++] = f32_ops(lv);
    if (n < IMPLS)
        fprintf(stderr, "SKIPPED: %u of 2 vector levels of f32 products (not on this processor)\n",
                IMPLS - n);
    return n;
}

static const char *name_of(const struct panel_ops *ops)
{
    return ops == &f32_ref ? "ref" : ops->cols == AVX2_COLS ? "avx2" : "avx512";
}

/* Operands end at a dead page; rows are `pad` longer than needed. */
struct problem {
    struct gemm_call g;
    float *a, *b, *c, *c0;
    size_t n_c;
};

static float *filled(struct rng *rng, size_t n)
{
    float *p = guard_alloc((n ? n : 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(2 * rng_f64(rng) - 1);
    return p;
}

static size_t extent(size_t rows, size_t cols, size_t ld)
{
    return rows && cols ? (rows - 1) * ld + cols : 0;
}

static struct problem make(struct rng *rng, unsigned trans, const size_t d[3], size_t pad)
{
    size_t m = d[0], n = d[1], k = d[2];
    struct problem p = { .g = { .ta = trans & 1, .tb = trans & 2, .m = m, .n = n, .k = k } };
    struct gemm_call *g = &p.g;
    g->alpha = trans == 3 ? -0.75 : 1;
    g->beta = trans == 1 ? 1 : trans == 2 ? 0.5 : 0;
    g->lda = (g->ta ? m : k) + pad;
    g->ldb = (g->tb ? k : n) + pad;
    g->ldc = n + pad;
    p.a = filled(rng, g->ta ? extent(k, m, g->lda) : extent(m, k, g->lda));
    p.b = filled(rng, g->tb ? extent(n, k, g->ldb) : extent(k, n, g->ldb));
    p.n_c = extent(m, n, g->ldc);
    p.c = filled(rng, p.n_c);
    p.c0 = malloc((p.n_c + 1) * sizeof *p.c0);
    cr_assert_not_null(p.c0);
    memcpy(p.c0, p.c, p.n_c * sizeof *p.c);
    for (size_t i = 0; i < p.n_c && g->beta == 0; i++)
        if (i % g->ldc < n)
            p.c[i] = p.c0[i] = (float)NAN; /* must not be read */
    g->a = p.a, g->b = p.b, g->c = p.c;
    return p;
}

static void drop(struct problem *p)
{
    guard_free(p->a);
    guard_free(p->b);
    guard_free(p->c);
    free(p->c0);
}

static void run(const struct panel_ops *ops, struct pool *pool, struct problem *p)
{
    struct err e = ERR_INIT;
    struct gemm_panel *s = NULL;
    size_t words;
    cr_assert(panel_words(ops, (size_t[]){ p->g.m, p->g.n, p->g.k }, pool_threads(pool), &words));
    cr_assert_eq(panel_create(ops, words, &s, &e), ST_OK, "%s", e.msg);
    memcpy(p->c, p->c0, p->n_c * sizeof *p->c);
    gemm_panel(s, pool, &p->g);
    gemm_panel_free(s);
}

/* A product takes part in one rounding for each of its block's k, one by alpha, one for each block
 * that is added. */
static void expect_element(const struct problem *p, const char *who, size_t i, size_t j)
{
    const struct gemm_call *g = &p->g;
    double s = 0, mag = 0, depth = (double)panel_depth(&f32_ref, g->k);
    for (size_t k = 0; k < g->k; k++) {
        double x = (double)(g->ta ? p->a[k * g->lda + i] : p->a[i * g->lda + k]) *
                   (double)(g->tb ? p->b[j * g->ldb + k] : p->b[k * g->ldb + j]);
        s += x;
        mag += fabs(x);
    }
    double c = g->beta == 0 ? 0 : g->beta * (double)p->c0[i * g->ldc + j];
    double n = depth + 2 + ceil((double)g->k / depth), got = (double)p->c[i * g->ldc + j];
    double tol = n * 0x1p-24 / (1 - n * 0x1p-24) * (fabs(g->alpha) * mag + fabs(c));
    cr_assert(fabs(got - (g->alpha * s + c)) <= tol,
              "%s %zu x %zu x %zu %c%c [%zu,%zu]: %.9g, want %.9g within %.3g", who, g->m, g->n,
              g->k, g->ta ? 'T' : 'N', g->tb ? 'T' : 'N', i, j, got, g->alpha * s + c, tol);
}

static void expect_product(const struct problem *p, const char *who)
{
    for (size_t at = 0; at < p->n_c; at++) {
        size_t i = at / p->g.ldc, j = at % p->g.ldc;
        if (j < p->g.n)
            expect_element(p, who, i, j);
        else
            cr_assert_eq(p->c[at], p->c0[at], "%s: wrote behind row %zu", who, i);
    }
}

/* Runs it at every level and without scratch: all have the definition's bits. Leaves those in c. */
static void expect_same(struct problem *p)
{
    const struct panel_ops *ops[IMPLS];
    unsigned n = impls(ops);
    float *want = malloc((p->n_c + 1) * sizeof *want);
    cr_assert_not_null(want);
    run(ops[0], NULL, p);
    memcpy(want, p->c, p->n_c * sizeof *want);
    for (unsigned i = 1; i <= n; i++) {
        const char *who = i < n ? name_of(ops[i]) : "small";
        if (i < n) {
            run(ops[i], NULL, p);
        } else if (gemm_panel_supported(GEMM_F32)) {
            memcpy(p->c, p->c0, p->n_c * sizeof *p->c);
            gemm_small_f32(&p->g);
        }
        cr_assert_eq(memcmp(p->c, want, p->n_c * sizeof *want), 0, "%s: %zu x %zu x %zu, %d%d", who,
                     p->g.m, p->g.n, p->g.k, p->g.ta, p->g.tb);
    }
    free(want);
}

/* Each dimension takes every length of 1..70 while the others pass through lengths around the
 * widths of panels and vectors. */
Test(gemm_f32, every_level_has_the_definitions_bits_and_those_are_within_the_rounding_bound)
{
    static const size_t others[] = { 1, 2, 4, 7, 8, 9, 16, 17, 23, 24, 25, 33, 47, 48, 49, 64, 70 };
    struct rng rng = { 7 };
    for (unsigned trans = 0; trans < 4; trans++)
        for (unsigned axis = 0; axis < 3; axis++)
            for (size_t len = 1; len <= 70; len++) {
                size_t d[3];
                for (unsigned x = 0; x < 3; x++)
                    d[x] =
                        x == axis ? len : others[rng_below(&rng, sizeof others / sizeof *others)];
                struct problem p = make(&rng, trans, d, rng_below(&rng, 3));
                expect_same(&p);
                expect_product(&p, "ref");
                drop(&p);
            }
}

Test(gemm_f32, sums_over_many_blocks_stay_within_the_bound)
{
    static const size_t depths[] = { 191, 192, 193, 383, 385, 577, 1000 };
    struct rng rng = { 9 };
    for (size_t s = 0; s < sizeof depths / sizeof *depths; s++)
        for (unsigned trans = 0; trans < 4; trans++) {
            struct problem p = make(&rng, trans, (size_t[]){ 19, 53, depths[s] }, 1);
            expect_same(&p);
            expect_product(&p, "ref");
            drop(&p);
        }
}

/* Shapes that are cut into strips of rows and of columns. The scratch is sized for the threads. */
Test(gemm_f32, large_products_are_right_and_the_same_for_any_number_of_threads)
{
    static const size_t shapes[][3] = {
        { 1701, 200, 200 }, { 300, 1500, 301 }, { 129, 48, 1500 }, { 5, 2099, 70 }, { 512, 96, 129 }
    };
    const struct panel_ops *ops[IMPLS];
    unsigned n_ops = impls(ops);
    struct rng rng = { 13 };
    struct err e = ERR_INIT;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct problem p = make(&rng, (unsigned)s % 4, shapes[s], s % 2);
        run(ops[n_ops - 1], NULL, &p);
        for (unsigned pick = 0; pick < 500; pick++) {
            size_t i = rng_below(&rng, p.g.m), j = rng_below(&rng, p.g.n);
            expect_element(&p, name_of(ops[n_ops - 1]), i, j);
        }
        float *once = malloc(p.n_c * sizeof *once);
        cr_assert_not_null(once);
        memcpy(once, p.c, p.n_c * sizeof *once);
        for (unsigned t = 2; t <= 20; t += 9) {
            struct pool *pool = NULL;
            cr_assert_eq(pool_create(t, &pool, &e), ST_OK, "%s", e.msg);
            for (unsigned i = n_ops > 1; i < n_ops; i++) {
                run(ops[i], pool, &p);
                cr_assert_eq(memcmp(p.c, once, p.n_c * sizeof *once), 0, "%s, %zu, %u threads",
                             name_of(ops[i]), s, t);
            }
            pool_free(pool);
        }
        free(once);
        drop(&p);
    }
}

/* A sum onto another array and a bias has the bits of the copy and the product after each other. */
Test(gemm_f32, a_product_onto_something_is_the_copy_and_then_the_product)
{
    const struct panel_ops *ops[IMPLS];
    unsigned n_ops = impls(ops);
    struct rng rng = { 31 };
    for (unsigned turn = 0; turn < 60; turn++) {
        size_t d[3] = { 1 + rng_below(&rng, 70), 1 + rng_below(&rng, 110),
                        1 + rng_below(&rng, 400) };
        struct problem p = make(&rng, 1, d, turn % 2); /* beta 1 */
        float *from = filled(&rng, d[0] * d[1]), *bias = filled(&rng, d[1]);
        float *want = malloc((p.n_c + 1) * sizeof *want);
        cr_assert_not_null(want);
        for (size_t i = 0; i < p.n_c; i++)
            if (i % p.g.ldc < d[1])
                p.c0[i] =
                    from[i / p.g.ldc * d[1] + i % p.g.ldc] + (turn % 3 ? bias[i % p.g.ldc] : 0);
        run(ops[0], NULL, &p);
        memcpy(want, p.c, p.n_c * sizeof *want);
        p.g.from = from;
        p.g.bias = turn % 3 ? bias : NULL;
        p.g.ldfrom = d[1];
        for (size_t i = 0; i < p.n_c; i++)
            if (i % p.g.ldc < d[1])
                p.c0[i] = (float)NAN; /* is not read */
        for (unsigned i = 0; i < n_ops; i++) {
            run(ops[i], NULL, &p);
            cr_assert_eq(memcmp(p.c, want, p.n_c * sizeof *want), 0, "%s: %zu x %zu x %zu",
                         name_of(ops[i]), d[0], d[1], d[2]);
        }
        free(want);
        guard_free(from);
        guard_free(bias);
        drop(&p);
    }
}

Test(gemm_f32, nan_and_infinity_reach_their_row_only)
{
    const struct panel_ops *ops[IMPLS];
    unsigned n_ops = impls(ops);
    struct rng rng = { 23 };
    for (unsigned i = 0; i < n_ops; i++) {
        struct problem p = make(&rng, 0, (size_t[]){ 21, 59, 201 }, 0);
        p.a[13 * p.g.lda + 200] = i % 2 ? (float)NAN : (float)INFINITY;
        run(ops[i], NULL, &p);
        for (size_t at = 0; at < p.n_c; at++)
            cr_assert_eq(isfinite(p.c[at]) != 0, at / p.g.ldc != 13, "%s %zu: %g", name_of(ops[i]),
                         at, (double)p.c[at]);
        drop(&p);
    }
}

Test(gemm_f32, scratch_is_sized_by_threads_and_refused_beyond_the_address_space)
{
    size_t big = (size_t)1 << 40,
           all = gemm_panel_bytes(GEMM_F32, (size_t[]){ 4096, 384, 2048 }, 0);
    size_t two = gemm_panel_bytes(GEMM_F32, (size_t[]){ 4096, 384, 2048 }, 2);
    cr_expect_eq(gemm_panel_bytes(GEMM_F32, (size_t[]){ big, big, big }, 0), 0);
    cr_expect_eq(gemm_panel_bytes(GEMM_F32, (size_t[]){ 1, 1, SIZE_MAX }, 2), 0);
    cr_expect(all >= (4096u + 384) * 2048 * 4 && all < (4096u + 384 + 256 + 256) * 2048 * 4);
    cr_expect(two >= (256u + 384) * 2048 * 4 && two < (256u + 384 + 256 + 256) * 2048 * 4, "%zu",
              two);
    /* Whatever is needed for m x n serves every smaller product. */
    for (size_t m = 1; m < 700; m += 13)
        for (size_t n = 1; n < 700; n += 17) {
            size_t most, less;
            cr_assert(panel_words(&f32_ref, (size_t[]){ m, n, 64 }, 3, &most));
            for (size_t part = 1; part <= 8; part++) {
                size_t some[3] = { (m * part + 7) / 8, part % 2 ? n : (n + 1) / 2, 64 };
                cr_assert(panel_words(&f32_ref, some, 3, &less));
                cr_assert(less <= most, "%zu x %zu in %zu x %zu", some[0], some[1], m, n);
            }
        }
}

Test(gemm_f32, a_processor_without_the_instructions_is_told_so)
{
    struct err e = ERR_INIT;
    struct gemm_panel *s = NULL;
    size_t bytes = gemm_panel_bytes(GEMM_F32, (size_t[]){ 8, 8, 8 }, 1);
    enum status st = gemm_panel_create(GEMM_F32, bytes, &s, &e);
    cr_expect_eq(st, gemm_panel_supported(GEMM_F32) ? ST_OK : ST_UNSUPPORTED, "%s", e.msg);
    cr_expect_eq(s != NULL, gemm_panel_supported(GEMM_F32));
    cr_expect_eq(strncmp(gemm_panel_name(), "strobe ", 7) == 0, gemm_panel_supported(GEMM_F32));
    gemm_panel_free(s);
}
