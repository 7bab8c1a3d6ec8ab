/* tests/unit/model/test_arch.c - every architecture in both containers: roles, shapes, names, and
 * that a folder's weights, after their fix, are the numbers of the GGUF file. */
#include "engine/kernel/matrix.h"
#include "engine/model/model.h"
#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const archs[] = { "llama", "qwen2",  "qwen3",  "gpt2",  "opt",
                                     "phi3",  "falcon", "gemma2", "arcee", "bamboo" };
enum { N_ARCHS = sizeof archs / sizeof archs[0] };

static char dir[] = "/tmp/test_arch.XXXXXX";

static const char *in_dir(const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", dir, name);
    return out;
}

static void make_dir(void)
{
    cr_assert_not_null(mkdtemp(dir));
}

static void drop_dir(void)
{
    static const char *const names[] = { "m.gguf", "model.safetensors", "config.json",
                                         "tokenizer.json", "tokenizer_config.json" };
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(in_dir(names[i], path));
    rmdir(dir);
}

TestSuite(arch, .init = make_dir, .fini = drop_dir);

static struct model *open_gguf(const struct tiny_model *t)
{
    char path[256];
    struct err err = ERR_INIT;
    struct model *m = NULL;
    cr_assert(tiny_model_gguf(t, in_dir("m.gguf", path)), "%s", t->arch);
    cr_assert_eq(model_open(path, NULL, &m, &err), ST_OK, "%s: %s", t->arch, err.msg);
    return m;
}

static struct model *open_folder(const struct tiny_model *t)
{
    struct err err = ERR_INIT;
    struct model *m = NULL;
    cr_assert(tiny_model_folder(t, dir), "%s", t->arch);
    cr_assert_eq(model_open(dir, NULL, &m, &err), ST_OK, "%s: %s", t->arch, err.msg);
    return m;
}

/* The file's numbers as f32, fix applied the way a loader has to. */
static float *read_fixed(const struct model *m, const struct tensor *t)
{
    const struct hparams *hp = model_hparams(m);
    size_t n = (size_t)t->n_row * t->n_col;
    float *raw = malloc(n * sizeof *raw), *out = malloc(n * sizeof *out);
    FILE *f = fopen(model_file(m, t->file), "rb");
    cr_assert(raw && out && f && t->type == DT_F32 && t->bytes == n * sizeof *raw);
    cr_assert(fseek(f, (long)t->offset, SEEK_SET) == 0 && fread(raw, sizeof *raw, n, f) == n);
    fclose(f);
    size_t d = (size_t)hp->d_k * t->n_col, per = hp->n_head / hp->n_kv;
    for (size_t i = 0; i < n; i++)
        switch (t->fix) {
        case FIX_NONE:
            out[i] = raw[i];
            break;
        case FIX_ADD_ONE:
            out[i] = raw[i] + 1.0f;
            break;
        case FIX_TRANSPOSE:
            out[i] = raw[(i % t->n_col) * t->n_row + i / t->n_col];
            break;
        case FIX_QKV_GROUPS: {
            size_t h = i / d, at; /* head counted over Q, then K, then V */
            if (h < hp->n_head)
                at = h / per * (per + 2) + h % per;
            else if (h < hp->n_head + hp->n_kv)
                at = (h - hp->n_head) * (per + 2) + per;
            else
                at = (h - hp->n_head - hp->n_kv) * (per + 2) + per + 1;
            out[i] = raw[at * d + i % d];
            break;
        }
        }
    free(raw);
    return out;
}

static void check_weights(const struct tiny_model *t, const struct model *m, bool permuted)
{
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *w = model_tensor(m, i);
        uint32_t n_row, n_col;
        if (permuted && (w->role == TR_Q || w->role == TR_K))
            continue; /* NEOX order in the folder: see the next test */
        float *want = tiny_model_weight(t, w->role, w->layer, &n_row, &n_col);
        cr_assert_not_null(want, "%s %s", t->arch, tensor_role_name(w->role));
        cr_assert_eq(w->n_row, n_row, "%s %s", t->arch, tensor_role_name(w->role));
        cr_assert_eq(w->n_col, n_col, "%s %s", t->arch, tensor_role_name(w->role));
        float *got = read_fixed(m, w);
        cr_expect_arr_eq(got, want, (size_t)n_row * n_col * sizeof *got, "%s %s layer %u", t->arch,
                         tensor_role_name(w->role), w->layer);
        free(want);
        free(got);
    }
}

Test(arch, gguf_files_hold_the_weights_that_were_made)
{
    for (size_t i = 0; i < N_ARCHS; i++) {
        struct tiny_model t = tiny_model_default(archs[i]);
        struct model *m = open_gguf(&t);
        cr_expect_str_eq(model_hparams(m)->arch, archs[i]);
        cr_expect_eq(model_hparams(m)->n_ff, t.n_ff);
        cr_expect_eq(model_hparams(m)->tied, !t.output, "%s", archs[i]);
        cr_expect_str_eq(model_warning(m), "", "%s: %s", archs[i], model_warning(m));
        check_weights(&t, m, false);
        model_close(m);
    }
}

Test(arch, folders_hold_the_same_weights_as_gguf)
{
    for (size_t i = 0; i < N_ARCHS - 1; i++) { /* bamboo exists as GGUF only */
        for (int wide = 0; wide < 2; wide++) {
            struct tiny_model t = tiny_model_default(archs[i]);
            if (wide && strcmp(t.arch, "falcon") != 0)
                continue;
            if (wide)
                t.norm2 = true, t.n_kv = 2; /* the 40B form */
            struct model *g = open_gguf(&t), *f = open_folder(&t);
            const struct hparams *a = model_hparams(g), *b = model_hparams(f);
            cr_expect_eq(model_n_tensor(g), model_n_tensor(f), "%s", t.arch);
            cr_expect_eq(a->act, b->act, "%s", t.arch);
            cr_expect_eq(a->n_ctx_train, b->n_ctx_train, "%s", t.arch);
            cr_expect_eq(a->tied, b->tied, "%s", t.arch);
            cr_expect_eq(a->window, b->window, "%s", t.arch);
            cr_expect_eq(a->window_layers[0], b->window_layers[0], "%s", t.arch);
            cr_expect_float_eq(a->attn_scale, b->attn_scale, 1e-7f, "%s", t.arch);
            cr_expect_eq(a->final_softcap, b->final_softcap, "%s", t.arch);
            cr_expect_eq(b->act_origin, ACT_FROM_CONFIG);
            check_weights(&t, f, strcmp(t.arch, "llama") == 0 || strcmp(t.arch, "arcee") == 0);
            model_close(g);
            model_close(f);
        }
    }
}

static void check_rotate_half(const char *arch)
{
    struct tiny_model t = tiny_model_default(arch);
    struct model *f = open_folder(&t);
    cr_expect_eq(model_hparams(f)->rope, ROPE_NEOX);
    const struct tensor *w = model_find(f, TR_K, 1);
    uint32_t n_row, n_col, d = model_hparams(f)->d_k;
    float *gguf = tiny_model_weight(&t, TR_K, 1, &n_row, &n_col), *hf = read_fixed(f, w);
    for (uint32_t r = 0; r < n_row; r++) {
        uint32_t i = r % d, from = r - i + (i < d / 2 ? 2 * i : 2 * (i - d / 2) + 1);
        cr_expect_arr_eq(hf + (size_t)r * n_col, gguf + (size_t)from * n_col, n_col * sizeof *hf);
    }
    free(gguf);
    free(hf);
    model_close(f);
}

Test(arch, llama_and_arcee_folders_use_the_rotate_half_order)
{
    check_rotate_half("llama");
    check_rotate_half("arcee");
}

Test(arch, folder_names_are_those_of_the_published_models)
{
    static const struct {
        const char *arch;
        enum tensor_role role;
        const char *name;
    } rows[] = {
        { "llama", TR_Q, "model.layers.1.self_attn.q_proj.weight" },
        { "llama", TR_FFN_NORM, "model.layers.1.post_attention_layernorm.weight" },
        { "qwen2", TR_Q_B, "model.layers.1.self_attn.q_proj.bias" },
        { "qwen3", TR_K_NORM, "model.layers.1.self_attn.k_norm.weight" },
        { "phi3", TR_GATE, "model.layers.1.mlp.gate_up_proj.weight" },
        { "phi3", TR_QKV, "model.layers.1.self_attn.qkv_proj.weight" },
        { "gemma2", TR_FFN_NORM, "model.layers.1.pre_feedforward_layernorm.weight" },
        { "gemma2", TR_POST_FFN_NORM, "model.layers.1.post_feedforward_layernorm.weight" },
        { "gpt2", TR_QKV, "transformer.h.1.attn.c_attn.weight" },
        { "gpt2", TR_DOWN_B, "transformer.h.1.mlp.c_proj.bias" },
        { "opt", TR_UP, "model.decoder.layers.1.fc1.weight" },
        { "opt", TR_FFN_NORM_B, "model.decoder.layers.1.final_layer_norm.bias" },
        { "falcon", TR_QKV, "transformer.h.1.self_attention.query_key_value.weight" },
        { "falcon", TR_ATTN_NORM, "transformer.h.1.input_layernorm.weight" },
        { "arcee", TR_UP, "model.layers.1.mlp.up_proj.weight" },
        { "arcee", TR_DOWN, "model.layers.1.mlp.down_proj.weight" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tiny_model t = tiny_model_default(rows[i].arch);
        struct model *m = open_folder(&t);
        const struct tensor *w = model_find(m, rows[i].role, 1);
        cr_assert_not_null(w);
        cr_expect(str_is(w->name, rows[i].name), "%s: %.*s", rows[i].name, (int)w->name.n,
                  w->name.p);
        model_close(m);
    }
}

Test(arch, all_quantised_types_open)
{
    static const enum dtype types[] = { DT_F16,  DT_BF16, DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1,
                                        DT_Q8_0, DT_Q2_K, DT_Q3_K, DT_Q4_K, DT_Q5_K, DT_Q6_K };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct tiny_model t = tiny_model_default("llama");
        t.type = types[i];
        t.n_embd = 256;
        t.n_ff = 256;
        struct model *m = open_gguf(&t);
        cr_expect_str_eq(model_quant(m), dtype_info(types[i])->name);
        model_close(m);
    }
}

Test(arch, facts_of_gemma2_and_opt_and_falcon)
{
    struct tiny_model t = tiny_model_default("gemma2");
    struct model *m = open_gguf(&t);
    const struct hparams *hp = model_hparams(m);
    cr_expect_float_eq(hp->embd_scale, 8.0f, 1e-6f); /* sqrt(64) */
    cr_expect_eq(hp->window_layers[0], 1u);          /* layer 0 local, 1 global */
    cr_expect_eq(hp->attn_softcap, 50.0f);
    cr_expect_eq(hp->d_k, 32);
    model_close(m);
    t = tiny_model_default("opt");
    m = open_gguf(&t);
    hp = model_hparams(m);
    cr_expect_eq(hp->pos_offset, 2);
    cr_expect_eq(hp->act, ACT_RELU);
    cr_expect_eq(model_find(m, TR_POS_EMBD, UINT32_MAX)->n_row, t.n_ctx + 2);
    model_close(m);
    t = tiny_model_default("falcon");
    m = open_gguf(&t);
    cr_expect_eq(model_hparams(m)->block, BLOCK_PARALLEL);
    cr_expect_null(model_find(m, TR_FFN_NORM, 0));
    model_close(m);
}

/* As in llama.cpp: pairs (2i, 2i + 1), RMSNorm, relu(up x)^2, whole heads rotated. */
Test(arch, facts_of_arcee)
{
    struct tiny_model t = tiny_model_default("arcee");
    struct model *m = open_gguf(&t);
    const struct hparams *hp = model_hparams(m);
    cr_expect_eq(hp->rope, ROPE_NORM);
    cr_expect_eq(hp->n_rot, hp->d_k);
    cr_expect_eq(hp->norm, NORM_RMS);
    cr_expect_eq(hp->act, ACT_RELU2);
    cr_expect_eq(hp->act_origin, ACT_FROM_ARCH);
    cr_expect_not(hp->gated);
    cr_expect(hparams_exact_zeros(hp));
    cr_expect_null(model_find(m, TR_GATE, 0));
    model_close(m);
    m = open_folder(&t);
    cr_expect_eq(model_hparams(m)->act, ACT_RELU2);
    cr_expect_eq(model_hparams(m)->rope, ROPE_NEOX);
    model_close(m);
}

Test(arch, norms_are_rectified_where_the_metadata_says_so)
{
    struct tiny_model t = tiny_model_default("llama");
    for (int on = 0; on < 2; on++) {
        t.norm_relu = on;
        struct model *m = open_gguf(&t);
        cr_expect_eq(model_hparams(m)->norm_relu, on);
        model_close(m);
    }
}
