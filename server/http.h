/* server/http.h - one HTTP exchange as the handlers see it. Only http*.c know libmicrohttpd.
 * A handler runs on a net thread and must not block: it replies at once, or attaches a stream. */
#ifndef STROBE_SERVER_HTTP_H
#define STROBE_SERVER_HTTP_H

#include "engine/engine.h"
#include "server/duo_store.h"
#include "server/metrics.h"
#include "server/stream.h"

struct server;
struct jobs;
struct eval_reader;
struct eval_feed;
struct recsys;
struct recsys_home;

enum method { METHOD_GET, METHOD_POST, METHOD_DELETE, METHOD_HEAD, METHOD_OPTIONS, METHOD_OTHER };

struct reply {
    int status; /* 0: none yet */
    const char *content_type;
    struct buf body;
    char retry_after[12]; /* seconds, "" none */
    const char *allow;    /* 405 */
    const char *etag;     /* static assets */
    const char *encoding; /* "gzip" */
    const char *cache;    /* Cache-Control */
    struct str borrowed;  /* static body instead of `body` */
    bool no_retry;        /* x-should-retry: false */
    char location[64];    /* of what was made, "" none */
};

enum { CALL_ARG_MAX = 260 }; /* names of users and items have up to 256 bytes */

struct call {
    struct server *srv;
    enum method method;
    const char *path;           /* without query, percent-decoded */
    char id[24];                /* x-request-id */
    struct str body;            /* POST */
    const char *arg;            /* what the route's '*' or {id} matched */
    char segment[CALL_ARG_MAX]; /* arg points here for {id} */
    struct reply reply;
    struct stream *stream; /* one reference, moved to the connection */
    bool stream_whole;     /* the stream is one JSON body: wait for its end, then send with
                              stream_status */
    atomic_int stream_status;
    const char *stream_type; /* of a long body, NULL: an event stream */
    char stream_file[96];    /* what a browser saves it as, "" none */
    char stream_fault[160];  /* for the list of errors, "" generation failed */
    void *conn;
};

struct server {
    struct engine *engine;     /* NULL: none */
    struct jobs *jobs;         /* NULL: no data directory */
    struct eval_reader *evals; /* NULL: no data directory */
    struct eval_feed *eval_feed;
    struct recsys_home *recsys; /* NULL: the same */
    struct metrics *metrics;
    const char *static_dir;
    int64_t started;
    atomic_bool draining;
    pthread_mutex_t list_lock;               /* event streams, for pings and the live figures */
    struct stream *live, *pinged, *watching; /* enum keep */
    uint64_t sequence;                       /* of the live figures; the watcher's thread */
    const char *data_dir;                    /* NULL: none */
    const char *duo_model; /* traced when a request names none; NULL: the served one */
    struct duo_limit duo_keep[DUO_HOMES]; /* traces */
    bool allow_paths;
    atomic_uint errands; /* threads of api_duo.c */
    atomic_bool tracing; /* one of them computes */
    atomic_uint replies; /* to whole requests, not all sent yet; endless ones apart */
};

/* Case-insensitive request header, or query value; NULL: absent. Valid during the handler. */
const char *call_header(const struct call *c, const char *name);
const char *call_query(const struct call *c, const char *name);

void reply_buf(struct call *c, int status, struct buf *take); /* JSON text; takes the buffer */
void reply_json(struct call *c, int status, json_t *take);
void reply_text(struct call *c, int status, const char *content_type, const char *text);
/* The error envelope. param, code: NULL for null. */
void reply_error(struct call *c, int status, const char *code, const char *param, const char *fmt,
                 ...) __attribute__((format(printf, 5, 6)));
/* Status and code from an engine error. */
void reply_err(struct call *c, const struct err *err, const char *param);
/* {"error":{...}} appended. */
void reply_retry_after(struct call *c, int status); /* where the status asks to come again */
void error_envelope(struct buf *out, int status, const char *code, const char *param,
                    const char *message);
int err_http_status(const struct err *err, const char **code);

/* An answer that another thread gives: the connection sleeps until then. The call may end before,
 * so later_*() touch it only while its client is there. Each of the three is the last use. */
struct later {
    struct call *call;
    struct stream *stream; /* one reference */
};
/* events: later_events() may follow. false: replied with 500. */
bool later_open(struct call *c, bool events, struct later *ret);
void later_reply(struct later *l, int status, const char *location, struct buf *take);
void later_error(struct later *l, int status, const char *code, const char *param,
                 const char *message);
void later_events(struct later *l); /* 200, what is put into the stream goes out from now on */

/* Parses the body as a JSON object; NULL: replied with 400. */
json_t *call_json(struct call *c);
/* Keeps an event stream in one of the server's lists; taken out by server_forget(). */
enum keep {
    KEEP_LIVE,    /* the figures of each second */
    KEEP_PINGED,  /* generations (their ctx is one) */
    KEEP_WATCHING /* jobs */
};
void server_keep(struct server *s, struct stream *st, enum keep list);
void server_forget(struct server *s, struct stream *st);

/* ---- router.c ---- */
enum route_flag {
    ROUTE_OPEN = 1,     /* needs no key */
    ROUTE_GENERATES = 2 /* refused before the body when the queue is full */
};
struct route {
    enum method method;
    const char *path; /* a trailing "*" matches the rest, "{id}" one segment, "{name}" more */
    void (*handler)(struct call *c);
    int flags;
};
/* Finds the route; NULL: replied with 404 or 405. Accepts a trailing slash, and OpenAI routes
 * without /v1. */
const struct route *route_find(struct call *c);

/* ---- handlers ---- */
void api_models(struct call *c);
void api_model(struct call *c);
void api_chat(struct call *c);
void api_completions(struct call *c);
void api_embeddings(struct call *c);
void api_tokenize(struct call *c);
void api_detokenize(struct call *c);
void api_apply_template(struct call *c);
void api_props(struct call *c);
void api_slots(struct call *c);
void api_cancel(struct call *c);
void api_health(struct call *c);
void api_health_live(struct call *c);
void api_metrics(struct call *c);
void api_openapi(struct call *c);
void api_version(struct call *c);
void api_estimate(struct call *c);
void api_flash_stats(struct call *c);
void api_flash_layers(struct call *c);
void api_flash_trace(struct call *c);
void api_events(struct call *c);
void api_train(struct call *c);
void api_jobs(struct call *c);
void api_job(struct call *c);
void api_job_cancel(struct call *c);
void api_job_resume(struct call *c);
void api_job_events(struct call *c);
void api_job_metrics(struct call *c);
void api_job_log(struct call *c);
void api_eval_runs(struct call *c);
void api_eval_make(struct call *c);
void api_eval_run(struct call *c);
void api_eval_samples(struct call *c);
void api_eval_sample(struct call *c);
void api_eval_events(struct call *c);
void api_eval_pause(struct call *c);
void api_eval_cancel(struct call *c);
void api_eval_resume(struct call *c);
void api_eval_report(struct call *c);
void api_eval_export(struct call *c);
void api_eval_compare(struct call *c);
void api_recsys_events(struct call *c);
void api_recsys_follows(struct call *c);
void api_recsys_health(struct call *c);
void api_recsys_recommend(struct call *c);
void api_recsys_return(struct call *c);
void api_recsys_intensity(struct call *c);
void api_recsys_similar(struct call *c);
void api_recsys_influence(struct call *c);
void api_recsys_users(struct call *c);
void api_recsys_stats(struct call *c);
void api_recsys_models(struct call *c);
void api_recsys_model(struct call *c);
void api_recsys_evaluations(struct call *c);
void api_recsys_activate(struct call *c);
void api_recsys_metrics(struct call *c);
void api_duo_traces(struct call *c);
void api_duo_trace(struct call *c);
void api_duo_figure(struct call *c);
void api_eval_templates(struct call *c);
void api_eval_template(struct call *c);
void api_eval_check(struct call *c);
void api_asset(struct call *c);

/* Heap: the struct holds every slot. free() it. NULL: no memory or no engine. */
struct engine_stats *stats_of(const struct server *s);
/* Metrics of jobs, appended. */
void job_families(struct jobs *j, struct buf *out);
/* Metrics of the recommender, appended. */
void recsys_families(struct recsys *r, struct buf *out);
/* Metrics of streaming, appended. */
void flash_families(const struct engine_info *in, const struct engine_stats *st, struct buf *out);

/* Once a second: figures to those who asked, pings to quiet streams. */
void events_tick(struct server *s);
/* The live figures as one JSON text, appended. */
void events_snapshot(struct server *s, uint64_t sequence, struct buf *out);

#endif
