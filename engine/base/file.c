/* engine/base/file.c - see file.h. */
#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TREE_FDS = 8, SLURP_BYTES = 64 << 10 };

enum status file_path(char out[FILE_PATH_MAX], struct err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, FILE_PATH_MAX, fmt, ap);
    va_end(ap);
    if (n <= 0 || n >= FILE_PATH_MAX)
        return err_set(err, ST_RANGE, "a path is longer than %d bytes: '%.60s...'", FILE_PATH_MAX,
                       out);
    return ST_OK;
}

bool file_is_regular(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool file_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum status fail(int os, const char *call, const char *path, struct err *err)
{
    err_sys(err, os, call);
    return err_ctx(err, "'%s'", path);
}

enum status file_make_dirs(const char *path, unsigned mode, struct err *err)
{
    char part[FILE_PATH_MAX];
    if (!path[0])
        return err_set(err, ST_ARG, "an empty path names no folder");
    if (file_path(part, err, "%s", path) != ST_OK)
        return err->code;
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char keep = *p;
        *p = '\0';
        if (mkdir(part, mode) != 0 && !(errno == EEXIST && file_is_dir(part)))
            return fail(errno, "mkdir", part, err);
        *p = keep;
        if (!keep)
            return ST_OK;
    }
}

enum status file_write(int fd, const void *p, size_t n, const char *path, struct err *err)
{
    const char *at = p;
    while (n > 0) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail(put < 0 ? errno : EIO, "write", path, err);
        at += put;
        n -= (size_t)put;
    }
    return ST_OK;
}

enum status file_read(int fd, void *p, size_t n, const char *path, struct err *err)
{
    char *at = p;
    while (n > 0) {
        ssize_t got = read(fd, at, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(errno, "read", path, err);
        if (got == 0)
            return err_set(err, ST_FORMAT, "'%s' ends %zu bytes too early", path, n);
        at += got;
        n -= (size_t)got;
    }
    return ST_OK;
}

static enum status slurp(int fd, const char *path, size_t max, struct buf *out, struct err *err)
{
    size_t start = out->n;
    for (;;) {
        char *room = buf_room(out, SLURP_BYTES);
        if (!room)
            return buf_ok(out, path, err);
        ssize_t n = read(fd, room, SLURP_BYTES);
        if (n == 0)
            return ST_OK;
        if (n < 0 && errno != EINTR)
            return fail(errno, "read", path, err);
        out->n += n > 0 ? (size_t)n : 0;
        out->p[out->n] = '\0';
        if (out->n - start > max)
            return err_set(err, ST_RANGE, "'%s' is longer than %zu bytes", path, max);
    }
}

enum status file_slurp(const char *path, size_t max, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(errno, "open", path, err);
    slurp(fd, path, max, out, err);
    close(fd);
    return err->code;
}

/* The folder of a path: everything before the last slash. */
static enum status sync_folder_of(const char *path, struct err *err)
{
    char dir[FILE_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash)
        return file_sync_dir(".", err);
    if (file_path(dir, err, "%.*s", (int)(slash > path ? slash - path : 1), path) != ST_OK)
        return err->code;
    return file_sync_dir(dir, err);
}

enum status file_replace(const char *path, struct str bytes, struct err *err)
{
    char tmp[FILE_PATH_MAX];
    if (file_path(tmp, err, "%s.tmp", path) != ST_OK)
        return err->code;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail(errno, "open", tmp, err);
    if (file_write(fd, bytes.p, bytes.n, tmp, err) == ST_OK && fsync(fd) != 0)
        fail(errno, "fsync", tmp, err);
    /* Network file systems report a lost write here. */
    if (close(fd) != 0)
        fail(errno, "close", tmp, err);
    if (err->code == ST_OK && rename(tmp, path) != 0)
        fail(errno, "rename", path, err);
    if (err->code != ST_OK) {
        unlink(tmp);
        return err->code;
    }
    return sync_folder_of(path, err);
}

enum status file_sync_dir(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(errno, "open", dir, err);
    /* EINVAL: a file system without it (some FUSE ones); its names are durable as it likes. */
    if (fsync(fd) != 0 && errno != EINVAL)
        fail(errno, "fsync", dir, err);
    close(fd);
    return err->code;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path) == 0 || errno == ENOENT ? 0 : errno;
}

enum status file_remove_tree(const char *path, struct err *err)
{
    int r = nftw(path, remove_one, TREE_FDS, FTW_DEPTH | FTW_PHYS);
    if (r < 0)
        r = errno;
    return r == 0 || r == ENOENT ? ST_OK : fail(r, "remove", path, err);
}
