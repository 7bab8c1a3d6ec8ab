/* eval/steps.h - arithmetic inside running text: every "a op b = c" evaluated exactly. Pure. */
#ifndef STROBE_EVAL_STEPS_H
#define STROBE_EVAL_STEPS_H

#include "engine/base/buf.h"
#include "eval/rational.h"

struct step_check {
    size_t begin, end; /* bytes of "a op b = c" */
    struct rational want, said;
    bool right;
};
/* The next equation at or after *at whose left side can be evaluated; *at moves behind it. False:
 * there is none. */
bool steps_next(struct str text, size_t *at, struct step_check *ret);

#endif
