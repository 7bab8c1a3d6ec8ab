/* engine/base/file.h - whole files and folders, written so that a crash leaves the old or the new
 * state and never half of one; and pieces of open files. Any thread. Messages name the path. */
#ifndef STROBE_BASE_FILE_H
#define STROBE_BASE_FILE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Pieces at a place, by pread(2) and pwrite(2): the descriptor's own offset does not move, so
 * threads may share it. A call that is interrupted is made again, one that comes short goes on.
 * path NULL: the caller adds its name. Not for O_DIRECT, where a read cannot go on inside a page
 * (io/source.h, io/stamp.h), nor for windows of a file that grows, which take what is there
 * (server/job_metrics.c). */

/* Exactly n bytes from byte `at`, of a file that was seen to have them. Errors: ST_IO (err->os;
 * file and byte are named), ST_FORMAT ("it was truncated": ends before). p is then undefined. */
enum status file_read_at(int fd, void *p, size_t n, uint64_t at, const char *path, struct err *err);
/* Up to n bytes: *ret is fewer only where the file ends. Errors: ST_IO (err->os; the byte is
 * named). */
enum status file_read_upto(int fd, void *p, size_t n, uint64_t at, size_t *ret, struct err *err);
/* All n bytes, of a file that is not open with O_APPEND (Linux would append them). Errors: ST_IO
 * (err->os; file and byte are named); some may have been written. */
enum status file_write_at(int fd, const void *p, size_t n, uint64_t at, const char *path,
                          struct err *err);

/* The whole file, appended to out. ST_RANGE: longer than max; else as err_input(). */
enum status file_slurp(const char *path, size_t max, struct buf *out, struct err *err);
/* The rest of an open one, or of a pipe. */
enum status file_slurp_fd(int fd, const char *path, size_t max, struct buf *out, struct err *err);
/* Where bytes that shall replace `path` belong: links are followed, also one that leads to nothing
 * yet, since a rename would replace the link and not what it leads to. ST_ARG: a device, pipe or
 * folder is there, which a rename would put a file in place of; ST_IO: links in a circle. */
enum status file_target(const char *path, char out[FILE_PATH_MAX], struct err *err);
/* Makes `path` hold these bytes: file_target()'s .tmp, fsync, rename, fsync of the folder. A device
 * or pipe gets them written; a pipe's reader that does not come within a few seconds is ST_IO. */
enum status file_replace(const char *path, struct str bytes, struct err *err);
/* Makes the names in a folder durable. */
enum status file_sync_dir(const char *dir, struct err *err);
/* Removes a file or a folder with all inside; links are removed, never followed. Absent: fine. */
enum status file_remove_tree(const char *path, struct err *err);

#endif
