/* tests/support/refuse.h - what containers do: a system call that is not allowed. */
#ifndef STROBE_TESTS_SUPPORT_REFUSE_H
#define STROBE_TESTS_SUPPORT_REFUSE_H

#include <stdint.h>

/* From here on system call `nr` of this process and its children fails with `e` when argument `arg`
 * has a bit of `mask` (0: always). There is no way back: call it in a test's own process. Fails
 * the test where the kernel has no filters. */
void refuse(int nr, uint32_t arg, uint32_t mask, int e);

#endif
