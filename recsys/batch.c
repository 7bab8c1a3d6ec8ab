/* recsys/batch.c - see batch.h; the log's form is in batch_record.c. */
#include "recsys/batch.h"

#include "engine/base/json.h"
#include "engine/base/num.h"
#include "engine/base/utf8.h"
#include "recsys/events.h"

#include <math.h>
#include <stdlib.h>

enum { COLUMNS_MAX = 64, WEIGHT_MAX = 1000000 };

void batch_init(struct batch *b, enum batch_type type)
{
    memset(b, 0, sizeof *b);
    b->type = type;
}

void batch_clear(struct batch *b)
{
    ids_clear(&b->users);
    ids_clear(&b->items);
    free(b->event);
    b->event = NULL;
    b->n = b->cap = 0;
}

void batch_refuse(struct batch *b, uint32_t line, const char *why)
{
    if (b->n_reject < BATCH_REJECTS_MAX)
        b->reject[b->n_reject] = (struct batch_reject){ line, why };
    b->n_reject++;
}

/* ---- times ---- */

static bool seconds(double s, int64_t *ms)
{
    double m = s * 1000;
    if (!(m >= 0 && m <= (double)BATCH_TIME_MAX))
        return false;
    *ms = (int64_t)llround(m);
    return true;
}

bool batch_time(struct str text, int64_t *ms)
{
    struct err err = ERR_INIT;
    double s;
    bool named = text.n >= 20 && text.p[4] == '-';
    if ((named ? events_rfc3339(text, &s, &err) : num_f64(text, "time", 0, 1e15, &s, &err)) !=
        ST_OK)
        return false;
    return seconds(s, ms);
}

/* ---- lines ---- */

static const char bad_user[] = "'user' must be a name of 1 to 256 bytes";
static const char bad_item[] = "'item' must be a name of 1 to 256 bytes";
static const char bad_follows[] = "'follows' must be a name of 1 to 256 bytes";
static const char bad_time[] = "'time' must be Unix seconds (not negative) or RFC 3339 text";
static const char bad_late[] = "'time' lies in the future";
static const char bad_weight[] = "'weight' must be a number above 0, at most 1000000";

static bool name_ok(struct str s)
{
    return s.n > 0 && s.n <= BATCH_NAME_MAX && !memchr(s.p, '\0', s.n);
}

static bool room(struct batch *b, struct err *err)
{
    if (b->n < b->cap)
        return true;
    size_t cap = b->cap ? b->cap * 2 : 256;
    struct batch_event *e = realloc(b->event, cap * sizeof *e);
    if (!e) {
        err_set(err, ST_NOMEM, "batch");
        return false;
    }
    b->event = e;
    b->cap = cap;
    return true;
}

enum status batch_add(struct batch *b, struct str user, struct str item, int64_t time,
                      double weight, uint32_t line, struct err *err)
{
    bool follows = b->type == BATCH_FOLLOWS;
    struct batch_event e = { .line = line, .time = time, .weight = (float)weight };
    const char *why = !name_ok(user)                      ? bad_user
                      : !name_ok(item)                    ? (follows ? bad_follows : bad_item)
                      : follows && str_eq(user, item)     ? "a user cannot follow itself"
                      : time < 0 || time > BATCH_TIME_MAX ? bad_time
                      : !(weight > 0 && weight <= (double)WEIGHT_MAX) ? bad_weight
                                                                      : NULL;
    if (why) {
        batch_refuse(b, line, why);
        return ST_OK;
    }
    if (!room(b, err) || ids_add(&b->users, user, &e.user, err) != ST_OK ||
        ids_add(follows ? &b->users : &b->items, item, &e.item, err) != ST_OK)
        return err->code;
    b->event[b->n++] = e;
    return ST_OK;
}

/* ---- JSON ---- */

struct reading {
    struct batch *b;
    int64_t latest;
    struct err *err;
};

static struct str text_of(const json_t *v)
{
    return json_is_string(v) ? (struct str){ json_string_value(v), json_string_length(v) }
                             : (struct str){ "", 0 };
}

static bool json_time(const json_t *v, int64_t *ms)
{
    return json_is_number(v) ? seconds(json_number_value(v), ms)
                             : json_is_string(v) && batch_time(text_of(v), ms);
}

static void json_line(struct reading *r, const json_t *v, uint32_t line)
{
    bool follows = r->b->type == BATCH_FOLLOWS;
    int64_t ms = 0;
    const json_t *weight = json_object_get(v, "weight");
    double w = 1;
    if (!json_is_object(v)) {
        batch_refuse(r->b, line, "must be an object");
        return;
    }
    if (weight && !json_is_null(weight))
        w = json_is_number(weight) ? json_number_value(weight) : 0;
    if (!follows && !json_time(json_object_get(v, "time"), &ms))
        batch_refuse(r->b, line, bad_time);
    else if (!follows && ms > r->latest)
        batch_refuse(r->b, line, bad_late);
    else
        batch_add(r->b, text_of(json_object_get(v, "user")),
                  text_of(json_object_get(v, follows ? "follows" : "item")), ms, w, line, r->err);
}

static enum status too_many(struct err *err)
{
    return err_set(err, ST_RANGE, "a batch has at most %d lines: send several", BATCH_LINES_MAX);
}

static enum status parse_json(struct reading *r, struct str text)
{
    json_t *doc = NULL, *v;
    size_t i;
    if (json_parse(text, "request body", &doc, r->err) != ST_OK)
        return r->err->code;
    const char *name = r->b->type == BATCH_FOLLOWS ? "follows" : "events";
    const json_t *list = json_is_object(doc) ? json_object_get(doc, name) : doc;
    if (!json_is_array(list))
        err_set(r->err, ST_FORMAT, "the body must be {\"%s\":[...]} or a list", name);
    else if (json_array_size(list) > BATCH_LINES_MAX)
        too_many(r->err);
    else
        json_array_foreach(list, i, v)
        {
            json_line(r, v, (uint32_t)i + 1);
            if (r->err->code != ST_OK)
                break;
        }
    json_free(doc);
    return r->err->code;
}

/* ---- lines of text ---- */

/* Cuts the next line off *rest, without its end. */
static struct str next_line(struct str *rest)
{
    const char *eol = memchr(rest->p, '\n', rest->n);
    size_t n = eol ? (size_t)(eol - rest->p) : rest->n;
    struct str line = { rest->p, n };
    size_t used = eol ? n + 1 : n;
    *rest = (struct str){ rest->p + used, rest->n - used };
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static enum status parse_ndjson(struct reading *r, struct str text)
{
    for (uint32_t line = 1; text.n && r->err->code == ST_OK; line++) {
        struct err bad = ERR_INIT;
        json_t *v = NULL;
        struct str s = next_line(&text);
        if (line > BATCH_LINES_MAX)
            return too_many(r->err);
        if (str_trim(s).n == 0)
            continue;
        if (json_parse(s, "line", &v, &bad) == ST_OK)
            json_line(r, v, line);
        else if (bad.code == ST_NOMEM)
            err_set(r->err, ST_NOMEM, "batch");
        else
            batch_refuse(r->b, line, "is not JSON");
        json_free(v);
    }
    return r->err->code;
}

/* ---- TSV ---- */

enum column { COL_USER, COL_ITEM, COL_TIME, COL_WEIGHT, N_COL };

static size_t split(struct str line, struct str field[COLUMNS_MAX])
{
    size_t n = 0;
    for (;;) {
        const char *tab = memchr(line.p, '\t', line.n);
        size_t k = tab ? (size_t)(tab - line.p) : line.n;
        if (n < COLUMNS_MAX)
            field[n++] = (struct str){ line.p, k };
        if (!tab)
            return n;
        line = (struct str){ line.p + k + 1, line.n - k - 1 };
    }
}

/* Which field is which column; a missing one is COLUMNS_MAX. */
static enum status read_header(const struct reading *r, struct str line, size_t at[N_COL])
{
    bool follows = r->b->type == BATCH_FOLLOWS;
    const char *const names[N_COL] = { "user", follows ? "follows" : "item", "time", "weight" };
    struct str field[COLUMNS_MAX];
    size_t n = split(line, field);
    for (int c = 0; c < N_COL; c++) {
        at[c] = COLUMNS_MAX;
        for (size_t i = 0; i < n; i++)
            if (str_is(str_trim(field[i]), names[c]))
                at[c] = i;
        if (at[c] == COLUMNS_MAX && (c < COL_TIME || (c == COL_TIME && !follows)))
            return err_set(r->err, ST_FORMAT,
                           "the first line must name the columns, tabs between: '%s' is missing",
                           names[c]);
    }
    return ST_OK;
}

static void tsv_line(struct reading *r, const size_t at[N_COL], struct str line, uint32_t number)
{
    struct str field[COLUMNS_MAX + 1];
    size_t n = split(line, field);
    int64_t ms = 0;
    double w = 1;
    struct err bad = ERR_INIT;
    for (size_t i = n; i <= COLUMNS_MAX; i++)
        field[i] = (struct str){ "", 0 };
    bool follows = r->b->type == BATCH_FOLLOWS;
    if (at[COL_WEIGHT] < n && num_f64(field[at[COL_WEIGHT]], "weight", 0, 1e300, &w, &bad) != ST_OK)
        w = 0;
    struct str user = field[at[COL_USER]], item = field[at[COL_ITEM]];
    if (!utf8_valid(user) || !utf8_valid(item))
        batch_refuse(r->b, number, "is not UTF-8");
    else if (!follows && !batch_time(str_trim(field[at[COL_TIME]]), &ms))
        batch_refuse(r->b, number, bad_time);
    else if (!follows && ms > r->latest)
        batch_refuse(r->b, number, bad_late);
    else
        batch_add(r->b, user, item, ms, w, number, r->err);
}

static enum status parse_tsv(struct reading *r, struct str text)
{
    size_t at[N_COL] = { 0 };
    if (read_header(r, next_line(&text), at) != ST_OK)
        return r->err->code;
    for (uint32_t line = 2; text.n && r->err->code == ST_OK; line++) {
        struct str s = next_line(&text);
        if (line > BATCH_LINES_MAX + 1)
            return too_many(r->err);
        if (s.n)
            tsv_line(r, at, s, line);
    }
    return r->err->code;
}

enum status batch_parse(struct batch *b, enum batch_format format, struct str text, int64_t latest,
                        struct err *err)
{
    struct reading r = { .b = b, .latest = latest, .err = err };
    return format == BATCH_TSV      ? parse_tsv(&r, text)
           : format == BATCH_NDJSON ? parse_ndjson(&r, text)
                                    : parse_json(&r, text);
}
