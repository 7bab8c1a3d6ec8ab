/* engine/train/textset.c - see textset.h. */
#include "engine/train/textset.h"

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/train/data.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 << 10,
    PIECE_BYTES = 1 << 20 /* longer documents are tokenized in pieces, cut at a line break */
};
static const char usual_mark[] = "<|endoftext|>";

bool textset_is_text(const char *path)
{
    struct str s = str_c(path);
    return (str_ends(s, STR(".txt")) || str_ends(s, STR(".jsonl"))) && !file_is_dir(path);
}

/* ---- reading ---- */

struct reader {
    const char *path;
    int fd;
    struct buf in;
    size_t at; /* bytes of `in` that are used up */
    bool eof;
    uint64_t done, total, line;
};

static struct str left(const struct reader *r)
{
    return (struct str){ r->in.p ? r->in.p + r->at : "", r->in.n - r->at };
}

static enum status fill(struct reader *r, struct err *err)
{
    if (r->at) {
        memmove(r->in.p, r->in.p + r->at, r->in.n - r->at);
        r->in.n -= r->at;
        r->at = 0;
    }
    char *room = buf_room(&r->in, READ_BYTES);
    if (!room)
        return buf_ok(&r->in, r->path, err);
    ssize_t n;
    do
        n = read(r->fd, room, READ_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        err_input(err, errno, "read");
        return err_ctx(err, "'%s'", r->path);
    }
    r->in.n += (size_t)n;
    r->done += (uint64_t)n;
    r->eof = n == 0;
    return ST_OK;
}

/* Where a long piece ends: behind its last line break, else between two characters. Not inside the
 * last bytes, which may be the front of a mark. */
static size_t cut(struct str s, size_t mark_bytes)
{
    size_t most = s.n - mark_bytes;
    const char *line = memrchr(s.p, '\n', most);
    if (line)
        return (size_t)(line - s.p) + 1;
    while (most > 1 && ((unsigned char)s.p[most] & 0xC0) == 0x80)
        most--;
    return most;
}

/* The next piece of a .txt file; false: the end. */
static bool next_text(struct reader *r, struct str mark, struct textset_piece *p, struct err *err)
{
    for (;;) {
        struct str s = left(r);
        size_t at = mark.n ? str_find(s, mark, 0) : SIZE_MAX;
        /* The byte behind a mark must be there too, or the file's end. */
        if (at != SIZE_MAX && (r->eof || at + mark.n < s.n)) {
            size_t end = at + mark.n;
            *p = (struct textset_piece){ .text = { s.p, at }, .last = true };
            r->at += end + (end < s.n && s.p[end] == '\n');
            return true;
        }
        if (at == SIZE_MAX && s.n > PIECE_BYTES + mark.n) {
            *p = (struct textset_piece){ .text = { s.p, cut(s, mark.n) } };
            r->at += p->text.n;
            return true;
        }
        if (r->eof) {
            *p = (struct textset_piece){ .text = s, .last = true };
            r->at += s.n;
            return s.n > 0;
        }
        if (fill(r, err) != ST_OK)
            return false;
    }
}

/* The next line; false: the end, or an error. */
static bool next_line(struct reader *r, struct str *ret, struct err *err)
{
    size_t seen = 0;
    for (;;) {
        struct str s = left(r);
        const char *end = s.n > seen ? memchr(s.p + seen, '\n', s.n - seen) : NULL;
        if (end || (r->eof && s.n > 0)) {
            *ret = (struct str){ s.p, end ? (size_t)(end - s.p) : s.n };
            r->at += ret->n + (end != NULL);
            r->line++;
            return true;
        }
        seen = s.n;
        if (s.n > TEXTSET_LINE_MAX) {
            err_set(err, ST_FORMAT, "'%s', line %" PRIu64 " is longer than %d bytes", r->path,
                    r->line + 1, TEXTSET_LINE_MAX);
            return false;
        }
        if (r->eof || fill(r, err) != ST_OK)
            return false;
    }
}

static enum status parse_line(struct str line, struct textset_piece *p, json_t **doc,
                              struct err *err)
{
    struct str text = { NULL, 0 }, prompt = { NULL, 0 }, response = { NULL, 0 };
    if (json_parse(line, "line", doc, err) != ST_OK)
        return err->code;
    if (!json_is_object(*doc))
        return err_set(err, ST_FORMAT, "not an object");
    if (json_get_str(*doc, "text", false, &text, err) != ST_OK ||
        json_get_str(*doc, "prompt", false, &prompt, err) != ST_OK ||
        json_get_str(*doc, "response", false, &response, err) != ST_OK)
        return err->code;
    if (text.p ? prompt.p || response.p : !prompt.p || !response.p)
        return err_set(err, ST_FORMAT, "needs either \"text\" or \"prompt\" and \"response\"");
    *p = (struct textset_piece){
        .prompt = prompt, .text = text.p ? text : response, .answer = !text.p, .last = true
    };
    return ST_OK;
}

typedef enum status piece_fn(void *ctx, const struct textset_piece *p, uint64_t done,
                             uint64_t total, struct err *err);

static enum status each_line(struct reader *r, piece_fn *fn, void *ctx, struct err *err)
{
    struct str line;
    while (next_line(r, &line, err)) {
        struct textset_piece p = { .last = false };
        json_t *doc = NULL;
        if (str_trim(line).n == 0)
            continue;
        if (parse_line(line, &p, &doc, err) != ST_OK)
            err_ctx(err, "'%s', line %" PRIu64, r->path, r->line);
        else
            fn(ctx, &p, r->done, r->total, err);
        json_free(doc);
        if (err->code != ST_OK)
            break;
    }
    return err->code;
}

static enum status each_text(struct reader *r, struct str mark, piece_fn *fn, void *ctx,
                             struct err *err)
{
    struct textset_piece p = { .last = false };
    while (err->code == ST_OK && next_text(r, mark, &p, err))
        fn(ctx, &p, r->done, r->total, err);
    return err->code;
}

enum status textset_each(const char *path, struct str mark, piece_fn *fn, void *ctx,
                         struct err *err)
{
    struct stat st;
    struct reader r = { .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC) };
    if (r.fd < 0 || fstat(r.fd, &st) != 0) {
        err_input(err, errno, "open");
        err_ctx(err, "'%s'", path);
    } else {
        r.total = (uint64_t)st.st_size;
        if (str_ends(str_c(path), STR(".jsonl")))
            each_line(&r, fn, ctx, err);
        else
            each_text(&r, mark, fn, ctx, err);
    }
    if (r.fd >= 0)
        close(r.fd);
    buf_clear(&r.in);
    return err->code;
}

/* ---- writing ---- */

struct maker {
    const struct textset_opts *o;
    int32_t mark, eos; /* -1: none */
    struct shard_writer *shard;
    uint32_t n_shard;
    struct tokens doc;
    struct buf mask; /* one byte per token of `doc` */
    uint64_t doc_bytes;
    bool masked;
};

/* The token that stands between documents. */
static enum status find_mark(struct maker *m, struct str *text, struct err *err)
{
    const struct tokenizer *t = m->o->tokenizer;
    struct tokens ids = { 0 };
    m->eos = tokenizer_eos(t);
    m->mark = m->eos;
    if (tokenizer_encode(t, str_c(usual_mark), TOK_SPECIAL, &ids, err) == ST_OK && ids.n == 1)
        m->mark = ids.id[0];
    tokens_clear(&ids);
    *text = m->mark >= 0 ? tokenizer_text(t, m->mark) : STR("");
    return err->code;
}

static enum status open_shard(struct maker *m, struct err *err)
{
    char path[FILE_PATH_MAX];
    if (file_path(path, err, "%s/%s-%05u.tok", m->o->dir, m->o->name, m->n_shard) != ST_OK ||
        shard_create(path, tokenizer_n_vocab(m->o->tokenizer), m->masked, m->o->digest, &m->shard,
                     err) != ST_OK)
        return err->code;
    m->n_shard++;
    return ST_OK;
}

/* The document so far becomes one of the shard's. */
static enum status flush(struct maker *m, struct err *err)
{
    if (m->doc.n == 0)
        return ST_OK;
    if (!m->shard && open_shard(m, err) != ST_OK)
        return err->code;
    if (shard_add(m->shard, m->doc.id, m->masked ? (const uint8_t *)m->mask.p : NULL, m->doc.n,
                  m->doc_bytes, err) != ST_OK)
        return err->code;
    m->doc.n = 0;
    m->doc_bytes = 0;
    buf_reset(&m->mask);
    return shard_n_token(m->shard) < TEXTSET_SHARD_TOKENS ? ST_OK : shard_finish(&m->shard, err);
}

/* The mask grows with the tokens: all new ones count, or none. */
static enum status mark_new(struct maker *m, bool counts, struct err *err)
{
    size_t n = m->doc.n - m->mask.n;
    char *room = buf_room(&m->mask, n);
    if (room) {
        memset(room, counts, n);
        m->mask.n += n;
    }
    return buf_ok(&m->mask, "loss mask", err);
}

static enum status encode(struct maker *m, struct str text, bool counts, struct err *err)
{
    size_t tokens = m->doc.n;
    if (text.n && tokenizer_encode(m->o->tokenizer, text, TOK_SPECIAL, &m->doc, err) != ST_OK)
        return err->code;
    m->doc_bytes += m->doc.n > tokens ? text.n : 0;
    return mark_new(m, counts, err);
}

static enum status end_doc(struct maker *m, int32_t token, struct err *err)
{
    bool there = m->doc.n && m->doc.id[m->doc.n - 1] == token;
    if (token >= 0 && !there && tokens_push(&m->doc, token, err) != ST_OK)
        return err->code;
    return mark_new(m, true, err) == ST_OK ? flush(m, err) : err->code;
}

static enum status add_piece(void *ctx, const struct textset_piece *p, uint64_t done,
                             uint64_t total, struct err *err)
{
    struct maker *m = ctx;
    const struct tokenizer *t = m->o->tokenizer;
    if (m->o->progress && !m->o->progress(m->o->ctx, done, total))
        return err_set(err, ST_CANCELLED, "stopped while tokenizing '%s'", m->o->text);
    /* Nothing between two marks is no document. */
    if (p->last && m->doc.n == 0 && p->prompt.n == 0 && str_trim(p->text).n == 0)
        return ST_OK;
    if (m->doc.n == 0 && tokenizer_adds_bos(t) && tokenizer_bos(t) >= 0 &&
        tokens_push(&m->doc, tokenizer_bos(t), err) != ST_OK)
        return err->code;
    if (encode(m, p->prompt, !p->answer, err) != ST_OK || encode(m, p->text, true, err) != ST_OK)
        return err->code;
    if (p->last)
        return end_doc(m, p->answer ? m->eos : m->mark, err);
    return m->doc.n < TEXTSET_DOC_TOKENS ? ST_OK : flush(m, err);
}

enum status textset_make(const struct textset_opts *o, struct err *err)
{
    struct maker m = { .o = o, .masked = str_ends(str_c(o->text), STR(".jsonl")) };
    struct str mark;
    if (find_mark(&m, &mark, err) == ST_OK &&
        textset_each(o->text, mark, add_piece, &m, err) == ST_OK && flush(&m, err) == ST_OK) {
        if (m.n_shard == 0)
            err_set(err, ST_ARG, "'%s' holds no text", o->text);
        else if (m.shard)
            shard_finish(&m.shard, err);
    }
    shard_abandon(m.shard);
    tokens_clear(&m.doc);
    buf_clear(&m.mask);
    return err->code;
}
