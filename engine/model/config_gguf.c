/* engine/model/config_gguf.c - GGUF metadata to struct spec (model-formats.md 4.1). Owns key names,
 * types and ranges; refuses experts and values that differ from layer to layer. Pure. */
#include "engine/base/num.h"
#include "engine/model/arch.h"
#include "engine/model/duo.h"
#include "engine/model/gguf_header.h"

#include <inttypes.h>

struct keys {
    const struct gguf *g;
    const char *arch;
    char key[96];
};

static const char *key(struct keys *k, const char *name)
{
    snprintf(k->key, sizeof k->key, "%s.%s", k->arch, name);
    return k->key;
}

/* A scalar, or an array with one equal entry per layer. */
static enum status get_layered(struct keys *k, const char *name, int64_t n_layer, bool must,
                               int64_t *ret, struct err *err)
{
    const int64_t max = 1 << 20;
    const struct gguf_kv *kv = gguf_find(k->g, key(k, name));
    if (!kv || kv->type != GGUF_ARRAY)
        return gguf_get_i64(k->g, k->key, must, 1, max, ret, err);
    if (!gguf_is_int(kv->elem))
        return err_set(err, ST_FORMAT, "key '%s' must hold integers", k->key);
    if (kv->n != (uint64_t)n_layer)
        return err_set(err, ST_FORMAT, "key '%s' has %" PRIu64 " entries for %" PRId64 " layers",
                       k->key, kv->n, n_layer);
    int64_t first = gguf_arr_i64(kv, 0);
    for (uint64_t i = 1; i < kv->n; i++)
        if (gguf_arr_i64(kv, i) != first)
            return err_set(err, ST_UNSUPPORTED,
                           "key '%s' differs between layers (%" PRId64 " and %" PRId64
                           "): models with layers of different shapes are not supported",
                           k->key, first, gguf_arr_i64(kv, i));
    if (first < 1 || first > max)
        return err_set(err, ST_FORMAT, "key '%s' is %" PRId64 ", allowed are 1 to %" PRId64, k->key,
                       first, max);
    *ret = first;
    return ST_OK;
}

static enum status get_sizes(struct keys *k, struct spec *s, struct err *err)
{
    int64_t expert = 0;
    enum status st =
        gguf_get_i64(k->g, key(k, "block_count"), true, 1, MODEL_LAYERS_MAX, &s->n_layer, err);
    if (!st)
        st = gguf_get_i64(k->g, key(k, "expert_count"), false, 0, 1 << 16, &expert, err);
    if (!st && expert > 0)
        st = err_set(err, ST_UNSUPPORTED,
                     "a mixture of %" PRId64
                     " experts ('%s'): experts are not supported, only dense "
                     "models",
                     expert, k->key);
    if (!st)
        st = gguf_get_i64(k->g, key(k, "embedding_length"), true, 1, 1 << 20, &s->n_embd, err);
    if (!st)
        st = gguf_get_i64(k->g, key(k, "context_length"), true, 1, UINT32_MAX, &s->n_ctx, err);
    if (!st)
        st = get_layered(k, "feed_forward_length", s->n_layer, true, &s->n_ff, err);
    if (!st)
        st = get_layered(k, "attention.head_count", s->n_layer, true, &s->n_head, err);
    if (!st)
        st = get_layered(k, "attention.head_count_kv", s->n_layer, false, &s->n_kv, err);
    if (!st)
        st = gguf_get_i64(k->g, key(k, "attention.key_length"), false, 1, 1 << 16, &s->d_k, err);
    if (!st)
        st = gguf_get_i64(k->g, key(k, "attention.value_length"), false, 1, 1 << 16, &s->d_v, err);
    return st;
}

static enum status get_scaling(struct keys *k, struct spec *s, struct err *err)
{
    static const struct {
        const char *name;
        enum rope_scaling value;
    } kinds[] = { { "none", ROPE_SCALE_NONE },     { "linear", ROPE_SCALE_LINEAR },
                  { "llama3", ROPE_SCALE_LLAMA3 }, { "longrope", ROPE_SCALE_LONGROPE },
                  { "su", ROPE_SCALE_LONGROPE },   { "yarn", ROPE_SCALE_YARN } };
    struct str type = { NULL, 0 };
    char show[GGUF_SHOW_MAX];
    enum status st = gguf_get_str(k->g, key(k, "rope.scaling.type"), false, &type, err);
    if (st)
        return st;
    s->scaling = type.n ? ROPE_SCALE_NONE : ROPE_SCALE_LINEAR; /* absent: linear, often factor 1 */
    size_t i = 0, n = sizeof kinds / sizeof kinds[0];
    while (type.n && i < n && !str_is(type, kinds[i].name))
        i++;
    if (i == n)
        return err_set(err, ST_UNSUPPORTED,
                       "rope.scaling.type '%s' (supported: none, linear, llama3, longrope, yarn)",
                       gguf_show(type, show));
    if (type.n)
        s->scaling = kinds[i].value;
    return gguf_get_i64(k->g, key(k, "rope.scaling.original_context_length"), false, 1, UINT32_MAX,
                        &s->rope_ctx_orig, err);
}

static enum status get_floats(struct keys *k, struct spec *s, struct err *err)
{
    const struct {
        const char *name;
        double *to;
    } rows[] = {
        { s->arch->norm == NORM_RMS ? "attention.layer_norm_rms_epsilon"
                                    : "attention.layer_norm_epsilon",
          &s->eps },
        { "attention.scale", &s->attn_scale },
        { "attn_logit_softcapping", &s->attn_softcap },
        { "final_logit_softcapping", &s->final_softcap },
        { "rope.freq_base", &s->rope_base },
        { "rope.scale_linear", &s->rope_factor },
        { "rope.scaling.factor", &s->rope_factor },
        { "rope.scaling.attn_factor", &s->rope_attn_factor },
        { "rope.scaling.yarn_beta_fast", &s->yarn_fast },
        { "rope.scaling.yarn_beta_slow", &s->yarn_slow },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum status st = gguf_get_f64(k->g, key(k, rows[i].name), false, rows[i].to, err);
        if (st)
            return st;
    }
    return ST_OK;
}

static enum status get_window(struct keys *k, struct spec *s, struct err *err)
{
    enum status st = gguf_get_i64(k->g, key(k, "attention.sliding_window"), false, 0, UINT32_MAX,
                                  &s->window, err);
    if (st)
        return st;
    const struct gguf_kv *kv = gguf_find(k->g, key(k, "attention.sliding_window_pattern"));
    if (!kv)
        return ST_OK;
    if (kv->type != GGUF_ARRAY)
        return gguf_get_i64(k->g, k->key, false, 1, MODEL_LAYERS_MAX, &s->window_pattern, err);
    if ((kv->elem != GGUF_BOOL && !gguf_is_int(kv->elem)) || kv->n != (uint64_t)s->n_layer)
        return err_set(err, ST_FORMAT, "key '%s' must hold one bool for each of %" PRId64 " layers",
                       k->key, s->n_layer);
    s->window_listed = true;
    for (uint64_t i = 0; i < kv->n; i++)
        if (gguf_arr_i64(kv, i))
            s->window_layers[i / 64] |= UINT64_C(1) << (i % 64);
    return ST_OK;
}

enum status spec_from_gguf(const struct gguf *g, struct spec *s, struct err *err)
{
    struct str arch, type = STR("model");
    char show[GGUF_SHOW_MAX];
    enum status st = gguf_get_str(g, "general.type", false, &type, err);
    if (!st && !str_is(type, "model"))
        st = err_set(err, ST_UNSUPPORTED, "general.type is '%s': this is not a model by itself",
                     gguf_show(type, show));
    if (!st)
        st = gguf_get_str(g, "general.architecture", true, &arch, err);
    if (st)
        return st;
    s->arch = arch_find(arch);
    if (!s->arch)
        return arch_refuse(arch, err);
    struct keys k = { .g = g, .arch = s->arch->name };
    st = get_sizes(&k, s, err);
    if (!st)
        st = gguf_get_i64(g, key(&k, "rope.dimension_count"), false, 1, 1 << 16, &s->n_rot, err);
    if (!st)
        st = get_floats(&k, s, err);
    if (!st)
        st = get_scaling(&k, s, err);
    if (!st)
        st = get_window(&k, s, err);
    if (!st)
        st = gguf_get_str(g, "strobe.activation", false, &s->act_meta, err);
    if (!st)
        st = gguf_get_bool(g, "strobe.norm_relu", &s->norm_relu, err);
    if (!st)
        st = duo_from_gguf(g, &s->duo, err);
    if (!st)
        st = gguf_get_str(g, "general.name", false, &s->name, err);
    return st;
}
