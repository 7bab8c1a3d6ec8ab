/* engine/model/model_bind.c - see model_bind.h. Every tensor of the graph passes one function that
 * compares name, shape and type, so that nothing behind it meets a surprise. */
#include "engine/model/model_bind.h"

#include "engine/base/num.h"
#include "engine/model/gguf_header.h"

#include <inttypes.h>
#include <stdlib.h>

enum { NAME_CAP = 256 };

static const struct gguf_tensor *src_find(const struct binding *b, const char *name)
{
    return b->g ? gguf_tensor_find(b->g, name) : safetensors_find(b->st, name);
}

static uint64_t src_n(const struct binding *b)
{
    return b->g ? gguf_n_tensor(b->g) : safetensors_n_tensor(b->st);
}

static const struct gguf_tensor *src_at(const struct binding *b, uint64_t i)
{
    return b->g ? gguf_tensor_at(b->g, i) : safetensors_at(b->st, i);
}

/* The folder's prefix: the first under which the embedding is found. */
static const char *prefix_of(const struct binding *b, const char **layer)
{
    const char *const *p = arch_hf_prefixes(b->spec->arch, layer);
    char name[NAME_CAP];
    struct hf_name hf;
    for (const char *const *q = p; *q; q++) {
        arch_hf_name(b->spec->arch, TR_TOKEN_EMBD, 0, &hf);
        snprintf(name, sizeof name, "%s%s.weight", *q, hf.name);
        if (src_find(b, name))
            return *q;
    }
    return p[0];
}

static void hf_full_name(const struct binding *b, const char *base, enum tensor_role role,
                         uint32_t layer, char out[NAME_CAP])
{
    const char *part, *prefix = prefix_of(b, &part), *suffix = role_table[role].suffix;
    if (base[0] == '/')
        snprintf(out, NAME_CAP, "%s%s", base + 1, suffix);
    else if (role_table[role].layered)
        snprintf(out, NAME_CAP, "%s%s%" PRIu32 ".%s%s", prefix, part, layer, base, suffix);
    else
        snprintf(out, NAME_CAP, "%s%s%s", prefix, base, suffix);
}

/* Finds a role's tensor; `name` is left with the name that was expected. */
static const struct gguf_tensor *locate(const struct binding *b, enum tensor_role role,
                                        uint32_t layer, char name[NAME_CAP], enum tensor_fix *fix)
{
    const struct gguf_tensor *t = NULL;
    *fix = FIX_NONE;
    if (b->g) {
        const char *stem = role_table[role].name;
        if (role == TR_GATE && (b->spec->arch->flags & ARCH_FUSED_GATE_UP))
            stem = role_table[TR_UP].name;
        if (role_table[role].layered)
            snprintf(name, NAME_CAP, "blk.%" PRIu32 ".%s%s", layer, stem, role_table[role].suffix);
        else
            snprintf(name, NAME_CAP, "%s%s", stem, role_table[role].suffix);
        return src_find(b, name);
    }
    struct hf_name hf;
    char first[NAME_CAP] = "";
    for (unsigned alt = 0; !t && arch_hf_name(b->spec->arch, role, alt, &hf); alt++) {
        hf_full_name(b, hf.name, role, layer, name);
        if (alt == 0)
            memcpy(first, name, NAME_CAP);
        t = src_find(b, name);
        *fix = hf.fix;
    }
    if (!t)
        memcpy(name, first, NAME_CAP);
    return t;
}

static enum status shape_error(const struct gguf_tensor *t, uint64_t col, uint64_t row, bool vec,
                               struct err *err)
{
    char want[48], got[112], show[GGUF_SHOW_MAX];
    size_t n = 0;
    if (vec)
        snprintf(want, sizeof want, "{%" PRIu64 "}", col);
    else
        snprintf(want, sizeof want, "{%" PRIu64 ", %" PRIu64 "}", col, row);
    for (uint32_t d = 0; d < 4 && d < t->n_dim; d++)
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%" PRIu64, d ? ", " : "{", t->ne[d]);
    return err_set(err, ST_FORMAT, "tensor '%s': expected shape %s, found %s}",
                   gguf_show(t->name, show), want, got);
}

/* Logical shape {col, row} against the file's. */
static enum status check_shape(const struct gguf_tensor *t, uint64_t col, uint64_t row, bool vec,
                               struct err *err)
{
    bool ok = t->ne[0] == col && t->ne[1] == row && t->ne[2] == 1 && t->ne[3] == 1;
    if (!ok || col > UINT32_MAX || row > UINT32_MAX)
        return shape_error(t, col, row, vec, err);
    return ST_OK;
}

static enum status check_type(const struct gguf_tensor *t, bool vec, struct err *err)
{
    const struct dtype_info *info = dtype_info((uint32_t)t->type);
    char show[GGUF_SHOW_MAX];
    if (vec && info && !dtype_is_plain(t->type))
        return err_set(err, ST_UNSUPPORTED,
                       "tensor '%s': type %s, but a vector must be F32, F16 or BF16",
                       gguf_show(t->name, show), safetensors_type_name(t->type));
    if (!info || !info->supported)
        return err_set(
            err, ST_UNSUPPORTED,
            "tensor '%s': type %s is not supported; supported: F32, F16, BF16, Q4_0, Q4_1, "
            "Q5_0, Q5_1, Q8_0, Q2_K to Q6_K",
            gguf_show(t->name, show), safetensors_type_name(t->type));
    return ST_OK;
}

static void add(struct binding *b, const struct gguf_tensor *t, enum tensor_role role,
                uint32_t layer, enum tensor_fix fix)
{
    bool flip = fix == FIX_TRANSPOSE;
    struct tensor *to = &b->tensor[b->n_tensor];
    *to = (struct tensor){ .name = t->name,
                           .role = role,
                           .layer = role_table[role].layered ? layer : UINT32_MAX,
                           .type = t->type,
                           .n_col = (uint32_t)t->ne[flip ? 1 : 0],
                           .n_row = (uint32_t)t->ne[flip ? 0 : 1],
                           .file = t->file,
                           .offset = t->offset,
                           .bytes = t->bytes,
                           .fix = fix };
    if ((b->spec->arch->flags & ARCH_FUSED_GATE_UP) && (role == TR_GATE || role == TR_UP)) {
        to->n_row /= 2; /* two views of one tensor */
        to->bytes /= 2;
        to->offset += role == TR_UP ? to->bytes : 0;
    }
    size_t row = role_table[role].layered ? (size_t)layer + 1 : 0;
    b->at[row * TR_ROLES + role] = (int32_t)b->n_tensor++;
}

static enum status missing(const struct binding *b, enum tensor_role role, uint32_t layer,
                           const char *name, struct err *err)
{
    char t[NAME_CAP];
    snprintf(t, sizeof t, "blk.%" PRIu32 ".ffn_down_t.weight", layer);
    if (b->g && role == TR_DOWN && src_find(b, t))
        return err_set(
            err, ST_UNSUPPORTED,
            "tensor '%s': PowerInfer's transposed form is not supported, use a plain GGUF of "
            "the model",
            t);
    return err_set(err, ST_FORMAT, "tensor '%s' is missing", name);
}

/* Some lengths are whatever the file has. */
static uint64_t wanted(const struct binding *b, uint8_t dim, uint64_t found)
{
    return dim == DIM_CTX || dim == DIM_RANK ? found : role_dim(b->hp, (enum dim)dim);
}

static enum status bind_role(struct binding *b, enum tensor_role role, uint32_t layer, bool must,
                             struct err *err)
{
    char name[NAME_CAP];
    enum tensor_fix fix;
    const struct gguf_tensor *t = locate(b, role, layer, name, &fix);
    if (!t)
        return must ? missing(b, role, layer, name, err) : ST_OK;
    bool vec = role >= TR_MATRICES;
    uint64_t col = wanted(b, role_table[role].n_col, t->ne[0]);
    uint64_t row = wanted(b, role_table[role].n_row, t->ne[1]);
    if ((b->spec->arch->flags & ARCH_FUSED_GATE_UP) && (role == TR_GATE || role == TR_UP))
        row *= 2;
    enum status st = fix == FIX_TRANSPOSE ? check_shape(t, row, col, vec, err)
                                          : check_shape(t, col, row, vec, err);
    if (!st)
        st = check_type(t, vec, err);
    if (!st && role == TR_SKETCH && t->type != bundle_sketch_type(&b->bundle))
        st = err_set(err, ST_FORMAT, "tensor '%s': the sketch must be %s", name,
                     dtype_info((uint32_t)bundle_sketch_type(&b->bundle))->name);
    if (!st)
        add(b, t, role, layer, fix);
    return st;
}

/* The embedding's rows are the vocabulary; a token list may be shorter, never longer. */
static enum status bind_vocab(struct binding *b, struct err *err)
{
    char name[NAME_CAP];
    enum tensor_fix fix;
    const struct gguf_tensor *t = locate(b, TR_TOKEN_EMBD, 0, name, &fix);
    if (!t)
        return missing(b, TR_TOKEN_EMBD, 0, name, err);
    if (t->ne[1] < 1 || t->ne[1] > 1 << 24)
        return err_set(err, ST_FORMAT, "tensor '%s': %" PRIu64 " rows cannot be a vocabulary", name,
                       t->ne[1]);
    b->hp->n_vocab = (uint32_t)t->ne[1];
    const struct gguf_kv *list = b->g ? gguf_find(b->g, "tokenizer.ggml.tokens") : NULL;
    if (list && list->n > t->ne[1])
        return err_set(err, ST_FORMAT,
                       "tensor '%s': expected shape {%" PRIu32 ", %" PRIu64
                       "} for the token list, found "
                       "{%" PRIu64 ", %" PRIu64 "}",
                       name, b->hp->n_embd, list->n, t->ne[0], t->ne[1]);
    return ST_OK;
}

/* A position table shorter than the announced context bounds it. */
static enum status bind_context(struct binding *b, struct err *err)
{
    int32_t i = b->at[TR_POS_EMBD];
    if (i < 0)
        return ST_OK;
    uint32_t rows = b->tensor[i].n_row, off = b->hp->pos_offset;
    if (rows <= off)
        return err_set(err, ST_FORMAT, "tensor 'position_embd.weight' has only %" PRIu32 " rows",
                       rows);
    if (b->hp->n_ctx_train > rows - off) {
        spec_warn(b->spec,
                  "context_length %" PRIu32 " is more than the position table has, %" PRIu32
                  " is used",
                  b->hp->n_ctx_train, rows - off);
        b->hp->n_ctx_train = rows - off;
    }
    return ST_OK;
}

/* "blk.N." with a layer the model does not have. */
static bool layer_outside(struct str name, uint32_t n_layer)
{
    struct err ignore = ERR_INIT;
    uint64_t n = 0;
    if (!str_starts(name, STR("blk.")))
        return false;
    size_t dot = str_find(name, STR("."), 4);
    if (dot == SIZE_MAX)
        return false;
    struct str num = { name.p + 4, dot - 4 };
    return num_u64(num, "layer", 0, UINT64_MAX, &n, &ignore) == ST_OK && n >= n_layer;
}

/* Tensors that no role took: layers beyond the count are an error, others a warning. */
static enum status check_rest(struct binding *b, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    uint64_t n = src_n(b), n_extra = 0, first = 0;
    bool *used = calloc((size_t)n + 1, sizeof *used);
    if (!used)
        return err_set(err, ST_NOMEM, "tensor list");
    const struct gguf_tensor *base = n ? src_at(b, 0) : NULL;
    for (uint32_t i = 0; i < b->n_tensor; i++) {
        char name[NAME_CAP];
        struct str s = b->tensor[i].name;
        snprintf(name, sizeof name, "%.*s", (int)s.n, s.p);
        const struct gguf_tensor *t = src_find(b, name);
        if (t)
            used[t - base] = true;
    }
    for (uint64_t i = 0; i < n && !err->code; i++) {
        struct str name = base[i].name;
        bool known = str_ends(name, STR("rotary_emb.inv_freq")) ||
                     str_ends(name, STR("attn.bias")) || str_ends(name, STR("attn.masked_bias")) ||
                     str_is(name, "lm_head.weight");
        bool ours = str_ends(name, STR(".ffn_bundle.weight")) ||
                    str_ends(name, STR(".ffn_order.weight")) || str_is(name, "strobe.checksums");
        if (used[i] || (known && !b->g) || (ours && b->packed))
            continue;
        if (b->g && layer_outside(name, b->hp->n_layer))
            err_set(err, ST_FORMAT,
                    "tensor '%s' lies outside the %" PRIu32 " layers of block_count",
                    gguf_show(name, show), b->hp->n_layer);
        if (n_extra++ == 0)
            first = i;
    }
    if (n_extra)
        spec_warn(b->spec, "%" PRIu64 " tensors are not used, the first is '%s'", n_extra,
                  gguf_show(base[first].name, show));
    free(used);
    return err->code;
}

/* One of a pair without the other would be a silent error. */
static enum status check_pairs(const struct binding *b, struct err *err)
{
    static const uint8_t pairs[][2] = { { TR_Q_B, TR_K_B },
                                        { TR_Q_B, TR_V_B },
                                        { TR_ATTN_NORM2, TR_ATTN_NORM2_B },
                                        { TR_ROPE_LONG, TR_ROPE_SHORT } };
    for (size_t row = 0; row <= b->hp->n_layer; row++)
        for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
            if ((b->at[row * TR_ROLES + pairs[i][0]] < 0) !=
                (b->at[row * TR_ROLES + pairs[i][1]] < 0))
                return err_set(err, ST_FORMAT, "layer %zu has only one of %s%s and %s%s",
                               row ? row - 1 : 0, role_table[pairs[i][0]].name,
                               role_table[pairs[i][0]].suffix, role_table[pairs[i][1]].name,
                               role_table[pairs[i][1]].suffix);
    return ST_OK;
}

/* The two factors of each layer's predictor go together, through no more than n_embd numbers. */
static enum status check_ranks(const struct binding *b, struct err *err)
{
    bool has = b->packed && b->bundle.mask == BUNDLE_LOWRANK;
    for (size_t row = 1; has && row <= b->hp->n_layer; row++) {
        const struct tensor *one = &b->tensor[b->at[row * TR_ROLES + TR_PRED_A]],
                            *two = &b->tensor[b->at[row * TR_ROLES + TR_PRED_B]];
        if (one->n_row == 0 || one->n_row > b->hp->n_embd || one->n_row != two->n_col)
            return err_set(err, ST_FORMAT,
                           "layer %zu: a predictor of ranks %" PRIu32 " and %" PRIu32
                           ": they must be the same, 1 to %" PRIu32,
                           row - 1, one->n_row, two->n_col, b->hp->n_embd);
    }
    return ST_OK;
}

/* What a packed file has in place of the feed-forward matrices. */
static void packed_roles(const struct binding *b, uint64_t *must, uint64_t *may)
{
    enum tensor_role first = b->hp->gated ? TR_GATE : TR_UP;
    *must &= ~(ROLE(TR_GATE) | ROLE(TR_UP) | ROLE(TR_DOWN));
    if (b->bundle.mask == BUNDLE_LOWRANK)
        *must |= ROLE(TR_PRED_A) | ROLE(TR_PRED_B) | ROLE(TR_PRED_BIAS);
    else
        *must |= bundle_has_sketch(&b->bundle)
                     ? ROLE(TR_SKETCH) | ROLE(TR_SKETCH_NORM) | ROLE(TR_SKETCH_ERR)
                     : ROLE(first);
    *may |= ROLE(TR_FFN_RATE);
}

/* What a Duo model has beside the feed-forward matrices. */
static enum status duo_roles(const struct binding *b, uint64_t *must, struct err *err)
{
    const struct hparams *hp = b->hp;
    if (b->packed || hp->block != BLOCK_SEQUENTIAL || hp->norm != NORM_RMS ||
        !(*must & ROLE(TR_UP)))
        return err_set(err, ST_UNSUPPORTED,
                       "strobe.duo: a Duo model of architecture '%s'%s; llama and arcee are known",
                       hp->arch, b->packed ? ", packed" : "");
    if (hp->duo.n_ff > hp->n_ff)
        return err_set(err, ST_FORMAT,
                       "strobe.duo: the small parts have %" PRIu32
                       " neurons, the big ones %" PRIu32,
                       hp->duo.n_ff, hp->n_ff);
    *must |= ROLE(TR_UP_SMALL) | ROLE(TR_DOWN_SMALL);
    if (hp->gated)
        *must |= ROLE(TR_GATE_SMALL);
    if (hp->duo.n_choice)
        *must |= ROLE(TR_ROUTER) | ROLE(TR_ROUTER_B);
    if (hp->duo.n_hidden)
        *must |= ROLE(TR_ROUTER_IN) | ROLE(TR_ROUTER_IN_B);
    return ST_OK;
}

enum status bind_tensors(struct binding *b, struct err *err)
{
    const struct arch *a = b->spec->arch;
    size_t rows = (size_t)b->hp->n_layer + 1;
    b->tensor = calloc(rows * TR_ROLES, sizeof *b->tensor);
    b->at = malloc(rows * TR_ROLES * sizeof *b->at);
    if (!b->tensor || !b->at)
        return err_set(err, ST_NOMEM, "tensor table");
    memset(b->at, -1, rows * TR_ROLES * sizeof *b->at);
    enum status st = bind_vocab(b, err);
    uint64_t must = a->must, may = a->may;
    if (!st && b->g)
        st = bundle_read(b->g, b->hp, &b->bundle, &b->packed, err);
    if (!st && b->packed)
        packed_roles(b, &must, &may);
    if (!st && b->hp->duo.n_ff)
        st = duo_roles(b, &must, err);
    if (b->st && b->spec->tied == 1)
        may &= ~ROLE(TR_OUTPUT); /* a copy in the file says nothing new */
    if (b->st && b->spec->tied == 0)
        must |= ROLE(TR_OUTPUT);
    for (size_t row = 0; !st && row < rows; row++)
        for (unsigned r = 0; !st && r < TR_ROLES; r++)
            if (((must | may) & ROLE(r)) && role_table[r].layered == (row > 0))
                st = bind_role(b, (enum tensor_role)r, (uint32_t)row - (row > 0), must & ROLE(r),
                               err);
    if (!st)
        st = check_pairs(b, err);
    if (!st)
        st = check_ranks(b, err);
    if (!st)
        st = bind_context(b, err);
    if (!st)
        st = check_rest(b, err);
    b->hp->tied = b->at[TR_OUTPUT] < 0;
    return st;
}
