/* server/cli_duo_findings.h - what a replication measures of the paper's findings, seed by seed,
 * with intervals over seeds and over tokens, and the verdicts (training.md 1.5 and 1.7). */
#ifndef STROBE_SERVER_CLI_DUO_FINDINGS_H
#define STROBE_SERVER_CLI_DUO_FINDINGS_H

#include "engine/duo/figures.h"
#include "engine/duo/search.h"
#include "server/cli_duo.h"

enum { SEEDS_MAX = 16, TEXTS = 2, RESAMPLED = 200, CLASSES_MAX = 16 };

struct arm_score {
    double big, small, mixed; /* nats: all big, all small, a coin for each token and layer */
};
struct class_seen {
    double tokens, small;          /* share of all tokens; mean loss of all small */
    double by_oracle, by_big;      /* share of its tokens that compute solves */
    double irreducible, high_loss; /* shares of its tokens */
};
/* Of one text and seed. */
struct seen {
    double all_big, all_small, oracle1, oracle_mid, oracle_best, fixed_mid, router_mid, placebo_mid;
    double nml1, nml_mid, nml_best, mixture_best;
    double oracle_argmin, fixed_argmin, fixed_gain;      /* all big minus best fixed, at its best */
    double shrink, grow, shrink_expected, grow_expected; /* minus constant */
    double centre[3], router_centre[3]; /* of big layers, budgets a third, half, two thirds: -0.5
                                           (first) .. 0.5 */
    double early, late;                 /* router's share of big layers, first and last eighth */
    double skip_most, skip_least;       /* by layer, big-or-skip oracle with half of them skipped */
    double skip_centre;                 /* where the three-way router skips; NaN: none */
    double irreducible;                 /* share of high-loss tokens */
    struct class_seen class[CLASSES_MAX];
    double rank;
    /* From the searches, not by token: */
    double sub_argmin, committed, seq_gain, regret_surrogate, regret_greedy;
    /* Networks on held-out text, by seed only: */
    struct arm_score joint, dense, frozen;
};
struct findings {
    uint64_t n_seed;
    int n_text;
    struct seen seen[TEXTS][SEEDS_MAX];
    struct seen *drawn[TEXTS][SEEDS_MAX]; /* [RESAMPLED] the same from resampled sequences */
    uint32_t n_layer, n_class;
    char classes[CLASSES_MAX][16];
};
void findings_clear(struct findings *f);
void findings_score(const struct duo_pass *p, struct arm_score *to, struct err *err);
struct findings_in {
    const struct duo_trace *two;   /* big or small, with controls */
    const struct duo_trace *skip;  /* big or skip */
    const struct duo_trace *three; /* with a router of three choices; NULL: none */
    struct arm_score joint, dense, frozen;
};
void findings_add(struct findings *f, uint64_t seed, int text, const struct findings_in *in,
                  struct err *err);

/* ---- what is said about a number ---- */
typedef double value_fn(const struct seen *s);
struct spread {
    double mean;
    double seeds_low, seeds_high;   /* 95 %, Student's t over seeds; NaN with one */
    double tokens_low, tokens_high; /* 95 %, sequences resampled; NaN: not by token */
    double least, most;             /* of the seeds */
};
struct spread findings_spread(const struct findings *f, int text, value_fn *v);
void findings_write(const struct findings *f, struct buf *out);

#endif
