/* tests/unit/train/vocab.c - see vocab.h. */
#include "tests/unit/train/vocab.h"

#include "engine/train/bpe.h"

#include <criterion/criterion.h>

void vocab_write(const char *path, bool add_bos)
{
    struct err err = ERR_INIT;
    struct bpe *b = NULL;
    const struct str special[] = { STR("<|endoftext|>"), STR("<|stop|>"), STR("<|bos|>"),
                                   STR("<|pad|>") };
    struct bpe_opts o = { .n_vocab = VOCAB_N,
                          .special = special,
                          .n_special = 4,
                          .bos = 2,
                          .eos = 1,
                          .pad = 3,
                          .add_bos = add_bos };
    cr_assert_eq(bpe_create(&o, &b, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(bpe_add_text(b, STR("some text"), &err), ST_OK, "%s", err.msg);
    cr_assert_eq(bpe_learn(b, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(bpe_save(b, path, &err), ST_OK, "%s", err.msg);
    bpe_free(b);
}

void vocab_load(const char *path, struct vocab_open *v)
{
    struct err err = ERR_INIT;
    cr_assert_eq(gguf_open(path, &v->g, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(tokenizer_from_gguf(v->g, NULL, &v->t, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(tokenizer_n_vocab(v->t), VOCAB_N);
    tokenizer_digest(v->t, v->digest);
}

void vocab_drop(struct vocab_open *v)
{
    tokenizer_free(v->t);
    gguf_close(v->g);
}
