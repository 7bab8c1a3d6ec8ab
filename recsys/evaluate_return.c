/* recsys/evaluate_return.c - when users really came back (evaluate.h). */
#include "recsys/evaluate.h"
#include "recsys/return_time.h"

#include <math.h>
#include <stdlib.h>

enum { QUANTILES = 3, METHODS = 4 };
static const double quantile[QUANTILES] = { 0.1, 0.5, 0.9 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct guess {
    double q[QUANTILES]; /* gap since the last training event, seconds */
};

static void score(struct return_score *r, double *error, double *ln, const struct guess *g,
                  double gap)
{
    ln[r->n] = fabs(log((g->q[1] > 1 ? g->q[1] : 1) / (gap > 1 ? gap : 1)));
    error[r->n++] = fabs(g->q[1] - gap);
    for (int i = 0; i < QUANTILES; i++) {
        double d = gap - g->q[i];
        r->pinball_s[i] += d >= 0 ? quantile[i] * d : (quantile[i] - 1) * d;
    }
    r->coverage += gap >= g->q[0] && gap <= g->q[2];
}

static void finish(struct return_score *r, double *error, double *ln)
{
    double n = r->n ? (double)r->n : 1;
    qsort(error, r->n, sizeof *error, by_value);
    qsort(ln, r->n, sizeof *ln, by_value);
    r->median_error_s = r->n ? error[r->n / 2] : 0;
    r->median_log_error = r->n ? ln[r->n / 2] : 0;
    for (int i = 0; i < QUANTILES; i++)
        r->pinball_s[i] /= n;
    r->coverage /= n;
}

struct user {
    double last, next; /* last training, first test event; NAN: none */
    uint64_t from, n;  /* own gaps */
};

struct work {
    const struct rmodel *m;
    const struct split *s;
    struct user *user;
    double *gap, *truth;
    double *error[METHODS], *ln[METHODS];
    struct live *l;
};

/* Own gaps, sorted, user by user; first test events. */
static void collect(struct work *w)
{
    const struct rs_events *t = &w->s->train;
    uint32_t n_user = t->users.n;
    uint64_t at = 0;
    for (uint32_t u = 0; u < n_user; u++)
        w->user[u] = (struct user){ (double)NAN, (double)NAN, 0, 0 };
    for (uint64_t i = 0; i < t->n; i++)
        w->user[t->user[i]].n++;
    for (uint32_t u = 0; u < n_user; u++) {
        w->user[u].from = at;
        at += w->user[u].n;
        w->user[u].n = 0;
    }
    for (uint64_t i = 0; i < t->n; i++) {
        struct user *u = &w->user[t->user[i]];
        if (t->time[i] > u->last)
            w->gap[u->from + u->n++] = t->time[i] - u->last;
        u->last = t->time[i];
    }
    for (uint64_t i = 0; i < w->s->test.n; i++) {
        struct user *u = &w->user[w->s->test.user[i]];
        if (isnan(u->next) && w->s->test.time[i] > u->last)
            u->next = w->s->test.time[i];
    }
    for (uint32_t u = 0; u < n_user; u++)
        qsort(w->gap + w->user[u].from, w->user[u].n, sizeof *w->gap, by_value);
}

static void guesses(struct work *w, uint32_t id, double silent, struct guess g[METHODS])
{
    const struct user *u = &w->user[id];
    double now = u->last + silent;
    for (int i = 0; i < QUANTILES; i++) {
        uint64_t at = (uint64_t)(quantile[i] * (double)u->n);
        double own = w->gap[u->from + (at < u->n ? at : u->n - 1)];
        double items = return_by_items(w->l, w->m, id, now, quantile[i]);
        g[0].q[i] = silent + return_by_clock(w->m, id, u->last, now, quantile[i]);
        g[1].q[i] = silent + (isfinite(items) ? items : 1e10);
        g[2].q[i] = own;
        g[3].q[i] = own > silent ? own : silent;
    }
}

enum status evaluate_return(const struct rmodel *m, const struct split *s, enum split_kind kind,
                            struct return_eval *ret, struct err *err)
{
    struct return_eval r = { .clock = { 0 } };
    struct return_score *of[METHODS] = { &r.clock, &r.items, &r.median_gap, &r.median_gap_silent };
    uint32_t n_user = s->train.users.n;
    uint64_t n = 0;
    struct work w = { .m = m, .s = s };
    bool ok = (w.user = calloc(n_user + (size_t)1, sizeof *w.user)) &&
              (w.gap = calloc(s->train.n + 1, sizeof *w.gap)) &&
              (w.truth = calloc(n_user + (size_t)1, sizeof *w.truth));
    for (int i = 0; ok && i < METHODS; i++)
        ok = (w.error[i] = calloc(n_user + (size_t)1, sizeof *w.error[i])) &&
             (w.ln[i] = calloc(n_user + (size_t)1, sizeof *w.ln[i]));
    if (!ok)
        err_set(err, ST_NOMEM, "return times");
    else if (live_open(m, &w.l, err) == ST_OK && live_replay(w.l, &s->train, err) == ST_OK) {
        collect(&w);
        double end = s->train.time[s->train.n - 1];
        for (uint32_t u = 0; u < n_user; u++) {
            struct guess g[METHODS];
            if (isnan(w.user[u].next) || !w.user[u].n)
                continue;
            w.truth[n++] = w.user[u].next - w.user[u].last;
            guesses(&w, u, kind == SPLIT_GLOBAL ? end - w.user[u].last : 0, g);
            for (int i = 0; i < METHODS; i++)
                score(of[i], w.error[i], w.ln[i], &g[i], w.truth[n - 1]);
        }
        qsort(w.truth, n, sizeof *w.truth, by_value);
        for (int i = 0; i < METHODS; i++) {
            finish(of[i], w.error[i], w.ln[i]);
            of[i]->true_median_s = n ? w.truth[n / 2] : 0;
        }
        *ret = r;
    }
    live_close(w.l);
    free(w.user);
    free(w.gap);
    free(w.truth);
    for (int i = 0; i < METHODS; i++) {
        free(w.error[i]);
        free(w.ln[i]);
    }
    return err->code;
}
