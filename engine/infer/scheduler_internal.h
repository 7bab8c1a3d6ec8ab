/* engine/infer/scheduler_internal.h - what the scheduler's files share: scheduler.c (life, queue,
 * figures), scheduler_step.c (what runs in a pass), scheduler_draft.c (guesses), scheduler_emit.c
 * (events and endings). */
#ifndef STROBE_INFER_SCHEDULER_INTERNAL_H
#define STROBE_INFER_SCHEDULER_INTERNAL_H

#include "engine/infer/sampler.h"
#include "engine/infer/scheduler.h"
#include "engine/infer/session.h"

#include <pthread.h>

struct scheduler {
    struct scheduler_in in;
    pthread_t thread;
    bool started;

    /* The thread's own. All memory is made at creation: a step allocates nothing. */
    struct session *session; /* [n_slot]; session[].req is written under the lock */
    int32_t *token_store;    /* [n_slot, n_ctx + 1] */
    struct sampler *sampler;
    int32_t *eog; /* end-of-generation tokens */
    size_t n_eog;
    struct batch_seq *seq; /* [n_slot] the pass */
    struct session **who;  /* [n_slot] whose seq that is */
    struct session **wait; /* [n_slot] sessions in their prompt, oldest request first */
    size_t n_seq;
    double pass_done; /* part of the pass in progress that is done, as far as it tells */
    struct buf piece;
    struct engine_stats own; /* counters; published under the lock */
    uint64_t use_count, rss_ns;
    struct draft_costs costs;
    struct draft_luck luck[DRAFT_SOURCES]; /* of all requests; what a new one begins with */
    struct session **drafting;             /* [n_slot] the step of guesses, and whose they are */
    struct drafter_seq *draft_seq;
    uint32_t reuse_left; /* passes that read nothing, since the last that did */

    pthread_mutex_t lock; /* guards all below, and session[].req against others */
    pthread_cond_t wake;
    struct request *head, *tail;
    struct request *admitting; /* between queue and slot */
    uint32_t n_queued, n_live; /* n_live: accepted and GEN_DONE not yet delivered */
    uint64_t last_id, n_request, n_rejected;
    bool draining, closing;
    struct engine_stats pub;
};

/* scheduler.c */
void scheduler_publish(struct scheduler *s);

/* scheduler_step.c: one round of reap, admit, pass, digest. false: nothing to do. */
bool scheduler_step(struct scheduler *s);
/* What forward_watch_chunks() tells: figures move while a long prompt goes through the layers. */
void scheduler_on_chunk(void *s, double done);

/* It has its prompt behind it. */
bool scheduler_decodes(const struct session *ses);

/* scheduler_draft.c. token_share: what one more token adds to a pass, until measured. */
void scheduler_draft_init(struct scheduler *s, double token_share);
void scheduler_draft_admit(struct scheduler *s, struct session *ses);
/* Before the pass: guesses of all sessions that decode, `spare` at most, into draft[], n_draft and
 * behind n_token. */
void scheduler_draft(struct scheduler *s, uint32_t spare);
/* After it: of the session's `drafted` guesses the first `right` were right. */
void scheduler_draft_judge(struct scheduler *s, struct session *ses, uint32_t drafted,
                           uint32_t right);

/* scheduler_emit.c. The token that the request picks from a row of logits for position `at`; -1: no
 * usable number in it. */
int32_t scheduler_pick(struct scheduler *s, const struct session *ses, const float *row,
                       uint32_t at);
bool scheduler_ends(const struct scheduler *s, const struct session *ses, int32_t token);
/* Functions with a status fail with the request's error and emit nothing. */
void emit_started(struct session *ses);
/* Log-probabilities of the prompt tokens that follow the positions of `rows` (first position pos0,
 * n_row rows); token 0 comes before the first. */
enum status emit_prompt(struct scheduler *s, struct session *ses, const float *rows, uint32_t pos0,
                        uint32_t n_row, struct err *err);
/* Picks the next token from a row and sends it, or ends the request (then ses->req is NULL). */
void emit_next(struct scheduler *s, struct session *ses, const float *row);
/* Ends a request: ses NULL when it never had a slot. err: FINISH_ERROR only. */
void emit_done(struct scheduler *s, struct session *ses, struct request *r, enum gen_finish finish,
               const struct err *cause);

#endif
