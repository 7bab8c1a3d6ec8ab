/* tests/unit/base/test_rss.c - the memory figure follows what the process really touches. */
#include "engine/base/rss.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(rss, touched_memory_shows_and_the_peak_stays)
{
    enum { SIZE = 64 << 20 };
    struct rss before = rss_now();
    cr_assert_gt(before.anon, 0);
    char *p = malloc(SIZE);
    memset(p, 1, SIZE);
    __asm__ volatile("" : : "r"(p) : "memory"); /* else clang drops the unread block */
    struct rss with = rss_now();
    cr_expect_geq(with.anon, before.anon + SIZE / 2, "%llu", (unsigned long long)with.anon);
    free(p);
    struct rss after = rss_now();
    cr_expect_geq(after.anon_peak + (4 << 20), with.anon);
    cr_expect_geq(after.anon_peak, after.anon);
}
