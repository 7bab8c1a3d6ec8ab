/* engine/train/out_file.h - a file that appears whole or not at all: written as PATH.partial,
 * synced, then renamed. Owner: one thread. */
#ifndef STROBE_TRAIN_OUT_FILE_H
#define STROBE_TRAIN_OUT_FILE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct out_file; /* opaque */

/* An older PATH.partial is replaced; a link stays, what it leads to is replaced. Errors name the
 * path: ST_ARG (a device, pipe or folder), ST_IO, ST_NOTFOUND, ST_NOMEM. */
enum status out_file_create(const char *path, struct out_file **ret, struct err *err);
enum status out_file_put(struct out_file *f, const void *p, size_t n, struct err *err);
const char *out_file_partial(const struct out_file *f); /* where the bytes are so far */
/* Syncs and renames. Frees f whatever happens; on failure PATH is as it was. */
enum status out_file_commit(struct out_file *f, struct err *err);
void out_file_abandon(struct out_file *f); /* removes PATH.partial; NULL is fine */
/* All of it at once. */
enum status out_file_write(const char *path, struct str bytes, struct err *err);

#endif
