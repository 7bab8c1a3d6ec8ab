/* recsys/query.h - what is asked of the live state under the current model: what now, why, and when
 * will they be back. Any thread; nothing is changed but lists that are kept for the next time.
 * Rates are events per hour. Times are Unix milliseconds. Items and users are live numbers, whose
 * names served_put_name() tells. */
#ifndef STROBE_RECSYS_QUERY_H
#define STROBE_RECSYS_QUERY_H

#include "recsys/served.h"

enum { QUERY_MAX = 1000, QUERY_CAUSES = 3, QUERY_POINTS_MAX = 2000, QUERY_QUANTILES = 9 };

enum query_seen { SEEN_ALLOW, SEEN_EXCLUDE, SEEN_ONLY };

struct query {
    uint32_t user; /* IDS_NONE: somebody new */
    int64_t at;
    uint32_t n; /* 1 to QUERY_MAX */
    enum query_seen seen;
    int64_t cooldown_ms; /* leave out what the user took so recently; 0: nothing */
    bool explain;        /* causes are filled */
};

struct query_cause {
    uint32_t who; /* factor, friend (user) or item */
    double rate;
};

/* rate is exactly base + self + social + cross. */
struct query_item {
    uint32_t item;
    double rate, base, self, social, cross;
    uint32_t n_own; /* the user's events on it */
    int64_t last;   /* the latest of them */
    unsigned n_factor, n_friend, n_other;
    struct query_cause factor[QUERY_CAUSES]; /* of base */
    struct query_cause friends[QUERY_CAUSES];
    struct query_cause other[QUERY_CAUSES]; /* items whose events excite this one */
};

struct query_answer {
    struct query_item *item; /* [n], best first; free with query_clear() */
    uint32_t n;
    bool in_model, folded; /* the model was fitted to the user; to what came since, too */
    uint64_t looked;       /* rows of items that were scanned; 0: the kept list was enough */
};
void query_clear(struct query_answer *a);
/* Errors: ST_NOMEM. An unknown user gets what most take. */
enum status query_recommend(struct served *l, struct gen *g, const struct query *q,
                            struct query_answer *ret, struct err *err);

/* When the user's next event comes, given none between the last one and `at`. */
struct query_return {
    double hours[QUERY_QUANTILES]; /* INFINITY: perhaps never */
    double other[QUERY_QUANTILES]; /* what the other way says; has_other */
    bool by_clock, has_other;      /* hours are by the user's clock, not by the items' rates: it
                                      predicted held-out gaps better (return_time.h) */
    double rate, base_rate;        /* per hour at `at`, by items */
    double density[QUERY_POINTS_MAX], point[QUERY_POINTS_MAX]; /* per hour, at hours */
    uint32_t n_point;
};
extern const double query_quantiles[QUERY_QUANTILES];
/* points: of the density, evenly up to the 95 % quantile; 0: none. ST_NOMEM. */
enum status query_return_time(struct served *l, struct gen *g, uint32_t user, int64_t at,
                              uint32_t points, struct query_return *ret, struct err *err);

struct query_curve {
    uint32_t n;
    double *base, *self, *social, *cross; /* [n] per hour */
    int64_t from, step;
    uint32_t n_event; /* of the user within, at most QUERY_POINTS_MAX, the latest */
    struct served_event *event;
};
void query_curve_clear(struct query_curve *c);
/* The user's rate, over all items or (item != IDS_NONE) one, at the n points that from and step
 * say; fills the rest of *c. ST_NOMEM. */
enum status query_intensity(struct served *l, struct gen *g, uint32_t user, uint32_t item,
                            struct query_curve *c, struct err *err);

/* Items whose factors point the same way (cosine), best first into out [n]. ST_NOMEM. */
enum status query_similar(struct gen *g, uint32_t item, uint32_t n, struct topk_hit *out,
                          uint32_t *n_ret, struct err *err);

struct query_edge {
    uint32_t user;
    double weight; /* events that one event of the source causes, all scales */
};
struct query_influence {
    double own; /* the same of the user's own events */
    struct query_edge *in, *out;
    uint32_t n_in, n_out;
};
void query_influence_clear(struct query_influence *i);
enum status query_influence(struct gen *g, uint32_t user, struct query_influence *ret,
                            struct err *err);

/* Folds a user in from all events, and makes the list of best base items. Not the net thread. */
enum status query_fold(struct served *l, struct gen *g, uint32_t user, struct err *err);

#endif
