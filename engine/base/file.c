/* engine/base/file.c - see file.h. */
#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    TREE_FDS = 8,
    SLURP_BYTES = 64 << 10,
    LINKS_MAX = 40, /* as Linux follows */
    READER_TRIES = 100,
    READER_STEP_NS = 30000000 /* 3 s in all */
};

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

static enum status fail_at(int os, const char *call, const char *path, uint64_t at, struct err *err)
{
    err_sys(err, os, call);
    return path ? err_ctx(err, "'%s' at byte %" PRIu64, path, at)
                : err_ctx(err, "at byte %" PRIu64, at);
}

/* 0 or errno; *got counts in both cases. */
static int read_some(int fd, void *p, size_t n, uint64_t at, size_t *got)
{
    for (*got = 0; *got < n;) {
        ssize_t r = pread(fd, (char *)p + *got, n - *got, (off_t)(at + *got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno;
        if (r == 0)
            return 0;
        *got += (size_t)r;
    }
    return 0;
}

enum status file_read_at(int fd, void *p, size_t n, uint64_t at, const char *path, struct err *err)
{
    size_t got;
    int os = read_some(fd, p, n, at, &got);
    if (os)
        return fail_at(os, "read", path, at + got, err);
    if (got == n)
        return ST_OK;
    return err_set(err, ST_FORMAT,
                   "%s%s%sends at or before byte %" PRIu64 " while in use: it was truncated",
                   path ? "'" : "", path ? path : "", path ? "' " : "", at + got);
}

enum status file_read_upto(int fd, void *p, size_t n, uint64_t at, size_t *ret, struct err *err)
{
    size_t got;
    int os = read_some(fd, p, n, at, &got);
    if (os)
        return fail_at(os, "read", NULL, at + got, err);
    *ret = got;
    return ST_OK;
}

enum status file_write_at(int fd, const void *p, size_t n, uint64_t at, const char *path,
                          struct err *err)
{
    const char *from = p;
    while (n > 0) {
        ssize_t put = pwrite(fd, from, n, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail_at(put < 0 ? errno : EIO, "write", path, at, err);
        from += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return ST_OK;
}

static enum status fail_input(int os, const char *call, const char *path, struct err *err)
{
    err_input(err, os, call);
    return err_ctx(err, "'%s'", path);
}

enum status file_slurp_fd(int fd, const char *path, size_t max, struct buf *out, struct err *err)
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
            return fail_input(errno, "read", path, err);
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
        return fail_input(errno, "open", path, err);
    file_slurp_fd(fd, path, max, out, err);
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

/* Where the link leads, which may be nowhere yet. */
static enum status follow(char path[FILE_PATH_MAX], struct err *err)
{
    char from[FILE_PATH_MAX], to[FILE_PATH_MAX];
    ssize_t n = readlink(path, to, sizeof to - 1);
    if (n < 0)
        return fail(errno, "readlink", path, err);
    to[n] = '\0';
    if (to[0] == '/')
        return file_path(path, err, "%s", to);
    snprintf(from, sizeof from, "%s", path);
    const char *slash = strrchr(from, '/');
    return file_path(path, err, "%.*s%s", slash ? (int)(slash + 1 - from) : 0, from, to);
}

enum status file_target(const char *path, char out[FILE_PATH_MAX], struct err *err)
{
    struct stat st;
    if (!path[0])
        return err_set(err, ST_ARG, "an empty path names no file");
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(err, ST_ARG, "'%s' is %s: name a file to be written", path,
                       S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    file_path(out, err, "%s", path);
    for (int i = 0; err->code == ST_OK && lstat(out, &st) == 0 && S_ISLNK(st.st_mode); i++)
        if (i == LINKS_MAX)
            return fail(ELOOP, "follow links", path, err);
        else
            follow(out, err);
    return err->code;
}

static bool is_device(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static bool is_pipe(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
}

/* open() of a pipe waits for a reader for ever; here it gets a few seconds to come. */
static int open_pipe(const char *path, struct err *err)
{
    const struct timespec step = { .tv_nsec = READER_STEP_NS };
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    for (int i = 0; fd < 0 && errno == ENXIO && i < READER_TRIES; i++) {
        nanosleep(&step, NULL);
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    }
    if (fd < 0 && errno == ENXIO)
        err_set(err, ST_IO, "'%s': nobody reads the pipe; start its reader first", path);
    else if (fd < 0)
        fail(errno, "open", path, err);
    else if (fcntl(fd, F_SETFL, 0) != 0) /* a slow reader is waited for */
        fail(errno, "fcntl", path, err);
    return fd;
}

static enum status write_device(const char *path, struct str bytes, struct err *err)
{
    int fd = is_pipe(path) ? open_pipe(path, err) : open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && err->code == ST_OK)
        fail(errno, "open", path, err);
    if (err->code == ST_OK)
        file_write(fd, bytes.p, bytes.n, path, err);
    if (fd >= 0)
        close(fd);
    return err->code;
}

enum status file_replace(const char *name, struct str bytes, struct err *err)
{
    char path[FILE_PATH_MAX], tmp[FILE_PATH_MAX];
    if (is_device(name))
        return write_device(name, bytes, err);
    if (file_target(name, path, err) != ST_OK || file_path(tmp, err, "%s.tmp", path) != ST_OK)
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
