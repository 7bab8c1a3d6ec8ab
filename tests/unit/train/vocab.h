/* tests/unit/train/vocab.h - a small vocabulary in a file: 256 bytes and four special tokens, no
 * merges. */
#ifndef STROBE_TESTS_UNIT_TRAIN_VOCAB_H
#define STROBE_TESTS_UNIT_TRAIN_VOCAB_H

#include "engine/model/tokenizer.h"

enum { VOCAB_N = 260, VOCAB_END = 256, VOCAB_STOP = 257, VOCAB_BOS = 258 };

/* <|endoftext|> (256) ends documents, <|stop|> (257) is the end token, <|bos|> (258). Fails the
 * running test when it cannot be written. */
void vocab_write(const char *path, bool add_bos);

struct vocab_open {
    struct gguf *g;
    struct tokenizer *t;
    unsigned char digest[32];
};
void vocab_load(const char *path, struct vocab_open *v);
void vocab_drop(struct vocab_open *v);

#endif
