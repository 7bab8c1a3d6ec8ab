#include "engine/base/hash.h"
#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* FIPS 180-4 example values. */
Test(hash, sha256_gives_the_published_digests)
{
    static const struct {
        const char *text;
        size_t repeat;
        const char *want;
    } cases[] = {
        { "", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        { "a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sha256 s;
        char hex[65];
        sha256_init(&s);
        for (size_t r = 0; r < cases[i].repeat; r++)
            sha256_add(&s, cases[i].text, strlen(cases[i].text));
        sha256_hex(&s, hex);
        cr_expect_str_eq(hex, cases[i].want);
    }
}

/* Known first outputs of splitmix64 from state 0. */
Test(rng, the_stream_is_the_published_one)
{
    struct rng r = { 0 };
    cr_expect_eq(rng_u64(&r), 0xE220A8397B1DCDAFu);
    cr_expect_eq(rng_u64(&r), 0x6E789E6AA1B965F4u);
    cr_expect_eq(rng_u64(&r), 0x06C45D188009454Fu);
}

/* Damage anywhere in a long run shows, also far from its end. */
Test(hash, a_chained_sum_sees_every_flipped_byte_however_the_run_is_cut)
{
    enum { N = 3 << 20 };
    unsigned char *p = calloc(1, N);
    cr_assert(p);
    uint64_t want = hash_chain(0, p, N), cut = 0;
    for (size_t at = 0, n; at < N; at += n) {
        n = at % 3 * 4096 + 8;
        n = n < N - at ? n : N - at;
        cut = hash_chain(cut, p + at, n);
    }
    cr_expect_eq(cut, want);
    for (size_t at = 0; at < N; at = at * 2 + 1) {
        p[at] ^= 0x80;
        cr_expect_neq(hash_chain(0, p, N), want, "byte %zu", at);
        p[at] ^= 0x80;
    }
    cr_expect_neq(hash_chain(0, p, N - 1), want);
    cr_expect_neq(hash_chain(0, p, N - 1), hash_chain(0, p, N - 2));
    free(p);
}
