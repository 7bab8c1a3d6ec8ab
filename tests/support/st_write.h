/* tests/support/st_write.h - writes safetensors files for tests. Owner: the test. */
#ifndef STROBE_TESTS_SUPPORT_ST_WRITE_H
#define STROBE_TESTS_SUPPORT_ST_WRITE_H

#include "engine/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct st_writer {
    struct buf head, data;
};

void sw_init(struct st_writer *w);
void sw_clear(struct st_writer *w);
/* shape: slowest dimension first. */
void sw_tensor(struct st_writer *w, const char *name, const char *dtype, uint32_t n_dim,
               const uint64_t *shape, const void *data, size_t bytes);
bool sw_save(struct st_writer *w, const char *path);
/* A file from a header text as it is (no checks) and n_data zero bytes. */
void st_bytes(const char *header, size_t n_data, struct buf *out);

#endif
