/* engine/train/relufy.h - turns a trained model into a sparse one (ReLU Strikes Back): swaps the
 * activation, trains on, and reports quality and sparsity of the model as it came, right after the
 * swap, and at the end. Stage 1: the FFN's activation; stage 2: also max(0, .) behind the norms.
 * The work between the measurements is train_run(); the run's folder gets relufy.json beside the
 * rest. Owner: one thread. */
#ifndef STROBE_TRAIN_RELUFY_H
#define STROBE_TRAIN_RELUFY_H

#include "engine/train/sparsity.h"
#include "engine/train/trainer.h"

/* What the model becomes. Text: "relu", "relu2", "drelu", "shifted_relu:B", "fatrelu:T". */
struct relufy_to {
    enum net_act act;
    bool up_relu;
    double shift;
    uint32_t stage; /* 1 or 2 */
};
/* Errors: ST_ARG (unknown word, a number out of 0..100, stage, dReLU without a gate). */
enum status relufy_parse(struct str text, uint32_t stage, bool gated, struct relufy_to *ret,
                         struct err *err);

/* Fills the settings that describe the network from the model in c->init, with `to` in place of its
 * activation, and takes its tokenizer where none is given: before the user's own settings. Errors:
 * those of import_gguf(), ST_NOMEM. */
enum status relufy_config(const char *from, struct train_config *c, struct net_shape *shape,
                          struct err *err);
void relufy_apply(const struct relufy_to *to, struct train_config *c);

struct relufy_point {
    bool known;
    double nats; /* held-out, per token; NaN: no held-out text */
    struct net_shape shape;
    struct sparsity_layer *layer; /* [shape.n_layer], owned */
};
struct relufy_report {
    struct relufy_point before, swapped, after; /* after: unknown when the run was stopped */
    struct train_result train;
};
void relufy_report_clear(struct relufy_report *r);
json_t *relufy_report_json(const struct relufy_report *r); /* NULL: no memory */

/* Measures, trains (o as for train_run(), settings from relufy_config()), measures, writes
 * relufy.json. One process (o->reduce is not looked at). Errors: those of train_run(); ST_ARG: no
 * held-out text. */
enum status relufy_run(const struct train_opts *o, struct relufy_report *ret, struct err *err);

#endif
