/* eval/mem.h - memory of one template: handed out from chunks, given back all at once. What is
 * built half when an allocation fails needs no care then. A cap keeps hostile templates small.
 * Owner: one thread; constant and shareable once its owner has stopped building. */
#ifndef STROBE_EVAL_MEM_H
#define STROBE_EVAL_MEM_H

#include "engine/base/buf.h"

#include <stddef.h>

struct mem_chunk;
struct mem {
    struct mem_chunk *chunk;
    size_t left, total, cap; /* cap 0: MEM_CAP */
    bool failed;             /* something was refused: what is built is not complete */
};
enum { MEM_CAP = 64 << 20 };

/* Zeroed, aligned to 16. NULL: no memory, or the cap is reached. */
void *mem_get(struct mem *m, size_t n);
void *mem_array(struct mem *m, size_t n, size_t each);
/* A copy with a NUL behind it. p NULL: no memory. */
struct str mem_str(struct mem *m, struct str s);
void mem_clear(struct mem *m); /* a zeroed struct is fine */

#endif
