/* eval/stat/exact.h - original against generated, stratified by template (reference 5.9.4): the
 * conditional exact test and the Mantel-Haenszel odds ratio. One original and n generated answers
 * per template; given the number s right among all n + 1, the original is right with chance
 * s/(n + 1) when it is one more draw from the template. Pure, any thread. */
#ifndef STROBE_EVAL_STAT_EXACT_H
#define STROBE_EVAL_STAT_EXACT_H

#include "eval/stat/cells.h"

struct exact_test {
    size_t n_template;    /* with a scored original and a scored generated answer */
    size_t n_informative; /* of these, with both right and wrong answers */
    uint32_t right;       /* originals right, T_obs */
    double expected, sd;  /* of it under the null */
    double p_two, p_mid;  /* outcomes no likelier than the observed; mid-p: those equally likely
                             count half */
    double p_greater, p_less;
};
/* original[t]: CELL_*. The law of T_obs is Poisson-binomial, convolved exactly. ST_NOMEM. */
enum status exact_original(const int8_t *original, const struct tally *generated, size_t n,
                           struct exact_test *ret, struct err *err);
/* The same where each question was asked `repeats` times: original[t] of its answers are right, and
 * generated[t * n_set + i] of the i-th question's, -1 where not all of them are scored. One more
 * draw from the template: the original's number is any of the n + 1 alike; their sum's law is
 * convolved exactly. right, expected and sd are in answers. ST_NOMEM. */
struct repeated {
    const int32_t *original, *generated;
    size_t n, n_set;
    uint32_t repeats;
};
enum status exact_repeated(const struct repeated *v, struct exact_test *ret, struct err *err);
/* Do questions from `from` to `to` have more right answers than such a choice of all n has by
 * chance? right[i]: of a question's `repeats` answers, -1: not all are scored, it does not count. p
 * is over all ways to choose as many questions, outcomes no likelier than the observed: of one
 * answer each it is Fisher's. Where counting them costs much (PART_COST_MAX), by the normal law
 * with the exact variance. NaN where there is no choice. ST_NOMEM. */
enum { PART_COST_MAX = 1 << 20 };
enum status exact_part(const int32_t *right, size_t n, size_t from, size_t to, uint32_t repeats,
                       double *p, struct err *err);
/* p[0..n] of the number of successes of n trials with the chances q. */
void poisson_binomial(const double *q, size_t n, double *p);

struct odds_ratio {
    double value, log_se; /* NaN when a margin is empty */
    struct interval ci;   /* Robins, Breslow, Greenland 1986; of shares, see below */
};
/* Odds of a right original over odds of a right generated answer, by template. Of questions that
 * were asked more than once (tally.many) the shares that are right and wrong stand in the tables,
 * and the error is the templates': sum of (R_t - odds S_t)^2 n/(n - 1), with Student's t of n - 1.
 */
struct odds_ratio mantel_haenszel(const struct tally *original, const struct tally *generated,
                                  size_t n, double level);
/* The unpaired comparison that the paper's readers make, for contrast: Fisher's exact p of two
 * proportions. */
double fisher_two_sided(uint32_t k1, uint32_t n1, uint32_t k2, uint32_t n2);
/* Exact McNemar: b and c are the discordant pairs. */
double mcnemar_exact(uint32_t b, uint32_t c);

#endif
