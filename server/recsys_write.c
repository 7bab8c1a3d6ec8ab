/* server/recsys_write.c - the recommender's answers as JSON texts. */
#include "server/recsys_api.h"

#include <math.h>
#include <stdlib.h>

static void put_number(struct buf *out, double v)
{
    if (isfinite(v))
        buf_printf(out, "%.9g", v);
    else
        buf_z(out, "null");
}

static void put_time(struct buf *out, int64_t ms)
{
    buf_printf(out, "%lld.%03lld", (long long)(ms / 1000), (long long)(ms % 1000));
}

/* Numbers of an array. */
static void put_numbers(struct buf *out, const double *v, uint32_t n)
{
    buf_char(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            buf_char(out, ',');
        put_number(out, v[i]);
    }
    buf_char(out, ']');
}

/* ---- reasons ---- */

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static void put_taste(struct served *l, const struct gen *g, const struct query_item *x,
                      struct buf *out)
{
    buf_printf(out, "{\"kind\":\"taste\",\"share\":%.17g,\"factors\":[", share(x->base, x->rate));
    for (unsigned i = 0; i < x->n_factor; i++) {
        uint32_t k = x->factor[i].who;
        buf_printf(out, "%s{\"factor\":%u,\"share\":%.9g,\"items\":[", i ? "," : "", k,
                   share(x->factor[i].rate, x->rate));
        for (int j = 0; j < GEN_TOP; j++) {
            uint32_t item = g->factor_top[k * GEN_TOP + j];
            if (item == IDS_NONE)
                break;
            if (j)
                buf_char(out, ',');
            served_put_name(l, true, g->item_back[item], out);
        }
        buf_z(out, "]}");
    }
    buf_z(out, "]}");
}

struct causes {
    const char *kind, *list;
    double part;
    const struct query_cause *at;
    unsigned n;
};

static void put_causes(struct served *l, const struct causes *c, double whole, struct buf *out)
{
    bool item = strcmp(c->list, "items") == 0;
    buf_printf(out, ",{\"kind\":\"%s\",\"share\":%.17g,\"%s\":[", c->kind, share(c->part, whole),
               c->list);
    for (unsigned i = 0; i < c->n; i++) {
        buf_printf(out, "%s{\"%s\":", i ? "," : "", item ? "item" : "user");
        served_put_name(l, item, c->at[i].who, out);
        buf_printf(out, ",\"share\":%.9g}", share(c->at[i].rate, whole));
    }
    buf_z(out, "]}");
}

/* Shares are of the whole rate and add up to one. */
static void put_reasons(struct served *l, const struct gen *g, const struct query_item *x,
                        struct buf *out)
{
    buf_z(out, ",\"reasons\":[");
    put_taste(l, g, x, out);
    if (x->self > 0) {
        buf_printf(out, ",{\"kind\":\"own\",\"share\":%.17g,\"events\":%u,\"last\":",
                   share(x->self, x->rate), x->n_own);
        put_time(out, x->last);
        buf_char(out, '}');
    }
    struct causes friends = { "friends", "friends", x->social, x->friends, x->n_friend };
    struct causes other = { "items", "items", x->cross, x->other, x->n_other };
    if (x->social > 0)
        put_causes(l, &friends, x->rate, out);
    if (x->cross > 0)
        put_causes(l, &other, x->rate, out);
    buf_char(out, ']');
}

void recsys_write_answer(struct served *l, const struct gen *g, const char *user,
                         const struct query *q, const struct query_answer *a, struct buf *out)
{
    buf_z(out, "{\"user\":");
    json_quote(out, str_c(user));
    buf_z(out, ",\"at\":");
    put_time(out, q->at);
    buf_printf(out, ",\"model\":\"%s\",\"known\":%s,\"in_model\":%s,\"folded\":%s,\"items\":[",
               g->id, q->user != IDS_NONE ? "true" : "false", a->in_model ? "true" : "false",
               a->folded ? "true" : "false");
    for (uint32_t i = 0; i < a->n; i++) {
        const struct query_item *x = &a->item[i];
        buf_z(out, i ? ",{\"item\":" : "{\"item\":");
        served_put_name(l, true, x->item, out);
        buf_printf(out,
                   ",\"rate\":%.17g,\"parts\":{\"base\":%.17g,\"own\":%.17g,\"friends\":%.17g,"
                   "\"items\":%.17g},\"own_events\":%u,\"last\":",
                   x->rate, x->base, x->self, x->social, x->cross, x->n_own);
        if (x->n_own)
            put_time(out, x->last);
        else
            buf_z(out, "null");
        if (q->explain)
            put_reasons(l, g, x, out);
        buf_char(out, '}');
    }
    buf_char(out, ']');
}

/* ---- the rest ---- */

void recsys_write_return(const struct gen *g, const char *user, int64_t at,
                         const struct query_return *r, struct buf *out)
{
    buf_z(out, "{\"user\":");
    json_quote(out, str_c(user));
    buf_z(out, ",\"at\":");
    put_time(out, at);
    buf_printf(out, ",\"model\":\"%s\",\"rate\":%.9g,\"base_rate\":%.9g,\"quantiles\":[", g->id,
               r->rate, r->base_rate);
    for (int i = 0; i < QUERY_QUANTILES; i++) {
        buf_printf(out, "%s{\"q\":%g,\"hours\":", i ? "," : "", query_quantiles[i]);
        put_number(out, r->hours[i]);
        buf_z(out, ",\"time\":");
        if (isfinite(r->hours[i]))
            put_time(out, at + (int64_t)(r->hours[i] * 3600e3));
        else
            buf_z(out, "null");
        buf_char(out, '}');
    }
    buf_printf(out, "],\"by\":\"%s\",\"other\":", r->by_clock ? "clock" : "items");
    if (r->has_other)
        put_numbers(out, r->other, QUERY_QUANTILES);
    else
        buf_z(out, "null");
    buf_z(out, ",\"median_hours\":");
    put_number(out, r->hours[3]);
    buf_z(out, ",\"density\":{\"hours\":");
    put_numbers(out, r->point, r->n_point);
    buf_z(out, ",\"per_hour\":");
    put_numbers(out, r->density, r->n_point);
    buf_z(out, "}}");
}

void recsys_write_curve(struct served *l, const char *user, const struct query_curve *c,
                        struct buf *out)
{
    const struct {
        const char *name;
        const double *v;
    } part[] = {
        { "base", c->base }, { "own", c->self }, { "friends", c->social }, { "items", c->cross }
    };
    buf_z(out, "{\"user\":");
    json_quote(out, str_c(user));
    buf_z(out, ",\"from\":");
    put_time(out, c->from);
    buf_z(out, ",\"step\":");
    put_time(out, c->step);
    buf_printf(out, ",\"points\":%u,\"rates\":{", c->n);
    for (int i = 0; i < 4; i++) {
        buf_printf(out, "%s\"%s\":", i ? "," : "", part[i].name);
        put_numbers(out, part[i].v, c->n);
    }
    buf_z(out, "},\"events\":[");
    for (uint32_t i = 0; i < c->n_event; i++) {
        buf_z(out, i ? ",{\"time\":" : "{\"time\":");
        put_time(out, c->event[i].t);
        buf_z(out, ",\"item\":");
        served_put_name(l, true, c->event[i].item, out);
        buf_char(out, '}');
    }
    buf_z(out, "]}");
}

void recsys_write_similar(struct served *l, const char *item, const struct topk_hit *hit,
                          uint32_t n, struct buf *out)
{
    buf_z(out, "{\"item\":");
    json_quote(out, str_c(item));
    buf_z(out, ",\"items\":[");
    for (uint32_t i = 0; i < n; i++) {
        buf_z(out, i ? ",{\"item\":" : "{\"item\":");
        served_put_name(l, true, hit[i].item, out);
        buf_printf(out, ",\"similarity\":%.6g}", (double)hit[i].score);
    }
    buf_z(out, "]}");
}

static void put_edges(struct served *l, const struct query_edge *e, uint32_t n, struct buf *out)
{
    for (uint32_t i = 0; i < n && i < QUERY_MAX; i++) {
        buf_z(out, i ? ",{\"user\":" : "{\"user\":");
        served_put_name(l, false, e[i].user, out);
        buf_printf(out, ",\"weight\":%.9g}", e[i].weight);
    }
}

void recsys_write_influence(struct served *l, const char *user, const struct query_influence *in,
                            struct buf *out)
{
    buf_z(out, "{\"user\":");
    json_quote(out, str_c(user));
    buf_printf(out, ",\"own\":%.9g,\"by\":[", in->own);
    put_edges(l, in->in, in->n_in, out);
    buf_z(out, "],\"on\":[");
    put_edges(l, in->out, in->n_out, out);
    buf_z(out, "]}");
}

/* ---- users ---- */

enum { LOOK_MAX = 20000 };

struct found {
    uint32_t user, events;
    int64_t last;
};

static int busiest_first(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->events != y->events)
        return x->events > y->events ? -1 : 1;
    return x->user < y->user ? -1 : 1;
}

/* Numbers of the first users with the prefix. */
static uint32_t find_users(struct served *l, struct str prefix, struct found *ret)
{
    uint32_t n = 0;
    pthread_rwlock_rdlock(&l->names);
    for (uint32_t u = 0; u < l->users.n && n < LOOK_MAX; u++)
        if (str_starts(ids_name(&l->users, u), prefix))
            ret[n++] = (struct found){ .user = u };
    pthread_rwlock_unlock(&l->names);
    return n;
}

void recsys_write_users(struct served *l, struct str prefix, uint32_t limit, struct buf *out)
{
    struct found *f = malloc(LOOK_MAX * sizeof *f);
    if (!f) {
        out->failed = true;
        return;
    }
    uint32_t n = find_users(l, prefix, f), kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        pthread_mutex_t *lock = served_lock(l, f[i].user);
        const struct served_user *u = served_user(l, f[i].user);
        if (u && u->n)
            f[kept++] = (struct found){ f[i].user, u->n, u->event[u->n - 1].t };
        pthread_mutex_unlock(lock);
    }
    qsort(f, kept, sizeof *f, busiest_first);
    buf_z(out, "{\"data\":[");
    for (uint32_t i = 0; i < kept && i < limit; i++) {
        buf_z(out, i ? ",{\"user\":" : "{\"user\":");
        served_put_name(l, false, f[i].user, out);
        buf_printf(out, ",\"events\":%u,\"last\":", f[i].events);
        put_time(out, f[i].last);
        buf_char(out, '}');
    }
    buf_printf(out, "],\"has_more\":%s}", kept > limit ? "true" : "false");
    free(f);
}

void recsys_write_stats(struct recsys *r, struct buf *out)
{
    struct recsys_stats s;
    char fault[ERR_MSG_MAX];
    recsys_get_stats(r, &s);
    recsys_fault(r, fault);
    struct gen *g = gen_hold(recsys_served(r));
    buf_printf(out,
               "{\"events\":%llu,\"merged\":%llu,\"late\":%llu,\"users\":%llu,\"items\":%llu,"
               "\"follows\":%llu,\"first\":",
               (unsigned long long)s.counts.events, (unsigned long long)s.counts.merged,
               (unsigned long long)s.counts.late, (unsigned long long)s.counts.users,
               (unsigned long long)s.counts.items, (unsigned long long)s.counts.follows);
    if (s.counts.events)
        put_time(out, s.counts.first);
    else
        buf_z(out, "null");
    buf_z(out, ",\"last\":");
    if (s.counts.events)
        put_time(out, s.counts.last);
    else
        buf_z(out, "null");
    buf_z(out, ",\"now\":");
    put_time(out, recsys_now(r));
    buf_printf(out,
               ",\"log\":{\"bytes\":%llu,\"records\":%llu,\"commits\":%llu,\"torn_bytes\":%llu},"
               "\"store\":{\"up\":%s,\"segment\":%u,\"byte\":%llu,\"backlog_bytes\":%llu,"
               "\"copied\":%llu,\"fault\":",
               (unsigned long long)s.log.bytes, (unsigned long long)s.log.records,
               (unsigned long long)s.log.commits, (unsigned long long)s.log.torn_bytes,
               s.store.up ? "true" : "false", s.store.segment, (unsigned long long)s.store.end,
               (unsigned long long)s.store.backlog, (unsigned long long)s.store.copied);
    if (s.store.fault[0])
        json_quote(out, str_c(s.store.fault));
    else
        buf_z(out, "null");
    buf_printf(out, "},\"folds\":%llu,\"queries\":%llu,\"models\":%llu,\"active\":",
               (unsigned long long)s.folds, (unsigned long long)s.queries,
               (unsigned long long)s.models);
    if (g)
        json_quote(out, str_c(g->id));
    else
        buf_z(out, "null");
    buf_z(out, ",\"fault\":");
    if (fault[0])
        json_quote(out, str_c(fault));
    else
        buf_z(out, "null");
    buf_char(out, '}');
    gen_drop(g);
}
