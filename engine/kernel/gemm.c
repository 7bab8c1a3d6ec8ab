/* engine/kernel/gemm.c - cuts C into tiles and hands them to the pool. The cut depends on the
 * product's size only and a tile is computed by one thread, so the result does not depend on the
 * number of threads. No sum is split. */
#include "engine/base/num.h"
#include "engine/kernel/gemm_internal.h"

#include <assert.h>
#include <limits.h>

enum {
    /* Tiles begin at multiples of two register blocks of the usual sgemm kernels (16 columns). */
    TILE_ALIGN = 32,
    /* A side is not cut below this: each tile packs its operands anew, (rows + cols) k elements for
     * rows cols k multiplications. */
    TILE_SIDE = 192
};
/* Larger tiles are cut: 1.3 ms at 100 GFLOP/s, some hundred times what handing a tile out costs. */
static const double tile_flop = 0x1p27;

struct tiles {
    const struct gemm_call *g;
    void (*tile)(const struct gemm_call *g);
    size_t elem;             /* bytes */
    size_t rows, cols;       /* of a tile */
    size_t n_across, n_tile; /* tiles side by side; all */
};

static size_t half(size_t n)
{
    return num_align((n + 1) / 2, TILE_ALIGN);
}

static size_t ceil_div(size_t n, size_t by)
{
    return (n + by - 1) / by;
}

/* Halves the longer side until a tile is small enough. */
static void cut(struct tiles *t)
{
    const struct gemm_call *g = t->g;
    t->rows = g->m;
    t->cols = g->n;
    for (;;) {
        size_t *side = t->rows >= t->cols ? &t->rows : &t->cols;
        double flop = 2.0 * (double)t->rows * (double)t->cols * (double)g->k;
        if (flop <= tile_flop || *side < 2 * TILE_SIDE)
            break;
        *side = half(*side);
    }
    t->n_across = ceil_div(g->n, t->cols);
    t->n_tile = t->n_across * ceil_div(g->m, t->rows);
}

static const void *at(const void *p, size_t elem, size_t i)
{
    return (const char *)p + elem * i;
}

static void run_tile(void *arg, size_t i, unsigned worker)
{
    const struct tiles *t = arg;
    const struct gemm_call *g = t->g;
    size_t row = i / t->n_across * t->rows, col = i % t->n_across * t->cols;
    struct gemm_call sub = *g;
    (void)worker;
    sub.m = g->m - row < t->rows ? g->m - row : t->rows;
    sub.n = g->n - col < t->cols ? g->n - col : t->cols;
    sub.a = at(g->a, t->elem, g->ta ? row : row * g->lda);
    sub.b = at(g->b, t->elem, g->tb ? col * g->ldb : col);
    sub.c = (char *)g->c + t->elem * (row * g->ldc + col);
    t->tile(&sub);
}

static void run(struct pool *p, struct tiles *t)
{
    const struct gemm_call *g = t->g;
    assert(g->k > 0 && g->m <= INT_MAX && g->n <= INT_MAX && g->k <= INT_MAX);
    assert(g->lda <= INT_MAX && g->ldb <= INT_MAX && g->ldc <= INT_MAX);
    if (g->m == 0 || g->n == 0)
        return;
    cut(t);
    pool_run(p, t->n_tile, run_tile, t);
}

void gemm_f32(struct pool *p, const struct gemm_call *g)
{
    run(p, &(struct tiles){ .g = g, .tile = gemm_tile_f32, .elem = sizeof(float) });
}

void gemm_f64(struct pool *p, const struct gemm_call *g)
{
    run(p, &(struct tiles){ .g = g, .tile = gemm_tile_f64, .elem = sizeof(double) });
}
