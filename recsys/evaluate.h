/* recsys/evaluate.h - how well a scorer ranks what users really took (dossier 5.9): full ranking
 * of all items at the time of each test event, ties at mid-rank, then the event is told to the
 * scorer (prequential) or not (frozen). Leak-free: nothing after an event is known at it. */
#ifndef STROBE_RECSYS_EVALUATE_H
#define STROBE_RECSYS_EVALUATE_H

#include "recsys/events.h"
#include "recsys/model.h"

/* A cut of one sorted log in two, numbers kept. */
enum split_kind {
    SPLIT_GLOBAL, /* the last share of all events by time */
    SPLIT_USER    /* the last share of each user's events: users have clocks of their own */
};
struct split {
    struct rs_events train, test; /* test: only users and items that train has */
    uint64_t dropped;             /* test events with a name that train lacks */
};
enum status split_events(const struct rs_events *ev, enum split_kind kind, double share,
                         struct split *ret, struct err *err);
void split_clear(struct split *s);

/* A method. score fills out[n_item]; add tells an event, in order of time. */
struct scorer {
    char name[64];
    void *ctx;
    void (*score)(void *ctx, uint32_t user, double t, float *out);
    enum status (*add)(void *ctx, uint32_t user, uint32_t item, double t, struct err *err);
    void (*close)(void *ctx);
};

struct ranking {
    uint64_t n;
    double recall1, recall5, recall20, ndcg, mrr; /* ndcg: mean of 1 / log2(1 + rank) */
};
enum { CALIBRATION_BINS = 10 };
/* Of the item ranked first: its share of all scores, as a probability, against how often it was
 * taken. Bins of equal width; error: mean |share - frequency|, weighted by events. */
struct calibration {
    uint64_t n[CALIBRATION_BINS];
    double share[CALIBRATION_BINS], taken[CALIBRATION_BINS];
    double error;
};
struct verdict {
    struct ranking all, repeat, fresh; /* fresh: new to the user, train and earlier test events */
    struct ranking user;               /* means over users of their means */
    double recall20_lo, recall20_hi, ndcg_lo, ndcg_hi; /* 95 %, bootstrap over users */
    struct calibration calibration;
    double seconds;
};
/* What one user's events came to: sums, not means. */
struct user_sum {
    uint64_t n;
    double recall20, ndcg;
};
struct eval_opts {
    bool frozen;
    uint64_t every;        /* ranks one event in so many (the others are told only); 0: all */
    struct user_sum *user; /* [users] filled when not NULL: for paired_difference() */
    uint64_t bootstrap;    /* resamples; 0: none */
    uint64_t seed;
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *progress_ctx;
};
/* The scorer has been told all of s->train already. */
enum status evaluate(struct scorer *m, const struct split *s, const struct eval_opts *o,
                     struct verdict *ret, struct err *err);

/* Difference a - b of two methods on the same events, with a 95 % interval: users are drawn with
 * replacement, both methods see the same draw, so what makes a user hard cancels. */
struct paired {
    double recall20, recall20_lo, recall20_hi, ndcg, ndcg_lo, ndcg_hi;
};
/* resamples >= 1. ST_ARG: not the same events. */
enum status paired_difference(const struct user_sum *a, const struct user_sum *b, uint32_t n_user,
                              const struct eval_opts *o, struct paired *ret, struct err *err);

/* ---- return times: each user's first test event, predicted at the end of training ---- */

struct return_score {
    uint64_t n;
    double median_error_s, true_median_s;
    double median_log_error; /* median |ln (predicted / true)|: as bad twice as once half as long */
    double pinball_s[3];     /* mean quantile loss at 0.1, 0.5, 0.9 */
    double coverage;         /* of the interval from 0.1 to 0.9 */
};
struct return_eval {
    struct return_score clock, items, median_gap, median_gap_silent;
};
/* Silence until the training window's end is known (SPLIT_GLOBAL); with own clocks prediction is
 * made at the user's last event. median_gap: the user's median gap, quantiles of own gaps;
 * _silent: the same, but never less than the silence. m has a clock. */
enum status evaluate_return(const struct rmodel *m, const struct split *s, enum split_kind kind,
                            struct return_eval *ret, struct err *err);

/* ---- scorers; each is told `train` on opening ---- */

/* A model. It is borrowed; its numbers are those of the events. */
enum status scorer_model(const struct rmodel *m, const char *name, const struct rs_events *train,
                         struct scorer *ret, struct err *err);
enum baseline {
    BASE_POPULARITY,
    BASE_WINDOW,     /* popularity of the last `span_s` */
    BASE_COUNTER,    /* the user's own counts */
    BASE_RECENCY,    /* what the user had last comes first */
    BASE_DECAYED,    /* own counts, each worth e^(-age / span_s) */
    BASE_HPF_DECAYED /* the same plus `weight` times the model's share of the user's base rate */
};
struct baseline_opts {
    enum baseline kind;
    double span_s, weight;
    const struct rmodel *hpf; /* borrowed */
};
enum status scorer_baseline(const struct baseline_opts *o, const char *name,
                            const struct rs_events *train, struct scorer *ret, struct err *err);
static inline void scorer_close(struct scorer *s)
{
    if (s->close)
        s->close(s->ctx);
    s->close = NULL;
}

#endif
