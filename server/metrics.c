/* server/metrics.c - see metrics.h. */
#include "server/metrics.h"

#include "engine/base/clock.h"

#include <math.h>
#include <stdlib.h>

static const double bounds[HIST_BUCKETS] = { 0.00005, 0.0001, 0.00025, 0.0005, 0.001,
                                             0.0025,  0.005,  0.01,    0.025,  0.05,
                                             0.1,     0.5,    1,       5,      30 };

void metrics_init(struct metrics *m)
{
    pthread_mutex_init(&m->lock, NULL);
}

void metrics_reply(struct metrics *m, int status, struct str error_message)
{
    atomic_fetch_add(&m->by_class[status / 100 < 6 ? status / 100 : 0], 1);
    if (status < 400 || error_message.n == 0)
        return;
    pthread_mutex_lock(&m->lock);
    struct kept_error *e = &m->errors[m->n_errors++ % ERRORS_KEPT];
    e->unix_s = clock_unix_s();
    e->status = status;
    snprintf(e->text, sizeof e->text, "%.*s", (int)error_message.n, error_message.p);
    pthread_mutex_unlock(&m->lock);
}

void metrics_time(struct histogram *h, double seconds)
{
    int i = 0;
    while (i < HIST_BUCKETS && seconds > bounds[i])
        i++;
    atomic_fetch_add(&h->bucket[i], 1);
    atomic_fetch_add(&h->sum_us, (unsigned long long)(seconds * 1e6));
}

void metrics_first_token(struct metrics *m, double seconds)
{
    metrics_time(&m->first_token, seconds);
    pthread_mutex_lock(&m->lock);
    m->recent_first_ms[m->n_recent++ % RECENT] = (float)(seconds * 1e3);
    pthread_mutex_unlock(&m->lock);
}

void metrics_queue_wait(struct metrics *m, double seconds)
{
    metrics_time(&m->queue_wait, seconds);
    pthread_mutex_lock(&m->lock);
    m->recent_wait_s += (seconds - m->recent_wait_s) / 4;
    pthread_mutex_unlock(&m->lock);
}

unsigned metrics_retry_s(struct metrics *m)
{
    pthread_mutex_lock(&m->lock);
    double s = ceil(m->recent_wait_s);
    pthread_mutex_unlock(&m->lock);
    return s < 1 ? 1 : s > RETRY_MAX_S ? RETRY_MAX_S : (unsigned)s;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double metrics_first_ms(struct metrics *m, double q)
{
    float v[RECENT];
    pthread_mutex_lock(&m->lock);
    size_t n = m->n_recent < RECENT ? (size_t)m->n_recent : RECENT;
    memcpy(v, m->recent_first_ms, n * sizeof *v);
    pthread_mutex_unlock(&m->lock);
    if (n == 0)
        return (double)NAN;
    qsort(v, n, sizeof *v, by_value);
    return (double)v[(size_t)(q * (double)(n - 1) + 0.5)];
}

void metrics_histogram(struct buf *out, const char *name, const char *help, struct histogram *h)
{
    unsigned long long total = 0;
    buf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (int i = 0; i < HIST_BUCKETS; i++) {
        total += atomic_load(&h->bucket[i]);
        buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], total);
    }
    total += atomic_load(&h->bucket[HIST_BUCKETS]);
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name, total, name,
               (double)atomic_load(&h->sum_us) / 1e6, name, total);
}

void metrics_family(struct buf *b, const char *name, const char *type, const char *help, double v)
{
    buf_printf(b, "# HELP strobe_%s %s\n# TYPE strobe_%s %s\nstrobe_%s %.17g\n", name, help, name,
               type, name, v);
}
