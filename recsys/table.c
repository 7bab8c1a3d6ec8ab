/* recsys/table.c - rows of TSV and CSV texts (events_internal.h). A TSV field ends at a tab or a
 * line's end; a CSV field may be quoted (RFC 4180), with doubled quotes and line ends inside. */
#include "recsys/events_internal.h"

void table_open(struct table *t, struct str text)
{
    *t = (struct table){ .text = text, .line = 1 };
    if (text.n >= 3 && memcmp(text.p, "\xEF\xBB\xBF", 3) == 0)
        t->at = 3;
    size_t end = str_find(text, STR("\n"), t->at), tab = str_find(text, STR("\t"), t->at);
    t->sep = tab < end && tab < text.n ? '\t' : ',';
}

/* A quoted field; t->at is behind the opening quote. Its bytes go to scratch. */
static enum status quoted(struct table *t, struct err *err)
{
    uint64_t from = t->line;
    while (t->at < t->text.n) {
        char c = t->text.p[t->at++];
        if (c == '"' && (t->at == t->text.n || t->text.p[t->at] != '"'))
            return buf_ok(&t->scratch, "a quoted field", err);
        if (c == '"')
            t->at++;
        t->line += c == '\n';
        buf_char(&t->scratch, c);
    }
    return err_set(err, ST_FORMAT, "line %llu: a quote that does not close",
                   (unsigned long long)from);
}

/* Ends of fields in scratch while it still grows: offsets, made into pointers at the row's end. */
struct piece {
    size_t from, n;
    bool scratch;
};

static enum status plain(struct table *t, struct piece *p, struct err *err)
{
    const char *text = t->text.p;
    p->from = t->at;
    while (t->at < t->text.n && text[t->at] != t->sep && text[t->at] != '\n') {
        if (!text[t->at])
            return err_set(err, ST_FORMAT, "line %llu: a NUL byte: is this a text?",
                           (unsigned long long)t->line);
        t->at++;
    }
    p->n = t->at - p->from;
    if (p->n && text[p->from + p->n - 1] == '\r' && (t->at == t->text.n || text[t->at] == '\n'))
        p->n--;
    return ST_OK;
}

static enum status one_field(struct table *t, struct piece *p, struct err *err)
{
    const char *text = t->text.p;
    *p = (struct piece){ 0 };
    if (t->sep != ',' || t->at >= t->text.n || text[t->at] != '"')
        return plain(t, p, err);
    t->at++;
    p->scratch = true;
    p->from = t->scratch.n;
    if (quoted(t, err) != ST_OK)
        return err->code;
    p->n = t->scratch.n - p->from;
    if (t->at < t->text.n && text[t->at] == '\r')
        t->at++;
    if (t->at < t->text.n && text[t->at] != t->sep && text[t->at] != '\n')
        return err_set(err, ST_FORMAT, "line %llu: text behind a closing quote",
                       (unsigned long long)t->line);
    return ST_OK;
}

static void skip_empty(struct table *t)
{
    while (t->at < t->text.n) {
        size_t at = t->at + (t->text.p[t->at] == '\r');
        if (at >= t->text.n || t->text.p[at] != '\n')
            return;
        t->at = at + 1;
        t->line++;
    }
}

enum status table_next(struct table *t, bool *more, struct err *err)
{
    struct piece piece[TABLE_FIELDS_MAX];
    skip_empty(t);
    *more = t->at < t->text.n;
    t->n = 0;
    buf_reset(&t->scratch);
    if (!*more)
        return ST_OK;
    for (bool end = false; !end;) {
        if (t->n == TABLE_FIELDS_MAX)
            return err_set(err, ST_FORMAT, "line %llu: more than %d fields",
                           (unsigned long long)t->line, TABLE_FIELDS_MAX);
        if (one_field(t, &piece[t->n], err) != ST_OK)
            return err->code;
        t->n++;
        end = t->at >= t->text.n || t->text.p[t->at] == '\n';
        t->at += t->at < t->text.n;
    }
    for (unsigned i = 0; i < t->n; i++)
        t->field[i] =
            (struct str){ (piece[i].scratch ? (t->scratch.p ? t->scratch.p : "") : t->text.p) +
                              piece[i].from,
                          piece[i].n };
    t->line++;
    return ST_OK;
}

void table_close(struct table *t)
{
    buf_clear(&t->scratch);
}
