/* eval/extract_foreign.c - what other programs would extract, flaws included: their patterns,
 * matched by hand as their regular expressions do (leftmost, greedy, without overlaps). The
 * patterns stand beside each; reference gsm-symbolic.md, 3.2. */
#include "engine/base/utf8.h"
#include "eval/extract_internal.h"

#include <math.h>
#include <stdlib.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Length of the match at s[i], 0: none. */
typedef size_t match_fn(struct str s, size_t i);

static size_t run_digits(struct str s, size_t i)
{
    size_t n = 0;
    while (i + n < s.n && is_digit(s.p[i + n]))
        n++;
    return n;
}

static size_t run_of(struct str s, size_t i, const char *set)
{
    size_t n = 0;
    while (i + n < s.n && s.p[i + n] && strchr(set, s.p[i + n]))
        n++;
    return n;
}

static size_t minus(struct str s, size_t i)
{
    return i < s.n && s.p[i] == '-';
}

/* -?\d+\.?\d* */
static size_t match_apple(struct str s, size_t i)
{
    size_t m = minus(s, i), d = run_digits(s, i + m), n = m + d;
    if (!d)
        return 0;
    if (i + n < s.n && s.p[i + n] == '.')
        n += 1 + run_digits(s, i + n + 1);
    return n;
}

/* \d+\.?\d* */
static size_t match_mgsm(struct str s, size_t i)
{
    return minus(s, i) ? 0 : match_apple(s, i);
}

/* (-?[$0-9.,]{2,})|(-?[0-9]+) */
static size_t match_flex(struct str s, size_t i)
{
    size_t m = minus(s, i), n = run_of(s, i + m, "$0123456789.,");
    if (n >= 2)
        return m + n;
    n = run_digits(s, i + m);
    return n ? m + n : 0;
}

/* -?[\d,]+(?:.\d+)? - the dot takes any character but a newline */
static size_t match_helm(struct str s, size_t i)
{
    size_t m = minus(s, i), n = run_of(s, i + m, "0123456789,");
    if (!n)
        return 0;
    n += m;
    uint32_t cp;
    size_t any = i + n < s.n && s.p[i + n] != '\n' ? utf8_decode(s.p + i + n, s.n - i - n, &cp) : 0;
    size_t d = any ? run_digits(s, i + n + any) : 0;
    return d ? n + any + d : n;
}

/* \-?\d+\.\d+|\-?\d+ */
static size_t match_opencompass(struct str s, size_t i)
{
    size_t m = minus(s, i), d = run_digits(s, i + m), n = m + d;
    if (!d)
        return 0;
    if (i + n < s.n && s.p[i + n] == '.') {
        size_t f = run_digits(s, i + n + 1);
        n += f ? 1 + f : 0;
    }
    return n;
}

/* \-?[0-9\.\,]+ */
static size_t match_plain(struct str s, size_t i)
{
    size_t m = minus(s, i), n = run_of(s, i + m, "0123456789.,");
    return n ? m + n : 0;
}

struct match {
    size_t at, n;
};

static bool last_match(struct str s, match_fn *fn, struct match *ret)
{
    bool any = false;
    for (size_t i = 0; i < s.n;) {
        size_t n = fn(s, i);
        if (n) {
            *ret = (struct match){ i, n };
            any = true;
        }
        i += n ? n : 1;
    }
    return any;
}

static bool behind(struct str s, size_t at, const char *prefix, match_fn *fn, struct match *ret)
{
    size_t i = at + strlen(prefix), n = fn(s, i);
    if (n)
        *ret = (struct match){ i, n };
    return n > 0;
}

/* The first place where prefix is followed by a match. */
static bool first_behind(struct str s, const char *prefix, match_fn *fn, struct match *ret)
{
    for (size_t at = 0; (at = str_find(s, str_c(prefix), at)) != SIZE_MAX; at++)
        if (behind(s, at, prefix, fn, ret))
            return true;
    return false;
}

static bool last_behind(struct str s, const char *prefix, match_fn *fn, struct match *ret)
{
    bool any = false;
    for (size_t at = 0; (at = str_find(s, str_c(prefix), at)) != SIZE_MAX; at++)
        any |= behind(s, at, prefix, fn, ret);
    return any;
}

/* ---- hits ---- */

/* The match without the characters of `drop`, nor a last '.' where `dot` says so. */
static void keep(struct str s, struct match m, const char *drop, bool dot, struct extract_hit *hit)
{
    size_t n = 0;
    *hit = (struct extract_hit){
        .rule = RULE_FOREIGN, .begin = (uint32_t)m.at, .end = (uint32_t)(m.at + m.n), .den = 1
    };
    for (size_t i = m.at; i < m.at + m.n && n + 1 < EXTRACT_TEXT_MAX; i++)
        if (!strchr(drop, s.p[i]))
            hit->text[n++] = s.p[i];
    n -= utf8_partial_tail((struct str){ hit->text, n });
    if (dot && n && hit->text[n - 1] == '.')
        n--;
    hit->text[n] = '\0';
    hit->is_number = extract_number((struct str){ hit->text, n }, &hit->num, &hit->den);
    if (!hit->is_number) {
        hit->num = 0;
        hit->den = 1;
    }
}

/* Without commas; at[i] says where byte i stood. */
static bool drop_commas(struct str s, char **text, uint32_t **at, size_t *n)
{
    *text = malloc(s.n + 1);
    *at = calloc(s.n + 1, sizeof **at);
    *n = 0;
    if (!*text || !*at)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ',') {
            (*at)[*n] = (uint32_t)i;
            (*text)[(*n)++] = s.p[i];
        }
    (*at)[*n] = (uint32_t)s.n;
    return true;
}

/* Searches [from, end) with its commas deleted. */
static enum status comma_free(struct str s, size_t from, match_fn *fn, bool dot,
                              struct extract_hit *hit, struct err *err)
{
    char *text = NULL;
    uint32_t *at = NULL;
    size_t n;
    struct match m = { 0, 0 };
    if (!drop_commas((struct str){ s.p + from, s.n - from }, &text, &at, &n)) {
        err_set(err, ST_NOMEM, "a response of %zu bytes", s.n);
    } else if (last_match((struct str){ text, n }, fn, &m) && m.n > 0) {
        keep((struct str){ text, n }, m, "", dot, hit);
        hit->begin = (uint32_t)(from + at[m.at]);
        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the match lies in n */
        hit->end = (uint32_t)(from + at[m.at + m.n - 1] + 1);
    }
    free(text);
    free(at);
    return err->code;
}

/* "The answer is (\-?[0-9\.\,]+)." needs one character more, not a newline: gives one back. */
static bool lm_strict(struct str s, struct match *m)
{
    struct match hash, answer;
    bool h = first_behind(s, "#### ", match_plain, &hash);
    bool a = first_behind(s, "The answer is ", match_plain, &answer);
    if (a && (answer.at + answer.n >= s.n || s.p[answer.at + answer.n] == '\n'))
        a = --answer.n > 0 && !(answer.n == 1 && s.p[answer.at] == '-');
    if (!h && !a)
        return false;
    *m = h && (!a || hash.at < answer.at) ? hash : answer;
    return true;
}

static struct str cut_at(struct str s, const char *z)
{
    size_t at = str_find(s, str_c(z), 0);
    return (struct str){ s.p, at == SIZE_MAX ? s.n : at };
}

enum status extract_foreign(struct str s, struct extract_all *ret, struct err *err)
{
    struct match m;
    struct str cut;
    if (comma_free(s, 0, match_apple, false, &ret->hit[EXTRACT_APPLE], err) != ST_OK)
        return err->code;
    if (first_behind(s, "#### ", match_plain, &m))
        keep(s, m, ",", false, &ret->hit[EXTRACT_GSM8K]);
    if (lm_strict(s, &m))
        keep(s, m, ",$", true, &ret->hit[EXTRACT_LM_STRICT]);
    if (last_match(s, match_flex, &m))
        keep(s, m, ",$", true, &ret->hit[EXTRACT_LM_FLEX]);
    if (last_behind(s, "The final answer is ", match_flex, &m))
        keep(s, m, ",$", true, &ret->hit[EXTRACT_LM_LLAMA]);
    cut = cut_at(s, "\n\n");
    if (last_match(cut, match_helm, &m))
        keep(cut, m, ",", false, &ret->hit[EXTRACT_HELM]);
    cut = cut_at(s, "Question:");
    if (last_match(cut, match_opencompass, &m))
        keep(cut, m, "", false, &ret->hit[EXTRACT_OPENCOMPASS]);
    size_t prefix = SIZE_MAX;
    for (size_t at = 0; (at = str_find(s, STR("Answer"), at)) != SIZE_MAX; at++)
        prefix = at + strlen("Answer");
    if (prefix != SIZE_MAX)
        comma_free(s, prefix, match_mgsm, true, &ret->hit[EXTRACT_MGSM], err);
    return err->code;
}

/* ---- comparing ---- */

static double as_double(const char *text)
{
    char *end;
    double x = strtod(text, &end); /* the locale is "C": nothing sets another */
    return end != text && *end == '\0' ? x : (double)NAN;
}

/* "1,234" as the data set's own pattern keeps it: without commas. */
static void gold_text(const struct extract_gold *gold, char out[EXTRACT_TEXT_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < gold->text.n && n + 1 < EXTRACT_TEXT_MAX; i++)
        if (gold->text.p[i] != ',' && gold->text.p[i] != '$')
            out[n++] = gold->text.p[i];
    out[n] = '\0';
}

/* "29.50" is "29.5", "29.00" is "29". */
static void strip_zeros(char *text)
{
    size_t n = strlen(text);
    if (!strchr(text, '.'))
        return;
    while (n && text[n - 1] == '0')
        n--;
    if (n && text[n - 1] == '.')
        n--;
    text[n] = '\0';
}

bool foreign_correct(enum extract_profile p, const struct extract_hit *hit,
                     const struct extract_gold *gold)
{
    char want[EXTRACT_TEXT_MAX], have[EXTRACT_TEXT_MAX];
    double g = (double)gold->num / (double)gold->den;
    gold_text(gold, want);
    switch (p) {
    case EXTRACT_APPLE:
        return as_double(hit->text) == g;
    case EXTRACT_OPENCOMPASS:
        return fabs(as_double(hit->text) - g) < 1e-6;
    case EXTRACT_MGSM:
        snprintf(have, sizeof have, "%s", hit->text);
        strip_zeros(have);
        return strcmp(have, want) == 0;
    default:
        return strcmp(hit->text, want) == 0;
    }
}
