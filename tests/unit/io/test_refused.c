/* tests/unit/io/test_refused.c - where the system refuses a mechanism, as containers do, opening
 * falls back and the bytes are the same. Each test narrows its own (forked) process for good. */
#include "engine/base/rng.h"
#include "engine/io/source.h"
#include "tests/support/refuse.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, N_PAGE = 64, FILE_BYTES = N_PAGE * PAGE - 100 };

struct fixture {
    char path[64];
    unsigned char *want;
};

static void setup(struct fixture *f)
{
    struct rng rng = { 21 };
    snprintf(f->path, sizeof f->path, "/tmp/strobe-refused-XXXXXX");
    int fd = mkstemp(f->path);
    f->want = malloc(FILE_BYTES);
    cr_assert(fd >= 0 && f->want);
    for (size_t i = 0; i < FILE_BYTES; i++)
        f->want[i] = (unsigned char)rng_u64(&rng);
    cr_assert_eq(write(fd, f->want, FILE_BYTES), (ssize_t)FILE_BYTES);
    cr_assert_eq(fchmod(fd, 0644), 0);
    fsync(fd);
    close(fd);
}

static void teardown(struct fixture *f)
{
    unlink(f->path);
    free(f->want);
}

static enum status open_kind(const struct fixture *f, enum source_kind kind, struct source **ret,
                             struct err *err)
{
    const char *path = f->path;
    return source_open(&path, 1, (struct source_opts){ kind, 0 }, ret, err);
}

/* Every page of the file, all requests at once as far as there is room. */
static void read_all(const struct fixture *f, struct source *s)
{
    struct source_req req[N_PAGE] = { 0 }, *done[N_PAGE];
    unsigned char *mem = aligned_alloc(PAGE, (size_t)N_PAGE * PAGE);
    size_t sent = 0, back = 0;
    cr_assert(mem);
    while (back < N_PAGE) {
        for (; sent < N_PAGE; sent++) {
            struct source_req *r = &req[sent];
            size_t left = FILE_BYTES - sent * PAGE;
            r->offset = sent * PAGE;
            r->len = PAGE;
            r->need = left < PAGE ? left : PAGE;
            r->dst = mem + sent * PAGE;
            if (source_submit(s, &r, 1) == 0)
                break;
        }
        size_t n = source_wait(s, done, N_PAGE, 1);
        for (size_t i = 0; i < n; i++)
            cr_expect_eq(done[i]->err.code, ST_OK, "%s", done[i]->err.msg);
        back += n;
    }
    cr_expect_eq(memcmp(mem, f->want, FILE_BYTES), 0, "%s gives other bytes", source_name(s));
    free(mem);
}

/* What a source of this kind says now; AUTO must be `want`, and read. */
static void expect_fallback(const struct fixture *f, int uring_errno, const char *want)
{
    struct source *s = NULL;
    struct err err = ERR_INIT;
    cr_expect_neq(open_kind(f, SOURCE_URING, &s, &err), ST_OK);
    cr_expect_null(s);
    if (err.code != ST_UNSUPPORTED) /* a build without io_uring */
        cr_expect_eq(err.os, uring_errno, "%s", err.msg);
    err_clear(&err);
    cr_assert_eq(open_kind(f, SOURCE_AUTO, &s, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(source_name(s), want);
    read_all(f, s);
    source_close(s);
}

/* True: the file system of /tmp reads directly at all, so that a fallback has a name to check. */
static bool direct_here(const struct fixture *f)
{
    struct source *s = NULL;
    struct err err = ERR_INIT;
    if (open_kind(f, SOURCE_PREAD, &s, &err) != ST_OK) {
        fprintf(stderr, "SKIPPED: this fallback needs direct reads in /tmp: %s\n", err.msg);
        return false;
    }
    source_close(s);
    return true;
}

Test(refused, no_ring_set_up_means_pread)
{
    struct fixture f;
    setup(&f);
    if (direct_here(&f)) {
        refuse(SYS_io_uring_setup, 0, 0, EPERM);
        expect_fallback(&f, EPERM, "pread+direct");
    }
    teardown(&f);
}

Test(refused, a_ring_that_may_not_be_used_means_pread)
{
    struct fixture f;
    setup(&f);
    if (direct_here(&f)) {
        refuse(SYS_io_uring_enter, 0, 0, ENOSYS);
        expect_fallback(&f, ENOSYS, "pread+direct");
    }
    teardown(&f);
}

Test(refused, no_direct_reads_means_buffered)
{
    struct fixture f;
    struct source *s = NULL;
    struct err err = ERR_INIT;
    setup(&f);
    refuse(SYS_openat, 2, O_DIRECT, EINVAL);
    cr_expect_eq(open_kind(&f, SOURCE_PREAD, &s, &err), ST_UNSUPPORTED, "%s", err.msg);
    cr_expect(strstr(err.msg, f.path), "%s", err.msg);
    expect_fallback(&f, 0, "buffered");
    teardown(&f);
}

/* 64 kB, the default of many systems, for a user without privileges. */
Test(refused, little_lockable_memory_is_enough)
{
    struct fixture f;
    struct source *s = NULL;
    struct err err = ERR_INIT;
    struct rlimit low = { 64 << 10, 64 << 10 };
    setup(&f);
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &low), 0);
    if (getuid() == 0)
        cr_assert_eq(setresuid((uid_t)-1, 65534, (uid_t)-1), 0);
    cr_assert_eq(open_kind(&f, SOURCE_AUTO, &s, &err), ST_OK, "%s", err.msg);
    read_all(&f, s);
    source_close(s);
    cr_assert_eq(seteuid(getuid()), 0);
    cr_assert_eq(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0); /* the leak check reads our memory */
    teardown(&f);
}

/* Reads are made by threads; without any there is no source. */
Test(refused, no_threads_is_an_error)
{
    struct fixture f;
    struct source *s = NULL;
    struct err err = ERR_INIT;
    setup(&f);
    refuse(SYS_clone3, 0, 0, EAGAIN);
    refuse(SYS_clone, 0, CLONE_THREAD, EAGAIN); /* processes are fine: the leak check makes one */
    cr_expect_eq(open_kind(&f, SOURCE_BUFFERED, &s, &err), ST_IO, "%s", err.msg);
    cr_expect_eq(err.os, EAGAIN);
    cr_expect_null(s);
    teardown(&f);
}

/* One request of more than a system call reads. The file is a hole but for its end, and the buffer
 * is one 2 MiB page range mapped again and again: what is read last stays. (Buffered reads go the
 * way of SOURCE_PREAD and would only fill the page cache.) */
static void read_long(const char *path, const unsigned char *tail, unsigned char *dst,
                      enum source_kind kind)
{
    const uint64_t skip = (uint64_t)2 << 30;
    struct source *s = NULL;
    struct err err = ERR_INIT;
    struct source_req r = { .len = skip + 2 * PAGE, .need = skip + 2 * PAGE, .dst = dst }, *p = &r;
    if (source_open(&path, 1, (struct source_opts){ kind, 1 }, &s, &err) != ST_OK) {
        fprintf(stderr, "SKIPPED: a source of kind %d needs another kernel: %s\n", kind, err.msg);
        return;
    }
    cr_assert_eq(source_submit(s, &p, 1), 1u);
    cr_assert_eq(source_wait(s, &p, 1, 1), 1u);
    cr_expect_eq(r.err.code, ST_OK, "%s: %s", source_name(s), r.err.msg);
    cr_expect_eq(r.got, r.len);
    cr_expect_eq(memcmp(dst + skip, tail, 2 * PAGE), 0, "%s", source_name(s));
    memset(dst + skip, 0, 2 * PAGE);
    source_close(s);
}

Test(refused, a_request_beyond_two_gigabytes_is_read_in_parts, .timeout = 600)
{
    const size_t skip = (size_t)2 << 30, range = 2 << 20, all = skip + range;
    char path[] = "/tmp/strobe-long-XXXXXX";
    unsigned char tail[2 * PAGE];
    struct rng rng = { 4 };
    int fd = mkstemp(path), mem = memfd_create("alias", MFD_CLOEXEC);
    cr_assert(fd >= 0 && mem >= 0 && ftruncate(mem, (off_t)range) == 0);
    for (size_t i = 0; i < sizeof tail; i++)
        tail[i] = (unsigned char)rng_u64(&rng);
    cr_assert_eq(pwrite(fd, tail, sizeof tail, (off_t)skip), (ssize_t)sizeof tail);
    fsync(fd);
    close(fd);
    unsigned char *dst = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(dst != MAP_FAILED);
    for (size_t at = 0; at < all; at += range)
        cr_assert(mmap(dst + at, range, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, mem, 0) !=
                  MAP_FAILED);
    read_long(path, tail, dst, SOURCE_URING);
    read_long(path, tail, dst, SOURCE_PREAD);
    munmap(dst, all);
    close(mem);
    unlink(path);
}
