/* engine/model/chat_text.c - string work shared by filters and methods: strip, replace, case, join
 * and Python's two ways to format. */
#include "engine/base/utf8.h"
#include "engine/model/chat_internal.h"

/* ---- strip, replace, join ---- */

static bool one_of(struct str set, const char *p, size_t n)
{
    uint32_t cp;
    for (size_t i = 0, len; i < set.n; i += len) {
        len = utf8_decode(set.p + i, set.n - i, &cp);
        len = len ? len : 1;
        if (len == n && memcmp(set.p + i, p, n) == 0)
            return true;
    }
    return false;
}

/* sides: 1 left, 2 right, 3 both. The result is a view. */
bool text_strip(struct run *r, struct str s, struct val chars, int sides, struct val *ret)
{
    if (chars.kind == V_UNDEF || chars.kind == V_NONE) {
        *ret = val_str(chat_strip(s, sides & 1, sides & 2));
        return run_work(r, s.n / 64);
    }
    struct str set;
    uint32_t cp;
    if (!want_str(r, "strip", chars, &set))
        return false;
    while ((sides & 1) && s.n) {
        size_t n = utf8_decode(s.p, s.n, &cp);
        n = n ? n : 1;
        if (!run_work(r, 2 + set.n / 2))
            return false;
        if (!one_of(set, s.p, n))
            break;
        s = (struct str){ s.p + n, s.n - n };
    }
    while ((sides & 2) && s.n) {
        size_t i = s.n - 1;
        while (i > 0 && s.n - i < 4 && ((unsigned char)s.p[i] & 0xc0) == 0x80)
            i--;
        if (!run_work(r, 2 + set.n / 2))
            return false;
        if (!one_of(set, s.p + i, s.n - i))
            break;
        s.n = i;
    }
    *ret = val_str(s);
    return true;
}

bool text_replace(struct run *r, struct str s, struct val *v, struct val *ret)
{
    struct str from, to;
    int64_t count = -1;
    size_t mark = r->out.n, at = 0, hit;
    if (!want_str(r, "replace", v[0], &from) || !want_str(r, "replace", v[1], &to))
        return false;
    if (v[2].kind != V_UNDEF && v[2].kind != V_NONE && !want_int(r, "replace", v[2], &count))
        return false;
    if (!run_work(r, s.n / 4))
        return false;
    while (count != 0 && (hit = str_find(s, from, at)) != SIZE_MAX) {
        size_t step = 0; /* an empty needle is found between any two characters */
        if (!from.n) {
            struct str rest = { s.p + at, s.n - at };
            step = str_at(rest, 1);
        }
        if (!run_work(r, 8) || !run_put(r, (struct str){ s.p + at, hit - at }) || !run_put(r, to) ||
            !run_put(r, (struct str){ s.p + hit, step }))
            return false;
        at = hit + from.n + step;
        count -= count > 0;
        if (!from.n && step == 0)
            break;
    }
    return run_put(r, (struct str){ s.p + at, s.n - at }) && run_take(r, mark, ret);
}

bool text_escape(struct run *r, struct val in, struct val *ret)
{
    static const struct {
        char c;
        const char *text;
    } to[] = {
        { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '"', "&#34;" }, { '\'', "&#39;" }
    };
    struct val text;
    size_t mark = r->out.n;
    if (!val_text(r, in, &text) || !run_work(r, text.markup ? 0 : text.n))
        return false;
    for (size_t i = 0; i < text.n && !text.markup; i++) {
        struct str piece = { text.p + i, 1 };
        for (size_t k = 0; k < sizeof to / sizeof *to; k++)
            if (text.p[i] == to[k].c)
                piece = str_c(to[k].text);
        if (!run_put(r, piece))
            return false;
    }
    *ret = text;
    if (!text.markup && !run_take(r, mark, ret))
        return false;
    ret->markup = true;
    return true;
}

/* any: items of any type are printed (the filter); else only strings may be joined (the method). */
bool text_join(struct run *r, struct str sep, struct vlist *items, bool any, struct val *ret)
{
    size_t mark = r->out.n;
    for (size_t i = 0; i < items->n; i++) {
        if (!any && items->v[i].kind != V_STR)
            return run_fail(r, ST_ARG, "join: item %zu is '%s', not a string", i,
                            val_type(items->v[i]));
        if ((i && !run_put(r, sep)) || !put_val(r, items->v[i]) || !run_work(r, 1))
            return false;
    }
    return run_take(r, mark, ret);
}

/* ---- case ---- */

static const char *case_text(const struct case_table *t, uint32_t cp)
{
    size_t low = 0, high = cp < 0x80 ? 0 : t->n_texts;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (t->texts[mid].cp == cp)
            return t->texts[mid].text;
        if (t->texts[mid].cp < cp)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static uint32_t to_case(uint32_t cp, enum text_case c)
{
    const struct case_table *t = c == CASE_LOWER ? &chat_lower : &chat_upper;
    if (cp < 0x80)
        return c == CASE_LOWER ? cp + (cp >= 'A' && cp <= 'Z' ? 0x20 : 0)
                               : cp - (cp >= 'a' && cp <= 'z' ? 0x20 : 0);
    size_t low = 0, high = t->n_runs;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (t->runs[mid].last < cp)
            low = mid + 1;
        else
            high = mid;
    }
    const struct case_run *run = &t->runs[low];
    bool hit = low < t->n_runs && cp >= run->first && (cp - run->first) % run->step == 0;
    return hit ? (uint32_t)((int32_t)cp + run->delta) : cp;
}

static bool has_case(uint32_t cp)
{
    return to_case(cp, CASE_UPPER) != cp || to_case(cp, CASE_LOWER) != cp ||
           case_text(&chat_upper, cp) || case_text(&chat_lower, cp);
}

static bool put_cased(struct run *r, struct str bytes, uint32_t cp, enum text_case c)
{
    char text[4];
    const char *all = c == CASE_TITLE ? case_text(&chat_title, cp) : NULL;
    if (!all)
        all = case_text(c == CASE_LOWER ? &chat_lower : &chat_upper, cp);
    if (all)
        return run_put(r, str_c(all));
    uint32_t to = to_case(cp, c);
    return run_put(r, to == cp ? bytes : (struct str){ text, utf8_encode(to, text) });
}

/* A capital sigma at the end of a word becomes another small letter than one inside. */
static bool last_of_word(struct str s, size_t next, bool inside)
{
    uint32_t cp;
    return inside && (next >= s.n || !utf8_decode(s.p + next, s.n - next, &cp) || !has_case(cp));
}

bool text_case(struct run *r, struct str s, enum text_case c, struct val *ret)
{
    size_t mark = r->out.n;
    bool inside = false; /* of a word: what follows is small */
    if (!run_work(r, s.n))
        return false;
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t cp;
        n = utf8_decode(s.p + i, s.n - i, &cp);
        if (!n) {
            n = 1;
            cp = 0xfffd;
        }
        enum text_case now = c;
        if (c == CASE_CAPITAL || c == CASE_TITLE)
            now = (c == CASE_CAPITAL ? i > 0 : inside) ? CASE_LOWER : CASE_TITLE;
        struct str bytes = { s.p + i, n };
        if (cp == 0x3a3 && now == CASE_LOWER && last_of_word(s, i + n, inside)
                ? !run_put(r, STR("\xcf\x82"))
                : !put_cased(r, bytes, cp, now))
            return false;
        inside = has_case(cp);
    }
    return run_take(r, mark, ret);
}

/* ---- Python's % ---- */

struct spec {
    bool left, zero, plus;
    int width, prec; /* prec -1: none */
    char conv;
};

static int small_number(struct str f, size_t *i)
{
    int n = 0;
    for (; *i < f.n && f.p[*i] >= '0' && f.p[*i] <= '9'; (*i)++)
        n = n < 1000 ? n * 10 + (f.p[*i] - '0') : n;
    return n;
}

static bool parse_spec(struct run *r, struct str f, size_t *i, struct spec *s)
{
    *s = (struct spec){ .prec = -1 };
    for (; *i < f.n && strchr("-0+", f.p[*i]) && f.p[*i]; (*i)++) {
        s->left |= f.p[*i] == '-';
        s->zero |= f.p[*i] == '0';
        s->plus |= f.p[*i] == '+';
    }
    s->width = small_number(f, i);
    if (*i < f.n && f.p[*i] == '.') {
        ++*i;
        s->prec = small_number(f, i);
    }
    if (*i == f.n || s->width > 999 || s->prec > 99)
        return run_fail(r, ST_ARG, "incomplete or too large format");
    s->conv = f.p[(*i)++];
    return true;
}

static bool put_padded(struct run *r, const struct spec *s, struct str text, bool number)
{
    size_t len = str_chars(text),
           pad = s->width > 0 && (size_t)s->width > len ? (size_t)s->width - len : 0;
    bool zero = number && s->zero && !s->left, sign = zero && text.n && strchr("+-", text.p[0]);
    if (sign && !run_put(r, (struct str){ text.p, 1 }))
        return false;
    if (sign)
        text = (struct str){ text.p + 1, text.n - 1 };
    for (size_t i = 0; !s->left && i < pad; i++)
        if (!run_put(r, zero ? STR("0") : STR(" ")))
            return false;
    if (!run_put(r, text))
        return false;
    for (size_t i = 0; s->left && i < pad; i++)
        if (!run_put(r, STR(" ")))
            return false;
    return true;
}

static bool put_conversion(struct run *r, const struct spec *s, struct val v)
{
    char text[512];
    struct val shown = v;
    size_t mark = r->out.n;
    if (s->conv == 's' || s->conv == 'r') {
        if (!(s->conv == 's' ? put_val(r, v) : put_repr(r, v)) || !run_take(r, mark, &shown))
            return false;
        struct str t = val_view(shown);
        if (s->prec >= 0)
            t.n = str_at(t, (size_t)s->prec);
        return put_padded(r, s, t, false);
    }
    if (!strchr("dixXfFeEgG", s->conv) || !s->conv)
        return run_fail(r, ST_UNSUPPORTED, "format character 0x%02x",
                        (unsigned)(unsigned char)s->conv);
    if (!val_is_num(v))
        return run_fail(r, ST_ARG, "%%%c needs a number, not '%s'", s->conv, val_type(v));
    double d = val_num(v);
    if (d != d || d < -1e300 || d > 1e300)
        return run_fail(r, ST_ARG, "%%%c of a number that is not finite or too large", s->conv);
    int prec = s->prec < 0 ? 6 : s->prec;
    long long whole = v.kind == V_INT ? v.i : v.kind == V_BOOL ? v.b : 0;
    if (strchr("dixX", s->conv) && v.kind == V_FLOAT) {
        if (strchr("xX", s->conv) || d < -9e18 || d > 9e18)
            return run_fail(r, ST_ARG, "%%%c needs an integer", s->conv);
        whole = (long long)d;
    }
    unsigned long long size =
        whole < 0 ? 0ULL - (unsigned long long)whole : (unsigned long long)whole;
    const char *sign = whole < 0 ? "-" : s->plus ? "+" : "";
    if (s->conv == 'x' || s->conv == 'X')
        snprintf(text, sizeof text, s->conv == 'x' ? "%s%llx" : "%s%llX", sign, size);
    else if (s->conv == 'd' || s->conv == 'i')
        snprintf(text, sizeof text, "%s%llu", sign, size);
    else if (s->conv == 'f' || s->conv == 'F')
        snprintf(text, sizeof text, s->plus ? "%+.*f" : "%.*f", prec, d);
    else if (s->conv == 'e' || s->conv == 'E')
        snprintf(text, sizeof text, s->conv == 'e' ? "%.*e" : "%.*E", prec, d);
    else
        snprintf(text, sizeof text, s->conv == 'g' ? "%.*g" : "%.*G", prec, d);
    return put_padded(r, s, str_c(text), true);
}

/* The value for the conversion at f.p[*i], which is behind '%': "(name)" or the next one. */
static bool percent_value(struct run *r, struct str f, size_t *i, struct val arg, size_t *next,
                          struct val *ret)
{
    if (*i < f.n && f.p[*i] == '(') {
        size_t close = str_find(f, STR(")"), *i);
        if (close == SIZE_MAX || arg.kind != V_DICT)
            return run_fail(r, ST_ARG, "%%(name) needs a dictionary");
        struct str name = { f.p + *i + 1, close - *i - 1 };
        *i = close + 1;
        return val_item(r, arg, val_str(name), ret);
    }
    size_t have = arg.kind == V_TUPLE ? arg.list->n : 1;
    if (*next >= have)
        return run_fail(r, ST_ARG, "not enough arguments for the format string");
    *ret = arg.kind == V_TUPLE ? arg.list->v[*next] : arg;
    ++*next;
    return true;
}

bool format_percent(struct run *r, struct str f, struct val arg, struct val *ret)
{
    size_t mark = r->out.n, next = 0;
    for (size_t i = 0; i < f.n;) {
        size_t hit = str_find(f, STR("%"), i);
        if (!run_put(r, (struct str){ f.p + i, (hit == SIZE_MAX ? f.n : hit) - i }))
            return false;
        if (hit == SIZE_MAX)
            break;
        i = hit + 1;
        if (i < f.n && f.p[i] == '%') {
            i++;
            if (!run_put(r, STR("%")))
                return false;
            continue;
        }
        struct spec s;
        struct val v = VAL_NONE;
        if (!percent_value(r, f, &i, arg, &next, &v) || !parse_spec(r, f, &i, &s) ||
            !run_work(r, 400) || !put_conversion(r, &s, v))
            return false;
    }
    if (arg.kind != V_DICT && next < (arg.kind == V_TUPLE ? arg.list->n : 1))
        return run_fail(r, ST_ARG, "not all arguments converted by the format string");
    return run_take(r, mark, ret);
}

/* ---- str.format() ---- */

static bool brace_value(struct run *r, struct str field, const struct args *a, size_t *next,
                        struct val *ret)
{
    size_t at = 0;
    if (memchr(field.p, '.', field.n) || memchr(field.p, '[', field.n) ||
        memchr(field.p, ':', field.n) || memchr(field.p, '!', field.n))
        return run_fail(r, ST_UNSUPPORTED, "format field '{%.*s}'", (int)(field.n & 63), field.p);
    for (size_t i = 0; i < a->n_kw; i++)
        if (str_eq(a->kw[i].name, field)) {
            *ret = a->kw[i].val;
            return true;
        }
    if (!field.n) {
        at = (*next)++;
    } else {
        size_t end = 0;
        at = (size_t)small_number(field, &end);
        if (end != field.n)
            return run_fail(r, ST_ARG, "format: no value named '%.*s'", (int)(field.n & 63),
                            field.p);
    }
    if (at >= a->n)
        return run_fail(r, ST_ARG, "format: there is no argument %zu", at);
    *ret = a->v[at];
    return true;
}

bool format_braces(struct run *r, struct str f, const struct args *a, struct val *ret)
{
    size_t mark = r->out.n, next = 0;
    if (!run_work(r, f.n))
        return false;
    for (size_t i = 0; i < f.n; i++) {
        char c = f.p[i];
        struct val v = VAL_NONE;
        if ((c != '{' && c != '}') || (i + 1 < f.n && f.p[i + 1] == c)) {
            i += c == '{' || c == '}';
            if (!run_put(r, (struct str){ &c, 1 }))
                return false;
            continue;
        }
        size_t close = c == '{' ? str_find(f, STR("}"), i) : SIZE_MAX;
        if (close == SIZE_MAX)
            return run_fail(r, ST_ARG, "format: a single '%c'", c);
        struct str field = { f.p + i + 1, close - i - 1 };
        if (!run_work(r, 16) || !brace_value(r, field, a, &next, &v) || !put_val(r, v))
            return false;
        i = close;
    }
    return run_take(r, mark, ret);
}
