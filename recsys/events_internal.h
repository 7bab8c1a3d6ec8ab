/* recsys/events_internal.h - between events.c and events_parse.c. */
#ifndef STROBE_RECSYS_EVENTS_INTERNAL_H
#define STROBE_RECSYS_EVENTS_INTERNAL_H

#include "recsys/events.h"

struct event_row {
    struct str user, item;
    double time; /* seconds, in bounds */
};

/* attr: [ev->n_attr] values or NULL. Errors: ST_NOMEM, ST_RANGE; ev is then as before, but for
 * names. */
enum status events_append(struct rs_events *ev, struct event_row row, const struct str *attr,
                          struct err *err);

/* Rows of a TSV or CSV text. */
enum { TABLE_FIELDS_MAX = 64 };
struct table {
    struct str text;
    size_t at;
    uint64_t line; /* of the row last read, from 1 */
    char sep;      /* tab or comma */
    bool quotes;   /* of the last row: some fields were quoted, their bytes lie in `scratch` */
    struct str field[TABLE_FIELDS_MAX];
    unsigned n;
    struct buf scratch;
};
/* Tab when the first line has one, else comma. Skips a byte-order mark. */
void table_open(struct table *t, struct str text);
/* The next row that is not empty; *more false: there is none. Errors: ST_FORMAT, with the line. */
enum status table_next(struct table *t, bool *more, struct err *err);
void table_close(struct table *t);

#endif
