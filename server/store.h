/* server/store.h - what must survive a crash: jobs. One interface over a database: SQLite in the
 * data directory, or PostgreSQL by URL. Owner: one thread; every call may wait for the disk, the
 * network, or another program's lock (five seconds), so net threads never call.
 *
 * A job belongs to one server at a time: store_job_claim() writes its owner and until when
 * (the lease), store_job_save() refuses rows of others, and a lease that runs out frees the job for
 * the next claim. A data directory has one server (a lock file). With SQLite all leases are
 * therefore void at opening: their owner is dead.
 *
 * One PostgreSQL database keeps the jobs of many servers, each with a data directory of its own.
 * What a job reads and writes (DATA/runs/ID, its checkpoints) lies there, so a job belongs to the
 * directory that took it: no server sees, runs, cancels or counts those of others. DATA/strobe.id
 * tells which are ours, and goes where the directory goes. When that turns up on another machine (a
 * volume of one that died, a copy), its server goes on with the jobs from their checkpoints once
 * their leases have run out, by the database's clock; after a crash on the same machine they are
 * void at opening. Without strobe.id the directory is a new one, and its jobs stay behind. Keys of
 * requests are a directory's own too.
 *
 *   queued --claim--> running --save--> done | failed | cancelled
 *     ^------save: stopped in good order, goes on later */
#ifndef STROBE_SERVER_STORE_H
#define STROBE_SERVER_STORE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct store; /* opaque */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_CANCELLED, JOB_FAILED, JOB_DONE };
enum { JOB_STATES = 5, JOB_ID_MAX = 32, JOB_KIND_MAX = 32 };

/* Texts are owned by the row: job_row_clear(). */
struct job_row {
    int64_t seq; /* order of submission, given by the store */
    char id[JOB_ID_MAX], kind[JOB_KIND_MAX];
    enum job_state state;
    int64_t created, started, finished; /* Unix seconds; 0: not yet */
    char *params;                       /* JSON, as the client sent it */
    char *progress, *result;            /* JSON; NULL: none yet */
    char *error;                        /* NULL: none */
    bool cancel;                        /* asked for, not yet carried out */
    bool resume;                        /* it ran before: go on where it was */
    uint32_t restarts;                  /* after crashes, of the job's process or the server */
    uint32_t idle_tries;                /* of those, the last ones in a row without progress */
    int64_t best_step;                  /* the furthest that any attempt came */
    int64_t pid, pid_birth;             /* of its process and process_birth() of that; 0: none */
};
void job_row_clear(struct job_row *r);
/* *ret is a deep copy. ST_NOMEM. */
enum status job_row_copy(const struct job_row *r, struct job_row *ret, struct err *err);
const char *job_state_name(enum job_state s);
/* Replaces an owned text. false: no memory, unchanged. */
bool job_row_text(char **slot, struct str text);

struct store_opts {
    const char *url;  /* NULL: "strobe.db" in dir; sqlite:FILE; postgres://..., postgresql://... */
    const char *dir;  /* data directory, exists */
    uint32_t wait_ms; /* for other programs' locks; 0: 5000 */
};
/* Errors, the same for all calls where they apply: ST_TIMEOUT (locked by another program), ST_FULL
 * (no room on the disk), ST_FORMAT (damaged, or another program's file), ST_UNSUPPORTED (written by
 * a newer version; unknown URL), ST_BUSY (another server has this directory), ST_IO, ST_NOMEM.
 * A damaged file is left as it is. PostgreSQL that
 * is away: ST_IO; the next call connects again. */
enum status store_open(const struct store_opts *o, struct store **ret, struct err *err);
/* Does it begin as the URL of a database that is known here, for jobs as for the other stores? */
bool store_url_ok(const char *url);
void store_close(struct store *s); /* NULL is fine */
/* Others may change our jobs too (PostgreSQL): look now and then. */
bool store_shared(const struct store *s);

/* Adds a queued job; id, kind, params and created are the caller's, seq is set. key: NULL, or the
 * client's name of this request, stored with a hash of its content: when the same came before, *row
 * becomes that job and *known is true; ST_ARG: the key came with another content. */
enum status store_job_add(struct store *s, struct job_row *row, const char *key, const char *hash,
                          bool *known, struct err *err);
/* ST_NOTFOUND. */
enum status store_job_get(struct store *s, const char *id, struct job_row *ret, struct err *err);

struct job_list {
    struct job_row *row;
    size_t n;
    bool more;
};
void job_list_clear(struct job_list *l);
/* Newest first, behind job `after` (NULL: from the newest). ST_NOTFOUND: no job `after`. */
enum status store_job_list(struct store *s, const char *after, uint32_t limit, struct job_list *ret,
                           struct err *err);
/* Takes the oldest job that nobody runs: queued, or running with a lease that ran out (first).
 * ret->state tells which it was; stored is `running`, ours. ST_NOTFOUND: none. */
enum status store_job_claim(struct store *s, int64_t now, struct job_row *ret, struct err *err);
/* Writes what changes while a job runs. ST_NOTFOUND: the row is another server's by now, whatever
 * runs must stop. Saving a queued row gives it up. A wish to cancel that was stored meanwhile stays
 * until the job has ended. */
enum status store_job_save(struct store *s, const struct job_row *row, int64_t now,
                           struct err *err);
/* Cancels a queued job, or notes the wish where it runs. *ret is the row behind it; ST_NOTFOUND. */
enum status store_job_cancel(struct store *s, const char *id, int64_t now, struct job_row *ret,
                             struct err *err);
/* Queues a cancelled or failed job again. *ret is the row behind it, another state where it was
 * neither; ST_NOTFOUND. */
enum status store_job_resume(struct store *s, const char *id, struct job_row *ret, struct err *err);
/* Prolongs the leases of all our running jobs. */
enum status store_job_renew(struct store *s, int64_t now, struct err *err);
enum status store_job_counts(struct store *s, uint64_t counts[JOB_STATES], struct err *err);

enum { STORE_LEASE_S = 60, STORE_RENEW_S = 15 };

#endif
