/* recsys/tune.h - chooses the kernels of self-excitation, the measure and two prior shapes for the
 * data at hand: by ranking a validation part that is cut off the end of the training events, never
 * by later ones.
 *
 * Ranking and likelihood have different optima (dossier 2.1, b), so settings are judged by what
 * they are for: recall@20 + NDCG, prequential, full ranking. The search is greedy and its cost is
 * bounded: a few starting sets, then one change at a time (drop a kernel, add one, another prior
 * shape), kept when it is better; at most `trials` fits of at most `iters` sweeps. The model tried
 * is the part with own events alone (HRPF): what it chooses serves all variants. Deterministic.
 * Owner: one thread. */
#ifndef STROBE_RECSYS_TUNE_H
#define STROBE_RECSYS_TUNE_H

#include "engine/base/json.h"
#include "recsys/evaluate.h"
#include "recsys/fit.h"

enum { TUNE_TRIALS_MAX = 64, TUNE_TRIALS = 24, TUNE_SWEEPS = 60 };

struct tune_trial {
    char what[48]; /* the change */
    double recall20, ndcg, seconds;
    bool better; /* than all before: kept */
};
struct tune_opts {
    enum split_kind kind; /* as the test part is or will be cut */
    double share;         /* of the events, the last ones, that judge */
    uint32_t trials, iters;
    uint64_t rank_max;  /* validation events ranked in a trial at most, spread evenly */
    uint64_t event_max; /* of more training events only those of some users are taken */
    void (*progress)(void *ctx, uint32_t n, uint32_t of, const struct tune_trial *t);
    void *ctx;
    const volatile sig_atomic_t *stop; /* non-zero: ends with the best so far */
};
struct tune_opts tune_defaults(void);

struct tune_result {
    uint32_t n;
    struct tune_trial trial[TUNE_TRIALS_MAX];
    uint64_t fitted, judged; /* events of the two parts */
    double seconds;
};
/* Changes scale, n_scale, measure, a_theta, a_beta and a_tau of *o. Too few events to judge by: *o
 * stays as it is, n is 0. Errors: those of fit_run() and evaluate(). */
enum status fit_tune(const struct rs_events *train, const struct tune_opts *t, struct fit_opts *o,
                     struct tune_result *ret, struct err *err);
/* "1h,1d*2!,7d": what recsys_scales() of the command line reads. ret has room for 256 bytes. */
void tune_scales_text(const struct fit_opts *o, char ret[256]);
const char *tune_measure_name(const struct fit_opts *o); /* activity, wall */
/* What was chosen and tried, for a report; null where nothing was. */
json_t *tune_json(const struct fit_opts *o, const struct tune_result *r);

#endif
