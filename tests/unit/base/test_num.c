#include "engine/base/num.h"

#include <criterion/criterion.h>

Test(num, sizes_take_units)
{
    static const struct {
        const char *text;
        uint64_t want; /* UINT64_MAX: refused */
    } cases[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "512MiB", 536870912u },
        { "6GB", 6000000000u },
        { "1.5GiB", 1610612736u },
        { "300k", 307200u },
        { "2T", 2199023255552u },
        { "", UINT64_MAX },
        { " 1", UINT64_MAX },
        { "-1", UINT64_MAX },
        { "1 GiB", UINT64_MAX },
        { "GiB", UINT64_MAX },
        { "1X", UINT64_MAX },
        { "1e300GB", UINT64_MAX },
        { "nan", UINT64_MAX },
        { "99999999999TiB", UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = ERR_INIT;
        uint64_t v = UINT64_MAX;
        num_size(str_c(cases[i].text), "--ram", &v, &e);
        cr_expect_eq(v, cases[i].want, "'%s' gave %llu", cases[i].text, (unsigned long long)v);
        cr_expect_eq(e.code == ST_OK, cases[i].want != UINT64_MAX, "'%s'", cases[i].text);
    }
}

Test(num, integers_are_bounded_and_whole)
{
    static const struct {
        const char *text;
        enum status want;
    } cases[] = {
        { "0", ST_OK },    { "10", ST_OK },  { "11", ST_RANGE },
        { "-1", ST_ARG },  { "+1", ST_ARG }, { "1.0", ST_ARG },
        { "0x1", ST_ARG }, { "", ST_ARG },   { "99999999999999999999", ST_RANGE },
        { " 1", ST_ARG },  { "1 ", ST_ARG },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = ERR_INIT;
        uint64_t v = 7;
        cr_expect_eq(num_u64(str_c(cases[i].text), "n", 0, 10, &v, &e), cases[i].want, "'%s'",
                     cases[i].text);
        cr_expect(cases[i].want == ST_OK || v == 7, "'%s' wrote a value", cases[i].text);
    }
}

Test(num, reals_are_finite_and_bounded)
{
    static const char *const bad[] = { "nan", "inf", "-inf", "1e999", "", "x", "2.5", " 1" };
    struct err e = ERR_INIT;
    double v;
    cr_expect_eq(num_f64(STR("1.5"), "p", 0, 2, &v, &e), ST_OK);
    cr_expect_eq(v, 1.5);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err_clear(&e);
        cr_expect_neq(num_f64(str_c(bad[i]), "p", 0, 2, &v, &e), ST_OK, "'%s'", bad[i]);
    }
}

Test(num, products_that_overflow_are_noticed)
{
    size_t r = 5;
    cr_expect(num_mul(1u << 20, 1u << 20, &r));
    cr_expect_eq(r, (size_t)1 << 40);
    cr_expect_not(num_mul(SIZE_MAX, 2, &r));
    cr_expect_not(num_add(SIZE_MAX, 1, &r));
    cr_expect_eq(r, (size_t)1 << 40);
}

Test(num, the_text_of_a_float_is_short_and_reads_back)
{
    static const struct {
        float x;
        const char *text;
    } cases[] = { { 0.1f, "0.1" },         { 1e-5f, "1e-05" },
                  { 10000, "10000" },      { 0, "0" },
                  { -2.5f, "-2.5" },       { 1.0f / 3, "0.33333334" },
                  { 16777216, "16777216" } };
    char text[NUM_F32_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_str_eq(num_f32_text(cases[i].x, text), cases[i].text);
    for (uint32_t k = 0; k < 20000; k++) { /* any finite bits */
        uint32_t bits = k * 214013u + 2531011u;
        float x;
        double back = 0;
        struct err e = ERR_INIT;
        memcpy(&x, &bits, sizeof x);
        if ((bits & 0x7F800000) == 0x7F800000)
            continue;
        num_f32_text(x, text);
        cr_assert_eq(num_f64(str_c(text), "x", -1e39, 1e39, &back, &e), ST_OK, "%s", e.msg);
        cr_assert_eq((float)back, x, "%s", text);
    }
}
