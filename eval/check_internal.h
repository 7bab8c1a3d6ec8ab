/* eval/check_internal.h - what check.c and check_text.c share. */
#ifndef STROBE_EVAL_CHECK_INTERNAL_H
#define STROBE_EVAL_CHECK_INTERNAL_H

#include "eval/check.h"

struct checking {
    struct template *t;
    const struct check_opts *o;
    struct check_result *res;
    struct err *err;
    int level;
    struct mem mem; /* of one instance */
    bool steps_said;
};

/* Findings in the words of the template, without an instance of it. */
void check_constants(struct checking *c);
void check_pronouns(struct checking *c);
void check_unused(struct checking *c);

#endif
