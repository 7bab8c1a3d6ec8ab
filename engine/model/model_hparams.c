/* engine/model/model_hparams.c - struct spec to struct hparams: defaults, derived numbers, range
 * checks, and how the activation is decided (model-formats.md 3, 4.1, 4.2, 6). Pure. */
#include "engine/base/num.h"
#include "engine/model/arch.h"
#include "engine/model/gguf_header.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static enum status need_f64(const char *what, double v, double min, double max, struct err *err)
{
    if (isnan(v))
        return err_set(err, ST_FORMAT, "%s is missing", what);
    if (!(v > min && v <= max))
        return err_set(err, ST_FORMAT, "%s is %g, allowed are values above %g up to %g", what, v,
                       min, max);
    return ST_OK;
}

static double or_else(double v, double other)
{
    return isnan(v) ? other : v;
}

static enum status need_i64(const char *what, int64_t v, int64_t max, struct err *err)
{
    if (v < 0)
        return err_set(err, ST_FORMAT, "%s is missing", what);
    if (v < 1 || v > max)
        return err_set(err, ST_FORMAT, "%s is %" PRId64 ", allowed are 1 to %" PRId64, what, v,
                       max);
    return ST_OK;
}

static enum status heads(const struct spec *s, struct hparams *hp, struct err *err)
{
    int64_t n_kv = s->n_kv < 0 ? s->n_head : s->n_kv;
    enum status st = need_i64("the number of heads", s->n_head, 1 << 14, err);
    if (!st)
        st = need_i64("the number of key/value heads", n_kv, 1 << 14, err);
    if (st)
        return st;
    if (n_kv > s->n_head || s->n_head % n_kv)
        return err_set(err, ST_FORMAT, "%" PRId64 " heads cannot share %" PRId64 " key/value heads",
                       s->n_head, n_kv);
    if ((s->d_k < 0 || s->d_v < 0) && s->n_embd % s->n_head)
        return err_set(err, ST_FORMAT,
                       "embedding_length %" PRId64 " is not divisible by %" PRId64
                       " heads, and the head size is not given",
                       s->n_embd, s->n_head);
    int64_t d_k = s->d_k < 0 ? s->n_embd / s->n_head : s->d_k;
    int64_t d_v = s->d_v < 0 ? s->n_embd / s->n_head : s->d_v;
    if (d_k < 1 || d_v < 1 || d_k > 4096 || d_v > 4096 || d_k % 2)
        return err_set(err, ST_FORMAT,
                       "head size %" PRId64 " (values %" PRId64 "): must be even and at most 4096",
                       d_k, d_v);
    hp->n_head = (uint32_t)s->n_head;
    hp->n_kv = (uint32_t)n_kv;
    hp->d_k = (uint32_t)d_k;
    hp->d_v = (uint32_t)d_v;
    return ST_OK;
}

static enum status sizes(struct spec *s, struct hparams *hp, struct err *err)
{
    const int64_t ctx_max = 1 << 24;
    enum status st = need_i64("the number of layers", s->n_layer, MODEL_LAYERS_MAX, err);
    if (!st)
        st = need_i64("embedding_length", s->n_embd, 1 << 20, err);
    if (!st)
        st = need_i64("feed_forward_length", s->n_ff, 1 << 20, err);
    if (!st)
        st = need_i64("context_length", s->n_ctx, UINT32_MAX, err);
    if (!st)
        st = heads(s, hp, err);
    if (st)
        return st;
    if (s->n_ctx > ctx_max) {
        spec_warn(s, "context_length %" PRId64 " is not plausible, %" PRId64 " is used", s->n_ctx,
                  ctx_max);
        s->n_ctx = ctx_max;
    }
    hp->n_layer = (uint32_t)s->n_layer;
    hp->n_embd = (uint32_t)s->n_embd;
    hp->n_ff = (uint32_t)s->n_ff;
    hp->n_ctx_train = (uint32_t)s->n_ctx;
    return ST_OK;
}

/* Ramp ends of YaRN in pair indices: c(n) = n_rot ln(orig / (2 pi n)) / (2 ln base). */
static void yarn(const struct spec *s, struct hparams *hp, double factor)
{
    double fast = or_else(s->yarn_fast, 32), slow = or_else(s->yarn_slow, 1);
    double unit = hp->n_rot / (2 * log((double)hp->rope_base)), pi2 = 6.283185307179586;
    double lo = floor(unit * log(hp->rope_ctx_orig / (pi2 * fast)));
    double hi = ceil(unit * log(hp->rope_ctx_orig / (pi2 * slow)));
    hp->rope_yarn_lo = (float)fmax(0, lo);
    hp->rope_yarn_hi = (float)fmin((double)hp->n_rot - 1, hi);
    /* A folder's attention_factor is the whole product; GGUF's attn_factor is not. */
    double more = 1 + 0.1 * log(factor);
    hp->rope_attn_factor = (float)(s->folder ? or_else(s->rope_attn_factor, more)
                                             : or_else(s->rope_attn_factor, 1) * more);
}

static enum status rope_scale(const struct spec *s, struct hparams *hp, struct err *err)
{
    double factor = or_else(s->rope_factor, 1);
    enum status st = need_f64("rope scaling factor", factor, 0, 1e6, err);
    if (!st && !isnan(s->rope_attn_factor))
        st = need_f64("rope attention factor", s->rope_attn_factor, 0, 1e3, err);
    if (!st && !isnan(s->yarn_fast))
        st = need_f64("YaRN beta_fast", s->yarn_fast, 0, 1e6, err);
    if (!st && !isnan(s->yarn_slow))
        st = need_f64("YaRN beta_slow", s->yarn_slow, 0, 1e6, err);
    if (st)
        return st;
    hp->rope_scaling = s->scaling;
    hp->rope_ctx_orig = s->rope_ctx_orig > 0 ? (uint32_t)s->rope_ctx_orig : hp->n_ctx_train;
    double ctx = hp->n_ctx_train, orig = hp->rope_ctx_orig, longer = 1;
    if (ctx > orig && orig > 1)
        longer = sqrt(1 + log(ctx / orig) / log(orig));
    switch (s->scaling) {
    case ROPE_SCALE_LINEAR:
        hp->rope_freq_scale = (float)(1 / factor);
        if (factor == 1)
            hp->rope_scaling = ROPE_SCALE_NONE;
        break;
    case ROPE_SCALE_YARN:
        hp->rope_freq_scale = (float)(1 / factor);
        yarn(s, hp, factor);
        break;
    case ROPE_SCALE_LONGROPE:
        hp->rope_attn_factor = (float)or_else(s->rope_attn_factor, longer);
        break;
    case ROPE_SCALE_LLAMA3:
    case ROPE_SCALE_NONE:
        break;
    }
    return ST_OK;
}

static enum status rope(const struct spec *s, struct hparams *hp, struct err *err)
{
    hp->rope = s->folder ? s->arch->rope_hf : s->arch->rope;
    hp->rope_freq_scale = hp->rope_attn_factor = 1;
    hp->rope_base = 10000;
    hp->rope_ctx_orig = hp->n_ctx_train;
    if (hp->rope == ROPE_NONE)
        return ST_OK;
    int64_t n_rot = s->n_rot < 0 ? hp->d_k : s->n_rot;
    if (n_rot < 2 || n_rot % 2 || n_rot > hp->d_k)
        return err_set(err, ST_FORMAT,
                       "rope dimension %" PRId64
                       ": must be even and at most the head size %" PRIu32,
                       n_rot, hp->d_k);
    if ((s->arch->flags & ARCH_FULL_ROT) && n_rot != hp->d_k)
        return err_set(err, ST_FORMAT,
                       "rope dimension %" PRId64 " must equal the head size %" PRIu32 " for '%s'",
                       n_rot, hp->d_k, s->arch->name);
    hp->n_rot = (uint32_t)n_rot;
    double base = or_else(s->rope_base, 10000);
    enum status st = need_f64("rope base", base, 1, 1e15, err);
    hp->rope_base = (float)base;
    return st ? st : rope_scale(s, hp, err);
}

static void window(const struct spec *s, struct hparams *hp)
{
    int64_t w = s->window;
    if (w < 0 && (s->arch->flags & ARCH_ALTERNATE))
        w = 4096;
    if (w < 0 && (s->arch->flags & ARCH_FUSED_GATE_UP) && hp->n_ctx_train == 4096)
        w = 2047; /* phi3 files from before the key existed */
    if (w <= 0 || w > UINT32_MAX)
        return;
    hp->window = (uint32_t)w;
    for (uint32_t il = 0; il < hp->n_layer; il++) {
        bool local = true;
        if (s->window_listed)
            local = s->window_layers[il / 64] >> (il % 64) & 1;
        else if (s->window_pattern > 0)
            local = (il + 1) % s->window_pattern != 0;
        else if (s->arch->flags & ARCH_ALTERNATE)
            local = il % 2 == 0;
        if (local)
            hp->window_layers[il / 64] |= UINT64_C(1) << (il % 64);
    }
}

static enum status attention(const struct spec *s, struct hparams *hp, struct err *err)
{
    bool gemma = s->arch->flags & ARCH_ALTERNATE;
    double unit = hp->d_k;
    if (gemma && hp->n_layer == 46) /* the 27B model */
        unit = (double)hp->n_embd / hp->n_head;
    double scale = or_else(s->attn_scale, 1 / sqrt(unit));
    double cap = or_else(s->attn_softcap, gemma && !s->folder ? 50 : 0);
    double final = or_else(s->final_softcap, gemma && !s->folder ? 30 : 0);
    enum status st = need_f64("attention scale", scale, 0, 1e3, err);
    if (st)
        return st;
    if (!(cap >= 0 && cap <= 1e6 && final >= 0 && final <= 1e6))
        return err_set(err, ST_FORMAT, "logit softcapping of %g and %g", cap, final);
    hp->attn_scale = (float)scale;
    hp->attn_softcap = (float)cap;
    hp->final_softcap = (float) final;
    window(s, hp);
    return ST_OK;
}

enum status spec_hparams(struct spec *s, struct hparams *hp, struct err *err)
{
    const struct arch *a = s->arch;
    *hp = (struct hparams){ .arch = a->name,
                            .norm = a->norm,
                            .norm_relu = s->norm_relu,
                            .duo = s->duo,
                            .block = a->block,
                            .gated = a->gated,
                            .pos_offset = a->pos_offset,
                            .embd_scale = 1 };
    enum status st = sizes(s, hp, err);
    if (st)
        return st;
    double eps = or_else(s->eps, a->norm_eps > 0 ? (double)a->norm_eps : (double)NAN);
    st = need_f64("the norm's epsilon", eps, 0, 0.1, err);
    hp->norm_eps = (float)eps;
    if (a->flags & ARCH_EMBD_SCALE)
        hp->embd_scale = sqrtf((float)hp->n_embd);
    if (!st)
        st = rope(s, hp, err);
    if (!st)
        st = attention(s, hp, err);
    return st ? st : spec_activation(s, hp, err);
}

/* Activations with a number: "fatrelu:0.25"; without one it is hidden_act_param. */
static bool parse_numbered(struct str text, struct hparams *hp)
{
    static const struct {
        const char *name;
        enum act_kind kind;
        double least;
    } names[] = { { "fatrelu", ACT_FATRELU, 0 },
                  { "shifted_relu", ACT_SHIFTED_RELU, -1e6 },
                  { "shifted_relu2", ACT_SHIFTED_RELU2, -1e6 } };
    struct err ignore = ERR_INIT;
    size_t colon = str_find(text, STR(":"), 0);
    struct str name = { text.p, colon == SIZE_MAX ? text.n : colon };
    double t = (double)hp->act_threshold;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!str_is(name, names[i].name))
            continue;
        struct str num = { text.p + name.n + 1, text.n - name.n - 1 };
        if (name.n < text.n && num_f64(num, "threshold", names[i].least, 1e6, &t, &ignore))
            return false;
        hp->act = names[i].kind;
        hp->act_threshold = (float)t;
        return true;
    }
    return false;
}

/* One spelling of an activation. `dual`: the up branch has it too (dReLU). */
static bool parse_act(struct str text, bool from_config, struct hparams *hp, bool *dual)
{
    static const struct {
        const char *name;
        enum act_kind kind;
        bool dual;
    } names[] = {
        { "silu", ACT_SILU, false },           { "swish", ACT_SILU, false },
        { "gelu_new", ACT_GELU_TANH, false },  { "gelu_pytorch_tanh", ACT_GELU_TANH, false },
        { "gelu_fast", ACT_GELU_TANH, false }, { "gelu_tanh", ACT_GELU_TANH, false },
        { "gelu_erf", ACT_GELU_ERF, false },   { "gelu_python", ACT_GELU_ERF, false },
        { "relu", ACT_RELU, false },           { "reglu", ACT_RELU, false },
        { "drelu", ACT_RELU, true },           { "relu2", ACT_RELU2, false },
        { "relu_squared", ACT_RELU2, false },
    };
    *dual = str_ends(text, STR(",relu"));
    text.n -= *dual ? 5 : 0;
    if (str_is(text, "gelu")) { /* transformers means the exact form, GGUF graphs the tanh one */
        hp->act = from_config ? ACT_GELU_ERF : ACT_GELU_TANH;
        return true;
    }
    if (parse_numbered(text, hp))
        return true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (str_is(text, names[i].name)) {
            hp->act = names[i].kind;
            *dual |= names[i].dual;
            return true;
        }
    return false;
}

const char *hparams_act_text(const struct hparams *hp, char out[ACT_TEXT_MAX])
{
    static const char *const word[] = {
        [ACT_SILU] = "silu",
        [ACT_GELU_TANH] = "gelu_tanh",
        [ACT_GELU_ERF] = "gelu_erf",
        [ACT_RELU] = "relu",
        [ACT_RELU2] = "relu2",
        [ACT_FATRELU] = "fatrelu:",
        [ACT_SHIFTED_RELU] = "shifted_relu:",
        [ACT_SHIFTED_RELU2] = "shifted_relu2:",
        [ACT_IDENTITY] = "identity",
    };
    char num[NUM_F32_MAX] = "";
    bool dual = hp->gated && hp->act_up == ACT_RELU, d = dual && hp->act == ACT_RELU;
    if (str_ends(str_c(word[hp->act]), STR(":")))
        num_f32_text(hp->act_threshold, num);
    snprintf(out, ACT_TEXT_MAX, "%s%s%s%s", d ? "d" : "", word[hp->act], num,
             dual && !d ? ",relu" : "");
    return out;
}

static enum status use_act(struct str text, enum act_origin origin, struct hparams *hp,
                           struct err *err)
{
    static const char *const where[] = { "override", "strobe.activation", "config.json hidden_act",
                                         "model name", "architecture" };
    bool dual;
    char show[GGUF_SHOW_MAX];
    enum status code = origin == ACT_FROM_OVERRIDE ? ST_ARG : ST_UNSUPPORTED;
    if (!parse_act(text, origin == ACT_FROM_CONFIG, hp, &dual))
        return err_set(err, code,
                       "activation '%s' (from the %s) is unknown; supported: silu, gelu, gelu_erf, "
                       "relu, drelu, relu2, fatrelu:T, shifted_relu:T, shifted_relu2:T, ACT,relu",
                       gguf_show(text, show), where[origin]);
    if (dual && !hp->gated)
        return err_set(err, code, "activation '%s' (from the %s) needs a gated model, '%s' is not",
                       gguf_show(text, show), where[origin], hp->arch);
    hp->act_up = dual ? ACT_RELU : ACT_IDENTITY;
    hp->act_origin = origin;
    return ST_OK;
}

static bool name_has(struct str name, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= name.n; i++)
        if (strncasecmp(name.p + i, part, n) == 0)
            return true;
    return false;
}

/* ReLU models whose files claim to be plain ones (model-formats.md 3). */
static const char *act_of_name(const struct spec *s)
{
    static const struct {
        const char *part, *act;
    } table[] = { { "relullama", "relu" },  { "relu-llama", "relu" },   { "prosparse", "relu" },
                  { "bamboo", "drelu" },    { "turbosparse", "drelu" }, { "turbo-sparse", "drelu" },
                  { "relufalcon", "relu" }, { "relu-falcon", "relu" } };
    bool llama = strcmp(s->arch->name, "llama") == 0, falcon = strcmp(s->arch->name, "falcon") == 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (name_has(s->name, table[i].part) && (i < 6 ? llama : falcon))
            return table[i].act;
    return NULL;
}

enum status spec_activation(struct spec *s, struct hparams *hp, struct err *err)
{
    hp->act = s->arch->act;
    hp->act_up = s->arch->act_up;
    hp->act_origin = ACT_FROM_ARCH;
    if (s->override)
        return use_act(str_c(s->override), ACT_FROM_OVERRIDE, hp, err);
    if (s->act_meta.n)
        return use_act(s->act_meta, ACT_FROM_METADATA, hp, err);
    if (!isnan(s->act_param) && !(s->act_param >= 0 && s->act_param <= 1e6))
        return err_set(err, ST_FORMAT, "hidden_act_param is %g", s->act_param);
    hp->act_threshold = isnan(s->act_param) ? 0 : (float)s->act_param;
    if (s->act_config.n)
        return use_act(s->act_config, ACT_FROM_CONFIG, hp, err);
    const char *act = act_of_name(s);
    if (!act)
        return ST_OK;
    spec_warn(s,
              "activation %s was guessed from the model's name: set it in the model's "
              "configuration to be sure",
              act);
    return use_act(str_c(act), ACT_FROM_NAME, hp, err);
}

bool hparams_exact_zeros(const struct hparams *hp)
{
    return hp->act == ACT_RELU || hp->act == ACT_FATRELU || hp->act == ACT_RELU2 ||
           hp->act == ACT_SHIFTED_RELU || hp->act == ACT_SHIFTED_RELU2;
}
