/* recsys/recsys.h - the facade: a recommender that takes events and answers, for the server.
 *
 *   DIR/events/   the event log (wal.h): what clients sent, durable before it is acknowledged
 *   the store     the same as tables of a database (archive.h), a little later; what has got there
 *                 is cut off the log. Opening reads the tables, then the rest of the log
 *   DIR/models/   ID.rpf snapshots (model.h) and ID.json, what their fits told
 *   DIR/active    the id of the model in use
 *
 * Threads: "recsys-in" is the writer: it parses batches, makes them durable together, lets them
 * take effect and answers; it also changes the model. "recsys-work" folds users in and looks at the
 * health of the data. "recsys-keep" copies the log into the store; while that is away the log keeps
 * everything. Queries run on the asker's thread. Nothing that a caller does waits for the
 * disk, but for recsys_open(), recsys_save() and recsys_close(). */
#ifndef STROBE_RECSYS_RECSYS_H
#define STROBE_RECSYS_RECSYS_H

#include "engine/base/json.h"
#include "recsys/events.h"
#include "recsys/query.h"

struct recsys; /* opaque; functions from any thread */

enum { RECSYS_ID_MAX = 64, RECSYS_ASKS_MAX = 1024, RECSYS_NOTES_MAX = 8 << 20 };

struct recsys_opts {
    const char *dir;         /* made when absent */
    uint64_t segment_bytes;  /* of the event log; 0: 64 MiB */
    bool no_fold;            /* users are not folded in (tests, benchmarks) */
    const char *store;       /* URL: sqlite:FILE, postgresql://...; NULL: recsys.db in dir */
    int64_t (*now_ms)(void); /* Unix ms; NULL: the wall clock */
};
/* Errors: wal_open()'s; the store's, when it has what the log no longer has. A snapshot that cannot
 * be used is no error: recsys_fault() tells it. */
enum status recsys_open(const struct recsys_opts *o, struct recsys **ret, struct err *err);
void recsys_close(struct recsys *r); /* answers what waits; NULL is fine */
struct served *recsys_served(struct recsys *r);
int64_t recsys_now(const struct recsys *r);
/* Why the active model is not in use, "" when it is. */
void recsys_fault(struct recsys *r, char out[ERR_MSG_MAX]);

enum recsys_verb {
    RECSYS_EVENTS,     /* body, format, key */
    RECSYS_FOLLOWS,    /* the same */
    RECSYS_ACTIVATE,   /* model */
    RECSYS_HEALTH,     /* of the data */
    RECSYS_EVALUATIONS /* model, limit: text takes rows of the store; ST_TIMEOUT: it is away */
};
/* A question for another thread. done() gets it back there, and frees it. */
struct recsys_ask {
    enum recsys_verb verb;
    enum batch_format format;
    struct buf body; /* owned */
    char key[BATCH_KEY_MAX];
    char model[RECSYS_ID_MAX];
    uint32_t limit;
    struct buf text; /* owned */
    void (*done)(struct recsys_ask *a);
    void *ctx;

    /* ST_OK; ST_FORMAT, ST_RANGE: the body; ST_ARG: the key came with another body; ST_NOTFOUND: no
     * such model; ST_FULL, ST_IO: not durable, so not accepted; ST_CLOSED. */
    struct err err;
    struct served_result res;
    bool known; /* the key came before; res is what was answered then */
    size_t n_reject;
    struct batch_reject reject[BATCH_REJECTS_MAX];
    struct events_health health;
};
/* false: too much waits; *a stays the caller's. */
bool recsys_ask(struct recsys *r, struct recsys_ask *a);
void recsys_ask_free(struct recsys_ask *a); /* NULL is fine */
/* The same, waiting for the answer (not on a net thread); a stays the caller's. */
void recsys_do(struct recsys *r, struct recsys_ask *a);

/* All events so far, in time order, and who follows whom; times in seconds. Errors: ST_NOMEM. */
enum status recsys_export(struct recsys *r, struct rs_events *ev, struct follows *f,
                          struct err *err);

/* Writes a snapshot and what its fit told (an object; borrowed), under a new id. m: borrowed. */
enum status recsys_save(struct recsys *r, const struct rmodel *m, json_t *notes,
                        char id[RECSYS_ID_MAX], struct err *err);
/* Models per answer; after: the id of the last one of the page before, or NULL. */
struct recsys_page {
    uint32_t limit;
    const char *after;
};
/* {"data":[...],"active":ID or null,"has_more":...}, newest first: ST_NOTFOUND (after); one with
 * all that its fit told: ST_NOTFOUND. Appended. */
enum status recsys_models(struct recsys *r, const struct recsys_page *page, struct buf *out,
                          struct err *err);
enum status recsys_model(struct recsys *r, const char *id, struct buf *out, struct err *err);

struct recsys_stats {
    struct served_counts counts;
    struct wal_figures {
        uint64_t bytes, records, commits, torn_bytes;
    } log;
    uint64_t folds, queries, models, waiting;
    struct store_figures {
        bool up;
        char fault[ERR_MSG_MAX]; /* why it is away, or "" */
        uint64_t backlog;        /* bytes of the log that are not there yet */
        uint64_t copied;         /* records since the start */
        uint32_t segment;        /* which the tables reach */
        uint64_t end;
    } store;
};
void recsys_get_stats(struct recsys *r, struct recsys_stats *ret);
void recsys_count_query(struct recsys *r);

/* A small invented town's visits, ending at `now`: people with habits, friends and a week. As TSV
 * bodies for RECSYS_EVENTS and RECSYS_FOLLOWS. ST_NOMEM. */
enum status recsys_demo(int64_t now_ms, uint64_t seed, struct buf *events, struct buf *follows,
                        struct err *err);

#endif
