/* engine/train/shard.c - writes token shards: see data.h. Tokens stream to the file; document
 * starts and the mask, which lie behind them, are held until shard_finish(). */
#include "engine/train/shard.h"

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/train/data.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

static const char magic[8] = { 'S', 'T', 'R', 'B', 'T', 'O', 'K', '1' };

/* ---- the header ---- */

static void put_u32(unsigned char *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static void put_u64(unsigned char *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

static uint32_t get_u32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t get_u64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

void shard_head_put(const struct shard_head *h, unsigned char out[SHARD_HEAD])
{
    memset(out, 0, SHARD_HEAD);
    memcpy(out, magic, sizeof magic);
    put_u32(out + 8, SHARD_HEAD);
    put_u32(out + 12, h->width);
    put_u64(out + 16, h->n_token);
    put_u64(out + 24, h->n_doc);
    put_u32(out + 32, h->n_vocab);
    put_u32(out + 36, h->masked ? SHARD_MASKED : 0);
    put_u64(out + 40, h->sum);
    put_u64(out + 48, h->n_byte);
    memcpy(out + 56, h->digest, sizeof h->digest);
}

uint64_t shard_sum(const struct shard_head *h, uint64_t rest)
{
    unsigned char head[SHARD_HEAD];
    struct shard_head without = *h;
    without.sum = 0;
    shard_head_put(&without, head);
    return hash_chain(rest, head, sizeof head);
}

const char *shard_head_get(const unsigned char in[SHARD_HEAD], struct shard_head *ret)
{
    struct shard_head h = { .width = get_u32(in + 12),
                            .n_vocab = get_u32(in + 32),
                            .masked = get_u32(in + 36) & SHARD_MASKED,
                            .n_token = get_u64(in + 16),
                            .n_doc = get_u64(in + 24),
                            .sum = get_u64(in + 40),
                            .n_byte = get_u64(in + 48) };
    memcpy(h.digest, in + 56, sizeof h.digest);
    if (memcmp(in, magic, sizeof magic) != 0)
        return "magic";
    if (get_u32(in + 8) != SHARD_HEAD)
        return "header size";
    if (h.width != 2 && h.width != 4)
        return "bytes per token";
    if (h.n_vocab < 1 || h.n_vocab > INT32_MAX || (h.width == 2 && h.n_vocab > SHARD_NARROW_MAX))
        return "vocabulary size";
    if (get_u32(in + 36) & ~(uint32_t)SHARD_MASKED)
        return "flags";
    if (h.n_token < 1 || h.n_token > UINT64_C(1) << 40)
        return "number of tokens";
    if (h.n_doc < 1 || h.n_doc > h.n_token)
        return "number of documents";
    for (int i = 88; i < SHARD_HEAD; i++)
        if (in[i])
            return "reserved bytes";
    *ret = h;
    return NULL;
}

/* ---- the writer ---- */

enum { OUT_BYTES = 64 << 10 }; /* a multiple of 8: hash_chain() wants such pieces */

struct shard_writer {
    char *path, *tmp;
    int fd;
    struct shard_head head; /* its sum: of what is written so far, header left out */
    struct buf docs, mask;
    size_t n_out;
    unsigned char out[OUT_BYTES];
};

static enum status write_out(struct shard_writer *w, struct err *err)
{
    if (file_write(w->fd, w->out, w->n_out, w->tmp, err) != ST_OK)
        return err->code;
    w->head.sum = hash_chain(w->head.sum, w->out, w->n_out);
    w->n_out = 0;
    return ST_OK;
}

static enum status put(struct shard_writer *w, const void *p, size_t n, struct err *err)
{
    const unsigned char *at = p;
    while (n > 0) {
        size_t take = OUT_BYTES - w->n_out < n ? OUT_BYTES - w->n_out : n;
        memcpy(w->out + w->n_out, at, take);
        w->n_out += take;
        at += take;
        n -= take;
        if (w->n_out == OUT_BYTES && write_out(w, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static enum status open_file(struct shard_writer *w, const char *path, struct err *err)
{
    static const unsigned char none[SHARD_HEAD];
    char tmp[FILE_PATH_MAX];
    if (file_path(tmp, err, "%s.tmp", path) != ST_OK)
        return err->code;
    w->path = str_dup(str_c(path));
    w->tmp = str_dup(str_c(tmp));
    if (!w->path || !w->tmp)
        return err_set(err, ST_NOMEM, "shard '%s'", path);
    w->fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (w->fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", tmp);
    }
    return file_write(w->fd, none, sizeof none, tmp, err);
}

enum status shard_create(const char *path, uint32_t n_vocab, bool masked,
                         const unsigned char digest[32], struct shard_writer **ret, struct err *err)
{
    if (n_vocab < 1 || n_vocab > INT32_MAX)
        return err_set(err, ST_RANGE, "shard '%s': a vocabulary of %u", path, n_vocab);
    struct shard_writer *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ST_NOMEM, "shard '%s'", path);
    w->fd = -1;
    w->head = (struct shard_head){ .width = n_vocab <= SHARD_NARROW_MAX ? 2 : 4,
                                   .n_vocab = n_vocab,
                                   .masked = masked };
    if (digest)
        memcpy(w->head.digest, digest, sizeof w->head.digest);
    if (open_file(w, path, err) != ST_OK) {
        shard_abandon(w);
        return err->code;
    }
    *ret = w;
    return ST_OK;
}

/* All refusals come before the first change. */
static enum status check(const struct shard_writer *w, const int32_t *token, const uint8_t *mask,
                         size_t n, struct err *err)
{
    if (n == 0)
        return err_set(err, ST_ARG, "shard '%s': an empty document", w->path);
    if (mask && !w->head.masked)
        return err_set(err, ST_ARG, "shard '%s' has no loss mask", w->path);
    if (n > SHARD_TOKENS_MAX - w->head.n_token)
        return err_set(err, ST_FULL, "shard '%s' holds at most %d tokens", w->path,
                       SHARD_TOKENS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (token[i] < 0 || (uint32_t)token[i] >= w->head.n_vocab)
            return err_set(err, ST_RANGE, "shard '%s': token %d is outside the vocabulary of %u",
                           w->path, token[i], w->head.n_vocab);
        if (mask && mask[i] > 1)
            return err_set(err, ST_RANGE, "shard '%s': a mask of %u", w->path, mask[i]);
    }
    return ST_OK;
}

static enum status put_tokens(struct shard_writer *w, const int32_t *token, size_t n,
                              struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t narrow = (uint16_t)token[i];
        const void *p = w->head.width == 2 ? (const void *)&narrow : &token[i];
        if (put(w, p, w->head.width, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

enum status shard_add(struct shard_writer *w, const int32_t *token, const uint8_t *mask, size_t n,
                      uint64_t n_byte, struct err *err)
{
    if (check(w, token, mask, n, err) != ST_OK)
        return err->code;
    buf_put(&w->docs, &w->head.n_token, sizeof w->head.n_token);
    if (w->head.masked) {
        char *room = buf_room(&w->mask, n);
        for (size_t i = 0; room && i < n; i++)
            room[i] = mask ? (char)mask[i] : 1;
        w->mask.n += room ? n : 0;
    }
    if (buf_ok(&w->docs, w->path, err) != ST_OK || buf_ok(&w->mask, w->path, err) != ST_OK)
        return err->code;
    w->head.n_token += n;
    w->head.n_doc++;
    w->head.n_byte += n_byte;
    return put_tokens(w, token, n, err);
}

uint64_t shard_n_token(const struct shard_writer *w)
{
    return w->head.n_token;
}

static enum status put_head(struct shard_writer *w, struct err *err)
{
    unsigned char head[SHARD_HEAD];
    w->head.sum = shard_sum(&w->head, w->head.sum);
    shard_head_put(&w->head, head);
    return file_write_at(w->fd, head, sizeof head, 0, w->tmp, err);
}

static enum status finish(struct shard_writer *w, struct err *err)
{
    static const unsigned char pad[8];
    if (w->head.n_doc == 0)
        return err_set(err, ST_ARG, "shard '%s' would hold no document", w->path);
    size_t odd = w->head.n_token * w->head.width % 8;
    if (put(w, pad, odd ? 8 - odd : 0, err) != ST_OK ||
        put(w, w->docs.p, w->docs.n, err) != ST_OK || put(w, w->mask.p, w->mask.n, err) != ST_OK ||
        write_out(w, err) != ST_OK || put_head(w, err) != ST_OK)
        return err->code;
    if (fsync(w->fd) != 0 || rename(w->tmp, w->path) != 0) {
        err_sys(err, errno, "fsync or rename");
        return err_ctx(err, "'%s'", w->tmp);
    }
    free(w->tmp);
    w->tmp = NULL;
    return ST_OK;
}

enum status shard_finish(struct shard_writer **w, struct err *err)
{
    finish(*w, err);
    shard_abandon(*w);
    *w = NULL;
    return err->code;
}

void shard_abandon(struct shard_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    if (w->tmp && w->fd >= 0)
        unlink(w->tmp);
    free(w->path);
    free(w->tmp);
    buf_clear(&w->docs);
    buf_clear(&w->mask);
    free(w);
}
