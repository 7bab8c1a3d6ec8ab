/* engine/train/bpe.c - see bpe.h. Owns the counted words and the form a vocabulary has in a file;
 * bpe_learn.c makes the merges. */
#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "engine/train/bpe_internal.h"
#include "engine/train/out_file.h"

#include <assert.h>
#include <stdlib.h>

enum {
    CHUNK = 1 << 20,  /* bytes of text that are cut into words at a time */
    WORDS_MIN = 16,   /* of max_words */
    SPECIAL_LEN = 200 /* bytes of a special token */
};

/* ---- creating ---- */

static enum status check_special(const struct bpe_opts *o, uint32_t i, struct err *err)
{
    struct str s = o->special[i];
    if (s.n == 0 || s.n > SPECIAL_LEN || !utf8_valid(s) || memchr(s.p, '\0', s.n))
        return err_set(err, ST_ARG, "special token %u: 1 to %d bytes of UTF-8 are allowed", i,
                       SPECIAL_LEN);
    for (uint32_t k = 0; k < i; k++)
        if (str_eq(s, o->special[k]))
            return err_set(err, ST_ARG, "special token '%.*s' is given twice", (int)s.n, s.p);
    return ST_OK;
}

static enum status check_opts(const struct bpe_opts *o, struct err *err)
{
    const struct {
        const char *name;
        uint32_t i;
    } ids[] = { { "bos", o->bos }, { "eos", o->eos }, { "pad", o->pad } };
    if (o->n_special > BPE_SPECIAL_MAX)
        return err_set(err, ST_ARG, "%u special tokens, at most %d are allowed", o->n_special,
                       BPE_SPECIAL_MAX);
    if (o->n_vocab < BPE_BYTES + o->n_special || o->n_vocab > BPE_VOCAB_MAX)
        return err_set(err, ST_ARG,
                       "a vocabulary of %u tokens: %u (256 bytes and the special tokens) to %d are "
                       "allowed",
                       o->n_vocab, BPE_BYTES + o->n_special, BPE_VOCAB_MAX);
    for (size_t i = 0; i < 3; i++)
        if (ids[i].i != UINT32_MAX && ids[i].i >= o->n_special)
            return err_set(err, ST_ARG, "%s is special token %u of %u", ids[i].name, ids[i].i,
                           o->n_special);
    if (o->add_bos && o->bos == UINT32_MAX)
        return err_set(err, ST_ARG, "prompts shall begin with bos, and there is none");
    for (uint32_t i = 0; i < o->n_special; i++)
        if (check_special(o, i, err) != ST_OK)
            return err->code;
    return ST_OK;
}

static int longer_first(const void *a, const void *b, void *ctx)
{
    const struct bpe *t = ctx;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    size_t nx = strlen(t->special[x]), ny = strlen(t->special[y]);
    return nx != ny ? (nx < ny) - (nx > ny) : (x > y) - (x < y);
}

static enum status copy_specials(struct bpe *b, const struct bpe_opts *o, struct err *err)
{
    b->special = calloc(o->n_special + 1, sizeof *b->special);
    b->by_length = calloc(o->n_special + 1, sizeof *b->by_length);
    if (!b->special || !b->by_length)
        return err_set(err, ST_NOMEM, "special tokens");
    for (; b->n_special < o->n_special; b->n_special++) {
        uint32_t i = b->n_special;
        b->special[i] = str_dup(o->special[i]);
        if (!b->special[i])
            return err_set(err, ST_NOMEM, "special tokens");
        b->by_length[i] = i;
        b->special_first[(uint8_t)b->special[i][0]] = true;
    }
    qsort_r(b->by_length, b->n_special, sizeof *b->by_length, longer_first, b);
    return ST_OK;
}

enum status bpe_create(const struct bpe_opts *o, struct bpe **ret, struct err *err)
{
    bool ignore_merges, add_bos;
    if (check_opts(o, err) != ST_OK)
        return err->code;
    struct bpe *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(err, ST_NOMEM, "vocabulary");
    b->n_vocab = o->n_vocab;
    b->max_words = o->max_words ? o->max_words : BPE_WORDS_MAX;
    b->bos = o->bos;
    b->eos = o->eos;
    b->pad = o->pad;
    b->add_bos = o->add_bos;
    snprintf(b->pre_name, sizeof b->pre_name, "%s", o->pre ? o->pre : BPE_PRE_DEFAULT);
    if (b->max_words < WORDS_MIN || b->max_words > BPE_WORDS_MAX) {
        err_set(err, ST_ARG, "%u different words: %d to %d can be counted", b->max_words, WORDS_MIN,
                BPE_WORDS_MAX);
        goto fail;
    }
    if (pretok_named(b->pre_name, &b->pre, &ignore_merges, &add_bos, err) != ST_OK ||
        copy_specials(b, o, err) != ST_OK)
        goto fail;
    if (o->chat_template.n && !(b->chat_template = str_dup(o->chat_template))) {
        err_set(err, ST_NOMEM, "chat template");
        goto fail;
    }
    *ret = b;
    return ST_OK;
fail:
    bpe_free(b);
    return err->code;
}

void bpe_free(struct bpe *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; b->special && i < b->n_special; i++)
        free(b->special[i]);
    free(b->special);
    free(b->by_length);
    free(b->chat_template);
    pretok_free(b->pre);
    free(b->word);
    free(b->slot);
    buf_clear(&b->pool);
    buf_clear(&b->text);
    free(b->token);
    free(b->merge);
    free(b);
}

/* ---- counting words ---- */

static struct str word_bytes(const struct bpe *b, const struct bpe_word *w)
{
    return (struct str){ b->pool.p + w->at, w->n };
}

/* The slot of a word, or the free one where it belongs. */
static uint32_t word_slot(const struct bpe *b, struct str s)
{
    uint32_t i = (uint32_t)rng_mix(hash_bytes(s.p, s.n)) & (b->n_slot - 1);
    while (b->slot[i] && !str_eq(word_bytes(b, &b->word[b->slot[i] - 1]), s))
        i = (i + 1) & (b->n_slot - 1);
    return i;
}

/* Room for one more word; the table stays at most half full. */
static enum status grow_words(struct bpe *b, struct err *err)
{
    if (b->n_word < b->cap_word)
        return ST_OK;
    uint32_t cap = b->cap_word ? 2 * b->cap_word : 1 << 12;
    struct bpe_word *w = realloc(b->word, cap * sizeof *w);
    if (!w)
        return err_set(err, ST_NOMEM, "%u different words", cap);
    b->word = w;
    uint32_t *slot = calloc(2 * (size_t)cap, sizeof *slot);
    if (!slot)
        return err_set(err, ST_NOMEM, "table of %u words", cap);
    free(b->slot);
    b->slot = slot;
    b->n_slot = 2 * cap;
    b->cap_word = cap;
    for (uint32_t i = 0; i < b->n_word; i++)
        slot[word_slot(b, word_bytes(b, &w[i]))] = i + 1;
    return ST_OK;
}

/* Keeps the words that occur more often than `least`, in their order. */
static void keep_above(struct bpe *b, uint64_t least)
{
    uint32_t n = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < b->n_word; i++) {
        struct bpe_word w = b->word[i];
        if (w.count <= least) {
            b->stats.n_forgotten++;
            continue;
        }
        memmove(b->pool.p + at, b->pool.p + w.at, w.n);
        w.at = (uint32_t)at;
        at += w.n;
        b->word[n++] = w;
    }
    b->n_word = n;
    b->pool.n = at;
    memset(b->slot, 0, b->n_slot * sizeof *b->slot);
    for (uint32_t i = 0; i < n; i++)
        b->slot[word_slot(b, word_bytes(b, &b->word[i]))] = i + 1;
}

/* At least a quarter of the room becomes free, so that this happens seldom. */
static void forget(struct bpe *b)
{
    for (uint64_t least = 1; b->n_word > b->max_words - b->max_words / 4; least *= 2)
        keep_above(b, least);
}

static enum status count_word(void *ctx, struct str s, struct err *err)
{
    struct bpe *b = ctx;
    b->stats.n_word++;
    b->stats.n_long += s.n > BPE_WORD_MAX;
    b->stats.counted_byte += s.n == 1;
    b->stats.counted_token += s.n == 1;
    if (s.n < 2 || s.n > BPE_WORD_MAX)
        return ST_OK; /* one byte has no pairs */
    if (grow_words(b, err) != ST_OK)
        return err->code;
    uint32_t i = word_slot(b, s);
    if (b->slot[i]) {
        b->word[b->slot[i] - 1].count++;
        return ST_OK;
    }
    if (b->n_word == b->max_words) {
        forget(b);
        i = word_slot(b, s);
    }
    struct bpe_word w = { .count = 1, .at = (uint32_t)b->pool.n, .n = (uint32_t)s.n };
    buf_put(&b->pool, s.p, s.n);
    if (buf_ok(&b->pool, "words", err) != ST_OK)
        return err->code;
    b->word[b->n_word++] = w;
    b->slot[i] = b->n_word;
    return ST_OK;
}

/* ---- cutting text ---- */

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Where a long text may be cut. No pattern joins a letter and the line's end behind it, nor looks
 * back over it; texts without such a place within half a chunk are cut at a blank, or anywhere. */
static size_t cut_at(struct str text)
{
    for (size_t i = CHUNK; i > CHUNK / 2; i--)
        if (text.p[i] == '\n' && letter(text.p[i - 1]))
            return i;
    for (size_t i = CHUNK; i > CHUNK / 2; i--)
        if (text.p[i] == '\n' || text.p[i] == ' ')
            return i;
    size_t i = CHUNK;
    while (i > CHUNK - 4 && ((uint8_t)text.p[i] & 0xC0) == 0x80)
        i--;
    return i;
}

static enum status add_chunk(struct bpe *b, struct str text, struct err *err)
{
    struct buf fixed = BUF_INIT;
    if (!utf8_valid(text)) {
        utf8_repair(text, &fixed);
        if (buf_ok(&fixed, "text", err) == ST_OK)
            pretok_split(b->pre, buf_view(&fixed), count_word, b, err);
    } else {
        pretok_split(b->pre, text, count_word, b, err);
    }
    buf_clear(&fixed);
    return err->code;
}

static enum status add_plain(struct bpe *b, struct str text, struct err *err)
{
    while (text.n && err->code == ST_OK) {
        size_t n = text.n > CHUNK ? cut_at(text) : text.n;
        add_chunk(b, (struct str){ text.p, n }, err);
        text.p += n;
        text.n -= n;
    }
    return err->code;
}

/* Bytes of the special token that text begins with; 0: none. */
static size_t special_at(const struct bpe *b, struct str text)
{
    if (!b->special_first[(uint8_t)text.p[0]])
        return 0;
    for (uint32_t i = 0; i < b->n_special; i++) {
        struct str s = str_c(b->special[b->by_length[i]]);
        if (str_starts(text, s))
            return s.n;
    }
    return 0;
}

enum status bpe_add_text(struct bpe *b, struct str text, struct err *err)
{
    assert(!b->learned);
    size_t start = 0;
    b->stats.n_byte += text.n;
    for (size_t at = 0; at < text.n;) {
        size_t n = special_at(b, (struct str){ text.p + at, text.n - at });
        if (n == 0) {
            at++;
            continue;
        }
        if (add_plain(b, (struct str){ text.p + start, at - start }, err) != ST_OK)
            return err->code;
        start = at += n;
    }
    return add_plain(b, (struct str){ text.p + start, text.n - start }, err);
}

/* ---- learning ---- */

/* A special token that text could give as well would not be special. */
static enum status check_apart(const struct bpe *b, struct err *err)
{
    struct buf mapped = BUF_INIT;
    for (uint32_t id = 0; id < b->n_token && err->code == ST_OK; id++) {
        buf_reset(&mapped);
        bytes_map(bpe_bytes(b, id), &mapped);
        if (buf_ok(&mapped, "vocabulary", err) != ST_OK)
            break;
        for (uint32_t i = 0; i < b->n_special; i++)
            if (str_is(buf_view(&mapped), b->special[i]))
                err_set(err, ST_ARG, "special token '%s' is also an ordinary one", b->special[i]);
    }
    buf_clear(&mapped);
    return err->code;
}

enum status bpe_learn(struct bpe *b, struct err *err)
{
    assert(!b->learned);
    b->learned = true;
    b->stats.n_distinct = b->n_word;
    if (bpe_merge_words(b, err) != ST_OK || check_apart(b, err) != ST_OK)
        return err->code;
    b->stats.n_vocab = b->n_vocab;
    b->stats.n_merge = b->n_merge;
    return ST_OK;
}

struct bpe_stats bpe_stats(const struct bpe *b)
{
    return b->stats;
}

struct str bpe_token(const struct bpe *b, uint32_t id)
{
    assert(id < b->n_token + b->n_special);
    return id < b->n_token ? bpe_bytes(b, id) : str_c(b->special[id - b->n_token]);
}

void bpe_merge(const struct bpe *b, uint32_t i, uint32_t *left, uint32_t *right)
{
    assert(i < b->n_merge);
    *left = b->merge[i].left;
    *right = b->merge[i].right;
}

/* ---- files ---- */

static void put_token(const struct bpe *b, uint32_t id, struct buf *out)
{
    if (id < b->n_token)
        bytes_map(bpe_bytes(b, id), out);
    else
        buf_z(out, b->special[id - b->n_token]);
}

/* Strings of an array: item i is appended to `all` by put. */
static bool put_strings(const struct bpe *b, struct gguf_writer *w, const char *key, uint32_t n,
                        void (*put)(const struct bpe *b, uint32_t i, struct buf *out))
{
    struct buf all = BUF_INIT;
    struct str *s = calloc((size_t)n + 1, sizeof *s);
    size_t from = 0;
    for (uint32_t i = 0; s && i < n; i++) {
        put(b, i, &all);
        s[i].n = all.n - from;
        from = all.n;
    }
    bool ok = s && !all.failed;
    from = 0;
    for (uint32_t i = 0; ok && i < n; i++) {
        s[i].p = all.p + from;
        from += s[i].n;
    }
    if (ok)
        gw_strs(w, key, s, n);
    free(s);
    buf_clear(&all);
    return ok;
}

static void put_merge(const struct bpe *b, uint32_t i, struct buf *out)
{
    put_token(b, b->merge[i].left, out);
    buf_char(out, ' ');
    put_token(b, b->merge[i].right, out);
}

static bool put_types(const struct bpe *b, struct gguf_writer *w)
{
    enum { NORMAL = 1, CONTROL = 3 }; /* model-formats.md 9.1 */
    int32_t *type = malloc((size_t)b->n_vocab * sizeof *type);
    if (!type)
        return false;
    for (uint32_t i = 0; i < b->n_vocab; i++)
        type[i] = i < b->n_token ? NORMAL : CONTROL;
    gw_array(w, "tokenizer.ggml.token_type", GGUF_I32, type, b->n_vocab,
             (size_t)b->n_vocab * sizeof *type);
    free(type);
    return true;
}

static uint32_t special_id(const struct bpe *b, uint32_t i)
{
    return i == UINT32_MAX ? UINT32_MAX : b->n_token + i;
}

void bpe_write_gguf(const struct bpe *b, struct gguf_writer *w)
{
    gw_str(w, "tokenizer.ggml.model", "gpt2");
    gw_str(w, "tokenizer.ggml.pre", b->pre_name);
    if (!put_strings(b, w, "tokenizer.ggml.tokens", b->n_vocab, put_token) || !put_types(b, w) ||
        !put_strings(b, w, "tokenizer.ggml.merges", b->n_merge, put_merge))
        w->kv.failed = true;
    gw_u32(w, "tokenizer.ggml.bos_token_id", special_id(b, b->bos));
    gw_u32(w, "tokenizer.ggml.eos_token_id", special_id(b, b->eos));
    if (b->pad != UINT32_MAX)
        gw_u32(w, "tokenizer.ggml.padding_token_id", special_id(b, b->pad));
    gw_bool(w, "tokenizer.ggml.add_bos_token", b->add_bos);
    if (b->chat_template)
        gw_str(w, "tokenizer.chat_template", b->chat_template);
}

enum status bpe_save(const struct bpe *b, const char *path, struct err *err)
{
    struct gguf_writer w;
    struct buf bytes = BUF_INIT;
    gw_init(&w);
    gw_str(&w, "general.architecture", "llama"); /* readers want one */
    gw_str(&w, "general.name", "vocabulary");
    bpe_write_gguf(b, &w);
    gw_bytes(&w, &bytes);
    bytes.failed |= w.kv.failed;
    gw_clear(&w);
    if (buf_ok(&bytes, "vocabulary file", err) == ST_OK)
        out_file_write(path, buf_view(&bytes), err);
    buf_clear(&bytes);
    return err->code;
}
