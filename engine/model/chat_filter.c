/* engine/model/chat_filter.c - the table of filters, as Jinja documents them, and those that are
 * neither about text (chat_filter_text.c) nor about order (chat_sort.c); tojson as transformers
 * defines it.
 * Filters that are lazy in Jinja (map, select, reject) compute at once here, but what they give can
 * be walked once only, is always true and has no length, as there. */
#include "engine/base/num.h"
#include "engine/model/chat_internal.h"

#include <math.h>
#include <strings.h>

static struct val lazy(struct vlist *l)
{
    return (struct val){ .kind = V_GEN, .list = l };
}

/* "a.b.0": attributes and items one inside the other. */
bool filter_path(struct run *r, struct val v, struct val path, struct val *ret)
{
    if (path.kind == V_INT)
        return val_item(r, v, path, ret);
    struct str p;
    if (!want_str(r, "attribute", path, &p))
        return false;
    *ret = v;
    while (p.n) {
        size_t dot = str_find(p, STR("."), 0), n = dot == SIZE_MAX ? p.n : dot;
        struct str part = { p.p, n };
        struct err no = ERR_INIT;
        int64_t i;
        struct val key = val_str(part);
        if (!run_work(r, 8))
            return false;
        if (part.n && part.p[0] >= '0' && part.p[0] <= '9' &&
            num_i64(part, "item", 0, INT32_MAX, &i, &no) == ST_OK)
            key = val_int(i);
        if (!val_item(r, *ret, key, ret) || !run_work(r, 1))
            return false;
        p = dot == SIZE_MAX ? (struct str){ p.p, 0 } : (struct str){ p.p + n + 1, p.n - n - 1 };
    }
    return true;
}

/* ---- JSON ---- */

static bool filter_tojson(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    size_t mark = r->out.n;
    if (!args_bind(r, "tojson", a, "ensure_ascii indent separators sort_keys", v))
        return false;
    struct json_style st = { .item = STR(", "),
                             .key = STR(": "),
                             .indent = VAL_NONE,
                             .ascii = val_truth(v[0]),
                             .sort = val_truth(v[3]) };
    if (val_given(v[1])) {
        st.indent = v[1];
        st.item = STR(",");
        if (v[1].kind != V_STR) {
            int64_t width;
            if (!want_int(r, "tojson indent", v[1], &width))
                return false;
            if (width > 64)
                return run_fail(r, ST_RANGE, "tojson: indent of more than 64");
            st.indent = val_int(width);
        }
    }
    if (val_given(v[2])) {
        if ((v[2].kind != V_TUPLE && v[2].kind != V_LIST) || v[2].list->n != 2 ||
            !want_str(r, "separator", v[2].list->v[0], &st.item) ||
            !want_str(r, "separator", v[2].list->v[1], &st.key))
            return run_fail(r, ST_ARG, "tojson: separators are two strings");
    }
    return put_json(r, in, &st) && run_take(r, mark, ret);
}

/* ---- numbers ---- */

static bool filter_int(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct err no = ERR_INIT;
    int64_t i;
    double d;
    if (!args_bind(r, "int", a, "default base", v))
        return false;
    if (val_given(v[1]) && !(v[1].kind == V_INT && v[1].i == 10))
        return run_fail(r, ST_UNSUPPORTED, "int: a base other than 10");
    *ret = v[0].kind == V_UNDEF ? val_int(0) : v[0];
    if (in.kind == V_INT || in.kind == V_BOOL) {
        *ret = val_int(in.kind == V_INT ? in.i : in.b);
        return true;
    }
    if (in.kind == V_STR) {
        struct str s = chat_strip(val_view(in), true, true);
        if (s.n > 1 && s.p[0] == '+')
            s = (struct str){ s.p + 1, s.n - 1 };
        if (num_i64(s, "int", INT64_MIN, INT64_MAX, &i, &no) == ST_OK) {
            *ret = val_int(i);
            return true;
        }
        err_clear(&no);
        if (str_find(s, STR("_"), 0) != SIZE_MAX)
            return run_fail(r, ST_UNSUPPORTED, "int: digits with '_' between them");
        if (num_f64(s, "int", -9e18, 9e18, &d, &no) == ST_OK)
            *ret = val_int((int64_t)d);
    } else if (in.kind == V_FLOAT && in.d > -9e18 && in.d < 9e18) {
        *ret = val_int((int64_t)in.d);
    }
    return true;
}

/* "inf", "-Infinity", "nan": Python reads them; no template means them. */
static bool names_no_number(struct str s)
{
    s = chat_strip(s, true, true);
    if (s.n && (s.p[0] == '+' || s.p[0] == '-'))
        s = (struct str){ s.p + 1, s.n - 1 };
    return s.n >= 3 && (strncasecmp(s.p, "inf", 3) == 0 || strncasecmp(s.p, "nan", 3) == 0);
}

static bool filter_float(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct err no = ERR_INIT;
    double d;
    if (!args_bind(r, "float", a, "default", v))
        return false;
    *ret = v[0].kind == V_UNDEF ? val_float(0) : v[0];
    if (val_is_num(in))
        *ret = val_float(val_num(in));
    else if (in.kind == V_STR && names_no_number(val_view(in)))
        return run_fail(r, ST_UNSUPPORTED, "float: '%.*s'", (int)(in.n & 63), in.p);
    else if (in.kind == V_STR && num_f64(chat_strip(val_view(in), true, true), "float", -1.7e308,
                                         1.7e308, &d, &no) == ST_OK)
        *ret = val_float(d);
    return true;
}

static bool filter_abs(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    if (!args_none(r, "abs", a))
        return false;
    if (!val_is_num(in))
        return run_fail(r, ST_ARG, "abs: a number is needed, not '%s'", val_type(in));
    *ret = in;
    if (in.kind == V_FLOAT)
        *ret = val_float(fabs(in.d));
    else
        return binary(r, '*', in, val_int(val_num(in) < 0 ? -1 : 1), ret);
    return true;
}

static bool filter_round(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    int64_t digits = 0;
    struct str how = STR("common");
    if (!args_bind(r, "round", a, "precision method", v) ||
        (val_given(v[0]) && !want_int(r, "round", v[0], &digits)) ||
        (val_given(v[1]) && !want_str(r, "round", v[1], &how)))
        return false;
    if (!val_is_num(in) || digits < -15 || digits > 15)
        return run_fail(r, ST_ARG, "round: a number and -15 to 15 digits are needed");
    double d = val_num(in), scale = pow(10, (double)digits);
    if (str_is(how, "ceil") || str_is(how, "floor")) {
        d = (str_is(how, "ceil") ? ceil(d * scale) : floor(d * scale)) / scale;
    } else if (digits >= 0) { /* correctly rounded decimal, as Python's round() */
        char text[400];
        snprintf(text, sizeof text, "%.*f", (int)digits, d);
        d = strtod(text, NULL);
    } else {
        d = nearbyint(d * scale) / scale;
    }
    *ret = in.kind == V_FLOAT || !str_is(how, "common") ? val_float(d) : val_int((int64_t)d);
    return true;
}

/* ---- sequences ---- */

static bool filter_length(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    size_t n;
    if (!args_none(r, "length", a) || !val_len(r, in, &n))
        return false;
    *ret = val_int((int64_t)n);
    return true;
}

static bool filter_list(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct vlist *from, *to;
    if (!args_none(r, "list", a) || !val_iter(r, in, &from) || (to = list_new(r, from->n)) == NULL)
        return false;
    for (size_t i = 0; i < from->n; i++)
        to->v[to->n++] = from->v[i];
    *ret = val_list(to);
    return run_work(r, to->n / 4);
}

static bool filter_items(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    if (in.kind == V_UNDEF) {
        *ret = lazy(list_new(r, 0));
        return ret->list != NULL;
    }
    if (in.kind != V_DICT)
        return run_fail(r, ST_ARG, "items: a mapping is needed, not '%s'", val_type(in));
    struct bound m = { .self = in, .method = method_find(V_DICT, STR("items")) };
    if (!method_call(r, &m, a, ret))
        return false;
    ret->kind = V_GEN;
    return true;
}

static bool end_item(struct run *r, struct val in, const struct args *a, bool last, struct val *ret)
{
    struct vlist *l = NULL;
    if (last && in.kind == V_GEN)
        return run_fail(r, ST_ARG, "last: a '%s' has no end", val_type(in));
    if (!args_none(r, "first and last", a) || !val_iter(r, in, &l))
        return false;
    if (in.kind == V_GEN && l->n) /* the others are still to come */
        *in.list = (struct vlist){ .v = l->v + 1, .n = l->n - 1, .cap = l->n - 1 };
    *ret = l->n ? l->v[last ? l->n - 1 : 0] : val_undef(STR("item of an empty sequence"));
    return true;
}

static bool filter_first(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return end_item(r, in, a, false, ret);
}

static bool filter_last(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return end_item(r, in, a, true, ret);
}

static bool filter_reverse(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct vlist *from, *to;
    if (!args_none(r, "reverse", a) || !val_iter(r, in, &from) ||
        (to = list_new(r, from->n)) == NULL)
        return false;
    for (size_t i = from->n; i > 0; i--)
        to->v[to->n++] = from->v[i - 1];
    *ret = lazy(to);
    return run_work(r, to->n / 4) && (in.kind != V_STR || text_join(r, STR(""), to, true, ret));
}

static bool filter_join(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], sep = val_str(STR(""));
    struct vlist *l = NULL;
    if (!args_bind(r, "join", a, "d attribute", v) || !val_iter(r, in, &l) ||
        (val_given(v[0]) && !val_text(r, v[0], &sep)))
        return false;
    if (val_given(v[1])) {
        struct vlist *parts = list_new(r, 0);
        struct val x;
        for (size_t i = 0; i < l->n; i++)
            if (!parts || !filter_path(r, l->v[i], v[1], &x) || !list_push(r, parts, x))
                return false;
        l = parts;
    }
    return l && text_join(r, val_view(sep), l, true, ret);
}

static bool filter_default(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    if (!args_bind(r, "default", a, "default_value boolean", v))
        return false;
    bool absent = in.kind == V_UNDEF || (val_truth(v[1]) && !val_truth(in));
    bool named = a->n || a->n_kw;
    *ret = !absent ? in : !named || v[0].kind == V_UNDEF ? val_str(STR("")) : v[0];
    return true;
}

static bool filter_safe(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    if (!filter_string(r, in, a, ret))
        return false;
    ret->markup = true;
    return true;
}

static bool filter_attr(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct str name;
    if (!args_bind(r, "attr", a, "name", v) || !want_str(r, "attr", v[0], &name))
        return false;
    if (in.kind == V_DICT) { /* attributes only: a key is not one */
        *ret = val_undef(name);
        return true;
    }
    return val_attr(r, in, name, ret);
}

/* ---- map, select ---- */

static struct args rest_of(const struct args *a, size_t from)
{
    struct args rest = *a;
    rest.v = a->n > from ? a->v + from : NULL;
    rest.n = a->n > from ? a->n - from : 0;
    return rest;
}

static bool map_attribute(struct run *r, struct vlist *l, const struct args *a, struct vlist *to)
{
    struct val v[CHAT_ARGS_MAX], x;
    if (!args_bind(r, "map", a, "attribute default", v))
        return false;
    for (size_t i = 0; i < l->n; i++) {
        if (!filter_path(r, l->v[i], v[0], &x))
            return false;
        if (x.kind == V_UNDEF)
            x = v[1].kind == V_UNDEF ? x : v[1];
        if (!list_push(r, to, x))
            return false;
    }
    return true;
}

static bool filter_map(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct vlist *l, *to = list_new(r, 0);
    struct str name;
    struct val x;
    if (!to || !val_iter(r, in, &l))
        return false;
    *ret = lazy(to);
    if (!a->n)
        return map_attribute(r, l, a, to);
    if (!want_str(r, "map", a->v[0], &name))
        return false;
    int id = filter_find(name);
    struct args rest = rest_of(a, 1);
    if (id < 0)
        return run_fail(r, ST_UNSUPPORTED, "filter '%.*s'", (int)(name.n & 63), name.p);
    for (size_t i = 0; i < l->n; i++)
        if (!filter_call(r, id, l->v[i], &rest, &x) || !list_push(r, to, x))
            return false;
    return true;
}

/* attr: the first argument names what of each item is tested. */
static bool choose(struct run *r, struct val in, const struct args *a, bool attr, bool want,
                   struct val *ret)
{
    struct vlist *l, *to = list_new(r, 0);
    struct str name;
    int id = -1;
    if (!to || !val_iter(r, in, &l))
        return false;
    if (attr && !a->n)
        return run_fail(r, ST_ARG, "an attribute's name is missing");
    if (a->n > attr) {
        if (!want_str(r, "test", a->v[attr], &name))
            return false;
        id = test_find(name);
        if (id < 0)
            return run_fail(r, ST_UNSUPPORTED, "test '%.*s'", (int)(name.n & 63), name.p);
    }
    struct args rest = rest_of(a, (size_t)attr + 1);
    for (size_t i = 0; i < l->n; i++) {
        struct val x = l->v[i];
        if (attr && !filter_path(r, x, a->v[0], &x))
            return false;
        bool yes = val_truth(x);
        if ((id >= 0 && !test_call(r, id, x, &rest, &yes)) ||
            (yes == want && !list_push(r, to, l->v[i])) || !run_work(r, 1))
            return false;
    }
    *ret = lazy(to);
    return true;
}

static bool filter_select(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return choose(r, in, a, false, true, ret);
}

static bool filter_reject(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return choose(r, in, a, false, false, ret);
}

static bool filter_selectattr(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return choose(r, in, a, true, true, ret);
}

static bool filter_rejectattr(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return choose(r, in, a, true, false, ret);
}

static const struct {
    const char *name;
    filter_fn *call;
} filters[] = {
    { "abs", filter_abs },
    { "attr", filter_attr },
    { "batch", filter_batch },
    { "capitalize", filter_capitalize },
    { "count", filter_length },
    { "d", filter_default },
    { "default", filter_default },
    { "dictsort", filter_dictsort },
    { "e", filter_escape },
    { "escape", filter_escape },
    { "first", filter_first },
    { "float", filter_float },
    { "format", filter_format },
    { "indent", filter_indent },
    { "int", filter_int },
    { "items", filter_items },
    { "join", filter_join },
    { "last", filter_last },
    { "length", filter_length },
    { "list", filter_list },
    { "lower", filter_lower },
    { "map", filter_map },
    { "max", filter_max },
    { "min", filter_min },
    { "reject", filter_reject },
    { "rejectattr", filter_rejectattr },
    { "replace", filter_replace },
    { "reverse", filter_reverse },
    { "round", filter_round },
    { "safe", filter_safe },
    { "select", filter_select },
    { "selectattr", filter_selectattr },
    { "sort", filter_sort },
    { "string", filter_string },
    { "sum", filter_sum },
    { "title", filter_title },
    { "tojson", filter_tojson },
    { "trim", filter_trim },
    { "unique", filter_unique },
    { "upper", filter_upper },
    { "wordcount", filter_wordcount },
};

int filter_find(struct str name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (str_is(name, filters[i].name))
            return (int)i;
    return -1;
}

bool filter_call(struct run *r, int id, struct val in, const struct args *a, struct val *ret)
{
    if (!run_enter(r))
        return false;
    bool ok = run_work(r, 1) && filters[id].call(r, in, a, ret);
    run_leave(r);
    return ok;
}
