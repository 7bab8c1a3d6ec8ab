/* engine/train/dist_mpi.c - sums over ranks by Open MPI; the home of mpi.h. See dist.h.
 *
 * All of MPI happens on one thread of ours. The trainer's thread hands it work through a queue, so
 * the sum of a range runs beside the rest of the backward pass, which the library by itself would
 * not do: it moves data only while somebody is inside a call. That thread sleeps between polls: a
 * library call that waits spins, and would take a core from the passes.
 *
 *   trainer:  begin --(range)--> queue ...   wait: until the queue is empty and the thread idle
 *   thread:   asleep --(work)--> exchanges, adds, exchanges --> asleep ... --(end)--> gone
 *
 * The sum of a bucket of gradients: every rank owns a part; it receives that part from all others,
 * adds them in rank order, and sends the sum to all (when shares are kept: to nobody). Twice
 * (n - 1) / n of the bucket pass each rank's wire in each direction, as with a ring, and the order
 * of every addition is the same in every run. MPI's own sums promise no order.
 *
 * The library is opened at run time, as OpenBLAS is (kernel/blas.c): linked, it would cost every
 * start of the server some 5 ms. */
#include "engine/base/num.h"
#include "engine/train/dist.h"

#include <dlfcn.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef OPEN_MPI
#error "mpi.h is not Open MPI's: its constants cannot be looked up at run time"
#endif

enum {
    BUCKET = 512 << 10, /* elements: 2 MiB, some hundred times what a message costs to start */
    CHUNK = 1 << 26,    /* elements of one message where whole shares travel */
    BLOCK = 2048,       /* elements added at a time: the sum stays in the first-level cache */
    QUEUE = 256,        /* jobs */
    YIELDS = 100,       /* polls before the thread sleeps between them */
    POLL_NS = 20 * 1000,
    RANKS_MAX = 4096,
    TAG_PART = 1, /* of messages: a part to its owner, */
    TAG_SUM,      /* its sum back, */
    TAG_SHARE     /* a share of a flat array */
};

/* What is used of the library. */
static struct mpi {
    __typeof__(MPI_Init_thread) *init_thread;
    __typeof__(MPI_Finalize) *finalize;
    __typeof__(MPI_Comm_rank) *rank;
    __typeof__(MPI_Comm_size) *size;
    __typeof__(MPI_Comm_set_errhandler) *set_errhandler;
    __typeof__(MPI_Isend) *isend;
    __typeof__(MPI_Irecv) *irecv;
    __typeof__(MPI_Iallgather) *iallgather;
    __typeof__(MPI_Ibarrier) *ibarrier;
    __typeof__(MPI_Testall) *testall;
    __typeof__(MPI_Error_string) *error_string;
    MPI_Comm world;
    MPI_Datatype f32, f64;
    MPI_Errhandler errors_return;
} mpi; /* written by dist_open(), then constant */

enum kind { JOB_REDUCE, JOB_SPREAD, JOB_COLLECT, JOB_SUM, JOB_BARRIER, JOB_END };

struct job {
    enum kind kind;
    real *flat;        /* REDUCE, SPREAD; COLLECT: the whole array, on rank 0 */
    const real *mine;  /* COLLECT */
    uint64_t from, to; /* REDUCE */
    double *v;         /* SUM */
    size_t n;
    bool failed; /* END */
};

struct dist {
    struct reduce reduce;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows, up to `err` */
    pthread_cond_t work, idle;
    struct job queue[QUEUE];
    unsigned head, n_job;
    bool busy, joined; /* joined: rank and n_rank are known, or err is set */
    struct err err;    /* the first failure; everything after it fails too */

    /* the trainer's thread: gradients that are final and not in a bucket yet */
    real *grad;
    uint64_t from, to;
    uint64_t *share; /* [n_rank + 1] or NULL */

    /* the other thread */
    real *stage;   /* parts that came in, BUCKET elements and a few */
    uint64_t *cut; /* [n_rank + 1] of the current bucket */
    double *sums;  /* [n_rank, n_sums] */
    size_t n_sums;
    MPI_Request *request; /* [2 n_rank] */
    int n_request;
};

/* ---- the library ---- */

static bool find(void *lib, const char *symbol, void *fn, size_t size)
{
    void *p = dlsym(lib, symbol);
    memcpy(fn, &p, size); /* C has no conversion from object to function pointers */
    return p != NULL;
}

static enum status load(struct err *err)
{
    const struct {
        const char *name;
        void *to;
    } wanted[] = {
        { "MPI_Init_thread", &mpi.init_thread },
        { "MPI_Finalize", &mpi.finalize },
        { "MPI_Comm_rank", &mpi.rank },
        { "MPI_Comm_size", &mpi.size },
        { "MPI_Comm_set_errhandler", &mpi.set_errhandler },
        { "MPI_Isend", &mpi.isend },
        { "MPI_Irecv", &mpi.irecv },
        { "MPI_Iallgather", &mpi.iallgather },
        { "MPI_Ibarrier", &mpi.ibarrier },
        { "MPI_Testall", &mpi.testall },
        { "MPI_Error_string", &mpi.error_string },
        { "ompi_mpi_comm_world", &mpi.world }, /* MPI_COMM_WORLD and so on are their addresses */
        { "ompi_mpi_float", &mpi.f32 },
        { "ompi_mpi_double", &mpi.f64 },
        { "ompi_mpi_errors_return", &mpi.errors_return },
    };
    /* Global: the library's plug-ins look for its symbols. */
    void *lib = dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL);
    if (!lib)
        return err_set(err, ST_UNSUPPORTED, "several processes: %s", dlerror());
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (!find(lib, wanted[i].name, wanted[i].to, sizeof(void *)))
            return err_set(err, ST_UNSUPPORTED, "several processes: libmpi.so.40 has no %s",
                           wanted[i].name);
    return ST_OK;
}

/* The first failure is kept. */
static void fail(struct dist *d, const char *what, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    mpi.error_string(code, text, &n);
    pthread_mutex_lock(&d->lock);
    err_set(&d->err, ST_IO, "MPI, %s: %.*s", what, n, text);
    pthread_mutex_unlock(&d->lock);
}

/* ---- messages ---- */

static void nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
}

/* Until all requests are through. */
static bool finish(struct dist *d, const char *what)
{
    int code = MPI_SUCCESS, done = d->n_request == 0;
    for (int i = 0; !done && code == MPI_SUCCESS; i++) {
        code = mpi.testall(d->n_request, d->request, &done, MPI_STATUSES_IGNORE);
        if (!done && i < YIELDS)
            sched_yield();
        else if (!done)
            nap();
    }
    d->n_request = 0;
    if (code != MPI_SUCCESS)
        fail(d, what, code);
    return code == MPI_SUCCESS;
}

static bool post_send(struct dist *d, uint32_t to, int tag, const real *p, uint64_t n)
{
    int code = n ? mpi.isend(p, (int)n, mpi.f32, (int)to, tag, mpi.world, &d->request[d->n_request])
                 : MPI_SUCCESS;
    d->n_request += n != 0;
    if (code != MPI_SUCCESS)
        fail(d, "send", code);
    return code == MPI_SUCCESS;
}

static bool post_recv(struct dist *d, uint32_t from, int tag, real *p, uint64_t n)
{
    int code =
        n ? mpi.irecv(p, (int)n, mpi.f32, (int)from, tag, mpi.world, &d->request[d->n_request])
          : MPI_SUCCESS;
    d->n_request += n != 0;
    if (code != MPI_SUCCESS)
        fail(d, "receive", code);
    return code == MPI_SUCCESS;
}

/* ---- a bucket ---- */

static uint64_t clamp(uint64_t v, uint64_t lo, uint64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* Which rank adds what of [from, to). */
static void cut_bucket(struct dist *d, uint64_t from, uint64_t to)
{
    uint32_t n = d->reduce.n_rank;
    for (uint32_t r = 0; r <= n; r++)
        d->cut[r] = d->share ? clamp(d->share[r], from, to) : from + (to - from) * r / n;
}

/* own[i] = the ranks' i-th elements in rank order; the others' parts lie in `stage`, one behind the
 * other. */
static void add_parts(const struct dist *d, real *own, uint64_t n)
{
    for (uint64_t at = 0; at < n; at += BLOCK) {
        real sum[BLOCK];
        size_t len = n - at < BLOCK ? (size_t)(n - at) : BLOCK;
        const real *part = d->stage + at;
        for (uint32_t r = 0; r < d->reduce.n_rank; r++) {
            bool me = r == d->reduce.rank;
            const real *src = me ? own + at : part;
            if (r == 0)
                memcpy(sum, src, len * sizeof *sum);
            else
                for (size_t i = 0; i < len; i++)
                    sum[i] += src[i];
            part += me ? 0 : n;
        }
        memcpy(own + at, sum, len * sizeof *sum);
    }
}

static bool run_reduce(struct dist *d, const struct job *j)
{
    uint32_t me = d->reduce.rank, n_rank = d->reduce.n_rank;
    cut_bucket(d, j->from, j->to);
    uint64_t n = d->cut[me + 1] - d->cut[me];
    real *own = j->flat + d->cut[me], *stage = d->stage;
    for (uint32_t r = 0; r < n_rank; r++) {
        if (r == me)
            continue;
        if (!post_recv(d, r, TAG_PART, stage, n) ||
            !post_send(d, r, TAG_PART, j->flat + d->cut[r], d->cut[r + 1] - d->cut[r]))
            return false;
        stage += n;
    }
    if (!finish(d, "gradients"))
        return false;
    add_parts(d, own, n);
    for (uint32_t r = 0; r < n_rank && !d->share; r++)
        if (r != me && (!post_recv(d, r, TAG_SUM, j->flat + d->cut[r], d->cut[r + 1] - d->cut[r]) ||
                        !post_send(d, r, TAG_SUM, own, n)))
            return false;
    return finish(d, "sums");
}

/* ---- shares ---- */

static uint64_t share_len(const struct dist *d, uint32_t r)
{
    return d->share[r + 1] - d->share[r];
}

/* Elements of a share that travel in the round that starts at `at`. */
static uint64_t round_len(const struct dist *d, uint32_t r, uint64_t at)
{
    uint64_t n = share_len(d, r);
    return at >= n ? 0 : n - at < CHUNK ? n - at : CHUNK;
}

static uint64_t longest_share(const struct dist *d)
{
    uint64_t most = 0;
    for (uint32_t r = 0; r < d->reduce.n_rank; r++)
        most = share_len(d, r) > most ? share_len(d, r) : most;
    return most;
}

/* Everybody's share to everybody. */
static bool run_spread(struct dist *d, const struct job *j)
{
    uint32_t me = d->reduce.rank;
    uint64_t most = longest_share(d);
    for (uint64_t at = 0; at < most; at += CHUNK) {
        for (uint32_t r = 0; r < d->reduce.n_rank; r++)
            if (r != me &&
                (!post_recv(d, r, TAG_SHARE, j->flat + d->share[r] + at, round_len(d, r, at)) ||
                 !post_send(d, r, TAG_SHARE, j->flat + d->share[me] + at, round_len(d, me, at))))
                return false;
        if (!finish(d, "parameters"))
            return false;
    }
    return true;
}

/* Everybody's share to rank 0. */
static bool run_collect(struct dist *d, const struct job *j)
{
    uint32_t me = d->reduce.rank;
    uint64_t most = longest_share(d);
    if (me == 0)
        memcpy(j->flat, j->mine, share_len(d, 0) * sizeof *j->flat);
    for (uint64_t at = 0; at < most; at += CHUNK) {
        if (me != 0 && !post_send(d, 0, TAG_SHARE, j->mine + at, round_len(d, me, at)))
            return false;
        for (uint32_t r = 1; r < d->reduce.n_rank && me == 0; r++)
            if (!post_recv(d, r, TAG_SHARE, j->flat + d->share[r] + at, round_len(d, r, at)))
                return false;
        if (!finish(d, "moments"))
            return false;
    }
    return true;
}

/* ---- small things ---- */

static bool room_for_sums(struct dist *d, size_t n)
{
    size_t all, bytes;
    if (n <= d->n_sums)
        return true;
    free(d->sums);
    d->n_sums = 0;
    d->sums = num_mul(n, d->reduce.n_rank, &all) && num_mul(all, sizeof *d->sums, &bytes)
                  ? malloc(bytes)
                  : NULL;
    if (d->sums) {
        d->n_sums = n;
        return true;
    }
    pthread_mutex_lock(&d->lock);
    err_set(&d->err, ST_NOMEM, "%zu sums of %u ranks", n, d->reduce.n_rank);
    pthread_mutex_unlock(&d->lock);
    return false;
}

static bool run_sum(struct dist *d, const struct job *j)
{
    if (!room_for_sums(d, j->n))
        return false;
    int code = mpi.iallgather(j->v, (int)j->n, mpi.f64, d->sums, (int)j->n, mpi.f64, mpi.world,
                              &d->request[0]);
    d->n_request = 1;
    if (code != MPI_SUCCESS) {
        fail(d, "sums", code);
        return false;
    }
    if (!finish(d, "sums"))
        return false;
    for (size_t i = 0; i < j->n; i++) {
        double s = d->sums[i];
        for (uint32_t r = 1; r < d->reduce.n_rank; r++)
            s += d->sums[r * j->n + i];
        j->v[i] = s;
    }
    return true;
}

static bool run_barrier(struct dist *d)
{
    int code = mpi.ibarrier(mpi.world, &d->request[0]);
    d->n_request = 1;
    if (code == MPI_SUCCESS)
        return finish(d, "barrier");
    fail(d, "barrier", code);
    return false;
}

/* ---- the thread ---- */

static void run_job(struct dist *d, const struct job *j)
{
    d->n_request = 0;
    switch (j->kind) {
    case JOB_REDUCE:
        run_reduce(d, j);
        break;
    case JOB_SPREAD:
        run_spread(d, j);
        break;
    case JOB_COLLECT:
        run_collect(d, j);
        break;
    case JOB_SUM:
        run_sum(d, j);
        break;
    case JOB_BARRIER:
        run_barrier(d);
        break;
    case JOB_END:
        if (!j->failed)
            mpi.finalize();
        break;
    }
}

/* Joins the others. Leaves d->err on failure. */
static void join_others(struct dist *d)
{
    int have = 0, rank = 0, n = 1;
    int code = mpi.init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &have);
    if (code == MPI_SUCCESS)
        code = mpi.set_errhandler(mpi.world, mpi.errors_return);
    if (code == MPI_SUCCESS)
        code = mpi.rank(mpi.world, &rank);
    if (code == MPI_SUCCESS)
        code = mpi.size(mpi.world, &n);
    if (code != MPI_SUCCESS)
        fail(d, "start", code);
    pthread_mutex_lock(&d->lock);
    if (code == MPI_SUCCESS && (n < 1 || n > RANKS_MAX))
        err_set(&d->err, ST_RANGE, "%d processes: at most %d can train together", n, RANKS_MAX);
    d->reduce.rank = (uint32_t)rank;
    d->reduce.n_rank = (uint32_t)n;
    d->joined = true;
    pthread_cond_broadcast(&d->idle);
    pthread_mutex_unlock(&d->lock);
}

static void *serve(void *arg)
{
    struct dist *d = arg;
    join_others(d);
    for (bool end = false; !end;) {
        pthread_mutex_lock(&d->lock);
        while (d->n_job == 0)
            pthread_cond_wait(&d->work, &d->lock);
        struct job j = d->queue[d->head];
        d->head = (d->head + 1) % QUEUE;
        d->n_job--;
        d->busy = true;
        bool failed = d->err.code != ST_OK;
        pthread_mutex_unlock(&d->lock);
        end = j.kind == JOB_END;
        if (!failed || end)
            run_job(d, &j);
        pthread_mutex_lock(&d->lock);
        d->busy = false;
        pthread_cond_broadcast(&d->idle);
        pthread_mutex_unlock(&d->lock);
    }
    return NULL;
}

static void push(struct dist *d, struct job j)
{
    pthread_mutex_lock(&d->lock);
    while (d->n_job == QUEUE)
        pthread_cond_wait(&d->idle, &d->lock);
    d->queue[(d->head + d->n_job) % QUEUE] = j;
    d->n_job++;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
}

static enum status settle(struct dist *d, struct err *err)
{
    pthread_mutex_lock(&d->lock);
    while (d->n_job || d->busy)
        pthread_cond_wait(&d->idle, &d->lock);
    enum status st = d->err.code == ST_OK ? ST_OK : err_set(err, d->err.code, "%s", d->err.msg);
    pthread_mutex_unlock(&d->lock);
    return st;
}

/* ---- the table ---- */

static uint64_t bucket_size(const struct dist *d)
{
    /* Where shares are kept, all of a bucket may belong to one rank. */
    return d->share ? BUCKET / d->reduce.n_rank + 1 : BUCKET;
}

/* Hands on what is final, from the top, in whole buckets; `all`: the rest too. */
static void push_buckets(struct dist *d, bool all)
{
    uint64_t size = bucket_size(d);
    while (d->to - d->from >= size || (all && d->to > d->from)) {
        uint64_t from = d->to - d->from > size ? d->to - size : d->from;
        push(d, (struct job){ .kind = JOB_REDUCE, .flat = d->grad, .from = from, .to = d->to });
        d->to = from;
    }
}

static void on_begin(void *ctx, real *grad, uint64_t from, uint64_t to)
{
    struct dist *d = ctx;
    if (d->grad != grad || to != d->from || d->from == d->to) { /* not the continuation below */
        push_buckets(d, true);
        d->grad = grad;
        d->to = to;
    }
    d->from = from;
    push_buckets(d, false);
}

static enum status on_wait(void *ctx, struct err *err)
{
    struct dist *d = ctx;
    push_buckets(d, true);
    return settle(d, err);
}

static enum status on_sum(void *ctx, double *v, size_t n, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct job){ .kind = JOB_SUM, .v = v, .n = n });
    return settle(d, err);
}

static enum status on_barrier(void *ctx, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct job){ .kind = JOB_BARRIER });
    return settle(d, err);
}

static enum status on_share(void *ctx, const uint64_t *share, struct err *err)
{
    struct dist *d = ctx;
    size_t n = (size_t)d->reduce.n_rank + 1;
    free(d->share);
    d->share = calloc(n, sizeof *d->share);
    if (!d->share)
        return err_set(err, ST_NOMEM, "shares of %u ranks", d->reduce.n_rank);
    memcpy(d->share, share, n * sizeof *share);
    return ST_OK;
}

static enum status on_spread(void *ctx, real *flat, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct job){ .kind = JOB_SPREAD, .flat = flat });
    return settle(d, err);
}

static enum status on_collect(void *ctx, const real *mine, real *flat, struct err *err)
{
    struct dist *d = ctx;
    push(d, (struct job){ .kind = JOB_COLLECT, .mine = mine, .flat = flat });
    return settle(d, err);
}

/* ---- opening and closing ---- */

bool dist_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL;
}

static enum status make_room(struct dist *d, struct err *err)
{
    size_t n = d->reduce.n_rank;
    d->stage = calloc((size_t)BUCKET + 2 * n, sizeof *d->stage);
    d->cut = calloc(n + 1, sizeof *d->cut);
    d->request = calloc(2 * n, sizeof(MPI_Request));
    if (!d->stage || !d->cut || !d->request)
        return err_set(err, ST_NOMEM, "buffers for %zu processes", n);
    return ST_OK;
}

static void dist_free(struct dist *d)
{
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->idle);
    pthread_mutex_destroy(&d->lock);
    free(d->share);
    free(d->stage);
    free(d->cut);
    free(d->sums);
    free(d->request);
    free(d);
}

static enum status start(struct dist *d, struct err *err)
{
    int e = pthread_create(&d->thread, NULL, serve, d);
    if (e)
        return err_sys(err, e, "pthread_create");
    d->started = true;
    pthread_mutex_lock(&d->lock);
    while (!d->joined)
        pthread_cond_wait(&d->idle, &d->lock);
    pthread_mutex_unlock(&d->lock);
    return settle(d, err);
}

enum status dist_open(struct dist **ret, struct err *err)
{
    if (load(err) != ST_OK)
        return err->code;
    struct dist *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ST_NOMEM, "several processes");
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_cond_init(&d->idle, NULL);
    d->reduce = (struct reduce){ .ctx = d,
                                 .n_rank = 1,
                                 .begin = on_begin,
                                 .wait = on_wait,
                                 .sum = on_sum,
                                 .barrier = on_barrier,
                                 .share = on_share,
                                 .spread = on_spread,
                                 .collect = on_collect };
    if (start(d, err) != ST_OK || make_room(d, err) != ST_OK)
        goto fail;
    *ret = d;
    return ST_OK;
fail:
    if (!d->started)
        dist_free(d);
    else
        dist_close(d, true);
    return err->code;
}

const struct reduce *dist_reduce(const struct dist *d)
{
    return &d->reduce;
}

void dist_close(struct dist *d, bool failed)
{
    if (!d)
        return;
    push(d, (struct job){ .kind = JOB_END, .failed = failed });
    pthread_join(d->thread, NULL);
    dist_free(d);
}
