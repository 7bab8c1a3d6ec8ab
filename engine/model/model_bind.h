/* engine/model/model_bind.h - inside of model.c: finds each role's tensor in either container and
 * checks its shape and type against the hyper-parameters. */
#ifndef STROBE_MODEL_MODEL_BIND_H
#define STROBE_MODEL_MODEL_BIND_H

#include "engine/model/arch.h"
#include "engine/model/safetensors.h"

struct binding {
    const struct gguf *g; /* one of the two */
    const struct safetensors *st;
    struct spec *spec;
    struct hparams *hp; /* n_vocab, n_ctx_train and tied are set here */
    struct tensor *tensor;
    uint32_t n_tensor;
    struct bundle bundle; /* of a packed file */
    bool packed;
    int32_t *at; /* [n_layer + 1][TR_ROLES]: index or -1; row 0 is global */
};

/* Allocates tensor and at (also on failure: the caller frees both). Errors: ST_FORMAT (missing, or
 * expected and found shape), ST_UNSUPPORTED (type), ST_NOMEM. */
enum status bind_tensors(struct binding *b, struct err *err);

#endif
