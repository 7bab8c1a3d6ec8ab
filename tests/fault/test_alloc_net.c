/* tests/fault/test_alloc_net.c - a network when memory is out: made, one step, freed. */
#include "engine/train/net.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <string.h>

static struct net_opts small(void)
{
    return (struct net_opts){ .shape = { .n_vocab = 11,
                                         .n_ctx = 8,
                                         .n_layer = 2,
                                         .d_model = 8,
                                         .n_head = 2,
                                         .n_kv_head = 1,
                                         .d_head = 4,
                                         .d_ff = 12,
                                         .gated = true,
                                         .norm_eps = 1e-5,
                                         .rope_theta = 10000 },
                              .batch = 2,
                              .n_tok = 8 };
}

static enum status one_step(void *ctx, void **ret, struct err *err)
{
    static const int32_t token[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    static struct net_loss loss;
    struct net_batch b = { .rows = 1, .cols = 8, .token = token, .target = token };
    struct net *n;
    if (net_create(ctx, &n, err) != ST_OK)
        return err->code;
    net_init(n, 1);
    net_grad(n, &b, 1, &loss);
    net_free(n);
    *ret = &loss;
    return ST_OK;
}

static void print_loss(void *ctx, void *made, struct buf *out)
{
    const struct net_loss *l = made;
    (void)ctx;
    buf_printf(out, "%.17g", l->nll);
}

Test(alloc_net, a_network_without_memory_says_so)
{
    struct net_opts o = small();
    nth_alloc(&(struct nth_op){ .name = "net", .ctx = &o, .run = one_step, .print = print_loss });
}
