/* recsys/heldout.h - log likelihood of later events under a model: sum of ln rate at each event,
 * given all before it, minus the integral of the users' total rates, per event. */
#ifndef STROBE_RECSYS_HELDOUT_H
#define STROBE_RECSYS_HELDOUT_H

#include "recsys/live.h"

struct heldout; /* opaque */

/* Both lists are sorted and use the same numbers; `train` excites, `later` is scored. Borrowed.
 * own_clocks: each user's window ends with the user's own last event. ST_NOMEM. */
enum status heldout_open(const struct rs_events *train, const struct rs_events *later,
                         bool own_clocks, struct heldout **ret, struct err *err);
/* Per event, with time in seconds; -INFINITY when memory is short. */
double heldout_score(struct heldout *h, const struct rmodel *m);
/* Of the choice alone: mean ln (rate of the item taken / rate of all items). */
double heldout_choice(struct heldout *h, const struct rmodel *m);
void heldout_close(struct heldout *h);

#endif
