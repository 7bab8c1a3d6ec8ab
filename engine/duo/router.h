/* engine/duo/router.h - stage 3 (training.md 1.4): a router for a frozen Duo model. Kinds: the
 * paper's soft mixture with budget loss and a growing inverse temperature, linear or with a hidden
 * layer; straight-through; and distilled from the oracle's routes. After training the threshold for
 * each budget is set by measurement: what counts is the realised hard budget. Owner: one thread. */
#ifndef STROBE_DUO_ROUTER_H
#define STROBE_DUO_ROUTER_H

#include "engine/duo/search.h"

enum duo_router_kind { DUO_R_LINEAR, DUO_R_MLP, DUO_R_STRAIGHT, DUO_R_DISTIL, DUO_R_KINDS };
const char *duo_router_name(enum duo_router_kind k);
bool duo_router_find(struct str name, enum duo_router_kind *ret);

struct duo_router_opts {
    enum duo_router_kind kind;
    uint32_t n_choice; /* 2: big, small; 3: and skip */
    uint32_t n_hidden; /* MLP */
    double budget, alpha, tau_from, tau_to, lr;
    uint64_t steps, seed;
    size_t rows; /* of the training text a step */
    struct duo_watch watch;
};
void duo_router_defaults(struct duo_router_opts *o);
struct duo_router_result {
    struct export_router router;
    double loss, soft, hard;                                     /* of the last steps */
    double val_nats[DUO_BUDGETS_MAX], val_hard[DUO_BUDGETS_MAX]; /* by calibrated budget */
    uint64_t steps;
};
/* Trains on `train`, calibrates on `val`. Errors: ST_RANGE (budget outside 0..1), those of
 * net_soft_create(), ST_DIVERGED, ST_CANCELLED, ST_NOMEM. */
enum status duo_router_train(const struct duo_model *m, const struct duo_text *train,
                             const struct duo_text *val, const struct duo_router_opts *o,
                             struct pool *pool, struct duo_router_result *ret, struct err *err);

#endif
