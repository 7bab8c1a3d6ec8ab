/* engine/flash/parts.h - whose memory it is: the matrices of a Duo model's big parts that the plan
 * pinned, and which layer's lie there now. At first those that the plan chose, knowing no route;
 * then those that passes use most. A matrix that is read because a pass needs it takes the place of
 * one that is needed clearly less: it is packed there while it is multiplied, which costs neither a
 * read nor a copy, and the other one is streamed from then on. Knows no weights, only who has a
 * place. Owner: one thread. */
#ifndef STROBE_FLASH_PARTS_H
#define STROBE_FLASH_PARTS_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct parts; /* opaque */

/* Of at most n_place places. Errors: ST_NOMEM. */
enum status parts_create(uint32_t n_layer, size_t n_place, struct parts **ret, struct err *err);
void parts_free(struct parts *p); /* NULL is fine */

struct part {
    uint32_t layer, role; /* role: the caller's, with the layer the name of a matrix */
};
/* A place, borrowed, and who is there. */
void parts_add(struct parts *p, struct part in, uint8_t *mem, size_t bytes);

/* A pass went through the layer with its big part, or without. */
void parts_note(struct parts *p, uint32_t layer, bool used);

/* A place for a matrix that has none: NULL where nobody is needed clearly less. Otherwise *out is
 * whose it was, and no longer is; the place is nobody's until parts_settle(), which is told whether
 * it was filled. out->layer UINT32_MAX: it was nobody's before. */
uint8_t *parts_take(struct parts *p, uint32_t layer, size_t bytes, struct part *out);
void parts_settle(struct parts *p, const uint8_t *mem, struct part in, bool filled);

#endif
