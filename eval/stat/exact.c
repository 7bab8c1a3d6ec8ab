/* eval/stat/exact.c - see exact.h. */
#include "eval/stat/exact.h"

#include "eval/stat/dist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void poisson_binomial(const double *q, size_t n, double *p)
{
    memset(p, 0, (n + 1) * sizeof *p);
    p[0] = 1;
    for (size_t t = 0; t < n; t++) {
        for (size_t k = t + 1; k > 0; k--)
            p[k] = p[k] * (1 - q[t]) + p[k - 1] * q[t];
        p[0] *= 1 - q[t];
    }
}

/* Chances are sums of rounded products: those that are equal on paper differ in the last bits. */
static bool likelier(double p, double at)
{
    return p > at * (1 + 1e-9);
}

static void tails(const double *p, size_t n, size_t at, struct exact_test *ret)
{
    double two = 0, equal = 0, up = 0, down = 0;
    for (size_t k = 0; k <= n; k++) {
        if (!likelier(p[k], p[at]))
            two += p[k];
        if (!likelier(p[k], p[at]) && !likelier(p[at], p[k]))
            equal += p[k];
        up += k >= at ? p[k] : 0;
        down += k <= at ? p[k] : 0;
    }
    ret->p_two = fmin(two, 1);
    ret->p_mid = fmin(two - 0.5 * equal, 1);
    ret->p_greater = fmin(up, 1);
    ret->p_less = fmin(down, 1);
}

enum status exact_original(const int8_t *original, const struct tally *generated, size_t n,
                           struct exact_test *ret, struct err *err)
{
    double *q = calloc(2 * n + 2, sizeof *q), var = 0;
    struct exact_test r = { 0 };
    if (!q)
        return err_set(err, ST_NOMEM, "exact test of %zu templates", n);
    for (size_t t = 0; t < n; t++) {
        if (original[t] < 0 || generated[t].n == 0)
            continue;
        uint32_t s = generated[t].k + (original[t] == CELL_RIGHT);
        double chance = (double)s / (generated[t].n + 1.0);
        q[r.n_template++] = chance;
        r.right += original[t] == CELL_RIGHT;
        r.expected += chance;
        r.n_informative += s > 0 && s <= generated[t].n;
        var += chance * (1 - chance);
    }
    r.sd = sqrt(var);
    poisson_binomial(q, r.n_template, q + r.n_template);
    tails(q + r.n_template, r.n_template, r.right, &r);
    free(q);
    *ret = r;
    return ST_OK;
}

/* Counts of the values 0..R among one template's questions and its original; how many, or 0. */
static double spread_of(const struct repeated *v, size_t t, double *count)
{
    double n = 0;
    memset(count, 0, (v->repeats + 1) * sizeof *count);
    for (size_t i = 0; i < v->n_set; i++) {
        int32_t g = v->generated[t * v->n_set + i];
        if (g >= 0) {
            count[g]++;
            n++;
        }
    }
    if (n == 0 || v->original[t] < 0)
        return 0;
    count[v->original[t]]++;
    return n + 1;
}

/* p[0..top] of a sum, with one more of that spread in it. */
static void convolve(double *p, size_t top, const double *count, double n, uint32_t repeats)
{
    for (size_t k = top + repeats + 1; k-- > 0;) {
        double sum = 0;
        for (size_t j = 0; j <= repeats && j <= k; j++)
            sum += k - j <= top ? p[k - j] * count[j] : 0;
        p[k] = sum / n;
    }
}

enum status exact_repeated(const struct repeated *v, struct exact_test *ret, struct err *err)
{
    size_t most = v->n * v->repeats, top = 0;
    double *p = calloc(most + v->repeats + 2, sizeof *p), *count = p ? p + most + 1 : NULL, var = 0;
    struct exact_test r = { 0 };
    if (!p)
        return err_set(err, ST_NOMEM, "exact test of %zu templates", v->n);
    p[0] = 1;
    for (size_t t = 0; t < v->n; t++) {
        double n = spread_of(v, t, count), mean = 0, square = 0;
        if (n == 0)
            continue;
        for (size_t j = 0; j <= v->repeats; j++) {
            mean += (double)j * count[j] / n;
            square += (double)(j * j) * count[j] / n;
        }
        convolve(p, top, count, n, v->repeats);
        top += v->repeats;
        r.n_template++;
        r.n_informative += square - mean * mean > 1e-12;
        r.right += (uint32_t)v->original[t];
        r.expected += mean;
        var += square - mean * mean;
    }
    r.sd = sqrt(fmax(0, var));
    tails(p, top, r.right, &r);
    free(p);
    *ret = r;
    return ST_OK;
}

/* One template's table. */
struct table {
    double r, s; /* a d / n, b c / n */
    double p, q; /* (a + d) / n, (b + c) / n */
};

/* false: no table. */
static bool table_of(struct tally original, struct tally generated, struct table *ret)
{
    if (original.n == 0 || generated.n == 0)
        return false;
    double a = tally_sum(original), b = original.n - a, c = tally_sum(generated),
           d = generated.n - c, total = a + b + c + d;
    *ret = (struct table){ a * d / total, b * c / total, (a + d) / total, (b + c) / total };
    return true;
}

struct odds_ratio mantel_haenszel(const struct tally *original, const struct tally *generated,
                                  size_t n, double level)
{
    double r = 0, s = 0, pr = 0, both = 0, qs = 0, square = 0, m = 0;
    bool many = false;
    struct table x;
    for (size_t t = 0; t < n; t++)
        if (table_of(original[t], generated[t], &x)) {
            r += x.r;
            s += x.s;
            pr += x.p * x.r;
            both += x.p * x.s + x.q * x.r;
            qs += x.q * x.s;
            m++;
            many |= original[t].many;
        }
    struct odds_ratio v = { (double)NAN, (double)NAN, { (double)NAN, (double)NAN } };
    if (!(r > 0) || !(s > 0))
        return v;
    v.value = r / s;
    for (size_t t = 0; t < n && many; t++)
        if (table_of(original[t], generated[t], &x))
            square += (x.r - v.value * x.s) * (x.r - v.value * x.s);
    if (many && m < 2)
        return v;
    v.log_se = many ? sqrt(square * m / (m - 1)) / r
                    : sqrt(pr / (2 * r * r) + both / (2 * r * s) + qs / (2 * s * s));
    double end = 0.5 + level / 2,
           half = v.log_se * (many ? dist_t_quantile(end, m - 1) : dist_norm_quantile(end));
    v.ci = (struct interval){ v.value * exp(-half), v.value * exp(half) };
    return v;
}

/* ---- a part of some questions ---- */

/* The numbers that count, and what is known of the part. */
struct part {
    const int32_t *right;
    size_t n, from, to; /* as given */
    size_t all, m;      /* that count; of these in the part, or outside of it if those are fewer */
    uint64_t sum;       /* of those m */
    double mean, var;   /* of one number, n below */
};

static void part_sums(struct part *v)
{
    uint64_t sum = 0, in = 0;
    double square = 0;
    for (size_t i = 0; i < v->n; i++) {
        if (v->right[i] < 0)
            continue;
        bool inside = i >= v->from && i < v->to;
        v->all++;
        v->m += inside;
        sum += (uint64_t)v->right[i];
        in += inside ? (uint64_t)v->right[i] : 0;
        square += (double)v->right[i] * v->right[i];
    }
    v->sum = in;
    if (2 * v->m > v->all) {
        v->m = v->all - v->m;
        v->sum = sum - in;
    }
    if (v->all) {
        v->mean = (double)sum / (double)v->all;
        v->var = fmax(0, square / (double)v->all - v->mean * v->mean);
    }
}

/* Each number is in with chance m / all, and in the end exactly m are: p[j * wide + s] that j are,
 * with the sum s. No count of choices, which may have more digits than a double, stands there. */
static double part_counted(const struct part *v, uint32_t repeats, double *p)
{
    size_t wide = v->m * repeats + 1;
    double in = (double)v->m / (double)v->all, two = 0, whole = 0;
    p[0] = 1;
    for (size_t i = 0, seen = 0; i < v->n; i++) {
        if (v->right[i] < 0)
            continue;
        size_t x = (size_t)v->right[i], most = ++seen < v->m ? seen : v->m;
        for (size_t j = most; j > 0; j--) {
            double *to = p + j * wide;
            const double *before = to - wide;
            for (size_t s = 0; s < x; s++)
                to[s] *= 1 - in;
            for (size_t s = wide; s-- > x;)
                to[s] = to[s] * (1 - in) + before[s - x] * in;
        }
        p[0] *= 1 - in;
    }
    const double *last = p + v->m * wide;
    for (size_t s = 0; s < wide; s++) {
        whole += last[s];
        if (!likelier(last[s], last[v->sum]))
            two += last[s];
    }
    return fmin(two / whole, 1);
}

enum status exact_part(const int32_t *right, size_t n, size_t from, size_t to, uint32_t repeats,
                       double *p, struct err *err)
{
    struct part v = { .right = right, .n = n, .from = from, .to = to };
    part_sums(&v);
    *p = (double)NAN;
    if (v.m == 0)
        return ST_OK;
    double m = (double)v.m, all = (double)v.all;
    if (all * m * m * repeats > PART_COST_MAX) {
        double sd = sqrt(m * v.var * (all - m) / (all - 1));
        *p = sd > 0 ? dist_norm_two_sided(((double)v.sum - m * v.mean) / sd) : 1;
        return ST_OK;
    }
    double *room = calloc((v.m + 1) * (v.m * repeats + 1), sizeof *room);
    if (!room)
        return err_set(err, ST_NOMEM, "exact test of %zu questions", n);
    *p = part_counted(&v, repeats, room);
    free(room);
    return ST_OK;
}

double fisher_two_sided(uint32_t k1, uint32_t n1, uint32_t k2, uint32_t n2)
{
    double k = (double)k1 + k2, n = (double)n1 + n2, sum = 0;
    double all = dist_log_choose(n, k);
    double at = exp(dist_log_choose(n1, k1) + dist_log_choose(n2, k2) - all);
    uint32_t low = k > n2 ? (uint32_t)(k - n2) : 0, high = k < n1 ? (uint32_t)k : n1;
    for (uint32_t i = low; i <= high; i++) {
        double p = exp(dist_log_choose(n1, i) + dist_log_choose(n2, k - i) - all);
        if (p <= at * (1 + 1e-7))
            sum += p;
    }
    return fmin(sum, 1);
}

double mcnemar_exact(uint32_t b, uint32_t c)
{
    if (b + c == 0)
        return 1;
    return dist_binom_two_sided(b < c ? b : c, (size_t)b + c, 0.5);
}
