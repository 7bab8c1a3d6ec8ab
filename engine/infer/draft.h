/* engine/infer/draft.h - guesses of what a sequence says next, to be verified in one pass, and how
 * long a guess pays. Guesses come from the sequence itself: what followed the last few tokens the
 * last time they stood there (prompt lookup). Nothing is lost whatever they are worth: a token is
 * sent only when the pass over the tokens before it chose it (flash.md 5.8; kernels are
 * batch-invariant, so verified tokens are those of one-by-one decoding, bit for bit).
 * Pure but for struct draft_costs; owner: the engine thread. Internal to infer. */
#ifndef STROBE_INFER_DRAFT_H
#define STROBE_INFER_DRAFT_H

#include <stdint.h>

enum { DRAFT_MAX = 16 };

/* Up to max (<= DRAFT_MAX) tokens that may follow token[0..n); returns how many. */
uint32_t draft_lookup(const int32_t *token, uint32_t n, uint32_t max, int32_t out[DRAFT_MAX]);

/* Time of a pass as a + b * tokens, from the passes that were run (decayed least squares). */
struct draft_costs {
    double w, n, t, nn, nt;
    double token_share; /* b / a while only one number of tokens was seen */
};
void draft_costs_init(struct draft_costs *c, double token_share);
void draft_costs_add(struct draft_costs *c, uint32_t n_tok, double seconds);

/* How well a sequence's guesses did: the share of guessed tokens that were right. */
struct draft_luck {
    double alpha;
};
void draft_luck_init(struct draft_luck *l);
void draft_luck_add(struct draft_luck *l, uint32_t drafted, uint32_t accepted);

/* The number of guessed tokens, 0..max, that makes tokens per second highest: with acceptance alpha
 * a pass yields (1 - alpha^(g+1)) / (1 - alpha) tokens. others: tokens of the pass besides. */
uint32_t draft_length(const struct draft_costs *c, const struct draft_luck *l, uint32_t others,
                      uint32_t max);

#endif
