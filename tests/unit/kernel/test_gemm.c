/* tests/unit/kernel/test_gemm.c - products by the library and by plain C against sums in long
 * double. For any order of summation an element is within gamma(k + 3) (|alpha| sum |a b| + |beta
 * c|) of the truth: k products and additions, one for each of alpha, beta and their sum (Higham
 * 2002, sec. 3.1). */
#include "engine/base/rng.h"
#include "engine/kernel/gemm_internal.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 3 }; /* numbers between rows that belong to nobody */

struct product {
    struct gemm_call g;
    double *a, *b, *c; /* as stored, in double; c before the call */
};

static double draw(struct rng *r, bool f32)
{
    double x = 2 * rng_f64(r) - 1;
    return f32 ? (double)(float)x : x;
}

static double *draw_array(struct rng *r, size_t n, bool f32)
{
    double *p = malloc((n ? n : 1) * sizeof *p);
    cr_assert_not_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = draw(r, f32);
    return p;
}

static struct product product_draw(struct rng *r, size_t m, size_t n, size_t k, bool f32)
{
    struct product p = { .g = { .m = m, .n = n, .k = k, .alpha = 0.75, .beta = -1.5 } };
    p.g.ta = rng_below(r, 2);
    p.g.tb = rng_below(r, 2);
    p.g.lda = (p.g.ta ? m : k) + GAP;
    p.g.ldb = (p.g.tb ? k : n) + GAP;
    p.g.ldc = n + GAP;
    if (rng_below(r, 2))
        p.g.beta = 0;
    p.a = draw_array(r, (p.g.ta ? k : m) * p.g.lda, f32);
    p.b = draw_array(r, (p.g.tb ? n : k) * p.g.ldb, f32);
    p.c = draw_array(r, m * p.g.ldc, f32);
    return p;
}

static void product_free(struct product *p)
{
    free(p->a);
    free(p->b);
    free(p->c);
}

static float *narrow(const double *x, size_t n)
{
    float *f = malloc((n ? n : 1) * sizeof *f);
    cr_assert_not_null(f);
    for (size_t i = 0; i < n; i++)
        f[i] = (float)x[i];
    return f;
}

/* Runs fn on copies in the element type; the result in double, free(). */
static double *product_run(const struct product *p, bool f32, void (*fn)(const struct gemm_call *))
{
    struct gemm_call g = p->g;
    size_t n_a = (g.ta ? g.k : g.m) * g.lda, n_b = (g.tb ? g.n : g.k) * g.ldb, n_c = g.m * g.ldc;
    double *out = malloc(n_c * sizeof *out);
    float *a = narrow(p->a, n_a), *b = narrow(p->b, n_b), *c = narrow(p->c, n_c);
    cr_assert_not_null(out);
    memcpy(out, p->c, n_c * sizeof *out);
    for (size_t i = 0; i < n_c && g.beta == 0; i++)
        if (i % g.ldc < g.n)
            c[i] = (double)NAN, out[i] = (double)NAN; /* must not be read */
    g.a = f32 ? (const void *)a : p->a;
    g.b = f32 ? (const void *)b : p->b;
    g.c = f32 ? (void *)c : out;
    fn(&g);
    for (size_t i = 0; i < n_c && f32; i++)
        out[i] = (double)c[i];
    free(a);
    free(b);
    free(c);
    return out;
}

static double gamma_of(size_t n, bool f32)
{
    double u = f32 ? 0x1p-24 : 0x1p-53;
    return (double)n * u / (1 - (double)n * u);
}

static void expect_element(const struct product *p, const double *got, size_t i, size_t j, bool f32)
{
    const struct gemm_call *g = &p->g;
    long double sum = 0, mag = 0;
    for (size_t q = 0; q < g->k; q++) {
        long double x = (long double)(g->ta ? p->a[q * g->lda + i] : p->a[i * g->lda + q]);
        x *= (long double)(g->tb ? p->b[j * g->ldb + q] : p->b[q * g->ldb + j]);
        sum += x;
        mag += fabsl(x);
    }
    sum *= (long double)g->alpha;
    mag *= (long double)fabs(g->alpha);
    if (g->beta != 0) {
        sum += (long double)g->beta * (long double)p->c[i * g->ldc + j];
        mag += (long double)fabs(g->beta * p->c[i * g->ldc + j]);
    }
    double diff = fabs((double)((long double)got[i * g->ldc + j] - sum));
    double tol = gamma_of(g->k + 3, f32) * (double)mag;
    cr_expect(diff <= tol, "%s %zux%zux%zu ta %d tb %d [%zu,%zu]: %.17g, not %.17g (%.2g > %.2g)",
              f32 ? "f32" : "f64", g->m, g->n, g->k, g->ta, g->tb, i, j, got[i * g->ldc + j],
              (double)sum, diff, tol);
}

static void expect_product(struct rng *r, const size_t size[3], bool f32,
                           void (*fn)(const struct gemm_call *))
{
    struct product p = product_draw(r, size[0], size[1], size[2], f32);
    double *got = product_run(&p, f32, fn);
    for (size_t i = 0; i < p.g.m; i++)
        for (size_t j = 0; j < p.g.ldc; j++) {
            if (j < p.g.n)
                expect_element(&p, got, i, j, f32);
            else
                cr_expect_eq(got[i * p.g.ldc + j], p.c[i * p.g.ldc + j], "a gap was written");
        }
    free(got);
    product_free(&p);
}

static void with_pool_f32(const struct gemm_call *g)
{
    gemm_f32(NULL, g);
}
static void with_pool_f64(const struct gemm_call *g)
{
    gemm_f64(NULL, g);
}

static const struct {
    const char *name;
    void (*f32)(const struct gemm_call *), (*f64)(const struct gemm_call *);
} ways[] = { { "library", with_pool_f32, with_pool_f64 },
             { "plain C", gemm_plain_f32, gemm_plain_f64 } };

Test(gemm, every_tail_and_transpose_is_within_the_rounding_bound)
{
    static const size_t side[] = { 1, 2, 3, 7, 8, 16, 17, 31, 47, 64, 65, 97 };
    enum { N = sizeof side / sizeof *side };
    struct rng r = { 3 };
    for (size_t w = 0; w < 2; w++)
        for (size_t i = 0; i < N * N * N; i++) {
            size_t size[3] = { side[i % N], side[i / N % N], side[i / N / N] };
            expect_product(&r, size, true, ways[w].f32);
            expect_product(&r, size, false, ways[w].f64);
        }
}

Test(gemm, a_product_of_many_tiles_is_within_the_rounding_bound)
{
    struct rng r = { 4 };
    const size_t size[3] = { 450, 610, 260 };
    expect_product(&r, size, true, with_pool_f32);
    expect_product(&r, size, false, with_pool_f64);
}

/* Sizes of 1 to 40 tiles; op(A) and op(B) as in forward, and as in the gradient of weights. */
Test(gemm, any_number_of_threads_gives_the_same_bits)
{
    static const size_t size[][3] = { { 2048, 384, 512 }, { 384, 384, 2048 }, { 70, 3000, 900 },
                                      { 1500, 40, 3000 }, { 600, 601, 602 },  { 1, 1, 1 } };
    struct rng r = { 5 };
    struct err err = ERR_INIT;
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        struct product p = product_draw(&r, size[s][0], size[s][1], size[s][2], true);
        struct gemm_call g = p.g;
        size_t n_c = g.m * g.ldc;
        float *a = narrow(p.a, (g.ta ? g.k : g.m) * g.lda);
        float *b = narrow(p.b, (g.tb ? g.n : g.k) * g.ldb), *first = NULL;
        for (unsigned n_thread = 1; n_thread <= 3; n_thread++) {
            struct pool *pool;
            float *c = narrow(p.c, n_c);
            cr_assert_eq(pool_create(n_thread, &pool, &err), ST_OK);
            g.a = a;
            g.b = b;
            g.c = c;
            gemm_f32(pool, &g);
            pool_free(pool);
            cr_expect(!first || memcmp(first, c, n_c * sizeof *c) == 0,
                      "%zux%zux%zu: %u threads differ from one", g.m, g.n, g.k, n_thread);
            if (first)
                free(c);
            else
                first = c;
        }
        free(first);
        free(a);
        free(b);
        product_free(&p);
    }
}

Test(gemm, an_empty_result_is_left_alone)
{
    float c = 7, x = 1;
    gemm_f32(
        NULL,
        &(struct gemm_call){
            .n = 1, .k = 1, .a = &x, .b = &x, .c = &c, .lda = 1, .ldb = 1, .ldc = 1, .alpha = 1 });
    cr_expect_float_eq(c, 7.0f, 0);
}

Test(gemm, the_library_says_who_it_is)
{
    cr_expect(strcmp(gemm_name(), "plain C") == 0 || strncmp(gemm_name(), "openblas ", 9) == 0,
              "%s", gemm_name());
    if (strcmp(gemm_name(), "plain C") == 0)
        fprintf(stderr, "SKIPPED: gemm by OpenBLAS: libopenblas.so.0 is not there\n");
}
