/* server/cli_run.c - one generation from start to end, for the verbs that wait for it. The engine
 * thread fills the result under the lock; the caller waits for the last event. SIGINT sets a flag
 * that the waiting thread turns into a cancel. */
#include "server/cli.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, failed;
    bool echo;
    struct cli_result *res;
    size_t cap_tok, cap_lp;
    struct err err;
};

static volatile sig_atomic_t interrupted; /* set by the handler, read by the waiting thread */

static void on_sigint(int sig)
{
    interrupted = sig;
}

void cli_result_clear(struct cli_result *r)
{
    buf_clear(&r->text);
    token_list_clear(&r->tokens);
    free(r->logprob);
    *r = (struct cli_result){ 0 };
}

/* Doubles the array when full. NULL: no memory. */
static void *grow(void *p, size_t n, size_t *cap, size_t elem)
{
    if (n < *cap)
        return p;
    size_t want = *cap ? *cap * 2 : 256;
    void *q = realloc(p, want * elem);
    if (q)
        *cap = want;
    return q;
}

static bool add_token(struct waiter *w, int32_t id)
{
    struct token_list *t = &w->res->tokens;
    int32_t *p = grow(t->id, t->n, &w->cap_tok, sizeof *p);
    if (!p)
        return false;
    t->id = p;
    t->id[t->n++] = id;
    return true;
}

static bool add_logprob(struct waiter *w, float lp)
{
    double *p = grow(w->res->logprob, w->res->n_logprob, &w->cap_lp, sizeof *p);
    if (!p)
        return false;
    w->res->logprob = p;
    p[w->res->n_logprob++] = (double)lp;
    return true;
}

static void take_text(struct waiter *w, struct str text)
{
    buf_str(&w->res->text, text);
    if (w->echo && text.n) {
        fwrite(text.p, 1, text.n, stdout);
        fflush(stdout);
    }
}

static void finish(struct waiter *w, const struct gen_event *ev)
{
    struct cli_result *r = w->res;
    r->finish = ev->finish;
    r->prompt_tokens = ev->prompt_tokens;
    r->cached_tokens = ev->cached_tokens;
    r->duo = ev->duo;
    r->completion_tokens = ev->completion_tokens;
    r->queue_ms = ev->queue_ms;
    r->prefill_ms = ev->prefill_ms;
    r->decode_ms = ev->decode_ms;
    if (ev->finish == FINISH_ERROR && ev->err)
        w->err = *ev->err;
    w->done = true;
}

static void on_event(void *ctx, const struct gen_event *ev)
{
    struct waiter *w = ctx;
    pthread_mutex_lock(&w->lock);
    if (ev->kind == GEN_PROMPT && ev->logprob == ev->logprob)
        w->failed |= !add_logprob(w, ev->logprob);
    if (ev->kind == GEN_TOKEN)
        w->failed |= !add_token(w, ev->token);
    if (ev->kind == GEN_TOKEN || ev->kind == GEN_DONE)
        take_text(w, ev->text);
    if (ev->kind == GEN_DONE)
        finish(w, ev);
    bool done = w->done;
    pthread_mutex_unlock(&w->lock);
    if (done)
        pthread_cond_signal(&w->changed);
}

static void wait_done(struct waiter *w, struct engine *e, uint64_t id)
{
    bool cancelled = false;
    pthread_mutex_lock(&w->lock);
    while (!w->done) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 50000000; /* 50 ms: how late a ctrl-C may be noticed */
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&w->changed, &w->lock, &until);
        if (interrupted && !cancelled && !w->done) {
            cancelled = true;
            pthread_mutex_unlock(&w->lock);
            engine_cancel(e, id);
            pthread_mutex_lock(&w->lock);
        }
    }
    pthread_mutex_unlock(&w->lock);
}

enum status cli_run(struct engine *e, const struct token_list *prompt, const struct gen_params *p,
                    bool echo, struct cli_result *ret, struct err *err)
{
    struct cli_result res = { 0 };
    struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER,
                        .echo = echo,
                        .res = &res,
                        .err = ERR_INIT };
    struct sigaction sa = { .sa_handler = on_sigint, .sa_flags = SA_RESETHAND }, old;
    sigaction(SIGINT, &sa, &old); /* a second ctrl-C ends the program at once */
    uint64_t id;
    if (engine_submit(e, prompt->id, prompt->n, p, on_event, &w, &id, err) == ST_OK) {
        wait_done(&w, e, id);
        if (w.err.code != ST_OK)
            *err = w.err;
        else if (w.failed || res.text.failed)
            err_set(err, ST_NOMEM, "keeping the result");
    }
    sigaction(SIGINT, &old, NULL);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.changed);
    if (err->code != ST_OK)
        cli_result_clear(&res);
    else
        *ret = res;
    return err->code;
}
