/* engine/train/bpe.h - learns a byte-level BPE vocabulary from text, as GPT-2's: words are cut by
 * the engine's own pre-tokenizer, then the most frequent pair of neighbours becomes a token, again
 * and again. Ties go to the pair with the larger left byte string, then the larger right one (as
 * the published references do that tests compare with). Deterministic: the same texts in the same
 * order give the same vocabulary.
 *
 * Bounded memory: words are counted, not kept in order, at most max_words different ones. When
 * there are more, the rarest are forgotten with their counts (lossy counting, Manku and Motwani
 * 2002), which bpe_stats() tells. Words longer than BPE_WORD_MAX bytes are not counted. Owner: one
 * thread. */
#ifndef STROBE_TRAIN_BPE_H
#define STROBE_TRAIN_BPE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/model/gguf_write.h"

#include <stdbool.h>
#include <stdint.h>

struct bpe; /* opaque: a learned vocabulary: 256 bytes, merges, then special tokens */

/* Digits are cut one by one, blanks are not tidied away, known to llama.cpp under this name. */
#define BPE_PRE_DEFAULT "smollm"

enum {
    BPE_WORD_MAX = 256,       /* bytes; what the tokenizer takes for a token is twice as long */
    BPE_WORDS_MAX = 1 << 21,  /* different words: about 300 MiB while learning */
    BPE_VOCAB_MAX = 1 << 20,  /* tokens */
    BPE_SPECIAL_MAX = 1 << 10 /* special tokens */
};

struct bpe_opts {
    uint32_t n_vocab; /* at least 256 + number of specials; specials are the last ids */
    const char *pre;  /* pre-tokenizer name as in tokenizer.ggml.pre; NULL: BPE_PRE_DEFAULT */
    const struct str *special; /* e.g. "<|endoftext|>", "<|user|>"; [n_special]. Where they stand in
                                  a text they cut it, and they do not take part in merges */
    uint32_t n_special;
    uint32_t bos, eos, pad;   /* indices into special; UINT32_MAX: none */
    bool add_bos;             /* prompts begin with bos: tokenizer.ggml.add_bos_token */
    struct str chat_template; /* Jinja source or empty */
    uint32_t max_words;       /* 0: BPE_WORDS_MAX */
};
/* Copies what it needs. Errors: ST_ARG (n_vocab, a special token that is empty, no UTF-8, too long
 * or given twice), ST_UNSUPPORTED (pre), ST_NOMEM. */
enum status bpe_create(const struct bpe_opts *o, struct bpe **ret, struct err *err);
/* Counts words of text; may be called again for more text before bpe_learn(). A text begins and
 * ends a word. Malformed UTF-8 counts as U+FFFD, as encoding does. */
enum status bpe_add_text(struct bpe *b, struct str text, struct err *err);
/* Once. Pairs that occur once are not merged. Errors: ST_ARG when the text has too few distinct
 * pairs for n_vocab (says how many tokens it gives), or when a special token is also a learned one;
 * ST_NOMEM. After a failure the vocabulary is of no use. */
enum status bpe_learn(struct bpe *b, struct err *err);
void bpe_free(struct bpe *b); /* NULL is fine */

struct bpe_stats {
    uint64_t n_byte, n_word; /* of the texts */
    uint64_t n_distinct;     /* words of two bytes and more that were counted to the end */
    uint64_t n_forgotten;    /* times a word was forgotten for want of room */
    uint64_t n_long;         /* words that were too long */
    uint64_t counted_byte, counted_token; /* of the words that were counted to the end, and what
                                             the vocabulary makes of them: the ratio is its yield */
    uint32_t n_vocab, n_merge;
};
struct bpe_stats bpe_stats(const struct bpe *b);
/* Bytes of token id: raw ones, a special token's text. Valid as long as b. */
struct str bpe_token(const struct bpe *b, uint32_t id);
/* Ids that merge i (i < n_merge) joins. */
void bpe_merge(const struct bpe *b, uint32_t i, uint32_t *left, uint32_t *right);

/* The tokenizer's metadata of a GGUF file: tokenizer.ggml.* and the chat template. Ids that there
 * are none of are written as UINT32_MAX: readers have defaults for absent ones. A lost byte shows
 * in buf_ok() of the writer's file. */
void bpe_write_gguf(const struct bpe *b, struct gguf_writer *w);
/* A vocabulary-only GGUF file, readable by tokenizer_from_gguf(). Atomic. Errors: ST_IO, ST_NOMEM.
 */
enum status bpe_save(const struct bpe *b, const char *path, struct err *err);

#endif
