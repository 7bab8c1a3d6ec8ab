/* tests/unit/model/test_fuzz_gguf.c - the fuzz target of GGUF over damaged seeds (G01, G45). */
#include "tests/support/data.h"
#include "tests/support/tiny_model.h"
#include "tests/unit/model/mutate.h"

#include <criterion/criterion.h>
#include <unistd.h>

Test(fuzz_gguf, a_damaged_header_never_breaks_the_parser, .timeout = 600)
{
    char path[] = "/tmp/test_fuzz_gguf.XXXXXX";
    int fd = mkstemp(path);
    size_t n;
    cr_assert(fd >= 0);
    close(fd);
    struct tiny_model t = tiny_model_default("llama");
    t.n_layer = 1;
    cr_assert(tiny_model_gguf(&t, path));
    char *bytes = data_read(path, &n);
    unlink(path);
    cr_assert_not_null(bytes);
    /* About 14 KB of header: metadata, 288 tokens, scores, types, tensor table. */
    mutate((const uint8_t *)bytes, n < 20000 ? n : 20000, n < 20000 ? n : 14000, 4000);
    free(bytes);
}

Test(fuzz_gguf, a_damaged_real_file_never_breaks_the_parser, .timeout = 600)
{
    char path[4096];
    size_t n;
    if (!data_path("models/stories260K/stories260K.gguf", path)) {
        data_skip("fuzz_gguf", "models/stories260K/stories260K.gguf");
        return;
    }
    char *bytes = data_read(path, &n);
    cr_assert_not_null(bytes);
    mutate((const uint8_t *)bytes, 24000, 4000, 2000);
    free(bytes);
}
