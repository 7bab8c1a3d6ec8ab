/* engine/model/chat_method.c - methods of strings, lists, dictionaries and the loop object. Lists
 * and dictionaries of one render are its own copies, so that changing them harms nobody. */
#include "engine/model/chat_internal.h"

typedef bool method_fn(struct run *r, struct val self, const struct args *a, struct val *ret);

static struct val list_val(struct vlist *l)
{
    return (struct val){ .kind = V_LIST, .list = l };
}

static bool given(struct val v)
{
    return v.kind != V_UNDEF && v.kind != V_NONE;
}

/* ---- strings ---- */

static bool split_space(struct run *r, struct str s, int64_t max, struct vlist *to)
{
    s = chat_strip(s, true, false);
    while (s.n) {
        size_t i = 0;
        while (max != 0 && i < s.n && !chat_space(s, i))
            i++;
        struct str word = { s.p, max ? i : s.n };
        if (!max)
            word = chat_strip(word, false, true);
        if (!list_push(r, to, val_str(word)))
            return false;
        if (!max)
            break;
        max -= max > 0;
        s = chat_strip((struct str){ s.p + i, s.n - i }, true, false);
    }
    return true;
}

static bool split_at(struct run *r, struct str s, struct str sep, int64_t max, struct vlist *to)
{
    size_t at = 0, hit;
    if (!sep.n)
        return run_fail(r, ST_ARG, "split: empty separator");
    while (max != 0 && (hit = str_find(s, sep, at)) != SIZE_MAX) {
        if (!list_push(r, to, val_str((struct str){ s.p + at, hit - at })))
            return false;
        at = hit + sep.n;
        max -= max > 0;
    }
    return list_push(r, to, val_str((struct str){ s.p + at, s.n - at }));
}

static bool str_split(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *to = list_new(r, 0);
    struct str sep;
    int64_t max = -1;
    if (!to || !args_bind(r, "split", a, "sep maxsplit", v) ||
        (given(v[1]) && !want_int(r, "split", v[1], &max)) || !run_work(r, self.n / 2))
        return false;
    *ret = list_val(to);
    if (!given(v[0]))
        return split_space(r, val_view(self), max, to);
    return want_str(r, "split", v[0], &sep) && split_at(r, val_view(self), sep, max, to);
}

/* Where sep begins last, SIZE_MAX: nowhere. Each candidate costs its comparison: a text of one
 * letter, searched for a long one, would take hours. */
static bool find_last(struct run *r, struct str s, struct str sep, size_t *ret)
{
    *ret = SIZE_MAX;
    for (size_t i = s.n >= sep.n ? s.n - sep.n + 1 : 0; i > 0; i--) {
        if (sep.n && s.p[i - 1] != sep.p[0])
            continue;
        if (!run_work(r, 1 + sep.n / 8))
            return false;
        if (memcmp(s.p + i - 1, sep.p, sep.n) == 0) {
            *ret = i - 1;
            return true;
        }
    }
    return true;
}

static bool str_rsplit(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *to = list_new(r, 0);
    struct str sep, s = val_view(self);
    int64_t max = -1;
    if (!to || !args_bind(r, "rsplit", a, "sep maxsplit", v) ||
        (given(v[1]) && !want_int(r, "rsplit", v[1], &max)))
        return false;
    if (!given(v[0]))
        return max < 0 ? str_split(r, self, a, ret)
                       : run_fail(r, ST_UNSUPPORTED, "rsplit at white space with a limit");
    if (!want_str(r, "rsplit", v[0], &sep))
        return false;
    if (!sep.n)
        return run_fail(r, ST_ARG, "rsplit: empty separator");
    for (size_t hit; max != 0; max -= max > 0) {
        if (!find_last(r, s, sep, &hit))
            return false;
        if (hit == SIZE_MAX)
            break;
        struct str tail = { s.p + hit + sep.n, s.n - hit - sep.n };
        if (!list_push(r, to, val_str(tail)) || !run_work(r, tail.n / 2))
            return false;
        s.n = hit;
    }
    if (!list_push(r, to, val_str(s)) || !run_work(r, s.n / 2))
        return false;
    for (size_t i = 0; i < to->n / 2; i++) {
        struct val swap = to->v[i];
        to->v[i] = to->v[to->n - 1 - i];
        to->v[to->n - 1 - i] = swap;
    }
    *ret = list_val(to);
    return true;
}

/* Where a line ends at s[i]: the bytes of the end, 0: it does not. Python's list of ends. */
static size_t line_end(struct str s, size_t i)
{
    unsigned char c = (unsigned char)s.p[i];
    if (c == '\r')
        return i + 1 < s.n && s.p[i + 1] == '\n' ? 2 : 1;
    if ((c >= 0x0a && c <= 0x0c) || (c >= 0x1c && c <= 0x1e))
        return 1;
    if (c == 0xc2)
        return i + 1 < s.n && (unsigned char)s.p[i + 1] == 0x85 ? 2 : 0;
    if (c != 0xe2 || i + 2 >= s.n || (unsigned char)s.p[i + 1] != 0x80)
        return 0;
    return ((unsigned char)s.p[i + 2] | 1) == 0xa9 ? 3 : 0; /* U+2028, U+2029 */
}

static bool str_splitlines(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct vlist *to = list_new(r, 0);
    struct str s = val_view(self);
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    if (!to || !args_bind(r, "splitlines", a, "keepends", v))
        return false;
    for (size_t at = 0; at < s.n;) {
        size_t end = at, gap = 0;
        while (end < s.n && (gap = line_end(s, end)) == 0)
            end++;
        size_t n = end - at + (val_truth(v[0]) ? gap : 0);
        if (!list_push(r, to, val_str((struct str){ s.p + at, n })))
            return false;
        at = end + gap;
    }
    *ret = list_val(to);
    return run_work(r, s.n / 2);
}

static bool strip_side(struct run *r, struct val self, const struct args *a, int sides,
                       struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    return args_bind(r, "strip", a, "chars", v) && text_strip(r, val_view(self), v[0], sides, ret);
}

static bool str_strip(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return strip_side(r, self, a, 3, ret);
}

static bool str_lstrip(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return strip_side(r, self, a, 1, ret);
}

static bool str_rstrip(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return strip_side(r, self, a, 2, ret);
}

/* The part of s between the character offsets `from` and `to`, cut as a slice is; *off: the
 * characters before it. False in *inside: the start lies behind the end of s. */
static bool cut(struct run *r, struct str *s, const struct val at[2], int64_t *off, bool *inside)
{
    int64_t n, i = 0, k;
    *off = 0;
    *inside = true;
    if (!given(at[0]) && !given(at[1]))
        return true;
    k = n = (int64_t)str_chars(*s);
    if ((given(at[0]) && !want_int(r, "start", at[0], &i)) ||
        (given(at[1]) && !want_int(r, "end", at[1], &k)))
        return false;
    *inside = i <= n;
    i = i < 0 ? (i < -n ? 0 : i + n) : i > n ? n : i;
    k = k < 0 ? (k < -n ? 0 : k + n) : k > n ? n : k;
    *inside = *inside && i <= k;
    size_t from = str_at(*s, (size_t)i);
    struct str rest = { s->p + from, s->n - from };
    *s = (struct str){ rest.p, k > i ? str_at(rest, (size_t)(k - i)) : 0 };
    *off = i;
    return run_work(r, rest.n / 4 + (uint64_t)n / 2);
}

static bool affix(struct run *r, struct val self, const struct args *a, bool end, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist one = { .v = &v[0], .n = 1, .cap = 1 }, *l = &one;
    struct str x, s = val_view(self);
    int64_t off;
    bool inside;
    if (!args_bind(r, "startswith and endswith", a, "prefix start end", v) ||
        !cut(r, &s, &v[1], &off, &inside))
        return false;
    if (v[0].kind == V_TUPLE)
        l = v[0].list;
    *ret = val_bool(false);
    for (size_t i = 0; i < l->n && !ret->b && inside; i++) {
        if (!want_str(r, "startswith and endswith", l->v[i], &x) || !run_work(r, 1))
            return false;
        ret->b = end ? str_ends(s, x) : str_starts(s, x);
    }
    return true;
}

static bool str_startswith(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return affix(r, self, a, false, ret);
}

static bool str_endswith(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return affix(r, self, a, true, ret);
}

static bool remove_affix(struct run *r, struct val self, const struct args *a, bool end,
                         struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct str x, s = val_view(self);
    if (!args_bind(r, "removeprefix and removesuffix", a, "text", v) ||
        !want_str(r, "removeprefix and removesuffix", v[0], &x))
        return false;
    if (!end && str_starts(s, x))
        s = (struct str){ s.p + x.n, s.n - x.n };
    else if (end && str_ends(s, x))
        s.n -= x.n;
    *ret = val_str(s);
    return true;
}

static bool str_removeprefix(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return remove_affix(r, self, a, false, ret);
}

static bool str_removesuffix(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return remove_affix(r, self, a, true, ret);
}

static bool str_replace(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    return args_bind(r, "replace", a, "old new count", v) &&
           text_replace(r, val_view(self), v, ret);
}

static bool str_upper(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "upper", a) && text_case(r, val_view(self), CASE_UPPER, ret);
}

static bool str_lower(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "lower", a) && text_case(r, val_view(self), CASE_LOWER, ret);
}

static bool str_capitalize(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "capitalize", a) && text_case(r, val_view(self), CASE_CAPITAL, ret);
}

static bool str_title(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "title", a) && text_case(r, val_view(self), CASE_TITLE, ret);
}

static bool find_in(struct run *r, struct val self, const struct args *a, bool last,
                    struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct str x, s = val_view(self);
    int64_t off;
    bool inside;
    if (!args_bind(r, "find", a, "text start end", v) || !want_str(r, "find", v[0], &x) ||
        !cut(r, &s, &v[1], &off, &inside) || !run_work(r, s.n / 2))
        return false;
    size_t hit = SIZE_MAX;
    if (!inside)
        hit = SIZE_MAX;
    else if (!last)
        hit = str_find(s, x, 0);
    else if (!find_last(r, s, x, &hit))
        return false;
    *ret = val_int(hit == SIZE_MAX ? -1 : off + (int64_t)str_chars((struct str){ s.p, hit }));
    return true;
}

static bool str_find_first(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return find_in(r, self, a, false, ret);
}

static bool str_rfind(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return find_in(r, self, a, true, ret);
}

static bool str_index(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    if (!find_in(r, self, a, false, ret))
        return false;
    return ret->i >= 0 || run_fail(r, ST_ARG, "index: substring not found");
}

static bool str_rindex(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    if (!find_in(r, self, a, true, ret))
        return false;
    return ret->i >= 0 || run_fail(r, ST_ARG, "rindex: substring not found");
}

static bool partition(struct run *r, struct val self, const struct args *a, bool last,
                      struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = list_new(r, 3);
    struct str x, s = val_view(self);
    size_t hit;
    if (!l || !args_bind(r, "partition", a, "sep", v) || !want_str(r, "partition", v[0], &x) ||
        !run_work(r, s.n / 2))
        return false;
    if (!x.n)
        return run_fail(r, ST_ARG, "partition: empty separator");
    if (!last)
        hit = str_find(s, x, 0);
    else if (!find_last(r, s, x, &hit))
        return false;
    for (size_t i = 0; i < 3; i++)
        l->v[l->n++] = val_str(STR(""));
    if (hit == SIZE_MAX) {
        l->v[last ? 2 : 0] = val_str(s);
    } else {
        l->v[0] = val_str((struct str){ s.p, hit });
        l->v[1] = val_str(x);
        l->v[2] = val_str((struct str){ s.p + hit + x.n, s.n - hit - x.n });
    }
    *ret = (struct val){ .kind = V_TUPLE, .list = l };
    return true;
}

static bool str_partition(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return partition(r, self, a, false, ret);
}

static bool str_rpartition(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return partition(r, self, a, true, ret);
}

static bool str_count(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct str x, s = val_view(self);
    int64_t off;
    bool inside;
    if (!args_bind(r, "count", a, "text start end", v) || !want_str(r, "count", v[0], &x) ||
        !cut(r, &s, &v[1], &off, &inside) || !run_work(r, s.n / 2))
        return false;
    *ret = !inside ? val_int(0) : val_int(x.n ? 0 : (int64_t)str_chars(s) + 1);
    for (size_t at = 0; x.n && (at = str_find(s, x, at)) != SIZE_MAX; at += x.n, ret->i++)
        if (!run_work(r, 1)) /* a search each */
            return false;
    return true;
}

static bool str_join(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = NULL;
    return args_bind(r, "join", a, "items", v) && val_iter(r, v[0], &l) &&
           text_join(r, val_view(self), l, false, ret);
}

static bool str_format(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return format_braces(r, val_view(self), a, ret);
}

enum char_class { IS_DIGIT = 1, IS_ALPHA = 2, IS_SPACE = 4 };

/* Every character is in one of the classes, and there is one. Letters beyond ASCII: any character
 * there needs Unicode's classes, which we do not have: refused. */
static bool all_are(struct run *r, struct val self, const struct args *a, int classes,
                    struct val *ret)
{
    struct str s = val_view(self);
    if (!args_none(r, "this method", a))
        return false;
    *ret = val_bool(s.n > 0);
    for (size_t i = 0; i < s.n && ret->b; i++) {
        unsigned char c = (unsigned char)s.p[i];
        size_t space = chat_space(s, i);
        if (c >= 0x80 && !space)
            return run_fail(r, ST_UNSUPPORTED, "character classes beyond ASCII");
        int is = space                                ? IS_SPACE
                 : c >= '0' && c <= '9'               ? IS_DIGIT
                 : (c | 32) >= 'a' && (c | 32) <= 'z' ? IS_ALPHA
                                                      : 0;
        ret->b = (is & classes) != 0;
        i += space ? space - 1 : 0;
    }
    return run_work(r, s.n / 2);
}

static bool str_isdigit(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return all_are(r, self, a, IS_DIGIT, ret);
}

static bool str_isalpha(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return all_are(r, self, a, IS_ALPHA, ret);
}

static bool str_isalnum(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return all_are(r, self, a, IS_ALPHA | IS_DIGIT, ret);
}

static bool str_isspace(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return all_are(r, self, a, IS_SPACE, ret);
}

static bool has_case(struct run *r, struct val self, const struct args *a, const char *test,
                     struct val *ret)
{
    bool yes;
    if (!test_call(r, test_find(str_c(test)), self, a, &yes))
        return false;
    *ret = val_bool(yes);
    return true;
}

static bool str_isupper(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return has_case(r, self, a, "upper", ret);
}

static bool str_islower(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return has_case(r, self, a, "lower", ret);
}

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
    if (!args_bind(r, "pop", a, "index", v) || (given(v[0]) && !want_int(r, "pop", v[0], &at)))
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
    { ON_STR, "capitalize", str_capitalize },
    { ON_STR, "count", str_count },
    { ON_STR, "endswith", str_endswith },
    { ON_STR, "find", str_find_first },
    { ON_STR, "format", str_format },
    { ON_STR, "index", str_index },
    { ON_STR, "isalnum", str_isalnum },
    { ON_STR, "isalpha", str_isalpha },
    { ON_STR, "isdigit", str_isdigit },
    { ON_STR, "islower", str_islower },
    { ON_STR, "isspace", str_isspace },
    { ON_STR, "isupper", str_isupper },
    { ON_STR, "join", str_join },
    { ON_STR, "lower", str_lower },
    { ON_STR, "lstrip", str_lstrip },
    { ON_STR, "partition", str_partition },
    { ON_STR, "removeprefix", str_removeprefix },
    { ON_STR, "removesuffix", str_removesuffix },
    { ON_STR, "replace", str_replace },
    { ON_STR, "rfind", str_rfind },
    { ON_STR, "rindex", str_rindex },
    { ON_STR, "rpartition", str_rpartition },
    { ON_STR, "rsplit", str_rsplit },
    { ON_STR, "rstrip", str_rstrip },
    { ON_STR, "split", str_split },
    { ON_STR, "splitlines", str_splitlines },
    { ON_STR, "startswith", str_startswith },
    { ON_STR, "strip", str_strip },
    { ON_STR, "title", str_title },
    { ON_STR, "upper", str_upper },
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
    static method_fn *const same[] = { str_strip, str_lstrip, str_rstrip,     str_upper,
                                       str_lower, str_title,  str_capitalize, NULL };
    static method_fn *const plain[] = { str_startswith, str_endswith, str_find_first, str_count,
                                        str_isdigit,    str_isalpha,  str_isspace,    NULL };
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
