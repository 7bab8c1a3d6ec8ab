/* engine/io/uring.c - reads through io_uring with O_DIRECT, which the owner submits and reaps.
 * There is no polling thread (SQPOLL burns a core for nothing here: baselines.md 1.4). */
#include "engine/io/uring_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct uring {
    struct source src;
    struct io_uring ring;
};

/* One system call reads at most 2 GiB; the rest follows as after any short read. */
enum { READ_MAX = 1 << 30 };

void uring_read(struct io_uring *ring, const struct source *s, struct source_req *req)
{
    size_t left = req->len - req->got;
    /* Never NULL: the ring has `depth` entries and no more are in flight. */
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_read(sqe, s->fd[req->file], (char *)req->dst + req->got,
                       left < READ_MAX ? (unsigned)left : READ_MAX, req->offset + req->got);
    io_uring_sqe_set_data(sqe, req);
}

void uring_submit_all(struct io_uring *ring)
{
    while (io_uring_sq_ready(ring) > 0) {
        int r = io_uring_submit(ring);
        if (r < 0 && r != -EINTR)
            nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    }
}

static size_t uring_submit(struct source *s, struct source_req *const *reqs, size_t n)
{
    struct uring *u = (struct uring *)s;
    for (size_t i = 0; i < n; i++)
        uring_read(&u->ring, s, reqs[i]);
    while (io_uring_submit(&u->ring) == -EINTR)
        ;
    return n;
}

/* Takes what is complete; the rest of unfinished reads is submitted. */
static size_t reap(struct uring *u, struct source_req **done, size_t max)
{
    struct io_uring_cqe *cqe;
    size_t n = 0;
    while (n < max && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct source_req *req = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        if (source_advance(&u->src, req, res))
            done[n++] = req;
        else
            uring_submit(&u->src, &req, 1);
    }
    return n;
}

static size_t uring_wait(struct source *s, struct source_req **done, size_t max, size_t min)
{
    struct uring *u = (struct uring *)s;
    size_t n = reap(u, done, max);
    while (n < min) {
        io_uring_submit_and_wait(&u->ring, 1); /* also what an interrupted submit left behind */
        n += reap(u, done + n, max - n);
    }
    return n;
}

static void uring_close(struct source *s)
{
    io_uring_queue_exit(&((struct uring *)s)->ring);
}

static enum status probe(struct io_uring *ring, int fd, struct err *err)
{
    struct io_uring_cqe *cqe;
    io_uring_prep_read(io_uring_get_sqe(ring), fd, NULL, 0, 0);
    int r;
    do {
        r = io_uring_submit_and_wait(ring, 1);
    } while (r == -EINTR);
    if (r >= 0)
        r = io_uring_wait_cqe(ring, &cqe);
    if (r == 0) {
        r = cqe->res;
        io_uring_cqe_seen(ring, cqe);
    }
    return r >= 0 ? ST_OK : err_sys(err, -r, "io_uring read");
}

enum status uring_begin(struct io_uring *ring, uint32_t depth, unsigned flags, int fd,
                        struct err *err)
{
    int r = io_uring_queue_init(depth, ring, flags);
    if (r < 0) /* EPERM or ENOSYS inside many containers */
        return err_sys(err, -r, "io_uring_queue_init");
    if (probe(ring, fd, err) != ST_OK)
        io_uring_queue_exit(ring);
    return err->code;
}

static const struct source_ops uring_ops = {
    .name = "io_uring+direct",
    .submit = uring_submit,
    .wait = uring_wait,
    .close = uring_close,
};

enum status source_uring_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                              struct source **ret, struct err *err)
{
    struct uring *u = calloc(1, sizeof *u);
    if (!u)
        return err_set(err, ST_NOMEM, "io_uring reader");
    u->src.ops = &uring_ops;
    u->src.depth = depth;
    if (source_open_files(&u->src, paths, n_file, true, err) == ST_OK &&
        uring_begin(&u->ring, depth, 0, u->src.fd[0], err) == ST_OK) {
        *ret = &u->src;
        return ST_OK;
    }
    source_close_files(&u->src);
    free(u);
    return err->code;
}
