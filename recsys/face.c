/* recsys/face.c - copies of what a query needs, taken under the user's lock. */
#include "recsys/fold.h"
#include "recsys/query_parts.h"

#include <stdlib.h>

/* ---- what is left of events ---- */

/* The user has no event behind `at`: the traces tell. */
static void from_traces(const struct gen *g, const struct gen_user *u, double t, struct lefts *ret)
{
    for (uint32_t i = 0; i < u->n; i++) {
        const struct trail *tr = gen_trail(g, u, i);
        struct left *x = &ret->at[ret->n++];
        *x = (struct left){ .item = tr->item, .n = tr->n, .last = tr->last };
        for (uint32_t k = 0; k < g->n_kernel; k++)
            x->k[k] = trail_kernel(g, tr, k, t);
    }
}

/* In the past the events themselves are asked, one by one. */
static void from_events(const struct gen *g, const struct served_user *u, uint32_t n, double t,
                        struct lefts *ret)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct served_event *e = &u->event[i];
        struct left *x = &ret->at[ret->n++];
        *x = (struct left){ .item = e->item, .n = 1, .last = e->t };
        for (uint32_t k = 0; k < g->n_kernel; k++)
            x->k[k] =
                (double)e->weight * last_kernel(g, k, (t - (double)e->t / 1e3) / g->m->unit_s);
    }
}

enum status lefts_get(struct served *l, struct gen *g, uint32_t user, int64_t at, struct lefts *ret,
                      struct err *err)
{
    *ret = (struct lefts){ 0 };
    if (user == IDS_NONE)
        return ST_OK;
    pthread_mutex_t *lock = served_lock(l, user);
    const struct served_user *u = served_user(l, user);
    const struct gen_user *gu = gen_user(g, user, false);
    uint32_t n = u ? u->n : 0;
    while (n && u->event[n - 1].t > at)
        n--;
    bool traces = u && gu && n == u->n;
    uint32_t most = traces ? gu->n : n;
    ret->at = most ? malloc(most * sizeof *ret->at) : NULL;
    if (most && !ret->at)
        err_set(err, ST_NOMEM, "traces");
    else if (traces)
        from_traces(g, gu, (double)at / 1e3, ret);
    else if (most)
        from_events(g, u, n, (double)at / 1e3, ret);
    pthread_mutex_unlock(lock);
    return err->code;
}

/* ---- the user ---- */

static void prior_tau(const struct rmodel *m, float *tau)
{
    for (uint32_t s = 0; s < m->n_scale; s++)
        tau[s] = m->terms & RT_SELF ? (float)(m->a_tau / m->tau_rate[s]) : 0;
}

/* Rows of the active features, summed. theta: [n_feat, stride]. */
static void sum_rows(const struct rmodel *m, const float *theta, const struct topk_query *q,
                     float *out)
{
    for (uint32_t k = 0; k < m->stride; k++) {
        out[k] = 0;
        for (unsigned f = 0; f < q->n_feature; f++)
            out[k] += theta[(size_t)q->feature[f] * m->stride + k];
    }
}

static void copy_list(struct face *f, const struct gen_user *u)
{
    f->list = malloc((u->n_list + 1) * sizeof *f->list);
    if (!f->list) /* then there is none */
        return;
    memcpy(f->list, u->list, u->n_list * sizeof *f->list);
    f->n_list = u->n_list;
    f->list_whole = u->list_whole;
}

static uint32_t slot_of(const struct gen *g, double t)
{
    return g->m->terms & RT_CALENDAR ? calendar_slot(&g->m->zone, t) : 0;
}

enum status face_get(struct served *l, struct gen *g, uint32_t user, int64_t at, struct face *ret,
                     struct err *err)
{
    const struct rmodel *m = g->m;
    uint32_t mu = user == IDS_NONE ? IDS_NONE : gen_user_of(g, user);
    *ret = (struct face){ .user = user, .model_user = mu, .t = (double)at / 1e3 };
    ret->theta = aligned_alloc(64, m->stride * sizeof *ret->theta);
    if (!ret->theta)
        return err_set(err, ST_NOMEM, "query");
    ret->q.n_feature = rmodel_features(m, ret->t, ret->q.feature);
    ret->q.q = ret->theta;
    ret->phi = mu != IDS_NONE && m->phi ? (double)m->phi[mu] : 0;
    const float *theta = mu != IDS_NONE ? rmodel_theta(m, mu, 0) : g->mean_theta;
    prior_tau(m, ret->tau);
    if (mu != IDS_NONE && m->tau)
        memcpy(ret->tau, m->tau + (size_t)mu * m->n_scale, m->n_scale * sizeof *ret->tau);
    if (user == IDS_NONE) {
        sum_rows(m, theta, &ret->q, ret->theta);
        return ST_OK;
    }
    pthread_mutex_t *lock = served_lock(l, user);
    struct gen_user *u = gen_user(g, user, false);
    if (u)
        u->asked = true;
    ret->folded = u && u->theta;
    ret->version = u ? u->version : 0;
    if (ret->folded) {
        theta = u->theta;
        memcpy(ret->tau, u->tau, sizeof ret->tau);
    }
    sum_rows(m, theta, &ret->q, ret->theta);
    if (u && u->list && u->list_slot == slot_of(g, ret->t))
        copy_list(ret, u);
    pthread_mutex_unlock(lock);
    return ST_OK;
}

void face_clear(struct face *f)
{
    free(f->theta);
    free(f->list);
}

void face_keep(struct served *l, struct gen *g, const struct face *f, struct topk_hit *take,
               uint32_t n, bool whole)
{
    if (f->user == IDS_NONE) {
        free(take);
        return;
    }
    pthread_mutex_t *lock = served_lock(l, f->user);
    struct gen_user *u = gen_user(g, f->user, true);
    if (u && u->version == f->version) {
        struct topk_hit *old = u->list;
        u->list = take;
        u->n_list = n;
        u->list_whole = whole;
        u->list_slot = slot_of(g, f->t);
        take = old;
    }
    pthread_mutex_unlock(lock);
    free(take);
}

/* ---- folding in ---- */

/* Events on items that the model knows; *first, *last: of all, seconds. */
static enum status fold_events(struct served *l, const struct gen *g, uint32_t user,
                               struct fold_event **ret, size_t *n, double *first, double *last,
                               struct err *err)
{
    pthread_mutex_t *lock = served_lock(l, user);
    const struct served_user *u = served_user(l, user);
    struct gen_user *gu = gen_user((struct gen *)(uintptr_t)g, user, true);
    *n = 0;
    *ret = u && u->n ? malloc(u->n * sizeof **ret) : NULL;
    if (!gu || (u && u->n && !*ret)) {
        err_set(err, ST_NOMEM, "fold-in of a user");
    } else if (*ret) {
        for (uint32_t i = 0; i < u->n; i++) {
            const struct served_event *e = &u->event[i];
            uint32_t item = gen_item_of(g, e->item);
            if (item != IDS_NONE)
                (*ret)[(*n)++] = (struct fold_event){ (double)e->t / 1e3, item, e->weight };
        }
        *first = (double)u->event[0].t / 1e3;
        *last = (double)u->event[u->n - 1].t / 1e3;
        gu->dirty = false;
    }
    pthread_mutex_unlock(lock);
    return err->code;
}

static void keep_fold(struct served *l, struct gen *g, uint32_t user, struct folded *f)
{
    pthread_mutex_t *lock = served_lock(l, user);
    struct gen_user *u = gen_user(g, user, true);
    if (u) {
        float *old = u->theta;
        u->theta = f->theta;
        f->theta = old;
        u->version++;
        memcpy(u->tau, f->tau, sizeof u->tau);
        free(u->list);
        u->list = NULL;
    }
    pthread_mutex_unlock(lock);
    folded_clear(f);
}

/* Whether anybody asked since the list was made. One that nobody asks for is not made: that costs
 * more than folding in. */
static bool was_asked(struct served *l, struct gen *g, uint32_t user, bool clear)
{
    pthread_mutex_t *lock = served_lock(l, user);
    struct gen_user *u = gen_user(g, user, false);
    bool asked = u && u->asked;
    if (u && clear)
        u->asked = false;
    pthread_mutex_unlock(lock);
    return asked;
}

/* The list of best base items, for the time of the latest event. */
static enum status make_list(struct served *l, struct gen *g, uint32_t user, int64_t at,
                             struct err *err)
{
    struct face f;
    struct topk_hit *list = malloc(SERVED_LIST * sizeof *list);
    uint32_t n = 0;
    if (!list)
        return err_set(err, ST_NOMEM, "best items");
    if (face_get(l, g, user, at, &f, err) == ST_OK) {
        f.q.k = SERVED_LIST;
        if (topk_find(g->index, &f.q, list, &n, NULL, err) == ST_OK) {
            face_keep(l, g, &f, list, n, n == g->m->n_item);
            list = NULL;
        }
    }
    face_clear(&f);
    free(list);
    was_asked(l, g, user, true); /* this was no question of anybody's */
    return err->code;
}

/* Users that social or item-to-item terms explain keep the factors that were fitted: folding in
 * would blame the base for what those terms cause. */
static bool may_fold(const struct gen *g, uint32_t user)
{
    bool own = !(g->m->terms & (RT_SOCIAL | RT_ITEMS | RT_CLUSTERS));
    return gen_user_of(g, user) == IDS_NONE || (own && g->complete);
}

enum status query_fold(struct served *l, struct gen *g, uint32_t user, struct err *err)
{
    struct fold_event *ev = NULL;
    struct folded f;
    size_t n;
    double first = 0, last = 0;
    if (fold_events(l, g, user, &ev, &n, &first, &last, err) == ST_OK && n && may_fold(g, user)) {
        uint32_t mu = gen_user_of(g, user);
        double start = mu == IDS_NONE ? first : g->m->user_start[mu];
        double end = fmax(fmax(g->m->end_s, last), start + g->m->unit_s);
        struct fold_opts o = { .start_s = start, .end_s = end, .eta = g->mean_eta };
        if (fold_user(g->m, ev, n, &o, &f, err) == ST_OK)
            keep_fold(l, g, user, &f);
    }
    free(ev);
    if (err->code == ST_OK && !gen_crosses(g) && was_asked(l, g, user, false))
        make_list(l, g, user, (int64_t)(last * 1e3), err);
    return err->code;
}
