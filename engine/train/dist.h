/* engine/train/dist.h - processes that a launcher started to train one network together: fills
 * reduce.h's table. dist_queue.c does it, over Open MPI (dist_mpi.c); a build without that has
 * dist_none.c, which knows one process only. Owner: one thread, the trainer's. */
#ifndef STROBE_TRAIN_DIST_H
#define STROBE_TRAIN_DIST_H

#include "engine/train/reduce.h"

#include <stdbool.h>

struct dist; /* opaque */

/* Did mpirun (or a launcher like it) start this process as one of several? Reads the environment
 * only: a process alone never loads MPI. */
bool dist_launched(void);
/* Joins the others, once in a process's life; waits until all of them are there. Errors:
 * ST_UNSUPPORTED (no MPI in this build or on this machine), ST_IO, ST_NOMEM. */
enum status dist_open(struct dist **ret, struct err *err);
const struct reduce *dist_reduce(const struct dist *d); /* lives as long as d */
/* failed false: waits for the other ranks, then leaves. True: leaves without a word, upon which the
 * launcher ends the others when this process does. NULL is fine. */
void dist_close(struct dist *d, bool failed);

#endif
