/* engine/train/out_file.c - see out_file.h. */
#include "engine/train/out_file.h"

#include "engine/base/file.h"

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
    char target[FILE_PATH_MAX];
    if (file_target(path, target, err) != ST_OK)
        return err->code;
    struct out_file *f = calloc(1, sizeof *f);
    struct buf partial = BUF_INIT;
    if (!f)
        return err_set(err, ST_NOMEM, "'%s': file", path);
    f->fd = -1;
    buf_printf(&partial, "%s.partial", target);
    f->path = str_dup(str_c(target));
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
    return file_write(f->fd, p, n, f->partial, err);
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
