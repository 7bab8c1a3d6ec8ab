/* tests/unit/evalstat/test_calibration.c - how often the tests of eval/stat reject: at their level
 * when nothing is there, and more often than an unpaired comparison when something is. Seeded, so
 * the counts are the same everywhere; the bounds are those of the issue (3.5 to 6.5 % of 2,000). */
#include "engine/base/rng.h"
#include "eval/stat/dist.h"
#include "eval/stat/exact.h"
#include "eval/stat/multi.h"
#include "eval/stat/paired.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

enum { T = 100, M = 50, SIMULATIONS = 2000 };

struct world {
    double mean, sd, shift; /* logits of templates; of the originals on top */
};

static double normal(struct rng *r)
{
    return dist_norm_quantile(rng_f64(r) * (1 - 1e-12) + 5e-13);
}

static uint32_t draws(struct rng *r, double p, uint32_t n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++)
        k += rng_f64(r) < p;
    return k;
}

static void one(struct rng *r, struct world w, int8_t *orig, struct tally *gen)
{
    for (int t = 0; t < T; t++) {
        double logit = w.mean + w.sd * normal(r);
        orig[t] = rng_f64(r) < 1 / (1 + exp(-logit - w.shift));
        gen[t] = (struct tally){ M, draws(r, 1 / (1 + exp(-logit)), M) };
    }
}

struct rejections {
    double mid, exact, unpaired; /* shares at 5 % */
};

static struct rejections simulate(struct world w, int n, uint64_t seed)
{
    struct rejections c = { 0 };
    struct rng r = { seed };
    for (int i = 0; i < n; i++) {
        struct err err = ERR_INIT;
        int8_t orig[T];
        struct tally gen[T];
        struct exact_test x;
        uint32_t k = 0;
        one(&r, w, orig, gen);
        cr_assert_eq(exact_original(orig, gen, T, &x, &err), ST_OK);
        for (int t = 0; t < T; t++)
            k += gen[t].k;
        c.mid += x.p_mid <= 0.05;
        c.exact += x.p_two <= 0.05;
        c.unpaired += fisher_two_sided(x.right, T, k, T * M) <= 0.05;
    }
    return (struct rejections){ c.mid / n, c.exact / n, c.unpaired / n };
}

static const struct world worlds[] = { { 2.5, 2.5, 0 }, { 0, 3, 0 }, { 3.5, 2.2, 0 } };

/* Each holds its level in every world: the exact p and mid-p. */
Test(evalcalibration, the_stratified_test_rejects_as_often_as_it_says)
{
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++) {
        struct rejections c = simulate(worlds[i], SIMULATIONS, 100 + i);
        printf("world %zu: mid-p %.4f, exact %.4f, unpaired %.4f\n", i, c.mid, c.exact, c.unpaired);
        cr_expect(c.mid >= 0.035 && c.mid <= 0.065, "world %zu: mid-p rejects %.4f", i, c.mid);
        cr_expect(c.exact >= 0.035 && c.exact <= 0.065, "world %zu: exact rejects %.4f", i,
                  c.exact);
        cr_expect(c.unpaired < c.mid, "world %zu: unpaired rejects %.4f", i, c.unpaired);
    }
}

/* Power of the dossier's simulations (2.5), shift 0.8; those had 400 replicates: within 0.09. */
Test(evalcalibration, the_stratified_test_sees_more_than_an_unpaired_one)
{
    const double stratified[] = { .58, .70, .38 }, unpaired[] = { .34, .40, .22 };
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++) {
        struct world w = worlds[i];
        w.shift = 0.8;
        struct rejections c = simulate(w, 500, 200 + i);
        printf("world %zu, shift 0.8: mid-p %.3f, exact %.3f, unpaired %.3f\n", i, c.mid, c.exact,
               c.unpaired);
        cr_expect(c.mid > c.unpaired + 0.1, "world %zu", i);
        cr_expect(fabs(c.mid - stratified[i]) < 0.09, "world %zu: %.3f", i, c.mid);
        cr_expect(fabs(c.unpaired - unpaired[i]) < 0.09, "world %zu: %.3f", i, c.unpaired);
    }
}

/* Two variants of 10 instances, no difference: t and sign flips hold their level. */
Test(evalcalibration, paired_contrasts_hold_their_level)
{
    struct rng r = { 300 };
    int t_hits = 0, covered = 0;
    for (int i = 0; i < SIMULATIONS; i++) {
        double d[T], sum = 0;
        for (int t = 0; t < T; t++) {
            double p = 1 / (1 + exp(-1.5 - 2 * normal(&r)));
            d[t] = (draws(&r, p, 10) - (double)draws(&r, p, 10)) / 10;
            sum += d[t];
        }
        double se = sqrt(stat_variance(d, T) / T), z = sum / T / se;
        t_hits += dist_t_two_sided(z, T - 1) <= 0.05;
        covered += fabs(sum / T) <= se * dist_t_quantile(0.975, T - 1);
    }
    printf("paired t: %.4f\n", (double)t_hits / SIMULATIONS);
    cr_expect(t_hits >= 70 && t_hits <= 130, "%d of 2,000", t_hits);
    cr_expect_eq(covered + t_hits, SIMULATIONS);
}

/* The interval for fixed templates covers their own rates, that for random ones the population's.
 */
Test(evalcalibration, intervals_cover_what_they_claim)
{
    struct rng r = { 400 };
    int fixed = 0, random = 0;
    double population = 0;
    for (int i = 0; i < 20000; i++)
        population += 1 / (1 + exp(-1.5 - 2 * normal(&r))) / 20000;
    for (int i = 0; i < SIMULATIONS; i++) {
        struct tally t[T];
        double truth = 0, se;
        for (int j = 0; j < T; j++) {
            double p = 1 / (1 + exp(-1.5 - 2 * normal(&r)));
            truth += p / T;
            t[j] = (struct tally){ 10, draws(&r, p, 10) };
        }
        struct interval f = interval_fixed(t, T, 0.95, &se), p = interval_random(t, T, 0.95, &se);
        fixed += f.low <= truth && truth <= f.high;
        random += p.low <= population && population <= p.high;
    }
    printf("coverage: fixed %.4f, random %.4f\n", fixed / 2000.0, random / 2000.0);
    cr_expect(fixed >= 1870 && fixed <= 1930, "fixed %d of 2,000", fixed);
    cr_expect(random >= 1870 && random <= 1930, "random %d of 2,000", random);
}
