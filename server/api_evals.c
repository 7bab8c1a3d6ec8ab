/* server/api_evals.c - evaluation runs over HTTP: made, listed, watched, paused, cancelled, gone on
 * with; their samples and attempts. A handler leaves a question for the reader's thread
 * (eval_reader.h); the work itself is a job (eval_job.h). */
#include "engine/base/num.h"
#include "eval/run_json.h"
#include "eval/session.h"
#include "server/eval_feed.h"
#include "server/eval_job.h"
#include "server/eval_reader.h"
#include "server/jobs.h"

#include <stdlib.h>

enum {
    SETTINGS_BYTES_MAX = 64 << 10,
    LIST_DEFAULT = 20,
    LIST_MAX = 100,
    SAMPLES_DEFAULT = 100,
    SAMPLES_MAX = 1000
};

/* A question; free() is enough. */
struct asked {
    struct server *srv;
    char run[CALL_ARG_MAX], after[CALL_ARG_MAX];
    char tmpl[128], variant[32];
    int64_t ord, from;
    uint64_t limit;
    int state, klass;
    int64_t level;
    enum run_state to;
    bool whole, again;
    size_t n_body;
    char body[]; /* settings */
};

static struct asked *asked_new(struct call *c, size_t n_body)
{
    struct asked *a = calloc(1, sizeof *a + n_body + 1);
    if (!a) {
        reply_error(c, 500, "internal", NULL, "out of memory");
        return NULL;
    }
    a->srv = c->srv;
    a->from = -1;
    a->state = a->klass = -1;
    a->level = SAMPLE_ANY;
    snprintf(a->run, sizeof a->run, "%s", c->arg ? c->arg : "");
    return a;
}

static void answer(struct eval_task *t, int status, const char *location, json_t *doc)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    if (!doc)
        err_set(&err, ST_NOMEM, "answer");
    else
        json_write(doc, &b, &err);
    json_free(doc);
    if (err.code == ST_OK) {
        later_reply(&t->later, status, location, &b);
        return;
    }
    buf_clear(&b);
    eval_task_fail(t, &err, NULL);
}

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

/* ---- list, one ---- */

static void run_list(struct eval_task *t, struct run_store *store)
{
    struct asked *a = t->arg;
    struct err err = ERR_INIT;
    struct run_list l = { 0 };
    if (run_store_list(store, a->after[0] ? a->after : NULL, (uint32_t)a->limit, &l, &err) !=
        ST_OK) {
        eval_task_fail(t, &err, "after");
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < l.n; i++)
        json_array_append_new(list, run_row_json(&l.row[i]));
    answer(t, 200, NULL,
           json_pack("{s:s, s:o, s:b}", "object", "list", "data", list, "has_more", (int)l.more));
    run_list_clear(&l);
}

void api_eval_runs(struct call *c)
{
    uint64_t limit = LIST_DEFAULT;
    const char *after = call_query(c, "after");
    struct asked *a = query_number(c, "limit", 1, LIST_MAX, &limit) ? asked_new(c, 0) : NULL;
    if (!a)
        return;
    a->limit = limit;
    snprintf(a->after, sizeof a->after, "%s", after ? after : "");
    eval_ask(c, run_list, a, false);
}

static void run_get(struct eval_task *t, struct run_store *store)
{
    struct asked *a = t->arg;
    struct err err = ERR_INIT;
    struct run_row r;
    if (run_store_get(store, a->run, &r, &err) != ST_OK) {
        eval_task_fail(t, &err, NULL);
        return;
    }
    answer(t, 200, NULL, run_row_json(&r));
    run_row_clear(&r);
}

void api_eval_run(struct call *c)
{
    struct asked *a = asked_new(c, 0);
    if (a)
        eval_ask(c, run_get, a, false);
}

/* ---- samples ---- */

struct page {
    struct buf b;
    enum extract_profile profile;
    uint64_t n, limit;
    int64_t last;
    bool more, whole;
    struct err err;
};

static bool put_sample(void *ctx, const struct run_sample *s)
{
    struct page *p = ctx;
    if (p->n == p->limit) {
        p->more = true;
        return false;
    }
    json_t *doc = run_sample_json(s, p->profile, p->whole);
    if (!doc)
        err_set(&p->err, ST_NOMEM, "samples");
    else if (p->n)
        buf_char(&p->b, ',');
    if (doc)
        json_write(doc, &p->b, &p->err);
    json_free(doc);
    p->n++;
    p->last = s->ord;
    return p->err.code == ST_OK;
}

static void run_samples(struct eval_task *t, struct run_store *store)
{
    struct asked *a = t->arg;
    struct err err = ERR_INIT;
    struct run_row r;
    struct page p = { .limit = a->limit, .whole = a->whole, .last = -1 };
    struct sample_query q = { .by_ord = true,
                              .after = a->from,
                              .limit = (int64_t)a->limit + 1,
                              .state = a->state,
                              .klass = a->klass,
                              .tmpl = a->tmpl[0] ? a->tmpl : NULL,
                              .variant = a->variant[0] ? a->variant : NULL,
                              .level = a->level,
                              .no_text = !a->whole };
    if (run_store_get(store, a->run, &r, &err) == ST_OK) {
        p.profile = run_row_profile(&r);
        buf_z(&p.b, "{\"object\":\"list\",\"data\":[");
        if (run_store_each(store, r.id, &q, put_sample, &p, &err) == ST_OK && p.err.code != ST_OK)
            err = p.err;
        buf_printf(&p.b, "],\"has_more\":%s,\"last_id\":", p.more ? "true" : "false");
        if (p.n)
            buf_printf(&p.b, "%lld}", (long long)p.last);
        else
            buf_z(&p.b, "null}");
        run_row_clear(&r);
    }
    if (err.code == ST_OK) {
        later_reply(&t->later, 200, NULL, &p.b);
        return;
    }
    buf_clear(&p.b);
    eval_task_fail(t, &err, NULL);
}

/* A word of a list; false: replied with 400. */
static bool query_word(struct call *c, const char *name, int n, const char *(*word)(int), int *ret)
{
    const char *text = call_query(c, name);
    if (!text || text[0] == '\0')
        return true;
    for (int i = 0; i < n; i++)
        if (strcmp(text, word(i)) == 0) {
            *ret = i;
            return true;
        }
    reply_error(c, 400, "invalid_value", name, "there is no %s '%.40s'", name, text);
    return false;
}

static const char *state_word(int i)
{
    return sample_state_name((enum sample_state)i);
}
static const char *class_word(int i)
{
    return sample_class_name((enum sample_class)i);
}

/* after: the ord of the last one that the client has. */
void api_eval_samples(struct call *c)
{
    uint64_t limit = SAMPLES_DEFAULT, after = 0;
    int state = -1, klass = -1;
    struct err err = ERR_INIT;
    const char *tmpl = call_query(c, "template"), *variant = call_query(c, "variant"),
               *whole = call_query(c, "full"), *level = call_query(c, "level");
    int64_t lv = SAMPLE_ANY;
    if (!query_number(c, "limit", 1, SAMPLES_MAX, &limit) ||
        !query_number(c, "after", 0, INT64_MAX / 2, &after) ||
        !query_word(c, "state", SAMPLE_STATES, state_word, &state) ||
        !query_word(c, "class", SAMPLE_CLASSES, class_word, &klass))
        return;
    if (level && num_i64(str_c(level), "level", -9, 9, &lv, &err) != ST_OK) {
        reply_error(c, 400, "invalid_value", "level", "%s", err.msg);
        return;
    }
    struct asked *a = asked_new(c, 0);
    if (!a)
        return;
    a->limit = limit;
    a->from = call_query(c, "after") ? (int64_t)after : -1;
    a->state = state;
    a->klass = klass;
    a->level = lv;
    a->whole = whole && strcmp(whole, "true") == 0;
    snprintf(a->tmpl, sizeof a->tmpl, "%s", tmpl ? tmpl : "");
    snprintf(a->variant, sizeof a->variant, "%s", variant ? variant : "");
    eval_ask(c, run_samples, a, false);
}

/* ---- one sample ---- */

struct single {
    json_t *doc;
    enum extract_profile profile;
};

static bool keep_sample(void *ctx, const struct run_sample *s)
{
    struct single *x = ctx;
    x->doc = run_sample_json(s, x->profile, true);
    return false;
}

static bool keep_attempt(void *ctx, const struct run_attempt *a)
{
    return json_array_append_new(ctx, run_attempt_json(a)) == 0;
}

static void run_sample_of(struct eval_task *t, struct run_store *store)
{
    struct asked *a = t->arg;
    struct err err = ERR_INIT;
    struct run_row r;
    struct single x = { 0 };
    if (run_store_get(store, a->run, &r, &err) == ST_OK) {
        json_t *log = json_array();
        x.profile = run_row_profile(&r);
        if (run_store_sample(store, r.id, a->ord, keep_sample, &x, &err) == ST_OK)
            run_store_attempts(store, r.id, a->ord, keep_attempt, log, &err);
        if (x.doc)
            json_object_set(x.doc, "log", log);
        json_free(log);
        run_row_clear(&r);
    }
    if (err.code == ST_OK) {
        answer(t, 200, NULL, x.doc);
        return;
    }
    json_free(x.doc);
    eval_task_fail(t, &err, NULL);
}

/* /api/evals/runs/{id}/samples/N: N is behind the route's end. */
void api_eval_sample(struct call *c)
{
    const char *slash = strrchr(c->path, '/');
    struct err err = ERR_INIT;
    int64_t ord = 0;
    struct asked *a = NULL;
    if (!slash || !str_ends((struct str){ c->path, (size_t)(slash - c->path) }, STR("/samples")) ||
        num_i64(str_c(slash + 1), "sample", 0, INT64_MAX / 2, &ord, &err) != ST_OK) {
        reply_error(c, 404, "not_found", NULL, "there is no such sample");
        return;
    }
    if (!(a = asked_new(c, 0)))
        return;
    a->ord = ord;
    /* The route's '*' took "ID/samples/N". */
    a->run[strcspn(a->run, "/")] = '\0';
    eval_ask(c, run_sample_of, a, false);
}

/* ---- making ---- */

/* A client names the address, so it must not choose among all secrets of the environment. */
static bool may_name_key(const char *name)
{
    return !name || str_ends(str_c(name), STR("_API_KEY")) ||
           str_starts(str_c(name), STR("STROBE_EVAL_"));
}

/* Settings that only a command line may give: they name files and secrets of this machine. */
static enum status check_body(const json_t *doc, struct err *err)
{
    if (!may_name_key(json_string_value(json_object_get(doc, "key_env"))))
        return err_set(
            err, ST_ARG,
            "'key_env' must end with _API_KEY or begin with STROBE_EVAL_: other variables "
            "of the server are not sent anywhere");
    if (json_object_get(doc, "prompt"))
        return err_set(err, ST_ARG, "'prompt' names a file and is the command line's");
    if (!json_object_get(doc, "endpoint") && json_object_get(doc, "model")) {
        const char *name = json_string_value(json_object_get(doc, "model"));
        const struct engine *e = eval_job_engine();
        if (!e || !name || strcmp(name, engine_info(e)->model_id) != 0)
            return err_set(err, ST_ARG,
                           "the server's model is '%.60s'; for another give 'endpoint'",
                           e ? engine_info(e)->model_id : "none");
    }
    if (!json_object_get(doc, "endpoint") && !eval_job_engine())
        return err_set(err, ST_ARG, "the server has no model loaded: give 'endpoint' and 'model'");
    return ST_OK;
}

/* The reader waits for its own job's acknowledgement no longer than that. */
static void submitted(struct jobs_ask *q)
{
    jobs_ask_free(q);
}

static bool start_job(struct server *srv, const char *run, struct err *err)
{
    bool can;
    struct jobs_ask *q = calloc(1, sizeof *q);
    json_t *params = json_pack("{s:s}", "run", run);
    if (!q || !params) {
        free(q);
        json_free(params);
        err_set(err, ST_NOMEM, "job");
        return false;
    }
    *q = (struct jobs_ask){ .verb = JOBS_SUBMIT,
                            .kind = jobs_kind(srv->jobs, "eval", &can),
                            .params = params,
                            .done = submitted };
    if (q->kind && jobs_ask(srv->jobs, q))
        return true;
    jobs_ask_free(q);
    err_set(err, ST_BUSY, "too many questions about jobs wait already, try again later");
    return false;
}

static enum status make(const struct asked *a, struct run_store *store, json_t *doc,
                        struct session_out *out, char param[SETTINGS_PARAM_MAX], struct err *err)
{
    struct eval_settings s;
    struct set *set = NULL;
    if (check_body(doc, err) != ST_OK || eval_settings_read(doc, &s, param, err) != ST_OK)
        return err->code;
    struct set_opts so = { .only = s.only,
                           .n_only = s.n_only,
                           .variant = s.variant,
                           .n_variant = s.n_variant,
                           .count = (uint32_t)s.count,
                           .seed = (uint64_t)s.seed };
    if (set_open(&so, &set, err) != ST_OK)
        return err->code;
    struct session_in in = { .store = store,
                             .doc = doc,
                             .engine = s.endpoint ? NULL : eval_job_engine(),
                             .set = set,
                             .fresh = a->again,
                             .only_make = true };
    session_run(&in, out, err);
    buf_clear(&out->diff);
    set_free(set);
    return err->code;
}

/* The same settings again are the same run: then it goes on, if it is not done. */
static void run_make(struct eval_task *t, struct run_store *store)
{
    struct asked *a = t->arg;
    struct err err = ERR_INIT;
    struct session_out out = { .made = false };
    char param[SETTINGS_PARAM_MAX] = "", where[64];
    json_t *doc = NULL;
    struct run_row row;
    bool moved;
    if (json_parse_unique((struct str){ a->body, a->n_body }, "request body", &doc, &err) ==
        ST_OK) {
        json_object_del(doc, "again");
        make(a, store, doc, &out, param, &err);
    }
    json_free(doc);
    if (err.code == ST_OK)
        run_store_move(store, out.run, 1u << RUN_PAUSED | 1u << RUN_CANCELLED, RUN_READY, "",
                       &moved, &err);
    if (err.code == ST_OK && run_store_get(store, out.run, &row, &err) == ST_OK) {
        if (row.state == RUN_DONE || start_job(a->srv, out.run, &err)) {
            snprintf(where, sizeof where, "/api/evals/runs/%s", out.run);
            answer(t, out.made ? 201 : 200, where, run_row_json(&row));
        }
        run_row_clear(&row);
    }
    if (err.code != ST_OK)
        eval_task_fail(t, &err, param[0] ? param : NULL);
}

void api_eval_make(struct call *c)
{
    if (atomic_load(&c->srv->draining)) {
        reply_error(c, 503, "shutting_down", NULL, "the server is shutting down");
        return;
    }
    if (c->body.n > SETTINGS_BYTES_MAX) {
        reply_error(c, 413, "body_too_large", NULL, "settings have at most %d bytes",
                    SETTINGS_BYTES_MAX);
        return;
    }
    json_t *doc = call_json(c);
    struct asked *a = doc ? asked_new(c, c->body.n) : NULL;
    if (a) {
        a->again = json_is_true(json_object_get(doc, "again"));
        a->n_body = c->body.n;
        memcpy(a->body, c->body.p, c->body.n);
        eval_ask(c, run_make, a, false);
    }
    json_free(doc);
}

/* ---- pause, cancel, resume ---- */

static void run_move(struct eval_task *t, struct run_store *store)
{
    struct asked *a = t->arg;
    struct err err = ERR_INIT;
    struct run_row r = { 0 };
    bool moved = false;
    unsigned from = a->to == RUN_READY ? 1u << RUN_PAUSED | 1u << RUN_CANCELLED | 1u << RUN_READY |
                                             1u << RUN_RUNNING
                                       : 1u << RUN_READY | 1u << RUN_RUNNING | 1u << RUN_PAUSED;
    const char *note = a->to == RUN_PAUSED      ? "paused by hand"
                       : a->to == RUN_CANCELLED ? "cancelled by hand"
                                                : "";
    if (run_store_get(store, a->run, &r, &err) == ST_OK &&
        run_store_move(store, r.id, from, a->to, note, &moved, &err) == ST_OK && !moved) {
        later_error(&t->later, 409, "run_ended", NULL,
                    r.state == RUN_DONE ? "the run is done"
                                        : "the run's state does not allow that");
        run_row_clear(&r);
        return;
    }
    if (err.code == ST_OK && a->to == RUN_READY)
        start_job(a->srv, r.id, &err);
    char id[RUN_ID_MAX];
    snprintf(id, sizeof id, "%s", r.id);
    run_row_clear(&r);
    if (err.code == ST_OK && run_store_get(store, id, &r, &err) == ST_OK) {
        answer(t, 200, NULL, run_row_json(&r));
        run_row_clear(&r);
        return;
    }
    eval_task_fail(t, &err, NULL);
}

static void move_to(struct call *c, enum run_state to)
{
    struct asked *a = asked_new(c, 0);
    if (!a)
        return;
    a->to = to;
    eval_ask(c, run_move, a, false);
}

void api_eval_pause(struct call *c)
{
    move_to(c, RUN_PAUSED);
}

void api_eval_cancel(struct call *c)
{
    move_to(c, RUN_CANCELLED);
}

void api_eval_resume(struct call *c)
{
    move_to(c, RUN_READY);
}

void api_eval_events(struct call *c)
{
    if (!c->srv->eval_feed) {
        reply_error(c, 503, "no_evals", NULL, "the server was started without a data directory");
        c->reply.no_retry = true;
        return;
    }
    eval_feed_watch(c->srv->eval_feed, c);
}
