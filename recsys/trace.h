/* recsys/trace.h - the excitation that one user's events on one item have left: O(1) to decay, to
 * add to and to read. Two numbers per scale, since kernels of order 2 need sum dt e^(-w dt) beside
 * sum e^(-w dt). Pure. */
#ifndef STROBE_RECSYS_TRACE_H
#define STROBE_RECSYS_TRACE_H

#include "recsys/model.h"

#include <math.h>

struct rtrace {
    double t;                                /* seconds: when the sums below hold */
    double s0[RSCALES_MAX], s1[RSCALES_MAX]; /* sum e^(-w dt); sum dt e^(-w dt), dt in units */
};

/* Moves to time t >= r->t (earlier: nothing happens). */
static inline void rtrace_decay(const struct rmodel *m, struct rtrace *r, double t)
{
    double dt = (t - r->t) / m->unit_s;
    if (!(dt > 0))
        return;
    for (uint32_t i = 0; i < m->n_scale; i++) {
        double d = exp(-m->scale[i].w * dt);
        r->s1[i] = d * (r->s1[i] + dt * r->s0[i]);
        r->s0[i] *= d;
    }
    r->t = t;
}
/* An event of weight c at r->t: call rtrace_decay() first, read before (strictly earlier events
 * excite). A late event of age `late` units: exp(-w late) of it is left. */
static inline void rtrace_add(const struct rmodel *m, struct rtrace *r, double c, double late)
{
    for (uint32_t i = 0; i < m->n_scale; i++) {
        double d = late > 0 ? exp(-m->scale[i].w * late) : 1;
        if (m->scale[i].last_only) { /* an older event than the last one changes nothing */
            bool last = d >= r->s0[i];
            r->s1[i] = last ? (late > 0 ? late * d : 0) : r->s1[i];
            r->s0[i] = last ? d : r->s0[i];
            continue;
        }
        r->s0[i] += c * d;
        r->s1[i] += late > 0 ? c * late * d : 0;
    }
}
/* K_m at r->t. */
static inline double rtrace_kernel(const struct rmodel *m, const struct rtrace *r, uint32_t i)
{
    double w = m->scale[i].w;
    return m->scale[i].order == 2 ? w * w * r->s1[i] : w * r->s0[i];
}
/* Integral of K_m from r->t to r->t + x units, of these events alone. */
static inline double rtrace_integral(const struct rmodel *m, const struct rtrace *r, uint32_t i,
                                     double x)
{
    double w = m->scale[i].w, e = exp(-w * x);
    if (m->scale[i].order != 2)
        return r->s0[i] * (1 - e);
    /* sum over events of G(dt + x) - G(dt), G(y) = 1 - (1 + w y) e^(-w y) */
    return (r->s0[i] + w * r->s1[i]) * (1 - e) - w * x * e * r->s0[i];
}

#endif
