/* tests/unit/evalreport/planted.h - a run whose truth is known: a scripted model with a chance of
 * its own for every template, lowered by distractors and falling with the level. */
#ifndef STROBE_TESTS_EVALREPORT_PLANTED_H
#define STROBE_TESTS_EVALREPORT_PLANTED_H

#include "eval/report/report.h"

struct planted {
    int n_template, n_set;
    double drop_noop, drop_level; /* off each template's chance */
    double extra_original;        /* on top, of the originals */
    uint64_t seed;                /* of the answers */
    bool reversed;                /* the samples come backwards */
    int skip_every;               /* every n-th sample failed; 0: none */
    bool hostile;                 /* the answers try to break out of the report */
};
double planted_chance(int template);
/* The run's row; static. */
const struct run_row *planted_row(void);
/* Every sample, in order; false stops. */
void planted_each(const struct planted *p, run_sample_fn *fn, void *ctx);
/* A report of it, and its document; abort() when that fails. */
struct report *planted_report(const struct planted *p);
json_t *planted_doc(const struct planted *p);

#endif
