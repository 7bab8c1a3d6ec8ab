#include "engine/base/rng.h"
#include "engine/kernel/gemm_panel_internal.h"
#include "tests/support/guard.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t bf16_depth(size_t k)
{
    return panel_depth(&bf16_ref, k);
}

static enum status bf16_create(const struct panel_ops *ops, size_t m, size_t n, size_t k,
                               struct gemm_panel **ret, struct err *err)
{
    size_t words;
    if (!panel_words(ops, (size_t[]){ m, n, k }, 0, &words))
        return err_set(err, ST_NOMEM, "too large");
    return panel_create(ops, words, ret, err);
}

static size_t gemm_bf16_bytes(size_t m, size_t n, size_t k)
{
    return gemm_panel_bytes(GEMM_BF16, (size_t[]){ m, n, k }, 0);
}

/* What is there to test: the definition always, the vector code where the processor has it. */
static unsigned impls(const struct panel_ops *out[2])
{
    out[0] = &bf16_ref;
#ifdef STROBE_SIMD_BF16
    if (gemm_panel_supported(GEMM_BF16)) {
        out[1] = &bf16_avx512;
        return 2;
    }
#endif
    fprintf(stderr, "SKIPPED: bf16 vector code (no AVX-512 BF16 here); the reference is tested\n");
    return 1;
}
static const char *name_of(const struct panel_ops *ops)
{
    return ops == &bf16_ref ? "ref" : "avx512";
}

static uint32_t bits(float x)
{
    uint32_t w;
    memcpy(&w, &x, 4);
    return w;
}
static float from_bits(uint32_t w)
{
    float x;
    memcpy(&x, &w, 4);
    return x;
}
static bool same(float a, float b)
{
    return bits(a) == bits(b) || (isnan(a) && isnan(b));
}

/* bf16 written down again, with arithmetic instead of bits: 8 significant bits, ties to even. */
static double rounded(float x)
{
    int e;
    if (!isfinite(x))
        return (double)x;
    if (fabsf(x) < 0x1p-126f)
        return copysign(0.0, (double)x);
    double m = frexp((double)x, &e), r = ldexp(rint(m * 256) / 256, e);
    return fabs(r) >= 0x1p128 ? copysign((double)INFINITY, r) : r;
}

static float plain(struct rng *rng)
{
    return (float)((rng_f64(rng) + rng_f64(rng) - 1) * 2);
}
/* Any bit pattern: denormals, infinities, NaN among them. */
static float wild(struct rng *rng)
{
    return from_bits((uint32_t)rng_u64(rng));
}
/* Products and sums of these fall into and out of the denormals. */
static float tiny(struct rng *rng)
{
    return (float)ldexp((double)plain(rng), -56 - (int)rng_below(rng, 12));
}

static double gamma_f32(double n)
{
    return n * 0x1p-24 / (1 - n * 0x1p-24);
}

/* A problem with operands that end at a dead page, rows `pad` elements longer than needed, and
 * everything misaligned by 4 bytes. */
struct problem {
    struct gemm_call g;
    float *a, *b, *c, *c0;
    double *ra, *rb; /* op(A) [m, k] and op(B) transposed, [n, k], rounded to bf16 */
    size_t n_c;
};

static float *filled(struct rng *rng, size_t n, float (*draw)(struct rng *))
{
    float *p = guard_alloc((n ? n : 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = draw(rng);
    return p;
}

/* Elements from the first to the last one used of a matrix [rows, cols]. */
static size_t extent(size_t rows, size_t cols, size_t ld)
{
    return rows && cols ? (rows - 1) * ld + cols : 0;
}

/* [x, k] from a matrix that is stored like this (along_k) or as [k, x]. */
static double *rounded_all(const float *src, size_t ld, bool along_k, size_t n_x, size_t n_k)
{
    double *r = malloc((n_x * n_k + 1) * sizeof *r);
    for (size_t x = 0; x < n_x; x++)
        for (size_t k = 0; k < n_k; k++)
            r[x * n_k + k] = rounded(along_k ? src[x * ld + k] : src[k * ld + x]);
    return r;
}

static struct problem problem_make(struct rng *rng, unsigned trans, const size_t d[3], size_t pad,
                                   float (*draw)(struct rng *))
{
    size_t m = d[0], n = d[1], k = d[2];
    struct problem p = { .g = { .ta = trans & 1, .tb = trans & 2, .m = m, .n = n, .k = k } };
    struct gemm_call *g = &p.g;
    g->alpha = 1;
    g->lda = (g->ta ? m : k) + pad;
    g->ldb = (g->tb ? k : n) + pad;
    g->ldc = n + pad;
    p.a = filled(rng, g->ta ? extent(k, m, g->lda) : extent(m, k, g->lda), draw);
    p.b = filled(rng, g->tb ? extent(n, k, g->ldb) : extent(k, n, g->ldb), draw);
    p.n_c = extent(m, n, g->ldc);
    p.c = filled(rng, p.n_c, plain);
    p.c0 = malloc((p.n_c + 1) * sizeof *p.c0);
    memcpy(p.c0, p.c, p.n_c * sizeof *p.c);
    g->a = p.a, g->b = p.b, g->c = p.c;
    p.ra = rounded_all(p.a, g->lda, !g->ta, m, k);
    p.rb = rounded_all(p.b, g->ldb, g->tb, n, k);
    return p;
}
static void problem_free(struct problem *p)
{
    guard_free(p->a);
    guard_free(p->b);
    guard_free(p->c);
    free(p->c0);
    free(p->ra);
    free(p->rb);
}

/* One element of C in double, and how far off an f32 sum may be: a product takes part in at most
 * one rounding for each of its block's k, one by alpha, and one for each block that is added; a
 * flushed sum loses less than 2^-126, each of the k times; underflow of the rest less than 2^-149
 * each. (The sum in double is a hundred million times closer than that.) */
static double oracle(const struct problem *p, size_t i, size_t j, double *tol)
{
    const struct gemm_call *g = &p->g;
    const double *a = p->ra + i * g->k, *b = p->rb + j * g->k;
    double s = 0, mag = 0;
    for (size_t k = 0; k < g->k; k++) {
        s += a[k] * b[k];
        mag += fabs(a[k] * b[k]);
    }
    double c = g->beta == 0 ? 0 : g->beta * (double)p->c0[i * g->ldc + j], al = fabs(g->alpha);
    double depth = (double)bf16_depth(g->k), blocks = ceil((double)g->k / depth);
    *tol = gamma_f32(depth + 1 + blocks) * (al * mag + fabs(c)) +
           al * (double)(g->k + 1) * 0x1p-126 + (2 * blocks + 1) * 0x1p-149;
    return g->alpha * s + c;
}

static void expect_element(const struct problem *p, const char *who, size_t i, size_t j)
{
    const struct gemm_call *g = &p->g;
    double tol, want = oracle(p, i, j, &tol), got = (double)p->c[i * g->ldc + j];
    cr_assert(fabs(got - want) <= tol,
              "%s %zu x %zu x %zu %c%c [%zu,%zu]: %.9g, want %.9g within %.3g", who, g->m, g->n,
              g->k, g->ta ? 'T' : 'N', g->tb ? 'T' : 'N', i, j, got, want, tol);
}

static void run(const struct panel_ops *ops, struct pool *pool, const struct gemm_call *g)
{
    struct err e = ERR_INIT;
    struct gemm_panel *s = NULL;
    cr_assert_eq(bf16_create(ops, g->m, g->n, g->k, &s, &e), ST_OK, "%s", e.msg);
    gemm_panel(s, pool, g);
    gemm_panel_free(s);
}

/* Every element within its bound, everything between rows of C untouched. */
static void expect_product(const struct problem *p, const char *who)
{
    for (size_t at = 0; at < p->n_c; at++) {
        size_t i = at / p->g.ldc, j = at % p->g.ldc;
        if (j < p->g.n)
            expect_element(p, who, i, j);
        else
            cr_assert(same(p->c[at], p->c0[at]), "%s: wrote behind row %zu", who, i);
    }
}

static void check(struct rng *rng, const struct panel_ops *ops, unsigned trans, const size_t d[3],
                  double alpha, double beta)
{
    struct problem p = problem_make(rng, trans, d, rng_below(rng, 3), plain);
    p.g.alpha = alpha;
    p.g.beta = beta;
    run(ops, NULL, &p.g);
    expect_product(&p, name_of(ops));
    problem_free(&p);
}

Test(gemm_bf16, a_number_is_rounded_to_the_nearest_bf16_ties_to_even)
{
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {
        { 0x3F800000, 0x3F80 }, { 0x3F807FFF, 0x3F80 }, { 0x3F808000, 0x3F80 },
        { 0x3F808001, 0x3F81 }, { 0x3F818000, 0x3F82 }, { 0xBF818000, 0xBF82 },
        { 0x3FFFFFFF, 0x4000 }, { 0x7F7F7FFF, 0x7F7F }, { 0x7F7F8000, 0x7F80 },
        { 0xFF7FFFFF, 0xFF80 }, { 0x7F800000, 0x7F80 }, { 0xFF800000, 0xFF80 },
        { 0x00000000, 0x0000 }, { 0x80000000, 0x8000 }, { 0x007FFFFF, 0x0000 },
        { 0x807FFFFF, 0x8000 }, { 0x00800000, 0x0080 }, { 0x00808000, 0x0080 },
        { 0x7F800001, 0x7FC0 }, { 0xFFA00000, 0xFFE0 }, { 0x7FC12345, 0x7FC1 },
    };
    const struct panel_ops *ops[2];
    for (unsigned i = 0, n = impls(ops); i < n; i++)
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
            for (unsigned along = 0; along < 2; along++) {
                float x = from_bits(cases[c].in);
                _Alignas(64) uint32_t out[BF16_LANES] = { 0 };
                ops[i]->pack(&(struct panel_pack){ .src = &x,
                                                   .ld = 1,
                                                   .along_k = along,
                                                   .n_x = 1,
                                                   .n_k = 1,
                                                   .dst = out,
                                                   .width = BF16_ROWS,
                                                   .stride = BF16_ROWS });
                cr_expect_eq(out[0], cases[c].out, "%s: %08x -> %08x, want %04x", name_of(ops[i]),
                             cases[c].in, out[0], cases[c].out);
            }
}

/* Rounding written down twice, here and in the reference, on any bit pattern. */
Test(gemm_bf16, rounding_agrees_with_its_arithmetic_definition)
{
    struct rng rng = { 11 };
    for (int i = 0; i < 200000; i++) {
        float x = wild(&rng);
        uint32_t out[BF16_LANES];
        bf16_ref.pack(&(struct panel_pack){
            .src = &x, .ld = 1, .n_x = 1, .n_k = 1, .dst = out, .width = BF16_ROWS, .stride = 8 });
        float got = from_bits(out[0] << 16), want = (float)rounded(x);
        cr_assert(same(got, want), "%a -> %a, want %a", (double)x, (double)got, (double)want);
    }
}

/* Panels of n_x by n_k as `ops` writes them, from a source at the end of a page. */
static uint32_t *packed(const struct panel_ops *ops, const float *src, size_t ld, bool along,
                        size_t n_x, size_t n_k, size_t width, size_t words)
{
    uint32_t *out = aligned_alloc(64, words * 4);
    memset(out, 0x5A, words * 4); /* what is not written must be the same, too */
    ops->pack(&(struct panel_pack){ .src = src,
                                    .ld = ld,
                                    .along_k = along,
                                    .n_x = n_x,
                                    .n_k = n_k,
                                    .dst = out,
                                    .width = width,
                                    .stride = (n_k + 1) / 2 * width });
    return out;
}

Test(gemm_bf16, every_level_packs_the_same_words_at_every_size)
{
    const struct panel_ops *ops[2];
    if (impls(ops) < 2)
        return;
    struct rng rng = { 5 };
    for (size_t n_x = 1; n_x <= 100; n_x += n_x < 50 ? 1 : 7)
        for (size_t n_k = 1 + n_x % 2; n_k <= 70; n_k += 1 + n_x % 3)
            for (unsigned v = 0; v < 4; v++) {
                bool along = v & 1;
                size_t width = v & 2 ? BF16_COLS : BF16_ROWS, ld = (along ? n_k : n_x) + v % 3;
                size_t words = ((n_x + 47) / 48 * 48 + 48) * ((n_k + 1) / 2);
                words = (words + 15) / 16 * 16;
                size_t n = along ? extent(n_x, n_k, ld) : extent(n_k, n_x, ld);
                float *src = filled(&rng, n, wild);
                uint32_t *a = packed(ops[0], src, ld, along, n_x, n_k, width, words);
                uint32_t *b = packed(ops[1], src, ld, along, n_x, n_k, width, words);
                for (size_t i = 0; i < words; i++)
                    cr_assert_eq(a[i], b[i], "x %zu k %zu width %zu along %d word %zu: %08x, %08x",
                                 n_x, n_k, width, along, i, a[i], b[i]);
                free(a);
                free(b);
                guard_free(src);
            }
}

/* A bf16 as packing leaves it: no denormals. */
static uint32_t half_word(float x)
{
    uint32_t w = bits(x) >> 16;
    return w & 0x7F80 ? w : w & 0x8000;
}

static uint32_t *random_panel(struct rng *rng, size_t words, float (*draw)(struct rng *))
{
    uint32_t *p = aligned_alloc(64, (words * 4 + 63) / 64 * 64);
    for (size_t i = 0; i < words; i++)
        p[i] = half_word(draw(rng)) | half_word(draw(rng)) << 16;
    return p;
}

/* The order of the sum, odd products first, flushed denormals, infinities and NaN: all of it is in
 * the bits. */
Test(gemm_bf16, every_level_computes_a_tile_with_the_same_bits)
{
    static float (*const draws[])(struct rng *) = { plain, tiny, wild };
    static const float scales[][2] = { { 1, 0 }, { 1, 1 }, { -0.3F, 0.7F } };
    enum { LD = BF16_COLS + 3 };
    const struct panel_ops *ops[2];
    if (impls(ops) < 2)
        return;
    struct rng rng = { 3 };
    for (unsigned turn = 0; turn < 3000; turn++) {
        float (*draw)(struct rng *) = draws[turn % 3];
        size_t n_word = 1 + rng_below(&rng, turn % 10 ? 40 : 192);
        uint32_t *a = random_panel(&rng, n_word * BF16_ROWS, draw);
        uint32_t *b = random_panel(&rng, n_word * BF16_COLS, draw);
        float c[2][BF16_ROWS * LD + 1];
        for (size_t i = 0; i <= BF16_ROWS * LD; i++)
            c[0][i] = c[1][i] = draw(&rng);
        struct panel_tile t = { .a = a, .b = b, .n_word = n_word, .ldc = LD };
        t.rows = 1 + (unsigned)rng_below(&rng, BF16_ROWS);
        t.cols = 1 + (unsigned)rng_below(&rng, BF16_COLS);
        t.alpha = scales[turn / 3 % 3][0];
        t.beta = scales[turn / 3 % 3][1];
        for (unsigned i = 0; i < 2; i++) {
            t.c = c[i] + 1;
            t.ahead = i ? (const char *)b : NULL;
            t.step = 64;
            ops[i]->tile(&t);
        }
        for (size_t i = 0; i <= BF16_ROWS * LD; i++)
            cr_assert(same(c[0][i], c[1][i]), "turn %u, %u x %u x %zu, [%zu]: %a and %a", turn,
                      t.rows, t.cols, n_word, i, (double)c[0][i], (double)c[1][i]);
        free(a);
        free(b);
    }
}

/* Each dimension takes every length of 1..70 while the others pass through lengths around the
 * widths of panels, vectors and pairs. */
Test(gemm_bf16, every_transpose_is_within_the_rounding_bound_at_every_tail)
{
    static const size_t others[] = { 1, 2, 7, 8, 9, 16, 17, 31, 33, 47, 48, 49, 64, 70 };
    enum { N_OTHER = sizeof others / sizeof others[0] };
    const struct panel_ops *ops[2];
    unsigned n_ops = impls(ops);
    struct rng rng = { 7 };
    for (unsigned i = 0; i < n_ops; i++)
        for (unsigned trans = 0; trans < 4; trans++)
            for (unsigned axis = 0; axis < 3; axis++)
                for (size_t len = 1; len <= 70; len++)
                    for (unsigned turn = 0; turn < (i ? 3u : 1u); turn++) {
                        size_t d[3];
                        for (unsigned x = 0; x < 3; x++)
                            d[x] = x == axis ? len : others[rng_below(&rng, N_OTHER)];
                        check(&rng, ops[i], trans, d, turn == 1 ? -0.75 : 1, turn == 2 ? 1 : 0);
                    }
}

Test(gemm_bf16, sums_over_many_blocks_stay_within_the_bound)
{
    static const size_t depths[] = { 383, 384, 385, 767, 768, 769, 1000, 1153 };
    const struct panel_ops *ops[2];
    unsigned n_ops = impls(ops);
    struct rng rng = { 9 };
    for (unsigned i = 0; i < n_ops; i++)
        for (size_t s = 0; s < sizeof depths / sizeof depths[0]; s++)
            for (unsigned trans = 0; trans < 4; trans++) {
                size_t d[3] = { 19, 53, depths[s] };
                check(&rng, ops[i], trans, d, 1, s % 2 ? 0.5 : 0);
            }
}

/* Shapes that are cut into strips of rows and of columns, with one and several tiles of the shared
 * operand, partial ones last; elements picked at random, the bits of all for any number of threads.
 */
Test(gemm_bf16, large_products_are_right_and_the_same_for_any_number_of_threads)
{
    static const size_t shapes[][3] = {
        { 1701, 500, 400 }, { 300, 1500, 801 }, { 770, 790, 390 },
        { 129, 48, 3000 },  { 5, 4099, 70 },    { 2048, 384, 129 }
    };
    const struct panel_ops *ops[2];
    const struct panel_ops *best = ops[impls(ops) - 1];
    struct rng rng = { 13 };
    struct err e = ERR_INIT;
    struct pool *pools[3] = { NULL };
    for (unsigned t = 0; t < 3; t++)
        cr_assert_eq(pool_create(t + 2 + t * 6, &pools[t], &e), ST_OK, "%s", e.msg);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const size_t *d = shapes[s];
        struct problem p = problem_make(&rng, (unsigned)s % 4, d, s % 2, plain);
        p.g.beta = s % 2 ? 1 : 0;
        run(best, NULL, &p.g);
        for (unsigned pick = 0; pick < 1000; pick++) {
            size_t i = rng_below(&rng, p.g.m), j = rng_below(&rng, p.g.n);
            expect_element(&p, name_of(best), i, j);
        }
        float *once = malloc(p.n_c * sizeof *once);
        memcpy(once, p.c, p.n_c * sizeof *once);
        for (unsigned t = 0; t < 3; t++) {
            memcpy(p.c, p.c0, p.n_c * sizeof *p.c);
            run(best, pools[t], &p.g);
            cr_assert_eq(memcmp(p.c, once, p.n_c * sizeof *once), 0, "%zu x %zu x %zu, %u threads",
                         d[0], d[1], d[2], pool_threads(pools[t]));
        }
        free(once);
        problem_free(&p);
    }
    for (unsigned t = 0; t < 3; t++)
        pool_free(pools[t]);
}

Test(gemm_bf16, whole_products_have_the_reference_s_bits)
{
    static const size_t shapes[][3] = { { 150, 100, 900 }, { 40, 130, 385 }, { 7, 200, 65 } };
    const struct panel_ops *ops[2];
    if (impls(ops) < 2)
        return;
    struct rng rng = { 17 };
    for (size_t s = 0; s < 3; s++)
        for (unsigned trans = 0; trans < 4; trans++) {
            const size_t *d = shapes[s];
            struct problem p = problem_make(&rng, trans, d, 1, plain);
            p.g.alpha = 0.7;
            p.g.beta = trans & 1 ? 1 : 0;
            run(ops[0], NULL, &p.g);
            float *want = malloc(p.n_c * sizeof *want);
            memcpy(want, p.c, p.n_c * sizeof *want);
            memcpy(p.c, p.c0, p.n_c * sizeof *want);
            run(ops[1], NULL, &p.g);
            cr_expect_eq(memcmp(p.c, want, p.n_c * sizeof *want), 0, "%zu x %zu x %zu, %u", d[0],
                         d[1], d[2], trans);
            free(want);
            problem_free(&p);
        }
}

static float nan_draw(struct rng *rng)
{
    (void)rng;
    return NAN;
}

Test(gemm_bf16, beta_zero_does_not_read_c_and_alpha_zero_neither_a_nor_b)
{
    const struct panel_ops *ops[2];
    unsigned n_ops = impls(ops);
    struct rng rng = { 19 };
    for (unsigned i = 0; i < n_ops; i++) {
        struct problem p = problem_make(&rng, 0, (size_t[]){ 10, 50, 400 }, 0, plain);
        for (size_t at = 0; at < p.n_c; at++)
            p.c[at] = p.c0[at] = NAN;
        run(ops[i], NULL, &p.g);
        expect_product(&p, name_of(ops[i]));
        problem_free(&p);

        p = problem_make(&rng, 0, (size_t[]){ 10, 50, 40 }, 0, nan_draw);
        p.g.alpha = 0;
        p.g.beta = 0.5;
        run(ops[i], NULL, &p.g);
        for (size_t at = 0; at < p.n_c; at++)
            cr_expect_eq(p.c[at], 0.5F * p.c0[at]);
        p.g.alpha = 1;
        p.g.k = 0;
        p.g.beta = 0;
        run(ops[i], NULL, &p.g);
        for (size_t at = 0; at < p.n_c; at++)
            cr_expect_eq(p.c[at], 0);
        problem_free(&p);
    }
}

/* A NaN or an infinity reaches its own row or column, and nothing else: not through padding, not
 * through neighbours in a panel. */
Test(gemm_bf16, nan_and_infinity_reach_their_row_or_column_only)
{
    enum { M = 21, N = 59, K = 401, I = 13, J = 52, P = 400 };
    const struct panel_ops *ops[2];
    unsigned n_ops = impls(ops);
    struct rng rng = { 23 };
    for (unsigned i = 0; i < n_ops; i++)
        for (unsigned kind = 0; kind < 6; kind++) {
            struct problem p = problem_make(&rng, 0, (size_t[]){ M, N, K }, 0, plain);
            float special = kind % 3 == 0 ? NAN : INFINITY;
            if (kind < 3)
                p.a[I * p.g.lda + P] = special;
            else
                p.b[P * p.g.ldb + J] = special;
            if (kind % 3 == 2) { /* infinity times zero */
                for (size_t r = 0; r < M && kind >= 3; r++)
                    p.a[r * p.g.lda + P] = 0;
                for (size_t c = 0; c < N && kind < 3; c++)
                    p.b[P * p.g.ldb + c] = 0;
            }
            run(ops[i], NULL, &p.g);
            for (size_t r = 0; r < M; r++)
                for (size_t c = 0; c < N; c++) {
                    float got = p.c[r * p.g.ldc + c];
                    bool hit = kind < 3 ? r == I : c == J;
                    float other = kind < 3 ? p.b[P * p.g.ldb + c] : p.a[r * p.g.lda + P];
                    bool right = !hit            ? isfinite(got)
                                 : kind % 3 == 1 ? isinf(got) && signbit(got) == signbit(other)
                                                 : isnan(got);
                    cr_assert(right, "%s kind %u [%zu,%zu]: %g", name_of(ops[i]), kind, r, c,
                              (double)got);
                }
            problem_free(&p);
        }
}

Test(gemm_bf16, denormal_operands_count_as_zero_and_denormal_sums_are_flushed)
{
    static const struct {
        float a, b, want;
    } cases[] = {
        { 0x1p-127F, 0x1p100F, 0 },        { -0x1p-130F, 0x1p60F, 0 },
        { 0x1p-126F, 0x1p100F, 0x1p-26F }, { 0x1p-64F, 0x1p-64F, 0 },
        { 0x1p-63F, 0x1p-63F, 0x1p-126F }, { 0x1.8p-64F, 0x1p-63F, 0 },
    };
    const struct panel_ops *ops[2];
    for (unsigned i = 0, n = impls(ops); i < n; i++)
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            float got = 5;
            struct gemm_call g = { .m = 1,
                                   .n = 1,
                                   .k = 1,
                                   .a = &cases[c].a,
                                   .b = &cases[c].b,
                                   .lda = 1,
                                   .ldb = 1,
                                   .ldc = 1,
                                   .c = &got,
                                   .alpha = 1 };
            run(ops[i], NULL, &g);
            cr_expect_eq(got, cases[c].want, "%s: %a * %a = %a", name_of(ops[i]),
                         (double)cases[c].a, (double)cases[c].b, (double)got);
        }
}

Test(gemm_bf16, the_order_of_a_sum_depends_on_k_only)
{
    struct rng rng = { 29 };
    const struct panel_ops *ops[2];
    const struct panel_ops *best = ops[impls(ops) - 1];
    struct problem p = problem_make(&rng, 2, (size_t[]){ 200, 300, 500 }, 0, plain);
    run(best, NULL, &p.g);
    for (unsigned pick = 0; pick < 200; pick++) {
        size_t i = rng_below(&rng, 200), j = rng_below(&rng, 300);
        float one = 0;
        struct gemm_call g = p.g;
        g.m = g.n = 1;
        g.a = p.a + i * g.lda;
        g.b = p.b + j * g.ldb;
        g.c = &one;
        run(best, NULL, &g);
        cr_assert(same(one, p.c[i * p.g.ldc + j]), "[%zu,%zu]: %a alone, %a among others", i, j,
                  (double)one, (double)p.c[i * p.g.ldc + j]);
    }
    problem_free(&p);
}

Test(gemm_bf16, blocks_of_k_cover_it_without_an_empty_one)
{
    for (size_t k = 1; k < 40000; k++) {
        size_t d = bf16_depth(k), blocks = (k + d - 1) / d;
        cr_assert(d % PANEL_STEP == 0 && d <= BF16_DEPTH && d > 0, "%zu: %zu", k, d);
        cr_assert_eq(blocks, (k + BF16_DEPTH - 1) / BF16_DEPTH, "%zu: %zu", k, d);
    }
}

/* One scratch serves products of any shape up to its size, one after the other. */
Test(gemm_bf16, scratch_of_the_largest_shape_serves_the_smaller_ones)
{
    const struct panel_ops *ops[2];
    const struct panel_ops *best = ops[impls(ops) - 1];
    struct rng rng = { 31 };
    struct err e = ERR_INIT;
    struct gemm_panel *s = NULL;
    struct pool *pool = NULL;
    cr_assert_eq(pool_create(3, &pool, &e), ST_OK);
    cr_assert_eq(bf16_create(best, 140, 300, 400, &s, &e), ST_OK, "%s", e.msg);
    for (unsigned turn = 0; turn < 24; turn++) {
        size_t d[3] = { 140, 300, 400 };
        for (unsigned x = 0; x < 3 && turn; x++)
            d[x] = rng_below(&rng, d[x] + 1);
        struct problem p = problem_make(&rng, turn % 4, d, 0, plain);
        gemm_panel(s, turn % 2 ? pool : NULL, &p.g);
        expect_product(&p, name_of(best));
        problem_free(&p);
    }
    gemm_panel_free(s);
    pool_free(pool);
}

Test(gemm_bf16, sizes_beyond_the_address_space_are_refused)
{
    struct err e = ERR_INIT;
    struct gemm_panel *s = NULL;
    size_t big = (size_t)1 << 40;
    cr_expect_eq(gemm_bf16_bytes(big, big, big), 0);
    cr_expect_eq(gemm_bf16_bytes(SIZE_MAX, 1, 1), 0);
    cr_expect_eq(bf16_create(&bf16_ref, big, big, big, &s, &e), ST_NOMEM);
    cr_expect_null(s);
    size_t bytes = gemm_bf16_bytes(2048, 4096, 384);
    cr_expect(bytes >= (2048 + 4096) * 384 * 2 && bytes < (2048 + 4096) * 384 * 2 + (4u << 20));
    gemm_panel_free(NULL);
}

Test(gemm_bf16, a_processor_without_the_instructions_is_told_so)
{
    struct err e = ERR_INIT;
    struct gemm_panel *s = NULL;
    enum status st = gemm_panel_create(GEMM_BF16, gemm_bf16_bytes(8, 8, 8), &s, &e);
    cr_expect_eq(st, gemm_panel_supported(GEMM_BF16) ? ST_OK : ST_UNSUPPORTED, "%s", e.msg);
    cr_expect_eq(s != NULL, gemm_panel_supported(GEMM_BF16));
    gemm_panel_free(s);
}
