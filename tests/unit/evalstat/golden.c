/* tests/unit/evalstat/golden.c - see golden.h. */
#include "golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *slurp(const char *path)
{
    FILE *f = fopen(path, "r");
    cr_assert(f, "cannot open %s", path);
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    cr_assert(n > 0 && n < (1 << 20) - 1, "%s: %zu bytes", path, n);
    fclose(f);
    return text;
}

void golden_load(struct golden *g, const char *path)
{
    char *save = NULL;
    g->n_line = 0;
    g->text = slurp(path);
    for (char *l = strtok_r(g->text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        cr_assert_lt(g->n_line, GOLDEN_LINES);
        size_t i = g->n_line++, n = strcspn(l, " ");
        snprintf(g->line[i].name, sizeof g->line[i].name, "%.*s", (int)n, l);
        g->line[i].v = malloc((strlen(l) / 2 + 1) * sizeof(double));
        g->line[i].n = 0;
        char *p = l + n, *end;
        for (double v; (v = strtod(p, &end)), end != p; p = end)
            g->line[i].v[g->line[i].n++] = v;
    }
}

void golden_free(struct golden *g)
{
    for (size_t i = 0; i < g->n_line; i++)
        free(g->line[i].v);
    free(g->text);
}

const double *golden_get(const struct golden *g, const char *name, size_t n)
{
    for (size_t i = 0; i < g->n_line; i++)
        if (strcmp(g->line[i].name, name) == 0) {
            cr_assert_eq(g->line[i].n, n, "%s: %zu numbers, wanted %zu", name, g->line[i].n, n);
            return g->line[i].v;
        }
    cr_assert(false, "no line '%s'", name);
    return NULL;
}

const int8_t *golden_cells(const struct golden *g, const char *name, size_t n)
{
    static int8_t room[2][8192];
    static int turn;
    const double *v = golden_get(g, name, n);
    int8_t *x = room[turn ^= 1];
    cr_assert_leq(n, sizeof room[0]);
    for (size_t i = 0; i < n; i++)
        x[i] = (int8_t)v[i];
    return x;
}

void golden_near(double got, double want, double tol, const char *what, size_t i)
{
    cr_expect(fabs(got - want) <= tol * fmax(1, fabs(want)), "%s[%zu]: %.17g, wanted %.17g", what,
              i, got, want);
}
