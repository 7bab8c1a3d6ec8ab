/* recsys/view_social.c - friends' events as triggers: each acts on a pair from the pair's first
 * event after it, and its later influence only decays (dossier 1.8), so that a sweep is linear in
 * triggers and events. */
#include "recsys/view_internal.h"

#include <math.h>
#include <stdlib.h>

static enum status make_edges(struct view *v, const struct follows *f, struct err *err)
{
    uint64_t n = 0;
    v->edge_ptr = calloc((uint64_t)v->n_user + 1, sizeof *v->edge_ptr);
    v->edge_from = calloc(f->n + 1, sizeof *v->edge_from);
    v->edge_comp = calloc((f->n + 1) * (v->n_scale ? v->n_scale : 1), sizeof *v->edge_comp);
    v->pair_trigger = calloc(v->n_pair + 1, sizeof *v->pair_trigger);
    if (!v->edge_ptr || !v->edge_from || !v->edge_comp || !v->pair_trigger)
        return err_set(err, ST_NOMEM, "%llu edges", (unsigned long long)f->n);
    for (uint64_t i = 0; i < f->n; i++) {
        if (f->user[i] < v->user0 || f->user[i] - v->user0 >= v->n_user)
            continue;
        v->edge_from[n++] = f->source[i];
        v->edge_ptr[f->user[i] - v->user0 + 1] = n;
    }
    for (uint32_t u = 0; u < v->n_user; u++)
        if (v->edge_ptr[u + 1] < v->edge_ptr[u])
            v->edge_ptr[u + 1] = v->edge_ptr[u];
    v->n_edge = n;
    return ST_OK;
}

/* What a source's events, on whatever item, give to u's window. */
static void compensate(struct view_build *b, uint32_t u, uint64_t edge)
{
    struct view *v = b->v;
    uint32_t s = v->edge_from[edge];
    for (uint64_t i = b->g.user_ptr[s]; i < b->g.user_ptr[s + 1]; i++) {
        double t = (b->g.t[i] - b->t0) / v->unit_s;
        for (uint32_t m = 0; m < v->n_scale && t < b->end[u]; m++)
            v->edge_comp[edge * v->n_scale + m] +=
                b->g.count[i] * view_window_integral(v->scale[m], t, b->start[u], b->end[u]);
    }
}

struct triggers {
    struct trigger *p;
    uint64_t n, cap;
    double mass, dropped;
};

static enum status push(struct triggers *l, struct trigger t, struct err *err)
{
    if (l->n == l->cap) {
        uint64_t cap = l->cap ? l->cap * 2 : 4096;
        struct trigger *p = realloc(l->p, cap * sizeof *p);
        if (!p)
            return err_set(err, ST_NOMEM, "%llu triggers", (unsigned long long)cap);
        l->p = p;
        l->cap = cap;
    }
    l->p[l->n++] = t;
    return ST_OK;
}

/* Of one edge and one pair: both lists come by time. */
static enum status merge_times(struct view_build *b, struct triggers *l, uint64_t edge,
                               uint64_t pair, uint64_t at, uint64_t n, struct err *err)
{
    struct view *v = b->v;
    uint64_t from = v->rec_event[v->pair_rec[pair]], end = v->rec_event[v->pair_rec[pair + 1]];
    uint64_t j = from;
    double longest = 0;
    for (uint32_t m = 0; m < v->n_scale; m++)
        longest = 1 / v->scale[m].w > longest ? 1 / v->scale[m].w : longest;
    for (uint64_t i = at; i < at + n; i++) {
        double t = (b->g.t[i] - b->t0) / v->unit_s;
        while (j < end && v->t[v->pair_order[j]] <= t)
            j++;
        if (j == end)
            return ST_OK;
        double dt = v->t[v->pair_order[j]] - t, left = exp(-dt / longest);
        l->mass += left;
        if (b->o->horizon > 0 && dt > b->o->horizon) {
            l->dropped += left;
            continue;
        }
        struct trigger tr = { .edge = (uint32_t)(edge - v->edge_ptr[0]),
                              .event = v->pair_order[j],
                              .dt = (real)dt,
                              .count = (real)b->g.count[i] };
        if (push(l, tr, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static enum status pair_triggers(struct view_build *b, struct triggers *l, uint32_t u,
                                 uint64_t pair, struct err *err)
{
    struct view *v = b->v;
    uint32_t item = v->rec_item[v->pair_rec[pair]];
    for (uint64_t e = v->edge_ptr[u]; e < v->edge_ptr[u + 1]; e++) {
        uint64_t n, at = group_pair(&b->g, v->edge_from[e], item, &n);
        if (n && merge_times(b, l, e, pair, at, n, err) != ST_OK)
            return err->code;
    }
    v->pair_trigger[pair + 1] = l->n;
    return ST_OK;
}

enum status view_social(struct view_build *b, struct err *err)
{
    struct view *v = b->v;
    struct triggers l = { 0 };
    if (make_edges(v, b->o->follows, err) != ST_OK)
        return err->code;
    for (uint32_t u = 0; u < v->n_user; u++) {
        for (uint64_t e = v->edge_ptr[u]; e < v->edge_ptr[u + 1]; e++)
            compensate(b, u, e);
        for (uint64_t p = v->user_pair[u]; p < v->user_pair[u + 1]; p++)
            if (pair_triggers(b, &l, u, p, err) != ST_OK) {
                free(l.p);
                return err->code;
            }
    }
    v->trigger = l.p;
    v->n_trigger = l.n;
    v->dropped = l.mass > 0 ? l.dropped / l.mass : 0;
    return ST_OK;
}
