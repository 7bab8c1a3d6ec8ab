/* recsys/group.h - events by user, then item, then time, equal ones merged into one with a count:
 * what a view is built from. Two counting sorts, linear time. */
#ifndef STROBE_RECSYS_GROUP_H
#define STROBE_RECSYS_GROUP_H

#include "recsys/events.h"

struct group {
    uint32_t n_user;
    uint64_t n;         /* events after merging */
    uint64_t *user_ptr; /* [n_user + 1] */
    uint32_t *item;     /* [n] */
    double *t;          /* [n] seconds */
    uint32_t *count;    /* [n] */
};

/* Leaves out events of u after end[u]. ev is sorted. ST_NOMEM. */
enum status group_events(const struct rs_events *ev, const double *end, struct group *ret,
                         struct err *err);
void group_clear(struct group *g);
/* First event of (user, item); *n of them, 0: none. */
uint64_t group_pair(const struct group *g, uint32_t user, uint32_t item, uint64_t *n);

#endif
