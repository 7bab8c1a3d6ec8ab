/* tests/unit/recsys/make.h - planted data for the tests of this folder. */
#ifndef STROBE_TESTS_UNIT_RECSYS_MAKE_H
#define STROBE_TESTS_UNIT_RECSYS_MAKE_H

#include "recsys/fit.h"
#include "recsys/simulate.h"

/* A planted model and events from it; clear both. Fails the test on errors. */
void make_planted(const struct plant_opts *o, enum sim_method method, struct rmodel **m,
                  struct simulated *s);
/* Fits; fails the test on errors. */
struct rmodel *make_fit(const struct rs_events *ev, const struct fit_opts *o);

#endif
