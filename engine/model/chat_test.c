/* engine/model/chat_test.c - what may follow "is" in a template. */
#include "engine/model/chat_internal.h"

enum test_id {
    T_DEFINED,
    T_UNDEFINED,
    T_NONE,
    T_BOOLEAN,
    T_TRUE,
    T_FALSE,
    T_INTEGER,
    T_FLOAT,
    T_NUMBER,
    T_STRING,
    T_SEQUENCE,
    T_MAPPING,
    T_ITERABLE,
    T_CALLABLE,
    T_LOWER,
    T_UPPER,
    T_ODD,
    T_EVEN,
    T_DIVISIBLE, /* from here on with one argument */
    T_SAME,
    T_EQ,
    T_NE,
    T_LT,
    T_GT,
    T_LE,
    T_GE,
    T_IN,
};

static const struct {
    const char *name;
    enum test_id id;
} tests[] = {
    { "defined", T_DEFINED },
    { "undefined", T_UNDEFINED },
    { "none", T_NONE },
    { "boolean", T_BOOLEAN },
    { "true", T_TRUE },
    { "false", T_FALSE },
    { "integer", T_INTEGER },
    { "float", T_FLOAT },
    { "number", T_NUMBER },
    { "string", T_STRING },
    { "sequence", T_SEQUENCE },
    { "mapping", T_MAPPING },
    { "iterable", T_ITERABLE },
    { "callable", T_CALLABLE },
    { "lower", T_LOWER },
    { "upper", T_UPPER },
    { "odd", T_ODD },
    { "even", T_EVEN },
    { "sameas", T_SAME },
    { "divisibleby", T_DIVISIBLE },
    { "eq", T_EQ },
    { "equalto", T_EQ },
    { "ne", T_NE },
    { "lt", T_LT },
    { "lessthan", T_LT },
    { "gt", T_GT },
    { "greaterthan", T_GT },
    { "le", T_LE },
    { "ge", T_GE },
    { "in", T_IN },
    { "==", T_EQ },
    { "!=", T_NE },
    { "<", T_LT },
    { ">", T_GT },
    { "<=", T_LE },
    { ">=", T_GE },
};

int test_find(struct str name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (str_is(name, tests[i].name))
            return (int)i;
    return -1;
}

static bool same(struct val a, struct val b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case V_UNDEF:
    case V_NONE:
        return true;
    case V_BOOL:
        return a.b == b.b;
    case V_FLOAT:
        return !(a.d < b.d) && !(a.d > b.d);
    case V_STR:
        return str_eq(val_view(a), val_view(b));
    default:
        return a.i == b.i; /* small integers are one object in Python; containers: the pointer */
    }
}

static bool divides(struct run *r, struct val v, struct val by, bool *ret)
{
    struct val rest;
    if (!binary(r, '%', v, by, &rest))
        return false;
    *ret = !val_truth(rest);
    return true;
}

static bool test_pair(struct run *r, enum test_id id, struct val a, struct val b, bool *ret)
{
    int c = 0;
    switch (id) {
    case T_DIVISIBLE:
        return divides(r, a, b, ret);
    case T_SAME:
        *ret = same(a, b);
        return true;
    case T_IN:
        return val_in(r, a, b, ret);
    case T_EQ:
    case T_NE:
        if (!val_eq(r, a, b, ret))
            return false;
        *ret = *ret == (id == T_EQ);
        return true;
    default:
        if (!val_cmp(r, a, b, &c))
            return false;
        *ret = id == T_LT ? c < 0 : id == T_GT ? c > 0 : id == T_LE ? c <= 0 : c >= 0;
        return true;
    }
}

/* Some letter has a case, and all that have one have this one. */
static bool has_case(struct run *r, struct val v, enum text_case c, bool *ret)
{
    struct val text, same_case, other;
    if (!val_text(r, v, &text) || !text_case(r, val_view(text), c, &same_case) ||
        !text_case(r, val_view(text), c == CASE_UPPER ? CASE_LOWER : CASE_UPPER, &other))
        return false;
    *ret = str_eq(val_view(text), val_view(same_case)) && !str_eq(val_view(text), val_view(other));
    return true;
}

static bool parity(struct run *r, struct val v, bool odd, bool *ret)
{
    bool even;
    if (!divides(r, v, val_int(2), &even))
        return false;
    *ret = even != odd;
    return true;
}

static bool of_kind(enum test_id id, struct val v)
{
    bool list = v.kind == V_LIST || v.kind == V_TUPLE;
    switch (id) {
    case T_DEFINED:
        return v.kind != V_UNDEF;
    case T_UNDEFINED:
        return v.kind == V_UNDEF;
    case T_NONE:
        return v.kind == V_NONE;
    case T_BOOLEAN:
        return v.kind == V_BOOL;
    case T_TRUE:
        return v.kind == V_BOOL && v.b;
    case T_FALSE:
        return v.kind == V_BOOL && !v.b;
    case T_INTEGER:
        return v.kind == V_INT;
    case T_FLOAT:
        return v.kind == V_FLOAT;
    case T_NUMBER:
        return val_is_num(v);
    case T_STRING:
        return v.kind == V_STR;
    case T_MAPPING:
        return v.kind == V_DICT;
    case T_CALLABLE:
        return v.kind == V_MACRO || v.kind == V_FUNC || v.kind == V_METHOD || v.kind == V_LOOP;
    case T_SEQUENCE: /* has a length and items; Jinja's undefined value does */
        return list || v.kind == V_STR || v.kind == V_DICT || v.kind == V_UNDEF ||
               v.kind == V_RANGE;
    default: /* T_ITERABLE */
        return list || v.kind == V_STR || v.kind == V_DICT || v.kind == V_UNDEF ||
               v.kind == V_LOOP || v.kind == V_RANGE || v.kind == V_VIEW || v.kind == V_GEN;
    }
}

bool test_call(struct run *r, int index, struct val in, const struct args *a, bool *ret)
{
    enum test_id id = tests[index].id;
    if (a->n_kw || a->n != (id >= T_DIVISIBLE))
        return run_fail(r, ST_ARG, "test '%s' takes %d arguments", tests[index].name,
                        id >= T_DIVISIBLE);
    if (id >= T_DIVISIBLE)
        return test_pair(r, id, in, a->v[0], ret);
    if (id == T_LOWER || id == T_UPPER)
        return has_case(r, in, id == T_UPPER ? CASE_UPPER : CASE_LOWER, ret);
    if (id == T_ODD || id == T_EVEN)
        return parity(r, in, id == T_ODD, ret);
    *ret = of_kind(id, in);
    return true;
}
