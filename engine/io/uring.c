/* engine/io/uring.c - reads through io_uring with O_DIRECT. The owner thread reaps; it submits too,
 * or leaves that to a helper thread (source_opts.helper):
 *
 *   source_submit() --todo, under the lock--> submitter() --submission queue--> kernel
 *   source_wait()  <--------------------------completion queue----------------- kernel
 *
 * Queueing a read costs 5 us here (a virtual disk's doorbell leaves the guest), which a pass with
 * thousands of small reads cannot spare on the thread that computes. There is no polling thread
 * (SQPOLL burns a core for nothing here: baselines.md 1.4). */
#include "engine/io/internal.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct uring {
    struct source src;
    struct io_uring ring; /* with a helper: its submission queue is the helper's */
    bool helped;
    pthread_t helper;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t more;
    struct source_req *todo[SOURCE_DEPTH_MAX];
    uint32_t head, tail; /* of todo; no more than `depth` are in flight */
    bool stop;
};

/* One system call reads at most 2 GiB; the rest follows as after any short read. */
enum { READ_MAX = 1 << 30 };

static void queue_read(struct uring *u, struct source_req *req)
{
    size_t left = req->len - req->got;
    /* Never NULL: the ring has `depth` entries and no more are in flight. */
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    io_uring_prep_read(sqe, u->src.fd[req->file], (char *)req->dst + req->got,
                       left < READ_MAX ? (unsigned)left : READ_MAX, req->offset + req->got);
    io_uring_sqe_set_data(sqe, req);
}

/* Failures other than EINTR pass (EAGAIN: no memory for a request, EBUSY: completions pending):
 * probe() saw the call work. */
static void submit_all(struct uring *u)
{
    while (io_uring_sq_ready(&u->ring) > 0) {
        int r = io_uring_submit(&u->ring);
        if (r < 0 && r != -EINTR)
            nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    }
}

enum { HANDFUL = 16 }; /* submitted at once: the first must not wait for the last to be prepared */

static size_t take_todo(struct uring *u, struct source_req **req)
{
    size_t n = 0;
    pthread_mutex_lock(&u->lock);
    while (u->head == u->tail && !u->stop)
        pthread_cond_wait(&u->more, &u->lock);
    while (n < HANDFUL && u->head != u->tail)
        req[n++] = u->todo[u->head++ % SOURCE_DEPTH_MAX];
    pthread_mutex_unlock(&u->lock);
    return n;
}

static void *submitter(void *arg)
{
    struct uring *u = arg;
    struct source_req *req[HANDFUL];
    size_t n;
    while ((n = take_todo(u, req)) > 0) {
        for (size_t i = 0; i < n; i++)
            queue_read(u, req[i]);
        submit_all(u);
    }
    return NULL;
}

static void hand_over(struct uring *u, struct source_req *const *reqs, size_t n)
{
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < n; i++)
        u->todo[u->tail++ % SOURCE_DEPTH_MAX] = reqs[i];
    pthread_mutex_unlock(&u->lock);
    pthread_cond_signal(&u->more);
}

static size_t uring_submit(struct source *s, struct source_req *const *reqs, size_t n)
{
    struct uring *u = (struct uring *)s;
    if (u->helped) {
        hand_over(u, reqs, n);
        return n;
    }
    for (size_t i = 0; i < n; i++)
        queue_read(u, reqs[i]);
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
        struct io_uring_cqe *cqe;
        if (u->helped)
            io_uring_wait_cqe(&u->ring, &cqe);
        else /* also what an interrupted submit left behind */
            io_uring_submit_and_wait(&u->ring, 1);
        n += reap(u, done + n, max - n);
    }
    return n;
}

/* Without a helper reads are submitted by the owner: slower, not wrong. */
static void start_helper(struct uring *u)
{
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->more, NULL);
    u->helped = pthread_create(&u->helper, NULL, submitter, u) == 0;
}

static void stop_helper(struct uring *u)
{
    pthread_mutex_lock(&u->lock);
    u->stop = true;
    pthread_mutex_unlock(&u->lock);
    pthread_cond_signal(&u->more);
    pthread_join(u->helper, NULL);
}

static void uring_close(struct source *s)
{
    struct uring *u = (struct uring *)s;
    if (u->helped)
        stop_helper(u);
    io_uring_queue_exit(&u->ring);
}

/* One empty read. Some sandboxes allow the set-up and refuse the rest, and kernels before 5.6 have
 * the rings but not this operation: better known now than from the first weights. */
static enum status probe(struct uring *u, struct err *err)
{
    struct io_uring_cqe *cqe;
    io_uring_prep_read(io_uring_get_sqe(&u->ring), u->src.fd[0], NULL, 0, 0);
    int r;
    do {
        r = io_uring_submit_and_wait(&u->ring, 1);
    } while (r == -EINTR);
    if (r >= 0)
        r = io_uring_wait_cqe(&u->ring, &cqe);
    if (r == 0) {
        r = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
    }
    return r >= 0 ? ST_OK : err_sys(err, -r, "io_uring read");
}

static const struct source_ops uring_ops = {
    .name = "io_uring+direct",
    .submit = uring_submit,
    .wait = uring_wait,
    .close = uring_close,
};

enum status source_uring_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                              bool helper, struct source **ret, struct err *err)
{
    struct uring *u = calloc(1, sizeof *u);
    if (!u)
        return err_set(err, ST_NOMEM, "io_uring reader");
    u->src.ops = &uring_ops;
    u->src.depth = depth;
    if (source_open_files(&u->src, paths, n_file, true, err) == ST_OK) {
        int r = io_uring_queue_init(depth, &u->ring, 0);
        if (r < 0) { /* EPERM or ENOSYS inside many containers */
            err_sys(err, -r, "io_uring_queue_init");
        } else if (probe(u, err) == ST_OK) {
            if (helper)
                start_helper(u);
            *ret = &u->src;
            return ST_OK;
        } else {
            io_uring_queue_exit(&u->ring);
        }
    }
    source_close_files(&u->src);
    free(u);
    return err->code;
}
