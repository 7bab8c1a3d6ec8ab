/* tests/bench/train/gemm_bench.c - f32 (CBLAS, and ours) and bf16 products of a training step, as
 * JSON lines. gemm_bench [--threads 1,2] [--seconds 0.3] [--only fc] Shapes: a GPT-2 of d = 384, ff
 * = 1536, 4096 words, 6 layers, 2048 tokens a step (baselines.md, section 4); every linear layer
 * forward, and backward for its input (dx) and weight (dw). GFLOP/s count two per multiply-add and
 * include packing. Each line carries the register-to-register peaks of the same second, for rates
 * move with the host's load, and takes the best of interleaved repetitions: neighbours can only
 * slow a run down. OpenBLAS's choice of kernels is printed; on processors younger than it,
 * OPENBLAS_CORETYPE=SkylakeX shows what f32 could be. Not a test. */
#include "engine/base/clock.h"
#include "engine/base/pool.h"
#include "engine/base/rng.h"
#include "engine/kernel/gemm.h"

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    TOKENS = 2048,
    MAX_DIM = 4096,
    PEAK_LOOPS = 200000,
    PEAK_CHAINS = 16,
    MAX_THREADS = 64,
    LAYERS = 6
};

static double seconds = 0.3;
static const char *only;

struct layer {
    const char *name;
    size_t in, out, tokens, per_step; /* per_step 0: not part of the training step */
};
static const struct layer layers[] = {
    { "attention", 384, 384, TOKENS, 4 * LAYERS },
    { "fc", 384, 1536, TOKENS, LAYERS },
    { "proj", 1536, 384, TOKENS, LAYERS },
    { "head", 384, 4096, TOKENS, 1 },
    { "square", 1024, 1024, 1024, 0 },
    { "square", 2048, 2048, 2048, 0 },
};
enum { N_LAYER = sizeof layers / sizeof layers[0] };
static const char *const passes[] = { "forward", "dx", "dw" };

struct bench {
    struct pool *pool;
    struct gemm_panel *scratch[2]; /* of each enum gemm_kind */
    struct gemm_call call;
    float *x, *w, *y;
    double step_f32, step_ours, step_bf16;
};

__attribute__((target("avx512f"))) static void fma_task(void *arg, size_t i, unsigned worker)
{
    (void)i;
    (void)worker;
    __m512 a[PEAK_CHAINS], x = _mm512_set1_ps(0.5F);
    for (int k = 0; k < PEAK_CHAINS; k++)
        a[k] = _mm512_set1_ps((float)k);
    for (int n = 0; n < PEAK_LOOPS; n++) {
        UNROLL
        for (int k = 0; k < PEAK_CHAINS; k++)
            a[k] = _mm512_fmadd_ps(a[k], x, x);
    }
    for (int k = 1; k < PEAK_CHAINS; k++)
        a[0] = _mm512_add_ps(a[0], a[k]);
    *(volatile float *)arg = _mm512_cvtss_f32(a[0]);
}

__attribute__((target("avx512f,avx512bf16"))) static void dot_task(void *arg, size_t i,
                                                                   unsigned worker)
{
    (void)i;
    (void)worker;
    __m512 a[PEAK_CHAINS];
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3F00);
    for (int k = 0; k < PEAK_CHAINS; k++)
        a[k] = _mm512_set1_ps((float)k);
    for (int n = 0; n < PEAK_LOOPS; n++) {
        UNROLL
        for (int k = 0; k < PEAK_CHAINS; k++)
            a[k] = _mm512_dpbf16_ps(a[k], x, x);
    }
    for (int k = 1; k < PEAK_CHAINS; k++)
        a[0] = _mm512_add_ps(a[0], a[k]);
    *(volatile float *)arg = _mm512_cvtss_f32(a[0]);
}

static double time_tasks(struct pool *pool, void (*task)(void *, size_t, unsigned))
{
    float sink;
    uint64_t t = clock_ns();
    pool_run(pool, pool_threads(pool), task, &sink);
    return (double)(clock_ns() - t) * 1e-9;
}

static double time_f32(struct bench *b)
{
    uint64_t t = clock_ns();
    gemm_f32(b->pool, &b->call);
    return (double)(clock_ns() - t) * 1e-9;
}

static double time_ours(struct bench *b)
{
    uint64_t t = clock_ns();
    gemm_panel(b->scratch[GEMM_F32], b->pool, &b->call);
    return (double)(clock_ns() - t) * 1e-9;
}

static double time_bf16(struct bench *b)
{
    uint64_t t = clock_ns();
    gemm_panel(b->scratch[GEMM_BF16], b->pool, &b->call);
    return (double)(clock_ns() - t) * 1e-9;
}

static void keep_least(double *best, double v)
{
    if (v < *best)
        *best = v;
}

/* x [tokens, in], w [out, in], y [tokens, out], row-major; the gradients lie like their values. */
static struct gemm_call call_of(const struct bench *b, const struct layer *l, unsigned pass)
{
    struct gemm_call g = { .m = l->tokens, .alpha = 1 };
    if (pass == 0) {
        g.tb = true;
        g.n = l->out, g.k = l->in;
        g.a = b->x, g.lda = l->in, g.b = b->w, g.ldb = l->in, g.c = b->y, g.ldc = l->out;
    } else if (pass == 1) {
        g.n = l->in, g.k = l->out;
        g.a = b->y, g.lda = l->out, g.b = b->w, g.ldb = l->in, g.c = b->x, g.ldc = l->in;
    } else {
        g.ta = true;
        g.m = l->out, g.n = l->in, g.k = l->tokens;
        g.a = b->y, g.lda = l->out, g.b = b->x, g.ldb = l->in, g.c = b->w, g.ldc = l->in;
    }
    return g;
}

static void bench_call(struct bench *b, const struct layer *l, unsigned pass)
{
    b->call = call_of(b, l, pass);
    const struct gemm_call *g = &b->call;
    double f32 = 1e30, ours = 1e30, bf16 = 1e30, fma = 1e30, dot = 1e30, spent = 0;
    for (int n = 0; n < 5 || spent < seconds; n++) {
        uint64_t t = clock_ns();
        keep_least(&fma, time_tasks(b->pool, fma_task));
        keep_least(&f32, time_f32(b));
        keep_least(&ours, time_ours(b));
        keep_least(&dot, time_tasks(b->pool, dot_task));
        keep_least(&bf16, time_bf16(b));
        spent += (double)(clock_ns() - t) * 1e-9;
    }
    double ops = 2.0 * (double)g->m * (double)g->n * (double)g->k * 1e-9;
    double peak = 2.0 * 16 * PEAK_LOOPS * PEAK_CHAINS * pool_threads(b->pool) * 1e-9;
    printf("{\"layer\":\"%s\",\"pass\":\"%s\",\"m\":%zu,\"n\":%zu,\"k\":%zu,\"threads\":%u,"
           "\"blas\":%.1f,\"f32\":%.1f,\"fma_peak\":%.1f,\"f32_of_peak\":%.3f,\"over_blas\":%.2f,"
           "\"bf16\":%.1f,\"dot_peak\":%.1f,\"bf16_of_peak\":%.3f}\n",
           l->name, passes[pass], g->m, g->n, g->k, pool_threads(b->pool), ops / f32, ops / ours,
           peak / fma, ops / ours / (peak / fma), f32 / ours, ops / bf16, 2 * peak / dot,
           ops / bf16 / (2 * peak / dot));
    fflush(stdout);
    b->step_f32 += (double)l->per_step * f32;
    b->step_ours += (double)l->per_step * ours;
    b->step_bf16 += (double)l->per_step * bf16;
}

static void fill(float *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(rng_at(seed, i) >> 40) * 0x1p-24F - 0.5F;
}

static void bench_threads(struct bench *b)
{
    b->step_f32 = b->step_ours = b->step_bf16 = 0;
    for (size_t i = 0; i < N_LAYER; i++)
        for (unsigned pass = 0; pass < 3; pass++)
            if (!only || strcmp(only, layers[i].name) == 0) {
                fill(b->x, layers[i].in * layers[i].tokens, 1);
                fill(b->w, layers[i].in * layers[i].out, 2);
                fill(b->y, layers[i].out * layers[i].tokens, 3);
                bench_call(b, &layers[i], pass);
            }
    printf("{\"step\":true,\"threads\":%u,\"blas_ms\":%.2f,\"f32_ms\":%.2f,\"bf16_ms\":%.2f,"
           "\"over_blas\":%.2f}\n",
           pool_threads(b->pool), b->step_f32 * 1e3, b->step_ours * 1e3, b->step_bf16 * 1e3,
           b->step_f32 / b->step_ours);
}

static int usage(void)
{
    fprintf(stderr, "usage: gemm_bench [--threads 1,2] [--seconds 0.3] [--only fc]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *threads = "1,2";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            threads = argv[i + 1];
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
        else
            return usage();
    }
    struct err e = ERR_INIT;
    struct bench b = { 0 };
    const size_t most[3] = { TOKENS, MAX_DIM, MAX_DIM };
    for (int kind = 0; kind < 2; kind++)
        if (gemm_panel_create((enum gemm_kind)kind, gemm_panel_bytes((enum gemm_kind)kind, most, 0),
                              &b.scratch[kind], &e) != ST_OK) {
            fprintf(stderr, "gemm_bench: %s\n", e.msg);
            return 1;
        }
    size_t part = (size_t)MAX_DIM * TOKENS * sizeof(float);
    char *mem = mmap(NULL, 3 * part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED)
        return 1;
    madvise(mem, 3 * part, MADV_HUGEPAGE);
    b.x = (float *)(void *)mem;
    b.w = (float *)(void *)(mem + part);
    b.y = (float *)(void *)(mem + 2 * part);
    for (const char *p = threads; *p; p += strcspn(p, ","), p += *p == ',') {
        long n = strtol(p, NULL, 10);
        if (n < 1 || n > MAX_THREADS)
            return usage();
        if (pool_create((unsigned)n, &b.pool, &e) != ST_OK) {
            fprintf(stderr, "gemm_bench: %s\n", e.msg);
            return 1;
        }
        printf("{\"blas\":\"%s\",\"f32\":\"%s\"}\n", gemm_name(), gemm_panel_name());
        bench_threads(&b);
        pool_free(b.pool);
    }
    gemm_panel_free(b.scratch[0]);
    gemm_panel_free(b.scratch[1]);
    munmap(mem, 3 * part);
    return 0;
}
