/* The fuzz target as a normal test: its seeds, each cut short and with bytes changed. */
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

Test(recsys_fuzz, seeds_and_what_becomes_of_them)
{
    DIR *d = opendir(SEEDS);
    cr_assert(d);
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t size;
        char *p = e->d_name[0] == '.' ? NULL : tmp_read(tmp_path(SEEDS, e->d_name), &size);
        if (!p)
            continue;
        n++;
        for (size_t len = 0; len <= size; len++)
            LLVMFuzzerTestOneInput((const uint8_t *)p, len);
        for (size_t at = 0; at < size; at++)
            for (const char *c = "\t\n\",9\xFF"; *c; c++) {
                char was = p[at];
                p[at] = *c;
                LLVMFuzzerTestOneInput((const uint8_t *)p, size);
                p[at] = was;
            }
        free(p);
    }
    closedir(d);
    cr_expect(n >= 4);
}
