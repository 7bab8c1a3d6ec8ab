/* eval/pools.h - named word lists: ours, under the names that the public templates assume, and
 * those of our own templates; a JSON file may override or add some. Constant once open; any thread.
 */
#ifndef STROBE_EVAL_POOLS_H
#define STROBE_EVAL_POOLS_H

#include "engine/base/err.h"
#include "eval/item.h"
#include "eval/mem.h"
#include "eval/value.h"

/* What morphology needs of a word. */
struct word {
    struct value v;    /* a text, or a number with words of its own */
    struct str plural; /* n == 0: by rule */
    char gender;       /* 'm', 'f', 0: they */
};

struct pool {
    struct str name;
    enum item_kind kind;
    const struct word *word;
    const struct value *value; /* the same words' values, as a list */
    uint32_t n;
};

struct pools;
/* path: NULL or {"NAME": ["text", {"text", "plural", "gender"}, ["text", "1/2"] ...]}.
 * Errors: ST_IO, ST_FORMAT (names the list), ST_NOMEM. */
enum status pools_open(const char *path, struct pools **ret, struct err *err);
void pools_free(struct pools *p);                                      /* NULL is fine */
const struct pool *pools_find(const struct pools *p, struct str name); /* NULL: none */
const char *pools_hash(const struct pools *p);                         /* SHA-256, hex */
size_t pools_n(const struct pools *p);
const struct pool *pools_at(const struct pools *p, size_t i);

/* English morphology. */
void word_plural(struct str s, struct buf *out);
bool word_an(struct str s); /* "an" rather than "a" */

#endif
