/* recsys/gen.c - see live.h: what one model makes of the events. */
#include "recsys/fold.h"
#include "recsys/served.h"

#include <stdlib.h>

enum { HASH_FROM = 16 };

/* ---- traces ---- */

struct rkernel gen_kernel(const struct gen *g, uint32_t i)
{
    return i < g->m->n_scale ? g->m->scale[i] : g->m->item_kernel;
}

static void decay(const struct gen *g, struct trail *t, double to)
{
    double dt = (to - t->t) / g->m->unit_s;
    if (!(dt > 0))
        return;
    for (uint32_t i = 0; i < g->n_kernel; i++) {
        double d = exp(-gen_kernel(g, i).w * dt);
        t->s[2 * i + 1] = d * (t->s[2 * i + 1] + dt * t->s[2 * i]);
        t->s[2 * i] *= d;
    }
    t->t = to;
}

double trail_kernel(const struct gen *g, const struct trail *t, uint32_t i, double at)
{
    struct rkernel k = gen_kernel(g, i);
    double dt = at > t->t ? (at - t->t) / g->m->unit_s : 0, d = exp(-k.w * dt);
    return k.order == 2 ? k.w * k.w * d * (t->s[2 * i + 1] + dt * t->s[2 * i])
                        : k.w * d * t->s[2 * i];
}

static uint32_t hash_item(uint32_t item)
{
    uint64_t h = item * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

struct trail *gen_find(const struct gen *g, const struct gen_user *u, uint32_t item)
{
    if (u->slot) {
        for (uint32_t s = hash_item(item) & u->mask; u->slot[s]; s = (s + 1) & u->mask)
            if (gen_trail(g, u, u->slot[s] - 1)->item == item)
                return gen_trail(g, u, u->slot[s] - 1);
        return NULL;
    }
    for (uint32_t i = 0; i < u->n; i++)
        if (gen_trail(g, u, i)->item == item)
            return gen_trail(g, u, i);
    return NULL;
}

static void put_slot(const struct gen *g, struct gen_user *u, uint32_t i)
{
    uint32_t s = hash_item(gen_trail(g, u, i)->item) & u->mask;
    while (u->slot[s])
        s = (s + 1) & u->mask;
    u->slot[s] = i + 1;
}

static bool rehash(const struct gen *g, struct gen_user *u, uint32_t n_slot)
{
    uint32_t *slot = calloc(n_slot, sizeof *slot);
    if (!slot)
        return false;
    free(u->slot);
    u->slot = slot;
    u->mask = n_slot - 1;
    for (uint32_t i = 0; i < u->n; i++)
        put_slot(g, u, i);
    return true;
}

/* Room for one trail more, hash included. */
static bool grow(const struct gen *g, struct gen_user *u)
{
    if (u->n == u->cap) {
        uint32_t cap = u->cap ? u->cap * 2 : 4;
        unsigned char *p = realloc(u->trail, cap * g->trail_bytes);
        if (!p)
            return false;
        u->trail = p;
        u->cap = cap;
    }
    if (u->n + 1 < HASH_FROM)
        return true;
    return (u->slot && (u->n + 1) * 2 <= u->mask + 1) ||
           rehash(g, u, u->slot ? (u->mask + 1) * 2 : HASH_FROM * 4);
}

static struct trail *add_trail(const struct gen *g, struct gen_user *u, uint32_t item, double t)
{
    if (!grow(g, u))
        return NULL;
    struct trail *tr = gen_trail(g, u, u->n);
    memset(tr, 0, g->trail_bytes);
    tr->item = item;
    tr->t = t;
    tr->last = INT64_MIN;
    u->n++;
    if (u->slot)
        put_slot(g, u, u->n - 1);
    return tr;
}

static void add_event(const struct gen *g, struct trail *tr, const struct served_event *e)
{
    double t = (double)e->t / 1e3;
    decay(g, tr, t);
    double late = tr->t > t ? (tr->t - t) / g->m->unit_s : 0, c = (double)e->weight;
    for (uint32_t i = 0; i < g->n_kernel; i++) {
        double d = late > 0 ? c * exp(-gen_kernel(g, i).w * late) : c;
        tr->s[2 * i] += d;
        tr->s[2 * i + 1] += late * d;
    }
    tr->n++;
    tr->last = e->t > tr->last ? e->t : tr->last;
}

void gen_again(struct gen *g, uint32_t user, const struct served_user *lu, uint32_t item)
{
    struct gen_user *u = gen_user(g, user, false);
    struct trail *tr = u ? gen_find(g, u, item) : NULL;
    bool first = true;
    for (uint32_t i = 0; tr && i < lu->n; i++) {
        if (lu->event[i].item != item)
            continue;
        if (first) {
            memset(tr, 0, g->trail_bytes);
            *tr = (struct trail){ .item = item,
                                  .t = (double)lu->event[i].t / 1e3,
                                  .last = INT64_MIN };
            first = false;
        }
        add_event(g, tr, &lu->event[i]);
    }
}

enum status gen_event(struct gen *g, uint32_t user, const struct served_event *e, struct err *err)
{
    double t = (double)e->t / 1e3;
    struct gen_user *u = gen_user(g, user, true);
    struct trail *tr = u ? gen_find(g, u, e->item) : NULL;
    if (u && !tr)
        tr = add_trail(g, u, e->item, t);
    if (!tr)
        return err_set(err, ST_NOMEM, "traces of events");
    add_event(g, tr, e);
    u->dirty = true;
    return ST_OK;
}

/* ---- users ---- */

struct gen_user *gen_user(struct gen *g, uint32_t user, bool make)
{
    if (user / SERVED_CHUNK >= SERVED_CHUNKS)
        return NULL;
    _Atomic(struct gen_user *) *at = &g->chunk[user / SERVED_CHUNK];
    struct gen_user *c = atomic_load(at);
    if (!c && make) {
        struct gen_user *made = calloc(SERVED_CHUNK, sizeof *made);
        if (!made)
            return NULL;
        /* Users of one chunk lie in many stripes: another thread may be as far. */
        if (atomic_compare_exchange_strong(at, &c, made))
            c = made;
        else
            free(made);
    }
    return c ? &c[user % SERVED_CHUNK] : NULL;
}

/* ---- names ---- */

static uint32_t *numbers(uint32_t n)
{
    uint32_t *p = malloc(((size_t)n + 1) * sizeof *p);
    for (uint32_t i = 0; p && i < n; i++)
        p[i] = IDS_NONE;
    return p;
}

/* All of the model's names get live numbers, and both directions are noted. */
static enum status map_names(struct served *l, struct ids *live, const struct ids *model,
                             uint32_t **of, uint32_t *n_of, uint32_t **back, struct err *err)
{
    *back = numbers(model->n);
    if (!*back)
        return err_set(err, ST_NOMEM, "model names");
    for (uint32_t i = 0; i < model->n && err->code == ST_OK; i++)
        served_number(l, live, ids_name(model, i), &(*back)[i], err);
    if (err->code != ST_OK)
        return err->code;
    *n_of = live->n;
    *of = numbers(live->n);
    if (!*of)
        return err_set(err, ST_NOMEM, "model names");
    for (uint32_t i = 0; i < model->n && err->code == ST_OK; i++)
        (*of)[(*back)[i]] = i;
    return err->code;
}

/* ---- making ---- */

static enum status mean_user(struct gen *g, struct err *err)
{
    const struct rmodel *m = g->m;
    size_t n = (size_t)m->n_feat * m->stride;
    g->mean_theta = aligned_alloc(64, n * sizeof(float));
    double *sum = calloc(n, sizeof *sum);
    if (!g->mean_theta || !sum) {
        free(sum);
        return err_set(err, ST_NOMEM, "model");
    }
    for (uint32_t u = 0; u < m->n_user; u++)
        for (size_t i = 0; i < n; i++)
            sum[i] += (double)m->theta[u * n + i];
    for (size_t i = 0; i < n; i++)
        g->mean_theta[i] = (float)(sum[i] / (m->n_user ? m->n_user : 1));
    free(sum);
    g->mean_eta = fold_mean_eta(m);
    return ST_OK;
}

/* What a factor is about: the items with most of it. */
static enum status factor_tops(struct gen *g, struct err *err)
{
    const struct rmodel *m = g->m;
    float best[GEN_TOP];
    g->factor_top = numbers(m->k * GEN_TOP);
    if (!g->factor_top)
        return err_set(err, ST_NOMEM, "model");
    for (uint32_t k = 0; k < m->k; k++) {
        uint32_t *top = g->factor_top + (size_t)k * GEN_TOP, n = 0;
        for (uint32_t p = 0; p < m->n_item; p++) {
            float v = 0;
            for (uint32_t f = 0; f < m->n_feat; f++)
                v += rmodel_beta(m, p, f)[k];
            uint32_t at = n;
            while (at && best[at - 1] < v)
                at--;
            if (at == GEN_TOP)
                continue;
            uint32_t keep = n < GEN_TOP ? n : GEN_TOP - 1;
            memmove(top + at + 1, top + at, (keep - at) * sizeof *top);
            memmove(best + at + 1, best + at, (keep - at) * sizeof *best);
            top[at] = p;
            best[at] = v;
            n = keep + 1;
        }
    }
    return ST_OK;
}

/* Traces of all that happened. */
static enum status replay(struct served *l, struct gen *g, struct err *err)
{
    uint64_t n_before = 0;
    for (uint32_t u = 0; u < l->users.n && err->code == ST_OK; u++) {
        const struct served_user *lu = served_user(l, u); /* we are the writer: no lock */
        for (uint32_t i = 0; lu && i < lu->n && err->code == ST_OK; i++) {
            gen_event(g, u, &lu->event[i], err);
            n_before += (double)lu->event[i].t / 1e3 <= g->m->end_s;
        }
        struct gen_user *gu = gen_user(g, u, false);
        bool news = lu && lu->n && (double)lu->event[lu->n - 1].t / 1e3 > g->m->end_s;
        if (gu)
            gu->dirty = news || (lu && lu->n && gen_user_of(g, u) == IDS_NONE);
    }
    g->complete = n_before == g->m->n_event;
    return err->code;
}

enum status gen_create(struct served *l, struct rmodel *take, const char *id, struct gen **ret,
                       struct err *err)
{
    struct gen *g = calloc(1, sizeof *g);
    if (!g) {
        rmodel_free(take);
        return err_set(err, ST_NOMEM, "model");
    }
    const struct rmodel *m = g->m = take;
    snprintf(g->id, sizeof g->id, "%s", id);
    atomic_init(&g->refs, 1);
    bool cross = (m->terms & (RT_ITEMS | RT_CLUSTERS)) != 0;
    g->item_kernel = m->n_scale;
    g->n_kernel = m->n_scale + cross;
    g->trail_bytes = sizeof(struct trail) + (size_t)2 * g->n_kernel * sizeof(double);
    if (map_names(l, &l->users, &m->users, &g->user_of, &g->n_user_of, &g->user_back, err) !=
            ST_OK ||
        map_names(l, &l->items, &m->items, &g->item_of, &g->n_item_of, &g->item_back, err) !=
            ST_OK ||
        mean_user(g, err) != ST_OK || factor_tops(g, err) != ST_OK || replay(l, g, err) != ST_OK)
        goto fail;
    atomic_store(&l->n_user, l->users.n);
    atomic_store(&l->n_item, l->items.n);
    if (topk_create(m->beta, m->n_item, m->n_feat, m->stride, &g->index, err) != ST_OK)
        goto fail;
    *ret = g;
    return ST_OK;
fail:
    gen_drop(g);
    return err->code;
}

static void free_users(struct gen *g)
{
    for (uint32_t c = 0; c < SERVED_CHUNKS; c++) {
        struct gen_user *u = atomic_load(&g->chunk[c]);
        for (uint32_t i = 0; u && i < SERVED_CHUNK; i++) {
            free(u[i].trail);
            free(u[i].slot);
            free(u[i].theta);
            free(u[i].list);
        }
        free(u);
    }
}

void gen_drop(struct gen *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    free_users(g);
    topk_free(g->index);
    free(g->user_of);
    free(g->item_of);
    free(g->user_back);
    free(g->item_back);
    free(g->mean_theta);
    free(g->factor_top);
    rmodel_free(g->m);
    free(g);
}

struct gen *gen_hold(struct served *l)
{
    pthread_mutex_lock(&l->gen_lock);
    struct gen *g = l->gen;
    if (g)
        atomic_fetch_add(&g->refs, 1);
    pthread_mutex_unlock(&l->gen_lock);
    return g;
}

void gen_publish(struct served *l, struct gen *take)
{
    pthread_mutex_lock(&l->gen_lock);
    struct gen *old = l->gen;
    l->gen = take;
    pthread_mutex_unlock(&l->gen_lock);
    gen_drop(old);
}
