/* server/duo_store.h - routing traces on disk: DATA/duo/ID/trace.bin of those that were answered at
 * once, and DATA/runs/ID/trace.bin of jobs. Of both only so many are kept; a job outlives its
 * trace. Any thread. */
#ifndef STROBE_SERVER_DUO_STORE_H
#define STROBE_SERVER_DUO_STORE_H

#include "engine/base/err.h"
#include "engine/base/file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DUO_STORE_MAX = 4096 };
enum duo_home { DUO_AT_ONCE, DUO_OF_JOBS, DUO_HOMES };

/* Traces kept of a home, and their bytes together. */
struct duo_limit {
    uint64_t most, bytes; /* 0: the default */
};
/* Defaults in the place of zeros: 500 and 1 GiB at once, 200 and 4 GiB of jobs. */
struct duo_limit duo_limit_of(enum duo_home home, struct duo_limit asked);

struct duo_stored {
    char id[64];
    int64_t created_ns;
    uint64_t bytes;
    enum duo_home home;
};
/* All there are, newest first. *ret: free(), NULL where there is none. Errors: ST_NOMEM. */
enum status duo_store_list(const char *data_dir, struct duo_stored **ret, size_t *n,
                           struct err *err);
/* The file of a trace. Errors: ST_NOTFOUND. */
enum status duo_store_find(const char *data_dir, const char *id, char path[FILE_PATH_MAX],
                           struct err *err);
/* Errors: ST_NOTFOUND, ST_IO. */
enum status duo_store_remove(const char *data_dir, const char *id, struct err *err);
/* Gives a new file the time to the nanosecond: the system's own has steps of some milliseconds, in
 * which two are made. */
void duo_store_date(const char *path);
/* Removes the oldest of a home until what is left is within the limit; the newest stays in any
 * case. What cannot be removed stays. */
void duo_store_trim(const char *data_dir, enum duo_home home, struct duo_limit limit);

#endif
