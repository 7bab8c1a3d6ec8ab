/* eval/stat/paired.h - two conditions on the same templates: model against model, variant against
 * variant (reference 5.9.5, 5.9.7, 5.9.10). The template is the unit: d_t = p_t(A) - p_t(B).
 * Pure, seeded, the same numbers on every machine. Any thread. */
#ifndef STROBE_EVAL_STAT_PAIRED_H
#define STROBE_EVAL_STAT_PAIRED_H

#include "eval/stat/cells.h"

enum { SIGNFLIP_EXACT_MAX = 20, SIGNFLIP_DRAWS = 100000 };

struct paired {
    size_t n;             /* templates with a scored answer in both */
    double mean, sd, se;  /* of d_t */
    struct interval t_ci; /* Student's t, n - 1 */
    double t, p_t;        /* NaN when sd is 0 */
    double w, p_wilcoxon; /* signed ranks: V as R has it; p exact without ties and below 50,
                             else normal with ties and continuity corrected */
    bool wilcoxon_exact;
    double p_flip; /* sign flips of d_t: exact, or 100,000 seeded draws */
    bool flip_exact;
    struct interval bootstrap; /* BCa over templates, 10,000 resamples */
};
struct paired_opts {
    double level;  /* of the intervals, e.g. 0.95 */
    uint64_t seed; /* of draws and resamples */
};
/* ST_NOMEM. Fewer than two common templates: n says so, the figures are NaN. */
enum status paired_compare(const struct tally *a, const struct tally *b, size_t n,
                           struct paired_opts o, struct paired *ret, struct err *err);

double wilcoxon_signed(const double *d, size_t n, double *v, bool *exact, struct err *err);
/* Two-sided p of the mean under all 2^n sign flips. */
double sign_flip(const double *d, size_t n, uint64_t seed, bool *exact);

/* Two one-sided tests: is the mean difference inside (-margin, margin)? */
struct equivalence {
    double margin, p;   /* the larger of the two */
    struct interval ci; /* level 1 - 2 alpha */
    bool shown;
};
struct equivalence equivalence_test(const struct paired *d, double margin, double alpha);

/* Slope of accuracy on level inside each template that has all levels (5.9.7). */
struct trend {
    size_t n; /* templates */
    double slope, se, t, p_t;
    struct interval ci;
    double p_permutation; /* levels shuffled inside templates, 20,000 seeded draws; two-sided */
};
/* rate[t * n_level + l], NaN: not there. level: increasing. ST_NOMEM. */
enum status trend_fit(const double *rate, size_t n, const double *level, size_t n_level,
                      struct paired_opts o, struct trend *ret, struct err *err);

#endif
