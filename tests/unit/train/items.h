/* tests/unit/train/items.h - making corpus items in tests. */
#ifndef STROBE_TESTS_TRAIN_ITEMS_H
#define STROBE_TESTS_TRAIN_ITEMS_H

#include "engine/train/corpus.h"

#include <stdint.h>

/* Fails the running test when the item cannot be made. */
void item_make(const struct corpus_opts *o, enum corpus_kind kind, uint64_t i,
               struct corpus_item *it);
struct corpus_opts item_opts(enum corpus_split split, uint64_t seed);
static inline const char *item_text(const struct buf *b)
{
    return buf_view(b).p;
}

/* A growing set of 64-bit keys; sort before looking up. */
struct keys {
    uint64_t *at;
    size_t n, cap;
};
void keys_add(struct keys *k, uint64_t key);
void keys_sort(struct keys *k); /* sorts and drops what is twice */
/* Keys that are in both (both sorted). */
size_t keys_common(const struct keys *a, const struct keys *b);
bool keys_have(const struct keys *k, uint64_t key);
void keys_clear(struct keys *k);

/* Calls fn for each run of letters (bytes over 127 count as letters). */
void words_each(struct str text, void (*fn)(void *ctx, struct str word), void *ctx);

#endif
