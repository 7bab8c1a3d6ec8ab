/* engine/flash/predictor.h - the file of a trained low-rank mask (mask.h, "lowrank"): per layer the
 * factors A [r, n_embd] and B [n_ff, r] and a bias [n_ff] with the threshold in it, so that neuron
 * i is let pass where (B (A x))_i + bias_i > 0. A GGUF file of architecture "strobe-predictor" with
 * the tensors that `strobe pack --mask lowrank` puts into the packed model under the same names
 * (model/bundle.h). It names the model that it was trained for. Immutable after reading. */
#ifndef STROBE_FLASH_PREDICTOR_H
#define STROBE_FLASH_PREDICTOR_H

#include "engine/base/err.h"
#include "engine/kernel/dtype.h"

#include <stdint.h>

enum { PREDICTOR_VERSION = 1 };

struct predictor_layer {
    uint32_t rank;
    enum dtype a_type, b_type;
    uint8_t *a, *b; /* rows as in a file */
    uint64_t a_bytes, b_bytes;
    float *bias; /* [n_ff] */
};

struct predictor {
    char model[65];      /* model_hash() of the model before packing */
    char activation[64]; /* hparams_act_text() that it was run with */
    uint32_t n_layer, n_embd, n_ff;
    double recall, over_load;      /* measured when trained, over all layers; 0: not known */
    struct predictor_layer *layer; /* [n_layer], owned, with what it points to */
};

/* Quantised rows of this type; F16 where rows of n_col elements are no whole blocks of it. */
enum dtype predictor_type(enum dtype want, uint32_t n_col);
/* Makes room for all layers but not for what they hold. Errors: ST_NOMEM. */
enum status predictor_init(struct predictor *p, uint32_t n_layer, uint32_t n_embd, uint32_t n_ff,
                           struct err *err);
void predictor_clear(struct predictor *p);           /* a zeroed struct is fine */
uint64_t predictor_bytes(const struct predictor *p); /* of all tensors */

/* Reads all of it, and nothing else will: each shape, type and number is checked. Errors: as
 * gguf_open(), ST_FORMAT (names the tensor), ST_UNSUPPORTED (a newer version), ST_NOMEM. */
enum status predictor_read(const char *path, struct predictor *ret, struct err *err);
/* Writes path.partial and renames it. Errors: ST_IO, ST_NOMEM. */
enum status predictor_write(const struct predictor *p, const char *path, struct err *err);

#endif
