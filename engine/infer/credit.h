/* engine/infer/credit.h - how long guesses are acted on that cost something when they are wrong.
 * One that proves wrong takes of the credit, one that proves right gives back; without any left
 * nobody acts, but guesses are judged all the same, so that trust returns. Hence, at any time, the
 * wrong ones that were acted on are at most CREDIT more than the right ones, however the guesses
 * come. A value; no state elsewhere. */
#ifndef STROBE_INFER_CREDIT_H
#define STROBE_INFER_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CREDIT = 8,
    CREDIT_DEPTH = 16 /* so much at most: what was long wrong is soon believed again */
};

struct credit {
    uint32_t taken; /* all zero: all of it is there */
};

static inline bool credit_left(const struct credit *c)
{
    return c->taken < CREDIT;
}

static inline void credit_judge(struct credit *c, bool right)
{
    if (right)
        c->taken -= c->taken > 0;
    else
        c->taken += c->taken < CREDIT_DEPTH;
}

#endif
