/* engine/base/utf8.c - see utf8.h. */
#include "engine/base/utf8.h"

/* Length that the first byte announces, 0: not a first byte. */
static size_t lead_len(unsigned char c)
{
    if (c < 0x80)
        return 1;
    if (c >= 0xC2 && c <= 0xDF)
        return 2;
    if (c >= 0xE0 && c <= 0xEF)
        return 3;
    if (c >= 0xF0 && c <= 0xF4)
        return 4;
    return 0;
}

size_t utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *b = (const unsigned char *)s;
    size_t len = lead_len(b[0]);
    if (len == 0 || len > n)
        return 0;
    if (len == 1) {
        *cp = b[0];
        return 1;
    }
    uint32_t v = b[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((b[i] & 0xC0) != 0x80)
            return 0;
        v = v << 6 | (b[i] & 0x3Fu);
    }
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (v < least[len] || v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF))
        return 0;
    *cp = v;
    return len;
}

size_t utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (cp & 0x3F));
        cp >>= 6;
    }
    out[0] = (char)((0xF00u >> len) | cp);
    return len;
}

bool utf8_valid(struct str s)
{
    uint32_t cp;
    for (size_t i = 0, len; i < s.n; i += len) {
        len = utf8_decode(s.p + i, s.n - i, &cp);
        if (len == 0)
            return false;
    }
    return true;
}

void utf8_repair(struct str s, struct buf *out)
{
    uint32_t cp;
    size_t start = 0, i = 0;
    while (i < s.n) {
        size_t len = utf8_decode(s.p + i, s.n - i, &cp);
        if (len) {
            i += len;
            continue;
        }
        buf_put(out, s.p + start, i - start);
        buf_put(out, "\xEF\xBF\xBD", 3);
        start = ++i;
    }
    buf_put(out, s.p + start, s.n - start);
}

size_t utf8_partial_tail(struct str s)
{
    for (size_t back = 1; back <= 3 && back <= s.n; back++) {
        unsigned char c = (unsigned char)s.p[s.n - back];
        if ((c & 0xC0) == 0x80)
            continue;
        return lead_len(c) > back ? back : 0;
    }
    return 0;
}
