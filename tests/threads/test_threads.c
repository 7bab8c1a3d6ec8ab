/* What crosses threads, run under ThreadSanitizer: pool, queue, reads by the pread pool, and
 * weights that several threads load. A plain program, because Criterion does not start under that
 * sanitizer. Exit status 1: a wrong result; the sanitizer's own status: a race. */
#include "engine/base/pool.h"
#include "engine/base/queue.h"
#include "engine/flash/weights.h"
#include "engine/io/source.h"
#include "tests/support/tiny_model.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_THREAD = 4, N_JOB = 3000, N_TASK_MAX = 37 };

static atomic_int n_bad;

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    atomic_fetch_add(&n_bad, 1);
    fprintf(stderr, "FAIL %s\n", what);
}

static void rest(long us)
{
    nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* ---- pool: plain memory, so that a missing happens-before is a race ---- */

struct job {
    unsigned hits[N_TASK_MAX];
    unsigned mark;
};

static void hit(void *arg, size_t i, unsigned worker)
{
    struct job *j = arg;
    check(worker < N_THREAD, "the worker's number");
    j->hits[i] += j->mark;
}

static void pool_runs_every_index_once_also_when_workers_sleep(void)
{
    struct err err = ERR_INIT;
    struct pool *p;
    check(pool_create(N_THREAD, &p, &err) == ST_OK, "pool_create");
    struct job j = { .mark = 0 };
    unsigned want[N_TASK_MAX] = { 0 };
    for (unsigned n = 0; n < N_JOB; n++) {
        size_t n_task = n % (N_TASK_MAX + 1);
        j.mark = n;
        pool_run(p, n_task, hit, &j);
        for (size_t i = 0; i < n_task; i++)
            want[i] += n;
        if (n % 16 == 0)
            rest(100); /* longer than workers spin */
        if (memcmp(want, j.hits, sizeof want) != 0) {
            check(false, "an index ran twice or not at all");
            break;
        }
    }
    pool_free(p);
}

/* A pool may go while its workers are still waking up for the last job. */
static void pool_is_freed_right_after_a_job(void)
{
    for (unsigned n = 0; n < 200; n++) {
        struct err err = ERR_INIT;
        struct pool *p;
        struct job j = { .mark = 1 };
        check(pool_create(N_THREAD, &p, &err) == ST_OK, "pool_create");
        pool_run(p, n % 5, hit, &j);
        pool_free(p);
        for (unsigned i = 0; i < n % 5; i++)
            check(j.hits[i] == 1, "a task of the last job");
    }
}

/* ---- queue: what lies behind a message belongs to whoever popped it ---- */

enum { N_MESSAGE = 2000, N_PRODUCER = 2, CAP = 8 };

struct producer {
    struct queue *q;
    unsigned message[N_MESSAGE];
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    for (unsigned i = 0; i < N_MESSAGE; i++) {
        p->message[i] = i + 1;
        while (!queue_try_push(p->q, &p->message[i]))
            rest(10); /* full */
    }
    return NULL;
}

static void queue_hands_every_message_over_once(void)
{
    static struct producer p[N_PRODUCER];
    pthread_t thread[N_PRODUCER];
    struct err err = ERR_INIT;
    struct queue *q;
    uint64_t sum = 0;
    check(queue_create(CAP, &q, &err) == ST_OK, "queue_create");
    for (int i = 0; i < N_PRODUCER; i++) {
        p[i].q = q;
        check(pthread_create(&thread[i], NULL, produce, &p[i]) == 0, "pthread_create");
    }
    for (unsigned n = 0; n < N_PRODUCER * N_MESSAGE; n++) {
        unsigned *m = queue_pop(q, -1);
        sum += *m;
        *m = 0; /* twice the same would be missing from the sum */
    }
    for (int i = 0; i < N_PRODUCER; i++)
        pthread_join(thread[i], NULL);
    check(sum == (uint64_t)N_PRODUCER * N_MESSAGE * (N_MESSAGE + 1) / 2, "a message is missing");
    queue_close(q);
    check(queue_pop(q, -1) == NULL, "a closed queue is empty");
    queue_free(q);
}

/* ---- source ---- */

enum { PAGE = 4096, N_PAGE = 64, N_READ = 500 };

static void read_pages(struct source *s, const unsigned char *want)
{
    struct source_req req[8], *done[8];
    unsigned char *mem = aligned_alloc(PAGE, sizeof req / sizeof req[0] * PAGE);
    unsigned sent = 0, got = 0;
    for (unsigned i = 0; i < 8; i++)
        req[i] = (struct source_req){ .dst = mem + i * PAGE, .len = PAGE, .need = PAGE };
    for (; sent < 8; sent++) {
        struct source_req *r = &req[sent];
        r->offset = (uint64_t)(sent * 7 % N_PAGE) * PAGE;
        check(source_submit(s, &r, 1) == 1, "source_submit");
    }
    while (source_in_flight(s)) {
        size_t n = source_wait(s, done, 8, 1);
        for (size_t i = 0; i < n; i++, got++) {
            check(done[i]->err.code == ST_OK, done[i]->err.msg);
            check(memcmp(done[i]->dst, want + done[i]->offset, PAGE) == 0, "bytes of a page");
            if (sent < N_READ) {
                *done[i] = (struct source_req){ .dst = done[i]->dst, .len = PAGE, .need = PAGE };
                done[i]->offset = (uint64_t)(sent++ * 7 % N_PAGE) * PAGE;
                source_submit(s, &done[i], 1);
            }
        }
    }
    check(got == N_READ, "every read comes back");
    free(mem);
}

static void reads_on_other_threads_give_the_files_bytes(void)
{
    char path[] = "/tmp/strobe-threads-XXXXXX";
    const char *paths[] = { path };
    unsigned char *want = malloc((size_t)N_PAGE * PAGE);
    struct err err = ERR_INIT;
    struct source *s;
    int fd = mkstemp(path);
    for (size_t i = 0; i < (size_t)N_PAGE * PAGE; i++)
        want[i] = (unsigned char)(i * 131 >> 7);
    check(fd >= 0 && write(fd, want, (size_t)N_PAGE * PAGE) == N_PAGE * PAGE, "the file");
    for (int kind = SOURCE_URING; kind <= SOURCE_MMAP; kind++) {
        struct source_opts o = {
            .kind = (enum source_kind)kind, .depth = 8, .thread = true, .width = 3
        };
        if (source_open(paths, 1, o, &s, &err) != ST_OK) {
            if ((kind == SOURCE_URING && (err.os == EPERM || err.os == ENOSYS)) ||
                err.code == ST_UNSUPPORTED) {
                fprintf(stderr, "SKIPPED: reads of kind %d: %s\n", kind, err.msg);
                err_clear(&err);
                continue;
            }
            check(false, err.msg);
            break;
        }
        read_pages(s, want);
        source_close(s);
    }
    close(fd);
    unlink(path);
    free(want);
}

/* ---- weights: each thread takes a piece, packs it, and hands its buffer to the next read ---- */

struct opened {
    struct pool *pool;
    struct plan plan;
    struct weights *w;
};

static bool load(struct opened *o, const struct model *m, unsigned n_thread, enum source_kind kind)
{
    struct err err = ERR_INIT;
    struct plan_in in = { .mode = FLASH_OFF, .n_thread = n_thread };
    struct weights_opts opts = { .source = kind };
    *o = (struct opened){ 0 };
    bool ok =
        pool_create(n_thread, &o->pool, &err) == ST_OK &&
        plan_make(m, &in, &o->plan, &err) == ST_OK &&
        weights_open(m, &o->plan, kernels_get(CPU_AVX512), o->pool, &opts, &o->w, &err) == ST_OK;
    if (err.code == ST_UNSUPPORTED)
        fprintf(stderr, "SKIPPED: weights by reads of kind %d: %s\n", (int)kind, err.msg);
    else
        check(ok, err.msg);
    return ok;
}

static void drop(struct opened *o)
{
    weights_close(o->w);
    plan_clear(&o->plan);
    pool_free(o->pool);
}

static bool same_view(const struct weights_view *a, const struct weights_view *b)
{
    for (int r = 0; r < TR_MATRICES; r++) {
        const struct matrix *x = &a->m[r], *y = &b->m[r];
        if (x->n_row != y->n_row || x->n_col != y->n_col ||
            (x->data && memcmp(x->data, y->data, matrix_bytes(x->type, x->n_row, x->n_col))))
            return false;
    }
    return true;
}

static void weights_are_the_same_however_many_threads_load_them(void)
{
    char path[] = "/tmp/strobe-threads-XXXXXX";
    struct tiny_model t = tiny_model_default("llama");
    struct model *m = NULL;
    struct err err = ERR_INIT;
    t.n_layer = 8;
    t.n_embd = 128;
    t.n_ff = 512;
    t.type = DT_Q8_0;
    close(mkstemp(path));
    check(tiny_model_gguf(&t, path) && model_open(path, NULL, &m, &err) == ST_OK, "the model");
    for (int kind = SOURCE_PREAD; m && kind <= SOURCE_BUFFERED; kind++) {
        struct opened one, many = { NULL };
        if (!load(&one, m, 1, (enum source_kind)kind) ||
            !load(&many, m, N_THREAD, (enum source_kind)kind)) {
            drop(&one);
            drop(&many);
            continue;
        }
        check(same_view(weights_global(one.w), weights_global(many.w)), "global weights");
        for (uint32_t l = 0; l < t.n_layer; l++)
            check(same_view(weights_layer(one.w, l), weights_layer(many.w, l)), "a layer");
        drop(&one);
        drop(&many);
    }
    model_close(m);
    unlink(path);
}

int main(void)
{
    pool_runs_every_index_once_also_when_workers_sleep();
    pool_is_freed_right_after_a_job();
    queue_hands_every_message_over_once();
    reads_on_other_threads_give_the_files_bytes();
    weights_are_the_same_however_many_threads_load_them();
    return n_bad ? 1 : 0;
}
