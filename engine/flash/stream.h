/* engine/flash/stream.h - the streamed weights of a model as one endless sequence of pieces: whole
 * panels of a matrix in the file's layout, in the order in which a pass uses them, pass after pass.
 * Reads run ahead into a ring of buffers while pieces are computed with; a piece is used straight
 * out of the buffer that the disk wrote (no copy). Owner: one thread. */
#ifndef STROBE_FLASH_STREAM_H
#define STROBE_FLASH_STREAM_H

#include "engine/base/arena.h"
#include "engine/io/source.h"
#include "engine/model/model.h"

struct stream; /* opaque */

struct stream_opts {
    const struct tensor *const *item; /* order of use, borrowed; matrices, FIX_NONE; NULL: a gap */
    size_t n_item;                    /* with gaps; one at least is no gap */
    struct source *src;               /* borrowed; nobody else may submit */
    uint8_t *ring; /* n_slot buffers of slot_bytes, aligned to STAGE_ALIGN; borrowed */
    size_t n_slot, slot_bytes;
};

enum status stream_open(const struct stream_opts *opts, struct stream **ret, struct err *err);
void stream_close(struct stream *s); /* waits for reads in flight; NULL is fine */

/* Rows row0.. of an item's tensor, row-major as in the file. */
struct stream_piece {
    const uint8_t *rows;
    uint32_t n_row; /* whole panels, but for the tensor's last piece */
};

/* The piece of `item` that begins at row0; it is valid until the next call. When another is due (a
 * pass was given up), what was read ahead is dropped and the sequence starts at the one asked for.
 * Errors: ST_IO, ST_FORMAT (file truncated); the next call tries again. */
enum status stream_next(struct stream *s, size_t item, uint32_t row0, struct stream_piece *ret,
                        struct err *err);

struct stream_stats {
    uint64_t bytes, reads, stall_ns; /* stall: the owner waited for the disk */
};
struct stream_stats stream_stats(const struct stream *s);

#endif
