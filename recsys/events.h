/* recsys/events.h - who took what, when: event files become columns.
 *
 * A file is TSV or CSV (the header tells: a tab in it means TSV). Its header names `user`, `item`
 * and `time` in any order; other columns are kept as attributes. Times are Unix seconds, RFC 3339,
 * or plain numbers in a unit that the caller names. In memory time is a double in seconds, which
 * holds today's microseconds. Rows may come in any order; events_sort() gives time order, and equal
 * times keep the file's order. CSV fields may be quoted (RFC 4180); the last line may lack its end.
 *
 * Refused, each with its line: no such column, an empty or overlong name, a time that is no finite
 * number or beyond +-1e13 s, fields that are too many or too few, a quote that does not close, NUL
 * bytes. Users and items get dense numbers in order of their first row. Owner: one thread. */
#ifndef STROBE_RECSYS_EVENTS_H
#define STROBE_RECSYS_EVENTS_H

#include "recsys/ids.h"

#include <stdbool.h>
#include <stddef.h>

enum { EVENTS_ATTRS_MAX = 16 };
#define EVENTS_TIME_MAX 1e13 /* seconds: a few hundred thousand years */

struct event_attr {
    char *name;       /* of the column */
    struct ids value; /* its different values */
    uint32_t *of;     /* [n]: which one each event has */
};

struct rs_events {
    uint64_t n, cap;
    double *time; /* [n] seconds */
    uint32_t *user, *item;
    struct ids users, items;
    struct event_attr attr[EVENTS_ATTRS_MAX];
    unsigned n_attr;
    bool sorted;
};

#define EVENTS_INIT                                                                                \
    {                                                                                              \
        .n = 0                                                                                     \
    }

struct event_opts {
    double unit_s;                  /* seconds of one unit of plain numbers; 0: 1 */
    const char *user, *item, *time; /* names of the columns; NULL: user, item, time */
    bool no_attrs;                  /* leave other columns out */
    uint64_t max_events;            /* 0: 2^31 */
};

/* "s", "seconds", "min", "h", "hours", "d", "days", "w", "ms", "us"... or a positive number of
 * seconds. ST_ARG: anything else. */
enum status events_unit(struct str word, double *ret_s, struct err *err);
/* Unix seconds of "2024-05-01T12:00:00+02:00" (RFC 3339; blank for T, Z, fractions; a leap second
 * counts as the second before it). */
enum status events_rfc3339(struct str s, double *ret, struct err *err);
/* A time by either form. Errors: ST_FORMAT, ST_RANGE. */
enum status events_time(struct str s, double unit_s, double *ret, struct err *err);

/* Adds the rows of a text; `what` names it in messages. On failure `ev` holds the rows before. */
enum status events_parse(struct rs_events *ev, struct str text, const char *what,
                         const struct event_opts *o, struct err *err);
/* The same of a file; "-": standard input. */
enum status events_read(struct rs_events *ev, const char *path, const struct event_opts *o,
                        struct err *err);
/* One event; its attributes are those of no value ("") when there are columns of them. */
enum status events_add(struct rs_events *ev, struct str user, struct str item, double time,
                       struct err *err);
/* Another, empty log with the same names and attribute columns; then rows of the first. ST_NOMEM.
 */
enum status events_like(const struct rs_events *from, struct rs_events *to, struct err *err);
enum status events_take(struct rs_events *to, const struct rs_events *from, uint64_t row,
                        struct err *err);
/* By time; equal times keep their order. ST_NOMEM. */
enum status events_sort(struct rs_events *ev, struct err *err);
/* Attribute column by name, or NULL. */
const struct event_attr *events_attr(const struct rs_events *ev, const char *name);
void events_clear(struct rs_events *ev);

/* What data look like, before anybody fits them. */
struct events_health {
    uint64_t n, users, items, pairs;
    double first_s, last_s;
    double repeat_share; /* events whose user had the item before */
    double tie_share;    /* events at the same time as the same user's one before */
    double twin_share;   /* events with the same user, item and time as another */
    double gap_median_s; /* between a user's events */
    double single_share; /* users with one event */
    double tick_s;       /* smallest difference of two times of a user; 0: none */
};
/* ev is sorted. ST_NOMEM. */
enum status events_health(const struct rs_events *ev, struct events_health *ret, struct err *err);

/* Directed edges "user -> whom the user follows" of a social graph: TSV or CSV with or without a
 * header `user` and `follows` (or `friend`), or rows "user N v1 .. vN". Self loops, twins and
 * names without events are counted and left out. */
struct follows {
    uint64_t n, cap;
    uint32_t *user, *source; /* source's events excite user's */
    uint64_t self, twins, strangers;
};
enum status follows_parse(struct follows *f, struct str text, const char *what,
                          const struct rs_events *ev, bool both_ways, struct err *err);
enum status follows_read(struct follows *f, const char *path, const struct rs_events *ev,
                         bool both_ways, struct err *err);
void follows_clear(struct follows *f);

#endif
