/* recsys/service.c - the facade's life: opening, the writer's thread, closing.
 *
 *   ask -> queue -> parse -> known key? -> names -> appended -> one commit for all -> applied ->
 * done |          \--> the old answer                |
 *                     \--> refused                                  \--> not durable: refused, all
 */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/base/turns.h"
#include "recsys/service_parts.h"

#include <stdlib.h>
#include <time.h>

enum { GROUP_MAX = 64 };
#define FUTURE_MS   ((int64_t)24 * 3600 * 1000) /* clocks differ, and so do zones */
#define WAITING_MAX ((uint64_t)256 << 20)       /* bytes of bodies that wait */

int64_t recsys_now(const struct recsys *r)
{
    struct timespec ts;
    if (r->now_ms)
        return r->now_ms();
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- keys ---- */

static struct key_answer *known_key(struct recsys *r, const char *key)
{
    for (int i = 0; i < 2; i++) {
        uint32_t k = ids_find(&r->keys[i].ids, str_c(key));
        if (k != IDS_NONE)
            return &r->keys[i].answer[k];
    }
    return NULL;
}

/* The older half is forgotten where there are too many. */
enum status keep_key(struct recsys *r, const char *key, uint64_t hash,
                     const struct served_result *res, size_t n_reject, struct err *err)
{
    struct key_half *h = &r->keys[0];
    uint32_t k;
    if (h->ids.n >= KEYS_MAX) {
        ids_clear(&r->keys[1].ids);
        free(r->keys[1].answer);
        r->keys[1] = *h;
        *h = (struct key_half){ 0 };
    }
    if (h->ids.n == h->cap) {
        uint32_t cap = h->cap ? h->cap * 2 : 256;
        struct key_answer *a = realloc(h->answer, cap * sizeof *a);
        if (!a)
            return err_set(err, ST_NOMEM, "keys of requests");
        h->answer = a;
        h->cap = cap;
    }
    if (ids_add(&h->ids, str_c(key), &k, err) == ST_OK)
        h->answer[k] = (struct key_answer){ hash, *res, n_reject };
    return err->code;
}

/* ---- applying ---- */

/* The numbers of a batch's names; free *users, which both arrays lie in. */
static enum status number_names(struct recsys *r, const struct batch *b, uint32_t **users,
                                uint32_t **items, struct err *err)
{
    uint32_t *map = malloc(((size_t)b->users.n + b->items.n + 1) * sizeof *map);
    if (!map)
        return err_set(err, ST_NOMEM, "batch");
    if (served_names(r->live, b, map, map + b->users.n, err) != ST_OK) {
        free(map);
        return err->code;
    }
    *users = map;
    *items = map + b->users.n;
    return ST_OK;
}

/* A record of the log, at opening. */
static enum status replay(void *ctx, struct str record, struct err *err)
{
    struct recsys *r = ctx;
    struct batch b;
    struct served_result res;
    uint32_t *users = NULL, *items = NULL;
    batch_init(&b, BATCH_EVENTS);
    if (batch_decode(&b, record, err) == ST_OK && !(b.key[0] && known_key(r, b.key)) &&
        number_names(r, &b, &users, &items, err) == ST_OK) {
        served_apply(r->live, &b, users, items, &res, err);
        free(users);
        if (err->code == ST_OK && b.key[0])
            keep_key(r, b.key, b.hash, &res, b.n_reject, err);
    }
    batch_clear(&b);
    return err->code;
}

/* ---- the writer ---- */

struct pending {
    struct recsys_ask *ask;
    struct batch b;
    uint32_t *users, *items;
};

static void answer(struct recsys *r, struct recsys_ask *a)
{
    atomic_fetch_sub(&r->waiting, a->body.n);
    a->done(a);
}

static void take_rejects(struct recsys_ask *a, const struct batch *b)
{
    size_t n = b->n_reject < BATCH_REJECTS_MAX ? b->n_reject : BATCH_REJECTS_MAX;
    a->n_reject = b->n_reject;
    memcpy(a->reject, b->reject, n * sizeof *a->reject);
}

static void commit(struct recsys *r, struct pending *p, size_t *n)
{
    struct err err = ERR_INIT;
    wal_commit(r->wal, &err);
    publish_log_stats(r);
    for (size_t i = 0; i < *n; i++) {
        struct recsys_ask *a = p[i].ask;
        if (err.code != ST_OK) {
            a->err = err;
        } else {
            served_apply(r->live, &p[i].b, p[i].users, p[i].items, &a->res, &a->err);
            if (p[i].b.key[0])
                keep_key(r, p[i].b.key, p[i].b.hash, &a->res, a->n_reject, &a->err);
        }
        free(p[i].users);
        batch_clear(&p[i].b);
        answer(r, a);
    }
    *n = 0;
}

/* true: the key came before, here or in the group; the ask is answered, or must wait for commit. */
static bool seen_key(struct recsys *r, struct recsys_ask *a, uint64_t hash)
{
    const struct key_answer *k = known_key(r, a->key);
    if (!k)
        return false;
    if (k->hash != hash) {
        err_set(&a->err, ST_ARG, "the Idempotency-Key came before with another body");
    } else {
        a->known = true;
        a->res = k->res;
        a->n_reject = k->n_reject;
    }
    answer(r, a);
    return true;
}

/* Parses an ask and appends it to the log; what fails is answered. */
static void begin(struct recsys *r, struct recsys_ask *a, struct pending *p, size_t *n)
{
    struct pending *x = &p[*n];
    struct buf record = BUF_INIT;
    uint64_t hash = hash_bytes(a->body.n ? a->body.p : "", a->body.n);
    if (a->key[0])
        for (size_t i = 0; i < *n; i++)
            if (strcmp(p[i].ask->key, a->key) == 0) {
                commit(r, p, n);
                x = &p[0];
                break;
            }
    if (a->key[0] && seen_key(r, a, hash))
        return;
    *x = (struct pending){ .ask = a };
    batch_init(&x->b, a->verb == RECSYS_FOLLOWS ? BATCH_FOLLOWS : BATCH_EVENTS);
    snprintf(x->b.key, sizeof x->b.key, "%s", a->key);
    x->b.hash = hash;
    batch_parse(&x->b, a->format, buf_view(&a->body), recsys_now(r) + FUTURE_MS, &a->err);
    take_rejects(a, &x->b);
    if (a->err.code == ST_OK && (x->b.n || a->key[0])) {
        if (number_names(r, &x->b, &x->users, &x->items, &a->err) == ST_OK &&
            batch_encode(&x->b, &record, &a->err) == ST_OK &&
            wal_append(r->wal, buf_view(&record), &a->err) == ST_OK) {
            ++*n;
            buf_clear(&record);
            return;
        }
    }
    buf_clear(&record);
    free(x->users);
    batch_clear(&x->b);
    answer(r, a);
}

static void *writer(void *arg)
{
    struct recsys *r = arg;
    struct pending *p = r->pending;
    size_t n = 0;
    pthread_setname_np(pthread_self(), "recsys-in");
    turns_batch(); /* woken by who answers, on the same core: it shall not put that aside */
    for (;;) {
        struct recsys_ask *a = n ? queue_try_pop(r->in) : queue_pop(r->in, 1000);
        if (!a && n) {
            commit(r, p, &n);
            continue;
        }
        if (!a && atomic_load(&r->ending))
            return NULL;
        if (!a)
            continue;
        if (a->verb == RECSYS_ACTIVATE) {
            commit(r, p, &n);
            model_activate(r, a->model, &a->err);
            answer(r, a);
        } else {
            begin(r, a, p, &n);
        }
        if (n == GROUP_MAX)
            commit(r, p, &n);
    }
}

/* ---- asking ---- */

bool recsys_ask(struct recsys *r, struct recsys_ask *a)
{
    size_t n = a->body.n;
    if (atomic_load(&r->waiting) + n > WAITING_MAX)
        return false;
    atomic_fetch_add(&r->waiting, n);
    struct queue *q = a->verb == RECSYS_HEALTH        ? r->work
                      : a->verb == RECSYS_EVALUATIONS ? r->keep
                                                      : r->in;
    if (queue_try_push(q, a))
        return true;
    atomic_fetch_sub(&r->waiting, n);
    return false;
}

void recsys_ask_free(struct recsys_ask *a)
{
    if (!a)
        return;
    buf_clear(&a->body);
    buf_clear(&a->text);
    free(a);
}

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void wake(struct recsys_ask *a)
{
    struct waiting *w = a->ctx;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

void recsys_do(struct recsys *r, struct recsys_ask *a)
{
    struct waiting w = { .done = false };
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.cond, NULL);
    a->done = wake;
    a->ctx = &w;
    while (!recsys_ask(r, a))
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.cond);
}

/* ---- figures ---- */

void publish_log_stats(struct recsys *r)
{
    struct wal_stats s;
    wal_stats(r->wal, &s);
    pthread_mutex_lock(&r->lock);
    r->log = (struct wal_figures){ s.bytes, s.records, s.commits, s.torn_bytes };
    r->log_end = wal_end(r->wal);
    pthread_mutex_unlock(&r->lock);
}

void recsys_get_stats(struct recsys *r, struct recsys_stats *ret)
{
    *ret = (struct recsys_stats){ .folds = atomic_load(&r->folds),
                                  .queries = atomic_load(&r->queries),
                                  .waiting = atomic_load(&r->waiting) };
    served_get_counts(r->live, &ret->counts);
    pthread_mutex_lock(&r->lock);
    ret->log = r->log;
    ret->log.bytes -= r->forgotten < ret->log.bytes ? r->forgotten : ret->log.bytes;
    ret->store = r->store;
    if (ret->store.segment == r->log_end.segment)
        ret->store.backlog = r->log_end.end - ret->store.end;
    else /* as the keeper last counted it, and what came since */
        ret->store.backlog += r->log.bytes - r->backlog_seen;
    ret->models = r->n_model;
    pthread_mutex_unlock(&r->lock);
}

void recsys_count_query(struct recsys *r)
{
    atomic_fetch_add_explicit(&r->queries, 1, memory_order_relaxed);
}

struct served *recsys_served(struct recsys *r)
{
    return r->live;
}

void recsys_fault(struct recsys *r, char out[ERR_MSG_MAX])
{
    pthread_mutex_lock(&r->lock);
    snprintf(out, ERR_MSG_MAX, "%s", r->fault);
    pthread_mutex_unlock(&r->lock);
}

/* ---- life ---- */

static enum status start_threads(struct recsys *r, struct err *err)
{
    int e = pthread_create(&r->worker, NULL, work_main, r);
    r->working = e == 0;
    if (e == 0) {
        e = pthread_create(&r->writer, NULL, writer, r);
        r->writing = e == 0;
    }
    if (e == 0) {
        e = pthread_create(&r->keeper, NULL, keeper_main, r);
        r->keeping = e == 0;
    }
    return e ? err_sys(err, e, "pthread_create") : ST_OK;
}

enum status recsys_open(const struct recsys_opts *o, struct recsys **ret, struct err *err)
{
    struct recsys *r = calloc(1, sizeof *r);
    char log[FILE_PATH_MAX] = "";
    if (!r)
        return err_set(err, ST_NOMEM, "recommender");
    pthread_mutex_init(&r->lock, NULL);
    r->now_ms = o->now_ms;
    r->no_fold = o->no_fold;
    r->dir = str_dup(str_c(o->dir));
    r->pending = calloc(GROUP_MAX, sizeof(struct pending));
    r->dirty = malloc(DIRTY_MAX * sizeof *r->dirty);
    r->store_url = o->store ? str_dup(str_c(o->store)) : NULL;
    if (file_path(log, err, "%s/events", o->dir) == ST_OK)
        r->events_dir = str_dup(str_c(log));
    if (!r->dir || !r->pending || !r->dirty || !r->events_dir || (o->store && !r->store_url)) {
        err_set(err, ST_NOMEM, "recommender");
        goto fail;
    }
    struct wal_opts w = { .dir = log,
                          .segment_bytes = o->segment_bytes,
                          .begin = keeper_load,
                          .replay = replay,
                          .ctx = r };
    if (served_create(&r->live, err) != ST_OK ||
        queue_create(RECSYS_ASKS_MAX, &r->in, err) != ST_OK ||
        queue_create(RECSYS_ASKS_MAX, &r->work, err) != ST_OK ||
        queue_create(RECSYS_ASKS_MAX, &r->keep, err) != ST_OK ||
        wal_open(&w, &r->wal, err) != ST_OK)
        goto fail;
    publish_log_stats(r);
    r->live->on_dirty = work_dirty;
    r->live->ctx = r;
    if (models_load(r, err) != ST_OK || start_threads(r, err) != ST_OK)
        goto fail;
    *ret = r;
    return ST_OK;
fail:
    recsys_close(r);
    return err_ctx(err, "recommender");
}

static void clear_keys(struct recsys *r)
{
    for (int i = 0; i < 2; i++) {
        ids_clear(&r->keys[i].ids);
        free(r->keys[i].answer);
    }
}

void recsys_close(struct recsys *r)
{
    if (!r)
        return;
    atomic_store(&r->ending, true);
    if (r->in)
        queue_close(r->in);
    if (r->work)
        queue_close(r->work);
    if (r->keep)
        queue_close(r->keep);
    if (r->writing)
        pthread_join(r->writer, NULL);
    if (r->working)
        pthread_join(r->worker, NULL);
    if (r->keeping)
        pthread_join(r->keeper, NULL);
    archive_close(r->archive);
    queue_free(r->in);
    queue_free(r->work);
    queue_free(r->keep);
    wal_close(r->wal);
    served_free(r->live);
    models_clear(r);
    clear_keys(r);
    free(r->dirty);
    free(r->pending);
    free(r->store_url);
    free(r->events_dir);
    free(r->dir);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
