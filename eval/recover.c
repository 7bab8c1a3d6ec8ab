/* eval/recover.c - see recover.h. The matcher walks the template's pieces with backtracking: a
 * literal must stand there, white space folded; a variable takes the shortest text that lets the
 * rest match, the same one each time it occurs but for its first letter's case. */
#include "eval/recover.h"

#include "eval/words.h"

enum { BUDGET = 2000000, VALUE_MAX = 60 };

struct matcher {
    const struct template *t;
    unsigned bit;
    struct str text; /* white space folded */
    struct str bound[TPL_VARS_MAX];
    struct draw *draw;
    struct mem *mem;
    uint32_t steps;
    int level;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Equal but for case; releases capitalise, and one of them lowers the rest. */
static bool alike(struct str a, struct str b)
{
    bool same = a.n == b.n;
    for (size_t i = 0; i < a.n && same; i++)
        same = lower(a.p[i]) == lower(b.p[i]);
    return same;
}

/* The literal at `at`, blanks folded on both sides: where it ends, SIZE_MAX: it is not there. */
static size_t literal(struct str text, size_t at, struct str lit)
{
    for (size_t i = 0; i < lit.n; i++) {
        if (strchr(" \n\t\r", lit.p[i])) {
            bool before = at > 0 && text.p[at - 1] == ' ';
            if (at < text.n && text.p[at] == ' ')
                at++;
            else if (!before && at < text.n)
                return SIZE_MAX;
        } else if (at < text.n &&
                   (text.p[at] == lit.p[i] || (i == 0 && lower(text.p[at]) == lower(lit.p[i])))) {
            at++;
        } else {
            return SIZE_MAX;
        }
    }
    return at;
}

/* ---- from texts to values ---- */

static bool from_domain(const struct tvar *v, const struct slot *s, struct str text,
                        struct value *ret)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct candidate *c = &s->cand[i];
        bool hit = c->v.kind == VALUE_STR && alike(c->v.s, text);
        for (uint32_t k = 0; k < c->n_form && !hit; k++)
            hit = c->form[k].n && alike(c->form[k], text);
        if (hit) {
            *ret = c->v;
            ret->s = text;
            return true;
        }
    }
    return false;
}

static bool value_of(struct matcher *m, uint32_t var, struct value *ret)
{
    const struct tvar *v = &m->t->var[var];
    const struct slot *s = &m->t->slot[v->slot];
    struct str text = m->bound[var];
    struct rational r;
    if (from_domain(v, s, text, ret))
        return true;
    if (v->kind != ITEM_NUMBER) {
        *ret = value_str(text);
        return true;
    }
    if (!words_parse(text, &r))
        return false;
    bool point = memchr(text.p, '.', text.n) != NULL;
    *ret = value_num(r, point ? NUM_FLOAT : r.d == 1 ? NUM_INT : NUM_FRACTION);
    for (uint32_t i = 0; i < s->n; i++) /* the type that the generator had */
        if (s->cand[i].v.kind == VALUE_NUM && rat_eq(s->cand[i].v.r, r))
            ret->type = s->cand[i].v.type;
    ret->s = text;
    return true;
}

static bool holds(struct matcher *m)
{
    for (uint32_t i = 0; i < m->t->n_cond; i++) {
        struct expr_run run = { .var = m->draw->val, .n_var = m->t->n_var, .mem = m->mem };
        struct value v;
        if (!expr_eval(m->t->cond[i].expr, &run, &v) || !value_true(&v))
            return false;
    }
    return true;
}

/* Variables that the text does not show take the first values under which all conditions hold. */
static bool solve(struct matcher *m, uint32_t var)
{
    while (var < m->t->n_var && m->draw->val[var].kind != VALUE_NONE)
        var++;
    if (var == m->t->n_var)
        return holds(m);
    const struct slot *s = &m->t->slot[m->t->var[var].slot];
    for (uint32_t i = 0; i < s->n; i++) {
        if (++m->steps > BUDGET)
            return false;
        m->draw->val[var] = s->cand[i].v;
        if (solve(m, var + 1))
            return true;
        if (m->t->var[var].kind != ITEM_NUMBER)
            break; /* names that nothing shows cannot matter */
    }
    m->draw->val[var] = (struct value){ .r = { 0, 1 } };
    return false;
}

static bool settle(struct matcher *m)
{
    for (uint32_t i = 0; i < m->t->n_var; i++) {
        m->draw->val[i] = (struct value){ .r = { 0, 1 } };
        if (m->bound[i].p && !value_of(m, i, &m->draw->val[i]))
            return false;
    }
    return solve(m, 0);
}

/* ---- matching ---- */

static bool match(struct matcher *m, uint32_t piece, size_t at);

static bool bind(struct matcher *m, uint32_t piece, uint32_t var, size_t at)
{
    bool number = m->t->var[var].kind == ITEM_NUMBER;
    for (size_t n = 1; n <= VALUE_MAX && at + n <= m->text.n; n++) {
        struct str s = { m->text.p + at, n };
        char next = at + n < m->text.n ? m->text.p[at + n] : '\0';
        bool digit = s.p[n - 1] >= '0' && s.p[n - 1] <= '9';
        if (s.p[n - 1] == '?' || (number && digit && next >= '0' && next <= '9'))
            continue; /* a number is not cut in two */
        m->bound[var] = s;
        if (match(m, piece + 1, at + n))
            return true;
    }
    m->bound[var] = (struct str){ NULL, 0 };
    return false;
}

static bool match(struct matcher *m, uint32_t piece, size_t at)
{
    const struct pieces *q = &m->t->question;
    while (piece < q->n && !(q->piece[piece].levels & m->bit))
        piece++;
    if (++m->steps > BUDGET)
        return false;
    if (piece == q->n)
        return at == m->text.n && settle(m);
    const struct piece *p = &q->piece[piece];
    if (p->var < 0) {
        size_t end = literal(m->text, at, p->text);
        return end != SIZE_MAX && match(m, piece + 1, end);
    }
    struct str had = m->bound[p->var];
    if (!had.p)
        return bind(m, piece, (uint32_t)p->var, at);
    return at + had.n <= m->text.n && alike(had, (struct str){ m->text.p + at, had.n }) &&
           match(m, piece + 1, at + had.n);
}

static struct str fold(struct mem *mem, struct str s)
{
    char *p = mem_get(mem, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; p && i < s.n; i++) {
        bool blank = strchr(" \n\t\r", s.p[i]) != NULL;
        if (!blank || (n && p[n - 1] != ' '))
            p[n++] = blank ? ' ' : s.p[i];
    }
    while (p && n && p[n - 1] == ' ')
        n--;
    return (struct str){ p, n };
}

bool recover(const struct template *t, int level, struct str question, struct mem *mem,
             struct draw *ret, struct err *err)
{
    struct matcher m = { .t = t, .bit = LEVEL_BIT(level), .draw = ret, .mem = mem, .level = level };
    memset(ret, 0, sizeof *ret);
    m.text = fold(mem, question);
    bool ok = m.text.p && match(&m, 0, 0);
    if (mem->failed)
        err_set(err, ST_NOMEM, "matching a row");
    return ok && err->code == ST_OK;
}

/* ---- whole files ---- */

int recover_level(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strstr(name, "p1") ? 1 : strstr(name, "p2") ? 2 : 0;
}

static const struct template *template_of(const struct library *l, int64_t id, int level)
{
    char name[32];
    snprintf(name, sizeof name, "gsm-%04lld", (long long)id);
    for (size_t i = 0; i < l->n; i++) {
        const struct template *t = l->entry[i].t;
        if (t && t->public_format && str_is(t->id, name) && template_level(t, level)->present)
            return t;
    }
    return NULL;
}

static bool same_body(struct mem *mem, struct str made, struct str row)
{
    struct str a = fold(mem, made), b = fold(mem, row);
    return a.p && b.p && str_eq(a, b);
}

static void report(json_t *bad, uint32_t row, const struct row *r, const char *what,
                   const struct rational *exact)
{
    struct buf stored = BUF_INIT, now = BUF_INIT;
    rat_print(r->gold, &stored);
    if (exact)
        rat_print(*exact, &now);
    json_t *v = json_pack("{s:I, s:I, s:I, s:s, s:o}", "row", (json_int_t)row, "id",
                          (json_int_t)r->id, "instance", (json_int_t)r->instance, "what", what,
                          "stored", json_text(buf_view(&stored)));
    if (v && exact)
        json_object_set_new(v, "exact", json_text(buf_view(&now)));
    if (bad)
        json_array_append_new(bad, v);
    else
        json_free(v);
    buf_clear(&stored);
    buf_clear(&now);
}

static enum status one_row(const struct template *t, int level, const struct rows *rows, uint32_t i,
                           struct recover_stats *st, json_t *bad, struct err *err)
{
    const struct row *r = &rows->row[i];
    struct mem mem = { .cap = 16 << 20 };
    struct draw d;
    struct value gold;
    struct buf body = BUF_INIT;
    struct err why = ERR_INIT;
    if (!recover(t, level, r->question, &mem, &d, err)) {
        if (err->code == ST_OK)
            report(bad, i, r, "not recovered", NULL);
    } else if (draw_answer(t, template_level(t, level)->answer, &d, &gold, &why) != ST_OK) {
        report(bad, i, r, "no answer", NULL);
    } else {
        size_t mark = str_find(r->answer, STR("####"), 0);
        st->n_recovered++;
        st->n_gold += rat_eq(gold.r, r->gold);
        if (!rat_eq(gold.r, r->gold))
            report(bad, i, r, "another gold", &gold.r);
        if (render_solution(t, level, &d, &body, &why) == ST_OK)
            st->n_body += same_body(&mem, buf_view(&body), (struct str){ r->answer.p, mark });
    }
    buf_clear(&body);
    mem_clear(&mem);
    return err->code;
}

enum status recover_rows(const struct library *l, const struct rows *rows, int level,
                         struct recover_stats *ret, json_t *bad, struct err *err)
{
    for (uint32_t i = 0; i < rows->n && err->code == ST_OK; i++) {
        const struct template *t = template_of(l, rows->row[i].id, level);
        if (!t)
            continue;
        ret->n_template++;
        one_row(t, level, rows, i, ret, bad, err);
    }
    return err->code;
}
