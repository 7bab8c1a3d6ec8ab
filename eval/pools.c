/* eval/pools.c - see pools.h. */
#include "eval/pools.h"

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/base/json.h"
#include "eval/pools_table.h"
#include "eval/words.h"

enum { POOLS_MAX = 256, POOL_WORDS_MAX = 10000, POOL_FILE_MAX = 4 << 20 };

struct pools {
    struct mem mem;
    struct pool pool[POOLS_MAX];
    size_t n;
    char hash[65];
};

static bool vowel(char c)
{
    return c && strchr("aeiouAEIOU", c) != NULL;
}

static bool ends(struct str s, const char *z)
{
    return str_ends(s, str_c(z));
}

void word_plural(struct str s, struct buf *out)
{
    if (s.n > 1 && s.p[s.n - 1] == 'y' && !vowel(s.p[s.n - 2])) {
        buf_put(out, s.p, s.n - 1);
        buf_z(out, "ies");
        return;
    }
    buf_str(out, s);
    buf_z(out, ends(s, "s") || ends(s, "x") || ends(s, "z") || ends(s, "ch") || ends(s, "sh")
                   ? "es"
                   : "s");
}

bool word_an(struct str s)
{
    if (str_starts(s, STR("uni")) || str_starts(s, STR("eu")) || str_starts(s, STR("one")))
        return false;
    return s.n && (vowel(s.p[0]) || str_starts(s, STR("hour")) || str_starts(s, STR("honest")) ||
                   s.p[0] == '8' || (str_starts(s, STR("11")) && s.n == 2) ||
                   (str_starts(s, STR("18")) && s.n == 2));
}

static enum value_type type_of(struct rational r, struct str text)
{
    if (r.d == 1)
        return NUM_INT;
    return text.n == 0 || memchr(text.p, '.', text.n) ? NUM_FLOAT : NUM_FRACTION;
}

/* "word/plural", "Name|f", "words=number" */
static bool word_of_row(struct str s, struct mem *mem, struct word *ret)
{
    struct word w = { 0 };
    size_t eq = str_find(s, STR("="), 0), bar = str_find(s, STR("|"), 0),
           slash = eq == SIZE_MAX ? str_find(s, STR("/"), 0) : SIZE_MAX;
    struct str text = s;
    if (eq != SIZE_MAX) {
        struct rational r;
        if (!rat_parse((struct str){ s.p + eq + 1, s.n - eq - 1 }, &r))
            return false;
        w.v = value_num(r, type_of(r, (struct str){ s.p, eq }));
        text.n = eq;
    } else if (bar != SIZE_MAX) {
        w.gender = s.p[bar + 1];
        text.n = bar;
    } else if (slash != SIZE_MAX) {
        w.plural = mem_str(mem, (struct str){ s.p + slash + 1, s.n - slash - 1 });
        text.n = slash;
    }
    text = mem_str(mem, text);
    if (!text.p)
        return false;
    if (eq == SIZE_MAX)
        w.v = value_str(text);
    else
        w.v.s = text;
    *ret = w;
    return true;
}

static bool finish(struct pools *p, struct pool *row, const struct word *word, size_t n)
{
    struct value *v = mem_array(&p->mem, n, sizeof *v);
    for (size_t i = 0; v && i < n; i++)
        v[i] = word[i].v;
    row->word = word;
    row->value = v;
    row->n = (uint32_t)n;
    return v != NULL;
}

static bool add_row(struct pools *p, const struct pool_row *row)
{
    size_t n = 1;
    for (const char *c = row->words; *c; c++)
        n += *c == ';';
    struct word *w = mem_array(&p->mem, n, sizeof *w);
    const char *at = row->words;
    for (size_t i = 0; w && i < n; i++) {
        const char *end = strchr(at, ';');
        size_t len = end ? (size_t)(end - at) : strlen(at);
        if (!word_of_row((struct str){ at, len }, &p->mem, &w[i]))
            return false;
        at += len + 1;
    }
    p->pool[p->n] = (struct pool){ .name = str_c(row->name), .kind = row->kind };
    return w && finish(p, &p->pool[p->n++], w, n);
}

/* ---- the user's lists ---- */

static enum status word_of_json(const json_t *v, struct mem *mem, struct word *ret, struct err *err)
{
    struct word w = { 0 };
    struct str text = { NULL, 0 }, number = { NULL, 0 }, gender = { NULL, 0 };
    struct rational r;
    if (json_is_string(v)) {
        text = (struct str){ json_string_value(v), json_string_length(v) };
    } else if (json_is_array(v) && json_array_size(v) == 2 &&
               json_is_string(json_array_get(v, 0)) && json_is_string(json_array_get(v, 1))) {
        text = str_c(json_string_value(json_array_get(v, 0)));
        number = str_c(json_string_value(json_array_get(v, 1)));
    } else if (!json_is_object(v) || json_get_str(v, "text", true, &text, err) != ST_OK ||
               json_get_str(v, "plural", false, &w.plural, err) != ST_OK ||
               json_get_str(v, "gender", false, &gender, err) != ST_OK) {
        return err_set(err, ST_FORMAT,
                       "a word must be \"text\", [\"text\", \"number\"] or {\"text\", \"plural\", "
                       "\"gender\"}");
    }
    if (number.n && !rat_parse(number, &r))
        return err_set(err, ST_FORMAT, "'%.*s' is no number", (int)(number.n & 63), number.p);
    text = mem_str(mem, text);
    w.plural = w.plural.n ? mem_str(mem, w.plural) : w.plural;
    if (!text.p || (w.plural.n && !w.plural.p))
        return err_set(err, ST_NOMEM, "word lists");
    w.gender = gender.n ? gender.p[0] : 0;
    w.v = number.n ? value_num(r, type_of(r, text)) : value_str(text);
    w.v.s = text;
    *ret = w;
    return ST_OK;
}

static enum status add_list(struct pools *p, const char *name, const json_t *list, struct err *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0 || n > POOL_WORDS_MAX)
        return err_set(err, ST_FORMAT, "must be a list of 1 to %d words", POOL_WORDS_MAX);
    struct word *w = mem_array(&p->mem, n, sizeof *w);
    for (size_t i = 0; w && i < n; i++)
        if (word_of_json(json_array_get(list, i), &p->mem, &w[i], err) != ST_OK)
            return err_ctx(err, "word %zu", i + 1);
    struct pool *row = NULL;
    for (size_t i = 0; i < p->n; i++)
        if (str_is(p->pool[i].name, name))
            row = &p->pool[i];
    if (!row && p->n == POOLS_MAX)
        return err_set(err, ST_RANGE, "more than %d lists", POOLS_MAX);
    if (!row) {
        row = &p->pool[p->n++];
        *row = (struct pool){ .name = mem_str(&p->mem, str_c(name)),
                              .kind = w && w[0].v.kind == VALUE_NUM ? ITEM_NUMBER : ITEM_NAME };
    }
    if (!w || !row->name.p || !finish(p, row, w, n))
        return err_set(err, ST_NOMEM, "word lists");
    return ST_OK;
}

static enum status add_file(struct pools *p, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    json_t *doc = NULL;
    if (file_slurp(path, POOL_FILE_MAX, &text, err) == ST_OK &&
        json_parse_unique(buf_view(&text), path, &doc, err) == ST_OK && !json_is_object(doc))
        err_set(err, ST_FORMAT, "%s: must be an object of lists", path);
    const char *name;
    json_t *list;
    if (err->code == ST_OK) {
        json_object_foreach(doc, name, list)
        {
            if (add_list(p, name, list, err) != ST_OK) {
                err_ctx(err, "%s: list '%.40s'", path, name);
                break;
            }
        }
    }
    json_free(doc);
    buf_clear(&text);
    return err->code;
}

static void fingerprint(struct pools *p)
{
    struct sha256 h;
    sha256_init(&h);
    for (size_t i = 0; i < p->n; i++) {
        const struct pool *q = &p->pool[i];
        sha256_add(&h, q->name.p, q->name.n + 1);
        for (uint32_t k = 0; k < q->n; k++) {
            int64_t part[3] = { q->value[k].r.n, q->value[k].r.d, q->word[k].gender };
            char digits[80];
            int n = snprintf(digits, sizeof digits, "%lld/%lld %lld\n", (long long)part[0],
                             (long long)part[1], (long long)part[2]);
            sha256_add(&h, digits, (size_t)n);
            sha256_add(&h, q->value[k].s.p, q->value[k].s.n);
            sha256_add(&h, "\t", 1);
            if (q->word[k].plural.n)
                sha256_add(&h, q->word[k].plural.p, q->word[k].plural.n);
        }
    }
    sha256_hex(&h, p->hash);
}

enum status pools_open(const char *path, struct pools **ret, struct err *err)
{
    struct pools *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "word lists");
    for (const struct pool_row *r = pool_table; r->name && err->code == ST_OK; r++)
        if (!add_row(p, r))
            err_set(err, ST_NOMEM, "word list '%s'", r->name);
    if (err->code == ST_OK && path)
        add_file(p, path, err);
    if (err->code != ST_OK) {
        pools_free(p);
        return err->code;
    }
    fingerprint(p);
    *ret = p;
    return ST_OK;
}

void pools_free(struct pools *p)
{
    if (!p)
        return;
    mem_clear(&p->mem);
    free(p);
}

const struct pool *pools_find(const struct pools *p, struct str name)
{
    for (size_t i = 0; i < p->n; i++)
        if (str_eq(p->pool[i].name, name))
            return &p->pool[i];
    return NULL;
}

const char *pools_hash(const struct pools *p)
{
    return p->hash;
}

size_t pools_n(const struct pools *p)
{
    return p->n;
}

const struct pool *pools_at(const struct pools *p, size_t i)
{
    return &p->pool[i];
}
