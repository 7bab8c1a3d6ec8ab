/* tests/bench/recsys/bench_model.c - see bench_model.h. */
#include "tests/bench/recsys/bench_model.h"

#include "recsys/model_fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

double bench_power(struct rng *r, double top, double shape)
{
    return top * pow(rng_f64(r), shape);
}

static void fill(struct rng *r, const float *at, uint64_t n, uint32_t k, uint32_t stride,
                 bool popular)
{
    float *p = (float *)(uintptr_t)at;
    for (uint64_t i = 0; i < n; i++) {
        double size = popular ? 1 / (1 + (double)i * 0.01) : 1;
        for (uint32_t j = 0; j < k; j++)
            p[i * stride + j] = (float)(size * bench_power(r, 0.1, 6));
    }
}

static void name_all(struct ids *t, char letter, uint64_t n)
{
    struct err err = ERR_INIT;
    char text[24];
    uint32_t at;
    for (uint64_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%c%llu", letter, (unsigned long long)i);
        if (ids_add(t, str_c(text), &at, &err) != ST_OK)
            exit(1);
    }
}

struct rmodel *bench_model(const struct bench_setting *s)
{
    struct rng r = { 1 };
    struct err err = ERR_INIT;
    struct rmodel *m, sizes = { .terms = RT_GAMMA_RATES | RT_SELF,
                                .n_user = (uint32_t)s->users,
                                .n_item = (uint32_t)s->items,
                                .k = (uint32_t)s->k,
                                .n_scale = 4,
                                .unit_s = 3600,
                                .start_s = 1.69e9,
                                .end_s = 1.7e9,
                                .a_theta = 0.3,
                                .a_beta = 0.3,
                                .a_tau = 1,
                                .a_phi = 1,
                                .a_hyper = 1,
                                .b_hyper = 0.1,
                                .a_mu = 1,
                                .b_mu = 1 };
    static const double hours[] = { 1, 24, 168, 1440 };
    for (int i = 0; i < 4; i++)
        sizes.scale[i] = (struct rkernel){ .w = 1 / hours[i], .order = 1 };
    if (rmodel_create(&sizes, &m, &err) != ST_OK)
        exit(1);
    struct rfield field[RFIELDS_MAX];
    for (unsigned i = rmodel_fields(m, field); i-- > 0;) {
        double *p = NULL;
        memcpy(&p, field[i].at, sizeof p);
        for (uint64_t x = 0; field[i].check == CHECK_POSITIVE && x < field[i].n; x++)
            p[x] = 1;
    }
    fill(&r, m->theta, s->users, m->k, m->stride, false);
    fill(&r, m->beta, s->items, m->k, m->stride, true);
    memcpy((void *)(uintptr_t)m->theta_log, m->theta, s->users * m->stride * 4);
    memcpy((void *)(uintptr_t)m->beta_log, m->beta, s->items * m->stride * 4);
    for (uint64_t i = 0; i < s->users * m->n_scale; i++)
        ((float *)(uintptr_t)m->tau)[i] = (float)bench_power(&r, 0.5, 2);
    for (uint64_t i = 0; i < s->items * m->stride; i++)
        ((double *)(uintptr_t)m->beta_sum)[i % m->stride] += (double)m->beta[i];
    name_all(&m->users, 'u', s->users);
    name_all(&m->items, 'i', s->items);
    return m;
}

void bench_batch(struct buf *b, struct rng *r, const struct bench_setting *s, uint64_t n, double t)
{
    buf_z(b, "user\titem\ttime\n");
    for (uint64_t i = 0; i < n; i++)
        buf_printf(b, "u%llu\ti%llu\t%.3f\n", (unsigned long long)rng_below(r, s->users),
                   (unsigned long long)bench_power(r, (double)s->items, 3), t + (double)i * 0.01);
}
