/* eval/value.c - see value.h. */
#include "eval/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct value value_num(struct rational r, enum value_type type)
{
    return (struct value){ .kind = VALUE_NUM, .type = type, .r = r, .f = rat_f64(r) };
}

struct value value_int(int64_t n)
{
    return value_num(rat_int(n), NUM_INT);
}

struct value value_bool(bool b)
{
    return (struct value){ .kind = VALUE_BOOL, .r = rat_int(b), .f = b ? 1 : 0 };
}

struct value value_str(struct str s)
{
    return (struct value){ .kind = VALUE_STR, .s = s, .r = rat_int(0) };
}

bool value_true(const struct value *v)
{
    switch (v->kind) {
    case VALUE_BOOL:
    case VALUE_NUM:
        return v->r.n != 0;
    case VALUE_STR:
        return v->s.n != 0;
    case VALUE_LIST:
        return v->n_item != 0;
    default:
        return false;
    }
}

static bool numeric(const struct value *v)
{
    return v->kind == VALUE_NUM || v->kind == VALUE_BOOL;
}

bool value_eq(const struct value *a, const struct value *b)
{
    if (numeric(a) && numeric(b))
        return rat_eq(a->r, b->r);
    if (a->kind == VALUE_LIST && b->kind == VALUE_LIST) {
        bool same = a->n_item == b->n_item;
        for (uint32_t i = 0; same && i < a->n_item; i++)
            same = a->item[i].kind != VALUE_LIST && value_eq(&a->item[i], &b->item[i]);
        return same;
    }
    return a->kind != VALUE_LIST && b->kind != VALUE_LIST && str_eq(a->s, b->s);
}

bool value_float_differs(const struct value *v)
{
    double exact = rat_f64(v->r), size = fabs(exact) > 1 ? fabs(exact) : 1;
    return numeric(v) && !(fabs(v->f - exact) <= 1e-7 * size);
}

/* The shortest decimal that reads back as x, with ".0" where it would look whole. */
static void print_double(double x, struct buf *out)
{
    char text[40];
    for (int p = 1; p <= 17; p++) {
        snprintf(text, sizeof text, "%.*g", p, x);
        if (strtod(text, NULL) == x)
            break;
    }
    if (strchr(text, 'e') && fabs(x) >= 1e-4 && fabs(x) < 1e16)
        snprintf(text, sizeof text, "%.0f", x);
    buf_z(out, text);
    if (!strpbrk(text, ".e"))
        buf_z(out, ".0");
}

static void print_number(const struct value *v, bool public, struct buf *out)
{
    if (!public) {
        rat_print(v->r, out);
    } else if (v->type == NUM_FLOAT) {
        print_double(rat_f64(v->r), out);
    } else if (v->r.d != 1) {
        buf_printf(out, "%lld/%lld", (long long)v->r.n, (long long)v->r.d);
    } else {
        buf_printf(out, "%lld", (long long)v->r.n);
    }
}

void value_print(const struct value *v, enum value_print how, struct buf *out)
{
    switch (v->kind) {
    case VALUE_BOOL:
        buf_z(out, v->r.n ? "True" : "False");
        break;
    case VALUE_NUM:
        if (how == VALUE_WORDS && v->s.n)
            buf_str(out, v->s);
        else
            print_number(v, how != VALUE_CLEAN, out);
        break;
    case VALUE_STR:
        buf_str(out, v->s);
        break;
    case VALUE_LIST:
        buf_char(out, '[');
        for (uint32_t i = 0; i < v->n_item && v->item[i].kind != VALUE_LIST; i++) {
            buf_z(out, i ? ", " : "");
            value_print(&v->item[i], how, out);
        }
        buf_char(out, ']');
        break;
    default:
        break;
    }
}
