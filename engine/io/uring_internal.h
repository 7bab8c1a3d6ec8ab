/* engine/io/uring_internal.h - what the two users of io_uring share. Not for others. */
#ifndef STROBE_IO_URING_INTERNAL_H
#define STROBE_IO_URING_INTERNAL_H

#include "engine/io/internal.h"

#include <liburing.h>

/* A ring of `depth` entries that the calling thread uses from now on, tried with one empty read of
 * fd: some sandboxes allow the set-up and refuse the rest, and kernels before 5.6 have the rings
 * but not this operation. flags: of io_uring_queue_init(). */
enum status uring_begin(struct io_uring *ring, uint32_t depth, unsigned flags, int fd,
                        struct err *err);
/* Prepares the read of what is left of req. The ring must have room. */
void uring_read(struct io_uring *ring, const struct source *s, struct source_req *req);
/* Hands all that is prepared to the kernel. Failures other than EINTR pass (EAGAIN: no memory for a
 * request, EBUSY: completions pending): uring_begin() saw the call work. */
void uring_submit_all(struct io_uring *ring);

#endif
