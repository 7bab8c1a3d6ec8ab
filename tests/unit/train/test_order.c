/* tests/unit/train/test_order.c - the keyed permutation. */
#include "engine/base/rng.h"
#include "engine/train/order.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Test(order, every_number_comes_once_for_every_size)
{
    static unsigned char seen[70000];
    const uint64_t large[] = { 4095, 4096, 4097, 65535, 65536, 65537, 69999 };
    for (unsigned k = 0; k < 300 + sizeof large / sizeof large[0]; k++) {
        uint64_t n = k < 300 ? k + 1 : large[k - 300];
        memset(seen, 0, n);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t at = order_permute(k, n, i);
            cr_assert_lt(at, n, "n %lu i %lu: %lu", n, i, at);
            cr_assert(!seen[at], "n %lu: %lu comes twice", n, at);
            seen[at] = 1;
        }
    }
}

Test(order, large_sizes_stay_inside_and_do_not_repeat)
{
    /* Neighbours cannot collide in a bijection; checked on a sample, as nobody counts to 2^40. */
    uint64_t n = (UINT64_C(1) << 40) + 12345, last = UINT64_MAX;
    for (uint64_t i = n - 1000; i < n; i++) {
        uint64_t at = order_permute(9, n, i);
        cr_assert_lt(at, n);
        cr_assert_neq(at, last);
        last = at;
    }
}

/* Over many keys each place is equally likely for a number: chi-square over n x n counts has
 * (n - 1)^2 degrees of freedom, mean df and variance 2 df; six standard deviations. */
Test(order, every_place_is_equally_likely)
{
    enum { N = 12, KEYS = 20000 };
    static double count[N][N];
    double expect = (double)KEYS / N, chi = 0, df = (N - 1) * (N - 1);
    for (uint64_t key = 0; key < KEYS; key++)
        for (uint64_t i = 0; i < N; i++)
            count[i][order_permute(rng_at(3, key), N, i)]++;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            chi += (count[i][j] - expect) * (count[i][j] - expect) / expect;
    cr_expect_lt(fabs(chi - df), 6 * sqrt(2 * df), "chi-square %g, expected %g", chi, df);
}

Test(order, neighbours_do_not_stay_neighbours)
{
    enum { N = 1000 };
    unsigned near = 0;
    for (uint64_t i = 0; i + 1 < N; i++) {
        uint64_t a = order_permute(5, N, i), b = order_permute(5, N, i + 1);
        near += a + 1 == b || b + 1 == a;
    }
    /* Two of a thousand on average; Poisson: 15 or more has probability below 1e-8. */
    cr_expect_lt(near, 15, "%u", near);
}
