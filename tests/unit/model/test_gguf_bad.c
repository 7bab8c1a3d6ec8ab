/* tests/unit/model/test_gguf_bad.c - malformed containers: one row per line of the hardening list
 * (model-formats.md 1.7) and of the failure catalogue (reliability.md 3A). Each row damages one
 * thing of a small good file and expects its message. */
#include "engine/model/gguf.h"
#include "tests/support/data.h"
#include "tests/support/gguf_write.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status open_bytes(struct str bytes, struct gguf **g, struct err *err)
{
    char path[] = "/tmp/test_gguf_bad.XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert(file_save(path, bytes));
    enum status st = gguf_open(path, g, err);
    unlink(path);
    return st;
}

static void expect(const char *what, struct gguf_writer *w, enum status want, const char *text)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    struct buf b = BUF_INIT;
    gw_bytes(w, &b);
    cr_expect_eq(open_bytes(buf_view(&b), &g, &err), want, "%s: %s", what, err.msg);
    cr_expect(strstr(err.msg, text), "%s: expected '%s' in: %s", what, text, err.msg);
    cr_expect((g != NULL) == (want == ST_OK), "%s", what);
    gguf_close(g);
    buf_clear(&b);
    gw_clear(w);
}

static struct gguf_writer good(void)
{
    struct gguf_writer w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "llama");
    return w;
}

Test(gguf_bad, magic_and_version)
{
    static const struct {
        const char *bytes, *text;
    } magics[] = { { "PK\x03\x04", "zip" },    { "<!DOCTYPE", "HTML" },
                   { "ggml", "old GGML" },     { "\x80\x02}q", "pickle" },
                   { "version https", "LFS" }, { "FUGG", "byte-swapped" },
                   { "tjgg", "old GGJT" },     { "GGUX", "47 47 55 58" },
                   { "\0\0\0\0", "zeros" } };
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        char head[64] = { 0 };
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        memcpy(head, magics[i].bytes, strlen(magics[i].bytes));
        cr_expect_eq(open_bytes((struct str){ head, sizeof head }, &g, &err), ST_FORMAT);
        cr_expect(strstr(err.msg, magics[i].text), "%s: %s", magics[i].bytes, err.msg);
    }
    static const struct {
        uint32_t version;
        enum status want;
        const char *text;
    } versions[] = { { 0, ST_UNSUPPORTED, "version 0" },
                     { 1, ST_UNSUPPORTED, "32-bit counts" },
                     { 2, ST_OK, "" },
                     { 3, ST_OK, "" },
                     { 4, ST_UNSUPPORTED, "version 4" },
                     { 0x03000000, ST_UNSUPPORTED, "opposite byte order" },
                     { UINT32_MAX, ST_UNSUPPORTED, "version 4294967295" } };
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        struct gguf_writer w = good();
        w.version = versions[i].version;
        expect("version", &w, versions[i].want, versions[i].text);
    }
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    cr_expect_eq(open_bytes(STR("PWRI\3\0\0\0"), &g, &err), ST_UNSUPPORTED);
    cr_expect(strstr(err.msg, "PowerInfer"), "%s", err.msg);
}

Test(gguf_bad, counts)
{
    static const uint64_t counts[] = { UINT64_C(1) << 31, UINT64_C(1) << 32, UINT64_C(1) << 61,
                                       UINT64_C(1) << 63, UINT64_MAX,        1000 };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct gguf_writer w = good();
        w.n_kv = counts[i];
        expect("n_kv", &w, ST_FORMAT, counts[i] == 1000 ? "truncated" : "limit");
        w = good();
        w.n_tensor = counts[i];
        expect("n_tensor", &w, ST_FORMAT, counts[i] == 1000 ? "truncated" : "limit");
    }
    uint64_t ne[1] = { 64 };
    float data[64] = { 0 };
    for (int less = 0; less < 3; less++) { /* real, one less, one more */
        struct gguf_writer w = good();
        gw_tensor(&w, "a", DT_F32, 1, ne, data, sizeof data);
        gw_tensor(&w, "b", DT_F32, 1, ne, data, sizeof data);
        w.n_tensor += less == 1 ? -1 : less == 2 ? 1 : 0;
        expect("tensor count", &w, less ? ST_FORMAT : ST_OK, "");
        w = good();
        gw_tensor(&w, "a", DT_F32, 1, ne, data, sizeof data);
        w.n_kv += less == 1 ? -1 : less == 2 ? 1 : 0;
        expect("metadata count", &w, less ? ST_FORMAT : ST_OK, "");
    }
}

/* A good file with `n` raw bytes in place of a pair. */
static void expect_pair(const char *what, const void *p, size_t n, const char *text)
{
    struct gguf_writer w = good();
    buf_put(&w.kv, p, n);
    w.n_kv++;
    /* Enough behind it that only the damaged number can be the reason. */
    for (int i = 0; i < 64; i++)
        gw_u32(&w, "x", 0);
    w.n_kv -= 64;
    expect(what, &w, ST_FORMAT, text);
}

static void expect_key(const char *what, const char *key, size_t n, uint64_t len, const char *text)
{
    struct buf b = BUF_INIT;
    uint32_t type = GGUF_U32;
    buf_put(&b, &len, 8);
    buf_put(&b, key, n);
    buf_put(&b, &type, 4);
    buf_put(&b, &type, 4);
    expect_pair(what, b.p, b.n, text);
    buf_clear(&b);
}

Test(gguf_bad, keys)
{
    expect_key("empty", "", 0, 0, "is empty");
    expect_key("2^32", "key", 3, UINT64_C(1) << 32, "truncated");
    expect_key("2^63", "key", 3, UINT64_C(1) << 63, "truncated");
    expect_key("2^64-1", "key", 3, UINT64_MAX, "truncated");
    expect_key("NUL", "a\0b", 3, 3, "a\\x00b");
    expect_key("newline", "a\nb", 3, 3, "a\\x0Ab");
    expect_key("escape code", "a\x1b[2J", 5, 5, "a\\x1B[2J");
    expect_key("not UTF-8", "a\xff\xfe", 3, 3, "a\\xFF\\xFE");
    struct gguf_writer w = good();
    gw_str(&w, "general.architecture", "llama");
    expect("duplicate", &w, ST_FORMAT, "duplicate key 'general.architecture'");
    w = good();
    gw_u32(&w, "general.alignment", 32);
    gw_u32(&w, "general.alignment", 64);
    expect("duplicate alignment", &w, ST_FORMAT, "");
}

Test(gguf_bad, values)
{
    static const uint64_t lengths[] = { UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 30 };
    struct gguf_writer w;
    for (size_t i = 0; i < 3; i++) {
        w = good();
        gw_raw(&w, "s", GGUF_STRING, &lengths[i], 8);
        expect("string length", &w, ST_FORMAT, "truncated: s");
    }
    static const struct {
        uint32_t elem;
        uint64_t n;
        const char *text;
    } arrays[] = { { GGUF_U8, UINT64_MAX, "limit" },
                   { GGUF_U64, UINT64_C(1) << 61, "limit" },
                   { GGUF_STRING, UINT64_C(1) << 61, "limit" },
                   { GGUF_STRING, 1 << 29, "truncated" },
                   { GGUF_F64, 1 << 30, "truncated" },
                   { GGUF_ARRAY, 1, "arrays of arrays" },
                   { GGUF_ARRAY, 100000, "arrays of arrays" },
                   { 13, 1, "unknown element type 13" },
                   { UINT32_MAX, 1, "unknown element type" } };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        w = good();
        gw_array(&w, "a", arrays[i].elem, NULL, arrays[i].n, 0);
        expect("array", &w, ST_FORMAT, arrays[i].text);
    }
    static const uint32_t types[] = { 13, 255, UINT32_C(1) << 31, UINT32_MAX };
    for (size_t i = 0; i < 4; i++) {
        w = good();
        gw_raw(&w, "t", types[i], &types[i], 4);
        expect("value type", &w, ST_FORMAT, "key 't': unknown value type");
    }
    for (int b = 2; b <= 255; b += 253) {
        unsigned char v[2] = { 1, (unsigned char)b };
        w = good();
        gw_raw(&w, "b", GGUF_BOOL, &v[1], 1);
        expect("bool", &w, ST_FORMAT, "a bool has the value");
        w = good();
        gw_array(&w, "b", GGUF_BOOL, v, 2, 2);
        expect("bool array", &w, ST_FORMAT, "a bool has the value");
    }
}

Test(gguf_bad, alignment)
{
    static const uint32_t bad[] = { 0, 1, 3, 4, 7, 31, 48, 1u << 21, 1u << 30, 1u << 31 };
    struct gguf_writer w;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        w = good();
        gw_u32(&w, "general.alignment", bad[i]);
        expect("alignment", &w, ST_FORMAT, "general.alignment");
    }
    w = good();
    gw_i32(&w, "general.alignment", 32);
    expect("int32", &w, ST_FORMAT, "must be a u32");
    w = good();
    gw_str(&w, "general.alignment", "32");
    expect("string", &w, ST_FORMAT, "must be a u32");
    w = good();
    gw_u64(&w, "general.alignment", UINT64_C(1) << 63);
    expect("2^63", &w, ST_FORMAT, "must be a u32");
    for (uint32_t a = 8; a <= 65536; a *= 2) {
        uint64_t ne[1] = { 3 };
        float data[3] = { 1, 2, 3 };
        w = good();
        w.align = a;
        gw_u32(&w, "general.alignment", a);
        gw_tensor(&w, "a", DT_F32, 1, ne, data, sizeof data);
        gw_tensor(&w, "b", DT_F32, 1, ne, data, sizeof data);
        expect("good alignment", &w, ST_OK, "");
    }
}

Test(gguf_bad, tensor_table)
{
    static const struct {
        const char *what, *name;
        uint32_t type, n_dim;
        uint64_t ne[4];
        enum status want;
        const char *text;
    } rows[] = {
        { "no dims", "t", DT_F32, 0, { 0 }, ST_FORMAT, "0 dimensions" },
        { "5 dims", "t", DT_F32, 5, { 1 }, ST_FORMAT, "5 dimensions" },
        { "9 dims", "t", DT_F32, 9, { 1 }, ST_FORMAT, "9 dimensions" },
        { "2^31 dims", "t", DT_F32, 1u << 31, { 1 }, ST_FORMAT, "dimensions" },
        { "2^32-1 dims", "t", DT_F32, UINT32_MAX, { 1 }, ST_FORMAT, "dimensions" },
        { "zero", "t", DT_F32, 2, { 4, 0 }, ST_FORMAT, "dimension 1 is 0" },
        { "2^63", "t", DT_F32, 1, { UINT64_C(1) << 63 }, ST_FORMAT, "dimension 0 is" },
        { "2^64-1", "t", DT_F32, 1, { UINT64_MAX }, ST_FORMAT, "dimension 0 is" },
        { "wraps to 0",
          "t",
          DT_F32,
          2,
          { UINT64_C(1) << 32, UINT64_C(1) << 32 },
          ST_FORMAT,
          "overflows" },
        { "wraps", "t", DT_F32, 4, { 1u << 31, 1u << 31, 4, 4 }, ST_FORMAT, "overflows" },
        { "bytes wrap", "t", DT_F32, 1, { UINT64_C(1) << 62 }, ST_FORMAT, "overflows" },
        { "beyond the end", "t", DT_F32, 1, { 1 << 20 }, ST_FORMAT, "truncated: tensor 't'" },
        { "partial block", "t", DT_Q4_0, 1, { 33 }, ST_FORMAT, "not a multiple of the Q4_0 block" },
        { "partial K block", "t", DT_Q4_K, 2, { 128, 2 }, ST_FORMAT, "Q4_K block of 256" },
        { "type 4", "t", 4, 1, { 32 }, ST_UNSUPPORTED, "removed from GGUF" },
        { "type 5", "t", 5, 1, { 32 }, ST_UNSUPPORTED, "removed" },
        { "type 31", "t", 31, 1, { 32 }, ST_UNSUPPORTED, "quantise the model again" },
        { "type 200", "t", 200, 1, { 32 }, ST_UNSUPPORTED, "unknown type id 200" },
        { "type 2^31", "t", 1u << 31, 1, { 32 }, ST_UNSUPPORTED, "private tensor types" },
        { "type -1", "t", UINT32_MAX, 1, { 32 }, ST_UNSUPPORTED, "unknown type id" },
        { "no name", "", DT_F32, 1, { 1 }, ST_FORMAT, "name is empty" },
        { "64 bytes",
          "0123456789012345678901234567890123456789012345678901234567890123",
          DT_F32,
          1,
          { 1 },
          ST_FORMAT,
          "64 bytes" },
        { "path", "a/../b", DT_F32, 1, { 1 }, ST_FORMAT, "not allowed" },
        { "escape", "a\x1b[2J", DT_F32, 1, { 1 }, ST_FORMAT, "a\\x1B[2J" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w = good();
        uint64_t ne[16] = { 0 };
        memcpy(ne, rows[i].ne, sizeof rows[i].ne);
        gw_tensor_at(&w, rows[i].name, rows[i].type, rows[i].n_dim, ne, 0);
        for (int k = 0; k < 64; k++)
            buf_char(&w.data, '\0');
        expect(rows[i].what, &w, rows[i].want, rows[i].text);
    }
}

Test(gguf_bad, offsets)
{
    static const struct {
        const char *what;
        uint64_t offset;
        const char *text;
    } rows[] = { { "unaligned", 33, "not a multiple of the alignment" },
                 { "equal", 0, "overlaps" },
                 { "overlap", 32, "overlaps" },
                 { "gap", 128, "gap" },
                 { "far", UINT64_C(1) << 62, "gap" },
                 { "wraps", UINT64_MAX - 31, "gap" } };
    uint64_t ne[1] = { 16 };
    float data[16] = { 0 };
    struct gguf_writer w;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        w = good();
        gw_tensor(&w, "a", DT_F32, 1, ne, data, sizeof data);
        gw_tensor_at(&w, "b", DT_F32, 1, ne, rows[i].offset);
        buf_put(&w.data, data, sizeof data);
        expect(rows[i].what, &w, ST_FORMAT, rows[i].text);
    }
    w = good();
    gw_tensor_at(&w, "a", DT_F32, 1, ne, 0);
    buf_put(&w.data, data, 63);
    expect("one byte short", &w, ST_FORMAT, "truncated: tensor 'a'");
    w = good();
    gw_tensor(&w, "a", DT_F32, 1, ne, data, sizeof data);
    buf_char(&w.data, 'x');
    expect("one byte more", &w, ST_FORMAT, "trailing data");
    w = good();
    gw_tensor(&w, "a", DT_F32, 1, ne, data, sizeof data);
    gw_tensor(&w, "a", DT_F32, 1, ne, data, sizeof data);
    expect("twice", &w, ST_FORMAT, "duplicate tensor name 'a'");
}

Test(gguf_bad, getters_check_types_and_ranges)
{
    struct gguf_writer w = good();
    struct buf b = BUF_INIT;
    struct gguf *g = NULL;
    struct err err = ERR_INIT;
    gw_f32(&w, "nan", __builtin_nanf(""));
    gw_f32(&w, "f", 1.5f);
    gw_i32(&w, "i", -7);
    gw_u64(&w, "big", UINT64_MAX);
    gw_bytes(&w, &b);
    cr_assert_eq(gguf_parse(buf_view(&b), &g, &err), ST_OK, "%s", err.msg);
    int64_t i = 5;
    double d = 5;
    bool t = false;
    struct str s;
    cr_expect_eq(gguf_get_i64(g, "absent", false, 0, 9, &i, &err), ST_OK);
    cr_expect_eq(i, 5);
    cr_expect_eq(gguf_get_i64(g, "i", true, -9, 9, &i, &err), ST_OK);
    cr_expect_eq(i, -7);
    cr_expect_eq(gguf_get_f64(g, "f", true, &d, &err), ST_OK);
    cr_expect_eq(d, 1.5);
    cr_expect_eq(gguf_get_i64(g, "absent", true, 0, 9, &i, &err), ST_FORMAT);
    cr_expect_str_eq(err.msg, "key 'absent' is missing");
    err_clear(&err);
    cr_expect_eq(gguf_get_i64(g, "i", true, 0, 9, &i, &err), ST_FORMAT);
    cr_expect_str_eq(err.msg, "key 'i' is -7, allowed are 0 to 9");
    err_clear(&err);
    cr_expect_eq(gguf_get_i64(g, "big", true, 0, 9, &i, &err), ST_FORMAT);
    err_clear(&err);
    cr_expect_eq(gguf_get_i64(g, "f", true, 0, 9, &i, &err), ST_FORMAT);
    cr_expect_str_eq(err.msg, "key 'f' must be an integer");
    err_clear(&err);
    cr_expect_eq(gguf_get_f64(g, "nan", true, &d, &err), ST_FORMAT);
    cr_expect_str_eq(err.msg, "key 'nan' is not a finite number");
    err_clear(&err);
    cr_expect_eq(gguf_get_bool(g, "i", &t, &err), ST_FORMAT);
    err_clear(&err);
    cr_expect_eq(gguf_get_str(g, "i", true, &s, &err), ST_FORMAT);
    gguf_close(g);
    gw_clear(&w);
    buf_clear(&b);
}

Test(gguf_bad, things_that_are_not_files, .timeout = 600)
{
    char dir[] = "/tmp/test_gguf_bad.XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/fifo", dir);
    cr_assert_eq(mkfifo(path, 0600), 0);
    const char *const paths[] = { dir, path, "/dev/zero" };
    for (size_t i = 0; i < 3; i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        cr_expect_eq(gguf_open(paths[i], &g, &err), ST_FORMAT, "%s", paths[i]);
        cr_expect(strstr(err.msg, "not a regular file"), "%s", err.msg);
    }
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    cr_expect_eq(gguf_open("/nonexistent/x.gguf", &g, &err), ST_NOTFOUND);
    unlink(path);
    rmdir(dir);
}

Test(gguf_bad, split_files)
{
    char dir[] = "/tmp/test_gguf_bad.XXXXXX", path[2][80];
    float data[8] = { 0 };
    uint64_t ne[1] = { 8 };
    cr_assert_not_null(mkdtemp(dir));
    for (int p = 0; p < 2; p++)
        snprintf(path[p], sizeof path[p], "%s/m-%05d-of-00002.gguf", dir, p + 1);
    static const struct {
        uint32_t no[2], count, total;
        bool missing;
        enum status want;
        const char *text;
    } rows[] = { { { 0, 1 }, 2, 2, false, ST_OK, "" },
                 { { 0, 1 }, 2, 2, true, ST_NOTFOUND, "missing part of a split model" },
                 { { 0, 0 }, 2, 2, false, ST_FORMAT, "part 1 of 2, its name part 2 of 2" },
                 { { 0, 1 }, 3, 2, false, ST_FORMAT, "part 1 of 3" },
                 { { 0, 9 }, 2, 2, false, ST_FORMAT, "part 10 of 2" },
                 { { 0, 1 }, 2, 5, false, ST_FORMAT, "another number of tensors" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int p = 0; p < 2; p++) {
            struct gguf_writer w;
            gw_init(&w);
            if (p == 0)
                gw_str(&w, "general.architecture", "llama");
            gw_u32(&w, "split.no", rows[i].no[p]);
            gw_u32(&w, "split.count", rows[i].count);
            gw_i32(&w, "split.tensors.count", (int32_t)rows[i].total);
            gw_tensor(&w, p ? "b" : "a", DT_F32, 1, ne, data, sizeof data);
            cr_assert(gw_save(&w, path[p]));
            gw_clear(&w);
        }
        if (rows[i].missing)
            unlink(path[1]);
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        cr_expect_eq(gguf_open(path[0], &g, &err), rows[i].want, "%s", err.msg);
        cr_expect(strstr(err.msg, rows[i].text), "%s", err.msg);
        if (g) {
            cr_expect_eq(gguf_n_file(g), 2);
            cr_expect_eq(gguf_tensor_find(g, "b")->file, 1);
        }
        gguf_close(g);
    }
    struct gguf_writer w = good();
    gw_u32(&w, "split.count", 2);
    expect("whole by name, part by key", &w, ST_FORMAT, "split.count is 2");
    unlink(path[0]);
    unlink(path[1]);
    rmdir(dir);
}
