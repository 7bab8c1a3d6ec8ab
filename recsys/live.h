/* recsys/live.h - rates that follow the events: the excitation that every user's events have left,
 * beside an immutable model. For evaluation, simulation and the command line; one thread. Events
 * come in order of time. */
#ifndef STROBE_RECSYS_LIVE_H
#define STROBE_RECSYS_LIVE_H

#include "recsys/events.h"
#include "recsys/model.h"

struct live; /* opaque */

/* m is borrowed. ST_NOMEM. */
enum status live_open(const struct rmodel *m, struct live **ret, struct err *err);
void live_close(struct live *l);
/* An event of weight c at t, not earlier than the ones before. ST_NOMEM. */
enum status live_add(struct live *l, uint32_t u, uint32_t p, double t, double c, struct err *err);
/* All events of a sorted list whose users and items have the model's numbers. */
enum status live_replay(struct live *l, const struct rs_events *ev, struct err *err);

struct live_parts {
    double base, self, social, items; /* per unit */
};
/* Rate of one pair at t, not earlier than the last event. */
struct live_parts live_rate(struct live *l, uint32_t u, uint32_t p, double t);
static inline double live_total(struct live_parts p)
{
    return p.base + p.self + p.social + p.items;
}
/* Rates of all items, out [n_item]. */
void live_scores(struct live *l, uint32_t u, double t, float *out);
/* Own excitation of each scale summed over all items, at t: what the user's total rate decays
 * with. own, social [n_scale]: tau times kernel sums at the moment t. */
void live_user_kernels(struct live *l, uint32_t u, double t, double *s0, double *s1);
/* The same of one item. */
void live_pair_kernels(struct live *l, uint32_t u, uint32_t p, double t, double *s0, double *s1);
/* Items with traces of u: calls fn with each. */
void live_each(struct live *l, uint32_t u, void (*fn)(void *ctx, uint32_t item, double last_s),
               void *ctx);

#endif
