/* recsys/view_internal.h - between view.c and view_social.c. */
#ifndef STROBE_RECSYS_VIEW_INTERNAL_H
#define STROBE_RECSYS_VIEW_INTERNAL_H

#include "recsys/group.h"
#include "recsys/view.h"

struct view_build {
    const struct view_opts *o;
    struct view *v;
    struct group g;
    double t0;           /* seconds where units begin */
    double *start, *end; /* [n_user] units: the windows */
    uint8_t *slot;       /* scratch */
    uint32_t *place;     /* scratch */
};

double view_kernel_integral(struct rkernel k, double x);
double view_window_integral(struct rkernel k, double t, double start, double end);
/* The same integrals by the measure of activity: view_activity.c. */
enum status view_activity(struct view_build *b, struct err *err);
/* Edges and triggers. */
enum status view_social(struct view_build *b, struct err *err);

#endif
