/* tests/unit/train/test_sparsity.c - a network whose neuron i fires for token i and no other: every
 * share is known beforehand. */
#include "engine/train/relufy.h"
#include "engine/train/sparsity.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 8, COLS = 16 };

static const struct net_shape shape = { .n_vocab = N,
                                        .n_ctx = COLS,
                                        .n_layer = 1,
                                        .d_model = N,
                                        .n_head = 2,
                                        .n_kv_head = 1,
                                        .d_head = 4,
                                        .d_ff = N,
                                        .norm = NET_RMS,
                                        .act = NET_RELU,
                                        .tied = true,
                                        .norm_eps = 1e-6,
                                        .rope_theta = 10000 };

/* One-hot embeddings, attention that adds nothing, `up` the identity. */
static struct net *plant(void)
{
    struct net *n = NULL;
    struct err err = ERR_INIT;
    struct net_opts o = { .shape = shape, .batch = 2, .n_tok = COLS, .infer = true };
    cr_assert_eq(net_create(&o, &n, &err), ST_OK, "%s", err.msg);
    uint32_t n_tensor = net_n_tensor(&shape);
    struct net_tensor *t = calloc(n_tensor, sizeof *t);
    cr_assert(t);
    net_tensors(&shape, t);
    for (uint32_t i = 0; i < n_tensor; i++) {
        real *p = net_params(n) + t[i].at;
        bool eye = strstr(t[i].name, "token_embd") || strstr(t[i].name, "ffn_up");
        bool one = strstr(t[i].name, "norm") != NULL;
        for (uint32_t r = 0; r < t[i].rows; r++)
            for (uint32_t c = 0; c < t[i].cols; c++)
                p[(size_t)r * t[i].cols + c] = one || (eye && r == c);
    }
    free(t);
    return n;
}

static void look(const int32_t *token, uint32_t rows, struct sparsity_layer *ret)
{
    struct net *n = plant();
    struct sparsity *s = NULL;
    struct err err = ERR_INIT;
    int32_t target[2 * COLS] = { 0 };
    struct net_batch b = { .rows = rows, .cols = COLS, .token = token, .target = target };
    struct net_loss loss;
    cr_assert_eq(sparsity_create(&shape, COLS, &s, &err), ST_OK);
    sparsity_watch(s, n, COLS);
    net_eval(n, &b, NULL, &loss);
    sparsity_leave(n);
    net_eval(n, &b, NULL, &loss); /* nobody looks any more */
    sparsity_get(s, ret);
    sparsity_free(s);
    net_free(n);
}

Test(sparsity, every_share_of_a_planted_network_is_exact)
{
    struct sparsity_layer z;
    int32_t token[2 * COLS];
    for (int i = 0; i < 2 * COLS; i++)
        token[i] = i % N;
    look(token, 2, &z);
    cr_expect_eq(z.down_in, 7.0 / 8, "%g", z.down_in);
    cr_expect_eq(z.qkv_in, 7.0 / 8, "%g", z.qkv_in);
    cr_expect_eq(z.ffn_in, 7.0 / 8, "%g", z.ffn_in);
    cr_expect_eq(z.dead, 0.0);
    static const double unused[SPARSITY_SPANS] = { 7.0 / 8, 6.0 / 8, 4.0 / 8, 0, 0 };
    for (int k = 0; k < 5; k++)
        cr_expect_eq(z.unused[k], unused[k], "runs of %d: %g", 1 << k, z.unused[k]);
    cr_expect(isnan(z.unused[5]), "no run of 32 fits into a sequence of 16");
}

Test(sparsity, neurons_that_nothing_fires_are_dead)
{
    struct sparsity_layer z;
    int32_t token[COLS];
    for (int i = 0; i < COLS; i++)
        token[i] = i % 2;
    look(token, 1, &z);
    cr_expect_eq(z.dead, 6.0 / 8);
    cr_expect_eq(z.unused[4], 6.0 / 8);
}

Test(sparsity, flops_count_what_zeros_leave)
{
    /* q 8, k and v 4 each: 16 x 8; out 8 x 8; up and down 8 x 8 each; head 8 x 8 */
    struct sparsity_layer z = { .down_in = 0.5, .ffn_in = 0.25, .qkv_in = 0.75 };
    cr_expect_eq(sparsity_flops(&shape, NULL), 2.0 * (128 + 4 * 64));
    cr_expect_eq(sparsity_flops(&shape, &z), 2.0 * (32 + 64 + 48 + 32 + 64));
}

Test(relufy, words_say_what_a_model_becomes)
{
    static const struct {
        const char *text;
        bool gated, ok;
        enum net_act act;
        bool up_relu;
        double shift;
    } cases[] = { { "relu", false, true, NET_RELU, false, 0 },
                  { "relu2", false, true, NET_RELU2, false, 0 },
                  { "drelu", true, true, NET_RELU, true, 0 },
                  { "drelu", false, false, NET_RELU, false, 0 },
                  { "shifted_relu:0.5", true, true, NET_RELU, false, 0.5 },
                  { "fatrelu:0.01", true, true, NET_FATRELU, false, 0.01 },
                  { "shifted_relu:", true, false, NET_RELU, false, 0 },
                  { "shifted_relu:-1", true, false, NET_RELU, false, 0 },
                  { "silu", true, false, NET_RELU, false, 0 },
                  { "", true, false, NET_RELU, false, 0 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct relufy_to to = { 0 };
        struct err err = ERR_INIT;
        enum status st = relufy_parse(str_c(cases[i].text), 2, cases[i].gated, &to, &err);
        cr_expect_eq(st == ST_OK, cases[i].ok, "'%s': %s", cases[i].text, err.msg);
        if (st != ST_OK)
            continue;
        cr_expect_eq(to.act, cases[i].act, "%s", cases[i].text);
        cr_expect_eq(to.up_relu, cases[i].up_relu, "%s", cases[i].text);
        cr_expect_eq(to.shift, cases[i].shift, "%s", cases[i].text);
        cr_expect_eq(to.stage, 2u);
    }
    struct relufy_to to;
    struct err err = ERR_INIT;
    cr_expect_eq(relufy_parse(STR("relu"), 3, true, &to, &err), ST_ARG);
}
