/* recsys/evaluate.c - splits, ranks, means and their uncertainty; see evaluate.h. */
#include "recsys/evaluate.h"

#include "engine/base/clock.h"
#include "engine/base/rng.h"

#include <math.h>
#include <stdlib.h>

/* ---- splitting ---- */

enum status split_events(const struct rs_events *ev, enum split_kind kind, double share,
                         struct split *ret, struct err *err)
{
    struct split s = { .dropped = 0 };
    uint32_t *n = calloc(ev->users.n + (size_t)1, sizeof *n);
    uint32_t *k = calloc(ev->users.n + (size_t)1, sizeof *k);
    bool *item = calloc(ev->items.n + (size_t)1, sizeof *item);
    bool *user = calloc(ev->users.n + (size_t)1, sizeof *user);
    bool *train = calloc(ev->n + 1, sizeof *train);
    if (!n || !k || !item || !user || !train) {
        err_set(err, ST_NOMEM, "split");
        goto done;
    }
    if (events_like(ev, &s.train, err) != ST_OK || events_like(ev, &s.test, err) != ST_OK)
        goto done;
    for (uint64_t i = 0; i < ev->n; i++)
        n[ev->user[i]]++;
    for (uint64_t i = 0; i < ev->n; i++) {
        uint32_t u = ev->user[i], early = (uint32_t)((1 - share) * (double)n[u]);
        train[i] = kind == SPLIT_GLOBAL ? (double)i < (1 - share) * (double)ev->n : k[u] < early;
        k[u]++;
        if (train[i])
            user[u] = item[ev->item[i]] = true;
    }
    for (uint64_t i = 0; i < ev->n && err->code == ST_OK; i++) {
        if (train[i])
            events_take(&s.train, ev, i, err);
        else if (user[ev->user[i]] && item[ev->item[i]])
            events_take(&s.test, ev, i, err);
        else
            s.dropped++;
    }
    if (err->code == ST_OK && (!s.train.n || !s.test.n))
        err_set(err, ST_ARG, "a split of %llu events leaves %llu to fit and %llu to test",
                (unsigned long long)ev->n, (unsigned long long)s.train.n,
                (unsigned long long)s.test.n);
done:
    free(n);
    free(k);
    free(item);
    free(user);
    free(train);
    if (err->code != ST_OK) {
        split_clear(&s);
        return err->code;
    }
    *ret = s;
    return ST_OK;
}

void split_clear(struct split *s)
{
    events_clear(&s->train);
    events_clear(&s->test);
}

/* ---- ranks ---- */

static double rank_of(const float *score, uint32_t n, uint32_t item)
{
    uint32_t above = 0, same = 0;
    float s = score[item];
    for (uint32_t p = 0; p < n; p++) {
        above += score[p] > s;
        same += score[p] == s;
    }
    return 1 + above + (same > 0 ? same - 1 : 0) / 2.0;
}

static void count(struct ranking *r, double rank)
{
    r->n++;
    r->recall1 += rank <= 1;
    r->recall5 += rank <= 5;
    r->recall20 += rank <= 20;
    r->ndcg += 1 / log2(1 + rank);
    r->mrr += 1 / rank;
}

static void add(struct ranking *r, const struct ranking *x, double w)
{
    r->n += x->n;
    r->recall1 += w * x->recall1;
    r->recall5 += w * x->recall5;
    r->recall20 += w * x->recall20;
    r->ndcg += w * x->ndcg;
    r->mrr += w * x->mrr;
}

static void mean(struct ranking *r, double n)
{
    double d = n > 0 ? n : 1;
    r->recall1 /= d;
    r->recall5 /= d;
    r->recall20 /= d;
    r->ndcg /= d;
    r->mrr /= d;
}

/* Which (user, item) have been: a sorted list of train pairs, and a mark for those of the test. */
struct pairs {
    uint64_t *key, n;
};

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t key_of(const struct rs_events *ev, uint64_t i)
{
    return (uint64_t)ev->user[i] << 32 | ev->item[i];
}

/* repeat[i]: the user of test event i had its item before. */
static enum status mark_repeats(const struct split *s, bool *repeat, struct err *err)
{
    struct pairs p = { .n = s->train.n };
    uint64_t n = s->test.n;
    uint64_t *order = malloc((n + 1) * 2 * sizeof *order);
    p.key = malloc((p.n + 1) * sizeof *p.key);
    if (!p.key || !order) {
        free(p.key);
        free(order);
        return err_set(err, ST_NOMEM, "repeats");
    }
    for (uint64_t i = 0; i < p.n; i++)
        p.key[i] = key_of(&s->train, i);
    qsort(p.key, p.n, sizeof *p.key, by_key);
    for (uint64_t i = 0; i < n; i++) {
        order[2 * i] = key_of(&s->test, i);
        order[2 * i + 1] = i;
        repeat[i] = bsearch(&order[2 * i], p.key, p.n, sizeof *p.key, by_key) != NULL;
    }
    /* The first test event of a pair keeps its mark, later ones are repeats: by key, then order. */
    qsort(order, n, 2 * sizeof *order, by_key);
    for (uint64_t i = 0; i < n;) {
        uint64_t first = i, least = UINT64_MAX;
        for (; i < n && order[2 * i] == order[2 * first]; i++)
            least = order[2 * i + 1] < least ? order[2 * i + 1] : least;
        for (uint64_t j = first; j < i; j++)
            if (order[2 * j + 1] != least)
                repeat[order[2 * j + 1]] = true;
    }
    free(p.key);
    free(order);
    return ST_OK;
}

/* ---- bootstrap ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void interval(double *v, uint64_t n, double *lo, double *hi)
{
    qsort(v, n, sizeof *v, by_value);
    *lo = v[(uint64_t)(0.025 * (double)(n - 1))];
    *hi = v[(uint64_t)(0.975 * (double)(n - 1))];
}

/* Users are drawn with replacement; each brings all of its events. */
static enum status bootstrap(const struct ranking *user, uint32_t n_user, const struct eval_opts *o,
                             struct verdict *v, struct err *err)
{
    struct rng r = { o->seed };
    double *a = malloc(o->bootstrap * sizeof *a), *b = malloc(o->bootstrap * sizeof *b);
    uint32_t *who = malloc((n_user + (size_t)1) * sizeof *who), n = 0;
    if (!a || !b || !who) {
        err_set(err, ST_NOMEM, "bootstrap");
        goto done;
    }
    for (uint32_t u = 0; u < n_user; u++)
        if (user[u].n)
            who[n++] = u;
    for (uint64_t i = 0; i < o->bootstrap; i++) {
        struct ranking sum = { 0 };
        for (uint32_t j = 0; j < n; j++)
            add(&sum, &user[who[rng_below(&r, n)]], 1);
        a[i] = sum.recall20 / (double)sum.n;
        b[i] = sum.ndcg / (double)sum.n;
    }
    interval(a, o->bootstrap, &v->recall20_lo, &v->recall20_hi);
    interval(b, o->bootstrap, &v->ndcg_lo, &v->ndcg_hi);
done:
    free(a);
    free(b);
    free(who);
    return err->code;
}

enum status paired_difference(const struct user_sum *a, const struct user_sum *b, uint32_t n_user,
                              const struct eval_opts *o, struct paired *ret, struct err *err)
{
    struct rng r = { o->seed };
    struct paired p = { 0 };
    double *x = malloc(o->bootstrap * sizeof *x), *y = malloc(o->bootstrap * sizeof *y), all = 0;
    uint32_t *who = malloc((n_user + (size_t)1) * sizeof *who), n = 0;
    if (!x || !y || !who) {
        err_set(err, ST_NOMEM, "paired bootstrap");
        goto done;
    }
    for (uint32_t u = 0; u < n_user; u++) {
        if (a[u].n != b[u].n) {
            err_set(err, ST_ARG, "two methods were measured on different events");
            goto done;
        }
        all += (double)a[u].n;
        p.recall20 += a[u].recall20 - b[u].recall20;
        p.ndcg += a[u].ndcg - b[u].ndcg;
        if (a[u].n)
            who[n++] = u;
    }
    for (uint64_t i = 0; i < o->bootstrap && n; i++) {
        double events = 0;
        x[i] = y[i] = 0;
        for (uint32_t j = 0; j < n; j++) {
            uint32_t u = who[rng_below(&r, n)];
            events += (double)a[u].n;
            x[i] += a[u].recall20 - b[u].recall20;
            y[i] += a[u].ndcg - b[u].ndcg;
        }
        x[i] /= events;
        y[i] /= events;
    }
    if (n && o->bootstrap) {
        p.recall20 /= all;
        p.ndcg /= all;
        interval(x, o->bootstrap, &p.recall20_lo, &p.recall20_hi);
        interval(y, o->bootstrap, &p.ndcg_lo, &p.ndcg_hi);
    }
    *ret = p;
done:
    free(x);
    free(y);
    free(who);
    return err->code;
}

/* ---- calibration ---- */

static void calibrate(struct calibration *c, const float *score, uint32_t n, uint32_t item)
{
    double sum = 0;
    uint32_t top = 0;
    for (uint32_t p = 0; p < n; p++) {
        sum += (double)score[p];
        top = score[p] > score[top] ? p : top;
    }
    double share = sum > 0 ? (double)score[top] / sum : 0;
    uint32_t bin = (uint32_t)(share * CALIBRATION_BINS);
    bin = bin < CALIBRATION_BINS ? bin : CALIBRATION_BINS - 1;
    c->n[bin]++;
    c->share[bin] += share;
    c->taken[bin] += top == item;
}

static void finish_calibration(struct calibration *c)
{
    uint64_t all = 0;
    for (int b = 0; b < CALIBRATION_BINS; b++) {
        double n = c->n[b] ? (double)c->n[b] : 1;
        c->error += fabs(c->share[b] - c->taken[b]);
        c->share[b] /= n;
        c->taken[b] /= n;
        all += c->n[b];
    }
    c->error /= all ? (double)all : 1;
}

/* ---- all ---- */

static enum status run(struct scorer *m, const struct split *s, const struct eval_opts *o,
                       const bool *repeat, struct ranking *user, float *score, struct verdict *v,
                       struct err *err)
{
    const struct rs_events *t = &s->test;
    for (uint64_t i = 0; i < t->n && err->code == ST_OK; i++) {
        if (o->every < 2 || i % o->every == 0) {
            m->score(m->ctx, t->user[i], t->time[i], score);
            double rank = rank_of(score, t->items.n, t->item[i]);
            if (!(score[t->item[i]] == score[t->item[i]]))
                return err_set(err, ST_DIVERGED, "%s: a score is not a number", m->name);
            count(&v->all, rank);
            calibrate(&v->calibration, score, t->items.n, t->item[i]);
            count(repeat[i] ? &v->repeat : &v->fresh, rank);
            count(&user[t->user[i]], rank);
        }
        if (!o->frozen)
            m->add(m->ctx, t->user[i], t->item[i], t->time[i], err);
        if (o->progress && i % 1024 == 0)
            o->progress(o->progress_ctx, m->name, i, t->n);
    }
    return err->code;
}

enum status evaluate(struct scorer *m, const struct split *s, const struct eval_opts *o,
                     struct verdict *ret, struct err *err)
{
    struct verdict v = { .seconds = 0 };
    uint64_t from = clock_ns();
    uint32_t n_user = s->test.users.n, active = 0;
    bool *repeat = calloc(s->test.n + 1, sizeof *repeat);
    struct ranking *user = calloc(n_user + (size_t)1, sizeof *user);
    float *score = malloc((s->test.items.n + (size_t)1) * sizeof *score);
    if (!repeat || !user || !score) {
        err_set(err, ST_NOMEM, "evaluation");
        goto done;
    }
    if (mark_repeats(s, repeat, err) != ST_OK ||
        run(m, s, o, repeat, user, score, &v, err) != ST_OK ||
        (o->bootstrap && bootstrap(user, n_user, o, &v, err) != ST_OK))
        goto done;
    for (uint32_t u = 0; o->user && u < n_user; u++)
        o->user[u] = (struct user_sum){ user[u].n, user[u].recall20, user[u].ndcg };
    for (uint32_t u = 0; u < n_user; u++)
        if (user[u].n) {
            add(&v.user, &user[u], 1 / (double)user[u].n);
            active++;
        }
    mean(&v.user, active);
    v.user.n = active;
    finish_calibration(&v.calibration);
    mean(&v.all, (double)v.all.n);
    mean(&v.repeat, (double)v.repeat.n);
    mean(&v.fresh, (double)v.fresh.n);
    v.seconds = clock_ms_since(from) / 1000;
    *ret = v;
done:
    free(repeat);
    free(user);
    free(score);
    return err->code;
}
