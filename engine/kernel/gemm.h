/* engine/kernel/gemm.h - general matrix products for training, C = alpha op(A) op(B) + beta C, all
 * row-major. By CBLAS (blas.c, one thread each: gemm_f32(), gemm_f64()) or by kernels of ours for
 * F32 and BF16 (gemm_panel.c). The pool splits C into tiles, never a sum, at places that do not
 * depend on the number of threads: 1 and N threads agree bit for bit. Owner: one thread, the
 * pool's; gemm_f32() and gemm_f64() with a NULL pool run on the caller, so that a pool's threads
 * may call them. */
#ifndef STROBE_KERNEL_GEMM_H
#define STROBE_KERNEL_GEMM_H

#include "engine/base/err.h"
#include "engine/base/pool.h"

#include <stdbool.h>
#include <stddef.h>

struct gemm_call {
    bool ta, tb;    /* A is stored [k, m], B is stored [n, k] */
    size_t m, n, k; /* C [m, n], op(A) [m, k], op(B) [k, n]; k > 0, all below 2^31 */
    const void *a, *b;
    size_t lda, ldb, ldc; /* elements from row to row as stored */
    void *c;
    double alpha, beta; /* beta 0: C is not read */
    /* gemm_panel() only, beta 1: C = alpha op(A) op(B) + (from + bias), f32, from [m, n] with
     * ldfrom, bias [n] or NULL. The bits are those of C = from + bias, and then the product added
     * to it. */
    const float *from, *bias;
    size_t ldfrom;
};

void gemm_f32(struct pool *p, const struct gemm_call *g);
void gemm_f64(struct pool *p, const struct gemm_call *g);
/* What computes them here: "openblas Haswell", "plain C"; static storage. The first call, or the
 * first product, loads the library and sets OPENBLAS_NUM_THREADS: not beside another getenv(). */
const char *gemm_name(void);

/* Products of ours, which need scratch for packed operands. Sums are in f32 and in an order that
 * depends on k alone (gemm_panel_internal.h): same bits for any number of threads and on every
 * processor that has the kind.
 *
 * F32, relative to the exact product: at most gamma(194 + k / 192) of |alpha| sum |a b| + |beta c|,
 * gamma(n) = n u / (1 - n u), u = 2^-24.
 * BF16: operands f32 in memory, rounded to nearest even while they are packed, with VDPBF16PS's
 * rules: f32 denormals of A and B count as zero, a sum that becomes denormal is flushed to zero.
 * Relative to the exact product of the rounded operands the error is at most gamma(386 + k / 384)
 * of the same, plus |alpha| k 2^-126 for flushed sums.
 *
 * alpha and beta are rounded to f32; beta 0: C is not read; alpha 0 or k 0: A and B are not read. C
 * does not overlap A or B. A product that the scratch has no room for is the caller's bug
 * (asserted). */
enum gemm_kind { GEMM_F32, GEMM_BF16 };
struct gemm_panel; /* opaque */
/* F32: AVX2 and FMA, or AVX-512. BF16: AVX-512 BF16. */
bool gemm_panel_supported(enum gemm_kind kind);
/* Bytes of scratch for products of this size by so many threads (0: any number); 0: overflow. The
 * largest of several products' bytes serves them all. */
size_t gemm_panel_bytes(enum gemm_kind kind, const size_t mnk[3], size_t n_thread);
/* `bytes` as gemm_panel_bytes() says. Errors: ST_NOMEM, ST_UNSUPPORTED. */
enum status gemm_panel_create(enum gemm_kind kind, size_t bytes, struct gemm_panel **ret,
                              struct err *err);
void gemm_panel_free(struct gemm_panel *s); /* NULL is fine */
void gemm_panel(struct gemm_panel *s, struct pool *p, const struct gemm_call *g);
/* "strobe avx512": who computes F32; static storage. */
const char *gemm_panel_name(void);

/* F32 on the calling thread without scratch, for small products inside tasks of a pool: the same
 * bits as gemm_panel(). Only where gemm_panel_supported(GEMM_F32). */
void gemm_small_f32(const struct gemm_call *g);

#endif
