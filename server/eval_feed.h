/* server/eval_feed.h - event streams of evaluation runs. One thread with its own handle of the run
 * store looks at the watched runs twice a second and tells what changed: "progress" events hold the
 * run as GET /api/evals/runs/ID gives it, with "rate" and "eta_s"; the stream ends when the run
 * does. Whoever works on the run, here or on another machine, is seen alike. */
#ifndef STROBE_SERVER_EVAL_FEED_H
#define STROBE_SERVER_EVAL_FEED_H

#include "server/http.h"

struct eval_feed;

/* Both are copied. Errors: ST_NOMEM, ST_IO. */
enum status eval_feed_create(const char *dir, const char *url, struct eval_feed **ret,
                             struct err *err);
void eval_feed_free(struct eval_feed *f); /* NULL is fine */
/* Answers the call with the events of run c->arg. */
void eval_feed_watch(struct eval_feed *f, struct call *c);

#endif
