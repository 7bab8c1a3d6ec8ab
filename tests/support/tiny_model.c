/* tests/support/tiny_model.c - see tiny_model.h. Role names and shapes come from the engine's
 * tables (test_arch checks those against literal names); permutations are written out here from
 * the format notes, independently of the loader. */
#include "tests/support/tiny_model.h"

#include "engine/base/rng.h"
#include "engine/kernel/matrix.h"
#include "engine/model/arch.h"
#include "tests/support/gguf_write.h"
#include "tests/support/st_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct tiny_model tiny_model_default(const char *arch)
{
    struct tiny_model t = { .arch = arch,
                            .n_layer = 2,
                            .n_embd = 64,
                            .n_ff = 96,
                            .n_head = 4,
                            .n_kv = 2,
                            .n_ctx = 128,
                            .n_vocab = 288,
                            .type = DT_F32,
                            .output = true,
                            .seed = 1 };
    if (!strcmp(arch, "gpt2") || !strcmp(arch, "opt"))
        t.n_kv = t.n_head;
    if (!strcmp(arch, "gpt2") || !strcmp(arch, "opt") || !strcmp(arch, "gemma2"))
        t.output = false;
    if (!strcmp(arch, "falcon"))
        t.n_kv = 1;
    if (!strcmp(arch, "gemma2"))
        t.d_head = 32, t.window = 16;
    return t;
}

static bool is(const struct tiny_model *t, const char *arch)
{
    return strcmp(t->arch, arch) == 0;
}

static uint32_t head(const struct tiny_model *t)
{
    return t->d_head ? t->d_head : t->n_embd / t->n_head;
}

static uint64_t roles(const struct tiny_model *t)
{
    const struct arch *a = arch_find(str_c(t->arch));
    uint64_t set = a ? a->must : 0;
    if (t->output)
        set |= ROLE(TR_OUTPUT);
    if (is(t, "falcon") && t->norm2)
        set |= ROLE(TR_ATTN_NORM2) | ROLE(TR_ATTN_NORM2_B);
    return set;
}

static struct hparams shape_of(const struct tiny_model *t)
{
    return (struct hparams){ .n_layer = t->n_layer,
                             .n_embd = t->n_embd,
                             .n_vocab = t->n_vocab,
                             .n_ctx_train = t->n_ctx,
                             .n_head = t->n_head,
                             .n_kv = t->n_kv,
                             .d_k = head(t),
                             .d_v = head(t),
                             .n_ff = t->n_ff,
                             .n_rot = head(t),
                             .pos_offset = is(t, "opt") ? 2 : 0 };
}

/* Uniform in [-1, 1), from the position alone. */
static float noise(uint64_t key, uint64_t i)
{
    return (float)(rng_at(key, i) >> 40) * 0x1.0p-23f - 1.0f;
}

float *tiny_model_weight(const struct tiny_model *t, enum tensor_role role, uint32_t layer,
                         uint32_t *n_row, uint32_t *n_col)
{
    struct hparams hp = shape_of(t);
    if (!(roles(t) & ROLE(role)))
        return NULL;
    *n_col = (uint32_t)role_dim(&hp, role_table[role].n_col);
    *n_row = (uint32_t)role_dim(&hp, role_table[role].n_row);
    size_t n = (size_t)*n_row * *n_col;
    float *w = malloc(n * sizeof *w);
    bool bias = !strcmp(role_table[role].suffix, ".bias"), vec = role >= TR_MATRICES;
    uint64_t at = role_table[role].layered ? layer + 1 : 0;
    uint64_t key = rng_at(t->seed, at * TR_ROLES + (uint64_t)role);
    float scale = role == TR_TOKEN_EMBD || role == TR_POS_EMBD ? 0.5f : sqrtf(3.0f / (float)*n_col);
    for (size_t i = 0; w && i < n; i++) {
        if (vec && !bias) /* exact after subtracting 1, for gemma */
            w[i] = 1.0f + floorf(noise(key, i) * 64.0f) / 256.0f;
        else
            w[i] = noise(key, i) * (bias ? 0.125f : scale);
    }
    return w;
}

/* The printable character that stands for a byte in byte-level vocabularies, as UTF-8. */
static size_t byte_char(unsigned b, char out[4])
{
    unsigned cp = b;
    bool self = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    if (!self) {
        unsigned k = 0;
        for (unsigned i = 0; i < b; i++)
            k += !((i >= 0x21 && i <= 0x7E) || (i >= 0xA1 && i <= 0xAC) || i >= 0xAE);
        cp = 0x100 + k;
    }
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    out[0] = (char)(0xC0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 63));
    return 2;
}

struct vocab {
    struct buf text;
    struct str *tok;
    uint32_t n;
};

static void vocab_add(struct vocab *v, size_t n, const char *p)
{
    v->tok[v->n++] = (struct str){ p, n };
}

/* Token texts; the buffer is reserved first so that views stay valid. */
static bool vocab_make(const struct tiny_model *t, bool spm, struct vocab *v)
{
    *v = (struct vocab){ .tok = calloc(t->n_vocab, sizeof *v->tok) };
    if (!v->tok || !buf_room(&v->text, (size_t)t->n_vocab * 24))
        return false;
    static const char *const control[] = { "<unk>", "<s>", "</s>" };
    for (size_t i = 0; spm && i < 3; i++)
        vocab_add(v, strlen(control[i]), control[i]);
    for (unsigned b = 0; b < 256; b++) {
        size_t at = v->text.n;
        char c[4];
        if (spm)
            buf_printf(&v->text, "<0x%02X>", b);
        else
            buf_put(&v->text, c, byte_char(b, c));
        vocab_add(v, v->text.n - at, v->text.p + at);
    }
    if (!spm)
        vocab_add(v, 13, "<|endoftext|>");
    while (v->n < t->n_vocab) {
        size_t at = v->text.n;
        if (spm && v->n < 259 + 27)
            buf_printf(&v->text, v->n == 259 ? "\xE2\x96\x81" : "%c", (int)('a' + v->n - 260));
        else
            buf_printf(&v->text, "%sw%u", spm ? "\xE2\x96\x81" : "\xC4\xA0", v->n);
        vocab_add(v, v->text.n - at, v->text.p + at);
    }
    return true;
}

static void vocab_free(struct vocab *v)
{
    buf_clear(&v->text);
    free(v->tok);
}

static bool write_vocab(const struct tiny_model *t, struct gguf_writer *w)
{
    bool spm = is(t, "llama") || is(t, "phi3") || is(t, "gemma2") || is(t, "bamboo");
    struct vocab v;
    int32_t *type = calloc(t->n_vocab, sizeof *type);
    float *score = calloc(t->n_vocab, sizeof *score);
    bool ok = vocab_make(t, spm, &v) && type && score;
    for (uint32_t i = 0; ok && i < t->n_vocab; i++) {
        type[i] = spm && i == 0                          ? 2
                  : (spm && i < 3) || (!spm && i == 256) ? 3
                  : spm && i < 259                       ? 6
                                                         : 1;
        score[i] = i < 259 ? 0 : -(float)(i - 259);
    }
    if (ok) {
        gw_str(w, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
        gw_strs(w, "tokenizer.ggml.tokens", v.tok, v.n);
        gw_array(w, "tokenizer.ggml.token_type", GGUF_I32, type, v.n, 4 * (size_t)v.n);
        if (spm) {
            gw_array(w, "tokenizer.ggml.scores", GGUF_F32, score, v.n, 4 * (size_t)v.n);
            gw_u32(w, "tokenizer.ggml.unknown_token_id", 0);
        } else {
            gw_str(w, "tokenizer.ggml.pre", is(t, "qwen2") || is(t, "qwen3") ? "qwen2" : "gpt-2");
            gw_strs(w, "tokenizer.ggml.merges", &STR("a b"), 0);
        }
        gw_u32(w, "tokenizer.ggml.bos_token_id", spm ? 1 : 256);
        gw_u32(w, "tokenizer.ggml.eos_token_id", spm ? 2 : 256);
        if (t->chat_template)
            gw_str(w, "tokenizer.chat_template", t->chat_template);
    }
    vocab_free(&v);
    free(type);
    free(score);
    return ok;
}

static void meta_u32(struct gguf_writer *w, const struct tiny_model *t, const char *name,
                     uint32_t v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", t->arch, name);
    gw_u32(w, key, v);
}

static void write_meta(const struct tiny_model *t, struct gguf_writer *w)
{
    char key[96];
    bool rms = !is(t, "gpt2") && !is(t, "opt") && !is(t, "falcon");
    gw_str(w, "general.architecture", t->arch);
    gw_str(w, "general.name", "tiny");
    meta_u32(w, t, "context_length", t->n_ctx);
    meta_u32(w, t, "embedding_length", t->n_embd);
    meta_u32(w, t, "block_count", t->n_layer);
    meta_u32(w, t, "feed_forward_length", t->n_ff);
    meta_u32(w, t, "attention.head_count", t->n_head);
    meta_u32(w, t, "attention.head_count_kv", t->n_kv);
    if (t->d_head) {
        meta_u32(w, t, "attention.key_length", t->d_head);
        meta_u32(w, t, "attention.value_length", t->d_head);
    }
    if (t->window || is(t, "phi3"))
        meta_u32(w, t, "attention.sliding_window", t->window);
    snprintf(key, sizeof key, "%s.attention.layer_norm_%sepsilon", t->arch, rms ? "rms_" : "");
    gw_f32(w, key, 1e-5f);
    if (t->activation)
        gw_str(w, "strobe.activation", t->activation);
    if (t->norm_relu)
        gw_bool(w, "strobe.norm_relu", true);
}

static bool write_tensor(struct gguf_writer *w, const char *name, enum dtype type, const float *src,
                         uint32_t n_row, uint32_t n_col, bool vec)
{
    uint64_t ne[2] = { n_col, n_row };
    enum dtype use = vec ? DT_F32 : dtype_row_bytes(type, n_col) ? type : DT_F16;
    size_t n = (size_t)n_row * n_col, bytes = dtype_row_bytes(use, n_col) * n_row;
    void *data = malloc(bytes);
    if (!data || !src)
        return free(data), false;
    dtype_from_f32(use, src, data, n);
    gw_tensor(w, name, (uint32_t)use, vec ? 1 : 2, ne, data, bytes);
    free(data);
    return true;
}

/* phi3 keeps gate rows and up rows in one tensor. */
static float *join(float *a, float *b, size_t n)
{
    float *r = a && b ? malloc(2 * n * sizeof *r) : NULL;
    if (r) {
        memcpy(r, a, n * sizeof *r);
        memcpy(r + n, b, n * sizeof *r);
    }
    free(a);
    free(b);
    return r;
}

static bool gguf_role(const struct tiny_model *t, struct gguf_writer *w, enum tensor_role role,
                      uint32_t layer)
{
    char name[96];
    uint32_t n_row, n_col;
    if (is(t, "phi3") && role == TR_GATE)
        return true;
    float *v = tiny_model_weight(t, role, layer, &n_row, &n_col);
    if (is(t, "phi3") && role == TR_UP) {
        v = join(tiny_model_weight(t, TR_GATE, layer, &n_row, &n_col), v, (size_t)n_row * n_col);
        n_row *= 2;
    }
    if (role_table[role].layered)
        snprintf(name, sizeof name, "blk.%u.%s%s", layer, role_table[role].name,
                 role_table[role].suffix);
    else
        snprintf(name, sizeof name, "%s%s", role_table[role].name, role_table[role].suffix);
    bool ok = v && write_tensor(w, name, t->type, v, n_row, n_col, role >= TR_MATRICES);
    free(v);
    return ok;
}

bool tiny_model_gguf(const struct tiny_model *t, const char *path)
{
    struct gguf_writer w;
    gw_init(&w);
    write_meta(t, &w);
    bool ok = write_vocab(t, &w);
    for (uint32_t row = 0; ok && row <= t->n_layer; row++)
        for (unsigned r = 0; ok && r < TR_ROLES; r++)
            if ((roles(t) & ROLE(r)) && role_table[r].layered == (row > 0))
                ok = gguf_role(t, &w, (enum tensor_role)r, row - (row > 0));
    ok = ok && gw_save(&w, path);
    gw_clear(&w);
    return ok;
}

/* GGUF llama rows 2i, 2i+1 of a head are the folder's rows i, i + d/2. */
static void unpermute(float *dst, const float *src, uint32_t n_head, uint32_t d, uint32_t n_col)
{
    for (uint32_t h = 0; h < n_head; h++)
        for (uint32_t i = 0; i < d; i++) {
            uint32_t to = i % 2 ? i / 2 + d / 2 : i / 2;
            memcpy(dst + (size_t)(h * d + to) * n_col, src + (size_t)(h * d + i) * n_col,
                   n_col * sizeof *dst);
        }
}

/* All Q, all K, all V -> per key/value head: its queries, its key, its value. */
static void group_qkv(float *dst, const float *src, const struct tiny_model *t, uint32_t n_col)
{
    uint32_t d = head(t), per = t->n_head / t->n_kv;
    size_t row = (size_t)d * n_col;
    for (uint32_t g = 0; g < t->n_kv; g++) {
        memcpy(dst, src + g * per * row, per * row * sizeof *dst);
        dst += per * row;
        memcpy(dst, src + (t->n_head + g) * row, row * sizeof *dst);
        dst += row;
        memcpy(dst, src + (t->n_head + t->n_kv + g) * row, row * sizeof *dst);
        dst += row;
    }
}

static void transpose(float *dst, const float *src, uint32_t n_row, uint32_t n_col)
{
    for (uint32_t r = 0; r < n_row; r++)
        for (uint32_t c = 0; c < n_col; c++)
            dst[(size_t)c * n_row + r] = src[(size_t)r * n_col + c];
}

static void hf_transform(const struct tiny_model *t, enum tensor_role role, float *dst,
                         const float *src, uint32_t n_row, uint32_t n_col)
{
    size_t n = (size_t)n_row * n_col;
    memcpy(dst, src, n * sizeof *dst);
    if ((is(t, "llama") || is(t, "arcee")) && (role == TR_Q || role == TR_K))
        unpermute(dst, src, role == TR_Q ? t->n_head : t->n_kv, head(t), n_col);
    else if (is(t, "falcon") && role == TR_QKV)
        group_qkv(dst, src, t, n_col);
    else if (is(t, "gpt2") && (role == TR_QKV || role == TR_O || role == TR_UP || role == TR_DOWN))
        transpose(dst, src, n_row, n_col);
    else if (is(t, "gemma2") && role >= TR_MATRICES)
        for (size_t i = 0; i < n; i++)
            dst[i] = src[i] - 1.0f;
}

static void hf_name(const struct tiny_model *t, enum tensor_role role, uint32_t layer,
                    char out[160])
{
    struct hf_name hf = { .name = "" };
    const char *part;
    const struct arch *a = arch_find(str_c(t->arch));
    const char *prefix = arch_hf_prefixes(a, &part)[0];
    bool alt = is(t, "falcon") && t->norm2 && (role == TR_ATTN_NORM || role == TR_ATTN_NORM_B);
    arch_hf_name(a, role, alt ? 1 : 0, &hf);
    if (hf.name[0] == '/')
        snprintf(out, 160, "%s%s", hf.name + 1, role_table[role].suffix);
    else if (role_table[role].layered)
        snprintf(out, 160, "%s%s%u.%s%s", prefix, part, layer, hf.name, role_table[role].suffix);
    else
        snprintf(out, 160, "%s%s%s", prefix, hf.name, role_table[role].suffix);
}

static bool hf_role(const struct tiny_model *t, struct st_writer *w, enum tensor_role role,
                    uint32_t layer)
{
    char name[160];
    uint32_t n_row, n_col;
    if (is(t, "phi3") && role == TR_GATE)
        return true;
    float *src = tiny_model_weight(t, role, layer, &n_row, &n_col);
    if (is(t, "phi3") && role == TR_UP) {
        src =
            join(tiny_model_weight(t, TR_GATE, layer, &n_row, &n_col), src, (size_t)n_row * n_col);
        n_row *= 2;
    }
    size_t n = (size_t)n_row * n_col;
    float *dst = src ? malloc(n * sizeof *dst) : NULL;
    if (dst) {
        hf_transform(t, role, dst, src, n_row, n_col);
        hf_name(t, role, layer, name);
        bool flip = is(t, "gpt2") && role < TR_MATRICES && role_table[role].layered;
        uint64_t shape[2] = { flip ? n_col : n_row, flip ? n_row : n_col }, len = n_col;
        sw_tensor(w, name, "F32", role >= TR_MATRICES ? 1 : 2, role >= TR_MATRICES ? &len : shape,
                  dst, n * sizeof *dst);
    }
    bool ok = dst != NULL;
    free(src);
    free(dst);
    return ok;
}

static void hf_config(const struct tiny_model *t, struct buf *b)
{
    const char *act = t->activation                        ? t->activation
                      : is(t, "opt")                       ? "relu"
                      : is(t, "gpt2")                      ? "gelu_new"
                      : is(t, "arcee")                     ? "relu2"
                      : is(t, "gemma2") || is(t, "falcon") ? "gelu_pytorch_tanh"
                                                           : "silu";
    buf_printf(b, "{\"model_type\":\"%s\",\"vocab_size\":%u,\"tie_word_embeddings\":%s,", t->arch,
               t->n_vocab, t->output ? "false" : "true");
    if (is(t, "gpt2")) {
        buf_printf(b,
                   "\"n_embd\":%u,\"n_layer\":%u,\"n_head\":%u,\"n_inner\":%u,\"n_positions\":%u,"
                   "\"layer_norm_epsilon\":1e-5,\"activation_function\":\"%s\"}",
                   t->n_embd, t->n_layer, t->n_head, t->n_ff, t->n_ctx, act);
        return;
    }
    buf_printf(b,
               "\"hidden_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,"
               "\"max_position_embeddings\":%u,\"%s\":%u,\"%s\":\"%s\",",
               t->n_embd, t->n_layer, t->n_head, t->n_ctx,
               is(t, "opt")      ? "ffn_dim"
               : is(t, "falcon") ? "ffn_hidden_size"
                                 : "intermediate_size",
               t->n_ff,
               is(t, "opt")      ? "activation_function"
               : is(t, "falcon") ? "activation"
                                 : "hidden_act",
               act);
    if (is(t, "falcon"))
        buf_printf(b,
                   "\"multi_query\":%s,\"new_decoder_architecture\":%s,\"num_kv_heads\":%u,"
                   "\"layer_norm_epsilon\":1e-5,\"bias\":false,\"alibi\":false,"
                   "\"parallel_attn\":true}",
                   t->n_kv == 1 ? "true" : "false", t->norm2 ? "true" : "false", t->n_kv);
    else if (is(t, "opt"))
        buf_printf(b, "\"do_layer_norm_before\":true,\"word_embed_proj_dim\":%u}", t->n_embd);
    else {
        if (is(t, "gemma2"))
            buf_printf(b,
                       "\"attn_logit_softcapping\":50.0,\"final_logit_softcapping\":30.0,"
                       "\"query_pre_attn_scalar\":%u,",
                       head(t));
        if (t->window)
            buf_printf(b, "\"sliding_window\":%u,", t->window);
        buf_printf(b, "\"num_key_value_heads\":%u,\"head_dim\":%u,\"rms_norm_eps\":1e-5}", t->n_kv,
                   head(t));
    }
}

static void hf_tokenizer(const struct tiny_model *t, struct buf *b)
{
    struct vocab v;
    buf_z(
        b,
        "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":256,\"content\":\"<|endoftext|>\","
        "\"special\":true,\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":false}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
        "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
        "\"merges\":[],\"vocab\":{");
    if (vocab_make(t, false, &v))
        for (uint32_t i = 0; i < v.n; i++) {
            buf_printf(b, "%s\"", i ? "," : "");
            if (v.tok[i].n == 1 && (v.tok[i].p[0] == '"' || v.tok[i].p[0] == '\\'))
                buf_char(b, '\\');
            buf_str(b, v.tok[i]);
            buf_printf(b, "\":%u", i);
        }
    buf_z(b, "}}}");
    vocab_free(&v);
}

static bool save_in(const char *dir, const char *name, struct buf *b)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    bool ok = !b->failed && file_save(path, buf_view(b));
    buf_clear(b);
    return ok;
}

bool tiny_model_folder(const struct tiny_model *t, const char *dir)
{
    char path[4096];
    struct st_writer w;
    struct buf config = BUF_INIT, tokens = BUF_INIT, more = BUF_INIT;
    bool ok = true;
    sw_init(&w);
    for (uint32_t row = 0; ok && row <= t->n_layer; row++)
        for (unsigned r = 0; ok && r < TR_ROLES; r++)
            if ((roles(t) & ROLE(r)) && role_table[r].layered == (row > 0))
                ok = hf_role(t, &w, (enum tensor_role)r, row - (row > 0));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ok = ok && sw_save(&w, path);
    sw_clear(&w);
    hf_config(t, &config);
    hf_tokenizer(t, &tokens);
    buf_z(&more, "{\"eos_token\":\"<|endoftext|>\",\"add_bos_token\":false}");
    bool a = save_in(dir, "config.json", &config), c = save_in(dir, "tokenizer.json", &tokens);
    return save_in(dir, "tokenizer_config.json", &more) && a && c && ok;
}
