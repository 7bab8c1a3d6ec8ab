/* eval/steady.h - does the one who is asked answer alike, however many questions are in flight?
 * Many servers do not: their sums depend on the batch, so that part of what looks like a model's
 * variance is the server's (reference gsm-symbolic.md, 2.4 and 5.8). Owner: the backend's thread.
 */
#ifndef STROBE_EVAL_STEADY_H
#define STROBE_EVAL_STEADY_H

#include "eval/backend.h"
#include "eval/run_store.h"

enum { STEADY_MAX = 256, STEADY_ROUNDS = 3 };
extern const uint32_t steady_windows[STEADY_ROUNDS]; /* 1, 8, 32 */

/* Asks all questions once for each window. *different: those that were not answered in the same
 * words each time. Errors: ST_IO (a question gets no answer in eight tries: says why), those of
 * backend_ask(). */
enum status steady_test(struct backend *b, const struct str *question, uint32_t n,
                        uint32_t *different, struct err *err);
/* The same with a run's first questions, at most `most`; *n: how many those are. */
enum status steady_run(struct backend *b, struct run_store *s, const char *run, uint32_t most,
                       uint32_t *n, uint32_t *different, struct err *err);

#endif
