/* tests/unit/model/test_fuzz_safetensors.c - the fuzz target of safetensors over damaged seeds. */
#include "tests/support/data.h"
#include "tests/support/st_write.h"
#include "tests/unit/model/mutate.h"

#include <criterion/criterion.h>

Test(fuzz_safetensors, a_damaged_header_never_breaks_the_parser, .timeout = 600)
{
    struct buf b = BUF_INIT;
    st_bytes("{\"__metadata__\":{\"a\":\"b\"},\"x\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_"
             "offsets\":[0,24]},"
             "\"y\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]}}",
             26, &b);
    mutate((const uint8_t *)b.p, b.n, b.n, 20000);
    buf_clear(&b);
}

Test(fuzz_safetensors, a_damaged_real_file_never_breaks_the_parser, .timeout = 600)
{
    char path[4096];
    size_t n;
    if (!data_path("models/containers/tiny.safetensors", path)) {
        data_skip("fuzz_safetensors", "models/containers/tiny.safetensors");
        return;
    }
    char *bytes = data_read(path, &n);
    cr_assert_not_null(bytes);
    mutate((const uint8_t *)bytes, n, 100, 2000);
    free(bytes);
}
