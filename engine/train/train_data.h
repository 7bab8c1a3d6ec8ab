/* engine/train/train_data.h - what a run learns from and is measured on, from its settings: shards
 * as they are, or text made into shards in the run's folder once. Owner: one thread; afterwards
 * immutable. */
#ifndef STROBE_TRAIN_TRAIN_DATA_H
#define STROBE_TRAIN_TRAIN_DATA_H

#include "engine/train/data.h"
#include "engine/train/run_dir.h"
#include "engine/train/train_config.h"

/* A set and the sequences of it that are used. */
struct train_set {
    struct data *data;
    bool owned;
    uint64_t from, n; /* sequences of config->ctx tokens; n 0: none */
};

struct train_data {
    struct train_set train, held;
    struct data_info info; /* of the training set */
    char vocab[4096];      /* the GGUF file with the vocabulary, "" when only shards are known */
};

struct train_data_opts {
    const struct train_config *config;
    const char *dir; /* the run's folder */
    bool make;       /* this process makes what is missing */
    /* Progress of tokenizing; false stops with ST_CANCELLED. NULL: none. */
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};
/* Makes shards and vocabulary where the settings name text and they are not there yet. Errors:
 * those of textset_make(), bpe_learn() and tokenizer_from_gguf(). */
enum status train_data_make(const struct train_data_opts *o, struct err *err);
/* Opens and verifies. Errors: those of data_open(); ST_ARG: sets of different tokenizers, too
 * little for one step. train_data_close() it. */
enum status train_data_open(const struct train_data_opts *o, struct train_data *ret,
                            struct err *err);
void train_data_close(struct train_data *d); /* a zeroed struct is fine */
/* Tells this training set from others: contents and the part that is used. */
uint64_t train_data_identity(const struct train_data *d);

#endif
