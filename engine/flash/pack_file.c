/* engine/flash/pack_file.c - the bytes of a packed file. A run that was killed left a prefix of the
 * same bytes: when the header is the same, whole tensors are kept and the rest is made again. */
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/flash/pack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status flush(struct pack *p, struct err *err)
{
    if (file_write(p->fd, p->out, p->n_out, p->path, err) != ST_OK)
        return err->code;
    p->sum = hash_chain(p->sum, p->out, p->n_out);
    p->written += p->n_out;
    p->n_out = 0;
    if (p->o->progress)
        p->o->progress(p->o->ctx, "packing", p->written, p->data_bytes);
    return ST_OK;
}

static enum status put(void *ctx, const void *data, size_t n, struct err *err)
{
    struct pack *p = ctx;
    const uint8_t *at = data;
    while (n > 0) {
        size_t take = PACK_OUT_BYTES - p->n_out < n ? PACK_OUT_BYTES - p->n_out : n;
        memcpy(p->out + p->n_out, at, take);
        p->n_out += take;
        at += take;
        n -= take;
        if (p->n_out == PACK_OUT_BYTES && flush(p, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

/* Zeros up to the next tensor; not part of the checksum. */
static enum status pad(struct pack *p, const struct pack_tensor *t, struct err *err)
{
    static const uint8_t zero[PACK_ALIGN];
    size_t n = (size_t)(-t->bytes % PACK_ALIGN);
    p->written += n;
    return file_write(p->fd, zero, n, p->path, err);
}

static enum status make_tensor(struct pack *p, uint32_t i, struct err *err)
{
    const struct pack_sink sink = { put, p };
    const struct pack_tensor *t = &p->tensor[i];
    p->sum = 0;
    if (i + 1 == p->n_tensor)
        put(p, p->sums, (size_t)t->bytes, err);
    else
        pack_data(&p->r, &p->b, t, &sink, err);
    if (err->code != ST_OK || flush(p, err) != ST_OK || pad(p, t, err) != ST_OK)
        return err->code;
    if (i + 1 < p->n_tensor)
        p->sums[i] = p->sum;
    return ST_OK;
}

/* ---- going on where an earlier run stopped ---- */

/* False: it ends before, or cannot be read; what is not there is made again. */
static bool read_back(const struct pack *p, void *dst, size_t n, uint64_t at)
{
    struct err none = ERR_INIT;
    return file_read_at(p->fd, dst, n, at, p->path, &none) == ST_OK;
}

static bool same_head(const struct pack *p)
{
    char *old = malloc(p->head.n);
    bool same = old && read_back(p, old, p->head.n, 0) && memcmp(old, p->head.p, p->head.n) == 0;
    free(old);
    return same;
}

/* The first tensor to make; those before it are whole, their sums taken again. */
static uint32_t kept_tensors(struct pack *p)
{
    struct stat st;
    uint32_t n = 0;
    if (fstat(p->fd, &st) != 0 || !same_head(p))
        return 0;
    while (n + 1 < p->n_tensor && (uint64_t)st.st_size >= p->head.n + p->tensor[n + 1].offset) {
        const struct pack_tensor *t = &p->tensor[n];
        p->sum = 0;
        for (uint64_t at = 0; at < t->bytes; at += PACK_OUT_BYTES) {
            size_t k = t->bytes - at < PACK_OUT_BYTES ? (size_t)(t->bytes - at) : PACK_OUT_BYTES;
            if (!read_back(p, p->out, k, p->head.n + t->offset + at))
                return n;
            p->sum = hash_chain(p->sum, p->out, k);
        }
        p->sums[n++] = p->sum;
    }
    return n;
}

enum status pack_write(struct pack *p, struct pack_report *rep, struct err *err)
{
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (p->fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", p->path);
    }
    uint32_t from = kept_tensors(p);
    uint64_t keep = from ? p->head.n + p->tensor[from].offset : 0;
    rep->resumed_bytes = keep;
    p->written = from ? p->tensor[from].offset : 0;
    if (ftruncate(p->fd, (off_t)keep) != 0 || lseek(p->fd, (off_t)keep, SEEK_SET) < 0)
        return err_sys(err, errno, "truncate");
    if (!from && file_write(p->fd, p->head.p, p->head.n, p->path, err) != ST_OK)
        return err->code;
    for (uint32_t i = from; i < p->n_tensor; i++)
        if (make_tensor(p, i, err) != ST_OK)
            return err->code;
    if (fsync(p->fd) != 0)
        return err_sys(err, errno, "fsync");
    if (rename(p->path, p->target) != 0) {
        err_sys(err, errno, "rename");
        return err_ctx(err, "'%s' to '%s'", p->path, p->target);
    }
    return ST_OK;
}
