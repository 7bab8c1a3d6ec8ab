/* engine/train/manifest.h - the text of a checkpoint's manifest.json. Not for other files than
 * checkpoint.c and tests. Pure. */
#ifndef STROBE_TRAIN_MANIFEST_H
#define STROBE_TRAIN_MANIFEST_H

#include "engine/base/buf.h"
#include "engine/train/checkpoint.h"
#include "engine/train/shape_json.h"

enum { MANIFEST_ARRAYS = 3 }; /* params, m, v */

struct manifest_tensor {
    char name[48];
    uint32_t rows, cols;
};

struct manifest {
    struct checkpoint state;
    uint32_t n_tensor;
    struct manifest_tensor *tensor; /* [n_tensor] */
    uint64_t *sum;                  /* [n_tensor, MANIFEST_ARRAYS] */
};

/* sum: [n, MANIFEST_ARRAYS]. Appends. Errors: ST_NOMEM. */
enum status manifest_print(const struct checkpoint *c, const struct net_tensor *t, uint32_t n,
                           const uint64_t *sum, struct buf *out, struct err *err);
/* *ret is written on success only: manifest_clear() it. Errors: ST_FORMAT, ST_UNSUPPORTED,
 * ST_NOMEM. The shape is one that net_shape_check() takes. */
enum status manifest_parse(struct str text, struct manifest *ret, struct err *err);
void manifest_clear(struct manifest *m); /* a zeroed struct is fine */
/* The tensors are these, in this order. Errors: ST_FORMAT, naming one. */
enum status manifest_matches(const struct manifest *m, const struct net_tensor *t, uint32_t n,
                             struct err *err);

#endif
