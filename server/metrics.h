/* server/metrics.h - counters of the HTTP side. Any thread. */
#ifndef STROBE_SERVER_METRICS_H
#define STROBE_SERVER_METRICS_H

#include "engine/base/buf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { HIST_BUCKETS = 15, RECENT = 512, ERRORS_KEPT = 10, RETRY_MAX_S = 60 };

/* Seconds; upper bounds in metrics.c. */
struct histogram {
    atomic_ullong bucket[HIST_BUCKETS + 1];
    atomic_ullong sum_us;
};

struct metrics {
    atomic_ullong by_class[6]; /* replies by status / 100 */
    atomic_ullong rejected_busy, cancelled_by_client, connections, connections_now;
    /* to_socket: from an event's first byte put until it is handed to the socket */
    struct histogram first_token, per_token, queue_wait, duration, to_socket;
    struct histogram recommend; /* within the handler */
    pthread_mutex_t lock;       /* guards the rest */
    double recent_wait_s;       /* for a slot: each new one counts a quarter */
    float recent_first_ms[RECENT];
    uint64_t n_recent;
    struct kept_error {
        int64_t unix_s;
        int status;
        char text[160];
    } errors[ERRORS_KEPT];
    uint64_t n_errors;
};

void metrics_init(struct metrics *m);
void metrics_reply(struct metrics *m, int status, struct str error_message);
void metrics_time(struct histogram *h, double seconds);
void metrics_first_token(struct metrics *m, double seconds);
/* Quantile q of the recent times to first token, milliseconds; NaN: none yet. */
double metrics_first_ms(struct metrics *m, double q);
void metrics_queue_wait(struct metrics *m, double seconds);
/* When to come back to a full queue, seconds, 1 to 60: as long as those before waited of late. */
unsigned metrics_retry_s(struct metrics *m);
/* One sample of a family of one, "strobe_" before the name. */
void metrics_family(struct buf *out, const char *name, const char *type, const char *help,
                    double v);
void metrics_histogram(struct buf *out, const char *name, const char *help, struct histogram *h);

#endif
