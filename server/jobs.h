/* server/jobs.h - long work: queued in the store, run by workers, watched over event streams,
 * cancelled, and gone on with after a crash of the job or of the server.
 *
 *   queued --worker free--> running --> done | failed | cancelled
 *     ^                       |
 *     +--server stops---------+     a job's process that a signal killed runs again from its last
 *     |                             checkpoint; three attempts in a row without progress fail it
 *     +--JOBS_RESUME---------- failed | cancelled: from the last checkpoint too
 *
 * Threads: the keeper owns the store and answers what clients ask; each worker runs one job at a
 * time (a child process, or a function); "feeds" writes event streams. A net thread only leaves a
 * question (jobs_ask) and never waits. The store may be locked, full or damaged: questions then end
 * with that error, running jobs go on, and what they have to say is saved when it can be.
 *
 * A run lives in DATA/runs/ID: config.json, metrics.jsonl, log.txt (bounded), and what its process
 * writes. */
#ifndef STROBE_SERVER_JOBS_H
#define STROBE_SERVER_JOBS_H

#include "server/job_kinds.h"
#include "server/job_metrics.h"
#include "server/store.h"
#include "server/stream.h"

struct jobs; /* opaque; functions from any thread unless they say otherwise */

enum { JOBS_WORKERS_MAX = 16, JOBS_ASKS_MAX = 256, JOBS_LIST_MAX = 100, JOBS_LOG_MAX = 1 << 20 };

struct jobs_opts {
    const char *dir;                    /* data directory, exists */
    const char *store;                  /* store_opts.url */
    const char *program;                /* of child processes; NULL: this one */
    uint32_t n_worker;                  /* 0: 1 */
    uint32_t queue_max;                 /* queued jobs; 0: 64 */
    bool allow_paths;                   /* settings may name files outside of dir */
    bool (*has_verb)(const char *verb); /* of the program; NULL: it has all */
    struct recsys_home *recsys;         /* for kinds that run here; NULL: none */
    /* On a worker's thread, when a job's process has ended well and before anybody is told so;
     * NULL: nobody wants to know. */
    void (*made)(void *ctx, const struct job_kind *kind, const char *dir);
    void *made_ctx;
    const struct job_kind *kinds; /* NULL: job_kinds() */
    size_t n_kind;
    /* For tests; 0: 30 s from SIGTERM to SIGKILL, 1 s before the first repetition (then times 5),
     * 5 s for other programs' locks and between attempts to open the store. */
    uint32_t kill_ms, again_ms, store_wait_ms, store_again_ms;
};
/* Threads start, the store opens in the background. Errors: ST_NOMEM, ST_IO. */
enum status jobs_create(const struct jobs_opts *o, struct jobs **ret, struct err *err);
/* No more jobs start; running ones are asked to save and end, and queued again. */
void jobs_stop(struct jobs *j);
bool jobs_idle(struct jobs *j); /* nothing runs, and all of it is saved */
/* Kills what still runs. Streams that watch have been aborted before. NULL is fine. */
void jobs_free(struct jobs *j);

/* NULL: no such kind. *can: the program has its verb. */
const struct job_kind *jobs_kind(const struct jobs *j, const char *name, bool *can);
void jobs_counts(struct jobs *j, uint64_t counts[JOB_STATES]);
bool jobs_store_up(struct jobs *j);
/* For streams that will watch; see feeds_hook(). */
void jobs_hook(struct jobs *j, struct stream *st);

enum jobs_verb {
    JOBS_SUBMIT, /* kind, params, key */
    JOBS_LIST,   /* id: after it, "" the newest; limit */
    JOBS_GET,    /* id */
    JOBS_CANCEL, /* id */
    JOBS_RESUME, /* id */
    JOBS_WATCH,  /* id, stream, from: offset */
    JOBS_SERIES, /* id, from: step; limit: stride, 0 chooses */
    JOBS_LOG     /* id, limit: bytes from the end */
};

/* A question and its answer. The asker fills the first part; done() gets it back on the keeper's
 * thread with the second part filled, and frees it. */
struct jobs_ask {
    enum jobs_verb verb;
    char id[JOB_ID_MAX];
    const struct job_kind *kind;
    json_t *params; /* owned */
    char key[128];  /* "" none */
    int64_t from;
    uint32_t limit;
    struct stream *stream; /* one reference, owned */
    void (*done)(struct jobs_ask *a);
    void *ctx;

    /* ST_OK; ST_NOTFOUND: no such job; ST_BUSY: too many queued; ST_CLOSED: it has ended
     * (JOBS_RESUME: it has not, or cannot go on), or the server stops; ST_ARG, ST_RANGE: settings;
     * else the store's. */
    struct err err;
    bool no_store; /* err says why there is none */
    bool conflict; /* the key came before with another request */
    char param[JOB_PARAM_MAX];
    struct buf body;      /* JSON */
    char job[JOB_ID_MAX]; /* that is spoken of */
    bool known;           /* JOBS_SUBMIT: it came before */
    enum job_state state; /* JOBS_CANCEL: behind it */
};
/* false: too many wait; *a stays the caller's. */
bool jobs_ask(struct jobs *j, struct jobs_ask *a);
void jobs_ask_free(struct jobs_ask *a); /* NULL is fine */

#endif
