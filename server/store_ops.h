/* server/store_ops.h - what a database behind store.h provides. Included by store*.c only. */
#ifndef STROBE_SERVER_STORE_OPS_H
#define STROBE_SERVER_STORE_OPS_H

#include "server/store.h"

/* Same contracts as the store_* functions of the same names. */
struct store_ops {
    void (*close)(struct store *s);
    enum status (*job_add)(struct store *s, struct job_row *row, const char *key, const char *hash,
                           bool *known, struct err *err);
    enum status (*job_get)(struct store *s, const char *id, struct job_row *ret, struct err *err);
    enum status (*job_list)(struct store *s, const char *after, uint32_t limit,
                            struct job_list *ret, struct err *err);
    enum status (*job_claim)(struct store *s, int64_t now, struct job_row *ret, struct err *err);
    enum status (*job_save)(struct store *s, const struct job_row *row, int64_t now,
                            struct err *err);
    enum status (*job_cancel)(struct store *s, const char *id, int64_t now, struct job_row *ret,
                              struct err *err);
    enum status (*job_renew)(struct store *s, int64_t now, struct err *err);
    enum status (*job_counts)(struct store *s, uint64_t counts[JOB_STATES], struct err *err);
};

struct store {
    const struct store_ops *ops;
};

/* file: absolute or relative path of the database; dir gets the lock file. */
enum status store_sqlite_open(const char *file, const struct store_opts *o, struct store **ret,
                              struct err *err);

#endif
