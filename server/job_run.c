/* server/job_run.c - one job on a worker's thread, from its start to its end.
 *
 *   the process of a dead server is waited for -> run directory -> attempt --exit 0--> done
 *                                                                    |  \--other exit--> failed
 *      a signal killed it: again from the checkpoint, later and later |
 *      cancelled, the server stops: SIGTERM, after a while SIGKILL ---+--> cancelled | queued
 *
 * An attempt that comes no further than those before it counts; after three such the job fails. */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "server/job_output.h"
#include "server/job_parts.h"
#include "server/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LOOK_MS = 200,      /* how often a process and its metrics are looked at */
    IDLE_TRIES_MAX = 3, /* repetitions in a row without progress */
    AGAIN_MAX_MS = 60000
};

/* ---- what a worker knows of its job ---- */

struct job_run {
    struct job *job;
    json_t *config;
    struct metric_tail tail;
    struct metric_state state;
    int64_t best_step; /* furthest line of the file */
    struct job_output said;
    json_t *result;
};

static bool must_stop(const struct job *job)
{
    return atomic_load(&job->cancel) || atomic_load(&job->lost) || atomic_load(&job->jobs->stop);
}

/* Changes to the row that must be stored soon go between the two. */
static void row_lock(struct job *job)
{
    pthread_mutex_lock(&job->jobs->lock);
}

static void row_unlock(struct job *job, bool urgent)
{
    job->dirty = true;
    if (urgent) {
        job->urgent = true;
        jobs_poke(job->jobs);
    }
    pthread_mutex_unlock(&job->jobs->lock);
}

static void finish(struct job *job, enum job_state state, const char *error)
{
    struct buf shown = BUF_INIT;
    if (error)
        job_put_hidden(job->jobs->dir, str_c(error), &shown);
    row_lock(job);
    job->row.state = state;
    job->row.pid = job->row.pid_birth = 0;
    job->row.cancel = false;
    if (state == JOB_QUEUED)
        job->row.resume = true;
    else
        job->row.finished = clock_unix_s();
    bool kept = !error || (!shown.failed && job_row_text(&job->row.error, buf_view(&shown)));
    row_unlock(job, true);
    if (!kept)
        log_line(LOG_WARN, "jobs", job->row.id, "error not kept", "error=\"%s\"", error);
    buf_clear(&shown);
}

/* Ends a job that had to stop. */
static void finish_stopped(struct job *job)
{
    finish(job, atomic_load(&job->cancel) ? JOB_CANCELLED : JOB_QUEUED, NULL);
}

/* Sleeps, but not through a stop. */
static void rest(const struct job *job, uint32_t ms)
{
    uint64_t end = clock_ns() + (uint64_t)ms * 1000000u;
    while (!must_stop(job) && clock_ns() < end)
        poll(NULL, 0, ms < LOOK_MS ? (int)ms : LOOK_MS);
}

/* ---- metrics ---- */

static void on_line(void *ctx, const json_t *line)
{
    struct job_run *r = ctx;
    metric_state_add(&r->state, line);
    if (r->state.step > r->best_step)
        r->best_step = r->state.step;
}

/* Reads what is new in the metrics file and tells it. */
static void follow(struct job_run *r)
{
    struct job *job = r->job;
    struct buf b = BUF_INIT;
    uint64_t was = r->tail.at;
    metric_tail_read(&r->tail, on_line, r);
    if (r->tail.at == was)
        return;
    metric_state_write(&r->state, &b);
    row_lock(job);
    job->tail = r->tail.at;
    if (b.n && !b.failed)
        job_row_text(&job->row.progress, buf_view(&b));
    row_unlock(job, false);
    struct feed_news n = { .progress = b.failed ? (struct str){ "", 0 } : buf_view(&b),
                           .tail = r->tail.at };
    feeds_tell(job->jobs->feeds, job->row.id, &n);
    buf_clear(&b);
}

/* ---- the run directory ---- */

/* How far the run is to go, as the settings say; a process may know better: its metrics win. */
static void set_goal(struct job_run *r)
{
    struct err err = ERR_INIT;
    json_get_f64(r->config, "steps", false, 0, 1e15, &r->state.steps, &err);
    if (r->state.steps == 0)
        json_get_f64(r->config, "tokens", false, 0, 1e18, &r->state.tokens, &err);
}

/* Directory and settings; what an earlier attempt left is read. */
static enum status prepare(struct job_run *r, struct err *err)
{
    struct job *job = r->job;
    struct jobs *j = job->jobs;
    struct buf text = BUF_INIT;
    json_t *params = NULL;
    char path[FILE_PATH_MAX], param[JOB_PARAM_MAX];
    if (file_path(path, err, "%s/config.json", job->dir) == ST_OK &&
        file_make_dirs(job->dir, 0700, err) == ST_OK &&
        json_parse(str_c(job->row.params), "settings", &params, err) == ST_OK &&
        job_config(job->kind, params, j->dir, j->o.allow_paths, &r->config, param, err) == ST_OK &&
        json_write(r->config, &text, err) == ST_OK)
        file_replace(path, buf_view(&text), err);
    if (err->code == ST_OK) {
        r->tail.path = job->metrics;
        set_goal(r);
        follow(r);
    }
    json_free(params);
    buf_clear(&text);
    return err->code;
}

/* ---- what it did ---- */

/* What it printed, when that is an object, is what the run came to. */
static void take_result(struct job_run *r)
{
    json_t *doc = job_output_result(&r->said, r->job->jobs->dir);
    if (doc)
        job_run_result(r, doc);
}

static void keep_result(struct job_run *r)
{
    struct err err = ERR_INIT;
    struct buf b = BUF_INIT;
    if (r->result && json_write(r->result, &b, &err) == ST_OK && b.n <= JOB_RESULT_MAX) {
        row_lock(r->job);
        job_row_text(&r->job->row.result, buf_view(&b));
        row_unlock(r->job, false);
    }
    buf_clear(&b);
}

/* ---- attempts ---- */

enum outcome { ENDED_WELL, ENDED_BADLY, ENDED_BY_SIGNAL, STOPPED, NOT_STARTED };

struct attempt {
    enum outcome outcome;
    int how, signal_no;
};

/* A run was begun in the directory: it is continued, from its last checkpoint if there is one. */
static bool was_begun(const struct job *job)
{
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/run.json", job->dir);
    bool there = !path.failed && access(path.p, F_OK) == 0;
    buf_clear(&path);
    return there;
}

static enum status start(struct job_run *r, struct process *p, struct err *err)
{
    struct job *job = r->job;
    struct buf config = BUF_INIT;
    char verb[JOB_KIND_MAX];
    buf_printf(&config, "%s/config.json", job->dir);
    if (buf_ok(&config, "job", err) != ST_OK)
        return err->code;
    snprintf(verb, sizeof verb, "%s", job->kind->verb);
    bool again = was_begun(job);
    char name[] = "strobe", json[] = "--json", verbose[] = "-v", with[] = "--config",
         out[] = "--out", resume[] = "--resume";
    char *const argv[] = { name,     verb, json, verbose, with, config.p, again ? resume : out,
                           job->dir, NULL };
    if (process_start(job->jobs->program, argv, job->dir, p, err) == ST_OK) {
        job_output_note(&r->said, again ? "started again" : "started");
        row_lock(job);
        job->row.pid = p->pid;
        job->row.pid_birth = p->birth;
        row_unlock(job, true);
    }
    buf_clear(&config);
    return err->code;
}

static void wait_a_moment(const struct process *p)
{
    struct pollfd fd[2] = { { .fd = p->out, .events = POLLIN },
                            { .fd = p->log, .events = POLLIN } };
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): it was started */
    bool silent = p->out < 0 && p->log < 0; /* it is just ending */
    poll(fd, 2, silent ? 10 : LOOK_MS);
}

/* Asks a process that has to stop, then insists. *asked_ns: when it was asked, 0 not yet. */
static void press(struct job_run *r, const struct process *p, uint64_t *asked_ns)
{
    struct jobs *j = r->job->jobs;
    if (!must_stop(r->job))
        return;
    if (*asked_ns == 0) {
        *asked_ns = clock_ns();
        job_output_note(&r->said, "asked to stop");
        process_signal(p, SIGTERM);
    }
    if (atomic_load(&j->kill) || clock_ms_since(*asked_ns) > (double)j->o.kill_ms)
        process_signal(p, SIGKILL);
}

static struct attempt attempt(struct job_run *r, struct err *err)
{
    struct process p;
    struct attempt a = { .outcome = NOT_STARTED };
    uint64_t asked_ns = 0;
    job_output_begin(&r->said);
    if (start(r, &p, err) != ST_OK)
        return a;
    do {
        wait_a_moment(&p);
        job_output_drain(&r->said, &p);
        follow(r);
        press(r, &p, &asked_ns);
    } while (!process_ended(&p, &a.how, &a.signal_no));
    job_output_drain(&r->said, &p);
    process_close(&p);
    follow(r);
    a.outcome = asked_ns      ? STOPPED
                : a.signal_no ? ENDED_BY_SIGNAL
                : a.how       ? ENDED_BADLY
                              : ENDED_WELL;
    return a;
}

/* Notes an attempt that ended without being asked to. false: that was one too many. */
static bool count_try(struct job_run *r)
{
    struct job *job = r->job;
    row_lock(job);
    job->row.restarts++;
    job->row.idle_tries = r->best_step > job->row.best_step ? 0 : job->row.idle_tries + 1;
    if (r->best_step > job->row.best_step)
        job->row.best_step = r->best_step;
    job->row.pid = job->row.pid_birth = 0;
    bool ok = job->row.idle_tries <= IDLE_TRIES_MAX;
    row_unlock(job, true);
    return ok;
}

static uint32_t again_ms(const struct job *job)
{
    uint64_t ms = job->jobs->o.again_ms;
    for (uint32_t i = 0; i < job->row.idle_tries; i++)
        ms *= 5;
    return ms < AGAIN_MAX_MS ? (uint32_t)ms : AGAIN_MAX_MS;
}

static void fail_with(struct job_run *r, const struct attempt *a, const struct err *err)
{
    struct buf b = BUF_INIT;
    struct str said = job_output_last(&r->said);
    if (a->outcome == NOT_STARTED)
        buf_z(&b, err->msg);
    else if (a->outcome == ENDED_BY_SIGNAL)
        buf_printf(&b, "ended by signal %d (%s)%s; gave up after %d attempts without progress",
                   a->signal_no, sigdescr_np(a->signal_no) ? sigdescr_np(a->signal_no) : "unknown",
                   a->signal_no == SIGKILL ? ", perhaps for want of memory" : "",
                   IDLE_TRIES_MAX + 1);
    else if (said.n)
        buf_str(&b, said);
    else
        buf_printf(&b, "ended with exit code %d", a->how);
    finish(r->job, JOB_FAILED, b.failed ? "out of memory" : b.p);
    buf_clear(&b);
}

/* Attempts until one of them is the last. */
static void run_child(struct job_run *r)
{
    for (;;) {
        struct err err = ERR_INIT;
        struct attempt a = attempt(r, &err);
        if (a.outcome == STOPPED) {
            finish_stopped(r->job);
            return;
        }
        if (a.outcome == ENDED_WELL) {
            take_result(r);
            keep_result(r);
            const struct jobs_opts *o = &r->job->jobs->o;
            if (o->made)
                o->made(o->made_ctx, r->job->kind, r->job->dir);
            finish(r->job, JOB_DONE, NULL);
            return;
        }
        if (a.outcome != ENDED_BY_SIGNAL || !count_try(r)) {
            fail_with(r, &a, &err);
            return;
        }
        log_line(LOG_WARN, "jobs", r->job->row.id, "killed by a signal, runs again", "signal=%d",
                 a.signal_no);
        rest(r->job, again_ms(r->job));
        if (must_stop(r->job)) {
            finish_stopped(r->job);
            return;
        }
    }
}

/* The process of a server that died may still be writing its checkpoint. The kernel told it to end;
 * a second signal would end it before it has, so that waits. */
static void outlive_orphan(struct job *job)
{
    pid_t pid = (pid_t)job->row.pid;
    int64_t birth = job->row.pid_birth;
    uint64_t start = clock_ns();
    if (!job->was_running || pid <= 0 || birth == 0)
        return;
    while (process_birth(pid) == birth) {
        if (clock_ms_since(start) > (double)job->jobs->o.kill_ms)
            kill(-pid, SIGKILL);
        if (atomic_load(&job->jobs->kill)) /* the next server sees to it */
            return;
        poll(NULL, 0, 20);
    }
}

static void run_inside(struct job_run *r)
{
    struct err err = ERR_INIT;
    job_run_result(r, NULL);
    r->job->kind->run(r, &err);
    follow(r);
    if (must_stop(r->job) && err.code != ST_OK) {
        finish_stopped(r->job);
    } else if (err.code == ST_OK) {
        keep_result(r);
        finish(r->job, JOB_DONE, NULL);
    } else {
        finish(r->job, JOB_FAILED, err.msg);
    }
}

void job_work(struct job *job)
{
    struct err err = ERR_INIT;
    struct job_run r = { .job = job, .said = JOB_OUTPUT_INIT };
    bool ok = true;
    outlive_orphan(job);
    if (must_stop(job)) {
        finish_stopped(job);
        return;
    }
    if (!job->kind)
        err_set(&err, ST_UNSUPPORTED, "this version of strobe has no jobs of this kind");
    else
        prepare(&r, &err);
    if (err.code != ST_OK) {
        finish(job, JOB_FAILED, err.msg);
    } else {
        job_output_open(&r.said, job->dir);
        if (job->was_running)
            ok = count_try(&r);
        if (!ok)
            finish(job, JOB_FAILED,
                   "ended again and again with the server, without progress in between");
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): queued jobs have one */
        else if (job->kind->run)
            run_inside(&r);
        else
            run_child(&r);
    }
    job_output_close(&r.said);
    metric_state_clear(&r.state);
    json_free(r.config);
    json_free(r.result);
}

/* ---- for functions that run here ---- */

const json_t *job_run_params(const struct job_run *r)
{
    return r->config;
}

const char *job_run_dir(const struct job_run *r)
{
    return r->job->dir;
}

struct recsys_home *job_run_recsys(const struct job_run *r)
{
    return r->job->jobs->o.recsys;
}

bool job_run_stop(const struct job_run *r)
{
    return must_stop(r->job);
}

enum status job_run_line(struct job_run *r, json_t *line, struct err *err)
{
    struct buf b = BUF_INIT;
    if (!line || json_write(line, &b, err) != ST_OK)
        err_set(err, ST_NOMEM, "metrics");
    json_free(line);
    buf_char(&b, '\n');
    if (err->code == ST_OK && buf_ok(&b, "metrics", err) == ST_OK) {
        int fd =
            open(r->job->metrics, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            err_sys(err, errno, "metrics");
        else
            file_write(fd, b.p, b.n, "metrics", err);
        if (fd >= 0)
            close(fd);
        follow(r);
    }
    buf_clear(&b);
    return err->code;
}

void job_run_result(struct job_run *r, json_t *take)
{
    json_free(r->result);
    r->result = take;
}
