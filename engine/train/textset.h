/* engine/train/textset.h - text becomes token shards. Two kinds of files:
 *
 *   .txt    documents separated by a mark: "<|endoftext|>" where the tokenizer has that token, else
 *           the text of its end token; a line break right behind it is dropped. Without any, one
 *           document. Each ends with the mark's token.
 *   .jsonl  one object a line: {"text"} is trained whole and ends with the mark's token; of
 *           {"prompt", "response"} only the response and the end token behind it are trained. The
 *           two are tokenized apart, as they are when a prompt is answered. Other members are
 *           ignored; blank lines too.
 *
 * Special tokens in the text are parsed. A document begins with the tokenizer's BOS where it wants
 * one. The work is single-threaded and holds one document.
 * Owner: one thread. */
#ifndef STROBE_TRAIN_TEXTSET_H
#define STROBE_TRAIN_TEXTSET_H

#include "engine/base/err.h"
#include "engine/model/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    TEXTSET_LINE_MAX = 16 << 20,  /* bytes of a JSON line */
    TEXTSET_DOC_TOKENS = 1 << 20, /* longer documents become several */
    TEXTSET_SHARD_TOKENS = 1 << 24
};

/* By its name: is it text that this module reads, rather than shards? */
bool textset_is_text(const char *path);

struct textset_opts {
    const char *text, *dir, *name;     /* writes DIR/NAME-00000.tok ... */
    const struct tokenizer *tokenizer; /* borrowed */
    const unsigned char *digest;       /* of the tokenizer, [32] */
    /* Bytes of text read so far; false stops with ST_CANCELLED. NULL: none. */
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};
/* Errors: ST_NOTFOUND, ST_IO, ST_FORMAT (a line that is no such object, by number), ST_ARG (no
 * document at all), ST_CANCELLED, ST_NOMEM. Shards that were finished stay. */
enum status textset_make(const struct textset_opts *o, struct err *err);

/* A part of a document. */
struct textset_piece {
    struct str prompt; /* not trained; empty for plain text */
    struct str text;
    bool answer; /* text answers the prompt: the end token follows, not the mark */
    bool last;   /* the document ends here */
};
/* The pieces of a text file in order, for learning a vocabulary. mark: separates documents of .txt
 * files; empty: nothing does. Errors: as textset_make(), and what fn returns. */
enum status textset_each(const char *path, struct str mark,
                         enum status (*fn)(void *ctx, const struct textset_piece *p, uint64_t done,
                                           uint64_t total, struct err *err),
                         void *ctx, struct err *err);

#endif
