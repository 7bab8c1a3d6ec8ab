/* engine/model/chat_method.c - the table of methods, and those of lists, dictionaries and the loop
 * object; those of strings are in chat_method_str.c. Lists and dictionaries of one render are its
 * own copies, so that changing them harms nobody. */
#include "engine/model/chat_internal.h"

/* ---- dictionaries ---- */

static bool dict_list(struct run *r, struct val self, const struct args *a, int what,
                      struct val *ret)
{
    const struct vdict *d = self.dict;
    struct vlist *l = list_new(r, d->n);
    if (!l || !args_none(r, "this method", a) || !run_work(r, d->n))
        return false;
    for (size_t i = 0; i < d->n; i++) {
        struct val x = what == 0 ? d->v[i].key : d->v[i].val;
        if (what == 2) {
            struct vlist *pair = list_new(r, 2);
            if (!pair)
                return false;
            pair->v[0] = d->v[i].key;
            pair->v[1] = d->v[i].val;
            pair->n = 2;
            x = (struct val){ .kind = V_TUPLE, .list = pair };
        }
        l->v[l->n++] = x;
    }
    *ret = (struct val){ .kind = V_VIEW, .list = l };
    return true;
}

static bool dict_copy(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    if (!args_none(r, "copy", a) || !dict_new(r, ret))
        return false;
    for (size_t i = 0; i < self.dict->n; i++)
        if (!dict_set(r, ret->dict, self.dict->v[i].key, self.dict->v[i].val))
            return false;
    return true;
}

static bool dict_keys(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return dict_list(r, self, a, 0, ret);
}

static bool dict_values(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return dict_list(r, self, a, 1, ret);
}

static bool dict_items(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return dict_list(r, self, a, 2, ret);
}

static bool dict_get(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], *at;
    if (!args_bind(r, "get", a, "key default", v) || !dict_find(r, self.dict, v[0], &at))
        return false;
    *ret = at ? *at : a->n + a->n_kw > 1 ? v[1] : VAL_NONE;
    return true;
}

static bool dict_pop(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], *at;
    struct vdict *d = self.dict;
    if (!args_bind(r, "pop", a, "key default", v) || !dict_find(r, d, v[0], &at))
        return false;
    if (!at && a->n + a->n_kw < 2)
        return run_fail(r, ST_ARG, "pop: no such key");
    *ret = at ? *at : v[1];
    for (size_t i = 0, w = 0; at && i < d->n; i++)
        if (&d->v[i].val != at || w < i)
            d->v[w++] = d->v[i];
    d->n -= at != NULL;
    return run_work(r, d->n / 8);
}

static bool dict_setdefault(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], *at;
    if (!args_bind(r, "setdefault", a, "key default", v) || !dict_find(r, self.dict, v[0], &at))
        return false;
    *ret = at ? *at : v[1].kind == V_UNDEF ? VAL_NONE : v[1];
    return at || dict_set(r, self.dict, v[0], *ret);
}

static bool dict_update(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    if (a->n > 1 || (a->n == 1 && a->v[0].kind != V_DICT))
        return run_fail(r, ST_ARG, "update takes one dictionary and named values");
    const struct vdict *from = a->n ? a->v[0].dict : NULL;
    for (size_t i = 0; from && i < from->n; i++)
        if (!dict_set(r, self.dict, from->v[i].key, from->v[i].val))
            return false;
    for (size_t i = 0; i < a->n_kw; i++)
        if (!dict_set(r, self.dict, val_str(a->kw[i].name), a->kw[i].val))
            return false;
    *ret = VAL_NONE;
    return true;
}

/* ---- lists ---- */

static bool list_copy(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "copy", a) && filter_call(r, filter_find(STR("list")), self, a, ret);
}

static bool list_append(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    *ret = VAL_NONE;
    return args_bind(r, "append", a, "item", v) && list_push(r, self.list, v[0]);
}

static bool list_extend(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = NULL;
    *ret = VAL_NONE;
    if (!args_bind(r, "extend", a, "items", v) || !val_iter(r, v[0], &l))
        return false;
    for (size_t i = 0, n = l->n; i < n; i++) /* n: the list may extend itself */
        if (!list_push(r, self.list, l->v[i]))
            return false;
    return true;
}

static bool list_insert(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = self.list;
    int64_t at;
    *ret = VAL_NONE;
    if (!args_bind(r, "insert", a, "index item", v) || !want_int(r, "insert", v[0], &at) ||
        !list_push(r, l, v[1]) || !run_work(r, l->n / 8))
        return false;
    int64_t n = (int64_t)l->n - 1;
    at = at < 0 ? (at < -n ? 0 : at + n) : at > n ? n : at;
    for (int64_t i = n; i > at; i--)
        l->v[i] = l->v[i - 1];
    l->v[at] = v[1];
    return true;
}

static bool list_pop(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = self.list;
    int64_t at = -1;
    if (!args_bind(r, "pop", a, "index", v) || (val_given(v[0]) && !want_int(r, "pop", v[0], &at)))
        return false;
    at += at < 0 ? (int64_t)l->n : 0;
    if (at < 0 || at >= (int64_t)l->n)
        return run_fail(r, ST_ARG, "pop: index out of range");
    *ret = l->v[at];
    for (size_t i = (size_t)at + 1; i < l->n; i++)
        l->v[i - 1] = l->v[i];
    l->n--;
    return run_work(r, l->n / 8);
}

static bool list_search(struct run *r, struct val self, const struct args *a, int64_t *first,
                        int64_t *count)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    bool same;
    *first = -1;
    *count = 0;
    if (!args_bind(r, "index and count", a, "item", v))
        return false;
    for (size_t i = 0; i < self.list->n; i++) {
        if (!run_work(r, 1) || !val_eq(r, self.list->v[i], v[0], &same))
            return false;
        if (same && *first < 0)
            *first = (int64_t)i;
        *count += same;
    }
    return true;
}

static bool list_index(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    int64_t first, count;
    if (!list_search(r, self, a, &first, &count))
        return false;
    *ret = val_int(first);
    return first >= 0 || run_fail(r, ST_ARG, "index: the item is not in the list");
}

static bool list_count(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    int64_t first, count;
    if (!list_search(r, self, a, &first, &count))
        return false;
    *ret = val_int(count);
    return true;
}

/* ---- loop ---- */

static bool loop_cycle(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    if (!a->n || a->n_kw)
        return run_fail(r, ST_ARG, "loop.cycle() needs values");
    *ret = a->v[self.loop->at % a->n];
    return true;
}

enum { ON_STR = 1, ON_LIST = 2, ON_TUPLE = 4, ON_DICT = 8, ON_LOOP = 16 };

static const struct {
    int on;
    const char *name;
    method_fn *call;
} methods[] = {
    { ON_STR, "capitalize", method_str_capitalize },
    { ON_STR, "count", method_str_count },
    { ON_STR, "endswith", method_str_endswith },
    { ON_STR, "find", method_str_find_first },
    { ON_STR, "format", method_str_format },
    { ON_STR, "index", method_str_index },
    { ON_STR, "isalnum", method_str_isalnum },
    { ON_STR, "isalpha", method_str_isalpha },
    { ON_STR, "isdigit", method_str_isdigit },
    { ON_STR, "islower", method_str_islower },
    { ON_STR, "isspace", method_str_isspace },
    { ON_STR, "isupper", method_str_isupper },
    { ON_STR, "join", method_str_join },
    { ON_STR, "lower", method_str_lower },
    { ON_STR, "lstrip", method_str_lstrip },
    { ON_STR, "partition", method_str_partition },
    { ON_STR, "removeprefix", method_str_removeprefix },
    { ON_STR, "removesuffix", method_str_removesuffix },
    { ON_STR, "replace", method_str_replace },
    { ON_STR, "rfind", method_str_rfind },
    { ON_STR, "rindex", method_str_rindex },
    { ON_STR, "rpartition", method_str_rpartition },
    { ON_STR, "rsplit", method_str_rsplit },
    { ON_STR, "rstrip", method_str_rstrip },
    { ON_STR, "split", method_str_split },
    { ON_STR, "splitlines", method_str_splitlines },
    { ON_STR, "startswith", method_str_startswith },
    { ON_STR, "strip", method_str_strip },
    { ON_STR, "title", method_str_title },
    { ON_STR, "upper", method_str_upper },
    { ON_DICT, "copy", dict_copy },
    { ON_DICT, "get", dict_get },
    { ON_DICT, "items", dict_items },
    { ON_DICT, "keys", dict_keys },
    { ON_DICT, "pop", dict_pop },
    { ON_DICT, "setdefault", dict_setdefault },
    { ON_DICT, "update", dict_update },
    { ON_DICT, "values", dict_values },
    { ON_LIST, "append", list_append },
    { ON_LIST, "copy", list_copy },
    { ON_LIST, "extend", list_extend },
    { ON_LIST, "insert", list_insert },
    { ON_LIST, "pop", list_pop },
    { ON_LIST | ON_TUPLE, "count", list_count },
    { ON_LIST | ON_TUPLE, "index", list_index },
    { ON_LOOP, "cycle", loop_cycle },
};

int method_find(enum val_kind kind, struct str name)
{
    int on = kind == V_STR     ? ON_STR
             : kind == V_LIST  ? ON_LIST
             : kind == V_TUPLE ? ON_TUPLE
             : kind == V_DICT  ? ON_DICT
             : kind == V_LOOP  ? ON_LOOP
                               : 0;
    for (size_t i = 0; on && i < sizeof methods / sizeof *methods; i++)
        if ((methods[i].on & on) && str_is(name, methods[i].name))
            return (int)i;
    return -1;
}

bool method_lacking(struct str name)
{
    static const char *const names[] = {
        "casefold",    "center",           "changed",      "clear",
        "encode",      "expandtabs",       "fromkeys",     "format_map",
        "isascii",     "isdecimal",        "isidentifier", "isnumeric",
        "isprintable", "istitle",          "ljust",        "maketrans",
        "popitem",     "remove",           "reverse",      "rjust",
        "sort",        "swapcase",         "translate",    "zfill",
        "unescape",    "striptags",        "real",         "imag",
        "numerator",   "denominator",      "conjugate",    "bit_length",
        "is_integer",  "as_integer_ratio", "to_bytes",     "hex",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(name, names[i]))
            return true;
    return false;
}

/* What 'safe' or 'escape' gave stays so in these; others would have to escape their arguments. */
static bool markup_call(struct run *r, const struct bound *m, const struct args *a, struct val *ret)
{
    static method_fn *const same[] = { method_str_strip,      method_str_lstrip,
                                       method_str_rstrip,     method_str_upper,
                                       method_str_lower,      method_str_title,
                                       method_str_capitalize, NULL };
    static method_fn *const plain[] = { method_str_startswith, method_str_endswith,
                                        method_str_find_first, method_str_count,
                                        method_str_isdigit,    method_str_isalpha,
                                        method_str_isspace,    NULL };
    method_fn *call = methods[m->method].call;
    for (size_t i = 0; same[i]; i++)
        if (call == same[i]) {
            if (!call(r, m->self, a, ret))
                return false;
            ret->markup = true;
            return true;
        }
    for (size_t i = 0; plain[i]; i++)
        if (call == plain[i])
            return call(r, m->self, a, ret);
    return run_fail(r, ST_UNSUPPORTED, "method '%s' of what 'safe' or 'escape' gave",
                    methods[m->method].name);
}

bool method_call(struct run *r, const struct bound *m, const struct args *a, struct val *ret)
{
    if (m->self.kind == V_STR && m->self.markup)
        return markup_call(r, m, a, ret);
    return methods[m->method].call(r, m->self, a, ret);
}
