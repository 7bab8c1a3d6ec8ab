/* tests/unit/eval/test_words.c - numbers in words, fractions, printing. */
#include "eval/pools.h"
#include "eval/steps.h"
#include "eval/words.h"

#include <criterion/criterion.h>

Test(words, every_number_reads_back_from_its_words)
{
    struct buf b = BUF_INIT;
    for (int64_t n = 0; n < 1000000; n = n < 3000 ? n + 1 : n + 997)
        for (int j = 0; j < 2; j++) {
            struct rational r;
            buf_reset(&b);
            words_number(n, j ? '-' : ' ', &b);
            cr_assert(words_parse(buf_view(&b), &r), "%s", b.p);
            cr_assert(r.n == n && r.d == 1, "%s: %lld/%lld", b.p, (long long)r.n, (long long)r.d);
        }
    buf_clear(&b);
}

Test(words, fractions_and_forms_of_the_public_files_are_read)
{
    static const struct {
        const char *text;
        int64_t n, d;
    } table[] = {
        { "half", 1, 2 },
        { "a third", 1, 3 },
        { "three quarters", 3, 4 },
        { "three-fourths", 3, 4 },
        { "two-thirds", 2, 3 },
        { "one-half", 1, 2 },
        { "four-sixths", 2, 3 },
        { "twice", 2, 1 },
        { "thrice", 3, 1 },
        { "six times", 6, 1 },
        { "double", 2, 1 },
        { "thirty five", 35, 1 },
        { "$1.50", 3, 2 },
        { "1/2", 1, 2 },
        { "13 1/2", 27, 2 },
        { "1,234", 1234, 1 },
        { "20%", 20, 1 },
        { "one hundred and five", 105, 1 },
        { "3 times", 3, 1 },
        { "a dozen", 12, 1 },
        { "an eighth", 1, 8 },
        { "-5", -5, 1 },
        { "\xE2\x82\xAC"
          "7",
          7, 1 },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct rational r = { 0, 1 };
        cr_expect(words_parse(str_c(table[i].text), &r), "%s", table[i].text);
        cr_expect(r.n == table[i].n && r.d == table[i].d, "%s: %lld/%lld", table[i].text,
                  (long long)r.n, (long long)r.d);
    }
    static const char *const none[] = { "",        "a",   "blue",        "1,23",
                                        "12,3456", "1.",  "five apples", "1//2",
                                        "1/0",     "--3", "hundred" };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        struct rational r;
        cr_expect(!words_parse(str_c(none[i]), &r), "%s", none[i]);
    }
}

Test(words, rationals_print_whole_decimal_or_as_a_fraction)
{
    static const struct {
        struct rational r;
        const char *want;
    } table[] = { { { 45, 1 }, "45" },       { { 5, 2 }, "2.5" },      { { -1, 8 }, "-0.125" },
                  { { 1, 3 }, "1/3" },       { { 201, 20 }, "10.05" }, { { -7, 6 }, "-7/6" },
                  { { 1, 1024 }, "1/1024" }, { { 0, 1 }, "0" } };
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        buf_reset(&b);
        rat_print(table[i].r, &b);
        cr_expect_str_eq(b.p, table[i].want);
    }
    buf_clear(&b);
}

Test(words, rationals_never_wrap)
{
    struct rational r, big = rat_int(INT64_MAX), tiny = { 1, INT64_MAX };
    cr_expect(!rat_add(big, rat_int(1), &r));
    cr_expect(!rat_mul(big, big, &r));
    cr_expect(!rat_mul(tiny, (struct rational){ 1, 2 }, &r));
    cr_expect(!rat_div(big, (struct rational){ 1, 2 }, &r));
    cr_expect(!rat_div(big, rat_int(0), &r));
    cr_expect(!rat_make(1, 0, &r));
    cr_expect(rat_mul(big, tiny, &r) && r.n == 1 && r.d == 1);
    cr_expect_eq(rat_cmp(big, (struct rational){ INT64_MAX - 1, 1 }), 1);
    cr_expect_eq(rat_floor((struct rational){ -7, 2 }), -4);
    cr_expect_eq(rat_trunc((struct rational){ -7, 2 }), -3);
}

Test(words, plurals_and_articles)
{
    static const char *const plural[][2] = { { "apple", "apples" },  { "box", "boxes" },
                                             { "berry", "berries" }, { "toy", "toys" },
                                             { "brush", "brushes" }, { "bus", "buses" } };
    for (size_t i = 0; i < 6; i++) {
        struct buf b = BUF_INIT;
        word_plural(str_c(plural[i][0]), &b);
        cr_expect_str_eq(b.p, plural[i][1]);
        buf_clear(&b);
    }
    cr_expect(word_an(STR("apple")) && word_an(STR("hour")) && word_an(STR("8")));
    cr_expect(!word_an(STR("unicorn")) && !word_an(STR("pear")) && !word_an(STR("one-way street")));
}

Test(steps, equations_inside_text_are_evaluated)
{
    static const struct {
        const char *text;
        int n, wrong;
    } table[] = {
        { "She pays 3*4=12 and then 12+5=17.", 2, 0 },
        { "That is 3*4=13.", 1, 1 },
        { "5 apples + 3 = 8", 0, 0 },
        { "$5 + $3 = $8", 1, 0 },
        { "2 x 3 + 4 = 10", 1, 0 },
        { "1,000 - 1 = 999.", 1, 0 },
        { "7 \xC3\x97 6 = 42 and 42 \xC3\xB7 6 = 7", 2, 0 },
        { "10 / 4 = 2.5", 1, 0 },
        { "20% * 5 = 1", 0, 0 },
        { "x = 5", 0, 0 },
        { "The end. 2*(3+4)=14.", 1, 0 },
        { "1/3 + 1/3 = 2/3", 1, 0 },
        { "4 + 4 = 9 wrong, 4 - 4 = 0 right", 2, 1 },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct step_check s;
        int n = 0, wrong = 0;
        for (size_t at = 0; steps_next(str_c(table[i].text), &at, &s); n++)
            wrong += !s.right;
        cr_expect(n == table[i].n && wrong == table[i].wrong, "%s: %d found, %d wrong",
                  table[i].text, n, wrong);
    }
}
