/* recsys/scorers.c - what evaluate.h ranks with: models and the baselines that a model must beat.
 */
#include "recsys/evaluate.h"
#include "recsys/live.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ---- models ---- */

static void model_score(void *ctx, uint32_t u, double t, float *out)
{
    live_scores(ctx, u, t, out);
}

static enum status model_add(void *ctx, uint32_t u, uint32_t p, double t, struct err *err)
{
    return live_add(ctx, u, p, t, 1, err);
}

static void model_close(void *ctx)
{
    live_close(ctx);
}

static void set_name(struct scorer *s, const char *name)
{
    snprintf(s->name, sizeof s->name, "%s", name);
}

enum status scorer_model(const struct rmodel *m, const char *name, const struct rs_events *train,
                         struct scorer *ret, struct err *err)
{
    struct live *l;
    if (live_open(m, &l, err) != ST_OK)
        return err->code;
    if (live_replay(l, train, err) != ST_OK) {
        live_close(l);
        return err->code;
    }
    *ret =
        (struct scorer){ .ctx = l, .score = model_score, .add = model_add, .close = model_close };
    set_name(ret, name);
    return ST_OK;
}

/* ---- baselines ---- */

struct own { /* of one (user, item) */
    uint32_t item, next;
    double value, at; /* count, decayed count at `at`; recency: the last time */
};

struct base {
    struct baseline_opts o;
    uint32_t n_user, n_item, n_own, cap;
    struct own *own;
    uint32_t *head; /* [n_user] into own, NONE */
    float *popular; /* [n_item] */
    double *log_t;  /* window: the events in it, oldest first */
    uint32_t *log_p;
    uint64_t log_from, log_n, log_cap;
};
#define NONE UINT32_MAX

static void window_to(struct base *b, double t)
{
    while (b->log_from < b->log_n && b->log_t[b->log_from] < t - b->o.span_s)
        b->popular[b->log_p[b->log_from++]] -= 1;
}

static double decayed(const struct base *b, const struct own *o, double t)
{
    return t > o->at ? o->value * exp((o->at - t) / b->o.span_s) : o->value;
}

static float value_of(const struct base *b, const struct own *o, double t)
{
    switch (b->o.kind) {
    case BASE_DECAYED:
    case BASE_HPF_DECAYED:
        return (float)decayed(b, o, t);
    case BASE_RECENCY: /* ever closer to now, never 0: (0, 1] */
        return (float)(1 / (1 + (t > o->at ? t - o->at : 0) / 3600));
    default:
        return (float)o->value;
    }
}

static void base_score(void *ctx, uint32_t u, double t, float *out)
{
    struct base *b = ctx;
    if (b->o.kind == BASE_WINDOW)
        window_to(b, t);
    if (b->o.kind == BASE_POPULARITY || b->o.kind == BASE_WINDOW) {
        memcpy(out, b->popular, b->n_item * sizeof *out);
        return;
    }
    memset(out, 0, b->n_item * sizeof *out);
    if (b->o.kind == BASE_HPF_DECAYED) {
        double sum = 0;
        rmodel_base_all(b->o.hpf, u, t, out);
        for (uint32_t p = 0; p < b->n_item; p++)
            sum += (double)out[p];
        for (uint32_t p = 0; p < b->n_item; p++)
            out[p] *= (float)(sum > 0 ? b->o.weight / sum : 0);
    }
    for (uint32_t i = b->head[u]; i != NONE; i = b->own[i].next)
        out[b->own[i].item] += value_of(b, &b->own[i], t);
}

static enum status add_own(struct base *b, uint32_t u, uint32_t p, double t, struct err *err)
{
    assert(b->head); /* what the kind needs was allocated when it was opened */
    uint32_t i = b->head[u];
    while (i != NONE && b->own[i].item != p)
        i = b->own[i].next;
    if (i == NONE) {
        if (b->n_own == b->cap) {
            uint32_t cap = b->cap ? b->cap * 2 : 4096;
            struct own *own = realloc(b->own, cap * sizeof *own);
            if (!own)
                return err_set(err, ST_NOMEM, "counters");
            b->own = own;
            b->cap = cap;
        }
        i = b->n_own++;
        b->own[i] = (struct own){ .item = p, .next = b->head[u], .at = t };
        b->head[u] = i;
    }
    struct own *o = &b->own[i];
    bool decays = b->o.kind == BASE_DECAYED || b->o.kind == BASE_HPF_DECAYED;
    o->value = (decays ? decayed(b, o, t) : o->value) + 1;
    o->at = t;
    return ST_OK;
}

static enum status base_add(void *ctx, uint32_t u, uint32_t p, double t, struct err *err)
{
    struct base *b = ctx;
    assert(b->popular || (b->o.kind != BASE_POPULARITY && b->o.kind != BASE_WINDOW));
    if (b->o.kind == BASE_POPULARITY) {
        b->popular[p] += 1;
        return ST_OK;
    }
    if (b->o.kind != BASE_WINDOW)
        return add_own(b, u, p, t, err);
    if (b->log_n == b->log_cap) {
        uint64_t cap = b->log_cap ? b->log_cap * 2 : 4096;
        double *lt = realloc(b->log_t, cap * sizeof *lt);
        b->log_t = lt ? lt : b->log_t;
        uint32_t *lp = lt ? realloc(b->log_p, cap * sizeof *lp) : NULL;
        if (!lp)
            return err_set(err, ST_NOMEM, "window");
        b->log_p = lp;
        b->log_cap = cap;
    }
    b->log_t[b->log_n] = t;
    b->log_p[b->log_n++] = p;
    b->popular[p] += 1;
    return ST_OK;
}

static void base_close(void *ctx)
{
    struct base *b = ctx;
    free(b->own);
    free(b->head);
    free(b->popular);
    free(b->log_t);
    free(b->log_p);
    free(b);
}

enum status scorer_baseline(const struct baseline_opts *o, const char *name,
                            const struct rs_events *train, struct scorer *ret, struct err *err)
{
    struct base *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(err, ST_NOMEM, "%s", name);
    b->o = *o;
    b->n_user = train->users.n;
    b->n_item = train->items.n;
    b->head = malloc((b->n_user + (size_t)1) * sizeof *b->head);
    b->popular = calloc(b->n_item + (size_t)1, sizeof *b->popular);
    if (b->head)
        memset(b->head, 0xFF, b->n_user * sizeof *b->head);
    if (!b->head || !b->popular)
        err_set(err, ST_NOMEM, "%s", name);
    for (uint64_t i = 0; i < train->n && err->code == ST_OK; i++)
        base_add(b, train->user[i], train->item[i], train->time[i], err);
    if (err->code != ST_OK) {
        base_close(b);
        return err->code;
    }
    *ret = (struct scorer){ .ctx = b, .score = base_score, .add = base_add, .close = base_close };
    set_name(ret, name);
    return ST_OK;
}
