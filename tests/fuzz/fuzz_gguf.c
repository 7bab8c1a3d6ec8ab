/* tests/fuzz/fuzz_gguf.c - the GGUF parser on any bytes; what parses is walked through entirely. */
#include "engine/model/gguf.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t walk(const struct gguf *g)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        for (uint64_t k = 0; k < kv->n; k++) {
            if (kv->elem == GGUF_STRING)
                sum += kv->text[k].n ? (unsigned char)kv->text[k].p[kv->text[k].n - 1] : 0;
            else if (kv->elem == GGUF_F32 || kv->elem == GGUF_F64)
                sum += gguf_arr_f64(kv, k) > 0;
            else
                sum += (uint64_t)gguf_arr_i64(kv, k);
        }
    }
    for (uint64_t i = 0; i < gguf_n_tensor(g); i++)
        sum += gguf_tensor_at(g, i)->bytes;
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static volatile uint64_t sink;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    if (gguf_parse((struct str){ (const char *)data, n }, &g, &err) == ST_OK)
        sink += walk(g) + (gguf_find(g, "general.architecture") != NULL) +
                (gguf_tensor_find(g, "t") != NULL);
    gguf_close(g);
    (void)sink; /* volatile: the reads above must happen */
    return 0;
}
