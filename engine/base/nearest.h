/* engine/base/nearest.h - which known word a misspelt one was meant to be, for messages. Candidates
 * are offered one by one; nothing is allocated. Any thread. */
#ifndef STROBE_BASE_NEAREST_H
#define STROBE_BASE_NEAREST_H

#include "engine/base/buf.h"

#include <stddef.h>

enum { NEAREST_BYTES = 32 }; /* words of so many bytes and more are nobody's misspelling */

struct nearest {
    struct str word;  /* what was written; borrowed */
    const char *best; /* the candidate of the fewest edits so far, borrowed; the first of equals */
    size_t edits;
};

#define NEAREST_INIT(s) ((struct nearest){ .word = (s), .edits = (size_t)-1 })

void nearest_offer(struct nearest *n, const char *candidate);
/* The best of what was offered; NULL: none is near enough to be meant. */
const char *nearest_word(const struct nearest *n);

#endif
