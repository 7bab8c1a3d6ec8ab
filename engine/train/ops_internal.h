/* engine/train/ops_internal.h - shared by the files of ops_*.c. */
#ifndef STROBE_TRAIN_OPS_INTERNAL_H
#define STROBE_TRAIN_OPS_INTERNAL_H

#include "engine/train/ops.h"

/* Rows that one task takes, so that it has about 32,768 numbers (some 10 us) to work on. Depends on
 * sizes only. */
static inline size_t ops_task_rows(size_t width)
{
    size_t rows = width ? 32768 / width : 1;
    return rows < 1 ? 1 : rows > 256 ? 256 : rows;
}
static inline size_t ops_tasks(size_t n, size_t each)
{
    return (n + each - 1) / each;
}
/* How many of n the task that begins at `from` takes. */
static inline size_t ops_left(size_t n, size_t from, size_t each)
{
    return n - from < each ? n - from : each;
}

/* c [m, n] = alpha a b, or c + alpha a b, in `real` on the calling thread; a, b transposed where t.
 */
struct ops_factor {
    const real *p;
    size_t ld;
    bool t;
};
struct ops_result {
    real *p;
    size_t ld, m, n;
    double alpha;
    bool add;
};
void ops_product(const struct ops *o, struct ops_result c, struct ops_factor a, struct ops_factor b,
                 size_t k);

void ops_attn_naive(const struct ops *o, const struct ops_attn *a, const real *qkv, real *out,
                    real *kept);
void ops_attn_naive_back(const struct ops *o, const struct ops_attn *a,
                         const struct ops_attn_back *b);
void ops_attn_tiled(const struct ops *o, const struct ops_attn *a, const real *qkv, real *out,
                    real *kept);
void ops_attn_tiled_back(const struct ops *o, const struct ops_attn *a,
                         const struct ops_attn_back *b);
size_t ops_attn_tiled_scratch(const struct ops_attn *a);

#endif
