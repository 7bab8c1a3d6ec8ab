/* engine/infer/draft.c - see draft.h. */
#include "engine/infer/draft.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { MATCH_MOST = 6, MATCH_LEAST = 2 };

/* Tokens before `at` that equal those before n, at most MATCH_MOST. */
static uint32_t match(const int32_t *token, uint32_t n, uint32_t at)
{
    uint32_t k = 0;
    while (k < MATCH_MOST && k < at && token[at - 1 - k] == token[n - 1 - k])
        k++;
    return k;
}

uint32_t draft_lookup(const int32_t *token, uint32_t n, uint32_t max, int32_t out[DRAFT_MAX])
{
    uint32_t best = 0, from = 0;
    for (uint32_t at = n; at-- > MATCH_LEAST && best < MATCH_MOST;) {
        uint32_t k = match(token, n, at);
        if (k >= MATCH_LEAST && k > best) { /* the latest place of the longest match */
            best = k;
            from = at;
        }
    }
    if (best == 0)
        return 0;
    max = max < DRAFT_MAX ? max : DRAFT_MAX;
    for (uint32_t i = 0; i < max; i++) /* past the end the guess feeds itself: a loop goes on */
        out[i] = from + i < n ? token[from + i] : out[from + i - n];
    return max;
}

/* ---- costs ---- */

#define COST_DECAY 0.97 /* about the last 33 passes count */

void draft_costs_init(struct draft_costs *c, double token_share)
{
    *c = (struct draft_costs){ .token_share = token_share };
}

void draft_costs_add(struct draft_costs *c, uint32_t n_tok, double seconds)
{
    double n = n_tok;
    c->w = c->w * COST_DECAY + 1;
    c->n = c->n * COST_DECAY + n;
    c->t = c->t * COST_DECAY + seconds;
    c->nn = c->nn * COST_DECAY + n * n;
    c->nt = c->nt * COST_DECAY + n * seconds;
}

/* b / a of T = a + b n; where the passes do not tell, or tell nonsense, what was assumed. */
static double token_share(const struct draft_costs *c)
{
    double var = c->w * c->nn - c->n * c->n;
    if (c->w <= 0 || var <= 0.05 * c->w * c->w)
        return c->token_share;
    double b = (c->w * c->nt - c->n * c->t) / var, a = (c->t - b * c->n) / c->w;
    if (a <= 0)
        return 1;
    b = b > 0 ? b : 0;
    return b / a > 1 ? 1 : b / a;
}

/* ---- luck ---- */

#define LUCK_FIRST 0.5
#define LUCK_STEP  0.15 /* weight of one pass */
#define LUCK_REST  0.03 /* back towards the first guess while nothing is drafted */

void draft_luck_init(struct draft_luck *l)
{
    l->alpha = LUCK_FIRST;
}

void draft_luck_add(struct draft_luck *l, uint32_t drafted, uint32_t accepted)
{
    if (drafted == 0) {
        l->alpha += LUCK_REST * (LUCK_FIRST - l->alpha);
        return;
    }
    /* Guesses behind a wrong one were never judged. */
    double judged = accepted < drafted ? (double)accepted + 1 : drafted;
    l->alpha += LUCK_STEP * (accepted / judged - l->alpha);
}

uint32_t draft_length(const struct draft_costs *c, const struct draft_luck *l, uint32_t others,
                      uint32_t max)
{
    double share = token_share(c), alpha = l->alpha < 0.98 ? l->alpha : 0.98, best = 0;
    uint32_t ret = 0;
    for (uint32_t g = 0; g <= max; g++) {
        double tokens = (1 - pow(alpha, g + 1.0)) / (1 - alpha);
        double rate = tokens / (1 + share * (others + 1.0 + g));
        if (rate > best * 1.0001) {
            best = rate;
            ret = g;
        }
    }
    return ret;
}
