#include "engine/base/json.h"
#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "engine/model/tokenizer.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct opened {
    struct gguf *g;
    struct tokenizer *t;
};

/* false: the data is absent (said loudly). */
static bool open_with(const char *rel, const char *pre, struct opened *o)
{
    char path[4096];
    struct err e = ERR_INIT;
    if (!data_path(rel, path)) {
        data_skip("tokenizer", rel);
        return false;
    }
    cr_assert_eq(gguf_open(path, &o->g, &e), ST_OK, "%s", e.msg);
    cr_assert_eq(tokenizer_from_gguf(o->g, pre, &o->t, &e), ST_OK, "%s", e.msg);
    return true;
}
static bool open_vocab(const char *rel, struct opened *o)
{
    return open_with(rel, NULL, o);
}
static void shut(struct opened *o)
{
    tokenizer_free(o->t);
    gguf_close(o->g);
}

static char *read_data(const char *rel, size_t *n)
{
    char path[4096];
    cr_assert(data_path(rel, path), "%s", rel);
    char *p = data_read(path, n);
    cr_assert(p);
    return p;
}

/* .inp: texts between separator lines; .out: a line of ids each. */
static void check_vectors(const struct tokenizer *t, const char *inp_rel, const char *out_rel)
{
    static const char sep[] = "\n__ggml_vocab_test__\n";
    size_t n_in, n_out, cases = 0;
    char *in = read_data(inp_rel, &n_in), *out = read_data(out_rel, &n_out), *line = out;
    for (char *at = in; *at && *line;) {
        char *end = strstr(at, sep);
        size_t n = end ? (size_t)(end - at) : strlen(at);
        struct tokens got = { 0 };
        struct err e = ERR_INIT;
        cr_assert_eq(tokenizer_encode(t, (struct str){ at, n }, 0, &got, &e), ST_OK, "%s", e.msg);
        char *p = line;
        for (size_t i = 0; i < got.n; i++) {
            long want = strtol(p, &p, 10);
            cr_assert_eq(got.id[i], want, "%s case %zu '%.*s', token %zu: %d, not %ld", inp_rel,
                         cases, (int)n, at, i, got.id[i], want);
        }
        while (*p == ' ')
            p++;
        cr_assert(*p == '\n' || *p == '\0', "%s case %zu: more ids expected", inp_rel, cases);
        line = *p ? p + 1 : p;
        tokens_clear(&got);
        cases++;
        at = end ? end + sizeof sep - 1 : at + n;
    }
    cr_expect_gt(cases, 30u);
    free(in);
    free(out);
}

Test(tokenizer, published_vectors_give_the_published_ids)
{
    static const struct {
        const char *vocab, *vectors, *pre;
    } files[] = {
        { "ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-spm.gguf", NULL },
        { "ggml-vocab-phi-3.gguf", "ggml-vocab-phi-3.gguf", NULL },
        { "ggml-vocab-gpt-2.gguf", "ggml-vocab-gpt-2.gguf", NULL },
        { "ggml-vocab-starcoder.gguf", "ggml-vocab-starcoder.gguf", NULL },
        { "ggml-vocab-falcon.gguf", "ggml-vocab-falcon.gguf", NULL },
        { "ggml-vocab-falcon.v2.gguf", "ggml-vocab-falcon.gguf", "falcon" }, /* names none itself */
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct opened o = { 0 };
        char inp[200], out[200];
        snprintf(inp, sizeof inp, "vocab-gguf/%s", files[i].vocab);
        if (!open_with(inp, files[i].pre, &o))
            continue;
        snprintf(inp, sizeof inp, "vocab-gguf/%s.inp", files[i].vectors);
        snprintf(out, sizeof out, "vocab-gguf/%s.out", files[i].vectors);
        check_vectors(o.t, inp, out);
        shut(&o);
    }
}

/* GPT-2 as a tokenizer.json made of encoder.json and vocab.bpe. */
static struct tokenizer *gpt2_json(void)
{
    size_t n, nm;
    char path[4096];
    if (!data_path("tokenizers/gpt2/encoder.json", path)) {
        data_skip("tokenizer.json", "tokenizers/gpt2");
        return NULL;
    }
    char *vocab = read_data("tokenizers/gpt2/encoder.json", &n);
    char *merges = read_data("tokenizers/gpt2/vocab.bpe", &nm);
    struct buf doc = BUF_INIT;
    struct err e = ERR_INIT;
    struct tokenizer *t = NULL;
    buf_z(&doc, "{\"added_tokens\":[{\"id\":50256,\"content\":\"<|endoftext|>\",\"special\":true}],"
                "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":");
    buf_put(&doc, vocab, n);
    buf_z(&doc, ",\"merges\":[");
    bool first = true;
    for (char *line = strchr(merges, '\n') + 1; *line;) {
        char *end = strchr(line, '\n');
        if (!first)
            buf_char(&doc, ',');
        json_quote(&doc, (struct str){ line, (size_t)(end - line) });
        first = false;
        line = end + 1;
    }
    buf_z(&doc, "]}}");
    cr_assert_eq(
        tokenizer_from_json(buf_view(&doc), STR("{\"eos_token\":\"<|endoftext|>\"}"), &t, &e),
        ST_OK, "%s", e.msg);
    buf_clear(&doc);
    free(vocab);
    free(merges);
    return t;
}

Test(tokenizer, tokenizer_json_gives_the_same_ids_as_gguf)
{
    struct tokenizer *t = gpt2_json();
    if (!t)
        return;
    check_vectors(t, "vocab-gguf/ggml-vocab-gpt-2.gguf.inp",
                  "vocab-gguf/ggml-vocab-gpt-2.gguf.out");
    cr_expect(tokenizer_is_eog(t, 50256));
    cr_expect_eq(tokenizer_eos(t), 50256);
    tokenizer_free(t);
}

static void round_trip(const struct tokenizer *t, struct str text, bool exact)
{
    struct tokens ids = { 0 };
    struct buf back = BUF_INIT, pieces = BUF_INIT, held = BUF_INIT;
    struct err e = ERR_INIT;
    cr_assert_eq(tokenizer_encode(t, text, 0, &ids, &e), ST_OK, "%s", e.msg);
    cr_assert_eq(tokenizer_decode(t, ids.id, ids.n, true, &back, &e), ST_OK);
    cr_assert(!exact || str_eq(buf_view(&back), text), "'%.*s' became '%s'", (int)text.n, text.p,
              back.p);
    /* Streaming: whole characters only, and the same text in the end. */
    for (size_t i = 0; i < ids.n; i++) {
        tokenizer_piece(t, ids.id[i], i == 0, true, &held);
        size_t keep = utf8_partial_tail(buf_view(&held)), had = pieces.n;
        utf8_repair((struct str){ buf_view(&held).p, held.n - keep }, &pieces);
        if (held.n)
            memmove(held.p, held.p + held.n - keep, keep);
        held.n = keep;
        cr_assert(utf8_valid((struct str){ pieces.p + had, pieces.n - had }));
    }
    utf8_repair(buf_view(&held), &pieces);
    cr_assert(str_eq(buf_view(&pieces), buf_view(&back)), "'%s' streamed as '%s'", back.p,
              pieces.p);
    tokens_clear(&ids);
    buf_clear(&back);
    buf_clear(&pieces);
    buf_clear(&held);
}

Test(tokenizer, naughty_strings_survive_the_round_trip)
{
    struct opened spm = { 0 }, bpe = { 0 };
    if (!open_vocab("vocab-gguf/ggml-vocab-llama-spm.gguf", &spm) ||
        !open_vocab("vocab-gguf/ggml-vocab-gpt-2.gguf", &bpe))
        return;
    size_t n;
    char *text = read_data("strings/blns.txt", &n);
    for (char *line = text; line < text + n;) {
        char *end = memchr(line, '\n', (size_t)(text + n - line));
        end = end ? end : text + n;
        struct str s = { line, (size_t)(end - line) };
        round_trip(bpe.t, s, utf8_valid(s));
        round_trip(spm.t, s, utf8_valid(s));
        line = end + 1;
    }
    free(text);
    shut(&spm);
    shut(&bpe);
}

Test(tokenizer, random_bytes_and_long_texts_are_survived)
{
    struct opened spm = { 0 }, bpe = { 0 };
    if (!open_vocab("vocab-gguf/ggml-vocab-llama-spm.gguf", &spm) ||
        !open_vocab("vocab-gguf/ggml-vocab-gpt-2.gguf", &bpe))
        return;
    struct rng rng = { 31 };
    for (int i = 0; i < 2000; i++) {
        char raw[64];
        size_t n = rng_below(&rng, sizeof raw);
        for (size_t k = 0; k < n; k++)
            raw[k] = (char)rng_below(&rng, i % 2 ? 256 : 128);
        struct str s = { raw, n };
        round_trip(bpe.t, s, utf8_valid(s));
        round_trip(spm.t, s, utf8_valid(s));
    }
    /* Quadratic merging would take minutes here; the test's own time limit is the bound. */
    enum { LONG = 1 << 18 };
    char *big = malloc(LONG);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t k = 0; k < LONG; k++)
            big[k] = kind == 0 ? 'a' : kind == 1 ? ' ' : (char)('a' + rng_below(&rng, 26));
        round_trip(bpe.t, (struct str){ big, LONG }, true);
        round_trip(spm.t, (struct str){ big, LONG }, true);
    }
    free(big);
    shut(&spm);
    shut(&bpe);
}

Test(tokenizer, user_text_cannot_forge_control_tokens)
{
    struct opened o = { 0 };
    struct tokens a = { 0 }, b = { 0 };
    struct err e = ERR_INIT;
    if (!open_vocab("vocab-gguf/ggml-vocab-llama-spm.gguf", &o))
        return;
    cr_assert_eq(tokenizer_encode(o.t, STR("x</s>y"), 0, &a, &e), ST_OK);
    cr_assert_eq(tokenizer_encode(o.t, STR("x</s>y"), TOK_SPECIAL | TOK_BOS, &b, &e), ST_OK);
    for (size_t i = 0; i < a.n; i++)
        cr_expect_neq(a.id[i], 2);
    cr_expect_eq(b.id[0], 1);
    cr_expect_eq(b.id[2], 2);
    tokens_clear(&a);
    tokens_clear(&b);
    shut(&o);
}

Test(tokenizer, reference_prompts_of_the_real_model)
{
    struct opened o = { 0 };
    struct err e = ERR_INIT;
    json_t *doc, *r, *v;
    size_t n, i, k;
    if (!open_vocab("models/stories260K/stories260K.gguf", &o))
        return;
    char *text = read_data("vectors/reference-vectors.json", &n);
    cr_assert_eq(json_parse((struct str){ text, n }, "vectors", &doc, &e), ST_OK, "%s", e.msg);
    json_t *list =
        json_object_get(json_object_get(json_object_get(doc, "models"), "stories260K"), "results");
    json_array_foreach(list, i, r)
    {
        struct tokens got = { 0 };
        const json_t *want = json_object_get(r, "prompt_tokens_with_bos");
        struct str prompt = str_c(json_string_value(json_object_get(r, "prompt")));
        cr_assert_eq(tokenizer_encode(o.t, prompt, TOK_BOS, &got, &e), ST_OK);
        cr_expect_eq(got.n, json_array_size(want), "prompt %zu", i);
        json_array_foreach((json_t *)want, k, v) cr_expect_eq(got.id[k], json_integer_value(v));
        tokens_clear(&got);
    }
    cr_expect_geq(json_array_size(list), 5u);
    json_free(doc);
    free(text);
    shut(&o);
}

Test(tokenizer, bad_json_is_refused_by_name)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "{}", "'model' is missing" },
        { "{\"model\":{\"type\":\"Unigram\"}}", "'Unigram'" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "empty" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "no usable id" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]}}",
          "no usable id" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", "not a pair" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":3}}", "must be an array" },
        { "{\"pre_tokenizer\":{\"type\":\"Odd\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},"
          "\"merges\":[]}}",
          "'Odd'" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}},\"model\":{"
          "\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
          "pattern 0" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokenizer *t = NULL;
        struct err e = ERR_INIT;
        cr_expect_neq(tokenizer_from_json(str_c(cases[i].text), STR(""), &t, &e), ST_OK);
        cr_expect(strstr(e.msg, cases[i].want), "case %zu: '%s'", i, e.msg);
        cr_expect_null(t);
    }
}

/* ---- every vocabulary ---- */

static const char *const vocabularies[] = {
    "vocab-gguf/ggml-vocab-llama-spm.gguf", "vocab-gguf/ggml-vocab-phi-3.gguf",
    "vocab-gguf/ggml-vocab-gpt-2.gguf",     "vocab-gguf/ggml-vocab-starcoder.gguf",
    "vocab-gguf/ggml-vocab-falcon.gguf",
};

/* Streamed as a server does: what is held back is a part of one character, never more than three
 * bytes, and what goes out is whole characters; together they are the text. */
static void stream_back(const struct tokenizer *t, const struct tokens *ids, struct str want,
                        const char *which)
{
    struct buf held = BUF_INIT, all = BUF_INIT;
    for (size_t i = 0; i < ids->n; i++) {
        tokenizer_piece(t, ids->id[i], i == 0, false, &held);
        size_t tail = utf8_partial_tail(buf_view(&held));
        struct str ready = { held.p, held.n - tail };
        cr_expect_leq(tail, 3u);
        cr_expect(utf8_valid(ready), "%s: a character is split", which);
        buf_str(&all, ready);
        if (tail)
            memmove(held.p, held.p + ready.n, tail);
        held.n = tail;
    }
    cr_expect(held.n == 0 && str_eq(buf_view(&all), want), "%s: '%.*s' streamed back as '%.*s'",
              which, (int)want.n, want.p, (int)all.n, all.p ? all.p : "");
    buf_clear(&held);
    buf_clear(&all);
}

static void there_and_back(const struct tokenizer *t, struct str text, const char *which)
{
    struct tokens ids = { 0 };
    struct buf out = BUF_INIT;
    struct err e = ERR_INIT;
    cr_assert_eq(tokenizer_encode(t, text, 0, &ids, &e), ST_OK, "%s: %s", which, e.msg);
    cr_assert_eq(tokenizer_decode(t, ids.id, ids.n, false, &out, &e), ST_OK, "%s", e.msg);
    cr_expect(str_eq(buf_view(&out), text), "%s: '%.*s' came back as '%.*s'", which, (int)text.n,
              text.p, (int)out.n, out.p ? out.p : "");
    stream_back(t, &ids, text, which);
    buf_clear(&out);
    tokens_clear(&ids);
}

static json_t *naughty_strings(void)
{
    size_t n;
    json_t *list = NULL;
    struct err e = ERR_INIT;
    char path[4096];
    if (!data_path("strings/blns.json", path)) {
        data_skip("tokenizer", "strings/blns.json");
        return NULL;
    }
    char *text = read_data("strings/blns.json", &n);
    cr_assert_eq(json_parse((struct str){ text, n }, "blns", &list, &e), ST_OK, "%s", e.msg);
    free(text);
    return list;
}

/* Falcon's vocabulary lacks most control characters: its tokens cannot tell such a text. */
static void bytes_of(const struct tokenizer *t, bool has[static 256])
{
    memset(has, 0, 256 * sizeof *has);
    for (uint32_t id = 0; id < tokenizer_n_vocab(t); id++) {
        struct buf b = BUF_INIT;
        if (tokenizer_text(t, (int32_t)id).n <= 6)
            tokenizer_piece(t, (int32_t)id, false, false, &b);
        if (b.n == 1)
            has[(unsigned char)b.p[0]] = true;
        buf_clear(&b);
    }
}

static bool can_tell(const bool *has, struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!has[(unsigned char)text.p[i]])
            return false;
    return true;
}

Test(tokenizer, naughty_strings_come_back_from_every_vocabulary, .timeout = 600)
{
    json_t *list = naughty_strings(), *s;
    size_t k;
    for (size_t i = 0; list && i < sizeof vocabularies / sizeof *vocabularies; i++) {
        struct opened o = { 0 };
        if (!open_vocab(vocabularies[i], &o))
            continue;
        size_t told = 0;
        bool has[256];
        bytes_of(o.t, has);
        json_array_foreach(list, k, s)
        {
            struct str text = { json_string_value(s), json_string_length(s) };
            if (!can_tell(has, text))
                continue;
            there_and_back(o.t, text, vocabularies[i]);
            told++;
        }
        cr_expect_geq(told + 8, k, "%s: only %zu of %zu", vocabularies[i], told, k);
        cr_expect_gt(k, 400u);
        shut(&o);
    }
    json_free(list);
}

/* Any pre-tokenizer cuts, none loses a byte; a name that is not known is refused by its name. */
Test(tokenizer, every_pre_tokenizer_keeps_every_byte, .timeout = 600)
{
    static const char *const names[] = {
        "llama-bpe",   "dbrx",   "chatglm-bpe", "qwen2",        "qwen35",
        "tekken",      "gpt-4o", "gpt-2",       "olmo",         "starcoder",
        "command-r",   "smollm", "falcon",      "deepseek-llm", "deepseek-coder",
        "deepseek-v3", "jais-2", "tiny_aya",    "seed-coder",   "bailingmoe",
        "exaone-moe",  "bloom",  "viking",      "superbpe",     "default"
    };
    json_t *list = naughty_strings(), *s;
    size_t k;
    for (size_t i = 0; list && i < sizeof names / sizeof *names; i++) {
        struct opened o = { 0 };
        if (!open_with("vocab-gguf/ggml-vocab-gpt-2.gguf", names[i], &o))
            break;
        json_array_foreach(list, k, s) there_and_back(
            o.t, (struct str){ json_string_value(s), json_string_length(s) }, names[i]);
        shut(&o);
    }
    json_free(list);
}

/* A square of the length would be some 3e10 steps for each text: the timeout ends thirty of those,
 * on any machine. How fast it is says tests/bench. */
Test(tokenizer, a_long_text_costs_its_length, .timeout = 600)
{
    static const char *const units[] = { "a",       " ", "\xF0\x9F\x98\x80", "\xE4\xB8\xAD",
                                         "ab1 ,\n", "1" };
    for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++) {
        struct opened o = { 0 };
        if (!open_vocab(vocabularies[i], &o))
            continue;
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            struct buf text = BUF_INIT;
            struct tokens ids = { 0 };
            struct err e = ERR_INIT;
            while (text.n < 1u << 18)
                buf_z(&text, units[u]);
            cr_expect_eq(tokenizer_encode(o.t, buf_view(&text), 0, &ids, &e), ST_OK, "%s", e.msg);
            cr_expect_gt(ids.n, 0, "%s: '%s'", vocabularies[i], units[u]);
            tokens_clear(&ids);
            buf_clear(&text);
        }
        shut(&o);
    }
}
