/* engine/duo/measure.h - a routing trace from a model and a text: the oracle's search, and beside
 * it, always, the controls that tell insight from selection (training.md 1.7): the NML correction,
 * the mixture of the same routes, a placebo (placebo.h), as many routes at every
 * budget, one route for longer stretches, and the committed oracle. Owner: one thread. */
#ifndef STROBE_DUO_MEASURE_H
#define STROBE_DUO_MEASURE_H

#include "engine/duo/search.h"

struct duo_measure {
    struct duo_search search; /* kind, n_choice, ...: budget only for DUO_RESTRICTED */
    bool no_nml;          /* the NML correction needs the vocabulary's maxima: costly if large */
    uint32_t placebo;     /* copies at most; 0: none */
    double placebo_sigma; /* relative noise of a matrix's weights; 0: routes' spread is matched */
    size_t committed;     /* tokens of the committed oracle; 0: none */
    bool no_router;       /* the model's router is not asked */
    bool heuristics;      /* greedy, surrogate and beam too, with regret */
    uint64_t seed;
    struct duo_watch watch; /* asked between layers, and between tokens of what is computed after */
};
void duo_measure_init(struct duo_measure *m);
/* Rows of a pass are chosen so that its work areas stay small. Errors: those of the searches. */
enum status duo_measure_run(const struct duo_model *m, const struct duo_text *t,
                            const struct duo_measure *o, struct pool *pool, struct duo_trace **ret,
                            struct err *err);
/* Layer-token evaluations that a measurement will take, about: for admission and progress. */
double duo_measure_cost(const struct duo_model *m, size_t n_tok, const struct duo_measure *o);

#endif
