/* tests/unit/server/test_store.c - the job database: what it promises, and what it says when the
 * disk, another program or a crash gets in the way. */
#include "server/store.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], file[96];

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/strobe-store-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/strobe.db", dir);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void teardown(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(store, .init = setup, .fini = teardown, .timeout = 100);

static enum status try_open(struct store **ret, struct err *err)
{
    struct store_opts o = { .dir = dir, .wait_ms = 50 };
    return store_open(&o, ret, err);
}

static struct store *open_store(void)
{
    struct err err = ERR_INIT;
    struct store *s = NULL;
    cr_assert_eq(try_open(&s, &err), ST_OK, "%s", err.msg);
    return s;
}

static enum status add(struct store *s, const char *id, const char *key, const char *hash,
                       bool *known, struct job_row *out, struct err *err)
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

static void must_add(struct store *s, const char *id)
{
    struct err err = ERR_INIT;
    cr_assert_eq(add(s, id, NULL, NULL, NULL, NULL, &err), ST_OK, "%s", err.msg);
}

static enum job_state state_in(struct store *s, const char *id)
{
    struct err err = ERR_INIT;
    struct job_row r;
    cr_assert_eq(store_job_get(s, id, &r, &err), ST_OK, "%s", err.msg);
    enum job_state st = r.state;
    job_row_clear(&r);
    return st;
}

/* One statement by another program. */
static void other(const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    cr_assert_eq(sqlite3_open(file, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(db);
}

/* ---- what it keeps ---- */

Test(store, a_job_is_what_was_put_in_also_after_opening_again)
{
    struct err err = ERR_INIT;
    struct job_row r, got;
    struct store *s = open_store();
    must_add(s, "a");
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
    s = open_store();
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

Test(store, the_list_is_newest_first_and_goes_on_behind_a_job)
{
    struct err err = ERR_INIT;
    struct store *s = open_store();
    char id[8];
    for (int i = 0; i < 7; i++) {
        snprintf(id, sizeof id, "j%d", i);
        must_add(s, id);
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

Test(store, a_claim_takes_the_oldest_and_what_a_dead_server_left_first)
{
    struct err err = ERR_INIT, none = ERR_INIT;
    struct job_row r;
    struct store *s = open_store();
    must_add(s, "first");
    must_add(s, "second");
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
    must_add(s, "third");
    store_close(s); /* died */
    s = open_store();
    for (const char *const *want = (const char *const[]){ "first", "second", "third", NULL }; *want;
         want++) {
        cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s", *want);
        cr_expect_str_eq(r.id, *want);
        cr_expect_eq(r.state, strcmp(*want, "third") ? JOB_RUNNING : JOB_QUEUED, "%s", *want);
        job_row_clear(&r);
    }
    store_close(s);
}

Test(store, a_job_that_became_anothers_is_not_written)
{
    struct err err = ERR_INIT;
    struct job_row r;
    struct store *s = open_store();
    must_add(s, "a");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK);
    r.state = JOB_RUNNING;
    cr_assert_eq(store_job_save(s, &r, 1000, &err), ST_OK, "%s", err.msg);
    other("UPDATE jobs SET owner = 'somebody'");
    r.state = JOB_DONE;
    cr_expect_eq(store_job_save(s, &r, 1000, &err), ST_NOTFOUND);
    cr_expect_eq(state_in(s, "a"), JOB_RUNNING);
    job_row_clear(&r);
    store_close(s);
}

Test(store, a_lease_that_ran_out_frees_a_job_and_renewing_keeps_it)
{
    struct err err = ERR_INIT, none = ERR_INIT;
    struct job_row r;
    struct store *s = open_store();
    must_add(s, "a");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK);
    job_row_clear(&r);
    cr_assert_eq(store_job_renew(s, 5000, &err), ST_OK);
    other("UPDATE jobs SET owner = 'somebody'"); /* as two servers on one database would have it */
    cr_expect_eq(store_job_claim(s, 5000 + STORE_LEASE_S - 1, &r, &none), ST_NOTFOUND);
    cr_assert_eq(store_job_claim(s, 5000 + STORE_LEASE_S, &r, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(r.state, JOB_RUNNING);
    job_row_clear(&r);
    store_close(s);
}

Test(store, the_same_request_twice_is_one_job_and_another_under_its_key_is_refused)
{
    struct err err = ERR_INIT, bad = ERR_INIT;
    struct job_row one = { 0 }, two = { 0 };
    bool known;
    uint64_t n[JOB_STATES];
    struct store *s = open_store();
    cr_assert_eq(add(s, "a", "key", "hash", &known, &one, &err), ST_OK, "%s", err.msg);
    cr_expect_not(known);
    cr_assert_eq(add(s, "b", "key", "hash", &known, &two, &err), ST_OK, "%s", err.msg);
    cr_expect(known);
    cr_expect_str_eq(two.id, "a");
    cr_expect_eq(two.seq, one.seq);
    cr_expect_eq(add(s, "c", "key", "another", &known, NULL, &bad), ST_ARG);
    cr_assert_eq(store_job_counts(s, n, &err), ST_OK);
    cr_expect_eq(n[JOB_QUEUED], 1u);
    job_row_clear(&one);
    job_row_clear(&two);
    store_close(s);
}

Test(store, cancelling_ends_a_queued_job_and_marks_a_running_one)
{
    struct err err = ERR_INIT, none = ERR_INIT;
    struct job_row r;
    struct store *s = open_store();
    must_add(s, "running");
    must_add(s, "queued");
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

/* ---- who may open it ---- */

Test(store, a_directory_has_one_server)
{
    struct err err = ERR_INIT, ok = ERR_INIT;
    struct store *a = open_store(), *b = NULL;
    cr_expect_eq(try_open(&b, &err), ST_BUSY);
    cr_expect(strstr(err.msg, "--data"), "%s", err.msg);
    store_close(a);
    cr_expect_eq(try_open(&b, &ok), ST_OK, "%s", ok.msg);
    store_close(b);
}

Test(store, files_of_others_of_the_future_and_damaged_ones_are_refused_and_left_alone)
{
    static const struct {
        const char *name, *sql; /* sql NULL: bytes are spoilt */
        off_t at;
        enum status want;
    } cases[] = {
        { "another program's", "CREATE TABLE other (x)", 0, ST_FORMAT },
        { "a newer version's",
          "PRAGMA application_id = 1398035010; CREATE TABLE jobs (x); PRAGMA user_version = 999", 0,
          ST_UNSUPPORTED },
        { "spoilt at its head", NULL, 0, ST_FORMAT },
        { "spoilt inside", NULL, 4096, ST_FORMAT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        struct store *s = NULL;
        struct stat before, after;
        unlink(file);
        if (cases[i].sql) {
            other(cases[i].sql);
        } else {
            unsigned char junk[512];
            memset(junk, 0xa5, sizeof junk);
            s = open_store();
            must_add(s, "a");
            store_close(s);
            s = NULL;
            int fd = open(file, O_RDWR);
            cr_assert(fd >= 0 && pwrite(fd, junk, sizeof junk, cases[i].at) == sizeof junk);
            close(fd);
        }
        cr_assert_eq(stat(file, &before), 0);
        cr_expect_eq(try_open(&s, &err), cases[i].want, "%s: %s", cases[i].name, err.msg);
        cr_expect_null(s);
        cr_assert_eq(stat(file, &after), 0);
        cr_expect_eq(before.st_size, after.st_size, "%s", cases[i].name);
        cr_expect_null(strstr(err.msg, dir), "clients see no paths: %s", err.msg);
    }
}

Test(store, urls_of_other_databases_are_refused_by_name)
{
    static const char *const urls[] = { "postgres://db/strobe", "postgresql://db", "mysql://x",
                                        "x" };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct err err = ERR_INIT;
        struct store *s;
        struct store_opts o = { .url = urls[i], .dir = dir };
        cr_expect_eq(store_open(&o, &s, &err), ST_UNSUPPORTED, "%s", urls[i]);
        cr_expect(strstr(err.msg, "--store"), "%s", err.msg);
    }
    struct err err = ERR_INIT;
    char url[128];
    struct store *s = NULL;
    snprintf(url, sizeof url, "sqlite:%s/elsewhere.db", dir);
    struct store_opts o = { .url = url, .dir = dir };
    cr_expect_eq(store_open(&o, &s, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(access(url + 7, F_OK), 0);
    store_close(s);
}

/* ---- when it does not go well ---- */

Test(store, a_locked_database_is_said_to_be_locked_and_works_again_afterwards)
{
    struct err err = ERR_INIT, ok = ERR_INIT;
    struct store *s = open_store();
    sqlite3 *db;
    must_add(s, "a");
    cr_assert_eq(sqlite3_open(file, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    cr_expect_eq(add(s, "b", NULL, NULL, NULL, NULL, &err), ST_TIMEOUT);
    cr_expect(strstr(err.msg, "locked"), "%s", err.msg);
    cr_expect_eq(state_in(s, "a"), JOB_QUEUED, "reading goes on");
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    cr_expect_eq(add(s, "b", NULL, NULL, NULL, NULL, &ok), ST_OK, "%s", ok.msg);
    store_close(s);
}

Test(store, a_file_that_was_moved_away_takes_no_more_jobs)
{
    struct err err = ERR_INIT;
    char away[128];
    struct store *s = open_store();
    must_add(s, "a");
    snprintf(away, sizeof away, "%s/moved.db", dir);
    cr_assert_eq(rename(file, away), 0);
    cr_expect_eq(add(s, "b", NULL, NULL, NULL, NULL, &err), ST_IO);
    cr_expect(strstr(err.msg, "moved"), "%s", err.msg);
    store_close(s);
}

/* Adds jobs until the store refuses; the count goes to *n. Each has 8 KB of settings. */
static enum status fill(struct store *s, unsigned limit, unsigned *n, struct err *err)
{
    static char big[8192];
    bool known;
    memset(big, 'x', sizeof big - 1);
    for (*n = 0; *n < limit; (*n)++) {
        struct job_row r = { .created = 1 };
        snprintf(r.id, sizeof r.id, "f%u", *n);
        snprintf(r.kind, sizeof r.kind, "k");
        job_row_text(&r.params, str_c(big));
        enum status st = store_job_add(s, &r, NULL, NULL, &known, err);
        job_row_clear(&r);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* Runs in a child process: 0 when the store says it cannot grow, keeps what it acknowledged, and
 * works again when it may grow. */
static int full_disk(enum status want, void (*more)(void))
{
    struct err err = ERR_INIT, ok = ERR_INIT;
    struct store *s = NULL;
    unsigned n, again;
    uint64_t counts[JOB_STATES];
    if (try_open(&s, &ok) != ST_OK)
        return 2;
    if (fill(s, 4000, &n, &err) != want)
        return 3;
    if (store_job_counts(s, counts, &ok) != ST_OK || counts[JOB_QUEUED] != n)
        return 4;
    more();
    for (unsigned i = 0; i < n; i++) { /* their names are free now */
        char id[16];
        struct job_row r;
        snprintf(id, sizeof id, "f%u", i);
        if (store_job_get(s, id, &r, &ok) != ST_OK)
            return 5;
        job_row_clear(&r);
    }
    other("DELETE FROM jobs");
    if (fill(s, n, &again, &ok) != ST_OK)
        return 6;
    store_close(s);
    return n > 10 ? 0 : 7;
}

static void may_grow(void)
{
    struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
    setrlimit(RLIMIT_FSIZE, &all);
}

static int in_child(int (*run)(void))
{
    int how = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(run());
    cr_assert(pid > 0);
    waitpid(pid, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : 100 + WTERMSIG(how);
}

static int limited_file(void)
{
    struct rlimit small = { 1 << 20, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    return full_disk(ST_IO, may_grow);
}

Test(store, a_file_that_may_not_grow_refuses_jobs_and_loses_none)
{
    cr_expect_eq(in_child(limited_file), 0, "step %d", in_child(limited_file));
}

static void bigger_disk(void)
{
    mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=64m");
}

enum { NO_MOUNT = 50 };
static int small_disk(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=2m") != 0)
        return NO_MOUNT;
    return full_disk(ST_FULL, bigger_disk);
}

Test(store, a_full_disk_is_said_to_be_full_and_loses_no_job)
{
    int how = in_child(small_disk);
    if (how == NO_MOUNT)
        fprintf(stderr, "SKIPPED: a full disk needs the right to mount a tmpfs\n");
    else
        cr_expect_eq(how, 0, "step %d", how);
}

/* ---- a disk that does not flush ---- */

static bool flush_fails;
static int (*real_open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
/* Of the database and of its log: they are not the same functions. */
static const sqlite3_io_methods *real_methods[2];
static sqlite3_io_methods methods[2];

static int sync_database(sqlite3_file *f, int flags)
{
    return flush_fails ? SQLITE_IOERR_FSYNC : real_methods[0]->xSync(f, flags);
}

static int sync_log(sqlite3_file *f, int flags)
{
    return flush_fails ? SQLITE_IOERR_FSYNC : real_methods[1]->xSync(f, flags);
}

static int open_watched(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    int rc = real_open(v, name, f, flags, out);
    int i = flags & SQLITE_OPEN_MAIN_DB ? 0 : flags & SQLITE_OPEN_WAL ? 1 : -1;
    if (rc == SQLITE_OK && f->pMethods && i >= 0) {
        real_methods[i] = f->pMethods;
        methods[i] = *real_methods[i];
        methods[i].xSync = i ? sync_log : sync_database;
        f->pMethods = &methods[i];
    }
    return rc;
}

Test(store, after_a_flush_that_failed_nothing_is_acknowledged_any_more)
{
    struct err err = ERR_INIT, later = ERR_INIT;
    sqlite3_vfs *v = sqlite3_vfs_find(NULL);
    real_open = v->xOpen;
    v->xOpen = open_watched;
    struct store *s = open_store();
    must_add(s, "a");
    flush_fails = true;
    cr_expect_eq(add(s, "b", NULL, NULL, NULL, NULL, &err), ST_IO, "%s", err.msg);
    flush_fails = false; /* a flush that works now proves nothing of the bytes before */
    cr_expect_eq(add(s, "c", NULL, NULL, NULL, NULL, &later), ST_IO);
    cr_expect(strstr(later.msg, "flushed"), "%s", later.msg);
    v->xOpen = real_open;
    store_close(s);
}

/* ---- kill -9 ---- */

/* Adds jobs and claims every third; each number goes to the pipe once its call has returned. */
static void work_until_killed(int fd, unsigned from)
{
    struct err err = ERR_INIT;
    struct store *s = NULL;
    if (try_open(&s, &err) != ST_OK)
        _exit(9);
    for (unsigned i = from;; i++) {
        char id[16];
        struct job_row r;
        snprintf(id, sizeof id, "k%u", i);
        if (add(s, id, NULL, NULL, NULL, NULL, &err) != ST_OK)
            _exit(9);
        if (write(fd, &i, sizeof i) != sizeof i)
            _exit(9);
        if (i % 3 == 0 && store_job_claim(s, 1000, &r, &err) == ST_OK) {
            r.state = JOB_DONE;
            store_job_save(s, &r, 1000, &err);
            job_row_clear(&r);
        }
    }
}

Test(store, what_was_acknowledged_survives_kill_9)
{
    unsigned acked = 0, rounds = 25;
    for (unsigned round = 0; round < rounds; round++) {
        int p[2];
        unsigned i;
        cr_assert_eq(pipe(p), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(p[0]);
            work_until_killed(p[1], acked + 1000 * round);
        }
        close(p[1]);
        poll(&(struct pollfd){ .fd = p[0], .events = POLLIN }, 1, 20000); /* it has begun */
        poll(NULL, 0, (int)((round * 37) % 90));
        kill(pid, SIGKILL);
        int how;
        waitpid(pid, &how, 0);
        cr_assert(WIFSIGNALED(how), "the writer failed by itself: %d", how);
        struct err err = ERR_INIT;
        struct store *s = open_store(); /* checks the file */
        while (read(p[0], &i, sizeof i) == sizeof i) {
            char id[16];
            struct job_row r;
            snprintf(id, sizeof id, "k%u", i);
            cr_assert_eq(store_job_get(s, id, &r, &err), ST_OK, "round %u: job %s is lost", round,
                         id);
            job_row_clear(&r);
            acked++;
        }
        close(p[0]);
        store_close(s);
    }
    cr_expect_gt(acked, rounds, "the writers hardly wrote: %u", acked);
}
