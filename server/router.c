/* server/router.c - the table of routes. */
#include "server/http.h"

#include <string.h>

static const struct route routes[] = {
    { METHOD_GET, "/health", api_health, ROUTE_OPEN },
    { METHOD_GET, "/health/live", api_health_live, ROUTE_OPEN },
    { METHOD_GET, "/v1/health", api_health, ROUTE_OPEN },
    { METHOD_GET, "/metrics", api_metrics, 0 },
    { METHOD_GET, "/openapi.json", api_openapi, ROUTE_OPEN },
    { METHOD_GET, "/version", api_version, ROUTE_OPEN },
    { METHOD_GET, "/v1/models", api_models, 0 },
    { METHOD_GET, "/v1/models/*", api_model, 0 },
    { METHOD_POST, "/v1/chat/completions", api_chat, ROUTE_GENERATES },
    { METHOD_POST, "/v1/completions", api_completions, ROUTE_GENERATES },
    { METHOD_POST, "/v1/embeddings", api_embeddings, 0 },
    { METHOD_POST, "/tokenize", api_tokenize, 0 },
    { METHOD_POST, "/detokenize", api_detokenize, 0 },
    { METHOD_POST, "/apply-template", api_apply_template, 0 },
    { METHOD_GET, "/props", api_props, 0 },
    { METHOD_GET, "/slots", api_slots, 0 },
    { METHOD_DELETE, "/api/requests/*", api_cancel, 0 },
    { METHOD_POST, "/api/models/estimate", api_estimate, 0 },
    { METHOD_GET, "/api/flash/stats", api_flash_stats, 0 },
    { METHOD_GET, "/api/flash/layers", api_flash_layers, 0 },
    { METHOD_GET, "/api/flash/traces/*", api_flash_trace, 0 },
    { METHOD_GET, "/api/events", api_events, 0 },
    { METHOD_POST, "/api/train/pretrain", api_train, 0 },
    { METHOD_POST, "/api/train/relufy", api_train, 0 },
    { METHOD_POST, "/api/train/sft", api_train, 0 },
    { METHOD_POST, "/api/train/reward", api_train, 0 },
    { METHOD_POST, "/api/train/ppo", api_train, 0 },
    { METHOD_POST, "/api/train/soup", api_train, 0 },
    { METHOD_POST, "/api/duo/traces", api_duo_traces, 0 },
    { METHOD_GET, "/api/duo/traces", api_duo_traces, 0 },
    { METHOD_GET, "/api/duo/traces/{id}", api_duo_trace, 0 },
    { METHOD_DELETE, "/api/duo/traces/{id}", api_duo_trace, 0 },
    { METHOD_GET, "/api/duo/traces/{id}/aggregate", api_duo_figure, 0 },
    { METHOD_GET, "/api/jobs", api_jobs, 0 },
    { METHOD_GET, "/api/jobs/{id}", api_job, 0 },
    { METHOD_POST, "/api/jobs/{id}/cancel", api_job_cancel, 0 },
    { METHOD_POST, "/api/jobs/{id}/resume", api_job_resume, 0 },
    { METHOD_GET, "/api/jobs/{id}/events", api_job_events, 0 },
    { METHOD_GET, "/api/jobs/{id}/metrics", api_job_metrics, 0 },
    { METHOD_GET, "/api/jobs/{id}/log", api_job_log, 0 },
    { METHOD_GET, "/api/evals/runs", api_eval_runs, 0 },
    { METHOD_POST, "/api/evals/runs", api_eval_make, 0 },
    { METHOD_GET, "/api/evals/runs/{id}", api_eval_run, 0 },
    { METHOD_GET, "/api/evals/runs/{id}/samples", api_eval_samples, 0 },
    { METHOD_GET, "/api/evals/runs/{id}/events", api_eval_events, 0 },
    { METHOD_POST, "/api/evals/runs/{id}/pause", api_eval_pause, 0 },
    { METHOD_POST, "/api/evals/runs/{id}/cancel", api_eval_cancel, 0 },
    { METHOD_POST, "/api/evals/runs/{id}/resume", api_eval_resume, 0 },
    { METHOD_GET, "/api/evals/runs/{id}/report", api_eval_report, 0 },
    { METHOD_GET, "/api/evals/runs/{id}/export", api_eval_export, 0 },
    { METHOD_POST, "/api/evals/compare", api_eval_compare, 0 },
    { METHOD_GET, "/api/evals/templates", api_eval_templates, 0 },
    { METHOD_POST, "/api/evals/templates", api_eval_check, 0 },
    { METHOD_GET, "/api/evals/templates/{id}", api_eval_template, 0 },
    { METHOD_GET, "/api/evals/runs/*", api_eval_sample, 0 },
    { METHOD_POST, "/api/recsys/events", api_recsys_events, 0 },
    { METHOD_POST, "/api/recsys/follows", api_recsys_follows, 0 },
    { METHOD_POST, "/api/recsys/fit", api_train, 0 },
    { METHOD_POST, "/api/recsys/demo", api_train, 0 },
    { METHOD_GET, "/api/recsys/users", api_recsys_users, 0 },
    { METHOD_GET, "/api/recsys/users/{name}/recommend", api_recsys_recommend, 0 },
    { METHOD_GET, "/api/recsys/users/{name}/return-time", api_recsys_return, 0 },
    { METHOD_GET, "/api/recsys/users/{name}/intensity", api_recsys_intensity, 0 },
    { METHOD_GET, "/api/recsys/users/{name}/influence", api_recsys_influence, 0 },
    { METHOD_GET, "/api/recsys/items/{name}/similar", api_recsys_similar, 0 },
    { METHOD_GET, "/api/recsys/models", api_recsys_models, 0 },
    { METHOD_GET, "/api/recsys/models/{id}", api_recsys_model, 0 },
    { METHOD_POST, "/api/recsys/models/{id}/activate", api_recsys_activate, 0 },
    { METHOD_GET, "/api/recsys/evaluations", api_recsys_evaluations, 0 },
    { METHOD_GET, "/api/recsys/metrics", api_recsys_metrics, 0 },
    { METHOD_GET, "/api/recsys/stats", api_recsys_stats, 0 },
    { METHOD_GET, "/api/recsys/health", api_recsys_health, 0 },
    { METHOD_GET, "/*", api_asset, ROUTE_OPEN },
};
enum { N_ROUTE = sizeof routes / sizeof routes[0] };

/* Length of path without a trailing slash. */
static size_t trimmed(const char *path)
{
    size_t n = strlen(path);
    return n > 1 && path[n - 1] == '/' ? n - 1 : n;
}

/* The route's {id} stands for one segment, which c->segment takes. n: length of the path. */
static bool matches_segment(const struct route *r, struct call *c, size_t n)
{
    static const struct str id = { "{id}", 4 };
    const struct str route = str_c(r->path), path = { c->path, n };
    size_t at = str_find(route, id, 0);
    if (at == SIZE_MAX || n <= at || memcmp(path.p, route.p, at) != 0)
        return false;
    const char *slash = memchr(path.p + at, '/', n - at);
    size_t end = slash ? (size_t)(slash - path.p) : n;
    struct str rest = { path.p + end, n - end };
    if (end == at || end - at >= sizeof c->segment ||
        !str_eq(rest, (struct str){ route.p + at + id.n, route.n - at - id.n }))
        return false;
    memcpy(c->segment, path.p + at, end - at);
    c->segment[end - at] = '\0';
    c->arg = c->segment;
    return true;
}

/* {name} in the middle stands for whatever is there: names of users and items may hold slashes. */
static bool matches_name(const struct route *r, struct call *c, size_t n)
{
    static const struct str name = { "{name}", 6 };
    const struct str route = str_c(r->path), path = { c->path, n };
    size_t at = str_find(route, name, 0);
    if (at == SIZE_MAX)
        return false;
    struct str rest = { route.p + at + name.n, route.n - at - name.n };
    if (n <= at + rest.n || memcmp(path.p, route.p, at) != 0 || !str_ends(path, rest) ||
        n - at - rest.n >= sizeof c->segment)
        return false;
    memcpy(c->segment, path.p + at, n - at - rest.n);
    c->segment[n - at - rest.n] = '\0';
    c->arg = c->segment;
    return true;
}

static bool matches(const struct route *r, struct call *c)
{
    const char *path = c->path;
    size_t n = trimmed(path), k = strlen(r->path);
    if (r->path[k - 1] == '*') {
        bool hit = strncmp(path, r->path, k - 1) == 0 && n >= k - 1;
        if (hit)
            c->arg = path + k - 1;
        return hit;
    }
    if (matches_segment(r, c, n) || matches_name(r, c, n))
        return true;
    if (n == k && memcmp(path, r->path, n) == 0)
        return true;
    /* OpenAI's routes also without /v1: base URLs are often configured so. */
    return strncmp(r->path, "/v1/", 4) == 0 && n == k - 3 && memcmp(path, r->path + 3, n) == 0;
}

const struct route *route_find(struct call *c)
{
    bool seen = false;
    static const char *const names[] = { "GET", "POST", "DELETE" };
    const char *allow = NULL;
    enum method m = c->method == METHOD_HEAD ? METHOD_GET : c->method;
    for (int i = 0; i < N_ROUTE; i++) {
        bool asset = routes[i].handler == api_asset;
        if ((asset && (seen || m != METHOD_GET)) || !matches(&routes[i], c))
            continue;
        if (routes[i].method == m)
            return &routes[i];
        seen = true;
        allow = names[routes[i].method];
    }
    if (seen) {
        reply_error(c, 405, "method_not_allowed", NULL, "%s is answered to %s only", c->path,
                    allow);
        c->reply.allow = allow;
    } else {
        reply_error(c, 404, "route_not_found", NULL, "there is no route %.200s", c->path);
    }
    return NULL;
}
