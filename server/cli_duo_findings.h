/* server/cli_duo_findings.h - what a replication measures of the paper's findings, seed by seed,
 * and the verdicts (training.md 1.5 and 1.7). */
#ifndef STROBE_SERVER_CLI_DUO_FINDINGS_H
#define STROBE_SERVER_CLI_DUO_FINDINGS_H

#include "engine/duo/figures.h"
#include "engine/duo/search.h"
#include "server/cli_duo.h"

enum { SEEDS_MAX = 16, TEXTS = 2 };

struct arm_score {
    double big, small, mixed; /* nats: all big, all small, a coin for each token and layer */
};
/* Of one trace. */
struct seen {
    double all_big, all_small, oracle1, oracle_mid, oracle_best, fixed_mid, router_mid, placebo_mid;
    double nml1, nml_mid, nml_best, mixture_best;
    uint32_t oracle_argmin, sub_argmin, fixed_argmin;
    double gap_low, gap_high;                  /* fixed - oracle at the middle, 95 % */
    double one_low, one_high;                  /* all big - oracle with one big layer */
    double shrink_low, shrink, grow_low, grow; /* minus constant */
    double shrink_expected, grow_expected;
    double centre[3],
        router_centre;  /* of big layers, budgets a third, half, two thirds: -0.5 (first) .. 0.5 */
    double early, late; /* router's share of big layers, first and last eighth */
    double skip_most, skip_least; /* by layer, three-way oracle at the middle */
    double router_skip_late;
    double irreducible, solvable; /* shares of high-loss tokens */
    double class_solvable[16];
    double committed, committed_big;
    double seq_sum; /* one route for each sequence, with its side information */
    double regret_surrogate, regret_greedy, rank;
};
struct findings {
    uint64_t n_seed;
    int n_text;
    struct seen seen[TEXTS][SEEDS_MAX];
    struct arm_score joint[SEEDS_MAX], dense[SEEDS_MAX], frozen[SEEDS_MAX];
    uint32_t n_layer, n_class;
    char classes[16][16];
};
void findings_score(const struct duo_pass *p, struct arm_score *to, struct err *err);
/* three: a trace with skipping. */
void findings_add(struct findings *f, uint64_t seed, int text, const struct duo_trace *two,
                  const struct duo_trace *three, struct err *err);
void findings_write(const struct findings *f, struct buf *out);

#endif
