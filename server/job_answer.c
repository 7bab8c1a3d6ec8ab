/* server/job_answer.c - what clients ask about jobs, answered on the keeper's thread: it may wait
 * for the disk. A job that runs is fresher in memory than in the store. */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "server/job_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- jobs as JSON ---- */

static void put_member(struct buf *out, const char *key, const char *json)
{
    buf_printf(out, ",\"%s\":%s", key, json ? json : "null");
}

static void put_time(struct buf *out, const char *key, int64_t unix_s)
{
    if (unix_s)
        buf_printf(out, ",\"%s\":%lld", key, (long long)unix_s);
    else
        put_member(out, key, NULL);
}

void job_write(const struct job_row *r, struct buf *out)
{
    bool cancelling = r->cancel && r->state == JOB_RUNNING;
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"job\",\"kind\":\"%s\",\"state\":\"%s\"", r->id,
               r->kind, job_state_name(r->state));
    put_member(out, "cancelling", cancelling ? "true" : "false");
    put_time(out, "created", r->created);
    put_time(out, "started", r->started);
    put_time(out, "finished", r->finished);
    buf_printf(out, ",\"restarts\":%u", r->restarts);
    put_member(out, "params", r->params);
    put_member(out, "progress", r->progress);
    put_member(out, "result", r->result);
    buf_z(out, ",\"error\":");
    if (r->error)
        json_quote(out, str_c(r->error));
    else
        buf_z(out, "null");
    buf_char(out, '}');
}

void job_tell(struct jobs *j, const struct job_row *r, uint64_t tail, bool ended)
{
    struct buf b = BUF_INIT;
    job_write(r, &b);
    struct feed_news n = { .state = b.failed ? (struct str){ "", 0 } : buf_view(&b),
                           .progress = str_c(r->progress),
                           .tail = tail,
                           .ended = ended };
    feeds_tell(j->feeds, r->id, &n);
    buf_clear(&b);
}

/* ---- finding ---- */

/* tail: end of its metrics. */
static enum status find(struct jobs *j, const char *id, struct job_row *ret, uint64_t *tail,
                        struct err *err)
{
    char *dir, *metrics;
    if (jobs_active_row(j, id, ret, tail, err) || err->code != ST_OK)
        return err->code;
    if (store_job_get(j->store, id, ret, err) != ST_OK)
        return err->code;
    if (job_paths(j, id, &dir, &metrics, err) != ST_OK) {
        job_row_clear(ret);
        return err->code;
    }
    *tail = metric_end(metrics);
    free(dir);
    free(metrics);
    return ST_OK;
}

/* ---- submitting ---- */

/* "job-" and 12 hexadecimal digits. */
static enum status new_id(char out[JOB_ID_MAX], struct err *err)
{
    unsigned char r[6];
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return err_sys(err, errno, "getrandom");
    snprintf(out, JOB_ID_MAX, "job-%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2], r[3], r[4], r[5]);
    return ST_OK;
}

/* What tells two requests of the same key apart. */
static void request_hash(const char *kind, struct str params, char out[65])
{
    struct sha256 h;
    sha256_init(&h);
    sha256_add(&h, kind, strlen(kind) + 1);
    sha256_add(&h, params.p, params.n);
    sha256_hex(&h, out);
}

static enum status submit_row(struct jobs *j, struct jobs_ask *a, struct buf *params,
                              struct job_row *row)
{
    char hash[65];
    request_hash(a->kind->name, buf_view(params), hash);
    snprintf(row->kind, sizeof row->kind, "%s", a->kind->name);
    row->created = clock_unix_s();
    row->params = buf_take(params);
    if (!row->params)
        return err_set(&a->err, ST_NOMEM, "job");
    if (new_id(row->id, &a->err) != ST_OK)
        return a->err.code;
    store_job_add(j->store, row, a->key[0] ? a->key : NULL, hash, &a->known, &a->err);
    a->conflict = a->err.code == ST_ARG;
    return a->err.code;
}

static void submit(struct jobs *j, struct jobs_ask *a)
{
    struct job_row row = { .state = JOB_QUEUED };
    struct buf params = BUF_INIT;
    json_t *config = NULL;
    if (atomic_load(&j->stop)) {
        err_set(&a->err, ST_CLOSED, "the server is shutting down");
        return;
    }
    if (job_config(a->kind, a->params, j->dir, j->o.allow_paths, &config, a->param, &a->err) !=
        ST_OK)
        return;
    json_free(config); /* looked at only: it is made again when the job starts */
    if (atomic_load(&j->counts[JOB_QUEUED]) >= j->o.queue_max)
        err_set(&a->err, ST_BUSY, "%u jobs are queued already, try again later", j->o.queue_max);
    else if (json_write(a->params, &params, &a->err) == ST_OK &&
             submit_row(j, a, &params, &row) == ST_OK) {
        snprintf(a->job, sizeof a->job, "%s", row.id);
        job_write(&row, &a->body);
        jobs_recount(j);
        j->look = true;
    }
    job_row_clear(&row);
    buf_clear(&params);
}

/* ---- the others ---- */

static void get(struct jobs *j, struct jobs_ask *a)
{
    struct job_row r;
    uint64_t tail;
    if (find(j, a->id, &r, &tail, &a->err) != ST_OK)
        return;
    job_write(&r, &a->body);
    job_row_clear(&r);
}

static void list(struct jobs *j, struct jobs_ask *a)
{
    struct job_list l;
    if (store_job_list(j->store, a->id[0] ? a->id : NULL, a->limit, &l, &a->err) != ST_OK)
        return;
    buf_z(&a->body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < l.n && a->err.code == ST_OK; i++) {
        struct job_row fresh;
        uint64_t tail;
        if (i)
            buf_char(&a->body, ',');
        if (jobs_active_row(j, l.row[i].id, &fresh, &tail, &a->err)) {
            job_write(&fresh, &a->body);
            job_row_clear(&fresh);
        } else {
            job_write(&l.row[i], &a->body);
        }
    }
    buf_printf(&a->body, "],\"has_more\":%s}", l.more ? "true" : "false");
    job_list_clear(&l);
}

static bool is_over(enum job_state s)
{
    return s != JOB_QUEUED && s != JOB_RUNNING;
}

/* Passes the wish on to the job's worker. Returns the job's state: it may have ended, and the
 * database not know yet. */
static enum job_state cancel_active(struct jobs *j, const char *id)
{
    enum job_state s = JOB_RUNNING;
    pthread_mutex_lock(&j->lock);
    struct job *job = jobs_active(j, id);
    if (job && is_over(job->row.state)) {
        s = job->row.state;
    } else if (job) {
        job->row.cancel = true;
        atomic_store(&job->cancel, true);
    }
    pthread_mutex_unlock(&j->lock);
    return s;
}

static void cancel(struct jobs *j, struct jobs_ask *a)
{
    struct job_row r;
    uint64_t tail = 0;
    if (store_job_cancel(j->store, a->id, clock_unix_s(), &r, &a->err) != ST_OK)
        return;
    a->state = r.state;
    if (r.state == JOB_RUNNING)
        a->state = cancel_active(j, a->id);
    job_row_clear(&r);
    if (find(j, a->id, &r, &tail, &a->err) != ST_OK)
        return;
    if (a->state == JOB_RUNNING || a->state == JOB_CANCELLED)
        job_tell(j, &r, tail, a->state == JOB_CANCELLED);
    else
        err_set(&a->err, ST_CLOSED, "the job has ended already: %s", job_state_name(a->state));
    if (a->state == JOB_CANCELLED)
        jobs_recount(j);
    job_write(&r, &a->body);
    job_row_clear(&r);
}

/* Cancelled and failed jobs go on where their last checkpoint is. Functions keep none. */
static enum status check_resume(struct jobs *j, struct jobs_ask *a)
{
    struct job_row r;
    bool can = false;
    jobs_settle(j, a->id);
    if (store_job_get(j->store, a->id, &r, &a->err) != ST_OK)
        return a->err.code;
    const struct job_kind *k = jobs_kind(j, r.kind, &can);
    if (!k || !can || k->run)
        err_set(&a->err, ST_CLOSED, "jobs of kind '%s' cannot go on after their end", r.kind);
    else if (r.state == JOB_DONE)
        err_set(&a->err, ST_CLOSED, "the job is done, nothing is left of it");
    else if (!is_over(r.state))
        err_set(&a->err, ST_CLOSED, "the job has not ended: it is %s", job_state_name(r.state));
    else if (atomic_load(&j->counts[JOB_QUEUED]) >= j->o.queue_max)
        err_set(&a->err, ST_BUSY, "%u jobs are queued already, try again later", j->o.queue_max);
    job_row_clear(&r);
    return a->err.code;
}

static void resume(struct jobs *j, struct jobs_ask *a)
{
    struct job_row r;
    if (check_resume(j, a) != ST_OK || store_job_resume(j->store, a->id, &r, &a->err) != ST_OK)
        return;
    job_write(&r, &a->body); /* nobody watches: streams end with their job */
    jobs_recount(j);
    j->look = true;
    job_row_clear(&r);
}

static void watch(struct jobs *j, struct jobs_ask *a)
{
    struct job_row r;
    struct buf state = BUF_INIT;
    char *dir = NULL, *metrics = NULL;
    struct feed_news now = { .tail = 0 };
    if (find(j, a->id, &r, &now.tail, &a->err) != ST_OK)
        return;
    job_write(&r, &state);
    if (buf_ok(&state, "event stream", &a->err) == ST_OK &&
        job_paths(j, a->id, &dir, &metrics, &a->err) == ST_OK) {
        now.state = buf_view(&state);
        now.progress = str_c(r.progress);
        now.ended = is_over(r.state);
        feeds_watch(j->feeds, a->id, metrics, &now, a->from > 0 ? (uint64_t)a->from : 0, a->stream,
                    &a->err);
    }
    buf_clear(&state);
    job_row_clear(&r);
    free(dir);
    free(metrics);
}

/* The last `max` bytes of a file as a JSON string, from the start of a line where it was cut. */
static enum status put_tail(const char *path, uint32_t max, struct buf *out, struct err *err)
{
    struct stat st = { .st_size = 0 };
    struct buf text = BUF_INIT;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT)
        err_sys(err, errno, "log of a job");
    if (fd >= 0 && fstat(fd, &st) != 0)
        err_sys(err, errno, "log of a job");
    off_t from = st.st_size > max ? st.st_size - max : 0;
    char *room = err->code == ST_OK ? buf_room(&text, max) : NULL;
    if (room && fd >= 0 && file_read_upto(fd, room, max, (uint64_t)from, &text.n, err) != ST_OK)
        err_ctx(err, "log of a job");
    struct str s = buf_view(&text);
    const char *eol = from ? memchr(s.p, '\n', s.n) : NULL;
    if (eol)
        s = (struct str){ eol + 1, s.n - (size_t)(eol + 1 - s.p) };
    buf_printf(out, "\"size\":%lld,\"text\":", (long long)st.st_size);
    json_quote(out, s);
    out->failed |= text.failed;
    buf_clear(&text);
    if (fd >= 0)
        close(fd);
    return err->code;
}

static void from_files(struct jobs *j, struct jobs_ask *a)
{
    struct job_row r;
    uint64_t tail;
    char *dir, *metrics;
    if (find(j, a->id, &r, &tail, &a->err) != ST_OK)
        return;
    job_row_clear(&r);
    if (job_paths(j, a->id, &dir, &metrics, &a->err) != ST_OK)
        return;
    buf_printf(&a->body, "{\"job\":\"%s\",", a->id);
    if (a->verb == JOBS_LOG) {
        struct buf path = BUF_INIT;
        buf_printf(&path, "%s/log.txt", dir);
        if (buf_ok(&path, "log of a job", &a->err) == ST_OK)
            put_tail(path.p, a->limit, &a->body, &a->err);
        buf_clear(&path);
    } else {
        metric_series(metrics, a->from, a->limit, &a->body, &a->err);
    }
    buf_char(&a->body, '}');
    free(dir);
    free(metrics);
}

void job_answer(struct jobs *j, struct jobs_ask *a)
{
    snprintf(a->job, sizeof a->job, "%s", a->id);
    switch (a->verb) {
    case JOBS_SUBMIT:
        submit(j, a);
        break;
    case JOBS_LIST:
        list(j, a);
        break;
    case JOBS_GET:
        get(j, a);
        break;
    case JOBS_CANCEL:
        cancel(j, a);
        break;
    case JOBS_RESUME:
        resume(j, a);
        break;
    case JOBS_WATCH:
        watch(j, a);
        break;
    case JOBS_SERIES:
    case JOBS_LOG:
        from_files(j, a);
        break;
    }
    if (a->err.code == ST_OK)
        buf_ok(&a->body, "answer about a job", &a->err);
}
