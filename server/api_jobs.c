/* server/api_jobs.c - training is asked for, jobs are listed, watched, cancelled. A handler looks
 * at the request and leaves a question; the keeper's thread answers it (answered()), because it may
 * wait for the disk. */
#include "engine/base/num.h"
#include "server/http.h"
#include "server/jobs.h"

#include <stdlib.h>

enum {
    CONFIG_BYTES_MAX = 256 << 10,
    LIST_DEFAULT = 20,
    LOG_DEFAULT = 64 << 10,
    STRIDE_MAX = 1000000
};
#define OFFSET_MAX ((uint64_t)1 << 52)

/* ---- answers ---- */

struct wait {
    struct later later;
    int status; /* when it goes well */
};

/* Status and code where the store, or the disk behind it, is the reason. */
static int store_fault(enum status st, const char **code)
{
    static const struct {
        enum status st;
        int status;
        const char *code;
    } table[] = {
        { ST_TIMEOUT, 503, "store_locked" },
        { ST_BUSY, 503, "store_in_use" },
        { ST_FULL, 507, "store_full" },
        { ST_FORMAT, 503, "store_unusable" },
        { ST_UNSUPPORTED, 503, "store_unusable" },
        { ST_IO, 503, "disk_error" },
        { ST_NOTFOUND, 503, "disk_error" },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].st == st) {
            *code = table[i].code;
            return table[i].status;
        }
    *code = "internal";
    return 500;
}

/* Status and code of what went wrong. */
static int fault_of(const struct jobs_ask *a, const char **code)
{
    if (a->no_store)
        return store_fault(a->err.code, code);
    if (a->conflict) {
        *code = "idempotency_conflict";
        return 409;
    }
    if (a->err.code == ST_CLOSED && a->verb == JOBS_CANCEL) {
        *code = "job_ended";
        return 409;
    }
    if (a->err.code == ST_CLOSED && a->verb == JOBS_RESUME) {
        *code = "not_resumable";
        return 409;
    }
    switch (a->err.code) {
    case ST_ARG:
    case ST_RANGE:
    case ST_NOTFOUND:
    case ST_BUSY:
    case ST_CLOSED:
        return err_http_status(&a->err, code);
    default:
        return store_fault(a->err.code, code);
    }
}

/* On the keeper's thread. */
static void answered(struct jobs_ask *a)
{
    struct wait *w = a->ctx;
    char where[64];
    snprintf(where, sizeof where, "/api/jobs/%s", a->job);
    if (a->err.code != ST_OK) {
        const char *code;
        int status = fault_of(a, &code);
        later_error(&w->later, status, code, a->param[0] ? a->param : NULL, a->err.msg);
    } else if (a->verb == JOBS_WATCH) {
        later_events(&w->later);
    } else {
        bool waits = a->verb == JOBS_CANCEL && a->state == JOB_RUNNING;
        later_reply(&w->later, waits ? 202 : w->status, a->verb == JOBS_SUBMIT ? where : NULL,
                    &a->body);
    }
    free(w);
    jobs_ask_free(a);
}

/* Hands a question over; takes its parts from *with. status: of an answer that goes well. */
static void ask(struct call *c, const struct jobs_ask *with, int status)
{
    struct jobs_ask *a = calloc(1, sizeof *a);
    struct wait *w = calloc(1, sizeof *w);
    bool events = with->verb == JOBS_WATCH;
    if (!a || !w || !later_open(c, events, &w->later)) {
        json_free(with->params);
        free(a);
        free(w);
        reply_error(c, 500, "internal", NULL, "out of memory");
        return;
    }
    *a = *with;
    a->done = answered;
    a->ctx = w;
    w->status = status;
    if (events) {
        jobs_hook(c->srv->jobs, c->stream);
        server_keep(c->srv, c->stream, KEEP_WATCHING);
        stream_hold(c->stream);
        a->stream = c->stream;
    }
    if (jobs_ask(c->srv->jobs, a))
        return;
    later_error(&w->later, 503, "store_busy", NULL,
                "too many questions about jobs wait already, try again later");
    free(w);
    jobs_ask_free(a);
}

/* ---- requests ---- */

/* false: replied; without a data directory there are no jobs. */
static bool have_jobs(struct call *c)
{
    if (c->srv->jobs)
        return true;
    reply_error(c, 503, "no_jobs", NULL, "the server was started without a data directory");
    c->reply.no_retry = true;
    return false;
}

/* A whole number of the query; false: replied with 400. */
static bool query_number(struct call *c, const char *name, uint64_t min, uint64_t max,
                         uint64_t *value)
{
    struct err err = ERR_INIT;
    const char *text = call_query(c, name);
    if (!text || num_u64(str_c(text), name, min, max, value, &err) == ST_OK)
        return true;
    reply_error(c, 400, "invalid_value", name, "%s", err.msg);
    return false;
}

/* The job that the path names; false: replied with 404. */
static bool path_job(struct call *c, char id[JOB_ID_MAX])
{
    if (!have_jobs(c))
        return false;
    if (strlen(c->arg) >= JOB_ID_MAX) {
        reply_error(c, 404, "not_found", NULL, "there is no such job");
        return false;
    }
    snprintf(id, JOB_ID_MAX, "%s", c->arg);
    return true;
}

/* The last part of /api/train/KIND. */
static const struct job_kind *path_kind(struct call *c)
{
    char name[JOB_KIND_MAX];
    bool can = false;
    const char *from = strrchr(c->path, '/');
    size_t n = strlen(c->path);
    if (from && from[1] == '\0') { /* a slash at the end */
        n--;
        from = memrchr(c->path, '/', n);
    }
    size_t at = from ? (size_t)(from - c->path) + 1 : 0;
    snprintf(name, sizeof name, "%s%.*s", strncmp(c->path, "/api/recsys/", 12) ? "" : "recsys-",
             (int)(n - at), c->path + at);
    const struct job_kind *k = jobs_kind(c->srv->jobs, name, &can);
    if (k && can)
        return k;
    reply_error(c, 501, "not_supported", NULL, "this version of strobe has no '%s' jobs yet", name);
    c->reply.no_retry = true;
    return NULL;
}

/* false: replied. */
static bool take_key(struct call *c, char key[128])
{
    const char *text = call_header(c, "Idempotency-Key");
    if (text && (text[0] == '\0' || strlen(text) >= 128)) {
        reply_error(c, 400, "invalid_value", "Idempotency-Key",
                    "an Idempotency-Key has 1 to 127 characters");
        return false;
    }
    snprintf(key, 128, "%s", text ? text : "");
    return true;
}

void api_train(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_SUBMIT };
    if (!have_jobs(c) || !(a.kind = path_kind(c)) || !take_key(c, a.key))
        return;
    if (atomic_load(&c->srv->draining)) {
        reply_error(c, 503, "shutting_down", NULL, "the server is shutting down");
        return;
    }
    if (c->body.n > CONFIG_BYTES_MAX) {
        reply_error(c, 413, "body_too_large", NULL, "settings have at most %d bytes",
                    CONFIG_BYTES_MAX);
        return;
    }
    if ((a.params = call_json(c)))
        ask(c, &a, 202);
}

void api_jobs(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_LIST };
    uint64_t limit = LIST_DEFAULT;
    const char *after = call_query(c, "after");
    if (!have_jobs(c) || !query_number(c, "limit", 1, JOBS_LIST_MAX, &limit))
        return;
    if (after && strlen(after) >= sizeof a.id) {
        reply_error(c, 404, "not_found", "after", "there is no such job");
        return;
    }
    snprintf(a.id, sizeof a.id, "%s", after ? after : "");
    a.limit = (uint32_t)limit;
    ask(c, &a, 200);
}

void api_job(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_GET };
    if (path_job(c, a.id))
        ask(c, &a, 200);
}

void api_job_cancel(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_CANCEL };
    if (path_job(c, a.id))
        ask(c, &a, 200);
}

void api_job_resume(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_RESUME };
    if (!path_job(c, a.id))
        return;
    if (atomic_load(&c->srv->draining))
        reply_error(c, 503, "shutting_down", NULL, "the server is shutting down");
    else
        ask(c, &a, 202);
}

/* Browsers send Last-Event-ID by themselves; `from` is for those who know the place already. */
void api_job_events(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_WATCH };
    struct err err = ERR_INIT;
    uint64_t from = 0;
    const char *last = call_header(c, "Last-Event-ID");
    if (!path_job(c, a.id) || !query_number(c, "from", 0, OFFSET_MAX, &from))
        return;
    if (last && num_u64(str_c(last), "Last-Event-ID", 0, OFFSET_MAX, &from, &err) != ST_OK) {
        reply_error(c, 400, "invalid_value", "Last-Event-ID", "%s", err.msg);
        return;
    }
    a.from = (int64_t)from;
    ask(c, &a, 200);
}

void api_job_metrics(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_SERIES };
    uint64_t from = 0, stride = 0;
    if (!path_job(c, a.id) || !query_number(c, "from", 0, OFFSET_MAX, &from) ||
        !query_number(c, "stride", 1, STRIDE_MAX, &stride))
        return;
    a.from = (int64_t)from;
    a.limit = (uint32_t)stride;
    ask(c, &a, 200);
}

void api_job_log(struct call *c)
{
    struct jobs_ask a = { .verb = JOBS_LOG };
    uint64_t bytes = LOG_DEFAULT;
    if (!path_job(c, a.id) || !query_number(c, "bytes", 1, JOBS_LOG_MAX, &bytes))
        return;
    a.limit = (uint32_t)bytes;
    ask(c, &a, 200);
}

/* ---- metrics ---- */

void job_families(struct jobs *j, struct buf *out)
{
    uint64_t n[JOB_STATES];
    jobs_counts(j, n);
    buf_z(out, "# HELP strobe_jobs Jobs by state.\n# TYPE strobe_jobs gauge\n");
    for (int i = 0; i < JOB_STATES; i++)
        buf_printf(out, "strobe_jobs{state=\"%s\"} %llu\n", job_state_name((enum job_state)i),
                   (unsigned long long)n[i]);
    metrics_family(out, "job_store_up", "gauge", "The job database is open (1) or not (0).",
                   jobs_store_up(j) ? 1 : 0);
}
