/* tests/support/data.c - see data.h. STROBE_SOURCE_ROOT comes from the build. */
#include "tests/support/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *data_path(const char *rel, char out[4096])
{
    const char *root = getenv("STROBE_TEST_DATA");
    if (root)
        snprintf(out, 4096, "%s/%s", root, rel);
    else
        snprintf(out, 4096, "%s/../shared/data/%s", STROBE_SOURCE_ROOT, rel);
    return access(out, R_OK) == 0 ? out : NULL;
}

char *data_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *p = NULL;
    if (fseek(f, 0, SEEK_END) == 0) {
        long size = ftell(f);
        rewind(f);
        p = size >= 0 ? malloc((size_t)size + 1) : NULL;
        if (p && fread(p, 1, (size_t)size, f) == (size_t)size) {
            p[size] = '\0';
            *n = (size_t)size;
        } else {
            free(p);
            p = NULL;
        }
    }
    fclose(f);
    return p;
}

void data_skip(const char *test, const char *rel)
{
    fprintf(stderr, "SKIPPED: %s needs shared data %s\n", test, rel);
}
