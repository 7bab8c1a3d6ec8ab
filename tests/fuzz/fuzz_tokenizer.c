/* tests/fuzz/fuzz_tokenizer.c - any bytes as a tokenizer.json; what loads encodes and decodes a few
 * texts, and every id that comes out is one of the vocabulary. */
#include "engine/model/tokenizer.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void both_ways(const struct tokenizer *t, struct str text)
{
    for (unsigned flags = 0; flags < 4; flags++) {
        struct tokens ids = { 0 };
        struct err err = ERR_INIT;
        struct buf out = BUF_INIT;
        if (tokenizer_encode(t, text, flags, &ids, &err) == ST_OK) {
            for (size_t i = 0; i < ids.n; i++)
                assert(ids.id[i] >= 0 && (uint32_t)ids.id[i] < tokenizer_n_vocab(t));
            tokenizer_decode(t, ids.id, ids.n, flags & TOK_SPECIAL, &out, &err);
        }
        tokens_clear(&ids);
        buf_clear(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct str config = { "{\"bos_token\":\"<s>\",\"add_bos_token\":true}", 40 };
    struct err err = ERR_INIT;
    struct tokenizer *t = NULL;
    if (tokenizer_from_json((struct str){ (const char *)data, n }, config, &t, &err) != ST_OK)
        return 0;
    both_ways(t,
              STR("Hello  w\xC3\xB6rld 123\n\t\xE2\x96\x81 <s></s>\xF0\x9F\x98\x80 \xFF\xC3 ab"));
    both_ways(t, (struct str){ (const char *)data, n < 200 ? n : 200 });
    tokenizer_free(t);
    return 0;
}
