/* eval/expr_parse.c - recursive descent over one line of text. Each level of the grammar is one
 * function; nesting is counted where the grammar recurses. */
#include "eval/expr.h"

struct parser {
    struct str text;
    size_t at;
    const struct expr_scope *scope;
    struct mem *mem;
    struct err *err;
    uint32_t n_node;
    int depth;
};

typedef struct node *(*rule)(struct parser *p);
static struct node *expression(struct parser *p);

static struct node *fail(struct parser *p, size_t at, const char *what)
{
    int shown = p->text.n > 120 ? 120 : (int)p->text.n;
    err_set(p->err, ST_FORMAT, "column %zu: %s in '%.*s'", at + 1, what, shown, p->text.p);
    return NULL;
}

static struct node *no_memory(struct parser *p)
{
    err_set(p->err, ST_NOMEM, "an expression");
    return NULL;
}

/* ---- characters ---- */

static void blanks(struct parser *p)
{
    while (p->at < p->text.n && (p->text.p[p->at] == ' ' || p->text.p[p->at] == '\t'))
        p->at++;
}

static char peek(struct parser *p)
{
    blanks(p);
    return p->at < p->text.n ? p->text.p[p->at] : '\0';
}

static bool word_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static struct str word_at(struct parser *p)
{
    blanks(p);
    size_t i = p->at;
    while (i < p->text.n && (word_char(p->text.p[i], i == p->at) ||
                             (p->text.p[i] == '.' && i > p->at && i + 1 < p->text.n &&
                              word_char(p->text.p[i + 1], true))))
        i++;
    return (struct str){ p->text.p + p->at, i - p->at };
}

static bool take_word(struct parser *p, const char *w)
{
    struct str s = word_at(p);
    if (!str_is(s, w))
        return false;
    p->at += s.n;
    return true;
}

/* Takes the operator unless a longer one begins with it. */
static bool take(struct parser *p, const char *op)
{
    size_t n = strlen(op);
    blanks(p);
    if (p->text.n - p->at < n || memcmp(p->text.p + p->at, op, n) != 0)
        return false;
    char next = p->text.n - p->at > n ? p->text.p[p->at + n] : '\0';
    if ((str_is(str_c(op), "*") && next == '*') || (str_is(str_c(op), "/") && next == '/') ||
        ((str_is(str_c(op), "<") || str_is(str_c(op), ">")) && next == '='))
        return false;
    p->at += n;
    return true;
}

/* ---- nodes ---- */

static struct node *make(struct parser *p, enum expr_op op, size_t at, uint32_t n_kid)
{
    if (++p->n_node > EXPR_NODES_MAX)
        return fail(p, at, "too many parts");
    struct node *n = mem_get(p->mem, sizeof *n);
    const struct node **kid = n_kid ? mem_array(p->mem, n_kid, sizeof(struct node *)) : NULL;
    if (!n || (n_kid && !kid))
        return no_memory(p);
    *n = (struct node){ .op = op, .at = (uint32_t)at, .n_kid = n_kid, .kid = kid, .depth = 1 };
    return n;
}

static struct node *join(struct parser *p, struct node *n, uint32_t i, const struct node *kid)
{
    if (!n || !kid)
        return NULL;
    n->kid[i] = kid;
    if (kid->depth + 1 > n->depth)
        n->depth = (uint16_t)(kid->depth + 1);
    if (n->depth > 4 * EXPR_DEPTH_MAX)
        return fail(p, n->at, "too deep");
    return n;
}

static struct node *binary(struct parser *p, enum expr_op op, size_t at, struct node *a,
                           struct node *b)
{
    if (!a || !b)
        return NULL;
    return join(p, join(p, make(p, op, at, 2), 0, a), 1, b);
}

static struct node *constant(struct parser *p, size_t at, struct value v)
{
    struct node *n = make(p, EXPR_CONST, at, 0);
    if (n)
        n->lit = v;
    return n;
}

/* ---- atoms ---- */

static struct node *number(struct parser *p)
{
    size_t from = p->at, i = from;
    bool point = false;
    while (i < p->text.n &&
           ((p->text.p[i] >= '0' && p->text.p[i] <= '9') || (p->text.p[i] == '.' && !point)))
        point |= p->text.p[i++] == '.';
    struct str s = { p->text.p + from, i - from };
    struct rational r;
    char padded[72];
    if (s.n && s.n < 64 && s.p[s.n - 1] == '.') { /* "5." */
        memcpy(padded, s.p, s.n);
        padded[s.n] = '0';
        s = (struct str){ padded, s.n + 1 };
    }
    if (i < p->text.n && word_char(p->text.p[i], true))
        return fail(p, from, "a number runs into a name");
    if (!rat_parse(s, &r))
        return fail(p, from, "a number that cannot be held exactly");
    p->at = i;
    return constant(p, from, value_num(r, point ? NUM_FLOAT : NUM_INT));
}

static struct node *text(struct parser *p)
{
    size_t from = p->at, i = from + 1;
    char quote = p->text.p[from];
    while (i < p->text.n && p->text.p[i] != quote && p->text.p[i] != '\\')
        i++;
    if (i >= p->text.n || p->text.p[i] != quote)
        return fail(p, from, "a text without its closing quote");
    struct str s = mem_str(p->mem, (struct str){ p->text.p + from + 1, i - from - 1 });
    p->at = i + 1;
    return s.p ? constant(p, from, value_str(s)) : no_memory(p);
}

/* Items up to `close`; *n counts them. */
enum { ITEMS_MAX = 512 };
static bool items(struct parser *p, char close, const struct node **list, uint32_t *n, bool *comma)
{
    while (peek(p) != close) {
        size_t at = p->at;
        if (*n == ITEMS_MAX)
            return fail(p, at, "a list of more than 512 parts"), false;
        struct node *e = expression(p);
        if (!e)
            return false;
        list[(*n)++] = e;
        if (!take(p, ","))
            break;
        *comma = true;
    }
    char expect[2] = { close, '\0' };
    if (take(p, expect))
        return true;
    return fail(p, p->at,
                close == ')'   ? "missing ')'"
                : close == ']' ? "missing ']'"
                               : "missing '}'"),
           false;
}

static struct node *sequence(struct parser *p, char close, size_t at, enum expr_op op)
{
    const struct node *list[ITEMS_MAX];
    uint32_t n = 0;
    bool comma = false;
    if (!items(p, close, list, &n, &comma))
        return NULL;
    if (close != ']' && op == EXPR_LIST && n == 1 && !comma)
        return (struct node *)(uintptr_t)list[0]; /* parentheses only */
    struct node *r = make(p, op, at, n);
    for (uint32_t i = 0; r && i < n; i++)
        r = join(p, r, i, list[i]);
    if (r)
        r->tuple = close == ')';
    return r;
}

static struct node *call(struct parser *p, struct str name, size_t at)
{
    char msg[80];
    int fn = expr_fn_find(name);
    if (fn < 0) {
        snprintf(msg, sizeof msg, "unknown function '%.*s'", name.n > 40 ? 40 : (int)name.n,
                 name.p);
        return fail(p, at, msg);
    }
    struct node *r = sequence(p, ')', at, EXPR_CALL);
    const struct expr_fn *f = expr_fn(fn);
    if (r && (r->n_kid < f->min || r->n_kid > f->max)) {
        snprintf(msg, sizeof msg, "%s() takes %u to %u arguments, not %u", f->name, f->min, f->max,
                 r->n_kid);
        return fail(p, at, msg);
    }
    if (r)
        r->fn = (uint16_t)fn;
    return r;
}

static struct node *named(struct parser *p, struct str name, size_t at)
{
    const struct expr_scope *s = p->scope;
    struct value v;
    int32_t var = s->var ? s->var(s->ctx, name) : -1;
    if (var >= 0) {
        struct node *n = make(p, EXPR_VAR, at, 0);
        if (n)
            n->var = var;
        return n;
    }
    if (str_is(name, "True") || str_is(name, "False"))
        return constant(p, at, value_bool(name.p[0] == 'T'));
    if (s->pool && s->pool(s->ctx, name, &v)) {
        struct node *n = make(p, EXPR_POOL, at, 0);
        if (n)
            n->lit = v;
        return n;
    }
    char msg[80];
    snprintf(msg, sizeof msg, "unknown name '%.*s'", name.n > 40 ? 40 : (int)name.n, name.p);
    return fail(p, at, msg);
}

static struct node *atom(struct parser *p)
{
    char c = peek(p);
    size_t at = p->at;
    if ((c >= '0' && c <= '9') || c == '.')
        return number(p);
    if (c == '"' || c == '\'')
        return text(p);
    if (c == '(' || c == '[' || c == '{') {
        p->at++;
        if (c == '{' && p->scope->lenient)
            p->scope->lenient(p->scope->ctx, "braces around an expression");
        else if (c == '{')
            return fail(p, at, "'{' has no meaning");
        return sequence(p, c == '(' ? ')' : c == '[' ? ']' : '}', at, EXPR_LIST);
    }
    if (c == '$' && p->scope->lenient) {
        p->at++;
        p->scope->lenient(p->scope->ctx, "'$' before a name");
    }
    struct str name = word_at(p);
    if (name.n == 0)
        return fail(p, at, c ? "something that begins no value" : "the end where a value belongs");
    p->at += name.n;
    return take(p, "(") ? call(p, name, at) : named(p, name, at);
}

/* ---- operators, from tight to loose ---- */

static struct node *open_end(struct parser *p)
{
    return constant(p, p->at, (struct value){ .kind = VALUE_NONE, .r = { 0, 1 } });
}

static struct node *subscript(struct parser *p, struct node *what, size_t at)
{
    struct node *from = peek(p) == ':' ? open_end(p) : expression(p), *to = NULL;
    bool slice = from && take(p, ":");
    if (slice)
        to = peek(p) == ']' ? open_end(p) : expression(p);
    if (!from || (slice && !to))
        return NULL;
    if (!take(p, "]"))
        return fail(p, p->at, "missing ']'");
    if (!slice)
        return binary(p, EXPR_INDEX, at, what, from);
    return join(p, join(p, join(p, make(p, EXPR_SLICE, at, 3), 0, what), 1, from), 2, to);
}

static struct node *postfix(struct parser *p)
{
    struct node *n = atom(p);
    while (n && peek(p) == '[') {
        size_t at = p->at++;
        n = subscript(p, n, at);
    }
    return n;
}

static struct node *deeper(struct parser *p, rule r)
{
    if (++p->depth > EXPR_DEPTH_MAX)
        return fail(p, p->at, "nested deeper than 64 levels");
    struct node *n = r(p);
    p->depth--;
    return n;
}

static struct node *factor(struct parser *p)
{
    char c = peek(p);
    size_t at = p->at;
    if (c == '-' || c == '+') {
        p->at++;
        struct node *n = deeper(p, factor);
        return c == '+' || !n ? n : join(p, make(p, EXPR_NEG, at, 1), 0, n);
    }
    struct node *n = postfix(p);
    at = p->at;
    if (n && take(p, "**"))
        return binary(p, EXPR_POW, at, n, deeper(p, factor));
    return n;
}

struct binary_row {
    const char *text;
    enum expr_op op;
};

static struct node *left_chain(struct parser *p, rule below, const struct binary_row *row,
                               int n_row)
{
    struct node *n = below(p);
    for (bool more = n != NULL; more && n;) {
        more = false;
        blanks(p);
        size_t at = p->at;
        for (int i = 0; i < n_row && !more; i++) {
            if (!take(p, row[i].text))
                continue;
            n = binary(p, row[i].op, at, n, below(p));
            more = true;
        }
    }
    return n;
}

static struct node *term(struct parser *p)
{
    static const struct binary_row rows[] = {
        { "//", EXPR_FLOORDIV }, { "*", EXPR_MUL }, { "/", EXPR_DIV }, { "%", EXPR_MOD }
    };
    return left_chain(p, factor, rows, 4);
}

static struct node *sum(struct parser *p)
{
    static const struct binary_row rows[] = { { "+", EXPR_ADD }, { "-", EXPR_SUB } };
    return left_chain(p, term, rows, 2);
}

static struct node *comparison(struct parser *p)
{
    static const struct binary_row rows[] = { { "<=", EXPR_LE }, { ">=", EXPR_GE },
                                              { "==", EXPR_EQ }, { "!=", EXPR_NE },
                                              { "<", EXPR_LT },  { ">", EXPR_GT } };
    struct node *left = sum(p), *all = NULL;
    for (bool more = left != NULL; more;) {
        more = false;
        blanks(p);
        size_t at = p->at;
        for (int i = 0; i < 6 && !more; i++) {
            if (!take(p, rows[i].text))
                continue;
            struct node *right = sum(p), *one = binary(p, rows[i].op, at, left, right);
            if (!one)
                return NULL;
            all = all ? binary(p, EXPR_AND, at, all, one) : one;
            left = right;
            more = all != NULL;
        }
    }
    return all ? all : p->err->code == ST_OK ? left : NULL;
}

static struct node *negation(struct parser *p)
{
    size_t at = p->at;
    if (!take_word(p, "not"))
        return comparison(p);
    struct node *n = deeper(p, negation);
    return n ? join(p, make(p, EXPR_NOT, at, 1), 0, n) : NULL;
}

static struct node *logic(struct parser *p, rule below, const char *word, enum expr_op op)
{
    struct node *n = below(p);
    while (n) {
        blanks(p);
        size_t at = p->at;
        if (!take_word(p, word))
            break;
        n = binary(p, op, at, n, below(p));
    }
    return n;
}

static struct node *conjunction(struct parser *p)
{
    return logic(p, negation, "and", EXPR_AND);
}

static struct node *choice(struct parser *p)
{
    struct node *then = logic(p, conjunction, "or", EXPR_OR);
    size_t at = p->at;
    if (!then || !take_word(p, "if"))
        return then;
    struct node *when = logic(p, conjunction, "or", EXPR_OR);
    if (!when)
        return NULL;
    if (!take_word(p, "else"))
        return fail(p, p->at, "'if' without 'else'");
    struct node *other = deeper(p, choice);
    return join(p, join(p, join(p, make(p, EXPR_IF, at, 3), 0, when), 1, then), 2, other);
}

static struct node *expression(struct parser *p)
{
    return deeper(p, choice);
}

enum status expr_parse(struct str text_, const struct expr_scope *scope, struct mem *mem,
                       const struct node **ret, struct err *err)
{
    struct parser p = { .text = text_, .scope = scope, .mem = mem, .err = err };
    if (text_.n > EXPR_TEXT_MAX)
        return err_set(err, ST_FORMAT, "an expression of %zu bytes, at most %d are allowed",
                       text_.n, EXPR_TEXT_MAX);
    if (text_.n && memchr(text_.p, '\0', text_.n))
        return err_set(err, ST_FORMAT, "a NUL byte in an expression");
    struct node *n = expression(&p);
    if (n && peek(&p))
        n = fail(&p, p.at, "something left over");
    if (!n)
        return err_set(err, ST_FORMAT, "an expression that cannot be read");
    *ret = n;
    return ST_OK;
}
