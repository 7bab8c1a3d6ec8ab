/* tests/unit/duo/test_duo_f64.c - derivatives of routed networks and of the soft router against
 * central differences in double (the bounds are those of tests/unit/train/test_net_f64.c). */
#include "engine/train/net_soft.h"
#include "tests/unit/train/rig.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct net_shape duo_shape(bool skip_layer)
{
    struct net_shape s = rig_shape();
    s.d_small = 5;
    s.skip_layer = skip_layer;
    return s;
}

static uint8_t *draw_routes(const struct net_shape *s, size_t tok, uint64_t seed)
{
    struct rng rng = { seed };
    uint8_t *r = malloc(s->n_layer * tok);
    cr_assert(r);
    for (size_t i = 0; i < s->n_layer * tok; i++)
        r[i] = (uint8_t)rng_below(&rng, NET_ROUTES);
    return r;
}

static double at(struct net_rig *r, const real *base, const real *dir, double h)
{
    for (uint64_t i = 0; i < r->n_param; i++)
        net_params(r->n)[i] = base[i] + h * dir[i];
    return rig_loss(r);
}

static double five_points(double (*f)(void *ctx, double h), void *ctx, double h)
{
    return (8 * (f(ctx, h) - f(ctx, -h)) - (f(ctx, 2 * h) - f(ctx, -2 * h))) / (12 * h);
}

struct line {
    struct net_rig *r;
    const real *base, *dir;
};

static double on_line(void *ctx, double h)
{
    struct line *l = ctx;
    return at(l->r, l->base, l->dir, h);
}

static void check_routed(bool skip_layer, bool recompute, uint64_t seed)
{
    struct net_shape s = duo_shape(skip_layer);
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    struct rng rng = { seed };
    o.recompute = recompute;
    rig_open(&r, &o, seed, true);
    uint8_t *route = draw_routes(&s, (size_t)o.batch * o.n_tok, seed + 1);
    net_set_route(r.n, route);
    real *base = malloc(r.n_param * sizeof *base), *dir = calloc(r.n_param, sizeof *dir);
    real *grad = malloc(r.n_param * sizeof *grad);
    uint32_t n = net_n_tensor(&s);
    struct net_tensor *t = calloc(n, sizeof *t);
    cr_assert(base && dir && grad && t);
    double loss = rig_grad(&r);
    memcpy(base, net_params(r.n), r.n_param * sizeof *base);
    memcpy(grad, net_grads(r.n), r.n_param * sizeof *grad);
    net_tensors(&s, t);
    for (uint32_t i = 0; i < n; i++) {
        double got = 0, norm = 0;
        memset(dir, 0, r.n_param * sizeof *dir);
        for (uint64_t k = t[i].at; k < t[i].at + (uint64_t)t[i].rows * t[i].cols; k++) {
            dir[k] = rig_normal(&rng);
            norm += dir[k] * dir[k];
        }
        for (uint64_t k = 0; k < r.n_param; k++) {
            dir[k] /= sqrt(norm);
            got += grad[k] * dir[k];
        }
        struct line l = { &r, base, dir };
        double want = five_points(on_line, &l, 1e-3);
        double floor = 300 * DBL_EPSILON * fabs(loss) / 1e-3;
        cr_expect_leq(fabs(got - want), 1e-6 * fabs(want) + floor,
                      "%s, skip %s: %.12g, central difference %.12g", t[i].name,
                      skip_layer ? "layer" : "ffn", got, want);
    }
    free(t);
    free(base);
    free(dir);
    free(grad);
    free(route);
    rig_close(&r);
}

Test(duo_f64, gradients_through_mixed_routes_are_derivatives, .timeout = 600)
{
    check_routed(false, false, 5);
    check_routed(true, false, 6);
    check_routed(true, true, 7);
}

/* ---- the soft router ---- */

struct soft {
    struct net_rig *r;
    struct net_soft *s;
    struct net_router router, grad;
    real *w, *g, *base, *dir;
    uint64_t n;
};

static double soft_loss(struct soft *s, struct net_soft_loss *all)
{
    struct net_soft_opts o = {
        .router = &s->router, .grad = &s->grad, .tau = 1.7, .alpha = 3, .budget = 0.4
    };
    net_soft_grad(s->r->n, s->s, &s->r->b, &o, all);
    return all->nll / all->weight + all->budget;
}

static double soft_line(void *ctx, double h)
{
    struct soft *s = ctx;
    struct net_soft_loss all;
    for (uint64_t i = 0; i < s->n; i++)
        s->w[i] = s->base[i] + h * s->dir[i];
    return soft_loss(s, &all);
}

static void check_soft(uint32_t choices, uint32_t hidden, bool skip_layer)
{
    struct net_shape s = duo_shape(false);
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    struct err err = ERR_INIT;
    struct rng rng = { 99 };
    struct net_soft_loss all;
    o.shape.skip_layer = skip_layer;
    rig_open(&r, &o, 21, true);
    struct soft x = { .r = &r, .n = net_router_n(&s, choices, hidden) };
    x.router = x.grad = (struct net_router){ .n_choice = choices, .n_hidden = hidden };
    x.w = calloc(x.n, sizeof *x.w);
    x.g = calloc(x.n, sizeof *x.g);
    x.base = calloc(x.n, sizeof *x.base);
    x.dir = calloc(x.n, sizeof *x.dir);
    cr_assert(x.w && x.g && x.base && x.dir);
    net_router_lay_out(&s, x.w, &x.router);
    net_router_lay_out(&s, x.g, &x.grad);
    for (uint64_t i = 0; i < x.n; i++)
        x.w[i] = x.base[i] = 0.4 * rig_normal(&rng);
    cr_assert_eq(net_soft_create(r.n, choices, hidden, &x.s, &err), ST_OK, "%s", err.msg);
    double loss = soft_loss(&x, &all), floor = 300 * DBL_EPSILON * fabs(loss) / 1e-4;
    real *grad = malloc(x.n * sizeof *grad);
    cr_assert(grad);
    memcpy(grad, x.g, x.n * sizeof *grad);
    for (int d = 0; d < 12; d++) {
        double got = 0, norm = 0;
        for (uint64_t i = 0; i < x.n; i++) {
            x.dir[i] = rig_normal(&rng);
            norm += x.dir[i] * x.dir[i];
        }
        for (uint64_t i = 0; i < x.n; i++) {
            x.dir[i] /= sqrt(norm);
            got += grad[i] * x.dir[i];
        }
        double want = five_points(soft_line, &x, hidden ? 1e-5 : 1e-4);
        if (hidden) /* ReLU turns: coarse, but a missing factor shows */
            cr_expect_leq(fabs(got - want), 1e-4 * fabs(want) + 100 * floor, "%g, %g", got, want);
        else
            cr_expect_leq(fabs(got - want), 1e-6 * fabs(want) + floor, "%g, %g", got, want);
    }
    free(grad);
    free(x.w);
    free(x.g);
    free(x.base);
    free(x.dir);
    net_soft_free(x.s);
    rig_close(&r);
}

Test(duo_f64, the_soft_routers_gradient_is_the_derivative_of_loss_and_budget, .timeout = 600)
{
    check_soft(2, 0, false);
    check_soft(3, 0, false);
    check_soft(2, 6, false);
    check_soft(2, 0, true);
    check_soft(3, 0, true);
    check_soft(3, 6, true);
}

/* All that skip whole layers leave the embedding as it is: the loss is that of no layer at all. */
Test(duo_f64, a_router_that_is_sure_of_skipping_layers_leaves_the_embedding)
{
    struct net_shape s = duo_shape(false);
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    struct err err = ERR_INIT;
    struct net_soft_loss all;
    o.shape.skip_layer = true;
    rig_open(&r, &o, 3, false);
    uint64_t n = net_router_n(&s, 3, 0);
    size_t cells = (size_t)r.b.rows * r.b.cols;
    real *w = calloc(n, sizeof *w), *g = calloc(n, sizeof *g);
    uint8_t *skip = malloc(cells * s.n_layer);
    cr_assert(w && g && skip);
    struct soft x = { .r = &r };
    x.router = x.grad = (struct net_router){ .n_choice = 3 };
    net_router_lay_out(&s, w, &x.router);
    net_router_lay_out(&s, g, &x.grad);
    for (uint32_t l = 0; l < s.n_layer; l++)
        x.router.bias[3 * l + NET_SKIP] = 100;
    cr_assert_eq(net_soft_create(r.n, 3, 0, &x.s, &err), ST_OK);
    soft_loss(&x, &all);
    memset(skip, NET_SKIP, cells * s.n_layer);
    net_set_route(r.n, skip);
    cr_expect_lt(fabs(all.nll / all.weight - rig_loss(&r)), 1e-12);
    net_set_route(r.n, NULL);
    cr_expect_lt(fabs(all.soft), 1e-12);
    net_soft_free(x.s);
    free(w);
    free(g);
    free(skip);
    rig_close(&r);
}

Test(duo_f64, a_router_that_is_sure_of_big_is_the_dense_network)
{
    struct net_shape s = duo_shape(false);
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    struct err err = ERR_INIT;
    struct net_soft_loss all;
    rig_open(&r, &o, 3, false);
    uint64_t n = net_router_n(&s, 2, 0);
    real *w = calloc(n, sizeof *w), *g = calloc(n, sizeof *g);
    cr_assert(w && g);
    struct soft x = { .r = &r };
    x.router = x.grad = (struct net_router){ .n_choice = 2 };
    net_router_lay_out(&s, w, &x.router);
    net_router_lay_out(&s, g, &x.grad);
    for (uint32_t l = 0; l < s.n_layer; l++)
        x.router.bias[2 * l] = 100;
    cr_assert_eq(net_soft_create(r.n, 2, 0, &x.s, &err), ST_OK);
    soft_loss(&x, &all);
    cr_expect_lt(fabs(all.nll / all.weight - rig_loss(&r)), 1e-12);
    cr_expect_lt(fabs(all.soft - 1), 1e-12);
    cr_expect_lt(fabs(all.budget - 3 * 0.36), 1e-12, "alpha (1 - 0.4)^2");
    net_soft_free(x.s);
    free(w);
    free(g);
    rig_close(&r);
}
