/* tests/support/guard.h - buffers that end at a page that nobody may touch. */
#ifndef STROBE_TESTS_SUPPORT_GUARD_H
#define STROBE_TESTS_SUPPORT_GUARD_H

#include <stddef.h>

/* n bytes whose last byte is the last before a dead page; the start is 16-byte aligned when n is a
 * multiple of 16, 64-byte aligned when of 64. */
void *guard_alloc(size_t n);
void guard_free(void *p);

#endif
