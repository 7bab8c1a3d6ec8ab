/* tests/unit/server/jobs_rig.h - jobs with a data directory of their own, whose processes are
 * fake_train. */
#ifndef STROBE_TESTS_JOBS_RIG_H
#define STROBE_TESTS_JOBS_RIG_H

#include "server/jobs.h"

enum { RIG_PATIENCE = 30000 }; /* looks, ten milliseconds apart, before a test gives up */

struct jobs_rig {
    char dir[64];
    struct jobs *jobs;
    struct jobs_opts opts; /* of jobs_rig_open() */
};

void jobs_rig_make(struct jobs_rig *r);  /* the directory; opts with short times */
void jobs_rig_open(struct jobs_rig *r);  /* jobs_create(opts) */
void jobs_rig_close(struct jobs_rig *r); /* jobs_free() */
void jobs_rig_clear(struct jobs_rig *r); /* closes, removes the directory */

/* A file in the data directory; fake_train's script. */
void rig_file(const struct jobs_rig *r, const char *name, const char *text);
/* Reads one of a run; free it. "" when it is absent. */
char *rig_read(const struct jobs_rig *r, const char *id, const char *name);

/* Asks and waits. The answer stays readable until rig_free(). */
struct jobs_ask *rig_ask(struct jobs_rig *r, const struct jobs_ask *with);
struct jobs_ask *rig_submit(struct jobs_rig *r, const char *kind, const char *params);
/* Writes a script, submits `pretrain` with it; fails the test unless it is accepted. */
void rig_train(struct jobs_rig *r, const char *script, int steps, char id[JOB_ID_MAX]);
struct jobs_ask *rig_get(struct jobs_rig *r, enum jobs_verb verb, const char *id);

/* A member of a job's JSON: text, number, or the JSON of others; static storage. */
const char *rig_member(struct jobs_rig *r, const char *id, const char *name);
/* Waits for the job's state and fails the test if it does not come. */
void rig_wait(struct jobs_rig *r, const char *id, const char *state);
/* Waits for a line of the run's metrics with this step. */
void rig_wait_step(struct jobs_rig *r, const char *id, int step);

#endif
