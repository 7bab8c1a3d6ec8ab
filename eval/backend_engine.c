/* eval/backend_engine.c - the engine in this process. What all questions share (preamble and worked
 * examples) is computed once, before the first question; the engine copies its keys and values to
 * the slot of each question. See backend.h.
 *
 *   backend_ask -> engine_submit -> on_event (engine thread) -> queue -> backend_poll */
#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "engine/base/queue.h"
#include "engine/engine.h"
#include "eval/backend.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { QUEUE_MAX = 1024 };

struct ask {
    struct local *owner;
    void *tag; /* NULL: the shared part */
    uint64_t id, sent_ns;
    int64_t sent_ms;
    struct buf text;
    char hash[65];
    enum gen_finish finish;
    char error[ERR_MSG_MAX];
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
    bool dropped;
    struct ask *next;
};

struct local {
    struct backend base;
    struct engine *engine;
    struct ask_opts o;
    struct buf prefix; /* completions: text that all share */
    struct queue *done;
    struct ask *live; /* asked and not yet polled; this thread's */
    char wake;        /* its address is the message that wakes */
    bool warm;        /* the shared part was asked for */
};

static struct local *of(struct backend *b)
{
    return (struct local *)b;
}

/* ---- prompts as tokens ---- */

static enum status chat_text(struct engine *e, const struct ask_opts *a, struct str question,
                             struct buf *out, struct err *err)
{
    struct buf body = BUF_INIT;
    json_t *doc = NULL;
    buf_z(&body, "{\"messages\":");
    prompt_chat_prefix(a->prompt, a->n_shot, &body);
    prompt_chat_ask(a->prompt, question, &body);
    buf_z(&body, "}]}");
    if (buf_ok(&body, "prompt", err) == ST_OK &&
        json_parse(buf_view(&body), "prompt", &doc, err) == ST_OK)
        engine_apply_template(e, doc, out, err);
    json_free(doc);
    buf_clear(&body);
    return err->code;
}

/* A template that writes BOS itself would give two. */
static void one_bos(const struct engine *e, struct token_list *t)
{
    int32_t bos = engine_info(e)->bos;
    if (bos >= 0 && t->n >= 2 && t->id[0] == bos && t->id[1] == bos)
        memmove(t->id, t->id + 1, --t->n * sizeof *t->id);
}

static enum status tokens_of(struct engine *e, const struct ask_opts *a, struct str prefix,
                             struct str question, struct token_list *ret, struct err *err)
{
    struct buf text = BUF_INIT;
    if (a->chat) {
        chat_text(e, a, question, &text, err);
    } else {
        buf_str(&text, prefix);
        prompt_ask(a->prompt, question, &text);
        buf_ok(&text, "prompt", err);
    }
    if (err->code == ST_OK && engine_tokenize(e, buf_view(&text), true, a->chat, ret, err) == ST_OK)
        one_bos(e, ret);
    buf_clear(&text);
    return err->code;
}

/* ---- asking ---- */

static void ask_free(struct ask *a)
{
    buf_clear(&a->text);
    free(a);
}

/* On the engine thread. */
static void on_event(void *ctx, const struct gen_event *ev)
{
    struct ask *a = ctx;
    buf_str(&a->text, ev->text);
    if (ev->kind != GEN_DONE)
        return;
    a->finish = ev->finish;
    a->prompt_tokens = ev->prompt_tokens;
    a->cached_tokens = ev->cached_tokens;
    a->completion_tokens = ev->completion_tokens;
    if (ev->err)
        snprintf(a->error, sizeof a->error, "%s", ev->err->msg);
    /* The queue holds more than the engine has in flight. */
    while (!queue_try_push(a->owner->done, a))
        usleep(100);
}

static void hash_tokens(const struct token_list *t, char out[65])
{
    struct sha256 h;
    sha256_init(&h);
    sha256_add(&h, t->id, t->n * sizeof *t->id);
    sha256_hex(&h, out);
}

static int64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static enum status submit(struct local *l, void *tag, const struct token_list *prompt,
                          uint32_t max_tokens, uint64_t seed, struct err *err)
{
    const char *const *stop;
    struct gen_params p;
    gen_params_init(&p);
    p.max_tokens = max_tokens;
    p.temperature = (float)l->o.temperature;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    p.seed = seed;
    p.n_stop = l->o.chat ? 0 : prompt_stops(l->o.prompt, &stop);
    for (size_t i = 0; i < p.n_stop; i++)
        p.stop[i] = stop[i];
    struct ask *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, ST_NOMEM, "a question");
    *a = (struct ask){ .owner = l, .tag = tag, .sent_ns = clock_ns(), .sent_ms = unix_ms() };
    hash_tokens(prompt, a->hash);
    if (engine_submit(l->engine, prompt->id, prompt->n, &p, on_event, a, &a->id, err) != ST_OK) {
        ask_free(a);
        return err->code;
    }
    a->next = l->live;
    l->live = a;
    l->base.in_flight++;
    return ST_OK;
}

/* Tokens that two questions' prompts begin with: the shared part, as the tokenizer sees it. */
static enum status shared_tokens(struct local *l, struct token_list *ret, struct err *err)
{
    struct token_list other = { 0 };
    if (tokens_of(l->engine, &l->o, buf_view(&l->prefix), STR("A plum"), ret, err) == ST_OK &&
        tokens_of(l->engine, &l->o, buf_view(&l->prefix), STR("7 zebras"), &other, err) == ST_OK) {
        size_t n = 0;
        while (n < ret->n && n < other.n && ret->id[n] == other.id[n])
            n++;
        ret->n = n;
    }
    token_list_clear(&other);
    return err->code;
}

/* The first questions wait for it in the engine's own queue: it is admitted before them. */
static enum status warm_up(struct local *l, struct err *err)
{
    struct token_list t = { 0 };
    if (shared_tokens(l, &t, err) == ST_OK && t.n > 1 && submit(l, NULL, &t, 0, 0, err) == ST_OK)
        l->base.prefix_tokens = t.n;
    token_list_clear(&t);
    return err->code;
}

static enum status local_ask(struct backend *b, void *tag, struct str question, uint64_t repeat,
                             struct err *err)
{
    struct local *l = of(b);
    struct token_list t = { 0 };
    /* Nothing else runs until the shared part is in the cache: later slots copy it. */
    if (l->live && !l->live->tag)
        return err_set(err, ST_BUSY, "the shared part of the prompt is being computed");
    if (tokens_of(l->engine, &l->o, buf_view(&l->prefix), question, &t, err) == ST_OK)
        submit(l, tag, &t, l->o.max_tokens, l->o.seed + repeat, err);
    token_list_clear(&t);
    return err->code;
}

/* ---- replies ---- */

static void forget(struct local *l, struct ask *a)
{
    struct ask **p = &l->live;
    while (*p && *p != a)
        p = &(*p)->next;
    if (*p)
        *p = a->next;
    l->base.in_flight--;
}

static void hand_out(struct local *l, struct ask *a, reply_fn *fn, void *ctx)
{
    struct backend_reply r = { .tag = a->tag,
                               .request_hash = a->hash,
                               .at_ms = a->sent_ms,
                               .text = buf_view(&a->text),
                               .finish = str_c(gen_finish_name(a->finish)),
                               .prompt_tokens = a->prompt_tokens,
                               .cached_tokens = a->cached_tokens,
                               .completion_tokens = a->completion_tokens,
                               .latency_us = (int64_t)((clock_ns() - a->sent_ns) / 1000) };
    forget(l, a);
    l->base.prefill_tokens += a->prompt_tokens - a->cached_tokens;
    if (a->finish == FINISH_ERROR || a->finish == FINISH_CANCELLED) {
        r.kind = a->finish == FINISH_ERROR ? REPLY_RETRY : REPLY_DOWN;
        r.error = a->error[0] ? str_c(a->error) : STR("the request was cancelled");
        r.text = STR("");
    } else if (a->text.failed) {
        r.kind = REPLY_RETRY;
        r.error = STR("no memory for the answer");
    }
    if (a->tag && !a->dropped)
        fn(ctx, &r);
    ask_free(a);
}

static enum status local_poll(struct backend *b, int wait_ms, reply_fn *fn, void *ctx,
                              struct err *err)
{
    struct local *l = of(b);
    void *m = queue_pop(l->done, wait_ms);
    for (; m; m = queue_try_pop(l->done))
        if (m != &l->wake)
            hand_out(l, m, fn, ctx);
    return err->code;
}

static void local_wake(struct backend *b)
{
    queue_try_push(of(b)->done, &of(b)->wake);
}

static void nobody(void *ctx, const struct backend_reply *r)
{
}

/* Cancels and waits: the engine ends a request within a layer. */
static void local_drop(struct backend *b)
{
    struct local *l = of(b);
    struct err ignored = ERR_INIT;
    for (struct ask *a = l->live; a; a = a->next) {
        a->dropped = true;
        engine_cancel(l->engine, a->id);
    }
    while (l->live)
        local_poll(b, 1000, nobody, NULL, &ignored);
}

static void local_close(struct backend *b)
{
    struct local *l = of(b);
    if (l->done)
        local_drop(b);
    queue_free(l->done);
    buf_clear(&l->prefix);
    buf_clear(&l->base.learned);
    free(l);
}

enum status backend_engine_open(struct engine *e, const struct ask_opts *a, struct backend **ret,
                                struct err *err)
{
    static const struct backend_ops ops = { local_ask, local_poll, local_wake, local_drop,
                                            local_close };
    struct local *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(err, ST_NOMEM, "evaluation");
    l->base.ops = &ops;
    l->engine = e;
    l->o = *a;
    /* Enough to keep every slot busy, and no more than the queue takes. */
    l->base.window = engine_info(e)->n_slot + (engine_info(e)->queue_max < 2 ? 1 : 2);
    buf_z(&l->base.learned, "{}");
    if (!a->chat)
        prompt_prefix(a->prompt, a->n_shot, &l->prefix);
    if (buf_ok(&l->prefix, "prompt", err) == ST_OK &&
        queue_create(QUEUE_MAX, &l->done, err) == ST_OK)
        warm_up(l, err);
    if (err->code != ST_OK) {
        local_close(&l->base);
        return err->code;
    }
    *ret = &l->base;
    return ST_OK;
}

enum status backend_engine_fit(struct engine *e, const struct ask_opts *a, struct str longest,
                               uint32_t *n_shot, uint32_t *answer, struct err *err)
{
    const struct engine_info *in = engine_info(e);
    uint32_t ctx = in->n_ctx;
    struct ask_opts o = *a;
    /* What the model was trained for counts, not what the cache could hold. */
    if (in->n_ctx_train && in->n_ctx_train < ctx)
        ctx = in->n_ctx_train;
    for (uint32_t k = a->n_shot + 1; k-- > 0;) {
        struct buf prefix = BUF_INIT;
        struct token_list t = { 0 };
        o.n_shot = k;
        prompt_prefix(a->prompt, k, &prefix);
        if (buf_ok(&prefix, "prompt", err) == ST_OK)
            tokens_of(e, &o, buf_view(&prefix), longest, &t, err);
        size_t n = t.n;
        buf_clear(&prefix);
        token_list_clear(&t);
        if (err->code != ST_OK)
            return err->code;
        /* At least half of what was asked for must be left for the answer, with any example. */
        uint32_t least = k > 0 ? a->max_tokens / 2 : 16;
        if (n + least <= ctx) {
            *n_shot = k;
            *answer = ctx - (uint32_t)n < a->max_tokens ? ctx - (uint32_t)n : a->max_tokens;
            return ST_OK;
        }
    }
    return err_set(err, ST_ARG, "the longest question does not fit into the context of %u tokens",
                   ctx);
}
