/* recsys/level.h - the inner loops over rows of factors, once for each instruction-set level
 * (level.c is compiled several times). Rows have `stride` numbers, a multiple of 16, and are
 * 64-byte aligned. Contraction to fused multiply-adds changes last bits between levels, never
 * between numbers of threads. Pure. */
#ifndef STROBE_RECSYS_LEVEL_H
#define STROBE_RECSYS_LEVEL_H

#include "engine/kernel/dispatch.h"
#include "recsys/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct level_events {
    const uint32_t *from; /* [n + 1] events of each record, into what follows */
    const real *count, *x;
    const real *weight; /* [quads * 4] */
    uint32_t quads;
    bool log;
};

enum { LEVEL_QUADS_MAX = 3 };

struct level_row {
    const real *shape;
    const double *s;
    double hyper, d, weight;
    uint32_t n, stride;
};

struct level {
    /* out[i] = row . table[index[i]] */
    void (*dots)(const real *row, const real *table, uint32_t stride, const uint32_t *index,
                 size_t n, real *out);
    /* acc += sum over i of r[i] table[index[i]] */
    void (*axpys)(real *acc, const real *table, uint32_t stride, const uint32_t *index,
                  const real *r, size_t n);
    /* The same with a weekday row and an hour row on both sides; rows has 31 of them, table 31 an
     * entry, slot[i] is an hour of the week. out[i] = (row_d + row_h) . (other_d + other_h), and
     * acc_d, acc_h += r[i] (other_d + other_h). */
    void (*slot_dots)(const real *rows, const real *table, uint32_t stride, const uint32_t *index,
                      const uint8_t *slot, size_t n, real *out);
    void (*slot_axpys)(real *acc, const real *table, uint32_t stride, const uint32_t *index,
                       const uint8_t *slot, const real *r, size_t n);
    /* Events of n records: z = base[i] + sum over m of weight[m] x[e][m] and q = count[e] / z;
     * r[i] = sum of q over the record's events, sums[m] += q x[e][m]. With `log`: + count ln z,
     * returned. x has quads * 4 numbers an event; quads 0: there is none. */
    double (*events)(const struct level_events *a, size_t n, const real *base, real *r, real *sums);
    /* c[i] / z[i] into r */
    void (*ratio)(const real *c, const real *z, real *r, size_t n);
    /* Of one row: mean[k] = shape[k] / rate[k], tab[k] = exp(psi(shape[k])) / rate[k] where
     * rate[k] = hyper + d s[k]. Only k < n; the padding is zeroed. sum[k] += weight mean[k];
     * returns the sum of the means. */
    double (*dense)(const struct level_row *row, real *tab, double *sum);
    /* shape[k] = a + tab[k] acc[k] for k < n */
    void (*shape)(real *shape, const real *tab, const real *acc, double a, uint32_t n);
};
const struct level *level_get(enum cpu_level level);

#endif
