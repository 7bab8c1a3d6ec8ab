/* engine/model/chat_exec.c - statements: output, if, for, set, macros, blocks that capture what
 * they print. Scopes follow Jinja: each turn of a loop, each macro and each capturing block has its
 * own; if has none; what must outlive a loop lives in a namespace object. */
#include "engine/model/chat_internal.h"

static struct scope *scope_open(struct run *r, struct scope *up)
{
    struct scope *s = run_alloc(r, sizeof *s);
    if (s)
        *s = (struct scope){ .up = up };
    return s;
}

/* Runs `list` in a new scope inside the current one. */
static enum flow exec_inside(struct run *r, const struct node *list)
{
    struct scope *back = r->scope, *s = scope_open(r, back);
    if (!s)
        return FLOW_ERR;
    r->scope = s;
    enum flow f = exec(r, list);
    r->scope = back;
    return f;
}

static bool assign_tuple(struct run *r, const struct node *target, struct val v)
{
    struct vlist *l = NULL;
    size_t want = 0;
    if (!val_iter(r, v, &l))
        return false;
    for (const struct node *t = target->a; t; t = t->next)
        want++;
    if (l->n != want)
        return run_fail(r, ST_ARG, "%zu values for %zu names", l->n, want);
    const struct node *t = target->a;
    for (size_t i = 0; t; t = t->next, i++)
        if (!assign(r, t, l->v[i]))
            return false;
    return true;
}

bool assign(struct run *r, const struct node *target, struct val v)
{
    r->line = target->line;
    if (target->kind == X_NAME)
        return set_name(r, target->name, v);
    if (target->kind == X_TUPLE)
        return run_enter(r) && assign_tuple(r, target, v) && (run_leave(r), true);
    struct val ns;
    if (!eval(r, target->a, &ns))
        return false;
    if (ns.kind != V_NS)
        return run_fail(r, ST_ARG, "cannot assign an attribute of '%s': not a namespace",
                        val_type(ns));
    return dict_set(r, ns.dict, val_str(target->name), v);
}

/* ---- loops ---- */

/* Items for which the condition of `for x in y if z` holds; evaluated before the first turn. */
static struct vlist *matching(struct run *r, const struct node *n, struct vlist *all)
{
    struct vlist *l = list_new(r, 0);
    struct scope *back = r->scope;
    for (size_t i = 0; l && i < all->n; i++) {
        struct val keep;
        r->scope = scope_open(r, back);
        if (!r->scope || !assign(r, n->a, all->v[i]) || !eval(r, n->e, &keep) ||
            (val_truth(keep) && !list_push(r, l, all->v[i])))
            l = NULL;
    }
    r->scope = back;
    return l;
}

/* A list may grow while it is walked; its items are looked at one by one, as Python does. */
static enum flow exec_turns(struct run *r, struct loop *lp)
{
    struct val self = { .kind = V_LOOP, .loop = lp };
    for (; lp->at < lp->items->n; lp->at++) {
        r->scope = scope_open(r, lp->scope);
        if (!r->scope || !run_work(r, 1) || !set_name(r, STR("loop"), self) ||
            !assign(r, lp->node->a, lp->items->v[lp->at]))
            return FLOW_ERR;
        enum flow f = exec(r, lp->node->c);
        if (f == FLOW_ERR)
            return f;
        if (f == FLOW_BREAK)
            break;
    }
    return FLOW_NEXT;
}

static enum flow run_loop(struct run *r, const struct node *n, struct val over, size_t depth)
{
    struct vlist *items;
    struct scope *back = r->scope;
    struct loop *lp = run_alloc(r, sizeof *lp);
    if (!lp)
        return FLOW_ERR;
    if (!val_iter(r, over, &items) || (n->e && (items = matching(r, n, items)) == NULL))
        return FLOW_ERR;
    if (!items->n)
        return n->d ? exec_inside(r, n->d) : FLOW_NEXT;
    *lp = (struct loop){ .items = items, .depth = depth, .node = n, .scope = back };
    enum flow f = exec_turns(r, lp);
    r->scope = back;
    return f;
}

static enum flow exec_for(struct run *r, const struct node *n)
{
    struct val over;
    return eval(r, n->b, &over) ? run_loop(r, n, over, 0) : FLOW_ERR;
}

bool loop_call(struct run *r, struct loop *l, const struct args *a, struct val *ret)
{
    if (!l->node->op)
        return run_fail(r, ST_ARG, "the loop is not marked 'recursive'");
    if (a->n != 1 || a->n_kw)
        return run_fail(r, ST_ARG, "loop() takes one argument");
    size_t mark = r->out.n;
    struct scope *back = r->scope;
    r->scope = l->scope;
    bool ok = run_loop(r, l->node, a->v[0], l->depth + 1) != FLOW_ERR;
    r->scope = back;
    return ok && run_take(r, mark, ret);
}

bool loop_attr(struct run *r, struct loop *l, struct str name, struct val *ret)
{
    int64_t at = (int64_t)l->at, n = (int64_t)l->items->n;
    const struct {
        const char *name;
        struct val val;
    } known[] = {
        { "index", val_int(at + 1) },
        { "index0", val_int(at) },
        { "revindex", val_int(n - at) },
        { "revindex0", val_int(n - at - 1) },
        { "first", val_bool(at == 0) },
        { "last", val_bool(at + 1 == n) },
        { "length", val_int(n) },
        { "depth", val_int((int64_t)l->depth + 1) },
        { "depth0", val_int((int64_t)l->depth) },
        { "previtem", at > 0 ? l->items->v[at - 1] : val_undef(STR("loop.previtem")) },
        { "nextitem", at + 1 < n ? l->items->v[at + 1] : val_undef(STR("loop.nextitem")) },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_is(name, known[i].name)) {
            *ret = known[i].val;
            return true;
        }
    int id = method_find(V_LOOP, name);
    if (id < 0) {
        *ret = val_undef(name);
        return true;
    }
    struct bound *m = run_alloc(r, sizeof *m);
    if (!m)
        return false;
    *m = (struct bound){ .self = { .kind = V_LOOP, .loop = l }, .method = id };
    *ret = (struct val){ .kind = V_METHOD, .bound = m };
    return true;
}

/* ---- macros ---- */

static const struct kwarg *find_kw(const struct args *a, struct str name)
{
    for (size_t i = 0; i < a->n_kw; i++)
        if (str_eq(a->kw[i].name, name))
            return &a->kw[i];
    return NULL;
}

/* Arguments beyond the parameters: varargs and kwargs, as Jinja names them. Jinja refuses them to a
 * macro that does not mention those names, and a caller to one that never calls it. */
static bool bind_rest(struct run *r, const struct node *n, const struct args *a, size_t from)
{
    struct vlist *rest = list_new(r, 0);
    struct val kwargs;
    int uses = n->op;
    const struct node *params = n->a;
    if (a->n > from && !(uses & USES_VARARGS))
        return run_fail(r, ST_ARG, "macro '%.*s' takes at most %zu arguments, not %zu",
                        (int)(n->name.n & 63), n->name.p, from, a->n);
    if (!rest || !dict_new(r, &kwargs))
        return false;
    for (size_t i = from; i < a->n; i++)
        if (!list_push(r, rest, a->v[i]))
            return false;
    for (size_t i = 0; i < a->n_kw; i++) {
        const struct node *p = params;
        while (p && !str_eq(p->name, a->kw[i].name))
            p = p->next;
        if (!p && !(uses & USES_KWARGS))
            return run_fail(r, ST_ARG, "macro '%.*s' has no parameter '%.*s'",
                            (int)(n->name.n & 63), n->name.p, (int)(a->kw[i].name.n & 63),
                            a->kw[i].name.p);
        if (!p && !dict_set(r, kwargs.dict, val_str(a->kw[i].name), a->kw[i].val))
            return false;
    }
    return set_name(r, STR("varargs"), (struct val){ .kind = V_TUPLE, .list = rest }) &&
           set_name(r, STR("kwargs"), kwargs);
}

static bool bind_params(struct run *r, struct macro *m, const struct args *a)
{
    size_t i = 0;
    for (const struct node *p = m->node->a; p; p = p->next, i++) {
        const struct kwarg *kw = find_kw(a, p->name);
        struct val v = val_undef(p->name);
        if (i < a->n && kw)
            return run_fail(r, ST_ARG, "two values for the parameter '%.*s'", (int)(p->name.n & 63),
                            p->name.p);
        if (i < a->n)
            v = a->v[i];
        else if (kw)
            v = kw->val;
        else if (p->a && !eval(r, p->a, &v)) /* defaults see the parameters before them */
            return false;
        if (!set_name(r, p->name, v))
            return false;
    }
    if (m->caller.kind == V_MACRO && !set_name(r, STR("caller"), m->caller))
        return false;
    if (m->caller.kind == V_MACRO && !(m->node->op & USES_CALLER))
        return run_fail(r, ST_ARG, "macro '%.*s' does not use its caller",
                        (int)(m->node->name.n & 63), m->node->name.p);
    return bind_rest(r, m->node, a, i);
}

bool macro_call(struct run *r, struct macro *m, const struct args *a, struct val *ret)
{
    struct scope *back = r->scope, *s = scope_open(r, m->scope);
    size_t mark = r->out.n;
    if (!s || !run_enter(r))
        return false;
    r->scope = s;
    bool ok = bind_params(r, m, a) && exec(r, m->node->b) != FLOW_ERR && run_take(r, mark, ret);
    r->scope = back;
    run_leave(r);
    return ok;
}

static bool new_macro(struct run *r, const struct node *n, struct val *ret)
{
    struct macro *m = run_alloc(r, sizeof *m);
    if (!m)
        return false;
    *m = (struct macro){ .node = n, .scope = r->scope };
    *ret = (struct val){ .kind = V_MACRO, .macro = m };
    return true;
}

static enum flow exec_call(struct run *r, const struct node *n)
{
    struct val caller, f, text;
    struct args a;
    if (!new_macro(r, n->b, &caller) || !eval(r, n->a->a, &f) || !eval_args(r, n->a->b, &a))
        return FLOW_ERR;
    if (f.kind != V_MACRO) {
        run_fail(r, ST_ARG, "'call' needs a macro, not '%s'", val_type(f));
        return FLOW_ERR;
    }
    struct macro with_caller = *f.macro;
    with_caller.caller = caller;
    return macro_call(r, &with_caller, &a, &text) && put_val(r, text) ? FLOW_NEXT : FLOW_ERR;
}

/* ---- the rest ---- */

/* What `list` prints, through the filters `via` when there are any. */
static bool capture(struct run *r, const struct node *list, const struct node *via, struct val *ret)
{
    size_t mark = r->out.n;
    if (exec_inside(r, list) == FLOW_ERR || !run_take(r, mark, ret))
        return false;
    if (!via)
        return true;
    struct val outer = r->captured;
    r->captured = *ret;
    bool ok = eval(r, via, ret);
    r->captured = outer;
    return ok;
}

static enum flow exec_if(struct run *r, const struct node *n)
{
    for (; n; n = n->c) {
        struct val test;
        if (n->kind != S_IF)
            return exec(r, n->b);
        if (!eval(r, n->a, &test))
            return FLOW_ERR;
        if (val_truth(test))
            return exec(r, n->b);
    }
    return FLOW_NEXT;
}

static enum flow exec_with(struct run *r, const struct node *n)
{
    struct scope *back = r->scope, *s = scope_open(r, back);
    bool ok = s != NULL;
    for (const struct node *set = n->a; ok && set; set = set->next) {
        struct val v = VAL_NONE;
        ok = eval(r, set->b, &v); /* in the outer scope */
        struct scope *outer = r->scope;
        r->scope = s;
        ok = ok && assign(r, set->a, v);
        r->scope = outer;
    }
    r->scope = s;
    enum flow f = ok ? exec(r, n->b) : FLOW_ERR;
    r->scope = back;
    return f;
}

static enum flow flow_of(bool ok)
{
    return ok ? FLOW_NEXT : FLOW_ERR;
}

static enum flow exec_node(struct run *r, const struct node *n)
{
    struct val v = VAL_NONE;
    switch (n->kind) {
    case S_DATA:
        return flow_of(run_put(r, n->name));
    case S_PRINT:
        return flow_of(eval(r, n->a, &v) && put_val(r, v));
    case S_IF:
        return exec_if(r, n);
    case S_FOR:
        return exec_for(r, n);
    case S_SET:
        return flow_of(eval(r, n->b, &v) && assign(r, n->a, v));
    case S_CAPTURE:
        return flow_of(capture(r, n->c, n->b, &v) && assign(r, n->a, v));
    case S_MACRO:
        return flow_of(new_macro(r, n, &v) && set_name(r, n->name, v));
    case S_CALL:
        return exec_call(r, n);
    case S_FILTER:
        return flow_of(capture(r, n->b, n->a, &v) && put_val(r, v));
    case S_WITH:
        return exec_with(r, n);
    case S_SCOPE:
        return exec_inside(r, n->b);
    case S_BREAK:
        return FLOW_BREAK;
    case S_CONTINUE:
        return FLOW_CONTINUE;
    default:
        return flow_of(run_fail(r, ST_ARG, "this is not a statement"));
    }
}

enum flow exec(struct run *r, const struct node *list)
{
    enum flow f = FLOW_NEXT;
    if (!run_enter(r))
        return FLOW_ERR;
    for (const struct node *n = list; n && f == FLOW_NEXT; n = n->next) {
        r->line = n->line;
        f = run_work(r, 1) ? exec_node(r, n) : FLOW_ERR;
    }
    run_leave(r);
    return f;
}
