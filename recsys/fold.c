/* recsys/fold.c - see fold.h. Doubles throughout: it is local work, tens of microseconds. */
#include "recsys/fold.h"

#include "recsys/trace.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 10 };

/* One event, or several at one time on one item, ready for the sweep. */
struct row {
    double t;
    uint32_t item, feature[2];
    unsigned n_feature;
    float weight;
    uint32_t order; /* in the caller's list */
    bool inside;    /* within the exposure */
    double gap;     /* units since the event before on the item, -1 none */
    double kernel[RSCALES_MAX];
};

struct fold {
    const struct rmodel *m;
    struct row *row;
    size_t n;
    size_t n_theta;                     /* n_feat * stride */
    double *shape, *rate, *log_, *mean; /* [n_theta] */
    double *exposed;                    /* [n_theta]: sum of exposure x item sums, of the rate */
    double *beta;                       /* [stride]: of the event in hand */
    double tau[RSCALES_MAX], tau_log[RSCALES_MAX], tau_count[RSCALES_MAX], tail[RSCALES_MAX];
    double eta, each; /* each: units of exposure of an event, by activity */
};

void folded_clear(struct folded *f)
{
    free(f->theta);
    f->theta = NULL;
}

/* exp(digamma(x)) by the asymptotic series behind x + 6; x > 0 (relative error 2e-9). */
static double exp_digamma(double x)
{
    double z = x + 6, r = 0, y = 1 / (z * z);
    for (int i = 0; i < 6; i++)
        r += 1 / (x + i);
    return z * exp(-(0.5 / z + y * (1.0 / 12 - y * (1.0 / 120 - y / 252))) - r);
}

static int by_item_and_time(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    if (x->t != y->t)
        return x->t < y->t ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Integral of an event's kernel; one that only the last event keeps ends with the next. */
static void add_tail(struct fold *f, const struct row *r, double end, double next)
{
    const struct rmodel *m = f->m;
    struct rtrace one = { .t = r->t };
    rtrace_add(m, &one, (double)r->weight, 0);
    for (uint32_t s = 0; s < m->n_scale; s++) {
        double until = m->scale[s].last_only && next < end ? next : end;
        f->tail[s] += rtrace_integral(m, &one, s, (until - one.t) / m->unit_s);
    }
}

/* Kernel values do not depend on the parameters: once. Equal times do not excite each other. */
static void set_kernels(struct fold *f, double end)
{
    const struct rmodel *m = f->m;
    struct rtrace tr = { 0 };
    for (size_t i = 0, j; i < f->n; i = j) {
        bool fresh = i == 0 || f->row[i].item != f->row[i - 1].item;
        if (fresh)
            tr = (struct rtrace){ .t = f->row[i].t };
        rtrace_decay(m, &tr, f->row[i].t);
        for (j = i; j < f->n && f->row[j].item == f->row[i].item && f->row[j].t == f->row[i].t; j++)
            for (uint32_t s = 0; s < m->n_scale; s++)
                f->row[j].kernel[s] = rtrace_kernel(m, &tr, s);
        for (size_t k = i; k < j; k++) {
            bool more = k + 1 < f->n && f->row[k + 1].item == f->row[k].item;
            rtrace_add(m, &tr, (double)f->row[k].weight, 0);
            f->row[k].gap = k > i ? 0 : fresh ? -1 : (f->row[k].t - f->row[k - 1].t) / m->unit_s;
            if (!m->activity)
                add_tail(f, &f->row[k], end, more ? f->row[k + 1].t : end);
        }
    }
}

static int by_time(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    return (x->t > y->t) - (x->t < y->t);
}

/* One more event in the sum over all items. */
static void activity_add(const struct rmodel *m, struct rtrace *all, const struct row *r)
{
    for (uint32_t s = 0; s < m->n_scale; s++) {
        double d = m->scale[s].last_only && r->gap >= 0 ? exp(-m->scale[s].w * r->gap) : 0;
        if (d > 0) { /* the event before on the item no longer counts */
            all->s0[s] -= d;
            all->s1[s] -= r->gap * d;
        }
        all->s0[s] += m->scale[s].last_only ? 1 : (double)r->weight;
    }
}

/* The measure of activity (fit.h): the exposure is spread over the user's own events; rows are in
 * order of time from here on. */
static void set_activity(struct fold *f, double exposure)
{
    const struct rmodel *m = f->m;
    size_t inside = 0;
    qsort(f->row, f->n, sizeof *f->row, by_time);
    struct rtrace all = { .t = f->n ? f->row[0].t : 0 };
    for (size_t i = 0; i < f->n; i++)
        inside += f->row[i].inside;
    double each = f->each = inside ? exposure / (double)inside : 0;
    for (size_t i = 0, j; i < f->n; i = j) {
        if (f->row[i].t > f->row[0].t)
            rtrace_decay(m, &all, f->row[i].t);
        for (j = i; j < f->n && f->row[j].t == f->row[i].t; j++)
            for (uint32_t s = 0; f->row[j].inside && s < m->n_scale; s++)
                f->tail[s] += each * rtrace_kernel(m, &all, s);
        for (size_t k = i; k < j; k++)
            activity_add(m, &all, &f->row[k]);
    }
}

/* Units of the exposure in which feature pairs (i, j) are both active, times the item sums. */
static void expose(struct fold *f, double start, double end)
{
    const struct rmodel *m = f->m;
    uint32_t at[2];
    for (size_t x = 0; m->activity && (m->terms & RT_CALENDAR) && x < f->n; x++)
        for (unsigned i = 0; f->row[x].inside && i < 2; i++)
            for (unsigned j = 0; j < 2; j++)
                for (uint32_t k = 0; k < m->k; k++)
                    f->exposed[(size_t)f->row[x].feature[i] * m->stride + k] +=
                        f->each * m->beta_sum[(size_t)f->row[x].feature[j] * m->stride + k];
    if (m->activity && (m->terms & RT_CALENDAR))
        return;
    for (double t = start; t < end;) {
        unsigned n = rmodel_features(m, t, at);
        double step = n > 1 ? calendar_to_next(&m->zone, t) : end - t;
        double units = (step < end - t ? step : end - t) / m->unit_s;
        for (unsigned i = 0; i < n; i++)
            for (unsigned j = 0; j < n; j++)
                for (uint32_t k = 0; k < m->k; k++)
                    f->exposed[(size_t)at[i] * m->stride + k] +=
                        units * m->beta_sum[(size_t)at[j] * m->stride + k];
        t += step;
    }
}

/* The sum of the item's active rows. */
static void load_beta(struct fold *f, const struct row *r)
{
    const struct rmodel *m = f->m;
    for (uint32_t k = 0; k < m->k; k++)
        f->beta[k] = 0;
    for (unsigned j = 0; j < r->n_feature; j++) {
        const float *b = m->beta_log + ((size_t)r->item * m->n_feat + r->feature[j]) * m->stride;
        for (uint32_t k = 0; k < m->k; k++)
            f->beta[k] += (double)b[k];
    }
}

/* Attribution of one event to its causes. */
static void attribute(struct fold *f, const struct row *r)
{
    const struct rmodel *m = f->m;
    double z = 0;
    load_beta(f, r);
    for (unsigned i = 0; i < r->n_feature; i++)
        for (uint32_t k = 0; k < m->k; k++)
            z += f->log_[(size_t)r->feature[i] * m->stride + k] * f->beta[k];
    if (m->terms & RT_SELF)
        for (uint32_t s = 0; s < m->n_scale; s++)
            z += f->tau_log[s] * r->kernel[s];
    if (!(z > 0))
        return;
    for (unsigned i = 0; i < r->n_feature; i++)
        for (uint32_t k = 0; k < m->k; k++) {
            size_t at = (size_t)r->feature[i] * m->stride + k;
            f->shape[at] += f->log_[at] * f->beta[k] / z;
        }
    if (m->terms & RT_SELF)
        for (uint32_t s = 0; s < m->n_scale; s++)
            f->tau_count[s] += f->tau_log[s] * r->kernel[s] / z;
}

static double update(double *slot, double now)
{
    double was = *slot, big = fabs(now) > 1e-12 ? fabs(now) : 1e-12;
    *slot = now;
    return fabs(now - was) / big;
}

/* One round; the largest relative change of a mean. */
static double sweep(struct fold *f)
{
    const struct rmodel *m = f->m;
    double change = 0, sum = 0;
    for (size_t i = 0; i < f->n_theta; i++)
        f->shape[i] = m->a_theta;
    memset(f->tau_count, 0, sizeof f->tau_count);
    for (size_t i = 0; i < f->n; i++)
        if (f->row[i].inside)
            attribute(f, &f->row[i]);
    for (uint32_t i = 0; i < m->n_feat; i++)
        for (uint32_t k = 0; k < m->k; k++) {
            size_t at = (size_t)i * m->stride + k;
            f->rate[at] = f->eta + f->exposed[at];
            double c = update(&f->mean[at], f->shape[at] / f->rate[at]);
            change = c > change ? c : change;
            f->log_[at] = exp_digamma(f->shape[at]) / f->rate[at];
            sum += f->mean[at];
        }
    if (m->terms & RT_GAMMA_RATES)
        f->eta = (m->a_hyper + m->a_theta * m->k * m->n_feat) / (m->b_hyper + sum);
    for (uint32_t s = 0; (m->terms & RT_SELF) && s < m->n_scale; s++) {
        double shape = m->a_tau + f->tau_count[s], rate = m->tau_rate[s] + f->tail[s];
        double c = update(&f->tau[s], shape / rate);
        change = c > change ? c : change;
        f->tau_log[s] = exp_digamma(shape) / rate;
    }
    return change;
}

double fold_mean_eta(const struct rmodel *m)
{
    double sum = 0;
    for (uint32_t u = 0; u < m->n_user; u++)
        sum += m->eta[u];
    return m->n_user && sum > 0 ? sum / m->n_user : 1;
}

static void begin(struct fold *f, const struct fold_opts *o)
{
    const struct rmodel *m = f->m;
    expose(f, o->start_s, o->end_s);
    f->eta = o->eta > 0 ? o->eta : fold_mean_eta(m);
    for (uint32_t i = 0; i < m->n_feat; i++)
        for (uint32_t k = 0; k < m->k; k++) {
            size_t at = (size_t)i * m->stride + k;
            /* all of the events in the base, evenly */
            double shape = m->a_theta + (double)f->n / m->k;
            f->mean[at] = shape / (f->eta + f->exposed[at]);
            f->log_[at] = exp_digamma(shape) / (f->eta + f->exposed[at]);
        }
    for (uint32_t s = 0; (m->terms & RT_SELF) && s < m->n_scale; s++) {
        f->tau[s] = m->a_tau / m->tau_rate[s];
        f->tau_log[s] = exp_digamma(m->a_tau) / m->tau_rate[s];
    }
}

static bool make_room(struct fold *f, size_t n)
{
    size_t bytes = f->n_theta * sizeof(double);
    f->row = calloc(n + 1, sizeof *f->row);
    f->shape = calloc(1, bytes);
    f->rate = calloc(1, bytes);
    f->log_ = calloc(1, bytes);
    f->mean = calloc(1, bytes);
    f->exposed = calloc(1, bytes);
    f->beta = calloc(f->m->stride, sizeof *f->beta);
    return f->row && f->shape && f->rate && f->log_ && f->mean && f->exposed && f->beta;
}

static void clear(struct fold *f)
{
    free(f->row);
    free(f->shape);
    free(f->rate);
    free(f->log_);
    free(f->mean);
    free(f->exposed);
    free(f->beta);
}

enum status fold_user(const struct rmodel *m, const struct fold_event *ev, size_t n,
                      const struct fold_opts *o, struct folded *ret, struct err *err)
{
    struct fold f = { .m = m, .n = n, .n_theta = (size_t)m->n_feat * m->stride };
    unsigned most = o->rounds ? o->rounds : ROUNDS, round = 0;
    double tolerance = o->tolerance > 0 ? o->tolerance : 1e-4;
    float *theta = aligned_alloc(64, f.n_theta * sizeof *theta);
    if (!theta || !make_room(&f, n)) {
        free(theta);
        clear(&f);
        return err_set(err, ST_NOMEM, "fold-in of a user");
    }
    for (size_t i = 0; i < n; i++) {
        struct row *r = &f.row[i];
        *r = (struct row){ .t = ev[i].t, .item = ev[i].item, .weight = ev[i].weight };
        r->order = (uint32_t)i;
        r->inside = ev[i].t >= o->start_s && ev[i].t <= o->end_s;
        r->n_feature = rmodel_features(m, r->t, r->feature);
    }
    qsort(f.row, n, sizeof *f.row, by_item_and_time);
    set_kernels(&f, o->end_s);
    if (m->activity)
        set_activity(&f, (o->end_s - o->start_s) / m->unit_s);
    begin(&f, o);
    while (round < most && (round++, sweep(&f) > tolerance))
        ;
    *ret = (struct folded){ .theta = theta, .eta = f.eta, .rounds = round };
    for (size_t i = 0; i < f.n_theta; i++)
        theta[i] = (float)f.mean[i];
    for (uint32_t s = 0; s < m->n_scale; s++)
        ret->tau[s] = (float)f.tau[s];
    clear(&f);
    return ST_OK;
}
