/* engine/train/ops_linear.c - matrix products, and sums over tokens. */
#include "engine/train/ops_internal.h"

void ops_gemm(const struct ops *o, const struct gemm_call *g)
{
#ifdef TRAIN_F64
    gemm_f64(o->pool, g);
#else
    if (o->panel)
        gemm_panel(o->panel, o->pool, g);
    else
        gemm_f32(o->pool, g);
#endif
}

void ops_product(const struct ops *o, struct ops_result c, struct ops_factor a, struct ops_factor b,
                 size_t k)
{
    struct gemm_call g = { .ta = a.t, .tb = b.t, .m = c.m, .n = c.n, .k = k, .a = a.p, .b = b.p };
    g.lda = a.ld;
    g.ldb = b.ld;
    g.ldc = c.ld;
    g.c = c.p;
    g.alpha = c.alpha;
    g.beta = c.add;
#ifdef TRAIN_F64
    (void)o;
    gemm_f64(NULL, &g);
#else
    if (o->small)
        gemm_small_f32(&g);
    else
        gemm_f32(NULL, &g);
#endif
}

static struct gemm_call forward(const struct ops_linear *l, const real *x, real *y, bool add)
{
    return (struct gemm_call){ .tb = true,
                               .m = l->n_tok,
                               .n = l->n_out,
                               .k = l->n_in,
                               .a = x,
                               .lda = l->n_in,
                               .b = l->w,
                               .ldb = l->n_in,
                               .c = y,
                               .ldc = l->n_out,
                               .alpha = 1,
                               .beta = add };
}

void ops_linear(const struct ops *o, const struct ops_linear *l, const real *x, real *y, bool add)
{
    struct gemm_call g = forward(l, x, y, add);
    ops_gemm(o, &g);
}

void ops_linear_onto(const struct ops *o, const struct ops_linear *l, const real *x, real *y,
                     const real *from, const real *bias)
{
    struct gemm_call g = forward(l, x, y, true);
#ifndef TRAIN_F64
    if (o->panel) {
        g.from = from;
        g.bias = bias;
        g.ldfrom = l->n_out;
        ops_gemm(o, &g);
        return;
    }
#endif
    ops_copy_bias(o, y, from, bias, l->n_tok, l->n_out);
    ops_gemm(o, &g);
}

void ops_linear_dx(const struct ops *o, const struct ops_linear *l, const real *dy, real *dx,
                   bool add)
{
    ops_gemm(o, &(struct gemm_call){ .m = l->n_tok,
                                     .n = l->n_in,
                                     .k = l->n_out,
                                     .a = dy,
                                     .lda = l->n_out,
                                     .b = l->w,
                                     .ldb = l->n_in,
                                     .c = dx,
                                     .ldc = l->n_in,
                                     .alpha = 1,
                                     .beta = add });
}

void ops_linear_dw(const struct ops *o, const struct ops_linear *l, const real *dy, const real *x,
                   real *dw)
{
    ops_gemm(o, &(struct gemm_call){ .ta = true,
                                     .m = l->n_out,
                                     .n = l->n_in,
                                     .k = l->n_tok,
                                     .a = dy,
                                     .lda = l->n_out,
                                     .b = x,
                                     .ldb = l->n_in,
                                     .c = dw,
                                     .ldc = l->n_in,
                                     .alpha = 1,
                                     .beta = 1 });
}

struct rows_job {
    const struct ops *o;
    const real *x, *bias;
    real *y;
    size_t rows, d, each;
};

enum { COLUMNS = 64 }; /* of one task: four cache lines of a row */

static void columns_task(void *arg, size_t i, unsigned worker)
{
    const struct rows_job *j = arg;
    size_t c = i * COLUMNS;
    (void)worker;
    j->o->pass->columns(j->y + c, j->x + c, j->rows, ops_left(j->d, c, COLUMNS), j->d);
}

void ops_columns(const struct ops *o, const real *dy, size_t rows, size_t cols, real *db)
{
    struct rows_job j = { .o = o, .x = dy, .y = db, .rows = rows, .d = cols };
    if (db)
        pool_run(o->pool, ops_tasks(cols, COLUMNS), columns_task, &j);
}

static void copy_task(void *arg, size_t i, unsigned worker)
{
    const struct rows_job *j = arg;
    size_t r = i * j->each;
    (void)worker;
    j->o->pass->copy_bias(j->y + r * j->d, j->x + r * j->d, j->bias, ops_left(j->rows, r, j->each),
                          j->d);
}

void ops_copy_bias(const struct ops *o, real *y, const real *x, const real *bias, size_t rows,
                   size_t d)
{
    struct rows_job j = { o, x, bias, y, rows, d, ops_task_rows(d) };
    if (y == x && !bias)
        return;
    pool_run(o->pool, ops_tasks(rows, j.each), copy_task, &j);
}
