#include "engine/base/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(err, the_first_cause_wins)
{
    struct err e = ERR_INIT;
    cr_expect_eq(err_set(&e, ST_RANGE, "first %d", 1), ST_RANGE);
    cr_expect_eq(err_set(&e, ST_NOMEM, "second"), ST_RANGE);
    cr_expect_str_eq(e.msg, "first 1");
}

Test(err, context_is_put_in_front)
{
    struct err e = ERR_INIT;
    err_sys(&e, ENOENT, "open");
    cr_expect_eq(e.code, ST_NOTFOUND);
    cr_expect_eq(e.os, ENOENT);
    cr_expect_eq(err_ctx(&e, "model '%s'", "x.gguf"), ST_NOTFOUND);
    cr_expect_str_eq(e.msg, "model 'x.gguf': open: No such file or directory");
}

Test(err, a_file_that_cannot_be_read_is_unusable_and_not_a_failed_disk)
{
    static const struct {
        int os;
        enum status sys, input;
    } cases[] = {
        { ENOENT, ST_NOTFOUND, ST_NOTFOUND },
        { ENOTDIR, ST_IO, ST_NOTFOUND },
        { ELOOP, ST_IO, ST_NOTFOUND },
        { ENAMETOOLONG, ST_IO, ST_NOTFOUND },
        { EISDIR, ST_IO, ST_FORMAT },
        { EACCES, ST_IO, ST_FORMAT },
        { EIO, ST_IO, ST_IO },
        { ENOSPC, ST_IO, ST_IO },
        { ENOMEM, ST_NOMEM, ST_NOMEM },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err a = ERR_INIT, b = ERR_INIT;
        cr_expect_eq(err_sys(&a, cases[i].os, "open"), cases[i].sys, "%s", a.msg);
        cr_expect_eq(err_input(&b, cases[i].os, "open"), cases[i].input, "%s", b.msg);
        cr_expect_eq(b.os, cases[i].os);
    }
}

Test(err, long_messages_are_cut_between_characters)
{
    char text[2 * ERR_MSG_MAX] = "";
    while (strlen(text) + 3 < sizeof text)
        memcpy(text + strlen(text), "\xE2\x82\xAC", 4);
    for (size_t lead = 0; lead < 3; lead++) {
        struct err e = ERR_INIT;
        err_set(&e, ST_ARG, "%.*s%s", (int)lead, "aa", text);
        size_t n = strlen(e.msg);
        cr_expect_lt(n, (size_t)ERR_MSG_MAX);
        cr_expect_eq((n - lead) % 3, 0u, "lead %zu: length %zu", lead, n);
    }
}
