/* recsys/view.c - see view.h. Friends' events are in view_social.c. */
#include "recsys/view_internal.h"

#include <math.h>
#include <stdlib.h>

static void *room(uint64_t n, size_t size)
{
    return calloc(n ? n : 1, size);
}

/* ---- sizes ---- */

struct counts {
    uint64_t n_event, n_pair, n_rec;
};

/* The slots of a pair's events, and how many different ones there are. */
static uint32_t slots_of(const struct view_build *b, uint64_t from, uint64_t n, uint8_t *slot)
{
    bool seen[CALENDAR_SLOTS] = { false };
    uint32_t different = 0;
    for (uint64_t i = 0; i < n; i++) {
        slot[i] = (uint8_t)calendar_slot(b->o->zone, b->g.t[from + i]);
        different += !seen[slot[i]];
        seen[slot[i]] = true;
    }
    return different;
}

static uint64_t pair_len(const struct group *g, uint64_t at, uint64_t end)
{
    uint64_t n = 1;
    while (at + n < end && g->item[at + n] == g->item[at])
        n++;
    return n;
}

static struct counts count(const struct view_build *b, uint8_t *slot)
{
    struct counts c = { 0 };
    for (uint32_t u = b->o->user0; u < b->o->user1; u++) {
        uint64_t end = b->g.user_ptr[u + 1];
        for (uint64_t at = b->g.user_ptr[u], n; at < end; at += n) {
            n = pair_len(&b->g, at, end);
            c.n_event += n;
            c.n_pair++;
            c.n_rec += slot ? slots_of(b, at, n, slot) : 1;
        }
    }
    return c;
}

static enum status make_arrays(struct view *v, const struct view_build *b, struct err *err)
{
    uint64_t nu = v->n_user, ne = v->n_event, nr = v->n_rec;
    bool self = v->terms & RT_SELF, social = v->terms & RT_SOCIAL;
    bool items = v->terms & (RT_ITEMS | RT_CLUSTERS), pairs = social || items;
    bool ok = (v->user_rec = room(nu + 1, 8)) && (v->rec_item = room(nr, 4)) &&
              (v->rec_event = room(nr + 1, 4)) && (v->count = room(ne, sizeof(real))) &&
              (v->raw = room(ne, sizeof(real))) &&
              (v->item_ptr = room((uint64_t)v->n_item + 1, 8)) &&
              (v->csc_user = room(nr * v->user_bytes + 1, 1)) && (v->csc_rec = room(nr, 4)) &&
              (v->exposure = room(nu, 8)) && (v->comp = room(nu * v->n_scale, 8)) &&
              (v->window_class = room(nu, 4));
    if (v->terms & RT_CALENDAR)
        ok = ok && (v->rec_slot = room(nr, 1));
    if (self)
        ok = ok && (v->x = room(ne * v->x_stride, sizeof(real)));
    if (self || pairs)
        ok = ok && (v->t = room(ne, 8));
    if (pairs)
        ok = ok && (v->pair_rec = room(v->n_pair + 1, 8)) && (v->user_pair = room(nu + 1, 8)) &&
             (v->pair_order = room(ne, 4));
    if (items)
        ok = ok && (v->user_order = room(ne, 4)) && (v->pair_comp = room(v->n_pair, 8));
    return ok ? ST_OK
              : err_set(err, ST_NOMEM, "training view of %llu events and %u scales",
                        (unsigned long long)ne, b->o->n_scale);
}

/* ---- one pair ---- */

struct pair_at {
    uint64_t group, n; /* in the group */
    uint64_t rec, event, pair;
    uint32_t user; /* local */
};

/* Final places of the pair's events, which come by time: grouped by slot. place[i]: offset. */
static uint32_t place_events(struct view *v, const uint8_t *slot, struct pair_at p, uint32_t *place)
{
    uint32_t of[CALENDAR_SLOTS + 1] = { 0 }, n_rec = 0;
    if (!slot) {
        for (uint64_t i = 0; i < p.n; i++)
            place[i] = (uint32_t)i;
        v->rec_event[p.rec] = (uint32_t)p.event;
        return 1;
    }
    for (uint64_t i = 0; i < p.n; i++)
        of[slot[i] + 1]++;
    for (uint32_t s = 0; s < CALENDAR_SLOTS; s++) {
        if (of[s + 1]) {
            v->rec_slot[p.rec + n_rec] = (uint8_t)s;
            v->rec_event[p.rec + n_rec++] = (uint32_t)(p.event + of[s]);
        }
        of[s + 1] += of[s];
    }
    for (uint64_t i = 0; i < p.n; i++)
        place[i] = of[slot[i]]++;
    return n_rec;
}

static double kernel_integral(struct rkernel k, double x)
{
    double e = exp(-k.w * x);
    return k.order == 2 ? 1 - (1 + k.w * x) * e : 1 - e;
}

double view_kernel_integral(struct rkernel k, double x)
{
    return kernel_integral(k, x);
}

/* The integral of an event's kernel over the window: what happened before its start is known. */
double view_window_integral(struct rkernel k, double t, double start, double end)
{
    double whole = t < end ? kernel_integral(k, end - t) : 0;
    return t < start ? whole - kernel_integral(k, start - t) : whole;
}

/* Kernel sums before each event: s0 = sum c e^(-w dt), s1 = sum c dt e^(-w dt). */
static void fill_x(struct view *v, uint64_t event, uint64_t n, const uint32_t *place, double start,
                   double end, double *comp)
{
    for (uint32_t m = 0; m < v->n_scale; m++) {
        double s0 = 0, s1 = 0, w = v->scale[m].w;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t e = event + (place ? place[i] : i);
            if (i) {
                uint64_t before = event + (place ? place[i - 1] : i - 1);
                double dt = v->t[e] - v->t[before], d = exp(-w * dt);
                bool last = v->scale[m].last_only;
                s0 = last ? 1 : s0 + (double)v->raw[before];
                s1 = d * ((last ? 0 : s1) + dt * s0);
                s0 *= d;
            }
            v->x[e * v->x_stride + m] = (real)(v->scale[m].order == 2 ? w * w * s1 : w * s0);
            double until = end; /* a last-only kernel ends where the next event is */
            if (v->scale[m].last_only && i + 1 < n)
                until = v->t[event + (place ? place[i + 1] : i + 1)];
            comp[m] += (v->scale[m].last_only ? 1 : (double)v->raw[e]) *
                       view_window_integral(v->scale[m], v->t[e], start, until);
        }
    }
}

static uint32_t put_pair(struct view_build *b, struct pair_at p)
{
    struct view *v = b->v;
    const double start = b->start[p.user], end = b->end[p.user];
    uint8_t *slot = v->rec_slot ? b->slot : NULL;
    if (slot)
        slots_of(b, p.group, p.n, slot);
    uint32_t n_rec = place_events(v, slot, p, b->place);
    for (uint32_t r = 0; r < n_rec; r++)
        v->rec_item[p.rec + r] = b->g.item[p.group];
    for (uint64_t i = 0; i < p.n; i++) {
        uint64_t e = p.event + b->place[i];
        double t = (b->g.t[p.group + i] - b->t0) / v->unit_s;
        v->raw[e] = (real)b->g.count[p.group + i];
        v->count[e] = t < start ? 0 : v->raw[e];
        v->all_count = v->all_count && t >= start;
        v->weight += (double)v->count[e];
        if (v->t)
            v->t[e] = t;
        if (v->pair_order)
            v->pair_order[p.event + i] = (uint32_t)e;
        if (v->pair_comp)
            v->pair_comp[p.pair] +=
                (double)v->raw[e] * view_window_integral(v->item_kernel, t, start, end);
    }
    if (v->x)
        fill_x(v, p.event, p.n, b->place, start, end, v->comp + (uint64_t)p.user * v->n_scale);
    return n_rec;
}

static void put_pairs(struct view_build *b)
{
    struct view *v = b->v;
    struct pair_at p = { 0 };
    for (p.user = 0; p.user < v->n_user; p.user++) {
        uint64_t at = b->g.user_ptr[v->user0 + p.user], end = b->g.user_ptr[v->user0 + p.user + 1];
        uint64_t rec0 = p.rec, event0 = p.event;
        for (; at < end; at += p.n) {
            p.group = at;
            p.n = pair_len(&b->g, at, end);
            uint32_t n_rec = put_pair(b, p);
            p.rec += n_rec;
            p.event += p.n;
            p.pair++;
            if (v->pair_rec)
                v->pair_rec[p.pair] = p.rec;
        }
        v->user_rec[p.user + 1] = p.rec;
        if (v->user_pair)
            v->user_pair[p.user + 1] = p.pair;
        uint64_t n_event = p.event - event0, n_rec = p.rec - rec0;
        v->max_user_event = n_event > v->max_user_event ? n_event : v->max_user_event;
        v->max_user_rec = n_rec > v->max_user_rec ? n_rec : v->max_user_rec;
    }
    v->rec_event[v->n_rec] = (uint32_t)v->n_event;
}

/* ---- by item ---- */

static void transpose(struct view *v, uint64_t *at)
{
    for (uint64_t r = 0; r < v->n_rec; r++)
        v->item_ptr[v->rec_item[r] + 1]++;
    for (uint32_t p = 0; p < v->n_item; p++)
        v->item_ptr[p + 1] += v->item_ptr[p];
    memcpy(at, v->item_ptr, v->n_item * sizeof *at);
    for (uint32_t u = 0; u < v->n_user; u++)
        for (uint64_t r = v->user_rec[u]; r < v->user_rec[u + 1]; r++) {
            uint64_t i = at[v->rec_item[r]]++;
            memcpy(v->csc_user + i * v->user_bytes, &u, v->user_bytes);
            v->csc_rec[i] = (uint32_t)r;
        }
}

/* ---- a user's events by time ---- */

struct timed {
    double t;
    uint32_t event;
};

static int by_time(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;
    if (x->t != y->t)
        return x->t < y->t ? -1 : 1;
    return (x->event > y->event) - (x->event < y->event);
}

static enum status order_users(struct view *v, struct err *err)
{
    struct timed *list = room(v->max_user_event, sizeof *list);
    if (!list)
        return err_set(err, ST_NOMEM, "users' events by time");
    for (uint32_t u = 0; u < v->n_user; u++) {
        uint64_t from = v->rec_event[v->user_rec[u]], end = v->rec_event[v->user_rec[u + 1]];
        for (uint64_t e = from; e < end; e++)
            list[e - from] = (struct timed){ v->t[e], (uint32_t)e };
        qsort(list, end - from, sizeof *list, by_time);
        for (uint64_t e = from; e < end; e++)
            v->user_order[e] = list[e - from].event;
    }
    free(list);
    return ST_OK;
}

/* ---- windows ---- */

/* Users with the same window share their occupancy of the week's hours. */
static enum status occupy(struct view_build *b, struct err *err)
{
    struct view *v = b->v;
    uint32_t n = 0;
    for (uint32_t u = 0; u < v->n_user; u++) {
        bool same = u && b->start[u] == b->start[u - 1] && b->end[u] == b->end[u - 1];
        bool first = u && b->start[u] == b->start[0] && b->end[u] == b->end[0];
        v->window_class[u] = same ? v->window_class[u - 1] : first ? 0 : n++;
    }
    v->n_class = n;
    v->occupied = room((uint64_t)n * CALENDAR_SLOTS, sizeof(double));
    if (!v->occupied)
        return err_set(err, ST_NOMEM, "hours of %u windows", n);
    for (uint32_t u = 0, done = 0; u < v->n_user; u++) {
        if (v->window_class[u] != done)
            continue;
        double t = b->start[u] * v->unit_s + b->t0, end = b->end[u] * v->unit_s + b->t0;
        double *to = v->occupied + (uint64_t)done++ * CALENDAR_SLOTS;
        while (t < end) {
            double left = calendar_to_next(b->o->zone, t), len = left < end - t ? left : end - t;
            to[calendar_slot(b->o->zone, t)] += len / v->unit_s;
            double next = t + len;
            t = next > t ? next : end;
        }
    }
    return ST_OK;
}

static void set_windows(struct view_build *b, const struct view_window *w)
{
    struct view *v = b->v;
    for (uint32_t u = 0; u < v->n_user; u++) {
        b->start[u] = (w->start[v->user0 + u] - b->t0) / v->unit_s;
        b->end[u] = (w->end[v->user0 + u] - b->t0) / v->unit_s;
        v->exposure[u] = b->end[u] > b->start[u] ? b->end[u] - b->start[u] : 0;
    }
}

/* ---- all ---- */

static enum status build(struct view_build *b, const struct rs_events *ev,
                         const struct view_window *w, struct err *err)
{
    struct view *v = b->v;
    uint64_t *at = NULL;
    if (group_events(ev, w->end, &b->g, err) != ST_OK)
        return err->code;
    if (b->g.n >= UINT32_MAX)
        return err_set(err, ST_RANGE, "more than 2^32 events");
    b->slot = v->terms & RT_CALENDAR ? room(b->g.n, 1) : NULL;
    b->place = room(b->g.n, sizeof *b->place);
    b->start = v->start = room(v->n_user, sizeof(double));
    b->end = v->end = room(v->n_user, sizeof(double));
    at = room(v->n_item, sizeof *at);
    if ((v->terms & RT_CALENDAR && !b->slot) || !b->place || !b->start || !b->end || !at) {
        err_set(err, ST_NOMEM, "training view");
        goto done;
    }
    struct counts c = count(b, b->slot);
    v->n_event = c.n_event;
    v->n_pair = c.n_pair;
    v->n_rec = c.n_rec;
    if (make_arrays(v, b, err) != ST_OK)
        goto done;
    set_windows(b, w);
    v->all_count = true;
    put_pairs(b);
    if (v->all_count) { /* no event comes before its user's start: one array serves for both */
        free(v->raw);
        v->raw = v->count;
    }
    transpose(v, at);
    if (v->user_order && order_users(v, err) != ST_OK)
        goto done;
    if ((v->terms & RT_CALENDAR) && !b->o->activity && occupy(b, err) != ST_OK)
        goto done;
    if (v->terms & RT_SOCIAL && view_social(b, err) != ST_OK)
        goto done;
    if (b->o->activity)
        view_activity(b, err);
done:
    free(at);
    return err->code;
}

enum status view_build(const struct rs_events *ev, const struct view_window *w,
                       const struct view_opts *o, struct view **ret, struct err *err)
{
    struct view *v = calloc(1, sizeof *v);
    struct view_build b = { .o = o, .v = v, .t0 = ev->n ? ev->time[0] : 0 };
    if (!v)
        return err_set(err, ST_NOMEM, "training view");
    v->user0 = o->user0;
    v->n_user = o->user1 - o->user0;
    v->n_item = ev->items.n;
    v->user_bytes = v->n_user <= 1U << 24 ? 3 : 4;
    v->terms = o->terms;
    v->n_scale = o->terms & (RT_SELF | RT_SOCIAL) ? o->n_scale : 0;
    v->x_stride = (v->n_scale + 3) / 4 * 4;
    v->unit_s = o->unit_s;
    memcpy(v->scale, o->scale, sizeof v->scale);
    v->item_kernel = o->item_kernel;
    build(&b, ev, w, err);
    group_clear(&b.g);
    free(b.slot);
    free(b.place);
    if (err->code != ST_OK) {
        view_free(v);
        return err->code;
    }
    *ret = v;
    return ST_OK;
}

/* A record's events lie by time where there is no calendar; scales are not learned with one. */
void view_rescale(struct view *v, const struct rkernel *scale)
{
    memcpy(v->scale, scale, sizeof v->scale);
    memset(v->comp, 0, (size_t)v->n_user * v->n_scale * sizeof *v->comp);
    for (uint32_t u = 0; u < v->n_user; u++)
        for (uint64_t r = v->user_rec[u]; r < v->user_rec[u + 1]; r++)
            fill_x(v, v->rec_event[r], v->rec_event[r + 1] - v->rec_event[r], NULL, v->start[u],
                   v->end[u], v->comp + (uint64_t)u * v->n_scale);
}

enum status view_merge_counts(struct view *v, struct err *err)
{
    enum { BIG = 255 };
    uint64_t at = 0;
    v->small = room(v->n_rec, 1);
    for (int pass = 0; v->small && pass < 2; pass++) {
        if (pass && !(v->big = room(v->n_big, sizeof *v->big)))
            break;
        for (uint64_t r = 0; r < v->n_rec; r++) {
            real sum = 0;
            for (uint32_t e = v->rec_event[r]; e < v->rec_event[r + 1]; e++)
                sum += v->count[e];
            v->small[r] = sum < BIG ? (uint8_t)sum : BIG;
            v->n_big += !pass && sum >= BIG;
            if (pass && sum >= BIG)
                v->big[at++] = (struct view_big){ r, sum };
        }
    }
    if (!v->small || !v->big)
        return err_set(err, ST_NOMEM, "counts of %llu pairs", (unsigned long long)v->n_rec);
    v->n_event = v->n_rec;
    if (v->raw != v->count)
        free(v->raw);
    free(v->count);
    free(v->rec_event);
    v->raw = v->count = NULL;
    v->rec_event = NULL;
    return ST_OK;
}

void view_drop_times(struct view *v)
{
    free(v->t);
    v->t = NULL;
}

void view_counts(const struct view *v, uint64_t rec, size_t n, real *out)
{
    const uint8_t *c = v->small + rec;
    uint64_t lo = 0, hi = v->n_big;
    for (size_t i = 0; i < n; i++)
        out[i] = c[i];
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        *(v->big[mid].rec < rec ? &lo : &hi) = v->big[mid].rec < rec ? mid + 1 : mid;
    }
    for (; lo < v->n_big && v->big[lo].rec < rec + n; lo++)
        out[v->big[lo].rec - rec] = v->big[lo].count;
}

void view_users(const struct view *v, uint64_t at, size_t n, uint32_t *out)
{
    const uint8_t *from = v->csc_user + at * v->user_bytes;
    if (v->user_bytes == 4) {
        memcpy(out, from, n * sizeof *out);
        return;
    }
    for (size_t i = 0; i < n; i++) { /* the array has a byte more than its numbers */
        uint32_t u;
        memcpy(&u, from + 3 * i, sizeof u);
        out[i] = u & 0xFFFFFF;
    }
}

void view_free(struct view *v)
{
    if (!v)
        return;
    if (v->raw == v->count)
        v->raw = NULL;
    void *all[] = {
        v->user_rec,  v->rec_item,   v->rec_event, v->rec_slot,  v->count,        v->raw,
        v->x,         v->t,          v->item_ptr,  v->csc_user,  v->csc_rec,      v->start,
        v->end,       v->exposure,   v->comp,      v->occupied,  v->window_class, v->edge_ptr,
        v->edge_from, v->edge_comp,  v->pair_rec,  v->user_pair, v->pair_order,   v->pair_trigger,
        v->trigger,   v->user_order, v->pair_comp, v->small,     v->big
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(v);
}

uint64_t view_record_bytes(const struct view *v)
{
    return 4 + 4 + v->user_bytes + (v->rec_slot ? 1 : 0) + (v->small ? 1 : 4);
}

uint64_t view_event_bytes(const struct view *v)
{
    return v->small ? 0
                    : (v->raw == v->count ? 1 : 2) * sizeof(real) +
                          (v->x ? v->x_stride * sizeof(real) : 0) + (v->t ? 8 : 0) +
                          (v->pair_order ? 4 : 0) + (v->user_order ? 4 : 0);
}

uint64_t view_bytes(const struct view *v)
{
    return v->n_rec * view_record_bytes(v) + v->n_event * view_event_bytes(v) +
           v->n_big * sizeof *v->big + v->n_trigger * sizeof *v->trigger +
           v->n_user * (8 + 8 + 4 + 8 * (uint64_t)v->n_scale) + (uint64_t)v->n_item * 8;
}
