/* eval/runner.h - works through a run: leases samples, asks the backend, scores and stores the
 * answers, until nothing is left or something says stop. May be killed at any moment: what was
 * stored is never asked again, what was in flight is.
 *
 * Threads: the caller's drives the backend; a writer thread owns the store (runner_writer.c).
 *   store --lease--> ready queue --ask--> backend --reply--> done queue --score, commit--> store
 *                         ^------------ retry, later ----------'                              */
#ifndef STROBE_EVAL_RUNNER_H
#define STROBE_EVAL_RUNNER_H

#include "eval/backend.h"
#include "eval/pace.h"
#include "eval/run_store.h"

#include <stdatomic.h>

struct run_limits {                       /* 0: none */
    int64_t max_requests, max_tokens;     /* of this run in all, earlier sessions included */
    double max_seconds;                   /* of this session */
    double max_cost, price_in, price_out; /* price of a million tokens */
};

struct run_progress {
    struct run_counts counts;          /* done, failed, correct, tokens: kept while it runs */
    double seconds, per_second, eta_s; /* of this session; eta NAN: unknown */
    double cost;
    uint32_t in_flight, window;
    uint64_t retries, writer_lag_us; /* lag: how long the oldest answer waited to be stored */
    uint64_t prefix_tokens, prefill_tokens;
    const char *problem; /* the last thing that went wrong, "" */
    const char *waits;   /* what the store is waited for, at most patience_ms; NULL: it is well */
};

struct runner_opts {
    struct run_store *store; /* the writer's while it runs; give no other thread access */
    const char *run;         /* id; its state must be ready, running, paused or cancelled */
    struct backend *backend;
    enum extract_profile profile;
    struct run_limits limits;
    struct pace_opts pace;
    uint32_t attempts;     /* per item; 0: 8 */
    uint32_t outage_after; /* failures in a row, nothing between; 0: 12 */
    uint32_t outage_ms;    /* and for so long, where it has answered before; 0: 60 s */
    uint32_t backoff_ms;   /* of the first retry, doubled each time, to 60 s; 0: 500 */
    uint32_t patience_ms;  /* for a locked or full store; 0: 600 s */
    const char *where;     /* what is asked, for messages: "the engine", a URL */
    atomic_int *stop;      /* 0: go on; 1: finish what is in flight; 2: drop it. NULL: never */
    void (*progress)(void *ctx, const struct run_progress *p); /* at most 10 times a second */
    void *ctx;
};

enum run_ending {
    RUN_ENDED_DONE,    /* nothing is left */
    RUN_ENDED_STOPPED, /* o->stop */
    RUN_ENDED_ASKED,   /* somebody paused or cancelled it in the store */
    RUN_ENDED_BUDGET,
    RUN_ENDED_OUTAGE, /* nobody answers, or no question can be answered: note says why */
    RUN_ENDED_OTHERS  /* nothing is left for us, other runners still work on it */
};

/* *note: one sentence for people. Errors: the store's after o->patience_ms, ST_NOMEM; samples that
 * were leased are free again then. */
enum status runner_run(const struct runner_opts *o, enum run_ending *ret, struct run_progress *last,
                       char note[ERR_MSG_MAX], struct err *err);

/* Scores all finished samples of a run anew. The model is not asked. *changed: samples whose
 * verdict by the run's profile became another. */
enum status runner_rescore(struct run_store *store, const char *run, enum extract_profile profile,
                           int64_t *scored, int64_t *changed, struct err *err);

#endif
