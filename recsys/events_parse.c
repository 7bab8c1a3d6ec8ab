/* recsys/events_parse.c - event files and social graphs from text (events.h). */
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "recsys/events_internal.h"

#include <stdlib.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = INT32_MAX, UNKNOWN = -1 };

/* Which column is what. */
struct columns {
    int user, item, time;
    int attr[EVENTS_ATTRS_MAX]; /* column of each attribute, UNKNOWN: this file has none */
    unsigned n;
};

static int find_column(const struct table *t, const char *name)
{
    for (unsigned i = 0; i < t->n; i++)
        if (str_is(str_trim(t->field[i]), name))
            return (int)i;
    return UNKNOWN;
}

static enum status must_have(const struct table *t, const char *name, int *ret, struct err *err)
{
    *ret = find_column(t, name);
    if (*ret != UNKNOWN)
        return ST_OK;
    return err_set(err, ST_FORMAT,
                   "no column '%s': the first line names the columns user, item, time in any "
                   "order, separated by tabs or commas",
                   name);
}

static enum status attr_add(struct rs_events *ev, struct str name, struct err *err)
{
    struct event_attr a = { .name = str_dup(name) };
    uint32_t none;
    a.of = calloc(ev->cap ? ev->cap : 1, sizeof *a.of);
    if (!a.name || !a.of || ids_add(&a.value, STR(""), &none, err) != ST_OK) {
        free(a.name);
        free(a.of);
        ids_clear(&a.value);
        return err_set(err, ST_NOMEM, "column");
    }
    ev->attr[ev->n_attr++] = a; /* events before have the value 0, "" */
    return ST_OK;
}

static enum status attr_columns(struct rs_events *ev, const struct table *t, struct columns *c,
                                struct err *err)
{
    for (unsigned i = 0; i < t->n; i++) {
        struct str name = str_trim(t->field[i]);
        bool own = (int)i == c->user || (int)i == c->item || (int)i == c->time;
        bool known = false;
        for (unsigned a = 0; a < ev->n_attr; a++)
            known = known || str_is(name, ev->attr[a].name);
        if (own || known || !name.n || name.n > IDS_NAME_MAX)
            continue;
        if (ev->n_attr == EVENTS_ATTRS_MAX)
            break; /* the rest is left out: nothing uses more */
        if (attr_add(ev, name, err) != ST_OK)
            return err->code;
    }
    for (unsigned a = 0; a < ev->n_attr; a++)
        c->attr[a] = find_column(t, ev->attr[a].name);
    return ST_OK;
}

static enum status header(struct rs_events *ev, struct table *t, const struct event_opts *o,
                          struct columns *c, struct err *err)
{
    bool more;
    if (table_next(t, &more, err) != ST_OK)
        return err->code;
    if (!more)
        return err_set(err, ST_FORMAT, "empty: no header with the columns user, item, time");
    c->n = t->n;
    if (must_have(t, o->user ? o->user : "user", &c->user, err) != ST_OK ||
        must_have(t, o->item ? o->item : "item", &c->item, err) != ST_OK ||
        must_have(t, o->time ? o->time : "time", &c->time, err) != ST_OK)
        return err->code;
    return o->no_attrs ? ST_OK : attr_columns(ev, t, c, err);
}

static enum status name_ok(struct str s, const char *what, struct err *err)
{
    if (!s.n)
        return err_set(err, ST_FORMAT, "no %s", what);
    if (s.n > IDS_NAME_MAX)
        return err_set(err, ST_FORMAT, "%s of %zu bytes: at most %d", what, s.n, IDS_NAME_MAX);
    return memchr(s.p, 0, s.n) ? err_set(err, ST_FORMAT, "%s with a NUL byte", what) : ST_OK;
}

static enum status one_row(struct rs_events *ev, const struct table *t, const struct columns *c,
                           double unit_s, struct err *err)
{
    struct str attr[EVENTS_ATTRS_MAX];
    if (t->n != c->n)
        return err_set(err, ST_FORMAT, "%u fields where the header has %u", t->n, c->n);
    struct event_row row = { .user = str_trim(t->field[c->user]),
                             .item = str_trim(t->field[c->item]) };
    if (name_ok(row.user, "user", err) != ST_OK || name_ok(row.item, "item", err) != ST_OK ||
        events_time(t->field[c->time], unit_s, &row.time, err) != ST_OK)
        return err->code;
    for (unsigned a = 0; a < ev->n_attr; a++) {
        attr[a] = c->attr[a] != UNKNOWN ? t->field[c->attr[a]] : STR("");
        if (attr[a].n > IDS_NAME_MAX)
            attr[a].n = IDS_NAME_MAX;
    }
    return events_append(ev, row, attr, err);
}

enum status events_parse(struct rs_events *ev, struct str text, const char *what,
                         const struct event_opts *o, struct err *err)
{
    static const struct event_opts plain;
    struct table t;
    struct columns c = { 0 };
    bool more = true;
    o = o ? o : &plain;
    for (unsigned a = 0; a < EVENTS_ATTRS_MAX; a++)
        c.attr[a] = UNKNOWN;
    table_open(&t, text);
    if (header(ev, &t, o, &c, err) != ST_OK)
        goto done;
    while (more) {
        uint64_t line = t.line;
        if (table_next(&t, &more, err) != ST_OK || !more)
            break;
        line = t.line - 1 > line ? t.line - 1 : line;
        if (o->max_events && ev->n >= o->max_events)
            err_set(err, ST_RANGE, "more than %llu events", (unsigned long long)o->max_events);
        else
            one_row(ev, &t, &c, o->unit_s, err);
        if (err->code != ST_OK) {
            err_ctx(err, "line %llu", (unsigned long long)line);
            break;
        }
    }
done:
    table_close(&t);
    return err->code ? err_ctx(err, "%s", what) : ST_OK;
}

/* "-": standard input. */
static enum status slurp(const char *path, struct buf *text, struct err *err)
{
    return strcmp(path, "-") == 0
               ? file_slurp_fd(STDIN_FILENO, "standard input", FILE_BYTES_MAX, text, err)
               : file_slurp(path, FILE_BYTES_MAX, text, err);
}

enum status events_read(struct rs_events *ev, const char *path, const struct event_opts *o,
                        struct err *err)
{
    struct buf text = BUF_INIT;
    const char *what = strcmp(path, "-") == 0 ? "standard input" : path;
    if (slurp(path, &text, err) == ST_OK)
        events_parse(ev, buf_view(&text), what, o, err);
    buf_clear(&text);
    return err->code;
}

/* ---- who follows whom ---- */

static enum status edge(struct follows *f, const struct rs_events *ev, struct str user,
                        struct str source, struct err *err)
{
    uint32_t u = ids_find(&ev->users, str_trim(user)), v = ids_find(&ev->users, str_trim(source));
    if (u == IDS_NONE || v == IDS_NONE) {
        f->strangers++;
        return ST_OK;
    }
    if (u == v) {
        f->self++;
        return ST_OK;
    }
    if (f->n == f->cap) {
        uint64_t cap = f->cap ? f->cap * 2 : 1024;
        uint32_t *a = realloc(f->user, cap * sizeof *a);
        f->user = a ? a : f->user;
        uint32_t *b = a ? realloc(f->source, cap * sizeof *b) : NULL;
        if (!b)
            return err_set(err, ST_NOMEM, "%llu edges", (unsigned long long)cap);
        f->source = b;
        f->cap = cap;
    }
    f->user[f->n] = u;
    f->source[f->n++] = v;
    return ST_OK;
}

/* "user N v1 .. vN": a row longer than the parser of tables allows, so by words. */
static enum status adjacency_row(struct follows *f, const struct rs_events *ev, struct str line,
                                 bool both, struct err *err)
{
    struct str user = { 0 };
    uint64_t want = 0, got = 0;
    unsigned n = 0;
    for (size_t at = 0; at < line.n;) {
        size_t end = at;
        while (end < line.n && !strchr("\t ,\r", line.p[end]))
            end++;
        struct str word = { line.p + at, end - at };
        at = end + 1;
        if (!word.n)
            continue;
        n++;
        if (n == 1)
            user = word;
        else if (n == 2 && num_u64(word, "number of names", 0, UINT32_MAX, &want, err) != ST_OK)
            return err->code;
        else if (n > 2 && (got++, edge(f, ev, user, word, err) != ST_OK ||
                                      (both && edge(f, ev, word, user, err) != ST_OK)))
            return err->code;
    }
    if (n && want != got)
        return err_set(err, ST_FORMAT, "%llu names where %llu are announced",
                       (unsigned long long)got, (unsigned long long)want);
    return ST_OK;
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* By user, then source; each edge once. */
static enum status tidy_edges(struct follows *f, struct err *err)
{
    uint64_t n = 0;
    uint64_t *key = malloc((f->n ? f->n : 1) * sizeof *key);
    if (!key)
        return err_set(err, ST_NOMEM, "%llu edges", (unsigned long long)f->n);
    for (uint64_t i = 0; i < f->n; i++)
        key[i] = (uint64_t)f->user[i] << 32 | f->source[i];
    qsort(key, f->n, sizeof *key, by_key);
    for (uint64_t i = 0; i < f->n; i++) {
        if (i && key[i] == key[i - 1])
            continue;
        f->user[n] = (uint32_t)(key[i] >> 32);
        f->source[n++] = (uint32_t)key[i];
    }
    f->twins += f->n - n;
    f->n = n;
    free(key);
    return ST_OK;
}

static bool is_header(struct str line)
{
    return str_find(line, STR("user"), 0) != SIZE_MAX ||
           str_find(line, STR("follow"), 0) != SIZE_MAX;
}

enum status follows_parse(struct follows *f, struct str text, const char *what,
                          const struct rs_events *ev, bool both_ways, struct err *err)
{
    uint64_t line_no = 0;
    for (size_t at = 0; at < text.n && err->code == ST_OK;) {
        size_t end = str_find(text, STR("\n"), at);
        end = end < text.n ? end : text.n;
        struct str line = str_trim((struct str){ text.p + at, end - at });
        at = end + 1;
        line_no++;
        unsigned words = line.n != 0;
        size_t cut = SIZE_MAX;
        for (size_t i = 0; i < line.n; i++)
            if (strchr("\t ,", line.p[i]) && line.p[i]) {
                words += 1;
                cut = cut == SIZE_MAX ? i : cut;
            }
        if (!line.n || (line_no == 1 && is_header(line)))
            continue;
        struct str a = { line.p, cut < line.n ? cut : line.n };
        struct str b = { line.p + a.n + 1, line.n - a.n - (cut < line.n) };
        if (words == 1)
            err_set(err, ST_FORMAT, "one name where there should be two: user and whom it follows");
        else if (words == 2)
            (void)(edge(f, ev, a, b, err) == ST_OK && both_ways && edge(f, ev, b, a, err) == ST_OK);
        else
            adjacency_row(f, ev, line, both_ways, err);
        if (err->code)
            err_ctx(err, "%s: line %llu", what, (unsigned long long)line_no);
    }
    return err->code ? err->code : tidy_edges(f, err);
}

enum status follows_read(struct follows *f, const char *path, const struct rs_events *ev,
                         bool both_ways, struct err *err)
{
    struct buf text = BUF_INIT;
    if (slurp(path, &text, err) == ST_OK)
        follows_parse(f, buf_view(&text), path, ev, both_ways, err);
    buf_clear(&text);
    return err->code;
}

void follows_clear(struct follows *f)
{
    free(f->user);
    free(f->source);
    *f = (struct follows){ 0 };
}
