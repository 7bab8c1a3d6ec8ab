/* engine/flash/verify.h - checks every byte of a packed file that means something against the
 * checksums it carries (`strobe pack` writes them): the header first, since it says where the rest
 * lies, then tensor by tensor. Streams; memory is a few read buffers. Reads only. Owner: one
 * thread. */
#ifndef STROBE_FLASH_VERIFY_H
#define STROBE_FLASH_VERIFY_H

#include "engine/base/err.h"
#include "engine/io/source.h"

#include <stdint.h>

struct verify_opts {
    enum source_kind source;
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total); /* may be NULL */
    void *ctx;
};

struct verify_report {
    uint64_t bytes, n_tensor; /* that were compared, the header's bytes with them */
};

/* Errors: ST_FORMAT naming the first tensor (or the header) that differs; ST_UNSUPPORTED: the file
 * carries no checksums; those of gguf_open() and source_open(); ST_NOMEM. */
enum status verify_run(const char *path, const struct verify_opts *o, struct verify_report *ret,
                       struct err *err);

#endif
