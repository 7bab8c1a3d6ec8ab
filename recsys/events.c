/* recsys/events.c - event columns: growing, order, health. Parsing is in events_parse.c. */
#include "recsys/events.h"

#include "recsys/events_internal.h"

#include <math.h>
#include <stdlib.h>

enum { EVENTS_MAX_DEFAULT = INT32_MAX };

static bool grow(void *column, uint64_t cap, size_t size)
{
    void **p = column, *q = realloc(*p, cap * size);
    if (q)
        *p = q;
    return q != NULL;
}

static enum status make_room(struct rs_events *ev, struct err *err)
{
    if (ev->n < ev->cap)
        return ST_OK;
    uint64_t cap = ev->cap ? ev->cap * 2 : 1024;
    bool ok = grow(&ev->time, cap, sizeof *ev->time) && grow(&ev->user, cap, sizeof *ev->user) &&
              grow(&ev->item, cap, sizeof *ev->item);
    for (unsigned i = 0; ok && i < ev->n_attr; i++)
        ok = grow(&ev->attr[i].of, cap, sizeof *ev->attr[i].of);
    if (!ok)
        return err_set(err, ST_NOMEM, "%llu events", (unsigned long long)cap);
    ev->cap = cap;
    return ST_OK;
}

enum status events_append(struct rs_events *ev, struct event_row row, const struct str *attr,
                          struct err *err)
{
    uint32_t value[EVENTS_ATTRS_MAX];
    if (ev->n >= EVENTS_MAX_DEFAULT)
        return err_set(err, ST_RANGE, "more than %d events", EVENTS_MAX_DEFAULT);
    if (make_room(ev, err) != ST_OK)
        return err->code;
    uint64_t n = ev->n;
    if (ids_add(&ev->users, row.user, &ev->user[n], err) != ST_OK)
        return err_ctx(err, "user");
    if (ids_add(&ev->items, row.item, &ev->item[n], err) != ST_OK)
        return err_ctx(err, "item");
    for (unsigned i = 0; i < ev->n_attr; i++)
        if (ids_add(&ev->attr[i].value, attr ? attr[i] : STR(""), &value[i], err) != ST_OK)
            return err_ctx(err, "column '%s'", ev->attr[i].name);
    for (unsigned i = 0; i < ev->n_attr; i++)
        ev->attr[i].of[n] = value[i];
    ev->time[n] = row.time;
    ev->sorted = n == 0 || (ev->sorted && ev->time[n - 1] <= row.time);
    ev->n++;
    return ST_OK;
}

enum status events_add(struct rs_events *ev, struct str user, struct str item, double time,
                       struct err *err)
{
    if (!(fabs(time) <= EVENTS_TIME_MAX))
        return err_set(err, ST_RANGE, "time %g is no time", time);
    return events_append(ev, (struct event_row){ user, item, time }, NULL, err);
}

enum status events_like(const struct rs_events *from, struct rs_events *to, struct err *err)
{
    struct rs_events out = EVENTS_INIT;
    if (ids_copy(&from->users, &out.users, err) != ST_OK ||
        ids_copy(&from->items, &out.items, err) != ST_OK)
        goto fail;
    for (unsigned i = 0; i < from->n_attr; i++) {
        struct event_attr *a = &out.attr[out.n_attr++];
        a->name = str_dup(str_c(from->attr[i].name));
        if (!a->name || ids_copy(&from->attr[i].value, &a->value, err) != ST_OK) {
            err_set(err, ST_NOMEM, "columns");
            goto fail;
        }
    }
    *to = out;
    return ST_OK;
fail:
    events_clear(&out);
    return err->code;
}

enum status events_take(struct rs_events *to, const struct rs_events *from, uint64_t row,
                        struct err *err)
{
    if (make_room(to, err) != ST_OK)
        return err->code;
    uint64_t n = to->n++;
    to->user[n] = from->user[row];
    to->item[n] = from->item[row];
    to->time[n] = from->time[row];
    for (unsigned i = 0; i < to->n_attr; i++)
        to->attr[i].of[n] = from->attr[i].of[row];
    to->sorted = n == 0 || (to->sorted && to->time[n - 1] <= to->time[n]);
    return ST_OK;
}

/* ---- order ---- */

/* Merge sort of row numbers by time: stable, n log n on any input. */
static void sort_rows(const double *time, uint32_t *row, uint32_t *tmp, uint64_t n)
{
    for (uint64_t width = 1; width < n; width *= 2) {
        for (uint64_t lo = 0; lo < n; lo += 2 * width) {
            uint64_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
            uint64_t a = lo, b = mid, o = lo;
            while (a < mid || b < hi)
                tmp[o++] =
                    b == hi || (a < mid && time[row[a]] <= time[row[b]]) ? row[a++] : row[b++];
        }
        memcpy(row, tmp, n * sizeof *row);
    }
}

static void permute_u32(uint32_t *v, const uint32_t *row, uint32_t *tmp, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        tmp[i] = v[row[i]];
    memcpy(v, tmp, n * sizeof *v);
}

enum status events_sort(struct rs_events *ev, struct err *err)
{
    if (ev->sorted || ev->n == 0)
        return ST_OK;
    uint64_t n = ev->n;
    uint32_t *row = malloc(n * sizeof *row), *tmp = malloc(n * sizeof *tmp);
    double *time = malloc(n * sizeof *time);
    if (!row || !tmp || !time) {
        err_set(err, ST_NOMEM, "sorting %llu events", (unsigned long long)n);
        goto done;
    }
    for (uint64_t i = 0; i < n; i++)
        row[i] = (uint32_t)i;
    sort_rows(ev->time, row, tmp, n);
    for (uint64_t i = 0; i < n; i++)
        time[i] = ev->time[row[i]];
    memcpy(ev->time, time, n * sizeof *time);
    permute_u32(ev->user, row, tmp, n);
    permute_u32(ev->item, row, tmp, n);
    for (unsigned i = 0; i < ev->n_attr; i++)
        permute_u32(ev->attr[i].of, row, tmp, n);
    ev->sorted = true;
done:
    free(row);
    free(tmp);
    free(time);
    return err->code;
}

const struct event_attr *events_attr(const struct rs_events *ev, const char *name)
{
    for (unsigned i = 0; i < ev->n_attr; i++)
        if (strcmp(ev->attr[i].name, name) == 0)
            return &ev->attr[i];
    return NULL;
}

void events_clear(struct rs_events *ev)
{
    free(ev->time);
    free(ev->user);
    free(ev->item);
    for (unsigned i = 0; i < ev->n_attr; i++) {
        free(ev->attr[i].name);
        free(ev->attr[i].of);
        ids_clear(&ev->attr[i].value);
    }
    ids_clear(&ev->users);
    ids_clear(&ev->items);
    *ev = (struct rs_events)EVENTS_INIT;
}

/* ---- health ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct seen {
    double last, *gap;
    uint64_t n_gap, ties, twins;
    double tick;
};

/* Gaps and ties of one user's events, which come in order of time. */
static void look_at_gaps(const struct rs_events *ev, double *last, uint64_t *n_of, struct seen *s)
{
    for (uint64_t i = 0; i < ev->n; i++) {
        uint32_t u = ev->user[i];
        if (n_of[u]++) {
            double gap = ev->time[i] - last[u];
            s->gap[s->n_gap++] = gap;
            s->ties += gap == 0;
            if (gap > 0 && (s->tick == 0 || gap < s->tick))
                s->tick = gap;
        }
        last[u] = ev->time[i];
    }
    qsort(s->gap, s->n_gap, sizeof *s->gap, by_value);
}

static uint64_t count_pairs(const struct rs_events *ev, uint64_t *key)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < ev->n; i++)
        key[i] = (uint64_t)ev->user[i] << 32 | ev->item[i];
    qsort(key, ev->n, sizeof *key, by_key);
    for (uint64_t i = 0; i < ev->n; i++)
        n += i == 0 || key[i] != key[i - 1];
    return n;
}

/* Events that are the same as an earlier one: among equal times, equal keys. */
static uint64_t count_twins(const struct rs_events *ev, uint64_t *key)
{
    uint64_t twins = 0;
    for (uint64_t i = 0; i < ev->n;) {
        uint64_t n = 0;
        for (; i + n < ev->n && ev->time[i + n] == ev->time[i]; n++)
            key[n] = (uint64_t)ev->user[i + n] << 32 | ev->item[i + n];
        qsort(key, n, sizeof *key, by_key);
        for (uint64_t j = 1; j < n; j++)
            twins += key[j] == key[j - 1];
        i += n;
    }
    return twins;
}

enum status events_health(const struct rs_events *ev, struct events_health *ret, struct err *err)
{
    uint64_t n = ev->n, single = 0;
    *ret = (struct events_health){ .n = n, .users = ev->users.n, .items = ev->items.n };
    if (n == 0)
        return ST_OK;
    double *last = calloc(ev->users.n, sizeof *last);
    uint64_t *n_of = calloc(ev->users.n, sizeof *n_of), *key = malloc(n * sizeof *key);
    struct seen s = { .gap = malloc(n * sizeof *s.gap) };
    if (!last || !n_of || !key || !s.gap) {
        err_set(err, ST_NOMEM, "health of %llu events", (unsigned long long)n);
        goto done;
    }
    look_at_gaps(ev, last, n_of, &s);
    for (uint32_t u = 0; u < ev->users.n; u++)
        single += n_of[u] == 1;
    ret->first_s = ev->time[0];
    ret->last_s = ev->time[n - 1];
    ret->pairs = count_pairs(ev, key);
    ret->twin_share = (double)count_twins(ev, key) / (double)n;
    ret->repeat_share = (double)(n - ret->pairs) / (double)n;
    ret->tie_share = (double)s.ties / (double)n;
    ret->gap_median_s = s.n_gap ? s.gap[s.n_gap / 2] : 0;
    ret->single_share = (double)single / (double)ev->users.n;
    ret->tick_s = s.tick;
done:
    free(last);
    free(n_of);
    free(key);
    free(s.gap);
    return err->code;
}
