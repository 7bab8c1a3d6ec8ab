/* tests/unit/train/test_textset.c - text files become the documents that they hold. */
#include "engine/train/data.h"
#include "engine/train/textset.h"
#include "tests/support/tmp.h"
#include "tests/unit/train/vocab.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char dir[FILE_PATH_MAX];
static struct vocab_open vocab;

static void set_up(void)
{
    cr_assert(tmp_make(dir));
}

static void tear_down(void)
{
    vocab_drop(&vocab);
    vocab = (struct vocab_open){ 0 };
    tmp_remove(dir);
}

TestSuite(textset, .init = set_up, .fini = tear_down);

static enum status make(const char *name, const char *text, size_t n, bool bos, struct err *err)
{
    vocab_drop(&vocab);
    vocab = (struct vocab_open){ 0 };
    vocab_write(tmp_path(dir, "vocab.gguf"), bos);
    vocab_load(tmp_path(dir, "vocab.gguf"), &vocab);
    cr_assert(tmp_write(tmp_path(dir, name), text, n));
    cr_assert_eq(file_remove_tree(tmp_path(dir, "set"), err), ST_OK);
    cr_assert_eq(file_make_dirs(tmp_path(dir, "set"), 0755, err), ST_OK);
    struct textset_opts o = { .text = tmp_path(dir, name),
                              .dir = tmp_path(dir, "set"),
                              .name = "t",
                              .tokenizer = vocab.t,
                              .digest = vocab.digest };
    return textset_make(&o, err);
}

/* All tokens of the set as text, "|" before each document but the first, "_" before tokens whose
 * loss does not count. */
static void show(struct buf *out)
{
    struct err err = ERR_INIT;
    struct data *d = NULL;
    cr_assert_eq(data_open(tmp_path(dir, "set"), true, &d, &err), ST_OK, "%s", err.msg);
    struct data_info in = data_info(d);
    size_t n = (size_t)in.n_token - 1;
    cr_expect_eq(memcmp(in.digest, vocab.digest, 32), 0);
    cr_expect_eq(in.n_vocab, VOCAB_N);
    if (n == 0) { /* no sequence to read */
        buf_z(out, "one token");
        data_close(d);
        return;
    }
    int32_t *token = calloc(n, 4), *target = calloc(n, 4), *doc = calloc(n, 4), at = 0;
    float *weight = calloc(n, sizeof *weight);
    struct data_order o = { .n_tok = (uint32_t)n, .n = 1 };
    cr_assert_eq(data_seq(d, &o, 0, token, target, weight, doc, &err), ST_OK, "%s", err.msg);
    for (size_t i = 0; i <= n; i++) {
        if (i < n && doc[i] != at)
            buf_char(out, '|');
        at = i < n ? doc[i] : at;
        if (i > 0 && weight[i - 1] == 0.0f)
            buf_char(out, '_');
        tokenizer_piece(vocab.t, i < n ? token[i] : target[n - 1], false, true, out);
    }
    free(token);
    free(target);
    free(doc);
    free(weight);
    data_close(d);
}

static void expect_set(const char *name, const char *text, bool bos, const char *want)
{
    struct err err = ERR_INIT;
    struct buf got = BUF_INIT;
    cr_assert_eq(make(name, text, strlen(text), bos, &err), ST_OK, "'%s': %s", text, err.msg);
    show(&got);
    cr_expect_str_eq(got.p, want, "'%s' became\n%s, not\n%s", text, got.p, want);
    buf_clear(&got);
}

Test(textset, documents_of_a_text_end_at_the_mark)
{
    expect_set("a.txt", "one", false, "one<|endoftext|>");
    expect_set("a.txt", "one\n", false, "one\n<|endoftext|>");
    expect_set("a.txt", "one<|endoftext|>two", false, "one<|endoftext|>|two<|endoftext|>");
    expect_set("a.txt", "one<|endoftext|>\ntwo\n<|endoftext|>\n", false,
               "one<|endoftext|>|two\n<|endoftext|>");
    expect_set("a.txt", "<|endoftext|><|endoftext|>\n\n \n<|endoftext|>x", false, "x<|endoftext|>");
    expect_set("a.txt", "a<|stop|>b", false, "a<|stop|>b<|endoftext|>");
    expect_set("a.txt", "one<|endoftext|>two", true,
               "<|bos|>one<|endoftext|>|<|bos|>two<|endoftext|>");
}

Test(textset, a_mark_is_found_wherever_reads_end)
{
    /* 256 KiB are read at a time: marks that lie across that border, and at the file's end. */
    enum { BORDER = 256 << 10 };
    char *text = malloc(2 * BORDER);
    for (int at = BORDER - 15; at <= BORDER + 2; at++) {
        struct err err = ERR_INIT;
        struct data *d = NULL;
        memset(text, 'a', 2 * BORDER);
        memcpy(text + at, "<|endoftext|>\nb", 15);
        cr_assert_eq(make("a.txt", text, (size_t)at + 15, false, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(data_open(tmp_path(dir, "set"), false, &d, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(data_info(d).n_doc, 2, "mark at %d", at);
        cr_expect_eq(data_info(d).n_token, (uint64_t)at + 3, "mark at %d: %lu", at,
                     data_info(d).n_token);
        cr_expect_eq(data_info(d).n_byte, (uint64_t)at + 1);
        data_close(d);
    }
    free(text);
}

Test(textset, long_documents_are_cut_without_losing_a_byte)
{
    struct err err = ERR_INIT;
    struct data *d = NULL;
    size_t n = (2 << 20) + 77777;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++) /* no line break at all, and characters of two bytes */
        text[i] = (char)(i % 2 ? 0xA4 : 0xC3);
    text[n - 1] = 'x';
    cr_assert_eq(make("a.txt", text, n, false, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(data_open(tmp_path(dir, "set"), true, &d, &err), ST_OK, "%s", err.msg);
    struct data_info in = data_info(d);
    cr_expect_eq(in.n_byte, n);
    cr_expect_eq(in.n_token, n + 1, "one token a byte and the mark: %lu", in.n_token);
    /* Pieces are about a mebibyte: the first two documents have two of them at most. */
    cr_expect(in.n_doc == 2 || in.n_doc == 3, "%lu", in.n_doc);
    data_close(d);
    free(text);
}

Test(textset, of_prompts_and_responses_only_the_latter_count)
{
    expect_set("a.jsonl", "{\"prompt\":\"ab\",\"response\":\"cd\"}\n", false, "a_bcd<|stop|>");
    expect_set("a.jsonl", "{\"text\":\"ab\"}\n{\"prompt\":\"c\",\"response\":\"d\"}", false,
               "ab<|endoftext|>|_cd<|stop|>");
    expect_set("a.jsonl", "\n{\"text\":\"a\",\"other\":[1]}\n  \n{\"text\":\"b\"}\n\n", true,
               "<|bos|>a<|endoftext|>|<|bos|>b<|endoftext|>");
    expect_set("a.jsonl", "{\"prompt\":\"a\",\"response\":\"b<|stop|>\"}\n", true,
               "<|bos|>_ab<|stop|>");
    expect_set("a.jsonl", "{\"text\":\"a<|endoftext|>\"}\n", false, "a<|endoftext|>");
}

Test(textset, lines_that_are_no_such_object_are_refused_by_number)
{
    static const char *const bad[] = { "{\"text\":\"a\"}\n{\"text\":",
                                       "{\"text\":\"a\"}\n[1]",
                                       "{\"text\":\"a\"}\n{\"prompt\":\"a\"}",
                                       "{\"text\":\"a\"}\n{\"response\":\"a\"}",
                                       "{\"text\":\"a\"}\n{\"text\":\"a\",\"prompt\":\"b\"}",
                                       "{\"text\":\"a\"}\n{\"text\":7}",
                                       "{\"text\":\"a\"}\n{}" };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = ERR_INIT;
        cr_expect_eq(make("a.jsonl", bad[i], strlen(bad[i]), false, &err), ST_FORMAT, "%s", bad[i]);
        cr_expect_not_null(strstr(err.msg, "line 2"), "%s: %s", bad[i], err.msg);
        cr_expect(!file_is_regular(tmp_path(dir, "set/t-00000.tok")));
    }
}

Test(textset, files_without_any_text_are_refused)
{
    static const char *const bad[] = { "", " \n\t\n", "<|endoftext|>\n<|endoftext|>" };
    for (unsigned i = 0; i < 3; i++) {
        struct err err = ERR_INIT;
        cr_expect_eq(make("a.txt", bad[i], strlen(bad[i]), false, &err), ST_ARG, "case %u", i);
        cr_expect_not_null(strstr(err.msg, "a.txt"), "%s", err.msg);
    }
    struct err err = ERR_INIT;
    cr_expect_eq(make("a.jsonl", "\n\n", 2, false, &err), ST_ARG);
}

static bool stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
    *(uint64_t *)ctx = total;
    return done == 0;
}

Test(textset, tokenizing_can_be_stopped)
{
    struct err err = ERR_INIT;
    uint64_t total = 0;
    cr_assert_eq(make("a.txt", "abc", 3, false, &err), ST_OK);
    struct textset_opts o = { .text = tmp_path(dir, "a.txt"),
                              .dir = tmp_path(dir, "set"),
                              .name = "u",
                              .tokenizer = vocab.t,
                              .digest = vocab.digest,
                              .progress = stop_at_once,
                              .ctx = &total };
    cr_expect_eq(textset_make(&o, &err), ST_CANCELLED);
    cr_expect_eq(total, 3);
    cr_expect(!file_is_regular(tmp_path(dir, "set/u-00000.tok")));
}

Test(textset, names_decide_what_is_text)
{
    cr_expect(textset_is_text("a/b.txt"));
    cr_expect(textset_is_text("b.jsonl"));
    cr_expect(!textset_is_text("b.tok"));
    cr_expect(!textset_is_text("folder"));
    vocab_write(tmp_path(dir, "v"), false);
    vocab_load(tmp_path(dir, "v"), &vocab);
}

Test(textset, tokenizers_that_differ_have_different_digests)
{
    unsigned char first[32];
    vocab_write(tmp_path(dir, "v"), false);
    vocab_load(tmp_path(dir, "v"), &vocab);
    memcpy(first, vocab.digest, 32);
    vocab_drop(&vocab);
    vocab_write(tmp_path(dir, "v"), true);
    vocab_load(tmp_path(dir, "v"), &vocab);
    cr_expect_neq(memcmp(first, vocab.digest, 32), 0, "BOS makes other ids");
    vocab_drop(&vocab);
    vocab_write(tmp_path(dir, "w"), true);
    memcpy(first, vocab.digest, 32);
    vocab_load(tmp_path(dir, "w"), &vocab);
    cr_expect_eq(memcmp(first, vocab.digest, 32), 0);
}
