/* eval/steady.c - see steady.h. */
#include "eval/steady.h"

#include "engine/base/hash.h"

#include <stdlib.h>
#include <unistd.h>

enum { TRIES = 8, POLL_MS = 20, AGAIN_US = 50000 };

const uint32_t steady_windows[STEADY_ROUNDS] = { 1, 8, 32 };

struct steady {
    char first[STEADY_MAX][65]; /* SHA-256 of the first round's answer */
    bool differs[STEADY_MAX], done[STEADY_MAX], asked[STEADY_MAX];
    uint8_t tries[STEADY_MAX];
    bool is_first;
    uint32_t n_done;
    char why[200];
    bool failed;
};

static void on_reply(void *ctx, const struct backend_reply *r)
{
    struct steady *s = ctx;
    uint32_t i = (uint32_t)((uintptr_t)r->tag - 1);
    struct sha256 h;
    char hex[65];
    s->asked[i] = false;
    if (r->kind != REPLY_OK) {
        snprintf(s->why, sizeof s->why, "%.*s", (int)r->error.n, r->error.p);
        if (r->kind == REPLY_ADAPTED)
            return;
        s->failed |= ++s->tries[i] >= TRIES || r->kind == REPLY_FATAL || r->kind == REPLY_BAD;
        usleep(AGAIN_US);
        return;
    }
    sha256_init(&h);
    sha256_add(&h, r->text.p, r->text.n);
    sha256_hex(&h, hex);
    if (s->is_first)
        memcpy(s->first[i], hex, sizeof hex);
    else
        s->differs[i] |= strcmp(s->first[i], hex) != 0;
    s->done[i] = true;
    s->n_done++;
}

/* As many as the window takes. */
static enum status ask_more(struct steady *s, struct backend *b, const struct str *question,
                            uint32_t n, uint32_t window, struct err *err)
{
    for (uint32_t i = 0; i < n && b->in_flight < window; i++) {
        struct err e = ERR_INIT;
        if (s->done[i] || s->asked[i])
            continue;
        if (backend_ask(b, (void *)((uintptr_t)i + 1), question[i], 0, &e) == ST_BUSY)
            return ST_OK;
        if (e.code != ST_OK) {
            *err = e;
            return err->code;
        }
        s->asked[i] = true;
    }
    return ST_OK;
}

static enum status one_round(struct steady *s, struct backend *b, const struct str *question,
                             uint32_t n, uint32_t window, struct err *err)
{
    memset(s->done, 0, sizeof s->done);
    s->n_done = 0;
    while (s->n_done < n && err->code == ST_OK) {
        if (ask_more(s, b, question, n, window, err) == ST_OK)
            backend_poll(b, POLL_MS, on_reply, s, err);
        if (err->code == ST_OK && s->failed)
            err_set(err, ST_IO, "self-test: a question gets no answer: %.150s", s->why);
    }
    return err->code;
}

enum status steady_test(struct backend *b, const struct str *question, uint32_t n,
                        uint32_t *different, struct err *err)
{
    struct steady *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "self-test");
    n = n < STEADY_MAX ? n : STEADY_MAX;
    for (int r = 0; r < STEADY_ROUNDS && err->code == ST_OK; r++) {
        s->is_first = r == 0;
        one_round(s, b, question, n, steady_windows[r], err);
    }
    if (err->code != ST_OK)
        backend_drop(b);
    *different = 0;
    for (uint32_t i = 0; i < n; i++)
        *different += s->differs[i];
    free(s);
    return err->code;
}

/* ---- of a run ---- */

struct questions {
    char *text[STEADY_MAX];
    struct str question[STEADY_MAX];
    uint32_t n, most;
    bool nomem;
};

static bool take_question(void *ctx, const struct run_sample *r)
{
    struct questions *q = ctx;
    if (r->repeat > 0)
        return true;
    q->text[q->n] = str_dup(r->question);
    q->nomem |= !q->text[q->n];
    q->question[q->n] = (struct str){ q->text[q->n], r->question.n };
    return !q->nomem && ++q->n < q->most;
}

enum status steady_run(struct backend *b, struct run_store *s, const char *run, uint32_t most,
                       uint32_t *n, uint32_t *different, struct err *err)
{
    struct questions *q = calloc(1, sizeof *q);
    struct sample_query all = SAMPLE_QUERY_ALL;
    if (!q)
        return err_set(err, ST_NOMEM, "self-test");
    q->most = most < STEADY_MAX ? most : STEADY_MAX;
    all.by_ord = true;
    all.after = -1;
    if (run_store_each(s, run, &all, take_question, q, err) == ST_OK && q->nomem)
        err_set(err, ST_NOMEM, "self-test");
    *n = q->n;
    *different = 0;
    if (err->code == ST_OK && q->n)
        steady_test(b, q->question, q->n, different, err);
    while (q->n)
        free(q->text[--q->n]);
    free(q);
    return err->code;
}
