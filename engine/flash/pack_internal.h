/* engine/flash/pack_internal.h - what pack.c (table, file) and pack_data.c (contents) share. */
#ifndef STROBE_FLASH_PACK_INTERNAL_H
#define STROBE_FLASH_PACK_INTERNAL_H

#include "engine/flash/pack.h"

/* The last tensor of a packed file: I64, hash_chain() of each tensor before it, then of the header.
 */
#define PACK_SUMS "strobe.checksums"

enum pack_kind {
    PACK_COPY,   /* a tensor of the model, as it is or converted row by row */
    PACK_SKETCH, /* Q8_0 of the first matrix */
    PACK_NORM,   /* |w| of its rows, rounded up */
    PACK_ERR,    /* |w - sketch| of its rows, rounded up */
    PACK_BUNDLE,
    PACK_DATA /* bytes that are there already */
};

struct pack_tensor {
    char name[96];
    enum pack_kind kind;
    const struct tensor *src; /* COPY: itself; SKETCH, NORM, ERR: the first matrix */
    const void *data;         /* DATA */
    uint32_t layer;
    uint32_t type;          /* id in the file */
    enum dtype sketch_type; /* SKETCH, ERR */
    uint32_t n_dim;
    uint64_t ne[2], offset, bytes;
};

/* Bytes come out in order, in pieces of any size. */
struct pack_sink {
    enum status (*put)(void *ctx, const void *p, size_t n, struct err *err);
    void *ctx;
};

struct pack_reader {
    const struct model *m;
    int *fd; /* [model_n_file] */
};

/* Produces the contents of one tensor. Errors: ST_IO, ST_FORMAT (truncated), ST_NOMEM, the sink's.
 */
enum status pack_data(const struct pack_reader *r, const struct bundle *b,
                      const struct pack_tensor *t, const struct pack_sink *sink, struct err *err);

#endif
