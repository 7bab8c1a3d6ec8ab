/* engine/base/arena.h - one big mapping handed out from the front. Sized up front, touched at
 * start, never grown; reset, not freed, until its owner ends. Memory is zero at first use and 2
 * MiB-page advised (baselines.md 1.4: huge pages double disk throughput). Owner: one thread. */
#ifndef STROBE_BASE_ARENA_H
#define STROBE_BASE_ARENA_H

#include "engine/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct arena {
    unsigned char *base;
    size_t size, used, peak;
};

/* Maps at least `size` bytes (rounded to 2 MiB). `what` names it in errors. Errors: ST_NOMEM. */
enum status arena_init(struct arena *a, size_t size, const char *what, struct err *err);
/* align: a power of two <= 2 MiB. NULL: no room (plans make that our bug; callers may assert). */
void *arena_alloc(struct arena *a, size_t size, size_t align);
void arena_reset(struct arena *a); /* everything handed out is void; poisoned under ASan */
void arena_touch(struct arena *a); /* faults every page in, so that later steps do not */
void arena_clear(struct arena *a); /* unmaps; a zeroed struct is fine */

#endif
