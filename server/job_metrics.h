/* server/job_metrics.h - the file metrics.jsonl of a run: one JSON object per line, appended while
 * the job runs. A line without its end is not there yet; one that is no object (a crash tore it) is
 * skipped. A run that was resumed repeats the steps behind its checkpoint: the later line counts.
 * Every function may wait for the disk. */
#ifndef STROBE_SERVER_JOB_METRICS_H
#define STROBE_SERVER_JOB_METRICS_H

#include "engine/base/json.h"

#include <sys/types.h>

enum {
    METRIC_LINE_MAX = 64 << 10, /* bytes; longer ones are skipped */
    METRIC_POINTS_MAX = 2000,   /* of one reply, unless a stride is asked for */
    METRIC_FIELDS_MAX = 64,
    METRIC_WHAT_MAX = 48 /* bytes of the text of what is being done */
};

/* Follows a file that grows. Zero it, set path (borrowed). */
struct metric_tail {
    const char *path;
    uint64_t at; /* end of the last whole line that was seen */
};
/* Hands each whole new line to fn; a line is valid for the call. A file that became shorter is read
 * from its start. false: it cannot be read, or does not exist yet. */
bool metric_tail_read(struct metric_tail *t, void (*fn)(void *ctx, const json_t *line), void *ctx);

/* Offset behind the last whole line; 0: none, or no such file. */
uint64_t metric_end(const char *path);

/* Where a run stands: the last value of every number and of "what" (what is being done), and how
 * far it is. */
struct metric_state {
    json_t *last;         /* object; NULL: nothing yet */
    int64_t step;         /* of the last line; 0 */
    double steps, tokens; /* the goal, 0 where unknown */
};
void metric_state_add(struct metric_state *s, const json_t *line); /* no memory: line is lost */
/* {"step":..., ..., "steps_total"?, "share"?, "eta_s"?}, appended; nothing before the first line.
 * share is in [0, 1], the line's own or by the goal; eta_s from the line's "seconds". */
void metric_state_write(const struct metric_state *s, struct buf *out);
void metric_state_clear(struct metric_state *s);

/* Formats the lines in [from, to) of the file as events ("id" is the offset behind the line),
 * at most about METRIC_LINE_MAX bytes of them, and returns where it stopped (from: nothing could be
 * read). from must be the start of a line. */
uint64_t metric_events(int fd, uint64_t from, uint64_t to, struct buf *out);

/* Members of an object: "from", "stride", "points", "offset" and "columns" {NAME: [...]}, of the
 * lines that have a "step" >= from: every stride-th (0: so that about METRIC_POINTS_MAX remain),
 * the last one, and all that have a val_loss. offset: the file's end as far as it was read, for
 * Last-Event-ID. A file that does not exist has no points. Errors: ST_IO, ST_NOMEM, ST_RANGE (more
 * than 4 million lines). */
enum status metric_series(const char *path, int64_t from, uint32_t stride, struct buf *out,
                          struct err *err);

#endif
