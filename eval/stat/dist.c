/* eval/stat/dist.c - see dist.h. */
#include "eval/stat/dist.h"

#include <float.h>
#include <math.h>

/* lgamma() writes the global signgam. */
static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

double dist_norm_cdf(double z)
{
    return 0.5 * erfc(-z * M_SQRT1_2);
}

double dist_norm_two_sided(double z)
{
    return erfc(fabs(z) * M_SQRT1_2);
}

static double ratio(const double num[8], const double den[8], double x)
{
    double n = num[7], d = den[7];
    for (int i = 6; i >= 0; i--) {
        n = n * x + num[i];
        d = d * x + den[i];
    }
    return n / d;
}

double dist_norm_quantile(double p)
{
    static const double a[8] = { 3.3871328727963666080e0, 1.3314166789178437745e2,
                                 1.9715909503065514427e3, 1.3731693765509461125e4,
                                 4.5921953931549871457e4, 6.7265770927008700853e4,
                                 3.3430575583588128105e4, 2.5090809287301226727e3 };
    static const double b[8] = { 1,
                                 4.2313330701600911252e1,
                                 6.8718700749205790830e2,
                                 5.3941960214247511077e3,
                                 2.1213794301586595867e4,
                                 3.9307895800092710610e4,
                                 2.8729085735721942674e4,
                                 5.2264952788528545610e3 };
    static const double c[8] = { 1.42343711074968357734e0,  4.63033784615654529590e0,
                                 5.76949722146069140550e0,  3.64784832476320460504e0,
                                 1.27045825245236838258e0,  2.41780725177450611770e-1,
                                 2.27238449892691845833e-2, 7.74545014278341407640e-4 };
    static const double d[8] = { 1,
                                 2.05319162663775882187e0,
                                 1.67638483018380384940e0,
                                 6.89767334985100004550e-1,
                                 1.48103976427480074590e-1,
                                 1.51986665636164571966e-2,
                                 5.47593808499534494600e-4,
                                 1.05075007164441684324e-9 };
    static const double e[8] = { 6.65790464350110377720e0,  5.46378491116411436990e0,
                                 1.78482653991729133580e0,  2.96560571828504891230e-1,
                                 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                 2.71155556874348757815e-5, 2.01033439929228813265e-7 };
    static const double f[8] = { 1,
                                 5.99832206555887937690e-1,
                                 1.36929880922735805310e-1,
                                 1.48753612908506148525e-2,
                                 7.86869131145613259100e-4,
                                 1.84631831751005468180e-5,
                                 1.42151175831644588870e-7,
                                 2.04426310338993978564e-15 };
    if (!(p > 0))
        return -(double)INFINITY;
    if (!(p < 1))
        return (double)INFINITY;
    double q = p - 0.5;
    if (fabs(q) <= 0.425)
        return q * ratio(a, b, 0.180625 - q * q);
    double r = sqrt(-log(q < 0 ? p : 1 - p));
    double v = r <= 5 ? ratio(c, d, r - 1.6) : ratio(e, f, r - 5);
    return q < 0 ? -v : v;
}

/* The continued fraction of I_x(a, b), modified Lentz. */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m <= 10000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 + even * d;
        c = 1 + even / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        h *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + odd * d;
        c = 1 + odd / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        h *= d * c;
        if (fabs(d * c - 1) < 4 * DBL_EPSILON)
            break;
    }
    return h;
}

double dist_beta_inc(double a, double b, double x)
{
    if (!(x > 0))
        return 0;
    if (!(x < 1))
        return 1;
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double dist_t_two_sided(double t, double df)
{
    if (isnan(t) || !(df > 0))
        return (double)NAN;
    return dist_beta_inc(df / 2, 0.5, df / (df + t * t));
}

double dist_t_cdf(double t, double df)
{
    double tail = dist_t_two_sided(t, df) / 2;
    return t > 0 ? 1 - tail : tail;
}

/* Bisection to a factor of 2, then it converges in about 50 more steps: called once a report. */
double dist_t_quantile(double p, double df)
{
    if (!(p > 0) || !(p < 1))
        return dist_norm_quantile(p);
    double tail = p < 0.5 ? p : 1 - p, lo = 0, hi = 1;
    while (dist_t_two_sided(hi, df) / 2 > tail && hi < 1e300)
        hi *= 2;
    for (int i = 0; i < 200 && hi - lo > DBL_EPSILON * hi; i++) {
        double mid = 0.5 * (lo + hi);
        if (dist_t_two_sided(mid, df) / 2 > tail)
            lo = mid;
        else
            hi = mid;
    }
    double v = 0.5 * (lo + hi);
    return p < 0.5 ? -v : v;
}

static double gamma_series(double a, double x)
{
    double term = 1 / a, sum = term;
    for (int n = 1; n <= 100000; n++) {
        term *= x / (a + n);
        sum += term;
        if (fabs(term) < fabs(sum) * DBL_EPSILON)
            break;
    }
    return sum * exp(-x + a * log(x) - log_gamma(a));
}

static double gamma_fraction(double a, double x)
{
    double b = x + 1 - a, c = 1e300, d = 1 / b, h = d;
    for (int i = 1; i <= 100000; i++) {
        double an = -i * (i - a);
        b += 2;
        d = an * d + b;
        d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
        c = b + an / c;
        c = fabs(c) < 1e-300 ? 1e-300 : c;
        h *= d * c;
        if (fabs(d * c - 1) < 4 * DBL_EPSILON)
            break;
    }
    return h * exp(-x + a * log(x) - log_gamma(a));
}

double dist_chi2_sf(double x, double df)
{
    if (isnan(x) || !(df > 0))
        return (double)NAN;
    if (!(x > 0))
        return 1;
    double a = df / 2, h = x / 2;
    return h < a + 1 ? 1 - gamma_series(a, h) : gamma_fraction(a, h);
}

double dist_log_choose(double n, double k)
{
    return log_gamma(n + 1) - log_gamma(k + 1) - log_gamma(n - k + 1);
}

double dist_binom_pmf(size_t k, size_t n, double p)
{
    if (k > n)
        return 0;
    if (p <= 0)
        return k == 0;
    if (p >= 1)
        return k == n;
    return exp(dist_log_choose((double)n, (double)k) + (double)k * log(p) +
               (double)(n - k) * log1p(-p));
}

double dist_binom_two_sided(size_t k, size_t n, double p)
{
    double at = dist_binom_pmf(k, n, p), sum = 0;
    for (size_t i = 0; i <= n; i++) {
        double q = dist_binom_pmf(i, n, p);
        if (q <= at * (1 + 1e-7)) /* equal ones, rounded */
            sum += q;
    }
    return sum < 1 ? sum : 1;
}

double dist_kolmogorov_sf(double z)
{
    if (!(z > 0))
        return 1;
    if (z < 1) { /* the other series converges slowly here */
        double sum = 0;
        for (int k = 1; k < 40; k += 2)
            sum += exp(-k * k * M_PI * M_PI / (8 * z * z));
        return 1 - sum * sqrt(2 * M_PI) / z;
    }
    double sum = 0;
    for (int k = 1; k < 40; k++) {
        double term = exp(-2.0 * k * k * z * z);
        sum += k % 2 ? term : -term;
        if (term < 1e-18)
            break;
    }
    return 2 * sum;
}
