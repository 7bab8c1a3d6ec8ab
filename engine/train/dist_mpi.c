/* engine/train/dist_mpi.c - sums over ranks by Open MPI; the home of mpi.h. All of it happens on
 * the other thread of dist_queue.c, which runs its jobs here. That thread sleeps between polls: a
 * library call that waits spins, and would take a core from the passes.
 *
 * The sum of a bucket of gradients: every rank owns a part; it receives that part from all others,
 * adds them in rank order, and sends the sum to all (when shares are kept: to nobody). Twice
 * (n - 1) / n of the bucket pass each rank's wire in each direction, as with a ring, and the order
 * of every addition is the same in every run. MPI's own sums promise no order.
 *
 * The library is opened at run time, as OpenBLAS is (kernel/blas.c): linked, it would cost every
 * start of the server some 5 ms. */
#include "engine/base/num.h"
#include "engine/train/dist_internal.h"

#include <dlfcn.h>
#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef OPEN_MPI
#error "mpi.h is not Open MPI's: its constants cannot be looked up at run time"
#endif

enum {
    CHUNK = 1 << 26, /* elements of one message where whole shares travel */
    BLOCK = 2048,    /* elements added at a time: the sum stays in the first-level cache */
    YIELDS = 100,    /* polls before the thread sleeps between them */
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
} mpi; /* written by wire_open(), then constant */

struct wire {
    real *stage;   /* parts that came in, DIST_BUCKET elements and a few */
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

/* ---- opening and closing ---- */

enum status wire_open(struct wire **ret, struct err *err)
{
    if (load(err) != ST_OK)
        return err->code;
    struct wire *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ST_NOMEM, "several processes");
    *ret = w;
    return ST_OK;
}

enum status wire_make_room(struct dist *d, struct err *err)
{
    size_t n = d->reduce.n_rank;
    d->wire->stage = calloc((size_t)DIST_BUCKET + 2 * n, sizeof *d->wire->stage);
    d->wire->cut = calloc(n + 1, sizeof *d->wire->cut);
    d->wire->request = calloc(2 * n, sizeof(MPI_Request));
    if (!d->wire->stage || !d->wire->cut || !d->wire->request)
        return err_set(err, ST_NOMEM, "buffers for %zu processes", n);
    return ST_OK;
}

void wire_free(struct wire *w)
{
    if (!w)
        return;
    free(w->stage);
    free(w->cut);
    free(w->sums);
    free(w->request);
    free(w);
}

void wire_join(struct dist *d)
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

/* ---- messages ---- */

static void nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
}

/* Until all requests are through. */
static bool finish(struct dist *d, const char *what)
{
    int code = MPI_SUCCESS, done = d->wire->n_request == 0;
    for (int i = 0; !done && code == MPI_SUCCESS; i++) {
        code = mpi.testall(d->wire->n_request, d->wire->request, &done, MPI_STATUSES_IGNORE);
        if (!done && i < YIELDS)
            sched_yield();
        else if (!done)
            nap();
    }
    d->wire->n_request = 0;
    if (code != MPI_SUCCESS)
        fail(d, what, code);
    return code == MPI_SUCCESS;
}

static bool post_send(struct dist *d, uint32_t to, int tag, const real *p, uint64_t n)
{
    int code = n ? mpi.isend(p, (int)n, mpi.f32, (int)to, tag, mpi.world,
                             &d->wire->request[d->wire->n_request])
                 : MPI_SUCCESS;
    d->wire->n_request += n != 0;
    if (code != MPI_SUCCESS)
        fail(d, "send", code);
    return code == MPI_SUCCESS;
}

static bool post_recv(struct dist *d, uint32_t from, int tag, real *p, uint64_t n)
{
    int code = n ? mpi.irecv(p, (int)n, mpi.f32, (int)from, tag, mpi.world,
                             &d->wire->request[d->wire->n_request])
                 : MPI_SUCCESS;
    d->wire->n_request += n != 0;
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
        d->wire->cut[r] = d->share ? clamp(d->share[r], from, to) : from + (to - from) * r / n;
}

/* own[i] = the ranks' i-th elements in rank order; the others' parts lie in `stage`, one behind the
 * other. */
static void add_parts(const struct dist *d, real *own, uint64_t n)
{
    for (uint64_t at = 0; at < n; at += BLOCK) {
        real sum[BLOCK];
        size_t len = n - at < BLOCK ? (size_t)(n - at) : BLOCK;
        const real *part = d->wire->stage + at;
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

static bool run_reduce(struct dist *d, const struct dist_job *j)
{
    uint32_t me = d->reduce.rank, n_rank = d->reduce.n_rank;
    cut_bucket(d, j->from, j->to);
    uint64_t n = d->wire->cut[me + 1] - d->wire->cut[me];
    real *own = j->flat + d->wire->cut[me], *stage = d->wire->stage;
    for (uint32_t r = 0; r < n_rank; r++) {
        if (r == me)
            continue;
        if (!post_recv(d, r, TAG_PART, stage, n) ||
            !post_send(d, r, TAG_PART, j->flat + d->wire->cut[r],
                       d->wire->cut[r + 1] - d->wire->cut[r]))
            return false;
        stage += n;
    }
    if (!finish(d, "gradients"))
        return false;
    add_parts(d, own, n);
    for (uint32_t r = 0; r < n_rank && !d->share; r++)
        if (r != me && (!post_recv(d, r, TAG_SUM, j->flat + d->wire->cut[r],
                                   d->wire->cut[r + 1] - d->wire->cut[r]) ||
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
static bool run_spread(struct dist *d, const struct dist_job *j)
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
static bool run_collect(struct dist *d, const struct dist_job *j)
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
    if (n <= d->wire->n_sums)
        return true;
    free(d->wire->sums);
    d->wire->n_sums = 0;
    d->wire->sums =
        num_mul(n, d->reduce.n_rank, &all) && num_mul(all, sizeof *d->wire->sums, &bytes)
            ? malloc(bytes)
            : NULL;
    if (d->wire->sums) {
        d->wire->n_sums = n;
        return true;
    }
    pthread_mutex_lock(&d->lock);
    err_set(&d->err, ST_NOMEM, "%zu sums of %u ranks", n, d->reduce.n_rank);
    pthread_mutex_unlock(&d->lock);
    return false;
}

static bool run_sum(struct dist *d, const struct dist_job *j)
{
    if (!room_for_sums(d, j->n))
        return false;
    int code = mpi.iallgather(j->v, (int)j->n, mpi.f64, d->wire->sums, (int)j->n, mpi.f64,
                              mpi.world, &d->wire->request[0]);
    d->wire->n_request = 1;
    if (code != MPI_SUCCESS) {
        fail(d, "sums", code);
        return false;
    }
    if (!finish(d, "sums"))
        return false;
    for (size_t i = 0; i < j->n; i++) {
        double s = d->wire->sums[i];
        for (uint32_t r = 1; r < d->reduce.n_rank; r++)
            s += d->wire->sums[r * j->n + i];
        j->v[i] = s;
    }
    return true;
}

static bool run_barrier(struct dist *d)
{
    int code = mpi.ibarrier(mpi.world, &d->wire->request[0]);
    d->wire->n_request = 1;
    if (code == MPI_SUCCESS)
        return finish(d, "barrier");
    fail(d, "barrier", code);
    return false;
}

/* ---- jobs ---- */

void wire_run(struct dist *d, const struct dist_job *j)
{
    d->wire->n_request = 0;
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
