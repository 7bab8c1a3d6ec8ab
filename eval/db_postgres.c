/* eval/db_postgres.c - the database on a PostgreSQL server, by libpq. The shared SQL text is
 * translated: ?1 becomes $1; in the schema INTEGER becomes BIGINT and text sorts by its bytes. Rows
 * stream (single-row mode). A lost connection is made again outside of transactions. See db.h. */
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "eval/db.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <time.h>

enum { STATEMENTS_MAX = 64, PARAMS_MAX = 48, OID_INT8 = 20, OID_TEXT = 25 };

struct postgres {
    struct db base;
    PGconn *conn;
    const char *what;
    bool in_transaction;
    const char *sql[STATEMENTS_MAX]; /* prepared as "s0", "s1"... */
    int n_sql;
    char schema_lock[64];
};

static struct postgres *of(struct db *db)
{
    return (struct postgres *)db;
}

/* The first line of what the server said; it never holds the password. */
static enum status say(struct postgres *p, const char *state, const char *msg, const char *doing,
                       struct err *err)
{
    size_t n = strcspn(msg, "\n");
    enum status st = ST_IO;
    if (state && strncmp(state, "53", 2) == 0) /* insufficient resources: 53100 is disk full */
        st = ST_FULL;
    else if (state && (strcmp(state, "55P03") == 0 || strcmp(state, "40001") == 0 ||
                       strcmp(state, "40P01") == 0))
        st = ST_TIMEOUT;
    else if (state && (strncmp(state, "23", 2) == 0 || strncmp(state, "22", 2) == 0))
        st = ST_ARG;
    return err_set(err, st, "%s: %s: %.*s", p->what, doing, (int)(n < 150 ? n : 150), msg);
}

static enum status fail(struct postgres *p, const PGresult *r, const char *doing, struct err *err)
{
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    const char *msg = r ? PQresultErrorMessage(r) : PQerrorMessage(p->conn);
    return say(p, state, msg && msg[0] ? msg : "connection lost", doing, err);
}

/* ---- translation ---- */

static void translate(const char *sql, bool schema, struct buf *out)
{
    static const struct {
        const char *from, *to;
    } words[] = { { "INTEGER", "BIGINT" }, { "TEXT", "TEXT COLLATE \"C\"" }, { " STRICT", "" } };
    while (*sql) {
        size_t i = 0, n = sizeof words / sizeof words[0];
        while (i < n && strncmp(sql, words[i].from, strlen(words[i].from)) != 0)
            i++;
        if (i < n && (schema || i == 0)) {
            buf_z(out, words[i].to);
            sql += strlen(words[i].from);
        } else {
            buf_char(out, *sql == '?' ? '$' : *sql);
            sql++;
        }
    }
}

/* ---- statements ---- */

static enum status prepare(struct postgres *p, const char *name, const char *sql,
                           const struct db_value *v, int n, struct err *err)
{
    Oid types[PARAMS_MAX];
    struct buf text = BUF_INIT;
    for (int i = 0; i < n; i++)
        types[i] = v[i].kind == DB_INT ? OID_INT8 : OID_TEXT;
    translate(sql, false, &text);
    if (buf_ok(&text, p->what, err) == ST_OK) {
        PGresult *r = PQprepare(p->conn, name, text.p, n, types);
        if (PQresultStatus(r) != PGRES_COMMAND_OK)
            fail(p, r, "preparing", err);
        PQclear(r);
    }
    buf_clear(&text);
    return err->code;
}

static enum status statement(struct postgres *p, const char *sql, const struct db_value *v, int n,
                             char name[16], struct err *err)
{
    int i = 0;
    while (i < p->n_sql && p->sql[i] != sql)
        i++;
    snprintf(name, 16, "s%d", i);
    if (i < p->n_sql)
        return ST_OK;
    if (i == STATEMENTS_MAX)
        return err_set(err, ST_RANGE, "%s: too many statements", p->what);
    if (prepare(p, name, sql, v, n, err) == ST_OK)
        p->sql[p->n_sql++] = sql;
    return err->code;
}

/* Texts end with NUL on the wire: values are copied into one buffer. */
static enum status bind_all(struct postgres *p, const struct db_value *v, int n,
                            const char *text[PARAMS_MAX], struct buf *store, struct err *err)
{
    size_t at[PARAMS_MAX];
    for (int i = 0; i < n; i++) {
        at[i] = store->n;
        if (v[i].kind == DB_INT)
            buf_printf(store, "%lld", (long long)v[i].i);
        else if (v[i].text.p)
            buf_str(store, v[i].text);
        buf_char(store, '\0');
    }
    if (buf_ok(store, p->what, err) != ST_OK)
        return err->code;
    for (int i = 0; i < n; i++)
        text[i] = v[i].kind == DB_TEXT && !v[i].text.p ? NULL : store->p + at[i];
    return ST_OK;
}

static void columns(const PGresult *r, int row, struct db_value *v, int n)
{
    for (int i = 0; i < n; i++) {
        struct str text = { PQgetvalue(r, row, i), (size_t)PQgetlength(r, row, i) };
        Oid type = PQftype(r, i);
        struct err ignored = ERR_INIT;
        if (PQgetisnull(r, row, i)) {
            v[i] = db_z(NULL);
        } else if (type == OID_INT8 || type == 23 || type == 21) {
            v[i] = db_int(0);
            num_i64(text, "column", INT64_MIN, INT64_MAX, &v[i].i, &ignored);
        } else {
            v[i] = db_str(text);
        }
    }
}

/* Takes results until there are none; rows go to fn until it says false, the rest is dropped. */
static enum status drain(struct postgres *p, db_row_fn *fn, void *ctx, int64_t *changed,
                         struct err *err)
{
    PGresult *r;
    while ((r = PQgetResult(p->conn)) != NULL) {
        ExecStatusType st = PQresultStatus(r);
        if (st == PGRES_SINGLE_TUPLE || st == PGRES_TUPLES_OK) {
            struct db_value col[PARAMS_MAX];
            int n = PQnfields(r) < PARAMS_MAX ? PQnfields(r) : PARAMS_MAX;
            for (int i = 0; fn && err->code == ST_OK && i < PQntuples(r); i++) {
                columns(r, i, col, n);
                if (!fn(ctx, col, n))
                    fn = NULL;
            }
        } else if (st != PGRES_COMMAND_OK && err->code == ST_OK) {
            fail(p, r, "query", err);
        }
        if (changed && PQcmdTuples(r)[0]) {
            struct err ignored = ERR_INIT;
            num_i64(str_c(PQcmdTuples(r)), "rows", 0, INT64_MAX, changed, &ignored);
        }
        PQclear(r);
    }
    return err->code;
}

static enum status once(struct postgres *p, const char *sql, const struct db_value *v, int n,
                        db_row_fn *fn, void *ctx, int64_t *changed, struct err *err)
{
    const char *text[PARAMS_MAX];
    char name[16];
    struct buf store = BUF_INIT;
    if (n > PARAMS_MAX)
        return err_set(err, ST_RANGE, "%s: too many parameters", p->what);
    if (statement(p, sql, v, n, name, err) == ST_OK &&
        bind_all(p, v, n, text, &store, err) == ST_OK) {
        if (!PQsendQueryPrepared(p->conn, name, n, text, NULL, NULL, 0))
            fail(p, NULL, "sending", err);
        else if (fn && !PQsetSingleRowMode(p->conn))
            err_set(err, ST_IO, "%s: single-row mode", p->what);
        drain(p, fn, ctx, changed, err);
    }
    buf_clear(&store);
    return err->code;
}

static enum status settle(struct postgres *p, struct err *err)
{
    PGresult *r = PQexec(p->conn, "SET client_min_messages = warning; SET client_encoding = 'UTF8';"
                                  "SET synchronous_commit = on");
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        fail(p, r, "settings", err);
    PQclear(r);
    return err->code;
}

static enum status run(struct db *db, const char *sql, const struct db_value *v, int n,
                       db_row_fn *fn, void *ctx, int64_t *changed, struct err *err)
{
    struct postgres *p = of(db);
    struct err first = ERR_INIT;
    if (changed)
        *changed = 0;
    if (!p->in_transaction && PQstatus(p->conn) == CONNECTION_BAD) {
        PQreset(p->conn);
        p->n_sql = 0;
        if (PQstatus(p->conn) == CONNECTION_OK && settle(p, err) != ST_OK)
            return err->code;
    }
    once(p, sql, v, n, fn, ctx, changed, &first);
    return first.code == ST_OK ? ST_OK : err_set(err, first.code, "%s", first.msg);
}

/* ---- transactions, opening ---- */

static enum status begin(struct db *db, struct err *err)
{
    if (run(db, "BEGIN", NULL, 0, NULL, NULL, NULL, err) == ST_OK)
        of(db)->in_transaction = true;
    return err->code;
}

static enum status end(struct db *db, bool commit, struct err *err)
{
    struct postgres *p = of(db);
    if (!p->in_transaction)
        return err->code;
    PGresult *r = PQexec(p->conn, commit ? "COMMIT" : "ROLLBACK");
    p->in_transaction = false;
    if (PQresultStatus(r) != PGRES_COMMAND_OK)
        fail(p, r, "committing", err);
    else if (commit && strcmp(PQcmdStatus(r), "COMMIT") != 0)
        err_set(err, ST_IO, "%s: the transaction was rolled back", p->what);
    PQclear(r);
    return err->code;
}

static void postgres_close(struct db *db)
{
    PQfinish(of(db)->conn);
    free(db);
}

static enum status plain(struct postgres *p, const char *sql, bool schema, struct err *err)
{
    struct buf text = BUF_INIT;
    translate(sql, schema, &text);
    if (buf_ok(&text, p->what, err) == ST_OK) {
        PGresult *r = PQexec(p->conn, text.p);
        if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
            fail(p, r, "schema", err);
        PQclear(r);
    }
    buf_clear(&text);
    return err->code;
}

static bool first_int(void *ctx, const struct db_value *col, int n)
{
    *(int64_t *)ctx = n > 0 && col[0].kind == DB_INT ? col[0].i : 0;
    return false;
}

/* Under an advisory lock: two servers may start at a time. */
static enum status migrate(struct postgres *p, const struct db_opts *o, struct err *err)
{
    int64_t version = 0;
    char sql[120];
    if (plain(p,
              "BEGIN; SELECT pg_advisory_xact_lock(1398034255); CREATE TABLE IF NOT EXISTS "
              "strobe_eval_schema (version INTEGER NOT NULL)",
              true, err) != ST_OK ||
        run(&p->base, "SELECT max(version) FROM strobe_eval_schema", NULL, 0, first_int, &version,
            NULL, err) != ST_OK)
        return err->code;
    if (version > o->n_step)
        return err_set(err, ST_UNSUPPORTED,
                       "the %s was written by a newer strobe (schema %lld, this one knows %d)",
                       p->what, (long long)version, o->n_step);
    for (; version < o->n_step && err->code == ST_OK; version++) {
        snprintf(sql, sizeof sql, "INSERT INTO strobe_eval_schema VALUES (%lld)",
                 (long long)version + 1);
        if (plain(p, o->step[version], true, err) == ST_OK)
            plain(p, sql, false, err);
    }
    return err->code == ST_OK ? plain(p, "COMMIT", false, err) : err->code;
}

static enum status skew(struct postgres *p, struct err *err)
{
    int64_t theirs = 0, before = db_now_ms(&p->base);
    run(&p->base, "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS INTEGER)", NULL, 0,
        first_int, &theirs, NULL, err);
    p->base.clock_skew_ms = theirs - (before + db_now_ms(&p->base)) / 2;
    return err->code;
}

enum status db_postgres_open(const char *url, const struct db_opts *o, struct db **ret,
                             struct err *err)
{
    static const struct db_ops ops = { postgres_close, run, begin, end };
    struct postgres *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "%s", o->what);
    p->base = (struct db){ .ops = &ops, .shared = true };
    p->what = o->what;
    p->conn = PQconnectdb(url);
    if (PQstatus(p->conn) != CONNECTION_OK)
        say(p, NULL, PQerrorMessage(p->conn), "connecting", err);
    else if (settle(p, err) == ST_OK && migrate(p, o, err) == ST_OK)
        skew(p, err);
    if (err->code != ST_OK) {
        postgres_close(&p->base);
        return err->code;
    }
    *ret = &p->base;
    return ST_OK;
}
