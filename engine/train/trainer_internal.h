/* engine/train/trainer_internal.h - what trainer.c (the loop) and trainer_setup.c (before and
 * after it) share. Not for other files. */
#ifndef STROBE_TRAIN_TRAINER_INTERNAL_H
#define STROBE_TRAIN_TRAINER_INTERNAL_H

#include "engine/train/checkpoint.h"
#include "engine/train/optim.h"
#include "engine/train/run_dir.h"
#include "engine/train/train_data.h"
#include "engine/train/trainer.h"

/* trainer_share.c: what a rank keeps where ranks share the moments. */
struct trainer_share {
    bool on;
    uint64_t *cut; /* [n_rank + 1] */
    size_t n_block, first_block;
    double *square; /* [n_block] of the whole gradient, the optimiser's blocks */
    real *moment;   /* [n_param] on rank 0: for checkpoints */
};

struct trainer {
    const struct train_opts *o;
    const struct train_config *config;
    const struct reduce *reduce;
    struct run_dir *run; /* NULL: another rank writes */
    struct pool *pool;
    struct net *net;
    struct optim *optim;
    struct train_data data;
    struct data_order order; /* of the training set */
    struct schedule schedule;
    uint64_t n_step, n_param;
    struct trainer_share share;
    uint32_t row, n_row; /* this rank's rows of a pass: [row, row + n_row) */
    /* one pass, [n_row, ctx] each */
    int32_t *token, *target, *doc;
    float *weight;
    uint8_t *route;            /* Duo: [n_layer, n_row, ctx]; NULL: none */
    real *frozen;              /* freeze_big: the parameters as they were; NULL: all learn */
    struct net_tensor *tensor; /* freeze_big: the network's */

    struct checkpoint state; /* counters are those of the steps done */
    uint64_t start_ns;
    double before_s; /* seconds that earlier parts of the run took */
    uint64_t logged; /* step of the last line of the log */
    bool best;       /* the state is the best so far and not saved as that yet */
    struct train_plan plan;
    /* since the last line of the log, and in this process: computing only */
    uint64_t line_ns, line_tokens, all_ns, all_tokens;
    double loss; /* of the last step; NaN: none yet */
};

/* Everything up to the first step; trainer_close() also after a failure. */
enum status trainer_open(struct trainer *t, const struct train_opts *o, struct err *err);
void trainer_close(struct trainer *t);
double trainer_seconds(const struct trainer *t); /* the whole run so far */
void trainer_note(const struct trainer *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes o's range this rank's share when shares are kept (setting zero1, several ranks). */
enum status trainer_share_open(struct trainer *t, struct optim_opts *o, struct err *err);
void trainer_share_close(struct trainer *t);
/* Of moments on this rank; shares as if they were equal. */
uint64_t trainer_share_bytes(const struct trainer *t);
/* Sum of squares of the whole gradient, the same bits on every rank. */
enum status trainer_squares(struct trainer *t, double *ret, struct err *err);
/* After this rank's update: everybody gets the new parameters; all gradients are zero. */
enum status trainer_spread(struct trainer *t, struct err *err);
/* The whole state for a checkpoint, on rank 0; trainer_collected() ends its use. All ranks call
 * both. */
enum status trainer_collect(struct trainer *t, struct checkpoint_arrays *ret, struct err *err);
void trainer_collected(struct trainer *t);
/* t->state, parameters and this rank's moments from a checkpoint's folder. */
enum status trainer_load(struct trainer *t, const char *dir, struct err *err);

/* trainer_duo.c. Memory for routes and for what is frozen; nothing where that is not wanted. */
enum status trainer_duo_open(struct trainer *t, struct err *err);
void trainer_duo_close(struct trainer *t);
uint64_t trainer_duo_bytes(const struct trainer *t, uint64_t n_param);
/* The network's routes for n sequences from `seq` on: drawn from (seed, sequence, place, layer)
 * alone. `random` false: all big. */
void trainer_duo_route(struct trainer *t, uint64_t seq, uint32_t n, bool random);
/* Gradients and parameters of what is frozen: zero before an update, as they were after it. */
void trainer_duo_mask(struct trainer *t);
void trainer_duo_restore(struct trainer *t);

/* Notes why no model will be written, if that is so: before hours are spent. */
void trainer_check_export(const struct trainer *t);
/* Writes the model where that can be; its name in the run's folder to out, else "". */
enum status trainer_export(struct trainer *t, char out[64], struct err *err);

#endif
