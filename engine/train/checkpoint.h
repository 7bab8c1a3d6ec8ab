/* engine/train/checkpoint.h - the states that a run can continue from, in RUN/checkpoints:
 *
 *   step-0000000500/   manifest.json  params.bin  m.bin  v.bin     one state, never changed again
 *   last -> step-...   best -> step-...                            replaced atomically
 *   .tmp...                                                        being written, or left by a
 * crash
 *
 * A state is written beside the others, made durable, then renamed, then `last` is pointed at it: a
 * kill at any moment leaves the old `last` or the new one, whole. manifest.json has format version,
 * shape, counters, digest of the tokenizer and, for each tensor, checksums of its parameters and
 * moments, and ends with its own checksum. The .bin files are the flat arrays of net.h, f32
 * little-endian. Owner: one thread; one process per run (see run_dir.h). */
#ifndef STROBE_TRAIN_CHECKPOINT_H
#define STROBE_TRAIN_CHECKPOINT_H

#include "engine/base/err.h"
#include "engine/train/net.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHECKPOINT_FORMAT = 1 };

/* All but the arrays. */
struct checkpoint {
    struct net_shape shape;
    uint64_t step;              /* optimiser steps done */
    uint64_t seq;               /* sequences taken from the order (data.h) */
    uint64_t tokens;            /* targets seen */
    uint64_t seed;              /* of parameters and order */
    uint64_t data;              /* identity of the training data, any number */
    double seconds, dollars;    /* spent so far, all parts of the run */
    double val_loss, best_loss; /* held-out nats per token, of this state, of the best so far; NaN:
                                   not measured */
    uint64_t best_step;
    unsigned char tokenizer[32]; /* digest; zero: unknown */
};

/* The flat arrays, [net_n_param(shape)] each. */
struct checkpoint_arrays {
    real *param, *m, *v;
};

/* best: `best` shall point at this state too. keep_every: states whose step is a multiple stay, the
 * others go once neither name points at them; 0: none stay. On failure the old names are as they
 * were. Errors: ST_IO (disk full and the like), ST_NOMEM, ST_RANGE (path too long). */
enum status checkpoint_save(const char *run, const struct checkpoint *c,
                            const struct checkpoint_arrays *a, bool best, uint64_t keep_every,
                            struct err *err);
/* Removes what a crash left: temporary folders and states that no name points at. */
enum status checkpoint_sweep(const char *run, uint64_t keep_every, struct err *err);

/* The manifest of a state's folder. Errors: ST_NOTFOUND, ST_IO, ST_FORMAT (damaged), ST_UNSUPPORTED
 * (another format version). */
enum status checkpoint_peek(const char *dir, struct checkpoint *ret, struct err *err);
/* Manifest and arrays; a->m and a->v may be NULL: parameters only. The arrays hold anything after a
 * failure. Errors: as checkpoint_peek(); ST_ARG: another shape (names the field); ST_FORMAT: names
 * file and tensor that is damaged. */
enum status checkpoint_load(const char *dir, const struct net_shape *shape, struct checkpoint *ret,
                            const struct checkpoint_arrays *a, struct err *err);

#endif
