/* eval/stat/small.c - see small.h. */
#include "eval/stat/small.h"

#include <math.h>

bool small_cholesky(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double s = a[i * n + j];
            for (size_t k = 0; k < j; k++)
                s -= a[i * n + k] * a[j * n + k];
            /* What is left of a dependent row is rounding. */
            if (i == j && !(s > 1e-13 * a[i * n + i]))
                return false;
            a[i * n + j] = i == j ? sqrt(s) : s / a[j * n + j];
        }
    return true;
}

void small_solve(const double *l, size_t n, double *b)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            b[i] -= l[i * n + k] * b[k];
        b[i] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++)
            b[i] -= l[k * n + i] * b[k];
        b[i] /= l[i * n + i];
    }
}

void small_inverse(const double *l, size_t n, double *ret)
{
    for (size_t j = 0; j < n; j++) {
        double e[SMALL_MAX] = { 0 };
        e[j] = 1;
        small_solve(l, n, e);
        for (size_t i = 0; i < n; i++)
            ret[i * n + j] = e[i];
    }
}
