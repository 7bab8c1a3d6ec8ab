/* engine/model/chat_method_str.c - methods of strings, as Python has them. */
#include "engine/model/chat_internal.h"

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

bool method_str_split(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *to = list_new(r, 0);
    struct str sep;
    int64_t max = -1;
    if (!to || !args_bind(r, "split", a, "sep maxsplit", v) ||
        (val_given(v[1]) && !want_int(r, "split", v[1], &max)) || !run_work(r, self.n / 2))
        return false;
    *ret = val_list(to);
    if (!val_given(v[0]))
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

bool method_str_rsplit(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *to = list_new(r, 0);
    struct str sep, s = val_view(self);
    int64_t max = -1;
    if (!to || !args_bind(r, "rsplit", a, "sep maxsplit", v) ||
        (val_given(v[1]) && !want_int(r, "rsplit", v[1], &max)))
        return false;
    if (!val_given(v[0]))
        return max < 0 ? method_str_split(r, self, a, ret)
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
    *ret = val_list(to);
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

bool method_str_splitlines(struct run *r, struct val self, const struct args *a, struct val *ret)
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
    *ret = val_list(to);
    return run_work(r, s.n / 2);
}

static bool strip_side(struct run *r, struct val self, const struct args *a, int sides,
                       struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    return args_bind(r, "strip", a, "chars", v) && text_strip(r, val_view(self), v[0], sides, ret);
}

bool method_str_strip(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return strip_side(r, self, a, 3, ret);
}

bool method_str_lstrip(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return strip_side(r, self, a, 1, ret);
}

bool method_str_rstrip(struct run *r, struct val self, const struct args *a, struct val *ret)
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
    if (!val_given(at[0]) && !val_given(at[1]))
        return true;
    k = n = (int64_t)str_chars(*s);
    if ((val_given(at[0]) && !want_int(r, "start", at[0], &i)) ||
        (val_given(at[1]) && !want_int(r, "end", at[1], &k)))
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

bool method_str_startswith(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return affix(r, self, a, false, ret);
}

bool method_str_endswith(struct run *r, struct val self, const struct args *a, struct val *ret)
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

bool method_str_removeprefix(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return remove_affix(r, self, a, false, ret);
}

bool method_str_removesuffix(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return remove_affix(r, self, a, true, ret);
}

bool method_str_replace(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    return args_bind(r, "replace", a, "old new count", v) &&
           text_replace(r, val_view(self), v, ret);
}

bool method_str_upper(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "upper", a) && text_case(r, val_view(self), CASE_UPPER, ret);
}

bool method_str_lower(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "lower", a) && text_case(r, val_view(self), CASE_LOWER, ret);
}

bool method_str_capitalize(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return args_none(r, "capitalize", a) && text_case(r, val_view(self), CASE_CAPITAL, ret);
}

bool method_str_title(struct run *r, struct val self, const struct args *a, struct val *ret)
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

bool method_str_find_first(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return find_in(r, self, a, false, ret);
}

bool method_str_rfind(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return find_in(r, self, a, true, ret);
}

bool method_str_index(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    if (!find_in(r, self, a, false, ret))
        return false;
    return ret->i >= 0 || run_fail(r, ST_ARG, "index: substring not found");
}

bool method_str_rindex(struct run *r, struct val self, const struct args *a, struct val *ret)
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

bool method_str_partition(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return partition(r, self, a, false, ret);
}

bool method_str_rpartition(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return partition(r, self, a, true, ret);
}

bool method_str_count(struct run *r, struct val self, const struct args *a, struct val *ret)
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

bool method_str_join(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = NULL;
    return args_bind(r, "join", a, "items", v) && val_iter(r, v[0], &l) &&
           text_join(r, val_view(self), l, false, ret);
}

bool method_str_format(struct run *r, struct val self, const struct args *a, struct val *ret)
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

bool method_str_isdigit(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return all_are(r, self, a, IS_DIGIT, ret);
}

bool method_str_isalpha(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return all_are(r, self, a, IS_ALPHA, ret);
}

bool method_str_isalnum(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return all_are(r, self, a, IS_ALPHA | IS_DIGIT, ret);
}

bool method_str_isspace(struct run *r, struct val self, const struct args *a, struct val *ret)
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

bool method_str_isupper(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return has_case(r, self, a, "upper", ret);
}

bool method_str_islower(struct run *r, struct val self, const struct args *a, struct val *ret)
{
    return has_case(r, self, a, "lower", ret);
}
