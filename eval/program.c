/* eval/program.c - see program.h. Instructions stand in one array, operands before users; per depth
 * a list says which to run, the checks of conditions that complete there as early as possible. */
#include "eval/program.h"

enum { INSTR_MAX = 2048, KIDS = 3 };

struct instr {
    enum expr_op op;
    enum expr_op inner; /* is_int(a inner b), one instruction: then op is EXPR_CALL and kid a, b */
    uint16_t fn;
    uint8_t n_kid;
    bool ok; /* has a value now */
    int depth;
    uint32_t kid[KIDS];
    int32_t var;
    struct rational r;       /* the value; EXPR_CONST: the number */
    const struct node *tree; /* what cannot be compiled (texts): evaluated as a tree */
};

struct step {
    uint32_t instr;
    bool check; /* the instruction is a condition */
};

struct program {
    struct instr *instr;
    uint32_t n;
    struct step **step; /* [depth + 1] */
    uint32_t *n_step;
    bool *scheduled;
    int n_depth;
    uint32_t var_instr[TPL_VARS_MAX]; /* UINT32_MAX: not named */
    uint32_t fix[TPL_VARS_MAX];       /* the instruction that fixes it, UINT32_MAX */
    struct value value[TPL_VARS_MAX]; /* for trees */
    bool in_tree[TPL_VARS_MAX];
    const int *depth;
    struct mem *mem;
    struct mem scratch;
    uint64_t steps;
    uint16_t fn_is_int, fn_int, fn_divides;
    bool full;
};

static uint32_t put(struct program *p, struct instr in)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const struct instr *o = &p->instr[i];
        if (o->op == in.op && o->inner == in.inner && o->fn == in.fn && o->n_kid == in.n_kid &&
            o->var == in.var && o->tree == in.tree && memcmp(o->kid, in.kid, sizeof in.kid) == 0 &&
            (in.op != EXPR_CONST || rat_eq(o->r, in.r)))
            return i;
    }
    if (p->n == INSTR_MAX) {
        p->full = true;
        return 0;
    }
    in.ok = in.op == EXPR_CONST;
    for (uint8_t k = 0; k < in.n_kid; k++)
        if (p->instr[in.kid[k]].depth > in.depth)
            in.depth = p->instr[in.kid[k]].depth;
    p->instr[p->n] = in;
    return p->n++;
}

/* Numbers, truth values and the functions that map numbers to one. */
static bool compilable(const struct node *n)
{
    bool ok = true;
    switch (n->op) {
    case EXPR_CONST:
        return n->lit.kind == VALUE_NUM || n->lit.kind == VALUE_BOOL;
    case EXPR_POOL:
    case EXPR_LIST:
    case EXPR_SLICE:
        return false;
    case EXPR_INDEX: /* x[1]: the number of a worded number */
        return n->kid[0]->op == EXPR_VAR && n->kid[1]->op == EXPR_CONST &&
               n->kid[1]->lit.kind == VALUE_NUM && n->kid[1]->lit.r.n == 1;
    case EXPR_CALL:
        ok = expr_fn(n->fn)->pure && n->n_kid <= KIDS;
        break;
    default:
        break;
    }
    for (uint32_t i = 0; i < n->n_kid && ok; i++)
        ok = compilable(n->kid[i]);
    return ok;
}

static bool is_arithmetic(const struct node *n)
{
    return n->op == EXPR_ADD || n->op == EXPR_SUB || n->op == EXPR_MUL || n->op == EXPR_DIV;
}

static int depth_of(const struct program *p, const struct node *n)
{
    bool seen[TPL_VARS_MAX] = { false };
    int depth = -1;
    expr_vars(n, seen);
    for (int v = 0; v < TPL_VARS_MAX; v++)
        depth = seen[v] && p->depth[v] > depth ? p->depth[v] : depth;
    return depth;
}

static uint32_t compile(struct program *p, const struct node *n);

/* The two sides of an arithmetic node. "x - y - z" where x is bound last is x - (y + z), of which
 * the sum is known above the innermost loop: exact numbers may be added in any order. */
static void compile_sides(struct program *p, const struct node *n, struct instr *in)
{
    const struct node *left = n->kid[0];
    bool chain =
        (n->op == EXPR_ADD || n->op == EXPR_SUB) && (left->op == EXPR_ADD || left->op == EXPR_SUB);
    in->n_kid = 2;
    if (!chain || depth_of(p, left->kid[0]) <= depth_of(p, left->kid[1]) ||
        depth_of(p, left->kid[0]) <= depth_of(p, n->kid[1])) {
        in->kid[0] = compile(p, n->kid[0]);
        in->kid[1] = compile(p, n->kid[1]);
        return;
    }
    struct instr rest = { .op = n->op, .n_kid = 2, .var = -1, .depth = -1, .r = { 0, 1 } };
    if (left->op == EXPR_SUB)
        rest.op = n->op == EXPR_SUB ? EXPR_ADD : EXPR_SUB;
    rest.kid[0] = compile(p, left->kid[1]);
    rest.kid[1] = compile(p, n->kid[1]);
    rest.fn = n->fn;
    in->kid[0] = compile(p, left->kid[0]);
    in->kid[1] = put(p, rest);
    if (in->inner)
        in->inner = left->op;
    else
        in->op = left->op;
}

static uint32_t compile(struct program *p, const struct node *n)
{
    struct instr in = { .op = n->op, .fn = n->fn, .var = -1, .depth = -1, .r = { 0, 1 } };
    if (n->op == EXPR_CONST) {
        in.r = n->lit.r;
    } else if (n->op == EXPR_VAR) {
        in.var = n->var;
        in.depth = p->depth[n->var];
        uint32_t at = put(p, in);
        p->var_instr[n->var] = at;
        return at;
    } else if (n->op == EXPR_INDEX) {
        return compile(p, n->kid[0]);
    } else {
        if (n->op == EXPR_CALL && n->fn == p->fn_is_int && is_arithmetic(n->kid[0])) {
            n = n->kid[0];
            in.inner = n->op;
        }
        if (is_arithmetic(n)) {
            compile_sides(p, n, &in);
            return put(p, in);
        }
        in.n_kid = (uint8_t)n->n_kid;
        for (uint32_t i = 0; i < n->n_kid; i++)
            in.kid[i] = compile(p, n->kid[i]);
    }
    return put(p, in);
}

static uint32_t compile_tree(struct program *p, const struct node *n)
{
    bool seen[TPL_VARS_MAX] = { false };
    struct instr in = { .op = EXPR_LIST, .var = -1, .depth = -1, .tree = n, .r = { 0, 1 } };
    expr_vars(n, seen);
    for (int i = 0; i < TPL_VARS_MAX; i++)
        if (seen[i]) {
            p->in_tree[i] = true;
            in.depth = p->depth[i] > in.depth ? p->depth[i] : in.depth;
        }
    return put(p, in);
}

static void schedule(struct program *p, uint32_t at, bool check)
{
    struct instr *in = &p->instr[at];
    for (uint8_t k = 0; k < in->n_kid; k++)
        schedule(p, in->kid[k], false);
    bool needs = in->op != EXPR_CONST && in->op != EXPR_VAR;
    if ((needs && !p->scheduled[at]) || check)
        p->step[in->depth + 1][p->n_step[in->depth + 1]++] = (struct step){ at, check };
    p->scheduled[at] = true;
}

/* "v == e" with e known before v is. */
static void note_fix(struct program *p, const struct node *cond)
{
    for (uint32_t side = 0; side < 2 && cond->op == EXPR_EQ; side++) {
        const struct node *v = cond->kid[side], *e = cond->kid[1 - side];
        if (v->op != EXPR_VAR || !compilable(e) || p->fix[v->var] != UINT32_MAX)
            continue;
        uint32_t at = compile(p, e);
        if (p->instr[at].depth < p->depth[v->var])
            p->fix[v->var] = at;
    }
}

static bool prepare(struct program *p, uint32_t n_cond)
{
    p->instr = mem_array(p->mem, INSTR_MAX, sizeof *p->instr);
    p->scheduled = mem_array(p->mem, INSTR_MAX, sizeof *p->scheduled);
    p->step = mem_array(p->mem, (size_t)p->n_depth + 1, sizeof(struct step *));
    p->n_step = mem_array(p->mem, (size_t)p->n_depth + 1, sizeof *p->n_step);
    for (int i = 0; p->step && i <= p->n_depth; i++) {
        p->step[i] = mem_array(p->mem, INSTR_MAX + n_cond, sizeof(struct step));
        if (!p->step[i])
            return false;
    }
    for (int i = 0; i < TPL_VARS_MAX; i++)
        p->var_instr[i] = p->fix[i] = UINT32_MAX;
    return p->instr && p->scheduled && p->step && p->n_step;
}

struct program *program_make(const struct template *t, const struct cond *const *cond, uint32_t n,
                             const int *depth, int n_depth, struct mem *mem)
{
    struct program *p = mem_get(mem, sizeof *p);
    uint32_t at[TPL_CONDS_MAX];
    if (!p)
        return NULL;
    *p = (struct program){ .n_depth = n_depth,
                           .depth = depth,
                           .mem = mem,
                           .fn_is_int = (uint16_t)expr_fn_find(STR("is_int")),
                           .fn_int = (uint16_t)expr_fn_find(STR("int")),
                           .fn_divides = (uint16_t)expr_fn_find(STR("divides")) };
    if (!prepare(p, n))
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        at[i] = compilable(cond[i]->expr) && !cond[i]->has_text ? compile(p, cond[i]->expr)
                                                                : compile_tree(p, cond[i]->expr);
    for (uint32_t i = 0; i < n; i++)
        note_fix(p, cond[i]->expr);
    for (int d = -1; d < n_depth; d++) /* what completes first is computed first */
        for (uint32_t i = 0; i < n; i++)
            if (p->instr[at[i]].depth == d)
                schedule(p, at[i], true);
    for (uint32_t i = 0; i < t->n_var; i++)
        if (p->fix[i] != UINT32_MAX)
            schedule(p, p->fix[i], false);
    return p->full ? NULL : p;
}

void program_bind(struct program *p, uint32_t var, const struct value *v)
{
    if (p->in_tree[var])
        p->value[var] = *v;
    if (p->var_instr[var] != UINT32_MAX) {
        struct instr *in = &p->instr[p->var_instr[var]];
        in->ok = v->kind == VALUE_NUM || v->kind == VALUE_BOOL;
        in->r = v->r;
    }
}

static bool general(struct program *p, struct instr *in)
{
    struct expr_run run = { .mem = &p->scratch };
    struct value arg[KIDS], v;
    bool ok;
    if (in->op == EXPR_CALL) {
        for (uint8_t k = 0; k < in->n_kid; k++)
            arg[k] = value_num(p->instr[in->kid[k]].r, NUM_FRACTION);
        ok = expr_fn(in->fn)->call(&run, arg, in->n_kid, &v);
    } else {
        run.var = p->value;
        run.n_var = TPL_VARS_MAX;
        ok = expr_eval(in->tree, &run, &v);
        if (p->scratch.total > MEM_CAP / 2)
            mem_clear(&p->scratch);
    }
    if (ok)
        in->r = v.kind == VALUE_NUM ? v.r : rat_int(value_true(&v));
    return ok;
}

static bool small(int64_t a)
{
    return a > -((int64_t)1 << 31) && a < (int64_t)1 << 31;
}

static bool whole_large(enum expr_op op, struct rational a, struct rational b, struct rational *ret)
{
    struct rational r;
    bool ok = op == EXPR_ADD   ? rat_add(a, b, &r)
              : op == EXPR_SUB ? rat_sub(a, b, &r)
              : op == EXPR_MUL ? rat_mul(a, b, &r)
                               : rat_div(a, b, &r);
    if (ok)
        *ret = rat_int(r.d == 1);
    return ok;
}

/* Is a op b whole? Both are reduced, so it need not be computed: a sum is whole only over one
 * denominator, a product where each denominator divides the other's numerator. */
static bool whole(enum expr_op op, struct rational a, struct rational b, struct rational *ret)
{
    bool yes;
    if (!small(a.n) || !small(a.d) || !small(b.n) || !small(b.d))
        return whole_large(op, a, b, ret);
    switch (op) {
    case EXPR_ADD:
        yes = a.d == b.d && (a.d == 1 || (a.n + b.n) % a.d == 0);
        break;
    case EXPR_SUB:
        yes = a.d == b.d && (a.d == 1 || (a.n - b.n) % a.d == 0);
        break;
    case EXPR_MUL:
        yes = (a.d == 1 || b.n % a.d == 0) && (b.d == 1 || a.n % b.d == 0);
        break;
    default:
        if (b.n == 0)
            return false;
        yes = a.n % b.n == 0 && (a.d == 1 || b.d % a.d == 0);
    }
    *ret = rat_int(yes);
    return true;
}

static bool call(struct program *p, struct instr *in)
{
    const struct rational *a = &p->instr[in->kid[0]].r;
    if (in->inner)
        return whole(in->inner, *a, p->instr[in->kid[1]].r, &in->r);
    if (in->fn == p->fn_is_int) {
        in->r = rat_int(a->d == 1);
        return true;
    }
    if (in->fn == p->fn_int) {
        in->r = rat_int(a->d == 1 ? a->n : rat_trunc(*a));
        return true;
    }
    if (in->fn == p->fn_divides) {
        const struct rational *b = &p->instr[in->kid[1]].r;
        struct rational q;
        if (a->d == 1 && b->d == 1 && b->n) {
            in->r = rat_int(a->n % b->n == 0);
            return true;
        }
        if (!rat_div(*a, *b, &q))
            return false;
        in->r = rat_int(q.d == 1);
        return true;
    }
    return general(p, in);
}

/* and, or, if: a poisoned operand matters only where its value is needed. */
static bool branch(struct program *p, struct instr *in)
{
    const struct instr *a = &p->instr[in->kid[0]], *b = &p->instr[in->kid[1]];
    if (!a->ok)
        return false;
    bool yes = a->r.n != 0;
    const struct instr *from = in->op == EXPR_IF            ? (yes ? b : &p->instr[in->kid[2]])
                               : yes == (in->op == EXPR_OR) ? a
                                                            : b;
    in->r = from->r;
    return from->ok;
}

static bool compute(struct program *p, struct instr *in)
{
    struct rational *r = &in->r;
    if (in->op == EXPR_AND || in->op == EXPR_OR || in->op == EXPR_IF)
        return branch(p, in);
    for (uint8_t k = 0; k < in->n_kid; k++)
        if (!p->instr[in->kid[k]].ok)
            return false;
    const struct rational a = in->n_kid > 0 ? p->instr[in->kid[0]].r : rat_int(0),
                          b = in->n_kid > 1 ? p->instr[in->kid[1]].r : rat_int(0);
    switch (in->op) {
    case EXPR_ADD:
        return rat_add(a, b, r);
    case EXPR_SUB:
        return rat_sub(a, b, r);
    case EXPR_MUL:
        return rat_mul(a, b, r);
    case EXPR_DIV:
        return rat_div(a, b, r);
    case EXPR_FLOORDIV:
        return rat_floordiv(a, b, r);
    case EXPR_MOD:
        return rat_mod(a, b, r);
    case EXPR_POW:
        return b.d == 1 && b.n >= 0 && b.n <= 64 && rat_pow(a, (int)b.n, r);
    case EXPR_NEG:
        *r = (struct rational){ -a.n, a.d };
        return true;
    case EXPR_NOT:
        *r = rat_int(a.n == 0);
        return true;
    case EXPR_EQ:
        *r = rat_int(rat_eq(a, b));
        return true;
    case EXPR_NE:
        *r = rat_int(!rat_eq(a, b));
        return true;
    case EXPR_LT:
        *r = rat_int(rat_cmp(a, b) < 0);
        return true;
    case EXPR_LE:
        *r = rat_int(rat_cmp(a, b) <= 0);
        return true;
    case EXPR_GT:
        *r = rat_int(rat_cmp(a, b) > 0);
        return true;
    case EXPR_GE:
        *r = rat_int(rat_cmp(a, b) >= 0);
        return true;
    case EXPR_CALL:
        return call(p, in);
    default:
        return general(p, in);
    }
}

bool program_run(struct program *p, int depth)
{
    const struct step *s = p->step[depth + 1];
    uint32_t n = p->n_step[depth + 1];
    for (uint32_t i = 0; i < n; i++) {
        struct instr *in = &p->instr[s[i].instr];
        p->steps++;
        if (in->op != EXPR_VAR && in->op != EXPR_CONST)
            in->ok = compute(p, in);
        if (s[i].check && (!in->ok || in->r.n == 0))
            return false;
    }
    return true;
}

bool program_has_steps(const struct program *p, int depth)
{
    return p->n_step[depth + 1] != 0;
}

bool program_fixes(const struct program *p, uint32_t var)
{
    return p->fix[var] != UINT32_MAX;
}

bool program_fixed(const struct program *p, uint32_t var, struct rational *ret)
{
    const struct instr *in = &p->instr[p->fix[var]];
    *ret = in->r;
    return in->ok;
}

uint64_t program_steps(const struct program *p)
{
    return p->steps;
}

void program_clear(struct program *p)
{
    if (p)
        mem_clear(&p->scratch);
}
