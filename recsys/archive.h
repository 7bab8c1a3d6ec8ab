/* recsys/archive.h - what the event log says, as tables of a database (SQLite or PostgreSQL):
 * names, events, follow edges, answered keys, models and their evaluations, for SQL and so that the
 * log may be cut. Rows and the place in the log that they reach are written in one transaction, so
 * that every record is copied exactly once.
 *
 *   recsys_events (seq, user_id, item_id, at_ms, weight)    recsys_users, recsys_items (id, name)
 *   recsys_follows (seq, user_id, follows_id)               recsys_named_events: a view with names
 *   recsys_models, recsys_evaluations                       recsys_keys, recsys_log: ours
 *
 * Numbers are those that names get in order of their first appearance in the log. One recommender
 * for each database: another one that takes it over is noticed at the next transaction (ST_BUSY).
 * After a failed call the handle is only good for archive_close(): what a lost connection did is
 * read from the database when it is opened again. Owner: one thread at a time. */
#ifndef STROBE_RECSYS_ARCHIVE_H
#define STROBE_RECSYS_ARCHIVE_H

#include "engine/base/json.h"
#include "recsys/batch.h"
#include "recsys/served.h"
#include "recsys/wal.h"

struct archive; /* opaque */

enum { ARCHIVE_LOG_MAX = 40, ARCHIVE_KEYS = 1000000 };

struct archive_opts {
    const char *url;           /* sqlite:FILE, postgresql://...; NULL: recsys.db in dir */
    const char *dir;           /* exists */
    char log[ARCHIVE_LOG_MAX]; /* which log this is */
    bool adopt;                /* ours is new: go on where the database's log ended */
};
/* Errors: db_open()'s; ST_BUSY: the database belongs to another log. */
enum status archive_open(const struct archive_opts *o, struct archive **ret, struct err *err);
void archive_close(struct archive *a);              /* NULL is fine */
struct wal_pos archive_at(const struct archive *a); /* what the tables reach */

/* All rows, in the order in which they came. */
struct archive_sink {
    void *ctx;
    enum status (*name)(void *ctx, bool item, struct str name, struct err *err);
    enum status (*event)(void *ctx, uint32_t user, const struct served_event *e, struct err *err);
    enum status (*follow)(void *ctx, uint32_t user, uint32_t whom, struct err *err);
    enum status (*key)(void *ctx, const char *key, uint64_t hash, const struct served_result *res,
                       size_t n_reject, struct err *err);
};
struct archive_counts {
    uint64_t merged; /* events and edges that were there already */
};
enum status archive_load(struct archive *a, const struct archive_sink *s,
                         struct archive_counts *ret, struct err *err);

/* Records, then the place that they reach. */
enum status archive_begin(struct archive *a, struct err *err);
enum status archive_batch(struct archive *a, const struct batch *b, struct err *err);
enum status archive_commit(struct archive *a, struct wal_pos at, struct err *err);

/* A model by what its fit told; its evaluation's figures become rows. Once: later calls change
 * nothing. */
enum status archive_model(struct archive *a, const char *id, const json_t *notes, struct err *err);
/* {"data":[...],"has_more":...}, newest models first. model: "" all. Appended. */
enum status archive_evaluations(struct archive *a, const char *model, uint32_t limit,
                                struct buf *out, struct err *err);

#endif
