/* engine/model/chat_print.c - text of values: Python's str() and repr(), and json.dumps() as the
 * transformers library calls it (no HTML escapes, no ASCII escapes unless asked), because a prompt
 * must repeat the bytes that the model was trained on. */
#include "engine/base/utf8.h"
#include "engine/model/chat_internal.h"

#include <math.h>

static bool put_z(struct run *r, const char *z)
{
    return run_put(r, str_c(z));
}

/* Shortest digits that read back as d; exponent form below 1e-4 and from 1e16 on, as Python. */
void float_repr(double d, char out[40])
{
    char sci[40], digits[24] = "0";
    if (!isfinite(d)) {
        snprintf(out, 40, "%s", d != d ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    for (int prec = 0; prec <= 16; prec++) {
        snprintf(sci, sizeof sci, "%.*e", prec, d);
        if (strtod(sci, NULL) == d)
            break;
    }
    char *e = strchr(sci, 'e');
    int exp = (int)strtol(e + 1, NULL, 10), n = 0;
    for (char *c = sci; c < e; c++)
        if (*c >= '0' && *c <= '9')
            digits[n++] = *c;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    const char *sign = sci[0] == '-' ? "-" : "";
    if (exp < -4 || exp >= 16)
        snprintf(out, 40, "%s%c%s%.*se%c%02d", sign, digits[0], n > 1 ? "." : "", n - 1, digits + 1,
                 exp < 0 ? '-' : '+', exp < 0 ? -exp : exp);
    else if (exp < 0)
        snprintf(out, 40, "%s0.%.*s%.*s", sign, -exp - 1, "000", n, digits);
    else if (n <= exp + 1)
        snprintf(out, 40, "%s%.*s%.*s.0", sign, n, digits, exp + 1 - n, "0000000000000000");
    else
        snprintf(out, 40, "%s%.*s.%.*s", sign, exp + 1, digits, n - exp - 1, digits + exp + 1);
}

static bool put_number(struct run *r, struct val v)
{
    char text[40];
    if (!run_work(r, v.kind == V_INT ? 8 : 100)) /* up to 17 conversions there and back */
        return false;
    if (v.kind == V_INT)
        snprintf(text, sizeof text, "%lld", (long long)v.i);
    else
        float_repr(v.d, text);
    return put_z(r, text);
}

/* Characters that Python shows as escapes: controls, format characters, unusual spaces. */
static bool printable(uint32_t cp)
{
    return !(cp < 0x20 || (cp >= 0x7f && cp <= 0xa0) || cp == 0xad || cp == 0x1680 ||
             (cp >= 0x2000 && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202f) ||
             (cp >= 0x205f && cp <= 0x206f) || cp == 0x3000 || (cp >= 0xe000 && cp <= 0xf8ff) ||
             cp == 0xfeff || (cp >= 0xfff0 && cp <= 0xfffb) || cp >= 0xe0000);
}

static bool put_escaped(struct run *r, uint32_t cp, char quote, struct str bytes)
{
    char text[12];
    static const char from[] = "\n\r\t\\", to[] = "nrt\\";
    const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (known)
        snprintf(text, sizeof text, "\\%c", to[known - from]);
    else if (cp == (unsigned char)quote)
        snprintf(text, sizeof text, "\\%c", quote);
    else if (printable(cp))
        return run_put(r, bytes);
    else
        snprintf(text, sizeof text,
                 cp < 0x100     ? "\\x%02x"
                 : cp < 0x10000 ? "\\u%04x"
                                : "\\U%08x",
                 cp);
    return put_z(r, text);
}

static bool put_quoted(struct run *r, struct str s)
{
    bool single = s.n && memchr(s.p, '\'', s.n), twice = s.n && memchr(s.p, '"', s.n);
    char quote = single && !twice ? '"' : '\'';
    if (!run_work(r, s.n) || !run_put(r, (struct str){ &quote, 1 }))
        return false;
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t cp;
        n = utf8_decode(s.p + i, s.n - i, &cp);
        if (!n) {
            n = 1;
            cp = 0xfffd;
        }
        if (!put_escaped(r, cp, quote, (struct str){ s.p + i, n }))
            return false;
    }
    return run_put(r, (struct str){ &quote, 1 });
}

static bool put_list(struct run *r, struct val v)
{
    bool tuple = v.kind == V_TUPLE;
    if (!put_z(r, tuple ? "(" : "["))
        return false;
    for (size_t i = 0; i < v.list->n; i++)
        if ((i && !put_z(r, ", ")) || !put_repr(r, v.list->v[i]))
            return false;
    return put_z(r, tuple ? (v.list->n == 1 ? ",)" : ")") : "]");
}

static bool put_dict(struct run *r, const struct vdict *d)
{
    if (!put_z(r, "{"))
        return false;
    for (size_t i = 0; i < d->n; i++)
        if ((i && !put_z(r, ", ")) || !put_repr(r, d->v[i].key) || !put_z(r, ": ") ||
            !put_repr(r, d->v[i].val))
            return false;
    return put_z(r, "}");
}

static bool put_object(struct run *r, struct val v)
{
    switch (v.kind) {
    case V_NS:
        return put_z(r, "<Namespace ") && put_dict(r, v.dict) && put_z(r, ">");
    case V_MACRO:
        return put_z(r, "<Macro '") && run_put(r, v.macro->node->name) && put_z(r, "'>");
    case V_RANGE:
    case V_VIEW:
    case V_GEN:
        return run_fail(r, ST_UNSUPPORTED, "printing a '%s' (use | list)", val_type(v));
    default:
        return put_z(r, "<") && put_z(r, val_type(v)) && put_z(r, ">");
    }
}

bool put_repr(struct run *r, struct val v)
{
    bool ok = true;
    if (!run_enter(r) || !run_work(r, 1))
        return false;
    switch (v.kind) {
    case V_UNDEF:
        ok = put_z(r, "Undefined");
        break;
    case V_NONE:
        ok = put_z(r, "None");
        break;
    case V_BOOL:
        ok = put_z(r, v.b ? "True" : "False");
        break;
    case V_INT:
    case V_FLOAT:
        ok = put_number(r, v);
        break;
    case V_STR:
        ok = (!v.markup || put_z(r, "Markup(")) && put_quoted(r, val_view(v)) &&
             (!v.markup || put_z(r, ")"));
        break;
    case V_LIST:
    case V_TUPLE:
        ok = put_list(r, v);
        break;
    case V_DICT:
        ok = put_dict(r, v.dict);
        break;
    default:
        ok = put_object(r, v);
        break;
    }
    run_leave(r);
    return ok;
}

bool put_val(struct run *r, struct val v)
{
    if (v.kind == V_UNDEF)
        return true;
    return v.kind == V_STR ? run_put(r, val_view(v)) : put_repr(r, v);
}

bool val_text(struct run *r, struct val v, struct val *ret)
{
    size_t mark = r->out.n;
    if (v.kind == V_STR) {
        *ret = v;
        return true;
    }
    return put_val(r, v) && run_take(r, mark, ret);
}

/* ---- JSON ---- */

static bool json_char(struct run *r, uint32_t cp, bool ascii, struct str bytes)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    char text[16];
    const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (known)
        snprintf(text, sizeof text, "\\%c", to[known - from]);
    else if (cp >= 0x20 && (cp < 0x7f || !ascii || cp == 0x7f))
        return run_put(r, bytes);
    else if (cp < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", cp);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
    return put_z(r, text);
}

static bool json_string_put(struct run *r, struct str s, bool ascii)
{
    if (!run_work(r, s.n) || !put_z(r, "\""))
        return false;
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t cp;
        n = utf8_decode(s.p + i, s.n - i, &cp);
        if (!n) {
            n = 1;
            cp = 0xfffd;
        }
        if (!json_char(r, cp, ascii, (struct str){ s.p + i, n }))
            return false;
    }
    return put_z(r, "\"");
}

static bool json_newline(struct run *r, const struct json_style *style, unsigned level)
{
    if (style->indent.kind == V_NONE)
        return true;
    struct str unit = { " ", 1 };
    uint64_t times = level;
    if (style->indent.kind == V_STR)
        unit = val_view(style->indent);
    else
        times *= style->indent.i > 0 ? (uint64_t)style->indent.i : 0;
    if (!put_z(r, "\n"))
        return false;
    for (uint64_t i = 0; i < times; i++)
        if (!run_put(r, unit))
            return false;
    return run_work(r, times / 8);
}

static bool json_value(struct run *r, struct val v, const struct json_style *st, unsigned level);

static bool json_list(struct run *r, struct vlist *l, const struct json_style *st, unsigned level)
{
    if (!l->n)
        return put_z(r, "[]");
    if (!put_z(r, "["))
        return false;
    for (size_t i = 0; i < l->n; i++)
        if ((i && !run_put(r, st->item)) || !json_newline(r, st, level + 1) ||
            !json_value(r, l->v[i], st, level + 1))
            return false;
    return json_newline(r, st, level) && put_z(r, "]");
}

static bool json_key(struct run *r, struct val key, const struct json_style *st)
{
    struct val text = key;
    if (key.kind == V_BOOL)
        text = val_str(key.b ? STR("true") : STR("false"));
    else if (key.kind == V_NONE)
        text = val_str(STR("null"));
    else if (key.kind != V_STR && !val_is_num(key))
        return run_fail(r, ST_ARG, "a JSON key cannot be '%s'", val_type(key));
    return val_text(r, text, &text) && json_string_put(r, val_view(text), st->ascii);
}

static bool json_dict(struct run *r, struct val v, const struct json_style *st, unsigned level)
{
    const struct vdict *d = v.dict;
    if (!d->n)
        return put_z(r, "{}");
    if (!put_z(r, "{"))
        return false;
    for (size_t i = 0; i < d->n; i++)
        if ((i && !run_put(r, st->item)) || !json_newline(r, st, level + 1) ||
            !json_key(r, d->v[i].key, st) || !run_put(r, st->key) ||
            !json_value(r, d->v[i].val, st, level + 1))
            return false;
    return json_newline(r, st, level) && put_z(r, "}");
}

static bool sorted_by_key(struct run *r, const struct vdict *d, struct val *ret)
{
    if (!dict_new(r, ret) || (ret->dict->v = run_alloc(r, d->n * sizeof *d->v)) == NULL)
        return false;
    ret->dict->cap = d->n;
    for (size_t i = 0; i < d->n; i++) {
        size_t at = i;
        for (; at > 0; at--) {
            int c;
            if (!val_cmp(r, ret->dict->v[at - 1].key, d->v[i].key, &c) || !run_work(r, 1))
                return false;
            if (c <= 0)
                break;
            ret->dict->v[at] = ret->dict->v[at - 1];
        }
        ret->dict->v[at] = d->v[i];
        ret->dict->n++;
    }
    return true;
}

static bool json_float(struct run *r, double d)
{
    if (isfinite(d))
        return put_number(r, val_float(d));
    return put_z(r, d != d ? "NaN" : d < 0 ? "-Infinity" : "Infinity");
}

static bool json_value(struct run *r, struct val v, const struct json_style *st, unsigned level)
{
    bool ok = true;
    if (!run_enter(r) || !run_work(r, 1))
        return false;
    switch (v.kind) {
    case V_NONE:
        ok = put_z(r, "null");
        break;
    case V_BOOL:
        ok = put_z(r, v.b ? "true" : "false");
        break;
    case V_INT:
        ok = put_number(r, v);
        break;
    case V_FLOAT:
        ok = json_float(r, v.d);
        break;
    case V_STR:
        ok = json_string_put(r, val_view(v), st->ascii);
        break;
    case V_LIST:
    case V_TUPLE:
        ok = json_list(r, v.list, st, level);
        break;
    case V_DICT:
        ok = (!st->sort || sorted_by_key(r, v.dict, &v)) && json_dict(r, v, st, level);
        break;
    default:
        ok = run_fail(r, ST_ARG, "'%s' is not JSON serializable", val_type(v));
        break;
    }
    run_leave(r);
    return ok;
}

bool put_json(struct run *r, struct val v, const struct json_style *style)
{
    return json_value(r, v, style, 0);
}
