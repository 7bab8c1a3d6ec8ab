/* server/job_output.h - what the process of a job says: its standard error goes to log.txt in the
 * job's directory, the end of it is kept for the job's error; its standard output is the result.
 * Owner: the worker's thread. */
#ifndef STROBE_SERVER_JOB_OUTPUT_H
#define STROBE_SERVER_JOB_OUTPUT_H

#include "engine/base/buf.h"
#include "engine/base/json.h"
#include "server/process.h"

#include <sys/types.h>

enum {
    JOB_RESULT_MAX = 256 << 10,
    JOB_LAST_MAX = 1024 /* of its standard error, for the job's error */
};

struct job_output {
    const char *dir; /* borrowed */
    int log;         /* log.txt; -1 */
    off_t log_bytes;
    struct buf out;          /* standard output, at most JOB_RESULT_MAX */
    char last[JOB_LAST_MAX]; /* end of standard error */
    size_t n_last;
};
#define JOB_OUTPUT_INIT                                                                            \
    {                                                                                              \
        .log = -1                                                                                  \
    }

/* A log that cannot be written is no reason to end a run: nothing here fails. Keeps dir. */
void job_output_open(struct job_output *o, const char *dir);
void job_output_close(struct job_output *o); /* one that was not opened is fine */
/* Another attempt: what the last one said is forgotten, the log is not. */
void job_output_begin(struct job_output *o);
/* Takes what is in the process's pipes; closes those that have ended. */
void job_output_drain(struct job_output *o, struct process *p);
/* A line of our own in the log. */
void job_output_note(struct job_output *o, const char *what);
/* The last line that it said, without the program's name in front. Borrowed until the next drain.
 */
struct str job_output_last(const struct job_output *o);
/* What it printed, as clients may see it; NULL: no object, or no memory. */
json_t *job_output_result(const struct job_output *o, const char *data_dir);

/* Text for clients: the data directory's own path is left out. */
void job_put_hidden(const char *data_dir, struct str text, struct buf *out);

#endif
