/* engine/train/corpus_numbers.c - which numbers an equation may have, and drawing them. Half of all
 * draws stay small (up to 20): a small model meets them often enough to learn them by heart. */
#include "engine/train/corpus_internal.h"

#include <assert.h>

enum {
    SUM_MAX = 100,
    FACTOR_MAX = 12,
    SMALL_MAX = 20,
    OUT_MAX = 999,
    OUT_FACTOR = 13,
    OUT_FACTOR_MAX = 19
};

int64_t corpus_compute(char op, int64_t left, int64_t right)
{
    switch (op) {
    case '+':
        return left + right;
    case '-':
        return left - right;
    case 'x':
        return left * right;
    default:
        assert(op == '/' && right > 0 && left % right == 0);
        return left / right;
    }
}

static bool factors(enum corpus_range g, int64_t a, int64_t b)
{
    int64_t most = a > b ? a : b, least = a > b ? b : a;
    if (least < 2)
        return false;
    return g == RANGE_TRAIN ? most <= FACTOR_MAX : most >= OUT_FACTOR && most <= OUT_FACTOR_MAX;
}

bool corpus_in_range(enum corpus_range g, char op, int64_t left, int64_t right)
{
    if (left < 1 || right < 1)
        return false;
    switch (op) {
    case '+':
        return g == RANGE_TRAIN ? left + right <= SUM_MAX
                                : left + right > SUM_MAX && left + right <= OUT_MAX;
    case '-':
        return right < left &&
               (g == RANGE_TRAIN ? left <= SUM_MAX : left > SUM_MAX && left <= OUT_MAX);
    case 'x':
        return factors(g, left, right);
    case '/':
        return left % right == 0 && factors(g, left / right, right);
    default:
        return false;
    }
}

/* least..most, most >= least */
static int64_t between(struct rng *r, int64_t least, int64_t most)
{
    return least + (int64_t)rng_below(r, (uint64_t)(most - least + 1));
}

/* A term of a sum or difference, at least 2. */
static int64_t term(struct rng *r, enum corpus_range g)
{
    bool small = rng_below(r, 2) == 0;
    if (g == RANGE_OUT)
        return small ? between(r, 2, SUM_MAX) : between(r, SUM_MAX + 1, OUT_MAX);
    return between(r, 2, small ? SMALL_MAX : SUM_MAX);
}

static int64_t factor(struct rng *r, enum corpus_range g)
{
    return between(r, 2, g == RANGE_TRAIN ? FACTOR_MAX : OUT_FACTOR_MAX);
}

/* One of the numbers that divide n, 0: none but 1 and n. */
static int64_t divisor(struct rng *r, enum corpus_range g, int64_t n)
{
    int64_t fit[OUT_FACTOR_MAX];
    uint32_t n_fit = 0;
    for (int64_t d = 2; d <= OUT_FACTOR_MAX; d++)
        if (corpus_in_range(g, '/', n, d))
            fit[n_fit++] = d;
    return n_fit ? fit[rng_below(r, n_fit)] : 0;
}

bool corpus_draw(struct rng *r, enum corpus_range g, char op, int64_t *left, int64_t *right)
{
    int64_t a = *left, b = *right;
    if (op == 'x') {
        a = a ? a : factor(r, g);
        b = b ? b : factor(r, g);
    } else if (op == '/') {
        b = b ? b : a ? divisor(r, g, a) : factor(r, g);
        a = a ? a : b * factor(r, g);
    } else {
        a = a ? a : term(r, g);
        b = b ? b : term(r, g);
    }
    if (!corpus_in_range(g, op, a, b))
        return false;
    *left = a;
    *right = b;
    return true;
}
