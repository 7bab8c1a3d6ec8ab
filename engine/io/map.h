/* engine/io/map.h - a file read through a mapping, as engines do that map their weights: bytes come
 * by page faults, with the kernel's own read-ahead, and stay in the page cache. Only for
 * comparison. A file that shrinks while mapped cannot hurt: the kernel copies for us
 * (process_vm_readv) and reports what is gone, where a load from the mapping would raise SIGBUS. */
#ifndef STROBE_IO_MAP_H
#define STROBE_IO_MAP_H

#include "engine/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct file_map {
    unsigned char *p; /* NULL: an empty file */
    uint64_t bytes;   /* mapped: the file's size when it was opened */
};

/* Errors: ST_IO, ST_NOMEM, ST_UNSUPPORTED (the kernel or a sandbox refuses the copy). */
enum status map_open(int fd, struct file_map *ret, struct err *err);
void map_close(struct file_map *m);
/* Copies up to n bytes from `at`; fewer at the end of the file, which may lie before its mapping's
 * end by now. Returns bytes or -errno (-EIO: the disk failed). */
long map_copy(const struct file_map *m, int fd, uint64_t at, void *dst, size_t n);

#endif
