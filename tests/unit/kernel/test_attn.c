#include "engine/base/rng.h"
#include "engine/kernel/attn.h"
#include "engine/kernel/vector.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CAP = 200 };

struct fixture {
    struct attn_shape sh;
    enum dtype type;
    void *k, *v;
    float *q;
    uint32_t n_tok;
};

static float cached(const struct fixture *f, const void *base, size_t i)
{
    return f->type == DT_F16 ? f16_to_f32(((const uint16_t *)base)[i]) : ((const float *)base)[i];
}

/* n numbers of [-top, top) as the cache holds them. */
static void *cache(struct rng *rng, enum dtype type, size_t n, double top)
{
    void *p = malloc(n * dtype_row_bytes(type, 1));
    cr_assert(p);
    for (size_t i = 0; i < n; i++) {
        float x = (float)(rng_f64(rng) * 2 * top - top);
        if (type == DT_F16)
            ((uint16_t *)p)[i] = f32_to_f16(x);
        else
            ((float *)p)[i] = x;
    }
    return p;
}

static struct fixture make(struct attn_shape sh, enum dtype type, uint32_t n_tok, uint64_t seed)
{
    struct rng rng = { seed };
    struct fixture f = { .sh = sh, .type = type, .n_tok = n_tok };
    size_t nk = (size_t)sh.n_kv * CAP * sh.d_k, nv = (size_t)sh.n_kv * CAP * sh.d_v;
    size_t nq = (size_t)n_tok * sh.n_head * sh.d_k;
    f.k = cache(&rng, type, nk, 2);
    f.v = cache(&rng, type, nv, 1);
    f.q = malloc(nq * 4);
    for (size_t i = 0; i < nq; i++)
        f.q[i] = (float)(rng_f64(&rng) * 4 - 2);
    return f;
}

static void drop(struct fixture *f)
{
    free(f->k);
    free(f->v);
    free(f->q);
}

/* Runs tokens [from, from + n) of the fixture as one segment. */
static void run(const struct fixture *f, enum cpu_level lv, struct pool *pool, uint32_t from,
                uint32_t n, float *out)
{
    size_t stride = attn_scratch_bytes(f->sh);
    void *scratch = aligned_alloc(64, stride * pool_threads(pool));
    struct attn_seg seg = { .cache = { f->type, f->k, f->v, (size_t)CAP * f->sh.d_k,
                                       (size_t)CAP * f->sh.d_v },
                            .row0 = from,
                            .n_tok = n,
                            .pos0 = from };
    attention(kernels_get(lv), pool, f->sh, &seg, 1, f->q, out, scratch, stride);
    free(scratch);
}

static double naive(const struct fixture *f, uint32_t t, uint32_t h, uint32_t d)
{
    const struct attn_shape *s = &f->sh;
    uint32_t g = h / (s->n_head / s->n_kv);
    double score[CAP], top = -(double)INFINITY, sum = 0, out = 0;
    for (uint32_t p = 0; p <= t; p++) {
        double x = 0;
        for (uint32_t i = 0; i < s->d_k; i++)
            x += (double)f->q[((size_t)t * s->n_head + h) * s->d_k + i] *
                 (double)cached(f, f->k, ((size_t)g * CAP + p) * s->d_k + i);
        x *= (double)s->scale;
        if (s->softcap > 0)
            x = (double)s->softcap * tanh(x / (double)s->softcap);
        score[p] = s->window && p + s->window <= t ? -(double)INFINITY : x;
        top = fmax(top, score[p]);
    }
    for (uint32_t p = 0; p <= t; p++)
        sum += exp(score[p] - top);
    for (uint32_t p = 0; p <= t; p++)
        out +=
            exp(score[p] - top) / sum * (double)cached(f, f->v, ((size_t)g * CAP + p) * s->d_v + d);
    return out;
}

static const struct attn_shape shapes[] = {
    { 4, 4, 64, 64, 0.125f, 0, 0 }, { 8, 2, 8, 8, 0.35f, 0, 0 },      { 6, 1, 24, 40, 0.2f, 0, 0 },
    { 4, 2, 80, 80, 0.11f, 50, 0 }, { 2, 2, 128, 128, 0.09f, 0, 30 }, { 3, 3, 5, 7, 0.4f, 20, 65 },
};

/* Scores differ by at most e = (d + 3) u sum|q k| scale; weights by 2 e relative; |v| <= 1, so the
 * output by 2 e + n u. With |q|, |k| <= 2, d <= 128 and scale <= 0.4 that is below 1e-4 d u-units;
 * the bound used is 2 (d + 3) u (4 d scale) + (n + 8) u. */
static void equals_oracle(size_t s, enum dtype type)
{
    struct fixture f = make(shapes[s], type, 150, s + 1);
    float *out = calloc((size_t)f.n_tok * f.sh.n_head * f.sh.d_v, 4);
    run(&f, CPU_AVX512, NULL, 0, f.n_tok, out);
    double u = 0x1p-24, d = f.sh.d_k;
    double bound = 2 * (d + 3) * u * 4 * d * (double)f.sh.scale + (CAP + 8) * u;
    for (uint32_t t = 0; t < f.n_tok; t += 7)
        for (uint32_t h = 0; h < f.sh.n_head; h++)
            for (uint32_t i = 0; i < f.sh.d_v; i += 3)
                cr_assert_leq(fabs((double)out[((size_t)t * f.sh.n_head + h) * f.sh.d_v + i] -
                                   naive(&f, t, h, i)),
                              bound, "%s shape %zu token %u head %u", dtype_info(type)->name, s, t,
                              h);
    free(out);
    drop(&f);
}

Test(attn, equals_a_double_oracle_within_the_bound)
{
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        equals_oracle(s, DT_F16);
        equals_oracle(s, DT_F32);
    }
}

static void nothing_matters(size_t s, enum dtype type, struct pool *pool)
{
    struct fixture f = make(shapes[s], type, 130, 40 + s);
    size_t n = (size_t)f.n_tok * f.sh.n_head * f.sh.d_v;
    float *want = calloc(n, 4), *got = calloc(n, 4);
    run(&f, CPU_REF, NULL, 0, f.n_tok, want);
    for (enum cpu_level lv = CPU_REF; lv <= cpu_level_max(); lv++) {
        static const uint32_t cuts[] = { 130, 1, 33, 50 };
        for (int c = 0; c < 4; c++) {
            memset(got, 0, n * 4);
            for (uint32_t t = 0; t < f.n_tok; t += cuts[c])
                run(&f, lv, pool, t, f.n_tok - t < cuts[c] ? f.n_tok - t : cuts[c], got);
            cr_assert_eq(memcmp(want, got, n * 4), 0, "%s shape %zu, %s, cut %u",
                         dtype_info(type)->name, s, cpu_level_name(lv), cuts[c]);
        }
    }
    free(want);
    free(got);
    drop(&f);
}

Test(attn, cuts_threads_and_levels_do_not_matter)
{
    struct err e = ERR_INIT;
    struct pool *pool;
    cr_assert_eq(pool_create(3, &pool, &e), ST_OK);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        nothing_matters(s, DT_F16, pool);
        nothing_matters(s, DT_F32, pool);
    }
    pool_free(pool);
}

/* What f16 holds exactly is the same number in f32: one arithmetic for both caches. */
Test(attn, both_element_types_give_the_same_bits_for_the_same_numbers)
{
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        struct fixture half = make(shapes[s], DT_F16, 130, 7 + s), full = half;
        size_t nk = (size_t)full.sh.n_kv * CAP * full.sh.d_k;
        size_t nv = (size_t)full.sh.n_kv * CAP * full.sh.d_v;
        size_t n = (size_t)half.n_tok * half.sh.n_head * half.sh.d_v;
        float *k = malloc(nk * 4), *v = malloc(nv * 4), *want = calloc(n, 4), *got = calloc(n, 4);
        cr_assert(k && v && want && got);
        for (size_t i = 0; i < nk; i++)
            k[i] = cached(&half, half.k, i);
        for (size_t i = 0; i < nv; i++)
            v[i] = cached(&half, half.v, i);
        full.type = DT_F32;
        full.k = k;
        full.v = v;
        for (enum cpu_level lv = CPU_REF; lv <= cpu_level_max(); lv++) {
            run(&half, lv, NULL, 0, half.n_tok, want);
            run(&full, lv, NULL, 0, full.n_tok, got);
            cr_expect_eq(memcmp(want, got, n * 4), 0, "shape %zu, %s", s, cpu_level_name(lv));
        }
        free(k);
        free(v);
        free(want);
        free(got);
        drop(&half);
    }
}
