/* engine/infer/scheduler_step.c - what runs in a pass. See scheduler.h. */
#include "engine/base/clock.h"
#include "engine/infer/scheduler_internal.h"

#include <string.h>

/* While someone decodes, prompts get n_batch / PROMPT_SHARE tokens of a pass, at least
 * PROMPT_LEAST: a reader then waits for a short pass, not for a full one, and the prompt still
 * moves in batches that use the weights well. */
enum { PROMPT_SHARE = 4, PROMPT_LEAST = 32 };

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static bool cancelled(const struct request *r)
{
    return atomic_load_explicit(&r->cancel, memory_order_relaxed);
}

/* ---- leaving and entering slots ---- */

/* First cancelled request of the queue, taken out; NULL: none. */
static struct request *take_cancelled(struct scheduler *s)
{
    struct request *found = NULL, *before = NULL;
    pthread_mutex_lock(&s->lock);
    for (struct request *r = s->head; r; before = r, r = r->next) {
        if (!cancelled(r))
            continue;
        if (before)
            before->next = r->next;
        else
            s->head = r->next;
        if (s->tail == r)
            s->tail = before;
        s->n_queued--;
        found = r;
        break;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

static void reap(struct scheduler *s)
{
    struct request *r;
    while ((r = take_cancelled(s)))
        emit_done(s, NULL, r, FINISH_CANCELLED, NULL);
    for (uint32_t i = 0; i < s->in.n_slot; i++) {
        struct session *ses = &s->session[i];
        if (ses->req && cancelled(ses->req))
            emit_done(s, ses, ses->req, FINISH_CANCELLED, NULL);
    }
}

static bool any_free(const struct scheduler *s)
{
    for (uint32_t i = 0; i < s->in.n_slot; i++)
        if (!s->session[i].req)
            return true;
    return false;
}

static struct request *take_first(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    struct request *r = s->head;
    if (r) {
        s->head = r->next;
        if (!s->head)
            s->tail = NULL;
        s->n_queued--;
        s->admitting = r;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

static void admit(struct scheduler *s)
{
    struct request *r;
    while (any_free(s) && (r = take_first(s))) {
        uint32_t n_reuse;
        struct session *ses = session_choose(s->session, s->in.n_slot, s->in.kv, r, &n_reuse);
        memcpy(ses->token + n_reuse, r->prompt + n_reuse,
               (r->n_prompt - n_reuse) * sizeof *r->prompt);
        ses->n_token = r->n_prompt;
        ses->duo = r->p.duo;
        ses->n_kept = r->n_cached = n_reuse;
        ses->used = ++s->use_count;
        scheduler_draft_admit(s, ses);
        r->admit_ns = clock_ns();
        s->own.prompt_tokens += r->n_prompt;
        s->own.prompt_tokens_cached += n_reuse;
        pthread_mutex_lock(&s->lock);
        ses->req = r;
        s->admitting = NULL;
        pthread_mutex_unlock(&s->lock);
        emit_started(ses);
    }
}

/* ---- filling the pass ---- */

static bool in_prompt(const struct session *ses)
{
    return ses->n_token == ses->req->n_prompt && ses->req->n_generated == 0;
}

bool scheduler_decodes(const struct session *ses)
{
    return ses->req && !in_prompt(ses);
}

static void add_seq(struct scheduler *s, struct session *ses, uint32_t n_tok, uint32_t n_logits)
{
    s->seq[s->n_seq] = (struct batch_seq){
        .slot = ses->slot,
        .pos0 = ses->n_kept,
        .n_tok = n_tok,
        .token = ses->token + ses->n_kept,
        .n_logits = n_logits,
        .cancel = &ses->req->cancel,
        .duo = &ses->req->p.duo,
        .tally = &ses->req->tally,
    };
    s->who[s->n_seq++] = ses;
}

/* Sessions in their prompt, oldest request first, into s->wait. */
static size_t list_prompts(struct scheduler *s)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->in.n_slot; i++) {
        struct session *ses = &s->session[i];
        if (!ses->req || !in_prompt(ses))
            continue;
        size_t at = n++;
        for (; at > 0 && s->wait[at - 1]->req->id > ses->req->id; at--)
            s->wait[at] = s->wait[at - 1];
        s->wait[at] = ses;
    }
    return n;
}

/* Shares `budget` tokens and `rows` of logits beyond one per slot: equal parts, and what a short
 * prompt leaves goes to those behind it. */
static void add_prompts(struct scheduler *s, size_t n_wait, uint32_t budget, uint32_t rows)
{
    for (size_t i = 0; i < n_wait; i++) {
        struct session *ses = s->wait[i];
        const struct gen_params *p = &ses->req->p;
        uint32_t parts = (uint32_t)(n_wait - i), share = (budget + parts - 1) / parts;
        uint32_t left = ses->n_token - ses->n_kept, n_tok = min_u32(left, share);
        if (p->prompt_logprobs)
            n_tok = min_u32(n_tok, rows);
        if (n_tok == 0)
            continue;
        uint32_t n_logits = n_tok == left && p->max_tokens > 0;
        if (p->prompt_logprobs) {
            n_logits = n_tok;
            rows -= n_tok;
        }
        budget -= n_tok;
        add_seq(s, ses, n_tok, n_logits);
    }
}

/* Returns whether the pass works on prompts. */
static bool fill_pass(struct scheduler *s)
{
    uint32_t rows = scheduler_max_logits(s->in.n_slot, s->in.n_vocab) - s->in.n_slot;
    uint32_t budget = s->in.n_batch;
    s->pass_done = 0;
    size_t n_wait = list_prompts(s);
    s->n_seq = 0;
    /* Guesses take rows of logits, of which every session has its own one, and tokens of the pass.
     * Prompts first: their tokens are certain. */
    scheduler_draft(s, n_wait ? 0 : min_u32(rows, budget));
    for (uint32_t i = 0; i < s->in.n_slot; i++) {
        struct session *ses = &s->session[i];
        if (!scheduler_decodes(ses))
            continue;
        add_seq(s, ses, 1 + ses->n_draft, 1 + ses->n_draft);
        rows -= ses->n_draft;
        budget -= ses->n_draft;
    }
    if (s->n_seq > 0 && !s->in.streaming) {
        uint32_t part = budget / PROMPT_SHARE;
        budget = min_u32(budget, part > PROMPT_LEAST ? part : PROMPT_LEAST);
    }
    if (s->n_seq == 0 && s->in.n_span > budget)
        budget = s->in.n_span;
    add_prompts(s, n_wait, budget, rows);
    return n_wait > 0;
}

/* ---- the pass and its results ---- */

/* The token that the pass chose, and as long as it is the guessed one, the token chosen after it.
 */
static void emit_verified(struct scheduler *s, struct session *ses, const float *row)
{
    const struct request *r = ses->req;
    uint32_t n_draft = ses->n_draft, right = 0;
    ses->n_draft = 0;
    emit_next(s, ses, row);
    while (ses->req == r && right < n_draft && !cancelled(r) &&
           ses->token[ses->n_token - 1] == ses->draft[right]) {
        ses->n_kept++; /* the guess's keys and values stand */
        right++;
        emit_next(s, ses, row + (size_t)right * s->in.n_vocab);
    }
    scheduler_draft_judge(s, ses, n_draft, right);
}

static void digest(struct scheduler *s, struct session *ses, const struct batch_seq *seq,
                   const float *rows)
{
    struct request *r = ses->req;
    ses->n_kept += seq->n_tok - ses->n_draft;
    if (cancelled(r)) /* no events after a cancel but the last; reap() sends it */
        return;
    if (in_prompt(ses)) {
        struct err err = ERR_INIT;
        if (r->p.prompt_logprobs &&
            emit_prompt(s, ses, rows, seq->pos0, seq->n_tok, &err) != ST_OK) {
            emit_done(s, ses, r, FINISH_ERROR, &err);
            return;
        }
        if (ses->n_kept < r->n_prompt || cancelled(r))
            return;
        r->first_ns = clock_ns();
        if (r->p.max_tokens == 0) {
            emit_done(s, ses, r, FINISH_LENGTH, NULL);
            return;
        }
    }
    emit_verified(s, ses, rows + (size_t)(seq->n_logits - 1 - ses->n_draft) * s->in.n_vocab);
}

/* A failed pass: its positions are void, which n_kept never counted. */
static void fail_pass(struct scheduler *s, const struct err *err)
{
    for (size_t i = 0; i < s->n_seq; i++) {
        struct request *r = s->who[i]->req;
        if (cancelled(r))
            emit_done(s, s->who[i], r, FINISH_CANCELLED, NULL);
        else
            emit_done(s, s->who[i], r, FINISH_ERROR, err);
    }
}

static uint32_t n_tokens(const struct scheduler *s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s->n_seq; i++)
        n += s->seq[i].n_tok;
    return n;
}

static void trace_begin(struct scheduler *s, uint64_t now_ns)
{
    trace_pass_begin(s->in.trace, now_ns);
    for (size_t i = 0; i < s->n_seq; i++)
        trace_join(s->in.trace, s->who[i]->req->p.trace, s->seq[i].n_tok, in_prompt(s->who[i]));
}

/* Whether the coming pass does with the neurons in memory. */
static bool reuses(const struct scheduler *s)
{
    bool one_each = s->reuse_left > 0 && (!s->in.dear_tok || s->n_seq < s->in.dear_tok);
    for (size_t i = 0; i < s->n_seq; i++)
        one_each &= s->seq[i].n_tok == 1;
    return one_each;
}

static void set_reads(struct scheduler *s)
{
    bool reuse = reuses(s);
    s->reuse_left = reuse ? s->reuse_left - 1 : s->in.reuse;
    s->own.reuse_passes += reuse;
    weights_set_reads(s->in.weights, reuse ? WEIGHTS_REUSE : WEIGHTS_READ);
}

static void run_pass(struct scheduler *s)
{
    bool prompts = fill_pass(s);
    uint64_t start = clock_ns();
    trace_begin(s, start);
    if (s->in.reuse)
        set_reads(s);
    const float *logits = NULL;
    struct err err = ERR_INIT;
    enum status st = forward_run(s->in.forward, s->seq, s->n_seq, &logits, &err);
    uint64_t took = clock_ns() - start;
    s->pass_done = 0;
    trace_pass_end(s->in.trace, start + took, n_tokens(s));
    s->own.passes++;
    *(prompts ? &s->own.prefill_ns : &s->own.decode_ns) += took;
    if (st == ST_OK && !prompts)
        draft_costs_add(&s->costs, n_tokens(s), (double)took * 1e-9);
    if (st != ST_OK) {
        fail_pass(s, &err);
        return;
    }
    for (size_t i = 0; i < s->n_seq; i++) {
        digest(s, s->who[i], &s->seq[i], logits);
        if (s->seq[i].n_logits)
            logits += (size_t)s->seq[i].n_logits * s->in.n_vocab;
    }
}

void scheduler_on_chunk(void *ctx, double done)
{
    struct scheduler *s = ctx;
    s->pass_done = done;
    scheduler_publish(s);
}

static bool any_active(const struct scheduler *s)
{
    for (uint32_t i = 0; i < s->in.n_slot; i++)
        if (s->session[i].req)
            return true;
    return false;
}

bool scheduler_step(struct scheduler *s)
{
    reap(s);
    admit(s);
    if (!any_active(s))
        return false;
    run_pass(s);
    scheduler_publish(s);
    return true;
}
