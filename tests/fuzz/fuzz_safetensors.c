/* tests/fuzz/fuzz_safetensors.c - the safetensors header parser on any bytes. */
#include "engine/model/safetensors.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static volatile uint64_t sink;
    struct err err = ERR_INIT;
    struct safetensors *s = NULL;
    if (safetensors_parse((struct str){ (const char *)data, n }, n, &s, &err) == ST_OK)
        for (uint64_t i = 0; i < safetensors_n_tensor(s); i++)
            sink += safetensors_at(s, i)->offset + (uint64_t)safetensors_at(s, i)->name.p[0];
    safetensors_close(s);
    (void)sink; /* volatile: the reads above must happen */
    return 0;
}
