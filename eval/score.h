/* eval/score.h - what an answer is worth: every extraction profile, and a class for each failure.
 * Pure, any thread. */
#ifndef STROBE_EVAL_SCORE_H
#define STROBE_EVAL_SCORE_H

#include "eval/run.h"

/* Fills hit, correct, klass, trap and version of a sample that has its question, gold, info,
 * response and finish. Errors: ST_NOMEM. */
enum status score_sample(struct run_sample *s, enum extract_profile profile, struct err *err);

/* Of every "a op b = c" in a text: how many there are, and how many are false. Exact. */
struct step_check {
    uint32_t n, n_false;
    uint32_t begin, end; /* the first false one, bytes of the text */
};
void score_steps(struct str text, struct step_check *ret);

#endif
