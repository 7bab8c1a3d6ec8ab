/* server/job_parts.h - what jobs.c, job_answer.c and job_run.c share. Nobody else includes it.
 *
 *   jobs.c        life of the threads, the keeper's loop
 *   job_answer.c  questions (the keeper's thread)
 *   job_run.c     one job from its start to its end (a worker's thread); what its process says is
 *                 job_output.c's */
#ifndef STROBE_SERVER_JOB_PARTS_H
#define STROBE_SERVER_JOB_PARTS_H

#include "engine/base/queue.h"
#include "server/job_feed.h"
#include "server/jobs.h"

struct job {
    struct jobs *jobs;
    const struct job_kind *kind; /* NULL: not known to this version */
    char *dir, *metrics;         /* paths */
    bool was_running;            /* its last server died */
    atomic_bool cancel, lost;    /* asked for; another server's by now */
    /* Under jobs.lock; the worker writes, the keeper saves. */
    struct job_row row;
    uint64_t tail;      /* end of its metrics, as far as read */
    bool dirty, urgent; /* to be saved; at once */
    bool ended;         /* the worker is through with it */
    uint64_t saved_ns;  /* the keeper's */
};

struct jobs {
    struct jobs_opts o;
    char *dir, *url, *program; /* copies that o points to */
    struct feeds *feeds;
    struct queue *work; /* struct job *, for workers */
    pthread_t keeper, worker[JOBS_WORKERS_MAX];
    uint32_t n_started; /* workers */
    bool keeping;
    atomic_bool stop, kill; /* ask running jobs to end; now */
    atomic_bool store_up;
    atomic_ullong counts[JOB_STATES];

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t woken; /* the keeper; CLOCK_MONOTONIC */
    struct jobs_ask *ask[JOBS_ASKS_MAX];
    size_t first_ask, n_ask;
    struct job *active[JOBS_WORKERS_MAX];
    size_t n_active;
    bool end;  /* the keeper finishes */
    bool poke; /* something changed */

    /* The keeper's. */
    struct store *store;
    struct err store_err; /* why there is none */
    uint64_t open_at_ns;  /* when to try again; UINT64_MAX: never */
    bool look;            /* there may be a job to claim */
    bool told;            /* that none can be claimed */
    uint64_t renew_at_ns, retry_at_ns, save_at_ns;
};

/* ---- jobs.c ---- */
/* Wakes the keeper; the lock is held. */
void jobs_poke(struct jobs *j);
/* Counts by state again; keeper. */
void jobs_recount(struct jobs *j);
/* Paths of a run; free both. ST_NOMEM. */
enum status job_paths(const struct jobs *j, const char *id, char **dir, char **metrics,
                      struct err *err);
/* An active job; NULL: none. The lock is held. */
struct job *jobs_active(struct jobs *j, const char *id);
/* A job that has ended in memory is ended in the store too, if that takes it; keeper. */
void jobs_settle(struct jobs *j, const char *id);
/* Deep copy of an active job's row and its tail; false: not active, or no memory (err). */
bool jobs_active_row(struct jobs *j, const char *id, struct job_row *ret, uint64_t *tail,
                     struct err *err);

/* ---- job_answer.c, keeper ---- */
/* Fills the answer; err.code is ST_OK before. */
void job_answer(struct jobs *j, struct jobs_ask *a);
/* The job as JSON, appended. */
void job_write(const struct job_row *r, struct buf *out);
/* Tells watchers the job's state. ended: it is its last. */
void job_tell(struct jobs *j, const struct job_row *r, uint64_t tail, bool ended);

/* ---- job_run.c, worker ---- */
/* Runs it to an end, or until it has to stop. The row says how it went. */
void job_work(struct job *j);

#endif
