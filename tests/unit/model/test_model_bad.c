/* tests/unit/model/test_model_bad.c - GGUF models whose metadata or tensors are wrong: one row per
 * line of reliability.md 3A (G22 to G39) that concerns them, and the activation's decision order.
 */
#include "engine/model/arch.h"
#include "tests/support/data.h"
#include "tests/support/gguf_write.h"
#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum what { KEEP, DROP, U32, I64, F32, TEXT, BOOL, ARRAY_U32, ARRAY_F32 };

/* One change to a good file's metadata, and what it must lead to. */
struct change {
    const char *arch, *key; /* key: after "ARCH.", or whole when it begins with '/' */
    enum what what;
    double num;
    const char *str;
    enum status want;
    const char *text;
};

static char path[] = "/tmp/test_model_bad.XXXXXX";

static void make_file(void)
{
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
}

static void drop_file(void)
{
    unlink(path);
}

TestSuite(model_bad, .init = make_file, .fini = drop_file);

static void put_change(struct gguf_writer *w, const char *key, const struct change *c)
{
    uint32_t two[2] = { (uint32_t)c->num, (uint32_t)c->num };
    switch (c->what) {
    case U32:
        gw_u32(w, key, (uint32_t)(int64_t)c->num);
        break;
    case I64:
        gw_u64(w, key, (uint64_t)(int64_t)c->num);
        break;
    case F32:
        gw_f32(w, key, (float)c->num);
        break;
    case TEXT:
        gw_str(w, key, c->str);
        break;
    case BOOL:
        gw_bool(w, key, true);
        break;
    case ARRAY_U32:
        two[1] += c->str ? (uint32_t)atoi(c->str) : 0;
        gw_array(w, key, GGUF_U32, two, 2, sizeof two);
        break;
    case ARRAY_F32:
        gw_array(w, key, GGUF_F32, two, 2, sizeof two);
        break;
    case KEEP:
    case DROP:
        break;
    }
}

static void copy_kv(struct gguf_writer *w, const struct gguf_kv *kv)
{
    static const size_t size[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    char *key = str_dup(kv->key);
    cr_assert_not_null(key);
    if (kv->type == GGUF_ARRAY && kv->elem == GGUF_STRING) {
        gw_strs(w, key, kv->text, kv->n);
    } else if (kv->type == GGUF_ARRAY) {
        gw_array(w, key, kv->elem, kv->raw, kv->n, (size_t)kv->n * size[kv->elem]);
    } else if (kv->type == GGUF_STRING) {
        char *v = str_dup(kv->text[0]);
        gw_str(w, key, v);
        free(v);
    } else {
        gw_raw(w, key, kv->type, kv->raw, size[kv->type]);
    }
    free(key);
}

struct edit {
    const char *drop, *rename, *to; /* tensors */
    const char *extra;
    bool flip; /* transpose the table entry of `rename` */
};

static void copy_tensors(struct gguf_writer *w, const struct gguf *g, const struct edit *e)
{
    for (uint64_t i = 0; i < gguf_n_tensor(g); i++) {
        struct gguf_tensor t = *gguf_tensor_at(g, i);
        char *name = str_dup(t.name);
        const char *as = name;
        uint64_t first = t.ne[0];
        bool hit = e && e->rename && strcmp(name, e->rename) == 0;
        if (hit && e->to)
            as = e->to;
        if (hit && e->flip) {
            t.ne[0] = t.ne[1];
            t.ne[1] = first;
        }
        if (!e || !e->drop || strcmp(name, e->drop) != 0)
            gw_tensor(w, as, (uint32_t)t.type, t.n_dim, t.ne, NULL, (size_t)t.bytes);
        free(name);
    }
    uint64_t ne[1] = { 32 };
    if (e && e->extra)
        gw_tensor(w, e->extra, DT_F32, 1, ne, NULL, 128);
}

/* Rewrites a tiny file of c->arch with one key and some tensors changed. */
static void rewrite(const struct change *c, const struct edit *e)
{
    struct tiny_model t = tiny_model_default(c->arch);
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    struct gguf_writer w;
    char key[128];
    snprintf(key, sizeof key, "%s%s%s", c->key && c->key[0] == '/' ? "" : c->arch,
             c->key && c->key[0] == '/' ? "" : ".", c->key ? c->key + (c->key[0] == '/') : "");
    cr_assert(tiny_model_gguf(&t, path));
    cr_assert_eq(gguf_open(path, &g, &err), ST_OK, "%s", err.msg);
    gw_init(&w);
    for (uint64_t i = 0; i < gguf_n_kv(g); i++)
        if (!c->key || !str_is(gguf_kv_at(g, i)->key, key))
            copy_kv(&w, gguf_kv_at(g, i));
    if (c->key)
        put_change(&w, key, c);
    copy_tensors(&w, g, e);
    gguf_close(g);
    cr_assert(gw_save(&w, path));
    gw_clear(&w);
}

static void expect(const struct change *c, const struct edit *e)
{
    struct err err = ERR_INIT;
    struct model *m = NULL;
    rewrite(c, e);
    cr_expect_eq(model_open(path, NULL, &m, &err), c->want, "%s %s: %s", c->arch,
                 c->key ? c->key : "", err.msg);
    const char *said = m ? model_warning(m) : err.msg;
    cr_expect(strstr(said, c->text), "%s %s: expected '%s' in: %s", c->arch, c->key ? c->key : "",
              c->text, said);
    model_close(m);
}

Test(model_bad, metadata)
{
    static const struct change rows[] = {
        { "llama", NULL, KEEP, 0, NULL, ST_OK, "" },
        { "llama", "/general.architecture", DROP, 0, NULL, ST_FORMAT,
          "'general.architecture' is missing" },
        { "llama", "/general.architecture", TEXT, 0, "", ST_UNSUPPORTED, "supported: llama" },
        { "llama", "/general.architecture", TEXT, 0, "zzz", ST_UNSUPPORTED, "'zzz': unknown" },
        { "llama", "/general.architecture", TEXT, 0, "qwen35", ST_UNSUPPORTED,
          "hybrid linear attention" },
        { "llama", "/general.architecture", TEXT, 0, "qwen3moe", ST_UNSUPPORTED,
          "mixture of experts" },
        { "llama", "/general.architecture", TEXT, 0, "clip", ST_UNSUPPORTED, "vision projector" },
        { "llama", "/general.architecture", U32, 3, NULL, ST_FORMAT, "must be a string" },
        { "llama", "/general.type", TEXT, 0, "adapter", ST_UNSUPPORTED, "'adapter'" },
        { "llama", "/general.type", TEXT, 0, "mmproj", ST_UNSUPPORTED, "'mmproj'" },
        { "llama", "/general.file_type", U32, 2, NULL, ST_OK, "" },
        { "llama", "expert_count", U32, 8, NULL, ST_UNSUPPORTED, "mixture of 8 experts" },
        { "llama", "block_count", DROP, 0, NULL, ST_FORMAT, "'llama.block_count' is missing" },
        { "llama", "block_count", U32, 0, NULL, ST_FORMAT, "'llama.block_count' is 0" },
        { "llama", "block_count", U32, 1, NULL, ST_FORMAT, "outside the 1 layers" },
        { "llama", "block_count", U32, 3, NULL, ST_FORMAT, "'blk.2.attn_q.weight' is missing" },
        { "llama", "block_count", U32, 2147483648.0, NULL, ST_FORMAT, "allowed are 1 to 512" },
        { "llama", "block_count", TEXT, 0, "2", ST_FORMAT, "must be an integer" },
        { "llama", "block_count", F32, 2, NULL, ST_FORMAT, "must be an integer" },
        { "llama", "block_count", BOOL, 1, NULL, ST_FORMAT, "must be an integer" },
        { "llama", "block_count", ARRAY_U32, 2, NULL, ST_FORMAT, "must be an integer" },
        { "llama", "block_count", I64, 2, NULL, ST_OK, "" },
        { "llama", "embedding_length", U32, 0, NULL, ST_FORMAT, "embedding_length" },
        { "llama", "embedding_length", U32, 63, NULL, ST_FORMAT, "not divisible by 4 heads" },
        { "llama", "embedding_length", U32, 128, NULL, ST_FORMAT, "expected shape {128, 288}" },
        { "llama", "attention.head_count", U32, 0, NULL, ST_FORMAT, "head_count" },
        { "llama", "attention.head_count", U32, 64, NULL, ST_FORMAT, "head size 1" },
        { "llama", "attention.head_count_kv", U32, 0, NULL, ST_FORMAT, "head_count_kv" },
        { "llama", "attention.head_count_kv", U32, 8, NULL, ST_FORMAT, "cannot share 8" },
        { "llama", "attention.head_count_kv", U32, 3, NULL, ST_FORMAT, "cannot share 3" },
        { "llama", "attention.head_count_kv", U32, 4, NULL, ST_FORMAT,
          "'blk.0.attn_k.weight': expected" },
        { "llama", "attention.head_count_kv", ARRAY_U32, 2, NULL, ST_OK, "" },
        { "llama", "attention.head_count_kv", ARRAY_U32, 2, "2", ST_UNSUPPORTED,
          "differs between layers" },
        { "llama", "attention.head_count_kv", ARRAY_F32, 2, NULL, ST_FORMAT, "must hold integers" },
        { "llama", "feed_forward_length", U32, 0, NULL, ST_FORMAT, "feed_forward_length" },
        { "llama", "feed_forward_length", U32, 97, NULL, ST_FORMAT,
          "expected shape {64, 97}, found {64, 96}" },
        { "llama", "feed_forward_length", ARRAY_U32, 96, "1", ST_UNSUPPORTED,
          "differs between layers" },
        { "llama", "context_length", U32, 0, NULL, ST_FORMAT, "context_length" },
        { "llama", "context_length", U32, 1, NULL, ST_OK, "" },
        { "llama", "context_length", U32, 4294967295.0, NULL, ST_OK, "not plausible" },
        { "llama", "attention.layer_norm_rms_epsilon", DROP, 0, NULL, ST_FORMAT,
          "epsilon is missing" },
        { "llama", "attention.layer_norm_rms_epsilon", F32, 0, NULL, ST_FORMAT, "epsilon is 0" },
        { "llama", "attention.layer_norm_rms_epsilon", F32, -1, NULL, ST_FORMAT, "epsilon" },
        { "llama", "attention.layer_norm_rms_epsilon", F32, (double)__builtin_nanf(""), NULL,
          ST_FORMAT, "not a finite" },
        { "llama", "attention.layer_norm_rms_epsilon", F32, 1e30, NULL, ST_FORMAT, "epsilon" },
        { "llama", "rope.freq_base", F32, 0, NULL, ST_FORMAT, "rope base" },
        { "llama", "rope.freq_base", F32, -1, NULL, ST_FORMAT, "rope base" },
        { "llama", "rope.freq_base", F32, (double)__builtin_inff(), NULL, ST_FORMAT,
          "not a finite" },
        { "llama", "rope.dimension_count", U32, 0, NULL, ST_FORMAT, "rope.dimension_count" },
        { "llama", "rope.dimension_count", U32, 15, NULL, ST_FORMAT, "rope dimension 15" },
        { "llama", "rope.dimension_count", U32, 18, NULL, ST_FORMAT, "rope dimension 18" },
        { "llama", "rope.dimension_count", U32, 8, NULL, ST_FORMAT, "must equal the head size 16" },
        { "qwen2", "rope.dimension_count", U32, 8, NULL, ST_OK, "" },
        { "llama", "rope.scaling.factor", F32, 0, NULL, ST_FORMAT, "scaling factor" },
        { "llama", "rope.scaling.type", TEXT, 0, "magic", ST_UNSUPPORTED, "'magic'" },
        { "phi3", "rope.scaling.type", TEXT, 0, "longrope", ST_FORMAT, "rope_factors_long" },
        { "gpt2", "context_length", U32, 999, NULL, ST_OK, "position table" },
        { "llama", "/strobe.activation", TEXT, 0, "sigmoid", ST_UNSUPPORTED,
          "activation 'sigmoid'" },
        { "opt", "/strobe.activation", TEXT, 0, "drelu", ST_UNSUPPORTED, "needs a gated model" },
        { "opt", "/strobe.activation", TEXT, 0, "shifted_relu:1,relu", ST_UNSUPPORTED,
          "needs a gated model" },
        { "llama", "/strobe.activation", TEXT, 0, "shifted_relu:", ST_UNSUPPORTED, "unknown" },
        { "llama", "/strobe.activation", TEXT, 0, "shifted_relu:x", ST_UNSUPPORTED, "unknown" },
        { "llama", "/strobe.activation", TEXT, 0, "fatrelu:-1", ST_UNSUPPORTED, "unknown" },
        { "llama", "/strobe.activation", TEXT, 0, ",relu", ST_UNSUPPORTED, "unknown" },
        { "llama", "/strobe.norm_relu", U32, 1, NULL, ST_FORMAT, "strobe.norm_relu" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect(&rows[i], NULL);
}

Test(model_bad, tensors)
{
    static const struct {
        struct change c;
        struct edit e;
    } rows[] = {
        { { "llama", NULL, KEEP, 0, NULL, ST_FORMAT, "'blk.1.ffn_up.weight' is missing" },
          { .drop = "blk.1.ffn_up.weight" } },
        { { "llama", NULL, KEEP, 0, NULL, ST_FORMAT, "'token_embd.weight' is missing" },
          { .drop = "token_embd.weight" } },
        { { "llama", NULL, KEEP, 0, NULL, ST_OK, "" }, { .drop = "output.weight" } },
        { { "llama", NULL, KEEP, 0, NULL, ST_OK, "'what.weight'" }, { .extra = "what.weight" } },
        { { "llama", NULL, KEEP, 0, NULL, ST_OK, "not used" },
          { .extra = "blk.-1.ffn_up.weight" } },
        { { "llama", NULL, KEEP, 0, NULL, ST_OK, "not used" }, { .extra = "blk.00.x" } },
        { { "llama", NULL, KEEP, 0, NULL, ST_FORMAT, "outside the 2 layers" },
          { .extra = "blk.4294967295.ffn_up.weight" } },
        { { "llama", NULL, KEEP, 0, NULL, ST_FORMAT, "expected shape {64, 96}, found {96, 64}" },
          { .rename = "blk.1.ffn_up.weight", .flip = true } },
        { { "llama", NULL, KEEP, 0, NULL, ST_UNSUPPORTED, "PowerInfer" },
          { .rename = "blk.0.ffn_down.weight", .to = "blk.0.ffn_down_t.weight" } },
        { { "qwen2", NULL, KEEP, 0, NULL, ST_FORMAT, "'blk.0.attn_q.bias' is missing" },
          { .drop = "blk.0.attn_q.bias" } },
        { { "qwen3", NULL, KEEP, 0, NULL, ST_FORMAT, "'blk.1.attn_q_norm.weight' is missing" },
          { .drop = "blk.1.attn_q_norm.weight" } },
        { { "phi3", NULL, KEEP, 0, NULL, ST_FORMAT, "'blk.0.ffn_up.weight' is missing" },
          { .drop = "blk.0.ffn_up.weight" } },
        { { "opt", NULL, KEEP, 0, NULL, ST_FORMAT, "'position_embd.weight' is missing" },
          { .drop = "position_embd.weight" } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect(&rows[i].c, &rows[i].e);
}

Test(model_bad, the_activation_is_decided_in_the_documented_order)
{
    static const struct {
        const char *arch, *name, *meta, *override;
        enum act_kind act, up;
        enum act_origin origin;
    } rows[] = {
        { "llama", "tiny", NULL, NULL, ACT_SILU, ACT_IDENTITY, ACT_FROM_ARCH },
        { "llama", "ReluLLaMA-7B", NULL, NULL, ACT_RELU, ACT_IDENTITY, ACT_FROM_NAME },
        { "llama", "prosparse-llama-2-7b", NULL, NULL, ACT_RELU, ACT_IDENTITY, ACT_FROM_NAME },
        { "llama", "Bamboo-7B", NULL, NULL, ACT_RELU, ACT_RELU, ACT_FROM_NAME },
        { "llama", "TurboSparse-Mistral", NULL, NULL, ACT_RELU, ACT_RELU, ACT_FROM_NAME },
        { "qwen2", "ReluLLaMA-7B", NULL, NULL, ACT_SILU, ACT_IDENTITY, ACT_FROM_ARCH },
        { "falcon", "ReluFalcon-40B", NULL, NULL, ACT_RELU, ACT_IDENTITY, ACT_FROM_NAME },
        { "llama", "ReluLLaMA-7B", "silu", NULL, ACT_SILU, ACT_IDENTITY, ACT_FROM_METADATA },
        { "llama", "tiny", "fatrelu:0.5", NULL, ACT_FATRELU, ACT_IDENTITY, ACT_FROM_METADATA },
        { "llama", "tiny", "relu", "drelu", ACT_RELU, ACT_RELU, ACT_FROM_OVERRIDE },
        { "bamboo", "tiny", NULL, NULL, ACT_RELU, ACT_RELU, ACT_FROM_ARCH },
        { "opt", "tiny", NULL, NULL, ACT_RELU, ACT_IDENTITY, ACT_FROM_ARCH },
        { "gemma2", "tiny", NULL, NULL, ACT_GELU_TANH, ACT_IDENTITY, ACT_FROM_ARCH },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spec s;
        struct hparams hp = { .arch = rows[i].arch };
        struct err err = ERR_INIT;
        spec_init(&s);
        s.arch = arch_find(str_c(rows[i].arch));
        hp.gated = s.arch->gated;
        s.name = str_c(rows[i].name);
        s.override = rows[i].override;
        s.act_meta = rows[i].meta ? str_c(rows[i].meta) : (struct str){ NULL, 0 };
        cr_expect_eq(spec_activation(&s, &hp, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(hp.act, rows[i].act, "%s %s", rows[i].arch, rows[i].name);
        cr_expect_eq(hp.act_up, rows[i].up, "%s %s", rows[i].arch, rows[i].name);
        cr_expect_eq(hp.act_origin, rows[i].origin, "%s %s", rows[i].arch, rows[i].name);
        cr_expect_eq(s.warning[0] != 0, rows[i].origin == ACT_FROM_NAME, "%s", rows[i].name);
    }
}

/* What hparams_act_text() writes is what strobe.activation reads. */
Test(model_bad, the_activation_s_text_reads_back)
{
    static const struct {
        const char *text;
        enum act_kind act, up;
        float threshold;
    } rows[] = {
        { "silu", ACT_SILU, ACT_IDENTITY, 0 },
        { "silu,relu", ACT_SILU, ACT_RELU, 0 },
        { "gelu_tanh", ACT_GELU_TANH, ACT_IDENTITY, 0 },
        { "gelu_erf", ACT_GELU_ERF, ACT_IDENTITY, 0 },
        { "relu", ACT_RELU, ACT_IDENTITY, 0 },
        { "drelu", ACT_RELU, ACT_RELU, 0 },
        { "relu2", ACT_RELU2, ACT_IDENTITY, 0 },
        { "fatrelu:0.1", ACT_FATRELU, ACT_IDENTITY, 0.1f },
        { "shifted_relu:0.33333334", ACT_SHIFTED_RELU, ACT_IDENTITY, 1.0f / 3 },
        { "shifted_relu:-1.5,relu", ACT_SHIFTED_RELU, ACT_RELU, -1.5f },
        { "shifted_relu2:1e-07", ACT_SHIFTED_RELU2, ACT_IDENTITY, 1e-7f },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spec s;
        struct hparams hp = { .arch = "llama", .gated = true };
        struct err err = ERR_INIT;
        char text[ACT_TEXT_MAX];
        spec_init(&s);
        s.arch = arch_find(STR("llama"));
        s.act_meta = str_c(rows[i].text);
        cr_assert_eq(spec_activation(&s, &hp, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(hp.act, rows[i].act, "%s", rows[i].text);
        cr_expect_eq(hp.act_up, rows[i].up, "%s", rows[i].text);
        cr_expect_eq(hp.act_threshold, rows[i].threshold, "%s", rows[i].text);
        cr_expect_str_eq(hparams_act_text(&hp, text), rows[i].text);
    }
}

Test(model_bad, yarn_and_longrope_numbers)
{
    struct spec s;
    struct hparams hp;
    struct err err = ERR_INIT;
    spec_init(&s);
    s.arch = arch_find(STR("qwen2"));
    s.n_layer = 2, s.n_embd = 512, s.n_ff = 64, s.n_ctx = 131072, s.n_head = 4, s.eps = 1e-6;
    s.scaling = ROPE_SCALE_YARN, s.rope_factor = 4, s.rope_ctx_orig = 32768, s.rope_base = 1e6;
    cr_assert_eq(spec_hparams(&s, &hp, &err), ST_OK, "%s", err.msg);
    /* n_rot 128: c(32) = 23.61 -> 23, c(1) = 39.65 -> 40; 1 + 0.1 ln 4 */
    cr_expect_float_eq(hp.rope_freq_scale, 0.25f, 1e-7f);
    cr_expect_eq(hp.rope_yarn_lo, 23.0f);
    cr_expect_eq(hp.rope_yarn_hi, 40.0f);
    cr_expect_float_eq(hp.rope_attn_factor, 1.1386294f, 1e-6f);
    s.scaling = ROPE_SCALE_LONGROPE, s.n_ctx = 131072, s.rope_ctx_orig = 4096;
    cr_assert_eq(spec_hparams(&s, &hp, &err), ST_OK, "%s", err.msg);
    cr_expect_float_eq(hp.rope_attn_factor, 1.1902380f, 1e-6f); /* sqrt(1 + ln 32 / ln 4096) */
}
