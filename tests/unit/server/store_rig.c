/* tests/unit/server/store_rig.c - see store_rig.h. */
#include "tests/unit/server/store_rig.h"

#include "store/db.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

char rig_dir[64], rig_file[96];
const char *rig_url;
uint32_t rig_wait_ms;

void rig_setup(void)
{
    rig_wait_ms = 50;
    snprintf(rig_dir, sizeof rig_dir, "/tmp/strobe-store-XXXXXX");
    cr_assert_not_null(mkdtemp(rig_dir));
    snprintf(rig_file, sizeof rig_file, "%s/strobe.db", rig_dir);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

void rig_teardown(void)
{
    nftw(rig_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

enum status rig_try_open_in(const char *where, struct store **ret, struct err *err)
{
    struct store_opts o = { .url = rig_url, .dir = where, .wait_ms = rig_wait_ms };
    return store_open(&o, ret, err);
}

enum status rig_try_open(struct store **ret, struct err *err)
{
    return rig_try_open_in(rig_dir, ret, err);
}

struct store *rig_open_in(const char *where)
{
    struct err err = ERR_INIT;
    struct store *s = NULL;
    cr_assert_eq(rig_try_open_in(where, &s, &err), ST_OK, "%s", err.msg);
    return s;
}

struct store *rig_open_store(void)
{
    return rig_open_in(rig_dir);
}

enum status rig_add(struct store *s, const char *id, const char *key, const char *hash, bool *known,
                    struct job_row *out, struct err *err)
{
    struct job_row r = { .created = 100 };
    bool k;
    snprintf(r.id, sizeof r.id, "%s", id);
    snprintf(r.kind, sizeof r.kind, "pretrain");
    job_row_text(&r.params, STR("{\"steps\":5}"));
    enum status st = store_job_add(s, &r, key, hash, known ? known : &k, err);
    if (out && st == ST_OK)
        *out = r;
    else
        job_row_clear(&r);
    return st;
}

void rig_must_add(struct store *s, const char *id)
{
    struct err err = ERR_INIT;
    cr_assert_eq(rig_add(s, id, NULL, NULL, NULL, NULL, &err), ST_OK, "%s", err.msg);
}

enum job_state rig_state_in(struct store *s, const char *id)
{
    struct err err = ERR_INIT;
    struct job_row r;
    cr_assert_eq(store_job_get(s, id, &r, &err), ST_OK, "%s", err.msg);
    enum job_state st = r.state;
    job_row_clear(&r);
    return st;
}

void rig_other_in_postgres(const char *at, const char *sql)
{
    struct err err = ERR_INIT;
    struct db *db;
    struct db_opts o = { .url = at, .what = "test", .schema = "strobe_test" };
    cr_assert_eq(db_open(&o, &db, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(db_run(db, sql, NULL, 0, NULL, NULL, NULL, &err), ST_OK, "%s", err.msg);
    db_close(db);
}

/* One statement by another program. */
void rig_other(const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    if (rig_url) {
        rig_other_in_postgres(rig_url, sql);
        return;
    }
    cr_assert_eq(sqlite3_open(rig_file, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(db);
}

/* ---- what it keeps ---- */

static void kept(void)
{
    struct err err = ERR_INIT;
    struct job_row r, got;
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(r.state, JOB_QUEUED, "it says what it was");
    r.state = JOB_FAILED;
    r.started = 200;
    r.finished = 300;
    r.restarts = 2;
    r.idle_tries = 1;
    r.best_step = 77;
    r.pid = 4;
    r.pid_birth = (int64_t)1 << 40;
    r.resume = true;
    job_row_text(&r.progress, STR("{\"step\":77}"));
    job_row_text(&r.result, STR("{}"));
    job_row_text(&r.error, STR("it's \"bad\"; DROP TABLE jobs --"));
    cr_assert_eq(store_job_save(s, &r, 1000, &err), ST_OK, "%s", err.msg);
    store_close(s);
    s = rig_open_store();
    cr_assert_eq(store_job_get(s, "a", &got, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(got.state, JOB_FAILED);
    cr_expect_str_eq(got.kind, "pretrain");
    cr_expect_str_eq(got.params, "{\"steps\":5}");
    cr_expect_str_eq(got.progress, "{\"step\":77}");
    cr_expect_str_eq(got.result, "{}");
    cr_expect_str_eq(got.error, r.error);
    cr_expect(got.created == 100 && got.started == 200 && got.finished == 300);
    cr_expect(got.restarts == 2 && got.idle_tries == 1 && got.best_step == 77);
    cr_expect(got.pid == 4 && got.pid_birth == r.pid_birth && got.resume && !got.cancel);
    job_row_clear(&r);
    job_row_clear(&got);
    store_close(s);
}

static void listed(void)
{
    struct err err = ERR_INIT;
    struct store *s = rig_open_store();
    char id[8];
    for (int i = 0; i < 7; i++) {
        snprintf(id, sizeof id, "j%d", i);
        rig_must_add(s, id);
    }
    static const struct {
        const char *after;
        uint32_t limit;
        const char *want;
        bool more;
    } cases[] = {
        { NULL, 3, "j6 j5 j4 ", true },
        { "j4", 3, "j3 j2 j1 ", true },
        { "j1", 3, "j0 ", false },
        { "j0", 3, "", false },
        { NULL, 7, "j6 j5 j4 j3 j2 j1 j0 ", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job_list l;
        struct buf b = BUF_INIT;
        cr_assert_eq(store_job_list(s, cases[i].after, cases[i].limit, &l, &err), ST_OK, "%s",
                     err.msg);
        for (size_t k = 0; k < l.n; k++)
            buf_printf(&b, "%s ", l.row[k].id);
        cr_expect_str_eq(buf_view(&b).p, cases[i].want, "case %zu: %s", i, buf_view(&b).p);
        cr_expect_eq(l.more, cases[i].more, "case %zu", i);
        job_list_clear(&l);
        buf_clear(&b);
    }
    struct job_list l;
    cr_expect_eq(store_job_list(s, "nobody", 3, &l, &err), ST_NOTFOUND);
    store_close(s);
}

static void claimed(void)
{
    struct err err = ERR_INIT, none = ERR_INIT;
    struct job_row r;
    struct store *s = rig_open_store();
    rig_must_add(s, "first");
    rig_must_add(s, "second");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK);
    cr_expect_str_eq(r.id, "first");
    job_row_clear(&r);
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK);
    cr_expect_str_eq(r.id, "second");
    job_row_clear(&r);
    cr_expect_eq(store_job_claim(s, 1000, &r, &none), ST_NOTFOUND);
    /* A clock that jumps a year ahead does not make a server take its own jobs again. */
    err_clear(&none);
    cr_expect_eq(store_job_claim(s, 1000 + 31536000, &r, &none), ST_NOTFOUND);
    rig_must_add(s, "third");
    store_close(s); /* died */
    s = rig_open_store();
    for (const char *const *want = (const char *const[]){ "first", "second", "third", NULL }; *want;
         want++) {
        cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s", *want);
        cr_expect_str_eq(r.id, *want);
        cr_expect_eq(r.state, strcmp(*want, "third") ? JOB_RUNNING : JOB_QUEUED, "%s", *want);
        job_row_clear(&r);
    }
    store_close(s);
}

static void lost(void)
{
    struct err err = ERR_INIT;
    struct job_row r;
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK);
    r.state = JOB_RUNNING;
    cr_assert_eq(store_job_save(s, &r, 1000, &err), ST_OK, "%s", err.msg);
    rig_other("UPDATE jobs SET owner = 'somebody'");
    r.state = JOB_DONE;
    cr_expect_eq(store_job_save(s, &r, 1000, &err), ST_NOTFOUND);
    cr_expect_eq(rig_state_in(s, "a"), JOB_RUNNING);
    job_row_clear(&r);
    store_close(s);
}

static void leased(void)
{
    struct err err = ERR_INIT, none = ERR_INIT;
    struct job_row r;
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK);
    job_row_clear(&r);
    cr_assert_eq(store_job_renew(s, 5000, &err), ST_OK);
    rig_other(
        "UPDATE jobs SET owner = 'somebody'"); /* as two servers on one database would have it */
    cr_expect_eq(store_job_claim(s, 5000 + STORE_LEASE_S - 1, &r, &none), ST_NOTFOUND);
    cr_assert_eq(store_job_claim(s, 5000 + STORE_LEASE_S, &r, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(r.state, JOB_RUNNING);
    job_row_clear(&r);
    store_close(s);
}

static void keyed(void)
{
    struct err err = ERR_INIT, bad = ERR_INIT;
    struct job_row one = { 0 }, two = { 0 };
    bool known;
    uint64_t n[JOB_STATES];
    struct store *s = rig_open_store();
    cr_assert_eq(rig_add(s, "a", "key", "hash", &known, &one, &err), ST_OK, "%s", err.msg);
    cr_expect_not(known);
    cr_assert_eq(rig_add(s, "b", "key", "hash", &known, &two, &err), ST_OK, "%s", err.msg);
    cr_expect(known);
    cr_expect_str_eq(two.id, "a");
    cr_expect_eq(two.seq, one.seq);
    cr_expect_eq(rig_add(s, "c", "key", "another", &known, NULL, &bad), ST_ARG);
    cr_assert_eq(store_job_counts(s, n, &err), ST_OK);
    cr_expect_eq(n[JOB_QUEUED], 1u);
    job_row_clear(&one);
    job_row_clear(&two);
    store_close(s);
}

static void cancelled(void)
{
    struct err err = ERR_INIT, none = ERR_INIT;
    struct job_row r;
    struct store *s = rig_open_store();
    rig_must_add(s, "running");
    rig_must_add(s, "queued");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK);
    job_row_clear(&r);
    cr_assert_eq(store_job_cancel(s, "running", 2000, &r, &err), ST_OK, "%s", err.msg);
    cr_expect(r.state == JOB_RUNNING && r.cancel && r.finished == 0);
    job_row_clear(&r);
    cr_assert_eq(store_job_cancel(s, "queued", 2000, &r, &err), ST_OK, "%s", err.msg);
    cr_expect(r.state == JOB_CANCELLED && r.finished == 2000);
    job_row_clear(&r);
    cr_assert_eq(store_job_cancel(s, "queued", 3000, &r, &err), ST_OK, "%s", err.msg);
    cr_expect(r.state == JOB_CANCELLED && r.finished == 2000, "the second time changes nothing");
    job_row_clear(&r);
    cr_expect_eq(store_job_cancel(s, "nobody", 3000, &r, &none), ST_NOTFOUND);
    store_close(s);
}

/* Only what ended short of its goal is queued again; why it ended is forgotten, how far it came
 * not. */
static void resumed(void)
{
    static const enum job_state ends[] = { JOB_FAILED, JOB_CANCELLED, JOB_DONE };
    struct err err = ERR_INIT, none = ERR_INIT;
    struct job_row r, got;
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    cr_assert_eq(store_job_resume(s, "a", &r, &err), ST_OK, "%s", err.msg);
    cr_expect(r.state == JOB_QUEUED && !r.resume, "it never began");
    job_row_clear(&r);
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(store_job_resume(s, "a", &got, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(got.state, JOB_RUNNING);
        job_row_clear(&got);
        r.state = ends[i];
        r.finished = 2000;
        r.restarts = r.idle_tries = 4;
        r.best_step = 7;
        job_row_text(&r.error, STR("why"));
        cr_assert_eq(store_job_save(s, &r, 2000, &err), ST_OK, "%s", err.msg);
        job_row_clear(&r);
        cr_assert_eq(store_job_resume(s, "a", &r, &err), ST_OK, "%s", err.msg);
        bool done = ends[i] == JOB_DONE;
        cr_expect_eq(r.state, done ? JOB_DONE : JOB_QUEUED);
        cr_expect_eq(r.finished, done ? 2000 : 0);
        cr_expect_eq(r.error == NULL, !done);
        cr_expect(r.best_step == 7 && r.restarts == 4 && r.idle_tries == (done ? 4 : 0));
        job_row_clear(&r);
    }
    cr_expect_eq(store_job_resume(s, "nobody", &r, &none), ST_NOTFOUND);
    store_close(s);
}

/* A server that has not heard of it saves what it knows. */
static void wished(void)
{
    static const enum job_state after[] = { JOB_RUNNING, JOB_QUEUED, JOB_DONE };
    struct err err = ERR_INIT;
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    for (size_t i = 0; i < 3; i++) {
        struct job_row r, got;
        if (i != 1) /* behind the first it still runs */
            cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s", err.msg);
        else
            cr_assert_eq(store_job_get(s, "a", &r, &err), ST_OK, "%s", err.msg);
        if (i == 0)
            rig_other("UPDATE jobs SET cancel = 1");
        else
            cr_expect(r.cancel, "%s: the wish is gone", job_state_name(after[i - 1]));
        r.cancel = false;
        r.state = after[i];
        cr_assert_eq(store_job_save(s, &r, 1000, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(store_job_get(s, "a", &got, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(got.cancel, after[i] != JOB_DONE, "%s", job_state_name(after[i]));
        job_row_clear(&r);
        job_row_clear(&got);
    }
    store_close(s);
}

/* Names that no job has, and what a process said that is no text. */
static void foreign_bytes(void)
{
    struct err err = ERR_INIT;
    struct job_row r;
    struct store *s = rig_open_store();
    static const char *const ids[] = { "", "\xff\xfe", "a\nb", "' OR 1 = 1 --", "%" };
    bool known;
    cr_assert_eq(rig_add(s, "a", "\xc3(\xff", "hash", &known, NULL, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(rig_add(s, "b", "\xc3(\xff", "hash", &known, NULL, &err), ST_OK, "%s", err.msg);
    cr_expect(known, "keys are bytes");
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct err e[3] = { ERR_INIT, ERR_INIT, ERR_INIT };
        struct job_list l;
        cr_expect_eq(store_job_get(s, ids[i], &r, &e[0]), ST_NOTFOUND, "%zu: %s", i, e[0].msg);
        cr_expect_eq(store_job_cancel(s, ids[i], 5, &r, &e[1]), ST_NOTFOUND, "%zu", i);
        cr_expect_eq(store_job_list(s, ids[i], 5, &l, &e[2]), ST_NOTFOUND, "%zu", i);
    }
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s", err.msg);
    r.state = JOB_FAILED;
    job_row_text(&r.error, STR("it said \xff\xfe"));
    cr_assert_eq(store_job_save(s, &r, 1000, &err), ST_OK, "%s", err.msg);
    job_row_clear(&r);
    cr_assert_eq(store_job_get(s, "a", &r, &err), ST_OK, "%s", err.msg);
    cr_expect(strncmp(r.error, "it said ", 8) == 0, "%s", r.error);
    job_row_clear(&r);
    store_close(s);
}

/* ---- who may open it ---- */

static void locked(void)
{
    struct err err = ERR_INIT, ok = ERR_INIT;
    struct store *a = rig_open_store(), *b = NULL;
    cr_expect_eq(rig_try_open(&b, &err), ST_BUSY);
    cr_expect(strstr(err.msg, "--data"), "%s", err.msg);
    store_close(a);
    cr_expect_eq(rig_try_open(&b, &ok), ST_OK, "%s", ok.msg);
    store_close(b);
}

static const struct {
    const char *name;
    void (*run)(void);
} both[] = {
    { "a job is what was put in, also after opening again", kept },
    { "the list is newest first and goes on behind a job", listed },
    { "a claim takes the oldest, and what a dead server left first", claimed },
    { "a job that became another's is not written", lost },
    { "a lease that ran out frees a job, and renewing keeps it", leased },
    { "the same request twice is one job, another under its key is refused", keyed },
    { "cancelling ends a queued job and marks a running one", cancelled },
    { "what ended short of its goal is queued again, for the asking", resumed },
    { "a wish to cancel outlives the saves of a server that has not heard of it", wished },
    { "bytes that are no text", foreign_bytes },
    { "a directory has one server", locked },
};

void rig_fresh(void)
{
    rig_teardown();
    rig_setup();
}

void rig_run_both(void)
{
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++) {
        if (i && rig_url)
            rig_other("DELETE FROM jobs"); /* names may come again */
        if (i)
            rig_fresh();
        fprintf(stderr, "%s: %s\n", rig_url ? "PostgreSQL" : "SQLite", both[i].name);
        both[i].run();
    }
}
