/* tests/unit/train/test_torch.c - the network and its optimiser against PyTorch's answers, which
 * tests/golden/torch/make.py computed in double (its head says what a file holds). Built twice.
 *
 * In double every number agrees to 1e-9 of its own or, where it is smaller, of its array's
 * root-mean-square size: what is left are some thousand roundings of 1e-16.
 *
 * In float (test_net_float.c derives it for the same two layers) an array is off by at most
 * ROUNDINGS u of its 2-norm; three layers: half as much again. Ten steps: a step is lr m' / (sqrt
 * v'
 * + eps), m' and v' averages of gradients and their squares, so an error e of the gradients moves
 * it by at most lr 2 e / eps. With e = ROUNDINGS u |g|, rates that add up to 55 lr, and lr and eps
 * of the `smooth` cases chosen so that 110 lr / eps times the gradient's own slope stays of the
 * order of 1 (errors made so far then at most treble it), parameters are off by at most 3 * 55 lr *
 * 2 ROUNDINGS u |g| / eps and what rounds in the steps themselves, 16 u a step (test_optim.c). The
 * other cases' eps of 1e-8 allows no such bound: a gradient that is zero but for rounding may step
 * either way. */
#include "engine/base/rng.h"
#include "engine/train/optim.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 10, ROUNDINGS = (3 * 160 * 2 + 90) * 3 / 2 };

struct oracle {
    struct net_shape s;
    struct net_opts o;
    double v[32]; /* values of the header */
    uint64_t n_param;
    double *mem;
    const double *logits, *loss, *grad, *losses, *param, *m, *v2;
    /* of the batch at work */
    int32_t *token, *target, *doc;
    float *weight;
    double sum_weight;
};

static const char *const keys[] = {
    "n_vocab", "n_ctx", "n_layer", "d_model", "n_head", "n_kv_head", "d_head",
    "d_ff",    "norm",  "pos",     "act",     "gated",  "up_relu",   "norm_relu",
    "tied",    "bias",  "docs",    "rows",    "cols",   "shift",     "norm_eps",
    "theta",   "lr",    "beta1",   "beta2",   "eps",    "decay",     "seed",
};
enum key {
    N_VOCAB,
    N_CTX,
    N_LAYER,
    D_MODEL,
    N_HEAD,
    N_KV_HEAD,
    D_HEAD,
    D_FF,
    NORM,
    POS,
    ACT,
    GATED,
    UP_RELU,
    NORM_RELU,
    TIED,
    BIAS,
    DOCS,
    ROWS,
    COLS,
    SHIFT,
    NORM_EPS,
    THETA,
    LR,
    BETA1,
    BETA2,
    EPS,
    DECAY,
    SEED,
    N_KEY
};

static uint32_t u32(const struct oracle *k, enum key key)
{
    return (uint32_t)k->v[key];
}

static void read_header(struct oracle *k, const char *line, const char *path)
{
    for (int i = 0; i < N_KEY; i++) {
        char want[16];
        snprintf(want, sizeof want, " %s=", keys[i]);
        const char *at = strstr(line, want);
        cr_assert(at, "%s: no '%s'", path, want);
        k->v[i] = strtod(at + strlen(want), NULL);
    }
    k->s = (struct net_shape){ .n_vocab = u32(k, N_VOCAB),
                               .n_ctx = u32(k, N_CTX),
                               .n_layer = u32(k, N_LAYER),
                               .d_model = u32(k, D_MODEL),
                               .n_head = u32(k, N_HEAD),
                               .n_kv_head = u32(k, N_KV_HEAD),
                               .d_head = u32(k, D_HEAD),
                               .d_ff = u32(k, D_FF),
                               .norm = (enum net_norm)u32(k, NORM),
                               .pos = (enum net_pos)u32(k, POS),
                               .act = (enum net_act)u32(k, ACT),
                               .gated = u32(k, GATED),
                               .up_relu = u32(k, UP_RELU),
                               .norm_relu = u32(k, NORM_RELU),
                               .tied = u32(k, TIED),
                               .bias = u32(k, BIAS),
                               .act_shift = k->v[SHIFT],
                               .norm_eps = k->v[NORM_EPS],
                               .rope_theta = k->v[THETA] };
    k->o = (struct net_opts){ .shape = k->s, .batch = u32(k, ROWS), .n_tok = u32(k, COLS) };
    k->n_param = net_n_param(&k->s);
}

static size_t n_tok(const struct oracle *k)
{
    return (size_t)k->o.batch * k->o.n_tok;
}

static void open_oracle(struct oracle *k, const char *name)
{
    char path[4096], line[1024];
    *k = (struct oracle){ 0 };
    snprintf(path, sizeof path, "%s/%s.oracle", ORACLES, name);
    FILE *f = fopen(path, "rb");
    cr_assert(f && fgets(line, sizeof line, f), "%s: cannot be read", path);
    cr_assert_eq(strncmp(line, "strobe-oracle 1 ", 16), 0, "%s", path);
    read_header(k, line, path);
    size_t head = n_tok(k) * k->s.n_vocab, p = k->n_param, n = head + 1 + STEPS + 4 * p;
    k->mem = calloc(n + 1, sizeof *k->mem);
    k->token = calloc(n_tok(k), sizeof *k->token);
    k->target = calloc(n_tok(k), sizeof *k->target);
    k->doc = calloc(n_tok(k), sizeof *k->doc);
    k->weight = calloc(n_tok(k), sizeof *k->weight);
    cr_assert(k->mem && k->token && k->target && k->doc && k->weight);
    cr_assert_eq(fread(k->mem, sizeof *k->mem, n + 1, f), n, "%s: not %zu numbers", path, n);
    fclose(f);
    k->logits = k->mem;
    k->loss = k->logits + head;
    k->grad = k->loss + 1;
    k->losses = k->grad + p;
    k->param = k->losses + STEPS;
    k->m = k->param + p;
    k->v2 = k->m + p;
}

static void close_oracle(struct oracle *k)
{
    free(k->mem);
    free(k->token);
    free(k->target);
    free(k->doc);
    free(k->weight);
}

static double sixteen(uint64_t key, uint64_t n)
{
    return (double)(rng_at(key, n) >> 48) * 0x1p-15 - 1;
}

static void draw_params(const struct oracle *k, real *p)
{
    uint32_t count = net_n_tensor(&k->s);
    struct net_tensor *t = calloc(count, sizeof *t);
    cr_assert_not_null(t);
    net_tensors(&k->s, t);
    for (uint32_t i = 0; i < count; i++) {
        double size = strstr(t[i].name, "embd") ? 0.75 : t[i].rows > 1 ? 0.5 : 0.25;
        double mean = strstr(t[i].name, "norm.weight") ? 1 : 0;
        for (uint64_t j = t[i].at; j < t[i].at + (uint64_t)t[i].rows * t[i].cols; j++)
            p[j] = (real)(mean + size * sixteen((uint64_t)k->v[SEED], j));
    }
    free(t);
}

static struct net_batch draw_batch(struct oracle *k, int step)
{
    uint64_t n = n_tok(k), v = k->s.n_vocab,
             key = (uint64_t)k->v[SEED] + 1000 * (uint64_t)(step + 1);
    k->sum_weight = 0;
    for (uint64_t i = 0; i < n; i++) {
        k->token[i] = (int32_t)(rng_at(key, i) % v);
        k->target[i] = i % 5 == 3 ? -1 : (int32_t)(rng_at(key, n + i) % v);
        k->weight[i] = i % 7 == 5 ? 0 : (float)(1.25 + 0.5 * sixteen(key, 2 * n + i));
        k->sum_weight += k->target[i] < 0 ? 0 : (double)k->weight[i];
        bool next = k->v[DOCS] != 0 && rng_at(key, 3 * n + i) % 3 == 0;
        k->doc[i] = i % k->o.n_tok ? k->doc[i - 1] + next : 0;
    }
    return (struct net_batch){ .rows = k->o.batch,
                               .cols = k->o.n_tok,
                               .token = k->token,
                               .target = k->target,
                               .weight = k->weight,
                               .doc = k->v[DOCS] != 0 ? k->doc : NULL };
}

static double rms(const double *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += x[i] * x[i];
    return sqrt(s / (double)n);
}

/* slack: absolute, of each number; float only. */
static void expect_array(const char *name, const char *what, const real *got, const double *want,
                         size_t n, double slack)
{
#ifdef TRAIN_F64
    double size = rms(want, n);
    (void)slack;
    for (size_t i = 0; i < n; i++)
        cr_assert(fabs(got[i] - want[i]) <= 1e-9 * fmax(size, fabs(want[i])),
                  "%s, %s %zu: %.17g, not %.17g", name, what, i, got[i], want[i]);
#else
    double off = 0, size = rms(want, n) * sqrt((double)n);
    for (size_t i = 0; i < n; i++)
        off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
    double tol = slack > 0 ? slack * sqrt((double)n) : ROUNDINGS * 0x1p-24 * size;
    cr_expect(sqrt(off) <= tol, "%s, %s: off by %g of %g, may be %g", name, what, sqrt(off), size,
              tol);
#endif
}

static void expect_loss(const char *name, int step, double got, double want)
{
#ifdef TRAIN_F64
    double tol = 1e-9;
#else
    double tol = 2 * ROUNDINGS * 0x1p-24;
#endif
    cr_expect(fabs(got - want) <= tol * want, "%s, loss of step %d: %.17g, not %.17g", name, step,
              got, want);
}

static double run_grad(struct oracle *k, struct net *n, int step)
{
    struct net_loss l;
    struct net_batch b = draw_batch(k, step);
    net_grad(n, &b, 1 / k->sum_weight, &l);
    return l.nll / l.weight;
}

static struct optim *make_optim(const struct oracle *k)
{
    struct err err = ERR_INIT;
    struct optim *o = NULL;
    uint32_t count = net_n_tensor(&k->s);
    struct net_tensor *t = calloc(count, sizeof *t);
    cr_assert_not_null(t);
    net_tensors(&k->s, t);
    struct optim_opts oo = { .tensor = t,
                             .n_tensor = count,
                             .to = k->n_param,
                             .beta1 = k->v[BETA1],
                             .beta2 = k->v[BETA2],
                             .eps = k->v[EPS],
                             .decay = k->v[DECAY] };
    cr_assert_eq(optim_create(&oo, &o, &err), ST_OK, "%s", err.msg);
    free(t);
    return o;
}

static void ten_steps(struct oracle *k, struct net *n, const char *name)
{
    struct optim *o = make_optim(k);
    double norm = rms(k->grad, k->n_param), lr = k->v[LR];
    double slack = 3 * 55 * lr * 2 * ROUNDINGS * 0x1p-24 * norm / k->v[EPS] +
                   STEPS * 16 * 0x1p-24 * rms(k->param, k->n_param);
    memset(net_grads(n), 0, k->n_param * sizeof(real));
    for (int t = 0; t < STEPS; t++) {
        expect_loss(name, t, run_grad(k, n, t), k->losses[t]);
        optim_apply(o, net_params(n), net_grads(n),
                    &(struct optim_step){ .t = (uint64_t)t + 1, .lr = lr * (t + 1), .scale = 1 });
    }
    expect_array(name, "parameter", net_params(n), k->param, k->n_param, slack);
    expect_array(name, "first moment", optim_m(o), k->m, k->n_param, 0);
    expect_array(name, "second moment", optim_v(o), k->v2, k->n_param, 0);
    optim_free(o);
}

/* Naive attention, recomputed activations and products by CBLAS are other ways to the same numbers.
 */
static void check(const char *name, bool other_way)
{
    struct oracle k;
    struct err err = ERR_INIT;
    struct net *n = NULL;
    open_oracle(&k, name);
    k.o.recompute = other_way;
    k.o.gemm = other_way ? NET_GEMM_BLAS : NET_GEMM_F32;
    k.o.attn = other_way ? NET_ATTN_NAIVE : NET_ATTN_TILED;
    cr_assert_eq(net_create(&k.o, &n, &err), ST_OK, "%s: %s", name, err.msg);
    draw_params(&k, net_params(n));
    size_t head = n_tok(&k) * k.s.n_vocab;
    real *logits = calloc(head, sizeof *logits);
    cr_assert_not_null(logits);
    struct net_batch b = draw_batch(&k, 0);
    net_logits(n, &b, logits);
    expect_array(name, "logit", logits, k.logits, head, 0);
    expect_loss(name, 0, run_grad(&k, n, 0), k.loss[0]);
    expect_array(name, "gradient", net_grads(n), k.grad, k.n_param, 0);
#ifdef TRAIN_F64
    ten_steps(&k, n, name);
#else
    if (k.v[EPS] > 1e-3)
        ten_steps(&k, n, name);
#endif
    free(logits);
    net_free(n);
    close_oracle(&k);
}

#ifndef TRAIN_F64
/* Kept as bf16: derivatives are taken at activations that are off by up to 2^-9 of themselves. Six
 * a layer, each met at most twice, three layers. */
static void check_kept_bf16(const char *name)
{
    struct oracle k;
    struct err err = ERR_INIT;
    struct net *n = NULL;
    open_oracle(&k, name);
    k.o.keep = NET_KEEP_BF16;
    cr_assert_eq(net_create(&k.o, &n, &err), ST_OK, "%s: %s", name, err.msg);
    draw_params(&k, net_params(n));
    double tol = 6 * 2 * 3 * 0x1p-9, off = 0, size = 0, loss = run_grad(&k, n, 0);
    for (uint64_t i = 0; i < k.n_param; i++) {
        double d = (double)net_grads(n)[i] - k.grad[i];
        off += d * d;
        size += k.grad[i] * k.grad[i];
    }
    cr_expect(fabs(loss - k.loss[0]) <= 0x1p-8 * k.loss[0], "%s: loss %g, not %g", name, loss,
              k.loss[0]);
    cr_expect(sqrt(off / size) <= tol, "%s: gradient off by %g of itself, may be %g", name,
              sqrt(off / size), tol);
    cr_log_info("%s: gradient off by %g of itself", name, sqrt(off / size));
    net_free(n);
    close_oracle(&k);
}
#endif

static const char *const cases[] = {
    "llama",    "llama_smooth", "mha_untied_bias", "mqa_docs", "gpt2",         "gpt2_smooth",
    "opt_relu", "squared_relu", "shifted_relu",    "fat_relu", "drelu_stage2", "layer_norm_rope",
};

Test(torch, logits_loss_gradients_and_ten_adamw_steps_are_those_of_pytorch, .timeout = 600)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int other_way = 0; other_way < 2; other_way++)
            check(cases[i], other_way);
}

#ifndef TRAIN_F64
Test(torch, gradients_of_activations_kept_as_bf16_are_near_those_of_pytorch, .timeout = 60)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_kept_bf16(cases[i]);
}
#endif
