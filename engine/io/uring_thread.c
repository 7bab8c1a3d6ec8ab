/* engine/io/uring_thread.c - reads through io_uring with O_DIRECT on a thread of their own:
 *
 *   source_submit() --todo, by class--> I/O thread --ring--> kernel
 *   source_wait()   <------done-------- I/O thread <-ring--- kernel
 *
 * A pass of a packed model has thousands of small reads. Queueing and reaping one costs 4 us here
 * (a virtual disk's doorbell leaves the guest), which the thread that computes cannot spare; and
 * the order matters: no more than `width` reads are with the kernel at a time, so that what is
 * needed now does not wait behind what was read ahead, wherever the block layer or the disk would
 * put it (mq-deadline sorts by place on the disk; a virtual disk here answers in bursts of 85
 * reads). One lock guards both lists. The thread sleeps in the kernel, in one call that also
 * submits; an eventfd that the ring reads from wakes it for new work. */
#include "engine/io/uring_internal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    HANDFUL = 16, /* submitted at once: the first must not wait for the last to be prepared */
    FEW = 8       /* reads with the kernel up to which reads ahead do not mind those waited for */
};

struct fifo {
    struct source_req *req[SOURCE_DEPTH_MAX];
    uint32_t head, tail;
};

struct uring_thread {
    struct source src;
    uint32_t width;
    pthread_t thread;
    int wake; /* eventfd */
    pthread_mutex_t lock;
    pthread_cond_t came; /* `done` grew, or the thread has started */
    /* under the lock */
    struct fifo todo[SOURCE_CLASSES], done;
    bool asleep, poked; /* the thread waits and could take more; and was woken */
    bool stop, started;
    struct err *err; /* of starting */
    /* the thread's */
    struct io_uring ring;
    uint32_t in_ring, now_in_ring; /* reads with the kernel; of them, waited for */
    uint64_t count;                /* what the eventfd gave */
};

static uint32_t held(const struct fifo *q)
{
    return q->tail - q->head;
}

static void push(struct fifo *q, struct source_req *req)
{
    assert(held(q) < SOURCE_DEPTH_MAX); /* no more than `depth` are in flight */
    q->req[q->tail++ % SOURCE_DEPTH_MAX] = req;
}

static struct source_req *pop(struct fifo *q)
{
    return held(q) ? q->req[q->head++ % SOURCE_DEPTH_MAX] : NULL;
}

/* ---- the thread ---- */

/* What may go to the kernel now, urgent first. */
static size_t take_todo(struct uring_thread *u, struct source_req **req)
{
    size_t n = 0;
    pthread_mutex_lock(&u->lock);
    while (n < HANDFUL && u->in_ring + n < u->width && held(&u->todo[SOURCE_NOW])) {
        req[n++] = pop(&u->todo[SOURCE_NOW]);
        u->now_in_ring++;
    }
    /* Reads ahead so few that the disk is not what takes long keep out of the way of what is waited
     * for: the disk answers in bursts. */
    bool yield = u->now_in_ring && held(&u->todo[SOURCE_AHEAD]) <= u->width;
    uint32_t room = yield ? FEW : u->width;
    while (n < HANDFUL && u->in_ring + n < room && held(&u->todo[SOURCE_AHEAD]))
        req[n++] = pop(&u->todo[SOURCE_AHEAD]);
    u->asleep = n < HANDFUL && u->in_ring + n < u->width; /* the next call waits, there is room */
    pthread_mutex_unlock(&u->lock);
    return n;
}

static void hear_wake(struct uring_thread *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    io_uring_prep_read(sqe, u->wake, &u->count, sizeof u->count, 0);
    io_uring_sqe_set_data(sqe, NULL);
}

/* Everything that has completed; what is unfinished goes on. */
static void reap(struct uring_thread *u)
{
    struct io_uring_cqe *cqe;
    pthread_mutex_lock(&u->lock);
    u->asleep = false;
    uint32_t before = held(&u->done);
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct source_req *req = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        if (!req) {
            u->poked = false;
            hear_wake(u);
        } else if (source_advance(&u->src, req, res)) {
            u->in_ring--;
            u->now_in_ring -= !req->ahead;
            push(&u->done, req);
        } else {
            uring_read(&u->ring, &u->src, req);
        }
    }
    bool more = held(&u->done) != before;
    pthread_mutex_unlock(&u->lock);
    if (more)
        pthread_cond_signal(&u->came);
}

static bool stopped(struct uring_thread *u)
{
    pthread_mutex_lock(&u->lock);
    bool stop = u->stop;
    pthread_mutex_unlock(&u->lock);
    return stop;
}

static void serve(struct uring_thread *u)
{
    struct source_req *req[HANDFUL];
    hear_wake(u);
    while (!stopped(u)) {
        size_t n = take_todo(u, req);
        for (size_t i = 0; i < n; i++)
            uring_read(&u->ring, &u->src, req[i]);
        u->in_ring += (uint32_t)n;
        if (n == HANDFUL) {
            uring_submit_all(&u->ring);
            continue;
        }
        int r = io_uring_submit_and_wait(&u->ring, 1);
        if (r < 0 && r != -EINTR)
            uring_submit_all(&u->ring);
        reap(u);
    }
}

/* The ring belongs to the thread that begins it; kernels before 6.1 do without the flags, which
 * spare interrupts. Two entries more than reads: for the eventfd, before and after it came. */
static enum status begin(struct uring_thread *u, struct err *err)
{
    struct err why = ERR_INIT;
    unsigned flags = 0;
#if defined IORING_SETUP_DEFER_TASKRUN
    flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (uring_begin(&u->ring, u->width + 2, flags, u->src.fd[0], &why) == ST_OK)
        return ST_OK;
    flags = 0;
#endif
    return uring_begin(&u->ring, u->width + 2, flags, u->src.fd[0], err);
}

static void *io_thread(void *arg)
{
    struct uring_thread *u = arg;
    bool ok = begin(u, u->err) == ST_OK;
    pthread_mutex_lock(&u->lock);
    u->started = true;
    pthread_mutex_unlock(&u->lock);
    pthread_cond_signal(&u->came);
    if (!ok)
        return NULL;
    serve(u);
    io_uring_queue_exit(&u->ring);
    return NULL;
}

/* ---- the owner ---- */

static void poke(const struct uring_thread *u)
{
    uint64_t one = 1;
    while (write(u->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static size_t thread_submit(struct source *s, struct source_req *const *reqs, size_t n)
{
    struct uring_thread *u = (struct uring_thread *)s;
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < n; i++)
        push(&u->todo[reqs[i]->ahead ? SOURCE_AHEAD : SOURCE_NOW], reqs[i]);
    bool sleeps = u->asleep && !u->poked;
    u->poked |= sleeps;
    pthread_mutex_unlock(&u->lock);
    if (sleeps)
        poke(u);
    return n;
}

static size_t thread_wait(struct source *s, struct source_req **done, size_t max, size_t min)
{
    struct uring_thread *u = (struct uring_thread *)s;
    size_t n = 0;
    pthread_mutex_lock(&u->lock);
    while (held(&u->done) < min)
        pthread_cond_wait(&u->came, &u->lock);
    while (n < max && held(&u->done))
        done[n++] = pop(&u->done);
    pthread_mutex_unlock(&u->lock);
    return n;
}

static void end(struct uring_thread *u)
{
    pthread_cond_destroy(&u->came);
    pthread_mutex_destroy(&u->lock);
    if (u->wake >= 0)
        close(u->wake);
}

static void thread_close(struct source *s)
{
    struct uring_thread *u = (struct uring_thread *)s;
    pthread_mutex_lock(&u->lock);
    u->stop = true;
    pthread_mutex_unlock(&u->lock);
    poke(u);
    pthread_join(u->thread, NULL);
    end(u);
}

static const struct source_ops thread_ops = {
    .name = "io_uring+direct",
    .submit = thread_submit,
    .wait = thread_wait,
    .close = thread_close,
};

static enum status start(struct uring_thread *u, struct err *err)
{
    u->err = err;
    if (u->wake < 0)
        return err_sys(err, errno, "eventfd");
    int r = pthread_create(&u->thread, NULL, io_thread, u);
    if (r != 0)
        return err_sys(err, r, "I/O thread");
    pthread_mutex_lock(&u->lock);
    while (!u->started)
        pthread_cond_wait(&u->came, &u->lock);
    pthread_mutex_unlock(&u->lock);
    u->err = NULL;
    if (err->code != ST_OK)
        pthread_join(u->thread, NULL);
    return err->code;
}

enum status source_thread_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                               uint32_t width, struct source **ret, struct err *err)
{
    struct uring_thread *u = calloc(1, sizeof *u);
    if (!u)
        return err_set(err, ST_NOMEM, "io_uring reader");
    u->src.ops = &thread_ops;
    u->src.depth = depth;
    u->width = width < depth ? width : depth;
    if (source_open_files(&u->src, paths, n_file, true, err) == ST_OK) {
        pthread_mutex_init(&u->lock, NULL);
        pthread_cond_init(&u->came, NULL);
        u->wake = eventfd(0, EFD_CLOEXEC);
        if (start(u, err) == ST_OK) {
            *ret = &u->src;
            return ST_OK;
        }
        end(u);
    }
    source_close_files(&u->src);
    free(u);
    return err->code;
}
