/* engine/model/model.c - see model.h. Opens either container, lets config_gguf.c or config.c say
 * what the model is, model_hparams.c check it, and model_bind.c find the weights. */
#include "engine/model/model.h"

#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/model/config.h"
#include "engine/model/model_bind.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

struct model {
    struct gguf *g;
    struct safetensors *st;
    json_t *doc;
    struct spec spec;
    struct hparams hp;
    struct binding bind;
    float *rope_freqs; /* computed from rope_scaling of a folder */
    uint64_t bytes, n_param;
    char *dir, *name;
    char quant[16], hash[65];
};

/* Llama-3 factors (model-formats.md 6): 1 for short wavelengths, factor for long ones. */
static enum status llama3_factors(struct model *m, struct err *err)
{
    const struct spec *s = &m->spec;
    double low = isnan(s->llama3_low) ? 1 : s->llama3_low;
    double high = isnan(s->llama3_high) ? 4 : s->llama3_high;
    double factor = isnan(s->rope_factor) ? 8 : s->rope_factor, orig = m->hp.rope_ctx_orig;
    uint32_t n = m->hp.n_rot / 2;
    if (!(low > 0 && high > low && high < 1e6))
        return err_set(err, ST_FORMAT, "rope_scaling: low_freq_factor %g and high_freq_factor %g",
                       low, high);
    m->rope_freqs = calloc(n, sizeof *m->rope_freqs);
    if (!m->rope_freqs)
        return err_set(err, ST_NOMEM, "rope factors");
    for (uint32_t i = 0; i < n; i++) {
        double wave = 6.283185307179586 * pow((double)m->hp.rope_base, 2.0 * i / m->hp.n_rot);
        double mix = (orig / wave - low) / (high - low), f = 1 / ((1 - mix) / factor + mix);
        if (wave < orig / high)
            f = 1;
        else if (wave > orig / low)
            f = factor;
        m->rope_freqs[i] = (float)f;
    }
    return ST_OK;
}

static enum status finish_rope(struct model *m, struct err *err)
{
    struct hparams *hp = &m->hp;
    const int32_t *at = m->bind.at;
    if (m->g) {
        if (at[TR_ROPE_FREQS] >= 0 && hp->rope_scaling == ROPE_SCALE_NONE)
            hp->rope_scaling = ROPE_SCALE_LLAMA3;
        if (hp->rope_scaling == ROPE_SCALE_LONGROPE && at[TR_ROPE_LONG] < 0)
            return err_set(err, ST_FORMAT,
                           "tensor 'rope_factors_long.weight' is missing for longrope");
        if (at[TR_ROPE_LONG] >= 0 && hp->rope_scaling == ROPE_SCALE_NONE)
            hp->rope_scaling = ROPE_SCALE_LONGROPE; /* older files carry the tensors only */
        if (hp->rope_scaling == ROPE_SCALE_LONGROPE && isnan(m->spec.rope_attn_factor) &&
            hp->n_ctx_train > hp->rope_ctx_orig && hp->rope_ctx_orig > 1)
            hp->rope_attn_factor =
                (float)sqrt(1 + log((double)hp->n_ctx_train / hp->rope_ctx_orig) /
                                    log((double)hp->rope_ctx_orig));
        return ST_OK;
    }
    if (hp->rope_scaling == ROPE_SCALE_LLAMA3)
        return llama3_factors(m, err);
    if (hp->rope_scaling == ROPE_SCALE_LONGROPE &&
        (m->spec.n_rope_long != hp->n_rot / 2 || m->spec.n_rope_short != hp->n_rot / 2))
        return err_set(err, ST_FORMAT,
                       "rope_scaling: %" PRIu32 " and %" PRIu32 " factors, expected %" PRIu32,
                       m->spec.n_rope_long, m->spec.n_rope_short, hp->n_rot / 2);
    return ST_OK;
}

static void hash_str(struct sha256 *h, struct str s)
{
    uint64_t n = s.n;
    sha256_add(h, &n, sizeof n);
    sha256_add(h, s.p ? s.p : "", s.n);
}

/* Identity: everything that decides what the bytes of the files mean. */
static enum status hash_model(struct model *m, struct err *err)
{
    struct sha256 h;
    sha256_init(&h);
    for (uint64_t i = 0; m->g && i < gguf_n_kv(m->g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(m->g, i);
        uint32_t type[2] = { kv->type, kv->elem };
        size_t size = kv->elem == GGUF_STRING                        ? 0
                      : kv->elem <= GGUF_I8 || kv->elem == GGUF_BOOL ? 1
                      : kv->elem <= GGUF_I16                         ? 2
                      : kv->elem <= GGUF_F32                         ? 4
                                                                     : 8;
        hash_str(&h, kv->key);
        sha256_add(&h, type, sizeof type);
        if (kv->text)
            for (uint64_t k = 0; k < kv->n; k++)
                hash_str(&h, kv->text[k]);
        else
            hash_str(&h, (struct str){ kv->raw, (size_t)kv->n * size });
    }
    struct buf text = BUF_INIT;
    if (m->doc && json_write(m->doc, &text, err) != ST_OK) {
        buf_clear(&text);
        return err->code;
    }
    hash_str(&h, buf_view(&text));
    buf_clear(&text);
    for (uint32_t i = 0; i < m->bind.n_tensor; i++) {
        const struct tensor *t = &m->bind.tensor[i];
        uint64_t v[] = { t->role,  t->layer, t->type,   t->n_row,
                         t->n_col, t->file,  t->offset, t->bytes };
        hash_str(&h, t->name);
        sha256_add(&h, v, sizeof v);
    }
    for (uint32_t l = 0; m->bind.packed && l < m->bind.bundle.n_layer; l++)
        sha256_add(&h, &m->bind.bundle.home[l].offset, sizeof m->bind.bundle.home[l].offset);
    sha256_hex(&h, m->hash);
    return ST_OK;
}

static void add_up(struct model *m)
{
    uint64_t by_type[DT_ID_MAX] = { 0 };
    size_t best = 0;
    for (uint32_t i = 0; i < m->bind.n_tensor; i++) {
        const struct tensor *t = &m->bind.tensor[i];
        m->bytes += t->bytes;
        if (!role_of_mask(t->role) && t->role != TR_FFN_RATE)
            m->n_param += (uint64_t)t->n_row * t->n_col;
        by_type[t->type] += t->bytes;
    }
    if (m->bind.packed) {
        const struct bundle *b = &m->bind.bundle;
        uint64_t cells = (uint64_t)b->n_layer * b->n_neuron;
        uint32_t rows = bundle_has_first(b) + b->gated + 1u;
        m->bytes += cells * b->stride;
        m->n_param += cells * rows * m->hp.n_embd;
        by_type[b->row_type] += cells * b->row_bytes * rows;
    }
    for (size_t i = 1; i < DT_ID_MAX; i++)
        if (by_type[i] > by_type[best])
            best = i;
    snprintf(m->quant, sizeof m->quant, "%s", dtype_info((uint32_t)best)->name);
}

/* The path's last part, without ".gguf". */
static struct str stem(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    struct str s = { path + begin, end - begin };
    if (str_ends(s, STR(".gguf")))
        s.n -= 5;
    return s;
}

static enum status name_model(struct model *m, const char *path, struct err *err)
{
    /* The file's name joins the heuristics: converters often leave general.name generic. */
    struct str own = m->spec.name.n ? m->spec.name : stem(path);
    m->name = str_dup(own);
    return m->name ? ST_OK : err_set(err, ST_NOMEM, "model name");
}

static enum status open_gguf(struct model *m, const char *path, struct err *err)
{
    enum status st = gguf_open(path, &m->g, err);
    if (st)
        return st;
    st = spec_from_gguf(m->g, &m->spec, err);
    if (!st && gguf_n_tensor(m->g) == 0)
        st = err_set(err, ST_FORMAT, "no tensors: a vocabulary-only file cannot be served");
    return st ? err_ctx(err, "'%s'", path) : ST_OK;
}

static enum status open_folder(struct model *m, const char *path, struct err *err)
{
    m->dir = str_dup(str_c(path));
    if (!m->dir)
        return err_set(err, ST_NOMEM, "'%s': path", path);
    enum status st = config_read(path, &m->doc, err);
    if (st)
        return st;
    st = spec_from_config(m->doc, &m->spec, err);
    if (st)
        return err_ctx(err, "'%s/config.json'", path);
    return safetensors_open(path, &m->st, err);
}

static enum status build(struct model *m, const char *path, struct err *err)
{
    enum status st = name_model(m, path, err);
    if (st)
        return st;
    struct str shown = m->spec.name;
    struct buf both = BUF_INIT; /* heuristics look at the name and at the path's stem */
    buf_str(&both, shown);
    buf_char(&both, '\n');
    buf_str(&both, stem(path));
    m->spec.name = buf_view(&both);
    st = buf_ok(&both, "model name", err);
    if (!st)
        st = spec_hparams(&m->spec, &m->hp, err);
    m->spec.name = shown;
    buf_clear(&both);
    m->bind.g = m->g;
    m->bind.st = m->st;
    m->bind.spec = &m->spec;
    m->bind.hp = &m->hp;
    if (!st)
        st = bind_tensors(&m->bind, err);
    if (!st)
        st = finish_rope(m, err);
    if (!st)
        st = hash_model(m, err);
    if (!st)
        add_up(m);
    return st ? err_ctx(err, "'%s'", path) : ST_OK;
}

enum status model_open(const char *path, const struct model_opts *opts, struct model **ret,
                       struct err *err)
{
    struct stat sb;
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ST_NOMEM, "'%s': model", path);
    spec_init(&m->spec);
    m->spec.override = opts ? opts->activation : NULL;
    bool folder = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
    enum status st = folder ? open_folder(m, path, err) : open_gguf(m, path, err);
    if (!st)
        st = build(m, path, err);
    if (st)
        model_close(m);
    else
        *ret = m;
    return st;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    gguf_close(m->g);
    safetensors_close(m->st);
    json_free(m->doc);
    spec_clear(&m->spec);
    free(m->bind.tensor);
    free(m->bind.at);
    bundle_clear(&m->bind.bundle);
    free(m->rope_freqs);
    free(m->dir);
    free(m->name);
    free(m);
}

const struct hparams *model_hparams(const struct model *m)
{
    return &m->hp;
}

uint32_t model_n_tensor(const struct model *m)
{
    return m->bind.n_tensor;
}

const struct tensor *model_tensor(const struct model *m, uint32_t i)
{
    return &m->bind.tensor[i];
}

const struct tensor *model_find(const struct model *m, enum tensor_role role, uint32_t layer)
{
    size_t row = layer == UINT32_MAX ? 0 : (size_t)layer + 1;
    if (row > m->hp.n_layer || (unsigned)role >= TR_ROLES || role_table[role].layered != (row > 0))
        return NULL;
    int32_t i = m->bind.at[row * TR_ROLES + role];
    return i < 0 ? NULL : &m->bind.tensor[i];
}

const float *model_rope_factors(const struct model *m, enum tensor_role role, uint32_t *n)
{
    const float *f = NULL;
    if (role == TR_ROPE_FREQS)
        f = m->rope_freqs;
    else if (role == TR_ROPE_LONG)
        f = m->spec.rope_long;
    else if (role == TR_ROPE_SHORT)
        f = m->spec.rope_short;
    *n = f ? m->hp.n_rot / 2 : 0;
    return f;
}

uint32_t model_n_file(const struct model *m)
{
    return m->g ? gguf_n_file(m->g) : safetensors_n_file(m->st);
}

const char *model_file(const struct model *m, uint32_t file)
{
    return m->g ? gguf_path(m->g, file) : safetensors_path(m->st, file);
}

uint64_t model_bytes(const struct model *m)
{
    return m->bytes;
}

uint64_t model_n_param(const struct model *m)
{
    return m->n_param;
}

const struct gguf *model_gguf(const struct model *m)
{
    return m->g;
}

const char *model_dir(const struct model *m)
{
    return m->dir;
}

const struct bundle *model_bundle(const struct model *m)
{
    return m->bind.packed ? &m->bind.bundle : NULL;
}

const char *model_name(const struct model *m)
{
    return m->name;
}

const char *model_quant(const struct model *m)
{
    return m->quant;
}

const char *tensor_role_name(enum tensor_role role)
{
    return (unsigned)role < TR_ROLES && role_table[role].name ? role_table[role].name : "unknown";
}

const char *act_origin_text(enum act_origin o)
{
    static const char *const text[] = { "override", "metadata", "config.json",
                                        "model name (a guess)", "architecture default" };
    return text[o];
}

const char *model_hash(const struct model *m)
{
    return m->hash;
}

const char *model_warning(const struct model *m)
{
    return m->spec.warning;
}
