/* eval/prompt_internal.h - the table of the built-in prompt. */
#ifndef STROBE_EVAL_PROMPT_INTERNAL_H
#define STROBE_EVAL_PROMPT_INTERNAL_H

#include "eval/prompt.h"

struct shot_text {
    const char *question, *solution, *answer;
};
extern const char prompt_default_name[], prompt_default_preamble[];
extern const struct shot_text prompt_default_shots[8];

#endif
