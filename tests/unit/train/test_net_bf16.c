/* tests/unit/train/test_net_bf16.c - the network with bf16 products, and with activations kept as
 * bf16, against the one with f32.
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

/* Of gradients, as a share of the first. */
static double distance(const struct net_rig *a, const struct net_rig *b)
{
    double diff = 0, size = 0;
    for (uint64_t i = 0; i < a->n_param; i++) {
        double x = (double)net_grads(a->n)[i], d = (double)net_grads(b->n)[i] - x;
        diff += d * d;
        size += x * x;
    }
    return sqrt(diff / size);
}

Test(net_bf16, gradients_are_as_close_to_f32_as_the_rounding_of_operands_allows)
{
    struct net_rig a, b;
    if (!open_rig(&b, NET_GEMM_BF16, NULL))
        return;
    open_rig(&a, NET_GEMM_F32, NULL);
    double la = rig_grad(&a), lb = rig_grad(&b), off = distance(&a, &b), tol = PRODUCTS * 0x1p-8;
    cr_expect(off <= tol, "gradient: off by %g of its norm, may be %g", off, tol);
    cr_expect(off > 0x1p-24, "gradient: off by %g, the operands were not rounded", off);
    cr_expect(fabs(la - lb) <= tol * la, "loss %g in f32, %g in bf16", la, lb);
    rig_close(&a);
    rig_close(&b);
}

/* ---- activations kept as bf16 ---- */

/* Shapes that keep every kind of thing: gates, biases, both norms, grouped and single heads. */
static struct net_shape kept_shape(int form)
{
    struct net_shape s = rig_shape();
    s.gated = form & 1;
    s.act = form & 1 ? NET_SILU : NET_GELU;
    s.bias = form & 2;
    s.norm = form & 2 ? NET_LAYER : NET_RMS;
    s.pos = form & 2 ? NET_LEARNED : NET_ROPE;
    s.n_kv_head = form & 4 ? 4 : 2;
    return s;
}

/* Six numbers a layer are kept, each off by at most 2^-9 of itself; a derivative meets each at most
 * twice (as an operand and in a slope), in two layers. */
Test(net_bf16, gradients_of_rounded_activations_are_near_those_of_f32)
{
    for (int form = 0; form < 8; form++)
        for (int recompute = 0; recompute < 2; recompute++) {
            struct net_shape s = kept_shape(form);
            struct net_opts o = rig_opts(&s);
            struct net_rig a, b;
            rig_open(&a, &o, 5, true);
            o.keep = NET_KEEP_BF16;
            o.recompute = recompute;
            rig_open(&b, &o, 5, true);
            double la = rig_grad(&a), lb = rig_grad(&b), off = distance(&a, &b);
            double tol = 6 * 2 * 2 * 0x1p-9;
            cr_expect(off <= tol, "form %d: off by %g of the norm, may be %g", form, off, tol);
            cr_expect(off > 0x1p-20, "form %d: off by %g, nothing was rounded", form, off);
            cr_expect(fabs(la - lb) <= tol * la, "loss %g in f32, %g in bf16", la, lb);
            cr_expect_eq(rig_loss(&a), rig_loss(&b), "a held-out loss is that of f32");
            rig_close(&a);
            rig_close(&b);
        }
}

/* A batch smaller than the network has room for, after a larger one: rows lie elsewhere. */
Test(net_bf16, what_is_kept_is_the_batch_at_work)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s), small = o;
    struct net_rig a, b;
    struct net_loss l;
    o.keep = small.keep = NET_KEEP_BF16;
    small.batch = 1;
    small.n_tok = 5;
    rig_open(&a, &o, 5, false);
    rig_open(&b, &small, 5, false);
    memcpy(net_params(b.n), net_params(a.n), a.n_param * sizeof(real));
    rig_grad(&a);
    rig_grad(&b);
    memset(net_grads(a.n), 0, a.n_param * sizeof(real));
    memset(net_grads(b.n), 0, a.n_param * sizeof(real));
    net_grad(a.n, &b.b, 1, &l);
    net_grad(b.n, &b.b, 1, &l);
    cr_expect_eq(memcmp(net_grads(a.n), net_grads(b.n), a.n_param * sizeof(real)), 0);
    rig_close(&a);
    rig_close(&b);
}

Test(net_bf16, rounded_activations_give_the_same_bits_for_any_number_of_threads)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s);
    struct net_rig a, b;
    struct pool *pool = NULL;
    struct err e = ERR_INIT;
    cr_assert_eq(pool_create(3, &pool, &e), ST_OK, "%s", e.msg);
    s.d_ff = 700;
    o.shape = s;
    o.keep = NET_KEEP_BF16;
    o.batch = 6; /* 42 tokens x 700: two tasks */
    rig_open(&a, &o, 5, true);
    o.pool = pool;
    rig_open(&b, &o, 5, true);
    rig_grad(&a);
    rig_grad(&b);
    cr_expect_eq(memcmp(net_grads(a.n), net_grads(b.n), a.n_param * sizeof(real)), 0);
    rig_close(&a);
    rig_close(&b);
    pool_free(pool);
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
