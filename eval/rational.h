/* eval/rational.h - exact fractions: int64 numerator and denominator, always reduced, denominator
 * positive; every operation goes through 128 bits and says false instead of wrapping. Gold answers
 * are made of nothing else: binary floating point gives off-by-one labels in the public templates
 * (reference gsm-symbolic.md, 1.9). Pure; any thread. */
#ifndef STROBE_EVAL_RATIONAL_H
#define STROBE_EVAL_RATIONAL_H

#include "engine/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct rational {
    int64_t n, d; /* d > 0, gcd(|n|, d) == 1 */
};

static inline struct rational rat_int(int64_t n)
{
    return (struct rational){ n, 1 };
}
/* False: d is 0, or the reduced parts do not fit. */
bool rat_make(__int128 n, __int128 d, struct rational *ret);
bool rat_add(struct rational a, struct rational b, struct rational *ret);
bool rat_sub(struct rational a, struct rational b, struct rational *ret);
bool rat_mul(struct rational a, struct rational b, struct rational *ret);
bool rat_div(struct rational a, struct rational b, struct rational *ret); /* false also: b is 0 */
/* Largest whole number <= a/b, and what is left: it takes the sign of b. */
bool rat_floordiv(struct rational a, struct rational b, struct rational *ret);
bool rat_mod(struct rational a, struct rational b, struct rational *ret);
bool rat_pow(struct rational a, int exponent, struct rational *ret); /* 0..64 */
int rat_cmp(struct rational a, struct rational b);                   /* -1, 0, 1 */
int64_t rat_trunc(struct rational a);                                /* toward zero */
int64_t rat_floor(struct rational a);
/* To n decimals (0..9), ties to the even digit. */
bool rat_round(struct rational a, int decimals, struct rational *ret);
static inline bool rat_eq(struct rational a, struct rational b)
{
    return a.n == b.n && a.d == b.d;
}
double rat_f64(struct rational a); /* nearest double, for reports and covariates only */

/* "12", "-3", "0.15" (3/20), "1,234", "3/4"; the whole of s. False: none of these. */
bool rat_parse(struct str s, struct rational *ret);
/* Appends a whole number, a terminating decimal ("2.5"), else "a/b". */
void rat_print(struct rational a, struct buf *out);

#endif
