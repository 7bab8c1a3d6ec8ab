/* eval/backend_http_internal.h - what backend_http.c, http_body.c and http_answer.c share. */
#ifndef STROBE_EVAL_BACKEND_HTTP_INTERNAL_H
#define STROBE_EVAL_BACKEND_HTTP_INTERNAL_H

#include "engine/base/hash.h"
#include "eval/backend.h"
#include "eval/http_sockets.h"

/* What an endpoint does not take, as bits. */
enum learned { NO_MAX_TOKENS = 1, NO_STOP = 2, NO_TEMPERATURE = 4, NO_SEED = 8, LEARNED_ALL = 15 };

struct request {
    CURL *easy;
    void *tag;
    struct buf out, in;
    bool too_long;
    unsigned learned; /* what was left out of it */
    uint64_t sent_ns;
    int64_t sent_ms;
    uint64_t retry_after_ns;
    char content_type[64];
    char hash[65];
    struct request *next; /* free list */
    bool busy;
};

struct http {
    struct backend base;
    struct ask_opts ask;
    struct http_opts o;
    struct sockets *sockets;
    CURLM *multi; /* the sockets' */
    struct curl_slist *headers;
    char *url;
    struct buf head, tail;   /* of the body, around the question; made for `learned` */
    struct sha256 head_hash; /* of head: the same for every request */
    unsigned learned;
    struct request **all;
    size_t n_all, cap_all;
    struct request *free;
    struct buf text; /* of the answer in hand, stop strings applied */
};

enum { HTTP_ERROR_MAX = 300 };
struct verdict {
    struct backend_reply reply;
    char error[HTTP_ERROR_MAX];
    char finish[32];
};
void http_say(struct verdict *v, enum reply_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- http_body.c ---- */

struct http_parameter {
    unsigned bit;
    const char *name;
};
enum { HTTP_PARAMETERS = 4 };
extern const struct http_parameter http_parameters[HTTP_PARAMETERS];
/* Everything of a request's body but the question, for what was learned so far. */
enum status http_body_make(struct http *h, struct err *err);
void http_body_put(struct http *h, struct str question, uint64_t repeat, struct buf *out);
void http_learned_write(struct http *h);
void http_learned_read(struct http *h, const char *text);

/* ---- http_answer.c ---- */

/* An answer whose status is not 200. */
void http_answer_failed(struct http *h, const struct request *r, struct verdict *v);
/* A 200 answer. doc is kept by the caller while the reply is used. */
void http_answer_read(struct http *h, const struct request *r, const json_t *doc,
                      struct verdict *v);

#endif
