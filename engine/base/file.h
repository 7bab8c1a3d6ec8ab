/* engine/base/file.h - whole files and folders, written so that a crash leaves the old or the new
 * state and never half of one. Any thread. Messages name the path. */
#ifndef STROBE_BASE_FILE_H
#define STROBE_BASE_FILE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { FILE_PATH_MAX = 4096 };

/* A path by format. Errors: ST_RANGE (too long). */
enum status file_path(char out[FILE_PATH_MAX], struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Is there a regular file or folder of that name (links followed)? */
bool file_is_regular(const char *path);
bool file_is_dir(const char *path);
/* Creates the folder and those above it; fine when they exist. mode as mkdir(2)'s. */
enum status file_make_dirs(const char *path, unsigned mode, struct err *err);

/* All n bytes through fd, however often write(2) takes only some. ST_IO, err->os tells. */
enum status file_write(int fd, const void *p, size_t n, const char *path, struct err *err);
/* Exactly n bytes from fd; ST_FORMAT when the file ends before. */
enum status file_read(int fd, void *p, size_t n, const char *path, struct err *err);
/* The whole file, appended to out. ST_RANGE: longer than max. */
enum status file_slurp(const char *path, size_t max, struct buf *out, struct err *err);
/* Makes `path` hold these bytes: PATH.tmp, fsync, rename, fsync of the folder. */
enum status file_replace(const char *path, struct str bytes, struct err *err);
/* Makes the names in a folder durable. */
enum status file_sync_dir(const char *dir, struct err *err);
/* Removes a file or a folder with all inside; links are removed, never followed. Absent: fine. */
enum status file_remove_tree(const char *path, struct err *err);

#endif
