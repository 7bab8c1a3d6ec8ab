/* engine/model/chat_eval.c - expressions: names, attributes, items, slices, operators, calls. Where
 * Python raises, this fails with ST_ARG and the line; undefined values are falsy, print nothing and
 * cannot be looked into. */
#include "engine/base/utf8.h"
#include "engine/model/chat_internal.h"

/* ---- names ---- */

static struct val *find_name(struct run *r, struct str name)
{
    for (struct scope *s = r->scope; s; s = s->up)
        for (struct binding *b = s->first; b; b = b->next) {
            r->steps++; /* checked by the next run_work() */
            if (str_eq(b->name, name))
                return &b->val;
        }
    return NULL;
}

static bool bind_name(struct run *r, struct scope *s, struct str name, struct val v)
{
    for (struct binding *b = s->first; b; b = b->next) {
        r->steps++;
        if (str_eq(b->name, name)) {
            b->val = v;
            return true;
        }
    }
    struct binding *b = run_alloc(r, sizeof *b);
    if (!b)
        return false;
    *b = (struct binding){ .name = name, .val = v, .next = s->first };
    s->first = b;
    return true;
}

bool set_name(struct run *r, struct str name, struct val v)
{
    return bind_name(r, r->scope, name, v);
}

/* A variable of the caller is converted when it is first used: what a template ignores is free. */
static bool eval_name(struct run *r, struct str name, struct val *ret)
{
    struct val *found = find_name(r, name);
    if (found) {
        *ret = *found;
        return true;
    }
    char key[128];
    const json_t *j = NULL;
    if (name.n < sizeof key && !memchr(name.p, 0, name.n)) {
        memcpy(key, name.p, name.n);
        key[name.n] = 0;
        j = json_object_get(r->vars, key);
    }
    if (j)
        return val_from_json(r, j, ret) && bind_name(r, r->top, name, *ret);
    int func = func_find(name);
    *ret = func >= 0 ? (struct val){ .kind = V_FUNC, .i = func } : val_undef(name);
    return true;
}

/* ---- parts of values ---- */

static bool method_of(struct run *r, struct val v, struct str name, struct val *ret)
{
    int id = method_find(v.kind, name);
    if (id < 0) {
        bool object = v.kind == V_MACRO || v.kind == V_FUNC || v.kind == V_METHOD;
        if (object || (v.kind != V_DICT && v.kind != V_NONE && method_lacking(name)))
            return run_fail(r, ST_UNSUPPORTED, "attribute '%.*s' of '%s'", (int)(name.n & 63),
                            name.p, val_type(v));
        *ret = val_undef(name);
        return true;
    }
    struct bound *m = run_alloc(r, sizeof *m);
    if (!m)
        return false;
    *m = (struct bound){ .self = v, .method = id };
    *ret = (struct val){ .kind = V_METHOD, .bound = m };
    return true;
}

static bool dict_get(struct run *r, struct val v, struct val key, struct val *ret, bool *found)
{
    struct val *at;
    if (!dict_find(r, v.dict, key, &at))
        return false;
    *found = at != NULL;
    *ret = at ? *at : val_undef(key.kind == V_STR ? val_view(key) : STR("item"));
    return true;
}

bool val_attr(struct run *r, struct val v, struct str name, struct val *ret)
{
    bool found;
    if (v.kind == V_UNDEF)
        return run_undefined(r, v);
    if (v.kind == V_LOOP)
        return loop_attr(r, v.loop, name, ret);
    if (v.kind == V_NS)
        return dict_get(r, v, val_str(name), ret, &found);
    if (!method_of(r, v, name, ret))
        return false;
    if (ret->kind == V_METHOD || v.kind != V_DICT)
        return true;
    return dict_get(r, v, val_str(name), ret, &found);
}

static bool index_item(struct run *r, struct val v, int64_t i, struct val *ret)
{
    size_t n;
    *ret = val_undef(STR("item"));
    if (!val_len(r, v, &n))
        return false;
    if (i < 0)
        i += (int64_t)n;
    if (i < 0 || i >= (int64_t)n)
        return true;
    if (v.kind != V_STR) {
        *ret = v.list->v[i];
        return true;
    }
    struct str s = val_view(v);
    size_t from = str_at(s, (size_t)i);
    struct str rest = { s.p + from, s.n - from };
    *ret = val_str((struct str){ rest.p, str_at(rest, 1) });
    return run_work(r, s.n / 4);
}

bool val_item(struct run *r, struct val v, struct val key, struct val *ret)
{
    bool sequence = v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_STR || v.kind == V_RANGE;
    bool found;
    if (v.kind == V_UNDEF)
        return run_undefined(r, v);
    if (sequence && (key.kind == V_INT || key.kind == V_BOOL))
        return index_item(r, v, key.kind == V_INT ? key.i : key.b, ret);
    if (v.kind == V_DICT) {
        if (!dict_get(r, v, key, ret, &found))
            return false;
        return found || key.kind != V_STR || method_of(r, v, val_view(key), ret);
    }
    if (key.kind == V_STR)
        return val_attr(r, v, val_view(key), ret);
    *ret = val_undef(STR("item"));
    return true;
}

/* ---- slices: Python's rules for omitted, negative and far bounds ---- */

static bool slice_bound(struct run *r, const struct node *n, int64_t len, bool back, int64_t *at)
{
    struct val v = VAL_NONE;
    if (!n)
        return true;
    if (!eval(r, n, &v))
        return false;
    if (v.kind == V_NONE)
        return true;
    if (v.kind != V_INT && v.kind != V_BOOL)
        return run_fail(r, ST_ARG, "slice indices must be integers, not '%s'", val_type(v));
    int64_t i = v.kind == V_INT ? v.i : v.b, low = back ? -1 : 0, high = back ? len - 1 : len;
    if (i < 0)
        i = i < -len ? low : i + len;
    *at = i < low ? low : i > high ? high : i;
    return true;
}

static bool slice_step(struct run *r, const struct node *n, int64_t *step)
{
    struct val v = VAL_NONE;
    *step = 1;
    if (n && !eval(r, n, &v))
        return false;
    if (v.kind == V_NONE)
        return true;
    if (v.kind != V_INT || v.i == 0)
        return run_fail(r, ST_ARG, "slice step must be an integer other than zero");
    /* Longer steps than any sequence are all alike, and cannot overflow. */
    *step = v.i > INT32_MAX ? INT32_MAX : v.i < -INT32_MAX ? -INT32_MAX : v.i;
    return true;
}

static bool slice_items(struct run *r, struct val v, const int64_t span[3], struct val *ret)
{
    struct vlist *from, *to = list_new(r, 0);
    if (!to || !val_iter(r, v, &from))
        return false;
    size_t mark = r->out.n;
    for (int64_t i = span[0]; span[2] > 0 ? i < span[1] : i > span[1]; i += span[2])
        if (v.kind == V_STR ? !run_put(r, val_view(from->v[i])) || !run_work(r, 1)
                            : !list_push(r, to, from->v[i]))
            return false;
    if (v.kind == V_STR)
        return run_take(r, mark, ret);
    *ret = (struct val){ .kind = v.kind, .list = to };
    return true;
}

static bool eval_slice(struct run *r, const struct node *n, struct val *ret)
{
    struct val v = VAL_NONE;
    size_t len;
    int64_t step;
    if (!eval(r, n->a, &v))
        return false;
    if (v.kind == V_UNDEF)
        return run_undefined(r, v);
    if (v.kind != V_STR && v.kind != V_LIST && v.kind != V_TUPLE && v.kind != V_RANGE)
        return run_fail(r, ST_ARG, "'%s' object cannot be sliced", val_type(v));
    if (!slice_step(r, n->d, &step) || !val_len(r, v, &len))
        return false;
    bool back = step < 0;
    int64_t span[3] = { back ? (int64_t)len - 1 : 0, back ? -1 : (int64_t)len, step };
    if (!slice_bound(r, n->b, (int64_t)len, back, &span[0]) ||
        !slice_bound(r, n->c, (int64_t)len, back, &span[1]))
        return false;
    if (v.kind != V_STR || step != 1)
        return slice_items(r, v, span, ret);
    struct str s = val_view(v);
    size_t from = str_at(s, (size_t)span[0]);
    s = (struct str){ s.p + from, s.n - from };
    s.n = span[1] > span[0] ? str_at(s, (size_t)(span[1] - span[0])) : 0;
    *ret = val_str(s); /* a view: templates cut long messages often */
    ret->markup = v.markup;
    return run_work(r, v.n / 4);
}

/* ---- operators ---- */

static bool eval_concat(struct run *r, const struct node *n, struct val *ret)
{
    struct val v = VAL_NONE;
    if (!eval(r, n->a, &v) || !val_text(r, v, ret))
        return false;
    ret->markup = false; /* str() of it: without autoescape ~ joins plain text */
    for (const struct node *x = n->a->next; x; x = x->next)
        if (!eval(r, x, &v) || !val_text(r, v, &v) || !add_strings(r, *ret, v, ret))
            return false;
    return true;
}

static bool eval_sign(struct run *r, const struct node *n, struct val *ret)
{
    struct val v = VAL_NONE;
    if (!eval(r, n->a, &v))
        return false;
    if (v.kind == V_UNDEF)
        return run_undefined(r, v);
    if (!val_is_num(v))
        return run_fail(r, ST_ARG, "bad operand type for a sign: '%s'", val_type(v));
    if (n->kind == X_POS)
        return binary(r, '+', val_int(0), v, ret);
    if (v.kind != V_FLOAT)
        return binary(r, '-', val_int(0), v, ret);
    *ret = val_float(-v.d);
    return true;
}

/* ---- comparisons ---- */

static bool compare(struct run *r, int op, struct val a, struct val b, bool *ret)
{
    int c;
    switch (op) {
    case OP_EQ:
        return val_eq(r, a, b, ret);
    case OP_NE:
        if (!val_eq(r, a, b, ret))
            return false;
        *ret = !*ret;
        return true;
    case OP_IN:
        return val_in(r, a, b, ret);
    case OP_NOT_IN:
        if (!val_in(r, a, b, ret))
            return false;
        *ret = !*ret;
        return true;
    default:
        if (a.kind == V_UNDEF || b.kind == V_UNDEF)
            return run_undefined(r, a.kind == V_UNDEF ? a : b);
        if (!val_cmp(r, a, b, &c))
            return false;
        *ret = op == '<' ? c < 0 : op == '>' ? c > 0 : op == OP_LE ? c <= 0 : c >= 0;
        return true;
    }
}

/* a < b < c: each operand once, stops at the first false. */
static bool eval_compare(struct run *r, const struct node *n, struct val *ret)
{
    struct val left, right;
    bool yes = true;
    if (!eval(r, n->a, &left))
        return false;
    for (const struct node *c = n->b; c && yes; c = c->next) {
        if (!eval(r, c->a, &right) || !compare(r, c->op, left, right, &yes))
            return false;
        left = right;
    }
    *ret = val_bool(yes);
    return true;
}

/* ---- literals, calls ---- */

static bool eval_list(struct run *r, const struct node *n, struct val *ret)
{
    struct vlist *l = list_new(r, 0);
    struct val v = VAL_NONE;
    if (!l)
        return false;
    for (const struct node *x = n->a; x; x = x->next)
        if (!eval(r, x, &v) || !list_push(r, l, v))
            return false;
    *ret = (struct val){ .kind = n->kind == X_LIST ? V_LIST : V_TUPLE, .list = l };
    return true;
}

static bool eval_dict(struct run *r, const struct node *n, struct val *ret)
{
    struct val key, v;
    if (!dict_new(r, ret))
        return false;
    for (const struct node *x = n->a; x; x = x->next)
        if (!eval(r, x->a, &key) || !eval(r, x->b, &v) || !dict_set(r, ret->dict, key, v))
            return false;
    return true;
}

bool eval_args(struct run *r, const struct node *list, struct args *ret)
{
    size_t n = 0, n_kw = 0;
    for (const struct node *x = list; x; x = x->next)
        *(x->kind == X_KWARG ? &n_kw : &n) += 1;
    *ret = (struct args){ .v = NULL };
    if (n && (ret->v = run_alloc(r, n * sizeof *ret->v)) == NULL)
        return false;
    if (n_kw && (ret->kw = run_alloc(r, n_kw * sizeof *ret->kw)) == NULL)
        return false;
    for (const struct node *x = list; x; x = x->next) {
        struct val v = VAL_NONE;
        if (!eval(r, x->kind == X_KWARG ? x->a : x, &v))
            return false;
        if (x->kind == X_KWARG)
            ret->kw[ret->n_kw++] = (struct kwarg){ x->name, v };
        else
            ret->v[ret->n++] = v;
    }
    return true;
}

bool call_val(struct run *r, struct val f, const struct args *a, struct val *ret)
{
    switch (f.kind) {
    case V_UNDEF:
        return run_undefined(r, f);
    case V_FUNC:
        return func_call(r, (int)f.i, a, ret);
    case V_METHOD:
        return method_call(r, f.bound, a, ret);
    case V_MACRO:
        return macro_call(r, f.macro, a, ret);
    case V_LOOP:
        return loop_call(r, f.loop, a, ret);
    default:
        return run_fail(r, ST_ARG, "'%s' object is not callable", val_type(f));
    }
}

static bool eval_call(struct run *r, const struct node *n, struct val *ret)
{
    struct val f;
    struct args a;
    if (!eval(r, n->a, &f) || !eval_args(r, n->b, &a))
        return false;
    r->line = n->line;
    return call_val(r, f, &a, ret);
}

static bool eval_filter(struct run *r, const struct node *n, struct val *ret)
{
    struct val in;
    struct args a;
    if (!eval(r, n->a, &in) || !eval_args(r, n->b, &a))
        return false;
    r->line = n->line;
    return filter_call(r, n->op, in, &a, ret);
}

static bool eval_test(struct run *r, const struct node *n, struct val *ret)
{
    struct val in;
    struct args a;
    bool yes;
    if (!eval(r, n->a, &in) || !eval_args(r, n->b, &a))
        return false;
    r->line = n->line;
    if (!test_call(r, n->op, in, &a, &yes))
        return false;
    *ret = val_bool(yes);
    return true;
}

static bool eval_logic(struct run *r, const struct node *n, struct val *ret)
{
    if (!eval(r, n->a, ret))
        return false;
    if (n->kind == X_NOT) {
        *ret = val_bool(!val_truth(*ret));
        return true;
    }
    if (val_truth(*ret) == (n->kind == X_OR))
        return true;
    return eval(r, n->b, ret);
}

static bool eval_cond(struct run *r, const struct node *n, struct val *ret)
{
    struct val test;
    if (!eval(r, n->a, &test))
        return false;
    if (val_truth(test))
        return eval(r, n->b, ret);
    if (n->c)
        return eval(r, n->c, ret);
    *ret = val_undef(STR("inline if without else"));
    return true;
}

static bool eval_two(struct run *r, const struct node *n, struct val *ret)
{
    struct val a, b;
    if (!eval(r, n->a, &a) || !eval(r, n->b, &b))
        return false;
    r->line = n->line;
    return n->kind == X_ITEM ? val_item(r, a, b, ret) : binary(r, n->op, a, b, ret);
}

static bool eval_node(struct run *r, const struct node *n, struct val *ret)
{
    switch (n->kind) {
    case X_CONST:
        *ret = n->val;
        return true;
    case X_NAME:
        return eval_name(r, n->name, ret);
    case X_LIST:
    case X_TUPLE:
        return eval_list(r, n, ret);
    case X_DICT:
        return eval_dict(r, n, ret);
    case X_ATTR:
        return eval(r, n->a, ret) && val_attr(r, *ret, n->name, ret);
    case X_ITEM:
    case X_BIN:
        return eval_two(r, n, ret);
    case X_SLICE:
        return eval_slice(r, n, ret);
    case X_CALL:
        return eval_call(r, n, ret);
    case X_FILTER:
        return eval_filter(r, n, ret);
    case X_TEST:
        return eval_test(r, n, ret);
    case X_CAPTURED:
        *ret = r->captured;
        return true;
    case X_NOT:
    case X_AND:
    case X_OR:
        return eval_logic(r, n, ret);
    case X_NEG:
    case X_POS:
        return eval_sign(r, n, ret);
    case X_CONCAT:
        return eval_concat(r, n, ret);
    case X_CMP:
        return eval_compare(r, n, ret);
    case X_COND:
        return eval_cond(r, n, ret);
    default:
        return run_fail(r, ST_ARG, "this cannot be evaluated");
    }
}

bool eval(struct run *r, const struct node *n, struct val *ret)
{
    if (!run_enter(r))
        return false;
    r->line = n->line;
    bool ok = run_work(r, 1) && eval_node(r, n, ret);
    run_leave(r);
    return ok;
}
