/* tests/fault/ask.c - see ask.h. */
#include "tests/fault/ask.h"

#include "tests/support/fault.h"

#include <assert.h>
#include <pthread.h>

struct waiter {
    struct answer *a;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool done;
};

static void on_event(void *ctx, const struct gen_event *ev)
{
    struct waiter *w = ctx;
    fault_pause();
    pthread_mutex_lock(&w->lock);
    assert(!w->done);
    if (ev->kind == GEN_TOKEN) {
        assert(w->a->n < ASK_MAX);
        w->a->token[w->a->n++] = ev->token;
    } else if (ev->kind == GEN_DONE) {
        w->a->finish = ev->finish;
        if (ev->finish == FINISH_ERROR)
            w->a->err = *ev->err;
        w->done = true;
        pthread_cond_signal(&w->moved);
    }
    pthread_mutex_unlock(&w->lock);
    fault_resume();
}

enum status ask(struct engine *e, uint32_t max_tokens, struct answer *a)
{
    return ask_prompt(e, ASK_PROMPT, max_tokens, a);
}

enum status ask_prompt(struct engine *e, uint32_t n_prompt, uint32_t max_tokens, struct answer *a)
{
    int32_t prompt[ASK_PROMPT_MAX];
    assert(n_prompt <= ASK_PROMPT_MAX);
    for (uint32_t i = 0; i < n_prompt; i++)
        prompt[i] = 40 + 10 * (int32_t)(i % 20);
    struct waiter w = { .a = a,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .moved = PTHREAD_COND_INITIALIZER };
    struct gen_params p;
    uint64_t id;
    gen_params_init(&p);
    p.max_tokens = max_tokens;
    p.temperature = 0;
    p.ignore_eos = true;
    p.cache_prompt = false;
    p.logprobs = 2;
    p.stop[0] = "not to be found";
    p.n_stop = 1;
    *a = (struct answer){ .n = 0 };
    if (engine_submit(e, prompt, n_prompt, &p, on_event, &w, &id, &a->err) != ST_OK)
        return a->err.code;
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.moved, &w.lock);
    pthread_mutex_unlock(&w.lock);
    return a->err.code;
}

void answer_print(const struct answer *a, struct buf *out)
{
    buf_printf(out, "%s:", gen_finish_name(a->finish));
    for (uint32_t i = 0; i < a->n; i++)
        buf_printf(out, " %d", a->token[i]);
}
