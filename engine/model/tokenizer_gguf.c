/* engine/model/tokenizer_gguf.c - a tokenizer from GGUF metadata (model-formats.md 9.1). */
#include "engine/base/num.h"
#include "engine/model/tokenizer_internal.h"

#include <stdlib.h>

static enum status string_array(const struct gguf *g, const char *key, bool must,
                                const struct gguf_kv **ret, struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    *ret = NULL;
    if (!kv)
        return must ? err_set(err, ST_FORMAT, "'%s' is missing", key) : ST_OK;
    if (kv->type != GGUF_ARRAY || kv->elem != GGUF_STRING)
        return err_set(err, ST_FORMAT, "'%s' must be an array of strings", key);
    *ret = kv;
    return ST_OK;
}

/* An array of `n` numbers beside the tokens; *ret NULL when absent. */
static enum status number_array(const struct gguf *g, const char *key, uint64_t n, bool ints,
                                const struct gguf_kv **ret, struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    *ret = NULL;
    if (!kv)
        return ST_OK;
    bool right = ints ? gguf_is_int(kv->elem) : kv->elem == GGUF_F32 || kv->elem == GGUF_F64;
    if (kv->type != GGUF_ARRAY || !right)
        return err_set(err, ST_FORMAT, "'%s' must be an array of %s", key,
                       ints ? "integers" : "floats");
    if (kv->n != n)
        return err_set(err, ST_FORMAT, "'%s' has %llu entries for %llu tokens", key,
                       (unsigned long long)kv->n, (unsigned long long)n);
    *ret = kv;
    return ST_OK;
}

static enum status read_vocabulary(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const struct gguf_kv *tokens, *scores, *types;
    if (string_array(g, "tokenizer.ggml.tokens", true, &tokens, err) != ST_OK || !tokens ||
        number_array(g, "tokenizer.ggml.scores", tokens->n, false, &scores, err) != ST_OK ||
        number_array(g, "tokenizer.ggml.token_type", tokens->n, true, &types, err) != ST_OK)
        return err->code;
    if (t->kind == TOK_SPM && !scores)
        return err_set(err, ST_FORMAT, "'tokenizer.ggml.scores' is missing");
    size_t bytes = 0, used = 0;
    for (uint64_t i = 0; i < tokens->n; i++)
        bytes += tokens->text[i].n; /* bounded by the file's size */
    if (tokens->n > UINT32_MAX || tok_reserve(t, (uint32_t)tokens->n, bytes, err) != ST_OK)
        return err_set(err, ST_FORMAT, "too many tokens");
    for (uint64_t i = 0; i < tokens->n; i++) {
        int64_t type = types ? gguf_arr_i64(types, i) : TT_NORMAL;
        if (type < TT_NORMAL || type > TT_BYTE)
            type = TT_NORMAL;
        if (tok_set(t, (uint32_t)i, tokens->text[i], scores ? (float)gguf_arr_f64(scores, i) : 0,
                    (enum tok_type)type, &used, err) != ST_OK)
            return err->code;
    }
    return tok_index(t, err);
}

static enum status read_merges(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const struct gguf_kv *kv;
    uint64_t dropped = 0;
    if (string_array(g, "tokenizer.ggml.merges", true, &kv, err) != ST_OK || !kv ||
        tok_reserve_merges(t, kv->n, err) != ST_OK)
        return err->code;
    for (uint64_t i = 0; i < kv->n; i++) {
        struct str s = kv->text[i];
        size_t at = str_find(s, STR(" "), 1); /* the left half may begin with a blank itself */
        if (at == SIZE_MAX ||
            !tok_add_merge(t, (struct str){ s.p, at }, (struct str){ s.p + at + 1, s.n - at - 1 },
                           (uint32_t)i))
            dropped++;
    }
    if (dropped)
        tok_warn(t, "%llu of %llu merges name unknown tokens and were dropped",
                 (unsigned long long)dropped, (unsigned long long)kv->n);
    return ST_OK;
}

/* A special id: absent, -1 (also as u32) or past the end: none. */
static enum status special_id(const struct tokenizer *t, const struct gguf *g, const char *key,
                              int32_t *ret, struct err *err)
{
    int64_t id = *ret;
    if (gguf_get_i64(g, key, false, INT64_MIN, INT64_MAX, &id, err) != ST_OK)
        return err->code;
    *ret = id >= 0 && id < (int64_t)t->n ? (int32_t)id : -1;
    return ST_OK;
}

static enum status read_specials(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    int32_t eot = -1, eom = -1;
    if (special_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos, err) != ST_OK ||
        special_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos, err) != ST_OK ||
        special_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unk, err) != ST_OK ||
        special_id(t, g, "tokenizer.ggml.eot_token_id", &eot, err) != ST_OK ||
        special_id(t, g, "tokenizer.ggml.eom_token_id", &eom, err) != ST_OK ||
        gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err) != ST_OK ||
        gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos, err) != ST_OK ||
        gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &t->space_prefix, err) != ST_OK)
        return err->code;
    /* A special id whose type says "normal" would be printed and never ended on. */
    int32_t control[] = { t->bos, t->eos, eot, eom };
    for (int i = 0; i < 4; i++)
        if (control[i] >= 0 && t->entry[control[i]].type == TT_NORMAL && i != 0)
            t->entry[control[i]].type = TT_CONTROL;
    t->eog = calloc(2, sizeof *t->eog);
    if (!t->eog)
        return err_set(err, ST_NOMEM, "end tokens");
    if (eot >= 0)
        t->eog[t->n_eog++] = eot;
    if (eom >= 0)
        t->eog[t->n_eog++] = eom;
    return ST_OK;
}

static enum status read_templates(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    static const char stem[] = "tokenizer.chat_template";
    for (uint64_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        if (kv->type != GGUF_STRING || !str_starts(kv->key, str_c(stem)))
            continue;
        struct str rest = { kv->key.p + sizeof stem - 1, kv->key.n - (sizeof stem - 1) };
        struct str name = rest.n == 0 ? STR("default") : (struct str){ rest.p + 1, rest.n - 1 };
        if ((rest.n == 0 || rest.p[0] == '.') && tok_add_chat(t, name, kv->text[0], err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static enum status pick_kind(struct tokenizer *t, const struct gguf *g, const char *pre,
                             struct err *err)
{
    struct str model = STR(""), name = STR("");
    bool bos = false;
    if (gguf_get_str(g, "tokenizer.ggml.model", true, &model, err) != ST_OK ||
        gguf_get_str(g, "tokenizer.ggml.pre", false, &name, err) != ST_OK)
        return err->code;
    if (str_is(model, "llama")) {
        *t = (struct tokenizer){
            .kind = TOK_SPM, .bos = 1, .eos = 2, .unk = 0, .add_bos = true, .space_prefix = true
        };
        return ST_OK;
    }
    if (!str_is(model, "gpt2"))
        return err_set(err, ST_UNSUPPORTED,
                       "tokenizer '%.*s' is not supported (llama and gpt2 are)", (int)model.n,
                       model.p);
    *t = (struct tokenizer){ .kind = TOK_BPE, .bos = 11, .eos = 11, .unk = -1, .byte_level = true };
    if (pre)
        name = str_c(pre);
    if (name.n == 0) {
        name = STR("default");
        tok_warn(t, "the file names no pre-tokenizer: 'default' is used and may split words wrongly"
                    " (--pre NAME overrides)");
    }
    snprintf(t->pre_name, sizeof t->pre_name, "%.*s", (int)name.n, name.p);
    if (pretok_named(t->pre_name, &t->pre, &t->ignore_merges, &bos, err) != ST_OK)
        return err->code;
    t->add_bos = bos;
    return ST_OK;
}

enum status tokenizer_from_gguf(const struct gguf *g, const char *pre, struct tokenizer **ret,
                                struct err *err)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "tokenizer");
    if (pick_kind(t, g, pre, err) != ST_OK || read_vocabulary(t, g, err) != ST_OK ||
        (t->kind == TOK_BPE && read_merges(t, g, err) != ST_OK) ||
        read_specials(t, g, err) != ST_OK || read_templates(t, g, err) != ST_OK ||
        tok_finish(t, err) != ST_OK) {
        tokenizer_free(t);
        return err->code;
    }
    *ret = t;
    return ST_OK;
}
