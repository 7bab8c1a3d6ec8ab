/* engine/train/corpus_score.c - reading answers: the number behind "####", the equations. */
#include "engine/train/corpus_internal.h"

#include <ctype.h>
#include <math.h>

/* More digits than any number of ours; a longer run of them is no answer. */
enum { DIGITS_MAX = 15 };

static size_t skip_blanks(struct str s, size_t at)
{
    while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t'))
        at++;
    return at;
}

static bool digit_at(struct str s, size_t at)
{
    return at < s.n && isdigit((unsigned char)s.p[at]);
}

/* Reads digits with commas between them from *at on. */
static bool read_number(struct str s, size_t *at, int64_t *ret)
{
    int64_t v = 0;
    uint32_t n = 0;
    size_t i = *at;
    for (; digit_at(s, i) || (n && i < s.n && s.p[i] == ',' && digit_at(s, i + 1)); i++) {
        if (s.p[i] == ',')
            continue;
        v = v * 10 + (s.p[i] - '0');
        if (++n > DIGITS_MAX)
            return false;
    }
    if (n == 0)
        return false;
    *at = i;
    *ret = v;
    return true;
}

bool corpus_gold(struct str response, int64_t *ret)
{
    size_t mark = SIZE_MAX;
    for (size_t at = str_find(response, STR("####"), 0); at != SIZE_MAX;
         at = str_find(response, STR("####"), at + 1))
        mark = at;
    if (mark == SIZE_MAX)
        return false;
    size_t at = skip_blanks(response, mark + 4);
    bool minus = at < response.n && response.p[at] == '-';
    int64_t v;
    at += minus;
    if (!read_number(response, &at, &v))
        return false;
    *ret = minus ? -v : v;
    return true;
}

static bool holds(char op, int64_t a, int64_t b, int64_t c)
{
    switch (op) {
    case '+':
        return a + b == c;
    case '-':
        return a - b == c;
    case 'x':
        return a * b == c;
    case '/':
        return b != 0 && a % b == 0 && a / b == c;
    default:
        return false;
    }
}

/* The operands left of the "=" at `eq`: "a op b ". */
static bool read_left(struct str s, size_t eq, int64_t *a, char *op, int64_t *b)
{
    size_t from = eq;
    while (from && (isdigit((unsigned char)s.p[from - 1]) || strchr(" +-x/", s.p[from - 1])))
        from--;
    size_t at = skip_blanks(s, from);
    if (!read_number(s, &at, a))
        return false;
    at = skip_blanks(s, at);
    if (at >= eq)
        return false;
    *op = s.p[at];
    at = skip_blanks(s, at + 1);
    return read_number(s, &at, b) && skip_blanks(s, at) == eq;
}

bool corpus_check(struct str answer, uint32_t n, int64_t gold)
{
    int64_t a, b, c = 0, said;
    uint32_t found = 0;
    char op;
    for (size_t eq = str_find(answer, STR("="), 0); eq != SIZE_MAX;
         eq = str_find(answer, STR("="), eq + 1)) {
        size_t at = skip_blanks(answer, eq + 1);
        if (!read_left(answer, eq, &a, &op, &b) || !read_number(answer, &at, &c) ||
            !holds(op, a, b, c))
            return false;
        found++;
    }
    return found == n && c == gold && corpus_gold(answer, &said) && said == gold;
}

void corpus_wilson(uint64_t k, uint64_t n, double *low, double *high)
{
    const double z = 1.959963984540054; /* 97.5 % point of the normal distribution */
    if (n == 0) {
        *low = 0;
        *high = 1;
        return;
    }
    double m = (double)n, p = (double)k / m, zz = z * z / m;
    double middle = (p + zz / 2) / (1 + zz);
    double half = z * sqrt(p * (1 - p) / m + zz / (4 * m)) / (1 + zz);
    *low = k == 0 ? 0 : middle - half;
    *high = k == n ? 1 : middle + half;
}
