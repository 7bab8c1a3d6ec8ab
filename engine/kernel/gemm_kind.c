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

/* Columns [j, j + n) of C: their panel is packed here, rows of A a panel at a time. */
static void small_panel(const struct panel_ops *ops, const struct gemm_call *g, size_t j, size_t k0,
                        size_t n_k)
{
    _Alignas(64) uint32_t b[F32_DEPTH * BF16_COLS], a[F32_DEPTH * BF16_LANES];
    const float *fa = g->a, *fb = g->b;
    size_t n = g->n - j < ops->cols ? g->n - j : ops->cols;
    struct panel_pack pack = { .src = fb + (g->tb ? j * g->ldb + k0 : k0 * g->ldb + j),
                               .ld = g->ldb,
                               .along_k = g->tb,
                               .n_x = n,
                               .n_k = n_k,
                               .dst = b,
                               .width = ops->cols,
                               .stride = n_k * ops->cols };
    ops->pack(&pack);
    for (size_t i = 0; i < g->m; i += ops->unit) {
        size_t m = g->m - i < ops->unit ? g->m - i : ops->unit;
        pack = (struct panel_pack){ .src = fa + (g->ta ? k0 * g->lda + i : i * g->lda + k0),
                                    .ld = g->lda,
                                    .along_k = !g->ta,
                                    .n_x = m,
                                    .n_k = n_k,
                                    .dst = a,
                                    .width = ops->rows,
                                    .stride = n_k * ops->rows };
        ops->pack(&pack);
        for (size_t r = 0; r < m; r += ops->rows)
            ops->tile(
                &(struct panel_tile){ .a = a + r * n_k,
                                      .b = b,
                                      .n_word = n_k,
                                      .c = (float *)g->c + (i + r) * g->ldc + j,
                                      .ldc = g->ldc,
                                      .rows = (unsigned)(m - r < ops->rows ? m - r : ops->rows),
                                      .cols = (unsigned)n,
                                      .alpha = (float)g->alpha,
                                      .beta = k0 ? 1.0F : (float)g->beta });
    }
}

void gemm_small_f32(const struct gemm_call *g)
{
    const struct panel_ops *ops = f32_ops(CPU_AVX512);
    assert(ops && g->k > 0);
    size_t depth = panel_depth(ops, g->k);
    for (size_t k = 0; k < g->k; k += depth)
        for (size_t j = 0; j < g->n; j += ops->cols)
            small_panel(ops, g, j, k, g->k - k < depth ? g->k - k : depth);
}
