/* recsys/work.c - the thread "recsys-work": folds users in soon after their events, and looks at
 * the health of the data. */
#include "engine/base/turns.h"
#include "recsys/service_parts.h"

#include <stdlib.h>

enum { TICK_MS = 50 };

/* Without room for one more, all users are looked at. */
void work_dirty(void *ctx, uint32_t user)
{
    struct recsys *r = ctx;
    pthread_mutex_lock(&r->lock);
    if (r->n_dirty < DIRTY_MAX && (!r->n_dirty || r->dirty[r->n_dirty - 1] != user))
        r->dirty[r->n_dirty++] = user;
    else if (r->n_dirty == DIRTY_MAX)
        r->all_dirty = true;
    pthread_mutex_unlock(&r->lock);
}

static bool is_dirty(struct recsys *r, struct gen *g, uint32_t user)
{
    pthread_mutex_t *lock = served_lock(r->live, user);
    const struct gen_user *u = gen_user(g, user, false);
    bool dirty = u && u->dirty;
    pthread_mutex_unlock(lock);
    return dirty;
}

static void fold(struct recsys *r, struct gen *g, uint32_t user)
{
    struct err err = ERR_INIT;
    if (!is_dirty(r, g, user))
        return;
    query_fold(r->live, g, user, &err); /* no memory now: after the next event */
    atomic_fetch_add(&r->folds, 1);
}

/* Takes the list of users with news. */
static uint32_t take_dirty(struct recsys *r, uint32_t *list, bool *all)
{
    pthread_mutex_lock(&r->lock);
    uint32_t n = r->n_dirty;
    memcpy(list, r->dirty, n * sizeof *list);
    r->n_dirty = 0;
    *all = r->all_dirty;
    r->all_dirty = false;
    pthread_mutex_unlock(&r->lock);
    return n;
}

static void fold_all(struct recsys *r, uint32_t *list)
{
    bool all;
    struct gen *g = gen_hold(r->live);
    uint32_t n = take_dirty(r, list, &all);
    if (all && g)
        for (uint32_t u = 0; u < atomic_load(&r->live->n_user) && !atomic_load(&r->ending); u++)
            fold(r, g, u);
    for (uint32_t i = 0; g && i < n && !atomic_load(&r->ending); i++)
        fold(r, g, list[i]);
    gen_drop(g);
}

static void health(struct recsys *r, struct recsys_ask *a)
{
    struct rs_events ev = EVENTS_INIT;
    if (recsys_export(r, &ev, NULL, &a->err) == ST_OK)
        events_health(&ev, &a->health, &a->err);
    events_clear(&ev);
    a->done(a);
}

void *work_main(void *arg)
{
    struct recsys *r = arg;
    uint32_t *list = malloc(DIRTY_MAX * sizeof *list);
    pthread_setname_np(pthread_self(), "recsys-work");
    /* Not behind the others in priority: it holds users' locks, and who waits for one would wait
     * for everything else on the machine. */
    turns_batch();
    for (;;) {
        struct recsys_ask *a = queue_pop(r->work, TICK_MS);
        if (a)
            health(r, a);
        else if (atomic_load(&r->ending))
            break;
        else if (list && !r->no_fold)
            fold_all(r, list);
    }
    free(list);
    return NULL;
}

/* ---- export ---- */

static enum status export_names(struct recsys *r, struct rs_events *ev, struct err *err)
{
    struct served *l = r->live;
    pthread_rwlock_rdlock(&l->names);
    if (ids_copy(&l->users, &ev->users, err) == ST_OK)
        ids_copy(&l->items, &ev->items, err);
    pthread_rwlock_unlock(&l->names);
    return err->code;
}

static bool more_events(struct rs_events *ev, uint64_t n)
{
    if (ev->n + n <= ev->cap)
        return true;
    uint64_t cap = ev->cap * 2 > ev->n + n ? ev->cap * 2 : ev->n + n + 1024;
    double *t = realloc(ev->time, cap * sizeof *t);
    ev->time = t ? t : ev->time;
    uint32_t *u = realloc(ev->user, cap * sizeof *u);
    ev->user = u ? u : ev->user;
    uint32_t *p = realloc(ev->item, cap * sizeof *p);
    ev->item = p ? p : ev->item;
    if (!t || !u || !p)
        return false;
    ev->cap = cap;
    return true;
}

static bool more_follows(struct follows *f, uint64_t n)
{
    if (f->n + n <= f->cap)
        return true;
    uint64_t cap = f->cap * 2 > f->n + n ? f->cap * 2 : f->n + n + 64;
    uint32_t *u = realloc(f->user, cap * sizeof *u);
    f->user = u ? u : f->user;
    uint32_t *s = realloc(f->source, cap * sizeof *s);
    f->source = s ? s : f->source;
    if (!u || !s)
        return false;
    f->cap = cap;
    return true;
}

/* One user's part, under the lock. Items that came after the names were copied wait. */
static bool export_user(struct recsys *r, uint32_t user, struct rs_events *ev, struct follows *f)
{
    pthread_mutex_t *lock = served_lock(r->live, user);
    const struct served_user *u = served_user(r->live, user);
    bool ok = !u || (more_events(ev, u->n) && (!f || more_follows(f, u->n_follows)));
    for (uint32_t i = 0; ok && u && i < u->n; i++) {
        if (u->event[i].item >= ev->items.n)
            continue;
        ev->time[ev->n] = (double)u->event[i].t / 1e3;
        ev->user[ev->n] = user;
        ev->item[ev->n++] = u->event[i].item;
    }
    for (uint32_t i = 0; ok && u && f && i < u->n_follows; i++)
        if (u->follows[i] < ev->users.n) {
            f->user[f->n] = user;
            f->source[f->n++] = u->follows[i];
        }
    pthread_mutex_unlock(lock);
    return ok;
}

enum status recsys_export(struct recsys *r, struct rs_events *ev, struct follows *f,
                          struct err *err)
{
    if (export_names(r, ev, err) != ST_OK)
        return err->code;
    for (uint32_t u = 0; u < ev->users.n; u++)
        if (!export_user(r, u, ev, f))
            return err_set(err, ST_NOMEM, "events");
    ev->sorted = false;
    return events_sort(ev, err);
}
