/* eval/stat/robust.c - see robust.h. */
#include "eval/stat/robust.h"

#include <math.h>
#include <string.h>

void robust_init(struct robust *r, size_t dim)
{
    *r = (struct robust){ .dim = dim };
}

/* The cluster in hand is complete. */
static void settle(struct robust *r)
{
    for (size_t i = 0; i < r->dim; i++)
        for (size_t j = 0; j < r->dim; j++)
            r->meat[i * r->dim + j] += r->one[i] * r->one[j];
    memset(r->one, 0, sizeof r->one);
}

void robust_add(struct robust *r, uint32_t cluster, const double *score)
{
    if (r->n_cluster == 0 || cluster != r->at) {
        settle(r);
        r->n_cluster++;
        r->at = cluster;
    }
    for (size_t i = 0; i < r->dim; i++)
        r->one[i] += score[i];
}

/* a * b, of n rows. */
static void multiply(const double *a, const double *b, size_t n, double *ret)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++)
                sum += a[i * n + k] * b[k * n + j];
            ret[i * n + j] = sum;
        }
}

void robust_finish(struct robust *r, double *cov)
{
    double half[SMALL_MAX * SMALL_MAX], both[SMALL_MAX * SMALL_MAX];
    double n = (double)r->n_cluster, factor = n > 1 ? n / (n - 1) : (double)NAN;
    settle(r);
    multiply(cov, r->meat, r->dim, half);
    multiply(half, cov, r->dim, both);
    for (size_t i = 0; i < r->dim * r->dim; i++)
        cov[i] = both[i] * factor;
}
