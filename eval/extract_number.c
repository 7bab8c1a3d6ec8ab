/* eval/extract_number.c - number tokens in folded text: signs, groups of thousands, decimals,
 * fractions, mixed numbers, \frac, powers of ten, percent, number words. See extract.h. */
#include "eval/extract_internal.h"

#include <stdlib.h>
#include <strings.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* The byte at i, NUL outside [0, end). */
static char look(const struct folded *t, size_t i, size_t end)
{
    return i < end ? t->p[i] : '\0';
}

static bool has(const struct folded *t, size_t i, size_t end, const char *word)
{
    size_t n = strlen(word);
    return i + n <= end && memcmp(t->p + i, word, n) == 0;
}

bool ratio_make(__int128 num, __int128 den, int64_t *n, int64_t *d)
{
    if (den == 0)
        return false;
    if (den < 0) {
        num = -num;
        den = -den;
    }
    __int128 a = num < 0 ? -num : num, b = den;
    while (b != 0) {
        __int128 r = a % b;
        a = b;
        b = r;
    }
    if (a > 1) {
        num /= a;
        den /= a;
    }
    if (num > INT64_MAX || num < -INT64_MAX || den > INT64_MAX)
        return false;
    *n = (int64_t)num;
    *d = (int64_t)den;
    return true;
}

/* ---- digits ---- */

/* A value while it is read; ok falls when 64 bits do not hold it. */
struct value {
    __int128 num, den;
    bool ok;
};
#define VALUE_MAX ((__int128)1 << 63)

static void push_digit(struct value *v, char c)
{
    v->num = v->num * 10 + (c - '0');
    if (v->num >= VALUE_MAX) {
        v->num = 0;
        v->ok = false;
    }
}

static size_t digits(const struct folded *t, size_t i, size_t end, struct value *v)
{
    while (is_digit(look(t, i, end)))
        push_digit(v, t->p[i++]);
    return i;
}

static size_t count_digits(const struct folded *t, size_t i, size_t end)
{
    size_t n = 0;
    while (is_digit(look(t, i + n, end)))
        n++;
    return n;
}

static bool is_group_mark(char c)
{
    return c == ',' || c == FOLD_THIN || c == '\'' || c == '_';
}

/* A group of three behind the mark at i, which no digit follows. */
static bool group_at(const struct folded *t, size_t i, size_t end, char mark)
{
    return look(t, i, end) == mark && count_digits(t, i + 1, end) == 3;
}

/* "1,00,000": groups of two before the last of three. */
static bool indian_at(const struct folded *t, size_t i, size_t end)
{
    size_t n = 0;
    while (look(t, i, end) == ',' && count_digits(t, i + 1, end) == 2) {
        i += 3;
        n++;
    }
    return n > 0 && group_at(t, i, end, ',');
}

/* Whole number with its groups; i at a digit. */
static size_t whole(const struct folded *t, size_t i, size_t end, struct value *v)
{
    size_t lead = count_digits(t, i, end);
    i = digits(t, i, end, v);
    char mark = look(t, i, end);
    if (lead > 3 || !is_group_mark(mark))
        return i;
    if (mark == ',' && lead <= 2 && indian_at(t, i, end))
        while (look(t, i, end) == ',' && is_digit(look(t, i + 1, end)))
            i = digits(t, i + 1, end, v);
    while (group_at(t, i, end, mark))
        i = digits(t, i + 1, end, v);
    return i;
}

/* ".5" behind a whole number or alone. */
static size_t decimals(const struct folded *t, size_t i, size_t end, struct value *v)
{
    if (look(t, i, end) != '.' || !is_digit(look(t, i + 1, end)))
        return i;
    for (i++; is_digit(look(t, i, end)); i++) {
        if (v->den > VALUE_MAX / 100) { /* beyond what is held: zeros change nothing */
            v->ok &= t->p[i] == '0';
            continue;
        }
        push_digit(v, t->p[i]);
        v->den *= 10;
    }
    return i;
}

/* ---- what may follow ---- */

static size_t blanks(const struct folded *t, size_t i, size_t end)
{
    while (look(t, i, end) == ' ' || look(t, i, end) == FOLD_THIN)
        i++;
    return i;
}

static void scale10(struct value *v, int e)
{
    for (; e > 0 && v->ok; e--) {
        v->num *= 10;
        v->ok = v->num < VALUE_MAX;
    }
    for (; e < 0 && v->ok; e++) {
        v->den *= 10;
        v->ok = v->den < VALUE_MAX;
    }
    if (!v->ok)
        *v = (struct value){ 0, 1, false };
}

/* A signed exponent of at most two digits, in braces or not; false: none. */
static bool exponent(const struct folded *t, size_t *i, size_t end, int *e)
{
    size_t j = *i;
    bool brace = look(t, j, end) == '{';
    j += brace;
    bool minus = look(t, j, end) == '-';
    j += minus || look(t, j, end) == '+';
    size_t n = count_digits(t, j, end);
    if (n == 0 || n > 2)
        return false;
    *e = 0;
    for (size_t k = 0; k < n; k++)
        *e = *e * 10 + (t->p[j + k] - '0');
    *e = minus ? -*e : *e;
    j += n;
    if (brace && look(t, j++, end) != '}')
        return false;
    *i = j;
    return true;
}

/* 1.5e3, 1.5 x 10^3, 1.5 \times 10^{3}, 10^3. */
static size_t powers(const struct folded *t, size_t i, size_t end, struct value *v)
{
    int e;
    size_t j = i;
    if (look(t, j, end) == 'e' || look(t, j, end) == 'E') {
        j++;
        if (look(t, j, end) != '{' && exponent(t, &j, end, &e) && !is_letter(look(t, j, end))) {
            scale10(v, e);
            return j;
        }
        return i;
    }
    j = i + 1;
    if (look(t, i, end) == '^' && v->num == 10 && v->den == 1 && exponent(t, &j, end, &e)) {
        scale10(v, e - 1);
        return j;
    }
    j = blanks(t, i, end);
    if (has(t, j, end, "\\times"))
        j += 6;
    else if (look(t, j, end) == '*' || look(t, j, end) == 'x')
        j++;
    else
        return i;
    j = blanks(t, j, end);
    if (!has(t, j, end, "10^"))
        return i;
    j += 3;
    if (!exponent(t, &j, end, &e))
        return i;
    scale10(v, e);
    return j;
}

/* "/4" behind a whole number: the denominator. Dates (3/4/2024) are none: *bad. */
static size_t over(const struct folded *t, size_t i, size_t end, struct value *v, bool *bad)
{
    struct value d = { 0, 1, true };
    if (look(t, i, end) != '/' || !is_digit(look(t, i + 1, end)) || v->den != 1)
        return i;
    size_t j = digits(t, i + 1, end, &d);
    if (look(t, j, end) == '/' && is_digit(look(t, j + 1, end))) {
        *bad = true;
        return j;
    }
    if (!d.ok || d.num == 0 || (look(t, j, end) == '.' && is_digit(look(t, j + 1, end))))
        return i;
    v->den = d.num;
    return j;
}

/* \frac{3}{4}, \dfrac, \tfrac, \frac34; i at the backslash. 0: none. */
static size_t frac(const struct folded *t, size_t i, size_t end, struct value *v)
{
    static const char *const names[] = { "\\frac", "\\dfrac", "\\tfrac" };
    struct value part[2] = { { 0, 1, true }, { 0, 1, true } };
    bool minus = false;
    size_t j = 0;
    for (size_t k = 0; k < 3 && !j; k++)
        if (has(t, i, end, names[k]))
            j = i + strlen(names[k]);
    for (int k = 0; j && k < 2; k++) {
        bool brace = look(t, j, end) == '{';
        j += brace;
        if (brace && look(t, j, end) == '-') {
            minus = !minus;
            j++;
        }
        if (!is_digit(look(t, j, end)))
            return 0;
        if (brace) {
            j = whole(t, j, end, &part[k]);
            if (look(t, j++, end) != '}')
                return 0;
        } else {
            push_digit(&part[k], t->p[j++]);
        }
    }
    if (!j || part[1].num == 0)
        return 0;
    *v =
        (struct value){ minus ? -part[0].num : part[0].num, part[1].num, part[0].ok && part[1].ok };
    return j;
}

/* "1 1/2", "2\frac{1}{2}": a proper fraction behind a whole number. */
static size_t mixed(const struct folded *t, size_t i, size_t end, struct value *v)
{
    struct value f = { 0, 1, true };
    size_t j = blanks(t, i, end), k;
    bool bad = false;
    if (v->den != 1 || !v->ok)
        return i;
    if (look(t, j, end) == '\\') {
        k = frac(t, j, end, &f);
    } else {
        if (j == i || j > i + 1 || !is_digit(look(t, j, end)))
            return i;
        size_t after = digits(t, j, end, &f);
        k = over(t, after, end, &f, &bad);
        k = k == after ? 0 : k;
    }
    if (k == 0 || bad || !f.ok || f.num < 0 || f.num >= f.den || f.den > 1000000)
        return i;
    v->num = v->num * f.den + f.num;
    v->den = f.den;
    v->ok = v->num < VALUE_MAX;
    return k;
}

static size_t percent(const struct folded *t, size_t i, size_t end, bool *is)
{
    size_t j = blanks(t, i, end);
    *is = false;
    if (look(t, j, end) == '\\')
        j++;
    if (look(t, j, end) == '%') {
        *is = true;
        return j + 1;
    }
    j = blanks(t, i, end);
    if (j > i && j + 7 <= end && strncasecmp(t->p + j, "percent", 7) == 0) {
        *is = true;
        return j + 7;
    }
    return i;
}

/* 1st, 2nd, 3rd, 4th. */
static bool ordinal(const struct folded *t, size_t i, size_t end)
{
    return (has(t, i, end, "st") || has(t, i, end, "nd") || has(t, i, end, "rd") ||
            has(t, i, end, "th")) &&
           !is_letter(look(t, i + 2, end));
}

/* ---- words ---- */

struct word {
    const char *text;
    int value;
};
static const struct word units[] = {
    { "seventeen", 17 }, { "thirteen", 13 }, { "fourteen", 14 }, { "eighteen", 18 },
    { "nineteen", 19 },  { "fifteen", 15 },  { "sixteen", 16 },  { "eleven", 11 },
    { "twelve", 12 },    { "three", 3 },     { "seven", 7 },     { "eight", 8 },
    { "zero", 0 },       { "four", 4 },      { "five", 5 },      { "nine", 9 },
    { "one", 1 },        { "two", 2 },       { "six", 6 },       { "ten", 10 },
};
static const struct word tens[] = { { "seventy", 70 }, { "twenty", 20 }, { "thirty", 30 },
                                    { "eighty", 80 },  { "ninety", 90 }, { "forty", 40 },
                                    { "fifty", 50 },   { "sixty", 60 } };

/* A whole word of the list at i; 0: none. */
static size_t word_at(const struct folded *t, size_t i, size_t end, const struct word *w, size_t n,
                      int *value)
{
    for (size_t k = 0; k < n; k++) {
        size_t len = strlen(w[k].text);
        if (i + len <= end && strncasecmp(t->p + i, w[k].text, len) == 0 &&
            !is_letter(look(t, i + len, end))) {
            *value = w[k].value;
            return i + len;
        }
    }
    return 0;
}

static size_t joint(const struct folded *t, size_t i, size_t end)
{
    size_t j = i;
    while (look(t, j, end) == ' ' || look(t, j, end) == '-')
        j++;
    return j;
}

/* 1..99 (and zero). 0: none. */
static size_t below_hundred(const struct folded *t, size_t i, size_t end, int *value)
{
    int unit, ten;
    size_t j = word_at(t, i, end, tens, sizeof tens / sizeof tens[0], &ten);
    if (!j)
        return word_at(t, i, end, units, sizeof units / sizeof units[0], value);
    *value = ten;
    size_t k = word_at(t, joint(t, j, end), end, units, sizeof units / sizeof units[0], &unit);
    if (k && unit >= 1 && unit <= 9) {
        *value += unit;
        return k;
    }
    return j;
}

static size_t skip_and(const struct folded *t, size_t i, size_t end)
{
    size_t j = joint(t, i, end);
    return j + 4 <= end && strncasecmp(t->p + j, "and ", 4) == 0 ? joint(t, j + 4, end) : j;
}

static size_t below_thousand(const struct folded *t, size_t i, size_t end, int *value)
{
    static const struct word hundred[] = { { "hundred", 100 } };
    int more, ignored;
    size_t j = below_hundred(t, i, end, value), k;
    if (!j || *value == 0 || !(k = word_at(t, joint(t, j, end), end, hundred, 1, &ignored)))
        return j;
    *value *= 100;
    j = below_hundred(t, skip_and(t, k, end), end, &more);
    if (j && more > 0) {
        *value += more;
        return j;
    }
    return k;
}

static size_t number_words(const struct folded *t, size_t i, size_t end, struct value *v)
{
    static const struct word thousand[] = { { "thousand", 1000 } };
    int value, more, ignored;
    if (i > 0 && (is_letter(t->p[i - 1]) || is_digit(t->p[i - 1])))
        return 0;
    size_t j = below_thousand(t, i, end, &value), k;
    if (!j)
        return 0;
    /* "one of them", "one less than": no number. */
    size_t after = blanks(t, j, end);
    if (value == 1 && (has(t, after, end, "of ") || has(t, after, end, "less ") ||
                       has(t, after, end, "more ") || has(t, after, end, "by ")))
        return 0;
    if (value > 0 && (k = word_at(t, joint(t, j, end), end, thousand, 1, &ignored))) {
        value *= 1000;
        j = below_thousand(t, skip_and(t, k, end), end, &more);
        if (j && more > 0)
            value += more;
        else
            j = k;
    }
    *v = (struct value){ value, 1, true };
    return j;
}

/* ---- tokens ---- */

/* May a sign stand at i? Not behind a digit, a letter or a closing bracket: 5-3, x-3, )-3. */
static bool sign_here(const struct folded *t, size_t i)
{
    char c = i > 0 ? t->p[i - 1] : ' ';
    return !is_digit(c) && !is_letter(c) && !strchr(")]}%", c);
}

/* Currency between sign and digits, or in front. */
static size_t currency(const struct folded *t, size_t i, size_t end)
{
    static const char *const marks[] = { "$",           "\xe2\x82\xac", "\xc2\xa3",
                                         "\xc2\xa5",    "\xe2\x82\xba", "\xe2\x82\xb9",
                                         "\xe2\x82\xa3" };
    for (size_t k = 0; k < sizeof marks / sizeof marks[0]; k++)
        if (has(t, i, end, marks[k]))
            return i + strlen(marks[k]);
    return i;
}

/* The digits' part, i behind sign and currency. 0: none. */
static size_t unsigned_at(const struct folded *t, size_t i, size_t end, struct value *v)
{
    bool bad = false;
    *v = (struct value){ 0, 1, true };
    if (look(t, i, end) == '\\')
        return frac(t, i, end, v);
    bool dot = look(t, i, end) == '.' && is_digit(look(t, i + 1, end));
    if (!dot && !is_digit(look(t, i, end)))
        return 0;
    size_t j = dot ? i : whole(t, i, end, v), k;
    j = decimals(t, j, end, v);
    if (look(t, j, end) == '.' && is_digit(look(t, j + 1, end)) && v->den > 1)
        return 0; /* 1.2.3 is no number */
    if ((k = over(t, j, end, v, &bad)) != j)
        return bad ? 0 : k;
    if ((k = powers(t, j, end, v)) != j)
        return k;
    if (ordinal(t, j, end))
        return 0;
    return mixed(t, j, end, v);
}

static size_t minus_word(const struct folded *t, size_t i, size_t end)
{
    static const char *const words[] = { "negative ", "minus " };
    for (size_t k = 0; k < 2; k++) {
        size_t n = strlen(words[k]);
        if (i + n <= end && strncasecmp(t->p + i, words[k], n) == 0 &&
            (i == 0 || !is_letter(t->p[i - 1])))
            return i + n;
    }
    return i;
}

bool token_at(const struct folded *t, size_t i, size_t end, bool words, struct token *ret)
{
    struct value v;
    size_t j = i, k;
    bool minus = false;
    char before = i > 0 ? t->p[i - 1] : ' ';
    if (words && (j = minus_word(t, i, end)) != i) {
        minus = true;
    } else if ((look(t, i, end) == '-' || look(t, i, end) == '+') && sign_here(t, i)) {
        minus = t->p[i] == '-';
        j = i + 1;
    } else if (is_digit(before) || is_letter(before) ||
               (before == '.' && i > 1 && is_digit(t->p[i - 2]))) {
        return false; /* the middle of something */
    }
    j = currency(t, j, end);
    if (j != i && !minus && look(t, j, end) == '-' && is_digit(look(t, j + 1, end))) { /* $-5 */
        minus = true;
        j++;
    }
    k = unsigned_at(t, j, end, &v);
    if (!k && words)
        k = number_words(t, j, end, &v);
    if (!k)
        return false;
    *ret = (struct token){ .begin = i };
    ret->end = percent(t, k, end, &ret->percent);
    ret->is_number = v.ok && ratio_make(minus ? -v.num : v.num, v.den, &ret->num, &ret->den);
    return true;
}

/* Over the digits of what is no number (a date, a version), so that its rest is none either. */
static size_t skip_odd(const struct folded *t, size_t i, size_t end)
{
    while (is_digit(look(t, i, end)) ||
           ((look(t, i, end) == '.' || look(t, i, end) == '/') && is_digit(look(t, i + 1, end))))
        i++;
    return i;
}

/* The next token at or behind *i, which moves behind it. */
static bool token_next(const struct folded *t, size_t *i, size_t end, bool words, struct token *ret)
{
    while (*i < end) {
        if (token_at(t, *i, end, words, ret)) {
            *i = ret->end;
            return true;
        }
        size_t odd = skip_odd(t, *i, end);
        *i = odd > *i ? odd : *i + 1;
    }
    return false;
}

bool token_first(const struct folded *t, size_t from, size_t end, bool words, struct token *ret)
{
    return token_next(t, &from, end, words, ret);
}

bool token_last(const struct folded *t, size_t from, size_t end, bool words, struct token *ret)
{
    bool any = false;
    struct token k;
    while (token_next(t, &from, end, words, &k)) {
        *ret = k;
        any = true;
    }
    return any;
}
