/* eval/template_text.c - see template_text.h. */
#include "eval/template_text.h"

enum { NEST_MAX = 8 };

struct filter_row {
    const char *name;
    enum filter filter;
    bool cap;
};
static const struct filter_row filters[] = {
    { "plural", FILTER_PLURAL, false }, { "Plural", FILTER_PLURAL, true },
    { "a", FILTER_A, false },           { "A", FILTER_A, true },
    { "cap", FILTER_NONE, true },       { "he", FILTER_HE, false },
    { "He", FILTER_HE, true },          { "him", FILTER_HIM, false },
    { "his", FILTER_HIS, false },       { "His", FILTER_HIS, true },
    { "money", FILTER_MONEY, false },   { "words", FILTER_WORDS, false },
    { "Words", FILTER_WORDS, true },    { "digits", FILTER_DIGITS, false },
};

struct walk {
    struct text_reader *r;
    struct str text;
    size_t at;
    unsigned levels[NEST_MAX + 1];
    int depth;
    bool expressions;
    struct pieces *out;
};

static bool fail(struct walk *w, size_t at, const char *what)
{
    err_set(w->r->err, ST_FORMAT, "byte %zu: %s", at + 1, what);
    return false;
}

static bool add(struct walk *w, struct piece p)
{
    struct pieces *ps = w->out;
    if (!ps->piece)
        ps->piece = mem_array(&w->r->t->mem, TPL_PIECES_MAX, sizeof *ps->piece);
    if (!ps->piece) {
        err_set(w->r->err, ST_NOMEM, "a template's text");
        return false;
    }
    if (ps->n == TPL_PIECES_MAX)
        return fail(w, w->at, "more than 1024 parts in a text");
    p.levels = w->levels[w->depth];
    ps->piece[ps->n++] = p;
    return true;
}

static bool literal(struct walk *w, size_t from, size_t to)
{
    if (from == to)
        return true;
    struct str s = mem_str(&w->r->t->mem, (struct str){ w->text.p + from, to - from });
    if (!s.p) {
        err_set(w->r->err, ST_NOMEM, "a template's text");
        return false;
    }
    return add(w, (struct piece){ .text = s, .var = -1 });
}

bool text_levels(struct str s, unsigned *ret)
{
    char sign = s.n > 1 ? s.p[s.n - 1] : 0;
    if (sign == '+' || sign == '-')
        s.n--;
    int level = str_is(s, "-1")  ? -1
                : str_is(s, "0") ? 0
                : str_is(s, "1") ? 1
                : str_is(s, "2") ? 2
                                 : LEVEL_MAX + 1;
    if (level > LEVEL_MAX)
        return false;
    *ret = 0;
    for (int l = LEVEL_MIN; l <= LEVEL_MAX; l++)
        if (l == level || (sign == '+' && l > level) || (sign == '-' && l < level))
            *ret |= LEVEL_BIT(l);
    return true;
}

static bool open_section(struct walk *w, struct str inside)
{
    unsigned bits;
    if (!text_levels((struct str){ inside.p + 1, inside.n - 1 }, &bits))
        return fail(w, w->at, "a section begins as {#1}, {#1+} or {#0-}");
    if (w->depth == NEST_MAX)
        return fail(w, w->at, "sections nested deeper than 8");
    w->levels[w->depth + 1] = w->levels[w->depth] & bits;
    w->depth++;
    return true;
}

static bool named(struct walk *w, struct str name, struct str filter, bool *ret)
{
    struct piece p = { .var = template_var(w->r->t, name) };
    *ret = p.var >= 0;
    if (p.var < 0)
        return true;
    bool known = filter.n == 0;
    for (size_t i = 0; i < sizeof filters / sizeof filters[0] && !known; i++)
        if (str_is(filter, filters[i].name)) {
            p.filter = filters[i].filter;
            p.cap = filters[i].cap;
            known = true;
        }
    if (!known)
        return fail(w, w->at, "an unknown filter behind ':'");
    return add(w, p);
}

static bool placeholder(struct walk *w, struct str inside)
{
    size_t colon = str_find(inside, STR(":"), 0);
    struct str name = str_trim((struct str){ inside.p, colon == SIZE_MAX ? inside.n : colon }),
               filter = colon == SIZE_MAX
                            ? STR("")
                            : str_trim((struct str){ inside.p + colon + 1, inside.n - colon - 1 });
    bool found;
    if (!named(w, name, filter, &found))
        return false;
    if (found)
        return true;
    if (!w->expressions) {
        err_set(w->r->err, ST_FORMAT, "byte %zu: '{%.*s}' names no variable", w->at + 1,
                (int)(name.n > 40 ? 40 : name.n), name.p);
        return false;
    }
    struct piece p = { .var = -1 };
    return expr_parse(inside, &w->r->scope, &w->r->t->mem, &p.expr, w->r->err) == ST_OK &&
           add(w, p);
}

static bool braces(struct walk *w, struct str inside)
{
    if (inside.n && inside.p[0] == '#')
        return open_section(w, inside);
    if (str_is(inside, "/"))
        return w->depth-- > 0 || fail(w, w->at, "{/} without a section");
    return placeholder(w, inside);
}

/* May a number here be written in words? Only where blanks or punctuation stand around it. */
static void mark_words(struct pieces *ps)
{
    for (uint32_t i = 0; i < ps->n; i++) {
        struct piece *p = &ps->piece[i];
        if (p->var < 0)
            continue;
        const struct piece *before = i ? p - 1 : NULL, *after = i + 1 < ps->n ? p + 1 : NULL;
        bool left = !before || (before->var < 0 && before->text.n &&
                                strchr(" (\n", before->text.p[before->text.n - 1]));
        bool right =
            !after || (after->var < 0 && after->text.n && strchr(" .,;:?!)\n", after->text.p[0]));
        p->words_ok = left && right;
    }
}

bool text_pieces(struct text_reader *r, struct str text, bool expressions, struct pieces *ret)
{
    struct walk w = { .r = r, .text = text, .expressions = expressions, .out = ret };
    w.levels[0] = LEVELS_ALL;
    if (text.n > TPL_TEXT_MAX)
        return fail(&w, 0, "a text of more than 65536 bytes");
    while (w.at < text.n) {
        size_t open = str_find(text, STR("{"), w.at), end = open == SIZE_MAX ? text.n : open;
        size_t stray = str_find((struct str){ text.p, end }, STR("}"), w.at);
        if (stray != SIZE_MAX)
            return fail(&w, stray, "'}' without '{'");
        if (!literal(&w, w.at, end))
            return false;
        w.at = end;
        if (open == SIZE_MAX)
            break;
        size_t close = str_find(text, STR("}"), open);
        if (close == SIZE_MAX)
            return fail(&w, open, "'{' that is never closed");
        if (!braces(&w, (struct str){ text.p + open + 1, close - open - 1 }))
            return false;
        w.at = close + 1;
    }
    if (w.depth)
        return fail(&w, text.n, "a section that is never closed");
    mark_words(ret);
    return true;
}
