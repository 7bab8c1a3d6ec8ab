/* recsys/level.c - see level.h; compiled once for each level, which names its table. */
#include "recsys/level.h"

#include "recsys/lanes.h"

enum { AHEAD = 8, LINE = 64, FEATURES = 31 };

LANES_INLINE void fetch_row(const real *p, uint32_t stride)
{
    for (uint32_t k = 0; k < stride; k += LINE / sizeof(real))
        __builtin_prefetch(p + k);
}

/* v is a constant where this is inlined: the row stays in registers. */
LANES_INLINE void dots_n(const real *row, const real *table, uint32_t v, const uint32_t *index,
                         size_t n, real *out)
{
    const uint32_t stride = v * LANES;
    lanes own[8];
    for (uint32_t j = 0; j < v; j++)
        own[j] = lanes_load(row + (size_t)j * LANES);
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            fetch_row(table + (size_t)index[i + AHEAD] * stride, stride);
        const real *other = table + (size_t)index[i] * stride;
        lanes s = own[0] * lanes_load(other);
        for (uint32_t j = 1; j < v; j++)
            s += own[j] * lanes_load(other + (size_t)j * LANES);
        out[i] = lanes_sum(s);
    }
}

static void dots(const real *row, const real *table, uint32_t stride, const uint32_t *index,
                 size_t n, real *out)
{
    switch (stride / LANES) {
    case 1:
        dots_n(row, table, 1, index, n, out);
        return;
    case 2:
        dots_n(row, table, 2, index, n, out);
        return;
    case 3:
        dots_n(row, table, 3, index, n, out);
        return;
    case 4:
        dots_n(row, table, 4, index, n, out);
        return;
    default:
        break;
    }
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            fetch_row(table + (size_t)index[i + AHEAD] * stride, stride);
        const real *other = table + (size_t)index[i] * stride;
        lanes s = { 0 };
        for (uint32_t k = 0; k < stride; k += LANES)
            s += lanes_load(row + k) * lanes_load(other + k);
        out[i] = lanes_sum(s);
    }
}

LANES_INLINE void axpys_n(real *acc, const real *table, uint32_t stride, uint32_t v,
                          const uint32_t *index, const real *r, size_t n)
{
    lanes sum[4];
    for (uint32_t j = 0; j < v; j++)
        sum[j] = lanes_load(acc + (size_t)j * LANES);
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            fetch_row(table + (size_t)index[i + AHEAD] * stride, v * LANES);
        const real *other = table + (size_t)index[i] * stride;
        for (uint32_t j = 0; j < v; j++)
            sum[j] += r[i] * lanes_load(other + (size_t)j * LANES);
    }
    for (uint32_t j = 0; j < v; j++)
        lanes_store(acc + (size_t)j * LANES, sum[j]);
}

static void axpys(real *acc, const real *table, uint32_t stride, const uint32_t *index,
                  const real *r, size_t n)
{
    uint32_t k = 0;
    for (; k + 4 * LANES <= stride; k += 4 * LANES)
        axpys_n(acc + k, table + k, stride, 4, index, r, n);
    switch ((stride - k) / LANES) {
    case 1:
        axpys_n(acc + k, table + k, stride, 1, index, r, n);
        break;
    case 2:
        axpys_n(acc + k, table + k, stride, 2, index, r, n);
        break;
    case 3:
        axpys_n(acc + k, table + k, stride, 3, index, r, n);
        break;
    default:
        break;
    }
}

static void slot_dots(const real *rows, const real *table, uint32_t stride, const uint32_t *index,
                      const uint8_t *slot, size_t n, real *out)
{
    for (size_t i = 0; i < n; i++) {
        const size_t d = (size_t)(slot[i] / 24) * stride, h = (size_t)(7 + slot[i] % 24) * stride;
        const real *other = table + (size_t)index[i] * FEATURES * stride;
        lanes s = { 0 };
        for (uint32_t k = 0; k < stride; k += LANES)
            s += (lanes_load(rows + d + k) + lanes_load(rows + h + k)) *
                 (lanes_load(other + d + k) + lanes_load(other + h + k));
        out[i] = lanes_sum(s);
    }
}

static void slot_axpys(real *acc, const real *table, uint32_t stride, const uint32_t *index,
                       const uint8_t *slot, const real *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const size_t d = (size_t)(slot[i] / 24) * stride, h = (size_t)(7 + slot[i] % 24) * stride;
        const real *other = table + (size_t)index[i] * FEATURES * stride;
        for (uint32_t k = 0; k < stride; k += LANES) {
            lanes add = r[i] * (lanes_load(other + d + k) + lanes_load(other + h + k));
            lanes_store(acc + d + k, lanes_load(acc + d + k) + add);
            lanes_store(acc + h + k, lanes_load(acc + h + k) + add);
        }
    }
}

/* ---- events ---- */

typedef real quad __attribute__((vector_size(4 * sizeof(real))));

LANES_INLINE quad quad_load(const real *p)
{
    quad v;
    memcpy(&v, p, sizeof v);
    return v;
}

LANES_INLINE real quad_sum(quad v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

/* quads is a constant where this is inlined. */
LANES_INLINE double events_n(const struct level_events *a, uint32_t quads, size_t n,
                             const real *base, real *r, real *sums)
{
    quad weight[LEVEL_QUADS_MAX], sum[LEVEL_QUADS_MAX];
    double ln = 0;
    for (uint32_t j = 0; j < quads; j++) {
        weight[j] = quad_load(a->weight + 4 * (size_t)j);
        sum[j] = quad_load(sums + 4 * (size_t)j);
    }
    for (size_t i = 0; i < n; i++) {
        real all = 0;
        for (uint32_t e = a->from[i]; e < a->from[i + 1]; e++) {
            const real *x = a->x + (size_t)e * 4 * quads;
            quad s = { 0 };
            for (uint32_t j = 0; j < quads; j++)
                s += weight[j] * quad_load(x + 4 * (size_t)j);
            real z = base[i] + quad_sum(s), q = a->count[e] / (z > REAL_TINY ? z : REAL_TINY);
            all += q;
            for (uint32_t j = 0; j < quads; j++)
                sum[j] += q * quad_load(x + 4 * (size_t)j);
            if (a->log && a->count[e] > 0)
                ln += (double)a->count[e] * log((double)z);
        }
        r[i] = all;
    }
    for (uint32_t j = 0; j < quads; j++)
        memcpy(sums + 4 * (size_t)j, &sum[j], sizeof sum[j]);
    return ln;
}

static double events_none(const struct level_events *a, size_t n, const real *base, real *r)
{
    double ln = 0;
    for (size_t i = 0; i < n; i++) {
        real z = base[i] > REAL_TINY ? base[i] : REAL_TINY, c = 0;
        for (uint32_t e = a->from[i]; e < a->from[i + 1]; e++)
            c += a->count[e];
        r[i] = c / z;
        if (a->log && c > 0)
            ln += (double)c * log((double)z);
    }
    return ln;
}

static double events(const struct level_events *a, size_t n, const real *base, real *r, real *sums)
{
    switch (a->quads) {
    case 0:
        return events_none(a, n, base, r);
    case 1:
        return events_n(a, 1, n, base, r, sums);
    case 2:
        return events_n(a, 2, n, base, r, sums);
    default:
        return events_n(a, 3, n, base, r, sums);
    }
}

static void ratio(const real *c, const real *z, real *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        r[i] = c[i] / (z[i] > REAL_TINY ? z[i] : REAL_TINY);
}

static double dense(const struct level_row *row, real *tab, double *sum)
{
    double all = 0;
    uint32_t n = row->n;
    for (uint32_t k = 0; k < row->stride; k += LANES) {
        real mean[LANES], inv[LANES], a[LANES];
        uint32_t m = n > k ? n - k : 0;
        m = m < LANES ? m : LANES;
        for (uint32_t j = 0; j < LANES; j++) {
            a[j] = j < m ? row->shape[k + j] : 1;
            inv[j] = (real)(1 / (row->hyper + row->d * row->s[k + j]));
            mean[j] = j < m ? a[j] * inv[j] : 0;
        }
        lanes t = lanes_exp_psi(lanes_load(a)) * lanes_load(inv);
        lanes_store(tab + k, t);
        for (uint32_t j = m; j < LANES; j++)
            tab[k + j] = 0;
        for (uint32_t j = 0; j < LANES; j++) {
            sum[k + j] += row->weight * (double)mean[j];
            all += (double)mean[j];
        }
    }
    return all;
}

static void shape_of(real *shape, const real *tab, const real *acc, double a, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        shape[k] = (real)a + tab[k] * acc[k];
}

extern const struct level LEVEL_TABLE;
const struct level LEVEL_TABLE = { .dots = dots,
                                   .axpys = axpys,
                                   .slot_dots = slot_dots,
                                   .slot_axpys = slot_axpys,
                                   .events = events,
                                   .ratio = ratio,
                                   .dense = dense,
                                   .shape = shape_of };
