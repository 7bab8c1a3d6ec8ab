/* eval/db.h - the least of a database that run_store.c needs, so that one SQL text serves SQLite
 * and PostgreSQL. Parameters are ?1, ?2...; types INTEGER (64 bits) and TEXT; text sorts by its
 * bytes. A handle belongs to one thread at a time.
 *
 * Errors of all calls: ST_TIMEOUT (locked by another program), ST_FULL (no room), ST_FORMAT
 * (damaged, or another program's file), ST_UNSUPPORTED, ST_ARG (a constraint), ST_IO, ST_NOMEM. */
#ifndef STROBE_EVAL_DB_H
#define STROBE_EVAL_DB_H

#include "engine/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

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
    const char *url;  /* sqlite:FILE, postgres://..., postgresql://...; NULL: FILE in dir */
    const char *dir;  /* data directory */
    const char *file; /* name there */
    uint32_t wait_ms; /* for other programs' locks */
    int64_t app;      /* SQLite's application id: other programs' files are left alone */
    const char *what; /* "evaluation database": in messages */
    /* Step i leads from schema i to i + 1; each may hold several statements. */
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
};
struct db {
    const struct db_ops *ops;
    bool shared;           /* several machines: PostgreSQL */
    int64_t clock_skew_ms; /* the server's wall clock minus ours */
};

enum status db_open(const struct db_opts *o, struct db **ret, struct err *err);
void db_close(struct db *db); /* NULL is fine */
/* sql is a literal: its address names the prepared statement. fn NULL: rows are dropped. changed
 * NULL, or takes the number of rows written. */
enum status db_run(struct db *db, const char *sql, const struct db_value *v, int n, db_row_fn *fn,
                   void *ctx, int64_t *changed, struct err *err);
/* A transaction that will write. */
enum status db_begin(struct db *db, struct err *err);
/* Commits when err is ST_OK, else rolls back; returns err->code. */
enum status db_end(struct db *db, struct err *err);
int64_t db_now_ms(const struct db *db); /* Unix time of the database's machine */

/* ---- the two ---- */
enum status db_sqlite_open(const char *file, const struct db_opts *o, struct db **ret,
                           struct err *err);
enum status db_postgres_open(const char *url, const struct db_opts *o, struct db **ret,
                             struct err *err);

#endif
