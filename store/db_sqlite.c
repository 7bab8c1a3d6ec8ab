/* store/db_sqlite.c - the database in one SQLite file. Write-ahead log and synchronous=FULL: what
 * was committed survives kill -9 and power loss. Several processes may use the file. See db.h. */
#include "store/db.h"

#include <sqlite3.h>
#include <stdlib.h>

enum { STATEMENTS_MAX = 64 };

struct cached {
    const char *sql;
    sqlite3_stmt *st;
};

struct sqlite {
    struct db base;
    sqlite3 *db;
    const char *what;
    bool wal;                  /* its journal is a write-ahead log */
    bool is_lazy, may_be_lazy; /* see db_lazy(): what SQLite was told, and what it should be told */
    bool broken;               /* a flush failed: no retry proves anything */
    struct cached cache[STATEMENTS_MAX];
    int n_cached;
};

static struct sqlite *of(struct db *db)
{
    return (struct sqlite *)db;
}

static enum status fail(struct sqlite *s, int rc, const char *doing, struct err *err)
{
    int extended = s->db ? sqlite3_extended_errcode(s->db) : rc;
    s->broken |= extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC;
    if (extended == SQLITE_IOERR_NOMEM)
        rc = SQLITE_NOMEM;
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return err_set(err, ST_NOMEM, "%s: %s", s->what, doing);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, ST_TIMEOUT, "the %s is locked by another program (%s)", s->what, doing);
    case SQLITE_FULL:
        return err_set(err, ST_FULL,
                       "no room on the disk of the %s (%s): make room and start again, what was "
                       "stored is safe",
                       s->what, doing);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, ST_FORMAT,
                       "the %s is damaged (%s); it is left as it is: save it with `sqlite3 FILE "
                       ".recover`, or move it away",
                       s->what, doing);
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
        return err_set(err, ST_ARG, "%s: %s: %s", s->what, doing, sqlite3_errmsg(s->db));
    case SQLITE_READONLY:
        return err_set(err, ST_IO, "the %s may not be written (%s)", s->what, doing);
    default:
        return err_set(err, ST_IO, "%s: %s: %s", s->what, doing, sqlite3_errstr(extended));
    }
}

/* ---- statements ---- */

static sqlite3_stmt *statement(struct sqlite *s, const char *sql, struct err *err)
{
    for (int i = 0; i < s->n_cached; i++)
        if (s->cache[i].sql == sql)
            return s->cache[i].st;
    if (s->n_cached == STATEMENTS_MAX)
        sqlite3_finalize(s->cache[--s->n_cached].st);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    if (rc != SQLITE_OK) {
        fail(s, rc, "preparing", err);
        return NULL;
    }
    s->cache[s->n_cached++] = (struct cached){ sql, st };
    return st;
}

static enum status bind_all(struct sqlite *s, sqlite3_stmt *st, const struct db_value *v, int n,
                            struct err *err)
{
    for (int i = 0; i < n; i++) {
        int rc = v[i].kind == DB_INT ? sqlite3_bind_int64(st, i + 1, v[i].i)
                                     : sqlite3_bind_text64(st, i + 1, v[i].text.p, v[i].text.n,
                                                           SQLITE_STATIC, SQLITE_UTF8);
        if (rc != SQLITE_OK)
            return fail(s, rc, "binding", err);
    }
    return ST_OK;
}

enum { COLUMNS_MAX = 48 };

/* false: no memory for a text. */
static bool columns(sqlite3_stmt *st, struct db_value *v, int n)
{
    for (int i = 0; i < n; i++) {
        v[i] = db_int(0);
        switch (sqlite3_column_type(st, i)) {
        case SQLITE_INTEGER:
            v[i].i = sqlite3_column_int64(st, i);
            break;
        case SQLITE_NULL:
            v[i] = db_z(NULL);
            break;
        default:
            v[i].kind = DB_TEXT;
            v[i].text.p = (const char *)sqlite3_column_text(st, i);
            v[i].text.n = (size_t)sqlite3_column_bytes(st, i);
            if (!v[i].text.p)
                return false;
        }
    }
    return true;
}

static enum status step_all(struct sqlite *s, sqlite3_stmt *st, db_row_fn *fn, void *ctx,
                            struct err *err)
{
    struct db_value col[COLUMNS_MAX];
    int rc, n = sqlite3_column_count(st);
    n = n < COLUMNS_MAX ? n : COLUMNS_MAX;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (!columns(st, col, n))
            return err_set(err, ST_NOMEM, "%s: a row", s->what);
        if (fn && !fn(ctx, col, n))
            return ST_OK;
    }
    return rc == SQLITE_DONE ? ST_OK : fail(s, rc, fn ? "reading" : "writing", err);
}

/* In a write-ahead log NORMAL leaves out the flush after each commit, and nothing else; with
 * another kind of journal it could damage the file. The pragma acts when it is prepared: it is none
 * of the cached statements. */
static enum status tell_lazy(struct sqlite *s, struct err *err)
{
    const char *sql = s->may_be_lazy ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL";
    if (s->is_lazy == s->may_be_lazy)
        return ST_OK;
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return fail(s, rc, "choosing how to flush", err);
    s->is_lazy = s->may_be_lazy;
    return ST_OK;
}

static enum status run(struct db *db, const char *sql, const struct db_value *v, int n,
                       db_row_fn *fn, void *ctx, int64_t *changed, struct err *err)
{
    struct sqlite *s = of(db);
    if (s->broken)
        return err_set(err, ST_IO,
                       "the %s could not be flushed to the disk: start again once the "
                       "disk is well",
                       s->what);
    if (tell_lazy(s, err) != ST_OK)
        return err->code;
    sqlite3_stmt *st = statement(s, sql, err);
    if (!st)
        return err->code;
    struct err mine = ERR_INIT;
    if (bind_all(s, st, v, n, &mine) == ST_OK)
        step_all(s, st, fn, ctx, &mine);
    if (changed)
        *changed = sqlite3_changes64(s->db);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return mine.code == ST_OK ? ST_OK : err_set(err, mine.code, "%s", mine.msg);
}

/* ---- transactions, opening ---- */

static enum status begin(struct db *db, struct err *err)
{
    int moved = 0;
    sqlite3_file_control(of(db)->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (moved)
        return err_set(err, ST_IO, "the %s was moved or deleted: start again", of(db)->what);
    return run(db, "BEGIN IMMEDIATE", NULL, 0, NULL, NULL, NULL, err);
}

static enum status end(struct db *db, bool commit, struct err *err)
{
    struct sqlite *s = of(db);
    struct err ignored = ERR_INIT;
    if (commit)
        run(db, "COMMIT", NULL, 0, NULL, NULL, NULL, err);
    if ((!commit || err->code != ST_OK) && !sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    (void)ignored;
    return err->code;
}

static void lazy(struct db *db, bool on)
{
    of(db)->may_be_lazy = on && of(db)->wal;
}

static void sqlite_close(struct db *db)
{
    struct sqlite *s = of(db);
    for (int i = 0; i < s->n_cached; i++)
        sqlite3_finalize(s->cache[i].st);
    sqlite3_close(s->db);
    free(s);
}

static bool first_int(void *ctx, const struct db_value *col, int n)
{
    *(int64_t *)ctx = n > 0 ? col[0].i : 0;
    return false;
}

static enum status plain(struct sqlite *s, const char *sql, struct err *err)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? ST_OK : fail(s, rc, "opening", err);
}

static enum status whose(struct sqlite *s, const struct db_opts *o, int64_t *version,
                         struct err *err)
{
    int64_t app = 0, tables = 0;
    if (run(&s->base, "PRAGMA application_id", NULL, 0, first_int, &app, NULL, err) != ST_OK ||
        run(&s->base, "PRAGMA user_version", NULL, 0, first_int, version, NULL, err) != ST_OK ||
        run(&s->base, "SELECT count(*) FROM sqlite_schema", NULL, 0, first_int, &tables, NULL,
            err) != ST_OK)
        return err->code;
    if (app != o->app && (app != 0 || tables != 0))
        return err_set(err, ST_FORMAT, "the file is no %s but another program's database", s->what);
    if (*version > o->n_step)
        return err_set(err, ST_UNSUPPORTED,
                       "the %s was written by a newer strobe (schema %lld, this one knows %d)",
                       s->what, (long long)*version, o->n_step);
    return ST_OK;
}

static bool is_wal(void *ctx, const struct db_value *col, int n)
{
    *(bool *)ctx = n > 0 && col[0].kind == DB_TEXT && str_is(col[0].text, "wal");
    return false;
}

static bool is_ok(void *ctx, const struct db_value *col, int n)
{
    *(bool *)ctx = n > 0 && col[0].kind == DB_TEXT && str_is(col[0].text, "ok");
    return false;
}

static enum status check(struct sqlite *s, struct err *err)
{
    bool ok = false;
    if (run(&s->base, "PRAGMA quick_check(1)", NULL, 0, is_ok, &ok, NULL, err) == ST_OK && !ok)
        fail(s, SQLITE_CORRUPT, "check", err);
    return err->code;
}

static enum status migrate(struct sqlite *s, const struct db_opts *o, struct err *err)
{
    int64_t version = 0;
    char pragma[96];
    if (whose(s, o, &version, err) != ST_OK || version == o->n_step)
        return err->code;
    if (begin(&s->base, err) != ST_OK)
        return err->code;
    if (whose(s, o, &version, err) == ST_OK) { /* another process may have been faster */
        for (; version < o->n_step && err->code == ST_OK; version++)
            plain(s, o->step[version], err);
        snprintf(pragma, sizeof pragma, "PRAGMA application_id = %lld; PRAGMA user_version = %d",
                 (long long)o->app, o->n_step);
        if (err->code == ST_OK)
            plain(s, pragma, err);
    }
    return db_end(&s->base, err);
}

/* Files of others are not even switched to our kind of journal. Where shared memory is not to be
 * had (network disks) it stays what it is: as durable. */
static enum status set_up(struct sqlite *s, const struct db_opts *o, struct err *err)
{
    int64_t version = 0;
    if (plain(s, "PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON", err) != ST_OK ||
        whose(s, o, &version, err) != ST_OK || (o->check && check(s, err) != ST_OK))
        return err->code;
    if (plain(s,
              "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
              "PRAGMA journal_size_limit = 8388608",
              err) == ST_OK &&
        run(&s->base, "PRAGMA journal_mode", NULL, 0, is_wal, &s->wal, NULL, err) == ST_OK)
        migrate(s, o, err);
    return err->code;
}

enum status db_sqlite_open(const char *file, const struct db_opts *o, struct db **ret,
                           struct err *err)
{
    static const struct db_ops ops = { sqlite_close, run, begin, end, lazy };
    struct sqlite *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "%s", o->what);
    s->base.ops = &ops;
    s->what = o->what;
    int rc = sqlite3_open_v2(file, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (rc != SQLITE_OK)
        fail(s, rc, "opening", err);
    if (err->code == ST_OK)
        sqlite3_busy_timeout(s->db, (int)o->wait_ms);
    if (err->code == ST_OK)
        set_up(s, o, err);
    if (err->code != ST_OK) {
        sqlite_close(&s->base);
        return o->no_path ? err->code : err_ctx(err, "'%.120s'", file);
    }
    *ret = &s->base;
    return ST_OK;
}
