/* eval/runner_replies.c - what follows from a reply: an answer to keep, another try, a question
 * that fails, or an outage. See runner.h. */
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "eval/runner_internal.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    ATTEMPTS = 8,
    SAME_MAX = 3, /* the same error on one item: it will not go away */
    OUTAGE_AFTER = 12,
    OUTAGE_MS = 60000, /* a server that is started anew is back */
    DOWN_MS = 500,     /* nobody is asked for so long after nobody was there */
    BACKOFF_MS = 500,
    BACKOFF_MAX_MS = 60000
};

/* Full jitter: a crowd that failed together does not come back together. */
static uint64_t backoff(struct runner *r, uint32_t tries)
{
    uint64_t base = r->o->backoff_ms ? r->o->backoff_ms : BACKOFF_MS, most = base;
    for (uint32_t i = 1; i < tries && most < BACKOFF_MAX_MS; i++)
        most *= 2;
    most = most < BACKOFF_MAX_MS ? most : BACKOFF_MAX_MS;
    return (rng_below(&r->rng, most * 1000) + 1000) * 1000;
}

/* ---- outcomes ---- */

static char *copy(struct str s, size_t most, size_t *n)
{
    size_t len = s.n < most ? s.n : most;
    *n = len;
    return len ? str_dup((struct str){ s.p, len }) : NULL;
}

static struct outcome *new_outcome(struct work *w, const struct backend_reply *r)
{
    struct outcome *o = calloc(1, sizeof *o);
    size_t ignored;
    if (!o)
        return NULL;
    *o = (struct outcome){ .work = w,
                           .ord = w->ord,
                           .status = r->status,
                           .latency_us = r->latency_us,
                           .at_ms = r->at_ms,
                           .prompt_tokens = r->prompt_tokens,
                           .cached_tokens = r->cached_tokens,
                           .completion_tokens = r->completion_tokens,
                           .queued_ns = clock_ns() };
    snprintf(o->request_hash, sizeof o->request_hash, "%s", r->request_hash ? r->request_hash : "");
    o->response = copy(r->text, RUN_RESPONSE_MAX, &o->n_response);
    o->reasoning = copy(r->reasoning, RUN_RESPONSE_MAX, &o->n_reasoning);
    o->body = copy(r->body, RUN_BODY_MAX, &o->n_body);
    o->finish = copy(r->finish, 64, &ignored);
    o->error = copy(r->error, 400, &ignored);
    return o;
}

/* Hands it to the writer; waits while that is behind. */
static void settle(struct runner *r, struct work *w, const struct backend_reply *reply,
                   enum attempt_outcome what, enum sample_state to, bool keep)
{
    struct outcome *o = new_outcome(w, reply);
    if (!o) {
        runner_stop(r, RUN_ENDED_OUTAGE, true, "out of memory");
        if (!keep)
            work_free(w); /* its lease ends with the process */
        return;
    }
    o->what = what;
    o->to = to;
    o->keep = keep;
    while (!queue_try_push(r->w.done, o)) {
        if (atomic_load(&r->w.broken)) {
            outcome_free(o);
            return;
        }
        usleep(1000);
    }
}

/* ---- replies ---- */

static void note_problem(struct runner *r, const struct backend_reply *reply)
{
    snprintf(r->problem, sizeof r->problem, "%.*s", (int)reply->error.n, reply->error.p);
}

static void stop_outage(struct runner *r)
{
    runner_stop(r, RUN_ENDED_OUTAGE, true,
                "%.80s does not answer: %u failures in a row, the last: %.110s",
                r->o->where ? r->o->where : "the endpoint", r->failures, r->problem);
}

/* So many questions failed one behind another: are they such questions, or is the endpoint not what
 * it was? A question that it has answered tells. Nothing else is asked meanwhile, and the answer is
 * not kept. */
static void ask_known(struct runner *r)
{
    struct run_sample same = { 0 };
    if (r->probing)
        return;
    if (r->known)
        same.question = r->known->question;
    struct work *w = r->known ? work_new(&same) : NULL;
    if (!w) {
        stop_outage(r);
        return;
    }
    w->probe = r->probing = true;
    runner_put_back(r, w, 0);
}

static void note_failure(struct runner *r, const struct backend_reply *reply)
{
    uint32_t limit = r->o->outage_after ? r->o->outage_after : OUTAGE_AFTER;
    uint32_t most = r->o->outage_ms ? r->o->outage_ms : OUTAGE_MS;
    note_problem(r, reply);
    if (r->failures++ == 0)
        r->failing_ns = clock_ns();
    /* What never worked at all is likelier a wrong setting than bad luck. */
    if (reply->kind != REPLY_DOWN && r->ever_ok) {
        if (r->failures >= 2 * limit)
            ask_known(r);
    } else if (r->failures >= limit && (!r->ever_ok || clock_ms_since(r->failing_ns) >= most)) {
        stop_outage(r);
    }
}

/* The reply to a question that was answered before. */
static void on_known(struct runner *r, struct work *w, const struct backend_reply *reply)
{
    bool done = reply->kind == REPLY_OK || r->failures == 0; /* others were answered since */
    if (!done && reply->kind == REPLY_FATAL) {
        note_problem(r, reply);
        stop_outage(r);
    } else if (!done && reply->kind == REPLY_BUSY) {
        pace_refused(&r->pace, reply->retry_after_ns, clock_ns());
    } else if (!done && reply->kind != REPLY_ADAPTED) {
        note_problem(r, reply);
        if (++w->tries >= SAME_MAX)
            stop_outage(r);
    }
    if (!done && !r->stopping) {
        runner_put_back(r, w, reply->kind == REPLY_ADAPTED ? 0 : backoff(r, w->tries));
        return;
    }
    r->tokens_in += reply->prompt_tokens;
    r->tokens_out += reply->completion_tokens;
    r->failures = 0;
    r->probing = false;
    work_free(w);
}

static void on_retry(struct runner *r, struct work *w, const struct backend_reply *reply)
{
    uint32_t most = r->o->attempts ? r->o->attempts : ATTEMPTS;
    char error[sizeof w->last_error];
    snprintf(error, sizeof error, "%.*s", (int)reply->error.n, reply->error.p);
    w->same = strcmp(error, w->last_error) == 0 ? w->same + 1 : 1;
    memcpy(w->last_error, error, sizeof error);
    w->tries++;
    r->retries++;
    /* Questions that always fail are all that is left at a run's end: their second and third tries
     * tell nothing of the endpoint. */
    if (w->tries == 1 || !r->ever_ok)
        note_failure(r, reply);
    else
        note_problem(r, reply);
    if (reply->kind == REPLY_BAD || w->same >= SAME_MAX || w->tries >= most) {
        settle(r, w, reply, ATTEMPT_FAIL, SAMPLE_FAILED, false);
        return;
    }
    if (reply->retry_after_ns)
        pace_refused(&r->pace, reply->retry_after_ns, clock_ns());
    settle(r, w, reply, ATTEMPT_RETRY, SAMPLE_LEASED, true);
    runner_put_later(r, w, backoff(r, w->tries));
}

static void on_ok(struct runner *r, struct work *w, const struct backend_reply *reply)
{
    r->failures = 0;
    r->ever_ok = true;
    if (!r->known) { /* without memory for it the next one is */
        struct run_sample same = { .question = w->question };
        r->known = work_new(&same);
    }
    r->latency_us = r->latency_us ? (7 * r->latency_us + reply->latency_us) / 8 : reply->latency_us;
    r->tokens_in += reply->prompt_tokens;
    r->tokens_cached += reply->cached_tokens;
    r->tokens_out += reply->completion_tokens;
    pace_ok(&r->pace, (uint64_t)(reply->prompt_tokens + reply->completion_tokens));
    settle(r, w, reply, ATTEMPT_OK, SAMPLE_DONE, false);
}

void runner_on_reply(void *ctx, const struct backend_reply *reply)
{
    struct runner *r = ctx;
    struct work *w = reply->tag;
    runner_take_asked(r, w);
    if (w->probe) {
        on_known(r, w, reply);
        return;
    }
    switch (reply->kind) {
    case REPLY_OK:
        on_ok(r, w, reply);
        break;
    case REPLY_BUSY:
        r->retries++;
        note_problem(r, reply);
        pace_refused(&r->pace, reply->retry_after_ns, clock_ns());
        settle(r, w, reply, ATTEMPT_RETRY, SAMPLE_LEASED, true);
        runner_put_later(r, w, reply->retry_after_ns ? reply->retry_after_ns : backoff(r, 1));
        break;
    case REPLY_ADAPTED:
        settle(r, w, reply, ATTEMPT_ADAPTED, SAMPLE_LEASED, true);
        runner_put_later(r, w, 0);
        break;
    case REPLY_DOWN:
        r->retries++;
        settle(r, w, reply, ATTEMPT_OUTAGE, SAMPLE_LEASED, true);
        runner_put_later(r, w, backoff(r, 3));
        if (r->ever_ok) /* others would not be answered, either */
            pace_refused(&r->pace, DOWN_MS * 1000000ull, clock_ns());
        note_failure(r, reply);
        break;
    case REPLY_FATAL:
        settle(r, w, reply, ATTEMPT_OUTAGE, SAMPLE_PENDING, false);
        note_problem(r, reply);
        runner_stop(r, RUN_ENDED_OUTAGE, true, "%.80s: %.150s",
                    r->o->where ? r->o->where : "the endpoint", r->problem);
        break;
    default: /* REPLY_RETRY, REPLY_BAD */
        on_retry(r, w, reply);
        break;
    }
}
