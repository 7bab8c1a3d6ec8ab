/* tests/fault/test_file.c - pieces of a file when the system refuses, comes short, is interrupted,
 * or the file ends: engine/base/file.h. */
#include "engine/base/file.h"
#include "tests/support/fault.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- writes, which fault.c leaves alone: there they would be events of descriptors too ---- */

static ssize_t spoil(size_t *n)
{
    bool full = fault_due(FAULT_READ);
    if (full || fault_due(FAULT_INTR)) {
        errno = full ? ENOSPC : EINTR;
        return -1;
    }
    if (fault_due(FAULT_END))
        return 0;
    *n = fault_due(FAULT_SHORT) && *n > 1 ? *n / 2 : *n;
    return 1;
}

ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    ssize_t r = spoil(&n);
    return r > 0 ? __real_write(fd, p, n) : r;
}

ssize_t __real_pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t at)
{
    ssize_t r = spoil(&n);
    return r > 0 ? __real_pwrite64(fd, p, n, at) : r;
}

/* ---- one file ---- */

enum { N = 1000, AT = 100, PIECE = 700 };

static char path[64];
static int fd = -1;
static unsigned char all[N];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/strobe-fault-file-XXXXXX");
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    for (size_t i = 0; i < N; i++)
        all[i] = (unsigned char)(i * 7 + i / 256);
    cr_assert_eq(__real_pwrite64(fd, all, N, 0), N);
}

static void teardown(void)
{
    close(fd);
    unlink(path);
}

TestSuite(file, .init = setup, .fini = teardown, .timeout = 600);

/* What a caller must not see: every call takes half of what is left, or the first is interrupted.
 */
static const struct harmless {
    enum fault fault;
    bool forever;
    unsigned calls; /* at least */
} harmless[] = { { FAULT_SHORT, true, 9 }, { FAULT_INTR, false, 2 } };

static void expect_says(const struct err *err, const char *what)
{
    cr_expect(strstr(err->msg, what), "'%s' does not say %s", err->msg, what);
}

Test(file, a_piece_comes_whole_however_often_reads_come_short_or_are_interrupted)
{
    for (size_t k = 0; k < 4; k++) {
        const struct harmless *h = &harmless[k / 2];
        unsigned char got[PIECE] = { 0 };
        struct err err = ERR_INIT;
        size_t n = PIECE;
        fault_arm(h->fault, 1, h->forever);
        if (k % 2)
            file_read_at(fd, got, PIECE, AT, path, &err);
        else
            file_read_upto(fd, got, PIECE, AT, &n, &err);
        cr_expect_geq(fault_disarm(), h->calls);
        cr_expect_eq(err.code, ST_OK, "%s", err.msg);
        cr_expect_eq(n, PIECE);
        cr_expect_arr_eq(got, all + AT, PIECE);
    }
    cr_expect_eq(lseek(fd, 0, SEEK_CUR), 0, "the descriptor's offset does not move");
}

Test(file, a_refused_read_names_the_file_and_the_byte)
{
    unsigned char got[PIECE];
    char where[128];
    struct err err = ERR_INIT;
    size_t n = 12345;
    fault_arm(FAULT_READ, 1, false);
    cr_expect_eq(file_read_at(fd, got, PIECE, AT, path, &err), ST_IO);
    fault_disarm();
    snprintf(where, sizeof where, "'%s' at byte 100: read: Input/output error", path);
    cr_expect_str_eq(err.msg, where);
    cr_expect_eq(err.os, EIO);
    err_clear(&err);
    fault_arm(FAULT_READ, 1, false);
    cr_expect_eq(file_read_at(fd, got, PIECE, AT, NULL, &err), ST_IO);
    fault_disarm();
    cr_expect_str_eq(err.msg, "at byte 100: read: Input/output error");
    err_clear(&err);
    fault_arm(FAULT_READ, 1, false);
    cr_expect_eq(file_read_upto(fd, got, PIECE, AT, &n, &err), ST_IO);
    fault_disarm();
    cr_expect_str_eq(err.msg, "at byte 100: read: Input/output error");
    cr_expect_eq(n, 12345u, "untouched");
}

Test(file, a_file_that_ends_in_the_piece_was_truncated)
{
    unsigned char got[PIECE];
    char where[160];
    struct err err = ERR_INIT;
    size_t n = 0;
    cr_expect_eq(file_read_at(fd, got, PIECE, N - 10, path, &err), ST_FORMAT);
    snprintf(where, sizeof where, "'%s' ends at or before byte 1000 while in use: it was truncated",
             path);
    cr_expect_str_eq(err.msg, where);
    err_clear(&err);
    fault_arm(FAULT_END, 1, false);
    cr_expect_eq(file_read_at(fd, got, PIECE, AT, NULL, &err), ST_FORMAT);
    fault_disarm();
    cr_expect_str_eq(err.msg, "ends at or before byte 100 while in use: it was truncated");
    err_clear(&err);
    cr_expect_eq(file_read_upto(fd, got, PIECE, N - 10, &n, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(n, 10u);
    cr_expect_arr_eq(got, all + N - 10, 10);
    cr_expect_eq(file_read_upto(fd, got, PIECE, N + 5, &n, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(n, 0u);
    cr_expect_eq(file_read_at(fd, got, 0, N + 5, path, &err), ST_OK, "nothing is always there");
}

static enum status write_piece(bool at_place, const void *p, size_t n, struct err *err)
{
    if (at_place)
        return file_write_at(fd, p, n, AT, path, err);
    cr_assert_eq(lseek(fd, AT, SEEK_SET), AT);
    return file_write(fd, p, n, path, err);
}

Test(file, a_piece_is_written_whole_however_often_writes_come_short_or_are_interrupted)
{
    unsigned char want[N], got[N];
    for (size_t i = 0; i < N; i++)
        want[i] = (unsigned char)(i * 11 + 3);
    for (size_t k = 0; k < 4; k++) {
        const struct harmless *h = &harmless[k / 2];
        struct err err = ERR_INIT;
        cr_assert_eq(__real_pwrite64(fd, all, N, 0), N);
        fault_arm(h->fault, 1, h->forever);
        cr_expect_eq(write_piece(k % 2, want, PIECE, &err), ST_OK, "%s", err.msg);
        cr_expect_geq(fault_disarm(), h->calls);
        cr_expect_eq(file_read_at(fd, got, N, 0, path, &err), ST_OK, "%s", err.msg);
        cr_expect_arr_eq(got, all, AT);
        cr_expect_arr_eq(got + AT, want, PIECE);
        cr_expect_arr_eq(got + AT + PIECE, all + AT + PIECE, N - AT - PIECE);
    }
}

Test(file, a_refused_write_names_the_file)
{
    for (int k = 0; k < 4; k++) {
        struct err err = ERR_INIT;
        fault_arm(k / 2 ? FAULT_END : FAULT_READ, 1,
                  false); /* nothing was taken; the disk is full */
        cr_expect_eq(write_piece(k % 2, all, PIECE, &err), ST_IO);
        fault_disarm();
        cr_expect_eq(err.os, k / 2 ? EIO : ENOSPC);
        expect_says(&err, path);
        if (k % 2)
            expect_says(&err, "at byte 100");
    }
}
