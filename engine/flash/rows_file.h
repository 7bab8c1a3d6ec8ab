/* engine/flash/rows_file.h - a matrix that stays in its file and is read a row at a time: the token
 * embedding under a memory budget. Buffered reads: the kernel keeps the pages of frequent words
 * while it has room, and they are never this process's memory. Owner: one thread. */
#ifndef STROBE_FLASH_ROWS_FILE_H
#define STROBE_FLASH_ROWS_FILE_H

#include "engine/base/err.h"
#include "engine/model/model.h"

struct rows_file; /* opaque */

/* t is a matrix, FIX_NONE. Errors: ST_IO, ST_NOMEM. */
enum status rows_file_open(const struct model *m, const struct tensor *t, struct rows_file **ret,
                           struct err *err);
void rows_file_close(struct rows_file *f); /* NULL is fine */
/* Row `row`, dequantised to f32 [n_col]. Errors: ST_IO, ST_FORMAT (the file lost its end). */
enum status rows_file_read(struct rows_file *f, uint32_t row, float *out, struct err *err);

#endif
