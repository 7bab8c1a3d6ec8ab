/* server/job_feed.h - event streams of jobs: each watcher gets the metrics lines behind the place
 * where it left off, then states and progress as they change. One thread ("strobe-feeds") writes
 * all streams and sleeps while nothing changes; a watcher that reads slowly is waited for, not cut
 * off: its place in the file is all that is kept of it.
 *
 *   id: offset in metrics.jsonl   event: metrics | progress | state
 *
 * The last event of a finished job is its state; then the stream ends. */
#ifndef STROBE_SERVER_JOB_FEED_H
#define STROBE_SERVER_JOB_FEED_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "server/stream.h"

struct feeds; /* opaque; every function from any thread */

/* Errors: ST_NOMEM, ST_IO. */
enum status feeds_create(struct feeds **ret, struct err *err);
/* Ends the thread and lets go of all streams, which their connections end. NULL is fine. */
void feeds_free(struct feeds *f);

/* What watchers of a job are told. */
struct feed_news {
    struct str state;    /* the job as JSON; empty: unchanged */
    struct str progress; /* JSON; empty: unchanged */
    uint64_t tail;       /* end of the whole lines of its metrics file */
    bool ended;          /* no more news will come */
};
/* Nothing when nobody watches the job. No memory: the next news make up for it, except the end,
 * which is never lost. */
void feeds_tell(struct feeds *f, const char *id, const struct feed_news *n);

/* Before anybody else sees st: its client's leaving will be noticed. f outlives the stream. */
void feeds_hook(struct feeds *f, struct stream *st);
/* Adds a watcher. Takes a reference of st, which feeds_hook() has seen, on success. path: the
 * metrics file; from: offset where the watcher left off. now: what it would have been told last,
 * its state at least. ST_NOMEM. */
enum status feeds_watch(struct feeds *f, const char *id, const char *path,
                        const struct feed_news *now, uint64_t from, struct stream *st,
                        struct err *err);
size_t feeds_watchers(struct feeds *f);

#endif
