/* recsys/model.h - a fitted recurrent Poisson factorisation (Hosseini et al. 2017 and 2020), as
 * immutable arrays, and its file.
 *
 * The rate at which user u takes item p at time t, in events per unit (unit_s seconds):
 *
 *   base     sum over active features i, j of  theta[u, i] . beta[p, j]
 *   self     sum over scales m of  tau[u, m]         K_m(own events on p before t)
 *   social   sum over edges e into u of tau[e, m]    K_m(source's events on p before t)
 *   items    phi[u] sum over own events on q != p of (beta[q] . beta[p]) g_ii(dt)          (IIRPF)
 *            phi[u] sum over own events on q != p of pi[b(q), b(p)] g_ii(dt)               (XIIRPF)
 *
 * K_m(events) = sum over events of g_m(t - t_e). Without a calendar there is one feature; with one
 * there are 31: the weekday (0: Monday) and 7 + the hour of day, both active at once. Kernels g
 * have integral one. The state of (user, item) that keeps K_m up to date in O(1) is struct rtrace
 * in trace.h.
 *
 * Arrays are borrowed from one block that rmodel_free() returns; rows have `stride` floats, 64-byte
 * aligned, the padding is zero. Immutable: any thread may read. */
#ifndef STROBE_RECSYS_MODEL_H
#define STROBE_RECSYS_MODEL_H

#include "recsys/calendar.h"
#include "recsys/ids.h"

#include <stdbool.h>

enum rterm {                     /* a variant is a choice of these */
             RT_GAMMA_RATES = 1, /* HPF's hyper-rates of users and items (off: PF) */
             RT_CALENDAR = 2,    /* weekday and hour features in the base */
             RT_SELF = 4,        /* own events on the item */
             RT_SOCIAL = 8,      /* events of those whom the user follows, on the item */
             RT_ITEMS = 16,      /* own events on other items, through the item factors */
             RT_CLUSTERS = 32    /* own events on other items, through item clusters */
};
/* "pf" 0, "hpf", "hrpf", "drpf", "srpf", "dsrpf", "iirpf", "xiirpf". Errors: ST_ARG. */
enum status rmodel_terms(const char *variant, unsigned *ret, struct err *err);
const char *rmodel_variant(unsigned terms); /* the name of a choice; "rpf" when it has none */

enum { RSCALES_MAX = 12, RFEATURES = 31, RSTRIDE = 16 };

/* g(x) = w e^(-w x) for order 1, w^2 x e^(-w x) for order 2 (nothing at once, most at 1 / w). With
 * last_only only the last event of the user on the item counts, however many came before: habit
 * without pile-up. Such kernels are of own events; friends' are summed always. */
struct rkernel {
    double w; /* 1 / unit */
    uint32_t order;
    uint32_t last_only;
};

struct rmodel {
    unsigned terms; /* enum rterm */
    uint32_t n_user, n_item, k, stride, n_feat, n_scale;
    bool activity; /* fitted by the measure of activity (fit.h): rates are calibrated as means over
                      the user's exposure; at a moment they share out the clock's rate. Fold-in:
                      kernels are compensated by (exposure / events) * their sum over all items
                      at each of the user's events */
    double unit_s; /* seconds of a unit; intensity per hour = per unit * 3600 / unit_s */
    double start_s, end_s;       /* the training window */
    uint64_t n_event, data_hash; /* events fitted; tells data apart (rs_data_hash) */
    struct rkernel scale[RSCALES_MAX];
    struct rkernel item_kernel; /* RT_ITEMS, RT_CLUSTERS */

    const float *theta, *beta; /* [n_user or n_item, n_feat, stride] posterior means */
    /* exp of the posterior mean of the logarithm, same shapes: what fold-in weighs causes with */
    const float *theta_log, *beta_log;
    const float *theta_shape, *beta_shape; /* same shapes: of the Gamma posteriors */
    const double *beta_sum;                /* [n_feat, stride]: sum of beta over the items */
    const double *theta_sum;  /* [n_feat, stride]: sum over users of exposure times theta */
    const double *eta, *xi;   /* [n_user], [n_item]: posterior means of the hyper-rates */
    const double *exposure;   /* [n_user] units observed in training */
    const double *user_start; /* [n_user] seconds: where exposure begins */
    const float *tau;         /* [n_user, n_scale] of own events; NULL without RT_SELF */
    const float *tau_log;     /* the same, exp of mean log */
    const double *tau_rate;   /* [n_scale]: mean prior rate of tau over the users, for fold-in */
    const double *tau_shape;  /* [n_user, n_scale] of the Gamma posteriors */
    uint32_t n_mu;
    bool pooled;      /* one prior rate of tau per scale: n_mu = 2 n_scale; else one per source */
    const double *mu; /* [n_mu] posterior means of the prior rates of tau */
    /* edges into each user, RT_SOCIAL */
    uint64_t n_edge;
    const uint64_t *edge_ptr;             /* [n_user + 1] */
    const uint32_t *edge_from;            /* [n_edge] sources, ascending in each row */
    const float *edge_tau, *edge_tau_log; /* [n_edge, n_scale] */
    const double *edge_shape;             /* the same */
    const float *phi, *phi_log;           /* [n_user]; RT_ITEMS, RT_CLUSTERS */
    const double *phi_shape, *psi;        /* [n_user] */
    uint32_t n_cluster;
    const uint32_t *cluster; /* [n_item], RT_CLUSTERS */
    const float *pi;         /* [n_cluster, n_cluster]: from the earlier item's to the later's */
    uint64_t sweeps;         /* made */
    double a_theta, a_beta, a_tau, a_phi, a_hyper, b_hyper, a_mu,
        b_mu;             /* shapes and rates of the priors */
    struct calendar zone; /* of the weekday and hour; UTC without RT_CALENDAR */
    /* user-level clocks of return times (return_time.h): a mixture over n_clock lengths of a gap */
    uint32_t n_clock;
    bool clock_wins;                /* it predicted held-out gaps better than the items' rates */
    double clock_width;             /* standard deviation of a component, of ln seconds */
    double clock_prior, clock_keep; /* weight of what all users do; what a gap keeps per next one */
    double loss_items, loss_clock;  /* median absolute errors of both on held-out gaps, seconds */
    const double *clock_ln;         /* [n_clock] ln seconds */
    const float *clock_count;       /* [n_user, n_clock] decayed counts of own gaps */
    const uint32_t *clock_last;     /* [n_user] of the last gap; n_clock: none */
    const float *clock_next;        /* [n_clock + 1, n_clock] all users: after a gap, the next */
    const double *last_s;           /* [n_user] time of the last fitted event */
    /* a checkpoint: what its fit needs to go on with the same bits (fit_state.c); else none */
    uint64_t n_state;
    const double *state;
    struct ids users, items;
    void *block; /* private */
    uint64_t n_byte;
};

/* Float rows. i: feature, 0 without a calendar. */
static inline const float *rmodel_theta(const struct rmodel *m, uint32_t u, uint32_t i)
{
    return m->theta + ((uint64_t)u * m->n_feat + i) * m->stride;
}
static inline const float *rmodel_beta(const struct rmodel *m, uint32_t p, uint32_t i)
{
    return m->beta + ((uint64_t)p * m->n_feat + i) * m->stride;
}
static inline double rmodel_per_hour(const struct rmodel *m)
{
    return 3600 / m->unit_s;
}
/* The features active at t (seconds): 1 or 2 of them. */
static inline unsigned rmodel_features(const struct rmodel *m, double t, uint32_t out[2])
{
    out[0] = out[1] = 0;
    if (!(m->terms & RT_CALENDAR))
        return 1;
    uint32_t slot = calendar_slot(&m->zone, t);
    out[0] = slot / 24;
    out[1] = 7 + slot % 24;
    return 2;
}
/* Memory for a model of these sizes (terms, n_user, n_item, k, n_scale, n_edge, n_cluster, n_clock,
 * n_state of `sizes`), zeroed; stride and n_feat are set, names are empty. ST_NOMEM, ST_RANGE. */
enum status rmodel_create(const struct rmodel *sizes, struct rmodel **ret, struct err *err);
/* Base rate of one pair, of all items into out [n_item] (units^-1). */
double rmodel_base(const struct rmodel *m, uint32_t u, uint32_t p, double t);
void rmodel_base_all(const struct rmodel *m, uint32_t u, double t, float *out);

/* Writes PATH.tmp, syncs, renames: a crash leaves the old file or the new one. */
enum status rmodel_save(const struct rmodel *m, const char *path, struct err *err);
/* Refuses with ST_FORMAT: another format or version, wrong sizes, checksums that do not match,
 * numbers that are not finite or rates that are not positive. */
enum status rmodel_load(const char *path, struct rmodel **ret, struct err *err);
void rmodel_free(struct rmodel *m); /* NULL is fine */
uint64_t rmodel_bytes(const struct rmodel *m);

#endif
