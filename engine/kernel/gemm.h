/* engine/kernel/gemm.h - general matrix products for training, C = alpha op(A) op(B) + beta C, all
 * row-major. F32 and F64 go to CBLAS (blas.c, one thread each), BF16 to a kernel of ours
 * (gemm_bf16.c). The pool splits C into tiles, never a sum, at places that do not depend on the
 * number of threads: 1 and N threads agree bit for bit. Owner: one thread, the pool's; gemm_f32()
 * and gemm_f64() with a NULL pool run on the caller, so that a pool's threads may call them. */
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
};

void gemm_f32(struct pool *p, const struct gemm_call *g);
void gemm_f64(struct pool *p, const struct gemm_call *g);
/* What computes them here: "openblas Haswell", "plain C"; static storage. The first call, or the
 * first product, loads the library and sets OPENBLAS_NUM_THREADS: not beside another getenv(). */
const char *gemm_name(void);

/* BF16: operands f32 in memory, rounded to nearest even while they are packed, sums in f32, with
 * VDPBF16PS's rules: f32 denormals of A and B count as zero, a sum that becomes denormal is flushed
 * to zero. The order of the sums depends on k alone and is written down in gemm_bf16_internal.h.
 * Relative to the exact product of the rounded operands the error is at most gamma(386 + k / 384)
 * of |alpha| sum |a b| + |beta c|, gamma(n) = n u / (1 - n u), u = 2^-24, plus |alpha| k 2^-126 for
 * flushed sums. alpha 0 or k 0: A and B are not read. */
struct gemm_bf16;               /* scratch for packed operands */
bool gemm_bf16_supported(void); /* AVX-512 BF16 */
/* Room for products of up to this size: about 2 (m + n) k bytes, see gemm_bf16_bytes(). Errors:
 * ST_NOMEM, ST_UNSUPPORTED. */
enum status gemm_bf16_create(size_t m, size_t n, size_t k, struct gemm_bf16 **ret, struct err *err);
size_t gemm_bf16_bytes(size_t m, size_t n, size_t k); /* 0: overflow */
void gemm_bf16_free(struct gemm_bf16 *g);             /* NULL is fine */
/* alpha and beta are rounded to f32; beta 0: C is not read. C does not overlap A or B. A product
 * that the scratch has no room for is the caller's bug (asserted). */
void gemm_bf16(struct gemm_bf16 *s, struct pool *p, const struct gemm_call *g);

#endif
