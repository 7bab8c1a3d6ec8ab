/* tests/support/tmp.c - see tmp.h. */
#include "tests/support/tmp.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool tmp_make(char dir[FILE_PATH_MAX])
{
    snprintf(dir, FILE_PATH_MAX, "/tmp/strobe-test-XXXXXX");
    return mkdtemp(dir) != NULL;
}

void tmp_remove(const char *dir)
{
    struct err err = ERR_INIT;
    if (file_remove_tree(dir, &err) != ST_OK)
        fprintf(stderr, "%s\n", err.msg);
}

const char *tmp_path(const char *dir, const char *name)
{
    static char path[8][FILE_PATH_MAX];
    static unsigned turn;
    char *p = path[turn++ % 8];
    snprintf(p, FILE_PATH_MAX, "%.1000s/%.3000s", dir, name);
    return p;
}

char *tmp_read(const char *path, size_t *n)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    if (file_slurp(path, 1 << 30, &b, &err) != ST_OK) {
        buf_clear(&b);
        return NULL;
    }
    *n = b.n;
    return buf_take(&b);
}

bool tmp_same(const char *a, const char *b)
{
    size_t n = 0, k = 1;
    char *p = tmp_read(a, &n), *q = tmp_read(b, &k);
    bool same = p && q && n == k && memcmp(p, q, n) == 0;
    free(p);
    free(q);
    return same;
}

bool tmp_write(const char *path, const void *p, size_t n)
{
    struct err err = ERR_INIT;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && file_write(fd, p, n, path, &err) == ST_OK;
    if (fd >= 0)
        close(fd);
    return ok;
}
