/* engine/io/stamp.h - whether an open file still holds what it held: a few of its pages are
 * remembered, and compared again when its size or its time of change moved. Finds another model
 * copied over a file, which no read notices; not a flipped byte, and not a change that was undone
 * before anyone looked. One thread. */
#ifndef STROBE_IO_STAMP_H
#define STROBE_IO_STAMP_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { STAMP_PAGES = 32, STAMP_PAGE = 4096 };

struct stamp {
    struct timespec changed;
    uint64_t bytes;
    uint64_t sum[STAMP_PAGES]; /* of pages spread over the file, the first and the last included */
};

/* Reads up to STAMP_PAGES pages; fd may be open for direct reads. Errors: ST_IO, ST_FORMAT (the
 * file ends while it is looked at). Messages name no file. */
enum status stamp_take(int fd, struct stamp *ret, struct err *err);
/* One fstat() as a rule. *same: false once a remembered page that is still there differs (s is then
 * unchanged); what a file that was cut has lost is not looked at, reads will tell. Errors: ST_IO.
 */
enum status stamp_check(int fd, struct stamp *s, bool *same, struct err *err);

#endif
