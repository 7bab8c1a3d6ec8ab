/* tests/unit/server/test_store.c - the job database in a file: what it promises (store_rig.c), and
 * what it says when the disk, another program or a crash gets in the way. */
#include "tests/unit/server/store_rig.h"

#include <criterion/criterion.h>
#include <fcntl.h>
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

TestSuite(store, .init = rig_setup, .fini = rig_teardown, .timeout = 600);

Test(store, sqlite_keeps_its_promises)
{
    rig_run_both();
}

/* ---- files of before ---- */

/* As the first version wrote them: no column `place`. */
static void old_file(void)
{
    rig_other(
        "CREATE TABLE jobs ("
        "  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
        "  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'cancelled', 'failed',"
        "  'done')),"
        "  created INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0,"
        "  finished INTEGER NOT NULL DEFAULT 0, params TEXT NOT NULL,"
        "  progress TEXT, result TEXT, error TEXT, cancel INTEGER NOT NULL DEFAULT 0,"
        "  resume INTEGER NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0,"
        "  idle_tries INTEGER NOT NULL DEFAULT 0, best_step INTEGER NOT NULL DEFAULT 0,"
        "  pid INTEGER NOT NULL DEFAULT 0, pid_birth INTEGER NOT NULL DEFAULT 0,"
        "  owner TEXT NOT NULL DEFAULT '', lease INTEGER NOT NULL DEFAULT 0,"
        "  request_key TEXT UNIQUE, request_hash TEXT) STRICT;"
        "CREATE INDEX jobs_by_state ON jobs (state, seq);"
        "PRAGMA application_id = 1398035010; PRAGMA user_version = 1; PRAGMA journal_mode = WAL");
    rig_other(
        "INSERT INTO jobs (id, kind, state, created, started, finished, params, progress, result,"
        " owner, lease, restarts, request_key, request_hash) VALUES"
        " ('d', 'pretrain', 'done', 1, 2, 3, '{}', '{\"step\":9}', '{\"loss\":1}', 'x', 0, 2,"
        " 'key', 'hash'),"
        " ('r', 'relufy', 'running', 4, 5, 0, '{\"a\":1}', NULL, NULL, '0123456789abcdef',"
        " 99999999999, 0, NULL, NULL),"
        " ('q', 'pretrain', 'queued', 6, 0, 0, '{}', NULL, NULL, '', 0, 0, NULL, NULL)");
}

Test(store, a_file_of_the_first_version_opens_with_all_that_it_holds)
{
    struct err err = ERR_INIT;
    struct job_row r;
    bool known;
    old_file();
    for (int round = 0; round < 2; round++) { /* the second opens what the first made of it */
        struct store *s = rig_open_store();
        cr_assert_eq(store_job_get(s, "d", &r, &err), ST_OK, "%s", err.msg);
        cr_expect(r.state == JOB_DONE && r.created == 1 && r.finished == 3 && r.restarts == 2);
        cr_expect_str_eq(r.progress, "{\"step\":9}");
        cr_expect_str_eq(r.result, "{\"loss\":1}");
        job_row_clear(&r);
        cr_assert_eq(rig_add(s, "again", "key", "hash", &known, &r, &err), ST_OK, "%s", err.msg);
        cr_expect(known && strcmp(r.id, "d") == 0, "its keys count");
        job_row_clear(&r);
        for (const char *const *want = (const char *const[]){ "r", "q", NULL }; *want; want++) {
            cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s: %s", *want, err.msg);
            cr_expect_str_eq(r.id, *want);
            job_row_clear(&r);
        }
        store_close(s);
    }
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
        unlink(rig_file);
        if (cases[i].sql) {
            rig_other(cases[i].sql);
        } else {
            unsigned char junk[512];
            memset(junk, 0xa5, sizeof junk);
            s = rig_open_store();
            rig_must_add(s, "a");
            store_close(s);
            s = NULL;
            int fd = open(rig_file, O_RDWR);
            cr_assert(fd >= 0 && pwrite(fd, junk, sizeof junk, cases[i].at) == sizeof junk);
            close(fd);
        }
        cr_assert_eq(stat(rig_file, &before), 0);
        cr_expect_eq(rig_try_open(&s, &err), cases[i].want, "%s: %s", cases[i].name, err.msg);
        cr_expect_null(s);
        cr_assert_eq(stat(rig_file, &after), 0);
        cr_expect_eq(before.st_size, after.st_size, "%s", cases[i].name);
        cr_expect_null(strstr(err.msg, rig_dir), "clients see no paths: %s", err.msg);
    }
}

Test(store, urls_of_other_databases_are_refused_by_name)
{
    static const char *const urls[] = { "mysql://user:secret@db/x", "x", "user:secret" };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct err err = ERR_INIT;
        struct store *s;
        struct store_opts o = { .url = urls[i], .dir = rig_dir };
        cr_expect_eq(store_open(&o, &s, &err), ST_UNSUPPORTED, "%s", urls[i]);
        cr_expect(strstr(err.msg, "--store"), "%s", err.msg);
        cr_expect_null(strstr(err.msg, "secret"), "%s", err.msg);
    }
    struct err err = ERR_INIT;
    char elsewhere[128];
    struct store *s = NULL;
    snprintf(elsewhere, sizeof elsewhere, "sqlite:%s/elsewhere.db", rig_dir);
    struct store_opts o = { .url = elsewhere, .dir = rig_dir };
    cr_expect_eq(store_open(&o, &s, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(access(elsewhere + 7, F_OK), 0);
    store_close(s);
}

/* ---- when it does not go well ---- */

Test(store, a_locked_database_is_said_to_be_locked_and_works_again_afterwards)
{
    struct err err = ERR_INIT, ok = ERR_INIT;
    struct store *s = rig_open_store();
    sqlite3 *db;
    rig_must_add(s, "a");
    cr_assert_eq(sqlite3_open(rig_file, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    cr_expect_eq(rig_add(s, "b", NULL, NULL, NULL, NULL, &err), ST_TIMEOUT);
    cr_expect(strstr(err.msg, "locked"), "%s", err.msg);
    cr_expect_eq(rig_state_in(s, "a"), JOB_QUEUED, "reading goes on");
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    cr_expect_eq(rig_add(s, "b", NULL, NULL, NULL, NULL, &ok), ST_OK, "%s", ok.msg);
    store_close(s);
}

Test(store, a_file_that_was_moved_away_takes_no_more_jobs)
{
    struct err err = ERR_INIT;
    char away[128];
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    snprintf(away, sizeof away, "%s/moved.db", rig_dir);
    cr_assert_eq(rename(rig_file, away), 0);
    cr_expect_eq(rig_add(s, "b", NULL, NULL, NULL, NULL, &err), ST_IO);
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
    if (rig_try_open(&s, &ok) != ST_OK)
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
    rig_other("DELETE FROM jobs");
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
    mount("tmpfs", rig_dir, "tmpfs", MS_REMOUNT, "size=64m");
}

enum { NO_MOUNT = 50 };
static int small_disk(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", rig_dir, "tmpfs", 0, "size=2m") != 0)
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
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    flush_fails = true;
    cr_expect_eq(rig_add(s, "b", NULL, NULL, NULL, NULL, &err), ST_IO, "%s", err.msg);
    flush_fails = false; /* a flush that works now proves nothing of the bytes before */
    cr_expect_eq(rig_add(s, "c", NULL, NULL, NULL, NULL, &later), ST_IO);
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
    if (rig_try_open(&s, &err) != ST_OK)
        _exit(9);
    for (unsigned i = from;; i++) {
        char id[16];
        struct job_row r;
        snprintf(id, sizeof id, "k%u", i);
        if (rig_add(s, id, NULL, NULL, NULL, NULL, &err) != ST_OK)
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
        poll(&(struct pollfd){ .fd = p[0], .events = POLLIN }, 1, -1); /* it has begun */
        poll(NULL, 0, (int)((round * 37) % 90));
        kill(pid, SIGKILL);
        int how;
        waitpid(pid, &how, 0);
        cr_assert(WIFSIGNALED(how), "the writer failed by itself: %d", how);
        struct err err = ERR_INIT;
        struct store *s = rig_open_store(); /* checks the file */
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
    cr_expect_geq(acked, rounds, "each writer wrote once at least: %u", acked);
}
