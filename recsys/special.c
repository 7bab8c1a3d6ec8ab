/* recsys/special.c - functions of the Gamma distribution in double. */
#include "recsys/fit_internal.h"

double digamma(double x)
{
    double r = 0;
    while (x < 10) {
        r -= 1 / x;
        x += 1;
    }
    double y = 1 / (x * x);
    double s =
        y *
        (1.0 / 12 -
         y * (1.0 / 120 - y * (1.0 / 252 - y * (1.0 / 240 - y * (1.0 / 132 - y * 691.0 / 32760)))));
    return r + log(x) - 0.5 / x - s;
}

double ln_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

double exp_digamma(double x)
{
    return exp(digamma(x));
}

double gamma_kl(double s, double r, double a, double mean_h, double ln_h)
{
    double e_ln = digamma(s) - log(r), mean = s / r;
    return (s - 1) * e_ln + s * log(r) - s - ln_gamma(s) -
           (a * ln_h - ln_gamma(a) + (a - 1) * e_ln - mean_h * mean);
}
