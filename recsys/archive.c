/* recsys/archive.c - see archive.h: opening, and records into rows. */
#include "engine/base/num.h"
#include "recsys/archive_parts.h"

#include <stdlib.h>

enum { APPLICATION_ID = 0x53545245, /* "STRE" */ WAIT_MS = 10000, EVENT_COLUMNS = 5 };
static const int sizes[ARCHIVE_SIZES] = { ARCHIVE_ROWS, 8, 1 };

/* Never edit one that was released: add another. */
static const char *const schema[] = {
    "CREATE TABLE recsys_log ("
    "  id INTEGER PRIMARY KEY, log TEXT NOT NULL, segment INTEGER NOT NULL,"
    "  at_byte INTEGER NOT NULL, events INTEGER NOT NULL, follows INTEGER NOT NULL,"
    "  keys INTEGER NOT NULL) STRICT;"
    "CREATE TABLE recsys_users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE recsys_items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE recsys_events ("
    "  seq INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, item_id INTEGER NOT NULL,"
    "  at_ms INTEGER NOT NULL, weight REAL NOT NULL, UNIQUE (user_id, at_ms, item_id)) STRICT;"
    "CREATE TABLE recsys_follows ("
    "  seq INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, follows_id INTEGER NOT NULL,"
    "  UNIQUE (user_id, follows_id)) STRICT;"
    "CREATE TABLE recsys_keys ("
    "  seq INTEGER PRIMARY KEY, key TEXT NOT NULL, hash INTEGER NOT NULL,"
    "  accepted INTEGER NOT NULL, merged INTEGER NOT NULL, late INTEGER NOT NULL,"
    "  rejected INTEGER NOT NULL) STRICT;"
    "CREATE TABLE recsys_models ("
    "  id TEXT PRIMARY KEY, created INTEGER NOT NULL, variant TEXT NOT NULL,"
    "  events INTEGER NOT NULL, notes TEXT NOT NULL) STRICT;"
    "CREATE TABLE recsys_evaluations ("
    "  model TEXT NOT NULL REFERENCES recsys_models (id) ON DELETE CASCADE, ord INTEGER NOT NULL,"
    "  part TEXT NOT NULL, method TEXT NOT NULL, n INTEGER NOT NULL, recall_1 REAL, recall_5 REAL,"
    "  recall_20 REAL, recall_20_lo REAL, recall_20_hi REAL, ndcg REAL, mrr REAL,"
    "  PRIMARY KEY (model, ord, part)) STRICT;"
    "CREATE VIEW recsys_named_events AS SELECT e.seq, u.name AS user_name, i.name AS item_name,"
    "  e.at_ms, e.weight FROM recsys_events e JOIN recsys_users u ON u.id = e.user_id"
    "  JOIN recsys_items i ON i.id = e.item_id;",
};

/* ---- statements of many rows ---- */

/* "head VALUES (row), (row) tail"; the last of `columns` is a real number when `real`. */
static enum status write_insert(struct archive_insert *x, const char *head, int columns, bool real,
                                const char *tail, struct err *err)
{
    for (int s = 0; s < ARCHIVE_SIZES && err->code == ST_OK; s++) {
        struct buf *b = &x->sql[s];
        buf_printf(b, "INSERT INTO %s VALUES ", head);
        for (int r = 0; r < sizes[s]; r++) {
            buf_z(b, r ? ", (" : "(");
            for (int c = 0; c < columns; c++) {
                bool cast = real && c == columns - 1;
                buf_printf(b, "%s%s?%d%s", c ? ", " : "", cast ? "CAST(" : "", r * columns + c + 1,
                           cast ? " AS REAL)" : "");
            }
            buf_char(b, ')');
        }
        buf_z(b, tail);
        buf_ok(b, "event database", err);
    }
    return err->code;
}

static enum status write_inserts(struct archive *a, struct err *err)
{
    static const char merge[] = " ON CONFLICT DO NOTHING RETURNING seq";
    if (write_insert(&a->event, "recsys_events (seq, user_id, item_id, at_ms, weight)",
                     EVENT_COLUMNS, true, merge, err) == ST_OK &&
        write_insert(&a->follow, "recsys_follows (seq, user_id, follows_id)", 3, false, merge,
                     err) == ST_OK &&
        write_insert(&a->user, "recsys_users (id, name)", 2, false, "", err) == ST_OK)
        write_insert(&a->item, "recsys_items (id, name)", 2, false, "", err);
    return err->code;
}

static void clear_insert(struct archive_insert *x)
{
    for (int s = 0; s < ARCHIVE_SIZES; s++)
        buf_clear(&x->sql[s]);
}

/* Rows v [n, columns] in statements as large as they come. */
static enum status insert_rows(struct archive *a, const struct archive_insert *x,
                               const struct db_value *v, int n, int columns, db_row_fn *fn,
                               void *ctx, struct err *err)
{
    for (int done = 0, s = 0; done < n && err->code == ST_OK;) {
        if (sizes[s] > n - done) {
            s++;
            continue;
        }
        db_run(a->db, x->sql[s].p, v + (size_t)done * (size_t)columns, sizes[s] * columns, fn, ctx,
               NULL, err);
        done += sizes[s];
    }
    return err->code;
}

/* ---- opening ---- */

struct found {
    struct archive *a;
    bool any, ours;
    struct err *err;
};

static bool take_log(void *ctx, const struct db_value *col, int n)
{
    struct found *f = ctx;
    struct archive *a = f->a;
    f->any = n == 6;
    f->ours = str_is(col[0].text, a->log);
    a->at = (struct wal_pos){ (uint32_t)col[1].i, (uint64_t)col[2].i };
    a->events = (uint64_t)col[3].i;
    a->follows = (uint64_t)col[4].i;
    a->keys = (uint64_t)col[5].i;
    return false;
}

/* Whose tables these are; new ones become ours. */
static enum status claim(struct archive *a, const struct archive_opts *o, struct err *err)
{
    struct found f = { .a = a };
    struct db_value mine = db_z(a->log);
    if (db_begin(a->db, err) != ST_OK)
        return err->code;
    db_run(a->db, "SELECT log, segment, at_byte, events, follows, keys FROM recsys_log", NULL, 0,
           take_log, &f, NULL, err);
    if (err->code == ST_OK && !f.any)
        db_run(a->db, "INSERT INTO recsys_log VALUES (1, ?1, 0, 0, 0, 0, 0)", &mine, 1, NULL, NULL,
               NULL, err);
    else if (err->code == ST_OK && !f.ours && o->adopt)
        db_run(a->db, "UPDATE recsys_log SET log = ?1", &mine, 1, NULL, NULL, NULL, err);
    else if (err->code == ST_OK && !f.ours)
        err_set(err, ST_BUSY,
                "the event database belongs to another recommender's log: give each server its own "
                "(--recsys-store)");
    return db_end(a->db, err);
}

static bool take_name(void *ctx, const struct db_value *col, int n)
{
    struct found *f = ctx;
    uint32_t at;
    struct ids *t = f->ours ? &f->a->items : &f->a->users;
    if (n != 2 || col[0].i != t->n)
        err_set(f->err, ST_FORMAT, "the event database has a gap in its names at number %u", t->n);
    else
        ids_add(t, col[1].text, &at, f->err);
    return f->err->code == ST_OK;
}

static bool take_last(void *ctx, const struct db_value *col, int n)
{
    struct found *f = ctx;
    if (n != 2 || col[0].i < 0 || col[0].i >= f->a->users.n)
        err_set(f->err, ST_FORMAT, "the event database has an event of nobody");
    else
        f->a->last[col[0].i] = col[1].i;
    return f->err->code == ST_OK;
}

bool archive_users_room(struct archive *a, uint32_t n)
{
    if (n <= a->cap_last)
        return true;
    uint32_t cap = n + n / 2 + 64;
    int64_t *p = realloc(a->last, cap * sizeof *p);
    if (!p)
        return false;
    for (uint32_t i = a->cap_last; i < cap; i++)
        p[i] = INT64_MIN;
    a->last = p;
    a->cap_last = cap;
    return true;
}

static enum status read_names(struct archive *a, struct err *err)
{
    struct err mine = ERR_INIT;
    struct found f = { .a = a, .err = &mine };
    db_run(a->db, "SELECT id, name FROM recsys_users ORDER BY id", NULL, 0, take_name, &f, NULL,
           err);
    f.ours = true;
    if (err->code == ST_OK && mine.code == ST_OK)
        db_run(a->db, "SELECT id, name FROM recsys_items ORDER BY id", NULL, 0, take_name, &f, NULL,
               err);
    if (err->code == ST_OK && mine.code == ST_OK && !archive_users_room(a, a->users.n + 1))
        err_set(&mine, ST_NOMEM, "event database");
    if (err->code == ST_OK && mine.code == ST_OK)
        db_run(a->db, "SELECT user_id, max(at_ms) FROM recsys_events GROUP BY user_id", NULL, 0,
               take_last, &f, NULL, err);
    if (err->code == ST_OK && mine.code != ST_OK)
        *err = mine;
    a->user_rows = a->users.n;
    a->item_rows = a->items.n;
    return err->code;
}

enum status archive_open(const struct archive_opts *o, struct archive **ret, struct err *err)
{
    struct db_opts d = { .url = o->url,
                         .dir = o->dir,
                         .file = "recsys.db",
                         .wait_ms = WAIT_MS,
                         .app = APPLICATION_ID,
                         .what = "event database",
                         .schema = "strobe_recsys_schema",
                         .step = schema,
                         .n_step = sizeof schema / sizeof schema[0] };
    struct archive *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, ST_NOMEM, "event database");
    snprintf(a->log, sizeof a->log, "%s", o->log);
    if (write_inserts(a, err) == ST_OK && db_open(&d, &a->db, err) == ST_OK &&
        claim(a, o, err) == ST_OK && read_names(a, err) == ST_OK) {
        *ret = a;
        return ST_OK;
    }
    archive_close(a);
    return err->code;
}

void archive_close(struct archive *a)
{
    if (!a)
        return;
    db_close(a->db);
    clear_insert(&a->event);
    clear_insert(&a->follow);
    clear_insert(&a->user);
    clear_insert(&a->item);
    ids_clear(&a->users);
    ids_clear(&a->items);
    free(a->last);
    free(a);
}

struct wal_pos archive_at(const struct archive *a)
{
    return a->at;
}

/* ---- records ---- */

enum status archive_begin(struct archive *a, struct err *err)
{
    return db_begin(a->db, err);
}

/* Names that are new get the next numbers, and rows. map: [names->n]. */
static enum status put_names(struct archive *a, bool item, const struct ids *names, uint32_t *map,
                             struct err *err)
{
    struct ids *t = item ? &a->items : &a->users;
    uint32_t *rows = item ? &a->item_rows : &a->user_rows;
    struct db_value v[ARCHIVE_ROWS * 2];
    for (uint32_t i = 0; i < names->n && err->code == ST_OK; i++)
        ids_add(t, ids_name(names, i), &map[i], err);
    while (*rows < t->n && err->code == ST_OK) {
        int n = 0;
        for (; n < ARCHIVE_ROWS && *rows < t->n; n++, ++*rows) {
            v[2 * n] = db_int(*rows);
            v[2 * n + 1] = db_str(ids_name(t, *rows));
        }
        insert_rows(a, item ? &a->item : &a->user, v, n, 2, NULL, NULL, err);
    }
    return err->code;
}

struct outcome {
    uint64_t first;           /* seq of the first row */
    bool fresh[ARCHIVE_ROWS]; /* it was not there yet */
};

static bool take_seq(void *ctx, const struct db_value *col, int n)
{
    struct outcome *o = ctx;
    uint64_t i = (uint64_t)col[0].i - o->first;
    if (n == 1 && i < ARCHIVE_ROWS)
        o->fresh[i] = true;
    return true;
}

static void put_weight(struct db_value *v, float w, char text[24])
{
    int n = snprintf(text, 24, "%.9g", (double)w);
    *v = db_str((struct str){ text, (size_t)n });
}

/* Up to ARCHIVE_ROWS events from e on; counts like served_apply(). */
static enum status put_events(struct archive *a, const struct batch_event *e, int n,
                              const uint32_t *user, const uint32_t *item, struct served_result *res,
                              struct err *err)
{
    struct db_value v[ARCHIVE_ROWS * EVENT_COLUMNS];
    char weight[ARCHIVE_ROWS][24];
    struct outcome o = { .first = a->events };
    for (int i = 0; i < n; i++) {
        struct db_value *row = v + (size_t)i * EVENT_COLUMNS;
        row[0] = db_int((int64_t)(a->events + (uint64_t)i));
        row[1] = db_int(user[e[i].user]);
        row[2] = db_int(item[e[i].item]);
        row[3] = db_int(e[i].time);
        put_weight(&row[4], e[i].weight, weight[i]);
    }
    if (insert_rows(a, &a->event, v, n, EVENT_COLUMNS, take_seq, &o, err) != ST_OK)
        return err->code;
    a->events += (uint64_t)n;
    for (int i = 0; i < n; i++) {
        int64_t *last = &a->last[user[e[i].user]];
        res->accepted += o.fresh[i];
        res->merged += !o.fresh[i];
        res->late += o.fresh[i] && e[i].time < *last;
        *last = o.fresh[i] && e[i].time > *last ? e[i].time : *last;
    }
    return ST_OK;
}

static enum status put_follows(struct archive *a, const struct batch_event *e, int n,
                               const uint32_t *user, struct served_result *res, struct err *err)
{
    struct db_value v[ARCHIVE_ROWS * 3];
    struct outcome o = { .first = a->follows };
    for (int i = 0; i < n; i++) {
        v[3 * i] = db_int((int64_t)(a->follows + (uint64_t)i));
        v[3 * i + 1] = db_int(user[e[i].user]);
        v[3 * i + 2] = db_int(user[e[i].item]);
    }
    if (insert_rows(a, &a->follow, v, n, 3, take_seq, &o, err) != ST_OK)
        return err->code;
    a->follows += (uint64_t)n;
    for (int i = 0; i < n; i++) {
        res->accepted += o.fresh[i];
        res->merged += !o.fresh[i];
    }
    return ST_OK;
}

static enum status put_key(struct archive *a, const struct batch *b,
                           const struct served_result *res, struct err *err)
{
    struct db_value v[] = { db_int((int64_t)a->keys),    db_z(b->key),
                            db_int((int64_t)b->hash),    db_int(res->accepted),
                            db_int(res->merged),         db_int(res->late),
                            db_int((int64_t)b->n_reject) };
    struct db_value old = db_int((int64_t)a->keys - ARCHIVE_KEYS);
    if (db_run(a->db, "INSERT INTO recsys_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", v, 7, NULL,
               NULL, NULL, err) == ST_OK)
        db_run(a->db, "DELETE FROM recsys_keys WHERE seq <= ?1", &old, 1, NULL, NULL, NULL, err);
    a->keys++;
    return err->code;
}

enum status archive_batch(struct archive *a, const struct batch *b, struct err *err)
{
    struct served_result res = { 0 };
    uint32_t *user = malloc(((size_t)b->users.n + b->items.n + 1) * sizeof *user);
    uint32_t *item = user + b->users.n;
    if (!user)
        return err_set(err, ST_NOMEM, "event database");
    if (put_names(a, false, &b->users, user, err) == ST_OK &&
        put_names(a, true, &b->items, item, err) == ST_OK && !archive_users_room(a, a->users.n + 1))
        err_set(err, ST_NOMEM, "event database");
    for (size_t at = 0; at < b->n && err->code == ST_OK; at += ARCHIVE_ROWS) {
        int n = b->n - at < ARCHIVE_ROWS ? (int)(b->n - at) : ARCHIVE_ROWS;
        if (b->type == BATCH_FOLLOWS)
            put_follows(a, b->event + at, n, user, &res, err);
        else
            put_events(a, b->event + at, n, user, item, &res, err);
    }
    if (err->code == ST_OK && b->key[0])
        put_key(a, b, &res, err);
    free(user);
    return err->code;
}

enum status archive_commit(struct archive *a, struct wal_pos at, struct err *err)
{
    int64_t changed = 0;
    struct db_value v[] = { db_int(at.segment),         db_int((int64_t)at.end),
                            db_int((int64_t)a->events), db_int((int64_t)a->follows),
                            db_int((int64_t)a->keys),   db_z(a->log),
                            db_int(a->at.segment),      db_int((int64_t)a->at.end) };
    if (err->code == ST_OK &&
        db_run(a->db,
               "UPDATE recsys_log SET segment = ?1, at_byte = ?2, events = ?3, follows = ?4,"
               " keys = ?5 WHERE log = ?6 AND segment = ?7 AND at_byte = ?8",
               v, 8, NULL, NULL, &changed, err) == ST_OK &&
        changed != 1)
        err_set(err, ST_BUSY, "another recommender writes into the event database");
    if (db_end(a->db, err) == ST_OK)
        a->at = at;
    return err->code;
}
