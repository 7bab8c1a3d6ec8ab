/* engine/train/bpe_internal.h - what bpe.c (words in, GGUF out) and bpe_learn.c share. */
#ifndef STROBE_TRAIN_BPE_INTERNAL_H
#define STROBE_TRAIN_BPE_INTERNAL_H

#include "engine/model/pretok.h"
#include "engine/train/bpe.h"

enum {
    BPE_BYTES = 256,  /* ids 0..255 are the bytes */
    BPE_COUNT_MIN = 2 /* a pair that occurs once repeats nothing */
};

struct bpe_word {
    uint64_t count;
    uint32_t at; /* in bpe.pool; while learning of its first symbol */
    uint32_t n;  /* bytes; while learning symbols */
};
struct bpe_text {
    uint32_t at, n; /* in bpe.text */
};
struct bpe_pair {
    uint32_t left, right;
};

struct bpe {
    uint32_t n_vocab, max_words, bos, eos, pad;
    bool add_bos, learned;
    char pre_name[64];
    struct pretok *pre;
    char **special; /* NUL-ended copies */
    uint32_t n_special;
    uint32_t *by_length; /* specials, longest first */
    bool special_first[256];
    char *chat_template; /* NULL: none */
    /* words of at least two bytes */
    struct bpe_word *word;
    uint32_t n_word, cap_word;
    uint32_t *slot; /* open addressing over words: index + 1, 0: free */
    uint32_t n_slot;
    struct buf pool;
    struct bpe_stats stats;
    /* learned */
    struct buf text;
    struct bpe_text *token; /* [n_vocab - n_special]: bytes, then what merges made */
    uint32_t n_token;
    struct bpe_pair *merge;
    uint32_t n_merge, cap_merge;
};

/* Fills token and merge from the words, which it uses up. Errors: as bpe_learn(). */
enum status bpe_merge_words(struct bpe *b, struct err *err);
static inline struct str bpe_bytes(const struct bpe *b, uint32_t id)
{
    return (struct str){ b->text.p + b->token[id].at, b->token[id].n };
}

#endif
