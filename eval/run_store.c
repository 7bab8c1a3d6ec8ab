/* eval/run_store.c - opening, runs and their state. Samples are in run_samples.c. See run_store.h.
 *
 * Locks: every change of a sample's state names the owner it expects, so two runners never write
 * the same sample; PostgreSQL hands out work with SKIP LOCKED, SQLite under its one write lock. */
#include "engine/base/clock.h"
#include "eval/run_store_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { APPLICATION_ID = 0x53544556, /* "STEV" */ WAIT_MS = 10000 };

/* Never edit one that was released: add another. Long texts stand last, so that counting does not
 * read them. */
const char *const run_store_schema[] = {
    "CREATE TABLE eval_runs ("
    "  id TEXT PRIMARY KEY, seq INTEGER NOT NULL, identity TEXT NOT NULL, state INTEGER NOT NULL,"
    "  created INTEGER NOT NULL, finished INTEGER NOT NULL DEFAULT 0, name TEXT NOT NULL,"
    "  note TEXT NOT NULL DEFAULT '', manifest TEXT NOT NULL, limits TEXT NOT NULL,"
    "  learned TEXT NOT NULL) STRICT;"
    "CREATE INDEX eval_runs_seq ON eval_runs (seq);"
    "CREATE INDEX eval_runs_identity ON eval_runs (identity, seq);"
    "CREATE TABLE eval_samples ("
    "  run TEXT NOT NULL REFERENCES eval_runs (id) ON DELETE CASCADE, ord INTEGER NOT NULL,"
    "  state INTEGER NOT NULL DEFAULT 0, klass INTEGER NOT NULL DEFAULT 0,"
    "  n_attempt INTEGER NOT NULL DEFAULT 0, lease INTEGER NOT NULL DEFAULT 0,"
    "  prompt_tokens INTEGER NOT NULL DEFAULT 0, cached_tokens INTEGER NOT NULL DEFAULT 0,"
    "  completion_tokens INTEGER NOT NULL DEFAULT 0, latency_us INTEGER NOT NULL DEFAULT 0,"
    "  version INTEGER NOT NULL DEFAULT 0, trap INTEGER NOT NULL DEFAULT -1,"
    "  level INTEGER NOT NULL, instance INTEGER NOT NULL, repeat INTEGER NOT NULL,"
    "  original INTEGER NOT NULL, gold_num INTEGER NOT NULL, gold_den INTEGER NOT NULL,"
    "  owner TEXT NOT NULL DEFAULT '', finish TEXT NOT NULL DEFAULT '', key TEXT NOT NULL,"
    "  tmpl TEXT NOT NULL, variant TEXT NOT NULL, gold_text TEXT NOT NULL, hash TEXT NOT NULL,"
    "  error TEXT NOT NULL DEFAULT '', score TEXT NOT NULL DEFAULT '', question TEXT NOT NULL,"
    "  info TEXT NOT NULL, response TEXT NOT NULL DEFAULT '', reasoning TEXT NOT NULL DEFAULT '',"
    "  PRIMARY KEY (run, ord), UNIQUE (run, key)) STRICT;"
    "CREATE INDEX eval_samples_pending ON eval_samples (run, ord) WHERE state = 0;"
    "CREATE INDEX eval_samples_leased ON eval_samples (run, lease) WHERE state = 1;"
    "CREATE TABLE eval_attempts ("
    "  run TEXT NOT NULL REFERENCES eval_runs (id) ON DELETE CASCADE, ord INTEGER NOT NULL,"
    "  n INTEGER NOT NULL, outcome INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
    "  latency_us INTEGER NOT NULL, status INTEGER NOT NULL, request_hash TEXT NOT NULL,"
    "  error TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (run, ord, n)) STRICT;"
    "CREATE TABLE eval_scores ("
    "  run TEXT NOT NULL REFERENCES eval_runs (id) ON DELETE CASCADE, ord INTEGER NOT NULL,"
    "  version INTEGER NOT NULL, klass INTEGER NOT NULL, trap INTEGER NOT NULL,"
    "  score TEXT NOT NULL, PRIMARY KEY (run, ord, version)) STRICT;",
};
const int run_store_schema_n = sizeof run_store_schema / sizeof run_store_schema[0];

/* ---- who we are ---- */

/* Machine, boot and process namespace: a process of another container is not ours to declare dead.
 */
static void find_place(char out[64])
{
    char boot[40] = "";
    struct stat st = { 0 };
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f) {
        if (!fgets(boot, sizeof boot, f))
            boot[0] = '\0';
        fclose(f);
    }
    boot[strcspn(boot, "\n")] = '\0';
    if (stat("/proc/self/ns/pid", &st) != 0 || !boot[0]) /* then nobody is declared dead */
        snprintf(out, 64, "?%lld", (long long)clock_ns());
    else
        snprintf(out, 64, "%.36s-%llu", boot, (unsigned long long)st.st_ino);
}

/* Start time of a process in ticks since boot: tells it from a later one of the same number. 0: no
 * such process. */
static unsigned long long birth_of(long pid)
{
    char path[40], line[1024];
    unsigned long long birth = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = '\0';
    char *p = strrchr(line, ')'); /* the name may hold anything */
    /* Field 3 follows the name; 22 is the start time. */
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (p)
        birth = strtoull(p + 1, NULL, 10);
    return birth;
}

/* Is this owner a process that we could see, and that is not there any more? */
static bool is_dead(const struct run_store *s, const char *owner)
{
    size_t n = strlen(s->place);
    if (s->place[0] == '?' || strncmp(owner, s->place, n) != 0 || owner[n] != '.')
        return false;
    char *end;
    long pid = strtol(owner + n + 1, &end, 10);
    if (*end != '.' || pid <= 0)
        return false;
    return birth_of(pid) != strtoull(end + 1, NULL, 10);
}

static enum status name_owner(struct run_store *s, struct err *err)
{
    uint32_t r;
    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
        return err_sys(err, errno, "getrandom");
    find_place(s->place);
    snprintf(s->owner, sizeof s->owner, "%s.%ld.%llu.%08x", s->place, (long)getpid(),
             birth_of((long)getpid()), r);
    return ST_OK;
}

/* ---- opening ---- */

enum status run_store_open(const struct run_store_opts *o, struct run_store **ret, struct err *err)
{
    struct run_store *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "evaluation database");
    struct db_opts d = { .url = o->url,
                         .dir = o->dir,
                         .file = "evals.db",
                         .wait_ms = o->wait_ms ? o->wait_ms : WAIT_MS,
                         .app = APPLICATION_ID,
                         .what = "evaluation database",
                         .schema = "strobe_eval_schema",
                         .step = run_store_schema,
                         .n_step = run_store_schema_n };
    if (name_owner(s, err) != ST_OK || db_open(&d, &s->db, err) != ST_OK) {
        free(s);
        return err->code;
    }
    *ret = s;
    return ST_OK;
}

void run_store_close(struct run_store *s)
{
    struct err ignored = ERR_INIT;
    if (!s)
        return;
    struct db_value v[] = { db_z(s->owner) };
    db_run(s->db, "UPDATE eval_samples SET state = 0, owner = '' WHERE state = 1 AND owner = ?1", v,
           1, NULL, NULL, NULL, &ignored);
    db_close(s->db);
    free(s);
}

bool run_store_shared(const struct run_store *s)
{
    return s->db->shared;
}

/* ---- rows ---- */

#define RUN_COLUMNS                                                                                \
    "id, seq, identity, state, created, finished, name, note, manifest, limits, learned"

static bool keep_text(char **slot, struct str s)
{
    *slot = str_dup(s.p ? s : STR(""));
    return *slot != NULL;
}

static void copy_short(char *out, size_t max, struct str s)
{
    snprintf(out, max, "%.*s", (int)(s.n < max ? s.n : max - 1), s.p ? s.p : "");
}

struct rows {
    struct run_list list;
    size_t cap;
    bool nomem;
};

static bool take_run(void *ctx, const struct db_value *c, int n)
{
    struct rows *l = ctx;
    struct run_row r = { .seq = c[1].i,
                         .state = c[3].i >= 0 && c[3].i < RUN_STATES ? (enum run_state)c[3].i
                                                                     : RUN_PAUSED,
                         .created = c[4].i,
                         .finished = c[5].i };
    if (l->list.n == l->cap) {
        l->list.more = true;
        return false;
    }
    copy_short(r.id, sizeof r.id, c[0].text);
    copy_short(r.identity, sizeof r.identity, c[2].text);
    if (!keep_text(&r.name, c[6].text) || !keep_text(&r.note, c[7].text) ||
        !keep_text(&r.manifest, c[8].text) || !keep_text(&r.limits, c[9].text) ||
        !keep_text(&r.learned, c[10].text)) {
        run_row_clear(&r);
        l->nomem = true;
        return false;
    }
    l->list.row[l->list.n++] = r;
    return true;
}

bool take_ints(void *ctx, const struct db_value *col, int n)
{
    struct ints *t = ctx;
    for (int i = 0; i < n && i < t->n; i++)
        t->v[i] = col[i].i; /* NULL counts as 0 */
    t->found = true;
    return true;
}

/* One scan of the run's samples. */
static enum status count(struct run_store *s, struct run_row *r, struct err *err)
{
    int64_t c[13] = { 0 };
    struct ints t = { c, 13, false };
    struct db_value v[] = { db_z(r->id) };
    db_run(
        s->db,
        "SELECT count(*), CAST(coalesce(sum(CASE WHEN state = 0 THEN 1 ELSE 0 END), 0) AS INTEGER),"
        " CAST(coalesce(sum(CASE WHEN state = 1 THEN 1 ELSE 0 END), 0) AS INTEGER),"
        " CAST(coalesce(sum(CASE WHEN state = 2 THEN 1 ELSE 0 END), 0) AS INTEGER),"
        " CAST(coalesce(sum(CASE WHEN state = 3 THEN 1 ELSE 0 END), 0) AS INTEGER),"
        " CAST(coalesce(sum(CASE WHEN klass = 1 THEN 1 ELSE 0 END), 0) AS INTEGER),"
        " CAST(coalesce(sum(CASE WHEN finish = 'length' THEN 1 ELSE 0 END), 0) AS INTEGER),"
        " CAST(coalesce(sum(CASE WHEN klass = 3 THEN 1 ELSE 0 END), 0) AS INTEGER),"
        " CAST(coalesce(sum(n_attempt), 0) AS INTEGER),"
        " CAST(coalesce(sum(prompt_tokens), 0) AS INTEGER),"
        " CAST(coalesce(sum(cached_tokens), 0) AS INTEGER),"
        " CAST(coalesce(sum(completion_tokens), 0) AS INTEGER),"
        " CAST(coalesce(sum(CASE WHEN klass = 2 THEN 1 ELSE 0 END), 0) AS INTEGER)"
        " FROM eval_samples WHERE run = ?1",
        v, 1, take_ints, &t, NULL, err);
    r->counts = (struct run_counts){ .total = c[0],
                                     .pending = c[1],
                                     .leased = c[2],
                                     .done = c[3],
                                     .failed = c[4],
                                     .correct = c[5],
                                     .truncated = c[6],
                                     .empty = c[7],
                                     .unparsed = c[12],
                                     .attempts = c[8],
                                     .prompt_tokens = c[9],
                                     .cached_tokens = c[10],
                                     .completion_tokens = c[11] };
    return err->code;
}

/* One run by a query with ?1. */
static enum status one_run(struct run_store *s, const char *sql, const char *arg,
                           struct run_row *ret, struct err *err)
{
    struct run_row r = { 0 };
    struct rows rows = { .list = { .row = &r }, .cap = 1 };
    struct db_value v[] = { db_z(arg) };
    if (db_run(s->db, sql, v, 1, take_run, &rows, NULL, err) == ST_OK && rows.nomem)
        err_set(err, ST_NOMEM, "a run");
    if (err->code == ST_OK && rows.list.n == 0)
        err_set(err, ST_NOTFOUND, "there is no run '%.64s'", arg);
    if (err->code == ST_OK && count(s, &r, err) == ST_OK)
        *ret = r;
    else
        run_row_clear(&r);
    return err->code;
}

enum status run_store_get(struct run_store *s, const char *id, struct run_row *ret, struct err *err)
{
    if (strcmp(id, "latest") == 0)
        return one_run(s,
                       "SELECT " RUN_COLUMNS " FROM eval_runs WHERE ?1 = 'latest'"
                       " ORDER BY seq DESC, id LIMIT 1",
                       id, ret, err);
    return one_run(s,
                   "SELECT " RUN_COLUMNS " FROM eval_runs WHERE id = ?1 OR name = ?1"
                   " ORDER BY CASE WHEN id = ?1 THEN 0 ELSE 1 END, seq DESC LIMIT 1",
                   id, ret, err);
}

enum status run_store_find(struct run_store *s, const char *identity, struct run_row *ret,
                           struct err *err)
{
    return one_run(s,
                   "SELECT " RUN_COLUMNS " FROM eval_runs WHERE identity = ?1"
                   " ORDER BY seq DESC LIMIT 1",
                   identity, ret, err);
}

enum status run_store_list(struct run_store *s, const char *after, uint32_t limit,
                           struct run_list *ret, struct err *err)
{
    int64_t seq = INT64_MAX;
    struct ints t = { &seq, 1, false };
    struct rows rows = { .cap = limit };
    if (after) {
        struct db_value a[] = { db_z(after) };
        if (db_run(s->db, "SELECT seq FROM eval_runs WHERE id = ?1", a, 1, take_ints, &t, NULL,
                   err) != ST_OK)
            return err->code;
        if (!t.found)
            return err_set(err, ST_NOTFOUND, "there is no run '%.64s'", after);
    }
    rows.list.row = calloc((size_t)limit + 1, sizeof *rows.list.row);
    if (!rows.list.row)
        return err_set(err, ST_NOMEM, "list of runs");
    struct db_value v[] = { db_int(seq), db_int((int64_t)limit + 1) };
    db_run(s->db,
           "SELECT " RUN_COLUMNS " FROM eval_runs WHERE seq < ?1 ORDER BY seq DESC, id LIMIT ?2", v,
           2, take_run, &rows, NULL, err);
    if (rows.nomem)
        err_set(err, ST_NOMEM, "list of runs");
    for (size_t i = 0; i < rows.list.n && err->code == ST_OK; i++)
        count(s, &rows.list.row[i], err);
    if (err->code == ST_OK)
        *ret = rows.list;
    else
        run_list_clear(&rows.list);
    return err->code;
}

/* ---- making and changing runs ---- */

static enum status new_id(char out[RUN_ID_MAX], struct err *err)
{
    unsigned char r[6];
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return err_sys(err, errno, "getrandom");
    snprintf(out, RUN_ID_MAX, "run-%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2], r[3], r[4], r[5]);
    return ST_OK;
}

enum status run_store_create(struct run_store *s, struct run_row *row, struct err *err)
{
    if (!row->id[0] && new_id(row->id, err) != ST_OK)
        return err->code;
    if (!row->created)
        row->created = clock_unix_s();
    struct db_value v[] = { db_z(row->id),     db_z(row->identity), db_int(row->created),
                            db_z(row->name),   db_z(row->manifest), db_z(row->limits),
                            db_z(row->learned) };
    return db_run(
        s->db,
        "INSERT INTO eval_runs (id, seq, identity, state, created, name, manifest, limits,"
        " learned) SELECT ?1, coalesce(max(seq), 0) + 1, ?2, 0, ?3, ?4, ?5, ?6, ?7"
        " FROM eval_runs",
        v, 7, NULL, NULL, NULL, err);
}

enum status run_store_update(struct run_store *s, const char *run, const char *manifest,
                             const char *limits, const char *learned, struct err *err)
{
    struct db_value v[] = { db_z(run), db_z(manifest), db_z(limits), db_z(learned) };
    return db_run(s->db,
                  "UPDATE eval_runs SET manifest = coalesce(?2, manifest),"
                  " limits = coalesce(?3, limits), learned = coalesce(?4, learned) WHERE id = ?1",
                  v, 4, NULL, NULL, NULL, err);
}

enum status run_store_delete(struct run_store *s, const char *run, struct err *err)
{
    int64_t gone = 0;
    enum run_state st;
    struct db_value v[] = { db_z(run) };
    if (run_store_reap(s, run, err) != ST_OK || run_store_state(s, run, &st, err) != ST_OK)
        return err->code;
    db_run(s->db,
           "DELETE FROM eval_runs WHERE id = ?1 AND NOT EXISTS"
           " (SELECT 1 FROM eval_samples WHERE run = ?1 AND state = 1)",
           v, 1, NULL, NULL, &gone, err);
    if (err->code == ST_OK && gone == 0)
        err_set(err, ST_BUSY, "run %s is being worked on: cancel it first", run);
    return err->code;
}

enum status run_store_state(struct run_store *s, const char *run, enum run_state *ret,
                            struct err *err)
{
    int64_t st = 0;
    struct ints t = { &st, 1, false };
    struct db_value v[] = { db_z(run) };
    if (db_run(s->db, "SELECT state FROM eval_runs WHERE id = ?1", v, 1, take_ints, &t, NULL,
               err) != ST_OK)
        return err->code;
    if (!t.found)
        return err_set(err, ST_NOTFOUND, "there is no run '%.64s'", run);
    *ret = (enum run_state)st;
    return ST_OK;
}

enum status run_store_move(struct run_store *s, const char *run, unsigned from, enum run_state to,
                           const char *note, bool *moved, struct err *err)
{
    int64_t n = 0;
    /* (from >> state) & 1, without shifts of a column: both databases know div and mod. */
    struct db_value v[] = { db_z(run),
                            db_int(to),
                            db_z(note ? note : ""),
                            db_int(from & 1),
                            db_int(from >> 1 & 1),
                            db_int(from >> 2 & 1),
                            db_int(from >> 3 & 1),
                            db_int(from >> 4 & 1) };
    db_lazy(s->db, to == RUN_RUNNING); /* if power loss undoes it, its leases are gone as well */
    db_run(s->db,
           "UPDATE eval_runs SET state = ?2, note = ?3 WHERE id = ?1 AND CASE state WHEN 0 THEN ?4"
           " WHEN 1 THEN ?5 WHEN 2 THEN ?6 WHEN 3 THEN ?7 ELSE ?8 END = 1",
           v, 8, NULL, NULL, &n, err);
    db_lazy(s->db, false);
    *moved = n > 0;
    return err->code;
}

enum status run_store_finish(struct run_store *s, const char *run, bool *moved, struct err *err)
{
    int64_t n = 0;
    struct db_value v[] = { db_z(run), db_int(clock_unix_s()) };
    db_run(
        s->db,
        "UPDATE eval_runs SET state = 4, note = '', finished = ?2 WHERE id = ?1 AND state IN (0, 1)"
        " AND NOT EXISTS (SELECT 1 FROM eval_samples WHERE run = ?1 AND state IN (0, 1))",
        v, 2, NULL, NULL, &n, err);
    *moved = n > 0;
    return err->code;
}

enum status run_store_leave(struct run_store *s, const char *run, const char *note, struct err *err)
{
    struct db_value v[] = { db_z(run), db_z(note) };
    if (run_store_release(s, run, -1, err) != ST_OK)
        return err->code;
    return db_run(
        s->db,
        "UPDATE eval_runs SET state = 2, note = ?2 WHERE id = ?1 AND state = 1 AND NOT EXISTS"
        " (SELECT 1 FROM eval_samples WHERE run = ?1 AND state = 1)",
        v, 2, NULL, NULL, NULL, err);
}

/* ---- leases of others ---- */

struct owners {
    struct run_store *s;
    char dead[8][OWNER_MAX];
    int n;
};

static bool take_owner(void *ctx, const struct db_value *col, int n)
{
    struct owners *o = ctx;
    char owner[OWNER_MAX];
    copy_short(owner, sizeof owner, col[0].text);
    if (o->n < 8 && is_dead(o->s, owner))
        copy_short(o->dead[o->n++], OWNER_MAX, str_c(owner));
    return true;
}

enum status run_store_reap(struct run_store *s, const char *run, struct err *err)
{
    struct owners o = { .s = s };
    struct db_value v[] = { db_z(run), db_int(db_now_ms(s->db)) };
    s->reaped_ms = v[1].i;
    if (db_run(s->db, "SELECT DISTINCT owner FROM eval_samples WHERE run = ?1 AND state = 1", v, 1,
               take_owner, &o, NULL, err) != ST_OK)
        return err->code;
    db_run(
        s->db,
        "UPDATE eval_samples SET state = 0, owner = '' WHERE run = ?1 AND state = 1 AND lease < ?2",
        v, 2, NULL, NULL, NULL, err);
    for (int i = 0; i < o.n && err->code == ST_OK; i++) {
        struct db_value d[] = { db_z(run), db_z(o.dead[i]) };
        db_run(s->db,
               "UPDATE eval_samples SET state = 0, owner = '' WHERE run = ?1 AND state = 1 AND"
               " owner = ?2",
               d, 2, NULL, NULL, NULL, err);
    }
    return err->code;
}
