/* tests/support/oracle.h - the transformer written down again, in double and as plainly as
 * possible, from model-formats.md sections 4.2, 5 and 6: what the forward pass is measured against.
 * It shares no code with the engine beyond the struct that names the hyper-parameters, and it
 * computes all positions of one sequence at once, layer after layer. */
#ifndef STROBE_TESTS_SUPPORT_ORACLE_H
#define STROBE_TESTS_SUPPORT_ORACLE_H

#include "engine/model/model.h"

#include <stdbool.h>
#include <stdint.h>

struct oracle_tensor {
    uint32_t n_row, n_col;
    double *w; /* owned; NULL: the model has no such weight */
};

/* A key or value row as the engine stored it: f16 [d], with exact_cache f32 [d]. */
typedef const void *(*oracle_stored)(void *ctx, uint32_t layer, uint32_t head, uint32_t pos,
                                     bool value);

/* Cached keys and values are rounded to f16. A number close to the middle of two f16 neighbours may
 * be rounded up here and down there, for reasons in the last bit of an f32; the difference is then
 * a thousand times what is to be measured. With `stored` set, the oracle therefore goes on from
 * what the engine stored, and records in kv_excess by how much the worst stored number is farther
 * from the exact one than half a step of f16, in units of the row's length. An f32 cache is only
 * compared: the oracle goes on from its own numbers. (A bias of keys that are not rotated moves all
 * scores of a query alike, so nothing behind the softmax would notice that it is missing.) */
struct oracle {
    struct hparams hp;
    struct oracle_tensor *t; /* [(n_layer + 1) * TR_ROLES]; the last TR_ROLES are global */
    uint32_t ctx;            /* longrope: the configured context */
    bool exact_cache;        /* no rounding of keys and values at all */
    oracle_stored stored;
    void *stored_ctx;
    double kv_excess;
};

/* Room for the tensors of hp, all absent. Aborts when memory is out. */
struct oracle *oracle_create(const struct hparams *hp);
void oracle_free(struct oracle *o);
/* layer UINT32_MAX: global. */
struct oracle_tensor *oracle_at(const struct oracle *o, enum tensor_role role, uint32_t layer);
void oracle_set(struct oracle *o, enum tensor_role role, uint32_t layer, uint32_t n_row,
                uint32_t n_col, const float *w);
/* logits and size: [n_tok, n_vocab]; size is sum |w_i h_i| of the output product (plus the bias,
 * times the slope of a cap), the yardstick for its rounding error. */
void oracle_run(struct oracle *o, const int32_t *token, uint32_t n_tok, double *logits,
                double *size);

#endif
