/* engine/kernel/blas.c - one tile of a product by CBLAS; the home of cblas.h.
 *
 * OpenBLAS is opened at the first product instead of being linked: a server that never trains does
 * not pay for its start, its threads and its buffers, and it can be told to start no threads, which
 * counts only while it is loaded. It runs on the calling thread, our pool is the one level of
 * parallelism (two fight: baselines.md section 4, 858 instead of 1,203 tokens/s). Which kernels it
 * takes is its own choice or the user's (OPENBLAS_CORETYPE): old versions guess wrong on young
 * processors, but some of their faster kernels are wrong there too.
 * Its packing buffers, some MiB for each thread that computes, are in no plan. Without it: plain C.
 */
#include "engine/kernel/gemm_internal.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Written once, under pthread_once(). */
static struct blas {
    __typeof__(cblas_sgemm) *sgemm;
    __typeof__(cblas_dgemm) *dgemm;
    char name[64];
} blas = { .name = "plain C" };

/* False when the library has no such symbol. */
static bool find(void *lib, const char *symbol, void *fn, size_t size)
{
    void *p = dlsym(lib, symbol);
    memcpy(fn, &p, size); /* C has no conversion from object to function pointers */
    return p != NULL;
}

static void open_blas(void)
{
    __typeof__(openblas_set_num_threads) *set_threads;
    __typeof__(openblas_get_corename) *corename;
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!lib || !find(lib, "openblas_set_num_threads", &set_threads, sizeof set_threads) ||
        !find(lib, "openblas_get_corename", &corename, sizeof corename) ||
        !find(lib, "cblas_dgemm", &blas.dgemm, sizeof blas.dgemm) ||
        !find(lib, "cblas_sgemm", &blas.sgemm, sizeof blas.sgemm))
        return;
    set_threads(1);
    snprintf(blas.name, sizeof blas.name, "openblas %s", corename());
}

static const struct blas *get(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_blas);
    return &blas;
}

static CBLAS_TRANSPOSE trans(bool t)
{
    return t ? CblasTrans : CblasNoTrans;
}

void gemm_tile_f32(const struct gemm_call *g)
{
    const struct blas *b = get();
    if (b->sgemm)
        b->sgemm(CblasRowMajor, trans(g->ta), trans(g->tb), (blasint)g->m, (blasint)g->n,
                 (blasint)g->k, (float)g->alpha, g->a, (blasint)g->lda, g->b, (blasint)g->ldb,
                 (float)g->beta, g->c, (blasint)g->ldc);
    else
        gemm_plain_f32(g);
}

void gemm_tile_f64(const struct gemm_call *g)
{
    const struct blas *b = get();
    if (b->sgemm)
        b->dgemm(CblasRowMajor, trans(g->ta), trans(g->tb), (blasint)g->m, (blasint)g->n,
                 (blasint)g->k, g->alpha, g->a, (blasint)g->lda, g->b, (blasint)g->ldb, g->beta,
                 g->c, (blasint)g->ldc);
    else
        gemm_plain_f64(g);
}

const char *gemm_name(void)
{
    return get()->name;
}
