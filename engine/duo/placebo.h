/* engine/duo/placebo.h - the control that shows what choosing with the answer in sight is worth by
 * itself (training.md 1.7): the best of as many noisy copies of the all-big model as the oracle has
 * routes, their losses spread as much as the routes' losses are. Copies cost a pass each, so there
 * are only some; where the oracle has more routes, the least of so many draws comes from its exact
 * distribution. Owner: one thread. */
#ifndef STROBE_DUO_PLACEBO_H
#define STROBE_DUO_PLACEBO_H

#include "engine/duo/search.h"

enum { DUO_PLACEBO_BUDGETS = DUO_LAYERS_MAX + 1 };

struct duo_placebo {
    uint32_t copies; /* at most, 1.. */
    double sigma;    /* relative noise of a matrix's weights; 0: found so that spreads match */
    uint64_t seed;
    uint32_t n_budget;
    const uint64_t *k;    /* [n_budget] routes the oracle chooses from */
    const double *spread; /* [n_budget] standard deviation of a token's losses over them */
    const float *all_big; /* [n_tok] */
    float *loss;          /* [n_tok, n_budget] the result; untouched where k is 0 */
};
/* What it took. */
struct duo_placebo_say {
    uint32_t copies;    /* made */
    double sigma;       /* of the weights */
    double mean_copy;   /* nats of a copy */
    double spread;      /* of a token's losses over the copies, before they are scaled */
    double made, drawn; /* best of all copies: measured, and from the distribution; a check of it */
};
/* A copy's difference to all big is scaled to the budget's spread. Parameters of p's network are
 * changed and put back. Errors: ST_CANCELLED, ST_NOMEM. */
enum status duo_placebo_run(const struct duo_pass *p, const struct duo_model *m,
                            const struct duo_placebo *o, struct duo_placebo_say *say,
                            struct err *err);
/* The least of k standard normal numbers: its distribution's value at u in (0, 1), exactly: the
 * x with 1 - (1 - Phi(x))^k = u. */
double duo_least_normal(uint64_t k, double u);

#endif
