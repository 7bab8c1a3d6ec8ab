#include "server/auth.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Loads keys from a file of these bytes. */
static enum status load(struct auth *a, const char *bytes, size_t n, struct err *err)
{
    char path[] = "/tmp/strobe-keys-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
    *a = (struct auth){ 0 };
    enum status st = auth_load(a, path, err);
    unlink(path);
    return st;
}

Test(auth, key_files_hold_one_key_a_line)
{
    static const char text[] = "# a comment\n\n  spaced-key \t\nlast-key-without-newline";
    struct auth a;
    struct err err = ERR_INIT;
    cr_assert_eq(load(&a, text, sizeof text - 1, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(a.n, 2);
    cr_expect_str_eq(a.key[0], "spaced-key");
    cr_expect_str_eq(a.key[1], "last-key-without-newline");
    auth_clear(&a);
    cr_expect_eq(a.n, 0);
}

Test(auth, unusable_key_files_are_refused)
{
    char longest[600];
    memset(longest, 'k', sizeof longest);
    const struct {
        const char *what, *bytes;
        size_t n;
        enum status st;
    } cases[] = {
        { "empty", "", 0, ST_ARG },
        { "comments only", "# a\n\n#b\n", 8, ST_ARG },
        { "a line too long", longest, sizeof longest, ST_RANGE },
        { "the longest key and one more", longest, 512, ST_RANGE },
        { "UTF-16 text, whose first key would be one letter", "\xFF\xFEk\0e\0y\0\n\0", 10,
          ST_FORMAT },
        { "a NUL in a key", "ab\0cd\n", 6, ST_FORMAT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct auth a;
        struct err err = ERR_INIT;
        cr_expect_eq(load(&a, cases[i].bytes, cases[i].n, &err), cases[i].st, "%s: %d %s",
                     cases[i].what, err.code, err.msg);
        auth_clear(&a);
    }
    struct auth a = { 0 };
    struct err err = ERR_INIT;
    cr_expect_neq(auth_load(&a, "/no/such/keys", &err), ST_OK);
    cr_expect_not_null(strstr(err.msg, "/no/such/keys"));
    cr_expect_eq(auth_load(&a, "/dev/zero", (err_clear(&err), &err)), ST_RANGE, "%s", err.msg);
    cr_assert_eq(load(&a, longest, 511, (err_clear(&err), &err)), ST_OK, "%s", err.msg);
    auth_clear(&a);
}

Test(auth, only_a_whole_key_opens)
{
    char *keys[] = { "alpha-key", "beta" };
    struct auth a = { .key = keys, .n = 2 }, open = { 0 };
    const struct {
        const char *header;
        bool ok;
    } cases[] = {
        { "Bearer alpha-key", true },
        { "bearer beta", true },
        { "BEARER beta", true },
        { NULL, false },
        { "", false },
        { "Bearer", false },
        { "Bearer ", false },
        { "Bearer alpha-ke", false },
        { "Bearer alpha-key2", false },
        { "Bearer Alpha-key", false },
        { "Bearer  beta", false },
        { "Bearer beta ", false },
        { "Basic beta", false },
        { "beta", false },
        { "Bearer alpha-key,beta", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_eq(auth_allows(&a, cases[i].header), cases[i].ok, "'%s'",
                     cases[i].header ? cases[i].header : "(none)");
    cr_expect(auth_allows(&open, NULL), "no keys: open");
}

Test(auth, hosts_on_loopback_are_loopback_names)
{
    static const char *const good[] = { "localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:1",
                                        "127.8.9.1", "[::1]",        "[::1]:80" };
    static const char *const wrong[] = { "evil.example",
                                         "127.0.0.1.evil.example",
                                         "localhost.evil",
                                         "128.0.0.1",
                                         "[::1].evil.example",
                                         "[::1]x",
                                         "[::2]",
                                         "",
                                         "0.0.0.0",
                                         "localhost@evil" };
    struct auth local = { .loopback = true }, wide = { 0 };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_expect(auth_host_ok(&local, good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_expect_not(auth_host_ok(&local, wrong[i]), "'%s'", wrong[i]);
        cr_expect(auth_host_ok(&wide, wrong[i]), "any name, as keys guard: '%s'", wrong[i]);
    }
    cr_expect(auth_host_ok(&local, NULL));
}

Test(auth, what_no_browser_sends_is_no_origin)
{
    static const char *const good[] = { "*", "http://localhost:3000", "https://ui.example",
                                        "http://[::1]:80", "app://x" };
    static const char *const bad[] = { "",           "ui.example",       "http://", "://x",
                                       "http://a/",  "http://a/path",    "**",      "http://a b",
                                       "http://a\n", "http://a,http://b" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_expect(auth_origin_plausible(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_not(auth_origin_plausible(bad[i]), "%s", bad[i]);
}

Test(auth, foreign_pages_are_kept_out_unless_named_or_keyed)
{
    char *keys[] = { "k" };
    struct auth open = { .loopback = true }, keyed = { .key = keys, .n = 1 };
    const char *host = "localhost:8080";
    const struct {
        const char *origin, *cors;
        bool ok;
    } cases[] = {
        { NULL, NULL, true },
        { "http://localhost:8080", NULL, true },
        { "https://LOCALHOST:8080", NULL, true },
        { "http://localhost:8081", NULL, false },
        { "http://localhost:8080.evil", NULL, false },
        { "http://evil.example", NULL, false },
        { "null", NULL, false },
        { "", NULL, false },
        { "https://ui.example", "https://ui.example", true },
        { "https://ui.example.evil", "https://ui.example", false },
        { "https://any.example", "*", true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *name = cases[i].origin ? cases[i].origin : "(none)";
        cr_expect_eq(auth_origin_ok(&open, cases[i].origin, host, cases[i].cors), cases[i].ok, "%s",
                     name);
        cr_expect(auth_origin_ok(&keyed, cases[i].origin, host, cases[i].cors), "keyed: %s", name);
    }
    cr_expect_not(auth_origin_ok(&open, "http://localhost", NULL, NULL));
}
