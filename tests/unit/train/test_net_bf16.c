/* tests/unit/train/test_net_bf16.c - the network with bf16 products against the one with f32.
 *
 * The bound: a product's operands are each off by at most 2^-9 of their size, so its result by
 * 2^-8; to first order such errors add up along the way (see test_net_float.c). The longest way has
 * four products a layer (values, output, up, down), once forward and twice backward, two layers,
 * and the head's three. */
#include "engine/kernel/gemm.h"
#include "tests/unit/train/rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRODUCTS = 3 * 4 * 2 + 3 };

static bool open_rig(struct net_rig *r, enum net_gemm gemm, struct pool *pool)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s);
    o.gemm = gemm;
    o.pool = pool;
    if (gemm == NET_GEMM_BF16 && !gemm_panel_supported(GEMM_BF16)) {
        fprintf(stderr, "SKIPPED: a network in bf16 (no AVX-512 BF16 here)\n");
        return false;
    }
    rig_open(r, &o, 5, true);
    return true;
}

Test(net_bf16, gradients_are_as_close_to_f32_as_the_rounding_of_operands_allows)
{
    struct net_rig a, b;
    if (!open_rig(&b, NET_GEMM_BF16, NULL))
        return;
    open_rig(&a, NET_GEMM_F32, NULL);
    double la = rig_grad(&a), lb = rig_grad(&b), diff = 0, size = 0;
    for (uint64_t i = 0; i < a.n_param; i++) {
        double x = (double)net_grads(a.n)[i], d = (double)net_grads(b.n)[i] - x;
        diff += d * d;
        size += x * x;
    }
    double off = sqrt(diff / size), tol = PRODUCTS * 0x1p-8;
    cr_expect(off <= tol, "gradient: off by %g of its norm, may be %g", off, tol);
    cr_expect(off > 0x1p-24, "gradient: off by %g, the operands were not rounded", off);
    cr_expect(fabs(la - lb) <= tol * la, "loss %g in f32, %g in bf16", la, lb);
    rig_close(&a);
    rig_close(&b);
}

Test(net_bf16, gradients_have_the_same_bits_for_any_number_of_threads)
{
    struct net_rig a, b;
    struct pool *pool = NULL;
    struct err e = ERR_INIT;
    cr_assert_eq(pool_create(3, &pool, &e), ST_OK, "%s", e.msg);
    if (open_rig(&a, NET_GEMM_BF16, NULL)) {
        open_rig(&b, NET_GEMM_BF16, pool);
        rig_grad(&a);
        rig_grad(&b);
        cr_expect_eq(memcmp(net_grads(a.n), net_grads(b.n), a.n_param * sizeof(real)), 0);
        rig_close(&a);
        rig_close(&b);
    }
    pool_free(pool);
}
