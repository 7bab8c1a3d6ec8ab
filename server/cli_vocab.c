/* server/cli_vocab.c - `strobe vocab`: learns a byte-level BPE vocabulary from text files. Files
 * are read a block at a time, so that their size does not matter. */
#include "engine/base/num.h"
#include "engine/base/utf8.h"
#include "engine/train/bpe.h"
#include "server/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 16 << 20 };

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* How much of a text with more to come may be used: to a line's end behind a letter, else to any
 * line's end or blank, else all (bpe.c cuts in the same places). */
static size_t usable(struct str text)
{
    size_t least = text.n / 2;
    for (size_t i = text.n; i > least; i--)
        if (text.p[i - 1] == '\n' && i > 1 && letter(text.p[i - 2]))
            return i - 1;
    for (size_t i = text.n; i > least; i--)
        if (text.p[i - 1] == '\n' || text.p[i - 1] == ' ')
            return i - 1;
    return text.n - utf8_partial_tail(text);
}

struct reading {
    struct cli *c;
    struct bpe *b;
    struct buf text; /* read, not yet counted */
    uint64_t done, total;
};

static enum status count(struct reading *r, size_t n, struct err *err)
{
    if (bpe_add_text(r->b, (struct str){ r->text.p, n }, err) != ST_OK)
        return err->code;
    memmove(r->text.p, r->text.p + n, r->text.n - n);
    r->text.n -= n;
    r->done += n;
    cli_progress(r->c, "reading", r->done, r->total > r->done ? r->total : r->done);
    return ST_OK;
}

static enum status read_fd(struct reading *r, int fd, struct err *err)
{
    for (;;) {
        char *room = buf_room(&r->text, BLOCK);
        if (!room)
            return buf_ok(&r->text, "text", err);
        ssize_t n = read(fd, room, BLOCK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_input(err, errno, "read");
        r->text.n += (size_t)n;
        if (n == 0)
            return r->text.n ? count(r, r->text.n, err) : ST_OK;
        if (r->text.n >= BLOCK && count(r, usable(buf_view(&r->text)), err) != ST_OK)
            return err->code;
    }
}

static enum status read_file(struct reading *r, const char *path, struct err *err)
{
    bool in = strcmp(path, "-") == 0;
    int fd = in ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err_input(err, errno, "open");
    else
        read_fd(r, fd, err);
    if (fd >= 0 && !in)
        close(fd);
    return err->code ? err_ctx(err, "'%s'", path) : ST_OK;
}

/* ---- options ---- */

struct vocab_opts {
    struct opt_strs text, special;
    const char *out, *pre, *bos, *eos, *pad, *chat_template;
    uint64_t n_vocab, max_words;
    bool add_bos;
};

static const char *const default_special = "<|endoftext|>";

/* The index of a special token; UINT32_MAX for NULL. */
static enum status index_of(const struct vocab_opts *v, const char *what, const char *text,
                            uint32_t *ret, struct err *err)
{
    *ret = UINT32_MAX;
    for (uint32_t i = 0; text && i < v->special.n; i++)
        if (strcmp(v->special.v[i], text) == 0)
            *ret = i;
    if (text && *ret == UINT32_MAX)
        return err_set(err, ST_ARG, "--%s: '%s' is none of the special tokens", what, text);
    return ST_OK;
}

static enum status fill(struct vocab_opts *v, struct bpe_opts *o, struct str special[OPT_STRS_MAX],
                        struct buf *chat, struct err *err)
{
    if (v->special.n == 0)
        v->special.v[v->special.n++] = default_special;
    for (size_t i = 0; i < v->special.n; i++)
        special[i] = str_c(v->special.v[i]);
    *o = (struct bpe_opts){ .n_vocab = (uint32_t)v->n_vocab,
                            .pre = v->pre,
                            .special = special,
                            .n_special = (uint32_t)v->special.n,
                            .add_bos = v->add_bos,
                            .max_words = (uint32_t)v->max_words };
    const char *end = strcmp(v->special.v[0], default_special) == 0 ? default_special : NULL;
    if (index_of(v, "bos", v->bos ? v->bos : end, &o->bos, err) != ST_OK ||
        index_of(v, "eos", v->eos ? v->eos : end, &o->eos, err) != ST_OK ||
        index_of(v, "pad", v->pad, &o->pad, err) != ST_OK)
        return err->code;
    if (v->chat_template && cli_read_all(v->chat_template, 1 << 20, chat, err) != ST_OK)
        return err->code;
    o->chat_template = buf_view(chat);
    return ST_OK;
}

static enum status print_report(struct cli *c, const struct vocab_opts *v, const struct bpe *b,
                                struct err *err)
{
    struct bpe_stats s = bpe_stats(b);
    double yield = s.counted_token ? (double)s.counted_byte / (double)s.counted_token : 0;
    const char *pre = v->pre ? v->pre : BPE_PRE_DEFAULT;
    char size[32];
    if (!c->json) {
        printf("%s: %u tokens from %s, %llu words (%llu different), %.2f bytes a token\n", v->out,
               s.n_vocab, num_size_text(s.n_byte, size), (unsigned long long)s.n_word,
               (unsigned long long)s.n_distinct, yield);
        return ST_OK;
    }
    json_t *special = json_array();
    for (size_t i = 0; special && i < v->special.n; i++)
        json_array_append_new(special, json_text(str_c(v->special.v[i])));
    return cli_print_json(
        json_pack("{s:s, s:s, s:i, s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:f}", "file", v->out, "pre",
                  pre, "vocabulary", (int)s.n_vocab, "merges", (int)s.n_merge, "special", special,
                  "bytes", (json_int_t)s.n_byte, "words", (json_int_t)s.n_word, "distinct_words",
                  (json_int_t)s.n_distinct, "forgotten_words", (json_int_t)s.n_forgotten,
                  "long_words", (json_int_t)s.n_long, "bytes_per_token", yield),
        err);
}

static enum status learn(struct cli *c, const struct vocab_opts *v, const struct bpe_opts *o,
                         struct err *err)
{
    struct reading r = { .c = c };
    struct stat sb;
    if (bpe_create(o, &r.b, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < v->text.n; i++)
        r.total += stat(v->text.v[i], &sb) == 0 ? (uint64_t)sb.st_size : 0;
    for (size_t i = 0; i < v->text.n && err->code == ST_OK; i++)
        read_file(&r, v->text.v[i], err);
    buf_clear(&r.text);
    if (err->code == ST_OK && bpe_learn(r.b, err) == ST_OK && bpe_save(r.b, v->out, err) == ST_OK) {
        cli_progress_end(c);
        print_report(c, v, r.b, err);
    }
    bpe_free(r.b);
    return err->code;
}

static void options(struct cli_opts *o, struct vocab_opts *v)
{
    cli_opt(o,
            (struct opt){ "text", 0, OPT_STRS, &v->text, 0, 0, "FILE",
                          "text to learn from, UTF-8; may be repeated, more may follow as words, "
                          "- reads standard input" });
    cli_opt(o, (struct opt){ "n-vocab", 0, OPT_COUNT, &v->n_vocab, 256, BPE_VOCAB_MAX, "N",
                             "tokens: 256 bytes, merges, special tokens" });
    cli_opt(o, (struct opt){ "output", 'o', OPT_STR, &v->out, 0, 0, "FILE",
                             "vocabulary-only GGUF file" });
    cli_opt(o, (struct opt){ "special", 0, OPT_STRS, &v->special, 0, 0, "TEXT",
                             "special token; may be repeated, their ids are the last ones in this "
                             "order (default: <|endoftext|>)" });
    cli_opt(o, (struct opt){ "bos", 0, OPT_STR, &v->bos, 0, 0, "TEXT",
                             "the special token that begins a text (default: <|endoftext|> where "
                             "it is the first of them)" });
    cli_opt(o, (struct opt){ "eos", 0, OPT_STR, &v->eos, 0, 0, "TEXT",
                             "the one that ends it (default: the same)" });
    cli_opt(o, (struct opt){ "pad", 0, OPT_STR, &v->pad, 0, 0, "TEXT", "padding (default: none)" });
    cli_opt(o,
            (struct opt){ "add-bos", 0, OPT_FLAG, &v->add_bos, .help = "prompts begin with bos" });
    cli_opt(o,
            (struct opt){ "pre", 0, OPT_STR, &v->pre, 0, 0, "NAME",
                          "how words are cut, as in tokenizer.ggml.pre (default: " BPE_PRE_DEFAULT
                          ", each digit alone)" });
    cli_opt(o, (struct opt){ "chat-template", 0, OPT_STR, &v->chat_template, 0, 0, "FILE",
                             "Jinja template that goes into the file" });
    cli_opt(o, (struct opt){ "max-words", 0, OPT_COUNT, &v->max_words, 16, BPE_WORDS_MAX, "N",
                             "different words that are counted; with more the rarest are forgotten "
                             "(default: 2097152)" });
}

enum status cli_vocab(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct vocab_opts v = { 0 };
    struct bpe_opts bo;
    struct str special[OPT_STRS_MAX];
    struct buf chat = BUF_INIT;
    const char *rest[OPT_STRS_MAX];
    size_t n_rest;
    bool done;
    cli_opts_init(
        &o, c, "strobe vocab --text FILE... --n-vocab N -o VOCAB.gguf [--special TEXT]...",
        "Learns a byte-level BPE vocabulary and writes it as a GGUF file without weights, "
        "which training and export take.");
    options(&o, &v);
    if (cli_parse(&o, c, rest, OPT_STRS_MAX, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    for (size_t i = 0; i < n_rest; i++) {
        if (v.text.n == OPT_STRS_MAX)
            return err_set(err, ST_RANGE, "at most %d text files", OPT_STRS_MAX);
        v.text.v[v.text.n++] = rest[i];
    }
    if (v.text.n == 0 || !v.n_vocab || !v.out)
        return err_set(err, ST_ARG, "vocab needs --text FILE, --n-vocab N and -o VOCAB.gguf");
    if (cli_output(v.out, err) != ST_OK)
        return err->code;
    if (fill(&v, &bo, special, &chat, err) == ST_OK)
        learn(c, &v, &bo, err);
    buf_clear(&chat);
    return err->code;
}
