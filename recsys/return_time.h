/* recsys/return_time.h - when a user comes back, two ways, and which one to believe.
 *
 * By items: the total rate of all items; its integral is monotone and known in closed form, so a
 * quantile is the root of one scalar equation, no simulation (dossier 1.10).
 *
 * By the user's clock: the next gap is a mixture of lengths (log-normal, evenly spaced on the log
 * axis). A user's weights are the decayed counts of own gaps plus a prior: what gaps of that length
 * are followed by in all users. Conditioned on the silence since the last event.
 *
 * Item rates explain which item; summed they often miss when (dossier 2.1). So rclock_fit() scores
 * both on every user's last training gap and the model records who won. Pure but for rclock_fit. */
#ifndef STROBE_RECSYS_RETURN_TIME_H
#define STROBE_RECSYS_RETURN_TIME_H

#include "recsys/live.h"

enum { RCLOCK_LENGTHS = 32 };

/* Fills the clock of m (its n_clock is RCLOCK_LENGTHS) from sorted events with m's numbers:
 * lengths, counts, and by their predictive likelihood the prior's weight, the decay and the width.
 * Then the choice. ST_NOMEM. */
enum status rclock_fit(struct rmodel *m, const struct rs_events *ev, struct err *err);
/* Seconds from now until the q-quantile of the next event, given none since `last_s`. Infinity:
 * never with that probability. q in (0, 1). */
double return_by_clock(const struct rmodel *m, uint32_t u, double last_s, double now_s, double q);
/* The same by items; l has all events up to now. */
double return_by_items(struct live *l, const struct rmodel *m, uint32_t u, double now_s, double q);
/* Of one item: the q-quantile of the next event of u on p. */
double return_of_item(struct live *l, const struct rmodel *m, uint32_t u, uint32_t p, double now_s,
                      double q);
/* An event moves the user's clock: its gap is counted. For evaluation and serving on a copy of a
 * user's row: count [n_clock], *last. */
void rclock_gap(const struct rmodel *m, float *count, uint32_t *last, double gap_s);
double return_by_row(const struct rmodel *m, const float *count, uint32_t last, double silent_s,
                     double q);

#endif
