/* recsys/keeper.c - the thread "recsys-keep": copies the event log, and what fits told, into the
 * store, and cuts off what has got there.
 *
 *   away --attach--> up --records, models--> up --forget old segments--> up
 *     ^------------any failure: closed, tried again later----------------'
 *
 * The log is what was promised: it is never cut before the store has said that it holds a segment's
 * records, and nothing that a client waits for waits for the store. */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/turns.h"
#include "recsys/service_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TICK_MS = 200, NICE = 19, RETRY_MS = 1000, RETRY_MAX_MS = 30000 };
#define GROUP_BYTES ((uint64_t)1 << 20) /* of log in one transaction */
#define CLOSE_MS    2000.0              /* for the rest, at closing */

/* ---- which log this is ---- */

static enum status make_id(const char *path, char id[ARCHIVE_LOG_MAX], struct err *err)
{
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw)
        return err_sys(err, errno, "getrandom");
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(id + 2 * i, 3, "%02x", raw[i]);
    return file_replace(path, str_c(id), err);
}

/* *fresh: it got its name just now. */
static enum status log_id(const char *dir, char id[ARCHIVE_LOG_MAX], bool *fresh, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    if (file_path(path, err, "%s/id", dir) != ST_OK)
        return err->code;
    *fresh = !file_is_regular(path);
    if (*fresh)
        return make_id(path, id, err);
    if (file_slurp(path, ARCHIVE_LOG_MAX, &text, err) == ST_OK) {
        struct str s = str_trim(buf_view(&text));
        if (s.n == 0 || s.n >= ARCHIVE_LOG_MAX)
            err_set(err, ST_FORMAT, "'%s' holds no name of a log", path);
        else
            snprintf(id, ARCHIVE_LOG_MAX, "%.*s", (int)s.n, s.p);
    }
    buf_clear(&text);
    return err->code;
}

/* ---- opening ---- */

static enum status take_name(void *ctx, bool item, struct str name, struct err *err)
{
    return served_name(((struct recsys *)ctx)->live, item, name, err);
}

static enum status take_event(void *ctx, uint32_t user, const struct served_event *e,
                              struct err *err)
{
    return served_put(((struct recsys *)ctx)->live, user, e, err);
}

static enum status take_follow(void *ctx, uint32_t user, uint32_t whom, struct err *err)
{
    return served_follow(((struct recsys *)ctx)->live, user, whom, err);
}

static enum status take_key(void *ctx, const char *key, uint64_t hash,
                            const struct served_result *res, size_t n_reject, struct err *err)
{
    return keep_key(ctx, key, hash, res, n_reject, err);
}

/* Under the lock, or before there are threads. */
static void set_place(struct recsys *r)
{
    struct wal_pos at = archive_at(r->archive);
    r->store.up = true;
    r->store.fault[0] = '\0';
    r->store.segment = at.segment;
    r->store.end = at.end;
}

static enum status attach(struct recsys *r, struct err *err)
{
    r->archive_opts.url = r->store_url;
    r->archive_opts.dir = r->dir;
    return archive_open(&r->archive_opts, &r->archive, err);
}

static void detach(struct recsys *r, const struct err *why)
{
    archive_close(r->archive);
    r->archive = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->store.up || !r->store.fault[0])
        log_line(LOG_WARN, "recsys", NULL, "the event store is away; the log keeps everything",
                 "why=\"%s\"", why->msg);
    r->store.up = false;
    snprintf(r->store.fault, sizeof r->store.fault, "%s", why->msg);
    pthread_mutex_unlock(&r->lock);
}

static enum status load_all(struct recsys *r, struct err *err)
{
    struct archive_counts c = { 0 };
    struct archive_sink s = { r, take_name, take_event, take_follow, take_key };
    if (archive_load(r->archive, &s, &c, err) == ST_OK)
        r->live->counts.merged += c.merged;
    return err->code;
}

/* With the whole log at hand the store can wait; else its rows are the only copy. */
enum status keeper_load(void *ctx, uint32_t first, struct wal_pos *from, struct err *err)
{
    struct recsys *r = ctx;
    struct err why = ERR_INIT;
    bool fresh = false;
    if (log_id(r->events_dir, r->archive_opts.log, &fresh, err) != ST_OK)
        return err->code;
    r->archive_opts.adopt = fresh && first == 0;
    *from = (struct wal_pos){ 0 };
    attach(r, &why);
    r->archive_opts.adopt = false; /* from now on our log has a past of its own */
    if (why.code == ST_OK) {
        *from = archive_at(r->archive);
        set_place(r);
        return load_all(r, err);
    }
    detach(r, &why);
    if (first > 1)
        return err_set(err, why.code,
                       "events before segment %u of the log are in the event store only, which "
                       "cannot be read: %.150s",
                       first, why.msg);
    return ST_OK;
}

/* ---- copying ---- */

struct group {
    struct recsys *r;
    uint64_t records;
};

static enum status copy_record(void *ctx, struct str record, struct err *err)
{
    struct group *g = ctx;
    struct batch b;
    batch_init(&b, BATCH_EVENTS);
    if (batch_decode(&b, record, err) == ST_OK)
        archive_batch(g->r->archive, &b, err);
    batch_clear(&b);
    g->records++;
    return err->code;
}

/* One transaction. true: there may be more. */
static bool copy_some(struct recsys *r, struct err *err)
{
    struct group g = { .r = r };
    struct wal_pos at = archive_at(r->archive), was = at, to;
    pthread_mutex_lock(&r->lock);
    to = r->log_end;
    pthread_mutex_unlock(&r->lock);
    if (at.segment == to.segment && at.end == to.end)
        return false;
    if (archive_begin(r->archive, err) != ST_OK)
        return false;
    wal_read(r->events_dir, &at, to, GROUP_BYTES, copy_record, &g, err);
    archive_commit(r->archive, at, err); /* or rolls back */
    if (err->code != ST_OK)
        return false;
    pthread_mutex_lock(&r->lock);
    set_place(r);
    r->store.copied += g.records;
    pthread_mutex_unlock(&r->lock);
    return at.segment != was.segment || at.end != was.end;
}

static void cut_log(struct recsys *r, struct err *err)
{
    uint64_t bytes = 0;
    wal_forget(r->events_dir, archive_at(r->archive).segment, &bytes, err);
    pthread_mutex_lock(&r->lock);
    r->forgotten += bytes;
    pthread_mutex_unlock(&r->lock);
}

/* Models that are not there yet; *known: how many were looked at. */
static void copy_models(struct recsys *r, uint32_t *known, struct err *err)
{
    uint32_t n;
    char active[RECSYS_ID_MAX];
    struct model_entry *list = models_copy(r, &n, active);
    for (uint32_t i = n; list && n != *known && i-- > 0 && err->code == ST_OK;) {
        json_t *notes = models_notes(r, &list[i]);
        json_object_del(notes, "trace");
        archive_model(r->archive, list[i].id, notes, err);
        json_free(notes);
    }
    if (err->code == ST_OK && list)
        *known = n;
    free(list);
}

static void tell_evaluations(struct recsys *r, struct recsys_ask *a)
{
    if (!r->archive)
        err_set(&a->err, ST_TIMEOUT, "the event store cannot be reached: %.180s", r->store.fault);
    else
        archive_evaluations(r->archive, a->model, a->limit, &a->text, &a->err);
    a->done(a);
}

static void tell_backlog(struct recsys *r)
{
    pthread_mutex_lock(&r->lock);
    struct wal_pos at = { r->store.segment, r->store.end }, to = r->log_end;
    uint64_t seen = r->log.bytes;
    pthread_mutex_unlock(&r->lock);
    uint64_t bytes = wal_between(r->events_dir, at, to);
    pthread_mutex_lock(&r->lock);
    r->store.backlog = bytes;
    r->backlog_seen = seen;
    pthread_mutex_unlock(&r->lock);
}

struct keeping {
    uint32_t models; /* in the store */
    uint64_t retry_ns, wait_ms;
};

static void keep(struct recsys *r, struct keeping *k)
{
    struct err err = ERR_INIT;
    if (!r->archive) {
        if (clock_ns() < k->retry_ns)
            return;
        k->models = UINT32_MAX;
        if (attach(r, &err) == ST_OK) {
            pthread_mutex_lock(&r->lock);
            set_place(r);
            pthread_mutex_unlock(&r->lock);
        }
    }
    while (err.code == ST_OK && copy_some(r, &err) && !atomic_load(&r->ending) &&
           queue_len(r->keep) == 0)
        ;
    if (err.code == ST_OK)
        copy_models(r, &k->models, &err);
    if (err.code == ST_OK)
        cut_log(r, &err);
    if (err.code == ST_OK) {
        k->wait_ms = RETRY_MS;
        return;
    }
    detach(r, &err);
    k->retry_ns = clock_ns() + k->wait_ms * 1000000;
    k->wait_ms = k->wait_ms * 2 < RETRY_MAX_MS ? k->wait_ms * 2 : RETRY_MAX_MS;
}

static void tick(struct recsys *r, struct keeping *k)
{
    keep(r, k);
    tell_backlog(r);
}

/* What is left, when it is little: then the next start has less to read. */
static void finish(struct recsys *r)
{
    struct err err = ERR_INIT;
    uint64_t start = clock_ns();
    while (r->archive && clock_ms_since(start) < CLOSE_MS && copy_some(r, &err))
        ;
}

void *keeper_main(void *arg)
{
    struct recsys *r = arg;
    struct keeping k = { .models = UINT32_MAX, .wait_ms = RETRY_MS };
    pthread_setname_np(pthread_self(), "recsys-keep");
    turns_batch();
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* behind those who answer */
    for (;;) {
        struct recsys_ask *a = queue_pop(r->keep, TICK_MS);
        if (a)
            tell_evaluations(r, a);
        else if (atomic_load(&r->ending))
            break;
        if (!atomic_load(&r->ending)) /* also when somebody asks all the time */
            tick(r, &k);
    }
    finish(r);
    return NULL;
}
