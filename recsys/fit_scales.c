/* recsys/fit_scales.c - the kernels' rates, learned: one Newton step in ln w of the same bound
 * (dossier 5.3), own events only; then scales that cause little are dropped. */
#include "recsys/fit_internal.h"

#include <stdlib.h>

struct slope {
    double first, second; /* of the bound in ln w */
    double count;         /* events caused */
};

/* One user's part: causes weigh ln g at their distance, the compensator its integral. With v = ln
 * w: d ln g / dv = order - w dt. */
static void add_user(const struct fit *f, uint32_t u, uint32_t m, struct slope *s)
{
    const struct view *v = f->v;
    const struct rkernel k = f->scale[m];
    double tau = (double)f->tau_tab[(uint64_t)u * f->x_stride + m];
    double mean =
        f->tau_shape[(uint64_t)u * f->n_scale + m] / f->tau_rate[(uint64_t)u * f->n_scale + m];
    const real *weight = f->tau_tab + (uint64_t)u * f->x_stride;
    for (uint64_t r = v->user_rec[u]; r < v->user_rec[u + 1]; r++) {
        double s0 = 0, s1 = 0, s2 = 0, last = 0, base = (double)f->base_of[r];
        for (uint32_t e = v->rec_event[r]; e < v->rec_event[r + 1]; e++) {
            double dt = e > v->rec_event[r] ? v->t[e] - last : 0, d = exp(-k.w * dt), z = base;
            s2 = d * (s2 + 2 * dt * s1 + dt * dt * s0);
            s1 = d * (s1 + dt * s0);
            s0 *= d;
            last = v->t[e];
            for (uint32_t j = 0; j < f->n_scale; j++)
                z += (double)(weight[j] * v->x[(uint64_t)e * f->x_stride + j]);
            double q = z > 0 ? (double)v->count[e] * tau / z : 0;
            /* sum of causes, and of causes times dt */
            double n = k.order == 2 ? k.w * k.w * s1 : k.w * s0;
            double n_dt = k.order == 2 ? k.w * k.w * s2 : k.w * s1;
            s->count += q * n;
            s->first += q * (k.order * n - k.w * n_dt);
            s->second -= q * k.w * n_dt;
            s0 += (double)v->raw[e];
            double x = f->end_of[u] - v->t[e], wx = k.w * x, g = exp(-wx);
            double edge = k.order == 2 ? wx * wx * g : wx * g; /* dG / d ln w */
            s->first -= (double)v->raw[e] * mean * edge;
            s->second -= (double)v->raw[e] * mean * edge * (k.order - wx);
        }
    }
}

enum status fit_scales_step(struct fit *f, struct err *err)
{
    struct slope s[RSCALES_MAX] = { { 0 } };
    if (!f->tau_tab || f->v->rec_slot || f->terms & (RT_SOCIAL | RT_ITEMS | RT_CLUSTERS))
        return ST_OK; /* learned without friends, calendar and other items only */
    f->base_of = malloc((f->v->n_rec + 1) * sizeof *f->base_of);
    f->end_of = malloc((f->nu + (size_t)1) * sizeof *f->end_of);
    if (!f->base_of || !f->end_of) {
        err_set(err, ST_NOMEM, "learning scales");
        goto done;
    }
    for (uint32_t u = 0; u < f->nu; u++) {
        f->end_of[u] = f->v->end[u];
        f->level->dots(row_of(f, f->theta_tab, u), f->beta_tab, f->stride,
                       f->v->rec_item + f->v->user_rec[u],
                       f->v->user_rec[u + 1] - f->v->user_rec[u], f->base_of + f->v->user_rec[u]);
        for (uint32_t m = 0; m < f->n_scale; m++)
            add_user(f, u, m, &s[m]);
    }
    double sum[3 * RSCALES_MAX];
    for (uint32_t m = 0; m < f->n_scale; m++) {
        sum[3 * m] = s[m].first;
        sum[3 * m + 1] = s[m].second;
        sum[3 * m + 2] = s[m].count;
    }
    if (f->o->comm && f->o->comm->sum_f64(f->o->comm->ctx, sum, 3 * (size_t)f->n_scale, err))
        goto done;
    double total = 0;
    for (uint32_t m = 0; m < f->n_scale; m++)
        total += sum[3 * m + 2];
    for (uint32_t m = 0; m < f->n_scale; m++) {
        double first = sum[3 * m], second = sum[3 * m + 1], count = sum[3 * m + 2];
        if (f->scale_off[m])
            continue;
        if (f->o->prune > 0 && f->sweeps >= 20 && count < f->o->prune * total) {
            f->scale_off[m] = true;
            for (uint32_t u = 0; u < f->nu; u++)
                f->tau_tab[(uint64_t)u * f->x_stride + m] = 0;
            continue;
        }
        /* Newton where the bound is concave, else a step along the slope; at most a factor 1.5. */
        double step = second < 0 ? -first / second : first > 0 ? 0.1 : -0.1;
        step = step > 0.4 ? 0.4 : step < -0.4 ? -0.4 : step;
        f->scale[m].w *= exp(step);
    }
    view_rescale(f->v, f->scale);
done:
    free(f->base_of);
    free(f->end_of);
    f->base_of = NULL;
    f->end_of = NULL;
    return err->code;
}
