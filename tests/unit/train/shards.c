/* tests/unit/train/shards.c - see shards.h. */
#include "tests/unit/train/shards.h"

#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static void finish(struct shard_writer *w)
{
    struct err err = ERR_INIT;
    cr_assert_eq(shard_finish(&w, &err), ST_OK, "%s", err.msg);
    cr_assert_null(w);
}

void shards_write(const char *path, uint32_t n_vocab, bool masked, const uint32_t *len,
                  uint32_t n_doc, int32_t first)
{
    struct err err = ERR_INIT;
    struct shard_writer *w;
    const unsigned char digest[32] = { 1, 2, 3 };
    uint64_t at = 0;
    cr_assert_eq(shard_create(path, n_vocab, masked, digest, &w, &err), ST_OK, "%s", err.msg);
    for (uint32_t d = 0; d < n_doc; d++) {
        int32_t *t = malloc(len[d] * sizeof *t);
        uint8_t *m = malloc(len[d]);
        for (uint32_t i = 0; i < len[d]; i++, at++) {
            t[i] = (int32_t)(((uint64_t)first + at) % n_vocab);
            m[i] = at % 3 != 0;
        }
        cr_assert_eq(shard_add(w, t, masked ? m : NULL, len[d], 2 * len[d], &err), ST_OK, "%s",
                     err.msg);
        free(t);
        free(m);
    }
    finish(w);
}

void shards_text(const char *path, uint32_t n_vocab, uint32_t n_doc, uint32_t doc_tokens,
                 uint64_t seed)
{
    struct err err = ERR_INIT;
    struct shard_writer *w;
    struct rng r = { seed };
    int32_t *t = malloc(doc_tokens * sizeof *t);
    cr_assert_eq(shard_create(path, n_vocab, false, NULL, &w, &err), ST_OK, "%s", err.msg);
    for (uint32_t d = 0; d < n_doc; d++) {
        for (uint32_t i = 0; i < doc_tokens; i++)
            t[i] = i == 0 || rng_below(&r, 8) == 0
                       ? (int32_t)rng_below(&r, n_vocab)
                       : (int32_t)(((uint32_t)t[i - 1] * 5 + 3) % n_vocab);
        cr_assert_eq(shard_add(w, t, NULL, doc_tokens, 3 * doc_tokens, &err), ST_OK, "%s", err.msg);
    }
    free(t);
    finish(w);
}
