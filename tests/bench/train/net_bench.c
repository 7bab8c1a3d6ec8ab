/* tests/bench/train/net_bench.c - tokens/s of forward and backward pass, no optimiser, on the shape
 * of baselines.md section 4: GPT-2 with 12.3M parameters, batch 8 x 256.
 *   net_bench [THREADS [STEPS [bf16|blas|naive|recompute]...]]
 * Prints the best and the median of the steps, the share of the sgemm rate measured beside, and
 * tokens per second of processor time, which neighbours disturb less. */
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/kernel/gemm.h"
#include "engine/train/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct net_shape shape = { .n_vocab = 4096,
                                        .n_ctx = 256,
                                        .n_layer = 6,
                                        .d_model = 384,
                                        .n_head = 6,
                                        .n_kv_head = 6,
                                        .d_head = 64,
                                        .d_ff = 1536,
                                        .norm = NET_LAYER,
                                        .pos = NET_LEARNED,
                                        .act = NET_GELU,
                                        .tied = true,
                                        .bias = true,
                                        .norm_eps = 1e-5 };
enum { ROWS = 8, COLS = 256, STEPS_MAX = 100 };
/* Trained, per token: 6 x the matrices' parameters, and half of the attention square. */
static const double mflop = 76.7;

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds(void)
{
    return (double)clock_ns() * 1e-9;
}

/* Best of some products of the largest layer's size by the faster of ours and BLAS, GFLOP/s. */
static double sgemm_rate(struct pool *pool)
{
    static float a[2048 * 384], b[1536 * 384], c[2048 * 1536];
    struct gemm_call g = { .tb = true, .m = 2048, .n = 1536, .k = 384, .a = a, .b = b, .c = c };
    const size_t mnk[3] = { g.m, g.n, g.k };
    struct gemm_panel *ours = NULL;
    struct err err = ERR_INIT;
    double best = 0;
    g.lda = g.ldb = 384;
    g.ldc = 1536;
    g.alpha = 1;
    gemm_panel_create(GEMM_F32, gemm_panel_bytes(GEMM_F32, mnk, 0), &ours, &err);
    for (int i = 0; i < 40; i++) {
        double t = seconds();
        if (ours && i % 2)
            gemm_panel(ours, pool, &g);
        else
            gemm_f32(pool, &g);
        t = 2e-9 * 2048 * 1536 * 384 / (seconds() - t);
        best = t > best ? t : best;
    }
    gemm_panel_free(ours);
    return best;
}

static void options(struct net_opts *o, char **argv, int argc)
{
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "bf16") == 0)
            o->gemm = NET_GEMM_BF16;
        else if (strcmp(argv[i], "blas") == 0)
            o->gemm = NET_GEMM_BLAS;
        else if (strcmp(argv[i], "naive") == 0)
            o->attn = NET_ATTN_NAIVE;
        else if (strcmp(argv[i], "recompute") == 0)
            o->recompute = true;
    }
}

static int fail(const struct err *err)
{
    fprintf(stderr, "net_bench: %s\n", err->msg);
    return 1;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    unsigned n_thread = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 2;
    int steps = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 5;
    static int32_t token[ROWS * COLS], target[ROWS * COLS];
    struct net_batch b = { ROWS, COLS, token, target, NULL, NULL };
    struct net_opts o = { .shape = shape, .batch = ROWS, .n_tok = COLS };
    struct net_loss loss;
    double time[STEPS_MAX];
    struct net *n;
    steps = steps < 1 ? 1 : steps > STEPS_MAX ? STEPS_MAX : steps;
    options(&o, argv, argc);
    for (uint64_t i = 0; i < ROWS * COLS; i++) {
        token[i] = (int32_t)(rng_at(1, i) % shape.n_vocab);
        target[i] = (int32_t)(rng_at(2, i) % shape.n_vocab);
    }
    if (pool_create(n_thread, &o.pool, &err) != ST_OK || net_create(&o, &n, &err) != ST_OK)
        return fail(&err);
    net_init(n, 1);
    net_grad(n, &b, 1.0 / (ROWS * COLS), &loss);
    double cpu = cpu_seconds();
    for (int i = 0; i < steps; i++) {
        time[i] = seconds();
        net_grad(n, &b, 1.0 / (ROWS * COLS), &loss);
        time[i] = seconds() - time[i];
    }
    cpu = steps * ROWS * COLS / (cpu_seconds() - cpu);
    double peak = sgemm_rate(o.pool);
    qsort(time, (size_t)steps, sizeof *time, by_size);
    double best = ROWS * COLS / time[0], median = ROWS * COLS / time[steps / 2];
    printf("%s  threads %u  tok/s best %.0f median %.0f  GFLOP/s %.1f  sgemm %.1f  share %.0f %%  "
           "tok/cpu-s %.0f  "
           "loss %.4f\n",
           net_gemm_name(n), n_thread, best, median, best * mflop * 1e-3, peak,
           best * mflop * 0.1 / peak, cpu, loss.nll / loss.weight);
    net_free(n);
    pool_free(o.pool);
    return 0;
}
