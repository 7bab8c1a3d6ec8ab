/* tests/unit/io/test_stamp.c - what is noticed of a file that is written to while it is open. */
#include "engine/io/internal.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BYTES = 300 * STAMP_PAGE + 77 };

struct fixture {
    char path[64];
    int fd;
};

static void write_all(const struct fixture *f, size_t bytes, unsigned seed)
{
    unsigned char *p = malloc(bytes + 1);
    int fd = open(f->path, O_WRONLY | O_CLOEXEC);
    cr_assert(p && fd >= 0);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)((i * 7 + i / 251 + seed) % 255);
    cr_assert_eq(write(fd, p, bytes), (ssize_t)bytes);
    cr_assert_eq(fsync(fd), 0);
    close(fd);
    free(p);
}

/* The clock of a file system may stand still for some milliseconds. */
static void set_changed(const struct fixture *f, time_t s)
{
    const struct timespec at[2] = { { .tv_sec = s }, { .tv_sec = s } };
    cr_assert_eq(utimensat(AT_FDCWD, f->path, at, 0), 0);
}

static struct fixture make(size_t bytes)
{
    struct fixture f = { .path = "/tmp/strobe-stamp-XXXXXX" };
    close(mkstemp(f.path));
    write_all(&f, bytes, 1);
    set_changed(&f, 1000);
    f.fd = open(f.path, O_RDONLY | O_CLOEXEC);
    cr_assert(f.fd >= 0);
    return f;
}

static void drop(struct fixture *f)
{
    close(f->fd);
    unlink(f->path);
}

static bool same(const struct fixture *f, struct stamp *s)
{
    struct err err = ERR_INIT;
    bool ret;
    cr_assert_eq(stamp_check(f->fd, s, &ret, &err), ST_OK, "%s", err.msg);
    return ret;
}

Test(stamp, other_bytes_are_noticed_whatever_the_size_and_the_same_bytes_are_not)
{
    static const size_t sizes[] = { 0, 1, STAMP_PAGE - 1, STAMP_PAGE, 3 * STAMP_PAGE + 1, BYTES };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct fixture f = make(sizes[i]);
        struct stamp s;
        struct err err = ERR_INIT;
        cr_assert_eq(stamp_take(f.fd, &s, &err), ST_OK, "%s", err.msg);
        cr_expect(same(&f, &s), "%zu bytes", sizes[i]);
        write_all(&f, sizes[i], 1);
        set_changed(&f, 2000);
        cr_expect(same(&f, &s), "%zu bytes, written again", sizes[i]);
        write_all(&f, sizes[i], 2);
        set_changed(&f, 3000);
        cr_expect_eq(same(&f, &s), sizes[i] == 0, "%zu bytes, others", sizes[i]);
        cr_expect_eq(same(&f, &s), sizes[i] == 0, "%zu bytes, others, asked again", sizes[i]);
        drop(&f);
    }
}

/* Copying over a file cuts it first: what is there already is other bytes. */
Test(stamp, a_cut_file_is_left_to_its_reads_and_a_half_copied_one_is_not)
{
    struct fixture f = make(BYTES);
    struct stamp s;
    struct err err = ERR_INIT;
    cr_assert_eq(stamp_take(f.fd, &s, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(truncate(f.path, 100 * STAMP_PAGE), 0);
    set_changed(&f, 2000);
    cr_expect(same(&f, &s));
    write_all(&f, 20 * STAMP_PAGE, 2);
    set_changed(&f, 2000); /* the same time again: the size has moved */
    cr_expect(!same(&f, &s));
    write_all(&f, BYTES, 1);
    set_changed(&f, 4000);
    cr_expect(same(&f, &s), "whole again");
    drop(&f);
}

Test(stamp, a_source_that_was_overwritten_says_so_for_good)
{
    static const enum source_kind kinds[] = { SOURCE_AUTO, SOURCE_PREAD, SOURCE_BUFFERED,
                                              SOURCE_MMAP };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct fixture f = make(BYTES);
        const char *path = f.path;
        struct source *s;
        struct err err = ERR_INIT;
        if (source_open(&path, 1, (struct source_opts){ kinds[k], 0, false }, &s, &err) != ST_OK) {
            fprintf(stderr, "SKIPPED: a source of kind %d: %s\n", (int)kinds[k], err.msg);
            drop(&f);
            continue;
        }
        cr_expect_eq(source_check(s, &err), ST_OK, "nothing is remembered");
        cr_assert_eq(source_remember(s, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(source_check(s, &err), ST_OK, "%s", err.msg);
        write_all(&f, BYTES, 2);
        set_changed(&f, 2000);
        cr_expect_eq(source_check(s, &err), ST_FORMAT, "%s", source_name(s));
        cr_expect(strstr(err.msg, f.path) && strstr(err.msg, "overwritten"), "%s", err.msg);
        err_clear(&err);
        write_all(&f, BYTES, 1);
        set_changed(&f, 3000);
        cr_expect_eq(source_check(s, &err), ST_FORMAT, "what was read meanwhile is still there");
        source_close(s);
        drop(&f);
    }
}
