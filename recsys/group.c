/* recsys/group.c - see group.h. */
#include "recsys/group.h"

#include <stdlib.h>

/* Stable counting sort of `from` by key into `to`; ptr has n_key + 1 places. */
static void by_key(const uint32_t *key, const uint32_t *from, uint32_t *to, uint64_t n,
                   uint64_t *ptr, uint32_t n_key)
{
    memset(ptr, 0, ((uint64_t)n_key + 1) * sizeof *ptr);
    for (uint64_t i = 0; i < n; i++)
        ptr[key[from[i]] + 1]++;
    for (uint32_t k = 0; k < n_key; k++)
        ptr[k + 1] += ptr[k];
    for (uint64_t i = 0; i < n; i++)
        to[ptr[key[from[i]]]++] = from[i];
}

/* Rows, sorted by user, item, time, to columns; equal ones merge. */
static void merge(const struct rs_events *ev, const uint32_t *row, uint64_t n, struct group *g)
{
    uint64_t o = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t r = row[i], before = i ? row[i - 1] : 0;
        if (i && ev->user[r] == ev->user[before] && ev->item[r] == ev->item[before] &&
            ev->time[r] == ev->time[before]) {
            g->count[o - 1]++;
            continue;
        }
        g->item[o] = ev->item[r];
        g->t[o] = ev->time[r];
        g->count[o] = 1;
        g->user_ptr[ev->user[r] + 1] = ++o;
    }
    for (uint32_t u = 0; u < g->n_user; u++)
        if (g->user_ptr[u + 1] < g->user_ptr[u])
            g->user_ptr[u + 1] = g->user_ptr[u];
    g->n = o;
}

enum status group_events(const struct rs_events *ev, const double *end, struct group *ret,
                         struct err *err)
{
    uint32_t n_user = ev->users.n, n_item = ev->items.n;
    uint32_t n_key = n_user > n_item ? n_user : n_item;
    struct group g = { .n_user = n_user };
    uint64_t n = 0, room = ev->n ? ev->n : 1;
    uint32_t *a = calloc(room, sizeof *a), *b = calloc(room, sizeof *b);
    uint64_t *ptr = malloc(((uint64_t)n_key + 2) * sizeof *ptr);
    g.user_ptr = calloc((uint64_t)n_user + 2, sizeof *g.user_ptr);
    g.item = malloc(room * sizeof *g.item);
    g.t = malloc(room * sizeof *g.t);
    g.count = malloc(room * sizeof *g.count);
    if (!a || !b || !ptr || !g.user_ptr || !g.item || !g.t || !g.count) {
        group_clear(&g);
        err_set(err, ST_NOMEM, "grouping %llu events", (unsigned long long)ev->n);
        goto done;
    }
    for (uint64_t i = 0; i < ev->n; i++)
        if (ev->time[i] <= end[ev->user[i]])
            a[n++] = (uint32_t)i;
    by_key(ev->item, a, b, n, ptr, n_item);
    by_key(ev->user, b, a, n, ptr, n_user);
    merge(ev, a, n, &g);
    *ret = g;
done:
    free(a);
    free(b);
    free(ptr);
    return err->code;
}

uint64_t group_pair(const struct group *g, uint32_t user, uint32_t item, uint64_t *n)
{
    uint64_t lo = g->user_ptr[user], hi = g->user_ptr[user + 1], end = hi;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (g->item[mid] < item)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (*n = 0; lo + *n < end && g->item[lo + *n] == item;)
        ++*n;
    return lo;
}

void group_clear(struct group *g)
{
    free(g->user_ptr);
    free(g->item);
    free(g->t);
    free(g->count);
    *g = (struct group){ 0 };
}
