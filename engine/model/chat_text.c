/* engine/model/chat_text.c - string work shared by filters and methods: strip, replace, case, join
 * and Python's two ways to format. Case covers Latin, Greek and Cyrillic letters; other scripts
 * stay as they are. */
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
        if (!run_work(r, 1 + set.n / 8))
            return false;
        if (!one_of(set, s.p, n))
            break;
        s = (struct str){ s.p + n, s.n - n };
    }
    while ((sides & 2) && s.n) {
        size_t i = s.n - 1;
        while (i > 0 && s.n - i < 4 && ((unsigned char)s.p[i] & 0xc0) == 0x80)
            i--;
        if (!run_work(r, 1 + set.n / 8))
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
    while (count != 0 && (hit = str_find(s, from, at)) != SIZE_MAX) {
        size_t step = 0; /* an empty needle is found between any two characters */
        if (!from.n) {
            struct str rest = { s.p + at, s.n - at };
            step = str_at(rest, 1);
        }
        if (!run_work(r, 1) || !run_put(r, (struct str){ s.p + at, hit - at }) || !run_put(r, to) ||
            !run_put(r, (struct str){ s.p + hit, step }))
            return false;
        at = hit + from.n + step;
        count -= count > 0;
        if (!from.n && step == 0)
            break;
    }
    return run_put(r, (struct str){ s.p + at, s.n - at }) && run_take(r, mark, ret) &&
           run_work(r, s.n / 16);
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

static bool in(uint32_t cp, uint32_t low, uint32_t high)
{
    return cp >= low && cp <= high;
}

/* Blocks where capital and small letter alternate: the capital is even, or odd. */
static bool even_pairs(uint32_t cp)
{
    return in(cp, 0x100, 0x12f) || in(cp, 0x132, 0x137) || in(cp, 0x14a, 0x177) ||
           in(cp, 0x460, 0x481) || in(cp, 0x48a, 0x4bf) || in(cp, 0x4d0, 0x52f) ||
           in(cp, 0x1e00, 0x1e95) || in(cp, 0x1ea0, 0x1eff);
}

static bool odd_pairs(uint32_t cp)
{
    return in(cp, 0x139, 0x148) || in(cp, 0x179, 0x17e);
}

static uint32_t to_lower(uint32_t cp)
{
    if (in(cp, 'A', 'Z') || (in(cp, 0xc0, 0xde) && cp != 0xd7) ||
        (in(cp, 0x391, 0x3ab) && cp != 0x3a2) || in(cp, 0x410, 0x42f))
        return cp + 0x20;
    if (in(cp, 0x400, 0x40f))
        return cp + 0x50;
    if (even_pairs(cp))
        return cp | 1;
    if (odd_pairs(cp))
        return cp + (cp & 1);
    switch (cp) {
    case 0x178:
        return 0xff;
    case 0x386:
        return 0x3ac;
    case 0x388:
    case 0x389:
    case 0x38a:
        return cp + 0x25;
    case 0x38c:
        return 0x3cc;
    case 0x38e:
    case 0x38f:
        return cp + 0x3f;
    default:
        return cp;
    }
}

static uint32_t to_upper(uint32_t cp)
{
    if (cp == 0xff)
        return 0x178;
    if (in(cp, 'a', 'z') || (in(cp, 0xe0, 0xfe) && cp != 0xf7) ||
        (in(cp, 0x3b1, 0x3cb) && cp != 0x3c2) || in(cp, 0x430, 0x44f))
        return cp - 0x20;
    if (in(cp, 0x450, 0x45f))
        return cp - 0x50;
    if (even_pairs(cp))
        return cp & ~1U;
    if (odd_pairs(cp))
        return cp - !(cp & 1);
    switch (cp) {
    case 0x3ac:
        return 0x386;
    case 0x3ad:
    case 0x3ae:
    case 0x3af:
        return cp - 0x25;
    case 0x3c2:
        return 0x3a3;
    case 0x3cc:
        return 0x38c;
    case 0x3cd:
    case 0x3ce:
        return cp - 0x3f;
    default:
        return cp;
    }
}

static bool put_cased(struct run *r, struct str bytes, uint32_t cp, bool upper)
{
    char text[4];
    if (upper && cp == 0xdf)
        return run_put(r, STR("SS"));
    uint32_t to = upper ? to_upper(cp) : to_lower(cp);
    if (to == cp)
        return run_put(r, bytes);
    return run_put(r, (struct str){ text, utf8_encode(to, text) });
}

bool text_case(struct run *r, struct str s, enum text_case c, struct val *ret)
{
    size_t mark = r->out.n;
    bool inside = false; /* of a word: what follows is small */
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t cp;
        struct str bytes = { s.p + i, 1 };
        n = utf8_decode(s.p + i, s.n - i, &cp);
        if (!n) {
            n = 1;
            cp = 0xfffd;
        }
        bytes.n = n;
        bool upper =
            c == CASE_UPPER || (c == CASE_CAPITAL && i == 0) || (c == CASE_TITLE && !inside);
        if (!put_cased(r, bytes, cp, upper))
            return false;
        inside = to_upper(cp) != cp || to_lower(cp) != cp;
    }
    return run_work(r, s.n / 8) && run_take(r, mark, ret);
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
            !put_conversion(r, &s, v) || !run_work(r, 4))
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
        if (!brace_value(r, field, a, &next, &v) || !put_val(r, v))
            return false;
        i = close;
    }
    return run_work(r, f.n / 8) && run_take(r, mark, ret);
}
