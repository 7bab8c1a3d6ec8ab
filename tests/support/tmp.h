/* tests/support/tmp.h - a temporary folder that goes away with all that is in it. */
#ifndef STROBE_TESTS_SUPPORT_TMP_H
#define STROBE_TESTS_SUPPORT_TMP_H

#include "engine/base/file.h"

/* Makes one; false: it cannot be made. */
bool tmp_make(char dir[FILE_PATH_MAX]);
void tmp_remove(const char *dir);
/* DIR/NAME in one of eight static buffers that take turns. */
const char *tmp_path(const char *dir, const char *name);
/* A file's bytes; free them. NULL: cannot be read. */
char *tmp_read(const char *path, size_t *n);
/* Do two files hold the same bytes? false also when one cannot be read. */
bool tmp_same(const char *a, const char *b);
bool tmp_write(const char *path, const void *p, size_t n);

#endif
