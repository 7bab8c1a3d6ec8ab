/* eval/run_samples.c - samples, attempts and scores in the store. See run_store.h. */
#include "engine/base/json.h"
#include "engine/base/utf8.h"
#include "eval/run_store_internal.h"

#include <stdlib.h>

/* ---- rows ---- */

#define SAMPLE_INTS                                                                                \
    "ord, state, klass, n_attempt, prompt_tokens, cached_tokens, completion_tokens, latency_us, "  \
    "version, trap, level, instance, repeat, original, gold_num, gold_den, finish, key, tmpl, "    \
    "variant, gold_text, hash, error, score"
#define SAMPLE_COLUMNS SAMPLE_INTS ", question, info, response, reasoning"
#define SAMPLE_NO_TEXT SAMPLE_INTS ", '', info, '', ''"
#define CANONICAL      " ORDER BY tmpl, level, variant, instance, repeat, key"

struct each {
    run_sample_fn *fn;
    void *ctx;
    int64_t n;
};

static struct str text(struct db_value v)
{
    return v.text.p ? v.text : STR("");
}

static bool take_sample(void *ctx, const struct db_value *c, int n)
{
    struct each *e = ctx;
    struct run_sample r = {
        .ord = c[0].i,
        .state = (enum sample_state)c[1].i,
        .klass = (enum sample_class)c[2].i,
        .n_attempt = c[3].i,
        .prompt_tokens = c[4].i,
        .cached_tokens = c[5].i,
        .completion_tokens = c[6].i,
        .latency_us = c[7].i,
        .version = c[8].i,
        .trap = c[9].i,
        .level = c[10].i,
        .instance = c[11].i,
        .repeat = c[12].i,
        .original = c[13].i != 0,
        .gold_num = c[14].i,
        .gold_den = c[15].i,
        .finish = text(c[16]),
        .key = text(c[17]),
        .tmpl = text(c[18]),
        .variant = text(c[19]),
        .gold_text = text(c[20]),
        .hash = text(c[21]),
        .error = text(c[22]),
        .question = text(c[24]),
        .info = text(c[25]),
        .response = text(c[26]),
        .reasoning = text(c[27]),
    };
    score_read(text(c[23]), &r);
    e->n++;
    return e->fn(e->ctx, &r);
}

#define WHERE                                                                                      \
    " FROM eval_samples WHERE run = ?1 AND ord > ?2 AND (?3 = -1 OR state = ?3) AND"               \
    " (?4 = -1 OR klass = ?4) AND (?5 = '' OR tmpl = ?5) AND (?6 = '' OR variant = ?6) AND"        \
    " (?7 = 1 OR level = ?8)"

enum status run_store_each(struct run_store *s, const char *run, const struct sample_query *q,
                           run_sample_fn *fn, void *ctx, struct err *err)
{
    static const char *const sql[2][2] = {
        { "SELECT " SAMPLE_COLUMNS WHERE CANONICAL " LIMIT ?9",
          "SELECT " SAMPLE_NO_TEXT WHERE CANONICAL " LIMIT ?9" },
        { "SELECT " SAMPLE_COLUMNS WHERE " ORDER BY ord LIMIT ?9",
          "SELECT " SAMPLE_NO_TEXT WHERE " ORDER BY ord LIMIT ?9" },
    };
    struct each e = { fn, ctx, 0 };
    struct db_value v[] = { db_z(run),
                            db_int(q->by_ord ? q->after : -1),
                            db_int(q->state),
                            db_int(q->klass),
                            db_z(q->tmpl ? q->tmpl : ""),
                            db_z(q->variant ? q->variant : ""),
                            db_int(q->level == SAMPLE_ANY),
                            db_int(q->level == SAMPLE_ANY ? 0 : q->level),
                            db_int(q->limit > 0 ? q->limit : INT64_MAX) };
    return db_run(s->db, sql[q->by_ord][q->no_text], v, 9, take_sample, &e, NULL, err);
}

enum status run_store_sample(struct run_store *s, const char *run, int64_t ord, run_sample_fn *fn,
                             void *ctx, struct err *err)
{
    struct each e = { fn, ctx, 0 };
    struct db_value v[] = { db_z(run), db_int(ord) };
    if (db_run(s->db, "SELECT " SAMPLE_COLUMNS " FROM eval_samples WHERE run = ?1 AND ord = ?2", v,
               2, take_sample, &e, NULL, err) == ST_OK &&
        e.n == 0)
        err_set(err, ST_NOTFOUND, "run %.32s has no sample %lld", run, (long long)ord);
    return err->code;
}

struct each_attempt {
    run_attempt_fn *fn;
    void *ctx;
};

static bool take_attempt(void *ctx, const struct db_value *c, int n)
{
    struct each_attempt *e = ctx;
    struct run_attempt r = { .ord = c[0].i,
                             .n = c[1].i,
                             .outcome = (enum attempt_outcome)c[2].i,
                             .at_ms = c[3].i,
                             .latency_us = c[4].i,
                             .status = c[5].i,
                             .request_hash = text(c[6]),
                             .error = text(c[7]),
                             .body = text(c[8]) };
    return e->fn(e->ctx, &r);
}

enum status run_store_attempts(struct run_store *s, const char *run, int64_t ord,
                               run_attempt_fn *fn, void *ctx, struct err *err)
{
    struct each_attempt e = { fn, ctx };
    struct db_value v[] = { db_z(run), db_int(ord) };
    return db_run(
        s->db,
        "SELECT ord, n, outcome, at_ms, latency_us, status, request_hash, error, body"
        " FROM eval_attempts WHERE run = ?1 AND (?2 = -1 OR ord = ?2) ORDER BY at_ms, ord, n",
        v, 2, take_attempt, &e, NULL, err);
}

/* ---- items ---- */

/* The database takes UTF-8 without NUL. */
static struct str clean(struct str s, struct buf *store)
{
    if (utf8_valid(s) && (s.n == 0 || !memchr(s.p, '\0', s.n)))
        return s.p ? s : STR("");
    utf8_repair(s, store);
    for (size_t i = 0; i < store->n; i++)
        if (store->p[i] == '\0')
            store->p[i] = ' ';
    return buf_view(store);
}

static enum status known_item(struct run_store *s, const char *run, const struct run_sample *r,
                              bool *known, struct err *err)
{
    int64_t same = 0;
    struct ints t = { &same, 1, false };
    struct db_value v[] = { db_z(run), db_str(r->key), db_str(r->hash) };
    db_run(s->db,
           "SELECT CASE WHEN hash = ?3 THEN 1 ELSE 0 END FROM eval_samples WHERE run = ?1 AND key "
           "= ?2",
           v, 3, take_ints, &t, NULL, err);
    *known = t.found;
    if (err->code == ST_OK && t.found && !same)
        return err_set(
            err, ST_ARG,
            "item %.*s is not what it was when this run was made (its template, the pools "
            "or the seed changed): start a new run",
            (int)(r->key.n < 80 ? r->key.n : 80), r->key.p);
    return err->code;
}

static enum status add_one(struct run_store *s, const char *run, const struct run_sample *r,
                           int64_t ord, struct err *err)
{
    struct buf a = BUF_INIT, b = BUF_INIT;
    struct db_value v[] = { db_z(run),
                            db_int(ord),
                            db_int(r->level),
                            db_int(r->instance),
                            db_int(r->repeat),
                            db_int(r->original),
                            db_int(r->gold_num),
                            db_int(r->gold_den),
                            db_str(r->key),
                            db_str(r->tmpl),
                            db_str(r->variant),
                            db_str(r->gold_text),
                            db_str(r->hash),
                            db_str(clean(r->question, &a)),
                            db_str(clean(r->info.n ? r->info : STR("{}"), &b)) };
    if (a.failed || b.failed)
        err_set(err, ST_NOMEM, "an item");
    else
        db_run(s->db,
               "INSERT INTO eval_samples (run, ord, level, instance, repeat, original, gold_num,"
               " gold_den, key, tmpl, variant, gold_text, hash, question, info)"
               " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
               v, 15, NULL, NULL, NULL, err);
    buf_clear(&a);
    buf_clear(&b);
    return err->code;
}

enum status run_store_add(struct run_store *s, const char *run, const struct run_sample *rows,
                          size_t n, int64_t *added, struct err *err)
{
    int64_t next = 0;
    struct ints t = { &next, 1, false };
    struct db_value v[] = { db_z(run) };
    *added = 0;
    if (db_begin(s->db, err) != ST_OK)
        return err->code;
    /* The row of the run is the lock: two makers do not give the same ord twice. */
    db_run(s->db, "UPDATE eval_runs SET seq = seq WHERE id = ?1", v, 1, NULL, NULL, NULL, err);
    if (err->code == ST_OK)
        db_run(s->db, "SELECT coalesce(max(ord), -1) + 1 FROM eval_samples WHERE run = ?1", v, 1,
               take_ints, &t, NULL, err);
    for (size_t i = 0; i < n && err->code == ST_OK; i++) {
        bool known;
        if (known_item(s, run, &rows[i], &known, err) == ST_OK && !known &&
            add_one(s, run, &rows[i], next, err) == ST_OK) {
            next++;
            ++*added;
        }
    }
    if (*added && err->code == ST_OK)
        db_run(s->db, "UPDATE eval_runs SET state = 0, finished = 0 WHERE id = ?1 AND state = 4", v,
               1, NULL, NULL, NULL, err);
    return db_end(s->db, err);
}

enum status run_store_reuse(struct run_store *s, const char *run, const char *from, int64_t *n,
                            struct err *err)
{
    struct db_value v[] = { db_z(run), db_z(from) };
    *n = 0;
    return db_run(s->db,
                  "UPDATE eval_samples AS a SET state = 2, klass = b.klass, version = b.version,"
                  " trap = b.trap, finish = b.finish, score = b.score, response = b.response,"
                  " reasoning = b.reasoning FROM eval_samples AS b WHERE a.run = ?1 AND a.state = 0"
                  " AND b.run = ?2 AND b.state = 2 AND b.hash = a.hash AND b.repeat = a.repeat",
                  v, 2, NULL, NULL, n, err);
}

/* ---- leases ---- */

enum { REAP_MS = 5000, REAP_SOON_MS = 400 };

static enum status lease_once(struct run_store *s, const char *run, int64_t n, run_sample_fn *fn,
                              void *ctx, int64_t *got, struct err *err)
{
    int64_t now = db_now_ms(s->db);
    struct each e = { fn, ctx, 0 };
    struct db_value v[] = { db_z(run), db_z(s->owner), db_int(now + RUN_LEASE_MS), db_int(n) };
    /* While it is paused or cancelled nothing is handed out, whoever asks. */
    /* The first is a table of its own: as a subquery it may be run more than once. */
    db_lazy(s->db, true); /* a lease that power loss takes away is one that ended */
    if (s->db->shared)
        db_run(s->db,
               "WITH got AS MATERIALIZED (SELECT ord AS o FROM eval_samples WHERE run = ?1 AND"
               " state = 0 AND EXISTS (SELECT 1 FROM eval_runs WHERE id = ?1 AND state = 1)"
               " ORDER BY ord LIMIT ?4 FOR UPDATE SKIP LOCKED)"
               " UPDATE eval_samples SET state = 1, owner = ?2, lease = ?3 FROM got"
               " WHERE run = ?1 AND ord = o RETURNING " SAMPLE_COLUMNS,
               v, 4, take_sample, &e, NULL, err);
    else
        db_run(
            s->db,
            "UPDATE eval_samples SET state = 1, owner = ?2, lease = ?3 WHERE run = ?1 AND ord IN"
            " (SELECT ord FROM eval_samples WHERE run = ?1 AND state = 0 AND EXISTS (SELECT 1 FROM"
            " eval_runs WHERE id = ?1 AND state = 1) ORDER BY ord LIMIT ?4)"
            " RETURNING " SAMPLE_COLUMNS,
            v, 4, take_sample, &e, NULL, err);
    db_lazy(s->db, false);
    *got = e.n;
    return err->code;
}

/* What runners that are gone had leased is looked for now and then, and when nothing else is left.
 */
enum status run_store_lease(struct run_store *s, const char *run, int64_t n, run_sample_fn *fn,
                            void *ctx, int64_t *got, struct err *err)
{
    *got = 0;
    if (db_now_ms(s->db) - s->reaped_ms >= REAP_MS && run_store_reap(s, run, err) != ST_OK)
        return err->code;
    if (lease_once(s, run, n, fn, ctx, got, err) == ST_OK && *got == 0 &&
        db_now_ms(s->db) - s->reaped_ms >= REAP_SOON_MS && run_store_reap(s, run, err) == ST_OK)
        lease_once(s, run, n, fn, ctx, got, err);
    return err->code;
}

enum status run_store_renew(struct run_store *s, const char *run, struct err *err)
{
    struct db_value v[] = { db_z(run), db_z(s->owner), db_int(db_now_ms(s->db) + RUN_LEASE_MS) };
    return db_run(s->db,
                  "UPDATE eval_samples SET lease = ?3 WHERE run = ?1 AND state = 1 AND owner = ?2",
                  v, 3, NULL, NULL, NULL, err);
}

enum status run_store_release(struct run_store *s, const char *run, int64_t ord, struct err *err)
{
    struct db_value v[] = { db_z(run), db_z(s->owner), db_int(ord) };
    return db_run(s->db,
                  "UPDATE eval_samples SET state = 0, owner = '' WHERE run = ?1 AND state = 1 AND"
                  " owner = ?2 AND (?3 = -1 OR ord = ?3)",
                  v, 3, NULL, NULL, NULL, err);
}

/* ---- results ---- */

static enum status write_done(struct run_store *s, const char *run, const struct run_result *r,
                              int64_t *changed, struct err *err)
{
    const struct run_sample *a = r->sample;
    struct buf response = BUF_INIT, reasoning = BUF_INIT, error = BUF_INIT, score = BUF_INIT;
    if (r->to == SAMPLE_DONE)
        score_write(a, &score);
    struct db_value v[] = { db_z(run),
                            db_int(r->attempt.ord),
                            db_z(s->owner),
                            db_int(r->to),
                            db_int(a->klass),
                            db_int(a->prompt_tokens),
                            db_int(a->cached_tokens),
                            db_int(a->completion_tokens),
                            db_int(a->latency_us),
                            db_int(a->version),
                            db_int(a->trap),
                            db_str(a->finish),
                            db_str(clean(a->error, &error)),
                            db_str(buf_view(&score)),
                            db_str(clean(a->response, &response)),
                            db_str(clean(a->reasoning, &reasoning)) };
    if (response.failed || reasoning.failed || error.failed || score.failed)
        err_set(err, ST_NOMEM, "a result");
    else
        db_run(
            s->db,
            "UPDATE eval_samples SET n_attempt = n_attempt + 1, owner = '', state = ?4, klass = ?5,"
            " prompt_tokens = ?6, cached_tokens = ?7, completion_tokens = ?8, latency_us = ?9,"
            " version = ?10, trap = ?11, finish = ?12, error = ?13, score = ?14, response = ?15,"
            " reasoning = ?16 WHERE run = ?1 AND ord = ?2 AND state = 1 AND owner = ?3",
            v, 16, NULL, NULL, changed, err);
    buf_clear(&response);
    buf_clear(&reasoning);
    buf_clear(&error);
    buf_clear(&score);
    return err->code;
}

static enum status write_attempt(struct run_store *s, const char *run, const struct run_attempt *a,
                                 struct err *err)
{
    struct buf body = BUF_INIT, error = BUF_INIT;
    struct str cut = { a->body.p, a->body.n < RUN_BODY_MAX ? a->body.n : RUN_BODY_MAX };
    struct db_value v[] = { db_z(run),
                            db_int(a->ord),
                            db_int(a->outcome),
                            db_int(a->at_ms),
                            db_int(a->latency_us),
                            db_int(a->status),
                            db_str(a->request_hash),
                            db_str(clean(a->error, &error)),
                            db_str(clean(cut, &body)) };
    if (body.failed || error.failed)
        err_set(err, ST_NOMEM, "an attempt");
    else
        db_run(s->db,
               "INSERT INTO eval_attempts (run, ord, n, outcome, at_ms, latency_us, status,"
               " request_hash, error, body) SELECT ?1, ?2, n_attempt, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
               " FROM eval_samples WHERE run = ?1 AND ord = ?2",
               v, 9, NULL, NULL, NULL, err);
    buf_clear(&body);
    buf_clear(&error);
    return err->code;
}

static enum status commit_one(struct run_store *s, const char *run, const struct run_result *r,
                              int64_t *late, struct err *err)
{
    int64_t changed = 0;
    struct db_value v[] = { db_z(run), db_int(r->attempt.ord), db_z(s->owner), db_int(r->to),
                            db_z(r->to == SAMPLE_PENDING ? "" : s->owner) };
    if (r->to == SAMPLE_DONE || r->to == SAMPLE_FAILED)
        write_done(s, run, r, &changed, err);
    else
        db_run(s->db,
               "UPDATE eval_samples SET n_attempt = n_attempt + 1, state = ?4, owner = ?5"
               " WHERE run = ?1 AND ord = ?2 AND state = 1 AND owner = ?3",
               v, 5, NULL, NULL, &changed, err);
    if (err->code == ST_OK && changed == 0) {
        ++*late;
        db_run(s->db,
               "UPDATE eval_samples SET n_attempt = n_attempt + 1 WHERE run = ?1 AND ord = ?2", v,
               2, NULL, NULL, NULL, err);
    }
    return err->code == ST_OK ? write_attempt(s, run, &r->attempt, err) : err->code;
}

/* Was this very attempt stored before? */
static enum status is_known(struct run_store *s, const char *run, const struct run_attempt *a,
                            bool *known, struct err *err)
{
    int64_t n = 0;
    struct ints t = { &n, 1, false };
    struct db_value v[] = { db_z(run), db_int(a->ord), db_int(a->at_ms), db_int(a->latency_us),
                            db_str(a->request_hash) };
    db_run(s->db,
           "SELECT count(*) FROM eval_attempts WHERE run = ?1 AND ord = ?2 AND at_ms = ?3 AND"
           " latency_us = ?4 AND request_hash = ?5",
           v, 5, take_ints, &t, NULL, err);
    *known = n > 0;
    return err->code;
}

enum status run_store_commit(struct run_store *s, const char *run, const struct run_result *r,
                             size_t n, int64_t *late, struct err *err)
{
    *late = 0;
    if (n == 0 || db_begin(s->db, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < n && err->code == ST_OK; i++) {
        bool known = false;
        if (!s->unsure || is_known(s, run, &r[i].attempt, &known, err) == ST_OK)
            if (!known)
                commit_one(s, run, &r[i], late, err);
    }
    /* A connection that ends while the server commits leaves open whether it did. */
    bool reached = err->code == ST_OK;
    if (db_end(s->db, err) == ST_OK)
        s->unsure = false;
    else if (reached)
        s->unsure = true;
    return err->code;
}

static enum status score_one(struct run_store *s, const char *run, const struct run_sample *r,
                             struct err *err)
{
    struct buf score = BUF_INIT;
    score_write(r, &score);
    struct db_value v[] = { db_z(run),        db_int(r->ord),  db_int(r->version),
                            db_int(r->klass), db_int(r->trap), db_str(buf_view(&score)) };
    if (buf_ok(&score, "a score", err) == ST_OK &&
        db_run(s->db,
               "INSERT INTO eval_scores (run, ord, version, klass, trap, score) SELECT run, ord,"
               " version, klass, trap, score FROM eval_samples WHERE run = ?1 AND ord = ?2 AND"
               " state = 2 AND version > 0 AND version <> ?3 ON CONFLICT DO NOTHING",
               v, 3, NULL, NULL, NULL, err) == ST_OK)
        db_run(s->db,
               "UPDATE eval_samples SET version = ?3, klass = ?4, trap = ?5, score = ?6"
               " WHERE run = ?1 AND ord = ?2 AND state = 2",
               v, 6, NULL, NULL, NULL, err);
    buf_clear(&score);
    return err->code;
}

enum status run_store_score(struct run_store *s, const char *run, const struct run_sample *rows,
                            size_t n, struct err *err)
{
    if (db_begin(s->db, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < n && err->code == ST_OK; i++)
        score_one(s, run, &rows[i], err);
    return db_end(s->db, err);
}

/* ---- the dump ---- */

static void put_text(struct buf *out, const char *key, struct str s)
{
    buf_printf(out, ",\"%s\":", key);
    json_quote(out, s);
}

static bool dump_sample(void *ctx, const struct run_sample *r)
{
    struct buf *out = ctx;
    buf_z(out, "{\"key\":");
    json_quote(out, r->key);
    buf_printf(out, ",\"state\":\"%s\",\"class\":\"%s\",\"trap\":%lld,\"version\":%lld",
               sample_state_name(r->state), sample_class_name(r->klass), (long long)r->trap,
               (long long)r->version);
    buf_printf(out, ",\"gold\":\"%lld/%lld\",\"prompt_tokens\":%lld,\"completion_tokens\":%lld",
               (long long)r->gold_num, (long long)r->gold_den, (long long)r->prompt_tokens,
               (long long)r->completion_tokens);
    put_text(out, "hash", r->hash);
    put_text(out, "question", r->question);
    put_text(out, "info", r->info);
    put_text(out, "response", r->response);
    put_text(out, "reasoning", r->reasoning);
    put_text(out, "finish", r->finish);
    put_text(out, "error", r->error);
    buf_z(out, ",\"score\":");
    score_write(r, out);
    buf_z(out, "}\n");
    return !out->failed;
}

enum status run_store_dump(struct run_store *s, const char *run, struct buf *out, struct err *err)
{
    struct run_row r;
    struct sample_query all = SAMPLE_QUERY_ALL;
    if (run_store_get(s, run, &r, err) != ST_OK)
        return err->code;
    buf_printf(out, "{\"identity\":\"%s\",\"state\":\"%s\",\"manifest\":%s,\"learned\":%s}\n",
               r.identity, run_state_name(r.state), r.manifest, r.learned);
    char id[RUN_ID_MAX];
    snprintf(id, sizeof id, "%s", r.id);
    run_row_clear(&r);
    if (run_store_each(s, id, &all, dump_sample, out, err) == ST_OK)
        buf_ok(out, "dump", err);
    return err->code;
}
