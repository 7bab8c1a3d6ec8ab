/* eval/score.c - see score.h. The classes are tried in the order of the enum's comment: what the
 * token limit cut is not called a refusal, a trap is not called a slip. */
#include "eval/score.h"

#include "engine/base/json.h"
#include "eval/rational.h"

#include <strings.h>

/* ---- steps of arithmetic ---- */

struct scan {
    const char *p;
    size_t n, i;
};

static void blanks(struct scan *s)
{
    while (s->i < s->n && (s->p[s->i] == ' ' || s->p[s->i] == '$' || s->p[s->i] == '\\'))
        s->i++;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A plain number: digits with groups and decimals, a percent sign ends it as none. */
static bool number(struct scan *s, struct rational *ret)
{
    size_t from = s->i;
    if (s->i < s->n && s->p[s->i] == '-')
        s->i++;
    while (s->i < s->n && (is_digit(s->p[s->i]) ||
                           ((s->p[s->i] == ',' || s->p[s->i] == '.') && s->i + 1 < s->n &&
                            is_digit(s->p[s->i + 1]) && s->i > from && is_digit(s->p[s->i - 1]))))
        s->i++;
    return s->i > from && s->i - from < 40 && is_digit(s->p[s->i - 1]) &&
           (s->i >= s->n || s->p[s->i] != '%') &&
           rat_parse((struct str){ s->p + from, s->i - from }, ret);
}

/* '+', '-', '*', '/' or 0; i moves behind it. */
static char operation(struct scan *s)
{
    static const struct {
        const char *text;
        char op;
    } ops[] = { { "+", '+' },        { "-", '-' },        { "\xe2\x88\x92", '-' }, { "*", '*' },
                { "\xc3\x97", '*' }, { "times", '*' },    { "x ", '*' },           { "cdot", '*' },
                { "/", '/' },        { "\xc3\xb7", '/' }, { "div", '/' } };
    for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
        size_t n = strlen(ops[k].text);
        if (s->i + n <= s->n && memcmp(s->p + s->i, ops[k].text, n) == 0) {
            s->i += n;
            return ops[k].op;
        }
    }
    return 0;
}

static bool apply(char op, struct rational a, struct rational b, struct rational *ret)
{
    switch (op) {
    case '+':
        return rat_add(a, b, ret);
    case '-':
        return rat_sub(a, b, ret);
    case '*':
        return rat_mul(a, b, ret);
    default:
        return rat_div(a, b, ret);
    }
}

/* Does c say what `exact` is, as far as its decimals go? */
static bool says(struct rational exact, struct rational c)
{
    struct rational r;
    if (rat_eq(exact, c))
        return true;
    for (int decimals = 0; decimals <= 4; decimals++)
        if (rat_round(exact, decimals, &r) && rat_eq(r, c))
            return c.d > 1 || exact.d > 1; /* rounded on purpose */
    return false;
}

/* "a op b = c" at s->i. 0: none, 1: true, -1: false. */
static int step_at(struct scan *s)
{
    struct rational a, b, c, exact;
    char op;
    if (!number(s, &a))
        return 0;
    blanks(s);
    if (!(op = operation(s)))
        return 0;
    blanks(s);
    if (!number(s, &b))
        return 0;
    blanks(s);
    if (s->i >= s->n || s->p[s->i] != '=')
        return 0;
    s->i++;
    blanks(s);
    if (!number(s, &c))
        return 0;
    if (!apply(op, a, b, &exact))
        return 0;
    return says(exact, c) ? 1 : -1;
}

/* Part of a longer expression ("1 + 2 * 3 = 7", "5) * 2 = 10"): what stands before decides. */
static bool continues(struct str t, size_t i)
{
    while (i > 0 && (t.p[i - 1] == ' ' || t.p[i - 1] == '$'))
        i--;
    if (i == 0)
        return false;
    char c = t.p[i - 1];
    return is_digit(c) || strchr("+-*/(x)^.,%", c) != NULL || (unsigned char)c >= 0x80;
}

void score_steps(struct str text, struct step_check *ret)
{
    *ret = (struct step_check){ 0 };
    for (size_t i = 0; i < text.n;) {
        struct scan s = { text.p, text.n, i };
        bool starts = is_digit(text.p[i]) && (i == 0 || !is_digit(text.p[i - 1]));
        int r = starts && !continues(text, i) ? step_at(&s) : 0;
        if (r != 0) {
            ret->n++;
            if (r < 0 && ret->n_false++ == 0) {
                ret->begin = (uint32_t)i;
                ret->end = (uint32_t)s.i;
            }
            i = s.i;
            continue;
        }
        i++;
    }
}

/* ---- classes ---- */

static bool equals(const struct extract_hit *h, struct rational v)
{
    return h->is_number && h->num == v.n && h->den == v.d;
}

/* Index of the trap that was hit, -1: none. Elements are "a/b" texts or objects with "value". */
static int64_t trap_of(const json_t *info, const struct extract_hit *h)
{
    const json_t *list = json_object_get(info, "traps");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "value") : v);
        struct rational r;
        if (text && rat_parse(str_c(text), &r) && equals(h, r))
            return (int64_t)i;
    }
    return -1;
}

/* Is it an intermediate result of the reference solution: a number behind "="? */
static bool is_step(const json_t *info, const struct extract_hit *h)
{
    const char *text = json_string_value(json_object_get(info, "solution"));
    struct scan s = { text, text ? strlen(text) : 0, 0 };
    while (s.i < s.n) {
        struct rational r;
        if (s.p[s.i++] != '=')
            continue;
        blanks(&s);
        if (number(&s, &r) && equals(h, r))
            return true;
    }
    return false;
}

/* Off by a sign, a percent or a unit. */
static bool is_unit_slip(const struct extract_hit *h, struct rational gold)
{
    static const int64_t factors[] = { -1, 100, 60, 24, 12, 7, 1000, 10 };
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        struct rational r;
        if ((rat_mul(gold, rat_int(factors[i]), &r) && equals(h, r)) ||
            (i > 0 && rat_div(gold, rat_int(factors[i]), &r) && equals(h, r)))
            return gold.n != 0;
    }
    return false;
}

static bool is_refusal(struct str text)
{
    static const char *const words[] = { "I'm sorry",
                                         "I am sorry",
                                         "I cannot",
                                         "I can't",
                                         "I can not",
                                         "I\xe2\x80\x99m sorry",
                                         "unable to",
                                         "I won't",
                                         "not able to",
                                         "cannot be determined",
                                         "not enough information" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (str_find(text, str_c(words[i]), 0) != SIZE_MAX)
            return true;
    return false;
}

static enum sample_class wrong_class(struct run_sample *s, const json_t *info,
                                     const struct extract_hit *h)
{
    struct rational gold = { s->gold_num, s->gold_den };
    struct step_check check;
    if (str_trim(s->response).n == 0)
        return CLASS_EMPTY;
    if (str_is(s->finish, "length"))
        return CLASS_TRUNCATED;
    if (h->rule == RULE_NONE || !h->is_number)
        return is_refusal(s->response) ? CLASS_REFUSAL : CLASS_UNPARSED;
    if ((s->trap = trap_of(info, h)) >= 0)
        return CLASS_TRAP;
    if (is_step(info, h))
        return CLASS_STEP;
    if (is_unit_slip(h, gold))
        return CLASS_SIGN;
    score_steps(s->response, &check);
    return check.n_false > 0 ? CLASS_ARITHMETIC : CLASS_OTHER;
}

enum status score_sample(struct run_sample *s, enum extract_profile profile, struct err *err)
{
    struct extract_all all;
    struct extract_gold gold = { s->gold_num, s->gold_den, s->gold_text };
    struct err ignored = ERR_INIT;
    json_t *info = NULL;
    if (extract_answer(s->response, &all, err) != ST_OK)
        return err->code;
    memcpy(s->hit, all.hit, sizeof s->hit);
    for (int p = 0; p < EXTRACT_PROFILES; p++)
        s->correct[p] = extract_correct((enum extract_profile)p, &all.hit[p], &gold);
    s->version = EXTRACT_VERSION;
    s->trap = -1;
    s->klass = CLASS_CORRECT;
    if (!s->correct[profile]) {
        if (s->info.n > 2 && json_parse(s->info, "info", &info, &ignored) == ST_NOMEM)
            return err_set(err, ST_NOMEM, "an answer's score");
        s->klass = wrong_class(s, info, &all.hit[profile]);
        json_free(info);
    }
    return ST_OK;
}
