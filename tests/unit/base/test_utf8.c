#include "engine/base/utf8.h"

#include <criterion/criterion.h>

Test(utf8, every_scalar_value_survives_the_round_trip)
{
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp <= 0xDFFF)
            continue;
        char b[4];
        uint32_t back = 0;
        size_t n = utf8_encode(cp, b);
        cr_assert_eq(utf8_decode(b, n, &back), n, "U+%04X", cp);
        cr_assert_eq(back, cp);
        cr_assert_eq(n > 1 ? utf8_decode(b, n - 1, &back) : 0, 0u, "U+%04X cut", cp);
        if (n > 1)
            cr_assert_eq(utf8_partial_tail((struct str){ b, n - 1 }), n - 1, "U+%04X", cp);
        cr_assert_eq(utf8_partial_tail((struct str){ b, n }), 0u);
    }
}

Test(utf8, malformed_bytes_are_replaced_one_by_one)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        { "plain", "plain" },
        { "\xFF", "\xEF\xBF\xBD" },
        { "a\xC0\x80z", "a\xEF\xBF\xBD\xEF\xBF\xBDz" },             /* over-long NUL */
        { "\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" }, /* surrogate */
        { "\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" },
        { "\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD" },
        { "\xE2\x82\xAC!", "\xE2\x82\xAC!" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf b = BUF_INIT;
        utf8_repair(str_c(cases[i].in), &b);
        cr_expect(str_is(buf_view(&b), cases[i].want), "case %zu gave '%s'", i, b.p);
        cr_expect(utf8_valid(buf_view(&b)));
        buf_clear(&b);
    }
}
