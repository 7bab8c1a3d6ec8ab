/* server/recsys_jobs.h - jobs of the recommender: rows of job_kinds(). They run on a worker's
 * thread. */
#ifndef STROBE_SERVER_RECSYS_JOBS_H
#define STROBE_SERVER_RECSYS_JOBS_H

#include "server/job_kinds.h"

enum status recsys_fit_check(const json_t *config, char param[JOB_PARAM_MAX], struct err *err);
/* Fits to all events so far and puts the model into use. */
enum status recsys_fit_run(struct job_run *r, struct err *err);
/* Loads the invented town, then fits. */
enum status recsys_demo_run(struct job_run *r, struct err *err);

#endif
