#include "engine/base/json.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

Test(json, members_are_checked_and_named)
{
    struct err e = ERR_INIT;
    json_t *d;
    cr_assert_eq(json_parse(STR("{\"a\":5,\"b\":2.5,\"c\":\"x\",\"d\":true,\"e\":null,\"f\":7.0}"),
                            "t", &d, &e),
                 ST_OK);
    int64_t i = -1;
    double f = 0;
    bool b = false;
    struct str s = STR("");
    cr_expect_eq(json_get_i64(d, "a", true, 0, 9, &i, &e), ST_OK);
    cr_expect_eq(i, 5);
    cr_expect_eq(json_get_i64(d, "f", true, 0, 9, &i, &e), ST_OK);
    cr_expect_eq(i, 7);
    cr_expect_eq(json_get_f64(d, "b", true, 0, 9, &f, &e), ST_OK);
    cr_expect_eq(json_get_bool(d, "d", true, &b, &e), ST_OK);
    cr_expect_eq(json_get_str(d, "c", true, &s, &e), ST_OK);
    cr_expect(b && str_is(s, "x"));
    cr_expect_eq(json_get_i64(d, "e", false, 0, 9, &i, &e), ST_OK);
    cr_expect_eq(i, 7);
    cr_expect_eq(json_get_i64(d, "b", false, 0, 9, &i, &e), ST_FORMAT);
    cr_expect_str_eq(e.msg, "'b' must be a whole number");
    err_clear(&e);
    cr_expect_eq(json_get_i64(d, "a", false, 0, 4, &i, &e), ST_RANGE);
    err_clear(&e);
    cr_expect_eq(json_get_str(d, "zz", true, &s, &e), ST_FORMAT);
    cr_expect_str_eq(e.msg, "'zz' is missing");
    json_free(d);
}

Test(json, numbers_of_any_sensible_length_are_read_and_longer_ones_refused)
{
    struct err e = ERR_INIT;
    json_t *v = NULL;
    char text[1100];
    memset(text, '0', sizeof text);
    text[0] = '[';
    text[2] = '.';
    text[1000] = '1';
    text[1001] = ']'; /* a number of exactly 1000 bytes */
    cr_assert_eq(json_parse((struct str){ text, 1002 }, "t", &v, &e), ST_OK, "%s", e.msg);
    json_free(v);
    text[1001] = '0';
    text[1002] = ']';
    cr_expect_eq(json_parse((struct str){ text, 1003 }, "t", &v, &e), ST_FORMAT);
    cr_expect_not_null(strstr(e.msg, "1000 bytes"), "%s", e.msg);
    err_clear(&e);
    text[1] = text[1001] = '"'; /* a string may be as long as it likes */
    cr_expect_eq(json_parse((struct str){ text, 1003 }, "t", &v, &e), ST_OK, "%s", e.msg);
    json_free(v);
}

Test(json, depth_and_duplicates_are_refused)
{
    struct err e = ERR_INIT;
    json_t *d;
    struct buf b = BUF_INIT;
    for (int i = 0; i < JSON_DEPTH_MAX + 1; i++)
        buf_char(&b, '[');
    cr_expect_eq(json_parse(buf_view(&b), "t", &d, &e), ST_FORMAT);
    cr_expect_not_null(strstr(e.msg, "nested deeper"));
    buf_clear(&b);
    err_clear(&e);
    cr_expect_eq(json_parse_unique(STR("{\"a\":1,\"a\":2}"), "t", &d, &e), ST_FORMAT);
}

Test(json, quoting_round_trips_any_bytes)
{
    struct str in = STR("a\"\\\n\x01\x7F\xFFz\xE2\x82\xAC");
    struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    json_t *d;
    json_quote(&b, in);
    cr_assert_eq(json_parse(buf_view(&b), "t", &d, &e), ST_OK, "%s", e.msg);
    cr_expect_str_eq(json_string_value(d), "a\"\\\n\x01\x7F\xEF\xBF\xBDz\xE2\x82\xAC");
    json_free(d);
    buf_clear(&b);
}

Test(json, a_member_that_nobody_knows_is_named_with_what_was_meant)
{
    static const char *const names[] = { "mode", "budget" };
    static const struct {
        const char *text, *which, *says;
    } cases[] = {
        { "{}", NULL, "" },
        { "{\"budget\":1,\"mode\":null}", NULL, "" },
        { "{\"mode\":1,\"bugdet\":2}", "bugdet", "'bugdet'; did you mean 'budget'?" },
        { "{\"colour\":1}", "colour", "there is no setting 'colour'" },
        { "{\"\":1}", "", "there is no setting ''" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = ERR_INIT;
        json_t *d = NULL;
        const char *which = NULL;
        cr_assert_eq(json_parse(str_c(cases[i].text), "t", &d, &e), ST_OK, "%s", e.msg);
        enum status st = json_only_keys(d, names, 2, &which, &e);
        cr_expect_eq(st, cases[i].which ? ST_ARG : ST_OK, "%s", cases[i].text);
        cr_expect(cases[i].which ? which && strcmp(which, cases[i].which) == 0 : !which);
        cr_expect(strstr(e.msg, cases[i].says), "%s", e.msg);
        cr_expect(cases[i].says[0] == '\'' || !strstr(e.msg, "mean"), "%s", e.msg);
        json_free(d);
    }
}

/* y_ must parse, n_ must not, i_ may do either but must not crash. The one exception is documented
 * in json.h: jansson cannot hold a key with a NUL. */
Test(json, the_public_test_suite_is_answered_as_it_asks)
{
    char dir[4096], path[8192];
    if (!data_path("json/test_parsing", dir)) {
        data_skip("json suite", "json/test_parsing");
        return;
    }
    DIR *dp = opendir(dir);
    size_t seen = 0;
    for (struct dirent *de; (de = readdir(dp));) {
        char kind = de->d_name[0];
        if (de->d_name[1] != '_' || strcmp(de->d_name, "y_object_escaped_null_in_key.json") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, de->d_name);
        size_t n;
        char *text = data_read(path, &n);
        struct err e = ERR_INIT;
        json_t *d = NULL;
        enum status st = json_parse((struct str){ text, n }, de->d_name, &d, &e);
        cr_expect(kind == 'i' || (st == ST_OK) == (kind == 'y'), "%s: %s", de->d_name, e.msg);
        json_free(d);
        free(text);
        seen++;
    }
    closedir(dp);
    cr_expect_gt(seen, 300u);
}
