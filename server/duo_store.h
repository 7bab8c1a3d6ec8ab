/* server/duo_store.h - routing traces on disk: DATA/duo/ID/trace.bin of those that were answered at
 * once, of which only so many are kept, and DATA/runs/ID/trace.bin of jobs, which stay with their
 * jobs. Any thread. */
#ifndef STROBE_SERVER_DUO_STORE_H
#define STROBE_SERVER_DUO_STORE_H

#include "engine/base/err.h"
#include "engine/base/file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DUO_STORE_MAX = 4096, DUO_STORE_DEFAULT = 500 };
#define DUO_STORE_BYTES_DEFAULT ((uint64_t)1 << 30)

struct duo_stored {
    char id[64];
    int64_t created_ns;
    uint64_t bytes;
    bool job;
};
/* All there are, newest first. *ret: free(). Errors: ST_NOMEM. */
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
/* Removes the oldest of those that were answered at once until at most `most` are left, with at
 * most `bytes`; the newest stays in any case. What cannot be removed stays. */
void duo_store_trim(const char *data_dir, uint64_t most, uint64_t bytes);

#endif
