/* tests/unit/infer/scheduler_rig.c - see scheduler_rig.h. */
#include "tests/unit/infer/scheduler_rig.h"

#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* ---- what a client sees ---- */

void seen_init(struct seen *s)
{
    *s = (struct seen){ 0 };
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->moved, NULL);
}

void seen_clear(struct seen *s)
{
    buf_clear(&s->text);
    buf_clear(&s->prompt_text);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->moved);
}

static void note_done(struct seen *s, const struct gen_event *ev)
{
    s->n_done++;
    s->finish = ev->finish;
    s->cached = ev->cached_tokens;
    s->completion = ev->completion_tokens;
    if (ev->err)
        s->err = *ev->err;
    snprintf(s->stop, sizeof s->stop, "%s", ev->stop_text ? ev->stop_text : "");
    buf_str(&s->text, ev->text);
}

void on_event(void *ctx, const struct gen_event *ev)
{
    struct seen *s = ctx;
    pthread_mutex_lock(&s->lock);
    s->out_of_order |=
        s->n_done > 0 || (ev->kind != GEN_STARTED && ev->kind != GEN_DONE && s->n_started != 1);
    switch (ev->kind) {
    case GEN_STARTED:
        s->n_started++;
        break;
    case GEN_PROMPT:
        s->out_of_order |= s->n_token > 0;
        s->prompt_logprob[s->n_prompt++] = ev->logprob;
        buf_str(&s->prompt_text, ev->text);
        break;
    case GEN_TOKEN:
        s->token[s->n_token] = ev->token;
        s->best[s->n_token] = ev->n_top ? ev->top[0].token : -1;
        s->n_top = ev->n_top;
        s->logprob[s->n_token++] = ev->logprob;
        buf_str(&s->text, ev->text);
        break;
    case GEN_DONE:
        note_done(s, ev);
        break;
    }
    bool cancel = ev->kind == GEN_TOKEN && s->cancel_in && s->n_token == s->cancel_after;
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->lock);
    if (cancel)
        scheduler_cancel(s->cancel_in, s->id);
}

void seen_await(struct seen *s, const uint32_t *counter, uint32_t n)
{
    pthread_mutex_lock(&s->lock);
    while (*counter < n)
        pthread_cond_wait(&s->moved, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void await_done(struct seen *s)
{
    seen_await(s, &s->n_done, 1);
    cr_assert_not(s->out_of_order, "events out of order");
}

/* ---- the oracle ---- */

struct gen_params greedy(uint32_t max_tokens)
{
    struct gen_params p;
    gen_params_init(&p);
    p.temperature = 0;
    p.max_tokens = max_tokens;
    return p;
}

/* Decodes alone; returns the generated tokens. */
uint32_t solo(const int32_t *prompt, uint32_t n_prompt, const struct gen_params *p, uint32_t n_ctx,
              int32_t *out)
{
    struct sampler *smp = NULL;
    struct err err = ERR_INIT;
    float row[FAKE_VOCAB];
    static const int32_t eog[] = { 0 };
    int32_t token[SEEN_MAX + 1];
    cr_assert_eq(sampler_create(FAKE_VOCAB, &smp, &err), ST_OK);
    memcpy(token, prompt, n_prompt * sizeof *token);
    uint32_t n = n_prompt;
    while (n - n_prompt < p->max_tokens && n <= n_ctx) {
        fake_row(token, n, row);
        struct sampler_row r = { row, token, n_prompt, n, eog, p->ignore_eos ? 1 : 0 };
        int32_t t = sampler_pick(smp, p, &r);
        if (t == 0 && !p->ignore_eos)
            break;
        token[n++] = t;
    }
    sampler_free(smp);
    memcpy(out, token + n_prompt, (n - n_prompt) * sizeof *out);
    return n - n_prompt;
}

void expect_solo(const struct seen *s, const int32_t *prompt, uint32_t n_prompt,
                 const struct gen_params *p, uint32_t n_ctx, const char *what)
{
    int32_t want[SEEN_MAX];
    uint32_t n = solo(prompt, n_prompt, p, n_ctx, want);
    cr_assert_eq(s->n_done, 1, "%s", what);
    cr_assert_eq(s->n_token, n, "%s: %u tokens, alone %u", what, s->n_token, n);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(s->token[i], want[i], "%s: token %u is %d, alone %d", what, i, s->token[i],
                     want[i]);
    cr_assert_eq(s->completion, n);
}

void fill_prompt(int32_t *prompt, uint32_t n, uint64_t key)
{
    for (uint32_t i = 0; i < n; i++)
        prompt[i] = 1 + (int32_t)(rng_at(key, i) % (FAKE_VOCAB - 1));
}

/* ---- one scheduler to play with ---- */

void rig_open_with(struct rig *g, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch,
                   uint32_t queue_max, bool streaming)
{
    struct err err = ERR_INIT;
    *g = (struct rig){ .n_ctx = n_ctx };
    fake_init(&g->fake, n_slot, n_ctx, n_batch);
    struct scheduler_in in = fake_scheduler_in(&g->fake, n_batch, queue_max);
    in.streaming = streaming;
    cr_assert_eq(scheduler_create(&in, &g->s, &err), ST_OK, "%s", err.msg);
}

void rig_open_spans(struct rig *g, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch,
                    uint32_t n_span)
{
    struct err err = ERR_INIT;
    *g = (struct rig){ .n_ctx = n_ctx };
    fake_init(&g->fake, n_slot, n_ctx, n_batch);
    g->fake.max_tok = n_span;
    struct scheduler_in in = fake_scheduler_in(&g->fake, n_batch, 8);
    in.streaming = true;
    in.n_span = n_span;
    cr_assert_eq(scheduler_create(&in, &g->s, &err), ST_OK, "%s", err.msg);
}

void rig_open_drafting(struct rig *g, const struct rig_draft *d, uint32_t n_slot, uint32_t n_ctx,
                       uint32_t n_batch)
{
    struct err err = ERR_INIT;
    *g = (struct rig){ .n_ctx = n_ctx };
    fake_init(&g->fake, n_slot, n_ctx, n_batch);
    fake_init(&g->small, n_slot, d->n_ctx, n_batch);
    struct scheduler_in in = fake_scheduler_in(&g->fake, n_batch, 64);
    struct drafter_in di = { .source = d->source,
                             .forward = in.forward,
                             .n_slot = n_slot,
                             .n_batch = n_batch,
                             .n_ctx = n_ctx,
                             .n_vocab = FAKE_VOCAB,
                             .width = FAKE_VOCAB };
    g->fake.pass_us = d->pass_us;
    if (d->source == DRAFT_MODEL) {
        g->small.draft_model = true;
        g->small.wrong_one_in = d->wrong_one_in;
        di.forward = (struct forward *)&g->small;
        di.n_ctx = d->n_ctx;
    } else {
        g->fake.wrong_one_in = d->wrong_one_in;
    }
    cr_assert_eq(drafter_create(&di, &g->drafter, &err), ST_OK, "%s", err.msg);
    in.drafter = g->drafter;
    in.streaming = d->streaming;
    in.dear_tok = d->dear_tok;
    cr_assert_eq(scheduler_create(&in, &g->s, &err), ST_OK, "%s", err.msg);
}

void rig_open(struct rig *g, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch)
{
    rig_open_with(g, n_slot, n_ctx, n_batch, 64, false);
}

void rig_close(struct rig *g)
{
    scheduler_free(g->s);
    drafter_free(g->drafter);
    fake_clear(&g->fake);
    if (g->small.kv)
        fake_clear(&g->small);
}

void rig_send(struct rig *g, const int32_t *prompt, uint32_t n, const struct gen_params *p,
              struct seen *seen)
{
    struct err err = ERR_INIT;
    cr_assert_eq(scheduler_submit(g->s, prompt, n, p, on_event, seen, &seen->id, &err), ST_OK, "%s",
                 err.msg);
}

/* Sends, waits, compares with the oracle. */
void run_alone(struct rig *g, const int32_t *prompt, uint32_t n, const struct gen_params *p,
               struct seen *seen)
{
    seen_init(seen);
    rig_send(g, prompt, n, p, seen);
    await_done(seen);
    expect_solo(seen, prompt, n, p, g->n_ctx, "alone");
}
