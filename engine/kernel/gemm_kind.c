/* engine/kernel/gemm_kind.c - which implementation computes a kind of product here, and small
 * products without scratch. */
#include "engine/kernel/gemm_panel_internal.h"

#include <assert.h>

const struct panel_ops *f32_ops(enum cpu_level level)
{
#ifdef STROBE_SIMD_BF16 /* AVX-512 was compiled */
    if (level >= CPU_AVX512 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return &f32_avx512;
#endif
#ifdef STROBE_SIMD_AVX2
    if (level >= CPU_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &f32_avx2;
#endif
    (void)level;
    return NULL;
}

static const struct panel_ops *bf16_ops(void)
{
#ifdef STROBE_SIMD_BF16
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bf16"))
        return &bf16_avx512;
#endif
    return NULL;
}

static const struct panel_ops *ops_of(enum gemm_kind kind)
{
    return kind == GEMM_BF16 ? bf16_ops() : f32_ops(CPU_AVX512);
}

bool gemm_panel_supported(enum gemm_kind kind)
{
    return ops_of(kind) != NULL;
}

size_t gemm_panel_bytes(enum gemm_kind kind, const size_t mnk[3], size_t n_thread)
{
    const struct panel_ops *ops = kind == GEMM_BF16 ? &bf16_ref : &f32_ref;
    size_t words;
    return panel_words(ops, mnk, n_thread, &words) ? panel_bytes(words) : 0;
}

enum status gemm_panel_create(enum gemm_kind kind, size_t bytes, struct gemm_panel **ret,
                              struct err *err)
{
    const struct panel_ops *ops = ops_of(kind);
    if (!ops)
        return err_set(err, ST_UNSUPPORTED, "%s",
                       kind == GEMM_BF16 ? "bf16 products need a processor with AVX-512 BF16"
                                         : "f32 products of ours need a processor with AVX2");
    return panel_create(ops, (bytes - panel_bytes(0)) / sizeof(uint32_t), ret, err);
}

const char *gemm_panel_name(void)
{
    const struct panel_ops *ops = f32_ops(CPU_AVX512);
    if (!ops)
        return "none";
    return ops->cols == AVX2_COLS ? "strobe avx2" : "strobe avx512";
}

enum {
    SMALL_WORDS = 2 * F32_DEPTH * BF16_COLS, /* of B's panels at a time: 72 KiB of stack */
    SMALL_A = F32_DEPTH * BF16_LANES
};

/* A block of k and columns [j, j + n) of C. */
struct small {
    const struct panel_ops *ops;
    const struct gemm_call *g;
    size_t j, n, k, n_k;
    const uint32_t *b; /* their panels */
};

static void small_pack_b(const struct small *s, uint32_t *b)
{
    const struct gemm_call *g = s->g;
    const float *src = g->b;
    s->ops->pack(
        &(struct panel_pack){ .src = src + (g->tb ? s->j * g->ldb + s->k : s->k * g->ldb + s->j),
                              .ld = g->ldb,
                              .along_k = g->tb,
                              .n_x = s->n,
                              .n_k = s->n_k,
                              .dst = b,
                              .width = s->ops->cols,
                              .stride = s->n_k * s->ops->cols });
}

/* Rows [i, i + m), which are packed once for all columns. */
static void small_rows(const struct small *s, size_t i, size_t m)
{
    _Alignas(64) uint32_t a[SMALL_A];
    const struct gemm_call *g = s->g;
    const float *src = g->a;
    size_t rows = s->ops->rows, cols = s->ops->cols;
    s->ops->pack(&(struct panel_pack){ .src = src + (g->ta ? s->k * g->lda + i : i * g->lda + s->k),
                                       .ld = g->lda,
                                       .along_k = !g->ta,
                                       .n_x = m,
                                       .n_k = s->n_k,
                                       .dst = a,
                                       .width = rows,
                                       .stride = s->n_k * rows });
    for (size_t j = 0; j < s->n; j += cols)
        for (size_t r = 0; r < m; r += rows)
            s->ops->tile(
                &(struct panel_tile){ .a = a + r * s->n_k,
                                      .b = s->b + j * s->n_k,
                                      .n_word = s->n_k,
                                      .c = (float *)g->c + (i + r) * g->ldc + s->j + j,
                                      .ldc = g->ldc,
                                      .rows = (unsigned)(m - r < rows ? m - r : rows),
                                      .cols = (unsigned)(s->n - j < cols ? s->n - j : cols),
                                      .alpha = (float)g->alpha,
                                      .beta = s->k ? 1.0F : (float)g->beta });
}

static void small_columns(const struct small *of)
{
    _Alignas(64) uint32_t b[SMALL_WORDS];
    struct small s = *of;
    size_t m = s.g->m, unit = s.ops->unit;
    s.b = b;
    small_pack_b(&s, b);
    for (size_t i = 0; i < m; i += unit)
        small_rows(&s, i, m - i < unit ? m - i : unit);
}

void gemm_small_f32(const struct gemm_call *g)
{
    struct small s = { .ops = f32_ops(CPU_AVX512), .g = g };
    assert(s.ops && g->k > 0);
    size_t depth = panel_depth(s.ops, g->k);
    for (; s.k < g->k; s.k += depth) {
        s.n_k = g->k - s.k < depth ? g->k - s.k : depth;
        size_t most = SMALL_WORDS / s.n_k / s.ops->cols * s.ops->cols;
        for (s.j = 0; s.j < g->n; s.j += most) {
            s.n = g->n - s.j < most ? g->n - s.j : most;
            small_columns(&s);
        }
    }
}
