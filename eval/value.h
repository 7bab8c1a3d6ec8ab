/* eval/value.h - what an expression yields. Every number is exact; beside it goes the double that a
 * binary floating-point evaluation would hold, which is never an answer: it tells where the public
 * generator's golds are off, and prints solution texts as that generator does. Lists and texts
 * borrow from the memory of the template or of the evaluation. Pure. */
#ifndef STROBE_EVAL_VALUE_H
#define STROBE_EVAL_VALUE_H

#include "engine/base/buf.h"
#include "eval/rational.h"

#include <stdbool.h>
#include <stdint.h>

enum value_kind { VALUE_NONE, VALUE_BOOL, VALUE_NUM, VALUE_STR, VALUE_LIST };
/* What the number would be in the public language: decides how it is printed. */
enum value_type { NUM_INT, NUM_FRACTION, NUM_FLOAT };

struct value {
    enum value_kind kind;
    enum value_type type; /* of VALUE_NUM */
    struct rational r;    /* VALUE_NUM; VALUE_BOOL: 0 or 1 */
    double f;             /* the same in binary floating point */
    struct str s;         /* VALUE_STR; VALUE_NUM: its own words ("thrice"), or n == 0 */
    const struct value *item;
    uint32_t n_item;
};

struct value value_num(struct rational r, enum value_type type);
struct value value_int(int64_t n);
struct value value_bool(bool b);
struct value value_str(struct str s);
bool value_true(const struct value *v);
/* Numbers by value (words ignored), texts by bytes, a text with a worded number by the words. */
bool value_eq(const struct value *a, const struct value *b);
/* Does binary floating point reach another number (not merely the nearest double of it)? */
bool value_float_differs(const struct value *v);

enum value_print {
    VALUE_CLEAN,  /* "45", "2.5", "1/3" */
    VALUE_PUBLIC, /* as the public generator: "45.0", "2.5", "1/3" */
    VALUE_WORDS   /* its own words, else as VALUE_PUBLIC: what stands in a question */
};
void value_print(const struct value *v, enum value_print how, struct buf *out);

#endif
