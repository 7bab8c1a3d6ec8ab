/* tests/unit/model/test_model.c - real files through model_open(). */
#include "engine/model/model.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <string.h>

static struct model *open_or_skip(const char *rel)
{
    char path[4096];
    struct err err = ERR_INIT;
    struct model *m = NULL;
    if (!data_path(rel, path)) {
        data_skip("model", rel);
        return NULL;
    }
    cr_assert_eq(model_open(path, NULL, &m, &err), ST_OK, "%s: %s", rel, err.msg);
    return m;
}

Test(model, the_trained_story_model_opens_with_all_its_oddities)
{
    struct model *m = open_or_skip("models/stories260K/stories260K.gguf");
    if (!m)
        return;
    const struct hparams *hp = model_hparams(m);
    cr_expect_str_eq(hp->arch, "llama");
    cr_expect_eq(hp->n_layer, 5);
    cr_expect_eq(hp->n_embd, 64);
    cr_expect_eq(hp->n_head, 8);
    cr_expect_eq(hp->n_kv, 4);
    cr_expect_eq(hp->d_k, 8);
    cr_expect_eq(hp->n_vocab, 512);
    cr_expect_eq(hp->n_ctx_train, 2048);
    cr_expect_eq(hp->act, ACT_SILU);
    cr_expect_eq(hp->act_origin, ACT_FROM_ARCH);
    cr_expect_not(hp->tied);
    cr_expect_eq(model_n_tensor(m), 48);
    cr_expect_str_eq(model_quant(m), "F32");
    cr_expect_str_eq(model_warning(m), "");
    cr_expect_eq(strlen(model_hash(m)), 64);
    const struct tensor *t = model_find(m, TR_DOWN, 4);
    cr_assert_not_null(t);
    cr_expect_eq(t->n_row, 64);
    cr_expect_eq(t->n_col, hp->n_ff);
    cr_expect_null(model_find(m, TR_DOWN, 5));
    cr_expect_null(model_find(m, TR_DOWN, UINT32_MAX));
    cr_expect_null(model_find(m, TR_TOKEN_EMBD, 0));
    cr_expect_null(model_find(m, TR_POS_EMBD, UINT32_MAX));
    model_close(m);
}

Test(model, every_shared_model_file_opens)
{
    static const char *const files[] = {
        "models/stories260K/stories260K.F16.gguf",    "models/stories260K/stories260K.BF16.gguf",
        "models/stories260K/stories260K.Q4_K_M.gguf", "models/llama2xs-512/llama2xs-512.F32.gguf",
        "models/llama2xs-512/llama2xs-512.F16.gguf",  "models/llama2xs-512/llama2xs-512.Q4_0.gguf",
        "models/llama2xs-512/llama2xs-512.Q4_1.gguf", "models/llama2xs-512/llama2xs-512.Q5_0.gguf",
        "models/llama2xs-512/llama2xs-512.Q5_1.gguf", "models/llama2xs-512/llama2xs-512.Q8_0.gguf",
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct model *m = open_or_skip(files[i]);
        if (m)
            cr_expect_gt(model_n_param(m), 100000);
        model_close(m);
    }
}

Test(model, an_override_decides_the_activation)
{
    static const struct {
        const char *text;
        enum act_kind act, up;
        float threshold;
    } rows[] = { { "relu", ACT_RELU, ACT_IDENTITY, 0 },
                 { "drelu", ACT_RELU, ACT_RELU, 0 },
                 { "fatrelu:0.25", ACT_FATRELU, ACT_IDENTITY, 0.25f },
                 { "relu2", ACT_RELU2, ACT_IDENTITY, 0 },
                 { "gelu", ACT_GELU_TANH, ACT_IDENTITY, 0 },
                 { "gelu_erf", ACT_GELU_ERF, ACT_IDENTITY, 0 } };
    char path[4096];
    if (!data_path("models/stories260K/stories260K.gguf", path)) {
        data_skip("override", "models/stories260K/stories260K.gguf");
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = ERR_INIT;
        struct model *m = NULL;
        struct model_opts opts = { .activation = rows[i].text };
        cr_assert_eq(model_open(path, &opts, &m, &err), ST_OK, "%s", err.msg);
        const struct hparams *hp = model_hparams(m);
        cr_expect_eq(hp->act, rows[i].act, "%s", rows[i].text);
        cr_expect_eq(hp->act_up, rows[i].up, "%s", rows[i].text);
        cr_expect_eq(hp->act_threshold, rows[i].threshold, "%s", rows[i].text);
        cr_expect_eq(hp->act_origin, ACT_FROM_OVERRIDE);
        model_close(m);
    }
    struct err err = ERR_INIT;
    struct model *m = NULL;
    struct model_opts opts = { .activation = "tanh" };
    cr_expect_eq(model_open(path, &opts, &m, &err), ST_ARG);
    cr_expect(strstr(err.msg, "'tanh'"), "%s", err.msg);
}

Test(model, what_cannot_be_served_is_refused_by_name)
{
    static const struct {
        const char *rel, *want;
    } rows[] = { { "models/containers/empty.gguf", "key 'llama.block_count' is missing" },
                 { "models/containers/tiny-no-data.gguf", "truncated" },
                 { "models/containers/interrupted-write.gguf", "zeros" },
                 { "models/containers/git-lfs-pointer.safetensors", "Git-LFS" },
                 { "models/containers/tiny.safetensors", "safetensors" },
                 { "models/containers", "config.json" },
                 { "vocab-gguf/ggml-vocab-gpt-2.gguf", "no tensors" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[4096];
        struct err err = ERR_INIT;
        struct model *m = NULL;
        if (!data_path(rows[i].rel, path)) {
            data_skip("refused", rows[i].rel);
            continue;
        }
        cr_expect_neq(model_open(path, NULL, &m, &err), ST_OK, "%s", rows[i].rel);
        cr_expect(strstr(err.msg, rows[i].want), "%s: %s", rows[i].rel, err.msg);
        model_close(m);
    }
}
