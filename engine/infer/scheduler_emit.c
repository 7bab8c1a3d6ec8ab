/* engine/infer/scheduler_emit.c - events, and how a request ends. See scheduler.h. */
#include "engine/base/clock.h"
#include "engine/infer/scheduler_internal.h"
#include "engine/kernel/vector.h"

#include <math.h>

static double ms_between(uint64_t from, uint64_t to)
{
    return from && to > from ? (double)(to - from) * 1e-6 : 0;
}

static struct gen_event event_of(enum gen_kind kind, const struct request *r)
{
    return (struct gen_event){
        .kind = kind,
        .token = -1,
        .text = { "", 0 },
        .logprob = NAN,
        .prompt_tokens = r->n_prompt,
        .cached_tokens = r->n_cached,
        .completion_tokens = r->n_generated,
    };
}

void emit_started(struct session *ses)
{
    struct gen_event ev = event_of(GEN_STARTED, ses->req);
    ses->req->fn(ses->req->ctx, &ev);
}

/* Log-probability of `token` and the alternatives the request asked for, into ev and top. */
static void add_logprobs(struct scheduler *s, const struct request *r, const float *row,
                         int32_t token, struct gen_logprob top[GEN_LOGPROBS_MAX],
                         struct gen_event *ev)
{
    double lse = vec_logsumexp(s->in.kernels, row, s->in.n_vocab);
    ev->logprob = (float)((double)row[token] - lse);
    if (r->p.logprobs > 0)
        ev->n_top = sampler_top(row, s->in.n_vocab, lse, (size_t)r->p.logprobs, top);
    ev->top = top;
}

/* ---- the prompt ---- */

/* row: logits that predicted the token, NULL for the first. */
static enum status emit_prompt_token(struct scheduler *s, struct session *ses, const float *row,
                                     struct err *err)
{
    struct request *r = ses->req;
    uint32_t i = r->n_echoed;
    struct gen_logprob top[GEN_LOGPROBS_MAX];
    struct gen_event ev = event_of(GEN_PROMPT, r);
    ev.token = ses->token[i];
    buf_reset(&s->piece);
    tokenizer_piece(s->in.tok, ev.token, !r->echo_has_text, false, &s->piece);
    r->echo_has_text |= s->piece.n > 0;
    if (buf_ok(&s->piece, "prompt text", err) ||
        stream_text_push(&r->echo, buf_view(&s->piece), &ev.text, err))
        return err->code;
    if (i + 1 == r->n_prompt) { /* an unfinished character at the end goes with the last token */
        buf_reset(&s->piece);
        buf_str(&s->piece, ev.text);
        if (stream_text_end(&r->echo, &ev.text, err))
            return err->code;
        buf_str(&s->piece, ev.text);
        ev.text = buf_view(&s->piece);
    }
    if (row)
        add_logprobs(s, r, row, ev.token, top, &ev);
    r->n_echoed++;
    r->fn(r->ctx, &ev);
    return ST_OK;
}

enum status emit_prompt(struct scheduler *s, struct session *ses, const float *rows, uint32_t pos0,
                        uint32_t n_row, struct err *err)
{
    struct request *r = ses->req;
    if (r->n_echoed == 0 && emit_prompt_token(s, ses, NULL, err))
        return err->code;
    for (uint32_t i = 0; i < n_row && pos0 + i + 1 < r->n_prompt; i++) {
        if (atomic_load_explicit(&r->cancel, memory_order_relaxed))
            return ST_OK;
        if (emit_prompt_token(s, ses, rows + (size_t)i * s->in.n_vocab, err))
            return err->code;
    }
    return ST_OK;
}

/* ---- the continuation ---- */

static bool is_eog(const struct scheduler *s, int32_t token)
{
    for (size_t i = 0; i < s->n_eog; i++)
        if (s->eog[i] == token)
            return true;
    return false;
}

bool scheduler_ends(const struct scheduler *s, const struct session *ses, int32_t token)
{
    return !ses->req->p.ignore_eos && is_eog(s, token);
}

int32_t scheduler_pick(struct scheduler *s, const struct session *ses, const float *row,
                       uint32_t at)
{
    const struct request *r = ses->req;
    const struct sampler_row in = {
        .logits = row,
        .token = ses->token,
        .n_prompt = r->n_prompt,
        .n_token = at,
        .banned = s->eog,
        .n_banned = r->p.ignore_eos ? s->n_eog : 0,
    };
    return sampler_pick(s->sampler, &r->p, &in);
}

static enum status emit_token(struct scheduler *s, struct session *ses, int32_t token,
                              const float *row, struct err *err)
{
    struct request *r = ses->req;
    struct gen_logprob top[GEN_LOGPROBS_MAX];
    ses->token[ses->n_token++] = token; /* room: a full context has ended the request before */
    r->n_generated++;
    s->own.generated_tokens++;
    trace_emitted(s->in.trace, r->p.trace);
    struct gen_event ev = event_of(GEN_TOKEN, r);
    ev.token = token;
    buf_reset(&s->piece);
    tokenizer_piece(s->in.tok, token, false, false, &s->piece);
    if (buf_ok(&s->piece, "token text", err) ||
        stream_text_push(&r->text, buf_view(&s->piece), &ev.text, err))
        return err->code;
    if (r->p.logprobs >= 0)
        add_logprobs(s, r, row, token, top, &ev);
    r->fn(r->ctx, &ev);
    return ST_OK;
}

void emit_next(struct scheduler *s, struct session *ses, const float *row)
{
    struct request *r = ses->req;
    struct err err = ERR_INIT;
    int32_t token = scheduler_pick(s, ses, row, ses->n_token);
    if (token < 0) {
        err_set(&err, ST_FORMAT, "position %u: the model gave no usable logits", ses->n_token);
        emit_done(s, ses, r, FINISH_ERROR, &err);
    } else if (scheduler_ends(s, ses, token)) {
        emit_done(s, ses, r, FINISH_STOP, NULL);
    } else if (emit_token(s, ses, token, row, &err) != ST_OK) {
        emit_done(s, ses, r, FINISH_ERROR, &err);
    } else if (stream_text_stop(&r->text)) {
        emit_done(s, ses, r, FINISH_STOP, NULL);
    } else if (r->n_generated >= r->p.max_tokens || ses->n_token > s->in.n_ctx) {
        emit_done(s, ses, r, FINISH_LENGTH, NULL);
    }
}

/* ---- the end ---- */

static void count_end(struct scheduler *s, enum gen_finish finish)
{
    s->own.cancelled += finish == FINISH_CANCELLED;
    s->own.errors += finish == FINISH_ERROR;
}

void emit_done(struct scheduler *s, struct session *ses, struct request *r, enum gen_finish finish,
               const struct err *cause)
{
    uint64_t now = clock_ns();
    struct gen_event ev = event_of(GEN_DONE, r);
    struct err text_err = ERR_INIT;
    if (stream_text_end(&r->text, &ev.text, &text_err) && finish != FINISH_ERROR) {
        finish = FINISH_ERROR;
        cause = &text_err;
    }
    ev.finish = finish;
    ev.err = finish == FINISH_ERROR ? cause : NULL;
    ev.stop_text = finish == FINISH_STOP ? stream_text_stop(&r->text) : NULL;
    ev.queue_ms = ms_between(r->submit_ns, r->admit_ns ? r->admit_ns : now);
    ev.prefill_ms = ms_between(r->admit_ns, r->first_ns ? r->first_ns : now);
    ev.decode_ms = ms_between(r->first_ns, now);
    ev.duo = r->tally;
    count_end(s, finish);
    if (ses) {
        pthread_mutex_lock(&s->lock);
        ses->req = NULL;
        pthread_mutex_unlock(&s->lock);
        ses->used = ++s->use_count;
    }
    scheduler_publish(s); /* who sees the end also sees it counted */
    r->fn(r->ctx, &ev);
    request_free(r);
    pthread_mutex_lock(&s->lock);
    s->n_live--;
    pthread_mutex_unlock(&s->lock);
}
