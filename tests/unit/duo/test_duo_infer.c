/* tests/unit/duo/test_duo_infer.c - the engine on Duo models: all big is the dense model bit for
 * bit, a token's logits do not depend on the other tokens' ways nor on cuts, streamed weights give
 * the bits of resident ones with the small parts in memory, and the engine's routes are the
 * network's. */
#include "engine/base/rng.h"
#include "engine/flash/internal.h"
#include "engine/infer/credit.h"
#include "engine/infer/forward.h"
#include "engine/train/export.h"
#include "tests/support/loaded.h"
#include "tests/support/rig.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 24, VOCAB = 300, LAYERS = 3 };

static struct net_shape shape(bool duo, bool skip_layer)
{
    return (struct net_shape){ .n_vocab = VOCAB,
                               .n_ctx = 64,
                               .n_layer = LAYERS,
                               .d_model = 64,
                               .n_head = 4,
                               .n_kv_head = 2,
                               .d_head = 16,
                               .d_ff = 96,
                               .d_small = duo ? 32 : 0,
                               .skip_layer = duo && skip_layer,
                               .act = NET_SILU,
                               .gated = true,
                               .tied = true,
                               .norm_eps = 1e-5,
                               .rope_theta = 10000 };
}

static char dir[FILE_PATH_MAX];
static struct bpe *vocab;

static void setup(void)
{
    struct bpe_opts o = { .n_vocab = 262, .bos = UINT32_MAX, .eos = UINT32_MAX, .pad = UINT32_MAX };
    struct err err = ERR_INIT;
    cr_assert(tmp_make(dir));
    cr_assert_eq(bpe_create(&o, &vocab, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(bpe_add_text(vocab, STR("the cat sat on the mat, the cat that sat"), &err), ST_OK);
    cr_assert_eq(bpe_learn(vocab, &err), ST_OK, "%s", err.msg);
}

static void teardown(void)
{
    bpe_free(vocab);
    tmp_remove(dir);
}

TestSuite(duo_infer, .init = setup, .fini = teardown);

/* The same numbers under the same names, whatever the shape. */
static real *draw(const struct net_shape *s)
{
    struct net_opts o = { .shape = *s, .batch = 1, .n_tok = 1, .infer = true };
    struct err err = ERR_INIT;
    struct net *n = NULL;
    uint64_t count = net_n_param(s);
    real *p = malloc(count * sizeof *p);
    cr_assert(p);
    cr_assert_eq(net_create(&o, &n, &err), ST_OK, "%s", err.msg);
    net_init(n, 9);
    for (uint64_t i = 0; i < count; i++)
        p[i] = net_params(n)[i] > (real)0.9 ? net_params(n)[i] : 8 * net_params(n)[i];
    net_free(n);
    return p;
}

static struct export_router draw_router(uint32_t hidden)
{
    struct export_router r = { .hp = { .n_choice = 3,
                                       .n_hidden = hidden,
                                       .n_budget = 2,
                                       .budget = { 0, 1 },
                                       .threshold = { 1e6f, -1e6f } } };
    size_t in = hidden ? hidden : 64;
    struct rng rng = { 77 };
    r.w = malloc(LAYERS * 3 * in * sizeof *r.w);
    r.bias = calloc(LAYERS * 3, sizeof *r.bias);
    r.in = hidden ? malloc(LAYERS * hidden * 64 * sizeof *r.in) : NULL;
    r.in_bias = hidden ? calloc(LAYERS * hidden, sizeof *r.in_bias) : NULL;
    cr_assert(r.w && r.bias);
    for (size_t i = 0; i < LAYERS * 3 * in; i++)
        r.w[i] = (real)(rng_f64(&rng) - 0.5);
    for (size_t i = 0; hidden && i < (size_t)LAYERS * hidden * 64; i++)
        r.in[i] = (real)(rng_f64(&rng) - 0.5);
    return r;
}

static const char *write_model(const char *name, const struct net_shape *s, const real *p,
                               enum dtype type, const struct export_router *router)
{
    const char *path = tmp_path(dir, name);
    struct err err = ERR_INIT;
    struct export_opts o = {
        .shape = s, .params = p, .bpe = vocab, .type = type, .router = router, .path = path
    };
    cr_assert_eq(export_gguf(&o, &err), ST_OK, "%s", err.msg);
    return path;
}

/* Logits of n tokens in pieces of at most `most`, with a policy; free(). */
static float *run(const char *path, enum flash_mode mode, const struct duo_policy *policy,
                  uint32_t most, struct duo_tally *tally)
{
    struct loaded l;
    struct rig r;
    struct err err = ERR_INIT;
    const float *logits;
    float *y = malloc((size_t)N * VOCAB * sizeof *y);
    cr_assert(y);
    loaded_open_path(&l, path, mode, cpu_level_max());
    rig_open(&r, l.m, l.w, (struct rig_opts){ cpu_level_max(), 2, 1, N, N, N, DT_F32 });
    int32_t *token = rig_tokens(3, N, 262);
    for (uint32_t at = 0, n; at < N; at += n) {
        n = N - at < most ? N - at : most;
        struct batch_seq s = { .pos0 = at,
                               .n_tok = n,
                               .token = token + at,
                               .n_logits = n,
                               .duo = policy,
                               .tally = tally };
        cr_assert_eq(forward_run(r.f, &s, 1, &logits, &err), ST_OK, "%s", err.msg);
        memcpy(y + (size_t)at * VOCAB, logits, (size_t)n * VOCAB * sizeof *y);
    }
    free(token);
    rig_close(&r);
    loaded_close(&l);
    return y;
}

static void expect_same(float *a, float *b, const char *what)
{
    cr_expect_eq(memcmp(a, b, (size_t)N * VOCAB * sizeof *a), 0, "%s", what);
    free(b);
}

Test(duo_infer, all_big_is_the_dense_model_bit_for_bit, .timeout = 600)
{
    static const enum dtype types[] = { DT_F32, DT_F16, DT_Q8_0 };
    struct net_shape duo = shape(true, false), dense = shape(false, false);
    real *p = draw(&duo), *q = draw(&dense);
    const struct duo_policy big = { .mode = DUO_ALL_BIG }, fixed = { .mode = DUO_FIXED };
    for (int i = 0; i < 3; i++) {
        const char *a = write_model("duo.gguf", &duo, p, types[i], NULL);
        const char *b = write_model("dense.gguf", &dense, q, types[i], NULL);
        float *want = run(b, FLASH_OFF, NULL, N, NULL);
        expect_same(want, run(a, FLASH_OFF, NULL, N, NULL), "no policy");
        expect_same(want, run(a, FLASH_OFF, &big, N, NULL), "all big");
        expect_same(want, run(a, FLASH_OFF, &fixed, N, NULL), "a pattern that is all big");
        free(want);
    }
    free(p);
    free(q);
}

Test(duo_infer, ways_do_not_depend_on_cuts_nor_on_where_weights_are, .timeout = 600)
{
    for (uint32_t hidden = 0; hidden <= 8; hidden += 8) {
        struct net_shape s = shape(true, hidden > 0);
        struct export_router router = draw_router(hidden);
        real *p = draw(&s);
        const char *path = write_model("r.gguf", &s, p, DT_F16, &router);
        const struct duo_policy policies[] = {
            { .mode = DUO_ALL_SMALL },
            { .mode = DUO_FIXED, .pattern = 0x12 }, /* k b s */
            { .mode = DUO_ROUTER, .threshold = 0 },
        };
        for (int i = 0; i < 3; i++) {
            struct duo_tally whole = { { 0 } }, cut = { { 0 } };
            float *want = run(path, FLASH_OFF, &policies[i], N, &whole);
            expect_same(want, run(path, FLASH_OFF, &policies[i], 1, &cut), "token by token");
            cr_expect_eq(memcmp(&whole, &cut, sizeof cut), 0, "policy %d: the same ways", i);
            cr_expect_eq(whole.n[0] + whole.n[1] + whole.n[2], (uint64_t)N * LAYERS);
            expect_same(want, run(path, FLASH_DENSE, &policies[i], N, NULL), "streamed");
            expect_same(want, run(path, FLASH_DENSE, &policies[i], 5, NULL), "streamed in pieces");
            if (i == 2)
                cr_expect(whole.n[0] && whole.n[1] && whole.n[2], "the router uses all ways");
            free(want);
        }
        export_router_clear(&router);
        free(p);
    }
}

Test(duo_infer, small_parts_and_routers_stay_in_memory_under_the_least_budget)
{
    struct net_shape s = shape(true, false);
    struct export_router router = draw_router(0);
    real *p = draw(&s);
    const char *path = write_model("pin.gguf", &s, p, DT_F16, &router);
    struct loaded l;
    loaded_open_path(&l, path, FLASH_DENSE, cpu_level_max());
    unsigned small = 0, big = 0;
    for (uint32_t i = 0; i < model_n_tensor(l.m); i++) {
        const struct tensor *t = model_tensor(l.m, i);
        if (role_of_duo(t->role)) {
            small++;
            cr_expect(l.plan.pinned[i], "%.*s", (int)t->name.n, t->name.p);
        }
        big += t->role == TR_GATE && !l.plan.pinned[i];
    }
    cr_expect_eq(small, 5u * LAYERS);
    cr_expect_eq(big, (unsigned)LAYERS, "big parts are streamed");
    loaded_close(&l);
    export_router_clear(&router);
    free(p);
}

/* What a pass reads of a layer: attention's matrices, or the big part's. */
static uint64_t layer_bytes(const struct loaded *l, bool big)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < model_n_tensor(l->m); i++) {
        const struct tensor *t = model_tensor(l->m, i);
        bool ffn = t->role == TR_GATE || t->role == TR_UP || t->role == TR_DOWN;
        sum += t->layer == 1 && !l->plan.pinned[i] && ffn == big ? t->bytes : 0;
    }
    return sum;
}

/* Token by token, so a tally's big ones are the passes that need a layer's big part. sure: what the
 * router will say shows before it does. */
static void count_reads(const char *path, const struct duo_policy *policy, bool sure)
{
    struct loaded l;
    struct rig r;
    struct err err = ERR_INIT;
    const float *logits;
    struct duo_tally tally = { { 0 } };
    loaded_open_path(&l, path, FLASH_DENSE, cpu_level_max());
    rig_open(&r, l.m, l.w, (struct rig_opts){ cpu_level_max(), 2, 1, N, N, N, DT_F32 });
    int32_t *token = rig_tokens(3, N, 262);
    for (uint32_t at = 0; at < N; at++) {
        struct batch_seq s = { .pos0 = at,
                               .n_tok = 1,
                               .token = token + at,
                               .n_logits = 1,
                               .duo = policy,
                               .tally = &tally };
        cr_assert_eq(forward_run(r.f, &s, 1, &logits, &err), ST_OK, "%s", err.msg);
    }
    struct weights_stats st = weights_stats(l.w);
    uint64_t attn = layer_bytes(&l, false), big = layer_bytes(&l, true);
    uint64_t n_big = policy->mode == DUO_ALL_BIG ? (uint64_t)N * LAYERS : tally.n[DUO_BIG];
    uint64_t want = N * LAYERS * attn + n_big * big;
    cr_expect_eq(st.bytes_wanted, want, "mode %d: %llu, by the routes %llu", policy->mode,
                 (unsigned long long)st.bytes_wanted, (unsigned long long)want);
    /* The next pass's first reads have begun; all come in whole blocks of the disk. */
    uint64_t ahead = policy->mode == DUO_ALL_BIG ? LAYERS * (attn + big) : 2 * (attn + big);
    /* In vain: what was guessed, as far as the credit went, so CREDIT parts and one for each that
     * is used; its next lap, begun before anybody says that it does not come; and what gave its
     * buffers to one that came late, or was taken for unused meanwhile, and is read again. */
    uint64_t most = want + (sure ? 0 : CREDIT + 4 * n_big) * big;
    cr_expect_leq(st.bytes_unused, most - want + ahead + st.reads * 2 * STAGE_ALIGN);
    cr_expect_leq(st.bytes_read, most + ahead + st.reads * 2 * STAGE_ALIGN,
                  "mode %d: %llu, wanted %llu", policy->mode, (unsigned long long)st.bytes_read,
                  (unsigned long long)want);
    cr_expect(attn && big);
    free(token);
    rig_close(&r);
    loaded_close(&l);
}

Test(duo_infer, from_flash_a_big_part_is_read_by_the_passes_that_use_it_as_far_as_they_show)
{
    for (int skip = 0; skip < 2; skip++) {
        struct net_shape s = shape(true, skip);
        s.d_ff = 1024;
        struct export_router router = draw_router(0);
        real *p = draw(&s);
        const char *path = write_model("read.gguf", &s, p, DT_F32, &router);
        const struct duo_policy policies[] = {
            { .mode = DUO_ALL_BIG },
            { .mode = DUO_ALL_SMALL },
            { .mode = DUO_FIXED, .pattern = 0x11 }, /* s s b */
            { .mode = DUO_ROUTER, .threshold = 0 },
            { .mode = DUO_ROUTER, .threshold = 1 },
        };
        for (int i = 0; i < 5; i++)
            count_reads(path, &policies[i], policies[i].mode != DUO_ROUTER);
        for (size_t i = 0; i < (size_t)LAYERS * 3; i++) /* always the same: big, small, big */
            router.bias[i] = i % 3 == (i / 3) % 2;
        memset(router.w, 0, (size_t)LAYERS * 3 * 64 * sizeof *router.w);
        path = write_model("sure.gguf", &s, p, DT_F32, &router);
        count_reads(path, &policies[3], true);
        export_router_clear(&router);
        free(p);
    }
}

/* N tokens, one by one, one layer big. Returns what of big parts the last of them read. */
static uint64_t some_tokens(struct loaded *l, uint32_t layer, const float *want)
{
    enum { LAST = 6 };
    struct rig r;
    struct err err = ERR_INIT;
    const float *logits;
    const struct duo_policy policy = { .mode = DUO_FIXED,
                                       .pattern = 0x15 ^ (UINT64_C(1) << 2 * layer) };
    uint64_t before = 0;
    rig_open(&r, l->m, l->w, (struct rig_opts){ cpu_level_max(), 2, 1, N, N, N, DT_F32 });
    int32_t *token = rig_tokens(3, N, 262);
    for (uint32_t at = 0; at < N; at++) {
        struct batch_seq s = {
            .pos0 = at, .n_tok = 1, .token = token + at, .n_logits = 1, .duo = &policy
        };
        if (at == N - LAST)
            before = weights_stats(l->w).bytes_wanted;
        cr_assert_eq(forward_run(r.f, &s, 1, &logits, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(memcmp(logits, want + (size_t)at * VOCAB, VOCAB * sizeof *logits), 0,
                     "layer %u big, token %u", layer, at);
    }
    free(token);
    rig_close(&r);
    return weights_stats(l->w).bytes_wanted - before;
}

Test(duo_infer, memory_goes_to_the_big_parts_that_are_used, .timeout = 180)
{
    for (int type = 0; type < 2; type++) {
        struct net_shape s = shape(true, type > 0);
        s.d_ff = 1000; /* a last panel that is not whole */
        real *p = draw(&s);
        const char *path = write_model("own.gguf", &s, p, type ? DT_F16 : DT_F32, NULL);
        float *want[LAYERS];
        for (uint32_t l = 0; l < LAYERS; l++) {
            const struct duo_policy policy = { .mode = DUO_FIXED,
                                               .pattern = 0x15 ^ (UINT64_C(1) << 2 * l) };
            want[l] = run(path, FLASH_OFF, &policy, N, NULL);
        }
        struct loaded l;
        loaded_open_path(&l, path, FLASH_DENSE, cpu_level_max());
        uint64_t attn = 0, big = layer_bytes(&l, true);
        for (uint32_t i = 0; i < model_n_tensor(l.m); i++)
            if (!l.plan.pinned[i] && model_tensor(l.m, i)->role < TR_GATE)
                attn += plan_tensor_bytes(model_tensor(l.m, i));
        loaded_close(&l);
        loaded_open_roomy(&l, path, attn + attn / 8 + big * 5 / 2, cpu_level_max());
        cr_assert_eq(layer_bytes(&l, false), 0u, "attention is in memory");
        cr_assert_gt(layer_bytes(&l, true), 0u, "big parts are not");
        for (uint32_t round = 0; round < 2; round++)
            for (uint32_t layer = LAYERS; layer-- > 0;) {
                for (int i = 0; i < 3; i++) /* it takes some passes to forget the last one */
                    some_tokens(&l, layer, want[layer]);
                cr_expect_eq(some_tokens(&l, layer, want[layer]), 0u, "layer %u is in memory",
                             layer);
                cr_expect(!weights_streams(l.w, layer) && weights_may_stream(l.w, layer));
            }
        loaded_close(&l);
        for (uint32_t i = 0; i < LAYERS; i++)
            free(want[i]);
        free(p);
    }
}

static double distance(const float *a, const real *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

Test(duo_infer, the_engine_goes_the_ways_of_the_network_and_everything_comes_back, .timeout = 600)
{
    for (int skip = 0; skip < 2; skip++) {
        struct net_shape s = shape(true, skip), back;
        struct export_router router = draw_router(0), again;
        struct err err = ERR_INIT;
        real *p = draw(&s), *q = NULL;
        const char *path = write_model("n.gguf", &s, p, DT_F32, &router);
        const struct duo_policy policy = { .mode = DUO_FIXED, .pattern = 0x21 }; /* s b k */
        cr_assert_eq(import_gguf(path, &back, &q, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(back.d_small, s.d_small);
        cr_expect_eq(back.skip_layer, s.skip_layer);
        cr_expect_eq(memcmp(p, q, net_n_param(&s) * sizeof *p), 0);
        cr_assert_eq(import_router(path, &again, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(memcmp(again.w, router.w, LAYERS * 3 * 64 * sizeof *router.w), 0);
        cr_expect_eq(again.hp.n_budget, 2u);
        struct net_opts o = { .shape = back, .batch = 1, .n_tok = N, .infer = true };
        struct net *n = NULL;
        uint8_t route[LAYERS * N];
        real *want = malloc((size_t)N * VOCAB * sizeof *want);
        int32_t *token = rig_tokens(3, N, 262);
        cr_assert(want);
        cr_assert_eq(net_create(&o, &n, &err), ST_OK);
        memcpy(net_params(n), q, net_n_param(&s) * sizeof *q);
        for (uint32_t l = 0; l < LAYERS; l++)
            memset(route + l * N, duo_pattern_at(policy.pattern, l), N);
        net_set_route(n, route);
        net_logits(n, &(struct net_batch){ .rows = 1, .cols = N, .token = token }, want);
        float *got = run(path, FLASH_OFF, &policy, N, NULL);
        cr_expect_lt(distance(got, want, (size_t)N * VOCAB), 2e-3, "skip scope %d: %g", skip,
                     distance(got, want, (size_t)N * VOCAB));
        net_free(n);
        free(got);
        free(want);
        free(token);
        free(p);
        free(q);
        export_router_clear(&router);
        export_router_clear(&again);
    }
}

Test(duo_infer, policies_that_cannot_be_are_refused_by_name)
{
    struct hparams hp = { .n_layer = 3 };
    struct duo_policy p;
    const struct {
        struct duo_words w;
        bool duo, router;
        const char *says;
    } rows[] = {
        { { STR("big"), { "", 0 }, (double)NAN }, false, false, "no Duo modules" },
        { { STR("router"), { "", 0 }, 0.5 }, true, false, "no router" },
        { { STR("router"), { "", 0 }, (double)NAN }, true, true, "budget" },
        { { STR("router"), { "", 0 }, 1.01 }, true, true, "budget" },
        { { STR("big"), { "", 0 }, 0.5 }, true, true, "budget" },
        { { STR("fixed"), STR("bb"), (double)NAN }, true, true, "pattern" },
        { { STR("fixed"), STR("bbq"), (double)NAN }, true, true, "layer 2" },
        { { STR("dense"), { "", 0 }, (double)NAN }, true, true, "mode" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = ERR_INIT;
        hp.duo = (struct duo_hparams){ .n_ff = rows[i].duo ? 8 : 0,
                                       .n_choice = rows[i].router ? 2 : 0,
                                       .n_budget = 2,
                                       .budget = { 0, 1 },
                                       .threshold = { 4, -4 } };
        cr_expect_neq(duo_policy_make(&hp, &rows[i].w, &p, &err), ST_OK, "row %zu", i);
        cr_expect_not_null(strstr(err.msg, rows[i].says), "row %zu: %s", i, err.msg);
    }
    struct err err = ERR_INIT;
    struct duo_words half = { STR("router"), { "", 0 }, 0.25 };
    cr_assert_eq(duo_policy_make(&hp, &half, &p, &err), ST_OK, "%s", err.msg);
    cr_expect_float_eq(p.threshold, 2, 1e-6);
}
