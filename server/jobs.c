/* server/jobs.c - see jobs.h: the threads' life and the keeper's loop. One round of the keeper:
 *
 *   open the store if it is not -> answer a question -> save what workers changed -> hand out jobs
 *   -> prolong leases -> sleep until something changes or is due */
#include "server/jobs.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "server/job_parts.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    QUEUE_MAX = 64,
    KILL_MS = 30000,
    AGAIN_MS = 1000,
    STORE_AGAIN_MS = 5000,
    SAVE_EVERY_S = 5,
    RETRY_S = 1,
    LOOK_S = 5 /* in a database of several servers: something may have become ours */
};
#define NS_PER_S 1000000000u

/* ---- what others ask from any thread ---- */

void jobs_poke(struct jobs *j)
{
    j->poke = true;
    pthread_cond_signal(&j->woken);
}

const struct job_kind *jobs_kind(const struct jobs *j, const char *name, bool *can)
{
    for (size_t i = 0; i < j->o.n_kind; i++) {
        const struct job_kind *k = &j->o.kinds[i];
        if (strcmp(k->name, name) == 0) {
            *can = k->run || !j->o.has_verb || j->o.has_verb(k->verb);
            return k;
        }
    }
    return NULL;
}

void jobs_counts(struct jobs *j, uint64_t counts[JOB_STATES])
{
    for (int i = 0; i < JOB_STATES; i++)
        counts[i] = atomic_load(&j->counts[i]);
}

bool jobs_store_up(struct jobs *j)
{
    return atomic_load(&j->store_up);
}

void jobs_hook(struct jobs *j, struct stream *st)
{
    feeds_hook(j->feeds, st);
}

bool jobs_ask(struct jobs *j, struct jobs_ask *a)
{
    pthread_mutex_lock(&j->lock);
    bool room = j->n_ask < JOBS_ASKS_MAX && !j->end;
    if (room) {
        j->ask[(j->first_ask + j->n_ask++) % JOBS_ASKS_MAX] = a;
        jobs_poke(j);
    }
    pthread_mutex_unlock(&j->lock);
    return room;
}

void jobs_ask_free(struct jobs_ask *a)
{
    if (!a)
        return;
    json_free(a->params);
    stream_drop(a->stream);
    buf_clear(&a->body);
    free(a);
}

enum status job_paths(const struct jobs *j, const char *id, char **dir, char **metrics,
                      struct err *err)
{
    struct buf d = BUF_INIT, m = BUF_INIT;
    buf_printf(&d, "%s/runs/%s", j->dir, id);
    buf_printf(&m, "%s/runs/%s/metrics.jsonl", j->dir, id);
    if (d.failed || m.failed) {
        buf_clear(&d);
        buf_clear(&m);
        return err_set(err, ST_NOMEM, "job %s", id);
    }
    *dir = buf_take(&d);
    *metrics = buf_take(&m);
    return ST_OK;
}

struct job *jobs_active(struct jobs *j, const char *id)
{
    for (size_t i = 0; i < j->n_active; i++)
        if (strcmp(j->active[i]->row.id, id) == 0)
            return j->active[i];
    return NULL;
}

bool jobs_active_row(struct jobs *j, const char *id, struct job_row *ret, uint64_t *tail,
                     struct err *err)
{
    pthread_mutex_lock(&j->lock);
    struct job *job = jobs_active(j, id);
    bool hit = job && job_row_copy(&job->row, ret, err) == ST_OK;
    if (job)
        *tail = job->tail;
    pthread_mutex_unlock(&j->lock);
    return hit;
}

/* ---- active jobs ---- */

static void job_free(struct job *job)
{
    if (!job)
        return;
    job_row_clear(&job->row);
    free(job->dir);
    free(job->metrics);
    free(job);
}

/* Takes the row on success. */
static struct job *job_new(struct jobs *j, struct job_row *row, struct err *err)
{
    struct job *job = calloc(1, sizeof *job);
    bool can;
    if (!job || job_paths(j, row->id, &job->dir, &job->metrics, err) != ST_OK) {
        err_set(err, ST_NOMEM, "job %s", row->id);
        free(job);
        return NULL;
    }
    job->jobs = j;
    job->kind = jobs_kind(j, row->kind, &can);
    job->was_running = row->state == JOB_RUNNING;
    atomic_store(&job->cancel, row->cancel);
    job->row = *row;
    job->row.state = JOB_RUNNING;
    if (!job->row.started)
        job->row.started = clock_unix_s();
    job->dirty = job->urgent = true;
    return job;
}

/* Claims a job for an idle worker. false: none, or the store is of no help now. */
static bool hand_out(struct jobs *j)
{
    struct err err = ERR_INIT;
    struct job_row row;
    if (store_job_claim(j->store, clock_unix_s(), &row, &err) != ST_OK) {
        bool idle = err.code == ST_NOTFOUND;
        if (!idle && !j->told) /* once, not every second */
            log_line(LOG_WARN, "jobs", NULL, "no job claimed", "why=\"%s\"", err.msg);
        j->told = !idle;
        atomic_store(&j->store_up, err.code != ST_IO);
        j->retry_at_ns = idle && !store_shared(j->store)
                             ? UINT64_MAX
                             : clock_ns() + (uint64_t)(idle ? LOOK_S : RETRY_S) * NS_PER_S;
        return false;
    }
    j->told = false;
    atomic_store(&j->store_up, true);
    struct job *job = job_new(j, &row, &err);
    if (!job) { /* it stays ours and running: the next server has it */
        log_line(LOG_ERROR, "jobs", row.id, "job not started", "why=\"%s\"", err.msg);
        job_row_clear(&row);
        return false;
    }
    job->tail = metric_end(job->metrics); /* what an attempt before left */
    pthread_mutex_lock(&j->lock);
    j->active[j->n_active++] = job;
    pthread_mutex_unlock(&j->lock);
    log_line(LOG_INFO, "jobs", job->row.id, "started", "kind=%s resume=%d", job->row.kind,
             job->was_running || job->row.resume);
    jobs_recount(j);
    job_tell(j, &job->row, job->tail, false);
    if (!queue_try_push(j->work, job)) { /* as many places as workers: closed, the server stops */
        pthread_mutex_lock(&j->lock);
        job->row.state = JOB_QUEUED;
        job->row.resume |= job->was_running;
        job->ended = job->dirty = job->urgent = true;
        pthread_mutex_unlock(&j->lock);
    }
    return true;
}

static void remove_active(struct jobs *j, struct job *job)
{
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < j->n_active; i++)
        if (j->active[i] == job)
            j->active[i] = j->active[--j->n_active];
    pthread_mutex_unlock(&j->lock);
    j->look = true;
}

/* There is something to be written. An end is written once its worker is through. Lock held. */
static bool due(const struct job *job, uint64_t now)
{
    return job->dirty && (job->ended || job->row.state == JOB_RUNNING) &&
           (job->urgent || now - job->saved_ns > SAVE_EVERY_S * NS_PER_S);
}

/* Writes one job. false: the store refuses, later again. */
static bool save(struct jobs *j, struct job *job)
{
    struct err err = ERR_INIT;
    struct job_row row;
    pthread_mutex_lock(&j->lock);
    bool ended = job->ended, urgent = job->urgent;
    uint64_t tail = job->tail;
    bool copied = job_row_copy(&job->row, &row, &err) == ST_OK;
    if (copied)
        job->dirty = job->urgent = false;
    pthread_mutex_unlock(&j->lock);
    enum status st = copied ? store_job_save(j->store, &row, clock_unix_s(), &err) : err.code;
    if (st != ST_OK && (st != ST_NOTFOUND || !copied)) {
        log_line(LOG_WARN, "jobs", job->row.id, "not saved, trying again", "why=\"%s\"", err.msg);
        pthread_mutex_lock(&j->lock);
        job->dirty = job->urgent = true;
        pthread_mutex_unlock(&j->lock);
        if (copied)
            job_row_clear(&row);
        return false;
    }
    job->saved_ns = clock_ns();
    if (st == ST_NOTFOUND)
        atomic_store(&job->lost, true);
    if (urgent || ended)
        job_tell(j, &row, tail, ended && row.state != JOB_QUEUED);
    if (ended) {
        log_line(LOG_INFO, "jobs", row.id, job_state_name(row.state), "error=\"%s\"",
                 row.error ? row.error : "");
        remove_active(j, job);
        job_free(job);
        jobs_recount(j);
    }
    job_row_clear(&row);
    return true;
}

/* Saves what is due. A refusal (after seconds of waiting, where somebody locks the store) ends the
 * round, so that questions are answered in between. */
static void save_all(struct jobs *j)
{
    uint64_t now = clock_ns();
    if (now < j->save_at_ns)
        return;
    for (;;) {
        struct job *next = NULL;
        pthread_mutex_lock(&j->lock);
        for (size_t i = 0; i < j->n_active && !next; i++)
            if (due(j->active[i], now))
                next = j->active[i];
        pthread_mutex_unlock(&j->lock);
        if (!next)
            return;
        if (!save(j, next)) {
            j->save_at_ns = clock_ns() + RETRY_S * NS_PER_S;
            return;
        }
    }
}

void jobs_settle(struct jobs *j, const char *id)
{
    pthread_mutex_lock(&j->lock);
    struct job *job = jobs_active(j, id);
    /* Its worker closes files at most, between the end of the row and its own. */
    while (job && job->row.state != JOB_RUNNING && !job->ended)
        pthread_cond_wait(&j->woken, &j->lock);
    bool over = job && job->ended;
    pthread_mutex_unlock(&j->lock);
    if (over)
        save_all(j);
}

void jobs_recount(struct jobs *j)
{
    struct err err = ERR_INIT;
    uint64_t n[JOB_STATES];
    if (store_job_counts(j->store, n, &err) != ST_OK)
        return;
    for (int i = 0; i < JOB_STATES; i++)
        atomic_store(&j->counts[i], n[i]);
}

/* ---- the keeper ---- */

static void try_open(struct jobs *j)
{
    struct store_opts o = { .url = j->url, .dir = j->dir, .wait_ms = j->o.store_wait_ms };
    if (clock_ns() < j->open_at_ns)
        return;
    struct err err = ERR_INIT;
    if (store_open(&o, &j->store, &err) == ST_OK) {
        err_clear(&j->store_err);
        atomic_store(&j->store_up, true);
        jobs_recount(j);
        j->look = true;
        return;
    }
    bool passing = err.code != ST_FORMAT && err.code != ST_UNSUPPORTED;
    if (j->store_err.code != err.code) /* once, not every five seconds */
        log_line(LOG_WARN, "jobs", NULL, "no job database, jobs are refused",
                 "dir=\"%s\" why=\"%s\"", j->dir, err.msg);
    j->store_err = err;
    j->open_at_ns = passing ? clock_ns() + (uint64_t)j->o.store_again_ms * 1000000u : UINT64_MAX;
}

static struct jobs_ask *next_ask(struct jobs *j)
{
    struct jobs_ask *a = NULL;
    pthread_mutex_lock(&j->lock);
    if (j->n_ask) {
        a = j->ask[j->first_ask];
        j->first_ask = (j->first_ask + 1) % JOBS_ASKS_MAX;
        j->n_ask--;
    }
    pthread_mutex_unlock(&j->lock);
    return a;
}

static void answer_one(struct jobs *j)
{
    struct jobs_ask *a = next_ask(j);
    if (!a)
        return;
    a->no_store = !j->store;
    if (a->no_store)
        a->err = j->store_err;
    else
        job_answer(j, a);
    a->done(a);
}

static void renew(struct jobs *j)
{
    struct err err = ERR_INIT;
    uint64_t now = clock_ns();
    if (now < j->renew_at_ns)
        return;
    j->renew_at_ns = now + STORE_RENEW_S * NS_PER_S;
    if (j->n_active && store_job_renew(j->store, clock_unix_s(), &err) != ST_OK)
        log_line(LOG_WARN, "jobs", NULL, "leases not prolonged", "why=\"%s\"", err.msg);
}

/* Gives jobs to idle workers as long as there are some. */
static void hand_out_all(struct jobs *j)
{
    bool look = j->look || clock_ns() >= j->retry_at_ns;
    j->look = false;
    if (look) /* hand_out() sets it; while all workers are busy, the end of a job looks again */
        j->retry_at_ns = UINT64_MAX;
    /* n_active: the keeper alone changes it. */
    while (look && !atomic_load(&j->stop) && j->n_active < j->o.n_worker)
        look = hand_out(j);
}

/* When the keeper has to look again by itself. */
static uint64_t next_time(const struct jobs *j)
{
    if (!j->store)
        return j->open_at_ns;
    /* While something runs: its progress is saved every few seconds. */
    uint64_t at = j->n_active ? clock_ns() + NS_PER_S : UINT64_MAX;
    return at < j->retry_at_ns ? at : j->retry_at_ns;
}

static void sleep_until(struct jobs *j, uint64_t at_ns)
{
    struct timespec until = { .tv_sec = (time_t)(at_ns / NS_PER_S),
                              .tv_nsec = (long)(at_ns % NS_PER_S) };
    pthread_mutex_lock(&j->lock);
    while (!j->poke && !j->n_ask && !j->end)
        if (at_ns == UINT64_MAX)
            pthread_cond_wait(&j->woken, &j->lock);
        else if (pthread_cond_timedwait(&j->woken, &j->lock, &until) == ETIMEDOUT)
            break;
    j->poke = false;
    pthread_mutex_unlock(&j->lock);
}

static bool at_end(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    bool end = j->end && j->n_ask == 0;
    pthread_mutex_unlock(&j->lock);
    return end;
}

static void *keeper_main(void *arg)
{
    struct jobs *j = arg;
    pthread_setname_np(pthread_self(), "strobe-jobs");
    while (!at_end(j)) {
        if (!j->store)
            try_open(j);
        answer_one(j);
        if (j->store) {
            save_all(j);
            hand_out_all(j);
            renew(j);
        }
        sleep_until(j, next_time(j));
    }
    return NULL;
}

static void *worker_main(void *arg)
{
    struct jobs *j = arg;
    struct job *job;
    pthread_setname_np(pthread_self(), "strobe-worker");
    while ((job = queue_pop(j->work, -1))) {
        job_work(job);
        pthread_mutex_lock(&j->lock);
        job->ended = job->dirty = job->urgent = true;
        jobs_poke(j);
        pthread_mutex_unlock(&j->lock);
    }
    return NULL;
}

/* ---- life ---- */

/* The program's own path, so that children are the same version even when the file was replaced. */
static char *own_program(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path);
    if (n <= 0 || n >= (ssize_t)sizeof path)
        return NULL;
    struct str s = { path, (size_t)n };
    return str_ends(s, STR(" (deleted)")) ? str_dup(STR("/proc/self/exe")) : str_dup(s);
}

static enum status take_opts(struct jobs *j, const struct jobs_opts *o, struct err *err)
{
    char path[PATH_MAX];
    /* Absolute: children have other working directories. */
    if (!realpath(o->dir, path)) {
        err_sys(err, errno, "realpath");
        return err_ctx(err, "data directory '%s'", o->dir);
    }
    j->o = *o;
    j->dir = str_dup(str_c(path));
    j->url = o->store ? str_dup(str_c(o->store)) : NULL;
    j->program = o->program ? str_dup(str_c(o->program)) : own_program();
    if (!j->dir || !j->program || (o->store && !j->url))
        return err_set(err, ST_NOMEM, "jobs");
    if (!o->kinds)
        j->o.kinds = job_kinds(&j->o.n_kind);
    j->o.n_worker = o->n_worker ? o->n_worker : 1;
    if (j->o.n_worker > JOBS_WORKERS_MAX)
        j->o.n_worker = JOBS_WORKERS_MAX;
    j->o.queue_max = o->queue_max ? o->queue_max : QUEUE_MAX;
    j->o.kill_ms = o->kill_ms ? o->kill_ms : KILL_MS;
    j->o.again_ms = o->again_ms ? o->again_ms : AGAIN_MS;
    j->o.store_again_ms = o->store_again_ms ? o->store_again_ms : STORE_AGAIN_MS;
    j->retry_at_ns = UINT64_MAX;
    return ST_OK;
}

static enum status start_threads(struct jobs *j, struct err *err)
{
    int e = pthread_create(&j->keeper, NULL, keeper_main, j);
    if (e)
        return err_sys(err, e, "pthread_create");
    j->keeping = true;
    for (; j->n_started < j->o.n_worker; j->n_started++) {
        e = pthread_create(&j->worker[j->n_started], NULL, worker_main, j);
        if (e)
            return err_sys(err, e, "pthread_create");
    }
    return ST_OK;
}

enum status jobs_create(const struct jobs_opts *o, struct jobs **ret, struct err *err)
{
    struct jobs *j = calloc(1, sizeof *j);
    pthread_condattr_t attr;
    if (!j)
        return err_set(err, ST_NOMEM, "jobs");
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->woken, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&j->lock, NULL);
    if (take_opts(j, o, err) != ST_OK || queue_create(j->o.n_worker, &j->work, err) != ST_OK ||
        feeds_create(&j->feeds, err) != ST_OK || start_threads(j, err) != ST_OK) {
        jobs_free(j);
        return err->code;
    }
    *ret = j;
    return ST_OK;
}

void jobs_stop(struct jobs *j)
{
    atomic_store(&j->stop, true);
}

bool jobs_idle(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    bool idle = j->n_active == 0;
    pthread_mutex_unlock(&j->lock);
    return idle;
}

/* Workers end before the keeper, which saves what they leave. */
void jobs_free(struct jobs *j)
{
    struct jobs_ask *a;
    if (!j)
        return;
    atomic_store(&j->stop, true);
    atomic_store(&j->kill, true);
    if (j->work)
        queue_close(j->work);
    for (uint32_t i = 0; i < j->n_started; i++)
        pthread_join(j->worker[i], NULL);
    pthread_mutex_lock(&j->lock);
    j->end = true;
    jobs_poke(j);
    pthread_mutex_unlock(&j->lock);
    if (j->keeping)
        pthread_join(j->keeper, NULL);
    while ((a = next_ask(j))) /* no keeper ever started */
        jobs_ask_free(a);
    j->save_at_ns = 0;
    if (j->store)
        save_all(j); /* what does not go now is found as `running` by the next server */
    feeds_free(j->feeds);
    for (size_t i = 0; i < j->n_active; i++)
        job_free(j->active[i]);
    store_close(j->store);
    queue_free(j->work);
    pthread_cond_destroy(&j->woken);
    pthread_mutex_destroy(&j->lock);
    free(j->dir);
    free(j->url);
    free(j->program);
    free(j);
}
