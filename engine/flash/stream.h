/* engine/flash/stream.h - the streamed weights of a model as one endless sequence of pieces: whole
 * panels of a matrix in the file's layout, in the order in which a pass uses them, pass after pass.
 * Reads run ahead into a ring of buffers while pieces are computed with; a piece is used straight
 * out of the buffer that the disk wrote (no copy). Owner: one thread. */
#ifndef STROBE_FLASH_STREAM_H
#define STROBE_FLASH_STREAM_H

#include "engine/base/arena.h"
#include "engine/io/source.h"
#include "engine/model/model.h"

#include <stdbool.h>

struct stream; /* opaque */

struct stream_opts {
    const struct tensor *const *item; /* order of use, borrowed; matrices, FIX_NONE; NULL: a gap */
    size_t n_item;                    /* with gaps; one at least is no gap */
    struct source *src;               /* borrowed; nobody else may submit */
    uint8_t *ring; /* n_slot buffers of slot_bytes, aligned to STAGE_ALIGN; borrowed */
    size_t n_slot, slot_bytes;
    size_t depth; /* reads in flight; no more than the source's */
};

enum status stream_open(const struct stream_opts *opts, struct stream **ret, struct err *err);
void stream_close(struct stream *s); /* waits for reads in flight; NULL is fine */

/* Pieces that a tensor comes in. */
uint32_t stream_pieces(const struct tensor *t, size_t slot_bytes);

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

/* Rounds over the same items: what stream_next() gives from now on stays in its buffers until the
 * next round (keep), which begins where this one did and gets it from there without a read; the
 * last round does not keep, and its buffers serve the reads of what comes behind. A round of more
 * pieces than there are buffers works, but its pieces are read again. */
void stream_round(struct stream *s, bool keep);

/* What is known of an item's next use. */
enum stream_expect {
    STREAM_READ,    /* it comes: the start */
    STREAM_SKIP,    /* it does not: what was read of it makes room */
    STREAM_UNLIKELY /* it may, but what is behind it is read first */
};
/* Says so, and may say otherwise until the item is asked for; what was passed over is then read
 * before all that comes later. Asking with stream_next() works whatever was said. */
void stream_expect(struct stream *s, size_t item, enum stream_expect e);
/* The owner went by an item without asking for it: what is said from now on is of the next lap. */
void stream_past(struct stream *s, size_t item);
void stream_ahead(struct stream *s); /* reads ahead as far as is known, as stream_next() does too */

struct stream_stats {
    uint64_t bytes, reads, stall_ns; /* stall: the owner waited for the disk */
    uint64_t unused_bytes;           /* of pieces that were read, or begun, and never asked for */
};
struct stream_stats stream_stats(const struct stream *s);

#endif
