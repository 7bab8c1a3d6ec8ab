/* tests/support/data.h - finds the shared test data, which is no part of the project. */
#ifndef STROBE_TESTS_SUPPORT_DATA_H
#define STROBE_TESTS_SUPPORT_DATA_H

#include <stddef.h>

/* Path of `rel` under the shared data folder ($STROBE_TEST_DATA, or shared/data beside the
 * project's folder). NULL when absent: the test must then say so loudly and skip. `out` is the
 * caller's. */
const char *data_path(const char *rel, char out[4096]);
/* Whole file, NUL-ended, free(); NULL: cannot be read. */
char *data_read(const char *path, size_t *n);
/* Prints "SKIPPED: NAME needs REL" to stderr, always. */
void data_skip(const char *test, const char *rel);

#endif
