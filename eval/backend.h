/* eval/backend.h - who is asked: the engine in this process, or an endpoint over HTTP, behind one
 * interface. Owner: the runner's thread, for all calls but backend_wake(). */
#ifndef STROBE_EVAL_BACKEND_H
#define STROBE_EVAL_BACKEND_H

#include "engine/base/json.h"
#include "eval/prompt.h"

enum reply_kind {
    REPLY_OK,
    REPLY_BUSY,    /* 429, 503 with Retry-After: ask again, it is nobody's fault */
    REPLY_RETRY,   /* server error, cut or senseless answer, timeout: counts against the item */
    REPLY_BAD,     /* this question will never be answered: fails the item */
    REPLY_ADAPTED, /* refused for a parameter that is left out from now on: ask again at once */
    REPLY_DOWN,    /* nobody there: ask again later, does not count against the item */
    REPLY_FATAL    /* no question will be answered: key refused, no such model, quota used up */
};

struct backend_reply {
    void *tag; /* as given to backend_ask() */
    enum reply_kind kind;
    long status;                                     /* HTTP; 0: none */
    struct str text, reasoning, finish, error, body; /* borrowed for the call */
    const char *request_hash;                        /* SHA-256, 64 hex digits */
    int64_t prompt_tokens, cached_tokens, completion_tokens, latency_us, at_ms;
    uint64_t retry_after_ns; /* 0: not said */
};
typedef void reply_fn(void *ctx, const struct backend_reply *r);

struct backend;
struct backend_ops {
    enum status (*ask)(struct backend *b, void *tag, struct str question, uint64_t repeat,
                       struct err *err);
    enum status (*poll)(struct backend *b, int wait_ms, reply_fn *fn, void *ctx, struct err *err);
    void (*wake)(struct backend *b);
    void (*drop)(struct backend *b);
    void (*close)(struct backend *b);
};
struct backend {
    const struct backend_ops *ops;
    uint32_t in_flight;
    uint32_t window;         /* most requests at a time that make sense; 0: the pace decides */
    struct buf learned;      /* JSON object: what the endpoint did not accept; "{}" */
    bool learned_anew;       /* since the runner looked */
    uint64_t prefix_tokens;  /* engine: of the shared part, 0: none */
    uint64_t prefill_tokens; /* engine: prompt tokens that were computed, shared part included */
};

/* Asks; the reply comes out of backend_poll(). repeat is added to the seed: another answer to the
 * same question. Errors: ST_BUSY (later), ST_NOMEM, ST_ARG. */
enum status backend_ask(struct backend *b, void *tag, struct str question, uint64_t repeat,
                        struct err *err);
/* Waits up to wait_ms for replies and hands them out. */
enum status backend_poll(struct backend *b, int wait_ms, reply_fn *fn, void *ctx, struct err *err);
void backend_wake(struct backend *b);  /* any thread: backend_poll() returns */
void backend_drop(struct backend *b);  /* gives up all that is in flight, no replies come */
void backend_close(struct backend *b); /* NULL is fine */

/* What is asked, the same for all questions of a run. Borrowed until backend_close(). */
struct ask_opts {
    const struct prompt *prompt;
    uint32_t n_shot;
    bool chat;
    uint32_t max_tokens;
    double temperature;
    uint64_t seed;
};

struct http_opts {
    const char *url; /* base, with or without /v1: http://127.0.0.1:8080/v1 */
    const char *model;
    const char *key;                              /* NULL: none. Copied, never logged or stored */
    const char *learned;                          /* JSON from an earlier session; NULL */
    uint32_t connect_ms, first_byte_ms, total_ms; /* 0: 10 s, 120 s, 600 s */
    const json_t *extra; /* members added to each request's body (top_p, reasoning_effort...) */
    bool insecure;       /* accept any certificate */
};
enum status backend_http_open(const struct http_opts *h, const struct ask_opts *a,
                              struct backend **ret, struct err *err);

struct engine;
/* The shared part is computed once, before the first question; slots copy it. fewer shots than
 * a->n_shot are the caller's to choose: see backend_engine_fit(). */
enum status backend_engine_open(struct engine *e, const struct ask_opts *a, struct backend **ret,
                                struct err *err);
/* The most shots (at most a->n_shot) with which the longest question and its answer fit into the
 * context. *answer: tokens that are left for it, at most a->max_tokens. ST_ARG: not even without.
 */
enum status backend_engine_fit(struct engine *e, const struct ask_opts *a, struct str longest,
                               uint32_t *n_shot, uint32_t *answer, struct err *err);

#endif
