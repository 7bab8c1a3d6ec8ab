/* server/store_jobs.c - see store.h: one SQL text over SQLite and PostgreSQL (store/db.h).
 *
 * A claim names the state, owner and lease that it found: of two servers that choose the same job
 * one gets it, the other chooses again. Leases run by the database's clock. */
#include "engine/base/hash.h"
#include "engine/base/utf8.h"
#include "server/store_parts.h"

#include <assert.h>
#include <stdlib.h>

enum { CLAIM_TRIES_MAX = 1000 };

#define COLUMNS                                                                                    \
    "seq, id, kind, state, created, started, finished, params, progress, result, error, cancel, "  \
    "resume, restarts, idle_tries, best_step, pid, pid_birth"
enum { N_COLUMNS = 18 };

/* Of leases. */
static int64_t database_time(const struct store *s, int64_t now)
{
    return now + s->db->clock_skew_ms / 1000;
}

/* What a process said may be no UTF-8, which PostgreSQL does not take. NULL: NULL. */
static struct db_value db_clean(const char *z, struct buf *room)
{
    if (!z || utf8_valid(str_c(z)))
        return db_z(z);
    utf8_repair(str_c(z), room);
    return db_str(buf_view(room));
}

/* ---- rows ---- */

static enum job_state state_of(struct str name)
{
    for (int i = 0; i < JOB_STATES; i++)
        if (str_is(name, job_state_name((enum job_state)i)))
            return (enum job_state)i;
    return JOB_FAILED; /* the schema's check lets nothing else in */
}

static void copy_short(char *out, size_t max, struct str s)
{
    snprintf(out, max, "%.*s", (int)(s.n < max ? s.n : max - 1), s.p ? s.p : "");
}

/* *ok falls where memory failed. NULL: NULL. */
static char *text_of(struct str s, bool *ok)
{
    char *copy = s.p ? str_dup(s) : NULL;
    *ok &= !s.p || copy;
    return copy;
}

struct rows {
    struct job_row *row;
    size_t n, cap;
    bool more, nomem;
    struct buf *hash; /* NULL, or takes the column behind the row's */
};

/* The columns of COLUMNS. Goes on to the end: a statement that writes is through only then. */
static bool take_row(void *ctx, const struct db_value *c, int n)
{
    struct rows *l = ctx;
    bool ok = true;
    if (l->n == l->cap) {
        l->more = true;
        return true;
    }
    struct job_row r = {
        .seq = c[0].i,
        .state = state_of(c[3].text),
        .created = c[4].i,
        .started = c[5].i,
        .finished = c[6].i,
        .params = text_of(c[7].text, &ok),
        .progress = text_of(c[8].text, &ok),
        .result = text_of(c[9].text, &ok),
        .error = text_of(c[10].text, &ok),
        .cancel = c[11].i != 0,
        .resume = c[12].i != 0,
        .restarts = (uint32_t)c[13].i,
        .idle_tries = (uint32_t)c[14].i,
        .best_step = c[15].i,
        .pid = c[16].i,
        .pid_birth = c[17].i,
    };
    copy_short(r.id, sizeof r.id, c[1].text);
    copy_short(r.kind, sizeof r.kind, c[2].text);
    if (l->hash && n > N_COLUMNS && c[N_COLUMNS].text.p)
        buf_str(l->hash, c[N_COLUMNS].text);
    if (!ok || (l->hash && l->hash->failed)) {
        job_row_clear(&r);
        l->nomem = true;
        return false; /* the caller rolls back, or has read only */
    }
    l->row[l->n++] = r;
    return true;
}

/* One row or ST_NOTFOUND. hash: as in struct rows. */
static enum status one_row(struct store *s, const char *sql, const struct db_value *v, int n,
                           struct job_row *ret, struct buf *hash, struct err *err)
{
    struct job_row r = { 0 };
    struct rows l = { .row = &r, .cap = 1, .hash = hash };
    if (db_run(s->db, sql, v, n, take_row, &l, NULL, err) == ST_OK && l.nomem)
        err_set(err, ST_NOMEM, "job database: a row");
    if (err->code == ST_OK && l.n == 0)
        err_set(err, ST_NOTFOUND, "there is no such job");
    if (err->code == ST_OK)
        *ret = r;
    else
        job_row_clear(&r);
    return err->code;
}

static bool take_int(void *ctx, const struct db_value *c, int n)
{
    *(int64_t *)ctx = n > 0 ? c[0].i : 0;
    return true;
}

/* Names of jobs are ours; what else clients send is nobody's, whatever bytes it has. */
static bool is_id(const char *id)
{
    for (const char *p = id; *p; p++)
        if (*p < ' ' || *p > '~')
            return false;
    return true;
}

/* ---- adding ---- */

/* The row's name of a request. Keys are a server's own, and in PostgreSQL any bytes. */
static void put_key(const struct store *s, const char *key, struct buf *out)
{
    struct sha256 h;
    char hex[65];
    if (!s->db->shared) {
        buf_z(out, key);
        return;
    }
    sha256_init(&h);
    sha256_add(&h, key, strlen(key));
    sha256_hex(&h, hex);
    buf_printf(out, "%s/%s", s->place, hex);
}

/* seq stays 0 when a job with this key is there. */
static enum status insert(struct store *s, const struct job_row *row, struct db_value key,
                          const char *hash, int64_t *seq, struct err *err)
{
    struct db_value v[] = { db_z(row->id), db_z(row->kind), db_int(row->created), db_z(row->params),
                            key,           db_z(hash),      db_z(s->place) };
    return db_run(s->db,
                  "INSERT INTO jobs (id, kind, state, created, params, request_key, request_hash,"
                  " place) VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7)"
                  " ON CONFLICT (request_key) DO NOTHING RETURNING seq",
                  v, 7, take_int, seq, NULL, err);
}

/* The job that came with this key before. ST_ARG: with another content. */
static enum status by_key(struct store *s, struct db_value key, const char *hash,
                          struct job_row *ret, struct err *err)
{
    struct buf was = BUF_INIT;
    struct job_row r;
    if (one_row(s, "SELECT " COLUMNS ", request_hash FROM jobs WHERE request_key = ?1", &key, 1, &r,
                &was, err) == ST_OK) {
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

enum status store_job_add(struct store *s, struct job_row *row, const char *key, const char *hash,
                          bool *known, struct err *err)
{
    struct job_row was = { 0 };
    struct buf name = BUF_INIT;
    int64_t seq = 0;
    assert(row->id[0] && row->kind[0] && row->params && (!key || hash));
    *known = false;
    if (key)
        put_key(s, key, &name);
    if (buf_ok(&name, "job database", err) == ST_OK && db_begin(s->db, err) == ST_OK) {
        struct db_value k = key ? db_str(buf_view(&name)) : db_z(NULL);
        bool there = insert(s, row, k, key ? hash : NULL, &seq, err) == ST_OK && seq == 0;
        if (there)
            by_key(s, k, hash, &was, err);
        *known = db_end(s->db, err) == ST_OK && there;
    }
    buf_clear(&name);
    if (err->code == ST_OK && *known) {
        job_row_clear(row);
        *row = was;
    } else {
        job_row_clear(&was);
        row->seq = err->code == ST_OK ? seq : row->seq;
    }
    return err->code;
}

/* ---- reading ---- */

enum status store_job_get(struct store *s, const char *id, struct job_row *ret, struct err *err)
{
    struct db_value v[] = { db_z(id), db_z(s->place) };
    if (!is_id(id))
        return err_set(err, ST_NOTFOUND, "there is no such job");
    return one_row(s, "SELECT " COLUMNS " FROM jobs WHERE id = ?1 AND place = ?2", v, 2, ret, NULL,
                   err);
}

/* Where the list goes on: seq of a job; INT64_MAX without one. */
static enum status seq_of(struct store *s, const char *id, int64_t *ret, struct err *err)
{
    struct db_value v[] = { db_z(id), db_z(s->place) };
    int64_t seq = 0;
    *ret = INT64_MAX;
    if (!id)
        return ST_OK;
    if (is_id(id) && db_run(s->db, "SELECT seq FROM jobs WHERE id = ?1 AND place = ?2", v, 2,
                            take_int, &seq, NULL, err) != ST_OK)
        return err->code;
    if (seq == 0)
        return err_set(err, ST_NOTFOUND, "there is no job '%.64s'", id);
    *ret = seq;
    return ST_OK;
}

enum status store_job_list(struct store *s, const char *after, uint32_t limit, struct job_list *ret,
                           struct err *err)
{
    struct rows l = { .cap = limit };
    int64_t seq;
    if (seq_of(s, after, &seq, err) != ST_OK)
        return err->code;
    l.row = calloc((size_t)limit + 1, sizeof *l.row);
    if (!l.row)
        return err_set(err, ST_NOMEM, "list of jobs");
    struct db_value v[] = { db_int(seq), db_int((int64_t)limit + 1), db_z(s->place) };
    db_run(s->db,
           "SELECT " COLUMNS " FROM jobs WHERE seq < ?1 AND place = ?3 ORDER BY seq DESC LIMIT ?2",
           v, 3, take_row, &l, NULL, err);
    if (l.nomem)
        err_set(err, ST_NOMEM, "list of jobs");
    struct job_list list = { l.row, l.n, l.more };
    if (err->code == ST_OK)
        *ret = list;
    else
        job_list_clear(&list);
    return err->code;
}

static bool take_count(void *ctx, const struct db_value *c, int n)
{
    uint64_t *counts = ctx;
    if (n > 1)
        counts[state_of(c[0].text)] += (uint64_t)c[1].i;
    return true;
}

enum status store_job_counts(struct store *s, uint64_t counts[JOB_STATES], struct err *err)
{
    uint64_t n[JOB_STATES] = { 0 };
    struct db_value v[] = { db_z(s->place) };
    if (db_run(s->db, "SELECT state, count(*) FROM jobs WHERE place = ?1 GROUP BY state", v, 1,
               take_count, n, NULL, err) == ST_OK)
        memcpy(counts, n, sizeof n);
    return err->code;
}

/* ---- claiming ---- */

struct candidate {
    bool found;
    int64_t seq, lease;
    enum job_state state;
    char owner[STORE_OWNER_MAX];
};

static bool take_candidate(void *ctx, const struct db_value *c, int n)
{
    struct candidate *f = ctx;
    *f = (struct candidate){
        .found = n > 3, .seq = c[0].i, .state = state_of(c[1].text), .lease = c[3].i
    };
    copy_short(f->owner, sizeof f->owner, c[2].text);
    return true;
}

static enum status next(struct store *s, int64_t now, struct candidate *f, struct err *err)
{
    struct db_value v[] = { db_z(s->place), db_int(now), db_z(s->owner) };
    *f = (struct candidate){ 0 };
    /* A clock that jumps must not make us take our own jobs twice: hence the owner. */
    db_run(s->db,
           "SELECT seq, state, owner, lease FROM jobs WHERE place = ?1 AND (state = 'queued' OR"
           " (state = 'running' AND lease <= ?2 AND owner <> ?3))"
           " ORDER BY CASE WHEN state = 'queued' THEN 1 ELSE 0 END, seq LIMIT 1",
           v, 3, take_candidate, f, NULL, err);
    if (err->code == ST_OK && !f->found)
        err_set(err, ST_NOTFOUND, "there is no such job");
    return err->code;
}

/* ST_NOTFOUND: another server has been faster. */
static enum status take(struct store *s, const struct candidate *f, int64_t now,
                        struct job_row *ret, struct err *err)
{
    struct db_value v[] = { db_int(f->seq), db_z(job_state_name(f->state)),
                            db_z(f->owner), db_int(f->lease),
                            db_z(s->owner), db_int(now + STORE_LEASE_S) };
    return one_row(s,
                   "UPDATE jobs SET state = 'running', owner = ?5, lease = ?6 WHERE seq = ?1 AND"
                   " state = ?2 AND owner = ?3 AND lease = ?4 RETURNING " COLUMNS,
                   v, 6, ret, NULL, err);
}

enum status store_job_claim(struct store *s, int64_t now, struct job_row *ret, struct err *err)
{
    struct job_row r = { 0 };
    struct candidate f = { 0 };
    int64_t at = database_time(s, now);
    bool took = false;
    if (db_begin(s->db, err) != ST_OK)
        return err->code;
    /* A round that fails is another server's success. */
    for (int i = 0; i < CLAIM_TRIES_MAX && next(s, at, &f, err) == ST_OK; i++) {
        struct err mine = ERR_INIT;
        took = take(s, &f, at, &r, &mine) == ST_OK;
        if (mine.code != ST_OK && mine.code != ST_NOTFOUND)
            *err = mine;
        if (mine.code != ST_NOTFOUND)
            break;
    }
    if (err->code == ST_OK && !took)
        err_set(err, ST_TIMEOUT, "job database: other servers take every job first");
    if (db_end(s->db, err) == ST_OK) {
        *ret = r;
        ret->state = f.state;
    } else {
        job_row_clear(&r);
    }
    return err->code;
}

/* ---- while it runs ---- */

enum status store_job_save(struct store *s, const struct job_row *r, int64_t now, struct err *err)
{
    int64_t changed = 0;
    int64_t until = database_time(s, now) + STORE_LEASE_S;
    struct buf room = BUF_INIT;
    struct db_value error = db_clean(r->error, &room);
    struct db_value v[] = {
        db_int(r->seq),
        db_z(s->owner),
        db_z(job_state_name(r->state)),
        db_int(r->started),
        db_int(r->finished),
        db_z(r->progress),
        db_z(r->result),
        error,
        db_int(r->cancel),
        db_int(r->resume),
        db_int(r->restarts),
        db_int(r->idle_tries),
        db_int(r->best_step),
        db_int(r->pid),
        db_int(r->pid_birth),
        db_int(r->state == JOB_RUNNING ? until : 0),
    };
    /* A wish to cancel that this server has not heard of outlives the save. */
    if (buf_ok(&room, "job database", err) == ST_OK)
        db_run(s->db,
               "UPDATE jobs SET state = ?3, started = ?4, finished = ?5, progress = ?6,"
               " result = ?7, error = ?8, cancel = CASE WHEN cancel <> 0 AND"
               " ?3 IN ('running', 'queued') THEN 1 ELSE ?9 END, resume = ?10, restarts = ?11,"
               " idle_tries = ?12, best_step = ?13, pid = ?14, pid_birth = ?15, lease = ?16"
               " WHERE seq = ?1 AND state = 'running' AND owner = ?2",
               v, 16, NULL, NULL, &changed, err);
    if (err->code == ST_OK && changed == 0)
        err_set(err, ST_NOTFOUND, "job %s is not this server's any more", r->id);
    buf_clear(&room);
    return err->code;
}

/* Changes job ?1 of place ?2, and reads it. now: ?3. */
static enum status change_job(struct store *s, const char *sql, const char *id, int64_t now,
                              struct job_row *ret, struct err *err)
{
    struct db_value v[] = { db_z(id), db_z(s->place), db_int(now) };
    struct job_row r = { 0 };
    if (!is_id(id))
        return err_set(err, ST_NOTFOUND, "there is no such job");
    if (db_begin(s->db, err) != ST_OK)
        return err->code;
    if (db_run(s->db, sql, v, 3, NULL, NULL, NULL, err) == ST_OK)
        store_job_get(s, id, &r, err);
    if (db_end(s->db, err) == ST_OK)
        *ret = r;
    else
        job_row_clear(&r);
    return err->code;
}

enum status store_job_cancel(struct store *s, const char *id, int64_t now, struct job_row *ret,
                             struct err *err)
{
    return change_job(s,
                      "UPDATE jobs SET cancel = CASE WHEN state = 'running' THEN 1 ELSE 0 END,"
                      " finished = CASE WHEN state = 'queued' THEN ?3 ELSE finished END,"
                      " state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END"
                      " WHERE id = ?1 AND place = ?2 AND state IN ('queued', 'running')",
                      id, now, ret, err);
}

enum status store_job_resume(struct store *s, const char *id, struct job_row *ret, struct err *err)
{
    return change_job(s,
                      "UPDATE jobs SET state = 'queued', cancel = 0, finished = ?3, error = NULL,"
                      " resume = 1, idle_tries = 0"
                      " WHERE id = ?1 AND place = ?2 AND state IN ('cancelled', 'failed')",
                      id, 0, ret, err);
}

enum status store_job_renew(struct store *s, int64_t now, struct err *err)
{
    struct db_value v[] = { db_z(s->owner), db_int(database_time(s, now) + STORE_LEASE_S) };
    return db_run(s->db, "UPDATE jobs SET lease = ?2 WHERE state = 'running' AND owner = ?1", v, 2,
                  NULL, NULL, NULL, err);
}
