/* eval/steps.c - see steps.h. The left side is the longest run of numbers, operators, brackets and
 * currency signs before the '='; one that begins with no number is left alone, since a word before
 * it belongs to the calculation ("5 apples + 3 = 8"). */
#include "eval/steps.h"

#include "eval/expr.h"
#include "eval/words.h"

enum { SIDE_MAX = 200 };

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes of a sign of multiplication or division that ends at s.p[end], 0: none; *ascii: its twin.
 */
static size_t other_sign(struct str s, size_t end, char *ascii)
{
    static const struct {
        const char *sign;
        char ascii;
    } table[] = { { "\xC3\x97", '*' }, { "\xC3\xB7", '/' }, { "\xE2\x88\x92", '-' } };
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(table[i].sign);
        if (end >= n && memcmp(s.p + end - n, table[i].sign, n) == 0) {
            *ascii = table[i].ascii;
            return n;
        }
    }
    if (end >= 3 && (s.p[end - 1] == 'x' || s.p[end - 1] == 'X') && s.p[end - 2] == ' ' &&
        end < s.n && (s.p[end] == ' ' || digit(s.p[end]))) {
        *ascii = '*';
        return 1;
    }
    return 0;
}

static size_t currency_before(struct str s, size_t end)
{
    for (size_t n = 1; n <= 3 && n <= end; n++)
        if (words_currency((struct str){ s.p + end - n, n }) == n)
            return n;
    return 0;
}

/* The left side of the '=' at `at`, cleaned, back to front into out; where it begins. */
static size_t left_side(struct str s, size_t at, char out[SIDE_MAX + 1], size_t *n)
{
    size_t i = at;
    char side[SIDE_MAX];
    size_t k = SIDE_MAX;
    while (i > 0 && k > 0) {
        char c = s.p[i - 1], ascii;
        size_t sign = currency_before(s, i), other = other_sign(s, i, &ascii);
        if (digit(c) || strchr("+-*/(). ", c)) {
            side[--k] = c;
            i--;
        } else if (c == ',' && i < s.n && digit(s.p[i]) && i > 1 && digit(s.p[i - 2])) {
            i--;
        } else if (sign) {
            i -= sign;
        } else if (other) {
            side[--k] = ascii;
            i -= other;
        } else {
            break;
        }
    }
    *n = SIDE_MAX - k;
    memcpy(out, side + k, *n);
    out[*n] = '\0';
    return i;
}

static size_t number_after(struct str s, size_t at, struct rational *ret)
{
    while (at < s.n && s.p[at] == ' ')
        at++;
    at += words_currency((struct str){ s.p + at, s.n - at });
    size_t end = at + (at < s.n && s.p[at] == '-');
    while (end < s.n &&
           (digit(s.p[end]) || ((s.p[end] == '.' || s.p[end] == ',' || s.p[end] == '/') &&
                                end + 1 < s.n && digit(s.p[end + 1]))))
        end++;
    return rat_parse((struct str){ s.p + at, end - at }, ret) ? end : 0;
}

static bool evaluate(struct str side, struct rational *ret)
{
    struct mem mem = { .cap = 1 << 18 };
    struct err err = ERR_INIT;
    struct expr_scope none = { NULL };
    struct expr_run run = { .mem = &mem };
    const struct node *n;
    struct value v;
    bool ok = expr_parse(side, &none, &mem, &n, &err) == ST_OK && expr_eval(n, &run, &v) &&
              v.kind == VALUE_NUM && n->op != EXPR_CONST;
    if (ok)
        *ret = v.r;
    mem_clear(&mem);
    return ok;
}

bool steps_next(struct str s, size_t *at, struct step_check *ret)
{
    for (size_t eq = *at; (eq = str_find(s, STR("="), eq)) != SIZE_MAX; eq++) {
        char side[SIDE_MAX + 1];
        size_t n, begin = left_side(s, eq, side, &n), end;
        struct str left = str_trim((struct str){ side, n });
        while (left.n && (left.p[0] == '.' || left.p[0] == ' ')) /* the full stop before it */
            left = (struct str){ left.p + 1, left.n - 1 };
        struct step_check c = { .begin = begin };
        /* A word or % before an operator belongs to the calculation. */
        if (left.n == 0 || (!digit(left.p[0]) && left.p[0] != '(') || !evaluate(left, &c.want) ||
            !(end = number_after(s, eq + 1, &c.said)))
            continue;
        c.end = end;
        c.right = rat_eq(c.want, c.said);
        *at = eq + 1;
        *ret = c;
        return true;
    }
    *at = s.n;
    return false;
}
