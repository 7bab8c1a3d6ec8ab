/* server/api_recsys.c - recommendation: events come in, and what is asked of them. Events and a
 * change of model are left to the recommender's writer, which answers when they are durable;
 * everything else is answered at once, from memory. */
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "server/recsys_api.h"
#include "server/recsys_home.h"

#include <math.h>
#include <stdlib.h>

enum { N_DEFAULT = 20, POINTS_DEFAULT = 200, USERS_DEFAULT = 50, EVALUATIONS_DEFAULT = 100 };
#define YEAR9999_S 253402300799.0

/* ---- what requests name ---- */

/* Only where have_recsys() has said so. */
static struct recsys *recsys_of(const struct call *c)
{
    return recsys_home_get(c->srv->recsys);
}

/* false: replied. */
static bool have_recsys(struct call *c)
{
    char why[ERR_MSG_MAX];
    if (recsys_of(c))
        return true;
    bool again = recsys_home_fault(c->srv->recsys, why);
    reply_error(c, 503, "no_recommender", NULL, "%s%s",
                why[0] ? why : "the server was started without a data directory",
                again ? " (it is tried again)" : "");
    c->reply.no_retry = !again;
    return false;
}

/* The model in use; NULL: replied. gen_drop() it. */
static struct gen *have_model(struct call *c)
{
    char why[ERR_MSG_MAX];
    if (!have_recsys(c))
        return NULL;
    struct gen *g = gen_hold(recsys_served(recsys_of(c)));
    if (!g) {
        recsys_fault(recsys_of(c), why);
        reply_error(c, 409, "no_model", NULL, "%s%s",
                    why[0] ? "the active model cannot be used: " : "no model has been fitted yet",
                    why[0] ? why : ": POST /api/recsys/fit, or /api/recsys/demo");
    }
    return g;
}

static bool q_number(struct call *c, const char *name, double min, double max, double *ret)
{
    struct err err = ERR_INIT;
    const char *text = call_query(c, name);
    if (!text || num_f64(str_c(text), name, min, max, ret, &err) == ST_OK)
        return true;
    reply_error(c, 400, "invalid_value", name, "%s", err.msg);
    return false;
}

static bool q_count(struct call *c, const char *name, uint64_t max, uint32_t *ret)
{
    struct err err = ERR_INIT;
    uint64_t v;
    const char *text = call_query(c, name);
    if (!text)
        return true;
    if (num_u64(str_c(text), name, 1, max, &v, &err) != ST_OK) {
        reply_error(c, 400, "invalid_value", name, "%s", err.msg);
        return false;
    }
    *ret = (uint32_t)v;
    return true;
}

static bool q_time(struct call *c, const char *name, int64_t *ret)
{
    const char *text = call_query(c, name);
    if (!text || batch_time(str_c(text), ret))
        return true;
    reply_error(c, 400, "invalid_value", name,
                "'%s' must be Unix seconds, or RFC 3339 like 2026-01-31T18:00:00Z", name);
    return false;
}

static bool q_flag(struct call *c, const char *name)
{
    const char *text = call_query(c, name);
    return text && strcmp(text, "0") != 0 && strcmp(text, "false") != 0;
}

/* The user of the path; IDS_NONE: nobody knows it, which is fine for some. */
static uint32_t path_user(struct call *c)
{
    return served_find_user(recsys_served(recsys_of(c)), str_c(c->arg));
}

static bool known_user(struct call *c, uint32_t *user)
{
    *user = path_user(c);
    if (*user != IDS_NONE)
        return true;
    reply_error(c, 404, "user_not_found", "user", "there is no event of a user '%.100s'", c->arg);
    return false;
}

static void reply_text_buf(struct call *c, struct buf *b)
{
    if (b->failed) {
        buf_clear(b);
        reply_error(c, 500, "internal", NULL, "out of memory");
    } else {
        reply_buf(c, 200, b);
    }
}

/* ---- events ---- */

struct wait {
    struct later later;
};

static void write_batch_answer(const struct recsys_ask *a, struct buf *out)
{
    size_t n = a->n_reject < BATCH_REJECTS_MAX ? a->n_reject : BATCH_REJECTS_MAX;
    buf_printf(out, "{\"accepted\":%u,\"merged\":%u,\"late\":%u,\"rejected\":%zu,\"known\":%s,",
               a->res.accepted, a->res.merged, a->res.late, a->n_reject,
               a->known ? "true" : "false");
    buf_z(out, "\"errors\":[");
    for (size_t i = 0; i < n && !a->known; i++) {
        buf_printf(out, "%s{\"line\":%u,\"message\":", i ? "," : "", a->reject[i].line);
        json_quote(out, str_c(a->reject[i].why));
        buf_char(out, '}');
    }
    buf_z(out, "]}");
}

static void write_health(const struct events_health *h, struct buf *out)
{
    buf_printf(out,
               "{\"events\":%llu,\"users\":%llu,\"items\":%llu,\"pairs\":%llu,\"first\":%.17g,"
               "\"last\":%.17g,\"repeat_share\":%.9g,\"tie_share\":%.9g,\"twin_share\":%.9g,"
               "\"gap_median_s\":%.9g,\"single_share\":%.9g,\"tick_s\":%.9g}",
               (unsigned long long)h->n, (unsigned long long)h->users, (unsigned long long)h->items,
               (unsigned long long)h->pairs, h->first_s, h->last_s, h->repeat_share, h->tie_share,
               h->twin_share, h->gap_median_s, h->single_share, h->tick_s);
}

/* On the recommender's thread. */
static void answered(struct recsys_ask *a)
{
    struct wait *w = a->ctx;
    struct buf out = BUF_INIT;
    const char *code;
    if (a->err.code != ST_OK) {
        bool conflict = a->err.code == ST_ARG;
        int status = err_http_status(&a->err, &code);
        if (a->err.code == ST_FULL) {
            status = 507;
            code = "store_full";
        } else if (a->err.code == ST_FORMAT && a->verb == RECSYS_ACTIVATE) {
            status = 409;
            code = "model_unusable";
        } else if (a->verb == RECSYS_EVALUATIONS) {
            status = 503;
            code = "store_away";
        }
        later_error(&w->later, conflict ? 409 : status, conflict ? "idempotency_conflict" : code,
                    NULL, a->err.msg);
    } else {
        if (a->verb == RECSYS_ACTIVATE) {
            buf_z(&out, "{\"active\":");
            json_quote(&out, str_c(a->model));
            buf_char(&out, '}');
        } else if (a->verb == RECSYS_HEALTH) {
            write_health(&a->health, &out);
        } else if (a->verb == RECSYS_EVALUATIONS) {
            out = a->text;
            a->text = (struct buf)BUF_INIT;
        } else {
            write_batch_answer(a, &out);
        }
        later_reply(&w->later, 200, NULL, &out);
    }
    free(w);
    recsys_ask_free(a);
}

/* Leaves a question; takes *with's body. */
static void ask(struct call *c, struct recsys_ask *with)
{
    struct recsys_ask *a = malloc(sizeof *a);
    struct wait *w = calloc(1, sizeof *w);
    if (!a || !w || with->body.failed || !later_open(c, false, &w->later)) {
        buf_clear(&with->body);
        free(a);
        free(w);
        reply_error(c, 500, "internal", NULL, "out of memory");
        return;
    }
    *a = *with;
    a->done = answered;
    a->ctx = w;
    if (recsys_ask(recsys_of(c), a))
        return;
    later_error(&w->later, 429, "queue_full", NULL, "too many batches wait: try again later");
    free(w);
    recsys_ask_free(a);
}

static bool type_is(const char *type, const char *what)
{
    size_t n = strlen(what);
    return type && strncasecmp(type, what, n) == 0 && (type[n] == '\0' || strchr("; ", type[n]));
}

/* false: replied. */
static bool body_format(struct call *c, enum batch_format *ret)
{
    const char *type = call_header(c, "Content-Type");
    *ret = BATCH_JSON;
    if (type_is(type, "text/tab-separated-values"))
        *ret = BATCH_TSV;
    else if (type_is(type, "application/x-ndjson") || type_is(type, "application/jsonl"))
        *ret = BATCH_NDJSON;
    else if (type && !type_is(type, "application/json") && !type_is(type, "text/plain") &&
             !type_is(type, "application/x-www-form-urlencoded")) { /* what fetch and curl say */
        reply_error(c, 415, "unsupported_type", "Content-Type",
                    "send application/json, application/x-ndjson or text/tab-separated-values");
        return false;
    }
    return true;
}

static void take_batch(struct call *c, enum recsys_verb verb)
{
    struct recsys_ask a = { .verb = verb };
    const char *key = call_header(c, "Idempotency-Key");
    if (!have_recsys(c) || !body_format(c, &a.format))
        return;
    if (key && (!key[0] || strlen(key) >= sizeof a.key)) {
        reply_error(c, 400, "invalid_value", "Idempotency-Key",
                    "an Idempotency-Key has 1 to %d characters", BATCH_KEY_MAX - 1);
        return;
    }
    if (atomic_load(&c->srv->draining)) {
        reply_error(c, 503, "shutting_down", NULL, "the server is shutting down");
        return;
    }
    snprintf(a.key, sizeof a.key, "%s", key ? key : "");
    buf_str(&a.body, c->body);
    ask(c, &a);
}

void api_recsys_events(struct call *c)
{
    take_batch(c, RECSYS_EVENTS);
}

void api_recsys_follows(struct call *c)
{
    take_batch(c, RECSYS_FOLLOWS);
}

void api_recsys_health(struct call *c)
{
    struct recsys_ask a = { .verb = RECSYS_HEALTH };
    if (have_recsys(c))
        ask(c, &a);
}

/* ---- recommend ---- */

static bool q_seen(struct call *c, enum query_seen *ret)
{
    static const char *const names[] = { "allow", "exclude", "only" };
    const char *text = call_query(c, "seen");
    if (!text)
        return true;
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum query_seen)i;
            return true;
        }
    reply_error(c, 400, "invalid_value", "seen", "'seen' must be allow, exclude or only");
    return false;
}

void api_recsys_recommend(struct call *c)
{
    struct query q = { .n = N_DEFAULT, .explain = q_flag(c, "explain") };
    struct query_answer a;
    struct err err = ERR_INIT;
    double cooldown = 0;
    uint64_t start = clock_ns();
    struct gen *g = have_model(c);
    if (!g)
        return;
    q.at = recsys_now(recsys_of(c));
    if (q_count(c, "n", QUERY_MAX, &q.n) && q_time(c, "at", &q.at) && q_seen(c, &q.seen) &&
        q_number(c, "cooldown", 0, 1e9, &cooldown)) {
        struct served *l = recsys_served(recsys_of(c));
        q.user = path_user(c);
        q.cooldown_ms = (int64_t)(cooldown * 1e3);
        if (query_recommend(l, g, &q, &a, &err) == ST_OK) {
            struct buf out = BUF_INIT;
            recsys_write_answer(l, g, c->arg, &q, &a, &out);
            buf_printf(&out, ",\"took_ms\":%.4f}", clock_ms_since(start));
            query_clear(&a);
            recsys_count_query(recsys_of(c));
            metrics_time(&c->srv->metrics->recommend, clock_ms_since(start) / 1e3);
            reply_text_buf(c, &out);
        } else {
            reply_err(c, &err, NULL);
        }
    }
    gen_drop(g);
}

void api_recsys_return(struct call *c)
{
    struct err err = ERR_INIT;
    struct query_return *r = malloc(sizeof *r);
    struct gen *g = have_model(c);
    uint32_t user, points = POINTS_DEFAULT;
    int64_t at = g ? recsys_now(recsys_of(c)) : 0;
    if (g && !r)
        reply_error(c, 500, "internal", NULL, "out of memory");
    else if (g && q_time(c, "at", &at) && q_count(c, "points", QUERY_POINTS_MAX, &points) &&
             known_user(c, &user)) {
        struct served *l = recsys_served(recsys_of(c));
        if (query_return_time(l, g, user, at, points, r, &err) == ST_OK) {
            struct buf out = BUF_INIT;
            recsys_write_return(g, c->arg, at, r, &out);
            reply_text_buf(c, &out);
        } else {
            reply_err(c, &err, NULL);
        }
    }
    free(r);
    gen_drop(g);
}

void api_recsys_intensity(struct call *c)
{
    struct err err = ERR_INIT;
    struct query_curve curve;
    struct gen *g = have_model(c);
    struct served *l = g ? recsys_served(recsys_of(c)) : NULL;
    uint32_t user, item = IDS_NONE, n = POINTS_DEFAULT;
    int64_t to = g ? recsys_now(recsys_of(c)) : 0, from;
    const char *name = call_query(c, "item");
    if (!g)
        return;
    if (!q_time(c, "to", &to))
        goto out;
    from = to - INT64_C(14) * 86400000 > 0 ? to - INT64_C(14) * 86400000 : 0;
    if (!q_time(c, "from", &from) || !q_count(c, "points", QUERY_POINTS_MAX, &n) ||
        !known_user(c, &user))
        goto out;
    if (name && (item = served_find_item(l, str_c(name))) == IDS_NONE)
        reply_error(c, 404, "item_not_found", "item", "there is no item '%.100s'", name);
    else if (from >= to || n < 2)
        reply_error(c, 400, "invalid_value", "from",
                    "'from' must lie before 'to', with at least two points");
    else if (curve = (struct query_curve){ .n = n,
                                           .from = from,
                                           .step = (to - from) / (n - 1) + ((to - from) < n) },
             query_intensity(l, g, user, item, &curve, &err) == ST_OK) {
        struct buf out = BUF_INIT;
        recsys_write_curve(l, c->arg, &curve, &out);
        query_curve_clear(&curve);
        reply_text_buf(c, &out);
    } else {
        reply_err(c, &err, NULL);
    }
out:
    gen_drop(g);
}

void api_recsys_similar(struct call *c)
{
    struct err err = ERR_INIT;
    struct topk_hit *hit = malloc(QUERY_MAX * sizeof *hit);
    struct gen *g = have_model(c);
    struct served *l = g ? recsys_served(recsys_of(c)) : NULL;
    uint32_t n = N_DEFAULT, got, item = g ? served_find_item(l, str_c(c->arg)) : IDS_NONE;
    if (g && item == IDS_NONE)
        reply_error(c, 404, "item_not_found", "item", "there is no item '%.100s'", c->arg);
    else if (g && hit && q_count(c, "n", QUERY_MAX, &n)) {
        if (query_similar(g, item, n, hit, &got, &err) == ST_OK) {
            struct buf out = BUF_INIT;
            recsys_write_similar(l, c->arg, hit, got, &out);
            reply_text_buf(c, &out);
        } else {
            reply_err(c, &err, "item");
        }
    }
    free(hit);
    gen_drop(g);
}

void api_recsys_influence(struct call *c)
{
    struct err err = ERR_INIT;
    struct query_influence in;
    struct gen *g = have_model(c);
    uint32_t user;
    if (g && known_user(c, &user)) {
        if (query_influence(g, user, &in, &err) == ST_OK) {
            struct buf out = BUF_INIT;
            recsys_write_influence(recsys_served(recsys_of(c)), c->arg, &in, &out);
            query_influence_clear(&in);
            reply_text_buf(c, &out);
        } else {
            reply_err(c, &err, "user");
        }
    }
    gen_drop(g);
}

/* ---- what there is ---- */

void api_recsys_users(struct call *c)
{
    uint32_t n = USERS_DEFAULT;
    const char *prefix = call_query(c, "prefix");
    if (!have_recsys(c) || !q_count(c, "limit", QUERY_MAX, &n))
        return;
    struct buf out = BUF_INIT;
    recsys_write_users(recsys_served(recsys_of(c)), str_c(prefix ? prefix : ""), n, &out);
    reply_text_buf(c, &out);
}

static void write_models(struct call *c, bool with_stats)
{
    struct buf out = BUF_INIT;
    struct err err = ERR_INIT;
    struct recsys_page page = { .limit = QUERY_MAX, .after = call_query(c, "after") };
    if (!have_recsys(c) || !q_count(c, "limit", QUERY_MAX, &page.limit))
        return;
    if (with_stats) {
        buf_z(&out, "{\"live\":");
        recsys_write_stats(recsys_of(c), &out);
        buf_z(&out, ",\"models\":");
    }
    recsys_models(recsys_of(c), &page, &out, &err);
    if (with_stats)
        buf_char(&out, '}');
    if (err.code == ST_OK) {
        reply_text_buf(c, &out);
    } else {
        buf_clear(&out);
        reply_err(c, &err, NULL);
    }
}

void api_recsys_models(struct call *c)
{
    write_models(c, false);
}

void api_recsys_metrics(struct call *c)
{
    write_models(c, true);
}

void api_recsys_stats(struct call *c)
{
    struct buf out = BUF_INIT;
    if (!have_recsys(c))
        return;
    recsys_write_stats(recsys_of(c), &out);
    reply_text_buf(c, &out);
}

void api_recsys_evaluations(struct call *c)
{
    struct recsys_ask a = { .verb = RECSYS_EVALUATIONS, .limit = EVALUATIONS_DEFAULT };
    const char *model = call_query(c, "model");
    if (!have_recsys(c) || !q_count(c, "limit", QUERY_MAX, &a.limit))
        return;
    snprintf(a.model, sizeof a.model, "%s", model ? model : "");
    ask(c, &a);
}

void api_recsys_model(struct call *c)
{
    struct buf out = BUF_INIT;
    struct err err = ERR_INIT;
    if (!have_recsys(c))
        return;
    if (recsys_model(recsys_of(c), c->arg, &out, &err) == ST_OK) {
        reply_text_buf(c, &out);
    } else {
        buf_clear(&out);
        reply_err(c, &err, NULL);
    }
}

void api_recsys_activate(struct call *c)
{
    struct recsys_ask a = { .verb = RECSYS_ACTIVATE };
    if (!have_recsys(c))
        return;
    if (strlen(c->arg) >= sizeof a.model) {
        reply_error(c, 404, "not_found", NULL, "there is no such model");
        return;
    }
    snprintf(a.model, sizeof a.model, "%s", c->arg);
    ask(c, &a);
}

void recsys_families(struct recsys *r, struct buf *out)
{
    struct recsys_stats s;
    recsys_get_stats(r, &s);
    const struct {
        const char *name, *type, *help;
        double v;
    } f[] = {
        { "recsys_events_total", "counter", "Events accepted, since ever.",
          (double)s.counts.events },
        { "recsys_events_merged_total", "counter", "Events that were there already.",
          (double)s.counts.merged },
        { "recsys_events_late_total", "counter", "Events older than their user's latest.",
          (double)s.counts.late },
        { "recsys_users", "gauge", "Users known.", (double)s.counts.users },
        { "recsys_items", "gauge", "Items known.", (double)s.counts.items },
        { "recsys_log_bytes", "gauge", "Bytes of the event log.", (double)s.log.bytes },
        { "recsys_log_commits_total", "counter", "Batches of batches made durable.",
          (double)s.log.commits },
        { "recsys_store_up", "gauge", "The event database is reachable (1) or not (0).",
          (double)s.store.up },
        { "recsys_store_backlog_bytes", "gauge",
          "Bytes of the event log that the database has not got yet.", (double)s.store.backlog },
        { "recsys_folds_total", "counter", "Users folded in.", (double)s.folds },
        { "recsys_waiting_bytes", "gauge", "Bytes of batches that wait.", (double)s.waiting },
    };
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++)
        metrics_family(out, f[i].name, f[i].type, f[i].help, f[i].v);
}
