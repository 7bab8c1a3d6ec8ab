/* engine/model/tokenizer.h - text to ids and back (model-formats.md section 9). SentencePiece-style
 * BPE, byte-level BPE, from GGUF metadata or tokenizer.json. Immutable after creation; encoding
 * takes caller-side scratch inside the call, so any thread may call. */
#ifndef STROBE_MODEL_TOKENIZER_H
#define STROBE_MODEL_TOKENIZER_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/model/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer; /* opaque */

enum { TOKENIZER_TEXT_MAX = 64 << 20 }; /* bytes of one text */

/* `pre` overrides tokenizer.ggml.pre; NULL: the file's. Errors: ST_FORMAT, ST_UNSUPPORTED (naming
 * the model or pre-tokenizer), ST_NOMEM. Needs only metadata: vocabulary-only files work. */
enum status tokenizer_from_gguf(const struct gguf *g, const char *pre, struct tokenizer **ret,
                                struct err *err);
/* A folder with tokenizer.json (and tokenizer_config.json, generation_config.json, config.json). */
enum status tokenizer_from_dir(const char *dir, struct tokenizer **ret, struct err *err);
/* The parsers on text alone, for fuzzing. */
enum status tokenizer_from_json(struct str tokenizer_json, struct str tokenizer_config,
                                struct tokenizer **ret, struct err *err);
void tokenizer_free(struct tokenizer *t);

struct tokens {
    int32_t *id;
    size_t n, cap;
};
void tokens_clear(struct tokens *t);
enum status tokens_push(struct tokens *t, int32_t id, struct err *err);

enum {
    TOK_BOS = 1,     /* add BOS (and EOS where the model says so) when the model wants it */
    TOK_SPECIAL = 2, /* parse control tokens in the text; else only user-defined ones */
};
/* Appends to out. Malformed UTF-8 becomes U+FFFD except where byte tokens can carry it. */
enum status tokenizer_encode(const struct tokenizer *t, struct str text, unsigned flags,
                             struct tokens *out, struct err *err);
/* Appends the bytes of one token; control tokens give nothing unless `special`. `first`: the first
 * token of a text (SPM drops its leading space there). Bytes may be a part of a UTF-8 character:
 * the caller holds them back (utf8_partial_tail). Ids out of range give nothing. */
void tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special,
                     struct buf *out);
/* Whole-sequence decode; malformed UTF-8 is repaired. */
enum status tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool special,
                             struct buf *out, struct err *err);

uint32_t tokenizer_n_vocab(const struct tokenizer *t);
int32_t tokenizer_bos(const struct tokenizer *t); /* -1: none; same for the next */
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id); /* end-of-generation set, 9.5 */
bool tokenizer_adds_bos(const struct tokenizer *t);
/* The stored text of a token (escaped form of the vocabulary), for logprobs and inspect. */
struct str tokenizer_text(const struct tokenizer *t, int32_t id);
const char *tokenizer_kind(const struct tokenizer *t); /* "spm", "bpe" */
const char *tokenizer_pre(const struct tokenizer *t);  /* pre-tokenizer name or "" */
/* The model's chat template (Jinja source), empty when it has none. `name`: NULL for the default,
 * or "tool_use" and the like. */
struct str tokenizer_chat_template(const struct tokenizer *t, const char *name);
/* SHA-256 of everything that decides which ids a text gets: pieces, types, merges, BOS and EOS. */
void tokenizer_digest(const struct tokenizer *t, unsigned char out[32]);
/* Heap bytes held. */
size_t tokenizer_bytes(const struct tokenizer *t);
/* First warning found while loading (unknown pre-tokenizer and the like), or "". */
const char *tokenizer_warning(const struct tokenizer *t);

#endif
