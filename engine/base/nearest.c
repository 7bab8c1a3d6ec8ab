/* engine/base/nearest.c - see nearest.h. */
#include "engine/base/nearest.h"

#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, changes and swaps of neighbours from a to b (Damerau 1964, each letter
 * edited once); both shorter than NEAREST_BYTES. */
static size_t distance(struct str a, struct str b)
{
    size_t d[NEAREST_BYTES][NEAREST_BYTES];
    for (size_t i = 0; i <= a.n; i++)
        for (size_t j = 0; j <= b.n; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t change = d[i - 1][j - 1] + (a.p[i - 1] != b.p[j - 1]);
            d[i][j] = least(change, least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[a.n][b.n];
}

void nearest_offer(struct nearest *n, const char *candidate)
{
    struct str c = str_c(candidate);
    if (n->word.n == 0 || n->word.n >= NEAREST_BYTES || c.n >= NEAREST_BYTES)
        return;
    size_t edits = distance(n->word, c);
    if (edits < n->edits) {
        n->edits = edits;
        n->best = candidate;
    }
}

const char *nearest_word(const struct nearest *n)
{
    /* Farther than a third of the word it is no misspelling any more. */
    return n->best && n->edits <= 1 + n->word.n / 3 ? n->best : NULL;
}
