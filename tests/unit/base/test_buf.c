#include "engine/base/buf.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(buf, grows_and_stays_nul_ended)
{
    struct buf b = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    struct err e = ERR_INIT;
    cr_expect_eq(buf_ok(&b, "x", &e), ST_OK);
    cr_expect_eq(b.n, 10u * 2 + 90u * 3 + 900u * 4);
    cr_expect_eq(b.p[b.n], '\0');
    cr_expect(str_starts(buf_view(&b), STR("0,1,2,")));
    cr_expect(str_ends(buf_view(&b), STR(",999,")));
    buf_clear(&b);
    cr_expect_eq(buf_view(&b).n, 0u);
}

Test(buf, an_impossible_growth_is_sticky)
{
    struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    buf_z(&b, "kept");
    cr_expect_null(buf_room(&b, SIZE_MAX - 2));
    buf_z(&b, "lost");
    cr_expect_eq(buf_ok(&b, "reply", &e), ST_NOMEM);
    cr_expect_str_eq(b.p, "kept");
    cr_expect_null(buf_take(&b));
}

Test(buf, take_moves_the_bytes)
{
    struct buf b = BUF_INIT;
    char *empty = buf_take(&b);
    cr_expect_str_eq(empty, "");
    buf_z(&b, "abc");
    char *p = buf_take(&b);
    cr_expect_str_eq(p, "abc");
    cr_expect_null(b.p);
    free(p);
    free(empty);
}

Test(buf, strings_are_found_and_trimmed)
{
    cr_expect_eq(str_find(STR("abcabc"), STR("ca"), 0), 2u);
    cr_expect_eq(str_find(STR("abcabc"), STR("ab"), 1), 3u);
    cr_expect_eq(str_find(STR("abc"), STR("x"), 0), SIZE_MAX);
    cr_expect_eq(str_find(STR("abc"), STR(""), 9), SIZE_MAX);
    cr_expect(str_eq(str_trim(STR(" \t a b\r\n")), STR("a b")));
    cr_expect_eq(str_trim(STR(" \n")).n, 0u);
}
