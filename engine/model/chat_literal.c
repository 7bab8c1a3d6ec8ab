/* engine/model/chat_literal.c - strings with Python's escapes, and numbers, in a template. */
#include "engine/base/num.h"
#include "engine/base/utf8.h"
#include "engine/model/chat_internal.h"

static size_t escape_digits(struct str s, size_t i, size_t max, unsigned base, uint32_t *cp)
{
    size_t n = 0;
    *cp = 0;
    for (; n < max && i + n < s.n; n++) {
        char c = s.p[i + n];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 99;
        if (d >= base)
            break;
        *cp = *cp * base + d;
    }
    return n;
}

/* Decodes the escape whose letter is s.p[i] to out; returns the bytes it took, 0: not valid. */
static size_t decode_escape(struct str s, size_t i, char **out)
{
    static const char from[] = "ntr\\'\"abfv", to[] = "\n\t\r\\'\"\a\b\f\v";
    char c = s.p[i];
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        *(*out)++ = to[known - from];
        return 1;
    }
    if (c == '\n')
        return 1;
    uint32_t cp;
    size_t want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, n;
    if (want) {
        if (escape_digits(s, i + 1, want, 16, &cp) != want)
            return 0;
        n = want + 1;
    } else if ((n = escape_digits(s, i, 3, 8, &cp)) == 0) {
        if (c == 'N')
            return 0;
        *(*out)++ = '\\'; /* Python keeps an unknown escape as it is */
        *(*out)++ = c;
        return 1;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
        return 0;
    *out += utf8_encode(cp, *out);
    return n;
}

/* Adjacent literals are one string. */
struct node *parse_string(struct parser *p)
{
    struct node *n = parse_node(p, X_CONST);
    struct str all = { "", 0 };
    while (n && p->cur.kind == TOK_STR) {
        struct str s = p->cur.text;
        char *to = arena_alloc(p->mem, all.n + s.n + 1, 1), *w = to;
        if (!to)
            return parse_no(p, ST_RANGE, "template too large");
        memcpy(w, all.p, all.n);
        w += all.n;
        for (size_t i = 0; i < s.n; i++) {
            if (s.p[i] != '\\' || i + 1 == s.n) {
                *w++ = s.p[i];
                continue;
            }
            size_t used = decode_escape(s, i + 1, &w);
            if (!used)
                return parse_no(p, ST_UNSUPPORTED, "escape '\\%c' in a string", s.p[i + 1]);
            i += used;
        }
        all = (struct str){ to, (size_t)(w - to) };
        if (!parse_advance(p))
            return NULL;
    }
    if (n)
        n->val = val_str(all);
    return n;
}

struct node *parse_number(struct parser *p)
{
    struct node *n = parse_node(p, X_CONST);
    char digits[64];
    size_t len = 0;
    if (!n)
        return NULL;
    for (size_t i = 0; i < p->cur.text.n; i++) {
        if (len == sizeof digits)
            return parse_no(p, ST_RANGE, "number of more than 64 digits");
        if (p->cur.text.p[i] != '_')
            digits[len++] = p->cur.text.p[i];
    }
    struct str s = { digits, len };
    int64_t i = 0;
    double d = 0;
    enum status st = p->cur.kind == TOK_INT ? num_i64(s, "number", INT64_MIN, INT64_MAX, &i, p->err)
                                            : num_f64(s, "number", -1.7e308, 1.7e308, &d, p->err);
    if (st != ST_OK) {
        err_ctx(p->err, "line %u", p->cur.line);
        return NULL;
    }
    n->val = p->cur.kind == TOK_INT ? val_int(i) : val_float(d);
    return parse_advance(p) ? n : NULL;
}
