/* server/eval_reader.c - see eval_reader.h. */
#include "server/eval_reader.h"

#include "engine/base/clock.h"

#include <poll.h>
#include <stdlib.h>

enum { WAITING_MAX = 64, UNSENT_MAX = 1 << 20, SLOW_MS = 30000 };

struct eval_reader {
    char *dir, *url;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct eval_task *first, *last;
    int waiting; /* the one that runs included */
    bool stopping;
};

/* ---- the thread ---- */

static void refuse(struct eval_task *t, const char *why)
{
    later_error(&t->later, 503, "shutting_down", NULL, why);
    free(t->arg);
    free(t);
}

static struct eval_task *next_task(struct eval_reader *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->first && !r->stopping)
        pthread_cond_wait(&r->news, &r->lock);
    struct eval_task *t = r->stopping ? NULL : r->first;
    if (t && !(r->first = t->next))
        r->last = NULL;
    pthread_mutex_unlock(&r->lock);
    return t;
}

static void *reader_main(void *arg)
{
    struct eval_reader *r = arg;
    struct run_store *store = NULL;
    for (struct eval_task *t; (t = next_task(r));) {
        struct err err = ERR_INIT;
        struct run_store_opts o = { .url = r->url, .dir = r->dir };
        if (!store)
            run_store_open(&o, &store, &err);
        if (err.code == ST_OK)
            t->run(t, store);
        else
            eval_task_fail(t, &err, NULL);
        free(t->arg);
        free(t);
        pthread_mutex_lock(&r->lock);
        r->waiting--;
        pthread_mutex_unlock(&r->lock);
    }
    run_store_close(store);
    return NULL;
}

/* ---- life ---- */

enum status eval_reader_create(const char *dir, const char *url, struct eval_reader **ret,
                               struct err *err)
{
    struct eval_reader *r = calloc(1, sizeof *r);
    if (r) {
        r->dir = strdup(dir);
        r->url = url ? strdup(url) : NULL;
    }
    if (!r || !r->dir || (url && !r->url)) {
        if (r)
            free(r->dir);
        free(r);
        return err_set(err, ST_NOMEM, "reader of evaluations");
    }
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->news, NULL);
    int e = pthread_create(&r->thread, NULL, reader_main, r);
    if (e) {
        err_sys(err, e, "pthread_create");
        pthread_cond_destroy(&r->news);
        pthread_mutex_destroy(&r->lock);
        free(r->dir);
        free(r->url);
        free(r);
        return err->code;
    }
    *ret = r;
    return ST_OK;
}

void eval_reader_free(struct eval_reader *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->news);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    for (struct eval_task *t = r->first, *next; t; t = next) {
        next = t->next;
        refuse(t, "the server is shutting down");
    }
    pthread_cond_destroy(&r->news);
    pthread_mutex_destroy(&r->lock);
    free(r->dir);
    free(r->url);
    free(r);
}

bool eval_reader_idle(struct eval_reader *r)
{
    pthread_mutex_lock(&r->lock);
    bool idle = r->waiting == 0;
    pthread_mutex_unlock(&r->lock);
    return idle;
}

/* ---- questions ---- */

static bool enqueue(struct eval_reader *r, struct eval_task *t)
{
    pthread_mutex_lock(&r->lock);
    bool ok = !r->stopping && r->waiting < WAITING_MAX;
    if (ok) {
        if (r->last)
            r->last->next = t;
        else
            r->first = t;
        r->last = t;
        r->waiting++;
        pthread_cond_signal(&r->news);
    }
    pthread_mutex_unlock(&r->lock);
    return ok;
}

void eval_ask(struct call *c, void (*run)(struct eval_task *, struct run_store *), void *arg,
              bool long_body)
{
    struct eval_task *t = NULL;
    if (!c->srv->evals) {
        reply_error(c, 503, "no_evals", NULL, "the server was started without a data directory");
        c->reply.no_retry = true;
    } else if (!(t = calloc(1, sizeof *t))) {
        reply_error(c, 500, "internal", NULL, "out of memory");
    } else if (later_open(c, long_body, &t->later)) {
        t->run = run;
        t->arg = arg;
        if (enqueue(c->srv->evals, t))
            return;
        later_error(&t->later, 503, "evals_busy", NULL,
                    "too many questions about evaluations wait already, try again later");
    }
    free(t);
    free(arg);
}

void eval_task_fail(struct eval_task *t, const struct err *err, const char *param)
{
    const char *code;
    int status = err_http_status(err, &code);
    if (err->code == ST_TIMEOUT || err->code == ST_IO || err->code == ST_FULL)
        status = 503;
    if (err->code == ST_FULL) /* the disk, not a queue */
        code = "store_full";
    later_error(&t->later, status, code, param, err->msg);
}

/* ---- long bodies ---- */

void eval_task_begin(struct eval_task *t, const char *type, const char *file)
{
    struct stream *s = t->later.stream;
    pthread_mutex_lock(&s->lock);
    if (!s->gone) {
        struct call *c = t->later.call;
        c->stream_type = type;
        snprintf(c->stream_file, sizeof c->stream_file, "%s", file ? file : "");
    }
    pthread_mutex_unlock(&s->lock);
    stream_release(s);
}

bool eval_task_put(struct eval_task *t, struct str bytes)
{
    struct stream *s = t->later.stream;
    while (bytes.n) {
        size_t n = bytes.n < UNSENT_MAX ? bytes.n : UNSENT_MAX;
        /* One reader serves all: a client that takes nothing for long is let go. */
        for (int waited = 0; stream_unsent(s) > UNSENT_MAX; waited++) {
            if (stream_is_gone(s) || waited >= SLOW_MS)
                return false;
            poll(NULL, 0, 1);
        }
        if (!stream_put(s, (struct str){ bytes.p, n }))
            return false;
        bytes.p += n;
        bytes.n -= n;
    }
    return true;
}

void eval_task_end(struct eval_task *t, bool broken)
{
    stream_end(t->later.stream, broken);
    stream_drop(t->later.stream);
}
