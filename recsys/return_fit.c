/* recsys/return_fit.c - fitting the users' clocks, and the choice between them and the items'
 * rates; see return_time.h. */
#include "recsys/return_time.h"

#include <math.h>
#include <stdlib.h>

/* Gaps of all users, user by user. */
struct gaps {
    uint64_t *ptr; /* [n_user + 1] */
    double *s;     /* seconds, > 0 */
};

static void gaps_clear(struct gaps *g)
{
    free(g->ptr);
    free(g->s);
}

/* Equal times are one visit. */
static enum status gaps_of(const struct rs_events *ev, uint32_t n_user, struct gaps *g,
                           struct err *err)
{
    double *last = malloc((n_user + (size_t)1) * sizeof *last);
    uint64_t *at = calloc(n_user + (size_t)2, sizeof *at);
    g->ptr = calloc(n_user + (size_t)2, sizeof *g->ptr);
    g->s = calloc(ev->n + 1, sizeof *g->s);
    if (!last || !at || !g->ptr || !g->s) {
        err_set(err, ST_NOMEM, "gaps");
        goto done;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t u = 0; u < n_user; u++)
            last[u] = (double)NAN;
        for (uint64_t i = 0; i < ev->n; i++) {
            uint32_t u = ev->user[i];
            double gap = ev->time[i] - last[u];
            last[u] = ev->time[i];
            if (!(gap > 0))
                continue;
            if (pass == 0)
                g->ptr[u + 1]++;
            else
                g->s[at[u]++] = gap;
        }
        for (uint32_t u = 0; pass == 0 && u < n_user; u++) {
            g->ptr[u + 1] += g->ptr[u];
            at[u + 1] = g->ptr[u + 1];
        }
    }
done:
    free(last);
    free(at);
    return err->code;
}

static uint32_t length_of(const struct rmodel *m, double gap_s)
{
    double step = m->clock_ln[1] - m->clock_ln[0], x = (log(gap_s) - m->clock_ln[0]) / step;
    return x < 0 ? 0 : x > m->n_clock - 1 ? m->n_clock - 1 : (uint32_t)(x + 0.5);
}

void rclock_gap(const struct rmodel *m, float *count, uint32_t *last, double gap_s)
{
    if (!(gap_s > 0))
        return;
    *last = length_of(m, gap_s);
    for (uint32_t c = 0; c < m->n_clock; c++)
        count[c] *= (float)m->clock_keep;
    count[*last] += 1;
}

static void spread_lengths(struct rmodel *m, const struct gaps *g)
{
    double lo = (double)INFINITY, hi = 0;
    for (uint64_t i = 0; i < g->ptr[m->n_user]; i++) {
        lo = g->s[i] < lo ? g->s[i] : lo;
        hi = g->s[i] > hi ? g->s[i] : hi;
    }
    lo = lo < hi ? (lo > hi * 1e-9 ? lo : hi * 1e-9) : 1;
    hi = hi > lo ? hi : lo * 2;
    double step = log(hi / lo) / (m->n_clock - 1);
    for (uint32_t c = 0; c < m->n_clock; c++)
        ((double *)m->clock_ln)[c] = log(lo) + step * c;
    m->clock_width = 0.6 * step;
}

/* What follows a gap of each length, in all users; the last row: the first gap. */
static void count_next(struct rmodel *m, const struct gaps *g)
{
    float *next = (float *)m->clock_next;
    uint32_t n = m->n_clock;
    for (uint64_t i = 0; i < ((uint64_t)n + 1) * n; i++)
        next[i] = 0.1F / (float)n;
    for (uint32_t u = 0; u < m->n_user; u++)
        for (uint64_t i = g->ptr[u]; i < g->ptr[u + 1]; i++) {
            uint32_t c = length_of(m, g->s[i]);
            uint32_t before = i > g->ptr[u] ? length_of(m, g->s[i - 1]) : n;
            next[(uint64_t)before * n + c] += 1;
            next[(uint64_t)n * n + c] += 1; /* users without a gap yet: any gap */
        }
    for (uint32_t b = 0; b <= n; b++) {
        float sum = 0;
        for (uint32_t c = 0; c < n; c++)
            sum += next[(uint64_t)b * n + c];
        for (uint32_t c = 0; c < n; c++)
            next[(uint64_t)b * n + c] /= sum;
    }
}

/* Mean log probability of each user's last fifth of gaps, by length. */
static double score(const struct rmodel *m, const struct gaps *g)
{
    double sum = 0;
    uint64_t n = 0;
    for (uint32_t u = 0; u < m->n_user; u++) {
        float count[RCLOCK_LENGTHS] = { 0 };
        uint32_t last = m->n_clock;
        uint64_t from = g->ptr[u], end = g->ptr[u + 1], tail = from + (end - from) * 4 / 5;
        for (uint64_t i = from; i < end; i++) {
            double all = 0, mine = 0;
            uint32_t c = length_of(m, g->s[i]);
            for (uint32_t k = 0; i >= tail && k < m->n_clock; k++) {
                double w = (double)count[k] +
                           m->clock_prior * (double)m->clock_next[(uint64_t)last * m->n_clock + k];
                all += w;
                mine += k == c ? w : 0;
            }
            if (i >= tail) {
                sum += log(mine / all);
                n++;
            }
            rclock_gap(m, count, &last, g->s[i]);
        }
    }
    return n ? sum / (double)n : 0;
}

static void choose_settings(struct rmodel *m, const struct gaps *g)
{
    static const double prior[] = { 1, 2, 4, 8, 16, 32 }, keep[] = { 0.8, 0.9, 0.95, 0.98, 1 };
    double best = -(double)INFINITY, p = 4, k = 0.98;
    for (size_t i = 0; i < sizeof prior / sizeof prior[0]; i++)
        for (size_t j = 0; j < sizeof keep / sizeof keep[0]; j++) {
            m->clock_prior = prior[i];
            m->clock_keep = keep[j];
            double s = score(m, g);
            if (s > best) {
                best = s;
                p = prior[i];
                k = keep[j];
            }
        }
    m->clock_prior = p;
    m->clock_keep = k;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, uint64_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n ? v[n / 2] : (double)INFINITY;
}

/* Both predict every user's last gap at the event before it; the median absolute error decides. */
static enum status judge(struct rmodel *m, const struct rs_events *ev, const struct gaps *g,
                         struct err *err)
{
    struct live *l = NULL;
    uint64_t *before = calloc(m->n_user + (size_t)1, sizeof *before), n = 0;
    double *a = malloc((m->n_user + (size_t)1) * sizeof *a);
    double *b = malloc((m->n_user + (size_t)1) * sizeof *b);
    if (!before || !a || !b) {
        err_set(err, ST_NOMEM, "choice of clocks");
        goto done;
    }
    if (live_open(m, &l, err) != ST_OK)
        goto done;
    for (uint64_t i = 0; i < ev->n && err->code == ST_OK; i++) {
        uint32_t u = ev->user[i];
        uint64_t gaps = g->ptr[u + 1] - g->ptr[u];
        live_add(l, u, ev->item[i], ev->time[i], 1, err);
        if (gaps < 2 || ++before[u] == 0)
            continue;
        double gap = g->s[g->ptr[u + 1] - 1];
        bool is_it = ev->time[i] + gap == m->last_s[u] ||
                     fabs(ev->time[i] + gap - m->last_s[u]) < 1e-6 * gap;
        if (!is_it || before[u] > UINT64_MAX / 2)
            continue;
        before[u] = UINT64_MAX / 2; /* once */
        float count[RCLOCK_LENGTHS] = { 0 };
        uint32_t last = m->n_clock;
        for (uint64_t j = g->ptr[u]; j + 1 < g->ptr[u + 1]; j++)
            rclock_gap(m, count, &last, g->s[j]);
        a[n] = fabs(return_by_items(l, m, u, ev->time[i], 0.5) - gap);
        b[n++] = fabs(return_by_row(m, count, last, 0, 0.5) - gap);
    }
    m->loss_items = n ? median(a, n) : 0;
    m->loss_clock = n ? median(b, n) : 0;
    m->loss_items = isfinite(m->loss_items) ? m->loss_items : 1e300;
    m->clock_wins = m->loss_clock <= m->loss_items;
done:
    live_close(l);
    free(before);
    free(a);
    free(b);
    return err->code;
}

enum status rclock_fit(struct rmodel *m, const struct rs_events *ev, struct err *err)
{
    struct gaps g = { 0 };
    if (!m->n_clock)
        return ST_OK;
    if (gaps_of(ev, m->n_user, &g, err) != ST_OK)
        goto done;
    spread_lengths(m, &g);
    count_next(m, &g);
    choose_settings(m, &g);
    for (uint32_t u = 0; u < m->n_user; u++) {
        ((uint32_t *)m->clock_last)[u] = m->n_clock;
        for (uint64_t i = g.ptr[u]; i < g.ptr[u + 1]; i++)
            rclock_gap(m, (float *)m->clock_count + (uint64_t)u * m->n_clock,
                       (uint32_t *)m->clock_last + u, g.s[i]);
    }
    judge(m, ev, &g, err);
done:
    gaps_clear(&g);
    return err->code;
}
