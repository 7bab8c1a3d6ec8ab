/* server/eval_feed.c - see eval_feed.h. */
#include "server/eval_feed.h"

#include "engine/base/clock.h"
#include "eval/run_json.h"
#include "eval/run_store.h"

#include <stdlib.h>

enum { LOOK_MS = 500, WATCHERS_MAX = 64, UNSENT_MAX = 1 << 20 };

struct watcher {
    char run[CALL_ARG_MAX];
    struct later later;    /* until the first look */
    struct stream *stream; /* one reference */
    bool open;
    int64_t told;           /* done + failed + state of the last event; -1: none */
    int64_t over, since_ns; /* for the rate */
    double rate;
    struct watcher *next;
};

struct eval_feed {
    char *dir, *url;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct watcher *fresh; /* not yet the thread's */
    int n;                 /* watchers in all */
    bool stopping;
};

/* ---- one watcher ---- */

static void put_rate(struct watcher *w, const struct run_row *r, json_t *doc)
{
    int64_t over = r->counts.done + r->counts.failed, now = (int64_t)clock_ns();
    double s = (double)(now - w->since_ns) * 1e-9;
    if (w->told < 0 || over < w->over) {
        w->over = over;
        w->since_ns = now;
    } else if (s >= 1) {
        double rate = (double)(over - w->over) / s;
        w->rate = w->rate > 0 ? 0.7 * w->rate + 0.3 * rate : rate;
        w->over = over;
        w->since_ns = now;
    }
    json_object_set_new(doc, "rate", json_real(w->rate));
    json_object_set_new(doc, "eta_s",
                        w->rate > 0 ? json_real((double)r->counts.pending / w->rate) : json_null());
}

static bool is_over(enum run_state s)
{
    return s == RUN_PAUSED || s == RUN_CANCELLED || s == RUN_DONE;
}

static bool put_event(struct watcher *w, const struct run_row *r)
{
    struct buf b = BUF_INIT;
    struct err ignored = ERR_INIT;
    json_t *doc = run_row_json(r);
    bool ok = doc != NULL;
    if (ok) {
        put_rate(w, r, doc);
        buf_printf(&b,
                   "id: %lld\nevent: %s\ndata: ", (long long)(r->counts.done + r->counts.failed),
                   is_over(r->state) ? "state" : "progress");
        json_write(doc, &b, &ignored);
        buf_z(&b, "\n\n");
        ok = !b.failed && ignored.code == ST_OK && stream_put(w->stream, buf_view(&b));
    }
    json_free(doc);
    buf_clear(&b);
    return ok;
}

/* false: it goes. */
static bool look(struct watcher *w, struct run_store *store)
{
    struct run_row r;
    struct err err = ERR_INIT;
    if (stream_is_gone(w->stream))
        return false;
    if (run_store_get(store, w->run, &r, &err) != ST_OK) {
        if (!w->open) {
            const char *code;
            int status = err_http_status(&err, &code);
            later_error(&w->later, status, code, NULL, err.msg);
            w->open = true;
            return false;
        }
        return err.code != ST_NOTFOUND; /* a lock passes */
    }
    if (!w->open)
        later_events(&w->later);
    w->open = true;
    int64_t now = (r.counts.done + r.counts.failed) * 8 + (int64_t)r.state;
    bool ok = true, over = is_over(r.state);
    if (now != w->told && stream_unsent(w->stream) < UNSENT_MAX) {
        ok = put_event(w, &r);
        w->told = now;
    }
    run_row_clear(&r);
    if (ok && over)
        stream_end(w->stream, false);
    return ok && !over;
}

static void let_go(struct watcher *w)
{
    if (!w->open)
        later_error(&w->later, 503, "shutting_down", NULL, "the server is shutting down");
    stream_end(w->stream, true); /* without effect where it has ended well */
    stream_drop(w->stream);
    free(w);
}

/* ---- the thread ---- */

/* Waits for the next look; takes new watchers. false: the server stops. */
static bool wait_for_look(struct eval_feed *f, struct watcher **list)
{
    struct timespec until;
    pthread_mutex_lock(&f->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    if (*list && !f->fresh && !f->stopping)
        pthread_cond_timedwait(&f->news, &f->lock, &until);
    while (!*list && !f->fresh && !f->stopping)
        pthread_cond_wait(&f->news, &f->lock);
    while (f->fresh) {
        struct watcher *w = f->fresh;
        f->fresh = w->next;
        w->next = *list;
        *list = w;
    }
    bool go = !f->stopping;
    pthread_mutex_unlock(&f->lock);
    return go;
}

static void drop_one(struct eval_feed *f, struct watcher **p)
{
    struct watcher *w = *p;
    *p = w->next;
    let_go(w);
    pthread_mutex_lock(&f->lock);
    f->n--;
    pthread_mutex_unlock(&f->lock);
}

static void *feed_main(void *arg)
{
    struct eval_feed *f = arg;
    struct watcher *list = NULL;
    struct run_store *store = NULL;
    while (wait_for_look(f, &list)) {
        struct err err = ERR_INIT;
        struct run_store_opts o = { .url = f->url, .dir = f->dir };
        if (!store && run_store_open(&o, &store, &err) != ST_OK)
            store = NULL;
        for (struct watcher **p = &list; *p;)
            if (!store && !(*p)->open) {
                later_error(&(*p)->later, 503, "store_unusable", NULL, err.msg);
                (*p)->open = true;
                drop_one(f, p);
            } else if (store && !look(*p, store)) {
                drop_one(f, p);
            } else {
                p = &(*p)->next;
            }
    }
    while (list)
        drop_one(f, &list);
    run_store_close(store);
    return NULL;
}

/* ---- life ---- */

enum status eval_feed_create(const char *dir, const char *url, struct eval_feed **ret,
                             struct err *err)
{
    struct eval_feed *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ST_NOMEM, "events of evaluations");
    f->dir = str_dup(str_c(dir));
    f->url = url ? str_dup(str_c(url)) : NULL;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->news, NULL);
    int rc = f->dir && (!url || f->url) ? pthread_create(&f->thread, NULL, feed_main, f) : -1;
    if (rc != 0) {
        if (rc > 0)
            err_sys(err, rc, "pthread_create");
        else
            err_set(err, ST_NOMEM, "events of evaluations");
        free(f->dir);
        free(f->url);
        free(f);
        return err->code;
    }
    *ret = f;
    return ST_OK;
}

void eval_feed_free(struct eval_feed *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_cond_signal(&f->news);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->news);
    pthread_mutex_destroy(&f->lock);
    free(f->dir);
    free(f->url);
    free(f);
}

void eval_feed_watch(struct eval_feed *f, struct call *c)
{
    struct watcher *w = calloc(1, sizeof *w);
    pthread_mutex_lock(&f->lock);
    bool room = f->n < WATCHERS_MAX && !f->stopping;
    f->n += room && w;
    pthread_mutex_unlock(&f->lock);
    if (!w || !room || !later_open(c, true, &w->later)) {
        if (w && room) {
            pthread_mutex_lock(&f->lock);
            f->n--;
            pthread_mutex_unlock(&f->lock);
        } else {
            reply_error(c, 503, "evals_busy", NULL, "too many watch evaluations already");
        }
        free(w);
        return;
    }
    snprintf(w->run, sizeof w->run, "%s", c->arg);
    w->told = -1;
    server_keep(c->srv, c->stream, KEEP_WATCHING);
    stream_hold(c->stream);
    w->stream = c->stream;
    pthread_mutex_lock(&f->lock);
    w->next = f->fresh;
    f->fresh = w;
    pthread_cond_signal(&f->news);
    pthread_mutex_unlock(&f->lock);
}
