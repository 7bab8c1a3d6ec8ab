/* engine/model/pretok.h - the first two steps of byte-level BPE, which encoding a text and learning
 * a vocabulary share: cutting text into words (model-formats.md 9.4), and the printable characters
 * that stand for bytes (9.3). Compiled patterns are immutable; any thread may split. */
#ifndef STROBE_MODEL_PRETOK_H
#define STROBE_MODEL_PRETOK_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pretok; /* opaque: compiled patterns */

/* By GGUF name; *ignore_merges and *add_bos report what the name implies. Errors: ST_UNSUPPORTED
 * (the name is not known), ST_NOMEM. */
enum status pretok_named(const char *name, struct pretok **ret, bool *ignore_merges, bool *add_bos,
                         struct err *err);
enum { PRETOK_STEPS_MAX = 8 };
enum pretok_how { PRETOK_ISOLATE, PRETOK_REMOVE, PRETOK_MERGE_PREV, PRETOK_MERGE_NEXT };
struct pretok_step {
    struct str pattern; /* regular expression */
    enum pretok_how how;
    bool invert;
};
enum status pretok_compile(const struct pretok_step *step, size_t n, struct pretok **ret,
                           struct err *err);
void pretok_free(struct pretok *p);
/* Calls fn for each piece of valid UTF-8 text, in order; what fn fails with ends it. A NULL pretok
 * gives the whole text. Errors: ST_NOMEM, ST_RANGE (a pattern gave up). */
enum status pretok_split(const struct pretok *p, struct str text,
                         enum status (*fn)(void *ctx, struct str piece, struct err *err), void *ctx,
                         struct err *err);

uint32_t byte_to_cp(uint8_t b);
int cp_to_byte(uint32_t cp);                     /* -1: no byte maps there */
void bytes_map(struct str raw, struct buf *out); /* appends the characters of raw's bytes */

#endif
