/* recsys/batch.h - a batch of events, or of follow edges, as clients send it and as the event log
 * keeps it. Names are numbered within the batch, so a record stands alone. Parsing refuses single
 * lines, with their number and the reason, and takes the rest. Pure; a batch has one owner.
 *
 * JSON: {"events":[{"user":"u","item":"i","time":1700000000.5,"weight":1}, ...]}, a bare array of
 * those, or one object a line (NDJSON). TSV: a header naming user, item, time and perhaps weight,
 * in any order, other columns are ignored. Times: Unix seconds, or RFC 3339 text. Follow edges have
 * "user" and "follows" instead: user follows follows, who therefore influences user. */
#ifndef STROBE_RECSYS_BATCH_H
#define STROBE_RECSYS_BATCH_H

#include "recsys/ids.h"

enum {
    BATCH_LINES_MAX = 200000,
    BATCH_REJECTS_MAX = 100,
    BATCH_KEY_MAX = 128,
    BATCH_NAME_MAX = 256
};
#define BATCH_TIME_MAX INT64_C(253402300799999) /* ms: the last of year 9999 */

enum batch_type { BATCH_EVENTS = 1, BATCH_FOLLOWS = 2 };
enum batch_format { BATCH_JSON, BATCH_NDJSON, BATCH_TSV };

struct batch_event {
    uint32_t user, item; /* numbers within the batch; BATCH_FOLLOWS: item is a user, too */
    float weight;
    uint32_t line; /* 1-based; of the array's elements, or of the text; not kept in the log */
    int64_t time;  /* Unix milliseconds */
};

struct batch_reject {
    uint32_t line;
    const char *why; /* static */
};

struct batch {
    enum batch_type type;
    struct ids users, items; /* BATCH_FOLLOWS: items is not used */
    struct batch_event *event;
    size_t n, cap;
    struct batch_reject reject[BATCH_REJECTS_MAX];
    size_t n_reject;         /* all of them; the first BATCH_REJECTS_MAX are kept */
    char key[BATCH_KEY_MAX]; /* Idempotency-Key, "" none */
    uint64_t hash;           /* of the request, where there is a key */
};

void batch_init(struct batch *b, enum batch_type type);
void batch_clear(struct batch *b);
/* latest: times behind it (Unix ms) are refused, line by line. Errors: ST_FORMAT (not a batch at
 * all), ST_RANGE (more than BATCH_LINES_MAX lines), ST_NOMEM. */
enum status batch_parse(struct batch *b, enum batch_format format, struct str text, int64_t latest,
                        struct err *err);
/* One event; refused like a parsed one. ST_NOMEM. */
enum status batch_add(struct batch *b, struct str user, struct str item, int64_t time,
                      double weight, uint32_t line, struct err *err);
void batch_refuse(struct batch *b, uint32_t line, const char *why);

/* As a record of the log, appended. ST_NOMEM. */
enum status batch_encode(const struct batch *b, struct buf *out, struct err *err);
/* b: from batch_init(). ST_FORMAT, ST_NOMEM. */
enum status batch_decode(struct batch *b, struct str record, struct err *err);

/* Unix seconds with a fraction, or RFC 3339, as milliseconds. false: neither, or out of range. */
bool batch_time(struct str text, int64_t *ms);

#endif
