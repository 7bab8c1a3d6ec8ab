/* tests/unit/train/test_ops_f64.c - every operation's derivatives against central differences, in
 * double, element by element. The objective is the sum of out * c for a random c, so that its
 * derivative by an input is what backward makes of c. Five points at h = 1e-3 (see test_net_f64.c):
 * wrong by h^4 f'''''/30 plus rounding; inputs of operations with a kink keep away from it. */
#include "engine/base/rng.h"
#include "engine/train/ops.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double h = 1e-3;

static struct ops ops_here(void)
{
    return (struct ops){ .pass = pass_get(CPU_REF) };
}

static double uniform(struct rng *r)
{
    return 2 * rng_f64(r) - 1;
}

/* Arrays of a test, freed together. */
struct pile {
    void *p[32];
    size_t n;
};

static real *zeros(struct pile *m, size_t n)
{
    real *p = calloc(n ? n : 1, sizeof *p);
    cr_assert(p && m->n < sizeof m->p / sizeof *m->p);
    m->p[m->n++] = p;
    return p;
}

static real *drawn(struct pile *m, struct rng *r, size_t n)
{
    real *p = zeros(m, n);
    for (size_t i = 0; i < n; i++)
        p[i] = uniform(r);
    return p;
}

static void pile_free(struct pile *m)
{
    while (m->n)
        free(m->p[--m->n]);
}

static double inner(const real *a, const real *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

/* grad [n] against differences of f(ctx), which reads x [n]. */
static void expect_grad(const char *what, double (*f)(void *ctx), void *ctx, real *x,
                        const real *grad, size_t n)
{
    const double w[4] = { 1, -8, 8, -1 }, step[4] = { -2, -1, 1, 2 };
    for (size_t i = 0; i < n; i++) {
        double at = x[i], sum = 0, top = 0;
        for (int k = 0; k < 4; k++) {
            x[i] = at + step[k] * h;
            double v = f(ctx);
            sum += w[k] * v;
            top = fmax(top, fabs(v));
        }
        x[i] = at;
        sum /= 12 * h;
        /* 100 roundings of an objective of size `top` */
        double noise = 150 * DBL_EPSILON * (1 + top) / h;
        cr_expect_leq(fabs(grad[i] - sum), 1e-6 * fabs(sum) + noise,
                      "%s [%zu]: %.12g, central difference %.12g", what, i, grad[i], sum);
    }
}

struct linear_case {
    struct ops o;
    struct ops_linear l;
    real *x, *y, *c, *before;
};

static double linear_f(void *ctx)
{
    struct linear_case *t = ctx;
    memcpy(t->y, t->before, t->l.n_tok * t->l.n_out * sizeof *t->y);
    ops_linear(&t->o, &t->l, t->x, t->y, true);
    return inner(t->y, t->c, t->l.n_tok * t->l.n_out);
}

Test(ops_f64, linear_has_the_right_derivatives_and_adds_where_asked)
{
    struct pile m = { .n = 0 };
    struct rng r = { 1 };
    struct linear_case t = { .o = ops_here(), .l = { 5, 7, 6, NULL } };
    real *w = drawn(&m, &r, 42), *dw = drawn(&m, &r, 42), *dx = drawn(&m, &r, 35);
    real *dw0 = drawn(&m, &r, 42), *dx0 = drawn(&m, &r, 35);
    t.x = drawn(&m, &r, 35);
    t.c = drawn(&m, &r, 30);
    t.before = drawn(&m, &r, 30);
    t.y = zeros(&m, 30);
    t.l.w = w;
    memcpy(dw0, dw, 42 * sizeof *dw);
    memcpy(dx0, dx, 35 * sizeof *dx);
    ops_linear_dx(&t.o, &t.l, t.c, dx, true);
    ops_linear_dw(&t.o, &t.l, t.c, t.x, dw);
    for (int i = 0; i < 35; i++)
        dx[i] -= dx0[i];
    for (int i = 0; i < 42; i++)
        dw[i] -= dw0[i];
    expect_grad("dx", linear_f, &t, t.x, dx, 35);
    expect_grad("dw", linear_f, &t, w, dw, 42);
    ops_linear_dx(&t.o, &t.l, t.c, dx0, false);
    for (int i = 0; i < 35; i++)
        cr_expect_float_eq(dx0[i], dx[i], 1e-14);
    pile_free(&m);
}

struct embed_case {
    struct ops o;
    struct ops_embed e;
    real *embed, *place, *x, *c;
};

static double embed_f(void *ctx)
{
    struct embed_case *t = ctx;
    ops_embed(&t->o, &t->e, t->embed, t->place, t->x);
    return inner(t->x, t->c, t->e.n_tok * t->e.d);
}

Test(ops_f64, embeddings_of_repeated_tokens_add_up)
{
    static const int32_t token[] = { 2, 0, 2, 2, 1 }, place[] = { 0, 1, 2, 0, 1 };
    struct pile m = { .n = 0 };
    struct rng r = { 2 };
    struct embed_case t = { .o = ops_here(), .e = { 5, 3, token, place } };
    real *de = zeros(&m, 12), *dp = zeros(&m, 9);
    t.embed = drawn(&m, &r, 12);
    t.place = drawn(&m, &r, 9);
    t.x = zeros(&m, 15);
    t.c = drawn(&m, &r, 15);
    ops_embed_back(&t.o, &t.e, t.c, de, dp);
    expect_grad("embedding", embed_f, &t, t.embed, de, 12);
    expect_grad("place", embed_f, &t, t.place, dp, 9);
    pile_free(&m);
}

struct norm_case {
    struct ops o;
    struct pass_norm a;
    real *x, *y, *stat, *c;
};

static double norm_f(void *ctx)
{
    struct norm_case *t = ctx;
    ops_norm(&t->o, &t->a, t->x, t->y, t->stat);
    return inner(t->y, t->c, t->a.rows * t->a.d);
}

/* The smallest output in front of max(0, .). */
static double norm_margin(struct norm_case *t)
{
    double least = 1;
    t->a.relu = false;
    norm_f(t);
    for (size_t i = 0; i < t->a.rows * t->a.d; i++)
        least = fmin(least, fabs(t->y[i]));
    return least;
}

static void check_norm(enum net_norm kind, bool relu, struct rng *r)
{
    enum { ROWS = 3, D = 9, N = ROWS * D };
    struct pile m = { .n = 0 };
    struct norm_case t = { .o = ops_here(), .a = { ROWS, D, kind, relu, 1e-3, NULL, NULL } };
    real *gain, *bias, *dg, *db, *dx;
    do {
        pile_free(&m);
        t.x = drawn(&m, r, N);
        gain = drawn(&m, r, D);
        bias = drawn(&m, r, D);
        t.c = drawn(&m, r, N);
        t.y = zeros(&m, N);
        t.stat = zeros(&m, 2 * ROWS);
        t.a.gain = gain;
        t.a.bias = kind == NET_LAYER ? bias : NULL;
    } while (norm_margin(&t) < 0.02); /* an output moves by less than 10 h */
    t.a.relu = relu;
    norm_f(&t);
    dg = zeros(&m, D);
    db = zeros(&m, D);
    dx = zeros(&m, N);
    struct ops_norm_back b = { .x = t.x, .stat = t.stat, .dy = t.c, .dx = dx, .dgain = dg };
    b.dbias = kind == NET_LAYER ? db : NULL;
    b.part = zeros(&m, ops_norm_part(ROWS, D));
    ops_norm_back(&t.o, &t.a, &b);
    expect_grad("norm dx", norm_f, &t, t.x, dx, N);
    expect_grad("norm dgain", norm_f, &t, gain, dg, D);
    if (kind == NET_LAYER)
        expect_grad("norm dbias", norm_f, &t, bias, db, D);
    pile_free(&m);
}

Test(ops_f64, norms_have_the_right_derivatives_also_behind_a_relu)
{
    struct rng r = { 3 };
    for (int i = 0; i < 4; i++)
        check_norm(i & 1 ? NET_LAYER : NET_RMS, i & 2, &r);
}

struct act_case {
    struct ops o;
    struct pass_act a;
    real *pre, *up, *c;
    size_t n;
};

static double act_f(void *ctx)
{
    struct act_case *t = ctx;
    ops_act(&t->o, &t->a);
    return inner(t->a.act, t->c, t->n);
}

static void keep_away(real *x, size_t n, double from)
{
    for (size_t i = 0; i < n; i++)
        if (fabs(x[i] - from) < 0.05)
            x[i] += 0.1;
}

static void check_act(enum net_act kind, int gate, struct rng *r)
{
    enum { ROWS = 2, D = 19, N = ROWS * D };
    struct pile m = { .n = 0 };
    struct act_case t = { .o = ops_here(), .n = N };
    double shift = kind >= NET_RELU ? 0.15 : 0;
    t.pre = drawn(&m, r, N);
    t.up = drawn(&m, r, N);
    t.c = drawn(&m, r, N);
    keep_away(t.pre, N, shift);
    keep_away(t.up, N, 0);
    t.a = (struct pass_act){ .kind = kind,
                             .up_relu = gate == 2,
                             .shift = shift,
                             .rows = ROWS,
                             .d = D,
                             .pre = t.pre,
                             .up = gate ? t.up : NULL,
                             .act = zeros(&m, N),
                             .dact = zeros(&m, N),
                             .dup = gate ? zeros(&m, N) : NULL };
    memcpy(t.a.dact, t.c, N * sizeof *t.c);
    ops_act_back(&t.o, &t.a);
    expect_grad("dpre", act_f, &t, t.pre, t.a.dact, N);
    if (gate)
        expect_grad("dup", act_f, &t, t.up, t.a.dup, N);
    pile_free(&m);
}

Test(ops_f64, activations_and_gates_have_the_right_derivatives)
{
    struct rng r = { 4 };
    for (int kind = NET_SILU; kind <= NET_FATRELU; kind++)
        for (int gate = 0; gate < 3; gate++)
            check_act((enum net_act)kind, gate, &r);
}

struct rope_case {
    struct ops o;
    struct pass_rope a;
    real *x, *y, *c;
};

static double rope_f(void *ctx)
{
    struct rope_case *t = ctx;
    size_t n = t->a.rows * t->a.width;
    memcpy(t->y, t->x, n * sizeof *t->x);
    ops_rope(&t->o, &t->a, t->y);
    return inner(t->y, t->c, n);
}

Test(ops_f64, rotation_turns_neighbours_and_back)
{
    enum { ROWS = 5, D = 18, HEADS = 3, W = 4 * D };
    static const int32_t place[ROWS] = { 0, 1, 2, 0, 7 };
    struct pile m = { .n = 0 };
    struct rng r = { 5 };
    real *table = zeros(&m, 8 * 2 * D), *bias = drawn(&m, &r, W), *dx = zeros(&m, ROWS * W);
    struct rope_case t = { .o = ops_here() };
    ops_rope_table(table, 8, D, 10000);
    t.a = (struct pass_rope){ ROWS, W, HEADS, D, bias, table, place, false };
    t.x = drawn(&m, &r, ROWS * W);
    t.y = zeros(&m, ROWS * W);
    t.c = drawn(&m, &r, ROWS * W);
    rope_f(&t);
    for (size_t i = 0; i < W; i++) {
        size_t e = i % D, pair = i - e % 2;
        double angle = 7 * pow(10000, -(double)(e - e % 2) / D);
        double a = t.x[4 * W + pair] + bias[pair], b = t.x[4 * W + pair + 1] + bias[pair + 1];
        double want = e % 2 ? a * sin(angle) + b * cos(angle) : a * cos(angle) - b * sin(angle);
        if (i >= (size_t)HEADS * D)
            want = t.x[4 * W + i] + bias[i];
        cr_expect_float_eq(t.y[4 * W + i], want, 1e-13, "%zu", i);
    }
    memcpy(dx, t.c, (size_t)ROWS * W * sizeof *dx);
    t.a.back = true;
    ops_rope(&t.o, &t.a, dx);
    t.a.back = false;
    expect_grad("rope", rope_f, &t, t.x, dx, (size_t)ROWS * W);
    pile_free(&m);
}

struct attn_case {
    struct ops o;
    struct ops_attn a;
    real *qkv, *out, *kept, *c;
};

static double attn_f(void *ctx)
{
    struct attn_case *t = ctx;
    ops_attn(&t->o, &t->a, t->qkv, t->out, t->kept);
    return inner(t->out, t->c, t->a.rows * t->a.cols * t->a.n_head * t->a.d_head);
}

static void check_attn(struct ops_attn a, struct rng *r)
{
    struct pile m = { .n = 0 };
    size_t tok = a.rows * a.cols, n = tok * (a.n_head + 2 * a.n_kv) * a.d_head;
    struct attn_case t = { .o = ops_here(), .a = a };
    real *d = drawn(&m, r, n); /* overwritten, whatever it was */
    t.a.scratch = drawn(&m, r, ops_attn_scratch(&a));
    t.qkv = drawn(&m, r, n);
    t.out = zeros(&m, tok * a.n_head * a.d_head);
    t.c = drawn(&m, r, tok * a.n_head * a.d_head);
    t.kept = zeros(&m, ops_attn_kept(&a));
    attn_f(&t);
    struct ops_attn_back b = { t.qkv, t.out, t.kept, t.c, d };
    ops_attn_back(&t.o, &t.a, &b);
    expect_grad(a.kind == NET_ATTN_TILED ? "tiled" : "naive", attn_f, &t, t.qkv, d, n);
    pile_free(&m);
}

Test(ops_f64, attention_has_the_right_derivatives_naive_and_tiled)
{
    static const int32_t whole[14] = { 0 };
    static const int32_t parts[14] = { 0, 0, 2, 2, 2, 5, 5, 0, 1, 1, 1, 4, 4, 6 };
    struct rng r = { 6 };
    for (int i = 0; i < 8; i++) {
        struct ops_attn a = { .rows = 2, .cols = 7, .n_head = 4, .d_head = 3 };
        a.n_kv = i & 1 ? 2 : 4;
        a.start = i & 2 ? parts : whole;
        a.kind = i & 4 ? NET_ATTN_NAIVE : NET_ATTN_TILED;
        check_attn(a, &r);
    }
}

/* Both kinds over many tiles: 330 tokens are 6 x 2 of them, with documents that begin and end
 * within. Rounding: scores are sums of d_head products, outputs of 330; 1e-12 is 4,500 units. */
Test(ops_f64, tiled_attention_equals_naive_over_many_tiles)
{
    enum { T = 330, H = 4, D = 8, N = 2 * T };
    struct rng r = { 7 };
    for (int c = 0; c < 4; c++) {
        struct pile m = { .n = 0 };
        int32_t start[N];
        struct ops o = ops_here();
        struct ops_attn a = { 2, T, H, c & 1 ? 1 : 4, D, start, NET_ATTN_TILED, NULL }, b = a;
        size_t w = (H + 2 * a.n_kv) * D;
        for (int i = 0; i < N; i++) {
            start[i] = i % T ? start[i - 1] : 0;
            if ((c & 2) && rng_f64(&r) < 0.012)
                start[i] = i % T;
        }
        b.kind = NET_ATTN_NAIVE;
        a.scratch = zeros(&m, ops_attn_scratch(&a));
        b.scratch = zeros(&m, ops_attn_scratch(&b));
        real *qkv = drawn(&m, &r, N * w), *dout = drawn(&m, &r, (size_t)N * H * D);
        real *out_a = zeros(&m, (size_t)N * H * D), *out_b = zeros(&m, (size_t)N * H * D);
        real *kept_a = zeros(&m, ops_attn_kept(&a)), *kept_b = zeros(&m, ops_attn_kept(&b));
        real *da = zeros(&m, N * w), *db = zeros(&m, N * w);
        for (size_t i = 0; i < N * w; i++)
            qkv[i] *= 3;
        ops_attn(&o, &a, qkv, out_a, kept_a);
        ops_attn(&o, &b, qkv, out_b, kept_b);
        ops_attn_back(&o, &a, &(struct ops_attn_back){ qkv, out_a, kept_a, dout, da });
        ops_attn_back(&o, &b, &(struct ops_attn_back){ qkv, out_b, kept_b, dout, db });
        for (size_t i = 0; i < (size_t)N * H * D; i++)
            cr_assert_float_eq(out_a[i], out_b[i], 1e-12, "out %zu", i);
        for (size_t i = 0; i < N * w; i++)
            cr_assert_float_eq(da[i], db[i], 1e-11, "d qkv %zu", i);
        pile_free(&m);
    }
}

struct loss_case {
    struct ops o;
    struct ops_loss l;
    double weight;
};

static double loss_f(void *ctx)
{
    struct loss_case *t = ctx;
    struct net_loss got;
    struct ops_loss l = t->l;
    l.dx = l.dw = NULL;
    ops_loss(&t->o, &l, &got);
    t->weight = got.weight;
    return got.nll;
}

static void check_loss(size_t rows, size_t cols, struct rng *r)
{
    enum { N = 7, D = 5, V = 11 };
    static const int32_t target[N] = { 3, -1, 0, 10, 5, 5, 7 };
    static const float weight[N] = { 1, 1, 0.5f, 2, 0, 1, 0.25f };
    struct pile m = { .n = 0 };
    real *x = drawn(&m, r, N * D), *w = drawn(&m, r, V * D);
    real *dx = drawn(&m, r, N * D), *dw = zeros(&m, V * D);
    float each[N];
    struct ops_loss_row stat[N];
    struct net_loss got;
    struct loss_case t = { .o = ops_here() };
    t.l = (struct ops_loss){
        .n_tok = N, .d = D, .n_vocab = V, .rows = rows, .cols = cols, .x = x, .w = w, .stat = stat
    };
    t.l.target = target;
    t.l.weight = weight;
    t.l.scale = 1;
    t.l.logits = zeros(&m, rows * cols);
    t.l.dx = dx;
    t.l.dw = dw;
    t.l.each = each;
    ops_loss(&t.o, &t.l, &got);
    t.l.each = NULL;
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double z = 0;
        for (int v = 0; v < V; v++)
            z += exp(inner(x + i * D, w + v * D, D));
        double want = target[i] < 0 ? 0 : log(z) - inner(x + i * D, w + target[i] * D, D);
        cr_expect_float_eq((double)each[i], want, 1e-6, "token %d", i);
        sum += target[i] < 0 ? 0 : (double)weight[i] * want;
    }
    cr_expect_float_eq(got.nll, sum, 1e-12);
    cr_expect_float_eq(got.weight, 4.75, 1e-12);
    expect_grad("loss dx", loss_f, &t, x, dx, N * D);
    expect_grad("loss dw", loss_f, &t, w, dw, V * D);
    pile_free(&m);
}

Test(ops_f64, cross_entropy_has_the_right_derivatives_in_any_pieces)
{
    static const size_t rows[] = { 1, 3, 7 }, cols[] = { 1, 4, 10, 11 };
    struct rng r = { 8 };
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 4; j++)
            check_loss(rows[i], cols[j], &r);
}

Test(ops_f64, the_loss_buffer_is_bounded_and_holds_what_it_must)
{
    size_t rows, cols;
    ops_loss_cut(2048, 4096, 0, &rows, &cols);
    cr_expect(rows == 2048 && cols == 4096);
    ops_loss_cut(100000, 128000, 0, &rows, &cols);
    cr_expect(rows == 256 && cols == 32768, "%zu x %zu", rows, cols);
    ops_loss_cut(2048, 4096, 100, &rows, &cols);
    cr_expect(rows == 2048 && cols == 100);
    ops_loss_cut(5, 7, 1000, &rows, &cols);
    cr_expect(rows == 5 && cols == 7);
    ops_loss_cut(1u << 30, 2, 0, &rows, &cols);
    cr_expect(rows * cols <= (size_t)8 << 20);
}
