/* tests/unit/model/test_safetensors.c - one row per rule of the safetensors section and of
 * reliability.md 3B, and config.json's. */
#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "tests/support/data.h"
#include "tests/support/gguf_write.h"
#include "tests/support/st_write.h"
#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/test_st.XXXXXX";

static const char *at(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void make_dir(void)
{
    cr_assert_not_null(mkdtemp(dir));
}

static void drop_dir(void)
{
    static const char *const names[] = {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "a.safetensors",
        "b.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(at(names[i]));
    rmdir(dir);
}

TestSuite(safetensors, .init = make_dir, .fini = drop_dir);

#define ENTRY(dtype, shape, range)                                                                 \
    "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" range "}}"

Test(safetensors, headers_that_break_a_rule_are_refused_with_the_reason)
{
    static const struct {
        const char *header;
        size_t n_data;
        const char *text; /* NULL: accepted */
    } rows[] = {
        { ENTRY("\"F32\"", "[2]", "[0,8]"), 8, NULL },
        { ENTRY("\"F32\"", "[2]", "[0,8]") "   ", 8, NULL },
        { ENTRY("\"F32\"", "[]", "[0,4]"), 4, NULL },
        { ENTRY("\"F32\"", "[0,7]", "[0,0]"), 0, NULL },
        { ENTRY("\"F8_E4M3\"", "[3]", "[0,3]"), 3, NULL },
        { "{\"__metadata__\":{\"a\":\"b\"}}", 0, NULL },
        { "{}", 0, NULL },
        { "", 0, "does not begin with '{'" },
        { " {}", 0, "does not begin with '{'" },
        { "[1]", 0, "does not begin with '{'" },
        { "{\"t\":", 0, "invalid JSON" },
        { "{\"t\xff\":1}", 0, "invalid JSON" },
        { "{\"t\":3}", 0, "not an object" },
        { "{\"\":{}}", 0, "name has 0 bytes" },
        { "{\"__metadata__\":{\"a\":1}}", 0, "not a string" },
        { "{\"__metadata__\":7}", 0, "__metadata__ is not an object" },
        { "{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
          8, "duplicate" },
        { ENTRY("\"f32\"", "[2]", "[0,8]"), 8, "dtype 'f32' is unknown" },
        { ENTRY("\"F4\"", "[2]", "[0,1]"), 1, "dtype 'F4' is unknown" },
        { ENTRY("3", "[2]", "[0,8]"), 8, "'dtype' must be a string" },
        { ENTRY("\"F32\"", "[-2]", "[0,8]"), 8, "not a count" },
        { ENTRY("\"F32\"", "[2.0]", "[0,8]"), 8, "not a count" },
        { ENTRY("\"F32\"", "[\"2\"]", "[0,8]"), 8, "not a count" },
        { ENTRY("\"F32\"", "[9007199254740993]", "[0,8]"), 8, "not a count" },
        { ENTRY("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8, "overflows" },
        { ENTRY("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "at most 8" },
        { ENTRY("\"F32\"", "2", "[0,8]"), 8, "shape must be an array" },
        { ENTRY("\"F32\"", "[2]", "[8,0]"), 8, "reversed" },
        { ENTRY("\"F32\"", "[2]", "[-8,0]"), 8, "two byte offsets" },
        { ENTRY("\"F32\"", "[2]", "[0,4,8]"), 8, "two byte offsets" },
        { ENTRY("\"F32\"", "[2]", "[0.0,8.0]"), 8, "two byte offsets" },
        { ENTRY("\"F32\"", "[2]", "[0,8]"), 4, "truncated: tensor 't'" },
        { ENTRY("\"F32\"", "[2]", "[0,4]"), 4, "its shape needs 8" },
        { ENTRY("\"F32\"", "[2]", "[4,12]"), 12, "leaves a hole" },
        { ENTRY("\"F32\"", "[2]", "[0,8]"), 24, "cover 8 bytes of a buffer of 24" },
        { "{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
          "\"u\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
          12, "overlaps another" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b = BUF_INIT;
        struct err err = ERR_INIT;
        struct safetensors *s = NULL;
        st_bytes(rows[i].header, rows[i].n_data, &b);
        enum status st = safetensors_parse(buf_view(&b), b.n, &s, &err);
        cr_expect((st == ST_OK) == (rows[i].text == NULL), "%s: %s", rows[i].header, err.msg);
        if (rows[i].text)
            cr_expect(strstr(err.msg, rows[i].text), "%s: expected '%s' in: %s", rows[i].header,
                      rows[i].text, err.msg);
        safetensors_close(s);
        buf_clear(&b);
    }
}

Test(safetensors, header_lengths_are_compared_with_the_file)
{
    static const struct {
        uint64_t len, size;
        const char *text;
    } rows[] = { { 0, 8, "does not begin" },      { 1, 8, "truncated" },
                 { UINT64_MAX, 99, "truncated" }, { UINT64_C(1) << 63, 99, "truncated" },
                 { 92, 99, "truncated" },         { 1 << 24, 1 << 30, "limit" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = ERR_INIT;
        struct safetensors *s = NULL;
        char p[8];
        memcpy(p, &rows[i].len, 8);
        cr_expect_eq(safetensors_parse((struct str){ p, 8 }, rows[i].size, &s, &err), ST_FORMAT);
        cr_expect(strstr(err.msg, rows[i].text), "%s", err.msg);
    }
    for (size_t n = 0; n < 8; n++) {
        struct err err = ERR_INIT;
        struct safetensors *s = NULL;
        cr_expect_eq(safetensors_parse((struct str){ "1234567", n }, n, &s, &err), ST_FORMAT);
    }
}

static void expect_index(const char *index, enum status want, const char *text)
{
    struct err err = ERR_INIT;
    struct safetensors *s = NULL;
    cr_assert(file_save(at("model.safetensors.index.json"), str_c(index)));
    cr_expect_eq(safetensors_open(dir, &s, &err), want, "%s: %s", index, err.msg);
    cr_expect(strstr(err.msg, text), "%s: %s", index, err.msg);
    safetensors_close(s);
}

Test(safetensors, index_files_must_name_shards_beside_them)
{
    float v[2] = { 1, 2 };
    uint64_t shape[1] = { 2 };
    for (int i = 0; i < 2; i++) {
        struct st_writer w;
        sw_init(&w);
        sw_tensor(&w, i ? "y" : "x", "F32", 1, shape, v, sizeof v);
        cr_assert(sw_save(&w, at(i ? "b.safetensors" : "a.safetensors")));
        sw_clear(&w);
    }
    expect_index("{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}", ST_OK, "");
    expect_index("{\"weight_map\":{\"x\":\"../a.safetensors\"}}", ST_FORMAT, "../a.safetensors");
    expect_index("{\"weight_map\":{\"x\":\"/etc/passwd\"}}", ST_FORMAT, "/etc/passwd");
    expect_index("{\"weight_map\":{\"x\":\"a.bin\"}}", ST_FORMAT, "a.bin");
    expect_index("{\"weight_map\":{\"x\":3}}", ST_FORMAT, "not a string");
    expect_index("{\"weight_map\":{\"x\":\"c.safetensors\"}}", ST_NOTFOUND, "c.safetensors");
    expect_index("{\"weight_map\":{\"z\":\"a.safetensors\"}}", ST_FORMAT, "promises tensor 'z'");
    expect_index("{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"a.safetensors\"}}", ST_FORMAT,
                 "'y'");
    expect_index("{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"b.safetensors\"}}", ST_FORMAT,
                 "");
    expect_index("{}", ST_FORMAT, "weight_map");
    expect_index("[", ST_FORMAT, "invalid JSON");
    struct err err = ERR_INIT;
    struct safetensors *s = NULL;
    unlink(at("model.safetensors.index.json"));
    cr_expect_eq(safetensors_open(dir, &s, &err), ST_NOTFOUND);
    cr_assert(file_save(at("pytorch_model.bin"), STR("x")));
    err_clear(&err);
    cr_expect_eq(safetensors_open(dir, &s, &err), ST_UNSUPPORTED);
    cr_expect(strstr(err.msg, "pickles"), "%s", err.msg);
}

/* Replaces `from` by `to` in a tiny folder's config.json. */
static void expect_config(const char *arch, const char *from, const char *to, enum status want,
                          const char *text)
{
    struct tiny_model t = tiny_model_default(arch);
    struct err err = ERR_INIT;
    struct model *m = NULL;
    struct buf b = BUF_INIT;
    size_t n;
    cr_assert(tiny_model_folder(&t, dir));
    char *config = data_read(at("config.json"), &n);
    size_t where = str_find((struct str){ config, n }, str_c(from), 0);
    cr_assert_neq(where, SIZE_MAX, "%s", from);
    buf_put(&b, config, where);
    buf_z(&b, to);
    buf_z(&b, config + where + strlen(from));
    cr_assert(file_save(at("config.json"), buf_view(&b)));
    cr_expect_eq(model_open(dir, NULL, &m, &err), want, "%s: %s", to, err.msg);
    cr_expect(strstr(err.msg, text), "%s: expected '%s' in: %s", to, text, err.msg);
    model_close(m);
    buf_clear(&b);
    free(config);
}

Test(safetensors, configurations_that_cannot_be_served_are_refused_by_name)
{
    static const struct {
        const char *arch, *from, *to;
        enum status want;
        const char *text;
    } rows[] = {
        { "llama", "\"model_type\":\"llama\"", "\"model_type\":\"qwen3_next\"", ST_UNSUPPORTED,
          "hybrid" },
        { "llama", "\"model_type\":\"llama\"", "\"model_type\":\"zzz\"", ST_UNSUPPORTED,
          "supported: llama" },
        { "llama", "\"model_type\":\"llama\",", "", ST_FORMAT, "'model_type' is missing" },
        { "llama", "{", "{\"num_local_experts\":8,", ST_UNSUPPORTED, "experts" },
        { "llama", "{", "{\"quantization_config\":{},", ST_UNSUPPORTED, "pre-quantised" },
        { "llama", "\"hidden_size\":64", "\"hidden_size\":\"64\"", ST_FORMAT, "'hidden_size'" },
        { "llama", "\"hidden_size\":64", "\"hidden_size\":0", ST_FORMAT, "embedding_length" },
        { "llama", "\"hidden_size\":64", "\"hidden_size\":60", ST_FORMAT, "expected shape" },
        { "llama", "\"num_hidden_layers\":2", "\"num_hidden_layers\":3", ST_FORMAT,
          "model.layers.2." },
        { "llama", "\"num_attention_heads\":4", "\"num_attention_heads\":0", ST_FORMAT, "heads" },
        { "llama", "\"num_key_value_heads\":2", "\"num_key_value_heads\":3", ST_FORMAT,
          "cannot share" },
        { "llama", "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":0", ST_FORMAT, "epsilon" },
        { "llama", "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":1e400", ST_FORMAT, "" },
        { "llama", "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":NaN", ST_FORMAT, "invalid JSON" },
        { "llama", "\"silu\"", "\"tanh\"", ST_UNSUPPORTED,
          "activation 'tanh' (from the config.json" },
        { "llama", "{", "{\"rope_scaling\":{\"type\":\"magic\"},", ST_UNSUPPORTED, "'magic'" },
        { "llama", "{", "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0},", ST_FORMAT,
          "factor" },
        { "llama", "\"tie_word_embeddings\":false", "\"tie_word_embeddings\":true", ST_OK, "" },
        { "opt", "\"do_layer_norm_before\":true", "\"do_layer_norm_before\":false", ST_UNSUPPORTED,
          "350M" },
        { "opt", "\"word_embed_proj_dim\":64", "\"word_embed_proj_dim\":32", ST_UNSUPPORTED,
          "350M" },
        { "falcon", "\"alibi\":false", "\"alibi\":true", ST_UNSUPPORTED, "ALiBi" },
        { "falcon", "\"parallel_attn\":true", "\"parallel_attn\":false", ST_UNSUPPORTED,
          "sequential" },
        { "gpt2", "\"n_head\":4", "\"n_head\":5", ST_FORMAT, "not divisible" },
        { "gemma2", "\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false", ST_FORMAT,
          "'lm_head.weight' is missing" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_config(rows[i].arch, rows[i].from, rows[i].to, rows[i].want, rows[i].text);
    struct err err = ERR_INIT;
    struct model *m = NULL;
    unlink(at("config.json"));
    cr_expect_eq(model_open(dir, NULL, &m, &err), ST_NOTFOUND);
    cr_expect(strstr(err.msg, "config.json"), "%s", err.msg);
}

Test(safetensors, llama3_scaling_is_computed_from_the_configuration)
{
    struct tiny_model t = tiny_model_default("llama");
    struct err err = ERR_INIT;
    struct model *m = NULL;
    size_t n;
    cr_assert(tiny_model_folder(&t, dir));
    char *config = data_read(at("config.json"), &n);
    struct buf b = BUF_INIT;
    buf_z(&b, "{\"rope_theta\":10000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
              "\"low_freq_factor\":1,\"high_freq_factor\":4,"
              "\"original_max_position_embeddings\":64},");
    buf_z(&b, config + 1);
    cr_assert(file_save(at("config.json"), buf_view(&b)));
    cr_assert_eq(model_open(dir, NULL, &m, &err), ST_OK, "%s", err.msg);
    uint32_t n_factor;
    const float *f = model_rope_factors(m, TR_ROPE_FREQS, &n_factor);
    cr_assert_eq(n_factor, 8);
    /* Wavelengths 2 pi 10^(i/2): 6.3 (below 64/4), 19.9 (between), 62.8 (between), 198 (above 64).
     */
    cr_expect_eq(f[0], 1.0f);
    double mix = (64 / 19.869176531592203 - 1) / 3;
    cr_expect_float_eq(f[1], (float)(1 / ((1 - mix) / 8 + mix)), 1e-5f);
    cr_expect_eq(f[3], 8.0f);
    cr_expect_eq(f[7], 8.0f);
    cr_expect_null(model_rope_factors(m, TR_ROPE_LONG, &n_factor));
    model_close(m);
    buf_clear(&b);
    free(config);
}

Test(safetensors, real_files_with_misaligned_data_open)
{
    static const char *const files[] = { "models/containers/tiny.safetensors",
                                         "models/containers/recall_weights.safetensors" };
    for (size_t i = 0; i < 2; i++) {
        char path[4096];
        size_t n;
        struct err err = ERR_INIT;
        struct safetensors *s = NULL;
        if (!data_path(files[i], path)) {
            data_skip("safetensors", files[i]);
            continue;
        }
        char *p = data_read(path, &n);
        cr_expect_eq(safetensors_parse((struct str){ p, n }, n, &s, &err), ST_OK, "%s", err.msg);
        cr_expect_gt(safetensors_n_tensor(s), 0);
        safetensors_close(s);
        free(p);
    }
}
