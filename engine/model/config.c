/* engine/model/config.c - see config.h. */
#include "engine/model/config.h"

#include "engine/model/gguf_header.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

enum status config_read(const char *dir, json_t **ret, struct err *err)
{
    char path[4096];
    struct stat sb;
    snprintf(path, sizeof path, "%s/config.json", dir);
    if (stat(path, &sb) != 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", path);
    }
    if (!S_ISREG(sb.st_mode) || sb.st_size > CONFIG_BYTES_MAX)
        return err_set(err, ST_FORMAT, "'%s': not a regular file of at most %d bytes", path,
                       CONFIG_BYTES_MAX);
    size_t cap = (size_t)sb.st_size;
    char *text = malloc(cap + 1);
    FILE *f = text ? fopen(path, "rbe") : NULL;
    size_t n = f ? fread(text, 1, cap, f) : 0;
    enum status st;
    if (!text)
        st = err_set(err, ST_NOMEM, "'%s'", path);
    else if (!f || ferror(f))
        st = err_sys(err, errno, "read");
    else
        st = json_parse_unique((struct str){ text, n }, "config.json", ret, err);
    if (f)
        fclose(f);
    free(text);
    return st ? err_ctx(err, "'%s'", path) : ST_OK;
}

/* The first of several spellings that is present. */
static enum status get_i64(const json_t *doc, const char *const *names, int64_t max, int64_t *ret,
                           struct err *err)
{
    for (; *names; names++) {
        const json_t *v = json_object_get(doc, *names);
        if (v && !json_is_null(v))
            return json_get_i64(doc, *names, true, 0, max, ret, err);
    }
    return ST_OK;
}

static enum status get_f64(const json_t *doc, const char *const *names, double *ret,
                           struct err *err)
{
    for (; *names; names++) {
        const json_t *v = json_object_get(doc, *names);
        if (v && !json_is_null(v))
            return json_get_f64(doc, *names, true, -1e30, 1e30, ret, err);
    }
    return ST_OK;
}

#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static enum status get_sizes(const json_t *doc, struct spec *s, struct err *err)
{
    const struct {
        const char *const *names;
        int64_t *to;
    } rows[] = {
        { NAMES("num_hidden_layers", "n_layer"), &s->n_layer },
        { NAMES("hidden_size", "n_embd"), &s->n_embd },
        { NAMES("max_position_embeddings", "n_ctx", "n_positions"), &s->n_ctx },
        { NAMES("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"), &s->n_ff },
        { NAMES("num_attention_heads", "n_head"), &s->n_head },
        { NAMES("num_key_value_heads", "num_kv_heads", "n_head_kv"), &s->n_kv },
        { NAMES("head_dim"), &s->d_k },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum status st = get_i64(doc, rows[i].names, UINT32_MAX, rows[i].to, err);
        if (st)
            return st;
    }
    s->d_v = s->d_k;
    if (s->n_ff < 0 && s->n_embd > 0)
        s->n_ff = 4 * s->n_embd;
    if (s->n_ctx < 0)
        s->n_ctx = 2048; /* falcon does not say */
    return get_f64(doc, NAMES("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"), &s->eps,
                   err);
}

static enum status get_factors(const json_t *scaling, const char *key, float **ret, uint32_t *n,
                               struct err *err)
{
    const json_t *a = json_object_get(scaling, key);
    size_t len = json_array_size(a);
    if (len == 0 || len > 1 << 15)
        return err_set(err, ST_FORMAT, "rope_scaling.%s must be an array of numbers", key);
    float *f = calloc(len, sizeof *f);
    if (!f)
        return err_set(err, ST_NOMEM, "rope_scaling.%s", key);
    *ret = f;
    *n = (uint32_t)len;
    for (size_t i = 0; i < len; i++) {
        double v = json_number_value(json_array_get(a, i));
        if (!(v > 0 && v < 1e6))
            return err_set(err, ST_FORMAT, "rope_scaling.%s holds a value that is not a factor",
                           key);
        f[i] = (float)v;
    }
    return ST_OK;
}

static enum status get_scaling(const json_t *sc, struct spec *s, struct err *err)
{
    static const struct {
        const char *name;
        enum rope_scaling value;
    } kinds[] = { { "default", ROPE_SCALE_NONE },  { "linear", ROPE_SCALE_LINEAR },
                  { "llama3", ROPE_SCALE_LLAMA3 }, { "longrope", ROPE_SCALE_LONGROPE },
                  { "su", ROPE_SCALE_LONGROPE },   { "yarn", ROPE_SCALE_YARN } };
    struct str type = STR("default");
    char show[GGUF_SHOW_MAX];
    enum status st = json_get_str(sc, "type", false, &type, err);
    if (!st)
        st = json_get_str(sc, "rope_type", false, &type, err);
    if (!st)
        st = get_f64(sc, NAMES("factor"), &s->rope_factor, err);
    if (!st)
        st = get_f64(sc, NAMES("attention_factor"), &s->rope_attn_factor, err);
    if (!st)
        st = get_f64(sc, NAMES("beta_fast"), &s->yarn_fast, err);
    if (!st)
        st = get_f64(sc, NAMES("beta_slow"), &s->yarn_slow, err);
    if (!st)
        st = get_f64(sc, NAMES("low_freq_factor"), &s->llama3_low, err);
    if (!st)
        st = get_f64(sc, NAMES("high_freq_factor"), &s->llama3_high, err);
    if (!st)
        st = get_f64(sc, NAMES("rope_theta"), &s->rope_base, err);
    if (!st)
        st = get_i64(sc, NAMES("original_max_position_embeddings"), UINT32_MAX, &s->rope_ctx_orig,
                     err);
    if (st)
        return st;
    size_t i = 0, n = sizeof kinds / sizeof kinds[0];
    while (i < n && !str_is(type, kinds[i].name))
        i++;
    if (i == n)
        return err_set(
            err, ST_UNSUPPORTED,
            "rope_scaling type '%s' (supported: default, linear, llama3, longrope, yarn)",
            gguf_show(type, show));
    s->scaling = kinds[i].value;
    if (s->scaling != ROPE_SCALE_LONGROPE)
        return ST_OK;
    st = get_factors(sc, "long_factor", &s->rope_long, &s->n_rope_long, err);
    return st ? st : get_factors(sc, "short_factor", &s->rope_short, &s->n_rope_short, err);
}

static enum status get_rope(const json_t *doc, struct spec *s, struct err *err)
{
    double part = (double)NAN;
    enum status st = get_f64(doc, NAMES("rope_theta"), &s->rope_base, err);
    if (!st)
        st = get_i64(doc, NAMES("original_max_position_embeddings"), UINT32_MAX, &s->rope_ctx_orig,
                     err);
    const json_t *sc = json_object_get(doc, "rope_parameters"); /* newer files nest all of it */
    if (!json_is_object(sc))
        sc = json_object_get(doc, "rope_scaling");
    if (!st && sc && !json_is_null(sc) && !json_is_object(sc))
        st = err_set(err, ST_FORMAT, "'rope_scaling' must be an object");
    if (!st)
        st = get_f64(doc, NAMES("partial_rotary_factor"), &part, err);
    if (!st && json_is_object(sc)) {
        st = get_scaling(sc, s, err);
        if (!st)
            st = get_f64(sc, NAMES("partial_rotary_factor"), &part, err);
    }
    if (st || isnan(part))
        return st;
    if (!(part > 0 && part <= 1))
        return err_set(err, ST_FORMAT, "partial_rotary_factor is %g", part);
    int64_t d = s->d_k > 0 ? s->d_k : s->n_head > 0 ? s->n_embd / s->n_head : 0;
    s->n_rot = (int64_t)((double)d * part);
    return ST_OK;
}

static enum status get_window(const json_t *doc, struct spec *s, struct err *err)
{
    bool use = true;
    int64_t first = 0;
    s->window = 0; /* null means none: no default applies */
    enum status st = get_i64(doc, NAMES("sliding_window"), UINT32_MAX, &s->window, err);
    if (!st)
        st = json_get_bool(doc, "use_sliding_window", false, &use, err);
    bool qwen = json_object_get(doc, "use_sliding_window") != NULL;
    if (!st && qwen && use)
        st = get_i64(doc, NAMES("max_window_layers"), MODEL_LAYERS_MAX, &first, err);
    if (st)
        return st;
    if (!use)
        s->window = 0;
    const json_t *kinds = json_object_get(doc, "layer_types");
    size_t n = json_array_size(kinds);
    if (n > 0 && n != (size_t)s->n_layer)
        return err_set(err, ST_FORMAT, "layer_types has %zu entries for %" PRId64 " layers", n,
                       s->n_layer);
    s->window_listed = n > 0 || (qwen && use);
    for (size_t i = 0; s->window_listed && i < (size_t)s->n_layer && i < MODEL_LAYERS_MAX; i++) {
        const char *kind = n ? json_string_value(json_array_get(kinds, i)) : NULL;
        if (n && (!kind ||
                  (strcmp(kind, "full_attention") != 0 && strcmp(kind, "sliding_attention") != 0)))
            return err_set(err, ST_UNSUPPORTED, "layer_types: '%.40s' is not supported",
                           kind ? kind : "(not a string)");
        if (n ? strcmp(kind, "sliding_attention") == 0 : (int64_t)i >= first)
            s->window_layers[i / 64] |= UINT64_C(1) << (i % 64);
    }
    return ST_OK;
}

static bool is_true(const json_t *doc, const char *key)
{
    return json_is_true(json_object_get(doc, key));
}

static bool is_false(const json_t *doc, const char *key)
{
    return json_is_false(json_object_get(doc, key));
}

/* Variants of supported families that the shared blocks would compute wrongly. */
static enum status refuse_variants(const json_t *doc, const struct spec *s, struct err *err)
{
    int64_t experts = 0, proj = s->n_embd;
    enum status st = get_i64(doc, NAMES("num_local_experts", "num_experts", "n_routed_experts"),
                             1 << 20, &experts, err);
    if (!st)
        st = get_i64(doc, NAMES("word_embed_proj_dim"), 1 << 20, &proj, err);
    if (st)
        return st;
    const char *why = NULL;
    if (experts > 0)
        why = "a mixture of experts";
    else if (is_false(doc, "do_layer_norm_before") || proj != s->n_embd)
        why = "OPT with post-norm or embedding projections (the 350M variant)";
    else if (is_false(doc, "enable_bias") || is_false(doc, "layer_norm_elementwise_affine"))
        why = "OPT without biases (Galactica)";
    else if (is_true(doc, "alibi"))
        why = "ALiBi positions";
    else if (is_false(doc, "parallel_attn"))
        why = "falcon with sequential blocks";
    else if (strcmp(s->arch->name, "falcon") == 0 && is_true(doc, "bias"))
        why = "falcon with biases";
    else if (is_true(doc, "add_cross_attention") || is_true(doc, "scale_attn_by_inverse_layer_idx"))
        why = "gpt2 with cross attention or layer-wise attention scales";
    else if (json_is_object(json_object_get(doc, "quantization_config")))
        why = "a pre-quantised folder (quantization_config)";
    return why ? err_set(err, ST_UNSUPPORTED, "%s: not supported", why) : ST_OK;
}

static enum status get_rest(const json_t *doc, struct spec *s, struct err *err)
{
    double q = (double)NAN;
    bool tied = false;
    enum status st = get_f64(doc, NAMES("attn_logit_softcapping"), &s->attn_softcap, err);
    if (!st)
        st = get_f64(doc, NAMES("final_logit_softcapping"), &s->final_softcap, err);
    if (!st)
        st = get_f64(doc, NAMES("query_pre_attn_scalar"), &q, err);
    if (!st && !isnan(q) && q > 0)
        s->attn_scale = 1 / sqrt(q);
    if (!st)
        st = get_f64(doc, NAMES("hidden_act_param"), &s->act_param, err);
    static const char *const acts[] = { "activation", "activation_function", "hidden_act",
                                        "hidden_activation" };
    for (size_t i = 0; !st && i < sizeof acts / sizeof acts[0]; i++)
        st = json_get_str(doc, acts[i], false, &s->act_config, err);
    if (!st)
        st = json_get_bool(doc, "tie_word_embeddings", false, &tied, err);
    if (!st && json_is_boolean(json_object_get(doc, "tie_word_embeddings")))
        s->tied = tied;
    if (!st && s->tied < 0 && (s->arch->flags & ARCH_TIED))
        s->tied = 1;
    return st;
}

enum status spec_from_config(const json_t *doc, struct spec *s, struct err *err)
{
    struct str type = { NULL, 0 };
    s->folder = true;
    enum status st = json_get_str(doc, "model_type", true, &type, err);
    if (st)
        return st;
    s->arch = arch_find_hf(type);
    if (!s->arch)
        return arch_refuse(type, err);
    st = get_sizes(doc, s, err);
    bool multi = false, wide = is_true(doc, "new_decoder_architecture");
    if (!st)
        st = json_get_bool(doc, "multi_query", false, &multi, err);
    /* Falcon's first form: one key/value head when multi_query, else one per query head. */
    if (!st && strcmp(s->arch->name, "falcon") == 0 && !wide) {
        s->n_kv = multi ? 1 : s->n_head;
    }
    if (!st)
        st = refuse_variants(doc, s, err);
    if (!st)
        st = get_rope(doc, s, err);
    if (!st)
        st = get_window(doc, s, err);
    if (!st)
        st = get_rest(doc, s, err);
    return st;
}
