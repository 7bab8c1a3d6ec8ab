/* recsys/wal.h - the event log: records that are on the disk before anybody is told so.
 *
 * Segments log-00000001.wal, ... in one folder, each with a header (magic, number, where the one
 * before it ends, CRC-32C), then records: length, CRC-32C of length and bytes, bytes. wal_commit()
 * writes what was appended with one write and one fdatasync. When that fails, nothing of it counts:
 * the file is cut back, or, where even that fails, the next segment says where this one ends.
 * What a crash tore off the end of the last segment was never acknowledged: it is moved to
 * NAME.torn. A fault anywhere else is damage: wal_open() refuses and leaves all files as they are.
 * Owner: one thread. One process at a time (flock). */
#ifndef STROBE_RECSYS_WAL_H
#define STROBE_RECSYS_WAL_H

#include "engine/base/buf.h"

#include <stdint.h>

struct wal; /* opaque */

enum { WAL_RECORD_MAX = 64 << 20 };

/* Behind a record: byte `end` of a segment. Segment 0: before everything. */
struct wal_pos {
    uint32_t segment;
    uint64_t end;
};
typedef enum status wal_record_fn(void *ctx, struct str record, struct err *err);

struct wal_opts {
    const char *dir;        /* made when absent */
    uint64_t segment_bytes; /* a new one begins behind this many; 0: 64 MiB */
    /* Called first, with the log locked: says behind what the replay begins. first: the oldest
     * segment that exists, 0: none. NULL: everything is replayed. */
    enum status (*begin)(void *ctx, uint32_t first, struct wal_pos *from, struct err *err);
    /* Each record in order, oldest first; what it returns ends the opening when not ST_OK. */
    wal_record_fn *replay;
    void *ctx;
};
/* Errors: ST_BUSY (another process has it), ST_FORMAT (damage: names file and offset), ST_IO,
 * ST_NOMEM, and replay's. */
enum status wal_open(const struct wal_opts *o, struct wal **ret, struct err *err);
void wal_close(struct wal *w); /* what was not committed is forgotten; NULL is fine */

/* Keeps a record for the next commit. Errors: ST_RANGE (empty, or over WAL_RECORD_MAX), ST_NOMEM.
 */
enum status wal_append(struct wal *w, struct str record, struct err *err);
/* All appended records are durable, or none of them is there. Errors: ST_FULL (no room), ST_IO. */
enum status wal_commit(struct wal *w, struct err *err);
/* Bytes in all segments, records replayed and committed, bytes torn off at opening. */
struct wal_stats {
    uint64_t bytes, records, commits, torn_bytes, segments;
};
void wal_stats(const struct wal *w, struct wal_stats *ret);
struct wal_pos wal_end(const struct wal *w); /* behind the last committed record */

/* ---- any thread, while the log is open elsewhere in this process ---- */
/* Records behind *at, as far as `to` (a wal_end()) and until `most` bytes were read; *at moves on.
 * Errors: ST_FORMAT, ST_IO, ST_NOMEM, fn's; *at is then behind the last good one. */
enum status wal_read(const char *dir, struct wal_pos *at, struct wal_pos to, uint64_t most,
                     wal_record_fn *fn, void *ctx, struct err *err);
/* Bytes of records between the two. */
uint64_t wal_between(const char *dir, struct wal_pos at, struct wal_pos to);
/* Deletes the segments before `segment`, oldest first; *bytes: how many they had. ST_IO. */
enum status wal_forget(const char *dir, uint32_t segment, uint64_t *bytes, struct err *err);

#endif
