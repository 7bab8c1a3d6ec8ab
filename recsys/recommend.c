/* recsys/recommend.c - the top items and why.
 *
 * All terms are sums of what is not negative, so the best n of base + excitation are among the best
 * n of base and the excited items: the kept list of best base items and the traces are all that is
 * looked at. With item-to-item terms the base itself depends on the time; it is then one query
 * vector, and the index is asked. */
#include "recsys/query_parts.h"

#include <stdlib.h>

struct cand {
    struct query_item i;
    uint32_t model_item;
    double k_cross; /* own events, item-to-item kernel */
    bool out;       /* filtered */
};

struct table {
    struct cand *at;
    uint32_t n, cap;
    uint32_t *slot, mask; /* of item to cand + 1 */
};

struct work {
    struct served *l;
    struct gen *g;
    const struct query *q;
    struct face f;
    struct lefts own;
    struct table t;
    float *cross; /* [stride] base + item-to-item query vector, RT_ITEMS */
    float *bonus; /* [n_cluster], RT_CLUSTERS */
    uint64_t looked;
};

/* ---- candidates ---- */

static bool rehash(struct table *t, uint32_t n_slot)
{
    uint32_t *slot = calloc(n_slot, sizeof *slot);
    if (!slot)
        return false;
    free(t->slot);
    t->slot = slot;
    t->mask = n_slot - 1;
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t s = (t->at[i].i.item * 0x9E3779B1u >> 7) & t->mask;
        while (slot[s])
            s = (s + 1) & t->mask;
        slot[s] = i + 1;
    }
    return true;
}

static struct cand *find(const struct table *t, uint32_t item)
{
    if (!t->slot)
        return NULL;
    for (uint32_t s = (item * 0x9E3779B1u >> 7) & t->mask; t->slot[s]; s = (s + 1) & t->mask)
        if (t->at[t->slot[s] - 1].i.item == item)
            return &t->at[t->slot[s] - 1];
    return NULL;
}

/* Finds or adds; NULL: no memory. */
static struct cand *put(struct work *w, uint32_t item)
{
    struct table *t = &w->t;
    struct cand *c = find(t, item);
    if (c)
        return c;
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? t->cap * 2 : 256;
        struct cand *p = realloc(t->at, cap * sizeof *p);
        if (!p)
            return NULL;
        t->at = p;
        t->cap = cap;
    }
    if ((!t->slot || (t->n + 1) * 2 > t->mask + 1) &&
        !rehash(t, t->slot ? (t->mask + 1) * 2 : 1024))
        return NULL;
    c = &t->at[t->n];
    *c = (struct cand){ .i = { .item = item, .last = INT64_MIN },
                        .model_item = gen_item_of(w->g, item) };
    uint32_t s = (item * 0x9E3779B1u >> 7) & t->mask;
    while (t->slot[s])
        s = (s + 1) & t->mask;
    t->slot[s] = ++t->n;
    return c;
}

static enum status add_own(struct work *w, struct err *err)
{
    const struct gen *g = w->g;
    for (uint32_t i = 0; i < w->own.n; i++) {
        const struct left *x = &w->own.at[i];
        struct cand *c = put(w, x->item);
        if (!c)
            return err_set(err, ST_NOMEM, "query");
        c->i.n_own += x->n;
        c->i.last = x->last > c->i.last ? x->last : c->i.last;
        for (uint32_t s = 0; s < g->m->n_scale; s++)
            if (!g->m->scale[s].last_only)
                c->i.self += (double)w->f.tau[s] * x->k[s];
        if (gen_crosses(g))
            c->k_cross += x->k[g->item_kernel];
    }
    for (uint32_t i = 0; i < w->t.n; i++) { /* so far, all of them are own ones */
        struct cand *c = &w->t.at[i];
        double age = (double)(w->q->at - c->i.last) / 1e3 / g->m->unit_s;
        for (uint32_t s = 0; s < g->m->n_scale; s++)
            if (g->m->scale[s].last_only)
                c->i.self += (double)w->f.tau[s] * last_kernel(g, s, age);
    }
    return ST_OK;
}

/* Keeps the strongest few. */
static void add_cause(struct query_cause *list, unsigned *n, uint32_t who, double rate)
{
    for (unsigned i = 0; i < *n; i++)
        if (list[i].who == who) {
            rate += list[i].rate;
            memmove(list + i, list + i + 1, (*n - i - 1) * sizeof *list);
            (*n)--;
            break;
        }
    unsigned at = *n;
    while (at && list[at - 1].rate < rate)
        at--;
    if (at == QUERY_CAUSES)
        return;
    unsigned keep = *n < QUERY_CAUSES ? *n : QUERY_CAUSES - 1;
    memmove(list + at + 1, list + at, (keep - at) * sizeof *list);
    list[at] = (struct query_cause){ who, rate };
    *n = keep + 1;
}

static enum status add_friend(struct work *w, uint64_t edge, struct err *err)
{
    const struct rmodel *m = w->g->m;
    uint32_t user = w->g->user_back[m->edge_from[edge]];
    const float *tau = m->edge_tau + edge * m->n_scale;
    struct lefts of;
    lefts_get(w->l, w->g, user, w->q->at, &of, err);
    for (uint32_t i = 0; i < of.n; i++) {
        double rate = 0;
        for (uint32_t s = 0; s < m->n_scale; s++)
            rate += (double)tau[s] * of.at[i].k[s];
        struct cand *c = rate > 0 ? put(w, of.at[i].item) : NULL;
        if (rate > 0 && !c)
            err_set(err, ST_NOMEM, "query");
        if (!c)
            continue;
        c->i.social += rate;
        if (w->q->explain)
            add_cause(c->i.friends, &c->i.n_friend, user, rate * rmodel_per_hour(m));
    }
    free(of.at);
    return err->code;
}

static enum status add_social(struct work *w, struct err *err)
{
    const struct rmodel *m = w->g->m;
    uint32_t mu = w->f.model_user;
    if (!(m->terms & RT_SOCIAL) || mu == IDS_NONE)
        return ST_OK;
    for (uint64_t e = m->edge_ptr[mu]; e < m->edge_ptr[mu + 1] && err->code == ST_OK; e++)
        if (m->edge_from[e] != mu || !(m->terms & RT_SELF)) /* own events are in tau, or here */
            add_friend(w, e, err);
    return err->code;
}

/* ---- filters ---- */

static bool is_out(const struct query *q, uint32_t n_own, int64_t last)
{
    return (q->seen == SEEN_EXCLUDE && n_own) || (q->seen == SEEN_ONLY && !n_own) ||
           (q->cooldown_ms > 0 && n_own && q->at - last < q->cooldown_ms);
}

static bool skip_item(const void *ctx, uint32_t model_item)
{
    const struct work *w = ctx;
    const struct cand *c = find(&w->t, w->g->item_back[model_item]);
    return c && is_out(w->q, c->i.n_own, c->i.last);
}

/* ---- base ---- */

/* The item-to-item term as a query: theta + phi z, z the sum of what events left times their item.
 */
static enum status cross_query(struct work *w, struct err *err)
{
    const struct rmodel *m = w->g->m;
    size_t bytes = m->stride * sizeof(float);
    if (m->terms & RT_CLUSTERS) {
        w->bonus = calloc(m->n_cluster + 1, sizeof *w->bonus);
        if (!w->bonus)
            return err_set(err, ST_NOMEM, "query");
    }
    if (!(m->terms & RT_ITEMS) || !(w->cross = aligned_alloc(64, bytes)))
        return m->terms & RT_ITEMS ? err_set(err, ST_NOMEM, "query") : ST_OK;
    memcpy(w->cross, w->f.theta, bytes);
    return ST_OK;
}

static int by_model_item(const void *a, const void *b)
{
    const struct cand *const *x = a, *const *y = b;
    return ((*x)->model_item > (*y)->model_item) - ((*x)->model_item < (*y)->model_item);
}

/* In the order of the model's items, not of the events' arrival: sums round alike after a restart.
 */
static enum status cross_sums(struct work *w, struct err *err)
{
    const struct rmodel *m = w->g->m;
    const struct cand **order = malloc((w->t.n + 1) * sizeof(const struct cand *));
    if (!order)
        return err_set(err, ST_NOMEM, "query");
    for (uint32_t i = 0; i < w->t.n; i++)
        order[i] = &w->t.at[i];
    qsort(order, w->t.n, sizeof(const struct cand *), by_model_item);
    for (uint32_t i = 0; i < w->t.n; i++) {
        const struct cand *c = order[i];
        float s = (float)(w->f.phi * c->k_cross);
        if (c->model_item == IDS_NONE || s <= 0)
            continue;
        const float *b = rmodel_beta(m, c->model_item, 0);
        for (uint32_t k = 0; w->cross && k < m->stride; k++)
            w->cross[k] += s * b[k];
        const float *pi =
            w->bonus ? m->pi + (size_t)m->cluster[c->model_item] * m->n_cluster : NULL;
        for (uint32_t k = 0; pi && k < m->n_cluster; k++)
            w->bonus[k] += s * pi[k];
    }
    free(order);
    return ST_OK;
}

/* What other items' events add to one. */
static double cross_of(const struct work *w, const struct cand *c)
{
    const struct rmodel *m = w->g->m;
    double s = w->f.phi * c->k_cross, sum = 0;
    if (c->model_item == IDS_NONE)
        return 0;
    if (w->cross) {
        const float *b = rmodel_beta(m, c->model_item, 0);
        for (uint32_t k = 0; k < m->k; k++)
            sum += (double)b[k] * ((double)w->cross[k] - (double)w->f.theta[k] - s * (double)b[k]);
    }
    if (w->bonus) {
        uint32_t b = m->cluster[c->model_item];
        sum += (double)w->bonus[b] - s * (double)m->pi[(size_t)b * m->n_cluster + b];
    }
    return sum > 0 ? sum : 0;
}

static enum status add_hits(struct work *w, const struct topk_hit *hit, uint32_t n, uint32_t want,
                            uint32_t *got, struct err *err)
{
    for (uint32_t i = 0; i < n && *got < want; i++) {
        struct cand *c = put(w, w->g->item_back[hit[i].item]);
        if (!c)
            return err_set(err, ST_NOMEM, "query");
        *got += !is_out(w->q, c->i.n_own, c->i.last);
    }
    return ST_OK;
}

/* Asks the index for the best `k` that no filter takes out. */
static enum status ask_index(struct work *w, uint32_t k, bool filtered, struct topk_hit **ret,
                             uint32_t *n, struct err *err)
{
    struct topk_query q = w->f.q;
    *ret = malloc(k * sizeof **ret);
    if (!*ret)
        return err_set(err, ST_NOMEM, "query");
    q.k = k;
    if (filtered) {
        q.skip = skip_item;
        q.ctx = w;
    }
    if (w->cross)
        q.q = w->cross;
    for (uint32_t c = 0; w->bonus && c < w->g->m->n_cluster; c++)
        q.bonus_max = w->bonus[c] > q.bonus_max ? w->bonus[c] : q.bonus_max;
    q.bonus = w->bonus;
    q.group = w->g->m->cluster;
    return topk_find(w->g->index, &q, *ret, n, &w->looked, err);
}

/* Candidates by base: from the kept list when it reaches far enough. */
static enum status add_base(struct work *w, struct err *err)
{
    struct topk_hit *hit = NULL;
    uint32_t n = 0, got = 0, want = w->q->n;
    if (gen_crosses(w->g) && cross_sums(w, err) != ST_OK)
        return err->code;
    if (w->q->seen == SEEN_ONLY)
        return ST_OK;
    if (gen_crosses(w->g)) {
        /* Own items' scores are overstated here by their own part: so many more are asked for. */
        uint32_t k = want + w->own.n;
        if (ask_index(w, k, true, &hit, &n, err) == ST_OK)
            add_hits(w, hit, n, k, &got, err);
        free(hit);
        return err->code;
    }
    if (w->f.list && add_hits(w, w->f.list, w->f.n_list, want, &got, err) != ST_OK)
        return err->code;
    if (got >= want || (w->f.list && w->f.list_whole))
        return ST_OK;
    bool keep = !w->f.list && want <= SERVED_LIST;
    if (keep && ask_index(w, SERVED_LIST, false, &hit, &n, err) == ST_OK) {
        add_hits(w, hit, n, want, &got, err);
        face_keep(w->l, w->g, &w->f, hit, n, n == w->g->m->n_item);
        hit = NULL;
    }
    if (err->code == ST_OK && got < want && n < w->g->m->n_item &&
        ask_index(w, want, true, &hit, &n, err) == ST_OK) {
        got = 0;
        add_hits(w, hit, n, want, &got, err);
    }
    free(hit);
    return err->code;
}

/* ---- scores ---- */

static void score_all(struct work *w)
{
    const struct gen *g = w->g;
    double per_hour = rmodel_per_hour(g->m);
    for (uint32_t i = 0; i < w->t.n; i++) {
        struct cand *c = &w->t.at[i];
        c->out = is_out(w->q, c->i.n_own, c->i.last);
        if (c->out)
            continue;
        c->i.base = c->model_item == IDS_NONE ? 0 : face_base(g, &w->f, c->model_item) * per_hour;
        c->i.cross = gen_crosses(g) ? cross_of(w, c) * per_hour : 0;
        c->i.self *= per_hour;
        c->i.social *= per_hour;
        c->i.rate = c->i.base + c->i.self + c->i.social + c->i.cross;
    }
}

static int best_first(const void *a, const void *b)
{
    const struct query_item *x = a, *y = b;
    if (x->rate != y->rate)
        return x->rate > y->rate ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static void explain(const struct work *w, struct query_item *x)
{
    const struct rmodel *m = w->g->m;
    uint32_t mi = gen_item_of(w->g, x->item);
    double per_hour = rmodel_per_hour(m);
    for (uint32_t k = 0; mi != IDS_NONE && k < m->k; k++) {
        double b = 0;
        for (unsigned f = 0; f < w->f.q.n_feature; f++)
            b += (double)rmodel_beta(m, mi, w->f.q.feature[f])[k];
        add_cause(x->factor, &x->n_factor, k, (double)w->f.theta[k] * b * per_hour);
    }
    for (uint32_t i = 0; mi != IDS_NONE && gen_crosses(w->g) && i < w->t.n; i++) {
        const struct cand *c = &w->t.at[i];
        double s = w->f.phi * c->k_cross * per_hour;
        if (c->model_item == IDS_NONE || c->model_item == mi || s <= 0)
            continue;
        double pull =
            w->cross
                ? (double)topk_dot(rmodel_beta(m, mi, 0), rmodel_beta(m, c->model_item, 0),
                                   m->stride)
                : (double)m->pi[(size_t)m->cluster[c->model_item] * m->n_cluster + m->cluster[mi]];
        add_cause(x->other, &x->n_other, c->i.item, s * pull);
    }
}

static enum status select_best(struct work *w, struct query_answer *ret, struct err *err)
{
    struct query_item *all = malloc((w->t.n + 1) * sizeof *all);
    uint32_t n = 0;
    if (!all)
        return err_set(err, ST_NOMEM, "query");
    for (uint32_t i = 0; i < w->t.n; i++)
        if (!w->t.at[i].out && w->t.at[i].i.rate > 0)
            all[n++] = w->t.at[i].i;
    qsort(all, n, sizeof *all, best_first);
    n = n < w->q->n ? n : w->q->n;
    for (uint32_t i = 0; i < n && w->q->explain; i++)
        explain(w, &all[i]);
    *ret = (struct query_answer){ .item = all,
                                  .n = n,
                                  .in_model = w->f.model_user != IDS_NONE,
                                  .folded = w->f.folded,
                                  .looked = w->looked };
    return ST_OK;
}

enum status query_recommend(struct served *l, struct gen *g, const struct query *q,
                            struct query_answer *ret, struct err *err)
{
    struct work w = { .l = l, .g = g, .q = q };
    if (face_get(l, g, q->user, q->at, &w.f, err) == ST_OK &&
        lefts_get(l, g, q->user, q->at, &w.own, err) == ST_OK && add_own(&w, err) == ST_OK &&
        add_social(&w, err) == ST_OK && (!gen_crosses(g) || cross_query(&w, err) == ST_OK) &&
        add_base(&w, err) == ST_OK) {
        score_all(&w);
        select_best(&w, ret, err);
    }
    face_clear(&w.f);
    free(w.own.at);
    free(w.t.at);
    free(w.t.slot);
    free(w.cross);
    free(w.bonus);
    return err->code;
}

void query_clear(struct query_answer *a)
{
    free(a->item);
    *a = (struct query_answer){ 0 };
}
