/* recsys/batch_record.c - a batch as a record of the event log and back.
 *
 * Little-endian: u8 version, u8 type, u16 length of the key, u32 users, u32 items, u32 events,
 * u64 hash, u32 refused lines (not in version 1); key; names of users, then of items, each u8
 * length - 1 and bytes; events of u32 user, u32 item, f32 weight, i64 time. */
#include "recsys/batch.h"

#include <math.h>
#include <stdlib.h>

enum { VERSION = 2, HEAD = 24, REJECTS = 4, EVENT = 20 };

static void put(struct buf *out, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_char(out, (char)(v >> (8 * i)));
}

static uint64_t get(const char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)(unsigned char)p[i] << (8 * i);
    return v;
}

static void put_names(struct buf *out, const struct ids *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        struct str s = ids_name(t, i);
        buf_char(out, (char)(s.n - 1));
        buf_str(out, s);
    }
}

static void put_events(struct buf *out, const struct batch *b)
{
    char *p = buf_room(out, b->n * EVENT);
    for (size_t i = 0; p && i < b->n; i++, p += EVENT) {
        const struct batch_event *e = &b->event[i];
        memcpy(p, &e->user, 4); /* hosts are little-endian: meson.build refuses others */
        memcpy(p + 4, &e->item, 4);
        memcpy(p + 8, &e->weight, 4);
        memcpy(p + 12, &e->time, 8);
    }
    if (p) {
        out->n += b->n * EVENT;
        out->p[out->n] = '\0';
    }
}

enum status batch_encode(const struct batch *b, struct buf *out, struct err *err)
{
    size_t n_key = strlen(b->key);
    put(out, VERSION, 1);
    put(out, (uint64_t)b->type, 1);
    put(out, n_key, 2);
    put(out, b->users.n, 4);
    put(out, b->items.n, 4);
    put(out, b->n, 4);
    put(out, b->hash, 8);
    put(out, b->n_reject, 4);
    buf_put(out, b->key, n_key);
    put_names(out, &b->users);
    put_names(out, &b->items);
    put_events(out, b);
    return buf_ok(out, "event log", err);
}

static bool take(struct str *s, size_t n, struct str *ret)
{
    if (s->n < n)
        return false;
    *ret = (struct str){ s->p, n };
    *s = (struct str){ s->p + n, s->n - n };
    return true;
}

static enum status bad(struct err *err, const char *what)
{
    return err_set(err, ST_FORMAT, "a record holds %s", what);
}

static enum status take_names(struct str *s, uint32_t n, struct ids *t, struct err *err)
{
    struct str len, name;
    uint32_t got;
    for (uint32_t i = 0; i < n; i++) {
        if (!take(s, 1, &len) || !take(s, (size_t)(unsigned char)len.p[0] + 1, &name))
            return bad(err, "too few names");
        if (ids_add(t, name, &got, err) != ST_OK)
            return err->code == ST_NOMEM ? err->code : bad(err, "a bad name");
        if (got != i)
            return bad(err, "a name twice");
    }
    return ST_OK;
}

static enum status take_events(struct str s, struct batch *b, struct err *err)
{
    uint32_t n_item = b->type == BATCH_FOLLOWS ? b->users.n : b->items.n;
    for (size_t i = 0; i < b->cap; i++, s.p += EVENT) {
        struct batch_event e = { .user = (uint32_t)get(s.p, 4), .item = (uint32_t)get(s.p + 4, 4) };
        memcpy(&e.weight, s.p + 8, 4);
        e.time = (int64_t)get(s.p + 12, 8);
        if (e.user >= b->users.n || e.item >= n_item || !isfinite(e.weight) || e.weight <= 0 ||
            e.time < 0 || e.time > BATCH_TIME_MAX)
            return bad(err, "an impossible event");
        b->event[b->n++] = e;
    }
    return ST_OK;
}

enum status batch_decode(struct batch *b, struct str record, struct err *err)
{
    struct str head, key, rejects = STR("");
    if (!take(&record, HEAD, &head))
        return bad(err, "too few bytes");
    uint64_t version = get(head.p, 1), type = get(head.p + 1, 1), n_key = get(head.p + 2, 2);
    uint64_t n_user = get(head.p + 4, 4), n_item = get(head.p + 8, 4), n = get(head.p + 12, 4);
    if (version == 0 || version > VERSION)
        return err_set(err, ST_UNSUPPORTED, "a record was written by a newer version");
    if (version > 1 && !take(&record, REJECTS, &rejects))
        return bad(err, "too few bytes");
    if ((type != BATCH_EVENTS && type != BATCH_FOLLOWS) || n_key >= BATCH_KEY_MAX ||
        n_user > record.n || n_item > record.n || n > record.n / EVENT ||
        !take(&record, (size_t)n_key, &key) || memchr(key.p, '\0', key.n))
        return bad(err, "a bad head");
    b->type = (enum batch_type)type;
    b->hash = get(head.p + 16, 8);
    b->n_reject = rejects.n ? (size_t)get(rejects.p, REJECTS) : 0;
    memcpy(b->key, key.p, key.n);
    if (take_names(&record, (uint32_t)n_user, &b->users, err) != ST_OK ||
        take_names(&record, (uint32_t)n_item, &b->items, err) != ST_OK)
        return err->code;
    if (record.n != n * EVENT)
        return bad(err, "another number of events than it says");
    if (n && !(b->event = malloc(n * sizeof *b->event)))
        return err_set(err, ST_NOMEM, "event log");
    b->cap = n;
    return take_events(record, b, err);
}
