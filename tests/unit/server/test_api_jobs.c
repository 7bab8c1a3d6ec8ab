/* tests/unit/server/test_api_jobs.c - jobs as HTTP handlers see them: statuses, envelopes, bounds.
 */
#include "server/http.h"
#include "tests/unit/server/jobs_rig.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>

static struct jobs_rig rig;
static struct metrics metrics;
static struct server server;

static bool only_train(const char *verb)
{
    return strcmp(verb, "train") == 0;
}

static void setup(void)
{
    jobs_rig_make(&rig);
    rig.opts.has_verb = only_train;
    rig_file(&rig, "text.txt", "step_ms=2");
    jobs_rig_open(&rig);
    metrics_init(&metrics);
    server = (struct server){ .metrics = &metrics, .jobs = rig.jobs };
    pthread_mutex_init(&server.list_lock, NULL);
}

static void teardown(void)
{
    jobs_rig_clear(&rig);
    pthread_mutex_destroy(&server.list_lock);
}

TestSuite(api_jobs, .init = setup, .fini = teardown, .timeout = 600);

/* A call through the router, its answer waited for: status, body and Location of the call. */
static void exchange(struct call *c, enum method m, const char *path, const char *body)
{
    *c = (struct call){ .srv = &server, .method = m, .path = path, .body = str_c(body) };
    const struct route *r = route_find(c);
    if (!r)
        return;
    r->handler(c);
    if (!c->stream)
        return;
    char part[4096];
    uint64_t waited;
    long n;
    struct buf all = BUF_INIT;
    for (int i = 0; i < 30000 && (n = stream_take(c->stream, part, sizeof part, &waited)) >= 0; i++)
        if (n > 0)
            buf_put(&all, part, (size_t)n);
        else
            poll(NULL, 0, 2);
    int status = atomic_load(&c->stream_status);
    if (c->stream->sse)
        server_forget(&server, c->stream);
    stream_abort(c->stream);
    stream_drop(c->stream);
    c->stream = NULL;
    char where[64];
    snprintf(where, sizeof where, "%s", c->reply.location);
    reply_buf(c, status ? status : 200, &all);
    snprintf(c->reply.location, sizeof c->reply.location, "%s", where);
}

static json_t *body_of(const struct call *c)
{
    struct err err = ERR_INIT;
    json_t *v = NULL;
    cr_assert_eq(json_parse(buf_view(&c->reply.body), "reply", &v, &err), ST_OK, "%s: %s", err.msg,
                 c->reply.body.p);
    return v;
}

static void expect_error(struct call *c, int status, const char *code, const char *param)
{
    json_t *v = body_of(c);
    const json_t *e = json_object_get(v, "error"), *p = json_object_get(e, "param");
    cr_expect_eq(c->reply.status, status, "%s: %d %s", c->path, c->reply.status, c->reply.body.p);
    cr_expect(e && json_object_size(e) == 4);
    cr_expect_str_eq(json_string_value(json_object_get(e, "code")), code, "%s", c->reply.body.p);
    cr_expect_str_eq(param ? json_string_value(p) ? json_string_value(p) : "null" : "",
                     param ? param : "", "%s", c->reply.body.p);
    json_free(v);
    buf_clear(&c->reply.body);
}

static void submit(char id[JOB_ID_MAX])
{
    struct call c;
    exchange(&c, METHOD_POST, "/api/train/pretrain", "{\"data\":\"text.txt\",\"steps\":5}");
    cr_assert_eq(c.reply.status, 202, "%s", c.reply.body.p);
    json_t *v = body_of(&c);
    snprintf(id, JOB_ID_MAX, "%s", json_string_value(json_object_get(v, "id")));
    char where[64];
    snprintf(where, sizeof where, "/api/jobs/%s", id);
    cr_expect_str_eq(c.reply.location, where);
    json_free(v);
    buf_clear(&c.reply.body);
}

Test(api_jobs, a_job_is_made_and_found_under_its_location)
{
    char id[JOB_ID_MAX], path[64];
    struct call c;
    submit(id);
    snprintf(path, sizeof path, "/api/jobs/%s", id);
    exchange(&c, METHOD_GET, path, "");
    cr_expect_eq(c.reply.status, 200);
    json_t *v = body_of(&c);
    static const char *const members[] = { "id",         "object",  "kind",     "state",
                                           "cancelling", "created", "started",  "finished",
                                           "restarts",   "params",  "progress", "result",
                                           "error" };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        cr_expect_not_null(json_object_get(v, members[i]), "%s", members[i]);
    cr_expect_eq(json_object_size(v), sizeof members / sizeof members[0]);
    json_free(v);
    buf_clear(&c.reply.body);
    rig_wait(&rig, id, "done");
    snprintf(path, sizeof path, "/api/jobs/%s/events", id);
    exchange(&c, METHOD_GET, path, "");
    cr_expect_eq(c.reply.status, 200);
    cr_expect(strstr(c.reply.body.p, "event: metrics") && strstr(c.reply.body.p, "\"done\""), "%s",
              c.reply.body.p);
    buf_clear(&c.reply.body);
    snprintf(path, sizeof path, "/api/jobs/%s/metrics", id);
    exchange(&c, METHOD_GET, path, "");
    cr_expect_eq(c.reply.status, 200);
    v = body_of(&c);
    cr_expect_eq(json_integer_value(json_object_get(v, "points")), 5);
    json_free(v);
    buf_clear(&c.reply.body);
    snprintf(path, sizeof path, "/api/jobs/%s/log", id);
    exchange(&c, METHOD_GET, path, "");
    cr_expect_eq(c.reply.status, 200);
    buf_clear(&c.reply.body);
    snprintf(path, sizeof path, "/api/jobs/%s/cancel", id);
    exchange(&c, METHOD_POST, path, "");
    expect_error(&c, 409, "job_ended", NULL);
    snprintf(path, sizeof path, "/api/jobs/%s/resume", id);
    exchange(&c, METHOD_POST, path, "");
    expect_error(&c, 409, "not_resumable", NULL);
}

Test(api_jobs, what_is_wrong_is_said_with_its_status_and_name)
{
    static const struct {
        enum method method;
        const char *path, *body;
        int status;
        const char *code, *param;
    } cases[] = {
        { METHOD_POST, "/api/train/pretrain", "{\"data\":\"/etc/passwd\"}", 400, "invalid_value",
          "data" },
        { METHOD_POST, "/api/train/pretrain", "{\"data\":\"absent\"}", 400, "invalid_value",
          "data" },
        { METHOD_POST, "/api/train/pretrain", "{\"out\":\"x\"}", 400, "invalid_value", "out" },
        { METHOD_POST, "/api/train/pretrain", "[1]", 400, "invalid_json", NULL },
        { METHOD_POST, "/api/train/pretrain", "{", 400, "invalid_json", NULL },
        { METHOD_POST, "/api/train/ppo", "{}", 501, "not_supported", NULL },
        { METHOD_POST, "/api/train/sft/", "{}", 501, "not_supported", NULL },
        { METHOD_POST, "/api/train/dream", "{}", 404, "route_not_found", NULL },
        { METHOD_GET, "/api/jobs/job-nobody", "", 404, "not_found", NULL },
        { METHOD_GET, "/api/jobs/job-nobody/events", "", 404, "not_found", NULL },
        { METHOD_GET, "/api/jobs/job-nobody/metrics", "", 404, "not_found", NULL },
        { METHOD_GET, "/api/jobs/job-nobody/log", "", 404, "not_found", NULL },
        { METHOD_POST, "/api/jobs/job-nobody/cancel", "", 404, "not_found", NULL },
        { METHOD_POST, "/api/jobs/job-nobody/resume", "", 404, "not_found", NULL },
        { METHOD_GET, "/api/jobs/../../etc/passwd", "", 404, "route_not_found", NULL },
        { METHOD_GET, "/api/jobs/0123456789012345678901234567890123456789", "", 404, "not_found",
          NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c;
        exchange(&c, cases[i].method, cases[i].path, cases[i].body);
        expect_error(&c, cases[i].status, cases[i].code, cases[i].param);
    }
}

Test(api_jobs, routes_answer_to_their_methods_only)
{
    static const struct {
        enum method method;
        const char *path, *allow;
    } cases[] = {
        { METHOD_GET, "/api/train/pretrain", "POST" }, { METHOD_POST, "/api/jobs", "GET" },
        { METHOD_GET, "/api/jobs/x/cancel", "POST" },  { METHOD_POST, "/api/jobs/x/events", "GET" },
        { METHOD_DELETE, "/api/jobs/x", "GET" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c;
        exchange(&c, cases[i].method, cases[i].path, "");
        cr_expect_str_eq(c.reply.allow ? c.reply.allow : "", cases[i].allow, "%s", cases[i].path);
        expect_error(&c, 405, "method_not_allowed", NULL);
    }
}

Test(api_jobs, the_list_has_the_newest_first)
{
    char a[JOB_ID_MAX], b[JOB_ID_MAX];
    struct call c;
    submit(a);
    submit(b);
    exchange(&c, METHOD_GET, "/api/jobs", "");
    cr_expect_eq(c.reply.status, 200);
    json_t *v = body_of(&c);
    const json_t *data = json_object_get(v, "data");
    cr_expect_eq(json_array_size(data), 2u);
    cr_expect_str_eq(json_string_value(json_object_get(json_array_get(data, 0), "id")), b);
    cr_expect(json_is_false(json_object_get(v, "has_more")));
    json_free(v);
    buf_clear(&c.reply.body);
}

Test(api_jobs, the_metrics_count_jobs_by_state)
{
    char id[JOB_ID_MAX];
    struct buf b = BUF_INIT;
    submit(id);
    rig_wait(&rig, id, "done");
    for (int i = 0; i < RIG_PATIENCE; i++) { /* counted once it is stored */
        buf_reset(&b);
        job_families(rig.jobs, &b);
        if (strstr(b.p, "strobe_jobs{state=\"done\"} 1\n"))
            break;
        poll(NULL, 0, 10);
    }
    cr_expect(strstr(b.p, "strobe_jobs{state=\"done\"} 1\n"), "%s", b.p);
    cr_expect(strstr(b.p, "strobe_jobs{state=\"failed\"} 0\n"), "%s", b.p);
    cr_expect(strstr(b.p, "strobe_job_store_up 1\n"), "%s", b.p);
    buf_clear(&b);
}

Test(api_jobs, without_a_data_directory_there_are_none)
{
    struct call c;
    server.jobs = NULL;
    exchange(&c, METHOD_GET, "/api/jobs", "");
    expect_error(&c, 503, "no_jobs", NULL);
    exchange(&c, METHOD_POST, "/api/train/pretrain", "{}");
    expect_error(&c, 503, "no_jobs", NULL);
}
