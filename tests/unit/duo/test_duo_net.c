/* tests/unit/duo/test_duo_net.c - what a Duo network promises: all big is the dense network bit for
 * bit, routes see nothing that comes later, the published model's size, parts that are the whole.
 */
#include "engine/train/net_parts.h"
#include "tests/unit/train/rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct net_shape duo_shape(void)
{
    struct net_shape s = rig_shape();
    s.d_small = 5;
    return s;
}

Test(duo_net, the_published_model_has_its_number_of_parameters)
{
    struct net_shape s = { .n_vocab = 32000,
                           .n_ctx = 2048,
                           .n_layer = 12,
                           .d_model = 2560,
                           .n_head = 20,
                           .n_kv_head = 20,
                           .d_head = 128,
                           .d_ff = 10240,
                           .d_small = 640,
                           .gated = true,
                           .tied = true,
                           .norm_eps = 1e-5,
                           .rope_theta = 10000 };
    struct err err = ERR_INIT;
    cr_assert_eq(net_shape_check(&s, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(net_n_param(&s), 1399257600u, "%llu", (unsigned long long)net_n_param(&s));
}

/* The Duo network's parameters into a dense one, by name. */
static void copy_shared(struct net *to, const struct net *from)
{
    const struct net_shape *a = net_shape_of(to), *b = net_shape_of(from);
    uint32_t na = net_n_tensor(a), nb = net_n_tensor(b);
    struct net_tensor *ta = calloc(na, sizeof *ta), *tb = calloc(nb, sizeof *tb);
    cr_assert(ta && tb);
    net_tensors(a, ta);
    net_tensors(b, tb);
    for (uint32_t i = 0; i < na; i++)
        for (uint32_t k = 0; k < nb; k++)
            if (strcmp(ta[i].name, tb[k].name) == 0)
                memcpy(net_params(to) + ta[i].at,
                       net_params((struct net *)(uintptr_t)from) + tb[k].at,
                       (size_t)ta[i].rows * ta[i].cols * sizeof(real));
    free(ta);
    free(tb);
}

/* choice 0: the dense network with the big parts; 1: with the small ones. */
static void check_dense(enum net_route choice)
{
    struct net_shape s = duo_shape(), dense = rig_shape();
    struct net_opts o = rig_opts(&s), od;
    struct net_rig r, d;
    struct net_loss a, b;
    size_t tok = (size_t)o.batch * o.n_tok;
    uint8_t *route = malloc(s.n_layer * tok);
    float one[64], two[64];
    cr_assert(route);
    memset(route, choice, s.n_layer * tok);
    if (choice == NET_SMALL)
        dense.d_ff = s.d_small;
    od = rig_opts(&dense);
    rig_open(&r, &o, 3, true);
    rig_open(&d, &od, 3, true);
    copy_shared(d.n, r.n);
    if (choice == NET_SMALL) { /* by another name */
        uint32_t n = net_n_tensor(&s), nd = net_n_tensor(&dense);
        struct net_tensor *t = calloc(n, sizeof *t), *td = calloc(nd, sizeof *td);
        cr_assert(t && td);
        net_tensors(&s, t);
        net_tensors(&dense, td);
        for (uint32_t i = 0; i < nd; i++)
            for (uint32_t k = 0; k < n; k++) {
                char name[64];
                char *dot = strstr(td[i].name, ".weight");
                snprintf(name, sizeof name, "%.*s_small.weight", (int)(dot - td[i].name),
                         td[i].name);
                if (strcmp(name, t[k].name) == 0)
                    memcpy(net_params(d.n) + td[i].at, net_params(r.n) + t[k].at,
                           (size_t)td[i].rows * td[i].cols * sizeof(real));
            }
        free(t);
        free(td);
    }
    net_set_route(r.n, route);
    net_eval(r.n, &r.b, one, &a);
    net_eval(d.n, &r.b, two, &b);
    cr_expect_eq(memcmp(one, two, tok * sizeof *one), 0, "losses of way %d", (int)choice);
    if (choice == NET_BIG) { /* and no routes at all */
        net_set_route(r.n, NULL);
        net_eval(r.n, &r.b, two, &b);
        cr_expect_eq(memcmp(one, two, tok * sizeof *one), 0);
        memset(net_grads(r.n), 0, r.n_param * sizeof(real));
        memset(net_grads(d.n), 0, d.n_param * sizeof(real));
        net_set_route(r.n, route);
        net_grad(r.n, &r.b, 1, &a);
        net_grad(d.n, &r.b, 1, &b);
        uint64_t embed = (uint64_t)s.n_vocab * s.d_model;
        cr_expect_eq(memcmp(net_grads(r.n), net_grads(d.n), embed * sizeof(real)), 0,
                     "gradients of the embedding");
    }
    free(route);
    rig_close(&r);
    rig_close(&d);
}

Test(duo_net, all_big_and_all_small_are_dense_networks_bit_for_bit)
{
    check_dense(NET_BIG);
    check_dense(NET_SMALL);
}

Test(duo_net, where_nobody_skips_the_scope_of_skipping_changes_nothing)
{
    float a[64], b[64];
    for (int k = 0; k < 2; k++) {
        struct net_shape s = duo_shape();
        struct net_rig r;
        struct net_loss l;
        struct rng rng = { 5 };
        s.skip_layer = k;
        struct net_opts o = rig_opts(&s);
        size_t tok = (size_t)o.batch * o.n_tok;
        uint8_t route[64];
        rig_open(&r, &o, 11, true);
        for (size_t i = 0; i < s.n_layer * tok; i++)
            route[i] = (uint8_t)rng_below(&rng, 2);
        net_set_route(r.n, route);
        net_eval(r.n, &r.b, k ? b : a, &l);
        rig_close(&r);
        if (k)
            cr_expect_eq(memcmp(a, b, tok * sizeof *a), 0);
    }
}

/* Routes from what the router reads: more big where the first number is positive. */
static void choose(void *user, uint32_t layer, size_t n_tok, const real *x, uint8_t *route)
{
    (void)layer;
    for (size_t t = 0; t < n_tok; t++)
        route[t] = x[t * 10] > (real)0.3 ? NET_BIG : x[t * 10] < (real)-0.5 ? NET_SKIP : NET_SMALL;
    ++*(unsigned *)user;
}

Test(duo_net, no_way_lets_a_token_see_a_later_one)
{
    for (int mode = 0; mode < 4; mode++) { /* drawn routes, chosen routes; both scopes */
        struct net_shape s = duo_shape();
        struct net_rig r;
        struct net_loss l;
        struct rng rng = { 6 };
        float before[64], after[64];
        uint8_t route[64];
        unsigned calls = 0;
        s.skip_layer = mode & 1;
        struct net_opts o = rig_opts(&s);
        size_t tok = (size_t)o.batch * o.n_tok;
        rig_open(&r, &o, 12, false);
        for (size_t i = 0; i < s.n_layer * tok; i++)
            route[i] = (uint8_t)rng_below(&rng, NET_ROUTES);
        if (mode & 2)
            net_on_route(r.n, choose, &calls);
        else
            net_set_route(r.n, route);
        net_eval(r.n, &r.b, before, &l);
        int32_t *late = &r.token[4]; /* of the first row */
        *late = (*late + 1) % (int32_t)s.n_vocab;
        net_eval(r.n, &r.b, after, &l);
        cr_expect_eq(memcmp(before, after, 4 * sizeof *before), 0, "mode %d", mode);
        cr_expect_neq(memcmp(before + 4, after + 4, 3 * sizeof *before), 0, "mode %d", mode);
        if (mode & 2)
            cr_expect_eq(calls, 2 * s.n_layer);
        rig_close(&r);
    }
}

Test(duo_net, the_parts_are_the_whole_bit_for_bit)
{
    struct net_shape s = duo_shape();
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    size_t tok = (size_t)o.batch * o.n_tok, d = s.d_model;
    real *want = malloc(tok * s.n_vocab * sizeof *want),
         *got = malloc(tok * s.n_vocab * sizeof *got);
    real *x = malloc(tok * d * sizeof *x), *mid = malloc(tok * d * sizeof *mid);
    uint8_t route[64];
    cr_assert(want && got && x && mid);
    rig_open(&r, &o, 14, true);
    memset(route, NET_SMALL, tok);
    memset(route + tok, NET_BIG, tok);
    net_set_route(r.n, route);
    net_logits(r.n, &r.b, want);
    net_set_route(r.n, NULL);
    net_parts_begin(r.n, &r.b);
    net_part_embed(r.n, x);
    for (uint32_t l = 0; l < s.n_layer; l++) {
        net_part_attention(r.n, l, x, mid);
        net_part_ffn(r.n, l, l ? NET_BIG : NET_SMALL, mid, x);
    }
    net_part_head(r.n, x, got);
    cr_expect_eq(memcmp(got, want, tok * s.n_vocab * sizeof *want), 0);
    free(want);
    free(got);
    free(x);
    free(mid);
    rig_close(&r);
}

Test(duo_net, shapes_that_cannot_be_are_refused_by_name)
{
    struct err err = ERR_INIT;
    struct net_shape s = duo_shape();
    s.d_small = s.d_ff + 1;
    cr_expect_eq(net_shape_check(&s, &err), ST_RANGE);
    cr_expect_not_null(strstr(err.msg, "d_small"));
    s = duo_shape();
    s.bias = true;
    err_clear(&err);
    cr_expect_eq(net_shape_check(&s, &err), ST_RANGE);
    s = rig_shape();
    s.skip_layer = true;
    err_clear(&err);
    cr_expect_eq(net_shape_check(&s, &err), ST_RANGE);
    cr_expect_not_null(strstr(err.msg, "skip_layer"));
}
