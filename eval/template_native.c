/* eval/template_native.c - reads a template of our own format, gsmt/1 (docs/templates.md):
 * variables with kind, domain and original, one text with sections per level, conditions, answers
 * per level, distractors with their audit. */
#include "eval/template_native.h"

#include "engine/base/hash.h"
#include "engine/base/num.h"

/* ---- variables ---- */

/* A number as JSON integer or as a text; decimals only as text, so that they stay exact. */
static bool number_of(struct reader *r, const json_t *v, struct rational *ret)
{
    if (json_is_integer(v)) {
        *ret = rat_int(json_integer_value(v));
        return true;
    }
    if (json_is_string(v) && rat_parse(json_str(v), ret))
        return true;
    return native_refuse(r, json_is_real(v)
                                ? "write decimals as texts: \"2.5\" (they stay exact then)"
                                : "a number or a text with a number is wanted");
}

static enum value_type type_of(struct rational r)
{
    return r.d == 1 ? NUM_INT : NUM_FLOAT;
}

static bool range(struct reader *r, struct rational from, struct rational to, struct rational by,
                  struct value *ret)
{
    struct rational span, count;
    if (by.n <= 0 || !rat_sub(to, from, &span) || !rat_div(span, by, &count) || count.n < 0 ||
        rat_floor(count) >= EXPR_LIST_MAX)
        return native_refuse(
            r, "a range needs from <= to, a step above 0, and at most 100000 numbers");
    uint32_t n = (uint32_t)rat_floor(count) + 1;
    struct value *item = mem_array(&r->t->mem, n, sizeof *item);
    if (!item)
        return native_no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        item[i] = value_num(from, type_of(from));
        if (!rat_add(from, by, &from) && i + 1 < n)
            return native_refuse(r, "a range too large");
    }
    *ret = (struct value){ .kind = VALUE_LIST, .item = item, .n_item = n, .r = { 0, 1 } };
    return true;
}

static bool choice_of(struct reader *r, const json_t *v, struct value *ret)
{
    struct rational n;
    if (json_is_array(v)) {
        const json_t *words = json_array_get(v, 0), *number = json_array_get(v, 1);
        if (!json_is_string(words) || !number_of(r, number, &n))
            return native_refuse(r, "a worded number is [\"half\", \"1/2\"]");
        *ret = value_num(n, type_of(n));
        ret->s = native_own(r, json_str(words));
        return ret->s.p ? true : native_no_memory(r);
    }
    if (json_is_string(v) && !rat_parse(json_str(v), &n)) {
        *ret = value_str(native_own(r, json_str(v)));
        return ret->s.p ? true : native_no_memory(r);
    }
    if (!number_of(r, v, &n))
        return false;
    *ret = value_num(n, type_of(n));
    return true;
}

static bool choices(struct reader *r, const json_t *list, struct value *ret)
{
    size_t n = json_array_size(list);
    struct value *item = n && n <= 10000 ? mem_array(&r->t->mem, n, sizeof *item) : NULL;
    if (!item)
        return native_refuse(r, "'choice' is a list of 1 to 10000 values");
    for (size_t i = 0; i < n; i++)
        if (!choice_of(r, json_array_get(list, i), &item[i]))
            return false;
    *ret = (struct value){ .kind = VALUE_LIST, .item = item, .n_item = (uint32_t)n, .r = { 0, 1 } };
    return true;
}

static bool json_range(struct reader *r, const json_t *list, struct value *ret)
{
    struct rational v[3] = { { 0, 1 }, { 0, 1 }, { 1, 1 } };
    size_t n = json_array_size(list);
    if (n < 2 || n > 3)
        return native_refuse(r,
                             "a range is [from, to] or [from, to, step]; both ends belong to it");
    for (size_t i = 0; i < n; i++)
        if (!number_of(r, json_array_get(list, i), &v[i]))
            return false;
    return range(r, v[0], v[1], v[2], ret);
}

/* What a variable may be, before it has a slot. */
struct spec {
    struct value list;
    const struct pool *pool;
    struct str original;
    bool has_original;
    enum item_kind kind;
};

static bool long_spec(struct reader *r, const json_t *v, struct spec *s)
{
    struct str pool = STR(""), kind = STR("");
    const json_t *rng = json_object_get(v, "range"), *choice = json_object_get(v, "choice"),
                 *original = json_object_get(v, "original");
    if (json_get_str(v, "pool", false, &pool, r->err) != ST_OK ||
        json_get_str(v, "kind", false, &kind, r->err) != ST_OK)
        return false;
    if (pool.n) {
        s->pool = pools_find(r->pools, pool);
        if (!s->pool)
            return native_refuse(
                r, "there is no such pool (strobe eval check --pools FILE adds some)");
    } else if (rng) {
        if (!json_range(r, rng, &s->list))
            return false;
    } else if (!choice) {
        return native_refuse(r, "a variable needs 'pool', 'range' or 'choice'");
    } else if (!choices(r, choice, &s->list)) {
        return false;
    }
    s->kind = s->pool ? s->pool->kind : s->list.item[0].kind == VALUE_NUM ? ITEM_NUMBER : ITEM_NAME;
    if (kind.n && str_is(kind, "name"))
        s->kind = ITEM_NAME;
    else if (kind.n && str_is(kind, "number"))
        s->kind = ITEM_NUMBER;
    else if (kind.n && str_is(kind, "surface"))
        s->kind = ITEM_SURFACE;
    else if (kind.n)
        return native_refuse(r, "'kind' is name, number or surface");
    char digits[32];
    if (json_is_integer(original)) {
        snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(original));
        s->original = native_own(r, str_c(digits));
    } else if (json_is_string(original)) {
        s->original = native_own(r, json_str(original));
    } else {
        return native_refuse(r, "a variable needs 'original', a whole number or a text");
    }
    return s->original.p ? true : native_no_memory(r);
}

/* "2..20 by 2 = 6", "person = Ana", "red, blue = red", "half:1/2, third:1/3 = half" */
static bool short_list(struct reader *r, struct str s, struct value *ret)
{
    json_t *list = json_array();
    while (list && s.n) {
        size_t comma = str_find(s, STR(","), 0), n = comma == SIZE_MAX ? s.n : comma;
        struct str one = str_trim((struct str){ s.p, n });
        size_t colon = str_find(one, STR(":"), 0);
        json_t *v =
            colon == SIZE_MAX
                ? json_text(one)
                : json_pack("[o, o]", json_text((struct str){ one.p, colon }),
                            json_text((struct str){ one.p + colon + 1, one.n - colon - 1 }));
        s = comma == SIZE_MAX ? (struct str){ s.p, 0 }
                              : (struct str){ s.p + comma + 1, s.n - comma - 1 };
        if (json_array_append_new(list, v) != 0) {
            json_free(list);
            list = NULL;
        }
    }
    bool ok = list ? choices(r, list, ret) : native_no_memory(r);
    json_free(list);
    return ok;
}

static bool short_spec(struct reader *r, struct str s, struct spec *ret)
{
    size_t eq = str_find(s, STR(" = "), 0), dots = str_find(s, STR(".."), 0);
    if (eq == SIZE_MAX)
        return native_refuse(r, "a variable is \"DOMAIN = ORIGINAL\"");
    struct str domain = str_trim((struct str){ s.p, eq });
    ret->original = native_own(r, str_trim((struct str){ s.p + eq + 3, s.n - eq - 3 }));
    if (!ret->original.p)
        return native_no_memory(r);
    ret->pool = pools_find(r->pools, domain);
    if (ret->pool) {
        ret->kind = ret->pool->kind;
        return true;
    }
    if (dots != SIZE_MAX && dots < eq) {
        size_t by = str_find(domain, STR(" by "), 0), end = by == SIZE_MAX ? domain.n : by;
        struct rational from, to, step = rat_int(1);
        if (!rat_parse(str_trim((struct str){ s.p, dots }), &from) ||
            !rat_parse(str_trim((struct str){ domain.p + dots + 2, end - dots - 2 }), &to) ||
            (by != SIZE_MAX &&
             !rat_parse(str_trim((struct str){ domain.p + by + 4, domain.n - by - 4 }), &step)))
            return native_refuse(r, "a range is \"FROM..TO\" or \"FROM..TO by STEP\"");
        ret->kind = ITEM_NUMBER;
        return range(r, from, to, step, &ret->list);
    }
    if (!short_list(r, domain, &ret->list))
        return false;
    ret->kind = ret->list.item[0].kind == VALUE_NUM ? ITEM_NUMBER : ITEM_NAME;
    return true;
}

static bool valid_name(struct str s)
{
    bool ok = s.n > 0 && s.n <= 32;
    for (size_t i = 0; i < s.n && ok; i++)
        ok = (s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= 'A' && s.p[i] <= 'Z') ||
             s.p[i] == '_' || (i && s.p[i] >= '0' && s.p[i] <= '9');
    return ok && !str_is(s, "and") && !str_is(s, "or") && !str_is(s, "not") && !str_is(s, "if") &&
           !str_is(s, "else");
}

static struct tvar *new_var(struct reader *r, const char *name)
{
    struct template *t = r->t;
    if (t->n_var == TPL_VARS_MAX || !valid_name(str_c(name))) {
        err_set(r->err, ST_FORMAT, "'%.40s' cannot be a variable's name, or there are too many",
                name);
        return NULL;
    }
    if (template_var(t, str_c(name)) >= 0) {
        err_set(r->err, ST_FORMAT, "'%.40s' is defined twice", name);
        return NULL;
    }
    struct tvar *v = &t->var[t->n_var];
    *v = (struct tvar){ .name = native_own(r, str_c(name)), .slot = -1, .noop = -1 };
    if (!v->name.p)
        return native_no_memory(r), NULL;
    t->n_var++;
    return v;
}

static bool new_slot(struct reader *r, uint32_t var, const struct spec *s)
{
    struct template *t = r->t;
    struct slot *slot = &t->slot[t->n_slot];
    if (t->n_slot == TPL_SLOTS_MAX)
        return native_refuse(r, "too many variables");
    *slot = (struct slot){ .pick = PICK_ONE, .var = { var }, .n_var = 1 };
    if (template_domain(t, slot, &s->list, NULL, false, r->err) != ST_OK)
        return false;
    t->var[var].slot = (int32_t)t->n_slot++;
    return true;
}

/* The original's value: one of the candidates where it is one. */
static void settle(struct reader *r, struct tvar *v, const struct spec *s)
{
    struct rational n;
    v->has_original = true;
    v->original_text = s->original;
    v->original = value_str(s->original);
    if (v->kind == ITEM_NUMBER && rat_parse(s->original, &n))
        v->original = value_num(n, type_of(n));
    for (uint32_t i = 0; s->pool && i < s->pool->n; i++)
        if (str_eq(s->pool->word[i].v.s, s->original)) {
            v->word = &s->pool->word[i];
            v->original = v->word->v;
        }
    for (uint32_t i = 0; !s->pool && i < s->list.n_item; i++) {
        const struct value *c = &s->list.item[i];
        if (c->s.n ? str_eq(c->s, s->original) : value_eq(c, &v->original))
            v->original = *c;
    }
    if (v->kind == ITEM_NUMBER && v->original.kind != VALUE_NUM)
        template_diag(r->t, DIAG_ERROR, "original-not-a-number",
                      "the original of '%.*s' is no number: '%.*s'", (int)v->name.n, v->name.p,
                      (int)s->original.n, s->original.p);
}

bool native_vars(struct reader *r, json_t *vars, int32_t noop)
{
    const char *name;
    json_t *v;
    if (vars && !json_is_object(vars))
        return native_refuse(r, "'vars' must be an object");
    json_object_foreach(vars, name, v)
    {
        struct spec s = { .list = { .r = { 0, 1 } } };
        struct tvar *x = new_var(r, name);
        if (!x)
            return false;
        uint32_t at = r->t->n_var - 1;
        bool ok = json_is_string(v)   ? short_spec(r, json_str(v), &s)
                  : json_is_object(v) ? long_spec(r, v, &s)
                                      : native_refuse(r, "a variable is a text or an object");
        if (ok && !s.pool)
            ok = new_slot(r, at, &s);
        if (!ok) {
            err_ctx(r->err, "variable '%.40s'", name);
            return false;
        }
        x->kind = s.kind;
        x->noop = noop;
        r->pool_of[at] = s.pool ? s.pool->name : STR("");
        settle(r, x, &s);
    }
    return true;
}

/* Variables of one pool are drawn together, so they differ. */
bool native_pool_slots(struct reader *r)
{
    struct template *t = r->t;
    for (uint32_t i = 0; i < t->n_var; i++) {
        if (t->var[i].slot >= 0 || t->var[i].derived || r->pool_of[i].n == 0)
            continue;
        const struct pool *pool = pools_find(r->pools, r->pool_of[i]);
        struct value list = {
            .kind = VALUE_LIST, .item = pool->value, .n_item = pool->n, .r = { 0, 1 }
        };
        struct slot *s = &t->slot[t->n_slot];
        if (t->n_slot == TPL_SLOTS_MAX)
            return native_refuse(r, "too many variables");
        *s = (struct slot){ .pick = PICK_DISTINCT };
        for (uint32_t k = i; k < t->n_var && s->n_var < TPL_PICK_MAX; k++)
            if (t->var[k].slot < 0 && str_eq(r->pool_of[k], r->pool_of[i]) &&
                t->var[k].noop == t->var[i].noop) {
                t->var[k].slot = (int32_t)t->n_slot;
                t->var[k].place = s->n_var;
                s->var[s->n_var++] = k;
            }
        s->pick = s->n_var == 1 ? PICK_ONE : PICK_DISTINCT;
        if (template_domain(t, s, &list, pool, false, r->err) != ST_OK)
            return false;
        t->n_slot++;
    }
    return true;
}

static bool read_lets(struct reader *r, json_t *lets)
{
    const char *name;
    json_t *v;
    json_object_foreach(lets, name, v)
    {
        const struct node *n = NULL;
        if (!json_is_string(v) || !native_parse(r, json_str(v), &n)) {
            err_set(r->err, ST_FORMAT, "an expression is wanted");
            err_ctx(r->err, "let '%.40s'", name);
            return false;
        }
        struct tvar *x = new_var(r, name); /* after parsing: it names only earlier ones */
        if (!x)
            return false;
        x->derived = n;
        x->kind = ITEM_NUMBER;
        x->hidden = true;
    }
    return true;
}

/* ---- conditions and answers ---- */

/* The tree with derived variables replaced by what they are made of. */
static const struct node *inlined(struct reader *r, const struct node *n)
{
    if (n->op == EXPR_VAR)
        return r->t->var[n->var].derived ? inlined(r, r->t->var[n->var].derived) : n;
    if (n->n_kid == 0)
        return n;
    struct node *copy = mem_get(&r->t->mem, sizeof *copy);
    const struct node **kid = mem_array(&r->t->mem, n->n_kid, sizeof(struct node *));
    if (!copy || !kid)
        return n; /* mem.failed refuses the template */
    *copy = *n;
    copy->kid = kid;
    for (uint32_t i = 0; i < n->n_kid; i++)
        kid[i] = inlined(r, n->kid[i]);
    return copy;
}

/* "@1+: expression" holds at those levels only. */
static bool cond_levels(struct reader *r, struct str *text, unsigned *levels)
{
    size_t colon = str_find(*text, STR(":"), 0);
    if (text->n == 0 || text->p[0] != '@')
        return true;
    if (colon == SIZE_MAX || !text_levels((struct str){ text->p + 1, colon - 1 }, levels))
        return native_refuse(r, "levels of a condition are written \"@1+: expression\"");
    *text = str_trim((struct str){ text->p + colon + 1, text->n - colon - 1 });
    return true;
}

static bool read_where(struct reader *r, const json_t *list)
{
    struct template *t = r->t;
    if (list && !json_is_array(list))
        return native_refuse(r, "'where' must be a list of expressions");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        struct cond *c = &t->cond[t->n_cond];
        if (t->n_cond == TPL_CONDS_MAX || !json_is_string(v))
            return native_refuse(r, "'where' holds at most 64 texts");
        *c = (struct cond){ .text = native_own(r, json_str(v)), .levels = LEVELS_ALL };
        if (!c->text.p)
            return native_no_memory(r);
        struct str text = c->text;
        if (!cond_levels(r, &text, &c->levels) || !native_parse(r, text, &c->expr)) {
            err_ctx(r->err, "where %zu", i + 1);
            return false;
        }
        c->expr = inlined(r, c->expr);
        c->has_text = expr_has_text(c->expr);
        t->n_cond++;
    }
    return true;
}

static bool level_key(struct str key, int *ret)
{
    int64_t level;
    struct err ignored = ERR_INIT;
    if (num_i64(key, "level", LEVEL_MIN, LEVEL_MAX, &level, &ignored) != ST_OK)
        return false;
    *ret = (int)level;
    return true;
}

static bool read_answer(struct reader *r, int level, const json_t *v)
{
    struct tlevel *l = &r->t->level[level - LEVEL_MIN];
    if (!json_is_string(v))
        return native_refuse(r, "an answer is an expression");
    l->answer_text = native_own(r, json_str(v));
    l->present = true;
    if (!l->answer_text.p)
        return native_no_memory(r);
    return native_parse(r, l->answer_text, &l->answer);
}

static bool read_levels(struct reader *r, json_t *answer, json_t *gold)
{
    const char *key;
    json_t *v;
    int level;
    if (!answer)
        return native_refuse(r, "'answer' is missing");
    if (json_is_string(answer) && !read_answer(r, 0, answer))
        return err_ctx(r->err, "answer"), false;
    json_object_foreach(answer, key, v)
    {
        if (!level_key(str_c(key), &level))
            return native_refuse(r, "'answer' has keys \"-1\", \"0\", \"1\", \"2\"");
        if (!read_answer(r, level, v))
            return err_ctx(r->err, "answer %d", level), false;
    }
    if (gold && !json_is_object(gold)) {
        r->t->level[-LEVEL_MIN].has_gold = true;
        return number_of(r, gold, &r->t->level[-LEVEL_MIN].gold);
    }
    json_object_foreach(gold, key, v)
    {
        if (!level_key(str_c(key), &level))
            return native_refuse(r, "'gold' has keys \"-1\", \"0\", \"1\", \"2\"");
        r->t->level[level - LEVEL_MIN].has_gold = true;
        if (!number_of(r, v, &r->t->level[level - LEVEL_MIN].gold))
            return false;
    }
    return template_levels(r->t) != 0 || native_refuse(r, "there is no answer at any level");
}

/* ---- the whole ---- */

static bool read_tags(struct reader *r, const json_t *list)
{
    struct template *t = r->t;
    size_t n = json_array_size(list);
    if (n > 64)
        return native_refuse(r, "more than 64 tags");
    t->tag = mem_array(&t->mem, n, sizeof *t->tag);
    for (size_t i = 0; t->tag && i < n; i++)
        if (json_is_string(json_array_get(list, i)))
            t->tag[t->n_tag++] = native_own(r, json_str(json_array_get(list, i)));
    return true;
}

static bool known_keys(struct reader *r, json_t *json)
{
    static const char *const known[] = { "format", "id",   "title",    "unit", "license", "source",
                                         "tags",   "text", "solution", "vars", "let",     "where",
                                         "answer", "gold", "noop",     NULL };
    const char *key;
    json_t *v;
    json_object_foreach(json, key, v)
    {
        bool ok = false;
        for (int i = 0; known[i]; i++)
            ok |= strcmp(key, known[i]) == 0;
        if (!ok)
            template_diag(r->t, DIAG_WARNING, "unknown-key", "'%.40s' has no meaning", key);
    }
    return true;
}

static bool identity(struct reader *r, const json_t *json)
{
    struct template *t = r->t;
    struct str id = STR(""), format = STR("gsmt/1"),
               *field[] = { &t->title, &t->unit, &t->license, &t->source };
    static const char *const key[] = { "title", "unit", "license", "source" };
    if (json_get_str(json, "format", false, &format, r->err) != ST_OK ||
        json_get_str(json, "id", true, &id, r->err) != ST_OK)
        return false;
    if (!str_is(format, "gsmt/1"))
        return native_refuse(r, "'format' must be \"gsmt/1\"");
    bool ok = id.n > 0 && id.n <= 64;
    for (size_t i = 0; i < id.n && ok; i++)
        ok = (id.p[i] >= 'a' && id.p[i] <= 'z') || (id.p[i] >= '0' && id.p[i] <= '9') ||
             strchr("-_.", id.p[i]);
    if (!ok)
        return native_refuse(r, "'id' must be 1 to 64 of a-z 0-9 - _ .");
    t->id = native_own(r, id);
    for (size_t i = 0; i < 4; i++) {
        struct str s = STR("");
        if (json_get_str(json, key[i], false, &s, r->err) != ST_OK)
            return false;
        *field[i] = native_own(r, s);
    }
    if (t->title.n == 0)
        t->title = t->id;
    struct buf b = BUF_INIT;
    struct sha256 h;
    if (json_write(json, &b, r->err) == ST_OK) {
        sha256_init(&h);
        sha256_add(&h, b.p, b.n);
        sha256_hex(&h, t->hash);
    }
    buf_clear(&b);
    return r->err->code == ST_OK;
}

static bool read_ans(struct reader *r)
{
    struct tvar *v = new_var(r, "ans");
    if (!v)
        return false;
    v->kind = ITEM_NUMBER;
    v->hidden = true;
    r->t->ans = (int32_t)(r->t->n_var - 1);
    return true;
}

static bool read_all(struct reader *r, const json_t *json)
{
    struct template *t = r->t;
    struct str text = STR(""), solution = STR("");
    if (!json_is_object(json))
        return native_refuse(r, "a template is a JSON object");
    if (!identity(r, json) || !known_keys(r, (json_t *)(uintptr_t)json) ||
        json_get_str(json, "text", true, &text, r->err) != ST_OK ||
        json_get_str(json, "solution", false, &solution, r->err) != ST_OK)
        return false;
    struct text_reader tr = { t, template_scope(&r->names), r->err };
    return read_tags(r, json_object_get(json, "tags")) &&
           native_vars(r, json_object_get(json, "vars"), -1) && native_pool_slots(r) &&
           read_lets(r, json_object_get(json, "let")) &&
           read_where(r, json_object_get(json, "where")) &&
           (text_pieces(&tr, text, false, &t->question) || (err_ctx(r->err, "text"), false)) &&
           (text_pieces(&tr, solution, true, &t->solution) ||
            (err_ctx(r->err, "solution"), false)) &&
           read_levels(r, json_object_get(json, "answer"), json_object_get(json, "gold")) &&
           read_ans(r) && native_noops(r, json_object_get(json, "noop")) &&
           (!t->mem.failed || native_no_memory(r));
}

enum status template_native(const json_t *json, const struct pools *pools, struct template **ret,
                            struct err *err)
{
    struct template *t = template_new(err);
    if (!t)
        return err->code;
    struct reader r = { .t = t, .pools = pools, .err = err };
    r.names = (struct template_scope){ .t = t, .pools = pools };
    if (!read_all(&r, json)) {
        template_free(t);
        return err_set(err, ST_FORMAT, "the template cannot be read");
    }
    *ret = t;
    return ST_OK;
}
