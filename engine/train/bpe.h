/* engine/train/bpe.h - learns a byte-level BPE vocabulary from text, as GPT-2's: pre-tokenised with
 * the engine's own "gpt-2" (or "llama3"-like digits) rule, merges by count, ties by the smaller
 * pair of byte strings. Deterministic. */
#ifndef STROBE_TRAIN_BPE_H
#define STROBE_TRAIN_BPE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/model/gguf_write.h"

#include <stdint.h>

struct bpe; /* opaque: a learned vocabulary: 256 bytes, merges, then special tokens */

struct bpe_opts {
    uint32_t n_vocab; /* at least 256 + number of specials; specials are the last ids */
    const char *pre;  /* pre-tokenizer name as in tokenizer.ggml.pre; NULL: a rule that the engine
                         and llama.cpp both have and that splits every digit */
    const struct str *special; /* e.g. "<|endoftext|>", "<|user|>"; [n_special] */
    uint32_t n_special;
    uint32_t bos, eos, pad;   /* indices into special; UINT32_MAX: none */
    struct str chat_template; /* Jinja source or empty */
};
/* Counts words of text; may be called again for more text before bpe_learn(). */
enum status bpe_create(const struct bpe_opts *o, struct bpe **ret, struct err *err);
enum status bpe_add_text(struct bpe *b, struct str text, struct err *err);
/* Errors: ST_ARG when the text has too few distinct pairs for n_vocab (says how many it has). */
enum status bpe_learn(struct bpe *b, struct err *err);
void bpe_free(struct bpe *b);
/* The tokenizer's metadata of a GGUF file: tokenizer.ggml.* and the chat template. */
void bpe_write_gguf(const struct bpe *b, struct gguf_writer *w);
/* A vocabulary-only GGUF file, readable by tokenizer_from_gguf(). Atomic. */
enum status bpe_save(const struct bpe *b, const char *path, struct err *err);

#endif
