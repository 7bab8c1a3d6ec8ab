/* tests/unit/engine/client.c - see client.h. */
#include "tests/unit/engine/client.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

void client_init(struct client *c)
{
    *c = (struct client){ 0 };
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->moved, NULL);
}

void client_clear(struct client *c)
{
    buf_clear(&c->text);
    buf_clear(&c->prompt_text);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->moved);
}

static void note_token(struct client *c, const struct gen_event *ev)
{
    double mass = 0;
    for (size_t i = 0; i < ev->n_top; i++)
        mass += exp((double)ev->top[i].logprob);
    c->token[c->n_token] = ev->token;
    c->logprob[c->n_token] = ev->logprob;
    c->top_mass[c->n_token] = mass;
    c->top1[c->n_token] = ev->n_top ? ev->top[0].token : -1;
    c->n_token++;
    buf_str(&c->text, ev->text);
}

static void note_done(struct client *c, const struct gen_event *ev)
{
    c->n_done++;
    c->finish = ev->finish;
    c->cached = ev->cached_tokens;
    c->prompt_tokens = ev->prompt_tokens;
    snprintf(c->stop, sizeof c->stop, "%s", ev->stop_text ? ev->stop_text : "");
    snprintf(c->message, sizeof c->message, "%s", ev->err ? ev->err->msg : "");
    buf_str(&c->text, ev->text);
}

void client_event(void *ctx, const struct gen_event *ev)
{
    struct client *c = ctx;
    pthread_mutex_lock(&c->lock);
    cr_assert_eq(c->n_done, 0, "an event after the last");
    if (ev->kind == GEN_STARTED) {
        c->n_started++;
    } else if (ev->kind == GEN_PROMPT) {
        c->prompt_logprob[c->n_prompt++] = ev->logprob;
        buf_str(&c->prompt_text, ev->text);
    } else if (ev->kind == GEN_TOKEN) {
        note_token(c, ev);
    } else {
        note_done(c, ev);
    }
    pthread_cond_broadcast(&c->moved);
    while (c->hold_at && c->n_token >= c->hold_at)
        pthread_cond_wait(&c->moved, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

void client_release(struct client *c)
{
    pthread_mutex_lock(&c->lock);
    c->hold_at = 0;
    pthread_cond_broadcast(&c->moved);
    pthread_mutex_unlock(&c->lock);
}

void client_await_done(struct client *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->n_done == 0)
        pthread_cond_wait(&c->moved, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

void client_await_tokens(struct client *c, uint32_t n)
{
    pthread_mutex_lock(&c->lock);
    while (c->n_token < n && c->n_done == 0)
        pthread_cond_wait(&c->moved, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

void client_send(struct client *c, struct engine *e, const char *prompt, const struct gen_params *p)
{
    client_send_held(c, e, prompt, p, 0);
}

void client_send_held(struct client *c, struct engine *e, const char *prompt,
                      const struct gen_params *p, uint32_t hold_at)
{
    struct err err = ERR_INIT;
    struct token_list t = { 0 };
    client_init(c);
    c->hold_at = hold_at;
    cr_assert_eq(engine_tokenize(e, str_c(prompt), true, false, &t, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(engine_submit(e, t.id, t.n, p, client_event, c, &c->id, &err), ST_OK, "%s",
                 err.msg);
    token_list_clear(&t);
}

void client_run(struct client *c, struct engine *e, const char *prompt, const struct gen_params *p)
{
    client_send(c, e, prompt, p);
    client_await_done(c);
}
