/* engine/train/train_config.h - the settings of a training run: one table (name, type, default,
 * bounds, help) reads the JSON file, the command line's --KEY VALUE, prints --help and the resolved
 * file. Owner: one thread; constant once the run starts. */
#ifndef STROBE_TRAIN_CONFIG_H
#define STROBE_TRAIN_CONFIG_H

#include "engine/base/json.h"
#include "engine/train/net.h"
#include "engine/train/schedule.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct train_config {
    /* text and shards; strings are owned, "" stands for none */
    char *data, *held_out, *tokenizer, *special, *init;
    double held_out_fraction;
    uint32_t n_vocab; /* 0: the tokenizer's; else of the vocabulary to learn */
    /* shape; 0 in n_kv_head, d_head, d_ff: derived (train_config_shape()) */
    uint32_t n_layer, d_model, n_head, n_kv_head, d_head, d_ff;
    uint32_t norm, pos, act; /* enums of net.h */
    bool gated, up_relu, norm_relu, tied, bias;
    double act_shift, norm_eps, rope_theta;
    /* Duo: neurons of the small parts (0: no Duo), what skipping leaves out, how tokens are sent at
     * random while it trains, and whether only the small parts learn */
    uint32_t d_small, skip_scope; /* skip_scope: 0 ffn, 1 layer */
    double p_big, p_skip;
    bool freeze_big;
    /* how long and how much at a time */
    uint64_t steps, tokens; /* one of them; 0: not given */
    uint32_t batch, ctx, accumulate;
    bool shuffle, documents;
    /* optimiser */
    double lr, lr_end, warmup, decay, beta1, beta2, eps, weight_decay, clip;
    uint32_t schedule; /* enum schedule_kind */
    uint64_t seed;
    /* computing */
    uint32_t gemm, activations, attn; /* enums of net.h: net_gemm, net_keep, net_attn */
    bool recompute, zero1;
    uint32_t vocab_chunk, threads; /* 0: chosen */
    /* watching and keeping */
    uint64_t log_every, eval_every, eval_tokens, checkpoint_every, keep_every, stop_at;
    double price_per_hour;
    /* the model's file */
    char *name, *license, *description;
    uint32_t model_type; /* enum train_model_type */
};
/* Of the matrices in model.gguf; MODEL_NONE: none is written. */
enum train_model_type { MODEL_F32, MODEL_F16, MODEL_BF16, MODEL_Q8_0, MODEL_NONE };

/* Defaults. Errors: ST_NOMEM. */
enum status train_config_init(struct train_config *c, struct err *err);
void train_config_clear(struct train_config *c); /* a zeroed struct is fine */
/* Takes the members of a JSON object; null leaves a setting alone. Errors: ST_ARG (an unknown key,
 * with the nearest known one; a wrong type), ST_RANGE, ST_NOMEM. */
enum status train_config_json(struct train_config *c, const json_t *obj, struct err *err);
/* The JSON file. Errors: also ST_NOTFOUND, ST_IO, ST_FORMAT. */
enum status train_config_file(struct train_config *c, const char *path, struct err *err);
/* Is there such a setting? Dashes count as underscores. */
bool train_config_has(struct str key);
/* One setting from text, as on the command line. Errors as train_config_json(). */
enum status train_config_set(struct train_config *c, struct str key, struct str value,
                             struct err *err);
/* All settings as a JSON object; NULL: no memory. public: without those that name files. */
json_t *train_config_dump(const struct train_config *c, bool public);
/* The table, one setting a line. */
void train_config_help(FILE *out);
/* ST_ARG naming the first setting that two halves of one run may not have different: what would
 * change the numbers (shape, data, batch, optimiser...). Those that only say how long, how fast or
 * how often something is written may differ. */
enum status train_config_same_run(const struct train_config *old, const struct train_config *now,
                                  struct err *err);

/* Settings that depend on each other. Errors: ST_ARG, naming them. */
enum status train_config_check(const struct train_config *c, struct err *err);
/* The network, derived dimensions filled in: n_kv_head = n_head, d_head = d_model / n_head, d_ff =
 * 4 d_model (gated: 8/3 d_model, rounded up to 32). Errors: as net_shape_check(). */
enum status train_config_shape(const struct train_config *c, uint32_t n_vocab,
                               struct net_shape *ret, struct err *err);
uint64_t train_config_step_tokens(const struct train_config *c); /* targets of one step */
uint64_t train_config_steps(const struct train_config *c);       /* of the whole run */
struct schedule train_config_schedule(const struct train_config *c);

#endif
