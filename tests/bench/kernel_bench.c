/* tests/bench/kernel_bench.c - products, attention and the machine's ceilings, as JSON lines.
 *   kernel_bench [--levels] [--types q4_0,f16] [--threads 1,2] [--seconds 0.2]
 * GEMV walks through enough copies of a matrix to leave every cache, so its GB/s stands beside the
 * measured DRAM read rate; GEMM's GOP/s (two per multiply-add) stands beside the FMA and int8
 * peaks. Every figure is the best of its repetitions: neighbours can only slow a run down. The
 * ceilings are taken again after each type, since they move with the host's load. Not a test. */
#include "engine/base/clock.h"
#include "engine/base/pool.h"
#include "engine/base/rng.h"
#include "engine/kernel/attn.h"
#include "engine/kernel/matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { POOL_BYTES = 256 << 20, MAX_THREADS = 64 }; /* eight times the third-level cache */

static double seconds = 0.2;
static const char *only_types;
static bool all_levels;

struct peak {
    const uint8_t *mem;
    size_t bytes, n_task;
    volatile int sink;
};

#if defined(__x86_64__)
enum { PEAK_LOOPS = 400000, PEAK_CHAINS = 12 };

__attribute__((target("avx512f"))) static void read_512(void *arg, size_t i, unsigned w)
{
    struct peak *p = arg;
    size_t part = p->bytes / p->n_task;
    const uint8_t *m = p->mem + i * part;
    __m512i s[8];
    for (int k = 0; k < 8; k++)
        s[k] = _mm512_setzero_si512();
    for (size_t b = 0; b + 512 <= part; b += 512)
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++)
            s[k] = _mm512_xor_si512(s[k], _mm512_loadu_si512(m + b + 64 * k));
    for (int k = 1; k < 8; k++)
        s[0] = _mm512_xor_si512(s[0], s[k]);
    p->sink = _mm512_cvtsi512_si32(s[0]);
}

__attribute__((target("avx512f"))) static void fma_512(void *arg, size_t i, unsigned w)
{
    struct peak *p = arg;
    __m512 a[PEAK_CHAINS], x = _mm512_set1_ps(0.5f);
    for (int k = 0; k < PEAK_CHAINS; k++)
        a[k] = _mm512_set1_ps((float)k);
    for (int n = 0; n < PEAK_LOOPS; n++)
#pragma GCC unroll 12
        for (int k = 0; k < PEAK_CHAINS; k++)
            a[k] = _mm512_fmadd_ps(a[k], x, x);
    for (int k = 1; k < PEAK_CHAINS; k++)
        a[0] = _mm512_add_ps(a[0], a[k]);
    p->sink = _mm512_cvtsi512_si32(_mm512_castps_si512(a[0]));
}

__attribute__((target("avx512f,avx512vnni"))) static void int8_512(void *arg, size_t i, unsigned w)
{
    struct peak *p = arg;
    __m512i a[PEAK_CHAINS], u = _mm512_set1_epi8((char)(p->bytes & 15)), x = _mm512_set1_epi8(3);
    for (int k = 0; k < PEAK_CHAINS; k++)
        a[k] = _mm512_set1_epi32(k);
    for (int n = 0; n < PEAK_LOOPS; n++)
#pragma GCC unroll 12
        for (int k = 0; k < PEAK_CHAINS; k++)
            a[k] = _mm512_dpbusd_epi32(a[k], u, x);
    for (int k = 1; k < PEAK_CHAINS; k++)
        a[0] = _mm512_add_epi32(a[0], a[k]);
    p->sink = _mm512_cvtsi512_si32(a[0]);
}

__attribute__((target("avx2"))) static void read_256(void *arg, size_t i, unsigned w)
{
    struct peak *p = arg;
    size_t part = p->bytes / p->n_task;
    const uint8_t *m = p->mem + i * part;
    __m256i s[8];
    for (int k = 0; k < 8; k++)
        s[k] = _mm256_setzero_si256();
    for (size_t b = 0; b + 256 <= part; b += 256)
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            const __m256i *v = (const __m256i *)(const void *)(m + b + 32 * k);
            s[k] = _mm256_xor_si256(s[k], _mm256_loadu_si256(v));
        }
    for (int k = 1; k < 8; k++)
        s[0] = _mm256_xor_si256(s[0], s[k]);
    p->sink = _mm256_extract_epi32(s[0], 0);
}

__attribute__((target("avx2,fma"))) static void fma_256(void *arg, size_t i, unsigned w)
{
    struct peak *p = arg;
    __m256 a[PEAK_CHAINS], x = _mm256_set1_ps(0.5f);
    for (int k = 0; k < PEAK_CHAINS; k++)
        a[k] = _mm256_set1_ps((float)k);
    for (int n = 0; n < PEAK_LOOPS; n++)
#pragma GCC unroll 12
        for (int k = 0; k < PEAK_CHAINS; k++)
            a[k] = _mm256_fmadd_ps(a[k], x, x);
    for (int k = 1; k < PEAK_CHAINS; k++)
        a[0] = _mm256_add_ps(a[0], a[k]);
    p->sink = _mm256_extract_epi32(_mm256_castps_si256(a[0]), 0);
}

/* Bytes to words, words to sums: what a level without a dot product in one instruction spends on
 * weights of eight bits. Narrower weights can stay in words for a few steps and pass this. */
__attribute__((target("avx2"))) static void int8_256(void *arg, size_t i, unsigned w)
{
    struct peak *p = arg;
    __m256i a[PEAK_CHAINS], u = _mm256_set1_epi8((char)(p->bytes & 15));
    const __m256i one = _mm256_set1_epi16(1);
    for (int k = 0; k < PEAK_CHAINS; k++)
        a[k] = _mm256_set1_epi32(k);
    for (int n = 0; n < PEAK_LOOPS; n++)
#pragma GCC unroll 12
        for (int k = 0; k < PEAK_CHAINS; k++) { /* the bytes of a[k] stand for activations */
            __m256i pairs = _mm256_maddubs_epi16(u, a[k]);
            a[k] = _mm256_add_epi32(a[k], _mm256_madd_epi16(pairs, one));
        }
    for (int k = 1; k < PEAK_CHAINS; k++)
        a[0] = _mm256_add_epi32(a[0], a[k]);
    p->sink = _mm256_extract_epi32(a[0], 0);
}
#endif

/* Shortest of the repetitions that fit into `seconds`, at least three. */
static double best_of(void (*fn)(void *), void *arg)
{
    double best = 1e30, spent = 0;
    for (int n = 0; n < 3 || spent < seconds; n++) {
        uint64_t t0 = clock_ns();
        fn(arg);
        double s = (double)(clock_ns() - t0) * 1e-9;
        best = s < best ? s : best;
        spent += s;
    }
    return best;
}

struct ceiling_job {
    struct pool *pool;
    struct peak *peak;
    void (*task)(void *, size_t, unsigned);
};
static void ceiling_run(void *arg)
{
    struct ceiling_job *j = arg;
    pool_run(j->pool, j->peak->n_task, j->task, j->peak);
}

static void print_ceilings(struct pool *pool, const uint8_t *mem)
{
#if defined(__x86_64__)
    if (cpu_level_max() < CPU_AVX2)
        return;
    bool wide = cpu_level_max() == CPU_AVX512;
    unsigned n = pool_threads(pool);
    struct peak p = { .mem = mem, .bytes = POOL_BYTES, .n_task = n };
    struct ceiling_job j = { pool, &p, wide ? read_512 : read_256 };
    double read = POOL_BYTES / best_of(ceiling_run, &j) * 1e-9;
    double ops = (double)PEAK_LOOPS * PEAK_CHAINS * n * 1e-9;
    j.task = wide ? fma_512 : fma_256;
    double fma = ops * (wide ? 32 : 16) / best_of(ceiling_run, &j);
    j.task = wide ? int8_512 : int8_256;
    double int8 = ops * (wide ? 128 : 64) / best_of(ceiling_run, &j);
    printf("{\"ceiling\":true,\"threads\":%u,\"read_gb_s\":%.1f,\"fma_gflop_s\":%.1f,"
           "\"int8_gop_s\":%.1f}\n",
           n, read, fma, int8);
    fflush(stdout);
#endif
}

struct product_job {
    const struct kernels *k;
    struct pool *pool;
    struct matrix m; /* data: the first copy */
    size_t copies, at, bytes;
    struct acts acts;
    const float *x;
    float *y;
};
static void product_run(void *arg)
{
    struct product_job *j = arg;
    struct matrix m = j->m;
    m.data = (const uint8_t *)j->m.data + j->at * j->bytes;
    j->at = (j->at + 1) % j->copies;
    acts_set(&j->acts, j->x, j->acts.n_tok, m.n_col, m.n_col);
    matmul(j->k, j->pool, &m, &j->acts, j->y, m.n_row);
}

/* Packs one matrix of pseudo-random weights and repeats it over the pool of memory. */
static void fill(struct product_job *j, uint8_t *mem)
{
    size_t row = dtype_row_bytes(j->m.type, j->m.n_col);
    float *f = malloc(j->m.n_col * sizeof *f);
    uint8_t *src = malloc(row * PANEL_ROWS);
    struct rng rng = { 1 };
    if (!f || !src)
        exit(1);
    for (int r = 0; r < PANEL_ROWS; r++) {
        for (uint32_t i = 0; i < j->m.n_col; i++)
            f[i] = (float)(rng_f64(&rng) - 0.5) * 0.1f;
        dtype_from_f32(j->m.type, f, src + (size_t)r * row, j->m.n_col);
    }
    matrix_pack_panel(j->k, j->m.type, j->m.n_col, PANEL_ROWS, src, mem);
    for (size_t at = row * PANEL_ROWS; at < j->bytes * j->copies; at += row * PANEL_ROWS)
        memcpy(mem + at, mem, row * PANEL_ROWS);
    free(f);
    free(src);
}

static void bench_shape(struct product_job *j, uint8_t *mem, const size_t *toks, size_t n_toks)
{
    j->bytes = matrix_bytes(j->m.type, j->m.n_row, j->m.n_col);
    j->copies = POOL_BYTES / j->bytes;
    j->m.data = mem;
    fill(j, mem);
    for (size_t i = 0; i < n_toks; i++) {
        j->acts.n_tok = toks[i];
        j->at = 0;
        double s = best_of(product_run, j);
        double ops = 2.0 * j->m.n_row * j->m.n_col * (double)toks[i];
        printf("{\"type\":\"%s\",\"level\":\"%s\",\"threads\":%u,\"rows\":%u,\"cols\":%u,"
               "\"tokens\":%zu,\"us\":%.1f,\"gb_s\":%.2f,\"gop_s\":%.1f}\n",
               dtype_info((uint32_t)j->m.type)->name, cpu_level_name(kernels_level(j->k)),
               pool_threads(j->pool), j->m.n_row, j->m.n_col, toks[i], s * 1e6,
               (double)j->bytes / s * 1e-9, ops / s * 1e-9);
        fflush(stdout);
    }
}

static bool wanted(const char *name)
{
    size_t n = strlen(name);
    for (const char *p = only_types; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && strncasecmp(p, name, n) == 0)
            return true;
    return !only_types;
}

static void bench_products(struct pool *pool, uint8_t *mem)
{
    static const enum dtype types[] = { DT_F32,  DT_F16,  DT_BF16, DT_Q8_0, DT_Q4_0,
                                        DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q2_K, DT_Q3_K,
                                        DT_Q4_K, DT_Q5_K, DT_Q6_K };
    static const uint32_t shapes[][2] = { { 2048, 2048 }, { 5632, 2048 }, { 2048, 5632 } };
    static const size_t toks[] = { 1, 2, 4, 16, 128, 512 };
    enum { MAX_TOK = 512, MAX_DIM = 5632 };
    struct product_job j = { .pool = pool, .acts.store_bytes = acts_bytes(MAX_TOK, MAX_DIM) };
    float *x = malloc(sizeof *x * MAX_TOK * MAX_DIM);
    struct rng rng = { 2 };
    j.y = malloc(sizeof *j.y * MAX_TOK * MAX_DIM);
    j.acts.store = aligned_alloc(64, (j.acts.store_bytes + 63) / 64 * 64);
    if (!x || !j.y || !j.acts.store)
        exit(1);
    for (size_t i = 0; i < (size_t)MAX_TOK * MAX_DIM; i++)
        x[i] = (float)(rng_f64(&rng) - 0.5);
    j.x = x;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        if (!wanted(dtype_info((uint32_t)types[t])->name))
            continue;
        for (enum cpu_level lv = all_levels ? CPU_REF : cpu_level_max(); lv <= cpu_level_max();
             lv++)
            for (size_t s = 0; s < 3; s++) {
                j.k = kernels_get(lv);
                j.m = (struct matrix){ types[t], shapes[s][0], shapes[s][1], NULL };
                bench_shape(&j, mem, toks, lv == CPU_REF ? 1 : sizeof toks / sizeof toks[0]);
            }
        print_ceilings(pool, mem);
    }
    free(x);
    free(j.y);
    free(j.acts.store);
}

struct attn_bench {
    struct attn_shape sh;
    struct attn_seg seg;
    struct pool *pool;
    const float *q;
    float *out;
    void *scratch;
    size_t stride;
};
static void attn_run(void *arg)
{
    struct attn_bench *b = arg;
    attention(kernels_get(cpu_level_max()), b->pool, b->sh, &b->seg, 1, b->q, b->out, b->scratch,
              b->stride);
}

/* 1.1B shape: 32 query heads over 4 kv heads of 64; one row at the end of the context (decode), and
 * 512 rows from the start (prefill). The memory holds half floats of value 2^-15, as zeros would
 * also do. */
static void bench_attention(struct pool *pool, uint8_t *mem)
{
    enum { CTX = 2048, ROWS = 512, HEADS = 32, KV = 4, D = 64 };
    struct attn_bench b = { .sh = { HEADS, KV, D, D, 0.125f, 0, 0 }, .pool = pool };
    float *q = calloc((size_t)ROWS * HEADS * D, sizeof *q);
    b.q = q;
    b.out = calloc((size_t)ROWS * HEADS * D, sizeof *b.out);
    b.stride = (attn_scratch_bytes(b.sh) + 63) / 64 * 64;
    b.scratch = aligned_alloc(64, b.stride * pool_threads(pool));
    if (!q || !b.out || !b.scratch)
        exit(1);
    memset(mem, 0x3c, (size_t)2 * KV * CTX * D * sizeof(float)); /* 1.06 in f16, 0.01 in f32 */
    for (int i = 0; i <= 3; i++) {
        bool prefill = i & 1, wide = i & 2;
        size_t half = (size_t)KV * CTX * D, elem = wide ? sizeof(float) : sizeof(uint16_t);
        b.seg.cache = (struct attn_cache){ wide ? DT_F32 : DT_F16, mem, mem + half * elem,
                                           (size_t)CTX * D, (size_t)CTX * D };
        b.seg.n_tok = prefill ? ROWS : 1;
        b.seg.pos0 = prefill ? 0 : CTX - 1;
        double s = best_of(attn_run, &b);
        double pairs = prefill ? (double)ROWS * (ROWS + 1) / 2 : CTX;
        printf("{\"attention\":\"%s\",\"kv\":\"%s\",\"threads\":%u,\"us\":%.1f,\"kv_gb_s\":%.2f,"
               "\"gflop_s\":%.1f}\n",
               prefill ? "prefill 512" : "decode at 2048", wide ? "f32" : "f16", pool_threads(pool),
               s * 1e6, (prefill ? ROWS : CTX) * KV * D * 2.0 * (double)elem / s * 1e-9,
               pairs * HEADS * D * 4.0 / s * 1e-9);
        fflush(stdout);
    }
    free(q);
    free(b.out);
    free(b.scratch);
}

static int usage(void)
{
    fprintf(stderr, "usage: kernel_bench [--levels] [--types q4_0,f16] [--threads 1,2] "
                    "[--seconds 0.2]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *threads = "1,2";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--levels") == 0)
            all_levels = true;
        else if (strcmp(argv[i], "--types") == 0 && i + 1 < argc)
            only_types = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = argv[++i];
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = strtod(argv[++i], NULL);
        else
            return usage();
    }
    uint8_t *mem =
        mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED)
        return 1;
    madvise(mem, POOL_BYTES, MADV_HUGEPAGE);
    memset(mem, 2, POOL_BYTES);
    for (const char *p = threads; *p; p += strcspn(p, ","), p += *p == ',') {
        long n = strtol(p, NULL, 10);
        struct pool *pool;
        struct err e = ERR_INIT;
        if (n < 1 || n > MAX_THREADS)
            return usage();
        if (pool_create((unsigned)n, &pool, &e) != ST_OK) {
            fprintf(stderr, "kernel_bench: %s\n", e.msg);
            return 1;
        }
        print_ceilings(pool, mem);
        bench_products(pool, mem);
        bench_attention(pool, mem);
        pool_free(pool);
    }
    munmap(mem, POOL_BYTES);
    return 0;
}
