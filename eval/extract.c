/* eval/extract.c - our ladder: folding the text, then five rules. See extract.h. */
#include "engine/base/utf8.h"
#include "eval/extract_internal.h"

#include <stdlib.h>
#include <strings.h>

static const char *const profile_names[EXTRACT_PROFILES] = {
    [EXTRACT_STRICT] = "strict",
    [EXTRACT_FLEXIBLE] = "flexible",
    [EXTRACT_APPLE] = "apple",
    [EXTRACT_GSM8K] = "gsm8k",
    [EXTRACT_LM_STRICT] = "lm-eval-strict",
    [EXTRACT_LM_FLEX] = "lm-eval-flex",
    [EXTRACT_LM_LLAMA] = "lm-eval-llama",
    [EXTRACT_HELM] = "helm",
    [EXTRACT_OPENCOMPASS] = "opencompass",
    [EXTRACT_MGSM] = "mgsm",
};

const char *extract_profile_name(enum extract_profile p)
{
    return (unsigned)p < EXTRACT_PROFILES ? profile_names[p] : "?";
}

bool extract_profile_find(struct str name, enum extract_profile *ret)
{
    for (int i = 0; i < EXTRACT_PROFILES; i++)
        if (str_is(name, profile_names[i])) {
            *ret = (enum extract_profile)i;
            return true;
        }
    return false;
}

const char *extract_rule_name(enum extract_rule r)
{
    static const char *const n[] = { "none", "hash", "marker", "boxed", "line", "last", "pattern" };
    return (unsigned)r < EXTRACT_RULES ? n[r] : "?";
}

/* ---- folding ---- */

struct fold {
    struct folded t;
    size_t cap; /* every byte of the source makes at most three */
};

static void put(struct fold *f, char c, size_t from)
{
    if (f->t.n < f->cap) {
        f->t.p[f->t.n] = c;
        f->t.at[f->t.n++] = (uint32_t)from;
    }
}

static void put_z(struct fold *f, const char *z, size_t from)
{
    while (*z)
        put(f, *z++, from);
}

/* What a character outside of ASCII becomes; NULL: it stays. */
static const char *fold_special(uint32_t cp)
{
    static const struct {
        uint32_t first, last;
        const char *to;
    } table[] = {
        { 0x00A0, 0x00A0, "\x01" }, { 0x2007, 0x2009, "\x01" },     { 0x202F, 0x202F, "\x01" },
        { 0x2000, 0x2006, " " },    { 0x200A, 0x200A, " " },        { 0x3000, 0x3000, " " },
        { 0x205F, 0x205F, " " },    { 0x00AD, 0x00AD, "" },         { 0x200B, 0x200F, "" },
        { 0x202A, 0x202E, "" },     { 0x2060, 0x2069, "" },         { 0xFEFF, 0xFEFF, "" },
        { 0x2010, 0x2013, "-" },    { 0x2212, 0x2212, "-" },        { 0xFE63, 0xFE63, "-" },
        { 0x2014, 0x2015, " " },    { 0x2018, 0x2019, "'" },        { 0x2028, 0x2029, "\n" },
        { 0x00D7, 0x00D7, "*" },    { 0x22C5, 0x22C5, "*" },        { 0x00B7, 0x00B7, "*" },
        { 0x00F7, 0x00F7, "\x02" }, { 0x2044, 0x2044, "/" },        { 0x2215, 0x2215, "/" },
        { 0x3002, 0x3002, "." },    { 0xFFE5, 0xFFE5, "\xc2\xa5" },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (cp >= table[i].first && cp <= table[i].last)
            return table[i].to;
    return NULL;
}

static const char *fold_vulgar(uint32_t cp)
{
    static const char *const latin[] = { "1/4", "1/2", "3/4" };
    static const char *const more[] = { "1/7", "1/9", "1/10", "1/3", "2/3", "1/5", "2/5", "3/5",
                                        "4/5", "1/6", "5/6",  "1/8", "3/8", "5/8", "7/8" };
    if (cp >= 0xBC && cp <= 0xBE)
        return latin[cp - 0xBC];
    return cp >= 0x2150 && cp <= 0x215E ? more[cp - 0x2150] : NULL;
}

/* Zero of the decimal digits of other scripts that people mix into prose; 0: none. */
static char fold_digit(uint32_t cp)
{
    static const uint32_t zeros[] = { 0x0660, 0x06F0, 0x0966, 0x09E6, 0xFF10 };
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++)
        if (cp >= zeros[i] && cp <= zeros[i] + 9)
            return (char)('0' + (cp - zeros[i]));
    return '\0';
}

static void fold_wide(struct fold *f, const char *s, size_t n, uint32_t cp, size_t from)
{
    const char *to = fold_special(cp);
    char digit = fold_digit(cp);
    if (digit) {
        put(f, digit, from);
    } else if (to) {
        put_z(f, to, from);
    } else if ((to = fold_vulgar(cp)) != NULL) {
        if (f->t.n && f->t.p[f->t.n - 1] >= '0' && f->t.p[f->t.n - 1] <= '9')
            put(f, ' ', from);
        put_z(f, to, from);
    } else if (cp >= 0xFF01 && cp <= 0xFF5E) {
        put(f, (char)(cp - 0xFF01 + '!'), from);
    } else {
        for (size_t i = 0; i < n; i++)
            put(f, s[i], from + i);
    }
}

/* LaTeX's own typography at s[i]; returns how many bytes were taken. */
static size_t fold_latex(struct fold *f, struct str s, size_t i)
{
    static const struct {
        const char *from, *to;
    } table[] = {
        { "{,}", "," },     { "\\$", "$" },       { "\\%", "%" },       { "\\,", "\x01" },
        { "\\!", "" },      { "\\;", " " },       { "\\:", " " },       { "\\ ", " " },
        { "\\text{", "{" }, { "\\mathrm{", "{" }, { "\\mathbf{", "{" }, { "\\div", "\x02" },
        { "\\cdot", "*" },  { "\\left", "" },     { "\\right", "" },    { "\\#", "#" },
    };
    struct str rest = { s.p + i, s.n - i };
    for (size_t k = 0; k < sizeof table / sizeof table[0]; k++)
        if (str_starts(rest, str_c(table[k].from))) {
            put_z(f, table[k].to, i);
            return strlen(table[k].from);
        }
    return 0;
}

/* Into f's memory, which holds fold_cap(s.n) of each and one more. */
static size_t fold_cap(size_t n)
{
    return 3 * n + 8;
}
static void fold_text(struct str s, struct fold *f)
{
    f->cap = fold_cap(s.n);
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        size_t n = 1, latex = s.p[i] == '\\' || s.p[i] == '{' ? fold_latex(f, s, i) : 0;
        if (latex)
            n = latex;
        else if ((unsigned char)s.p[i] < 0x80)
            put(f,
                s.p[i] == '\r' || s.p[i] == '\0' || (unsigned char)s.p[i] <= FOLD_DIVIDE ? '\n'
                : s.p[i] == '\t'                                                         ? ' '
                                                                                         : s.p[i],
                i);
        else if ((n = utf8_decode(s.p + i, s.n - i, &cp)) != 0)
            fold_wide(f, s.p + i, n, cp, i);
        else
            n = 1; /* malformed bytes vanish */
        i += n;
    }
    f->t.p[f->t.n] = '\0';
    f->t.at[f->t.n] = (uint32_t)s.n;
}

static enum status fold(struct str s, struct fold *f, struct err *err)
{
    f->t.p = malloc(fold_cap(s.n) + 1);
    f->t.at = malloc((fold_cap(s.n) + 1) * sizeof *f->t.at);
    if (!f->t.p || !f->t.at)
        return err_set(err, ST_NOMEM, "a response of %zu bytes", s.n);
    fold_text(s, f);
    return ST_OK;
}

static void fold_clear(struct fold *f)
{
    free(f->t.p);
    free(f->t.at);
}

/* ---- finding in folded text ---- */

static bool same_ci(const struct folded *t, size_t i, size_t end, const char *z)
{
    size_t n = strlen(z);
    return i + n <= end && strncasecmp(t->p + i, z, n) == 0;
}

/* The last occurrence that begins in [from, before); SIZE_MAX: none. */
static size_t find_last(const struct folded *t, size_t from, size_t before, const char *z)
{
    for (size_t i = before; i-- > from;)
        if ((t->p[i] | 32) == (z[0] | 32) && same_ci(t, i, t->n, z))
            return i;
    return SIZE_MAX;
}

/* Of the line that i is in, at most LINE_MAX bytes: hostile text has lines of megabytes. */
enum { LINE_MAX = 1024 };
static size_t line_end(const struct folded *t, size_t i, size_t end)
{
    if (end > i && end - i > LINE_MAX)
        end = i + LINE_MAX;
    const char *p = i < end ? memchr(t->p + i, '\n', end - i) : NULL;
    return p ? (size_t)(p - t->p) : end;
}

static bool is_mark(char c)
{
    return c != '\0' && strchr(" \t*_`~:=>.!\"'([{|\x01", c) != NULL;
}

static size_t skip_marks(const struct folded *t, size_t i, size_t end)
{
    while (i < end && is_mark(t->p[i]))
        i++;
    return i;
}

/* ---- what part of the response counts ---- */

struct span {
    size_t from, end;
};

static bool starts_question(const struct folded *t, size_t i, size_t end)
{
    while (i < end && (t->p[i] == ' ' || t->p[i] == '\n'))
        i++;
    return same_ci(t, i, end, "Q:") || same_ci(t, i, end, "Question:");
}

/* Behind the reasoning block; before the next question that the model made up itself. A response
 * that begins with a question recites the prompt: its own answer is the last. */
static struct span relevant(const struct folded *t)
{
    static const char *const ends[] = { "</think>", "</thinking>", "</reasoning>" };
    static const char *const opens[] = { "<think>", "<thinking>", "<reasoning>" };
    struct span s = { 0, t->n };
    for (size_t k = 0; k < 3; k++) {
        size_t at = find_last(t, s.from, t->n, ends[k]);
        if (at != SIZE_MAX)
            s.from = at + strlen(ends[k]);
    }
    for (size_t k = 0; k < 3; k++) { /* an open block: cut by the token limit */
        size_t at = find_last(t, s.from, t->n, opens[k]);
        s.end = at != SIZE_MAX && at < s.end ? at : s.end;
    }
    if (starts_question(t, s.from, s.end))
        return s;
    for (size_t i = s.from; i < s.end; i++)
        if (t->p[i] == '\n' &&
            (same_ci(t, i + 1, s.end, "Q:") || same_ci(t, i + 1, s.end, "Question:"))) {
            s.end = i;
            break;
        }
    return s;
}

/* ---- the rules ---- */

/* Places that a rule looks at before it gives up: hostile text has a hundred thousand. */
enum { TRIES_MAX = 64 };

/* A number at i or behind marks there. */
static bool token_near(const struct folded *t, size_t i, size_t end, bool words, struct token *k)
{
    return token_first(t, i, end, words, k) && k->begin <= skip_marks(t, i, end);
}

/* Past "6 x 7 = 42" to its result: k moves to the number behind the last "=". */
static void follow_equation(const struct folded *t, size_t end, struct token *k)
{
    for (size_t i = k->end; i < end; i++) {
        char c = t->p[i];
        struct token next;
        if (c == '=') {
            if (!token_near(t, i + 1, end, false, &next))
                return;
            *k = next;
            i = k->end - 1;
        } else if (!strchr(" 0123456789+-*/x().,$\x01\x02", c) || c == '\0') {
            return;
        }
    }
}

static bool rule_hash(const struct folded *t, struct span s, struct token *k)
{
    size_t at = s.end;
    for (int n = 0; n < TRIES_MAX && (at = find_last(t, s.from, at, "####")) != SIZE_MAX; n++) {
        while (at > s.from && t->p[at - 1] == '#')
            at--;
        size_t end = line_end(t, at, s.end), i = at;
        while (i < end && t->p[i] == '#')
            i++;
        size_t word = skip_marks(t, i, end);
        if (same_ci(t, word, end, "final "))
            word += strlen("final ");
        if (same_ci(t, word, end, "answer"))
            i = word + strlen("answer");
        if (token_near(t, i, end, true, k))
            return true;
    }
    return false;
}

static const char *const markers[] = {
    "answer is",
    "answer:",
    "answer =",
    "answer equals",
    "answer**:",
    "answer:**",
    "answer to the question is",
    "respuesta es",
    "respuesta:",
    "r\xc3\xa9ponse est",
    "r\xc3\xa9ponse:",
    "r\xc3\xa9ponse :",
    "antwort ist",
    "antwort:",
    "antwort lautet",
    "risposta \xc3\xa8",
    "risposta:",
    "resposta \xc3\xa9",
    "resposta:",
    "\xe7\xad\x94\xe6\xa1\x88\xe6\x98\xaf",
    "\xe7\xad\x94\xe6\xa1\x88:",
    "\xe7\xad\x94\xe3\x81\x88\xe3\x81\xaf",
    "\xd0\xbe\xd1\x82\xd0\xb2\xd0\xb5\xd1\x82:",
    "\xd0\x9e\xd1\x82\xd0\xb2\xd0\xb5\xd1\x82:",
    "\xec\xa0\x95\xeb\x8b\xb5\xec\x9d\x80",
};

/* The number that a marker announces, i behind it: on its line, or where that says nothing more, at
 * the beginning of the next line. */
static bool announced(const struct folded *t, size_t i, size_t end, struct token *k)
{
    size_t stop = line_end(t, i, end);
    if (token_first(t, i, stop, true, k)) {
        follow_equation(t, stop, k);
        return true;
    }
    if (skip_marks(t, i, stop) < stop)
        return false;
    while (stop < end && (t->p[stop] == '\n' || t->p[stop] == ' '))
        stop++;
    size_t next = line_end(t, stop, end), j = skip_marks(t, stop, next);
    if (same_ci(t, j, next, "\\boxed{"))
        j += strlen("\\boxed{");
    return token_at(t, j, next, true, k);
}

/* Length of the marker at i, 0: none. */
static size_t marker_at(const struct folded *t, size_t i, size_t end)
{
    for (size_t m = 0; m < sizeof markers / sizeof markers[0]; m++)
        if ((t->p[i] | 32) == (markers[m][0] | 32) && same_ci(t, i, end, markers[m]))
            return strlen(markers[m]);
    return 0;
}

static bool rule_marker(const struct folded *t, struct span s, struct token *k)
{
    int tries = 0;
    for (size_t i = s.end; i-- > s.from && tries < TRIES_MAX;) {
        size_t n = marker_at(t, i, s.end);
        tries += n > 0;
        if (n && announced(t, i + n, s.end, k))
            return true;
    }
    return false;
}

static bool rule_boxed(const struct folded *t, struct span s, struct token *k)
{
    size_t at = s.end;
    for (int n = 0; n < TRIES_MAX && (at = find_last(t, s.from, at, "\\boxed")) != SIZE_MAX; n++) {
        size_t i = at + strlen("\\boxed"), end, most = s.end - i > LINE_MAX ? i + LINE_MAX : s.end;
        int depth = 0;
        for (end = i; end < most; end++) {
            depth += t->p[end] == '{' ? 1 : t->p[end] == '}' ? -1 : 0;
            if (depth <= 0 && (t->p[end] == '}' || t->p[end] == '\n'))
                break;
        }
        size_t equals = find_last(t, i, end, "=");
        if (equals != SIZE_MAX && token_first(t, equals, end, true, k))
            return true;
        if (token_first(t, i, end, true, k))
            return true;
    }
    return false;
}

/* Exactly one number in [from, end). */
static bool only_token(const struct folded *t, size_t from, size_t end, struct token *k)
{
    struct token last;
    return token_first(t, from, end, true, k) && token_last(t, from, end, true, &last) &&
           last.begin == k->begin;
}

static bool has_letter(const struct folded *t, size_t from, size_t end)
{
    for (size_t i = from; i < end; i++)
        if (((t->p[i] | 32) >= 'a' && (t->p[i] | 32) <= 'z') || (unsigned char)t->p[i] >= 0x80)
            return true;
    return false;
}

/* The last pair of ** or __ that holds one number. */
static bool bold(const struct folded *t, size_t from, size_t end, struct token *k)
{
    bool any = false;
    for (size_t i = from; i + 1 < end; i++) {
        if ((t->p[i] != '*' && t->p[i] != '_') || t->p[i + 1] != t->p[i])
            continue;
        size_t j = i + 2;
        while (j + 1 < end && !(t->p[j] == t->p[i] && t->p[j + 1] == t->p[i]))
            j++;
        if (j + 1 >= end)
            break;
        struct token one;
        if (only_token(t, i + 2, j, &one)) {
            *k = one;
            any = true;
        }
        i = j + 1;
    }
    return any;
}

static bool rule_line(const struct folded *t, struct span s, struct token *k)
{
    size_t end = s.end;
    while (end > s.from && strchr(" \n\x01", t->p[end - 1]))
        end--;
    size_t from = end;
    while (from > s.from && t->p[from - 1] != '\n')
        from--;
    if (from == end)
        return false;
    if (bold(t, from, end, k))
        return true;
    return only_token(t, from, end, k) && !has_letter(t, from, k->begin) &&
           !has_letter(t, k->end, end);
}

static bool rule_last(const struct folded *t, struct span s, struct token *k)
{
    return token_last(t, s.from, s.end, false, k) || token_last(t, s.from, s.end, true, k);
}

/* ---- the ladder ---- */

static void take(const struct folded *t, enum extract_rule rule, const struct token *k, size_t base,
                 struct extract_hit *hit)
{
    size_t n = k->end - k->begin;
    struct str text = { t->p + k->begin, n };
    *hit = (struct extract_hit){ .rule = rule,
                                 .begin = (uint32_t)(base + t->at[k->begin]),
                                 .end = (uint32_t)(base + t->at[k->end]),
                                 .is_number = k->is_number,
                                 .percent = k->percent,
                                 .num = k->is_number ? k->num : 0,
                                 .den = k->is_number ? k->den : 1 };
    text.n = text.n < EXTRACT_TEXT_MAX ? text.n : EXTRACT_TEXT_MAX - 1;
    text.n -= utf8_partial_tail(text);
    for (size_t i = 0; i < text.n; i++)
        hit->text[i] = text.p[i] == FOLD_THIN ? ' ' : text.p[i];
}

static void ladder(const struct folded *t, size_t base, struct extract_all *ret)
{
    static const struct {
        enum extract_rule rule;
        bool (*find)(const struct folded *t, struct span s, struct token *k);
        bool strict;
    } rules[] = { { RULE_HASH, rule_hash, true },
                  { RULE_MARKER, rule_marker, true },
                  { RULE_BOXED, rule_boxed, true },
                  { RULE_LINE, rule_line, false },
                  { RULE_LAST, rule_last, false } };
    struct span s = relevant(t);
    struct token k;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].find(t, s, &k)) {
            take(t, rules[i].rule, &k, base, &ret->hit[EXTRACT_FLEXIBLE]);
            if (rules[i].strict)
                ret->hit[EXTRACT_STRICT] = ret->hit[EXTRACT_FLEXIBLE];
            return;
        }
}

enum status extract_answer(struct str response, struct extract_all *ret, struct err *err)
{
    struct fold f = { 0 };
    size_t base = response.n > EXTRACT_BYTES_MAX ? response.n - EXTRACT_BYTES_MAX : 0;
    struct str tail = { response.p ? response.p + base : "", response.n - base };
    memset(ret, 0, sizeof *ret);
    if (fold(tail, &f, err) == ST_OK) {
        ladder(&f.t, base, ret);
        extract_foreign(tail, ret, err);
        for (int i = EXTRACT_APPLE; i < EXTRACT_PROFILES && base; i++)
            if (ret->hit[i].rule != RULE_NONE) {
                ret->hit[i].begin += (uint32_t)base;
                ret->hit[i].end += (uint32_t)base;
            }
    }
    fold_clear(&f);
    return err->code;
}

bool extract_correct(enum extract_profile p, const struct extract_hit *hit,
                     const struct extract_gold *gold)
{
    if (hit->rule == RULE_NONE)
        return false;
    if (p == EXTRACT_STRICT || p == EXTRACT_FLEXIBLE)
        return hit->is_number && hit->num == gold->num && hit->den == gold->den;
    return foreign_correct(p, hit, gold);
}

enum { NUMBER_MAX = 200 };

bool extract_number(struct str s, int64_t *num, int64_t *den)
{
    char text[3 * NUMBER_MAX + 9];
    uint32_t at[3 * NUMBER_MAX + 9];
    struct fold f = { .t = { .p = text, .at = at } };
    struct token k;
    s = str_trim(s);
    if (s.n == 0 || s.n > NUMBER_MAX)
        return false;
    fold_text(s, &f);
    if (!token_at(&f.t, 0, f.t.n, true, &k) || k.end != f.t.n || !k.is_number)
        return false;
    *num = k.num;
    *den = k.den;
    return true;
}
