/* tests/support/rs_toy.h - small recurrent Poisson models with any numbers in them, and the rates
 * that they mean, summed from their definition. */
#ifndef STROBE_TESTS_SUPPORT_RS_TOY_H
#define STROBE_TESTS_SUPPORT_RS_TOY_H

#include "engine/base/rng.h"
#include "recsys/model.h"

/* Users u0.., items i0..; two kernels, the second of order 2; some edges, two clusters. unit: 1 h.
 */
struct rmodel *toy_rmodel(unsigned terms, uint32_t users, uint32_t items, uint32_t k,
                          uint64_t seed);

/* From now on the first kernel keeps only the last own event on an item. */
void toy_last_only(struct rmodel *m);

struct toy_event {
    uint32_t user, item; /* numbers of the model; IDS_NONE: not known to it */
    double t, weight;    /* seconds */
};
struct toy_rates {
    double base, self, social, cross; /* per hour */
};
/* Of one pair at t, from all events at or before it. */
struct toy_rates toy_rate(const struct rmodel *m, const struct toy_event *e, size_t n,
                          uint32_t user, uint32_t item, double t);

#endif
