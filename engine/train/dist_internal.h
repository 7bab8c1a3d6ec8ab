/* engine/train/dist_internal.h - what dist_queue.c (the trainer's side) and dist_mpi.c (the wire)
 * share. Not for others. */
#ifndef STROBE_TRAIN_DIST_INTERNAL_H
#define STROBE_TRAIN_DIST_INTERNAL_H

#include "engine/train/dist.h"

#include <pthread.h>

enum {
    DIST_BUCKET = 512 << 10, /* elements: 2 MiB, some hundred times what a message costs to start */
    DIST_QUEUE = 256         /* jobs */
};

enum dist_kind { JOB_REDUCE, JOB_SPREAD, JOB_COLLECT, JOB_SUM, JOB_BARRIER, JOB_END };

struct dist_job {
    enum dist_kind kind;
    real *flat;        /* REDUCE, SPREAD; COLLECT: the whole array, on rank 0 */
    const real *mine;  /* COLLECT */
    uint64_t from, to; /* REDUCE */
    double *v;         /* SUM */
    size_t n;
    bool failed; /* END */
};

struct wire; /* opaque: what only the other thread has */

struct dist {
    struct reduce reduce;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows, up to `err` */
    pthread_cond_t work, idle;
    struct dist_job queue[DIST_QUEUE];
    unsigned head, n_job;
    bool busy, joined; /* joined: rank and n_rank are known, or err is set */
    struct err err;    /* the first failure; everything after it fails too */

    /* the trainer's thread: gradients that are final and not in a bucket yet */
    real *grad;
    uint64_t from, to;
    uint64_t *share; /* [n_rank + 1] or NULL */

    struct wire *wire;
};

/* ---- dist_mpi.c ---- */

/* Loads the library. Errors: ST_UNSUPPORTED, ST_NOMEM. */
enum status wire_open(struct wire **ret, struct err *err);
/* Buffers for d->reduce.n_rank processes, before the first job. Errors: ST_NOMEM. */
enum status wire_make_room(struct dist *d, struct err *err);
void wire_free(struct wire *w); /* NULL is fine */
/* The other thread's: joins the others; leaves d->err on failure. */
void wire_join(struct dist *d);
/* The other thread's: one job, to its end; leaves d->err on failure. */
void wire_run(struct dist *d, const struct dist_job *j);

#endif
