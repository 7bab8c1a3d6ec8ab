/* recsys/view.h - events as the sweeps read them. Built once for a fit; parameters are not in it.
 *
 * A record is one (user, item), with a calendar one (user, item, hour of week): all of its events
 * share a base rate, so a sweep takes one dot product for it. Records lie user by user, in each by
 * item, in each by slot; the events of a record lie behind one another. Equal (user, item, time)
 * are one event with a count: none of them precedes another. With self-excitation each event
 * carries, for each scale, the kernel sum over the earlier events of its pair (the recursion runs
 * when the view is built; it depends on no parameter but the scales).
 *
 * Memory, with what the sweep adds (fit_internal.h): 19 B a record (item 4, user 3, place among the
 * user's 4, events 4, sum of count / rate 4; 1 more with a calendar) and 4 B an event; where no
 * event of a record needs to be told apart (view_merge_counts) 16 B a record and none an event.
 * With excitation 4 B more an event for each scale, padded to four scales, and 8 B for its time
 * where that is needed after the view is built. Users beyond 2^24: 1 B more a record. Immutable
 * after view_build(), but for view_rescale(). */
#ifndef STROBE_RECSYS_VIEW_H
#define STROBE_RECSYS_VIEW_H

#include "recsys/events.h"
#include "recsys/model.h"
#include "recsys/real.h"

/* What is observed: events of user u count from start[u] to end[u] (seconds); earlier ones excite
 * only, later ones are not seen. */
struct view_window {
    const double *start, *end; /* [users] */
};

struct view_opts {
    unsigned terms;
    struct rkernel scale[RSCALES_MAX]; /* w in 1 / unit */
    uint32_t n_scale;
    struct rkernel item_kernel;
    double unit_s;
    bool activity; /* what a user is observed with: see struct fit_opts */
    const struct calendar *zone;
    const struct follows *follows; /* RT_SOCIAL; sorted by user */
    double horizon;                /* units after which a friend's event is forgotten; 0: never */
    uint32_t user0, user1;         /* the users of this process; the others' events only excite */
};

/* A friend's event with a later event of the pair (dossier 1.8): it acts from that event on. */
struct trigger {
    uint32_t edge;  /* of the user's edges */
    uint32_t event; /* the first event of the pair after it */
    real dt;        /* units between the two */
    real count;
};

struct view_big { /* a record with many events */
    uint64_t rec;
    real count;
};

struct view {
    uint32_t user0, n_user, n_item; /* users here are user0 + 0 .. n_user */
    uint32_t n_scale, x_stride;     /* numbers of one event in x, a multiple of 4 */
    unsigned terms;
    double unit_s;
    struct rkernel scale[RSCALES_MAX], item_kernel;
    uint64_t n_rec, n_pair, n_event;
    double weight; /* events that count: the sum of count[] */

    uint64_t *user_rec;   /* [n_user + 1] */
    uint32_t *rec_item;   /* [n_rec] */
    uint32_t *rec_event;  /* [n_rec + 1]; NULL after view_merge_counts() */
    uint8_t *rec_slot;    /* [n_rec] hour of week; NULL without a calendar */
    real *count;          /* [n_event]; 0: before the user's start */
    bool all_count;       /* raw is count: no event comes before its user's start */
    real *raw;            /* [n_event] the same, but also before the start */
    real *x;              /* [n_event, x_stride]; NULL without self-excitation */
    double *t;            /* [n_event] units since the first event; NULL: no excitation */
    uint8_t *small;       /* [n_rec] after view_merge_counts(): the record's count, or */
    struct view_big *big; /* 255 where it is one of these, by record */
    uint64_t n_big;
    uint64_t *item_ptr;  /* [n_item + 1] into the two below */
    uint32_t *csc_rec;   /* [n_rec], by item, then user */
    uint8_t *csc_user;   /* [n_rec] little-endian numbers of user_bytes bytes */
    uint32_t user_bytes; /* 3, beyond 2^24 users 4 */

    double *start, *end; /* [n_user] units since the first event: the windows */
    double *exposure;    /* [n_user] units */
    double *comp;        /* [n_user, n_scale]: integral of the user's own kernels over the window */
    double *occupied;    /* [n_class, 168] units of each slot in the window, with a calendar */
    uint32_t *window_class; /* [n_user] */
    uint32_t n_class;

    /* RT_SOCIAL */
    uint64_t *edge_ptr;  /* [n_user + 1] */
    uint32_t *edge_from; /* [n_edge] */
    double *edge_comp;   /* [n_edge, n_scale] integral of the source's kernels over the window */
    uint64_t n_edge, n_pair_order;
    uint64_t *pair_rec;     /* [n_pair + 1] records of each pair; social and items only */
    uint64_t *user_pair;    /* [n_user + 1] */
    uint32_t *pair_order;   /* [n_event]: a pair's events by time */
    uint64_t *pair_trigger; /* [n_pair + 1] */
    struct trigger *trigger;
    uint64_t n_trigger;
    double dropped; /* share of friends' kernel mass beyond the horizon */

    /* RT_ITEMS, RT_CLUSTERS */
    uint32_t *user_order; /* [n_event]: a user's events by time */
    double *pair_comp;    /* [n_pair]: integral of the item kernel of the pair's own events */
    uint64_t max_user_event, max_user_rec, max_chunk_event;
};

/* ev is sorted. Errors: ST_NOMEM, ST_RANGE (too many events of one kind). */
enum status view_build(const struct rs_events *ev, const struct view_window *w,
                       const struct view_opts *o, struct view **ret, struct err *err);
void view_free(struct view *v);
/* Other scales, as many as before: rebuilds x and comp. */
void view_rescale(struct view *v, const struct rkernel *scale);
/* One event a record, with the record's count, in a byte: when nothing tells the events of a pair
 * apart. ST_NOMEM. */
enum status view_merge_counts(struct view *v, struct err *err);
/* Times are given back: nothing asks for them but friends, other items and learned scales. */
void view_drop_times(struct view *v);
/* Bytes of a record, of an event, of everything. */
uint64_t view_record_bytes(const struct view *v);
uint64_t view_event_bytes(const struct view *v);
uint64_t view_bytes(const struct view *v);
/* Counts of n merged records from `rec` on; users of n places of the item lists from `at` on. */
void view_counts(const struct view *v, uint64_t rec, size_t n, real *out);
void view_users(const struct view *v, uint64_t at, size_t n, uint32_t *out);

/* Records of a chunk: what a sweep holds in the first-level cache. */
enum { VIEW_CHUNK = 256 };
/* One past the last record of the chunk that starts at `from` (< end): VIEW_CHUNK records at
 * most. */
static inline uint64_t view_chunk(uint64_t from, uint64_t end)
{
    return end - from < VIEW_CHUNK ? end : from + VIEW_CHUNK;
}

#endif
