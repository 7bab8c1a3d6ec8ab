/* engine/model/tokenizer_hf.c - a tokenizer from tokenizer.json and the files beside it
 * (model-formats.md 9.7). BPE models, byte-level or with byte fallback; others are refused by name.
 */
#include "engine/base/num.h"
#include "engine/base/utf8.h"
#include "engine/model/tokenizer_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { JSON_FILE_MAX = 256 << 20 };

static struct str text_of(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_string(v) ? (struct str){ json_string_value(v), json_string_length(v) }
                             : (struct str){ "", 0 };
}

static bool type_is(const json_t *obj, const char *type)
{
    return str_is(text_of(obj, "type"), type);
}

/* ---- vocabulary ---- */

static enum status highest_id(const json_t *vocab, const json_t *added, uint32_t *n, size_t *bytes,
                              struct err *err)
{
    const char *key;
    json_t *v;
    size_t i;
    int64_t top = -1;
    *bytes = 0;
    json_object_foreach((json_t *)vocab, key, v)
    {
        int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id > 1 << 24)
            return err_set(err, ST_FORMAT, "token '%.40s' has no usable id", key);
        top = id > top ? id : top;
        *bytes += strlen(key);
    }
    json_array_foreach(added, i, v)
    {
        int64_t id = json_integer_value(json_object_get(v, "id"));
        if (id < 0 || id > 1 << 24)
            return err_set(err, ST_FORMAT, "added token %zu has no usable id", i);
        top = id > top ? id : top;
        *bytes += text_of(v, "content").n;
    }
    if (top < 0)
        return err_set(err, ST_FORMAT, "tokenizer.json: the vocabulary is empty");
    *n = (uint32_t)top + 1;
    return ST_OK;
}

static bool flag(const json_t *obj, const char *key)
{
    return json_is_true(json_object_get(obj, key));
}

static enum status read_vocabulary(struct tokenizer *t, const json_t *model, const json_t *added,
                                   struct err *err)
{
    const json_t *vocab = json_object_get(model, "vocab");
    const char *key;
    json_t *v;
    size_t i, bytes = 0, used = 0;
    uint32_t n = 0;
    if (!json_is_object(vocab))
        return err_set(err, ST_FORMAT, "tokenizer.json: model.vocab must be an object");
    if (highest_id(vocab, added, &n, &bytes, err) != ST_OK ||
        tok_reserve(t, n, bytes, err) != ST_OK)
        return err->code;
    for (uint32_t id = 0; id < n; id++)
        t->entry[id].type = TT_UNUSED;
    json_object_foreach((json_t *)vocab, key, v)
    {
        uint32_t id = (uint32_t)json_integer_value(v);
        if (tok_set(t, id, str_c(key), 0, TT_NORMAL, &used, err) != ST_OK)
            return err->code;
    }
    json_array_foreach(added, i, v)
    {
        uint32_t id = (uint32_t)json_integer_value(json_object_get(v, "id"));
        enum tok_type type = flag(v, "special") ? TT_CONTROL : TT_USER;
        if (tok_set(t, id, text_of(v, "content"), 0, type, &used, err) != ST_OK)
            return err->code;
        t->entry[id].strip =
            (uint8_t)((flag(v, "lstrip") ? TOK_LSTRIP : 0) | (flag(v, "rstrip") ? TOK_RSTRIP : 0));
    }
    return tok_index(t, err);
}

static enum status read_merges(struct tokenizer *t, const json_t *model, struct err *err)
{
    const json_t *merges = json_object_get(model, "merges");
    json_t *v;
    size_t i, dropped = 0;
    if (!json_is_array(merges))
        return err_set(err, ST_FORMAT, "tokenizer.json: model.merges must be an array");
    if (tok_reserve_merges(t, json_array_size(merges), err) != ST_OK)
        return err->code;
    json_array_foreach(merges, i, v)
    {
        struct str left, right;
        if (json_is_array(v) && json_array_size(v) == 2) {
            left = str_c(json_string_value(json_array_get(v, 0)));
            right = str_c(json_string_value(json_array_get(v, 1)));
        } else {
            struct str s = str_c(json_string_value(v));
            size_t at = s.n ? str_find(s, STR(" "), 1) : SIZE_MAX;
            if (at == SIZE_MAX)
                return err_set(err, ST_FORMAT, "tokenizer.json: merge %zu is not a pair", i);
            left = (struct str){ s.p, at };
            right = (struct str){ s.p + at + 1, s.n - at - 1 };
        }
        dropped += !tok_add_merge(t, left, right, (uint32_t)i);
    }
    if (dropped)
        tok_warn(t, "%zu merges name unknown tokens and were dropped", dropped);
    return ST_OK;
}

/* ---- normalizer and pre-tokenizer ---- */

static enum status read_normalizer(struct tokenizer *t, const json_t *n, struct err *err)
{
    if (!n || json_is_null(n))
        return ST_OK;
    if (type_is(n, "Sequence")) {
        size_t i;
        json_t *v;
        json_array_foreach(json_object_get(n, "normalizers"), i, v)
        {
            if (read_normalizer(t, v, err) != ST_OK)
                return err->code;
        }
        return ST_OK;
    }
    if (type_is(n, "Prepend") && str_is(text_of(n, "prepend"), "\xE2\x96\x81")) {
        t->space_prefix = true;
        return ST_OK;
    }
    if (type_is(n, "Replace") && str_is(text_of(n, "content"), "\xE2\x96\x81"))
        return ST_OK; /* blank to U+2581: what SPM encoding does anyway */
    if (type_is(n, "NFC")) {
        tok_warn(t, "the tokenizer normalises to NFC; text is taken as it comes");
        return ST_OK;
    }
    struct str type = text_of(n, "type");
    return err_set(err, ST_UNSUPPORTED, "tokenizer.json: normalizer '%.*s' is not supported",
                   (int)type.n, type.p);
}

struct steps {
    struct pretok_step v[PRETOK_STEPS_MAX];
    size_t n;
};

static enum status add_split(struct steps *s, const json_t *p, struct err *err)
{
    static const char gpt2[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    struct pretok_step step = { .pattern = STR(gpt2) };
    step.pattern.n = sizeof gpt2 - 1;
    if (s->n == PRETOK_STEPS_MAX)
        return err_set(err, ST_UNSUPPORTED, "tokenizer.json: too many pre-tokenizers");
    if (type_is(p, "Split")) {
        const json_t *pattern = json_object_get(p, "pattern");
        struct str how = text_of(p, "behavior");
        step.pattern = text_of(pattern, "Regex");
        if (step.pattern.n == 0)
            return err_set(err, ST_UNSUPPORTED, "tokenizer.json: Split needs a Regex pattern");
        step.invert = flag(p, "invert");
        step.how = str_is(how, "Removed")              ? PRETOK_REMOVE
                   : str_is(how, "MergedWithPrevious") ? PRETOK_MERGE_PREV
                   : str_is(how, "MergedWithNext")     ? PRETOK_MERGE_NEXT
                                                       : PRETOK_ISOLATE;
    } else if (type_is(p, "Digits")) {
        step.pattern = flag(p, "individual_digits") ? STR("\\p{N}") : STR("\\p{N}+");
    }
    s->v[s->n++] = step;
    return ST_OK;
}

static enum status read_pre(struct tokenizer *t, const json_t *p, struct steps *s, struct err *err)
{
    if (!p || json_is_null(p))
        return ST_OK;
    if (type_is(p, "Sequence")) {
        size_t i;
        json_t *v;
        json_array_foreach(json_object_get(p, "pretokenizers"), i, v)
        {
            if (read_pre(t, v, s, err) != ST_OK)
                return err->code;
        }
        return ST_OK;
    }
    if (type_is(p, "ByteLevel")) {
        const json_t *regex = json_object_get(p, "use_regex");
        t->byte_level = true;
        if (flag(p, "add_prefix_space"))
            return err_set(err, ST_UNSUPPORTED,
                           "tokenizer.json: ByteLevel with add_prefix_space is not supported");
        return json_is_false(regex) ? ST_OK : add_split(s, p, err);
    }
    if (type_is(p, "Split") || type_is(p, "Digits"))
        return add_split(s, p, err);
    if (type_is(p, "Metaspace")) {
        struct str scheme = text_of(p, "prepend_scheme");
        t->space_prefix =
            !str_is(scheme, "never") && !json_is_false(json_object_get(p, "add_prefix_space"));
        return ST_OK;
    }
    struct str type = text_of(p, "type");
    return err_set(err, ST_UNSUPPORTED, "tokenizer.json: pre-tokenizer '%.*s' is not supported",
                   (int)type.n, type.p);
}

/* ---- specials and templates ---- */

static int32_t find_text(const struct tokenizer *t, const json_t *v)
{
    if (json_is_object(v))
        v = json_object_get(v, "content");
    return json_is_string(v) ? tok_find(t, str_c(json_string_value(v))) : -1;
}

/* TemplateProcessing (or a Sequence that holds one): what stands before and after a single text. */
static void read_post(struct tokenizer *t, const json_t *p)
{
    size_t i;
    json_t *v;
    if (!p || json_is_null(p))
        return;
    if (type_is(p, "Sequence")) {
        json_array_foreach(json_object_get(p, "processors"), i, v) read_post(t, v);
        return;
    }
    if (!type_is(p, "TemplateProcessing"))
        return;
    bool text_seen = false;
    json_array_foreach(json_object_get(p, "single"), i, v)
    {
        const json_t *special = json_object_get(v, "SpecialToken");
        if (json_object_get(v, "Sequence"))
            text_seen = true;
        if (!special)
            continue;
        int32_t id = tok_find(t, text_of(special, "id"));
        if (text_seen) {
            t->add_eos = id >= 0;
        } else {
            t->bos = id;
            t->add_bos = id >= 0;
        }
    }
}

static enum status read_config(struct tokenizer *t, const json_t *config, struct err *err)
{
    size_t i;
    json_t *v;
    int32_t id = find_text(t, json_object_get(config, "bos_token"));
    if (id >= 0)
        t->bos = id;
    id = find_text(t, json_object_get(config, "eos_token"));
    if (id >= 0)
        t->eos = id;
    v = json_object_get(config, "add_bos_token");
    if (json_is_boolean(v))
        t->add_bos = json_is_true(v);
    v = json_object_get(config, "add_eos_token");
    if (json_is_boolean(v))
        t->add_eos = json_is_true(v);
    const json_t *chat = json_object_get(config, "chat_template");
    if (json_is_string(chat))
        return tok_add_chat(t, STR("default"), text_of(config, "chat_template"), err);
    json_array_foreach(chat, i, v)
    {
        if (tok_add_chat(t, text_of(v, "name"), text_of(v, "template"), err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static enum status build(struct tokenizer *t, const json_t *doc, const json_t *config,
                         struct err *err)
{
    const json_t *model = json_object_get(doc, "model");
    const json_t *added = json_object_get(doc, "added_tokens");
    struct str type = text_of(model, "type");
    struct steps steps = { .n = 0 };
    if (!json_is_object(model))
        return err_set(err, ST_FORMAT, "tokenizer.json: 'model' is missing");
    /* Old files leave the type out; only BPE has merges. */
    if (!str_is(type, "BPE") && !(type.n == 0 && json_object_get(model, "merges")))
        return err_set(err, ST_UNSUPPORTED,
                       "tokenizer.json: model type '%.*s' is not supported (BPE is)", (int)type.n,
                       type.p);
    *t = (struct tokenizer){ .kind = TOK_BPE, .bos = -1, .eos = -1, .unk = -1 };
    t->byte_fallback = flag(model, "byte_fallback");
    t->ignore_merges = flag(model, "ignore_merges");
    if (read_normalizer(t, json_object_get(doc, "normalizer"), err) != ST_OK ||
        read_pre(t, json_object_get(doc, "pre_tokenizer"), &steps, err) != ST_OK ||
        pretok_compile(steps.v, steps.n, &t->pre, err) != ST_OK)
        return err->code;
    if (!t->byte_level) { /* pieces with U+2581, merged by rank */
        t->kind = TOK_SPM;
        t->rank_merge = true;
    }
    snprintf(t->pre_name, sizeof t->pre_name, "tokenizer.json");
    if (read_vocabulary(t, model, added, err) != ST_OK || read_merges(t, model, err) != ST_OK)
        return err->code;
    t->unk = find_text(t, json_object_get(model, "unk_token"));
    read_post(t, json_object_get(doc, "post_processor"));
    if (config && read_config(t, config, err) != ST_OK)
        return err->code;
    return tok_finish(t, err);
}

enum status tokenizer_from_json(struct str tokenizer_json, struct str tokenizer_config,
                                struct tokenizer **ret, struct err *err)
{
    json_t *doc = NULL, *config = NULL;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "tokenizer");
    if (json_parse(tokenizer_json, "tokenizer.json", &doc, err) == ST_OK &&
        (tokenizer_config.n == 0 ||
         json_parse(tokenizer_config, "tokenizer_config.json", &config, err) == ST_OK))
        build(t, doc, config, err);
    json_free(doc);
    json_free(config);
    if (err->code != ST_OK)
        tokenizer_free(t);
    else
        *ret = t;
    return err->code;
}

/* Whole file; absent is fine unless `must`. */
static enum status read_file(const char *dir, const char *name, bool must, struct buf *out,
                             struct err *err)
{
    char path[4300], chunk[65536];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    if (!f) {
        if (!must && errno == ENOENT)
            return ST_OK;
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", path);
    }
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0 && out->n <= JSON_FILE_MAX)
        buf_put(out, chunk, n);
    if (ferror(f)) {
        err_sys(err, errno, "read");
        err_ctx(err, "'%s'", path);
    } else if (out->n > JSON_FILE_MAX) {
        err_set(err, ST_FORMAT, "'%s': more than %d bytes", path, JSON_FILE_MAX);
    }
    fclose(f);
    return err->code ? err->code : buf_ok(out, path, err);
}

/* One more id that ends a generation; anything but an id of the vocabulary is passed over. */
static void add_end(struct tokenizer *t, const json_t *v, struct err *err)
{
    int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
    if (id < 0 || id >= (int64_t)t->n || tokenizer_is_eog(t, (int32_t)id))
        return;
    int32_t *p = realloc(t->eog, (t->n_eog + 1) * sizeof *p);
    if (!p) {
        err_set(err, ST_NOMEM, "generation_config.json");
        return;
    }
    t->eog = p;
    p[t->n_eog++] = (int32_t)id;
}

/* eos_token_id of generation_config.json: one id or a list; these win for stopping. */
static enum status add_generation_ends(struct tokenizer *t, struct str text, struct err *err)
{
    assert(t);
    json_t *doc, *v;
    size_t i;
    if (text.n == 0)
        return ST_OK;
    if (json_parse(text, "generation_config.json", &doc, err) != ST_OK)
        return err->code;
    const json_t *eos = json_object_get(doc, "eos_token_id");
    if (!json_is_array(eos))
        add_end(t, eos, err);
    json_array_foreach(eos, i, v) add_end(t, v, err);
    json_free(doc);
    return err->code;
}

enum status tokenizer_from_dir(const char *dir, struct tokenizer **ret, struct err *err)
{
    struct buf doc = BUF_INIT, config = BUF_INIT, gen = BUF_INIT, jinja = BUF_INIT;
    struct tokenizer *t = NULL;
    if (read_file(dir, "tokenizer.json", true, &doc, err) == ST_OK &&
        read_file(dir, "tokenizer_config.json", false, &config, err) == ST_OK &&
        read_file(dir, "generation_config.json", false, &gen, err) == ST_OK &&
        read_file(dir, "chat_template.jinja", false, &jinja, err) == ST_OK &&
        tokenizer_from_json(buf_view(&doc), buf_view(&config), &t, err) == ST_OK &&
        add_generation_ends(t, buf_view(&gen), err) == ST_OK && jinja.n &&
        tokenizer_chat_template(t, NULL).n == 0)
        tok_add_chat(t, STR("default"), buf_view(&jinja), err);
    buf_clear(&doc);
    buf_clear(&config);
    buf_clear(&gen);
    buf_clear(&jinja);
    if (err->code != ST_OK) {
        tokenizer_free(t);
        return err_ctx(err, "'%s'", dir);
    }
    *ret = t;
    return ST_OK;
}
