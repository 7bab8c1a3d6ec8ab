/* server/api_duo.c - routing traces of Duo models. A trace loads its own copy of a model and
 * computes, so nothing of it happens on a net thread: each request gets a thread of its own, a few
 * at a time, while its connection sleeps. What would take long becomes a job: a child process. A
 * trace lies in DATA/duo/ID/trace.bin, or in its job's folder (duo_store.h). */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "server/duo_store.h"
#include "server/http.h"
#include "server/jobs.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { ERRANDS_MAX = 8, LIST_DEFAULT = 20, LIST_MAX = 100 };
#define SMALL_FLOPS 1.5e11 /* a few seconds on a core: larger ones are jobs */
/* A copy of a larger model would not be the server's memory cap's to hold: its traces are jobs. */
#define SMALL_MODEL_BYTES (64 << 20)

struct errand {
    struct server *srv;
    struct later later;
    void (*work)(struct errand *e, struct err *err);
    json_t *params; /* of a trace */
    char id[CALL_ARG_MAX], figure[32], after[CALL_ARG_MAX], param[JOB_PARAM_MAX];
    int budget, sequence;
    uint64_t limit;
    bool answered; /* somebody else does it, or did */
};

/* ---- threads ---- */

static void errand_free(struct errand *e)
{
    json_free(e->params);
    free(e);
}

static void *run_errand(void *arg)
{
    struct errand *e = arg;
    struct server *srv = e->srv;
    struct err err = ERR_INIT;
    e->work(e, &err);
    if (!e->answered) {
        const char *code;
        int status = err_http_status(&err, &code);
        later_error(&e->later, status, code, e->param[0] ? e->param : NULL, err.msg);
    }
    errand_free(e);
    atomic_fetch_sub(&srv->errands, 1);
    return NULL;
}

/* Signals are the main thread's. */
static bool start_thread(struct errand *e)
{
    pthread_t t;
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = pthread_create(&t, &attr, run_errand, e) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return ok;
}

/* Takes e. */
static void send_off(struct call *c, struct errand *e)
{
    if (atomic_fetch_add(&c->srv->errands, 1) >= ERRANDS_MAX) {
        atomic_fetch_sub(&c->srv->errands, 1);
        errand_free(e);
        reply_error(c, 429, "busy", NULL, "too many traces are asked for at once, try again later");
        reply_retry_after(c, 429);
        return;
    }
    if (!later_open(c, false, &e->later)) {
        atomic_fetch_sub(&c->srv->errands, 1);
        errand_free(e);
        return;
    }
    if (start_thread(e))
        return;
    atomic_fetch_sub(&c->srv->errands, 1);
    later_error(&e->later, 500, "internal", NULL, "a thread cannot be started");
    errand_free(e);
}

static struct errand *errand_new(struct call *c, void (*work)(struct errand *e, struct err *err))
{
    struct errand *e = NULL;
    if (!c->srv->data_dir || !c->srv->jobs) {
        reply_error(c, 503, "no_jobs", NULL, "the server was started without a data directory");
        c->reply.no_retry = true;
        return NULL;
    }
    e = calloc(1, sizeof *e);
    if (!e) {
        reply_error(c, 500, "internal", NULL, "out of memory");
        return NULL;
    }
    *e = (struct errand){ .srv = c->srv, .work = work, .budget = -1, .sequence = -1 };
    return e;
}

static void answer(struct errand *e, int status, const char *location, json_t *take,
                   struct err *err)
{
    struct buf body = BUF_INIT;
    if (!take)
        err_set(err, ST_NOMEM, "answer");
    else if (json_write(take, &body, err) == ST_OK) {
        later_reply(&e->later, status, location, &body);
        e->answered = true;
    }
    json_free(take);
    buf_clear(&body);
}

/* ---- making one ---- */

/* Another answer than ours: the job's. */
struct handed {
    struct later later;
};

static void job_made(struct jobs_ask *a)
{
    struct handed *h = a->ctx;
    char where[64];
    snprintf(where, sizeof where, "/api/jobs/%s", a->job);
    if (a->err.code == ST_OK) {
        later_reply(&h->later, 202, where, &a->body);
    } else {
        const char *code;
        int status = a->no_store ? 503 : err_http_status(&a->err, &code);
        later_error(&h->later, status, a->no_store ? "store_unusable" : code,
                    a->param[0] ? a->param : NULL, a->err.msg);
    }
    free(h);
    jobs_ask_free(a);
}

static void make_job(struct errand *e, struct err *err)
{
    bool can = false;
    struct jobs_ask *a = calloc(1, sizeof *a);
    struct handed *h = malloc(sizeof *h);
    const struct job_kind *kind = jobs_kind(e->srv->jobs, "duo-trace", &can);
    if (!a || !h || !kind || !can) {
        free(a);
        free(h);
        err_set(err, kind && can ? ST_NOMEM : ST_UNSUPPORTED, "a job for the trace");
        return;
    }
    h->later = e->later;
    *a = (struct jobs_ask){ .verb = JOBS_SUBMIT,
                            .kind = kind,
                            .params = json_incref(e->params),
                            .done = job_made,
                            .ctx = h };
    if (jobs_ask(e->srv->jobs, a)) {
        e->answered = true;
        return;
    }
    free(h);
    jobs_ask_free(a);
    err_set(err, ST_BUSY, "too many questions about jobs wait already, try again later");
}

static bool go_on(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct errand *e = ctx;
    (void)what;
    (void)done;
    (void)total;
    return !stream_is_gone(e->later.stream) && !atomic_load(&e->srv->draining);
}

/* NULL, and *err says why, when there is no trace. */
static json_t *make_now(struct errand *e, const json_t *config, struct err *err)
{
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    json_t *doc = NULL;
    snprintf(e->id, sizeof e->id, "t-%012llx",
             (unsigned long long)rng_at(clock_ns(), (uint64_t)(uintptr_t)e) >> 16);
    if (file_path(dir, err, "%s/duo/%s", e->srv->data_dir, e->id) != ST_OK ||
        file_path(path, err, "%s/trace.bin", dir) != ST_OK ||
        file_make_dirs(dir, 0755, err) != ST_OK)
        return NULL;
    if (engine_duo_trace(config, path, go_on, e, err) == ST_OK &&
        engine_duo_document(path, true, &doc, err) == ST_OK) {
        json_object_set_new(doc, "id", json_string(e->id));
        duo_store_date(path);
        duo_store_trim(e->srv->data_dir, DUO_AT_ONCE, e->srv->duo_keep[DUO_AT_ONCE]);
    } else {
        struct err ignore = ERR_INIT;
        file_remove_tree(dir, &ignore);
    }
    return doc;
}

/* The model that is meant when none is named, or the server's own is. */
static void own_model(const struct errand *e, json_t *config, struct err *err)
{
    const char *own = e->srv->duo_model,
               *name = json_string_value(json_object_get(config, "model"));
    const struct engine_info *in = e->srv->engine ? engine_info(e->srv->engine) : NULL;
    if (name && !(in && strcmp(name, in->model_id) == 0))
        return;
    if (in && in->duo && (name || !own))
        own = in->path;
    if (!own)
        err_set(
            err, ST_UNSUPPORTED,
            "the served model has no Duo modules: name one in the data directory as 'model', or "
            "start with --duo-model FILE");
    else if (json_object_set_new(config, "model", json_text(str_c(own))) != 0)
        err_set(err, ST_NOMEM, "settings");
}

static bool names_own(const struct errand *e)
{
    const char *name = json_string_value(json_object_get(e->params, "model"));
    return !name || (e->srv->engine && strcmp(name, engine_info(e->srv->engine)->model_id) == 0);
}

/* A model that is not there is small: opening it says so. */
static bool small_model(const json_t *config)
{
    const char *path = json_string_value(json_object_get(config, "model"));
    struct stat st;
    return !path || stat(path, &st) != 0 || st.st_size <= SMALL_MODEL_BYTES;
}

/* Here, when nobody else does at this moment and it takes no long; then *err says how it went. */
static bool traced_here(struct errand *e, const json_t *config, struct err *err)
{
    double flops = 0;
    if (!small_model(config) || atomic_exchange(&e->srv->tracing, true))
        return false;
    bool here = engine_duo_cost(config, &flops, err) != ST_OK || flops <= SMALL_FLOPS;
    json_t *doc = here && err->code == ST_OK ? make_now(e, config, err) : NULL;
    /* Before the answer: who has it may ask for the next trace, which is as small. */
    atomic_store(&e->srv->tracing, false);
    if (doc) {
        char where[64];
        snprintf(where, sizeof where, "/api/duo/traces/%.40s", e->id);
        answer(e, 200, where, doc, err);
    }
    return here;
}

static void make_trace(struct errand *e, struct err *err)
{
    bool can = false;
    json_t *config = NULL;
    const struct job_kind *kind = jobs_kind(e->srv->jobs, "duo-trace", &can);
    if (names_own(e)) /* the child finds it in its environment */
        json_object_del(e->params, "model");
    if (!kind || job_config(kind, e->params, e->srv->data_dir, e->srv->allow_paths, &config,
                            e->param, err) != ST_OK) {
        err_set(err, ST_UNSUPPORTED, "traces");
        return;
    }
    own_model(e, config, err);
    if (err->code == ST_OK && !traced_here(e, config, err))
        make_job(e, err);
    static const char *const named[] = { "pattern",
                                         "mode" }; /* only the model tells that they fail */
    for (int i = 0; i < 2 && err->code != ST_OK; i++)
        if (strncmp(err->msg, named[i], strlen(named[i])) == 0 && err->msg[strlen(named[i])] == ':')
            snprintf(e->param, sizeof e->param, "%s", named[i]);
    if (err->code == ST_UNSUPPORTED || err->code == ST_FORMAT)
        err->code = ST_ARG; /* the client's to change */
    json_free(config);
}

static void list_traces(struct errand *e, struct err *err);

void api_duo_traces(struct call *c)
{
    struct err err = ERR_INIT;
    uint64_t limit = LIST_DEFAULT;
    if (c->method == METHOD_POST) {
        struct errand *e = errand_new(c, make_trace);
        if (e && !(e->params = call_json(c)))
            errand_free(e);
        else if (e)
            send_off(c, e);
        return;
    }
    const char *text = call_query(c, "limit"), *after = call_query(c, "after");
    if (text && num_u64(str_c(text), "limit", 1, LIST_MAX, &limit, &err) != ST_OK) {
        reply_error(c, 400, "invalid_value", "limit", "%s", err.msg);
        return;
    }
    struct errand *e = errand_new(c, list_traces);
    if (!e)
        return;
    e->limit = limit;
    snprintf(e->after, sizeof e->after, "%s", after ? after : "");
    send_off(c, e);
}

/* ---- looking ---- */

static enum status find_trace(const struct errand *e, char path[FILE_PATH_MAX], struct err *err)
{
    return duo_store_find(e->srv->data_dir, e->id, path, err);
}

static void remove_trace(struct errand *e, struct err *err);

/* What lies here and cannot be read is not the client's mistake. */
static void damaged(const struct errand *e, struct err *err)
{
    if (err->code != ST_FORMAT)
        return;
    err_ctx(err, "trace '%.60s' is damaged (DELETE it and make it again)", e->id);
    err->code = ST_IO;
}

static void get_trace(struct errand *e, struct err *err)
{
    char path[FILE_PATH_MAX];
    json_t *doc = NULL;
    if (find_trace(e, path, err) != ST_OK || engine_duo_document(path, true, &doc, err) != ST_OK) {
        damaged(e, err);
        return;
    }
    json_object_set_new(doc, "id", json_string(e->id));
    answer(e, 200, NULL, doc, err);
}

static void get_figure(struct errand *e, struct err *err)
{
    char path[FILE_PATH_MAX];
    json_t *doc = NULL;
    if (find_trace(e, path, err) != ST_OK)
        return;
    if (engine_duo_figure(path, str_c(e->figure), e->budget, e->sequence, &doc, err) == ST_OK)
        answer(e, 200, NULL, doc, err);
    else if (err->code == ST_FORMAT)
        damaged(e, err);
    else
        snprintf(e->param, sizeof e->param, "%s",
                 err->code == ST_ARG                    ? "figure"
                 : strstr(err->msg, "sequence") != NULL ? "sequence"
                                                        : "budget");
}

void api_duo_trace(struct call *c)
{
    struct errand *e = errand_new(c, c->method == METHOD_DELETE ? remove_trace : get_trace);
    if (!e)
        return;
    snprintf(e->id, sizeof e->id, "%s", c->arg);
    send_off(c, e);
}

static bool number(struct call *c, const char *name, int *to)
{
    const char *text = call_query(c, name);
    struct err err = ERR_INIT;
    uint64_t v = 0;
    if (!text)
        return true;
    if (num_u64(str_c(text), name, 0, 1 << 20, &v, &err) != ST_OK) {
        reply_error(c, 400, "invalid_value", name, "%s", err.msg);
        return false;
    }
    *to = (int)v;
    return true;
}

void api_duo_figure(struct call *c)
{
    const char *figure = call_query(c, "figure");
    int budget = -1, sequence = -1;
    if (!number(c, "budget", &budget) || !number(c, "sequence", &sequence))
        return;
    struct errand *e = errand_new(c, get_figure);
    if (!e)
        return;
    e->budget = budget;
    e->sequence = sequence;
    snprintf(e->id, sizeof e->id, "%s", c->arg);
    snprintf(e->figure, sizeof e->figure, "%.31s", figure ? figure : "budget_curve");
    send_off(c, e);
}

/* ---- the list ---- */

static json_t *described(const struct duo_stored *t)
{
    return json_pack("{s:s, s:I, s:I, s:b}", "id", t->id, "created",
                     (json_int_t)(t->created_ns / 1000000000), "bytes", (json_int_t)t->bytes, "job",
                     t->home == DUO_OF_JOBS);
}

static json_t *kept(const struct duo_limit *have, const struct duo_limit *most)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "traces", (json_int_t)have->most, "bytes",
                     (json_int_t)have->bytes, "max_traces", (json_int_t)most->most, "max_bytes",
                     (json_int_t)most->bytes);
}

static void list_traces(struct errand *e, struct err *err)
{
    struct duo_stored *all = NULL;
    size_t n = 0, from = 0, end;
    struct duo_limit have[DUO_HOMES] = { { 0, 0 } };
    if (duo_store_list(e->srv->data_dir, &all, &n, err) != ST_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        have[all[i].home].most++;
        have[all[i].home].bytes += all[i].bytes;
        if (e->after[0] && strcmp(all[i].id, e->after) == 0)
            from = i + 1;
    }
    if (e->after[0] && from == 0) {
        err_set(err, ST_NOTFOUND, "there is no such trace");
        snprintf(e->param, sizeof e->param, "after");
        free(all);
        return;
    }
    json_t *data = json_array();
    end = n - from < e->limit ? n : from + (size_t)e->limit;
    for (size_t i = from; data && i < end; i++)
        json_array_append_new(data, described(&all[i]));
    answer(e, 200, NULL,
           json_pack("{s:s, s:o, s:b, s:o, s:o}", "object", "list", "data", data, "has_more",
                     end < n, "kept", kept(&have[DUO_AT_ONCE], &e->srv->duo_keep[DUO_AT_ONCE]),
                     "kept_of_jobs", kept(&have[DUO_OF_JOBS], &e->srv->duo_keep[DUO_OF_JOBS])),
           err);
    free(all);
}

static void remove_trace(struct errand *e, struct err *err)
{
    if (duo_store_remove(e->srv->data_dir, e->id, err) == ST_OK)
        answer(e, 200, NULL, json_pack("{s:s, s:b}", "id", e->id, "deleted", true), err);
}
