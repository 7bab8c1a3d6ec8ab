/* engine/duo/figures.h - the paper's figures, and ours, from a trace alone (training.md 1.8). Pure.
 */
#ifndef STROBE_DUO_FIGURES_H
#define STROBE_DUO_FIGURES_H

#include "engine/duo/trace.h"

enum duo_figure {
    DUO_F_CURVE,      /* budget_curve: nats by budget, a curve for each policy, with intervals */
    DUO_F_USAGE,      /* layer_usage: share of tokens for which a layer is big, by budget */
    DUO_F_POSITION,   /* layer_position: the same by place in the sequence */
    DUO_F_TOKENS,     /* tokens: one sequence, its losses and routes */
    DUO_F_DIFFICULTY, /* difficulty: quadrants of loss and of what compute removes, by class */
    DUO_F_SCHEDULE,   /* schedule: constant, shrinking and growing budgets along the sequence */
    DUO_F_AGREEMENT,  /* agreement: router against oracle */
    DUO_F_CONTROLS,   /* controls: subsampled, granularity, committed, other searches */
    DUO_FIGURES
};
const char *duo_figure_name(enum duo_figure f);
/* Errors: ST_ARG naming the figures there are. */
enum status duo_figure_find(struct str name, enum duo_figure *ret, struct err *err);

struct duo_figure_opts {
    uint32_t budget;   /* big layers, where a figure is about one budget */
    uint32_t sequence; /* tokens, layer_position */
};
/* The middle budget, sequence 0. */
struct duo_figure_opts duo_figure_defaults(const struct duo_trace *t);
/* Errors: ST_RANGE (no such budget or sequence), ST_NOMEM. */
enum status duo_figure_make(const struct duo_trace *t, enum duo_figure f,
                            const struct duo_figure_opts *o, json_t **ret, struct err *err);

/* A mean over tokens and its 95 % interval by resampling whole sequences (tokens are not
 * independent). Tokens without a number are left out. */
struct duo_mean {
    double mean, low, high;
    size_t n;
    bool lost; /* for want of memory: the rest is void */
};
/* v + i * stride for token i; minus: NULL, or subtracted (a paired difference). */
struct duo_mean duo_mean_of(const struct duo_trace *t, const float *v, const float *minus,
                            size_t stride);

#endif
