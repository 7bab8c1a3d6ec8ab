/* server/job_feed.c - see job_feed.h.
 *
 * A feed is a watched job. Its news are shared under the lock; its watchers belong to the thread
 * alone, new ones come in by a list. A round: copy the news of feeds that changed, let go of the
 * lock, bring every watcher up to them. Watchers mostly stand at the same place, so the bytes that
 * one got are kept for the next. */
#include "server/job_feed.h"

#include "engine/base/clock.h"
#include "server/job_metrics.h"
#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    UNSENT_MAX = 128 << 10, /* bytes that wait in a stream before its watcher is passed over */
    SLOW_MS = 100           /* how soon those are looked at again */
};

struct watcher {
    struct stream *stream;
    uint64_t at;              /* place in the file */
    uint64_t state, progress; /* numbers of the news that it has */
    struct watcher *next;
};

/* News with numbers; 0: none yet. */
struct news {
    struct buf state, progress;
    uint64_t n_state, n_progress, tail;
    bool ended;
};

struct feed {
    char id[JOB_ID_MAX];
    char *path;
    struct news shared; /* under the lock */
    bool changed;
    struct watcher *joining;
    struct news now; /* the thread's copy, and its watchers */
    struct watcher *watchers;
    struct feed *next;
};

struct feeds {
    pthread_mutex_t lock;
    pthread_cond_t woken; /* CLOCK_MONOTONIC */
    pthread_t thread;
    bool running, stop, work;
    struct feed
        *feed; /* list: changed under the lock, by anyone at the head, removed by the thread */
    atomic_size_t n_watcher;
};

/* The bytes for watchers at one place of one file. */
struct chunk {
    const struct feed *feed;
    uint64_t from, to;
    struct buf bytes;
};

static void news_clear(struct news *n)
{
    buf_clear(&n->state);
    buf_clear(&n->progress);
}

/* Replaces text; false: no memory, unchanged. */
static bool replace(struct buf *b, struct str text)
{
    struct buf fresh = BUF_INIT;
    buf_str(&fresh, text);
    if (fresh.failed) {
        buf_clear(&fresh);
        return false;
    }
    buf_clear(b);
    *b = fresh;
    return true;
}

static void update(struct news *n, const struct feed_news *in)
{
    if (in->state.n && replace(&n->state, in->state))
        n->n_state++;
    if (in->progress.n && replace(&n->progress, in->progress))
        n->n_progress++;
    n->tail = in->tail;
    n->ended |= in->ended;
}

/* Called with the lock held. */
static struct feed *find(struct feeds *f, const char *id)
{
    struct feed *x = f->feed;
    while (x && strcmp(x->id, id) != 0)
        x = x->next;
    return x;
}

static void poke(struct feeds *f)
{
    f->work = true;
    pthread_cond_signal(&f->woken);
}

void feeds_tell(struct feeds *f, const char *id, const struct feed_news *n)
{
    pthread_mutex_lock(&f->lock);
    struct feed *x = find(f, id);
    if (x) {
        update(&x->shared, n);
        x->changed = true;
        poke(f);
    }
    pthread_mutex_unlock(&f->lock);
}

static void on_gone(void *ctx)
{
    struct feeds *f = ctx;
    pthread_mutex_lock(&f->lock);
    poke(f);
    pthread_mutex_unlock(&f->lock);
}

void feeds_hook(struct feeds *f, struct stream *st)
{
    st->on_gone = on_gone;
    st->ctx = f;
}

static void feed_free(struct feed *x)
{
    if (!x)
        return;
    news_clear(&x->shared);
    news_clear(&x->now);
    free(x->path);
    free(x);
}

static struct feed *feed_new(const char *id, const char *path, const struct feed_news *now)
{
    struct feed *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    snprintf(x->id, sizeof x->id, "%s", id);
    x->path = str_dup(str_c(path));
    update(&x->shared, now);
    if (!x->path || x->shared.n_state == 0) {
        feed_free(x);
        return NULL;
    }
    return x;
}

enum status feeds_watch(struct feeds *f, const char *id, const char *path,
                        const struct feed_news *now, uint64_t from, struct stream *st,
                        struct err *err)
{
    struct watcher *w = calloc(1, sizeof *w);
    struct feed *fresh = feed_new(id, path, now);
    if (!w || !fresh) {
        free(w);
        feed_free(fresh);
        return err_set(err, ST_NOMEM, "event stream of job %s", id);
    }
    stream_hold(st);
    *w = (struct watcher){ .stream = st, .at = from };
    pthread_mutex_lock(&f->lock);
    struct feed *x = find(f, id);
    if (x) {
        update(&x->shared, now);
    } else {
        x = fresh;
        fresh = NULL;
        x->next = f->feed;
        f->feed = x;
    }
    w->next = x->joining;
    x->joining = w;
    x->changed = true;
    poke(f);
    pthread_mutex_unlock(&f->lock);
    feed_free(fresh);
    atomic_fetch_add(&f->n_watcher, 1);
    return ST_OK;
}

size_t feeds_watchers(struct feeds *f)
{
    return atomic_load(&f->n_watcher);
}

/* ---- the thread ---- */

static void put_event(struct buf *b, uint64_t id, const char *name, const struct buf *data)
{
    buf_printf(b, "id: %llu\nevent: %s\ndata: ", (unsigned long long)id, name);
    buf_str(b, buf_view(data));
    buf_z(b, "\n\n");
}

static bool put(struct watcher *w, struct buf *b)
{
    return !b->failed && stream_put(w->stream, buf_view(b));
}

/* The next lines of the file for this watcher. */
static bool put_lines(const struct feed *x, struct watcher *w, int *fd, struct chunk *c)
{
    if (c->feed != x || c->from != w->at || c->to == c->from) {
        if (*fd < 0)
            *fd = open(x->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        buf_reset(&c->bytes);
        c->feed = x;
        c->from = w->at;
        c->to = *fd < 0 ? w->at : metric_events(*fd, w->at, x->now.tail, &c->bytes);
    }
    if (c->to == c->from) /* unreadable, or no memory: it may come again, with its place */
        return false;
    w->at = c->to;
    return c->bytes.n == 0 || put(w, &c->bytes);
}

/* Brings a watcher up to date. false: it goes (left, too far behind, or told everything). *slow
 * rises when it has to be looked at again. */
static bool serve(const struct feed *x, struct watcher *w, int *fd, struct chunk *c, bool *slow)
{
    const struct news *n = &x->now;
    struct buf b = BUF_INIT;
    bool ok = true;
    if (w->at > n->tail)
        w->at = 0; /* the file became another one */
    while (ok && w->at < n->tail && stream_unsent(w->stream) < UNSENT_MAX)
        ok = put_lines(x, w, fd, c);
    if (!ok || w->at < n->tail) {
        *slow |= ok;
        return ok && !stream_is_gone(w->stream);
    }
    if (w->progress != n->n_progress && n->progress.n)
        put_event(&b, w->at, "progress", &n->progress);
    if (w->state != n->n_state)
        put_event(&b, w->at, "state", &n->state);
    ok = b.n ? put(w, &b) : !stream_is_gone(w->stream);
    buf_clear(&b);
    w->progress = n->n_progress;
    w->state = n->n_state;
    if (ok && n->ended)
        stream_end(w->stream, false);
    return ok && !n->ended;
}

static void let_go(struct feeds *f, struct watcher *w)
{
    stream_end(w->stream, true); /* without effect where it has ended well */
    stream_drop(w->stream);
    free(w);
    atomic_fetch_sub(&f->n_watcher, 1);
}

static void serve_feed(struct feeds *f, struct feed *x, struct chunk *c, bool *slow)
{
    int fd = -1;
    for (struct watcher **at = &x->watchers; *at;) {
        struct watcher *w = *at;
        if (serve(x, w, &fd, c, slow)) {
            at = &w->next;
        } else {
            *at = w->next;
            let_go(f, w);
        }
    }
    if (fd >= 0)
        close(fd);
}

static void copy_text(struct buf *to, uint64_t *n_to, const struct buf *from, uint64_t n_from)
{
    if (*n_to != n_from && replace(to, buf_view(from)))
        *n_to = n_from;
}

/* Lock held: the thread's view becomes the shared one. */
static void catch_up(struct feed *x)
{
    struct watcher *w = x->joining;
    while (w) {
        struct watcher *next = w->next;
        w->next = x->watchers;
        x->watchers = w;
        w = next;
    }
    x->joining = NULL;
    copy_text(&x->now.state, &x->now.n_state, &x->shared.state, x->shared.n_state);
    copy_text(&x->now.progress, &x->now.n_progress, &x->shared.progress, x->shared.n_progress);
    x->now.tail = x->shared.tail;
    x->now.ended = x->shared.ended && x->now.n_state == x->shared.n_state;
    x->changed = x->now.n_state != x->shared.n_state; /* no memory: once more */
}

/* Lock held: feeds without watchers leave the list; returns them. */
static struct feed *unwatched(struct feeds *f)
{
    struct feed *out = NULL;
    for (struct feed **at = &f->feed; *at;) {
        struct feed *x = *at;
        if (x->watchers || x->joining) {
            at = &x->next;
        } else {
            *at = x->next;
            x->next = out;
            out = x;
        }
    }
    return out;
}

static void free_all(struct feed *x)
{
    while (x) {
        struct feed *next = x->next;
        feed_free(x);
        x = next;
    }
}

static void wait_for_work(struct feeds *f, bool slow)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += SLOW_MS * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!f->work && !f->stop)
        if (!slow)
            pthread_cond_wait(&f->woken, &f->lock);
        else if (pthread_cond_timedwait(&f->woken, &f->lock, &until) == ETIMEDOUT)
            break;
    f->work = false;
}

/* The list's head may grow meanwhile; what is behind it is the thread's to walk. */
static void *feeds_main(void *arg)
{
    struct feeds *f = arg;
    struct chunk c = { .feed = NULL };
    bool slow = false;
    pthread_setname_np(pthread_self(), "strobe-feeds");
    pthread_mutex_lock(&f->lock);
    for (;;) {
        wait_for_work(f, slow);
        if (f->stop)
            break;
        slow = false;
        for (struct feed *x = f->feed; x; x = x->next) {
            catch_up(x);
            slow |= x->changed;
        }
        struct feed *first = f->feed;
        pthread_mutex_unlock(&f->lock);
        c.feed = NULL; /* lines may have been added since */
        for (struct feed *x = first; x; x = x->next)
            serve_feed(f, x, &c, &slow);
        pthread_mutex_lock(&f->lock);
        struct feed *old = unwatched(f);
        pthread_mutex_unlock(&f->lock);
        free_all(old);
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    buf_clear(&c.bytes);
    return NULL;
}

enum status feeds_create(struct feeds **ret, struct err *err)
{
    struct feeds *f = calloc(1, sizeof *f);
    pthread_condattr_t attr;
    if (!f)
        return err_set(err, ST_NOMEM, "event streams of jobs");
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->woken, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&f->lock, NULL);
    int e = pthread_create(&f->thread, NULL, feeds_main, f);
    if (e) {
        err_sys(err, e, "pthread_create");
        feeds_free(f);
        return err->code;
    }
    f->running = true;
    *ret = f;
    return ST_OK;
}

void feeds_free(struct feeds *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_signal(&f->woken);
    pthread_mutex_unlock(&f->lock);
    if (f->running)
        pthread_join(f->thread, NULL);
    for (struct feed *x = f->feed; x; x = x->next) {
        catch_up(x);
        while (x->watchers) {
            struct watcher *w = x->watchers;
            x->watchers = w->next;
            let_go(f, w);
        }
    }
    free_all(f->feed);
    pthread_cond_destroy(&f->woken);
    pthread_mutex_destroy(&f->lock);
    free(f);
}
