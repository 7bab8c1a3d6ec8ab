/* tests/unit/train/shards.h - small shards for tests. */
#ifndef STROBE_TESTS_UNIT_TRAIN_SHARDS_H
#define STROBE_TESTS_UNIT_TRAIN_SHARDS_H

#include "engine/train/data.h"

/* n_doc documents of the lengths in len; token i of the set is (first + i) % n_vocab, masked out
 * where i % 3 == 0. Fails the running test when it cannot be written. */
void shards_write(const char *path, uint32_t n_vocab, bool masked, const uint32_t *len,
                  uint32_t n_doc, int32_t first);
/* A learnable text: token i + 1 follows from token i, but for one in eight. */
void shards_text(const char *path, uint32_t n_vocab, uint32_t n_doc, uint32_t doc_tokens,
                 uint64_t seed);

#endif
