/* eval/template_public.c - reads the public format (reference gsm-symbolic.md, 1.3 and 1.4): six
 * JSON keys, a text with {name, original}, and the sections #init, #conditions, #answer. What the
 * public files do beyond a clean grammar is accepted with a finding each; the source is never
 * changed. */
#include "engine/base/hash.h"
#include "engine/base/utf8.h"
#include "eval/template.h"
#include "eval/words.h"

struct reader {
    struct template *t;
    struct template_scope names;
    const struct pools *pools;
    struct err *err;
    int level;
};

static bool no_memory(struct reader *r)
{
    err_set(r->err, ST_NOMEM, "a template");
    return false;
}

static bool parse(struct reader *r, struct str text, const struct node **ret)
{
    struct expr_scope scope = template_scope(&r->names);
    return expr_parse(text, &scope, &r->t->mem, ret, r->err) == ST_OK;
}

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!name_char(s.p[i], i == 0))
            return false;
    return s.n > 0 && s.n <= 64;
}

/* ---- sections ---- */

struct sections {
    struct str text, init, conditions, answer;
    bool has_answer;
};

/* A header at the start of a line: where its line begins, SIZE_MAX: none. */
static size_t header(struct str s, const char *name, size_t from)
{
    for (size_t at = from; (at = str_find(s, str_c(name), at)) != SIZE_MAX; at++)
        if (at == 0 || s.p[at - 1] == '\n')
            return at;
    return SIZE_MAX;
}

static struct str cut(struct str s, size_t from, size_t to)
{
    return (struct str){ s.p + from, to - from };
}

static bool split(struct reader *r, struct str s, struct sections *ret)
{
    size_t init = header(s, "#init", 0), answer = header(s, "#answer", 0),
           cond = header(s, "#conditions", 0);
    if (init == SIZE_MAX || answer == SIZE_MAX || answer < init ||
        (cond != SIZE_MAX && (cond < init || cond > answer))) {
        err_set(r->err, ST_FORMAT, "'question_annotated' needs #init, then #answer");
        return false;
    }
    ret->text = str_trim(cut(s, 0, init));
    ret->init = cut(s, init + 5, cond == SIZE_MAX ? answer : cond);
    ret->conditions = cond == SIZE_MAX ? cut(s, 0, 0) : cut(s, cond + 11, answer);
    struct str a = cut(s, answer + 7, s.n);
    size_t colon = 0;
    while (colon < a.n && a.p[colon] == ' ')
        colon++;
    if (colon < a.n && a.p[colon] == '=')
        template_diag(r->t, DIAG_NOTE, "lenient", "accepted: '#answer =' for '#answer:'");
    if (colon < a.n && (a.p[colon] == '=' || a.p[colon] == ':'))
        colon++;
    a = cut(a, colon, a.n);
    size_t end = str_find(str_trim(a), STR("\n"), 0);
    ret->answer = str_trim(a);
    if (end != SIZE_MAX)
        ret->answer = cut(ret->answer, 0, end);
    return true;
}

/* The next "- item" line; false at the end. A line that is none is refused. */
static bool bullet(struct reader *r, struct str *left, struct str *item)
{
    while (left->n) {
        size_t end = str_find(*left, STR("\n"), 0);
        struct str line = str_trim(cut(*left, 0, end == SIZE_MAX ? left->n : end));
        *left = end == SIZE_MAX ? cut(*left, left->n, left->n) : cut(*left, end + 1, left->n);
        if (line.n == 0 || str_is(line, ":"))
            continue;
        if (line.p[0] != '-') {
            err_set(r->err, ST_FORMAT, "a line that begins with no '-': '%.*s'",
                    (int)(line.n > 60 ? 60 : line.n), line.p);
            return false;
        }
        if (line.n > 1 && line.p[1] != ' ')
            template_diag(r->t, DIAG_NOTE, "lenient", "accepted: no blank behind a '-'");
        *item = str_trim(cut(line, 1, line.n));
        return true;
    }
    return false;
}

/* ---- #init ---- */

static enum item_kind kind_of_list(const struct value *list)
{
    if (list->n_item && list->item[0].kind == VALUE_NUM)
        return ITEM_NUMBER;
    return list->n_item && words_currency(list->item[0].s) == list->item[0].s.n ? ITEM_SURFACE
                                                                                : ITEM_NAME;
}

/* How a right-hand side draws: the call itself says. */
static bool how(struct reader *r, const struct node *rhs, struct slot *s)
{
    if (rhs->op != EXPR_CALL || rhs->n_kid != 2)
        return true;
    const char *fn = expr_fn(rhs->fn)->name;
    bool sample = strcmp(fn, "sample") == 0, run = strcmp(fn, "sample_sequential") == 0;
    if (!sample && !run)
        return true;
    s->pick = run ? PICK_RUN : PICK_DISTINCT;
    const struct value *k = &rhs->kid[1]->lit;
    if (rhs->kid[1]->op == EXPR_CONST && k->kind == VALUE_NUM && k->r.d == 1 &&
        k->r.n == (int64_t)s->n_var)
        return true;
    err_set(r->err, ST_FORMAT, "%s() draws another number of values than there are names", fn);
    return false;
}

static const struct pool *single_pool(const struct reader *r, const struct node *rhs)
{
    while (rhs->op == EXPR_CALL && rhs->n_kid && !expr_fn(rhs->fn)->pure)
        rhs = rhs->kid[0];
    return rhs->op == EXPR_POOL ? pools_find(r->pools, rhs->lit.s) : NULL;
}

static bool add_var(struct reader *r, struct slot *s, struct str name, bool sigil)
{
    struct template *t = r->t;
    if (!is_name(name) || t->n_var == TPL_VARS_MAX || s->n_var == TPL_PICK_MAX) {
        err_set(r->err, ST_FORMAT, "'%.*s' is no name, or there are too many variables",
                (int)(name.n > 40 ? 40 : name.n), name.p);
        return false;
    }
    if (template_var(t, name) >= 0)
        template_diag(t, DIAG_WARNING, "duplicate-variable",
                      "'%.*s' is defined twice; the later definition counts", (int)name.n, name.p);
    s->var[s->n_var] = t->n_var;
    t->var[t->n_var++] = (struct tvar){ .name = mem_str(&t->mem, name),
                                        .sigil = sigil,
                                        .slot = (int32_t)t->n_slot,
                                        .place = s->n_var++,
                                        .noop = -1 };
    return t->var[t->n_var - 1].name.p ? true : no_memory(r);
}

static bool names_of(struct reader *r, struct str left, struct slot *s)
{
    bool sigil = false;
    while (left.n) {
        size_t comma = str_find(left, STR(","), 0);
        struct str name = str_trim(cut(left, 0, comma == SIZE_MAX ? left.n : comma));
        left = comma == SIZE_MAX ? cut(left, left.n, left.n) : cut(left, comma + 1, left.n);
        if (name.n && name.p[0] == '$') {
            sigil = true;
            name = cut(name, 1, name.n);
        }
        if (!add_var(r, s, name, sigil))
            return false;
    }
    return true;
}

static bool init_line(struct reader *r, struct str line)
{
    struct template *t = r->t;
    struct slot *s = &t->slot[t->n_slot];
    const struct node *rhs;
    struct value list;
    size_t eq = str_find(line, STR("="), 0);
    if (eq == SIZE_MAX || t->n_slot == TPL_SLOTS_MAX) {
        err_set(r->err, ST_FORMAT, "an #init line without '=', or too many of them");
        return false;
    }
    *s = (struct slot){ .pick = PICK_ONE };
    if (!parse(r, str_trim(cut(line, eq + 1, line.n)), &rhs) || !names_of(r, cut(line, 0, eq), s) ||
        !how(r, rhs, s))
        return false;
    struct expr_run run = { .mem = &t->mem };
    if (expr_value(rhs, &run, &list, r->err) != ST_OK)
        return false;
    if (list.kind != VALUE_LIST) { /* a constant */
        struct value *one = mem_get(&t->mem, sizeof *one);
        if (!one)
            return no_memory(r);
        *one = list;
        list = (struct value){ .kind = VALUE_LIST, .item = one, .n_item = 1, .r = { 0, 1 } };
    }
    if (template_domain(t, s, &list, single_pool(r, rhs), false, r->err) != ST_OK)
        return false;
    for (uint32_t i = 0; i < s->n_var; i++)
        t->var[s->var[i]].kind = kind_of_list(&list);
    t->n_slot++;
    return true;
}

static bool read_init(struct reader *r, struct str left)
{
    struct str line;
    while (bullet(r, &left, &line))
        if (!init_line(r, line)) {
            err_ctx(r->err, "#init '%.*s'", (int)(line.n > 40 ? 40 : line.n), line.p);
            return false;
        }
    return r->err->code == ST_OK;
}

static bool read_conditions(struct reader *r, struct str left)
{
    struct template *t = r->t;
    struct str line;
    while (bullet(r, &left, &line)) {
        struct cond *c = &t->cond[t->n_cond];
        if (t->n_cond == TPL_CONDS_MAX) {
            err_set(r->err, ST_FORMAT, "more than %d conditions", TPL_CONDS_MAX);
            return false;
        }
        *c = (struct cond){ .text = mem_str(&t->mem, line), .levels = LEVELS_ALL };
        if (!c->text.p)
            return no_memory(r);
        if (!parse(r, line, &c->expr)) {
            err_ctx(r->err, "#conditions");
            return false;
        }
        c->has_text = expr_has_text(c->expr);
        t->n_cond++;
    }
    return r->err->code == ST_OK;
}

/* ---- texts ---- */

static bool add_piece(struct reader *r, struct pieces *ps, struct piece p)
{
    if (!ps->piece)
        ps->piece = mem_array(&r->t->mem, TPL_PIECES_MAX, sizeof *ps->piece);
    if (!ps->piece)
        return no_memory(r);
    if (ps->n == TPL_PIECES_MAX) {
        err_set(r->err, ST_FORMAT, "more than %d parts in a text", TPL_PIECES_MAX);
        return false;
    }
    p.levels = LEVEL_BIT(r->level);
    ps->piece[ps->n++] = p;
    return true;
}

static bool literal(struct reader *r, struct pieces *ps, struct str s)
{
    struct str own = mem_str(&r->t->mem, s);
    if (!own.p)
        return no_memory(r);
    return s.n == 0 || add_piece(r, ps, (struct piece){ .text = own, .var = -1 });
}

static void note_original(struct reader *r, struct tvar *v, struct str text)
{
    if (v->has_original) {
        if (!str_eq(v->original_text, text))
            template_diag(r->t, DIAG_WARNING, "originals-differ",
                          "'%.*s' stands for '%.*s' and for '%.*s'; the first counts",
                          (int)v->name.n, v->name.p, (int)v->original_text.n, v->original_text.p,
                          (int)text.n, text.p);
        return;
    }
    v->has_original = true;
    v->original_text = text;
}

static bool placeholder(struct reader *r, struct str inside)
{
    size_t comma = str_find(inside, STR(","), 0);
    struct str name = str_trim(cut(inside, 0, comma == SIZE_MAX ? inside.n : comma));
    int32_t var = template_var(r->t, name);
    if (var < 0 || comma == SIZE_MAX) {
        err_set(r->err, ST_FORMAT, "placeholder '{%.*s}' %s", (int)(inside.n > 40 ? 40 : inside.n),
                inside.p, var < 0 ? "names no variable" : "has no original");
        return false;
    }
    struct str original = mem_str(&r->t->mem, str_trim(cut(inside, comma + 1, inside.n)));
    if (!original.p)
        return no_memory(r);
    note_original(r, &r->t->var[var], original);
    return add_piece(r, &r->t->question, (struct piece){ .var = var, .original = original });
}

static bool read_question(struct reader *r, struct str s)
{
    size_t at = 0;
    for (;;) {
        size_t open = str_find(s, STR("{"), at);
        if (open == SIZE_MAX)
            return literal(r, &r->t->question, cut(s, at, s.n));
        size_t close = str_find(s, STR("}"), open);
        if (close == SIZE_MAX) {
            err_set(r->err, ST_FORMAT, "a '{' in the text that is never closed");
            return false;
        }
        if (!literal(r, &r->t->question, cut(s, at, open)) ||
            !placeholder(r, cut(s, open + 1, close)))
            return false;
        at = close + 1;
    }
}

/* The solution: {expr}, without the calculator marks <<...>>. */
static bool read_solution(struct reader *r, struct str s)
{
    size_t at = 0;
    while (at < s.n) {
        size_t open = str_find(s, STR("{"), at), mark = str_find(s, STR("<<"), at);
        if (mark != SIZE_MAX && (open == SIZE_MAX || mark < open)) {
            size_t line = str_find(s, STR("\n"), mark), end = str_find(s, STR(">>"), mark);
            size_t skip = 2;
            if (end == SIZE_MAX || (line != SIZE_MAX && end > line)) {
                template_diag(r->t, DIAG_WARNING, "calculator-mark",
                              "a '<<' that no '>>' closes on its line");
                end = str_find(s, STR(">"), mark);
                skip = 1;
            }
            if (!literal(r, &r->t->solution, cut(s, at, mark)))
                return false;
            at = end == SIZE_MAX ? s.n : end + skip;
            continue;
        }
        size_t close = open == SIZE_MAX ? SIZE_MAX : str_find(s, STR("}"), open);
        if (!literal(r, &r->t->solution, cut(s, at, open == SIZE_MAX ? s.n : open)))
            return false;
        if (open == SIZE_MAX)
            return true;
        struct piece p = { .var = -1 };
        if (close == SIZE_MAX) {
            err_set(r->err, ST_FORMAT, "a '{' in the solution that is never closed");
            return false;
        }
        if (!parse(r, str_trim(cut(s, open + 1, close)), &p.expr)) {
            err_ctx(r->err, "solution");
            return false;
        }
        if (!add_piece(r, &r->t->solution, p))
            return false;
        at = close + 1;
    }
    return true;
}

/* "#### {expr}", the last line, is the gold; the solution is what stands before it. */
static bool read_answers(struct reader *r, struct str body, struct str second)
{
    struct tlevel *l = &r->t->level[r->level - LEVEL_MIN];
    size_t at = SIZE_MAX, next = 0;
    while ((next = str_find(body, STR("####"), next)) != SIZE_MAX)
        at = next++;
    struct str gold = at == SIZE_MAX ? body : str_trim(cut(body, at + 4, body.n));
    if (at == SIZE_MAX || gold.n < 3 || gold.p[0] != '{' || gold.p[gold.n - 1] != '}') {
        err_set(r->err, ST_FORMAT, "'answer_annotated' must end in '#### {expression}'");
        return false;
    }
    l->present = true;
    l->answer_text = mem_str(&r->t->mem, str_trim(cut(gold, 1, gold.n - 1)));
    l->second_text = mem_str(&r->t->mem, second);
    if (!l->answer_text.p || !l->second_text.p)
        return no_memory(r);
    if (!parse(r, l->answer_text, &l->answer) || !parse(r, second, &l->second)) {
        err_ctx(r->err, "the answer");
        return false;
    }
    return read_solution(r, str_trim(cut(body, 0, at)));
}

/* ---- originals ---- */

/* The value that an original's text stands for, preferring the domain's own words. */
static void settle_original(struct template *t, struct tvar *v)
{
    const struct slot *s = &t->slot[v->slot];
    for (uint32_t i = 0; i < s->n; i++) {
        const struct candidate *c = &s->cand[i];
        bool same = c->v.kind == VALUE_STR && str_eq(c->v.s, v->original_text);
        for (uint32_t k = 0; k < c->n_form && !same; k++)
            same = c->form[k].n && str_eq(c->form[k], v->original_text);
        if (same) {
            v->original = c->v;
            v->original.s = v->original_text;
            v->word = c->word;
            return;
        }
    }
    struct rational r;
    if (v->kind == ITEM_NUMBER && words_parse(v->original_text, &r)) {
        bool point = memchr(v->original_text.p, '.', v->original_text.n) != NULL;
        v->original = value_num(r, r.d == 1 && !point ? NUM_INT : point ? NUM_FLOAT : NUM_FRACTION);
        v->original.s = v->original_text;
    } else {
        v->original = value_str(v->original_text);
    }
}

/* All conditions that name the variable hold, and there is one. */
static bool conditions_hold(struct template *t, uint32_t var, const struct value *val)
{
    bool named = false;
    for (uint32_t c = 0; c < t->n_cond; c++) {
        bool seen[TPL_VARS_MAX] = { false };
        struct value yes;
        struct expr_run run = { .var = val, .n_var = t->n_var, .mem = &t->mem };
        expr_vars(t->cond[c].expr, seen);
        if (!seen[var])
            continue;
        named = true;
        if (!expr_eval(t->cond[c].expr, &run, &yes) || !value_true(&yes))
            return false;
    }
    return named;
}

enum { HIDDEN_MAX = 20000 };

/* Names that only conditions use have no original text: their value is the first under which their
 * conditions hold, of the domain (which need not hold it) or of the whole numbers. */
static void solve_hidden(struct template *t)
{
    struct value val[TPL_VARS_MAX];
    for (uint32_t i = 0; i < t->n_var; i++)
        val[i] = t->var[i].has_original ? t->var[i].original : (struct value){ .r = { 0, 1 } };
    for (uint32_t i = 0; i < t->n_var; i++) {
        struct tvar *v = &t->var[i];
        const struct slot *s = &t->slot[v->slot];
        if (v->has_original || v->kind != ITEM_NUMBER)
            continue;
        for (uint32_t k = 0; k < s->n + HIDDEN_MAX && !v->has_original; k++) {
            val[i] = k < s->n ? s->cand[k].v : value_int(k - s->n);
            v->has_original = conditions_hold(t, i, val);
        }
        if (!v->has_original && s->n == 1) { /* a constant */
            v->has_original = true;
            val[i] = s->cand[0].v;
        }
        if (!v->has_original)
            val[i] = (struct value){ .r = { 0, 1 } };
        v->original = val[i];
    }
}

static void usage(struct reader *r)
{
    struct template *t = r->t;
    bool used[TPL_VARS_MAX], shown[TPL_VARS_MAX] = { false };
    template_used(t, r->level, used);
    for (uint32_t i = 0; i < t->question.n; i++)
        if (t->question.piece[i].var >= 0)
            shown[t->question.piece[i].var] = true;
    for (uint32_t i = 0; i < t->n_var; i++) {
        struct tvar *v = &t->var[i];
        bool shadowed = template_var(t, v->name) != (int32_t)i;
        v->hidden = !shown[i];
        if (!used[i] && !shadowed)
            template_diag(t, DIAG_WARNING, "unused-variable", "'%.*s' is never used",
                          (int)v->name.n, v->name.p);
        if (v->has_original)
            settle_original(t, v);
    }
    solve_hidden(t);
}

/* ---- the file ---- */

static bool identity(struct reader *r, const json_t *json, struct str question, struct str answer)
{
    struct template *t = r->t;
    struct sha256 h;
    int64_t id = 0;
    sha256_init(&h);
    sha256_add(&h, question.p, question.n);
    sha256_add(&h, "\0", 1);
    sha256_add(&h, answer.p, answer.n);
    sha256_hex(&h, t->hash);
    t->public_format = true;
    t->unit = t->license = STR("");
    t->source = STR("public");
    if (json_get_i64(json, "id_orig", false, -1, INT64_MAX, &t->id_original, r->err) != ST_OK ||
        json_get_i64(json, "id_shuffled", true, 0, 99999, &id, r->err) != ST_OK)
        return false;
    char name[32];
    snprintf(name, sizeof name, "gsm-%04lld", (long long)id);
    t->id = mem_str(&t->mem, str_c(name));
    t->title = t->id;
    struct str oq = STR(""), oa = STR("");
    if (json_get_str(json, "question", false, &oq, r->err) != ST_OK ||
        json_get_str(json, "answer", false, &oa, r->err) != ST_OK)
        return false;
    t->original_question = mem_str(&t->mem, oq);
    t->original_answer = mem_str(&t->mem, oa);
    if (!t->id.p || !t->original_question.p || !t->original_answer.p)
        return no_memory(r);
    size_t gold = str_find(oa, STR("####"), 0);
    struct tlevel *l = &t->level[r->level - LEVEL_MIN];
    if (gold != SIZE_MAX && r->level == 0)
        l->has_gold = words_parse(cut(oa, gold + 4, oa.n), &l->gold);
    return true;
}

static bool read_all(struct reader *r, const json_t *json)
{
    struct str question = STR(""), answer = STR("");
    struct sections s;
    if (json_get_str(json, "question_annotated", true, &question, r->err) != ST_OK ||
        json_get_str(json, "answer_annotated", true, &answer, r->err) != ST_OK)
        return false;
    if (question.n > TPL_TEXT_MAX || answer.n > TPL_TEXT_MAX) {
        err_set(r->err, ST_FORMAT, "a text of more than %d bytes", TPL_TEXT_MAX);
        return false;
    }
    if (!identity(r, json, question, answer) || !split(r, question, &s) || !read_init(r, s.init) ||
        !read_conditions(r, s.conditions) || !read_question(r, s.text) ||
        !read_answers(r, answer, s.answer))
        return false;
    r->t->text_source = mem_str(&r->t->mem, s.text);
    usage(r);
    return !r->t->mem.failed || no_memory(r);
}

enum status template_public(const json_t *json, const struct pools *pools, int level,
                            struct template **ret, struct err *err)
{
    struct template *t = template_new(err);
    if (!t)
        return err->code;
    struct reader r = { .t = t, .pools = pools, .err = err, .level = level };
    r.names = (struct template_scope){ .t = t, .pools = pools, .lenient = true };
    if (!read_all(&r, json)) {
        template_free(t);
        return err_set(err, ST_FORMAT, "the template cannot be read");
    }
    *ret = t;
    return ST_OK;
}
