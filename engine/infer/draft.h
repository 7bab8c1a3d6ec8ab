/* engine/infer/draft.h - guesses of what a sequence says next, to be verified in one pass: the
 * guess that costs nothing (what followed the last few tokens the last time they stood there:
 * prompt lookup), and how many guesses pay, from measured times and from how the guesses before
 * did. Nothing is lost whatever guesses are worth: a token is sent only when the pass over the
 * tokens before it chose it (flash.md 5.8; kernels are batch-invariant, so verified tokens are
 * those of one-by-one decoding, bit for bit). Other guesses come from drafter.h. Pure but for the
 * structs; owner: the engine thread. Internal to infer. */
#ifndef STROBE_INFER_DRAFT_H
#define STROBE_INFER_DRAFT_H

#include "engine/infer/gen.h"

#include <stdint.h>

enum { DRAFT_MAX = 16, DRAFT_TABLE = 32 };

/* Up to max (<= DRAFT_MAX) tokens that may follow token[0..n); returns how many. */
uint32_t draft_lookup(const int32_t *token, uint32_t n, uint32_t max, int32_t out[DRAFT_MAX]);

/* Times. A pass's by its number of tokens: the mean of what was measured for that number, and where
 * little was, a line through all passes (decayed least squares). Where weights are streamed whole
 * the time hardly grows; neuron by neuron it grows with the union of what the tokens need, less and
 * less per token; in memory it grows by about as much per token. */
struct draft_mean {
    double w, t; /* decayed number, and sum of seconds */
};
struct draft_costs {
    double w, n, t, nn, nt;                  /* of the line */
    struct draft_mean pass[DRAFT_TABLE + 1]; /* by tokens */
    struct draft_mean step[DRAFT_SOURCES];   /* of one guess */
    /* Assumed until measured: what one more token, and one guess, take of a pass of one. */
    double token_share, step_share[DRAFT_SOURCES];
};
void draft_costs_init(struct draft_costs *c, double token_share);
void draft_costs_add(struct draft_costs *c, uint32_t n_tok, double seconds);
/* n_step guesses of one sequence, or of several at the same time, took so long. */
void draft_costs_add_steps(struct draft_costs *c, enum draft_source source, uint32_t n_step,
                           double seconds);
/* Seconds; before the first pass was measured, in units of its constant part. */
double draft_costs_pass(const struct draft_costs *c, uint32_t n_tok);
double draft_costs_step(const struct draft_costs *c, enum draft_source source);

/* How well guesses of one source did, by position: of those whose predecessors were all right (the
 * others were never judged), the share that was right too. Decayed. */
struct draft_luck {
    double tried[DRAFT_MAX], right[DRAFT_MAX];
    double prior; /* what is assumed of guesses never judged */
};
void draft_luck_init(struct draft_luck *l, double prior);
/* drafted 0: nothing was guessed, and what is known fades. */
void draft_luck_add(struct draft_luck *l, uint32_t drafted, uint32_t accepted);
double draft_luck_mean(const struct draft_luck *l);             /* over all positions */
double draft_luck_at(const struct draft_luck *l, uint32_t pos); /* pos < DRAFT_MAX */
bool draft_luck_known(const struct draft_luck *l);              /* more than the prior speaks */

/* The number of guesses, 0..max, that makes tokens per second highest: with acceptance a_i at
 * position i a sequence gets 1 + a_1 + a_1 a_2 + ... tokens out of a pass; with one a that is
 * (1 - a^(k+1)) / (1 - a) (flash.md 2.4). */
struct draft_ask {
    const struct draft_costs *costs;
    const struct draft_luck *luck;
    enum draft_source source;
    uint32_t others; /* tokens of the pass besides the sequence's own */
    double yield;    /* tokens that other sequences are expected to get out of it */
    uint32_t max;    /* at most DRAFT_MAX */
};
struct draft_choice {
    uint32_t n;
    double tokens; /* the sequence's expected tokens */
    double rate;   /* all sequences' expected tokens per second */
};
struct draft_choice draft_choose(const struct draft_ask *q);

#endif
