/* tests/unit/model/test_gguf.c - containers: real files, the worked example, truncation. */
#include "engine/model/gguf_write.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The worked example of the format notes (1.6): one pair, one F32 tensor t = {1, -2}. */
static const unsigned char example[160] =
    "GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0general.architecture"
    "\x08\0\0\0\x04\0\0\0\0\0\0\0gpt2\x01\0\0\0\0\0\0\0t\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0"
    "\0\0\0\0\0\0\0\0"
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\xc0";

/* Opens bytes as a file: only that way are tensor ranges compared with the file's end. */
static enum status open_bytes(const void *bytes, size_t n, struct gguf **g, struct err *err)
{
    char path[] = "/tmp/test_gguf.XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    FILE *f = fdopen(fd, "wb");
    cr_assert(f && fwrite(bytes, 1, n, f) == n);
    fclose(f);
    enum status st = gguf_open(path, g, err);
    remove(path);
    return st;
}

Test(gguf, the_worked_example_opens)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    cr_assert_eq(open_bytes(example, sizeof example, &g, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(gguf_n_kv(g), 1);
    struct str arch = STR("");
    cr_assert_eq(gguf_get_str(g, "general.architecture", true, &arch, &err), ST_OK);
    cr_assert(str_is(arch, "gpt2"));
    const struct gguf_tensor *t = gguf_tensor_find(g, "t");
    cr_assert_not_null(t);
    cr_expect_eq(t->offset, 128);
    cr_expect_eq(t->bytes, 8);
    cr_expect_eq(t->ne[0], 2);
    cr_expect_null(gguf_tensor_find(g, "tt"));
    cr_expect_null(gguf_find(g, "general"));
    gguf_close(g);
}

Test(gguf, every_truncation_of_the_worked_example_is_refused)
{
    for (size_t n = 0; n < 136; n++) { /* 136: the data ends, only padding follows */
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        cr_expect_eq(open_bytes(example, n, &g, &err), ST_FORMAT, "%zu bytes: %s", n, err.msg);
        cr_expect(strstr(err.msg, "truncated"), "%zu bytes: %s", n, err.msg);
        cr_expect_null(g);
    }
}

/* Every pair of a file, written to another, is the same pair. */
Test(gguf, pairs_are_copied_whatever_their_type)
{
    static const uint16_t small[3] = { 1, 2, 65535 };
    static const double wide[2] = { 0.1, -7 };
    const struct str names[3] = { STR("a"), STR(""), STR("long enough to be one") };
    struct gguf_writer w, v;
    struct buf bytes = BUF_INIT, again = BUF_INIT;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    gw_init(&w);
    gw_init(&v);
    gw_u32(&w, "u32", 7);
    gw_u64(&w, "u64", UINT64_MAX);
    gw_f32(&w, "f32", 0.5f);
    gw_bool(&w, "yes", true);
    gw_str(&w, "text", "some");
    gw_str(&w, "empty", "");
    gw_array(&w, "u16s", GGUF_U16, small, 3, sizeof small);
    gw_array(&w, "f64s", GGUF_F64, wide, 2, sizeof wide);
    gw_array(&w, "none", GGUF_I32, NULL, 0, 0);
    gw_strs(&w, "names", names, 3);
    gw_strs(&w, "no_names", names, 0);
    gw_bytes(&w, &bytes);
    cr_assert_eq(gguf_parse(buf_view(&bytes), &g, &err), ST_OK, "%s", err.msg);
    for (uint64_t i = 0; i < gguf_n_kv(g); i++)
        gw_kv(&v, gguf_kv_at(g, i));
    gw_bytes(&v, &again);
    cr_expect(str_eq(buf_view(&again), buf_view(&bytes)));
    gguf_close(g);
    gw_clear(&w);
    gw_clear(&v);
    buf_clear(&bytes);
    buf_clear(&again);
}

Test(gguf, real_files_open)
{
    static const struct {
        const char *rel;
        uint64_t n_tensor;
    } files[] = {
        { "models/stories260K/stories260K.gguf", 48 },
        { "models/stories260K/stories260K.F16.gguf", 48 },
        { "models/stories260K/stories260K.BF16.gguf", 48 },
        { "models/stories260K/stories260K.Q4_K_M.gguf", 48 },
        { "models/llama2xs-512/llama2xs-512.Q4_0.gguf", 0 },
        { "models/llama2xs-512/llama2xs-512.Q5_1.gguf", 0 },
        { "vocab-gguf/ggml-vocab-falcon.gguf", 0 },
        { "vocab-gguf/ggml-vocab-falcon.v2.gguf", 0 },
        { "vocab-gguf/ggml-vocab-gpt-2.gguf", 0 },
        { "vocab-gguf/ggml-vocab-llama-spm.gguf", 0 },
        { "vocab-gguf/ggml-vocab-phi-3.gguf", 0 },
        { "vocab-gguf/ggml-vocab-starcoder.gguf", 0 },
        { "models/containers/empty.gguf", 0 },
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[4096];
        if (!data_path(files[i].rel, path)) {
            data_skip("real_files_open", files[i].rel);
            continue;
        }
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        cr_expect_eq(gguf_open(path, &g, &err), ST_OK, "%s", err.msg);
        if (g && files[i].n_tensor)
            cr_expect_eq(gguf_n_tensor(g), files[i].n_tensor, "%s: %llu tensors", files[i].rel,
                         (unsigned long long)gguf_n_tensor(g));
        gguf_close(g);
    }
}
