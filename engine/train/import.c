/* engine/train/import.c - a GGUF file as a network: see export.h. The loader of the engine opens
 * the file, so that names, shapes and types are checked; what a net_shape cannot say is refused. */
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/kernel/matrix.h"
#include "engine/model/model.h"
#include "engine/train/export.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK = 1 << 16 }; /* elements converted at a time, or one row */

/* ---- the shape ---- */

/* The number whose nearest float x is, as somebody would have written it. */
static double written(float x)
{
    char text[NUM_F32_MAX];
    double v = (double)x;
    struct err ignore = ERR_INIT;
    num_f64(str_c(num_f32_text(x, text)), "number", -1e39, 1e39, &v, &ignore);
    return v;
}

static bool known_arch(const char *arch)
{
    static const char *const known[] = { "llama", "bamboo", "arcee", "gpt2", "opt" };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(arch, known[i]) == 0)
            return true;
    return false;
}

static enum status refuse(const struct model *m, struct err *err)
{
    const struct hparams *hp = model_hparams(m);
    bool rope = hp->rope != ROPE_NONE;
    float scale = (float)(1 / sqrt((double)hp->d_k));
    const struct {
        bool is;
        const char *why;
    } rows[] = {
        { !model_gguf(m), "a folder; only GGUF files are read" },
        { !known_arch(hp->arch), "another architecture than llama, bamboo, arcee, gpt2, opt" },
        { model_bundle(m) != NULL, "a packed file; take the one it was packed from" },
        { hp->act == ACT_GELU_ERF, "the exact GELU; training knows its tanh form" },
        { hp->d_k != hp->d_v, "keys and values of different lengths" },
        { rope && (hp->rope_scaling != ROPE_SCALE_NONE || hp->n_rot != hp->d_k ||
                   model_find(m, TR_ROPE_FREQS, UINT32_MAX)),
          "scaled or partial RoPE" },
        { hp->window > 0, "attention within a window" },
        { hp->attn_softcap > 0 || hp->final_softcap > 0, "soft caps" },
        { fabsf(hp->attn_scale - scale) > 1e-6f * scale, "an attention scale of its own" },
        { model_find(m, TR_OUTPUT_B, UINT32_MAX) != NULL, "a bias of the output" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].is)
            return err_set(err, ST_UNSUPPORTED, "a network cannot be made of this model: %s",
                           rows[i].why);
    return ST_OK;
}

static enum net_act act_of(enum act_kind k)
{
    switch (k) {
    case ACT_GELU_TANH:
        return NET_GELU;
    case ACT_RELU:
    case ACT_SHIFTED_RELU:
        return NET_RELU;
    case ACT_RELU2:
    case ACT_SHIFTED_RELU2:
        return NET_RELU2;
    case ACT_FATRELU:
        return NET_FATRELU;
    default:
        return NET_SILU;
    }
}

static bool has_bias(const struct model *m)
{
    static const enum tensor_role role[] = { TR_Q_B,    TR_K_B,  TR_V_B,    TR_QKV_B,
                                             TR_GATE_B, TR_UP_B, TR_DOWN_B, TR_O_B };
    for (uint32_t l = 0; l < model_hparams(m)->n_layer; l++)
        for (size_t i = 0; i < sizeof role / sizeof role[0]; i++)
            if (model_find(m, role[i], l))
                return true;
    return false;
}

static enum status shape_of(const struct model *m, struct net_shape *s, struct err *err)
{
    const struct hparams *hp = model_hparams(m);
    bool shifted =
        hp->act == ACT_FATRELU || hp->act == ACT_SHIFTED_RELU || hp->act == ACT_SHIFTED_RELU2;
    if (refuse(m, err) != ST_OK)
        return err->code;
    *s = (struct net_shape){ .n_vocab = hp->n_vocab,
                             .n_ctx = hp->n_ctx_train,
                             .n_layer = hp->n_layer,
                             .d_model = hp->n_embd,
                             .n_head = hp->n_head,
                             .n_kv_head = hp->n_kv,
                             .d_head = hp->d_k,
                             .d_ff = hp->n_ff,
                             .norm = hp->norm == NORM_RMS ? NET_RMS : NET_LAYER,
                             .pos = hp->rope == ROPE_NONE ? NET_LEARNED : NET_ROPE,
                             .act = act_of(hp->act),
                             .gated = hp->gated,
                             .up_relu = hp->gated && hp->act_up == ACT_RELU,
                             .norm_relu = hp->norm_relu,
                             .tied = hp->tied,
                             .bias = has_bias(m),
                             .act_shift = shifted ? written(hp->act_threshold) : 0,
                             .norm_eps = written(hp->norm_eps),
                             .rope_theta = hp->rope == ROPE_NONE ? 0 : written(hp->rope_base),
                             .d_small = hp->duo.n_ff,
                             .skip_layer = hp->duo.n_ff && hp->duo.skip_layer };
    return net_shape_check(s, err);
}

/* ---- the parameters ---- */

/* Rows from.. of a tensor to out, as real. */
struct rows {
    const struct model *m;
    const struct tensor *t;
    uint32_t from, n;
    real *out;
};

static enum status convert(const struct rows *r, int fd, float *x, void *bytes, uint32_t most,
                           struct err *err)
{
    uint32_t cols = r->t->n_col;
    size_t row_bytes = dtype_row_bytes(r->t->type, cols);
    for (uint32_t done = 0, n; done < r->n; done += n) {
        n = r->n - done < most ? r->n - done : most;
        uint64_t offset = r->t->offset + (uint64_t)(r->from + done) * row_bytes;
        if (file_read_at(fd, bytes, n * row_bytes, offset, NULL, err) != ST_OK)
            return err->code;
        dtype_to_f32(r->t->type, bytes, x, (size_t)n * cols);
        for (size_t i = 0; i < (size_t)n * cols; i++)
            r->out[(size_t)done * cols + i] = (real)x[i];
    }
    return ST_OK;
}

static enum status read_rows(const struct rows *r, struct err *err)
{
    const char *path = model_file(r->m, r->t->file);
    uint32_t cols = r->t->n_col, most = cols < BLOCK ? BLOCK / cols : 1;
    float *x = malloc((size_t)most * cols * sizeof *x);
    void *bytes = malloc(most * dtype_row_bytes(r->t->type, cols));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err_sys(err, errno, "open");
    else if (!x || !bytes)
        err_set(err, ST_NOMEM, "some rows");
    else
        convert(r, fd, x, bytes, most, err);
    if (fd >= 0)
        close(fd);
    free(x);
    free(bytes);
    return err->code ? err_ctx(err, "'%s', tensor '%.*s'", path, (int)r->t->name.n, r->t->name.p)
                     : ST_OK;
}

/* Where a parameter tensor lies in a model. fused: the one that holds Q, K and V. */
static const struct home {
    const char *name;
    enum tensor_role role, fused;
} homes[] = {
    { "token_embd.weight", TR_TOKEN_EMBD, TR_ROLES },
    { "position_embd.weight", TR_POS_EMBD, TR_ROLES },
    { "output_norm.weight", TR_OUTPUT_NORM, TR_ROLES },
    { "output_norm.bias", TR_OUTPUT_NORM_B, TR_ROLES },
    { "output.weight", TR_OUTPUT, TR_ROLES },
    { "attn_norm.weight", TR_ATTN_NORM, TR_ROLES },
    { "attn_norm.bias", TR_ATTN_NORM_B, TR_ROLES },
    { "attn_q.weight", TR_Q, TR_QKV },
    { "attn_k.weight", TR_K, TR_QKV },
    { "attn_v.weight", TR_V, TR_QKV },
    { "attn_q.bias", TR_Q_B, TR_QKV_B },
    { "attn_k.bias", TR_K_B, TR_QKV_B },
    { "attn_v.bias", TR_V_B, TR_QKV_B },
    { "attn_output.weight", TR_O, TR_ROLES },
    { "attn_output.bias", TR_O_B, TR_ROLES },
    { "ffn_norm.weight", TR_FFN_NORM, TR_ROLES },
    { "ffn_norm.bias", TR_FFN_NORM_B, TR_ROLES },
    { "ffn_gate.weight", TR_GATE, TR_ROLES },
    { "ffn_gate.bias", TR_GATE_B, TR_ROLES },
    { "ffn_up.weight", TR_UP, TR_ROLES },
    { "ffn_up.bias", TR_UP_B, TR_ROLES },
    { "ffn_down.weight", TR_DOWN, TR_ROLES },
    { "ffn_down.bias", TR_DOWN_B, TR_ROLES },
    { "ffn_gate_small.weight", TR_GATE_SMALL, TR_ROLES },
    { "ffn_up_small.weight", TR_UP_SMALL, TR_ROLES },
    { "ffn_down_small.weight", TR_DOWN_SMALL, TR_ROLES },
};

static const struct home *home_of(const struct net_tensor *t)
{
    const char *name = t->name;
    if (t->layer >= 0)
        name = strchr(name + 4, '.') + 1; /* behind "blk.N." */
    for (size_t i = 0; i < sizeof homes / sizeof homes[0]; i++)
        if (strcmp(homes[i].name, name) == 0)
            return &homes[i];
    return NULL;
}

/* First row (or, of a bias, element) of Q, K or V in a fused tensor. */
static uint32_t fused_from(const struct hparams *hp, enum tensor_role role)
{
    uint32_t q = hp->n_head * hp->d_k, k = hp->n_kv * hp->d_k;
    return role == TR_K || role == TR_K_B ? q : role == TR_V || role == TR_V_B ? q + k : 0;
}

/* A piece of a fused bias: the whole vector is read, it is small. */
static enum status read_part(struct rows *r, uint32_t from, uint32_t n, struct err *err)
{
    real *out = r->out, *all = malloc((size_t)r->t->n_col * sizeof *all);
    if (!all)
        return err_set(err, ST_NOMEM, "biases");
    r->out = all;
    if (read_rows(r, err) == ST_OK)
        memcpy(out, all + from, n * sizeof *out);
    free(all);
    return err->code;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the rows are written there */
static enum status read_param(const struct model *m, const struct net_tensor *p, real *params,
                              struct err *err)
{
    const struct home *h = home_of(p);
    if (!h)
        return err_set(err, ST_UNSUPPORTED, "parameters '%s' have no place in a model", p->name);
    uint32_t layer = p->layer < 0 ? UINT32_MAX : (uint32_t)p->layer;
    const struct hparams *hp = model_hparams(m);
    const struct tensor *t = model_find(m, h->role, layer);
    struct rows r = { .m = m, .t = t, .n = p->rows, .out = params + p->at };
    if (!t && h->fused != TR_ROLES) {
        r.t = model_find(m, h->fused, layer);
        r.from = fused_from(hp, h->role);
    }
    if (!r.t) /* only biases may be missing: the loader saw to it */
        return ST_OK;
    if (h->role == TR_POS_EMBD)
        r.from = hp->pos_offset;
    if (!t && h->fused == TR_QKV_B) {
        uint32_t from = r.from;
        r.from = 0;
        return read_part(&r, from, p->cols, err);
    }
    return read_rows(&r, err);
}

static enum status read_all(const struct model *m, const struct net_shape *s, real *params,
                            struct err *err)
{
    uint32_t n = net_n_tensor(s);
    struct net_tensor *t = calloc(n, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "tensor table");
    net_tensors(s, t);
    for (uint32_t i = 0; i < n && err->code == ST_OK; i++)
        read_param(m, &t[i], params, err);
    free(t);
    return err->code;
}

enum status import_gguf(const char *path, struct net_shape *shape, real **params, struct err *err)
{
    struct model *m = NULL;
    struct net_shape s;
    real *p = NULL;
    if (model_open(path, NULL, &m, err) != ST_OK)
        return err->code;
    if (shape_of(m, &s, err) != ST_OK)
        goto fail;
    size_t bytes;
    p = num_mul(net_n_param(&s), sizeof *p, &bytes) ? calloc(1, bytes) : NULL;
    if (!p) {
        err_set(err, ST_NOMEM, "%llu parameters", (unsigned long long)net_n_param(&s));
        goto fail;
    }
    if (read_all(m, &s, p, err) != ST_OK)
        goto fail;
    model_close(m);
    *shape = s;
    *params = p;
    return ST_OK;
fail:
    free(p);
    model_close(m);
    return err_ctx(err, "'%s'", path);
}

/* ---- routers ---- */

static enum status read_router(const struct model *m, enum tensor_role role, size_t each, real *out,
                               struct err *err)
{
    for (uint32_t l = 0; out && l < model_hparams(m)->n_layer && err->code == ST_OK; l++) {
        const struct tensor *t = model_find(m, role, l);
        read_rows(&(struct rows){ .m = m, .t = t, .n = t->n_row, .out = out + l * each }, err);
    }
    return err->code;
}

static enum status router_of(const struct model *m, struct export_router *r, struct err *err)
{
    const struct hparams *hp = model_hparams(m);
    size_t n = hp->n_layer, hidden = hp->duo.n_hidden, choice = hp->duo.n_choice;
    size_t in = hidden ? hidden : hp->n_embd;
    if (!hp->duo.n_ff)
        return err_set(err, ST_UNSUPPORTED, "this is no Duo model");
    if (!choice)
        return err_set(err, ST_UNSUPPORTED,
                       "this Duo model has no router: strobe duo router trains one");
    r->hp = hp->duo;
    if (hidden) {
        r->in = malloc(n * hidden * hp->n_embd * sizeof *r->in);
        r->in_bias = malloc(n * hidden * sizeof *r->in_bias);
    }
    r->w = malloc(n * choice * in * sizeof *r->w);
    r->bias = malloc(n * choice * sizeof *r->bias);
    if (!r->w || !r->bias || (hidden && (!r->in || !r->in_bias)))
        return err_set(err, ST_NOMEM, "router");
    if (read_router(m, TR_ROUTER_IN, hidden * hp->n_embd, r->in, err) == ST_OK &&
        read_router(m, TR_ROUTER_IN_B, hidden, r->in_bias, err) == ST_OK &&
        read_router(m, TR_ROUTER, choice * in, r->w, err) == ST_OK)
        read_router(m, TR_ROUTER_B, choice, r->bias, err);
    return err->code;
}

enum status import_router(const char *path, struct export_router *ret, struct err *err)
{
    struct model *m = NULL;
    struct export_router r = { .in = NULL };
    if (model_open(path, NULL, &m, err) != ST_OK)
        return err->code;
    if (router_of(m, &r, err) == ST_OK)
        *ret = r;
    else
        export_router_clear(&r);
    model_close(m);
    return err->code ? err_ctx(err, "'%s'", path) : ST_OK;
}
