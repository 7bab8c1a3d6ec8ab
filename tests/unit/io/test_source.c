/* tests/unit/io/test_source.c - one body over every kind of source: what a caller sees must not
 * depend on the mechanism. */
#include "engine/base/rng.h"
#include "engine/io/internal.h"
#include "engine/io/source.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, FILE_A = 5 * PAGE * 16 + 1234, FILE_B = PAGE / 2, N_REQ = 64 };

/* io_uring on a thread of its own, as one more kind. */
enum { HELPED = SOURCE_MMAP + 1 };
static const int kinds[] = { SOURCE_URING,    HELPED,      SOURCE_PREAD,
                             SOURCE_BUFFERED, SOURCE_MMAP, SOURCE_AUTO };
enum { N_KIND = sizeof kinds / sizeof kinds[0] };

static struct source_opts opts_of(int kind, uint32_t depth)
{
    return (struct source_opts){ .kind = kind == HELPED ? SOURCE_URING : (enum source_kind)kind,
                                 .depth = depth,
                                 .thread = kind == HELPED };
}

struct fixture {
    char path[2][64];
    unsigned char *want[2];
    size_t bytes[2];
};

static void make_file(struct fixture *f, int i, size_t bytes, const char *dir)
{
    struct rng rng = { (uint64_t)i + 3 };
    snprintf(f->path[i], sizeof f->path[i], "%s/strobe-source-XXXXXX", dir);
    int fd = mkstemp(f->path[i]);
    cr_assert(fd >= 0, "%s", f->path[i]);
    f->bytes[i] = bytes;
    f->want[i] = malloc(bytes);
    cr_assert(f->want[i]);
    for (size_t k = 0; k < bytes; k++)
        f->want[i][k] = (unsigned char)rng_u64(&rng);
    cr_assert_eq(write(fd, f->want[i], bytes), (ssize_t)bytes);
    fsync(fd); /* direct reads see the disk */
    close(fd);
}

static void setup(struct fixture *f, const char *dir)
{
    make_file(f, 0, FILE_A, dir);
    make_file(f, 1, FILE_B, dir);
}

static void teardown(struct fixture *f)
{
    for (int i = 0; i < 2; i++) {
        unlink(f->path[i]);
        free(f->want[i]);
    }
}

/* NULL: this machine refuses the kind, said loudly; anything else that fails is a failure. */
static struct source *open_kind(const struct fixture *f, int kind, uint32_t depth)
{
    const char *paths[2] = { f->path[0], f->path[1] };
    struct source *s = NULL;
    struct err err = ERR_INIT;
    if (source_open(paths, 2, opts_of(kind, depth), &s, &err) == ST_OK)
        return s;
    bool refused = err.code == ST_UNSUPPORTED || err.os == EPERM || err.os == ENOSYS;
    cr_assert(refused && kind != SOURCE_BUFFERED && kind != SOURCE_AUTO, "kind %d: %s", kind,
              err.msg);
    fprintf(stderr, "SKIPPED: a source of kind %d needs another kernel: %s\n", kind, err.msg);
    return NULL;
}

static unsigned char *page_alloc(size_t n)
{
    unsigned char *p = aligned_alloc(PAGE, n);
    cr_assert(p);
    memset(p, 0xA5, n);
    return p;
}

/* A read of whole pages that the file holds in part: need is what it holds. */
static struct source_req page_read(const struct fixture *f, uint32_t file, uint64_t page, size_t n,
                                   void *dst)
{
    struct source_req r = { .file = file, .offset = page * PAGE, .len = n * PAGE, .dst = dst };
    size_t left = f->bytes[file] - (size_t)r.offset;
    r.need = left < r.len ? left : r.len;
    return r;
}

static void check_read(const struct fixture *f, const struct source_req *r, const char *name)
{
    const unsigned char *got = r->dst;
    cr_expect_eq(r->err.code, ST_OK, "%s: %s", name, r->err.msg);
    cr_expect_geq(r->got, r->need);
    cr_expect_eq(memcmp(got, f->want[r->file] + r->offset, r->need), 0, "%s: bytes at %llu differ",
                 name, (unsigned long long)r->offset);
    /* Direct reads may clear what is asked for behind the end. */
    for (size_t i = r->got; i < r->len; i++)
        cr_assert(got[i] == 0xA5 || got[i] == 0, "%s: byte %zu behind the end is %u", name, i,
                  got[i]);
    cr_expect_geq(r->done_ns, r->submit_ns);
}

/* Behind the asked-for length of slot i of four pages nothing was written. */
static void check_untouched(const unsigned char *mem, const struct source_req *r, size_t i,
                            const char *name)
{
    for (size_t k = r->len; k < 4 * (size_t)PAGE; k++)
        cr_assert_eq(mem[i * 4 * PAGE + k], 0xA5, "%s: byte %zu behind the end was touched", name,
                     k);
}

/* Random reads of both files with `depth` in flight, until N_REQ are done. */
static void read_all_over(const struct fixture *f, struct source *s)
{
    static struct source_req req[N_REQ];
    struct source_req *done[N_REQ];
    struct rng rng = { 11 };
    unsigned char *mem = page_alloc((size_t)N_REQ * 4 * PAGE);
    size_t n_done = 0, n_sent = 0, bytes = 0;
    for (int i = 0; i < N_REQ; i++) {
        uint32_t file = i % 8 == 7;
        uint64_t page = file ? 0 : rng_below(&rng, FILE_A / PAGE + 1);
        req[i] =
            page_read(f, file, page, 1 + (size_t)rng_below(&rng, 4), mem + (size_t)i * 4 * PAGE);
        req[i].user = &req[i];
    }
    while (n_done < N_REQ) {
        struct source_req *next = &req[n_sent];
        while (n_sent < N_REQ && source_submit(s, &next, 1) == 1)
            next = &req[++n_sent];
        cr_assert_leq(source_in_flight(s), source_depth(s));
        size_t n = source_wait(s, done, N_REQ, 1);
        cr_assert_gt(n, 0u);
        for (size_t i = 0; i < n; i++) {
            check_read(f, done[i], source_name(s));
            check_untouched(mem, done[i], (size_t)(done[i] - req), source_name(s));
            cr_expect_eq(done[i]->user, done[i]);
            bytes += done[i]->got;
        }
        n_done += n;
    }
    cr_expect_eq(source_in_flight(s), 0u);
    cr_expect_eq(source_stats(s).reads, (uint64_t)N_REQ);
    cr_expect_eq(source_stats(s).bytes, (uint64_t)bytes);
    free(mem);
}

Test(source, reads_give_the_files_bytes_at_every_depth)
{
    struct fixture f;
    setup(&f, "/tmp");
    static const uint32_t depths[] = { 1, 3, 32 };
    for (int k = 0; k < N_KIND; k++)
        for (int d = 0; d < 3; d++) {
            struct source *s = open_kind(&f, kinds[k], depths[d]);
            if (!s)
                continue;
            cr_expect_eq(source_depth(s), depths[d]);
            cr_expect_eq(source_align(s), kinds[k] == SOURCE_BUFFERED || kinds[k] == SOURCE_MMAP
                                              ? 1u
                                              : source_align(s));
            read_all_over(&f, s);
            source_close(s);
        }
    teardown(&f);
}

Test(source, what_comes_out_of_the_page_cache_has_any_offset_and_address)
{
    static const enum source_kind cached[] = { SOURCE_BUFFERED, SOURCE_MMAP };
    struct fixture f;
    setup(&f, "/tmp");
    for (int k = 0; k < 2; k++) {
        struct source *s = open_kind(&f, cached[k], 0);
        if (!s)
            continue;
        unsigned char got[1000];
        struct source_req r = { .offset = 4097, .len = 777, .need = 777, .dst = got + 1 }, *p = &r;
        cr_assert_eq(source_submit(s, &p, 1), 1u);
        cr_assert_eq(source_wait(s, &p, 1, 1), 1u);
        cr_expect_eq(memcmp(got + 1, f.want[0] + 4097, 777), 0, "%s", source_name(s));
        source_close(s);
    }
    teardown(&f);
}

/* The rest of a cut file's last page reads as zeros through a mapping: they are not its bytes. */
Test(source, a_file_cut_within_a_page_gives_no_zeros_for_what_is_gone)
{
    for (int k = 0; k < N_KIND; k++) {
        struct fixture f;
        setup(&f, "/tmp");
        struct source *s = open_kind(&f, kinds[k], 2);
        if (s) {
            unsigned char *mem = page_alloc(2 * (size_t)PAGE);
            struct source_req whole = page_read(&f, 0, 0, 1, mem), *p = &whole;
            cr_assert_eq(source_submit(s, &p, 1), 1u);
            cr_assert_eq(source_wait(s, &p, 1, 1), 1u);
            check_read(&f, &whole, source_name(s)); /* the page is mapped and in memory */
            cr_assert_eq(truncate(f.path[0], 1000), 0);
            struct source_req cut = page_read(&f, 0, 0, 1, mem + PAGE);
            p = &cut;
            cr_assert_eq(source_submit(s, &p, 1), 1u);
            cr_assert_eq(source_wait(s, &p, 1, 1), 1u);
            cr_expect_eq(cut.err.code, ST_FORMAT, "%s: %s", source_name(s), cut.err.msg);
            cr_expect_eq(cut.got, 1000u, "%s", source_name(s));
            cr_expect_eq(memcmp(mem + PAGE, f.want[0], 1000), 0, "%s", source_name(s));
            source_close(s);
            free(mem);
        }
        teardown(&f);
    }
}

Test(source, files_without_direct_reads_are_read_all_the_same)
{
    struct fixture f;
    if (access("/dev/shm", W_OK) != 0) {
        fprintf(stderr, "SKIPPED: source needs /dev/shm\n");
        return;
    }
    setup(&f, "/dev/shm");
    struct source *s = open_kind(&f, SOURCE_AUTO, 4);
    cr_assert(s);
    read_all_over(&f, s);
    source_close(s);
    teardown(&f);
}

/* One read at a time is with the kernel, so they come in the order in which it got them. */
Test(source, a_thread_of_its_own_reads_what_is_waited_for_before_what_is_ahead)
{
    enum { N = 32 };
    struct fixture f;
    setup(&f, "/tmp");
    const char *paths[2] = { f.path[0], f.path[1] };
    const struct source_opts o = { .kind = SOURCE_URING, .depth = N, .thread = true, .width = 1 };
    struct source *s = NULL;
    struct err err = ERR_INIT;
    if (source_open(paths, 2, o, &s, &err) != ST_OK) {
        fprintf(stderr, "SKIPPED: io_uring is refused here: %s\n", err.msg);
        teardown(&f);
        return;
    }
    unsigned char *mem = page_alloc((size_t)N * PAGE);
    struct source_req req[N], *p[N], *done[N];
    for (int i = 0; i < N; i++) {
        req[i] = page_read(&f, 0, (uint64_t)i, 1, mem + (size_t)i * PAGE);
        req[i].ahead = i % 3 != 2;
        p[i] = &req[i];
    }
    cr_assert_eq(source_submit(s, p, N), (size_t)N);
    cr_assert_eq(source_wait(s, done, N, N), (size_t)N);
    for (int i = 0; i < N; i++) {
        check_read(&f, done[i], source_name(s));
        bool later = i && done[i]->ahead == done[i - 1]->ahead;
        cr_expect(!i || (later ? done[i] > done[i - 1] : done[i]->ahead), "read %d is out of order",
                  i);
    }
    source_close(s);
    free(mem);
    teardown(&f);
}

Test(source, no_more_than_depth_requests_are_taken)
{
    struct fixture f;
    setup(&f, "/tmp");
    for (int k = 0; k < N_KIND; k++) {
        struct source *s = open_kind(&f, kinds[k], 4);
        struct source_req req[6], *p[6], *done[6];
        if (!s)
            continue;
        unsigned char *mem = page_alloc((size_t)6 * PAGE);
        for (int i = 0; i < 6; i++) {
            req[i] = page_read(&f, 0, (uint64_t)i, 1, mem + (size_t)i * PAGE);
            p[i] = &req[i];
        }
        cr_expect_eq(source_submit(s, p, 6), 4u);
        cr_expect_eq(source_submit(s, p + 4, 2), 0u);
        cr_expect_eq(source_wait(s, done, 3, 99), 3u, "min is bounded by max");
        cr_expect_eq(source_submit(s, p + 4, 2), 2u);
        cr_expect_eq(source_wait(s, done, 6, 6), 3u, "min is bounded by what is in flight");
        cr_expect_eq(source_wait(s, done, 6, 1), 0u, "nothing in flight: nothing to wait for");
        for (int i = 0; i < 6; i++)
            check_read(&f, &req[i], source_name(s));
        source_close(s);
        free(mem);
    }
    teardown(&f);
}

Test(source, a_file_that_ends_too_early_is_a_format_error)
{
    for (int k = 0; k < N_KIND; k++) {
        struct fixture f;
        setup(&f, "/tmp");
        struct source *s = open_kind(&f, kinds[k], 4);
        if (s) {
            unsigned char *mem = page_alloc((size_t)8 * PAGE);
            struct source_req past = { .offset = FILE_A / PAGE * PAGE,
                                       .len = 4 * PAGE,
                                       .dst = mem },
                              far = { .offset = 1000 * PAGE, .len = PAGE, .need = 1, .dst = mem },
                              good = page_read(&f, 0, 1, 1, mem + 4 * PAGE);
            past.need = FILE_A % PAGE + 1; /* one byte more than there is */
            struct source_req *p[3] = { &past, &far, &good }, *done[3];
            cr_assert_eq(source_submit(s, p, 3), 3u);
            cr_assert_eq(source_wait(s, done, 3, 3), 3u);
            cr_expect_eq(past.err.code, ST_FORMAT);
            cr_expect(strstr(past.err.msg, f.path[0]), "%s", past.err.msg);
            cr_expect_eq(far.err.code, ST_FORMAT, "%s", far.err.msg);
            check_read(&f, &good, source_name(s));
            /* cut while open: what is gone is an error, what is left still reads */
            cr_assert_eq(truncate(f.path[0], 2 * PAGE), 0);
            struct source_req gone = page_read(&f, 0, 3, 1, mem);
            good = page_read(&f, 0, 0, 2, mem + 4 * PAGE);
            p[0] = &gone;
            p[1] = &good;
            cr_assert_eq(source_submit(s, p, 2), 2u);
            cr_assert_eq(source_wait(s, done, 2, 2), 2u);
            cr_expect_eq(gone.err.code, ST_FORMAT);
            cr_expect(strstr(gone.err.msg, "truncated"), "%s", gone.err.msg);
            check_read(&f, &good, source_name(s));
            source_close(s);
            free(mem);
        }
        teardown(&f);
    }
}

Test(source, closing_waits_for_reads_in_flight)
{
    struct fixture f;
    setup(&f, "/tmp");
    for (int k = 0; k < N_KIND; k++) {
        struct source *s = open_kind(&f, kinds[k], 8);
        struct source_req req[8], *p[8];
        if (!s)
            continue;
        unsigned char *mem = page_alloc((size_t)8 * 16 * PAGE);
        for (int i = 0; i < 8; i++) {
            req[i] = page_read(&f, 0, (uint64_t)i, 16, mem + (size_t)i * 16 * PAGE);
            p[i] = &req[i];
        }
        cr_assert_eq(source_submit(s, p, 8), 8u);
        source_close(s);
        for (int i = 0; i < 8; i++)
            check_read(&f, &req[i], "closed");
        free(mem);
    }
    source_close(NULL);
    teardown(&f);
}

Test(source, opening_reports_what_is_wrong)
{
    struct fixture f;
    setup(&f, "/tmp");
    for (int k = 0; k < N_KIND; k++) {
        const char *paths[2] = { f.path[0], "/tmp/no-such-file" };
        struct source *s = NULL;
        struct err err = ERR_INIT;
        source_open(paths, 2, opts_of(kinds[k], 4), &s, &err);
        bool refused = err.code == ST_UNSUPPORTED && kinds[k] != SOURCE_BUFFERED;
        cr_expect(refused || err.code == ST_NOTFOUND, "kind %d: %s", kinds[k], err.msg);
        if (err.code == ST_NOTFOUND)
            cr_expect(strstr(err.msg, "no-such-file"), "%s", err.msg);
        err_clear(&err);
        cr_expect_eq(source_open(paths, 1, opts_of(kinds[k], 5000), &s, &err), ST_RANGE);
        err_clear(&err);
        cr_expect_eq(source_open(paths, 0, opts_of(kinds[k], 4), &s, &err), ST_RANGE);
        cr_expect_null(s);
    }
    teardown(&f);
}

Test(source, an_outcome_completes_repeats_or_fails_the_read)
{
    static const struct {
        size_t got, need;
        long n;
        bool complete;
        enum status st;
    } cases[] = {
        { 0, 8192, 8192, true, ST_OK },     { 0, 8192, 4096, false, ST_OK },
        { 4096, 8192, 4096, true, ST_OK },  { 0, 5000, 5000, true, ST_OK },
        { 0, 8192, -EINTR, false, ST_OK },  { 4096, 8192, -EAGAIN, false, ST_OK },
        { 0, 8192, -EIO, true, ST_IO },     { 0, 8192, 0, true, ST_FORMAT },
        { 0, 8192, 1000, true, ST_FORMAT }, { 4096, 8192, 0, true, ST_FORMAT },
        { 0, 0, 0, true, ST_OK },
    };
    char path[] = "somewhere", *paths[] = { path };
    struct source s = { .path = paths, .align = PAGE };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source_req r = { .len = 8192, .need = cases[i].need, .got = cases[i].got };
        cr_expect_eq(source_advance(&s, &r, cases[i].n), cases[i].complete, "case %zu", i);
        cr_expect_eq(r.err.code, cases[i].st, "case %zu: %s", i, r.err.msg);
        cr_expect_eq(r.got, cases[i].got + (size_t)(cases[i].n > 0 ? cases[i].n : 0), "case %zu",
                     i);
    }
}
