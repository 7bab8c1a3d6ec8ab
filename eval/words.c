/* eval/words.c - see words.h. */
#include "eval/words.h"

static const char *const small[] = { "zero",    "one",     "two",       "three",    "four",
                                     "five",    "six",     "seven",     "eight",    "nine",
                                     "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                     "fifteen", "sixteen", "seventeen", "eighteen", "nineteen" };
static const char *const tens[] = { "",      "",      "twenty",  "thirty", "forty",
                                    "fifty", "sixty", "seventy", "eighty", "ninety" };
static const char *const parts[] = {
    "",           "",          "half",      "third",       "fourth",     "fifth",      "sixth",
    "seventh",    "eighth",    "ninth",     "tenth",       "eleventh",   "twelfth",    "thirteenth",
    "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth"
};
struct worded {
    const char *word;
    struct rational r;
};
static const struct worded others[] = {
    { "quarter", { 1, 4 } },  { "dozen", { 12, 1 } },    { "once", { 1, 1 } },
    { "twice", { 2, 1 } },    { "thrice", { 3, 1 } },    { "double", { 2, 1 } },
    { "triple", { 3, 1 } },   { "quadruple", { 4, 1 } }, { "quintuple", { 5, 1 } },
    { "sextuple", { 6, 1 } }, { "halves", { 1, 2 } },    { "half", { 1, 2 } },
};

void words_number(int64_t n, char join, struct buf *out)
{
    if (n < 0 || n > 999999) {
        buf_printf(out, "%lld", (long long)n);
        return;
    }
    if (n >= 1000) {
        words_number(n / 1000, join, out);
        buf_z(out, " thousand");
        n %= 1000;
        if (n == 0)
            return;
        buf_char(out, ' ');
    }
    if (n >= 100) {
        buf_printf(out, "%s hundred", small[n / 100]);
        n %= 100;
        if (n == 0)
            return;
        buf_char(out, ' ');
    }
    if (n < 20) {
        buf_z(out, small[n]);
        return;
    }
    buf_z(out, tens[n / 10]);
    if (n % 10)
        buf_printf(out, "%c%s", join, small[n % 10]);
}

bool words_fraction(struct rational r, struct buf *out)
{
    if (r.n < 1 || r.d < 2 || r.d > 20 || r.n > 19)
        return false;
    const char *part = r.d == 4 ? "quarter" : parts[r.d];
    buf_printf(out, "%s-%s%s", small[r.n], r.d == 2 && r.n > 1 ? "halve" : part,
               r.n > 1 ? "s" : "");
    return true;
}

size_t words_currency(struct str s)
{
    static const char *const sign[] = {
        "$",           "\xE2\x82\xAC", "\xC2\xA5",     "\xE2\x82\xBA", "\xE2\x82\xA3",
        "\xC2\xA3",    "\xE2\x82\xA4", "\xE2\x82\xB9", "\xE2\x82\xBF", "\xE2\x82\xA9",
        "\xE2\x82\xBD"
    };
    for (size_t i = 0; i < sizeof sign / sizeof sign[0]; i++)
        if (str_starts(s, str_c(sign[i])))
            return strlen(sign[i]);
    return 0;
}

enum { WORD_MAX = 24 };
struct words {
    char w[12][WORD_MAX];
    size_t n;
};

/* Lower-cased words of letters, cut at blanks and hyphens. */
static bool split(struct str s, struct words *ws)
{
    size_t n = 0, len = 0;
    for (size_t i = 0; i <= s.n; i++) {
        char c = i < s.n ? s.p[i] : ' ';
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 32);
        if (c >= 'a' && c <= 'z') {
            if (n == 12 || len + 1 >= WORD_MAX)
                return false;
            ws->w[n][len++] = c;
        } else if (c == ' ' || c == '-') {
            if (len)
                ws->w[n++][len] = '\0';
            len = 0;
        } else {
            return false;
        }
    }
    ws->n = n;
    return n > 0;
}

static int index_in(const char *w, const char *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i][0] && strcmp(list[i], w) == 0)
            return i;
    return -1;
}

/* Whole number words from *at on; how many words were used. */
static size_t whole(const struct words *ws, size_t at, int64_t *ret)
{
    int64_t total = 0, group = 0;
    size_t i = at;
    for (; i < ws->n; i++) {
        const char *w = ws->w[i];
        int s = index_in(w, small, 20), t = index_in(w, tens, 10);
        if (s >= 0 || t >= 0)
            group += s >= 0 ? s : 10 * t;
        else if (strcmp(w, "hundred") == 0 && i > at)
            group *= 100;
        else if (strcmp(w, "thousand") == 0 && i > at) {
            total += group * 1000;
            group = 0;
        } else if (!(strcmp(w, "and") == 0 && i > at && i + 1 < ws->n))
            break;
        if (group > 999999)
            return 0;
    }
    *ret = total + group;
    return i - at;
}

/* "third", "thirds", "quarters": 1/n. */
static bool part_of(const char *w, struct rational *ret)
{
    char one[WORD_MAX];
    size_t n = strlen(w);
    memcpy(one, w, n + 1);
    int i = index_in(one, parts, 21);
    if (i < 0 && n > 1 && one[n - 1] == 's') {
        one[n - 1] = '\0';
        i = index_in(one, parts, 21);
    }
    if (i > 1) {
        *ret = (struct rational){ 1, i };
        return true;
    }
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++)
        if (strcmp(one, others[k].word) == 0 || strcmp(w, others[k].word) == 0) {
            *ret = others[k].r;
            return true;
        }
    return false;
}

static bool from_words(const struct words *ws, struct rational *ret)
{
    int64_t n = 1;
    struct rational part;
    size_t used = whole(ws, 0, &n);
    n = used ? n : 1;
    if (used == 0 && (strcmp(ws->w[0], "a") == 0 || strcmp(ws->w[0], "an") == 0))
        used = 1;
    if (used == ws->n && used > 0) {
        *ret = rat_int(n);
        return strcmp(ws->w[0], "a") != 0 && strcmp(ws->w[0], "an") != 0;
    }
    if (used + 1 != ws->n)
        return false;
    if (used && strcmp(ws->w[used], "times") == 0) {
        *ret = rat_int(n);
        return true;
    }
    return part_of(ws->w[used], &part) && rat_mul(rat_int(n), part, ret);
}

/* "13 1/2" */
static bool mixed(struct str s, struct rational *ret)
{
    size_t cut = str_find(s, STR(" "), 0);
    struct rational a, b;
    if (cut == SIZE_MAX || !memchr(s.p + cut, '/', s.n - cut))
        return false;
    return rat_parse((struct str){ s.p, cut }, &a) && a.d == 1 && a.n >= 0 &&
           rat_parse((struct str){ s.p + cut + 1, s.n - cut - 1 }, &b) && rat_add(a, b, ret);
}

bool words_parse(struct str s, struct rational *ret)
{
    struct words ws;
    s = str_trim(s);
    size_t sign = words_currency(s);
    struct str bare = { s.p + sign, s.n - sign };
    if (bare.n && bare.p[bare.n - 1] == '%')
        bare.n--;
    if (rat_parse(bare, ret) || mixed(bare, ret))
        return true;
    static const char times[] = " times";
    if (str_ends(bare, STR(times)) &&
        rat_parse((struct str){ bare.p, bare.n - (sizeof times - 1) }, ret))
        return true;
    return split(bare, &ws) && from_words(&ws, ret);
}
