/* recsys/fold.h - what a model makes of one user's events while the items stay as they are: the
 * coordinate ascent of that user's own factors (reference/rpf.md 1.5, 1.6), to its fixed point. For
 * users the model has not seen, and for those with events since it was fitted. Own and base terms;
 * of the social and item-to-item terms nothing is attributed here. Pure. */
#ifndef STROBE_RECSYS_FOLD_H
#define STROBE_RECSYS_FOLD_H

#include "recsys/model.h"

struct fold_event {
    double t;      /* seconds */
    uint32_t item; /* the model's number; events on items it does not know are left out before */
    float weight;  /* of its excitation */
};

struct folded {
    float *theta; /* [n_feat, stride], 64-byte aligned: posterior means */
    float tau[RSCALES_MAX];
    double eta;      /* mean of the user's hyper-rate */
    unsigned rounds; /* done */
};
void folded_clear(struct folded *f);

struct fold_opts {
    double start_s, end_s; /* exposure; events before start excite only */
    unsigned rounds;       /* at most; 0: 10 */
    double tolerance;      /* relative change of all means that ends it; 0: 1e-4 */
    double eta;            /* where the hyper-rate begins; 0: the users' mean, which is looked up */
};
/* ev in any order. ST_NOMEM. */
enum status fold_user(const struct rmodel *m, const struct fold_event *ev, size_t n,
                      const struct fold_opts *o, struct folded *ret, struct err *err);

/* Mean of the users' hyper-rates: for all calls with one model. */
double fold_mean_eta(const struct rmodel *m);

#endif
