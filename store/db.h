/* store/db.h - the least of a database that jobs, runs and events need, so that one SQL text serves
 * SQLite and PostgreSQL. Parameters are ?1, ?2...; types INTEGER (64 bits) and TEXT; text sorts by
 * its bytes. A handle belongs to one thread at a time.
 *
 * Errors of all calls: ST_TIMEOUT (locked by another program), ST_FULL (no room), ST_FORMAT
 * (damaged, or another program's file), ST_UNSUPPORTED, ST_ARG (a constraint), ST_IO, ST_NOMEM. */
#ifndef STROBE_STORE_DB_H
#define STROBE_STORE_DB_H

#include "engine/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum { DB_PARAMS_MAX = 512 };
enum db_kind { DB_INT, DB_TEXT };
struct db_value {
    enum db_kind kind;
    int64_t i;
    struct str text; /* p NULL: NULL */
};
static inline struct db_value db_int(int64_t i)
{
    return (struct db_value){ .kind = DB_INT, .i = i };
}
static inline struct db_value db_str(struct str s)
{
    return (struct db_value){ .kind = DB_TEXT, .text = s.p ? s : STR("") };
}
static inline struct db_value db_z(const char *z) /* NULL: NULL */
{
    return (struct db_value){ .kind = DB_TEXT, .text = str_c(z) };
}

struct db_opts {
    const char *url;    /* sqlite:FILE, postgres://..., postgresql://...; NULL: FILE in dir */
    const char *dir;    /* data directory */
    const char *file;   /* name there */
    uint32_t wait_ms;   /* for other programs' locks; PostgreSQL: 0 for ever */
    int64_t app;        /* SQLite's application id: other programs' files are left alone */
    const char *what;   /* "evaluation database": in messages */
    const char *schema; /* PostgreSQL: the table that holds the schema's version */
    bool check;         /* SQLite: the whole file is looked at before anything is written */
    bool no_path;       /* messages are for clients too: the file is not named */
    /* Step i leads from schema i to i + 1; each may hold several statements. INTEGER PRIMARY KEY
     * AUTOINCREMENT numbers the rows in both. */
    const char *const *step;
    int n_step;
};

/* The row's columns, borrowed for the call; false stops. No call to the same handle from inside. */
typedef bool db_row_fn(void *ctx, const struct db_value *col, int n);

struct db;
struct db_ops {
    void (*close)(struct db *db);
    enum status (*run)(struct db *db, const char *sql, const struct db_value *v, int n,
                       db_row_fn *fn, void *ctx, int64_t *changed, struct err *err);
    enum status (*begin)(struct db *db, struct err *err);
    enum status (*end)(struct db *db, bool commit, struct err *err);
    void (*lazy)(struct db *db, bool on);
};
struct db {
    const struct db_ops *ops;
    bool shared;           /* several machines: PostgreSQL */
    int64_t clock_skew_ms; /* the server's wall clock minus ours */
};

/* Does it begin as one of the URLs that db_open() takes? */
bool db_url_ok(const char *url);
enum status db_open(const struct db_opts *o, struct db **ret, struct err *err);
void db_close(struct db *db); /* NULL is fine */
/* sql is a literal: its address names the prepared statement. fn NULL: rows are dropped. changed
 * NULL, or takes the number of rows written. */
enum status db_run(struct db *db, const char *sql, const struct db_value *v, int n, db_row_fn *fn,
                   void *ctx, int64_t *changed, struct err *err);
/* A transaction that will write. ST_IO: SQLite's file was moved or deleted, whatever went there is
 * lost. */
enum status db_begin(struct db *db, struct err *err);
/* Commits when err is ST_OK, else rolls back; returns err->code. */
enum status db_end(struct db *db, struct err *err);
/* While it is on, a change survives kill -9 but perhaps not a loss of power, until the next one
 * that is made while it is off: those are flushed to the disk, and all before them. For what may be
 * forgotten, such as leases. Not inside a transaction. PostgreSQL flushes always. */
void db_lazy(struct db *db, bool on);
int64_t db_now_ms(const struct db *db); /* Unix time of the database's machine */

/* ---- the two ---- */
enum status db_sqlite_open(const char *file, const struct db_opts *o, struct db **ret,
                           struct err *err);
enum status db_postgres_open(const char *url, const struct db_opts *o, struct db **ret,
                             struct err *err);

#endif
