/* eval/stat/paired.c - see paired.h. */
#include "eval/stat/paired.h"

#include "engine/base/rng.h"
#include "eval/stat/dist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 10000, TREND_DRAWS = 20000, WILCOXON_EXACT = 50 };

struct ranked {
    double size; /* |d| */
    bool up;
};

static int by_size(const void *a, const void *b)
{
    double x = ((const struct ranked *)a)->size, y = ((const struct ranked *)b)->size;
    return (x > y) - (x < y);
}

/* Rates are quotients of counts: differences an ulp apart are equal. */
static bool same(double a, double b)
{
    return fabs(a - b) < 1e-12;
}

/* P(V <= v) and P(V >= v) of n untied ranks. ways: n (n + 1) / 2 + 1 numbers. */
static double exact_signed(double *ways, size_t n, double v)
{
    size_t top = n * (n + 1) / 2;
    memset(ways, 0, (top + 1) * sizeof *ways);
    ways[0] = 1;
    for (size_t r = 1; r <= n; r++)
        for (size_t s = top + 1; s-- > r;)
            ways[s] += ways[s - r];
    double low = 0, high = 0, scale = pow(0.5, (double)n);
    for (size_t s = 0; s <= top; s++) {
        low += (double)s <= v ? ways[s] * scale : 0;
        high += (double)s >= v ? ways[s] * scale : 0;
    }
    return fmin(1, 2 * fmin(low, high));
}

/* Sum of the ranks of positive differences; *tied: sum of t^3 - t over groups. */
static double rank_sum(const struct ranked *r, size_t n, double *tied)
{
    double v = 0;
    *tied = 0;
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && same(r[j].size, r[i].size);)
            j++;
        double rank = ((double)i + 1 + (double)j) / 2, g = (double)(j - i);
        *tied += g * g * g - g;
        for (size_t k = i; k < j; k++)
            v += r[k].up ? rank : 0;
    }
    return v;
}

double wilcoxon_signed(const double *d, size_t n, double *v, bool *exact, struct err *err)
{
    struct ranked *r = malloc((n + 1) * sizeof *r);
    double *ways = malloc((WILCOXON_EXACT * (WILCOXON_EXACT + 1) / 2 + 1) * sizeof *ways), tied, p;
    size_t m = 0;
    if (!r || !ways) {
        err_set(err, ST_NOMEM, "signed ranks of %zu differences", n);
        free(r);
        free(ways);
        return (double)NAN;
    }
    for (size_t i = 0; i < n; i++)
        if (!same(d[i], 0))
            r[m++] = (struct ranked){ fabs(d[i]), d[i] > 0 };
    qsort(r, m, sizeof *r, by_size);
    *v = rank_sum(r, m, &tied);
    *exact = m == n && m < WILCOXON_EXACT && tied == 0;
    double k = (double)m, mean = k * (k + 1) / 4;
    double sigma = sqrt(k * (k + 1) * (2 * k + 1) / 24 - tied / 48);
    if (m == 0)
        p = 1;
    else if (*exact)
        p = exact_signed(ways, m, *v);
    else
        p = fmin(1, dist_norm_two_sided(fmax(0, fabs(*v - mean) - 0.5) / sigma));
    free(r);
    free(ways);
    return p;
}

/* All flips in Gray-code order: each differs from the last in one sign. */
static double all_flips(const double *d, size_t n, double at)
{
    double sum = 0;
    uint64_t hits = 0, end = (uint64_t)1 << n, signs = 0;
    for (size_t i = 0; i < n; i++)
        sum += d[i];
    for (uint64_t g = 0; g < end; g++) {
        if (g) {
            int bit = __builtin_ctzll(g);
            signs ^= (uint64_t)1 << bit;
            sum += signs >> bit & 1 ? -2 * d[bit] : 2 * d[bit];
        }
        hits += fabs(sum) >= at - 1e-9;
    }
    return (double)hits / (double)end;
}

double sign_flip(const double *d, size_t n, uint64_t seed, bool *exact)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += d[i];
    *exact = n <= SIGNFLIP_EXACT_MAX;
    if (*exact)
        return all_flips(d, n, fabs(sum));
    struct rng r = { seed };
    uint64_t hits = 1;
    for (int draw = 0; draw < SIGNFLIP_DRAWS; draw++) {
        double s = 0;
        uint64_t bits = 0;
        for (size_t i = 0; i < n; i++) {
            if (i % 64 == 0)
                bits = rng_u64(&r);
            s += bits >> i % 64 & 1 ? d[i] : -d[i];
        }
        hits += fabs(s) >= fabs(sum) - 1e-9;
    }
    return (double)hits / (SIGNFLIP_DRAWS + 1.0);
}

static void student(struct paired *r, const double *d, double level)
{
    r->mean = stat_mean(d, r->n);
    r->sd = sqrt(stat_variance(d, r->n));
    r->se = r->sd / sqrt((double)r->n);
    double df = (double)r->n - 1, half = r->se * dist_t_quantile(0.5 + level / 2, df);
    r->t_ci = (struct interval){ r->mean - half, r->mean + half };
    r->t = r->se > 0 ? r->mean / r->se : (double)NAN;
    r->p_t = dist_t_two_sided(r->t, df);
}

static void nothing(struct paired *r)
{
    const double nan = (double)NAN;
    const struct interval none = { nan, nan };
    r->mean = r->sd = r->se = r->t = r->p_t = r->w = r->p_wilcoxon = r->p_flip = nan;
    r->t_ci = r->bootstrap = none;
}

enum status paired_compare(const struct tally *a, const struct tally *b, size_t n,
                           struct paired_opts o, struct paired *ret, struct err *err)
{
    double *d = malloc((n + 1) * sizeof *d);
    struct paired r = { 0 };
    enum status st = ST_OK;
    if (!d)
        return err_set(err, ST_NOMEM, "paired comparison of %zu templates", n);
    for (size_t t = 0; t < n; t++)
        if (a[t].n && b[t].n)
            d[r.n++] = tally_rate(a[t]) - tally_rate(b[t]);
    if (r.n < 2) {
        nothing(&r);
        goto done;
    }
    student(&r, d, o.level);
    r.p_wilcoxon = wilcoxon_signed(d, r.n, &r.w, &r.wilcoxon_exact, err);
    r.p_flip = sign_flip(d, r.n, o.seed, &r.flip_exact);
    st = err->code == ST_OK
             ? interval_bootstrap(d, r.n, o.level, RESAMPLES, o.seed, &r.bootstrap, err)
             : err->code;
done:
    free(d);
    if (st == ST_OK)
        *ret = r;
    return st;
}

struct equivalence equivalence_test(const struct paired *d, double margin, double alpha)
{
    struct equivalence e = { margin, (double)NAN, { (double)NAN, (double)NAN }, false };
    if (d->n < 2)
        return e;
    double df = (double)d->n - 1, half = d->se * dist_t_quantile(1 - alpha, df);
    e.ci = (struct interval){ d->mean - half, d->mean + half };
    if (d->se > 0) {
        double above = 1 - dist_t_cdf((d->mean + margin) / d->se, df);
        double below = dist_t_cdf((d->mean - margin) / d->se, df);
        e.p = fmax(above, below);
    } else {
        e.p = fabs(d->mean) < margin ? 0 : 1;
    }
    e.shown = e.p < alpha;
    return e;
}

/* ---- trend ---- */

static double slope_of(const double *y, const double *level, size_t n, double mid, double spread)
{
    double s = 0;
    for (size_t l = 0; l < n; l++)
        s += (level[l] - mid) * y[l];
    return s / spread;
}

static void shuffle(double *y, size_t n, struct rng *r)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = rng_below(r, i);
        double x = y[i - 1];
        y[i - 1] = y[j];
        y[j] = x;
    }
}

/* Rows with every level moved to the front; how many. */
static size_t complete_rows(const double *rate, size_t n, size_t n_level, double *out)
{
    size_t m = 0;
    for (size_t t = 0; t < n; t++) {
        bool whole = true;
        for (size_t l = 0; l < n_level; l++)
            whole &= !isnan(rate[t * n_level + l]);
        if (whole)
            memcpy(out + m++ * n_level, rate + t * n_level, n_level * sizeof *out);
    }
    return m;
}

enum status trend_fit(const double *rate, size_t n, const double *level, size_t n_level,
                      struct paired_opts o, struct trend *ret, struct err *err)
{
    double *y = malloc((n * n_level + n + 1) * sizeof *y), *slope = y + n * n_level;
    double mid = stat_mean(level, n_level), spread = 0;
    const double nan = (double)NAN;
    struct trend r = { 0, nan, nan, nan, nan, { nan, nan }, nan };
    if (!y)
        return err_set(err, ST_NOMEM, "trend over %zu templates", n);
    r.n = complete_rows(rate, n, n_level, y);
    for (size_t l = 0; l < n_level; l++)
        spread += (level[l] - mid) * (level[l] - mid);
    if (r.n >= 2 && spread > 0) {
        for (size_t t = 0; t < r.n; t++)
            slope[t] = slope_of(y + t * n_level, level, n_level, mid, spread);
        struct paired d = { .n = r.n };
        student(&d, slope, o.level);
        r.slope = d.mean;
        r.se = d.se;
        r.t = d.t;
        r.p_t = d.p_t;
        r.ci = d.t_ci;
        struct rng g = { o.seed };
        uint64_t hits = 1;
        for (int draw = 0; draw < TREND_DRAWS; draw++) {
            double sum = 0;
            for (size_t t = 0; t < r.n; t++) {
                shuffle(y + t * n_level, n_level, &g);
                sum += slope_of(y + t * n_level, level, n_level, mid, spread);
            }
            hits += fabs(sum) >= fabs(r.slope) * (double)r.n - 1e-9;
        }
        r.p_permutation = (double)hits / (TREND_DRAWS + 1.0);
    }
    free(y);
    *ret = r;
    return ST_OK;
}
