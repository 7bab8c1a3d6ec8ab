/* engine/model/chat_parse.c - expressions of a template, by recursive descent in Jinja's order of
 * precedence: if-else, or, and, not, comparisons, + -, ~, * / // %, **, sign, then suffixes (.x [x]
 * (x)) and filters. Filters and tests are looked up here, so that an unknown one is an error when a
 * model loads and not in the middle of a conversation. */
#include "engine/model/chat_internal.h"

static struct node *parse_unary(struct parser *p, bool filters);
static struct node *parse_cond(struct parser *p);

struct node *parse_no(struct parser *p, enum status st, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(p->err, st, "line %u: %s", p->cur.line, text);
    return NULL;
}

bool parse_advance(struct parser *p)
{
    p->cur = p->peek;
    return lex_next(&p->lx, &p->peek) == ST_OK;
}

struct node *parse_node(struct parser *p, enum node_kind kind)
{
    struct node *n = arena_alloc(p->mem, sizeof *n, _Alignof(struct node));
    if (!n)
        return parse_no(p, ST_RANGE, "template too large");
    *n = (struct node){ .kind = kind, .line = p->cur.line };
    return n;
}

bool parse_enter(struct parser *p)
{
    if (++p->nest <= CHAT_NEST_MAX)
        return true;
    parse_no(p, ST_RANGE, "nested deeper than %d levels", CHAT_NEST_MAX);
    return false;
}

bool parse_is(const struct parser *p, int op)
{
    return p->cur.kind == TOK_OP && p->cur.op == op;
}

bool parse_is_name(const struct parser *p, const char *name)
{
    return p->cur.kind == TOK_NAME && str_is(p->cur.text, name);
}

bool parse_want(struct parser *p, int op)
{
    if (parse_is(p, op))
        return parse_advance(p);
    parse_no(p, ST_FORMAT, "expected '%c'", op);
    return false;
}

/* ---- names, groups ---- */

static struct node *parse_name(struct parser *p)
{
    static const struct {
        const char *name;
        enum val_kind kind;
        bool b;
    } consts[] = { { "true", V_BOOL, true },   { "True", V_BOOL, true }, { "false", V_BOOL, false },
                   { "False", V_BOOL, false }, { "none", V_NONE, 0 },    { "None", V_NONE, 0 } };
    static const struct {
        const char *name;
        enum macro_uses use;
    } uses[] = { { "varargs", USES_VARARGS },
                 { "kwargs", USES_KWARGS },
                 { "caller", USES_CALLER } };
    static const char *const lacking[] = { "cycler", "joiner", "lipsum", "self", "super" };
    struct node *n = parse_node(p, X_NAME);
    if (!n)
        return NULL;
    n->name = p->cur.text;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        p->uses |= str_is(n->name, uses[i].name) ? (int)uses[i].use : 0;
    for (size_t i = 0; i < sizeof lacking / sizeof *lacking; i++)
        if (str_is(n->name, lacking[i]))
            return parse_no(p, ST_UNSUPPORTED, "global '%s'", lacking[i]);
    for (size_t i = 0; i < sizeof consts / sizeof *consts; i++)
        if (str_is(n->name, consts[i].name)) {
            n->kind = X_CONST;
            n->val = (struct val){ .kind = consts[i].kind, .b = consts[i].b };
        }
    return parse_advance(p) ? n : NULL;
}

/* Items up to `close`, which is consumed. *n_items counts; a trailing comma is fine. */
static bool parse_items(struct parser *p, int close, bool pairs, struct node **first)
{
    struct node **link = first;
    if (!parse_enter(p))
        return false;
    while (!parse_is(p, close)) {
        struct node *item = parse_expr(p);
        if (item && pairs) {
            struct node *pair = parse_node(p, X_PAIR);
            if (!pair || !parse_want(p, ':'))
                return false;
            pair->a = item;
            pair->b = parse_expr(p);
            item = pair->b ? pair : NULL;
        }
        if (!item)
            return false;
        *link = item;
        link = &item->next;
        if (!parse_is(p, close) && !parse_want(p, ','))
            return false;
    }
    p->nest--;
    return parse_advance(p);
}

static struct node *parse_group(struct parser *p)
{
    if (!parse_advance(p))
        return NULL;
    if (parse_is(p, ')')) {
        struct node *n = parse_node(p, X_TUPLE);
        return n && parse_advance(p) ? n : NULL;
    }
    struct node *n = parse_enter(p) ? parse_tuple(p, true) : NULL;
    if (!n || !parse_want(p, ')'))
        return NULL;
    p->nest--;
    return n;
}

static struct node *parse_primary(struct parser *p)
{
    switch (p->cur.kind) {
    case TOK_NAME:
        return parse_name(p);
    case TOK_STR:
        return parse_string(p);
    case TOK_INT:
    case TOK_FLOAT:
        return parse_number(p);
    case TOK_OP:
        break;
    default:
        return parse_no(p, ST_FORMAT, "an expression is missing");
    }
    if (p->cur.op == '(')
        return parse_group(p);
    if (p->cur.op != '[' && p->cur.op != '{')
        return parse_no(p, ST_FORMAT, "unexpected operator where a value should be");
    bool dict = p->cur.op == '{';
    struct node *n = parse_node(p, dict ? X_DICT : X_LIST);
    if (!n || !parse_advance(p) || !parse_items(p, dict ? '}' : ']', dict, &n->a))
        return NULL;
    return n;
}

/* ---- suffixes ---- */

/* At '('. */
static bool parse_args(struct parser *p, struct node **first)
{
    struct node **link = first;
    if (!parse_enter(p) || !parse_advance(p))
        return false;
    while (!parse_is(p, ')')) {
        if (parse_is(p, '*') || parse_is(p, OP_POW))
            return parse_no(p, ST_UNSUPPORTED, "argument unpacking with *");
        struct node *arg = NULL;
        if (p->cur.kind == TOK_NAME && p->peek.kind == TOK_OP && p->peek.op == '=') {
            struct node *kw = parse_node(p, X_KWARG);
            if (!kw)
                return false;
            kw->name = p->cur.text;
            /* Past the name, past the sign. NOLINTNEXTLINE(misc-redundant-expression) */
            if (parse_advance(p) && parse_advance(p) && (kw->a = parse_expr(p)) != NULL)
                arg = kw;
        } else {
            arg = parse_expr(p);
        }
        if (!arg)
            return false;
        *link = arg;
        link = &arg->next;
        if (!parse_is(p, ')') && !parse_want(p, ','))
            return false;
    }
    p->nest--;
    return parse_advance(p);
}

static struct node *parse_attr(struct parser *p, struct node *base)
{
    struct node *n = parse_node(p, X_ATTR);
    if (!n || !parse_advance(p))
        return NULL;
    n->a = base;
    n->name = p->cur.text;
    if (p->cur.kind == TOK_INT) {
        n->kind = X_ITEM;
        return (n->b = parse_number(p)) != NULL ? n : NULL;
    }
    if (p->cur.kind != TOK_NAME)
        return parse_no(p, ST_FORMAT, "a name must follow '.'");
    return parse_advance(p) ? n : NULL;
}

/* At '[': an item or a slice. */
static struct node *parse_subscript(struct parser *p, struct node *base)
{
    struct node *n = parse_node(p, X_SLICE);
    if (!n || !parse_enter(p) || !parse_advance(p))
        return NULL;
    struct node **part[] = { &n->b, &n->c, &n->d };
    size_t i = 0;
    n->a = base;
    for (;;) {
        if (!parse_is(p, ':') && !parse_is(p, ']') && (*part[i] = parse_expr(p)) == NULL)
            return NULL;
        if (!parse_is(p, ':') || i == 2)
            break;
        i++;
        if (!parse_advance(p))
            return NULL;
    }
    if (i == 0) {
        if (!n->b)
            return parse_no(p, ST_FORMAT, "nothing between '[' and ']'");
        n->kind = X_ITEM;
    }
    p->nest--;
    return parse_want(p, ']') ? n : NULL;
}

static struct node *parse_call(struct parser *p, struct node *callee)
{
    struct node *n = parse_node(p, X_CALL);
    if (!n)
        return NULL;
    n->a = callee;
    if (callee->kind == X_ATTR && method_lacking(callee->name))
        return parse_no(p, ST_UNSUPPORTED, "method '%.*s'", (int)(callee->name.n & 63),
                        callee->name.p);
    return parse_args(p, &n->b) ? n : NULL;
}

static struct node *parse_postfix(struct parser *p, struct node *n)
{
    while (n && p->cur.kind == TOK_OP) {
        if (p->cur.op == '.')
            n = parse_attr(p, n);
        else if (p->cur.op == '[')
            n = parse_subscript(p, n);
        else if (p->cur.op == '(')
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* At the filter's name. */
struct node *parse_one_filter(struct parser *p, struct node *input)
{
    struct node *n = parse_node(p, X_FILTER);
    if (!n)
        return NULL;
    if (p->cur.kind != TOK_NAME)
        return parse_no(p, ST_FORMAT, "a filter's name must follow '|'");
    n->a = input;
    n->op = filter_find(p->cur.text);
    if (n->op < 0)
        return parse_no(p, ST_UNSUPPORTED, "filter '%.*s'", (int)(p->cur.text.n & 63),
                        p->cur.text.p);
    if (!parse_advance(p) || (parse_is(p, '(') && !parse_args(p, &n->b)))
        return NULL;
    return n;
}

static bool starts_test_arg(const struct parser *p)
{
    if (p->cur.kind == TOK_NAME)
        return !parse_is_name(p, "else") && !parse_is_name(p, "or") && !parse_is_name(p, "and");
    return p->cur.kind == TOK_STR || p->cur.kind == TOK_INT || p->cur.kind == TOK_FLOAT ||
           parse_is(p, '[') || parse_is(p, '{');
}

/* At "is". */
static struct node *parse_test(struct parser *p, struct node *input)
{
    struct node *n = parse_node(p, X_TEST), *negated = NULL;
    if (!n || !parse_advance(p))
        return NULL;
    if (parse_is_name(p, "not")) {
        negated = parse_node(p, X_NOT);
        if (!negated || !parse_advance(p))
            return NULL;
    }
    if (p->cur.kind != TOK_NAME)
        return parse_no(p, ST_FORMAT, "a test's name must follow 'is'");
    n->a = input;
    n->op = test_find(p->cur.text);
    if (n->op < 0)
        return parse_no(p, ST_UNSUPPORTED, "test '%.*s'", (int)(p->cur.text.n & 63), p->cur.text.p);
    if (!parse_advance(p))
        return NULL;
    if (parse_is_name(p, "is"))
        return parse_no(p, ST_FORMAT, "tests cannot be chained with 'is'");
    if (parse_is(p, '(')) {
        if (!parse_args(p, &n->b))
            return NULL;
    } else if (starts_test_arg(p) && (n->b = parse_postfix(p, parse_primary(p))) == NULL) {
        return NULL;
    }
    if (!negated)
        return n;
    negated->a = n;
    return negated;
}

static struct node *parse_filters_and_tests(struct parser *p, struct node *n)
{
    while (n) {
        if (parse_is(p, '|'))
            n = parse_advance(p) ? parse_one_filter(p, n) : NULL;
        else if (parse_is_name(p, "is"))
            n = parse_test(p, n);
        else if (parse_is(p, '('))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

struct node *parse_filters(struct parser *p, struct node *input)
{
    struct node *n = input;
    while (n && parse_is(p, '|'))
        n = parse_advance(p) ? parse_one_filter(p, n) : NULL;
    return n;
}

/* ---- operators ---- */

static struct node *parse_unary(struct parser *p, bool filters)
{
    if (!parse_enter(p))
        return NULL;
    struct node *n = NULL;
    if (parse_is(p, '-') || parse_is(p, '+')) {
        n = parse_node(p, parse_is(p, '-') ? X_NEG : X_POS);
        if (!n || !parse_advance(p) || (n->a = parse_unary(p, false)) == NULL)
            return NULL;
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    if (filters)
        n = parse_filters_and_tests(p, n);
    p->nest--;
    return n;
}

/* Left to right chain of the operators in `ops`. */
static struct node *parse_chain(struct parser *p, const int *ops,
                                struct node *(*operand)(struct parser *))
{
    struct node *left = operand(p);
    while (left) {
        const int *op = ops;
        while (*op && !parse_is(p, *op))
            op++;
        if (!*op)
            break;
        struct node *n = parse_node(p, X_BIN);
        if (!n || !parse_advance(p))
            return NULL;
        n->op = *op;
        n->a = left;
        n->b = operand(p);
        left = n->b ? n : NULL;
    }
    return left;
}

static struct node *parse_operand(struct parser *p)
{
    return parse_unary(p, true);
}

static struct node *parse_pow(struct parser *p)
{
    static const int ops[] = { OP_POW, 0 };
    return parse_chain(p, ops, parse_operand);
}

static struct node *parse_product(struct parser *p)
{
    static const int ops[] = { '*', '/', OP_FLOORDIV, '%', 0 };
    return parse_chain(p, ops, parse_pow);
}

static struct node *parse_concat(struct parser *p)
{
    struct node *first = parse_product(p);
    if (!first || !parse_is(p, '~'))
        return first;
    struct node *n = parse_node(p, X_CONCAT), *last = first;
    if (!n)
        return NULL;
    n->a = first;
    while (parse_is(p, '~')) {
        if (!parse_advance(p) || (last->next = parse_product(p)) == NULL)
            return NULL;
        last = last->next;
    }
    return n;
}

static struct node *parse_sum(struct parser *p)
{
    static const int ops[] = { '+', '-', 0 };
    return parse_chain(p, ops, parse_concat);
}

/* The comparison operator at the cursor, 0: none. "not in" is two tokens. */
static int compare_op(const struct parser *p)
{
    if (parse_is_name(p, "in"))
        return OP_IN;
    if (parse_is_name(p, "not") && p->peek.kind == TOK_NAME && str_is(p->peek.text, "in"))
        return OP_NOT_IN;
    static const int ops[] = { OP_EQ, OP_NE, OP_LE, OP_GE, '<', '>' };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (parse_is(p, ops[i]))
            return ops[i];
    return 0;
}

static struct node *parse_compare(struct parser *p)
{
    struct node *first = parse_sum(p), **link = NULL, *all = NULL;
    for (int op; first && (op = compare_op(p)) != 0;) {
        struct node *n = parse_node(p, X_CMPOP);
        if (!all) {
            all = parse_node(p, X_CMP);
            if (!all)
                return NULL;
            all->a = first;
            link = &all->b;
        }
        if (!n || !parse_advance(p) || (op == OP_NOT_IN && !parse_advance(p)))
            return NULL;
        n->op = op;
        if ((n->a = parse_sum(p)) == NULL)
            return NULL;
        *link = n;
        link = &n->next;
    }
    return all ? all : first;
}

static struct node *parse_not(struct parser *p)
{
    if (!parse_is_name(p, "not"))
        return parse_compare(p);
    struct node *n = parse_node(p, X_NOT);
    if (!n || !parse_enter(p) || !parse_advance(p) || (n->a = parse_not(p)) == NULL)
        return NULL;
    p->nest--;
    return n;
}

static struct node *parse_logic(struct parser *p, bool is_or)
{
    struct node *left = is_or ? parse_logic(p, false) : parse_not(p);
    while (left && parse_is_name(p, is_or ? "or" : "and")) {
        struct node *n = parse_node(p, is_or ? X_OR : X_AND);
        if (!n || !parse_advance(p))
            return NULL;
        n->a = left;
        n->b = is_or ? parse_logic(p, false) : parse_not(p);
        left = n->b ? n : NULL;
    }
    return left;
}

static struct node *parse_cond(struct parser *p)
{
    struct node *value = parse_logic(p, true);
    while (value && parse_is_name(p, "if")) {
        struct node *n = parse_node(p, X_COND);
        if (!n || !parse_advance(p))
            return NULL;
        n->b = value;
        if ((n->a = parse_logic(p, true)) == NULL)
            return NULL;
        if (parse_is_name(p, "else") && (!parse_advance(p) || (n->c = parse_expr(p)) == NULL))
            return NULL;
        value = n;
    }
    return value;
}

struct node *parse_expr(struct parser *p)
{
    if (!parse_enter(p))
        return NULL;
    struct node *n = parse_cond(p);
    p->nest--;
    return n;
}

static bool ends_tuple(const struct parser *p)
{
    return p->cur.kind == TOK_VAR_END || p->cur.kind == TOK_BLOCK_END || parse_is(p, ')');
}

struct node *parse_tuple(struct parser *p, bool cond)
{
    struct node *first = cond ? parse_expr(p) : parse_logic(p, true);
    if (!first || !parse_is(p, ','))
        return first;
    struct node *n = parse_node(p, X_TUPLE), *last = first;
    if (!n)
        return NULL;
    n->a = first;
    while (parse_is(p, ',')) {
        if (!parse_advance(p))
            return NULL;
        if (ends_tuple(p))
            break;
        last->next = cond ? parse_expr(p) : parse_logic(p, true);
        if ((last = last->next) == NULL)
            return NULL;
    }
    return n;
}
