/* recsys/view_activity.c - the measure of activity (fit.h): a user's exposure E, spread evenly over
 * the user's n events. The integral of anything is E / n times its sum over the events' times; of a
 * kernel sum that is the sum over all items of it, just before each event. Linear in events. */
#include "recsys/view_internal.h"

#include <math.h>
#include <stdlib.h>

struct moment {
    double t, count, raw;
    double gap; /* since the same pair's event before; < 0: there was none */
};

static int by_time(const void *a, const void *b)
{
    double x = ((const struct moment *)a)->t, y = ((const struct moment *)b)->t;
    return (x > y) - (x < y);
}

/* Sums of one kernel. */
struct sums {
    double s0, s1, t;
};

/* What is left of an event `gap` ago makes room for the new one. */
static void replace(struct sums *s, struct rkernel k, double gap)
{
    if (gap >= 0) {
        s->s0 -= exp(-k.w * gap);
        s->s1 -= gap * exp(-k.w * gap);
    }
    s->s0 += 1;
}

static double kernel_to(struct sums *s, struct rkernel k, double t)
{
    double dt = t - s->t, d = exp(-k.w * dt);
    s->s1 = d * (s->s1 + dt * s->s0);
    s->s0 *= d;
    s->t = t;
    return k.order == 2 ? k.w * k.w * s->s1 : k.w * s->s0;
}

/* Sum over moments of the kernel sum of the source's events strictly before. Both by time. */
static double cross(struct rkernel k, const struct moment *at, uint64_t n,
                    const struct moment *source, uint64_t n_source)
{
    struct sums s = { .t = n_source ? source[0].t : 0 };
    double sum = 0;
    for (uint64_t i = 0, j = 0; i < n; i++) {
        for (; j < n_source && source[j].t < at[i].t; j++) {
            kernel_to(&s, k, source[j].t);
            if (k.last_only)
                replace(&s, k, source[j].gap);
            else
                s.s0 += source[j].raw;
        }
        if (j)
            sum += at[i].count * kernel_to(&s, k, at[i].t);
    }
    return sum;
}

/* All events of a user of the group, by time; start: when they begin to count. */
static uint64_t moments(const struct view_build *b, uint32_t user, double start, struct moment *m)
{
    uint64_t from = b->g.user_ptr[user], n = b->g.user_ptr[user + 1] - from;
    for (uint64_t i = 0; i < n; i++) {
        double t = (b->g.t[from + i] - b->t0) / b->v->unit_s, c = b->g.count[from + i];
        bool again = i && b->g.item[from + i] == b->g.item[from + i - 1];
        double gap = again ? (b->g.t[from + i] - b->g.t[from + i - 1]) / b->v->unit_s : -1;
        m[i] = (struct moment){ t, t < start ? 0 : c, c, gap };
    }
    qsort(m, n, sizeof *m, by_time);
    return n;
}

static void occupy(const struct view_build *b, uint32_t u, double each, const struct moment *m,
                   uint64_t n)
{
    double *to = b->v->occupied + (uint64_t)u * CALENDAR_SLOTS;
    for (uint64_t i = 0; i < n; i++)
        to[calendar_slot(b->o->zone, m[i].t * b->v->unit_s + b->t0)] += each * m[i].count;
}

/* The item kernel of each pair's events, at all of the user's moments. */
static void pairs(const struct view_build *b, uint32_t u, double each, const struct moment *m,
                  uint64_t n, struct moment *scratch)
{
    struct view *v = b->v;
    for (uint64_t p = v->user_pair[u]; p < v->user_pair[u + 1]; p++) {
        uint64_t from = v->rec_event[v->pair_rec[p]], end = v->rec_event[v->pair_rec[p + 1]];
        for (uint64_t i = from; i < end; i++) {
            uint32_t e = v->pair_order[i];
            scratch[i - from] = (struct moment){ v->t[e], 0, (double)v->raw[e], -1 };
        }
        v->pair_comp[p] = each * cross(v->item_kernel, m, n, scratch, end - from);
    }
}

static void one_user(struct view_build *b, uint32_t u, struct moment *m, struct moment *other)
{
    struct view *v = b->v;
    uint64_t n = moments(b, v->user0 + u, b->start[u], m);
    double trials = 0;
    for (uint64_t i = 0; i < n; i++)
        trials += m[i].count;
    double each = trials > 0 ? v->exposure[u] / trials : 0;
    for (uint32_t k = 0; v->x && k < v->n_scale; k++)
        v->comp[(uint64_t)u * v->n_scale + k] = each * cross(v->scale[k], m, n, m, n);
    for (uint64_t e = v->edge_ptr ? v->edge_ptr[u] : 0; v->edge_ptr && e < v->edge_ptr[u + 1];
         e++) {
        uint64_t n_source = moments(b, v->edge_from[e], b->start[u], other);
        for (uint32_t k = 0; k < v->n_scale; k++) {
            struct rkernel summed = { v->scale[k].w, v->scale[k].order, 0 };
            v->edge_comp[e * v->n_scale + k] = each * cross(summed, m, n, other, n_source);
        }
    }
    if (v->pair_comp)
        pairs(b, u, each, m, n, other);
    if (v->occupied)
        occupy(b, u, each, m, n);
}

enum status view_activity(struct view_build *b, struct err *err)
{
    struct view *v = b->v;
    uint64_t most = 1;
    for (uint32_t u = 0; u < b->g.n_user; u++) {
        uint64_t n = b->g.user_ptr[u + 1] - b->g.user_ptr[u];
        most = n > most ? n : most;
    }
    struct moment *m = malloc(2 * most * sizeof *m);
    if (m && v->terms & RT_CALENDAR) {
        v->n_class = v->n_user;
        v->occupied = calloc((uint64_t)v->n_user * CALENDAR_SLOTS + 1, sizeof *v->occupied);
    }
    if (!m || (v->terms & RT_CALENDAR && !v->occupied)) {
        free(m);
        return err_set(err, ST_NOMEM, "the users' activity");
    }
    for (uint32_t u = 0; u < v->n_user; u++) {
        v->window_class[u] = u;
        one_user(b, u, m, m + most);
    }
    free(m);
    return ST_OK;
}
