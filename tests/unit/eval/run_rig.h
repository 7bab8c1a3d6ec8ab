/* tests/unit/eval/run_rig.h - a store, a run of made-up questions and the mock endpoint that knows
 * their answers (tests/support/mock_llm.c): what tests of the runner share. */
#ifndef STROBE_TESTS_UNIT_EVAL_RUN_RIG_H
#define STROBE_TESTS_UNIT_EVAL_RUN_RIG_H

#include "engine/base/file.h"
#include "eval/runner.h"

#include <sys/types.h>

struct mock {
    pid_t pid;
    int in; /* closed: it ends */
    char url[64];
};

/* args end with NULL. */
void mock_start(struct mock *m, const char *const *args);
void mock_stop(struct mock *m);

/* A folder of the test's own and the store in it. */
extern char dir[FILE_PATH_MAX];
extern struct run_store *store;
void rig_open(void);
void rig_close(void);
struct run_store *rig_store(const char *url); /* another handle; NULL: of the same file */

/* A run of n questions in `store`. */
void make_run(const char *id, int n);
/* Of the questions with these numbers, in the order in which they are asked. */
void make_run_of(const char *id, const int *number, int n);
/* What the endpoint knows a question by. */
uint64_t question_hash(int number);

struct setting {
    const char *model, *key, *learned;
    bool completions;
    uint32_t total_ms, outage_after, outage_ms, concurrency, patience_ms;
    enum status fails; /* how the run may end, ST_OK: well */
    struct run_limits limits;
    atomic_int *stop;
    void (*progress)(void *ctx, const struct run_progress *p);
    void *ctx;
};

/* Works through a run with the mock as endpoint. note: the runner's, or the error's message. */
enum run_ending work(struct run_store *s, const char *run, const char *url, const struct setting *t,
                     struct run_progress *last, char note[240]);

struct run_row row_of(const char *run);

/* Outcomes of all attempts of a run. */
struct outcomes {
    int n[ATTEMPT_OUTCOMES];
    int64_t last_ord;
};
struct outcomes outcomes_of(const char *run);
/* Done, each of n questions answered once and as the endpoint knows. */
void expect_all_right(const char *run, int n);

#endif
