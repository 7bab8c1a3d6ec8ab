/* engine/model/chat_stmt.c - tags of a template: a flat scan with one recursion per nested block.
 * Tags that load other templates (include, import, extends, block) do not exist here on purpose: a
 * model file must not reach other files. */
#include "engine/model/chat_internal.h"

static bool parse_body(struct parser *p, const char *const *ends, struct node **first);

static bool end_tag(struct parser *p)
{
    if (p->cur.kind == TOK_BLOCK_END)
        return parse_advance(p);
    parse_no(p, ST_FORMAT, "unexpected text before '%%}'");
    return false;
}

/* At the closing tag's name. */
static bool finish(struct parser *p)
{
    return parse_advance(p) && end_tag(p);
}

static struct node *target_item(struct parser *p)
{
    if (parse_is(p, '(')) {
        struct node *n = parse_enter(p) && parse_advance(p) ? parse_target(p) : NULL;
        if (!n || !parse_want(p, ')'))
            return NULL;
        p->nest--;
        return n;
    }
    struct node *n = parse_node(p, X_NAME);
    if (!n)
        return NULL;
    if (p->cur.kind != TOK_NAME)
        return parse_no(p, ST_FORMAT, "a name to assign to is missing");
    static const char *const consts[] = { "true", "false", "none", "True", "False", "None" };
    n->name = p->cur.text;
    for (size_t i = 0; i < sizeof consts / sizeof *consts; i++)
        if (str_is(n->name, consts[i]))
            return parse_no(p, ST_FORMAT, "'%s' cannot be assigned to", consts[i]);
    if (!parse_advance(p))
        return NULL;
    if (!parse_is(p, '.'))
        return n;
    struct node *attr = parse_node(p, X_ATTR);
    if (!attr || !parse_advance(p))
        return NULL;
    if (p->cur.kind != TOK_NAME)
        return parse_no(p, ST_FORMAT, "a name must follow '.'");
    attr->a = n;
    attr->name = p->cur.text;
    return parse_advance(p) ? attr : NULL;
}

struct node *parse_target(struct parser *p)
{
    struct node *first = target_item(p);
    if (!first || !parse_is(p, ','))
        return first;
    struct node *n = parse_node(p, X_TUPLE), *last = first;
    if (!n)
        return NULL;
    n->a = first;
    while (parse_is(p, ',')) {
        if (!parse_advance(p))
            return NULL;
        if (p->cur.kind != TOK_NAME && !parse_is(p, '('))
            break;
        if ((last->next = target_item(p)) == NULL)
            return NULL;
        last = last->next;
    }
    return n;
}

static struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    static const char *const endif[] = { "endif", NULL };
    struct node *top = parse_node(p, S_IF), *n = top;
    while (n) {
        if ((n->a = parse_tuple(p, true)) == NULL || !end_tag(p) || !parse_body(p, ends, &n->b))
            return NULL;
        if (!parse_is_name(p, "elif"))
            break;
        if (!parse_advance(p) || (n->c = parse_node(p, S_IF)) == NULL)
            return NULL;
        n = n->c;
    }
    if (n && parse_is_name(p, "else")) {
        if ((n->c = parse_node(p, S_SCOPE)) == NULL || !finish(p) ||
            !parse_body(p, endif, &n->c->b))
            return NULL;
        n->c->op = 1; /* a bare list of statements: if does not open a scope */
    }
    return n && finish(p) ? top : NULL;
}

static struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = { "else", "endfor", NULL };
    struct node *n = parse_node(p, S_FOR);
    if (!n || (n->a = parse_target(p)) == NULL)
        return NULL;
    for (const struct node *t = n->a->kind == X_TUPLE ? n->a->a : n->a; t; t = t->next)
        if (t->kind == X_NAME && str_is(t->name, "loop"))
            return parse_no(p, ST_FORMAT, "a loop cannot have the variable 'loop'");
    if (!parse_is_name(p, "in"))
        return parse_no(p, ST_FORMAT, "'for' without 'in'");
    if (!parse_advance(p) || (n->b = parse_tuple(p, false)) == NULL)
        return NULL;
    if (parse_is_name(p, "if") && (!parse_advance(p) || (n->e = parse_expr(p)) == NULL))
        return NULL;
    if (parse_is_name(p, "recursive")) {
        n->op = 1;
        if (!parse_advance(p))
            return NULL;
    }
    p->loops++;
    if (!end_tag(p) || !parse_body(p, ends, &n->c))
        return NULL;
    p->loops--;
    if (parse_is_name(p, "else") && (!finish(p) || !parse_body(p, ends + 1, &n->d)))
        return NULL;
    return finish(p) ? n : NULL;
}

static struct node *parse_set(struct parser *p)
{
    static const char *const ends[] = { "endset", NULL };
    struct node *n = parse_node(p, S_SET);
    if (!n || (n->a = parse_target(p)) == NULL)
        return NULL;
    if (parse_is(p, '=')) {
        if (!parse_advance(p) || (n->b = parse_tuple(p, true)) == NULL)
            return NULL;
        return end_tag(p) ? n : NULL;
    }
    n->kind = S_CAPTURE;
    if (parse_is(p, '|')) {
        struct node *in = parse_node(p, X_CAPTURED);
        if (!in || (n->b = parse_filters(p, in)) == NULL)
            return NULL;
    }
    return end_tag(p) && parse_body(p, ends, &n->c) && finish(p) ? n : NULL;
}

/* What is wrong with the parameter `n` behind those from `all` on, NULL: nothing. */
static const char *bad_param(const struct node *all, const struct node *n)
{
    for (const struct node *x = all; x && x != n; x = x->next) {
        if (str_eq(x->name, n->name))
            return "two parameters of one name";
        if (x->a && !n->a)
            return "a parameter without a default behind one with";
    }
    return NULL;
}

/* At '(': names with optional defaults. */
static bool parse_params(struct parser *p, struct node **first)
{
    const char *bad;
    struct node **all = first;
    if (!parse_want(p, '('))
        return false;
    while (!parse_is(p, ')')) {
        struct node *n = parse_node(p, X_KWARG);
        if (!n || p->cur.kind != TOK_NAME) {
            parse_no(p, ST_FORMAT, "a parameter's name is missing");
            return false;
        }
        n->name = p->cur.text;
        *first = n;
        first = &n->next;
        if (!parse_advance(p))
            return false;
        if (parse_is(p, '=') && (!parse_advance(p) || (n->a = parse_expr(p)) == NULL))
            return false;
        if ((bad = bad_param(*all, n)) != NULL) {
            parse_no(p, ST_FORMAT, "%s: '%.*s'", bad, (int)(n->name.n & 63), n->name.p);
            return false;
        }
        if (!parse_is(p, ')') && !parse_want(p, ','))
            return false;
    }
    return parse_advance(p);
}

static bool parse_macro_body(struct parser *p, const char *const *ends, struct node *n)
{
    unsigned loops = p->loops;
    int uses = p->uses;
    p->uses = 0;
    p->loops = 0; /* break does not leave a macro */
    bool ok = end_tag(p) && parse_body(p, ends, &n->b) && finish(p);
    p->loops = loops;
    n->op = p->uses;
    p->uses |= uses; /* a macro inside counts, as in Jinja */
    return ok;
}

static struct node *parse_macro(struct parser *p)
{
    static const char *const ends[] = { "endmacro", NULL };
    struct node *n = parse_node(p, S_MACRO);
    if (!n || p->cur.kind != TOK_NAME)
        return parse_no(p, ST_FORMAT, "a macro's name is missing");
    n->name = p->cur.text;
    return parse_advance(p) && parse_params(p, &n->a) && parse_macro_body(p, ends, n) ? n : NULL;
}

static struct node *parse_call_block(struct parser *p)
{
    static const char *const ends[] = { "endcall", NULL };
    struct node *n = parse_node(p, S_CALL);
    if (!n || (n->b = parse_node(p, S_MACRO)) == NULL)
        return NULL;
    n->b->name = STR("caller");
    if (parse_is(p, '(') && !parse_params(p, &n->b->a))
        return NULL;
    if ((n->a = parse_expr(p)) == NULL)
        return NULL;
    if (n->a->kind != X_CALL)
        return parse_no(p, ST_FORMAT, "'call' needs a call");
    return parse_macro_body(p, ends, n->b) ? n : NULL;
}

static struct node *parse_filter_block(struct parser *p)
{
    static const char *const ends[] = { "endfilter", NULL };
    struct node *n = parse_node(p, S_FILTER), *in = parse_node(p, X_CAPTURED);
    if (!n || !in || (in = parse_one_filter(p, in)) == NULL)
        return NULL;
    if ((n->a = parse_filters(p, in)) == NULL)
        return NULL;
    return end_tag(p) && parse_body(p, ends, &n->b) && finish(p) ? n : NULL;
}

static struct node *parse_with(struct parser *p)
{
    static const char *const ends[] = { "endwith", NULL };
    struct node *n = parse_node(p, S_WITH);
    if (!n)
        return NULL;
    struct node **link = &n->a;
    while (p->cur.kind != TOK_BLOCK_END) {
        struct node *set = parse_node(p, S_SET);
        if (!set || (n->a && !parse_want(p, ',')) || (set->a = target_item(p)) == NULL ||
            !parse_want(p, '=') || (set->b = parse_expr(p)) == NULL)
            return NULL;
        *link = set;
        link = &set->next;
    }
    return end_tag(p) && parse_body(p, ends, &n->b) && finish(p) ? n : NULL;
}

static struct node *parse_generation(struct parser *p)
{
    static const char *const ends[] = { "endgeneration", NULL };
    struct node *n = parse_node(p, S_SCOPE);
    return n && end_tag(p) && parse_body(p, ends, &n->b) && finish(p) ? n : NULL;
}

static struct node *parse_jump(struct parser *p, enum node_kind kind)
{
    if (!p->loops)
        return parse_no(p, ST_FORMAT, "'break' or 'continue' outside a loop");
    struct node *n = parse_node(p, kind);
    return n && end_tag(p) ? n : NULL;
}

static struct node *parse_break(struct parser *p)
{
    return parse_jump(p, S_BREAK);
}

static struct node *parse_continue(struct parser *p)
{
    return parse_jump(p, S_CONTINUE);
}

/* Behind "{%", at the tag's name. */
static struct node *parse_tag(struct parser *p)
{
    static const struct {
        const char *name;
        struct node *(*parse)(struct parser *);
    } tags[] = { { "if", parse_if },           { "for", parse_for },
                 { "set", parse_set },         { "macro", parse_macro },
                 { "call", parse_call_block }, { "filter", parse_filter_block },
                 { "with", parse_with },       { "generation", parse_generation },
                 { "break", parse_break },     { "continue", parse_continue } };
    if (p->cur.kind != TOK_NAME)
        return parse_no(p, ST_FORMAT, "a tag's name must follow '{%%'");
    struct str name = p->cur.text;
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (str_is(name, tags[i].name))
            return parse_advance(p) ? tags[i].parse(p) : NULL;
    if (str_starts(name, STR("end")) || str_is(name, "else") || str_is(name, "elif"))
        return parse_no(p, ST_FORMAT, "'%.*s' closes nothing", (int)(name.n & 63), name.p);
    return parse_no(p, ST_UNSUPPORTED, "tag '%.*s'", (int)(name.n & 63), name.p);
}

static struct node *parse_print(struct parser *p)
{
    struct node *n = parse_node(p, S_PRINT);
    if (!n || !parse_advance(p) || (n->a = parse_tuple(p, true)) == NULL)
        return NULL;
    if (p->cur.kind != TOK_VAR_END)
        return parse_no(p, ST_FORMAT, "unexpected text before '}}'");
    return parse_advance(p) ? n : NULL;
}

static struct node *parse_data(struct parser *p)
{
    struct node *n = parse_node(p, S_DATA);
    if (!n)
        return NULL;
    n->name = p->cur.text;
    return parse_advance(p) ? n : NULL;
}

static bool at_end(struct parser *p, const char *const *ends)
{
    for (; *ends; ends++)
        if (parse_is_name(p, *ends))
            return true;
    return false;
}

/* Statements up to one of the tags in `ends`, whose name the cursor is left on, or up to the end of
 * the template where `ends` is NULL. */
static bool parse_body(struct parser *p, const char *const *ends, struct node **first)
{
    uint32_t line = p->cur.line;
    if (!parse_enter(p))
        return false;
    for (;;) {
        struct node *n = NULL;
        if (p->cur.kind == TOK_EOF) {
            if (ends)
                parse_no(p, ST_FORMAT, "the block opened at line %u has no '%s'", line,
                         ends[0][0] == 'e' && ends[1] ? ends[ends[2] ? 2 : 1] : ends[0]);
            p->nest--;
            return !ends;
        }
        if (p->cur.kind == TOK_DATA) {
            n = parse_data(p);
        } else if (p->cur.kind == TOK_VAR_BEGIN) {
            n = parse_print(p);
        } else {
            if (!parse_advance(p))
                return false;
            if (ends && at_end(p, ends)) {
                p->nest--;
                return true;
            }
            n = parse_tag(p);
        }
        if (!n)
            return false;
        *first = n;
        first = &n->next;
    }
}

enum status parse_template(struct parser *p, struct node **ret)
{
    /* Fill both tokens of the window. */
    if (lex_next(&p->lx, &p->peek) != ST_OK || !parse_advance(p))
        return p->err->code;
    return parse_body(p, NULL, ret) ? ST_OK : p->err->code;
}
