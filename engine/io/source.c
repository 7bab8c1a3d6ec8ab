/* engine/io/source.c - the part that all sources share: files, alignment, short reads, the choice.
 */
#include "engine/io/source.h"

#include "engine/base/clock.h"
#include "engine/io/internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Buffers and offsets are aligned to pages; a file system that wants more is read buffered. */
enum { ALIGN_PAGE = 4096 };

/* A little more than virtual disks hold (256 descriptors, three for a read: 85): they never idle,
 * and the block layer holds nothing back that it could reorder. */
enum { WIDTH_DEFAULT = 96 };

/* One page from the start, where the kernel does not tell: some file systems accept the flag and
 * refuse the reads. */
static bool direct_probe(int fd)
{
    void *page = NULL;
    if (posix_memalign(&page, ALIGN_PAGE, ALIGN_PAGE) != 0)
        return true; /* reads will tell */
    ssize_t n = pread(fd, page, ALIGN_PAGE, 0);
    bool refused = n < 0 && errno == EINVAL;
    free(page);
    return !refused;
}

/* What direct reads of this file must be aligned to; 0: it cannot do them. */
static size_t direct_align(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 && (st.stx_mask & STATX_DIOALIGN)) {
        size_t a = st.stx_dio_offset_align, m = st.stx_dio_mem_align;
        a = a > m ? a : m;
        /* Whole pages: smaller reads cost the same, and buffers are page-aligned anyway. */
        return a == 0 || a > ALIGN_PAGE ? 0 : ALIGN_PAGE;
    }
#endif
    return direct_probe(fd) ? ALIGN_PAGE : 0;
}

static enum status open_file(const char *path, bool direct, int *ret, size_t *align,
                             struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (fd < 0 && direct && errno == EINVAL)
        return err_set(err, ST_UNSUPPORTED, "'%s': the file system has no direct reads", path);
    if (fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", path);
    }
    size_t a = direct ? direct_align(fd) : 1;
    if (a == 0) {
        close(fd);
        return err_set(err, ST_UNSUPPORTED, "'%s': the file system has no direct reads", path);
    }
    if (a > *align)
        *align = a;
    *ret = fd;
    return ST_OK;
}

enum status source_open_files(struct source *s, const char *const *paths, uint32_t n_file,
                              bool direct, struct err *err)
{
    s->fd = calloc(n_file, sizeof *s->fd);
    s->path = calloc(n_file, sizeof *s->path);
    s->align = 1;
    if (!s->fd || !s->path)
        return err_set(err, ST_NOMEM, "reader of %u files", n_file);
    for (uint32_t i = 0; i < n_file; i++) {
        s->path[i] = strdup(paths[i]);
        s->n_path++;
        if (!s->path[i])
            return err_set(err, ST_NOMEM, "reader of %u files", n_file);
        if (open_file(paths[i], direct, &s->fd[i], &s->align, err) != ST_OK)
            return err->code;
        s->n_file++; /* counts opened files: what close_files() must close */
    }
    return ST_OK;
}

void source_close_files(struct source *s)
{
    for (uint32_t i = 0; i < s->n_file; i++)
        close(s->fd[i]);
    for (uint32_t i = 0; s->path && i < s->n_path; i++)
        free(s->path[i]);
    free(s->path);
    free(s->fd);
    free(s->stamp);
}

bool source_advance(const struct source *s, struct source_req *req, long n)
{
    if (n == -EINTR || n == -EAGAIN)
        return false;
    req->done_ns = clock_ns();
    if (n < 0) {
        err_sys(&req->err, (int)-n, "read");
        err_ctx(&req->err, "'%s' at byte %llu", s->path[req->file],
                (unsigned long long)(req->offset + req->got));
        return true;
    }
    req->got += (size_t)n;
    if (req->got >= req->need)
        return true;
    /* A short read goes on from a boundary; one that ends off a boundary, or gives nothing, met the
     * end of the file. */
    if (n > 0 && req->got % s->align == 0)
        return false;
    err_set(&req->err, ST_FORMAT, "'%s' ends at or before byte %llu while in use: it was truncated",
            s->path[req->file], (unsigned long long)(req->offset + req->got));
    return true;
}

static enum status open_uring(const char *const *paths, uint32_t n_file,
                              const struct source_opts *o, struct source **ret, struct err *err)
{
    if (!o->thread)
        return source_uring_open(paths, n_file, o->depth, ret, err);
    return source_thread_open(paths, n_file, o->depth, o->width ? o->width : WIDTH_DEFAULT, ret,
                              err);
}

enum status source_open(const char *const *paths, uint32_t n_file, struct source_opts opts,
                        struct source **ret, struct err *err)
{
    uint32_t depth = opts.depth = opts.depth ? opts.depth : SOURCE_DEPTH_DEFAULT;
    if (n_file == 0 || depth > SOURCE_DEPTH_MAX)
        return err_set(err, ST_RANGE, "reader: %u files, depth %u", n_file, depth);
    switch (opts.kind) {
    case SOURCE_URING:
        return open_uring(paths, n_file, &opts, ret, err);
    case SOURCE_PREAD:
    case SOURCE_BUFFERED:
    case SOURCE_MMAP:
        return source_pread_open(paths, n_file, depth, opts.kind, ret, err);
    case SOURCE_AUTO:
        break;
    }
    /* A refusal of the mechanism falls through; a missing file does not get better by retrying. */
    struct err why = ERR_INIT;
    if (open_uring(paths, n_file, &opts, ret, &why) == ST_OK)
        return ST_OK;
    if (why.code == ST_NOTFOUND) {
        *err = why;
        return err->code;
    }
    err_clear(&why);
    if (source_pread_open(paths, n_file, depth, SOURCE_PREAD, ret, &why) == ST_OK)
        return ST_OK;
    return source_pread_open(paths, n_file, depth, SOURCE_BUFFERED, ret, err);
}

void source_close(struct source *s)
{
    if (!s)
        return;
    struct source_req *done[16];
    while (s->in_flight)
        source_wait(s, done, 16, 1);
    s->ops->close(s);
    source_close_files(s);
    free(s);
}

const char *source_name(const struct source *s)
{
    return s->ops->name;
}

size_t source_align(const struct source *s)
{
    return s->align;
}

uint32_t source_depth(const struct source *s)
{
    return s->depth;
}

size_t source_submit(struct source *s, struct source_req *const *reqs, size_t n)
{
    size_t room = s->depth - s->in_flight;
    if (n > room)
        n = room;
    for (size_t i = 0; i < n; i++) {
        assert(reqs[i]->file < s->n_file && reqs[i]->offset % s->align == 0 &&
               reqs[i]->len % s->align == 0 && reqs[i]->need <= reqs[i]->len);
        reqs[i]->got = 0;
        reqs[i]->err = (struct err)ERR_INIT;
        reqs[i]->submit_ns = clock_ns();
    }
    s->in_flight += (uint32_t)n; /* before: a request may complete at once */
    return s->ops->submit(s, reqs, n);
}

size_t source_wait(struct source *s, struct source_req **done, size_t max, size_t min)
{
    if (min > s->in_flight)
        min = s->in_flight;
    if (min > max)
        min = max;
    uint64_t start = clock_ns();
    size_t n = s->ops->wait(s, done, max, min);
    s->stats.wait_ns += clock_ns() - start;
    s->in_flight -= (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        s->stats.reads++;
        s->stats.bytes += done[i]->got;
        if (s->watch)
            s->watch(s->watch_ctx, done[i]);
    }
    return n;
}

uint32_t source_in_flight(const struct source *s)
{
    return s->in_flight;
}

struct source_stats source_stats(const struct source *s)
{
    return s->stats;
}

void source_watch(struct source *s, source_watch_fn *fn, void *ctx)
{
    s->watch = fn;
    s->watch_ctx = ctx;
}

/* ---- files that change under their readers ---- */

enum status source_remember(struct source *s, struct err *err)
{
    struct stamp *stamp = calloc(s->n_file, sizeof *stamp);
    if (!stamp)
        return err_set(err, ST_NOMEM, "reader of %u files", s->n_file);
    for (uint32_t i = 0; i < s->n_file; i++)
        if (stamp_take(s->fd[i], &stamp[i], err) != ST_OK) {
            free(stamp);
            return err_ctx(err, "'%s'", s->path[i]);
        }
    free(s->stamp);
    s->stamp = stamp;
    return ST_OK;
}

static enum status overwritten(const struct source *s, struct err *err)
{
    return err_set(err, ST_FORMAT, "'%s' was overwritten while in use: start again",
                   s->path[s->overwritten - 1]);
}

enum status source_check(struct source *s, struct err *err)
{
    bool same;
    if (s->overwritten)
        return overwritten(s, err);
    for (uint32_t i = 0; s->stamp && i < s->n_file; i++) {
        if (stamp_check(s->fd[i], &s->stamp[i], &same, err) != ST_OK)
            return err_ctx(err, "'%s'", s->path[i]);
        if (!same) {
            s->overwritten = i + 1;
            return overwritten(s, err);
        }
    }
    return ST_OK;
}
