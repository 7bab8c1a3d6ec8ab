/* engine/duo/placebo.c - see placebo.h. */
#include "engine/duo/placebo.h"

#include "engine/base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { TRIES = 3, TRY_COPIES = 4, HALVINGS = 60 };
#define SIGMA_START 0.04

double duo_least_normal(uint64_t k, double u)
{
    /* 1 - Phi(x) = (1 - u)^(1/k), so Phi(x) = -expm1(log1p(-u) / k): small, and exact there. */
    double want = -expm1(log1p(-u) / (double)k), low = -40, high = 40;
    for (int i = 0; i < HALVINGS; i++) {
        double x = (low + high) / 2;
        if (0.5 * erfc(-x * 0.7071067811865476) < want)
            low = x;
        else
            high = x;
    }
    return (low + high) / 2;
}

struct noise {
    const struct duo_pass *p;
    const struct duo_model *m;
    const struct duo_placebo *o;
    struct net_tensor *tensor;
    float *loss;        /* [n_tok] of a copy */
    double *mean, *m2;  /* [n_tok] over copies (Welford) */
    float *least;       /* [n_tok] over all copies */
    uint64_t copy, all; /* made so far and to be made, for progress */
};

static void disturb(struct noise *z, uint64_t copy, double sigma)
{
    const struct net_tensor *t = z->tensor;
    uint32_t n = net_n_tensor(&z->m->shape);
    struct rng rng = { rng_at(z->o->seed, 1000 + copy) };
    for (uint32_t i = 0; i < n; i++) {
        if (!t[i].decay || strstr(t[i].name, "_small."))
            continue;
        for (uint64_t k = 0; k < (uint64_t)t[i].rows * t[i].cols; k++) {
            double u = 1 - rng_f64(&rng), v = rng_f64(&rng);
            double g = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
            net_params(z->p->net)[t[i].at + k] =
                (real)((double)z->m->params[t[i].at + k] * (1 + sigma * g));
        }
    }
}

static void forget(struct noise *z)
{
    size_t n = z->p->text->n_tok;
    memset(z->mean, 0, n * sizeof *z->mean);
    memset(z->m2, 0, n * sizeof *z->m2);
    for (size_t i = 0; i < n; i++)
        z->least[i] = INFINITY;
}

/* Losses of one more copy, the c-th since forget(). */
static bool one_copy(struct noise *z, uint64_t c, double sigma, struct err *err)
{
    size_t n = z->p->text->n_tok;
    if (!duo_tell(z->p->watch, "placebo", z->copy, z->all, err))
        return false;
    disturb(z, z->copy++, sigma);
    if (duo_losses(z->p, NULL, 0, z->loss, err) != ST_OK)
        return false;
    for (size_t i = 0; i < n; i++) {
        double x = (double)z->loss[i], d = x - z->mean[i];
        z->mean[i] += d / (double)(c + 1);
        z->m2[i] += d * (x - z->mean[i]);
        if (!(z->loss[i] >= z->least[i]))
            z->least[i] = z->loss[i];
    }
    return true;
}

/* Standard deviation of a token's losses over c copies, pooled over tokens. */
static double spread_of(const struct noise *z, uint64_t c)
{
    size_t n = z->p->text->n_tok;
    double sum = 0;
    for (size_t i = 0; i < n && c > 1; i++)
        sum += z->m2[i] / (double)(c - 1);
    return n ? sqrt(sum / (double)n) : 0;
}

/* Noise whose spread is about the wanted one: it grows in proportion while it is small. */
static double match(struct noise *z, double want, struct err *err)
{
    double sigma = SIGMA_START;
    for (int t = 0; t < TRIES && err->code == ST_OK; t++) {
        forget(z);
        for (uint64_t c = 0; c < TRY_COPIES && one_copy(z, c, sigma, err); c++)
            ;
        double is = spread_of(z, TRY_COPIES);
        if (!(is > 0) || !(want > 0))
            break;
        sigma = fmin(fmax(sigma * want / is, 1e-5), 1);
    }
    return sigma;
}

/* The difference to all big, as large as a budget's spread asks; a loss is not below 0. */
static float scaled(float all_big, double by, double scale)
{
    return (float)fmax(0, (double)all_big + by * scale);
}

static double drawn(const struct noise *z, size_t tok, uint64_t k, uint64_t c, double u)
{
    double sd = c > 1 ? sqrt(z->m2[tok] / (double)(c - 1)) : 0;
    return z->mean[tok] + sd * duo_least_normal(k, u);
}

/* Where the oracle has more routes than there are copies: by the distribution. u is shared by all
 * budgets of a token, so that curves do not cross by chance. */
static void draw_all(struct noise *z, uint64_t c, const double *scale, struct duo_placebo_say *say,
                     struct err *err)
{
    const struct duo_placebo *o = z->o;
    size_t n = z->p->text->n_tok;
    struct rng rng = { rng_at(o->seed, 999) };
    for (size_t tok = 0; tok < n && duo_goes_on(z->p->watch, err); tok++) {
        double u = (rng_f64(&rng) * 4503599627370495 + 0.5) / 4503599627370496;
        for (uint32_t b = 0; b < o->n_budget; b++)
            if (o->k[b] > c)
                o->loss[tok * o->n_budget + b] =
                    scaled(o->all_big[tok], drawn(z, tok, o->k[b], c, u) - (double)o->all_big[tok],
                           scale[b]);
        say->drawn += drawn(z, tok, c, c, u) / (double)n;
        say->made += (double)z->least[tok] / (double)n;
        say->mean_copy += z->mean[tok] / (double)n;
    }
}

static void run(struct noise *z, struct duo_placebo_say *say, struct err *err)
{
    const struct duo_placebo *o = z->o;
    size_t n = z->p->text->n_tok;
    double want = 0, scale[DUO_PLACEBO_BUDGETS] = { 0 }, sigma = o->sigma;
    uint64_t most = 0, made = 0;
    for (uint32_t b = 0; b < o->n_budget; b++) {
        want = fmax(want, o->k[b] > 1 ? o->spread[b] : 0);
        most = o->k[b] > most ? o->k[b] : most;
    }
    most = most < o->copies ? most : o->copies;
    most = most < 2 ? 2 : most; /* a spread needs two */
    z->all = most + (sigma > 0 ? 0 : (uint64_t)TRIES * TRY_COPIES);
    if (!(sigma > 0))
        sigma = match(z, want, err);
    forget(z);
    while (err->code == ST_OK && made < most && one_copy(z, made, sigma, err)) {
        made++;
        for (uint32_t b = 0; b < o->n_budget; b++)
            for (size_t tok = 0; made == o->k[b] && tok < n; tok++)
                o->loss[tok * o->n_budget + b] = z->least[tok];
    }
    if (err->code != ST_OK)
        return;
    double is = spread_of(z, made);
    for (uint32_t b = 0; b < o->n_budget; b++) {
        float *to = o->loss + b;
        scale[b] = o->sigma > 0 ? 1 : is > 0 && o->k[b] > 1 ? o->spread[b] / is : 0;
        for (size_t tok = 0; o->k[b] && o->k[b] <= made && tok < n; tok++)
            to[tok * o->n_budget] = scaled(
                o->all_big[tok], (double)to[tok * o->n_budget] - (double)o->all_big[tok], scale[b]);
    }
    *say = (struct duo_placebo_say){ .copies = (uint32_t)made, .sigma = sigma, .spread = is };
    draw_all(z, made, scale, say, err);
}

enum status duo_placebo_run(const struct duo_pass *p, const struct duo_model *m,
                            const struct duo_placebo *o, struct duo_placebo_say *say,
                            struct err *err)
{
    size_t n = p->text->n_tok;
    struct noise z = { .p = p, .m = m, .o = o };
    z.tensor = calloc(net_n_tensor(&m->shape), sizeof *z.tensor);
    z.loss = malloc((n + 1) * sizeof *z.loss);
    z.least = malloc((n + 1) * sizeof *z.least);
    z.mean = malloc((n + 1) * sizeof *z.mean);
    z.m2 = malloc((n + 1) * sizeof *z.m2);
    if (!z.tensor || !z.loss || !z.least || !z.mean || !z.m2)
        err_set(err, ST_NOMEM, "placebo");
    else {
        net_tensors(&m->shape, z.tensor);
        run(&z, say, err);
        memcpy(net_params(p->net), m->params, net_n_param(&m->shape) * sizeof(real));
    }
    free(z.tensor);
    free(z.loss);
    free(z.least);
    free(z.mean);
    free(z.m2);
    return err->code;
}
