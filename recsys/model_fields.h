/* recsys/model_fields.h - the arrays of a model as a table, for model.c and model_file.c. */
#ifndef STROBE_RECSYS_MODEL_FIELDS_H
#define STROBE_RECSYS_MODEL_FIELDS_H

#include "recsys/model.h"

enum rcheck { CHECK_NONE, CHECK_FINITE, CHECK_POSITIVE }; /* what a loaded array must hold */

struct rfield {
    const char *name; /* at most 15 letters */
    void *at;         /* address of the pointer in struct rmodel */
    uint64_t n;       /* elements; 0: the model has no such array */
    uint32_t size;    /* bytes of one: 4 or 8 */
    char type;        /* 'f' floating point, 'u' unsigned */
    enum rcheck check;
};

enum { RFIELDS_MAX = 40 };
/* Fills `out`; returns how many. The sizes of m are set and small enough to multiply. */
unsigned rmodel_fields(struct rmodel *m, struct rfield out[RFIELDS_MAX]);
/* Are sizes such that no product of them overflows? */
bool rmodel_sizes_ok(const struct rmodel *m);

#endif
