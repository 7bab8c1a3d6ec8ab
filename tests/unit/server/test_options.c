#include "server/options.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 24 };

struct words {
    bool flag;
    const char *text;
    struct opt_strs list;
    uint64_t count, size;
    double real;
    const char *rest[2];
    size_t n_rest;
};

/* Splits text at blanks and parses it. */
static enum status parse(const char *text, struct words *w, struct err *err)
{
    static char copy[400];
    char *argv[WORDS_MAX], *save = NULL;
    int argc = 0;
    *w = (struct words){ .count = 7, .real = 0.5 };
    const struct opt opt[] = {
        { "flag", 'f', OPT_FLAG, &w->flag, .help = "a flag" },
        { "text", 't', OPT_STR, &w->text, 0, 0, "TEXT", "a text" },
        { "list", 0, OPT_STRS, &w->list, 0, 0, "TEXT", "texts" },
        { "count", 'n', OPT_COUNT, &w->count, 2, 65535, "N", "a count" },
        { "real", 0, OPT_REAL, &w->real, 0, 2, "R", "a number" },
        { "size", 0, OPT_SIZE, &w->size, 16, 0, "SIZE", "bytes" },
    };
    const struct opt_table t = { "prog", "about", opt, sizeof opt / sizeof opt[0] };
    snprintf(copy, sizeof copy, "%s", text);
    for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save))
        argv[argc++] = p;
    return opt_parse(&t, argc, argv, w->rest, 2, &w->n_rest, err);
}

Test(options, values_stand_behind_or_inside_the_word)
{
    struct words w;
    struct err err = ERR_INIT;
    cr_assert_eq(
        parse("-f a -t b --count=2 --real 2 --size 3KiB --list x --list=y -- --flag", &w, &err),
        ST_OK, "%s", err.msg);
    cr_expect(w.flag);
    cr_expect_str_eq(w.text, "b");
    cr_expect_eq(w.count, 2);
    cr_expect_eq(w.real, 2);
    cr_expect_eq(w.size, 3072);
    cr_expect_eq(w.list.n, 2);
    cr_expect_str_eq(w.list.v[1], "y");
    cr_assert_eq(w.n_rest, 2);
    cr_expect_str_eq(w.rest[0], "a");
    cr_expect_str_eq(w.rest[1], "--flag", "behind -- nothing is an option");
    cr_assert_eq(parse("--text= -5 -", &w, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(w.text, "");
    cr_expect_str_eq(w.rest[0], "-5", "a negative number is a word");
    cr_expect_eq(w.count, 7, "what is not given keeps its value");
    cr_assert_eq(parse("--count 65535 --count 3 --text --flag", &w, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(w.count, 3, "the last one counts");
    cr_expect_str_eq(w.text, "--flag", "a value may look like an option");
}

Test(options, mistakes_are_refused_and_name_the_option)
{
    static const struct {
        const char *words, *named;
        enum status st;
    } cases[] = {
        { "--fly", "--fly", ST_ARG },
        { "-x", "-x", ST_ARG },
        { "-fn", "-fn", ST_ARG },
        { "--coun 3", "did you mean '--count'?", ST_ARG },
        { "--sise=3", "did you mean '--size'?", ST_ARG },
        { "---", "'---' (", ST_ARG },
        { "--flag=1", "--flag", ST_ARG },
        { "--count", "--count", ST_ARG },
        { "-n", "--count", ST_ARG },
        { "--count 1", "--count", ST_RANGE },
        { "--count 65536", "--count", ST_RANGE },
        { "--count -3", "--count", ST_ARG },
        { "--count 3x", "--count", ST_ARG },
        { "--count=", "--count", ST_ARG },
        { "--count 1.5", "--count", ST_ARG },
        { "--count 0x10", "--count", ST_ARG },
        { "--count 99999999999999999999", "--count", ST_RANGE },
        { "--real 2.001", "--real", ST_RANGE },
        { "--real -0.1", "--real", ST_RANGE },
        { "--real nan", "--real", ST_ARG },
        { "--real one", "--real", ST_ARG },
        { "--size 5parsec", "--size", ST_ARG },
        { "--size -1", "--size", ST_ARG },
        { "--size 99999999TiB", "--size", ST_RANGE },
        { "--size 0", "--size", ST_RANGE },
        { "--size 15", "16 bytes", ST_RANGE },
        { "a b c", "c", ST_ARG },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct words w;
        struct err err = ERR_INIT;
        enum status st = parse(cases[i].words, &w, &err);
        /* Both are exit code 2. */
        cr_expect(st == ST_ARG || st == ST_RANGE, "'%s': %d %s", cases[i].words, st, err.msg);
        cr_expect_eq(st, cases[i].st, "'%s': %d %s", cases[i].words, st, err.msg);
        cr_expect_not_null(strstr(err.msg, cases[i].named), "'%s': %s", cases[i].words, err.msg);
    }
}

Test(options, a_list_has_a_limit)
{
    char text[400] = "";
    struct words w;
    struct err err = ERR_INIT;
    for (int i = 0; i < OPT_STRS_MAX; i++)
        strncat(text, "--list=a ", sizeof text - strlen(text) - 1);
    cr_expect_eq(parse(text, &w, &err), ST_OK, "%s", err.msg);
    strncat(text, "--list=a", sizeof text - strlen(text) - 1);
    cr_expect_eq(parse(text, &w, &err), ST_RANGE);
}

Test(options, help_has_a_line_for_every_option)
{
    const struct opt opt[] = {
        { "flag", 'f', OPT_FLAG, NULL, .help = "a flag" },
        { "count", 0, OPT_COUNT, NULL, 2, 9, "N", "a count" },
    };
    const struct opt_table t = { "prog [options]", "About.", opt, 2 };
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    opt_help(&t, f);
    fclose(f);
    cr_expect_str_eq(text, "usage: prog [options]\n\nAbout.\n\noptions:\n"
                           "  -f, --flag                   a flag\n"
                           "      --count N                a count\n");
    free(text);
}
