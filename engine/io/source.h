/* engine/io/source.h - asynchronous reads of model files behind one interface: io_uring with
 * O_DIRECT, a pread thread pool with O_DIRECT, or buffered pread (comparison, and file systems
 * without O_DIRECT), or copies out of a mapping (comparison only, see map.h). Owner: one thread
 * submits and waits. Files are opened read-only. */
#ifndef STROBE_IO_SOURCE_H
#define STROBE_IO_SOURCE_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum source_kind {
    SOURCE_AUTO, /* uring, else pread; buffered when O_DIRECT is refused */
    SOURCE_URING,
    SOURCE_PREAD,
    SOURCE_BUFFERED,
    SOURCE_MMAP
};

struct source; /* opaque */

struct source_opts {
    enum source_kind kind;
    uint32_t depth; /* requests in flight, 1..4096; 0: 32 */
    bool thread;    /* io_uring: on a thread of its own, for thousands of small reads */
    uint32_t width; /* of that thread: reads that the disk is given at a time; 0: 96 */
};

/* One read. The caller owns the struct until it comes back from source_wait(). offset, len and dst
 * are multiples of source_align() (any address and length for SOURCE_BUFFERED and SOURCE_MMAP).
 * `got` says how much came; what was asked for past the end of the file may be cleared. A file that
 * ends before `need` bytes is ST_FORMAT ("truncated while in use"). Short reads and EINTR/EAGAIN
 * are retried inside.
 */
struct source_req {
    uint32_t file;
    uint64_t offset;
    size_t len, need;
    void *dst;
    void *user;
    bool ahead; /* nobody waits for it yet: a source with a thread reads others first */
    size_t got;
    struct err err; /* filled on completion; ST_OK when `got` >= `need` */
    uint64_t submit_ns, done_ns;
};

struct source_stats {
    uint64_t reads, bytes, wait_ns; /* wait_ns: time the owner was blocked in source_wait() */
};

/* Errors: ST_NOTFOUND, ST_IO, ST_NOMEM, ST_UNSUPPORTED (the kind is refused here). */
enum status source_open(const char *const *paths, uint32_t n_file, struct source_opts opts,
                        struct source **ret, struct err *err);
void source_close(struct source *s); /* waits for reads in flight; NULL is fine */
const char *
source_name(const struct source *s); /* "io_uring+direct", "pread+direct", "buffered", "mmap" */
size_t source_align(const struct source *s); /* bytes, from the kernel; 1 for buffered and mmap */
uint32_t source_depth(const struct source *s);
/* Queues up to n requests; returns how many were taken (bounded by the free depth). */
size_t source_submit(struct source *s, struct source_req *const *reqs, size_t n);
/* Hands back completed requests; waits until at least min(min, in flight) are done. */
size_t source_wait(struct source *s, struct source_req **done, size_t max, size_t min);
uint32_t source_in_flight(const struct source *s);
struct source_stats source_stats(const struct source *s);
/* Remembers what the files hold, by some of their pages. Errors: ST_IO, ST_FORMAT (truncated),
 * ST_NOMEM. */
enum status source_remember(struct source *s, struct err *err);
/* Whether what has been read can be trusted: ST_FORMAT, from then on always, when other bytes were
 * written over a file (another model copied onto it; stamp.h says what is found). One fstat() a
 * file as a rule. Nothing remembered: ST_OK. Errors: ST_IO too. */
enum status source_check(struct source *s, struct err *err);
/* Tells fn of every read that source_wait() hands back from now on, before it does; NULL: nobody.
 */
typedef void source_watch_fn(void *ctx, const struct source_req *done);
void source_watch(struct source *s, source_watch_fn *fn, void *ctx);

#endif
