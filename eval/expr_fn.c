/* eval/expr_fn.c - the functions that expressions may call. */
#include "eval/expr.h"
#include "eval/words.h"

#include <math.h>

static bool numeric(const struct value *v)
{
    return v->kind == VALUE_NUM || v->kind == VALUE_BOOL;
}

static bool want_num(struct expr_run *run, const struct value *arg, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!numeric(&arg[i]))
            return expr_fail(run, "an argument that is no number");
    return true;
}

static bool want_whole(struct expr_run *run, const struct value *arg, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!numeric(&arg[i]) || arg[i].r.d != 1)
            return expr_fail(run, "an argument that is no whole number");
    return true;
}

/* ---- domains ---- */

static bool to_list(struct expr_run *run, uint32_t n, struct value **item, struct value *ret)
{
    *item = n <= EXPR_LIST_MAX && run->mem ? mem_array(run->mem, n, sizeof **item) : NULL;
    if (!*item)
        return expr_fail(run,
                         n > EXPR_LIST_MAX ? "a list of more than 100000 parts" : "out of memory");
    *ret = (struct value){ .kind = VALUE_LIST, .item = *item, .n_item = n, .r = { 0, 1 } };
    return true;
}

static bool run_of(struct expr_run *run, struct rational from, struct rational to,
                   struct rational by, struct value *ret, enum value_type type)
{
    struct rational span, count;
    struct value *item;
    if (by.n == 0)
        return expr_fail(run, "a range with step 0");
    if (!rat_sub(to, from, &span) || !rat_div(span, by, &count))
        return expr_fail(run, "a range too large");
    int64_t n = count.n <= 0 ? 0 : rat_floor(count) + (count.d != 1);
    if (n > EXPR_LIST_MAX)
        return expr_fail(run, "a range of more than 100000 numbers");
    if (!to_list(run, (uint32_t)n, &item, ret))
        return false;
    struct rational at = from;
    for (int64_t i = 0; i < n; i++) {
        item[i] = value_num(at, type);
        if (!rat_add(at, by, &at) && i + 1 < n)
            return expr_fail(run, "a range too large");
    }
    return true;
}

static bool fn_range(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    if (!want_whole(run, arg, n))
        return false;
    struct rational zero = rat_int(0);
    return run_of(run, n > 1 ? arg[0].r : zero, n > 1 ? arg[1].r : arg[0].r,
                  n > 2 ? arg[2].r : rat_int(1), ret, NUM_INT);
}

static bool fn_arange(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    enum value_type type = NUM_INT;
    if (!want_num(run, arg, n))
        return false;
    for (uint32_t i = 0; i < n; i++)
        type = arg[i].type == NUM_FLOAT ? NUM_FLOAT : type;
    return run_of(run, arg[0].r, arg[1].r, n > 2 ? arg[2].r : rat_int(1), ret, type);
}

static bool fn_randint(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    return want_whole(run, arg, 2) && run_of(run, arg[0].r, arg[1].r, rat_int(1), ret, NUM_INT);
}

static bool fn_numbers_within(struct expr_run *run, const struct value *arg, uint32_t n,
                              struct value *ret)
{
    struct value *item;
    if (!want_whole(run, arg, n))
        return false;
    int64_t from = arg[0].r.n, to = arg[1].r.n;
    if (from < 0 || to > 999999 || to < from || to - from >= EXPR_LIST_MAX)
        return expr_fail(run, "numbers_within() outside of 0..999999");
    if (!to_list(run, (uint32_t)(to - from + 1), &item, ret))
        return false;
    for (int64_t v = from; v <= to; v++) {
        struct buf b = BUF_INIT;
        words_number(v, ' ', &b);
        struct str s = b.failed ? (struct str){ NULL, 0 } : mem_str(run->mem, buf_view(&b));
        buf_clear(&b);
        if (!s.p)
            return expr_fail(run, "out of memory");
        item[v - from] = value_int(v);
        item[v - from].s = s;
    }
    return true;
}

/* sample, sample_sequential, list, shuffle_list: what is drawn from. How many, and how, is read
 * from the call by the importer. */
static bool fn_same(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    if (arg[0].kind != VALUE_LIST)
        return expr_fail(run, "drawing from something that is no list");
    *ret = arg[0];
    return true;
}

static bool fn_fix_floats(struct expr_run *run, const struct value *arg, uint32_t n,
                          struct value *ret)
{
    struct value *item;
    if (arg[0].kind != VALUE_LIST)
        return expr_fail(run, "fix_floats() of something that is no list");
    if (!to_list(run, arg[0].n_item, &item, ret))
        return false;
    for (uint32_t i = 0; i < arg[0].n_item; i++) {
        item[i] = arg[0].item[i];
        if (numeric(&item[i]) && !rat_round(item[i].r, 2, &item[i].r))
            return expr_fail(run, "a number too large to be exact");
        item[i].f = rat_f64(item[i].r);
    }
    return true;
}

/* ---- numbers ---- */

static bool fn_is_int(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    if (!want_num(run, arg, n))
        return false;
    *ret = value_bool(arg[0].r.d == 1);
    ret->f = arg[0].f >= floor(arg[0].f) && arg[0].f <= floor(arg[0].f) ? 1 : 0;
    return true;
}

static bool fn_int(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    struct value v = arg[0];
    if (v.kind == VALUE_STR && words_parse(v.s, &v.r))
        v = value_num(v.r, NUM_INT);
    if (!want_num(run, &v, 1))
        return false;
    *ret = value_int(rat_trunc(v.r));
    ret->f = trunc(v.f);
    return true;
}

static bool fn_divides(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    struct value m, zero = value_int(0);
    return want_num(run, arg, n) && expr_binary(EXPR_MOD, &arg[0], &arg[1], run, &m) &&
           expr_binary(EXPR_EQ, &m, &zero, run, ret);
}

static bool fn_fraction(struct expr_run *run, const struct value *arg, uint32_t n,
                        struct value *ret)
{
    struct value v = arg[0];
    if (v.kind == VALUE_STR && words_parse(v.s, &v.r))
        v = value_num(v.r, NUM_FRACTION);
    if (!want_num(run, &v, 1) || !want_num(run, arg + 1, n - 1))
        return false;
    struct rational r = v.r;
    if (n > 1 && !rat_div(v.r, arg[1].r, &r))
        return expr_fail(run, arg[1].r.n ? "a number too large to be exact" : "division by zero");
    *ret = value_num(r, NUM_FRACTION);
    return true;
}

static bool fn_round(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    struct rational r;
    if (!want_num(run, arg, n) || (n > 1 && !want_whole(run, arg + 1, 1)))
        return false;
    int64_t places = n > 1 ? arg[1].r.n : 0;
    if (places < 0 || places > 9)
        return expr_fail(run, "round() to a number of places outside of 0..9");
    if (!rat_round(arg[0].r, (int)places, &r))
        return expr_fail(run, "a number too large to be exact");
    *ret = value_num(r, n > 1 && arg[0].kind == VALUE_NUM ? arg[0].type : NUM_INT);
    double scale = pow(10, (double)places);
    ret->f = nearbyint(arg[0].f * scale) / scale;
    return true;
}

static bool fn_format_frac(struct expr_run *run, const struct value *arg, uint32_t n,
                           struct value *ret)
{
    if (!want_num(run, arg, n))
        return false;
    struct rational r = arg[0].r;
    int64_t whole = rat_trunc(r), over = r.n < 0 ? -(r.n % r.d) : r.n % r.d;
    struct buf b = BUF_INIT;
    if (r.d == 1)
        buf_printf(&b, "%lld", (long long)r.n);
    else if (whole)
        buf_printf(&b, "%lld %lld/%lld", (long long)whole, (long long)over, (long long)r.d);
    else
        buf_printf(&b, "%lld/%lld", (long long)r.n, (long long)r.d);
    struct str s = b.failed ? (struct str){ NULL, 0 } : mem_str(run->mem, buf_view(&b));
    buf_clear(&b);
    if (!s.p)
        return expr_fail(run, "out of memory");
    *ret = value_num(r, NUM_FRACTION);
    ret->s = s;
    *ret = value_str(s);
    return true;
}

static bool pick(struct expr_run *run, const struct value *arg, uint32_t n, int sign,
                 struct value *ret)
{
    if (!want_num(run, arg, n))
        return false;
    *ret = arg[0];
    for (uint32_t i = 1; i < n; i++)
        if (rat_cmp(arg[i].r, ret->r) * sign > 0)
            *ret = arg[i];
    return true;
}

static bool fn_min(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    return pick(run, arg, n, -1, ret);
}

static bool fn_max(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    return pick(run, arg, n, 1, ret);
}

static bool fn_abs(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    if (!want_num(run, arg, n))
        return false;
    *ret = value_num(arg[0].r, arg[0].kind == VALUE_NUM ? arg[0].type : NUM_INT);
    ret->r.n = ret->r.n < 0 ? -ret->r.n : ret->r.n;
    ret->f = fabs(arg[0].f);
    return true;
}

static bool fn_floor(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    if (!want_num(run, arg, n))
        return false;
    *ret = value_int(rat_floor(arg[0].r));
    ret->f = floor(arg[0].f);
    return true;
}

static bool fn_ceil(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    if (!want_num(run, arg, n))
        return false;
    *ret = value_int(rat_floor(arg[0].r) + (arg[0].r.d != 1));
    ret->f = ceil(arg[0].f);
    return true;
}

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a < 0 ? -a : a;
}

static bool fn_gcd(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    if (!want_whole(run, arg, n))
        return false;
    *ret = value_int(gcd(arg[0].r.n, arg[1].r.n));
    return true;
}

static bool fn_lcm(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret)
{
    struct rational r;
    if (!want_whole(run, arg, n))
        return false;
    int64_t a = arg[0].r.n, b = arg[1].r.n, g = gcd(a, b);
    if (!g || !rat_mul(rat_int(a / g), rat_int(b), &r))
        return expr_fail(run, "lcm() of 0, or too large");
    *ret = value_int(r.n < 0 ? -r.n : r.n);
    return true;
}

static const struct expr_fn functions[] = {
    { "sample", 1, 2, fn_same, false },
    { "sample_sequential", 2, 2, fn_same, false },
    { "range", 1, 3, fn_range, false },
    { "numbers_within", 2, 2, fn_numbers_within, false },
    { "np.arange", 2, 3, fn_arange, false },
    { "frange", 2, 3, fn_arange, false },
    { "np.random.randint", 2, 3, fn_randint, false },
    { "list", 1, 1, fn_same, false },
    { "shuffle_list", 1, 1, fn_same, false },
    { "fix_floats", 1, 1, fn_fix_floats, false },
    { "format_frac", 1, 1, fn_format_frac, false },
    { "is_int", 1, 1, fn_is_int, true },
    { "int", 1, 1, fn_int, true },
    { "divides", 2, 2, fn_divides, true },
    { "Fraction", 1, 2, fn_fraction, true },
    { "round", 1, 2, fn_round, true },
    { "min", 2, 4, fn_min, true },
    { "max", 2, 4, fn_max, true },
    { "abs", 1, 1, fn_abs, true },
    { "floor", 1, 1, fn_floor, true },
    { "ceil", 1, 1, fn_ceil, true },
    { "gcd", 2, 2, fn_gcd, true },
    { "lcm", 2, 2, fn_lcm, true },
};

int expr_fn_find(struct str name)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (str_is(name, functions[i].name))
            return (int)i;
    return -1;
}

const struct expr_fn *expr_fn(int row)
{
    return &functions[row];
}
