/* recsys/fit_internal.h - the state of a fit, between fit*.c and sweep*.c.
 *
 * q(theta) and q(beta) are kept as shapes and as tables exp(E ln .); their rates are rank-one
 * (hyper-rate + exposure * column sums), so nobody stores them: where the bound needs one it is
 * exp(psi(shape)) / table. */
#ifndef STROBE_RECSYS_FIT_INTERNAL_H
#define STROBE_RECSYS_FIT_INTERNAL_H

#include "engine/base/pool.h"
#include "recsys/fit.h"
#include "recsys/level.h"
#include "recsys/view.h"

#include <math.h>

enum { ITEM_BLOCKS = 8, BLOCK_ROWS = 128, LEVEL_PAD = 16 };

/* Gamma nodes of small arrays: q(shape, rate), prior shape a. */
struct fit {
    const struct fit_opts *o;
    unsigned terms;
    struct view *v;
    const struct calendar *zone;
    uint64_t sweeps;
    const struct level *level;
    struct pool *pool;
    uint32_t nu, np, n_feat, k, stride, n_scale, x_stride;
    uint32_t user0, n_user_all;
    double unit_s, t0_s;
    struct rkernel scale[RSCALES_MAX];
    bool scale_off[RSCALES_MAX];

    real *theta_tab, *theta_shape; /* [nu, n_feat, stride] */
    real *beta_tab, *beta_shape; /* [np, ...]; between passes beta_shape holds counts / beta_tab */
    double *s_theta, *s_beta;    /* [n_feat, stride]: sums of exposed means, of means */
    double *eta_rate, *xi_rate;  /* [nu], [np] */
    double eta_shape, xi_shape;  /* the same for all rows */

    double *tau_shape, *tau_rate, *tau_count;    /* [nu, n_scale] */
    real *tau_tab;                               /* [nu, x_stride] */
    double *edge_shape, *edge_rate, *edge_count; /* [n_edge, n_scale] */
    real *edge_tab;                              /* [n_edge, n_scale] */
    uint32_t n_mu;                               /* pooled: 2 n_scale; else users * n_scale */
    double *mu_shape, *mu_rate;

    double *phi_shape, *phi_rate, *phi_count, *psi_rate; /* [nu] */
    real *phi_tab;
    double *beta_mean; /* [np, stride], RT_ITEMS */
    double *beta_sums; /* sums of beta's blocks */
    double *sigma;     /* [np]: sum over users of E phi times kernel mass on the item */
    real *item_acc;    /* [ITEM_BLOCKS, np, stride], RT_ITEMS */
    uint32_t n_cluster;
    const uint32_t *cluster;                          /* [np] */
    double *cluster_size;                             /* [n_cluster] */
    double *pi_shape, *pi_rate, *pi_count, *rho_rate; /* [n_cluster^2], [n_cluster] */
    real *pi_tab;
    double *pi_block; /* [ITEM_BLOCKS, n_cluster^2] */

    real *rec_r;                       /* [n_rec]: sum of count / Z over a record's events */
    uint64_t *user_block, *item_block; /* limits of the blocks that threads take */
    uint32_t n_user_block, n_item_block;
    double *block_ln;        /* [n_user_block] */
    struct scratch *scratch; /* [threads] */
    real *base_of;           /* scratch of fit_scales.c */
    double *end_of;
    bool want_ln;
    double ln_z;      /* of the last pass, when wanted: sum of count ln Z */
    bool bound_ready; /* the rates are those of a sweep: the bound may be taken */
};

struct scratch {
    real *acc;                 /* [n_feat, stride] */
    real *base, *r;            /* [VIEW_CHUNK] or a user's records */
    real *count;               /* [VIEW_CHUNK] of merged records */
    uint32_t *each;            /* [VIEW_CHUNK + 1]: 0, 1, 2, ... one event a record */
    uint32_t *user;            /* [VIEW_CHUNK] of an item's records */
    real *z, *q;               /* a user's events: rate, count / rate */
    uint32_t *event_rec;       /* the record of each event */
    double *g0, *g1, *h0, *h1; /* [n_scale, events]: friends' excitation, and backwards */
    double *trail, *trail_t, *back, *back_t; /* [records]: own-item sums of the item kernel */
    double *ctx, *ctx_back;                  /* [stride or n_cluster] */
    uint8_t *slot;
    double *sum;  /* [n_feat, stride] */
    double *rows; /* [n_feat, stride] */
};

static inline real *row_of(const struct fit *f, real *table, uint64_t i)
{
    return table + i * f->n_feat * f->stride;
}
/* Of prior rates of tau: which node rules user v's (source's) scale m; kind 0 own, 1 friends'. */
static inline uint64_t mu_of(const struct fit *f, uint32_t v, uint32_t m, int kind)
{
    return f->o->pooled ? (uint64_t)kind * f->n_scale + m : (uint64_t)v * f->n_scale + m;
}
/* Friends' events are summed: kernels of the last event alone are not theirs. */
static inline bool edge_off(const struct fit *f, uint32_t m)
{
    return f->scale_off[m] || f->scale[m].last_only;
}
static inline double mu_mean(const struct fit *f, uint64_t i)
{
    return f->mu_shape[i] / f->mu_rate[i];
}

/* ---- special.c ---- */
double digamma(double x);     /* x > 0 */
double ln_gamma(double x);    /* thread-safe */
double exp_digamma(double x); /* exp(psi(x)), 0 when it underflows */
/* KL(Gamma(s, r) || Gamma(a, h)) with E h and E ln h given. */
double gamma_kl(double s, double r, double a, double mean_h, double ln_h);

/* ---- sweep.c ---- */
enum status sweep_make_blocks(struct fit *f, struct err *err);
/* Attributions of all users: new theta_shape, rec_r, counts of tau, edges, phi, pi; ln_z when
 * f->want_ln. */
void sweep_users(struct fit *f);
void sweep_user(struct fit *f, uint32_t u, struct scratch *s, unsigned item_block, double *ln);
/* Counts of the items, divided by beta_tab, into beta_shape. */
void sweep_items(struct fit *f);
/* One user with everything but own events and base: sweep_more.c. */
void sweep_user_more(struct fit *f, uint32_t u, struct scratch *s, unsigned item_block, double *ln);

/* ---- mstep.c ---- */
void mstep_tau(struct fit *f, uint32_t from, uint32_t to);
enum status mstep_mu(struct fit *f, struct err *err);
enum status mstep_theta(struct fit *f, struct err *err); /* also eta */
void mstep_theta_rows(struct fit *f, uint32_t from, uint32_t to, struct scratch *s, double *sum);
void mstep_beta(struct fit *f); /* also xi; beta_shape holds counts / beta_tab before */
enum status mstep_items(struct fit *f, struct err *err); /* phi, psi, pi, rho, sigma */
/* rows of features through the hours that a window holds of each pair of them: out_i = sum_j F_ij
 * in_j. */
void occupancy_rows(const double *occupied, const double *in, double *out, uint32_t stride);

/* ---- bound.c ---- */
/* sum of KL terms and the compensator, of the parameters as they are. */
enum status bound_parts(struct fit *f, double *kl, double *comp, struct err *err);

/* ---- fit_setup.c ---- */
enum status fit_open(const struct rs_events *ev, const struct fit_opts *o,
                     const struct calendar *zone, struct fit **ret, struct err *err);
void fit_close(struct fit *f);
enum status fit_start_values(struct fit *f, struct err *err);
/* ---- fit_model.c ---- */
/* The model so far, with room for n_state doubles; with several processes all ranks call it. */
enum status fit_model(struct fit *f, const struct rs_events *ev, uint64_t n_state,
                      struct rmodel **ret, struct err *err);
/* RT_SOCIAL: where this process's edges begin among all. */
uint64_t fit_edge_start(const struct fit *f);

/* Factors of a model where names agree. Errors: ST_ARG. */
enum status fit_warm(struct fit *f, const struct rs_events *ev, const struct rmodel *w,
                     struct err *err);

/* ---- fit_state.c ---- */
/* Where the loop is. */
struct fit_marks {
    double best;     /* held-out likelihood so far; -inf: none */
    double elbo;     /* last measured; NaN: none */
    uint32_t worse;  /* measurements since the best one */
    bool end;        /* tolerance or held-out events said so */
    double share[3]; /* of events: self, social, items */
    double radius, branching;
    struct rmodel *best_model; /* NULL: none; owned */
};
/* The model so far and all else of the state; all ranks call it. */
enum status fit_checkpoint(struct fit *f, const struct rs_events *ev, struct fit_marks *k,
                           struct rmodel **ret, struct err *err);
/* Back from one, on a fit that has its start values. Errors: ST_ARG (other settings, other
 * numbers of names, no checkpoint), ST_FORMAT. */
enum status fit_resume(struct fit *f, const struct rs_events *ev, const struct rmodel *m,
                       struct fit_marks *k, struct err *err);

/* ---- fit.c ---- */
enum status fit_sweep(struct fit *f, struct err *err);
/* The same; *elbo: the bound of the parameters before it. */
enum status fit_sweep_bound(struct fit *f, double *elbo, struct err *err);

/* ---- fit_svi.c ---- */
/* One pass over all users in batches. */
enum status fit_svi_pass(struct fit *f, uint32_t pass, struct err *err);

/* ---- fit_scales.c ---- */
/* One M-step of the kernels' rates; then drops those that cause little. */
enum status fit_scales_step(struct fit *f, struct err *err);

#endif
