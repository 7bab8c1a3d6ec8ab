/* eval/run_store.h - where runs, samples, attempts and scores live: SQLite in the data directory by
 * default, PostgreSQL by URL when several machines work on one queue. One SQL text for both
 * (run_store.c) over a thin database interface (db.h).
 *
 * What a call acknowledged survives kill -9. A sample is leased before it is asked and written only
 * by the owner of its lease; attempts are only ever added. A lease runs out, and one whose process
 * on this machine is gone is void at once. Owner: one thread per handle; calls may wait for the
 * disk, the network or another program's lock. Open a handle per thread.
 *
 * Errors of all calls where they apply: ST_TIMEOUT (locked), ST_FULL (disk), ST_FORMAT (damaged, or
 * another program's file), ST_UNSUPPORTED (newer schema, unknown URL), ST_IO, ST_NOMEM. */
#ifndef STROBE_EVAL_RUN_STORE_H
#define STROBE_EVAL_RUN_STORE_H

#include "eval/run.h"

struct run_store; /* opaque */

struct run_store_opts {
    const char *url;  /* NULL: "evals.db" in dir; sqlite:FILE; postgres://... or postgresql://... */
    const char *dir;  /* data directory, exists */
    uint32_t wait_ms; /* for other programs' locks; 0: 10000 */
};
enum status run_store_open(const struct run_store_opts *o, struct run_store **ret, struct err *err);
void run_store_close(struct run_store *s); /* NULL is fine; our leases are given back */

/* Is it a server that several machines share? */
bool run_store_shared(const struct run_store *s);

/* ---- reading: what reports and screens need ---- */

/* id: the run's, or its name, or "latest". ST_NOTFOUND. */
enum status run_store_get(struct run_store *s, const char *id, struct run_row *ret,
                          struct err *err);
struct run_list {
    struct run_row *row;
    size_t n;
    bool more;
};
void run_list_clear(struct run_list *l);
/* Newest first, behind run `after` (NULL: from the newest). ST_NOTFOUND: no run `after`. */
enum status run_store_list(struct run_store *s, const char *after, uint32_t limit,
                           struct run_list *ret, struct err *err);

/* Which samples, and in which order. */
struct sample_query {
    bool by_ord;      /* else canonical order: template, level, variant, instance, repeat, key */
    int64_t after;    /* by_ord: ord greater than this; start with -1 */
    int64_t limit;    /* 0: all */
    int state;        /* enum sample_state, -1: any */
    int klass;        /* enum sample_class, -1: any */
    const char *tmpl; /* NULL: any */
    const char *variant;
    int64_t level; /* SAMPLE_ANY: any */
    bool no_text;  /* question, response, reasoning are "" : for statistics over many */
};
#define SAMPLE_ANY INT64_MIN
#define SAMPLE_QUERY_ALL                                                                           \
    {                                                                                              \
        .after = -1, .state = -1, .klass = -1, .level = SAMPLE_ANY                                 \
    }
/* The row is borrowed for the call; false stops. No call to the same handle from inside. */
typedef bool run_sample_fn(void *ctx, const struct run_sample *row);
/* Streams: memory does not grow with the number of samples. run: an id as in run_row. */
enum status run_store_each(struct run_store *s, const char *run, const struct sample_query *q,
                           run_sample_fn *fn, void *ctx, struct err *err);
/* One sample by ord. ST_NOTFOUND. */
enum status run_store_sample(struct run_store *s, const char *run, int64_t ord, run_sample_fn *fn,
                             void *ctx, struct err *err);
typedef bool run_attempt_fn(void *ctx, const struct run_attempt *row);
/* In the order they were made. ord -1: of all samples. */
enum status run_store_attempts(struct run_store *s, const char *run, int64_t ord,
                               run_attempt_fn *fn, void *ctx, struct err *err);

/* ---- making ---- */

/* A ready run; id is given by the store when row->id is "". No samples yet. */
enum status run_store_create(struct run_store *s, struct run_row *row, struct err *err);
/* Adds pending samples (the item's part of each row; ord is given by the store). Those whose key is
 * known are left as they are, so this may be repeated; *added counts the new ones. A run that was
 * done is ready again when something was added. */
enum status run_store_add(struct run_store *s, const char *run, const struct run_sample *rows,
                          size_t n, int64_t *added, struct err *err);
/* Pending samples of `run` take the answers and scores that samples of run `from` with the same
 * question (content hash) and repeat number have; *n counts them. They cost no attempt and no
 * tokens. Failed ones are not taken. */
enum status run_store_reuse(struct run_store *s, const char *run, const char *from, int64_t *n,
                            struct err *err);
/* The newest run of this identity. ST_NOTFOUND. */
enum status run_store_find(struct run_store *s, const char *identity, struct run_row *ret,
                           struct err *err);
/* Writes those that are not NULL: the manifest (extended by items), limits, learned. */
enum status run_store_update(struct run_store *s, const char *run, const char *manifest,
                             const char *limits, const char *learned, struct err *err);
/* Removes a run and all that belongs to it. ST_BUSY: it is running. */
enum status run_store_delete(struct run_store *s, const char *run, struct err *err);

/* ---- state ---- */

/* Moves the run to `to` when its state is one of the bits 1 << enum run_state in `from`; *moved
 * tells. note NULL: "". */
enum status run_store_move(struct run_store *s, const char *run, unsigned from, enum run_state to,
                           const char *note, bool *moved, struct err *err);
enum status run_store_state(struct run_store *s, const char *run, enum run_state *ret,
                            struct err *err);

/* To done when no sample is left to do; *moved tells. */
enum status run_store_finish(struct run_store *s, const char *run, bool *moved, struct err *err);
/* Gives our leases back; when nobody else holds any, a running run becomes paused with this note.
 */
enum status run_store_leave(struct run_store *s, const char *run, const char *note,
                            struct err *err);

/* ---- working ---- */

enum { RUN_LEASE_MS = 60000, RUN_RENEW_MS = 15000 };
/* Leases up to n pending samples in order of work; fn gets each. *got counts. */
enum status run_store_lease(struct run_store *s, const char *run, int64_t n, run_sample_fn *fn,
                            void *ctx, int64_t *got, struct err *err);
/* Leased samples of processes that are gone, or whose lease ran out, are pending again. Done by
 * itself every few seconds of leasing. */
enum status run_store_reap(struct run_store *s, const char *run, struct err *err);
/* Prolongs our leases. */
enum status run_store_renew(struct run_store *s, const char *run, struct err *err);
/* Gives back our leases (samples are pending again). ord -1: all of them. */
enum status run_store_release(struct run_store *s, const char *run, int64_t ord, struct err *err);

/* What happened to one leased sample: an attempt, and what follows from it. */
struct run_result {
    struct run_attempt attempt; /* ord, all but n */
    /* SAMPLE_DONE: response... and score of `sample` are written. SAMPLE_FAILED: error.
     * SAMPLE_LEASED: it stays ours. SAMPLE_PENDING: given back. */
    enum sample_state to;
    const struct run_sample *sample; /* NULL unless done or failed */
};
/* All in one transaction. Results of samples that are not ours any more only leave their attempt;
 * *late counts them. */
enum status run_store_commit(struct run_store *s, const char *run, const struct run_result *r,
                             size_t n, int64_t *late, struct err *err);
/* Adds scores of a newer extractor version to finished samples; old ones are kept. */
enum status run_store_score(struct run_store *s, const char *run, const struct run_sample *rows,
                            size_t n, struct err *err);

/* The whole state of a run without clocks (created, latency) as JSON Lines in canonical order:
 * what two stores, or a broken and an unbroken run, must agree on byte for byte. Appended. */
enum status run_store_dump(struct run_store *s, const char *run, struct buf *out, struct err *err);

#endif
