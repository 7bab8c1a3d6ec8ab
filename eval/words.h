/* eval/words.h - numbers as English writes them, both ways. Pure. */
#ifndef STROBE_EVAL_WORDS_H
#define STROBE_EVAL_WORDS_H

#include "engine/base/buf.h"
#include "eval/rational.h"

/* "thirty five" (join ' ') or "thirty-five" (join '-'); 0..999999, else digits. */
void words_number(int64_t n, char join, struct buf *out);
/* "one-half", "three-quarters", "two-thirds"; false: no words for it (denominator above 20). */
bool words_fraction(struct rational r, struct buf *out);
/* Digits as rat_parse() takes them, also behind a currency sign or before %, number words up to
 * 999,999, fractions in words, twice, double, "six times", "13 1/2". False: no number. */
bool words_parse(struct str s, struct rational *ret);
/* A currency sign ($, EUR sign, ...) at the front of s: its bytes, else 0. */
size_t words_currency(struct str s);

#endif
