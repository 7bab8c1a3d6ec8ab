/* server/store_sqlite.c - the store in one SQLite file; the only file that sees <sqlite3.h>.
 *
 * Write-ahead log, synchronous=FULL: what a call acknowledged survives kill -9 and power loss. The
 * schema has a number (user_version) and a list of steps that lead to it. Beside the file lies
 * strobe.lock, held (flock) while a server uses the directory. The file is checked when it is
 * opened, and before a new job is acknowledged it is asked whether it still is where it was. */
#include "server/store_ops.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    APPLICATION_ID = 0x53545242, /* "STRB": other programs' files are left alone */
    WAIT_MS = 5000,
    OWNER_BYTES = 8
};

/* Step i leads from schema i to i + 1. Never edit one that was released: add another. */
static const char *const steps[] = {
    "CREATE TABLE jobs ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  kind TEXT NOT NULL,"
    "  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'cancelled', 'failed', 'done')),"
    "  created INTEGER NOT NULL,"
    "  started INTEGER NOT NULL DEFAULT 0,"
    "  finished INTEGER NOT NULL DEFAULT 0,"
    "  params TEXT NOT NULL,"
    "  progress TEXT, result TEXT, error TEXT,"
    "  cancel INTEGER NOT NULL DEFAULT 0,"
    "  resume INTEGER NOT NULL DEFAULT 0,"
    "  restarts INTEGER NOT NULL DEFAULT 0,"
    "  idle_tries INTEGER NOT NULL DEFAULT 0,"
    "  best_step INTEGER NOT NULL DEFAULT 0,"
    "  pid INTEGER NOT NULL DEFAULT 0,"
    "  pid_birth INTEGER NOT NULL DEFAULT 0,"
    "  owner TEXT NOT NULL DEFAULT '',"
    "  lease INTEGER NOT NULL DEFAULT 0,"
    "  request_key TEXT UNIQUE,"
    "  request_hash TEXT"
    ") STRICT;"
    "CREATE INDEX jobs_by_state ON jobs (state, seq);",
};
enum { SCHEMA = sizeof steps / sizeof steps[0] };

#define COLUMNS                                                                                    \
    "seq, id, kind, state, created, started, finished, params, progress, result, error, cancel, "  \
    "resume, restarts, idle_tries, best_step, pid, pid_birth"

enum query {
    Q_BEGIN,
    Q_COMMIT,
    Q_ROLLBACK,
    Q_ADD,
    Q_GET,
    Q_BY_KEY,
    Q_SEQ,
    Q_LIST,
    Q_NEXT,
    Q_CLAIM,
    Q_SAVE,
    Q_CANCEL,
    Q_RENEW,
    Q_COUNTS,
    N_QUERY
};

static const char *const sql[N_QUERY] = {
    [Q_BEGIN] = "BEGIN IMMEDIATE",
    [Q_COMMIT] = "COMMIT",
    [Q_ROLLBACK] = "ROLLBACK",
    [Q_ADD] = "INSERT INTO jobs (id, kind, state, created, params, request_key, request_hash)"
              " VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6)",
    [Q_GET] = "SELECT " COLUMNS " FROM jobs WHERE id = ?1",
    [Q_BY_KEY] = "SELECT " COLUMNS ", request_hash FROM jobs WHERE request_key = ?1",
    [Q_SEQ] = "SELECT seq FROM jobs WHERE id = ?1",
    [Q_LIST] = "SELECT " COLUMNS " FROM jobs WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2",
    /* A clock that jumps must not make us take our own jobs twice: hence the owner. */
    [Q_NEXT] = "SELECT " COLUMNS " FROM jobs WHERE state = 'queued' OR (state = 'running' AND"
               " lease <= ?1 AND owner <> ?2) ORDER BY state = 'queued', seq LIMIT 1",
    [Q_CLAIM] = "UPDATE jobs SET state = 'running', owner = ?2, lease = ?3 WHERE seq = ?1",
    [Q_SAVE] = "UPDATE jobs SET state = ?3, started = ?4, finished = ?5, progress = ?6,"
               " result = ?7, error = ?8, cancel = ?9, resume = ?10, restarts = ?11,"
               " idle_tries = ?12, best_step = ?13, pid = ?14, pid_birth = ?15, lease = ?16"
               " WHERE seq = ?1 AND state = 'running' AND owner = ?2",
    [Q_CANCEL] = "UPDATE jobs SET cancel = state = 'running',"
                 " finished = iif(state = 'queued', ?2, finished),"
                 " state = iif(state = 'queued', 'cancelled', state)"
                 " WHERE id = ?1 AND state IN ('queued', 'running')",
    [Q_RENEW] = "UPDATE jobs SET lease = ?2 WHERE state = 'running' AND owner = ?1",
    [Q_COUNTS] = "SELECT state, count(*) FROM jobs GROUP BY state",
};

struct sqlite {
    struct store base;
    sqlite3 *db;
    sqlite3_stmt *stmt[N_QUERY]; /* prepared when first used */
    int lock_fd;
    bool broken; /* a flush failed: the kernel may have dropped the bytes, no retry proves anything
                  */
    char owner[2 * OWNER_BYTES + 1];
};

static struct sqlite *of(struct store *s)
{
    return (struct sqlite *)s;
}

/* ---- errors ---- */

static bool is_flush(int extended)
{
    return extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC;
}

/* What SQLite said, for people. Paths stay out: clients read this. */
static enum status fail(struct sqlite *s, int rc, const char *what, struct err *err)
{
    int extended = s->db ? sqlite3_extended_errcode(s->db) : rc;
    s->broken |= is_flush(extended);
    if (extended == SQLITE_IOERR_NOMEM)
        rc = SQLITE_NOMEM;
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return err_set(err, ST_NOMEM, "job database: %s", what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, ST_TIMEOUT, "the job database is locked by another program (%s)", what);
    case SQLITE_FULL:
        return err_set(err, ST_FULL, "no room on the disk of the job database (%s)", what);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, ST_FORMAT,
                       "the job database is damaged (%s); it is left as it is: stop the server, "
                       "save it with `sqlite3 strobe.db .recover`, or move it away",
                       what);
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
        return err_set(err, ST_ARG, "job database: %s: %s", what, sqlite3_errstr(extended));
    default:
        return err_set(err, ST_IO, "job database: %s: %s", what, sqlite3_errstr(extended));
    }
}

/* ---- statements ---- */

static sqlite3_stmt *statement(struct sqlite *s, enum query q, struct err *err)
{
    if (s->broken) {
        err_set(err, ST_IO,
                "the job database could not be flushed to the disk: restart the server "
                "once the disk is well");
        return NULL;
    }
    if (s->stmt[q])
        return s->stmt[q];
    int rc = sqlite3_prepare_v3(s->db, sql[q], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[q], NULL);
    if (rc == SQLITE_OK)
        return s->stmt[q];
    fail(s, rc, "preparing", err);
    return NULL;
}

struct value {
    enum { NONE, INT, TEXT } kind;
    int64_t i;
    const char *text;
};
static struct value of_int(int64_t i)
{
    return (struct value){ .kind = INT, .i = i };
}
static struct value of_text(const char *z) /* NULL: NULL */
{
    return (struct value){ .kind = TEXT, .text = z };
}

/* Values go to parameters 1, 2...; they must live until done(). */
static enum status bind(struct sqlite *s, sqlite3_stmt *st, const struct value *v, int n,
                        struct err *err)
{
    for (int i = 0; i < n; i++) {
        int rc = v[i].kind == INT ? sqlite3_bind_int64(st, i + 1, v[i].i)
                                  : sqlite3_bind_text(st, i + 1, v[i].text, -1, SQLITE_STATIC);
        if (rc != SQLITE_OK)
            return fail(s, rc, "binding", err);
    }
    return ST_OK;
}

static void done(sqlite3_stmt *st)
{
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
}

/* Runs a statement that returns nothing. */
static enum status run(struct sqlite *s, enum query q, const struct value *v, int n,
                       struct err *err)
{
    sqlite3_stmt *st = statement(s, q, err);
    if (!st)
        return err->code;
    if (bind(s, st, v, n, err) == ST_OK) {
        int rc = sqlite3_step(st);
        if (rc != SQLITE_DONE)
            fail(s, rc, "writing", err);
    }
    done(st);
    return err->code;
}

/* Ends what BEGIN began: commits when there is no error yet, else rolls back. */
static enum status end(struct sqlite *s, struct err *err)
{
    struct err ignored = ERR_INIT;
    if (err->code == ST_OK)
        run(s, Q_COMMIT, NULL, 0, err);
    if (err->code != ST_OK && !sqlite3_get_autocommit(s->db))
        run(s, Q_ROLLBACK, NULL, 0, &ignored);
    return err->code;
}

/* ---- rows ---- */

static enum job_state state_of(const char *name)
{
    for (int i = 0; name && i < JOB_STATES; i++)
        if (strcmp(name, job_state_name((enum job_state)i)) == 0)
            return (enum job_state)i;
    return JOB_FAILED; /* the schema's check lets nothing else in */
}

static void copy_short(char *out, size_t max, const unsigned char *text)
{
    snprintf(out, max, "%s", text ? (const char *)text : "");
}

/* Text column i; *ok falls where memory failed. NULL: NULL. */
static char *text_of(sqlite3_stmt *st, int i, bool *ok)
{
    if (sqlite3_column_type(st, i) == SQLITE_NULL)
        return NULL;
    const char *p = (const char *)sqlite3_column_text(st, i);
    char *copy = p ? str_dup(str_c(p)) : NULL;
    *ok &= copy != NULL;
    return copy;
}

/* The columns of COLUMNS. */
static enum status take_row(sqlite3_stmt *st, struct job_row *ret, struct err *err)
{
    const char *state = (const char *)sqlite3_column_text(st, 3);
    bool ok = state != NULL;
    struct job_row r = {
        .seq = sqlite3_column_int64(st, 0),
        .state = state_of(state),
        .created = sqlite3_column_int64(st, 4),
        .started = sqlite3_column_int64(st, 5),
        .finished = sqlite3_column_int64(st, 6),
        .params = text_of(st, 7, &ok),
        .progress = text_of(st, 8, &ok),
        .result = text_of(st, 9, &ok),
        .error = text_of(st, 10, &ok),
        .cancel = sqlite3_column_int64(st, 11) != 0,
        .resume = sqlite3_column_int64(st, 12) != 0,
        .restarts = (uint32_t)sqlite3_column_int64(st, 13),
        .idle_tries = (uint32_t)sqlite3_column_int64(st, 14),
        .best_step = sqlite3_column_int64(st, 15),
        .pid = sqlite3_column_int64(st, 16),
        .pid_birth = sqlite3_column_int64(st, 17),
    };
    copy_short(r.id, sizeof r.id, sqlite3_column_text(st, 1));
    copy_short(r.kind, sizeof r.kind, sqlite3_column_text(st, 2));
    if (!ok || !r.id[0] || !r.kind[0]) {
        job_row_clear(&r);
        return err_set(err, ST_NOMEM, "job database: a row");
    }
    *ret = r;
    return ST_OK;
}

/* false: no memory for its text. */
static bool put_column(sqlite3_stmt *st, int i, struct buf *out)
{
    const char *text = (const char *)sqlite3_column_text(st, i);
    if (text)
        buf_z(out, text);
    return (text || sqlite3_column_type(st, i) == SQLITE_NULL) && !out->failed;
}

/* One row or ST_NOTFOUND. hash: NULL, or takes the column behind the row's. */
static enum status one_row(struct sqlite *s, enum query q, const struct value *v, int n,
                           struct job_row *ret, struct buf *hash, struct err *err)
{
    sqlite3_stmt *st = statement(s, q, err);
    if (!st)
        return err->code;
    int rc = bind(s, st, v, n, err) == ST_OK ? sqlite3_step(st) : SQLITE_ERROR;
    if (err->code == ST_OK && rc == SQLITE_DONE)
        err_set(err, ST_NOTFOUND, "there is no such job");
    else if (rc != SQLITE_ROW)
        fail(s, rc, "reading", err);
    else if (hash && !put_column(st, sqlite3_column_count(st) - 1, hash))
        err_set(err, ST_NOMEM, "job database: a row");
    else
        take_row(st, ret, err);
    done(st);
    return err->code;
}

/* ---- the operations ---- */

/* Nobody must be told "accepted" by a file that was deleted or replaced. */
static enum status still_there(struct sqlite *s, struct err *err)
{
    int moved = 0;
    sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (moved)
        return err_set(err, ST_IO, "the job database was moved or deleted: restart the server");
    return ST_OK;
}

/* The job that came with this key before. ST_NOTFOUND: none. */
static enum status by_key(struct sqlite *s, const char *key, const char *hash, struct job_row *ret,
                          struct err *err)
{
    struct value v[] = { of_text(key) };
    struct buf was = BUF_INIT;
    struct job_row r;
    if (one_row(s, Q_BY_KEY, v, 1, &r, &was, err) == ST_OK) {
        if (str_is(buf_view(&was), hash)) {
            *ret = r;
        } else {
            job_row_clear(&r);
            err_set(err, ST_ARG, "this Idempotency-Key came before with another request");
        }
    }
    buf_clear(&was);
    return err->code;
}

static enum status insert(struct sqlite *s, struct job_row *row, const char *key, const char *hash,
                          struct err *err)
{
    struct value v[] = { of_text(row->id),     of_text(row->kind), of_int(row->created),
                         of_text(row->params), of_text(key),       of_text(hash) };
    if (run(s, Q_ADD, v, 6, err) == ST_OK)
        row->seq = sqlite3_last_insert_rowid(s->db);
    return err->code;
}

static enum status job_add(struct store *base, struct job_row *row, const char *key,
                           const char *hash, bool *known, struct err *err)
{
    struct sqlite *s = of(base);
    struct err none = ERR_INIT;
    struct job_row was;
    int64_t seq = row->seq;
    *known = false;
    if (still_there(s, err) != ST_OK || run(s, Q_BEGIN, NULL, 0, err) != ST_OK)
        return err->code;
    if (key && by_key(s, key, hash, &was, &none) == ST_OK)
        *known = true;
    else if (key && none.code != ST_NOTFOUND)
        *err = none;
    else
        insert(s, row, key, key ? hash : NULL, err);
    end(s, err);
    if (*known && err->code == ST_OK) {
        job_row_clear(row);
        *row = was;
    } else if (*known) {
        job_row_clear(&was);
        *known = false;
    }
    if (err->code != ST_OK)
        row->seq = seq;
    return err->code;
}

static enum status job_get(struct store *base, const char *id, struct job_row *ret, struct err *err)
{
    struct value v[] = { of_text(id) };
    return one_row(of(base), Q_GET, v, 1, ret, NULL, err);
}

/* Where the list goes on: seq of a job; INT64_MAX without one. */
static enum status seq_of(struct sqlite *s, const char *id, int64_t *ret, struct err *err)
{
    *ret = INT64_MAX;
    sqlite3_stmt *st = id ? statement(s, Q_SEQ, err) : NULL;
    struct value v[] = { of_text(id) };
    if (!st)
        return err->code;
    int rc = bind(s, st, v, 1, err) == ST_OK ? sqlite3_step(st) : SQLITE_ERROR;
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else if (rc == SQLITE_DONE)
        err_set(err, ST_NOTFOUND, "there is no job '%.64s'", id);
    else
        fail(s, rc, "reading", err);
    done(st);
    return err->code;
}

static enum status job_list(struct store *base, const char *after, uint32_t limit,
                            struct job_list *ret, struct err *err)
{
    struct sqlite *s = of(base);
    struct job_list l = { 0 };
    int64_t seq;
    sqlite3_stmt *st;
    if (seq_of(s, after, &seq, err) != ST_OK || !(st = statement(s, Q_LIST, err)))
        return err->code;
    struct value v[] = { of_int(seq), of_int((int64_t)limit + 1) };
    int rc = SQLITE_ROW;
    l.row = calloc((size_t)limit + 1, sizeof *l.row);
    if (!l.row)
        err_set(err, ST_NOMEM, "list of jobs");
    else
        /* NOLINTNEXTLINE(bugprone-unused-return-value): not bind(2); err has it */
        bind(s, st, v, 2, err);
    while (err->code == ST_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        if (l.n == limit)
            l.more = true;
        else if (take_row(st, &l.row[l.n], err) == ST_OK)
            l.n++;
    if (err->code == ST_OK && rc != SQLITE_DONE)
        fail(s, rc, "reading", err);
    done(st);
    if (err->code == ST_OK)
        *ret = l;
    else
        job_list_clear(&l);
    return err->code;
}

static enum status job_claim(struct store *base, int64_t now, struct job_row *ret, struct err *err)
{
    struct sqlite *s = of(base);
    struct value who[] = { of_int(now), of_text(s->owner) };
    struct job_row r = { 0 };
    if (run(s, Q_BEGIN, NULL, 0, err) != ST_OK)
        return err->code;
    if (one_row(s, Q_NEXT, who, 2, &r, NULL, err) == ST_OK) {
        struct value v[] = { of_int(r.seq), of_text(s->owner), of_int(now + STORE_LEASE_S) };
        run(s, Q_CLAIM, v, 3, err);
    }
    if (end(s, err) == ST_OK)
        *ret = r;
    else
        job_row_clear(&r);
    return err->code;
}

static enum status job_save(struct store *base, const struct job_row *r, int64_t now,
                            struct err *err)
{
    struct sqlite *s = of(base);
    struct value v[] = {
        of_int(r->seq),
        of_text(s->owner),
        of_text(job_state_name(r->state)),
        of_int(r->started),
        of_int(r->finished),
        of_text(r->progress),
        of_text(r->result),
        of_text(r->error),
        of_int(r->cancel),
        of_int(r->resume),
        of_int(r->restarts),
        of_int(r->idle_tries),
        of_int(r->best_step),
        of_int(r->pid),
        of_int(r->pid_birth),
        of_int(r->state == JOB_RUNNING ? now + STORE_LEASE_S : 0),
    };
    if (run(s, Q_SAVE, v, 16, err) == ST_OK && sqlite3_changes(s->db) == 0)
        err_set(err, ST_NOTFOUND, "job %s is not this server's any more", r->id);
    return err->code;
}

static enum status job_cancel(struct store *base, const char *id, int64_t now, struct job_row *ret,
                              struct err *err)
{
    struct sqlite *s = of(base);
    struct value v[] = { of_text(id), of_int(now) };
    struct job_row r = { 0 };
    if (run(s, Q_BEGIN, NULL, 0, err) != ST_OK)
        return err->code;
    if (run(s, Q_CANCEL, v, 2, err) == ST_OK)
        one_row(s, Q_GET, v, 1, &r, NULL, err);
    if (end(s, err) == ST_OK)
        *ret = r;
    else
        job_row_clear(&r);
    return err->code;
}

static enum status job_renew(struct store *base, int64_t now, struct err *err)
{
    struct sqlite *s = of(base);
    struct value v[] = { of_text(s->owner), of_int(now + STORE_LEASE_S) };
    return run(s, Q_RENEW, v, 2, err);
}

static enum status job_counts(struct store *base, uint64_t counts[JOB_STATES], struct err *err)
{
    struct sqlite *s = of(base);
    uint64_t n[JOB_STATES] = { 0 };
    sqlite3_stmt *st = statement(s, Q_COUNTS, err);
    int rc;
    if (!st)
        return err->code;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *state = (const char *)sqlite3_column_text(st, 0);
        if (!state) {
            rc = SQLITE_NOMEM;
            break;
        }
        n[state_of(state)] += (uint64_t)sqlite3_column_int64(st, 1);
    }
    if (rc == SQLITE_DONE)
        memcpy(counts, n, sizeof n);
    else
        fail(s, rc, "counting", err);
    done(st);
    return err->code;
}

/* ---- opening ---- */

static void sqlite_close(struct store *base)
{
    struct sqlite *s = of(base);
    for (int i = 0; i < N_QUERY; i++)
        sqlite3_finalize(s->stmt[i]);
    int rc = sqlite3_close(s->db);
    assert(rc == SQLITE_OK);
    (void)rc;
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s);
}

static enum status lock_directory(struct sqlite *s, const char *dir, struct err *err)
{
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/strobe.lock", dir);
    if (buf_ok(&path, "job database", err) == ST_OK) {
        s->lock_fd = open(path.p, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->lock_fd < 0) {
            err_sys(err, errno, "open");
            err_ctx(err, "lock file of the data directory");
        } else if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
            err_set(err, ST_BUSY,
                    "another server uses this data directory and runs its jobs: "
                    "give this one its own with --data DIR");
        }
    }
    buf_clear(&path);
    return err->code;
}

/* The first column of the first row; "" when there is none. */
static enum status ask(struct sqlite *s, const char *text, struct buf *out, struct err *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, text, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && !put_column(st, 0, out))
        err_set(err, ST_NOMEM, "job database");
    else if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        fail(s, rc, "opening", err);
    sqlite3_finalize(st);
    return err->code;
}

static enum status ask_number(struct sqlite *s, const char *text, int64_t *ret, struct err *err)
{
    struct buf b = BUF_INIT;
    if (ask(s, text, &b, err) == ST_OK)
        *ret = strtoll(buf_view(&b).p, NULL, 10);
    buf_clear(&b);
    return err->code;
}

static enum status exec(struct sqlite *s, const char *text, struct err *err)
{
    int rc = sqlite3_exec(s->db, text, NULL, NULL, NULL);
    return rc == SQLITE_OK ? ST_OK : fail(s, rc, "opening", err);
}

/* Ours, whole, and not from the future. *version: of its schema, 0 for a new file. */
static enum status look(struct sqlite *s, int64_t *version, struct err *err)
{
    struct buf b = BUF_INIT;
    int64_t app = 0, tables = 0;
    if (ask_number(s, "PRAGMA application_id", &app, err) == ST_OK &&
        ask_number(s, "PRAGMA user_version", version, err) == ST_OK)
        ask_number(s, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (err->code == ST_OK && tables > 0 && app != APPLICATION_ID)
        err_set(err, ST_FORMAT, "the job database's file belongs to another program");
    if (err->code == ST_OK && *version > SCHEMA)
        err_set(
            err, ST_UNSUPPORTED,
            "the job database has schema %lld, this version of strobe knows %d: use a newer one",
            (long long)*version, SCHEMA);
    if (err->code == ST_OK && ask(s, "PRAGMA quick_check(1)", &b, err) == ST_OK &&
        !str_is(buf_view(&b), "ok"))
        fail(s, SQLITE_CORRUPT, "check", err);
    buf_clear(&b);
    return err->code;
}

/* Each step and its number in one transaction: a crash leaves the one or the other. */
static enum status migrate(struct sqlite *s, int64_t version, struct err *err)
{
    char mark[120];
    for (int64_t i = version; i < SCHEMA; i++) {
        if (run(s, Q_BEGIN, NULL, 0, err) != ST_OK)
            return err->code;
        snprintf(mark, sizeof mark, "PRAGMA application_id = %d; PRAGMA user_version = %lld",
                 APPLICATION_ID, (long long)i + 1);
        if (exec(s, steps[i], err) == ST_OK)
            exec(s, mark, err);
        if (end(s, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static enum status name_owner(struct sqlite *s, struct err *err)
{
    unsigned char r[OWNER_BYTES];
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return err_sys(err, errno, "getrandom");
    for (int i = 0; i < OWNER_BYTES; i++)
        snprintf(s->owner + 2 * i, 3, "%02x", r[i]);
    return ST_OK;
}

static enum status set_up(struct sqlite *s, uint32_t wait_ms, struct err *err)
{
    int64_t version = 0;
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, (int)(wait_ms ? wait_ms : WAIT_MS));
    if (exec(s, "PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON", err) != ST_OK ||
        look(s, &version, err) != ST_OK)
        return err->code;
    /* Where shared memory is not to be had (network disks) the mode stays `delete`: as durable. */
    if (exec(s,
             "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
             "PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 8388608",
             err) != ST_OK ||
        migrate(s, version, err) != ST_OK)
        return err->code;
    /* We hold the directory's lock: whoever ran these is dead. */
    return exec(s, "UPDATE jobs SET lease = 0, owner = '' WHERE state = 'running'", err);
}

enum status store_sqlite_open(const char *file, const struct store_opts *o, struct store **ret,
                              struct err *err)
{
    static const struct store_ops ops = { .close = sqlite_close,
                                          .job_add = job_add,
                                          .job_get = job_get,
                                          .job_list = job_list,
                                          .job_claim = job_claim,
                                          .job_save = job_save,
                                          .job_cancel = job_cancel,
                                          .job_renew = job_renew,
                                          .job_counts = job_counts };
    struct sqlite *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "job database");
    s->base.ops = &ops;
    s->lock_fd = -1;
    if (name_owner(s, err) != ST_OK || lock_directory(s, o->dir, err) != ST_OK)
        goto fail;
    /* Made here, so that it and what SQLite puts beside it are for nobody else. */
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(err, errno, "open");
        err_ctx(err, "job database");
        goto fail;
    }
    close(fd);
    int rc = sqlite3_open_v2(file, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        fail(s, rc, "opening", err);
    else
        set_up(s, o->wait_ms, err);
    if (err->code != ST_OK)
        goto fail;
    *ret = &s->base;
    return ST_OK;
fail:
    sqlite_close(&s->base);
    return err->code;
}
