/* eval/stat/small.h - dense symmetric matrices of a handful of rows, row-major. Pure. */
#ifndef STROBE_EVAL_STAT_SMALL_H
#define STROBE_EVAL_STAT_SMALL_H

#include <stdbool.h>
#include <stddef.h>

enum { SMALL_MAX = 12 };

/* a = L L', L over a's lower part. false: a is not positive definite. */
bool small_cholesky(double *a, size_t n);
/* x over b, with the L of small_cholesky(). */
void small_solve(const double *l, size_t n, double *b);
/* Inverse of the matrix that L stands for, n <= SMALL_MAX. */
void small_inverse(const double *l, size_t n, double *ret);

#endif
