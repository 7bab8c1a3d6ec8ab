/* tests/unit/server/test_jobs.c - jobs from submission to their end, and what crashes, restarts and
 * clients do to them. Processes are fake_train; what they do stands in their script. */
#include "server/process.h"
#include "store/db.h"
#include "tests/support/pg.h"
#include "tests/unit/server/jobs_rig.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct jobs_rig rig;

static void setup(void)
{
    jobs_rig_make(&rig);
}

static void teardown(void)
{
    jobs_rig_clear(&rig);
}

TestSuite(jobs, .init = setup, .fini = teardown, .timeout = 600);

static bool has(const char *id, const char *member, const char *part)
{
    return strstr(rig_member(&rig, id, member), part) != NULL;
}

/* How often a step stands in the metrics. */
static int times(const char *id, int step)
{
    char want[32];
    int n = 0;
    char *text = rig_read(&rig, id, "metrics.jsonl");
    snprintf(want, sizeof want, "{\"step\":%d,", step);
    for (const char *p = text; (p = strstr(p, want)); p++)
        n++;
    free(text);
    return n;
}

/* ---- ends ---- */

Test(jobs, a_job_runs_and_keeps_its_result)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1", 40, id);
    rig_wait(&rig, id, "done");
    cr_expect(has(id, "result", "\"steps\":40"), "%s", rig_member(&rig, id, "result"));
    cr_expect_null(strstr(rig_member(&rig, id, "result"), rig.dir), "no path of the server");
    cr_expect(has(id, "progress", "\"step\":40") && has(id, "progress", "\"share\":1"), "%s",
              rig_member(&rig, id, "progress"));
    cr_expect_str_eq(rig_member(&rig, id, "error"), "null");
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "0");
    cr_expect_str_neq(rig_member(&rig, id, "finished"), "null");
    cr_expect(!has(id, "params", "/"), "as the client sent them");
    jobs_rig_close(&rig);
    jobs_rig_open(&rig);
    cr_expect_str_eq(rig_member(&rig, id, "state"), "done", "also for the next server");
}

Test(jobs, an_exit_code_fails_a_job_with_its_last_words)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 exit_at=7 exit_code=1", 40, id);
    rig_wait(&rig, id, "failed");
    char want[120];
    snprintf(want, sizeof want,
             "step 7: the loss is no number; 'runs/%s/checkpoints/last' is from before it", id);
    cr_expect_str_eq(rig_member(&rig, id, "error"), want);
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "0", "nothing to be gained by repeating");
}

Test(jobs, a_program_that_does_not_start_fails_the_job_and_not_the_server)
{
    char id[JOB_ID_MAX], next[JOB_ID_MAX];
    rig.opts.program = "/no/such/program";
    jobs_rig_open(&rig);
    rig_train(&rig, "", 5, id);
    rig_wait(&rig, id, "failed");
    cr_expect(has(id, "error", "train"), "%s", rig_member(&rig, id, "error"));
    rig_train(&rig, "", 5, next);
    rig_wait(&rig, next, "failed");
}

/* A job is told as done before the keeper has saved it and counted again. */
static void wait_count(enum job_state state, uint64_t want)
{
    uint64_t n[JOB_STATES] = { 0 };
    for (int i = 0; i < RIG_PATIENCE; i++) {
        jobs_counts(rig.jobs, n);
        if (n[state] == want)
            return;
        poll(NULL, 0, 10);
    }
    cr_assert_fail("%d jobs, not %d", (int)n[state], (int)want);
}

Test(jobs, one_worker_takes_jobs_in_their_order)
{
    char id[3][JOB_ID_MAX];
    jobs_rig_open(&rig);
    for (int i = 0; i < 3; i++)
        rig_train(&rig, "step_ms=1 hold_at=2", 5, id[i]);
    rig_wait(&rig, id[0], "running");
    cr_expect_str_eq(rig_member(&rig, id[2], "state"), "queued");
    rig_file(&rig, "script0.txt", "step_ms=1 go");
    rig_wait(&rig, id[1], "running");
    cr_expect_str_eq(rig_member(&rig, id[0], "state"), "done");
    rig_file(&rig, "script1.txt", "step_ms=1 go");
    rig_file(&rig, "script2.txt", "step_ms=1 go");
    rig_wait(&rig, id[2], "done");
    wait_count(JOB_DONE, 3);
}

Test(jobs, more_workers_run_jobs_side_by_side)
{
    char id[2][JOB_ID_MAX];
    rig.opts.n_worker = 2;
    jobs_rig_open(&rig);
    for (int i = 0; i < 2; i++)
        rig_train(&rig, "step_ms=5", 10000, id[i]);
    for (int i = 0; i < 2; i++)
        rig_wait_step(&rig, id[i], 5);
    cr_expect_not(jobs_idle(rig.jobs));
}

Test(jobs, the_queue_is_bounded)
{
    char id[JOB_ID_MAX];
    rig.opts.queue_max = 2;
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=5", 10000, id);
    rig_wait(&rig, id, "running");
    for (int i = 0; i < 2; i++)
        rig_train(&rig, "", 5, id);
    rig_file(&rig, "more.txt", "");
    struct jobs_ask *a = rig_submit(&rig, "pretrain", "{\"data\":\"more.txt\",\"steps\":3}");
    cr_expect_eq(a->err.code, ST_BUSY, "%s", a->err.msg);
    jobs_ask_free(a);
}

/* ---- crashes ---- */

Test(jobs, a_process_that_a_signal_killed_goes_on_from_its_checkpoint)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 checkpoint=10 crash_once=25 torn", 40, id);
    rig_wait(&rig, id, "done");
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "1");
    cr_expect_eq(times(id, 10), 1, "before the checkpoint: once");
    cr_expect_eq(times(id, 21), 2, "behind it: again");
    struct jobs_ask *a = rig_get(&rig, JOBS_SERIES, id);
    cr_expect(strstr(a->body.p, "\"points\":40,"), "%.200s", a->body.p);
    jobs_ask_free(a);
    a = rig_get(&rig, JOBS_LOG, id);
    cr_expect(strstr(a->body.p, "started again"), "%s", a->body.p);
    jobs_ask_free(a);
}

Test(jobs, a_crash_loop_ends_after_three_repetitions_without_progress)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 checkpoint=10 crash_at=25", 40, id);
    rig_wait(&rig, id, "failed");
    cr_expect(has(id, "error", "signal 9") && has(id, "error", "without progress"), "%s",
              rig_member(&rig, id, "error"));
    /* The first attempt came to step 24, which is progress; three more do not get further. */
    cr_expect_eq(times(id, 24), 4 + 1, "%d attempts", times(id, 24));
}

Test(jobs, crashes_with_progress_in_between_are_not_counted)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 checkpoint=1 crash_every=2", 12, id);
    rig_wait(&rig, id, "done");
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "5");
}

/* ---- cancelling ---- */

Test(jobs, a_queued_job_is_cancelled_at_once)
{
    char first[JOB_ID_MAX], id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=5", 10000, first);
    rig_train(&rig, "", 5, id);
    struct jobs_ask *a = rig_get(&rig, JOBS_CANCEL, id);
    cr_expect_eq(a->err.code, ST_OK, "%s", a->err.msg);
    cr_expect_eq(a->state, JOB_CANCELLED);
    jobs_ask_free(a);
    a = rig_get(&rig, JOBS_CANCEL, id);
    cr_expect_eq(a->err.code, ST_OK, "twice is once: %s", a->err.msg);
    jobs_ask_free(a);
}

Test(jobs, a_running_job_is_asked_to_save_and_ends_cancelled)
{
    char id[JOB_ID_MAX];
    rig.opts.kill_ms = 60000;
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=5 checkpoint=100000 hold_end", 10000, id);
    rig_wait_step(&rig, id, 5);
    struct jobs_ask *a = rig_get(&rig, JOBS_CANCEL, id);
    cr_expect_eq(a->state, JOB_RUNNING);
    cr_expect(strstr(a->body.p, "\"cancelling\":true"), "%s", a->body.p);
    jobs_ask_free(a);
    rig_file(&rig, "script0.txt", "go");
    rig_wait(&rig, id, "cancelled");
    char *step = rig_read(&rig, id, "checkpoints/last/step");
    cr_expect_gt(strtol(step, NULL, 10), 4, "no checkpoint: '%s'", step);
    free(step);
    a = rig_get(&rig, JOBS_CANCEL, id);
    cr_expect_eq(a->err.code, ST_OK);
    jobs_ask_free(a);
}

Test(jobs, a_process_that_does_not_listen_is_killed)
{
    char id[JOB_ID_MAX];
    rig.opts.kill_ms = 300;
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=5 stubborn", 10000, id);
    rig_wait_step(&rig, id, 5);
    jobs_ask_free(rig_get(&rig, JOBS_CANCEL, id));
    rig_wait(&rig, id, "cancelled");
}

Test(jobs, a_job_that_has_ended_cannot_be_cancelled)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1", 3, id);
    rig_wait(&rig, id, "done");
    struct jobs_ask *a = rig_get(&rig, JOBS_CANCEL, id);
    cr_expect_eq(a->err.code, ST_CLOSED, "%s", a->err.msg);
    jobs_ask_free(a);
    a = rig_get(&rig, JOBS_CANCEL, "job-nobody");
    cr_expect_eq(a->err.code, ST_NOTFOUND);
    jobs_ask_free(a);
}

/* ---- going on after an end ---- */

static void go_on(const char *id)
{
    struct jobs_ask *a = rig_get(&rig, JOBS_RESUME, id);
    cr_assert_eq(a->err.code, ST_OK, "%s", a->err.msg);
    cr_expect(strstr(a->body.p, "\"state\":\"queued\"") && strstr(a->body.p, "\"finished\":null"),
              "%s", a->body.p);
    jobs_ask_free(a);
}

static void expect_no_resume(const char *id, enum status st, const char *part)
{
    struct jobs_ask *a = rig_get(&rig, JOBS_RESUME, id);
    cr_expect_eq(a->err.code, st, "%s", a->err.msg);
    cr_expect(strstr(a->err.msg, part), "%s", a->err.msg);
    jobs_ask_free(a);
}

/* Asked as soon as it is told to have ended, which may be before the store knows. */
Test(jobs, a_cancelled_job_goes_on_from_its_checkpoint)
{
    char id[JOB_ID_MAX];
    rig.opts.kill_ms = 60000;
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=5 checkpoint=100000", 100000, id); /* longer than the test */
    for (int i = 1; i <= 3; i++) {
        rig_wait_step(&rig, id, 4 * i);
        expect_no_resume(id, ST_CLOSED, "has not ended");
        jobs_ask_free(rig_get(&rig, JOBS_CANCEL, id));
        rig_wait(&rig, id, "cancelled");
        char *step = rig_read(&rig, id, "checkpoints/last/step");
        long at = strtol(step, NULL, 10);
        free(step);
        go_on(id);
        rig_wait_step(&rig, id, (int)at + 1);
        cr_expect_eq(times(id, (int)at), 1, "the step of the checkpoint is not made again");
        cr_expect_geq(times(id, (int)at + 1), 1);
    }
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "0", "nothing crashed");
}

Test(jobs, a_job_that_is_done_or_unknown_does_not_go_on)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1", 3, id);
    rig_wait(&rig, id, "done");
    expect_no_resume(id, ST_CLOSED, "is done");
    expect_no_resume("job-nobody", ST_NOTFOUND, "no such job");
}

Test(jobs, a_failed_job_is_tried_again_without_its_error)
{
    char id[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 exit_at=5", 10, id);
    for (int i = 0; i < 2; i++) {
        rig_wait(&rig, id, "failed");
        go_on(id);
    }
    rig_wait(&rig, id, "failed");
    cr_expect(strstr(rig_member(&rig, id, "error"), "step 5"), "%s", rig_member(&rig, id, "error"));
}

/* ---- restarts ---- */

static void wait_idle(void)
{
    for (int i = 0; i < RIG_PATIENCE && !jobs_idle(rig.jobs); i++)
        poll(NULL, 0, 10);
    cr_assert(jobs_idle(rig.jobs));
}

Test(jobs, a_server_that_stops_saves_its_jobs_and_the_next_one_goes_on)
{
    char id[JOB_ID_MAX], queued[JOB_ID_MAX];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 checkpoint=100000 hold_at=11", 60, id);
    rig_train(&rig, "step_ms=1", 5, queued);
    rig_wait_step(&rig, id, 10);
    jobs_stop(rig.jobs);
    wait_idle();
    cr_expect_str_eq(rig_member(&rig, id, "state"), "queued");
    jobs_rig_close(&rig);
    jobs_rig_open(&rig);
    rig_wait(&rig, id, "done");
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "0", "it did not crash");
    cr_expect_eq(times(id, 10), 1, "from where it was");
    rig_wait(&rig, queued, "done");
}

static void wait_restarts(const char *id, int n)
{
    char want[16];
    snprintf(want, sizeof want, "%d", n);
    for (int i = 0; i < RIG_PATIENCE && strcmp(rig_member(&rig, id, "restarts"), want) != 0; i++)
        poll(NULL, 0, 10);
    cr_assert_str_eq(rig_member(&rig, id, "restarts"), want);
}

static bool take_process(void *ctx, const struct db_value *col, int n)
{
    *(bool *)ctx |= n == 2 && col[0].i && process_birth((pid_t)col[0].i) == col[1].i;
    return true;
}

static int take_sqlite(void *ctx, int n, char **col, char **name)
{
    const struct db_value v[] = { db_int(strtoll(col[0], NULL, 10)),
                                  db_int(strtoll(col[1], NULL, 10)) };
    (void)name;
    return take_process(ctx, v, n) ? 0 : 1;
}

/* Does the database know a process that lives? Only then can the next server find it. */
static bool process_is_stored(void)
{
    static const char sql[] = "SELECT pid, pid_birth FROM jobs WHERE state = 'running'";
    bool lives = false;
    if (rig.opts.store) {
        struct db_opts o = { .url = rig.opts.store, .what = "test", .schema = "strobe_test" };
        struct err err = ERR_INIT;
        struct db *db;
        cr_assert_eq(db_open(&o, &db, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(db_run(db, sql, NULL, 0, take_process, &lives, NULL, &err), ST_OK, "%s",
                     err.msg);
        db_close(db);
        return lives;
    }
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/strobe.db", rig.dir);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 60000);
    cr_assert_eq(sqlite3_exec(db, sql, take_sqlite, &lives, NULL), SQLITE_OK);
    sqlite3_close(db);
    return lives;
}

/* A server of its own that submits a job, or goes on with it for the nth time, and is killed with
 * -9 at a step. */
static void killed_server(int step, const char *script, int steps, int nth, char id[JOB_ID_MAX])
{
    int fd[2];
    cr_assert_eq(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        jobs_rig_open(&rig);
        if (id[0] == '\0')
            rig_train(&rig, script, steps, id);
        wait_restarts(id, nth);
        rig_wait_step(&rig, id, step);
        for (int i = 0; i < RIG_PATIENCE && !process_is_stored(); i++)
            poll(NULL, 0, 10);
        _exit(write(fd[1], id, JOB_ID_MAX) != JOB_ID_MAX || pause());
    }
    close(fd[1]);
    cr_assert_eq(read(fd[0], id, JOB_ID_MAX), JOB_ID_MAX);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(fd[0]);
}

Test(jobs, a_job_survives_kill_9_of_its_server)
{
    char id[JOB_ID_MAX] = "";
    killed_server(25, "step_ms=1 checkpoint=10 hold_at=26", 60, 0, id);
    jobs_rig_open(&rig);
    rig_wait(&rig, id, "done");
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "1");
    struct jobs_ask *a = rig_get(&rig, JOBS_SERIES, id);
    cr_expect(strstr(a->body.p, "\"points\":60,"), "%.200s", a->body.p);
    jobs_ask_free(a);
}

Test(jobs, the_process_of_a_killed_server_is_ended_before_another_starts)
{
    char id[JOB_ID_MAX] = "";
    rig.opts.kill_ms = 400;
    killed_server(5, "step_ms=10 stubborn checkpoint=1", 10000, 0, id);
    jobs_rig_open(&rig);
    /* It ignores what the kernel tells it. For as long as it writes, no other one does. */
    rig_wait(&rig, id, "running");
    for (int i = 0; i < RIG_PATIENCE; i++) {
        struct jobs_ask *a = rig_get(&rig, JOBS_LOG, id);
        bool again = strstr(a->body.p, "started again") != NULL;
        jobs_ask_free(a);
        if (again)
            break;
        poll(NULL, 0, 10);
    }
    rig_file(&rig, "script0.txt", "step_ms=0 checkpoint=10");
    poll(NULL, 0, 300);
    int twice = 0;
    for (int step = 1; step < 30; step++)
        twice += times(id, step) > 1;
    cr_expect_leq(twice, 1, "%d steps were written by two processes", twice);
}

Test(jobs, servers_that_die_again_and_again_without_progress_fail_the_job)
{
    char id[JOB_ID_MAX] = "";
    rig.opts.kill_ms = 200; /* what hangs does not listen either */
    for (int i = 0; i < 5; i++)
        killed_server(3, "step_ms=1 hang_at=4 checkpoint=100000", 60, i, id);
    jobs_rig_open(&rig);
    rig_wait(&rig, id, "failed");
    cr_expect(has(id, "error", "without progress"), "%s", rig_member(&rig, id, "error"));
}

Test(jobs, a_wish_to_cancel_survives_the_server)
{
    char id[JOB_ID_MAX] = "";
    sqlite3 *db;
    char path[128];
    killed_server(5, "step_ms=10", 10000, 0, id);
    snprintf(path, sizeof path, "%s/strobe.db", rig.dir);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "UPDATE jobs SET cancel = 1", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    jobs_rig_open(&rig);
    rig_wait(&rig, id, "cancelled");
}

Test(jobs, a_kind_that_this_version_does_not_know_fails_by_name)
{
    char id[JOB_ID_MAX], path[128];
    sqlite3 *db;
    rig.opts.program = "/bin/false";
    jobs_rig_open(&rig);
    jobs_ask_free(rig_get(&rig, JOBS_GET, "job-x")); /* an answer: the tables are there */
    jobs_stop(rig.jobs);
    jobs_rig_close(&rig);
    snprintf(path, sizeof path, "%s/strobe.db", rig.dir);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db,
                              "INSERT INTO jobs (id, kind, state, created, params) VALUES "
                              "('job-x', 'dream', 'queued', 1, '{}')",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    sqlite3_close(db);
    snprintf(id, sizeof id, "job-x");
    jobs_rig_open(&rig);
    rig_wait(&rig, id, "failed");
    cr_expect(has(id, "error", "kind"), "%s", rig_member(&rig, id, "error"));
}

/* ---- the store ---- */

Test(jobs, a_job_runs_to_its_end_while_the_database_is_locked)
{
    char id[JOB_ID_MAX], path[128];
    sqlite3 *db;
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 hold_at=6", 40, id);
    rig_wait_step(&rig, id, 5);
    snprintf(path, sizeof path, "%s/strobe.db", rig.dir);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 60000);
    cr_assert_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    rig_file(&rig, "other.txt", "");
    struct jobs_ask *a = rig_submit(&rig, "pretrain", "{\"data\":\"other.txt\",\"steps\":3}");
    cr_expect_eq(a->err.code, ST_TIMEOUT, "%s", a->err.msg);
    jobs_ask_free(a);
    rig_file(&rig, "script0.txt", "go");
    rig_wait_step(&rig, id, 40);
    rig_wait(&rig, id, "done"); /* in memory; not stored yet */
    cr_expect_not(jobs_idle(rig.jobs), "it is kept until it is stored");
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    wait_idle();
    jobs_rig_close(&rig);
    jobs_rig_open(&rig);
    cr_expect_str_eq(rig_member(&rig, id, "state"), "done");
}

Test(jobs, a_damaged_database_refuses_questions_and_is_left_alone)
{
    struct stat before, after;
    char path[128];
    rig_file(&rig, "strobe.db", "this is no database, but something that somebody may want back");
    snprintf(path, sizeof path, "%s/strobe.db", rig.dir);
    stat(path, &before);
    jobs_rig_open(&rig);
    struct jobs_ask *a = rig_get(&rig, JOBS_GET, "job-x");
    cr_expect_eq(a->err.code, ST_FORMAT, "%s", a->err.msg);
    cr_expect(a->no_store);
    jobs_ask_free(a);
    cr_expect_not(jobs_store_up(rig.jobs));
    stat(path, &after);
    cr_expect_eq(before.st_size, after.st_size);
    jobs_rig_close(&rig);
    unlink(path);
}

Test(jobs, a_directory_that_another_server_leaves_is_taken_over)
{
    struct jobs_rig second = rig;
    jobs_rig_open(&rig);
    jobs_ask_free(rig_get(&rig, JOBS_GET, "x")); /* it has it */
    jobs_rig_open(&second);
    struct jobs_ask *a = rig_get(&second, JOBS_GET, "x");
    cr_expect_eq(a->err.code, ST_BUSY, "%s", a->err.msg);
    jobs_ask_free(a);
    jobs_rig_close(&rig);
    for (int i = 0; i < RIG_PATIENCE && !jobs_store_up(second.jobs); i++)
        poll(NULL, 0, 10);
    cr_expect(jobs_store_up(second.jobs));
    jobs_rig_close(&second);
}

/* The server is killed; then the database goes away while a job runs, and comes back. */
Test(jobs, in_postgresql_a_job_survives_its_server_and_an_outage, .timeout = 600)
{
    char id[JOB_ID_MAX] = "";
    struct pg pg;
    bool broken;
    if (!pg_start(&pg, "jobs on PostgreSQL", &broken)) {
        if (broken)
            pg_stop(&pg);
        cr_assert(!broken, "PostgreSQL is installed and does not start");
        return;
    }
    rig.opts.store = pg.url;
    killed_server(25, "step_ms=1 checkpoint=10 hold_at=26", 60, 0, id);
    jobs_rig_open(&rig);
    rig_wait(&rig, id, "done");
    cr_expect_str_eq(rig_member(&rig, id, "restarts"), "1");
    rig_train(&rig, "step_ms=1 hold_at=6", 60, id);
    rig_wait_step(&rig, id, 5);
    cr_assert(pg_halt(&pg));
    struct jobs_ask *a = rig_submit(&rig, "pretrain", "{\"data\":\"script0.txt\",\"steps\":3}");
    cr_expect_eq(a->err.code, ST_IO, "%s", a->err.msg);
    jobs_ask_free(a);
    rig_file(&rig, "script0.txt", "go");
    rig_wait_step(&rig, id, 60);
    rig_wait(&rig, id, "done"); /* in memory; not stored yet */
    cr_expect_not(jobs_idle(rig.jobs), "it is kept until it is stored");
    cr_assert(pg_again(&pg));
    wait_idle();
    jobs_rig_close(&rig);
    jobs_rig_open(&rig);
    cr_expect_str_eq(rig_member(&rig, id, "state"), "done");
    jobs_rig_close(&rig);
    pg_stop(&pg);
}

/* ---- settings, log ---- */

Test(jobs, wrong_settings_are_refused_by_name_and_not_queued)
{
    jobs_rig_open(&rig);
    struct jobs_ask *a = rig_submit(&rig, "pretrain", "{\"data\":\"/etc/passwd\"}");
    cr_expect_eq(a->err.code, ST_ARG);
    cr_expect_str_eq(a->param, "data");
    jobs_ask_free(a);
    uint64_t n[JOB_STATES];
    jobs_counts(rig.jobs, n);
    cr_expect_eq(n[JOB_QUEUED] + n[JOB_RUNNING], 0u);
}

Test(jobs, a_file_that_goes_before_its_job_starts_fails_the_job)
{
    char first[JOB_ID_MAX], id[JOB_ID_MAX], path[128];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 hold_at=2", 5, first);
    rig_file(&rig, "gone.txt", "");
    struct jobs_ask *a = rig_submit(&rig, "pretrain", "{\"data\":\"gone.txt\",\"steps\":3}");
    snprintf(id, sizeof id, "%s", a->job);
    jobs_ask_free(a);
    snprintf(path, sizeof path, "%s/gone.txt", rig.dir);
    unlink(path);
    rig_file(&rig, "script0.txt", "go");
    rig_wait(&rig, id, "failed");
    cr_expect(has(id, "error", "gone.txt"), "%s", rig_member(&rig, id, "error"));
}

Test(jobs, a_talkative_process_leaves_a_bounded_log_with_its_end)
{
    char id[JOB_ID_MAX], path[200];
    struct stat st, old;
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 noise=3500000", 3, id);
    rig_wait(&rig, id, "done");
    snprintf(path, sizeof path, "%s/runs/%s/log.txt", rig.dir, id);
    cr_assert_eq(stat(path, &st), 0);
    snprintf(path, sizeof path, "%s/runs/%s/log.old.txt", rig.dir, id);
    cr_assert_eq(stat(path, &old), 0);
    cr_expect_leq(st.st_size, JOBS_LOG_MAX);
    cr_expect_leq(old.st_size, JOBS_LOG_MAX);
    struct jobs_ask *a = rig_get(&rig, JOBS_LOG, id);
    cr_expect(strstr(a->body.p, "3499968"), "the last line: ...%s", a->body.p + a->body.n - 80);
    cr_expect_lt(a->body.n, 70000u);
    jobs_ask_free(a);
}

/* ---- functions instead of processes ---- */

static atomic_bool inside_waits;

static enum status count_up(struct job_run *r, struct err *err)
{
    const json_t *p = job_run_params(r);
    int64_t n = json_integer_value(json_object_get(p, "n"));
    for (int64_t i = 1; i <= n; i++) {
        if (job_run_line(r, json_pack("{s:I, s:f}", "step", (json_int_t)i, "value", 0.5), err) !=
            ST_OK)
            return err->code;
        while (atomic_load(&inside_waits) && !job_run_stop(r))
            poll(NULL, 0, 5);
        if (job_run_stop(r))
            return err_set(err, ST_CANCELLED, "stopped");
    }
    if (n == 0)
        return err_set(err, ST_ARG, "nothing to count");
    job_run_result(r, json_pack("{s:I}", "counted", (json_int_t)n));
    return ST_OK;
}

static const struct job_kind inside[] = { { .name = "count", .run = count_up } };

static void submit_count(const char *params, char id[JOB_ID_MAX])
{
    struct jobs_ask *a = rig_submit(&rig, "count", params);
    cr_assert_eq(a->err.code, ST_OK, "%s", a->err.msg);
    snprintf(id, JOB_ID_MAX, "%s", a->job);
    jobs_ask_free(a);
}

Test(jobs, a_function_runs_as_a_job_too)
{
    char id[JOB_ID_MAX], bad[JOB_ID_MAX], stopped[JOB_ID_MAX];
    rig.opts.kinds = inside;
    rig.opts.n_kind = 1;
    jobs_rig_open(&rig);
    submit_count("{\"n\":5}", id);
    rig_wait(&rig, id, "done");
    cr_expect_str_eq(rig_member(&rig, id, "result"), "{\"counted\":5}");
    cr_expect(has(id, "progress", "\"step\":5"));
    submit_count("{\"n\":0}", bad);
    rig_wait(&rig, bad, "failed");
    cr_expect_str_eq(rig_member(&rig, bad, "error"), "nothing to count");
    atomic_store(&inside_waits, true);
    submit_count("{\"n\":9}", stopped);
    rig_wait_step(&rig, stopped, 1);
    jobs_ask_free(rig_get(&rig, JOBS_CANCEL, stopped));
    rig_wait(&rig, stopped, "cancelled");
}

/* ---- watching ---- */

struct seen {
    struct buf text;
    bool ended;
};

/* Reads a watched stream until it ends or shows a text. */
static void read_stream(struct stream *st, struct seen *s, const char *until)
{
    char part[4096];
    uint64_t waited;
    for (int i = 0; i < 2 * RIG_PATIENCE; i++) {
        long n;
        while ((n = stream_take(st, part, sizeof part, &waited)) > 0)
            buf_put(&s->text, part, (size_t)n);
        s->ended = n < 0;
        if (s->ended || (until && s->text.p && strstr(s->text.p, until)))
            return;
        poll(NULL, 0, 5);
    }
}

static struct stream *watch(const char *id, uint64_t from, enum status want)
{
    struct stream *st = stream_create();
    jobs_hook(rig.jobs, st);
    struct jobs_ask a = { .verb = JOBS_WATCH, .stream = st, .from = (int64_t)from };
    snprintf(a.id, sizeof a.id, "%s", id);
    stream_hold(st);
    struct jobs_ask *answer = rig_ask(&rig, &a);
    cr_assert_eq(answer->err.code, want, "%s", answer->err.msg);
    jobs_ask_free(answer);
    return st;
}

static void leave(struct stream *st)
{
    stream_abort(st);
    stream_drop(st);
}

static int count(const char *text, const char *part)
{
    int n = 0;
    for (const char *p = text; p && (p = strstr(p, part)); p++)
        n++;
    return n;
}

Test(jobs, watchers_get_every_line_once_the_states_and_an_end)
{
    char id[JOB_ID_MAX];
    struct seen a = { .ended = false }, b = { .ended = false };
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1 hold_at=21", 40, id);
    struct stream *early = watch(id, 0, ST_OK);
    read_stream(early, &a, "{\"step\":20,");
    struct stream *late = watch(id, 0, ST_OK);
    rig_file(&rig, "script0.txt", "go");
    read_stream(early, &a, NULL);
    read_stream(late, &b, NULL);
    cr_expect(a.ended && b.ended, "the streams end with the job");
    for (int i = 0; i < 2; i++) {
        const char *t = i ? b.text.p : a.text.p;
        cr_expect_eq(count(t, "event: metrics"), 40, "%s", t);
        for (int step = 1; step <= 40; step++) {
            char want[60];
            snprintf(want, sizeof want, "event: metrics\ndata: {\"step\":%d,", step);
            cr_expect_eq(count(t, want), 1, "%s", want);
        }
        cr_expect_geq(count(t, "\"state\":\"running\""), 1, "%s", t);
        const char *last = t + strlen(t) - 20;
        while (last > t && strncmp(last, "event: ", 7) != 0)
            last--;
        cr_expect(strstr(last, "event: state") == last && strstr(last, "\"state\":\"done\""), "%s",
                  last);
    }
    leave(early);
    leave(late);
    buf_clear(&a.text);
    buf_clear(&b.text);
}

Test(jobs, a_watcher_goes_on_behind_the_last_event_that_it_had)
{
    char id[JOB_ID_MAX];
    struct seen a = { .ended = false }, b = { .ended = false };
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=5", 60, id);
    struct stream *st = watch(id, 0, ST_OK);
    read_stream(st, &a, "{\"step\":20,");
    leave(st);
    /* The last event that came whole. */
    char *end = a.text.p;
    for (char *p = a.text.p; (p = strstr(p, "\n\n")); p += 2)
        end = p;
    *end = '\0';
    char *id_at = a.text.p;
    for (char *p = a.text.p; (p = strstr(p, "id: ")); p++)
        id_at = p;
    st = watch(id, strtoull(id_at + 4, NULL, 10), ST_OK);
    read_stream(st, &b, NULL);
    cr_expect(b.ended);
    for (int step = 1; step <= 60; step++) {
        char want[60];
        snprintf(want, sizeof want, "event: metrics\ndata: {\"step\":%d,", step);
        cr_expect_eq(count(a.text.p, want) + count(b.text.p, want), 1, "%s", want);
    }
    leave(st);
    buf_clear(&a.text);
    buf_clear(&b.text);
}

Test(jobs, a_finished_job_is_told_from_its_files_and_an_unknown_one_is_not_found)
{
    char id[JOB_ID_MAX];
    struct seen a = { .ended = false };
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=1", 10, id);
    rig_wait(&rig, id, "done");
    jobs_rig_close(&rig);
    jobs_rig_open(&rig);
    struct stream *st = watch(id, 0, ST_OK);
    read_stream(st, &a, NULL);
    cr_expect(a.ended);
    cr_expect_eq(count(a.text.p, "event: metrics"), 10);
    cr_expect_eq(count(a.text.p, "\"state\":\"done\""), 1);
    leave(st);
    buf_clear(&a.text);
    leave(watch("job-nobody", 0, ST_NOTFOUND));
}

Test(jobs, a_slow_watcher_is_waited_for_and_holds_little)
{
    char id[JOB_ID_MAX];
    struct seen a = { .ended = false };
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=0 checkpoint=100000", 8000, id);
    struct stream *st = watch(id, 0, ST_OK);
    rig_wait(&rig, id, "done"); /* over a megabyte by now */
    poll(NULL, 0, 300);
    cr_expect_leq(stream_unsent(st), (size_t)256 << 10);
    read_stream(st, &a, NULL);
    cr_expect(a.ended);
    cr_expect_eq(count(a.text.p, "event: metrics"), 8000);
    leave(st);
    buf_clear(&a.text);
}

Test(jobs, watchers_that_leave_are_forgotten)
{
    enum { N = 50 };
    char id[JOB_ID_MAX];
    struct stream *st[N];
    jobs_rig_open(&rig);
    rig_train(&rig, "step_ms=5", 10000, id);
    for (int i = 0; i < N; i++)
        st[i] = watch(id, 0, ST_OK);
    for (int i = 0; i < N; i++)
        leave(st[i]); /* the last reference, unless the feeds hold one: LeakSanitizer sees */
    rig_wait_step(&rig, id, 20);
}
