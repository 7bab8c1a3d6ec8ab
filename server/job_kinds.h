/* server/job_kinds.h - what kinds of jobs there are: a row per kind. A job is a child process of
 * this program with another verb, or a function on a worker's thread.
 *
 * Settings come from clients, so what they name on the disk is held inside of the data directory:
 * relative names start there, symbolic links are followed before the look, and a text with a slash
 * is refused where the kind knows no path. */
#ifndef STROBE_SERVER_JOB_KINDS_H
#define STROBE_SERVER_JOB_KINDS_H

#include "engine/base/json.h"

enum { JOB_PARAM_MAX = 64 }; /* ENGINE_PARAM_MAX */

struct recsys_home;
struct job_run; /* opaque: a running job, for functions on a worker's thread */

struct job_kind {
    const char *name;         /* of the API; also the end of its route */
    const char *verb;         /* of the child process; NULL: `run` */
    const char *const *paths; /* settings that name files or folders, NULL-ended; NULL: none */
    bool no_files; /* it opens no file that a setting names: texts may hold slashes (time zones) */
    /* Refuses wrong settings before they are queued; param takes the name of the first one ("" when
     * none is to blame). NULL: none is known. ST_ARG, ST_RANGE, ST_NOMEM. */
    enum status (*check)(const json_t *config, char param[JOB_PARAM_MAX], struct err *err);
    /* Works, looks at job_run_stop() often. Errors: any; ST_CANCELLED when it stopped for that. */
    enum status (*run)(struct job_run *r, struct err *err);
};

/* The kinds of the product. */
const struct job_kind *job_kinds(size_t *n);

/* The settings with absolute paths, checked; free *ret with json_free(). dir: the data directory.
 * anywhere: paths outside of it are allowed. Errors: ST_ARG (param names the setting), ST_NOMEM. */
enum status job_config(const struct job_kind *k, const json_t *params, const char *dir,
                       bool anywhere, json_t **ret, char param[JOB_PARAM_MAX], struct err *err);

/* ---- for job_kind.run ---- */
const json_t *job_run_params(const struct job_run *r);       /* with absolute paths; borrowed */
const char *job_run_dir(const struct job_run *r);            /* exists, is the run's own */
struct recsys_home *job_run_recsys(const struct job_run *r); /* NULL: there is none */
bool job_run_stop(const struct job_run *r);                  /* cancelled, or the server stops */
/* Appends a line to the metrics, which watchers see; a number "step" orders them, "share" would be
 * how far it is. Takes line. Errors: ST_IO, ST_NOMEM. */
enum status job_run_line(struct job_run *r, json_t *line, struct err *err);
void job_run_result(struct job_run *r, json_t *take); /* NULL: none */

#endif
