/* tests/unit/train/test_net_float.c - the product's float build against the double build.
 *
 * The bound: to first order the errors of all operations add up, each carried on by what follows.
 * The rig draws parameters so that activations are of the order of 1 and layers neither grow nor
 * shrink them, so an operation that ends in a sum of k products is off by k u of its size. From a
 * parameter to the loss and back, the longest way has, per layer, inner lengths of 10 (norm), 10
 * (q, k, v), 4 (scores), 7 (softmax), 7 (values), 16 (output), 10 (norm), 10 (up), 14 (down), with
 * about 8 more roundings each for norms, exponentials and gates: about 160, once forward and twice
 * backward (both factors of a gradient), two layers, and 3 x 30 for head and loss. */
#include "tests/unit/train/rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDINGS = 3 * 160 * 2 + 90 };

static double *read_f64(const char *args, uint64_t n, double *loss)
{
    char command[4200];
    double *g = malloc(n * sizeof *g);
    cr_assert_not_null(g);
    snprintf(command, sizeof command, "%s %s", F64_GRAD, args);
    FILE *f = popen(command, "r");
    cr_assert_not_null(f, "%s", command);
    cr_assert_eq(fread(loss, sizeof *loss, 1, f), 1u, "%s", command);
    cr_assert_eq(fread(g, sizeof *g, n, f), n);
    pclose(f);
    return g;
}

static double norm_of(const double *g, uint64_t n)
{
    double s = 0;
    for (uint64_t i = 0; i < n; i++)
        s += g[i] * g[i];
    return sqrt(s);
}

/* Tensor by tensor, in the 2-norm. A gradient that is zero but for cancellation (of key biases,
 * which shift all scores of a row alike) is measured by the whole gradient's share instead. */
static double expect_tensors(struct net_rig *r, const double *want, const char *args)
{
    const struct net_shape *s = net_shape_of(r->n);
    uint32_t count = net_n_tensor(s);
    struct net_tensor *t = calloc(count, sizeof *t);
    const real *got = net_grads(r->n);
    double tol = ROUNDINGS * 0x1p-24, worst = 0, all = norm_of(want, r->n_param) / sqrt(count);
    cr_assert_not_null(t);
    net_tensors(s, t);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = (uint64_t)t[i].rows * t[i].cols;
        double diff = 0, size = fmax(norm_of(want + t[i].at, n), all);
        for (uint64_t j = t[i].at; j < t[i].at + n; j++)
            diff += ((double)got[j] - want[j]) * ((double)got[j] - want[j]);
        worst = fmax(worst, sqrt(diff) / size);
        cr_expect_leq(sqrt(diff), tol * size, "%s, %s: off by %.3g of %.3g", args, t[i].name,
                      sqrt(diff), size);
    }
    free(t);
    return worst;
}

static double check(const int v[7], int seed)
{
    struct net_shape s = rig_shape();
    struct net_rig r;
    char args[64];
    double want_loss;
    s.norm = (enum net_norm)v[0];
    s.pos = (enum net_pos)v[1];
    s.act = (enum net_act)v[2];
    s.gated = v[3];
    s.bias = v[4];
    s.tied = v[5];
    snprintf(args, sizeof args, "%d %d %d %d %d %d %d %d", v[0], v[1], v[2], v[3], v[4], v[5], v[6],
             seed);
    struct net_opts o = rig_opts(&s);
    rig_open(&r, &o, (uint64_t)seed, v[6]);
    double loss = rig_grad(&r), *want = read_f64(args, r.n_param, &want_loss);
    cr_expect_leq(fabs(loss - want_loss), ROUNDINGS * 0x1p-24 * want_loss, "%s: %.9g, not %.9g",
                  args, loss, want_loss);
    double worst = expect_tensors(&r, want, args);
    free(want);
    rig_close(&r);
    return worst;
}

Test(net_float, agrees_with_the_double_build_within_the_rounding_of_its_operations, .timeout = 600)
{
    double worst = 0;
    for (int i = 0; i < 30; i++) {
        int v[7] = { i & 1, i >> 1 & 1, i % 5, i / 5 & 1, i >> 2 & 1, i >> 3 & 1, i % 3 == 0 };
        worst = fmax(worst, check(v, 40 + i));
    }
    cr_log_info("worst tensor is off by %.3g, bound %.3g", worst, ROUNDINGS * 0x1p-24);
}
