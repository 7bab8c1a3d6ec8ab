/* recsys/archive_rows.c - see archive.h: rows back into memory; models and evaluations. */
#include "engine/base/num.h"
#include "recsys/archive_parts.h"

#include <math.h>
#include <stdlib.h>

/* ---- loading ---- */

struct loading {
    struct archive *a;
    const struct archive_sink *s;
    uint64_t rows;
    struct err *err; /* the sink's, or of a row */
};

static bool bad_row(struct loading *l, const char *what)
{
    err_set(l->err, ST_FORMAT, "the event database holds %s", what);
    return false;
}

static bool load_event(void *ctx, const struct db_value *col, int n)
{
    struct loading *l = ctx;
    struct err err = ERR_INIT;
    double w = 1;
    if (n != 4 || col[0].i < 0 || col[0].i >= l->a->users.n || col[1].i < 0 ||
        col[1].i >= l->a->items.n || col[2].i < 0 || col[2].i > BATCH_TIME_MAX ||
        num_f64(col[3].text, "weight", 0, 1e30, &w, &err) != ST_OK || w <= 0)
        return bad_row(l, "an impossible event");
    struct served_event e = { .t = col[2].i, .item = (uint32_t)col[1].i, .weight = (float)w };
    l->rows++;
    return l->s->event(l->s->ctx, (uint32_t)col[0].i, &e, l->err) == ST_OK;
}

static bool load_follow(void *ctx, const struct db_value *col, int n)
{
    struct loading *l = ctx;
    if (n != 2 || col[0].i < 0 || col[0].i >= l->a->users.n || col[1].i < 0 ||
        col[1].i >= l->a->users.n)
        return bad_row(l, "an impossible follow edge");
    l->rows++;
    return l->s->follow(l->s->ctx, (uint32_t)col[0].i, (uint32_t)col[1].i, l->err) == ST_OK;
}

static bool load_key(void *ctx, const struct db_value *col, int n)
{
    struct loading *l = ctx;
    char key[BATCH_KEY_MAX];
    if (n != 6 || col[0].text.n == 0 || col[0].text.n >= sizeof key)
        return bad_row(l, "an impossible key");
    snprintf(key, sizeof key, "%.*s", (int)col[0].text.n, col[0].text.p);
    struct served_result res = { (uint32_t)col[2].i, (uint32_t)col[3].i, (uint32_t)col[4].i };
    return l->s->key(l->s->ctx, key, (uint64_t)col[1].i, &res, (size_t)col[5].i, l->err) == ST_OK;
}

static enum status load_names(struct archive *a, const struct archive_sink *s, struct err *err)
{
    for (uint32_t i = 0; i < a->users.n && err->code == ST_OK; i++)
        s->name(s->ctx, false, ids_name(&a->users, i), err);
    for (uint32_t i = 0; i < a->items.n && err->code == ST_OK; i++)
        s->name(s->ctx, true, ids_name(&a->items, i), err);
    return err->code;
}

static enum status load_table(struct archive *a, struct loading *l, const char *sql, db_row_fn *fn,
                              struct err *err)
{
    struct err mine = ERR_INIT;
    l->err = &mine;
    if (db_run(a->db, sql, NULL, 0, fn, l, NULL, err) == ST_OK && mine.code != ST_OK)
        *err = mine;
    return err->code;
}

enum status archive_load(struct archive *a, const struct archive_sink *s,
                         struct archive_counts *ret, struct err *err)
{
    struct loading l = { .a = a, .s = s };
    if (load_names(a, s, err) != ST_OK ||
        load_table(a, &l,
                   "SELECT user_id, item_id, at_ms, CAST(weight AS TEXT) FROM recsys_events"
                   " ORDER BY seq",
                   load_event, err) != ST_OK ||
        load_table(a, &l, "SELECT user_id, follows_id FROM recsys_follows ORDER BY seq",
                   load_follow, err) != ST_OK ||
        load_table(a, &l,
                   "SELECT key, hash, accepted, merged, late, rejected FROM recsys_keys ORDER BY "
                   "seq",
                   load_key, err) != ST_OK)
        return err->code;
    *ret = (struct archive_counts){ .merged = a->events + a->follows - l.rows };
    return ST_OK;
}

/* ---- models ---- */

static struct db_value real(const json_t *o, const char *key, char text[32])
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v))
        return db_z(NULL);
    int n = snprintf(text, 32, "%.9g", json_number_value(v));
    return db_str((struct str){ text, (size_t)n });
}

static int64_t whole(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : 0;
}

static struct db_value word(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return db_z(json_is_string(v) ? json_string_value(v) : "");
}

/* One method on all held-out events, on repeated, or on fresh ones. */
static enum status put_part(struct archive *a, const char *id, int64_t ord, const char *part,
                            const json_t *method, struct err *err)
{
    static const char *const figure[] = { "recall@1",     "recall@5", "recall@20", "recall@20_lo",
                                          "recall@20_hi", "ndcg",     "mrr" };
    enum { FIRST = 5, FIGURES = 7 };
    const json_t *o = strcmp(part, "all") == 0 ? method : json_object_get(method, part);
    char text[FIGURES][32];
    struct db_value v[FIRST + FIGURES] = { db_z(id), db_int(ord), db_z(part), word(method, "name"),
                                           db_int(whole(o, "n")) };
    for (int i = 0; i < FIGURES; i++)
        v[FIRST + i] = real(o, figure[i], text[i]);
    return db_run(a->db,
                  "INSERT INTO recsys_evaluations VALUES (?1, ?2, ?3, ?4, ?5, CAST(?6 AS REAL),"
                  " CAST(?7 AS REAL), CAST(?8 AS REAL), CAST(?9 AS REAL), CAST(?10 AS REAL),"
                  " CAST(?11 AS REAL), CAST(?12 AS REAL))",
                  v, FIRST + FIGURES, NULL, NULL, NULL, err);
}

static enum status put_evaluation(struct archive *a, const char *id, const json_t *notes,
                                  struct err *err)
{
    const json_t *list = json_object_get(json_object_get(notes, "evaluation"), "methods"), *m;
    size_t i;
    json_array_foreach(list, i, m)
    {
        if (put_part(a, id, (int64_t)i, "all", m, err) != ST_OK ||
            put_part(a, id, (int64_t)i, "repeat", m, err) != ST_OK ||
            put_part(a, id, (int64_t)i, "fresh", m, err) != ST_OK)
            break;
    }
    return err->code;
}

enum status archive_model(struct archive *a, const char *id, const json_t *notes, struct err *err)
{
    int64_t changed = 0;
    struct buf text = BUF_INIT;
    if (json_write(notes, &text, err) != ST_OK || db_begin(a->db, err) != ST_OK) {
        buf_clear(&text);
        return err->code;
    }
    struct db_value v[] = { db_z(id), db_int(whole(notes, "created")), word(notes, "variant"),
                            db_int(whole(notes, "events")), db_str(buf_view(&text)) };
    if (db_run(a->db,
               "INSERT INTO recsys_models VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING", v, 5,
               NULL, NULL, &changed, err) == ST_OK &&
        changed == 1)
        put_evaluation(a, id, notes, err);
    buf_clear(&text);
    return db_end(a->db, err);
}

struct listing {
    struct buf *out;
    uint32_t n, limit;
    bool more;
};

static bool list_row(void *ctx, const struct db_value *col, int n)
{
    static const char *const figure[] = { "recall@1",     "recall@5", "recall@20", "recall@20_lo",
                                          "recall@20_hi", "ndcg",     "mrr" };
    struct listing *l = ctx;
    if (l->n == l->limit || n != 13) {
        l->more = l->n == l->limit;
        return false;
    }
    buf_z(l->out, l->n++ ? ",{\"model\":" : "{\"model\":");
    json_quote(l->out, col[0].text);
    buf_printf(l->out, ",\"created\":%lld,\"variant\":", (long long)col[1].i);
    json_quote(l->out, col[2].text);
    buf_z(l->out, ",\"method\":");
    json_quote(l->out, col[3].text);
    buf_z(l->out, ",\"part\":");
    json_quote(l->out, col[4].text);
    buf_printf(l->out, ",\"n\":%lld", (long long)col[5].i);
    for (int i = 0; i < 7; i++) {
        struct err err = ERR_INIT;
        double x = 0;
        buf_printf(l->out, ",\"%s\":", figure[i]);
        if (col[6 + i].text.p && num_f64(col[6 + i].text, "", -1e9, 1e9, &x, &err) == ST_OK)
            buf_printf(l->out, "%.9g", x);
        else
            buf_z(l->out, "null");
    }
    buf_char(l->out, '}');
    return true;
}

enum status archive_evaluations(struct archive *a, const char *model, uint32_t limit,
                                struct buf *out, struct err *err)
{
    struct listing l = { .out = out, .limit = limit };
    struct db_value v[] = { db_z(model), db_int((int64_t)limit + 1) };
    buf_z(out, "{\"data\":[");
    db_run(a->db,
           "SELECT m.id, m.created, m.variant, e.method, e.part, e.n, CAST(e.recall_1 AS TEXT),"
           " CAST(e.recall_5 AS TEXT), CAST(e.recall_20 AS TEXT), CAST(e.recall_20_lo AS TEXT),"
           " CAST(e.recall_20_hi AS TEXT), CAST(e.ndcg AS TEXT), CAST(e.mrr AS TEXT)"
           " FROM recsys_evaluations e JOIN recsys_models m ON m.id = e.model"
           " WHERE ?1 = '' OR m.id = ?1 ORDER BY m.created DESC, m.id DESC, e.ord, e.part LIMIT ?2",
           v, 2, list_row, &l, NULL, err);
    buf_printf(out, "],\"has_more\":%s}", l.more ? "true" : "false");
    return err->code == ST_OK ? buf_ok(out, "evaluations", err) : err->code;
}
