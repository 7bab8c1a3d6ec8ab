/* engine/flash/pack_internal.h - what pack.c (choices, inputs), pack_table.c (what the file holds),
 * pack_file.c (its bytes, whatever an earlier run left) and pack_data.c (contents of a tensor)
 * share. One thread. */
#ifndef STROBE_FLASH_PACK_INTERNAL_H
#define STROBE_FLASH_PACK_INTERNAL_H

#include "engine/base/buf.h"
#include "engine/flash/pack.h"
#include "engine/flash/predictor.h"

#include <stddef.h>

enum {
    PACK_ALIGN = 4096,       /* of tensors: what direct reads want at most */
    PACK_OUT_BYTES = 4 << 20 /* one write */
};

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
    const uint32_t *order;    /* [n_ff] row (of a vector: element) i is the source's order[i]; NULL:
                                 as there. DATA is in order already */
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

/* One run. */
struct pack {
    const struct model *m;
    const struct pack_opts *o;
    struct bundle b;
    struct pack_reader r;
    uint32_t n_fd;              /* of r.fd, -1: not open */
    struct pack_tensor *tensor; /* the last one: checksums of the others */
    uint32_t n_tensor;
    uint64_t data_bytes;
    struct buf head;
    char *target; /* the file that is made: the output, links followed */
    char *path;   /* of the partial file */
    int fd;
    uint8_t *out;
    size_t n_out;
    uint64_t sum, written;
    float *rate;     /* [n_layer, n_ff] or NULL */
    uint32_t *order; /* [n_layer, n_ff] or NULL: the neurons keep theirs */
    struct predictor pred;
    uint64_t mask_bytes;
    uint64_t *sums; /* of the tensors before the last, then the header's */
};

/* The new place of a layer's neurons, [n_ff]; NULL: they keep theirs. */
const uint32_t *pack_order(const struct pack *p, uint32_t layer);
/* The table of tensors, then the header that says it, so that both are known before any data.
 * Errors: ST_NOMEM. */
enum status pack_make_table(struct pack *p, struct err *err);
enum status pack_make_head(struct pack *p, struct err *err);
/* Writes p->path, from where an earlier run stopped, and renames it. Errors: ST_IO, those of
 * pack_data(). */
enum status pack_write(struct pack *p, struct pack_report *rep, struct err *err);

/* Errors: ST_IO, ST_FORMAT (truncated). */
enum status pack_read_at(const struct pack_reader *r, const struct tensor *t, uint64_t at,
                         void *dst, size_t n, struct err *err);

/* The rows of a matrix one after the other (pack_gather.c). */
struct pack_gather {
    const struct pack_reader *r;
    const struct tensor *t;
    const uint32_t *order; /* NULL: the file's */
    size_t row, read_cap;  /* bytes */
    uint32_t cap, from, n; /* rows that are there: from .. from + n - 1 */
    uint8_t *rows, *read;
    struct pack_want {
        uint32_t row, to;
    } * want;
};
/* Errors: ST_NOMEM; clear it all the same. */
enum status pack_gather_init(struct pack_gather *g, const struct pack_reader *r,
                             const struct tensor *t, const uint32_t *order, struct err *err);
void pack_gather_clear(struct pack_gather *g); /* a zeroed struct is fine */
/* *ret: row i of the result, valid until the next call. Errors: those of pack_read_at(). */
enum status pack_gather_row(struct pack_gather *g, uint32_t i, const uint8_t **ret,
                            struct err *err);

/* Produces the contents of one tensor. Errors: ST_IO, ST_FORMAT (truncated), ST_NOMEM, the sink's.
 */
enum status pack_data(const struct pack_reader *r, const struct bundle *b,
                      const struct pack_tensor *t, const struct pack_sink *sink, struct err *err);

#endif
