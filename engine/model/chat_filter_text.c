/* engine/model/chat_filter_text.c - filters about text, as Jinja documents them. */
#include "engine/model/chat_internal.h"

bool filter_string(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return args_none(r, "string", a) && val_text(r, in, ret);
}

static bool cased(struct run *r, struct val in, const struct args *a, enum text_case c,
                  struct val *ret)
{
    struct val text;
    if (!args_none(r, "this filter", a) || !val_text(r, in, &text) ||
        !text_case(r, val_view(text), c, ret))
        return false;
    ret->markup = text.markup;
    return true;
}

bool filter_upper(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return cased(r, in, a, CASE_UPPER, ret);
}

bool filter_lower(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return cased(r, in, a, CASE_LOWER, ret);
}

bool filter_capitalize(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return cased(r, in, a, CASE_CAPITAL, ret);
}

/* Words end at white space, '-' and opening brackets only, unlike str.title(). */
bool filter_title(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val text, word;
    size_t mark = r->out.n, start = 0;
    if (!args_none(r, "title", a) || !val_text(r, in, &text))
        return false;
    struct str s = val_view(text);
    for (size_t i = 0; i <= s.n; i++) {
        size_t gap = i == s.n ? 1 : strchr("-({[<", s.p[i]) && s.p[i] ? 1 : chat_space(s, i);
        if (!gap)
            continue;
        struct str w = { s.p + start, i - start };
        if (!text_case(r, w, CASE_CAPITAL, &word) || !run_put(r, val_view(word)))
            return false;
        start = i + gap;
        if (i < s.n && !run_put(r, (struct str){ s.p + i, gap }))
            return false;
        i += gap - 1;
    }
    return run_take(r, mark, ret);
}

bool filter_trim(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], text;
    if (!args_bind(r, "trim", a, "chars", v) || !val_text(r, in, &text) ||
        !text_strip(r, val_view(text), v[0], 3, ret))
        return false;
    ret->markup = text.markup;
    return true;
}

bool filter_replace(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], text;
    return args_bind(r, "replace", a, "old new count", v) && val_text(r, in, &text) &&
           val_text(r, v[0], &v[0]) && val_text(r, v[1], &v[1]) &&
           text_replace(r, val_view(text), v, ret);
}

bool filter_escape(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return args_none(r, "escape", a) && text_escape(r, in, ret);
}

bool filter_indent(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], text, pad = val_str(STR("    "));
    size_t mark = r->out.n;
    if (!args_bind(r, "indent", a, "width first blank", v) || !val_text(r, in, &text))
        return false;
    if (text.markup)
        return run_fail(r, ST_UNSUPPORTED, "indent of what 'safe' or 'escape' gave");
    if (v[0].kind == V_STR)
        pad = v[0];
    else if (val_given(v[0]) && !binary(r, '*', val_str(STR(" ")), v[0], &pad))
        return false;
    struct str s = val_view(text);
    for (size_t at = 0, line = 0;; line++) {
        size_t end = str_find(s, STR("\n"), at);
        size_t n = (end == SIZE_MAX ? s.n : end) - at;
        bool shift = line ? n || val_truth(v[2]) : val_truth(v[1]);
        if ((shift && !run_put(r, val_view(pad))) || !run_put(r, (struct str){ s.p + at, n }))
            return false;
        if (end == SIZE_MAX)
            return run_take(r, mark, ret);
        if (!run_put(r, STR("\n")) || !run_work(r, 1))
            return false;
        at = end + 1;
    }
}

bool filter_wordcount(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val text;
    int64_t words = 0;
    bool inside = false;
    if (!args_none(r, "wordcount", a) || !val_text(r, in, &text))
        return false;
    struct str s = val_view(text);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool now = c >= 0x80 || c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                   (c >= 'A' && c <= 'Z');
        words += now && !inside;
        inside = now;
    }
    *ret = val_int(words);
    return run_work(r, s.n / 2);
}

bool filter_format(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct vlist l = { .v = a->v, .n = a->n, .cap = a->n };
    struct val arg = { .kind = V_TUPLE, .list = &l }, text;
    if (a->n_kw) {
        if (!dict_new(r, &arg))
            return false;
        for (size_t i = 0; i < a->n_kw; i++)
            if (!dict_set(r, arg.dict, val_str(a->kw[i].name), a->kw[i].val))
                return false;
    }
    return val_text(r, in, &text) && binary(r, '%', text, arg, ret);
}
