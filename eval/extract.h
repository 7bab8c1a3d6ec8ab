/* eval/extract.h - finds the final answer in what a model wrote, by several conventions at once
 * ("profiles"), so that a report can say how much of a score is extraction. Pure: no clock, no
 * global state, any thread. Any bytes are accepted.
 *
 * Ours are a ladder, the first rule that hits wins:
 *   R1 the last line with "#### N"        R2 the last "answer is", "answer:"...: the first number
 *   R3 the last \boxed{N}                    behind it on its line
 *   R4 a number in bold, or alone, on the last line that is not empty      R5 the last number
 * Before: the reasoning block is dropped, what follows "\nQ:" is cut (models go on with questions
 * of their own), typography is folded. The other profiles do what the programs that they are
 * named after do, flaws included (dossier gsm-symbolic 3.2, 3.3). */
#ifndef STROBE_EVAL_EXTRACT_H
#define STROBE_EVAL_EXTRACT_H

#include "engine/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Rises whenever a profile's result may change for some text. */
enum { EXTRACT_VERSION = 1 };

enum extract_profile {
    EXTRACT_STRICT,      /* R1-R3 */
    EXTRACT_FLEXIBLE,    /* R1-R5 */
    EXTRACT_APPLE,       /* GSM-Symbolic: commas deleted, last -?\d+\.?\d*; compared as doubles */
    EXTRACT_GSM8K,       /* first "#### (-?[0-9.,]+)", commas deleted; compared as text */
    EXTRACT_LM_STRICT,   /* lm-eval: first "#### N" or "The answer is N." */
    EXTRACT_LM_FLEX,     /* lm-eval: last (-?[$0-9.,]{2,})|(-?[0-9]+) */
    EXTRACT_LM_LLAMA,    /* lm-eval: last "The final answer is N" */
    EXTRACT_HELM,        /* last -?[\d,]+(?:.\d+)?, text behind a blank line cut */
    EXTRACT_OPENCOMPASS, /* cut at "Question:", last -?\d+\.\d+|-?\d+; within 1e-6 */
    EXTRACT_MGSM,        /* simple-evals: behind the last "Answer", last \d+\.?\d* */
    EXTRACT_PROFILES
};
/* "strict", "flexible", "apple", "gsm8k", "lm-eval-strict"...; static storage. */
const char *extract_profile_name(enum extract_profile p);
/* false: no profile has this name. */
bool extract_profile_find(struct str name, enum extract_profile *ret);

enum extract_rule {
    RULE_NONE, /* nothing was found */
    RULE_HASH,
    RULE_MARKER,
    RULE_BOXED,
    RULE_LINE,
    RULE_LAST,
    RULE_FOREIGN, /* the one rule of a profile that is not ours */
    EXTRACT_RULES
};
/* "none", "hash", "marker", "boxed", "line", "last", "pattern". */
const char *extract_rule_name(enum extract_rule r);

enum { EXTRACT_TEXT_MAX = 64 };
struct extract_hit {
    enum extract_rule rule;
    uint32_t begin, end;         /* bytes of the response that hold it; 0, 0: none */
    char text[EXTRACT_TEXT_MAX]; /* as the profile compares it, cut to fit, valid UTF-8 */
    bool is_number;              /* num/den holds: reduced, den > 0 */
    bool percent;                /* "40%": the value is 40 */
    int64_t num, den;
};

struct extract_all {
    struct extract_hit hit[EXTRACT_PROFILES];
};
/* Responses longer than this are looked at in their last EXTRACT_BYTES_MAX bytes. */
enum { EXTRACT_BYTES_MAX = 1 << 20 };
/* Errors: ST_NOMEM. */
enum status extract_answer(struct str response, struct extract_all *ret, struct err *err);

/* The right answer: exact, and as the data set writes it ("18", "1,234", "3/4"). */
struct extract_gold {
    int64_t num, den; /* den > 0 */
    struct str text;
};
/* Does the profile count this hit as right? Ours compare exact rationals. */
bool extract_correct(enum extract_profile p, const struct extract_hit *hit,
                     const struct extract_gold *gold);
/* One number that is the whole of s, by our rules (1,234  3/4  1 1/2  \frac{3}{4}  1.5e3  forty-two
 * $5  40%). false: it is none, or does not fit 64 bits. */
bool extract_number(struct str s, int64_t *num, int64_t *den);

#endif
