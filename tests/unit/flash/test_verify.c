/* A packed file is compared with its checksums: damage anywhere is found and named. */
#include "engine/flash/verify.h"
#include "engine/model/gguf.h"
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status verify(const char *path, enum source_kind kind, struct verify_report *rep,
                          struct err *err)
{
    const struct verify_opts o = { .source = kind };
    return verify_run(path, &o, rep, err);
}

static void flip(const char *path, uint64_t at)
{
    unsigned char c;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, &c, 1, (off_t)at), 1);
    c ^= 0x10;
    cr_assert_eq(pwrite(fd, &c, 1, (off_t)at), 1);
    cr_assert_eq(close(fd), 0);
}

static void make(char packed[256])
{
    char plain[256];
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
}

Test(verify, a_whole_file_passes_through_every_reader)
{
    char packed[256];
    make(packed);
    for (int kind = SOURCE_AUTO; kind <= SOURCE_BUFFERED; kind++) {
        struct err err = ERR_INIT;
        struct verify_report rep;
        enum status st = verify(packed, (enum source_kind)kind, &rep, &err);
        if ((kind == SOURCE_URING && st == ST_IO) || st == ST_UNSUPPORTED)
            continue; /* not allowed here, no direct reads in /tmp */
        cr_expect_eq(st, ST_OK, "%s", err.msg);
        struct stat s;
        cr_assert_eq(stat(packed, &s), 0);
        cr_expect_gt(rep.bytes, (uint64_t)s.st_size * 9 / 10);
        cr_expect_leq(rep.bytes, (uint64_t)s.st_size);
    }
}

/* The first and last byte of every tensor in turn. */
Test(verify, a_flipped_byte_of_any_tensor_is_found_and_named)
{
    char packed[256];
    struct err err = ERR_INIT;
    struct verify_report rep;
    struct gguf *g;
    make(packed);
    cr_assert_eq(gguf_open(packed, &g, &err), ST_OK, "%s", err.msg);
    bool bundle = false, sketch = false;
    for (uint64_t i = 0; i < gguf_n_tensor(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[128];
        snprintf(name, sizeof name, "'%.*s'", (int)t->name.n, t->name.p);
        bundle |= strstr(name, "ffn_bundle") != NULL;
        sketch |= strstr(name, "ffn_sketch.") != NULL;
        for (uint64_t at = 0; at < t->bytes; at += t->bytes - 1) {
            struct err bad = ERR_INIT;
            flip(packed, t->offset + at);
            cr_expect_eq(verify(packed, SOURCE_AUTO, &rep, &bad), ST_FORMAT, "%s", name);
            /* A wrong sum is blamed on the tensor that it is of. */
            if (strcmp(name, "'strobe.checksums'") != 0)
                cr_expect(strstr(bad.msg, name), "%s not in: %s", name, bad.msg);
            cr_expect(strstr(bad.msg, packed) && strstr(bad.msg, "damaged"), "%s", bad.msg);
            flip(packed, t->offset + at);
        }
    }
    cr_expect(bundle && sketch);
    cr_expect_eq(verify(packed, SOURCE_AUTO, &rep, &err), ST_OK, "%s", err.msg);
    gguf_close(g);
}

/* A number in the metadata, a name in the tensor table, the padding behind it: some damage the
 * parser sees, the rest the header's sum. */
Test(verify, a_flipped_byte_of_the_header_is_found)
{
    char packed[256];
    struct err err = ERR_INIT;
    struct verify_report rep;
    struct gguf *g;
    make(packed);
    cr_assert_eq(gguf_open(packed, &g, &err), ST_OK, "%s", err.msg);
    uint64_t head = gguf_tensor_at(g, 0)->offset, by_sum = 0;
    gguf_close(g);
    for (uint64_t at = 0; at < head; at += 53) {
        struct err bad = ERR_INIT;
        flip(packed, at);
        enum status st = verify(packed, SOURCE_AUTO, &rep, &bad);
        cr_expect(st == ST_FORMAT || st == ST_UNSUPPORTED, "byte %zu: %s", (size_t)at, bad.msg);
        by_sum += strstr(bad.msg, "the header") != NULL;
        flip(packed, at);
    }
    cr_expect_gt(by_sum, 20u, "of %zu bytes tried", (size_t)head / 53);
    cr_expect_eq(verify(packed, SOURCE_AUTO, &rep, &err), ST_OK, "%s", err.msg);
}

Test(verify, a_file_that_ends_early_is_refused)
{
    char packed[256];
    struct verify_report rep;
    struct stat s;
    make(packed);
    cr_assert_eq(stat(packed, &s), 0);
    for (off_t n = s.st_size - 4096; n > 0; n -= s.st_size / 5) {
        struct err err = ERR_INIT;
        cr_assert_eq(truncate(packed, n), 0);
        cr_expect_eq(verify(packed, SOURCE_AUTO, &rep, &err), ST_FORMAT, "%s", err.msg);
    }
}

Test(verify, a_file_without_checksums_is_said_to_have_none)
{
    char plain[256];
    struct err err = ERR_INIT;
    struct verify_report rep;
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    cr_expect_eq(verify(plain, SOURCE_AUTO, &rep, &err), ST_UNSUPPORTED);
    cr_expect(strstr(err.msg, "no checksums") && strstr(err.msg, plain), "%s", err.msg);
}
