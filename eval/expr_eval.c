/* eval/expr_eval.c - walks the tree. Numbers follow Python's rules for which type comes out, with
 * exact values; whatever cannot be held exactly is a failure, never a rounded number. */
#include "eval/expr.h"

#include <math.h>

static bool numeric(const struct value *v)
{
    return v->kind == VALUE_NUM || v->kind == VALUE_BOOL;
}

static enum value_type type_of(const struct value *v)
{
    return v->kind == VALUE_NUM ? v->type : NUM_INT;
}

static double float_floordiv(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0))
        m += b;
    return floor((a - m) / b + 0.5);
}

/* What the floating-point twin does; the exact value is already known to exist. */
static double twin(enum expr_op op, double a, double b)
{
    switch (op) {
    case EXPR_ADD:
        return a + b;
    case EXPR_SUB:
        return a - b;
    case EXPR_MUL:
        return a * b;
    case EXPR_DIV:
        return a / b;
    case EXPR_FLOORDIV:
        return float_floordiv(a, b);
    case EXPR_MOD: {
        double m = fmod(a, b);
        return m != 0 && (m < 0) != (b < 0) ? m + b : m;
    }
    default:
        return pow(a, b);
    }
}

static bool exact(enum expr_op op, struct rational a, struct rational b, struct rational *r)
{
    switch (op) {
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
    default:
        return b.d == 1 && b.n >= 0 && b.n <= 64 && rat_pow(a, (int)b.n, r);
    }
}

static enum value_type result_type(enum expr_op op, const struct value *a, const struct value *b)
{
    enum value_type x = type_of(a), y = type_of(b), t = x > y ? x : y;
    if (op == EXPR_DIV && t == NUM_INT)
        return NUM_FLOAT;
    return op == EXPR_FLOORDIV && t == NUM_FRACTION ? NUM_INT : t;
}

static bool arithmetic(enum expr_op op, const struct value *a, const struct value *b,
                       struct expr_run *run, struct value *ret)
{
    struct rational r = { 0, 1 };
    bool divides = op == EXPR_DIV || op == EXPR_FLOORDIV || op == EXPR_MOD;
    if (divides && b->r.n == 0)
        return expr_fail(run, "division by zero");
    if (!exact(op, a->r, b->r, &r))
        return expr_fail(run, op == EXPR_POW && (b->r.d != 1 || b->r.n < 0 || b->r.n > 64)
                                  ? "an exponent that is not a whole number from 0 to 64"
                                  : "a number too large to be exact");
    enum value_type t = result_type(op, a, b);
    *ret = value_num(r, t);
    if (t == NUM_FLOAT || op == EXPR_FLOORDIV || op == EXPR_MOD || a->f != rat_f64(a->r) ||
        b->f != rat_f64(b->r))
        ret->f = twin(op, a->f, b->f);
    return true;
}

static bool compare(enum expr_op op, const struct value *a, const struct value *b,
                    struct expr_run *run, struct value *ret)
{
    if (op == EXPR_EQ || op == EXPR_NE) {
        *ret = value_bool(value_eq(a, b) == (op == EXPR_EQ));
        if (numeric(a) && numeric(b))
            ret->f = ((a->f >= b->f && a->f <= b->f) == (op == EXPR_EQ)) ? 1 : 0;
        return true;
    }
    if (!numeric(a) || !numeric(b))
        return expr_fail(run, "texts or lists have no order");
    int c = rat_cmp(a->r, b->r);
    double d = a->f - b->f;
    bool yes = op == EXPR_LT ? c < 0 : op == EXPR_LE ? c <= 0 : op == EXPR_GT ? c > 0 : c >= 0;
    bool f = op == EXPR_LT ? d < 0 : op == EXPR_LE ? d <= 0 : op == EXPR_GT ? d > 0 : d >= 0;
    *ret = value_bool(yes);
    ret->f = f ? 1 : 0;
    return true;
}

static bool concatenate(const struct value *a, const struct value *b, struct expr_run *run,
                        struct value *ret)
{
    uint32_t n = a->n_item + b->n_item; /* each is at most EXPR_LIST_MAX */
    if (n > EXPR_LIST_MAX)
        return expr_fail(run, "a list of more than 100000 parts");
    struct value *all = mem_array(run->mem, n, sizeof *all);
    if (!all)
        return expr_fail(run, "out of memory");
    if (a->n_item)
        memcpy(all, a->item, a->n_item * sizeof *all);
    if (b->n_item)
        memcpy(all + a->n_item, b->item, b->n_item * sizeof *all);
    *ret = (struct value){ .kind = VALUE_LIST, .item = all, .n_item = n, .r = { 0, 1 } };
    return true;
}

/* Repeating candidates does not change a uniform draw: the list itself stands for its repeats. */
static bool repeat(const struct value *list, const struct value *times, struct expr_run *run,
                   struct value *ret)
{
    if (times->kind != VALUE_NUM || times->r.d != 1 || times->r.n < 1)
        return expr_fail(run, "a list times something that is no whole number above 0");
    *ret = *list;
    return true;
}

bool expr_binary(enum expr_op op, const struct value *a, const struct value *b,
                 struct expr_run *run, struct value *ret)
{
    if (op >= EXPR_LT && op <= EXPR_NE)
        return compare(op, a, b, run, ret);
    if (a->kind == VALUE_LIST && b->kind == VALUE_LIST && op == EXPR_ADD)
        return concatenate(a, b, run, ret);
    if (op == EXPR_MUL && a->kind == VALUE_LIST)
        return repeat(a, b, run, ret);
    if (op == EXPR_MUL && b->kind == VALUE_LIST)
        return repeat(b, a, run, ret);
    if (!numeric(a) || !numeric(b))
        return expr_fail(run, "arithmetic with something that is no number");
    return arithmetic(op, a, b, run, ret);
}

/* The words of a worded number: a text, or another number's digits ((5, 5) occurs). */
static bool worded(const struct value *words, struct expr_run *run, struct value *ret)
{
    if (words->kind == VALUE_STR) {
        ret->s = words->s;
        return true;
    }
    struct buf b = BUF_INIT;
    value_print(words, VALUE_WORDS, &b);
    ret->s = b.failed ? (struct str){ NULL, 0 } : mem_str(run->mem, buf_view(&b));
    buf_clear(&b);
    return ret->s.p ? true : expr_fail(run, "out of memory");
}

static bool list_of(const struct node *n, struct expr_run *run, struct value *ret)
{
    struct value *all = mem_array(run->mem, n->n_kid, sizeof *all);
    if (!all)
        return expr_fail(run, "out of memory");
    for (uint32_t i = 0; i < n->n_kid; i++)
        if (!expr_eval(n->kid[i], run, &all[i]))
            return false;
    /* ("thrice", 3): a number with words of its own */
    if (n->tuple && n->n_kid == 2 && all[1].kind == VALUE_NUM && all[0].kind != VALUE_LIST) {
        *ret = all[1];
        return worded(&all[0], run, ret);
    }
    *ret = (struct value){ .kind = VALUE_LIST, .item = all, .n_item = n->n_kid, .r = { 0, 1 } };
    return true;
}

/* Python's meaning of index i in a list of n. */
static int64_t place(const struct value *i, int64_t n)
{
    return i->r.n < 0 ? i->r.n + n : i->r.n;
}

static bool index_of(const struct node *n, struct expr_run *run, struct value *ret)
{
    struct value what = { .r = { 0, 1 } }, i = what;
    if (!expr_eval(n->kid[0], run, &what) || !expr_eval(n->kid[1], run, &i))
        return false;
    if (i.kind != VALUE_NUM || i.r.d != 1)
        return expr_fail(run, "an index that is no whole number");
    if (what.kind == VALUE_LIST) {
        int64_t at = place(&i, what.n_item);
        if (at < 0 || at >= what.n_item)
            return expr_fail(run, "an index outside of its list");
        *ret = what.item[at];
        return true;
    }
    if (what.kind == VALUE_NUM && i.r.n >= 0 && i.r.n <= 1) { /* words and value: (text, number) */
        struct value v = what;
        v.s = (struct str){ NULL, 0 };
        *ret = i.r.n || !what.s.n ? v : value_str(what.s);
        return true;
    }
    int64_t at = place(&i, (int64_t)what.s.n);
    if (what.kind != VALUE_STR || at < 0 || (uint64_t)at >= what.s.n)
        return expr_fail(run, "an index outside of its text");
    *ret = value_str((struct str){ what.s.p + at, 1 });
    return true;
}

static bool slice_of(const struct node *n, struct expr_run *run, struct value *ret)
{
    struct value what = { .r = { 0, 1 } }, from = what, to = what;
    if (!expr_eval(n->kid[0], run, &what) || !expr_eval(n->kid[1], run, &from) ||
        !expr_eval(n->kid[2], run, &to))
        return false;
    if (what.kind != VALUE_LIST || (from.kind != VALUE_NONE && from.kind != VALUE_NUM) ||
        (to.kind != VALUE_NONE && to.kind != VALUE_NUM))
        return expr_fail(run, "a slice of something that is no list");
    int64_t len = what.n_item, a = from.kind == VALUE_NONE ? 0 : place(&from, len),
            b = to.kind == VALUE_NONE ? len : place(&to, len);
    a = a < 0 ? 0 : a > len ? len : a;
    b = b < a ? a : b > len ? len : b;
    *ret = what;
    ret->item = what.item ? what.item + a : NULL;
    ret->n_item = (uint32_t)(b - a);
    return true;
}

static bool call(const struct node *n, struct expr_run *run, struct value *ret)
{
    struct value arg[4] = { { .r = { 0, 1 } } };
    if (n->n_kid > 4)
        return expr_fail(run, "too many arguments");
    for (uint32_t i = 0; i < n->n_kid; i++)
        if (!expr_eval(n->kid[i], run, &arg[i]))
            return false;
    return expr_fn(n->fn)->call(run, arg, n->n_kid, ret);
}

static bool logic(const struct node *n, struct expr_run *run, struct value *ret)
{
    struct value v = { .r = { 0, 1 } };
    if (!expr_eval(n->kid[0], run, &v))
        return false;
    if (n->op == EXPR_IF)
        return expr_eval(n->kid[value_true(&v) ? 1 : 2], run, ret);
    if (n->op == EXPR_NOT) {
        *ret = value_bool(!value_true(&v));
        ret->f = v.f != 0 ? 0 : 1;
        return true;
    }
    if (value_true(&v) == (n->op == EXPR_OR)) {
        *ret = v;
        return true;
    }
    double first = v.f;
    if (!expr_eval(n->kid[1], run, ret))
        return false;
    if (n->op == EXPR_AND && first == 0 && ret->kind == VALUE_BOOL)
        ret->f = 0; /* floating point had already said no */
    return true;
}

static bool step(const struct node *n, struct expr_run *run, struct value *ret)
{
    struct value a = { .r = { 0, 1 } }, b = a;
    switch (n->op) {
    case EXPR_CONST:
    case EXPR_POOL:
        *ret = n->lit;
        return true;
    case EXPR_VAR:
        if ((uint32_t)n->var >= run->n_var || run->var[n->var].kind == VALUE_NONE)
            return expr_fail(run, "a variable without a value here");
        *ret = run->var[n->var];
        return true;
    case EXPR_LIST:
        return list_of(n, run, ret);
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_NOT:
    case EXPR_IF:
        return logic(n, run, ret);
    case EXPR_INDEX:
        return index_of(n, run, ret);
    case EXPR_SLICE:
        return slice_of(n, run, ret);
    case EXPR_CALL:
        return call(n, run, ret);
    case EXPR_NEG:
        a = value_int(0);
        return expr_eval(n->kid[0], run, &b) && expr_binary(EXPR_SUB, &a, &b, run, ret);
    default:
        return expr_eval(n->kid[0], run, &a) && expr_eval(n->kid[1], run, &b) &&
               expr_binary(n->op, &a, &b, run, ret);
    }
}

bool expr_eval(const struct node *n, struct expr_run *run, struct value *ret)
{
    if (++run->steps > EXPR_STEPS_MAX)
        return expr_fail(run, "too much work for one expression");
    if (step(n, run, ret))
        return true;
    if (!run->at)
        run->at = n->at + 1;
    return false;
}

enum status expr_value(const struct node *n, struct expr_run *run, struct value *ret,
                       struct err *err)
{
    run->why = NULL;
    run->at = run->steps = 0;
    if (expr_eval(n, run, ret))
        return ST_OK;
    if (strcmp(run->why, "out of memory") == 0)
        return err_set(err, ST_NOMEM, "an expression's value");
    return err_set(err, ST_FORMAT, "column %u: %s", run->at, run->why);
}

void expr_vars(const struct node *n, bool *seen)
{
    if (n->op == EXPR_VAR)
        seen[n->var] = true;
    for (uint32_t i = 0; i < n->n_kid; i++)
        expr_vars(n->kid[i], seen);
}

bool expr_has_text(const struct node *n)
{
    bool has = n->op == EXPR_CONST && n->lit.kind == VALUE_STR;
    for (uint32_t i = 0; !has && i < n->n_kid; i++)
        has = expr_has_text(n->kid[i]);
    return has;
}
