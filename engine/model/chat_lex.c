/* engine/model/chat_lex.c - cuts a template into tokens, with Jinja's white-space rules as model
 * templates rely on them (trim_blocks and lstrip_blocks on): the newline after a block or comment
 * goes, so does the indentation before one on its own line; "-" strips all white space on its side
 * and "+" keeps everything. */
#include "engine/base/utf8.h"
#include "engine/model/chat_internal.h"

static const struct str no_text = { "", 0 };

static uint32_t lex_line(struct lexer *lx, size_t pos)
{
    for (; lx->line_at < pos; lx->line_at++)
        lx->line += lx->src.p[lx->line_at] == '\n';
    return lx->line;
}

void lex_init(struct lexer *lx, struct str src, struct err *err)
{
    *lx = (struct lexer){ .src = src, .line = 1, .line_start = true, .err = err };
}

size_t chat_space(struct str s, size_t i)
{
    unsigned char c = (unsigned char)s.p[i];
    if (c < 0x80)
        return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20);
    uint32_t cp;
    size_t n = utf8_decode(s.p + i, s.n - i, &cp);
    bool space =
        n && (cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
              cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000);
    return space ? n : 0;
}

struct str chat_strip(struct str s, bool left, bool right)
{
    for (size_t n; left && s.n && (n = chat_space(s, 0)) > 0;)
        s = (struct str){ s.p + n, s.n - n };
    while (right && s.n) {
        size_t i = s.n - 1;
        while (i > 0 && s.n - i < 4 && ((unsigned char)s.p[i] & 0xc0) == 0x80)
            i--;
        if (chat_space(s, i) != s.n - i)
            break;
        s.n = i;
    }
    return s;
}

static bool at(const struct lexer *lx, size_t pos, const char *z)
{
    size_t n = strlen(z);
    return pos <= lx->src.n && lx->src.n - pos >= n && memcmp(lx->src.p + pos, z, n) == 0;
}

static size_t skip_space(const struct lexer *lx, size_t pos)
{
    for (size_t n; pos < lx->src.n && (n = chat_space(lx->src, pos)) > 0;)
        pos += n;
    return pos;
}

/* Moves behind an end of a tag and remembers whether a line starts there. */
static void finish_tag(struct lexer *lx, size_t end)
{
    lx->pos = end;
    lx->line_start = end > 0 && lx->src.p[end - 1] == '\n';
    lx->mode = LEX_DATA;
}

/* The text before a tag whose sign is '-', '+' or neither. */
static struct str strip_before(const struct lexer *lx, struct str text, char sign, bool block)
{
    if (sign == '-')
        return chat_strip(text, false, true);
    if (sign == '+' || !block)
        return text;
    size_t cut = text.n;
    while (cut > 0 && text.p[cut - 1] != '\n')
        cut--;
    if (cut == 0 && !lx->line_start)
        return text;
    struct str tail = { text.p + cut, text.n - cut };
    return chat_strip(tail, true, false).n == 0 ? (struct str){ text.p, cut } : text;
}

/* End of a block or comment at `pos`, which is at "-", "+" or the closing mark; 0: not there. */
static size_t block_end(const struct lexer *lx, size_t pos, char mark)
{
    char sign = pos < lx->src.n ? lx->src.p[pos] : 0;
    if (sign == '-' || sign == '+')
        pos++;
    char closing[3] = { mark, '}', 0 };
    if (!at(lx, pos, closing))
        return 0;
    pos += 2;
    if (sign == '-')
        return skip_space(lx, pos);
    return sign != '+' && at(lx, pos, "\n") ? pos + 1 : pos;
}

static enum status lex_comment(struct lexer *lx, size_t pos, size_t open)
{
    size_t close = str_find(lx->src, STR("#}"), pos);
    if (close == SIZE_MAX)
        return err_set(lx->err, ST_FORMAT, "line %u: comment without an end", lex_line(lx, open));
    if (close > pos && (lx->src.p[close - 1] == '-' || lx->src.p[close - 1] == '+'))
        close--;
    finish_tag(lx, block_end(lx, close, '#'));
    return ST_OK;
}

/* pos: behind "{%" and its sign. Offset of the raw text, 0: this is no raw block. */
static size_t raw_begin(const struct lexer *lx, size_t pos)
{
    pos = skip_space(lx, pos);
    if (!at(lx, pos, "raw"))
        return 0;
    pos = skip_space(lx, pos + 3);
    if (at(lx, pos, "-%}"))
        return skip_space(lx, pos + 3);
    return at(lx, pos, "%}") ? pos + 2 : 0;
}

static enum status lex_raw(struct lexer *lx, struct tok *ret)
{
    for (size_t q = lx->pos; (q = str_find(lx->src, STR("{%"), q)) != SIZE_MAX; q += 2) {
        size_t e = q + 2;
        char sign = e < lx->src.n ? lx->src.p[e] : 0;
        e = skip_space(lx, sign == '-' || sign == '+' ? e + 1 : e);
        if (!at(lx, e, "endraw"))
            continue;
        size_t end = block_end(lx, skip_space(lx, e + 6), '%');
        if (!end)
            continue;
        struct str text = { lx->src.p + lx->pos, q - lx->pos };
        *ret = (struct tok){ .kind = TOK_DATA,
                             .line = lex_line(lx, lx->pos),
                             .text = strip_before(lx, text, sign, true) };
        finish_tag(lx, end);
        return ST_OK;
    }
    return err_set(lx->err, ST_FORMAT, "line %u: raw block without {%% endraw %%}",
                   lex_line(lx, lx->pos));
}

/* Offset of the next "{{", "{%" or "{#", or the end. */
static size_t find_tag(const struct lexer *lx)
{
    const char *p = lx->src.p;
    for (size_t i = lx->pos; i + 1 < lx->src.n; i++)
        if (p[i] == '{' && (p[i + 1] == '{' || p[i + 1] == '%' || p[i + 1] == '#'))
            return i;
    return lx->src.n;
}

/* Text up to the next tag, which is entered. The token may be empty. */
static enum status lex_data(struct lexer *lx, struct tok *ret)
{
    size_t start = lx->pos, q = find_tag(lx);
    struct str text = { lx->src.p + start, q - start };
    *ret = (struct tok){ .kind = TOK_DATA, .line = lex_line(lx, start), .text = text };
    if (q == lx->src.n) {
        lx->pos = q;
        return ST_OK;
    }
    char kind = lx->src.p[q + 1], sign = q + 2 < lx->src.n ? lx->src.p[q + 2] : 0;
    size_t pos = q + 2 + (sign == '-' || sign == '+');
    ret->text = strip_before(lx, text, sign, kind != '{');
    if (kind == '#')
        return lex_comment(lx, pos, q);
    size_t raw = kind == '%' ? raw_begin(lx, pos) : 0;
    if (raw) {
        finish_tag(lx, raw);
        lx->mode = LEX_RAW;
        return ST_OK;
    }
    lx->pos = pos;
    lx->mode = kind == '{' ? LEX_VAR : LEX_BLOCK;
    lx->brackets = 0;
    lx->begin_waits = true;
    return ST_OK;
}

static bool is_name(unsigned char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80 ||
           (!first && c >= '0' && c <= '9');
}

static size_t digits(const struct lexer *lx, size_t pos)
{
    const char *p = lx->src.p;
    for (; pos < lx->src.n; pos++) {
        bool digit = p[pos] >= '0' && p[pos] <= '9';
        bool gap = p[pos] == '_' && pos + 1 < lx->src.n && p[pos + 1] >= '0' && p[pos + 1] <= '9';
        if (!digit && !gap)
            break;
    }
    return pos;
}

static void lex_number(struct lexer *lx, struct tok *ret)
{
    const char *p = lx->src.p;
    size_t end = digits(lx, lx->pos), more;
    bool item = lx->pos > 0 && p[lx->pos - 1] == '.'; /* x.0.1: two items, no fraction */
    ret->kind = TOK_INT;
    if (!item && end < lx->src.n && p[end] == '.' && (more = digits(lx, end + 1)) > end + 1) {
        ret->kind = TOK_FLOAT;
        end = more;
    }
    if (end < lx->src.n && (p[end] == 'e' || p[end] == 'E')) {
        size_t exp = end + 1;
        if (exp < lx->src.n && (p[exp] == '+' || p[exp] == '-'))
            exp++;
        if ((more = digits(lx, exp)) > exp) {
            ret->kind = TOK_FLOAT;
            end = more;
        }
    }
    ret->text = (struct str){ p + lx->pos, end - lx->pos };
    lx->pos = end;
}

static enum status lex_string(struct lexer *lx, struct tok *ret)
{
    char quote = lx->src.p[lx->pos];
    for (size_t i = lx->pos + 1; i < lx->src.n; i++) {
        if (lx->src.p[i] == '\\') {
            i++;
        } else if (lx->src.p[i] == quote) {
            ret->kind = TOK_STR;
            ret->text = (struct str){ lx->src.p + lx->pos + 1, i - lx->pos - 1 };
            lx->pos = i + 1;
            return ST_OK;
        }
    }
    return err_set(lx->err, ST_FORMAT, "line %u: string without its closing quote", ret->line);
}

static enum status lex_op(struct lexer *lx, struct tok *ret)
{
    static const struct {
        const char text[3];
        int op;
    } two[] = { { "==", OP_EQ }, { "!=", OP_NE },  { "<=", OP_LE },
                { ">=", OP_GE }, { "**", OP_POW }, { "//", OP_FLOORDIV } };
    ret->kind = TOK_OP;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (at(lx, lx->pos, two[i].text)) {
            ret->op = two[i].op;
            lx->pos += 2;
            return ST_OK;
        }
    char c = lx->src.p[lx->pos];
    if (!c || !strchr("+-*/%~[](){}<>=.:|,;", c))
        return err_set(lx->err, ST_FORMAT, "line %u: unexpected character 0x%02x in a tag",
                       ret->line, (unsigned)(unsigned char)c);
    if (strchr("([{", c))
        lx->brackets++;
    else if (strchr(")]}", c) && lx->brackets)
        lx->brackets--;
    ret->op = (unsigned char)c;
    lx->pos++;
    return ST_OK;
}

/* The end of the tag that we are in; inside brackets "}}" closes two dictionaries instead. */
static bool lex_end(struct lexer *lx, struct tok *ret)
{
    if (lx->brackets)
        return false;
    size_t end = 0;
    if (lx->mode == LEX_BLOCK)
        end = block_end(lx, lx->pos, '%');
    else if (at(lx, lx->pos, "-}}"))
        end = skip_space(lx, lx->pos + 3);
    else if (at(lx, lx->pos, "}}"))
        end = lx->pos + 2;
    if (!end)
        return false;
    ret->kind = lx->mode == LEX_BLOCK ? TOK_BLOCK_END : TOK_VAR_END;
    finish_tag(lx, end);
    return true;
}

static enum status lex_code(struct lexer *lx, struct tok *ret)
{
    lx->pos = skip_space(lx, lx->pos);
    *ret = (struct tok){ .line = lex_line(lx, lx->pos), .text = no_text };
    if (lx->pos >= lx->src.n)
        return err_set(lx->err, ST_FORMAT, "line %u: the template ends inside a tag", ret->line);
    if (lex_end(lx, ret))
        return ST_OK;
    unsigned char c = (unsigned char)lx->src.p[lx->pos];
    if (c >= '0' && c <= '9') {
        lex_number(lx, ret);
        return ST_OK;
    }
    if (c == '\'' || c == '"')
        return lex_string(lx, ret);
    if (!is_name(c, true))
        return lex_op(lx, ret);
    size_t start = lx->pos;
    while (lx->pos < lx->src.n && is_name((unsigned char)lx->src.p[lx->pos], false))
        lx->pos++;
    ret->kind = TOK_NAME;
    ret->text = (struct str){ lx->src.p + start, lx->pos - start };
    return ST_OK;
}

enum status lex_next(struct lexer *lx, struct tok *ret)
{
    for (;;) {
        if (lx->begin_waits) {
            lx->begin_waits = false;
            *ret = (struct tok){ .kind = lx->mode == LEX_VAR ? TOK_VAR_BEGIN : TOK_BLOCK_BEGIN,
                                 .line = lex_line(lx, lx->pos),
                                 .text = no_text };
            return ST_OK;
        }
        if (lx->mode == LEX_VAR || lx->mode == LEX_BLOCK)
            return lex_code(lx, ret);
        if (lx->mode == LEX_DATA && lx->pos >= lx->src.n) {
            *ret = (struct tok){ .line = lex_line(lx, lx->src.n), .text = no_text };
            return ST_OK;
        }
        enum status st = lx->mode == LEX_RAW ? lex_raw(lx, ret) : lex_data(lx, ret);
        if (st != ST_OK || ret->text.n)
            return st;
    }
}
