/* server/cli_recsys.h - what the verbs of `strobe recsys` share: event files, models, times. */
#ifndef STROBE_SERVER_CLI_RECSYS_H
#define STROBE_SERVER_CLI_RECSYS_H

#include "recsys/events.h"
#include "recsys/fit.h"
#include "recsys/tune.h"
#include "server/cli.h"

/* Options about data, of most verbs. */
struct recsys_data {
    const char *events, *user_col, *item_col, *time_col, *unit;
    const char *follows;
    bool both_ways;
};
void recsys_data_opts(struct cli_opts *o, struct recsys_data *d);
/* Reads and sorts the events. ST_ARG: no file named. */
enum status recsys_read_events(const struct recsys_data *d, struct rs_events *ev, struct err *err);
/* The words of --scales: "1h,1d,7d,60d"; "12h*2" is a kernel of order 2 with its peak there. */
enum status recsys_scales(const char *text, struct rkernel *scale, uint32_t *n, struct err *err);
/* A duration such as 90s, 12h, 7d, in seconds. */
enum status recsys_duration(const char *text, const char *what, double *ret_s, struct err *err);

/* Everything that shapes a fit, for `fit` and `evaluate`. */
struct recsys_fit {
    struct recsys_data data;
    const char *model, *scales, *zone, *cluster, *clock, *start, *prior, *lead, *horizon;
    const char *item_scale, *measure;
    uint64_t k, iters, batch, eval_every, patience, seed, learn;
    double a_theta, a_beta, a_tau, tol, prune, kappa;
    uint64_t tune;                     /* trials at most; 0: none */
    const struct fit_opts *tuned;      /* what an earlier search chose: taken instead of a search */
    struct tune_result *trials;        /* takes what was tried; NULL: nobody asks */
    const volatile sig_atomic_t *stop; /* ends a search */
};
struct recsys_fit recsys_fit_defaults(void);
void recsys_fit_opts(struct cli_opts *o, struct recsys_fit *f);
/* Fills *ret; `follows` is read into *w when the model needs it. */
enum status recsys_fit_resolve(const struct cli *c, const struct recsys_fit *f,
                               const struct rs_events *ev, struct follows *w, struct fit_opts *ret,
                               struct err *err);

/* Searches where the settings leave it open: kernels, measure and prior shapes into *o. */
enum status recsys_tune(const struct cli *c, const struct recsys_fit *f, const struct rs_events *ev,
                        struct fit_opts *o, struct err *err);

enum status cli_recsys_simulate(struct cli *c, struct err *err);
enum status cli_recsys_fit(struct cli *c, struct err *err);
enum status cli_recsys_evaluate(struct cli *c, struct err *err);
enum status cli_recsys_recommend(struct cli *c, struct err *err);
enum status cli_recsys_return_time(struct cli *c, struct err *err);

#endif
