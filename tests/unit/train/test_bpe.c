/* tests/unit/train/test_bpe.c - vocabularies: the merges against a dull learner that counts
 * everything anew for every merge, and against a published reference; the saved file through the
 * engine's tokenizer. */
#include "engine/base/json.h"
#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "engine/model/pretok.h"
#include "engine/model/tokenizer.h"
#include "engine/train/bpe.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NO_SPECIAL .bos = UINT32_MAX, .eos = UINT32_MAX, .pad = UINT32_MAX

/* ---- a dull learner: every symbol of the text in order, all pairs counted for each merge ---- */

enum { DULL_TOKENS = 700, DULL_BREAK = -1 };

struct dull {
    int *sym; /* DULL_BREAK between words */
    size_t n, cap;
    struct str token[DULL_TOKENS]; /* malloc()ed */
    int n_token;
    int merge[DULL_TOKENS][2];
    int n_merge;
    uint64_t (*count)[DULL_TOKENS];
};

static void dull_put(struct dull *d, int sym)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 1 << 16;
        d->sym = realloc(d->sym, d->cap * sizeof *d->sym);
        cr_assert(d->sym);
    }
    d->sym[d->n++] = sym;
}

static enum status dull_word(void *ctx, struct str word, struct err *err)
{
    (void)err;
    for (size_t i = 0; i < word.n && word.n <= BPE_WORD_MAX; i++)
        dull_put(ctx, (unsigned char)word.p[i]);
    dull_put(ctx, DULL_BREAK);
    return ST_OK;
}

/* Specials in the order given: the tests' own do not overlap. */
static void dull_text(struct dull *d, const struct bpe_opts *o, struct str text)
{
    struct err err = ERR_INIT;
    struct pretok *pre;
    bool a, b;
    for (uint32_t i = 0; i < o->n_special; i++) {
        size_t at = str_find(text, o->special[i], 0);
        if (at == SIZE_MAX)
            continue;
        dull_text(d, o, (struct str){ text.p, at });
        at += o->special[i].n;
        dull_text(d, o, (struct str){ text.p + at, text.n - at });
        return;
    }
    cr_assert_eq(pretok_named(o->pre ? o->pre : "smollm", &pre, &a, &b, &err), ST_OK);
    cr_assert_eq(pretok_split(pre, text, dull_word, d, &err), ST_OK);
    pretok_free(pre);
}

static int compare(struct str a, struct str b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (int)a.n - (int)b.n;
}

static int dull_token(struct dull *d, struct str a, struct str b)
{
    char *both = malloc(a.n + b.n + 1);
    cr_assert(both);
    memcpy(both, a.p, a.n);
    memcpy(both + a.n, b.p, b.n);
    struct str s = { both, a.n + b.n };
    for (int i = 0; i < d->n_token; i++)
        if (str_eq(d->token[i], s)) {
            free(both);
            return i;
        }
    d->token[d->n_token] = s;
    return d->n_token++;
}

static bool dull_merge(struct dull *d)
{
    int x = -1, y = -1;
    memset(d->count, 0, sizeof *d->count * DULL_TOKENS);
    for (size_t i = 0; i + 1 < d->n; i++)
        if (d->sym[i] >= 0 && d->sym[i + 1] >= 0)
            d->count[d->sym[i]][d->sym[i + 1]]++;
    for (int a = 0; a < d->n_token; a++)
        for (int b = 0; b < d->n_token; b++) {
            uint64_t c = d->count[a][b], best = x < 0 ? 1 : d->count[x][y];
            int tie = x < 0 ? 0 : compare(d->token[a], d->token[x]);
            tie = tie || x < 0 ? tie : compare(d->token[b], d->token[y]);
            if (c > best || (c == best && x >= 0 && tie > 0))
                x = a, y = b;
        }
    if (x < 0)
        return false;
    int to = dull_token(d, d->token[x], d->token[y]);
    size_t n = 0;
    for (size_t i = 0; i < d->n; n++) {
        bool here = i + 1 < d->n && d->sym[i] == x && d->sym[i + 1] == y;
        d->sym[n] = here ? to : d->sym[i];
        i += here ? 2 : 1;
    }
    d->n = n;
    d->merge[d->n_merge][0] = x;
    d->merge[d->n_merge++][1] = y;
    return true;
}

static struct dull *dull_learn(const struct bpe_opts *o, const struct str *text, size_t n_text)
{
    struct dull *d = calloc(1, sizeof *d);
    cr_assert(d && o->n_vocab <= DULL_TOKENS);
    d->count = malloc(sizeof *d->count * DULL_TOKENS);
    cr_assert(d->count);
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        dull_token(d, (struct str){ &c, 1 }, (struct str){ "", 0 });
    }
    for (size_t i = 0; i < n_text; i++)
        dull_text(d, o, text[i]);
    while (d->n_token < (int)(o->n_vocab - o->n_special) && dull_merge(d))
        ;
    return d;
}

static void dull_free(struct dull *d)
{
    for (int i = 0; i < d->n_token; i++)
        free((char *)(uintptr_t)d->token[i].p);
    free(d->count);
    free(d->sym);
    free(d);
}

/* ---- the learner under test ---- */

static struct bpe *learn(const struct bpe_opts *o, const struct str *text, size_t n_text)
{
    struct err err = ERR_INIT;
    struct bpe *b = NULL;
    cr_assert_eq(bpe_create(o, &b, &err), ST_OK, "%s", err.msg);
    for (size_t i = 0; i < n_text; i++)
        cr_assert_eq(bpe_add_text(b, text[i], &err), ST_OK, "%s", err.msg);
    cr_assert_eq(bpe_learn(b, &err), ST_OK, "%s", err.msg);
    return b;
}

static void same_merges(const struct bpe_opts *o, const struct str *text, size_t n_text,
                        const char *what)
{
    struct bpe *b = learn(o, text, n_text);
    struct dull *d = dull_learn(o, text, n_text);
    cr_assert_eq((int)bpe_stats(b).n_merge, d->n_merge, "%s: %u merges, not %d", what,
                 bpe_stats(b).n_merge, d->n_merge);
    for (int i = 0; i < d->n_merge; i++) {
        uint32_t l, r;
        bpe_merge(b, (uint32_t)i, &l, &r);
        struct str gl = bpe_token(b, l), gr = bpe_token(b, r);
        struct str wl = d->token[d->merge[i][0]], wr = d->token[d->merge[i][1]];
        cr_assert(str_eq(gl, wl) && str_eq(gr, wr),
                  "%s: merge %d is '%.*s' '%.*s', not '%.*s' '%.*s'", what, i, (int)gl.n, gl.p,
                  (int)gr.n, gr.p, (int)wl.n, wl.p, (int)wr.n, wr.p);
    }
    for (int i = 0; i < d->n_token; i++)
        cr_assert(str_eq(bpe_token(b, (uint32_t)i), d->token[i]), "%s: token %d", what, i);
    dull_free(d);
    bpe_free(b);
}

static char *shared(const char *test, const char *rel, struct str *ret)
{
    char path[4096];
    size_t n = 0;
    if (!data_path(rel, path)) {
        data_skip(test, rel);
        return NULL;
    }
    char *p = data_read(path, &n);
    cr_assert(p, "%s", path);
    *ret = (struct str){ p, n };
    return p;
}

Test(bpe, merges_equal_those_of_a_learner_that_counts_anew_for_each, .timeout = 600)
{
    static const struct {
        const char *rel, *pre;
        uint32_t n_vocab;
    } rows[] = {
        { "text/names.txt", NULL, 500 },
        { "text/botchan.txt", NULL, 400 },
        { "text/tinystories-sample.txt", "gpt-2", 600 },
        { "tokenizers/bpe-train/german.txt", "llama3", 330 },
        { "tokenizers/bpe-train/address.txt", "qwen2", 400 },
        { "tokenizers/bpe-train/tinystories_sample.txt", NULL, 500 },
        { "text/tinyshakespeare.txt", NULL, 320 }, /* longer than what is cut at a time */
    };
    const struct str special[] = { STR("<|endoftext|>"), STR("ROMEO") };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str text;
        char *p = shared("merges", rows[i].rel, &text);
        struct bpe_opts o = { .n_vocab = rows[i].n_vocab,
                              .pre = rows[i].pre,
                              .special = special,
                              .n_special = 2,
                              NO_SPECIAL };
        if (p)
            same_merges(&o, &text, 1, rows[i].rel);
        free(p);
    }
}

/* Words over two or three letters: many ties, runs of one letter, strings that several merges make.
 */
Test(bpe, ties_runs_and_repeated_strings_are_decided_alike, .timeout = 600)
{
    for (uint64_t seed = 1; seed <= 21; seed++) {
        struct rng rng = { seed };
        struct buf text = BUF_INIT;
        unsigned letters = 2 + seed % 3, words = 20 + (unsigned)rng_below(&rng, 400);
        for (unsigned w = 0; w < words; w++) {
            unsigned n = 1 + (unsigned)rng_below(&rng, 14);
            for (unsigned k = 0; k < n; k++)
                buf_char(&text, (char)('a' + rng_below(&rng, letters)));
            buf_char(&text, ' ');
        }
        struct str all = buf_view(&text);
        struct bpe_opts probe = { .n_vocab = DULL_TOKENS, NO_SPECIAL };
        struct dull *d = dull_learn(&probe, &all, 1); /* as far as it goes */
        struct bpe_opts o = { .n_vocab = (uint32_t)d->n_token, NO_SPECIAL };
        char what[32];
        snprintf(what, sizeof what, "seed %d", (int)seed);
        same_merges(&o, &all, 1, what);
        dull_free(d);
        buf_clear(&text);
    }
}

static void mapped(const struct bpe *b, uint32_t id, struct buf *out)
{
    bytes_map(bpe_token(b, id), out);
}

/* A course's reference for GPT-2's rule: 500 tokens, one of them special. */
Test(bpe, a_published_reference_gives_the_same_merges_and_tokens)
{
    struct str text, merges, vocab;
    char *t = shared("reference", "tokenizers/bpe-train/corpus.en", &text);
    char *m = shared("reference", "tokenizers/bpe-train/train-bpe-reference-merges.txt", &merges);
    char *v = shared("reference", "tokenizers/bpe-train/train-bpe-reference-vocab.json", &vocab);
    const struct str special = STR("<|endoftext|>");
    struct bpe_opts o = {
        .n_vocab = 500, .pre = "gpt-2", .special = &special, .n_special = 1, NO_SPECIAL
    };
    struct err err = ERR_INIT;
    if (t && m && v) {
        struct bpe *b = learn(&o, &text, 1);
        struct buf line = BUF_INIT;
        const char *at = m;
        for (uint32_t i = 0; i < bpe_stats(b).n_merge; i++) {
            uint32_t l, r;
            bpe_merge(b, i, &l, &r);
            buf_reset(&line);
            mapped(b, l, &line);
            buf_char(&line, ' ');
            mapped(b, r, &line);
            size_t n = strcspn(at, "\n");
            cr_assert(str_eq(buf_view(&line), (struct str){ at, n }), "merge %u: '%s', not '%.*s'",
                      i, line.p, (int)n, at);
            at += n + (at[n] == '\n');
        }
        cr_expect_eq(*at, '\0', "the reference has more merges: '%.20s'", at);
        json_t *doc = NULL;
        cr_assert_eq(json_parse(vocab, "reference", &doc, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(json_object_size(doc), 500u);
        for (uint32_t id = 0; id < 500; id++) {
            buf_reset(&line);
            if (id < 499)
                mapped(b, id, &line);
            else
                buf_str(&line, bpe_token(b, id));
            cr_expect(json_object_get(doc, line.p), "token '%s'", line.p);
        }
        json_free(doc);
        buf_clear(&line);
        bpe_free(b);
    }
    free(t);
    free(m);
    free(v);
}

/* ---- through the tokenizer ---- */

static char dir[] = "/tmp/strobe-bpe-XXXXXX";

static void make_dir(void)
{
    cr_assert(mkdtemp(dir));
}

static const char *in_dir(const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", dir, name);
    return out;
}

static void drop_dir(void)
{
    char path[256];
    unlink(in_dir("v.gguf", path));
    unlink(in_dir("v.gguf.partial", path));
    rmdir(dir);
}

TestSuite(bpe_file, .init = make_dir, .fini = drop_dir);

struct opened {
    struct gguf *g;
    struct tokenizer *t;
};

static void open_saved(const struct bpe *b, struct opened *o)
{
    char path[256];
    struct err err = ERR_INIT;
    cr_assert_eq(bpe_save(b, in_dir("v.gguf", path), &err), ST_OK, "%s", err.msg);
    cr_assert_neq(access(in_dir("v.gguf.partial", path), F_OK), 0);
    cr_assert_eq(gguf_open(in_dir("v.gguf", path), &o->g, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(tokenizer_from_gguf(o->g, NULL, &o->t, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(tokenizer_warning(o->t), "");
}

static void shut(struct opened *o)
{
    tokenizer_free(o->t);
    gguf_close(o->g);
}

static const struct str specials[] = { STR("<|endoftext|>"), STR("<|user|>"), STR("<|end|>") };
static const struct bpe_opts chat_opts = { .n_vocab = 299,
                                           .special = specials,
                                           .n_special = 3,
                                           .bos = 0,
                                           .eos = 2,
                                           .pad = 0,
                                           .add_bos = true,
                                           .chat_template = { "{{ messages }}", 14 } };
static const char story[] =
    "Once upon a time there was a little girl. She had 12 apples, then 7 more: 12 + 7 = 19.\n"
    "<|endoftext|>Once upon a time there was a little boy. He had 30 pears and ate 4 of them.\n"
    "There was a time when the little girl and the little boy had the same number of them.\n";

static struct bpe *small_vocabulary(void)
{
    struct str text = STR(story);
    return learn(&chat_opts, &text, 1);
}

static void round_trip(const struct tokenizer *t, struct str text)
{
    struct err err = ERR_INIT;
    struct tokens ids = { 0 };
    struct buf back = BUF_INIT, want = BUF_INIT;
    utf8_repair(text, &want); /* what is no text is U+FFFD in every engine */
    cr_assert_eq(tokenizer_encode(t, text, 0, &ids, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(tokenizer_decode(t, ids.id, ids.n, false, &back, &err), ST_OK, "%s", err.msg);
    cr_assert(str_eq(buf_view(&back), buf_view(&want)), "'%.*s' came back as '%.*s'", (int)text.n,
              text.p, (int)back.n, back.p);
    tokens_clear(&ids);
    buf_clear(&back);
    buf_clear(&want);
}

Test(bpe_file, any_text_round_trips)
{
    struct bpe *b = small_vocabulary();
    struct opened o;
    struct rng rng = { 5 };
    struct err err = ERR_INIT;
    struct str naughty;
    open_saved(b, &o);
    char *p = shared("round trip", "strings/blns.json", &naughty);
    json_t *list = NULL;
    if (p)
        cr_assert_eq(json_parse(naughty, "strings", &list, &err), ST_OK, "%s", err.msg);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *s = json_array_get(list, i);
        round_trip(o.t, (struct str){ json_string_value(s), json_string_length(s) });
    }
    for (uint32_t cp = 1; cp < 0x11000; cp++) {
        char c[4];
        if (cp < 0xD800 || cp > 0xDFFF)
            round_trip(o.t, (struct str){ c, utf8_encode(cp, c) });
    }
    for (int i = 0; i < 2000; i++) { /* any bytes */
        char bytes[40];
        size_t n = (size_t)rng_below(&rng, sizeof bytes);
        for (size_t k = 0; k < n; k++)
            bytes[k] = (char)rng_u64(&rng);
        round_trip(o.t, (struct str){ bytes, n });
    }
    json_free(list);
    free(p);
    shut(&o);
    bpe_free(b);
}

Test(bpe_file, tokens_of_the_training_text_are_the_learned_ones)
{
    struct bpe *b = small_vocabulary();
    struct opened o;
    struct err err = ERR_INIT;
    struct tokens ids = { 0 };
    open_saved(b, &o);
    cr_expect_str_eq(tokenizer_kind(o.t), "bpe");
    cr_expect_str_eq(tokenizer_pre(o.t), BPE_PRE_DEFAULT);
    cr_assert_eq(tokenizer_encode(o.t, STR(" little little"), 0, &ids, &err), ST_OK);
    cr_assert_eq(ids.n, 2u, "%zu tokens for a frequent word twice", ids.n);
    cr_expect(str_is(bpe_token(b, (uint32_t)ids.id[0]), " little"));
    tokens_clear(&ids);
    shut(&o);
    bpe_free(b);
}

/* The model that is shipped does sums: a number must be its digits, whatever stands around it. */
Test(bpe_file, every_digit_is_a_token)
{
    struct buf text = BUF_INIT;
    for (int i = 0; i < 3000; i++) /* numbers that occur often enough to be merged, if they could */
        buf_printf(&text, "The year 1999 and 12+12=24, x12y %d\n", i % 10 * 1111);
    struct str all = buf_view(&text);
    struct bpe_opts opts = { .n_vocab = 266, NO_SPECIAL };
    struct bpe *b = learn(&opts, &all, 1);
    struct opened o;
    struct err err = ERR_INIT;
    struct tokens ids = { 0 };
    open_saved(b, &o);
    cr_assert_eq(tokenizer_encode(o.t, STR("In 1999: 12+12=24 (x12y)\n5555"), 0, &ids, &err),
                 ST_OK);
    int digits = 0;
    for (size_t i = 0; i < ids.n; i++) {
        struct str s = bpe_token(b, (uint32_t)ids.id[i]);
        bool has = false;
        for (size_t k = 0; k < s.n; k++)
            has |= s.p[k] >= '0' && s.p[k] <= '9';
        digits += has;
        cr_expect(!has || s.n == 1, "token '%.*s'", (int)s.n, s.p);
    }
    cr_expect_eq(digits, 4 + 6 + 2 + 4);
    tokens_clear(&ids);
    buf_clear(&text);
    shut(&o);
    bpe_free(b);
}

Test(bpe_file, special_tokens_are_the_last_ids_and_control)
{
    struct bpe *b = small_vocabulary();
    struct opened o;
    struct err err = ERR_INIT;
    struct tokens ids = { 0 };
    open_saved(b, &o);
    cr_expect_eq(tokenizer_n_vocab(o.t), 299u);
    cr_expect_eq(tokenizer_bos(o.t), 296);
    cr_expect_eq(tokenizer_eos(o.t), 298);
    cr_expect(tokenizer_adds_bos(o.t));
    cr_expect(tokenizer_is_eog(o.t, 298));
    cr_expect(str_is(tokenizer_chat_template(o.t, NULL), "{{ messages }}"));
    for (int32_t i = 0; i < 3; i++)
        cr_expect(str_eq(tokenizer_text(o.t, 296 + i), specials[i]));
    cr_assert_eq(tokenizer_encode(o.t, STR("<|user|>a<|end|>"), TOK_BOS | TOK_SPECIAL, &ids, &err),
                 ST_OK);
    const int32_t want[] = { 296, 297, 'a', 298 };
    cr_assert_eq(ids.n, 4u);
    cr_expect_arr_eq(ids.id, want, sizeof want);
    ids.n = 0;
    cr_assert_eq(tokenizer_encode(o.t, STR("<|user|>"), 0, &ids, &err), ST_OK);
    for (size_t i = 0; i < ids.n; i++)
        cr_expect_lt(ids.id[i], 296, "text alone must not give a special token");
    int64_t pad = -1;
    cr_assert_eq(gguf_get_i64(o.g, "tokenizer.ggml.padding_token_id", true, 0, 400, &pad, &err),
                 ST_OK, "%s", err.msg);
    cr_expect_eq(pad, 296);
    tokens_clear(&ids);
    shut(&o);
    bpe_free(b);
}

Test(bpe_file, without_special_tokens_none_begins_or_ends_a_text)
{
    struct str text = STR(story);
    struct bpe_opts opts = { .n_vocab = 297, NO_SPECIAL };
    struct bpe *b = learn(&opts, &text, 1);
    struct opened o;
    open_saved(b, &o);
    cr_expect_eq(tokenizer_bos(o.t), -1);
    cr_expect_eq(tokenizer_eos(o.t), -1);
    cr_expect_not(tokenizer_adds_bos(o.t));
    for (int32_t i = 0; i < 297; i++)
        cr_expect_not(tokenizer_is_eog(o.t, i));
    shut(&o);
    bpe_free(b);
}

Test(bpe_file, a_file_that_cannot_be_written_leaves_nothing)
{
    struct bpe *b = small_vocabulary();
    struct err err = ERR_INIT;
    char path[256];
    cr_expect_eq(bpe_save(b, in_dir("no/such/v.gguf", path), &err), ST_NOTFOUND, "%s", err.msg);
    cr_expect(strstr(err.msg, "v.gguf"), "%s", err.msg);
    err_clear(&err);
    cr_expect_eq(bpe_save(b, dir, &err), ST_ARG, "a folder is in the way: %s", err.msg);
    snprintf(path, sizeof path, "%s.partial", dir);
    cr_expect_neq(access(path, F_OK), 0);
    bpe_free(b);
}

/* ---- bounds ---- */

Test(bpe, a_text_with_too_few_pairs_says_how_many_tokens_it_gives)
{
    struct str text = STR("abab abab cd cd xy");
    struct err err = ERR_INIT;
    struct bpe *b;
    struct bpe_opts o = { .n_vocab = 1000, .special = specials, .n_special = 1, NO_SPECIAL };
    cr_assert_eq(bpe_create(&o, &b, &err), ST_OK);
    cr_assert_eq(bpe_add_text(b, text, &err), ST_OK);
    cr_expect_eq(bpe_learn(b, &err), ST_ARG);
    /* ab, abab, "cd", " cd", " abab": xy and what follows occur once */
    cr_expect(strstr(err.msg, "of 261 tokens"), "%s", err.msg);
    bpe_free(b);
    o.n_vocab = 261;
    same_merges(&o, &text, 1, "all there is");
}

Test(bpe, options_out_of_bounds_are_refused)
{
    const struct str bad_utf8 = { "\xC3", 1 }, empty = { "", 0 }, twice[] = { STR("a"), STR("a") };
    const struct {
        struct bpe_opts o;
        enum status want;
        const char *text;
    } rows[] = {
        { { .n_vocab = 255, NO_SPECIAL }, ST_ARG, "256" },
        { { .n_vocab = 257, .special = specials, .n_special = 3, NO_SPECIAL }, ST_ARG, "259" },
        { { .n_vocab = BPE_VOCAB_MAX + 1, NO_SPECIAL }, ST_ARG, "allowed" },
        { { .n_vocab = 300, .pre = "nobody's", NO_SPECIAL }, ST_UNSUPPORTED, "nobody's" },
        { { .n_vocab = 300, .special = &bad_utf8, .n_special = 1, NO_SPECIAL }, ST_ARG, "UTF-8" },
        { { .n_vocab = 300, .special = &empty, .n_special = 1, NO_SPECIAL }, ST_ARG, "1 to 200" },
        { { .n_vocab = 300, .special = twice, .n_special = 2, NO_SPECIAL }, ST_ARG, "twice" },
        { { .n_vocab = 300, .bos = 0, .eos = UINT32_MAX, .pad = UINT32_MAX }, ST_ARG, "bos" },
        { { .n_vocab = 300, .add_bos = true, NO_SPECIAL }, ST_ARG, "bos" },
        { { .n_vocab = 300, .max_words = 3, NO_SPECIAL }, ST_ARG, "different words" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = ERR_INIT;
        struct bpe *b = NULL;
        cr_expect_eq(bpe_create(&rows[i].o, &b, &err), rows[i].want, "row %zu: %s", i, err.msg);
        cr_expect(strstr(err.msg, rows[i].text), "row %zu: %s", i, err.msg);
        cr_expect_null(b);
    }
}

Test(bpe, a_special_token_that_text_gives_too_is_refused)
{
    const struct str special = STR("zz"), text = STR("a zz zz zz");
    struct bpe_opts o = { .n_vocab = 258, .special = &special, .n_special = 1, NO_SPECIAL };
    struct err err = ERR_INIT;
    struct bpe *b;
    cr_assert_eq(bpe_create(&o, &b, &err), ST_OK);
    cr_assert_eq(bpe_add_text(b, text, &err), ST_OK);
    cr_expect_eq(bpe_learn(b, &err), ST_ARG, "cut out, 'zz' leaves no pair");
    bpe_free(b);
    err_clear(&err);
    const struct str letter = STR("a"), more = STR("bcbc bcbc bcbc");
    o.special = &letter;
    cr_assert_eq(bpe_create(&o, &b, &err), ST_OK);
    cr_assert_eq(bpe_add_text(b, more, &err), ST_OK);
    cr_expect_eq(bpe_learn(b, &err), ST_ARG);
    cr_expect(strstr(err.msg, "'a' is also an ordinary one"), "%s", err.msg);
    bpe_free(b);
}

/* With room for few words the frequent ones are kept, and the result is the same again. */
Test(bpe, with_little_room_rare_words_are_forgotten)
{
    struct rng rng = { 8 };
    struct buf text = BUF_INIT;
    for (int i = 0; i < 20000; i++) {
        buf_z(&text, i % 2 ? "\nfrequent" : "\ncommon");
        buf_printf(&text, " q%c%c%c", (int)('a' + rng_below(&rng, 26)),
                   (int)('a' + rng_below(&rng, 26)), (int)('a' + rng_below(&rng, 26)));
    }
    struct str all = buf_view(&text);
    struct bpe_opts o = { .n_vocab = 280, .max_words = 100, NO_SPECIAL };
    struct bpe *a = learn(&o, &all, 1), *b = learn(&o, &all, 1);
    bool found = false;
    cr_expect_gt(bpe_stats(a).n_forgotten, 10000u);
    cr_expect_leq(bpe_stats(a).n_distinct, 100u);
    for (uint32_t i = 0; i < 280; i++) {
        cr_expect(str_eq(bpe_token(a, i), bpe_token(b, i)));
        found |= str_is(bpe_token(a, i), "frequent");
    }
    cr_expect(found);
    bpe_free(a);
    bpe_free(b);
    buf_clear(&text);
}

Test(bpe, words_are_counted_with_their_limits)
{
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    struct bpe *b;
    struct bpe_opts o = { .n_vocab = 258, NO_SPECIAL };
    for (int i = 0; i < BPE_WORD_MAX + 1; i++)
        buf_char(&text, 'x');
    buf_z(&text, "\nab ab 7 ab");
    cr_assert_eq(bpe_create(&o, &b, &err), ST_OK);
    cr_assert_eq(bpe_add_text(b, buf_view(&text), &err), ST_OK);
    cr_assert_eq(bpe_learn(b, &err), ST_OK, "%s", err.msg);
    struct bpe_stats s = bpe_stats(b);
    cr_expect_eq(s.n_byte, text.n);
    cr_expect_eq(s.n_long, 1u);
    cr_expect_eq(s.n_word, 7u); /* xxx, "\n", ab, " ab", " ", 7, " ab" */
    cr_expect_eq(s.n_distinct, 2u);
    cr_expect_eq(s.counted_byte, 3u + 2 + 3 + 3); /* without xxx */
    cr_expect_eq(s.counted_token, 3u + 3);
    cr_expect(str_is(bpe_token(b, 256), "ab"));
    cr_expect(str_is(bpe_token(b, 257), " ab"));
    bpe_free(b);
    buf_clear(&text);
}

/* A text may come in parts, as long as no word is cut. */
Test(bpe, lines_may_come_one_by_one)
{
    struct str part[3], whole = STR(story);
    size_t n = 0;
    for (size_t from = 0; from < whole.n; n++) {
        size_t end = str_find(whole, STR("\n"), from);
        part[n] = (struct str){ whole.p + from, end + 1 - from };
        from = end + 1;
    }
    struct bpe *a = learn(&chat_opts, &whole, 1), *b = learn(&chat_opts, part, n);
    for (uint32_t i = 0; i < chat_opts.n_vocab; i++)
        cr_expect(str_eq(bpe_token(a, i), bpe_token(b, i)), "token %u", i);
    bpe_free(a);
    bpe_free(b);
}
