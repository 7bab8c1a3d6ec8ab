/* eval/stat/multi.c - see multi.h. */
#include "eval/stat/multi.h"

#include "eval/stat/dist.h"

#include <math.h>
#include <stdlib.h>

struct place {
    double p;
    size_t at;
};

static int by_p(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* The numbers, sorted; NULL: no memory. */
static struct place *sorted(const double *p, size_t n, double *ret, size_t *m, struct err *err)
{
    struct place *s = malloc((n + 1) * sizeof *s);
    *m = 0;
    if (!s) {
        err_set(err, ST_NOMEM, "adjusting %zu p-values", n);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        ret[i] = (double)NAN;
        if (!isnan(p[i]))
            s[(*m)++] = (struct place){ p[i], i };
    }
    qsort(s, *m, sizeof *s, by_p);
    return s;
}

enum status adjust_holm(const double *p, size_t n, double *ret, struct err *err)
{
    size_t m;
    double worst = 0;
    struct place *s = sorted(p, n, ret, &m, err);
    if (!s)
        return err->code;
    for (size_t i = 0; i < m; i++) {
        worst = fmax(worst, (double)(m - i) * s[i].p);
        ret[s[i].at] = fmin(1, worst);
    }
    free(s);
    return ST_OK;
}

enum status adjust_bh(const double *p, size_t n, double *ret, struct err *err)
{
    size_t m;
    double best = 1;
    struct place *s = sorted(p, n, ret, &m, err);
    if (!s)
        return err->code;
    for (size_t i = m; i-- > 0;) {
        best = fmin(best, (double)m / ((double)i + 1) * s[i].p);
        ret[s[i].at] = best;
    }
    free(s);
    return ST_OK;
}

struct plan_out plan_design(struct plan_in in)
{
    double t = in.n_template, m = in.n_instance;
    double z = dist_norm_quantile(1 - in.alpha / 2) + dist_norm_quantile(in.power);
    double sd = sqrt(in.within / t);
    return (struct plan_out){
        .se_mean = sd / sqrt(m),
        .set_sd = sd,
        .mde_original = z * sd * sqrt(1 + 1 / m),
        .mde_variant = z * sd * sqrt(2 / m),
    };
}

uint32_t plan_instances(struct plan_in in, double difference)
{
    in.n_instance = 1;
    double one = plan_design(in).mde_variant, need = one / difference;
    double m = ceil(need * need - 1e-9);
    return m >= 1 && m < 1e6 ? (uint32_t)m : m < 1 ? 1 : 0;
}

struct beta_prior beta_prior_of(const struct decomposition *d)
{
    double m = fmin(fmax(d->mean, 1e-6), 1 - 1e-6), b = fmax(d->between, 1e-12);
    /* m (1 - m) = between + within, of right or wrong; shares vary less inside a template. */
    double weight = d->many ? d->within / b : m * (1 - m) / b - 1;
    return (struct beta_prior){ d->mean, fmin(fmax(weight, 0.5), 1e6) };
}

double beta_shrunk(struct beta_prior prior, struct tally t)
{
    return (prior.mean * prior.weight + tally_sum(t)) / (prior.weight + t.n);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *x, size_t n)
{
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

struct ks ks_two(double *a, size_t n, double *b, size_t m)
{
    struct ks r = { 0, 1, (double)NAN };
    if (n == 0 || m == 0)
        return r;
    qsort(a, n, sizeof *a, by_value);
    qsort(b, m, sizeof *b, by_value);
    for (size_t i = 0, j = 0; i < n && j < m;) {
        double at = fmin(a[i], b[j]);
        while (i < n && a[i] <= at)
            i++;
        while (j < m && b[j] <= at)
            j++;
        r.d = fmax(r.d, fabs((double)i / (double)n - (double)j / (double)m));
    }
    double size = (double)n * (double)m / ((double)n + (double)m);
    r.p = dist_kolmogorov_sf(sqrt(size) * r.d);
    double base = median(a, n);
    r.ratio = base != 0 ? median(b, m) / base : (double)NAN;
    return r;
}
