/* engine/train/out_file.c - see out_file.h. */
#include "engine/train/out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct out_file {
    int fd;
    char *path, *partial;
};

static void out_file_free(struct out_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    free(f->partial);
    free(f);
}

enum status out_file_create(const char *path, struct out_file **ret, struct err *err)
{
    struct out_file *f = calloc(1, sizeof *f);
    struct buf partial = BUF_INIT;
    if (!f)
        return err_set(err, ST_NOMEM, "'%s': file", path);
    f->fd = -1;
    buf_printf(&partial, "%s.partial", path);
    f->path = str_dup(str_c(path));
    f->partial = buf_take(&partial);
    if (!f->path || !f->partial) {
        err_set(err, ST_NOMEM, "'%s': path", path);
        goto fail;
    }
    f->fd = open(f->partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (f->fd < 0) {
        err_sys(err, errno, "open");
        err_ctx(err, "'%s'", f->partial);
        goto fail;
    }
    *ret = f;
    return ST_OK;
fail:
    out_file_free(f);
    return err->code;
}

enum status out_file_put(struct out_file *f, const void *p, size_t n, struct err *err)
{
    const char *at = p;
    while (n > 0) {
        ssize_t put = write(f->fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            err_sys(err, errno, "write");
            return err_ctx(err, "'%s'", f->partial);
        }
        at += put;
        n -= (size_t)put;
    }
    return ST_OK;
}

const char *out_file_partial(const struct out_file *f)
{
    return f->partial;
}

enum status out_file_commit(struct out_file *f, struct err *err)
{
    const char *failed = fsync(f->fd) != 0 ? "fsync" : NULL;
    if (!failed && rename(f->partial, f->path) != 0)
        failed = "rename";
    if (failed) {
        err_sys(err, errno, failed);
        err_ctx(err, "'%s'", f->path);
        out_file_abandon(f);
        return err->code;
    }
    out_file_free(f);
    return ST_OK;
}

void out_file_abandon(struct out_file *f)
{
    if (!f)
        return;
    unlink(f->partial);
    out_file_free(f);
}

enum status out_file_write(const char *path, struct str bytes, struct err *err)
{
    struct out_file *f = NULL;
    out_file_create(path, &f, err);
    if (!f)
        return err->code;
    if (out_file_put(f, bytes.p, bytes.n, err) != ST_OK) {
        out_file_abandon(f);
        return err->code;
    }
    return out_file_commit(f, err);
}
