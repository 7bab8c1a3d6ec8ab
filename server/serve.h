/* server/serve.h - the server's entry: bind, serve, drain. */
#ifndef STROBE_SERVER_SERVE_H
#define STROBE_SERVER_SERVE_H

#include "engine/engine.h"
#include "server/duo_store.h"

#include <stdbool.h>

struct serve_opts {
    const char *host;         /* address; NULL: 127.0.0.1 */
    uint16_t port;            /* 0: the system picks one */
    const char *api_key_file; /* one key per line; NULL: open (loopback only) */
    const char *cors_origin;  /* allowed Origin, "*" for any; NULL: none */
    uint64_t max_body;        /* bytes; 0: 8 MiB */
    uint32_t drain_s;         /* grace for running requests after SIGTERM; 0: 30 */
    const char *static_dir;   /* development: files here override the embedded ones; NULL */
    const char *data_dir;     /* of jobs, exists; NULL: no jobs */
    const char *store;        /* URL of the job database; NULL: strobe.db in data_dir */
    const char *eval_store;   /* URL of the database of evaluations; NULL: evals.db in data_dir */
    const char *recsys_store; /* URL of the event database; NULL: recsys/recsys.db in data_dir */
    uint32_t n_job;           /* jobs that run at a time; 0: 1 */
    const char *duo_model;    /* of traces that name none; NULL: the served model, if it is one */
    struct duo_limit duo_keep[DUO_HOMES]; /* traces */
    bool allow_paths;                     /* jobs may read files outside of data_dir */
    bool (*has_verb)(const char *verb);   /* of this program, for jobs; NULL: all */
};

/* Prints "listening on http://H:P" on stdout once bound, serves until SIGTERM or SIGINT, drains.
 * engine NULL: no model, the dashboard and the operation routes only. Errors: ST_ARG (a
 * non-loopback bind without keys), ST_IO, ST_NOMEM. */
enum status serve_run(const struct serve_opts *opts, struct engine *engine, struct err *err);

#endif
