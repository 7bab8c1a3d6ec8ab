/* tests/unit/infer/test_stream_text.c - text streaming against a whole-text oracle. */
#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "engine/infer/stream_text.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* The text the bytes mean, by the definition in the header, found the slow way. *stop: index, -1.
 */
static void oracle(struct str bytes, const char *const *stop, size_t n_stop, struct buf *out,
                   int *found)
{
    *found = -1;
    size_t cut = bytes.n;
    for (size_t end = 1; end <= bytes.n && *found < 0; end++) {
        for (size_t i = 0; i < n_stop; i++) {
            size_t n = strlen(stop[i]);
            if (n > end || memcmp(bytes.p + end - n, stop[i], n) != 0)
                continue;
            if (*found < 0 || end - n < cut) {
                *found = (int)i;
                cut = end - n;
            }
        }
    }
    utf8_repair((struct str){ bytes.p, cut }, out);
}

/* Streams `bytes` in chunks of 1..max_chunk bytes; every piece must be valid UTF-8. */
static void stream(struct str bytes, const char *const *stop, size_t n_stop, struct rng *rng,
                   size_t max_chunk, struct buf *out, const char **found)
{
    struct stream_text t;
    struct err err = ERR_INIT;
    static char stop_copy[64];
    cr_assert_eq(stream_text_init(&t, stop, n_stop, &err), ST_OK);
    struct str piece;
    for (size_t i = 0; i < bytes.n;) {
        size_t n = 1 + rng_below(rng, max_chunk);
        n = n < bytes.n - i ? n : bytes.n - i;
        cr_assert_eq(stream_text_push(&t, (struct str){ bytes.p + i, n }, &piece, &err), ST_OK);
        cr_assert(utf8_valid(piece), "torn piece at byte %zu", i);
        buf_str(out, piece);
        i += n;
    }
    cr_assert_eq(stream_text_end(&t, &piece, &err), ST_OK);
    cr_assert(utf8_valid(piece));
    buf_str(out, piece);
    *found = stream_text_stop(&t);
    if (*found) {
        snprintf(stop_copy, sizeof stop_copy, "%s", *found);
        *found = stop_copy;
    }
    stream_text_clear(&t);
}

Test(stream_text, any_chunking_gives_the_text_of_the_whole)
{
    /* A small alphabet makes overlaps, near misses and malformed bytes frequent. */
    static const char *const unit[] = {
        "a",    "b",    "c",        "\n",   "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
        "\xE2", "\x82", "\xF0\x9F", "\x80", "\xFF"
    };
    static const char *const stop[] = {
        "ab\n", "abab", "\xC3\xA9\141", "bc", "\xE2\x82\xAC\xE2\x82\xAC", "cabc"
    };
    struct rng rng = { 11 };
    size_t n_found = 0;
    for (int round = 0; round < 4000; round++) {
        struct buf bytes = BUF_INIT, want = BUF_INIT;
        size_t n_unit = rng_below(&rng, 40);
        for (size_t i = 0; i < n_unit; i++)
            buf_z(&bytes, unit[rng_below(&rng, sizeof unit / sizeof unit[0])]);
        size_t first = rng_below(&rng, 6), n_stop = rng_below(&rng, 7 - first);
        int found;
        oracle(buf_view(&bytes), stop + first, n_stop, &want, &found);
        for (size_t chunk = 1; chunk <= 64; chunk *= 4) {
            struct buf got = BUF_INIT;
            const char *name;
            stream(buf_view(&bytes), stop + first, n_stop, &rng, chunk, &got, &name);
            cr_assert(str_eq(buf_view(&got), buf_view(&want)), "round %d chunk %zu: '%s' not '%s'",
                      round, chunk, got.p, want.p);
            cr_assert_eq(name != NULL, found >= 0);
            if (name)
                cr_assert_str_eq(name, stop[first + (size_t)found]);
            buf_clear(&got);
        }
        n_found += found >= 0;
        buf_clear(&bytes);
        buf_clear(&want);
    }
    cr_expect(n_found > 400 && n_found < 3500, "stops found in %zu of 4000: a dull test", n_found);
}

Test(stream_text, text_that_cannot_be_a_stop_is_not_held_back)
{
    struct stream_text t;
    struct err err = ERR_INIT;
    const char *stop[] = { "STOP" };
    struct str piece;
    cr_assert_eq(stream_text_init(&t, stop, 1, &err), ST_OK);
    const struct {
        const char *in, *out;
    } step[] = { { "hello S", "hello " },    { "TO", "" }, { "X", "STOX" },   { "\xE2\x82", "" },
                 { "\xAC", "\xE2\x82\xAC" }, { "", "" },   { "aSTOPb", "a" }, { "more", "" } };
    for (size_t i = 0; i < sizeof step / sizeof step[0]; i++) {
        cr_assert_eq(stream_text_push(&t, str_c(step[i].in), &piece, &err), ST_OK);
        cr_expect(str_is(piece, step[i].out), "step %zu: '%.*s'", i, (int)piece.n, piece.p);
    }
    cr_expect_str_eq(stream_text_stop(&t), "STOP");
    cr_assert_eq(stream_text_end(&t, &piece, &err), ST_OK);
    cr_expect_eq(piece.n, 0);
    stream_text_clear(&t);
    stream_text_clear(&t);
}

Test(stream_text, the_held_back_end_comes_out_at_the_end)
{
    struct stream_text t;
    struct err err = ERR_INIT;
    const char *stop[] = { "END" };
    struct str piece;
    cr_assert_eq(stream_text_init(&t, stop, 1, &err), ST_OK);
    cr_assert_eq(stream_text_push(&t, STR("theEN"), &piece, &err), ST_OK);
    cr_expect(str_is(piece, "the"));
    cr_assert_eq(stream_text_push(&t, STR("\xF0\x9F\x98"), &piece, &err), ST_OK);
    cr_expect(str_is(piece, "EN"));
    cr_assert_eq(stream_text_end(&t, &piece, &err), ST_OK);
    cr_expect(str_is(piece, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), "one U+FFFD per lost byte");
    cr_expect_null(stream_text_stop(&t));
    stream_text_clear(&t);
}
