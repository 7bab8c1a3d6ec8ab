/* eval/stat/cells.c - summaries of a table of right and wrong answers. */
#include "eval/stat/cells.h"

#include "engine/base/rng.h"
#include "eval/stat/dist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void count(struct cells c, size_t at, struct tally *t)
{
    int8_t x = c.x[at];
    t->n += x >= 0;
    t->k += x == CELL_RIGHT;
    if (c.share && x >= 0) {
        t->sum += c.share[at];
        t->square += c.share[at] * c.share[at];
    }
}

void cells_tallies(struct cells c, struct tally *ret)
{
    for (size_t t = 0; t < c.n_template; t++) {
        ret[t] = (struct tally){ .many = c.share != NULL };
        for (size_t i = 0; i < c.n_set; i++)
            count(c, t * c.n_set + i, &ret[t]);
    }
}

struct tally cells_total(struct cells c)
{
    struct tally all = { .many = c.share != NULL };
    for (size_t i = 0; i < c.n_template * c.n_set; i++)
        count(c, i, &all);
    return all;
}

double stat_mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : (double)NAN;
}

double stat_variance(const double *x, size_t n)
{
    double mean = stat_mean(x, n), sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return n < 2 ? 0 : sum / (double)(n - 1);
}

double stat_quantile(const double *sorted, size_t n, double p)
{
    double at = (double)(n - 1) * p;
    size_t i = (size_t)at;
    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double set_accuracy(struct cells c, size_t i)
{
    struct tally s = { .many = c.share != NULL };
    for (size_t t = 0; t < c.n_template; t++)
        count(c, t * c.n_set + i, &s);
    return s.n ? tally_rate(s) : (double)NAN;
}

enum status cells_sets(struct cells c, double *accuracy, struct set_summary *ret, struct err *err)
{
    double *v = malloc((c.n_set + 1) * sizeof *v);
    size_t n = 0;
    if (!v)
        return err_set(err, ST_NOMEM, "accuracies of %zu sets", c.n_set);
    for (size_t i = 0; i < c.n_set; i++) {
        accuracy[i] = set_accuracy(c, i);
        if (!isnan(accuracy[i]))
            v[n++] = accuracy[i];
    }
    const double none = (double)NAN;
    *ret = (struct set_summary){ n, none, none, none, none, none, none, none, none, none };
    if (n) {
        ret->mean = stat_mean(v, n);
        ret->sd = sqrt(stat_variance(v, n));
        qsort(v, n, sizeof *v, by_value);
        ret->min = v[0];
        ret->max = v[n - 1];
        ret->q05 = stat_quantile(v, n, 0.05);
        ret->q25 = stat_quantile(v, n, 0.25);
        ret->q50 = stat_quantile(v, n, 0.5);
        ret->q75 = stat_quantile(v, n, 0.75);
        ret->q95 = stat_quantile(v, n, 0.95);
    }
    free(v);
    return ST_OK;
}

struct set_rank set_rank(double original, const double *accuracy, size_t n_set)
{
    double above = 0, equal = 0, m = 0, sum = 0, square = 0;
    for (size_t i = 0; i < n_set; i++) {
        if (isnan(accuracy[i]))
            continue;
        m++;
        /* Accuracies are counts over a common number; an ulp apart is equal. */
        if (fabs(accuracy[i] - original) < 1e-12)
            equal++;
        else
            above += accuracy[i] > original;
        sum += accuracy[i];
    }
    double mean = sum / m;
    for (size_t i = 0; i < n_set; i++)
        if (!isnan(accuracy[i]))
            square += (accuracy[i] - mean) * (accuracy[i] - mean);
    double sd = m > 1 ? sqrt(square / (m - 1)) : 0;
    return (struct set_rank){
        .p_upper = (1 + above + equal) / (m + 1),
        .p_mid = (0.5 + above + 0.5 * equal) / (m + 1),
        .z = sd > 0 ? (original - mean) / (sd * sqrt(1 + 1 / m)) : (double)NAN,
    };
}

/* n/(n-1) p (1-p), the unbiased variance of one answer; 0 when n < 2. Of shares it is their
 * variance over the template's questions: it holds what answers to one question differ, divided by
 * their number, and what questions differ. */
static double answer_variance(struct tally t)
{
    double p = tally_rate(t);
    if (t.many)
        return t.n < 2 ? 0 : fmax(0, t.square - t.sum * p) / (t.n - 1.0);
    return t.n < 2 ? 0 : p * (1 - p) * t.n / (t.n - 1.0);
}

/* The sets against what fixed templates let expect; only of a complete table. */
static void spread(struct cells c, struct decomposition *d)
{
    double sum = 0, var = d->within / (double)d->n_template;
    d->p_spread = (double)NAN;
    for (size_t i = 0; i < c.n_set; i++) {
        double a = set_accuracy(c, i) - d->mean;
        sum += a * a;
    }
    if (cells_total(c).n != c.n_template * c.n_set || c.n_set < 2 || !(var > 0))
        return;
    d->chi2 = sum / var;
    d->df = (double)c.n_set - 1;
    double upper = dist_chi2_sf(d->chi2, d->df), p = 2 * (upper < 0.5 ? upper : 1 - upper);
    d->p_spread = p < 1 ? p : 1;
}

void decompose(struct cells c, const struct tally *t, struct decomposition *ret)
{
    double n = 0, sum = 0, square = 0, w = 0, noise = 0;
    for (size_t i = 0; i < c.n_template; i++) {
        if (t[i].n < 2)
            continue;
        n++;
        sum += tally_rate(t[i]);
        w += answer_variance(t[i]);
        noise += answer_variance(t[i]) / t[i].n;
    }
    *ret = (struct decomposition){ .n_template = (size_t)n,
                                   .p_spread = (double)NAN,
                                   .many = c.share != NULL };
    if (n < 1)
        return;
    ret->mean = sum / n;
    for (size_t i = 0; i < c.n_template; i++)
        if (t[i].n >= 2)
            square += (tally_rate(t[i]) - ret->mean) * (tally_rate(t[i]) - ret->mean);
    ret->var_rate = n > 1 ? square / (n - 1) : 0;
    ret->within = w / n;
    ret->between = ret->var_rate - noise / n;
    double b = ret->between > 0 ? ret->between : 0;
    ret->icc = b + ret->within > 0 ? b / (b + ret->within) : 0;
    ret->set_sd = sqrt(ret->within / n);
    spread(c, ret);
}

static double rates(const struct tally *t, size_t n, double *count, double *square)
{
    double sum = 0, m = 0;
    for (size_t i = 0; i < n; i++)
        if (t[i].n) {
            sum += tally_rate(t[i]);
            m++;
        }
    double mean = m > 0 ? sum / m : 0;
    *square = 0;
    for (size_t i = 0; i < n; i++)
        if (t[i].n)
            *square += (tally_rate(t[i]) - mean) * (tally_rate(t[i]) - mean);
    *count = m;
    return mean;
}

static struct interval around(double mean, double half)
{
    return (struct interval){ mean - half, mean + half };
}

struct interval interval_fixed(const struct tally *t, size_t n, double level, double *se)
{
    double m, square, mean = rates(t, n, &m, &square), var = 0;
    for (size_t i = 0; i < n; i++)
        if (t[i].n)
            var += answer_variance(t[i]) / t[i].n;
    *se = m > 0 ? sqrt(var) / m : 0;
    return around(mean, *se * dist_norm_quantile(0.5 + level / 2));
}

struct interval interval_random(const struct tally *t, size_t n, double level, double *se)
{
    double m, square, mean = rates(t, n, &m, &square);
    if (m < 2) {
        *se = (double)NAN;
        return (struct interval){ (double)NAN, (double)NAN };
    }
    *se = sqrt(square / (m - 1) / m);
    return around(mean, *se * dist_t_quantile(0.5 + level / 2, m - 1));
}

struct interval interval_wilson(uint64_t k, uint64_t n, double level)
{
    if (n == 0)
        return (struct interval){ 0, 1 };
    return interval_wilson_mean((double)k / (double)n, (double)n, level);
}

struct interval interval_wilson_mean(double p, double m, double level)
{
    double z = dist_norm_quantile(0.5 + level / 2), zz = z * z;
    if (!(m > 0))
        return (struct interval){ 0, 1 };
    double middle = (p + zz / (2 * m)) / (1 + zz / m);
    double half = z / (1 + zz / m) * sqrt(p * (1 - p) / m + zz / (4 * m * m));
    struct interval v = around(middle, half);
    return (struct interval){ p <= 0 ? 0 : v.low, p >= 1 ? 1 : v.high };
}

struct interval interval_extreme(uint64_t k, uint64_t n, double level)
{
    double bound = n ? -expm1(log(1 - level) / (double)n) : 1;
    if (n && k == n)
        return (struct interval){ 1 - bound, 1 };
    return (struct interval){ 0, k == 0 ? bound : 1 };
}

/* ---- bootstrap ---- */

/* Acceleration of the mean from the jackknife: its skewness over 6. */
static double acceleration(const double *x, size_t n)
{
    double mean = stat_mean(x, n), two = 0, three = 0;
    for (size_t i = 0; i < n; i++) {
        double d = x[i] - mean; /* the jackknife's difference is d / (n - 1) */
        two += d * d;
        three += d * d * d;
    }
    return two > 0 ? three / (6 * pow(two, 1.5)) : 0;
}

static double resampled_mean(const double *x, size_t n, struct rng *r)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[rng_below(r, n)];
    return sum / (double)n;
}

/* The share of resamples that an ordinary end at z stands for, after correction. */
static double corrected(double z0, double a, double z)
{
    return dist_norm_cdf(z0 + (z0 + z) / (1 - a * (z0 + z)));
}

enum status interval_bootstrap(const double *x, size_t n, double level, uint32_t resamples,
                               uint64_t seed, struct interval *ret, struct err *err)
{
    if (n < 2 || resamples < 2)
        return err_set(err, ST_ARG, "bootstrap: %zu templates, %u resamples", n, resamples);
    double *b = malloc((size_t)resamples * sizeof *b), mean = stat_mean(x, n), below = 0;
    if (!b)
        return err_set(err, ST_NOMEM, "bootstrap of %u resamples", resamples);
    struct rng r = { seed };
    for (uint32_t i = 0; i < resamples; i++) {
        b[i] = resampled_mean(x, n, &r);
        /* Ties count half: means of rates lie on a grid. */
        below += b[i] < mean - 1e-12 ? 1 : b[i] <= mean + 1e-12 ? 0.5 : 0;
    }
    qsort(b, resamples, sizeof *b, by_value);
    double z0 = dist_norm_quantile(below / resamples), a = acceleration(x, n);
    double z = dist_norm_quantile(0.5 + level / 2);
    if (isinf(z0))
        z0 = 0;
    ret->low = stat_quantile(b, resamples, corrected(z0, a, -z));
    ret->high = stat_quantile(b, resamples, corrected(z0, a, z));
    free(b);
    return ST_OK;
}
