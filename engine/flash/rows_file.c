/* engine/flash/rows_file.c - see rows_file.h. */
#include "engine/flash/rows_file.h"

#include "engine/base/file.h"
#include "engine/kernel/matrix.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct rows_file {
    const struct tensor *t;
    const char *path;
    int fd;
    size_t row_bytes;
    uint8_t row[];
};

enum status rows_file_open(const struct model *m, const struct tensor *t, struct rows_file **ret,
                           struct err *err)
{
    assert(t->role < TR_MATRICES && t->fix == FIX_NONE);
    size_t bytes = dtype_row_bytes(t->type, t->n_col);
    struct rows_file *f = malloc(sizeof *f + bytes);
    if (!f)
        return err_set(err, ST_NOMEM, "row of '%.*s'", (int)t->name.n, t->name.p);
    f->t = t;
    f->path = model_file(m, t->file);
    f->row_bytes = bytes;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0) {
        err_sys(err, errno, "open");
        err_ctx(err, "'%s'", f->path);
        free(f);
        return err->code;
    }
    /* Without this each row pulls in the device's whole read-ahead (8 MiB: baselines.md 0). */
    posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
    *ret = f;
    return ST_OK;
}

void rows_file_close(struct rows_file *f)
{
    if (!f)
        return;
    close(f->fd);
    free(f);
}

enum status rows_file_read(struct rows_file *f, uint32_t row, float *out, struct err *err)
{
    assert(row < f->t->n_row);
    uint64_t at = f->t->offset + (uint64_t)row * f->row_bytes;
    if (file_read_at(f->fd, f->row, f->row_bytes, at, f->path, err) != ST_OK)
        return err->code;
    dtype_to_f32(f->t->type, f->row, out, f->t->n_col);
    return ST_OK;
}
