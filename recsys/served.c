/* recsys/served.c - see live.h: names and events. */
#include "recsys/served.h"

#include "engine/base/json.h"

#include <stdlib.h>

enum status served_create(struct served **ret, struct err *err)
{
    struct served *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(err, ST_NOMEM, "events");
    pthread_rwlock_init(&l->names, NULL);
    pthread_mutex_init(&l->gen_lock, NULL);
    for (int i = 0; i < SERVED_STRIPES; i++)
        pthread_mutex_init(&l->stripe[i], NULL);
    l->counts.first = INT64_MAX;
    l->counts.last = INT64_MIN;
    *ret = l;
    return ST_OK;
}

void served_free(struct served *l)
{
    if (!l)
        return;
    for (uint32_t c = 0; c < SERVED_CHUNKS; c++) {
        struct served_user *u = atomic_load(&l->chunk[c]);
        for (uint32_t i = 0; u && i < SERVED_CHUNK; i++) {
            free(u[i].event);
            free(u[i].follows);
        }
        free(u);
    }
    gen_drop(l->gen);
    ids_clear(&l->users);
    ids_clear(&l->items);
    pthread_rwlock_destroy(&l->names);
    pthread_mutex_destroy(&l->gen_lock);
    for (int i = 0; i < SERVED_STRIPES; i++)
        pthread_mutex_destroy(&l->stripe[i]);
    free(l);
}

/* ---- names ---- */

/* Tables that have to move are made beside the old ones; readers wait for the change alone. */
static enum status make_wide(struct served *l, struct ids *t, struct str name, struct err *err)
{
    struct ids wide, old = *t;
    if (ids_wider(t, name.n, &wide, err) != ST_OK)
        return err->code;
    pthread_rwlock_wrlock(&l->names);
    *t = wide;
    pthread_rwlock_unlock(&l->names);
    ids_clear(&old);
    return ST_OK;
}

enum status served_number(struct served *l, struct ids *t, struct str name, uint32_t *ret,
                          struct err *err)
{
    uint32_t had = ids_find(t, name);
    if (had != IDS_NONE) {
        *ret = had;
        return ST_OK;
    }
    if (t->n >= (uint32_t)SERVED_CHUNKS * SERVED_CHUNK)
        return err_set(err, ST_FULL, "more than %u names", (unsigned)SERVED_CHUNKS * SERVED_CHUNK);
    if (ids_moves(t, name.n) && make_wide(l, t, name, err) != ST_OK)
        return err->code;
    pthread_rwlock_wrlock(&l->names);
    ids_add(t, name, ret, err);
    pthread_rwlock_unlock(&l->names);
    return err->code;
}

enum status served_names(struct served *l, const struct batch *b, uint32_t *map_user,
                         uint32_t *map_item, struct err *err)
{
    for (uint32_t i = 0; i < b->users.n && err->code == ST_OK; i++)
        served_number(l, &l->users, ids_name(&b->users, i), &map_user[i], err);
    for (uint32_t i = 0; i < b->items.n && err->code == ST_OK; i++)
        served_number(l, &l->items, ids_name(&b->items, i), &map_item[i], err);
    atomic_store(&l->n_user, l->users.n);
    atomic_store(&l->n_item, l->items.n);
    return err->code;
}

static uint32_t find(struct served *l, const struct ids *t, struct str name)
{
    pthread_rwlock_rdlock(&l->names);
    uint32_t i = ids_find(t, name);
    pthread_rwlock_unlock(&l->names);
    return i;
}

uint32_t served_find_user(struct served *l, struct str name)
{
    return find(l, &l->users, name);
}

uint32_t served_find_item(struct served *l, struct str name)
{
    return find(l, &l->items, name);
}

void served_put_name(struct served *l, bool item, uint32_t number, struct buf *out)
{
    const struct ids *t = item ? &l->items : &l->users;
    pthread_rwlock_rdlock(&l->names);
    json_quote(out, number < t->n ? ids_name(t, number) : STR(""));
    pthread_rwlock_unlock(&l->names);
}

void served_get_counts(struct served *l, struct served_counts *ret)
{
    pthread_mutex_lock(&l->gen_lock);
    *ret = l->counts;
    pthread_mutex_unlock(&l->gen_lock);
    ret->users = atomic_load(&l->n_user);
    ret->items = atomic_load(&l->n_item);
}

/* ---- events ---- */

pthread_mutex_t *served_lock(struct served *l, uint32_t user)
{
    pthread_mutex_t *m = &l->stripe[user % SERVED_STRIPES];
    pthread_mutex_lock(m);
    return m;
}

struct served_user *served_user(struct served *l, uint32_t user)
{
    if (user / SERVED_CHUNK >= SERVED_CHUNKS)
        return NULL;
    struct served_user *c = atomic_load(&l->chunk[user / SERVED_CHUNK]);
    return c ? &c[user % SERVED_CHUNK] : NULL;
}

/* Writer. */
static struct served_user *make_user(struct served *l, uint32_t user)
{
    _Atomic(struct served_user *) *at = &l->chunk[user / SERVED_CHUNK];
    if (!atomic_load(at)) {
        struct served_user *c = calloc(SERVED_CHUNK, sizeof *c);
        if (!c)
            return NULL;
        atomic_store(at, c);
    }
    return served_user(l, user);
}

static bool has_room(struct served_user *u)
{
    if (u->n < u->cap)
        return true;
    uint32_t cap = u->cap ? u->cap * 2 : 4;
    struct served_event *e = cap > u->cap ? realloc(u->event, cap * sizeof *e) : NULL;
    if (!e)
        return false;
    u->event = e;
    u->cap = cap;
    return true;
}

enum put { PUT_NEW, PUT_TWIN, PUT_NOMEM };

/* In time order; an event that is there already is none. */
static enum put put_event(struct served_user *u, const struct served_event *e)
{
    uint32_t at = u->n;
    while (at > 0 && u->event[at - 1].t > e->t)
        at--;
    for (uint32_t i = at; i-- > 0 && u->event[i].t == e->t;)
        if (u->event[i].item == e->item)
            return PUT_TWIN;
    if (!has_room(u))
        return PUT_NOMEM;
    memmove(u->event + at + 1, u->event + at, (u->n - at) * sizeof *e);
    u->event[at] = *e;
    u->n++;
    return PUT_NEW;
}

static bool put_follow(struct served_user *u, uint32_t whom, bool *known)
{
    *known = false;
    for (uint32_t i = 0; i < u->n_follows && !*known; i++)
        *known = u->follows[i] == whom;
    if (*known)
        return true;
    if (u->n_follows == u->cap_follows) {
        uint32_t cap = u->cap_follows ? u->cap_follows * 2 : 4;
        uint32_t *f = realloc(u->follows, cap * sizeof *f);
        if (!f)
            return false;
        u->follows = f;
        u->cap_follows = cap;
    }
    u->follows[u->n_follows++] = whom;
    return true;
}

static void apply_follow(struct served *l, uint32_t user, uint32_t whom, struct served_result *res,
                         struct err *err)
{
    bool known = false;
    struct served_user *u = make_user(l, user);
    pthread_mutex_t *lock = served_lock(l, user);
    if (!u || !put_follow(u, whom, &known))
        err_set(err, ST_NOMEM, "follow edges");
    pthread_mutex_unlock(lock);
    res->accepted += err->code == ST_OK && !known;
    res->merged += known;
}

static void apply_event(struct served *l, uint32_t user, const struct served_event *e,
                        struct served_result *res, struct err *err)
{
    struct served_user *u = make_user(l, user);
    if (!u) {
        err_set(err, ST_NOMEM, "events");
        return;
    }
    pthread_mutex_t *lock = served_lock(l, user);
    bool late = u->n && u->event[u->n - 1].t > e->t;
    enum put how = put_event(u, e);
    if (how == PUT_NEW && l->gen)
        gen_event(l->gen, user, e, err);
    if (how == PUT_NEW && l->gen && late)
        gen_again(l->gen, user, u, e->item);
    pthread_mutex_unlock(lock);
    if (how == PUT_NOMEM)
        err_set(err, ST_NOMEM, "events");
    res->accepted += how == PUT_NEW;
    res->merged += how == PUT_TWIN;
    res->late += how == PUT_NEW && late;
    if (how == PUT_NEW && l->gen && l->on_dirty)
        l->on_dirty(l->ctx, user);
}

/* ---- from the store ---- */

static void count_one(struct served *l, const struct served_result *res, uint64_t *what)
{
    *what += res->accepted;
    l->counts.merged += res->merged;
    l->counts.late += res->late;
}

enum status served_put(struct served *l, uint32_t user, const struct served_event *e,
                       struct err *err)
{
    struct served_result res = { 0 };
    apply_event(l, user, e, &res, err);
    count_one(l, &res, &l->counts.events);
    l->counts.first = e->t < l->counts.first ? e->t : l->counts.first;
    l->counts.last = e->t > l->counts.last ? e->t : l->counts.last;
    return err->code;
}

enum status served_follow(struct served *l, uint32_t user, uint32_t whom, struct err *err)
{
    struct served_result res = { 0 };
    apply_follow(l, user, whom, &res, err);
    count_one(l, &res, &l->counts.follows);
    return err->code;
}

enum status served_name(struct served *l, bool item, struct str name, struct err *err)
{
    struct ids *t = item ? &l->items : &l->users;
    uint32_t want = t->n, got = 0;
    if (served_number(l, t, name, &got, err) == ST_OK && got != want)
        err_set(err, ST_FORMAT, "the event database holds a name twice");
    atomic_store(item ? &l->n_item : &l->n_user, t->n);
    return err->code;
}

enum status served_apply(struct served *l, const struct batch *b, const uint32_t *map_user,
                         const uint32_t *map_item, struct served_result *res, struct err *err)
{
    int64_t first = INT64_MAX, last = INT64_MIN;
    *res = (struct served_result){ 0 };
    for (size_t i = 0; i < b->n; i++) {
        const struct batch_event *e = &b->event[i];
        if (b->type == BATCH_FOLLOWS) {
            apply_follow(l, map_user[e->user], map_user[e->item], res, err);
            continue;
        }
        struct served_event v = { .t = e->time, .item = map_item[e->item], .weight = e->weight };
        apply_event(l, map_user[e->user], &v, res, err);
        first = v.t < first ? v.t : first;
        last = v.t > last ? v.t : last;
    }
    pthread_mutex_lock(&l->gen_lock);
    struct served_counts *c = &l->counts;
    c->first = first < c->first ? first : c->first;
    c->last = last > c->last ? last : c->last;
    c->merged += res->merged;
    c->late += res->late;
    *(b->type == BATCH_FOLLOWS ? &c->follows : &c->events) += res->accepted;
    pthread_mutex_unlock(&l->gen_lock);
    return err->code;
}
