/* eval/extract_internal.h - what extract*.c share: folded text and number tokens. */
#ifndef STROBE_EVAL_EXTRACT_INTERNAL_H
#define STROBE_EVAL_EXTRACT_INTERNAL_H

#include "eval/extract.h"

/* A thin space between digits ("1 234"), and a division sign, in folded text. */
enum { FOLD_THIN = 1, FOLD_DIVIDE = 2 };

/* Text with its typography folded to ASCII where it matters; at[i] is where byte i came from (at[n]
 * is the end). */
struct folded {
    char *p;
    uint32_t *at;
    size_t n;
};

struct token {
    size_t begin, end; /* in the folded text */
    bool is_number;    /* false: more digits than 64 bits hold */
    bool percent;
    int64_t num, den;
};

/* Is there a number at i (with its sign)? Looks back at t[i - 1] to know what a sign is. `words`:
 * "forty-two" counts. Skips nothing: i is where it begins. */
bool token_at(const struct folded *t, size_t i, size_t end, bool words, struct token *ret);
/* First and last in [from, end). */
bool token_first(const struct folded *t, size_t from, size_t end, bool words, struct token *ret);
bool token_last(const struct folded *t, size_t from, size_t end, bool words, struct token *ret);

/* Reduced; false: does not fit. den != 0. */
bool ratio_make(__int128 num, __int128 den, int64_t *n, int64_t *d);

/* The programs of others. */
enum status extract_foreign(struct str response, struct extract_all *ret, struct err *err);
bool foreign_correct(enum extract_profile p, const struct extract_hit *hit,
                     const struct extract_gold *gold);

#endif
