/* server/eval_reader.h - a thread that reads evaluation runs for the HTTP routes: net threads may
 * not wait for a disk or a computation, so they leave a question and this thread answers it into
 * its connection. It owns one handle of the run store, opened with the first question. */
#ifndef STROBE_SERVER_EVAL_READER_H
#define STROBE_SERVER_EVAL_READER_H

#include "eval/run_store.h"
#include "server/http.h"

struct eval_reader;

struct eval_task {
    /* On the reader's thread. The store is borrowed for the call. Answers t->later with one of
     * later_*() or eval_task_stream() and frees t->arg's memory; the reader frees t. */
    void (*run)(struct eval_task *t, struct run_store *store);
    struct later later;
    void *arg;              /* malloc()ed, freed by the reader */
    struct eval_task *next; /* the reader's */
};

/* dir: data directory; url: of the run store, NULL: evals.db in it. Both are copied. */
enum status eval_reader_create(const char *dir, const char *url, struct eval_reader **ret,
                               struct err *err);
void eval_reader_free(struct eval_reader *r); /* NULL is fine; waiting questions get 503 */
bool eval_reader_idle(struct eval_reader *r);

/* Hands a question over; replies 503 itself when there is no reader or too many wait. `arg` is
 * taken in any case. long_body: the answer may be long and is not JSON: eval_task_begin(). */
void eval_ask(struct call *c, void (*run)(struct eval_task *, struct run_store *), void *arg,
              bool long_body);
/* Replies with what went wrong. */
void eval_task_fail(struct eval_task *t, const struct err *err, const char *param);

/* A long body in pieces, for tasks asked with long_body. type: static storage. file: name to be
 * saved under, or NULL. put: waits while the client is slow; false: it left. */
void eval_task_begin(struct eval_task *t, const char *type, const char *file);
bool eval_task_put(struct eval_task *t, struct str bytes);
void eval_task_end(struct eval_task *t, bool broken);

#endif
