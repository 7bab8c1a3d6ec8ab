/* engine/kernel/no_blas.c - a build without CBLAS: every product is plain C. */
#include "engine/kernel/gemm_internal.h"

void gemm_tile_f32(const struct gemm_call *g)
{
    gemm_plain_f32(g);
}

void gemm_tile_f64(const struct gemm_call *g)
{
    gemm_plain_f64(g);
}

const char *gemm_name(void)
{
    return "plain C";
}
