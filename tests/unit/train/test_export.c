/* tests/unit/train/test_export.c - networks out to GGUF and back: every architecture, every type,
 * and the same logits from the engine as from the network.
 *
 * The tolerance of logits. Both sides compute in f32 with sums of at most a few hundred terms, two
 * layers deep: with test_oracle's bound, 8 sqrt(N) 2^-24 of the size of a logit's terms, N about
 * 900 here and terms of about 4 in sum, each side is within 6e-5 of the exact value in the worst
 * case; 1e-4 is asked of their difference. */
#include "engine/base/rng.h"
#include "engine/engine.h"
#include "engine/flash/pack.h"
#include "engine/kernel/matrix.h"
#include "engine/model/tokenizer.h"
#include "engine/train/export.h"
#include "tests/support/data.h"
#include "tests/support/gguf_write.h"
#include "tests/support/loaded.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { N_TOK = 21, N_VOCAB = 275 };

static char dir[] = "/tmp/strobe-export-XXXXXX";
static struct bpe *vocab;

static const char *in_dir(const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", dir, name);
    return out;
}

static void setup(void)
{
    static const struct str special[] = { STR("<|endoftext|>"), STR("<|user|>") };
    struct bpe_opts o = { .n_vocab = 268,
                          .special = special,
                          .n_special = 2,
                          .bos = 0,
                          .eos = 0,
                          .pad = UINT32_MAX,
                          .add_bos = true,
                          .chat_template = STR("{{ messages[0].content }}") };
    struct err err = ERR_INIT;
    cr_assert(mkdtemp(dir));
    cr_assert_eq(bpe_create(&o, &vocab, &err), ST_OK);
    cr_assert_eq(bpe_add_text(vocab, STR("the cat sat on the mat, the cat that sat the mat"), &err),
                 ST_OK);
    cr_assert_eq(bpe_learn(vocab, &err), ST_OK, "%s", err.msg);
}

static void teardown(void)
{
    char path[512];
    bpe_free(vocab);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

TestSuite(export, .init = setup, .fini = teardown);

static struct net_shape base(void)
{
    return (struct net_shape){ .n_vocab = N_VOCAB,
                               .n_ctx = 40,
                               .n_layer = 2,
                               .d_model = 48,
                               .n_head = 4,
                               .n_kv_head = 2,
                               .d_head = 12,
                               .d_ff = 96,
                               .norm = NET_RMS,
                               .pos = NET_ROPE,
                               .act = NET_SILU,
                               .gated = true,
                               .tied = true,
                               .norm_eps = 1e-5,
                               .rope_theta = 10000 };
}

static void layer_norm(struct net_shape *s)
{
    s->norm = NET_LAYER;
    s->pos = NET_LEARNED;
    s->gated = false;
    s->bias = true;
    s->rope_theta = 0;
}

struct variant {
    struct net_shape s;
    const char *what, *arch, *act;
    bool others_fail; /* and the description says so */
};

enum { VARIANTS = 16 };

/* Every architecture, activation and switch. */
static void variants(struct variant v[VARIANTS])
{
    static const struct {
        const char *what, *arch, *act;
        bool others_fail;
    } rows[VARIANTS] = { { "llama", "llama", "silu", false },
                         { "llama, untied, biases", "llama", "silu", false },
                         { "llama, relu", "llama", "relu", true },
                         { "llama, drelu", "llama", "drelu", true },
                         { "llama, shifted relu, norm_relu", "llama", "shifted_relu:0.25", true },
                         { "llama, silu and a relu on up", "llama", "silu,relu", true },
                         { "llama, fatrelu, wide heads", "llama", "fatrelu:0.1", true },
                         { "arcee", "arcee", "relu2", false },
                         { "arcee, norm_relu", "arcee", "relu2", true },
                         { "arcee, gelu, biases, untied", "arcee", "gelu_tanh", true },
                         { "arcee, shifted relu2", "arcee", "shifted_relu2:-0.5", true },
                         { "gpt2", "gpt2", "gelu_tanh", false },
                         { "gpt2, untied, grouped", "gpt2", "gelu_tanh", false },
                         { "opt", "opt", "relu", false },
                         { "opt, gelu, norm_relu", "opt", "gelu_tanh", false },
                         { "opt, shifted relu", "opt", "shifted_relu:0.3", false } };
    for (int i = 0; i < VARIANTS; i++) {
        v[i] = (struct variant){ base(), rows[i].what, rows[i].arch, rows[i].act,
                                 rows[i].others_fail };
        struct net_shape *s = &v[i].s;
        s->gated = i < 7;
        if (i >= 11)
            layer_norm(s);
        s->tied = i != 1 && i != 9 && i != 12;
        s->bias |= i == 1 || i == 9;
        s->norm_relu = i == 4 || i == 8 || i == 14;
        s->up_relu = i == 3 || i == 5;
    }
    v[2].s.act = v[3].s.act = v[4].s.act = v[13].s.act = v[15].s.act = NET_RELU;
    v[4].s.act_shift = 0.25;
    v[6].s.act = NET_FATRELU;
    v[6].s.act_shift = 0.1;
    v[6].s.d_head = 20;
    v[7].s.act = v[8].s.act = v[10].s.act = NET_RELU2;
    v[7].s.rope_theta = 5e5;
    v[9].s.act = v[11].s.act = v[12].s.act = v[14].s.act = NET_GELU;
    v[10].s.act_shift = -0.5;
    v[11].s.n_kv_head = v[13].s.n_kv_head = 4;
    v[15].s.act_shift = 0.3;
}

/* Numbers of the order that trained networks have; vectors are not all alike. */
static real *draw(const struct net_shape *s, uint64_t seed)
{
    struct rng rng = { seed };
    uint32_t n = net_n_tensor(s);
    struct net_tensor *t = calloc(n, sizeof *t);
    real *p = calloc(net_n_param(s), sizeof *p);
    cr_assert(t && p);
    net_tensors(s, t);
    for (uint32_t i = 0; i < n; i++) {
        bool gain = strstr(t[i].name, "norm.weight") != NULL, vector = t[i].rows == 1;
        double size = vector ? 0.3 : strstr(t[i].name, "embd") ? 0.5 : sqrt(3.0 / t[i].cols);
        for (uint64_t k = 0; k < (uint64_t)t[i].rows * t[i].cols; k++)
            p[t[i].at + k] = (real)((gain ? 1 : 0) + size * (2 * rng_f64(&rng) - 1));
    }
    free(t);
    return p;
}

static struct export_opts opts(const struct net_shape *s, const real *p, const char *path)
{
    return (struct export_opts){ .shape = s,
                                 .params = p,
                                 .bpe = vocab,
                                 .type = DT_F32,
                                 .name = "small",
                                 .license = STR("apache-2.0"),
                                 .description = STR("A test."),
                                 .recipe = STR("{\"seed\":1}"),
                                 .path = path };
}

static const char *export_to(const char *name, const struct net_shape *s, const real *p,
                             enum dtype type, char path[256])
{
    struct err err = ERR_INIT;
    struct export_opts o = opts(s, p, in_dir(name, path));
    o.type = type;
    cr_assert_eq(export_gguf(&o, &err), ST_OK, "%s", err.msg);
    return path;
}

static void same_shape(const struct net_shape *a, const struct net_shape *b, const char *what)
{
#define FIELD(f)                                                                                   \
    {                                                                                              \
#f, (double)a->f, (double)b->f                                                             \
    }
    const struct {
        const char *name;
        double a, b;
    } rows[] = { FIELD(n_vocab),   FIELD(n_ctx),    FIELD(n_layer),   FIELD(d_model),
                 FIELD(n_head),    FIELD(d_head),   FIELD(d_ff),      FIELD(n_kv_head),
                 FIELD(norm),      FIELD(pos),      FIELD(act),       FIELD(gated),
                 FIELD(up_relu),   FIELD(tied),     FIELD(bias),      FIELD(norm_relu),
                 FIELD(act_shift), FIELD(norm_eps), FIELD(rope_theta) };
#undef FIELD
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(rows[i].a, rows[i].b, "%s: %s is %.17g, not %.17g", what, rows[i].name,
                     rows[i].a, rows[i].b);
}

Test(export, a_network_comes_back_as_it_went_out)
{
    struct variant v[VARIANTS];
    variants(v);
    for (int i = 0; i < VARIANTS; i++) {
        char path[256];
        struct err err = ERR_INIT;
        struct net_shape s;
        real *p = draw(&v[i].s, 7), *q = NULL;
        export_to("a.gguf", &v[i].s, p, DT_F32, path);
        cr_assert_eq(import_gguf(path, &s, &q, &err), ST_OK, "%s: %s", v[i].what, err.msg);
        same_shape(&s, &v[i].s, v[i].what);
        for (uint64_t k = 0; k < net_n_param(&s); k++)
            cr_assert_eq(p[k], q[k], "%s: parameter %zu", v[i].what, (size_t)k);
        free(p);
        free(q);
    }
}

/* Matrices are what the type makes of them, row by row; vectors and positions are untouched. */
Test(export, types_round_as_they_do_everywhere)
{
    static const enum dtype types[] = { DT_F16, DT_BF16, DT_Q8_0 };
    struct net_shape shapes[2] = { base(), base() };
    shapes[0].d_model = 64; /* Q8_0 holds rows of 64 and 96, and not of 48 */
    layer_norm(&shapes[1]);
    shapes[1].act = NET_RELU;
    for (size_t k = 0; k < 6; k++) {
        const struct net_shape *s = &shapes[k % 2];
        enum dtype type = types[k / 2];
        char path[256];
        struct err err = ERR_INIT;
        struct net_shape got;
        real *p = draw(s, 3), *q = NULL;
        uint32_t n = net_n_tensor(s);
        struct net_tensor *t = calloc(n, sizeof *t);
        cr_assert(t);
        net_tensors(s, t);
        export_to("q.gguf", s, p, type, path);
        cr_assert_eq(import_gguf(path, &got, &q, &err), ST_OK, "%s", err.msg);
        for (uint32_t i = 0; i < n; i++) {
            bool plain = t[i].rows == 1 || !strcmp(t[i].name, "position_embd.weight");
            enum dtype use = plain ? DT_F32 : dtype_row_bytes(type, t[i].cols) ? type : DT_F16;
            for (uint32_t r = 0; r < t[i].rows; r++) {
                float row[96], want[96];
                char bytes[96 * 4];
                const real *from = p + t[i].at + (uint64_t)r * t[i].cols;
                for (uint32_t c = 0; c < t[i].cols; c++)
                    row[c] = (float)from[c];
                dtype_from_f32(use, row, bytes, t[i].cols);
                dtype_to_f32(use, bytes, want, t[i].cols);
                for (uint32_t c = 0; c < t[i].cols; c++)
                    cr_assert_eq((float)q[t[i].at + (uint64_t)r * t[i].cols + c], want[c],
                                 "type %d, %s [%u, %u]", (int)type, t[i].name, r, c);
            }
        }
        free(t);
        free(p);
        free(q);
    }
}

/* ---- the same mathematics ---- */

static float *engine_logits(const char *path, const int32_t *token, uint32_t n_tok,
                            uint32_t *vocab_n)
{
    struct loaded l;
    struct rig r;
    cr_assert(loaded_open_path(&l, path, FLASH_OFF, cpu_level_max()));
    rig_open(&r, l.m, l.w, (struct rig_opts){ cpu_level_max(), 1, 1, n_tok, n_tok, n_tok, DT_F32 });
    *vocab_n = r.hp->n_vocab;
    float *y = malloc((size_t)n_tok * r.hp->n_vocab * sizeof *y);
    cr_assert(y);
    rig_run(&r, 0, 0, token, n_tok, y);
    rig_close(&r);
    loaded_close(&l);
    return y;
}

static real *network_logits(const struct net_shape *s, const real *p, const int32_t *token,
                            uint32_t n_tok)
{
    struct net_opts o = { .shape = *s, .batch = 1, .n_tok = n_tok, .infer = true };
    struct err err = ERR_INIT;
    struct net *n;
    real *y = malloc((size_t)n_tok * s->n_vocab * sizeof *y);
    cr_assert(y);
    cr_assert_eq(net_create(&o, &n, &err), ST_OK, "%s", err.msg);
    memcpy(net_params(n), p, net_n_param(s) * sizeof *p);
    net_logits(n, &(struct net_batch){ .rows = 1, .cols = n_tok, .token = token }, y);
    net_free(n);
    return y;
}

static double distance(const float *a, const real *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst))
            worst = isnan(d) ? HUGE_VAL : d;
    }
    return worst;
}

Test(export, the_engine_computes_what_the_network_computes, .timeout = 600)
{
    struct variant v[VARIANTS];
    variants(v);
    for (int i = 0; i < VARIANTS; i++) {
        char path[256];
        uint32_t n;
        real *p = draw(&v[i].s, 11 + (uint64_t)i);
        int32_t *token = rig_tokens(5, N_TOK, N_VOCAB);
        export_to("e.gguf", &v[i].s, p, DT_F32, path);
        float *got = engine_logits(path, token, N_TOK, &n);
        cr_assert_eq(n, (uint32_t)N_VOCAB);
        real *want = network_logits(&v[i].s, p, token, N_TOK);
        double d = distance(got, want, (size_t)N_TOK * n);
        cr_expect_leq(d, 1e-4, "%s: %g apart", v[i].what, d);
        free(want);
        /* Without what our keys say it is another network. */
        struct net_shape other = v[i].s;
        other.norm_relu = !other.norm_relu;
        want = network_logits(&other, p, token, N_TOK);
        cr_expect_gt(distance(got, want, (size_t)N_TOK * n), 1e-2, "%s, norm_relu", v[i].what);
        free(want);
        other = v[i].s;
        other.act_shift += 0.2;
        other.act = other.act == NET_SILU || other.act == NET_GELU ? NET_RELU : other.act;
        want = network_logits(&other, p, token, N_TOK);
        cr_expect_gt(distance(got, want, (size_t)N_TOK * n), 1e-2, "%s, activation", v[i].what);
        free(want);
        free(got);
        free(p);
        free(token);
    }
}

/* Files of others, and of the tests, as networks. */
static void check_import(const char *path, const char *what)
{
    struct err err = ERR_INIT;
    struct net_shape s;
    real *p = NULL;
    uint32_t n;
    cr_assert_eq(import_gguf(path, &s, &p, &err), ST_OK, "%s: %s", what, err.msg);
    int32_t *token = rig_tokens(9, N_TOK, s.n_vocab);
    float *got = engine_logits(path, token, N_TOK, &n);
    cr_assert_eq(n, s.n_vocab);
    real *want = network_logits(&s, p, token, N_TOK);
    double d = distance(got, want, (size_t)N_TOK * n), size = 1;
    for (size_t i = 0; i < (size_t)N_TOK * n; i++)
        size = fmax(size, fabs((double)want[i]));
    cr_expect_leq(d, 1e-4 * size, "%s: %g apart, logits up to %g", what, d, size);
    free(want);
    free(got);
    free(token);
    free(p);
}

Test(export, files_of_others_become_networks, .timeout = 600)
{
    static const char *const files[] = { "models/stories260K/stories260K.gguf",
                                         "models/stories260K/stories260K.F16.gguf",
                                         "models/stories260K/stories260K.BF16.gguf",
                                         "models/llama2xs-512/llama2xs-512.F32.gguf" };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[4096];
        if (data_path(files[i], path))
            check_import(path, files[i]);
        else
            data_skip("import", files[i]);
    }
    static const struct {
        const char *arch, *act;
    } rows[] = { { "llama", NULL },
                 { "llama", "relu" },
                 { "bamboo", NULL },
                 { "arcee", NULL },
                 { "gpt2", NULL },
                 { "opt", NULL },
                 { "opt", "shifted_relu:0.1" },
                 { "gpt2", "relu" },
                 { "llama", "fatrelu:0.2" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[256];
        struct tiny_model t = tiny_model_default(rows[i].arch);
        t.activation = rows[i].act;
        t.norm_relu = i % 3 == 2;
        cr_assert(tiny_model_gguf(&t, in_dir("t.gguf", path)));
        check_import(path, rows[i].arch);
    }
}

/* Block types: each parameter is what the block says. */
Test(export, quantised_files_are_dequantised)
{
    static const char *const files[] = { "models/stories260K/stories260K.Q4_K_M.gguf",
                                         "models/llama2xs-512/llama2xs-512.Q8_0.gguf",
                                         "models/llama2xs-512/llama2xs-512.Q5_1.gguf" };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[4096], plain[4096];
        struct err err = ERR_INIT;
        struct net_shape a, b;
        real *p = NULL, *q = NULL;
        if (!data_path(files[i], path)) {
            data_skip("import", files[i]);
            continue;
        }
        cr_assert(data_path(i ? "models/llama2xs-512/llama2xs-512.F32.gguf"
                              : "models/stories260K/stories260K.gguf",
                            plain));
        cr_assert_eq(import_gguf(path, &a, &p, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(import_gguf(plain, &b, &q, &err), ST_OK, "%s", err.msg);
        same_shape(&a, &b, files[i]);
        double diff = 0, size = 0;
        for (uint64_t k = 0; k < net_n_param(&a); k++) {
            diff += ((double)p[k] - (double)q[k]) * ((double)p[k] - (double)q[k]);
            size += (double)q[k] * (double)q[k];
        }
        /* 5-bit blocks: steps of a 16th of the largest of 32 numbers, errors of a third of half a
         * step squared: below 4% of a number's size for numbers of any usual distribution. */
        cr_expect_lt(sqrt(diff / size), 0.04, "%s: %g", files[i], sqrt(diff / size));
        cr_expect_gt(diff, 0);
        free(p);
        free(q);
    }
}

static enum status try_import(const char *path, struct err *err)
{
    struct net_shape s = { .n_vocab = 4711 };
    real *p = NULL;
    enum status st = import_gguf(path, &s, &p, err);
    cr_expect_eq(s.n_vocab, 4711u, "a failure wrote a shape");
    cr_expect_null(p);
    return st;
}

Test(export, models_that_no_network_is_like_are_refused_by_name)
{
    static const struct {
        const char *arch, *act, *why;
        uint32_t window;
    } rows[] = { { "qwen2", NULL, "another architecture", 0 },
                 { "qwen3", NULL, "another architecture", 0 },
                 { "falcon", NULL, "another architecture", 0 },
                 { "gemma2", NULL, "another architecture", 0 },
                 { "gpt2", "gelu_erf", "exact GELU", 0 },
                 { "llama", NULL, "window", 16 } };
    char path[256], packed[256];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = ERR_INIT;
        struct tiny_model t = tiny_model_default(rows[i].arch);
        t.activation = rows[i].act;
        t.window = rows[i].window;
        cr_assert(tiny_model_gguf(&t, in_dir("r.gguf", path)));
        cr_expect_eq(try_import(path, &err), ST_UNSUPPORTED, "%s", rows[i].arch);
        cr_expect(strstr(err.msg, rows[i].why) && strstr(err.msg, "r.gguf"), "%s", err.msg);
    }
    struct err err = ERR_INIT;
    struct model *m;
    struct pack_report rep;
    struct tiny_model t = tiny_model_default("opt");
    cr_assert(tiny_model_gguf(&t, in_dir("o.gguf", path)));
    cr_assert_eq(model_open(path, NULL, &m, &err), ST_OK);
    struct pack_opts po = { .out = in_dir("p.gguf", packed), .type = -1, .align = 512 };
    cr_assert_eq(pack_run(m, &po, &rep, &err), ST_OK, "%s", err.msg);
    model_close(m);
    cr_expect_eq(try_import(packed, &err), ST_UNSUPPORTED);
    cr_expect(strstr(err.msg, "packed"), "%s", err.msg);
    err_clear(&err);
    cr_expect_eq(try_import(in_dir("nowhere.gguf", path), &err), ST_NOTFOUND, "%s", err.msg);
}

/* ---- what the file says ---- */

static void expect_text(const struct gguf *g, const char *k, const char *want)
{
    struct err err = ERR_INIT;
    struct str got = STR("");
    cr_assert_eq(gguf_get_str(g, k, true, &got, &err), ST_OK, "%s", err.msg);
    cr_expect(str_is(got, want), "%s is '%.*s', not '%s'", k, (int)got.n, got.p, want);
}

static void expect_number(const struct gguf *g, const char *arch, const char *k, int64_t want)
{
    struct err err = ERR_INIT;
    char name[96];
    int64_t got = -1;
    snprintf(name, sizeof name, "%s%s%s", arch, arch[0] ? "." : "", k);
    cr_assert_eq(gguf_get_i64(g, name, true, 0, INT32_MAX, &got, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(got, want, "%s is %d", name, (int)got);
}

Test(export, the_metadata_names_architecture_activation_and_origin)
{
    struct variant v[VARIANTS];
    variants(v);
    for (int i = 0; i < VARIANTS; i++) {
        char path[256];
        struct err err = ERR_INIT;
        struct gguf *g;
        struct str text = STR("");
        const char *arch = NULL;
        real *p = draw(&v[i].s, 1);
        export_to("m.gguf", &v[i].s, p, DT_Q8_0, path);
        cr_assert_eq(gguf_open(path, &g, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(export_arch(&v[i].s, &arch, &err), ST_OK);
        cr_expect_str_eq(arch, v[i].arch, "%s", v[i].what);
        expect_text(g, "general.architecture", v[i].arch);
        expect_text(g, "general.name", "small");
        expect_text(g, "general.license", "apache-2.0");
        expect_text(g, "strobe.recipe", "{\"seed\":1}");
        expect_text(g, "strobe.activation", v[i].act);
        expect_text(g, "tokenizer.ggml.pre", BPE_PRE_DEFAULT);
        expect_number(g, v[i].arch, "block_count", 2);
        expect_number(g, v[i].arch, "attention.key_length", v[i].s.d_head);
        expect_number(g, v[i].arch, "context_length", 40);
        expect_number(g, "", "general.file_type", 7);
        expect_number(g, "", "general.quantization_version", 2);
        cr_expect_eq(gguf_get_str(g, "general.description", true, &text, &err), ST_OK);
        cr_expect(str_starts(text, STR("A test.")));
        cr_expect_eq(str_find(text, STR("nonsense"), 0) != SIZE_MAX, v[i].others_fail, "%s: %.*s",
                     v[i].what, (int)text.n, text.p);
        cr_expect_eq(gguf_find(g, "strobe.norm_relu") != NULL, v[i].s.norm_relu);
        gguf_close(g);
        free(p);
    }
}

Test(export, inspect_describes_the_file)
{
    struct variant v[VARIANTS];
    variants(v);
    for (int i = 0; i < VARIANTS; i++) {
        char path[256];
        struct err err = ERR_INIT;
        json_t *doc = NULL;
        real *p = draw(&v[i].s, 1);
        export_to("i.gguf", &v[i].s, p, DT_F16, path);
        struct engine_opts o = { .model = path, .cpu_level = -1 };
        cr_assert_eq(engine_inspect(&o, &doc, &err), ST_OK, "%s: %s", v[i].what, err.msg);
        struct buf b = BUF_INIT;
        cr_assert_eq(json_write(doc, &b, &err), ST_OK);
        char want[64];
        snprintf(want, sizeof want, "\"%s\"", v[i].arch);
        cr_expect(strstr(b.p, want), "%s", b.p);
        const json_t *act = json_object_get(doc, "activation");
        cr_expect_str_eq(json_string_value(json_object_get(act, "decided_by")), "metadata");
        bool zeros = v[i].s.act != NET_SILU && v[i].s.act != NET_GELU;
        cr_expect_eq(json_is_true(json_object_get(act, "exact_zeros")), zeros, "%s", v[i].what);
        buf_clear(&b);
        json_free(doc);
        free(p);
    }
}

/* Readers take the number of tokens for the number of rows. */
Test(export, tokens_fill_the_rows_of_the_embedding)
{
    static const char *const archs[] = { NULL, "llama",
                                         "gpt2" }; /* learned, with scores, without */
    for (int i = 0; i < 3; i++) {
        struct net_shape s = base();
        char path[256], source[256];
        struct err err = ERR_INIT;
        struct gguf *g;
        struct tokenizer *t;
        s.n_vocab = 300;
        real *p = draw(&s, 1);
        struct export_opts o = opts(&s, p, in_dir("v.gguf", path));
        if (archs[i]) {
            struct tiny_model tiny = tiny_model_default(archs[i]);
            cr_assert(tiny_model_gguf(&tiny, in_dir("s.gguf", source)));
            o.bpe = NULL;
            o.vocab_path = source;
        }
        cr_assert_eq(export_gguf(&o, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(gguf_open(path, &g, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(tokenizer_from_gguf(g, NULL, &t, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(tokenizer_n_vocab(t), 300u);
        cr_expect(str_is(tokenizer_text(t, 299), "[PAD299]"));
        const struct gguf_kv *type = gguf_find(g, "tokenizer.ggml.token_type");
        uint32_t have = archs[i] ? 288 : 268;
        cr_expect_eq(gguf_arr_i64(type, 299), 5);
        cr_expect_eq(gguf_arr_i64(type, have), 5);
        cr_expect_neq(gguf_arr_i64(type, have - 1), 5);
        cr_expect_eq(gguf_find(g, "tokenizer.ggml.scores") != NULL, i == 1);
        if (!archs[i])
            cr_expect(str_is(tokenizer_chat_template(t, NULL), "{{ messages[0].content }}"));
        tokenizer_free(t);
        gguf_close(g);
        free(p);
    }
}

/* ---- refusals ---- */

static void refuses(const struct export_opts *o, enum status want, const char *why)
{
    struct err err = ERR_INIT;
    char partial[300];
    cr_expect_eq(export_gguf(o, &err), want, "'%s' instead of %s", err.msg, why);
    cr_expect(strstr(err.msg, why), "'%s' does not say '%s'", err.msg, why);
    snprintf(partial, sizeof partial, "%s.partial", o->path);
    cr_expect_neq(access(o->path, F_OK), 0, "%s left a file", why);
    cr_expect_neq(access(partial, F_OK), 0, "%s left a partial file", why);
}

Test(export, what_cannot_be_written_is_refused_and_leaves_nothing)
{
    char path[256];
    struct net_shape s = base(), good = base();
    real *p = draw(&good, 2);
    struct export_opts o = opts(&s, p, in_dir("no.gguf", path));
    s.pos = NET_LEARNED;
    refuses(&o, ST_UNSUPPORTED, "RMSNorm with learned positions");
    s = good;
    s.norm = NET_LAYER;
    refuses(&o, ST_UNSUPPORTED, "LayerNorm with RoPE");
    layer_norm(&s);
    s.gated = true;
    refuses(&o, ST_UNSUPPORTED, "with a gate");
    s.gated = s.bias = false;
    refuses(&o, ST_UNSUPPORTED, "without biases");
    s = good;
    s.act = NET_FATRELU;
    s.act_shift = -1;
    refuses(&o, ST_UNSUPPORTED, "FATReLU");
    s = good;
    s.d_head = 0;
    refuses(&o, ST_RANGE, "d_head");
    s = good;
    s.n_vocab = 100;
    refuses(&o, ST_ARG, "268 tokens");
    s = good;
    o.type = DT_Q4_0;
    refuses(&o, ST_UNSUPPORTED, "F32, F16, BF16 or Q8_0");
    o.type = DT_F16;
    p[net_n_param(&s) - 1] = (real)NAN;
    refuses(&o, ST_RANGE, "'output_norm.weight' holds a number that is not finite");
    p[net_n_param(&s) - 1] = 1;
    p[5] = 70000;
    refuses(&o, ST_RANGE, "'token_embd.weight' holds 70000");
    p[5] = 1;
    o.bpe = NULL;
    refuses(&o, ST_ARG, "one vocabulary");
    o.vocab_path = in_dir("missing.gguf", (char[256]){ 0 });
    refuses(&o, ST_NOTFOUND, "missing.gguf");
    free(p);
}

Test(export, a_shape_that_the_engine_does_not_take_is_not_written)
{
    struct net_shape s = base();
    char path[256];
    layer_norm(&s);
    s.act = NET_RELU;
    s.d_head = 11;
    real *p = draw(&s, 2);
    struct export_opts o = opts(&s, p, in_dir("odd.gguf", path));
    refuses(&o, ST_FORMAT, "must be even");
    free(p);
}

Test(export, an_older_file_stays_when_a_new_one_fails)
{
    struct net_shape s = base();
    char path[256];
    struct err err = ERR_INIT;
    real *p = draw(&s, 2), *q = NULL;
    export_to("stay.gguf", &s, p, DT_F32, path);
    struct export_opts o = opts(&s, p, path);
    p[3] = (real)INFINITY;
    cr_expect_eq(export_gguf(&o, &err), ST_RANGE);
    err_clear(&err);
    cr_assert_eq(import_gguf(path, &s, &q, &err), ST_OK, "%s", err.msg);
    cr_expect(isfinite(q[3]));
    free(p);
    free(q);
}
