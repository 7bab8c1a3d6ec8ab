/* recsys/refit.h - fits a model to all that the recommender knows, and puts it into use.
 *
 *   events so far -> all but the last ones: kernels, measure and priors are chosen on the end of
 *                    them (tune.h), where the settings name no scales
 *                 -> fit, stopped early by the held-out likelihood
 *                 -> all of them: fit on from there -> snapshot -> in use
 *
 * Settings are JSON, checked before a job is queued. A checkpoint in the run's folder lets an
 * interrupted fit go on, to the same model, when the events are still the same; else it starts from
 * its factors. */
#ifndef STROBE_RECSYS_REFIT_H
#define STROBE_RECSYS_REFIT_H

#include "recsys/evaluate.h"
#include "recsys/fit.h"
#include "recsys/recsys.h"

enum { REFIT_PARAM_MAX = 64 };

struct refit_opts {
    struct fit_opts fit;
    double holdout;          /* share of the events, the last ones */
    uint32_t tune;           /* fits to choose settings by; 0: none */
    bool activate, evaluate; /* put into use; measure against baselines on what is held out */
    char zone[CALENDAR_NAME_MAX];
    const json_t *clusters; /* item -> its cluster's name, for xiirpf; borrowed from the settings */
};
/* Defaults where the object has nothing. param takes the name of a wrong setting. ST_ARG, ST_RANGE.
 */
enum status refit_settings(const json_t *config, struct refit_opts *ret,
                           char param[REFIT_PARAM_MAX], struct err *err);

struct refit_watch {
    void *ctx;
    const char *dir; /* for the checkpoint; NULL: none */
    void (*progress)(void *ctx, const char *phase, const struct fit_progress *p);
    bool (*stop)(void *ctx);
};
/* id takes the new model's. notes: an object, or NULL, that the snapshot's notes begin with; taken.
 * Errors: ST_ARG (no events), ST_CANCELLED, and the fit's and the disk's. */
enum status recsys_refit(struct recsys *r, const struct refit_opts *o, const struct refit_watch *w,
                         json_t *notes, char id[RECSYS_ID_MAX], struct err *err);

#endif
