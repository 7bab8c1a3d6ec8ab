/* eval/runner_internal.h - what runner.c, runner_replies.c and runner_writer.c share. */
#ifndef STROBE_EVAL_RUNNER_INTERNAL_H
#define STROBE_EVAL_RUNNER_INTERNAL_H

#include "engine/base/queue.h"
#include "engine/base/rng.h"
#include "eval/runner.h"

#include <pthread.h>

/* Works that `ready` holds; the runner wants fewer than that, see look_around(). */
enum { QUEUE_MAX = 4096, WANT_MAX = QUEUE_MAX - 512 };

/* A leased sample on its way. Owned by whoever holds it: writer -> ready queue -> runner -> done
 * queue -> writer. */
struct work {
    int64_t ord, repeat;
    char *text; /* question, gold text, info, one behind another */
    struct str question, gold_text, info;
    int64_t gold_num, gold_den;
    uint32_t tries; /* that count against it, this session */
    uint32_t same;  /* of those, the last ones in a row with the same error */
    char last_error[64];
    bool probe;        /* of the runner's own, see ask_known() */
    uint64_t due_ns;   /* not before */
    struct work *next; /* in the runner's list of those that wait */
    size_t at;         /* in its list of those that are asked */
};
void work_free(struct work *w);
/* A question to ask, without a place in the run. NULL: no memory. */
struct work *work_new(const struct run_sample *r);

/* What happened to it. */
struct outcome {
    struct work *work;
    bool keep; /* the runner still has the work: only the attempt is written */
    enum attempt_outcome what;
    enum sample_state to;
    int64_t status, latency_us, at_ms, prompt_tokens, cached_tokens, completion_tokens;
    char request_hash[65];
    char *response, *reasoning, *finish, *error, *body;
    size_t n_response, n_reasoning, n_body;
    uint64_t queued_ns;
    int64_t ord;
};
void outcome_free(struct outcome *o);

struct writer {
    const struct runner_opts *o;
    struct queue *ready, *done;
    bool lost; /* a lease failed: the server may think that we have more than we know of */
    pthread_t thread;
    /* Both sides. */
    atomic_bool closing; /* runner: no more outcomes will come, finish */
    atomic_bool hold;    /* runner: lease nothing any more */
    atomic_uint want;    /* runner: works that should wait in `ready` */
    atomic_bool dry;     /* writer: nothing is pending (at its last look) */
    atomic_bool asked;   /* writer: the run is not in state running any more */
    atomic_bool broken;  /* writer: the store failed for good, err says why */
    atomic_int waits;    /* writer: enum status that the store fails with, and may not for long */
    atomic_llong n_done, n_failed, n_correct, n_empty, n_unparsed, n_truncated, lag_us, n_attempt;
    atomic_llong outstanding; /* works leased and not yet settled */
    char learned[256];        /* runner writes, then sets learned_set */
    atomic_bool learned_set;
    struct err err;
};

/* ---- the side that asks: runner.c, runner_replies.c ---- */

struct runner {
    const struct runner_opts *o;
    struct writer w;
    struct pace pace;
    struct rng rng;
    struct work *later; /* waits for its time; sorted by due_ns */
    size_t n_later;
    struct work **asked; /* in flight */
    size_t n_asked, cap_asked;
    uint32_t failures;   /* in a row, nothing between */
    uint64_t failing_ns; /* since when */
    bool ever_ok;
    struct work *known, *probe; /* see ask_known(); probe: waits to be asked, or NULL */
    bool probing;               /* nothing else is asked */
    uint64_t start_ns, told_ns, retries;
    int64_t latency_us; /* of answers, the newer the more; 0: none yet */
    int64_t tokens_in, tokens_cached, tokens_out, requests;
    struct run_counts before; /* when this session began */
    enum run_ending ending;
    bool stopping;
    uint64_t stop_ns;
    bool drop;
    bool learned; /* the endpoint refused something in this session */
    char problem[200];
    char note[ERR_MSG_MAX];
};

void runner_stop(struct runner *r, enum run_ending why, bool drop, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Takes w: to be asked after a while, itself first when it is the probe. */
void runner_put_back(struct runner *r, struct work *w, uint64_t delay_ns);
/* The same of a question of the run. */
void runner_put_later(struct runner *r, struct work *w, uint64_t delay_ns);
/* It is in flight no more. */
void runner_take_asked(struct runner *r, struct work *w);
/* A reply_fn; ctx: the runner. */
void runner_on_reply(void *ctx, const struct backend_reply *reply);

/* ---- the side that stores ---- */

/* The store failed in a way that may go away: another program's lock, a full disk, a server that
 * restarts. */
bool store_may_return(const struct runner_opts *o, enum status st);
uint32_t store_patience_ms(const struct runner_opts *o);

enum status writer_start(struct writer *w, const struct runner_opts *o, struct err *err);
/* Ends the thread: everything queued is stored. */
enum status writer_stop(struct writer *w, struct err *err);

#endif
