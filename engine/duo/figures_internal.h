/* engine/duo/figures_internal.h - what figures.c (losses) and figures_routes.c (which layers are
 * big) share. *lost: set when memory is out; the figure is then void. */
#ifndef STROBE_DUO_FIGURES_INTERNAL_H
#define STROBE_DUO_FIGURES_INTERNAL_H

#include "engine/duo/figures.h"

/* null for what is not finite. */
json_t *figure_real(double v);
/* Adds to an object or array; the value is taken. */
void figure_put(json_t *o, const char *key, json_t *v, bool *lost);
void figure_push(json_t *a, json_t *v, bool *lost);

uint64_t figure_route_at(const struct duo_trace *t, enum duo_col c, size_t tok, uint32_t b);
/* Was that budget searched by the policy whose losses are in column c? */
bool figure_searched(const struct duo_trace *t, enum duo_col c, uint32_t b);

/* Each one's document. */
json_t *figure_usage(const struct duo_trace *t, bool *lost);
json_t *figure_position(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost);
json_t *figure_agreement(const struct duo_trace *t, const struct duo_figure_opts *f, bool *lost);

#endif
