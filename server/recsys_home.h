/* server/recsys_home.h - where the server's recommender comes from: opened at the start, or later,
 * when what was away (the database that holds what the log no longer has, another server's lock) is
 * there. Damage is not tried again: somebody has to look at it. */
#ifndef STROBE_SERVER_RECSYS_HOME_H
#define STROBE_SERVER_RECSYS_HOME_H

#include "recsys/recsys.h"

struct recsys_home; /* opaque; functions from any thread, NULL is fine */

struct recsys_home_opts {
    const char *data_dir;   /* kept; the recommender is in its folder "recsys" */
    const char *store;      /* recsys_opts.store; kept */
    uint64_t segment_bytes; /* recsys_opts.segment_bytes */
    uint32_t again_ms;      /* before the second attempt, then doubled up to 30 s; 0: 1 s */
};
/* Tries once before it returns. A recommender that cannot be opened is no error. ST_NOMEM, ST_IO
 * (no thread). */
enum status recsys_home_create(const struct recsys_home_opts *o, struct recsys_home **ret,
                               struct err *err);
/* Closes the recommender: nobody uses it any more. */
void recsys_home_free(struct recsys_home *h);

/* NULL: it is not open; once it is, it stays. */
struct recsys *recsys_home_get(struct recsys_home *h);
/* Why it is not open. true: it is tried again. */
bool recsys_home_fault(struct recsys_home *h, char out[ERR_MSG_MAX]);

#endif
