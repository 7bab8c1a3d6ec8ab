/* recsys/ids.h - names from outside and their dense numbers 0, 1, ...: a growing table of strings.
 * Names are bytes, at most IDS_NAME_MAX of them, told apart exactly. Owner: one thread while it
 * grows, any thread while nobody adds. */
#ifndef STROBE_RECSYS_IDS_H
#define STROBE_RECSYS_IDS_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { IDS_NAME_MAX = 1024 };
#define IDS_NONE UINT32_MAX

struct ids {
    char *text;    /* the names, one behind the other */
    uint64_t *end; /* [n]: where each one ends in `text` */
    uint32_t n, cap;
    uint64_t text_cap;
    uint32_t *slot; /* hash table of number + 1, 0: free; [n_slot], a power of two */
    uint64_t n_slot;
};

#define IDS_INIT                                                                                   \
    {                                                                                              \
        .n = 0                                                                                     \
    }

/* The number of a name, added when new. Errors: ST_NOMEM, ST_RANGE (too long, 2^31 names). */
enum status ids_add(struct ids *ids, struct str name, uint32_t *ret, struct err *err);
/* Whether one more name of so many bytes makes the tables move. */
bool ids_moves(const struct ids *ids, size_t n_byte);
/* A copy with room for it, and for as many names again; others may read `ids` meanwhile.
 * ST_NOMEM. */
enum status ids_wider(const struct ids *ids, size_t n_byte, struct ids *ret, struct err *err);
/* IDS_NONE: unknown. */
uint32_t ids_find(const struct ids *ids, struct str name);
/* i < n; borrowed until the next ids_add(). */
struct str ids_name(const struct ids *ids, uint32_t i);
/* A copy. Errors: ST_NOMEM. */
enum status ids_copy(const struct ids *from, struct ids *to, struct err *err);
void ids_clear(struct ids *ids);

#endif
