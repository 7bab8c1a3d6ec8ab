/* engine/train/trainer.h - trains a network from settings: makes shards from text where needed,
 * runs the steps, measures held-out loss, writes metrics and checkpoints into a run folder
 * (run_dir.h), and continues a run bit for bit.
 *
 * A step takes batch x accumulate sequences from the order of data.h, by its number alone;
 * gradients are means over the targets that count; no random number depends on anything but (seed,
 * purpose, number). So a run that was stopped, or killed, and resumed gives the same parameters,
 * moments and losses as one that was not, for any number of threads. With several processes
 * (reduce.h) every rank takes its share of each batch's rows; rank 0 alone writes.
 *
 * Owner: one thread, which all callbacks run on. */
#ifndef STROBE_TRAIN_TRAINER_H
#define STROBE_TRAIN_TRAINER_H

#include "engine/base/err.h"
#include "engine/train/net.h"
#include "engine/train/reduce.h"
#include "engine/train/train_config.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes of this process, told before the first step. */
struct train_plan {
    uint64_t params, grads, moments, activations, scratch; /* net_plan(), optim_bytes() */
    uint64_t batch;                                        /* tokens, targets and the like */
    uint64_t program; /* held before training: code's own memory, settings, libraries */
    uint64_t total;
};

/* After a step. */
struct train_progress {
    uint64_t step, n_step, tokens;
    double loss;             /* of this step, nats per counted target */
    double val_loss;         /* held-out nats per target; NaN: not measured at this step */
    double bits_per_byte;    /* held-out, by the set's mean of bytes per token; NaN: not measured,
                                or the text's size is unknown */
    double lr, grad_norm;    /* norm before clipping */
    double tok_s;            /* since the last logged line, measuring and writing left out */
    double seconds, dollars; /* the whole run so far, all its parts */
    double eta_s;
    uint64_t rss; /* anonymous memory now */
};

struct train_watch { /* any may be NULL */
    void *ctx;
    void (*plan)(void *ctx, const struct train_plan *p, uint64_t n_param);
    void (*step)(void *ctx, const struct train_progress *p);
    void (*work)(void *ctx, const char *what, uint64_t done, uint64_t total); /* before step 1 */
    void (*note)(void *ctx, const char *text);                                /* one line */
};

struct train_opts {
    const struct train_config *config; /* checked */
    const char *dir;                   /* the run's folder */
    bool resume;                       /* go on from DIR's last checkpoint; none: from the start */
    const struct reduce *reduce;       /* NULL: this process alone */
    const volatile sig_atomic_t *stop; /* becomes non-zero, and stays so: leave the step at its next
                                          layer (several ranks: finish it), write a checkpoint of
                                          the one before, end. NULL: never */
    struct train_watch watch;
};

struct train_result {
    uint64_t step, n_step, tokens, n_param;
    bool stopped;                         /* before the last step */
    double loss, val_loss, bits_per_byte; /* NaN: none was measured */
    double tok_s, seconds, dollars;
    uint64_t planned, rss_peak; /* bytes */
    char model[64];             /* "model.gguf" in the run's folder, "" when none was written */
};

/* *ret on success, which includes a run that was stopped. Errors: ST_ARG (settings, a folder that
 * holds a run already, a checkpoint of another run), ST_RANGE (shape), ST_FORMAT (damaged shard or
 * checkpoint), ST_NOTFOUND, ST_UNSUPPORTED, ST_BUSY (another process in the folder), ST_IO (disk
 * full: the last checkpoint stays), ST_DIVERGED (a loss or gradient that is not finite: the last
 * checkpoint stays, the message names the step), ST_CANCELLED (stopped before the first step),
 * ST_BUDGET (the plan is more than the machine, or its cgroup, has), ST_NOMEM. */
enum status train_run(const struct train_opts *o, struct train_result *ret, struct err *err);

/* train_data_opts.progress of a run, ctx is its struct train_opts: tells, and ends on a stop. */
bool train_on_text(void *ctx, uint64_t done, uint64_t total);

#endif
