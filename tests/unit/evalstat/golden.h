/* tests/unit/evalstat/golden.h - the numbers that R made (tests/golden/evalstat), by name. */
#ifndef STROBE_TESTS_EVALSTAT_GOLDEN_H
#define STROBE_TESTS_EVALSTAT_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

enum { GOLDEN_LINES = 128 };
struct golden {
    char *text;
    struct {
        char name[24];
        double *v;
        size_t n;
    } line[GOLDEN_LINES];
    size_t n_line;
};
void golden_load(struct golden *g, const char *path); /* aborts the test when it cannot */
void golden_free(struct golden *g);
/* n numbers; aborts the test when there are others. */
const double *golden_get(const struct golden *g, const char *name, size_t n);
const int8_t *golden_cells(const struct golden *g, const char *name,
                           size_t n); /* static; two at a time */
/* Relative above 1, absolute below. */
void golden_near(double got, double want, double tol, const char *what, size_t i);
#define NEAR(got, want, tol, what) golden_near(got, want, tol, what, 0)

#endif
