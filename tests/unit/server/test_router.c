#include "server/http.h"

#include <criterion/criterion.h>

static struct metrics metrics;
static struct server server = { .metrics = &metrics };

Test(router, paths_find_their_handler)
{
    static const struct {
        enum method method;
        const char *path;
        void (*handler)(struct call *c);
        const char *arg; /* what '*' matched; NULL: no '*' */
    } cases[] = {
        { METHOD_GET, "/health", api_health, NULL },
        { METHOD_HEAD, "/health/", api_health, NULL },
        { METHOD_GET, "/v1/health", api_health, NULL },
        { METHOD_GET, "/health/live", api_health_live, NULL },
        { METHOD_POST, "/v1/chat/completions", api_chat, NULL },
        { METHOD_POST, "/chat/completions/", api_chat, NULL },
        { METHOD_POST, "/completions", api_completions, NULL },
        { METHOD_GET, "/models", api_models, NULL },
        { METHOD_GET, "/v1/models/a/b:c", api_model, "a/b:c" },
        { METHOD_DELETE, "/api/requests/cmpl-1", api_cancel, "cmpl-1" },
        { METHOD_POST, "/api/train/soup/", api_train, NULL },
        { METHOD_GET, "/api/jobs", api_jobs, NULL },
        { METHOD_GET, "/api/jobs/job-1", api_job, "job-1" },
        { METHOD_GET, "/api/jobs/job-1/", api_job, "job-1" },
        { METHOD_POST, "/api/jobs/job-1/cancel", api_job_cancel, "job-1" },
        { METHOD_POST, "/api/jobs/job-1/resume", api_job_resume, "job-1" },
        { METHOD_GET, "/api/jobs/job-1/events/", api_job_events, "job-1" },
        { METHOD_GET, "/", api_asset, "" },
        { METHOD_GET, "/no/such/asset", api_asset, "no/such/asset" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c = { .srv = &server, .method = cases[i].method, .path = cases[i].path };
        const struct route *r = route_find(&c);
        cr_assert_not_null(r, "%s", cases[i].path);
        cr_expect_eq(r->handler, cases[i].handler, "%s", cases[i].path);
        if (cases[i].arg)
            cr_expect_str_eq(c.arg, cases[i].arg, "%s", cases[i].path);
        buf_clear(&c.reply.body);
    }
}

Test(router, others_get_404_or_405_with_what_is_allowed)
{
    static const struct {
        enum method method;
        const char *path, *allow; /* NULL: 404 */
    } cases[] = {
        { METHOD_POST, "/nothing", NULL },           { METHOD_POST, "/v1/chat/completionsx", NULL },
        { METHOD_POST, "/v1//completions", NULL },   { METHOD_DELETE, "/api/requests", NULL },
        { METHOD_POST, "/api/nothing/runs", NULL },  { METHOD_POST, "/api/jobs/a/b", NULL },
        { METHOD_POST, "/api/jobs//cancel", NULL },  { METHOD_GET, "/api/jobs/x/cancel", "POST" },
        { METHOD_POST, "/api/jobs/x", "GET" },       { METHOD_POST, "/health", "GET" },
        { METHOD_GET, "/v1/completions", "POST" },   { METHOD_GET, "/tokenize/", "POST" },
        { METHOD_GET, "/api/requests/x", "DELETE" }, { METHOD_OTHER, "/v1/models", "GET" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c = { .srv = &server, .method = cases[i].method, .path = cases[i].path };
        cr_expect_null(route_find(&c), "%s", cases[i].path);
        cr_expect_eq(c.reply.status, cases[i].allow ? 405 : 404, "%s: %d", cases[i].path,
                     c.reply.status);
        cr_expect_str_eq(c.reply.allow ? c.reply.allow : "", cases[i].allow ? cases[i].allow : "",
                         "%s", cases[i].path);
        buf_clear(&c.reply.body);
    }
}

Test(router, only_harmless_routes_need_no_key)
{
    static const char *const open[] = { "/health",       "/health/live", "/v1/health",
                                        "/openapi.json", "/version",     "/" };
    static const char *const keyed[] = { "/metrics",
                                         "/v1/models",
                                         "/v1/models/x",
                                         "/props",
                                         "/slots",
                                         "/api/flash/stats",
                                         "/api/flash/layers",
                                         "/api/flash/traces/req-1",
                                         "/api/events",
                                         "/api/jobs",
                                         "/api/jobs/x",
                                         "/api/jobs/x/events",
                                         "/api/jobs/x/metrics",
                                         "/api/jobs/x/log" };
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        struct call c = { .srv = &server, .method = METHOD_GET, .path = open[i] };
        cr_expect(route_find(&c)->flags & ROUTE_OPEN, "%s", open[i]);
    }
    for (size_t i = 0; i < sizeof keyed / sizeof keyed[0]; i++) {
        struct call c = { .srv = &server, .method = METHOD_GET, .path = keyed[i] };
        cr_expect_not(route_find(&c)->flags & ROUTE_OPEN, "%s", keyed[i]);
    }
}
