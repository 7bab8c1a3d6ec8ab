/* tests/unit/train/test_net_shape.c - parameters of published shapes, which shapes are refused, and
 * that the plan is what is allocated. The allocator is wrapped at link time. */
#include "tests/unit/train/rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct net_shape llama(uint32_t n_layer, uint32_t d, uint32_t d_ff, bool tied)
{
    return (struct net_shape){ .n_vocab = 32000,
                               .n_ctx = 1024,
                               .n_layer = n_layer,
                               .d_model = d,
                               .n_head = d / 64,
                               .n_kv_head = d / 64,
                               .d_head = 64,
                               .d_ff = d_ff,
                               .gated = true,
                               .tied = tied,
                               .norm_eps = 1e-5,
                               .rope_theta = 10000 };
}

/* training.md 3.1 (four models of arXiv 2410.19456) and 1.1 (arXiv 2410.10846 without its small
 * FFNs, 12 x 3 x 2560 x 640). */
Test(net_shape, published_shapes_have_their_published_number_of_parameters)
{
    static const struct {
        uint32_t n_layer, d, d_ff;
        bool tied;
        uint64_t n;
    } t[] = { { 9, 832, 2332, false, 130569920 },
              { 15, 1536, 4147, false, 526550016 },
              { 19, 1920, 5184, false, 970458240 },
              { 24, 2496, 6739, false, 1969027008 },
              { 12, 2560, 10240, true, 1399257600 - 58982400 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct net_shape s = llama(t[i].n_layer, t[i].d, t[i].d_ff, t[i].tied);
        struct err err = ERR_INIT;
        cr_expect_eq(net_shape_check(&s, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(net_n_param(&s), t[i].n, "%zu: %lu, not %lu", i, net_n_param(&s), t[i].n);
    }
}

Test(net_shape, tensors_fill_the_array_in_order_and_carry_ggufs_names)
{
    struct net_tensor t[60];
    for (int form = 0; form < 32; form++) {
        struct net_shape s = rig_shape();
        uint64_t at = 0;
        s.norm = form & 1 ? NET_LAYER : NET_RMS;
        s.pos = form & 2 ? NET_LEARNED : NET_ROPE;
        s.gated = form & 4;
        s.tied = form & 8;
        s.bias = form & 16;
        uint32_t n = net_n_tensor(&s);
        cr_assert_leq(n, 60u);
        net_tensors(&s, t);
        for (uint32_t i = 0; i < n; i++) {
            cr_expect_eq(t[i].at, at, "%s", t[i].name);
            at += (uint64_t)t[i].rows * t[i].cols;
            bool matrix = t[i].rows > 1 && !strstr(t[i].name, "embd");
            cr_expect_eq(t[i].decay, matrix, "%s", t[i].name);
            cr_expect_eq(t[i].layer, strncmp(t[i].name, "blk.", 4) ? -1 : atoi(t[i].name + 4));
        }
        cr_expect_eq(at, net_n_param(&s));
        cr_expect_str_eq(t[0].name, "token_embd.weight");
        cr_expect_eq(strcmp(t[n - 1].name, "output.weight") == 0, !s.tied);
    }
}

Test(net_shape, shapes_that_cannot_be_are_refused_by_name)
{
    struct net_shape good = rig_shape(), s;
    struct err err = ERR_INIT;
    const struct {
        const char *field;
        size_t at;
        uint32_t v;
    } t[] = { { "n_vocab", offsetof(struct net_shape, n_vocab), 0 },
              { "n_vocab", offsetof(struct net_shape, n_vocab), 4000000000 },
              { "n_vocab x d_model", offsetof(struct net_shape, n_vocab), 2000000000 },
              { "n_ctx", offsetof(struct net_shape, n_ctx), 0 },
              { "n_ctx x d_model", offsetof(struct net_shape, n_ctx), 300000000 },
              { "n_layer", offsetof(struct net_shape, n_layer), 0 },
              { "n_layer", offsetof(struct net_shape, n_layer), 100000 },
              { "d_model", offsetof(struct net_shape, d_model), 0 },
              { "n_head", offsetof(struct net_shape, n_head), 0 },
              { "n_head", offsetof(struct net_shape, n_head), 5 },
              { "n_head x d_head", offsetof(struct net_shape, n_head), 2000000000 },
              { "n_kv_head", offsetof(struct net_shape, n_kv_head), 0 },
              { "n_kv_head", offsetof(struct net_shape, n_kv_head), 5 },
              { "d_head", offsetof(struct net_shape, d_head), 0 },
              { "d_head", offsetof(struct net_shape, d_head), 5 },
              { "heads x d_head x d_model", offsetof(struct net_shape, d_head), 40000000 },
              { "d_ff", offsetof(struct net_shape, d_ff), 0 },
              { "d_ff x d_model", offsetof(struct net_shape, d_ff), 400000000 },
              { "norm", offsetof(struct net_shape, norm), 2 },
              { "pos", offsetof(struct net_shape, pos), 2 },
              { "act", offsetof(struct net_shape, act), 5 } };
    cr_expect_eq(net_shape_check(&good, &err), ST_OK, "%s", err.msg);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        s = good;
        memcpy((char *)&s + t[i].at, &t[i].v, sizeof t[i].v);
        err_clear(&err);
        cr_expect_eq(net_shape_check(&s, &err), ST_RANGE, "%s = %u", t[i].field, t[i].v);
        size_t n = strlen(t[i].field);
        cr_expect(strncmp(err.msg, t[i].field, n) == 0 && err.msg[n] == ':', "%s: %s", t[i].field,
                  err.msg);
    }
}

Test(net_shape, numbers_that_make_no_sense_are_refused_by_name)
{
    const struct {
        const char *field;
        size_t at;
        double v;
    } t[] = { { "norm_eps", offsetof(struct net_shape, norm_eps), 0 },
              { "norm_eps", offsetof(struct net_shape, norm_eps), (double)NAN },
              { "norm_eps", offsetof(struct net_shape, norm_eps), 2 },
              { "act_shift", offsetof(struct net_shape, act_shift), (double)INFINITY },
              { "rope_theta", offsetof(struct net_shape, rope_theta), 0.5 },
              { "rope_theta", offsetof(struct net_shape, rope_theta), (double)NAN } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct net_shape s = rig_shape();
        struct err err = ERR_INIT;
        memcpy((char *)&s + t[i].at, &t[i].v, sizeof t[i].v);
        cr_expect_eq(net_shape_check(&s, &err), ST_RANGE, "%s = %g", t[i].field, t[i].v);
        cr_expect(strncmp(err.msg, t[i].field, strlen(t[i].field)) == 0, "%s", err.msg);
    }
    struct net_shape s = rig_shape();
    struct err err = ERR_INIT;
    s.gated = false;
    s.up_relu = true;
    cr_expect_eq(net_shape_check(&s, &err), ST_RANGE);
}

Test(net_shape, batches_that_cannot_be_are_refused_and_nothing_is_written)
{
    struct net_shape s = rig_shape();
    struct net_opts good = rig_opts(&s), o;
    struct net_bytes b = { .total = 77 };
    struct net *n = (struct net *)&s;
    const struct {
        uint32_t batch, n_tok;
    } t[] = { { 0, 1 }, { 1, 0 }, { 1, 10 }, { 4000000000, 1 }, { 1000000000, 9 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct err err = ERR_INIT;
        o = good;
        o.batch = t[i].batch;
        o.n_tok = t[i].n_tok;
        cr_expect_eq(net_plan(&o, &b, &err), ST_RANGE, "%zu", i);
        err_clear(&err);
        cr_expect_eq(net_create(&o, &n, &err), ST_RANGE, "%zu", i);
    }
    struct err err = ERR_INIT;
    o = good;
    o.shape.d_ff = 0;
    cr_expect_eq(net_plan(&o, &b, &err), ST_RANGE);
    cr_expect(b.total == 77 && n == (struct net *)&s);
}

/* Bytes in use through the project's own calls. */
static size_t in_use, n_call;
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
    n_call++;
    in_use += n;
    return __real_malloc(n);
}
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    n_call++;
    in_use += n * size;
    return __real_calloc(n, size);
}
void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t from)
{
    n_call++;
    in_use += n;
    return __real_mmap64(at, n, prot, flags, fd, from);
}
int __real_munmap(void *at, size_t n);
int __wrap_munmap(void *at, size_t n);
int __wrap_munmap(void *at, size_t n)
{
    in_use -= n;
    return __real_munmap(at, n);
}

Test(net_shape, what_is_allocated_is_the_plan_and_a_step_allocates_nothing)
{
    for (int form = 0; form < 32; form++) {
        struct net_shape s = rig_shape();
        struct err err = ERR_INIT;
        struct net_bytes b;
        struct net_rig r;
        s.n_vocab = 5000;
        s.gated = form & 1;
        struct net_opts o = rig_opts(&s);
        o.batch = 200;
        o.recompute = form & 2;
        o.infer = form & 4;
        o.attn = form & 8 ? NET_ATTN_NAIVE : NET_ATTN_TILED;
        o.keep = form & 16 ? NET_KEEP_BF16 : NET_KEEP_REAL;
        cr_assert_eq(net_plan(&o, &b, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(b.params + b.grads + b.activations + b.scratch, b.total);
        struct net *n;
        in_use = 0;
        cr_assert_eq(net_create(&o, &n, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(in_use, b.total, "form %d: %zu bytes, planned %lu", form, in_use, b.total);
        net_free(n);
        rig_open(&r, &o, 1, false);
        n_call = 0;
        rig_loss(&r);
        if (!o.infer)
            rig_grad(&r);
        cr_expect_eq(n_call, 0u, "form %d: %zu allocations in a step", form, n_call);
        rig_close(&r);
    }
}

/* A token keeps in each layer its input, q k v, attention, mid, gate and up: 2 bytes of each, and 4
 * of a head's sum, where f32 has 4 of all; what one layer works on, and the next one's input, comes
 * on top. All sizes here are multiples of what buffers are rounded up to. */
Test(net_shape, kept_as_bf16_activations_are_half_and_those_of_one_layer)
{
    struct net_shape s = rig_shape();
    struct err err = ERR_INIT;
    struct net_bytes wide, half, again;
    s.n_layer = 6;
    s.d_model = 64;
    s.d_ff = 96;
    s.n_head = 16;
    struct net_opts o = rig_opts(&s);
    o.batch = 8;
    o.n_tok = 8;
    uint64_t tok = 64, x = 64, lse = 16 * 4, rest = (16 + 2 * 2) * 4 + 16 * 4 + 64 + 2 * 96;
    cr_assert_eq(net_plan(&o, &wide, &err), ST_OK, "%s", err.msg);
    o.keep = NET_KEEP_BF16;
    cr_assert_eq(net_plan(&o, &half, &err), ST_OK, "%s", err.msg);
    o.recompute = true;
    cr_assert_eq(net_plan(&o, &again, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(wide.activations, tok * (6 * (4 * rest + lse) + 7 * 4 * x));
    cr_expect_eq(half.activations, tok * (6 * (2 * rest + 2 * x + lse) + 4 * rest + 2 * 4 * x),
                 "%lu", half.activations);
    cr_expect_eq(again.activations, tok * (6 * 2 * x + 4 * rest + lse + 2 * 4 * x));
    cr_expect(again.total <= half.total && half.total <= wide.total);
}

static size_t resident(void)
{
    size_t pages = 0, total;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert_not_null(f);
    cr_assert_eq(fscanf(f, "%zu %zu", &total, &pages), 2);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* The buffers that a step touches are all there is: 24 MiB of parameters, as many of gradients, and
 * the library's packing buffers beside them. */
Test(net_shape, a_step_makes_the_plan_resident_and_little_more)
{
    struct net_shape s = rig_shape();
    struct err err = ERR_INIT;
    struct net_bytes b;
    struct net_rig r;
    s.n_vocab = 10000;
    s.d_model = 512;
    s.d_ff = 1000;
    struct net_opts o = rig_opts(&s);
    o.batch = 16;
    cr_assert_eq(net_plan(&o, &b, &err), ST_OK, "%s", err.msg);
    size_t before = resident();
    rig_open(&r, &o, 1, false);
    rig_grad(&r);
    size_t grown = resident() - before;
    rig_close(&r);
    cr_expect(grown > b.total / 10 * 9 && grown < b.total + (48 << 20), "%zu bytes, planned %lu",
              grown, b.total);
}

Test(net_shape, bf16_works_or_says_that_it_does_not)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s);
    struct err err = ERR_INIT;
    struct net *n = NULL;
    o.gemm = NET_GEMM_BF16;
    enum status st = net_create(&o, &n, &err);
    cr_expect(st == ST_OK || (st == ST_UNSUPPORTED && !n && strstr(err.msg, "bf16")), "%s",
              err.msg);
    net_free(n);
    net_free(NULL);
}
