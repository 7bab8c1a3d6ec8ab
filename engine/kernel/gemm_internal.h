/* engine/kernel/gemm_internal.h - what lies below gemm.c: one tile on the calling thread, by
 * whatever the build and the machine have (blas.c, no_blas.c), or by plain C. Same call, same bits;
 * any thread. */
#ifndef STROBE_KERNEL_GEMM_INTERNAL_H
#define STROBE_KERNEL_GEMM_INTERNAL_H

#include "engine/kernel/gemm.h"

/* m, n, k are at least 1 and below 2^31. */
void gemm_tile_f32(const struct gemm_call *g);
void gemm_tile_f64(const struct gemm_call *g);
void gemm_plain_f32(const struct gemm_call *g);
void gemm_plain_f64(const struct gemm_call *g);

#endif
