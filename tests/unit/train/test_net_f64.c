/* tests/unit/train/test_net_f64.c - derivatives of the whole network against central differences,
 * in double. Five points: with f known to about k u |f|, k some hundred roundings,
 *     (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h
 * is wrong by h^4 f'''''/30 + 1.5 k u |f| / h. At h = 1e-3 and with derivatives of the order of 1
 * both are below 1e-10; a relative error of 1e-6 stands out from a slope of 1e-4 on. */
#include "tests/unit/train/rig.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDINGS = 300 };

/* Loss at params + h dir. */
static double loss_at(struct net_rig *r, const real *base, const real *dir, double h)
{
    real *p = net_params(r->n);
    for (uint64_t i = 0; i < r->n_param; i++)
        p[i] = base[i] + h * dir[i];
    return rig_loss(r);
}

static double slope(struct net_rig *r, const real *base, const real *dir, double h)
{
    double near = loss_at(r, base, dir, h) - loss_at(r, base, dir, -h);
    double far = loss_at(r, base, dir, 2 * h) - loss_at(r, base, dir, -2 * h);
    return (8 * near - far) / (12 * h);
}

/* What the formula itself may be off by: rounding. */
static double noise(double f, double h)
{
    return 1.5 * ROUNDINGS * DBL_EPSILON / 2 * fabs(f) / h;
}

struct check {
    struct net_rig *r;
    real *base, *grad, *dir;
    double loss, h;
    const char *what;
    unsigned n_done, n_kink;
};

/* The slope along `dir` (unit length). Where a ReLU turns between the points, two step widths
 * disagree: no statement then. A wrong gradient does not make them disagree. */
static void check_dir(struct check *c, const char *where)
{
    double want = slope(c->r, c->base, c->dir, c->h),
           again = slope(c->r, c->base, c->dir, c->h / 2);
    double got = 0, floor = noise(c->loss, c->h / 2);
    for (uint64_t i = 0; i < c->r->n_param; i++)
        got += c->grad[i] * c->dir[i];
    if (fabs(want - again) > 2e-7 * fabs(again) + 2 * floor) {
        c->n_kink++;
        return;
    }
    c->n_done++;
    cr_expect_leq(fabs(got - again), 1e-6 * fabs(again) + floor,
                  "%s, %s: %.12g, central difference %.12g", c->what, where, got, again);
}

static void check_open(struct check *c, struct net_rig *r, const char *what)
{
    size_t bytes = r->n_param * sizeof(real);
    bool kinks = net_shape_of(r->n)->act >= NET_RELU || net_shape_of(r->n)->norm_relu ||
                 net_shape_of(r->n)->up_relu;
    *c = (struct check){ .r = r, .what = what, .h = kinks ? 1e-5 : 1e-3 };
    c->base = malloc(bytes);
    c->grad = malloc(bytes);
    c->dir = calloc(r->n_param, sizeof(real));
    cr_assert(c->base && c->grad && c->dir);
    c->loss = rig_grad(r);
    memcpy(c->base, net_params(r->n), bytes);
    memcpy(c->grad, net_grads(r->n), bytes);
}

static void check_close(struct check *c)
{
    free(c->base);
    free(c->grad);
    free(c->dir);
}

/* A random direction within [from, from + n), the rest 0. */
static void draw_dir(struct check *c, struct rng *rng, uint64_t from, uint64_t n)
{
    double sum = 0;
    memset(c->dir, 0, c->r->n_param * sizeof(real));
    for (uint64_t i = from; i < from + n; i++) {
        c->dir[i] = rig_normal(rng);
        sum += c->dir[i] * c->dir[i];
    }
    for (uint64_t i = from; i < from + n; i++)
        c->dir[i] /= sqrt(sum);
}

static void describe(const struct net_shape *s, bool docs, char out[160])
{
    static const char *const act[] = { "silu", "gelu", "relu", "relu2", "fatrelu" };
    snprintf(out, 160, "%s %s %s%s%s%s%s%s kv%u%s", s->norm == NET_RMS ? "rms" : "layer",
             s->pos == NET_ROPE ? "rope" : "learned", act[s->act], s->gated ? " gated" : "",
             s->up_relu ? " up_relu" : "", s->norm_relu ? " norm_relu" : "", s->tied ? " tied" : "",
             s->bias ? " bias" : "", s->n_kv_head, docs ? " docs" : "");
}

/* Option number i of the product of all; false: not a valid one. */
static bool nth_shape(unsigned i, struct net_shape *s, bool *docs)
{
    *s = rig_shape();
    s->norm = i % 2 ? NET_LAYER : NET_RMS, i /= 2;
    s->pos = i % 2 ? NET_LEARNED : NET_ROPE, i /= 2;
    s->gated = i % 2, i /= 2;
    s->up_relu = i % 2, i /= 2;
    s->norm_relu = i % 2, i /= 2;
    s->tied = i % 2, i /= 2;
    s->bias = i % 2, i /= 2;
    s->n_kv_head = i % 2 ? 4 : 2, i /= 2;
    *docs = i % 2, i /= 2;
    s->act = (enum net_act)(i % 5), i /= 5;
    s->act_shift = s->act == NET_RELU ? 0.1 : s->act == NET_FATRELU ? 0.2 : 0;
    return i == 0 && (s->gated || !s->up_relu);
}

enum { N_SHAPE = 512 * 5 };

/* One direction through all parameters. Where it or its point has a kink, others are tried. Returns
 * how many had one. */
static unsigned check_shape(const struct net_shape *s, bool docs, uint64_t seed, const char *what)
{
    struct net_opts o = rig_opts(s);
    struct rng rng = { seed };
    struct net_rig r;
    struct check c;
    unsigned n_kink = 0, n_done = 0;
    for (int k = 0; k < 8 && n_done == 0; k++) {
        rig_open(&r, &o, seed + 1000000 * (uint64_t)k, docs);
        check_open(&c, &r, what);
        draw_dir(&c, &rng, 0, r.n_param);
        check_dir(&c, "all parameters");
        n_kink += c.n_kink;
        n_done += c.n_done;
        check_close(&c);
        rig_close(&r);
    }
    cr_expect_gt(n_done, 0u, "%s: kinks everywhere", what);
    return n_kink;
}

Test(net_f64, every_combination_of_options_has_the_right_slope, .timeout = 600)
{
    unsigned n_shape = 0, n_kink = 0;
    for (unsigned i = 0; i < N_SHAPE; i++) {
        struct net_shape s;
        char what[160];
        bool docs;
        if (!nth_shape(i, &s, &docs))
            continue;
        describe(&s, docs, what);
        n_shape++;
        n_kink += check_shape(&s, docs, 100 + i, what);
    }
    cr_expect_eq(n_shape, 1920u);
    cr_log_info("%u shapes, %u directions with a kink", n_shape, n_kink);
}

/* Single elements and a direction of each tensor, where the one above could miss a small one. */
static void check_tensors(struct check *c, struct rng *rng)
{
    const struct net_shape *s = net_shape_of(c->r->n);
    uint32_t count = net_n_tensor(s);
    struct net_tensor *t = calloc(count, sizeof *t);
    cr_assert_not_null(t);
    net_tensors(s, t);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = (uint64_t)t[i].rows * t[i].cols;
        draw_dir(c, rng, t[i].at, n);
        check_dir(c, t[i].name);
        draw_dir(c, rng, t[i].at + rng_below(rng, n), 1);
        check_dir(c, t[i].name);
    }
    free(t);
}

/* Every 41st shape: 47 of them, each option on and off at least a dozen times. */
Test(net_f64, every_tensor_has_the_right_gradient, .timeout = 600)
{
    struct rng rng = { 6 };
    unsigned n_done = 0, n_kink = 0;
    for (unsigned i = 0; i < N_SHAPE; i += 41) {
        struct net_shape s;
        struct net_rig r;
        struct check c;
        char what[160];
        bool docs;
        if (!nth_shape(i, &s, &docs))
            continue;
        struct net_opts o = rig_opts(&s);
        describe(&s, docs, what);
        rig_open(&r, &o, 200 + i, docs);
        check_open(&c, &r, what);
        check_tensors(&c, &rng);
        n_done += c.n_done;
        n_kink += c.n_kink;
        check_close(&c);
        rig_close(&r);
    }
    cr_expect_gt(n_done, 1000u);
    cr_expect_lt(n_kink, n_done / 20, "%u of %u directions have a kink", n_kink, n_done);
}

/* Loss and gradient of the same network in another form; free(). */
static real *grad_of(const struct net_opts *o, uint64_t seed, bool docs, double *loss)
{
    struct net_rig r;
    rig_open(&r, o, seed, docs);
    *loss = rig_grad(&r);
    size_t bytes = r.n_param * sizeof(real);
    real *g = malloc(bytes);
    cr_assert_not_null(g);
    memcpy(g, net_grads(r.n), bytes);
    rig_close(&r);
    return g;
}

static void expect_near(const real *a, const real *b, uint64_t n, const char *what,
                        const char *form)
{
    double diff = 0, size = 0;
    for (uint64_t i = 0; i < n; i++) {
        diff = fmax(diff, fabs(a[i] - b[i]));
        size = fmax(size, fabs(a[i]));
    }
    /* Some hundred roundings in another order. */
    cr_expect_leq(diff, ROUNDINGS * DBL_EPSILON * size, "%s, %s", what, form);
}

Test(net_f64, recomputing_is_bit_equal_and_pieces_and_naive_attention_are_equal, .timeout = 600)
{
    for (unsigned i = 0; i < N_SHAPE; i += 3) {
        struct net_shape s;
        char what[160];
        bool docs;
        double loss, again;
        if (!nth_shape(i, &s, &docs))
            continue;
        struct net_opts o = rig_opts(&s), p = o;
        uint64_t n = net_n_param(&s);
        describe(&s, docs, what);
        real *g = grad_of(&o, 300 + i, docs, &loss);
        p.recompute = true;
        real *q = grad_of(&p, 300 + i, docs, &again);
        cr_expect(loss == again && memcmp(g, q, n * sizeof *g) == 0, "%s, recomputed", what);
        free(q);
        p = o;
        p.vocab_chunk = 1 + i % 12;
        q = grad_of(&p, 300 + i, docs, &again);
        expect_near(g, q, n, what, "in pieces");
        cr_expect_float_eq(loss, again, 1e-13);
        free(q);
        p = o;
        p.attn = NET_ATTN_NAIVE;
        q = grad_of(&p, 300 + i, docs, &again);
        expect_near(g, q, n, what, "naive");
        free(q);
        free(g);
    }
}
