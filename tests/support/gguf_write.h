/* tests/support/gguf_write.h - the product's GGUF writer, and files on disk. Owner: the test. */
#ifndef STROBE_TESTS_SUPPORT_GGUF_WRITE_H
#define STROBE_TESTS_SUPPORT_GGUF_WRITE_H

#include "engine/model/gguf_write.h"

bool gw_save(const struct gguf_writer *w, const char *path);
bool file_save(const char *path, struct str bytes);

#endif
