/* recsys/fit.h - fits the family by mean-field coordinate ascent (dossier 1.5 to 1.8) or, with
 * batches of users, by stochastic variational inference (Hoffman et al. 2013).
 *
 * A sweep is two passes over the records: by user (attributions, counts of the user's own
 * parameters), then by item; then the rates. No attribution is stored. Results are the same bits
 * for every number of threads. Owner: one thread. */
#ifndef STROBE_RECSYS_FIT_H
#define STROBE_RECSYS_FIT_H

#include "recsys/events.h"
#include "recsys/model.h"

#include <signal.h>

enum { FIT_K_MAX = 1024 };

/* Several processes, each with some of the users (fit_comm_none: one alone). The caller wires it to
 * MPI. All ranks make the same calls; sums are in rank order, the same bits everywhere. */
struct fit_comm {
    uint32_t rank, n_rank;
    void *ctx;
    enum status (*sum_f32)(void *ctx, float *v, uint64_t n, struct err *err);
    enum status (*sum_f64)(void *ctx, double *v, size_t n, struct err *err);
};

enum fit_start { START_WINDOW, START_FIRST }; /* where a user's exposure begins */
/* What compensates a user's rates. Wall time, as in the paper: rates must also explain when the
 * user is active at all, and self-excitation of short scales takes over that task, to the ranking's
 * loss. Activity: the user's exposure is spread evenly over the user's own events, so rates compete
 * only for which item an event takes; when is left to the user's clock (return_time.h). All updates
 * stay conjugate: only the integrals of the kernels change. */
enum fit_measure { MEASURE_WALL, MEASURE_ACTIVITY };
enum fit_clock { CLOCK_GLOBAL, CLOCK_USER }; /* one time for all, or times of one's own */

struct fit_opts {
    unsigned terms; /* enum rterm */
    uint32_t k;
    double a_theta, a_beta, a_tau, a_phi; /* prior shapes */
    double a_hyper, b_hyper;              /* of the hyper-rates of theta and beta */
    double a_mu, b_mu;                    /* of those of tau, phi, pi */
    bool pooled; /* one hyper-rate of tau per scale for all users; false: per source (the paper) */
    struct rkernel scale[RSCALES_MAX]; /* w in 1 / SECONDS here */
    uint32_t n_scale;
    uint32_t learn_every; /* sweeps between updates of the scales; 0: they are fixed */
    double prune;         /* scales that cause a smaller share of events are dropped; 0: none */
    double item_scale_s;  /* mean of the item-to-item kernel, seconds */
    const char *zone;     /* RT_CALENDAR */
    const char *cluster;  /* attribute column that tells clusters, RT_CLUSTERS */
    const struct follows *follows;
    double horizon_s; /* of friends' events; 0: none */
    enum fit_start start;
    enum fit_clock clock;
    enum fit_measure measure;
    double lead_s;       /* START_FIRST: exposure begins that long before the first event */
    uint32_t iters;      /* sweeps at most; in batches: passes over the users */
    uint32_t batch;      /* users of a batch; 0: all, coordinate ascent */
    double kappa, delay; /* batches: step (t + delay)^-kappa */
    uint32_t eval_every; /* sweeps between measurements of bound and held-out likelihood */
    uint32_t patience;   /* measurements without a better held-out likelihood; 0: never stop */
    double tol;          /* stops when the bound grows less than this, relative; 0: never */
    uint64_t seed;
    uint32_t threads;                /* 0: all cores */
    int level;                       /* enum cpu_level to force down, -1: the best */
    const struct rmodel *warm;       /* starts from these factors where names agree; NULL: anew */
    bool resume;                     /* warm is a checkpoint of this very fit: it goes on from
                                        there, to the same bits as if it had never stopped */
    const struct rs_events *heldout; /* later events for held-out likelihood; NULL: none. Numbers
                                        of users and items are those of the fitted events */
    const struct fit_comm *comm;     /* NULL: one process */
};
/* As published: wall time, summed exponential kernels (1 h, 1 d, 7 d, 60 d). */
struct fit_opts fit_defaults(unsigned terms);
/* Measure and kernels that ranked best on the data in tests/bench/recsys: activity, kernels of the
 * last event that peak at their scale, and summed ones. What the command line fits unless told. */
void fit_best(struct fit_opts *o);
/* Errors: ST_ARG, ST_RANGE: names the setting. */
enum status fit_check(const struct fit_opts *o, struct err *err);

/* What sweeps hold in memory: bytes of a record (a pair; with a calendar a pair and hour of week),
 * of an event (0: the record stands for its events), of a user's or an item's row (factors: shape
 * and table, 8 K; all else is in `user`: window, hyper-rate, tau and compensators of each scale).
 */
struct fit_memory {
    uint64_t record, event, row, user, trigger, all;
};

struct fit_progress {
    uint32_t sweep, sweeps;
    double elbo;                                  /* NaN: not measured in this sweep */
    double heldout;                               /* log likelihood per event; NaN: not measured */
    double sweep_s;                               /* of the last one */
    double self_share, social_share, items_share; /* of events, by their expected causes */
    double radius; /* largest self-excitation of a user: above 1 the process explodes */
    uint32_t n_scale;
};

struct fit_watch {
    void *ctx;
    /* Before the first sweep: what it will hold. */
    void (*plan)(void *ctx, const struct fit_memory *m, uint64_t n_rec, uint64_t n_event);
    void (*progress)(void *ctx, const struct fit_progress *p);
    /* Asked for every `checkpoint_every` sweeps and after the last: the state so far, a model that
     * a fit can go on from (fit_opts.resume). */
    enum status (*checkpoint)(void *ctx, const struct rmodel *m, uint32_t sweep, struct err *err);
    uint32_t checkpoint_every;
    const volatile sig_atomic_t *stop; /* non-zero: ends after the sweep, as if it were the last */
};

struct fit_result {
    uint32_t sweeps;
    double elbo, heldout;
    bool stopped, early; /* by a signal; by held-out likelihood or tolerance */
    double seconds, sweep_s;
    double self_share, social_share, items_share, radius, mean_branching;
    struct fit_memory memory;
    uint64_t view_bytes, n_rec, n_event, n_trigger;
    double dropped; /* friends' kernel mass beyond the horizon */
};

/* ev is sorted and not empty. Free *ret with rmodel_free(). Errors: ST_ARG, ST_RANGE, ST_NOMEM,
 * ST_DIVERGED (numbers left the finite ones), and those of the watch. */
enum status fit_run(const struct rs_events *ev, const struct fit_opts *o,
                    const struct fit_watch *watch, struct rmodel **ret, struct fit_result *res,
                    struct err *err);
/* The settings that a checkpoint's fit had where a search may have chosen them: scales, measure and
 * prior shapes into *o. Errors: ST_FORMAT (it is no checkpoint). */
enum status fit_chosen(const struct rmodel *checkpoint, struct fit_opts *o, struct err *err);
/* Tells data apart: names, items and times, in any order of rows. */
uint64_t rs_data_hash(const struct rs_events *ev);

#endif
