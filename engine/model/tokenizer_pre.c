/* engine/model/tokenizer_pre.c - pre-tokenizers: regular expressions (PCRE2, UTF and Unicode
 * properties) that cut a text into words. lint: table. Patterns: model-formats.md 9.4. Several
 * patterns apply one after another, each to every piece that the one before left; matches and the
 * gaps between them become pieces. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/model/tokenizer_internal.h"

#include <pcre2.h>
#include <stdlib.h>

#define P_C    "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define P_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define P_TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define P_L3   P_C "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" P_TAIL
#define P_J2                                                                                       \
    P_C "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"  \
        "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)"           \
        "|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"
#define P_Q2 P_C "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" P_TAIL
#define P_Q35                                                                                      \
    P_C "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "                                          \
        "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" P_TAIL
#define P_UP                                                                                       \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define P_LO                                                                                       \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define P_TEK P_UP "|" P_LO "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" P_TAIL
#define P_G4O                                                                                      \
    P_UP "(" P_C ")?|" P_LO "(" P_C ")?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" P_TAIL
#define P_D3                                                                                       \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"           \
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" P_TAIL
#define P_SEED P_C "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" P_TAIL
#define P_BAIL                                                                                     \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"  \
    "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define P_EXM                                                                                      \
    P_C "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}"                      \
        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define P_BLM  " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
#define P_CJK  "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
#define P_CJK3 "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
/* Letters, without those of scripts that have no case: the list of the model's own file. */
#define P_L0                                                                                       \
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"           \
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"           \
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0"         \
    "-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-"              \
    "\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"          \
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-"         \
    "\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113"          \
    "\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"           \
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"           \
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00"         \
    "-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-"               \
    "\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-"         \
    "\U000118df\U0001e900-\U0001e943]+"
#define P_DIGITS3 "[0-9][0-9][0-9]"

enum { NO_MERGES = 1, WANT_BOS = 2 };

static const struct {
    const char *names; /* blank-separated, blanks at both ends */
    int flags;
    const char *pattern[PRETOK_STEPS_MAX];
} table[] = {
    { " llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral lfm2 midm-2.0 ",
      NO_MERGES | WANT_BOS,
      { P_L3 } },
    { " dbrx smaug-bpe glm4 chatglm-bpe ", 0, { P_L3 } },
    { " jais-2 ", 0, { P_J2 } },
    { " qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan grok-2 solar-open kormo openpangu ",
      0,
      { P_Q2 } },
    { " qwen35 ", 0, { P_Q35 } },
    { " tekken ", NO_MERGES | WANT_BOS, { P_TEK } },
    { " gpt-4o llama4 kanana2 minimax-m2 ", 0, { P_G4O } },
    { " tiny_aya ", 0, { "\\d{1,3}(?=(?:\\d{3})*\\b)", P_G4O } },
    { " gpt-2 phi-2 mpt olmo jais trillion gigachat mellum modern-bert exaone4 a.x-4.0 "
      "granite-docling jina-es jina-de jina-v2-es jina-v2-de roberta-bpe jina-v1-en jina-v2-code ",
      0,
      { P_GPT2 } },
    { " starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 ",
      0,
      { "\\p{N}", P_GPT2 } },
    { " falcon ", 0, { "[\\p{P}\\$\\+<=>\\^~\\|`]+", P_GPT2, P_DIGITS3 } },
    { " deepseek-llm ",
      0,
      { "[\\r\\n]", P_L0, "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        "\\s+$", P_CJK, "\\p{N}+" } },
    { " deepseek-coder ", 0, { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", P_CJK, "\\p{N}" } },
    { " deepseek-v3 hunyuan-dense joyai-llm ", 0, { "\\p{N}{1,3}", P_CJK3, P_D3 } },
    { " seed-coder ", 0, { P_SEED } },
    { " bailingmoe bailingmoe2 llada-moe ", 0, { P_BAIL } },
    { " exaone-moe ", 0, { P_EXM } },
    { " bloom poro-chat gpt3-finnish ", 0, { P_BLM } },
    { " viking ", 0, { P_BLM, "\\p{N}" } },
    { " superbpe ", 0, { "\\p{N}+", "(?=(\\d{3})+(?!\\d))" } },
    { " default ", 0, { "[\\p{P}\\$\\+<=>\\^~\\|]+", P_GPT2, "\\p{N}+", P_DIGITS3 } },
};

struct pretok {
    size_t n;
    struct compiled {
        pcre2_code *code;
        enum pretok_how how;
        bool invert;
    } step[PRETOK_STEPS_MAX];
};

void pretok_free(struct pretok *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++)
        pcre2_code_free(p->step[i].code);
    free(p);
}

enum status pretok_compile(const struct pretok_step *step, size_t n, struct pretok **ret,
                           struct err *err)
{
    if (n > PRETOK_STEPS_MAX)
        return err_set(err, ST_UNSUPPORTED, "pre-tokenizer with %zu patterns", n);
    struct pretok *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "pre-tokenizer");
    for (size_t i = 0; i < n; i++) {
        int code;
        PCRE2_SIZE at;
        pcre2_code *c = pcre2_compile((PCRE2_SPTR)step[i].pattern.p, step[i].pattern.n,
                                      PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
        if (!c) {
            PCRE2_UCHAR text[120] = "";
            pcre2_get_error_message(code, text, sizeof text);
            err_set(err, code == PCRE2_ERROR_HEAP_FAILED ? ST_NOMEM : ST_UNSUPPORTED,
                    "pre-tokenizer pattern %zu, offset %zu: %s", i, at, (char *)text);
            pretok_free(p);
            return err->code;
        }
        pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* slower, but right, where it is refused */
        p->step[p->n++] = (struct compiled){ c, step[i].how, step[i].invert };
    }
    *ret = p;
    return ST_OK;
}

enum status pretok_named(const char *name, struct pretok **ret, bool *ignore_merges, bool *add_bos,
                         struct err *err)
{
    char key[80];
    snprintf(key, sizeof key, " %s ", name);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct pretok_step step[PRETOK_STEPS_MAX] = { 0 };
        size_t n = 0;
        if (!strstr(table[i].names, key) || strlen(name) == 0 || strchr(name, ' '))
            continue;
        for (; n < PRETOK_STEPS_MAX && table[i].pattern[n]; n++)
            step[n].pattern = str_c(table[i].pattern[n]);
        *ignore_merges = table[i].flags & NO_MERGES;
        *add_bos = table[i].flags & WANT_BOS;
        return pretok_compile(step, n, ret, err);
    }
    return err_set(err, ST_UNSUPPORTED,
                   "pre-tokenizer '%s' is not known; --pre NAME overrides it (for example gpt-2)",
                   name);
}

/* ---- splitting ---- */

struct span {
    size_t at, n;
};
struct spans {
    struct span *v;
    size_t n, cap;
};

static bool spans_add(struct spans *s, size_t at, size_t n)
{
    if (n == 0)
        return true;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        struct span *v = realloc(s->v, cap * sizeof *v);
        if (!v)
            return false;
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = (struct span){ at, n };
    return true;
}

/* One match [from, to) with the gap before it, which starts at `last`. */
static bool add_match(struct spans *out, const struct compiled *c, size_t last, size_t from,
                      size_t to)
{
    bool match_first = false;
    switch (c->how) {
    case PRETOK_REMOVE:
        return c->invert ? spans_add(out, from, to - from) : spans_add(out, last, from - last);
    case PRETOK_MERGE_PREV: /* the gap takes the delimiter along */
        return spans_add(out, last, to - last);
    case PRETOK_MERGE_NEXT:
    case PRETOK_ISOLATE:
        break;
    }
    (void)match_first;
    if (!spans_add(out, last, from - last))
        return false;
    return c->how == PRETOK_MERGE_NEXT || spans_add(out, from, to - from);
}

static size_t next_character(struct str text, size_t at)
{
    at++;
    while (at < text.n && ((unsigned char)text.p[at] & 0xC0) == 0x80)
        at++;
    return at;
}

static enum status cut(const struct compiled *c, pcre2_match_data *md, struct str text,
                       struct span in, struct spans *out, struct err *err)
{
    size_t at = in.at, last = in.at, end = in.at + in.n;
    while (at < end) {
        int rc = pcre2_match(c->code, (PCRE2_SPTR)(text.p + in.at), in.n, at - in.at,
                             PCRE2_NO_UTF_CHECK, md, NULL);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 0)
            return err_set(err, rc == PCRE2_ERROR_NOMEMORY ? ST_NOMEM : ST_RANGE,
                           "pre-tokenizer: pattern gave up (error %d)", rc);
        PCRE2_SIZE *o = pcre2_get_ovector_pointer(md);
        size_t from = in.at + o[0], to = in.at + o[1];
        if (from == to) { /* an empty match cuts, and moves on by a character */
            if (from > last && !spans_add(out, last, from - last))
                return err_set(err, ST_NOMEM, "pre-tokenizer");
            last = from;
            at = next_character(text, to);
            continue;
        }
        if (!add_match(out, c, last, from, to))
            return err_set(err, ST_NOMEM, "pre-tokenizer");
        last = c->how == PRETOK_MERGE_NEXT ? from : to;
        at = to;
    }
    bool keep = !(c->how == PRETOK_REMOVE && c->invert);
    if (keep && !spans_add(out, last, end - last))
        return err_set(err, ST_NOMEM, "pre-tokenizer");
    return ST_OK;
}

enum status pretok_split(const struct pretok *p, struct str text,
                         enum status (*fn)(void *ctx, struct str piece, struct err *err), void *ctx,
                         struct err *err)
{
    struct spans now = { 0 }, next = { 0 };
    pcre2_match_data *md = pcre2_match_data_create(1, NULL);
    if (!md || !spans_add(&now, 0, text.n))
        err_set(err, ST_NOMEM, "pre-tokenizer");
    for (size_t s = 0; p && s < p->n && err->code == ST_OK; s++) {
        next.n = 0;
        for (size_t i = 0; i < now.n && err->code == ST_OK; i++)
            cut(&p->step[s], md, text, now.v[i], &next, err);
        struct spans swap = now;
        now = next;
        next = swap;
    }
    for (size_t i = 0; i < now.n && err->code == ST_OK; i++)
        fn(ctx, (struct str){ text.p + now.v[i].at, now.v[i].n }, err);
    pcre2_match_data_free(md);
    free(now.v);
    free(next.v);
    return err->code;
}
