/* engine/model/tokenizer.c - vocabulary tables, special tokens, encoding and decoding. */
#include "engine/model/tokenizer.h"

#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/base/utf8.h"
#include "engine/model/tokenizer_internal.h"

#include <stdarg.h>
#include <stdlib.h>

static const char spm_space[] = "\xE2\x96\x81"; /* U+2581 */

/* ---- token lists ---- */

void tokens_clear(struct tokens *t)
{
    free(t->id);
    *t = (struct tokens){ 0 };
}

enum status tokens_push(struct tokens *t, int32_t id, struct err *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        int32_t *p = realloc(t->id, cap * sizeof *p);
        if (!p)
            return err_set(err, ST_NOMEM, "list of tokens");
        t->id = p;
        t->cap = cap;
    }
    t->id[t->n++] = id;
    return ST_OK;
}

/* ---- building ---- */

void tok_warn(struct tokenizer *t, const char *fmt, ...)
{
    if (t->warning[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->warning, sizeof t->warning, fmt, ap);
    va_end(ap);
}

static uint32_t table_size(uint64_t n)
{
    uint32_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

enum status tok_reserve(struct tokenizer *t, uint32_t n, size_t pool_bytes, struct err *err)
{
    if (n == 0 || n > 1u << 24 || pool_bytes > UINT32_MAX)
        return err_set(err, ST_FORMAT, "vocabulary of %u tokens", n);
    t->entry = calloc(n, sizeof *t->entry);
    t->pool = malloc(pool_bytes + 1);
    t->n = n;
    t->pool_n = pool_bytes;
    if (!t->entry || !t->pool)
        return err_set(err, ST_NOMEM, "vocabulary of %u tokens", n);
    return ST_OK;
}

enum status tok_set(struct tokenizer *t, uint32_t id, struct str piece, float score,
                    enum tok_type type, size_t *pool_used, struct err *err)
{
    if (id >= t->n || piece.n > t->pool_n - *pool_used)
        return err_set(err, ST_FORMAT, "token id %u is outside the vocabulary of %u", id, t->n);
    t->entry[id] = (struct tok_entry){
        .at = (uint32_t)*pool_used, .n = (uint32_t)piece.n, .score = score, .type = (uint8_t)type
    };
    if (piece.n)
        memcpy(t->pool + *pool_used, piece.p, piece.n);
    *pool_used += piece.n;
    return ST_OK;
}

struct str tok_piece(const struct tokenizer *t, int32_t id)
{
    if (id < 0 || (uint32_t)id >= t->n)
        return (struct str){ "", 0 };
    return (struct str){ t->pool + t->entry[id].at, t->entry[id].n };
}

/* The first of equal pieces wins. */
enum status tok_index(struct tokenizer *t, struct err *err)
{
    t->n_slot = table_size(t->n);
    t->slot = malloc(t->n_slot * sizeof *t->slot);
    if (!t->slot)
        return err_set(err, ST_NOMEM, "vocabulary table");
    for (uint32_t i = 0; i < t->n_slot; i++)
        t->slot[i] = -1;
    for (uint32_t id = 0; id < t->n; id++) {
        struct str p = tok_piece(t, (int32_t)id);
        if (p.n == 0 || tok_find(t, p) >= 0)
            continue;
        uint32_t i = (uint32_t)hash_bytes(p.p, p.n) & (t->n_slot - 1);
        while (t->slot[i] >= 0)
            i = (i + 1) & (t->n_slot - 1);
        t->slot[i] = (int32_t)id;
    }
    return ST_OK;
}

int32_t tok_find(const struct tokenizer *t, struct str piece)
{
    if (piece.n == 0)
        return -1;
    uint32_t i = (uint32_t)hash_bytes(piece.p, piece.n) & (t->n_slot - 1);
    for (; t->slot[i] >= 0; i = (i + 1) & (t->n_slot - 1))
        if (str_eq(tok_piece(t, t->slot[i]), piece))
            return t->slot[i];
    return -1;
}

enum status tok_reserve_merges(struct tokenizer *t, uint64_t n, struct err *err)
{
    if (n > 1u << 26)
        return err_set(err, ST_FORMAT, "%llu merges", (unsigned long long)n);
    t->n_merge_slot = table_size(n);
    t->merge = malloc(t->n_merge_slot * sizeof *t->merge);
    if (!t->merge)
        return err_set(err, ST_NOMEM, "merges");
    for (uint32_t i = 0; i < t->n_merge_slot; i++)
        t->merge[i].result = -1;
    return ST_OK;
}

static uint32_t pair_slot(const struct tokenizer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32) & (t->n_merge_slot - 1);
}

const struct merge *tok_merge(const struct tokenizer *t, int32_t left, int32_t right)
{
    if (!t->merge)
        return NULL;
    uint32_t i = pair_slot(t, left, right);
    for (; t->merge[i].result >= 0; i = (i + 1) & (t->n_merge_slot - 1))
        if (t->merge[i].left == left && t->merge[i].right == right)
            return &t->merge[i];
    return NULL;
}

bool tok_add_merge(struct tokenizer *t, struct str left, struct str right, uint32_t rank)
{
    char joined[1024];
    int32_t a = tok_find(t, left), b = tok_find(t, right);
    if (a < 0 || b < 0 || left.n + right.n > sizeof joined)
        return false;
    memcpy(joined, left.p, left.n);
    memcpy(joined + left.n, right.p, right.n);
    int32_t r = tok_find(t, (struct str){ joined, left.n + right.n });
    if (r < 0)
        return false;
    if (tok_merge(t, a, b))
        return true; /* the lower rank came first */
    uint32_t i = pair_slot(t, a, b);
    while (t->merge[i].result >= 0)
        i = (i + 1) & (t->n_merge_slot - 1);
    t->merge[i] = (struct merge){ a, b, r, rank };
    t->n_merge++;
    return true;
}

/* "<0xHH>", strictly; -1: it is not. */
static int byte_token(struct str s)
{
    static const char hex[] = "0123456789ABCDEF";
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    int v = 0;
    for (int i = 3; i < 5; i++) {
        char c = s.p[i] >= 'a' && s.p[i] <= 'f' ? (char)(s.p[i] - 32) : s.p[i];
        const char *at = c ? strchr(hex, c) : NULL;
        if (!at)
            return -1;
        v = v * 16 + (int)(at - hex);
    }
    return v;
}

static void find_bytes(struct tokenizer *t)
{
    for (int b = 0; b < 256; b++)
        t->byte_id[b] = -1;
    for (uint32_t id = 0; id < t->n && !t->byte_level; id++) {
        int b = byte_token(tok_piece(t, (int32_t)id));
        if (b >= 0 && (t->entry[id].type == TT_BYTE || t->byte_fallback))
            t->byte_id[b] = (int32_t)id;
    }
    for (int b = 0; b < 256 && t->byte_level; b++) {
        struct buf one = BUF_INIT;
        char raw = (char)b;
        bytes_map((struct str){ &raw, 1 }, &one);
        t->byte_id[b] = one.failed ? -1 : tok_find(t, buf_view(&one));
        buf_clear(&one);
    }
}

static int longer_first(const void *a, const void *b, void *tokenizer)
{
    const struct tokenizer *t = tokenizer;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    uint32_t nx = t->entry[x].n, ny = t->entry[y].n;
    return nx != ny ? (nx < ny) - (nx > ny) : (x > y) - (x < y);
}

static enum status find_specials(struct tokenizer *t, struct err *err)
{
    uint32_t n = 0;
    for (uint32_t id = 0; id < t->n; id++)
        n += t->entry[id].type == TT_CONTROL || t->entry[id].type == TT_USER ||
             t->entry[id].type == TT_UNKNOWN;
    t->special = malloc((n ? n : 1) * sizeof *t->special);
    if (!t->special)
        return err_set(err, ST_NOMEM, "special tokens");
    for (uint32_t id = 0; id < t->n; id++) {
        uint8_t type = t->entry[id].type;
        if ((type != TT_CONTROL && type != TT_USER && type != TT_UNKNOWN) || t->entry[id].n == 0)
            continue;
        t->special[t->n_special++] = (int32_t)id;
        t->special_first[(uint8_t)t->pool[t->entry[id].at]] = 1;
    }
    qsort_r(t->special, t->n_special, sizeof *t->special, longer_first, t);
    return ST_OK;
}

static enum status add_eog(struct tokenizer *t, int32_t id, struct err *err)
{
    if (id < 0 || (uint32_t)id >= t->n || tokenizer_is_eog(t, id))
        return ST_OK;
    int32_t *p = realloc(t->eog, (t->n_eog + 1) * sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "end tokens");
    t->eog = p;
    t->eog[t->n_eog++] = id;
    return ST_OK;
}

enum status tok_finish(struct tokenizer *t, struct err *err)
{
    /* \145 is e: a letter that could be a hexadecimal digit must not follow \x9C as it stands. */
    static const char *const ends[] = {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
        "<\xEF\xBD\x9C\145nd\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"
    };
    find_bytes(t);
    if (find_specials(t, err) != ST_OK || add_eog(t, t->eos, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        int32_t id = tok_find(t, str_c(ends[i]));
        if (id >= 0 && t->entry[id].type != TT_NORMAL && add_eog(t, id, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

enum status tok_add_chat(struct tokenizer *t, struct str name, struct str text, struct err *err)
{
    if (t->n_chat == 16)
        return ST_OK;
    struct named_template *p = realloc(t->chat, (t->n_chat + 1) * sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "chat template");
    t->chat = p;
    p[t->n_chat] = (struct named_template){ str_dup(name), str_dup(text) };
    if (!p[t->n_chat].name || !p[t->n_chat].text) {
        free(p[t->n_chat].name);
        free(p[t->n_chat].text);
        return err_set(err, ST_NOMEM, "chat template");
    }
    t->n_chat++;
    return ST_OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < t->n_chat; i++) {
        free(t->chat[i].name);
        free(t->chat[i].text);
    }
    pretok_free(t->pre);
    free(t->chat);
    free(t->entry);
    free(t->pool);
    free(t->slot);
    free(t->merge);
    free(t->special);
    free(t->eog);
    free(t);
}

/* ---- encoding ---- */

struct encode {
    const struct tokenizer *t;
    struct tokens *out;
};

static enum status bpe_word(void *ctx, struct str word, struct err *err)
{
    struct encode *e = ctx;
    struct buf mapped = BUF_INIT;
    if (!e->t->byte_level)
        return merge_bpe(e->t, word, e->out, err);
    bytes_map(word, &mapped);
    if (buf_ok(&mapped, "tokenizing", err) == ST_OK)
        merge_bpe(e->t, buf_view(&mapped), e->out, err);
    buf_clear(&mapped);
    return err->code;
}

static enum status encode_bpe(struct encode *e, struct str text, struct err *err)
{
    struct buf fixed = BUF_INIT;
    if (!utf8_valid(text)) {
        utf8_repair(text, &fixed);
        if (buf_ok(&fixed, "tokenizing", err) != ST_OK) {
            buf_clear(&fixed);
            return err->code;
        }
        text = buf_view(&fixed);
    }
    pretok_split(e->t->pre, text, bpe_word, e, err);
    buf_clear(&fixed);
    return err->code;
}

static enum status encode_spm(struct encode *e, struct str text, bool prefix, struct err *err)
{
    struct buf b = BUF_INIT;
    if (prefix)
        buf_z(&b, spm_space);
    for (size_t i = 0, start = 0; i <= text.n; i++)
        if (i == text.n || text.p[i] == ' ') {
            buf_put(&b, text.p + start, i - start);
            if (i < text.n)
                buf_z(&b, spm_space);
            start = i + 1;
        }
    if (buf_ok(&b, "tokenizing", err) == ST_OK)
        merge_spm(e->t, buf_view(&b), e->out, err);
    buf_clear(&b);
    return err->code;
}

static enum status encode_plain(struct encode *e, struct str text, bool after_special,
                                struct err *err)
{
    if (text.n == 0)
        return ST_OK;
    if (e->t->kind == TOK_SPM)
        return encode_spm(e, text, e->t->space_prefix && after_special, err);
    return encode_bpe(e, text, err);
}

/* The special token at text[at], or -1. */
static int32_t special_at(const struct tokenizer *t, struct str text, size_t at, unsigned flags)
{
    if (!t->special_first[(uint8_t)text.p[at]])
        return -1;
    for (uint32_t i = 0; i < t->n_special; i++) {
        int32_t id = t->special[i];
        struct str p = tok_piece(t, id);
        if (!(flags & TOK_SPECIAL) && t->entry[id].type != TT_USER)
            continue;
        if (p.n <= text.n - at && memcmp(text.p + at, p.p, p.n) == 0)
            return id;
    }
    return -1;
}

static bool blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

enum status tokenizer_encode(const struct tokenizer *t, struct str text, unsigned flags,
                             struct tokens *out, struct err *err)
{
    struct encode e = { t, out };
    if (text.n > TOKENIZER_TEXT_MAX)
        return err_set(err, ST_RANGE, "text of %zu bytes, at most %d can be tokenized", text.n,
                       TOKENIZER_TEXT_MAX);
    if ((flags & TOK_BOS) && t->add_bos && t->bos >= 0 && tokens_push(out, t->bos, err) != ST_OK)
        return err->code;
    size_t start = 0;
    bool after = true;
    for (size_t at = 0; at < text.n;) {
        int32_t id = special_at(t, text, at, flags);
        if (id < 0) {
            at++;
            continue;
        }
        size_t end = at;
        while ((t->entry[id].strip & TOK_LSTRIP) && end > start && blank(text.p[end - 1]))
            end--;
        if (encode_plain(&e, (struct str){ text.p + start, end - start }, after, err) != ST_OK ||
            tokens_push(out, id, err) != ST_OK)
            return err->code;
        at += t->entry[id].n;
        while ((t->entry[id].strip & TOK_RSTRIP) && at < text.n && blank(text.p[at]))
            at++;
        start = at;
        after = true;
    }
    if (encode_plain(&e, (struct str){ text.p + start, text.n - start }, after, err) != ST_OK)
        return err->code;
    if ((flags & TOK_BOS) && t->add_eos && t->eos >= 0)
        return tokens_push(out, t->eos, err);
    return ST_OK;
}

/* ---- decoding ---- */

static void put_spm(const struct tokenizer *t, struct str p, bool first, struct buf *out)
{
    if (first && t->space_prefix && str_starts(p, str_c(spm_space)))
        p = (struct str){ p.p + 3, p.n - 3 };
    for (size_t i = 0; i < p.n;) {
        if (p.n - i >= 3 && memcmp(p.p + i, spm_space, 3) == 0) {
            buf_char(out, ' ');
            i += 3;
        } else {
            buf_char(out, p.p[i++]);
        }
    }
}

static void put_mapped(struct str p, struct buf *out)
{
    uint32_t cp = 0;
    for (size_t i = 0, n; i < p.n; i += n) {
        n = utf8_decode(p.p + i, p.n - i, &cp);
        int b = n ? cp_to_byte(cp) : -1;
        if (b >= 0)
            buf_char(out, (char)b);
        else
            buf_put(out, p.p + i, n ? n : 1);
        n = n ? n : 1;
    }
}

void tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special,
                     struct buf *out)
{
    if (id < 0 || (uint32_t)id >= t->n)
        return;
    struct str p = tok_piece(t, id);
    uint8_t type = t->entry[id].type;
    if (type == TT_CONTROL || type == TT_UNKNOWN) {
        if (special)
            buf_str(out, p);
        return;
    }
    int b = t->byte_level || type == TT_USER ? -1 : byte_token(p);
    if (b >= 0 && t->byte_id[b] == id)
        buf_char(out, (char)b);
    else if (type == TT_USER && t->byte_level)
        buf_str(out, p);
    else if (t->byte_level)
        put_mapped(p, out);
    else
        put_spm(t, p, first, out);
}

enum status tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool special,
                             struct buf *out, struct err *err)
{
    struct buf raw = BUF_INIT;
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        tokenizer_piece(t, id[i], first, special, &raw);
        /* BOS stands before the text: the first word still loses its prefix blank. */
        if (id[i] >= 0 && (uint32_t)id[i] < t->n && t->entry[id[i]].type != TT_CONTROL)
            first = false;
    }
    utf8_repair(buf_view(&raw), out);
    out->failed |= raw.failed;
    buf_clear(&raw);
    return buf_ok(out, "text", err);
}

/* ---- facts ---- */

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return t->n;
}
int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}
int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    for (uint32_t i = 0; i < t->n_eog; i++)
        if (t->eog[i] == id)
            return true;
    return false;
}
bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->add_bos && t->bos >= 0;
}
struct str tokenizer_text(const struct tokenizer *t, int32_t id)
{
    return tok_piece(t, id);
}
const char *tokenizer_kind(const struct tokenizer *t)
{
    return t->kind == TOK_SPM ? "spm" : "bpe";
}
const char *tokenizer_pre(const struct tokenizer *t)
{
    return t->pre_name;
}
struct str tokenizer_chat_template(const struct tokenizer *t, const char *name)
{
    for (uint32_t i = 0; i < t->n_chat; i++)
        if (strcmp(t->chat[i].name, name ? name : "default") == 0)
            return str_c(t->chat[i].text);
    return (struct str){ "", 0 };
}
const char *tokenizer_warning(const struct tokenizer *t)
{
    return t->warning;
}
size_t tokenizer_bytes(const struct tokenizer *t)
{
    return sizeof *t + t->n * sizeof *t->entry + t->pool_n + t->n_slot * sizeof *t->slot +
           t->n_merge_slot * sizeof *t->merge + t->n_special * sizeof *t->special;
}
