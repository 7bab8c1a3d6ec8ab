/* server/eval_job.h - the job that works on an evaluation run: a function on a worker's thread,
 * because it asks the server's own engine where the run has no endpoint. The run is in the run
 * store; the job only knows its id, so a job that starts again goes on where the run was. */
#ifndef STROBE_SERVER_EVAL_JOB_H
#define STROBE_SERVER_EVAL_JOB_H

#include "engine/engine.h"
#include "server/job_kinds.h"

/* What jobs of this server work with; set once before jobs start, constant afterwards. Borrowed. */
void eval_job_setup(struct engine *engine, const char *dir, const char *store_url);
struct engine *eval_job_engine(void);

/* job_kind.check and run: params {"run": ID}. */
enum status eval_job_check(const json_t *config, char param[JOB_PARAM_MAX], struct err *err);
enum status eval_job_run(struct job_run *r, struct err *err);

#endif
