/* engine/kernel/blas.c - one tile of a product by CBLAS; the home of cblas.h.
 * OpenBLAS runs on the calling thread only: our pool is the one level of parallelism (two would
 * fight: baselines.md section 4 measured 858 instead of 1,203 tokens/s). Its packing buffers, some
 * MiB for each thread that computes, are its own and in no plan. */
#include "engine/kernel/gemm_internal.h"

#include <cblas.h>
#include <pthread.h>

static void one_thread(void)
{
    openblas_set_num_threads(1);
}

static void set_up(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, one_thread);
}

void gemm_tile_f32(const struct gemm_call *g)
{
    set_up();
    cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans,
                (blasint)g->m, (blasint)g->n, (blasint)g->k, (float)g->alpha, g->a, (blasint)g->lda,
                g->b, (blasint)g->ldb, (float)g->beta, g->c, (blasint)g->ldc);
}

void gemm_tile_f64(const struct gemm_call *g)
{
    set_up();
    cblas_dgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans,
                (blasint)g->m, (blasint)g->n, (blasint)g->k, g->alpha, g->a, (blasint)g->lda, g->b,
                (blasint)g->ldb, g->beta, g->c, (blasint)g->ldc);
}
