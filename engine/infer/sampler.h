/* engine/infer/sampler.h - turns one row of logits into a token. Order of operations:
 *   1. logit bias is added, banned tokens are taken out;
 *   2. repetition penalty over the last repeat_last_n tokens of prompt and text (a positive logit
 * is divided, a negative one multiplied, once per distinct token);
 *   3. presence and frequency penalties over the generated text;
 *   4. temperature 0: the largest logit, the smaller id on ties; done;
 *   5. top-k, then top-p, then min-p, all on the distribution at temperature 1;
 *   6. temperature, and one draw by a number that depends on (seed, position) only, so that a
 *      request gets the same tokens whatever else runs.
 * Log-probabilities are of the raw row, before any of this. A struct sampler is scratch memory for
 * one vocabulary: calls allocate nothing. Owner: one thread. */
#ifndef STROBE_INFER_SAMPLER_H
#define STROBE_INFER_SAMPLER_H

#include "engine/infer/gen.h"

struct sampler; /* opaque */

size_t sampler_bytes(uint32_t n_vocab); /* 0: does not fit size_t */
/* n_vocab 1..2^30. Errors: ST_RANGE, ST_NOMEM. Free with sampler_free(). */
enum status sampler_create(uint32_t n_vocab, struct sampler **ret, struct err *err);
void sampler_free(struct sampler *s);

struct sampler_row {
    const float *logits;  /* f32 [n_vocab], borrowed, not changed */
    const int32_t *token; /* the sequence so far: prompt, then generated; each < n_vocab */
    uint32_t n_prompt, n_token;
    const int32_t *banned; /* tokens that must not come (end tokens under ignore_eos) */
    size_t n_banned;
};
/* The next token, at position row->n_token of the sequence. p has passed gen_params_check(). -1: no
 * logit is a usable number (every one NaN, -inf or banned). */
int32_t sampler_pick(struct sampler *s, const struct gen_params *p, const struct sampler_row *row);

/* The n_top (<= GEN_LOGPROBS_MAX, <= n_vocab) most likely tokens, the smaller id first on ties; lse
 * is log(sum(exp(logits))). Returns how many were written. */
size_t sampler_top(const float *logits, uint32_t n_vocab, double lse, size_t n_top,
                   struct gen_logprob *out);

#endif
