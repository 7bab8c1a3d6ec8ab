/* tests/unit/model/test_tokenizer_bad.c - vocabularies in GGUF whose arrays, ids or byte tokens are
 * wrong: a named error, or a defined meaning with a warning (model-formats.md 9).
 */
#include "engine/model/tokenizer.h"
#include "tests/support/gguf_write.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { N_TOKEN = 8, SPM_BYTE = 6 };

static char path[] = "/tmp/test_tokenizer_bad.XXXXXX";

static void make_file(void)
{
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
}

static void drop_file(void)
{
    unlink(path);
}

TestSuite(tokenizer_bad, .init = make_file, .fini = drop_file);

static const char *const spm_tokens[N_TOKEN] = { "<unk>", "<s>",    "</s>",   "a",
                                                 "b",     "<0x41>", "<0x4z>", "<0x041>" };
static const int32_t spm_types[N_TOKEN] = { 2, 3, 3, 1, 1, SPM_BYTE, SPM_BYTE, SPM_BYTE };
static const float scores[N_TOKEN] = { 0 };

static void put_tokens(struct gguf_writer *w, const char *kind, const char *const *token)
{
    struct str text[N_TOKEN];
    for (int i = 0; i < N_TOKEN; i++)
        text[i] = str_c(token[i]);
    gw_str(w, "tokenizer.ggml.model", kind);
    gw_strs(w, "tokenizer.ggml.tokens", text, N_TOKEN);
}

/* Saves, opens, loads; NULL with *err set where it is refused. */
static struct tokenizer *load(struct gguf_writer *w, struct err *err)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    cr_assert(gw_save(w, path));
    gw_clear(w);
    cr_assert_eq(gguf_open(path, &g, err), ST_OK, "%s", err->msg);
    enum status s = tokenizer_from_gguf(g, NULL, &t, err);
    cr_assert_eq(s == ST_OK, t != NULL);
    gguf_close(g);
    return t;
}

static void expect_ids(const struct tokenizer *t, const char *text, const int32_t *want, size_t n)
{
    struct tokens got = { 0 };
    struct err e = ERR_INIT;
    cr_assert_eq(tokenizer_encode(t, str_c(text), 0, &got, &e), ST_OK, "%s", e.msg);
    cr_assert_eq(got.n, n, "'%s': %zu tokens", text, got.n);
    for (size_t i = 0; i < n; i++)
        cr_expect_eq(got.id[i], want[i], "'%s', token %zu: %d", text, i, got.id[i]);
    tokens_clear(&got);
}

Test(tokenizer_bad, arrays_of_another_type_or_length)
{
    static const struct {
        const char *key;
        enum gguf_type type;
        uint64_t n;
        const char *want;
    } rows[] = {
        { "scores", GGUF_U32, N_TOKEN, "'tokenizer.ggml.scores' must be an array of floats" },
        { "scores", GGUF_F32, N_TOKEN - 1, "'tokenizer.ggml.scores' has 7 entries for 8 tokens" },
        { "scores", GGUF_F32, 0, "'tokenizer.ggml.scores'" },
        { "token_type", GGUF_F32, N_TOKEN,
          "'tokenizer.ggml.token_type' must be an array of integers" },
        { "token_type", GGUF_I32, N_TOKEN - 1,
          "'tokenizer.ggml.token_type' has 7 entries for 8 tokens" },
    };
    static const uint32_t zeros[N_TOKEN] = { 0 };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w;
        struct err e = ERR_INIT;
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s", rows[i].key);
        gw_init(&w);
        put_tokens(&w, "llama", spm_tokens);
        if (strcmp(rows[i].key, "scores") != 0)
            gw_array(&w, "tokenizer.ggml.scores", GGUF_F32, scores, N_TOKEN, sizeof scores);
        gw_array(&w, key, rows[i].type, zeros, rows[i].n, rows[i].n * sizeof zeros[0]);
        struct tokenizer *t = load(&w, &e);
        cr_expect_null(t);
        cr_expect(strstr(e.msg, rows[i].want), "row %zu: '%s'", i, e.msg);
        tokenizer_free(t);
    }
}

/* Only "<0xHH>" is a byte: "<0x4z>" and "<0x041>" stand for nothing, and their byte is unknown. */
Test(tokenizer_bad, a_byte_token_is_read_strictly)
{
    struct gguf_writer w;
    struct err e = ERR_INIT;
    gw_init(&w);
    put_tokens(&w, "llama", spm_tokens);
    gw_array(&w, "tokenizer.ggml.scores", GGUF_F32, scores, N_TOKEN, sizeof scores);
    gw_array(&w, "tokenizer.ggml.token_type", GGUF_I32, spm_types, N_TOKEN, sizeof spm_types);
    gw_bool(&w, "tokenizer.ggml.add_space_prefix", false);
    struct tokenizer *t = load(&w, &e);
    cr_assert_not_null(t, "%s", e.msg);
    expect_ids(t, "aAb", (int32_t[]){ 3, 5, 4 }, 3);
    expect_ids(t, "aJb", (int32_t[]){ 3, 0, 4 }, 3); /* 0x4A: "<0x4z>" is no byte */
    struct buf out = BUF_INIT;
    tokenizer_piece(t, 5, false, false, &out);
    cr_expect(out.n == 1 && out.p[0] == 'A');
    buf_clear(&out);
    tokenizer_free(t);
}

Test(tokenizer_bad, special_ids_past_the_vocabulary_are_none)
{
    static const struct {
        const char *key;
        uint32_t id;
    } rows[] = {
        { "bos", N_TOKEN }, { "eos", N_TOKEN }, { "bos", UINT32_MAX }, { "eos", 1u << 31 }
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w;
        struct err e = ERR_INIT;
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", rows[i].key);
        gw_init(&w);
        put_tokens(&w, "llama", spm_tokens);
        gw_array(&w, "tokenizer.ggml.scores", GGUF_F32, scores, N_TOKEN, sizeof scores);
        gw_u32(&w, key, rows[i].id);
        struct tokenizer *t = load(&w, &e);
        cr_assert_not_null(t, "%s", e.msg);
        bool bos = rows[i].key[0] == 'b';
        cr_expect_eq(tokenizer_bos(t), bos ? -1 : 1);
        cr_expect_eq(tokenizer_eos(t), bos ? 2 : -1);
        cr_expect_not(tokenizer_is_eog(t, (int32_t)rows[i].id));
        tokenizer_free(t);
    }
}

Test(tokenizer_bad, merges_with_unknown_halves_are_dropped_and_said)
{
    static const char *const tokens[N_TOKEN] = { "a", "b", "c", "ab", "abc", "d", "e", "f" };
    struct str merges[] = { STR("a x"), STR("a b"), STR("nothing"), STR("ab c"),
                            STR("d e"), STR(" "),   STR("") };
    struct gguf_writer w;
    struct err e = ERR_INIT;
    gw_init(&w);
    put_tokens(&w, "gpt2", tokens);
    gw_str(&w, "tokenizer.ggml.pre", "gpt-2");
    gw_strs(&w, "tokenizer.ggml.merges", merges, sizeof merges / sizeof merges[0]);
    struct tokenizer *t = load(&w, &e);
    cr_assert_not_null(t, "%s", e.msg);
    cr_expect(strstr(tokenizer_warning(t), "5 of 7 merges name unknown tokens"), "%s",
              tokenizer_warning(t));
    expect_ids(t, "abcde", (int32_t[]){ 4, 5, 6 }, 3);
    tokenizer_free(t);
}
