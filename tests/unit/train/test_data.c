/* tests/unit/train/test_data.c - token shards: what is written is read, every sequence once per
 * epoch, and no file that is not whole is believed. */
#include "engine/base/hash.h"
#include "tests/support/tmp.h"
#include "tests/unit/train/shards.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[FILE_PATH_MAX];

static void make_dir(void)
{
    cr_assert(tmp_make(dir));
}

static void remove_dir(void)
{
    tmp_remove(dir);
}

TestSuite(data, .init = make_dir, .fini = remove_dir);

static struct data *open_data(const char *path)
{
    struct err err = ERR_INIT;
    struct data *d = NULL;
    cr_assert_eq(data_open(path, true, &d, &err), ST_OK, "%s", err.msg);
    return d;
}

struct seq {
    int32_t token[64], target[64], doc[64];
    float weight[64];
};

static void get(const struct data *d, uint32_t n_tok, uint64_t seq, struct seq *s)
{
    struct err err = ERR_INIT;
    struct data_order o = { .n_tok = n_tok, .n = data_n_seq(d, n_tok) };
    cr_assert_eq(data_seq(d, &o, seq, s->token, s->target, s->weight, s->doc, &err), ST_OK, "%s",
                 err.msg);
}

/* All sequences of a set against what shards_write() wrote. */
static void expect_content(const struct data *d, uint32_t n_tok, uint32_t n_vocab, bool masked,
                           const uint32_t *len, uint32_t n_doc)
{
    struct seq s;
    for (uint64_t q = 0; q < data_n_seq(d, n_tok); q++) {
        get(d, n_tok, q, &s);
        uint64_t start = q * n_tok, doc = 0, doc_end = len[0];
        while (doc_end <= start)
            doc_end += len[++doc];
        uint64_t first_doc = doc;
        for (uint32_t i = 0; i < n_tok; i++) {
            uint64_t at = start + i;
            while (doc_end <= at && doc + 1 < n_doc)
                doc_end += len[++doc];
            cr_assert_eq(s.token[i], (int32_t)(at % n_vocab), "sequence %lu, token %u", q, i);
            cr_assert_eq(s.target[i], (int32_t)((at + 1) % n_vocab), "sequence %lu, target %u", q,
                         i);
            cr_assert_eq(s.doc[i], (int32_t)(doc - first_doc), "sequence %lu, token %u: %d", q, i,
                         s.doc[i]);
            cr_assert_eq(s.weight[i], !masked || (at + 1) % 3 != 0 ? 1.0f : 0.0f,
                         "sequence %lu, weight %u", q, i);
        }
    }
}

Test(data, what_is_written_is_read_for_both_widths_and_with_a_mask)
{
    const uint32_t len[] = { 1, 7, 30, 2, 61, 5 };
    const uint32_t vocab[] = { 11, 65536, 65537 };
    for (int v = 0; v < 3; v++)
        for (int masked = 0; masked < 2; masked++) {
            shards_write(tmp_path(dir, "a.tok"), vocab[v], masked, len, 6, 0);
            struct data *d = open_data(tmp_path(dir, "a.tok"));
            struct data_info in = data_info(d);
            cr_expect_eq(in.n_token, 106);
            cr_expect_eq(in.n_doc, 6);
            cr_expect_eq(in.n_byte, 212);
            cr_expect_eq(in.n_vocab, vocab[v]);
            cr_expect_eq(in.masked, masked);
            cr_expect_eq(in.digest[2], 3);
            for (uint32_t n_tok = 1; n_tok <= 64; n_tok++) {
                cr_expect_eq(data_n_seq(d, n_tok), 105 / n_tok);
                expect_content(d, n_tok, vocab[v], masked, len, 6);
            }
            data_close(d);
        }
}

Test(data, shards_of_a_folder_are_one_run_of_tokens)
{
    const uint32_t len[] = { 5, 1, 1, 9, 3, 20, 4, 30 };
    uint32_t at = 0;
    for (uint32_t i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "set-%05u.tok", i);
        shards_write(tmp_path(dir, name), 97, false, &len[i], 1, (int32_t)at);
        at += len[i];
    }
    cr_assert(tmp_write(tmp_path(dir, "set-00008.tok.tmp"), "x", 1)); /* not a shard */
    struct data *d = open_data(dir);
    cr_expect_eq(data_info(d).n_token, 73);
    for (uint32_t n_tok = 1; n_tok <= 64; n_tok++)
        expect_content(d, n_tok, 97, false, len, 8);
    data_close(d);
}

Test(data, a_set_smaller_than_a_sequence_has_none)
{
    const uint32_t len = 8;
    shards_write(tmp_path(dir, "a.tok"), 11, false, &len, 1, 0);
    struct data *d = open_data(tmp_path(dir, "a.tok"));
    cr_expect_eq(data_n_seq(d, 7), 1);
    cr_expect_eq(data_n_seq(d, 8), 0);
    data_close(d);
}

Test(data, every_sequence_of_the_part_comes_once_per_epoch)
{
    static unsigned char seen[500];
    struct data_order o = { .seed = 42, .n_tok = 8, .shuffle = true };
    unsigned same = 0;
    for (o.n = 1; o.n < 200; o.n += 13)
        for (o.from = 0; o.from < 300; o.from += 299)
            for (uint64_t epoch = 0; epoch < 3; epoch++) {
                memset(seen, 0, sizeof seen);
                for (uint64_t i = 0; i < o.n; i++) {
                    uint64_t at = data_order_at(&o, epoch * o.n + i);
                    cr_assert(at >= o.from && at < o.from + o.n, "%lu", at);
                    cr_assert(!seen[at], "%lu comes twice in epoch %lu", at, epoch);
                    seen[at] = 1;
                    same += o.n > 100 && at == data_order_at(&o, i) && epoch > 0;
                }
            }
    /* Epochs have orders of their own: about one place in n is the same by chance. */
    cr_expect_lt(same, 60, "%u", same);
}

Test(data, without_shuffling_sequences_come_as_they_lie)
{
    struct data_order o = { .seed = 42, .n_tok = 8, .from = 7, .n = 5 };
    for (uint64_t i = 0; i < 20; i++)
        cr_expect_eq(data_order_at(&o, i), 7 + i % 5);
}

/* ---- writers that are used wrongly ---- */

Test(data, what_cannot_be_in_a_shard_is_refused_when_it_is_added)
{
    struct err err = ERR_INIT;
    struct shard_writer *w;
    const int32_t good[] = { 0, 10 }, high[] = { 11 }, low[] = { -1 };
    const uint8_t mask[] = { 1, 2 };
    cr_expect_eq(shard_create(tmp_path(dir, "a.tok"), 0, false, NULL, &w, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(shard_create(tmp_path(dir, "no/a.tok"), 11, false, NULL, &w, &err), ST_NOTFOUND);
    err_clear(&err);
    cr_assert_eq(shard_create(tmp_path(dir, "a.tok"), 11, true, NULL, &w, &err), ST_OK);
    cr_expect_eq(shard_add(w, high, NULL, 1, 1, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(shard_add(w, low, NULL, 1, 1, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(shard_add(w, good, mask, 2, 1, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(shard_add(w, good, NULL, 0, 1, &err), ST_ARG);
    err_clear(&err);
    cr_expect_eq(shard_n_token(w), 0);
    cr_expect_eq(shard_finish(&w, &err), ST_ARG);
    cr_expect_not_null(strstr(err.msg, "no document"), "%s", err.msg);
    cr_expect(!file_is_regular(tmp_path(dir, "a.tok")));
    cr_expect(!file_is_regular(tmp_path(dir, "a.tok.tmp")));
}

Test(data, an_abandoned_shard_leaves_the_old_one)
{
    struct err err = ERR_INIT;
    struct shard_writer *w;
    const uint32_t len = 20;
    const int32_t t[] = { 1, 2, 3 };
    shards_write(tmp_path(dir, "a.tok"), 11, false, &len, 1, 0);
    cr_assert_eq(shard_create(tmp_path(dir, "a.tok"), 11, false, NULL, &w, &err), ST_OK);
    cr_assert_eq(shard_add(w, t, NULL, 3, 3, &err), ST_OK);
    shard_abandon(w);
    cr_expect(!file_is_regular(tmp_path(dir, "a.tok.tmp")));
    struct data *d = open_data(tmp_path(dir, "a.tok"));
    cr_expect_eq(data_info(d).n_token, 20);
    data_close(d);
}

/* ---- files that are not whole ---- */

static void expect_refused(const char *bytes, size_t n, const char *what)
{
    struct err err = ERR_INIT;
    struct data *d = (struct data *)&err;
    cr_assert(tmp_write(tmp_path(dir, "bad.tok"), bytes, n));
    cr_assert_eq(data_open(tmp_path(dir, "bad.tok"), true, &d, &err), ST_FORMAT, "%s: %s", what,
                 err.msg);
    cr_assert_eq((void *)d, (void *)&err, "%s: the result was written", what);
    cr_assert_not_null(strstr(err.msg, "bad.tok"), "%s: %s", what, err.msg);
}

static char *sample(bool masked, size_t *n)
{
    const uint32_t len[] = { 3, 9, 4 };
    shards_write(tmp_path(dir, "good.tok"), 11, masked, len, 3, 0);
    char *p = tmp_read(tmp_path(dir, "good.tok"), n);
    cr_assert_not_null(p);
    return p;
}

Test(data, a_file_cut_at_any_byte_or_longer_than_it_says_is_refused)
{
    for (int masked = 0; masked < 2; masked++) {
        size_t n;
        char *p = sample(masked, &n);
        for (size_t cut = 0; cut < n; cut++)
            expect_refused(p, cut, "cut");
        char *longer = calloc(n + 8, 1);
        memcpy(longer, p, n);
        expect_refused(longer, n + 1, "longer");
        expect_refused(longer, n + 8, "longer");
        free(longer);
        free(p);
    }
}

Test(data, any_changed_byte_is_noticed)
{
    size_t n;
    char *p = sample(true, &n);
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit += 7) {
            p[i] = (char)(p[i] ^ 1 << bit);
            expect_refused(p, n, "changed");
            p[i] = (char)(p[i] ^ 1 << bit);
        }
    }
    free(p);
}

static void reseal(char *p, size_t n)
{
    uint64_t sum = hash_chain(0, p + 128, n - 128);
    memset(p + 40, 0, 8);
    sum = hash_chain(sum, p, 128);
    memcpy(p + 40, &sum, 8);
}

Test(data, header_fields_that_cannot_be_are_refused_whatever_the_checksum)
{
    static const struct {
        const char *what;
        unsigned at, bytes;
        uint64_t value;
    } cases[] = {
        { "magic", 0, 1, 'X' },
        { "header size", 8, 4, 127 },
        { "bytes per token 0", 12, 4, 0 },
        { "bytes per token 3", 12, 4, 3 },
        { "bytes per token 4", 12, 4, 4 },
        { "no tokens", 16, 8, 0 },
        { "2^63 tokens", 16, 8, UINT64_C(1) << 63 },
        { "2^64 - 1 tokens", 16, 8, UINT64_MAX },
        { "2^40 tokens", 16, 8, UINT64_C(1) << 40 },
        { "no documents", 24, 8, 0 },
        { "more documents than tokens", 24, 8, 17 },
        { "2^61 documents", 24, 8, UINT64_C(1) << 61 },
        { "no vocabulary", 32, 4, 0 },
        { "a vocabulary of 2^31", 32, 4, UINT64_C(1) << 31 },
        { "a vocabulary that 2 bytes do not hold", 32, 4, 65537 },
        { "an unknown flag", 36, 4, 2 },
        { "a mask that is not there", 36, 4, 1 },
        { "reserved bytes", 88, 1, 1 },
        { "reserved bytes", 127, 1, 1 },
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n;
        char *p = sample(false, &n);
        memcpy(p + cases[i].at, &cases[i].value, cases[i].bytes);
        reseal(p, n);
        expect_refused(p, n, cases[i].what);
        free(p);
    }
}

Test(data, document_starts_that_do_not_ascend_are_refused)
{
    /* 16 tokens of 2 bytes, then starts 0, 3, 12 */
    static const uint64_t bad[][3] = { { 1, 3, 12 }, { 0, 0, 12 }, { 0, 3, 3 },
                                       { 0, 12, 3 }, { 0, 3, 16 }, { 0, 3, UINT64_MAX } };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n;
        char *p = sample(false, &n);
        memcpy(p + 128 + 32, bad[i], 24);
        reseal(p, n);
        expect_refused(p, n, "starts");
        free(p);
    }
}

Test(data, tokens_and_masks_are_checked_when_they_are_given_out)
{
    static const size_t at[] = { 128 + 2 * 5, 128 + 32 + 24 + 5 };
    for (unsigned i = 0; i < 2; i++) {
        struct err err = ERR_INIT;
        struct data_order o = { .n_tok = 15, .n = 1 };
        struct seq s;
        size_t n;
        char *p = sample(true, &n);
        p[at[i]] = 77;
        reseal(p, n); /* a checksum proves nothing about who wrote it */
        cr_assert(tmp_write(tmp_path(dir, "bad.tok"), p, n));
        struct data *d = open_data(tmp_path(dir, "bad.tok"));
        cr_expect_eq(data_seq(d, &o, 0, s.token, s.target, s.weight, s.doc, &err), ST_FORMAT);
        cr_expect_not_null(strstr(err.msg, "77"), "%s", err.msg);
        data_close(d);
        free(p);
    }
}

Test(data, a_file_that_shrinks_while_it_is_used_is_an_error_and_no_signal)
{
    struct err err = ERR_INIT;
    struct data_order o = { .n_tok = 15, .n = 1 };
    struct seq s;
    size_t n;
    char *p = sample(true, &n);
    for (size_t left = 0; left < n; left += 20) {
        cr_assert(tmp_write(tmp_path(dir, "s.tok"), p, n));
        struct data *d = open_data(tmp_path(dir, "s.tok"));
        cr_assert_eq(truncate(tmp_path(dir, "s.tok"), (off_t)left), 0);
        err_clear(&err);
        cr_expect_eq(data_seq(d, &o, 0, s.token, s.target, s.weight, s.doc, &err), ST_FORMAT);
        cr_expect_not_null(strstr(err.msg, "shrunk"), "%s", err.msg);
        data_close(d);
    }
    free(p);
}

/* ---- sets that do not fit together ---- */

static void expect_set_refused(enum status st, const char *part)
{
    struct err err = ERR_INIT;
    struct data *d = NULL;
    cr_expect_eq(data_open(dir, true, &d, &err), st, "%s", err.msg);
    cr_expect_not_null(strstr(err.msg, part), "%s", err.msg);
    cr_expect_null(d);
}

Test(data, a_folder_without_shards_or_with_a_missing_one_is_refused)
{
    const uint32_t len = 20;
    struct err err = ERR_INIT;
    struct data *d = NULL;
    cr_expect_eq(data_open(tmp_path(dir, "none"), true, &d, &err), ST_NOTFOUND);
    expect_set_refused(ST_NOTFOUND, "holds 0 token shards");
    shards_write(tmp_path(dir, "a-00001.tok"), 11, false, &len, 1, 0);
    expect_set_refused(ST_FORMAT, "a-00000.tok");
    shards_write(tmp_path(dir, "a-00000.tok"), 11, false, &len, 1, 0);
    shards_write(tmp_path(dir, "a-00003.tok"), 11, false, &len, 1, 0);
    expect_set_refused(ST_FORMAT, "a-00002.tok");
    shards_write(tmp_path(dir, "b-00000.tok"), 11, false, &len, 1, 0);
    shards_write(tmp_path(dir, "a-00002.tok"), 11, false, &len, 1, 0);
    expect_set_refused(ST_FORMAT, "two data sets");
}

Test(data, shards_that_disagree_are_refused_by_name)
{
    const uint32_t len = 20;
    shards_write(tmp_path(dir, "a-00000.tok"), 11, false, &len, 1, 0);
    shards_write(tmp_path(dir, "a-00001.tok"), 12, false, &len, 1, 0);
    expect_set_refused(ST_FORMAT, "vocabulary size");
    shards_write(tmp_path(dir, "a-00001.tok"), 11, true, &len, 1, 0);
    expect_set_refused(ST_FORMAT, "loss mask");
    shards_text(tmp_path(dir, "a-00001.tok"), 11, 1, 20, 1); /* without a digest */
    expect_set_refused(ST_FORMAT, "tokenizer");
}
