/* engine/model/chat_arith.c - operators on two values, as Python computes them: 64-bit integers
 * that fail where Python's would grow, strings, lists, markup. */
#include "engine/model/chat_internal.h"

#include <math.h>

static bool whole_op(struct run *r, int op, int64_t a, int64_t b, struct val *ret)
{
    int64_t x = 0;
    bool over = false;
    if ((op == OP_FLOORDIV || op == '%') && b == 0)
        return run_fail(r, ST_ARG, "division by zero");
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &x);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &x);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &x);
        break;
    case OP_FLOORDIV: /* towards minus infinity */
        over = a == INT64_MIN && b == -1;
        x = over ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    case '%': /* the sign of the divisor */
        x = b == -1 ? 0 : a % b;
        x += x != 0 && (x < 0) != (b < 0) ? b : 0;
        break;
    default: /* power, b >= 0 */
        for (x = 1; b > 0 && !over && run_work(r, 1); b >>= 1) {
            if (b & 1)
                over = __builtin_mul_overflow(x, a, &x);
            if (b > 1 && __builtin_mul_overflow(a, a, &a))
                over = true;
        }
    }
    *ret = val_int(x);
    return !over || run_fail(r, ST_RANGE, "integer out of 64 bits");
}

static bool float_op(struct run *r, int op, double a, double b, struct val *ret)
{
    double x = 0;
    if ((op == '/' || op == OP_FLOORDIV || op == '%') && b == 0)
        return run_fail(r, ST_ARG, "division by zero");
    switch (op) {
    case '+':
        x = a + b;
        break;
    case '-':
        x = a - b;
        break;
    case '*':
        x = a * b;
        break;
    case '/':
        x = a / b;
        break;
    case OP_FLOORDIV:
        x = floor(a / b);
        break;
    case '%':
        x = fmod(a, b);
        x += x != 0 && (x < 0) != (b < 0) ? b : 0;
        break;
    default:
        x = pow(a, b);
    }
    *ret = val_float(x);
    return true;
}

bool add_strings(struct run *r, struct val a, struct val b, struct val *ret)
{
    size_t n = (size_t)a.n + b.n;
    if (n > CHAT_MEMORY_MAX)
        return run_fail(r, ST_RANGE, "a string of more than %d MiB", CHAT_MEMORY_MAX >> 20);
    /* Templates gather text piece by piece (ns.text = ns.text + x). A string that was built last
     * grows in place: no other view looks behind its end. */
    bool last = (const unsigned char *)a.p + a.n == r->mem.base + r->mem.used;
    char *p = last ? arena_alloc(&r->mem, b.n, 1) : run_alloc(r, n);
    if (!p)
        return run_fail(r, ST_RANGE, "the template needs more than %d MiB", CHAT_MEMORY_MAX >> 20);
    if (!last)
        memcpy(p, a.p, a.n);
    memcpy(last ? p : p + a.n, b.p, b.n);
    *ret = val_str((struct str){ last ? a.p : p, n });
    return run_work(r, (last ? b.n : n) / 64);
}

/* Markup escapes what is added to it, as markupsafe does. */
static bool add_markup(struct run *r, struct val a, struct val b, struct val *ret)
{
    if (!text_escape(r, a, &a) || !text_escape(r, b, &b) || !add_strings(r, a, b, ret))
        return false;
    ret->markup = true;
    return true;
}

static bool repeat(struct run *r, struct val v, int64_t times, struct val *ret)
{
    if (v.kind == V_STR) {
        size_t mark = r->out.n;
        for (int64_t i = 0; i < times && v.n; i++)
            if (!run_put(r, val_view(v)) || !run_work(r, 1))
                return false;
        if (!run_take(r, mark, ret))
            return false;
        ret->markup = v.markup;
        return true;
    }
    struct vlist *l = list_new(r, 0);
    for (int64_t i = 0; l && i < times && v.list->n; i++)
        for (size_t k = 0; k < v.list->n; k++)
            if (!list_push(r, l, v.list->v[k]))
                return false;
    *ret = (struct val){ .kind = v.kind, .list = l };
    return l != NULL;
}

static bool add_lists(struct run *r, struct val a, struct val b, struct val *ret)
{
    struct vlist *l = list_new(r, a.list->n + b.list->n);
    if (!l)
        return false;
    for (size_t i = 0; i < a.list->n; i++)
        l->v[l->n++] = a.list->v[i];
    for (size_t i = 0; i < b.list->n; i++)
        l->v[l->n++] = b.list->v[i];
    *ret = (struct val){ .kind = a.kind, .list = l };
    return run_work(r, l->n / 4);
}

static bool is_whole(struct val v)
{
    return v.kind == V_INT || v.kind == V_BOOL;
}

static int64_t as_whole(struct val v)
{
    return v.kind == V_INT ? v.i : v.b;
}

static bool is_sequence(struct val v)
{
    return v.kind == V_STR || v.kind == V_LIST || v.kind == V_TUPLE;
}

bool binary(struct run *r, int op, struct val a, struct val b, struct val *ret)
{
    if (a.kind == V_UNDEF || b.kind == V_UNDEF)
        return run_undefined(r, a.kind == V_UNDEF ? a : b);
    if (is_whole(a) && is_whole(b) && op != '/' && !(op == OP_POW && as_whole(b) < 0))
        return whole_op(r, op, as_whole(a), as_whole(b), ret);
    if (val_is_num(a) && val_is_num(b))
        return float_op(r, op, val_num(a), val_num(b), ret);
    if (op == '+' && a.kind == V_STR && b.kind == V_STR)
        return a.markup || b.markup ? add_markup(r, a, b, ret) : add_strings(r, a, b, ret);
    if (op == '+' && is_sequence(a) && a.kind == b.kind)
        return add_lists(r, a, b, ret);
    if (op == '*' && is_sequence(a) && is_whole(b))
        return repeat(r, a, as_whole(b), ret);
    if (op == '*' && is_whole(a) && is_sequence(b))
        return repeat(r, b, as_whole(a), ret);
    if (op == '%' && a.kind == V_STR && a.markup)
        return run_fail(r, ST_UNSUPPORTED, "formatting what 'safe' or 'escape' gave");
    if (op == '%' && a.kind == V_STR)
        return format_percent(r, val_view(a), b, ret);
    return run_fail(r, ST_ARG, "unsupported operand types '%s' and '%s'", val_type(a), val_type(b));
}
